//! Calls to leaves: one session per leaf, opened when it is needed, and the way to a partition's primary.
//!
//! The catalog says who is primary. A request that certainly was not begun is repeated, at the new primary if there is
//! one, until `partition_wait` has passed; a commit whose answer is lost is not: how it ended is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Mutex;
use transport::identity::Role;
use transport::rpc::{CallError, Client, Replies};
use transport::tcp::TcpDialler;
use types::txn::Refusal;
use types::{NodeId, PartitionId};

use crate::master::Catalog;
use crate::protocol::{LeafAnswer, LeafRefusal, LeafRequest};

/// Between two attempts while a partition has no primary that serves.
const RETRY_TIME: Duration = Duration::from_millis(20);

type LeafCalls = Client<LeafRequest, LeafAnswer>;

/// A partition cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeavesError {
    /// The partition is not in the catalog: its database was dropped.
    #[error("partition {0} does not exist any more")]
    Gone(PartitionId),
    /// It has had no primary for as long as a statement waits.
    #[error("partition {partition} has no primary right now ({reason}): repeat the statement")]
    NoPrimary {
        /// Which partition.
        partition: PartitionId,
        /// What was seen last.
        reason: String,
    },
    /// The answer is lost: it may or may not have been done.
    #[error("the answer of partition {partition} is lost ({reason})")]
    Unknown {
        /// Which partition.
        partition: PartitionId,
        /// How.
        reason: String,
    },
}

/// The leaves of the region. Cheap to clone.
#[derive(Clone)]
pub struct Leaves {
    shared: Arc<Shared>,
}

struct Shared {
    catalog: Catalog,
    dialler: TcpDialler,
    partition_wait: Duration,
    calls: Mutex<BTreeMap<NodeId, LeafCalls>>,
}

impl Leaves {
    /// Requests wait for a primary for `partition_wait`.
    pub fn new(catalog: Catalog, dialler: TcpDialler, partition_wait: Duration) -> Leaves {
        Leaves { shared: Arc::new(Shared { catalog, dialler, partition_wait, calls: Mutex::default() }) }
    }

    /// The session with a leaf, new if there is none.
    pub async fn leaf(&self, node: NodeId) -> Result<LeafCalls, String> {
        let mut calls = self.shared.calls.lock().await;
        if let Some(open) = calls.get(&node).filter(|open| open.control().closed_reason().is_none()) {
            return Ok(open.clone());
        }
        let state = self.shared.catalog.state();
        let address = state.nodes.get(&node).map(|known| known.addresses.rpc.clone());
        let address = address.ok_or_else(|| format!("node {node} is not in the catalog"))?;
        let session =
            self.shared.dialler.dial(&address, Some(node), Role::Calls).await.map_err(|error| error.to_string())?;
        let (control, ..) = session.split();
        let client = Client::new(control);
        calls.insert(node, client.clone());
        Ok(client)
    }

    fn primary(&self, partition: PartitionId) -> Result<NodeId, LeavesError> {
        let state = self.shared.catalog.state();
        state.partitions.get(&partition).map(|known| known.primary.node).ok_or(LeavesError::Gone(partition))
    }

    /// Asks a partition's primary for one answer, `limit` for each attempt. `repeatable`: doing it twice does no harm,
    /// so a lost answer is asked for again.
    pub async fn ask(
        &self,
        partition: PartitionId,
        request: &LeafRequest,
        limit: Duration,
        repeatable: bool,
    ) -> Result<LeafAnswer, LeavesError> {
        let begun = Instant::now();
        loop {
            let node = self.primary(partition)?;
            let reason = match self.leaf(node).await {
                Err(reason) => reason,
                Ok(leaf) => match leaf.call(request, limit).await {
                    Ok(LeafAnswer::Refused(refusal)) if is_passing(&refusal) => format!("{refusal:?}"),
                    Ok(answer) => return Ok(answer),
                    Err(error) if error.may_have_run() && !repeatable => {
                        return Err(LeavesError::Unknown { partition, reason: error.to_string() });
                    }
                    Err(error) => error.to_string(),
                },
            };
            if begun.elapsed() >= self.shared.partition_wait {
                return Err(LeavesError::NoPrimary { partition, reason });
            }
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    /// Asks a partition's primary for a stream of answers; the first one has been read, and is no passing refusal.
    pub async fn stream(
        &self,
        partition: PartitionId,
        request: &LeafRequest,
        limit: Duration,
    ) -> Result<(Option<LeafAnswer>, Replies<LeafAnswer>), LeavesError> {
        let begun = Instant::now();
        loop {
            let reason = match self.begin_stream(partition, request, limit).await? {
                Ok((Some(LeafAnswer::Refused(refusal)), _)) if is_passing(&refusal) => format!("{refusal:?}"),
                Ok(started) => return Ok(started),
                Err(reason) => reason,
            };
            if begun.elapsed() >= self.shared.partition_wait {
                return Err(LeavesError::NoPrimary { partition, reason });
            }
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    async fn begin_stream(
        &self,
        partition: PartitionId,
        request: &LeafRequest,
        limit: Duration,
    ) -> Result<Result<(Option<LeafAnswer>, Replies<LeafAnswer>), String>, LeavesError> {
        let node = self.primary(partition)?;
        let start = async {
            let leaf = self.leaf(node).await?;
            let mut replies = leaf.stream(request, limit).await.map_err(text)?;
            let first = replies.next().await.map_err(text)?;
            Ok((first, replies))
        };
        Ok(start.await)
    }
}

fn text(error: CallError) -> String {
    error.to_string()
}

/// A refusal that goes away when the partition's primary serves.
fn is_passing(refusal: &LeafRefusal) -> bool {
    matches!(refusal, LeafRefusal::Protocol(Refusal::NotPrimary) | LeafRefusal::NoPartition | LeafRefusal::NotReadable)
}
