//! Views, cursors and the questions of a writer.

use std::collections::BTreeSet;

use bytes::Bytes;
use perennial_storage::state::{Latest, PartitionState, ScanLimits};
use proptest::prelude::*;
use types::{Body, Lsn, Record, Timestamp, TxnId, Write};

use crate::history::{Naive, Step, Writer, row, step};
use crate::setup::{env, open, replay, rows, times};

fn with_log(log: &[Record], flush_at: usize) -> (tempfile::TempDir, PartitionState) {
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), log);
    state.apply(&log[..flush_at]).unwrap();
    state.flush(Lsn(log.len() as u64)).unwrap();
    replay(&state, log);
    (dir, state)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reads_answer_what_the_plain_model_says(
        steps in prop::collection::vec(step(), 1..100),
        flush_at in any::<prop::sample::Index>(),
        start in prop::collection::vec(prop_oneof![0u8..3, b'a'..b'i'], 0..4),
        end in prop::option::of(prop::collection::vec(prop_oneof![0u8..3, b'a'..b'i'], 0..4)),
    ) {
        let log = Writer::write(&steps);
        let (_dir, state) = with_log(&log, flush_at.index(log.len() + 1));
        let naive = Naive::of(&log);
        for view in times(&log) {
            let expected = naive.rows(view);
            let read = state.view(view).unwrap();
            for key in 0..7 {
                prop_assert_eq!(read.get(&row(key)).unwrap(), expected.get(&row(key)).cloned());
            }
            let mut cursor = read.scan(&start, end.as_deref());
            let mut found = Vec::new();
            loop {
                let some = cursor.read(ScanLimits { rows: 2, bytes: 100 }).unwrap();
                prop_assert!(some.len() <= 2);
                if some.is_empty() {
                    break;
                }
                found.extend(some);
            }
            let inside = |key: &Bytes| key[..] >= start[..] && end.as_ref().is_none_or(|end| key[..] < end[..]);
            let expected: Vec<_> = expected.into_iter().filter(|(key, _)| inside(key)).collect();
            prop_assert_eq!(found, expected, "from {:?} to {:?} at {}", start, end, view);
        }
        for key in 0..7 {
            let expected = naive.latest(&row(key)).map(|(ts, lsn, value)| Latest { ts, lsn, value });
            prop_assert_eq!(state.latest(&row(key)).unwrap(), expected);
        }
        for record in &log {
            if let Body::Commit { ts, writes, .. } = &record.body {
                let then = Naive::of(&log[..record.lsn.0 as usize - 1]).rows(ts.prev());
                for write in writes {
                    let before = state.before(&write.key, *ts, record.lsn).unwrap();
                    prop_assert_eq!(before, then.get(&write.key).cloned());
                }
            }
        }
        let all = times(&log);
        let (above, below) = (all[all.len() / 3], all[all.len() * 2 / 3]);
        let (above, below) = (above.min(below), above.max(below));
        let commits = state.commits_between(above, below).collect::<Result<Vec<_>, _>>().unwrap();
        prop_assert!(commits.is_sorted());
        prop_assert_eq!(commits.into_iter().collect::<BTreeSet<_>>(), naive.commits_between(above, below));
    }
}

#[test]
fn a_view_shows_its_moment_whatever_comes_after() {
    let log = Writer::write(&[
        Step::Commit(vec![(1, Some(1))], false),
        Step::Commit(vec![(1, Some(2)), (2, Some(2))], false),
        Step::Commit(vec![(1, None)], false),
        Step::Promotion(2),
    ]);
    let (_dir, state) = with_log(&log[..3], 2);
    let read = state.view(Timestamp::MAX).unwrap();
    let mut cursor = read.scan(&[], None);
    assert!(cursor.advance().unwrap());
    replay(&state, &log);
    state.flush(Lsn(5)).unwrap();
    let undone: Vec<_> = log[1..].iter().rev().cloned().collect();
    state.undo(&undone).unwrap();
    state.flush(Lsn(5)).unwrap();
    assert!(rows(&state, Timestamp::MAX).is_empty());
    // Rows 1 and 2 as record 3 left them.
    let expected = Naive::of(&log[..3]).rows(Timestamp::MAX);
    assert_eq!(read.get(&row(1)).unwrap().as_ref(), expected.get(&row(1)));
    assert_eq!(read.applied().unwrap(), Lsn(3));
    for key in [row(1), row(2)] {
        assert_eq!((cursor.key(), cursor.value()), (&key[..], &expected[&key][..]));
        assert_eq!(cursor.advance().unwrap(), key == row(1));
    }
    assert!(!cursor.advance().unwrap());
}

