//! Operators: comparison, arithmetic and logic between values of any kind, as MySQL converts them.

use std::cmp::Ordering;

use types::value::{DAY, HOUR, MINUTE, SECOND, civil_from_days, number_prefix, parse_datetime, parse_time};
use types::{Datum, Decimal};

use super::ty::rule;
use super::{Definition, Env, MANY, Ty, def};
use crate::error::{Error, Result};

pub(super) const TABLE: &[Definition] = &[
    def("eq", 2, 2, rule::boolean, |args, env| test(args, env, Ordering::is_eq)),
    def("ne", 2, 2, rule::boolean, |args, env| test(args, env, Ordering::is_ne)),
    def("lt", 2, 2, rule::boolean, |args, env| test(args, env, Ordering::is_lt)),
    def("le", 2, 2, rule::boolean, |args, env| test(args, env, Ordering::is_le)),
    def("gt", 2, 2, rule::boolean, |args, env| test(args, env, Ordering::is_gt)),
    def("ge", 2, 2, rule::boolean, |args, env| test(args, env, Ordering::is_ge)),
    def("null_safe_eq", 2, 2, rule::boolean, |args, env| {
        let same = match compare(&args[0], &args[1], env)? {
            Some(order) => order.is_eq(),
            None => args[0].is_null() && args[1].is_null(),
        };
        Ok(boolean(Some(same)))
    }),
    def("not", 1, 1, rule::boolean, |args, env| Ok(boolean(truth(&args[0], env).map(|value| !value)))),
    def("xor", 2, 2, rule::boolean, |args, env| {
        let both = truth(&args[0], env).zip(truth(&args[1], env));
        Ok(boolean(both.map(|(a, b)| a != b)))
    }),
    def("truth", 1, 1, rule::boolean, |args, env| Ok(boolean(truth(&args[0], env)))),
    def("choose", 1, MANY, chosen_type, |args, env| {
        let mut rest = args;
        while let [condition, value, others @ ..] = rest {
            if truth(condition, env) == Some(true) {
                return Ok(value.clone());
            }
            rest = others;
        }
        Ok(rest[0].clone())
    }),
    def("bool_value", 1, 1, rule::int, |args, env| Ok(boolean(truth(&args[0], env)))),
    def("isnull", 1, 1, rule::boolean, |args, _| Ok(boolean(Some(args[0].is_null())))),
    def("add", 2, 2, sum_type, |args, env| arithmetic("+", &args[0], &args[1], env)),
    def("sub", 2, 2, sum_type, |args, env| arithmetic("-", &args[0], &args[1], env)),
    def("mul", 2, 2, product_type, |args, env| arithmetic("*", &args[0], &args[1], env)),
    def("div", 2, 2, quotient_type, divide),
    def("intdiv", 2, 2, whole_quotient_type, divide_whole),
    def("mod", 2, 2, remainder_type, remainder),
    def("neg", 1, 1, negative_type, |args, env| negate(&args[0], env)),
    def("bits_and", 2, 2, rule::uint, |args, env| bits(args, env, |a, b| a & b)),
    def("bits_or", 2, 2, rule::uint, |args, env| bits(args, env, |a, b| a | b)),
    def("bits_xor", 2, 2, rule::uint, |args, env| bits(args, env, |a, b| a ^ b)),
    def("shift_left", 2, 2, rule::uint, |args, env| bits(args, env, |a, b| shift(a, b, u64::checked_shl))),
    def("shift_right", 2, 2, rule::uint, |args, env| bits(args, env, |a, b| shift(a, b, u64::checked_shr))),
    def("bit_not", 1, 1, rule::uint, |args, env| bits(&[args[0].clone(), Datum::Int(0)], env, |a, _| !a)),
    def("summand", 1, 1, summand_type, |args, env| {
        Ok(match numeric(&args[0], env) {
            Datum::Int(value) => Datum::Decimal(Decimal::from_int(value.into())),
            Datum::UInt(value) => Datum::Decimal(Decimal::from_int(value.into())),
            other => other,
        })
    }),
    def("to_number", 1, 1, rule::numeric, |args, env| Ok(numeric(&args[0], env))),
];

