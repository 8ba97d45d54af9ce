//! The thread that owns this aggregator's part of the raft group: takes proposals and messages, persists what raft is
//! ready with, applies what is committed.
//!
//! One loop, one owner: nothing else touches raft or the file. It waits for nobody: messages go into bounded queues of
//! the network and may be lost. A command is answered after its entry is on disk of a majority, committed and applied
//! here. A file that cannot be written ends the thread; every proposal then fails with that reason.

mod decided;
mod reads;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ::catalog::State;
use prost::Message as _;
use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Config, ProgressState, RawNode, Ready, SnapshotStatus, StateRole};
use tokio::sync::{oneshot, watch};
use types::NodeId;

use self::decided::Decided;
pub(crate) use self::decided::wall_clock;
pub(super) use self::decided::{Decision, Proposal};
use self::reads::Reads;
use super::catalog::{CatalogError, Status};
use super::log::{Applied, Log};
use super::members::{self, Change, Members, Reached};
use super::store::{Store, StoreError, Stored, sole_voter};
use crate::codec;

/// Raft's clock.
const TICK: Duration = Duration::from_millis(50);
/// Ticks without a word of the leader before an election; each member adds a random part of as many. A disk that stalls
/// for half a second must not cost the leader its office.
const ELECTION_TICKS: usize = 12;
/// Ticks between two heartbeats of the leader.
const HEARTBEAT_TICKS: usize = 2;
/// Entries applied before a snapshot replaces them on disk.
const ENTRIES_MAX: u64 = 10_000;
/// Of those, how many stay in memory: who is behind by less needs no snapshot.
const ENTRIES_KEPT: u64 = 2_000;
/// Inputs that are taken before raft is asked what it is ready with.
const BATCH_MAX: usize = 256;

/// Takes messages to other members. Must not wait; a message that cannot be queued is lost.
pub trait Network: Send + 'static {
    /// Sends it, perhaps.
    fn send(&self, message: Message);
}

/// What the thread is told.
pub enum Input {
    /// Decide a command.
    Propose(Box<Proposal>),
    /// Who asks wants to know whether this node leads, as of now or later: the term in which it does.
    Read(oneshot::Sender<Result<u64, CatalogError>>),
    /// Another member's message.
    Message(Box<Message>),
    /// Messages to a member were lost.
    Unreachable(NodeId),
    /// The process that led is proved gone: an election may begin at once.
    Gone(NodeId),
    /// Another member shall lead.
    Transfer(NodeId),
}

/// The owner of the raft group.
pub(super) struct Driver {
    node: RawNode<Log>,
    log: Log,
    store: Store,
    state: State,
    network: Box<dyn Network>,
    compacted: u64,
    decided: Decided,
    reads: Reads,
    /// The last term in which this node was elected, and whether all that was decided before is applied.
    leads: Option<u64>,
    states: watch::Sender<Arc<State>>,
    status: watch::Sender<Arc<Status>>,
}

/// What those who wait for the driver watch.
pub(super) struct Watchers {
    pub states: watch::Receiver<Arc<State>>,
    pub status: watch::Receiver<Arc<Status>>,
}

