//! Moves begin, end, and are given up. See [`crate::movement`].

use std::collections::{BTreeMap, BTreeSet};

use types::{DatabaseId, NodeId, PartitionId, Reign, SetVersion};

use super::sets::expect_position;
use super::{ALREADY, Applying, DONE};
use crate::command::{PlanMoves, PlannedMove};
use crate::event::Severity;
use crate::movement::{Move, Reason};
use crate::outcome::Refusal;
use crate::partition::{Handover, Partition};
use crate::state::{About, State};

impl State {
    pub(super) fn plan_moves(&mut self, plan: &PlanMoves) -> Applying {
        let (held, fresh): (Vec<&PlannedMove>, Vec<&PlannedMove>) =
            plan.moves.iter().partition(|planned| self.is_ordered(planned));
        for planned in &fresh {
            self.check_planned(planned)?;
        }
        let fresh: Vec<PlannedMove> = fresh.into_iter().cloned().collect();
        let mut killed = false;
        for planned in held.into_iter().filter(|_| plan.kill) {
            let known = self.moves.get_mut(&planned.partition).expect("it is ordered");
            killed |= !std::mem::replace(&mut known.kill, true);
        }
        if fresh.is_empty() {
            return if killed { DONE } else { ALREADY };
        }
        let mut counts: BTreeMap<DatabaseId, usize> = BTreeMap::new();
        for planned in fresh {
            *counts.entry(planned.partition.database).or_default() += 1;
            let PlannedMove { partition, replicas, primary, .. } = planned;
            let wanted = Move {
                replicas,
                primary,
                kill: plan.kill,
                reason: plan.reason,
                ordered: self.revision,
                begun: None,
                added: BTreeSet::new(),
            };
            self.moves.insert(partition, wanted);
        }
        for (database, count) in counts {
            self.say(Severity::Info, "rebalance", database.into(), format!("{count} partitions shall move"));
        }
        DONE
    }

    /// Whether this very move is ordered already, begun or not.
    fn is_ordered(&self, planned: &PlannedMove) -> bool {
        let known = self.moves.get(&planned.partition);
        known.is_some_and(|known| known.replicas == planned.replicas && known.primary == planned.primary)
    }

    fn check_planned(&self, planned: &PlannedMove) -> Result<(), Refusal> {
        let id = planned.partition;
        let partition = self.expect_partition(id)?;
        let object = format!("partition {id}");
        if partition.replicas != planned.based || self.moves.get(&id).is_some_and(|known| known.begun.is_some()) {
            return Err(Refusal::LookAgain {
                object,
                is: format!("on nodes {:?}, and may be moving", partition.replicas),
                based: format!("nodes {:?}", planned.based),
            });
        }
        if !planned.replicas.contains(&planned.primary) {
            let problem = format!("node {} shall lead it without a copy: correct the plan", planned.primary);
            return Err(Refusal::Correct { object, problem });
        }
        let mut groups = BTreeSet::new();
        for node in &planned.replicas {
            self.expect_leaf(*node)?;
            if !groups.insert(self.nodes[node].group) {
                let problem = format!("two of its copies would be in the group of node {node}: correct the plan");
                return Err(Refusal::Correct { object, problem });
            }
        }
        Ok(())
    }

    pub(super) fn begin_move(&mut self, id: PartitionId) -> Applying {
        let partition = self.expect_partition(id)?;
        let Some(wanted) = self.moves.get(&id) else { return Err(no_move(id)) };
        if wanted.begun.is_some() {
            return ALREADY;
        }
        let missing: BTreeSet<NodeId> = wanted.replicas.difference(&partition.replicas).copied().collect();
        if let Some(node) = missing.iter().find(|node| self.removals.contains_key(&(**node, id))) {
            return Err(Refusal::Wait {
                object: format!("partition {id} on node {node}"),
                reason: "is still being deleted from an earlier time".into(),
            });
        }
        let clock = self.clock;
        let wanted = self.moves.get_mut(&id).expect("it was looked up above");
        (wanted.begun, wanted.added) = (Some(clock), missing.clone());
        if !missing.is_empty() {
            self.partitions.change(id, |partition| {
                partition.replicas.extend(missing);
                partition.version.0 += 1;
            });
            self.touch(id);
            self.touch_news(id.database);
        }
        DONE
    }

    pub(super) fn hand_over(&mut self, id: PartitionId, reign: Reign, to: NodeId) -> Applying {
        let partition = self.expect_partition(id)?;
        expect_position(id, partition, reign, None)?;
        if partition.handover.is_some_and(|handover| handover.to == to) {
            return ALREADY;
        }
        let joined = partition.members.iter().any(|member| member.node == to);
        let sync = self.databases[&id.database].mode.sync_replication;
        if partition.primary.node == to || !partition.replicas.contains(&to) || sync && !joined {
            let problem = format!("node {to} leads it already or is not in its set: nothing can be handed over");
            return Err(Refusal::Correct { object: format!("partition {id}"), problem });
        }
        let draining = self.revision;
        self.set_handover(id, Some(Handover { to, draining, sealed: None }));
        DONE
    }

    pub(super) fn seal_handover(&mut self, id: PartitionId, reign: Reign) -> Applying {
        let partition = self.expect_partition(id)?;
        expect_position(id, partition, reign, None)?;
        let Some(handover) = partition.handover else {
            return Err(Refusal::NameExisting { object: format!("hand-over of partition {id}") });
        };
        if handover.sealed.is_some() {
            return ALREADY;
        }
        if self.databases[&id.database].mode.sync_replication {
            let problem = "its database has SYNC REPLICATION: a member of its set needs no seal".into();
            return Err(Refusal::Correct { object: format!("partition {id}"), problem });
        }
        let sealed = Some(self.revision);
        self.set_handover(id, Some(Handover { sealed, ..handover }));
        DONE
    }

