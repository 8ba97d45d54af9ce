//! A batch: what one write puts down, and the entries in it.
//!
//! | batch header | |
//! |---|---|
//! | 0 | magic u32 `PBAT` |
//! | 4 | checksum u32 of bytes 8 to 64, from the seed |
//! | 8 | version u16 |
//! | 10 | flags u16: 1 directory, 2 index |
//! | 12 | number of entries u32 |
//! | 16 | length u32: header and entries, without the zeros that fill the block |
//! | 20 | reserved u32 |
//! | 24 | segment id u64 |
//! | 32 | use count u64 |
//! | 40 | sequence u64 |
//! | 48 | highest sequence known synced u64 |
//! | 56 | reserved u64 |
//!
//! | entry header | |
//! |---|---|
//! | 0 | checksum u32 of bytes 4 to 72, from the seed continued with the sequence |
//! | 4 | checksum u32 of the payload |
//! | 8 | length u32 of the payload |
//! | 12 | kind u8 (`entry`) |
//! | 13 | flags u8: 1 moved forward from an older segment |
//! | 14 | reserved u16 |
//! | 16 | partition: database u64 |
//! | 24 | partition: ordinal i32 |
//! | 28 | reserved u32 |
//! | 32 | LSN u64, 0 in notes |
//! | 40 | epoch: number u64, cluster u64, nonce u64, 0 in notes |
//! | 64 | commit timestamp u64, 0 if the entry has none |

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{Identity, VERSION, blocks};
use crate::{ClusterId, DatabaseId, Epoch, Lsn, Ordinal, PartitionId, Timestamp};

/// Bytes of a batch header.
pub const BATCH_HEADER: usize = 64;
/// Bytes of an entry header.
pub const ENTRY_HEADER: usize = 72;

const MAGIC: u32 = u32::from_le_bytes(*b"PBAT");
const MOVED: u8 = 1;

/// What kind of batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFlags {
    /// Entries in the order in which they were appended.
    Plain = 0,
    /// Summaries of every partition: the first batch of a segment.
    Directory = 1,
    /// The sparse index: the last batch of a segment.
    Index = 2,
}

/// The head of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What kind.
    pub flags: BatchFlags,
    /// Number of entries.
    pub count: u32,
    /// Header and entries, in bytes.
    pub length: u32,
    /// Its number in the log.
    pub sequence: u64,
    /// The highest number known synced when it was written.
    pub synced: u64,
}

impl BatchHeader {
    /// The header's bytes for this use of a segment.
    pub fn encode(&self, identity: &Identity) -> [u8; BATCH_HEADER] {
        let mut out = BytesMut::with_capacity(BATCH_HEADER);
        out.put_u32_le(MAGIC);
        out.put_u32_le(0);
        out.put_u16_le(VERSION);
        out.put_u16_le(self.flags as u16);
        for part in [self.count, self.length, 0] {
            out.put_u32_le(part);
        }
        for part in [identity.segment, identity.uses, self.sequence, self.synced, 0] {
            out.put_u64_le(part);
        }
        let crc = crc32c::crc32c_append(identity.seed(), &out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out[..].try_into().expect("the fields make 64 bytes")
    }

    /// Reads a header that was written in this use of the segment.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Option<BatchHeader> {
        let mut input = bytes.get(..BATCH_HEADER)?;
        let sum = crc32c::crc32c_append(identity.seed(), &input[8..]);
        if input.get_u32_le() != MAGIC || input.get_u32_le() != sum || input.get_u16_le() != VERSION {
            return None;
        }
        let flags = match input.get_u16_le() {
            0 => BatchFlags::Plain,
            1 => BatchFlags::Directory,
            2 => BatchFlags::Index,
            _ => return None,
        };
        let (count, length) = (input.get_u32_le(), input.get_u32_le());
        input.advance(4);
        if (input.get_u64_le(), input.get_u64_le()) != (identity.segment, identity.uses) {
            return None;
        }
        let header = BatchHeader { flags, count, length, sequence: input.get_u64_le(), synced: input.get_u64_le() };
        (length as usize >= BATCH_HEADER).then_some(header)
    }

    /// Which use of a segment a header at `bytes` claims, if its checksum agrees: finds the identity of a segment
    /// whose own header cannot be read.
    pub fn claim(bytes: &[u8], log: u64, segment: u64) -> Option<(Identity, BatchHeader)> {
        let uses = bytes.get(32..40)?.get_u64_le();
        let identity = Identity { log, segment, uses };
        BatchHeader::decode(bytes, &identity).map(|header| (identity, header))
    }

    /// Whether the bytes look like the beginning of a batch of this use that was not written to its end.
    pub fn is_begun(bytes: &[u8], identity: &Identity) -> bool {
        bytes.get(..BATCH_HEADER).is_some_and(|mut head| {
            let magic = head.get_u32_le();
            head.advance(20);
            magic == MAGIC && head.get_u64_le() == identity.segment && head.get_u64_le() == identity.uses
        })
    }

    /// Bytes up to the next batch.
    pub fn span(&self) -> u64 {
        blocks(u64::from(self.length))
    }
}

/// The head of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Checksum of the payload.
    pub payload_crc: u32,
    /// Length of the payload in bytes.
    pub length: u32,
    /// What the payload is (`entry`).
    pub kind: u8,
    /// A copy of a record in an older segment: changes nothing but where the record is found.
    pub moved: bool,
    /// Whose.
    pub partition: PartitionId,
    /// A record's position, zero in notes.
    pub lsn: Lsn,
    /// A record's epoch, zeros in notes.
    pub epoch: Epoch,
    /// A record's commit timestamp, zero if it has none.
    pub ts: Timestamp,
}

