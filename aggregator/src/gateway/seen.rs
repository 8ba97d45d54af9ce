//! What is seen of databases, sessions and events: rows of `shows` that depend on who asks.

use std::collections::BTreeMap;

use catalog::State;
use catalog::database::{Database, Side};
use catalog::event::{Event, Severity};
use catalog::user::Privilege;
use sql::cluster::Sheet;
use types::{DatabaseId, Datum, Ordinal};

use super::condition::{condition, fenced_by};
use super::shows::{count, sheet, text, time, with_times};
use super::users;
use crate::mysql::Client;
use crate::protocol::ReplicaReport;
use crate::region::Region;

fn or_null(value: Option<String>) -> Datum {
    value.map_or(Datum::Null, text)
}

/// SHOW DATABASES EXTENDED.
pub fn databases(region: &Region, state: &State, client: &Client) -> Sheet {
    let mut rows = Vec::new();
    for (id, known) in state.databases.iter().filter(|(_, known)| users::may_see(state, client, &known.name)) {
        let condition = condition(region, state, *id);
        let (role, peer) = role(state, *id, known);
        let primaries = state.partitions_of(*id).map(|(partition, _)| region.detector.primary(state, partition));
        let primaries: Vec<Option<ReplicaReport>> = primaries.collect();
        // NULL where a primary was not heard, for a part is not the whole.
        let sum = |of: fn(&ReplicaReport) -> u64| {
            let sum: Option<u64> = primaries.iter().map(|primary| primary.as_ref().map(of)).sum();
            sum.map_or(Datum::Null, count)
        };
        let wait = |sync: bool| text(if sync { "sync" } else { "async" });
        rows.push(vec![
            text(known.name.clone()),
            text(condition.state),
            or_null(role.map(str::to_string)),
            count(known.partitions.into()),
            count(known.options.redundancy.into()),
            wait(known.mode.sync_durability),
            wait(known.mode.sync_replication),
            text("local"),
            // The meta partition holds definitions.
            sum(|primary| if primary.partition.ordinal == Ordinal::META { 0 } else { primary.rows }),
            sum(|primary| primary.bytes),
            sum(|primary| primary.log_bytes),
            or_null(fenced_by(state, *id)),
            or_null(peer),
            or_null(condition.advice),
        ]);
    }
    rows.sort_by_key(|row| row[0].to_string());
    let names = [
        ("database", false),
        ("state", false),
        ("role", false),
        ("partitions", true),
        ("redundancy", true),
        ("durability", false),
        ("replication", false),
        ("storage", false),
        ("rows", true),
        ("bytes", true),
        ("log_bytes", true),
        ("fenced", false),
        ("peer", false),
        ("advice", false),
    ];
    sheet(&names, rows)
}

/// Which end of a link a database is, and who is at the other.
fn role(state: &State, id: DatabaseId, known: &Database) -> (Option<&'static str>, Option<String>) {
    if let Side::Sink { link } = known.side {
        let source = state.sinks.get(&link).map(|link| format!("{}/{}", link.source.address, link.source.database));
        return (Some("sink"), source);
    }
    let following = state.sources.values().filter(|link| link.database == id && link.ended.is_none());
    let peers: Vec<String> = following
        .map(|link| format!("{}/{}", link.peer_address.as_deref().unwrap_or("unknown"), link.peer_database))
        .collect();
    if peers.is_empty() { (None, None) } else { (Some("source"), Some(peers.join(","))) }
}

/// SHOW CLUSTER EVENTS, the newest first.
pub fn events(state: &State, client: &Client, limit: Option<u64>) -> Sheet {
    let dropped = |event: &Event| Some((event.database?, event.dropped_name()?.to_string()));
    let dropped: BTreeMap<DatabaseId, String> = state.events.iter().filter_map(dropped).collect();
    let name = |id: DatabaseId| match state.databases.get(&id) {
        Some(known) => known.name.clone(),
        None => dropped.get(&id).cloned().unwrap_or_else(|| format!("#{id}")),
    };
    let may_see = |name: &Option<String>| name.as_ref().is_none_or(|name| users::may_see(state, client, name));
    let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let seen = state.events.iter().rev().map(|event| (event.database.map(name), event));
    let rows = seen.filter(|(database, _)| may_see(database)).take(limit).map(|(database, event)| {
        let severity = match event.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        vec![
            time(event.at),
            text(severity),
            event.node.map_or(Datum::Null, |node| count(node.0)),
            or_null(database),
            event.partition.map_or(Datum::Null, |ordinal| Datum::Int(ordinal.0.into())),
            text(event.kind.clone()),
            text(event.text.clone()),
        ]
    });
    let names = [
        ("time", false),
        ("severity", false),
        ("node", true),
        ("database", false),
        ("partition", true),
        ("event", false),
        ("detail", false),
    ];
    with_times(sheet(&names, rows.collect()), &["time"])
}

/// SHOW PROCESSLIST: one's own sessions, or with PROCESS all of this aggregator's.
pub fn processes(region: &Region, state: &State, client: &Client) -> Sheet {
    let all = users::user(state, client).is_some_and(|(_, user)| user.may(Privilege::Process, None));
    let seen = region.sessions.list().into_iter().filter(|seen| all || seen.client.user == client.user);
    let rows = seen.map(|seen| {
        let (running, state) = (seen.statement.is_some(), seen.state());
        vec![
            count(seen.client.connection.0.into()),
            text(seen.client.user.clone()),
            text(format!("{}:{}", seen.client.host, seen.client.address.port())),
            or_null(seen.database),
            text(if running { "Query" } else { "Sleep" }),
            count(seen.since.elapsed().as_secs()),
            text(state),
            or_null(seen.statement),
            seen.progress.map_or(Datum::Null, |percent| count(percent.into())),
        ]
    });
    let names = [
        ("ID", true),
        ("USER", false),
        ("HOST", false),
        ("DB", false),
        ("COMMAND", false),
        ("TIME", true),
        ("STATE", false),
        ("INFO", false),
        ("PROGRESS", true),
    ];
    sheet(&names, rows.collect())
}

/// SHOW STATUS: what this aggregator counts.
pub fn counters(region: &Region) -> Sheet {
    let counters = region.sessions.counters();
    let sessions = region.sessions.list();
    let running = sessions.iter().filter(|seen| seen.statement.is_some()).count();
    let rows = [
        ("Connections", counters.connections),
        ("Questions", counters.questions),
        ("Threads_connected", sessions.len() as u64),
        ("Threads_running", running as u64),
        ("Uptime", counters.uptime),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![text(name), text(value.to_string())]);
    sheet(&[("Variable_name", false), ("Value", false)], rows.collect())
}
