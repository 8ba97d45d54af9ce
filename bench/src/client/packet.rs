//! Packets: three bytes of length, one that counts, the payload. A payload of 2^24-1 bytes or more comes in several.

use std::io::{Read, Write};

use super::error::{ClientError, ServerError};

/// The largest payload of one packet.
const PACKET_BYTES_MAX: usize = 0xff_ffff;
/// The largest payload that is believed, as a bound on memory: what the server itself takes at most.
const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// Packets over a connection.
pub struct Wire<R, W> {
    reader: R,
    writer: W,
    sequence: u8,
    payload: Vec<u8>,
}

impl<R: Read, W: Write> Wire<R, W> {
    /// Over these two halves.
    pub fn new(reader: R, writer: W) -> Wire<R, W> {
        Wire { reader, writer, sequence: 0, payload: Vec::new() }
    }

    /// A command begins to count anew.
    pub fn begin_command(&mut self) {
        self.sequence = 0;
    }

    /// Writes a payload; it may stay in the buffer until `flush`.
    pub fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        let mut rest = payload;
        loop {
            let (now, later) = rest.split_at(rest.len().min(PACKET_BYTES_MAX));
            let length = (now.len() as u32).to_le_bytes();
            self.writer.write_all(&[length[0], length[1], length[2], self.sequence])?;
            self.writer.write_all(now)?;
            self.sequence = self.sequence.wrapping_add(1);
            rest = later;
            if now.len() < PACKET_BYTES_MAX {
                return Ok(());
            }
        }
    }

    /// Sends what is in the buffer.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        Ok(self.writer.flush()?)
    }

    /// The next payload. An error packet is an error.
    pub fn receive(&mut self) -> Result<&[u8], ClientError> {
        self.payload.clear();
        loop {
            let mut header = [0; 4];
            self.reader.read_exact(&mut header)?;
            let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
            if header[3] != self.sequence {
                let text = format!("packet {} comes where {} is next", header[3], self.sequence);
                return Err(ClientError::Protocol(text));
            }
            self.sequence = self.sequence.wrapping_add(1);
            let start = self.payload.len();
            if start + length > PAYLOAD_BYTES_MAX {
                return Err(ClientError::Protocol(format!("a payload has more than {PAYLOAD_BYTES_MAX} bytes")));
            }
            self.payload.resize(start + length, 0);
            self.reader.read_exact(&mut self.payload[start..])?;
            if length < PACKET_BYTES_MAX {
                break;
            }
        }
        match self.payload.first() {
            Some(0xff) => Err(error_of(&self.payload[1..])?.into()),
            _ => Ok(&self.payload),
        }
    }
}

/// An error packet behind its first byte.
fn error_of(payload: &[u8]) -> Result<ServerError, ClientError> {
    let mut cursor = Cursor(payload);
    let code = u16::from_le_bytes(cursor.array()?);
    let (state, message) = match cursor.0 {
        [b'#', rest @ ..] if rest.len() >= 5 => (String::from_utf8_lossy(&rest[..5]).into_owned(), &rest[5..]),
        // Before the login is through, errors have no SQLSTATE.
        rest => ("HY000".to_string(), rest),
    };
    Ok(ServerError { code, state, message: String::from_utf8_lossy(message).into_owned() })
}

/// Reads a payload from its front.
pub struct Cursor<'a>(pub &'a [u8]);

impl<'a> Cursor<'a> {
    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], ClientError> {
        if length > self.0.len() {
            let text = format!("a packet ends {} bytes too early", length - self.0.len());
            return Err(ClientError::Protocol(text));
        }
        let (now, later) = self.0.split_at(length);
        self.0 = later;
        Ok(now)
    }

    /// So many bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], ClientError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("it has as many bytes as were asked for"))
    }

    /// Up to a zero byte, which is taken too, or to the end.
    pub fn until_zero(&mut self) -> &'a [u8] {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = &self.0[..end.unwrap_or(self.0.len())];
        self.0 = end.map_or(&[], |end| &self.0[end + 1..]);
        text
    }

    /// A number of variable length.
    pub fn number(&mut self) -> Result<u64, ClientError> {
        let [first] = self.array()?;
        Ok(match first {
            0xfc => u64::from(u16::from_le_bytes(self.array()?)),
            0xfd => {
                let [a, b, c] = self.array()?;
                u64::from(u32::from_le_bytes([a, b, c, 0]))
            }
            0xfe => u64::from_le_bytes(self.array()?),
            0xfb | 0xff => return Err(ClientError::Protocol(format!("{first:#x} begins no number"))),
            small => u64::from(small),
        })
    }

    /// Bytes with their number in front.
    pub fn counted(&mut self) -> Result<&'a [u8], ClientError> {
        let length = self.number()?;
        self.bytes(usize::try_from(length).unwrap_or(usize::MAX))
    }
}
