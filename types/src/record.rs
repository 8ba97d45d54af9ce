//! A record of a partition's log: what happened, in physical keys and values, and its bytes.
//!
//! Applying a record never reads the schema. The payload's layout (all integers little-endian, `bytes` = `u32`
//! length, then the bytes) is version 1 of `docs/formats.md`:
//!
//! | kind | payload |
//! |---|---|
//! | 1 EpochStart | start_ts u64, kind u8 (0 failover, 1 promotion), promotion: id u128, cut u64 |
//! | 2 Commit | txn u128, ts u64, writes |
//! | 3 Prepare | txn u128, bound u64, first i32, writes |
//! | 4 Outcome | txn u128, first i32, decision u8 (0 abort, 1 commit), ts u64 |
//! | 5 Forget | count u32, txn u128 each |
//!
//! `writes` = count u32, then per write: op u8 (0 delete, 1 put), key bytes, value bytes (put only).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Epoch, LineageEntry, Lsn, Ordinal, PromotionId, StartKind, Timestamp, TxnId};

/// One record. `(epoch, lsn)` names it for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Under which epoch it was written.
    pub epoch: Epoch,
    /// Its position.
    pub lsn: Lsn,
    /// What happened.
    pub body: Body,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A new epoch begins; always its first record.
    EpochStart {
        /// Above every timestamp received before.
        start_ts: Timestamp,
        /// Failover or promotion.
        kind: StartKind,
    },
    /// A transaction of this partition alone, committed.
    Commit {
        /// The transaction.
        txn: TxnId,
        /// Its commit timestamp.
        ts: Timestamp,
        /// Its rows.
        writes: Vec<Write>,
    },
    /// One partition's share of a transaction, ready to commit.
    Prepare {
        /// The transaction.
        txn: TxnId,
        /// Its commit timestamp will be above this.
        bound: Timestamp,
        /// The partition whose log holds the decision.
        first: Ordinal,
        /// Its rows.
        writes: Vec<Write>,
    },
    /// The transaction ended. In the first participant's log this is the decision.
    Outcome {
        /// The transaction.
        txn: TxnId,
        /// The partition whose log holds the decision.
        first: Ordinal,
        /// Commit timestamp, or `None` for an abort.
        decision: Option<Timestamp>,
    },
    /// These decisions need not be kept any more: every participant has its outcome.
    Forget {
        /// The transactions.
        txns: Vec<TxnId>,
    },
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The row's or index entry's key (`key`).
    pub key: Bytes,
    /// Its value, `None` for a deletion.
    pub value: Option<Bytes>,
}

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The payload ends too early.
    #[error("payload ends after {0} bytes")]
    Short(usize),
    /// A tag that this version does not know.
    #[error("{what} {tag} is not known")]
    Tag {
        /// Which tag.
        what: &'static str,
        /// Its value.
        tag: u8,
    },
    /// Things that must rise do not.
    #[error("{0} out of order")]
    Order(&'static str),
    /// Bytes follow the payload's end.
    #[error("{0} bytes follow the payload")]
    Trailing(usize),
}

impl Record {
    /// The lineage entry that an `EpochStart` adds.
    pub fn lineage_entry(&self) -> Option<LineageEntry> {
        match self.body {
            Body::EpochStart { start_ts, kind } => {
                Some(LineageEntry { epoch: self.epoch, start_lsn: self.lsn, start_ts, kind })
            }
            _ => None,
        }
    }

    /// Bytes of memory the record's rows take, about.
    pub fn size(&self) -> usize {
        64 + self
            .body
            .writes()
            .iter()
            .map(|write| write.key.len() + write.value.as_ref().map_or(0, Bytes::len) + 16)
            .sum::<usize>()
    }
}

impl Body {
    /// The kind's byte in a record header.
    pub fn kind(&self) -> u8 {
        match self {
            Body::EpochStart { .. } => 1,
            Body::Commit { .. } => 2,
            Body::Prepare { .. } => 3,
            Body::Outcome { .. } => 4,
            Body::Forget { .. } => 5,
        }
    }

    /// The rows it carries.
    pub fn writes(&self) -> &[Write] {
        match self {
            Body::Commit { writes, .. } | Body::Prepare { writes, .. } => writes,
            _ => &[],
        }
    }

