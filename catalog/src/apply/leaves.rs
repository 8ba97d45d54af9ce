//! Leaves are added, removed, detached and attached.
//!
//! An order is durable at once and carried out by the master, step after step ([`crate::decide::moves`]). What would take
//! the last copy of something is refused here, with the list.

use types::{NodeId, PartitionId};

use super::{ALREADY, Applying, DONE};
use crate::command::LeafChange;
use crate::event::Severity;
use crate::node::{Group, Standing};
use crate::outcome::Refusal;
use crate::partition::Partition;
use crate::state::State;

/// How many partitions a refusal names.
const NAMED_MAX: usize = 10;

impl State {
    pub(super) fn change_leaf(&mut self, id: NodeId, change: LeafChange) -> Applying {
        let node = self.expect_node(id)?;
        if !node.roles.leaf {
            let problem = "it is no leaf: ADD AGGREGATOR adds aggregators".into();
            return Err(Refusal::Correct { object: format!("node {id}"), problem });
        }
        let (old, old_group, address) = (node.standing, node.group, node.addresses.rpc.clone());
        let object = format!("leaf {address}");
        let adds = matches!(change, LeafChange::Add { .. } | LeafChange::AddApart);
        if old == Standing::Joining && !adds && !matches!(change, LeafChange::Remove { .. }) {
            let (problem, first) = ("was not added to the cluster".into(), "ADD LEAF".into());
            return Err(Refusal::DoFirst { object, problem, first });
        }
        if change == LeafChange::Dismiss && !self.is_drained(id) {
            let problem = "is not being removed, or holds replicas".into();
            return Err(Refusal::DoFirst { object, problem, first: "REMOVE LEAF".into() });
        }
        let (standing, word) = match change {
            LeafChange::Dismiss => (Standing::Joining, "was removed"),
            _ if adds && matches!(old, Standing::Detached { .. }) => {
                let (problem, first) = ("is detached".into(), "ATTACH LEAF brings it back".into());
                return Err(Refusal::DoFirst { object, problem, first });
            }
            LeafChange::Add { .. } | LeafChange::AddApart => (Standing::Online, "was added"),
            LeafChange::Remove { force, kill } => {
                self.check_last_copies(id, &object, force)?;
                (Standing::Draining { force, kill }, "is being removed")
            }
            LeafChange::Detach { force, kill } => {
                self.check_last_copies(id, &object, true)?;
                self.check_min_in_sync(id, &object, force)?;
                (Standing::Detached { kill }, "is detached")
            }
            LeafChange::Attach if matches!(old, Standing::Draining { .. }) => {
                let (problem, first) = ("is being removed".into(), "ADD LEAF keeps it".into());
                return Err(Refusal::DoFirst { object, problem, first });
            }
            LeafChange::Attach => (Standing::Online, "is attached again"),
        };
        let group = match change {
            LeafChange::Add { group: Some(group) } => Group::Named(group),
            LeafChange::AddApart => Group::Own(id),
            _ => old_group,
        };
        if (standing, group) == (old, old_group) {
            return ALREADY;
        }
        let known = self.nodes.get_mut(&id).expect("it was looked up above");
        (known.standing, known.group) = (standing, group);
        if standing != Standing::Online {
            self.give_up_moves_to(id, "that leaf is no longer there for it");
        }
        if standing == Standing::Online {
            self.give_up_drain_of(id);
        }
        self.touch_replicas_of(id);
        self.say(Severity::Info, "leaf", id.into(), format!("{object} {word}, as ordered"));
        DONE
    }

    /// Whether a leaf that is being removed holds nothing any more.
    pub fn is_drained(&self, id: NodeId) -> bool {
        matches!(self.nodes[&id].standing, Standing::Draining { .. }) && self.partitions.count_held_by(id) == 0
    }

