//! A disk that keeps syncs back, or fails: nothing is reported durable before its sync has ended, and a failure ends
//! the log.

mod log_common;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use log_common::*;
use perennial_storage::log::disk::{Disk, Done, Op, Tag, Waker};
use perennial_storage::log::{AppendError, Flush, LogError, LogOptions, NodeLog, Recovered};
use types::Lsn;
use types::entry::Entry;
use types::segment::{BLOCK, Verdict};

/// Writes at once; syncs only when the test says so.
struct GateDisk {
    events: Receiver<Option<Done>>,
    gate: Gate,
}

/// Syncs that are kept back, in the order in which they were ordered.
type Waiting = Vec<(Tag, Arc<File>)>;

#[derive(Clone)]
struct Gate {
    sender: Sender<Option<Done>>,
    waiting: Arc<Mutex<Waiting>>,
    /// Operations handed in.
    submitted: Arc<Mutex<u64>>,
    fail_writes: Arc<Mutex<bool>>,
}

fn gate_disk() -> (Box<GateDisk>, Gate) {
    let (sender, events) = channel();
    let gate = Gate { sender, waiting: Arc::default(), submitted: Arc::default(), fail_writes: Arc::default() };
    (Box::new(GateDisk { events, gate: gate.clone() }), gate)
}

impl Gate {
    fn wait_for(&self, syncs: usize) {
        while self.waiting.lock().unwrap().len() < syncs {
            std::thread::yield_now();
        }
    }

    /// Does the sync at this place of the queue, or fails it.
    fn release(&self, index: usize, result: io::Result<()>) {
        let (tag, file) = self.waiting.lock().unwrap().remove(index);
        let result = result.and_then(|()| file.sync_data());
        self.sender.send(Some(Done::Synced { tag, result })).unwrap();
    }

    fn release_all(&self) {
        while !self.waiting.lock().unwrap().is_empty() {
            self.release(0, Ok(()));
        }
    }

    fn submitted(&self) -> u64 {
        *self.submitted.lock().unwrap()
    }
}

impl Disk for GateDisk {
    fn name(&self) -> &'static str {
        "gate"
    }

    fn submit(&mut self, op: Op) {
        *self.gate.submitted.lock().unwrap() += 1;
        let (tag, file, sync) = match op {
            Op::Write { tag, file, offset, data, sync } => {
                let result = match *self.gate.fail_writes.lock().unwrap() {
                    true => Err(io::Error::from_raw_os_error(5)),
                    false => file.write_all_at(&data, offset),
                };
                self.gate.sender.send(Some(Done::Written { tag, result })).unwrap();
                (tag, file, sync)
            }
            Op::Sync { tag, file } => (tag, file, true),
        };
        if sync {
            self.gate.waiting.lock().unwrap().push((tag, file));
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()> {
        let first = match timeout {
            Some(timeout) => self.events.recv_timeout(timeout),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        done.extend(first.ok().into_iter().chain(self.events.try_iter()).flatten());
        Ok(())
    }

    fn waker(&self) -> Waker {
        let sender = Mutex::new(self.gate.sender.clone());
        Arc::new(move || drop(sender.lock().unwrap().send(None)))
    }
}

/// After this the writer has taken in every answer that was sent before.
fn settle(log: &NodeLog, reports: &Reports, lsn: &mut u64) {
    for _ in 0..2 {
        *lsn += 1;
        log.append(&[(partition(9), Entry::Record(record(9, *lsn, 0)))], Flush::Soon).unwrap();
        reports.wait(|seen| seen.written.get(&partition(9)).filter(|report| report.end == Lsn(*lsn)).copied());
    }
}

#[test]
fn nothing_is_reported_durable_before_its_sync_and_that_of_everything_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, gate) = gate_disk();
    let options = LogOptions {
        batches_in_flight_max: 8,
        // Entries that may wait are to cause no sync of their own in this test.
        flush_interval: Duration::from_secs(1),
        ..small()
    };
    let (log, _, reports) = open_on(dir.path(), options, disk);
    // With its spares made the log takes everything at once.
    log.tidy();
    let mut lsn = 0;
    // The directory of the first segment and the first batch.
    log.append(&[(partition(0), Entry::Record(record(0, 1, 100)))], Flush::Now).unwrap();
    gate.wait_for(2);
    reports.wait(|seen| seen.written.get(&partition(0)).copied());
    log.append(&[(partition(1), Entry::Record(record(1, 1, 100)))], Flush::Now).unwrap();
    gate.wait_for(3);
    settle(&log, &reports, &mut lsn);
    assert_eq!((reports.durable_end(0), reports.durable_end(1)), (Lsn::ZERO, Lsn::ZERO), "written, not synced");
    gate.release(2, Ok(()));
    settle(&log, &reports, &mut lsn);
    assert_eq!((reports.durable_end(0), reports.durable_end(1)), (Lsn::ZERO, Lsn::ZERO), "the first is not synced");
    gate.release(1, Ok(()));
    settle(&log, &reports, &mut lsn);
    assert_eq!(reports.durable_end(0), Lsn::ZERO, "the directory before it is not synced");
    gate.release(0, Ok(()));
    reports.wait_end(0, 1);
    reports.wait_end(1, 1);
    let closing = std::thread::spawn(move || log.close());
    while !closing.is_finished() {
        gate.release_all();
        std::thread::yield_now();
    }
    closing.join().unwrap().unwrap();
    let (_, recovered, _) = open(dir.path(), small());
    assert_eq!(recovered.partitions[&partition(9)].end, Lsn(lsn));
}

