//! The data directory of one process: who it is, how often it has started, and that nobody else uses it.
//!
//! `identity` holds random bits drawn once, `node` what the catalog answered to the registration, `incarnation` the
//! number of starts, `power` since when the machine has kept its power (`power.rs`); each is replaced by rename and synced before it counts. `lock` is held while the process lives.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use thiserror::Error;
use types::{ClusterId, Incarnation, NodeId};

use crate::power::Power;

/// The directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The file system refuses.
    #[error("data directory {path}: {source}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("data directory {0} is in use by another process: stop that one, or choose another directory")]
    InUse(PathBuf),
    /// A file of it makes no sense.
    #[error("data directory: {0} is damaged: restore it, or start the node with an empty directory")]
    Damaged(PathBuf),
}

/// The open directory.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
    /// Random bits, the same at every start.
    pub identity: u128,
    /// What this process is: one above the start before.
    pub incarnation: Incarnation,
    /// Since when the machine has kept its power.
    pub power: Power,
    /// What the catalog answered to the registration, if it has been asked.
    pub registered: Option<(NodeId, ClusterId)>,
}

impl DataDir {
    /// Opens or creates it, and counts this start.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DataDirError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join("lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path).map_err(io(&lock_path))?;
        if !locked(&lock) {
            return Err(DataDirError::InUse(path.into()));
        }
        let numbers = |name: &str| read_numbers(&path.join(name));
        let identity = match numbers("identity")?.as_deref() {
            Some([identity]) => *identity,
            Some(_) => return Err(DataDirError::Damaged(path.join("identity"))),
            None => {
                let identity = rand::random();
                write_numbers(&path.join("identity"), &[identity])?;
                identity
            }
        };
        let before = match numbers("incarnation")?.as_deref() {
            Some([count]) => *count,
            Some(_) => return Err(DataDirError::Damaged(path.join("incarnation"))),
            None => 0,
        };
        write_numbers(&path.join("incarnation"), &[before + 1])?;
        let registered = match numbers("node")?.as_deref() {
            Some([node, cluster]) => Some((NodeId(*node as u64), ClusterId(*cluster as u64))),
            Some(_) => return Err(DataDirError::Damaged(path.join("node"))),
            None => None,
        };
        let incarnation = Incarnation(before as u64 + 1);
        let power = Power::look(path, incarnation)?;
        Ok(DataDir { path: path.into(), _lock: lock, identity, incarnation, power, registered })
    }

    /// Keeps what the catalog answered.
    pub fn register(&mut self, node: NodeId, cluster: ClusterId) -> Result<(), DataDirError> {
        write_numbers(&self.path.join("node"), &[u128::from(node.0), u128::from(cluster.0)])?;
        self.registered = Some((node, cluster));
        Ok(())
    }

    /// A directory inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

fn locked(file: &File) -> bool {
    // SAFETY: flock takes a descriptor that is open for as long as `file` lives, and touches no memory.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

pub(crate) fn read_numbers(path: &Path) -> Result<Option<Vec<u128>>, DataDirError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let numbers: Result<Vec<u128>, _> = text.split_whitespace().map(str::parse).collect();
            numbers.map(Some).map_err(|_| DataDirError::Damaged(path.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(DataDirError::Io { path: path.into(), source }),
    }
}

/// Replaces a file: it holds the old numbers or the new ones, whenever the power fails.
pub(crate) fn write_numbers(path: &Path, numbers: &[u128]) -> Result<(), DataDirError> {
    let replace = || -> io::Result<()> {
        let next = path.with_extension("tmp");
        let mut file = File::create(&next)?;
        for number in numbers {
            writeln!(file, "{number}")?;
        }
        file.sync_all()?;
        fs::rename(&next, path)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    };
    replace().map_err(|source| DataDirError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_another_incarnation_of_the_same_node() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut first = DataDir::open(dir.path()).expect("an empty directory opens");
        first.register(NodeId(7), ClusterId(9)).expect("it is written");
        let (identity, incarnation) = (first.identity, first.incarnation);
        drop(first);
        let second = DataDir::open(dir.path()).expect("it opens again");
        assert_eq!(second.identity, identity);
        assert_eq!(second.incarnation, Incarnation(incarnation.0 + 1));
        assert_eq!(second.registered, Some((NodeId(7), ClusterId(9))));
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let _held = DataDir::open(dir.path()).expect("an empty directory opens");
        assert!(matches!(DataDir::open(dir.path()), Err(DataDirError::InUse(_))));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::write(dir.path().join("node"), "seven").expect("it is written");
        let error = DataDir::open(dir.path()).expect_err("the file makes no sense");
        assert!(error.to_string().contains("node is damaged"), "{error}");
    }
}
