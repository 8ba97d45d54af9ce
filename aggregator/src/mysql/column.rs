//! A column of a result as the client is told of it: type code, length, decimals, flags, collation.
//!
//! The numbers follow from the column's SQL type alone and are MySQL's, so that drivers which choose a type of
//! their language by them (a TINYINT of length 1 is a boolean, text in collation 63 is bytes) choose as they do
//! with MySQL. Lengths of text are in bytes of utf8mb4, four for each character.

use super::constants::{collation, column_flag, column_type};

const TEXT_BYTES_PER_CHARACTER: u32 = 4;
/// Decimals of a FLOAT, DOUBLE or text: "not fixed".
const DECIMALS_NOT_FIXED: u8 = 31;

/// SQL type of a column, as far as the wire can tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Literal NULL.
    Null,
    /// TINYINT(1), 0 or 1.
    Bool,
    TinyInt {
        unsigned: bool,
    },
    SmallInt {
        unsigned: bool,
    },
    MediumInt {
        unsigned: bool,
    },
    Int {
        unsigned: bool,
    },
    BigInt {
        unsigned: bool,
    },
    /// DECIMAL(precision, scale).
    Decimal {
        precision: u8,
        scale: u8,
        unsigned: bool,
    },
    Float,
    Double,
    /// CHAR(n), n in characters.
    Char(u32),
    /// VARCHAR(n), n in characters; also every text that is computed.
    VarChar(u32),
    TinyText,
    Text,
    MediumText,
    LongText,
    /// BINARY(n).
    Binary(u32),
    /// VARBINARY(n).
    VarBinary(u32),
    TinyBlob,
    Blob,
    MediumBlob,
    LongBlob,
    Json,
    Date,
    /// DATETIME(n), n digits after the seconds.
    DateTime(u8),
    /// TIMESTAMP(n).
    Timestamp(u8),
    /// TIME(n).
    Time(u8),
}

/// What a definition says about a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub type_code: u8,
    /// Bytes of the longest text of a value.
    pub length: u32,
    pub decimals: u8,
    pub flags: u16,
    pub collation: u16,
}

impl ColumnKind {
    /// How this kind is described to the client.
    pub fn shape(self) -> Shape {
        use ColumnKind::*;
        use column_type as code;
        let blob = column_flag::BLOB | column_flag::BINARY;
        match self {
            Null => number(code::NULL, 0, 0, false),
            Bool => number(code::TINY, 1, 0, false),
            TinyInt { unsigned } => number(code::TINY, 4 - u32::from(unsigned), 0, unsigned),
            SmallInt { unsigned } => number(code::SHORT, 6 - u32::from(unsigned), 0, unsigned),
            MediumInt { unsigned } => number(code::INT24, 9 - u32::from(unsigned), 0, unsigned),
            Int { unsigned } => number(code::LONG, 11 - u32::from(unsigned), 0, unsigned),
            BigInt { unsigned } => number(code::LONGLONG, 20, 0, unsigned),
            Decimal { precision, scale, unsigned } => {
                let length = u32::from(precision) + u32::from(scale > 0) + u32::from(!unsigned);
                number(code::NEWDECIMAL, length, scale, unsigned)
            }
            Float => number(code::FLOAT, 12, DECIMALS_NOT_FIXED, false),
            Double => number(code::DOUBLE, 22, DECIMALS_NOT_FIXED, false),
            Char(characters) => text(code::STRING, characters, 0),
            VarChar(characters) => text(code::VAR_STRING, characters, 0),
            TinyText => text(code::BLOB, 0xff, column_flag::BLOB),
            Text => text(code::BLOB, 0xffff, column_flag::BLOB),
            MediumText => text(code::BLOB, 0xff_ffff, column_flag::BLOB),
            LongText => text(code::BLOB, u32::MAX, column_flag::BLOB),
            Binary(bytes) => binary(code::STRING, bytes, column_flag::BINARY),
            VarBinary(bytes) => binary(code::VAR_STRING, bytes, column_flag::BINARY),
            TinyBlob => binary(code::BLOB, 0xff, blob),
            Blob => binary(code::BLOB, 0xffff, blob),
            MediumBlob => binary(code::BLOB, 0xff_ffff, blob),
            LongBlob => binary(code::BLOB, u32::MAX, blob),
            Json => binary(code::JSON, u32::MAX, blob),
            Date => number(code::DATE, 10, 0, false),
            DateTime(digits) => number(code::DATETIME, with_fraction(19, digits), digits, false),
            Timestamp(digits) => number(code::TIMESTAMP, with_fraction(19, digits), digits, false),
            Time(digits) => number(code::TIME, with_fraction(10, digits), digits, false),
        }
    }

