//! The state of a partition on disk: a function of its log prefix, kept in RocksDB.
//!
//! What a record means is `types::state`; this module keeps the bytes. `rocks` is the storage engine, `view` reads
//! rows, `collect` removes what nobody can ask for, `verify` reads files as the disk has them, `meta` is what the state
//! knows about itself.
//!
//! Invariants:
//! - `applied` and the lineage are written in the same batch as the rows: the files hold the state of one log prefix.
//! - `flushed <= durable(log)`: files never hold a record that the log may lose. `flush` refuses otherwise, and
//!   nothing else flushes. State above the log's end, or of another history, is damage: `open` refuses it.
//! - Every entry names the record that made it, so that `undo` gives back the state of the shorter prefix, down to
//!   `collected().floor`.
//! - Readers hold a snapshot and the lineage that belongs to it, and block nobody.
//!
//! One writer at a time applies, undoes or closes a memtable; a lock sees to it.

mod collect;
mod error;
mod meta;
mod prepared;
mod rocks;
mod verify;
mod view;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, RwLock};
use types::entry::{decode_lineage, encode_lineage};
use types::record::Reader;
use types::state::{self, Get, Mutation, Outcome, Prepared, Space};
use types::{Body, DecodeError, Lineage, Lsn, Ordinal, Record, StartKind, Timestamp, TxnId};

pub use collect::CollectStep;
pub use error::StateError;
pub use meta::Collected;
pub use rocks::{StateConfig, StateEnv};
pub use view::{Commits, Cursor, Entries, Latest, ReadView, ScanLimits};

use rocks::{Batch, Flush, Snapshot, Store};

/// A batch is written when it has grown to this: many records share one write, and none waits for long.
const BATCH_BYTES: usize = 4 << 20;

/// The log that a state belongs to, as it stands when the state is opened.
#[derive(Clone, Copy, Debug)]
pub struct LogPosition<'a> {
    /// The last record.
    pub end: Lsn,
    /// The log's lineage.
    pub lineage: &'a Lineage,
}

/// How this partition decided a transaction as its first participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Committed at this time.
    Commit(Timestamp),
    /// Aborted, or committed in an interval that a promotion declared dead.
    Abort,
}

/// Where the state stands; changes only together with the store.
#[derive(Clone, Debug)]
struct Position {
    applied: Lsn,
    lineage: Arc<Lineage>,
    collected: Collected,
    /// By `prepared`.
    bound: Timestamp,
}

/// The state of one partition replica. Views and cursors keep its files open: the directory can be opened again when
/// they are dropped, too.
pub struct PartitionState {
    partition: Ordinal,
    store: Store,
    /// Held while records are applied or undone and while a memtable is closed.
    writer: Mutex<()>,
    position: RwLock<Position>,
    /// Held by the one who flushes, from closing the memtable until it is in files.
    flusher: Mutex<()>,
    verifier: Mutex<()>,
    flushed: AtomicU64,
    /// By `meta::rows_of`.
    rows: AtomicI64,
    /// Entries written since a pass of garbage collection began, or since the state was opened.
    written: AtomicU64,
    collector: Mutex<collect::Progress>,
}

impl PartitionState {
    /// Opens the state in `dir`, or an empty one if there is none, and compares it with its log. The caller then
    /// applies the records from `applied().next()` on.
    ///
    /// A state that holds what the log does not is refused: `AboveLog`, `OtherHistory`.
    pub fn open(
        env: &Arc<StateEnv>,
        dir: &Path,
        partition: Ordinal,
        log: LogPosition<'_>,
    ) -> Result<PartitionState, StateError> {
        let state = PartitionState::open_unchecked(env, dir, partition)?;
        let Position { applied, lineage, .. } = state.position();
        if applied > log.end {
            return Err(StateError::AboveLog { dir: dir.into(), applied, end: log.end });
        }
        let common = lineage.common_point(applied, log.lineage, log.end);
        if common < applied {
            return Err(StateError::OtherHistory { dir: dir.into(), applied, common });
        }
        Ok(state)
    }

