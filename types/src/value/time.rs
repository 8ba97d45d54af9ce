//! Dates and times: the calendar, and MySQL's literals for them.
//!
//! Days are counted from 1970-01-01 in the proleptic Gregorian calendar (the algorithms are Howard Hinnant's
//! `days_from_civil` and `civil_from_days`). Years 0 to 9999. A date with a month or day of zero is no date: MySQL's
//! strict mode refuses it as well.

/// Microseconds of a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds of a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Microseconds of an hour.
pub const HOUR: i64 = 60 * MINUTE;
/// Microseconds of a day.
pub const DAY: i64 = 24 * HOUR;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// 0 to 9999.
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

/// Days from 1970-01-01 to a day.
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The day that is `days` after 1970-01-01.
pub fn civil_from_days(days: i32) -> Civil {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    Civil { year: year_of_era + era * 400 + i32::from(month <= 2), month, day }
}

/// The number of days of a month.
pub fn last_day_of_month(year: i32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// `YYYY-MM-DD`.
pub fn format_date(days: i32) -> String {
    let Civil { year, month, day } = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYY-MM-DD hh:mm:ss` and `fsp` digits of a second.
pub fn format_datetime(micros: i64, fsp: u8) -> String {
    let days = micros.div_euclid(DAY) as i32;
    format!("{} {}", format_date(days), format_time(micros.rem_euclid(DAY), fsp))
}

/// `[-]hh:mm:ss` and `fsp` digits of a second.
pub fn format_time(micros: i64, fsp: u8) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.abs();
    let (hours, minutes, seconds) = (micros / HOUR, micros % HOUR / MINUTE, micros % MINUTE / SECOND);
    let mut text = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}");
    if fsp > 0 {
        let fraction = format!("{:06}", micros % SECOND);
        text.push('.');
        text.push_str(&fraction[..usize::from(fsp.min(6))]);
    }
    text
}

/// Rounds microseconds to `fsp` digits of a second, half away from zero.
pub fn round_to_fsp(micros: i64, fsp: u8) -> i64 {
    let unit = 10i64.pow(6 - u32::from(fsp.min(6)));
    (micros.abs() + unit / 2) / unit * unit * micros.signum()
}

/// A run of digits and the character after it.
struct Field {
    value: i64,
    digits: usize,
    separator: Option<char>,
}

fn fields(text: &str) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > 14 {
            return None;
        }
        let value = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let separator = rest.chars().next();
        if let Some(separator) = separator {
            rest = &rest[separator.len_utf8()..];
            if separator == ' ' {
                rest = rest.trim_start();
            }
            if rest.is_empty() {
                return None;
            }
        }
        fields.push(Field { value, digits, separator });
        if fields.len() > 7 {
            return None;
        }
    }
    Some(fields)
}

/// Digits after a point as microseconds, rounded half up; `None` if they are no digits.
fn fraction(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        micros = micros * 10 + i64::from(digits.as_bytes().get(place).map_or(0, |byte| byte - b'0'));
    }
    Some(micros + i64::from(digits.as_bytes().get(6).is_some_and(|byte| *byte >= b'5')))
}

fn full_year(value: i64, digits: usize) -> i64 {
    match (digits, value) {
        (1 | 2, 0..=69) => value + 2000,
        (1 | 2, _) => value + 1900,
        _ => value,
    }
}

fn assemble(parts: [i64; 6], micros: i64) -> Option<i64> {
    let [year, month, day, hour, minute, second] = parts;
    let valid = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=i64::from(last_day_of_month(year as i32, month as u32))).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    let days = valid.then(|| i64::from(days_from_civil(year as i32, month as u32, day as u32)))?;
    Some(days * DAY + hour * HOUR + minute * MINUTE + second * SECOND + micros)
}

/// Reads a date with or without a time: `YYYY-MM-DD`, `YYYY-MM-DD[ T]hh:mm[:ss[.frac]]` with any punctuation between
/// the parts, two-digit years, and the forms without separators (6, 8, 12, 14 digits). Microseconds since 1970, and
/// the offset from UTC in seconds where one is written (`+hh:mm`, `Z`).
pub fn parse_datetime(text: &str) -> Option<(i64, Option<i32>)> {
    let text = text.trim();
    let (text, offset) = split_offset(text)?;
    if !text.is_ascii() {
        return None;
    }
    let compact = text.bytes().take_while(u8::is_ascii_digit).count();
    if matches!(compact, 6 | 8 | 12 | 14) {
        return Some((parse_compact(&text[..compact], &text[compact..])?, offset));
    }
    let (body, micros) = split_fraction(text)?;
    let fields = fields(body)?;
    if fields.len() < 3 || fields.len() > 6 {
        return None;
    }
    if fields.iter().enumerate().any(|(index, field)| !separator_fits(index, field)) {
        return None;
    }
    let mut parts = [0; 6];
    for (part, field) in parts.iter_mut().zip(&fields) {
        *part = field.value;
    }
    parts[0] = full_year(parts[0], fields[0].digits);
    Some((assemble(parts, micros)?, offset))
}

/// After the day comes a space or `T`, between the others any punctuation.
fn separator_fits(index: usize, field: &Field) -> bool {
    let widths = if index == 0 { 1..=4 } else { 1..=2 };
    let separator = match field.separator {
        None => true,
        Some(separator) if index == 2 => matches!(separator, ' ' | 'T'),
        Some(separator) => separator.is_ascii_punctuation(),
    };
    widths.contains(&field.digits) && separator
}

/// Cuts the fraction of a second off: the point after the sixth part.
fn split_fraction(text: &str) -> Option<(&str, i64)> {
    let Some(point) = text.rfind('.') else { return Some((text, 0)) };
    let parts = text[..point].split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).count();
    if parts < 6 { Some((text, 0)) } else { Some((&text[..point], fraction(&text[point + 1..])?)) }
}

fn split_offset(text: &str) -> Option<(&str, Option<i32>)> {
    if let Some(body) = text.strip_suffix('Z') {
        return Some((body, Some(0)));
    }
    let Some(at) = text.len().checked_sub(6).filter(|at| text.is_char_boundary(*at)) else { return Some((text, None)) };
    let tail = &text.as_bytes()[at..];
    // `2024-01-01 10:00:00-05:00`: a sign, two digits, a colon, two digits, and a time before it.
    if !matches!(tail[0], b'+' | b'-') || tail[3] != b':' || !text[..at].contains(':') {
        return Some((text, None));
    }
    let (hours, minutes): (i32, i32) = (text[at + 1..at + 3].parse().ok()?, text[at + 4..].parse().ok()?);
    if hours > 14 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some((&text[..at], Some(if tail[0] == b'-' { -seconds } else { seconds })))
}

fn parse_compact(digits: &str, rest: &str) -> Option<i64> {
    let year_digits = if matches!(digits.len(), 8 | 14) { 4 } else { 2 };
    let (year, tail) = digits.split_at(year_digits);
    let mut parts = [full_year(year.parse().ok()?, year_digits), 0, 0, 0, 0, 0];
    for (index, pair) in tail.as_bytes().chunks(2).enumerate() {
        parts[index + 1] = std::str::from_utf8(pair).ok()?.parse().ok()?;
    }
    let micros = match rest.strip_prefix('.') {
        Some(fraction_digits) if digits.len() >= 12 => fraction(fraction_digits)?,
        _ if rest.is_empty() => 0,
        _ => return None,
    };
    assemble(parts, micros)
}

/// Reads a TIME: `[-][days ]hh:mm[:ss[.frac]]`, or `hhmmss[.frac]` without separators. Microseconds; not limited to
/// the range of a TIME column.
pub fn parse_time(text: &str) -> Option<i64> {
    let text = text.trim();
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (days, clock) = match text.split_once(' ') {
        Some((days, clock)) => (days.parse::<u32>().ok().filter(|days| *days <= 34)?, clock.trim_start()),
        None => (0, text),
    };
    let (body, micros) = match clock.split_once('.') {
        Some((body, digits)) => (body, fraction(digits)?),
        None => (clock, 0),
    };
    let numbers: Option<Vec<i64>> = body
        .split(':')
        .map(|part| {
            if part.is_empty() || part.len() > 7 || !part.bytes().all(|b| b.is_ascii_digit()) {
                None
            } else {
                part.parse().ok()
            }
        })
        .collect();
    let (hours, minutes, seconds) = match (numbers?.as_slice(), text.contains(' ')) {
        ([hours, minutes, seconds], _) => (*hours, *minutes, *seconds),
        ([hours, minutes], _) => (*hours, *minutes, 0),
        ([hours], true) => (*hours, 0, 0),
        ([compact], false) => (compact / 10_000, compact / 100 % 100, compact % 100),
        _ => return None,
    };
    if minutes > 59 || seconds > 59 {
        return None;
    }
    let micros = i64::from(days) * DAY + hours * HOUR + minutes * MINUTE + seconds * SECOND + micros;
    Some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_goes_there_and_back() {
        for days in (-719_528..2_932_897).step_by(37) {
            let Civil { year, month, day } = civil_from_days(days);
            assert_eq!(days_from_civil(year, month, day), days);
        }
        assert_eq!(format_date(0), "1970-01-01");
        assert_eq!(format_date(days_from_civil(2000, 2, 29)), "2000-02-29");
    }

    #[test]
    fn dates_are_read_as_mysql_reads_them() {
        for (text, expected) in [
            ("2024-02-29", "2024-02-29 00:00:00.000000"),
            ("24-2-9", "2024-02-09 00:00:00.000000"),
            ("99/12/31 23^59^59", "1999-12-31 23:59:59.000000"),
            ("2024-01-02T03:04:05.678", "2024-01-02 03:04:05.678000"),
            ("2024-01-02 03:04", "2024-01-02 03:04:00.000000"),
            ("20240102", "2024-01-02 00:00:00.000000"),
            ("20240102030405.5", "2024-01-02 03:04:05.500000"),
            ("240102", "2024-01-02 00:00:00.000000"),
            ("2024-01-02 03:04:05.9999996", "2024-01-02 03:04:06.000000"),
        ] {
            assert_eq!(parse_datetime(text).map(|(micros, _)| format_datetime(micros, 6)).as_deref(), Some(expected));
        }
        assert_eq!(parse_datetime("2024-01-02 03:04:05+05:30").map(|(_, offset)| offset), Some(Some(19_800)));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "2024", "2024-13-01", "2023-02-29", "0000-00-00", "2024-00-10", "2024-01-01 25:00:00", "abc"] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, expected) in [
            ("10:11:12", "10:11:12.000000"),
            ("-838:59:59", "-838:59:59.000000"),
            ("1 10:11", "34:11:00.000000"),
            ("101112.25", "10:11:12.250000"),
            ("12", "00:00:12.000000"),
        ] {
            assert_eq!(parse_time(text).map(|micros| format_time(micros, 6)).as_deref(), Some(expected));
        }
        assert_eq!(parse_time("10:60:00"), None);
        assert_eq!(parse_time("x"), None);
    }

    #[test]
    fn fractions_are_rounded() {
        assert_eq!(round_to_fsp(1_499_999, 0), SECOND);
        assert_eq!(round_to_fsp(1_500_000, 0), 2 * SECOND);
        assert_eq!(round_to_fsp(-1_500_000, 0), -2 * SECOND);
        assert_eq!(round_to_fsp(1_234_567, 3), 1_235_000);
    }
}
