//! Rewind: a replica drops what its new history does not have, and keeps it in a file first.
//!
//! The steps, each durable before the next begins:
//!
//! 1. the intent is synced in the node log, and with it every record above the parting point;
//! 2. the divergence file is complete and synced;
//! 3. the state walks back: each record above the point is undone, `applied` goes down in the same batches;
//! 4. the state is flushed;
//! 5. the cut of the log is synced;
//! 6. the intent is cleared.
//!
//! Under an intent the replica serves nothing, is a member of nothing, and applies nothing.
//! A restart opens the state, which may lag behind or stand at any record that was walked back to, and calls
//! `resume`. Whether step 2 is done is told by the file's name. What the state has not applied it never does: old values
//! come from the records themselves (`tail`). After step 5 the log holds no record above the point, so
//! nothing is left to undo.
//!
//! The other places where something is set aside are here, too: commits that a promotion declares dead, before its
//! `EpochStart` is applied (`set_aside_promotion`), and what a copy of another history replaces (`replaced`).

mod partition_log;
mod replaced;
mod tail;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use thiserror::Error;
use types::entry::Intent;
use types::state::Prepared;
use types::{Body, Epoch, LineageEntry, Lsn, Ordinal, PartitionId, Record, StartKind, Timestamp, TxnId, Write};

use crate::divergence::{
    DivergenceError, DivergenceId, DivergenceReader, DivergenceWriter, Entry, Header, Reason, Stage, Summary, find,
};
use crate::log::ReadError;
use crate::state::{PartitionState, StateError};
use tail::Tail;

pub use partition_log::PartitionLog;
pub use replaced::{Replaced, set_aside_replaced};

/// Records are read, applied and undone in groups of about so many bytes,
const GROUP_BYTES: usize = 4 << 20;
/// and of at most so many records.
const GROUP_RECORDS: usize = 256;

/// What a log may say when it fails.
pub type LogFailure = Box<dyn std::error::Error + Send + Sync>;

/// Reads a partition's log.
pub trait RecordSource {
    /// The record at a position that the log holds.
    fn record(&self, lsn: Lsn) -> Result<Record, LogFailure>;
}

/// What a rewind needs of a partition's log.
pub trait RewindLog: RecordSource {
    /// The last record.
    fn end(&self) -> Lsn;

    /// Makes the intent durable, and every record of the partition below it.
    fn sync_intent(&mut self, intent: &Intent) -> Result<(), LogFailure>;

    /// Drops every record above `to`, durably. From then on `end` is `to`.
    fn sync_cut(&mut self, to: Lsn) -> Result<(), LogFailure>;

    /// Forgets the intent, durably.
    fn clear_intent(&mut self) -> Result<(), LogFailure>;
}

/// Why a rewind stopped. The intent stands; `resume` goes on once the cause is gone.
#[derive(Debug, Error)]
pub enum RewindError {
    /// The state refused.
    #[error("rewind: {0}")]
    State(#[from] StateError),
    /// The divergence file could not be written.
    #[error("rewind: nothing is undone before it is set aside: {0}")]
    Divergence(#[from] DivergenceError),
    /// The log refused.
    #[error("rewind: {action} failed: {source}")]
    Log {
        /// What was tried.
        action: &'static str,
        /// The log's word.
        source: LogFailure,
    },
}

impl RewindError {
    /// The replica has to be rebuilt from another one: its files, or what its log still holds, do not do.
    pub fn is_damage(&self) -> bool {
        match self {
            RewindError::State(error) => error.is_damage(),
            RewindError::Divergence(_) => false,
            RewindError::Log { source, .. } => {
                source.downcast_ref::<ReadError>().is_some_and(|error| !matches!(error, ReadError::Log(_)))
            }
        }
    }
}

/// What was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The file, `None` if there was nothing to keep.
    pub file: Option<PathBuf>,
    /// What it holds.
    pub summary: Summary,
}

/// Where divergence files go, and what they say of themselves.
#[derive(Clone, Debug)]
pub struct Aside<'a> {
    /// The directory.
    pub dir: &'a Path,
    /// The database's name.
    pub database: &'a str,
    /// The partition.
    pub partition: PartitionId,
    /// The exchange: the same on all partitions and replicas.
    pub id: DivergenceId,
    /// Now, in milliseconds since 1970.
    pub created: u64,
}

impl Aside<'_> {
    /// Of a file about what follows `parted_from`, up to the record at `end`.
    fn header(
        &self,
        (reason, parted_from, parted_epoch): (Reason, Lsn, Option<Epoch>),
        (end, end_epoch): (Lsn, Epoch),
    ) -> Header {
        Header {
            id: self.id,
            database: self.database.into(),
            partition: self.partition,
            reason,
            parted_from,
            parted_epoch,
            end,
            end_epoch,
            created: self.created,
        }
    }
}