    pub(super) fn abandon_handover(&mut self, id: PartitionId) -> Applying {
        if self.expect_partition(id)?.handover.is_none() {
            return ALREADY;
        }
        self.set_handover(id, None);
        DONE
    }

    fn set_handover(&mut self, id: PartitionId, handover: Option<Handover>) {
        self.partitions.change(id, |partition| {
            partition.handover = handover;
            partition.version.0 += 1;
        });
        self.touch(id);
    }

    pub(super) fn finish_move(&mut self, id: PartitionId, reign: Reign, version: SetVersion) -> Applying {
        let partition = self.expect_partition(id)?;
        let Some(wanted) = self.moves.get(&id) else { return ALREADY };
        expect_position(id, partition, reign, Some(version))?;
        let joined: BTreeSet<NodeId> = partition.members.iter().map(|member| member.node).collect();
        let sync = self.databases[&id.database].mode.sync_replication;
        let held = if sync { &joined } else { &partition.replicas };
        if wanted.begun.is_none() || partition.primary.node != wanted.primary || !held.is_superset(&wanted.replicas) {
            return Err(Refusal::LookAgain {
                object: format!("partition {id}"),
                is: format!("led by {} with the set {:?}", partition.primary, partition.members),
                based: format!("node {} and the copies on {:?}", wanted.primary, wanted.replicas),
            });
        }
        let wanted = self.moves.remove(&id).expect("it was looked up above");
        let revision = self.revision;
        let held = &self.partitions[&id].replicas;
        let gone: BTreeSet<NodeId> = held.difference(&wanted.replicas).copied().collect();
        self.partitions.change(id, |partition| {
            partition.replicas = wanted.replicas;
            let replicas = &partition.replicas;
            partition.members.retain(|member| replicas.contains(&member.node));
            partition.version.0 += 1;
        });
        self.touch(id);
        self.removals.extend(gone.iter().map(|node| ((*node, id), revision)));
        self.forget_strangers_handover(id);
        let Partition { primary, replicas, .. } = &self.partitions[&id];
        let about = About::on(id, primary.node);
        let (held, gone, led) = (self.leaves(replicas), self.leaves(&gone), self.node_name(primary.node));
        let text = format!("{} is on leaves {held}, led by {led}; copies to delete: {gone}", self.partition_name(id));
        self.say(Severity::Info, "move", about, text);
        DONE
    }

    pub(super) fn give_up_move(&mut self, id: PartitionId, reason: &str) -> Applying {
        if !self.moves.contains_key(&id) {
            return ALREADY;
        }
        self.undo_move(id, reason);
        DONE
    }

    /// The moves that were to bring something to a node are given up.
    pub(super) fn give_up_moves_to(&mut self, node: NodeId, reason: &str) {
        let concerned: Vec<PartitionId> =
            self.moves.iter().filter(|(_, wanted)| wanted.replicas.contains(&node)).map(|(id, _)| *id).collect();
        concerned.into_iter().for_each(|id| self.undo_move(id, reason));
    }

    /// A leaf stays after all: what has not been moved away is not.
    pub(super) fn give_up_drain_of(&mut self, node: NodeId) {
        let drains = |id: &PartitionId, wanted: &Move| {
            let leaves = self.partitions[id].replicas.contains(&node) && !wanted.replicas.contains(&node);
            wanted.reason == Reason::Drain && leaves
        };
        let concerned: Vec<PartitionId> =
            self.moves.iter().filter(|(id, wanted)| drains(id, wanted)).map(|(id, _)| *id).collect();
        concerned.into_iter().for_each(|id| self.undo_move(id, "that leaf stays"));
    }

    /// Nobody is handed a partition of which he holds no copy any more.
    fn forget_strangers_handover(&mut self, id: PartitionId) {
        let Partition { replicas, handover, .. } = &self.partitions[&id];
        if handover.is_some_and(|handover| !replicas.contains(&handover.to)) {
            self.partitions.change(id, |partition| partition.handover = None);
        }
    }

    /// Who has joined stays, so that no set shrinks; who has not holds nothing that others do not.
    fn undo_move(&mut self, id: PartitionId, reason: &str) {
        let Some(wanted) = self.moves.remove(&id) else { return };
        let revision = self.revision;
        let members = &self.partitions[&id].members;
        let joined = |node: &NodeId| members.iter().any(|member| member.node == *node);
        let undone: Vec<NodeId> = wanted.added.iter().filter(|node| !joined(node)).copied().collect();
        self.removals.extend(undone.iter().map(|node| ((*node, id), revision)));
        if wanted.begun.is_some() {
            self.partitions.change(id, |partition| {
                partition.replicas.retain(|node| !undone.contains(node));
                partition.version.0 += 1;
            });
            self.touch(id);
        }
        self.forget_strangers_handover(id);
        let text = format!("the move of {} was given up: {reason}", self.partition_name(id));
        self.say(Severity::Warning, "move", id.into(), text);
    }

    /// `host:1, host:2`; `none`.
    fn leaves(&self, nodes: &BTreeSet<NodeId>) -> String {
        let named: Vec<String> = nodes.iter().map(|node| self.node_name(*node)).collect();
        if named.is_empty() { "none".into() } else { named.join(", ") }
    }
}

fn no_move(id: PartitionId) -> Refusal {
    Refusal::NameExisting { object: format!("move of partition {id}") }
}
