//! A partition's part of the node log, as a rewind needs it.

use std::cell::RefCell;
use std::collections::VecDeque;

use types::entry::{Entry, Intent};
use types::{Lsn, PartitionId, Record};

use super::{GROUP_BYTES, GROUP_RECORDS, LogFailure, RecordSource, RewindLog};
use crate::log::{AppendError, Flush, NodeLog};

/// Reads and changes one partition's log, waiting on this thread. Nobody else appends to the partition meanwhile.
///
/// Records are read in groups and kept until others are asked for: walking either way reads each about once.
pub struct PartitionLog<'a> {
    log: &'a NodeLog,
    partition: PartitionId,
    near: RefCell<VecDeque<Record>>,
}

impl<'a> PartitionLog<'a> {
    /// The log of `partition`.
    pub fn new(log: &'a NodeLog, partition: PartitionId) -> PartitionLog<'a> {
        PartitionLog { log, partition, near: RefCell::default() }
    }

    fn append(&self, entry: Entry) -> Result<(), LogFailure> {
        loop {
            match self.log.append(&[(self.partition, entry.clone())], Flush::Now) {
                Ok(()) => return Ok(self.log.wait_durable()?),
                Err(AppendError::Busy { .. }) => self.log.wait_room(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads the group from `from` on, if it reaches `lsn`.
    fn read_group(&self, from: Lsn, lsn: Lsn) -> Result<Option<Record>, LogFailure> {
        let group = self.log.read(self.partition, from, GROUP_BYTES)?;
        let found = group.iter().find(|record| record.lsn == lsn).cloned();
        if found.is_some() {
            *self.near.borrow_mut() = group.into();
        }
        Ok(found)
    }
}

impl RecordSource for PartitionLog<'_> {
    fn record(&self, lsn: Lsn) -> Result<Record, LogFailure> {
        let first = self.near.borrow().front().map(|record| record.lsn);
        if let Some(first) = first.filter(|first| *first <= lsn)
            && let Some(record) = self.near.borrow().get((lsn.0 - first.0) as usize)
        {
            return Ok(record.clone());
        }
        // Walking down, the records before the wanted one come next.
        if first.is_some_and(|first| lsn < first) {
            let kept = self.log.summary(self.partition).map_or(lsn, |summary| summary.first);
            let from = Lsn(lsn.0.saturating_sub(GROUP_RECORDS as u64 - 1)).max(kept);
            if let Some(record) = self.read_group(from, lsn)? {
                return Ok(record);
            }
        }
        let found = self.read_group(lsn, lsn)?;
        found.ok_or_else(|| format!("partition {}: the log has no record {lsn}", self.partition).into())
    }
}

impl RewindLog for PartitionLog<'_> {
    fn end(&self) -> Lsn {
        self.log.summary(self.partition).map_or(Lsn::ZERO, |summary| summary.end)
    }

    fn sync_intent(&mut self, intent: &Intent) -> Result<(), LogFailure> {
        self.append(Entry::Intent(intent.clone()))
    }

    fn sync_cut(&mut self, to: Lsn) -> Result<(), LogFailure> {
        self.append(Entry::Cut { to })?;
        self.near.borrow_mut().clear();
        Ok(())
    }

    fn clear_intent(&mut self) -> Result<(), LogFailure> {
        self.append(Entry::IntentCleared)
    }
}
