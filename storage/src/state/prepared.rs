//! Which transactions are prepared and undecided: an index, for a start and a new reign ask, and what was prepared and has
//! ended stays as long as a rewind may need it, with all that it wrote.
//!
//! | key | value (integers little-endian) |
//! |---|---|
//! | 00 05 | bound u64: at or above that of each Prepare that was ever applied; missing: there was none |
//! | 00 06 txn u128 be | empty: it has a Prepare and no outcome. A promotion above the Prepare ends it without one |
//!
//! It is changed in the batch that changes the entries that it is about. A state of format 1 has none: it is made when that is
//! opened.

use bytes::Bytes;
use types::state::{self, Prepared, Space};
use types::{Lsn, Timestamp, TxnId};

use super::rocks::{Batch, Snapshot, Store, Walk};
use super::view::damaged;
use super::{Change, PartitionState, StateError, meta, promoted_above};

/// Key of the bound.
const BOUND: [u8; 2] = [0, 5];
/// First bytes of the index.
const OPEN: [u8; 2] = [0, 6];

impl PartitionState {
    /// The transactions that are prepared and undecided, in the order of their Prepares.
    pub fn open_prepared(&self) -> Result<Vec<Prepared>, StateError> {
        let (snapshot, position) = self.snapshot();
        let mut open = Vec::new();
        let mut walker = snapshot.walk(Walk::Range, &[OPEN[0], OPEN[1] + 1]);
        walker.seek(&OPEN);
        while let Some((key, _)) = walker.item()? {
            let txn = txn_of(&key[1..]).ok_or_else(|| damaged(&walker, "key of an open transaction"))?;
            let value = snapshot.get(&state::txn_key(Space::Prepared, txn))?;
            let value = value.ok_or_else(|| damaged(&walker, &format!("Prepare of {txn}, which is open")))?;
            let prepared = Prepared::decode(txn, value)
                .map_err(|error| damaged(&walker, &format!("prepared entry of {txn}: {error}")))?;
            if !promoted_above(&position.lineage, prepared.lsn) {
                open.push(prepared);
            }
            walker.next();
        }
        open.sort_by_key(|prepared| prepared.lsn);
        Ok(open)
    }
}

impl Change<'_> {
    /// An entry of a transaction is set or removed: what the index says of it from now on.
    pub(super) fn index(&mut self, key: &[u8], value: Option<&Bytes>) -> Result<(), StateError> {
        let open = match (key[0] == Space::Prepared as u8, value) {
            (true, Some(value)) => {
                let bound = bound_of(value).ok_or_else(|| self.state.damaged("unreadable Prepare".into()))?;
                self.position.bound = self.position.bound.max(bound);
                true
            }
            (true, None) | (false, Some(_)) => false,
            // An outcome is undone.
            (false, None) => match txn_of(key) {
                Some(txn) => self.fetch(Space::Prepared, txn)?.1.is_some(),
                None => false,
            },
        };
        if open {
            self.batch.put(&open_key(key), &[]);
        } else {
            self.batch.delete(&open_key(key));
        }
        Ok(())
    }
}

/// The bound, for a batch.
pub(super) fn note_bound(bound: Timestamp, batch: &mut Batch) {
    batch.put(&BOUND, &bound.0.to_le_bytes());
}

/// What is no Prepare any more is not open.
pub(super) fn forget(prepared_key: &[u8], batch: &mut Batch) {
    batch.delete(&open_key(prepared_key));
}

/// The bound of a state that has the index.
pub(super) fn read_bound(snapshot: &Snapshot) -> Result<Timestamp, StateError> {
    let bound = snapshot.get(&BOUND)?.and_then(|value| value.first_chunk().copied());
    Ok(Timestamp(bound.map_or(0, u64::from_le_bytes)))
}

/// Makes the index of a state of format 1, which stands at `applied`; returns the bound.
pub(super) fn make(store: &Store, applied: Lsn) -> Result<Timestamp, StateError> {
    let (snapshot, mut batch, mut bound) = (store.snapshot(), Batch::default(), Timestamp::ZERO);
    let mut walker = snapshot.walk(Walk::Range, &[Space::Prepared as u8 + 1]);
    walker.seek(&[Space::Prepared as u8]);
    while let Some((key, value)) = walker.item()? {
        let txn = txn_of(key).ok_or_else(|| damaged(&walker, "prepared entry's key"))?;
        bound = bound.max(bound_of(value).ok_or_else(|| damaged(&walker, "prepared entry"))?);
        if snapshot.get(&state::txn_key(Space::Outcome, txn))?.is_none() {
            batch.put(&open_key(key), &[]);
        }
        walker.next();
    }
    note_bound(bound, &mut batch);
    batch.put(&meta::APPLIED, &meta::encode_applied(applied));
    store.write(batch)?;
    Ok(bound)
}

