//! Where log and state of a partition meet: apply with its set-aside, rewind, decisions.

use std::time::{SystemTime, UNIX_EPOCH};

use storage::divergence::DivergenceId;
use storage::rewind::{Aside, PartitionLog, RewindError};
use storage::state::{PartitionState, StateError};
use types::entry::Intent;
use types::{Body, Epoch, Lineage, Lsn, PartitionId, PromotionId, Record, StartKind, TxnId};

use super::partition::Shared;

/// The exchange that drops what lies above `to`: what the other history did there first. That is the promotion that
/// it parted by, the same on all partitions and replicas whatever happened to them later; inside a region the epoch.
fn exchange(to: Lsn, other: &Lineage) -> DivergenceId {
    let above = || other.entries().iter().filter(|entry| entry.start_lsn > to);
    let promotion = above().find_map(|entry| match entry.kind {
        StartKind::Promotion { id: PromotionId(id), .. } => Some(id),
        StartKind::Failover => None,
    });
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
) -> Result<(), RewindError> {
    let mut log = PartitionLog::new(&shared.log, id);
    let begun = shared.log.summary(id).and_then(|summary| summary.intent);
    let database = id.database.to_string();
    let dir = &shared.divergence_dir;
    let aside = Aside { dir, database: &database, partition: id, id: exchange(to, &other), created: wall_millis() };
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
        assert_eq!(exchange(Lsn(39), &plain), DivergenceId(7));
        let failed_over = lineage(&[(1, None), (20, None), (40, Some(7)), (50, None), (60, None)]);
        assert_eq!(exchange(Lsn(39), &failed_over), DivergenceId(7), "failovers after the promotion");
        assert_eq!(exchange(Lsn(10), &failed_over), DivergenceId(7), "a failover before it that is missing here");
        let twice = lineage(&[(1, None), (40, Some(7)), (50, Some(8))]);
        assert_eq!(exchange(Lsn(39), &twice), DivergenceId(7), "the first promotion is where they parted");
        assert_eq!(exchange(Lsn(45), &twice), DivergenceId(8));
        let region = lineage(&[(1, None), (40, None), (50, None)]);
        assert_eq!(exchange(Lsn(39), &region), DivergenceId(2 << 64 | 5), "the failover that dropped it");
    }
}
