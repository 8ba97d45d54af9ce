//! A partition that changes hands as planned does so when nothing is under way at its primary: what was, when that said last
//! that nothing is, would be rolled back, or answered *unknown*.

use types::{Member, PartitionId};

use crate::options::MILLI;

/// As it is reported.
pub const NAME: &str = "hand_over_quiet";

/// The next primary is named. `heard`: when the old one said what the leader knows; `busy`: since when it has had
/// transactions under way without a break, if it has.
pub fn check(id: PartitionId, old: Member, heard: u64, busy: Option<u64>) -> Result<(), String> {
    match busy {
        Some(since) if since < heard => Err(format!(
            "{old} hands {id} over with transactions under way since {} ms, heard at {} ms",
            since / MILLI,
            heard / MILLI
        )),
        _ => Ok(()),
    }
}