#[test]
fn a_cursor_leaps_over_rows_with_many_versions() {
    let mut log = Writer::write(&vec![Step::Commit(vec![(1, Some(1))], false); 3000]);
    let busy = Write { key: row(3), value: Some(Bytes::from_static(b"busy")) };
    let gone = Write { key: row(2), value: None };
    for record in &mut log[1..] {
        let Body::Commit { writes, .. } = &mut record.body else { panic!("a commit") };
        writes.extend([busy.clone(), gone.clone()]);
    }
    let (_dir, state) = with_log(&log, 1500);
    for (view, count) in [(Timestamp(2), 2), (Timestamp(1500), 2), (Timestamp::MAX, 2), (Timestamp(1), 0)] {
        let found = rows(&state, view);
        assert_eq!(found.len(), count, "at {view}");
        assert!(!found.contains_key(&row(2)));
    }
}

#[test]
fn a_scan_that_goes_on_after_a_key_does_not_show_it_again() {
    let log = Writer::write(&[Step::Commit((0..6).map(|key| (key, Some(1))).collect(), false)]);
    let (_dir, state) = with_log(&log, 1);
    let all: Vec<_> = rows(&state, Timestamp::MAX).into_keys().collect();
    let read = state.view(Timestamp::MAX).unwrap();
    for (index, key) in all.iter().enumerate() {
        let after: Vec<u8> = key.iter().copied().chain([0]).collect();
        let rest = read.scan(&after, None).read(ScanLimits { rows: 100, bytes: 1 << 20 }).unwrap();
        assert_eq!(rest.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), all[index + 1..]);
        let upto = read.scan(&[], Some(&after)).read(ScanLimits { rows: 100, bytes: 1 << 20 }).unwrap();
        assert_eq!(upto.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), all[..=index]);
    }
}

#[test]
fn a_forgotten_decision_is_not_known_any_more() {
    let mut log = Writer::write(&[Step::Prepare(vec![(1, Some(1))], true), Step::Outcome(0, Some(false))]);
    let Body::Outcome { txn, .. } = log[2].body else { panic!("an outcome") };
    log.push(Record { epoch: log[0].epoch, lsn: Lsn(4), body: Body::Forget { txns: vec![txn] } });
    let (_dir, state) = with_log(&log[..3], 1);
    assert!(state.decision(txn).unwrap().is_some());
    assert_eq!(state.decision(TxnId(5)).unwrap(), None);
    replay(&state, &log);
    assert_eq!(state.decision(txn).unwrap(), None);
    assert!(state.outcome(txn).unwrap().is_some(), "what was decided stays until it is collected");
}

#[test]
fn readers_see_whole_records_while_all_kinds_of_writers_are_at_work() {
    let steps: Vec<_> = (0..600u32)
        .map(|n| match n % 50 {
            7 => Step::Promotion(3),
            20 => Step::Prepare(vec![(0, Some(5)), (3, Some(6))], true),
            25 => Step::Outcome(0, Some(false)),
            _ => Step::Commit(vec![(n as u8 % 6, Some(n as u8)), (5 - n as u8 % 6, (n % 3 > 0).then_some(1))], false),
        })
        .collect();
    let log = Writer::write(&steps);
    let prefixes: Vec<_> = (0..=log.len()).map(|at| Naive::of(&log[..at]).rows(Timestamp::MAX)).collect();
    let (_dir, state) = with_log(&log[..100], 50);
    let done = std::sync::atomic::AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut seen = BTreeSet::new();
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        let view = state.view(Timestamp::MAX).unwrap();
                        let at = view.applied().unwrap();
                        let found = view.scan(&[], None).read(ScanLimits { rows: 100, bytes: 1 << 20 }).unwrap();
                        assert_eq!(
                            found.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                            prefixes[at.0 as usize]
                        );
                        for key in 0..6 {
                            assert_eq!(view.get(&row(key)).unwrap().as_ref(), prefixes[at.0 as usize].get(&row(key)));
                        }
                        seen.insert(at);
                    }
                    seen
                })
            })
            .collect();
        let flusher = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                state.flush(Lsn(log.len() as u64)).unwrap();
                state.collect(Timestamp(60), Lsn(60), 50).unwrap();
            }
        });
        for round in 0..40 {
            for group in log[state.applied().0 as usize..].chunks(1 + round % 7) {
                state.apply(group).unwrap();
            }
            let back: Vec<_> = log[100 + round * 10..].iter().rev().cloned().collect();
            back.chunks(1 + round % 5).for_each(|group| state.undo(group).unwrap());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        flusher.join().unwrap();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect::<BTreeSet<_>>()
    });
    assert!(!seen.is_empty());
}
