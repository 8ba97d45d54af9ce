//! REBALANCE, RESTORE REDUNDANCY, EXPLAIN of them, and SHOW REBALANCE STATUS: one row a step of a partition's move.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use catalog::command::PlannedMove;
use catalog::decide::balance::Aim;
use catalog::{Refusal, State};
use sql::answer::Answer;
use sql::cluster::Sheet;
use sql::statement::{Rebalance, RebalanceAim};
use sql::{Error, Result};
use tokio::time::sleep;
use types::{Datum, NodeId, PartitionId};

use super::answer::table;
use super::condition::NO_WHOLE_COPY;
use super::databases::refused;
use super::divergence::with_troubles;
use super::replication::columns;
use super::shows::{count, sheet, text};
use super::users::may_see;
use crate::ask::unexpected;
use crate::master::wall_clock;
use crate::mysql::Client;
use crate::protocol::{FrontAnswer, FrontRequest, PlanOrder, Planned};
use crate::region::Region;
use crate::sessions::Progress;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// One step of a partition's move.
struct Step {
    action: &'static str,
    from: Option<NodeId>,
    to: Option<NodeId>,
}

/// A leaf gets a copy.
const COPY: &str = "copy";

/// A leaf has a copy, which gets what it lacks.
const CATCH_UP: &str = "catch up";

/// Another copy is to lead.
const HAND_OVER: &str = "hand over";

/// What remains to be done until a partition is where it shall be, as far as the catalog tells.
fn steps(state: &State, id: PartitionId, replicas: &BTreeSet<NodeId>, primary: NodeId) -> Vec<Step> {
    let Some(partition) = state.partitions.get(&id) else { return vec![] };
    let (led, added, joined) = (partition.primary.node, added(state, id), joined(state, id));
    let fill = |node: &NodeId| {
        let is_there = partition.replicas.contains(node) && !added.contains(node);
        Step { action: if is_there { CATCH_UP } else { COPY }, from: Some(led), to: Some(*node) }
    };
    let mut steps: Vec<Step> = replicas.difference(&joined).map(fill).collect();
    if led != primary {
        steps.push(Step { action: HAND_OVER, from: Some(led), to: Some(primary) });
    }
    let gone = partition.replicas.difference(replicas);
    steps.extend(gone.map(|node| Step { action: "remove", from: Some(*node), to: None }));
    steps
}

/// Who holds a copy that counts: a member of the set; with ASYNC REPLICATION everybody who was not added for the move.
pub(super) fn joined(state: &State, id: PartitionId) -> BTreeSet<NodeId> {
    let partition = &state.partitions[&id];
    let members = || partition.members.iter().map(|member| member.node);
    if state.databases[&id.database].mode.sync_replication {
        return members().collect();
    }
    partition.replicas.difference(&added(state, id)).copied().chain(members()).collect()
}

/// Who was given a copy for the move that is on its way.
fn added(state: &State, id: PartitionId) -> BTreeSet<NodeId> {
    state.moves.get(&id).map(|wanted| wanted.added.clone()).unwrap_or_default()
}

fn row(state: &State, id: PartitionId, step: &Step, [progress, bytes, eta]: [Datum; 3]) -> Vec<Datum> {
    let address = |node: Option<NodeId>| {
        let known = node.and_then(|node| state.nodes.get(&node));
        known.map_or(Datum::Null, |known| text(known.addresses.rpc.clone()))
    };
    let name = state.databases.get(&id.database).map_or_else(String::new, |known| known.name.clone());
    vec![
        text(name),
        Datum::Int(id.ordinal.0.into()),
        text(step.action),
        address(step.from),
        address(step.to),
        progress,
        bytes,
        eta,
    ]
}

const NAMES: [&str; 8] = ["database", "#partition", "action", "from", "to", "#progress", "#bytes", "#eta_s"];

