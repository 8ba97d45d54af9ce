//! Reading rows: a view is a moment of the store, the lineage that belongs to it, and a timestamp.
//!
//! Versions of a row are neighbours, newest first. A reader looks for the first one that is not newer than its view
//! and that no promotion declared dead; if that is a deletion, there is no row. Versions in between are stepped over
//! and, where there are many, leapt over by a seek.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use types::state::{self, Space, Version};
use types::{Lineage, Lsn, Timestamp};

use super::rocks::{Snapshot, Walk, Walker};
use super::{PartitionState, StateError, applied_in};

/// Bytes before the row's value in a version: position and operation.
const HEADER: usize = 9;

/// How much of a scan to return at once; at least one row is.
#[derive(Clone, Copy, Debug)]
pub struct ScanLimits {
    /// At most so many rows.
    pub rows: usize,
    /// Stops after the row that reaches so many bytes of keys and values.
    pub bytes: usize,
}

/// The newest living version of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Its commit time.
    pub ts: Timestamp,
    /// The record that wrote it.
    pub lsn: Lsn,
    /// The row, `None` if it was deleted.
    pub value: Option<Bytes>,
}

/// The rows as they are at one timestamp. Later records, undone ones and garbage collection do not change it.
pub struct ReadView {
    snapshot: Arc<Snapshot>,
    lineage: Arc<Lineage>,
    view: Timestamp,
}

impl PartitionState {
    /// A view of the rows at `view`. Fails with `BelowHorizon` if its versions may be gone.
    ///
    /// The caller has seen to it that everything committed at or below `view` is applied.
    pub fn view(&self, view: Timestamp) -> Result<ReadView, StateError> {
        let (snapshot, position) = self.snapshot();
        if view < position.collected.horizon {
            return Err(StateError::BelowHorizon { view, horizon: position.collected.horizon });
        }
        Ok(ReadView { snapshot, lineage: position.lineage, view })
    }

    /// The value of a row at `view`.
    pub fn get(&self, row: &[u8], view: Timestamp) -> Result<Option<Bytes>, StateError> {
        self.view(view)?.get(row)
    }

    /// The newest living version of a row, deletions included: a write that began before it conflicts.
    pub fn latest(&self, row: &[u8]) -> Result<Option<Latest>, StateError> {
        let (snapshot, position) = self.snapshot();
        newest(&snapshot, row, Timestamp::MAX, |ts, lsn| !position.lineage.is_dead(ts, lsn))
    }

    /// What a row was just before a record at `lsn` wrote it at `ts`: the newest version below both, by the lineage
    /// of that time.
    pub fn before(&self, row: &[u8], ts: Timestamp, lsn: Lsn) -> Result<Option<Bytes>, StateError> {
        let lineage = self.snapshot().1.lineage;
        Ok(self.version_before(row, ts, lsn, &lineage)?.and_then(|latest| latest.value))
    }

    /// The same with its time and position, deletions included, by a lineage that the state's is a part of.
    pub(crate) fn version_before(
        &self,
        row: &[u8],
        ts: Timestamp,
        lsn: Lsn,
        lineage: &Lineage,
    ) -> Result<Option<Latest>, StateError> {
        let (snapshot, _) = self.snapshot();
        let mut then = lineage.clone();
        then.cut(lsn.prev());
        newest(&snapshot, row, ts.prev(), |ts, at| at < lsn && !then.is_dead(ts, at))
    }

    /// The highest time of all that the state speaks of: commits, shares that are or were prepared, epochs, and what
    /// garbage collection has removed.
    pub fn newest(&self) -> Result<Timestamp, StateError> {
        let (snapshot, position) = self.snapshot();
        let started = position.lineage.last().map_or(Timestamp::ZERO, |entry| entry.start_ts);
        let mut newest = started.max(position.collected.horizon).max(position.bound);
        let mut walker = snapshot.walk(Walk::Range, &[Space::Commit as u8 + 1]);
        walker.seek_to_last();
        if let Some((key, _)) = walker.item()?
            && let Some((ts, _)) = state::split_commit_key(key)
        {
            newest = newest.max(ts);
        }
        Ok(newest)
    }

