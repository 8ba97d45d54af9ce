//! What an aggregator asks of the master for its clients, and its heartbeat.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use catalog::Refusal;
use catalog::command::PlannedMove;
use catalog::decide::balance::Aim;
use serde::{Deserialize, Serialize};
use types::{ClusterId, DatabaseId, Datum, Member, NodeId, PartitionId, Revision, Timestamp};

use crate::dr::{LinkAnswer, LinkRequest, Order, Replicated, Stopped};

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FrontRequest {
    /// The heartbeat.
    Report(FrontReport),
    /// A table of what the master has heard.
    Sheet {
        /// Which.
        of: SheetOf,
        /// For whom: it shows what that user may see.
        user: String,
        /// From where.
        host: String,
        /// From where.
        address: SocketAddr,
    },
    /// Which partitions of a database do not serve yet.
    Late(DatabaseId),
    /// Up to where a database that follows another region may be read.
    Cut(DatabaseId),
    /// What runs in a database that is fenced, and is not decided after this many milliseconds, is rolled back.
    FenceTimeout(DatabaseId, NodeId, u64),
    /// REPLICATE.
    Replicate(Order),
    /// STOP REPLICATING.
    Stop(String),
    /// Where partitions shall be.
    Plan(PlanOrder),
    /// PROMOTE AGGREGATOR.
    Lead(NodeId),
    /// A request of another region.
    Link(LinkRequest, LinkCaller),
}

/// An answer, in the order of the requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FrontAnswer {
    /// To `Report`.
    Orders(FrontOrders),
    /// To `Sheet`.
    Sheet(Result<Table, sql::Error>),
    /// To `Late`: their ordinals.
    Late(Vec<String>),
    /// To `Cut`. Zero: not at all.
    Cut(Timestamp),
    /// To `FenceTimeout`: how many transactions of other aggregators than that one may still write to the database.
    Running(u64),
    /// To `Replicate`.
    Replicated(Result<Replicated, sql::Error>),
    /// To `Stop`.
    Stopped(Result<Stopped, sql::Error>),
    /// To `Plan`.
    Planned(Result<Planned, Refusal>),
    /// To `Lead`: whether that aggregator was told to, or why not.
    Led(Result<(), Refusal>),
    /// To `Link`.
    Link {
        /// What the other region is told.
        answer: LinkAnswer,
        /// It has proved who it is.
        trusted: bool,
    },
}

/// What is to be planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlanOrder {
    /// REBALANCE and RESTORE REDUNDANCY: the plan is ordered as well.
    Rebalance {
        /// Of which database; `None`: of all.
        database: Option<DatabaseId>,
        /// How far.
        aim: Aim,
        /// Transactions that hold a hand-over up are rolled back.
        kill: bool,
        /// It is only told.
        explain: bool,
    },
    /// Where what is on a leaf would go.
    Evacuate(NodeId),
    /// Nothing: whether a leaf is there that is to be attached.
    Attach(NodeId),
}

/// A plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Planned {
    /// Where partitions shall be.
    pub moves: Vec<PlannedMove>,
    /// What a copy of each of them takes, as far as their primaries have said.
    pub bytes: BTreeMap<PartitionId, u64>,
    /// Partitions that it leaves out, for no copy of them is whole.
    pub lost: Vec<PartitionId>,
}

/// Which table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SheetOf {
    /// SHOW LEAVES.
    Leaves,
    /// SHOW AGGREGATORS.
    Aggregators,
    /// SHOW PARTITIONS.
    Partitions(Option<String>),
    /// SHOW CLUSTER STATUS.
    ClusterStatus,
    /// SHOW REBALANCE STATUS.
    Rebalance,
    /// SHOW REPLICATION STATUS.
    Replication(Option<String>),
    /// SHOW REPLICATION STATUS PARTITIONS.
    ReplicationPartitions(Option<String>),
    /// SHOW DATABASES EXTENDED.
    Databases,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cells {
    /// Text.
    Text,
    /// Whole numbers.
    Numbers,
    /// Times.
    Times,
}

/// A table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Names, and what they hold.
    pub columns: Vec<(String, Cells)>,
    /// Values in the order of the columns.
    pub rows: Vec<Vec<Datum>>,
}

/// Who asks from another region.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LinkCaller {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Where it was seen.
    pub address: SocketAddr,
}

/// Names a lock on a database's definitions, for ever.
pub type LockId = u128;

/// An aggregator wants a database's definitions for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The lock.
    pub id: LockId,
    /// The database.
    pub database: DatabaseId,
    /// It was told that it has it.
    pub granted: bool,
}

/// An aggregator's heartbeat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FrontReport {
    /// Who.
    pub member: Member,
    /// The last entry of the catalog's log that is applied there.
    pub applied: u64,
    /// The catalog's revision at which transactions were counted.
    pub revision: Revision,
    /// Transactions that may still write, by database.
    pub open: BTreeMap<DatabaseId, u64>,
    /// Clients.
    pub connections: u64,
    /// Its release.
    pub version: String,
    /// Locks that it wants or has.
    pub wants: Vec<Want>,
    /// Locks of others under which nobody here uses the definitions.
    pub holds: Vec<LockId>,
}

/// A lock that others have or get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLock {
    /// The lock.
    pub id: LockId,
    /// The database.
    pub database: DatabaseId,
    /// Whose.
    pub owner: NodeId,
}

/// The answer to it: until a while after it was sent, the aggregator may write.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FrontOrders {
    /// All locks that are in force; `None`: not known yet, what is held is kept.
    pub locks: Option<Vec<WantedLock>>,
    /// Locks of the one who asked that it has.
    pub granted: Vec<LockId>,
    /// Databases whose undecided transactions are to be rolled back.
    pub cancel: Vec<DatabaseId>,
    /// The master's catalog.
    pub revision: Revision,
}
