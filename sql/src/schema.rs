//! A database's tables, and how they lie in its meta partition.
//!
//! The schema is data of the database: rows of tables with reserved ids in partition -1, in the same log, so that it
//! travels with it. A table's definition is one row under its name, so that two tables of one name collide as rows
//! do. Table ids are never given twice; DROP and TRUNCATE only change the definition, and rows under an id that no
//! definition names are garbage.
//!
//! | reserved table | key | value |
//! |---|---|---|
//! | 1 tables | name (text) | column 1: the definition as JSON (text) |
//! | 2 sequences | table id (unsigned); 0 for table ids themselves | column 1: the next value (unsigned) |

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::key::{decode_key, encode_key, table_range};
use types::row::{decode_row, encode_row};
use types::value::{ColumnType, IntWidth};
use types::{ColumnId, Datum, TableId};

use crate::error::{Error, Result};
use crate::statement::{AlterTable, ColumnClause, CreateTable, DefaultClause};

/// Definitions of tables.
pub const TABLES: TableId = TableId(1);
/// Counters: AUTO_INCREMENT, row ids, table ids.
pub const SEQUENCES: TableId = TableId(2);
/// The reserved table of tables that were dropped and still have rows.
pub const DROPPED: TableId = TableId(3);
/// The first id of a user's table.
pub const FIRST_TABLE: TableId = TableId(1024);
/// The hidden key of a table without a primary key.
pub const ROW_ID: ColumnId = ColumnId(0);
/// How the hidden key is called inside; no identifier can be.
pub const ROW_ID_NAME: &str = "\u{1}row_id";
/// The row id's type.
pub const ROW_ID_TYPE: ColumnType = ColumnType::Int { width: IntWidth::Big, unsigned: true };
/// Columns of a table at most, as in MySQL.
const MAX_COLUMNS: usize = 4096;
/// The version of the definitions' JSON.
const FORMAT: u32 = 1;

/// What a column takes when an INSERT does not name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DefaultValue {
    /// A constant, of the column's type.
    Value(Datum),
    /// The statement's time.
    Now,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its number in rows.
    pub id: ColumnId,
    /// As declared; case does not count when it is looked up.
    pub name: String,
    /// What it holds.
    pub ty: ColumnType,
    /// Whether it takes NULL.
    pub nullable: bool,
    /// What it takes when it is not named.
    pub default: Option<DefaultValue>,
    /// What rows have that were written before the column was added.
    pub missing: Datum,
    /// Whether an UPDATE of another column sets it to the time.
    pub on_update_now: bool,
    /// Whether it counts.
    pub auto_increment: bool,
    /// For people.
    pub comment: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Its id in keys.
    pub id: TableId,
    /// Its name; case counts.
    pub name: String,
    /// In the order of `SELECT *`.
    pub columns: Vec<Column>,
    /// Empty for a table that has the hidden row id as key.
    pub primary_key: Vec<ColumnId>,
    /// Where a row lies.
    pub shard_key: Vec<ColumnId>,
    /// For people.
    pub comment: String,
    /// The next column's id.
    pub next_column: ColumnId,
    /// Where AUTO_INCREMENT begins.
    pub auto_increment: u64,
}

/// The tables of one database.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    tables: BTreeMap<String, Arc<Table>>,
}

impl Schema {
    /// Reads the rows of the meta partition; rows of other reserved tables are skipped.
    pub fn from_rows(rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Schema> {
        let mut schema = Schema::default();
        for (key, value) in rows {
            if decode_key(&key)?.0 == TABLES {
                let table = decode_table(value)?;
                schema.tables.insert(table.name.clone(), Arc::new(table));
            }
        }
        Ok(schema)
    }

    /// The table of a name.
    pub fn table(&self, name: &str) -> Option<&Arc<Table>> {
        self.tables.get(name)
    }

    /// All tables, names rising.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.tables.values()
    }

    /// The range of keys that hold definitions.
    pub fn key_range() -> (Bytes, Bytes) {
        table_range(TABLES)
    }
}

/// The key of a table's definition.
pub fn table_key(name: &str) -> Bytes {
    encode_key(TABLES, [&Datum::Text(name.into())])
}

/// The key of a table's counter; of table ids for 0, of the definitions' version for `TABLES`.
pub fn sequence_key(table: TableId) -> Bytes {
    encode_key(SEQUENCES, [&Datum::UInt(table.0)])
}

/// The key under which a table that was dropped keeps its definition, for as long as it has rows.
pub fn dropped_key(table: TableId) -> Bytes {
    encode_key(DROPPED, [&Datum::UInt(table.0)])
}

/// The range of keys that hold tables that were dropped.
pub fn dropped_range() -> (Bytes, Bytes) {
    table_range(DROPPED)
}

