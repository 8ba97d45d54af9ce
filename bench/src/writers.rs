//! Writers of the log in a closed loop: each appends a record and appends the next when that one is durable.
//!
//! They are not threads: one thread plays them all and learns from the log's reports whose record is durable, as the
//! partitions of a leaf do.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use storage::log::bytes::Bytes;
use storage::log::types::entry::Entry;
use storage::log::types::{
    Body, ClusterId, DatabaseId, Epoch, Lsn, Ordinal, PartitionId, Record, StartKind, Timestamp, TxnId, Write,
};
use storage::log::{AppendError, DurableReport, Flush, LogOptions, LogStatus, NodeLog, Report};

/// Bytes of a commit of one row beside its value.
const OVERHEAD: usize = 45;
/// Records after which a partition is trimmed, as a checkpoint would.
const TRIM_EVERY: u64 = 4_096;

/// A log with its partitions, as many as the largest measurement needs.
pub struct Bench {
    log: NodeLog,
    reports: Receiver<Report>,
    partitions: Vec<Partition>,
}

struct Partition {
    id: PartitionId,
    next: Lsn,
    trimmed: Lsn,
    /// Records that are not durable, and since when.
    waiting: VecDeque<(Lsn, Instant)>,
}

/// What a number of writers did in a time.
pub struct Measured {
    /// Records that became durable.
    pub count: u64,
    /// In this time.
    pub time: Duration,
    /// Microseconds from the append of each to its report.
    pub latency: Histogram<u64>,
}

impl Bench {
    /// Opens a log for the measurements.
    pub fn new(dir: &Path, uring: bool, partitions: usize) -> anyhow::Result<Bench> {
        let (sender, reports) = channel();
        // Nobody listens any more when the benchmark ends.
        let tell = move |report| drop(sender.send(report));
        let options = LogOptions { uring, spares: 4, ..LogOptions::default() };
        let (log, _) = NodeLog::open(dir, options, tell).context("cannot open the log")?;
        let id = |ordinal| PartitionId { database: DatabaseId(1), ordinal: Ordinal(ordinal as i32) };
        let partition =
            |ordinal| Partition { id: id(ordinal), next: Lsn(1), trimmed: Lsn(1), waiting: VecDeque::new() };
        let mut bench = Bench { log, reports, partitions: (0..partitions).map(partition).collect() };
        bench.log.tidy();
        for partition in 0..partitions {
            let start = Body::EpochStart { start_ts: Timestamp(1), kind: StartKind::Failover };
            bench.append(partition, start)?;
        }
        bench.log.wait_durable()?;
        bench.drain()?;
        Ok(bench)
    }

    /// The log's own account.
    pub fn status(&self) -> LogStatus {
        self.log.status()
    }

    /// Lets `writers` write records whose payload has `bytes` bytes to the first `partitions`, for this long.
    pub fn run(&mut self, writers: usize, partitions: usize, bytes: usize, time: Duration) -> anyhow::Result<Measured> {
        let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3).context("histogram")?;
        let value = value(bytes);
        let (start, mut count) = (Instant::now(), 0);
        for writer in 0..writers {
            self.append(writer % partitions, commit(&value))?;
        }
        while start.elapsed() < time {
            for (partition, durable) in self.wait()? {
                for since in durable {
                    latency.saturating_record(since.elapsed().as_micros() as u64);
                    count += 1;
                    self.append(partition, commit(&value))?;
                }
            }
        }
        let time = start.elapsed();
        self.drain()?;
        Ok(Measured { count, time, latency })
    }

    fn append(&mut self, partition: usize, body: Body) -> anyhow::Result<()> {
        let partition = &mut self.partitions[partition];
        let epoch = Epoch { number: 1, cluster: ClusterId(1), nonce: 1 };
        let record = Record { epoch, lsn: partition.next, body };
        let mut entries = vec![(partition.id, Entry::Record(record))];
        let oldest = partition.waiting.front().map_or(partition.next, |(lsn, _)| *lsn);
        if oldest.0 > partition.trimmed.0 + TRIM_EVERY {
            partition.trimmed = oldest;
            entries.push((partition.id, Entry::Trim { below: oldest }));
        }
        let since = Instant::now();
        loop {
            match self.log.append(&entries, Flush::Now) {
                Ok(()) => break,
                Err(AppendError::Busy { .. }) => self.log.wait_room(),
                Err(error) => return Err(error).context("cannot append"),
            }
        }
        partition.waiting.push_back((partition.next, since));
        partition.next = partition.next.next();
        Ok(())
    }

    /// Waits for a report; gives per partition since when the records waited that are durable now.
    fn wait(&mut self) -> anyhow::Result<Vec<(usize, Vec<Instant>)>> {
        match self.reports.recv().context("the log has ended")? {
            Report::Written(_) => Ok(vec![]),
            Report::Durable(list) => Ok(list.iter().map(|report| self.durable(report)).collect()),
            Report::Failed(error) => bail!("the log has failed: {error}"),
        }
    }

    fn durable(&mut self, report: &DurableReport) -> (usize, Vec<Instant>) {
        let index = report.partition.ordinal.0 as usize;
        let waiting = &mut self.partitions[index].waiting;
        let mut durable = vec![];
        while let Some((_, since)) = waiting.pop_front_if(|(lsn, _)| *lsn <= report.end) {
            durable.push(since);
        }
        (index, durable)
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        while self.partitions.iter().any(|partition| !partition.waiting.is_empty()) {
            self.wait()?;
        }
        Ok(())
    }
}

/// A row's value is made once: making it is no work of the log.
fn value(bytes: usize) -> Bytes {
    vec![0x5a; bytes - OVERHEAD].into()
}

fn commit(value: &Bytes) -> Body {
    let writes = vec![Write { key: b"row-0001".as_slice().into(), value: Some(value.clone()) }];
    Body::Commit { txn: TxnId(1), ts: Timestamp(1), writes }
}
