//! What the leader has heard. Volatile: a new leader starts with nothing, and counts silence from its election.

use std::collections::{BTreeMap, BTreeSet};

use types::{Incarnation, LogEnd, Mark, Member, NodeId, PartitionId, Revision};

use crate::state::RECEIVED_MAX;

/// A replica's answer to the question where its log ends. It has synced its log before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which process answered.
    pub member: Member,
    /// When it arrived, in nanoseconds on the leader's clock.
    pub at: u64,
    /// The end of its log.
    pub end: LogEnd,
    /// Where each epoch of its log has its last record, oldest first: the last one is the end.
    pub epochs: Vec<LogEnd>,
    /// The mark that is on its disk, with the list of promotions that it belongs to; of time zero if it keeps none.
    pub mark: Mark,
    /// The first process of its node since the machine has had its power: what this one and those after it handed to the
    /// operating system is in the log.
    pub powered_since: Incarnation,
}

#[derive(Clone, Copy, Debug)]
struct Process {
    incarnation: Incarnation,
    at: u64,
}

/// What one leader has heard since its election. Times are nanoseconds on its clock, which runs through suspend.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    elected: u64,
    /// Nobody but this leader has told anybody what was decided above this.
    decided: Option<Revision>,
    /// By node: the process that was told last, and up to where.
    told: BTreeMap<NodeId, (Incarnation, Revision)>,
    nodes: BTreeMap<NodeId, Process>,
    gone: BTreeSet<Member>,
    answered: BTreeMap<NodeId, Process>,
    reports: BTreeMap<(PartitionId, NodeId), Report>,
    /// Replicas that cannot be believed, as their process said last, and since when.
    damaged: BTreeMap<(PartitionId, Member), u64>,
    epoch_number: u64,
}

impl Heard {
    /// A leader elected now has heard nobody.
    pub fn new(elected: u64) -> Heard {
        Heard { elected, ..Heard::default() }
    }

    /// The catalog was at this revision when it was elected. Unless that is said, an earlier leader may have told all.
    #[must_use]
    pub fn elected_at(self, decided: Revision) -> Heard {
        Heard { decided: Some(decided), ..self }
    }

    /// A process is told what the catalog has decided up to here. Noted before the answer is sent.
    pub fn told(&mut self, member: Member, decided: Revision) {
        let told = self.told.entry(member.node).or_insert((member.incarnation, decided));
        *told = (*told).max((member.incarnation, decided));
    }

    /// Whether a process has ended before anybody told it what was decided at `decided`. In doubt it was told: by an earlier
    /// leader, or before a later process of its node was.
    pub fn never_told(&self, member: Member, decided: Revision) -> bool {
        let told = self.told.get(&member.node).is_some_and(|told| *told >= (member.incarnation, decided));
        self.is_gone(member) && self.decided.is_some_and(|before| before < decided) && !told
    }

    /// A heartbeat of a process arrived. Every older process of its node is gone.
    pub fn heartbeat(&mut self, member: Member, now: u64) {
        let known = self.nodes.entry(member.node).or_insert(Process { incarnation: member.incarnation, at: now });
        if member.incarnation < known.incarnation {
            return;
        }
        *known = Process { incarnation: member.incarnation, at: now.max(known.at) };
        self.gone.retain(|gone| gone.node != member.node || gone.incarnation >= member.incarnation);
    }

    /// The answer to its heartbeat, with the catalog's word on its partitions, is sent. For ASYNC REPLICATION this is
    /// the lease of a primary alone in its set.
    pub fn answered(&mut self, member: Member, now: u64) {
        self.answered.insert(member.node, Process { incarnation: member.incarnation, at: now });
    }

    /// A proof that a process is gone: its host refused a connection attempt that began when it was known.
    pub fn proved_gone(&mut self, member: Member) {
        let newer = self.nodes.get(&member.node).is_some_and(|known| known.incarnation > member.incarnation);
        if !newer {
            self.gone.insert(member);
        }
    }

