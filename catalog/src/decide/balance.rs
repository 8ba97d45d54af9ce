//! Where the partitions of databases should be: a plan, as data, that moves as little as it can.
//!
//! 1. What is lost is replaced: copies on leaves that are not there, too few copies, two in one group of leaves.
//! 2. Copies are levelled: one goes from a leaf with more to a leaf with less, as long as that makes the two more even.
//! 3. Primaries are levelled over the copies there are then, which moves no data. A chain of hand-overs does what a single
//!    one cannot: the fullest leaf hands over to a second one, that one to a third.
//! 4. With FULL, the secondaries of one leaf's primaries are spread over all others, so that a failed leaf's load falls on
//!    all of them.
//!
//! Each step of 2 to 4 lowers a sum of squares, so they end. Everything is in the order of ids: equal states, equal plans.
//!
//! Databases that are planned together share one sum of copies, which each of them reads and changes: what is planned for one counts
//! for the next. They are levelled in turn until none changes any more, so a plan that was carried out leaves nothing to plan.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use types::{DatabaseId, NodeId, PartitionId};

use crate::command::PlannedMove;
use crate::node::Group;
use crate::outcome::Refusal;
use crate::state::State;

/// How far a plan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aim {
    /// As many copies as `redundancy` says.
    Restore,
    /// And loads that are even.
    Balance,
    /// And the secondaries of each leaf's primaries spread over all others.
    Full,
}

/// A leaf that takes copies, and its load.
#[derive(Clone, Copy, Debug)]
struct Load {
    group: Group,
    /// Of the database: copies, and primaries among them.
    copies: i64,
    primaries: i64,
    /// Copies of all databases.
    all: i64,
}

/// One partition, as it is planned.
#[derive(Clone, Debug)]
struct Part {
    id: PartitionId,
    based: BTreeSet<NodeId>,
    replicas: BTreeSet<NodeId>,
    primary: NodeId,
    /// It stays as it is: it is moving already, or nobody is left who could copy it.
    fixed: bool,
}

impl Part {
    fn secondaries(&self) -> Vec<NodeId> {
        self.replicas.iter().copied().filter(|node| *node != self.primary).collect()
    }
}

/// How often a leaf holds a secondary of another leaf's primary.
#[derive(Default)]
struct Pairs(BTreeMap<(NodeId, NodeId), i64>);

impl Pairs {
    fn of(&self, primary: NodeId, node: NodeId) -> i64 {
        self.0.get(&(primary, node)).copied().unwrap_or(0)
    }

    fn count(&mut self, primary: NodeId, node: NodeId, by: i64) {
        *self.0.entry((primary, node)).or_default() += by;
    }
}

struct Plan<'a> {
    state: &'a State,
    database: DatabaseId,
    loads: BTreeMap<NodeId, Load>,
    parts: Vec<Part>,
    /// Which parts have a copy on each leaf.
    held: BTreeMap<NodeId, BTreeSet<usize>>,
}

/// The moves that bring databases to their aim. `there`: leaves that were heard of late; copies on others count as lost.
///
/// Refuses if there are fewer groups of leaves than copies are wanted. A partition of which no copy is left where it could
/// be copied from stays as it is.
pub fn plan(
    state: &State,
    ids: &[DatabaseId],
    there: &BTreeSet<NodeId>,
    aim: Aim,
) -> Result<Vec<PlannedMove>, Refusal> {
    let takes = |node: &NodeId| there.contains(node) && state.nodes[node].takes_replicas();
    let (mut plans, mut sum) = plans(state, ids, takes);
    for plan in &mut plans {
        plan.read(&sum);
        let wanted = usize::from(state.databases[&plan.database].options.redundancy);
        for index in 0..plan.parts.len() {
            plan.keep(index, takes, there, (aim != Aim::Restore).then_some(wanted));
        }
        plan.fill(|_| (wanted, wanted))?;
        plan.lead();
        sum = plan.sum();
    }
    if aim != Aim::Restore {
        level(&mut plans, sum);
        plans.iter_mut().for_each(Plan::level_primaries);
    }
    if aim == Aim::Full {
        plans.iter_mut().for_each(Plan::spread);
    }
    Ok(plans.into_iter().flat_map(Plan::moves).collect())
}

