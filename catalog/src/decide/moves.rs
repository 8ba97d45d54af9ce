//! What comes next on the way of partitions that move, and of leaves that go: one look, a few commands.
//!
//! Nothing is remembered but how long something takes: a new master looks at the catalog and goes on.
//!
//! | what is there | what is done |
//! |---|---|
//! | a move that has not begun, and fewer than `at_once` are under way | its copies are added |
//! | a copy that is not in the set yet | the primary feeds it, and proposes it by itself: wait |
//! | all copies, and another one shall lead | a hand-over, below |
//! | all copies, and the right one leads | the copies that are not wanted are taken away: the move is over |
//! | a wanted leaf that is silent for long | the move is given up; what was added is taken away |
//! | a leaf that is being removed | a plan for what is on it and does not move yet; nothing is left: it goes |
//! | … with FORCE, or one that is detached | it hands over what it leads, and is taken out of the sets; with FORCE its copies are no longer held |
//!
//! **A hand-over** costs clients a pause and no error. First the partition drains: the catalog tells its primary to take no
//! transaction that has not written there yet; the aggregators wait and ask again. When the primary reports, after it has
//! obeyed, that no transaction is under way, another member of its set is named; it lacks nothing, for nothing commits
//! without it. If transactions stay open, the hand-over is abandoned before anybody loses patience, and tried again later;
//! with KILL the next primary is named all the same, and they are rolled back. With ASYNC REPLICATION the next one is not in
//! the set: the partition is sealed as well, which with KILL rolls them back, and the next one is named when it holds all up
//! to the final position.

use std::collections::{BTreeMap, BTreeSet};

use types::{Epoch, Lsn, Member, NodeId, PartitionId, Reign, Revision};

use super::balance;
use super::failover::Bits;
use super::heard::Heard;
use crate::command::{Command, LeafChange, Loss, NamePrimary, PlanMoves, SetChange};
use crate::movement::{Move, Reason};
use crate::node::Standing;
use crate::partition::{Handover, Partition};
use crate::state::State;

/// How fast partitions move. Times are nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most moves that are under way at a time.
    pub at_once: usize,
    /// Silence of this length is a failure.
    pub failure_timeout: u64,
    /// How long a partition drains before it takes writes again; less than statements wait for a primary.
    pub drain: u64,
    /// With KILL: how long transactions have to end.
    pub kill_after: u64,
    /// How long it is left alone after that, at first: each time twice as long, up to eight times. Those who write to it wait
    /// while it drains.
    pub rest: u64,
    /// A move to a leaf that is silent for so long is given up.
    pub give_up: u64,
    /// ASYNC REPLICATION: a copy that lacks fewer records than this has caught up.
    pub near: u64,
    /// A planted bug, for tests of the tests alone.
    pub planted: Option<Planted>,
}

impl Pace {
    /// What a region goes by. `failure_timeout` is in nanoseconds.
    pub fn new(at_once: usize, failure_timeout: u64) -> Pace {
        const SECOND: u64 = 1_000_000_000;
        Pace {
            at_once,
            failure_timeout,
            drain: 3 * SECOND,
            kill_after: SECOND,
            rest: 5 * SECOND,
            give_up: 60 * SECOND,
            near: 1000,
            planted: None,
        }
    }
}

/// A rule left out on purpose: the tests of moves must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// The next primary is named although transactions are under way at the present one.
    HandOverBusy,
    /// ASYNC REPLICATION: the next primary is named although the present one may hold more, or goes on writing.
    HandOverUnsealed,
}

/// What a copy's leaf said last of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Its replicas had obeyed the catalog up to here.
    pub obeyed: Revision,
    /// The reign that the copy answers.
    pub reign: Reign,
    /// The epoch of its last record.
    pub epoch: Option<Epoch>,
    /// Its log's end.
    pub appended: Lsn,
    /// What of it is on disk.
    pub durable: Lsn,
    /// A rewind or a copy is under way.
    pub repairing: bool,
    /// It leads: whether a transaction is under way.
    pub busy: Option<bool>,
    /// It leads, under a seal, and nothing is under way.
    pub final_position: Option<Lsn>,
}

/// What was heard, for one look.
pub struct Ear<'a> {
    /// Who lives.
    pub heard: &'a Heard,
    /// What the present process of a node said of its copy.
    pub copy: &'a dyn Fn(PartitionId, Member) -> Option<Copy>,
    /// Nanoseconds on the leader's clock.
    pub now: u64,
}

