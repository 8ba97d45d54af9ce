//! Commands on their way, and what became of the last ones: a command that is proposed again, because its answer was lost
//! with a leader, is not decided twice.
//!
//! A leader takes commands only after it has applied everything that was decided before its office, so it has seen every
//! command that it may be asked to repeat, unless thousands of others came since; then it is the command's own business
//! that repeating it does no harm.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{SystemTime, UNIX_EPOCH};

use ::catalog::event::UnixMillis;
use ::catalog::{Command, Outcome, Refusal};
use raft::eraftpb::Entry;
use tokio::sync::oneshot;

use crate::codec;
use crate::master::CatalogError;

/// Commands whose outcome is remembered.
const REMEMBERED_MAX: usize = 8192;

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Done, or refused.
    pub outcome: Result<Outcome, Refusal>,
    /// The entry that decided it.
    pub index: u64,
}

/// Who waits for a decision.
pub type Reply = oneshot::Sender<Result<Decision, CatalogError>>;

/// A command to be decided, and who waits for it.
pub struct Proposal {
    /// Random bits: a repeated proposal has the same.
    pub id: u128,
    pub command: Command,
    /// It was made in this office, and means nothing in another.
    pub term: Option<u64>,
    pub reply: Reply,
}

/// What an entry of the raft log holds.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Timed {
    pub at: UnixMillis,
    pub command: Command,
}

/// An entry's command, and the number under which it was proposed.
pub fn read(entry: &Entry) -> (u128, Timed) {
    let timed: Timed = codec::decode(&entry.data).expect("an entry holds what was proposed");
    let id = entry.context.as_slice().try_into().map_or(0, u128::from_le_bytes);
    (id, timed)
}

/// All of them.
#[derive(Default)]
pub struct Decided {
    waiting: BTreeMap<u128, Vec<Reply>>,
    known: HashMap<u128, Decision>,
    order: VecDeque<u128>,
}

impl Decided {
    /// The entry to propose, unless the command is on its way or decided.
    pub fn begin(&mut self, proposal: Proposal) -> Option<(u128, Vec<u8>)> {
        let Proposal { id, command, reply, .. } = proposal;
        if let Some(decision) = self.known.get(&id) {
            let _ = reply.send(Ok(decision.clone()));
            return None;
        }
        let waiting = self.waiting.entry(id).or_default();
        waiting.push(reply);
        (waiting.len() == 1).then(|| (id, codec::encode(&Timed { at: wall_clock(), command })))
    }

    /// A command was decided: who is told.
    pub fn end(&mut self, id: u128, decision: Decision) -> Vec<(Reply, Decision)> {
        if self.known.insert(id, decision.clone()).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        let waiting = self.waiting.remove(&id).unwrap_or_default();
        waiting.into_iter().map(|reply| (reply, decision.clone())).collect()
    }

    /// It is not known here what becomes of a command.
    pub fn fail(&mut self, id: u128, error: &CatalogError) {
        for reply in self.waiting.remove(&id).unwrap_or_default() {
            let _ = reply.send(Err(error.clone()));
        }
    }

    /// The same of all that are on their way.
    pub fn fail_all(&mut self, error: &CatalogError) {
        for reply in std::mem::take(&mut self.waiting).into_values().flatten() {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

pub fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
