//! The thread that owns the raft group: takes proposals, persists what raft is ready with, applies what is committed.
//!
//! One loop, one owner: nothing else touches raft or the file. A command is answered after its entry is on disk,
//! committed and applied. A file that cannot be written ends the thread; every proposal then fails with that reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::catalog::event::UnixMillis;
use ::catalog::{Command, Outcome, Refusal, State};
use raft::eraftpb::{Entry, EntryType, SnapshotMetadata};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use tokio::sync::{oneshot, watch};

use super::catalog::CatalogError;
use super::store::{Store, StoreError, Stored, sole_voter};
use crate::codec;

/// Raft's clock: an election takes ten of them at the least.
const TICK: Duration = Duration::from_millis(50);
/// Entries kept in the log before a snapshot replaces them.
const ENTRIES_MAX: u64 = 10_000;

/// A command to be decided, and who waits for it.
pub(super) struct Proposal {
    pub command: Command,
    pub reply: oneshot::Sender<Result<Result<Outcome, Refusal>, CatalogError>>,
}

/// What an entry of the raft log holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Decided {
    at: UnixMillis,
    command: Command,
}

/// The owner of the raft group.
pub(super) struct Driver {
    node: RawNode<MemStorage>,
    storage: MemStorage,
    store: Store,
    state: State,
    applied: u64,
    compacted: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Result<Result<Outcome, Refusal>, CatalogError>>>,
    next_proposal: u64,
    states: watch::Sender<Arc<State>>,
}

impl Driver {
    /// Goes on from what is on disk; a new file becomes a group of one around `empty`.
    pub fn new(
        store: Store,
        stored: Stored,
        node: u64,
        empty: State,
    ) -> Result<(Driver, watch::Receiver<Arc<State>>), CatalogError> {
        let (meta, snapshot) = if stored.snapshot_meta.index == 0 {
            let (meta, bytes) = (sole_voter(node), codec::encode(&empty));
            store.compact(&meta, &bytes)?;
            (meta, bytes)
        } else {
            (stored.snapshot_meta, stored.snapshot)
        };
        let state: State = codec::decode(&snapshot).map_err(|_| CatalogError::Snapshot)?;
        let storage = MemStorage::new();
        let applied = meta.index;
        let commit = stored.hard_state.commit.max(meta.index);
        {
            let mut core = storage.wl();
            let snapshot = raft::eraftpb::Snapshot { metadata: Some(meta), data: vec![] };
            core.apply_snapshot(snapshot).map_err(|error| CatalogError::Raft(error.to_string()))?;
            core.append(&stored.entries).map_err(|error| CatalogError::Raft(error.to_string()))?;
            let mut hard_state = stored.hard_state;
            hard_state.commit = commit;
            hard_state.term = hard_state.term.max(1);
            core.set_hardstate(hard_state);
        }
        let config = Config {
            id: node,
            election_tick: 10,
            heartbeat_tick: 2,
            applied,
            max_size_per_msg: 1 << 20,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node =
            RawNode::new(&config, storage.clone(), &logger).map_err(|error| CatalogError::Raft(error.to_string()))?;
        let (states, watcher) = watch::channel(Arc::new(state.clone()));
        let driver = Driver {
            node,
            storage,
            store,
            state,
            applied,
            compacted: applied,
            waiting: BTreeMap::new(),
            next_proposal: 0,
            states,
        };
        Ok((driver, watcher))
    }

    /// Alone in its group it leads at once, and has applied everything that is in its log when this returns.
    pub fn lead_alone(&mut self) -> Result<(), CatalogError> {
        if self.node.raft.prs().iter().count() == 1 {
            self.node.campaign().map_err(|error| CatalogError::Raft(error.to_string()))?;
            self.advance()?;
        }
        Ok(())
    }

    /// Runs until every handle is gone, or the file fails.
    pub fn run(mut self, proposals: Receiver<Proposal>) {
        loop {
            match proposals.recv_timeout(TICK) {
                Ok(proposal) => {
                    self.propose(proposal);
                    while let Ok(more) = proposals.try_recv() {
                        self.propose(more);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.node.tick();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Err(error) = self.advance() {
                tracing::error!(%error, "the catalog stops: its file cannot be written");
                let reason = error.to_string();
                for (_, reply) in std::mem::take(&mut self.waiting) {
                    let _ = reply.send(Err(CatalogError::Stopped(reason.clone())));
                }
                return;
            }
        }
    }

    fn propose(&mut self, proposal: Proposal) {
        if self.node.raft.state != StateRole::Leader {
            // A group of one elects itself within a tick.
            let _ = self.node.campaign();
            if self.advance().is_err() || self.node.raft.state != StateRole::Leader {
                let _ = proposal.reply.send(Err(CatalogError::NoLeader));
                return;
            }
        }
        self.next_proposal += 1;
        let id = self.next_proposal;
        let decided = Decided { at: wall_clock(), command: proposal.command };
        match self.node.propose(id.to_le_bytes().to_vec(), codec::encode(&decided)) {
            Ok(()) => {
                self.waiting.insert(id, proposal.reply);
            }
            Err(error) => {
                let _ = proposal.reply.send(Err(CatalogError::Raft(error.to_string())));
            }
        }
    }

    fn advance(&mut self) -> Result<(), StoreError> {
        while self.node.has_ready() {
            let mut ready = self.node.ready();
            let committed = ready.take_committed_entries();
            self.apply(committed);
            self.store.save(ready.entries(), ready.hs())?;
            {
                let mut core = self.storage.wl();
                core.append(ready.entries()).expect("raft hands over entries without a gap");
                if let Some(hard_state) = ready.hs() {
                    core.set_hardstate(hard_state.clone());
                }
            }
            let mut light = self.node.advance(ready);
            if let Some(commit) = light.commit_index() {
                self.storage.wl().mut_hard_state().commit = commit;
            }
            let committed = light.take_committed_entries();
            self.apply(committed);
            self.node.advance_apply();
        }
        self.compact_if_due()
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        let (mut changed, mut replies) = (false, vec![]);
        for entry in entries {
            self.applied = entry.index;
            if entry.data.is_empty() || entry.entry_type() != EntryType::EntryNormal {
                continue;
            }
            let decided: Decided = codec::decode(&entry.data).expect("an entry holds what was proposed");
            let outcome = self.state.apply(decided.at, &decided.command);
            changed |= outcome.is_ok();
            let id = entry.context.as_slice().try_into().map(u64::from_le_bytes);
            // The entry of an earlier process may have the number of one that waits here: terms tell them apart.
            if entry.term == self.node.raft.term
                && let Some(reply) = id.ok().and_then(|id| self.waiting.remove(&id))
            {
                replies.push((reply, outcome));
            }
        }
        if changed {
            self.states.send_replace(Arc::new(self.state.clone()));
        }
        // Whoever is answered finds its command in the state.
        for (reply, outcome) in replies {
            let _ = reply.send(Ok(outcome));
        }
    }

    fn compact_if_due(&mut self) -> Result<(), StoreError> {
        if self.applied < self.compacted + ENTRIES_MAX {
            return Ok(());
        }
        let conf_state = self.node.raft.prs().conf().to_conf_state();
        let term = raft::storage::Storage::term(&self.storage, self.applied).unwrap_or(self.node.raft.term);
        let meta = SnapshotMetadata { conf_state: Some(conf_state), index: self.applied, term };
        self.store.compact(&meta, &codec::encode(&self.state))?;
        self.storage.wl().compact(self.applied).expect("what is applied is in the log");
        self.compacted = self.applied;
        Ok(())
    }
}

fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
