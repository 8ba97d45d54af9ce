//! Texts of FLOAT and DOUBLE as MySQL writes them: the fewest digits that name the value (six for a FLOAT), and
//! an exponent only where the plain form would be longer than the value deserves.
//!
//! The rule is that of `my_gcvt` in MySQL's `strings/dtoa.cc`. With n digits d1 d2 … dn and the point before
//! d1 × 10^p, the plain form is taken when it fits 22 characters, -14 <= p, and p <= 15 or n > p.

use std::fmt::{self, Write};

const WIDTH_MAX: i32 = 22;
const PLAIN_POINT_MIN: i32 = -14;
const PLAIN_POINT_MAX: i32 = 15;
const FLOAT_DIGITS: usize = 6;

/// Writes a DOUBLE.
pub fn write_double(out: &mut impl Write, value: f64) -> fmt::Result {
    write_scientific(out, &format!("{value:e}"))
}

/// Writes a FLOAT.
pub fn write_float(out: &mut impl Write, value: f32) -> fmt::Result {
    write_scientific(out, &format!("{:.*e}", FLOAT_DIGITS - 1, value))
}

/// Rewrites `[-]d.ddde[-]x`, as Rust prints it, in MySQL's form.
fn write_scientific(out: &mut impl Write, scientific: &str) -> fmt::Result {
    let (sign, magnitude) = match scientific.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", scientific),
    };
    let Some((mantissa, exponent)) = magnitude.split_once('e') else {
        // Infinity and NaN have no exponent. MySQL has neither; a reader at least sees what it was.
        return out.write_str(scientific);
    };
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return write!(out, "{sign}0");
    }
    let point = exponent.parse::<i32>().map_err(|_| fmt::Error)? + 1;
    out.write_str(sign)?;
    if is_plain(digits.len() as i32, point, sign.len() as i32) {
        write_plain(out, digits, point)
    } else {
        let (first, rest) = digits.split_at(1);
        let dot = if rest.is_empty() { "" } else { "." };
        write!(out, "{first}{dot}{rest}e{}", point - 1)
    }
}

fn is_plain(digits: i32, point: i32, sign: i32) -> bool {
    let length = if point <= 0 {
        digits - point + 2
    } else if point < digits {
        digits + 1
    } else {
        point
    };
    length <= WIDTH_MAX - sign && point >= PLAIN_POINT_MIN && (point <= PLAIN_POINT_MAX || digits > point)
}

fn write_plain(out: &mut impl Write, digits: &str, point: i32) -> fmt::Result {
    let before = point.unsigned_abs() as usize;
    if point <= 0 {
        write!(out, "0.{}{digits}", "0".repeat(before))
    } else if before >= digits.len() {
        write!(out, "{digits}{}", "0".repeat(before - digits.len()))
    } else {
        write!(out, "{}.{}", &digits[..before], &digits[before..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn double(value: f64) -> String {
        let mut out = String::new();
        write_double(&mut out, value).unwrap();
        out
    }

    fn float(value: f32) -> String {
        let mut out = String::new();
        write_float(&mut out, value).unwrap();
        out
    }

    #[test]
    fn doubles_are_written_as_by_mysql() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e14, "100000000000000"),
            (1e15, "1e15"),
            (1.5e300, "1.5e300"),
            (1e-5, "0.00001"),
            (1e-20, "1e-20"),
            (1.2345678901234568e-5, "1.2345678901234568e-5"),
            (1234567890123456.8, "1234567890123456.8"),
            (123456789012345680.0, "1.2345678901234568e17"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        ] {
            assert_eq!(double(value), text);
        }
    }

    #[test]
    fn floats_have_six_digits() {
        for (value, text) in
            [(0.1, "0.1"), (1.0 / 3.0, "0.333333"), (16_777_216.0, "16777200"), (1e20, "1e20"), (0.0, "0")]
        {
            assert_eq!(float(value), text);
        }
    }

    proptest! {
        #[test]
        fn a_double_is_the_same_when_read_again(value in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL) {
            prop_assert_eq!(double(value).parse::<f64>().unwrap(), value);
        }
    }
}
