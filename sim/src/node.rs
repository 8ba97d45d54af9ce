//! A node: its disk, which outlives its processes, and the process that runs, if one does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replication::{FeedId, Input, Instant, Leases, Replica};
use types::{Incarnation, Lsn, Member, NodeId, PartitionId, Reign, SetVersion};

use crate::copy::{Copying, Word};
use crate::disk::{Disk, Journal, LogImage};
use crate::state::Memory;
use crate::world::Event;

/// Work on one replica's log and state by the six steps of a rewind.
#[derive(Clone, Debug)]
pub struct Rewind {
    /// Everything above this goes.
    pub to: Lsn,
    /// The next step.
    pub step: RewindStep,
    /// Entries of the journal that must be durable before it.
    pub after: u64,
}

/// The six steps of `protocol.md` section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewindStep {
    /// The intent is on its way to the disk.
    Intent,
    /// Write the divergence file.
    SetAside,
    /// Undo, some records at a time.
    Undo,
    /// Flush the state.
    Flush,
    /// Cut the log.
    Cut,
    /// The cut is on its way to the disk.
    Clear,
    /// The cleared intent is on its way to the disk.
    Done,
}

/// One replica in a process.
#[derive(Debug)]
pub struct Hosted {
    /// The protocol.
    pub replica: Replica,
    /// The log as this process has appended it.
    pub log: LogImage,
    /// The state in memory.
    pub state: Memory,
    /// Apply up to here.
    pub apply_to: Lsn,
    /// A step of applying is on its way.
    pub applying: bool,
    /// Notes appended since the process started,
    pub notes: u64,
    /// and of these, by a replica that it has replaced.
    pub notes_before: u64,
    /// A rewind in progress.
    pub rewind: Option<Rewind>,
    /// Reads of the log that were asked for: for whom, first, last, bytes.
    pub reads: VecDeque<(FeedId, Lsn, Lsn, usize)>,
    /// Timestamps that were asked for and not given.
    pub timestamps: BTreeMap<u64, u32>,
    /// A copy of the state is on its way.
    pub copying: Option<Copying>,
    /// What the replica is told when a copy has been taken over.
    pub held: Vec<Input>,
    /// Copies that were wanted since the process started.
    pub copies: u64,
    /// The reign in which it is the primary of a sink, and the version of its set, as the catalog said last.
    pub leads_sink: Option<(Reign, SetVersion)>,
    /// What the catalog knows of its state, as the primary of a sink.
    pub told: Option<Word>,
    /// The sessions with sinks that were opened here.
    pub sessions: BTreeMap<u64, Reign>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Process {
    /// Which.
    pub me: Member,
    /// What its replicas share.
    pub leases: Leases,
    /// Its replicas.
    pub hosted: BTreeMap<PartitionId, Hosted>,
    /// It stands still: events wait here.
    pub paused: Option<Vec<Event>>,
    /// Partitions whose log ends the catalog wants, once so many journal entries are durable.
    pub reports: BTreeMap<PartitionId, u64>,
    /// The journal is being written or synced.
    pub writing: bool,
    /// Being synced up to here.
    pub syncing: Option<u64>,
    /// Its log can no longer be written.
    pub log_failed: bool,
    /// Replicas of which it reports that they are damaged.
    pub damaged: BTreeSet<PartitionId>,
    /// The newest orders of the catalog that it has obeyed.
    pub seen: types::Revision,
    /// Copies that it has deleted, as ordered.
    pub removed: BTreeSet<PartitionId>,
    /// Transactions that it has rolled back because their coordinator is gone: they lock nothing any more.
    pub rolled_back: BTreeSet<types::TxnId>,
}

/// A machine.
#[derive(Debug)]
pub struct Node {
    /// In which region.
    pub region: usize,
    /// Its name there.
    pub id: NodeId,
    /// Millionths by which its clock runs, relative to the world's.
    pub rate: u64,
    /// Its processes so far.
    pub incarnation: Incarnation,
    /// How often a process has started: names events of one process even where members are named by node only.
    pub starts: u64,
    /// How often its processes have opened a replica: names each opening.
    pub openings: u64,
    /// The process that runs.
    pub process: Option<Process>,
    /// Its power failed, or a sync, since the process before ended.
    pub power_lost: bool,
    /// The first process since it has kept its power.
    pub powered_since: Incarnation,
    /// The host answers, if only with a refusal.
    pub powered: bool,
    /// What is durable.
    pub disks: BTreeMap<PartitionId, Disk>,
    /// What is on its way to the disk.
    pub journal: Journal,
    /// The next sync ends in an error.
    pub sync_fails: bool,
    /// Milliseconds that each sync takes at least.
    pub sync_min: u64,
    /// Until then there is no room on its disk,
    pub full_until: u64,
    /// for anybody, or for clients alone.
    pub full: bool,
}

impl Node {
    /// Its clock.
    pub fn clock(&self, now: u64) -> Instant {
        Instant((u128::from(now) * u128::from(self.rate) / 1_000_000) as u64)
    }

    /// Its present or last process.
    pub fn member(&self) -> Member {
        Member { node: self.id, incarnation: self.incarnation }
    }

    /// The replica of a partition, if a process runs.
    pub fn replica(&self, id: PartitionId) -> Option<&Replica> {
        Some(&self.hosted(id)?.replica)
    }

    /// The replica and its host's part.
    pub fn hosted(&self, id: PartitionId) -> Option<&Hosted> {
        self.process.as_ref()?.hosted.get(&id)
    }

    /// The same, to change it.
    pub fn hosted_mut(&mut self, id: PartitionId) -> Option<&mut Hosted> {
        self.process.as_mut()?.hosted.get_mut(&id)
    }

    /// Whether a process runs and is not paused.
    pub fn is_awake(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.paused.is_none())
    }
}
