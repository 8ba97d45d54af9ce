//! A frame: the unit that a stream carries, and its bytes. Pure: bytes in, frames out.
//!
//! ```text
//! offset  size  field
//!      0     4  payload length, little endian
//!      4     1  kind: 0-15 control, 16-127 message, 128-255 bulk; the class decides the largest payload
//!      5     1  flags: bit 0 = payload is compressed with zstd; every other bit is zero
//!      6     2  zero
//!      8     8  stream, little endian; zero on QUIC, where the connection itself has streams
//!     16     -  payload; if compressed: its original length (4 bytes, little endian), then one zstd frame
//! ```
//!
//! There is no checksum: TLS and QUIC authenticate every byte. The limits of `limits.rs` are part of the format.
//!
//! - A length is checked before a byte of the payload is stored; memory grows only as bytes arrive.
//! - A compressed payload never becomes larger than its class allows, whatever it claims.
//! - Bytes that break a rule end the session; no rule is stretched for old peers, versions are for that.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{
    BULK_BYTES_MAX, COMPRESS_FROM_BYTES, COMPRESS_LEVEL, CONTROL_BYTES_MAX, COPY_BYTES_MAX, FRAME_CHARGE_BYTES,
    MESSAGE_BYTES_MAX, UNTRUSTED_BYTES_MAX,
};

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 16;
const FLAG_COMPRESSED: u8 = 1;
/// Bytes of the original length before a compressed payload.
const ORIGINAL_BYTES: usize = 4;
const MESSAGE_FIRST: u8 = 16;
const BULK_FIRST: u8 = 128;

/// What a frame is about. The owner of a stream gives numbers their meaning; this crate keeps the control kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(u8);

impl Kind {
    /// The first frame of a session, from both sides.
    pub(crate) const HELLO: Kind = Kind(1);
    /// A listener's yes or no.
    pub(crate) const VERDICT: Kind = Kind(2);
    /// Nothing, but proof of life.
    pub(crate) const PING: Kind = Kind(3);
    /// The last frame of a session: why.
    pub(crate) const FAREWELL: Kind = Kind(4);
    /// A new stream.
    pub(crate) const OPEN: Kind = Kind(5);
    /// The reader of a stream made room for this many bytes more.
    pub(crate) const WINDOW: Kind = Kind(6);
    /// A stream's sender is done.
    pub(crate) const END: Kind = Kind(7);
    /// A stream's sender gave up.
    pub(crate) const RESET: Kind = Kind(8);
    /// A stream's receiver wants no more.
    pub(crate) const STOP: Kind = Kind(9);

    /// A message: payload up to [`MESSAGE_BYTES_MAX`]. `number` is below 112.
    pub const fn message(number: u8) -> Kind {
        assert!(number < BULK_FIRST - MESSAGE_FIRST, "a message kind is below 112");
        Kind(MESSAGE_FIRST + number)
    }

    /// Bulk: payload up to [`BULK_BYTES_MAX`]. `number` is below 128.
    pub const fn bulk(number: u8) -> Kind {
        assert!(number <= u8::MAX - BULK_FIRST, "a bulk kind is below 128");
        Kind(BULK_FIRST + number)
    }

    /// The number on the wire.
    pub const fn code(self) -> u8 {
        self.0
    }

    pub(crate) fn is_control(self) -> bool {
        self.0 < MESSAGE_FIRST
    }

    /// Largest payload, before compression and after decompression.
    pub const fn bytes_max(self) -> usize {
        match self.0 {
            0..MESSAGE_FIRST => CONTROL_BYTES_MAX,
            MESSAGE_FIRST..BULK_FIRST => MESSAGE_BYTES_MAX,
            BULK_FIRST.. => BULK_BYTES_MAX,
        }
    }
}

/// The unit that a stream carries, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is about.
    pub kind: Kind,
    /// Its content.
    pub payload: Bytes,
    /// Whether to try compression on the way; always false on arrival.
    pub compress: bool,
}

impl Frame {
    /// A frame that is sent as it is.
    pub fn new(kind: Kind, payload: impl Into<Bytes>) -> Frame {
        Frame { kind, payload: payload.into(), compress: false }
    }

    /// The same frame, compressed on the way if that makes it smaller.
    pub fn compressed(self) -> Frame {
        Frame { compress: true, ..self }
    }

    /// What goes over the wire. Fails if the payload is larger than its kind allows.
    pub(crate) fn seal(self) -> Result<Sealed, FrameError> {
        let max = self.kind.bytes_max();
        if self.payload.len() > max {
            return Err(FrameError::TooLarge { kind: self.kind, bytes: self.payload.len(), max });
        }
        if self.compress
            && self.payload.len() >= COMPRESS_FROM_BYTES
            && let Some(payload) = compress(&self.payload)
        {
            return Ok(Sealed { kind: self.kind, compressed: true, payload });
        }
        Ok(Sealed { kind: self.kind, compressed: false, payload: self.payload })
    }
}

/// The original length and the compressed bytes, if they are smaller than the original.
fn compress(payload: &[u8]) -> Option<Bytes> {
    let original = u32::try_from(payload.len()).expect("a payload is at most BULK_BYTES_MAX");
    // A failure to compress is no failure to send: the payload then goes as it is.
    let packed = zstd::bulk::compress(payload, COMPRESS_LEVEL).ok()?;
    if packed.len() + ORIGINAL_BYTES >= payload.len() {
        return None;
    }
    let mut bytes = Vec::with_capacity(packed.len() + ORIGINAL_BYTES);
    bytes.extend_from_slice(&original.to_le_bytes());
    bytes.extend_from_slice(&packed);
    Some(Bytes::from(bytes))
}

