//! What the writing client knows of its writes, and what must be true of them in the end.
//!
//! Each write is a row of the table `ledger` with a number that is never used again. The client keeps three lists: what
//! was acknowledged, and by whom; what was refused for certain; and what nobody knows, for the connection broke after the
//! COMMIT was sent. A write that was acknowledged is on both sides in the end, or it was acknowledged by the region that
//! was lost, never arrived in the other one, and stands in the divergence file of the region that came back. There is no
//! third place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::regions::Region;

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Write {
    /// Its row in the ledger.
    pub id: i64,
    /// Who acknowledged it.
    pub region: Region,
    /// When the client heard so.
    pub at: Instant,
}

/// All that the writing client has heard.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Acknowledged, in order.
    pub acknowledged: Vec<Write>,
    /// Refused or rolled back: these must be nowhere.
    pub refused: BTreeSet<i64>,
    /// Sent, and nobody knows.
    pub unknown: BTreeMap<i64, Region>,
    /// How often which error came.
    pub errors: BTreeMap<u16, u64>,
}

impl Ledger {
    /// How many writes a region has acknowledged.
    pub fn count(&self, region: Region) -> usize {
        self.acknowledged.iter().filter(|write| write.region == region).count()
    }

    /// The longest time without an acknowledged write between two moments, and as far beyond them as it lasted.
    pub fn longest_pause(&self, from: Instant, to: Instant) -> Duration {
        let pairs = self.acknowledged.windows(2).filter(|pair| pair[1].at >= from && pair[0].at <= to);
        pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
    }
}

/// Rows of the ledger as a region has them: number and who wrote it.
pub type Rows = BTreeMap<i64, Region>;

/// What came out of the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Acknowledged writes that are on both sides.
    pub kept: usize,
    /// Acknowledged writes that are in the divergence and nowhere else.
    pub set_aside: usize,
    /// What is not as it must be.
    pub findings: Vec<String>,
}

/// Compares what the client knows with what there is. `lost` is the moment at which the first region was killed.
pub fn audit(ledger: &Ledger, lost: Instant, sides: [&Rows; 2], divergence: &BTreeSet<i64>) -> Audit {
    let [east, west] = sides;
    let mut audit = Audit::default();
    let mut missing = Vec::new();
    let mut wrong = Vec::new();
    for write in &ledger.acknowledged {
        let there = [east.get(&write.id), west.get(&write.id)];
        let aside = divergence.contains(&write.id);
        if there == [Some(&write.region); 2] && !aside {
            audit.kept += 1;
        } else if there == [None, None] && aside && write.region == Region::East && write.at <= lost {
            audit.set_aside += 1;
        } else if there == [None, None] && !aside {
            missing.push(write.id);
        } else {
            wrong.push(write.id);
        }
    }
    let known: BTreeSet<i64> = ledger.acknowledged.iter().map(|write| write.id).collect();
    let explained = |id: &i64| known.contains(id) || ledger.unknown.contains_key(id);
    let stray = east.keys().chain(west.keys()).chain(divergence).filter(|id| !explained(id)).copied().collect();
    let half = ledger.unknown.keys().filter(|id| east.contains_key(id) != west.contains_key(id)).copied().collect();
    for (what, ids) in [
        ("acknowledged and neither on both sides nor set aside", missing),
        ("acknowledged and on one side alone, or set aside without being lost", wrong),
        ("never acknowledged, certainly refused, and yet there", stray),
        ("of unknown outcome and on one side alone", half),
    ] {
        audit.findings.extend(finding(what, ids));
    }
    audit
}

/// Tells how many writes something is true of, and the first few.
fn finding(what: &str, ids: Vec<i64>) -> Option<String> {
    let first: Vec<String> = ids.iter().take(5).map(i64::to_string).collect();
    (!ids.is_empty()).then(|| format!("{} writes were {what}: {}", ids.len(), first.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(writes: &[(i64, Region)], begun: Instant) -> Ledger {
        let write = |(at, (id, region)): (usize, &(i64, Region))| Write {
            id: *id,
            region: *region,
            at: begun + Duration::from_millis(10 * at as u64),
        };
        Ledger { acknowledged: writes.iter().enumerate().map(write).collect(), ..Ledger::default() }
    }

    const STORY: [(i64, Region); 4] = [(1, Region::East), (2, Region::East), (4, Region::West), (5, Region::East)];

    #[test]
    fn a_write_is_kept_or_set_aside() {
        let begun = Instant::now();
        let mut ledger = ledger(&STORY, begun);
        ledger.unknown = BTreeMap::from([(3, Region::East), (6, Region::West)]);
        ledger.refused = BTreeSet::from([7]);
        let lost = begun + Duration::from_millis(15);
        let rows = Rows::from([(1, Region::East), (4, Region::West), (5, Region::East), (6, Region::West)]);
        let audit = audit(&ledger, lost, [&rows, &rows], &BTreeSet::from([2, 3]));
        assert_eq!(audit, Audit { kept: 3, set_aside: 1, findings: vec![] });
    }

    #[test]
    fn what_is_not_so_is_found() {
        let begun = Instant::now();
        let lost = begun + Duration::from_millis(15);
        let all = Rows::from([(1, Region::East), (2, Region::East), (4, Region::West), (5, Region::East)]);
        let without =
            |id: i64| all.iter().filter(|(other, _)| **other != id).map(|(id, r)| (*id, *r)).collect::<Rows>();
        let nothing = BTreeSet::new();
        let found = |ledger: &Ledger, sides: [&Rows; 2], divergence: &BTreeSet<i64>| {
            audit(ledger, lost, sides, divergence).findings.len()
        };
        let mut ledger = ledger(&STORY, begun);
        assert_eq!(found(&ledger, [&all, &all], &nothing), 0);
        assert_eq!(found(&ledger, [&without(1), &without(1)], &nothing), 1, "nowhere");
        assert_eq!(found(&ledger, [&all, &without(1)], &nothing), 1, "on one side");
        assert_eq!(found(&ledger, [&all, &all], &BTreeSet::from([1])), 1, "there and set aside");
        assert_eq!(found(&ledger, [&without(5), &without(5)], &BTreeSet::from([5])), 1, "set aside later on");
        assert_eq!(found(&ledger, [&all, &all], &BTreeSet::from([9])), 1, "set aside and never written");
        ledger.unknown.insert(8, Region::West);
        let with = |id: i64| [(id, Region::West)].into_iter().chain(all.clone()).collect::<Rows>();
        assert_eq!(found(&ledger, [&with(8), &all], &nothing), 1, "unknown and on one side");
        ledger.refused.insert(7);
        assert_eq!(found(&ledger, [&with(7), &with(7)], &nothing), 1, "refused and there");
    }

    #[test]
    fn a_pause_is_between_two_acknowledgements() {
        let begun = Instant::now();
        let mut ledger = ledger(&STORY, begun);
        ledger.acknowledged[3].at += Duration::from_secs(2);
        let end = ledger.acknowledged[3].at;
        assert_eq!(ledger.longest_pause(begun, begun), Duration::from_millis(10));
        assert_eq!(ledger.longest_pause(begun, end), Duration::from_millis(2010));
        assert_eq!(Ledger::default().longest_pause(begun, end), Duration::ZERO);
        assert_eq!((ledger.count(Region::East), ledger.count(Region::West)), (3, 1));
    }
}
