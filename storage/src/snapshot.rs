//! Snapshots: the bytes that let another replica start at a position of the log.
//!
//! An export is a directory of hard links to the state's files, flushed first, and a manifest that names each file
//! with its size and checksum, the position and the lineage. Files never change, so the sending side keeps nothing in
//! memory and can be asked for any part again: a transfer that broke goes on at (file, offset), also after a restart
//! of either side.
//!
//! An import takes chunks in order into a directory of its own, checks each chunk, each file, and at the end that the
//! state opens and stands where the manifest says. Only then does the directory get its final name, by a rename.
//! Manifests come from another machine: names that would leave the directory are refused.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use types::entry::{decode_lineage, encode_lineage};
use types::record::Reader;
use types::{DecodeError, Lineage, Lsn, Ordinal, Timestamp};

use crate::state::{Collected, PartitionState, StateEnv, StateError};

/// Version of the manifest's bytes.
const FORMAT: u8 = 1;
/// The manifest beside the files; complete when it is there.
const MANIFEST_NAME: &str = "perennial-snapshot";
/// Buffer for checksums over whole files.
const BUFFER: usize = 1 << 20;

/// Why a snapshot could not be made, sent or taken.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error("snapshot: {action} {path} failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The state refused.
    #[error("snapshot: {0}")]
    State(#[from] StateError),
    /// The manifest's bytes are none.
    #[error("snapshot: the manifest is damaged ({0}): ask for it again")]
    Manifest(String),
    /// A chunk that is not the one that was asked for, or whose bytes changed on the way.
    #[error("snapshot: chunk of file {file} at {offset}: {what}; ask for the next missing chunk")]
    Chunk {
        /// Which file of the manifest.
        file: u32,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// A file whose checksum is not the manifest's; it was emptied.
    #[error("snapshot: file {name} has checksum {found:08x}, the manifest says {expected:08x}: it is fetched again")]
    File {
        /// Its name.
        name: String,
        /// What the manifest says.
        expected: u32,
        /// What was computed.
        found: u32,
    },
    /// The import is not what the manifest says, although every file is.
    #[error(
        "snapshot: the state in {dir} does not stand where its manifest says: {what}; fetch it from another replica"
    )]
    Mismatch {
        /// The import's directory.
        dir: PathBuf,
        /// The difference.
        what: String,
    },
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, without a directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// CRC32C of all of them.
    pub crc: u32,
}

/// What a snapshot consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The last record that it includes.
    pub applied: Lsn,
    /// The lineage up to there.
    pub lineage: Lineage,
    /// What garbage collection had left.
    pub collected: Collected,
    /// The files; chunks name them by their place here.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Its bytes, little-endian: format u8 = 1, applied u64, horizon u64, floor u64, lineage, files u32, per file:
    /// name length u32, name, size u64, crc u32; then CRC32C u32 of all before.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(FORMAT);
        out.put_u64_le(self.applied.0);
        out.put_u64_le(self.collected.horizon.0);
        out.put_u64_le(self.collected.floor.0);
        encode_lineage(&self.lineage, &mut out);
        out.put_u32_le(self.files.len() as u32);
        for file in &self.files {
            out.put_u32_le(file.name.len() as u32);
            out.put_slice(file.name.as_bytes());
            out.put_u64_le(file.size);
            out.put_u32_le(file.crc);
        }
        out.put_u32_le(crc32c::crc32c(&out));
        out.freeze()
    }

    /// Reads its bytes. Names that are no plain file names are refused.
    pub fn decode(bytes: Bytes) -> Result<Manifest, SnapshotError> {
        let bad = |what: &str| SnapshotError::Manifest(what.into());
        let Some((body, sum)) = bytes.split_last_chunk::<4>() else { return Err(bad("too short")) };
        if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
            return Err(bad("wrong checksum"));
        }
        let manifest = Manifest::decode_body(bytes.slice(..body.len())).map_err(|error| bad(&error.to_string()))?;
        match manifest.files.iter().find(|file| !is_plain_name(&file.name)) {
            Some(file) => Err(bad(&format!("{:?} is no file name", file.name))),
            None => Ok(manifest),
        }
    }

    fn decode_body(body: Bytes) -> Result<Manifest, DecodeError> {
        let mut input = Reader::new(body);
        match input.u8()? {
            FORMAT => {}
            tag => return Err(DecodeError::Tag { what: "format of a snapshot's manifest", tag }),
        }
        let applied = Lsn(input.u64()?);
        let collected = Collected { horizon: Timestamp(input.u64()?), floor: Lsn(input.u64()?) };
        let lineage = decode_lineage(&mut input)?;
        let mut files = Vec::new();
        for _ in 0..input.u32()? {
            let name = input.bytes()?;
            // No plain name has such characters, so the manifest is refused later.
            let name = String::from_utf8_lossy(&name).into_owned();
            files.push(FileEntry { name, size: input.u64()?, crc: input.u32()? });
        }
        match input.remaining() {
            0 => Ok(Manifest { applied, lineage, collected, files }),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain) && name != MANIFEST_NAME
}

