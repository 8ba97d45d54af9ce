//! Databases come, change and go; their copies are placed.

use std::collections::{BTreeMap, BTreeSet};

use types::{DatabaseId, Mode, NodeId, PartitionId, Reign, SetVersion, Timestamp};

use super::{ALREADY, Applied, Applying, DONE};
use crate::command::CreateDatabase;
use crate::database::{Database, Fenced, Options, Side, longer, ordinals, partitions_problem};
use crate::event::{self, Event, Severity};
use crate::node::Standing;
use crate::outcome::{Answer, Refusal};
use crate::partition::{Grant, Partition};
use crate::state::State;

/// Longest name of a database, in characters, as MySQL has it.
const NAME_MAX: usize = 64;

impl State {
    pub(super) fn create_database(&mut self, create: &CreateDatabase) -> Applying {
        if let Some((id, database)) = self.database_named(&create.name) {
            if database.identity == create.identity {
                return Ok(Applied::Already(Answer::Database(id)));
            }
            let advice = "choose another name or DROP it first".into();
            return Err(Refusal::NameNew { object: format!("database `{}`", create.name), advice });
        }
        self.check_new(create)?;
        let id = self.add_database(create, Side::Writable);
        self.say(Severity::Info, "create", id.into(), format!("database `{}` was created", create.name));
        Ok(Applied::Changed(Answer::Database(id)))
    }

    /// Looks whether a database can be made as it is described.
    pub(super) fn check_new(&self, create: &CreateDatabase) -> Result<(), Refusal> {
        let correct =
            |problem: String| Err(Refusal::Correct { object: format!("database `{}`", create.name), problem });
        if create.name.is_empty() || create.name.chars().count() > NAME_MAX {
            return correct(format!("its name must have 1 to {NAME_MAX} characters"));
        }
        if let Some(problem) = partitions_problem(create.partitions) {
            return correct(problem);
        }
        if let Some(problem) = create.options.problem() {
            return correct(problem);
        }
        let wanted = create.partitions as usize + 1;
        if create.placement.len() != wanted {
            return correct(format!("{} partitions are placed, {wanted} wanted", create.placement.len()));
        }
        for (ordinal, nodes) in ordinals(create.partitions).zip(&create.placement) {
            let distinct: BTreeSet<NodeId> = nodes.iter().copied().collect();
            if nodes.is_empty() || distinct.len() < nodes.len() {
                return correct(format!(
                    "partition {ordinal} is placed on {nodes:?}: name one or more different leaves"
                ));
            }
            for node in nodes {
                self.expect_leaf(*node)?;
            }
        }
        Ok(())
    }

    /// A node that may hold replicas, or the refusal that says why not.
    pub(super) fn expect_leaf(&self, id: NodeId) -> Result<(), Refusal> {
        let node = self.expect_node(id)?;
        if !node.roles.leaf {
            let problem = "it is no leaf: name a leaf to hold replicas".into();
            return Err(Refusal::Correct { object: format!("node {id}"), problem });
        }
        let (problem, first) = match node.standing {
            Standing::Online => return Ok(()),
            Standing::Joining => ("was not added to the cluster", "ADD LEAF"),
            Standing::Draining { .. } => ("is being removed from the cluster", "name another leaf"),
            Standing::Detached { .. } => ("is detached", "ATTACH LEAF, or name another one"),
        };
        Err(Refusal::DoFirst {
            object: format!("leaf {}", node.addresses.rpc),
            problem: problem.into(),
            first: first.into(),
        })
    }

    /// Adds a database that `check_new` has found possible. All its logs are empty, so all copies are in the set.
    pub(super) fn add_database(&mut self, create: &CreateDatabase, side: Side) -> DatabaseId {
        self.last_database.0 += 1;
        let id = self.last_database;
        let database = Database {
            name: create.name.clone(),
            identity: create.identity,
            partitions: create.partitions,
            mode: create.mode,
            options: create.options.clone(),
            side,
            promotions: vec![],
            start_above: Timestamp::ZERO,
            fenced: Fenced::default(),
            handover: None,
            tokens: BTreeMap::new(),
            claims: BTreeMap::new(),
            overruled: BTreeSet::new(),
            full_copy: None,
            created: self.revision,
            changed: self.revision,
        };
        self.databases.insert(id, database);
        for (ordinal, nodes) in ordinals(create.partitions).zip(&create.placement) {
            self.add_partition(PartitionId { database: id, ordinal }, nodes, create, side);
        }
        id
    }

