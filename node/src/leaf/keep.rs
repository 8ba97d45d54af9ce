//! How much history a replica keeps: of its log, for followers and rewinds, and of its row versions, for views.
//!
//! Log and versions are kept down to one position: what the log is trimmed to, garbage collection has as its floor. So a
//! rewind that the log allows finds the versions that it needs, and one that the log does not allow is a copy.
//!
//! The log is trimmed to the lowest of
//!
//! - what is in the state's files, for a restart begins there; and a little behind, for followers whose last second of a
//!   log in memory was lost (ASYNC DURABILITY);
//! - what every follower of this primary has on disk; at a secondary, while a replica of the region is away, what was kept
//!   when it went;
//! - what holds nothing above the *pin*, the cut that a region that follows or has parted last reported as durable.
//!
//! `failback_retention` and `failback_retention_bytes` bound what followers and pins hold: the oldest is given up then.
//!
//! **From a cut to a position.** A round notes (R, x): R is the highest time in the log and x a position in it. A commit
//! with a time at or below the cut T is at or below the position L that the mark of T named. If two notes have R at or
//! below T, a record of such a time lies above x of the earlier one, for R has risen since; so that x is below L, and the
//! log is needed above it only. Notes of another history are forgotten.

use std::collections::VecDeque;
use std::time::Duration;

use replication::Instant;
use types::{Epoch, Lineage, Lsn, Timestamp};

/// Behind the state's files: more than an ASYNC DURABILITY log may be behind what it has acknowledged.
const BEHIND: Duration = Duration::from_secs(5);
/// Most notes. Then one is forgotten, so that they stand the closer the younger they are: a few percent of their age apart.
const NOTES_MAX: usize = 512;

/// One position of a log and when it was there.
#[derive(Clone, Copy, Debug)]
struct Note {
    at: Instant,
    received: Timestamp,
    lsn: Lsn,
    epoch: Option<Epoch>,
}

/// Positions of one replica's log by time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    notes: VecDeque<Note>,
}

/// A replica in one round.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Now.
    pub now: Instant,
    /// The highest time in its log.
    pub received: Timestamp,
    /// The lineage of its log.
    pub lineage: &'a Lineage,
    /// In the state.
    pub applied: Lsn,
    /// In the state's files.
    pub flushed: Lsn,
    /// Records at and below this are gone.
    pub trimmed: Lsn,
    /// A primary: what all its followers have on disk.
    pub followed: Option<Lsn>,
    /// A secondary: some replica of the region is not in the set.
    pub away: bool,
    /// The cut above which other regions may need history.
    pub pin: Option<Timestamp>,
    /// How long history is kept for followers.
    pub retention: Duration,
    /// How long old row versions are kept for views that were taken.
    pub views: Duration,
}

/// What may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records at and below this.
    pub trim: Lsn,
    /// Versions that no view at or above this sees.
    pub horizon: Timestamp,
    /// A follower or a region is given up: it needs more than is kept.
    pub given_up: bool,
}

impl Timeline {
    /// Notes where the log is.
    pub fn note(&mut self, facts: &Facts<'_>) {
        self.notes.retain(|note| note.lsn <= facts.applied && facts.lineage.epoch_at(note.lsn) == note.epoch);
        let risen = self.notes.back().is_none_or(|last| last.received < facts.received && last.lsn < facts.applied);
        if !risen || facts.applied == Lsn::ZERO {
            return;
        }
        if self.notes.len() == NOTES_MAX {
            self.thin(facts.now);
        }
        let epoch = facts.lineage.epoch_at(facts.applied);
        self.notes.push_back(Note { at: facts.now, received: facts.received, lsn: facts.applied, epoch });
    }

    /// Forgets the note whose neighbours are closest to each other, for its age. The oldest stays.
    fn thin(&mut self, now: Instant) {
        let gap = |at: &usize| {
            let apart = self.notes[at + 1].at.since(self.notes[at - 1].at);
            apart.as_secs_f64() / now.since(self.notes[*at].at).as_secs_f64().max(1.0)
        };
        let closest = (1..self.notes.len() - 1).min_by(|a, b| gap(a).total_cmp(&gap(b)));
        if let Some(closest) = closest {
            self.notes.remove(closest);
        }
    }

