//! What the cluster knows of itself, as rows: the catalog's word beside the leaves'.

use std::collections::BTreeMap;
use std::sync::Arc;

use catalog::State;
use catalog::event::UnixMillis;
use catalog::node::{Node, Standing};
use catalog::user::Privilege;
use sql::answer::{Answer, ResultColumn};
use sql::cluster::{Sheet, SystemTable};
use sql::scalar::Ty;
use sql::statement::ClusterShow;
use sql::{Error, Result};
use types::{ClusterId, Datum};

use super::answer::table;
use super::condition::{condition, is_copy};
use super::seen::{counters, databases, events, processes};
use super::users::{may_see, may_use, no_access};
use super::{aggregators, divergence, leaves, links, moves, replication};
use crate::mysql::Client;
use crate::outcome::Sent;
use crate::protocol::{ReplicaReport, SheetOf};
use crate::region::Region;

/// Answers a SHOW of the cluster's.
pub async fn cluster(region: &Arc<Region>, client: &Arc<Client>, show: &ClusterShow) -> Result<Answer> {
    let (Sheet { columns, rows }, troubles) = match show {
        ClusterShow::Divergence(database) => divergence::show(region, database.as_deref()).await?,
        show => (of_show(region, client, show).await?, vec![]),
    };
    let columns = columns.iter().map(|(name, ty)| match ty {
        Ty::Int => ResultColumn::int(name),
        Ty::DateTime => ResultColumn::time(name),
        _ => ResultColumn::text(name),
    });
    Ok(divergence::with_troubles(table(columns.collect(), rows), troubles))
}

/// The twin of a SHOW in information_schema; `None` if there is none of that name.
pub async fn twin(region: &Arc<Region>, client: &Arc<Client>, name: &str) -> Result<Option<Sheet>> {
    let show = match name {
        "PERENNIAL_LEAVES" => ClusterShow::Leaves,
        "PERENNIAL_AGGREGATORS" => ClusterShow::Aggregators,
        "PERENNIAL_PARTITIONS" => ClusterShow::Partitions(None),
        "PERENNIAL_CLUSTER_STATUS" => ClusterShow::ClusterStatus,
        "PERENNIAL_REBALANCE_STATUS" => ClusterShow::RebalanceStatus,
        "PERENNIAL_REPLICATION_STATUS" => ClusterShow::ReplicationStatus { partitions: false, database: None },
        "PERENNIAL_REPLICATION_STATUS_PARTITIONS" => {
            ClusterShow::ReplicationStatus { partitions: true, database: None }
        }
        "PERENNIAL_DIVERGENCE" => {
            super::users::require(region, client, Privilege::Super)?;
            ClusterShow::Divergence(None)
        }
        "PERENNIAL_CLUSTER_EVENTS" => ClusterShow::ClusterEvents { limit: None },
        "PERENNIAL_DATABASES" => return region.sheet(client, SheetOf::Databases).await.map(Some),
        "PROCESSLIST" | "PERENNIAL_PROCESSLIST" => return Ok(Some(processes(region, &region.catalog.state(), client))),
        "SESSION_STATUS" | "GLOBAL_STATUS" => return Ok(Some(counters(region))),
        _ => return Ok(None),
    };
    of_show(region, client, &show).await.map(Some)
}

/// The twins, with their columns: those of tables about nothing.
pub fn twins(region: &Region, client: &Client) -> Vec<SystemTable> {
    let nothing = State::new(ClusterId(0));
    let partitions = partitions(region, &nothing, client, None).unwrap_or_default();
    vec![
        ("PERENNIAL_AGGREGATORS", aggregators::heard(region, &nothing).columns),
        ("PERENNIAL_CLUSTER_EVENTS", events(&nothing, client, None).columns),
        ("PERENNIAL_CLUSTER_STATUS", status(region, &nothing).columns),
        ("PERENNIAL_DATABASES", databases(region, &nothing, client).columns),
        ("PERENNIAL_DIVERGENCE", divergence::files(vec![]).columns),
        ("PERENNIAL_LEAVES", leaves::sheet(region, &nothing).columns),
        ("PERENNIAL_PARTITIONS", partitions.columns),
        ("PERENNIAL_PROCESSLIST", processes(region, &nothing, client).columns),
        ("PERENNIAL_REBALANCE_STATUS", moves::status(region, &nothing, client).columns),
        ("PERENNIAL_REPLICATION_STATUS", links::status(region, &nothing, None).columns),
        ("PERENNIAL_REPLICATION_STATUS_PARTITIONS", links::partitions(region, &nothing, None).columns),
    ]
}

