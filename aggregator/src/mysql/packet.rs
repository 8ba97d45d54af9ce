//! Framing: a packet's payload travels in frames of at most 2^24 - 1 bytes.
//!
//! ```text
//!  3 bytes  length of this frame's payload, lowest byte first
//!  1 byte   sequence number, 0 for the first frame of a command, then one more for each frame of either side
//!  n bytes  payload
//! ```
//!
//! A frame of exactly 2^24 - 1 bytes is continued by the next one, which may be empty. [`Framer`] turns bytes
//! into payloads. A wrong sequence number is refused as soon as a frame's header is there, and so is a payload
//! over the limit; of a client that is known the latter is read to its end and dropped first, so that the error
//! comes when the client listens, under the sequence number that it expects. What is stored grows with what came,
//! not with what was announced, and is never more than the limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Payload bytes of a frame that is continued by another.
pub const FRAME_BYTES_MAX: usize = 0xff_ffff;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 4;

/// The frames are not those of a client that follows the protocol; where the next one begins is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Error 1156.
    #[error("packets out of order: got sequence number {found}, expected {expected}")]
    OutOfOrder { found: u8, expected: u8 },
    /// Error 1153.
    #[error("packet is larger than {limit} bytes (max_allowed_packet)")]
    TooLarge { limit: usize },
}

/// Joins frames into payloads. Invariants: `partial` holds at most `limit` bytes; `remaining` is the part of the
/// current frame that has not come yet.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    sequence: u8,
    partial: BytesMut,
    frame: Option<Frame>,
    /// Read a payload over the limit to its end.
    drops_excess: bool,
    /// The current payload is over the limit.
    is_dropping: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    remaining: usize,
    continued: bool,
}

impl Framer {
    /// Accepts payloads of at most `limit` bytes; the first frame must have sequence number 0.
    pub fn new(limit: usize) -> Framer {
        Framer { limit, sequence: 0, partial: BytesMut::new(), frame: None, drops_excess: false, is_dropping: false }
    }

    /// Payloads may have `limit` bytes from now on; larger ones are read to their end before they are refused.
    pub fn trust(&mut self, limit: usize) {
        self.limit = limit;
        self.drops_excess = true;
    }

    /// The sequence number that the next frame of either side must have.
    pub fn sequence(&mut self) -> &mut u8 {
        &mut self.sequence
    }

    /// True between packets: nothing of the next one has been taken.
    pub fn is_idle(&self) -> bool {
        self.frame.is_none() && self.partial.is_empty()
    }

    /// How many bytes to add to an input of `buffered` bytes before [`Framer::decode`] can do more; never more
    /// than the current frame has.
    pub fn wanted(&self, buffered: usize) -> usize {
        let needed = self.frame.map_or(HEADER_BYTES, |frame| frame.remaining);
        needed.saturating_sub(buffered).max(1)
    }

    /// Takes bytes from `input` up to the end of one packet; `None` when more must come.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None if input.len() < HEADER_BYTES => return Ok(None),
                None => self.header(input)?,
            };
            let taken = frame.remaining.min(input.len());
            let is_whole = taken == frame.remaining && !frame.continued && self.partial.is_empty();
            if is_whole && !self.is_dropping {
                self.frame = None;
                return Ok(Some(input.split_to(taken).freeze()));
            }
            if !self.is_dropping {
                self.partial.extend_from_slice(&input[..taken]);
            }
            input.advance(taken);
            if taken < frame.remaining {
                self.frame = Some(Frame { remaining: frame.remaining - taken, ..frame });
                return Ok(None);
            }
            self.frame = None;
            if !frame.continued && self.is_dropping {
                self.is_dropping = false;
                return Err(FrameError::TooLarge { limit: self.limit });
            }
            if !frame.continued {
                return Ok(Some(std::mem::take(&mut self.partial).freeze()));
            }
        }
    }

    fn header(&mut self, input: &mut BytesMut) -> Result<Frame, FrameError> {
        let remaining = input.get_uint_le(3) as usize;
        let found = input.get_u8();
        if found != self.sequence {
            return Err(FrameError::OutOfOrder { found, expected: self.sequence });
        }
        if self.partial.len() + remaining > self.limit {
            if !self.drops_excess {
                return Err(FrameError::TooLarge { limit: self.limit });
            }
            self.partial = BytesMut::new();
            self.is_dropping = true;
        }
        self.sequence = self.sequence.wrapping_add(1);
        let frame = Frame { remaining, continued: remaining == FRAME_BYTES_MAX };
        self.frame = Some(frame);
        Ok(frame)
    }
}

/// Appends a packet to `out`: `write` appends its payload, the frames are put around it.
pub fn put_packet(out: &mut BytesMut, sequence: &mut u8, write: impl FnOnce(&mut BytesMut)) {
    let header = out.len();
    out.put_bytes(0, HEADER_BYTES);
    write(out);
    let length = out.len() - header - HEADER_BYTES;
    if length < FRAME_BYTES_MAX {
        put_header(&mut out[header..], length, sequence);
    } else {
        let payload = out.split_off(header + HEADER_BYTES);
        out.truncate(header);
        put_frames(out, sequence, &payload);
    }
}

