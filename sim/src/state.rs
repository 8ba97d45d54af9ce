//! A partition's state in memory: an ordered map, changed by `types::state` alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::state::{self, Get, Outcome, Prepared, Space, Version};
use types::{Lineage, Lsn, Record, Timestamp, TxnId};

/// A version of a row that a reader was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Its commit timestamp.
    pub ts: Timestamp,
    /// The record that wrote it.
    pub lsn: Lsn,
    /// Its value.
    pub value: Option<Bytes>,
}

/// State and position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// As `types::state` lays it out.
    pub map: BTreeMap<Bytes, Bytes>,
    /// It contains the records up to here.
    pub applied: Lsn,
}

impl Get for Memory {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        self.map.get(key).cloned()
    }
}

impl Memory {
    /// Applies the next record.
    pub fn apply(&mut self, record: &Record) {
        assert_eq!(record.lsn, self.applied.next(), "applied {}, next is {}", self.applied, record.lsn);
        self.change(state::apply(record, self));
        self.applied = record.lsn;
    }

    /// Undoes the last record that was applied.
    pub fn undo(&mut self, record: &Record) {
        assert_eq!(record.lsn, self.applied, "undo of a record that is not the last one applied");
        self.change(state::undo(record, self));
        self.applied = record.lsn.prev();
    }

    fn change(&mut self, mutations: Vec<state::Mutation>) {
        for mutation in mutations {
            match mutation.value {
                Some(value) => self.map.insert(mutation.key, value),
                None => self.map.remove(&mutation.key),
            };
        }
    }

