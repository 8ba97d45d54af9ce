//! The disk without a log: one thread that writes and waits for `fdatasync`, again and again.
//!
//! The file is made and zeroed before, as the log's segments are: a sync then changes no metadata, which is the best
//! that this loop can do.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

const SIZE: u64 = 64 << 20;

/// A file that is written from its beginning to its end, over and over.
pub struct RawFile {
    file: File,
    offset: u64,
}

impl RawFile {
    /// Makes the file.
    pub fn new(path: &Path) -> anyhow::Result<RawFile> {
        let make = || -> anyhow::Result<File> {
            let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
            let zeros = vec![0; 1 << 20];
            for offset in (0..SIZE).step_by(zeros.len()) {
                file.write_all_at(&zeros, offset)?;
            }
            file.sync_all()?;
            Ok(file)
        };
        let file = make().with_context(|| format!("cannot make {}", path.display()))?;
        Ok(RawFile { file, offset: 0 })
    }

    /// Writes and syncs pieces of `bytes` for this long; gives their number and the time they took.
    pub fn run(&mut self, bytes: usize, time: Duration) -> anyhow::Result<(u64, Duration)> {
        let (data, start, mut count) = (vec![0x5a; bytes], Instant::now(), 0);
        while start.elapsed() < time {
            if self.offset + bytes as u64 > SIZE {
                self.offset = 0;
            }
            self.file.write_all_at(&data, self.offset).context("cannot write the raw file")?;
            self.file.sync_data().context("cannot sync the raw file")?;
            self.offset += bytes as u64;
            count += 1;
        }
        Ok((count, start.elapsed()))
    }
}
