//! The frames of a copy, and their bytes. Integers are little-endian.
//!
//! | frame | payload |
//! |---|---|
//! | ASK | database u64, ordinal i32, life of the replica that asks u64 |
//! | MANIFEST | the manifest's bytes, `storage::snapshot` |
//! | NEXT | file u32, offset u64 |
//! | CHUNK | file u32, offset u64, CRC32C u32, bytes |
//! | REFUSED | text |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use replication::Life;
use storage::snapshot::{Chunk, Manifest};
use transport::frame::{Frame, Kind};
use types::{DatabaseId, Ordinal, PartitionId};

use super::CopyError;

const ASK: Kind = Kind::message(3);
const NEXT: Kind = Kind::message(4);
const REFUSED: Kind = Kind::message(5);
const MANIFEST: Kind = Kind::bulk(2);
const CHUNK: Kind = Kind::bulk(3);

/// Bytes of a chunk before those of the file.
const CHUNK_HEADER: usize = 16;

/// What the server says.
#[derive(Debug)]
pub enum Said {
    Manifest(Manifest),
    Chunk(Chunk),
    Refused(String),
}

pub fn ask(id: PartitionId, life: Life) -> Frame {
    let mut out = BytesMut::with_capacity(20);
    out.put_u64_le(id.database.0);
    out.put_i32_le(id.ordinal.0);
    out.put_u64_le(life.0);
    Frame::new(ASK, out.freeze())
}

pub fn decode_ask(frame: &Frame) -> Result<(PartitionId, Life), CopyError> {
    let mut payload = expect(frame, ASK, "ASK", 20)?;
    let id = PartitionId { database: DatabaseId(payload.get_u64_le()), ordinal: Ordinal(payload.get_i32_le()) };
    Ok((id, Life(payload.get_u64_le())))
}

pub fn next(file: u32, offset: u64) -> Frame {
    let mut out = BytesMut::with_capacity(12);
    out.put_u32_le(file);
    out.put_u64_le(offset);
    Frame::new(NEXT, out.freeze())
}

pub fn decode_next(frame: &Frame) -> Result<(u32, u64), CopyError> {
    let mut payload = expect(frame, NEXT, "NEXT", 12)?;
    Ok((payload.get_u32_le(), payload.get_u64_le()))
}

pub fn refused(text: &str) -> Frame {
    Frame::new(REFUSED, Bytes::copy_from_slice(text.as_bytes()))
}

pub fn manifest(manifest: &Manifest) -> Frame {
    Frame::new(MANIFEST, manifest.encode())
}

pub fn chunk(chunk: &Chunk) -> Frame {
    let mut out = BytesMut::with_capacity(CHUNK_HEADER + chunk.bytes.len());
    out.put_u32_le(chunk.file);
    out.put_u64_le(chunk.offset);
    out.put_u32_le(chunk.crc);
    out.put_slice(&chunk.bytes);
    Frame::new(CHUNK, out.freeze())
}

/// Reads a frame of the server.
pub fn decode_said(frame: Frame) -> Result<Said, CopyError> {
    match frame.kind {
        MANIFEST => Ok(Said::Manifest(Manifest::decode(frame.payload)?)),
        REFUSED => Ok(Said::Refused(String::from_utf8_lossy(&frame.payload).into_owned())),
        CHUNK if frame.payload.len() >= CHUNK_HEADER => {
            let mut payload = frame.payload;
            let (file, offset, crc) = (payload.get_u32_le(), payload.get_u64_le(), payload.get_u32_le());
            Ok(Said::Chunk(Chunk { file, offset, crc, bytes: payload }))
        }
        kind => Err(CopyError::Frame(format!("a frame of kind {} with {} bytes", kind.code(), frame.payload.len()))),
    }
}

fn expect<'a>(frame: &'a Frame, kind: Kind, name: &str, length: usize) -> Result<&'a [u8], CopyError> {
    if frame.kind != kind || frame.payload.len() != length {
        let (found, bytes) = (frame.kind.code(), frame.payload.len());
        return Err(CopyError::Frame(format!("{name} is expected, a frame of kind {found} with {bytes} bytes came")));
    }
    Ok(&frame.payload)
}