    fn space(&self, space: Space) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        let from = Bytes::copy_from_slice(&[space as u8]);
        let to = Bytes::copy_from_slice(&[space as u8 + 1]);
        self.map.range(from..to)
    }

    /// Every prepared entry, ended or not.
    fn prepared(&self) -> impl Iterator<Item = Prepared> {
        self.space(Space::Prepared).map(|(key, value)| {
            let txn = TxnId(u128::from_be_bytes(key[1..17].try_into().expect("a prepared key has a transaction id")));
            Prepared::decode(txn, value.clone()).expect("prepared entry was written by apply")
        })
    }

    /// Transactions that are prepared and open: no outcome, no promotion recorded above the Prepare.
    pub fn open(&self, lineage: &Lineage) -> Vec<Prepared> {
        let aborted = |lsn: Lsn| {
            lineage.entries().iter().any(|entry| {
                matches!(entry.kind, types::StartKind::Promotion { .. })
                    && entry.start_lsn > lsn
                    && entry.start_lsn <= self.applied
            })
        };
        self.prepared().filter(|entry| state::outcome(self, entry.txn).is_none() && !aborted(entry.lsn)).collect()
    }

    /// How a transaction ended, as far as this state knows: a commit in a dead interval is an abort.
    pub fn outcome(&self, txn: TxnId, lineage: &Lineage) -> Option<Outcome> {
        let mut outcome = state::outcome(self, txn)?;
        outcome.decision = outcome.decision.filter(|ts| !self.lineage(lineage).is_dead(*ts, outcome.lsn));
        Some(outcome)
    }

    /// The lineage up to what is applied.
    pub fn lineage(&self, lineage: &Lineage) -> Lineage {
        let mut applied = lineage.clone();
        applied.cut(self.applied);
        applied
    }

    /// All rows that are alive at a view.
    pub fn rows(&self, view: Timestamp, lineage: &Lineage) -> BTreeMap<Bytes, Seen> {
        let lineage = self.lineage(lineage);
        let mut rows: BTreeMap<Bytes, Seen> = BTreeMap::new();
        for (key, value) in self.space(Space::Version) {
            let (row, ts) = state::split_version_key(key).expect("version key was written by apply");
            let version = Version::decode(value.clone()).expect("version was written by apply");
            let alive = ts <= view && !lineage.is_dead(ts, version.lsn);
            // Newest first: the first one that is alive counts.
            if alive && !rows.contains_key(row) {
                let seen = Seen { ts, lsn: version.lsn, value: version.value };
                rows.insert(key.slice(1..1 + row.len()), seen);
            }
        }
        rows
    }

    /// The latest version of one row.
    pub fn latest(&self, row: &[u8], lineage: &Lineage) -> Option<Seen> {
        self.at(row, Timestamp::MAX, lineage)
    }

    /// The version of one row at a view.
    pub fn at(&self, row: &[u8], view: Timestamp, lineage: &Lineage) -> Option<Seen> {
        let lineage = self.lineage(lineage);
        let newest = state::version_key(row, view);
        let oldest = state::version_key(row, Timestamp::ZERO);
        self.map.range(newest..=oldest).find_map(|(key, value)| {
            let (_, ts) = state::split_version_key(key)?;
            let version = Version::decode(value.clone()).expect("version was written by apply");
            let seen = Seen { ts, lsn: version.lsn, value: version.value };
            (!lineage.is_dead(ts, version.lsn)).then_some(seen)
        })
    }

    /// Whether the version of a row that a transaction has committed at `ts` is alive.
    pub fn wrote(&self, row: &[u8], txn: TxnId, ts: Timestamp, lineage: &Lineage) -> bool {
        let lineage = self.lineage(lineage);
        let version = self.map.get(&state::version_key(row, ts)).cloned().and_then(|value| Version::decode(value).ok());
        version.is_some_and(|version| writer(&version) == Some(txn) && !lineage.is_dead(ts, version.lsn))
    }

    /// Transactions whose commits a promotion at `start` declares dead: committed in the open interval.
    pub fn dead(&self, cut: Timestamp, start_ts: Timestamp, start: Lsn) -> BTreeSet<TxnId> {
        let between: BTreeSet<Lsn> = self
            .space(Space::Commit)
            .filter_map(|(key, _)| state::split_commit_key(key))
            .filter(|(ts, lsn)| cut < *ts && *ts < start_ts && *lsn < start)
            .map(|(_, lsn)| lsn)
            .collect();
        self.versions()
            .filter(|version| between.contains(&version.lsn))
            .filter_map(|version| writer(&version))
            .collect()
    }

    /// A planted bug: the versions of the first commit above a time, and of all that the log has after it, are gone.
    pub fn cut_prefix(&mut self, cut: Timestamp) {
        let commits = self.space(Space::Commit).filter_map(|(key, _)| state::split_commit_key(key));
        let Some(first) = commits.filter(|(ts, _)| *ts > cut).map(|(_, lsn)| lsn).min() else { return };
        let above = |value: &Bytes| Version::decode(value.clone()).is_ok_and(|version| version.lsn >= first);
        self.map.retain(|key, value| key[0] != Space::Version as u8 || !above(value));
    }

    /// Transactions of which the state holds something that a record above `lsn` wrote.
    pub fn held_above(&self, lsn: Lsn) -> BTreeSet<TxnId> {
        let written = self.versions().filter(|version| version.lsn > lsn).filter_map(|version| writer(&version));
        written.chain(self.prepared().filter(|prepared| prepared.lsn > lsn).map(|prepared| prepared.txn)).collect()
    }

    /// The record that decided a transaction, or committed it alone.
    pub fn decided_at(&self, txn: TxnId) -> Option<Lsn> {
        let decided = state::outcome(self, txn).map(|outcome| outcome.lsn);
        decided.or_else(|| self.versions().find(|version| writer(version) == Some(txn)).map(|version| version.lsn))
    }

    /// The record that prepared a transaction.
    pub fn prepared_at(&self, txn: TxnId) -> Option<Lsn> {
        state::prepared(self, txn).map(|prepared| prepared.lsn)
    }

    /// The highest time that the state speaks of.
    pub fn newest(&self) -> Timestamp {
        let commits = self.space(Space::Commit).filter_map(|(key, _)| Some(state::split_commit_key(key)?.0));
        commits.chain(self.prepared().map(|prepared| prepared.bound)).max().unwrap_or_default()
    }

    fn versions(&self) -> impl Iterator<Item = Version> {
        self.space(Space::Version)
            .map(|(_, value)| Version::decode(value.clone()).expect("version was written by apply"))
    }
}

/// The transaction that wrote a version: clients write nothing but their own names.
fn writer(version: &Version) -> Option<TxnId> {
    let value = version.value.as_ref()?;
    Some(TxnId(u128::from_be_bytes(value[..].try_into().expect("a value is a transaction id"))))
}
