//! Disks that fail: syncs that end in an error, disks that are full, records that rot.
//!
//! | fault | what the host does |
//! |---|---|
//! | a sync fails | it tells every replica, which give up, and ends the process: nothing after the last good sync is believed |
//! | the disk is nearly full | writes of clients are refused |
//! | the disk is full | nothing is written until there is room |
//! | a record rots, found by a start or by a scrub | the replica is opened knowing that it holds nothing, and is reported as damaged until it has a copy *and* is no member |
//!
//! A record rots only where another member has it: with no other copy the partition would refuse for good.

use std::collections::{BTreeMap, BTreeSet};

use replication::Input;
use types::entry::Entry;
use types::{Member, PartitionId, View};

use crate::options::{MILLI, Planted};
use crate::say;
use crate::world::{Event, Local, World};

impl World {
    // ---- syncs

    /// A sync has ended in an error. What the system held of it may be gone.
    pub(crate) fn on_sync_failed(&mut self, index: usize) {
        say!(self, "{} cannot sync its log", self.label(index));
        let Some(process) = &mut self.nodes[index].process else { return };
        process.log_failed = true;
        let ids: Vec<PartitionId> = process.hosted.keys().copied().collect();
        for id in ids {
            self.feed(index, id, Input::LogFailed { reason: "a sync has failed".into() });
        }
        let keep = self.between(self.nodes[index].journal.durable, self.nodes[index].journal.written);
        self.stop(index, false);
        let kept = self.options.has(Planted::TornTailKept);
        self.nodes[index].journal.cut(keep, kept);
        self.nodes[index].power_lost = true;
        let rest = self.between(5, 200);
        self.after(rest * MILLI, Event::Start(index));
    }

    // ---- room

    /// The disk has no room for so many milliseconds: for clients, or for anybody.
    pub(crate) fn fill(&mut self, index: usize, whole: bool, duration: u64) {
        let node = &mut self.nodes[index];
        node.full_until = self.now + duration * MILLI;
        node.full = whole;
    }

    /// Nanoseconds until the journal can be written.
    pub(crate) fn stalled(&self, index: usize) -> Option<u64> {
        let node = &self.nodes[index];
        node.full_until.checked_sub(self.now).filter(|left| node.full && *left > 0)
    }

    /// Whether this node refuses the writes of clients.
    pub(crate) fn is_full(&self, index: usize) -> bool {
        self.nodes[index].full_until > self.now
    }

    // ---- rot

    /// A record of one of its partitions rots. It is found by a scrub, or when the process starts again.
    pub(crate) fn rot(&mut self, index: usize, which: u64, scrubbed: bool, rest: u64) {
        let ids: Vec<PartitionId> = self.nodes[index].disks.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[which as usize % ids.len()];
        if !self.may_rot(index, id) || self.nodes[index].process.is_none() {
            return;
        }
        say!(self, "a record of {id} rots at {}", self.label(index));
        let leads = self.nodes[index].replica(id).is_some_and(|replica| replica.reign_led().is_some());
        let node = &mut self.nodes[index];
        node.disks.entry(id).or_default().rots = true;
        let busy = node.hosted(id).is_none_or(|hosted| !hosted.timestamps.is_empty() || hosted.copying.is_some());
        if scrubbed && !busy && !leads && node.is_awake() {
            self.find_rot(index, id);
            self.reopen(index, id);
        } else {
            self.fail_node(index, false, rest);
        }
    }

    /// A record that rots is found; it does not, where nobody else has the replica any more.
    pub(crate) fn find_rot(&mut self, index: usize, id: PartitionId) {
        let rots = std::mem::take(&mut self.nodes[index].disks.entry(id).or_default().rots);
        if rots && self.may_rot(index, id) {
            say!(self, "{} finds that {id} is damaged", self.label(index));
            let disk = self.nodes[index].disks.entry(id).or_default();
            (disk.rotten, disk.found) = (true, self.now);
        }
    }

