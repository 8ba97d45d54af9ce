//! The seam between the writer and the machine: writes and syncs are handed in and come back later.
//!
//! Contract: a `Write` with `sync` is written first and synced after; every other operation may overtake. Each
//! operation comes back exactly once, a write with `sync` as `Written` and then as `Synced`. A failed operation is
//! reported and never repeated.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// Names an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u64);

/// Something to do.
#[derive(Debug)]
pub enum Op {
    /// Write all of `data` at `offset`.
    Write {
        /// Its name.
        tag: Tag,
        /// Where.
        file: Arc<File>,
        /// In bytes from the file's start.
        offset: u64,
        /// What.
        data: Bytes,
        /// Sync the file when it is written.
        sync: bool,
    },
    /// Make everything that was written to the file before durable.
    Sync {
        /// Its name.
        tag: Tag,
        /// Which file.
        file: Arc<File>,
    },
}

/// Something that is done.
#[derive(Debug)]
pub enum Done {
    /// The operating system has all the bytes.
    Written {
        /// Of which operation.
        tag: Tag,
        /// Or why not.
        result: io::Result<()>,
    },
    /// They are on disk.
    Synced {
        /// Of which operation.
        tag: Tag,
        /// Or why not.
        result: io::Result<()>,
    },
}

/// Ends a `wait` from another thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Writes and syncs. Owned by one thread.
pub trait Disk: Send {
    /// How it works, for people.
    fn name(&self) -> &'static str;

    /// Begins an operation. Does not wait for the disk.
    fn submit(&mut self, op: Op);

    /// Waits until something is done, the waker was called or the time is up, and appends what is done.
    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()>;

    /// Ends a `wait`: the present one, or else the next.
    fn waker(&self) -> Waker;
}
