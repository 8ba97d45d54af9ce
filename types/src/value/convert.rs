//! What becomes of a value that is put into a column: MySQL's conversions and what it says when one does not fit.
//!
//! A conversion that loses something is a [`Misfit`]: it names the loss and holds the value that non-strict mode and
//! `INSERT IGNORE` keep instead. In strict mode the misfit is the statement's error. Rounding a number to the
//! column's scale is no misfit, as in MySQL.

use bytes::Bytes;
use thiserror::Error;

use super::time::{DAY, HOUR, MINUTE, SECOND, format_date, format_datetime, format_time};
use super::{BlobSize, ColumnType, Datum, Decimal, IntWidth, civil_from_days, json, number_prefix, parse_datetime};
use super::{parse_time, round_to_fsp};

/// The time zone of a session.
pub trait Zone {
    /// The instant, microseconds since 1970 UTC, of a local time; `None` in a gap that a change of clocks leaves.
    fn to_utc(&self, local: i64) -> Option<i64>;
    /// The local time of an instant.
    fn to_local(&self, utc: i64) -> i64;
}

/// A zone that is always so many seconds ahead of UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedZone(pub i32);

impl Zone for FixedZone {
    fn to_utc(&self, local: i64) -> Option<i64> {
        local.checked_sub(i64::from(self.0) * SECOND)
    }

