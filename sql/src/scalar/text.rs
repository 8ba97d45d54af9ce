//! Functions of text and bytes. Positions count characters from 1, as in MySQL.
//!
//! Where one argument is a string of bytes the result is one, too, and each byte counts as a character. Such a string is
//! shown to a function as the characters U+0000 to U+00FF, one for each byte: one function serves both, and no byte is
//! ever replaced.

use std::borrow::Cow;

use sha1::Digest;
use types::{Datum, Decimal};

use super::ty::rule;
use super::{Definition, Env, MANY, def, ops};
use crate::error::{Error, Result};
use crate::session::MAX_ALLOWED_PACKET;

/// A longer result is NULL with a warning, as in MySQL.
const MAX_RESULT: usize = match usize::from_str_radix(MAX_ALLOWED_PACKET, 10) {
    Ok(bytes) => bytes,
    Err(_) => panic!("the variable's default is a number"),
};

pub(super) const TABLE: &[Definition] = &[
    def("concat", 1, MANY, rule::string, |args, env| {
        Ok(bounded(strings(args, |parts| Datum::Text(parts.concat())), "concat", env))
    }),
    def("concat_ws", 2, MANY, rule::string, |args, env| {
        if args[0].is_null() {
            return Ok(Datum::Null);
        }
        let known: Vec<Datum> = args.iter().filter(|value| !value.is_null()).cloned().collect();
        Ok(bounded(strings(&known, |parts| Datum::Text(parts[1..].join(&parts[0]))), "concat_ws", env))
    }),
    def("length", 1, 1, rule::int, |args, _| Ok(on_bytes(&args[0], |bytes| Datum::Int(bytes.len() as i64)))),
    def("octet_length", 1, 1, rule::int, |args, _| Ok(on_bytes(&args[0], |bytes| Datum::Int(bytes.len() as i64)))),
    def("bit_length", 1, 1, rule::int, |args, _| Ok(on_bytes(&args[0], |bytes| Datum::Int(8 * bytes.len() as i64)))),
    def("char_length", 1, 1, rule::int, |args, _| {
        Ok(on_string(&args[0], |text| Datum::Int(text.chars().count() as i64)))
    }),
    def("character_length", 1, 1, rule::int, |args, _| {
        Ok(on_string(&args[0], |text| Datum::Int(text.chars().count() as i64)))
    }),
    def("upper", 1, 1, rule::string, |args, _| Ok(cased(&args[0], str::to_uppercase))),
    def("ucase", 1, 1, rule::string, |args, _| Ok(cased(&args[0], str::to_uppercase))),
    def("lower", 1, 1, rule::string, |args, _| Ok(cased(&args[0], str::to_lowercase))),
    def("lcase", 1, 1, rule::string, |args, _| Ok(cased(&args[0], str::to_lowercase))),
    def("ltrim", 1, 1, rule::string, |args, _| {
        Ok(on_string(&args[0], |text| Datum::Text(text.trim_start_matches(' ').into())))
    }),
    def("rtrim", 1, 1, rule::string, |args, _| {
        Ok(on_string(&args[0], |text| Datum::Text(text.trim_end_matches(' ').into())))
    }),
    def("trim", 1, 2, rule::string, |args, _| Ok(trim(args, true, true))),
    def("trim_leading", 2, 2, rule::string, |args, _| Ok(trim(args, true, false))),
    def("trim_trailing", 2, 2, rule::string, |args, _| Ok(trim(args, false, true))),
    def("reverse", 1, 1, rule::string, |args, _| {
        Ok(on_string(&args[0], |text| Datum::Text(text.chars().rev().collect())))
    }),
    def("substring", 2, 3, rule::string, substring),
    def("substr", 2, 3, rule::string, substring),
    def("mid", 3, 3, rule::string, substring),
    def("left", 2, 2, rule::string, |args, env| {
        Ok(with_count(args, env, |text, count| text.chars().take(count.max(0) as usize).collect()))
    }),
    def("right", 2, 2, rule::string, |args, env| {
        Ok(with_count(args, env, |text, count| {
            let skip = text.chars().count().saturating_sub(count.max(0) as usize);
            text.chars().skip(skip).collect()
        }))
    }),
    def("repeat", 2, 2, rule::string, |args, env| {
        let Some(count) = integer(&args[1], env) else { return Ok(Datum::Null) };
        let count = count.max(0) as usize;
        if byte_length(&args[0]).saturating_mul(count) > MAX_RESULT {
            return Ok(too_long("repeat", env));
        }
        Ok(on_string(&args[0], |text| Datum::Text(text.repeat(count))))
    }),
    def("space", 1, 1, rule::text, |args, env| {
        Ok(match integer(&args[0], env) {
            None => Datum::Null,
            Some(count) if count.max(0) as usize > MAX_RESULT => too_long("space", env),
            Some(count) => Datum::Text(" ".repeat(count.max(0) as usize)),
        })
    }),
    def("lpad", 3, 3, rule::string, |args, env| pad(args, env, true)),
    def("rpad", 3, 3, rule::string, |args, env| pad(args, env, false)),
    def("replace", 3, 3, rule::string, |args, env| {
        let replaced = strings(args, |texts| match texts[1].is_empty() {
            true => Datum::Text(texts[0].clone()),
            false => Datum::Text(texts[0].replace(&texts[1], &texts[2])),
        });
        Ok(bounded(replaced, "replace", env))
    }),
    def("instr", 2, 2, rule::int, |args, _| Ok(strings(args, |texts| Datum::Int(position(&texts[0], &texts[1], 1))))),
    def("locate", 2, 3, rule::int, |args, env| {
        let from = match args.get(2) {
            None => Some(1),
            Some(from) => integer(from, env),
        };
        Ok(match from {
            None => Datum::Null,
            Some(from) => strings(&args[..2], |texts| Datum::Int(position(&texts[1], &texts[0], from))),
        })
    }),
    def("substring_index", 3, 3, rule::string, |args, env| {
        let Some(count) = integer(&args[2], env) else { return Ok(Datum::Null) };
        Ok(strings(&args[..2], |texts| Datum::Text(substring_index(&texts[0], &texts[1], count))))
    }),
    def("ascii", 1, 1, rule::int, |args, _| {
        Ok(on_bytes(&args[0], |bytes| Datum::Int(bytes.first().map_or(0, |byte| i64::from(*byte)))))
    }),
    def("char", 1, MANY, rule::bytes, |args, env| {
        let codes = args.iter().filter_map(|value| integer(value, env));
        Ok(Datum::Bytes(codes.flat_map(|code| octets_of(code as u32)).collect()))
    }),
    def("hex", 1, 1, rule::text, |args, _| {
        Ok(match &args[0] {
            Datum::Null => Datum::Null,
            Datum::Int(value) => Datum::Text(format!("{value:X}")),
            Datum::UInt(value) => Datum::Text(format!("{value:X}")),
            other => on_bytes(other, |bytes| Datum::Text(bytes.iter().map(|byte| format!("{byte:02X}")).collect())),
        })
    }),
    def("unhex", 1, 1, rule::bytes, |args, _| {
        Ok(on_text(&args[0], |text| crate::parse::hex_bytes(text).map_or(Datum::Null, Datum::Bytes)))
    }),
    def("crc32", 1, 1, rule::uint, |args, _| Ok(on_bytes(&args[0], |bytes| Datum::UInt(u64::from(crc32(bytes)))))),
    def("bin", 1, 1, rule::text, |args, env| {
        Ok(integer(&args[0], env).map_or(Datum::Null, |value| Datum::Text(format!("{value:b}"))))
    }),
    def("oct", 1, 1, rule::text, |args, env| {
        Ok(integer(&args[0], env).map_or(Datum::Null, |value| Datum::Text(format!("{value:o}"))))
    }),
    def("format", 2, 2, rule::text, |args, env| {
        let places = integer(&args[1], env).map(|places| places.clamp(0, 30) as u8);
        Ok(match (ops::numeric(&args[0], env), places) {
            (Datum::Null, _) | (_, None) => Datum::Null,
            (Datum::Double(value), Some(places)) => Datum::Text(grouped(&format!("{value:.*}", usize::from(places)))),
            (exact, Some(places)) => {
                let exact = Decimal::parse(&exact.to_string()).and_then(|exact| exact.rescale(places));
                exact.map_or(Datum::Null, |exact| Datum::Text(grouped(&exact.to_string())))
            }
        })
    }),
    def("md5", 1, 1, rule::text, |_, _| Err(Error::unsupported("MD5"))),
    def("sha1", 1, 1, rule::text, |args, _| Ok(on_bytes(&args[0], |bytes| digest(&sha1::Sha1::digest(bytes))))),
    def("sha", 1, 1, rule::text, |args, _| Ok(on_bytes(&args[0], |bytes| digest(&sha1::Sha1::digest(bytes))))),
    def("sha2", 2, 2, rule::text, |args, env| {
        let Some(bits) = integer(&args[1], env) else { return Ok(Datum::Null) };
        Ok(on_bytes(&args[0], |bytes| match bits {
            0 | 256 => digest(&sha2::Sha256::digest(bytes)),
            224 => digest(&sha2::Sha224::digest(bytes)),
            384 => digest(&sha2::Sha384::digest(bytes)),
            512 => digest(&sha2::Sha512::digest(bytes)),
            _ => Datum::Null,
        }))
    }),
    def("strcmp", 2, 2, rule::int, |args, _| {
        Ok(strings(args, |texts| Datum::Int(texts[0].as_bytes().cmp(texts[1].as_bytes()) as i64)))
    }),
    def("find_in_set", 2, 2, rule::int, |args, _| {
        Ok(strings(args, |texts| {
            let place = texts[1].split(',').position(|item| !texts[1].is_empty() && item == texts[0]);
            Datum::Int(place.map_or(0, |place| place as i64 + 1))
        }))
    }),
    def("field", 2, MANY, rule::int, |args, env| {
        for (place, value) in args.iter().enumerate().skip(1) {
            if ops::compare(&args[0], value, env)? == Some(std::cmp::Ordering::Equal) {
                return Ok(Datum::Int(place as i64));
            }
        }
        Ok(Datum::Int(0))
    }),
    def("elt", 2, MANY, rule::string, |args, env| {
        let place = integer(&args[0], env).and_then(|place| usize::try_from(place).ok()).filter(|place| *place > 0);
        Ok(match place.and_then(|place| args.get(place)) {
            Some(value) => on_string(value, |text| Datum::Text(text.into())),
            None => Datum::Null,
        })
    }),
    def("like", 2, 3, rule::boolean, |args, _| {
        let escape = match args.get(2) {
            None => Some('\\'),
            Some(Datum::Text(text)) => text.chars().next(),
            Some(_) => return Ok(Datum::Null),
        };
        Ok(strings(&args[..2], |texts| Datum::Int(like(&texts[0], &texts[1], escape).into())))
    }),
    def("regexp", 2, 2, rule::boolean, |args, _| {
        if args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        let texts = shown(args);
        Ok(Datum::Int(regex(&texts[1])?.is_match(&texts[0]).into()))
    }),
    def("json_valid", 1, 1, rule::boolean, |args, _| {
        Ok(on_bytes(&args[0], |bytes| Datum::Int(serde_json::from_slice::<serde_json::Value>(bytes).is_ok().into())))
    }),
    def("json_unquote", 1, 1, rule::text, |args, _| {
        if args[0].is_null() {
            return Ok(Datum::Null);
        }
        let text = json_text(&args[0])?;
        Ok(Datum::Text(serde_json::from_str::<String>(&text).unwrap_or_else(|_| text.into_owned())))
    }),
    def("json_extract", 2, 2, rule::text, |args, _| {
        if args.iter().any(Datum::is_null) {
            return Ok(Datum::Null);
        }
        json_extract(json_text(&args[0])?.as_ref(), &args[1].to_string())
    }),
    def("quote", 1, 1, rule::string, |args, _| {
        Ok(match &args[0] {
            Datum::Null => Datum::Text("NULL".into()),
            value => on_string(value, |text| Datum::Text(crate::parse::quote_text(text))),
        })
    }),
];

