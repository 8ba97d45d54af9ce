//! Rewind, stopped anywhere and gone on with: the state is that of the prefix, and everything dropped is in the file.

use std::collections::BTreeSet;
use std::path::Path;

use perennial_storage::divergence::{DivergenceId, DivergenceReader, Entry, Stage, list};
use perennial_storage::log::{Flush, LogOptions, NodeLog};
use perennial_storage::rewind::{
    Aside, LogFailure, PartitionLog, RecordSource, RewindError, RewindLog, resume, rewind, set_aside_promotion,
};
use perennial_storage::state::{PartitionState, StateError};
use proptest::prelude::*;
use types::entry::{self, Intent};
use types::{Body, DatabaseId, Lsn, PartitionId, Record, StartKind, Timestamp};

use crate::history::{HERE, Naive, Step, Writer, step};
use crate::setup::{assert_is, end, entries, env, lineage, open, replay};

const PARTITION: PartitionId = PartitionId { database: DatabaseId(3), ordinal: HERE };

/// A log in memory whose `fuse`-th call fails, before or after it has had its effect.
struct Log {
    records: Vec<Record>,
    intent: Option<Intent>,
    fuse: std::cell::Cell<Option<usize>>,
    after_effect: bool,
    calls: std::cell::Cell<usize>,
}

impl Log {
    fn new(records: &[Record]) -> Log {
        Log {
            records: records.to_vec(),
            intent: None,
            fuse: std::cell::Cell::new(None),
            after_effect: false,
            calls: std::cell::Cell::new(0),
        }
    }

    fn blows(&self) -> Result<(), LogFailure> {
        self.calls.set(self.calls.get() + 1);
        match self.fuse.get() {
            Some(0) => Err("the power failed".into()),
            fuse => {
                self.fuse.set(fuse.map(|left| left - 1));
                Ok(())
            }
        }
    }

    fn call<T>(&mut self, effect: impl FnOnce(&mut Log) -> T) -> Result<(), LogFailure> {
        let blown = self.blows();
        if blown.is_ok() || self.after_effect {
            effect(self);
        }
        blown
    }
}

impl RecordSource for Log {
    fn record(&self, lsn: Lsn) -> Result<Record, LogFailure> {
        self.blows()?;
        Ok(self.records[lsn.0 as usize - 1].clone())
    }
}

impl RewindLog for Log {
    fn end(&self) -> Lsn {
        end(&self.records)
    }

    fn sync_intent(&mut self, intent: &Intent) -> Result<(), LogFailure> {
        self.call(|log| log.intent = Some(intent.clone()))
    }

    fn sync_cut(&mut self, to: Lsn) -> Result<(), LogFailure> {
        self.call(|log| log.records.truncate(to.0 as usize))
    }

    fn clear_intent(&mut self) -> Result<(), LogFailure> {
        self.call(|log| log.intent = None)
    }
}

fn intent(to: Lsn, log: &[Record]) -> Intent {
    Intent { to, lineage: lineage(log) }
}

fn aside(dir: &Path) -> Aside<'_> {
    Aside { dir, database: "shop", partition: PARTITION, id: DivergenceId(0xabc), created: 1_000 }
}