/// Begins a rewind (step 1) and carries it through. Fails with `BelowFloor`, before anything is promised, where the
/// versions it needs are gone.
pub fn rewind(
    state: &PartitionState,
    log: &mut impl RewindLog,
    aside: &Aside<'_>,
    intent: &Intent,
) -> Result<SetAside, RewindError> {
    let floor = state.collected().floor;
    if intent.to < floor {
        return Err(StateError::BelowFloor { to: intent.to, floor }.into());
    }
    log.sync_intent(intent).map_err(failed("syncing the intent"))?;
    resume(state, log, aside, intent)
}

/// Steps 2 to 6, from wherever an earlier attempt stopped.
pub fn resume(
    state: &PartitionState,
    log: &mut impl RewindLog,
    aside: &Aside<'_>,
    intent: &Intent,
) -> Result<SetAside, RewindError> {
    let end = log.end();
    let mut set_aside = set_aside_tail(state, log, aside, intent)?;
    walk_back(state, log, intent.to, end)?;
    state.flush(end)?;
    if end > intent.to {
        log.sync_cut(intent.to).map_err(failed("syncing the cut"))?;
    }
    log.clear_intent().map_err(failed("clearing the intent"))?;
    // An empty file has told that step 2 was done, and has nothing else to tell.
    if set_aside.summary.records == 0
        && let Some(file) = set_aside.file.take()
    {
        remove(&file)?;
    }
    Ok(set_aside)
}

/// Step 2: every commit and every Prepare above the point, in the order of the log.
fn set_aside_tail(
    state: &PartitionState,
    log: &impl RewindLog,
    aside: &Aside<'_>,
    intent: &Intent,
) -> Result<SetAside, RewindError> {
    let end = log.end();
    if end <= intent.to {
        // The log was cut, so the file was complete, and the state has nothing above the cut.
        assert!(state.applied() <= intent.to, "state at {}, log cut at {}", state.applied(), intent.to);
        return Ok(SetAside { file: None, summary: Summary::default() });
    }
    let last = log.record(end).map_err(failed("reading the last record"))?;
    let parted = match intent.to > state.applied() {
        true => Some(log.record(intent.to).map_err(failed("reading the record at the parting point"))?.epoch),
        false => state.lineage().epoch_at(intent.to),
    };
    let header = aside.header((Reason::Rewind, intent.to, parted), (last.lsn, last.epoch));
    if let Some(done) = already_set_aside(aside.dir, &header)? {
        return Ok(done);
    }
    let mut writer = DivergenceWriter::create(aside.dir, &header)?;
    // Below the point, what the state has not applied is learnt from.
    let told = (intent.to.min(state.applied()).next(), end);
    let ends = tail::ends(log, told)?;
    let mut tail = Tail::new(state);
    for_each_record(log, told, |record| tail.write((record.lsn > intent.to).then_some(&mut writer), record, &ends))?;
    let (file, summary) = writer.finish()?;
    Ok(SetAside { file: Some(file), summary })
}

/// Reads the records from the first to the last position, in their order.
fn for_each_record(
    log: &impl RecordSource,
    (first, last): (Lsn, Lsn),
    mut each: impl FnMut(&Record) -> Result<(), RewindError>,
) -> Result<(), RewindError> {
    let mut lsn = first;
    while lsn <= last {
        each(&log.record(lsn).map_err(failed("reading a record to set aside"))?)?;
        lsn = lsn.next();
    }
    Ok(())
}

/// Sets aside what one record above the point did.
fn write_record(state: &PartitionState, writer: &mut DivergenceWriter, record: &Record) -> Result<(), RewindError> {
    match &record.body {
        Body::Commit { txn, ts, writes } => {
            let about = About { stage: Stage::Commit, txn: *txn, ts: *ts, first: None };
            write_rows(state, writer, record, &about, writes)
        }
        Body::Outcome { txn, first, decision: Some(ts) } => {
            let prepared = state.prepared(*txn)?.ok_or_else(|| StateError::Damaged {
                dir: state.dir().into(),
                what: format!("the rows of transaction {txn}, committed at {}, are gone", record.lsn),
            })?;
            let about = About { stage: Stage::Commit, txn: *txn, ts: *ts, first: Some(*first) };
            write_rows(state, writer, record, &about, &prepared.writes)
        }
        Body::Prepare { txn, bound, first, writes } => {
            let stage = match state.outcome(*txn)?.map(|outcome| outcome.decision) {
                // The outcome's own entry has its rows.
                Some(Some(_)) => return Ok(()),
                Some(None) => Stage::Aborted,
                None => Stage::Prepared,
            };
            write_rows(state, writer, record, &About { stage, txn: *txn, ts: *bound, first: Some(*first) }, writes)
        }
        Body::Outcome { decision: None, .. } | Body::EpochStart { .. } | Body::Forget { .. } => Ok(()),
    }
}

/// What the entries of one record have in common.
#[derive(Clone, Copy)]
struct About {
    stage: Stage,
    txn: TxnId,
    ts: Timestamp,
    first: Option<Ordinal>,
}

impl About {
    /// One write of it, by the record at `lsn`, over what the row was before.
    fn entry(&self, lsn: Lsn, epoch: Epoch, write: Write, old: Option<Bytes>) -> Entry {
        let About { stage, txn, ts, first } = *self;
        Entry { stage, txn, ts, lsn, epoch, first, key: write.key, old, new: write.value }
    }
}

