//! Keys of rows: bytes whose order is the order of the values, and which end by themselves.
//!
//! A key is the table's id and then its columns, each a tag (`Datum::tag`) and the value. The layout is version 1 of
//! `docs/formats.md`, section "key":
//!
//! | part | bytes |
//! |---|---|
//! | table id | u64 be |
//! | NULL | 01 |
//! | integer | 10, i64 be with the sign bit flipped |
//! | unsigned integer | 11, u64 be |
//! | decimal | 12, unscaled i128 be with the sign bit flipped, scale u8 |
//! | float, double | 13 or 14, f64 bits be: sign bit flipped if positive, all bits flipped if negative |
//! | text, bytes | 20 or 21, the bytes with 00 written as 00 FF, then 00 00 |
//! | date | 30, i32 be with the sign bit flipped |
//! | datetime, timestamp, time | 31, 32 or 33, i64 be with the sign bit flipped |
//! | JSON | 40, as text |
//!
//! Invariants: for values of one column, byte order is `Datum::compare`; no encoded value is a prefix of another, so
//! no key of a table is a prefix of another one of the same columns. For decimals this holds at one scale, which a
//! column has. -0.0 is written as 0.0 and any NaN as the positive quiet one, which sorts last.
//!
//! The shard of a row is computed from the encoded columns of its shard key, without the table id: FNV-1a of 64 bits,
//! then the finaliser of MurmurHash3, then the upper part of `hash * partitions`. It never changes: rows lie where it
//! says.

use bytes::{BufMut, Bytes, BytesMut};

use crate::record::Reader;
use crate::value::{Datum, Decimal, canonical};
use crate::{DecodeError, Ordinal, TableId};

/// Appends one column.
pub fn encode_datum(value: &Datum, out: &mut BytesMut) {
    out.put_u8(value.tag());
    match value {
        Datum::Null => {}
        Datum::Int(value) | Datum::DateTime(value) | Datum::Timestamp(value) | Datum::Time(value) => {
            out.put_u64(flip_i64(*value));
        }
        Datum::UInt(value) => out.put_u64(*value),
        Datum::Decimal(value) => {
            out.put_u128(value.unscaled() as u128 ^ (1 << 127));
            out.put_u8(value.scale());
        }
        Datum::Float(value) => out.put_u64(order_f64(f64::from(*value))),
        Datum::Double(value) => out.put_u64(order_f64(*value)),
        Datum::Text(text) | Datum::Json(text) => put_escaped(text.as_bytes(), out),
        Datum::Bytes(bytes) => put_escaped(bytes, out),
        Datum::Date(days) => out.put_u32(*days as u32 ^ (1 << 31)),
    }
}

/// The key of a table's row with these key columns.
pub fn encode_key<'a>(table: TableId, columns: impl IntoIterator<Item = &'a Datum>) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    out.put_u64(table.0);
    columns.into_iter().for_each(|value| encode_datum(value, &mut out));
    out.freeze()
}

/// The prefix of every key of a table, and the end of their range (not included).
pub fn table_range(table: TableId) -> (Bytes, Bytes) {
    (encode_key(table, []), encode_key(TableId(table.0 + 1), []))
}

/// The smallest key above every key that begins with `prefix`: the end of a range over a key's first columns. `None`
/// if there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

/// Reads a key back.
pub fn decode_key(key: &Bytes) -> Result<(TableId, Vec<Datum>), DecodeError> {
    let mut input = Reader::new(key.clone());
    let table = TableId(u64::from_be_bytes(array(&mut input)?));
    let mut columns = Vec::new();
    while input.remaining() > 0 {
        columns.push(decode_datum(&mut input)?);
    }
    Ok((table, columns))
}

/// Reads one column.
pub fn decode_datum(input: &mut Reader) -> Result<Datum, DecodeError> {
    let int = |input: &mut Reader| Ok((u64::from_be_bytes(array(input)?) ^ (1 << 63)) as i64);
    Ok(match input.u8()? {
        0x01 => Datum::Null,
        0x10 => Datum::Int(int(input)?),
        0x11 => Datum::UInt(u64::from_be_bytes(array(input)?)),
        0x12 => {
            let unscaled = (u128::from_be_bytes(array(input)?) ^ (1 << 127)) as i128;
            let scale = input.u8()?;
            let decimal = Decimal::new(unscaled, scale);
            Datum::Decimal(decimal.map_err(|_| DecodeError::Tag { what: "decimal scale", tag: scale })?)
        }
        0x13 => Datum::Float(unorder_f64(u64::from_be_bytes(array(input)?)) as f32),
        0x14 => Datum::Double(unorder_f64(u64::from_be_bytes(array(input)?))),
        0x20 => Datum::Text(text(input)?),
        0x21 => Datum::Bytes(escaped(input)?.into()),
        0x30 => Datum::Date((u32::from_be_bytes(array(input)?) ^ (1 << 31)) as i32),
        0x31 => Datum::DateTime(int(input)?),
        0x32 => Datum::Timestamp(int(input)?),
        0x33 => Datum::Time(int(input)?),
        0x40 => Datum::Json(text(input)?),
        tag => return Err(DecodeError::Tag { what: "key column", tag }),
    })
}

fn flip_i64(value: i64) -> u64 {
    value as u64 ^ (1 << 63)
}

fn order_f64(value: f64) -> u64 {
    let bits = canonical(value).to_bits();
    if bits >> 63 == 0 { bits ^ (1 << 63) } else { !bits }
}

fn unorder_f64(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits ^ (1 << 63) } else { !bits })
}

fn put_escaped(bytes: &[u8], out: &mut BytesMut) {
    for part in bytes.split_inclusive(|byte| *byte == 0) {
        out.put_slice(part);
        if part.last() == Some(&0) {
            out.put_u8(0xff);
        }
    }
    out.put_slice(&[0, 0]);
}

fn escaped(input: &mut Reader) -> Result<Vec<u8>, DecodeError> {
    let mut bytes = Vec::new();
    loop {
        match input.u8()? {
            0 => match input.u8()? {
                0 => return Ok(bytes),
                0xff => bytes.push(0),
                tag => return Err(DecodeError::Tag { what: "escape", tag }),
            },
            byte => bytes.push(byte),
        }
    }
}

fn text(input: &mut Reader) -> Result<String, DecodeError> {
    String::from_utf8(escaped(input)?).map_err(|error| {
        let bad = error.as_bytes()[error.utf8_error().valid_up_to()];
        DecodeError::Tag { what: "text byte", tag: bad }
    })
}

fn array<const N: usize>(input: &mut Reader) -> Result<[u8; N], DecodeError> {
    Ok(input.take(N)?.as_ref().try_into().expect("take returns as many bytes as asked"))
}

/// The hash of a shard key.
pub fn shard_hash<'a>(columns: impl IntoIterator<Item = &'a Datum>) -> u64 {
    let mut bytes = BytesMut::with_capacity(32);
    columns.into_iter().for_each(|value| encode_datum(value, &mut bytes));
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The partition, of `partitions`, that holds rows with this shard key.
pub fn shard_of<'a>(columns: impl IntoIterator<Item = &'a Datum>, partitions: u32) -> Ordinal {
    assert!(partitions > 0, "a database has at least one partition");
    Ordinal(((u128::from(shard_hash(columns)) * u128::from(partitions)) >> 64) as i32)
}