/// Stage, position, key, value before, value after.
pub type Row = (Stage, Lsn, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

/// What the file must hold: commits and open or aborted transactions above `to`, with the rows before them.
pub fn expected(log: &[Record], to: usize) -> Vec<Row> {
    let prepared = |txn| {
        let prepare =
            log.iter().find(|record| matches!(&record.body, Body::Prepare { txn: other, .. } if *other == txn));
        prepare.expect("prepared").body.writes().to_vec()
    };
    let outcome = |txn| {
        log.iter().find_map(|record| match &record.body {
            Body::Outcome { txn: other, decision, .. } if *other == txn => Some(*decision),
            _ => None,
        })
    };
    let mut entries = Vec::new();
    for record in &log[to..] {
        let (stage, view, writes) = match &record.body {
            Body::Commit { ts, writes, .. } => (Stage::Commit, ts.prev(), writes.clone()),
            Body::Outcome { txn, decision: Some(ts), .. } => (Stage::Commit, ts.prev(), prepared(*txn)),
            Body::Prepare { txn, writes, .. } => match outcome(*txn) {
                Some(Some(_)) => continue,
                Some(None) => (Stage::Aborted, Timestamp::MAX, writes.clone()),
                None => (Stage::Prepared, Timestamp::MAX, writes.clone()),
            },
            _ => continue,
        };
        let before = Naive::of(&log[..record.lsn.0 as usize - 1]).rows(view);
        for write in writes {
            let old = before.get(&write.key).map(|value| value.to_vec());
            entries.push((stage, record.lsn, write.key.to_vec(), old, write.value.map(|value| value.to_vec())));
        }
    }
    entries
}

fn read(path: &Path) -> Vec<Entry> {
    DivergenceReader::open(path).expect("open").collect::<Result<_, _>>().expect("entries")
}

/// The only file there is, `None` without one.
fn only_file(dir: &Path) -> Option<std::path::PathBuf> {
    let mut listed = list(dir).expect("list");
    assert!(listed.len() < 2, "{listed:?}");
    listed.pop().map(|file| file.path)
}

fn in_file(path: &Path) -> Vec<Row> {
    let bytes = |value: Option<bytes::Bytes>| value.map(|value| value.to_vec());
    let entry = |entry: Entry| (entry.stage, entry.lsn, entry.key.to_vec(), bytes(entry.old), bytes(entry.new));
    read(path).into_iter().map(entry).collect()
}

/// A rewind that fails at one call, then a crash that loses what was not flushed, then again at another, then to
/// the end. `flushed` says up to where the state was in files at first.
fn interrupted(log: &[Record], to: usize, flushed: usize, fuses: &[usize], after_effect: bool, memtable_bytes: u64) {
    let (env, dir) = (env(memtable_bytes), tempfile::tempdir().unwrap());
    let (state_dir, aside_dir) = (dir.path().join("state"), dir.path().join("aside"));
    let mut on_disk = Log::new(log);
    on_disk.after_effect = after_effect;
    let mut state = open(&env, &state_dir, log);
    state.apply(&log[..flushed]).unwrap();
    state.flush(end(log)).unwrap();
    replay(&state, log);
    let wish = intent(Lsn(to as u64), log);
    for fuse in fuses.iter().map(|fuse| Some(*fuse)).chain([None]) {
        on_disk.fuse.set(fuse);
        let result = match on_disk.intent.clone() {
            Some(intent) => resume(&state, &mut on_disk, &aside(&aside_dir), &intent),
            None if on_disk.records.len() > to => rewind(&state, &mut on_disk, &aside(&aside_dir), &wish),
            None => break,
        };
        assert!(matches!(result, Ok(_) | Err(RewindError::Log { .. })), "{result:?}");
        assert!(result.is_ok() || fuse.is_some(), "{result:?}");
        on_disk.fuse.set(None);
        // The crash: memtables are gone, an unfinished file has lost its end.
        drop(state);
        for entry in std::fs::read_dir(&aside_dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "part") {
                let bytes = std::fs::read(&path).unwrap();
                std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }
        }
        state = open(&env, &state_dir, &on_disk.records);
        if on_disk.intent.is_none() {
            replay(&state, &on_disk.records);
        }
    }
    assert_eq!(on_disk.records, log[..to]);
    assert_eq!(on_disk.intent, None);
    assert_is(&state, &log[..to]);
    // An attempt that stopped behind the cut may have left an empty file.
    assert_eq!(only_file(&aside_dir).map(|file| in_file(&file)).unwrap_or_default(), expected(log, to));
}

