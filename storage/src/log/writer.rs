//! The thread that owns the disk: gathers what waits into batches, writes and syncs them, and reports.
//!
//! Group commit: while up to `batches_in_flight_max` batches are on their way to the disk, entries of all partitions
//! gather; when one comes back, everything that has gathered goes out as the next. So the next batch is written while
//! the one before is synced, and one sync serves every entry in it.
//!
//! - Batches are numbered and *published* (found by readers, reported as written) in order, each when it and all
//!   before it are written.
//! - They are *durable*, and reported so, in order: each when a sync that began after its write ended has ended
//!   well, and the same holds for all before it.
//! - A write or sync that fails ends the log. It is not tried again: after a failed sync the kernel may have dropped
//!   what it could not write.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use types::entry::{Entry, Summary};
use types::segment::batch::{BATCH_HEADER, ENTRY_HEADER};
use types::segment::index::{ENTRY_COST, sealed_len};
use types::segment::{BLOCK, BatchBuilder, BatchFlags, EntryHeader, Identity, Index, SegmentHeader, Trailer, blocks};
use types::{Lsn, PartitionId};

use super::disk::{Disk, Done, Op, Tag};
use super::segment_file::SegmentFile;
use super::segments::Segment;
use super::shared::{Change, Pending, Shared, cost, header};
use super::{DurableReport, Flush, LogError, Report};

/// Unsynced bytes at which entries that can wait are synced all the same.
const UNSYNCED_MAX: u64 = 8 << 20;

/// Owns the disk and the end of the log.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    disk: Box<dyn Disk>,
    report: Box<dyn FnMut(Report) + Send>,
    placed: BTreeMap<PartitionId, Placed>,
    open: Option<Open>,
    next_sequence: u64,
    synced: u64,
    flying: VecDeque<Flying>,
    /// Batches that a sync in flight will make durable.
    syncs: HashMap<Tag, Syncing>,
    next_tag: u64,
    /// The last entry that was put into a batch.
    last_ticket: u64,
    /// Taken from the queue, waiting for a segment.
    held: Vec<Pending>,
}

/// A sync in flight, or a write that is synced with it.
struct Syncing {
    begun: Instant,
    /// The batches that it makes durable.
    covers: Vec<u64>,
}

/// A partition as of the last batch, with counts since the log was opened.
#[derive(Debug, Default)]
struct Placed {
    summary: Summary,
    notes: u64,
    others: u64,
}

/// The segment that is written.
#[derive(Debug)]
pub(crate) struct Open {
    pub file: Arc<SegmentFile>,
    pub identity: Identity,
    pub first_sequence: u64,
    pub offset: u64,
    pub index: Index,
}

/// What recovery hands to the writer.
pub(crate) struct Start {
    pub open: Option<Open>,
    pub next_sequence: u64,
    pub synced: u64,
    pub summaries: BTreeMap<PartitionId, Summary>,
}

