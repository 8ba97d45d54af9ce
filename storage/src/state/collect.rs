//! Garbage collection: what no permitted view and no permitted rewind can ask for is removed.
//!
//! A caller names a `horizon`, the lowest timestamp that anybody may still view (the pin of a link and open views
//! included), and a `floor`, the lowest position to which anybody may still rewind. Then
//!
//! - of each row, versions below a *base* go: the newest living version at or below the horizon whose record is at or
//!   below the floor, so that no rewind takes it away. The base goes with them if it is a deletion;
//! - a version that a promotion declared dead goes if that `EpochStart` is at or below the floor: above it, a rewind
//!   can lift the interval;
//! - a prepared entry goes if the transaction ended, or a promotion aborted it, at or below the floor;
//! - the outcome of a transaction that this partition decided goes with its `Forget` at or below the floor, another's
//!   outcome when it is itself at or below it;
//! - a commit's entry in the list by time goes if it is at or below the horizon and the floor.
//!
//! Both bounds are stored before anything is removed, and from then on views and rewinds below them are refused. A
//! pass over the whole state is done in steps, each a bounded number of keys.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use types::state::{self, Outcome, Prepared, Space, Version};
use types::{Lineage, Lsn, Ordinal, StartKind, Timestamp};

use super::rocks::{Batch, Snapshot, Walk, Walker};
use super::{Collected, PartitionState, StateError, meta, prepared};

/// Where a pass over the state stands.
#[derive(Default)]
pub(super) struct Progress {
    /// Where the next step begins; `None` when no pass is on its way.
    next: Option<Vec<u8>>,
    /// The row whose base was found already.
    based_row: Option<Vec<u8>>,
    /// The bounds of this pass.
    bounds: Collected,
}

/// What one step of a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectStep {
    /// Keys looked at.
    pub looked: usize,
    /// Keys removed.
    pub removed: usize,
    /// Whether the pass is over; the next step begins a new one.
    pub finished: bool,
}

impl PartitionState {
    /// Looks at about `keys` further keys and removes those that no view at or above `horizon` and no rewind to
    /// `floor` or above can ask for. Bounds lower than those of an earlier call count as those; a pass that is on
    /// its way goes on with the bounds it began with.
    pub fn collect(&self, horizon: Timestamp, floor: Lsn, keys: usize) -> Result<CollectStep, StateError> {
        let bounds = match self.collector.lock().next {
            Some(_) => self.collected(),
            None => self.raise_bounds(horizon, floor)?,
        };
        self.collect_below(bounds, keys)
    }

    /// The same, with bounds that were raised before: one who applies and undoes may raise them in between two steps of
    /// another one's pass.
    pub fn collect_step(&self, keys: usize) -> Result<CollectStep, StateError> {
        self.collect_below(self.collected(), keys)
    }

    fn collect_below(&self, bounds: Collected, keys: usize) -> Result<CollectStep, StateError> {
        let mut progress = self.collector.lock();
        let begin = match progress.next.take() {
            Some(next) => next,
            None => {
                *progress = Progress { bounds, ..Progress::default() };
                self.written.store(0, Ordering::Relaxed);
                vec![Space::Version as u8]
            }
        };
        let (snapshot, position) = self.snapshot();
        let mut pass = Pass {
            snapshot: &snapshot,
            lineage: &position.lineage,
            partition: self.partition,
            bounds: progress.bounds,
            based_row: progress.based_row.take(),
            deletion: None,
            batch: Batch::default(),
            removed: 0,
            rows: 0,
        };
        let mut walker = snapshot.walk(Walk::Range, &[Space::Forgotten as u8]);
        walker.seek(&begin);
        let mut looked = 0;
        while let Some((key, value)) = walker.item()? {
            if looked >= keys.max(1) {
                progress.next = Some(key.to_vec());
                break;
            }
            pass.judge(&walker, key, value)?;
            looked += 1;
            walker.next();
        }
        if progress.next.is_none() {
            pass.end_row(None);
        }
        progress.based_row = pass.based_row.take();
        let removed = pass.removed;
        if !pass.batch.is_empty() {
            self.count_rows(pass.rows, &mut pass.batch);
            self.store.write(pass.batch)?;
        }
        Ok(CollectStep { looked, removed, finished: progress.next.is_none() })
    }

    /// From now on views below `horizon` and rewinds below `floor` are refused. Bounds never fall.
    pub fn raise_bounds(&self, horizon: Timestamp, floor: Lsn) -> Result<Collected, StateError> {
        let mut position = self.position.write();
        assert!(floor <= position.applied, "floor {floor} above the last record applied, {}", position.applied);
        let before = position.collected;
        let bounds = Collected { horizon: horizon.max(before.horizon), floor: floor.max(before.floor) };
        if bounds == before {
            return Ok(before);
        }
        let mut batch = Batch::default();
        batch.put(&meta::COLLECTED, &bounds.encode());
        self.store.write(batch)?;
        position.collected = bounds;
        Ok(bounds)
    }
}

