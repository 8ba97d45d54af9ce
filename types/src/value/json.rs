//! Whether a text is JSON (RFC 8259). Nothing is built: the column keeps the text.

/// Deeper nesting is refused, as MySQL does.
const MAX_DEPTH: usize = 100;

/// `Ok`, or the byte where the text stops being JSON.
pub(super) fn check(text: &str) -> Result<(), usize> {
    let mut input = Input { bytes: text.as_bytes(), at: 0 };
    input.value(0)?;
    input.spaces();
    if input.at == input.bytes.len() { Ok(()) } else { Err(input.at) }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, text: &[u8]) -> Result<(), usize> {
        if !self.bytes[self.at..].starts_with(text) {
            return Err(self.at);
        }
        self.at += text.len();
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), usize> {
        self.spaces();
        if depth > MAX_DEPTH {
            return Err(self.at);
        }
        match self.peek() {
            Some(b'{') => self.list(b'}', depth, true),
            Some(b'[') => self.list(b']', depth, false),
            Some(b'"') => self.string(),
            Some(b't') => self.expect(b"true"),
            Some(b'f') => self.expect(b"false"),
            Some(b'n') => self.expect(b"null"),
            _ => self.number(),
        }
    }

    fn list(&mut self, close: u8, depth: usize, named: bool) -> Result<(), usize> {
        self.at += 1;
        self.spaces();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            if named {
                self.spaces();
                self.string()?;
                self.spaces();
                self.expect(b":")?;
            }
            self.value(depth + 1)?;
            self.spaces();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.at),
            }
        }
    }

    fn string(&mut self) -> Result<(), usize> {
        self.expect(b"\"")?;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    match self.peek() {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
                        Some(b'u') => {
                            let digits = self.bytes.get(self.at + 1..self.at + 5).ok_or(self.at)?;
                            if !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(self.at);
                            }
                            self.at += 5;
                        }
                        _ => return Err(self.at),
                    }
                }
                Some(0..=0x1f) | None => return Err(self.at),
                Some(_) => self.at += 1,
            }
        }
    }

    fn digits(&mut self) -> Result<(), usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(start) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), usize> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn json_is_told_from_other_text() {
        for text in ["1", " {\"a\": [1, 2.5e-3, \"x\\u00e9\", null, true], \"b\": {}} ", "[]", "\"\""] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for (text, at) in
            [("", 0), ("{", 1), ("[1,]", 3), ("01", 1), ("{\"a\"}", 4), ("tru", 0), ("1 2", 2), ("\"\n\"", 1)]
        {
            assert_eq!(check(text), Err(at), "{text}");
        }
        assert!(check(&"[".repeat(10_000)).is_err());
    }
}
