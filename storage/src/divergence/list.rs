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
    let mut listed = Vec::new();
    for path in complete_files(dir)? {
        let bytes = std::fs::metadata(&path).map_err(failed("listing", &path))?.len();
        listed.push(Listed { content: content(&path), path, bytes });
    }
    Ok(listed)
}

/// The complete file about what `header` is about, whatever exchange wrote it.
pub fn find(dir: &Path, header: &Header) -> Result<Option<PathBuf>, DivergenceError> {
    let subject = header.subject();
    let about = |path: &PathBuf| name_of(path).split_once('.').is_some_and(|(_, rest)| rest == subject);
    Ok(complete_files(dir)?.into_iter().find(about))
}

/// Removes all complete files of one exchange and returns how many there were.
pub fn discard(dir: &Path, id: DivergenceId) -> Result<usize, DivergenceError> {
    let id = id.to_string();
    let files = complete_files(dir)?;
    let of_exchange = files.iter().filter(|path| name_of(path).split_once('.').is_some_and(|(first, _)| first == id));
    let mut removed = 0;
    for path in of_exchange {
        std::fs::remove_file(path).map_err(failed("discarding", path))?;
        removed += 1;
    }
    if removed > 0 {
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("discarding", dir))?;
    }
    Ok(removed)
}

fn complete_files(dir: &Path) -> Result<Vec<PathBuf>, DivergenceError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(failed("listing", dir)(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
    let mut paths = paths.map_err(failed("listing", dir))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "divergence"));
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default()
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> DivergenceError + 'a {
    move |source| DivergenceError::Io { action, path: path.into(), source }
}

/// Header and summary of one file.
fn content(path: &Path) -> Result<(Header, Summary), DivergenceError> {
    let header = DivergenceReader::open(path)?.header().clone();
    let tail = tail(path).map_err(failed("reading", path))?;
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
