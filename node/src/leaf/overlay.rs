//! What a transaction has written at a partition and not committed: its own reads see it on top of the state, and a
//! statement that fails is taken back from it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use types::{PartitionId, TxnId, Write};

/// What a key was to become: a value, or its deletion.
pub type Written = Option<Bytes>;

#[derive(Debug, Default)]
struct Own {
    writes: BTreeMap<Bytes, Written>,
    /// What each write replaced, oldest first: statement, key, what was buffered before.
    replaced: Vec<(u32, Bytes, Option<Written>)>,
}

/// The uncommitted writes at one partition.
#[derive(Debug, Default)]
pub struct Overlays(Mutex<HashMap<TxnId, Own>>);

/// What undoing a statement asks of the replica.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Undone {
    /// Keys that were not written before it.
    pub forget: Vec<Bytes>,
    /// Keys that were, with what counts again.
    pub restore: Vec<Write>,
}

impl Overlays {
    /// Adds what a statement has buffered.
    pub fn add(&self, txn: TxnId, statement: u32, writes: &[Write]) {
        let mut all = self.0.lock();
        let own = all.entry(txn).or_default();
        for write in writes {
            let before = own.writes.insert(write.key.clone(), write.value.clone());
            own.replaced.push((statement, write.key.clone(), before));
        }
    }

    /// Takes back what a statement and those after it have written.
    pub fn undo(&self, txn: TxnId, statement: u32) -> Undone {
        let mut all = self.0.lock();
        let Some(own) = all.get_mut(&txn) else { return Undone::default() };
        let mut touched: BTreeMap<Bytes, Option<Written>> = BTreeMap::new();
        while own.replaced.last().is_some_and(|(at, ..)| *at >= statement) {
            let (_, key, before) = own.replaced.pop().expect("it was just looked at");
            match &before {
                Some(value) => drop(own.writes.insert(key.clone(), value.clone())),
                None => drop(own.writes.remove(&key)),
            }
            touched.insert(key, before);
        }
        let mut undone = Undone::default();
        for (key, before) in touched {
            match before {
                Some(value) => undone.restore.push(Write { key, value }),
                None => undone.forget.push(key),
            }
        }
        undone
    }

    /// What it has written to a key: outer `None` if nothing.
    pub fn get(&self, txn: TxnId, key: &[u8]) -> Option<Written> {
        self.0.lock().get(&txn)?.writes.get(key).cloned()
    }

    /// What it has written from `start` to before `end`, in order.
    pub fn range(&self, txn: TxnId, start: &Bytes, end: &Bytes) -> BTreeMap<Bytes, Written> {
        let all = self.0.lock();
        let Some(own) = all.get(&txn).filter(|_| start < end) else { return BTreeMap::new() };
        own.writes.range(start.clone()..end.clone()).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// It has ended.
    pub fn forget(&self, txn: TxnId) {
        self.0.lock().remove(&txn);
    }
}

/// The uncommitted writes of a leaf, by partition.
pub type AllOverlays = Arc<Mutex<HashMap<PartitionId, Arc<Overlays>>>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &'static str, value: &'static str) -> Write {
        Write { key: Bytes::from_static(key.as_bytes()), value: Some(Bytes::from_static(value.as_bytes())) }
    }

    #[test]
    fn a_failed_statement_leaves_what_was_before_it() {
        let (overlays, txn) = (Overlays::default(), TxnId(1));
        overlays.add(txn, 0, &[write("a", "1")]);
        overlays.add(txn, 1, &[write("a", "2"), write("b", "2")]);
        overlays.add(txn, 1, &[write("a", "3")]);
        let undone = overlays.undo(txn, 1);
        assert_eq!(undone, Undone { forget: vec![Bytes::from_static(b"b")], restore: vec![write("a", "1")] });
        assert_eq!(overlays.get(txn, b"a"), Some(Some(Bytes::from_static(b"1"))));
        assert_eq!(overlays.get(txn, b"b"), None);
        assert_eq!(overlays.undo(txn, 1), Undone::default(), "undone once");
    }
}
