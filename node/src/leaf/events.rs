//! What a leaf tells people: SHOW CLUSTER EVENTS.

use aggregator::protocol::{LeafEvent, MasterRequest};
use catalog::event::Severity;
use types::{NodeId, PartitionId};

use super::master::MasterClient;

/// Tells the cluster in a leaf's name. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    master: MasterClient,
    node: NodeId,
}

impl Events {
    /// Of this leaf.
    pub fn new(master: MasterClient, node: NodeId) -> Events {
        Events { master, node }
    }

    /// Tells it, in one sentence, until it is heard; the leaf's own log has it at once. `kind` is one or two words.
    pub fn tell(&self, severity: Severity, kind: &str, partition: Option<PartitionId>, text: String) {
        match severity {
            Severity::Info => tracing::info!(?partition, text, "told to the cluster"),
            Severity::Warning => tracing::warn!(?partition, text, "told to the cluster"),
            Severity::Error => tracing::error!(?partition, text, "told to the cluster"),
        }
        let (master, node) = (self.master.clone(), self.node);
        let event = LeafEvent { severity, kind: kind.into(), partition, text };
        tokio::spawn(async move { master.insist(&MasterRequest::Event { node, event }).await });
    }
}