/// A counter's value.
pub fn encode_sequence(next: u64) -> Bytes {
    encode_row([(ColumnId(1), &Datum::UInt(next))].into_iter())
}

/// Reads a counter.
pub fn decode_sequence(value: Bytes) -> Result<u64> {
    match decode_row(value)?.as_slice() {
        [(ColumnId(1), Datum::UInt(next))] => Ok(*next),
        other => Err(Error::new(9007, format!("a stored counter cannot be read: {other:?}"))),
    }
}

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    format: u32,
    table: T,
}

/// A definition's value.
pub fn encode_table(table: &Table) -> Bytes {
    let text =
        serde_json::to_string(&Stored { format: FORMAT, table }).expect("a definition has no keys that are no text");
    encode_row([(ColumnId(1), &Datum::Json(text))].into_iter())
}

/// Reads a definition.
pub fn decode_table(value: Bytes) -> Result<Table> {
    let columns = decode_row(value)?;
    let [(ColumnId(1), Datum::Json(text))] = columns.as_slice() else {
        return Err(Error::new(9007, "a stored table definition has unknown columns; a newer version has written it"));
    };
    let stored: Stored<Table> = serde_json::from_str(text)
        .map_err(|error| Error::new(9007, format!("a stored table definition cannot be read: {error}")))?;
    if stored.format != FORMAT {
        return Err(Error::new(
            9007,
            format!("a table definition of format {} is newer than this version", stored.format),
        ));
    }
    Ok(stored.table)
}

impl Table {
    /// A table after its CREATE statement.
    pub fn create(id: TableId, create: &CreateTable) -> Result<Table> {
        if create.columns.is_empty() {
            return Err(Error::new(1113, "A table must have at least 1 column"));
        }
        if create.columns.len() > MAX_COLUMNS {
            return Err(Error::new(1117, "Too many columns"));
        }
        check_name(&create.name.name, 1103, "table")?;
        let mut table = Table {
            id,
            name: create.name.name.clone(),
            columns: vec![],
            primary_key: vec![],
            shard_key: vec![],
            comment: create.comment.clone(),
            next_column: ColumnId(1),
            auto_increment: create.auto_increment.unwrap_or(1).max(1),
        };
        for clause in &create.columns {
            let in_key = create.primary_key.iter().any(|name| name.eq_ignore_ascii_case(&clause.name));
            table.push_column(clause, in_key)?;
        }
        table.primary_key = table.key_columns(&create.primary_key)?;
        table.shard_key = match &create.shard_key {
            Some(names) if !names.is_empty() => table.key_columns(names)?,
            _ => table.primary_key.clone(),
        };
        table.check_keys()?;
        Ok(table)
    }

    fn check_keys(&self) -> Result<()> {
        if !self.primary_key.is_empty() && self.shard_key.iter().any(|id| !self.primary_key.contains(id)) {
            return Err(Error::unsupported("a primary key that does not contain the shard key"));
        }
        let counting: Vec<&Column> = self.columns.iter().filter(|column| column.auto_increment).collect();
        match counting.as_slice() {
            [] => Ok(()),
            [column] if self.primary_key.first() == Some(&column.id) => Ok(()),
            _ => Err(Error::new(
                1075,
                "Incorrect table definition; there can be only one auto column and it must be defined as a key",
            )),
        }
    }

    fn push_column(&mut self, clause: &ColumnClause, in_key: bool) -> Result<()> {
        check_name(&clause.name, 1166, "column")?;
        if self.column(&clause.name).is_some() {
            return Err(Error::new(1060, format!("Duplicate column name '{}'", clause.name)));
        }
        let invalid_default = || Error::new(1067, format!("Invalid default value for '{}'", clause.name));
        if clause.auto_increment && !clause.ty.is_integer() {
            return Err(Error::new(1063, format!("Incorrect column specifier for column '{}'", clause.name)));
        }
        if in_key && clause.nullable == Some(true) {
            return Err(Error::new(
                1171,
                "All parts of a PRIMARY KEY must be NOT NULL; if you need NULL in a key, use UNIQUE instead",
            ));
        }
        let nullable = !in_key && !clause.auto_increment && clause.nullable != Some(false);
        let timestamp = matches!(clause.ty, ColumnType::Timestamp(_) | ColumnType::DateTime(_));
        let default = match &clause.default {
            None => None,
            Some(DefaultClause::Now) if timestamp => Some(DefaultValue::Now),
            Some(DefaultClause::Now) => return Err(invalid_default()),
            Some(DefaultClause::Value(Datum::Null)) if nullable => None,
            Some(DefaultClause::Value(Datum::Null)) => return Err(invalid_default()),
            Some(DefaultClause::Value(_))
                if matches!(clause.ty, ColumnType::Text(_) | ColumnType::Blob(_) | ColumnType::Json) =>
            {
                return Err(Error::new(
                    1101,
                    format!("BLOB, TEXT, GEOMETRY or JSON column '{}' can't have a default value", clause.name),
                ));
            }
            Some(DefaultClause::Value(value)) => {
                let zone = types::value::FixedZone::default();
                Some(DefaultValue::Value(clause.ty.convert(value.clone(), &zone).map_err(|_| invalid_default())?))
            }
        };
        if clause.on_update_now && !timestamp {
            return Err(Error::new(1294, format!("Invalid ON UPDATE clause for '{}' column", clause.name)));
        }
        let missing = match &default {
            Some(DefaultValue::Value(value)) => value.clone(),
            _ if nullable => Datum::Null,
            _ => implicit_default(&clause.ty),
        };
        self.columns.push(Column {
            id: self.next_column,
            name: clause.name.clone(),
            ty: clause.ty,
            nullable,
            default,
            missing,
            on_update_now: clause.on_update_now,
            auto_increment: clause.auto_increment,
            comment: clause.comment.clone(),
        });
        self.next_column.0 += 1;
        Ok(())
    }

