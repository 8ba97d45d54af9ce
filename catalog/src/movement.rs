//! Where a partition shall be that is not there yet.
//!
//! A move is an aim, not a list of steps: which leaves shall hold a copy, and which of them shall lead. The master looks at
//! what is there, and does what comes next ([`crate::decide::moves`]). So it does not matter who did the steps before, or
//! whether a failover came in between; a move that the catalog holds is completed, or given up without a trace.
//!
//! ```text
//!   ordered ──BeginMove──► copies are added ──the primary's own proposals──► all wanted are in the set
//!                                                                                     │ HandOver, NamePrimary
//!                  the move is over ◄──FinishMove: the rest is taken away── the wanted one leads
//! ```
//!
//! No copy is taken away before every wanted one is a member of the set: at no time are there fewer than before. With ASYNC
//! REPLICATION the set is the primary alone; there a copy counts when its leaf reports what the primary has.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use types::{NodeId, Revision};

use crate::event::UnixMillis;

/// Who wants a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// REBALANCE.
    Rebalance,
    /// RESTORE REDUNDANCY.
    Restore,
    /// REMOVE LEAF.
    Drain,
}

/// Where one partition shall be.
///
/// Invariants: `primary` is in `replicas`; `added` is a part of `replicas`, and empty before it has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who shall hold a copy, and nobody else.
    pub replicas: BTreeSet<NodeId>,
    /// Who shall lead.
    pub primary: NodeId,
    /// Transactions that hold the hand-over up are rolled back.
    pub kill: bool,
    /// Who wants it.
    pub reason: Reason,
    /// When it was ordered.
    pub ordered: Revision,
    /// When its first step was done.
    pub begun: Option<UnixMillis>,
    /// Copies that were added for it.
    pub added: BTreeSet<NodeId>,
}
