//! The epochs a log consists of, and the one comparison of two of them.
//!
//! Within an epoch exactly one process appends, so `(epoch, LSN)` names one record for ever. Two lineages
//! that share entries agree on every record up to the smaller of their ends of the last shared entry.
//! Invariant: epoch numbers and start positions rise strictly.

use serde::{Deserialize, Serialize};

use crate::{Epoch, LogEnd, Lsn, Mark, Promotion, PromotionId, Timestamp, is_named};

/// Why an epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartKind {
    /// A new primary in the same region: nothing is declared dead.
    Failover,
    /// A sink became writable at `cut`: commits below it in the log and above `cut` are dead.
    Promotion {
        /// Which promotion.
        id: PromotionId,
        /// Everything committed at or below this time is in.
        cut: Timestamp,
    },
}

impl StartKind {
    /// The promotion that it carries out.
    pub fn promotion(self) -> Option<Promotion> {
        match self {
            StartKind::Failover => None,
            StartKind::Promotion { id, cut } => Some(Promotion { id, cut }),
        }
    }
}

/// What one `EpochStart` record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineageEntry {
    /// The epoch that begins.
    pub epoch: Epoch,
    /// Position of the `EpochStart` record itself.
    pub start_lsn: Lsn,
    /// Above every timestamp received before.
    pub start_ts: Timestamp,
    /// Promotion or failover.
    pub kind: StartKind,
}

/// The entries of one log, oldest first; kept whole when the log is trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    entries: Vec<LineageEntry>,
}

impl Lineage {
    /// The lineage of an empty log.
    pub fn new() -> Lineage {
        Lineage::default()
    }

    /// Oldest first.
    pub fn entries(&self) -> &[LineageEntry] {
        &self.entries
    }

    /// The epoch that is written now.
    pub fn last(&self) -> Option<&LineageEntry> {
        self.entries.last()
    }

    /// Adds the entry of an `EpochStart` that was appended. Panics unless number and start rise.
    pub fn push(&mut self, entry: LineageEntry) {
        if let Some(last) = self.last() {
            assert!(entry.epoch.number > last.epoch.number, "epoch {} after {}", entry.epoch, last.epoch);
            assert!(
                entry.start_lsn > last.start_lsn,
                "epoch starts at {} after one at {}",
                entry.start_lsn,
                last.start_lsn
            );
        }
        self.entries.push(entry);
    }

    /// Forgets the epochs that start above `end`: the log was cut there.
    pub fn cut(&mut self, end: Lsn) {
        self.entries.retain(|entry| entry.start_lsn <= end);
    }

    /// The epoch of the record at `lsn`, were the log that long.
    pub fn epoch_at(&self, lsn: Lsn) -> Option<Epoch> {
        self.entries.iter().rev().find(|entry| entry.start_lsn <= lsn).map(|entry| entry.epoch)
    }

    /// Whether a commit at `ts`, recorded at `lsn`, was declared dead by a later promotion.
    pub fn is_dead(&self, ts: Timestamp, lsn: Lsn) -> bool {
        self.entries.iter().any(|entry| match entry.kind {
            StartKind::Failover => false,
            StartKind::Promotion { cut, .. } => cut < ts && ts < entry.start_ts && lsn < entry.start_lsn,
        })
    }

    /// The mark that the last promotion of a history is, among those that this log has carried out: every commit at or
    /// below its cut is in the log before its `EpochStart`. A promotion of another history that the log has carried out,
    /// too, and has not dropped yet, has declared dead what lies above its own cut.
    pub fn promoted(&self, promotions: &[Promotion]) -> Option<Mark> {
        let own = || self.entries.iter().filter_map(|entry| Some((entry.kind.promotion()?, entry.start_lsn)));
        let foreign = own().filter(|(known, _)| !is_named(known.id, promotions)).map(|(other, _)| other.cut).min();
        promotions.iter().enumerate().rev().find_map(|(index, promotion)| {
            let (known, start) = own().find(|(known, _)| known.id == promotion.id)?;
            let ts = known.cut.min(foreign.unwrap_or(Timestamp::MAX));
            let mark = Mark { promotions: promotions[..=index].to_vec(), ts, lsn: start.prev() };
            Some(mark.lowered_to(promotions))
        })
    }

    /// The lowest cut of the promotions that this log has carried out after the last one of a history, and that the history
    /// does not name: rows above it are dead in the state of this log, until it is rewound.
    pub fn parted_at(&self, promotions: &[Promotion]) -> Option<Timestamp> {
        let latest = self.entries.iter().rev().filter_map(|entry| entry.kind.promotion());
        latest.take_while(|known| !is_named(known.id, promotions)).map(|other| other.cut).min()
    }

    /// Whether two logs that share nothing above `common` part at a promotion, so that a mark of this time counts on nothing
    /// above. If this log was promoted there, what it has above is not below the cut. If the other one was, it had everything at
    /// or below the cut when it was promoted. One that both carry out, at different positions, is no such promotion: one of them
    /// had lost its end before.
    pub fn parts_at(&self, common: Lsn, other: &Lineage, mark: Timestamp) -> bool {
        let above = |lineage: &Lineage| -> Vec<(Lsn, Promotion)> {
            let own = lineage.entries.iter().filter(|entry| entry.start_lsn > common);
            own.filter_map(|entry| Some((entry.start_lsn, entry.kind.promotion()?))).collect()
        };
        let (mine, theirs) = (above(self), above(other));
        let twice = |(_, promotion): &(Lsn, Promotion)| theirs.iter().any(|(_, other)| other.id == promotion.id);
        let begins = |(start, promotion): &(Lsn, Promotion)| *start == common.next() && promotion.cut >= mark;
        !mine.iter().any(twice) && mine.iter().chain(&theirs).any(begins)
    }

    /// What a log of this lineage has still to carry out of a history: the last of its promotions, at the lowest cut of those
    /// behind the last one that it has carried out. What it has above a cut that it has never heard of is dead, too.
    pub fn due(&self, promotions: &[Promotion]) -> Option<Promotion> {
        let own: Vec<Promotion> = self.entries.iter().filter_map(|entry| entry.kind.promotion()).collect();
        let due = || promotions.iter().rev().take_while(|promotion| !is_named(promotion.id, &own));
        Some(Promotion { id: due().next()?.id, cut: due().map(|promotion| promotion.cut).min()? })
    }

    /// Last position of the longest shared prefix of two logs whose last records are `my_end` and `other_end`.
    pub fn common_point(&self, my_end: Lsn, other: &Lineage, other_end: Lsn) -> Lsn {
        let shared = self.entries.iter().zip(&other.entries).take_while(|(a, b)| a == b).count();
        if shared == 0 {
            return Lsn::ZERO;
        }
        self.epoch_end(shared - 1, my_end).min(other.epoch_end(shared - 1, other_end))
    }

    /// Where each epoch of a log that ends at `end` has its last record, oldest first.
    pub fn ends(&self, end: Lsn) -> Vec<LogEnd> {
        let begun = self.entries.iter().enumerate().take_while(|(_, entry)| entry.start_lsn <= end);
        begun
            .map(|(index, entry)| LogEnd { epoch_number: entry.epoch.number, lsn: self.epoch_end(index, end) })
            .collect()
    }

    fn epoch_end(&self, index: usize, end: Lsn) -> Lsn {
        self.entries.get(index + 1).map_or(end, |next| next.start_lsn.prev().min(end))
    }
}
