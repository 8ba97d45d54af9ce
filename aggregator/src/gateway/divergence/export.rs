//! Statements that would do again what was set aside.
//!
//! In the order of the commits. What was only prepared is written as a comment, for it may be committed elsewhere; what
//! was aborted, and what the database holds again, is left out.

use sql::parse::{quote, quote_name};
use sql::schema::{ROW_ID_NAME, SEQUENCES, TABLES, decode_table};
use types::Datum;

use super::decode::{Known, Tables, table_of};
use crate::protocol::{Fate, SetAside};

/// One statement an element, each with its semicolon.
pub fn statements(database: &str, tables: &Tables, writes: &[&SetAside]) -> Vec<String> {
    let mut out = vec![format!("USE {};", quote_name(database)), "SET time_zone = '+00:00';".to_string()];
    for group in writes.chunk_by(|a, b| (a.ts, a.txn) == (b.ts, b.txn)) {
        let done: Vec<String> = group.iter().filter_map(|write| statement(tables, write)).collect();
        let several = done.len() > 1 && group.iter().all(|write| write.fate == Fate::Dropped);
        out.extend(several.then(|| "BEGIN;".to_string()));
        out.extend(done);
        out.extend(several.then(|| "COMMIT;".to_string()));
    }
    out
}

fn statement(tables: &Tables, write: &SetAside) -> Option<String> {
    let text = match (table_of(&write.key), tables.get(&write.key)) {
        (Some(SEQUENCES), _) => return None,
        (Some(TABLES), _) => definition(write)?,
        (_, Some(known)) => change(known, write)?,
        (_, None) => format!("-- a row of a table that is not known: key {}", tables.key(&write.key)),
    };
    match write.fate {
        Fate::Dropped => Some(text),
        Fate::Prepared => Some(format!("-- prepared, never decided here: {}", text.replace('\n', " "))),
        Fate::Aborted | Fate::Alive => None,
    }
}

/// A change of a table's definition: a new table is made; what else was changed is said.
fn definition(write: &SetAside) -> Option<String> {
    let decoded = |value: &Option<bytes::Bytes>| value.clone().and_then(|value| decode_table(value).ok());
    match (decoded(&write.old), decoded(&write.new)) {
        (None, Some(table)) => Some(format!("{};", sql::create_table(&table))),
        (Some(table), None) => Some(format!("DROP TABLE {};", quote_name(&table.name))),
        (Some(_), Some(table)) => {
            let text = sql::create_table(&table).replace('\n', " ");
            Some(format!("-- table {} was altered; it became: {text}", quote_name(&table.name)))
        }
        (None, None) => None,
    }
}

fn change(known: &Known, write: &SetAside) -> Option<String> {
    let name = quote_name(&known.table.name);
    let decode = |value: &Option<bytes::Bytes>| {
        value.as_ref().and_then(|value| known.layout.decode_all(&write.key, value, None).ok())
    };
    let columns = || known.layout.fields.iter().enumerate().filter(|(_, field)| field.name != ROW_ID_NAME);
    let (old, new) = (decode(&write.old), decode(&write.new));
    match (old, new) {
        (None, Some(new)) => {
            let names: Vec<String> = columns().map(|(_, field)| quote_name(&field.name)).collect();
            let values: Vec<String> = columns().map(|(place, _)| quote(&new[place])).collect();
            Some(format!("INSERT INTO {name} ({}) VALUES ({});", names.join(", "), values.join(", ")))
        }
        (Some(old), None) => Some(format!("DELETE FROM {name} WHERE {};", condition(known, &old))),
        (Some(old), Some(new)) => {
            let changed = columns().filter(|(place, _)| old[*place] != new[*place]);
            let set: Vec<String> =
                changed.map(|(place, field)| format!("{} = {}", quote_name(&field.name), quote(&new[place]))).collect();
            (!set.is_empty()).then(|| format!("UPDATE {name} SET {} WHERE {};", set.join(", "), condition(known, &old)))
        }
        (None, None) => None,
    }
}

/// Which row is meant: by its key, or by all its values where it has none.
fn condition(known: &Known, old: &[Datum]) -> String {
    let fields = &known.layout.fields;
    let places = match known.table.has_row_id() {
        true => (0..fields.len()).filter(|place| fields[*place].name != ROW_ID_NAME).collect(),
        false => known.layout.key_places(),
    };
    let equal = |place: usize| format!("{} <=> {}", quote_name(&fields[place].name), quote(&old[place]));
    places.into_iter().map(equal).collect::<Vec<_>>().join(" AND ")
}

#[cfg(test)]
mod tests {
    use sql::schema::{FIRST_TABLE, encode_table, table_key};
    use sql::statement::Statement;
    use types::{Timestamp, TxnId};

    use super::*;

    fn table() -> sql::schema::Table {
        let text = "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20), price DECIMAL(6,2))";
        let Ok(Statement::CreateTable(create)) = sql::parse::parse(text) else { panic!("it is a CREATE TABLE") };
        sql::schema::Table::create(FIRST_TABLE, &create).expect("it is a table")
    }

    fn write(fate: Fate, txn: u128, id: i64, old: Option<&str>, new: Option<&str>) -> SetAside {
        let layout = sql::layout::Layout::of(&table());
        let row = |name: &str| vec![Datum::Int(id), Datum::Text(name.into()), Datum::Null];
        let value = |name: &str| layout.encode_value(&row(name)).expect("it is small");
        let key = layout.encode_key(&row(""));
        SetAside { fate, txn: TxnId(txn), ts: Timestamp(txn as u64), key, old: old.map(value), new: new.map(value) }
    }

    #[test]
    fn what_was_dropped_becomes_statements_in_the_order_of_its_commits() {
        let made = SetAside {
            fate: Fate::Dropped,
            txn: TxnId(1),
            ts: Timestamp(1),
            key: table_key("t"),
            old: None,
            new: Some(encode_table(&table())),
        };
        let writes = [
            made,
            write(Fate::Dropped, 2, 1, None, Some("it's")),
            write(Fate::Dropped, 3, 1, Some("it's"), Some("b")),
            write(Fate::Dropped, 3, 2, Some("x"), None),
            write(Fate::Alive, 4, 3, None, Some("back")),
            write(Fate::Aborted, 5, 3, None, Some("never")),
            write(Fate::Prepared, 6, 4, None, Some("who knows")),
        ];
        let writes: Vec<&SetAside> = writes.iter().collect();
        let tables = Tables::of(&sql::schema::Schema::default(), writes.iter().copied());
        let statements = statements("app", &tables, &writes);
        assert!(statements[2].starts_with("CREATE TABLE `t` ("), "{}", statements[2]);
        let expected = [
            "INSERT INTO `t` (`id`, `name`, `price`) VALUES (1, 'it\\'s', NULL);",
            "BEGIN;",
            "UPDATE `t` SET `name` = 'b' WHERE `id` <=> 1;",
            "DELETE FROM `t` WHERE `id` <=> 2;",
            "COMMIT;",
            "-- prepared, never decided here: INSERT INTO `t` (`id`, `name`, `price`) VALUES (4, 'who knows', NULL);",
        ];
        assert_eq!(statements[3..], expected);
        for statement in statements.iter().filter(|statement| !statement.starts_with("--")) {
            assert!(sql::parse::parse(statement.trim_end_matches(';')).is_ok(), "{statement}");
        }
        assert_eq!(
            tables.row(&writes[1].key, writes[1].new.as_ref().expect("inserted")),
            r#"{"id": 1, "name": "it's", "price": null}"#
        );
        assert_eq!(tables.key(&writes[1].key), r#"{"id": 1}"#);
    }
}
