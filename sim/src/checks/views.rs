//! `protocol.md` section 4: a read at a view is complete. It has seen all that is committed at or below the view, whenever that
//! is: what a reader did not see in its view does not appear there later.

use bytes::Bytes;
use types::{Ordinal, Promotion, Timestamp, TxnId};

use crate::world::World;

/// As it is reported.
pub const NAME: &str = "views";

/// What a reader was shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// In which term.
    pub term: Vec<Promotion>,
    /// Of which partition.
    pub ordinal: Ordinal,
    /// Which row.
    pub key: Bytes,
    /// At which view.
    pub view: Timestamp,
    /// Who wrote what it saw.
    pub seen: Option<TxnId>,
}

/// Reads at views that were answered.
#[derive(Debug, Default)]
pub struct Views(pub Vec<Shown>);

impl World {
    /// Everything has committed that ever will: the history has nothing in a view that its reader was not shown.
    pub(crate) fn check_views(&mut self) {
        for Shown { term, ordinal, key, view, seen } in std::mem::take(&mut self.checks.views.0) {
            let found = self.checks.history.rows(&term, view).get(&(ordinal, key.clone())).copied();
            if found != seen {
                let text =
                    format!("a read of {key:?} of partition {ordinal} at {view} saw {seen:x?}, history {found:x?}");
                return self.fail(NAME, text);
            }
        }
    }
}
