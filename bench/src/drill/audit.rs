//! What there is in the end: rows as every aggregator gives them, copies as the cluster compares them, and its logs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::journal::{self, Write};
use super::transfers::{SUM, wrong};
use crate::client::Table;
use crate::cluster::{Cluster, connect};

/// Reading and comparing everything may take this long.
const PATIENCE: Duration = Duration::from_secs(600);
/// A log has these words only if an invariant was broken.
const ALARM: &str = "panicked at";

/// Reads everything. What cannot be read is a finding as well.
pub fn audit(cluster: &Cluster, writes: &[Write]) -> journal::Audit {
    let mut audit = match rows(cluster).map(|(rows, counters)| journal::audit(writes, &rows, &counters)) {
        Ok(audit) => audit,
        Err(error) => failed("reading the journal", &error),
    };
    for address in cluster.sql() {
        match sum(address) {
            Ok(found) => audit.findings.extend(found),
            Err(error) => audit.findings.push(format!("reading the accounts at {address}: {error:#}")),
        }
    }
    match check(cluster) {
        Ok(found) => audit.findings.extend(found),
        Err(error) => audit.findings.push(format!("comparing the copies: {error:#}")),
    }
    audit.findings.extend(alarms(cluster));
    audit
}

fn failed(what: &str, error: &anyhow::Error) -> journal::Audit {
    journal::Audit { findings: vec![format!("{what}: {error:#}")], ..journal::Audit::default() }
}

type Numbers = BTreeMap<i64, i64>;

fn rows(cluster: &Cluster) -> Result<(Numbers, Numbers)> {
    let mut client = connect(cluster.sql()[0], PATIENCE)?;
    client.run("USE drill")?;
    let rows = numbers(&client.table("SELECT id, counter FROM journal")?)?;
    let counters = numbers(&client.table("SELECT id, n FROM counters")?)?;
    Ok((rows, counters))
}

fn numbers(table: &Table) -> Result<Numbers> {
    let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<i64>().ok());
    let pair = |row: &Vec<Option<String>>| Some((number(row.first()?)?, number(row.get(1)?)?));
    let pairs: Option<Vec<(i64, i64)>> = table.rows.iter().map(pair).collect();
    let pairs = pairs.context("a row has no numbers")?;
    let count = pairs.len();
    let numbers: Numbers = pairs.into_iter().collect();
    anyhow::ensure!(numbers.len() == count, "{} rows were read twice", count - numbers.len());
    Ok(numbers)
}

fn sum(address: SocketAddr) -> Result<Option<String>> {
    let mut client = connect(address, PATIENCE)?;
    client.run("USE drill")?;
    let table = client.table(SUM)?;
    Ok(wrong(table.get(0, "total"), table.get(0, "accounts")))
}

/// CHECK DATABASE, and what the cluster has told people of losses.
fn check(cluster: &Cluster) -> Result<Vec<String>> {
    let mut client = connect(cluster.sql()[0], PATIENCE)?;
    let table = client.table("CHECK DATABASE drill")?;
    let mut findings = Vec::new();
    for row in 0..table.rows.len() {
        if table.number(row, "damaged") != Some(0) || table.get(row, "detail").is_some() {
            findings.push(format!("CHECK DATABASE says: {:?}", table.rows[row]));
        }
    }
    let sql = "SELECT event, detail FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE severity = 'error'";
    let events = client.table(sql)?;
    // A leaf without room may give up.
    let of_room = |row: &usize| {
        events.get(*row, "event") == Some("disk")
            || events.get(*row, "detail").is_some_and(|detail| detail.contains("No space left on device"))
    };
    let told = (0..events.rows.len()).filter(|row| !of_room(row));
    findings.extend(told.map(|row| format!("the cluster says: {:?}", events.rows[row])));
    Ok(findings)
}

fn alarms(cluster: &Cluster) -> Vec<String> {
    let mut found = Vec::new();
    for node in &cluster.nodes {
        let text = std::fs::read_to_string(node.log()).unwrap_or_default();
        let lines = text.lines().filter(|line| line.contains(ALARM));
        found.extend(lines.map(|line| format!("{} says: {line}", node.name)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_read_twice_is_an_error() {
        let row = |id: &str| vec![Some(id.to_string()), Some("-1".to_string())];
        let table = |rows: Vec<Vec<Option<String>>>| Table { columns: vec!["id".into(), "counter".into()], rows };
        assert_eq!(numbers(&table(vec![row("1"), row("2")])).unwrap(), BTreeMap::from([(1, -1), (2, -1)]));
        assert!(numbers(&table(vec![row("1"), row("1")])).is_err());
        assert!(numbers(&table(vec![row("x")])).is_err());
    }
}
