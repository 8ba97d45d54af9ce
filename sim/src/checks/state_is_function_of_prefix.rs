//! The principle of `protocol.md`: the state is a function of the log prefix. What apply and undo have made of it over
//! time, and what was copied, equals what the records make of it anew. The log may be trimmed: names are for ever.

use types::Lsn;

use super::record_identity::Names;
use crate::node::Hosted;
use crate::state::Memory;

/// As it is reported.
pub const NAME: &str = "state_is_function_of_prefix";

/// The state against the records that its lineage names.
pub fn check(hosted: &Hosted, names: &Names) -> Result<(), String> {
    if hosted.copying.is_some() {
        return Ok(());
    }
    let (lineage, ordinal) = (&hosted.log.summary.lineage, hosted.replica.id().ordinal);
    let mut anew = Memory::default();
    for lsn in (1..=hosted.state.applied.0).map(Lsn) {
        let record = lineage.epoch_at(lsn).and_then(|epoch| names.record(ordinal, epoch, lsn));
        let Some(record) = record else {
            return Err(format!("{} holds {lsn}, which nobody wrote", hosted.replica.id()));
        };
        anew.apply(&record);
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
