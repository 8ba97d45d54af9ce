//! The region's catalog: `catalog::State`, replicated over raft-rs among the aggregators, and the only way to change it.
//!
//! [`Catalog::propose`] works at every aggregator: it hands the command to the master, wherever that is, and returns when
//! it is decided and applied here, too. [`Catalog::decide`] works at the master alone, in one office. [`Catalog::state`] is
//! the state as it is applied here; at the master it is the latest. One aggregator is a group of one, not a special case.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ::catalog::node::Node;
use ::catalog::{Command, Outcome, Refusal, State};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot, watch};
use types::NodeId;

use super::driver::{Decision, Driver, Input, Network, Proposal};
use super::members::Members;
use super::store::{Store, StoreError};
use crate::calls::MasterCalls;
use crate::protocol::{MasterAnswer, MasterRequest};

/// Commands that may wait to be decided; more make their proposers wait.
const PROPOSALS_MAX: usize = 1024;
/// What may wait for the thread in all: proposals, questions and messages. More messages are lost.
const INPUTS_MAX: usize = 8 * PROPOSALS_MAX;
/// Between two attempts while no master is known.
const RETRY_TIME: Duration = Duration::from_millis(20);
/// How long the master may take for a command before it is asked again.
const DECIDE_TIME: Duration = Duration::from_secs(2);

/// The catalog cannot decide.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// This aggregator is not the master, or no longer in the office that was meant.
    #[error("another aggregator is the master now: repeat the statement")]
    Moved,
    /// No majority of the aggregators can be reached.
    #[error("the aggregators have no master right now, {}: repeat the statement when they run", missing(.0))]
    NoLeader(Vec<String>),
    /// Its file failed.
    #[error("the catalog has stopped: {0}")]
    Stopped(String),
    /// Raft refuses.
    #[error("the catalog's raft group: {0}")]
    Raft(String),
    /// The snapshot on disk is not readable.
    #[error("the catalog's snapshot cannot be read: it was written by another version or is damaged")]
    Snapshot,
    /// This aggregator is one no longer.
    #[error("this aggregator was removed from the region: connect to another one, {}", .0.join(", "))]
    Removed(Vec<String>),
    /// The master answers something else.
    #[error("the master aggregator is not asked: {0}")]
    Refused(String),
}

fn missing(aggregators: &[String]) -> String {
    match aggregators {
        [] => "one is being elected".into(),
        some => format!("missing are {}", some.join(", ")),
    }
}

impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> CatalogError {
        CatalogError::Stopped(error.to_string())
    }
}

/// How this aggregator stands in the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This aggregator.
    pub node: NodeId,
    /// Raft's term.
    pub term: u64,
    /// Who leads, as far as is known here.
    pub leader: Option<NodeId>,
    /// The term in which this node leads, once it has applied everything that was decided before.
    pub leads: Option<u64>,
    /// The last entry that is applied here.
    pub applied: u64,
    /// The group.
    pub members: Members,
}

impl Status {
    /// Nothing is known yet.
    pub fn new(node: NodeId) -> Status {
        Status { node, term: 0, leader: None, leads: None, applied: 0, members: Members::default() }
    }
}

/// How a catalog starts.
pub struct CatalogOptions<'a> {
    /// Where its file is.
    pub dir: &'a Path,
    /// This aggregator's number in the group, from 1.
    pub node: NodeId,
    /// What stands for the state until there is one.
    pub empty: State,
    /// A new file becomes a group of one; otherwise it waits to be added to one.
    pub found: bool,
    /// How long a command waits for a master.
    pub wait: Duration,
}

/// What the catalog knows of other aggregators, and how it reaches the master among them.
pub trait Group: Send + Sync + 'static {
    /// Members with which there is a session.
    fn reached(&self) -> std::collections::BTreeSet<NodeId>;

    /// Members whose host refused a session: when the last such attempt began. No process of then lives.
    fn refused(&self) -> std::collections::BTreeMap<NodeId, Instant>;

    /// Calls to the master.
    fn calls(&self) -> &MasterCalls;
}

/// The queue into a catalog's thread, for the network to have before the catalog is open.
pub struct Inputs {
    sender: mpsc::SyncSender<Input>,
    receiver: mpsc::Receiver<Input>,
}

impl Inputs {
    /// An empty queue.
    pub fn new() -> Inputs {
        let (sender, receiver) = mpsc::sync_channel(INPUTS_MAX);
        Inputs { sender, receiver }
    }

    /// Puts things in; what finds no room is lost.
    pub fn sender(&self) -> mpsc::SyncSender<Input> {
        self.sender.clone()
    }
}

impl Default for Inputs {
    fn default() -> Inputs {
        Inputs::new()
    }
}

/// A handle on the catalog of this aggregator. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    inputs: mpsc::SyncSender<Input>,
    permits: Arc<Semaphore>,
    states: watch::Receiver<Arc<State>>,
    status: watch::Receiver<Arc<Status>>,
    group: Option<Arc<dyn Group>>,
    wait: Duration,
    /// Another aggregator has said that this one was removed. The command itself may never arrive here.
    told_removed: Arc<AtomicBool>,
}

