//! `resolved_mark`: nothing commits at or below a published mark after it.

use types::{Body, PartitionId, Record};

use crate::world::World;

impl World {
    /// A primary that the catalog names mints a record.
    pub(crate) fn check_resolved(&mut self, index: usize, id: PartitionId, record: &Record) {
        let (Body::Commit { ts, .. } | Body::Outcome { decision: Some(ts), .. }) = record.body else { return };
        let term = self.checks.history.term(id.ordinal, record.epoch).cloned().unwrap_or_default();
        let resolved = self.checks.between.published.get(&(id.ordinal, term)).copied();
        if let Some(resolved) = resolved.filter(|resolved| ts <= *resolved) {
            let text = format!("{} {id} commits at {ts}, resolved up to {resolved}", self.label(index));
            self.fail("resolved_mark", text);
        }
    }
}
