//! What a statement answers with.

use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use types::value::{BlobSize, ColumnType, IntWidth, format_datetime, format_time};
use types::{Datum, Decimal};

use crate::cluster::SECOND_DIGITS;
use crate::error::{Error, Result};
use crate::scalar::{Env, Ty, Warning};

/// A column of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultColumn {
    /// What the client calls it.
    pub name: String,
    /// The table it is from, empty for an expression.
    pub table: String,
    /// Its type.
    pub ty: ColumnType,
    /// Whether there can be NULLs.
    pub nullable: bool,
    /// Whether the type is a column's own: then times show as many digits as it has.
    pub declared: bool,
}

/// Rows in portions, as they come.
pub type RowStream = BoxStream<'static, Result<Vec<Vec<Datum>>>>;

/// A result set.
pub struct Rows {
    /// Its columns.
    pub columns: Vec<ResultColumn>,
    /// Its rows.
    pub rows: RowStream,
    /// Holds the warnings once the rows have come.
    pub env: Arc<Env>,
}

/// What a statement without rows did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// Rows that were changed.
    pub affected: u64,
    /// Rows that were meant, changed or not: clients with FOUND_ROWS are told this.
    pub matched: u64,
    /// The first AUTO_INCREMENT value made, 0 if none was.
    pub last_insert_id: u64,
    /// MySQL's line about it.
    pub info: String,
    /// What there is to say.
    pub warnings: Vec<Warning>,
}

/// What a statement answers with.
pub enum Answer {
    /// Rows.
    Rows(Rows),
    /// A count.
    Done(Done),
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Rows(rows) => write!(f, "Rows({:?})", rows.columns),
            Answer::Done(done) => done.fmt(f),
        }
    }
}

impl Rows {
    /// Rows that are there already.
    pub fn of(columns: Vec<ResultColumn>, rows: Vec<Vec<Datum>>) -> Rows {
        let rows = Box::pin(futures::stream::iter([Ok(rows)]));
        Rows { columns, rows, env: Arc::default() }
    }

    /// All rows at once.
    pub async fn collect(self) -> Result<Vec<Vec<Datum>>> {
        self.rows.try_concat().await
    }
}

impl ResultColumn {
    /// A column of text.
    pub fn text(name: &str) -> ResultColumn {
        ResultColumn::of(name, ColumnType::VarChar(1024))
    }

    /// A column of integers.
    pub fn int(name: &str) -> ResultColumn {
        ResultColumn::of(name, ColumnType::Int { width: IntWidth::Big, unsigned: false })
    }

    /// A column of times, which are shown in the session's zone.
    pub fn time(name: &str) -> ResultColumn {
        ResultColumn { declared: true, ..ResultColumn::of(name, ColumnType::Timestamp(SECOND_DIGITS)) }
    }

    fn of(name: &str, ty: ColumnType) -> ResultColumn {
        ResultColumn { name: name.into(), table: String::new(), ty, nullable: true, declared: false }
    }

    /// A column of an expression. `shown` is how many digits of a decimal are shown, or of a second.
    pub(crate) fn expression(name: String, ty: Ty, shown: Option<u8>, nullable: bool) -> ResultColumn {
        let ty = match ty {
            Ty::Bool | Ty::Int => ColumnType::Int { width: IntWidth::Big, unsigned: false },
            Ty::UInt => ColumnType::Int { width: IntWidth::Big, unsigned: true },
            Ty::Decimal(precision, scale) => {
                ColumnType::Decimal { precision, scale: shown.unwrap_or(scale), unsigned: false }
            }
            Ty::Float => ColumnType::Float,
            Ty::Double => ColumnType::Double,
            Ty::Null => ColumnType::Binary(0),
            Ty::Text => ColumnType::Text(BlobSize::Long),
            Ty::Bytes => ColumnType::Blob(BlobSize::Long),
            Ty::Date => ColumnType::Date,
            Ty::DateTime => ColumnType::DateTime(shown.unwrap_or(0)),
            Ty::Time => ColumnType::Time(shown.unwrap_or(0)),
        };
        ResultColumn { name, table: String::new(), ty, nullable, declared: false }
    }

    /// A value of this column as text, `None` for NULL.
    pub fn format(&self, value: &Datum) -> Option<String> {
        Some(match (value, self.ty) {
            (Datum::Null, _) => return None,
            (
                Datum::DateTime(micros) | Datum::Timestamp(micros),
                ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp),
            ) => format_datetime(*micros, fsp),
            (Datum::Time(micros), ColumnType::Time(fsp)) => format_time(*micros, fsp),
            (value, _) => value.to_string(),
        })
    }
}

/// A value as it leaves: decimals with as many digits as are shown, doubles that are numbers.
pub(crate) fn shown(value: Datum, scale: Option<u8>) -> Result<Datum> {
    match (value, scale) {
        (Datum::Decimal(value), Some(scale)) if value.scale() != scale => {
            let rounded: Decimal = value
                .rescale(scale)
                .map_err(|_| Error::new(1690, format!("DECIMAL value is out of range in '{value}'")))?;
            Ok(Datum::Decimal(rounded))
        }
        (Datum::Double(value), _) if !value.is_finite() => {
            Err(Error::new(1690, format!("DOUBLE value is out of range in '{value}'")))
        }
        (value, _) => Ok(value),
    }
}
