//! Where log and state of a partition meet: apply with its set-aside, flush, rewind, decisions.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use storage::divergence::{DivergenceId, Reason};
use storage::log::{NodeLog, ReadError};
use storage::rewind::{Aside, PartitionLog, Replaced, RewindError};
use storage::state::{PartitionState, StateError};
use types::entry::Intent;
use types::{
    Body, Epoch, Lineage, LineageEntry, Lsn, PartitionId, Promotion, PromotionId, Record, StartKind, Timestamp, TxnId,
};

use super::partition::Shared;

/// What stops a replica.
#[derive(Debug)]
pub enum HistoryError {
    /// Its files are not what was written to them.
    Damaged(String),
    /// The machine refuses.
    Failed(String),
}

impl From<StateError> for HistoryError {
    fn from(error: StateError) -> HistoryError {
        // A view that is too old says nothing about the files.
        let damage = error.is_damage() && !matches!(error, StateError::BelowHorizon { .. });
        HistoryError::of(damage, &error)
    }
}

impl From<RewindError> for HistoryError {
    fn from(error: RewindError) -> HistoryError {
        HistoryError::of(error.is_damage(), &error)
    }
}

impl From<ReadError> for HistoryError {
    fn from(error: ReadError) -> HistoryError {
        HistoryError::of(!matches!(error, ReadError::Log(_)), &error)
    }
}

impl HistoryError {
    fn of(damage: bool, error: &dyn std::error::Error) -> HistoryError {
        let text = error.to_string();
        if damage { HistoryError::Damaged(text) } else { HistoryError::Failed(text) }
    }
}

/// About how many bytes of records are read from the log at once.
pub const READ_BYTES: usize = 1 << 20;

/// The exchange that drops what lies above `to`: what the other history did there first. That is the promotion that
/// it parted by, the same on all partitions and replicas whatever happened to them later; inside a region the epoch.
/// A primary of the region that has rewound and not received the promotion yet shows none: then the catalog's list
/// names the one that is still to come.
fn exchange(to: Lsn, other: &Lineage, promotions: &[Promotion]) -> DivergenceId {
    let above = || other.entries().iter().filter(|entry| entry.start_lsn > to);
    let id_of = |entry: &LineageEntry| match entry.kind {
        StartKind::Promotion { id: PromotionId(id), .. } => Some(id),
        StartKind::Failover => None,
    };
    let carried_out = |id: u128| other.entries().iter().any(|entry| entry.start_lsn <= to && id_of(entry) == Some(id));
    let to_come = promotions.iter().map(|promotion| promotion.id.0).find(|id| !carried_out(*id));
    let promotion = above().find_map(id_of).or(to_come);
    let failover = above().next().or(other.last());
    let of_epoch = |epoch: Epoch| u128::from(epoch.number) << 64 | u128::from(epoch.nonce);
    DivergenceId(promotion.unwrap_or_else(|| failover.map_or(0, |entry| of_epoch(entry.epoch))))
}

/// Begins a rewind, or goes on with the one that the log promises.
pub fn rewind(
    shared: &Shared,
    state: &PartitionState,
    id: PartitionId,
    to: Lsn,
    other: Lineage,
    promotions: &[Promotion],
) -> Result<(), RewindError> {
    let mut log = PartitionLog::new(&shared.log, id);
    let begun = shared.log.summary(id).and_then(|summary| summary.intent);
    let database = id.database.to_string();
    let dir = &shared.divergence_dir;
    // One that was begun before a restart may have kept everything already, when more was known of the exchange.
    let kept = begun.as_ref().and_then(|_| begun_as(dir, id, to));
    let exchange = kept.unwrap_or_else(|| exchange(to, &other, promotions));
    let aside = Aside { dir, database: &database, partition: id, id: exchange, created: wall_millis() };
    let intent = Intent { to, lineage: other };
    let kept = match begun {
        Some(_) => storage::rewind::resume(state, &mut log, &aside, &intent)?,
        None => storage::rewind::rewind(state, &mut log, &aside, &intent)?,
    };
    tracing::info!(partition = %id, %to, transactions = kept.summary.transactions, file = ?kept.file, "rewound");
    Ok(())
}