    /// These replicas of a process are damaged, and no others. What an older process of its node says late counts for nothing.
    pub fn damaged(&mut self, member: Member, damaged: BTreeSet<PartitionId>, now: u64) {
        if self.nodes.get(&member.node).is_some_and(|known| known.incarnation > member.incarnation) {
            return;
        }
        self.damaged.retain(|(id, of), _| of.node != member.node || *of == member && damaged.contains(id));
        for id in damaged {
            self.damaged.entry((id, member)).or_insert(now);
        }
    }

    /// Since when a replica of a process is damaged, if it is.
    pub fn damaged_since(&self, partition: PartitionId, member: Member) -> Option<u64> {
        self.damaged.get(&(partition, member)).copied()
    }

    /// Partitions of which a replica is damaged.
    pub fn damaged_ids(&self) -> impl Iterator<Item = PartitionId> {
        self.damaged.keys().map(|(id, _)| *id)
    }

    /// A replica said where its log ends.
    pub fn report(&mut self, partition: PartitionId, report: Report) {
        self.epoch(report.end.epoch_number);
        let newer = |known: &Report| known.member.incarnation > report.member.incarnation;
        if !self.reports.get(&(partition, report.member.node)).is_some_and(newer) {
            self.reports.insert((partition, report.member.node), report);
        }
    }

    /// A process holds a log with an epoch of this number. A sink's primaries say so with their heartbeats, so that what
    /// is minted after a promotion is above it. A number that no honest log can hold is not believed.
    pub fn epoch(&mut self, number: u64) {
        if number <= RECEIVED_MAX {
            self.epoch_number = self.epoch_number.max(number);
        }
    }

    /// The highest epoch number of any log.
    pub fn highest_epoch(&self) -> u64 {
        self.epoch_number
    }

    /// Forgets the reports of a partition: it has a primary, its logs grow.
    pub fn forget_reports(&mut self, partition: PartitionId) {
        let ids: Vec<_> =
            self.reports.range((partition, NodeId(0))..=(partition, NodeId(u64::MAX))).map(|(key, _)| *key).collect();
        for key in ids {
            self.reports.remove(&key);
        }
    }

    /// The processes that are proved gone, for the answers to heartbeats.
    pub fn gone(&self) -> &BTreeSet<Member> {
        &self.gone
    }

    /// Whether a process is proved gone.
    pub fn is_gone(&self, member: Member) -> bool {
        let newer = self.nodes.get(&member.node).is_some_and(|known| known.incarnation > member.incarnation);
        newer || self.gone.contains(&member)
    }

    /// Whether it was heard within `timeout`.
    pub fn hears(&self, member: Member, now: u64, timeout: u64) -> bool {
        let Some(known) = self.nodes.get(&member.node) else { return false };
        known.incarnation == member.incarnation && now.saturating_sub(known.at) <= timeout && !self.is_gone(member)
    }

    /// Whether nothing speaks against its life yet: heard within `timeout`, or not heard since a later election.
    pub fn may_live(&self, member: Member, now: u64, timeout: u64) -> bool {
        if self.is_gone(member) {
            return false;
        }
        let at = match self.nodes.get(&member.node) {
            Some(known) if known.incarnation == member.incarnation => known.at,
            _ => self.elected,
        };
        now.saturating_sub(at) <= timeout
    }

    /// The process of a node that was heard last.
    pub fn process(&self, node: NodeId) -> Option<Member> {
        self.nodes.get(&node).map(|known| Member { node, incarnation: known.incarnation })
    }

    /// When this leader was elected, in nanoseconds on its clock.
    pub fn elected(&self) -> u64 {
        self.elected
    }

    /// When a node was heard last, in nanoseconds on the leader's clock.
    pub fn last_seen(&self, node: NodeId) -> Option<u64> {
        self.nodes.get(&node).map(|known| known.at)
    }

    /// When this process was answered last; the election if never since.
    pub fn last_answer(&self, member: Member) -> u64 {
        match self.answered.get(&member.node) {
            Some(known) if known.incarnation == member.incarnation => known.at,
            _ => self.elected,
        }
    }

    /// What this process said about its log, if it did.
    pub fn report_of(&self, partition: PartitionId, member: Member) -> Option<&Report> {
        self.reports.get(&(partition, member.node)).filter(|report| report.member == member)
    }
}
