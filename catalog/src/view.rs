//! The state as replicas are told of it: one [`types::View`] per partition.

use serde::{Deserialize, Serialize};
use types::{DatabaseId, Fence, LinkId, Member, NodeId, PartitionId, Revision, Role, StartKind, View};

use crate::database::{Database, Side};
use crate::link::{LinkMode, SinkLink};
use crate::partition::{Handover, Partition};
use crate::state::State;

/// What a leaf that holds a part of a database must know beside the views of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseNews {
    /// Which database.
    pub database: DatabaseId,
    /// Fewer members than this and its primaries take no writes (error 9006).
    pub min_in_sync: u8,
    /// How long history is kept for followers, in milliseconds,
    pub keep_millis: u64,
    /// and how many bytes of it each partition's share is.
    pub keep_bytes: u64,
    /// SYNC links: a commit is acknowledged when the durable cut of each of these has reached it.
    pub waits_for: Vec<LinkId>,
    /// Links that may be served, with the hash of the token that a session must prove to hold.
    pub serves: Vec<(LinkId, [u8; 32])>,
    /// Whom its primaries follow, unless it is writable, paused or broken.
    pub follows: Option<(LinkId, SinkLink)>,
}

impl State {
    /// What a node that knows everything up to `since` has to learn about the databases of which it holds a part.
    pub fn news_since(&self, node: NodeId, since: Revision) -> Vec<DatabaseNews> {
        let since = self.known(since);
        let changed = self.databases.iter().filter(|(_, database)| database.changed > since);
        let holds = |id: DatabaseId| self.partitions.held_of(node, id).next().is_some();
        changed.filter(|(id, _)| holds(**id)).map(|(id, database)| self.news(*id, database)).collect()
    }

    /// A node that knows more than has happened heard another history, of a catalog that was restored: it hears all.
    fn known(&self, since: Revision) -> Revision {
        if since > self.revision { Revision(0) } else { since }
    }

    /// The same of one database.
    pub fn news(&self, id: DatabaseId, database: &Database) -> DatabaseNews {
        let links = || self.sources.iter().filter(move |(_, link)| link.database == id);
        let follows = match database.side {
            Side::Sink { link } => Some((link, self.sinks[&link].clone())),
            Side::Writable => None,
        };
        DatabaseNews {
            database: id,
            min_in_sync: database.options.min_in_sync,
            keep_millis: database.options.failback_retention_millis,
            keep_bytes: database.options.failback_retention_bytes / (u64::from(database.partitions) + 1),
            waits_for: links().filter(|(_, link)| link.mode == LinkMode::Sync).map(|(id, _)| *id).collect(),
            serves: links().filter_map(|(id, link)| Some((*id, link.token_hash?))).collect(),
            follows: follows.filter(|(_, link)| !link.paused && link.broken.is_none()),
        }
    }

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
            replicas: self.fed(partition),
            promotions: database.promotions.clone(),
            role: self.role(database, partition),
            losses: partition.losses,
            fence: fence(database, partition),
            hands_over: !database.mode.sync_replication
                && partition.handover.is_some_and(|handover| handover.sealed.is_some()),
            mode: database.mode,
            failover_after: database.failover_after(),
        })
    }

    /// Who is to be fed: everybody who holds a copy and is not put aside, or still waited for.
    fn fed(&self, partition: &Partition) -> std::collections::BTreeSet<NodeId> {
        let member = |node: &NodeId| partition.members.iter().any(|member| member.node == *node);
        let fed = partition.replicas.iter().filter(|node| member(node) || !self.nodes[node].is_aside());
        fed.copied().collect()
    }

    /// What a node that knows everything up to `since` has to learn: views of partitions of which it holds, or shall
    /// hold, a copy. From `Revision(0)` on it is everything that concerns it.
    pub fn views_since(&self, node: NodeId, since: Revision) -> Vec<View> {
        let since = self.known(since);
        if since == Revision(0) {
            return self.partitions.held_by(node).filter_map(|(id, _)| self.view(id)).collect();
        }
        let changed = self.changed_since(since);
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

/// The database's fence, else that of a hand-over within the region.
fn fence(database: &Database, partition: &Partition) -> Fence {
    match (database.fenced.fence, partition.handover) {
        (Fence::None, Some(Handover { sealed: Some(since), .. })) => Fence::Sealed(since),
        (Fence::None, Some(Handover { draining, .. })) => Fence::Draining(draining),
        (fence, _) => fence,
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
