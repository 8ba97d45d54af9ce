//! Replicas whose files are damaged: out of service at once, rebuilt from another replica, and said.
//!
//! Whoever meets a wrong checksum, in the log or in the state, tells the replica's task, and that ends. Here the log is
//! told that nothing of the partition may be believed (`Damaged`, synced), the replica is opened anew, without a state
//! and knowing it, and asks for a copy. Each heartbeat names it, so that the master takes it out of the set, or names
//! another primary. The copy's `Installed` ends the damage in the log. Here it ends when the replica takes part again,
//! which it does only after it has seen itself outside of the set (`replication::copy`): a copy may lack the last records
//! that it had acknowledged before, and while it is a member the catalog may name it primary for having them.
//!
//! The old files stay until there is a copy: they may be the last ones. While nobody else has the partition, it is
//! refused with error 9007; the others of the leaf go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aggregator::protocol::{LeafEvent, MasterRequest};
use catalog::event::Severity;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use types::PartitionId;

use super::Leaf;
use super::partition::Event;
use super::peers;

/// For so long clients are told to try again: another replica is being named.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long a leaf that ends tries to say why.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// One replica that is damaged.
#[derive(Clone, Debug)]
struct Damage {
    reason: String,
    since: Instant,
}

/// The damaged replicas of a leaf.
#[derive(Debug, Default)]
pub struct Damages {
    known: Mutex<BTreeMap<PartitionId, Damage>>,
}

impl Damages {
    /// A replica is damaged. False if that was known.
    pub fn note(&self, id: PartitionId, reason: String) -> bool {
        let mut known = self.known.lock();
        let is_new = !known.contains_key(&id);
        known.entry(id).or_insert(Damage { reason, since: Instant::now() });
        is_new
    }

    /// A replica is whole again, or gone. True if it was damaged.
    pub fn healed(&self, id: PartitionId) -> bool {
        self.known.lock().remove(&id).is_some()
    }

    /// Whether a replica is damaged.
    pub fn has(&self, id: PartitionId) -> bool {
        self.known.lock().contains_key(&id)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.known.lock().len()
    }

    /// Why a partition cannot be served here, once it is clear that nobody takes over soon.
    pub fn refusal(&self, id: PartitionId) -> Option<String> {
        let known = self.known.lock();
        known.get(&id).filter(|damage| damage.since.elapsed() >= PATIENCE).map(|damage| damage.reason.clone())
    }
}

/// A task that has ended because its replica is damaged.
pub struct Damaged {
    /// Which.
    pub id: PartitionId,
    /// `StateSlot::life` of what has ended.
    pub life: usize,
    /// Why.
    pub reason: String,
}

/// Puts replicas in the place of damaged ones, until the process ends.
pub(super) async fn run(leaf: Leaf, mut damaged: mpsc::UnboundedReceiver<Damaged>) {
    while let Some(Damaged { id, life, reason }) = damaged.recv().await {
        note(&leaf, id, reason);
        let log = leaf.shared.log.clone();
        let synced = tokio::task::spawn_blocking(move || {
            log.poison(id);
            log.wait_durable()
        });
        if !matches!(synced.await, Ok(Ok(()))) {
            // The log says itself that it has failed, and the process ends.
            continue;
        }
        let ended = {
            let mut partitions = leaf.partitions.write();
            partitions.get(&id).is_some_and(|handle| handle.state.life() == life).then(|| partitions.remove(&id))
        };
        if let Some(Some(handle)) = ended {
            let (done, stopped) = oneshot::channel();
            if handle.events.send(Event::Stop(done)).await.is_ok() {
                // An error: its task has ended already.
                let _ = stopped.await;
            }
        }
        leaf.overlays.lock().remove(&id);
        match leaf.open(id) {
            // The master tells everything again, this replica's view with it.
            Ok(_) => leaf.forget_views(),
            Err(error) => tracing::error!(partition = %id, %error, "no replica in the place of a damaged one"),
        }
    }
}

/// A replica is damaged: it is said, if that was not known.
pub(super) fn note(leaf: &Leaf, id: PartitionId, reason: String) {
    if leaf.damages.note(id, reason.clone()) {
        say(leaf, Severity::Error, id, format!("a replica is damaged and out of service: {reason}"));
    }
}

/// Looks whether damage that was found by others than its task is new, and whether damage is over.
pub(super) fn look(leaf: &Leaf) {
    for (id, handle) in peers::list(&leaf.partitions) {
        let repairing = handle.status.borrow().repairing;
        let damaged = leaf.shared.log.summary(id).is_some_and(|summary| summary.damaged);
        if damaged && !repairing {
            handle.damaged("its part of the node log cannot be read".into());
        }
        if !damaged && !repairing && leaf.damages.healed(id) {
            say(leaf, Severity::Info, id, "a damaged replica was rebuilt from another one".into());
        }
    }
}

/// Tells the cluster, for people; once.
pub(super) fn say(leaf: &Leaf, severity: Severity, id: PartitionId, text: String) {
    leaf.shared.events.tell(severity, "damage", Some(id), text);
}

/// Tells the cluster why this leaf ends; it waits no longer than a moment, for its partitions wait for its end.
pub(super) async fn last_words(leaf: &Leaf, reason: &str) {
    let text = format!("leaf {} gives up: {reason}", leaf.options.addresses.rpc);
    let event = LeafEvent { severity: Severity::Error, kind: "leaf".into(), partition: None, text };
    let request = MasterRequest::Event { node: leaf.options.member.node, event };
    let told = leaf.shared.master.insist(&request);
    if tokio::time::timeout(LAST_WORDS, told).await.is_err() {
        tracing::warn!("the cluster could not be told why this leaf ends");
    }
}