fn on_text(value: &Datum, function: impl FnOnce(&str) -> Datum) -> Datum {
    match value {
        Datum::Null => Datum::Null,
        Datum::Text(text) | Datum::Json(text) => function(text),
        other => function(&other.to_string()),
    }
}

fn on_bytes(value: &Datum, function: impl FnOnce(&[u8]) -> Datum) -> Datum {
    match value {
        Datum::Bytes(bytes) => function(bytes),
        other => on_text(other, |text| function(text.as_bytes())),
    }
}

/// The same with a string of bytes as characters, and the result as bytes.
fn on_string(value: &Datum, function: impl FnOnce(&str) -> Datum) -> Datum {
    match value {
        Datum::Bytes(bytes) => as_bytes(function(&as_characters(bytes))),
        other => on_text(other, function),
    }
}

/// Of several strings. NULL if one is NULL.
fn strings(args: &[Datum], function: impl FnOnce(&[String]) -> Datum) -> Datum {
    if args.iter().any(Datum::is_null) {
        return Datum::Null;
    }
    let result = function(&shown(args));
    if args.iter().any(is_bytes) { as_bytes(result) } else { result }
}

/// What a function sees of its strings: of bytes if one of them is.
fn shown(args: &[Datum]) -> Vec<String> {
    let of_bytes = args.iter().any(is_bytes);
    let show = |value: &Datum| match value {
        Datum::Bytes(bytes) => as_characters(bytes),
        other if of_bytes => as_characters(other.to_string().as_bytes()),
        other => other.to_string(),
    };
    args.iter().map(show).collect()
}