    /// Living commits with a timestamp strictly between the two, in the order of their times.
    pub fn commits_between(&self, above: Timestamp, below: Timestamp) -> Commits {
        let (snapshot, position) = self.snapshot();
        let mut walker = snapshot.walk(Walk::Range, &state::commit_key(below, Lsn::ZERO));
        walker.seek(&state::commit_key(Timestamp(above.0.saturating_add(1)), Lsn::ZERO));
        Commits { walker, lineage: position.lineage }
    }

    /// Every entry of the state as `types::state` lays them out, in the order of their keys: two replicas at the same
    /// record have the same, but for what garbage collection has removed.
    pub fn entries(&self) -> Entries {
        let (snapshot, _) = self.snapshot();
        let mut walker = snapshot.walk(Walk::Scrub, &[Space::Forgotten as u8 + 1]);
        walker.seek(&[Space::Version as u8]);
        Entries { walker }
    }
}

/// All entries of a state.
pub struct Entries {
    walker: Walker,
}

impl Iterator for Entries {
    type Item = Result<(Bytes, Bytes), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = match self.walker.item() {
            Ok(Some((key, value))) => (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
            Ok(None) => return None,
            Err(error) => return Some(Err(error)),
        };
        self.walker.next();
        Some(Ok(entry))
    }
}

/// Commits in the order of their times.
pub struct Commits {
    walker: Walker,
    lineage: Arc<Lineage>,
}

impl Iterator for Commits {
    type Item = Result<(Timestamp, Lsn), StateError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let commit = match self.walker.item() {
                Ok(Some((key, _))) => state::split_commit_key(key),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            };
            let Some((ts, lsn)) = commit else { return Some(Err(damaged(&self.walker, "commit entry's key"))) };
            self.walker.next();
            if !self.lineage.is_dead(ts, lsn) {
                return Some(Ok((ts, lsn)));
            }
        }
    }
}

impl ReadView {
    /// The moment it shows.
    pub fn timestamp(&self) -> Timestamp {
        self.view
    }

    /// The last record that it includes.
    pub fn applied(&self) -> Result<Lsn, StateError> {
        applied_in(&self.snapshot)
    }

    /// The value of a row.
    pub fn get(&self, row: &[u8]) -> Result<Option<Bytes>, StateError> {
        let found = newest(&self.snapshot, row, self.view, |ts, lsn| !self.lineage.is_dead(ts, lsn))?;
        Ok(found.and_then(|latest| latest.value))
    }

    /// The rows from `start` on, below `end` if there is one, in the order of their keys.
    pub fn scan(&self, start: &[u8], end: Option<&[u8]>) -> Cursor {
        self.cursor(Walk::Range, start, end)
    }

    /// The same for one who looks at every row once.
    pub fn scrub(&self, start: &[u8], end: Option<&[u8]>) -> Cursor {
        self.cursor(Walk::Scrub, start, end)
    }

    fn cursor(&self, walk: Walk, start: &[u8], end: Option<&[u8]>) -> Cursor {
        let mut walker = self.snapshot.walk(walk, &[Space::Version as u8 + 1]);
        let mut from = vec![Space::Version as u8];
        from.extend_from_slice(start);
        walker.seek(&from);
        Cursor {
            walker,
            lineage: self.lineage.clone(),
            view: self.view,
            start: start.to_vec(),
            end: end.map(<[u8]>::to_vec),
            row: Vec::new(),
            on_row: false,
        }
    }
}

/// The newest version of `row` at or below `view` that `counts` accepts.
fn newest(
    snapshot: &Arc<Snapshot>,
    row: &[u8],
    view: Timestamp,
    counts: impl Fn(Timestamp, Lsn) -> bool,
) -> Result<Option<Latest>, StateError> {
    let mut walker = snapshot.walk(Walk::Row, &[Space::Version as u8 + 1]);
    walker.seek(&state::version_key(row, view));
    while let Some((key, value)) = walker.item()? {
        let Some((_, ts)) = state::split_version_key(key).filter(|(here, _)| *here == row) else { break };
        let (lsn, _) = header(value).ok_or_else(|| damaged(&walker, "version"))?;
        if counts(ts, lsn) {
            let version = Version::decode(Bytes::copy_from_slice(value))
                .map_err(|error| damaged(&walker, &format!("version: {error}")))?;
            return Ok(Some(Latest { ts, lsn, value: version.value }));
        }
        walker.next();
    }
    Ok(None)
}

