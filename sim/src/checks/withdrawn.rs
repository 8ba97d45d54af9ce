//! `protocol.md` section 4: a commit that has no timestamp yet can be taken back, and whoever did so has told its client that it
//! never commits. Nobody reads what it wrote.

use types::{PartitionId, TxnId};

use crate::world::World;

/// As it is reported.
pub const NAME: &str = "withdrawn";

impl World {
    /// A reader was shown what this transaction has written.
    pub(crate) fn check_withdrawn(&mut self, id: PartitionId, txn: TxnId) {
        if self.clients.txns.get(&txn).is_some_and(|held| held.withdrawn) {
            self.fail(NAME, format!("a read of {id} shows {txn}, whose client was told that it never commits"));
        }
    }
}
