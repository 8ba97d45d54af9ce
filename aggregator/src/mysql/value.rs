//! A value as it crosses the seam between the wire and SQL, and its text.
//!
//! Dates are days, date-times microseconds, both since 1970-01-01 in the proleptic Gregorian calendar and without
//! a time zone: a TIMESTAMP is converted to the session's zone before it comes here. Texts follow MySQL's:
//! `2026-11-24`, `2026-11-24 10:00:00.25`, `-838:59:59`, `-0.05`, `1e20`.

use std::borrow::Cow;
use std::fmt::{self, Write};

use super::float;

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of a day.
pub const DAY: i64 = 86_400 * SECOND;

/// One cell of a row, or one parameter of a prepared statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    Null,
    Int(i64),
    UInt(u64),
    /// `unscaled` / 10^`scale`.
    Decimal {
        unscaled: i128,
        scale: u8,
    },
    Float(f32),
    Double(f64),
    /// Also a DECIMAL of more than 38 digits and JSON.
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
            Value::Decimal { unscaled, scale } => Value::Decimal { unscaled, scale },
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
            Value::Decimal { unscaled, scale } => write_decimal(out, *unscaled, *scale),
            Value::Float(value) => float::write_float(out, *value),
            Value::Double(value) => float::write_double(out, *value),
            Value::Text(text) => out.write_str(text),
            Value::Date(days) => write_date(out, i64::from(*days)),
            Value::DateTime(micros) => {
                write_date(out, micros.div_euclid(DAY))?;
                out.write_char(' ')?;
                write_clock(out, micros.rem_euclid(DAY) as u64, fraction)
            }
            Value::Time(micros) => {
                if *micros < 0 {
                    out.write_char('-')?;
                }
                write_clock(out, micros.unsigned_abs(), fraction)
            }
        }
    }
}

/// `1970-01-01` for 0.
fn write_date(out: &mut impl Write, days: i64) -> fmt::Result {
    let Civil { year, month, day } = Civil::from_days(days);
    write!(out, "{year:04}-{month:02}-{day:02}")
}

/// `hh:mm:ss[.ffffff]`; hours may have three digits.
fn write_clock(out: &mut impl Write, micros: u64, fraction: Option<u8>) -> fmt::Result {
    let (seconds, rest) = (micros / SECOND as u64, micros % SECOND as u64);
    write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    match fraction {
        Some(0) => Ok(()),
        None if rest == 0 => Ok(()),
        Some(digits) if digits < 6 => {
            let digits = usize::from(digits);
            write!(out, ".{:0digits$}", rest / 10u64.pow(6 - digits as u32))
        }
        _ => write!(out, ".{rest:06}"),
    }
}

/// `-0.05` for -5 and scale 2.
fn write_decimal(out: &mut impl Write, unscaled: i128, scale: u8) -> fmt::Result {
    let digits = unscaled.unsigned_abs().to_string();
    if unscaled < 0 {
        out.write_char('-')?;
    }
    let scale = usize::from(scale);
    if scale == 0 {
        return out.write_str(&digits);
    }
    if digits.len() <= scale {
        write!(out, "0.{digits:0>scale$}")
    } else {
        let (whole, part) = digits.split_at(digits.len() - scale);
        write!(out, "{whole}.{part}")
    }
}

/// The decimal that a text such as `-12.50` names, when it has at most 38 digits and no exponent.
pub fn parse_decimal(text: &str) -> Option<Value<'static>> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    let mut unscaled: i128 = 0;
    for byte in whole.bytes().chain(part.bytes()) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        unscaled = unscaled.checked_mul(10)?.checked_add(digit)?;
    }
    let scale = u8::try_from(part.len()).ok()?;
    Some(Value::Decimal { unscaled: if negative { -unscaled } else { unscaled }, scale })
}

/// A day of the calendar. Years are 0 to 9999 in MySQL; the conversion knows no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Civil {
    /// The day that lies `days` after 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms",
    /// civil_from_days: years begin in March, so that the leap day is the last of its year).
    pub fn from_days(days: i64) -> Civil {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u8;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 } as u8;
        Civil { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }

    /// Days since 1970-01-01, or `None` when there is no such day.
    pub fn to_days(self) -> Option<i64> {
        let (month, day) = (i64::from(self.month), i64::from(self.day));
        if !(1..=12).contains(&month) || day < 1 {
            return None;
        }
        let year = if month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        (Civil::from_days(days) == self).then_some(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: Value<'_>, fraction: Option<u8>) -> String {
        let mut out = String::new();
        value.write_text(&mut out, fraction).unwrap();
        out
    }

    #[test]
    fn texts_are_those_of_mysql() {
        let decimal = |unscaled, scale| Value::Decimal { unscaled, scale };
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
        for (year, month, day) in [(2026, 2, 29), (1900, 2, 29), (2026, 13, 1), (2026, 0, 1), (2026, 1, 0), (0, 0, 0)] {
            assert_eq!(Civil { year, month, day }.to_days(), None, "{year}-{month}-{day}");
        }
        assert!(Civil { year: 2000, month: 2, day: 29 }.to_days().is_some());
    }

    proptest! {
        #[test]
        fn days_round_trip(days in -800_000i64..3_000_000) {
            prop_assert_eq!(Civil::from_days(days).to_days(), Some(days));
            let (today, next) = (Civil::from_days(days), Civil::from_days(days + 1));
            prop_assert!((today.year, today.month, today.day) < (next.year, next.month, next.day));
        }

        #[test]
        fn decimals_round_trip(unscaled in -(10i128.pow(38) - 1)..10i128.pow(38), scale in 0u8..31) {
            let value = Value::Decimal { unscaled, scale };
            prop_assert_eq!(parse_decimal(&text(value.clone(), None)), Some(value));
        }
    }

    #[test]
    fn what_is_no_decimal_is_none() {
        for text in ["", "-", ".", "1e5", "abc", "1.2.3", "1234567890123456789012345678901234567890"] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }
}
