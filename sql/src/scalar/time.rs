//! Functions of dates and times.

use types::value::{
    Civil, DAY, HOUR, MINUTE, SECOND, Zone, civil_from_days, days_from_civil, last_day_of_month, parse_datetime,
    parse_time,
};
use types::{ColumnType, Datum, Decimal};

use super::ty::rule;
use super::{Definition, Env, Ty, def, ops};
use crate::error::{Error, Result};

pub(super) const TABLE: &[Definition] = &[
    def("date", 1, 1, rule::date, |args, env| Ok(on_day(&args[0], env, Datum::Date))),
    def("time", 1, 1, rule::time, |args, env| Ok(on_clock(&args[0], env, Datum::Time))),
    def("year", 1, 1, rule::int, |args, env| Ok(on_civil(&args[0], env, |date| i64::from(date.year)))),
    def("month", 1, 1, rule::int, |args, env| Ok(on_civil(&args[0], env, |date| i64::from(date.month)))),
    def("day", 1, 1, rule::int, |args, env| Ok(on_civil(&args[0], env, |date| i64::from(date.day)))),
    def("dayofmonth", 1, 1, rule::int, |args, env| Ok(on_civil(&args[0], env, |date| i64::from(date.day)))),
    def("quarter", 1, 1, rule::int, |args, env| Ok(on_civil(&args[0], env, |date| i64::from(date.month.div_ceil(3))))),
    def("dayofweek", 1, 1, rule::int, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Int(i64::from((days + 4).rem_euclid(7)) + 1)))
    }),
    def("weekday", 1, 1, rule::int, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Int(i64::from((days + 3).rem_euclid(7)))))
    }),
    def("dayofyear", 1, 1, rule::int, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Int(i64::from(day_of_year(days)))))
    }),
    def("week", 1, 2, rule::int, |args, env| {
        let mode = match args.get(1).map(|mode| ops::numeric(mode, env)) {
            None => 0,
            Some(Datum::Int(mode)) => mode as u32 & 7,
            Some(_) => return Ok(Datum::Null),
        };
        Ok(on_day(&args[0], env, |days| Datum::Int(i64::from(week(days, mode).0))))
    }),
    def("weekofyear", 1, 1, rule::int, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Int(i64::from(week(days, 3).0))))
    }),
    def("yearweek", 1, 1, rule::int, |args, env| {
        Ok(on_day(&args[0], env, |days| {
            let (week, year) = week(days, 2);
            Datum::Int(i64::from(year) * 100 + i64::from(week))
        }))
    }),
    def("dayname", 1, 1, rule::text, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Text(DAYS[(days + 4).rem_euclid(7) as usize].into())))
    }),
    def("monthname", 1, 1, rule::text, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Text(MONTHS[civil_from_days(days).month as usize - 1].into())))
    }),
    def("last_day", 1, 1, rule::date, |args, env| {
        Ok(on_day(&args[0], env, |days| {
            let date = civil_from_days(days);
            Datum::Date(days_from_civil(date.year, date.month, last_day_of_month(date.year, date.month)))
        }))
    }),
    def("to_days", 1, 1, rule::int, |args, env| {
        Ok(on_day(&args[0], env, |days| Datum::Int(i64::from(days) + 719_528)))
    }),
    def("from_days", 1, 1, rule::date, |args, env| {
        Ok(match ops::numeric(&args[0], env) {
            Datum::Int(days) if (366..=3_652_424).contains(&days) => Datum::Date((days - 719_528) as i32),
            _ => Datum::Null,
        })
    }),
    def("hour", 1, 1, rule::int, |args, env| Ok(on_clock(&args[0], env, |micros| Datum::Int(micros.abs() / HOUR)))),
    def("minute", 1, 1, rule::int, |args, env| {
        Ok(on_clock(&args[0], env, |micros| Datum::Int(micros.abs() % HOUR / MINUTE)))
    }),
    def("second", 1, 1, rule::int, |args, env| {
        Ok(on_clock(&args[0], env, |micros| Datum::Int(micros.abs() % MINUTE / SECOND)))
    }),
    def("microsecond", 1, 1, rule::int, |args, env| {
        Ok(on_clock(&args[0], env, |micros| Datum::Int(micros.abs() % SECOND)))
    }),
    def("time_to_sec", 1, 1, rule::int, |args, env| Ok(on_clock(&args[0], env, |micros| Datum::Int(micros / SECOND)))),
    def("sec_to_time", 1, 1, rule::time, |args, env| {
        Ok(match ops::numeric(&args[0], env) {
            Datum::Null => Datum::Null,
            number => Datum::Time((ops::double(&number) * SECOND as f64).round() as i64),
        })
    }),
    def("timediff", 2, 2, rule::time, |args, env| {
        let both_times = args.iter().all(|value| ops::of_clock(value).is_some());
        let micros = |value: &Datum| if both_times { ops::of_clock(value) } else { instant(value, env) };
        Ok(match micros(&args[0]).zip(micros(&args[1])) {
            Some((a, b)) => Datum::Time((a - b).clamp(-LAST_TIME, LAST_TIME)),
            None => Datum::Null,
        })
    }),
    def("datediff", 2, 2, rule::int, |args, env| {
        Ok(match day(&args[0], env).zip(day(&args[1], env)) {
            Some((a, b)) => Datum::Int(i64::from(a) - i64::from(b)),
            None => Datum::Null,
        })
    }),
    def("timestampdiff", 3, 3, rule::int, |args, env| {
        let unit = args[0].to_string();
        match instant(&args[1], env).zip(instant(&args[2], env)) {
            Some((from, to)) => difference(&unit, from, to).map(Datum::Int),
            None => Ok(Datum::Null),
        }
    }),
    def("date_add", 3, 3, added_type, |args, env| add_interval(&args[0], &args[1], &args[2].to_string(), 1, env)),
    def("date_sub", 3, 3, added_type, |args, env| add_interval(&args[0], &args[1], &args[2].to_string(), -1, env)),
    def("date_format", 2, 2, rule::text, |args, env| {
        if args[1].is_null() {
            return Ok(Datum::Null);
        }
        Ok(match instant(&args[0], env) {
            Some(micros) => Datum::Text(date_format(micros, &args[1].to_string())),
            None => Datum::Null,
        })
    }),
    def("time_format", 2, 2, rule::text, |args, env| {
        if args[1].is_null() {
            return Ok(Datum::Null);
        }
        Ok(on_clock(&args[0], env, |micros| Datum::Text(date_format(micros, &args[1].to_string()))))
    }),
    def("unix_timestamp", 1, 1, unix_type, |args, env| {
        Ok(match instant(&args[0], env).and_then(|local| env.zone.to_utc(local)) {
            None => Datum::Null,
            Some(utc) if utc < 0 => Datum::Int(0),
            Some(utc) if utc % SECOND == 0 => Datum::Int(utc / SECOND),
            Some(utc) => Datum::Decimal(Decimal::new(utc.into(), 6).expect("an instant has fewer than 38 digits")),
        })
    }),
    def("from_unixtime", 1, 2, from_unix_type, |args, env| {
        let micros = match ops::numeric(&args[0], env) {
            Datum::Null => return Ok(Datum::Null),
            Datum::Int(seconds) => seconds.saturating_mul(SECOND),
            other => (ops::double(&other) * SECOND as f64).round() as i64,
        };
        if !(0..=32_536_771_199_999_999).contains(&micros) {
            return Ok(Datum::Null);
        }
        let local = env.zone.to_local(micros);
        Ok(match args.get(1) {
            None => Datum::DateTime(local),
            Some(Datum::Null) => Datum::Null,
            Some(format) => Datum::Text(date_format(local, &format.to_string())),
        })
    }),
    def("makedate", 2, 2, rule::date, |args, env| {
        Ok(match (ops::numeric(&args[0], env), ops::numeric(&args[1], env)) {
            (Datum::Int(year), Datum::Int(day)) if (0..=9999).contains(&year) && (1..=4_000_000).contains(&day) => {
                let days = i64::from(days_from_civil(year as i32, 1, 1)) + day - 1;
                if days > 2_932_896 { Datum::Null } else { Datum::Date(days as i32) }
            }
            _ => Datum::Null,
        })
    }),
    def("str_to_date", 2, 2, rule::datetime, |args, env| {
        if args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        let text = args[0].to_string();
        let parsed = str_to_date(&text, &args[1].to_string());
        if parsed.is_none() {
            env.warn(1411, format!("Incorrect datetime value: '{text}' for function str_to_date"));
        }
        Ok(parsed.map_or(Datum::Null, Datum::DateTime))
    }),
    def("convert_tz", 3, 3, rule::datetime, |args, env| {
        let zone = |value: &Datum| super::SessionZone::parse(&value.to_string()).ok();
        let converted = instant(&args[0], env).zip(zone(&args[1])).zip(zone(&args[2]));
        Ok(match converted.and_then(|((local, from), to)| Some(to.to_local(from.to_utc(local)?))) {
            Some(local) => Datum::DateTime(local),
            None => Datum::Null,
        })
    }),
];

