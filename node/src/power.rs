//! Whether the machine has kept its power since something was written.
//!
//! With ASYNC DURABILITY an acknowledgement means that a record is in the hands of the operating system. A process that
//! is killed loses none of that, a machine that loses power may lose the end. After all processes of a set are gone the catalog
//! must know which it was, or a cluster whose processes were killed would give up what it has not lost.
//!
//! The file `power` in the data directory holds the kernel's boot id and the incarnation that first ran under it. A process
//! that finds another boot id, or none, writes the present one and itself, before anything else of it is on disk. So what
//! it and every later process that finds the same id have handed over is still there.
//!
//! A failed write or sync is as bad as lost power: the kernel may have dropped what it could not write. The file is removed
//! before the process ends. A kernel that tells no boot id counts as one that was started just now.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use types::Incarnation;

use crate::data_dir::{DataDirError, read_numbers, write_numbers};

/// Since when the machine has kept its power, as far as this directory knows.
#[derive(Clone, Debug)]
pub struct Power {
    file: PathBuf,
    /// The first process of this directory since then; this one, if nothing is known.
    pub since: Incarnation,
}

impl Power {
    /// Looks, and keeps what it has found.
    pub fn look(dir: &Path, present: Incarnation) -> Result<Power, DataDirError> {
        Power::look_at(dir, present, boot_id())
    }

    fn look_at(dir: &Path, present: Incarnation, boot: Option<u128>) -> Result<Power, DataDirError> {
        let file = dir.join("power");
        let found = read_numbers(&file)?;
        let since = match (boot, found.as_deref()) {
            (Some(boot), Some([known, since])) if boot == *known => {
                return Ok(Power { file, since: Incarnation(*since as u64) });
            }
            _ => present,
        };
        match boot {
            Some(boot) => write_numbers(&file, &[boot, u128::from(since.0)])?,
            None => forget(&file).map_err(|source| DataDirError::Io { path: file.clone(), source })?,
        }
        Ok(Power { file, since })
    }

    /// What was handed over is not sure to be there any more.
    pub fn forget(&self) {
        if let Err(error) = forget(&self.file) {
            tracing::error!(%error, file = %self.file.display(), "the log has failed, and this cannot be noted");
        }
    }
}

fn forget(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Drawn by the kernel when it was started.
fn boot_id() -> Option<u128> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_kept_from_the_first_process_of_a_boot_on() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let since = |process, boot| {
            Power::look_at(dir.path(), Incarnation(process), boot).expect("the directory can be written").since.0
        };
        assert_eq!(since(1, Some(7)), 1);
        assert_eq!(since(2, Some(7)), 1, "killed and started again");
        assert_eq!(since(3, Some(8)), 3, "the machine was started anew");
        assert_eq!(since(4, Some(8)), 3, "killed before anybody had asked");
        assert_eq!(since(5, None), 5, "nobody can tell");
        assert_eq!(since(6, Some(8)), 6, "in between nobody could tell");
    }

    #[test]
    fn a_failed_log_counts_as_lost_power() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let look = |process| Power::look_at(dir.path(), Incarnation(process), Some(7)).expect("it can be written");
        look(1);
        look(2).forget();
        assert_eq!(look(3).since, Incarnation(3));
        look(4).forget();
        look(4).forget();
    }

    #[test]
    fn the_kernel_tells_its_boot() {
        assert_eq!(boot_id(), boot_id());
        assert!(boot_id().is_some());
    }
}
