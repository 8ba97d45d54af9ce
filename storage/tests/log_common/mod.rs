//! What the log's tests share: small logs, records that say who they are, and the reports so far.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod crash_disk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use perennial_storage::log::disk::Disk;
use perennial_storage::log::{AppendError, DurableReport, Flush, LogError, LogOptions, NodeLog, Recovered, Report};
use types::entry::Entry;
use types::{
    Body, ClusterId, DatabaseId, Epoch, Lsn, Ordinal, PartitionId, Record, StartKind, Timestamp, TxnId, Write,
};

pub fn partition(ordinal: i32) -> PartitionId {
    PartitionId { database: DatabaseId(3), ordinal: Ordinal(ordinal) }
}

pub fn epoch(number: u64) -> Epoch {
    Epoch { number, cluster: ClusterId(1), nonce: number * 7 }
}

pub fn start(number: u64, lsn: u64) -> Record {
    let body = Body::EpochStart { start_ts: Timestamp(lsn), kind: StartKind::Failover };
    Record { epoch: epoch(number), lsn: Lsn(lsn), body }
}

/// A commit whose bytes follow from its name.
pub fn commit(ordinal: i32, number: u64, lsn: u64, size: usize) -> Record {
    let key = Bytes::from(format!("{ordinal}/{number}/{lsn}"));
    let seed = (ordinal as u64 * 31 + number) * 1009 + lsn;
    let value: Bytes = (0..size).map(|at| (seed.wrapping_mul(at as u64 + 1) >> 3) as u8).collect();
    let writes = vec![Write { key, value: Some(value) }];
    Record {
        epoch: epoch(number),
        lsn: Lsn(lsn),
        body: Body::Commit { txn: TxnId(seed.into()), ts: Timestamp(lsn), writes },
    }
}

/// The record at `lsn` in a log whose epoch `number` began at 1.
pub fn record(ordinal: i32, lsn: u64, size: usize) -> Record {
    if lsn == 1 { start(1, 1) } else { commit(ordinal, 1, lsn, size) }
}

pub fn small() -> LogOptions {
    LogOptions { segment_bytes: LogOptions::SEGMENT_BYTES_MIN, ..LogOptions::default() }
}

#[derive(Debug, Default)]
pub struct Seen {
    pub written: BTreeMap<PartitionId, DurableReport>,
    pub durable: BTreeMap<PartitionId, DurableReport>,
    pub failed: Option<LogError>,
}

/// Collects reports.
#[derive(Clone, Default)]
pub struct Reports(Arc<(Mutex<Seen>, Condvar)>);

impl Reports {
    pub fn sink(&self) -> impl FnMut(Report) + Send + 'static {
        let reports = self.clone();
        move |report| {
            let (seen, changed) = &*reports.0;
            let mut seen = seen.lock().unwrap();
            match report {
                Report::Written(list) => seen.written.extend(list.into_iter().map(|one| (one.partition, one))),
                Report::Durable(list) => {
                    for one in list {
                        let written = seen.written.get(&one.partition).copied();
                        assert!(written.is_some_and(|written| written.notes >= one.notes), "{one:?} after {written:?}");
                        seen.durable.insert(one.partition, one);
                    }
                }
                Report::Failed(error) => seen.failed = Some(error),
            }
            changed.notify_all();
        }
    }

    pub fn wait<T>(&self, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let (seen, changed) = &*self.0;
        let mut seen = seen.lock().unwrap();
        loop {
            if let Some(found) = look(&seen) {
                return found;
            }
            seen = changed.wait(seen).unwrap();
        }
    }

    pub fn durable_end(&self, ordinal: i32) -> Lsn {
        self.0.0.lock().unwrap().durable.get(&partition(ordinal)).map_or(Lsn::ZERO, |report| report.end)
    }

    pub fn wait_end(&self, ordinal: i32, end: u64) -> DurableReport {
        self.wait(|seen| seen.durable.get(&partition(ordinal)).filter(|report| report.end == Lsn(end)).copied())
    }
}

pub fn open(dir: &Path, options: LogOptions) -> (NodeLog, Recovered, Reports) {
    let reports = Reports::default();
    let (log, recovered) = NodeLog::open(dir, options, reports.sink()).unwrap();
    (log, recovered, reports)
}

pub fn open_on(dir: &Path, options: LogOptions, disk: Box<dyn Disk>) -> (NodeLog, Recovered, Reports) {
    let reports = Reports::default();
    let (log, recovered) = NodeLog::open_on(dir, options, disk, reports.sink()).unwrap();
    (log, recovered, reports)
}

/// Appends, and waits for room as often as it takes.
pub fn append(log: &NodeLog, entries: &[(PartitionId, Entry)]) {
    loop {
        match log.append(entries, Flush::Now) {
            Ok(()) => return,
            Err(AppendError::Busy { .. }) => log.wait_room(),
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn append_records(log: &NodeLog, ordinal: i32, records: impl IntoIterator<Item = Record>) {
    for record in records {
        append(log, &[(partition(ordinal), Entry::Record(record))]);
    }
}

/// Records `from..=to` of the log of epoch 1.
pub fn fill(log: &NodeLog, ordinal: i32, from: u64, to: u64, size: usize) {
    append_records(log, ordinal, (from..=to).map(|lsn| record(ordinal, lsn, size)));
}

/// Everything from `from` on, in several reads.
pub fn read_all(log: &NodeLog, ordinal: i32, from: u64) -> Vec<Record> {
    let (mut all, mut next) = (vec![], Lsn(from));
    loop {
        let some = log.read(partition(ordinal), next, 10_000).unwrap();
        let Some(last) = some.last() else { return all };
        next = last.lsn.next();
        all.extend(some);
    }
}
