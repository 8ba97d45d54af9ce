//! A segment's file: made whole and zeroed before it is used, so that writing to it later needs no space and its
//! syncs change no metadata.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use types::segment::{BLOCK, Identity, SegmentHeader};

use super::LogError;

const ZEROS: usize = 1 << 20;

/// A file of fixed size, named by its number.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub file: Arc<File>,
    pub path: PathBuf,
    pub id: u64,
    pub size: u64,
    /// How often it was taken into use.
    uses: AtomicU64,
}

impl SegmentFile {
    /// The name of a segment.
    pub fn path_of(dir: &Path, id: u64) -> PathBuf {
        dir.join(format!("{id:08}.seg"))
    }

    /// The number in a segment's name.
    pub fn id_of(path: &Path) -> Option<u64> {
        if path.extension()? != "seg" {
            return None;
        }
        path.file_stem()?.to_str()?.parse().ok()
    }

    /// Makes a spare. It has its name only when it is whole and on disk.
    pub fn create(dir: &Path, log: u64, id: u64, size: u64) -> Result<SegmentFile, LogError> {
        let path = SegmentFile::path_of(dir, id);
        let unfinished = path.with_extension("new");
        let made = SegmentFile::fill(&unfinished, log, id, size).and_then(|file| {
            std::fs::rename(&unfinished, &path)?;
            sync_dir(dir)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(SegmentFile { file: Arc::new(file), path, id, size, uses: AtomicU64::new(0) }),
            Err(error) => {
                // The half of a segment must not fill the disk; it is removed at the next start at the latest.
                let _ = std::fs::remove_file(&unfinished);
                Err(LogError::io("make segment", &path)(error))
            }
        }
    }

    fn fill(path: &Path, log: u64, id: u64, size: u64) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        erase(&file, 0, size)?;
        let identity = Identity { log, segment: id, uses: 0 };
        file.write_all_at(&SegmentHeader { identity, size, first_sequence: 0 }.encode(), 0)?;
        file.sync_all()?;
        Ok(file)
    }

    /// Opens a segment that is there.
    pub fn open(path: PathBuf, id: u64) -> Result<SegmentFile, LogError> {
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        let size = file.metadata().map_err(LogError::io("open", &path))?.len();
        Ok(SegmentFile { file: Arc::new(file), path, id, size, uses: AtomicU64::new(0) })
    }

    /// Takes the segment into use once more; gives the new count.
    pub fn take(&self) -> u64 {
        self.uses.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Its header says that it was taken into use so often.
    pub fn set_uses(&self, uses: u64) {
        self.uses.store(uses, Ordering::Relaxed);
    }

    /// Bytes from `offset` on, as many as there are up to `length`.
    pub fn read(&self, offset: u64, length: u64) -> Result<Bytes, LogError> {
        let length = length.min(self.size.saturating_sub(offset));
        let mut out = BytesMut::zeroed(length as usize);
        self.file.read_exact_at(&mut out, offset).map_err(LogError::io("read", &self.path))?;
        Ok(out.freeze())
    }

    /// Zeros from `offset` to the end, and syncs.
    pub fn erase_from(&self, offset: u64) -> Result<(), LogError> {
        let erased = erase(&self.file, offset, self.size).and_then(|()| self.file.sync_data());
        erased.map_err(LogError::io("erase", &self.path))
    }

    /// Writes the bytes that are there once more and syncs: they may have been read from a cache that a failed sync
    /// left clean.
    pub fn rewrite(&self, offset: u64, length: u64) -> Result<(), LogError> {
        let bytes = self.read(offset, length)?;
        let written = self.file.write_all_at(&bytes, offset).and_then(|()| self.file.sync_data());
        written.map_err(LogError::io("rewrite", &self.path))
    }

    /// The bytes of a header block.
    pub fn header_block(header: &SegmentHeader) -> BytesMut {
        let mut block = BytesMut::zeroed(BLOCK as usize);
        let encoded = header.encode();
        block[..encoded.len()].copy_from_slice(&encoded);
        block
    }
}

fn erase(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut at = from;
    while at < to {
        let length = (to - at).min(ZEROS as u64);
        file.write_all_at(&zeros[..length as usize], at)?;
        at += length;
    }
    Ok(())
}

/// Makes names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
