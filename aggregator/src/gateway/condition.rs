//! How a database is: in one word, and what to do about it. Every SHOW asks here, so that they cannot disagree.

use std::collections::BTreeSet;

use catalog::State;
use catalog::database::Holder;
use catalog::partition::Partition;
use types::{DatabaseId, Fence, PartitionId};

use crate::region::Region;
use crate::writable;

/// How a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// In one word.
    pub state: &'static str,
    /// What to type or do, where something is to be done.
    pub advice: Option<String>,
}

/// How a database is, as the catalog and the leaves say.
pub fn condition(region: &Region, state: &State, id: DatabaseId) -> Condition {
    let known = &state.databases[&id];
    let serves = |id: PartitionId| {
        let primary = region.detector.primary(state, id).and_then(|replica| replica.leading);
        primary.is_some_and(|leading| leading.serving)
    };
    let silent: Vec<PartitionId> = state.partitions_of(id).map(|(id, _)| id).filter(|id| !serves(*id)).collect();
    if let Some(first) = silent.first() {
        let node = state.partitions[first].primary.node;
        let address = state.nodes.get(&node).map(|node| node.addresses.rpc.clone()).unwrap_or_default();
        let advice = format!(
            "{} of its partitions have no primary that serves; start leaf {address} (node {node}) again, see SHOW PARTITIONS",
            silent.len()
        );
        return Condition { state: "unavailable", advice: Some(advice) };
    }
    let reasons = writable::reasons(state, id);
    let advice = (!reasons.is_empty()).then(|| reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    if known.is_sink() {
        let broken = state.sinks.values().filter(|link| link.database == id).find_map(|link| link.broken.clone());
        return Condition { state: "sink", advice: broken };
    }
    if known.fenced.fence != Fence::None {
        return Condition { state: "read only", advice };
    }
    let wanted = usize::from(known.options.redundancy);
    let short = state.partitions_of(id).filter(|(_, partition)| partition.members.len() < wanted).count();
    if short > 0 {
        let advice = format!("{short} of its partitions have fewer than {wanted} copies in sync: see SHOW LEAVES");
        return Condition { state: "degraded", advice: Some(advice) };
    }
    Condition { state: "online", advice: close(state, id) }
}

/// What to do about copies that one group of leaves could lose at once; what moves is on its way out of there, or in.
fn close(state: &State, id: DatabaseId) -> Option<String> {
    let shares = |(id, partition): &(PartitionId, &Partition)| {
        let groups: BTreeSet<_> = partition.replicas.iter().map(|node| state.nodes[node].group).collect();
        groups.len() < partition.replicas.len() && !state.moves.contains_key(id)
    };
    let count = state.partitions_of(id).filter(shares).count();
    let name = &state.databases[&id].name;
    (count > 0).then(|| {
        format!("{count} of its partitions have two copies in one group of leaves: REBALANCE PARTITIONS ON {name}")
    })
}

/// Who keeps a database fenced, in words; `None` if nobody does.
pub fn fenced_by(state: &State, id: DatabaseId) -> Option<String> {
    let holders = &state.databases.get(&id)?.fenced.holders;
    let word = |holder: &Holder| match holder {
        Holder::User => "user",
        Holder::Token => "token",
        Holder::Guard => "guard",
    };
    (!holders.is_empty()).then(|| holders.iter().map(word).collect::<Vec<_>>().join(","))
}
