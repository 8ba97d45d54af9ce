//! One line of a divergence file: eight hexadecimal digits of CRC32C, a space, a JSON object, a line feed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{Epoch, Lsn, Ordinal, Timestamp, TxnId};

use super::{DivergenceId, Entry, Header, Reason, Stage, Summary, epoch, partition};

/// What a line says. The names are part of the format.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    /// The second line.
    Header(HeaderLine),
    /// One write.
    Write(EntryLine),
    /// The last line. `crc` is the CRC32C of all bytes of the file before it.
    End {
        #[serde(flatten)]
        summary: Summary,
        crc: u32,
    },
}

#[derive(Serialize, Deserialize)]
pub(super) struct HeaderLine {
    id: String,
    database: String,
    database_id: u64,
    partition: i32,
    reason: Reason,
    parted_from: u64,
    parted_epoch: Option<(u64, u64, u64)>,
    end: u64,
    end_epoch: (u64, u64, u64),
    created_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EntryLine {
    stage: Stage,
    transaction: String,
    time: u64,
    lsn: u64,
    epoch: (u64, u64, u64),
    first: Option<i32>,
    key: String,
    old: Option<String>,
    new: Option<String>,
}

/// An epoch as a line holds it.
fn numbers(epoch: Epoch) -> (u64, u64, u64) {
    (epoch.number, epoch.cluster.0, epoch.nonce)
}

impl From<&Header> for HeaderLine {
    fn from(header: &Header) -> HeaderLine {
        HeaderLine {
            id: header.id.to_string(),
            database: header.database.clone(),
            database_id: header.partition.database.0,
            partition: header.partition.ordinal.0,
            reason: header.reason,
            parted_from: header.parted_from.0,
            parted_epoch: header.parted_epoch.map(numbers),
            end: header.end.0,
            end_epoch: numbers(header.end_epoch),
            created_ms: header.created,
        }
    }
}

impl HeaderLine {
    /// The header, `None` if its id is no number.
    pub(super) fn header(self) -> Option<Header> {
        Some(Header {
            id: self.id.parse::<DivergenceId>().ok()?,
            database: self.database,
            partition: partition(self.database_id, self.partition),
            reason: self.reason,
            parted_from: Lsn(self.parted_from),
            parted_epoch: self.parted_epoch.map(epoch),
            end: Lsn(self.end),
            end_epoch: epoch(self.end_epoch),
            created: self.created_ms,
        })
    }
}

impl From<&Entry> for EntryLine {
    fn from(entry: &Entry) -> EntryLine {
        EntryLine {
            stage: entry.stage,
            transaction: format!("{:032x}", entry.txn.0),
            time: entry.ts.0,
            lsn: entry.lsn.0,
            epoch: numbers(entry.epoch),
            first: entry.first.map(|first| first.0),
            key: to_hex(&entry.key),
            old: entry.old.as_deref().map(to_hex),
            new: entry.new.as_deref().map(to_hex),
        }
    }
}

impl EntryLine {
    /// The entry, `None` if a field is not hexadecimal.
    pub(super) fn entry(self) -> Option<Entry> {
        let optional = |text: Option<String>| text.map_or(Some(None), |text| from_hex(&text).map(Some));
        Some(Entry {
            stage: self.stage,
            txn: TxnId(u128::from_str_radix(&self.transaction, 16).ok()?),
            ts: Timestamp(self.time),
            lsn: Lsn(self.lsn),
            epoch: epoch(self.epoch),
            first: self.first.map(Ordinal),
            key: from_hex(&self.key)?,
            old: optional(self.old)?,
            new: optional(self.new)?,
        })
    }
}

impl Line {
    /// The line's bytes, checksum and line feed included.
    pub(super) fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("strings and numbers always have a JSON form");
        let mut out = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
        out.extend_from_slice(&json);
        out.push(b'\n');
        out
    }

    /// Reads a line without its line feed; the error says what is wrong.
    pub(super) fn decode(line: &[u8]) -> Result<Line, String> {
        let (sum, json) = line.split_at_checked(9).ok_or("too short for a checksum")?;
        let sum = std::str::from_utf8(sum).ok().and_then(|sum| sum.strip_suffix(' '));
        let sum = sum.ok_or("no checksum in front")?;
        let found = format!("{:08x}", crc32c::crc32c(json));
        // As texts: a digit in the other case is a changed byte, too.
        if found != sum {
            return Err(format!("checksum {sum:?} in front, {found} computed"));
        }
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |four: u8| DIGITS[usize::from(four)] as char;
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|four| four as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect::<Option<Vec<u8>>>()?;
    rest.is_empty().then(|| Bytes::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_come_in_pairs() {
        assert_eq!(to_hex(&[0, 0xab, 0xff]), "00abff");
        assert_eq!(from_hex("00abff"), Some(Bytes::from_static(&[0, 0xab, 0xff])));
        assert_eq!(from_hex(""), Some(Bytes::new()));
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("0g"), None);
    }

    #[test]
    fn a_line_with_a_changed_byte_is_refused() {
        let line = Line::End { summary: Summary::default(), crc: 7 }.encode();
        let body = &line[..line.len() - 1];
        assert!(Line::decode(body).is_ok());
        for index in 0..body.len() {
            let mut changed = body.to_vec();
            changed[index] ^= 1;
            assert!(Line::decode(&changed).is_err(), "byte {index}");
        }
    }
}