async fn of_show(region: &Arc<Region>, client: &Arc<Client>, show: &ClusterShow) -> Result<Sheet> {
    let of = match show {
        ClusterShow::Leaves => SheetOf::Leaves,
        ClusterShow::Transaction(name) => return transaction(region, client, name).await,
        ClusterShow::Aggregators => return aggregators::show(region, client).await,
        ClusterShow::Partitions(database) => SheetOf::Partitions(database.clone()),
        ClusterShow::ClusterStatus => SheetOf::ClusterStatus,
        ClusterShow::RebalanceStatus => SheetOf::Rebalance,
        ClusterShow::ClusterEvents { limit } => return Ok(events(&region.catalog.state(), client, *limit)),
        ClusterShow::ReplicationStatus { partitions: true, database } => {
            SheetOf::ReplicationPartitions(database.clone())
        }
        ClusterShow::ReplicationStatus { partitions: false, database } => SheetOf::Replication(database.clone()),
        ClusterShow::Divergence(database) => {
            return divergence::show(region, database.as_deref()).await.map(|(sheet, _)| sheet);
        }
        ClusterShow::DivergenceRecords { id, limit } => {
            return divergence::records(region, client, id, *limit).await;
        }
    };
    region.sheet(client, of).await
}

/// How a commit ended that error 1180 has named.
async fn transaction(region: &Arc<Region>, client: &Client, name: &str) -> Result<Sheet> {
    let sent: Sent = name.parse()?;
    let state = region.catalog.state();
    let database = state.databases.get(&sent.partition.database).map(|known| known.name.clone());
    let database = database.ok_or_else(|| Error::unknown_database(&sent.partition.database.to_string()))?;
    if !may_use(&state, client, &database) {
        return Err(no_access(client, &database));
    }
    let (word, time, detail) = match sent.outcome(region).await {
        Ok(Some(ts)) => ("committed", replication::time(ts), Datum::Null),
        Ok(None) => ("rolled back", Datum::Null, Datum::Null),
        Err(untold) => ("unknown", Datum::Null, text(untold.0)),
    };
    let names =
        [("transaction", false), ("database", false), ("state", false), ("commit_time", false), ("detail", false)];
    let sheet = sheet(&names, vec![vec![text(name), text(database), text(word), time, detail]]);
    Ok(with_times(sheet, &["commit_time"]))
}

/// A table of what the master has heard, made by it.
pub fn master_sheet(region: &Region, client: &Client, of: &SheetOf) -> Result<Sheet> {
    let state = region.catalog.state();
    match of {
        SheetOf::Leaves => Ok(leaves::sheet(region, &state)),
        SheetOf::Aggregators => Ok(aggregators::heard(region, &state)),
        SheetOf::Partitions(database) => partitions(region, &state, client, database.as_deref()),
        SheetOf::ClusterStatus => Ok(status(region, &state)),
        SheetOf::Rebalance => Ok(moves::status(region, &state, client)),
        SheetOf::Replication(database) => Ok(links::status(region, &state, database.as_deref())),
        SheetOf::ReplicationPartitions(database) => Ok(links::partitions(region, &state, database.as_deref())),
        SheetOf::Databases => Ok(databases(region, &state, client)),
    }
}

pub(super) fn text(value: impl Into<String>) -> Datum {
    Datum::Text(value.into())
}

pub(super) fn count(value: u64) -> Datum {
    Datum::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn host_port(address: &str) -> (Datum, Datum) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (text(host), port.parse().map_or(Datum::Null, Datum::Int))
}

