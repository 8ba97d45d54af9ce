//! The data: all that a region's cluster has decided.
//!
//! Ordered maps only, so that equal histories give equal bytes. Ids are minted by counters that never go back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use types::{ClusterId, DatabaseId, Epoch, Fence, LinkId, Member, NodeId, PartitionId, Revision, Timestamp};

use crate::database::{Database, Holder, Side, longer};
use crate::event::{Event, Severity, UnixMillis};
use crate::link::{Parted, SinkLink, SourceLink};
use crate::movement::Move;
use crate::node::Node;
use crate::outcome::Refusal;
use crate::partition::Partition;
use crate::partitions::{Partitions, all_of};
use crate::shared::SharedSet;
use crate::user::{Account, User};

/// Timestamps that the leader may hand out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampBlock {
    /// Inclusive upper bound of the leader's counter. A new leader starts above it.
    pub upper: Timestamp,
    /// Everything received from other regions; the leader's counter must be above it.
    pub received: Timestamp,
}

/// The catalog. Compare two for equality: equal commands in equal order give equal states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// This region.
    pub cluster: ClusterId,
    /// How many commands have changed it.
    pub revision: Revision,
    /// The latest time that a proposer named.
    pub clock: UnixMillis,
    /// The highest epoch number minted or received. Never falls.
    pub minted: u64,
    /// The leader's clock.
    pub timestamps: TimestampBlock,
    /// The last node id given.
    pub last_node: NodeId,
    /// The last database id given.
    pub last_database: DatabaseId,
    /// Removed ones too: a late message of one gets a clear answer.
    pub nodes: BTreeMap<NodeId, Node>,
    /// By id; names are unique.
    pub databases: BTreeMap<DatabaseId, Database>,
    /// Of all databases.
    pub partitions: Partitions,
    /// Links of databases that follow another region.
    pub sinks: BTreeMap<LinkId, SinkLink>,
    /// Links of databases that another region follows.
    pub sources: BTreeMap<LinkId, SourceLink>,
    /// Who may log in.
    pub users: BTreeMap<Account, User>,
    /// Links that ended with a promotion here.
    pub parted: BTreeMap<LinkId, Parted>,
    /// Where partitions shall be that are not there yet. What nobody has ordered otherwise stays where it is.
    pub moves: BTreeMap<PartitionId, Move>,
    /// Copies to be deleted: a leaf deletes nothing but what is listed here, then confirms.
    pub removals: BTreeMap<(NodeId, PartitionId), Revision>,
    /// Partitions by their last change, for `views_since`.
    pub(crate) changes: SharedSet<(Revision, PartitionId)>,
    /// The last `EVENTS_MAX` events, oldest first.
    pub events: VecDeque<Event>,
}

/// Epoch numbers and timestamps above half of their range are taken for damage.
pub const RECEIVED_MAX: u64 = u64::MAX >> 1;

/// How many events are kept.
pub const EVENTS_MAX: usize = 1000;

impl State {
    /// An empty cluster.
    pub fn new(cluster: ClusterId) -> State {
        State {
            cluster,
            revision: Revision::default(),
            clock: UnixMillis::default(),
            minted: 0,
            timestamps: TimestampBlock::default(),
            last_node: NodeId::default(),
            last_database: DatabaseId::default(),
            nodes: BTreeMap::new(),
            databases: BTreeMap::new(),
            partitions: Partitions::default(),
            sinks: BTreeMap::new(),
            sources: BTreeMap::new(),
            users: BTreeMap::new(),
            parted: BTreeMap::new(),
            moves: BTreeMap::new(),
            removals: BTreeMap::new(),
            changes: SharedSet::new(),
            events: VecDeque::new(),
        }
    }

    /// The database of this name.
    pub fn database_named(&self, name: &str) -> Option<(DatabaseId, &Database)> {
        self.databases.iter().find(|(_, database)| database.name == name).map(|(id, database)| (*id, database))
    }