    /// Below this no commit above the cut is, and no region that has the cut on disk ends. `None`: not known.
    fn at_cut(&self, cut: Timestamp) -> Option<Lsn> {
        let after = self.notes.partition_point(|note| note.received <= cut);
        Some(self.notes.get(after.checked_sub(2)?)?.lsn)
    }

    /// Where the log was so long ago. `None`: not known.
    fn before(&self, now: Instant, ago: Duration) -> Option<Lsn> {
        let after = self.notes.partition_point(|note| note.at + ago <= now);
        Some(self.notes.get(after.checked_sub(1)?)?.lsn)
    }

    /// How long ago the first record above a position was written, as far as is known.
    pub fn age_above(&self, lsn: Lsn, now: Instant) -> Duration {
        let after = self.notes.partition_point(|note| note.lsn <= lsn);
        self.notes.get(after).map_or(Duration::ZERO, |note| now.since(note.at))
    }

    /// The highest time of what lies at or below a position, about.
    fn time_at(&self, lsn: Lsn) -> Timestamp {
        let after = self.notes.partition_point(|note| note.lsn <= lsn);
        after.checked_sub(1).and_then(|at| self.notes.get(at)).map_or(Timestamp::ZERO, |note| note.received)
    }

    /// What may go now. `anchor` is what was kept when a replica of the region went away. `newest` tells where the
    /// records begin that the limit in bytes allows.
    pub fn keep(&self, facts: &Facts<'_>, anchor: &mut Option<Lsn>, newest: impl FnOnce() -> Lsn) -> Keep {
        let unknown = facts.trimmed;
        let own = self.before(facts.now, BEHIND).unwrap_or(unknown).min(facts.flushed).max(unknown);
        *anchor = facts.away.then(|| anchor.unwrap_or(unknown));
        let pinned = facts.pin.map(|cut| self.at_cut(cut).unwrap_or(unknown));
        let needs = pinned.into_iter().chain(facts.followed).chain(*anchor);
        let wanted = needs.fold(own, Lsn::min).max(unknown);
        let mut trim = wanted;
        if wanted < own {
            let old = self.before(facts.now, facts.retention).unwrap_or(unknown);
            trim = wanted.max(old.max(newest().prev()).min(own));
        }
        let given_up = trim > wanted;
        let pin = facts.pin.filter(|_| !given_up).unwrap_or(Timestamp::MAX);
        let seen = facts.received.min(pin).min(if given_up { self.time_at(trim) } else { Timestamp::MAX });
        Keep { trim, horizon: earlier(seen, facts.views), given_up }
    }
}

fn earlier(ts: Timestamp, by: Duration) -> Timestamp {
    let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(ts.millis().saturating_sub(millis))
}

#[cfg(test)]
mod tests {
    use types::{ClusterId, LineageEntry, StartKind};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn lineage(starts: &[u64]) -> Lineage {
        let mut lineage = Lineage::new();
        for (number, start) in starts.iter().enumerate() {
            let epoch = Epoch { number: number as u64 + 1, cluster: ClusterId(1), nonce: *start };
            let entry =
                LineageEntry { epoch, start_lsn: Lsn(*start), start_ts: Timestamp(1), kind: StartKind::Failover };
            lineage.push(entry);
        }
        lineage
    }

    fn seconds(number: u64) -> Timestamp {
        Timestamp::from_millis(number * 1000)
    }

    /// A log that grows by ten records a second, all of it in files.
    fn grown(lineage: &Lineage, to: u64) -> (Timeline, Facts<'_>) {
        let mut timeline = Timeline::default();
        let mut facts = Facts {
            now: Instant(0),
            received: Timestamp::ZERO,
            lineage,
            applied: Lsn::ZERO,
            flushed: Lsn::ZERO,
            trimmed: Lsn::ZERO,
            followed: None,
            away: false,
            pin: None,
            retention: HOUR,
            views: Duration::from_secs(10),
        };
        for second in 1..=to {
            let now = Instant(second * 1_000_000_000);
            let lsn = Lsn(second * 10);
            facts = Facts { now, received: seconds(second), applied: lsn, flushed: lsn, ..facts };
            timeline.note(&facts);
        }
        (timeline, facts)
    }

