//! What a region has set aside, as SHOW DIVERGENCE tells it: which entries of the ledger are in it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use super::console::Session;
use super::tables::DATABASE;
use crate::client::Table;

/// All divergences of the demo's database, together.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Divergence {
    /// Their names.
    pub ids: Vec<String>,
    /// How many records they hold.
    pub records: u64,
    /// Numbers of the ledger's entries among them.
    pub ledger: BTreeSet<i64>,
}

/// Reads what a region has set aside.
pub fn read(session: &mut Session) -> Result<Divergence> {
    let list = session.table(&format!("SHOW DIVERGENCE FOR {DATABASE}"))?;
    let mut divergence = Divergence::default();
    for row in 0..list.rows.len() {
        let id = list.get(row, "id").context("SHOW DIVERGENCE answers without an id")?;
        let records = session.table(&format!("SHOW DIVERGENCE RECORDS '{id}'"))?;
        divergence.ids.push(id.to_string());
        divergence.records += records.rows.len() as u64;
        divergence.ledger.extend(entries(&records)?);
    }
    Ok(divergence)
}

/// Entries of the ledger that were inserted in these records.
fn entries(records: &Table) -> Result<BTreeSet<i64>> {
    let mut ids = BTreeSet::new();
    for row in 0..records.rows.len() {
        let is_entry = records.get(row, "table") == Some("ledger") && records.get(row, "operation") == Some("insert");
        if is_entry {
            let key = records.get(row, "key").context("a record has no key")?;
            ids.insert(id_in(key).with_context(|| format!("the key {key} has no id"))?);
        }
    }
    Ok(ids)
}

/// The column `id` of a JSON object; a number may be given as text.
fn id_in(json: &str) -> Option<i64> {
    let object: Value = serde_json::from_str(json).ok()?;
    let id = &object["id"];
    id.as_i64().or_else(|| id.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_among_records() {
        let columns = ["commit_time", "transaction", "table", "operation", "key", "old_row", "new_row"];
        let record = |table: &str, operation: &str, key: &str| {
            ["2026-11-24", "7", table, operation, key, "", ""].map(|text| Some(text.to_string())).to_vec()
        };
        let rows = vec![
            record("ledger", "insert", r#"{"id": 12}"#),
            record("ledger", "insert", r#"{"id": "-13"}"#),
            record("accounts", "update", r#"{"id": 14}"#),
            record("ledger", "delete", r#"{"id": 15}"#),
        ];
        let mut table = Table { columns: columns.map(String::from).to_vec(), rows };
        assert_eq!(entries(&table).unwrap(), BTreeSet::from([-13, 12]));
        table.rows.push(record("ledger", "insert", r#"{"no": 1}"#));
        assert!(entries(&table).unwrap_err().to_string().contains("has no id"));
    }
}
