//! What records above the state did, told from the log alone: nothing is applied.
//!
//! A replica's state holds only what is known to be committed, so a log that is about to lose its end must not be applied
//! to learn what that end did: what the other history cuts away later would be in the state after a restart, and counted
//! as committed. So the rows that records above the state have written are kept here, in memory, while the log is walked
//! through in its order: the old value of a row is in the state or in one of them. That is at most what lies between two
//! flushes of the state.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{Body, Lineage, Lsn, Record, Timestamp, TxnId, Write};

use super::{About, RecordSource, RewindError, for_each_record};
use crate::divergence::{DivergenceWriter, Stage};
use crate::state::{PartitionState, StateError};

/// How the transactions ended that a walk over the log meets: `None` is an abort.
pub type Ends = BTreeMap<TxnId, Option<Timestamp>>;

/// The ends of transactions from the first to the last position.
pub fn ends(log: &impl RecordSource, range: (Lsn, Lsn)) -> Result<Ends, RewindError> {
    let mut ends = Ends::new();
    for_each_record(log, range, |record| {
        if let Body::Outcome { txn, decision, .. } = record.body {
            ends.insert(txn, decision);
        }
        Ok(())
    })?;
    Ok(ends)
}

/// What is known of the part of the log that is read, as far as it is read.
pub struct Tail<'a> {
    state: &'a PartitionState,
    /// The state's, and what records above it have added.
    lineage: Lineage,
    /// Shares whose Prepare the state has not applied.
    prepared: BTreeMap<TxnId, Vec<Write>>,
    /// Rows that records above the state have written, when and where.
    rows: BTreeMap<Bytes, BTreeMap<Timestamp, (Lsn, Option<Bytes>)>>,
}

impl<'a> Tail<'a> {
    /// Of a log whose records are told in their order, all of those above the state among them.
    pub fn new(state: &'a PartitionState) -> Tail<'a> {
        Tail { state, lineage: Lineage::clone(&state.lineage()), prepared: BTreeMap::new(), rows: BTreeMap::new() }
    }

    /// Learns from one record, and sets aside what it did, if there is a writer.
    pub fn write(
        &mut self,
        writer: Option<&mut DivergenceWriter>,
        record: &Record,
        ends: &Ends,
    ) -> Result<(), RewindError> {
        match &record.body {
            Body::Commit { txn, ts, writes } => {
                let about = About { stage: Stage::Commit, txn: *txn, ts: *ts, first: None };
                self.rows(writer, record, &about, writes)
            }
            Body::Outcome { txn, first, decision: Some(ts) } => {
                let writes = match self.prepared.remove(txn) {
                    Some(writes) => writes,
                    None => self.prepared_in_state(*txn, record.lsn)?,
                };
                let about = About { stage: Stage::Commit, txn: *txn, ts: *ts, first: Some(*first) };
                self.rows(writer, record, &about, &writes)
            }
            Body::Prepare { txn, bound, first, writes } => {
                let stage = match ends.get(txn) {
                    Some(Some(_)) => {
                        self.prepared.insert(*txn, writes.clone());
                        return Ok(());
                    }
                    Some(None) => Stage::Aborted,
                    None => Stage::Prepared,
                };
                self.rows(writer, record, &About { stage, txn: *txn, ts: *bound, first: Some(*first) }, writes)
            }
            Body::EpochStart { .. } => {
                if record.lsn > self.state.applied() {
                    self.lineage.push(record.lineage_entry().expect("the start of an epoch"));
                }
                Ok(())
            }
            Body::Outcome { decision: None, .. } | Body::Forget { .. } => Ok(()),
        }
    }

    fn prepared_in_state(&self, txn: TxnId, at: Lsn) -> Result<Vec<Write>, RewindError> {
        let what = || format!("the rows of transaction {txn}, committed at {at}, are gone");
        let prepared = self.state.prepared(txn)?;
        Ok(prepared.ok_or_else(|| StateError::Damaged { dir: self.state.dir().into(), what: what() })?.writes)
    }

    /// What a row was before a record wrote it. Times need not have the order of the log.
    fn before(&self, key: &Bytes, ts: Timestamp, lsn: Lsn) -> Result<Option<Bytes>, RewindError> {
        let applied = self.state.version_before(key, ts, lsn, &self.lineage)?;
        let lives = |(at, (lsn, _)): &(&Timestamp, &(Lsn, Option<Bytes>))| !self.lineage.is_dead(**at, *lsn);
        let above = self.rows.get(key).and_then(|versions| versions.range(..ts).rev().find(lives));
        Ok(match (applied, above) {
            (Some(applied), Some((at, _))) if applied.ts > *at => applied.value,
            (_, Some((_, (_, value)))) => value.clone(),
            (applied, None) => applied.and_then(|applied| applied.value),
        })
    }

    fn rows(
        &mut self,
        mut writer: Option<&mut DivergenceWriter>,
        record: &Record,
        about: &About,
        writes: &[Write],
    ) -> Result<(), RewindError> {
        let commits = about.stage == Stage::Commit;
        let before = if commits { about.ts } else { Timestamp::MAX };
        for write in writes {
            if let Some(writer) = &mut writer {
                let old = self.before(&write.key, before, record.lsn)?;
                writer.entry(&about.entry(record.lsn, record.epoch, write.clone(), old))?;
            }
            if commits && record.lsn > self.state.applied() {
                let version = (record.lsn, write.value.clone());
                self.rows.entry(write.key.clone()).or_default().insert(about.ts, version);
            }
        }
        Ok(())
    }
}
