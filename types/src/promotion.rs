//! The promotions of a database's history, and what a resolved-timestamp mark is worth after one.
//!
//! Every sink that was made writable left a promotion `(id, cut)`. Two copies of a database share a prefix of
//! their lists. A mark published under one list says nothing about commits above the lowest cut among the
//! promotions that only one side has: those commits may be dead on the other side.

use serde::{Deserialize, Serialize};

use crate::{Lsn, PromotionId, Timestamp};

/// One sink became writable: what was committed above `cut` and known before is not part of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Promotion {
    /// Which promotion.
    pub id: PromotionId,
    /// Everything at or below this is in.
    pub cut: Timestamp,
}

/// Whether a promotion is one of these, at whatever cut: a log that had not carried out those before it carries it out at the
/// lowest of theirs.
pub fn is_named(id: PromotionId, promotions: &[Promotion]) -> bool {
    promotions.iter().any(|known| known.id == id)
}

/// The lowest cut among the promotions that only one of two lists has, `None` if the lists are equal.
pub fn parting_cut(mine: &[Promotion], theirs: &[Promotion]) -> Option<Timestamp> {
    let shared = mine.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    mine[shared..].iter().chain(&theirs[shared..]).map(|promotion| promotion.cut).min()
}

/// Every commit at or below `ts` is in the log at or below `lsn`, in the history that `promotions` name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The promotions of the history in which the mark was published.
    pub promotions: Vec<Promotion>,
    /// The resolved timestamp.
    pub ts: Timestamp,
    /// Where in the log.
    pub lsn: Lsn,
}

impl Mark {
    /// What the mark is worth in the history that `promotions` name: its time falls to the cut where the two part.
    pub fn lowered_to(&self, promotions: &[Promotion]) -> Mark {
        let limit = parting_cut(&self.promotions, promotions).unwrap_or(Timestamp::MAX);
        Mark { promotions: promotions.to_vec(), ts: self.ts.min(limit), lsn: self.lsn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promotion(id: u128, cut: u64) -> Promotion {
        Promotion { id: PromotionId(id), cut: Timestamp(cut) }
    }

    #[test]
    fn equal_lists_have_no_parting_cut() {
        let list = [promotion(1, 10), promotion(2, 20)];
        assert_eq!(parting_cut(&list, &list), None);
    }

    #[test]
    fn the_lowest_cut_of_either_side_counts() {
        let common = promotion(1, 10);
        assert_eq!(
            parting_cut(&[common, promotion(2, 90)], &[common, promotion(3, 40), promotion(4, 50)]),
            Some(Timestamp(40))
        );
    }

    #[test]
    fn a_mark_falls_to_the_cut_of_a_promotion_it_does_not_know() {
        let mark = Mark { promotions: vec![], ts: Timestamp(120), lsn: Lsn(7) };
        assert_eq!(mark.lowered_to(&[promotion(1, 100)]).ts, Timestamp(100));
        assert_eq!(mark.lowered_to(&[]).ts, Timestamp(120));
    }
}