    /// Those that are fed, or are no longer, are another set than before.
    fn touch_replicas_of(&mut self, node: NodeId) {
        let held: Vec<PartitionId> = self.partitions.held_by(node).map(|(id, _)| id).collect();
        for id in held {
            self.partitions.get_mut(&id).expect("it was listed above").version.0 += 1;
            self.touch(id);
        }
    }

    /// Who is in the set beside a leaf, and stays there.
    fn others(&self, partition: &Partition, leaf: NodeId) -> usize {
        partition.members.iter().filter(|member| self.stays(member.node, leaf)).count()
    }

    /// Whether a copy is being made for a move: it holds nothing that counts yet.
    fn is_added(&self, id: &PartitionId, node: &NodeId) -> bool {
        self.moves.get(id).is_some_and(|wanted| wanted.added.contains(node))
    }

    fn stays(&self, node: NodeId, leaf: NodeId) -> bool {
        node != leaf && self.nodes[&node].standing == Standing::Online
    }

    /// Refuses what gives up a partition's last copy. `at_once`: before there are new ones.
    fn check_last_copies(&self, leaf: NodeId, object: &str, at_once: bool) -> Result<(), Refusal> {
        let last = self.partitions.held_by(leaf).filter(|(id, held)| {
            // Without SYNC REPLICATION the set is the primary alone: how far others are only a hand-over finds out.
            let others = match self.databases[&id.database].mode.sync_replication {
                true => self.others(held, leaf),
                false => {
                    held.replicas.iter().filter(|node| self.stays(**node, leaf) && !self.is_added(id, node)).count()
                }
            };
            at_once && (others == 0 || held.incomplete && held.primary.node == leaf)
        });
        let last: Vec<PartitionId> = last.map(|(id, _)| id).collect();
        let named = self.named_partitions(&last);
        if named.is_empty() {
            return Ok(());
        }
        Err(Refusal::DoFirst {
            object: object.into(),
            problem: format!("holds the last copy of {named}"),
            first: format!("{}, or REMOVE LEAF without FORCE, which moves them away", self.more_copies(&last)),
        })
    }

    /// How partitions get one copy more: a database that wants one alone has none to restore.
    fn more_copies(&self, ids: &[PartitionId]) -> String {
        let wanted = |id: &PartitionId| self.databases[&id.database].options.redundancy;
        let mut ways = Vec::new();
        if ids.iter().any(|id| wanted(id) > 1) {
            ways.push("RESTORE REDUNDANCY ON these databases".to_string());
        }
        if let Some(single) = ids.iter().find(|id| wanted(id) == 1) {
            let name = &self.databases[&single.database].name;
            ways.push(format!(
                "ALTER DATABASE {name} SET OPTIONS (redundancy = 2), then REBALANCE PARTITIONS ON {name}"
            ));
        }
        ways.join(", or ")
    }

    /// Without FORCE nothing is detached on which writes would stop.
    fn check_min_in_sync(&self, leaf: NodeId, object: &str, force: bool) -> Result<(), Refusal> {
        let short = self.partitions.held_by(leaf).filter(|(id, held)| {
            let wanted = usize::from(self.databases[&id.database].options.min_in_sync);
            held.members.iter().any(|member| member.node == leaf) && self.others(held, leaf) < wanted
        });
        let named = self.named_partitions(&short.map(|(id, _)| id).collect::<Vec<_>>());
        if named.is_empty() || force {
            return Ok(());
        }
        let loss = format!("is needed for min_in_sync of {named}, writes there would be refused");
        Err(Refusal::Force { object: object.into(), loss })
    }

    /// Partitions as people know them: `db:0, db:1 and 3 more`; empty if there are none.
    fn named_partitions(&self, ids: &[PartitionId]) -> String {
        let name = |id: &PartitionId| format!("{}:{}", self.databases[&id.database].name, id.ordinal);
        let mut named = ids.iter().take(NAMED_MAX).map(name).collect::<Vec<_>>().join(", ");
        if ids.len() > NAMED_MAX {
            named += &format!(" and {} more", ids.len() - NAMED_MAX);
        }
        named
    }
}