fn open_key(txn_key: &[u8]) -> Vec<u8> {
    [&OPEN, &txn_key[1..]].concat()
}

/// Whose an entry is, by its key.
pub(super) fn txn_of(key: &[u8]) -> Option<TxnId> {
    Some(TxnId(u128::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

/// Of a prepared entry's value.
fn bound_of(value: &[u8]) -> Option<Timestamp> {
    let bytes = value.get(8..16)?.try_into().ok()?;
    Some(Timestamp(u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use types::{Body, ClusterId, Epoch, Lineage, Ordinal, Record, StartKind};

    use super::super::{LogPosition, StateConfig, StateEnv, format_of};
    use super::*;

    const ENDED: TxnId = TxnId(1);
    const OPEN_ONE: TxnId = TxnId(2);

    /// One transaction was prepared and has been aborted, another one is open, with a lower bound.
    fn log() -> Vec<Record> {
        let prepare = |txn, bound| Body::Prepare { txn, bound: Timestamp(bound), first: Ordinal(3), writes: vec![] };
        let bodies = [
            Body::EpochStart { start_ts: Timestamp(10), kind: StartKind::Failover },
            prepare(ENDED, 40),
            prepare(OPEN_ONE, 30),
            Body::Outcome { txn: ENDED, first: Ordinal(3), decision: None },
        ];
        let epoch = Epoch { cluster: ClusterId(1), number: 1, nonce: 7 };
        let record = |(at, body)| Record { epoch, lsn: Lsn(at as u64 + 1), body };
        bodies.into_iter().enumerate().map(record).collect()
    }

    fn open(env: &std::sync::Arc<StateEnv>, dir: &std::path::Path) -> PartitionState {
        let mut lineage = Lineage::new();
        log().iter().filter_map(Record::lineage_entry).for_each(|entry| lineage.push(entry));
        PartitionState::open(env, dir, Ordinal(0), LogPosition { end: Lsn(4), lineage: &lineage }).unwrap()
    }

    fn assert_open(state: &PartitionState) {
        let open: Vec<TxnId> = state.open_prepared().unwrap().iter().map(|prepared| prepared.txn).collect();
        assert_eq!((open, state.newest().unwrap()), (vec![OPEN_ONE], Timestamp(40)));
    }

    #[test]
    fn what_has_ended_is_not_read() {
        let (dir, env) = (tempfile::tempdir().unwrap(), StateEnv::new(&StateConfig::default()).unwrap());
        let state = open(&env, dir.path());
        state.apply(&log()).unwrap();
        let mut batch = Batch::default();
        batch.put(&state::txn_key(Space::Prepared, ENDED), b"?");
        state.store.write(batch).unwrap();
        assert_open(&state);
        state.flush(Lsn(4)).unwrap();
        drop(state);
        assert_open(&open(&env, dir.path()));
    }

    #[test]
    fn a_state_of_format_1_gets_its_index_when_it_is_opened() {
        let (dir, env) = (tempfile::tempdir().unwrap(), StateEnv::new(&StateConfig::default()).unwrap());
        let state = open(&env, dir.path());
        state.apply(&log()).unwrap();
        let mut batch = Batch::default();
        batch.delete(&BOUND);
        [ENDED, OPEN_ONE].iter().for_each(|txn| batch.delete(&open_key(&state::txn_key(Space::Prepared, *txn))));
        let applied = meta::encode_applied(Lsn(4));
        batch.put(&meta::APPLIED, &[&[meta::UNINDEXED], &applied[1..]].concat());
        state.store.write(batch).unwrap();
        state.flush(Lsn(4)).unwrap();
        drop(state);
        for _ in 0..2 {
            let state = open(&env, dir.path());
            assert_open(&state);
            assert_eq!(format_of(&state.store.snapshot()).unwrap(), (Some(meta::FORMAT), Lsn(4)));
            state.flush(Lsn(4)).unwrap();
        }
    }
}