impl Driver {
    /// Goes on from what is on disk. A new file becomes a group of one around `found`; without it, it waits for a leader
    /// to send what there is, and `empty` stands for that.
    pub fn new(
        store: Store,
        stored: Stored,
        node: NodeId,
        found: Option<State>,
        empty: State,
        network: Box<dyn Network>,
    ) -> Result<(Driver, Watchers), CatalogError> {
        let raft = |error: raft::Error| CatalogError::Raft(error.to_string());
        let (meta, state) = match (stored.snapshot_meta.index, found) {
            (0, Some(found)) => {
                let meta = sole_voter(node.0);
                store.compact(&meta, &codec::encode(&found))?;
                (meta, found)
            }
            (0, None) => (stored.snapshot_meta, empty),
            _ => {
                let state = codec::decode(&stored.snapshot).map_err(|_| CatalogError::Snapshot)?;
                (stored.snapshot_meta, state)
            }
        };
        let members = meta.conf_state.clone().unwrap_or_default();
        let published = Arc::new(state.clone());
        let applied = Applied { state: published.clone(), index: meta.index, term: meta.term, members };
        let log = Log::new(applied, &stored.entries, stored.hard_state).map_err(raft)?;
        let config = Config {
            id: node.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: meta.index,
            max_size_per_msg: 1 << 20,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raft_node = RawNode::new(&config, log.clone(), &logger).map_err(raft)?;
        let (states, states_watch) = watch::channel(published);
        let (status, status_watch) = watch::channel(Arc::new(Status::new(node)));
        let driver = Driver {
            node: raft_node,
            log,
            store,
            state,
            network,
            compacted: meta.index,
            decided: Decided::default(),
            reads: Reads::default(),
            leads: None,
            states,
            status,
        };
        driver.tell_status();
        Ok((driver, Watchers { states: states_watch, status: status_watch }))
    }

    /// Alone in its group it leads at once, and has applied everything that is in its log when this returns.
    pub fn lead_alone(&mut self) -> Result<(), CatalogError> {
        let members = self.node.raft.prs().conf().to_conf_state();
        if members.voters == [self.node.raft.id] {
            self.node.campaign().map_err(|error| CatalogError::Raft(error.to_string()))?;
            self.advance()?;
        }
        Ok(())
    }

    /// Runs until every handle is gone, or the file fails.
    pub fn run(mut self, inputs: Receiver<Input>) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            match inputs.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(input) => {
                    self.take(input);
                    inputs.try_iter().take(BATCH_MAX).for_each(|input| self.take(input));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next_tick {
                // Ticks that were missed are not made up for: the time in which nothing was read is nobody's silence.
                next_tick = Instant::now() + TICK;
                self.node.tick();
                self.change_members();
            }
            if let Err(error) = self.advance() {
                tracing::error!(%error, "the catalog stops: its file cannot be written");
                let reason = error.to_string();
                self.decided.fail_all(&CatalogError::Stopped(reason.clone()));
                self.reads.fail_all(&CatalogError::Stopped(reason));
                return;
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Propose(proposal) => self.propose(*proposal),
            Input::Read(reply) => match self.node.raft.state {
                StateRole::Leader => self.reads.ask(reply),
                _ => drop(reply.send(Err(CatalogError::Moved))),
            },
            Input::Message(message) => {
                // A refused message is one of an old term or of a node that is no member: nothing is lost with it.
                if let Err(error) = self.node.step(*message) {
                    tracing::debug!(%error, "a message of another aggregator is not taken");
                }
            }
            Input::Unreachable(node) => {
                self.node.report_unreachable(node.0);
                self.node.report_snapshot(node.0, SnapshotStatus::Failure);
            }
            Input::Gone(node) => self.on_gone(node),
            Input::Transfer(node) => self.node.transfer_leader(node.0),
        }
    }

    /// The leader's process is gone for sure: nobody need wait until it would have been silent for long enough. The
    /// message is the one by which a leader hands over: the others vote although they may have heard the leader of late.
    /// One of those who are left makes use of it, so that votes are not split; the others time out as ever.
    fn on_gone(&mut self, node: NodeId) {
        let (raft, voters) = (&self.node.raft, self.members().voters);
        let is_first = voters.iter().find(|voter| **voter != node) == Some(&NodeId(raft.id));
        if raft.leader_id != node.0 || raft.state != StateRole::Follower || !is_first {
            return;
        }
        let message = Message {
            msg_type: MessageType::MsgTimeoutNow.into(),
            from: node.0,
            to: raft.id,
            term: raft.term,
            ..Message::default()
        };
        if let Err(error) = self.node.step(message) {
            tracing::debug!(%error, "no election yet");
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        let leads = self.leads.filter(|_| self.node.raft.state == StateRole::Leader);
        let in_office = leads.is_some() && proposal.term.is_none_or(|term| leads == Some(term));
        if !in_office {
            drop(proposal.reply.send(Err(CatalogError::Moved)));
            return;
        }
        let Some((id, entry)) = self.decided.begin(proposal) else { return };
        if let Err(error) = self.node.propose(id.to_le_bytes().to_vec(), entry) {
            tracing::debug!(%error, "raft takes no command at the moment");
            self.decided.fail(id, &CatalogError::Moved);
        }
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        if self.leads.is_some() && self.reads.are_new() && self.node.raft.state == StateRole::Leader {
            self.node.read_index(self.reads.begin());
        }
        while self.node.has_ready() {
            // Whoever sees in the state what another master has decided sees before that this one is none.
            self.tell_status();
            let mut ready = self.node.ready();
            self.send(ready.take_messages());
            self.persist(&mut ready)?;
            self.send(ready.take_persisted_messages());
            self.reads.answered(ready.read_states());
            let committed = ready.take_committed_entries();
            self.apply(committed)?;
            let mut light = self.node.advance(ready);
            self.send(light.take_messages());
            if let Some(commit) = light.commit_index() {
                self.log.commit(commit);
            }
            let committed = light.take_committed_entries();
            self.apply(committed)?;
            self.node.advance_apply();
        }
        self.watch_office();
        self.tell_status();
        if let Some(term) = self.leads {
            self.reads.finish(self.log.applied().index, term);
        }
        self.compact_if_due()
    }

    fn persist(&mut self, ready: &mut Ready) -> Result<(), StoreError> {
        if *ready.snapshot() != Snapshot::default() {
            self.install(ready)?;
        }
        if !ready.entries().is_empty() || ready.hs().is_some() {
            // Raft has no new hard state for what a leader commits: without it the next process would know less.
            let hard_state = ready.hs().cloned().unwrap_or_else(|| self.log.hard_state());
            self.store.save(ready.entries(), &hard_state)?;
            self.log.append(ready.entries());
            self.log.set_hard_state(hard_state);
        }
        Ok(())
    }

    /// The leader has sent everything, for it has the entries no longer that are missing here.
    fn install(&mut self, ready: &Ready) -> Result<(), StoreError> {
        let Snapshot { metadata, data } = ready.snapshot().clone();
        let meta = metadata.unwrap_or_default();
        self.state = codec::decode(&data).map_err(|_| self.store.content("the leader's snapshot"))?;
        self.store.install(&meta, &data, ready.hs())?;
        let members = meta.conf_state.clone().unwrap_or_default();
        let applied = Applied { state: Arc::new(self.state.clone()), index: meta.index, term: meta.term, members };
        tracing::info!(index = meta.index, "the catalog was sent by the leader");
        self.states.send_replace(applied.state.clone());
        self.log.install(applied).expect("raft takes no snapshot that is older than the log");
        self.compacted = meta.index;
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let Some(last) = entries.last().map(|last| (last.index, last.term)) else { return Ok(()) };
        let (mut changed, mut replies, mut members) = (false, vec![], None);
        for entry in entries {
            match entry.entry_type() {
                EntryType::EntryNormal if entry.data.is_empty() => {}
                EntryType::EntryNormal => {
                    let (id, command) = decided::read(&entry);
                    let outcome = self.state.apply(command.at, &command.command);
                    changed |= outcome.is_ok();
                    replies.extend(self.decided.end(id, Decision { outcome, index: entry.index }));
                }
                EntryType::EntryConfChange => members = Some(self.apply_members(&entry)),
                EntryType::EntryConfChangeV2 => unreachable!("members are changed one at a time"),
            }
        }
        let before = self.log.applied();
        let state = if changed { Arc::new(self.state.clone()) } else { before.state };
        let joined = members.is_some();
        let members = members.unwrap_or(before.members);
        self.log.apply(Applied { state: state.clone(), index: last.0, term: last.1, members });
        if changed {
            self.states.send_replace(state);
        }
        if joined {
            // Who votes is on disk before anybody relies on it.
            self.compact()?;
        }
        self.tell_status();
        // Whoever is answered finds its command in the state.
        for (reply, decision) in replies {
            let _ = reply.send(Ok(decision));
        }
        Ok(())
    }

    fn apply_members(&mut self, entry: &Entry) -> ConfState {
        let change = ConfChange::decode(&*entry.data).expect("an entry holds what was proposed");
        tracing::info!(node = change.node_id, change = ?change.change_type(), "the catalog's members change");
        self.node.apply_conf_change(&change).expect("a change of one member is always possible")
    }

    /// Notices that an office begins, and when all that was decided before it is applied; and that it ends.
    fn watch_office(&mut self) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            if self.leads.take().is_some() {
                tracing::info!(term = raft.term, "another aggregator is the master");
            }
            self.decided.fail_all(&CatalogError::Moved);
            self.reads.fail_all(&CatalogError::Moved);
            return;
        }
        if self.leads != Some(raft.term) && self.log.applied().term == raft.term {
            tracing::info!(term = raft.term, "this aggregator is the master");
            self.decided.fail_all(&CatalogError::Moved);
            self.reads.fail_all(&CatalogError::Moved);
            self.leads = Some(raft.term);
        }
    }

