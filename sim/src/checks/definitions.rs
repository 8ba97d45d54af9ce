//! Definitions (`docs/protocol.md` section 9): what commits was planned with the definitions that hold at its time, and a
//! reader that begins after a change was acknowledged has planned with it or with a later one.

use types::{Promotion, SchemaVersion, Timestamp, TxnId};

use super::history::holds;
use crate::disk::Name;

/// As it is reported.
pub const NAME: &str = "definitions";

/// A commit, in the term of its epoch.
#[derive(Clone, Debug)]
struct Commit {
    term: Vec<Promotion>,
    ts: Timestamp,
    version: SchemaVersion,
    txn: TxnId,
    name: Name,
}

/// What has committed: changes with what they made, the rest with what it was planned with.
#[derive(Debug, Default)]
pub struct Versions {
    changes: Vec<Commit>,
    planned: Vec<Commit>,
    /// What lost changes had made: who has planned with it does not know of the loss yet.
    lost: Vec<SchemaVersion>,
}

impl Versions {
    /// A change is committed, or something that was planned with a version.
    pub fn commit(
        &mut self,
        change: bool,
        name: Name,
        term: &[Promotion],
        txn: TxnId,
        (ts, version): (Timestamp, SchemaVersion),
    ) -> Result<(), String> {
        // The next reign commits what the one before has committed; what was lost in between makes no difference to it.
        if self.changes.iter().chain(&self.planned).any(|known| known.name == name && known.txn == txn) {
            return Ok(());
        }
        let commit = Commit { term: term.to_vec(), ts, version, txn, name };
        if change {
            self.changes.push(commit.clone());
            let above = |other: &&Commit| other.ts > ts && holds(&other.term, term, ts);
            return self.planned.iter().filter(above).try_for_each(|other| self.judge(other));
        }
        self.judge(&commit)?;
        self.planned.push(commit);
        Ok(())
    }

    /// What is defined in a term at a time.
    fn at(&self, term: &[Promotion], ts: Timestamp) -> SchemaVersion {
        let known = self.changes.iter().filter(|change| change.ts < ts && holds(term, &change.term, change.ts));
        known.max_by_key(|change| change.ts).map_or(SchemaVersion(1), |change| change.version)
    }

    fn judge(&self, commit: &Commit) -> Result<(), String> {
        let defined = self.at(&commit.term, commit.ts);
        if commit.version == defined || self.lost.contains(&commit.version) {
            return Ok(());
        }
        let Commit { txn, ts, version, .. } = commit;
        Err(format!("{txn} was planned with definitions {version}, it commits at {ts}, where {defined} hold"))
    }

    /// What a reader must have planned with at least, if it begins now.
    pub fn newest(&self, term: &[Promotion]) -> Option<SchemaVersion> {
        let known = self.changes.iter().filter(|change| holds(term, &change.term, change.ts));
        known.max_by_key(|change| change.ts).map(|change| change.version)
    }

    /// A loss was announced: changes that the log lacks have never been, nor has what it lacks beside them.
    pub fn forget(&mut self, lost: impl Fn(Name) -> bool) {
        let (gone, kept) = std::mem::take(&mut self.changes).into_iter().partition(|change| lost(change.name));
        self.changes = kept;
        let gone: Vec<Commit> = gone;
        self.lost.extend(gone.into_iter().map(|change| change.version));
    }

    /// The same of what was planned.
    pub fn forget_planned(&mut self, lost: impl Fn(Name) -> bool) {
        self.planned.retain(|commit| !lost(commit.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{ClusterId, Epoch, Lsn};

    #[test]
    fn what_commits_above_a_change_was_planned_with_it() {
        let name = |lsn| (Epoch { number: 1, cluster: ClusterId(1), nonce: 7 }, Lsn(lsn));
        let (old, new) = (SchemaVersion(1), SchemaVersion(9));
        let mut versions = Versions::default();
        let mut commit = |change, lsn, ts, version| {
            versions.commit(change, name(lsn), &[], TxnId(lsn.into()), (Timestamp(ts), version))
        };
        assert_eq!(commit(false, 1, 10, old), Ok(()));
        assert_eq!(commit(true, 2, 20, new), Ok(()));
        assert_eq!(commit(false, 3, 15, old), Ok(()), "below it");
        assert_eq!(commit(false, 4, 30, new), Ok(()));
        assert!(commit(false, 5, 31, old).is_err(), "above it");
        let mut late = Versions::default();
        let mut commit =
            |change, lsn, ts, version| late.commit(change, name(lsn), &[], TxnId(lsn.into()), (Timestamp(ts), version));
        assert_eq!(commit(false, 1, 30, old), Ok(()));
        assert!(commit(true, 2, 20, new).is_err(), "the change is heard of last");
    }
}
