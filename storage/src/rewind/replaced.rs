//! What a copy of another history replaces: set aside before the copy counts.
//!
//! Nothing is undone here, and nothing applied: the old replica stays what it is until the node log says that the copy is
//! there. So what the log holds above the state is set aside as its records tell it, with the rows that were written just
//! before, be it in the state or in a record in between. Where the log was trimmed above the parting point, the state is
//! asked: it knows the versions of rows, but of a commit of one partition not the transaction; such a transaction is named
//! by its position. Versions that garbage collection has removed were replaced by later ones, which are there.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::state::{self, Space, Version};
use types::{Body, Epoch, Lineage, Lsn, Record, Timestamp, TxnId, Write};

use super::{About, Aside, RecordSource, RewindError, SetAside, already_set_aside, for_each_record};
use crate::divergence::{DivergenceWriter, Entry, Reason, Stage, Summary};
use crate::state::{PartitionState, StateError};

/// A replica that is about to be replaced by a copy.
pub struct Replaced<'a> {
    /// Its rows.
    pub state: &'a PartitionState,
    /// The lineage of its log, which the state is a prefix of.
    pub lineage: &'a Lineage,
    /// Records at and below this have been trimmed; at or below the state's position.
    pub trimmed: Lsn,
    /// Its log's last record.
    pub end: Lsn,
}

/// Sets aside every commit and every Prepare that a replica holds above `common`, in the order of the log.
///
/// Repeating it changes nothing. Without a file in the result there was nothing to keep.
pub fn set_aside_replaced(
    replaced: &Replaced<'_>,
    log: &impl RecordSource,
    aside: &Aside<'_>,
    common: Lsn,
) -> Result<SetAside, RewindError> {
    let Replaced { state, lineage, trimmed, end } = *replaced;
    let nothing = SetAside { file: None, summary: Summary::default() };
    if end <= common {
        return Ok(nothing);
    }
    let end_epoch = epoch_at(state, lineage, end)?;
    let parted_epoch = lineage.epoch_at(common);
    let header = aside.header((Reason::Rewind, common, parted_epoch), (end, end_epoch));
    if let Some(done) = already_set_aside(aside.dir, &header)? {
        return Ok(done);
    }
    let mut writer = DivergenceWriter::create(aside.dir, &header)?;
    // What the state has not applied is read from there, also where both histories have it: rows before are told by it.
    let rest = (common.min(state.applied()).max(trimmed).next(), end);
    let mut ends = Ends::new();
    for_each_record(log, rest, |record| {
        if let Body::Outcome { txn, decision, .. } = record.body {
            ends.insert(txn, decision);
        }
        Ok(())
    })?;
    for entry in known_by_state(replaced, common, &ends)? {
        writer.entry(&entry?)?;
    }
    let mut tail = Tail { state, prepared: BTreeMap::new(), rows: BTreeMap::new() };
    for_each_record(log, rest, |record| tail.write((record.lsn > common).then_some(&mut writer), record, &ends))?;
    let (file, summary) = writer.finish()?;
    if summary.records == 0 {
        super::remove(&file)?;
        return Ok(nothing);
    }
    Ok(SetAside { file: Some(file), summary })
}

fn epoch_at(state: &PartitionState, lineage: &Lineage, lsn: Lsn) -> Result<Epoch, RewindError> {
    let what = || format!("record {lsn} is of no epoch of the lineage");
    Ok(lineage.epoch_at(lsn).ok_or_else(|| StateError::Damaged { dir: state.dir().into(), what: what() })?)
}

/// One version of a row that the state tells of: position, row key, commit time.
type Told = (Lsn, Bytes, Timestamp);

