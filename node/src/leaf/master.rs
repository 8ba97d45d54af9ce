//! Calls to the master aggregator: found among the configured addresses, dialled again when it is lost.

use std::sync::Arc;
use std::time::Duration;

use aggregator::protocol::{MasterAnswer, MasterRequest};
use catalog::command::SetChange as CatalogChange;
use replication::SetChange;
use tokio::sync::Mutex;
use transport::identity::Role;
use transport::rpc::{CallError, Client};
use transport::tcp::TcpDialler;
use types::{DatabaseId, LinkId, PartitionId, Promotion, Reign, SetVersion, Timestamp, TxnId};

/// How long one call may take before it is made again.
const CALL_TIME: Duration = Duration::from_secs(2);
/// Between two attempts where the master is away.
const RETRY_TIME: Duration = Duration::from_millis(50);

type MasterCalls = Client<MasterRequest, MasterAnswer>;

/// A handle on the master. Cheap to clone.
#[derive(Clone)]
pub struct MasterClient {
    shared: Arc<Shared>,
}

struct Shared {
    dialler: TcpDialler,
    addresses: Vec<String>,
    calls: Mutex<Option<MasterCalls>>,
}

impl MasterClient {
    /// For the aggregators at these addresses.
    pub fn new(dialler: TcpDialler, addresses: Vec<String>) -> MasterClient {
        MasterClient { shared: Arc::new(Shared { dialler, addresses, calls: Mutex::new(None) }) }
    }

    async fn calls(&self) -> Option<MasterCalls> {
        let mut calls = self.shared.calls.lock().await;
        if let Some(calls) = &*calls
            && calls.control().closed_reason().is_none()
        {
            return Some(calls.clone());
        }
        for address in &self.shared.addresses {
            match self.shared.dialler.dial(address, None, Role::Catalog).await {
                Ok(session) => {
                    let (control, ..) = session.split();
                    let client = Client::new(control);
                    *calls = Some(client.clone());
                    return Some(client);
                }
                Err(error) => tracing::debug!(%error, "an aggregator cannot be reached"),
            }
        }
        None
    }

    /// One attempt.
    pub async fn call(&self, request: &MasterRequest) -> Result<MasterAnswer, String> {
        let calls = self.calls().await.ok_or_else(|| "no aggregator can be reached".to_string())?;
        let answer = calls.call(request, CALL_TIME).await;
        if matches!(answer, Err(CallError::NotSent(_) | CallError::Lost(_))) {
            *self.shared.calls.lock().await = None;
        }
        answer.map_err(|error| error.to_string())
    }

    /// Until it is answered.
    pub async fn insist(&self, request: &MasterRequest) -> MasterAnswer {
        loop {
            match self.call(request).await {
                Ok(MasterAnswer::NotNow(reason)) => tracing::debug!(reason, "the master cannot decide yet"),
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

    /// How a transaction ended, by its deciding partition. `None`: ask again later.
    pub async fn inquire(&self, partition: PartitionId, txn: TxnId) -> Option<Option<Timestamp>> {
        match self.call(&MasterRequest::Inquire { partition, txn }).await {
            Ok(MasterAnswer::Decided(decision)) => Some(decision),
            _ => None,
        }
    }
}
