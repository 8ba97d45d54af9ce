//! Rows read back, whole or in part, and with a newer definition of their table.

use bytes::Bytes;
use perennial_types::row::{decode_row, encode_row, project_row};
use perennial_types::{ColumnId, Datum, Decimal};
use proptest::prelude::*;

fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![
        Just(Datum::Null),
        any::<i64>().prop_map(Datum::Int),
        any::<u64>().prop_map(Datum::UInt),
        (any::<i64>(), 0u8..=20).prop_map(|(value, scale)| Datum::Decimal(Decimal::new(value.into(), scale).unwrap())),
        Just(Datum::Decimal(Decimal::new(1 - 10i128.pow(38), 38).unwrap())),
        (-1e30f32..1e30).prop_map(Datum::Float),
        (-1e300..1e300).prop_map(Datum::Double),
        "\\PC{0,20}".prop_map(Datum::Text),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Datum::Bytes(bytes.into())),
        any::<i32>().prop_map(Datum::Date),
        any::<i64>().prop_map(Datum::DateTime),
        any::<i64>().prop_map(Datum::Timestamp),
        any::<i64>().prop_map(Datum::Time),
        Just(Datum::Json("{}".into())),
    ]
}

fn row() -> impl Strategy<Value = Vec<(ColumnId, Datum)>> {
    proptest::collection::btree_map(0u32..400, datum(), 0..12)
        .prop_map(|columns| columns.into_iter().map(|(id, value)| (ColumnId(id), value)).collect())
}

fn encode(columns: &[(ColumnId, Datum)]) -> Bytes {
    encode_row(columns.iter().map(|(id, value)| (*id, value)))
}

proptest! {
    #[test]
    fn rows_read_back(columns in row()) {
        prop_assert_eq!(decode_row(encode(&columns)).unwrap(), columns);
    }

    #[test]
    fn any_columns_can_be_asked_for(columns in row(), wanted in proptest::collection::btree_set(0u32..400, 0..12)) {
        let wanted: Vec<ColumnId> = wanted.into_iter().map(ColumnId).collect();
        let found = project_row(encode(&columns), &wanted).unwrap();
        for (id, value) in wanted.iter().zip(found) {
            let expected = columns.iter().find(|(column, _)| column == id).map(|(_, value)| value.clone());
            prop_assert_eq!(value, expected);
        }
    }

    #[test]
    fn a_cut_row_is_refused(columns in row(), cut in any::<proptest::sample::Index>()) {
        let bytes = encode(&columns);
        let cut = cut.index(bytes.len());
        prop_assert!(decode_row(bytes.slice(..cut)).is_err());
    }

    #[test]
    fn garbage_is_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = decode_row(Bytes::from(bytes.clone()));
        let found = project_row(Bytes::from(bytes), &[ColumnId(1), ColumnId(300)]);
        prop_assert!(found.is_err() || found.is_ok_and(|found| found.len() == 2));
    }
}

#[test]
fn stored_rows_stay_readable() {
    let columns = vec![
        (ColumnId(1), Datum::Null),
        (ColumnId(2), Datum::Int(-2)),
        (ColumnId(3), Datum::Decimal(Decimal::parse("1.50").unwrap())),
        (ColumnId(4), Datum::Text("abc".into())),
        (ColumnId(5), Datum::Double(1.0)),
        (ColumnId(300), Datum::UInt(200)),
    ];
    let stored = "01060101021003031202ac0204200361626305 14000000000000f03fac0211c801".replace(' ', "");
    let row = encode(&columns);
    assert_eq!(row.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), stored);
    assert_eq!(decode_row(row).unwrap(), columns);
}

#[test]
#[should_panic(expected = "follows column")]
fn columns_out_of_order_are_a_bug() {
    encode(&[(ColumnId(2), Datum::Null), (ColumnId(1), Datum::Null)]);
}