fn is_bytes(value: &Datum) -> bool {
    matches!(value, Datum::Bytes(_))
}

fn as_characters(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Undoes `as_characters` in a result.
fn as_bytes(result: Datum) -> Datum {
    let byte = |character| u8::try_from(character).expect("a string that is shown as bytes has no other characters");
    match result {
        Datum::Text(text) => Datum::Bytes(text.chars().map(byte).collect()),
        other => other,
    }
}

/// Bytes have no case.
fn cased(value: &Datum, function: impl FnOnce(&str) -> String) -> Datum {
    match value {
        Datum::Bytes(_) => value.clone(),
        other => on_text(other, |text| Datum::Text(function(text))),
    }
}

/// As CHAR() has it: no zeros before the first byte that is none.
fn octets_of(code: u32) -> impl Iterator<Item = u8> {
    let bytes = code.to_be_bytes();
    bytes.into_iter().skip((code.leading_zeros() as usize / 8).min(3))
}

fn byte_length(value: &Datum) -> usize {
    match value {
        Datum::Null => 0,
        Datum::Bytes(bytes) => bytes.len(),
        Datum::Text(text) | Datum::Json(text) => text.len(),
        other => other.to_string().len(),
    }
}

/// JSON is text.
fn json_text(value: &Datum) -> Result<Cow<'_, str>> {
    match value {
        Datum::Text(text) | Datum::Json(text) => Ok(Cow::Borrowed(text)),
        Datum::Bytes(bytes) => std::str::from_utf8(bytes)
            .map(Cow::Borrowed)
            .map_err(|_| Error::new(3144, "Cannot create a JSON value from a string with CHARACTER SET 'binary'")),
        other => Ok(Cow::Owned(other.to_string())),
    }
}

