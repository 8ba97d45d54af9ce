//! What a node log is told when it is opened.

use std::time::Duration;

use types::segment::BLOCK;

use super::LogError;

/// How a node log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of a segment in bytes, a multiple of 4096, 128 KiB or more. Half of it is the largest entry.
    pub segment_bytes: u64,
    /// Most bytes that all segments may take; `None` for what the disk has.
    pub bytes_max: Option<u64>,
    /// Segments kept ready, two or more; the last one is for bookkeeping on a full disk.
    pub spares: usize,
    /// Bytes of entries that may wait for the disk before `append` says `Busy`; a quarter of a segment at most.
    pub in_flight_bytes_max: usize,
    /// Batches that may be on their way to the disk at the same time.
    pub batches_in_flight_max: usize,
    /// Entries appended with `Flush::Soon` are on disk after this time at the latest; up to one second.
    pub flush_interval: Duration,
    /// Use io_uring where the kernel allows it.
    pub uring: bool,
    /// Read every sealed segment when the log is opened, not only the last ones.
    pub verify: bool,
    /// A planted bug, for tests of the tests alone.
    pub planted: Option<Planted>,
}

/// A rule of `docs/protocol.md`, §15, left out on purpose: random histories of the log must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A record's place decides whether it is part of the log: the last one written under an LSN, of whatever epoch.
    PlaceDecides,
    /// A segment goes before what makes it needless is on disk: a copy of its records further on, a trim, a cut.
    FreedUnsynced,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 64 << 20,
            bytes_max: None,
            spares: 2,
            in_flight_bytes_max: 16 << 20,
            batches_in_flight_max: 2,
            flush_interval: Duration::from_millis(200),
            uring: true,
            verify: false,
            planted: None,
        }
    }
}

impl LogOptions {
    /// Smallest segment.
    pub const SEGMENT_BYTES_MIN: u64 = 128 << 10;
    /// Largest segment: offsets in an index are blocks in 32 bits, lengths of batches are 32 bits.
    pub const SEGMENT_BYTES_MAX: u64 = 2 << 30;

    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), LogError> {
        let size = self.segment_bytes;
        let sane = size.is_multiple_of(BLOCK) && (Self::SEGMENT_BYTES_MIN..=Self::SEGMENT_BYTES_MAX).contains(&size);
        let refuse = |text: String| Err(LogError::Options(text));
        if !sane {
            return refuse(format!("segment_bytes = {size} must be a multiple of 4096 from 128 KiB to 2 GiB"));
        }
        if self.bytes_max.is_some_and(|max| max < (self.spares as u64 + 2) * size) {
            return refuse(format!("bytes_max must be at least {} segments of {size} bytes", self.spares + 2));
        }
        if self.spares < 2 || self.batches_in_flight_max == 0 {
            return refuse("spares must be 2 or more, batches_in_flight_max 1 or more".into());
        }
        if self.flush_interval.is_zero() || self.flush_interval > Duration::from_secs(1) {
            return refuse(format!(
                "flush_interval = {:?} must be above zero and up to one second",
                self.flush_interval
            ));
        }
        Ok(())
    }

    /// The largest payload of an entry.
    pub fn entry_bytes_max(&self) -> usize {
        (self.segment_bytes / 2 - 2 * BLOCK) as usize
    }

    /// Bytes at which a batch is closed.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        (2usize << 20).min(self.segment_bytes as usize / 4)
    }

    /// Most bytes in flight: what is admitted must fit where there is room when the disk turns out to be full.
    pub(crate) fn in_flight_limit(&self) -> usize {
        self.in_flight_bytes_max.min(self.segment_bytes as usize / 4)
    }

    /// Bytes of records moved at once.
    pub(crate) fn move_bytes(&self) -> usize {
        (256usize << 10).min(self.segment_bytes as usize / 16)
    }

    /// Most bytes of all summaries.
    pub(crate) fn directory_bytes_max(&self) -> usize {
        self.segment_bytes as usize / 4
    }
}
