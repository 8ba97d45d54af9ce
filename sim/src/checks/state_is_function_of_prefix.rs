//! The principle of `protocol.md`: the state is a function of the log prefix. What apply and undo have made of it over
//! time equals what the records make of it anew. Checked where the log still begins with the first record.

use types::Lsn;

use crate::node::Hosted;
use crate::state::Memory;

/// As it is reported.
pub const NAME: &str = "state_is_function_of_prefix";

/// The state against the log.
pub fn check(hosted: &Hosted) -> Result<(), String> {
    if hosted.log.summary.first > Lsn(1) || hosted.installing {
        return Ok(());
    }
    let mut anew = Memory::default();
    for record in hosted.log.records.iter().take_while(|record| record.lsn <= hosted.state.applied) {
        anew.apply(record);
    }
    if anew == hosted.state {
        return Ok(());
    }
    let extra = hosted.state.map.iter().find(|(key, value)| anew.map.get(*key) != Some(value));
    let lacks = anew.map.iter().find(|(key, value)| hosted.state.map.get(*key) != Some(value));
    Err(format!(
        "{} at {}: the records make {}, it has {extra:?}, lacks {lacks:?}",
        hosted.replica.id(),
        hosted.state.applied,
        anew.applied
    ))
}
