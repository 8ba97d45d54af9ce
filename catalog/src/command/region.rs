//! Decisions inside a region: databases, sets, reigns.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::{DatabaseId, Member, Mode, NodeId, PartitionId, PromotionId, Reign, SetVersion, Timestamp};

use crate::database::Options;

/// A change of an in-sync set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetChange {
    /// It has caught up and is waited for already.
    Add(Member),
    /// It is silent or gone, and still waited for.
    Remove(Member),
}

/// What a primary confirms after a change of its database's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmed {
    /// SYNC DURABILITY: every member has on disk what was committed.
    Durable,
    /// It stops serving when [`crate::database::Database::failover_after`] wants that, as of now.
    Failover,
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
    /// Nothing: no process of the set lives, or none that has anything, but the machine of the one that is named has kept its
    /// power since.
    Kept,
    /// As by an order, instead of the one by which the present reign was granted: the process that it named has ended, and
    /// nobody had told it.
    Instead,
}

impl Loss {
    /// Whether something may be given up.
    pub fn gives_up(self) -> bool {
        self.is_order() || self == Loss::Recovery
    }

    /// Whether it is by a standing order, or a person's.
    pub fn is_order(self) -> bool {
        matches!(self, Loss::Order | Loss::Instead)
    }
}

/// A database goes on from a consistent cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoverToCut {
    /// Which.
    pub database: DatabaseId,
    /// Random bits; repeated, it is recognised by them.
    pub promotion: PromotionId,
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