    fn key_columns(&self, names: &[String]) -> Result<Vec<ColumnId>> {
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            let column = self
                .column(name)
                .ok_or_else(|| Error::new(1072, format!("Key column '{name}' doesn't exist in table")))?;
            if !column.ty.can_be_key() {
                return Err(Error::new(
                    1170,
                    format!("BLOB/TEXT column '{name}' used in key specification without a key length"),
                ));
            }
            if ids.contains(&column.id) {
                return Err(Error::new(1060, format!("Duplicate column name '{name}'")));
            }
            ids.push(column.id);
        }
        Ok(ids)
    }

    /// The table after a change. RENAME is the caller's: the name is the definition's key.
    pub fn altered(&self, change: &AlterTable) -> Result<Table> {
        let mut table = self.clone();
        match change {
            AlterTable::AddColumn(clause) => table.push_column(clause, false)?,
            AlterTable::DropColumn(name) => {
                let column = self
                    .column(name)
                    .ok_or_else(|| Error::new(1091, format!("Can't DROP '{name}'; check that column/key exists")))?;
                if self.primary_key.contains(&column.id) || self.shard_key.contains(&column.id) {
                    return Err(Error::unsupported("ALTER TABLE … DROP of a key column"));
                }
                if self.columns.len() == 1 {
                    return Err(Error::new(
                        1090,
                        "You can't delete all columns with ALTER TABLE; use DROP TABLE instead",
                    ));
                }
                let id = column.id;
                table.columns.retain(|column| column.id != id);
            }
            AlterTable::Rename(name) => {
                check_name(&name.name, 1103, "table")?;
                table.name.clone_from(&name.name);
            }
            AlterTable::Comment(comment) => table.comment.clone_from(comment),
            AlterTable::AutoIncrement(next) => table.auto_increment = (*next).max(1),
        }
        Ok(table)
    }

    /// A column by name; case does not count.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.position(name).map(|at| &self.columns[at])
    }

    /// A column's place in `columns`.
    pub fn position(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.columns.iter().position(|column| column.name.to_lowercase() == name)
    }

    /// Whether its key is hidden.
    pub fn has_row_id(&self) -> bool {
        self.primary_key.is_empty()
    }

    /// The column that counts.
    pub fn counting_column(&self) -> Option<usize> {
        self.columns.iter().position(|column| column.auto_increment)
    }
}

/// Longest identifier, characters.
const MAX_NAME: usize = 64;

fn check_name(name: &str, code: u16, what: &str) -> Result<()> {
    if name.chars().count() > MAX_NAME {
        return Err(Error::new(1059, format!("Identifier name '{name}' is too long")));
    }
    if name.ends_with(' ') || name.contains(['\0', '\u{1}']) {
        return Err(Error::new(code, format!("Incorrect {what} name '{name}'")));
    }
    Ok(())
}

/// What existing rows get for a NOT NULL column without a default.
pub fn implicit_default(ty: &ColumnType) -> Datum {
    let zone = types::value::FixedZone::default();
    match ty {
        ColumnType::Date | ColumnType::DateTime(_) | ColumnType::Timestamp(_) => {
            let first = Datum::Text("1970-01-01 00:00:01".into());
            ty.convert(first, &zone).expect("the first second is in the range of every type")
        }
        ColumnType::Json => Datum::Json("null".into()),
        _ if ty.is_text() || ty.is_binary() => {
            ty.convert(Datum::Text(String::new()), &zone).expect("an empty string fits everywhere")
        }
        _ => ty.convert(Datum::Int(0), &zone).expect("zero fits everywhere"),
    }
}