fn integer(value: &Datum, env: &Env) -> Option<i64> {
    match ops::numeric(value, env) {
        Datum::Null => None,
        Datum::Int(value) => Some(value),
        other => Some(ops::double(&other).round_ties_even() as i64),
    }
}

fn with_count(args: &[Datum], env: &Env, function: impl FnOnce(&str, i64) -> String) -> Datum {
    match integer(&args[1], env) {
        None => Datum::Null,
        Some(count) => on_string(&args[0], |text| Datum::Text(function(text, count))),
    }
}

fn too_long(function: &str, env: &Env) -> Datum {
    env.warn(1301, format!("Result of {function}() was larger than max_allowed_packet ({MAX_RESULT}) - truncated"));
    Datum::Null
}

fn bounded(result: Datum, function: &str, env: &Env) -> Datum {
    if byte_length(&result) > MAX_RESULT { too_long(function, env) } else { result }
}

fn trim(args: &[Datum], leading: bool, trailing: bool) -> Datum {
    strings(args, |texts| {
        let (text, what) = (texts[0].as_str(), texts.get(1).map_or(" ", String::as_str));
        if what.is_empty() {
            return Datum::Text(text.into());
        }
        let text = if leading { text.trim_start_matches(what) } else { text };
        Datum::Text(if trailing { text.trim_end_matches(what) } else { text }.into())
    })
}