    /// Digits after the seconds that a text of this kind shows; `None` for a kind without a time of day.
    pub fn fraction(self) -> Option<u8> {
        match self {
            ColumnKind::DateTime(digits) | ColumnKind::Timestamp(digits) | ColumnKind::Time(digits) => {
                Some(digits.min(6))
            }
            _ => None,
        }
    }
}

fn with_fraction(length: u32, digits: u8) -> u32 {
    if digits == 0 { length } else { length + 1 + u32::from(digits) }
}

fn number(type_code: u8, length: u32, decimals: u8, unsigned: bool) -> Shape {
    let flags = column_flag::BINARY | if unsigned { column_flag::UNSIGNED } else { 0 };
    Shape { type_code, length, decimals, flags, collation: collation::BINARY }
}

fn text(type_code: u8, characters: u32, flags: u16) -> Shape {
    let length = characters.saturating_mul(TEXT_BYTES_PER_CHARACTER);
    Shape { type_code, length, decimals: DECIMALS_NOT_FIXED, flags, collation: collation::UTF8MB4_BIN }
}

fn binary(type_code: u8, length: u32, flags: u16) -> Shape {
    Shape { type_code, length, decimals: DECIMALS_NOT_FIXED, flags, collation: collation::BINARY }
}

/// One column of a result set, or one parameter of a prepared statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Database of the table; empty when the column is computed, as are the next three.
    pub database: String,
    /// The table's name or alias in the statement.
    pub table: String,
    /// The table's own name.
    pub org_table: String,
    /// The column's own name.
    pub org_name: String,
    /// The column's name in the result.
    pub name: String,
    pub kind: ColumnKind,
    /// Keys and NOT NULL: bits of [`column_flag`] that do not follow from the kind.
    pub flags: u16,
}

impl Column {
    /// A computed column.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Column {
        Column {
            database: String::new(),
            table: String::new(),
            org_table: String::new(),
            org_name: String::new(),
            name: name.into(),
            kind,
            flags: 0,
        }
    }

    /// The column of that name of a table.
    pub fn of_table(database: &str, table: &str, name: &str, kind: ColumnKind, flags: u16) -> Column {
        Column {
            database: database.to_owned(),
            table: table.to_owned(),
            org_table: table.to_owned(),
            org_name: name.to_owned(),
            name: name.to_owned(),
            kind,
            flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_of_mysql() {
        use ColumnKind::*;
        for (kind, code, length, decimals) in [
            (Int { unsigned: false }, column_type::LONG, 11, 0),
            (Int { unsigned: true }, column_type::LONG, 10, 0),
            (BigInt { unsigned: true }, column_type::LONGLONG, 20, 0),
            (Decimal { precision: 10, scale: 2, unsigned: false }, column_type::NEWDECIMAL, 12, 2),
            (Decimal { precision: 10, scale: 0, unsigned: true }, column_type::NEWDECIMAL, 10, 0),
            (VarChar(100), column_type::VAR_STRING, 400, 31),
            (Text, column_type::BLOB, 262_140, 31),
            (LongText, column_type::BLOB, u32::MAX, 31),
            (DateTime(6), column_type::DATETIME, 26, 6),
            (Time(0), column_type::TIME, 10, 0),
        ] {
            let shape = kind.shape();
            assert_eq!((shape.type_code, shape.length, shape.decimals), (code, length, decimals), "{kind:?}");
        }
    }
}
