//! The node log: one log per leaf for the records and notes of all its partitions.
//!
//! ```text
//! append ─► queue ─► writer ─► batch: write, sync ─► report: written, durable      (one sync for all partitions)
//!                      │
//!                 segments, oldest first ◄── housekeeper: spares, freeing, moving forward
//!                      │
//!                    read (partition, LSN)
//! ```
//!
//! Invariants:
//! - An entry is reported durable only after a sync that began when its write had ended, and after everything
//!   appended before it.
//! - What a partition's log is, follows from its entries in their order (`types::entry::Summary`). A record counts if
//!   the lineage has its epoch at its LSN; its place in a file decides nothing.
//! - What was taken can be placed: a segment behind the open one is there before data is taken.
//! - A write or sync that failed ends the log; nothing is tried again.
//!
//! Each segment begins with a summary of every partition, so that a start reads the last segments only and older ones
//! hold nothing but records. Bytes and rules of recovery are in `types::segment`.

use std::fs::File;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use types::entry::{Entry, Summary};
use types::{Lsn, PartitionId, Record};

pub mod disk;
mod error;
mod held;
mod housekeeper;
mod mark_file;
mod options;
mod reader;
mod recovery;
mod segment_file;
mod segments;
mod shared;
mod sync_times;
mod threads;
mod uring;
mod writer;

pub use error::{AppendError, LogError, ReadError};
pub use options::{LogOptions, Planted};
pub use recovery::Recovered;
pub use shared::Counts;
pub use threads::ThreadDisk;
pub use uring::UringDisk;

/// What entries are made of, for those who see the log alone.
pub use {bytes, types};

use disk::Disk;
use housekeeper::Housekeeper;
use shared::Shared;
use writer::Writer;

/// How long an entry may wait before it is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flush {
    /// It is written at once and synced within `flush_interval`, or with the next entry that must not wait.
    Soon,
    /// It is synced at once.
    Now,
}

/// How far a partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableReport {
    /// Which partition.
    pub partition: PartitionId,
    /// Its last record.
    pub end: Lsn,
    /// Its `Mark` and `Promise` entries so far, counted from the opening of the log.
    pub notes: u64,
    /// Its other notes so far: `Cut`, `Trim`, `Intent`, `IntentCleared`, `Installed`, `Drop`.
    pub others: u64,
}

/// What the log tells its owner, from the writer's thread: the receiver must not block.
#[derive(Clone, Debug)]
pub enum Report {
    /// The operating system has everything up to here: the end of this process loses nothing of it.
    Written(Vec<DurableReport>),
    /// Everything up to here is on disk.
    Durable(Vec<DurableReport>),
    /// A write or sync failed. Nothing more is taken, and what was not reported durable may be lost: the process must
    /// end.
    Failed(LogError),
}

/// The log as it is now.
#[derive(Clone, Debug)]
pub struct LogStatus {
    /// How it writes: `io_uring`, or what it fell back to.
    pub disk: &'static str,
    /// Why it fell back, if it did.
    pub fallback: Option<String>,
    /// Segments in use.
    pub segments: usize,
    /// Segments ready to be used.
    pub spares: usize,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Bytes of entries that wait for the disk.
    pub in_flight_bytes: usize,
    /// Bytes of the summaries of all partitions.
    pub directory_bytes: usize,
    /// Why no further segment can be had, if so: data is refused when the spares run out.
    pub full: Option<String>,
    /// Why the log has ended, if so.
    pub failed: Option<LogError>,
    /// What it has done.
    pub counts: Counts,
    /// 99 of the last hundred syncs took no longer.
    pub sync_p99: Option<Duration>,
}

/// A leaf's log. Dropping it writes and syncs what was appended.
pub struct NodeLog {
    shared: Arc<Shared>,
    disk: &'static str,
    fallback: Option<String>,
    threads: Vec<JoinHandle<()>>,
    /// Locked for as long as the log is open.
    _lock: File,
}

