//! Partitions that move, and leaves that come and go, while everything else goes on.
//!
//! In some seeds the database has two copies of each partition, and not on all leaves. People order REBALANCE, REMOVE,
//! DETACH and ATTACH LEAF at random; the leader does what comes next (`catalog::decide::moves`) with what leaves have said. A
//! leaf opens a replica when a view names it, and deletes one on the catalog's order alone, before it confirms that.
//! Orders that arrive after newer ones place nothing: a real leaf has one question under way at a time.

use std::collections::{BTreeMap, BTreeSet};

use catalog::Command;
use catalog::command::{LeafChange, NamePrimary, PlanMoves, PlannedMove};
use catalog::decide::balance::{self, Aim};
use catalog::decide::moves::{self, Copy, Ear, Pace};
use catalog::movement::Reason;
use catalog::node::Standing;
use rand::Rng;
use types::{Member, NodeId, PartitionId, Revision, View};

use crate::checks::hand_over_quiet;
use crate::options::{FAILURE, MILLI, Planted};
use crate::say;
use crate::world::{Event, World};

/// Copies of each partition, where they move.
pub const COPIES: usize = 2;

/// What a leaf's heartbeat says for moves.
#[derive(Clone, Debug)]
pub struct Told {
    /// When it was said, in the world's time.
    pub at: u64,
    /// Its replicas have obeyed the catalog up to here.
    pub obeyed: Revision,
    /// What they are.
    pub copies: BTreeMap<PartitionId, Copy>,
    /// Copies that it has deleted, as ordered.
    pub removed: BTreeSet<PartitionId>,
}

impl World {
    // ---- a leaf

    /// What a node says of its replicas.
    pub(crate) fn told(&self, index: usize) -> Option<Box<Told>> {
        let process = self.nodes[index].process.as_ref().filter(|_| self.options.moves)?;
        let obeyed = process.leases.heartbeat(self.clock(index)).revision;
        let copy = |(id, hosted): (&PartitionId, &crate::node::Hosted)| {
            let status = hosted.replica.status();
            let copy = Copy {
                obeyed,
                reign: status.reign,
                epoch: status.lineage.last().map(|entry| entry.epoch),
                appended: status.appended,
                durable: status.cursors.durable,
                repairing: status.repairing || hosted.copying.is_some() || process.damaged.contains(id),
                busy: status.leading.as_ref().map(|leading| !leading.serving || leading.busy),
                final_position: status.leading.as_ref().and_then(|leading| leading.final_position),
            };
            (*id, copy)
        };
        let copies = process.hosted.iter().map(copy).collect();
        Some(Box::new(Told { at: self.now, obeyed, copies, removed: process.removed.clone() }))
    }

    /// Replicas that a node shall hold from now on, or no longer.
    pub(crate) fn place(&mut self, index: usize, revision: Revision, views: &[View], removals: &[PartitionId]) {
        let Some(process) = &mut self.nodes[index].process else { return };
        if !self.options.moves || revision < process.seen {
            return;
        }
        process.seen = revision;
        for view in views {
            self.open_replica(index, view.partition);
        }
        for id in removals {
            self.delete_replica(index, *id);
        }
    }

    fn open_replica(&mut self, index: usize, id: PartitionId) {
        let node = &mut self.nodes[index];
        let Some(process) = &mut node.process else { return };
        if process.hosted.contains_key(&id) {
            return;
        }
        process.removed.remove(&id);
        let log = node.disks.entry(id).or_default().log.clone();
        say!(self, "{} opens {id}", self.label(index));
        self.recover(index, id, log);
    }

    /// Nothing of it is left when this returns: what the process knows, what is on its way to the disk, and the disk.
    fn delete_replica(&mut self, index: usize, id: PartitionId) {
        let node = &mut self.nodes[index];
        let Some(process) = &mut node.process else { return };
        process.hosted.remove(&id);
        process.reports.remove(&id);
        process.damaged.remove(&id);
        process.removed.insert(id);
        node.journal.forget(id);
        if node.disks.remove(&id).is_some() {
            say!(self, "{} deletes {id}", self.label(index));
        }
    }

