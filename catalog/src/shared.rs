//! Ordered maps and sets of which copies share what is equal.
//!
//! Every command that is applied leaves a state that others read while the next one is applied, so the state is copied again
//! and again. Of 100,000 partitions a command changes one: the entries lie in chunks, a copy takes the chunks, and only a
//! chunk that is written to is copied itself. Nothing else differs from the ordered maps of the standard library: equal
//! entries are equal maps, whatever their chunks, and they are serialised as those are.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, Index, RangeBounds};
use std::sync::Arc;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most entries of a chunk: what the first write after a copy costs.
const CHUNK_MAX: usize = 64;
/// A chunk with fewer is joined with the next one, if both together are half full at most.
const CHUNK_MIN: usize = CHUNK_MAX / 8;

/// An ordered map.
///
/// Invariants: no chunk is empty; all keys of a chunk are at or above the key that it stands under, and below the next one's.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    chunks: BTreeMap<K, Arc<BTreeMap<K, V>>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// Nothing.
    pub fn new() -> SharedMap<K, V> {
        SharedMap { chunks: BTreeMap::new(), len: 0 }
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many chunks: what a copy of the map copies.
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// How many chunks are this map's and not the other's: what has been copied since one was made of the other.
    pub fn chunks_apart(&self, other: &SharedMap<K, V>) -> usize {
        let same = |(key, chunk): &(&K, &Arc<BTreeMap<K, V>>)| {
            other.chunks.get(*key).is_some_and(|theirs| Arc::ptr_eq(chunk, theirs))
        };
        self.chunks.len() - self.chunks.iter().filter(same).count()
    }

    /// What stands under a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.chunks.range(..=key).next_back().and_then(|(_, chunk)| chunk.get(key))
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (_, chunk) = self.chunks.range_mut(..=key).next_back()?;
        // A chunk that does not hold it is not copied for it.
        chunk.contains_key(key).then(|| Arc::make_mut(chunk).get_mut(key).expect("it was found above"))
    }

    /// Whether something stands under a key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Puts something under a key; returns what stood there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let under = match self.chunks.range(..=&key).next_back() {
            Some((under, _)) => under.clone(),
            None => self.lower(&key),
        };
        let chunk = Arc::make_mut(self.chunks.get_mut(&under).expect("it was found or made above"));
        let old = chunk.insert(key, value);
        self.len += usize::from(old.is_none());
        if chunk.len() > CHUNK_MAX {
            let middle = chunk.keys().nth(chunk.len() / 2).expect("it is not empty").clone();
            let upper = chunk.split_off(&middle);
            self.chunks.insert(middle, Arc::new(upper));
        }
        old
    }

    /// The first chunk, made to stand under a key that is below all others.
    fn lower(&mut self, key: &K) -> K {
        let first = self.chunks.pop_first().map_or_else(Arc::default, |(_, chunk)| chunk);
        self.chunks.insert(key.clone(), first);
        key.clone()
    }

    /// Takes away what stands under a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (under, chunk) = self.chunks.range_mut(..=key).next_back()?;
        if !chunk.contains_key(key) {
            return None;
        }
        let chunk = Arc::make_mut(chunk);
        let old = chunk.remove(key);
        let (under, left) = (under.clone(), chunk.len());
        self.len -= 1;
        if left == 0 {
            self.chunks.remove(&under);
        } else if left < CHUNK_MIN {
            self.join_with_next(&under, left);
        }
        old
    }

    fn join_with_next(&mut self, under: &K, left: usize) {
        let next = self.chunks.range((Bound::Excluded(under), Bound::Unbounded)).next();
        let Some((next, chunk)) = next else { return };
        if chunk.len() + left > CHUNK_MAX / 2 {
            return;
        }
        let next = next.clone();
        let upper = self.chunks.remove(&next).expect("it was found above");
        let lower = self.chunks.get_mut(under).expect("the caller has found it");
        Arc::make_mut(lower).extend(Arc::unwrap_or_clone(upper));
    }

    /// All entries, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.chunks.values().flat_map(|chunk| chunk.iter())
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries of a range of keys, in their order.
    pub fn range<'a, R>(&'a self, range: R) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V, R>
    where
        R: RangeBounds<K> + Clone,
    {
        let start = match range.start_bound() {
            Bound::Included(key) | Bound::Excluded(key) => self.chunks.range(..=key).next_back(),
            Bound::Unbounded => None,
        };
        let chunks = match start {
            Some((under, _)) => self.chunks.range(under.clone()..),
            None => self.chunks.range(..),
        };
        let end = range.clone();
        let begins_within = move |under: &K| match end.end_bound() {
            Bound::Included(last) => under <= last,
            Bound::Excluded(behind) => under < behind,
            Bound::Unbounded => true,
        };
        let within = chunks.take_while(move |(under, _)| begins_within(under));
        within.flat_map(move |(_, chunk)| chunk.range(range.clone()))
    }

    /// Panics if an invariant does not hold.
    pub fn check(&self) {
        let counted: usize = self.chunks.values().map(|chunk| chunk.len()).sum();
        assert_eq!(counted, self.len, "entries of a shared map");
        for (under, chunk) in &self.chunks {
            let (Some(first), Some(last)) = (chunk.keys().next(), chunk.keys().next_back()) else {
                panic!("an empty chunk in a shared map");
            };
            assert!(first >= under, "a key below its chunk's");
            let next = self.chunks.range((Bound::Excluded(under), Bound::Unbounded)).next();
            assert!(next.is_none_or(|(next, _)| last < next), "a key in the wrong chunk");
            assert!(chunk.len() <= CHUNK_MAX, "a chunk of {} entries", chunk.len());
        }
    }
}