    /// The timestamp that an allocator must be raised past when this is received.
    pub fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Body::EpochStart { start_ts: ts, .. } | Body::Commit { ts, .. } | Body::Prepare { bound: ts, .. } => {
                Some(*ts)
            }
            Body::Outcome { decision, .. } => *decision,
            Body::Forget { .. } => None,
        }
    }

    /// Whether it carries data of clients: refused under a seal.
    pub fn is_data(&self) -> bool {
        !matches!(self, Body::EpochStart { .. } | Body::Forget { .. })
    }

    /// Appends the payload's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Body::EpochStart { start_ts, kind } => {
                out.put_u64_le(start_ts.0);
                match kind {
                    StartKind::Failover => out.put_u8(0),
                    StartKind::Promotion { id, cut } => {
                        out.put_u8(1);
                        out.put_u128_le(id.0);
                        out.put_u64_le(cut.0);
                    }
                }
            }
            Body::Commit { txn, ts, writes } => {
                out.put_u128_le(txn.0);
                out.put_u64_le(ts.0);
                encode_writes(writes, out);
            }
            Body::Prepare { txn, bound, first, writes } => {
                out.put_u128_le(txn.0);
                out.put_u64_le(bound.0);
                out.put_i32_le(first.0);
                encode_writes(writes, out);
            }
            Body::Outcome { txn, first, decision } => {
                out.put_u128_le(txn.0);
                out.put_i32_le(first.0);
                out.put_u8(u8::from(decision.is_some()));
                out.put_u64_le(decision.unwrap_or_default().0);
            }
            Body::Forget { txns } => {
                out.put_u32_le(txns.len() as u32);
                txns.iter().for_each(|txn| out.put_u128_le(txn.0));
            }
        }
    }

    /// Reads a payload back; the rows share the buffer's memory.
    pub fn decode(kind: u8, payload: Bytes) -> Result<Body, DecodeError> {
        let mut input = Reader { left: payload, read: 0 };
        let body = match kind {
            1 => {
                let start_ts = Timestamp(input.u64()?);
                let kind = match input.u8()? {
                    0 => StartKind::Failover,
                    1 => StartKind::Promotion { id: PromotionId(input.u128()?), cut: Timestamp(input.u64()?) },
                    tag => return Err(DecodeError::Tag { what: "start kind", tag }),
                };
                Body::EpochStart { start_ts, kind }
            }
            2 => Body::Commit { txn: TxnId(input.u128()?), ts: Timestamp(input.u64()?), writes: input.writes()? },
            3 => Body::Prepare {
                txn: TxnId(input.u128()?),
                bound: Timestamp(input.u64()?),
                first: Ordinal(input.i32()?),
                writes: input.writes()?,
            },
            4 => {
                let (txn, first, tag, ts) =
                    (TxnId(input.u128()?), Ordinal(input.i32()?), input.u8()?, Timestamp(input.u64()?));
                let decision = match tag {
                    0 => None,
                    1 => Some(ts),
                    tag => return Err(DecodeError::Tag { what: "decision", tag }),
                };
                Body::Outcome { txn, first, decision }
            }
            5 => {
                let count = input.u32()?;
                Body::Forget { txns: (0..count).map(|_| input.u128().map(TxnId)).collect::<Result<_, _>>()? }
            }
            tag => return Err(DecodeError::Tag { what: "record kind", tag }),
        };
        match input.left.len() {
            0 => Ok(body),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

/// Appends the bytes of a list of writes.
pub fn encode_writes(writes: &[Write], out: &mut BytesMut) {
    out.put_u32_le(writes.len() as u32);
    for write in writes {
        out.put_u8(u8::from(write.value.is_some()));
        put_bytes(&write.key, out);
        if let Some(value) = &write.value {
            put_bytes(value, out);
        }
    }
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    out.put_u32_le(bytes.len() as u32);
    out.put_slice(bytes);
}

/// Reads integers and byte strings, and fails instead of panicking where the bytes end.
pub struct Reader {
    left: Bytes,
    read: usize,
}

impl Reader {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: Bytes) -> Reader {
        Reader { left: bytes, read: 0 }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.left.len()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if self.left.len() < count {
            return Err(DecodeError::Short(self.read + self.left.len()));
        }
        self.read += count;
        Ok(self.left.split_to(count))
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?.get_u8())
    }

    /// The next `u32`.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(self.take(4)?.get_u32_le())
    }

    /// The next `i32`.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(self.take(4)?.get_i32_le())
    }

    /// The next `u64`.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(self.take(8)?.get_u64_le())
    }

    /// The next `u128`.
    pub fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(self.take(16)?.get_u128_le())
    }

    /// A byte string with its length in front.
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A list of writes.
    pub fn writes(&mut self) -> Result<Vec<Write>, DecodeError> {
        let count = self.u32()? as usize;
        // A write takes five bytes at least: a false count cannot reserve memory.
        let mut writes = Vec::with_capacity(count.min(self.left.len() / 5));
        for _ in 0..count {
            let op = self.u8()?;
            let key = self.bytes()?;
            let value = match op {
                0 => None,
                1 => Some(self.bytes()?),
                tag => return Err(DecodeError::Tag { what: "write", tag }),
            };
            writes.push(Write { key, value });
        }
        Ok(writes)
    }
}
