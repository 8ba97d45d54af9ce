//! `protocol.md` section 3: a replaced primary acknowledges, shows and ships nothing that the log of a reign that has
//! started lacks.

use types::{Epoch, Lsn, PartitionId};

use super::acked_write_survives::Head;

/// As it is reported.
pub const NAME: &str = "no_fork";

/// A primary of the epoch numbered `server` does something with the record `epoch`@`lsn`.
pub fn check(head: &Head, id: PartitionId, server: u64, epoch: Epoch, lsn: Lsn, what: &str) -> Result<(), String> {
    if server >= head.epoch || head.holds(epoch, lsn) {
        return Ok(());
    }
    Err(format!("the primary of epoch {server} of {id} {what} {epoch}@{lsn}, reign {} started without it", head.reign))
}
