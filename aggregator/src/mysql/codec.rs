//! The protocol's elementary encodings: little-endian integers, length-encoded integers and strings.
//!
//! A length-encoded integer is one byte below 251, or a marker and the value:
//!
//! | first byte | meaning |
//! |---|---|
//! | 0x00 to 0xfa | the value itself |
//! | 0xfb | NULL, in a row of text only |
//! | 0xfc, 0xfd, 0xfe | the value follows in 2, 3, 8 bytes |
//! | 0xff | never; it begins an error packet |

use bytes::{BufMut, BytesMut};

/// A packet ended too early, or holds what its type does not allow. The connection may go on: where the next
/// packet begins does not depend on what is inside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet: {0}")]
pub struct Malformed(pub &'static str);

/// Reads a packet's payload from front to back.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `payload` from its first byte.
    pub fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { rest: payload }
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left; nothing is left after it.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The next `count` bytes; `what` names them in the error.
    pub fn bytes(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(Malformed(what))?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Malformed(what))?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Two bytes, the lowest first.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        self.array(what).map(u16::from_le_bytes)
    }

    /// Four bytes, the lowest first.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// Eight bytes, the lowest first.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length-encoded integer; NULL (0xfb) and 0xff are malformed here.
    pub fn length(&mut self, what: &'static str) -> Result<u64, Malformed> {
        match self.u8(what)? {
            short @ 0..=0xfa => Ok(u64::from(short)),
            0xfc => self.u16(what).map(u64::from),
            0xfd => {
                let [a, b, c] = self.array(what)?;
                Ok(u64::from(u32::from_le_bytes([a, b, c, 0])))
            }
            0xfe => self.u64(what),
            0xfb | 0xff => Err(Malformed(what)),
        }
    }

    /// A string with its length in front.
    pub fn length_bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let length = self.length(what)?;
        self.bytes(usize::try_from(length).map_err(|_| Malformed(what))?, what)
    }

    /// A string up to a zero byte, which is consumed. Clients leave the last zero of a packet out, so the end of
    /// the packet ends the string too.
    pub fn nul_bytes(&mut self) -> &'a [u8] {
        match self.rest.iter().position(|&byte| byte == 0) {
            Some(end) => {
                let text = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                text
            }
            None => self.rest(),
        }
    }
}

/// Appends a length-encoded integer.
pub fn put_length(out: &mut BytesMut, value: u64) {
    match value {
        0..=0xfa => out.put_u8(value as u8),
        0xfb..=0xffff => {
            out.put_u8(0xfc);
            out.put_u16_le(value as u16);
        }
        0x1_0000..=0xff_ffff => {
            out.put_u8(0xfd);
            out.put_uint_le(value, 3);
        }
        _ => {
            out.put_u8(0xfe);
            out.put_u64_le(value);
        }
    }
}

/// Appends a string with its length in front.
pub fn put_length_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_length(out, bytes.len() as u64);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lengths_round_trip(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = BytesMut::new();
            put_length(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.length("value"), Ok(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn strings_round_trip(text in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let mut out = BytesMut::new();
            put_length_bytes(&mut out, &text);
            prop_assert_eq!(Reader::new(&out).length_bytes("text"), Ok(&text[..]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                if reader.length_bytes("any").is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn a_length_beyond_the_packet_is_malformed() {
        let huge = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'x'];
        assert_eq!(Reader::new(&huge).length_bytes("name"), Err(Malformed("name")));
        assert_eq!(Reader::new(&[0xfb]).length("count"), Err(Malformed("count")));
    }

    #[test]
    fn a_string_ends_at_a_zero_or_with_the_packet() {
        let mut reader = Reader::new(b"root\0db");
        assert_eq!(reader.nul_bytes(), b"root");
        assert_eq!(reader.nul_bytes(), b"db");
        assert_eq!(reader.nul_bytes(), b"");
    }
}