    // ---- the leader

    /// A heartbeat says what a leaf has, and what it has deleted.
    pub(crate) fn hear_told(&mut self, region: usize, member: Member, told: Told) {
        for partition in &told.removed {
            let (partition, node) = (*partition, member.node);
            if self.regions[region].catalog.removals.contains_key(&(node, partition)) {
                drop(self.decide(region, &Command::ReplicaGone { partition, node }));
            }
        }
        let said = &mut self.regions[region].said;
        let late =
            said.get(&member.node).is_some_and(|(of, known)| *of > member || *of == member && known.at > told.at);
        if !late {
            said.insert(member.node, (member, told));
        }
    }

    /// What comes next for partitions that move.
    pub(crate) fn lead_moves(&mut self, region: usize) {
        if !self.options.moves {
            return;
        }
        let (now, pace) = (self.now, pace(self.options.planted));
        let rng = &mut self.rng;
        let held = &mut self.regions[region];
        let said = &held.said;
        let copy = |id: PartitionId, member: Member| {
            said.get(&member.node).filter(|(of, _)| *of == member).and_then(|(_, told)| told.copies.get(&id).copied())
        };
        let ear = Ear { heard: &held.heard, copy: &copy, now };
        let commands = moves::decide(&held.catalog, &ear, &mut held.moves, &pace, &mut || rng.random());
        for command in commands {
            match &command {
                Command::NamePrimary(naming) => {
                    self.check_hand_over(region, naming);
                    self.name_primary(region, &command);
                }
                _ => drop(self.decide(region, &command)),
            }
        }
    }

    /// Whoever hands over has nothing under way that it had when it said last that nothing was.
    fn check_hand_over(&mut self, region: usize, naming: &NamePrimary) {
        let held = &self.regions[region];
        let partition = &held.catalog.partitions[&naming.partition];
        let current = partition.reign == naming.reign && partition.version == naming.version;
        let (old, kill) = (partition.primary, self.control.kills);
        let Some((_, told)) = held.said.get(&old.node).filter(|(of, _)| *of == old && current && !kill) else { return };
        let index = self.node_of(region, old.node);
        let lives = self.nodes[index].member() == old && self.nodes[index].replica(naming.partition).is_some();
        let since = self.checks.busy.get(&(index, naming.partition)).copied().filter(|_| lives);
        let result = hand_over_quiet::check(naming.partition, old, told.at, since);
        self.judge(hand_over_quiet::NAME, result);
    }

    /// Since when a primary has had transactions under way.
    pub(crate) fn note_busy(&mut self, index: usize, id: PartitionId) {
        if !self.options.moves {
            return;
        }
        let leading = self.nodes[index].replica(id).and_then(|replica| replica.status().leading);
        if leading.is_some_and(|leading| leading.busy) {
            let now = self.now;
            self.checks.busy.entry((index, id)).or_insert(now);
        } else {
            self.checks.busy.remove(&(index, id));
        }
    }

    // ---- people

    pub(crate) fn on_mover(&mut self, region: usize) {
        if self.healing {
            return;
        }
        let delay = self.pick(&[40, 150, 400]);
        self.after(delay * MILLI, Event::Mover(region));
        if !self.regions[region].reachable {
            return;
        }
        let (force, kill) = (self.chance(300), self.chance(200));
        let node = NodeId(self.between(1, self.regions[region].leaves as u64));
        match self.between(0, 9) {
            0..=4 => {
                let aim = self.pick(&[Aim::Restore, Aim::Balance, Aim::Balance, Aim::Full]);
                self.order_rebalance(region, aim, kill);
            }
            5 => self.order_removal(region, node, force, kill),
            6 => self.order_leaf(region, node, LeafChange::Detach { force, kill }),
            7 | 8 => self.attach_all(region),
            _ => self.order_leaf(region, node, LeafChange::Add { group: None }),
        }
    }

