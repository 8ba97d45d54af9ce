//! Which keys and partitions a condition leaves: the way from `id = 7` to one key of one partition.

use std::cmp::Ordering;

use bytes::{Bytes, BytesMut};
use types::key::{encode_datum, encode_key, prefix_end, shard_of, table_range};
use types::value::{ColumnType, FixedZone};
use types::{Datum, Ordinal};

use crate::layout::Layout;
use crate::scalar::{Env, Scalar, ops};

/// Keys `start <= key < end` of some partitions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Range {
    /// First key.
    pub(crate) start: Bytes,
    /// Behind the last.
    pub(crate) end: Bytes,
    /// Which partitions can hold a row that is meant.
    pub(crate) ordinals: Vec<Ordinal>,
}

/// The range outside of which no row satisfies all of the conditions.
pub(crate) fn range(layout: &Layout, conditions: &[Scalar], partitions: u32) -> Range {
    let (mut start, mut end) = table_range(layout.table);
    let mut prefix = BytesMut::from(start.as_ref());
    for place in layout.key_places() {
        match equal_to(layout, conditions, place) {
            Some(value) => {
                encode_datum(&value, &mut prefix);
                start = prefix.clone().freeze();
                end = prefix_end(&prefix).unwrap_or(end);
            }
            None => {
                narrow(layout, conditions, place, &prefix, &mut start, &mut end);
                break;
            }
        }
    }
    let shard: Option<Vec<Datum>> = layout.shard.iter().map(|place| equal_to(layout, conditions, *place)).collect();
    let ordinals = match shard {
        Some(shard) => vec![shard_of(&shard, partitions)],
        None => (0..partitions as i32).map(Ordinal).collect(),
    };
    Range { start, end, ordinals }
}

/// The values of the key's columns, in the key's order, if the conditions fix them all.
pub(crate) fn key(layout: &Layout, conditions: &[Scalar]) -> Option<Vec<Datum>> {
    layout.key_places().into_iter().map(|place| equal_to(layout, conditions, place)).collect()
}

/// The partition and the key of the only row that can satisfy the conditions.
pub(crate) fn point(layout: &Layout, conditions: &[Scalar], partitions: u32) -> Option<(Ordinal, Bytes)> {
    let key = key(layout, conditions)?;
    let shard: Vec<Datum> =
        layout.shard.iter().map(|place| equal_to(layout, conditions, *place)).collect::<Option<_>>()?;
    Some((shard_of(&shard, partitions), encode_key(layout.table, &key)))
}

/// The only value that a column can have.
fn equal_to(layout: &Layout, conditions: &[Scalar], place: usize) -> Option<Datum> {
    conditions.iter().find_map(|condition| {
        let (name, value) = bound(condition, place)?;
        if matches!(name, "eq" | "null_safe_eq") { as_stored(&layout.fields[place].ty, value) } else { None }
    })
}

/// Operator and constant of a comparison of a column with a constant, the column on the left.
fn bound(condition: &Scalar, place: usize) -> Option<(&'static str, &Datum)> {
    let Scalar::Call(function, arguments) = condition else { return None };
    let name = function.definition().name;
    match arguments.as_slice() {
        [Scalar::Column(at), Scalar::Literal(value)] if *at == place => Some((name, value)),
        [Scalar::Literal(value), Scalar::Column(at)] if *at == place => {
            let mirrored = match name {
                "lt" => "gt",
                "le" => "ge",
                "gt" => "lt",
                "ge" => "le",
                other => other,
            };
            Some((mirrored, value))
        }
        _ => None,
    }
}

/// The constant as the column would store it, if that is the same value.
fn as_stored(ty: &ColumnType, value: &Datum) -> Option<Datum> {
    // Local times are not what is stored; strings equal more than one stored value when padded or cut.
    let text = matches!(value, Datum::Text(_));
    if value.is_null() || matches!(ty, ColumnType::Timestamp(_) | ColumnType::Float | ColumnType::Double) {
        return None;
    }
    if ty.is_text() != text || ty.is_binary() && !matches!(value, Datum::Bytes(_)) {
        // A number compared with a text column is not a text; a text with a date or a number is converted by others.
        return None;
    }
    let stored = ty.convert(value.clone(), &FixedZone::default()).ok()?;
    let same = ops::compare(&stored, value, &Env::default()).ok()?;
    (same == Some(Ordering::Equal)).then_some(stored)
}

/// Narrows a range by comparisons of the column after the prefix.
fn narrow(layout: &Layout, conditions: &[Scalar], place: usize, prefix: &BytesMut, start: &mut Bytes, end: &mut Bytes) {
    let extended = |value: &Datum| {
        let mut key = prefix.clone();
        encode_datum(value, &mut key);
        key.freeze()
    };
    for condition in conditions {
        let Some((name, value)) = bound(condition, place) else { continue };
        let Some(value) = as_stored(&layout.fields[place].ty, value) else { continue };
        let key = extended(&value);
        let after = prefix_end(&key);
        match name {
            "ge" => *start = key.max(start.clone()),
            "gt" => *start = after.unwrap_or(key).max(start.clone()),
            "lt" => *end = key.min(end.clone()),
            "le" => *end = after.unwrap_or_else(|| end.clone()).min(end.clone()),
            _ => {}
        }
    }
}