/// 838:59:59.
const LAST_TIME: i64 = 839 * HOUR - SECOND;

const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The local time a value stands for, microseconds; a warning and `None` if it is none.
fn instant(value: &Datum, env: &Env) -> Option<i64> {
    match value {
        Datum::Null => None,
        Datum::Date(days) => Some(i64::from(*days) * DAY),
        Datum::DateTime(micros) | Datum::Timestamp(micros) => Some(*micros),
        other => match ColumnType::DateTime(6).convert(other.clone(), &env.zone) {
            Ok(Datum::DateTime(micros)) => Some(micros),
            _ => {
                env.warn(1292, format!("Incorrect datetime value: '{other}'"));
                None
            }
        },
    }
}

fn day(value: &Datum, env: &Env) -> Option<i32> {
    instant(value, env).map(|micros| micros.div_euclid(DAY) as i32)
}

fn on_day(value: &Datum, env: &Env, function: impl FnOnce(i32) -> Datum) -> Datum {
    day(value, env).map_or(Datum::Null, function)
}

fn on_civil(value: &Datum, env: &Env, function: impl FnOnce(Civil) -> i64) -> Datum {
    on_day(value, env, |days| Datum::Int(function(civil_from_days(days))))
}

/// The time of day, or the TIME itself.
fn on_clock(value: &Datum, env: &Env, function: impl FnOnce(i64) -> Datum) -> Datum {
    let micros = match value {
        Datum::Null => None,
        Datum::Time(micros) => Some(*micros),
        Datum::Date(_) => Some(0),
        Datum::DateTime(micros) | Datum::Timestamp(micros) => Some(micros.rem_euclid(DAY)),
        other => {
            let text = other.to_string();
            let parsed = parse_datetime(&text).filter(|_| text.contains('-')).map(|(micros, _)| micros.rem_euclid(DAY));
            let parsed = parsed.or_else(|| parse_time(&text));
            if parsed.is_none() {
                env.warn(1292, format!("Truncated incorrect time value: '{text}'"));
            }
            parsed
        }
    };
    micros.map_or(Datum::Null, function)
}