    /// REBALANCE PARTITIONS.
    pub fn order_rebalance(&mut self, region: usize, aim: Aim, kill: bool) {
        let held = &self.regions[region];
        let there = moves::there(&held.catalog, &held.heard, self.now, FAILURE * MILLI);
        if let Ok(moves) = balance::plan(&held.catalog, &[held.database], &there, aim)
            && !moves.is_empty()
        {
            self.order_moves(region, moves, kill);
        }
    }

    /// Every partition shall be led by another one of those that hold it.
    pub fn order_other_primaries(&mut self, region: usize) {
        let other = |(id, held): (&PartitionId, &catalog::partition::Partition)| {
            let primary = *held.replicas.iter().find(|node| **node != held.primary.node)?;
            let (based, replicas) = (held.replicas.clone(), held.replicas.clone());
            Some(PlannedMove { partition: *id, based, replicas, primary })
        };
        let moves = self.regions[region].catalog.partitions.iter().filter_map(other).collect();
        self.order_moves(region, moves, false);
    }

    fn order_moves(&mut self, region: usize, moves: Vec<PlannedMove>, kill: bool) {
        self.control.kills |= kill;
        drop(self.decide(region, &Command::PlanMoves(PlanMoves { moves, reason: Reason::Rebalance, kill })));
    }

    /// REMOVE LEAF, of one leaf in a history: the others must be enough for all copies.
    pub fn order_removal(&mut self, region: usize, node: NodeId, force: bool, kill: bool) {
        let nodes = &self.regions[region].catalog.nodes;
        let goes = nodes.values().any(|known| known.removed || matches!(known.standing, Standing::Draining { .. }));
        if !goes && nodes.len() > COPIES {
            self.order_leaf(region, node, LeafChange::Remove { force, kill });
        }
    }

    /// ADD, REMOVE, DETACH or ATTACH LEAF.
    pub fn order_leaf(&mut self, region: usize, node: NodeId, change: LeafChange) {
        self.control.kills |=
            matches!(change, LeafChange::Remove { kill: true, .. } | LeafChange::Detach { kill: true, .. });
        drop(self.decide(region, &Command::ChangeLeaf { node, change }));
    }

    /// ATTACH LEAF, of all that are detached.
    pub(crate) fn attach_all(&mut self, region: usize) {
        let nodes = self.regions[region].catalog.nodes.iter();
        let detached = |known: &catalog::node::Node| matches!(known.standing, Standing::Detached { .. });
        let nodes: Vec<NodeId> = nodes.filter(|(_, known)| detached(known)).map(|(id, _)| *id).collect();
        nodes.into_iter().for_each(|node| self.order_leaf(region, node, LeafChange::Attach));
    }

    // ---- the end

    /// What of a region is still on its way.
    pub(crate) fn moving(&self, region: usize) -> Option<String> {
        let catalog = &self.regions[region].catalog;
        if let Some((id, wanted)) = catalog.moves.iter().next() {
            return Some(format!("{id} is to move: {wanted:?}"));
        }
        if let Some((id, held)) = catalog.partitions.handed_over().next() {
            return Some(format!("{id} is about to change hands: {:?}", held.handover));
        }
        if let Some((node, id)) = catalog.removals.keys().next() {
            return Some(format!("node {node} has not deleted {id}"));
        }
        let goes = |known: &catalog::node::Node| matches!(known.standing, Standing::Draining { .. }) && !known.removed;
        let (node, known) = catalog.nodes.iter().find(|(_, known)| goes(known))?;
        Some(format!("node {node} is not removed yet: {:?}", known.standing))
    }
}

/// As the real one, scaled down with the other times.
fn pace(planted: Option<Planted>) -> Pace {
    Pace {
        at_once: 2,
        failure_timeout: FAILURE * MILLI,
        drain: 400 * MILLI,
        kill_after: 100 * MILLI,
        rest: 200 * MILLI,
        give_up: 1500 * MILLI,
        near: 20,
        planted: match planted {
            Some(Planted::HandOverBusy) => Some(moves::Planted::HandOverBusy),
            Some(Planted::HandOverUnsealed) => Some(moves::Planted::HandOverUnsealed),
            _ => None,
        },
    }
}
