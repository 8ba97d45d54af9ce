//! The types a column can have, their limits, and how they are written.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::MAX_DIGITS;

/// Width of an integer column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntWidth {
    /// TINYINT: one byte.
    Tiny,
    /// SMALLINT: two bytes.
    Small,
    /// MEDIUMINT: three bytes.
    Medium,
    /// INT: four bytes.
    Int,
    /// BIGINT: eight bytes.
    Big,
}

impl IntWidth {
    fn bits(self) -> u32 {
        match self {
            IntWidth::Tiny => 8,
            IntWidth::Small => 16,
            IntWidth::Medium => 24,
            IntWidth::Int => 32,
            IntWidth::Big => 64,
        }
    }

    /// Smallest and largest value.
    pub fn range(self, unsigned: bool) -> (i128, i128) {
        let bits = self.bits();
        if unsigned { (0, (1 << bits) - 1) } else { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) }
    }

    fn name(self) -> &'static str {
        match self {
            IntWidth::Tiny => "tinyint",
            IntWidth::Small => "smallint",
            IntWidth::Medium => "mediumint",
            IntWidth::Int => "int",
            IntWidth::Big => "bigint",
        }
    }
}

/// Size class of a TEXT or BLOB column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobSize {
    /// 255 bytes.
    Tiny,
    /// 65,535 bytes.
    Normal,
    /// 16,777,215 bytes.
    Medium,
    /// 4,294,967,295 bytes.
    Long,
}

impl BlobSize {
    /// The largest value, bytes.
    pub fn limit(self) -> u64 {
        match self {
            BlobSize::Tiny => 0xff,
            BlobSize::Normal => 0xffff,
            BlobSize::Medium => 0xff_ffff,
            BlobSize::Long => 0xffff_ffff,
        }
    }

    fn prefix(self) -> &'static str {
        match self {
            BlobSize::Tiny => "tiny",
            BlobSize::Normal => "",
            BlobSize::Medium => "medium",
            BlobSize::Long => "long",
        }
    }
}

/// What a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ColumnType {
    /// An integer.
    Int {
        /// How wide.
        width: IntWidth,
        /// Without negative numbers.
        unsigned: bool,
    },
    /// BOOL, which is TINYINT(1).
    Bool,
    /// DECIMAL(precision, scale).
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most 30 and at most `precision`.
        scale: u8,
        /// Without negative numbers.
        unsigned: bool,
    },
    /// FLOAT.
    Float,
    /// DOUBLE.
    Double,
    /// CHAR(n): at most n characters; trailing spaces are not kept.
    Char(u32),
    /// VARCHAR(n): at most n characters.
    VarChar(u32),
    /// TINYTEXT to LONGTEXT.
    Text(BlobSize),
    /// BINARY(n): n bytes, filled up with zeros.
    Binary(u32),
    /// VARBINARY(n): at most n bytes.
    VarBinary(u32),
    /// TINYBLOB to LONGBLOB.
    Blob(BlobSize),
    /// DATE.
    Date,
    /// DATETIME with so many digits of a second.
    DateTime(u8),
    /// TIMESTAMP with so many digits of a second.
    Timestamp(u8),
    /// TIME with so many digits of a second.
    Time(u8),
    /// JSON, kept as its text.
    Json,
}

/// Why there is no such type. The number is MySQL's error code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TypeError {
    /// 1426.
    #[error("Too-big precision {precision} specified for '{column}'. Maximum is {maximum}.")]
    Precision {
        /// The column.
        column: String,
        /// What was asked for.
        precision: u32,
        /// What is possible.
        maximum: u32,
    },
    /// 1425.
    #[error("Too big scale {scale} specified for column '{column}'. Maximum is 30.")]
    Scale {
        /// The column.
        column: String,
        /// What was asked for.
        scale: u32,
    },
    /// 1427.
    #[error("For float(M,D), double(M,D) or decimal(M,D), M must be >= D (column '{column}').")]
    ScaleAbovePrecision {
        /// The column.
        column: String,
    },
    /// 1074.
    #[error("Column length too big for column '{column}' (max = {maximum}); use BLOB or TEXT instead")]
    Length {
        /// The column.
        column: String,
        /// What is possible.
        maximum: u32,
    },
}

impl TypeError {
    /// MySQL's error number.
    pub fn code(&self) -> u16 {
        match self {
            TypeError::Precision { .. } => 1426,
            TypeError::Scale { .. } => 1425,
            TypeError::ScaleAbovePrecision { .. } => 1427,
            TypeError::Length { .. } => 1074,
        }
    }
}