fn day_of_year(days: i32) -> i32 {
    days - days_from_civil(civil_from_days(days).year, 1, 1) + 1
}

/// Week and its year, by MySQL's modes: bit 0 the week begins on Monday, bit 1 it belongs to one year alone (1 to
/// 53), bit 2, together with bit 0, whether the first week is the one that holds
/// the year's first such day, or the first with four days of the year.
fn week(days: i32, mode: u32) -> (i32, i32) {
    let monday_first = mode & 1 != 0;
    let week_year = mode & 2 != 0;
    let by_first_day = (mode & 4 != 0) == monday_first;
    let year = civil_from_days(days).year;
    let weekday = |day: i32| (day + if monday_first { 3 } else { 4 }).rem_euclid(7);
    let start = |year: i32| {
        let first = days_from_civil(year, 1, 1);
        let weekday = weekday(first);
        let short = if by_first_day { weekday != 0 } else { weekday > 3 };
        first - weekday + if short { 7 } else { 0 }
    };
    if days < start(year) {
        if !week_year {
            return (0, year);
        }
        return ((days - start(year - 1)) / 7 + 1, year - 1);
    }
    if week_year && days >= start(year + 1) {
        return ((days - start(year + 1)) / 7 + 1, year + 1);
    }
    ((days - start(year)) / 7 + 1, year)
}

/// A unit's months and microseconds; `None` for units of several parts.
pub fn interval_unit(unit: &str) -> Option<(i64, i64)> {
    Some(match unit.to_ascii_uppercase().as_str() {
        "MICROSECOND" => (0, 1),
        "SECOND" => (0, SECOND),
        "MINUTE" => (0, MINUTE),
        "HOUR" => (0, HOUR),
        "DAY" => (0, DAY),
        "WEEK" => (0, 7 * DAY),
        "MONTH" => (1, 0),
        "QUARTER" => (3, 0),
        "YEAR" => (12, 0),
        _ => return None,
    })
}

fn added_type(types: &[Ty], literals: &[Option<Datum>]) -> Ty {
    let whole_days = match literals.get(2) {
        Some(Some(Datum::Text(unit))) => interval_unit(unit).is_some_and(|(_, micros)| micros % DAY == 0),
        _ => false,
    };
    match types[0] {
        Ty::Date if whole_days => Ty::Date,
        Ty::Date | Ty::DateTime | Ty::Null => Ty::DateTime,
        Ty::Time => Ty::Time,
        _ => Ty::Text,
    }
}