/// How long things take: of one leader.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Since when a partition drains, by the revision at which that began.
    drains: BTreeMap<PartitionId, (Revision, u64)>,
    /// Until when one is left alone, and for how long.
    rests: BTreeMap<PartitionId, (u64, u64)>,
    /// The state and the leaves for which nothing could be planned.
    stuck: BTreeMap<NodeId, (Revision, BTreeSet<NodeId>)>,
}

/// The leader's next steps.
pub fn decide(state: &State, ear: &Ear<'_>, memory: &mut Memory, pace: &Pace, bits: Bits<'_>) -> Vec<Command> {
    memory.drains.retain(|id, (since, _)| {
        let handover = state.partitions.get(id).and_then(|held| held.handover);
        handover.is_some_and(|handover| handover.draining == *since)
    });
    memory.rests.retain(|_, (until, length)| ear.now < until.saturating_add(*length));
    memory.stuck.retain(|node, _| matches!(state.nodes[node].standing, Standing::Draining { .. }));
    let mut look = Look { state, ear, memory, pace, bits, commands: Vec::new(), led: BTreeSet::new() };
    look.leaves();
    look.moves();
    look.strays();
    look.commands
}

/// Leaves that were heard of late.
pub fn there(state: &State, heard: &Heard, now: u64, failure_timeout: u64) -> BTreeSet<NodeId> {
    let heard = |node: &NodeId| state.member(*node).is_some_and(|member| heard.hears(member, now, failure_timeout));
    state.nodes.iter().filter(|(_, node)| node.holds_replicas()).map(|(id, _)| *id).filter(heard).collect()
}

/// One look at everything that is on its way.
struct Look<'a, 'b> {
    state: &'a State,
    ear: &'a Ear<'a>,
    memory: &'a mut Memory,
    pace: &'a Pace,
    bits: Bits<'b>,
    commands: Vec<Command>,
    /// Partitions whose hand-over somebody wants.
    led: BTreeSet<PartitionId>,
}

impl Look<'_, '_> {
    fn hears(&self, node: NodeId) -> bool {
        let member = self.state.member(node);
        member.is_some_and(|member| self.ear.heard.hears(member, self.ear.now, self.pace.failure_timeout))
    }

    /// What the present process of a node says of its copy.
    fn copy(&self, id: PartitionId, node: NodeId) -> Option<Copy> {
        (self.ear.copy)(id, self.state.member(node)?)
    }

    fn is_sync(&self, id: PartitionId) -> bool {
        self.state.databases[&id.database].mode.sync_replication
    }

    // ---- leaves that go

    fn leaves(&mut self) {
        let state = self.state;
        for (id, node) in state.nodes.iter().filter(|(_, node)| node.holds_replicas()) {
            match node.standing {
                Standing::Joining | Standing::Online => {}
                Standing::Draining { force, .. } if state.is_drained(*id) => {
                    // It deletes its copies first, if it is there to do so.
                    let deleting = state.removals.range((*id, first())..).next().is_some_and(|((of, _), _)| of == id);
                    if node.roles.aggregator && (!deleting || force) {
                        self.commands.push(Command::ChangeLeaf { node: *id, change: LeafChange::Dismiss });
                    } else if !deleting || force || !self.hears(*id) {
                        self.commands.push(Command::RemoveNode { node: *id });
                    }
                }
                Standing::Draining { force: false, kill } => self.drain(*id, kill),
                Standing::Draining { force: true, kill } => self.let_go(*id, kill, true),
                Standing::Detached { kill } => self.let_go(*id, kill, false),
            }
        }
    }

    /// Plans moves for what is on a leaf that goes.
    fn drain(&mut self, leaf: NodeId, kill: bool) {
        let state = self.state;
        let moves = |id: &PartitionId| state.moves.get(id).is_some_and(|wanted| !wanted.replicas.contains(&leaf));
        if state.partitions.held_by(leaf).all(|(id, _)| moves(&id)) {
            return;
        }
        let there = there(state, self.ear.heard, self.ear.now, self.pace.failure_timeout);
        let known = (state.revision, there);
        if self.memory.stuck.get(&leaf) == Some(&known) {
            return;
        }
        match balance::evacuate(state, leaf, &known.1) {
            Ok(moves) if !moves.is_empty() => {
                self.commands.push(Command::PlanMoves(PlanMoves { moves, reason: Reason::Drain, kill }));
            }
            _ => drop(self.memory.stuck.insert(leaf, known)),
        }
    }

