//! Plans of moves: what is lost is replaced, loads are even, and little moves.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use catalog::command::{Command, LeafChange, PlanMoves, PlannedMove};
use catalog::database::{Options, PARTITIONS_MAX};
use catalog::decide::balance::{Aim, evacuate, plan};
use catalog::decide::placement;
use catalog::movement::Reason;
use catalog::outcome::Refusal;
use catalog::state::State;
use perennial_catalog as catalog;
use proptest::prelude::*;
use types::{DatabaseId, NodeId, PartitionId};

/// A cluster as it may be found: leaves in groups, a database placed on some of them, and some of them gone since.
#[derive(Clone, Debug)]
struct Found {
    leaves: u64,
    /// Leaves of a group; 1: each is a group of its own.
    per_group: u64,
    /// Leaves that were there when the database was made.
    early: u64,
    partitions: u32,
    redundancy: u8,
    gone: BTreeSet<u64>,
}

fn found() -> impl Strategy<Value = Found> {
    (2..9u64, 1..3u64, 1..9u64, 1..24u32, 1..4u8, prop::collection::btree_set(1..9u64, 0..2)).prop_map(
        |(leaves, per_group, early, partitions, redundancy, gone)| Found {
            leaves,
            per_group,
            early: early.min(leaves),
            partitions,
            redundancy,
            gone,
        },
    )
}

impl Found {
    /// Its leaves alone.
    fn cluster(&self) -> State {
        let mut state = support::cluster(self.leaves);
        if self.per_group > 1 {
            for leaf in 1..=self.leaves {
                let change = LeafChange::Add { group: Some(leaf / self.per_group) };
                support::done(&mut state, &Command::ChangeLeaf { node: NodeId(leaf), change });
            }
        }
        state
    }

    /// The catalog, and the leaves that are there. `None`: such a database cannot be made.
    fn build(&self) -> Option<(State, DatabaseId, BTreeSet<NodeId>)> {
        let mut state = self.cluster();
        create(&mut state, "db", self.early, self.partitions, self.redundancy)?;
        let there = (1..=self.leaves).filter(|leaf| !self.gone.contains(leaf)).map(NodeId).collect();
        let (id, _) = state.database_named("db")?;
        Some((state, id, there))
    }
}

/// Makes a database on the first leaves, if they are enough.
fn create(state: &mut State, name: &str, early: u64, partitions: u32, redundancy: u8) -> Option<()> {
    let mut candidates = placement::candidates(state);
    candidates.retain(|leaf| leaf.node.0 <= early);
    let placed = placement::assign(&candidates, partitions, redundancy).ok()?;
    create_at(state, name, placed, redundancy);
    Some(())
}

fn create_at(state: &mut State, name: &str, placed: Vec<Vec<NodeId>>, redundancy: u8) {
    let mut create = support::creating(name, support::SYNC, placed);
    create.options = Options { redundancy, ..Options::default() };
    support::done(state, &Command::CreateDatabase(create));
}

/// The same databases on the leaves of `cluster`, once the moves are done.
fn moved(mut cluster: State, state: &State, moves: &[PlannedMove]) -> State {
    let places = after(state, moves);
    for (id, database) in &state.databases {
        let of = places.iter().filter(|(partition, _)| partition.database == *id);
        let placed = of.map(|(_, (replicas, primary))| {
            let others = replicas.iter().filter(|node| *node != primary);
            std::iter::once(primary).chain(others).copied().collect()
        });
        create_at(&mut cluster, &database.name, placed.collect(), database.options.redundancy);
    }
    cluster
}

/// Where everything is once the moves are done.
fn after(state: &State, moves: &[PlannedMove]) -> BTreeMap<PartitionId, (BTreeSet<NodeId>, NodeId)> {
    let mut places: BTreeMap<_, _> =
        state.partitions.iter().map(|(id, held)| (*id, (held.replicas.clone(), held.primary.node))).collect();
    for planned in moves {
        places.insert(planned.partition, (planned.replicas.clone(), planned.primary));
    }
    places
}

