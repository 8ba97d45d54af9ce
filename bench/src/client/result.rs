//! What a statement answers: OK, a wish for a file, or columns and rows.

use std::io::{Read, Write};

use super::error::ClientError;
use super::packet::{Cursor, Wire};

/// More columns than any table has: a server that announces them has lost its place.
const COLUMNS_MAX: u64 = 4096;
const NULL: u8 = 0xfb;

/// A statement that has been carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Done {
    /// Rows that were written.
    pub affected: u64,
    /// How many warnings there are.
    pub warnings: u16,
}

/// A result, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Names.
    pub columns: Vec<String>,
    /// Values as text, NULL as `None`.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// A value by its column's name. NULL and a column that is not there are both `None`.
    pub fn get(&self, row: usize, column: &str) -> Option<&str> {
        let place = self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?;
        self.rows.get(row)?.get(place)?.as_deref()
    }

    /// A value as a number, where it is one.
    pub fn number(&self, row: usize, column: &str) -> Option<u64> {
        self.get(row, column)?.parse().ok()
    }
}

/// How an answer begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Begin {
    /// Nothing more comes.
    Done(Done),
    /// The contents of a file are expected, then comes another beginning.
    WantsFile,
    /// Rows of these columns come.
    Columns(Vec<String>),
}

/// A row as it lies on the wire.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    bytes: &'a [u8],
    columns: usize,
}

impl Row<'_> {
    /// Its values as text.
    pub fn texts(self) -> Result<Vec<Option<String>>, ClientError> {
        let mut cursor = Cursor(self.bytes);
        let mut texts = Vec::with_capacity(self.columns);
        for _ in 0..self.columns {
            if cursor.0.first() == Some(&NULL) {
                cursor.bytes(1)?;
                texts.push(None);
            } else {
                texts.push(Some(String::from_utf8_lossy(cursor.counted()?).into_owned()));
            }
        }
        match cursor.0 {
            [] => Ok(texts),
            rest => Err(ClientError::Protocol(format!("a row has {} bytes too many", rest.len()))),
        }
    }
}

/// Reads the beginning of an answer.
pub fn read_begin<R: Read, W: Write>(wire: &mut Wire<R, W>) -> Result<Begin, ClientError> {
    let payload = wire.receive()?;
    let count = match payload.first() {
        Some(0x00) => return Ok(Begin::Done(done(&payload[1..])?)),
        Some(&NULL) => return Ok(Begin::WantsFile),
        _ => Cursor(payload).number()?,
    };
    if count > COLUMNS_MAX {
        return Err(ClientError::Protocol(format!("a result has {count} columns")));
    }
    let mut columns = Vec::new();
    for _ in 0..count {
        columns.push(column_name(wire.receive()?)?);
    }
    Ok(Begin::Columns(columns))
}

/// Reads one more packet of a result: hands over a row, or gives what stands at the end.
pub fn read_end_or_row<R: Read, W: Write>(
    wire: &mut Wire<R, W>,
    columns: usize,
    take: &mut dyn FnMut(&[u8], Row<'_>),
) -> Result<Option<Done>, ClientError> {
    let bytes = wire.receive()?;
    // A row whose first value has 2^24 bytes or more begins so, too, and is longer than any OK.
    if bytes.first() == Some(&0xfe) && bytes.len() < 0xff_ffff {
        return done(&bytes[1..]).map(Some);
    }
    take(bytes, Row { bytes, columns });
    Ok(None)
}

/// An OK packet behind its first byte.
fn done(payload: &[u8]) -> Result<Done, ClientError> {
    let mut cursor = Cursor(payload);
    let affected = cursor.number()?;
    let _last_id = cursor.number()?;
    let _status: [u8; 2] = cursor.array()?;
    let warnings = u16::from_le_bytes(cursor.array()?);
    Ok(Done { affected, warnings })
}

/// Of a column's description: after catalogue, schema, table and the table's own name.
fn column_name(payload: &[u8]) -> Result<String, ClientError> {
    let mut cursor = Cursor(payload);
    for _ in 0..4 {
        cursor.counted()?;
    }
    Ok(String::from_utf8_lossy(cursor.counted()?).into_owned())
}
