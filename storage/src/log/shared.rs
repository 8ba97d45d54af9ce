//! What the threads of a log share: the queue of entries, the summary of each partition, the segments, and how far
//! everything has come.
//!
//! Each partition has two summaries. The one here is *ahead*: it has every entry that was appended, and `append`
//! checks against it. The writer's has what was put into batches: it goes into a segment's directory, which must not
//! tell what only a later batch holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task;

use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};
use types::entry::{Entry, Summary};
use types::segment::EntryHeader;
use types::{ClusterId, Epoch, LineageEntry, Lsn, PartitionId, Timestamp};

use super::disk::Waker;
use super::segment_file::SegmentFile;
use super::segments::Segments;
use super::sync_times::SyncTimes;
use super::{AppendError, Flush, LogError, LogOptions, Planted};

/// An entry that waits for the writer.
#[derive(Debug)]
pub(crate) struct Pending {
    pub header: EntryHeader,
    pub payload: Bytes,
    pub change: Change,
    pub flush: Flush,
    pub ticket: u64,
}

/// What an entry changes in its partition's summary.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Record(Option<LineageEntry>),
    Moved,
    Note(Box<Entry>),
}

/// A partition as of its last appended entry.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    pub summary: Summary,
    /// Records that no segment can show yet, in the order in which they were appended.
    pub unwritten: VecDeque<(EntryHeader, Bytes)>,
    /// Bytes of its summary, as last counted.
    pub directory_bytes: usize,
}

/// Counters of a log since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries taken.
    pub appended: u64,
    /// Entries the operating system has.
    pub written: u64,
    /// Entries on disk.
    pub durable: u64,
    /// Batches written.
    pub batches: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Records moved forward.
    pub moved: u64,
    /// Segments taken into use.
    pub segments: u64,
    /// Segments freed.
    pub freed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    pub partitions: BTreeMap<PartitionId, Partition>,
    pub directory_bytes: usize,
    pub queue: VecDeque<Pending>,
    /// Bytes of the queue and of batches that are not written.
    pub in_flight: usize,
    pub segments: Segments,
    pub spares: VecDeque<Arc<SegmentFile>>,
    /// Bytes left in the open segment.
    pub open_free: u64,
    /// Why no segment can be added, if so.
    pub full: Option<String>,
    pub failed: Option<LogError>,
    pub closing: bool,
    pub counts: Counts,
    pub sync_times: SyncTimes,
    /// Everything up to this ticket is to be synced at once.
    pub sync_to: u64,
    /// The highest batch known synced.
    pub synced: u64,
    /// Tasks that wait for room.
    pub room: Vec<task::Waker>,
    /// The housekeeper is wanted.
    pub poked: bool,
    /// Rounds that the housekeeper has begun and ended.
    pub rounds: (u64, u64),
}

/// Shared by the threads of a log.
pub(crate) struct Shared {
    pub options: LogOptions,
    pub log: u64,
    pub inner: Mutex<Inner>,
    /// Progress of the writer: durable, written, failed.
    pub progress: Condvar,
    /// The housekeeper sleeps on it.
    pub poke: Condvar,
    asleep: AtomicBool,
    waker: Waker,
}

impl Shared {
    pub fn new(options: LogOptions, log: u64, inner: Inner, waker: Waker) -> Shared {
        Shared {
            options,
            log,
            inner: Mutex::new(inner),
            progress: Condvar::new(),
            poke: Condvar::new(),
            asleep: AtomicBool::new(false),
            waker,
        }
    }

    /// A segment that the writer may use.
    pub fn add_spare(&self, file: Arc<SegmentFile>) {
        let mut inner = self.inner.lock();
        inner.spares.push_back(file);
        inner.room.drain(..).for_each(task::Waker::wake);
        drop(inner);
        self.progress.notify_all();
        self.wake_always();
    }

