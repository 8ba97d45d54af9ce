//! What becomes of a value that is put into a column: a table of cases as MySQL 8 answers them in strict mode.

use perennial_types::value::{BlobSize, FixedZone, IntWidth};
use perennial_types::{ColumnType, Datum, Decimal};

fn text(value: &str) -> Datum {
    Datum::Text(value.into())
}

fn decimal(value: &str) -> Datum {
    Datum::Decimal(Decimal::parse(value).unwrap())
}

const TINY: ColumnType = ColumnType::Int { width: IntWidth::Tiny, unsigned: false };
const BIG_UNSIGNED: ColumnType = ColumnType::Int { width: IntWidth::Big, unsigned: true };
const MONEY: ColumnType = ColumnType::Decimal { precision: 5, scale: 2, unsigned: false };

/// The value's text after conversion, or the error.
fn convert(ty: ColumnType, value: Datum) -> String {
    match ty.convert(value, &FixedZone(3600)) {
        Ok(value) => value.to_string(),
        Err(misfit) => format!("{} {}", misfit.kind.code(), misfit.kind.message("c", 1)),
    }
}

#[test]
fn values_that_fit() {
    for (ty, value, expected) in [
        (TINY, text(" 12 "), "12"),
        (TINY, decimal("2.5"), "3"),
        (TINY, text("1e2"), "100"),
        (TINY, Datum::Double(2.5), "2"),
        (BIG_UNSIGNED, text("18446744073709551615"), "18446744073709551615"),
        (ColumnType::Bool, Datum::Int(1), "1"),
        (MONEY, text("1.005"), "1.01"),
        (MONEY, Datum::Int(-7), "-7.00"),
        (MONEY, Datum::Double(0.1), "0.10"),
        (ColumnType::Double, text("0.1"), "0.1"),
        (ColumnType::Float, decimal("1.23456789"), "1.23457"),
        (ColumnType::VarChar(3), Datum::Int(-12), "-12"),
        (ColumnType::VarChar(3), text("äöü"), "äöü"),
        (ColumnType::VarChar(3), text("abc   "), "abc"),
        (ColumnType::VarChar(9), text("abc   "), "abc   "),
        (ColumnType::Char(5), text("ab   "), "ab"),
        (ColumnType::Binary(3), Datum::Bytes("a".into()), "a\0\0"),
        (ColumnType::Date, text("2024-02-29 10:11:12"), "2024-02-29"),
        (ColumnType::Date, Datum::Int(20240229), "2024-02-29"),
        (ColumnType::DateTime(0), text("2024-01-01 00:00:00.5"), "2024-01-01 00:00:01"),
        (ColumnType::DateTime(6), text("2024-01-01 00:00:00.123456"), "2024-01-01 00:00:00.123456"),
        (ColumnType::DateTime(0), text("2024-01-01 00:00:00+00:00"), "2024-01-01 01:00:00"),
        (ColumnType::Timestamp(0), text("2024-01-01 01:00:00"), "2024-01-01 00:00:00"),
        (ColumnType::Time(0), text("-10:11:12.4"), "-10:11:12"),
        (ColumnType::Time(0), Datum::DateTime(1_000_000), "00:00:01"),
        (ColumnType::Json, text("{\"a\": 1}"), "{\"a\": 1}"),
        (TINY, Datum::Null, "NULL"),
    ] {
        assert_eq!(convert(ty, value.clone()), expected, "{value:?} into {ty}");
    }
}

#[test]
fn values_that_do_not_fit() {
    for (ty, value, expected) in [
        (TINY, Datum::Int(128), "1264 Out of range value for column 'c' at row 1"),
        (BIG_UNSIGNED, Datum::Int(-1), "1264 Out of range value for column 'c' at row 1"),
        (TINY, Datum::Double(1e300), "1264 Out of range value for column 'c' at row 1"),
        (TINY, text("abc"), "1366 Incorrect integer value: 'abc' for column 'c' at row 1"),
        (TINY, text(""), "1366 Incorrect integer value: '' for column 'c' at row 1"),
        (TINY, text("12abc"), "1265 Data truncated for column 'c' at row 1"),
        (MONEY, text("1000"), "1264 Out of range value for column 'c' at row 1"),
        (MONEY, text("x"), "1366 Incorrect decimal value: 'x' for column 'c' at row 1"),
        (ColumnType::Float, Datum::Double(1e39), "1264 Out of range value for column 'c' at row 1"),
        (ColumnType::Double, text("x"), "1265 Data truncated for column 'c' at row 1"),
        (ColumnType::VarChar(3), text("abcd"), "1406 Data too long for column 'c' at row 1"),
        (ColumnType::Text(BlobSize::Tiny), text(&"é".repeat(128)), "1406 Data too long for column 'c' at row 1"),
        (ColumnType::Binary(1), Datum::Bytes("ab".into()), "1406 Data too long for column 'c' at row 1"),
        (
            ColumnType::VarChar(9),
            Datum::Bytes(vec![b'a', 0xff].into()),
            "1366 Incorrect string value: '\\xFF' for column 'c' at row 1",
        ),
        (ColumnType::Date, text("2023-02-29"), "1292 Incorrect date value: '2023-02-29' for column 'c' at row 1"),
        (ColumnType::Date, text("0000-00-00"), "1292 Incorrect date value: '0000-00-00' for column 'c' at row 1"),
        (ColumnType::DateTime(0), text("x"), "1292 Incorrect datetime value: 'x' for column 'c' at row 1"),
        (
            ColumnType::Timestamp(0),
            text("2039-01-01"),
            "1292 Incorrect datetime value: '2039-01-01 00:00:00' for column 'c' at row 1",
        ),
        (ColumnType::Time(0), text("839:00:00"), "1292 Incorrect time value: '839:00:00' for column 'c' at row 1"),
        (
            ColumnType::Json,
            text("{\"a\"}"),
            "3140 Invalid JSON text: \"Invalid value.\" at position 4 in value for column 'c'.",
        ),
    ] {
        assert_eq!(convert(ty, value.clone()), expected, "{value:?} into {ty}");
    }
}

#[test]
fn the_value_that_non_strict_mode_keeps() {
    let kept = |ty: ColumnType, value: Datum| ty.convert(value, &FixedZone(0)).unwrap_err().adjusted;
    assert_eq!(kept(TINY, Datum::Int(300)), Some(Datum::Int(127)));
    assert_eq!(kept(TINY, text("12abc")), Some(Datum::Int(12)));
    assert_eq!(kept(MONEY, text("-1e30")), Some(decimal("-999.99")));
    assert_eq!(kept(ColumnType::VarChar(2), text("äöü")), Some(text("äö")));
    assert_eq!(kept(ColumnType::Json, text("x")), None);
}

#[test]
fn impossible_types_are_refused() {
    for (ty, code) in [
        (ColumnType::Decimal { precision: 39, scale: 0, unsigned: false }, 1426),
        (ColumnType::Decimal { precision: 38, scale: 31, unsigned: false }, 1425),
        (ColumnType::Decimal { precision: 3, scale: 4, unsigned: false }, 1427),
        (ColumnType::DateTime(7), 1426),
        (ColumnType::Char(256), 1074),
        (ColumnType::VarChar(65_536), 1074),
    ] {
        assert_eq!(ty.check("c").map_err(|error| error.code()), Err(code), "{ty}");
    }
    assert_eq!(MONEY.check("c"), Ok(()));
}
