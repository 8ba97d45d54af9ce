//! Transactions that have begun to write and have not ended: whom a fence waits for, and whom it ends at its timeout.
//!
//! A transaction is stamped with the catalog's revision when it writes for the first time; in the same moment it is
//! listed here. So whoever has seen a database draining and finds nobody listed knows that nobody will be: a later
//! stamp sees the fence.
//!
//! A transaction is cancelled by a mark that it looks at before and after everything that it asks of leaves. What it
//! holds there is given back by the one who cancels it, and again by itself if something was under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sql::Error;
use types::{DatabaseId, Revision, TxnId};

use crate::master::Catalog;
use crate::writable;

/// All of one aggregator.
#[derive(Default)]
pub struct Stamps {
    open: Mutex<BTreeMap<TxnId, Open>>,
}

struct Open {
    database: DatabaseId,
    phase: Phase,
    /// Requests to leaves that are not answered.
    at_work: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Undecided,
    /// It can only be rolled back.
    Cancelled,
    /// Its commit was sent: it ends by itself.
    Deciding,
}

/// One transaction's entry; it ends with it.
pub struct Stamp {
    stamps: Arc<Stamps>,
    txn: TxnId,
    /// The catalog's, at its first write.
    pub revision: Revision,
}

/// Something is asked of a leaf.
pub struct Work {
    stamp: Arc<Stamp>,
}

impl Stamps {
    /// Lists a transaction that writes to a database from now on; 1290 where none may.
    pub fn stamp(self: &Arc<Stamps>, txn: TxnId, database: DatabaseId, catalog: &Catalog) -> Result<Stamp, Error> {
        let mut open = self.open.lock();
        // Under the lock: who counts after it has seen a later state counts this one.
        let state = catalog.state();
        if let Some(refusal) = writable::refusal(&state, database) {
            return Err(refusal);
        }
        open.insert(txn, Open { database, phase: Phase::Undecided, at_work: 0 });
        Ok(Stamp { stamps: self.clone(), txn, revision: state.revision })
    }

    /// How many transactions may still write, by database, as of the catalog's revision, which is read meanwhile: none is
    /// listed later that has seen less.
    pub fn counts(&self, revision: impl FnOnce() -> Revision) -> (Revision, BTreeMap<DatabaseId, u64>) {
        let open = self.open.lock();
        let mut counts = BTreeMap::new();
        let ended = |open: &Open| open.phase == Phase::Cancelled && open.at_work == 0;
        for open in open.values().filter(|open| !ended(open)) {
            *counts.entry(open.database).or_default() += 1;
        }
        (revision(), counts)
    }

    /// Cancels the undecided transactions of a database: what they hold at leaves is to be given back.
    pub fn cancel(&self, database: DatabaseId) -> Vec<TxnId> {
        let mut open = self.open.lock();
        let undecided = |open: &Open| open.database == database && open.phase == Phase::Undecided;
        let found = open.iter_mut().filter(|(_, open)| undecided(open));
        let cancel = |(txn, open): (&TxnId, &mut Open)| {
            open.phase = Phase::Cancelled;
            *txn
        };
        found.map(cancel).collect()
    }
}

impl Stamp {
    fn with<T>(&self, look: impl FnOnce(&mut Open) -> T) -> T {
        let mut open = self.stamps.open.lock();
        look(open.get_mut(&self.txn).expect("an entry lives as long as its stamp"))
    }

    /// Whether it can only be rolled back.
    pub fn is_cancelled(&self) -> bool {
        self.with(|open| open.phase == Phase::Cancelled)
    }

    /// Something is asked of a leaf until the answer is dropped. `None`: it is cancelled.
    pub fn work(self: &Arc<Stamp>) -> Option<Work> {
        let begin = |open: &mut Open| {
            open.at_work += u32::from(open.phase != Phase::Cancelled);
            open.phase != Phase::Cancelled
        };
        self.with(begin).then(|| Work { stamp: self.clone() })
    }

    /// Its commit is sent now; nobody cancels it any more. False: it is cancelled.
    pub fn decide(&self) -> bool {
        self.with(|open| {
            if open.phase == Phase::Undecided {
                open.phase = Phase::Deciding;
            }
            open.phase == Phase::Deciding
        })
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        self.stamps.open.lock().remove(&self.txn);
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.stamp.with(|open| open.at_work -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(stamps: &Stamps, database: u64) -> u64 {
        stamps.counts(Revision::default).1.get(&DatabaseId(database)).copied().unwrap_or(0)
    }

    fn listed(stamps: &Arc<Stamps>, txn: u128, database: u64) -> Arc<Stamp> {
        let open = Open { database: DatabaseId(database), phase: Phase::Undecided, at_work: 0 };
        stamps.open.lock().insert(TxnId(txn), open);
        Arc::new(Stamp { stamps: stamps.clone(), txn: TxnId(txn), revision: Revision(1) })
    }

    #[test]
    fn a_cancelled_transaction_counts_until_its_request_is_answered() {
        let stamps = Arc::new(Stamps::default());
        let (writing, idle, elsewhere) = (listed(&stamps, 1, 7), listed(&stamps, 2, 7), listed(&stamps, 3, 8));
        let work = writing.work().expect("nobody has cancelled it");
        assert_eq!(stamps.cancel(DatabaseId(7)), [TxnId(1), TxnId(2)]);
        assert_eq!(count(&stamps, 7), 1, "the one that is at work");
        assert!(idle.work().is_none() && idle.is_cancelled() && !idle.decide());
        assert!(!elsewhere.is_cancelled());
        drop(work);
        assert_eq!(count(&stamps, 7), 0);
    }

    #[test]
    fn what_is_decided_is_not_cancelled_and_counts_to_its_end() {
        let stamps = Arc::new(Stamps::default());
        let deciding = listed(&stamps, 1, 7);
        assert!(deciding.decide());
        assert_eq!(stamps.cancel(DatabaseId(7)), []);
        assert!(deciding.work().is_some());
        assert_eq!(count(&stamps, 7), 1);
        drop(deciding);
        assert_eq!(count(&stamps, 7), 0);
    }
}
