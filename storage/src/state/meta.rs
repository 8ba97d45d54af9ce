//! What the state knows about itself, in the space before the others (`docs/formats.md`, "state").
//!
//! | key | value (integers little-endian) |
//! |---|---|
//! | 00 01 | format u8 = 1, applied u64 |
//! | 00 02 | lineage: count u32, then per entry: number u64, cluster u64, nonce u64, start_lsn u64, start_ts u64, kind u8 (0 failover, 1 promotion), promotion: id u128, cut u64 |
//! | 00 03 | collected: horizon u64, floor u64 |

use bytes::{BufMut, Bytes, BytesMut};
use types::record::Reader;
use types::{ClusterId, DecodeError, Epoch, Lineage, LineageEntry, Lsn, PromotionId, StartKind, Timestamp};

/// Key of the format and of the last record applied.
pub(super) const APPLIED: [u8; 2] = [0, 1];
/// Key of the lineage.
pub(super) const LINEAGE: [u8; 2] = [0, 2];
/// Key of what garbage collection has left.
pub(super) const COLLECTED: [u8; 2] = [0, 3];
/// The format written and the newest that is read.
pub(super) const FORMAT: u8 = 1;

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

/// A lineage's bytes: value of `LINEAGE`, and part of rewind intents and snapshot manifests.
pub fn encode_lineage(lineage: &Lineage) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u32_le(lineage.entries().len() as u32);
    for entry in lineage.entries() {
        out.put_u64_le(entry.epoch.number);
        out.put_u64_le(entry.epoch.cluster.0);
        out.put_u64_le(entry.epoch.nonce);
        out.put_u64_le(entry.start_lsn.0);
        out.put_u64_le(entry.start_ts.0);
        match entry.kind {
            StartKind::Failover => out.put_u8(0),
            StartKind::Promotion { id, cut } => {
                out.put_u8(1);
                out.put_u128_le(id.0);
                out.put_u64_le(cut.0);
            }
        }
    }
    out.freeze()
}

/// Reads a lineage's bytes. Entries that do not rise are refused.
pub fn decode_lineage(input: &mut Reader) -> Result<Lineage, DecodeError> {
    let mut lineage = Lineage::new();
    for _ in 0..input.u32()? {
        let epoch = Epoch { number: input.u64()?, cluster: ClusterId(input.u64()?), nonce: input.u64()? };
        let (start_lsn, start_ts) = (Lsn(input.u64()?), Timestamp(input.u64()?));
        let kind = match input.u8()? {
            0 => StartKind::Failover,
            1 => StartKind::Promotion { id: PromotionId(input.u128()?), cut: Timestamp(input.u64()?) },
            tag => return Err(DecodeError::Tag { what: "start kind", tag }),
        };
        let rises = lineage.last().is_none_or(|last| last.epoch.number < epoch.number && last.start_lsn < start_lsn);
        if !rises {
            return Err(DecodeError::Tag {
                what: "falling epoch in a lineage, entry",
                tag: lineage.entries().len() as u8,
            });
        }
        lineage.push(LineageEntry { epoch, start_lsn, start_ts, kind });
    }
    Ok(lineage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lineage() -> Lineage {
        let mut lineage = Lineage::new();
        let epoch = |number| Epoch { number, cluster: ClusterId(3), nonce: number << 40 };
        let kind = StartKind::Promotion { id: PromotionId(u128::MAX - 5), cut: Timestamp(77) };
        lineage.push(LineageEntry {
            epoch: epoch(1),
            start_lsn: Lsn(1),
            start_ts: Timestamp(5),
            kind: StartKind::Failover,
        });
        lineage.push(LineageEntry { epoch: epoch(4), start_lsn: Lsn(9), start_ts: Timestamp(90), kind });
        lineage
    }

    #[test]
    fn a_lineage_comes_back_from_its_bytes() {
        assert_eq!(decode_lineage(&mut Reader::new(encode_lineage(&lineage()))), Ok(lineage()));
        assert_eq!(decode_lineage(&mut Reader::new(encode_lineage(&Lineage::new()))), Ok(Lineage::new()));
    }

    #[test]
    fn bytes_that_are_no_lineage_are_refused() {
        let bytes = encode_lineage(&lineage());
        for length in 0..bytes.len() {
            assert!(decode_lineage(&mut Reader::new(bytes.slice(..length))).is_err(), "{length} bytes");
        }
        let mut twice = BytesMut::from(&bytes[..]);
        let first = bytes.slice(4..45);
        twice[45..86].copy_from_slice(&first);
        assert!(decode_lineage(&mut Reader::new(twice.freeze())).is_err());
    }
}
