//! The packets that answer: OK, EOF, error, column definitions, rows of text and binary rows.
//!
//! Rows of text hold each value's text with its length in front (0xfb for NULL). Binary rows, which answer
//! COM_STMT_EXECUTE, begin with a zero byte and a NULL bitmap whose first two bits are unused, then hold the
//! values in the format of the column's type.

use bytes::{BufMut, BytesMut};
use types::value::{Civil, DAY, SECOND, civil_from_days};

use super::codec::{put_length, put_length_bytes};
use super::column::{Column, ColumnKind};
use super::constants::{Capabilities, status};
use super::error::{self, SqlError};
use super::session::{Completion, StatementId, Status};
use super::value::Value;

const OK_HEADER: u8 = 0x00;
const EOF_HEADER: u8 = 0xfe;
const ERROR_HEADER: u8 = 0xff;
const NULL_MARKER: u8 = 0xfb;
/// Bytes of a column definition's fixed part.
const FIXED_BYTES: u64 = 0x0c;
/// Longer messages are cut: clients keep 512 bytes, and an error must fit one frame.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The status word of a packet that ends a result.
pub fn status_bits(status: Status, more_results: bool) -> u16 {
    let bit = |is_set: bool, bit: u16| if is_set { bit } else { 0 };
    bit(status.autocommit, status::AUTOCOMMIT)
        | bit(status.in_transaction, status::IN_TRANSACTION)
        | bit(more_results, status::MORE_RESULTS)
}

/// Writes the OK that ends a command without rows.
pub fn write_ok(out: &mut BytesMut, completion: &Completion) {
    write_ok_with_header(out, OK_HEADER, completion);
}

/// Writes the end of a row stream, of column definitions, or the answer to COM_SET_OPTION: an EOF packet, or an
/// OK packet in its place for clients that deprecate EOF.
pub fn write_end(out: &mut BytesMut, capabilities: Capabilities, completion: &Completion) {
    if capabilities.has(Capabilities::DEPRECATE_EOF) {
        write_ok_with_header(out, EOF_HEADER, completion);
    } else {
        out.put_u8(EOF_HEADER);
        out.put_u16_le(completion.warnings);
        out.put_u16_le(status_bits(completion.status, completion.more_results));
    }
}

/// Writes the EOF packet that follows column definitions, for clients that do not deprecate it.
pub fn write_end_of_columns(out: &mut BytesMut, status: Status) {
    out.put_u8(EOF_HEADER);
    out.put_u16_le(0);
    out.put_u16_le(status_bits(status, false));
}

fn write_ok_with_header(out: &mut BytesMut, header: u8, completion: &Completion) {
    out.put_u8(header);
    put_length(out, completion.affected_rows);
    put_length(out, completion.last_insert_id);
    out.put_u16_le(status_bits(completion.status, completion.more_results));
    out.put_u16_le(completion.warnings);
    // With a length in front, as servers send it and client libraries read it; MySQL's documentation says
    // otherwise for clients without session tracking.
    if !completion.info.is_empty() {
        put_length_bytes(out, completion.info.as_bytes());
    }
}

/// Writes an error.
pub fn write_error(out: &mut BytesMut, error: &SqlError) {
    let message = error.message();
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    out.put_u8(ERROR_HEADER);
    out.put_u16_le(error.code());
    out.put_u8(b'#');
    out.put_slice(error.state());
    out.put_slice(&message.as_bytes()[..end]);
}

/// Writes a column definition. The answer to COM_FIELD_LIST has the column's default value at the end of each,
/// which is always sent as NULL here.
pub fn write_column(out: &mut BytesMut, column: &Column, with_default: bool) {
    let shape = column.kind.shape();
    for text in ["def", &column.database, &column.table, &column.org_table, &column.name, &column.org_name] {
        put_length_bytes(out, text.as_bytes());
    }
    put_length(out, FIXED_BYTES);
    out.put_u16_le(shape.collation);
    out.put_u32_le(shape.length);
    out.put_u8(shape.type_code);
    out.put_u16_le(shape.flags | column.flags);
    out.put_u8(shape.decimals);
    out.put_bytes(0, 2);
    if with_default {
        out.put_u8(NULL_MARKER);
    }
}

/// Writes the first packet of the answer to COM_STMT_PREPARE; definitions of parameters and of columns follow.
pub fn write_prepare_ok(out: &mut BytesMut, id: StatementId, parameters: u16, columns: u16, warnings: u16) {
    out.put_u8(OK_HEADER);
    out.put_u32_le(id.0);
    out.put_u16_le(columns);
    out.put_u16_le(parameters);
    out.put_u8(0);
    out.put_u16_le(warnings);
}

