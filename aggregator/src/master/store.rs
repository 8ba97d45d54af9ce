//! The raft log of the catalog on disk: entries, hard state, snapshot, in one `redb` file.
//!
//! Every write is one transaction that is on disk when it returns. Entries are raft's own protobuf bytes; a snapshot is
//! the catalog's state in the crate's codec, with index, term and voters. The file tells its format: the codec names no
//! fields, and a state of another release would be read wrongly.

use std::path::Path;

use prost::Message;
use raft::eraftpb::{ConfState, Entry, HardState, SnapshotMetadata};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use thiserror::Error;

const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Counts changes of the catalog's commands and state, and of this file.
const FORMAT: u32 = 3;
const FORMAT_KEY: &str = "format";
const HARD_STATE: &str = "hard_state";
const SNAPSHOT_META: &str = "snapshot_meta";
const SNAPSHOT: &str = "snapshot";

/// The catalog's file cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file system or the file's own checks.
    #[error("catalog file {path}: {reason}: free space or restore the file, then restart the aggregator")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Another release has written it.
    #[error("catalog file {path} has format {found}, and this release reads {FORMAT}: start the release that wrote it")]
    Format {
        /// Which.
        path: String,
        /// 1 before files told their format.
        found: u32,
    },
    /// The bytes are not what this version writes.
    #[error("catalog file {path}: {what} cannot be read: it was written by another version or is damaged")]
    Content {
        /// Which.
        path: String,
        /// What was being read.
        what: &'static str,
    },
}

/// What was on disk.
#[derive(Debug, Default)]
pub struct Stored {
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Entries above the snapshot, oldest first.
    pub entries: Vec<Entry>,
    /// Where the snapshot stands and who votes; empty for a new file.
    pub snapshot_meta: SnapshotMetadata,
    /// The catalog's state there.
    pub snapshot: Vec<u8>,
}

/// The open file.
pub struct Store {
    db: Database,
    path: String,
}

impl Store {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<(Store, Stored), StoreError> {
        let name = path.display().to_string();
        let db = Database::create(path).map_err(|error| file(&name, error))?;
        let store = Store { db, path: name };
        let stored = store.load()?;
        Ok((store, stored))
    }

    fn load(&self) -> Result<Stored, StoreError> {
        let transaction = self.db.begin_write().map_err(|error| file(&self.path, error))?;
        transaction.open_table(ENTRIES).map_err(|error| file(&self.path, error))?;
        self.note_format(&transaction).map_err(|error| file(&self.path, error))?;
        transaction.commit().map_err(|error| file(&self.path, error))?;
        let transaction = self.db.begin_read().map_err(|error| file(&self.path, error))?;
        let meta = transaction.open_table(META).map_err(|error| file(&self.path, error))?;
        let get = |key: &str| -> Result<Vec<u8>, StoreError> {
            let value = meta.get(key).map_err(|error| file(&self.path, error))?;
            Ok(value.map(|value| value.value().to_vec()).unwrap_or_default())
        };
        let found = get(FORMAT_KEY)?.try_into().map_or(1, u32::from_le_bytes);
        if found != FORMAT {
            return Err(StoreError::Format { path: self.path.clone(), found });
        }
        let hard_state = HardState::decode(&*get(HARD_STATE)?).map_err(|_| self.content("hard state"))?;
        let snapshot_meta = SnapshotMetadata::decode(&*get(SNAPSHOT_META)?).map_err(|_| self.content("snapshot"))?;
        let snapshot = get(SNAPSHOT)?;
        let table = transaction.open_table(ENTRIES).map_err(|error| file(&self.path, error))?;
        let mut entries = Vec::new();
        for row in table.iter().map_err(|error| file(&self.path, error))? {
            let (index, bytes) = row.map_err(|error| file(&self.path, error))?;
            let entry = Entry::decode(bytes.value()).map_err(|_| self.content("entry"))?;
            let expected = entries.last().map_or(snapshot_meta.index, |last: &Entry| last.index) + 1;
            if entry.index != index.value() || entry.index != expected {
                return Err(self.content("sequence of entries"));
            }
            entries.push(entry);
        }
        Ok(Stored { hard_state, entries, snapshot_meta, snapshot })
    }

    /// In a new file; one that has something keeps what it says.
    fn note_format(&self, transaction: &redb::WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        if meta.first()?.is_none() {
            meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes()[..])?;
        }
        Ok(())
    }

    /// Keeps new entries, which replace those at and above their first index, and the hard state.
    pub fn save(&self, entries: &[Entry], hard_state: &HardState) -> Result<(), StoreError> {
        self.write(|transaction| {
            if let Some(first) = entries.first() {
                let mut table = transaction.open_table(ENTRIES)?;
                table.retain_in(first.index.., |_, _| false)?;
                for entry in entries {
                    table.insert(entry.index, &*entry.encode_to_vec())?;
                }
            }
            transaction.open_table(META)?.insert(HARD_STATE, &*hard_state.encode_to_vec())?;
            Ok(())
        })
    }

    /// Keeps a snapshot and forgets the entries that it contains.
    pub fn compact(&self, at: &SnapshotMetadata, snapshot: &[u8]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(SNAPSHOT_META, &*at.encode_to_vec())?;
            meta.insert(SNAPSHOT, snapshot)?;
            transaction.open_table(ENTRIES)?.retain_in(..=at.index, |_, _| false)?;
            Ok(())
        })
    }

    /// Keeps the leader's snapshot instead of everything that was here.
    pub fn install(
        &self,
        at: &SnapshotMetadata,
        snapshot: &[u8],
        hard_state: Option<&HardState>,
    ) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            meta.insert(SNAPSHOT_META, &*at.encode_to_vec())?;
            meta.insert(SNAPSHOT, snapshot)?;
            if let Some(hard_state) = hard_state {
                meta.insert(HARD_STATE, &*hard_state.encode_to_vec())?;
            }
            transaction.open_table(ENTRIES)?.retain_in(0u64.., |_, _| false)?;
            Ok(())
        })
    }

    fn write(&self, run: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) -> Result<(), StoreError> {
        let transaction = self.db.begin_write().map_err(|error| file(&self.path, error))?;
        run(&transaction).map_err(|error| file(&self.path, error))?;
        transaction.commit().map_err(|error| file(&self.path, error))
    }

    /// The bytes make no sense.
    pub fn content(&self, what: &'static str) -> StoreError {
        StoreError::Content { path: self.path.clone(), what }
    }
}

fn file(path: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::File { path: path.to_string(), reason: error.to_string() }
}

/// A group of one: this node alone votes.
pub fn sole_voter(node: u64) -> SnapshotMetadata {
    let conf_state = ConfState { voters: vec![node], ..ConfState::default() };
    SnapshotMetadata { conf_state: Some(conf_state), index: 1, term: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_another_release_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.redb");
        let (store, _) = Store::open(&path).unwrap();
        store.save(&[], &HardState { term: 3, ..HardState::default() }).unwrap();
        drop(store);
        let (store, stored) = Store::open(&path).unwrap();
        assert_eq!(stored.hard_state.term, 3);
        let older = store.db.begin_write().unwrap();
        older.open_table(META).unwrap().remove(FORMAT_KEY).unwrap();
        older.commit().unwrap();
        drop(store);
        let refused = Store::open(&path).err().expect("it tells no format").to_string();
        assert!(refused.contains("format 1") && refused.contains(&format!("reads {FORMAT}")), "{refused}");
    }
}
