//! What a node keeps on its disk, and what a crash leaves of it.
//!
//! One journal per node, as in the real node log: entries of all its partitions in one order. An entry is *appended*
//! (in the process), then *written* (handed to the operating system), then *durable*.
//!
//! | failure | what is left |
//! |---|---|
//! | the process is killed | what was written |
//! | the power fails | what was durable, and of what was written a random part from the front (torn tail) |
//!
//! Several batches may be on their way to the disk, and it writes them in any order: behind a torn one others may lie
//! whole. The log ends at the first that is torn, so that it makes no difference which ones do.
//!
//! The state is flushed as one image, by the process's order; an image once flushed survives everything. Set-aside
//! files are written and synced at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use types::entry::{Entry, Summary};
use types::{Epoch, Lsn, Ordinal, PartitionId, Record, Timestamp, TxnId};

use crate::state::Memory;

/// One partition's log, as its entries make it.
#[derive(Clone, Debug, Default)]
pub struct LogImage {
    /// Lineage, ends, promise, mark, intent.
    pub summary: Summary,
    /// The records `summary.first..=summary.end`.
    pub records: VecDeque<Record>,
}

impl LogImage {
    /// Takes an entry in. Panics if it does not continue the log: the host then breaks the log's own rules.
    pub fn apply(&mut self, entry: &Entry) {
        self.summary.apply(entry).unwrap_or_else(|error| panic!("entry {entry:?}: {error}"));
        match entry {
            Entry::Record(record) => self.records.push_back(record.clone()),
            Entry::Cut { to } => self.records.retain(|record| record.lsn <= *to),
            Entry::Trim { below } => self.records.retain(|record| record.lsn >= *below),
            Entry::Installed { .. } => self.records.clear(),
            _ => {}
        }
    }

    /// The record at `lsn`, if the log holds it.
    pub fn record(&self, lsn: Lsn) -> Option<&Record> {
        self.records.get(lsn.0.checked_sub(self.summary.first.0)? as usize)
    }

    /// The last record.
    pub fn end(&self) -> Lsn {
        self.summary.end
    }

    /// The last record that is gone.
    pub fn trimmed(&self) -> Lsn {
        self.summary.first.prev()
    }
}

/// A write that left the history and was kept for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Aside {
    /// Whose.
    pub txn: TxnId,
    /// On which partition.
    pub ordinal: Ordinal,
}

/// One partition on a node's disk: all that outlives a process.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Durable.
    pub log: LogImage,
    /// The state's files.
    pub state: BTreeMap<Bytes, Bytes>,
    /// The state contains the records up to here.
    pub flushed: Lsn,
    /// Set-aside files.
    pub aside: BTreeSet<Aside>,
    /// Something of it cannot be read, and nobody knows yet.
    pub rots: bool,
    /// It is known that something cannot be read: nothing of it counts before there is a copy.
    pub rotten: bool,
    /// Since when.
    pub found: u64,
    /// A copy that lies beside the state until the log says that it is the state.
    pub laid: Option<Memory>,
}

impl Disk {
    /// The state's files, read.
    pub fn memory(&self) -> Memory {
        Memory { map: self.state.clone(), applied: self.flushed }
    }

    /// The highest time that the state's files speak of.
    pub fn newest(&self) -> Timestamp {
        self.memory().newest()
    }

    /// An entry of the journal is durable.
    pub fn take(&mut self, entry: &Entry) {
        self.log.apply(entry);
        if let Entry::Installed { trimmed, .. } = entry {
            let copy = self.laid.take().unwrap_or_else(|| panic!("a copy at {trimmed} is installed and not there"));
            assert_eq!(copy.applied, *trimmed, "the copy that is there is another one");
            (self.state, self.flushed, self.rotten) = (copy.map, copy.applied, false);
        }
    }
}

/// An entry on its way to the disk.
#[derive(Clone, Debug)]
pub struct Op {
    /// Of which partition.
    pub partition: PartitionId,
    /// What.
    pub entry: Entry,
    /// How many notes of the partition's replica precede it, itself included.
    pub notes: u64,
}

