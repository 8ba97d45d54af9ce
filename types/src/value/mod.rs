//! The values of a column: what a row holds, how two of them compare, how they read as text.
//!
//! A [`Datum`] is a value after conversion to its column's type ([`ColumnType::convert`]). Values of one column are
//! always of one kind, or NULL, so the order that keys need is defined within a kind; across kinds it is the order
//! of the kinds' tags, which nothing but the key encoding relies on.
//!
//! Invariants: a decimal has at most 38 digits (MySQL allows 65; a declaration above 38 is refused, because the
//! arithmetic is that of `i128` and a silent loss of digits would be a wrong answer); no double is NaN or infinite
//! after conversion; text is UTF-8 and compared byte by byte, which is the order of its code points.

mod column_type;
mod convert;
mod decimal;
mod json;
mod number;
mod time;

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use column_type::{BlobSize, ColumnType, IntWidth, TypeError};
pub use convert::{FixedZone, Misfit, MisfitKind, Zone};
pub use decimal::{Decimal, DecimalError, MAX_DIGITS};
pub use number::{NumberPrefix, number_prefix};
pub use time::{Civil, DAY, HOUR, MINUTE, SECOND, civil_from_days, days_from_civil, last_day_of_month};
pub use time::{format_date, format_datetime, format_time, parse_datetime, parse_time, round_to_fsp};

/// One value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Datum {
    /// No value.
    Null,
    /// A signed integer; BOOL is 0 or 1.
    Int(i64),
    /// An unsigned integer.
    UInt(u64),
    /// A number with a fixed count of digits after the point.
    Decimal(Decimal),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// CHAR, VARCHAR and the TEXT family.
    Text(String),
    /// BINARY, VARBINARY and the BLOB family.
    Bytes(#[serde(with = "octets")] Bytes),
    /// DATE: days since 1970-01-01.
    Date(i32),
    /// DATETIME: microseconds since 1970-01-01 00:00:00 of no zone.
    DateTime(i64),
    /// TIMESTAMP: microseconds since 1970-01-01 00:00:00 UTC.
    Timestamp(i64),
    /// TIME: microseconds, negative too.
    Time(i64),
    /// JSON as its text.
    Json(String),
}

/// `Bytes` as a serde value.
mod octets {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        Vec::<u8>::deserialize(deserializer).map(Bytes::from)
    }
}

impl Datum {
    /// Whether it is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Datum::Null)
    }

    /// The kind's tag in keys and rows. Never renumbered: it is on disk.
    pub fn tag(&self) -> u8 {
        match self {
            Datum::Null => 0x01,
            Datum::Int(_) => 0x10,
            Datum::UInt(_) => 0x11,
            Datum::Decimal(_) => 0x12,
            Datum::Float(_) => 0x13,
            Datum::Double(_) => 0x14,
            Datum::Text(_) => 0x20,
            Datum::Bytes(_) => 0x21,
            Datum::Date(_) => 0x30,
            Datum::DateTime(_) => 0x31,
            Datum::Timestamp(_) => 0x32,
            Datum::Time(_) => 0x33,
            Datum::Json(_) => 0x40,
        }
    }

    /// The order of keys: NULL first, then by value within a kind, across kinds by tag.
    pub fn compare(&self, other: &Datum) -> Ordering {
        match (self, other) {
            (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
            (Datum::UInt(a), Datum::UInt(b)) => a.cmp(b),
            (Datum::Decimal(a), Datum::Decimal(b)) => a.cmp(b),
            (Datum::Float(a), Datum::Float(b)) => canonical(f64::from(*a)).total_cmp(&canonical(f64::from(*b))),
            (Datum::Double(a), Datum::Double(b)) => canonical(*a).total_cmp(&canonical(*b)),
            (Datum::Text(a), Datum::Text(b)) | (Datum::Json(a), Datum::Json(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Datum::Bytes(a), Datum::Bytes(b)) => a.cmp(b),
            (Datum::Date(a), Datum::Date(b)) => a.cmp(b),
            (Datum::DateTime(a), Datum::DateTime(b))
            | (Datum::Timestamp(a), Datum::Timestamp(b))
            | (Datum::Time(a), Datum::Time(b)) => a.cmp(b),
            _ => self.tag().cmp(&other.tag()),
        }
    }

    /// Bytes of memory it takes, about.
    pub fn size(&self) -> usize {
        32 + match self {
            Datum::Text(text) | Datum::Json(text) => text.len(),
            Datum::Bytes(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

/// The one zero and the one NaN that keys know: -0 is 0, and every NaN is the positive quiet one, above infinity.
pub(crate) fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN.copysign(1.0)
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// The value as a MySQL client sees it in the text protocol; NULL as `NULL`, TIMESTAMP in UTC.
impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Datum::Null => f.write_str("NULL"),
            Datum::Int(value) => value.fmt(f),
            Datum::UInt(value) => value.fmt(f),
            Datum::Decimal(value) => value.fmt(f),
            Datum::Float(value) => f.write_str(&number::format_float(*value)),
            Datum::Double(value) => f.write_str(&number::format_double(*value)),
            Datum::Text(text) | Datum::Json(text) => f.write_str(text),
            Datum::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Datum::Date(days) => f.write_str(&format_date(*days)),
            Datum::DateTime(micros) | Datum::Timestamp(micros) => {
                let fsp = if micros.rem_euclid(SECOND) == 0 { 0 } else { 6 };
                f.write_str(&format_datetime(*micros, fsp))
            }
            Datum::Time(micros) => {
                let fsp = if micros.rem_euclid(SECOND) == 0 { 0 } else { 6 };
                f.write_str(&format_time(*micros, fsp))
            }
        }
    }
}
