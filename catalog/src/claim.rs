//! Claims: who took the right to write, and from which history.
//!
//! `STOP REPLICATING` claims a database. A region that learns of a claim which goes on from its own history fences
//! itself before it serves a write: somebody has taken the database over while it was away. Two claims that go on
//! from one history are a fork; the region shows both and chooses none.

use serde::{Deserialize, Serialize};
use types::{ClusterId, Promotion};

use crate::event::UnixMillis;

/// A database was promoted somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// By this promotion.
    pub promotion: Promotion,
    /// The promotions before it.
    pub parent: Vec<Promotion>,
    /// By whom.
    pub cluster: ClusterId,
    /// Where the claimant is reached.
    pub address: String,
    /// The database's name there.
    pub database: String,
    /// When, on its clock.
    pub at: UnixMillis,
}

impl Claim {
    /// Whether it goes on from the history of `promotions`, so that whoever is there has been superseded.
    pub fn supersedes(&self, promotions: &[Promotion]) -> bool {
        self.parent.starts_with(promotions) && !promotions.contains(&self.promotion)
    }
}

#[cfg(test)]
mod tests {
    use types::{PromotionId, Timestamp};

    use super::*;

    fn promotion(id: u128) -> Promotion {
        Promotion { id: PromotionId(id), cut: Timestamp(id as u64) }
    }

    fn claim(parent: &[u128], id: u128) -> Claim {
        Claim {
            promotion: promotion(id),
            parent: parent.iter().map(|id| promotion(*id)).collect(),
            cluster: ClusterId(1),
            address: "west:3306".into(),
            database: "db".into(),
            at: UnixMillis(0),
        }
    }

    #[test]
    fn a_claim_supersedes_its_ancestors_and_nobody_else() {
        assert!(claim(&[], 1).supersedes(&[]));
        assert!(claim(&[1], 2).supersedes(&[]), "through a cascade");
        assert!(claim(&[1], 2).supersedes(&[promotion(1)]));
        assert!(!claim(&[], 1).supersedes(&[promotion(1)]), "history");
        assert!(!claim(&[], 2).supersedes(&[promotion(1)]), "a fork of the same parent");
    }
}
