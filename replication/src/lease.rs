//! Leases between two nodes: what lets a primary answer reads without asking, and what keeps a new one waiting.
//!
//! A lease belongs to the pair of nodes, not to a partition: one heartbeat serves every partition that the two share.
//! The receiver counts it from *sending* its request, the granter from answering it, so the receiver's ends first.
//!
//! - A member accepts a new reign of a partition only when every grant it gave while it knew an older one has run
//!   out, its receiver is proved gone, or has obeyed the catalog beyond the old reign. So nobody shows anything under a lease
//!   for the old reign once the new one is accepted.
//! - A heartbeat names the catalog revision up to which *all* replicas of its sender have obeyed. The answer excepts
//!   the partitions whose reign was granted at a higher revision: for those the sender may still believe an old one.
//!   The exceptions end by themselves when the sender has caught up with the catalog.
//! - A process that restarts behaves as if it had just granted to everyone. Its grants count only for primaries whose
//!   set names it: others may believe a reign older than what the process before had accepted.
//! - Gone is proved by a newer incarnation of the same node, or by a refused connection attempt that began when this
//!   incarnation was the known one. Silence proves nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{Incarnation, Member, NodeId, PartitionId, Reign, Revision};

use crate::{Instant, Planted, ReplicaOptions};

/// Asks the other node of a pair for its grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who asks.
    pub from: Member,
    /// On the asker's clock.
    pub sent: Instant,
    /// Every replica of the asker has obeyed the catalog up to here.
    pub revision: Revision,
}

/// The answer to a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// Who grants.
    pub from: Member,
    /// From the heartbeat.
    pub sent: Instant,
    /// Partitions that the grant is not for.
    pub except: Vec<PartitionId>,
}

/// A connection attempt that may prove a process gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The process that was known when the attempt began.
    pub of: Member,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    until: Instant,
    revision: Revision,
}

#[derive(Clone, Debug)]
struct Held {
    from: Member,
    /// The newest question that was answered.
    sent: Instant,
    until: Instant,
    /// Excepted partitions, each with the end of the last grant that was for it too.
    except: BTreeMap<PartitionId, Instant>,
}

/// Kept although the replica is deleted: an old primary that hears of nothing would get grants again if another copy came.
#[derive(Clone, Debug)]
struct Known {
    reign: Reign,
    revision: Revision,
    /// Grants for older reigns that had not run out when this one became known.
    open: BTreeMap<Member, Instant>,
}

/// One node's leases, given and held.
#[derive(Clone, Debug)]
pub struct Leases {
    me: Member,
    options: ReplicaOptions,
    granted: BTreeMap<Member, Grant>,
    granted_all_until: Option<Instant>,
    held: BTreeMap<NodeId, Held>,
    newest: BTreeMap<NodeId, Incarnation>,
    /// Every incarnation up to this one is gone.
    gone: BTreeMap<NodeId, Incarnation>,
    heard: BTreeMap<NodeId, Instant>,
    /// Up to here it listened to nobody.
    deaf_until: Instant,
    reigns: BTreeMap<PartitionId, Known>,
    revision: Revision,
}

impl Leases {
    /// The leases of a process that starts now. `first_start` = this node never ran before: it granted nothing.
    pub fn new(me: Member, options: ReplicaOptions, now: Instant, first_start: bool) -> Leases {
        let forgets = first_start || options.has(Planted::RestartForgets);
        Leases {
            me,
            granted_all_until: (!forgets).then(|| now + options.lease),
            options,
            granted: BTreeMap::new(),
            held: BTreeMap::new(),
            newest: BTreeMap::new(),
            gone: BTreeMap::new(),
            heard: BTreeMap::new(),
            deaf_until: Instant::default(),
            reigns: BTreeMap::new(),
            revision: Revision::default(),
        }
    }

    /// Whose leases these are.
    pub fn me(&self) -> Member {
        self.me
    }

