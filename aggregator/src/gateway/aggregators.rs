//! SHOW AGGREGATORS, and the statements that change who belongs to the group that decides.

use std::sync::Arc;
use std::time::Duration;

use catalog::node::Node;
use catalog::{Command, State};
use sql::answer::{Answer, ResultColumn};
use sql::cluster::Sheet;
use sql::statement::AggregatorChange;
use sql::{Error, Result};
use tokio::time::{Instant, sleep};
use types::{Datum, NodeId};

use super::answer::table;
use super::databases::{decide, refused};
use super::leaves::{may_announce, plain};
use super::shows::{count, host_port, sheet, text};
use crate::ask::unexpected;
use crate::master::{Front, Status};
use crate::mysql::Client;
use crate::protocol::{FrontAnswer, FrontRequest, SheetOf};
use crate::region::Region;

/// How long a statement waits for what it has ordered; the order is carried out in any case.
const CARRY_OUT_TIME: Duration = Duration::from_secs(30);
/// How long a hand-over may take before it is asked for again.
const HAND_OVER_TIME: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Whether an aggregator is there, as this master knows: it was heard of late, or there has been no time for it yet since the
/// election, and it can be reached.
pub fn is_up(region: &Region, node: NodeId) -> bool {
    let timeout = region.detector.failure_timeout();
    let heard = region.fronts.all().get(&node).map(|front| front.at.elapsed());
    let reached = || region.detector.in_office() <= timeout && region.catalog.reached().contains(&node);
    node == region.bond.member().node || heard.map_or_else(reached, |ago| ago <= timeout)
}

/// What the master says; without one, what this aggregator knows.
pub async fn show(region: &Arc<Region>, client: &Client) -> Result<Sheet> {
    let heard = match region.catalog.status().leader {
        Some(_) if region.catalog.has_majority() => region.sheet(client, SheetOf::Aggregators).await.ok(),
        _ => None,
    };
    Ok(heard.unwrap_or_else(|| alone(region, &region.catalog.state())))
}

/// As the master has heard them.
pub fn heard(region: &Region, state: &State) -> Sheet {
    let (status, fronts) = (region.catalog.status(), region.fronts.all());
    rows(state, &status, |id| {
        if id == status.node {
            return itself(region, &status);
        }
        let front = fronts.get(&id);
        let known = |of: fn(&Front) -> Datum| front.map_or(Datum::Null, of);
        let online = is_up(region, id);
        let applied = known(|front| count(front.report.applied));
        let connections = known(|front| count(front.report.connections));
        (online, applied, connections, known(|front| text(front.report.version.clone())))
    })
}

/// As this aggregator sees them while there is no master.
fn alone(region: &Region, state: &State) -> Sheet {
    let (status, reached) = (region.catalog.status(), region.catalog.reached());
    rows(state, &status, |id| match id == status.node {
        true => itself(region, &status),
        false => (reached.contains(&id), Datum::Null, Datum::Null, Datum::Null),
    })
}

/// What this aggregator knows of itself.
fn itself(region: &Region, status: &Status) -> (bool, Datum, Datum, Datum) {
    let connections = count(region.sessions.list().len() as u64);
    (true, count(status.applied), connections, text(env!("CARGO_PKG_VERSION")))
}

fn rows(state: &State, status: &Status, of: impl Fn(NodeId) -> (bool, Datum, Datum, Datum)) -> Sheet {
    let nodes = state.nodes.iter().filter(|(_, node)| node.roles.aggregator && !node.removed);
    let rows = nodes.map(|(id, node)| {
        let (host, port) = host_port(node.addresses.known_by());
        let (online, applied, connections, version) = of(*id);
        let votes = status.members.voters.contains(id);
        let (role, joining) = (role(status, *id, votes), !votes);
        let word = if joining {
            "joining"
        } else if online {
            "online"
        } else {
            "offline"
        };
        vec![count(id.0), host, port, text(role), text(word), count(status.term), applied, connections, version]
    });
    let names = [
        ("node_id", true),
        ("host", false),
        ("port", true),
        ("role", false),
        ("state", false),
        ("term", true),
        ("applied", true),
        ("connections", true),
        ("version", false),
    ];
    sheet(&names, rows.collect())
}

fn role(status: &Status, node: NodeId, votes: bool) -> &'static str {
    match status.leader {
        Some(leader) if leader == node => "master",
        _ if votes => "voter",
        _ => "learner",
    }
}