fn ends_with(fail: impl FnOnce(&Gate)) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, gate) = gate_disk();
    let (log, _, reports) = open_on(dir.path(), small(), disk);
    log.tidy();
    log.append(&[(partition(0), Entry::Record(record(0, 1, 100)))], Flush::Now).unwrap();
    gate.wait_for(2);
    gate.release_all();
    reports.wait_end(0, 1);
    fail(&gate);
    // Depending on how far the log is, it takes the entry or says at once that it has failed.
    let taken = log.append(&[(partition(0), Entry::Record(record(0, 2, 100)))], Flush::Now);
    if taken.is_ok() {
        while reports.wait(|seen| Some(seen.failed.is_none())) {
            let waiting = gate.waiting.lock().unwrap().len();
            if waiting > 0 {
                gate.release(waiting - 1, Err(io::Error::from_raw_os_error(5)));
            }
            std::thread::yield_now();
        }
    }
    let error = reports.wait(|seen| seen.failed.clone());
    assert!(matches!(error, LogError::Io { .. }), "{error}");
    let refused = log.append(&[(partition(0), Entry::Trim { below: Lsn(1) })], Flush::Now);
    assert!(matches!(refused, Err(AppendError::Failed(_))), "{refused:?}");
    assert!(log.wait_durable().is_err());
    log.wait_room();
    let submitted = gate.submitted();
    assert!(log.close().is_err());
    assert_eq!(gate.submitted(), submitted, "something was tried after the failure");
    assert_eq!(reports.durable_end(0), Lsn(1));
    // A new process finds what was durable, and perhaps what was only written.
    let (_, recovered, _) = open(dir.path(), small());
    assert!(recovered.partitions[&partition(0)].end >= Lsn(1));
}

#[test]
fn a_failed_sync_ends_the_log_and_is_not_tried_again() {
    ends_with(|_| ());
}

#[test]
fn a_failed_write_ends_the_log_and_is_not_tried_again() {
    ends_with(|gate| *gate.fail_writes.lock().unwrap() = true);
}