/// A condition's value.
pub fn boolean(value: Option<bool>) -> Datum {
    value.map_or(Datum::Null, |value| Datum::Int(value.into()))
}

fn test(args: &[Datum], env: &Env, holds: fn(Ordering) -> bool) -> Result<Datum> {
    Ok(boolean(compare(&args[0], &args[1], env)?.map(holds)))
}

/// The order of two values, `None` if one is NULL. Numbers compare with text as doubles, dates with text as dates.
pub fn compare(a: &Datum, b: &Datum, env: &Env) -> Result<Option<Ordering>> {
    let (left, right) = (Ty::of_datum(a), Ty::of_datum(b));
    let order = match (left, right) {
        (Ty::Null, _) | (_, Ty::Null) => None,
        (l, r) if l.is_string() && r.is_string() => Some(raw(a).cmp(raw(b))),
        (Ty::Time, Ty::Date | Ty::DateTime) | (Ty::Date | Ty::DateTime, Ty::Time) => {
            return Err(Error::unsupported("comparison of TIME with DATE or DATETIME"));
        }
        (Ty::Time, r) if r.is_string() => text_time(b, env).map(|b| micros(a).cmp(&b)),
        (l, Ty::Time) if l.is_string() => text_time(a, env).map(|a| a.cmp(&micros(b))),
        (l, r) if l.is_time() && r.is_time() => Some(micros(a).cmp(&micros(b))),
        (l, r) if l.is_time() && r.is_string() => text_datetime(b, env).map(|b| micros(a).cmp(&b)),
        (l, r) if l.is_string() && r.is_time() => text_datetime(a, env).map(|a| a.cmp(&micros(b))),
        _ => compare_numbers(&numeric(a, env), &numeric(b, env)),
    };
    Ok(order)
}

fn raw(value: &Datum) -> &[u8] {
    match value {
        Datum::Text(text) | Datum::Json(text) => text.as_bytes(),
        Datum::Bytes(bytes) => bytes,
        other => panic!("{other:?} is no string"),
    }
}

/// A date or time as microseconds.
fn micros(value: &Datum) -> i64 {
    match value {
        Datum::Date(days) => i64::from(*days) * DAY,
        Datum::DateTime(micros) | Datum::Timestamp(micros) | Datum::Time(micros) => *micros,
        other => panic!("{other:?} is no date or time"),
    }
}

fn text_datetime(value: &Datum, env: &Env) -> Option<i64> {
    let text = String::from_utf8_lossy(raw(value));
    let parsed = parse_datetime(&text).map(|(micros, _)| micros);
    if parsed.is_none() {
        env.warn(1292, format!("Incorrect datetime value: '{text}'"));
    }
    parsed
}

fn text_time(value: &Datum, env: &Env) -> Option<i64> {
    let text = String::from_utf8_lossy(raw(value));
    let parsed = parse_time(&text);
    if parsed.is_none() {
        env.warn(1292, format!("Incorrect time value: '{text}'"));
    }
    parsed
}

fn compare_numbers(a: &Datum, b: &Datum) -> Option<Ordering> {
    match (a, b) {
        (Datum::Double(a), b) => a.partial_cmp(&double(b)),
        (a, Datum::Double(b)) => double(a).partial_cmp(b),
        (Datum::Decimal(a), b) => Some(a.cmp(&decimal(b))),
        (a, Datum::Decimal(b)) => Some(decimal(a).cmp(b)),
        (a, b) => Some(whole(a).cmp(&whole(b))),
    }
}

