//! What the master tells a leaf in answer to its heartbeat, of what the catalog holds.
//!
//! The answer costs as much as there is to tell: it looks at what has changed since the leaf obeyed last, and at what that
//! leaf holds. It does not look at all partitions, nor at all nodes.

use std::collections::BTreeSet;

use types::{DatabaseId, Member, NodeId, Revision, Timestamp};

use crate::database::Database;
use crate::heartbeat::{Orders, Peer};
use crate::state::State;

/// Which processes there are, as one master sees it: when that changed last. Volatile, for every leaf hears all of a new
/// master.
#[derive(Clone, Debug, Default)]
pub struct Peerage {
    seen: Revision,
    known: Vec<(Member, bool, String)>,
    changed: Revision,
}

impl Peerage {
    /// Looks at the catalog, if it has changed. Afterwards a leaf that has obeyed less than what is returned here need know
    /// something else of others.
    pub fn look(&mut self, state: &State) -> Revision {
        // Of an older state, too: who is answered with that has not obeyed what changed last, and is told with the next answer.
        if state.revision <= self.seen && self.changed > Revision(0) {
            return self.changed;
        }
        let of = |(node, known): (&NodeId, &crate::node::Node)| {
            let member = Member { node: *node, incarnation: known.incarnation };
            (member, known.holds_replicas(), known.addresses.rpc.clone())
        };
        if !self.known.iter().cloned().eq(state.nodes.iter().map(of)) {
            self.known = state.nodes.iter().map(of).collect();
            self.changed = state.revision;
        }
        self.seen = state.revision;
        self.changed
    }
}

/// What a leaf's process is told that has obeyed up to `obeyed`. `is_new`: it was told nothing by this master yet;
/// `nodes_changed`: see [`Peerage::look`]. What is not in the catalog is left empty.
pub fn orders(state: &State, node: NodeId, obeyed: Revision, is_new: bool, nodes_changed: Revision) -> Orders {
    let views = state.views_since(node, obeyed);
    let removals = state.removals_of(node);
    // With a partition that it holds others hold it, too; and what it shares with others no longer may come with a removal.
    let other_peers = is_new || obeyed < nodes_changed || !views.is_empty() || !removals.is_empty();
    Orders {
        revision: state.revision,
        views,
        news: state.news_since(node, obeyed),
        removals,
        finals: finals(state),
        peers: other_peers.then(|| peers(state, node)),
        aggregators: state.group().map(|(_, node)| node.addresses.rpc.clone()).collect(),
        ..Orders::default()
    }
}

/// The leaves that hold a partition which this one holds: no others are talked to.
pub fn peers(state: &State, node: NodeId) -> Vec<Peer> {
    let held = state.partitions.held_by(node);
    let sharing: BTreeSet<NodeId> = held.flat_map(|(_, partition)| partition.replicas.iter().copied()).collect();
    let others = sharing.into_iter().filter(|other| *other != node).filter_map(|other| {
        let known = state.nodes.get(&other).filter(|known| known.holds_replicas())?;
        Some(Peer { member: Member { node: other, incarnation: known.incarnation }, rpc: known.addresses.rpc.clone() })
    });
    others.collect()
}

/// Of all sealed databases whose end is known.
fn finals(state: &State) -> Vec<(DatabaseId, Timestamp)> {
    let known = |(id, database): (&DatabaseId, &Database)| Some((*id, database.fenced.finals.as_ref()?.time));
    state.databases.iter().filter_map(known).collect()
}
