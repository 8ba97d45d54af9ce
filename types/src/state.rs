//! What a record means: the state of a partition as a map of bytes, and how a record changes it and is undone.
//!
//! The state is a function of the log prefix and of nothing else. To make undoing cheap and exact, applying only
//! ever *adds* entries, each of which names the record that made it; whether an entry still counts follows from
//! other entries and from the lineage:
//!
//! - a version is dead if a promotion's interval covers it (`Lineage::is_dead`);
//! - a prepared transaction is open while it has no outcome and no promotion was recorded above its Prepare;
//! - a decision is an abort if its commit timestamp lies in a dead interval.
//!
//! So the state after a rewind to `c` is the state without the entries made above `c`. The one record that removes,
//! `Forget`, only marks. Physical removal is garbage collection, below every permitted rewind and read view.
//!
//! | space | key after the space byte | value |
//! |---|---|---|
//! | 1 version | row key, !ts u64 be | lsn u64 be, op u8 (0 deletion, 1 row), row value |
//! | 2 prepared | txn u128 be | lsn u64 be, bound u64 be, first i32 be, writes as in `record` |
//! | 3 outcome | txn u128 be | lsn u64 be, first i32 be, decision u8, ts u64 be |
//! | 4 commit | ts u64 be, lsn u64 be | empty |
//! | 5 forgotten | txn u128 be | lsn u64 be |
//!
//! Row keys are self-delimiting (`key`), so versions of one key are neighbours, newest first.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::record::{Reader, encode_writes};
use crate::{Body, DecodeError, Lsn, Ordinal, Record, Timestamp, TxnId, Write};

/// First byte of a state key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// Row versions.
    Version = 1,
    /// Shares of transactions that are or were prepared.
    Prepared = 2,
    /// How transactions ended.
    Outcome = 3,
    /// Commits by time: finds what a promotion declared dead.
    Commit = 4,
    /// Decisions that need not be kept.
    Forgotten = 5,
}

/// A change of the state: set the key, or remove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// Space byte and key.
    pub key: Bytes,
    /// The new value, `None` to remove.
    pub value: Option<Bytes>,
}

/// One version of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The record that wrote it.
    pub lsn: Lsn,
    /// The row's value, `None` for a deletion.
    pub value: Option<Bytes>,
}

/// A transaction's share as its Prepare left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// The transaction.
    pub txn: TxnId,
    /// The Prepare.
    pub lsn: Lsn,
    /// The commit timestamp will be above this.
    pub bound: Timestamp,
    /// The partition that decides.
    pub first: Ordinal,
    /// The rows.
    pub writes: Vec<Write>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The transaction.
    pub txn: TxnId,
    /// The record that says so.
    pub lsn: Lsn,
    /// The partition that decided.
    pub first: Ordinal,
    /// Commit timestamp, or abort.
    pub decision: Option<Timestamp>,
}

/// Reads the state that is changed.
pub trait Get {
    /// The value at a state key.
    fn get(&self, key: &[u8]) -> Option<Bytes>;
}

/// What applying `record` changes. `state` holds every record below it.
///
/// Panics on a commit of a transaction that was never prepared here and on a second outcome of one: the log then
/// breaks its own rules.
pub fn apply(record: &Record, state: &impl Get) -> Vec<Mutation> {
    let lsn = record.lsn;
    match &record.body {
        Body::EpochStart { .. } => vec![],
        Body::Commit { ts, writes, .. } => versions(writes, *ts, lsn).chain([commit(*ts, lsn)]).collect(),
        Body::Prepare { txn, bound, first, writes } => {
            let prepared = Prepared { txn: *txn, lsn, bound: *bound, first: *first, writes: writes.clone() };
            vec![put(txn_key(Space::Prepared, *txn), prepared.encode())]
        }
        Body::Outcome { txn, first, decision } => {
            let before = self::outcome(state, *txn).filter(|before| before.lsn != lsn);
            assert!(before.is_none(), "outcome of {txn} at {lsn} after {before:?}");
            let outcome = Outcome { txn: *txn, lsn, first: *first, decision: *decision };
            let mut changes = vec![put(txn_key(Space::Outcome, *txn), outcome.encode())];
            if let Some(ts) = decision {
                let prepared =
                    prepared(state, *txn).unwrap_or_else(|| panic!("commit of {txn} at {lsn} without its Prepare"));
                changes.extend(versions(&prepared.writes, *ts, lsn));
                changes.push(commit(*ts, lsn));
            }
            changes
        }
        Body::Forget { txns } => txns.iter().map(|txn| put(txn_key(Space::Forgotten, *txn), lsn_value(lsn))).collect(),
    }
}

/// What undoing `record`, the last one applied, changes: the exact inverse of `apply`.
pub fn undo(record: &Record, state: &impl Get) -> Vec<Mutation> {
    apply(record, state).into_iter().map(|Mutation { key, .. }| Mutation { key, value: None }).collect()
}