    /// Whether another member of the set has what this replica loses.
    fn may_rot(&self, index: usize, id: PartitionId) -> bool {
        let node = &self.nodes[index];
        let partition = &self.regions[node.region].catalog.partitions[&id];
        let whole = |member: &&Member| {
            let other = self.node_of(node.region, member.node);
            other != index && self.nodes[other].disks.get(&id).is_some_and(|disk| !disk.rotten)
        };
        let primary_alone = partition.primary.node == node.id && partition.members.len() == 1;
        !node.disks[&id].rotten
            && !partition.incomplete
            && !primary_alone
            && partition.members.iter().any(|m| whole(&m))
    }

    /// A replica is opened anew in a process that runs: it knows that it holds nothing.
    pub(crate) fn reopen(&mut self, index: usize, id: PartitionId) {
        let Some(old) = self.nodes[index].process.as_mut().and_then(|process| process.hosted.remove(&id)) else {
            return;
        };
        // The log is the node's, and goes on.
        self.recover(index, id, old.log);
        if let Some(hosted) = self.nodes[index].hosted_mut(id) {
            // What is under way for the replica before is not for this one.
            hosted.copies = old.copies + 1;
            (hosted.notes, hosted.notes_before) = (old.notes, old.notes);
        }
    }

    /// The replicas that a process reports as damaged.
    pub(crate) fn damaged(&mut self, index: usize) -> BTreeSet<PartitionId> {
        let node = &mut self.nodes[index];
        let Some(process) = &mut node.process else { return BTreeSet::new() };
        let heals = |id: &PartitionId| {
            let hosted = &process.hosted[id];
            !node.disks[id].rotten && hosted.copying.is_none() && !hosted.replica.status().repairing
        };
        let healed: Vec<PartitionId> = process.damaged.iter().copied().filter(heals).collect();
        process.damaged.retain(|id| !healed.contains(id));
        let damaged = process.damaged.clone();
        for id in healed {
            say!(self, "{} {id} is whole again", self.label(index));
        }
        if self.options.has(Planted::DamageUntold) { BTreeSet::new() } else { damaged }
    }

    /// What a host must know of the catalog's word on one of its replicas.
    pub(crate) fn heed(&mut self, index: usize, view: &View) {
        let me = self.nodes[index].member();
        let leads_sink = view.primary == me && matches!(view.role, types::Role::Sink { .. });
        if let Some(hosted) = self.nodes[index].hosted_mut(view.partition) {
            hosted.leads_sink = leads_sink.then_some((view.reign, view.version));
        }
    }

    /// Whether a partition has lost every copy that its set counts on: it refuses for good, and says so.
    pub(crate) fn has_lost_all(&self, region: usize, id: PartitionId) -> bool {
        let partition = &self.regions[region].catalog.partitions[&id];
        let lost = |member: &Member| {
            let disks = &self.nodes[self.node_of(region, member.node)].disks;
            disks.get(&id).is_some_and(|disk| disk.rotten)
        };
        partition.members.iter().all(lost)
    }

    /// Disks are as they should be from now on.
    pub(crate) fn heal_disks(&mut self) {
        for node in &mut self.nodes {
            (node.sync_fails, node.sync_min, node.full_until) = (false, 0, 0);
        }
    }

    /// The disk's word on a sync that began: an error, if that was to come.
    pub(crate) fn fails_to_sync(&mut self, index: usize, to: u64) -> bool {
        let fails = std::mem::take(&mut self.nodes[index].sync_fails);
        if fails && self.options.has(Planted::SyncRetried) {
            self.believe(index, to);
        } else if fails {
            self.later(index, 0, Local::SyncFailed);
        }
        fails
    }

    /// A planted bug: the sync is repeated, and says that all is well, for the system has forgotten what it could not write.
    fn believe(&mut self, index: usize, to: u64) {
        let node = &mut self.nodes[index];
        let mut ends = BTreeMap::new();
        for op in node.journal.unsynced(to) {
            let end = match &op.entry {
                Entry::Record(record) => record.lsn,
                _ => node.disks.get(&op.partition).map_or(types::Lsn::ZERO, |disk| disk.log.end()),
            };
            let known = ends.entry(op.partition).or_insert((end, op.notes));
            *known = (known.0.max(end), op.notes);
        }
        if let Some(process) = &mut node.process {
            process.syncing = None;
        }
        self.later(index, 0, Local::Synced { ends });
    }
}
