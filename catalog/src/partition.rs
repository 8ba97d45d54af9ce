//! One partition as the catalog sees it: who orders writes, who is waited for, who holds a copy.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use types::{Epoch, Member, NodeId, Reign, Revision, SetVersion, Timestamp};

use crate::command::Loss;

/// The name under which the primary of a writable database appends. Minted for one reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Never minted before.
    pub epoch: Epoch,
    /// The `EpochStart`'s timestamp must be above this: everything received before.
    pub start_above: Timestamp,
}

/// A planned change of the primary is being prepared: transactions that have not written here yet may not begin to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Who shall lead.
    pub to: NodeId,
    /// Since when.
    pub draining: Revision,
    /// ASYNC REPLICATION: since when no data record is written, so that a replica outside of the set may be found to hold
    /// everything.
    pub sealed: Option<Revision>,
}

/// One partition.
///
/// Invariants:
/// - `primary` is in `members`, the nodes of `members` are in `replicas`.
/// - `reign` and `version` never fall; a higher reign has a higher version.
/// - `grant` is there if and only if the database is writable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The term of office.
    pub reign: Reign,
    /// When it was granted.
    pub reign_revision: Revision,
    /// Of the set, the role, the fence and the mode: rises with each change that a replica must learn.
    pub version: SetVersion,
    /// Who orders writes.
    pub primary: Member,
    /// The in-sync set. Where a primary's process was replaced by a newer one of the same node (SYNC DURABILITY), the
    /// set names both until a new primary is named: the old process stays the primary on paper, the new one is a
    /// member with what is on its disk.
    pub members: BTreeSet<Member>,
    /// Nodes that hold or shall hold a copy.
    pub replicas: BTreeSet<NodeId>,
    /// Writable databases alone.
    pub grant: Option<Grant>,
    /// How often a loss was announced.
    pub losses: u64,
    /// Numbers of the epochs that are no part of its history any more: another log went on without them. In order, apart.
    pub given_up: Vec<Range<u64>>,
    /// Which these were before the order that has granted this reign, if one has: a reign that never begins gives up nothing.
    pub given_up_before: Option<Vec<Range<u64>>>,
    /// Every member has on disk what was committed, so a restarted process is a member. False with ASYNC DURABILITY,
    /// and after a change to SYNC until the primary confirms that all is on disk.
    pub on_disk: bool,
    /// How many milliseconds its primary may serve without an answer of the catalog, by the longest of the terms that it may
    /// believe in; `None` if it may without end. Nobody is named earlier by a standing order, unless it is proved gone.
    ///
    /// Never shorter than [`crate::database::Database::failover_after`], and the same once the primary confirms that.
    pub goes_on_for: Option<u64>,
    /// It is about to change hands, in this reign.
    pub handover: Option<Handover>,
    /// A full copy or a state diff has begun and not ended: the set is the primary alone, nobody else may be named.
    pub incomplete: bool,
    /// The last command that changed it.
    pub changed: Revision,
}

impl Partition {
    /// A log that ends in the epoch `last` goes on with the epoch `next`. Of what was granted in between it has nothing.
    pub(crate) fn give_up(&mut self, last: u64, next: u64) {
        self.given_up.retain(|range| range.start <= last);
        if let Some(range) = self.given_up.last_mut().filter(|range| range.end > last) {
            // It had been given up, and is the history again.
            range.end = last;
        }
        self.given_up.push(last + 1..next);
        self.given_up.retain(|range| !range.is_empty());
    }

    /// Whether an epoch is no part of its history any more, for a choice that gives up so much.
    pub fn has_given_up(&self, epoch: u64, loss: Loss) -> bool {
        let before = self.given_up_before.as_ref().filter(|_| loss == Loss::Instead);
        before.unwrap_or(&self.given_up).iter().any(|range| range.contains(&epoch))
    }
}