/// The entries of records above `common` that the log has no longer, as far as the state still has their rows, in the
/// order of the log. Shares that are open, and not ended by the rest of the log, come last.
fn known_by_state<'a>(
    replaced: &Replaced<'a>,
    common: Lsn,
    ends: &Ends,
) -> Result<impl Iterator<Item = Result<Entry, RewindError>> + use<'a>, RewindError> {
    let Replaced { state, lineage, trimmed, .. } = *replaced;
    let is_gone = move |lsn: Lsn| common < lsn && lsn <= trimmed;
    let (mut told, mut decided) = (Vec::<Told>::new(), BTreeMap::new());
    if common < trimmed {
        for entry in state.entries() {
            let (key, value) = entry?;
            let bad = |_| StateError::Damaged { dir: state.dir().into(), what: "a version cannot be read".into() };
            if let Some((row, ts)) = state::split_version_key(&key) {
                let version = Version::decode(value).map_err(bad)?;
                if is_gone(version.lsn) && !lineage.is_dead(ts, version.lsn) {
                    told.push((version.lsn, key.slice_ref(row), ts));
                }
            } else if key.first() == Some(&(Space::Outcome as u8))
                && let Some(txn) = key.get(1..).and_then(|txn| txn.try_into().ok()).map(u128::from_be_bytes)
                && let Some(outcome) = state.outcome(TxnId(txn))?.filter(|outcome| is_gone(outcome.lsn))
            {
                decided.insert(outcome.lsn, (outcome.txn, outcome.first));
            }
        }
        told.sort();
    }
    // Without a part that is missing there is nothing to look for.
    let mut open = if common < trimmed { state.open_prepared()? } else { vec![] };
    open.retain(|prepared| is_gone(prepared.lsn) && !ends.contains_key(&prepared.txn));
    let open = open.into_iter().flat_map(move |prepared| {
        let (stage, first) = (Stage::Prepared, Some(prepared.first));
        let about = About { stage, txn: prepared.txn, ts: prepared.bound, first };
        let entry = move |write: Write| {
            let old = state.before(&write.key, Timestamp::MAX, prepared.lsn)?;
            Ok(about.entry(prepared.lsn, epoch_at(state, lineage, prepared.lsn)?, write, old))
        };
        prepared.writes.into_iter().map(entry)
    });
    let committed = told.into_iter().map(move |(lsn, key, ts)| {
        let (txn, first) = match decided.get(&lsn) {
            Some((txn, first)) => (*txn, Some(*first)),
            None => (TxnId(lsn.0.into()), None),
        };
        let value = state.before(&key, Timestamp(ts.0.saturating_add(1)), lsn.next())?;
        let old = state.before(&key, ts, lsn)?;
        let about = About { stage: Stage::Commit, txn, ts, first };
        Ok(about.entry(lsn, epoch_at(state, lineage, lsn)?, Write { key, value }, old))
    });
    Ok(committed.chain(open))
}

/// How the transactions ended that the walk over the log meets: `None` is an abort.
type Ends = BTreeMap<TxnId, Option<Timestamp>>;

/// What is known of the part of the log that is read, as far as it is read.
struct Tail<'a> {
    state: &'a PartitionState,
    /// Shares whose Prepare the state has not applied.
    prepared: BTreeMap<TxnId, Vec<Write>>,
    /// Rows that records above the state have written, and when.
    rows: BTreeMap<Bytes, BTreeMap<Timestamp, Option<Bytes>>>,
}

impl Tail<'_> {
    /// Learns from one record, and sets aside what it did, if there is a writer.
    fn write(
        &mut self,
        writer: Option<&mut DivergenceWriter>,
        record: &Record,
        ends: &Ends,
    ) -> Result<(), RewindError> {
        match &record.body {
            Body::Commit { txn, ts, writes } => {
                let about = About { stage: Stage::Commit, txn: *txn, ts: *ts, first: None };
                self.rows(writer, record, &about, writes)
            }
            Body::Outcome { txn, first, decision: Some(ts) } => {
                let writes = match self.prepared.remove(txn) {
                    Some(writes) => writes,
                    None => self.state.prepared(*txn)?.map(|prepared| prepared.writes).unwrap_or_default(),
                };
                let about = About { stage: Stage::Commit, txn: *txn, ts: *ts, first: Some(*first) };
                self.rows(writer, record, &about, &writes)
            }
            Body::Prepare { txn, bound, first, writes } => {
                let stage = match ends.get(txn) {
                    Some(Some(_)) => {
                        self.prepared.insert(*txn, writes.clone());
                        return Ok(());
                    }
                    Some(None) => Stage::Aborted,
                    None => Stage::Prepared,
                };
                self.rows(writer, record, &About { stage, txn: *txn, ts: *bound, first: Some(*first) }, writes)
            }
            Body::Outcome { decision: None, .. } | Body::EpochStart { .. } | Body::Forget { .. } => Ok(()),
        }
    }

    /// What a row was before a record wrote it. Times need not have the order of the log.
    fn before(&self, key: &Bytes, ts: Timestamp, lsn: Lsn) -> Result<Option<Bytes>, RewindError> {
        let applied = self.state.version_before(key, ts, lsn)?;
        let above = self.rows.get(key).and_then(|versions| versions.range(..ts).next_back());
        Ok(match (applied, above) {
            (Some(applied), Some((at, _))) if applied.ts > *at => applied.value,
            (_, Some((_, value))) => value.clone(),
            (applied, None) => applied.and_then(|applied| applied.value),
        })
    }

    fn rows(
        &mut self,
        mut writer: Option<&mut DivergenceWriter>,
        record: &Record,
        about: &About,
        writes: &[Write],
    ) -> Result<(), RewindError> {
        let commits = about.stage == Stage::Commit;
        let before = if commits { about.ts } else { Timestamp::MAX };
        for write in writes {
            let old = self.before(&write.key, before, record.lsn)?;
            if commits && record.lsn > self.state.applied() {
                self.rows.entry(write.key.clone()).or_default().insert(about.ts, write.value.clone());
            }
            if let Some(writer) = &mut writer {
                writer.entry(&about.entry(record.lsn, record.epoch, write.clone(), old))?;
            }
        }
        Ok(())
    }
}
