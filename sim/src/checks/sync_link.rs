//! `sync_link`: a promotion at the cut loses nothing that was acknowledged while SYNC, unless the sink itself had a loss.

use types::{Promotion, Timestamp};

use crate::world::World;

impl World {
    /// A sink that follows this history is promoted at `cut`, with all that it could have had.
    pub(crate) fn check_sync_link(&mut self, region: usize, term: &[Promotion], cut: Timestamp) {
        if self.checks.recoveries.sinks.contains(&region) {
            return;
        }
        let lost = self.acknowledged_above(term, cut).find(|(txn, _)| self.clients.txns[txn].synced_to == Some(region));
        if let Some((txn, ts)) = lost {
            self.fail("sync_link", format!("{txn} was acknowledged at {ts}, region {region} is promoted at {cut}"));
        }
    }

    /// By a person's order the sink has left what was acknowledged above `cut`: SYNC protects it no longer. What is
    /// at or below it is in both histories: it stays protected, however often the sink is promoted and follows anew.
    pub(crate) fn release_sync(&mut self, region: usize, cut: Timestamp) {
        self.checks.between.promoted.entry(region).and_modify(|kept| *kept = (*kept).min(cut));
        for held in self.clients.txns.values_mut() {
            if held.synced_to == Some(region) && held.ts.is_some_and(|ts| ts > cut) {
                held.synced_to = None;
            }
        }
    }
}