    /// Every replica of this node has obeyed the catalog up to `revision`.
    pub fn obeyed(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// The heartbeat to send to every other node now.
    pub fn heartbeat(&self, now: Instant) -> Heartbeat {
        Heartbeat { from: self.me, sent: now, revision: self.revision }
    }

    /// Answers another node's heartbeat with a grant, and tells whether some reign waited for an older grant to that process
    /// to run out, and need not any more.
    pub fn on_heartbeat(&mut self, now: Instant, beat: &Heartbeat) -> (Granted, bool) {
        self.note(now, beat.from);
        let except = self.reigns.iter().filter(|(_, known)| known.revision > beat.revision).map(|(id, _)| *id);
        let except = if self.options.has(Planted::GrantsRenewed) { vec![] } else { except.collect() };
        let revision = self.granted.get(&beat.from).map_or(beat.revision, |grant| grant.revision.max(beat.revision));
        self.granted.insert(beat.from, Grant { until: now + self.options.lease, revision });
        let any = self.options.has(Planted::HeartbeatVoids);
        let mut freed = false;
        for known in self.reigns.values_mut().filter(|known| known.revision <= revision || any) {
            freed |= known.open.remove(&beat.from).is_some();
        }
        (Granted { from: self.me, sent: beat.sent, except }, freed)
    }

    /// Counts a grant, from the time its request was sent.
    pub fn on_granted(&mut self, now: Instant, granted: &Granted) {
        self.note(now, granted.from);
        let start = if self.options.has(Planted::LeaseFromReceipt) { now } else { granted.sent };
        let until = start + self.options.counted(self.options.lease);
        let none = Held { from: granted.from, sent: granted.sent, until: Instant::default(), except: BTreeMap::new() };
        let held = self.held.entry(granted.from.node).or_insert_with(|| none.clone());
        // A late answer, of an older process or to an older question, does not know what newer ones except.
        if (granted.from.incarnation, granted.sent) < (held.from.incarnation, held.sent) {
            return;
        }
        if granted.from != held.from {
            *held = none;
        }
        let frozen = |id: &PartitionId| held.except.get(id).copied().unwrap_or(held.until);
        let except = granted.except.iter().map(|id| (*id, frozen(id))).collect();
        *held = Held { from: granted.from, sent: granted.sent, until: held.until.max(until), except };
    }

    /// Somebody was heard: every older incarnation of that node is gone.
    pub fn note(&mut self, now: Instant, member: Member) {
        let newest = self.newest.entry(member.node).or_insert(member.incarnation);
        *newest = (*newest).max(member.incarnation);
        if member.incarnation.0 > 0 {
            self.mark_gone(Member { node: member.node, incarnation: Incarnation(member.incarnation.0 - 1) });
        }
        self.heard.insert(member.node, now);
    }

    /// The connection to a node closed: what a refused attempt to connect, beginning now, would prove.
    pub fn on_closed(&mut self, node: NodeId) -> Option<Probe> {
        let of = Member { node, incarnation: *self.newest.get(&node)? };
        if self.options.has(Planted::ClosedIsDeath) {
            self.mark_gone(of);
        }
        Some(Probe { of })
    }

    /// The attempt was refused by a host that is up.
    pub fn on_refused(&mut self, probe: Probe) {
        let late = self.newest.get(&probe.of.node).copied().filter(|_| self.options.has(Planted::RefusedLate));
        self.mark_gone(Member { incarnation: late.unwrap_or(probe.of.incarnation), ..probe.of });
    }

    /// A proof that a process and those before it are gone, own or learnt from the catalog.
    pub fn mark_gone(&mut self, member: Member) {
        let gone = self.gone.entry(member.node).or_default();
        *gone = (*gone).max(member.incarnation);
    }

    /// Whether a process is proved gone.
    pub fn is_gone(&self, member: Member) -> bool {
        self.gone.get(&member.node).is_some_and(|gone| *gone >= member.incarnation)
    }

    /// The newest process of each node that is proved gone, for the catalog.
    pub fn proved_gone(&self) -> impl Iterator<Item = Member> {
        self.gone.iter().map(|(node, incarnation)| Member { node: *node, incarnation: *incarnation })
    }

    /// The newest process of a node that was heard of.
    pub fn newest(&self, node: NodeId) -> Option<Member> {
        self.newest.get(&node).map(|incarnation| Member { node, incarnation: *incarnation })
    }

    /// Up to now this process has listened to nobody: nobody's silence before tells anything.
    pub fn deaf(&mut self, now: Instant) {
        self.deaf_until = self.deaf_until.max(now);
    }

    /// When a node was last heard, or could first have been after this process had not listened.
    pub fn heard(&self, node: NodeId) -> Option<Instant> {
        self.heard.get(&node).map(|at| self.deaf_until.max(*at))
    }

    /// A reign became known, from the catalog or from its primary's frames. Older reigns get no grant from here on.
    pub fn learn(&mut self, now: Instant, id: PartitionId, reign: Reign, revision: Revision, primary: Member) {
        if self.reigns.get(&id).is_some_and(|known| known.reign >= reign) {
            return;
        }
        let mut open: BTreeMap<Member, Instant> = self.reigns.remove(&id).map(|known| known.open).unwrap_or_default();
        for (member, grant) in &self.granted {
            if grant.revision < revision {
                let until = open.entry(*member).or_default();
                *until = (*until).max(grant.until);
            } else {
                open.remove(member);
            }
        }
        open.retain(|member, until| *until >= now && *member != primary);
        self.reigns.insert(id, Known { reign, revision, open });
    }

    /// Whether the reign of `id` that was learnt last may be accepted: no grant for an older one is out.
    pub fn may_accept(&self, now: Instant, id: PartitionId) -> bool {
        if self.options.has(Planted::OrderAlone) {
            return true;
        }
        let known = self.reigns.get(&id);
        let closed = |(member, until): (&Member, &Instant)| *until < now || self.is_gone(*member);
        self.granted_all_until.is_none_or(|until| until < now)
            && known.is_none_or(|known| known.open.iter().all(closed))
    }

    /// Until when a member's grant lets this node answer for a partition. Another process of its node does not count: it
    /// need not know yet what the member has accepted.
    pub fn held_until(&self, id: PartitionId, member: Member) -> Instant {
        let held = self.held.get(&member.node).filter(|held| held.from == member);
        held.map_or(Instant::default(), |held| held.except.get(&id).copied().unwrap_or(held.until))
    }
}