/// A frame as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub kind: Kind,
    pub compressed: bool,
    pub payload: Bytes,
}

impl Sealed {
    /// A control frame. Its payload is ours and small.
    pub(crate) fn control(kind: Kind, payload: impl Into<Bytes>) -> Sealed {
        let payload = payload.into();
        assert!(kind.is_control(), "{kind:?} is no control kind");
        assert!(payload.len() <= CONTROL_BYTES_MAX, "{} bytes exceed {CONTROL_BYTES_MAX}", payload.len());
        Sealed { kind, compressed: false, payload }
    }

    pub(crate) fn header(&self, stream: u64) -> [u8; HEADER_BYTES] {
        let length = u32::try_from(self.payload.len()).expect("a payload is at most BULK_BYTES_MAX");
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4] = self.kind.0;
        header[5] = if self.compressed { FLAG_COMPRESSED } else { 0 };
        header[8..].copy_from_slice(&stream.to_le_bytes());
        header
    }

    /// Its size on the wire, header included.
    pub(crate) fn wire_bytes(&self) -> u64 {
        (HEADER_BYTES + self.payload.len()) as u64
    }

    /// What it costs in a window of `window` bytes. A frame larger than the window takes all of it, so that it can
    /// be sent at all.
    pub(crate) fn charge(&self, window: u32) -> u32 {
        let bytes = u32::try_from(self.payload.len()).expect("a payload is at most BULK_BYTES_MAX");
        (bytes + FRAME_CHARGE_BYTES).min(window)
    }

    /// The frame that was sent. Fails if the payload is not what its header says, or would be too large.
    pub(crate) fn open(self, trusted: bool) -> Result<Frame, FrameError> {
        if !self.compressed {
            return Ok(Frame::new(self.kind, self.payload));
        }
        let max = bytes_max(self.kind, trusted);
        let mut packed = self.payload;
        if packed.len() < ORIGINAL_BYTES {
            return Err(FrameError::Compression(format!("{} bytes hold no original length", packed.len())));
        }
        let original = packed.get_u32_le() as usize;
        if original > max {
            return Err(FrameError::TooLarge { kind: self.kind, bytes: original, max });
        }
        let payload = zstd::bulk::decompress(&packed, original)
            .map_err(|error| FrameError::Compression(format!("{error} (original length {original})")))?;
        if payload.len() != original {
            let found = payload.len();
            return Err(FrameError::Compression(format!("{found} bytes came out, {original} were announced")));
        }
        Ok(Frame::new(self.kind, payload))
    }
}

fn bytes_max(kind: Kind, trusted: bool) -> usize {
    if trusted { kind.bytes_max() } else { kind.bytes_max().min(UNTRUSTED_BYTES_MAX) }
}

/// Why bytes are no frame, or a frame cannot become bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload is larger than its kind may be.
    #[error("a frame of kind {} has {bytes} bytes, at most {max} are allowed", kind.0)]
    TooLarge {
        /// The kind.
        kind: Kind,
        /// The size that it has or claims.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Bits are set that this version does not know.
    #[error("a frame header has flags {flags:#04x} and reserved bytes {reserved:#06x}, which mean nothing")]
    Header {
        /// The flags.
        flags: u8,
        /// The reserved bytes.
        reserved: u16,
    },
    /// A control kind that does not exist, or that may not come here.
    #[error("a control frame of kind {0} has no meaning here")]
    Kind(u8),
    /// The compressed payload is damaged or a trap.
    #[error("a compressed payload is bad: {0}")]
    Compression(String),
}

/// The fields of a header.
pub(crate) struct Header {
    pub length: usize,
    pub kind: Kind,
    pub compressed: bool,
    pub stream: u64,
}

impl Header {
    /// Checks everything that can be known before the payload arrives.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES], trusted: bool) -> Result<Header, FrameError> {
        let mut fields = &bytes[..];
        let length = fields.get_u32_le() as usize;
        let kind = Kind(fields.get_u8());
        let (flags, reserved) = (fields.get_u8(), fields.get_u16_le());
        let stream = fields.get_u64_le();
        if flags & !FLAG_COMPRESSED != 0 || reserved != 0 {
            return Err(FrameError::Header { flags, reserved });
        }
        let compressed = flags & FLAG_COMPRESSED != 0;
        if kind.is_control() && (kind.0 == 0 || kind > Kind::STOP || compressed) {
            return Err(FrameError::Kind(kind.0));
        }
        let max = bytes_max(kind, trusted);
        if length > max {
            return Err(FrameError::TooLarge { kind, bytes: length, max });
        }
        Ok(Header { length, kind, compressed, stream })
    }
}

/// Cuts a run of bytes into frames.
#[derive(Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Where arriving bytes are appended.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// True if a frame has begun and not ended.
    pub(crate) fn is_amid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// The next whole frame and its stream; `None` until more bytes arrive. After an error the bytes have no meaning.
    pub(crate) fn next(&mut self, trusted: bool) -> Result<Option<(u64, Sealed)>, FrameError> {
        let Some(bytes) = self.buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::parse(bytes, trusted)?;
        if self.buffer.len() < HEADER_BYTES + header.length {
            return Ok(None);
        }
        self.buffer.advance(HEADER_BYTES);
        let payload = self.buffer.split_to(header.length);
        // A small payload that is kept must not keep the whole chunk that it arrived in.
        let payload = if payload.len() <= COPY_BYTES_MAX { Bytes::copy_from_slice(&payload) } else { payload.freeze() };
        Ok(Some((header.stream, Sealed { kind: header.kind, compressed: header.compressed, payload })))
    }
}

#[cfg(test)]
mod tests;