fn substring(args: &[Datum], env: &Env) -> Result<Datum> {
    let (Some(from), count) = (integer(&args[1], env), args.get(2).map(|count| integer(count, env))) else {
        return Ok(Datum::Null);
    };
    if count == Some(None) {
        return Ok(Datum::Null);
    }
    Ok(on_string(&args[0], |text| {
        let size = text.chars().count() as i64;
        let start = if from > 0 { from - 1 } else { size + from };
        let count = count.flatten().unwrap_or(i64::MAX);
        if from == 0 || start < 0 || count <= 0 {
            return Datum::Text(String::new());
        }
        Datum::Text(text.chars().skip(start as usize).take(count as usize).collect())
    }))
}

fn pad(args: &[Datum], env: &Env, left: bool) -> Result<Datum> {
    let Some(length) = integer(&args[1], env) else { return Ok(Datum::Null) };
    if args[0].is_null() || args[2].is_null() || length < 0 {
        return Ok(Datum::Null);
    }
    if length as usize > MAX_RESULT / 4 {
        return Ok(too_long(if left { "lpad" } else { "rpad" }, env));
    }
    Ok(strings(&[args[0].clone(), args[2].clone()], |texts| {
        let (text, filler) = (&texts[0], &texts[1]);
        let missing = (length as usize).saturating_sub(text.chars().count());
        if missing == 0 {
            return Datum::Text(text.chars().take(length as usize).collect());
        }
        if filler.is_empty() {
            return Datum::Text(String::new());
        }
        let padding: String = filler.chars().cycle().take(missing).collect();
        Datum::Text(if left { padding + text } else { format!("{text}{padding}") })
    }))
}

/// Character position of `part` in `text` at or after `from`, 0 if it is not there.
fn position(text: &str, part: &str, from: i64) -> i64 {
    let Some(skip) = from.checked_sub(1).and_then(|skip| usize::try_from(skip).ok()) else { return 0 };
    let size = text.chars().count();
    if skip > size {
        return 0;
    }
    let start = text.char_indices().nth(skip).map_or(text.len(), |(at, _)| at);
    text[start..].find(part).map_or(0, |at| (skip + text[start..start + at].chars().count() + 1) as i64)
}

fn substring_index(text: &str, separator: &str, count: i64) -> String {
    if separator.is_empty() || count == 0 {
        return String::new();
    }
    let parts: Vec<&str> = text.split(separator).collect();
    let wanted = count.unsigned_abs() as usize;
    if wanted >= parts.len() {
        return text.into();
    }
    let kept = if count > 0 { &parts[..wanted] } else { &parts[parts.len() - wanted..] };
    kept.join(separator)
}

