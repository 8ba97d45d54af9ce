//! A disk that hangs, and neither answers nor fails.
//!
//! A leaf whose log has got nothing onto its disk for `slow_timeout`, although something waits, says nothing any more: it
//! sends other leaves no heartbeat, no grant and no frame, and reports nothing to the master. To the others it is a leaf that stands still:
//! primaries take it out of their sets, and others take over what it leads. It takes nobody out of its own sets meanwhile,
//! for it does not listen to those who are to take over. When its disk goes on, so does the leaf. Should the disks of all
//! leaves hang, nobody is left to take over, and all go on as they were.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use replication::Instant;
use storage::log::Counts;

/// What is known of a leaf's disk.
#[derive(Debug)]
pub struct Stall {
    limit: Duration,
    /// How many entries the log had taken, and when, at a moment after which they have not all got onto the disk.
    behind: Mutex<Option<(u64, Instant)>>,
    hangs: AtomicBool,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The disk hangs, from now on.
    Hangs,
    /// It goes on.
    GoesOn,
}

impl Stall {
    /// Of a disk that may take this long.
    pub fn new(limit: Duration) -> Stall {
        Stall { limit, behind: Mutex::default(), hangs: AtomicBool::new(false) }
    }

    /// Looks at the log's counts; `None`: the disk is full, and entries wait for room.
    pub fn look(&self, counts: Option<Counts>, now: Instant) -> Option<Turn> {
        let mut behind = self.behind.lock();
        let has_got_there = |counts: &Counts| behind.is_none_or(|(then, _)| counts.durable >= then);
        if counts.is_none_or(|counts| has_got_there(&counts)) {
            *behind = counts.filter(|counts| counts.durable < counts.appended).map(|counts| (counts.appended, now));
        }
        let hangs = behind.is_some_and(|(_, since)| now.since(since) > self.limit);
        match (self.hangs.swap(hangs, Ordering::AcqRel), hangs) {
            (false, true) => Some(Turn::Hangs),
            (true, false) => Some(Turn::GoesOn),
            _ => None,
        }
    }

    /// Whether it hangs, as was seen last.
    pub fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_hangs_that_does_not_get_there_in_time() {
        let stall = Stall::new(Duration::from_secs(5));
        let look = |appended, durable, full: bool, seconds: u64| {
            let counts = Counts { appended, durable, ..Counts::default() };
            stall.look((!full).then_some(counts), Instant(seconds * 1_000_000_000))
        };
        assert_eq!(look(7, 7, false, 0), None);
        assert_eq!(look(9, 7, false, 10), None, "two entries wait from now on");
        assert_eq!(look(12, 8, false, 15), None);
        assert_eq!(look(12, 8, false, 16), Some(Turn::Hangs));
        assert_eq!(look(12, 8, false, 17), None, "that is known");
        assert!(stall.hangs());
        assert_eq!(look(12, 9, false, 18), Some(Turn::GoesOn), "others may wait, and not for long yet");
        assert_eq!(look(12, 9, false, 23), None);
        assert_eq!(look(12, 9, true, 24), None, "a full disk is another matter");
        assert_eq!(look(12, 9, false, 26), None);
        assert_eq!(look(12, 12, false, 31), None);
        assert_eq!(look(12, 12, false, 99), None, "nothing waits");
    }
}
