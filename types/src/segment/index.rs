//! The sparse index that ends a sealed segment: where in it the records of each partition are.
//!
//! A *run* is a dense row of one partition's records of one epoch, all in batches that start within one stride
//! (64 KiB, doubled until the index is small enough) from the run's own batch on.
//!
//! The index batch is a batch header (count 0), the body, zeros, and the trailer in the last 64 bytes of the segment.
//! The batch header's length covers header and body.
//!
//! | body | |
//! |---|---|
//! | 0 | stride in bytes u32 |
//! | 4 | number of groups u32 |
//! | 8 | groups: database u64, ordinal i32, epoch (number, cluster, nonce) u64 each, number of runs u32, then the runs: first LSN u64, number of records u32, block of the first one's batch u32 |
//!
//! | trailer | |
//! |---|---|
//! | 0 | magic u32 `PEND` |
//! | 4 | checksum u32 of bytes 8 to 64, from the seed |
//! | 8 | offset of the index batch u64 |
//! | 16 | sequence of the segment's first batch u64 |
//! | 24 | sequence of the index batch u64 |
//! | 32 | highest sequence known synced u64 |
//! | 40 | length u32 and checksum u32 of the body |
//! | 48 | segment id u64 |
//! | 56 | use count u64 |

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::batch::BATCH_HEADER;
use super::{BLOCK, BatchBuilder, BatchFlags, Identity, blocks};
use crate::record::Reader;
use crate::{ClusterId, DatabaseId, DecodeError, Epoch, Lsn, Ordinal, PartitionId};

/// Bytes of a trailer.
pub const TRAILER: usize = 64;
/// Distance within which a run's batches start, unless the index grows too large.
pub const STRIDE: u64 = 64 << 10;
/// Bytes that one more entry can add to the body at most.
pub const ENTRY_COST: u64 = GROUP + RUN;

const MAGIC: u32 = u32::from_le_bytes(*b"PEND");
const BODY_HEAD: u64 = 8;
const GROUP: u64 = 40;
const RUN: u64 = 16;

/// A dense row of records of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Their epoch.
    pub epoch: Epoch,
    /// The first.
    pub from: Lsn,
    /// How many.
    pub count: u32,
    /// Where the first one's batch starts, in bytes from the segment's start.
    pub offset: u64,
}

impl Run {
    /// The last record.
    pub fn to(&self) -> Lsn {
        Lsn(self.from.0 + u64::from(self.count) - 1)
    }

    /// Whether it holds this record.
    pub fn holds(&self, epoch: Epoch, lsn: Lsn) -> bool {
        self.epoch == epoch && self.from <= lsn && lsn <= self.to()
    }
}

/// Where a segment's records are. Invariant: the runs of a partition are in the order of their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    stride: u64,
    groups: u64,
    runs: u64,
    partitions: BTreeMap<PartitionId, Vec<Run>>,
}

impl Default for Index {
    fn default() -> Index {
        Index { stride: STRIDE, groups: 0, runs: 0, partitions: BTreeMap::new() }
    }
}

impl Index {
    /// Notes a record whose batch starts at `offset`.
    pub fn add(&mut self, partition: PartitionId, epoch: Epoch, lsn: Lsn, offset: u64) {
        self.push(partition, Run { epoch, from: lsn, count: 1, offset }, BLOCK);
    }

    /// `reach`: within how many bytes from the run's offset on its batches start.
    fn push(&mut self, partition: PartitionId, run: Run, reach: u64) {
        let stride = self.stride;
        let runs = self.partitions.entry(partition).or_default();
        if let Some(last) = runs.last_mut() {
            let dense = last.epoch == run.epoch && run.from == last.to().next();
            if dense && run.offset + reach <= last.offset + stride && last.count.checked_add(run.count).is_some() {
                last.count += run.count;
                return;
            }
        }
        self.groups += u64::from(runs.last().is_none_or(|last| last.epoch != run.epoch));
        self.runs += 1;
        runs.push(run);
    }

    /// Doubles the stride: fewer, longer runs.
    pub fn coarsen(&mut self) {
        let old = std::mem::take(self);
        self.stride = old.stride * 2;
        for (partition, runs) in old.partitions {
            runs.into_iter().for_each(|run| self.push(partition, run, old.stride));
        }
    }

    /// Distance within which the batches of a run start.
    pub fn stride(&self) -> u64 {
        self.stride
    }