/// Part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which file of the manifest.
    pub file: u32,
    /// Where in it.
    pub offset: u64,
    /// CRC32C of the bytes.
    pub crc: u32,
    /// The bytes.
    pub bytes: Bytes,
}

/// A snapshot on the sending side.
pub struct Export {
    dir: PathBuf,
    manifest: Manifest,
}

impl Export {
    /// Flushes the state and links its files into `dir`, which must be on the same file system and must not exist;
    /// what an interrupted attempt left there is removed. `log_durable` as in `PartitionState::flush`.
    pub fn create(state: &PartitionState, dir: &Path, log_durable: Lsn) -> Result<Export, SnapshotError> {
        Export::create_synced(state, dir, || Ok(log_durable))
    }

    /// The same, with the log synced on the way, as in `PartitionState::flush_synced`.
    pub fn create_synced(
        state: &PartitionState,
        dir: &Path,
        sync: impl FnOnce() -> Result<Lsn, StateError>,
    ) -> Result<Export, SnapshotError> {
        if dir.exists() && !dir.join(MANIFEST_NAME).exists() {
            fs::remove_dir_all(dir).map_err(failed("removing", dir))?;
        }
        let (applied, lineage) = state.checkpoint(dir, sync)?;
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(dir).map_err(failed("listing", dir))? {
            names.push(entry.map_err(failed("listing", dir))?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        let mut files = Vec::new();
        for name in names {
            let (size, crc) = checksum(&dir.join(&name))?;
            files.push(FileEntry { name, size, crc });
        }
        let lineage = Lineage::clone(&lineage);
        let manifest = Manifest { applied, lineage, collected: state.collected(), files };
        write_manifest(dir, &manifest)?;
        Ok(Export { dir: dir.into(), manifest })
    }

    /// Opens an export that was made before, after a restart.
    pub fn open(dir: &Path) -> Result<Export, SnapshotError> {
        Ok(Export { manifest: read_manifest(dir)?, dir: dir.into() })
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Up to `max` bytes of a file from `offset` on.
    pub fn read(&self, file: u32, offset: u64, max: usize) -> Result<Chunk, SnapshotError> {
        let wrong = |what: &str| SnapshotError::Chunk { file, offset, what: what.into() };
        let entry = self.manifest.files.get(file as usize).ok_or_else(|| wrong("there is no such file"))?;
        if offset > entry.size {
            return Err(wrong("the file is shorter"));
        }
        let path = self.dir.join(&entry.name);
        let mut bytes = vec![0; (entry.size - offset).min(max as u64) as usize];
        let mut input = File::open(&path).map_err(failed("opening", &path))?;
        input.seek(SeekFrom::Start(offset)).map_err(failed("reading", &path))?;
        input.read_exact(&mut bytes).map_err(failed("reading", &path))?;
        Ok(Chunk { file, offset, crc: crc32c::crc32c(&bytes), bytes: bytes.into() })
    }

    /// Removes the links; the state's own files stay.
    pub fn remove(self) -> Result<(), SnapshotError> {
        fs::remove_dir_all(&self.dir).map_err(failed("removing", &self.dir))
    }
}

/// A snapshot on the receiving side, on its way.
pub struct Import {
    dir: PathBuf,
    manifest: Manifest,
    /// The file that is being received, and how much of it is there.
    file: u32,
    offset: u64,
    crc: u32,
}

impl Import {
    /// Begins an import into `dir`, or goes on with the one of the same manifest that is there. Anything else that
    /// is there is removed.
    pub fn begin(dir: &Path, manifest: Manifest) -> Result<Import, SnapshotError> {
        if !read_manifest(dir).is_ok_and(|there| there == manifest) {
            if dir.exists() {
                fs::remove_dir_all(dir).map_err(failed("removing", dir))?;
            }
            fs::create_dir_all(dir).map_err(failed("creating", dir))?;
            write_manifest(dir, &manifest)?;
        }
        let mut import = Import { dir: dir.into(), manifest, file: 0, offset: 0, crc: 0 };
        import.find_place()?;
        Ok(import)
    }

    /// What to ask for next, (file, offset); `None` when all is there.
    pub fn next(&self) -> Option<(u32, u64)> {
        ((self.file as usize) < self.manifest.files.len()).then_some((self.file, self.offset))
    }

    /// Takes the chunk that `next` named. After an error `next` says what to ask for.
    pub fn write(&mut self, chunk: &Chunk) -> Result<(), SnapshotError> {
        let wrong = |what: String| SnapshotError::Chunk { file: chunk.file, offset: chunk.offset, what };
        if self.next() != Some((chunk.file, chunk.offset)) {
            return Err(wrong(format!("{:?} is next", self.next())));
        }
        let found = crc32c::crc32c(&chunk.bytes);
        if found != chunk.crc {
            return Err(wrong(format!("checksum {found:08x}, sent with {:08x}", chunk.crc)));
        }
        let entry = &self.manifest.files[self.file as usize];
        let end = chunk.offset + chunk.bytes.len() as u64;
        if end > entry.size {
            return Err(wrong(format!("it ends at {end}, the file at {}", entry.size)));
        }
        let path = self.dir.join(&entry.name);
        let mut out = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("opening", &path))?;
        out.seek(SeekFrom::Start(chunk.offset)).map_err(failed("writing", &path))?;
        out.write_all(&chunk.bytes).map_err(failed("writing", &path))?;
        self.crc = crc32c::crc32c_append(self.crc, &chunk.bytes);
        self.offset = end;
        self.pass_complete_files()
    }

    /// Checks the whole and gives the state its final name, `target`, which must not exist. The caller opens it.
    pub fn finish(self, env: &Arc<StateEnv>, partition: Ordinal, target: &Path) -> Result<Manifest, SnapshotError> {
        let missing = |what: String| SnapshotError::Mismatch { dir: self.dir.clone(), what };
        if let Some((file, offset)) = self.next() {
            return Err(missing(format!("file {file} is there up to {offset} only")));
        }
        if target.exists() {
            return Err(missing(format!("{} is in the way", target.display())));
        }
        {
            let state = PartitionState::open_unchecked(env, &self.dir, partition)?;
            let there = (state.applied(), state.lineage(), state.collected());
            let said = (self.manifest.applied, Arc::new(self.manifest.lineage.clone()), self.manifest.collected);
            if there != said {
                return Err(missing(format!("it stands at {there:?}, the manifest says {said:?}")));
            }
        }
        let manifest = self.dir.join(MANIFEST_NAME);
        fs::remove_file(&manifest).map_err(failed("removing", &manifest))?;
        sync_dir(&self.dir)?;
        fs::rename(&self.dir, target).map_err(failed("renaming", &self.dir))?;
        if let Some(parent) = target.parent() {
            sync_dir(parent)?;
        }
        Ok(self.manifest)
    }

    /// After a restart: what is there of each file. Content is judged when a file is complete.
    fn find_place(&mut self) -> Result<(), SnapshotError> {
        self.open_file()?;
        match self.pass_complete_files() {
            // It was emptied and is asked for again.
            Err(SnapshotError::File { .. }) => Ok(()),
            other => other,
        }
    }

    /// Takes up the current file where it was left.
    fn open_file(&mut self) -> Result<(), SnapshotError> {
        (self.offset, self.crc) = (0, 0);
        if let Some(entry) = self.manifest.files.get(self.file as usize) {
            let path = self.dir.join(&entry.name);
            if path.exists() {
                (self.offset, self.crc) = checksum(&path)?;
            }
        }
        Ok(())
    }

    /// Checks and syncs files that are complete, and goes on to the next.
    fn pass_complete_files(&mut self) -> Result<(), SnapshotError> {
        while let Some(entry) = self.manifest.files.get(self.file as usize) {
            let path = self.dir.join(&entry.name);
            if self.offset < entry.size {
                return Ok(());
            }
            if self.offset > entry.size || self.crc != entry.crc {
                let (name, expected, found) = (entry.name.clone(), entry.crc, self.crc);
                File::create(&path).map_err(failed("emptying", &path))?;
                (self.offset, self.crc) = (0, 0);
                return Err(SnapshotError::File { name, expected, found });
            }
            let file = OpenOptions::new().create(true).append(true).open(&path);
            file.and_then(|file| file.sync_all()).map_err(failed("syncing", &path))?;
            self.file += 1;
            self.open_file()?;
        }
        Ok(())
    }
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::Io { action, path: path.into(), source }
}

/// Size and CRC32C of a file.
fn checksum(path: &Path) -> Result<(u64, u32), SnapshotError> {
    let mut input = File::open(path).map_err(failed("opening", path))?;
    let (mut buffer, mut size, mut crc) = (vec![0; BUFFER], 0, 0);
    loop {
        match input.read(&mut buffer).map_err(failed("reading", path))? {
            0 => return Ok((size, crc)),
            read => {
                crc = crc32c::crc32c_append(crc, &buffer[..read]);
                size += read as u64;
            }
        }
    }
}

fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), SnapshotError> {
    let path = dir.join(MANIFEST_NAME);
    let part = dir.join(format!("{MANIFEST_NAME}.part"));
    let mut file = File::create(&part).map_err(failed("creating", &part))?;
    file.write_all(&manifest.encode()).and_then(|()| file.sync_all()).map_err(failed("writing", &part))?;
    fs::rename(&part, &path).map_err(failed("renaming", &part))?;
    sync_dir(dir)
}

fn read_manifest(dir: &Path) -> Result<Manifest, SnapshotError> {
    let path = dir.join(MANIFEST_NAME);
    Manifest::decode(fs::read(&path).map_err(failed("reading", &path))?.into())
}

fn sync_dir(dir: &Path) -> Result<(), SnapshotError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("syncing", dir))
}