impl<K: Ord + Clone, V: Clone> Default for SharedMap<K, V> {
    fn default() -> SharedMap<K, V> {
        SharedMap::new()
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &SharedMap<K, V>) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone, V: Clone> Index<&K> for SharedMap<K, V> {
    type Output = V;

    fn index(&self, key: &K) -> &V {
        self.get(key).expect("nothing stands under this key")
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SharedMap<K, V> {
        let mut map = SharedMap::new();
        entries.into_iter().for_each(|(key, value)| drop(map.insert(key, value)));
        map
    }
}

impl<K: Ord + Clone + Serialize, V: Clone + Serialize> Serialize for SharedMap<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Counted(self.iter(), self.len))
    }
}

/// An iterator that knows its length, which formats without an end mark ask for.
struct Counted<I>(I, usize);

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        let next = self.0.next();
        self.1 -= usize::from(next.is_some());
        next
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

struct Entries<K, V>(PhantomData<(K, V)>);

impl<'de, K, V> Visitor<'de> for Entries<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    type Value = SharedMap<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<SharedMap<K, V>, A::Error> {
        let mut map = SharedMap::new();
        while let Some((key, value)) = entries.next_entry()? {
            map.insert(key, value);
        }
        Ok(map)
    }
}

impl<'de, K, V> Deserialize<'de> for SharedMap<K, V>
where
    K: Ord + Clone + Deserialize<'de>,
    V: Clone + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SharedMap<K, V>, D::Error> {
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// An ordered set.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SharedSet<K: Ord + Clone>(SharedMap<K, ()>);

impl<K: Ord + Clone> SharedSet<K> {
    /// Nothing.
    pub fn new() -> SharedSet<K> {
        SharedSet(SharedMap::new())
    }

    /// Puts something in; false if it was there.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Takes something out; false if it was not there.
    pub fn remove(&mut self, key: &K) -> bool {
        self.0.remove(key).is_some()
    }

    /// Whether something is in it.
    pub fn contains(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    /// All of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// What is in a range, in order.
    pub fn range<'a, R>(&'a self, range: R) -> impl Iterator<Item = &'a K> + use<'a, K, R>
    where
        R: RangeBounds<K> + Clone,
    {
        self.0.range(range).map(|(key, ())| key)
    }
}

impl<K: Ord + Clone + fmt::Debug> fmt::Debug for SharedSet<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone + Serialize> Serialize for SharedSet<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Counted(self.iter(), self.0.len))
    }
}

struct Keys<K>(PhantomData<K>);

impl<'de, K: Ord + Clone + Deserialize<'de>> Visitor<'de> for Keys<K> {
    type Value = SharedSet<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<SharedSet<K>, A::Error> {
        let mut set = SharedSet::new();
        while let Some(key) = keys.next_element()? {
            set.insert(key);
        }
        Ok(set)
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>> Deserialize<'de> for SharedSet<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SharedSet<K>, D::Error> {
        deserializer.deserialize_seq(Keys(PhantomData))
    }
}