/// `value + sign * amount unit`. A text stays a text; NULL beyond the years 0 to 9999.
pub fn add_interval(value: &Datum, amount: &Datum, unit: &str, sign: i64, env: &Env) -> Result<Datum> {
    let (months, micros) = interval_unit(unit).ok_or_else(|| Error::unsupported(format!("INTERVAL … {unit}")))?;
    let amount = match ops::numeric(amount, env) {
        Datum::Null => return Ok(Datum::Null),
        number => number,
    };
    // Seconds may have a fraction; other units are rounded.
    let step = match (&amount, unit.eq_ignore_ascii_case("SECOND")) {
        (Datum::Int(count), _) => count.checked_mul(micros.max(1)),
        (other, true) => Some((ops::double(other) * SECOND as f64).round() as i64),
        (other, false) => (ops::double(other).round_ties_even() as i64).checked_mul(micros.max(1)),
    };
    let Some(step) = step.and_then(|step| step.checked_mul(sign)) else { return Ok(Datum::Null) };
    if let Datum::Time(time) = value {
        return Ok(if months == 0 { time.checked_add(step).map_or(Datum::Null, Datum::Time) } else { Datum::Null });
    }
    let Some(start) = instant(value, env) else { return Ok(Datum::Null) };
    let end = if months == 0 {
        start.checked_add(step)
    } else {
        step.checked_mul(months).and_then(|by| add_months(start, by))
    };
    let Some(end) = end.filter(|end| (-62_167_219_200 * SECOND..253_402_300_800 * SECOND).contains(end)) else {
        env.warn(1441, "Datetime function: datetime field overflow");
        return Ok(Datum::Null);
    };
    Ok(match value {
        Datum::Date(_) if months > 0 || micros % DAY == 0 => Datum::Date(end.div_euclid(DAY) as i32),
        Datum::Text(text)
            if text.trim().len() <= 10 && end.rem_euclid(DAY) == 0 && (months > 0 || micros % DAY == 0) =>
        {
            Datum::Text(Datum::Date(end.div_euclid(DAY) as i32).to_string())
        }
        Datum::Text(_) => Datum::Text(Datum::DateTime(end).to_string()),
        _ => Datum::DateTime(end),
    })
}

/// The same day that many months on, or the month's last.
fn add_months(micros: i64, months: i64) -> Option<i64> {
    let date = civil_from_days(micros.div_euclid(DAY) as i32);
    let month = i64::from(date.year) * 12 + i64::from(date.month) - 1 + months;
    let (year, month) = (i32::try_from(month.div_euclid(12)).ok()?, month.rem_euclid(12) as u32 + 1);
    if !(0..=9999).contains(&year) {
        return None;
    }
    let day = date.day.min(last_day_of_month(year, month));
    Some(i64::from(days_from_civil(year, month, day)) * DAY + micros.rem_euclid(DAY))
}

/// Whole units between two times.
fn difference(unit: &str, from: i64, to: i64) -> Result<i64> {
    let (months, micros) =
        interval_unit(unit).ok_or_else(|| Error::unsupported(format!("TIMESTAMPDIFF({unit}, …)")))?;
    if months == 0 {
        return Ok((to - from) / micros);
    }
    let (early, late, sign) = if from <= to { (from, to, 1) } else { (to, from, -1) };
    let (a, b) = (civil_from_days(early.div_euclid(DAY) as i32), civil_from_days(late.div_euclid(DAY) as i32));
    let mut whole = i64::from(b.year - a.year) * 12 + i64::from(b.month) - i64::from(a.month);
    if (b.day, late.rem_euclid(DAY)) < (a.day, early.rem_euclid(DAY)) {
        whole -= 1;
    }
    Ok(sign * whole / months)
}

