//! Numbers in text: what MySQL reads at the start of a string, and how doubles are written.

/// The number at the start of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NumberPrefix<'a> {
    /// Its characters, empty if there is none.
    pub text: &'a str,
    /// Whether something but spaces follows it.
    pub garbage: bool,
}

/// The longest prefix of `text` that is a number (`[+-]digits[.digits][e[+-]digits]`), leading spaces aside.
pub fn number_prefix(text: &str) -> NumberPrefix<'_> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let bytes = text.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
    let whole = digits(sign);
    let mut end = sign + whole;
    let mut fraction = 0;
    if bytes.get(end) == Some(&b'.') {
        fraction = digits(end + 1);
        if whole + fraction > 0 {
            end += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return NumberPrefix { text: "", garbage: true };
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = digits(end + 1 + sign);
        if exponent > 0 {
            end += 1 + sign + exponent;
        }
    }
    NumberPrefix { text: &text[..end], garbage: !text[end..].trim_end().is_empty() }
}

/// The shortest text that reads back as the same double; an exponent below 1e-15 and from 1e15 on, as MySQL writes.
pub(super) fn format_double(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-15..1e15).contains(&size) { format!("{value:e}") } else { value.to_string() }
}

/// At most six significant digits, as MySQL writes FLOAT.
pub(super) fn format_float(value: f32) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let rounded: f64 = format!("{:.5e}", f64::from(value)).parse().expect("a formatted double is a double");
    let size = rounded.abs();
    if (1e-15..1e15).contains(&size) { rounded.to_string() } else { format!("{rounded:e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_at_the_start_is_found() {
        for (text, number, garbage) in [
            ("12", "12", false),
            ("  -1.5e3  ", "-1.5e3", false),
            ("12abc", "12", true),
            ("1e", "1", true),
            ("1.", "1.", false),
            (".5", ".5", false),
            ("abc", "", true),
            ("", "", true),
            ("-", "", true),
            (".", "", true),
        ] {
            assert_eq!(number_prefix(text), NumberPrefix { text: number, garbage }, "{text:?}");
        }
    }

    #[test]
    fn doubles_are_written_as_mysql_does() {
        for (value, text) in [(0.1, "0.1"), (1e15, "1e15"), (1e14, "100000000000000"), (1.5e-16, "1.5e-16"), (0.0, "0")]
        {
            assert_eq!(format_double(value), text);
        }
        assert_eq!(format_float(0.1), "0.1");
        assert_eq!(format_float(1.2345678), "1.23457");
    }
}