/// The largest VARCHAR, characters, and VARBINARY, bytes.
const MAX_LENGTH: u32 = 65_535;

impl ColumnType {
    /// Checks precision, scale and length. `column` is for the message.
    pub fn check(&self, column: &str) -> Result<(), TypeError> {
        let length = |length: u32, maximum: u32| match length > maximum {
            true => Err(TypeError::Length { column: column.into(), maximum }),
            false => Ok(()),
        };
        match *self {
            ColumnType::Decimal { precision, .. } if precision > MAX_DIGITS => Err(TypeError::Precision {
                column: column.into(),
                precision: precision.into(),
                maximum: MAX_DIGITS.into(),
            }),
            ColumnType::Decimal { scale, .. } if scale > 30 => {
                Err(TypeError::Scale { column: column.into(), scale: scale.into() })
            }
            ColumnType::Decimal { precision, scale, .. } if scale > precision => {
                Err(TypeError::ScaleAbovePrecision { column: column.into() })
            }
            ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp) | ColumnType::Time(fsp) if fsp > 6 => {
                Err(TypeError::Precision { column: column.into(), precision: fsp.into(), maximum: 6 })
            }
            ColumnType::Char(chars) => length(chars, 255),
            ColumnType::Binary(bytes) => length(bytes, 255),
            ColumnType::VarChar(size) | ColumnType::VarBinary(size) => length(size, MAX_LENGTH),
            _ => Ok(()),
        }
    }

    /// Whether values are signed or unsigned integers.
    pub fn is_integer(&self) -> bool {
        matches!(self, ColumnType::Int { .. } | ColumnType::Bool)
    }

    /// Whether values are numbers.
    pub fn is_numeric(&self) -> bool {
        self.is_integer() || matches!(self, ColumnType::Decimal { .. } | ColumnType::Float | ColumnType::Double)
    }

    /// Whether negative numbers are excluded by declaration.
    pub fn is_unsigned(&self) -> bool {
        matches!(self, ColumnType::Int { unsigned: true, .. } | ColumnType::Decimal { unsigned: true, .. })
    }

    /// Whether values are text in a character set.
    pub fn is_text(&self) -> bool {
        matches!(self, ColumnType::Char(_) | ColumnType::VarChar(_) | ColumnType::Text(_))
    }

    /// Whether values are bytes.
    pub fn is_binary(&self) -> bool {
        matches!(self, ColumnType::Binary(_) | ColumnType::VarBinary(_) | ColumnType::Blob(_))
    }

    /// Whether a column of this type can be part of a key. BLOB, TEXT and JSON cannot, as in MySQL.
    pub fn can_be_key(&self) -> bool {
        !matches!(self, ColumnType::Text(_) | ColumnType::Blob(_) | ColumnType::Json)
    }
}

/// As SHOW CREATE TABLE writes it.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsigned = if self.is_unsigned() { " unsigned" } else { "" };
        match self {
            ColumnType::Int { width, .. } => write!(f, "{}{unsigned}", width.name()),
            ColumnType::Bool => f.write_str("tinyint(1)"),
            ColumnType::Decimal { precision, scale, .. } => write!(f, "decimal({precision},{scale}){unsigned}"),
            ColumnType::Float => f.write_str("float"),
            ColumnType::Double => f.write_str("double"),
            ColumnType::Char(chars) => write!(f, "char({chars})"),
            ColumnType::VarChar(chars) => write!(f, "varchar({chars})"),
            ColumnType::Text(size) => write!(f, "{}text", size.prefix()),
            ColumnType::Binary(bytes) => write!(f, "binary({bytes})"),
            ColumnType::VarBinary(bytes) => write!(f, "varbinary({bytes})"),
            ColumnType::Blob(size) => write!(f, "{}blob", size.prefix()),
            ColumnType::Date => f.write_str("date"),
            ColumnType::DateTime(fsp) => with_fsp(f, "datetime", *fsp),
            ColumnType::Timestamp(fsp) => with_fsp(f, "timestamp", *fsp),
            ColumnType::Time(fsp) => with_fsp(f, "time", *fsp),
            ColumnType::Json => f.write_str("json"),
        }
    }
}

fn with_fsp(f: &mut fmt::Formatter<'_>, name: &str, fsp: u8) -> fmt::Result {
    if fsp == 0 { f.write_str(name) } else { write!(f, "{name}({fsp})") }
}