/// Before a copy counts, what this replica holds and the copy does not is set aside. A replica whose files are damaged, or
/// that has no state, has nothing that could be believed.
pub fn set_aside_replaced(
    shared: &Shared,
    state: &PartitionState,
    id: PartitionId,
    (other, end): (&Lineage, Lsn),
    promotions: &[Promotion],
) -> Result<(), RewindError> {
    let Some(summary) = shared.log.summary(id).filter(|summary| !summary.damaged) else { return Ok(()) };
    let (common, trimmed) = (summary.lineage.common_point(summary.end, other, end), summary.first.prev());
    let replaced = Replaced { state, lineage: &summary.lineage, trimmed, end: summary.end, other, common };
    if replaced.is_held() {
        return Ok(());
    }
    if state.applied() < trimmed {
        tracing::warn!(partition = %id, %common, "a copy replaces what this replica cannot read any more: nothing is set aside");
        return Ok(());
    }
    let (database, dir) = (id.database.to_string(), &shared.divergence_dir);
    let exchange = exchange(common, other, promotions);
    let aside = Aside { dir, database: &database, partition: id, id: exchange, created: wall_millis() };
    let log = PartitionLog::new(&shared.log, id);
    let kept = storage::rewind::set_aside_replaced(&replaced, &log, &aside)?;
    if let Some(file) = &kept.file {
        let transactions = kept.summary.transactions;
        tracing::info!(partition = %id, %common, transactions, ?file, "what a copy replaces is set aside");
    }
    Ok(())
}

/// The exchange under which a complete file holds what a partition had above `to`.
fn begun_as(dir: &Path, id: PartitionId, to: Lsn) -> Option<DivergenceId> {
    let listed = storage::divergence::list(dir).unwrap_or_default();
    let headers = listed.into_iter().filter_map(|file| file.content.ok()).map(|(header, _)| header);
    let about = headers.filter(|h| h.partition == id && h.reason == Reason::Rewind && h.parted_from == to);
    about.max_by_key(|header| header.created).map(|header| header.id)
}

/// Applies committed records. Before the `EpochStart` of a promotion, what it declares dead is set aside.
pub fn apply(shared: &Shared, state: &PartitionState, id: PartitionId, records: &[Record]) -> Result<(), RewindError> {
    let mut rest = records;
    while let Some((at, promotion)) = rest.iter().enumerate().find_map(|(at, record)| Some((at, promotion(record)?))) {
        let (before, from) = rest.split_at(at);
        state.apply(before)?;
        let database = id.database.to_string();
        let dir = &shared.divergence_dir;
        let id_of_file = DivergenceId(promotion.0);
        let aside = Aside { dir, database: &database, partition: id, id: id_of_file, created: wall_millis() };
        storage::rewind::set_aside_promotion(state, &PartitionLog::new(&shared.log, id), &aside, &from[0])?;
        state.apply(&from[..1])?;
        rest = &from[1..];
    }
    Ok(state.apply(rest)?)
}

fn promotion(record: &Record) -> Option<PromotionId> {
    match record.body {
        Body::EpochStart { kind: StartKind::Promotion { id, .. }, .. } => Some(id),
        _ => None,
    }
}

/// How a transaction ended, as its deciding partition's state tells; a commit in a dead interval is an abort.
pub fn decision(state: &PartitionState, txn: TxnId) -> Result<Option<types::state::Outcome>, StateError> {
    let Some(outcome) = state.outcome(txn)? else { return Ok(None) };
    let dead = outcome.decision.is_some_and(|ts| state.lineage().is_dead(ts, outcome.lsn));
    Ok(Some(types::state::Outcome { decision: outcome.decision.filter(|_| !dead), ..outcome }))
}