    /// Opens a state whose log is not at hand: a snapshot that was fetched.
    pub(crate) fn open_unchecked(
        env: &Arc<StateEnv>,
        dir: &Path,
        partition: Ordinal,
    ) -> Result<PartitionState, StateError> {
        let store = Store::open(env.clone(), dir)?;
        let position = read_position(&store)?;
        let rows = store.get(&meta::ROWS)?.and_then(|value| value.first_chunk().copied()).map(i64::from_le_bytes);
        Ok(PartitionState {
            rows: AtomicI64::new(rows.unwrap_or(store.entries() as i64)),
            partition,
            flushed: AtomicU64::new(position.applied.0),
            written: AtomicU64::new(0),
            store,
            writer: Mutex::new(()),
            position: RwLock::new(position),
            flusher: Mutex::new(()),
            verifier: Mutex::new(()),
            collector: Mutex::default(),
        })
    }

    /// Which partition of its database.
    pub fn partition(&self) -> Ordinal {
        self.partition
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.store.dir()
    }

    /// The last record that the state includes.
    pub fn applied(&self) -> Lsn {
        self.position.read().applied
    }

    /// The last record that the state includes after a crash; replay starts above it.
    pub fn flushed(&self) -> Lsn {
        Lsn(self.flushed.load(Ordering::Acquire))
    }

    /// The lineage of the log up to `applied`.
    pub fn lineage(&self) -> Arc<Lineage> {
        self.position.read().lineage.clone()
    }

    /// What garbage collection has left of the past.
    pub fn collected(&self) -> Collected {
        self.position.read().collected
    }

    /// Entries written since the last pass of garbage collection began, and all there are, about: whether the next pass
    /// is worth its reading.
    pub fn written_of(&self) -> (u64, u64) {
        (self.written.load(Ordering::Relaxed), self.store.entries())
    }

    /// Bytes that a flush would move to files.
    pub fn memtable_bytes(&self) -> u64 {
        self.store.memtable_bytes()
    }