    fn keep(timeline: &Timeline, facts: &Facts<'_>) -> Keep {
        timeline.keep(facts, &mut None, || Lsn(1))
    }

    #[test]
    fn with_no_need_all_but_the_last_seconds_goes() {
        let lineage = lineage(&[1]);
        let (timeline, facts) = grown(&lineage, 100);
        let wanted = Keep { trim: Lsn(950), horizon: seconds(90), given_up: false };
        assert_eq!(keep(&timeline, &facts), wanted);
        let behind = Facts { flushed: Lsn(400), ..facts.clone() };
        assert_eq!(keep(&timeline, &behind).trim, Lsn(400), "what a restart needs stays");
        assert_eq!(keep(&Timeline::default(), &facts).trim, Lsn::ZERO, "who knows nothing yet keeps what there is");
    }

    #[test]
    fn followers_and_pins_hold_it_within_their_limits() {
        let lineage = lineage(&[1]);
        let (timeline, facts) = grown(&lineage, 100);
        let slow = Facts { followed: Some(Lsn(333)), ..facts.clone() };
        assert_eq!(keep(&timeline, &slow), Keep { trim: Lsn(333), horizon: seconds(90), given_up: false });
        let pinned = Facts { pin: Some(seconds(42)), ..facts.clone() };
        assert_eq!(keep(&timeline, &pinned), Keep { trim: Lsn(410), horizon: seconds(32), given_up: false });
        assert_eq!(timeline.age_above(Lsn(410), facts.now), Duration::from_secs(58), "since record 420");
        assert_eq!(timeline.age_above(Lsn(1000), facts.now), Duration::ZERO);
        let late = Facts { retention: Duration::from_secs(20), ..pinned.clone() };
        assert_eq!(keep(&timeline, &late), Keep { trim: Lsn(800), horizon: seconds(70), given_up: true });
        let large = timeline.keep(&pinned, &mut None, || Lsn(601));
        assert_eq!(large, Keep { trim: Lsn(600), horizon: seconds(50), given_up: true });
        let fresh = Facts { pin: Some(Timestamp::ZERO), trimmed: Lsn(7), ..facts.clone() };
        assert_eq!(keep(&timeline, &fresh), Keep { trim: Lsn(7), horizon: Timestamp::ZERO, given_up: false });
    }

    #[test]
    fn a_secondary_keeps_what_there_was_when_another_went_away() {
        let lineage = lineage(&[1]);
        let (timeline, facts) = grown(&lineage, 100);
        let mut anchor = None;
        let away = Facts { away: true, trimmed: Lsn(200), ..facts.clone() };
        assert_eq!(timeline.keep(&away, &mut anchor, || Lsn(1)).trim, Lsn(200));
        let later = Facts { trimmed: Lsn(210), ..away.clone() };
        assert_eq!(timeline.keep(&later, &mut anchor, || Lsn(1)).trim, Lsn(210), "nothing comes back");
        assert_eq!(anchor, Some(Lsn(200)));
        assert_eq!(timeline.keep(&facts, &mut anchor, || Lsn(1)).trim, Lsn(950));
        assert_eq!(anchor, None);
    }

    #[test]
    fn notes_of_another_history_do_not_count() {
        let first = lineage(&[1]);
        let (mut timeline, facts) = grown(&first, 100);
        // It rewound to 500, and another epoch brought it further than it was.
        let other = lineage(&[1, 501]);
        let facts = Facts { lineage: &other, applied: Lsn(2000), flushed: Lsn(2000), ..facts };
        timeline.note(&Facts { received: seconds(101), ..facts.clone() });
        let pinned = Facts { pin: Some(seconds(99)), ..facts };
        assert_eq!(keep(&timeline, &pinned).trim, Lsn(490));
    }

    #[test]
    fn few_notes_cover_a_long_time() {
        let lineage = lineage(&[1]);
        let (timeline, facts) = grown(&lineage, 20_000);
        assert!(timeline.notes.len() <= NOTES_MAX);
        let pinned = Facts { pin: Some(seconds(5_000)), retention: HOUR * 100, ..facts };
        let trim = keep(&timeline, &pinned).trim;
        assert!(trim <= Lsn(50_000) && trim > Lsn(40_000), "{trim}");
    }
}
