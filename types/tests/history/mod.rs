//! Random logs of one partition, and the plain model that says what they mean.
//!
//! The model follows the rules as they are told: versions with the transaction that wrote them, prepared
//! transactions that come and go, decisions, dead intervals. It keeps no entry that the state's bytes keep and
//! knows nothing of their layout. The including test names the `types` crate at its root.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use crate::types::{
    Body, ClusterId, Epoch, Lineage, Lsn, Ordinal, PromotionId, Record, StartKind, Timestamp, TxnId, Write,
};

/// The partition whose log is made up.
pub const HERE: Ordinal = Ordinal(0);

/// One step of a writer; numbers choose among what is possible at that point.
#[derive(Clone, Debug)]
pub enum Step {
    /// Takes a commit timestamp that a later step uses: commits then come out of the order of their times.
    Reserve,
    /// A commit of these keys, with a fresh timestamp or a reserved one.
    Commit(Vec<(u8, Option<u8>)>, bool),
    /// A prepared share; the first participant is this partition or another.
    Prepare(Vec<(u8, Option<u8>)>, bool),
    /// The end of the n-th open transaction: commit (fresh or reserved timestamp) or abort.
    Outcome(usize, Option<bool>),
    /// Abort of a transaction that was never prepared here.
    AbortUnknown,
    /// A failover in the region.
    Failover,
    /// A promotion whose cut lies this far back.
    Promotion(u8),
    /// Forgets the n-th decision that is not forgotten.
    Forget(usize),
}

/// Any step.
pub fn step() -> impl Strategy<Value = Step> {
    let keys = || prop::collection::btree_map(0u8..6, prop::option::of(any::<u8>()), 1..4);
    let writes = || keys().prop_map(|writes| writes.into_iter().collect());
    prop_oneof![
        2 => Just(Step::Reserve),
        8 => (writes(), any::<bool>()).prop_map(|(writes, late)| Step::Commit(writes, late)),
        5 => (writes(), any::<bool>()).prop_map(|(writes, first)| Step::Prepare(writes, first)),
        5 => (any::<usize>(), prop::option::weighted(0.7, any::<bool>())).prop_map(|(n, end)| Step::Outcome(n, end)),
        1 => Just(Step::AbortUnknown),
        1 => Just(Step::Failover),
        2 => (0u8..12).prop_map(Step::Promotion),
        1 => any::<usize>().prop_map(Step::Forget),
    ]
}

/// A row key: self-delimiting, as the key encoding's are.
pub fn row(key: u8) -> Bytes {
    Bytes::from(vec![b'a' + key; usize::from(key) + 1].into_iter().chain([0]).collect::<Vec<u8>>())
}

/// Writes a log as a primary would: timestamps are unique, decisions follow their Prepare.
#[derive(Default)]
pub struct Writer {
    /// The log; record `n` is at LSN `n + 1`.
    pub log: Vec<Record>,
    clock: u64,
    reserved: Vec<Timestamp>,
    open: Vec<(TxnId, Ordinal)>,
    decided: Vec<TxnId>,
    epoch: u64,
}

impl Writer {
    /// Runs `steps` after an `EpochStart`.
    pub fn write(steps: &[Step]) -> Vec<Record> {
        let mut writer = Writer::default();
        writer.step(&Step::Failover);
        steps.iter().for_each(|step| writer.step(step));
        writer.log
    }

    /// One more step.
    pub fn step(&mut self, step: &Step) {
        let txn = TxnId(1_000_000 + self.log.len() as u128);
        match step {
            Step::Reserve => {
                let ts = self.tick();
                self.reserved.push(ts);
            }
            Step::Commit(writes, late) => {
                let ts = self.timestamp(*late);
                self.append(Body::Commit { txn, ts, writes: rows(writes) });
            }
            Step::Prepare(writes, first) => {
                let first = if *first { HERE } else { Ordinal(1) };
                let bound = self.reserved.first().map_or(Timestamp(self.clock), |ts| ts.prev());
                self.open.push((txn, first));
                self.append(Body::Prepare { txn, bound, first, writes: rows(writes) });
            }
            Step::Outcome(n, end) if !self.open.is_empty() => {
                let (txn, first) = self.open.remove(n % self.open.len());
                let decision = end.map(|late| self.timestamp(late));
                if first == HERE {
                    self.decided.push(txn);
                }
                self.append(Body::Outcome { txn, first, decision });
            }
            Step::AbortUnknown => {
                self.decided.push(txn);
                self.append(Body::Outcome { txn, first: HERE, decision: None });
            }
            Step::Failover => self.start(StartKind::Failover),
            Step::Promotion(back) => {
                let cut = Timestamp(self.clock.saturating_sub(u64::from(*back)));
                self.open.clear();
                self.reserved.clear();
                self.start(StartKind::Promotion { id: PromotionId(txn.0), cut });
            }
            Step::Forget(n) if !self.decided.is_empty() => {
                let txn = self.decided.remove(n % self.decided.len());
                self.append(Body::Forget { txns: vec![txn] });
            }
            Step::Outcome(..) | Step::Forget(_) => {}
        }
    }