    /// Rows; a row that was changed counts once more for each change until garbage collection has met it.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed).max(0) as u64
    }

    /// Counts rows in the batch that makes them more or fewer. None is a number, too: without one they are estimated.
    fn count_rows(&self, more: i64, batch: &mut Batch) {
        let rows = self.rows.fetch_add(more, Ordering::Relaxed) + more;
        batch.put(&meta::ROWS, &rows.to_le_bytes());
    }

    /// Bytes on disk and in memory, about.
    pub fn size(&self) -> u64 {
        self.store.size()
    }

    /// Whether the shared memory budget is used up and this partition holds its share or more.
    pub fn should_flush(&self) -> bool {
        self.store.env().over_budget(self.memtable_bytes())
    }

    /// The directory is deleted when the last who reads the state has let go of it: another one has taken its place.
    pub fn doom(&self) {
        self.store.doom();
    }

    fn position(&self) -> Position {
        self.position.read().clone()
    }

    fn damaged(&self, what: String) -> StateError {
        StateError::Damaged { dir: self.dir().into(), what }
    }

    /// Applies records in the order of the log; the first follows `applied`. Several go into one write, and readers
    /// see a prefix of them at any moment.
    ///
    /// Fails with `Damaged` if the log breaks its own rules; records before the offending one may have been applied.
    pub fn apply(&self, records: &[Record]) -> Result<(), StateError> {
        let _writer = self.writer.lock();
        let mut change = Change::new(self);
        for record in records {
            assert_eq!(record.lsn, change.position.applied.next(), "record does not follow the last one applied");
            change.apply(record)?;
        }
        change.write()
    }

    /// Undoes records from the last one applied downwards: each is the one before, the first is at `applied`.
    ///
    /// Fails with `BelowFloor` where what it needs is collected.
    pub fn undo(&self, records: &[Record]) -> Result<(), StateError> {
        let _writer = self.writer.lock();
        let mut change = Change::new(self);
        for record in records {
            assert_eq!(record.lsn, change.position.applied, "record to undo is not the last one applied");
            change.undo(record)?;
        }
        change.write()
    }

    /// Moves everything applied so far to files, synced. `log_durable` is the last record that the log keeps through
    /// a power failure; a state above it is refused (`LogBehind`), and the caller syncs the log first. Records may be
    /// applied meanwhile and are not part of it. Returns the new `flushed`.
    pub fn flush(&self, log_durable: Lsn) -> Result<Lsn, StateError> {
        self.flush_synced(|| Ok(log_durable))
    }

    /// The same, where the log may be behind: `sync` syncs it while nothing is applied, and returns the last record that
    /// it then keeps through a power failure.
    pub fn flush_synced(&self, sync: impl FnOnce() -> Result<Lsn, StateError>) -> Result<Lsn, StateError> {
        let _flusher = self.flusher.lock();
        let (applied, flush) = {
            let _writer = self.writer.lock();
            self.start_flush(sync()?)?
        };
        self.store.finish_flush(flush)?;
        self.flushed.store(applied.0, Ordering::Release);
        Ok(applied)
    }

    /// Closes the memtable. The caller holds the writer's lock.
    fn start_flush(&self, log_durable: Lsn) -> Result<(Lsn, Flush), StateError> {
        let applied = self.applied();
        if applied > log_durable {
            return Err(StateError::LogBehind { applied, durable: log_durable });
        }
        Ok((applied, self.store.start_flush()?))
    }

    /// Flushes, and links the files into `to`. Nothing is applied meanwhile, so that they hold exactly `applied`.
    pub(crate) fn checkpoint(
        &self,
        to: &Path,
        sync: impl FnOnce() -> Result<Lsn, StateError>,
    ) -> Result<(Lsn, Arc<Lineage>), StateError> {
        let _flusher = self.flusher.lock();
        let _writer = self.writer.lock();
        let (applied, flush) = self.start_flush(sync()?)?;
        self.store.finish_flush(flush)?;
        self.flushed.store(applied.0, Ordering::Release);
        self.store.checkpoint(to)?;
        Ok((applied, self.lineage()))
    }

    /// Reads every block of every file from the disk, at most `rate` bytes a second, whatever the cache has of them: an
    /// error that `is_damage` if a checksum fails. Writes and reads go on. Blocks.
    pub fn verify(&self, rate: Option<u64>) -> Result<(), StateError> {
        let _verifier = self.verifier.lock();
        self.store.verify(rate)
    }

    /// A transaction's share as its Prepare left it, whether it has ended or not.
    pub fn prepared(&self, txn: TxnId) -> Result<Option<Prepared>, StateError> {
        let value = self.store.get(&state::txn_key(Space::Prepared, txn))?;
        value.map(|value| Prepared::decode(txn, value)).transpose().map_err(|error| self.damaged(error.to_string()))
    }

    /// How a transaction ended in this partition's log.
    pub fn outcome(&self, txn: TxnId) -> Result<Option<Outcome>, StateError> {
        let value = self.store.get(&state::txn_key(Space::Outcome, txn))?;
        value.map(|value| Outcome::decode(txn, value)).transpose().map_err(|error| self.damaged(error.to_string()))
    }

    /// What this partition decided as first participant; `None` if nothing, or if the decision was forgotten.
    pub fn decision(&self, txn: TxnId) -> Result<Option<Decision>, StateError> {
        let Some(outcome) = self.outcome(txn)?.filter(|outcome| outcome.first == self.partition) else {
            return Ok(None);
        };
        if self.store.get(&state::txn_key(Space::Forgotten, txn))?.is_some() {
            return Ok(None);
        }
        let lineage = self.lineage();
        let alive = outcome.decision.filter(|ts| !lineage.is_dead(*ts, outcome.lsn));
        Ok(Some(alive.map_or(Decision::Abort, Decision::Commit)))
    }

    /// A snapshot and the position that belongs to it.
    fn snapshot(&self) -> (Arc<Snapshot>, Position) {
        let position = self.position.read();
        (self.store.snapshot(), position.clone())
    }
}

