//! Text cut into tokens, as MySQL cuts it: enough to split statements, to parse the statements that are ours, and to
//! quote the place of an error.
//!
//! `/*! … */` and `/*!NNNNN … */` are code to MySQL and are read as such; other comments are spaces.

use crate::error::{Error, Result};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or an identifier without quotes.
    Word(String),
    /// An identifier in backticks, without them.
    Quoted(String),
    /// A string, its escapes resolved.
    Text(String),
    /// A number as written.
    Number(String),
    /// `x'…'` or `0x…`: the digits.
    Hex(String),
    /// One character, or one of `@@`, `:=`, `<=`, `>=`, `<>`, `!=`, `&&`, `||`.
    Symbol(&'static str),
    /// The end of the text.
    End,
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
    /// Line, counted from 1.
    pub line: usize,
}

const SYMBOLS: [&str; 40] = [
    "<=>", "->>", "@@", ":=", "<=", ">=", "<>", "!=", "&&", "||", "<<", ">>", "->", "(", ")", ",", ";", ".", "=", "<",
    ">", "+", "-", "*", "/", "%", "@", ":", "!", "&", "|", "^", "~", "?", "{", "}", "[", "]", "\\", "$",
];

/// All tokens of a text; the last one is `End`.
pub fn tokenize(text: &str) -> Result<Vec<Token>> {
    let mut lexer = Lexer { text, at: 0, line: 1, in_hint: false, tokens: Vec::new() };
    while lexer.step()? {}
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    in_hint: bool,
    tokens: Vec<Token>,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) {
        self.line += self.text[self.at..self.at + bytes].matches('\n').count();
        self.at += bytes;
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let (start, line) = (self.at, self.line);
        self.advance(length);
        self.tokens.push(Token { kind, start, end: self.at, line });
    }

    /// Reads one token or one stretch of space; false at the end.
    fn step(&mut self) -> Result<bool> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            self.push(Kind::End, 0);
            return Ok(false);
        };
        if let Some(length) = self.space()? {
            self.advance(length);
            return Ok(true);
        }
        let rest = self.rest();
        match first {
            '\'' | '"' => {
                let (value, length) = self.quoted(first)?;
                self.push(Kind::Text(value), length);
            }
            '`' => {
                let (value, length) = self.quoted('`')?;
                self.push(Kind::Quoted(value), length);
            }
            'x' | 'X' if rest[1..].starts_with('\'') => {
                let close = rest[2..].find('\'').ok_or_else(|| self.unfinished())?;
                let digits = rest[2..2 + close].to_string();
                self.push(Kind::Hex(digits), close + 3);
            }
            '0' if rest[1..].starts_with('x') && rest[2..].starts_with(|c: char| c.is_ascii_hexdigit()) => {
                let digits: String = rest[2..].chars().take_while(char::is_ascii_hexdigit).collect();
                let length = digits.len() + 2;
                self.push(Kind::Hex(digits), length);
            }
            '0'..='9' => self.number(),
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) && !self.after_name() => self.number(),
            _ if is_word(first) => {
                let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
                let length = word.len();
                self.push(Kind::Word(word), length);
            }
            _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
                Some(symbol) => self.push(Kind::Symbol(symbol), symbol.len()),
                None => return Err(Error::syntax(rest, self.line)),
            },
        }
        Ok(true)
    }

    /// Whether the last token ends right here and is a name: then a point goes on with it.
    fn after_name(&self) -> bool {
        self.tokens.last().is_some_and(|token| {
            token.end == self.at && matches!(token.kind, Kind::Word(_) | Kind::Quoted(_) | Kind::Text(_))
        })
    }

    /// Length of the space or comment that begins here.
    fn space(&mut self) -> Result<Option<usize>> {
        let rest = self.rest();
        let blank = rest.len() - rest.trim_start().len();
        if blank > 0 {
            return Ok(Some(blank));
        }
        let to_line_end = || rest.find('\n').unwrap_or(rest.len());
        if rest.starts_with('#') || rest == "--" || rest.starts_with("-- ") || rest.starts_with("--\n") {
            return Ok(Some(to_line_end()));
        }
        if let Some(hidden) = rest.strip_prefix("/*!") {
            let digits = hidden.bytes().take_while(u8::is_ascii_digit).count();
            self.in_hint = true;
            return Ok(Some(3 + digits));
        }
        if self.in_hint && rest.starts_with("*/") {
            self.in_hint = false;
            return Ok(Some(2));
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| self.unfinished())?;
            return Ok(Some(end + 4));
        }
        Ok(None)
    }

    fn unfinished(&self) -> Error {
        Error::syntax(self.rest(), self.line)
    }

    /// The value of what stands in quotes here, and its length with them.
    fn quoted(&self, quote: char) -> Result<(String, usize)> {
        let mut value = String::new();
        let mut chars = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                    value.push(quote);
                    continue;
                }
                return Ok((value, at + quote.len_utf8()));
            }
            if c != '\\' || quote == '`' {
                value.push(c);
                continue;
            }
            let Some((_, escaped)) = chars.next() else { break };
            match escaped {
                '0' => value.push('\0'),
                'b' => value.push('\x08'),
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                'Z' => value.push('\x1a'),
                // Kept for LIKE patterns, as MySQL does.
                '%' | '_' => value.extend(['\\', escaped]),
                other => value.push(other),
            }
        }
        Err(self.unfinished())
    }

    fn number(&mut self) {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut length = digits(0);
        if bytes.get(length) == Some(&b'.') {
            length += 1 + digits(length + 1);
        }
        if matches!(bytes.get(length), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
            let exponent = digits(length + 1 + sign);
            length += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        // `2024x` and `1st` are names to MySQL.
        let tail = self.rest()[length..].chars().take_while(|c| is_word(*c)).map(char::len_utf8).sum::<usize>();
        let text = self.rest()[..length + tail].to_string();
        let kind = if tail > 0 && !text.contains('.') { Kind::Word(text) } else { Kind::Number(text) };
        self.push(kind, length + tail);
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokenize(text).unwrap().into_iter().map(|token| token.kind).collect()
    }

    #[test]
    fn words_strings_numbers_and_symbols() {
        use Kind::*;
        assert_eq!(
            kinds("a.`b c` 'it''s\\n' \"x\" 1.5e3 .5 x'0A' 0xff <=> @@v ?"),
            vec![
                Word("a".into()),
                Symbol("."),
                Quoted("b c".into()),
                Text("it's\n".into()),
                Text("x".into()),
                Number("1.5e3".into()),
                Number(".5".into()),
                Hex("0A".into()),
                Hex("ff".into()),
                Symbol("<=>"),
                Symbol("@@"),
                Word("v".into()),
                Symbol("?"),
                End
            ]
        );
    }

    #[test]
    fn comments_are_spaces_and_hints_are_code() {
        let words = kinds("a -- b\n # c\n /* d */ /*!40101 e */ f--1");
        assert_eq!(words.len(), 7, "{words:?}");
        assert!(words.contains(&Kind::Word("e".into())));
    }

    #[test]
    fn lines_are_counted() {
        assert_eq!(tokenize("a\n'x\ny'\nb").unwrap().iter().map(|token| token.line).collect::<Vec<_>>(), [1, 2, 4, 4]);
    }

    #[test]
    fn what_does_not_end_is_an_error() {
        for text in ["'a", "`a", "/* a", "x'0", "'a\\"] {
            assert_eq!(tokenize(text).unwrap_err().code, 1064, "{text}");
        }
    }
}
