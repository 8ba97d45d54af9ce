//! Row locks, exclusive, with one queue a key. A request takes all its keys at once or none: it holds nothing while it
//! waits in the queue of one that is taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use types::{Revision, TxnId};

use crate::{Ticket, Touch};

/// A lock request that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub ticket: Ticket,
    pub txn: TxnId,
    pub touch: Touch,
    pub stamp: Revision,
    pub keys: BTreeSet<Bytes>,
}

/// Who holds which key, and who waits for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Locks {
    held: BTreeMap<Bytes, TxnId>,
    queues: BTreeMap<Bytes, VecDeque<Waiting>>,
}

impl Locks {
    /// Takes all keys, or none if another transaction holds one.
    pub fn take(&mut self, txn: TxnId, keys: &BTreeSet<Bytes>) -> bool {
        if keys.iter().any(|key| self.held.get(key).is_some_and(|holder| *holder != txn)) {
            return false;
        }
        self.held.extend(keys.iter().map(|key| (key.clone(), txn)));
        true
    }

    /// Waits for the first key that another transaction holds.
    pub fn wait(&mut self, waiting: Waiting) {
        let taken = |key: &&Bytes| self.held.get(*key).is_some_and(|holder| *holder != waiting.txn);
        let key = waiting.keys.iter().find(taken).expect("a request that waits has a key to wait for").clone();
        self.queues.entry(key).or_default().push_back(waiting);
    }

    /// Frees keys; returns the requests that waited for them, in order, to be tried again.
    pub fn release(&mut self, keys: &BTreeSet<Bytes>) -> Vec<Waiting> {
        keys.iter()
            .flat_map(|key| {
                self.held.remove(key);
                self.queues.remove(key).unwrap_or_default()
            })
            .collect()
    }

    /// Forgets a request that waits.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.cancel_where(|waiting| waiting.ticket == ticket);
    }

    /// Forgets the requests of a transaction; returns them.
    pub fn cancel_txn(&mut self, txn: TxnId) -> Vec<Ticket> {
        self.cancel_where(|waiting| waiting.txn == txn)
    }

    fn cancel_where(&mut self, over: impl Fn(&Waiting) -> bool) -> Vec<Ticket> {
        let mut cancelled = vec![];
        self.queues.retain(|_, queue| {
            cancelled.extend(queue.iter().filter(|waiting| over(waiting)).map(|waiting| waiting.ticket));
            queue.retain(|waiting| !over(waiting));
            !queue.is_empty()
        });
        cancelled
    }

    /// The requests that wait, which wait no longer.
    pub fn drain(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.queues).into_values().flatten().map(|waiting| waiting.ticket).collect()
    }
}
