//! Everything that can be decided. One variant per decision, each a value that names what it was based on.
//!
//! A command carries what a state machine must not ask for: random bits (`nonce`, ids), times, and what was read from
//! replicas (positions, received timestamps and epoch numbers).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::{Incarnation, Member, Mode, NodeId, PartitionId, Reign, SetVersion, Timestamp};

use crate::database::Options;
use crate::node::{Addresses, Roles};

/// One decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A node with an empty data directory joins. Answers its id; repeated with the same identity, the same id.
    RegisterNode {
        /// Random bits from its data directory.
        identity: u128,
        /// Where it is reached.
        addresses: Addresses,
        /// What it does.
        roles: Roles,
        /// With whom it fails; `None`: a group of its own.
        group: Option<u64>,
    },
    /// A process of a node has started. It replaces its predecessor in the in-sync sets of databases whose members
    /// have on disk what they acknowledged; elsewhere it is no member until it has caught up.
    NodeStarted {
        /// Which node.
        node: NodeId,
        /// Above every earlier one.
        incarnation: Incarnation,
        /// Where it is reached now.
        addresses: Addresses,
    },
    /// A node goes for good. Refused while it holds a replica.
    RemoveNode {
        /// Which node.
        node: NodeId,
    },
    /// A new, empty, writable database.
    CreateDatabase(CreateDatabase),
    /// A database goes with all its partitions and links. Epoch numbers are not reset.
    DropDatabase {
        /// Its name.
        name: String,
    },
    /// Other settings.
    AlterDatabase {
        /// Its name.
        name: String,
        /// Durability and replication from now on.
        mode: Mode,
        /// Settings from now on.
        options: Options,
    },
    /// The primary changes its in-sync set: a compare-and-set on reign and version.
    ProposeSet {
        /// Of which partition.
        partition: PartitionId,
        /// The proposer's reign.
        reign: Reign,
        /// The set that it knows.
        version: SetVersion,
        /// The change.
        change: SetChange,
    },
    /// After a change to SYNC DURABILITY: every member has on disk what was committed.
    ConfirmDurable {
        /// Of which partition.
        partition: PartitionId,
        /// The primary's reign.
        reign: Reign,
        /// The set of which it is true.
        version: SetVersion,
    },
    /// The primary begins a full copy or a state diff (`true`), or has ended it (`false`).
    MarkIncomplete {
        /// Of which partition.
        partition: PartitionId,
        /// The primary's reign.
        reign: Reign,
        /// Whether its state is good for nothing yet.
        incomplete: bool,
    },
    /// A new term of office: a compare-and-set on reign and version.
    NamePrimary(NamePrimary),
    /// After a loss: a writable database goes on from a consistent cut, by the same record as a promotion.
    RecoverToCut(RecoverToCut),
    /// A node shall hold a copy of a partition.
    AddReplica {
        /// Which partition.
        partition: PartitionId,
        /// Which leaf.
        node: NodeId,
    },
    /// A node shall hold a copy no longer. Refused while a member of the set is on it.
    RemoveReplica {
        /// Which partition.
        partition: PartitionId,
        /// Which leaf.
        node: NodeId,
    },
    /// A leaf has deleted the files of a copy that it was told to give up.
    ReplicaGone {
        /// Which partition.
        partition: PartitionId,
        /// Which leaf.
        node: NodeId,
    },
    /// The leader's clock may hand out timestamps up to here.
    ExtendTimestampBlock {
        /// The new upper bound, inclusive.
        upper: Timestamp,
    },
}

/// A change of an in-sync set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetChange {
    /// It has caught up and is waited for already.
    Add(Member),
    /// It is silent or gone, and still waited for.
    Remove(Member),
}

/// A new database, and where its copies go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDatabase {
    /// As clients call it.
    pub name: String,
    /// Random bits, common to all regions that will hold it.
    pub identity: u128,
    /// How many partitions hold rows.
    pub partitions: u32,
    /// Durability and replication.
    pub mode: Mode,
    /// Settings.
    pub options: Options,
    /// Leaves of each partition, the meta partition first; the first leaf of each is the primary
    /// ([`crate::decide::placement::assign`]).
    pub placement: Vec<Vec<NodeId>>,
    /// Random bits of the epochs.
    pub nonce: u64,
}

/// Who becomes primary, of which set, and what was lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamePrimary {
    /// Of which partition.
    pub partition: PartitionId,
    /// The reign that ends.
    pub reign: Reign,
    /// The set on which the choice was based.
    pub version: SetVersion,
    /// Who.
    pub primary: Member,
    /// The new set, primary included.
    pub members: BTreeSet<Member>,
    /// Random bits of the epoch.
    pub nonce: u64,
    /// The highest epoch number of a log that may be gone on from, as far as reports tell, else 0.
    pub received_epoch: u64,
    /// Whether the choice states a loss.
    pub loss: Loss,
}

/// What naming a primary gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Nothing: it is a member of the set.
    None,
    /// What the old primary alone held: the user's standing order (`async_failover_after`), or a person's.
    Order,
    /// What no disk held when the last process of the set ended.
    Recovery,
}

/// A database goes on from a consistent cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverToCut {
    /// Which.
    pub database: types::DatabaseId,
    /// Random bits; repeated, it is recognised by them.
    pub promotion: types::PromotionId,
    /// Everything committed at or below this is kept, nothing above.
    pub cut: Timestamp,
    /// New primaries of the partitions of which no member lives; based on these reigns and versions.
    pub named: Vec<NamePrimary>,
    /// Random bits of the other partitions' epochs.
    pub nonce: u64,
    /// The highest epoch number in any partition's log.
    pub received_epoch: u64,
    /// Above every timestamp in any partition's log.
    pub start_above: Timestamp,
}