/// The number a value stands for in arithmetic: an integer, a decimal, a double, or NULL.
pub fn numeric(value: &Datum, env: &Env) -> Datum {
    match value {
        Datum::Float(value) => Datum::Double(f64::from(*value)),
        Datum::Text(text) | Datum::Json(text) => Datum::Double(text_double(text, env)),
        Datum::Bytes(bytes) => Datum::Double(text_double(&String::from_utf8_lossy(bytes), env)),
        Datum::Date(days) => Datum::Int(date_digits(*days)),
        Datum::DateTime(micros) | Datum::Timestamp(micros) => {
            let whole = date_digits(micros.div_euclid(DAY) as i32) * 1_000_000 + clock_digits(micros.rem_euclid(DAY));
            with_fraction(whole, micros.rem_euclid(SECOND))
        }
        Datum::Time(micros) => {
            let sign = micros.signum();
            with_fraction(sign * clock_digits(micros.abs()), sign * (micros.abs() % SECOND))
        }
        other => other.clone(),
    }
}

fn date_digits(days: i32) -> i64 {
    let date = civil_from_days(days);
    i64::from(date.year) * 10_000 + i64::from(date.month) * 100 + i64::from(date.day)
}

fn clock_digits(micros: i64) -> i64 {
    micros / HOUR * 10_000 + micros % HOUR / MINUTE * 100 + micros % MINUTE / SECOND
}

fn with_fraction(whole: i64, micros: i64) -> Datum {
    if micros == 0 {
        return Datum::Int(whole);
    }
    let unscaled = i128::from(whole) * 1_000_000 + i128::from(micros);
    Datum::Decimal(Decimal::new(unscaled, 6).expect("a datetime has fewer than 38 digits"))
}

/// The double at the start of a text, with MySQL's warning if something follows it.
pub fn text_double(text: &str, env: &Env) -> f64 {
    let prefix = number_prefix(text);
    if prefix.garbage {
        let shown: String = text.chars().take(128).collect();
        env.warn(1292, format!("Truncated incorrect DOUBLE value: '{shown}'"));
    }
    prefix.text.parse().unwrap_or(0.0)
}

/// A TIME, or a text that is one and no date.
pub(super) fn of_clock(value: &Datum) -> Option<i64> {
    match value {
        Datum::Time(micros) => Some(*micros),
        Datum::Text(text) if !text.contains('-') || text.starts_with('-') => parse_time(text),
        _ => None,
    }
}

/// A number as a double; NULL and non-numbers are zero.
pub(super) fn double(value: &Datum) -> f64 {
    match value {
        Datum::Int(value) => *value as f64,
        Datum::UInt(value) => *value as f64,
        Datum::Decimal(value) => value.to_f64(),
        Datum::Double(value) => *value,
        Datum::Float(value) => f64::from(*value),
        _ => 0.0,
    }
}

/// An exact number as a decimal.
fn decimal(value: &Datum) -> Decimal {
    match value {
        Datum::Decimal(value) => *value,
        other => Decimal::from_int(whole(other)),
    }
}

fn whole(value: &Datum) -> i128 {
    match value {
        Datum::Int(value) => i128::from(*value),
        Datum::UInt(value) => i128::from(*value),
        Datum::Decimal(value) => value.to_int(),
        _ => 0,
    }
}

/// Whether a value counts as true; `None` for NULL.
pub fn truth(value: &Datum, env: &Env) -> Option<bool> {
    match numeric(value, env) {
        Datum::Null => None,
        Datum::Double(value) => Some(value != 0.0),
        Datum::Decimal(value) => Some(value.unscaled() != 0),
        other => Some(whole(&other) != 0),
    }
}

fn out_of_range(ty: &str, a: &Datum, operator: &str, b: &Datum) -> Error {
    Error::new(1690, format!("{ty} value is out of range in '({a} {operator} {b})'"))
}