fn spread(leaves: &BTreeSet<NodeId>, of: impl Iterator<Item = NodeId>) -> (i64, i64) {
    let mut counts: BTreeMap<NodeId, i64> = leaves.iter().map(|node| (*node, 0)).collect();
    of.for_each(|node| *counts.entry(node).or_default() += 1);
    (counts.values().copied().min().unwrap_or(0), counts.values().copied().max().unwrap_or(0))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_plan_keeps_copies_apart_and_loads_even(found in found(), full in any::<bool>()) {
        let Some((mut state, id, there)) = found.build() else { return Ok(()) };
        let aim = if full { Aim::Full } else { Aim::Balance };
        let groups: BTreeSet<_> = there.iter().map(|node| state.nodes[node].group).collect();
        let moves = match plan(&state, &[id], &there, aim) {
            Ok(moves) => moves,
            Err(refusal) => {
                prop_assert!(groups.len() < usize::from(found.redundancy), "{refusal}");
                return Ok(());
            }
        };
        prop_assert_eq!(&moves, &plan(&state, &[id], &there, aim).unwrap(), "a plan is a function of the state");
        let places = after(&state, &moves);
        let mut lost = BTreeSet::new();
        for (partition, (replicas, primary)) in &places {
            if state.partitions[partition].replicas.is_disjoint(&there) {
                lost.insert(*partition);
                continue;
            }
            prop_assert!(replicas.contains(primary));
            prop_assert!(replicas.is_subset(&there), "{partition} on {replicas:?}");
            prop_assert_eq!(replicas.len(), usize::from(found.redundancy));
            let apart: BTreeSet<_> = replicas.iter().map(|node| state.nodes[node].group).collect();
            prop_assert_eq!(apart.len(), replicas.len(), "{} shares a group", partition);
        }
        let whole = || places.iter().filter(|(id, _)| !lost.contains(id)).map(|(_, place)| place);
        if found.per_group == 1 {
            let (least, most) = spread(&there, whole().flat_map(|(replicas, _)| replicas.iter().copied()));
            prop_assert!(most - least <= 1, "copies {least} to {most}");
            let (least, most) = spread(&there, whole().map(|(_, primary)| *primary));
            prop_assert!(most - least <= 1, "primaries {least} to {most}");
        }
        // The catalog takes it, and then nothing is left to plan.
        if !moves.is_empty() {
            let order = PlanMoves { moves, reason: Reason::Rebalance, kill: false };
            support::done(&mut state, &Command::PlanMoves(order));
            prop_assert_eq!(plan(&state, &[id], &there, aim).unwrap(), vec![]);
        }
    }

    #[test]
    fn a_plan_for_all_databases_leaves_nothing_to_plan(
        found in found(),
        more in prop::collection::vec((1..9u64, 1..24u32, 1..4u8), 0..4),
        full in any::<bool>(),
    ) {
        let Some((mut state, _, there)) = found.build() else { return Ok(()) };
        for (index, (early, partitions, redundancy)) in more.into_iter().enumerate() {
            let _ = create(&mut state, &format!("db{index}"), early, partitions, redundancy);
        }
        let aim = if full && found.per_group == 1 { Aim::Full } else { Aim::Balance };
        let ids: Vec<DatabaseId> = state.databases.keys().copied().collect();
        let Ok(moves) = plan(&state, &ids, &there, aim) else { return Ok(()) };
        let state = moved(found.cluster(), &state, &moves);
        prop_assert_eq!(plan(&state, &ids, &there, aim).unwrap(), vec![]);
        for id in ids {
            prop_assert_eq!(plan(&state, &[id], &there, aim).unwrap(), vec![], "database {}", id);
        }
    }

    #[test]
    fn one_leaf_more_moves_no_more_than_its_share(early in 2..7u64, partitions in 1..24u32) {
        let found = Found { leaves: early + 1, per_group: 1, early, partitions, redundancy: 2, gone: BTreeSet::new() };
        let (state, id, there) = found.build().unwrap();
        let moves = plan(&state, &[id], &there, Aim::Balance).unwrap();
        let added = moves.iter().flat_map(|planned| planned.replicas.difference(&planned.based)).count() as u64;
        let share = 2 * (u64::from(partitions) + 1) / (early + 1);
        prop_assert!(added <= share, "{added} copies are made, the new leaf's share is {share}: {moves:?}");
        prop_assert!(moves.iter().all(|planned| planned.replicas.is_subset(&planned.based) || planned.replicas.contains(&NodeId(early + 1))));
    }

    #[test]
    fn restoring_touches_only_what_is_lost(found in found()) {
        let Some((state, id, there)) = found.build() else { return Ok(()) };
        let Ok(moves) = plan(&state, &[id], &there, Aim::Restore) else { return Ok(()) };
        for planned in &moves {
            prop_assert!(!planned.based.is_subset(&there), "{planned:?} has lost nothing");
            let kept: BTreeSet<NodeId> = planned.based.intersection(&there).copied().collect();
            prop_assert!(kept.is_subset(&planned.replicas), "{planned:?} drops what lives");
        }
    }

    #[test]
    fn a_leaf_that_goes_is_emptied(found in found(), leaf in 1..9u64) {
        let Some((mut state, _, there)) = found.build() else { return Ok(()) };
        let leaf = NodeId(1 + leaf % found.leaves);
        let remove = LeafChange::Remove { force: false, kill: false };
        support::done(&mut state, &Command::ChangeLeaf { node: leaf, change: remove });
        let Ok(moves) = evacuate(&state, leaf, &there) else { return Ok(()) };
        for (partition, (replicas, _)) in after(&state, &moves) {
            let before = &state.partitions[&partition].replicas;
            if !before.is_disjoint(&there) {
                prop_assert!(!replicas.contains(&leaf), "{partition} stays on {leaf}");
                prop_assert!(replicas.len() >= before.len().min(usize::from(found.redundancy)));
            }
            prop_assert!(before.contains(&leaf) || replicas == *before, "{} had nothing there", partition);
        }
    }
}