/// SHOW REBALANCE STATUS: what is left to be done. What has not begun has no progress.
pub fn status(region: &Region, state: &State, client: &Client) -> Sheet {
    let mut rows = Vec::new();
    let visible = |id: &PartitionId| may_see(state, client, &state.databases[&id.database].name);
    for (id, wanted) in state.moves.iter().filter(|(id, _)| visible(id)) {
        for step in steps(state, *id, &wanted.replicas, wanted.primary) {
            let fills = [COPY, CATCH_UP].contains(&step.action);
            let begun = wanted.begun.filter(|_| fills || joined(state, *id).is_superset(&wanted.replicas));
            let seen = match (begun, step.to) {
                (Some(begun), Some(to)) if fills => copied(region, state, *id, to, begun.0),
                (Some(_), _) => [count(0), Datum::Null, Datum::Null],
                (None, _) => {
                    let size = region.detector.primary(state, *id).map(|primary| primary.bytes);
                    [Datum::Null, bytes(size, &step), Datum::Null]
                }
            };
            rows.push(row(state, *id, &step, seen));
        }
    }
    // Of a leaf that is detached or lost: what it leads is given away, and nothing else moves.
    let alone = |id: &PartitionId| visible(id) && !state.moves.contains_key(id);
    for (id, partition) in state.partitions.handed_over().filter(|(id, _)| alone(id)) {
        let to = partition.handover.map(|handover| handover.to);
        let step = Step { action: HAND_OVER, from: Some(partition.primary.node), to };
        rows.push(row(state, id, &step, [count(0), Datum::Null, Datum::Null]));
    }
    let names = NAMES.map(|name| (name.trim_start_matches('#'), name.starts_with('#')));
    sheet(&names, rows)
}

/// Bytes that a copy takes, of a partition of this size.
fn bytes(size: Option<u64>, step: &Step) -> Datum {
    size.filter(|_| step.action == COPY).map_or(Datum::Null, count)
}

/// How far a copy is: percent, bytes of the whole, and seconds that are left.
fn copied(region: &Region, state: &State, id: PartitionId, to: NodeId, begun_millis: u64) -> [Datum; 3] {
    let Some(primary) = region.detector.primary(state, id) else { return [count(0), Datum::Null, Datum::Null] };
    let leaves = region.detector.leaves();
    let copy = leaves.get(&to).and_then(|leaf| leaf.said.replicas.get(&id));
    let percent = copy
        .filter(|copy| !copy.repairing)
        .map_or(0, |copy| (copy.appended.0.saturating_mul(100) / primary.appended.0.max(1)).min(99));
    let lasts = wall_clock().0.saturating_sub(begun_millis) / 1000;
    let left = (lasts * (100 - percent)).checked_div(percent).map_or(Datum::Null, count);
    [count(percent), count(primary.bytes), left]
}

/// Asks the master for a plan.
pub(super) async fn ask(region: &Arc<Region>, order: PlanOrder) -> Result<std::result::Result<Planned, Refusal>> {
    match region.ask(FrontRequest::Plan(order)).await? {
        FrontAnswer::Planned(planned) => Ok(planned),
        other => Err(unexpected(&other)),
    }
}

/// `REBALANCE` and `RESTORE REDUNDANCY`; the progress is that of the partitions.
pub async fn rebalance(region: &Arc<Region>, statement: &Rebalance, progress: &Progress) -> Result<Answer> {
    let before = region.catalog.state();
    let named = |name: &String| {
        let found = before.database_named(name).map(|(id, _)| id);
        found.ok_or_else(|| Error::unknown_database(name))
    };
    let database = statement.database.as_ref().map(named).transpose()?;
    let aim = match statement.aim {
        RebalanceAim::Restore => Aim::Restore,
        RebalanceAim::Balance => Aim::Balance,
        RebalanceAim::Full => Aim::Full,
    };
    let (kill, explain) = (statement.kill, statement.explain);
    let order = PlanOrder::Rebalance { database, aim, kill, explain };
    // The sizes are the master's word: nobody else hears the leaves.
    let Planned { moves, bytes: sizes, lost } = ask(region, order).await?.map_err(|refusal| refused(&refusal))?;
    // As it was when it was planned: what is done is told by it.
    let told: Vec<(PlannedMove, Vec<Step>)> = moves.into_iter().map(|planned| told(&before, planned)).collect();
    let waits = !explain && !statement.no_wait;
    if waits {
        // This aggregator may not have heard of the order yet.
        region.catalog.catch_up().await.map_err(|error| Error::new(9005, error.to_string()))?;
        loop {
            let state = region.catalog.state();
            let left = told.iter().filter(|(planned, _)| is_moving(&state, planned)).count();
            progress.tell((told.len() - left) as u64, told.len() as u64);
            if left == 0 {
                break;
            }
            sleep(LOOK).await;
        }
    }
    let state = region.catalog.state();
    let mut rows = Vec::new();
    for (planned, steps) in &told {
        let there = state.partitions.get(&planned.partition).is_some_and(|held| held.replicas == planned.replicas);
        let done = match explain {
            true => Datum::Null,
            false => count(if waits && there { 100 } else { 0 }),
        };
        for step in steps {
            let size = bytes(sizes.get(&planned.partition).copied(), step);
            rows.push(row(&state, planned.partition, step, [done.clone(), size, Datum::Null]));
        }
    }
    let left_out = lost.first().map(|first| {
        let (first, others) = (state.partition_name(*first), lost.len() - 1);
        format!("Partition {first} and {others} others are left out: they have {NO_WHOLE_COPY}")
    });
    let note = (rows.is_empty() && lost.is_empty()).then(|| nothing_to_do(aim).to_owned());
    Ok(with_troubles(table(columns(&NAMES), rows), note.into_iter().chain(left_out).collect()))
}