    fn start(&mut self, kind: StartKind) {
        self.epoch += 1;
        let start_ts = self.tick();
        self.append(Body::EpochStart { start_ts, kind });
    }

    fn append(&mut self, body: Body) {
        let epoch = Epoch { number: self.epoch, cluster: ClusterId(7), nonce: self.epoch * 31 };
        self.log.push(Record { epoch, lsn: Lsn(self.log.len() as u64 + 1), body });
    }

    fn tick(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp(self.clock)
    }

    fn timestamp(&mut self, late: bool) -> Timestamp {
        if late && !self.reserved.is_empty() { self.reserved.remove(0) } else { self.tick() }
    }
}

fn rows(writes: &[(u8, Option<u8>)]) -> Vec<Write> {
    let value = |value: u8| Bytes::from(vec![value; usize::from(value % 5)]);
    writes.iter().map(|(key, new)| Write { key: row(*key), value: new.map(value) }).collect()
}

/// What a log prefix means, told plainly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naive {
    /// (row key, commit time) to value, position and transaction.
    pub versions: BTreeMap<(Bytes, Timestamp), (Option<Bytes>, Lsn, TxnId)>,
    /// Undecided transactions.
    pub prepared: BTreeMap<TxnId, Vec<Write>>,
    /// Decisions of this partition as first participant.
    pub decided: BTreeMap<TxnId, Option<Timestamp>>,
    /// Position of an `EpochStart` to its interval.
    pub dead: BTreeMap<Lsn, (Timestamp, Timestamp)>,
    /// The lineage.
    pub lineage: Lineage,
}

impl Naive {
    /// The meaning of `log`.
    pub fn of(log: &[Record]) -> Naive {
        let mut naive = Naive::default();
        log.iter().for_each(|record| naive.apply(record));
        naive
    }

    /// One more record.
    pub fn apply(&mut self, record: &Record) {
        match &record.body {
            Body::EpochStart { start_ts, kind } => {
                self.lineage.push(record.lineage_entry().expect("an EpochStart has one"));
                if let StartKind::Promotion { cut, .. } = kind {
                    self.dead.insert(record.lsn, (*cut, *start_ts));
                    self.prepared.clear();
                }
            }
            Body::Commit { txn, ts, writes } => self.write(writes, *ts, record.lsn, *txn),
            Body::Prepare { txn, writes, .. } => {
                self.prepared.insert(*txn, writes.clone());
            }
            Body::Outcome { txn, first, decision } => {
                let writes = self.prepared.remove(txn);
                if *first == HERE {
                    self.decided.insert(*txn, *decision);
                }
                if let Some(ts) = decision {
                    self.write(&writes.expect("prepared"), *ts, record.lsn, *txn);
                }
            }
            Body::Forget { txns } => txns.iter().for_each(|txn| {
                self.decided.remove(txn);
            }),
        }
    }

    fn write(&mut self, writes: &[Write], ts: Timestamp, lsn: Lsn, txn: TxnId) {
        for write in writes {
            self.versions.insert((write.key.clone(), ts), (write.value.clone(), lsn, txn));
        }
    }

    /// Whether a promotion declared the commit dead.
    pub fn is_dead(&self, ts: Timestamp, lsn: Lsn) -> bool {
        self.dead.iter().any(|(at, (cut, start))| *cut < ts && ts < *start && lsn < *at)
    }

    /// The rows at a view.
    pub fn rows(&self, view: Timestamp) -> BTreeMap<Bytes, Bytes> {
        let mut rows = BTreeMap::new();
        for ((key, ts), (value, lsn, _)) in &self.versions {
            if *ts <= view && !self.is_dead(*ts, *lsn) {
                match value {
                    Some(value) => rows.insert(key.clone(), value.clone()),
                    None => rows.remove(key),
                };
            }
        }
        rows
    }

    /// The newest living version of a row.
    pub fn latest(&self, row: &Bytes) -> Option<(Timestamp, Lsn, Option<Bytes>)> {
        let of_row = self.versions.range((row.clone(), Timestamp::ZERO)..=(row.clone(), Timestamp::MAX));
        of_row
            .rev()
            .find(|((_, ts), (_, lsn, _))| !self.is_dead(*ts, *lsn))
            .map(|((_, ts), (value, lsn, _))| (*ts, *lsn, value.clone()))
    }

    /// This partition's decision: a commit in a dead interval is an abort.
    pub fn decision(&self, txn: TxnId) -> Option<Option<Timestamp>> {
        let dead = |ts: &Timestamp| self.dead.values().any(|(cut, start)| cut < ts && ts < start);
        self.decided.get(&txn).map(|decision| decision.filter(|ts| !dead(ts)))
    }

    /// Living commits in the open interval.
    pub fn commits_between(&self, above: Timestamp, below: Timestamp) -> BTreeSet<(Timestamp, Lsn)> {
        let all = self.versions.iter().map(|((_, ts), (_, lsn, _))| (*ts, *lsn));
        all.filter(|(ts, lsn)| above < *ts && *ts < below && !self.is_dead(*ts, *lsn)).collect()
    }
}