/// CRC-32 as in IEEE 802.3, reflected, polynomial EDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A number's text with commas between thousands.
fn grouped(text: &str) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut out = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

fn digest(bytes: &[u8]) -> Datum {
    Datum::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// LIKE: `%` any characters, `_` one, compared byte by byte.
pub(crate) fn like(text: &str, pattern: &str, escape: Option<char>) -> bool {
    let pattern = pattern_items(pattern, escape);
    let text: Vec<char> = text.chars().collect();
    // Greedy with one place to come back to: the last `%`.
    let (mut t, mut p, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(Item::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Item::One) => (t, p) = (t + 1, p + 1),
            Some(Item::Char(c)) if *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match star {
                Some((place, seen)) => {
                    star = Some((place, seen + 1));
                    (t, p) = (seen + 1, place + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|item| matches!(item, Item::Any))
}

enum Item {
    Any,
    One,
    Char(char),
}

fn pattern_items(pattern: &str, escape: Option<char>) -> Vec<Item> {
    let mut chars = pattern.chars();
    let mut items = Vec::new();
    while let Some(c) = chars.next() {
        items.push(match c {
            c if Some(c) == escape => Item::Char(chars.next().unwrap_or(c)),
            '%' => Item::Any,
            '_' => Item::One,
            other => Item::Char(other),
        });
    }
    items
}

fn regex(pattern: &str) -> Result<regex::Regex> {
    thread_local! {
        // One pattern is used for many rows: the last one is kept.
        static LAST: std::cell::RefCell<Option<(String, regex::Regex)>> = const { std::cell::RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((_, regex)) = last.as_ref().filter(|(known, _)| known == pattern) {
            return Ok(regex.clone());
        }
        let regex = regex::RegexBuilder::new(pattern)
            .size_limit(1 << 20)
            .build()
            .map_err(|error| Error::new(3685, format!("Illegal argument to a regular expression: {error}")))?;
        *last = Some((pattern.to_string(), regex.clone()));
        Ok(regex)
    })
}

/// `$`, `.name`, `."name"` and `[n]`; other paths are refused.
fn json_extract(text: &str, path: &str) -> Result<Datum> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
        Error::new(3141, format!("Invalid JSON text in argument 1 to function json_extract: {error}"))
    })?;
    let mut rest = path
        .trim()
        .strip_prefix('$')
        .ok_or_else(|| Error::new(3143, format!("Invalid JSON path expression '{path}'")))?;
    let mut found = Some(&value);
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let (index, after) = tail
                .split_once(']')
                .ok_or_else(|| Error::new(3143, format!("Invalid JSON path expression '{path}'")))?;
            let index: usize = index.trim().parse().map_err(|_| Error::unsupported(format!("JSON path {path}")))?;
            found = found.and_then(|value| value.get(index));
            rest = after;
        } else if let Some(tail) = rest.strip_prefix(".\"") {
            let (name, after) = tail
                .split_once('"')
                .ok_or_else(|| Error::new(3143, format!("Invalid JSON path expression '{path}'")))?;
            found = found.and_then(|value| value.get(name));
            rest = after;
        } else if let Some(tail) = rest.strip_prefix('.') {
            let end = tail.find(['.', '[']).unwrap_or(tail.len());
            if tail[..end].is_empty() || tail[..end].contains('*') {
                return Err(Error::unsupported(format!("JSON path {path}")));
            }
            found = found.and_then(|value| value.get(&tail[..end]));
            rest = &tail[end..];
        } else {
            return Err(Error::new(3143, format!("Invalid JSON path expression '{path}'")));
        }
    }
    Ok(found.map_or(Datum::Null, |value| Datum::Text(value.to_string())))
}
