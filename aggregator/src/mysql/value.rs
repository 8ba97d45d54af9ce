//! A value as it crosses the seam between the wire and SQL, and its text.
//!
//! Dates are days, date-times microseconds, both since 1970-01-01 in the proleptic Gregorian calendar and without
//! a time zone: a TIMESTAMP is converted to the session's zone before it comes here. Texts follow MySQL's:
//! `2026-11-24`, `2026-11-24 10:00:00.25`, `-838:59:59`, `-0.05`, `1e20`.

use std::borrow::Cow;
use std::fmt::{self, Write};

use types::Decimal;
use types::value::{Civil, DAY, HOUR, MINUTE, SECOND, civil_from_days, days_from_civil, last_day_of_month};

use super::float;

/// One cell of a row, or one parameter of a prepared statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Null,
    Int(i64),
    UInt(u64),
    Decimal(Decimal),
    Float(f32),
    Double(f64),
    /// Also JSON, and a DECIMAL of more than 38 digits among parameters.
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since 1970-01-01 00:00:00; DATETIME and TIMESTAMP.
    DateTime(i64),
    /// Microseconds, signed: a TIME is a span, not a time of day.
    Time(i64),
}

impl Value<'_> {
    /// The same value, holding its own text.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Int(value) => Value::Int(value),
            Value::UInt(value) => Value::UInt(value),
            Value::Decimal(value) => Value::Decimal(value),
            Value::Float(value) => Value::Float(value),
            Value::Double(value) => Value::Double(value),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.into_owned())),
            Value::Date(days) => Value::Date(days),
            Value::DateTime(micros) => Value::DateTime(micros),
            Value::Time(micros) => Value::Time(micros),
        }
    }

    /// Writes the value's text. `fraction` is the count of digits after the seconds of a date-time or time
    /// (0 to 6); `None` writes as many as the value needs. Bytes are not text: they are written by the caller,
    /// NULL is nothing.
    pub fn write_text(&self, out: &mut impl Write, fraction: Option<u8>) -> fmt::Result {
        match self {
            Value::Null | Value::Bytes(_) => Ok(()),
            Value::Int(value) => write!(out, "{value}"),
            Value::UInt(value) => write!(out, "{value}"),
            Value::Decimal(value) => write!(out, "{value}"),
            Value::Float(value) => float::write_float(out, *value),
            Value::Double(value) => float::write_double(out, *value),
            Value::Text(text) => out.write_str(text),
            Value::Date(days) => write_date(out, *days),
            Value::DateTime(micros) => {
                write_date(out, micros.div_euclid(DAY) as i32)?;
                out.write_char(' ')?;
                write_clock(out, micros.rem_euclid(DAY), fraction)
            }
            Value::Time(micros) => {
                if *micros < 0 {
                    out.write_char('-')?;
                }
                write_clock(out, micros.saturating_abs(), fraction)
            }
        }
    }
}

/// `1970-01-01` for 0.
fn write_date(out: &mut impl Write, days: i32) -> fmt::Result {
    let Civil { year, month, day } = civil_from_days(days);
    write!(out, "{year:04}-{month:02}-{day:02}")
}

/// `hh:mm:ss[.ffffff]` of microseconds that are not negative; hours may have three digits.
fn write_clock(out: &mut impl Write, micros: i64, fraction: Option<u8>) -> fmt::Result {
    let rest = micros % SECOND;
    write!(out, "{:02}:{:02}:{:02}", micros / HOUR, micros % HOUR / MINUTE, micros % MINUTE / SECOND)?;
    match fraction {
        Some(0) => Ok(()),
        None if rest == 0 => Ok(()),
        Some(digits) if digits < 6 => {
            let digits = usize::from(digits);
            write!(out, ".{:0digits$}", rest / 10i64.pow(6 - digits as u32))
        }
        _ => write!(out, ".{rest:06}"),
    }
}

/// Days since 1970-01-01 of a day that a client names, or `None` when the calendar has no such day.
pub fn days_of(civil: Civil) -> Option<i32> {
    let Civil { year, month, day } = civil;
    let exists =
        (0..=9999).contains(&year) && (1..=12).contains(&month) && (1..=last_day_of_month(year, month)).contains(&day);
    exists.then(|| days_from_civil(year, month, day))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: Value<'_>, fraction: Option<u8>) -> String {
        let mut out = String::new();
        value.write_text(&mut out, fraction).unwrap();
        out
    }

    #[test]
    fn texts_are_those_of_mysql() {
        let decimal = |unscaled, scale| Value::Decimal(Decimal::new(unscaled, scale).unwrap());
        for (value, fraction, expected) in [
            (Value::Int(i64::MIN), None, "-9223372036854775808"),
            (Value::UInt(u64::MAX), None, "18446744073709551615"),
            (decimal(-5, 2), None, "-0.05"),
            (decimal(0, 3), None, "0.000"),
            (decimal(12_345, 2), None, "123.45"),
            (decimal(100, 2), None, "1.00"),
            (decimal(-7, 0), None, "-7"),
            (Value::Date(0), None, "1970-01-01"),
            (Value::Date(20_781), None, "2026-11-24"),
            (Value::Date(-719_162), None, "0001-01-01"),
            (Value::DateTime(-1), Some(6), "1969-12-31 23:59:59.999999"),
            (Value::DateTime(250_000), Some(2), "1970-01-01 00:00:00.25"),
            (Value::DateTime(0), None, "1970-01-01 00:00:00"),
            (Value::DateTime(0), Some(6), "1970-01-01 00:00:00.000000"),
            (Value::Time(-(838 * 3600 + 59 * 60 + 59) * SECOND), Some(0), "-838:59:59"),
            (Value::Time(1), None, "00:00:00.000001"),
        ] {
            assert_eq!(text(value, fraction), expected);
        }
    }

    #[test]
    fn days_that_do_not_exist_are_none() {
        for (year, month, day) in
            [(2026, 2, 29), (1900, 2, 29), (2026, 13, 1), (2026, 0, 1), (2026, 1, 0), (0, 0, 0), (10_000, 1, 1)]
        {
            assert_eq!(days_of(Civil { year, month, day }), None, "{year}-{month}-{day}");
        }
        assert_eq!(days_of(Civil { year: 2000, month: 2, day: 29 }), Some(11_016));
    }
}
