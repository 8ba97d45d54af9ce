//! How a table's rows lie in keys and values: all that a leaf needs to know of a schema.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::key::{decode_key, encode_key, shard_of};
use types::row::{encode_row, project_row};
use types::value::{ColumnType, Zone};
use types::{ColumnId, Datum, Ordinal, TableId};

use crate::error::{Error, Result};
use crate::schema::{ROW_ID, ROW_ID_NAME, ROW_ID_TYPE, Table};

/// The largest row, key and value together, bytes.
pub const MAX_ROW_SIZE: usize = 16 << 20;

/// A place in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// The column's number in values.
    pub id: ColumnId,
    /// Its name, for messages.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// Its place in the key, if it is there.
    pub key: Option<usize>,
    /// What a row has that was written before the column.
    pub missing: Datum,
}

/// The places of a row: the declared columns in order, then the hidden row id if the table has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// The table.
    pub table: TableId,
    /// Its name, for messages.
    pub name: String,
    /// The places.
    pub fields: Vec<Field>,
    /// Places of the shard key.
    pub shard: Vec<usize>,
}

impl Layout {
    /// A table's layout.
    pub fn of(table: &Table) -> Layout {
        let mut fields: Vec<Field> = table
            .columns
            .iter()
            .map(|column| Field {
                id: column.id,
                name: column.name.clone(),
                ty: column.ty,
                nullable: column.nullable,
                key: table.primary_key.iter().position(|id| *id == column.id),
                missing: column.missing.clone(),
            })
            .collect();
        if table.has_row_id() {
            fields.push(Field {
                id: ROW_ID,
                name: ROW_ID_NAME.into(),
                ty: ROW_ID_TYPE,
                nullable: false,
                key: Some(0),
                missing: Datum::Null,
            });
        }
        let place =
            |id: &ColumnId| fields.iter().position(|field| field.id == *id).expect("keys name columns of the table");
        let shard = match table.shard_key.is_empty() {
            true => vec![place(&ROW_ID)],
            false => table.shard_key.iter().map(place).collect(),
        };
        Layout { table: table.id, name: table.name.clone(), fields, shard }
    }

    /// Places of the key's columns in the key's order.
    pub fn key_places(&self) -> Vec<usize> {
        let mut places: Vec<(usize, usize)> =
            self.fields.iter().enumerate().filter_map(|(place, field)| Some((field.key?, place))).collect();
        places.sort_unstable();
        places.into_iter().map(|(_, place)| place).collect()
    }

    /// A row's key.
    pub fn encode_key(&self, row: &[Datum]) -> Bytes {
        encode_key(self.table, self.key_places().into_iter().map(|place| &row[place]))
    }

    /// A row's value; 1118 if the row is too large.
    pub fn encode_value(&self, row: &[Datum]) -> Result<Bytes> {
        let size: usize = row.iter().map(Datum::size).sum();
        if size > MAX_ROW_SIZE {
            return Err(Error::new(
                1118,
                format!("Row size too large ({size} bytes). The maximum row size is {MAX_ROW_SIZE}; split the row"),
            ));
        }
        let mut columns: Vec<(ColumnId, &Datum)> = self
            .fields
            .iter()
            .zip(row)
            .filter(|(field, _)| field.key.is_none())
            .map(|(field, value)| (field.id, value))
            .collect();
        columns.sort_unstable_by_key(|(id, _)| *id);
        Ok(encode_row(columns.into_iter()))
    }

    /// The partition that holds a row.
    pub fn ordinal(&self, row: &[Datum], partitions: u32) -> Ordinal {
        shard_of(self.shard.iter().map(|place| &row[*place]), partitions)
    }

    /// How the values at some places are read out of stored rows.
    pub fn picker(&self, places: &[usize]) -> Picker {
        let fields: Vec<&Field> = places.iter().map(|place| &self.fields[*place]).collect();
        let mut wanted: Vec<ColumnId> =
            fields.iter().filter(|field| field.key.is_none()).map(|field| field.id).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let sources = fields
            .into_iter()
            .map(|field| match field.key {
                Some(place) => Source::Key(place),
                None => {
                    let at = wanted.binary_search(&field.id).expect("it was put in");
                    Source::Value(at, field.missing.clone())
                }
            })
            .collect();
        Picker { table: self.name.clone(), wanted, sources }
    }

    /// All values of a stored row.
    pub fn decode_all(&self, key: &Bytes, value: &Bytes, zone: Option<&dyn Zone>) -> Result<Vec<Datum>> {
        let places: Vec<usize> = (0..self.fields.len()).collect();
        self.picker(&places).pick(key, value, zone)
    }
}

/// Where a value is.
#[derive(Clone, Debug)]
enum Source {
    /// At a place of the key.
    Key(usize),
    /// At a place among the wanted columns; what it is where the row has none.
    Value(usize, Datum),
}

/// Reads some values out of stored rows of one table.
#[derive(Clone, Debug)]
pub struct Picker {
    table: String,
    /// Columns of the value, ids rising.
    wanted: Vec<ColumnId>,
    sources: Vec<Source>,
}

impl Picker {
    /// The values of a row; TIMESTAMPs as local times where a zone is given.
    pub fn pick(&self, key: &Bytes, value: &Bytes, zone: Option<&dyn Zone>) -> Result<Vec<Datum>> {
        let from_key = self.sources.iter().any(|source| matches!(source, Source::Key(_)));
        let key_columns = if from_key { decode_key(key)?.1 } else { vec![] };
        let found = if self.wanted.is_empty() { vec![] } else { project_row(value.clone(), &self.wanted)? };
        self.sources
            .iter()
            .map(|source| {
                let value = match source {
                    Source::Key(place) => key_columns.get(*place).cloned().ok_or_else(|| {
                        Error::new(9007, format!("a stored key of table {} is too short", self.table))
                    })?,
                    Source::Value(at, missing) => found[*at].clone().unwrap_or_else(|| missing.clone()),
                };
                Ok(localize(value, zone))
            })
            .collect()
    }
}

/// A TIMESTAMP as the local time of a zone.
pub fn localize(value: Datum, zone: Option<&dyn Zone>) -> Datum {
    match (value, zone) {
        (Datum::Timestamp(utc), Some(zone)) => Datum::DateTime(zone.to_local(utc)),
        (value, _) => value,
    }
}
