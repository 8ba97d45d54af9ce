//! `promotion_rows`: right after a promotion's `EpochStart` the rows are the history's at its cut, unless a loss that goes on from
//! the end of one log was announced for the partition before it was carried out there.

use types::{Body, PartitionId, Promotion, Record, StartKind, Timestamp};

use crate::world::World;

impl World {
    /// A promotion's `EpochStart` is in a state: its rows are the history's at the cut.
    pub(crate) fn check_promotion_rows(&mut self, index: usize, id: PartitionId, record: &Record) {
        let Body::EpochStart { kind: StartKind::Promotion { id: promotion, .. }, .. } = record.body else { return };
        if self.checks.recoveries.short.contains(&(id.ordinal, promotion)) {
            return;
        }
        let Some(list) = self.checks.history.lists.get(&promotion).cloned() else { return };
        // The catalog's, whatever the record says: there is one for the database.
        let Some((Promotion { cut, .. }, before)) = list.split_last() else { return };
        let mut want = self.checks.history.rows(before, *cut);
        want.retain(|(ordinal, _), _| *ordinal == id.ordinal);
        let rows = self.rows_of(index, id, Timestamp::MAX);
        if rows != want {
            let text =
                format!("{} {id} has {rows:x?} after a promotion at {cut}, history {want:x?}", self.label(index));
            self.fail("promotion_rows", text);
        }
    }
}
