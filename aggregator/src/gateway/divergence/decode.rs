//! Keys and rows of divergence files as JSON, under the names that columns have now.

use std::collections::BTreeMap;

use bytes::Bytes;
use sql::layout::Layout;
use sql::schema::{ROW_ID_NAME, SEQUENCES, Schema, TABLES, Table, decode_table};
use types::key::decode_key;
use types::row::decode_row;
use types::{Datum, TableId};

use crate::protocol::SetAside;

/// Tables by the ids that keys have.
#[derive(Default)]
pub struct Tables {
    known: BTreeMap<TableId, Known>,
}

/// One table.
pub struct Known {
    /// Its definition.
    pub table: Table,
    /// How its rows lie.
    pub layout: Layout,
}

impl Tables {
    /// Those of a schema; those whose definitions were set aside, too, where nothing newer has their ids.
    pub fn of<'a>(schema: &Schema, writes: impl Iterator<Item = &'a SetAside>) -> Tables {
        let mut tables = Tables::default();
        for table in schema.tables() {
            tables.add((**table).clone());
        }
        for write in writes.filter(|write| table_of(&write.key) == Some(TABLES)) {
            let definitions = [&write.new, &write.old].into_iter().flatten();
            let definitions = definitions.filter_map(|value| decode_table(value.clone()).ok());
            definitions.for_each(|table| tables.add(table));
        }
        tables
    }

    fn add(&mut self, table: Table) {
        let layout = Layout::of(&table);
        self.known.entry(table.id).or_insert(Known { table, layout });
    }

    /// The table that a key is of.
    pub fn get(&self, key: &Bytes) -> Option<&Known> {
        self.known.get(&table_of(key)?)
    }

    /// What a key's table is called.
    pub fn name(&self, key: &Bytes) -> String {
        match (self.get(key), table_of(key)) {
            (Some(known), _) => known.table.name.clone(),
            (None, Some(TABLES)) => "(definitions)".into(),
            (None, Some(SEQUENCES)) => "(counters)".into(),
            (None, Some(id)) => format!("(table {id})"),
            (None, None) => "(unknown)".into(),
        }
    }

    /// A key as JSON.
    pub fn key(&self, key: &Bytes) -> String {
        let Ok((_, values)) = decode_key(key) else { return string(&hex(key)) };
        let names: Vec<String> = match self.get(key) {
            Some(Known { layout, .. }) => {
                layout.key_places().into_iter().map(|place| shown(&layout.fields[place].name)).collect()
            }
            None => (1..=values.len()).map(|at| format!("key {at}")).collect(),
        };
        object(names.into_iter().zip(&values))
    }

    /// A row as JSON.
    pub fn row(&self, key: &Bytes, value: &Bytes) -> String {
        if let Some(Known { layout, .. }) = self.get(key)
            && let Ok(values) = layout.decode_all(key, value, None)
        {
            let named = layout.fields.iter().zip(&values).filter(|(field, _)| field.name != ROW_ID_NAME);
            return object(named.map(|(field, value)| (field.name.clone(), value)));
        }
        match decode_row(value.clone()) {
            Ok(columns) => object(columns.iter().map(|(id, value)| (format!("column {}", id.0), value))),
            Err(_) => string(&hex(value)),
        }
    }
}

/// The table id in a key.
pub fn table_of(key: &Bytes) -> Option<TableId> {
    decode_key(key).ok().map(|(table, _)| table)
}

/// The hidden key of a table without one has a name that cannot be shown.
fn shown(name: &str) -> String {
    if name == ROW_ID_NAME { "(row id)".into() } else { name.into() }
}

fn object<'a>(members: impl Iterator<Item = (String, &'a Datum)>) -> String {
    let members: Vec<String> = members.map(|(name, value)| format!("{}: {}", string(&name), json(value))).collect();
    format!("{{{}}}", members.join(", "))
}

fn json(value: &Datum) -> String {
    match value {
        Datum::Null => "null".into(),
        Datum::Int(_) | Datum::UInt(_) | Datum::Decimal(_) | Datum::Float(_) | Datum::Double(_) => value.to_string(),
        Datum::Json(text) => text.clone(),
        Datum::Bytes(bytes) => string(&hex(bytes)),
        Datum::Text(_) | Datum::Date(_) | Datum::DateTime(_) | Datum::Timestamp(_) | Datum::Time(_) => {
            string(&value.to_string())
        }
    }
}

fn string(text: &str) -> String {
    serde_json::Value::String(text.into()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}