impl NodeLog {
    /// Opens the log in `dir`, or makes one. `report` is called by the writer's thread and must not block.
    pub fn open(
        dir: &Path,
        options: LogOptions,
        report: impl FnMut(Report) + Send + 'static,
    ) -> Result<(NodeLog, Recovered), LogError> {
        let (disk, fallback) = choose_disk(&options).map_err(LogError::io("start the disk threads of", dir))?;
        let (mut log, recovered) = NodeLog::open_on(dir, options, disk, report)?;
        log.fallback = fallback;
        Ok((log, recovered))
    }

    /// Opens the log with a disk of the caller's choice: tests put faults into one.
    pub fn open_on(
        dir: &Path,
        options: LogOptions,
        disk: Box<dyn Disk>,
        report: impl FnMut(Report) + Send + 'static,
    ) -> Result<(NodeLog, Recovered), LogError> {
        options.validate()?;
        let lock = lock(dir)?;
        let opened = recovery::recover(dir, &options)?;
        for finding in &opened.recovered.findings {
            tracing::error!(finding, "node log");
        }
        let name = disk.name();
        let shared = Arc::new(Shared::new(options, opened.log, opened.inner, disk.waker()));
        let writer = Writer::new(shared.clone(), disk, Box::new(report), opened.start);
        let housekeeper = Housekeeper::new(shared.clone(), dir.to_path_buf(), opened.mark, opened.next_id);
        let mut log = NodeLog { shared: shared.clone(), disk: name, fallback: None, threads: vec![], _lock: lock };
        log.spawn("log-writer", dir, move || writer.run())?;
        log.spawn("log-keeper", dir, move || housekeeper.run())?;
        for partition in opened.poisoned {
            shared.poison(partition);
        }
        Ok((log, opened.recovered))
    }

    fn spawn(&mut self, name: &str, dir: &Path, run: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
        let guard = PanicGuard { shared: self.shared.clone(), dir: dir.to_path_buf() };
        let run = move || {
            let guard = guard;
            run();
            drop(guard);
        };
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        self.threads.push(thread.map_err(LogError::io("start a thread of", dir))?);
        Ok(())
    }

    /// Appends entries in this order: all of them or, with an error, none. Never waits for the disk.
    ///
    /// Panics if an entry does not continue its partition's log (`EntryError`): the caller keeps the order.
    pub fn append(&self, entries: &[(PartitionId, Entry)], flush: Flush) -> Result<(), AppendError> {
        self.shared.append(entries, flush).map(drop)
    }

    /// Tells the log that a partition's records below `below` are not needed any more; the state on disk has them.
    pub fn trim(&self, partition: PartitionId, below: Lsn) -> Result<(), AppendError> {
        self.append(&[(partition, Entry::Trim { below })], Flush::Soon)
    }

    /// Something of the partition is wrong, in the log or in the state that was made from it: nothing more of it is
    /// believed until it is installed anew or dropped.
    pub fn poison(&self, partition: PartitionId) {
        self.shared.poison(partition);
    }

