//! Reads a divergence file from its beginning, an entry at a time.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::line::Line;
use super::{DivergenceError, Entry, Header, MAGIC, MAX_LINE, Summary};

/// Entries in the order in which they were written. After the last one the file's end has been checked: the count,
/// and a checksum over everything.
pub struct DivergenceReader {
    input: BufReader<File>,
    path: PathBuf,
    header: Option<Header>,
    line: u64,
    crc: u32,
    records: u64,
    end: Option<Summary>,
    failed: bool,
}

impl DivergenceReader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<DivergenceReader, DivergenceError> {
        let file =
            File::open(path).map_err(|source| DivergenceError::Io { action: "opening", path: path.into(), source })?;
        let mut reader = DivergenceReader {
            input: BufReader::with_capacity(1 << 18, file),
            path: path.into(),
            header: None,
            line: 0,
            crc: 0,
            records: 0,
            end: None,
            failed: false,
        };
        if reader.text()? != MAGIC.as_bytes() {
            return Err(DivergenceError::Unknown { path: path.into() });
        }
        let text = reader.text()?;
        let header = match Line::decode(&text).map_err(|what| reader.damaged(what))? {
            Line::Header(header) => header.header(),
            Line::Write(_) | Line::End { .. } => None,
        };
        reader.header = Some(header.ok_or_else(|| reader.damaged("no header".into()))?);
        Ok(reader)
    }

    /// What the file is about.
    pub fn header(&self) -> &Header {
        self.header.as_ref().expect("opening has read it")
    }

    /// What the file holds, once all entries are read.
    pub fn summary(&self) -> Option<Summary> {
        self.end
    }

    fn read(&mut self) -> Result<Option<Entry>, DivergenceError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let before = self.crc;
        let text = self.text()?;
        match Line::decode(&text).map_err(|what| self.damaged(what))? {
            Line::Header(_) => Err(self.damaged("a second header".into())),
            Line::Write(line) => {
                self.records += 1;
                line.entry().map(Some).ok_or_else(|| self.damaged("a field is not hexadecimal".into()))
            }
            Line::End { summary, crc } => {
                if crc != before || summary.records != self.records {
                    let what = format!(
                        "{} entries with checksum {before:08x} were read, {} with {crc:08x} were written",
                        self.records, summary.records
                    );
                    return Err(self.damaged(what));
                }
                self.end = Some(summary);
                Ok(None)
            }
        }
    }

    /// The next line without its line feed.
    fn text(&mut self) -> Result<Vec<u8>, DivergenceError> {
        self.line += 1;
        let mut text = Vec::new();
        let limited = (&mut self.input).take(MAX_LINE as u64).read_until(b'\n', &mut text);
        limited.map_err(|source| DivergenceError::Io { action: "reading", path: self.path.clone(), source })?;
        self.crc = crc32c::crc32c_append(self.crc, &text);
        match text.pop() {
            Some(b'\n') => Ok(text),
            Some(_) if text.len() + 1 == MAX_LINE => Err(self.damaged("the line does not end".into())),
            Some(_) | None => Err(self.damaged("the file ends here".into())),
        }
    }

    fn damaged(&self, what: String) -> DivergenceError {
        DivergenceError::Damaged { path: self.path.clone(), line: self.line, what }
    }
}

impl Iterator for DivergenceReader {
    type Item = Result<Entry, DivergenceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let entry = self.read().transpose();
        self.failed = matches!(entry, Some(Err(_)));
        entry
    }
}