/// One step's judgement of keys.
struct Pass<'a> {
    snapshot: &'a Arc<Snapshot>,
    lineage: &'a Lineage,
    partition: Ordinal,
    bounds: Collected,
    based_row: Option<Vec<u8>>,
    /// A base that is a deletion, until the versions below it are gone: without them only it may go.
    deletion: Option<Vec<u8>>,
    batch: Batch,
    removed: usize,
    /// More rows than before.
    rows: i64,
}

impl Pass<'_> {
    fn judge(&mut self, walker: &Walker, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let damaged = || StateError::Damaged { dir: walker.dir().into(), what: format!("unreadable entry {key:02x?}") };
        if key[0] != Space::Version as u8 {
            self.end_row(None);
        }
        match key[0] {
            space if space == Space::Version as u8 => {
                let (row, ts) = state::split_version_key(key).ok_or_else(damaged)?;
                let version = Version::decode(Bytes::copy_from_slice(value)).map_err(|_| damaged())?;
                self.end_row(Some(row));
                if self.version_goes(key, row, ts, &version) {
                    self.rows -= meta::rows_of(value);
                    self.remove(key);
                }
            }
            space if space == Space::Prepared as u8 => {
                let txn = prepared::txn_of(key).ok_or_else(damaged)?;
                let prepared = Prepared::decode(txn, Bytes::copy_from_slice(value)).map_err(|_| damaged())?;
                // Ended ones go together with their outcome or after it, see below: never before it.
                let ended = self.snapshot.get(&state::txn_key(Space::Outcome, txn))?;
                let ended = ended.map(|value| Outcome::decode(txn, value)).transpose().map_err(|_| damaged())?;
                match ended {
                    Some(outcome) if outcome.lsn <= self.bounds.floor => self.remove(key),
                    None if self.promoted_between(prepared.lsn) => {
                        self.remove(key);
                        prepared::forget(key, &mut self.batch);
                    }
                    _ => {}
                }
            }
            space if space == Space::Outcome as u8 => {
                let txn = prepared::txn_of(key).ok_or_else(damaged)?;
                let outcome = Outcome::decode(txn, Bytes::copy_from_slice(value)).map_err(|_| damaged())?;
                self.judge_outcome(&outcome)?;
            }
            _ => {
                let (ts, lsn) = state::split_commit_key(key).ok_or_else(damaged)?;
                if ts <= self.bounds.horizon && lsn <= self.bounds.floor {
                    self.remove(key);
                }
            }
        }
        Ok(())
    }

    /// Removes a base that is a deletion once the walk has left its row. A step that ends within the row leaves it to
    /// the next pass.
    fn end_row(&mut self, now: Option<&[u8]>) {
        if self.based_row.as_deref() != now
            && let Some(base) = self.deletion.take()
        {
            self.rows += 1;
            self.remove(&base);
        }
    }

    fn version_goes(&mut self, key: &[u8], row: &[u8], ts: Timestamp, version: &Version) -> bool {
        if self.dead_for_good(ts, version.lsn) || self.based_row.as_deref() == Some(row) {
            return true;
        }
        let settled = ts <= self.bounds.horizon && version.lsn <= self.bounds.floor;
        if settled && !self.lineage.is_dead(ts, version.lsn) {
            self.based_row = Some(row.to_vec());
            self.deletion = version.value.is_none().then(|| key.to_vec());
        }
        false
    }

    /// Dead by a promotion that no permitted rewind undoes.
    fn dead_for_good(&self, ts: Timestamp, lsn: Lsn) -> bool {
        self.lineage.is_dead(ts, lsn) && {
            let mut kept = self.lineage.clone();
            kept.cut(self.bounds.floor);
            kept.is_dead(ts, lsn)
        }
    }

    /// Whether a promotion at or below the floor is above the record.
    fn promoted_between(&self, lsn: Lsn) -> bool {
        self.lineage.entries().iter().any(|entry| {
            entry.start_lsn > lsn
                && entry.start_lsn <= self.bounds.floor
                && matches!(entry.kind, StartKind::Promotion { .. })
        })
    }

    fn judge_outcome(&mut self, outcome: &Outcome) -> Result<(), StateError> {
        let forgotten_key = state::txn_key(Space::Forgotten, outcome.txn);
        let settled = if outcome.first == self.partition {
            let forgotten = self.snapshot.get(&forgotten_key)?;
            let at = forgotten.and_then(|value| value.first_chunk::<8>().map(|lsn| Lsn(u64::from_be_bytes(*lsn))));
            at.is_some_and(|at| at <= self.bounds.floor)
        } else {
            outcome.lsn <= self.bounds.floor
        };
        if settled {
            // In one batch: a prepared entry without its outcome would look open.
            self.remove(&state::txn_key(Space::Outcome, outcome.txn));
            self.batch.delete(&state::txn_key(Space::Prepared, outcome.txn));
            self.batch.delete(&forgotten_key);
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) {
        self.batch.delete(key);
        self.removed += 1;
    }
}