/// The last record that a snapshot of the store includes.
fn applied_in(snapshot: &Snapshot) -> Result<Lsn, StateError> {
    format_of(snapshot).map(|(_, applied)| applied)
}

/// Its format, if anything was applied, and the last record that it includes.
fn format_of(snapshot: &Snapshot) -> Result<(Option<u8>, Lsn), StateError> {
    let Some(value) = snapshot.get(&meta::APPLIED)? else { return Ok((None, Lsn::ZERO)) };
    match meta::decode_applied(value) {
        Ok((format @ (meta::UNINDEXED | meta::FORMAT), applied)) => Ok((Some(format), applied)),
        Ok((found, _)) => Err(StateError::Format { dir: snapshot.dir().into(), found, known: meta::FORMAT }),
        Err(error) => Err(unreadable(snapshot, "applied position", error)),
    }
}

fn read_position(store: &Store) -> Result<Position, StateError> {
    let snapshot = store.snapshot();
    let lineage = match snapshot.get(&meta::LINEAGE)? {
        None => Lineage::new(),
        Some(value) => {
            decode_lineage(&mut Reader::new(value)).map_err(|error| unreadable(&snapshot, "lineage", error))?
        }
    };
    let collected = match snapshot.get(&meta::COLLECTED)? {
        None => Collected::default(),
        Some(value) => Collected::decode(value).map_err(|error| unreadable(&snapshot, "collected", error))?,
    };
    let (format, applied) = format_of(&snapshot)?;
    let bound = match format {
        Some(meta::UNINDEXED) => prepared::make(store, applied)?,
        _ => prepared::read_bound(&snapshot)?,
    };
    Ok(Position { applied, lineage: Arc::new(lineage), collected, bound })
}

fn unreadable(snapshot: &Snapshot, what: &str, error: DecodeError) -> StateError {
    StateError::Damaged { dir: snapshot.dir().into(), what: format!("{what}: {error}") }
}

/// Whether a promotion was recorded above a Prepare: it then aborted the transaction.
fn promoted_above(lineage: &Lineage, lsn: Lsn) -> bool {
    let above = lineage.entries().iter().rev().take_while(|entry| entry.start_lsn > lsn);
    above.into_iter().any(|entry| matches!(entry.kind, StartKind::Promotion { .. }))
}

/// Records on their way into the store: a batch, and where the state stands after it. The writer's lock is held.
struct Change<'a> {
    state: &'a PartitionState,
    batch: Batch,
    position: Position,
    /// Entries of transactions that the batch sets or removes: later records of the batch read them.
    pending: BTreeMap<Bytes, Option<Bytes>>,
    /// More rows.
    rows: i64,
}

/// The entries that one record's meaning depends on: of an outcome its transaction's, of others none.
struct Fetched(Vec<(Bytes, Option<Bytes>)>);

impl Get for Fetched {
    fn get(&self, key: &[u8]) -> Option<Bytes> {
        let fetched = self.0.iter().find(|(fetched, _)| fetched == key);
        fetched.expect("an outcome reads the entries of its transaction, other records read none").1.clone()
    }
}

