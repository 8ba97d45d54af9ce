//! `set_aside_complete`: at the end an acknowledged transaction is visible, or set aside on every partition it touched.

use std::collections::BTreeSet;

use types::{Promotion, Timestamp, TxnId};

use crate::disk::Aside;
use crate::world::World;

impl World {
    /// What is missing in the history that went on must have been set aside.
    pub(crate) fn check_set_aside(&mut self, term: &[Promotion]) {
        let visible: BTreeSet<TxnId> = self.checks.history.visible(term, Timestamp::MAX).into_keys().collect();
        let aside: BTreeSet<Aside> = self
            .nodes
            .iter()
            .flat_map(|node| node.disks.values())
            .flat_map(|disk| disk.aside.iter().copied())
            .collect();
        // What no disk held when all machines lost power, nobody can set aside.
        let lost = &self.checks.recoveries.lost;
        let missing = self.clients.txns.iter().filter(|(txn, _)| !lost.contains(txn));
        let missing = missing.filter(|(txn, held)| held.acked && !visible.contains(txn));
        let lost = missing
            .flat_map(|(txn, held)| held.parts.iter().map(move |part| Aside { txn: *txn, ordinal: part.ordinal }))
            .find(|part| !aside.contains(part));
        if let Some(Aside { txn, ordinal }) = lost {
            let text = format!("{txn} was acknowledged, is not visible, and is not set aside on partition {ordinal}");
            self.fail("set_aside_complete", text);
        }
    }
}