/// The moves that bring everything away from a leaf, so that each partition has as many copies as `redundancy` says; or as
/// it has now, where there are not enough groups of leaves for more. What is moving already is left out.
pub fn evacuate(state: &State, leaf: NodeId, there: &BTreeSet<NodeId>) -> Result<Vec<PlannedMove>, Refusal> {
    let takes = |node: &NodeId| there.contains(node) && state.nodes[node].takes_replicas() && *node != leaf;
    let holds = |id: &DatabaseId| state.partitions.held_of(leaf, *id).next().is_some();
    let ids: Vec<DatabaseId> = state.databases.keys().copied().filter(holds).collect();
    let (mut plans, mut sum) = plans(state, &ids, takes);
    for plan in &mut plans {
        plan.read(&sum);
        let (wanted, mut least) = (usize::from(state.databases[&plan.database].options.redundancy), Vec::new());
        for part in &mut plan.parts {
            part.fixed |= !part.based.contains(&leaf);
            least.push(part.based.len().min(wanted).max(1));
        }
        for index in 0..plan.parts.len() {
            // Copies on leaves that are away for a moment are kept where they are.
            plan.keep(index, |node| *node != leaf && state.nodes[node].takes_replicas(), there, None);
        }
        plan.fill(|index| (least[index], wanted))?;
        plan.lead();
        sum = plan.sum();
    }
    Ok(plans.into_iter().flat_map(Plan::moves).collect())
}

/// Copies of all databases on each leaf that takes some.
type Sum = BTreeMap<NodeId, i64>;

/// Databases as they are, to be planned together.
fn plans<'a>(state: &'a State, ids: &[DatabaseId], takes: impl Fn(&NodeId) -> bool) -> (Vec<Plan<'a>>, Sum) {
    let leaves = state.nodes.keys().filter(|node| takes(node));
    let copies = |node: NodeId| {
        let planned: usize = ids.iter().map(|id| state.partitions.held_of(node, *id).count()).sum();
        state.partitions.count_held_by(node) as i64 - planned as i64
    };
    let mut sum: Sum = leaves.map(|node| (*node, copies(*node))).collect();
    // What moves of other databases is where it shall be.
    for (id, wanted) in state.moves.iter().filter(|(id, _)| !ids.contains(&id.database)) {
        let mut change = |nodes: &BTreeSet<NodeId>, by: i64| {
            for node in nodes {
                sum.entry(*node).and_modify(|all| *all += by);
            }
        };
        change(&state.partitions[id].replicas, -1);
        change(&wanted.replicas, 1);
    }
    let mut plans = Vec::new();
    for id in ids {
        let plan = Plan::new(state, *id, &sum);
        sum = plan.sum();
        plans.push(plan);
    }
    (plans, sum)
}

