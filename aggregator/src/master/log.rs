//! The raft log as raft-rs reads it: entries in memory, as they are on disk, and the state to send to who lacks entries.
//!
//! A snapshot is made when it is asked for, of the state as it is applied: so it names a membership that contains whoever
//! it is for, and nothing has to be kept for it.

use std::sync::Arc;

use ::catalog::State;
use parking_lot::Mutex;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::storage::{GetEntriesContext, MemStorage};
use raft::{RaftState, Storage, StorageError};

use crate::codec;

/// Where the state stands.
#[derive(Clone)]
pub struct Applied {
    /// The catalog.
    pub state: Arc<State>,
    /// The last entry in it.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// Who votes and who learns, as of it.
    pub members: ConfState,
}

impl Applied {
    /// What names it.
    pub fn meta(&self) -> SnapshotMetadata {
        SnapshotMetadata { conf_state: Some(self.members.clone()), index: self.index, term: self.term }
    }
}

/// Clones are one log.
#[derive(Clone)]
pub struct Log {
    entries: MemStorage,
    applied: Arc<Mutex<Applied>>,
}

impl Log {
    /// What was on disk: the state up to a snapshot, and the entries above it.
    pub fn new(applied: Applied, entries: &[Entry], mut hard_state: HardState) -> raft::Result<Log> {
        let log = Log { entries: MemStorage::new(), applied: Arc::new(Mutex::new(applied.clone())) };
        {
            let mut core = log.entries.wl();
            if applied.index > 0 {
                core.apply_snapshot(Snapshot { metadata: Some(applied.meta()), data: vec![] })?;
            }
            core.append(entries)?;
            hard_state.commit = hard_state.commit.max(applied.index);
            hard_state.term = hard_state.term.max(applied.term);
            core.set_hardstate(hard_state);
        }
        Ok(log)
    }

    /// Where the state stands.
    pub fn applied(&self) -> Applied {
        self.applied.lock().clone()
    }

    /// The state has moved on.
    pub fn apply(&self, applied: Applied) {
        assert!(applied.index >= self.applied.lock().index, "an entry is applied once, in order");
        self.entries.wl().set_conf_state(applied.members.clone());
        *self.applied.lock() = applied;
    }

    /// Entries that are on disk now.
    pub fn append(&self, entries: &[Entry]) {
        self.entries.wl().append(entries).expect("raft hands over entries without a gap");
    }

    /// Term and vote that are on disk now.
    pub fn set_hard_state(&self, hard_state: HardState) {
        self.entries.wl().set_hardstate(hard_state);
    }

    /// Term, vote, and what is known to be committed.
    pub fn hard_state(&self) -> HardState {
        self.entries.rl().hard_state().clone()
    }

    /// More is known to be committed.
    pub fn commit(&self, index: u64) {
        self.entries.wl().mut_hard_state().commit = index;
    }

    /// A snapshot of the leader has replaced everything.
    pub fn install(&self, applied: Applied) -> raft::Result<()> {
        self.entries.wl().apply_snapshot(Snapshot { metadata: Some(applied.meta()), data: vec![] })?;
        *self.applied.lock() = applied;
        Ok(())
    }

    /// Forgets entries below this one.
    pub fn forget_below(&self, index: u64) {
        self.entries.wl().compact(index).expect("what is applied is in the log");
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        self.entries.initial_state()
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        self.entries.entries(low, high, max_size, context)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.entries.term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        self.entries.first_index()
    }

    fn last_index(&self) -> raft::Result<u64> {
        self.entries.last_index()
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let applied = self.applied();
        if applied.index < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(Snapshot { metadata: Some(applied.meta()), data: codec::encode(&*applied.state) })
    }
}
