//! The thread that keeps the writer supplied: makes spares, frees the oldest segments, moves what is alive in them
//! forward, and keeps the mark in the second place.
//!
//! Segments are freed oldest first only, so the batches of those in use are numbered without a gap. The oldest one
//! goes when no partition needs a record in it that no newer segment has. What says so (a trim, a cut, a copy further
//! on) must be on disk before the segment is: it is overwritten next.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use types::segment::{BLOCK, EntryHeader, Fault, Index};
use types::{Lsn, PartitionId};

use super::mark_file::MarkFile;
use super::reader::Batches;
use super::segment_file::SegmentFile;
use super::segments::{Range, Ranges, Segment, find};
use super::shared::{Inner, Partition, Shared};
use super::{AppendError, LogError, Planted};

/// Rounds come at least this often.
const INTERVAL: Duration = Duration::from_secs(1);
/// Between looks at whether the writer needs something.
const PAUSE: Duration = Duration::from_millis(50);

/// Owns the spares' names and the mark file.
pub(crate) struct Housekeeper {
    shared: Arc<Shared>,
    dir: std::path::PathBuf,
    mark: MarkFile,
    next_id: u64,
    /// Segments taken into use as of the last round.
    taken: u64,
    /// Entries appended and batches synced as of the last round that did everything.
    seen: Option<(u64, u64)>,
}

impl Housekeeper {
    pub fn new(shared: Arc<Shared>, dir: std::path::PathBuf, mark: MarkFile, next_id: u64) -> Housekeeper {
        Housekeeper { shared, dir, mark, next_id, taken: 0, seen: None }
    }

    /// Runs until the log is closed or has failed.
    pub fn run(mut self) {
        loop {
            self.shared.inner.lock().rounds.0 += 1;
            let round = self.round();
            let mut inner = self.shared.inner.lock();
            if let (Err(error), false) = (round, inner.closing) {
                tracing::warn!(%error, "housekeeping of the node log: trying again");
            }
            inner.rounds.1 = inner.rounds.0;
            self.shared.progress.notify_all();
            if inner.failed.is_some() {
                return;
            }
            if inner.closing {
                drop(inner);
                return self.last_mark();
            }
            if !inner.poked {
                self.shared.poke.wait_for(&mut inner, INTERVAL);
            }
            inner.poked = false;
        }
    }

    fn round(&mut self) -> Result<(), LogError> {
        // The writer is supplied first: it may be what the rest of the round waits for.
        self.supply();
        let seen = {
            let inner = self.shared.inner.lock();
            (inner.counts.appended, inner.synced)
        };
        // A log in which nothing happens costs nothing.
        if self.seen != Some(seen) {
            while self.free_oldest()? {}
            self.move_oldest()?;
            while self.free_oldest()? {}
            self.supply();
            self.seen = Some(seen);
        }
        self.shrink();
        self.keep_mark()
    }

    /// Sees the writer through to its end; then what it synced is stated once more.
    fn last_mark(&mut self) {
        let ticket = self.shared.inner.lock().counts.appended;
        if let Err(error) = self.await_durable(ticket).and_then(|()| self.keep_mark()) {
            tracing::warn!(%error, "the node log's mark was not written");
        }
    }

    /// Waits until everything up to the ticket is on disk, and supplies the writer meanwhile.
    fn await_durable(&mut self, ticket: u64) -> Result<(), LogError> {
        loop {
            let mut inner = self.shared.inner.lock();
            if inner.counts.durable >= ticket {
                return Ok(());
            }
            if let Some(error) = &inner.failed {
                return Err(error.clone());
            }
            inner.sync_to = inner.sync_to.max(ticket);
            drop(inner);
            self.shared.wake_always();
            self.supply();
            self.pause(ticket);
        }
    }

    fn pause(&self, ticket: u64) {
        let mut inner = self.shared.inner.lock();
        if inner.counts.durable < ticket && inner.failed.is_none() {
            self.shared.progress.wait_for(&mut inner, PAUSE);
        }
    }

    fn keep_mark(&mut self) -> Result<(), LogError> {
        let synced = self.shared.inner.lock().synced;
        if synced > self.mark.synced { self.mark.set(self.shared.log, synced) } else { Ok(()) }
    }