fn date_format(micros: i64, format: &str) -> String {
    let days = micros.div_euclid(DAY) as i32;
    let Civil { year, month, day } = civil_from_days(days);
    let clock = micros.rem_euclid(DAY);
    let (hour, minute, second) = (clock / HOUR, clock % HOUR / MINUTE, clock % MINUTE / SECOND);
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let half = if hour < 12 { "AM" } else { "PM" };
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let Some(c) = chars.next() else { break };
        text += &match c {
            'a' => DAYS[(days + 4).rem_euclid(7) as usize][..3].to_string(),
            'b' => MONTHS[month as usize - 1][..3].to_string(),
            'c' => month.to_string(),
            'D' => format!("{day}{}", ordinal_suffix(day)),
            'd' => format!("{day:02}"),
            'e' => day.to_string(),
            'f' => format!("{:06}", clock % SECOND),
            'H' => format!("{hour:02}"),
            'h' | 'I' => format!("{hour12:02}"),
            'i' => format!("{minute:02}"),
            'j' => format!("{:03}", day_of_year(days)),
            'k' => hour.to_string(),
            'l' => hour12.to_string(),
            'M' => MONTHS[month as usize - 1].to_string(),
            'm' => format!("{month:02}"),
            'p' => half.to_string(),
            'r' => format!("{hour12:02}:{minute:02}:{second:02} {half}"),
            'S' | 's' => format!("{second:02}"),
            'T' => format!("{hour:02}:{minute:02}:{second:02}"),
            'U' => format!("{:02}", week(days, 0).0),
            'u' => format!("{:02}", week(days, 1).0),
            'V' => format!("{:02}", week(days, 2).0),
            'v' => format!("{:02}", week(days, 3).0),
            'W' => DAYS[(days + 4).rem_euclid(7) as usize].to_string(),
            'w' => (days + 4).rem_euclid(7).to_string(),
            'X' => format!("{:04}", week(days, 2).1),
            'x' => format!("{:04}", week(days, 3).1),
            'Y' => format!("{year:04}"),
            'y' => format!("{:02}", year % 100),
            other => other.to_string(),
        };
    }
    text
}

fn ordinal_suffix(day: u32) -> &'static str {
    match (day % 10, day) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    }
}

/// Reads a text by a format of DATE_FORMAT's letters. Parts that the format lacks are the first day and midnight.
fn str_to_date(text: &str, format: &str) -> Option<i64> {
    let (mut year, mut month, mut day) = (1970i32, 1u32, 1u32);
    let (mut hour, mut minute, mut second, mut micros) = (0i64, 0i64, 0i64, 0i64);
    let mut half = None;
    let mut rest = text;
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            if c == ' ' {
                rest = rest.trim_start();
                continue;
            }
            rest = rest.strip_prefix(c)?;
            continue;
        }
        match chars.next()? {
            'Y' => year = number(&mut rest, 4)? as i32,
            'y' => {
                let short = number(&mut rest, 2)? as i32;
                year = if short < 70 { short + 2000 } else { short + 1900 };
            }
            'm' | 'c' => month = number(&mut rest, 2)? as u32,
            'd' | 'e' => day = number(&mut rest, 2)? as u32,
            'H' | 'k' | 'h' | 'I' | 'l' => hour = number(&mut rest, 2)?,
            'i' => minute = number(&mut rest, 2)?,
            's' | 'S' => second = number(&mut rest, 2)?,
            'f' => {
                let digits = rest.bytes().take_while(u8::is_ascii_digit).count().min(6);
                micros = number(&mut rest, 6)? * 10i64.pow(6 - digits as u32);
            }
            'T' => {
                hour = number(&mut rest, 2)?;
                rest = rest.strip_prefix(':')?;
                minute = number(&mut rest, 2)?;
                rest = rest.strip_prefix(':')?;
                second = number(&mut rest, 2)?;
            }
            'b' => month = name(&mut rest, MONTHS.iter().map(|month| &month[..3]))? + 1,
            'M' => month = name(&mut rest, MONTHS.iter().copied())? + 1,
            'p' => half = Some(name(&mut rest, ["AM", "PM"].into_iter())?),
            '%' => rest = rest.strip_prefix('%')?,
            _ => return None,
        }
    }
    if let Some(half) = half {
        hour = hour % 12 + 12 * i64::from(half);
    }
    let valid = rest.trim().is_empty()
        && (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=last_day_of_month(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    valid.then(|| {
        i64::from(days_from_civil(year, month, day)) * DAY + hour * HOUR + minute * MINUTE + second * SECOND + micros
    })
}

fn number(rest: &mut &str, most: usize) -> Option<i64> {
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count().min(most);
    let value = rest[..digits].parse().ok()?;
    *rest = &rest[digits..];
    Some(value)
}

fn name<'a>(rest: &mut &str, names: impl Iterator<Item = &'a str>) -> Option<u32> {
    for (place, name) in names.enumerate() {
        if rest.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name)) {
            *rest = &rest[name.len()..];
            return Some(place as u32);
        }
    }
    None
}

/// Seconds, with a fraction if the argument can have one.
fn unix_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    if types[0] == Ty::Date { Ty::Int } else { Ty::Decimal(20, 6) }
}

fn from_unix_type(types: &[Ty], _: &[Option<Datum>]) -> Ty {
    if types.len() == 1 { Ty::DateTime } else { Ty::Text }
}