/// Appends a record that is on its way to the disk when this returns, in a batch of its own.
fn append_written(log: &NodeLog, reports: &Reports, ordinal: i32, lsn: u64, size: usize) {
    append(log, &[(partition(ordinal), Entry::Record(record(ordinal, lsn, size)))]);
    reports.wait(|seen| seen.written.get(&partition(ordinal)).filter(|report| report.end == Lsn(lsn)).copied());
}

/// Ends a log whose last batches were written and never synced, and spoils the first of these.
fn leave_torn(dir: &Path, write: impl FnOnce(&NodeLog, &Reports)) {
    let (disk, gate) = gate_disk();
    let options = LogOptions { batches_in_flight_max: 16, flush_interval: Duration::from_secs(1), ..small() };
    let (log, _, reports) = open_on(dir, options, disk);
    log.tidy();
    append_written(&log, &reports, 0, 1, 0);
    gate.wait_for(2);
    gate.release_all();
    reports.wait_end(0, 1);
    write(&log, &reports);
    // One failure ends the log; nobody listens to a second.
    gate.wait_for(1);
    gate.release(0, Err(io::Error::from_raw_os_error(5)));
    assert!(log.close().is_err());
    // Header, directory and the first batch have a block each.
    let path = dir.join("00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3 * BLOCK as usize + 100] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn partitions(recovered: &Recovered) -> Vec<i32> {
    recovered.partitions.keys().map(|id| id.ordinal.0).collect()
}

#[test]
fn a_torn_tail_is_erased_and_cannot_come_back_behind_what_is_written_next() {
    let dir = tempfile::tempdir().unwrap();
    leave_torn(dir.path(), |log, reports| {
        // A block and a sequence each: what is written next ends exactly where the second of them begins.
        (1..=3).for_each(|ordinal| append_written(log, reports, ordinal, 1, 0));
    });
    let (log, recovered, reports) = open(dir.path(), small());
    assert_eq!((recovered.verdict, partitions(&recovered)), (Verdict::Torn, vec![0]));
    append_written(&log, &reports, 4, 1, 0);
    log.close().unwrap();
    let (_, recovered, _) = open(dir.path(), small());
    assert_eq!((recovered.verdict, partitions(&recovered)), (Verdict::Clean, vec![0, 4]));
}

#[test]
fn a_segment_is_freed_only_when_what_frees_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _, _) = open(dir.path(), small());
    fill(&log, 0, 1, 120, 4_000);
    log.close().unwrap();
    let (disk, gate) = gate_disk();
    let (log, _, _) = open_on(dir.path(), small(), disk);
    log.tidy();
    let log = Arc::new(log);
    log.append(&[(partition(0), Entry::Trim { below: Lsn(119) })], Flush::Soon).unwrap();
    let tidying = std::thread::spawn({
        let log = log.clone();
        move || log.tidy()
    });
    gate.wait_for(1);
    assert_eq!(log.status().counts.freed, 0, "the trim is not on disk");
    while !tidying.is_finished() {
        gate.release_all();
        std::thread::yield_now();
    }
    tidying.join().unwrap();
    assert!(log.status().counts.freed > 1, "{:?}", log.status());
}

#[test]
fn segments_behind_a_torn_tail_are_removed_and_cannot_come_back() {
    let dir = tempfile::tempdir().unwrap();
    leave_torn(dir.path(), |log, reports| {
        // Three blocks, then one large batch here and one in the next segment.
        (1..=3).for_each(|ordinal| append_written(log, reports, ordinal, 1, 0));
        (2..=3).for_each(|lsn| append_written(log, reports, 1, lsn, 50_000));
    });
    for lsn in 1..=12 {
        // At no length does the old segment continue the new log.
        let (log, recovered, reports) = open(dir.path(), small());
        let expected: &[i32] = if lsn == 1 { &[0] } else { &[0, 4] };
        assert_eq!(partitions(&recovered), expected, "after {lsn} batches: {:?}", recovered.findings);
        append_written(&log, &reports, 4, lsn, 0);
        log.close().unwrap();
    }
}
