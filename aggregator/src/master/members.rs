//! Who belongs to the raft group: the leader brings it to what the catalog says, one change at a time.
//!
//! An aggregator that was added learns first, and votes once it has nearly all of the log. One that was removed leaves;
//! a leader that was removed hands over first. So whatever becomes of the aggregator that took the order, the next leader
//! carries it out.

use std::collections::{BTreeMap, BTreeSet};

use ::catalog::State;
use types::NodeId;

/// A learner that lacks no more entries than this may vote: they arrive within a moment.
const LAG_MAX: u64 = 64;

/// Who is in the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// A majority of them decides.
    pub voters: BTreeSet<NodeId>,
    /// They have the log and do not vote.
    pub learners: BTreeSet<NodeId>,
}

impl Members {
    /// Whether a node is in it.
    pub fn contains(&self, node: NodeId) -> bool {
        self.voters.contains(&node) || self.learners.contains(&node)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().chain(&self.learners).copied()
    }
}

/// What the leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It gets the log.
    Learn(NodeId),
    /// It votes.
    Vote(NodeId),
    /// It leaves.
    Leave(NodeId),
    /// It leads: who leads now is to leave.
    Lead(NodeId),
}

/// What the leader knows of a member's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The last entry that it is known to have.
    pub matched: u64,
    /// It was heard of late.
    pub alive: bool,
}

/// The next change that brings the group to what the catalog says; `None` when it is there, or has to wait.
pub fn next(
    state: &State,
    members: &Members,
    leader: NodeId,
    reached: &BTreeMap<NodeId, Reached>,
    last: u64,
) -> Option<Change> {
    let wanted: BTreeSet<NodeId> = state.group().map(|(id, _)| id).collect();
    if let Some(new) = wanted.iter().find(|node| !members.contains(**node)) {
        return Some(Change::Learn(*new));
    }
    let caught_up = |node: &&NodeId| reached.get(node).is_some_and(|r| r.alive && r.matched + LAG_MAX >= last);
    if let Some(learner) = members.learners.iter().filter(|node| wanted.contains(node)).find(caught_up) {
        return Some(Change::Vote(*learner));
    }
    if let Some(gone) = members.all().find(|node| !wanted.contains(node) && *node != leader) {
        return Some(Change::Leave(gone));
    }
    if wanted.contains(&leader) {
        return None;
    }
    members.voters.iter().filter(|node| **node != leader).find(caught_up).map(|node| Change::Lead(*node))
}

#[cfg(test)]
mod tests {
    use ::catalog::Command;
    use ::catalog::event::UnixMillis;
    use ::catalog::node::{Addresses, Roles};
    use types::ClusterId;

    use super::*;

    fn state(added: &[u64]) -> State {
        let mut state = State::new(ClusterId(1));
        for number in 1..=4 {
            let addresses = Addresses { rpc: format!("host:{number}"), sql: None, http: None };
            let roles = Roles { aggregator: true, leaf: false };
            let (identity, number) = (u128::from(number), Some(NodeId(number)));
            let register = Command::RegisterNode { number, identity, addresses, roles, group: None };
            state.apply(UnixMillis(1), &register).expect("it is new");
        }
        for node in added {
            state.apply(UnixMillis(1), &Command::AddAggregator { node: NodeId(*node) }).expect("it is known");
        }
        state
    }

    fn members(voters: &[u64], learners: &[u64]) -> Members {
        let ids = |numbers: &[u64]| numbers.iter().map(|number| NodeId(*number)).collect();
        Members { voters: ids(voters), learners: ids(learners) }
    }

    fn reached(matched: &[(u64, u64)]) -> BTreeMap<NodeId, Reached> {
        matched.iter().map(|(node, matched)| (NodeId(*node), Reached { matched: *matched, alive: true })).collect()
    }

    #[test]
    fn an_aggregator_learns_then_votes_when_it_has_the_log() {
        let state = state(&[1, 2]);
        let leader = NodeId(1);
        assert_eq!(next(&state, &members(&[1], &[]), leader, &reached(&[]), 500), Some(Change::Learn(NodeId(2))));
        let learning = members(&[1], &[2]);
        assert_eq!(next(&state, &learning, leader, &reached(&[(2, 10)]), 500), None, "it lacks entries");
        assert_eq!(next(&state, &learning, leader, &reached(&[(2, 490)]), 500), Some(Change::Vote(NodeId(2))));
        assert_eq!(next(&state, &members(&[1, 2], &[]), leader, &reached(&[]), 500), None);
    }

    #[test]
    fn a_removed_leader_hands_over_and_a_removed_member_leaves() {
        let mut state = state(&[1, 2, 3]);
        let all = members(&[1, 2, 3], &[]);
        state.apply(UnixMillis(1), &Command::RemoveNode { node: NodeId(1) }).expect("it may go");
        let near = reached(&[(2, 500), (3, 500)]);
        assert_eq!(next(&state, &all, NodeId(1), &near, 500), Some(Change::Lead(NodeId(2))));
        assert_eq!(next(&state, &all, NodeId(1), &reached(&[]), 500), None, "nobody could lead");
        assert_eq!(next(&state, &all, NodeId(2), &near, 500), Some(Change::Leave(NodeId(1))));
    }
}
