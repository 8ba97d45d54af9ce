//! `fence`: no data record above a reported final position; a hand-over loses nothing acknowledged.

use types::{Fence, PartitionId, Promotion, Record, Timestamp};

use crate::world::World;

impl World {
    /// A primary that the catalog names mints a record.
    pub(crate) fn check_final_position(&mut self, index: usize, id: PartitionId, record: &Record) {
        let fenced = &self.regions[self.nodes[index].region].catalog.databases[&id.database].fenced;
        // A log that goes on after a loss may have transactions open that had ended.
        let sealed = matches!(fenced.fence, Fence::Sealed(_)) && !self.checks.recoveries.uncut;
        let end = fenced.finals.as_ref().and_then(|finals| finals.positions.get(&id.ordinal)).copied();
        if let Some(end) = end.filter(|end| sealed && record.lsn > *end && record.body.is_data()) {
            let text = format!("{} {id} writes {} above the final position {end}", self.label(index), record.lsn);
            self.fail("fence", text);
        }
    }

    /// A sink that follows this history is promoted by a token, at `cut`.
    pub(crate) fn check_handed_over(&mut self, region: usize, term: &[Promotion], cut: Timestamp) {
        let lost = self.acknowledged_above(term, cut).next();
        if let Some((txn, ts)) = lost {
            self.fail("fence", format!("{txn} was acknowledged at {ts}, region {region} is promoted at {cut}"));
        }
    }
}