    /// Every partition with its runs.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &[Run])> {
        self.partitions.iter().map(|(partition, runs)| (*partition, runs.as_slice()))
    }

    /// The runs of one partition.
    pub fn runs(&self, partition: PartitionId) -> &[Run] {
        self.partitions.get(&partition).map_or(&[], Vec::as_slice)
    }

    /// Bytes of the body.
    pub fn encoded_len(&self) -> u64 {
        BODY_HEAD + self.groups * GROUP + self.runs * RUN
    }

    /// Bytes of the index batch, trailer and zeros included.
    pub fn sealed_len(&self) -> u64 {
        sealed_len(self.encoded_len())
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(u32::try_from(self.stride).unwrap_or(u32::MAX));
        out.put_u32_le(self.groups as u32);
        for (partition, runs) in &self.partitions {
            for group in runs.chunk_by(|a, b| a.epoch == b.epoch) {
                let epoch = group[0].epoch;
                out.put_u64_le(partition.database.0);
                out.put_i32_le(partition.ordinal.0);
                for part in [epoch.number, epoch.cluster.0, epoch.nonce] {
                    out.put_u64_le(part);
                }
                out.put_u32_le(group.len() as u32);
                for run in group {
                    out.put_u64_le(run.from.0);
                    out.put_u32_le(run.count);
                    out.put_u32_le((run.offset / BLOCK) as u32);
                }
            }
        }
    }

    /// Reads a body back.
    pub fn decode(body: Bytes) -> Result<Index, DecodeError> {
        let mut input = Reader::new(body);
        let mut index = Index { stride: u64::from(input.u32()?), ..Index::default() };
        for _ in 0..input.u32()? {
            let (database, ordinal) = (DatabaseId(input.u64()?), Ordinal(input.i32()?));
            let epoch = Epoch { number: input.u64()?, cluster: ClusterId(input.u64()?), nonce: input.u64()? };
            let runs = index.partitions.entry(PartitionId { database, ordinal }).or_default();
            index.groups += 1;
            for _ in 0..input.u32()? {
                let (from, count, block) = (Lsn(input.u64()?), input.u32()?, input.u32()?);
                if count == 0 {
                    return Err(DecodeError::Order("index run"));
                }
                runs.push(Run { epoch, from, count, offset: u64::from(block) * BLOCK });
                index.runs += 1;
            }
        }
        match input.remaining() {
            0 => Ok(index),
            left => Err(DecodeError::Trailing(left)),
        }
    }

    /// The index batch with its trailer: goes to the end of a segment of `size` bytes.
    pub fn seal(&self, identity: Identity, size: u64, first: u64, sequence: u64, synced: u64) -> (BytesMut, Trailer) {
        let mut body = BytesMut::with_capacity(self.encoded_len() as usize);
        self.encode(&mut body);
        let total = self.sealed_len();
        let builder = BatchBuilder::new(BytesMut::new(), identity, BatchFlags::Index, sequence, synced);
        let mut out = builder.finish_with(&body);
        out.resize(total as usize - TRAILER, 0);
        let trailer = Trailer {
            offset: size - total,
            first_sequence: first,
            sequence,
            synced,
            length: body.len() as u32,
            crc: crc32c::crc32c(&body),
        };
        trailer.encode(&identity, &mut out);
        (out, trailer)
    }
}

/// Bytes of an index batch whose body has `body` bytes.
pub fn sealed_len(body: u64) -> u64 {
    blocks(BATCH_HEADER as u64 + body + TRAILER as u64)
}

/// The last 64 bytes of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the index batch starts.
    pub offset: u64,
    /// Sequence of the segment's first batch.
    pub first_sequence: u64,
    /// Sequence of the index batch.
    pub sequence: u64,
    /// The highest sequence known synced.
    pub synced: u64,
    length: u32,
    crc: u32,
}

impl Trailer {
    fn encode(&self, identity: &Identity, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32_le(MAGIC);
        out.put_u32_le(0);
        for part in [self.offset, self.first_sequence, self.sequence, self.synced] {
            out.put_u64_le(part);
        }
        out.put_u32_le(self.length);
        out.put_u32_le(self.crc);
        out.put_u64_le(identity.segment);
        out.put_u64_le(identity.uses);
        let crc = crc32c::crc32c_append(identity.seed(), &out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the trailer in the last bytes of a segment of `size` bytes.
    pub fn decode(last: &[u8], identity: &Identity, size: u64) -> Option<Trailer> {
        let mut input = last.get(last.len().checked_sub(TRAILER)?..)?;
        let sum = crc32c::crc32c_append(identity.seed(), &input[8..]);
        if input.get_u32_le() != MAGIC || input.get_u32_le() != sum {
            return None;
        }
        let trailer = Trailer {
            offset: input.get_u64_le(),
            first_sequence: input.get_u64_le(),
            sequence: input.get_u64_le(),
            synced: input.get_u64_le(),
            length: input.get_u32_le(),
            crc: input.get_u32_le(),
        };
        let named = (input.get_u64_le(), input.get_u64_le()) == (identity.segment, identity.uses);
        let fits = trailer.offset.checked_add(sealed_len(u64::from(trailer.length))) == Some(size);
        (named && fits && trailer.offset.is_multiple_of(BLOCK)).then_some(trailer)
    }

    /// The index, out of the bytes from the index batch's start on.
    pub fn index(&self, batch: &Bytes) -> Option<Index> {
        let end = BATCH_HEADER + self.length as usize;
        let body = batch.get(BATCH_HEADER..end).map(|_| batch.slice(BATCH_HEADER..end))?;
        (crc32c::crc32c(&body) == self.crc).then(|| Index::decode(body).ok()).flatten()
    }
}
