//! What a copy of another history replaces: set aside before the copy counts.
//!
//! Nothing is undone here, and nothing applied: the old replica stays what it is until the node log says that the copy is
//! there. So what the log holds above the state is set aside as its records tell it, with the rows that were written just
//! before, be it in the state or in a record in between. Where the log was trimmed above the parting point, the state is
//! asked: it knows the versions of rows, but of a commit of one partition not the transaction; such a transaction is named
//! by its position. Versions that garbage collection has removed were replaced by later ones, which are there.
//!
//! The copy lacks some of what both logs hold, too: where its history has parted by a promotion, commits between the
//! promotion's cut and its start are dead there, and what was prepared is aborted.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::state::{self, Space, Version};
use types::{Body, Epoch, Lineage, LineageEntry, Lsn, Record, StartKind, Timestamp, TxnId, Write};

use super::tail::{Ends, Tail, ends};
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
    /// The lineage of the copy.
    pub other: &'a Lineage,
    /// What both logs hold ends here.
    pub common: Lsn,
}

impl Replaced<'_> {
    /// The copy holds everything, as far as the lineages tell: nothing needs to be read.
    pub fn is_held(&self) -> bool {
        self.end == Lsn::ZERO || self.end <= self.common && !self.is_promoted()
    }

    /// The copy's history has parted from this one by a promotion, or has had one since.
    fn is_promoted(&self) -> bool {
        let promotes = |entry: &LineageEntry| matches!(entry.kind, StartKind::Promotion { .. });
        self.other.entries().iter().any(|entry| entry.start_lsn > self.common && promotes(entry))
    }

    /// Whether the copy lacks a living commit.
    fn lacks(&self, ts: Timestamp, lsn: Lsn) -> bool {
        !self.lineage.is_dead(ts, lsn) && (lsn > self.common || self.other.is_dead(ts, lsn))
    }

    /// Up to here records are not read; the state has applied them.
    fn told_by_state(&self) -> Lsn {
        self.common.min(self.state.applied()).max(self.trimmed)
    }
}

/// Sets aside every commit and every Prepare that a replica holds and the copy does not, in the order of the log.
///
/// Repeating it changes nothing. Without a file in the result there was nothing to keep.
pub fn set_aside_replaced(
    replaced: &Replaced<'_>,
    log: &impl RecordSource,
    aside: &Aside<'_>,
) -> Result<SetAside, RewindError> {
    let Replaced { state, lineage, end, common, .. } = *replaced;
    let nothing = SetAside { file: None, summary: Summary::default() };
    if replaced.is_held() {
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
    let rest = (replaced.told_by_state().next(), end);
    let ends = ends(log, rest)?;
    for entry in known_by_state(replaced, &ends)? {
        writer.entry(&entry?)?;
    }
    let mut tail = Tail::new(state);
    let promoted = replaced.is_promoted();
    let is_lacking = |record: &Record| match &record.body {
        _ if record.lsn > common => true,
        Body::Commit { ts, .. } | Body::Outcome { decision: Some(ts), .. } => replaced.lacks(*ts, record.lsn),
        Body::Prepare { txn, .. } => promoted && !ends.contains_key(txn),
        _ => false,
    };
    for_each_record(log, rest, |record| tail.write(is_lacking(record).then_some(&mut writer), record, &ends))?;
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

/// The entries of records that are not read, as far as the state still has their rows, in the order of the log. Shares that
/// are open, and not ended by the rest of the log, come last.
fn known_by_state<'a>(
    replaced: &Replaced<'a>,
    ends: &Ends,
) -> Result<impl Iterator<Item = Result<Entry, RewindError>> + use<'a>, RewindError> {
    let Replaced { state, lineage, common, .. } = *replaced;
    let (last, promoted) = (replaced.told_by_state(), replaced.is_promoted());
    // Without a part that is missing there is nothing to look for.
    let looks = common < last || promoted;
    let (mut told, mut decided) = (Vec::<Told>::new(), BTreeMap::new());
    if looks {
        for entry in state.entries() {
            let (key, value) = entry?;
            let bad = |_| StateError::Damaged { dir: state.dir().into(), what: "a version cannot be read".into() };
            if let Some((row, ts)) = state::split_version_key(&key) {
                let version = Version::decode(value).map_err(bad)?;
                if version.lsn <= last && replaced.lacks(ts, version.lsn) {
                    told.push((version.lsn, key.slice_ref(row), ts));
                }
            } else if key.first() == Some(&(Space::Outcome as u8))
                && let Some(txn) = key.get(1..).and_then(|txn| txn.try_into().ok()).map(u128::from_be_bytes)
                && let Some(outcome) = state.outcome(TxnId(txn))?.filter(|outcome| outcome.lsn <= last)
            {
                decided.insert(outcome.lsn, (outcome.txn, outcome.first));
            }
        }
        told.sort();
    }
    let mut open = if looks { state.open_prepared()? } else { vec![] };
    let is_lacking = |lsn: Lsn| lsn <= last && (lsn > common || promoted);
    open.retain(|prepared| is_lacking(prepared.lsn) && !ends.contains_key(&prepared.txn));
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