/// A prepared transaction's entry, ended or not.
pub fn prepared(state: &impl Get, txn: TxnId) -> Option<Prepared> {
    let value = state.get(&txn_key(Space::Prepared, txn))?;
    Some(Prepared::decode(txn, value).expect("prepared entry was written by apply"))
}

/// A transaction's outcome in this partition's log.
pub fn outcome(state: &impl Get, txn: TxnId) -> Option<Outcome> {
    let value = state.get(&txn_key(Space::Outcome, txn))?;
    Some(Outcome::decode(txn, value).expect("outcome entry was written by apply"))
}

fn versions(writes: &[Write], ts: Timestamp, lsn: Lsn) -> impl Iterator<Item = Mutation> {
    writes
        .iter()
        .map(move |write| put(version_key(&write.key, ts), Version { lsn, value: write.value.clone() }.encode()))
}

fn commit(ts: Timestamp, lsn: Lsn) -> Mutation {
    put(commit_key(ts, lsn), Bytes::new())
}

fn put(key: Bytes, value: Bytes) -> Mutation {
    Mutation { key, value: Some(value) }
}

fn lsn_value(lsn: Lsn) -> Bytes {
    Bytes::copy_from_slice(&lsn.0.to_be_bytes())
}

/// State key of a row's version: newer versions sort first.
pub fn version_key(row: &[u8], ts: Timestamp) -> Bytes {
    let mut key = BytesMut::with_capacity(row.len() + 9);
    key.put_u8(Space::Version as u8);
    key.put_slice(row);
    key.put_u64(!ts.0);
    key.freeze()
}

/// Row key and timestamp of a version's state key; `None` for other keys.
pub fn split_version_key(key: &[u8]) -> Option<(&[u8], Timestamp)> {
    let body = key.strip_prefix(&[Space::Version as u8])?;
    let (row, ts) = body.split_at_checked(body.len().checked_sub(8)?)?;
    Some((row, Timestamp(!u64::from_be_bytes(ts.try_into().ok()?))))
}

/// State key of an entry that is found by transaction.
pub fn txn_key(space: Space, txn: TxnId) -> Bytes {
    let mut key = BytesMut::with_capacity(17);
    key.put_u8(space as u8);
    key.put_u128(txn.0);
    key.freeze()
}

/// State key of a commit in the list by time.
pub fn commit_key(ts: Timestamp, lsn: Lsn) -> Bytes {
    let mut key = BytesMut::with_capacity(17);
    key.put_u8(Space::Commit as u8);
    key.put_u64(ts.0);
    key.put_u64(lsn.0);
    key.freeze()
}

/// Time and position of a commit's state key; `None` for other keys.
pub fn split_commit_key(key: &[u8]) -> Option<(Timestamp, Lsn)> {
    let body: [u8; 16] = key.strip_prefix(&[Space::Commit as u8])?.try_into().ok()?;
    let (mut ts, mut lsn) = body.split_at(8);
    Some((Timestamp(ts.get_u64()), Lsn(lsn.get_u64())))
}

impl Version {
    /// The entry's value.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(9 + self.value.as_ref().map_or(0, Bytes::len));
        out.put_u64(self.lsn.0);
        out.put_u8(u8::from(self.value.is_some()));
        out.put_slice(self.value.as_deref().unwrap_or_default());
        out.freeze()
    }

    /// Reads an entry's value.
    pub fn decode(value: Bytes) -> Result<Version, DecodeError> {
        let mut input = Reader::new(value);
        let lsn = Lsn(input.take(8)?.get_u64());
        let value = match input.u8()? {
            0 => None,
            1 => Some(input.take(input.remaining())?),
            tag => return Err(DecodeError::Tag { what: "version", tag }),
        };
        Ok(Version { lsn, value })
    }
}

impl Prepared {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u64(self.lsn.0);
        out.put_u64(self.bound.0);
        out.put_i32(self.first.0);
        encode_writes(&self.writes, &mut out);
        out.freeze()
    }

    /// Reads an entry's value.
    pub fn decode(txn: TxnId, value: Bytes) -> Result<Prepared, DecodeError> {
        let mut input = Reader::new(value);
        let (lsn, bound) = (Lsn(input.take(8)?.get_u64()), Timestamp(input.take(8)?.get_u64()));
        let first = Ordinal(input.take(4)?.get_i32());
        Ok(Prepared { txn, lsn, bound, first, writes: input.writes()? })
    }
}

impl Outcome {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(21);
        out.put_u64(self.lsn.0);
        out.put_i32(self.first.0);
        out.put_u8(u8::from(self.decision.is_some()));
        out.put_u64(self.decision.unwrap_or_default().0);
        out.freeze()
    }

    /// Reads an entry's value.
    pub fn decode(txn: TxnId, value: Bytes) -> Result<Outcome, DecodeError> {
        let mut input = Reader::new(value);
        let (lsn, first) = (Lsn(input.take(8)?.get_u64()), Ordinal(input.take(4)?.get_i32()));
        let (decided, ts) = (input.u8()?, Timestamp(input.take(8)?.get_u64()));
        Ok(Outcome { txn, lsn, first, decision: (decided == 1).then_some(ts) })
    }
}
