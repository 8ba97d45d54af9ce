//! Statements as clients send them: UTF-8, but for string literals, which may hold any bytes.
//!
//! Both parsers read text. So a literal that is no UTF-8 is written as `_utf8mb4 x'…'`: bytes that were meant as text.
//! `normalize` takes it where bytes can stand, that is as the value of a column and in a comparison, and refuses it
//! elsewhere. Nothing replaces a byte by another character.

use std::borrow::Cow;
use std::fmt::Write;

use crate::error::{Error, Result};
use crate::parse::is_word;
use crate::token::{Kind, Token, tokenize};

/// Stands for a byte that is not UTF-8 while the text is cut into tokens. One byte long, so that places stay; no token
/// but what is in quotes can hold it.
const MARK: u8 = 0x7F;

/// Statements whose literals are values of rows. Others have names and options in quotes: these are UTF-8.
const WITH_VALUES: [&str; 7] = ["SELECT", "INSERT", "REPLACE", "UPDATE", "DELETE", "WITH", "EXPLAIN"];

/// The text of statements. 1300 if bytes outside of string literals are no UTF-8.
pub fn statement_text(bytes: &[u8]) -> Result<Cow<'_, str>> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    let marked = marked(bytes);
    // A mark outside of quotes is no token.
    let tokens = tokenize(&marked).map_err(|_| invalid(bytes))?;
    let (mut text, mut copied) = (String::with_capacity(2 * bytes.len()), 0);
    let mut has_values = false;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &tokens[before].kind);
        if matches!(before, None | Some(Kind::Symbol(";"))) {
            has_values = WITH_VALUES.iter().any(|known| is_word(token, known));
        }
        let Kind::Text(value) = &token.kind else { continue };
        let (sent, shown) = (&bytes[token.start..token.end], &marked.as_bytes()[token.start..token.end]);
        if sent == shown {
            continue;
        }
        if !has_values {
            return Err(invalid(bytes));
        }
        push_plain(bytes, &marked, copied..token.start, &mut text)?;
        // What stands before may be a character set already.
        let named = at > 0 && is_introducer(&tokens[at - 1]);
        text.push_str(if named { " x'" } else { " _utf8mb4 x'" });
        for byte in value_of(value, sent, shown) {
            write!(text, "{byte:02x}").expect("a string takes everything");
        }
        text.push('\'');
        copied = token.end;
    }
    push_plain(bytes, &marked, copied..bytes.len(), &mut text)?;
    Ok(Cow::Owned(text))
}

/// 1300: these bytes should be UTF-8.
pub(crate) fn invalid(bytes: &[u8]) -> Error {
    let start = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
    let sample: String = bytes[start..].iter().take(6).map(|byte| format!("\\x{byte:02X}")).collect();
    let text = format!(
        "Invalid utf8mb4 character string: '{sample}'; statements and texts are utf8mb4, a literal for a binary column \
         may hold other bytes"
    );
    Error::new(1300, text)
}

/// The bytes with a mark for each that is not UTF-8.
fn marked(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::from(MARK)));
    }
    text
}

/// Copies what is no literal of such bytes.
fn push_plain(bytes: &[u8], marked: &str, range: std::ops::Range<usize>, text: &mut String) -> Result<()> {
    let plain = &marked[range.clone()];
    // A comment can hold marks.
    if plain.as_bytes() != &bytes[range] {
        return Err(invalid(bytes));
    }
    text.push_str(plain);
    Ok(())
}

fn is_introducer(token: &Token) -> bool {
    matches!(&token.kind, Kind::Word(word) if word.starts_with('_'))
}

/// The value of a literal, its marks resolved: they are in it in the order in which they are in what was sent.
fn value_of(value: &str, sent: &[u8], shown: &[u8]) -> Vec<u8> {
    let mut marks = sent.iter().zip(shown).filter(|(_, shown)| **shown == MARK).map(|(sent, _)| *sent);
    value.bytes().map(|byte| if byte == MARK { marks.next().unwrap_or(MARK) } else { byte }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        statement_text(bytes).unwrap().into_owned()
    }

    #[test]
    fn literals_hold_any_bytes() {
        assert_eq!(text("SELECT 'Grüße'".as_bytes()), "SELECT 'Grüße'");
        assert_eq!(text(b"INSERT INTO t VALUES (1,'\\0\xff')"), "INSERT INTO t VALUES (1, _utf8mb4 x'00ff')");
        assert_eq!(text(b"INSERT INTO t VALUES (_binary'\xff\\'')"), "INSERT INTO t VALUES (_binary x'ff27')");
        assert_eq!(text(b"SELECT 'a', \"\x7f\xfe''\\\xfd\""), "SELECT 'a',  _utf8mb4 x'7ffe2727fd'");
        assert_eq!(
            text(b"select 'ok'; delete from t where a='\xc3'"),
            "select 'ok'; delete from t where a= _utf8mb4 x'c3'"
        );
        // The first two bytes of a character are not the third.
        assert_eq!(text(b"SELECT '\xe2\x82\xc3\xbc'"), "SELECT  _utf8mb4 x'e282c3bc'");
    }

    #[test]
    fn everything_else_is_utf8() {
        for bytes in [
            &b"SELECT \xff"[..],
            b"SELECT 1 /* \xff */",
            b"SELECT `\xff`",
            b"SELECT x'\xff'",
            b"SELECT '\xff",
            b"SELECT 1; \xff SELECT 'a'",
            b"CREATE TABLE t (a INT COMMENT '\xff')",
            b"SELECT '\xff'; SET @a = '\xff'",
            b"\xff",
        ] {
            let error = statement_text(bytes).unwrap_err();
            assert_eq!(error.code, 1300, "{bytes:?}");
            assert!(error.message.starts_with("Invalid utf8mb4 character string: '\\xFF"), "{error}");
        }
    }

    /// Every byte, in both quotes, escaped as drivers do.
    #[test]
    fn bytes_stay_what_they_are() {
        let all: Vec<u8> = (0..=255).collect();
        for quote in [b'\'', b'"'] {
            let mut sent = b"SELECT ".to_vec();
            sent.push(quote);
            for byte in &all {
                if matches!(*byte, b'\\' | b'\'' | b'"') {
                    sent.push(b'\\');
                }
                sent.push(*byte);
            }
            sent.push(quote);
            let digits: String = all.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text(&sent), format!("SELECT  _utf8mb4 x'{digits}'"));
        }
    }
}
