//! Keys sort as their values do, end by themselves, and read back.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};
use perennial_types::key::{decode_key, encode_datum, encode_key, prefix_end, shard_hash, shard_of, table_range};
use perennial_types::{Datum, Decimal, Ordinal, TableId};
use proptest::prelude::*;

/// Strategies of one kind each, NULL among them: a column's values are of one kind.
fn column() -> impl Strategy<Value = BoxedStrategy<Datum>> {
    let doubles = prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::NEG_INFINITY)];
    let text = prop_oneof!["[a-c]{0,3}", "\\PC{0,8}", Just("a\0b".to_string()), Just("a\0".to_string())];
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..6),
        proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xff)], 0..6)
    ];
    let kinds: Vec<BoxedStrategy<Datum>> = vec![
        any::<i64>().prop_map(Datum::Int).boxed(),
        (-3i64..3).prop_map(Datum::Int).boxed(),
        any::<u64>().prop_map(Datum::UInt).boxed(),
        any::<i64>().prop_map(|value| Datum::Decimal(Decimal::new(value.into(), 4).unwrap())).boxed(),
        any::<f32>().prop_map(Datum::Float).boxed(),
        doubles.prop_map(Datum::Double).boxed(),
        text.prop_map(Datum::Text).boxed(),
        bytes.prop_map(|bytes| Datum::Bytes(bytes.into())).boxed(),
        any::<i32>().prop_map(Datum::Date).boxed(),
        any::<i64>().prop_map(Datum::DateTime).boxed(),
        any::<i64>().prop_map(Datum::Timestamp).boxed(),
        any::<i64>().prop_map(Datum::Time).boxed(),
    ];
    proptest::sample::select(kinds).prop_map(|kind| prop_oneof![1 => Just(Datum::Null), 9 => kind].boxed())
}

/// Two keys of the same columns.
fn two_keys() -> impl Strategy<Value = (Vec<Datum>, Vec<Datum>)> {
    proptest::collection::vec(column(), 1..4).prop_flat_map(|columns| (columns.clone(), columns))
}

fn compare(a: &[Datum], b: &[Datum]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| a.compare(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bytes_sort_as_values_do((a, b) in two_keys()) {
        let (left, right) = (encode_key(TableId(7), &a), encode_key(TableId(7), &b));
        prop_assert_eq!(left.cmp(&right), compare(&a, &b), "{:?} {:?}", a, b);
    }

    #[test]
    fn no_key_begins_with_another((a, b) in two_keys()) {
        let (left, right) = (encode_key(TableId(7), &a), encode_key(TableId(7), &b));
        prop_assert!(left == right || !right.starts_with(&left));
    }

    #[test]
    fn keys_read_back((key, _) in two_keys(), table in any::<u64>()) {
        let (read_table, columns) = decode_key(&encode_key(TableId(table), &key)).unwrap();
        prop_assert_eq!(read_table, TableId(table));
        prop_assert_eq!(columns.len(), key.len());
        prop_assert_eq!(compare(&columns, &key), Ordering::Equal);
    }

    #[test]
    fn keys_of_a_table_lie_in_its_range((key, _) in two_keys(), table in 0u64..u64::MAX) {
        let (start, end) = table_range(TableId(table));
        let key = encode_key(TableId(table), &key);
        prop_assert!(start <= key && key < end);
    }

    #[test]
    fn a_prefix_ends_after_every_key_with_it(prefix in proptest::collection::vec(any::<u8>(), 0..4), rest in any::<[u8; 3]>()) {
        let key = [prefix.as_slice(), &rest].concat();
        match prefix_end(&prefix) {
            Some(end) => prop_assert!(key.as_slice() < end.as_ref()),
            None => prop_assert!(prefix.iter().all(|byte| *byte == 0xff)),
        }
    }

    #[test]
    fn garbage_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok((table, columns)) = decode_key(&Bytes::from(bytes)) {
            prop_assert_eq!(decode_key(&encode_key(table, &columns)).unwrap().1.len(), columns.len());
        }
    }

    #[test]
    fn shards_are_within_the_partitions((key, _) in two_keys(), partitions in 1u32..300) {
        let Ordinal(shard) = shard_of(&key, partitions);
        prop_assert!((0..partitions as i32).contains(&shard));
    }
}

fn sample() -> Vec<Datum> {
    vec![
        Datum::Null,
        Datum::Int(-1),
        Datum::UInt(258),
        Datum::Decimal(Decimal::parse("-1.50").unwrap()),
        Datum::Double(1.0),
        Datum::Text("a\0b".into()),
        Datum::Date(1),
        Datum::Timestamp(5),
    ]
}

#[test]
fn stored_keys_stay_readable() {
    let stored = "0000000000000007\
        01\
        107fffffffffffffff\
        110000000000000102\
        127fffffffffffffffffffffffffffff6a02\
        14bff0000000000000\
        206100ff620000\
        3080000001\
        328000000000000005";
    let key = encode_key(TableId(7), &sample());
    assert_eq!(hex(&key), stored);
    assert_eq!(decode_key(&key).unwrap(), (TableId(7), sample()));
}

#[test]
fn the_shard_of_a_key_never_changes() {
    assert_eq!(shard_hash(&[Datum::Int(1)]), SHARD_OF_ONE);
    assert_eq!(shard_hash(&[Datum::Text("east".into()), Datum::Null]), SHARD_OF_EAST);
    assert_eq!((0..8).map(|value| shard_of(&[Datum::Int(value)], 8).0).collect::<Vec<_>>(), SHARDS_OF_EIGHT);
}

/// Computed apart from the code, from the words of the format's description.
const SHARD_OF_ONE: u64 = 8_981_073_797_345_669_791;
const SHARD_OF_EAST: u64 = 12_419_123_816_445_672_356;
const SHARDS_OF_EIGHT: [i32; 8] = [1, 3, 0, 6, 4, 0, 0, 7];

#[test]
fn rows_spread_over_the_partitions() {
    let mut counts = [0; 16];
    (0..16_000).for_each(|value| counts[shard_of(&[Datum::Int(value)], 16).0 as usize] += 1);
    assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
}

#[test]
fn both_zeros_are_one_key() {
    let encode = |value: f64| {
        let mut out = BytesMut::new();
        encode_datum(&Datum::Double(value), &mut out);
        out
    };
    assert_eq!(encode(0.0), encode(-0.0));
    assert_eq!(encode(f64::NAN), encode(-f64::NAN));
    assert!(encode(f64::INFINITY) < encode(f64::NAN));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
