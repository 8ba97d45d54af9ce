//! What a region's catalog tells a replica about its partition. The catalog writes it, replication obeys it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    Epoch, LinkId, Lsn, Member, NodeId, PartitionId, Promotion, Reign, Revision, SetVersion, StartKind, Timestamp,
};

/// The catalog's word on one partition. A replica takes the one with the highest `(reign, version)`.
///
/// Invariants: `primary` is in `members`; `version` rises with every change, of the reign too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Which partition.
    pub partition: PartitionId,
    /// The term of office.
    pub reign: Reign,
    /// When the reign was granted, in the catalog's history.
    pub reign_revision: Revision,
    /// Version of the set.
    pub version: SetVersion,
    /// Who orders writes.
    pub primary: Member,
    /// The in-sync set, primary included: a commit waits for all of them.
    pub members: BTreeSet<Member>,
    /// Nodes that hold or shall hold a replica, the members' among them.
    pub replicas: BTreeSet<NodeId>,
    /// The promotions of the database's history as this catalog has committed them, a promotion that this reign
    /// carries out included. Marks of another list are refused.
    pub promotions: Vec<Promotion>,
    /// May the primary accept writes of clients, and under which name; or whom does it follow.
    pub role: Role,
    /// Raised each time the catalog announced a loss (recovery after power failure, a standing order): rewinding
    /// below `committed` is allowed to a replica that has not yet followed a reign with this count.
    pub losses: u64,
    /// The user's fence, as of this view.
    pub fence: Fence,
    /// ASYNC REPLICATION: the primary is sealed for another one, which may be named without its knowing. It shows nothing
    /// that was read any more.
    pub hands_over: bool,
    /// How the database is kept.
    pub mode: Mode,
    /// ASYNC REPLICATION: so many milliseconds after the catalog's last answer to the primary another one may be named,
    /// without its knowing. `None`: nobody is named so.
    pub failover_after: Option<u64>,
}

/// Which side of the world the partition is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The primary mints records under this epoch; its first record is an `EpochStart` of this kind.
    Writable {
        /// Minted for this reign alone.
        epoch: Epoch,
        /// What the `EpochStart` says; a promotion that the lineage already holds is carried out, then it is a failover.
        start: StartKind,
        /// The `EpochStart`'s timestamp must be above this: everything received before.
        start_above: Timestamp,
    },
    /// The primary follows another region and mints nothing.
    Sink {
        /// Frames of another link are refused.
        link: LinkId,
        /// A person ordered it (FORCE): the served cut may fall, what parted is rewound.
        forced: bool,
        /// The source parted below the served cut, and nobody ordered to follow it: nothing is taken.
        broken: bool,
    },
}

/// The durable order to stop acknowledging writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fence {
    /// Writes are taken.
    #[default]
    None,
    /// Transactions stamped at or above this catalog revision may not start to write.
    Draining(Revision),
    /// No data record is written.
    Sealed(Revision),
}

/// Durability and replication of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode {
    /// An acknowledgement means on disk on every member; otherwise in the memory of every member's machine.
    pub sync_durability: bool,
    /// Every in-sync secondary is waited for; otherwise the set is the primary alone.
    pub sync_replication: bool,
}

/// Where a replica's log ends: what the catalog compares when it must choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogEnd {
    /// Number of the epoch of the last record, 0 for an empty log. Compared first.
    pub epoch_number: u64,
    /// The last record.
    pub lsn: Lsn,
}