    /// Nobody waits for a leaf any more; with `forget`, it holds nothing any more.
    fn let_go(&mut self, leaf: NodeId, kill: bool, forget: bool) {
        let state = self.state;
        for (id, partition) in state.partitions.held_by(leaf) {
            if partition.primary.node == leaf {
                if let Some(to) = self.successor(id, partition) {
                    self.hand_over(id, partition, to, kill);
                }
                continue;
            }
            match partition.members.iter().find(|member| member.node == leaf) {
                Some(member) => self.commands.push(Command::ProposeSet {
                    partition: id,
                    reign: partition.reign,
                    version: partition.version,
                    change: SetChange::Remove(*member),
                }),
                None if forget && partition.handover.is_none_or(|handover| handover.to != leaf) => {
                    self.commands.push(Command::RemoveReplica { partition: id, node: leaf });
                }
                None => {}
            }
        }
    }

    /// Who can take over a partition: the leaf that leads least.
    fn successor(&self, id: PartitionId, partition: &Partition) -> Option<NodeId> {
        if let Some(handover) = partition.handover.filter(|handover| self.may_lead(id, partition, handover.to)) {
            return Some(handover.to);
        }
        let leads = |node: NodeId| self.state.partitions.count_led_on(node);
        let others = partition.replicas.iter().copied().filter(|node| self.may_lead(id, partition, *node));
        others.min_by_key(|node| (leads(*node), *node))
    }

    fn may_lead(&self, id: PartitionId, partition: &Partition, node: NodeId) -> bool {
        let stays = node != partition.primary.node && self.state.nodes[&node].takes_replicas() && self.hears(node);
        stays
            && match self.is_sync(id) {
                true => self.is_member(partition, node),
                // A sink cannot be sealed: what its source sends may reach the present primary alone.
                false => !self.state.databases[&id.database].is_sink() && self.is_near(id, partition, node),
            }
    }

    fn is_member(&self, partition: &Partition, node: NodeId) -> bool {
        self.state.member(node).is_some_and(|member| partition.members.contains(&member))
    }

    /// Whether a copy is where its primary is, or nearly so.
    fn is_near(&self, id: PartitionId, partition: &Partition, node: NodeId) -> bool {
        if partition.primary.node == node {
            return true;
        }
        let Some(primary) = self.copy(id, partition.primary.node) else { return false };
        let near = |copy: Copy| !copy.repairing && copy.durable.0 + self.pace.near >= primary.appended.0;
        self.copy(id, node).is_some_and(near)
    }

    // ---- moves

    fn moves(&mut self) {
        let state = self.state;
        let under_way = |(_, wanted): &(&PartitionId, &Move)| {
            wanted.begun.is_some() && wanted.replicas.iter().all(|node| self.hears(*node))
        };
        let mut free = self.pace.at_once.saturating_sub(state.moves.iter().filter(under_way).count());
        let mut waiting: Vec<(&PartitionId, &Move)> = Vec::new();
        for (id, wanted) in &state.moves {
            if let Some(silent) = wanted.replicas.iter().find(|node| self.is_given_up(**node)) {
                let reason = format!("leaf {} is silent", state.nodes[silent].addresses.rpc);
                self.commands.push(Command::GiveUpMove { partition: *id, reason });
            } else if wanted.begun.is_some() {
                self.step(*id, wanted);
            } else {
                waiting.push((id, wanted));
            }
        }
        waiting.sort_by_key(|(id, wanted)| (wanted.ordered, **id));
        for (id, wanted) in waiting {
            let ready =
                wanted.replicas.iter().all(|node| self.hears(*node) && !state.removals.contains_key(&(*node, *id)));
            if free > 0 && ready {
                free -= 1;
                self.commands.push(Command::BeginMove { partition: *id });
            }
        }
    }

    fn is_given_up(&self, node: NodeId) -> bool {
        let heard = self.ear.heard;
        let last = heard.last_seen(node).unwrap_or_default().max(heard.elected());
        !self.hears(node) && self.ear.now.saturating_sub(last) > self.pace.give_up
    }

    fn step(&mut self, id: PartitionId, wanted: &Move) {
        let partition = &self.state.partitions[&id];
        let held = |node: &NodeId| match self.is_sync(id) {
            true => self.is_member(partition, *node),
            false => self.is_near(id, partition, *node),
        };
        if !wanted.replicas.iter().all(held) {
            return;
        }
        if partition.primary.node != wanted.primary {
            // REMOVE LEAF may have been repeated with KILL since the move was planned.
            let standing = self.state.nodes[&partition.primary.node].standing;
            let kill = wanted.kill || matches!(standing, Standing::Draining { kill: true, .. });
            self.hand_over(id, partition, wanted.primary, kill);
            return;
        }
        let (reign, version) = (partition.reign, partition.version);
        self.commands.push(Command::FinishMove { partition: id, reign, version });
    }

    // ---- hand-overs

