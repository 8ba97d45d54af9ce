//! `protocol.md` section 1: a reign is promised on disk before anything is acknowledged under it. So no process of a
//! replica ever acknowledges under a reign below one that any process of it has acknowledged before.

use std::collections::BTreeMap;

use types::{PartitionId, Reign};

/// As it is reported.
pub const NAME: &str = "promises_kept";

/// The highest reign that each replica has acknowledged, by node and partition.
#[derive(Debug, Default)]
pub struct Promises(BTreeMap<(usize, PartitionId), Reign>);

impl Promises {
    /// A replica acknowledges to its primary.
    pub fn check(&mut self, node: usize, id: PartitionId, reign: Reign) -> Result<(), String> {
        let highest = self.0.entry((node, id)).or_default();
        if reign < *highest {
            return Err(format!(
                "node {node} acknowledges reign {reign} of {id}, it has acknowledged {highest} before"
            ));
        }
        *highest = reign;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{DatabaseId, Ordinal};

    #[test]
    fn a_lower_reign_is_noticed_and_another_partition_is_another() {
        let id = |ordinal| PartitionId { database: DatabaseId(1), ordinal: Ordinal(ordinal) };
        let mut promises = Promises::default();
        assert_eq!(promises.check(0, id(0), Reign(3)), Ok(()));
        assert_eq!(promises.check(0, id(0), Reign(3)), Ok(()));
        assert_eq!(promises.check(0, id(1), Reign(2)), Ok(()));
        assert_eq!(promises.check(1, id(0), Reign(2)), Ok(()));
        assert!(promises.check(0, id(0), Reign(2)).is_err());
    }
}
