//! Partitions that move: what the master plans when it is asked, and what comes next on their way.
//!
//! The rules are pure functions of the catalog (`catalog::decide::balance`, `catalog::decide::moves`); here they are given
//! what leaves have said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::catalog::command::{PlanMoves, PlannedMove};
use ::catalog::decide::balance::{self, Aim};
use ::catalog::decide::moves::{Copy, Ear, Pace, decide, there};
use ::catalog::movement::Reason;
use ::catalog::{Command, Refusal, State};
use types::{DatabaseId, Member, NodeId, PartitionId};

use super::Detector;
use super::catalog::CatalogError;
use super::detector::{DetectorOptions, LeafState};
use crate::protocol::PlanOrder;

/// How often a plan is made anew because something moved meanwhile.
const PLANS: usize = 10;

/// How long a leaf that is silent may take to be heard: one that was just started announces itself first.
const RETURN_TIME: Duration = Duration::from_secs(5);
/// Between two looks whether it was.
const LOOK: Duration = Duration::from_millis(50);

/// A leaf that is waited for before something is planned.
struct Silent {
    leaf: NodeId,
    /// Without it nothing is planned.
    needed: bool,
}

/// How fast partitions move.
pub(super) fn pace(options: &DetectorOptions) -> Pace {
    Pace::new(options.moves_at_once, u64::try_from(options.failure_timeout.as_nanos()).unwrap_or(u64::MAX))
}

/// What a leaf says of one of its copies.
fn copy(leaf: &LeafState, partition: PartitionId) -> Option<Copy> {
    let replica = leaf.said.replicas.get(&partition)?;
    let leading = replica.leading.as_ref();
    Some(Copy {
        obeyed: leaf.said.revision,
        reign: replica.reign,
        epoch: replica.epoch,
        appended: replica.appended,
        durable: replica.durable,
        repairing: replica.repairing || replica.damaged,
        // A sink has no transactions of its own.
        busy: leading.map(|leading| leading.link.is_none() && (!leading.serving || leading.busy)),
        final_position: leading.and_then(|leading| leading.final_position),
    })
}

impl Detector {
    /// What comes next for partitions that move and leaves that go.
    pub(super) fn moving(&self, state: &State) -> Vec<Command> {
        let (heard, leaves) = (self.heard.lock(), self.leaves.lock());
        let said = |id: PartitionId, member: Member| {
            leaves.get(&member.node).filter(|leaf| leaf.said.member == member).and_then(|leaf| copy(leaf, id))
        };
        let ear = Ear { heard: &heard, copy: &said, now: self.now() };
        decide(state, &ear, &mut self.moves.lock(), &pace(&self.options), &mut rand::random::<u64>)
    }

    /// Leaves that were heard of late.
    fn there(&self, state: &State) -> BTreeSet<NodeId> {
        there(state, &self.heard.lock(), self.now(), pace(&self.options).failure_timeout)
    }

    /// Leaves that an order waits for. Silence alone makes no copy count as lost but for RESTORE REDUNDANCY; and a process
    /// that has not been heard yet is about to be.
    fn silent(&self, state: &State, order: &PlanOrder) -> Vec<Silent> {
        let there = self.there(state);
        let (database, aim) = match order {
            PlanOrder::Evacuate(_) => return vec![],
            PlanOrder::Attach(leaf) if there.contains(leaf) => return vec![],
            PlanOrder::Attach(leaf) => return vec![Silent { leaf: *leaf, needed: true }],
            PlanOrder::Rebalance { database, aim, .. } => (*database, *aim),
        };
        let holds = |leaf: NodeId| match database {
            Some(id) => state.partitions.held_of(leaf, id).next().is_some(),
            None => state.partitions.count_held_by(leaf) > 0,
        };
        let heard = self.heard.lock();
        let away = state.nodes.iter().filter(|(id, node)| node.takes_replicas() && !there.contains(id));
        let silent = away.map(|(id, _)| Silent { leaf: *id, needed: aim != Aim::Restore && holds(*id) });
        let starts = |leaf: NodeId| heard.process(leaf).is_none_or(|heard| state.member(leaf) != Some(heard));
        silent.filter(|silent| silent.needed || starts(silent.leaf)).collect()
    }

