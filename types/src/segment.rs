//! The bytes of a node log's files, and what may be believed of them after a crash. Bytes in, bytes out.
//!
//! ```text
//! segment  | header | batch | batch | ... | free | index batch, trailer |
//!          0        4096    every part starts on a block of 4096 bytes  end
//! batch    | batch header 64 | entry header 72 | payload | entry header 72 | payload | ... | zeros to the block's end
//! ```
//!
//! A batch is what one write puts down. Its blocks are never written again while the segment is in use: what was
//! synced is not endangered by a later write. A segment's first batch is its *directory*, a `Summary` of every
//! partition; its last one the sparse *index* (`index`), which ends with the segment.
//!
//! Integers are little-endian, checksums CRC-32C (Castagnoli). The checksum of every header starts from the *seed*,
//! the checksum of log id, segment id and use count (24 bytes), so that what an earlier use of the segment or another
//! log left behind is not taken for this one's.
//!
//! | segment header | |
//! |---|---|
//! | 0 | magic u64 `PERNNLOG` |
//! | 8 | checksum u32 of bytes 12 to 64, without seed |
//! | 12 | version u16, reserved u16 |
//! | 16 | log id u64: drawn when the log was made |
//! | 24 | segment id u64: the file's number |
//! | 32 | use count u64 |
//! | 40 | size of the segment u64 |
//! | 48 | sequence of the first batch u64; 0: a spare, nothing in it counts |
//! | 56 | reserved u64 |
//!
//! Batches are numbered without gaps through the whole log. Each states the highest number known synced when it was
//! written. `scan` uses that to tell a torn tail from damage.

use bytes::{Buf, BufMut, BytesMut};
use thiserror::Error;

pub mod batch;
pub mod index;
pub mod scan;

pub use batch::{BatchBuilder, BatchFlags, BatchHeader, Entries, EntryHeader, Fault};
pub use index::{Index, Run, Trailer};
pub use scan::{Damage, Piece, Scan, Verdict, Whom, scan};

/// Every part of a segment starts on a multiple of this; also the size of a segment's header.
pub const BLOCK: u64 = 4096;
/// Version of all formats of this module.
pub const VERSION: u16 = 1;
/// Bytes of a segment header; the rest of its block is zero.
pub const SEGMENT_HEADER: usize = 64;

const MAGIC: u64 = u64::from_le_bytes(*b"PERNNLOG");

/// Rounds up to whole blocks.
pub fn blocks(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK)
}

/// What binds bytes to one use of one segment of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the log: drawn when it was made.
    pub log: u64,
    /// Of the segment's file.
    pub segment: u64,
    /// How often the file has been taken into use.
    pub uses: u64,
}

impl Identity {
    /// Where the checksums of this use start from.
    pub fn seed(&self) -> u32 {
        [self.log, self.segment, self.uses].iter().fold(0, |crc, part| crc32c::crc32c_append(crc, &part.to_le_bytes()))
    }
}

/// The first block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which use of which segment.
    pub identity: Identity,
    /// Size of the file.
    pub size: u64,
    /// Sequence of the first batch; 0 for a spare.
    pub first_sequence: u64,
}

/// A segment header that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Too short, wrong magic or wrong checksum.
    #[error("no segment header")]
    Unreadable,
    /// Written by another version of the program.
    #[error("segment format {found}; this program reads {VERSION}: start the version that wrote it")]
    Version {
        /// The version in the header.
        found: u16,
    },
}

impl SegmentHeader {
    /// The header's bytes, without the zeros that fill its block.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = BytesMut::with_capacity(SEGMENT_HEADER);
        out.put_u64_le(MAGIC);
        out.put_u32_le(0);
        out.put_u16_le(VERSION);
        out.put_u16_le(0);
        for part in [self.identity.log, self.identity.segment, self.identity.uses, self.size, self.first_sequence, 0] {
            out.put_u64_le(part);
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        out[..].try_into().expect("the fields make 64 bytes")
    }

    /// Reads the header at the start of a segment's bytes.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let mut input = bytes.get(..SEGMENT_HEADER).ok_or(HeaderError::Unreadable)?;
        let sum = crc32c::crc32c(&input[12..]);
        if input.get_u64_le() != MAGIC || input.get_u32_le() != sum {
            return Err(HeaderError::Unreadable);
        }
        let version = input.get_u16_le();
        if version != VERSION {
            return Err(HeaderError::Version { found: version });
        }
        input.advance(2);
        let identity = Identity { log: input.get_u64_le(), segment: input.get_u64_le(), uses: input.get_u64_le() };
        Ok(SegmentHeader { identity, size: input.get_u64_le(), first_sequence: input.get_u64_le() })
    }
}