impl<'a> Change<'a> {
    fn new(state: &'a PartitionState) -> Change<'a> {
        Change { state, batch: Batch::default(), position: state.position(), pending: BTreeMap::new(), rows: 0 }
    }

    fn apply(&mut self, record: &Record) -> Result<(), StateError> {
        let changes = self.meaning(record, state::apply)?;
        let lineage = record.lineage_entry().map(|entry| {
            let mut lineage = Lineage::clone(&self.position.lineage);
            lineage.push(entry);
            lineage
        });
        self.add(changes, record.lsn, lineage)
    }

    fn undo(&mut self, record: &Record) -> Result<(), StateError> {
        let (to, floor) = (record.lsn.prev(), self.position.collected.floor);
        if to < floor {
            return Err(StateError::BelowFloor { to, floor });
        }
        let changes = self.meaning(record, state::undo)?;
        let lineage = record.lineage_entry().map(|_| {
            let mut lineage = Lineage::clone(&self.position.lineage);
            lineage.cut(to);
            lineage
        });
        self.add(changes, to, lineage)
    }

    /// What `record` changes, with the entries fetched that an outcome depends on.
    fn meaning(
        &self,
        record: &Record,
        meaning: impl Fn(&Record, &Fetched) -> Vec<Mutation>,
    ) -> Result<Vec<Mutation>, StateError> {
        let Body::Outcome { txn, decision, .. } = &record.body else {
            return Ok(meaning(record, &Fetched(vec![])));
        };
        let (prepared, before) = (self.fetch(Space::Prepared, *txn)?, self.fetch(Space::Outcome, *txn)?);
        // The same conditions are assertions in `types::state`; a log from disk or network earns an error.
        let unreadable = |error: DecodeError| self.state.damaged(format!("entry of transaction {txn}: {error}"));
        if let Some(value) = &before.1 {
            let before = Outcome::decode(*txn, value.clone()).map_err(unreadable)?.lsn;
            if before != record.lsn {
                let what = format!("transaction {txn} ended at {before} and again at {}", record.lsn);
                return Err(self.state.damaged(what));
            }
        }
        match &prepared.1 {
            Some(value) => drop(Prepared::decode(*txn, value.clone()).map_err(unreadable)?),
            None if decision.is_some() => {
                let what = format!("transaction {txn} commits at {} without a Prepare", record.lsn);
                return Err(self.state.damaged(what));
            }
            None => {}
        }
        Ok(meaning(record, &Fetched(vec![prepared, before])))
    }

    fn fetch(&self, space: Space, txn: TxnId) -> Result<(Bytes, Option<Bytes>), StateError> {
        let key = state::txn_key(space, txn);
        let value = match self.pending.get(&key) {
            Some(value) => value.clone(),
            None => self.state.store.get(&key)?,
        };
        Ok((key, value))
    }

    fn add(&mut self, changes: Vec<Mutation>, applied: Lsn, lineage: Option<Lineage>) -> Result<(), StateError> {
        self.state.written.fetch_add(changes.len() as u64, Ordering::Relaxed);
        for Mutation { key, value } in changes {
            if key[0] == Space::Version as u8 {
                self.rows += match &value {
                    Some(version) => meta::rows_of(version),
                    None => self.state.store.get(&key)?.map_or(0, |version| -meta::rows_of(&version)),
                };
            }
            match &value {
                Some(value) => self.batch.put(&key, value),
                None => self.batch.delete(&key),
            }
            if key[0] == Space::Prepared as u8 || key[0] == Space::Outcome as u8 {
                self.index(&key, value.as_ref())?;
                self.pending.insert(key, value);
            }
        }
        self.position.applied = applied;
        if let Some(lineage) = lineage {
            let mut bytes = BytesMut::new();
            encode_lineage(&lineage, &mut bytes);
            self.batch.put(&meta::LINEAGE, &bytes);
            self.position.lineage = Arc::new(lineage);
        }
        if self.batch.size() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), StateError> {
        let before = self.state.position();
        if self.position.applied == before.applied && self.batch.is_empty() {
            return Ok(());
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.put(&meta::APPLIED, &meta::encode_applied(self.position.applied));
        self.state.count_rows(std::mem::take(&mut self.rows), &mut batch);
        if self.position.bound > before.bound {
            prepared::note_bound(self.position.bound, &mut batch);
        }
        self.pending.clear();
        if Arc::ptr_eq(&before.lineage, &self.position.lineage) {
            self.state.store.write(batch)?;
            let mut position = self.state.position.write();
            (position.applied, position.bound) = (self.position.applied, self.position.bound);
        } else {
            // Snapshots are taken under this lock: none sees the rows of one lineage with another one.
            let mut position = self.state.position.write();
            self.state.store.write(batch)?;
            (position.applied, position.bound) = (self.position.applied, self.position.bound);
            position.lineage = self.position.lineage.clone();
        }
        Ok(())
    }
}