/// A time, which is shown in the zone of whoever asks.
pub(super) fn time(at: UnixMillis) -> Datum {
    Datum::Timestamp(i64::try_from(at.0).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

/// The columns of these names hold times.
pub(super) fn with_times(mut sheet: Sheet, names: &[&str]) -> Sheet {
    let times = sheet.columns.iter_mut().filter(|(name, _)| names.contains(&name.as_str()));
    times.for_each(|(_, ty)| *ty = Ty::DateTime);
    sheet
}

/// Columns by name; true for numbers.
pub(super) fn sheet(names: &[(&str, bool)], rows: Vec<Vec<Datum>>) -> Sheet {
    let columns = names.iter().map(|(name, number)| (name.to_string(), if *number { Ty::Int } else { Ty::Text }));
    Sheet { columns: columns.collect(), rows }
}

fn partitions(region: &Region, state: &State, client: &Client, database: Option<&str>) -> Result<Sheet> {
    if let Some(name) = database {
        if !may_see(state, client, name) {
            return Err(no_access(client, name));
        }
        state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
    }
    let heard = region.detector.leaves();
    let mut rows = Vec::new();
    for (id, partition) in state.partitions.iter() {
        let name = &state.databases[&id.database].name;
        if database.is_some_and(|wanted| wanted != name) || !may_see(state, client, name) {
            continue;
        }
        let mut set: Vec<String> = vec![state.node_name(partition.primary.node)];
        set.extend(
            partition.members.iter().filter(|m| m.node != partition.primary.node).map(|m| state.node_name(m.node)),
        );
        let lost = region.detector.has_no_whole_copy(state, *id);
        for node in &partition.replicas {
            let (host, port) = host_port(&state.node_name(*node));
            let leaf = heard.get(node).filter(|_| region.detector.is_up(*node));
            let replica = leaf.and_then(|leaf| leaf.said.replicas.get(id));
            let primary = partition.primary.node == *node;
            let in_set = partition.members.iter().any(|member| member.node == *node);
            let joined = in_set || is_copy(region, state, *id, partition, *node);
            let number = |of: fn(&ReplicaReport) -> u64| replica.map_or(Datum::Null, |r| count(of(r)));
            rows.push(vec![
                text(name.clone()),
                Datum::Int(i64::from(id.ordinal.0)),
                host,
                port,
                text(if primary {
                    "primary"
                } else if joined {
                    "secondary"
                } else {
                    "joining"
                }),
                text(replica_state(replica, primary || joined, lost)),
                if primary { text(set.join(",")) } else { Datum::Null },
                replica.and_then(|r| r.epoch).map_or(Datum::Null, |epoch| text(epoch.to_string())),
                number(|r| r.appended.0),
                number(|r| r.durable.0),
                number(|r| r.applied.0),
                number(|r| r.rows),
                number(|r| r.bytes),
            ]);
        }
    }
    let names = [
        ("database", false),
        ("ordinal", true),
        ("host", false),
        ("port", true),
        ("role", false),
        ("state", false),
        ("in_sync", false),
        ("epoch", false),
        ("appended", true),
        ("durable", true),
        ("applied", true),
        ("rows", true),
        ("bytes", true),
    ];
    Ok(sheet(&names, rows))
}

/// `lost`: there is no copy from which a damaged one could be made anew.
fn replica_state(replica: Option<&ReplicaReport>, in_set: bool, lost: bool) -> &'static str {
    match replica {
        None => "offline",
        Some(replica) if replica.damaged && lost => "damaged",
        Some(replica) if replica.repairing => "recovering",
        Some(replica) if replica.damaged => "damaged",
        Some(_) if in_set => "online",
        Some(_) => "catching up",
    }
}

fn status(region: &Region, state: &State) -> Sheet {
    // Who has announced itself and was not added is nobody's loss.
    let belongs = |node: &Node| node.in_group() || node.holds_replicas() && node.standing != Standing::Joining;
    let nodes = state.nodes.iter().filter(|(_, node)| belongs(node));
    let (up, down): (Vec<_>, Vec<_>) = nodes
        .map(|(id, node)| {
            let leaf = node.roles.leaf && region.detector.is_up(*id);
            leaf || node.roles.aggregator && aggregators::is_up(region, *id)
        })
        .partition(|up| *up);
    let (mut states, mut alarms): (BTreeMap<&str, u64>, _) = (Default::default(), down.len() as u64);
    for id in state.databases.keys() {
        let condition = condition(region, state, *id);
        *states.entry(condition.state).or_default() += 1;
        alarms += u64::from(condition.alarm);
    }
    let databases: Vec<String> = states.iter().map(|(word, number)| format!("{number} {word}")).collect();
    let row = vec![
        region.options.name.clone().map_or(Datum::Null, text),
        count(state.cluster.0),
        count(up.len() as u64),
        count(down.len() as u64),
        text(databases.join(", ")),
        count(state.sinks.len() as u64),
        count(alarms),
    ];
    let names = [
        ("name", false),
        ("cluster_id", true),
        ("nodes_up", true),
        ("nodes_down", true),
        ("databases", false),
        ("sinks", true),
        ("alarms", true),
    ];
    let rows = std::iter::once(row).chain(linked(state));
    sheet(&names, rows.collect())
}

/// A row for each region that follows this one, or that this one follows. What only it knows is NULL.
fn linked(state: &State) -> impl Iterator<Item = Vec<Datum>> {
    #[derive(Default)]
    struct Linked {
        address: Option<String>,
        sinks: u64,
        broken: u64,
    }
    let mut regions: BTreeMap<ClusterId, Linked> = BTreeMap::new();
    for link in state.sinks.values() {
        let region = regions.entry(link.source_cluster).or_default();
        region.address = Some(link.source.address.clone());
        region.broken += u64::from(link.broken.is_some());
    }
    for link in state.sources.values().filter(|link| link.ended.is_none()) {
        let region = regions.entry(link.peer_cluster).or_default();
        region.address = region.address.take().or_else(|| link.peer_address.clone());
        region.sinks += 1;
    }
    regions.into_iter().map(|(cluster, Linked { address, sinks, broken })| {
        let name = address.map_or(Datum::Null, text);
        vec![name, count(cluster.0), Datum::Null, Datum::Null, Datum::Null, count(sinks), count(broken)]
    })
}
