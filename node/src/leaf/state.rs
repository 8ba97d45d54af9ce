//! The state of a replica: which directory holds it, and what those who read it hold of it.
//!
//! A state is a function of the log prefix. So no file says which directory counts: it is the newest whose state the
//! log continues. A copy is laid, complete and synced, into a directory of the next number; the log's `Installed` then
//! makes it the one that fits, and the older ones are unfit, in one step. A crash before it leaves a directory too many,
//! which fits as well or not at all; a crash after it leaves an old one, which is deleted. If none fits, the state is made
//! anew from a log that is whole, or the replica is incomplete and needs a copy.
//!
//! Readers take the state once for each request and never see two of them mixed. An old one is deleted when the last of
//! its readers has gone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use storage::state::{LogPosition, PartitionState, StateEnv, StateError};
use types::entry::Summary;
use types::{DatabaseId, Lsn, Ordinal, PartitionId};

/// The state that counts now. Cheap to clone.
#[derive(Clone)]
pub struct StateSlot(Arc<RwLock<Arc<PartitionState>>>);

impl StateSlot {
    /// Holding this one.
    pub fn new(state: Arc<PartitionState>) -> StateSlot {
        StateSlot(Arc::new(RwLock::new(state)))
    }

    /// Differs from that of any other slot that is alive.
    pub fn life(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// What a request reads from, from its beginning to its end.
    pub fn get(&self) -> Arc<PartitionState> {
        self.0.read().clone()
    }

    /// Another one takes its place; the old one is deleted when nobody reads it any more.
    pub fn replace(&self, state: Arc<PartitionState>) {
        let old = std::mem::replace(&mut *self.0.write(), state);
        old.doom();
    }
}

/// What a partition's directories held.
pub struct Found {
    /// The state.
    pub state: PartitionState,
    /// The log continues it. Otherwise it is empty, and the replica good for nothing before it has a copy.
    pub whole: bool,
    /// What is wrong with its files, if anything.
    pub damage: Option<String>,
}

/// The directories of one partition.
#[derive(Clone, Debug)]
pub struct StateDirs {
    parent: PathBuf,
    id: PartitionId,
}

/// Partitions that have a state in this directory.
pub fn all_in(parent: &Path) -> Result<BTreeSet<PartitionId>, StateError> {
    let of = |name: &str| {
        let mut parts = name.split('.');
        let (database, ordinal) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(PartitionId { database: DatabaseId(database), ordinal: Ordinal(ordinal) })
    };
    Ok(names_in(parent)?.iter().filter_map(|name| of(name)).collect())
}

fn names_in(parent: &Path) -> Result<Vec<String>, StateError> {
    let names = match fs::read_dir(parent) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => {
            entries.and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>())
        }
    };
    let names = names.map_err(|error| failed(parent, &error))?;
    Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn failed(parent: &Path, error: &io::Error) -> StateError {
    let message = error.to_string();
    StateError::Engine { dir: parent.to_path_buf(), action: "looking for", message, corrupt: false }
}

impl StateDirs {
    /// Inside this directory.
    pub fn new(parent: &Path, id: PartitionId) -> StateDirs {
        StateDirs { parent: parent.into(), id }
    }

    /// Where a copy goes.
    pub fn next(&self) -> Result<PathBuf, StateError> {
        fs::create_dir_all(&self.parent).map_err(|error| failed(&self.parent, &error))?;
        let newest = self.list()?.first().map(|(number, _)| *number);
        Ok(self.path(newest.map_or(0, |newest| newest + 1)))
    }