/// Syncs the log before a flush; returns the last record that it then keeps through a power failure.
pub fn sync(log: &NodeLog, id: PartitionId) -> Result<Lsn, StateError> {
    // What is appended from here on is not waited for.
    let end = log.summary(id).map(|summary| summary.end).unwrap_or_default();
    log.wait_durable().map_err(|error| StateError::LogFailed { reason: error.to_string() })?;
    Ok(end)
}

/// Writes the state's memtable to files.
pub fn flush(log: &NodeLog, state: &PartitionState, id: PartitionId) -> Result<(), StateError> {
    // Most of the log is synced while records are applied, so that little is left while none are.
    sync(log, id)?;
    // The log is synced past what the memtables hold before they become files.
    state.flush_synced(|| sync(log, id)).map(drop)
}

/// The highest time that the state, or the log above it, speaks of.
pub fn newest(log: &NodeLog, state: &PartitionState, id: PartitionId) -> Result<Timestamp, HistoryError> {
    let mut newest = state.newest()?;
    let end = log.summary(id).map(|summary| summary.end).unwrap_or_default();
    let mut next = state.applied().next();
    while next <= end {
        let records = log.read(id, next, READ_BYTES)?;
        let missing = || HistoryError::Damaged(format!("record {next} is not in the log, which ends at {end}"));
        let last = records.last().ok_or_else(missing)?;
        next = last.lsn.next();
        newest = records.iter().filter_map(|record| record.body.timestamp()).fold(newest, Timestamp::max);
    }
    Ok(newest)
}

fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use types::{ClusterId, LineageEntry, Timestamp};

    use super::*;

    fn lineage(entries: &[(u64, Option<u128>)]) -> Lineage {
        let mut lineage = Lineage::new();
        for (number, (start, promotion)) in entries.iter().enumerate() {
            let kind = match promotion {
                Some(id) => StartKind::Promotion { id: PromotionId(*id), cut: Timestamp(1) },
                None => StartKind::Failover,
            };
            let epoch = Epoch { number: number as u64 + 1, cluster: ClusterId(1), nonce: 5 };
            lineage.push(LineageEntry { epoch, start_lsn: Lsn(*start), start_ts: Timestamp(1), kind });
        }
        lineage
    }

    #[test]
    fn an_exchange_has_one_name_whatever_came_before_and_after() {
        let plain = lineage(&[(1, None), (40, Some(7))]);
        assert_eq!(exchange(Lsn(39), &plain, &[]), DivergenceId(7));
        let failed_over = lineage(&[(1, None), (20, None), (40, Some(7)), (50, None), (60, None)]);
        assert_eq!(exchange(Lsn(39), &failed_over, &[]), DivergenceId(7), "failovers after the promotion");
        assert_eq!(exchange(Lsn(10), &failed_over, &[]), DivergenceId(7), "a failover before it that is missing here");
        let twice = lineage(&[(1, None), (40, Some(7)), (50, Some(8))]);
        assert_eq!(exchange(Lsn(39), &twice, &[]), DivergenceId(7), "the first promotion is where they parted");
        assert_eq!(exchange(Lsn(45), &twice, &[]), DivergenceId(8));
        let list = [7, 8].map(|id| Promotion { id: PromotionId(id), cut: Timestamp(1) });
        let rewound = lineage(&[(1, None)]);
        assert_eq!(exchange(Lsn(39), &rewound, &list), DivergenceId(7), "as its primary, before the promotion is here");
        let joined = lineage(&[(1, None), (40, Some(7))]);
        assert_eq!(exchange(Lsn(45), &joined, &list), DivergenceId(8), "the next one");
        let region = lineage(&[(1, None), (40, None), (50, None)]);
        assert_eq!(exchange(Lsn(39), &region, &[]), DivergenceId(2 << 64 | 5), "the failover that dropped it");
    }
}