impl Catalog {
    /// Opens the catalog. Without a `group` it is alone.
    pub fn open(
        options: CatalogOptions<'_>,
        inputs: Inputs,
        network: Box<dyn Network>,
        group: Option<Arc<dyn Group>>,
    ) -> Result<Catalog, CatalogError> {
        let CatalogOptions { dir, node, empty, found, wait } = options;
        let (store, stored) = Store::open(&dir.join("catalog.redb"))?;
        let founded = found.then(|| empty.clone());
        let (mut driver, watchers) = Driver::new(store, stored, node, founded, empty, network)?;
        driver.lead_alone()?;
        let Inputs { sender, receiver } = inputs;
        let thread = std::thread::Builder::new().name("catalog".into());
        thread.spawn(move || driver.run(receiver)).map_err(|error| CatalogError::Stopped(error.to_string()))?;
        let permits = Arc::new(Semaphore::new(PROPOSALS_MAX));
        let (states, status, told_removed) = (watchers.states, watchers.status, Arc::default());
        Ok(Catalog { inputs: sender, permits, states, status, group, wait, told_removed })
    }

    /// Whether a directory holds a catalog that belongs to a group.
    pub fn exists(dir: &Path) -> Result<bool, CatalogError> {
        let path = dir.join("catalog.redb");
        if !path.exists() {
            return Ok(false);
        }
        let (_, stored) = Store::open(&path)?;
        Ok(stored.snapshot_meta.index > 0)
    }

    /// Decides a command, at the master, wherever that is. The outer error: it is not known whether it was decided.
    pub async fn propose(&self, command: Command) -> Result<Result<Outcome, Refusal>, CatalogError> {
        let id: u128 = rand::random();
        let request = MasterRequest::Propose { id, command: Box::new(command.clone()) };
        let here = || async {
            match self.decide_as(id, command.clone(), None).await {
                Err(CatalogError::Moved) => None,
                decided => Some(decided),
            }
        };
        let take = |answer| match answer {
            MasterAnswer::Proposed { outcome, index } => Ok(Ok(Decision { outcome, index })),
            other => Err(Box::new(other)),
        };
        let Decision { outcome, index } = self.at_master(&request, DECIDE_TIME, here, take).await??;
        self.applied(index).await?;
        Ok(outcome)
    }

    /// Decides a command that is based on what the master alone knows: here, in this office, or not at all.
    pub async fn decide(&self, term: u64, command: Command) -> Result<Result<Outcome, Refusal>, CatalogError> {
        self.decide_as(rand::random(), command, Some(term)).await.map(|decision| decision.outcome)
    }