    /// Opens the newest state that the log continues, and deletes the others. If there is none, opens an empty one.
    ///
    /// Of a damaged replica nothing is deleted before it has a copy: it may be the last one of its rows.
    ///
    /// `log_lost`: the node log has lost entries, and nobody knows whose. Who has been here before, and is not in it, has lost all.
    pub fn open(&self, env: &Arc<StateEnv>, log: Option<&Summary>, log_lost: bool) -> Result<Found, StateError> {
        let unlogged = log.is_none() && log_lost;
        let none = Summary::default();
        let log = log.unwrap_or(&none);
        let (begin, position) = (log.first.prev(), LogPosition { end: log.end, lineage: &log.lineage });
        let mut damage = log.damaged.then(|| "its part of the node log cannot be read".to_string());
        let (dirs, mut empty, mut ahead) = (self.list()?, None, false);
        for (_, dir) in &dirs {
            match PartitionState::open(env, dir, self.id.ordinal, position) {
                Ok(state) if state.applied() >= begin && !log.damaged && !unlogged => {
                    self.keep_only(dir);
                    return Ok(Found { state, whole: true, damage: None });
                }
                Ok(state) if state.applied() == Lsn::ZERO => empty = Some(state),
                Ok(state) => {
                    let applied = state.applied();
                    tracing::warn!(partition = %self.id, dir = %dir.display(), %applied, %begin, "the log begins above a state");
                }
                Err(error @ (StateError::AboveLog { .. } | StateError::OtherHistory { .. })) => {
                    tracing::warn!(partition = %self.id, %error, "a state is passed over");
                    ahead = true;
                }
                Err(error) if error.is_damage() || log.damaged => {
                    tracing::error!(partition = %self.id, %error, "a state is passed over");
                    damage.get_or_insert(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        // A state that a log of nothing does not continue, with no other one beside it, has lost its log.
        let lost = ahead && empty.is_none() && log.end == Lsn::ZERO || unlogged && !dirs.is_empty();
        let whole = begin == Lsn::ZERO && !log.damaged && !lost;
        let state = match empty {
            Some(state) => state,
            None => PartitionState::open(env, &self.next()?, self.id.ordinal, position)?,
        };
        if !whole {
            tracing::warn!(partition = %self.id, %begin, "the replica is incomplete: it needs a copy");
            // Whatever has happened, it holds nothing: the catalog must not count on it.
            let reason =
                if lost { "its part of the node log is lost" } else { "its files lack what the log was trimmed of" };
            damage.get_or_insert(reason.into());
        }
        Ok(Found { state, whole, damage: damage.filter(|_| !whole) })
    }

    /// Deletes all but one.
    pub fn keep_only(&self, kept: &Path) {
        let others = self.list().unwrap_or_default().into_iter().map(|(_, other)| other);
        others.filter(|other| other != kept).for_each(|other| delete(&other));
    }

    /// Deletes everything. True when nothing is left.
    pub fn remove(&self) -> bool {
        self.list().is_ok_and(|dirs| {
            dirs.iter().for_each(|(_, dir)| delete(dir));
            dirs.iter().all(|(_, dir)| !dir.exists())
        })
    }

    /// Number and path of each, the newest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, StateError> {
        let names = names_in(&self.parent)?;
        let numbers = names.iter().filter_map(|name| self.number(name));
        let mut found: Vec<_> = numbers.map(|number| (number, self.path(number))).collect();
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }

    fn number(&self, name: &str) -> Option<u64> {
        let rest = name.strip_prefix(&format!("{}.{}", self.id.database, self.id.ordinal))?;
        if rest.is_empty() { Some(0) } else { rest.strip_prefix('-')?.parse().ok().filter(|number| *number > 0) }
    }

    /// The first directory has no number.
    fn path(&self, number: u64) -> PathBuf {
        let PartitionId { database, ordinal } = self.id;
        self.parent.join(match number {
            0 => format!("{database}.{ordinal}"),
            number => format!("{database}.{ordinal}-{number}"),
        })
    }
}

fn delete(dir: &Path) {
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "a state that is not needed any more cannot be deleted");
    }
}

#[cfg(test)]
mod tests {
    use storage::state::StateConfig;
    use types::{
        Body, ClusterId, DatabaseId, Epoch, Lineage, LineageEntry, Ordinal, Record, StartKind, Timestamp, TxnId,
    };

    use super::*;

    const ID: PartitionId = PartitionId { database: DatabaseId(5), ordinal: Ordinal(-1) };

    fn epoch(number: u64) -> Epoch {
        Epoch { number, cluster: ClusterId(1), nonce: number }
    }

    fn lineage(number: u64) -> Lineage {
        let mut lineage = Lineage::new();
        let (start_lsn, start_ts, kind) = (Lsn(1), Timestamp(9), StartKind::Failover);
        lineage.push(LineageEntry { epoch: epoch(number), start_lsn, start_ts, kind });
        lineage
    }

    fn log(first: u64, end: u64) -> Summary {
        Summary { lineage: lineage(1), first: Lsn(first), end: Lsn(end), ..Summary::default() }
    }

    struct Disk {
        parent: tempfile::TempDir,
        env: Arc<StateEnv>,
    }

    impl Disk {
        fn new() -> Disk {
            let config = StateConfig { cache_bytes: 8 << 20, background_threads: 1, ..StateConfig::default() };
            Disk { parent: tempfile::tempdir().unwrap(), env: StateEnv::new(&config).unwrap() }
        }

        fn dirs(&self) -> StateDirs {
            StateDirs::new(self.parent.path(), ID)
        }

        /// The next directory gets the state of an epoch's first records.
        fn add(&self, number: u64, applied: u64) {
            let position = LogPosition { end: Lsn::ZERO, lineage: &Lineage::new() };
            let state = PartitionState::open(&self.env, &self.dirs().next().unwrap(), ID.ordinal, position).unwrap();
            for lsn in 1..=applied {
                let start = Body::EpochStart { start_ts: Timestamp(9), kind: StartKind::Failover };
                let commit = Body::Commit { txn: TxnId(lsn.into()), ts: Timestamp(10 + lsn), writes: vec![] };
                let body = if lsn == 1 { start } else { commit };
                state.apply(&[Record { epoch: epoch(number), lsn: Lsn(lsn), body }]).unwrap();
            }
            state.flush(Lsn(applied)).unwrap();
        }

