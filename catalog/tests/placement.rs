//! Where copies go.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use catalog::decide::placement::{Candidate, assign, candidates};
use catalog::node::Group;
use catalog::outcome::Refusal;
use perennial_catalog as catalog;
use proptest::prelude::*;
use types::NodeId;

fn leaves(count: u64, per_group: u64) -> Vec<Candidate> {
    (1..=count)
        .map(|leaf| {
            let group = if per_group == 1 { Group::Own(NodeId(leaf)) } else { Group::Named(leaf / per_group) };
            Candidate { node: NodeId(leaf), group, primaries: 0, copies: 0 }
        })
        .collect()
}

fn counts(placed: &[Vec<NodeId>], of: impl Fn(&Vec<NodeId>) -> Vec<NodeId>) -> BTreeMap<NodeId, usize> {
    let mut found = BTreeMap::new();
    for node in placed.iter().flat_map(of) {
        *found.entry(node).or_default() += 1;
    }
    found
}

#[test]
fn the_secondaries_of_a_leaf_are_spread_over_all_others() {
    let placed = assign(&leaves(4, 1), 11, 2).unwrap();
    assert_eq!(counts(&placed, |nodes| vec![nodes[0]]).into_values().collect::<Vec<_>>(), [3, 3, 3, 3]);
    let of_first: BTreeSet<NodeId> =
        placed.iter().filter(|nodes| nodes[0] == NodeId(1)).map(|nodes| nodes[1]).collect();
    assert_eq!(of_first, [NodeId(2), NodeId(3), NodeId(4)].into());
}

#[test]
fn a_new_database_goes_where_the_others_are_not() {
    let mut state = support::cluster(3);
    support::create(&mut state, "db", support::SYNC, &[1, 2]);
    let placed = assign(&candidates(&state), 1, 1).unwrap();
    assert_eq!(placed, [[NodeId(3)], [NodeId(2)]], "no primary yet, then fewer copies");
}

#[test]
fn more_copies_than_groups_are_refused() {
    assert!(matches!(assign(&leaves(4, 4), 1, 3), Err(Refusal::DoFirst { .. })));
    assert!(matches!(assign(&[], 1, 1), Err(Refusal::DoFirst { .. })));
    assert!(matches!(assign(&leaves(1, 1), 1, 0), Err(Refusal::DoFirst { .. })));
}

proptest! {
    #[test]
    fn copies_share_no_group_and_loads_are_even(
        count in 1..12u64, per_group in 1..4u64, partitions in 1..40u32, redundancy in 1..4u8,
    ) {
        let nodes = leaves(count, per_group);
        let Ok(placed) = assign(&nodes, partitions, redundancy) else {
            let groups: BTreeSet<Group> = nodes.iter().map(|candidate| candidate.group).collect();
            prop_assert!(groups.len() < usize::from(redundancy));
            return Ok(());
        };
        prop_assert_eq!(&placed, &assign(&nodes, partitions, redundancy).unwrap());
        prop_assert_eq!(placed.len(), partitions as usize + 1);
        let group = |node: &NodeId| nodes.iter().find(|candidate| candidate.node == *node).unwrap().group;
        for copies in &placed {
            prop_assert_eq!(copies.len(), usize::from(redundancy));
            let groups: BTreeSet<Group> = copies.iter().map(group).collect();
            prop_assert_eq!(groups.len(), copies.len());
        }
        let primaries = counts(&placed, |copies| vec![copies[0]]);
        let most = primaries.values().max().copied().unwrap_or(0);
        let least = nodes.iter().map(|node| primaries.get(&node.node).copied().unwrap_or(0)).min().unwrap_or(0);
        prop_assert!(most - least <= 1, "{:?}", primaries);
        if per_group == 1 {
            let copies = counts(&placed, Clone::clone);
            let least = nodes.iter().map(|node| copies.get(&node.node).copied().unwrap_or(0)).min().unwrap_or(0);
            prop_assert!(copies.values().max().copied().unwrap_or(0) - least <= usize::from(redundancy), "{:?}", copies);
        }
    }
}