#[test]
fn as_many_partitions_as_a_client_can_name_are_refused_before_they_are_placed() {
    let candidates = placement::candidates(&support::cluster(2));
    for partitions in [0, PARTITIONS_MAX + 1, u32::MAX] {
        let refusal = placement::assign(&candidates, partitions, 1).expect_err("it has no room");
        assert!(refusal.to_string().contains("must be 1 to 4096"), "{refusal}");
    }
}

#[test]
fn a_plan_that_needs_more_groups_says_what_to_do() {
    let mut state = support::cluster(2);
    let id = support::create(&mut state, "db", support::SYNC, &[1, 2]);
    let there = [NodeId(1)].into();
    let refusal = plan(&state, &[id], &there, Aim::Restore).unwrap_err();
    assert!(matches!(refusal, Refusal::DoFirst { .. }));
    let text = refusal.to_string();
    assert!(text.contains("needs 2 copies of partition -1") && text.contains("ADD LEAF"), "{text}");
}

#[test]
fn primaries_are_handed_over_before_anything_is_copied() {
    let mut state = support::cluster(3);
    // Copies are even, and node 1 leads everything.
    let nodes = |list: [u64; 2]| list.map(NodeId).to_vec();
    let placed = vec![nodes([1, 2]), nodes([1, 3]), nodes([2, 3])];
    support::done(&mut state, &Command::CreateDatabase(support::creating("db", support::SYNC, placed)));
    let (id, _) = state.database_named("db").unwrap();
    let there: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
    let moves = plan(&state, &[id], &there, Aim::Balance).unwrap();
    assert_eq!(moves.len(), 1, "{moves:?}");
    assert_eq!(moves[0].replicas, moves[0].based, "no data moves");
    assert_eq!(moves[0].primary, NodeId(3));
}

#[test]
fn databases_that_are_planned_together_are_even_together_and_told_of_apart() {
    let cluster = || support::cluster(3);
    let mut state = cluster();
    for name in ["d", "e"] {
        let placed = [[1, 2], [1, 3], [1, 2], [1, 3], [2, 3]].map(|nodes| nodes.map(NodeId).to_vec());
        create_at(&mut state, name, placed.to_vec(), 2);
    }
    let there: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
    let ids: Vec<DatabaseId> = state.databases.keys().copied().collect();
    // Each by itself would move the same way, and back.
    let apart: Vec<_> = ids.iter().flat_map(|id| plan(&state, &[*id], &there, Aim::Balance).unwrap()).collect();
    assert_ne!(plan(&moved(cluster(), &state, &apart), &ids, &there, Aim::Balance).unwrap(), vec![]);
    let moves = plan(&state, &ids, &there, Aim::Balance).unwrap();
    let settled = moved(cluster(), &state, &moves);
    assert_eq!(plan(&settled, &ids, &there, Aim::Balance).unwrap(), vec![], "after {moves:?}");
    let (least, most) = spread(&there, settled.partitions.values().flat_map(|held| held.replicas.iter().copied()));
    assert!(most - least <= 1, "copies {least} to {most}");
    // One event for each database, of its own partitions.
    let anew = |id: &PartitionId| {
        let based = state.partitions[id].replicas.clone();
        let primary = *based.last().unwrap();
        PlannedMove { partition: *id, replicas: based.clone(), based, primary }
    };
    let moves = [(0, 0), (0, 1), (1, 0)].map(|(at, ordinal)| anew(&support::partition(ids[at], ordinal)));
    let order = PlanMoves { moves: moves.to_vec(), reason: Reason::Rebalance, kill: false };
    support::done(&mut state, &Command::PlanMoves(order));
    let told = state.events.iter().filter(|event| event.kind == "rebalance");
    let told: Vec<_> = told.map(|event| (event.database.unwrap(), event.text.as_str())).collect();
    assert_eq!(told, [(ids[0], "2 partitions shall move"), (ids[1], "1 partitions shall move")]);
}

#[test]
fn a_large_cluster_is_planned_at_once() {
    // A plan is made while the client waits: its costs do not explode with the cluster.
    let found = Found { leaves: 150, per_group: 1, early: 120, partitions: 1500, redundancy: 2, gone: BTreeSet::new() };
    let (state, id, there) = found.build().unwrap();
    for aim in [Aim::Balance, Aim::Full] {
        let moves = plan(&state, &[id], &there, aim).unwrap();
        let places = after(&state, &moves);
        let (least, most) = spread(&there, places.values().flat_map(|(replicas, _)| replicas.iter().copied()));
        assert!(most - least <= 1, "copies {least} to {most}");
        let (least, most) = spread(&there, places.values().map(|(_, primary)| *primary));
        assert!(most - least <= 1, "primaries {least} to {most}");
    }
}
