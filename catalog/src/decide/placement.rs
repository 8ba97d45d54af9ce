//! Where the copies of a new database go.

use std::collections::BTreeMap;

use types::NodeId;

use crate::database::partitions_problem;
use crate::node::Group;
use crate::outcome::Refusal;
use crate::state::State;

/// A leaf that may take copies, and what it holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// With whom it fails.
    pub group: Group,
    /// Primaries on it.
    pub primaries: u64,
    /// Copies on it, primaries included.
    pub copies: u64,
}

/// All leaves, with what they hold. The caller leaves out those that are not there.
pub fn candidates(state: &State) -> Vec<Candidate> {
    let mut found: BTreeMap<NodeId, Candidate> = state
        .nodes
        .iter()
        .filter(|(_, node)| node.takes_replicas())
        .map(|(id, node)| (*id, Candidate { node: *id, group: node.group, primaries: 0, copies: 0 }))
        .collect();
    for (node, candidate) in &mut found {
        candidate.primaries = state.partitions.count_led_on(*node) as u64;
        candidate.copies = state.partitions.count_held_by(*node) as u64;
    }
    found.into_values().collect()
}

/// Places the meta partition and `partitions` more, `redundancy` copies of each: the first leaf of each is the primary.
///
/// Primaries are spread first, then copies; the secondaries of one leaf's primaries are spread over the others, so that
/// a failed leaf's load falls on all of them. No two copies of a partition share a group. Deterministic.
pub fn assign(nodes: &[Candidate], partitions: u32, redundancy: u8) -> Result<Vec<Vec<NodeId>>, Refusal> {
    // Before they are made: so many places as a client may name have no room in memory.
    if let Some(problem) = partitions_problem(partitions) {
        return Err(Refusal::Correct { object: "PARTITIONS".into(), problem });
    }
    let mut load: Vec<Candidate> = nodes.to_vec();
    load.sort_by_key(|candidate| candidate.node);
    let groups = load.iter().map(|candidate| candidate.group).collect::<std::collections::BTreeSet<_>>().len();
    if groups < usize::from(redundancy) || redundancy == 0 {
        return Err(Refusal::DoFirst {
            object: format!("redundancy {redundancy}"),
            problem: format!("needs as many groups of leaves, there are {groups}"),
            first: "add leaves, or ask for fewer copies".into(),
        });
    }
    let mut pairs: BTreeMap<(NodeId, NodeId), u64> = BTreeMap::new();
    Ok((0..=partitions).map(|_| place(&mut load, &mut pairs, redundancy)).collect())
}

/// Places one partition. `pairs` counts how often a leaf holds a secondary of another leaf's primary.
fn place(load: &mut [Candidate], pairs: &mut BTreeMap<(NodeId, NodeId), u64>, redundancy: u8) -> Vec<NodeId> {
    let mut chosen: Vec<Candidate> = vec![];
    while chosen.len() < usize::from(redundancy) {
        let first = chosen.first().map(|first| first.node);
        let cost = |candidate: &&mut Candidate| {
            let paired = first.and_then(|first| pairs.get(&(first, candidate.node)).copied()).unwrap_or(0);
            let primaries = if first.is_none() { candidate.primaries } else { 0 };
            (primaries, paired, candidate.copies, candidate.node)
        };
        let free = load.iter_mut().filter(|candidate| chosen.iter().all(|used| used.group != candidate.group));
        let best = free.min_by_key(cost).expect("there are as many groups as copies");
        best.copies += 1;
        match first {
            None => best.primaries += 1,
            Some(first) => *pairs.entry((first, best.node)).or_default() += 1,
        }
        chosen.push(*best);
    }
    chosen.into_iter().map(|candidate| candidate.node).collect()
}
