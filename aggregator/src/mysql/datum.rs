//! Values and types of tables as the wire sees them, and parameters as values of no column yet.

use std::borrow::Cow;

use bytes::Bytes;
use types::value::{BlobSize, IntWidth, Zone};
use types::{ColumnType, Datum};

use super::column::ColumnKind;
use super::value::Value;

impl From<ColumnType> for ColumnKind {
    fn from(column_type: ColumnType) -> ColumnKind {
        match column_type {
            ColumnType::Int { width: IntWidth::Tiny, unsigned } => ColumnKind::TinyInt { unsigned },
            ColumnType::Int { width: IntWidth::Small, unsigned } => ColumnKind::SmallInt { unsigned },
            ColumnType::Int { width: IntWidth::Medium, unsigned } => ColumnKind::MediumInt { unsigned },
            ColumnType::Int { width: IntWidth::Int, unsigned } => ColumnKind::Int { unsigned },
            ColumnType::Int { width: IntWidth::Big, unsigned } => ColumnKind::BigInt { unsigned },
            ColumnType::Bool => ColumnKind::Bool,
            ColumnType::Decimal { precision, scale, unsigned } => ColumnKind::Decimal { precision, scale, unsigned },
            ColumnType::Float => ColumnKind::Float,
            ColumnType::Double => ColumnKind::Double,
            ColumnType::Char(characters) => ColumnKind::Char(characters),
            ColumnType::VarChar(characters) => ColumnKind::VarChar(characters),
            ColumnType::Text(BlobSize::Tiny) => ColumnKind::TinyText,
            ColumnType::Text(BlobSize::Normal) => ColumnKind::Text,
            ColumnType::Text(BlobSize::Medium) => ColumnKind::MediumText,
            ColumnType::Text(BlobSize::Long) => ColumnKind::LongText,
            ColumnType::Binary(bytes) => ColumnKind::Binary(bytes),
            ColumnType::VarBinary(bytes) => ColumnKind::VarBinary(bytes),
            ColumnType::Blob(BlobSize::Tiny) => ColumnKind::TinyBlob,
            ColumnType::Blob(BlobSize::Normal) => ColumnKind::Blob,
            ColumnType::Blob(BlobSize::Medium) => ColumnKind::MediumBlob,
            ColumnType::Blob(BlobSize::Long) => ColumnKind::LongBlob,
            ColumnType::Date => ColumnKind::Date,
            ColumnType::DateTime(digits) => ColumnKind::DateTime(digits),
            ColumnType::Timestamp(digits) => ColumnKind::Timestamp(digits),
            ColumnType::Time(digits) => ColumnKind::Time(digits),
            ColumnType::Json => ColumnKind::Json,
        }
    }
}

impl<'a> Value<'a> {
    /// A table's value, borrowed. A TIMESTAMP is shown in the session's time zone.
    pub fn of_datum(datum: &'a Datum, zone: &dyn Zone) -> Value<'a> {
        match datum {
            Datum::Null => Value::Null,
            Datum::Int(value) => Value::Int(*value),
            Datum::UInt(value) => Value::UInt(*value),
            Datum::Decimal(value) => Value::Decimal(*value),
            Datum::Float(value) => Value::Float(*value),
            Datum::Double(value) => Value::Double(*value),
            Datum::Text(text) | Datum::Json(text) => Value::Text(Cow::Borrowed(text)),
            Datum::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
            Datum::Date(days) => Value::Date(*days),
            Datum::DateTime(micros) => Value::DateTime(*micros),
            Datum::Timestamp(micros) => Value::DateTime(zone.to_local(*micros)),
            Datum::Time(micros) => Value::Time(*micros),
        }
    }
}

impl From<Value<'_>> for Datum {
    /// A parameter as a value that `ColumnType::convert` can convert.
    fn from(value: Value<'_>) -> Datum {
        match value {
            Value::Null => Datum::Null,
            Value::Int(value) => Datum::Int(value),
            Value::UInt(value) => Datum::UInt(value),
            Value::Decimal(value) => Datum::Decimal(value),
            Value::Float(value) => Datum::Float(value),
            Value::Double(value) => Datum::Double(value),
            Value::Text(text) => Datum::Text(text.into_owned()),
            Value::Bytes(bytes) => Datum::Bytes(Bytes::from(bytes.into_owned())),
            Value::Date(days) => Datum::Date(days),
            Value::DateTime(micros) => Datum::DateTime(micros),
            Value::Time(micros) => Datum::Time(micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Decimal;
    use types::value::{FixedZone, HOUR};

    #[test]
    fn a_parameter_comes_back_as_it_went() {
        let decimal = Decimal::parse("-12.50").unwrap();
        for value in [
            Value::Null,
            Value::Int(-1),
            Value::UInt(u64::MAX),
            Value::Decimal(decimal),
            Value::Double(0.5),
            Value::Text("Grüße".into()),
            Value::Bytes(b"\xff".into()),
            Value::Date(7),
            Value::DateTime(8),
            Value::Time(-9),
        ] {
            let datum = Datum::from(value.clone());
            assert_eq!(Value::of_datum(&datum, &FixedZone(3600)), value);
        }
    }

    #[test]
    fn a_timestamp_is_shown_in_the_zone_of_the_session() {
        let shown = Value::of_datum(&Datum::Timestamp(0), &FixedZone(3600)).into_owned();
        assert_eq!(shown, Value::DateTime(HOUR));
    }
}
