//! Applying, undoing, flushing and opening again.

use bytes::Bytes;
use perennial_storage::state::StateError;
use proptest::prelude::*;
use types::{Body, ClusterId, Epoch, Lsn, Ordinal, Record, StartKind, Timestamp, TxnId, Write};

use crate::history::{Step, Writer, step};
use crate::setup::{Map, assert_is, end, entries, env, lineage, open, replay, try_open};

/// What happens to a state between records.
#[derive(Clone, Debug)]
enum Event {
    /// So many records are applied at once.
    Apply(usize),
    /// So many records are undone at once.
    Undo(usize),
    /// The memtable goes to files.
    Flush,
    /// The process ends; what was not flushed is gone.
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => (1usize..20).prop_map(Event::Apply),
        1 => (1usize..15).prop_map(Event::Undo),
        2 => Just(Event::Flush),
        1 => Just(Event::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_state_is_that_of_its_log_prefix_whatever_happened_between(
        steps in prop::collection::vec(step(), 20..120),
        events in prop::collection::vec(event(), 1..30),
    ) {
        let log = Writer::write(&steps);
        let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
        let mut state = open(&env, dir.path(), &log);
        let mut flushed = Lsn::ZERO;
        for event in events {
            let at = state.applied().0 as usize;
            match event {
                Event::Apply(count) => state.apply(&log[at..log.len().min(at + count)]).unwrap(),
                Event::Undo(count) => {
                    let undone: Vec<_> = log[at.saturating_sub(count)..at].iter().rev().cloned().collect();
                    state.undo(&undone).unwrap();
                }
                Event::Flush => flushed = state.flush(end(&log)).unwrap(),
                Event::Crash => {
                    drop(state);
                    state = open(&env, dir.path(), &log);
                    prop_assert_eq!(state.applied(), flushed);
                }
            }
            prop_assert_eq!(state.flushed(), flushed);
            let at = state.applied().0 as usize;
            prop_assert_eq!(entries(&state), Map::of(&log[..at]).0);
        }
        let at = state.applied().0 as usize;
        assert_is(&state, &log[..at]);
        replay(&state, &log);
        assert_is(&state, &log);
    }
}

fn writer(steps: &[Step]) -> Vec<Record> {
    Writer::write(steps)
}

fn commits(count: usize) -> Vec<Record> {
    writer(&vec![Step::Commit(vec![(1, Some(1))], false); count])
}

#[test]
fn closing_flushes_nothing_however_much_there_is() {
    let mut log = commits(80);
    for record in &mut log[1..] {
        let Body::Commit { writes, .. } = &mut record.body else { panic!("a commit") };
        writes[0].value = Some(Bytes::from(vec![7; 1 << 20]));
    }
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    assert!(state.memtable_bytes() > 80 << 20, "{} bytes", state.memtable_bytes());
    assert!(state.should_flush());
    assert_eq!(env.memtable_bytes(), state.memtable_bytes());
    drop(state);
    assert_eq!(env.memtable_bytes(), 0);

    let state = open(&env, dir.path(), &log);
    assert_eq!(state.applied(), Lsn::ZERO);
    replay(&state, &log);
    state.flush(end(&log)).unwrap();
    assert!(!state.should_flush());
    drop(state);
    assert_eq!(open(&env, dir.path(), &log).applied(), end(&log));
}

#[test]
fn a_state_that_the_log_may_lose_is_not_flushed() {
    let log = commits(9);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    let refused = state.flush(Lsn(9)).unwrap_err();
    assert!(matches!(refused, StateError::LogBehind { applied: Lsn(10), durable: Lsn(9) }), "{refused}");
    drop(state);
    assert_eq!(open(&env, dir.path(), &log).applied(), Lsn::ZERO);
}

#[test]
fn a_state_above_the_end_of_its_log_is_refused() {
    let log = commits(9);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    state.flush(end(&log)).unwrap();
    drop(state);
    let refused = try_open(&env, dir.path(), &log[..7]).err().expect("refused");
    assert!(matches!(refused, StateError::AboveLog { applied: Lsn(10), end: Lsn(7), .. }), "{refused}");
    assert!(try_open(&env, dir.path(), &log).is_ok());
}

#[test]
fn a_state_of_another_history_is_refused() {
    let log = commits(9);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    state.flush(end(&log)).unwrap();
    drop(state);
    // The log was cut at 6 and goes on under another epoch.
    let mut other = log[..6].to_vec();
    let epoch = Epoch { number: 9, cluster: ClusterId(8), nonce: 1 };
    let body = Body::EpochStart { start_ts: Timestamp(99), kind: StartKind::Failover };
    other.push(Record { epoch, lsn: Lsn(7), body });
    other.extend((8..20).map(|lsn| Record { epoch, lsn: Lsn(lsn), body: Body::Forget { txns: vec![] } }));
    let refused = try_open(&env, dir.path(), &other).err().expect("refused");
    assert!(matches!(refused, StateError::OtherHistory { applied: Lsn(10), common: Lsn(6), .. }), "{refused}");
}

#[test]
fn a_log_that_breaks_its_rules_is_an_error_and_changes_nothing() {
    let mut log = writer(&[Step::Prepare(vec![(1, Some(1))], true), Step::Outcome(0, Some(false))]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    replay(&state, &log);
    let mut bad = log[2].clone();
    bad.lsn = Lsn(4);
    let refused = state.apply(&[bad.clone()]).unwrap_err();
    assert!(refused.to_string().contains("ended at 3 and again at 4"), "{refused}");
    bad.body = Body::Outcome { txn: TxnId(77), first: Ordinal(1), decision: Some(Timestamp(50)) };
    let refused = state.apply(&[bad]).unwrap_err();
    assert!(refused.to_string().contains("without a Prepare"), "{refused}");
    assert_is(&state, &log);
    log.push(Record { epoch: log[0].epoch, lsn: Lsn(4), body: Body::Forget { txns: vec![] } });
    replay(&state, &log);
    assert_is(&state, &log);
}

#[test]
fn a_prepare_and_its_outcome_may_come_in_one_batch() {
    let log = writer(&[
        Step::Prepare(vec![(1, Some(1)), (2, None)], false),
        Step::Outcome(0, Some(false)),
        Step::Prepare(vec![(3, Some(1))], true),
        Step::Outcome(0, None),
    ]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, dir.path(), &log);
    state.apply(&log).unwrap();
    assert_is(&state, &log);
    state.undo(&log.iter().rev().take(4).cloned().collect::<Vec<_>>()).unwrap();
    assert_is(&state, &log[..1]);
}

#[test]
fn the_memory_budget_names_the_partition_that_holds_most() {
    let log = commits(3);
    let (env, a, b) = (env(600 << 10), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (open(&env, a.path(), &log), open(&env, b.path(), &log));
    let mut big = log.clone();
    let Body::Commit { writes, .. } = &mut big[1].body else { panic!("a commit") };
    writes.push(Write { key: crate::history::row(5), value: Some(Bytes::from(vec![1; 2 << 20])) });
    a.apply(&big).unwrap();
    b.apply(&log).unwrap();
    assert!(a.should_flush() && !b.should_flush());
    assert_eq!(lineage(&log), *a.lineage());
    a.flush(end(&log)).unwrap();
    assert!(!a.should_flush() && !b.should_flush());
}

#[test]
fn a_flush_that_fails_is_an_error_and_what_was_flushed_before_stays() {
    let log = commits(20);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let (here, away) = (dir.path().join("state"), dir.path().join("away"));
    let state = open(&env, &here, &log);
    state.apply(&log[..10]).unwrap();
    state.flush(end(&log)).unwrap();
    state.apply(&log[10..15]).unwrap();
    // The disk is gone.
    std::fs::rename(&here, &away).unwrap();
    let failed = state.flush(end(&log)).unwrap_err();
    assert!(matches!(failed, StateError::Engine { .. }), "{failed}");
    assert_eq!(state.flushed(), Lsn(10));
    std::fs::rename(&away, &here).unwrap();
    // And back, but the instance has stopped.
    let failed = state.apply(&log[15..]).unwrap_err();
    assert!(matches!(failed, StateError::Engine { .. }), "{failed}");
    assert_eq!(state.applied(), Lsn(15), "what is not written is not applied");
    drop(state);
    let state = open(&env, &here, &log);
    assert_eq!(state.applied(), Lsn(10));
    replay(&state, &log);
    state.flush(end(&log)).unwrap();
    assert_is(&state, &log);
}