/// Position of a version, and whether it is a row rather than a deletion.
fn header(value: &[u8]) -> Option<(Lsn, bool)> {
    let (lsn, rest) = value.split_first_chunk::<8>()?;
    let is_row = match rest.first()? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some((Lsn(u64::from_be_bytes(*lsn)), is_row))
}

pub(super) fn damaged(walker: &Walker, what: &str) -> StateError {
    StateError::Damaged { dir: walker.dir().into(), what: format!("unreadable {what}") }
}

/// Walks over the rows of a view. It owns what it reads from: nothing is blocked while it is held.
pub struct Cursor {
    walker: Walker,
    lineage: Arc<Lineage>,
    view: Timestamp,
    start: Vec<u8>,
    end: Option<Vec<u8>>,
    row: Vec<u8>,
    on_row: bool,
}

/// What a version means to a cursor that stands on it.
enum Step {
    /// It is the row's value.
    Take,
    /// Nothing of this row is wanted any more.
    NextRow,
    /// A later version of the row may be.
    NextVersion,
    /// The versions up to the view are too new.
    ToView,
}

impl Cursor {
    /// Goes to the next row; false at the end.
    pub fn advance(&mut self) -> Result<bool, StateError> {
        if std::mem::take(&mut self.on_row) {
            self.leave_row();
        }
        loop {
            let step = match self.look()? {
                ControlFlow::Break(()) => return Ok(false),
                ControlFlow::Continue(step) => step,
            };
            match step {
                Step::Take => {
                    self.on_row = true;
                    return Ok(true);
                }
                Step::NextRow => self.leave_row(),
                Step::NextVersion => self.walker.next(),
                Step::ToView => self.walker.advance_to(&state::version_key(&self.row, self.view)),
            }
        }
    }

    /// Judges the version under the walker and remembers its row.
    fn look(&mut self) -> Result<ControlFlow<(), Step>, StateError> {
        let Some((key, value)) = self.walker.item()? else { return Ok(ControlFlow::Break(())) };
        let Some((row, ts)) = state::split_version_key(key) else {
            return Err(damaged(&self.walker, "version's key"));
        };
        if self.end.as_deref().is_some_and(|end| row >= end) {
            return Ok(ControlFlow::Break(()));
        }
        if row != self.row {
            self.row.clear();
            self.row.extend_from_slice(row);
        }
        // A row that is a prefix of `start` sorts below it, its versions may not.
        let below_start = row < self.start.as_slice();
        if !below_start && ts > self.view {
            return Ok(ControlFlow::Continue(Step::ToView));
        }
        let Some((lsn, is_row)) = header(value) else { return Err(damaged(&self.walker, "version")) };
        Ok(ControlFlow::Continue(if below_start {
            Step::NextRow
        } else if self.lineage.is_dead(ts, lsn) {
            Step::NextVersion
        } else if is_row {
            Step::Take
        } else {
            Step::NextRow
        }))
    }

    /// Goes past the last version of the current row.
    fn leave_row(&mut self) {
        // The oldest version that can be has the greatest key of the row; its successor is one zero byte longer.
        let mut past = state::version_key(&self.row, Timestamp::ZERO).to_vec();
        past.push(0);
        self.walker.advance_to(&past);
    }

    /// The current row's key. `advance` has returned true.
    pub fn key(&self) -> &[u8] {
        assert!(self.on_row, "cursor stands on no row");
        &self.row
    }

    /// The current row's value. `advance` has returned true.
    pub fn value(&self) -> &[u8] {
        assert!(self.on_row, "cursor stands on no row");
        let item = self.walker.item().ok().flatten();
        &item.expect("the walker has not moved since advance looked at it").1[HEADER..]
    }

    /// The next rows within the limits; empty at the end.
    pub fn read(&mut self, limits: ScanLimits) -> Result<Vec<(Bytes, Bytes)>, StateError> {
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < limits.rows.max(1) && (rows.is_empty() || bytes < limits.bytes) && self.advance()? {
            bytes += self.key().len() + self.value().len();
            rows.push((Bytes::copy_from_slice(self.key()), Bytes::copy_from_slice(self.value())));
        }
        Ok(rows)
    }
}