    /// Makes spares up to the wanted number.
    fn supply(&mut self) {
        let options = &self.shared.options;
        loop {
            let mut inner = self.shared.inner.lock();
            let (spares, all) = (inner.spares.len(), inner.spares.len() + inner.segments.len());
            if spares >= options.spares {
                inner.full = None;
                return;
            }
            let limit = options.bytes_max.filter(|max| (all as u64 + 1) * options.segment_bytes > *max);
            if let Some(limit) = limit {
                return Housekeeper::set_full(&mut inner, format!("its limit is {limit} bytes"));
            }
            drop(inner);
            match SegmentFile::create(&self.dir, self.shared.log, self.next_id, options.segment_bytes) {
                Ok(file) => {
                    self.next_id += 1;
                    self.shared.add_spare(Arc::new(file));
                }
                Err(error) => return Housekeeper::set_full(&mut self.shared.inner.lock(), error.to_string()),
            }
        }
    }

    /// Gives one surplus segment back to the disk if the log has needed none since the last round.
    fn shrink(&mut self) {
        let mut inner = self.shared.inner.lock();
        let quiet = std::mem::replace(&mut self.taken, inner.counts.segments) == inner.counts.segments;
        if quiet && inner.spares.len() > self.shared.options.spares + 1 {
            let surplus = inner.spares.pop_front().expect("there are spares");
            drop(inner);
            self.remove(&surplus);
        }
    }

    fn set_full(inner: &mut Inner, why: String) {
        if inner.full.is_none() {
            tracing::warn!(why, "the node log can get no further segment");
        }
        inner.full = Some(why);
    }

    fn remove(&self, file: &SegmentFile) {
        if let Err(error) = std::fs::remove_file(&file.path) {
            tracing::warn!(path = %file.path.display(), %error, "a segment that is not needed cannot be removed");
        }
    }

    /// Makes the oldest segment a spare if nothing in it is needed; false if there is none such.
    fn free_oldest(&mut self) -> Result<bool, LogError> {
        let ticket = {
            let inner = self.shared.inner.lock();
            if !is_free(&inner) {
                return Ok(false);
            }
            inner.counts.appended
        };
        self.await_superseded(ticket)?;
        let mut inner = self.shared.inner.lock();
        if !is_free(&inner) {
            return Ok(false);
        }
        let oldest = inner.segments.pop_oldest().expect("it was just looked at");
        inner.counts.freed += 1;
        drop(inner);
        // A reader may still hold it: then a new file takes its place when it is needed.
        let options = &self.shared.options;
        let is_fit = oldest.file.size == options.segment_bytes && options.planted != Some(Planted::FreedUnsynced);
        match Arc::strong_count(&oldest.file) {
            1 if is_fit => self.shared.add_spare(oldest.file),
            _ => self.remove(&oldest.file),
        }
        Ok(true)
    }

    /// Moves what is alive in the oldest segment forward, if that is worth it.
    fn move_oldest(&mut self) -> Result<(), LogError> {
        let Some((file, identity)) = self.worth_moving() else { return Ok(()) };
        let (mut batches, mut found, mut bytes, mut ticket) = (Batches::new(&file, identity, BLOCK), vec![], 0, 0);
        let mut seen = Index::default();
        while let Some((_, entries)) = batches.next()? {
            for entry in entries {
                if let Ok((EntryHeader { partition, epoch, lsn, .. }, _)) = entry {
                    seen.add(partition, epoch, lsn, 0);
                }
                match entry {
                    Ok((header, payload)) if self.is_wanted(&header) => {
                        bytes += payload.len();
                        found.push((header, Bytes::copy_from_slice(&payload)));
                    }
                    Err(Fault::Payload(header)) if self.is_wanted(&header) => self.shared.poison(header.partition),
                    // What cannot be read at all is missed by whoever looks for it.
                    _ => {}
                }
                if bytes > self.shared.options.move_bytes() {
                    ticket = self.send(std::mem::take(&mut found))?;
                    bytes = 0;
                }
            }
        }
        ticket = self.send(found)?.max(ticket);
        drop(file);
        self.poison_missing(&seen);
        self.await_superseded(ticket)
    }

    /// Before a segment is overwritten, what makes it needless must be on disk.
    fn await_superseded(&mut self, ticket: u64) -> Result<(), LogError> {
        match self.shared.options.planted {
            Some(Planted::FreedUnsynced) => Ok(()),
            _ => self.await_durable(ticket),
        }
    }