/// An empty answer could also mean that nothing was understood.
fn nothing_to_do(aim: Aim) -> &'static str {
    match aim {
        Aim::Restore => {
            "Nothing is ordered: no partition lacks a copy that a leaf could hold; SHOW REBALANCE STATUS shows what is under way"
        }
        Aim::Balance | Aim::Full => {
            "Nothing is ordered: no partition can be placed better; SHOW REBALANCE STATUS shows what is under way"
        }
    }
}

fn told(state: &State, planned: PlannedMove) -> (PlannedMove, Vec<Step>) {
    let steps = steps(state, planned.partition, &planned.replicas, planned.primary);
    (planned, steps)
}

/// Whether this very move is on its way. One that was given up, or planned anew, is not.
fn is_moving(state: &State, planned: &PlannedMove) -> bool {
    let wanted = state.moves.get(&planned.partition);
    wanted.is_some_and(|wanted| wanted.replicas == planned.replicas && wanted.primary == planned.primary)
}

#[cfg(test)]
mod tests {
    use catalog::Command;
    use catalog::command::{CreateDatabase, SetChange};
    use catalog::database::Options;
    use catalog::event::UnixMillis;
    use catalog::node::{Addresses, Roles};
    use types::{ClusterId, DatabaseId, Incarnation, Member, Mode, Ordinal};

    use super::*;

    /// A database with copies on the first two of three leaves.
    fn state() -> State {
        let mut state = State::new(ClusterId(1));
        let mut apply = |command| state.apply(UnixMillis(1), &command).expect("the command is right");
        for number in 1..=3 {
            let addresses = Addresses { rpc: format!("host:{number}"), sql: None, http: None };
            let (roles, new) = (Roles { aggregator: false, leaf: true }, addresses.clone());
            let identity = u128::from(number);
            apply(Command::RegisterNode { number: None, identity, addresses: new, roles, group: None });
            apply(Command::NodeStarted { node: NodeId(number), incarnation: Incarnation(1), addresses });
        }
        apply(Command::CreateDatabase(CreateDatabase {
            name: "app".into(),
            identity: 9,
            partitions: 1,
            mode: Mode { sync_durability: true, sync_replication: true },
            options: Options { redundancy: 2, ..Options::default() },
            placement: vec![vec![NodeId(1), NodeId(2)]; 2],
            nonce: 5,
        }));
        state
    }

    fn actions(state: &State, id: PartitionId, replicas: &[u64], primary: u64) -> Vec<(&'static str, Option<u64>)> {
        let replicas = replicas.iter().map(|node| NodeId(*node)).collect();
        let steps = steps(state, id, &replicas, NodeId(primary));
        steps.iter().map(|step| (step.action, step.to.map(|node| node.0))).collect()
    }

    #[test]
    fn a_copy_that_is_there_is_not_made_again() {
        let mut state = state();
        let id = PartitionId { database: DatabaseId(1), ordinal: Ordinal(0) };
        assert_eq!(actions(&state, id, &[1, 2], 1), []);
        assert_eq!(actions(&state, id, &[2, 3], 2), [("copy", Some(3)), ("hand over", Some(2)), ("remove", None)]);

        let (reign, version) = (state.partitions[&id].reign, state.partitions[&id].version);
        let change = SetChange::Remove(Member { node: NodeId(2), incarnation: Incarnation(1) });
        let remove = Command::ProposeSet { partition: id, reign, version, change };
        state.apply(UnixMillis(2), &remove).expect("it is a member");
        assert_eq!(actions(&state, id, &[2, 3], 1), [("catch up", Some(2)), ("copy", Some(3)), ("remove", None)]);
    }
}
