//! The partitions of all databases, and where to look for those of one node.
//!
//! A region has a hundred thousand partitions, and a leaf's heartbeat, a look for failures or the end of a process is about
//! few of them. Which a node holds, which a process leads and which are about to change hands is kept beside the map. It is
//! derived: it is not serialised, and two maps that are equal have equal lists. What they depend on changes in
//! [`Partitions::change`] alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, RangeInclusive};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::{DatabaseId, Member, NodeId, Ordinal, PartitionId};

use crate::partition::Partition;
use crate::shared::SharedMap;

/// Partitions of one owner. Copies share it until one is changed.
type List = Arc<BTreeSet<PartitionId>>;

/// All partitions. Reads as the map that it is.
#[derive(Clone, Debug, Default)]
pub struct Partitions {
    map: SharedMap<PartitionId, Partition>,
    held: BTreeMap<NodeId, List>,
    led: BTreeMap<Member, List>,
    handed_over: List,
}

impl Partitions {
    /// Partitions of which a node holds or shall hold a copy.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = (PartitionId, &Partition)> {
        let held = self.held.get(&node).into_iter().flat_map(|list| list.iter());
        held.map(|id| (*id, &self.map[id]))
    }

    /// How many that are.
    pub fn count_held_by(&self, node: NodeId) -> usize {
        self.held.get(&node).map_or(0, |list| list.len())
    }

    /// The same of one database.
    pub fn held_of(&self, node: NodeId, database: DatabaseId) -> impl Iterator<Item = PartitionId> {
        let held = self.held.get(&node).into_iter().flat_map(move |list| list.range(all_of(database)));
        held.copied()
    }

    /// Every process that leads something, and what.
    pub fn leaders(&self) -> impl Iterator<Item = (Member, &BTreeSet<PartitionId>)> {
        self.led.iter().map(|(member, list)| (*member, &**list))
    }

    /// Partitions that a process leads.
    pub fn led_by(&self, member: Member) -> impl Iterator<Item = (PartitionId, &Partition)> {
        let led = self.led.get(&member).into_iter().flat_map(|list| list.iter());
        led.map(|id| (*id, &self.map[id]))
    }

    /// How many partitions the processes of a node lead, those included that are gone and not replaced yet.
    pub fn count_led_on(&self, node: NodeId) -> usize {
        let first = Member { node, incarnation: types::Incarnation(0) };
        let last = Member { node, incarnation: types::Incarnation(u64::MAX) };
        self.led.range(first..=last).map(|(_, list)| list.len()).sum()
    }

    /// Partitions that are about to change hands.
    pub fn handed_over(&self) -> impl Iterator<Item = (PartitionId, &Partition)> {
        self.handed_over.iter().map(|id| (*id, &self.map[id]))
    }

    /// A new one.
    pub(crate) fn insert(&mut self, id: PartitionId, partition: Partition) {
        let known = self.map.insert(id, partition);
        assert!(known.is_none(), "partition {id} is made twice");
        self.list(id);
    }

    /// One goes.
    pub(crate) fn remove(&mut self, id: &PartitionId) {
        self.unlist(*id);
        self.map.remove(id);
    }

    /// One whose primary, copies and hand-over stay as they are; for those, [`Partitions::change`].
    pub fn get_mut(&mut self, id: &PartitionId) -> Option<&mut Partition> {
        self.map.get_mut(id)
    }

    /// Changes a known one in any way.
    pub(crate) fn change(&mut self, id: PartitionId, change: impl FnOnce(&mut Partition)) {
        self.unlist(id);
        change(self.map.get_mut(&id).expect("only a known partition is changed"));
        self.list(id);
    }

    fn list(&mut self, id: PartitionId) {
        let Partitions { map, held, led, handed_over } = self;
        let partition = &map[&id];
        for node in &partition.replicas {
            Arc::make_mut(held.entry(*node).or_default()).insert(id);
        }
        Arc::make_mut(led.entry(partition.primary).or_default()).insert(id);
        if partition.handover.is_some() {
            Arc::make_mut(handed_over).insert(id);
        }
    }

    fn unlist(&mut self, id: PartitionId) {
        let Partitions { map, held, led, handed_over } = self;
        let Some(partition) = map.get(&id) else { return };
        for node in &partition.replicas {
            take_out(held, *node, id);
        }
        take_out(led, partition.primary, id);
        if handed_over.contains(&id) {
            Arc::make_mut(handed_over).remove(&id);
        }
    }

    /// Panics if the lists are not those of the partitions.
    pub(crate) fn check(&self) {
        self.map.check();
        let fresh: Partitions = self.map.iter().map(|(id, partition)| (*id, partition.clone())).collect();
        assert_eq!(self.held, fresh.held, "which partitions a node holds");
        assert_eq!(self.led, fresh.led, "which partitions a process leads");
        assert_eq!(self.handed_over, fresh.handed_over, "which partitions change hands");
    }
}

fn take_out<K: Ord>(lists: &mut BTreeMap<K, List>, owner: K, id: PartitionId) {
    let Some(list) = lists.get_mut(&owner) else { return };
    Arc::make_mut(list).remove(&id);
    if list.is_empty() {
        lists.remove(&owner);
    }
}

/// Every partition that a database may have.
pub(crate) fn all_of(database: DatabaseId) -> RangeInclusive<PartitionId> {
    let first = PartitionId { database, ordinal: Ordinal(i32::MIN) };
    first..=PartitionId { database, ordinal: Ordinal(i32::MAX) }
}

impl Deref for Partitions {
    type Target = SharedMap<PartitionId, Partition>;

    fn deref(&self) -> &SharedMap<PartitionId, Partition> {
        &self.map
    }
}

impl PartialEq for Partitions {
    fn eq(&self, other: &Partitions) -> bool {
        self.map == other.map
    }
}

impl Eq for Partitions {}

impl FromIterator<(PartitionId, Partition)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (PartitionId, Partition)>>(entries: I) -> Partitions {
        let mut partitions = Partitions { map: entries.into_iter().collect(), ..Partitions::default() };
        let ids: Vec<PartitionId> = partitions.map.keys().copied().collect();
        ids.into_iter().for_each(|id| partitions.list(id));
        partitions
    }
}

impl<'a> IntoIterator for &'a Partitions {
    type Item = (&'a PartitionId, &'a Partition);
    type IntoIter = Box<dyn Iterator<Item = Self::Item> + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.map.iter())
    }
}

impl Serialize for Partitions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.map.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Partitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Partitions, D::Error> {
        let map = SharedMap::<PartitionId, Partition>::deserialize(deserializer)?;
        Ok(map.iter().map(|(id, partition)| (*id, partition.clone())).collect())
    }
}