/// The frames of a payload of 2^24 - 1 bytes or more; the last of them is a short one, if need be an empty one.
fn put_frames(out: &mut BytesMut, sequence: &mut u8, payload: &[u8]) {
    out.reserve(payload.len() + HEADER_BYTES * (payload.len() / FRAME_BYTES_MAX + 1));
    let mut rest = payload;
    loop {
        let (frame, tail) = rest.split_at(rest.len().min(FRAME_BYTES_MAX));
        let header = out.len();
        out.put_bytes(0, HEADER_BYTES);
        put_header(&mut out[header..], frame.len(), sequence);
        out.put_slice(frame);
        rest = tail;
        if frame.len() < FRAME_BYTES_MAX {
            return;
        }
    }
}

fn put_header(mut header: &mut [u8], length: usize, sequence: &mut u8) {
    header.put_uint_le(length as u64, 3);
    header.put_u8(*sequence);
    *sequence = sequence.wrapping_add(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(payload: &[u8], first: u8) -> BytesMut {
        let mut out = BytesMut::new();
        let mut sequence = first;
        put_packet(&mut out, &mut sequence, |out| out.put_slice(payload));
        out
    }

    proptest! {
        #[test]
        fn packets_round_trip_however_they_are_cut(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
            piece in 1usize..40,
        ) {
            let mut stream = BytesMut::new();
            let mut sequence = 0;
            for payload in &payloads {
                put_packet(&mut stream, &mut sequence, |out| out.put_slice(payload));
            }
            let (mut framer, mut input, mut found) = (Framer::new(300), BytesMut::new(), Vec::new());
            for bytes in stream.chunks(piece) {
                input.put_slice(bytes);
                while let Some(payload) = framer.decode(&mut input).unwrap() {
                    found.push(payload.to_vec());
                }
            }
            prop_assert_eq!(found, payloads);
            prop_assert!(framer.is_idle());
        }

        #[test]
        fn any_bytes_are_packets_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (mut framer, mut input) = (Framer::new(64), BytesMut::from(&bytes[..]));
            while let Ok(Some(payload)) = framer.decode(&mut input) {
                prop_assert!(payload.len() <= 64);
            }
            prop_assert!(framer.partial.len() <= 64);
        }
    }

    #[test]
    fn payloads_around_the_frame_size_are_split_and_joined() {
        for length in [FRAME_BYTES_MAX - 1, FRAME_BYTES_MAX, FRAME_BYTES_MAX + 1, 2 * FRAME_BYTES_MAX] {
            let payload: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let mut input = framed(&payload, 0);
            assert_eq!(input.len(), length + HEADER_BYTES * (length / FRAME_BYTES_MAX + 1));
            let mut framer = Framer::new(length);
            assert_eq!(framer.decode(&mut input).unwrap().unwrap(), payload);
            assert_eq!(*framer.sequence() as usize, length / FRAME_BYTES_MAX + 1);
        }
    }

    #[test]
    fn too_large_is_refused_at_the_header() {
        let mut input = BytesMut::from(&[0xff, 0xff, 0xff, 0][..]);
        assert_eq!(Framer::new(1000).decode(&mut input), Err(FrameError::TooLarge { limit: 1000 }));
        let mut input = framed(&vec![0; FRAME_BYTES_MAX + 10], 0);
        let limit = FRAME_BYTES_MAX + 9;
        assert_eq!(Framer::new(limit).decode(&mut input), Err(FrameError::TooLarge { limit }));
    }

    #[test]
    fn too_much_of_a_known_client_is_dropped_up_to_its_end() {
        let mut framer = Framer::new(0);
        framer.trust(1000);
        let mut input = framed(&vec![1; 2 * FRAME_BYTES_MAX], 0);
        let mut error = None;
        let mut rest = input.split_off(5000);
        while !rest.is_empty() && error.is_none() {
            error = framer.decode(&mut input).err();
            assert!(framer.partial.capacity() <= 1000);
            input.unsplit(rest.split_to(rest.len().min(100_000)));
        }
        assert_eq!(error.or(framer.decode(&mut input).err()), Some(FrameError::TooLarge { limit: 1000 }));
        assert_eq!(*framer.sequence(), 3);
        *framer.sequence() = 0;
        assert_eq!(framer.decode(&mut framed(b"next", 0)).unwrap().unwrap(), &b"next"[..]);
    }

    #[test]
    fn an_announced_length_reserves_nothing() {
        let mut framer = Framer::new(64 << 20);
        let mut input = BytesMut::from(&[0xff, 0xff, 0xff, 0, 1, 2, 3][..]);
        assert_eq!(framer.decode(&mut input), Ok(None));
        assert!(framer.partial.capacity() < 4096, "{} bytes reserved for 3", framer.partial.capacity());
        assert_eq!(framer.wanted(0), FRAME_BYTES_MAX - 3);
    }

    #[test]
    fn a_wrong_sequence_number_is_refused() {
        let mut input = framed(b"\x03SELECT 1", 5);
        assert_eq!(Framer::new(1000).decode(&mut input), Err(FrameError::OutOfOrder { found: 5, expected: 0 }));
    }
}
