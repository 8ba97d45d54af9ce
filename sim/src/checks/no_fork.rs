//! `protocol.md` section 3: a replaced primary acknowledges, shows and ships nothing that the log of a reign that has
//! started lacks.
//!
//! Regions part by a person's order: one that becomes a sink drops what its source lacks, and may be promoted later. A
//! primary that slept through all that may still tell a client of what its whole set held before: the answer might as
//! well have been under way since. It was set aside, which is another check. In the same way it may go on in a stream
//! to a sink with what a secondary had on disk: sent before it slept, it would be under way since, and the sink that still
//! reads that stream has not compared with anybody else. What nobody had on disk is a fork also then.
//!
//! The same holds in one region after a recovery that announced a loss: a primary that stood still, was taken out of
//! its set, and goes on when the set without it has lost what they had held together, has the acknowledgements of all
//! its members and tells its client. They were true when they were given, and the loss is announced for just these
//! records: no rule could tell this answer from one that is under way. What nobody had acknowledged when the loss was
//! announced is a fork, and so is all that is shown or shipped.

use types::{Epoch, Lsn, PartitionId};

use super::acked_write_survives::Head;

/// As it is reported.
pub const NAME: &str = "no_fork";

/// What a primary does with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It tells a client that it is committed or prepared.
    Acknowledges,
    /// It lets a reader see it.
    Shows,
    /// It sends it to another region.
    Ships,
}

/// A primary of the epoch numbered `server` does something with the record `epoch`@`lsn`.
pub fn check(head: &Head, id: PartitionId, server: u64, epoch: Epoch, lsn: Lsn, deed: Deed) -> Result<(), String> {
    let as_under_way = match deed {
        Deed::Acknowledges => true,
        Deed::Ships => head.was_on_disk((epoch, lsn)),
        Deed::Shows => false,
    };
    let earlier_life = server <= head.life && as_under_way;
    let lost = deed == Deed::Acknowledges && head.has_given_up((epoch, lsn));
    if server >= head.epoch || head.holds(epoch, lsn) || earlier_life || lost {
        return Ok(());
    }
    Err(format!(
        "the primary of epoch {server} of {id} {deed:?} {epoch}@{lsn}, reign {} started without it",
        head.reign
    ))
}

/// A primary of the epoch numbered `server` tells a sink what the history is: that the sink's catalog believes, so who was
/// replaced does not, whatever it has.
pub fn check_comparison(head: &Head, id: PartitionId, server: u64) -> Result<(), String> {
    if server >= head.epoch {
        return Ok(());
    }
    Err(format!("the primary of epoch {server} of {id} tells a sink its history, reign {} has started", head.reign))
}

#[cfg(test)]
mod tests {
    use types::{ClusterId, DatabaseId, LineageEntry, Ordinal, StartKind, Timestamp};

    use super::*;

    #[test]
    fn only_what_was_acknowledged_before_its_loss_may_be_answered_late() {
        let id = PartitionId { database: DatabaseId(1), ordinal: Ordinal(0) };
        let epoch = |number| Epoch { number, cluster: ClusterId(1), nonce: 7 };
        let entry = |number, lsn| LineageEntry {
            epoch: epoch(number),
            start_lsn: Lsn(lsn),
            start_ts: Timestamp(lsn),
            kind: StartKind::Failover,
        };
        let mut before = types::Lineage::default();
        before.push(entry(2, 1));
        let mut after = before.clone();
        after.push(entry(5, 3));
        let mut head = Head::default();
        head.go_on(before, Lsn(1), false);
        head.acknowledge((epoch(2), Lsn(6)));
        head.go_on(after, Lsn(3), true);
        head.epoch = 5;
        head.acknowledge((epoch(2), Lsn(7)));
        let late = |lsn, deed| check(&head, id, 2, epoch(2), Lsn(lsn), deed).is_ok();
        assert!(late(2, Deed::Acknowledges) && late(2, Deed::Shows), "it is in the log that went on");
        assert!(late(6, Deed::Acknowledges), "a secondary had it, and its loss is announced");
        assert!(!late(6, Deed::Shows) && !late(6, Deed::Ships));
        assert!(!late(7, Deed::Acknowledges), "nobody had acknowledged it when the loss was announced");
    }

    #[test]
    fn of_an_earlier_life_only_what_a_secondary_had_on_disk_may_be_shipped_late() {
        let id = PartitionId { database: DatabaseId(1), ordinal: Ordinal(0) };
        let epoch = |number| Epoch { number, cluster: ClusterId(1), nonce: 7 };
        let mut head = Head::default();
        head.sync((epoch(2), Lsn(6)));
        head.forget(4);
        head.epoch = 5;
        let late = |server, lsn, deed| check(&head, id, server, epoch(2), Lsn(lsn), deed).is_ok();
        assert!(late(2, 6, Deed::Ships), "it might be under way since");
        assert!(!late(2, 7, Deed::Ships), "nobody but its primary had it");
        assert!(!late(2, 6, Deed::Shows), "its leases have ended");
        assert!(late(2, 7, Deed::Acknowledges));
        head.life = 1;
        assert!(check(&head, id, 2, epoch(2), Lsn(6), Deed::Ships).is_err(), "in one life nothing is given up");
    }
}