        /// Name and position of the state that the log goes with, and whether the replica is whole.
        fn open(&self, log: Option<&Summary>) -> (String, u64, bool) {
            let Found { state, whole, .. } = self.dirs().open(&self.env, log, false).unwrap();
            let name = state.dir().file_name().unwrap().to_str().unwrap().to_string();
            (name, state.applied().0, whole)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.parent.path()).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_string()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn the_newest_state_that_the_log_continues_counts() {
        let disk = Disk::new();
        assert_eq!(disk.open(None), ("5.-1".into(), 0, true), "a new replica is empty and whole");
        disk.add(1, 4);
        disk.add(1, 7);
        disk.add(2, 3);
        disk.add(1, 9);
        // The process was killed before the log knew of the copies.
        assert_eq!(disk.open(Some(&log(1, 8))), ("5.-1-2".into(), 7, true));
        assert_eq!(disk.names(), ["5.-1-2"], "the others are deleted");
    }

    #[test]
    fn a_copy_counts_from_the_logs_entry_on() {
        let disk = Disk::new();
        disk.add(1, 4);
        disk.add(2, 30);
        let mut summary = log(1, 6);
        assert_eq!(disk.open(Some(&summary)).1, 4, "before it the old one");
        disk.add(2, 30);
        summary.apply(&types::entry::Entry::Installed { trimmed: Lsn(30), lineage: lineage(2) }).unwrap();
        assert_eq!(disk.open(Some(&summary)), ("5.-1-1".into(), 30, true));
        assert_eq!(disk.names(), ["5.-1-1"]);
    }

    #[test]
    fn a_state_that_is_lost_is_made_anew_or_missed() {
        let disk = Disk::new();
        disk.add(2, 5);
        assert_eq!(disk.open(Some(&log(1, 8))), ("5.-1-1".into(), 0, true), "a whole log makes it anew");
        let disk = Disk::new();
        disk.add(2, 5);
        assert_eq!(disk.open(None), ("5.-1-1".into(), 0, false), "a log that is lost makes nothing");
        let disk = Disk::new();
        disk.add(1, 5);
        assert_eq!(disk.open(Some(&log(8, 9))), ("5.-1-1".into(), 0, false), "a trimmed one cannot");
        assert_eq!(disk.open(Some(&log(8, 9))), ("5.-1-1".into(), 0, false), "nor at the next start");
        assert!(disk.dirs().open(&disk.env, Some(&log(8, 9)), false).unwrap().damage.is_some(), "and it is said");
        let damaged = Summary { damaged: true, ..log(1, 8) };
        assert_eq!(disk.open(Some(&damaged)), ("5.-1-1".into(), 0, false), "a damaged log makes nothing");
        assert_eq!(disk.names(), ["5.-1", "5.-1-1"], "what may be the last copy stays");
    }

    #[test]
    fn a_state_that_cannot_be_read_is_passed_over() {
        let disk = Disk::new();
        disk.add(1, 5);
        let current = disk.parent.path().join("5.-1").join("CURRENT");
        std::fs::write(&current, b"MANIFEST-9").unwrap();
        assert_eq!(disk.open(Some(&log(1, 8))), ("5.-1-1".into(), 0, true), "a whole log makes it anew");
        let disk = Disk::new();
        disk.add(1, 5);
        let dir = disk.parent.path().join("5.-1");
        let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|path| path.extension().is_some_and(|kind| kind == "sst"))
            .for_each(|path| std::fs::remove_file(path).unwrap());
        let found = disk.dirs().open(&disk.env, Some(&log(4, 9)), false).unwrap();
        assert!(!found.whole && found.damage.is_some(), "files are missing, and the log begins behind them");
    }

    #[test]
    fn readers_keep_what_they_read_and_nothing_longer() {
        let disk = Disk::new();
        disk.add(1, 4);
        disk.add(1, 6);
        let open = |name: &str| {
            let position = LogPosition { end: Lsn(9), lineage: &lineage(1) };
            Arc::new(PartitionState::open(&disk.env, &disk.parent.path().join(name), ID.ordinal, position).unwrap())
        };
        let slot = StateSlot::new(open("5.-1"));
        let reader = slot.get();
        slot.replace(open("5.-1-1"));
        assert_eq!((reader.applied(), slot.get().applied()), (Lsn(4), Lsn(6)));
        let view = reader.view(Timestamp::MAX).unwrap();
        drop(reader);
        assert_eq!(disk.names(), ["5.-1", "5.-1-1"], "a view reads it still");
        drop(view);
        assert_eq!(disk.names(), ["5.-1-1"]);
    }

    #[test]
    fn other_partitions_are_left_alone() {
        let disk = Disk::new();
        disk.add(1, 1);
        for name in ["5.0", "5.-1-x", "15.-1", "5.-10", "5.-1-0"] {
            std::fs::create_dir(disk.parent.path().join(name)).unwrap();
        }
        assert_eq!(disk.dirs().list().unwrap().len(), 1);
        assert!(disk.dirs().remove());
        assert_eq!(disk.names().len(), 5);
    }
}
