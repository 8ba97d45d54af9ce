//! The work that nobody asks for: state is flushed so that a restart replays little, the log is trimmed behind it, old
//! row versions are collected.
//!
//! - *Checkpoint.* A replica's memtable is flushed when it is large, or when it is old. So a restart reads at most
//!   `checkpoint_size` of the log for each partition, all memtables' budget for all of them, and nothing that is
//!   older than `checkpoint_interval`.
//! - *Trim.* `keep` says what may go; the replica's task, which alone appends to its log, lets it go.
//! - *Collect.* A pass reads the whole state, a few thousand keys at a time and with pauses. It begins when a fifth of
//!   the state has been written since the last one, and that is old enough for its garbage to be seen by nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalog::event::Severity;
use replication::{Instant, Status};
use storage::state::{PartitionState, StateError};
use types::{PartitionId, Timestamp};

use super::Leaf;
use super::history;
use super::keep::{Facts, Keep, Timeline};
use super::partition::{Event, PartitionHandle};
use super::peers;
use crate::clock;

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(1);
/// What partitions take of the log is counted in one round of so many: it is a pass over all segments.
const COUNT_ROUNDS: u64 = 5;
/// A task is told to trim at least this many records at once, or after `TRIM_TIME`.
const TRIM_RECORDS: u64 = 256;
const TRIM_TIME: Duration = Duration::from_secs(10);
/// Keys that are looked at between two pauses, and the pause.
const COLLECT_KEYS: usize = 2048;
const COLLECT_PAUSE: Duration = Duration::from_millis(20);
/// A pass begins when one key in so many was written since the last one, and at least so many.
const COLLECT_SHARE: u64 = 5;
const COLLECT_MIN: u64 = 1000;

/// When state is flushed and how long versions are kept.
#[derive(Clone, Debug)]
pub struct UpkeepOptions {
    /// A memtable that is older than this is flushed.
    pub checkpoint_interval: Duration,
    /// One that is larger is flushed at once.
    pub checkpoint_bytes: u64,
    /// How long row versions are kept for views that were taken.
    pub views: Duration,
    /// Every replica is read from end to end once in this time.
    pub scrub_interval: Duration,
    /// With fewer bytes free on the disk, writes of clients are refused: the log's bookkeeping and flushes need room.
    pub disk_reserve: u64,
}

/// What is done beside the work for clients, in figures.
#[derive(Debug)]
pub struct Done {
    /// Entries of states that garbage collection has removed.
    pub collected: AtomicU64,
    /// Replicas that were read from end to end.
    pub scrubs: AtomicU64,
    /// For so many seconds the oldest record of some log, as this process has seen its age, is still kept for followers and
    /// regions that may need it.
    pub retention_left: AtomicU64,
}

impl Default for Done {
    fn default() -> Done {
        let retention_left = AtomicU64::new(u64::MAX);
        Done { collected: AtomicU64::default(), scrubs: AtomicU64::default(), retention_left }
    }
}

impl Default for UpkeepOptions {
    fn default() -> UpkeepOptions {
        let (checkpoint_interval, views) = (Duration::from_secs(60), Duration::from_secs(600));
        let (scrub_interval, disk_reserve) = (Duration::from_secs(24 * 3600), 512 << 20);
        UpkeepOptions { checkpoint_interval, checkpoint_bytes: 64 << 20, views, scrub_interval, disk_reserve }
    }
}

/// What is remembered of one replica, in one life of it.
struct Kept {
    life: usize,
    timeline: Timeline,
    anchor: Option<types::Lsn>,
    /// Since when its state holds what its files lack.
    dirty: Option<Instant>,
    told: Instant,
    given_up: bool,
}

/// Runs until the process ends.
pub(super) async fn run(leaf: Leaf) {
    tokio::spawn(collect_all(leaf.clone()));
    let mut kept: HashMap<PartitionId, Kept> = HashMap::new();
    for round in 0u64.. {
        tokio::time::sleep(ROUND).await;
        let handles = peers::list(&leaf.partitions);
        if round % COUNT_ROUNDS == 0 {
            count_log(&leaf, &handles);
        }
        kept.retain(|id, kept| handles.iter().any(|(known, handle)| known == id && handle.state.life() == kept.life));
        let mut left = Duration::MAX;
        for (id, handle) in handles {
            let life = handle.state.life();
            let new = || Kept {
                life,
                timeline: Timeline::default(),
                anchor: None,
                dirty: None,
                told: Instant(0),
                given_up: false,
            };
            let kept = kept.entry(id).or_insert_with(new);
            look_after(&leaf, id, &handle, kept).await;
            let age = kept.timeline.age_above(handle.status.borrow().trimmed, clock::now());
            left = left.min(leaf.rules.keep_time(id.database).saturating_sub(age));
        }
        leaf.done.retention_left.store(left.as_secs(), Ordering::Relaxed);
    }
}

fn count_log(leaf: &Leaf, handles: &[(PartitionId, PartitionHandle)]) {
    let counted = leaf.shared.log.bytes_by_partition();
    for (id, handle) in handles {
        let (old, new) = (handle.log_bytes.load(Ordering::Relaxed), counted.get(id).copied().unwrap_or_default());
        // Others' records change the share of a replica at rest a little: that is not worth telling the master.
        if new.abs_diff(old) > old / 16 {
            handle.log_bytes.store(new, Ordering::Relaxed);
        }
    }
}

