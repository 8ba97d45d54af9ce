//! The processes of a cluster.

use serde::{Deserialize, Serialize};
use types::{Incarnation, NodeId, Revision};

/// Where a node is reached. Texts are `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// Frames and requests of the cluster.
    pub rpc: String,
    /// MySQL clients and DR; aggregators alone.
    pub sql: Option<String>,
    /// Metrics and console.
    pub http: Option<String>,
}

impl Addresses {
    /// The one by which people know the node: where MySQL clients connect, or else where other nodes do.
    pub fn known_by(&self) -> &str {
        self.sql.as_deref().unwrap_or(&self.rpc)
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Speaks MySQL and votes in the catalog.
    pub aggregator: bool,
    /// Holds replicas.
    pub leaf: bool,
}

/// Nodes that fail together: two replicas of a partition are never placed in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Group {
    /// Named by the user.
    Named(u64),
    /// The node is a group of its own.
    Own(NodeId),
}

/// What the cluster wants of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// It has announced itself, and holds nothing before ADD LEAF.
    Joining,
    /// It holds what is placed on it.
    Online,
    /// REMOVE LEAF: what it holds is moved away, then it is removed.
    Draining {
        /// FORCE: nothing is waited for that others hold, too.
        force: bool,
        /// Transactions that hold its primaries up are rolled back.
        kill: bool,
    },
    /// DETACH LEAF: it keeps its copies, nobody waits for them and nobody feeds them.
    Detached {
        /// Transactions that hold its primaries up are rolled back.
        kill: bool,
    },
}

/// One node.
///
/// Invariant: its id is never given to another, its incarnation never falls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Random bits that it wrote into its empty data directory: a repeated registration is recognised by them.
    pub identity: u128,
    /// Where it is reached, as of its last start.
    pub addresses: Addresses,
    /// What it does.
    pub roles: Roles,
    /// With whom it fails.
    pub group: Group,
    /// Its last known process; zero before its first report.
    pub incarnation: Incarnation,
    /// It was removed: what it says is refused.
    pub removed: bool,
    /// An aggregator that was added: it belongs to the group that decides.
    pub added: bool,
    /// What the cluster wants of it as a leaf.
    pub standing: Standing,
    /// When it was registered.
    pub registered: Revision,
}

impl Node {
    /// Whether it belongs to the group that decides, or shall.
    pub fn in_group(&self) -> bool {
        self.roles.aggregator && self.added && !self.removed
    }

    /// Whether replicas may be on it.
    pub fn holds_replicas(&self) -> bool {
        self.roles.leaf && !self.removed
    }

    /// Whether replicas may be placed on it.
    pub fn takes_replicas(&self) -> bool {
        self.holds_replicas() && self.standing == Standing::Online
    }

    /// Whether its copies are put aside: nobody feeds them or waits for them.
    pub fn is_aside(&self) -> bool {
        matches!(self.standing, Standing::Detached { .. } | Standing::Draining { force: true, .. })
    }
}
