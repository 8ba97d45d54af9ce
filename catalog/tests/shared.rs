//! Shared maps are ordered maps, and a change after a copy costs a chunk.

use std::collections::BTreeMap;
use std::ops::Bound;

use perennial_catalog::shared::SharedMap;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Insert(u16, u32),
    Remove(u16),
    Change(u16, u32),
    Copy,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..600u16, any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => (0..600u16).prop_map(Step::Remove),
        2 => (0..600u16, any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
        1 => Just(Step::Copy),
    ]
}

proptest! {
    #[test]
    fn a_shared_map_does_what_an_ordered_map_does(
        steps in prop::collection::vec(step(), 1..1500),
        from in 0..600u16,
        to in 0..600u16,
    ) {
        let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
        let mut copies = Vec::new();
        for step in steps {
            match step {
                Step::Insert(key, value) => prop_assert_eq!(map.insert(key, value), model.insert(key, value)),
                Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                Step::Change(key, value) => {
                    if let Some(held) = map.get_mut(&key) {
                        *held = value;
                    }
                    model.entry(key).and_modify(|held| *held = value);
                }
                Step::Copy => copies.push((map.clone(), model.clone())),
            }
            map.check();
        }
        copies.push((map, model));
        for (map, model) in copies {
            prop_assert_eq!(map.len(), model.len());
            prop_assert!(map.iter().eq(model.iter()));
            prop_assert!((0..600).all(|key| map.get(&key) == model.get(&key)));
            let (low, high) = (from.min(to), from.max(to));
            prop_assert!(map.range(low..=high).eq(model.range(low..=high)));
            prop_assert!(map.range(low..).eq(model.range(low..)));
            prop_assert!(map.range(..high).eq(model.range(..high)));
            let behind = (Bound::Excluded(low), Bound::Unbounded);
            prop_assert!(map.range(behind).eq(model.range(behind)));
            let again: SharedMap<u16, u32> = model.into_iter().collect();
            prop_assert_eq!(&again, &map);
        }
    }
}

#[test]
fn shared_maps_are_serialised_as_ordered_maps() {
    let model: BTreeMap<u32, String> = (0..300).map(|key| (key * 7 % 300, format!("value {key}"))).collect();
    let map: SharedMap<u32, String> = model.clone().into_iter().collect();
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&map, config).expect("it can be encoded");
    assert_eq!(bytes, bincode::serde::encode_to_vec(&model, config).expect("it can be encoded"));
    let (back, _): (SharedMap<u32, String>, usize) =
        bincode::serde::decode_from_slice(&bytes, config).expect("it can be decoded");
    assert_eq!(back, map);
}

#[test]
fn a_change_after_a_copy_copies_one_chunk() {
    let map: SharedMap<u32, u64> = (0..100_000).map(|key| (key, 0)).collect();
    let mut changed = map.clone();
    assert_eq!(changed.chunks_apart(&map), 0);
    *changed.get_mut(&40_000).expect("it is there") = 1;
    assert_eq!(changed.chunks_apart(&map), 1);
    assert!(changed.chunks() < 4_000, "{} chunks", changed.chunks());
    // Looking for what is not there copies nothing.
    assert_eq!(changed.get_mut(&100_000), None);
    assert_eq!(changed.remove(&100_000), None);
    assert_eq!(changed.chunks_apart(&map), 1);
}