/// A batch that is not durable yet.
#[derive(Debug)]
struct Flying {
    sequence: u64,
    tag: Tag,
    file: Arc<SegmentFile>,
    segment: u64,
    offset: u64,
    bytes: u64,
    written: bool,
    published: bool,
    synced: bool,
    /// A sync that will make it durable is in flight.
    covered: bool,
    flush: Flush,
    at: Instant,
    /// The last entry before it, and the last one in it or before it.
    after: u64,
    ticket: u64,
    cost: usize,
    records: Vec<EntryHeader>,
    seal: Option<Trailer>,
    reports: Vec<DurableReport>,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        disk: Box<dyn Disk>,
        report: Box<dyn FnMut(Report) + Send>,
        start: Start,
    ) -> Writer {
        let placed = start.summaries.into_iter().map(|(id, summary)| (id, Placed { summary, ..Placed::default() }));
        Writer {
            shared,
            disk,
            report,
            placed: placed.collect(),
            open: start.open,
            next_sequence: start.next_sequence,
            synced: start.synced,
            flying: VecDeque::new(),
            syncs: HashMap::new(),
            next_tag: 0,
            last_ticket: 0,
            held: vec![],
        }
    }

    /// Runs until the log is closed and everything is durable, or until it fails.
    pub fn run(mut self) {
        let mut done = vec![];
        loop {
            while self.gather() {}
            self.order_syncs();
            if self.flying.is_empty() && self.held.is_empty() && self.is_closed() {
                return;
            }
            if let Err(error) = self.wait(&mut done).and_then(|()| self.complete(&mut done)) {
                return self.fail(error);
            }
            self.publish();
            self.settle();
        }
    }

    fn is_closed(&self) -> bool {
        let inner = self.shared.inner.lock();
        inner.closing && inner.queue.is_empty()
    }

    /// Batches that wait for their sync.
    fn busy(&self) -> bool {
        let waiting = self.flying.iter().filter(|batch| !batch.synced && (batch.covered || !batch.written)).count();
        waiting >= self.shared.options.batches_in_flight_max
    }

    /// Takes what waits and puts it into one batch; false if there is nothing to take or nowhere to put it.
    fn gather(&mut self) -> bool {
        if self.busy() {
            return false;
        }
        if self.held.is_empty() {
            let limit = self.shared.options.batch_bytes_max();
            let mut inner = self.shared.inner.lock();
            let mut bytes = 0;
            while let Some(next) = inner.queue.front() {
                bytes += ENTRY_HEADER + next.payload.len();
                if bytes > limit && !self.held.is_empty() {
                    break;
                }
                self.held.extend(inner.queue.pop_front());
            }
        }
        if self.held.is_empty() || !self.make_room() {
            return false;
        }
        let entries = std::mem::take(&mut self.held);
        self.place(entries);
        true
    }

    /// Sees to it that the held entries fit the open segment; false if a segment has to be waited for.
    fn make_room(&mut self) -> bool {
        let length = self.held.iter().map(|entry| ENTRY_HEADER + entry.payload.len()).sum::<usize>() + BATCH_HEADER;
        let (span, count) = (blocks(length as u64), self.held.len() as u64);
        let fits = |open: &Open| {
            let index = sealed_len(open.index.encoded_len() + count * ENTRY_COST);
            open.offset + span + index <= open.file.size
        };
        if let Some(open) = &mut self.open {
            if !fits(open) && open.index.encoded_len() > open.file.size / 16 {
                open.index.coarsen();
            }
            if fits(open) {
                return true;
            }
        }
        if !self.next_segment() {
            return false;
        }
        let open = self.open.as_ref().expect("a segment was just opened");
        assert!(fits(open), "batch of {span} bytes does not fit a new segment at {}", open.offset);
        true
    }

    /// Seals the open segment and begins the next with the directory.
    fn next_segment(&mut self) -> bool {
        // Sealing the open segment takes a sequence.
        let first_sequence = self.next_sequence + u64::from(self.open.is_some());
        let Some((file, identity)) = self.take_spare(first_sequence) else {
            self.poke();
            return false;
        };
        self.seal();
        assert_eq!(self.next_sequence, first_sequence, "the segment was entered under another sequence");
        let header = SegmentHeader { identity, size: file.size, first_sequence };
        self.open = Some(Open { file, identity, first_sequence, offset: BLOCK, index: Index::default() });
        let start = SegmentFile::header_block(&header);
        let mut builder = self.builder(start, BatchFlags::Directory);
        // Of a partition that was dropped only the counts are kept.
        for (partition, placed) in self.placed.iter().filter(|(_, placed)| placed.summary != Summary::default()) {
            let entry = Entry::Summary(placed.summary.clone());
            let mut payload = BytesMut::new();
            entry.encode(&mut payload);
            let payload = payload.freeze();
            builder.push(&types_header(*partition, &entry, &payload), &payload);
        }
        self.send(builder, vec![], 0, Flush::Now);
        self.poke();
        true
    }

    /// A spare becomes a segment in one step: the files must always be counted right.
    fn take_spare(&self, first_sequence: u64) -> Option<(Arc<SegmentFile>, Identity)> {
        let mut inner = self.shared.inner.lock();
        let file = inner.spares.pop_front()?;
        let identity = Identity { log: self.shared.log, segment: file.id, uses: file.take() };
        inner.segments.push(Segment::open(file.clone(), identity, first_sequence, Index::default()));
        inner.counts.segments += 1;
        Some((file, identity))
    }

    fn seal(&mut self) {
        let Some(open) = self.open.take() else { return };
        let sequence = self.next_sequence;
        let (bytes, trailer) =
            open.index.seal(open.identity, open.file.size, open.first_sequence, sequence, self.synced);
        assert!(trailer.offset >= open.offset, "index at {} over batches up to {}", trailer.offset, open.offset);
        let flying = self.flying_of(&open, trailer.offset, bytes.len() as u64);
        self.launch(Flying { seal: Some(trailer), flush: Flush::Now, ..flying }, trailer.offset, bytes, open.file);
    }

    fn builder(&self, start: BytesMut, flags: BatchFlags) -> BatchBuilder {
        let open = self.open.as_ref().expect("a batch goes into an open segment");
        BatchBuilder::new(start, open.identity, flags, self.next_sequence, self.synced)
    }

    /// Puts entries into a batch, and their changes into the summaries.
    fn place(&mut self, entries: Vec<Pending>) {
        let length = entries.iter().map(|entry| ENTRY_HEADER + entry.payload.len()).sum::<usize>() + BATCH_HEADER;
        let mut builder = self.builder(BytesMut::with_capacity(blocks(length as u64) as usize), BatchFlags::Plain);
        let (mut touched, mut records, mut held, mut flush) = (vec![], vec![], 0, Flush::Soon);
        for entry in &entries {
            builder.push(&entry.header, &entry.payload);
            held += cost(&entry.header, &entry.payload);
            flush = flush.max(entry.flush);
            if Entry::is_record_kind(entry.header.kind) {
                records.push(entry.header);
            }
            if self.change(entry) {
                touched.push(entry.header.partition);
            }
        }
        touched.sort_unstable();
        touched.dedup();
        let reports = touched.iter().map(|partition| self.report_of(*partition)).collect();
        let ticket = entries.last().map_or(0, |entry| entry.ticket);
        let batch = self.send(builder, reports, ticket, flush);
        (batch.records, batch.cost) = (records, held);
        let (segment, offset) = (batch.segment, batch.offset);
        let open = self.open.as_mut().expect("it was just written to");
        assert_eq!(open.first_sequence, segment, "batch in another segment than the open one");
        for record in &self.flying.back().expect("just sent").records {
            open.index.add(record.partition, record.epoch, record.lsn, offset);
        }
    }

    /// Applies an entry to its partition's summary; false if it changes nothing to report.
    fn change(&mut self, entry: &Pending) -> bool {
        let EntryHeader { partition, epoch, lsn, .. } = entry.header;
        let checked = "append took it after the same check";
        match &entry.change {
            Change::Moved => return false,
            Change::Record(start) => {
                self.placed.entry(partition).or_default().summary.record(epoch, lsn, *start).expect(checked);
            }
            Change::Note(note) => {
                let placed = self.placed.entry(partition).or_default();
                placed.summary.apply(note).expect(checked);
                match **note {
                    Entry::Mark(_) | Entry::Promise { .. } => placed.notes += 1,
                    Entry::Damaged => {}
                    _ => placed.others += 1,
                }
            }
        }
        true
    }

    fn report_of(&self, partition: PartitionId) -> DurableReport {
        let placed = self.placed.get(&partition).expect("touched partitions are placed");
        let Placed { summary, notes, others } = placed;
        DurableReport { partition, end: summary.end, notes: *notes, others: *others }
    }

    /// Writes the batch at the open segment's end, without waiting.
    fn send(&mut self, builder: BatchBuilder, reports: Vec<DurableReport>, ticket: u64, flush: Flush) -> &mut Flying {
        let (bytes, header) = builder.finish();
        let open = self.open.as_mut().expect("a batch goes into an open segment");
        // A directory comes with the header block in front of it.
        let offset = if header.flags == BatchFlags::Directory { 0 } else { open.offset };
        let (batch_offset, file) = (open.offset, open.file.clone());
        open.offset = offset + bytes.len() as u64;
        let free = open.file.size - open.offset;
        let flying = Flying {
            reports,
            ticket,
            flush,
            ..self.flying_of(self.open.as_ref().expect("still open"), batch_offset, bytes.len() as u64)
        };
        self.shared.inner.lock().open_free = free;
        self.launch(flying, offset, bytes, file);
        self.flying.back_mut().expect("just launched")
    }

    fn flying_of(&self, open: &Open, offset: u64, bytes: u64) -> Flying {
        Flying {
            sequence: self.next_sequence,
            tag: Tag(self.next_tag),
            file: open.file.clone(),
            segment: open.first_sequence,
            offset,
            bytes,
            written: false,
            published: false,
            synced: false,
            covered: false,
            flush: Flush::Soon,
            at: Instant::now(),
            after: self.last_ticket,
            ticket: 0,
            cost: 0,
            records: vec![],
            seal: None,
            reports: vec![],
        }
    }

    fn launch(&mut self, mut batch: Flying, offset: u64, bytes: BytesMut, file: Arc<SegmentFile>) {
        let sync = batch.flush == Flush::Now;
        // The batch's own sync follows its write; of those before it, it covers what is written already.
        batch.covered = sync;
        batch.ticket = batch.ticket.max(self.last_ticket);
        self.last_ticket = batch.ticket;
        let (tag, sequence) = (batch.tag, batch.sequence);
        self.flying.push_back(batch);
        if sync {
            let mut covers = self.cover(&file);
            covers.push(sequence);
            self.syncs.insert(tag, Syncing { begun: Instant::now(), covers });
        }
        (self.next_sequence, self.next_tag) = (self.next_sequence + 1, self.next_tag + 1);
        self.disk.submit(Op::Write { tag, file: file.file.clone(), offset, data: bytes.freeze(), sync });
    }

    /// The batches of a file that a sync beginning now makes durable.
    fn cover(&mut self, file: &Arc<SegmentFile>) -> Vec<u64> {
        let waits =
            |batch: &&mut Flying| batch.written && !batch.covered && !batch.synced && Arc::ptr_eq(&batch.file, file);
        let batches = self.flying.iter_mut().filter(waits);
        batches
            .map(|batch| {
                batch.covered = true;
                batch.sequence
            })
            .collect()
    }

    /// Begins the syncs that are due: for batches that must not wait, have waited long enough, or hold up one that
    /// must not wait.
    fn order_syncs(&mut self) {
        let interval = self.shared.options.flush_interval;
        let (sync_to, closing) = {
            let inner = self.shared.inner.lock();
            (inner.sync_to, inner.closing)
        };
        let unsynced: u64 = self.flying.iter().filter(|batch| !batch.covered).map(|batch| batch.bytes).sum();
        let urgent = |batch: &Flying| batch.flush == Flush::Now || batch.at.elapsed() >= interval;
        let last = self.flying.iter().rposition(urgent);
        let due = |index: usize, batch: &Flying| {
            let asked = batch.after < sync_to || closing || unsynced > UNSYNCED_MAX;
            batch.written && !batch.covered && !batch.synced && (asked || last.is_some_and(|last| index <= last))
        };
        loop {
            let next = self.flying.iter().enumerate().find(|(index, batch)| due(*index, batch));
            let Some(file) = next.map(|(_, batch)| batch.file.clone()) else { return };
            let covers = self.cover(&file);
            let tag = Tag(self.next_tag);
            self.next_tag += 1;
            self.syncs.insert(tag, Syncing { begun: Instant::now(), covers });
            self.disk.submit(Op::Sync { tag, file: file.file.clone() });
        }
    }

    fn wait(&mut self, done: &mut Vec<Done>) -> Result<(), LogError> {
        let waits = self.flying.iter().find(|batch| !batch.covered && !batch.synced);
        let interval = self.shared.options.flush_interval;
        let timeout = waits.map(|batch| interval.saturating_sub(batch.at.elapsed()).max(Duration::from_millis(1)));
        if !self.busy() {
            self.shared.set_asleep(true);
            // What was appended before that was not woken for.
            if self.held.is_empty() && !self.shared.inner.lock().queue.is_empty() {
                return Ok(());
            }
        }
        let waited = self.disk.wait(timeout, done);
        self.shared.set_asleep(false);
        waited.map_err(LogError::io("wait for the disk of", &self.path()))
    }

    fn path(&self) -> std::path::PathBuf {
        self.open.as_ref().map(|open| open.file.path.clone()).unwrap_or_default()
    }

    /// Notes what the disk has done.
    fn complete(&mut self, done: &mut Vec<Done>) -> Result<(), LogError> {
        for done in done.drain(..) {
            match done {
                Done::Written { tag, result } => {
                    let batch = self.flying.iter_mut().find(|batch| batch.tag == tag);
                    let batch = batch.expect("a batch is written before it is durable");
                    result.map_err(LogError::io("write", &batch.file.path))?;
                    batch.written = true;
                }
                Done::Synced { tag, result } => {
                    let Syncing { begun, covers } = self.syncs.remove(&tag).expect("each sync comes back once");
                    let path = self.path();
                    result.map_err(LogError::io("sync", &path))?;
                    let mut inner = self.shared.inner.lock();
                    inner.counts.syncs += 1;
                    inner.sync_times.add(begun.elapsed());
                    drop(inner);
                    for batch in self.flying.iter_mut().filter(|batch| covers.contains(&batch.sequence)) {
                        assert!(batch.written, "batch {} synced before it was written", batch.sequence);
                        batch.synced = true;
                    }
                }
            }
        }
        Ok(())
    }

    /// Shows readers what is written, in order.
    fn publish(&mut self) {
        let mut reports = BTreeMap::new();
        let mut inner = self.shared.inner.lock();
        for batch in self.flying.iter_mut().skip_while(|batch| batch.published) {
            if !batch.written {
                break;
            }
            batch.published = true;
            inner.counts.written = batch.ticket;
            inner.counts.batches += 1;
            inner.in_flight -= batch.cost;
            let segment = inner.segments.by_first(batch.segment).expect("a segment with a batch in flight is in use");
            for record in &batch.records {
                segment.add(record.partition, record.epoch, record.lsn, batch.offset);
            }
            if let Some(trailer) = batch.seal {
                segment.seal(trailer);
            }
            for record in std::mem::take(&mut batch.records).iter().filter(|record| !record.moved) {
                let partition = inner.partitions.get_mut(&record.partition).expect("it has a record in flight");
                let shown = partition.unwritten.pop_front().map(|(header, _)| header.lsn);
                assert_eq!(shown, Some(record.lsn), "records of {} written out of order", record.partition);
            }
            for report in &batch.reports {
                let gone = inner.partitions.get(&report.partition);
                if gone.is_some_and(|gone| gone.unwritten.is_empty() && gone.summary == Summary::default()) {
                    let gone = inner.partitions.remove(&report.partition).map_or(0, |gone| gone.directory_bytes);
                    inner.directory_bytes -= gone;
                }
            }
            reports.extend(batch.reports.iter().map(|report| (report.partition, *report)));
        }
        if inner.in_flight <= self.shared.options.in_flight_limit() / 2 {
            inner.room.drain(..).for_each(std::task::Waker::wake);
        }
        drop(inner);
        self.shared.progress.notify_all();
        if !reports.is_empty() {
            (self.report)(Report::Written(reports.into_values().collect()));
        }
    }

    /// Forgets what is durable, in order, and reports it.
    fn settle(&mut self) {
        let mut reports = BTreeMap::new();
        let mut ticket = None;
        while let Some(batch) = self.flying.pop_front_if(|batch| batch.synced && batch.published) {
            self.synced = batch.sequence;
            ticket = Some(batch.ticket);
            reports.extend(batch.reports.into_iter().map(|report| (report.partition, report)));
        }
        let Some(ticket) = ticket else { return };
        let mut inner = self.shared.inner.lock();
        inner.synced = self.synced;
        inner.counts.durable = inner.counts.durable.max(ticket);
        drop(inner);
        self.shared.progress.notify_all();
        if !reports.is_empty() {
            (self.report)(Report::Durable(reports.into_values().collect()));
        }
    }

    fn poke(&self) {
        self.shared.inner.lock().poked = true;
        self.shared.poke.notify_all();
    }

    fn fail(mut self, error: LogError) {
        tracing::error!(%error, "the node log has failed and takes nothing more");
        let mut inner = self.shared.inner.lock();
        inner.failed = Some(error.clone());
        inner.room.drain(..).for_each(std::task::Waker::wake);
        drop(inner);
        self.shared.progress.notify_all();
        self.shared.poke.notify_all();
        (self.report)(Report::Failed(error));
    }
}

fn types_header(partition: PartitionId, entry: &Entry, payload: &bytes::Bytes) -> EntryHeader {
    let header = header(partition, entry, payload);
    assert_eq!(header.lsn, Lsn::ZERO, "a directory holds no records");
    header
}