    /// Hand-overs that nobody wants any more: the move was given up, or the leaf stays after all.
    fn strays(&mut self) {
        for (id, _) in self.state.partitions.handed_over() {
            if !self.led.contains(&id) {
                self.commands.push(Command::AbandonHandover { partition: id });
            }
        }
    }

    fn hand_over(&mut self, id: PartitionId, partition: &Partition, to: NodeId, kill: bool) {
        if !self.led.insert(id) {
            return;
        }
        let able = self.hears(partition.primary.node) && self.may_lead(id, partition, to);
        let reign = partition.reign;
        match partition.handover {
            None if able && (kill || !self.rests(id)) => {
                self.commands.push(Command::HandOver { partition: id, reign, to });
            }
            None => {}
            Some(handover) if !able || handover.to != to => {
                self.commands.push(Command::AbandonHandover { partition: id });
            }
            Some(handover) => self.go_on(id, partition, handover, kill),
        }
    }

    /// The partition drains.
    fn go_on(&mut self, id: PartitionId, partition: &Partition, handover: Handover, kill: bool) {
        let now = self.ear.now;
        let (_, since) = *self.memory.drains.entry(id).or_insert((handover.draining, now));
        let lasts = now.saturating_sub(since);
        let (reign, sync) = (partition.reign, self.is_sync(id));
        let obeyed = handover.sealed.unwrap_or(handover.draining);
        let primary = self.copy(id, partition.primary.node);
        let primary = primary.filter(|copy| copy.obeyed >= obeyed && copy.reign == reign);
        let ignored = self.pace.planted == Some(Planted::HandOverBusy);
        let quiet = primary.is_some_and(|copy| copy.busy == Some(false) || ignored);
        let killed = kill && lasts > self.pace.kill_after;
        let command = match primary {
            Some(_) if sync && (quiet || killed) => {
                Some(self.name(id, partition, handover.to, self.living(id, partition)))
            }
            Some(primary) if !sync && self.holds_all(id, primary, handover.to) && quiet => {
                Some(self.name(id, partition, handover.to, BTreeSet::new()))
            }
            Some(_) if !sync && handover.sealed.is_none() && (quiet || killed) => {
                Some(Command::SealHandover { partition: id, reign })
            }
            _ => None,
        };
        if let Some(command) = command {
            self.commands.push(command);
        } else if lasts > self.pace.drain {
            let last = self.memory.rests.get(&id).map(|(_, length)| length.saturating_mul(2));
            let length = last.unwrap_or(self.pace.rest).min(self.pace.rest.saturating_mul(8));
            self.memory.rests.insert(id, (now + length, length));
            self.commands.push(Command::AbandonHandover { partition: id });
        }
    }

    /// Whether its transactions did not end in time, so that it is left alone for a while.
    fn rests(&self, id: PartitionId) -> bool {
        self.memory.rests.get(&id).is_some_and(|(until, _)| self.ear.now < *until)
    }

    /// Whether a copy has everything that a sealed primary has.
    fn holds_all(&self, id: PartitionId, primary: Copy, node: NodeId) -> bool {
        let end = primary.final_position;
        let sealed = self.state.partitions[&id].handover.is_some_and(|handover| handover.sealed.is_some());
        if self.pace.planted == Some(Planted::HandOverUnsealed) {
            return sealed;
        }
        let copy = self.copy(id, node).filter(|copy| !copy.repairing && copy.epoch == primary.epoch);
        sealed && copy.is_some_and(|copy| Some(copy.appended) == end && Some(copy.durable) == end)
    }

    /// Members that live and are whole: the set of the next reign.
    fn living(&self, id: PartitionId, partition: &Partition) -> BTreeSet<Member> {
        let lives = |member: &Member| {
            let heard = self.ear.heard;
            heard.hears(*member, self.ear.now, self.pace.failure_timeout) && heard.damaged_since(id, *member).is_none()
        };
        let present = |member: &Member| self.state.member(member.node) == Some(*member);
        partition.members.iter().copied().filter(present).filter(lives).collect()
    }

    fn name(&mut self, id: PartitionId, partition: &Partition, to: NodeId, mut members: BTreeSet<Member>) -> Command {
        let primary = self.state.member(to).expect("it was heard");
        members.insert(primary);
        Command::NamePrimary(NamePrimary {
            partition: id,
            reign: partition.reign,
            version: partition.version,
            primary,
            members,
            nonce: (self.bits)(),
            received_epoch: 0,
            loss: Loss::None,
        })
    }
}

/// Before every partition.
fn first() -> PartitionId {
    PartitionId { database: types::DatabaseId(0), ordinal: types::Ordinal(i32::MIN) }
}
