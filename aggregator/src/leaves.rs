//! Calls to leaves: one session per leaf, opened when it is needed, and the way to a partition's primary.
//!
//! The catalog says who is primary. A request that certainly was not begun is repeated, at the new primary if there is
//! one, until `partition_wait` has passed; a commit whose answer is lost is not: how it ended is asked for.
//!
//! Nobody waits for a leaf longer than it is primary: one that is silent would keep a statement for as long as a
//! connection takes to be given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::Mutex;
use transport::identity::Role;
use transport::rpc::{CallError, Client, Replies};
use transport::tcp::TcpDialler;
use types::txn::Refusal;
use types::{Member, NodeId, PartitionId};

use crate::master::Catalog;
use crate::protocol::{LeafAnswer, LeafRefusal, LeafRequest};

/// Between two attempts while a partition has no primary that serves.
const RETRY_TIME: Duration = Duration::from_millis(20);
/// A primary that was replaced and lives says soon how a request has ended.
const LAST_WORD_TIME: Duration = Duration::from_millis(50);
/// One that was replaced while it sends rows may go on: they are those of the view. Silence of this length ends it.
const SILENCE_TIME: Duration = Duration::from_secs(1);

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
        /// Which partition, as `db:ordinal`.
        partition: String,
        /// What was seen last.
        reason: String,
    },
    /// The answer is lost: it may or may not have been done.
    #[error("the answer of partition {partition} is lost ({reason})")]
    Unknown {
        /// Which partition, as `db:ordinal`.
        partition: String,
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
    /// A lock for each: reaching one that is silent keeps nobody from the others.
    calls: parking_lot::Mutex<BTreeMap<NodeId, Arc<Mutex<Option<LeafCalls>>>>>,
}

impl Leaves {
    /// Requests wait for a primary for `partition_wait`.
    pub fn new(catalog: Catalog, dialler: TcpDialler, partition_wait: Duration) -> Leaves {
        Leaves { shared: Arc::new(Shared { catalog, dialler, partition_wait, calls: Default::default() }) }
    }

    /// The session with a leaf, new if there is none.
    pub async fn leaf(&self, node: NodeId) -> Result<LeafCalls, String> {
        let own = self.shared.calls.lock().entry(node).or_default().clone();
        let mut known = own.lock().await;
        if let Some(open) = known.as_ref().filter(|open| open.control().closed_reason().is_none()) {
            return Ok(open.clone());
        }
        let state = self.shared.catalog.state();
        let address = state.nodes.get(&node).map(|known| known.addresses.rpc.clone());
        let address = address.ok_or_else(|| format!("node {node} is not in the catalog"))?;
        let session =
            self.shared.dialler.dial(&address, Some(node), Role::Calls).await.map_err(|error| error.to_string())?;
        let (control, ..) = session.split();
        let client = Client::new(control);
        *known = Some(client.clone());
        Ok(client)
    }

    fn name(&self, partition: PartitionId) -> String {
        self.shared.catalog.state().partition_name(partition)
    }

    fn leaf_name(&self, member: Member) -> String {
        format!("leaf {}", self.shared.catalog.state().node_name(member.node))
    }

    fn primary(&self, partition: PartitionId) -> Result<Member, LeavesError> {
        let state = self.shared.catalog.state();
        state.partitions.get(&partition).map(|known| known.primary).ok_or(LeavesError::Gone(partition))
    }

