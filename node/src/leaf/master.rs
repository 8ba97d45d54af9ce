//! Calls to the master aggregator, as a leaf makes them: until they are answered, or once.

use std::time::Duration;

use aggregator::calls::MasterCalls;
use aggregator::protocol::{MasterAnswer, MasterRequest};
use catalog::command::{BreakLink, SetChange as CatalogChange};
use replication::SetChange;
use transport::tcp::TcpDialler;
use types::{DatabaseId, LinkId, PartitionId, Promotion, PromotionId, Reign, SetVersion, Timestamp, TxnId};

/// How long one call may take before it is made again.
const CALL_TIME: Duration = Duration::from_secs(2);
/// How long a heartbeat may take: a master that is stuck is left soon.
const REPORT_TIME: Duration = Duration::from_secs(1);
/// Between two attempts where the master is away.
const RETRY_TIME: Duration = Duration::from_millis(20);

/// A handle on the master. Cheap to clone.
#[derive(Clone)]
pub struct MasterClient {
    calls: MasterCalls,
}

impl MasterClient {
    /// Found through the aggregators at these addresses.
    pub fn new(dialler: TcpDialler, addresses: Vec<String>) -> MasterClient {
        MasterClient { calls: MasterCalls::new(dialler, addresses) }
    }

    /// The aggregators of the region, as the catalog has them.
    pub fn learn_addresses(&self, addresses: Vec<String>) {
        self.calls.learn(addresses);
    }

    /// One attempt.
    pub async fn call(&self, request: &MasterRequest) -> Result<MasterAnswer, String> {
        let limit = if matches!(request, MasterRequest::Report(_)) { REPORT_TIME } else { CALL_TIME };
        self.calls.call(None, request, limit).await
    }

    /// Until it is answered.
    pub async fn insist(&self, request: &MasterRequest) -> MasterAnswer {
        loop {
            match self.call(request).await {
                Ok(MasterAnswer::NotNow(reason)) => tracing::debug!(reason, "the master cannot decide yet"),
                Ok(MasterAnswer::NotMaster { leader }) => tracing::debug!(?leader, "another aggregator is the master"),
                Ok(answer) => return answer,
                Err(reason) => tracing::debug!(reason, "the master is called again"),
            }
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    /// The first of `count` timestamps, as soon as the master hands them out.
    pub async fn timestamps(&self, count: u32) -> Timestamp {
        loop {
            if let MasterAnswer::Timestamps(first) = self.insist(&MasterRequest::Timestamps { count }).await {
                return first;
            }
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    /// Proposes a change of a set, once: the replica repeats it.
    pub async fn propose_set(&self, partition: PartitionId, reign: Reign, version: SetVersion, change: SetChange) {
        let change = match change {
            SetChange::Add(member) => CatalogChange::Add(member),
            SetChange::Remove(member) => CatalogChange::Remove(member),
        };
        if let Err(reason) = self.call(&MasterRequest::ProposeSet { partition, reign, version, change }).await {
            tracing::debug!(%partition, reason, "a change of the set is proposed again later");
        }
    }

    /// Tells what a source's history is, once: the replica repeats it.
    pub async fn learn(&self, database: DatabaseId, link: LinkId, promotions: Vec<Promotion>, relay: bool) {
        if let Err(reason) = self.call(&MasterRequest::Learn { database, link, promotions, relay }).await {
            tracing::debug!(%database, reason, "the source's promotions are told again later");
        }
    }

    /// Tells that a source has lost what was served here, once: the replica repeats it.
    pub async fn break_link(&self, lost: BreakLink) {
        let partition = lost.partition;
        if let Err(reason) = self.call(&MasterRequest::BreakLink(lost)).await {
            tracing::debug!(%partition, reason, "what the source has lost is told again later");
        }
    }

    /// How a transaction ended that is prepared in a history, by its deciding partition. `None`: ask again later.
    pub async fn inquire(&self, partition: PartitionId, txn: TxnId, history: PromotionId) -> Option<Option<Timestamp>> {
        match self.call(&MasterRequest::Inquire { partition, txn, history }).await {
            Ok(MasterAnswer::Decided(decision)) => Some(decision),
            _ => None,
        }
    }
}