    /// Says whether the writer would notice new entries only if it is woken.
    pub fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
    }

    /// Wakes the writer if it sleeps.
    pub fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            (self.waker)();
        }
    }

    /// Wakes the writer whatever it does.
    pub fn wake_always(&self) {
        (self.waker)();
    }

    /// Takes entries in order, all or none.
    pub fn append(&self, entries: &[(PartitionId, Entry)], flush: Flush) -> Result<u64, AppendError> {
        let encoded = self.encode(entries)?;
        let bytes: usize = encoded.iter().map(|(header, payload)| cost(header, payload)).sum();
        let mut inner = self.inner.lock();
        inner.admit(&self.options, entries, bytes)?;
        for ((partition, entry), (header, payload)) in entries.iter().zip(encoded) {
            inner.take(*partition, entry, header, payload, flush);
        }
        inner.in_flight += bytes;
        let ticket = inner.counts.appended;
        drop(inner);
        self.wake();
        Ok(ticket)
    }

    fn encode(&self, entries: &[(PartitionId, Entry)]) -> Result<Vec<(EntryHeader, Bytes)>, AppendError> {
        let limit = self.options.entry_bytes_max();
        let size = |entry: &Entry| if let Entry::Record(record) = entry { record.size() } else { 64 };
        let mut out = BytesMut::with_capacity(entries.iter().map(|(_, entry)| size(entry)).sum());
        let mut encode = |(partition, entry): &(PartitionId, Entry)| {
            entry.encode(&mut out);
            let payload = out.split().freeze();
            if payload.len() > limit {
                return Err(AppendError::TooLarge { bytes: payload.len(), limit });
            }
            Ok((header(*partition, entry, &payload), payload))
        };
        entries.iter().map(&mut encode).collect()
    }

    /// Whether a record of the oldest segment is part of its partition's log and in no newer segment.
    pub fn is_wanted(&self, inner: &Inner, header: &EntryHeader) -> bool {
        let EntryHeader { partition, epoch, lsn, .. } = *header;
        let is_live = |summary: &Summary| match self.options.planted {
            Some(Planted::PlaceDecides) => summary.first <= lsn && lsn <= summary.end,
            _ => summary.is_live(epoch, lsn),
        };
        let known = inner.partitions.get(&partition).filter(|known| !known.summary.damaged);
        known.is_some_and(|known| is_live(&known.summary)) && inner.segments.newer_to(partition, epoch, lsn).is_none()
    }

    /// Copies records forward: those that are still live and in no newer segment. Gives the ticket to wait for.
    pub fn append_moved(&self, records: Vec<(EntryHeader, Bytes)>) -> Result<u64, AppendError> {
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.failed {
            return Err(AppendError::Failed(error.clone()));
        }
        // The writer ends when the queue is empty.
        if inner.closing {
            return Err(AppendError::Closed);
        }
        let (in_flight, limit) = (inner.in_flight, self.options.in_flight_limit());
        if in_flight > limit / 2 {
            return Err(AppendError::Busy { in_flight, limit });
        }
        let bytes: usize = records.iter().map(|(header, payload)| cost(header, payload)).sum();
        if inner.spares.is_empty() && !inner.fits_open(bytes + self.options.segment_bytes as usize / 16) {
            let why = "no room to move records".to_string();
            return Err(AppendError::Full { bytes: inner.files() * self.options.segment_bytes, why });
        }
        for (header, payload) in records {
            if self.is_wanted(&inner, &header) {
                inner.in_flight += cost(&header, &payload);
                inner.counts.moved += 1;
                inner.enqueue(EntryHeader { moved: true, ..header }, payload, Change::Moved, Flush::Soon);
            }
        }
        let ticket = inner.counts.appended;
        drop(inner);
        self.wake();
        Ok(ticket)
    }

    /// Something of the partition could not be read.
    pub fn poison(&self, partition: PartitionId) {
        let entry = Entry::Damaged;
        let payload = Bytes::new();
        let header = header(partition, &entry, &payload);
        let mut inner = self.inner.lock();
        let known = inner.partitions.get(&partition).is_some_and(|found| !found.summary.damaged);
        if known && inner.failed.is_none() && !inner.closing {
            inner.in_flight += cost(&header, &payload);
            inner.take(partition, &entry, header, payload, Flush::Now);
        }
        drop(inner);
        self.wake();
    }

    /// Asks for everything appended up to the ticket to be synced and waits for it.
    pub fn wait_durable(&self, ticket: u64) -> Result<(), LogError> {
        let mut inner = self.inner.lock();
        inner.sync_to = inner.sync_to.max(ticket);
        drop(inner);
        self.wake_always();
        let mut inner = self.inner.lock();
        loop {
            if inner.counts.durable >= ticket {
                return Ok(());
            }
            if let Some(error) = &inner.failed {
                return Err(error.clone());
            }
            self.progress.wait(&mut inner);
        }
    }
}

impl Inner {
    fn admit(
        &mut self,
        options: &LogOptions,
        entries: &[(PartitionId, Entry)],
        bytes: usize,
    ) -> Result<(), AppendError> {
        if let Some(error) = &self.failed {
            return Err(AppendError::Failed(error.clone()));
        }
        if self.closing {
            return Err(AppendError::Closed);
        }
        let (limit, whole) = (options.in_flight_limit(), options.segment_bytes as usize / 2);
        if bytes > whole {
            return Err(AppendError::TooLarge { bytes, limit: whole });
        }
        if self.in_flight > 0 && self.in_flight + bytes > limit {
            return Err(AppendError::Busy { in_flight: self.in_flight, limit });
        }
        let frees = entries.iter().all(|(_, entry)| !matches!(entry, Entry::Record(_) | Entry::Mark(_)));
        if !self.has_room(bytes, frees) {
            // The next segment is being made; or bookkeeping may fit when what is before it is placed.
            let passing = self.full.is_none() || frees && self.in_flight > 0;
            let why = self.full.clone().filter(|_| !passing);
            return Err(match why {
                Some(why) => AppendError::Full { bytes: self.files() * options.segment_bytes, why },
                None => AppendError::Busy { in_flight: self.in_flight, limit },
            });
        }
        self.admit_partitions(options, entries)
    }