async fn look_after(leaf: &Leaf, id: PartitionId, handle: &PartitionHandle, kept: &mut Kept) {
    let (state, status, now) = (handle.state.get(), handle.status.borrow().clone(), clock::now());
    if status.repairing {
        return;
    }
    if is_due(&leaf.options.upkeep, &state, kept, now) {
        kept.dirty = None;
        flush(leaf, id, handle, state.clone()).await;
    }
    let facts = facts(leaf, id, handle, &state, &status, now);
    kept.timeline.note(&facts);
    let bytes = leaf.rules.keep_bytes(id.database);
    let keep = kept.timeline.keep(&facts, &mut kept.anchor, || leaf.shared.log.newest_within(id, bytes));
    if keep.given_up != std::mem::replace(&mut kept.given_up, keep.given_up) && keep.given_up {
        let from = keep.trim.next();
        let text = format!(
            "the log is kept from record {from} on, the limit of failback_retention is reached ({bytes} bytes, or its time): \
             a follower that is further behind will need a copy"
        );
        leaf.shared.events.tell(Severity::Warning, "retention", Some(id), text);
    }
    let far = keep.trim.0 >= facts.trimmed.0 + TRIM_RECORDS;
    if far || now.since(kept.told) >= TRIM_TIME {
        kept.told = now;
        // A task that is busy hears it the next time.
        let _ = handle.events.try_send(Event::Keep(keep));
    }
}

fn is_due(options: &UpkeepOptions, state: &PartitionState, kept: &mut Kept, now: Instant) -> bool {
    if state.applied() <= state.flushed() {
        kept.dirty = None;
        return false;
    }
    let since = *kept.dirty.get_or_insert(now);
    let large = state.memtable_bytes() >= options.checkpoint_bytes || state.should_flush();
    large || now.since(since) >= options.checkpoint_interval
}

async fn flush(leaf: &Leaf, id: PartitionId, handle: &PartitionHandle, state: Arc<PartitionState>) {
    let log = leaf.shared.log.clone();
    match tokio::task::spawn_blocking(move || history::flush(&log, &state, id)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => handle.failed(error),
        Err(error) => tracing::error!(partition = %id, %error, "a flush has ended badly"),
    }
}

fn facts<'a>(
    leaf: &Leaf,
    id: PartitionId,
    handle: &PartitionHandle,
    state: &PartitionState,
    status: &'a Status,
    now: Instant,
) -> Facts<'a> {
    Facts {
        now,
        received: status.received,
        lineage: &status.lineage,
        applied: status.cursors.applied,
        flushed: state.flushed(),
        trimmed: status.trimmed,
        followed: status.leading.as_ref().map(|leading| leading.followed),
        away: status.leading.is_none() && handle.is_away(),
        pin: leaf.rules.pin(id.database),
        retention: leaf.rules.keep_time(id.database),
        views: leaf.options.upkeep.views,
    }
}

/// When the next pass over a state may begin.
type Due = HashMap<(PartitionId, usize), Instant>;

async fn collect_all(leaf: Leaf) {
    let mut due = Due::new();
    loop {
        tokio::time::sleep(ROUND).await;
        let handles = peers::list(&leaf.partitions);
        due.retain(|(id, life), _| handles.iter().any(|(known, handle)| known == id && handle.state.life() == *life));
        for (id, handle) in handles {
            if wants_collection(&leaf, id, &handle, &mut due) {
                collect(id, &handle, &leaf.done).await;
            }
        }
    }
}

/// Enough was written since the last pass, so long ago that no view sees what it replaced.
fn wants_collection(leaf: &Leaf, id: PartitionId, handle: &PartitionHandle, due: &mut Due) -> bool {
    let (written, entries) = handle.state.get().written_of();
    if written < COLLECT_MIN || written.saturating_mul(COLLECT_SHARE) < entries {
        return false;
    }
    let key = (id, handle.state.life());
    let now = clock::now();
    let at = *due.entry(key).or_insert(now + leaf.options.upkeep.views + TRIM_TIME + ROUND);
    let is_due = now >= at && !handle.status.borrow().repairing;
    if is_due {
        due.remove(&key);
    }
    is_due
}

/// One pass over a state.
async fn collect(id: PartitionId, handle: &PartitionHandle, done: &Done) {
    let (mut looked, mut removed) = (0, 0);
    let state = handle.state.get();
    loop {
        let step = {
            let state = state.clone();
            tokio::task::spawn_blocking(move || state.collect_step(COLLECT_KEYS)).await
        };
        match step {
            Ok(Ok(step)) => {
                (looked, removed) = (looked + step.looked, removed + step.removed);
                done.collected.fetch_add(step.removed as u64, Ordering::Relaxed);
                if step.finished {
                    break;
                }
            }
            Ok(Err(error)) => return handle.failed(error),
            Err(error) => return tracing::error!(partition = %id, %error, "garbage collection has ended badly"),
        }
        tokio::time::sleep(COLLECT_PAUSE).await;
    }
    let horizon = state.collected().horizon;
    tracing::debug!(partition = %id, looked, removed, %horizon, "row versions that nobody can see are removed");
}

/// Lets history go, as far as a replica that repairs nothing may: at its own task. Returns up to where the log is to be
/// trimmed.
pub(super) fn trimmed(state: &PartitionState, status: &Status, keep: Keep) -> Option<types::Lsn> {
    let to = keep.trim.min(state.flushed()).min(status.cursors.applied);
    (!status.repairing && to > status.trimmed).then_some(to)
}

/// Raises the bounds of garbage collection behind the log: views and rewinds below them are refused from now on.
pub(super) fn raise(state: &PartitionState, horizon: Timestamp, trimmed: types::Lsn) -> Result<(), StateError> {
    let known = state.collected();
    if horizon > known.horizon || trimmed > known.floor {
        state.raise_bounds(horizon, trimmed.min(state.applied()))?;
    }
    Ok(())
}