    fn change_members(&mut self) {
        if self.leads.is_none() || self.node.raft.state != StateRole::Leader || self.node.raft.has_pending_conf() {
            return;
        }
        let status = self.members();
        let raft = &self.node.raft;
        let of = |(id, progress): (&u64, &raft::Progress)| {
            let alive = progress.recent_active && progress.state != ProgressState::Snapshot;
            (NodeId(*id), Reached { matched: progress.matched, alive })
        };
        let reached: BTreeMap<NodeId, Reached> = raft.prs().iter().map(of).collect();
        let (leader, last) = (NodeId(raft.id), raft.raft_log.last_index());
        let Some(change) = members::next(&self.state, &status, leader, &reached, last) else { return };
        let (kind, node) = match change {
            Change::Learn(node) => (ConfChangeType::AddLearnerNode, node),
            Change::Vote(node) => (ConfChangeType::AddNode, node),
            Change::Leave(node) => (ConfChangeType::RemoveNode, node),
            Change::Lead(node) => return self.node.transfer_leader(node.0),
        };
        let change = ConfChange { change_type: kind.into(), node_id: node.0, ..ConfChange::default() };
        if let Err(error) = self.node.propose_conf_change(vec![], change) {
            tracing::debug!(%error, "the catalog's members change later");
        }
    }

