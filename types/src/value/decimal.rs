//! Decimal numbers: an unscaled `i128` and a count of digits after the point.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How many digits a decimal can have.
pub const MAX_DIGITS: u8 = 38;

/// `unscaled / 10^scale`. Invariant: `|unscaled| < 10^38`, `scale <= 38`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Decimal {
    unscaled: i128,
    scale: u8,
}

/// Why there is no such decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecimalError {
    /// More digits than can be kept.
    #[error("the number needs more than {MAX_DIGITS} digits")]
    TooLarge,
    /// No number.
    #[error("the text is no number")]
    NoNumber,
}

/// `10^exponent` for exponents up to 38.
fn power(exponent: u8) -> i128 {
    10i128.pow(u32::from(exponent))
}

impl Decimal {
    /// The decimal `unscaled / 10^scale`, unless it has too many digits.
    pub fn new(unscaled: i128, scale: u8) -> Result<Decimal, DecimalError> {
        if scale > MAX_DIGITS || unscaled.unsigned_abs() >= power(MAX_DIGITS).unsigned_abs() {
            return Err(DecimalError::TooLarge);
        }
        Ok(Decimal { unscaled, scale })
    }

    /// An integer.
    pub fn from_int(value: i128) -> Decimal {
        assert!(value.unsigned_abs() < power(MAX_DIGITS).unsigned_abs(), "integer {value} does not fit in a decimal");
        Decimal { unscaled: value, scale: 0 }
    }

    /// The digits without the point.
    pub fn unscaled(self) -> i128 {
        self.unscaled
    }

    /// How many digits stand after the point.
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// How many digits stand before the point.
    pub fn integer_digits(self) -> u8 {
        let whole = (self.unscaled / power(self.scale)).unsigned_abs();
        whole.checked_ilog10().map_or(0, |digits| digits as u8 + 1)
    }

    /// Rounds or extends to `scale` digits after the point; half goes away from zero, as in MySQL.
    pub fn rescale(self, scale: u8) -> Result<Decimal, DecimalError> {
        if scale > MAX_DIGITS {
            return Err(DecimalError::TooLarge);
        }
        if scale >= self.scale {
            let unscaled = self.unscaled.checked_mul(power(scale - self.scale)).ok_or(DecimalError::TooLarge)?;
            return Decimal::new(unscaled, scale);
        }
        let divisor = power(self.scale - scale);
        let (whole, rest) = (self.unscaled / divisor, self.unscaled % divisor);
        // |rest| < divisor <= 10^38, so comparing with the half of it cannot overflow.
        let up = rest.abs() >= divisor - rest.abs();
        Decimal::new(if up { whole + self.unscaled.signum() } else { whole }, scale)
    }

    /// Cuts to `scale` digits after the point.
    pub fn truncate(self, scale: u8) -> Decimal {
        if scale >= self.scale {
            return self;
        }
        Decimal { unscaled: self.unscaled / power(self.scale - scale), scale }
    }

    /// The nearest integer, half away from zero.
    pub fn to_int(self) -> i128 {
        self.rescale(0).expect("rounding to fewer digits cannot need more than 38").unscaled
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        // Through text: dividing two rounded doubles could miss the nearest one.
        self.to_string().parse().expect("a decimal's text is a number")
    }

    /// The shortest decimal that reads back as `value`.
    pub fn from_f64(value: f64) -> Result<Decimal, DecimalError> {
        if !value.is_finite() {
            return Err(DecimalError::NoNumber);
        }
        Decimal::parse(&format!("{value:e}"))
    }