    /// Waits for these leaves; why nothing can be planned without one of them.
    async fn missed(&self, order: &PlanOrder) -> Option<Refusal> {
        let begun = Instant::now();
        loop {
            let state = self.catalog.state();
            let silent = self.silent(&state, order);
            if silent.is_empty() {
                return None;
            }
            if begun.elapsed() >= RETURN_TIME {
                let needed = silent.iter().find(|silent| silent.needed);
                return needed.map(|silent| offline(&state, silent.leaf, order));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Plans what is asked for, and orders it unless it is only to be told.
    pub async fn plan(
        self: &Arc<Detector>,
        order: &PlanOrder,
    ) -> Result<Result<Vec<PlannedMove>, Refusal>, CatalogError> {
        if let Some(refusal) = self.missed(order).await {
            return Ok(Err(refusal));
        }
        let mut refused = None;
        for _ in 0..PLANS {
            let state = self.catalog.state();
            // Over thousands of partitions it takes a while, and leaves are to be heard meanwhile.
            let (detector, wanted) = (self.clone(), order.clone());
            let planned = tokio::task::spawn_blocking(move || detector.planned(&state, &wanted)).await;
            let moves = match planned.map_err(|error| CatalogError::Stopped(error.to_string()))? {
                Ok(moves) => moves,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let PlanOrder::Rebalance { aim, kill, explain, .. } = order else { return Ok(Ok(moves)) };
            if *explain || moves.is_empty() {
                return Ok(Ok(moves));
            }
            let reason = if *aim == Aim::Restore { Reason::Restore } else { Reason::Rebalance };
            let command = Command::PlanMoves(PlanMoves { moves: moves.clone(), reason, kill: *kill });
            match self.catalog.propose(command).await? {
                Ok(_) => return Ok(Ok(moves)),
                // Something has moved since: it is planned anew.
                Err(refusal @ Refusal::LookAgain { .. }) => refused = Some(refusal),
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        Ok(refused.map_or(Ok(vec![]), Err))
    }

    fn planned(&self, state: &State, order: &PlanOrder) -> Result<Vec<PlannedMove>, Refusal> {
        let there = self.there(state);
        match order {
            PlanOrder::Evacuate(leaf) => {
                let moves = balance::evacuate(state, *leaf, &there)?;
                let stranded = balance::stranded(state, *leaf, &there);
                if stranded.is_empty() { Ok(moves) } else { Err(self.stranded(state, *leaf, &stranded)) }
            }
            PlanOrder::Rebalance { database, aim, explain, .. } => {
                let ids: Vec<DatabaseId> = match database {
                    Some(id) => vec![*id],
                    None => state.databases.keys().copied().collect(),
                };
                let ids: Vec<DatabaseId> = ids.into_iter().filter(|id| state.databases.contains_key(id)).collect();
                let mut moves = balance::plan(state, &ids, &there, *aim)?;
                if !explain {
                    let planned: BTreeSet<PartitionId> = moves.iter().map(|planned| planned.partition).collect();
                    moves.extend(under_way(state, &ids).filter(|known| !planned.contains(&known.partition)));
                }
                // Who waits for it would wait for ever.
                moves.retain(|planned| !self.has_no_whole_copy(state, planned.partition));
                Ok(moves)
            }
            PlanOrder::Attach(_) => Ok(vec![]),
        }
    }

    fn stranded(&self, state: &State, leaf: NodeId, stranded: &[PartitionId]) -> Refusal {
        let address = &state.nodes[&leaf].addresses.rpc;
        let first = &stranded[0];
        Refusal::DoFirst {
            object: format!("leaf {address}"),
            problem: format!(
                "is offline, and nobody else online holds partition {} of `{}`, nor {} others",
                first.ordinal,
                state.databases[&first.database].name,
                stranded.len() - 1
            ),
            first: format!("start it again; its node number is {leaf}"),
        }
    }
}

/// What was ordered before and is not done: whoever repeats an order waits for it, too, and KILL is for it as well.
fn under_way<'a>(state: &'a State, databases: &'a [DatabaseId]) -> impl Iterator<Item = PlannedMove> + 'a {
    let meant = state.moves.iter().filter(|(id, _)| databases.contains(&id.database));
    meant.map(|(id, wanted)| PlannedMove {
        partition: *id,
        based: state.partitions[id].replicas.clone(),
        replicas: wanted.replicas.clone(),
        primary: wanted.primary,
    })
}

/// A leaf does not come back by itself.
fn offline(state: &State, leaf: NodeId, order: &PlanOrder) -> Refusal {
    let address = &state.nodes[&leaf].addresses.rpc;
    let (problem, first) = match order {
        PlanOrder::Attach(_) => (
            "is offline".to_string(),
            format!("start it again, its node number is {leaf}, and repeat ATTACH LEAF '{address}'"),
        ),
        _ => (
            format!(
                "is offline, and what it holds would be copied anew, {} copies",
                state.partitions.count_held_by(leaf)
            ),
            format!(
                "start it again, its node number is {leaf}, and repeat; if it is lost, RESTORE REDUNDANCY ON each database, then REMOVE LEAF '{address}' FORCE"
            ),
        ),
    };
    Refusal::DoFirst { object: format!("leaf {address}"), problem, first }
}