/// ADD, REMOVE and PROMOTE AGGREGATOR. Each is durable before it is waited for.
pub async fn change(region: &Arc<Region>, change: AggregatorChange, address: &str) -> Result<Answer> {
    let (node, done) = match change {
        AggregatorChange::Add => add(region, address).await?,
        AggregatorChange::Remove => remove(region, address).await?,
        AggregatorChange::Promote => promote(region, address).await?,
    };
    let state = region.catalog.state();
    let addresses = state.nodes.get(&node).map(|known| &known.addresses);
    let own = addresses.map_or(address, |known| known.known_by());
    let (host, port) = host_port(own);
    let columns = vec![
        ResultColumn::int("node_id"),
        ResultColumn::text("host"),
        ResultColumn::int("port"),
        ResultColumn::text("role"),
    ];
    Ok(table(columns, vec![vec![count(node.0), host, port, text(done)]]))
}

/// The aggregator at an address, the one that was not removed first.
fn named(state: &State, address: &str) -> Option<(NodeId, Node)> {
    let address = plain(address);
    let is_it = |node: &Node| node.addresses.sql.as_ref() == Some(&address) || node.addresses.rpc == address;
    let found = state.nodes.iter().filter(|(_, node)| node.roles.aggregator && is_it(node));
    found.min_by_key(|(id, node)| (node.removed, **id)).map(|(id, node)| (*id, node.clone()))
}

fn unknown(address: &str) -> Error {
    let text = format!(
        "No aggregator at '{address}' has announced itself: start it with the RPC addresses of others in cluster.aggregators; SHOW AGGREGATORS tells which there are"
    );
    Error::new(1210, text)
}

fn not_promoted(region: &Region, node: NodeId, address: &str) -> Error {
    if region.catalog.status().members.voters.contains(&node) {
        let text = format!("The aggregator at '{address}' has not become the master yet: see SHOW AGGREGATORS, repeat");
        return Error::new(1205, text);
    }
    let text = format!(
        "The aggregator at '{address}' is a learner and cannot be the master before it votes: ADD AGGREGATOR '{address}' waits for that"
    );
    Error::new(1210, text)
}

/// Waits until something holds, or for as long as a statement waits for it.
async fn until(limit: Duration, holds: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() >= limit {
            return false;
        }
        sleep(LOOK).await;
    }
    true
}

async fn add(region: &Arc<Region>, address: &str) -> Result<(NodeId, &'static str)> {
    let known = || named(&region.catalog.state(), address);
    if known().is_none() && may_announce(&region.catalog.state(), address).await {
        until(region.options.partition_wait, || known().is_some()).await;
    }
    let (node, found) = known().ok_or_else(|| unknown(address))?;
    if found.removed {
        let text = format!(
            "The aggregator at '{address}' was removed: start it with an empty data directory and a certificate of another number, then add it"
        );
        return Err(Error::new(1105, text));
    }
    decide(region, Command::AddAggregator { node }).await?;
    let votes = until(CARRY_OUT_TIME, || region.catalog.status().members.voters.contains(&node)).await;
    Ok((node, role(&region.catalog.status(), node, votes)))
}

async fn remove(region: &Arc<Region>, address: &str) -> Result<(NodeId, &'static str)> {
    let text = || format!("No aggregator at '{address}' is known: SHOW AGGREGATORS tells which there are");
    let (node, _) = named(&region.catalog.state(), address).ok_or_else(|| Error::new(1210, text()))?;
    decide(region, Command::RemoveNode { node }).await?;
    // One that removes itself may not hear the end of it.
    let limit = if region.bond.member().node == node { HAND_OVER_TIME } else { CARRY_OUT_TIME };
    until(limit, || !region.catalog.status().members.contains(node)).await;
    Ok((node, "removed"))
}

async fn promote(region: &Arc<Region>, address: &str) -> Result<(NodeId, &'static str)> {
    let (node, found) = named(&region.catalog.state(), address).ok_or_else(|| unknown(address))?;
    if !found.in_group() {
        let text =
            format!("The aggregator at '{address}' does not belong to the region: ADD AGGREGATOR '{address}' first");
        return Err(Error::new(1210, text));
    }
    let leads = || region.catalog.status().leader == Some(node);
    let begun = Instant::now();
    while !leads() {
        if begun.elapsed() >= CARRY_OUT_TIME {
            return Err(not_promoted(region, node, address));
        }
        match region.ask(FrontRequest::Lead(node)).await? {
            FrontAnswer::Led(told) => told.map_err(|refusal| refused(&refusal))?,
            other => return Err(unexpected(&other)),
        }
        until(HAND_OVER_TIME, leads).await;
    }
    Ok((node, "master"))
}