    /// Reads `[+-]digits[.digits][e[+-]digits]`; digits after the 38th fractional place are rounded away.
    pub fn parse(text: &str) -> Result<Decimal, DecimalError> {
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match digits.find(['e', 'E']) {
            Some(at) => (&digits[..at], digits[at + 1..].parse::<i32>().map_err(|_| DecimalError::NoNumber)?),
            None => (digits, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
            return Err(DecimalError::NoNumber);
        }
        let exponent = exponent.clamp(-1_000, 1_000);
        let value = from_digits(whole, fraction, exponent)?;
        Ok(Decimal { unscaled: if negative { -value.unscaled } else { value.unscaled }, scale: value.scale })
    }
}

/// The digits `whole.fraction` shifted by `exponent` places, rounded to what can be kept.
fn from_digits(whole: &str, fraction: &str, exponent: i32) -> Result<Decimal, DecimalError> {
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|byte| byte - b'0').collect();
    let point = whole.len() as i64 + i64::from(exponent);
    let leading = digits.iter().take_while(|digit| **digit == 0).count();
    // Digits before the point, leading zeros aside, must all be kept; what fits of the rest may be.
    let whole_digits = (point - leading as i64).max(0);
    if leading == digits.len() {
        let scale = (digits.len() as i64 - point).clamp(0, i64::from(MAX_DIGITS));
        return Decimal::new(0, scale as u8);
    }
    if whole_digits > i64::from(MAX_DIGITS) {
        return Err(DecimalError::TooLarge);
    }
    let scale = (digits.len() as i64 - point).clamp(0, i64::from(MAX_DIGITS) - whole_digits);
    let kept = point + scale;
    let digit = |index: i64| usize::try_from(index).ok().and_then(|index| digits.get(index)).copied().unwrap_or(0);
    let mut unscaled = 0i128;
    for index in (leading as i64).min(kept)..kept {
        unscaled = unscaled * 10 + i128::from(digit(index));
    }
    if digit(kept) >= 5 {
        unscaled += 1;
    }
    Decimal::new(unscaled, scale as u8)
}

/// By value: 1.0 and 1.00 are equal.
impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        if self.scale == other.scale {
            return self.unscaled.cmp(&other.unscaled);
        }
        let split = |value: &Decimal| (value.unscaled / power(value.scale), value.unscaled % power(value.scale));
        let ((whole, fraction), (other_whole, other_fraction)) = (split(self), split(other));
        // Fractions are below one, so bringing both to 38 places cannot overflow.
        let extend = |fraction: i128, scale: u8| fraction * power(MAX_DIGITS - scale);
        whole.cmp(&other_whole).then_with(|| extend(fraction, self.scale).cmp(&extend(other_fraction, other.scale)))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Decimal) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let digits = self.unscaled.unsigned_abs();
        if self.scale == 0 {
            return write!(f, "{sign}{digits}");
        }
        let divisor = power(self.scale).unsigned_abs();
        write!(f, "{sign}{}.{:0width$}", digits / divisor, digits % divisor, width = usize::from(self.scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn text_is_read_and_written() {
        for text in ["0", "-1.50", "12345678901234567890123456789012345678", "0.00000000000000000000000000000000000001"]
        {
            assert_eq!(decimal(text).to_string(), text);
        }
        assert_eq!(decimal("1.5e3").to_string(), "1500");
        assert_eq!(decimal("15e-3").to_string(), "0.015");
        assert_eq!(decimal(".5").to_string(), "0.5");
        assert_eq!(decimal("0.000").to_string(), "0.000");
        assert_eq!(Decimal::parse("1e38"), Err(DecimalError::TooLarge));
        for text in ["", ".", "-", "1x", "1e", "--1"] {
            assert_eq!(Decimal::parse(text), Err(DecimalError::NoNumber), "{text}");
        }
    }

    #[test]
    fn half_is_rounded_away_from_zero() {
        for (text, scale, expected) in
            [("2.5", 0, "3"), ("-2.5", 0, "-3"), ("2.449", 1, "2.4"), ("0.05", 1, "0.1"), ("1", 2, "1.00")]
        {
            assert_eq!(decimal(text).rescale(scale).unwrap().to_string(), expected);
        }
        assert_eq!(decimal("9e37").rescale(1), Err(DecimalError::TooLarge));
    }

    #[test]
    fn values_of_different_scale_compare_by_value() {
        assert_eq!(decimal("1.0"), decimal("1.00"));
        assert!(decimal("-1.01") < decimal("-1"));
        assert!(
            decimal("99999999999999999999999999999999999999") > decimal("0.99999999999999999999999999999999999999")
        );
    }
}