fn arithmetic(operator: &'static str, a: &Datum, b: &Datum, env: &Env) -> Result<Datum> {
    let (left, right) = (numeric(a, env), numeric(b, env));
    let fail = |ty| out_of_range(ty, a, operator, b);
    match (&left, &right) {
        (Datum::Null, _) | (_, Datum::Null) => Ok(Datum::Null),
        (Datum::Double(_), _) | (_, Datum::Double(_)) => {
            let (x, y) = (double(&left), double(&right));
            let value = match operator {
                "+" => x + y,
                "-" => x - y,
                _ => x * y,
            };
            if value.is_finite() { Ok(Datum::Double(value)) } else { Err(fail("DOUBLE")) }
        }
        (Datum::Decimal(_), _) | (_, Datum::Decimal(_)) => {
            decimal_arithmetic(operator, decimal(&left), decimal(&right))
                .map(Datum::Decimal)
                .ok_or_else(|| fail("DECIMAL"))
        }
        _ => {
            let (x, y) = (whole(&left), whole(&right));
            let value = match operator {
                "+" => x + y,
                "-" => x - y,
                _ => x.checked_mul(y).ok_or_else(|| fail("BIGINT"))?,
            };
            if matches!(left, Datum::UInt(_)) || matches!(right, Datum::UInt(_)) {
                return u64::try_from(value).map(Datum::UInt).map_err(|_| fail("BIGINT UNSIGNED"));
            }
            i64::try_from(value).map(Datum::Int).map_err(|_| fail("BIGINT"))
        }
    }
}

/// Most digits after the point that arithmetic keeps, as in MySQL.
const MAX_SCALE: u8 = 30;

fn decimal_arithmetic(operator: &str, a: Decimal, b: Decimal) -> Option<Decimal> {
    if operator == "*" {
        let scale = a.scale() + b.scale();
        let value = Decimal::new(a.unscaled().checked_mul(b.unscaled())?, scale).ok();
        return value?.rescale(scale.min(MAX_SCALE)).ok();
    }
    let scale = a.scale().max(b.scale());
    let (a, b) = (a.rescale(scale).ok()?.unscaled(), b.rescale(scale).ok()?.unscaled());
    let unscaled = if operator == "+" { a.checked_add(b)? } else { a.checked_sub(b)? };
    Decimal::new(unscaled, scale).ok()
}

/// How many digits after the point a quotient is computed to. MySQL works in words of nine digits, shows four more
/// than the dividend has, and computes with all of them: `(1 / 3) * 3` is 1.0000.
pub fn quotient_scale(dividend: u8, divisor: u8) -> u8 {
    let words = |digits: i32| (digits + 8) / 9 * 9;
    let (a, b) = (i32::from(dividend), i32::from(divisor));
    let increment = (4 - (words(a) - a) - (words(b) - b)).max(0);
    (words(words(a) + words(b) + increment)).min(i32::from(MAX_SCALE)) as u8
}

fn divide(args: &[Datum], env: &Env) -> Result<Datum> {
    let (a, b) = (numeric(&args[0], env), numeric(&args[1], env));
    if a.is_null() || b.is_null() {
        return Ok(Datum::Null);
    }
    if is_zero(&b) {
        env.warn(1365, "Division by 0");
        return Ok(Datum::Null);
    }
    if matches!(a, Datum::Double(_)) || matches!(b, Datum::Double(_)) {
        let value = double(&a) / double(&b);
        return match value.is_finite() {
            true => Ok(Datum::Double(value)),
            false => Err(out_of_range("DOUBLE", &a, "/", &b)),
        };
    }
    let (dividend, divisor) = (decimal(&a), decimal(&b));
    let full = quotient_scale(dividend.scale(), divisor.scale());
    // What does not fit in 38 digits is computed to fewer, but never fewer than are shown.
    (dividend.scale().saturating_add(4).min(full)..=full)
        .rev()
        .find_map(|scale| quotient(dividend, divisor, scale))
        .map(Datum::Decimal)
        .ok_or_else(|| out_of_range("DECIMAL", &a, "/", &b))
}

