//! How a database is: in one word, and what to do about it. Every SHOW asks here, so that they cannot disagree.

use std::collections::BTreeSet;

use catalog::State;
use catalog::database::Holder;
use catalog::node::Standing;
use catalog::partition::Partition;
use sql::parse::quote_name;
use types::{DatabaseId, Fence, NodeId, PartitionId};

use crate::region::Region;
use crate::writable;

/// How a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// In one word.
    pub state: &'static str,
    /// What to type or do, where something is to be done.
    pub advice: Option<String>,
    /// Something is wrong, and is no person's order.
    pub alarm: bool,
}

/// What can be done where files are damaged and nobody has others.
pub const NO_WHOLE_COPY: &str = "damaged copies and no whole one: start leaves that are offline and hold one; if there is none, STOP REPLICATING in a region that follows, or DROP DATABASE and load it anew";

/// How a database is, as the catalog and the leaves say.
pub fn condition(region: &Region, state: &State, id: DatabaseId) -> Condition {
    let known = &state.databases[&id];
    let wrong = |state, advice| Condition { state, advice: Some(advice), alarm: true };
    if let Some(advice) = unavailable(region, state, id) {
        return wrong("unavailable", advice);
    }
    let (full, short) = (full(region, state, id), short(region, state, id));
    if known.is_sink() {
        let broken = state.sinks.values().filter(|link| link.database == id).find_map(|link| link.broken.clone());
        let advice = broken.or(full).or(short);
        return Condition { state: "sink", alarm: advice.is_some(), advice };
    }
    if known.fenced.fence != Fence::None {
        let reasons = writable::reasons(state, id);
        let alarm = full.is_some() || short.is_some() || known.fenced.holders.contains(&Holder::Guard);
        let advice = reasons.iter().map(ToString::to_string).chain(full).chain(short).collect::<Vec<_>>();
        let advice = (!advice.is_empty()).then(|| advice.join("; "));
        return Condition { state: "read only", advice, alarm };
    }
    match (full, short) {
        (Some(advice), _) => wrong("read only", advice),
        (None, Some(advice)) => wrong("degraded", advice),
        (None, None) => Condition { state: "online", advice: close(state, id), alarm: false },
    }
}

/// Partitions without a primary that serves, and what to do. While one changes hands nothing has to be done.
fn unavailable(region: &Region, state: &State, id: DatabaseId) -> Option<String> {
    let detector = &region.detector;
    let (mut damaged, mut lost, mut late) = (0, vec![], vec![]);
    for (id, partition) in state.partitions_of(id) {
        let node = partition.primary.node;
        if detector.has_no_whole_copy(state, id) {
            damaged += 1;
        } else if !detector.is_up(node) {
            lost.push((id, node));
        } else if !detector.serves(state, id) && detector.is_silent(id) {
            late.push((id, node));
        }
    }
    let name = quote_name(&state.databases[&id].name);
    if damaged > 0 {
        return Some(format!("{damaged} of its partitions have {NO_WHOLE_COPY}, see SHOW PARTITIONS ON {name}"));
    }
    if let Some((_, node)) = lost.first() {
        let (count, address) = (lost.len() + late.len(), state.node_name(*node));
        return Some(format!(
            "{count} of its partitions have no primary that serves; start leaf {address} (node {node}) again, see SHOW PARTITIONS ON {name}"
        ));
    }
    let (first, node) = late.first()?;
    let (count, address) = (late.len(), state.node_name(*node));
    Some(format!(
        "{count} of its partitions have a primary that does not serve yet, such as {} on leaf {address}, which runs: see SHOW PARTITIONS ON {name} and SHOW CLUSTER EVENTS",
        first.ordinal
    ))
}

/// Partitions that take no writes because a member of their sets has little room, and what to do.
fn full(region: &Region, state: &State, id: DatabaseId) -> Option<String> {
    let disks = region.detector.full_disks();
    let (node, free) = *disks.iter().find(|(node, _)| state.partitions_of(id).any(|(_, p)| is_member(p, *node)))?;
    let on_one = |partition: &Partition| disks.iter().any(|(node, _)| is_member(partition, *node));
    let count = state.partitions_of(id).filter(|(_, partition)| on_one(partition)).count();
    let leaf = state.node_name(node);
    Some(format!("{count} of its partitions take no writes: leaf {leaf} has {free} bytes free, make room on its disk"))
}

fn is_member(partition: &Partition, node: NodeId) -> bool {
    partition.members.iter().any(|member| member.node == node)
}