/// Levels the copies of databases in turn, until none of them changes. A step makes one database more even, or at no cost for
/// it all of them together, so it ends.
fn level(plans: &mut [Plan<'_>], mut sum: Sum) {
    loop {
        let mut changed = false;
        for plan in &mut *plans {
            plan.read(&sum);
            changed |= plan.level_copies();
            sum = plan.sum();
        }
        if !changed {
            return;
        }
    }
}

/// Partitions of a leaf of which nobody who is there holds a copy: nothing can be moved.
pub fn stranded(state: &State, leaf: NodeId, there: &BTreeSet<NodeId>) -> Vec<PartitionId> {
    let held = state.partitions.held_by(leaf);
    held.filter(|(_, held)| held.replicas.is_disjoint(there)).map(|(id, _)| id).collect()
}

impl<'a> Plan<'a> {
    /// As it is. `sum`: the copies of other databases.
    fn new(state: &'a State, id: DatabaseId, sum: &Sum) -> Plan<'a> {
        let load = |node: &NodeId, all: i64| Load { group: state.nodes[node].group, copies: 0, primaries: 0, all };
        let loads = sum.iter().map(|(node, all)| (*node, load(node, *all))).collect();
        let aim = |id: &PartitionId| match state.moves.get(id) {
            Some(wanted) => (wanted.replicas.clone(), wanted.primary, wanted.begun.is_some()),
            None => (state.partitions[id].replicas.clone(), state.partitions[id].primary.node, false),
        };
        let part = |(partition, held): (PartitionId, &crate::partition::Partition)| {
            let (replicas, primary, fixed) = aim(&partition);
            match fixed {
                true => Part { id: partition, based: replicas.clone(), replicas, primary, fixed },
                // A move that has not begun is planned anew.
                false => {
                    let (based, primary) = (held.replicas.clone(), held.primary.node);
                    Part { id: partition, replicas: based.clone(), based, primary, fixed }
                }
            }
        };
        let parts = state.partitions_of(id).map(part).collect();
        let mut plan = Plan { state, database: id, loads, parts, held: BTreeMap::new() };
        for index in 0..plan.parts.len() {
            let part = plan.parts[index].clone();
            part.replicas.iter().for_each(|node| plan.count(index, *node, 1));
            plan.lead_by(part.primary, 1);
        }
        plan
    }

    /// Takes over what was planned for other databases meanwhile.
    fn read(&mut self, sum: &Sum) {
        self.loads.iter_mut().for_each(|(node, load)| load.all = sum[node]);
    }

    fn sum(&self) -> Sum {
        self.loads.iter().map(|(node, load)| (*node, load.all)).collect()
    }

    fn count(&mut self, index: usize, node: NodeId, by: i64) {
        let held = self.held.entry(node).or_default();
        if by > 0 {
            held.insert(index);
        } else {
            held.remove(&index);
        }
        if let Some(load) = self.loads.get_mut(&node) {
            (load.copies, load.all) = (load.copies + by, load.all + by);
        }
    }

    fn lead_by(&mut self, node: NodeId, by: i64) {
        if let Some(load) = self.loads.get_mut(&node) {
            load.primaries += by;
        }
    }

    fn add(&mut self, index: usize, node: NodeId) {
        if self.parts[index].replicas.insert(node) {
            self.count(index, node, 1);
        }
    }

    fn remove(&mut self, index: usize, node: NodeId) {
        if self.parts[index].replicas.remove(&node) {
            self.count(index, node, -1);
        }
    }

    fn set_primary(&mut self, index: usize, node: NodeId) {
        let old = std::mem::replace(&mut self.parts[index].primary, node);
        self.lead_by(old, -1);
        self.lead_by(node, 1);
    }

    fn group(&self, node: NodeId) -> Group {
        self.state.nodes[&node].group
    }

    /// Keeps the copies that count: with `most`, that many at most, and one a group.
    fn keep(&mut self, index: usize, counts: impl Fn(&NodeId) -> bool, there: &BTreeSet<NodeId>, most: Option<usize>) {
        let part = self.parts[index].clone();
        if part.fixed {
            return;
        }
        if part.replicas.is_disjoint(there) {
            self.parts[index].fixed = true;
            return;
        }
        let members = &self.state.partitions[&part.id].members;
        let joined = |node: NodeId| members.iter().any(|member| member.node == node);
        let mut order: Vec<NodeId> = part.replicas.iter().copied().collect();
        // The best first: who leads, who is in the set, who has less.
        order.sort_by_key(|node| {
            let copies = self.loads.get(node).map_or(i64::MAX, |load| load.copies);
            (*node != part.primary, !joined(*node), copies, *node)
        });
        let mut groups = BTreeSet::new();
        for node in order {
            let apart = !groups.contains(&self.group(node));
            if counts(&node) && (apart && most.is_none_or(|most| groups.len() < most) || most.is_none()) {
                groups.insert(self.group(node));
            } else {
                self.remove(index, node);
            }
        }
    }

    /// Adds copies where there are too few: how many there must be, and how many there should be.
    fn fill(&mut self, counts: impl Fn(usize) -> (usize, usize)) -> Result<(), Refusal> {
        for index in 0..self.parts.len() {
            let (least, wanted) = counts(index);
            while !self.parts[index].fixed && self.parts[index].replicas.len() < wanted {
                let free = self.loads.iter().filter(|(node, load)| self.is_free(index, **node, load.group, None));
                let best = free.min_by_key(|(node, load)| (load.copies, load.all, **node)).map(|(node, _)| *node);
                let Some(best) = best else {
                    if self.parts[index].replicas.len() >= least {
                        break;
                    }
                    return Err(self.too_few_groups(index, least));
                };
                self.add(index, best);
            }
        }
        Ok(())
    }

    /// Whether a copy may go to a leaf, once `leaving` has none any more.
    fn is_free(&self, index: usize, node: NodeId, group: Group, leaving: Option<NodeId>) -> bool {
        let replicas = &self.parts[index].replicas;
        !replicas.contains(&node) && replicas.iter().all(|other| Some(*other) == leaving || self.group(*other) != group)
    }

    fn too_few_groups(&self, index: usize, wanted: usize) -> Refusal {
        let id = self.parts[index].id;
        let groups: BTreeSet<Group> = self.loads.values().map(|load| load.group).collect();
        let name = &self.state.databases[&id.database].name;
        Refusal::DoFirst {
            object: format!("database `{name}`"),
            problem: format!(
                "needs {wanted} copies of partition {} in different groups of leaves, and {} groups are online",
                id.ordinal,
                groups.len()
            ),
            first: format!("ADD LEAF, or ALTER DATABASE {name} SET OPTIONS (redundancy = …)"),
        }
    }

    /// Somebody who stays leads: the one with the fewest primaries.
    fn lead(&mut self) {
        for index in 0..self.parts.len() {
            let part = &self.parts[index];
            if part.fixed || part.replicas.contains(&part.primary) {
                continue;
            }
            let members = &self.state.partitions[&part.id].members;
            let joined = |node: NodeId| members.iter().any(|member| member.node == node);
            let load = |node: &NodeId| self.loads.get(node).map_or(i64::MAX, |load| load.primaries);
            let best = part.replicas.iter().min_by_key(|node| (!joined(**node), load(node), **node)).copied();
            self.set_primary(index, best.expect("a partition that is not fixed has a copy"));
        }
    }

    /// Moves copies from fuller to emptier leaves, while that makes the two more even; at equal loads of this database,
    /// while it makes the loads of all databases more even. Whether anything was moved.
    fn level_copies(&mut self) -> bool {
        let mut moved = false;
        while let Some((index, from, to)) = self.next_copy() {
            moved = true;
            self.add(index, to);
            if self.parts[index].primary == from {
                self.set_primary(index, to);
            }
            self.remove(index, from);
        }
        moved
    }

    fn next_copy(&self) -> Option<(usize, NodeId, NodeId)> {
        let mut order: Vec<(NodeId, Load)> = self.loads.iter().map(|(node, load)| (*node, *load)).collect();
        order.sort_by_key(|(node, load)| (load.copies, load.all, *node));
        for (from, full) in order.iter().rev() {
            for (to, empty) in &order {
                let gain = (full.copies - empty.copies, full.all - empty.all);
                if gain.0 < 1 {
                    break;
                }
                if gain.0 >= 2 || gain.1 >= 2 {
                    let best = self.best_copy(*from, *to, empty.group);
                    if best.is_some() {
                        return best.map(|index| (index, *from, *to));
                    }
                }
            }
        }
        None
    }

    /// Which copy goes from one leaf to another at the least cost.
    fn best_copy(&self, from: NodeId, to: NodeId, group: Group) -> Option<usize> {
        let moves = |index: &usize| !self.parts[*index].fixed && self.is_free(*index, to, group, Some(from));
        // One that is on its way already costs nothing; then one that need not be handed over.
        let cost = |index: &usize| {
            let part = &self.parts[*index];
            (part.based.contains(&from), !part.based.contains(&to), part.primary == from, *index)
        };
        self.held.get(&from)?.iter().copied().filter(moves).min_by_key(cost)
    }

    /// Hands primaries over from leaves with more to leaves with less, along chains of leaves that hold copies.
    fn level_primaries(&mut self) {
        while let Some(chain) = self.next_chain() {
            for (index, to) in chain {
                self.set_primary(index, to);
            }
        }
    }

    /// The shortest chain from a leaf to one that leads at least two partitions less: who is handed which partition.
    fn next_chain(&self) -> Option<Vec<(usize, NodeId)>> {
        let mut starts: Vec<(NodeId, i64)> = self.loads.iter().map(|(node, load)| (*node, load.primaries)).collect();
        starts.sort_by_key(|(node, primaries)| (std::cmp::Reverse(*primaries), *node));
        starts.into_iter().find_map(|(start, most)| {
            let mut reached: BTreeMap<NodeId, Option<(NodeId, usize)>> = [(start, None)].into();
            let mut queue = VecDeque::from([start]);
            while let Some(node) = queue.pop_front() {
                if self.loads[&node].primaries <= most - 2 {
                    return Some(chain(&reached, node));
                }
                let led = self.held.get(&node).into_iter().flatten().map(|index| (*index, &self.parts[*index]));
                for (index, part) in led.filter(|(_, part)| part.primary == node && !part.fixed) {
                    for next in part.replicas.iter().filter(|next| self.loads.contains_key(next)) {
                        if !reached.contains_key(next) {
                            reached.insert(*next, Some((node, index)));
                            queue.push_back(*next);
                        }
                    }
                }
            }
            None
        })
    }

    /// Swaps secondaries of two partitions, while that spreads them better over the leaves that do not lead them.
    fn spread(&mut self) {
        let mut pairs = Pairs::default();
        for part in &self.parts {
            part.secondaries().into_iter().for_each(|node| pairs.count(part.primary, node, 1));
        }
        let movable: Vec<usize> = (0..self.parts.len()).filter(|index| !self.parts[*index].fixed).collect();
        let mut swapped = true;
        while std::mem::take(&mut swapped) {
            for one in &movable {
                for other in movable.iter().filter(|other| *other > one) {
                    while let Some((own, theirs)) = self.swap_between(*one, *other, &pairs) {
                        self.swap(*one, own, *other, theirs, &mut pairs);
                        swapped = true;
                    }
                }
            }
        }
    }

    /// Secondaries of two partitions that should be swapped.
    fn swap_between(&self, one: usize, other: usize, pairs: &Pairs) -> Option<(NodeId, NodeId)> {
        let (p, q) = (self.parts[one].primary, self.parts[other].primary);
        let gains = |own: NodeId, theirs: NodeId| {
            // The change of the sum of squares, halved.
            let gain = pairs.of(p, own) + pairs.of(q, theirs) - pairs.of(p, theirs) - pairs.of(q, own) - 2;
            p != q
                && own != theirs
                && gain > 0
                && self.loads.contains_key(&own)
                && self.loads.contains_key(&theirs)
                && self.is_free(one, theirs, self.group(theirs), Some(own))
                && self.is_free(other, own, self.group(own), Some(theirs))
        };
        let theirs = self.parts[other].secondaries();
        self.parts[one].secondaries().into_iter().find_map(|own| {
            let found = theirs.iter().copied().find(|theirs| gains(own, *theirs));
            found.map(|theirs| (own, theirs))
        })
    }

    fn swap(&mut self, one: usize, own: NodeId, other: usize, theirs: NodeId, pairs: &mut Pairs) {
        let (p, q) = (self.parts[one].primary, self.parts[other].primary);
        for (primary, node, by) in [(p, own, -1), (q, theirs, -1), (p, theirs, 1), (q, own, 1)] {
            pairs.count(primary, node, by);
        }
        self.remove(one, own);
        self.remove(other, theirs);
        self.add(one, theirs);
        self.add(other, own);
    }

    /// What is to be done.
    fn moves(self) -> Vec<PlannedMove> {
        let state = self.state;
        let changed = |part: &Part| {
            let led = state.partitions[&part.id].primary.node;
            let (replicas, primary) = match state.moves.get(&part.id) {
                // Ordered before and not begun: that is no longer wanted, if this is another aim.
                Some(wanted) => (&wanted.replicas, wanted.primary),
                None => (&part.based, led),
            };
            !part.fixed && (part.replicas != *replicas || part.primary != primary)
        };
        let planned = self.parts.into_iter().filter(changed);
        planned
            .map(|Part { id, based, replicas, primary, .. }| PlannedMove { partition: id, based, replicas, primary })
            .collect()
    }
}

/// The hand-overs that lead to a leaf, the last one first: each makes room for the one before.
fn chain(reached: &BTreeMap<NodeId, Option<(NodeId, usize)>>, end: NodeId) -> Vec<(usize, NodeId)> {
    let (mut steps, mut node) = (Vec::new(), end);
    while let Some((before, index)) = reached[&node] {
        steps.push((index, node));
        node = before;
    }
    steps
}
