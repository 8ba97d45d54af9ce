//! Plans of moves: what is lost is replaced, loads are even, and little moves.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use catalog::command::{Command, LeafChange, PlanMoves, PlannedMove};
use catalog::database::Options;
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
    /// The catalog, and the leaves that are there. `None`: such a database cannot be made.
    fn build(&self) -> Option<(State, DatabaseId, BTreeSet<NodeId>)> {
        let mut state = support::cluster(self.leaves);
        if self.per_group > 1 {
            for leaf in 1..=self.leaves {
                let change = LeafChange::Add { group: Some(leaf / self.per_group) };
                support::done(&mut state, &Command::ChangeLeaf { node: NodeId(leaf), change });
            }
        }
        let mut early = placement::candidates(&state);
        early.retain(|leaf| leaf.node.0 <= self.early);
        let placed = placement::assign(&early, self.partitions, self.redundancy).ok()?;
        let mut create = support::creating("db", support::SYNC, placed);
        create.options = Options { redundancy: self.redundancy, ..Options::default() };
        support::done(&mut state, &Command::CreateDatabase(create));
        let there = (1..=self.leaves).filter(|leaf| !self.gone.contains(leaf)).map(NodeId).collect();
        let (id, _) = state.database_named("db")?;
        Some((state, id, there))
    }
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
        let moves = match plan(&state, id, &there, aim) {
            Ok(moves) => moves,
            Err(refusal) => {
                prop_assert!(groups.len() < usize::from(found.redundancy), "{refusal}");
                return Ok(());
            }
        };
        prop_assert_eq!(&moves, &plan(&state, id, &there, aim).unwrap(), "a plan is a function of the state");
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
            prop_assert_eq!(plan(&state, id, &there, aim).unwrap(), vec![]);
        }
    }

    #[test]
    fn one_leaf_more_moves_no_more_than_its_share(early in 2..7u64, partitions in 1..24u32) {
        let found = Found { leaves: early + 1, per_group: 1, early, partitions, redundancy: 2, gone: BTreeSet::new() };
        let (state, id, there) = found.build().unwrap();
        let moves = plan(&state, id, &there, Aim::Balance).unwrap();
        let added = moves.iter().flat_map(|planned| planned.replicas.difference(&planned.based)).count() as u64;
        let share = 2 * (u64::from(partitions) + 1) / (early + 1);
        prop_assert!(added <= share, "{added} copies are made, the new leaf's share is {share}: {moves:?}");
        prop_assert!(moves.iter().all(|planned| planned.replicas.is_subset(&planned.based) || planned.replicas.contains(&NodeId(early + 1))));
    }

    #[test]
    fn restoring_touches_only_what_is_lost(found in found()) {
        let Some((state, id, there)) = found.build() else { return Ok(()) };
        let Ok(moves) = plan(&state, id, &there, Aim::Restore) else { return Ok(()) };
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
fn a_plan_that_needs_more_groups_says_what_to_do() {
    let mut state = support::cluster(2);
    let id = support::create(&mut state, "db", support::SYNC, &[1, 2]);
    let there = [NodeId(1)].into();
    let refusal = plan(&state, id, &there, Aim::Restore).unwrap_err();
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
    let moves = plan(&state, id, &there, Aim::Balance).unwrap();
    assert_eq!(moves.len(), 1, "{moves:?}");
    assert_eq!(moves[0].replicas, moves[0].based, "no data moves");
    assert_eq!(moves[0].primary, NodeId(3));
}

#[test]
fn a_large_cluster_is_planned_at_once() {
    // A plan is made while the client waits: its costs do not explode with the cluster.
    let found = Found { leaves: 150, per_group: 1, early: 120, partitions: 1500, redundancy: 2, gone: BTreeSet::new() };
    let (state, id, there) = found.build().unwrap();
    for aim in [Aim::Balance, Aim::Full] {
        let moves = plan(&state, id, &there, aim).unwrap();
        let places = after(&state, &moves);
        let (least, most) = spread(&there, places.values().flat_map(|(replicas, _)| replicas.iter().copied()));
        assert!(most - least <= 1, "copies {least} to {most}");
        let (least, most) = spread(&there, places.values().map(|(_, primary)| *primary));
        assert!(most - least <= 1, "primaries {least} to {most}");
    }
}
