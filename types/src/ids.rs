//! Names of things the catalog mints: nodes, databases, partitions, reigns, transactions.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A process's place in a cluster: kept across restarts, never given to another.
    NodeId(u64)
}
id! {
    /// How often a node's process has started; a newer one proves the older ones gone.
    Incarnation(u64)
}
id! {
    /// A database of one cluster. The same database has different ids in different regions.
    DatabaseId(u64)
}
id! {
    /// A table or index; never minted twice within a database's history, so it travels with the log.
    TableId(u64)
}
id! {
    /// A primary's term of office for one partition in its region's catalog. Fences messages, never enters the log.
    Reign(u64)
}
id! {
    /// Version of a partition's in-sync set; every change of set or reign raises it.
    SetVersion(u64)
}
id! {
    /// Position in a region's catalog history: the number of commands applied.
    Revision(u64)
}
id! {
    /// Which definitions of tables a statement was planned with. Every change of them raises it within a history, and
    /// its steps are random, so that two histories of a database do not name different definitions alike.
    SchemaVersion(u64)
}
id! {
    /// A DR link between a source and a sink database.
    LinkId(u128)
}
id! {
    /// A transaction; random, unique over all clusters.
    TxnId(u128)
}

/// Ordinal of a partition within its database: 0 and up hold rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ordinal(pub i32);

impl Ordinal {
    /// The partition that holds the database's schema.
    pub const META: Ordinal = Ordinal(-1);
}

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One hash shard of a database; the unit of replication and placement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionId {
    /// Of which database.
    pub database: DatabaseId,
    /// Which shard.
    pub ordinal: Ordinal,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.ordinal)
    }
}

/// A process that holds replicas: in-sync sets name these, so that a restarted process is another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Which of its processes.
    pub incarnation: Incarnation,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}", self.node, self.incarnation)
    }
}