    fn members(&self) -> Members {
        let members = self.node.raft.prs().conf().to_conf_state();
        let ids = |list: &[u64]| list.iter().map(|id| NodeId(*id)).collect();
        Members { voters: ids(&members.voters), learners: ids(&members.learners) }
    }

    fn compact_if_due(&mut self) -> Result<(), StoreError> {
        if self.log.applied().index < self.compacted + ENTRIES_MAX { Ok(()) } else { self.compact() }
    }

    fn compact(&mut self) -> Result<(), StoreError> {
        let applied = self.log.applied();
        self.store.compact(&applied.meta(), &codec::encode(&*applied.state))?;
        self.compacted = applied.index;
        self.log.forget_below(applied.index.saturating_sub(ENTRIES_KEPT));
        Ok(())
    }

    fn send(&self, messages: Vec<Message>) {
        messages.into_iter().for_each(|message| self.network.send(message));
    }

    fn tell_status(&self) {
        let raft = &self.node.raft;
        let now = Status {
            node: NodeId(raft.id),
            term: raft.term,
            leader: Some(raft.leader_id).filter(|id| *id > 0).map(NodeId),
            leads: self.leads.filter(|term| raft.state == StateRole::Leader && raft.term == *term),
            applied: self.log.applied().index,
            members: self.members(),
        };
        self.status.send_if_modified(|known| {
            let changed = **known != now;
            if changed {
                *known = Arc::new(now);
            }
            changed
        });
    }
}