fn calls(log: &[Record], to: usize) -> usize {
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let mut on_disk = Log::new(log);
    let state = open(&env, &dir.path().join("state"), log);
    replay(&state, log);
    rewind(&state, &mut on_disk, &aside(dir.path()), &intent(Lsn(to as u64), log)).unwrap();
    on_disk.calls.get()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rewind_that_is_stopped_anywhere_comes_to_the_same_end(
        steps in prop::collection::vec(step(), 10..40),
        to in any::<prop::sample::Index>(),
        flushed in any::<prop::sample::Index>(),
        fuses in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        after_effect in any::<bool>(),
        memtable_bytes in prop::sample::select(vec![1u64, 1 << 20]),
    ) {
        let log = Writer::write(&steps);
        let (to, flushed) = (to.index(log.len()), flushed.index(log.len() + 1));
        let calls = 2 * (log.len() - to) + log.len() + 3;
        let fuses: Vec<_> = fuses.iter().map(|fuse| fuse.index(calls)).collect();
        interrupted(&log, to, flushed, &fuses, after_effect, memtable_bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// What the state has not applied may not be committed: it is not in the state after the rewind either.
    #[test]
    fn a_rewind_applies_nothing(
        steps in prop::collection::vec(step(), 10..40),
        to in any::<prop::sample::Index>(),
        applied in any::<prop::sample::Index>(),
    ) {
        let log = Writer::write(&steps);
        let (to, applied) = (to.index(log.len()), applied.index(log.len() + 1));
        let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
        let state = open(&env, &dir.path().join("state"), &log);
        replay(&state, &log[..applied]);
        let (mut on_disk, aside_dir) = (Log::new(&log), dir.path().join("aside"));
        let done = rewind(&state, &mut on_disk, &aside(&aside_dir), &intent(Lsn(to as u64), &log)).unwrap();
        prop_assert_eq!(state.applied(), Lsn(applied.min(to) as u64));
        assert_is(&state, &log[..applied.min(to)]);
        prop_assert_eq!(done.file.as_deref().map(in_file).unwrap_or_default(), expected(&log, to));
    }
}

#[test]
fn a_rewind_may_be_stopped_at_every_call() {
    let log = Writer::write(&[
        Step::Commit(vec![(1, Some(3)), (2, Some(3))], false),
        Step::Prepare(vec![(3, Some(4))], false),
        Step::Reserve,
        Step::Prepare(vec![(4, Some(4))], true),
        // The point: below, one transaction is open that commits above.
        Step::Commit(vec![(1, None)], true),
        Step::Outcome(0, Some(false)),
        Step::Prepare(vec![(5, Some(4))], false),
        Step::Outcome(0, None),
        Step::Failover,
        Step::Commit(vec![(1, Some(9))], false),
        Step::Promotion(1),
        Step::Commit(vec![(2, None)], false),
    ]);
    let to = 4;
    for fuse in 0..calls(&log, to) {
        // Memtables go to files after each group, or only when the procedure orders it.
        for (after_effect, memtable_bytes) in [(false, 1), (true, 1 << 20)] {
            let flushed = if fuse % 2 == 0 { log.len() } else { 3 };
            interrupted(&log, to, flushed, &[fuse], after_effect, memtable_bytes);
        }
    }
}

#[test]
fn a_long_rewind_goes_in_groups_and_may_stop_between_them() {
    let steps: Vec<_> = (0..700).map(|n| Step::Commit(vec![(n as u8 % 6, Some(n as u8))], false)).collect();
    let log = Writer::write(&steps);
    let calls = calls(&log, 20);
    for fuse in [calls - 3, calls - 60, calls - 300, calls - 500] {
        interrupted(&log, 20, 300, &[fuse, 100], false, 1);
    }
}

#[test]
fn a_rewind_below_what_is_kept_is_refused_before_it_begins() {
    let log = Writer::write(&vec![Step::Commit(vec![(1, Some(3))], false); 9]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, &dir.path().join("state"), &log);
    replay(&state, &log);
    state.collect(Timestamp(5), Lsn(6), 1000).unwrap();
    let mut on_disk = Log::new(&log);
    let refused = rewind(&state, &mut on_disk, &aside(dir.path()), &intent(Lsn(5), &log)).unwrap_err();
    assert!(matches!(refused, RewindError::State(StateError::BelowFloor { to: Lsn(5), floor: Lsn(6) })), "{refused}");
    assert_eq!(on_disk.intent, None);
    rewind(&state, &mut on_disk, &aside(dir.path()), &intent(Lsn(6), &log)).unwrap();
    assert_eq!(state.applied(), Lsn(6));
}

#[test]
fn a_damaged_file_is_written_again_while_the_log_has_its_records() {
    let log = Writer::write(&vec![Step::Commit(vec![(1, Some(3)), (2, Some(4))], false); 9]);
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, &dir.path().join("state"), &log);
    replay(&state, &log);
    let mut on_disk = Log::new(&log);
    let wish = intent(Lsn(5), &log);
    on_disk.fuse.set(Some(calls(&log, 5) - 2));
    rewind(&state, &mut on_disk, &aside(dir.path()), &wish).unwrap_err();
    on_disk.fuse.set(None);
    let file = only_file(dir.path()).expect("it is complete");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    // The order has another id by now: what is about the same part of the log counts.
    let again = Aside { id: DivergenceId(7), ..aside(dir.path()) };
    let done = resume(&state, &mut on_disk, &again, &wish).unwrap();
    assert_eq!(done.summary.records, 10);
    assert_eq!(done.file, only_file(dir.path()));
    assert_eq!(in_file(&done.file.unwrap()), expected(&log, 5));
    assert_is(&state, &log[..5]);
}

#[test]
fn a_second_rewind_to_the_same_point_keeps_what_came_meanwhile() {
    let mut writer = Writer::default();
    writer.step(&Step::Failover);
    writer.step(&Step::Commit(vec![(1, Some(3))], false));
    let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
    let state = open(&env, &dir.path().join("state"), &[]);
    let mut kept = Vec::new();
    for round in 0..3u8 {
        // Another epoch, another write, and the same order as before.
        writer.log.truncate(2);
        writer.step(&Step::Failover);
        writer.step(&Step::Commit(vec![(2, Some(round))], false));
        replay(&state, &writer.log);
        let mut on_disk = Log::new(&writer.log);
        let done = rewind(&state, &mut on_disk, &aside(dir.path()), &intent(Lsn(2), &writer.log)).unwrap();
        kept.extend(in_file(&done.file.expect("a file")));
        assert_eq!(list(dir.path()).unwrap().len(), usize::from(round) + 1);
    }
    assert_eq!(kept.len(), 3);
    assert_is(&state, &writer.log[..2]);
}

#[test]
fn a_rewind_on_the_node_log_is_gone_on_with_after_a_restart() {
    let steps: Vec<_> = (0..700).map(|n| Step::Commit(vec![(n as u8 % 6, Some(n as u8))], false)).collect();
    let (log, to) = (Writer::write(&steps), Lsn(30));
    let (env, dir) = (env(1), tempfile::tempdir().unwrap());
    let (log_dir, state_dir, aside_dir) = (dir.path().join("log"), dir.path().join("state"), dir.path().join("aside"));
    let open_log = || {
        let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
        NodeLog::open(&log_dir, options, |_| {}).unwrap()
    };
    let (node_log, _) = open_log();
    let all: Vec<_> = log.iter().map(|record| (PARTITION, entry::Entry::Record(record.clone()))).collect();
    node_log.append(&all, Flush::Now).unwrap();
    let state = open(&env, &state_dir, &log);
    state.apply(&log[..500]).unwrap();
    state.flush(end(&log)).unwrap();

    // The first attempt cannot write its file: a file is where its directory should be.
    std::fs::write(&aside_dir, "in the way").unwrap();
    let wish = intent(to, &log);
    let failed = rewind(&state, &mut PartitionLog::new(&node_log, PARTITION), &aside(&aside_dir), &wish).unwrap_err();
    assert!(matches!(failed, RewindError::Divergence(_)), "{failed}");
    assert_eq!(state.applied(), Lsn(500), "nothing is undone before it is kept");
    drop(state);
    node_log.close().unwrap();
    std::fs::remove_file(&aside_dir).unwrap();

    let (node_log, recovered) = open_log();
    let found = recovered.partitions[&PARTITION].intent.clone().expect("an intent");
    assert_eq!(found, wish);
    let state = open(&env, &state_dir, &log);
    let done = resume(&state, &mut PartitionLog::new(&node_log, PARTITION), &aside(&aside_dir), &found).unwrap();
    assert_eq!(in_file(&done.file.expect("a file")), expected(&log, 30));
    drop(state);
    node_log.close().unwrap();

    let (node_log, recovered) = open_log();
    let summary = &recovered.partitions[&PARTITION];
    assert_eq!((summary.end, summary.intent.clone()), (to, None));
    assert_eq!(node_log.read(PARTITION, Lsn(1), 1 << 20).unwrap(), log[..30]);
    assert_is(&open(&env, &state_dir, &log[..30]), &log[..30]);
}

/// Positions of commits that live.
fn living(naive: &Naive) -> BTreeSet<(bytes::Bytes, Timestamp)> {
    let alive = naive.versions.iter().filter(|((_, ts), (_, lsn, _))| !naive.is_dead(*ts, *lsn));
    alive.map(|(version, _)| version.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_promotion_declares_dead_is_set_aside_before(steps in prop::collection::vec(step(), 5..60)) {
        let log = Writer::write(&steps);
        let (env, dir) = (env(1 << 20), tempfile::tempdir().unwrap());
        let state: PartitionState = open(&env, &dir.path().join("state"), &log);
        let on_disk = Log::new(&log);
        let (mut promotions, mut kept) = (0, 0);
        for (index, record) in log.iter().enumerate() {
            if matches!(record.body, Body::EpochStart { kind: StartKind::Promotion { .. }, .. }) {
                promotions += 1;
                let done = set_aside_promotion(&state, &on_disk, &aside(dir.path()), record).unwrap();
                let again = set_aside_promotion(&state, &on_disk, &aside(dir.path()), record).unwrap();
                prop_assert_eq!(&done, &again);
                let (before, after) = (Naive::of(&log[..index]), Naive::of(&log[..=index]));
                let dead: BTreeSet<_> = living(&before).difference(&living(&after)).cloned().collect();
                let open: BTreeSet<_> = before.prepared.iter()
                    .flat_map(|(txn, writes)| writes.iter().map(|write| (*txn, write.key.clone()))).collect();
                let entries = done.file.as_deref().map(read).unwrap_or_default();
                kept += usize::from(done.file.is_some());
                prop_assert_eq!(entries.len() as u64, done.summary.records);
                let (commits, prepared): (Vec<_>, Vec<_>) =
                    entries.into_iter().partition(|entry| entry.stage == Stage::Commit);
                for entry in &commits {
                    prop_assert!(entry.is_alive(&before.lineage, record.lsn.prev()));
                    prop_assert!(!entry.is_alive(&after.lineage, record.lsn));
                    let then = Naive::of(&log[..entry.lsn.0 as usize - 1]).rows(entry.ts.prev());
                    prop_assert_eq!(entry.old.as_ref(), then.get(&entry.key));
                    let version = &before.versions[&(entry.key.clone(), entry.ts)];
                    prop_assert_eq!((&entry.new, entry.lsn, entry.txn), (&version.0, version.1, version.2));
                }
                prop_assert_eq!(commits.into_iter().map(|e| (e.key, e.ts)).collect::<BTreeSet<_>>(), dead);
                prop_assert_eq!(prepared.into_iter().map(|e| (e.txn, e.key)).collect::<BTreeSet<_>>(), open);
            }
            state.apply(std::slice::from_ref(record)).unwrap();
        }
        let listed = list(dir.path()).unwrap();
        prop_assert!(listed.iter().all(|file| file.content.is_ok()));
        prop_assert!(kept <= promotions);
        prop_assert_eq!(listed.len(), kept);
        prop_assert!(!entries(&state).is_empty() || log.len() < 3 || !log.iter().any(|r| r.body.is_data()));
    }
}