fn write_rows(
    state: &PartitionState,
    writer: &mut DivergenceWriter,
    record: &Record,
    about: &About,
    writes: &[Write],
) -> Result<(), RewindError> {
    // A prepared write would have replaced whatever was newest.
    let before = if about.stage == Stage::Commit { about.ts } else { Timestamp::MAX };
    for write in writes {
        let old = state.before(&write.key, before, record.lsn)?;
        writer.entry(&about.entry(record.lsn, record.epoch, write.clone(), old))?;
    }
    Ok(())
}

/// Step 3: undoes what the state holds above `to`.
fn walk_back(state: &PartitionState, log: &impl RecordSource, to: Lsn, end: Lsn) -> Result<(), RewindError> {
    while state.applied() > to {
        let (mut group, mut bytes, mut lsn) = (Vec::new(), 0, state.applied());
        while lsn > to && bytes < GROUP_BYTES && group.len() < GROUP_RECORDS {
            let record = log.record(lsn).map_err(failed("reading a record to undo"))?;
            bytes += record.size();
            group.push(record);
            lsn = lsn.prev();
        }
        state.undo(&group)?;
        if state.should_flush() {
            state.flush(end)?;
        }
    }
    Ok(())
}

/// Sets aside, before the `EpochStart` of a promotion is applied, what it will declare dead: commits strictly between
/// its cut and its start, and every transaction that is prepared and undecided. The state has every record below it.
///
/// Repeating it changes nothing. Without a file in the result there was nothing to keep.
pub fn set_aside_promotion(
    state: &PartitionState,
    log: &impl RecordSource,
    aside: &Aside<'_>,
    start: &Record,
) -> Result<SetAside, RewindError> {
    let nothing = SetAside { file: None, summary: Summary::default() };
    let Some(LineageEntry { kind: StartKind::Promotion { cut, .. }, start_ts, start_lsn, .. }) = start.lineage_entry()
    else {
        return Ok(nothing);
    };
    assert_eq!(state.applied(), start_lsn.prev(), "set aside right before the EpochStart is applied");
    // Rows whose newest living version the interval would declare dead may have lost the one before it.
    let horizon = state.collected().horizon;
    if cut < horizon {
        return Err(StateError::BelowHorizon { view: cut, horizon }.into());
    }
    let parted_epoch = state.lineage().epoch_at(start_lsn.prev());
    let header = aside.header((Reason::Promotion, start_lsn.prev(), parted_epoch), (start.lsn, start.epoch));
    if let Some(done) = already_set_aside(aside.dir, &header)? {
        return Ok(done);
    }
    let mut dead = state.commits_between(cut, start_ts).peekable();
    let open = state.open_prepared()?;
    if dead.peek().is_none() && open.is_empty() {
        return Ok(nothing);
    }
    let mut writer = DivergenceWriter::create(aside.dir, &header)?;
    let read = |lsn| log.record(lsn).map_err(failed("reading a record to set aside"));
    for commit in dead {
        write_record(state, &mut writer, &read(commit?.1)?)?;
    }
    for prepared in open {
        write_record(state, &mut writer, &prepare_record(state, prepared)?)?;
    }
    let (file, summary) = writer.finish()?;
    Ok(SetAside { file: Some(file), summary })
}

/// The Prepare of a transaction, as the state keeps it: the log may be trimmed above it.
fn prepare_record(state: &PartitionState, prepared: Prepared) -> Result<Record, RewindError> {
    let Prepared { txn, lsn, bound, first, writes } = prepared;
    let epoch = state.lineage().epoch_at(lsn);
    let what = || format!("transaction {txn}, prepared at {lsn}, is of no epoch of the lineage");
    let epoch = epoch.ok_or_else(|| StateError::Damaged { dir: state.dir().into(), what: what() })?;
    Ok(Record { epoch, lsn, body: Body::Prepare { txn, bound, first, writes } })
}

/// What an earlier attempt has set aside completely. Nothing is undone on the word of a file that does not hold what
/// it says: it is read to the end, and a damaged one is written again.
fn already_set_aside(dir: &Path, header: &Header) -> Result<Option<SetAside>, RewindError> {
    let Some(path) = find(dir, header)? else { return Ok(None) };
    match verify(&path) {
        Ok(summary) => Ok(Some(SetAside { file: Some(path), summary })),
        Err(DivergenceError::Damaged { .. } | DivergenceError::Unknown { .. }) => {
            remove(&path)?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

fn verify(path: &Path) -> Result<Summary, DivergenceError> {
    let mut reader = DivergenceReader::open(path)?;
    for entry in reader.by_ref() {
        entry?;
    }
    Ok(reader.summary().expect("the reader has come to the end"))
}

fn remove(file: &Path) -> Result<(), RewindError> {
    let failed = |source| DivergenceError::Io { action: "removing", path: file.into(), source };
    Ok(std::fs::remove_file(file).map_err(failed)?)
}

fn failed(action: &'static str) -> impl FnOnce(LogFailure) -> RewindError {
    move |source| RewindError::Log { action, source }
}
