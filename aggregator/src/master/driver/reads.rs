//! Questions whether this node leads: asked of a majority after they arrived, many in one round.

use raft::ReadState;
use tokio::sync::oneshot;

use crate::master::CatalogError;

type Reply = oneshot::Sender<Result<u64, CatalogError>>;

/// One round of heartbeats.
struct Round {
    number: u64,
    replies: Vec<Reply>,
    /// A majority has answered: who asked may go on when this entry is applied.
    index: Option<u64>,
}

/// All questions.
#[derive(Default)]
pub struct Reads {
    new: Vec<Reply>,
    rounds: Vec<Round>,
    last: u64,
}

impl Reads {
    /// One more.
    pub fn ask(&mut self, reply: Reply) {
        self.new.push(reply);
    }

    /// Whether a round is to begin.
    pub fn are_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// Begins a round for all that are new: its name.
    pub fn begin(&mut self) -> Vec<u8> {
        self.last += 1;
        self.rounds.push(Round { number: self.last, replies: std::mem::take(&mut self.new), index: None });
        self.last.to_le_bytes().to_vec()
    }

    /// Rounds that a majority has answered. A round answers those before it, too.
    pub fn answered(&mut self, states: &[ReadState]) {
        for state in states {
            let number = state.request_ctx.as_slice().try_into().map_or(0, u64::from_le_bytes);
            for round in self.rounds.iter_mut().filter(|round| round.number <= number && round.index.is_none()) {
                round.index = Some(state.index);
            }
        }
    }

    /// Answers those for whom enough is applied.
    pub fn finish(&mut self, applied: u64, term: u64) {
        let is_done = |round: &mut Round| round.index.is_some_and(|index| index <= applied);
        for round in self.rounds.extract_if(.., is_done) {
            for reply in round.replies {
                let _ = reply.send(Ok(term));
            }
        }
    }

    /// Nobody is told that this node leads.
    pub fn fail_all(&mut self, error: &CatalogError) {
        let rounds = std::mem::take(&mut self.rounds).into_iter().flat_map(|round| round.replies);
        for reply in std::mem::take(&mut self.new).into_iter().chain(rounds) {
            let _ = reply.send(Err(error.clone()));
        }
    }
}