    /// Completes when an append that was `Busy` should be tried again.
    pub async fn room(&self) {
        poll_fn(|context| {
            let mut inner = self.shared.inner.lock();
            if inner.is_roomy(&self.shared.options) {
                return Poll::Ready(());
            }
            if !inner.room.iter().any(|known| known.will_wake(context.waker())) {
                inner.room.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits, on this thread, until an append that was `Busy` should be tried again.
    pub fn wait_room(&self) {
        let mut inner = self.shared.inner.lock();
        while !inner.is_roomy(&self.shared.options) {
            self.shared.progress.wait(&mut inner);
        }
    }

    /// Has everything appended so far synced, and waits for it on this thread.
    pub fn wait_durable(&self) -> Result<(), LogError> {
        let ticket = self.shared.inner.lock().counts.appended;
        self.shared.wait_durable(ticket)
    }

    /// Has everything appended so far synced, without waiting: the report tells.
    pub fn sync(&self) {
        let mut inner = self.shared.inner.lock();
        inner.sync_to = inner.counts.appended;
        drop(inner);
        self.shared.wake_always();
    }

    /// Records of a partition in order, from `from` on: at least one if there is one, and no more once they take
    /// `bytes_max`. Shows what was appended, durable or not. Waits for the disk.
    pub fn read(&self, partition: PartitionId, from: Lsn, bytes_max: usize) -> Result<Vec<Record>, ReadError> {
        reader::read(&self.shared, partition, from, bytes_max)
    }

    /// What the entries of a partition amount to, as of the last append.
    pub fn summary(&self, partition: PartitionId) -> Option<Summary> {
        self.shared.inner.lock().partitions.get(&partition).map(|found| found.summary.clone())
    }

    /// Frees, moves and supplies now, and waits for it on this thread. The log does so by itself once a second.
    pub fn tidy(&self) {
        let mut inner = self.shared.inner.lock();
        let round = inner.rounds.0 + 1;
        while inner.rounds.1 < round && inner.failed.is_none() && !inner.closing {
            inner.poked = true;
            self.shared.poke.notify_all();
            self.shared.progress.wait(&mut inner);
        }
    }

    /// What `status` counts, without the rest of it; `None` while entries wait for room on a full disk.
    pub fn counts(&self) -> Option<Counts> {
        let inner = self.shared.inner.lock();
        inner.full.is_none().then_some(inner.counts)
    }

    /// The log as it is now.
    pub fn status(&self) -> LogStatus {
        let inner = self.shared.inner.lock();
        let segments = inner.segments.iter().map(|segment| segment.file.size).sum::<u64>();
        LogStatus {
            disk: self.disk,
            fallback: self.fallback.clone(),
            segments: inner.segments.len(),
            spares: inner.spares.len(),
            bytes: segments + inner.spares.iter().map(|file| file.size).sum::<u64>(),
            in_flight_bytes: inner.in_flight,
            directory_bytes: inner.directory_bytes,
            full: inner.full.clone(),
            failed: inner.failed.clone(),
            counts: inner.counts,
            sync_p99: inner.sync_times.p99(),
        }
    }

    /// Writes and syncs what was appended, and ends.
    pub fn close(mut self) -> Result<(), LogError> {
        self.end();
        match self.shared.inner.lock().failed.clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn end(&mut self) {
        let mut inner = self.shared.inner.lock();
        inner.closing = true;
        inner.room.drain(..).for_each(std::task::Waker::wake);
        drop(inner);
        self.shared.wake_always();
        self.shared.poke.notify_all();
        self.shared.progress.notify_all();
        for thread in self.threads.drain(..) {
            // A panic in it has been printed, and the guard has noted it.
            let _ = thread.join();
        }
    }
}

impl Drop for NodeLog {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends the log if one of its threads panics: nobody may wait for it for ever.
struct PanicGuard {
    shared: Arc<Shared>,
    dir: PathBuf,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = LogError::io("keep", &self.dir)(std::io::Error::other("a thread of the log panicked"));
            let mut inner = self.shared.inner.lock();
            inner.failed.get_or_insert(error);
            inner.room.drain(..).for_each(std::task::Waker::wake);
            drop(inner);
            self.shared.progress.notify_all();
            self.shared.poke.notify_all();
        }
    }
}

fn lock(dir: &Path) -> Result<File, LogError> {
    std::fs::create_dir_all(dir).map_err(LogError::io("make", dir))?;
    let path = dir.join("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(LogError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(LogError::InUse { path: dir.to_path_buf() }),
        Err(std::fs::TryLockError::Error(error)) => Err(LogError::io("lock", &path)(error)),
    }
}

fn choose_disk(options: &LogOptions) -> std::io::Result<(Box<dyn Disk>, Option<String>)> {
    let refused = match options.uring.then(UringDisk::new) {
        Some(Ok(disk)) => return Ok((Box::new(disk), None)),
        Some(Err(error)) => format!("the kernel refuses io_uring: {error}"),
        None => "io_uring is switched off".to_string(),
    };
    tracing::warn!(why = refused, "the node log writes with pwrite and fdatasync");
    Ok((Box::new(ThreadDisk::new()?), Some(refused)))
}
