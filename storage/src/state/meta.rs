//! What the state knows about itself, in the space before the others (`docs/formats.md`, "state").
//!
//! | key | value (integers little-endian) |
//! |---|---|
//! | 00 01 | format u8 = 2, applied u64; format 1 has no index of open transactions |
//! | 00 02 | lineage, as in `types::entry` |
//! | 00 03 | collected: horizon u64, floor u64 |
//! | 00 04 | rows i64: see `rows_of`; missing in a state of an earlier release |
//! | 00 05, 00 06 | the index of open transactions: see `prepared` |

use bytes::{BufMut, Bytes, BytesMut};
use types::record::Reader;
use types::{DecodeError, Lsn, Timestamp};

/// Key of the format and of the last record applied.
pub(super) const APPLIED: [u8; 2] = [0, 1];
/// Key of the lineage.
pub(super) const LINEAGE: [u8; 2] = [0, 2];
/// Key of what garbage collection has left.
pub(super) const COLLECTED: [u8; 2] = [0, 3];
/// Key of how many rows there are.
pub(super) const ROWS: [u8; 2] = [0, 4];
/// The format written and the newest that is read.
pub(super) const FORMAT: u8 = 2;
/// Without an index of open transactions.
pub(super) const UNINDEXED: u8 = 1;

/// What is left of the past: views at `horizon` and above, rewinds to `floor` and above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Views at and above this are possible.
    pub horizon: Timestamp,
    /// Rewinds to this position and above are possible.
    pub floor: Lsn,
}

impl Collected {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u64_le(self.horizon.0);
        out.put_u64_le(self.floor.0);
        out.freeze()
    }

    pub(super) fn decode(value: Bytes) -> Result<Collected, DecodeError> {
        let mut input = Reader::new(value);
        Ok(Collected { horizon: Timestamp(input.u64()?), floor: Lsn(input.u64()?) })
    }
}

/// Value of `APPLIED`.
pub(super) fn encode_applied(applied: Lsn) -> Bytes {
    let mut out = BytesMut::with_capacity(9);
    out.put_u8(FORMAT);
    out.put_u64_le(applied.0);
    out.freeze()
}

/// Format and position in a value of `APPLIED`.
pub(super) fn decode_applied(value: Bytes) -> Result<(u8, Lsn), DecodeError> {
    let mut input = Reader::new(value);
    Ok((input.u8()?, Lsn(input.u64()?)))
}

/// What an entry of a version adds to the number of rows: one for a value, one less for a deletion. Over all versions that
/// is the number of rows, and one more for each change of a row that garbage collection has not met yet.
pub(super) fn rows_of(version: &[u8]) -> i64 {
    if version.get(8) == Some(&1) { 1 } else { -1 }
}
