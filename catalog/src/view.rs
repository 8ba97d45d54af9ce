//! The state as replicas are told of it: one [`types::View`] per partition.

use types::{Member, NodeId, PartitionId, Revision, Role, StartKind, View};

use crate::database::{Database, Side};
use crate::partition::Partition;
use crate::state::State;

impl State {
    /// The catalog's word on one partition.
    pub fn view(&self, id: PartitionId) -> Option<View> {
        let partition = self.partitions.get(&id)?;
        let database = self.databases.get(&id.database).expect("a partition belongs to a database");
        Some(View {
            partition: id,
            reign: partition.reign,
            reign_revision: partition.reign_revision,
            version: partition.version,
            primary: partition.primary,
            members: partition.members.clone(),
            replicas: partition.replicas.clone(),
            promotions: database.promotions.clone(),
            role: self.role(database, partition),
            losses: partition.losses,
            fence: database.fenced.fence,
            mode: database.mode,
        })
    }

    /// What a node that knows everything up to `since` has to learn: views of partitions of which it holds, or shall
    /// hold, a copy. From `Revision(0)` on it is everything that concerns it.
    pub fn views_since(&self, node: NodeId, since: Revision) -> Vec<View> {
        let first = PartitionId { database: types::DatabaseId(0), ordinal: types::Ordinal(i32::MIN) };
        let changed = self.changes.range((Revision(since.0 + 1), first)..).map(|(_, id)| *id);
        changed.filter(|id| self.partitions[id].replicas.contains(&node)).filter_map(|id| self.view(id)).collect()
    }

    /// Copies that a node must delete. It deletes nothing else, and confirms with `ReplicaGone`.
    pub fn removals_of(&self, node: NodeId) -> Vec<PartitionId> {
        let first = PartitionId { database: types::DatabaseId(0), ordinal: types::Ordinal(i32::MIN) };
        self.removals.range((node, first)..).take_while(|((of, _), _)| *of == node).map(|((_, id), _)| *id).collect()
    }

    /// Whether this process orders writes of the partition.
    pub fn is_primary(&self, id: PartitionId, member: Member) -> bool {
        self.partitions.get(&id).is_some_and(|partition| partition.primary == member)
    }

    fn role(&self, database: &Database, partition: &Partition) -> Role {
        match database.side {
            Side::Writable => {
                let grant = partition.grant.expect("a writable partition has an epoch");
                Role::Writable { epoch: grant.epoch, start: start_kind(database), start_above: grant.start_above }
            }
            Side::Sink { link } => {
                let held = self.sinks.get(&link).expect("a sink has a link");
                Role::Sink { link, forced: held.forced, broken: held.broken.is_some() }
            }
        }
    }
}

/// A writable database's last promotion is its own. A primary whose lineage does not hold it starts it; one whose
/// lineage does is a failover. The catalog cannot tell which: only the log of the one that is named can.
fn start_kind(database: &Database) -> StartKind {
    match database.promotions.last() {
        Some(last) => StartKind::Promotion { id: last.id, cut: last.cut },
        None => StartKind::Failover,
    }
}
