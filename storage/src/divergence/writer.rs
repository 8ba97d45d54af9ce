//! Writes one divergence file, line by line, and makes it complete at the end.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use types::TxnId;

use super::line::Line;
use super::{DivergenceError, Entry, Header, MAGIC, Summary};

/// A file that is being written. Dropped before `finish`, it leaves a part that counts for nothing and that the next
/// writer of the same name replaces.
pub struct DivergenceWriter {
    out: BufWriter<File>,
    part: PathBuf,
    complete: PathBuf,
    crc: u32,
    summary: Summary,
    last: Option<TxnId>,
}

impl DivergenceWriter {
    /// Begins a file in `dir`, which is created if need be.
    pub fn create(dir: &Path, header: &Header) -> Result<DivergenceWriter, DivergenceError> {
        let complete = dir.join(header.file_name());
        let part = complete.with_extension("part");
        let failed = |source| DivergenceError::Io { action: "creating", path: part.clone(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let file = File::create(&part).map_err(failed)?;
        let mut writer = DivergenceWriter {
            out: BufWriter::with_capacity(1 << 18, file),
            part,
            complete,
            crc: 0,
            summary: Summary::default(),
            last: None,
        };
        writer.write(format!("{MAGIC}\n").as_bytes())?;
        writer.write(&Line::Header(header.into()).encode())?;
        Ok(writer)
    }

    /// Adds one write. Writes of one transaction follow each other.
    pub fn entry(&mut self, entry: &Entry) -> Result<(), DivergenceError> {
        self.write(&Line::Write(entry.into()).encode())?;
        let summary = &mut self.summary;
        summary.from_time = if summary.records == 0 { entry.ts.0 } else { summary.from_time.min(entry.ts.0) };
        summary.to_time = summary.to_time.max(entry.ts.0);
        summary.records += 1;
        summary.transactions += u64::from(self.last.replace(entry.txn) != Some(entry.txn));
        Ok(())
    }

    /// Writes the last line, syncs and gives the file its name. When this returns the file survives anything that
    /// the disk does.
    pub fn finish(mut self) -> Result<(PathBuf, Summary), DivergenceError> {
        self.write(&Line::End { summary: self.summary, crc: self.crc }.encode())?;
        let failed = |source| DivergenceError::Io { action: "syncing", path: self.part.clone(), source };
        self.out.flush().map_err(failed)?;
        self.out.get_ref().sync_all().map_err(failed)?;
        std::fs::rename(&self.part, &self.complete).map_err(failed)?;
        let dir = self.complete.parent().expect("the path was joined to a directory");
        // The directory may be as new as the file.
        for dir in [Some(dir), dir.parent()].into_iter().flatten().filter(|dir| !dir.as_os_str().is_empty()) {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        Ok((self.complete.clone(), self.summary))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DivergenceError> {
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.out.write_all(bytes).map_err(|source| DivergenceError::Io {
            action: "writing",
            path: self.part.clone(),
            source,
        })
    }
}