/// The node log's unsynced end.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    ops: VecDeque<Op>,
    /// The last entry of each batch that was handed to the operating system, and is not on disk.
    batches: VecDeque<u64>,
    /// Entries appended since the node was made.
    pub appended: u64,
    /// Of these, handed to the operating system.
    pub written: u64,
    /// Of these, on disk.
    pub durable: u64,
}

impl Journal {
    /// Appends in the process.
    pub fn append(&mut self, op: Op) {
        self.ops.push_back(op);
        self.appended += 1;
    }

    /// Hands everything to the operating system; returns what is newly there.
    pub fn write(&mut self) -> impl Iterator<Item = &Op> {
        let skip = (self.written - self.durable) as usize;
        if self.appended > self.written {
            self.batches.push_back(self.appended);
        }
        self.written = self.appended;
        self.ops.iter().skip(skip)
    }

    /// What is not on disk of everything up to the entry numbered `to`.
    pub fn unsynced(&self, to: u64) -> impl Iterator<Item = &Op> {
        self.ops.iter().take(to.saturating_sub(self.durable) as usize)
    }

    /// Everything up to the entry numbered `to` is on disk; returns what is newly there.
    pub fn sync(&mut self, to: u64) -> Vec<Op> {
        assert!(to <= self.written, "sync to {to}, written {}", self.written);
        let count = to.saturating_sub(self.durable) as usize;
        self.durable = self.durable.max(to);
        self.batches.retain(|end| *end > to);
        self.ops.drain(..count).collect()
    }

    /// A partition's copy is deleted: what is on its way of it is of nobody.
    pub fn forget(&mut self, id: PartitionId) {
        let nobody = PartitionId { database: types::DatabaseId(u64::MAX), ordinal: Ordinal(0) };
        self.ops.iter_mut().filter(|op| op.partition == id).for_each(|op| op.partition = nobody);
    }

    /// The process ended: what was not written is gone.
    pub fn kill(&mut self) {
        self.ops.truncate((self.written - self.durable) as usize);
        self.appended = self.written;
    }

    /// The last entry before the first record of a partition that is on its way to the disk.
    pub fn before_record(&self, id: PartitionId) -> u64 {
        let is_record = |op: &Op| op.partition == id && matches!(op.entry, Entry::Record(_));
        let before = self.ops.iter().take_while(|op| !is_record(op)).count();
        (self.durable + before as u64).min(self.written)
    }

    /// How many marks of a partition are on their way to the disk behind an entry.
    pub fn marks_behind(&self, entry: u64, id: PartitionId) -> usize {
        let behind = self.ops.iter().skip((entry - self.durable) as usize).filter(|op| op.partition == id);
        behind.filter(|op| matches!(op.entry, Entry::Mark(_))).count()
    }

    /// The power fails, and a batch is torn behind the entry numbered `keep`: everything after that entry is gone, unless
    /// what lies behind the torn batch is `kept`.
    pub fn cut(&mut self, keep: u64, kept: bool) {
        assert!(self.durable <= keep && keep <= self.written, "torn at {keep}, durable {}", self.durable);
        let behind = self.batches.iter().copied().find(|end| *end > keep).filter(|_| kept).unwrap_or(self.written);
        let place = |entry: u64| (entry - self.durable) as usize;
        self.ops.drain(place(keep)..place(behind));
        self.batches.clear();
        self.written = self.durable + self.ops.len() as u64;
        self.appended = self.written;
    }
}

/// The name of a record: `(epoch, LSN)`.
pub type Name = (Epoch, Lsn);

/// What a commit or prepare in the log is worth to a person: transaction and time, `None` for a prepared one.
pub fn kept_of(record: &Record) -> Option<(TxnId, Option<Timestamp>)> {
    match &record.body {
        types::Body::Commit { txn, ts, .. } => Some((*txn, Some(*ts))),
        types::Body::Prepare { txn, .. } => Some((*txn, None)),
        types::Body::Outcome { txn, decision: Some(ts), .. } => Some((*txn, Some(*ts))),
        _ => None,
    }
}
