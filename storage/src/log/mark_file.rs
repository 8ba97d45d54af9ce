//! The second place: how far the log is known synced, outside the log. It tells a batch that was synced and lost
//! from one that was never written.
//!
//! Two slots of 4096 bytes, written in turn: magic u64, checksum u32 of bytes 12 to 40, reserved u32, log id u64,
//! number u64, synced sequence u64, all little-endian.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, BytesMut};
use types::segment::BLOCK;

use super::LogError;

const MAGIC: u64 = u64::from_le_bytes(*b"PERNMARK");
const LENGTH: usize = 40;

/// The file `synced` of a log's folder.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: File,
    path: PathBuf,
    /// Number of the last mark; even ones are in the first slot.
    number: u64,
    pub log: Option<u64>,
    pub synced: u64,
}

impl MarkFile {
    /// Opens or makes the file and reads the newer of its readable slots.
    pub fn open(dir: &Path) -> Result<MarkFile, LogError> {
        let path = dir.join("synced");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(LogError::io("open", &path))?;
        let mut mark = MarkFile { file, path, number: 0, log: None, synced: 0 };
        for slot in 0..2 {
            let mut bytes = [0; LENGTH];
            // A slot that is not there was never written.
            if mark.file.read_exact_at(&mut bytes, slot * BLOCK).is_err() {
                continue;
            }
            let sum = crc32c::crc32c(&bytes[12..]);
            let mut input = &bytes[..];
            let sound = input.get_u64_le() == MAGIC && input.get_u32_le() == sum;
            input.advance(if sound { 4 } else { 0 });
            if sound {
                let (log, number, synced) = (input.get_u64_le(), input.get_u64_le(), input.get_u64_le());
                if number > mark.number {
                    (mark.log, mark.number, mark.synced) = (Some(log), number, synced);
                }
            }
        }
        Ok(mark)
    }

    /// States that everything up to `synced` is on disk, and syncs that.
    pub fn set(&mut self, log: u64, synced: u64) -> Result<(), LogError> {
        let mut out = BytesMut::with_capacity(LENGTH);
        out.put_u64_le(MAGIC);
        out.put_u64_le(0);
        for part in [log, self.number + 1, synced] {
            out.put_u64_le(part);
        }
        let crc = crc32c::crc32c(&out[12..]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        let offset = (self.number + 1) % 2 * BLOCK;
        let written = self.file.write_all_at(&out, offset).and_then(|()| self.file.sync_data());
        written.map_err(LogError::io("write", &self.path))?;
        (self.number, self.log, self.synced) = (self.number + 1, Some(log), synced);
        Ok(())
    }
}
