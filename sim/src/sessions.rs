//! Streams between regions.

use replication::Message;
use types::{LinkId, PartitionId, Promotion, Timestamp, TxnId};

use crate::world::World;

/// Sessions between a sink's primary and its source's.
#[derive(Debug, Default)]
pub struct Sessions {}

impl World {
    pub(crate) fn on_sessions(&mut self) {}
    pub(crate) fn end_sessions_of(&mut self, _index: usize) {}
    pub(crate) fn on_to_source(&mut self, _index: usize, _session: u64, _message: Message) {}
    pub(crate) fn on_to_sink(&mut self, _index: usize, _session: u64, _message: Message) {}
    pub(crate) fn to_sink(&mut self, _index: usize, _id: PartitionId, _feed: u64, _message: Message) {}
    pub(crate) fn to_source(&mut self, _index: usize, _id: PartitionId, _link: LinkId, _message: Message) {}
    pub(crate) fn on_learn(&mut self, _region: usize, _link: LinkId, _promotions: Vec<Promotion>, _relay: bool) {}
    pub(crate) fn begin_install(&mut self, _index: usize, _id: PartitionId) {}
    pub(crate) fn on_install(&mut self, _index: usize, _id: PartitionId) {}
    pub(crate) fn on_control(&mut self, _region: usize) {}
    pub(crate) fn on_decided(&mut self, _region: usize, txn: TxnId, _ts: Timestamp) {
        if let Some(held) = self.clients.txns.get_mut(&txn) {
            held.acked = true;
        }
    }
    pub(crate) fn acknowledge_synced(&mut self, _txn: TxnId) {}
    pub(crate) fn heal_regions(&mut self) {}
    pub(crate) fn check_end(&mut self) {}
    pub(crate) fn first_follow(&mut self, _index: usize, create: catalog::command::CreateDatabase) -> catalog::Command {
        catalog::Command::CreateDatabase(create)
    }
}
