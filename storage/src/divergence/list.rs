//! Which divergence files there are.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::line::Line;
use super::{DivergenceError, DivergenceId, DivergenceReader, Header, Summary};

/// The last line is shorter than this.
const TAIL: u64 = 4096;

/// A complete file. One whose header or end cannot be read is listed with the reason, not left out.
#[derive(Debug)]
pub struct Listed {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What its first and last lines say.
    pub content: Result<(Header, Summary), DivergenceError>,
}

/// The complete files in `dir`, in the order of their names. Only first and last lines are read. A directory that
/// does not exist has none.
pub fn list(dir: &Path) -> Result<Vec<Listed>, DivergenceError> {
    let failed = |source| DivergenceError::Io { action: "listing", path: dir.into(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(failed(error)),
    };
    let mut listed = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "divergence") {
            let bytes = std::fs::metadata(&path).map_err(failed)?.len();
            listed.push(Listed { content: content(&path), path, bytes });
        }
    }
    listed.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(listed)
}

/// Removes all complete files of one exchange and returns how many there were.
pub fn discard(dir: &Path, id: DivergenceId) -> Result<usize, DivergenceError> {
    let failed = |source| DivergenceError::Io { action: "discarding", path: dir.into(), source };
    let prefix = format!("{id}.");
    let mut removed = 0;
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(&prefix) && name.ends_with(".divergence") {
            std::fs::remove_file(entry.path()).map_err(failed)?;
            removed += 1;
        }
    }
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
    Ok(removed)
}

/// Header and summary of one file.
fn content(path: &Path) -> Result<(Header, Summary), DivergenceError> {
    let header = DivergenceReader::open(path)?.header().clone();
    let tail = tail(path).map_err(|source| DivergenceError::Io { action: "reading", path: path.into(), source })?;
    let last = tail.strip_suffix(b"\n").and_then(|tail| tail.rsplit(|byte| *byte == b'\n').next());
    match last.map(Line::decode) {
        Some(Ok(Line::End { summary, .. })) => Ok((header, summary)),
        _ => Err(DivergenceError::Damaged { path: path.into(), line: 0, what: "the last line is not an end".into() }),
    }
}

fn tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok(tail)
}