    /// Down to which time history is kept for those who may come back: the lowest cut of a sink or of a parting.
    pub fn pin(&self, database: DatabaseId) -> Option<Timestamp> {
        let promotions = &self.databases.get(&database)?.promotions;
        let of = self.sources.values().filter(|link| link.database == database);
        let sinks = of.filter_map(|link| link.pin_in(promotions));
        let parted = self.parted.values().filter(|link| link.database == database && link.pinned);
        sinks.chain(parted.map(|link| link.promotion.cut)).min()
    }

    /// The database of this id, or the refusal that says that there is none.
    pub(crate) fn expect_database_id(&self, id: DatabaseId) -> Result<&Database, Refusal> {
        self.databases.get(&id).ok_or_else(|| Refusal::NameExisting { object: format!("database {id}") })
    }

    /// The database of this name, or the refusal that says that there is none.
    pub(crate) fn expect_database(&self, name: &str) -> Result<DatabaseId, Refusal> {
        let found = self.database_named(name).map(|(id, _)| id);
        found.ok_or_else(|| Refusal::NameExisting { object: format!("database `{name}`") })
    }

    /// A partition, or the refusal that says that there is none.
    pub(crate) fn expect_partition(&self, id: PartitionId) -> Result<&Partition, Refusal> {
        self.partitions.get(&id).ok_or_else(|| Refusal::NameExisting { object: format!("partition {id}") })
    }

    /// A node that has not been removed, or the refusal that says so.
    pub(crate) fn expect_node(&self, id: NodeId) -> Result<&Node, Refusal> {
        match self.nodes.get(&id) {
            Some(node) if !node.removed => Ok(node),
            Some(_) => Err(Refusal::DoFirst {
                object: format!("node {id}"),
                problem: "was removed from the cluster".into(),
                first: "start it with an empty data directory and a certificate of another number, then add it".into(),
            }),
            None => Err(Refusal::NameExisting { object: format!("node {id}") }),
        }
    }

