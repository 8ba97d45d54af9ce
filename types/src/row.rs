//! Values of rows: columns by id, so that a row is read with another version of its table's definition than it was
//! written with.
//!
//! A column that the row does not have takes the default that it was added with; a column that the table no longer
//! has is skipped. The layout is version 1 of `docs/formats.md`, section "row":
//!
//! | part | bytes |
//! |---|---|
//! | version | 01 |
//! | count of columns | varint |
//! | per column, ids rising: id | varint |
//! | tag | as in `key` |
//! | integer, date, datetime, timestamp, time | zigzag varint |
//! | unsigned integer | varint |
//! | decimal | scale u8, then the unscaled value as a zigzag varint |
//! | float, double | the IEEE bits, 4 or 8 bytes le |
//! | text, bytes, JSON | length varint, then the bytes |
//!
//! A varint has seven bits a byte, the lowest first; the highest bit of a byte says that another one follows.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::DecodeError;
use crate::record::Reader;
use crate::value::{Datum, Decimal};

/// A column of a table; never given to another column of that table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ColumnId(pub u32);

const VERSION: u8 = 1;

/// The bytes of a row. Panics unless the ids rise: the same row has one encoding.
pub fn encode_row<'a>(columns: impl ExactSizeIterator<Item = (ColumnId, &'a Datum)>) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + 8 * columns.len());
    out.put_u8(VERSION);
    put_varint(columns.len() as u128, &mut out);
    let mut last = None;
    for (id, value) in columns {
        assert!(last < Some(id), "column {} follows column {last:?}", id.0);
        last = Some(id);
        put_varint(u128::from(id.0), &mut out);
        encode_value(value, &mut out);
    }
    out.freeze()
}

/// All columns of a row, ids rising.
pub fn decode_row(row: Bytes) -> Result<Vec<(ColumnId, Datum)>, DecodeError> {
    let mut input = Reader::new(row);
    let count = header(&mut input)?;
    // A column takes two bytes at least: a false count cannot reserve memory.
    let mut columns = Vec::with_capacity(count.min(input.remaining() as u64 / 2) as usize);
    for _ in 0..count {
        columns.push((ColumnId(column_id(&mut input)?), decode_value(&mut input)?));
    }
    match input.remaining() {
        0 => Ok(columns),
        left => Err(DecodeError::Trailing(left)),
    }
}

/// The columns whose ids are `wanted` (rising), each `None` where the row has none. The others are not built.
pub fn project_row(row: Bytes, wanted: &[ColumnId]) -> Result<Vec<Option<Datum>>, DecodeError> {
    let mut input = Reader::new(row);
    let mut found = vec![None; wanted.len()];
    let mut next = 0;
    for _ in 0..header(&mut input)? {
        let id = ColumnId(column_id(&mut input)?);
        while wanted.get(next).is_some_and(|wanted| *wanted < id) {
            next += 1;
        }
        match wanted.get(next) {
            None => return Ok(found),
            Some(wanted) if *wanted == id => found[next] = Some(decode_value(&mut input)?),
            Some(_) => skip_value(&mut input)?,
        }
    }
    Ok(found)
}

fn header(input: &mut Reader) -> Result<u64, DecodeError> {
    match input.u8()? {
        VERSION => varint_u64(input),
        tag => Err(DecodeError::Tag { what: "row version", tag }),
    }
}

fn column_id(input: &mut Reader) -> Result<u32, DecodeError> {
    u32::try_from(varint(input)?).map_err(|_| DecodeError::Tag { what: "column id", tag: 0xff })
}