/// Why a partition has too few copies. What a person can mend comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lack {
    /// A copy is on a leaf that is silent.
    Offline(NodeId),
    /// A copy is on a leaf that was detached.
    Detached(NodeId),
    /// No leaf has been told to hold one.
    Missing,
    /// The files of one are not what was written to them.
    Damaged(NodeId),
    /// What is ordered is being done.
    Moving,
    /// One does not hold everything yet.
    Behind(NodeId),
}

/// Whether a replica is a copy that counts: it is waited for, or, with ASYNC REPLICATION, keeps up with its primary.
pub fn is_copy(region: &Region, state: &State, id: PartitionId, partition: &Partition, node: NodeId) -> bool {
    let asynchronous = !state.databases[&id.database].mode.sync_replication;
    let counts = is_member(partition, node) || asynchronous && region.detector.keeps_up(state, id, node);
    counts && !region.detector.is_damaged(id, node)
}

fn lack(region: &Region, state: &State, id: PartitionId, partition: &Partition, wanted: usize) -> Option<Lack> {
    let is_copy = |node: &&NodeId| is_copy(region, state, id, partition, **node);
    if partition.replicas.iter().filter(is_copy).count() >= wanted {
        return None;
    }
    if state.moves.contains_key(&id) {
        return Some(Lack::Moving);
    }
    let others = partition.replicas.iter().filter(|node| !is_copy(node));
    let reason = |node: &NodeId| match state.nodes[node].standing {
        Standing::Detached { .. } => Lack::Detached(*node),
        _ if !region.detector.is_up(*node) => Lack::Offline(*node),
        _ if region.detector.is_damaged(id, *node) => Lack::Damaged(*node),
        _ => Lack::Behind(*node),
    };
    let missing = (partition.replicas.len() < wanted).then_some(Lack::Missing);
    others.map(reason).chain(missing).min()
}

/// Partitions with fewer copies than asked for, and what to do.
fn short(region: &Region, state: &State, id: DatabaseId) -> Option<String> {
    let known = &state.databases[&id];
    let (name, wanted) = (quote_name(&known.name), usize::from(known.options.redundancy));
    let lacks = state.partitions_of(id).filter_map(|(id, partition)| lack(region, state, id, partition, wanted));
    let lacks: Vec<Lack> = lacks.collect();
    let count = lacks.len();
    let leaves = state.nodes.iter().filter(|(id, node)| node.takes_replicas() && region.detector.is_up(**id));
    let groups: BTreeSet<_> = leaves.map(|(_, node)| node.group).collect();
    let restore = match groups.len() {
        enough if enough >= wanted => format!("RESTORE REDUNDANCY ON {name}"),
        few => format!(
            "ADD LEAF, then RESTORE REDUNDANCY ON {name}, for {wanted} copies need leaves in {wanted} groups and there are {few}"
        ),
    };
    let advice = match lacks.into_iter().min()? {
        Lack::Offline(node) => {
            format!("start leaf {} (node {node}) again; if it is lost: {restore}", state.node_name(node))
        }
        Lack::Detached(node) => format!("ATTACH LEAF '{}'", state.node_name(node)),
        Lack::Missing => restore,
        Lack::Damaged(node) => {
            format!("the copy on leaf {} is damaged and is made anew: CHECK DATABASE {name}", state.node_name(node))
        }
        Lack::Moving => "they are being made: SHOW REBALANCE STATUS".into(),
        Lack::Behind(_) => format!("they are catching up by themselves: SHOW PARTITIONS ON {name}"),
    };
    let needed = known.options.min_in_sync;
    let closed = state.partitions_of(id).filter(|(_, held)| held.members.len() < usize::from(needed)).count();
    let refusal = match closed {
        0 => String::new(),
        _ => format!("{closed} of its partitions take no writes, for min_in_sync is {needed}; "),
    };
    Some(format!("{refusal}{count} of its partitions have fewer than {wanted} copies that are up to date: {advice}"))
}

/// What to do about copies that one group of leaves could lose at once; what moves is on its way out of there, or in.
fn close(state: &State, id: DatabaseId) -> Option<String> {
    let shares = |(id, partition): &(PartitionId, &Partition)| {
        let groups: BTreeSet<_> = partition.replicas.iter().map(|node| state.nodes[node].group).collect();
        groups.len() < partition.replicas.len() && !state.moves.contains_key(id)
    };
    let count = state.partitions_of(id).filter(shares).count();
    let name = quote_name(&state.databases[&id].name);
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