/// Writes a row of text.
pub fn write_text_row(out: &mut BytesMut, columns: &[Column], row: &[Value<'_>]) -> Result<(), SqlError> {
    check_width(columns, row)?;
    let mut text = String::new();
    for (column, value) in columns.iter().zip(row) {
        match value {
            Value::Null => out.put_u8(NULL_MARKER),
            _ => put_text(out, &mut text, column.kind, value)?,
        }
    }
    Ok(())
}

/// Writes a binary row.
pub fn write_binary_row(out: &mut BytesMut, columns: &[Column], row: &[Value<'_>]) -> Result<(), SqlError> {
    check_width(columns, row)?;
    out.put_u8(0);
    let bitmap = out.len();
    out.put_bytes(0, (columns.len() + 2).div_ceil(8));
    let mut text = String::new();
    for (index, (column, value)) in columns.iter().zip(row).enumerate() {
        match value {
            Value::Null => out[bitmap + (index + 2) / 8] |= 1 << ((index + 2) % 8),
            _ => put_binary(out, &mut text, column, value)?,
        }
    }
    Ok(())
}

fn check_width(columns: &[Column], row: &[Value<'_>]) -> Result<(), SqlError> {
    if columns.len() == row.len() {
        return Ok(());
    }
    let message = format!("internal error: a row of {} values for {} columns", row.len(), columns.len());
    Err(SqlError::new(error::UNKNOWN_ERROR, message))
}

fn put_text(out: &mut BytesMut, text: &mut String, kind: ColumnKind, value: &Value<'_>) -> Result<(), SqlError> {
    match value {
        Value::Text(value) => put_length_bytes(out, value.as_bytes()),
        Value::Bytes(value) => put_length_bytes(out, value),
        _ => {
            text.clear();
            if value.write_text(text, kind.fraction()).is_err() {
                return Err(SqlError::new(error::UNKNOWN_ERROR, format!("internal error: {value:?} has no text")));
            }
            put_length_bytes(out, text.as_bytes());
        }
    }
    Ok(())
}

fn put_binary(out: &mut BytesMut, text: &mut String, column: &Column, value: &Value<'_>) -> Result<(), SqlError> {
    use ColumnKind::*;
    let done = match column.kind {
        Bool | TinyInt { .. } => integer(value, 1).map(|bits| out.put_u8(bits as u8)),
        SmallInt { .. } => integer(value, 2).map(|bits| out.put_u16_le(bits as u16)),
        MediumInt { .. } | Int { .. } => integer(value, 4).map(|bits| out.put_u32_le(bits as u32)),
        BigInt { .. } => integer(value, 8).map(|bits| out.put_u64_le(bits)),
        Float => double(value).map(|double| out.put_f32_le(double as f32)),
        Double => double(value).map(|double| out.put_f64_le(double)),
        Date => put_date(out, value, true),
        DateTime(_) | Timestamp(_) => put_date(out, value, false),
        Time(_) => put_time(out, value),
        Null
        | Decimal { .. }
        | Char(_)
        | VarChar(_)
        | TinyText
        | Text
        | MediumText
        | LongText
        | Binary(_)
        | VarBinary(_)
        | TinyBlob
        | Blob
        | MediumBlob
        | LongBlob
        | Json => {
            return put_text(out, text, column.kind, value);
        }
    };
    done.ok_or_else(|| {
        let message = format!("internal error: {value:?} is no value of column {} ({:?})", column.name, column.kind);
        SqlError::new(error::UNKNOWN_ERROR, message)
    })
}

/// The two's complement of an integer that has at most `bytes` bytes, signed or unsigned.
fn integer(value: &Value<'_>, bytes: u32) -> Option<u64> {
    let bits = 8 * bytes;
    match *value {
        Value::Int(value) => {
            let (least, most) = (i128::from(i64::MIN) >> (64 - bits), (1i128 << bits) - 1);
            (least..=most).contains(&i128::from(value)).then_some(value as u64)
        }
        Value::UInt(value) => (u128::from(value) < 1u128 << bits).then_some(value),
        _ => None,
    }
}

fn double(value: &Value<'_>) -> Option<f64> {
    match *value {
        Value::Double(value) => Some(value),
        Value::Float(value) => Some(f64::from(value)),
        _ => None,
    }
}

/// Length, year, month, day, then hour, minute, second if one of them or the next is not zero, then microseconds
/// if they are not.
fn put_date(out: &mut BytesMut, value: &Value<'_>, is_date_only: bool) -> Option<()> {
    let (days, rest) = match *value {
        Value::Date(days) => (days, 0),
        Value::DateTime(micros) if !is_date_only => (micros.div_euclid(DAY) as i32, micros.rem_euclid(DAY)),
        _ => return None,
    };
    let Civil { year, month, day } = civil_from_days(days);
    let (seconds, micros) = ((rest / SECOND) as u32, (rest % SECOND) as u32);
    out.put_u8(if micros > 0 {
        11
    } else if seconds > 0 {
        7
    } else {
        4
    });
    out.put_u16_le(u16::try_from(year).ok()?);
    out.put_slice(&[month as u8, day as u8]);
    if rest > 0 {
        put_clock(out, seconds);
    }
    if micros > 0 {
        out.put_u32_le(micros);
    }
    Some(())
}

/// Length, sign, days, hour, minute, second, then microseconds if they are not zero; length 0 alone for no time.
fn put_time(out: &mut BytesMut, value: &Value<'_>) -> Option<()> {
    let Value::Time(signed) = *value else { return None };
    let all = signed.unsigned_abs();
    let (seconds, micros) = (all / SECOND as u64, (all % SECOND as u64) as u32);
    if all == 0 {
        out.put_u8(0);
        return Some(());
    }
    out.put_u8(if micros > 0 { 12 } else { 8 });
    out.put_u8(u8::from(signed < 0));
    out.put_u32_le(u32::try_from(seconds / 86_400).ok()?);
    put_clock(out, (seconds % 86_400) as u32);
    if micros > 0 {
        out.put_u32_le(micros);
    }
    Some(())
}

/// Hour, minute and second of a day, a byte each.
fn put_clock(out: &mut BytesMut, seconds: u32) {
    out.put_slice(&[seconds / 3600, seconds / 60 % 60, seconds % 60].map(|field| field as u8));
}

#[cfg(test)]
mod tests;
