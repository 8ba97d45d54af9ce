//! `protocol.md` section 1: one process acknowledges in an epoch.

use std::collections::BTreeMap;

use types::{Epoch, Ordinal};

/// As it is reported.
pub const NAME: &str = "one_acker_per_epoch";

/// Who acknowledges: node and start of its process, per partition and epoch.
#[derive(Debug, Default)]
pub struct Ackers(BTreeMap<(Ordinal, Epoch), (usize, u64)>);

impl Ackers {
    /// Takes note of an acknowledgement.
    pub fn check(&mut self, ordinal: Ordinal, epoch: Epoch, node: usize, start: u64) -> Result<(), String> {
        let first = *self.0.entry((ordinal, epoch)).or_insert((node, start));
        if first == (node, start) {
            return Ok(());
        }
        Err(format!(
            "{ordinal}: node {node} start {start} acknowledges in {epoch}, node {} start {} did",
            first.0, first.1
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ClusterId;

    #[test]
    fn a_second_process_is_noticed_and_the_next_epoch_is_another() {
        let epoch = |number| Epoch { number, cluster: ClusterId(1), nonce: 7 };
        let mut ackers = Ackers::default();
        assert_eq!(ackers.check(Ordinal(0), epoch(1), 0, 1), Ok(()));
        assert_eq!(ackers.check(Ordinal(0), epoch(1), 0, 1), Ok(()));
        assert!(ackers.check(Ordinal(0), epoch(1), 0, 2).is_err(), "another process of the same node");
        assert!(ackers.check(Ordinal(0), epoch(1), 1, 1).is_err(), "another node");
        assert_eq!(ackers.check(Ordinal(0), epoch(2), 1, 1), Ok(()));
    }
}