    fn add_partition(&mut self, id: PartitionId, nodes: &[NodeId], create: &CreateDatabase, side: Side) {
        let member = |node: &NodeId| self.member(*node).expect("placement names known nodes");
        let primary = member(&nodes[0]);
        let members = if create.mode.sync_replication { nodes.iter().map(member).collect() } else { [primary].into() };
        let grant =
            (side == Side::Writable).then(|| Grant { epoch: self.mint(create.nonce), start_above: Timestamp::ZERO });
        let partition = Partition {
            reign: Reign(1),
            reign_revision: self.revision,
            version: SetVersion(1),
            primary,
            members,
            replicas: nodes.iter().copied().collect(),
            grant,
            losses: 0,
            given_up: vec![],
            given_up_before: None,
            on_disk: create.mode.sync_durability,
            goes_on_for: self.databases[&id.database].failover_after(),
            handover: None,
            incomplete: false,
            changed: self.revision,
        };
        self.partitions.insert(id, partition);
        self.changes.insert((self.revision, id));
    }

    pub(super) fn drop_database(&mut self, name: &str) -> Applying {
        let id = self.expect_database(name)?;
        let held: Vec<(PartitionId, Partition)> =
            self.partitions_of(id).map(|(partition, held)| (partition, held.clone())).collect();
        for (partition, held) in held {
            self.partitions.remove(&partition);
            self.changes.remove(&(held.changed, partition));
            for node in held.replicas {
                self.removals.insert((node, partition), self.revision);
            }
        }
        self.databases.remove(&id);
        self.moves.retain(|partition, _| partition.database != id);
        self.sinks.retain(|_, link| link.database != id);
        self.sources.retain(|_, link| link.database != id);
        self.parted.retain(|_, link| link.database != id);
        self.say(Severity::Info, event::DROP, id.into(), Event::dropped(name));
        DONE
    }

    pub(super) fn alter_database(&mut self, name: &str, mode: Mode, options: &Options) -> Applying {
        let id = self.expect_database(name)?;
        if let Some(problem) = options.problem() {
            return Err(Refusal::Correct { object: format!("database `{name}`"), problem });
        }
        let database = self.databases.get_mut(&id).expect("it was looked up above");
        if database.mode == mode && database.options == *options {
            return ALREADY;
        }
        let failover = database.failover_after();
        let old = std::mem::replace(&mut database.mode, mode);
        let old_options = std::mem::replace(&mut database.options, options.clone());
        let is_other_failover = database.failover_after() != failover;
        if is_other_failover {
            self.change_failover(id);
        }
        if old != mode {
            self.change_mode(id, old, mode);
        }
        if old != mode || is_other_failover {
            self.touch_database(id);
        }
        self.touch_news(id);
        let changed = changed((old, &old_options), (mode, options));
        self.say(Severity::Info, "alter", id.into(), format!("database `{name}` has other settings: {changed}"));
        DONE
    }

    /// ASYNC REPLICATION: the set is the primary alone. To SYNC DURABILITY: what was acknowledged before may be in
    /// memory alone, so a restarted process is no member until the primary confirms that all is on disk.
    /// From a change of durability on marks count only if they were made after it: SYNC DURABILITY keeps none.
    fn change_mode(&mut self, database: DatabaseId, old: Mode, new: Mode) {
        if old.sync_durability != new.sync_durability {
            let upper = self.timestamps.upper;
            self.receive_timestamp(upper);
            let held = self.databases.get_mut(&database).expect("its caller has looked it up");
            held.start_above = held.start_above.max(upper);
        }
        let ids: Vec<PartitionId> = self.partitions_of(database).map(|(id, _)| id).collect();
        for id in ids {
            self.partitions.change(id, |partition| {
                if !new.sync_replication {
                    let primary = partition.primary;
                    partition.members.retain(|member| member.node == primary.node);
                }
                // What was prepared counts on the mode as it was.
                partition.handover = None;
                if old.sync_durability != new.sync_durability {
                    partition.on_disk = false;
                }
            });
        }
    }

