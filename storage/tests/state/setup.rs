//! What the tests share: an environment, a log in memory, the state's bytes as a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use perennial_storage::state::{LogPosition, PartitionState, StateConfig, StateEnv, StateError};
use types::state::{self, Get};
use types::{Lineage, Lsn, Record, Timestamp};

use crate::history::{HERE, Naive};

/// Small caches; partitions ask to be flushed above `memtable_bytes`.
pub fn env(memtable_bytes: u64) -> Arc<StateEnv> {
    let config = StateConfig { cache_bytes: 8 << 20, memtable_bytes, background_threads: 1, write_rate: None };
    StateEnv::new(&config).expect("environment")
}

/// The lineage of a log.
pub fn lineage(log: &[Record]) -> Lineage {
    let mut lineage = Lineage::new();
    log.iter().filter_map(Record::lineage_entry).for_each(|entry| lineage.push(entry));
    lineage
}

/// The last position of a log.
pub fn end(log: &[Record]) -> Lsn {
    Lsn(log.len() as u64)
}

/// Opens the state in `dir` against a log.
pub fn try_open(env: &Arc<StateEnv>, dir: &Path, log: &[Record]) -> Result<PartitionState, StateError> {
    PartitionState::open(env, dir, HERE, LogPosition { end: end(log), lineage: &lineage(log) })
}

/// Opens the state in `dir` against a log.
pub fn open(env: &Arc<StateEnv>, dir: &Path, log: &[Record]) -> PartitionState {
    try_open(env, dir, log).expect("open")
}

/// Applies what the log has above the state.
pub fn replay(state: &PartitionState, log: &[Record]) {
    state.apply(&log[state.applied().0 as usize..]).expect("apply");
}

/// All entries of a state.
pub fn entries(state: &PartitionState) -> BTreeMap<Bytes, Bytes> {
    state.entries().collect::<Result<_, _>>().expect("entries")
}

/// The rows of a view, by a scan over everything.
pub fn rows(state: &PartitionState, view: Timestamp) -> BTreeMap<Bytes, Bytes> {
    let mut cursor = state.view(view).expect("view").scan(&[], None);
    let mut rows = BTreeMap::new();
    while cursor.advance().expect("scan") {
        rows.insert(Bytes::copy_from_slice(cursor.key()), Bytes::copy_from_slice(cursor.value()));
    }
    rows
}

/// The timestamps that a log speaks of, and the last that can be.
pub fn times(log: &[Record]) -> Vec<Timestamp> {
    log.iter().filter_map(|record| record.body.timestamp()).chain([Timestamp::MAX]).collect()
}

/// What a prefix of a log comes to, in bytes.
#[derive(Clone, Default)]
pub struct Map(pub BTreeMap<Bytes, Bytes>);

impl Get for Map {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.0.get(key).cloned()
    }
}

impl Map {
    /// The entries of a log.
    pub fn of(log: &[Record]) -> Map {
        let mut map = Map::default();
        log.iter().for_each(|record| map.apply(record));
        map
    }

    /// One more record.
    pub fn apply(&mut self, record: &Record) {
        for change in state::apply(record, self) {
            self.0.insert(change.key, change.value.expect("applying only adds"));
        }
    }
}

/// Checks that a state is the one of `log`, and means what the model says.
pub fn assert_is(state: &PartitionState, log: &[Record]) {
    assert_eq!(state.applied(), end(log));
    assert_eq!(*state.lineage(), lineage(log));
    assert_eq!(entries(state), Map::of(log).0);
    assert_means(state, &Naive::of(log), &times(log));
}

/// Checks that rows are counted by what the entries say: values, less deletions.
pub fn assert_counts(state: &PartitionState) {
    let entries = entries(state).into_iter().filter(|(key, _)| key[0] == state::Space::Version as u8);
    let has_value = |value: Bytes| state::Version::decode(value).expect("a version").value.is_some();
    let rows: i64 = entries.map(|(_, value)| if has_value(value) { 1 } else { -1 }).sum();
    assert_eq!(state.rows(), rows.max(0) as u64);
}

/// Checks rows, open transactions and decisions against the model.
pub fn assert_means(state: &PartitionState, naive: &Naive, views: &[Timestamp]) {
    assert_counts(state);
    for view in views {
        assert_eq!(rows(state, *view), naive.rows(*view), "rows at {view}");
    }
    let open = state.open_prepared().expect("open transactions");
    let open: BTreeMap<_, _> = open.into_iter().map(|prepared| (prepared.txn, prepared.writes)).collect();
    assert_eq!(open, naive.prepared);
    for txn in naive.decided.keys() {
        let expected = naive.decision(*txn).map(|decision| {
            decision.map_or(perennial_storage::state::Decision::Abort, perennial_storage::state::Decision::Commit)
        });
        assert_eq!(state.decision(*txn).expect("decision"), expected, "decision of {txn}");
    }
}