    /// Returns when a process is no longer a partition's primary, and has had the time for a last word.
    async fn replaced(&self, partition: PartitionId, primary: Member) {
        let mut changes = self.shared.catalog.changes();
        let held = changes.wait_for(|state| state.partitions.get(&partition).is_none_or(|now| now.primary != primary));
        if held.await.is_err() {
            // This aggregator ends, and its statements with it.
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_WORD_TIME).await;
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
            let primary = self.primary(partition)?;
            let sent = AtomicBool::new(false);
            let attempt = async {
                let leaf = self.leaf(primary.node).await.map_err(Failed::NotBegun)?;
                sent.store(true, Ordering::Relaxed);
                match leaf.call(request, limit).await {
                    Ok(LeafAnswer::Refused(refusal)) if is_passing(&refusal) => {
                        Err(Failed::NotBegun(format!("{refusal:?}")))
                    }
                    Ok(answer) => Ok(answer),
                    Err(error) if error.may_have_run() => Err(Failed::Unknown(error.to_string())),
                    Err(error) => Err(Failed::NotBegun(error.to_string())),
                }
            };
            let answered = tokio::select! {
                biased;
                answered = attempt => answered,
                () = self.replaced(partition, primary) => {
                    Err(replaced(&self.leaf_name(primary), sent.load(Ordering::Relaxed)))
                }
            };
            let reason = match answered {
                Ok(answer) => return Ok(answer),
                Err(Failed::Unknown(reason)) if !repeatable => {
                    return Err(LeavesError::Unknown { partition: self.name(partition), reason });
                }
                Err(Failed::Unknown(reason) | Failed::NotBegun(reason)) => reason,
            };
            if begun.elapsed() >= self.shared.partition_wait {
                return Err(LeavesError::NoPrimary { partition: self.name(partition), reason });
            }
            self.pause(partition, primary).await;
        }
    }

    /// Until the next attempt: at once where there is another primary.
    async fn pause(&self, partition: PartitionId, asked: Member) {
        if self.primary(partition).is_ok_and(|primary| primary == asked) {
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    /// Asks a partition's primary for a stream of answers; the first one has been read, and is no passing refusal.
    pub async fn stream(
        &self,
        partition: PartitionId,
        request: &LeafRequest,
        limit: Duration,
    ) -> Result<(Option<LeafAnswer>, Answers), LeavesError> {
        let begun = Instant::now();
        loop {
            let primary = self.primary(partition)?;
            let started = tokio::select! {
                biased;
                started = self.begin_stream(primary.node, request, limit) => started,
                () = self.replaced(partition, primary) => Err(format!("{} was replaced", self.leaf_name(primary))),
            };
            let reason = match started {
                Ok((Some(LeafAnswer::Refused(refusal)), _)) if is_passing(&refusal) => format!("{refusal:?}"),
                Ok((first, replies)) => {
                    return Ok((first, Answers { leaves: self.clone(), partition, primary, replies }));
                }
                Err(reason) => reason,
            };
            if begun.elapsed() >= self.shared.partition_wait {
                return Err(LeavesError::NoPrimary { partition: self.name(partition), reason });
            }
            self.pause(partition, primary).await;
        }
    }

    async fn begin_stream(
        &self,
        node: NodeId,
        request: &LeafRequest,
        limit: Duration,
    ) -> Result<(Option<LeafAnswer>, Replies<LeafAnswer>), String> {
        let leaf = self.leaf(node).await?;
        let mut replies = leaf.stream(request, limit).await.map_err(text)?;
        let first = replies.next().await.map_err(text)?;
        Ok((first, replies))
    }
}

/// The rest of a stream of answers.
pub struct Answers {
    leaves: Leaves,
    partition: PartitionId,
    primary: Member,
    replies: Replies<LeafAnswer>,
}

impl Answers {
    /// The next one; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<LeafAnswer>, String> {
        let silent = async {
            self.leaves.replaced(self.partition, self.primary).await;
            tokio::time::sleep(SILENCE_TIME).await;
        };
        tokio::select! {
            biased;
            next = self.replies.next() => next.map_err(text),
            () = silent => Err(format!("{} was replaced and is silent", self.leaves.leaf_name(self.primary))),
        }
    }
}

/// Why an attempt has brought no answer.
enum Failed {
    /// It certainly was not begun.
    NotBegun(String),
    /// It may have been done.
    Unknown(String),
}

fn replaced(primary: &str, sent: bool) -> Failed {
    let reason = format!("{primary} was replaced");
    if sent { Failed::Unknown(reason) } else { Failed::NotBegun(reason) }
}

fn text(error: CallError) -> String {
    error.to_string()
}

/// A refusal that goes away when the partition's primary serves.
fn is_passing(refusal: &LeafRefusal) -> bool {
    matches!(refusal, LeafRefusal::Protocol(Refusal::NotPrimary) | LeafRefusal::NoPartition | LeafRefusal::NotReadable)
}
