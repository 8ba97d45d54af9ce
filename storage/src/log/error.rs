//! What can go wrong with a node log, by whom it concerns.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use types::segment::HeaderError;
use types::{Lsn, PartitionId};

/// The log cannot be opened, or cannot be written any more.
#[derive(Clone, Debug, Error)]
pub enum LogError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// Doing what.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Its answer.
        source: Arc<io::Error>,
    },
    /// Another process has the log open.
    #[error("{} is in use by another process: a log has one writer", path.display())]
    InUse {
        /// The log's folder.
        path: PathBuf,
    },
    /// A segment of another version, or of another size than configured.
    #[error("{}: {source}", path.display())]
    Header {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// Options that cannot work.
    #[error("log options: {0}")]
    Options(String),
}

impl LogError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        move |source| LogError::Io { what, path: path.to_path_buf(), source: Arc::new(source) }
    }
}

/// Entries were not taken, none of them.
#[derive(Clone, Debug, Error)]
pub enum AppendError {
    /// Too much is in flight: await `room` and try again.
    #[error("{in_flight} bytes of the log are in flight; the limit is {limit}")]
    Busy {
        /// Bytes that wait for the disk.
        in_flight: usize,
        /// The limit.
        limit: usize,
    },
    /// The disk, or the log's share of it, is full; bookkeeping that frees space is still taken.
    #[error("the log is full at {bytes} bytes ({why}): trim it, raise its limit or make room on the disk")]
    Full {
        /// What the log's files take.
        bytes: u64,
        /// Why no segment can be added.
        why: String,
    },
    /// An entry, or what was handed in at once, is larger than a log of this segment size can hold.
    #[error("{bytes} bytes of entries at once; at most {limit} fit: split them or use larger segments")]
    TooLarge {
        /// Of it.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The summaries of all partitions must fit a quarter of a segment.
    #[error("the log's directory has {bytes} bytes, its limit is {limit}: use larger segments or fewer partitions")]
    Crowded {
        /// Bytes of all summaries.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Something of the partition could not be read: install it anew or drop it.
    #[error("partition {0} is damaged in the log: repair it from another replica")]
    Damaged(PartitionId),
    /// A write or sync failed: nothing more is taken.
    #[error("the log has failed: {0}")]
    Failed(LogError),
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

/// Records cannot be read.
#[derive(Clone, Debug, Error)]
pub enum ReadError {
    /// They are gone.
    #[error("partition {partition}: the log starts at {first}")]
    Trimmed {
        /// Which partition.
        partition: PartitionId,
        /// The first record there is.
        first: Lsn,
    },
    /// The log holds nothing of it.
    #[error("partition {0} is not in the log")]
    Unknown(PartitionId),
    /// Something of the partition could not be read.
    #[error("partition {0} is damaged in the log: repair it from another replica")]
    Damaged(PartitionId),
    /// The operating system refused.
    #[error(transparent)]
    Log(#[from] LogError),
}
