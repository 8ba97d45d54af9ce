//! Types of expressions.

use types::{ColumnType, Datum};

/// The type of an expression, as far as MySQL's rules need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ty {
    /// NULL alone.
    Null,
    /// A condition: 1, 0 or NULL.
    Bool,
    /// BIGINT.
    Int,
    /// BIGINT UNSIGNED.
    UInt,
    /// DECIMAL(precision, scale).
    Decimal(u8, u8),
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
    /// DATE.
    Date,
    /// DATETIME, and TIMESTAMP in the session's zone.
    DateTime,
    /// TIME.
    Time,
}

impl Ty {
    /// The type of a column's values.
    pub fn of_column(ty: &ColumnType) -> Ty {
        match ty {
            ColumnType::Int { unsigned: true, .. } => Ty::UInt,
            ColumnType::Int { .. } | ColumnType::Bool => Ty::Int,
            ColumnType::Decimal { precision, scale, .. } => Ty::Decimal(*precision, *scale),
            ColumnType::Float => Ty::Float,
            ColumnType::Double => Ty::Double,
            ColumnType::Char(_) | ColumnType::VarChar(_) | ColumnType::Text(_) | ColumnType::Json => Ty::Text,
            ColumnType::Binary(_) | ColumnType::VarBinary(_) | ColumnType::Blob(_) => Ty::Bytes,
            ColumnType::Date => Ty::Date,
            ColumnType::DateTime(_) | ColumnType::Timestamp(_) => Ty::DateTime,
            ColumnType::Time(_) => Ty::Time,
        }
    }

    /// The type of a value.
    pub fn of_datum(value: &Datum) -> Ty {
        match value {
            Datum::Null => Ty::Null,
            Datum::Int(_) => Ty::Int,
            Datum::UInt(_) => Ty::UInt,
            Datum::Decimal(value) => {
                let digits = value.unscaled().unsigned_abs().checked_ilog10().map_or(1, |digits| digits as u8 + 1);
                Ty::Decimal(digits.max(value.scale()).max(1), value.scale())
            }
            Datum::Float(_) => Ty::Float,
            Datum::Double(_) => Ty::Double,
            Datum::Text(_) | Datum::Json(_) => Ty::Text,
            Datum::Bytes(_) => Ty::Bytes,
            Datum::Date(_) => Ty::Date,
            Datum::DateTime(_) | Datum::Timestamp(_) => Ty::DateTime,
            Datum::Time(_) => Ty::Time,
        }
    }

    /// Whether it is an integer or a condition.
    pub fn is_integer(self) -> bool {
        matches!(self, Ty::Bool | Ty::Int | Ty::UInt)
    }

    /// Whether arithmetic on it is exact.
    pub fn is_exact(self) -> bool {
        self.is_integer() || matches!(self, Ty::Decimal(..) | Ty::Null)
    }

    /// Whether it is a number.
    pub fn is_number(self) -> bool {
        self.is_exact() || matches!(self, Ty::Float | Ty::Double)
    }

    /// Whether it is text or bytes.
    pub fn is_string(self) -> bool {
        matches!(self, Ty::Text | Ty::Bytes)
    }

    /// Whether it is a date or a time.
    pub fn is_time(self) -> bool {
        matches!(self, Ty::Date | Ty::DateTime | Ty::Time)
    }

    /// The type it has in arithmetic.
    pub fn numeric(self) -> Ty {
        match self {
            Ty::Bool | Ty::Null | Ty::Date => Ty::Int,
            Ty::Text | Ty::Bytes | Ty::Float => Ty::Double,
            Ty::DateTime => Ty::Decimal(20, 6),
            Ty::Time => Ty::Decimal(13, 6),
            other => other,
        }
    }

    /// Digits after the point of an exact number.
    pub fn scale(self) -> u8 {
        match self {
            Ty::Decimal(_, scale) => scale,
            _ => 0,
        }
    }

    /// Digits before the point of an exact number.
    pub fn whole_digits(self) -> u8 {
        match self {
            Ty::Decimal(precision, scale) => precision.saturating_sub(scale),
            Ty::UInt => 20,
            _ => 19,
        }
    }

    /// The type that values of both can be given, as in the branches of CASE.
    pub fn union(self, other: Ty) -> Ty {
        match (self, other) {
            (a, b) if a == b => a,
            (Ty::Null, ty) | (ty, Ty::Null) => ty,
            (Ty::Bool, Ty::Int) | (Ty::Int, Ty::Bool) => Ty::Int,
            (a, b) if a.is_exact() && b.is_exact() => {
                let scale = a.scale().max(b.scale());
                Ty::Decimal(a.whole_digits().max(b.whole_digits()).saturating_add(scale).min(38), scale)
            }
            (a, b) if a.is_number() && b.is_number() => Ty::Double,
            (Ty::Date | Ty::DateTime, Ty::Date | Ty::DateTime) => Ty::DateTime,
            (Ty::Bytes, _) | (_, Ty::Bytes) => Ty::Bytes,
            _ => Ty::Text,
        }
    }
}

/// Rules that many functions share.
pub(super) mod rule {
    use super::Ty;
    use types::Datum;

    pub(crate) fn boolean(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Bool
    }
    pub(crate) fn int(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Int
    }
    pub(crate) fn uint(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::UInt
    }
    pub(crate) fn double(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Double
    }
    pub(crate) fn text(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Text
    }
    /// Of bytes if an argument is.
    pub(crate) fn string(types: &[Ty], _: &[Option<Datum>]) -> Ty {
        if types.contains(&Ty::Bytes) { Ty::Bytes } else { Ty::Text }
    }
    pub(crate) fn bytes(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Bytes
    }
    pub(crate) fn date(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Date
    }
    pub(crate) fn datetime(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::DateTime
    }
    pub(crate) fn time(_: &[Ty], _: &[Option<Datum>]) -> Ty {
        Ty::Time
    }
    pub(crate) fn union(types: &[Ty], _: &[Option<Datum>]) -> Ty {
        types.iter().copied().reduce(Ty::union).unwrap_or(Ty::Null)
    }
    pub(crate) fn numeric(types: &[Ty], _: &[Option<Datum>]) -> Ty {
        types[0].numeric()
    }
}