fn encode_value(value: &Datum, out: &mut BytesMut) {
    out.put_u8(value.tag());
    match value {
        Datum::Null => {}
        Datum::Int(value) | Datum::DateTime(value) | Datum::Timestamp(value) | Datum::Time(value) => {
            put_varint(zigzag(i128::from(*value)), out);
        }
        Datum::Date(days) => put_varint(zigzag(i128::from(*days)), out),
        Datum::UInt(value) => put_varint(u128::from(*value), out),
        Datum::Decimal(value) => {
            out.put_u8(value.scale());
            put_varint(zigzag(value.unscaled()), out);
        }
        Datum::Float(value) => out.put_u32_le(value.to_bits()),
        Datum::Double(value) => out.put_u64_le(value.to_bits()),
        Datum::Text(text) | Datum::Json(text) => put_bytes(text.as_bytes(), out),
        Datum::Bytes(bytes) => put_bytes(bytes, out),
    }
}

fn decode_value(input: &mut Reader) -> Result<Datum, DecodeError> {
    let int = |input: &mut Reader| {
        i64::try_from(unzigzag(varint(input)?)).map_err(|_| DecodeError::Tag { what: "integer", tag: 0xff })
    };
    Ok(match input.u8()? {
        0x01 => Datum::Null,
        0x10 => Datum::Int(int(input)?),
        0x11 => Datum::UInt(varint_u64(input)?),
        0x12 => {
            let scale = input.u8()?;
            let decimal = Decimal::new(unzigzag(varint(input)?), scale);
            Datum::Decimal(decimal.map_err(|_| DecodeError::Tag { what: "decimal scale", tag: scale })?)
        }
        0x13 => Datum::Float(f32::from_bits(input.u32()?)),
        0x14 => Datum::Double(f64::from_bits(input.u64()?)),
        0x20 => Datum::Text(text(input)?),
        0x21 => Datum::Bytes(bytes(input)?),
        0x30 => Datum::Date(i32::try_from(int(input)?).map_err(|_| DecodeError::Tag { what: "date", tag: 0xff })?),
        0x31 => Datum::DateTime(int(input)?),
        0x32 => Datum::Timestamp(int(input)?),
        0x33 => Datum::Time(int(input)?),
        0x40 => Datum::Json(text(input)?),
        tag => return Err(DecodeError::Tag { what: "row column", tag }),
    })
}

fn skip_value(input: &mut Reader) -> Result<(), DecodeError> {
    match input.u8()? {
        0x01 => {}
        0x10 | 0x11 | 0x30..=0x33 => {
            varint(input)?;
        }
        0x12 => {
            input.u8()?;
            varint(input)?;
        }
        0x13 => {
            input.take(4)?;
        }
        0x14 => {
            input.take(8)?;
        }
        0x20 | 0x21 | 0x40 => {
            bytes(input)?;
        }
        tag => return Err(DecodeError::Tag { what: "row column", tag }),
    }
    Ok(())
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_varint(bytes.len() as u128, out);
    out.put_slice(bytes);
}

fn bytes(input: &mut Reader) -> Result<Bytes, DecodeError> {
    let length = varint_u64(input)?;
    input.take(usize::try_from(length).unwrap_or(usize::MAX))
}

fn text(input: &mut Reader) -> Result<String, DecodeError> {
    String::from_utf8(bytes(input)?.into()).map_err(|error| {
        let bad = error.as_bytes()[error.utf8_error().valid_up_to()];
        DecodeError::Tag { what: "text byte", tag: bad }
    })
}

fn zigzag(value: i128) -> u128 {
    (value.wrapping_shl(1) ^ (value >> 127)) as u128
}

fn unzigzag(value: u128) -> i128 {
    (value >> 1) as i128 ^ -((value & 1) as i128)
}

fn put_varint(mut value: u128, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn varint(input: &mut Reader) -> Result<u128, DecodeError> {
    let mut value = 0u128;
    for shift in (0..128).step_by(7) {
        let byte = input.u8()?;
        // The last byte has room for two bits.
        if shift == 126 && byte > 0x03 {
            return Err(DecodeError::Tag { what: "varint", tag: byte });
        }
        value |= u128::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(DecodeError::Tag { what: "varint", tag: 0xff })
}

fn varint_u64(input: &mut Reader) -> Result<u64, DecodeError> {
    u64::try_from(varint(input)?).map_err(|_| DecodeError::Tag { what: "varint", tag: 0xff })
}