    fn admit_partitions(&self, options: &LogOptions, entries: &[(PartitionId, Entry)]) -> Result<(), AppendError> {
        let (limit, mut growth) = (options.directory_bytes_max(), 0);
        for (partition, entry) in entries {
            let known = self.partitions.get(partition);
            let needs_whole = matches!(entry, Entry::Record(_) | Entry::Cut { .. } | Entry::Trim { .. });
            if needs_whole && known.is_some_and(|known| known.summary.damaged) {
                return Err(AppendError::Damaged(*partition));
            }
            growth += if known.is_none() { 256 } else { 0 };
            growth += match entry {
                Entry::Record(record) => record.lineage_entry().map_or(0, |_| 65),
                Entry::Intent(_) | Entry::Installed { .. } | Entry::Mark(_) => {
                    let mut out = BytesMut::new();
                    entry.encode(&mut out);
                    out.len()
                }
                _ => 0,
            };
        }
        let bytes = self.directory_bytes + growth;
        if growth > 0 && bytes > limit { Err(AppendError::Crowded { bytes, limit }) } else { Ok(()) }
    }

    /// Whatever is taken can be placed: data needs a spare behind the open segment, and one more that stays for
    /// bookkeeping if no further one can be made. Bookkeeping alone may go on to the end of the last segment.
    fn has_room(&self, bytes: usize, frees: bool) -> bool {
        let spares = self.spares.len();
        let enough = spares > usize::from(self.full.is_some());
        enough || frees && (spares > 0 || self.fits_open(bytes))
    }

    /// Whether the open segment takes this behind everything in flight, its index included.
    fn fits_open(&self, bytes: usize) -> bool {
        self.open_free > (2 * (self.in_flight + bytes) + (32 << 10)) as u64
    }

    fn files(&self) -> u64 {
        (self.segments.len() + self.spares.len()) as u64
    }

    /// Whether those that wait for room should try again.
    pub fn is_roomy(&self, options: &LogOptions) -> bool {
        let supplied = !self.spares.is_empty() || self.full.is_some();
        self.failed.is_some() || self.closing || supplied && self.in_flight <= options.in_flight_limit() / 2
    }

    /// Takes an admitted entry. Panics if it does not continue its partition's log: the caller broke its own rules.
    fn take(&mut self, partition: PartitionId, entry: &Entry, header: EntryHeader, payload: Bytes, flush: Flush) {
        let known = self.partitions.entry(partition).or_default();
        if let Err(error) = known.summary.apply(entry) {
            panic!("partition {partition}: {error}");
        }
        let change = match entry {
            Entry::Record(record) => {
                known.unwritten.push_back((header, payload.clone()));
                Change::Record(record.lineage_entry())
            }
            note => Change::Note(Box::new(note.clone())),
        };
        if !matches!(change, Change::Record(None)) {
            let mut out = BytesMut::new();
            Entry::Summary(known.summary.clone()).encode(&mut out);
            let before = std::mem::replace(&mut known.directory_bytes, out.len() + types::segment::batch::ENTRY_HEADER);
            self.directory_bytes = self.directory_bytes + known.directory_bytes - before;
        }
        self.enqueue(header, payload, change, flush);
    }

    /// Counts the summaries that were recovered.
    pub fn count_directory(&mut self) {
        for partition in self.partitions.values_mut() {
            let mut out = BytesMut::new();
            Entry::Summary(partition.summary.clone()).encode(&mut out);
            partition.directory_bytes = out.len() + types::segment::batch::ENTRY_HEADER;
            self.directory_bytes += partition.directory_bytes;
        }
    }

    fn enqueue(&mut self, header: EntryHeader, payload: Bytes, change: Change, flush: Flush) {
        self.counts.appended += 1;
        let ticket = self.counts.appended;
        self.queue.push_back(Pending { header, payload, change, flush, ticket });
    }
}

/// Bytes of memory that an entry holds until it is written, about.
pub(crate) fn cost(_header: &EntryHeader, payload: &Bytes) -> usize {
    payload.len() + types::segment::batch::ENTRY_HEADER
}

/// The header of an entry in a batch.
pub(crate) fn header(partition: PartitionId, entry: &Entry, payload: &Bytes) -> EntryHeader {
    let none = Epoch { number: 0, cluster: ClusterId(0), nonce: 0 };
    let (epoch, lsn, ts) = match entry {
        Entry::Record(record) => (record.epoch, record.lsn, record.body.timestamp().unwrap_or_default()),
        _ => (none, Lsn::ZERO, Timestamp::ZERO),
    };
    let payload_crc = crc32c::crc32c(payload);
    let length = payload.len() as u32;
    EntryHeader { payload_crc, length, kind: entry.kind(), moved: false, partition, lsn, epoch, ts }
}