    /// Decides a command here under the number of its proposal, as another aggregator asks.
    pub(super) async fn decide_as(
        &self,
        id: u128,
        command: Command,
        term: Option<u64>,
    ) -> Result<Decision, CatalogError> {
        let _permit = self.permits.acquire().await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Propose(Box::new(Proposal { id, command, term, reply })))?;
        answer.await.map_err(|_| stopped())?
    }

    /// Asks a majority, from now on, whether this aggregator is the master: in which office it is.
    pub async fn office(&self) -> Result<u64, CatalogError> {
        let (reply, answer) = oneshot::channel();
        self.tell(Input::Read(reply))?;
        answer.await.map_err(|_| stopped())?
    }

    /// Asks the master what is decided by now, and waits until that is applied here.
    pub async fn catch_up(&self) -> Result<(), CatalogError> {
        let here = || async { self.office().await.ok().map(|_| 0) };
        let take = |answer| match answer {
            MasterAnswer::Applied(index) => Ok(index),
            other => Err(Box::new(other)),
        };
        let index = self.at_master(&MasterRequest::Applied, DECIDE_TIME, here, take).await?;
        self.applied(index).await
    }

    /// Has something done at the master: by `here` if that is this aggregator (`None`: it turned out not to be), else by a
    /// call. It is tried again, for harm in that there must be none, until no master has been found for a while.
    pub async fn at_master<T, F: Future<Output = Option<T>>>(
        &self,
        request: &MasterRequest,
        limit: Duration,
        here: impl Fn() -> F,
        take: impl Fn(MasterAnswer) -> Result<T, Box<MasterAnswer>>,
    ) -> Result<T, CatalogError> {
        let mut away_since = None;
        loop {
            let (status, begun) = (self.status(), Instant::now());
            if let Some(removed) = self.removed() {
                return Err(removed);
            }
            if status.leads.is_some() {
                if let Some(done) = here().await {
                    return Ok(done);
                }
            } else if let Some(group) = &self.group {
                match group.calls().call(self.leader_address(&status), request, limit).await {
                    Ok(MasterAnswer::NotMaster { .. } | MasterAnswer::NotNow(_)) => {}
                    Ok(MasterAnswer::Removed) => self.told_removed.store(true, Ordering::Relaxed),
                    Ok(answer) => {
                        return take(answer).map_err(|other| CatalogError::Refused(format!("it answered {other:?}")));
                    }
                    Err(reason) => tracing::debug!(reason, "the master is asked again"),
                }
            }
            // What was done for so long was lost just now.
            away_since = away_since.filter(|_| begun.elapsed() < self.wait);
            let away: Instant = *away_since.get_or_insert_with(Instant::now);
            if away.elapsed() >= self.wait {
                return Err(CatalogError::NoLeader(self.missing()));
            }
            let mut changes = self.status.clone();
            // An error: the thread has ended, which the next attempt says.
            let _ = tokio::time::timeout(RETRY_TIME, changes.changed()).await;
        }
    }

    /// One call to the master, if it is another aggregator.
    pub async fn call_once(&self, request: &MasterRequest, limit: Duration) -> MasterAnswer {
        let Some(group) = &self.group else { return MasterAnswer::NotMaster { leader: None } };
        let answer = group.calls().call(self.leader_address(&self.status()), request, limit).await;
        if let Ok(MasterAnswer::Removed) = answer {
            self.told_removed.store(true, Ordering::Relaxed);
        }
        answer.unwrap_or_else(MasterAnswer::NotNow)
    }

    /// An error once this aggregator was removed from the region, which names the others: what it knows is of the past.
    pub fn removed(&self) -> Option<CatalogError> {
        let (state, own) = (self.state(), self.status().node);
        let removed = state.nodes.get(&own).is_some_and(|known| known.removed);
        if !removed && !self.told_removed.load(Ordering::Relaxed) {
            return None;
        }
        let others = state.group().filter(|(node, _)| *node != own);
        let name = |(_, node): (NodeId, &Node)| node.addresses.known_by().to_string();
        Some(CatalogError::Removed(others.map(name).collect()))
    }

    /// Where the master is, as far as is known here.
    pub fn leader(&self) -> Option<String> {
        self.leader_address(&self.status())
    }

    fn leader_address(&self, status: &Status) -> Option<String> {
        let leader = status.leader.filter(|leader| *leader != status.node)?;
        self.state().nodes.get(&leader).map(|node| node.addresses.rpc.clone())
    }

    /// Waits until an entry is applied here.
    async fn applied(&self, index: u64) -> Result<(), CatalogError> {
        let mut status = self.status.clone();
        let reached = tokio::time::timeout(self.wait, status.wait_for(|status| status.applied >= index)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(stopped()),
            Err(_) => Err(CatalogError::NoLeader(self.missing())),
        }
    }

    /// Voters that cannot be reached, by their SQL addresses.
    pub fn missing(&self) -> Vec<String> {
        let (status, state) = (self.status(), self.state());
        let reached = self.reached();
        let away = status.members.voters.iter().filter(|node| **node != status.node && !reached.contains(node));
        let name = |node: &NodeId| {
            let addresses = state.nodes.get(node).map(|known| &known.addresses);
            addresses.map_or_else(|| format!("node {node}"), |known| known.known_by().to_string())
        };
        away.map(name).collect()
    }

    /// Whether so many voters can be reached that they may decide.
    pub fn has_majority(&self) -> bool {
        let (status, reached) = (self.status(), self.reached());
        let voters = &status.members.voters;
        let there = voters.iter().filter(|node| **node == status.node || reached.contains(node)).count();
        there > voters.len() / 2
    }

    /// Other aggregators with which there is a session.
    pub fn reached(&self) -> std::collections::BTreeSet<NodeId> {
        self.group.as_ref().map(|group| group.reached()).unwrap_or_default()
    }

    /// Other aggregators whose host refused a session: when the last such attempt began. No process of then lives.
    pub fn refused(&self) -> std::collections::BTreeMap<NodeId, Instant> {
        self.group.as_ref().map(|group| group.refused()).unwrap_or_default()
    }

    /// Has another voter lead, if this aggregator is the master.
    pub fn hand_over(&self, node: NodeId) -> Result<(), CatalogError> {
        self.tell(Input::Transfer(node))
    }

    fn tell(&self, input: Input) -> Result<(), CatalogError> {
        self.inputs.try_send(input).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => CatalogError::Moved,
            mpsc::TrySendError::Disconnected(_) => stopped(),
        })
    }

    /// The state as of the last command that was applied here.
    pub fn state(&self) -> Arc<State> {
        self.states.borrow().clone()
    }

    /// Waits for changes.
    pub fn changes(&self) -> watch::Receiver<Arc<State>> {
        self.states.clone()
    }

    /// How this aggregator stands in the group.
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// Waits for changes of that.
    pub fn standing(&self) -> watch::Receiver<Arc<Status>> {
        self.status.clone()
    }
}

fn stopped() -> CatalogError {
    CatalogError::Stopped("its thread has ended, see the log".into())
}