/// The quotient cut to `scale` digits; `None` if it does not fit.
fn quotient(a: Decimal, b: Decimal, scale: u8) -> Option<Decimal> {
    let shift = i32::from(scale) + i32::from(b.scale()) - i32::from(a.scale());
    let power = |exponent: i32| 10i128.checked_pow(u32::try_from(exponent).ok()?);
    let unscaled = if shift < 0 {
        a.unscaled() / b.unscaled().checked_mul(power(-shift)?)?
    } else {
        // Long division in two steps keeps the intermediate product small: whole part, then the rest.
        let factor = power(shift)?;
        let (whole, rest) = (a.unscaled() / b.unscaled(), a.unscaled() % b.unscaled());
        whole.checked_mul(factor)?.checked_add(scaled_fraction(rest, b.unscaled(), shift)?)?
    };
    Decimal::new(unscaled, scale).ok()
}

/// `rest * 10^digits / divisor` for `|rest| < |divisor|`, digit by digit.
fn scaled_fraction(rest: i128, divisor: i128, digits: i32) -> Option<i128> {
    let (mut rest, mut value) = (rest, 0i128);
    for _ in 0..digits {
        let next = rest.checked_mul(10)?;
        value = value.checked_mul(10)?.checked_add(next / divisor)?;
        rest = next % divisor;
    }
    Some(value)
}

fn is_zero(value: &Datum) -> bool {
    match value {
        Datum::Double(value) => *value == 0.0,
        Datum::Decimal(value) => value.unscaled() == 0,
        other => whole(other) == 0,
    }
}

fn divide_whole(args: &[Datum], env: &Env) -> Result<Datum> {
    let (a, b) = (numeric(&args[0], env), numeric(&args[1], env));
    if a.is_null() || b.is_null() {
        return Ok(Datum::Null);
    }
    if is_zero(&b) {
        env.warn(1365, "Division by 0");
        return Ok(Datum::Null);
    }
    let fail = |ty| out_of_range(ty, &a, "DIV", &b);
    let value = match (&a, &b) {
        (Datum::Double(_), _) | (_, Datum::Double(_)) => (double(&a) / double(&b)).trunc() as i128,
        (Datum::Decimal(_), _) | (_, Datum::Decimal(_)) => {
            let quotient = quotient(decimal(&a), decimal(&b), 0).ok_or_else(|| fail("BIGINT"))?;
            quotient.unscaled()
        }
        _ => whole(&a) / whole(&b),
    };
    if matches!(a, Datum::UInt(_)) || matches!(b, Datum::UInt(_)) {
        return u64::try_from(value).map(Datum::UInt).map_err(|_| fail("BIGINT UNSIGNED"));
    }
    i64::try_from(value).map(Datum::Int).map_err(|_| fail("BIGINT"))
}

fn remainder(args: &[Datum], env: &Env) -> Result<Datum> {
    let (a, b) = (numeric(&args[0], env), numeric(&args[1], env));
    if a.is_null() || b.is_null() {
        return Ok(Datum::Null);
    }
    if is_zero(&b) {
        env.warn(1365, "Division by 0");
        return Ok(Datum::Null);
    }
    Ok(match (&a, &b) {
        (Datum::Double(_), _) | (_, Datum::Double(_)) => Datum::Double(double(&a) % double(&b)),
        (Datum::Decimal(_), _) | (_, Datum::Decimal(_)) => {
            let (x, y) = (decimal(&a), decimal(&b));
            let scale = x.scale().max(y.scale());
            let fail = |_| out_of_range("DECIMAL", &a, "%", &b);
            let (x, y) = (x.rescale(scale).map_err(fail)?, y.rescale(scale).map_err(fail)?);
            Datum::Decimal(Decimal::new(x.unscaled() % y.unscaled(), scale).map_err(fail)?)
        }
        (Datum::UInt(_), _) => Datum::UInt((whole(&a) % whole(&b)) as u64),
        _ => Datum::Int((whole(&a) % whole(&b)) as i64),
    })
}

