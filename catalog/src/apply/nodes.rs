//! Nodes come, restart and go; the leader's clock.

use types::{Incarnation, Member, NodeId, PartitionId, Timestamp};

use super::{ALREADY, Applied, Applying, DONE};
use crate::event::Severity;
use crate::node::{Addresses, Group, Node, Roles, Standing};
use crate::outcome::{Answer, Refusal};
use crate::state::{RECEIVED_MAX, State};

/// The highest number that a certificate may name: the catalog counts on above it.
const NUMBER_MAX: u64 = u32::MAX as u64;

impl State {
    pub(super) fn register_node(
        &mut self,
        number: Option<NodeId>,
        identity: u128,
        addresses: &Addresses,
        roles: Roles,
        group: Option<u64>,
    ) -> Applying {
        if let Some((id, node)) = self.nodes.iter().find(|(_, node)| node.identity == identity) {
            let id = *id;
            if node.removed {
                return Err(self.expect_node(id).expect_err("a removed node is refused"));
            }
            return Ok(Applied::Already(Answer::Node(id)));
        }
        if !roles.aggregator && !roles.leaf {
            let problem = "it has no role: name `aggregator`, `leaf` or both".into();
            return Err(Refusal::Correct { object: format!("node at {}", addresses.rpc), problem });
        }
        let other = self.nodes.iter().find(|(_, node)| !node.removed && node.addresses.rpc == addresses.rpc);
        if let Some((id, _)) = other {
            let advice = format!("node {id} has this address, remove it first if its data directory is lost");
            return Err(Refusal::NameNew { object: format!("address {}", addresses.rpc), advice });
        }
        if let Some(number) = number.filter(|number| number.0 == 0 || number.0 > NUMBER_MAX) {
            let problem = format!("its number must be 1 to {NUMBER_MAX}: give it another certificate");
            return Err(Refusal::Correct { object: format!("node {number}"), problem });
        }
        if let Some(number) = number.filter(|number| self.nodes.contains_key(number)) {
            let advice = "give the new node a certificate with a number of its own".into();
            return Err(Refusal::NameNew { object: format!("node {number}"), advice });
        }
        let id = number.unwrap_or(NodeId(self.last_node.0 + 1));
        self.last_node = self.last_node.max(id);
        let node = Node {
            identity,
            addresses: addresses.clone(),
            roles,
            group: group.map_or(Group::Own(id), Group::Named),
            incarnation: Incarnation::default(),
            removed: false,
            added: false,
            // The leaves of a new region need no order: there is nothing yet that could be placed wrongly.
            standing: if self.databases.is_empty() { Standing::Online } else { Standing::Joining },
            registered: self.revision,
        };
        self.nodes.insert(id, node);
        self.say(Severity::Info, "node", id.into(), format!("{} joined as node {id}", addresses.known_by()));
        Ok(Applied::Changed(Answer::Node(id)))
    }

    pub(super) fn node_started(&mut self, id: NodeId, incarnation: Incarnation, addresses: &Addresses) -> Applying {
        let node = self.expect_node(id)?;
        if incarnation < node.incarnation {
            return Err(Refusal::LookAgain {
                object: format!("node {id}"),
                is: format!("process {}", node.incarnation),
                based: format!("process {incarnation}"),
            });
        }
        if incarnation == node.incarnation && node.addresses == *addresses {
            return ALREADY;
        }
        let old = node.incarnation;
        let known = self.nodes.get_mut(&id).expect("it was looked up above");
        known.incarnation = incarnation;
        known.addresses = addresses.clone();
        if incarnation > old {
            self.replace_member(Member { node: id, incarnation });
            if old > Incarnation::default() {
                let text = format!("{} was started again: process {incarnation} of node {id}", addresses.known_by());
                self.say(Severity::Warning, "restart", id.into(), text);
            }
        }
        DONE
    }

    /// What is on disk was acknowledged there: the new process takes the place of the old one, where that holds.
    fn replace_member(&mut self, member: Member) {
        let stale = |old: &Member| old.node == member.node && old.incarnation < member.incarnation;
        let concerned =
            |partition: &crate::partition::Partition| partition.on_disk && partition.members.iter().any(stale);
        let ids: Vec<PartitionId> = self
            .partitions
            .held_by(member.node)
            .filter(|(_, partition)| concerned(partition))
            .map(|(id, _)| id)
            .collect();
        for id in ids {
            let partition = self.partitions.get_mut(&id).expect("it was listed above");
            let primary = partition.primary;
            partition.members.retain(|old| !stale(old) || *old == primary);
            partition.members.insert(member);
            partition.version.0 += 1;
            self.touch(id);
        }
    }

    pub(super) fn add_aggregator(&mut self, id: NodeId) -> Applying {
        let node = self.expect_node(id)?;
        if !node.roles.aggregator {
            let problem = "it is no aggregator: ADD LEAF adds leaves".into();
            return Err(Refusal::Correct { object: format!("node {id}"), problem });
        }
        if node.added {
            return ALREADY;
        }
        let address = node.addresses.known_by().to_string();
        self.nodes.get_mut(&id).expect("it was looked up above").added = true;
        self.say(Severity::Info, "aggregator", id.into(), format!("aggregator {address} was added as node {id}"));
        DONE
    }

    pub(super) fn remove_node(&mut self, id: NodeId) -> Applying {
        match self.nodes.get(&id) {
            None => return Err(Refusal::NameExisting { object: format!("node {id}") }),
            Some(node) if node.removed => return ALREADY,
            Some(_) => {}
        }
        let held = self.partitions.count_held_by(id);
        if held > 0 {
            return Err(Refusal::DoFirst {
                object: format!("node {id}"),
                problem: format!("holds {held} replicas"),
                first: "REMOVE LEAF moves them to other leaves".into(),
            });
        }
        if self.nodes[&id].in_group() && self.group().all(|(other, _)| other == id) {
            return Err(Refusal::DoFirst {
                object: format!("node {id}"),
                problem: "is the only aggregator".into(),
                first: "ADD AGGREGATOR another one".into(),
            });
        }
        let node = self.nodes.get_mut(&id).expect("it was looked up above");
        node.removed = true;
        let text = format!("{} (node {id}) was removed", node.addresses.known_by());
        self.removals.retain(|(node, _), _| *node != id);
        self.give_up_moves_to(id, "that leaf was removed");
        self.say(Severity::Info, "node", id.into(), text);
        DONE
    }

    pub(super) fn extend_timestamps(&mut self, upper: Timestamp) -> Applying {
        if upper.0 > RECEIVED_MAX {
            let problem = format!("upper bound {upper} is beyond all time: check the leader's clock");
            return Err(Refusal::Correct { object: "timestamp block".into(), problem });
        }
        if upper <= self.timestamps.upper {
            return ALREADY;
        }
        self.timestamps.upper = upper;
        DONE
    }
}