impl EntryHeader {
    fn put(&self, seed: u32, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32_le(0);
        out.put_u32_le(self.payload_crc);
        out.put_u32_le(self.length);
        out.put_u8(self.kind);
        out.put_u8(if self.moved { MOVED } else { 0 });
        out.put_u16_le(0);
        out.put_u64_le(self.partition.database.0);
        out.put_i32_le(self.partition.ordinal.0);
        out.put_u32_le(0);
        for part in [self.lsn.0, self.epoch.number, self.epoch.cluster.0, self.epoch.nonce, self.ts.0] {
            out.put_u64_le(part);
        }
        let crc = crc32c::crc32c_append(seed, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }

    fn take(bytes: &[u8], seed: u32) -> Option<EntryHeader> {
        let mut input = bytes.get(..ENTRY_HEADER)?;
        if input.get_u32_le() != crc32c::crc32c_append(seed, &bytes[4..ENTRY_HEADER]) {
            return None;
        }
        let (payload_crc, length, kind) = (input.get_u32_le(), input.get_u32_le(), input.get_u8());
        let moved = input.get_u8() & MOVED > 0;
        input.advance(2);
        let partition = PartitionId { database: DatabaseId(input.get_u64_le()), ordinal: Ordinal(input.get_i32_le()) };
        input.advance(4);
        let lsn = Lsn(input.get_u64_le());
        let epoch =
            Epoch { number: input.get_u64_le(), cluster: ClusterId(input.get_u64_le()), nonce: input.get_u64_le() };
        Some(EntryHeader { payload_crc, length, kind, moved, partition, lsn, epoch, ts: Timestamp(input.get_u64_le()) })
    }
}

fn entry_seed(identity: &Identity, sequence: u64) -> u32 {
    crc32c::crc32c_append(identity.seed(), &sequence.to_le_bytes())
}

/// Puts a batch together.
#[derive(Debug)]
pub struct BatchBuilder {
    identity: Identity,
    header: BatchHeader,
    seed: u32,
    out: BytesMut,
    start: usize,
}

impl BatchBuilder {
    /// Begins a batch at the end of `out`.
    pub fn new(out: BytesMut, identity: Identity, flags: BatchFlags, sequence: u64, synced: u64) -> BatchBuilder {
        assert!(synced < sequence, "batch {sequence} states that {synced} is synced");
        let mut out = out;
        let start = out.len();
        out.put_bytes(0, BATCH_HEADER);
        let header = BatchHeader { flags, count: 0, length: BATCH_HEADER as u32, sequence, synced };
        BatchBuilder { identity, header, seed: entry_seed(&identity, sequence), out, start }
    }

    /// Adds an entry.
    pub fn push(&mut self, header: &EntryHeader, payload: &[u8]) {
        assert_eq!(header.length as usize, payload.len(), "entry header states another length than the payload's");
        header.put(self.seed, &mut self.out);
        self.out.put_slice(payload);
        self.header.count += 1;
    }

    /// Header and entries so far, in bytes.
    pub fn length(&self) -> u64 {
        (self.out.len() - self.start) as u64
    }

    /// Ends a batch that has a body instead of entries, without filling its block.
    pub(super) fn finish_with(mut self, body: &[u8]) -> BytesMut {
        self.out.put_slice(body);
        self.seal();
        self.out
    }

    /// Writes the header, fills the block and gives the bytes back.
    pub fn finish(mut self) -> (BytesMut, BatchHeader) {
        self.seal();
        let padding = (self.header.span() - u64::from(self.header.length)) as usize;
        self.out.put_bytes(0, padding);
        (self.out, self.header)
    }

    fn seal(&mut self) {
        self.header.length = u32::try_from(self.length()).expect("a batch fits a segment, and those end below 4 GiB");
        let encoded = self.header.encode(&self.identity);
        self.out[self.start..self.start + BATCH_HEADER].copy_from_slice(&encoded);
    }
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The header cannot be read: neither this entry nor any after it in the batch is known.
    Header,
    /// The header can be read, the payload is another.
    Payload(Box<EntryHeader>),
}

/// The entries of a batch. Ends after a `Fault::Header`.
#[derive(Debug)]
pub struct Entries {
    left: Bytes,
    count: u32,
    seed: u32,
}

impl Entries {
    /// Of the batch that starts at `bytes` and has this header.
    pub fn new(bytes: Bytes, header: &BatchHeader, identity: &Identity) -> Entries {
        let end = (header.length as usize).min(bytes.len());
        let left = bytes.slice(BATCH_HEADER.min(end)..end);
        Entries { left, count: header.count, seed: entry_seed(identity, header.sequence) }
    }
}

impl Iterator for Entries {
    type Item = Result<(EntryHeader, Bytes), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let header = EntryHeader::take(&self.left, self.seed)
            .filter(|header| ENTRY_HEADER + header.length as usize <= self.left.len());
        let Some(header) = header else {
            self.count = 0;
            return Some(Err(Fault::Header));
        };
        self.left.advance(ENTRY_HEADER);
        let payload = self.left.split_to(header.length as usize);
        if crc32c::crc32c(&payload) != header.payload_crc {
            return Some(Err(Fault::Payload(Box::new(header))));
        }
        Some(Ok((header, payload)))
    }
}