    /// Waits until there is room for a few records; gives up where there will be none.
    fn send(&mut self, records: Vec<(EntryHeader, Bytes)>) -> Result<u64, LogError> {
        loop {
            match self.shared.append_moved(records.clone()) {
                Ok(ticket) => return Ok(ticket),
                Err(AppendError::Failed(error)) => return Err(error),
                Err(AppendError::Busy { .. }) => {
                    self.supply();
                    self.pause(u64::MAX);
                }
                Err(error) => return Err(LogError::Options(error.to_string())),
            }
        }
    }

    fn is_wanted(&self, header: &EntryHeader) -> bool {
        header.lsn > Lsn::ZERO && self.shared.is_wanted(&self.shared.inner.lock(), header)
    }

    /// Records that are needed of the oldest segment, and that reading it did not show, are lost.
    fn poison_missing(&self, seen: &Index) {
        let lost: Vec<PartitionId> = {
            let inner = self.shared.inner.lock();
            let Some(oldest) = inner.segments.get(0).filter(|oldest| oldest.is_sealed()) else { return };
            let shows = |partition, epoch, lsn| find(seen, partition, epoch, lsn).map(|run| run.to());
            let lost =
                needed(&inner, oldest).filter(|(id, range)| !is_covered(range, |lsn| shows(*id, range.epoch, lsn)));
            lost.map(|(partition, _)| partition).collect()
        };
        for partition in lost {
            tracing::error!(%partition, "records of the node log cannot be read");
            self.shared.poison(partition);
        }
    }

    fn worth_moving(&self) -> Option<(Arc<SegmentFile>, types::segment::Identity)> {
        let inner = self.shared.inner.lock();
        let oldest = inner.segments.get(0).filter(|_| is_superseded(&inner))?;
        let sealed = inner.segments.iter().filter(|segment| segment.is_sealed());
        let (mut all, mut live) = (0, 0);
        for segment in sealed {
            let share = live_share(&inner, segment);
            (all, live) = (all + share.1, live + share.0);
        }
        let (front_live, front_all) = live_share(&inner, oldest);
        // A few survivors are cheap to move. Many are moved only for what lies dead behind them.
        let full = inner.full.is_some();
        let few = front_live * 4 <= front_all;
        let behind = live * 2 <= all || full && live * 10 <= all * 9;
        (few || behind).then(|| (oldest.file.clone(), oldest.identity))
    }
}

/// The oldest segment is sealed, and a newer directory on disk tells everything that its own and its notes told.
fn is_superseded(inner: &Inner) -> bool {
    let sealed = inner.segments.get(0).is_some_and(Segment::is_sealed);
    sealed && inner.segments.get(1).is_some_and(|next| next.first_sequence <= inner.synced)
}

fn is_free(inner: &Inner) -> bool {
    is_superseded(inner) && inner.segments.get(0).is_some_and(|oldest| needed(inner, oldest).next().is_none())
}

/// Ranges of a segment in which records are alive and in no newer segment.
fn needed(inner: &Inner, oldest: &Segment) -> impl Iterator<Item = (PartitionId, Range)> {
    live_ranges(inner, &oldest.ranges())
        .into_iter()
        .filter(|(partition, range)| !is_covered(range, |lsn| inner.segments.newer_to(*partition, range.epoch, lsn)))
}

/// Whether dense rows, of which `to` gives the end of the one that holds a record, cover a range together.
fn is_covered(range: &Range, to: impl Fn(Lsn) -> Option<Lsn>) -> bool {
    let mut next = range.from;
    while let Some(last) = to(next).filter(|_| next <= range.to) {
        next = last.next();
    }
    next > range.to
}

fn live_ranges(inner: &Inner, ranges: &Ranges) -> Vec<(PartitionId, Range)> {
    let mut live = vec![];
    for (partition, ranges) in ranges {
        let found = inner.partitions.get(partition).filter(|found| !is_damaged(found));
        let Some(summary) = found.map(|found| &found.summary) else { continue };
        let parts = ranges.iter().filter_map(|range| {
            let (from, to) = summary.live_part(range.epoch, range.from, range.to)?;
            Some((*partition, Range { from, to, ..*range }))
        });
        live.extend(parts);
    }
    live
}

fn is_damaged(partition: &Partition) -> bool {
    partition.summary.damaged
}

/// Records of a segment that are alive, and all its records.
fn live_share(inner: &Inner, segment: &Segment) -> (u64, u64) {
    let count = |range: &Range| range.to.0 - range.from.0 + 1;
    let all = segment.ranges().values().flatten().map(count).sum();
    let live = live_ranges(inner, &segment.ranges()).iter().map(|(_, range)| count(range)).sum();
    (live, all)
}