    /// The present process of a node.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        self.nodes.get(&node).map(|known| Member { node, incarnation: known.incarnation })
    }

    /// The aggregators that decide, or shall.
    pub fn group(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().filter(|(_, node)| node.in_group()).map(|(id, node)| (*id, node))
    }

    /// SQL addresses of the aggregators: any of them takes requests of other regions.
    pub fn sql_addresses(&self) -> Vec<String> {
        self.group().filter_map(|(_, node)| node.addresses.sql.clone()).collect()
    }

    /// A partition as people know it: `app:3`, the database and the ordinal that SHOW PARTITIONS has.
    pub fn partition_name(&self, id: PartitionId) -> String {
        let known = self.databases.get(&id.database);
        known.map_or_else(|| id.to_string(), |known| format!("{}:{}", known.name, id.ordinal))
    }

    /// A node as people know it: its RPC address, which SHOW LEAVES has.
    pub fn node_name(&self, node: NodeId) -> String {
        self.nodes.get(&node).map_or_else(|| format!("node {node}"), |known| known.addresses.rpc.clone())
    }

    /// A database as people know it.
    pub fn database_name(&self, id: DatabaseId) -> String {
        self.databases.get(&id).map_or_else(|| format!("database {id}"), |known| format!("database `{}`", known.name))
    }

    /// Partitions of a database, the meta partition first.
    pub fn partitions_of(&self, database: DatabaseId) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.partitions.range(all_of(database)).map(|(id, partition)| (*id, partition))
    }

    /// A name for a new epoch, above every number minted or received.
    pub(crate) fn mint(&mut self, nonce: u64) -> Epoch {
        self.minted += 1;
        Epoch { number: self.minted, cluster: self.cluster, nonce }
    }

    /// Takes note of an epoch number that a log holds.
    pub(crate) fn receive_epoch(&mut self, number: u64) {
        self.minted = self.minted.max(number);
    }

    /// Takes note of timestamps that were received: nothing at or below them is handed out from now on.
    pub(crate) fn receive_timestamp(&mut self, ts: Timestamp) {
        self.timestamps.received = self.timestamps.received.max(ts);
        self.timestamps.upper = self.timestamps.upper.max(ts);
    }

    /// Counts a change of a partition that its replicas must learn.
    pub(crate) fn touch(&mut self, id: PartitionId) {
        let revision = self.revision;
        let partition = self.partitions.get_mut(&id).expect("only a known partition is touched");
        let old = std::mem::replace(&mut partition.changed, revision);
        self.changes.remove(&(old, id));
        self.changes.insert((revision, id));
    }

    /// The same for all partitions of a database: role, fence or mode have changed.
    pub(crate) fn touch_database(&mut self, database: DatabaseId) {
        let ids: Vec<PartitionId> = self.partitions_of(database).map(|(id, _)| id).collect();
        for id in ids {
            let partition = self.partitions.get_mut(&id).expect("it was listed above");
            partition.version.0 += 1;
            self.touch(id);
        }
        self.touch_news(database);
    }

    /// Partitions that a command after this revision has changed.
    pub fn changed_since(&self, since: Revision) -> impl Iterator<Item = PartitionId> {
        let first = PartitionId { database: DatabaseId(0), ordinal: types::Ordinal(i32::MIN) };
        self.changes.range((Revision(since.0 + 1), first)..).map(|(_, id)| *id)
    }

    /// Counts a change of a database that its leaves must learn, but that is in no view.
    pub(crate) fn touch_news(&mut self, database: DatabaseId) {
        let revision = self.revision;
        if let Some(database) = self.databases.get_mut(&database) {
            database.changed = revision;
        }
    }

    /// Adds an event; the oldest is forgotten.
    pub(crate) fn say(&mut self, severity: Severity, kind: &str, about: About, text: String) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        let About { node, database, partition } = about;
        let (revision, at) = (self.revision, self.clock);
        self.events.push_back(Event { revision, at, severity, kind: kind.into(), node, database, partition, text });
    }

    /// Panics if an invariant does not hold. Costs a pass over everything: for tests and the simulator.
    pub fn check(&self) {
        self.partitions.check();
        for (id, partition) in self.partitions.iter() {
            self.check_partition(*id, partition);
        }
        let mut names = BTreeSet::new();
        for (id, database) in &self.databases {
            assert!(*id <= self.last_database, "database {id} above the last id given, {}", self.last_database);
            assert!(names.insert(&database.name), "two databases are called {}", database.name);
            let held: Vec<_> = self.partitions_of(*id).map(|(id, _)| id.ordinal).collect();
            let wanted: Vec<_> = database.ordinals().collect();
            assert_eq!(held, wanted, "partitions of database {id}");
            self.check_side(*id, database);
            let fenced = &database.fenced;
            assert_eq!(fenced.fence == Fence::None, fenced.holders.is_empty(), "fence of {id}: {fenced:?}");
            let sealed = matches!(fenced.fence, Fence::Sealed(_));
            assert!(sealed || fenced.finals.is_none(), "final positions of {id} without a seal: {fenced:?}");
            let held = sealed && fenced.holders.contains(&Holder::Token);
            assert!(held || database.handover.is_none(), "token of {id} without its seal: {fenced:?}");
        }
        for (id, node) in &self.nodes {
            assert!(*id <= self.last_node, "node {id} above the last id given, {}", self.last_node);
            let held = self.partitions.count_held_by(*id);
            assert!(!node.removed || held == 0, "removed node {id} holds {held} replicas");
        }
        for (id, link) in &self.sources {
            assert!(self.databases.contains_key(&link.database), "source link {id:?} of no database");
        }
        for (id, link) in &self.parted {
            assert!(self.databases.contains_key(&link.database), "parted link {id:?} of no database");
        }
        for (id, wanted) in &self.moves {
            self.check_move(*id, wanted);
        }
        assert!(self.timestamps.received <= self.timestamps.upper, "timestamps {:?}", self.timestamps);
        assert!(self.events.len() <= EVENTS_MAX, "{} events", self.events.len());
    }

    fn check_side(&self, id: DatabaseId, database: &Database) {
        let links: Vec<LinkId> =
            self.sinks.iter().filter(|(_, link)| link.database == id).map(|(link, _)| *link).collect();
        match database.side {
            Side::Writable => assert_eq!(links, [], "writable database {id} follows a link"),
            Side::Sink { link } => {
                assert_eq!(links, [link], "links that database {id} follows");
                assert_eq!(database.fenced.fence, Fence::None, "fence of sink {id}");
            }
        }
        for (partition, held) in self.partitions_of(id) {
            assert_eq!(held.grant.is_none(), database.is_sink(), "grant of {partition}: {:?}", held.grant);
            let (alone, named) = (held.goes_on_for, database.failover_after());
            assert_eq!(alone, longer(alone, named), "another primary of {partition} may be named after {named:?}");
        }
    }

    fn check_move(&self, id: PartitionId, wanted: &Move) {
        let partition = self.partitions.get(&id).unwrap_or_else(|| panic!("a move of {id}, which is not there"));
        assert!(wanted.replicas.contains(&wanted.primary), "{id} shall be led where no copy is: {wanted:?}");
        for node in &wanted.replicas {
            assert!(self.nodes[node].takes_replicas(), "{id} shall be on node {node}, which takes nothing");
        }
        for node in &wanted.added {
            assert!(
                wanted.begun.is_some() && wanted.replicas.contains(node),
                "{id} was added to node {node} for nothing"
            );
        }
        let held = wanted.begun.is_none() || partition.replicas.is_superset(&wanted.replicas);
        assert!(held, "the move of {id} has begun, and it is on {:?}: {wanted:?}", partition.replicas);
    }

    fn check_partition(&self, id: PartitionId, partition: &Partition) {
        let Partition { primary, members, replicas, .. } = partition;
        assert!(self.databases.contains_key(&id.database), "partition {id} of no database");
        assert!(members.contains(primary), "primary {primary} of {id} is not in its set {members:?}");
        for member in members {
            assert!(replicas.contains(&member.node), "member {member} of {id} has no replica, {replicas:?}");
        }
        for node in replicas {
            assert!(self.nodes.contains_key(node), "replica of {id} on unknown node {node}");
            assert!(!self.removals.contains_key(&(*node, id)), "replica of {id} on {node} is to be deleted");
        }
        if let Some(handover) = partition.handover {
            assert!(replicas.contains(&handover.to), "{id} is handed over to who holds no copy: {handover:?}");
        }
        if let Some(grant) = &partition.grant {
            assert!(grant.epoch.number <= self.minted, "epoch {} above the last minted {}", grant.epoch, self.minted);
        }
        assert!(partition.version.0 >= partition.reign.0, "{id} at reign {}, {}", partition.reign, partition.version);
        assert!(self.changes.contains(&(partition.changed, id)), "change of {id} at {} not listed", partition.changed);
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About {
    pub node: Option<NodeId>,
    pub database: Option<DatabaseId>,
    pub partition: Option<types::Ordinal>,
}

impl About {
    /// A partition on a node.
    pub(crate) fn on(id: PartitionId, node: NodeId) -> About {
        About { node: Some(node), ..About::from(id) }
    }
}

impl From<NodeId> for About {
    fn from(node: NodeId) -> About {
        About { node: Some(node), ..About::default() }
    }
}

impl From<DatabaseId> for About {
    fn from(database: DatabaseId) -> About {
        About { database: Some(database), ..About::default() }
    }
}

impl From<PartitionId> for About {
    fn from(id: PartitionId) -> About {
        About { database: Some(id.database), partition: Some(id.ordinal), ..About::default() }
    }
}
