//! Where log and state of a partition meet: apply with its set-aside, rewind, decisions.

use std::time::{SystemTime, UNIX_EPOCH};

use storage::divergence::DivergenceId;
use storage::rewind::{Aside, PartitionLog, RewindError};
use storage::state::{PartitionState, StateError};
use types::entry::Intent;
use types::{Body, Lineage, Lsn, PartitionId, PromotionId, Record, StartKind, TxnId};

use super::partition::Shared;

/// The exchange that drops something: the promotion that is followed from now on, the same on all partitions and
/// replicas; inside a region the epoch.
fn exchange(lineage: &Lineage) -> DivergenceId {
    DivergenceId(lineage.last().map_or(0, |last| match last.kind {
        StartKind::Promotion { id: PromotionId(id), .. } => id,
        StartKind::Failover => u128::from(last.epoch.number) << 64 | u128::from(last.epoch.nonce),
    }))
}

/// Begins a rewind, or goes on with the one that the log promises.
pub fn rewind(
    shared: &Shared,
    state: &PartitionState,
    id: PartitionId,
    to: Lsn,
    other: Lineage,
) -> Result<(), RewindError> {
    let mut log = PartitionLog::new(&shared.log, id);
    let begun = shared.log.summary(id).and_then(|summary| summary.intent);
    let database = id.database.to_string();
    let dir = &shared.divergence_dir;
    let aside = Aside { dir, database: &database, partition: id, id: exchange(&other), created: wall_millis() };
    let intent = Intent { to, lineage: other };
    let kept = match begun {
        Some(_) => storage::rewind::resume(state, &mut log, &aside, &intent)?,
        None => storage::rewind::rewind(state, &mut log, &aside, &intent)?,
    };
    tracing::info!(partition = %id, %to, transactions = kept.summary.transactions, file = ?kept.file, "rewound");
    Ok(())
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

fn wall_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