    /// A primary that has not heard of other terms of the standing order serves by the old ones. So the longest that it may
    /// believe in holds until it confirms that it obeys those of now.
    fn change_failover(&mut self, id: DatabaseId) {
        let now = self.databases[&id].failover_after();
        let ids: Vec<PartitionId> = self.partitions_of(id).map(|(id, _)| id).collect();
        for id in ids {
            self.partitions.change(id, |partition| partition.goes_on_for = longer(partition.goes_on_for, now));
        }
    }

    pub(super) fn add_replica(&mut self, id: PartitionId, node: NodeId) -> Applying {
        let partition = self.expect_partition(id)?;
        self.expect_leaf(node)?;
        if partition.replicas.contains(&node) {
            return ALREADY;
        }
        if self.removals.contains_key(&(node, id)) {
            return Err(Refusal::Wait {
                object: format!("partition {id} on node {node}"),
                reason: "is still being deleted from an earlier time".into(),
            });
        }
        self.partitions.change(id, |partition| {
            partition.replicas.insert(node);
            partition.version.0 += 1;
        });
        self.touch(id);
        self.touch_news(id.database);
        DONE
    }

    pub(super) fn remove_replica(&mut self, id: PartitionId, node: NodeId) -> Applying {
        let partition = self.expect_partition(id)?;
        if !partition.replicas.contains(&node) {
            return ALREADY;
        }
        if let Some(member) = partition.members.iter().find(|member| member.node == node) {
            let role = if partition.primary.node == node { "the primary" } else { "in the set" };
            return Err(Refusal::DoFirst {
                object: format!("partition {id} on node {node}"),
                problem: format!("is {role} as {member}"),
                first: "name another primary, or take it out of the set".into(),
            });
        }
        let wanted =
            self.moves.get(&id).is_some_and(|wanted| wanted.begun.is_some() && wanted.replicas.contains(&node));
        if wanted || partition.handover.is_some_and(|handover| handover.to == node) {
            return Err(Refusal::Wait {
                object: format!("partition {id} on node {node}"),
                reason: "is being moved there".into(),
            });
        }
        self.partitions.change(id, |partition| {
            partition.replicas.remove(&node);
            partition.version.0 += 1;
        });
        self.touch(id);
        self.removals.insert((node, id), self.revision);
        DONE
    }

    pub(super) fn replica_gone(&mut self, id: PartitionId, node: NodeId) -> Applying {
        if self.removals.remove(&(node, id)).is_some() { DONE } else { ALREADY }
    }
}

/// Which settings are others, as they are written in SET OPTIONS.
fn changed(old: (Mode, &Options), new: (Mode, &Options)) -> String {
    let (was, is) = (settings(old.0, old.1), settings(new.0, new.1));
    let pairs = was.into_iter().zip(is).filter(|(was, is)| was.1 != is.1);
    pairs.map(|((name, was), (_, is))| format!("{name} = {is} (was {was})")).collect::<Vec<_>>().join(", ")
}

fn settings(mode: Mode, options: &Options) -> [(&'static str, String); 8] {
    let wait = |sync: bool| if sync { "SYNC" } else { "ASYNC" }.to_string();
    let failover = options.async_failover_after_millis.map_or("never".into(), |millis| format!("{millis}ms"));
    let guard = if options.strict_guard { "strict" } else { "lenient" };
    [
        ("DURABILITY", wait(mode.sync_durability)),
        ("REPLICATION", wait(mode.sync_replication)),
        ("redundancy", options.redundancy.to_string()),
        ("min_in_sync", options.min_in_sync.to_string()),
        ("async_failover_after", failover),
        ("failback_retention", format!("{}ms", options.failback_retention_millis)),
        ("failback_retention_bytes", options.failback_retention_bytes.to_string()),
        ("guard", guard.into()),
    ]
}