    fn to_local(&self, utc: i64) -> i64 {
        utc + i64::from(self.0) * SECOND
    }
}

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MisfitKind {
    /// The number or time is beyond the type's limits.
    #[error("Out of range value for column '{{column}}' at row {{row}}")]
    OutOfRange,
    /// The text or bytes are longer than the type allows.
    #[error("Data too long for column '{{column}}' at row {{row}}")]
    TooLong,
    /// Something follows the number.
    #[error("Data truncated for column '{{column}}' at row {{row}}")]
    Truncated,
    /// The text is no value of the type.
    #[error("Incorrect {what} value: '{value}' for column '{{column}}' at row {{row}}")]
    Incorrect {
        /// The type's name in messages.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// The text is no date or time.
    #[error("Incorrect {what} value: '{value}' for column '{{column}}' at row {{row}}")]
    IncorrectTime {
        /// The type's name in messages.
        what: &'static str,
        /// The text.
        value: String,
    },
    /// The text is no JSON.
    #[error("Invalid JSON text: \"Invalid value.\" at position {position} in value for column '{{column}}'.")]
    InvalidJson {
        /// Byte at which it stops being JSON.
        position: usize,
    },
}

/// A value that does not fit in its column.
#[derive(Clone, Debug, PartialEq)]
pub struct Misfit {
    /// What is wrong.
    pub kind: MisfitKind,
    /// What non-strict mode keeps; `None` if nothing can be kept.
    pub adjusted: Option<Datum>,
}

impl MisfitKind {
    /// MySQL's error number.
    pub fn code(&self) -> u16 {
        match self {
            MisfitKind::OutOfRange => 1264,
            MisfitKind::TooLong => 1406,
            MisfitKind::Truncated => 1265,
            MisfitKind::Incorrect { .. } => 1366,
            MisfitKind::IncorrectTime { .. } => 1292,
            MisfitKind::InvalidJson { .. } => 3140,
        }
    }

    /// MySQL's message. `row` counts from 1 within the statement.
    pub fn message(&self, column: &str, row: u64) -> String {
        self.to_string().replace("{column}", column).replace("{row}", &row.to_string())
    }

    fn but(self, adjusted: Datum) -> Misfit {
        Misfit { kind: self, adjusted: Some(adjusted) }
    }
}

impl ColumnType {
    /// The value that a column of this type holds after `value` is put into it; NULL stays NULL, for whether the
    /// column takes it is a matter of its definition. `zone` gives the instant of a TIMESTAMP.
    pub fn convert(&self, value: Datum, zone: &dyn Zone) -> Result<Datum, Misfit> {
        if value.is_null() {
            return Ok(Datum::Null);
        }
        match *self {
            ColumnType::Int { width, unsigned } => to_int(&value, width, unsigned, zone),
            ColumnType::Bool => to_int(&value, IntWidth::Tiny, false, zone),
            ColumnType::Decimal { precision, scale, unsigned } => to_decimal(&value, precision, scale, unsigned, zone),
            ColumnType::Float => to_float(&value, zone),
            ColumnType::Double => to_double(&value, zone).map(Datum::Double),
            ColumnType::Char(chars) => to_text(value, zone, Limit::Chars(chars), true),
            ColumnType::VarChar(chars) => to_text(value, zone, Limit::Chars(chars), false),
            ColumnType::Text(size) => to_text(value, zone, Limit::Bytes(size.limit()), false),
            ColumnType::Binary(length) => to_bytes(value, zone, u64::from(length)).map(|value| pad(value, length)),
            ColumnType::VarBinary(length) => to_bytes(value, zone, u64::from(length)),
            ColumnType::Blob(size) => to_bytes(value, zone, size.limit()),
            ColumnType::Date => to_date(&value, zone),
            ColumnType::DateTime(fsp) => to_datetime(&value, fsp, zone),
            ColumnType::Timestamp(fsp) => to_timestamp(&value, fsp, zone),
            ColumnType::Time(fsp) => to_time(&value, fsp, zone),
            ColumnType::Json => to_json(value, zone),
        }
    }
}

/// A number before it is fitted into a column.
enum Number {
    Exact(Decimal),
    Double(f64),
}

/// The number that a value stands for in arithmetic with its column, and what was wrong with its text.
fn number(value: &Datum, what: &'static str, zone: &dyn Zone) -> (Number, Option<MisfitKind>) {
    let exact = |value: i128| (Number::Exact(Decimal::from_int(value)), None);
    match value {
        Datum::Null => exact(0),
        Datum::Int(value) => exact(i128::from(*value)),
        Datum::UInt(value) => exact(i128::from(*value)),
        Datum::Decimal(value) => (Number::Exact(*value), None),
        Datum::Float(value) => (Number::Double(f64::from(*value)), None),
        Datum::Double(value) => (Number::Double(*value), None),
        Datum::Text(text) | Datum::Json(text) => text_number(text, what),
        Datum::Bytes(bytes) => text_number(&String::from_utf8_lossy(bytes), what),
        Datum::Date(days) => {
            let date = civil_from_days(*days);
            exact(i128::from(date.year) * 10_000 + i128::from(date.month) * 100 + i128::from(date.day))
        }
        Datum::DateTime(micros) => exact_micros(*micros),
        Datum::Timestamp(micros) => exact_micros(zone.to_local(*micros)),
        Datum::Time(micros) => {
            let size = micros.abs();
            let clock = size / HOUR * 10_000 + size % HOUR / MINUTE * 100 + size % MINUTE / SECOND;
            let unscaled = i128::from(micros.signum()) * (i128::from(clock) * 1_000_000 + i128::from(size % SECOND));
            (Number::Exact(Decimal::new(unscaled, 6).expect("a time has fewer than 38 digits")), None)
        }
    }
}

/// `YYYYMMDDhhmmss.ffffff`.
fn exact_micros(micros: i64) -> (Number, Option<MisfitKind>) {
    let date = civil_from_days(micros.div_euclid(DAY) as i32);
    let clock = micros.rem_euclid(DAY);
    let digits = [i64::from(date.year) * 10_000 + i64::from(date.month) * 100 + i64::from(date.day), clock / HOUR];
    let rest = [clock % HOUR / MINUTE, clock % MINUTE / SECOND];
    let whole = i128::from(digits[0]) * 1_000_000 + i128::from(digits[1] * 10_000 + rest[0] * 100 + rest[1]);
    let unscaled = whole * 1_000_000 + i128::from(clock % SECOND);
    (Number::Exact(Decimal::new(unscaled, 6).expect("a datetime has fewer than 38 digits")), None)
}

fn text_number(text: &str, what: &'static str) -> (Number, Option<MisfitKind>) {
    let prefix = number_prefix(text);
    if prefix.text.is_empty() {
        let problem = MisfitKind::Incorrect { what, value: clip(text) };
        return (Number::Exact(Decimal::from_int(0)), Some(problem));
    }
    let problem = prefix.garbage.then_some(MisfitKind::Truncated);
    match Decimal::parse(prefix.text) {
        Ok(decimal) => (Number::Exact(decimal), problem),
        Err(_) => (Number::Double(prefix.text.parse().unwrap_or(f64::INFINITY)), problem),
    }
}

/// A value as it stands in a message: MySQL cuts it as well.
fn clip(text: &str) -> String {
    text.chars().take(128).collect()
}

fn to_int(value: &Datum, width: IntWidth, unsigned: bool, zone: &dyn Zone) -> Result<Datum, Misfit> {
    let (number, problem) = number(value, "integer", zone);
    let (least, most) = width.range(unsigned);
    let whole = match number {
        Number::Exact(decimal) => decimal.to_int(),
        // Beyond the range of i128 a cast saturates, which is out of range here too.
        Number::Double(double) => double.round_ties_even() as i128,
    };
    let fitted = whole.clamp(least, most);
    let datum = if unsigned { Datum::UInt(fitted as u64) } else { Datum::Int(fitted as i64) };
    match problem {
        Some(kind) => Err(kind.but(datum)),
        None if fitted != whole => Err(MisfitKind::OutOfRange.but(datum)),
        None => Ok(datum),
    }
}

fn to_decimal(value: &Datum, precision: u8, scale: u8, unsigned: bool, zone: &dyn Zone) -> Result<Datum, Misfit> {
    let (number, problem) = number(value, "decimal", zone);
    let most = Decimal::new(10i128.pow(u32::from(precision)) - 1, scale).expect("precision and scale were checked");
    let least = if unsigned {
        Decimal::new(0, scale).expect("zero fits")
    } else {
        Decimal::new(-most.unscaled(), scale).expect("it mirrors the largest")
    };
    let (exact, negative) = match number {
        Number::Exact(decimal) => (decimal.rescale(scale), decimal.unscaled() < 0),
        Number::Double(double) => (Decimal::from_f64(double).and_then(|value| value.rescale(scale)), double < 0.0),
    };
    let rounded = exact.unwrap_or(if negative { least } else { most });
    let fitted = rounded.clamp(least, most);
    match problem {
        Some(kind) => Err(kind.but(Datum::Decimal(fitted))),
        None if exact.is_err() || fitted != rounded => Err(MisfitKind::OutOfRange.but(Datum::Decimal(fitted))),
        None => Ok(Datum::Decimal(fitted)),
    }
}

fn to_double(value: &Datum, zone: &dyn Zone) -> Result<f64, Misfit> {
    let (number, problem) = number(value, "double", zone);
    let double = match number {
        Number::Exact(decimal) => decimal.to_f64(),
        Number::Double(double) => double,
    };
    if !double.is_finite() {
        let most = if double < 0.0 { f64::MIN } else { f64::MAX };
        return Err(MisfitKind::OutOfRange.but(Datum::Double(most)));
    }
    match problem {
        // A text that is no number at all is a truncation to MySQL here, and "incorrect" for the other numbers.
        Some(_) => Err(MisfitKind::Truncated.but(Datum::Double(double))),
        None => Ok(double),
    }
}

fn to_float(value: &Datum, zone: &dyn Zone) -> Result<Datum, Misfit> {
    let (double, problem) = match to_double(value, zone) {
        Ok(double) => (double, None),
        Err(Misfit { kind, adjusted: Some(Datum::Double(double)) }) => (double, Some(kind)),
        Err(other) => return Err(other),
    };
    let most = f64::from(f32::MAX);
    let float = double.clamp(-most, most) as f32;
    match problem {
        Some(kind) => Err(kind.but(Datum::Float(float))),
        None if double.abs() > most => Err(MisfitKind::OutOfRange.but(Datum::Float(float))),
        None => Ok(Datum::Float(float)),
    }
}

enum Limit {
    Chars(u32),
    Bytes(u64),
}

/// A value's text; TIMESTAMP in the session's zone.
fn text_of(value: Datum, zone: &dyn Zone) -> Result<String, Misfit> {
    match value {
        Datum::Text(text) | Datum::Json(text) => Ok(text),
        Datum::Timestamp(micros) => Ok(Datum::DateTime(zone.to_local(micros)).to_string()),
        Datum::Bytes(bytes) => String::from_utf8(bytes.into()).map_err(|error| {
            let (good, bytes) = (error.utf8_error().valid_up_to(), error.as_bytes());
            let shown: String = bytes[good..].iter().take(6).map(|byte| format!("\\x{byte:02X}")).collect();
            let kept = String::from_utf8_lossy(&bytes[..good]).into_owned();
            MisfitKind::Incorrect { what: "string", value: shown }.but(Datum::Text(kept))
        }),
        other => Ok(other.to_string()),
    }
}

fn to_text(value: Datum, zone: &dyn Zone, limit: Limit, strip: bool) -> Result<Datum, Misfit> {
    let mut text = text_of(value, zone)?;
    if strip {
        text.truncate(text.trim_end_matches(' ').len());
    }
    let end = match limit {
        Limit::Chars(chars) => text.char_indices().nth(chars as usize).map(|(at, _)| at),
        Limit::Bytes(bytes) if text.len() as u64 > bytes => {
            (0..=bytes as usize).rev().find(|at| text.is_char_boundary(*at))
        }
        Limit::Bytes(_) => None,
    };
    let Some(end) = end else { return Ok(Datum::Text(text)) };
    let only_spaces = text[end..].bytes().all(|byte| byte == b' ');
    text.truncate(end);
    if only_spaces { Ok(Datum::Text(text)) } else { Err(MisfitKind::TooLong.but(Datum::Text(text))) }
}

fn to_bytes(value: Datum, zone: &dyn Zone, limit: u64) -> Result<Datum, Misfit> {
    let bytes = match value {
        Datum::Bytes(bytes) => bytes,
        other => Bytes::from(text_of(other, zone)?),
    };
    if bytes.len() as u64 > limit {
        return Err(MisfitKind::TooLong.but(Datum::Bytes(bytes.slice(..limit as usize))));
    }
    Ok(Datum::Bytes(bytes))
}

fn pad(value: Datum, length: u32) -> Datum {
    match value {
        Datum::Bytes(bytes) if bytes.len() < length as usize => {
            let mut padded = bytes.to_vec();
            padded.resize(length as usize, 0);
            Datum::Bytes(padded.into())
        }
        other => other,
    }
}

/// Microseconds of a value that is read as a date with a time; `Err` holds what the message shows.
fn micros_of(value: &Datum, zone: &dyn Zone) -> Result<i64, String> {
    let parse = |text: &str| {
        let (micros, offset) = parse_datetime(text)?;
        Some(match offset {
            Some(seconds) => zone.to_local(micros - i64::from(seconds) * SECOND),
            None => micros,
        })
    };
    match value {
        Datum::Date(days) => Ok(i64::from(*days) * DAY),
        Datum::DateTime(micros) => Ok(*micros),
        Datum::Timestamp(micros) => Ok(zone.to_local(*micros)),
        Datum::Text(text) | Datum::Json(text) => parse(text).ok_or_else(|| clip(text)),
        Datum::Bytes(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            parse(&text).ok_or_else(|| clip(&text))
        }
        other => {
            let text = other.to_string();
            // A number is the digits of a date; leading zeros of short years are not written.
            let padded =
                if text.bytes().take_while(u8::is_ascii_digit).count() == 5 { format!("0{text}") } else { text };
            parse(&padded).ok_or_else(|| clip(&other.to_string()))
        }
    }
}

/// The day 0000-01-01 stands for a date that could not be read: MySQL would keep its zero date.
fn no_date() -> Datum {
    Datum::Null
}

fn to_date(value: &Datum, zone: &dyn Zone) -> Result<Datum, Misfit> {
    match micros_of(value, zone) {
        Ok(micros) => Ok(Datum::Date(micros.div_euclid(DAY) as i32)),
        Err(value) => Err(MisfitKind::IncorrectTime { what: "date", value }.but(no_date())),
    }
}

/// 9999-12-31 23:59:59.999999, in microseconds since 1970.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

fn to_datetime(value: &Datum, fsp: u8, zone: &dyn Zone) -> Result<Datum, Misfit> {
    match micros_of(value, zone).map(|micros| (round_to_fsp(micros, fsp), micros)) {
        Ok((rounded, _)) if rounded <= LAST_MICROS => Ok(Datum::DateTime(rounded)),
        Ok((_, micros)) => {
            let value = format_datetime(micros, 6);
            Err(MisfitKind::IncorrectTime { what: "datetime", value }.but(no_date()))
        }
        Err(value) => Err(MisfitKind::IncorrectTime { what: "datetime", value }.but(no_date())),
    }
}

/// 2038-01-19 03:14:07.999999 UTC: where MySQL's TIMESTAMP ends.
const LAST_TIMESTAMP: i64 = 2_147_483_647_999_999;

fn to_timestamp(value: &Datum, fsp: u8, zone: &dyn Zone) -> Result<Datum, Misfit> {
    let incorrect = |value: String| MisfitKind::IncorrectTime { what: "datetime", value }.but(no_date());
    let utc = match value {
        Datum::Timestamp(utc) => *utc,
        other => {
            let local = micros_of(other, zone).map_err(incorrect)?;
            zone.to_utc(local).ok_or_else(|| incorrect(format_datetime(local, 0)))?
        }
    };
    let rounded = round_to_fsp(utc, fsp);
    if !(SECOND..=LAST_TIMESTAMP).contains(&rounded) {
        return Err(incorrect(format_datetime(zone.to_local(utc), 0)));
    }
    Ok(Datum::Timestamp(rounded))
}

/// The largest TIME: 838:59:59.
const LAST_TIME: i64 = 838 * HOUR + 59 * MINUTE + 59 * SECOND;

fn to_time(value: &Datum, fsp: u8, zone: &dyn Zone) -> Result<Datum, Misfit> {
    let micros = match value {
        Datum::Time(micros) => Ok(*micros),
        Datum::Date(_) => Ok(0),
        Datum::DateTime(micros) => Ok(micros.rem_euclid(DAY)),
        Datum::Timestamp(micros) => Ok(zone.to_local(*micros).rem_euclid(DAY)),
        Datum::Text(text) => parse_time(text)
            .or_else(|| parse_datetime(text).map(|(micros, _)| micros.rem_euclid(DAY)))
            .ok_or_else(|| clip(text)),
        other => parse_time(&other.to_string()).ok_or_else(|| clip(&other.to_string())),
    };
    match micros {
        Ok(micros) => {
            let rounded = round_to_fsp(micros, fsp);
            if rounded.abs() > LAST_TIME {
                return Err(MisfitKind::IncorrectTime { what: "time", value: format_time(micros, 0) }
                    .but(Datum::Time(rounded.clamp(-LAST_TIME, LAST_TIME))));
            }
            Ok(Datum::Time(rounded))
        }
        Err(value) => Err(MisfitKind::IncorrectTime { what: "time", value }.but(Datum::Time(0))),
    }
}

fn to_json(value: Datum, zone: &dyn Zone) -> Result<Datum, Misfit> {
    let text = match value {
        Datum::Date(days) => format!("\"{}\"", format_date(days)),
        Datum::DateTime(_) | Datum::Timestamp(_) | Datum::Time(_) => format!("\"{}\"", text_of(value, zone)?),
        other => text_of(other, zone)?,
    };
    let limit = BlobSize::Long.limit();
    assert!(text.len() as u64 <= limit, "a JSON text of {} bytes is above {limit}", text.len());
    match json::check(&text) {
        Ok(()) => Ok(Datum::Json(text)),
        Err(position) => Err(Misfit { kind: MisfitKind::InvalidJson { position }, adjusted: None }),
    }
}