pub(super) fn negate(value: &Datum, env: &Env) -> Result<Datum> {
    Ok(match numeric(value, env) {
        Datum::Null => Datum::Null,
        Datum::Double(value) => Datum::Double(-value),
        Datum::Decimal(value) => {
            Datum::Decimal(Decimal::new(-value.unscaled(), value.scale()).expect("it mirrors one"))
        }
        other => match i64::try_from(-whole(&other)) {
            Ok(value) => Datum::Int(value),
            Err(_) => return Err(Error::new(1690, format!("BIGINT value is out of range in '-({value})'"))),
        },
    })
}

fn bits(args: &[Datum], env: &Env, combine: impl Fn(u64, u64) -> u64) -> Result<Datum> {
    let number = |value: &Datum| match numeric(value, env) {
        Datum::Null => None,
        Datum::UInt(value) => Some(value),
        Datum::Double(value) => Some(value.round_ties_even() as i64 as u64),
        other => Some(whole(&other) as u64),
    };
    Ok(match number(&args[0]).zip(number(&args[1])) {
        Some((a, b)) => Datum::UInt(combine(a, b)),
        None => Datum::Null,
    })
}

fn shift(value: u64, by: u64, shift: fn(u64, u32) -> Option<u64>) -> u64 {
    u32::try_from(by).ok().and_then(|by| shift(value, by)).unwrap_or(0)
}

fn either_unsigned(types: &[Ty]) -> bool {
    types.contains(&Ty::UInt)
}

fn sum_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    let (a, b) = (types[0].numeric(), types[1].numeric());
    match (a, b) {
        (Ty::Double, _) | (_, Ty::Double) => Ty::Double,
        (Ty::Decimal(..), _) | (_, Ty::Decimal(..)) => {
            let scale = a.scale().max(b.scale());
            Ty::Decimal((a.whole_digits().max(b.whole_digits()) + 1 + scale).min(38), scale)
        }
        _ if either_unsigned(&[a, b]) => Ty::UInt,
        _ => Ty::Int,
    }
}

fn product_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    let (a, b) = (types[0].numeric(), types[1].numeric());
    match (a, b) {
        (Ty::Double, _) | (_, Ty::Double) => Ty::Double,
        (Ty::Decimal(..), _) | (_, Ty::Decimal(..)) => {
            let scale = (a.scale() + b.scale()).min(MAX_SCALE);
            Ty::Decimal((a.whole_digits() + b.whole_digits() + scale).min(38), scale)
        }
        _ if either_unsigned(&[a, b]) => Ty::UInt,
        _ => Ty::Int,
    }
}

fn quotient_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    let (a, b) = (types[0].numeric(), types[1].numeric());
    if a.is_exact() && b.is_exact() { Ty::Decimal(38, quotient_scale(a.scale(), b.scale())) } else { Ty::Double }
}

fn whole_quotient_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    if either_unsigned(&[types[0].numeric(), types[1].numeric()]) { Ty::UInt } else { Ty::Int }
}

fn remainder_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    match (types[0].numeric(), types[1].numeric()) {
        (Ty::Double, _) | (_, Ty::Double) => Ty::Double,
        (a @ Ty::Decimal(..), b) | (a, b @ Ty::Decimal(..)) => {
            let scale = a.scale().max(b.scale());
            Ty::Decimal((a.whole_digits().max(b.whole_digits()) + scale).min(38), scale)
        }
        (a, _) => a,
    }
}

fn negative_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    match types[0].numeric() {
        Ty::UInt => Ty::Int,
        other => other,
    }
}

/// Sums are exact for exact numbers and cannot overflow a BIGINT unseen.
fn summand_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    match types[0].numeric() {
        Ty::Int | Ty::UInt => Ty::Decimal(20, 0),
        other => other,
    }
}

/// The type that all values of CASE can be given: they are the second, fourth … and the last argument.
fn chosen_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    let last = types.len() - 1;
    let values = types.iter().enumerate().filter(|(at, _)| at % 2 == 1 || *at == last).map(|(_, ty)| *ty);
    match values.reduce(Ty::union).unwrap_or(Ty::Null) {
        Ty::Bool => Ty::Int,
        ty => ty,
    }
}
