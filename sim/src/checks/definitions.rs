//! Definitions (`docs/protocol.md` section 9): what commits was planned with the definitions that hold at its time, and a
//! reader that begins after a change was acknowledged has planned with it or with a later one.
//!
//! A change holds when the primary that the catalog names has committed it, or any primary has acknowledged or shown it. One
//! that was replaced, and has not heard so, may still do that: the next reign's log has the record (`no_fork`).

use catalog::command::Loss;
use types::{Body, Lsn, Ordinal, PartitionId, Promotion, Record, Reign, SchemaVersion, Timestamp, TxnId};

use super::history::holds;
use crate::disk::Name;
use crate::options::Scale;
use crate::world::World;

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
    /// A change that was given up, or never counted, and is in the log that goes on after a loss.
    found: bool,
}

/// What has committed: changes with what they made, the rest with what it was planned with.
#[derive(Debug, Default)]
pub struct Versions {
    changes: Vec<Commit>,
    planned: Vec<Commit>,
    /// What lost changes had made, and what held while one was given up that was found again: who has planned with it does
    /// not know of the loss yet.
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
        let commit = Commit { term: term.to_vec(), ts, version, txn, name, found: false };
        if change {
            self.changes.push(commit.clone());
            let above = |other: &&Commit| other.ts > ts && holds(&other.term, term, ts);
            return self.planned.iter().filter(above).try_for_each(|other| self.judge(other));
        }
        self.judge(&commit)?;
        self.planned.push(commit);
        Ok(())
    }

    /// A change is in the log that goes on after a loss. Whom a standing order has replaced may have committed it unheard, and
    /// been named again. From now on it holds; what was planned without it was right in the history that was lost.
    pub fn find(
        &mut self,
        now: &[Promotion],
        name: Name,
        term: &[Promotion],
        txn: TxnId,
        (ts, version): (Timestamp, SchemaVersion),
    ) {
        let known = self.changes.iter().any(|known| known.name == name && known.txn == txn);
        if known || !holds(now, term, ts) {
            return;
        }
        let held = self.at(now, Timestamp::MAX);
        self.changes.push(Commit { term: term.to_vec(), ts, version, txn, name, found: true });
        if self.at(now, Timestamp::MAX) == version {
            self.lost.retain(|lost| *lost != version);
            self.lost.push(held);
        }
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

    /// What a reader must have planned with at least, if it begins now. What was found was acknowledged to nobody, or lost.
    pub fn newest(&self, term: &[Promotion]) -> Option<SchemaVersion> {
        let known = self.changes.iter().filter(|change| !change.found && holds(term, &change.term, change.ts));
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

impl World {
    /// A decision counts for definitions: the primary that the catalog names has committed it, or a primary has told somebody
    /// of it, whoever the catalog has named meanwhile.
    pub(crate) fn count_definitions(&mut self, id: PartitionId, name: Name, txn: TxnId, ts: Timestamp) {
        if self.definitions_are_short() {
            return;
        }
        let Some(held) = self.clients.txns.get(&txn) else { return };
        let Some(version) = held.change.map(|change| change.version).or(held.planned) else { return };
        let term = self.checks.history.term(id.ordinal, name.0).cloned().unwrap_or_default();
        let judged = self.checks.definitions.commit(held.change.is_some(), name, &term, txn, (ts, version));
        self.judge(NAME, judged);
    }

    /// Whether a log of the meta partition went on after a loss without what its history has below the cut of a promotion: then
    /// other regions know of changes that it has never had.
    pub(crate) fn definitions_are_short(&self) -> bool {
        let short = self.checks.recoveries.short.iter().any(|(ordinal, _)| *ordinal == Ordinal::META);
        short && self.options.scale == Scale::Regions
    }

    /// Whether it leads in the reign that the catalog has.
    pub(crate) fn leads_by_the_catalog(&self, index: usize, id: PartitionId) -> bool {
        let reign = self.nodes[index].replica(id).and_then(|replica| replica.reign_led());
        reign == Some(self.regions[self.nodes[index].region].catalog.partitions[&id].reign)
    }

    /// A reign of the meta partition has committed its start, and with it all changes of definitions that its log holds. Some
    /// were met by no commit point that counts: one that had been replaced in the catalog still committed them, whoever is named
    /// next had heard so, and nobody was told in between. After a loss the log may be that of such a primary, and have what nobody was told of.
    pub(crate) fn find_definitions(&mut self, index: usize, id: PartitionId, start: Lsn) {
        if !self.leads_by_the_catalog(index, id) || self.definitions_are_short() {
            return;
        }
        let region = self.nodes[index].region;
        let announced = |((of, ordinal, _), loss): (&(usize, Ordinal, Reign), &Loss)| {
            (*of, *ordinal) == (region, id.ordinal) && loss.gives_up()
        };
        let lossy = self.checks.announced.iter().any(announced);
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let (now, lineage) = (self.term(region), &hosted.log.summary.lineage);
        let mut judged = Ok(());
        for lsn in (1..start.0).map(Lsn) {
            let record = lineage.epoch_at(lsn).and_then(|epoch| self.checks.names.record(id.ordinal, epoch, lsn));
            let Some(Record { epoch, body: Body::Commit { txn, ts, .. }, .. }) = record else { continue };
            let Some(change) = self.clients.txns.get(&txn).and_then(|held| held.change) else { continue };
            let term = self.checks.history.term(id.ordinal, epoch).cloned().unwrap_or_default();
            let (name, made) = ((epoch, lsn), (ts, change.version));
            if lossy {
                self.checks.definitions.find(&now, name, &term, txn, made);
            } else {
                judged = judged.and(self.checks.definitions.commit(true, name, &term, txn, made));
            }
        }
        self.judge(NAME, judged);
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

    #[test]
    fn a_change_that_is_found_after_a_loss_holds_from_then_on() {
        let name = |lsn| (Epoch { number: 1, cluster: ClusterId(1), nonce: 7 }, Lsn(lsn));
        let (first, old, new) = (SchemaVersion(1), SchemaVersion(8), SchemaVersion(9));
        let mut versions = Versions::default();
        assert_eq!(versions.commit(true, name(1), &[], TxnId(1), (Timestamp(10), old)), Ok(()));
        assert_eq!(versions.commit(false, name(3), &[], TxnId(3), (Timestamp(30), old)), Ok(()));
        versions.find(&[], name(2), &[], TxnId(2), (Timestamp(20), new));
        assert_eq!(versions.newest(&[]), Some(old), "it was acknowledged to nobody");
        assert_eq!(versions.commit(false, name(4), &[], TxnId(4), (Timestamp(40), new)), Ok(()));
        assert_eq!(versions.commit(false, name(5), &[], TxnId(5), (Timestamp(50), old)), Ok(()), "it held until now");
        assert!(versions.commit(false, name(6), &[], TxnId(6), (Timestamp(60), first)).is_err());
    }
}
