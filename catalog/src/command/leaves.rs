//! Decisions about leaves, and about where partitions lie.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::{NodeId, PartitionId};

use crate::movement::Reason;

/// What becomes of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeafChange {
    /// ADD LEAF: partitions may be placed on it. Ends its removal, too.
    Add {
        /// With whom it fails; `None`: as before, at first with nobody else.
        group: Option<u64>,
    },
    /// REMOVE LEAF: everything is moved away, then it is removed.
    Remove {
        /// What others hold, too, is given up at once.
        force: bool,
        /// Transactions that hold a hand-over up are rolled back.
        kill: bool,
    },
    /// DETACH LEAF: nobody waits for it any more.
    Detach {
        /// Also where fewer copies are left than `min_in_sync` wants.
        force: bool,
        /// Transactions that hold a hand-over up are rolled back.
        kill: bool,
    },
    /// ATTACH LEAF: its copies catch up.
    Attach,
    /// It was removed and holds nothing any more, but is an aggregator as well: as a leaf it waits as before ADD LEAF.
    Dismiss,
    /// ADD LEAF … INTO GROUP OWN: as `Add`, and it fails with nobody else.
    AddApart,
}

/// Where partitions shall be. All of them, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanMoves {
    /// Each of them.
    pub moves: Vec<PlannedMove>,
    /// Who wants it.
    pub reason: Reason,
    /// Transactions that hold a hand-over up are rolled back.
    pub kill: bool,
}

/// Where one partition shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedMove {
    /// Which.
    pub partition: PartitionId,
    /// Where it was when this was planned.
    pub based: BTreeSet<NodeId>,
    /// Who shall hold a copy.
    pub replicas: BTreeSet<NodeId>,
    /// Who shall lead.
    pub primary: NodeId,
}
