//! SHOW LEAVES, and the statements that take leaves in and let them go.
//!
//! An order is durable at once, and the master carries it out (`catalog::decide::moves`); a statement waits for that, and
//! may be repeated, or killed, without harm.

use std::sync::Arc;
use std::time::Duration;

use catalog::command;
use catalog::decide::balance::Aim;
use catalog::movement::Move;
use catalog::node::{Group, Node, Standing};
use catalog::partition::Partition;
use catalog::{Command, State};
use sql::answer::{Answer, ResultColumn};
use sql::cluster::Sheet;
use sql::statement::{LeafChange, LeafGroup};
use sql::{Error, Result};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use types::{Datum, NodeId, PartitionId};

use super::answer::table;
use super::condition::NO_WHOLE_COPY;
use super::databases::refused;
use super::divergence::with_troubles;
use super::moves;
use super::shows::{count, host_port, sheet as sheet_of, text};
use crate::master::LeafState;
use crate::protocol::PlanOrder;
use crate::region::Region;
use crate::sessions::Progress;

/// How long a leaf that is detached may take to hand over what it leads, before the statement says what to do.
const DETACH_TIME: Duration = Duration::from_secs(30);
/// How long the host of a process that is starting may take to answer.
const PROBE_TIME: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// SHOW LEAVES.
pub fn sheet(region: &Region, state: &State) -> Sheet {
    let heard = region.detector.leaves();
    let leaves = state.nodes.iter().filter(|(_, node)| node.holds_replicas());
    let rows = leaves.map(|(id, node)| row(region, state, *id, node, heard.get(id).map(|leaf| &**leaf))).collect();
    let names = [
        ("node_id", true),
        ("host", false),
        ("port", true),
        ("group", false),
        ("state", false),
        ("primaries", true),
        ("secondaries", true),
        ("disk_used", true),
        ("disk_free", true),
        ("log_sync_p99_us", true),
        ("last_seen_ms", true),
        ("version", false),
        ("advice", false),
    ];
    sheet_of(&names, rows)
}

fn row(region: &Region, state: &State, id: NodeId, node: &Node, leaf: Option<&LeafState>) -> Vec<Datum> {
    let (host, port) = host_port(&node.addresses.rpc);
    let up = leaf.is_some() && region.detector.is_up(id);
    let primaries = state.partitions.count_led_on(id) as u64;
    let copies = state.partitions.count_held_by(id) as u64;
    let joining = count_joining(state, id);
    let known = |of: fn(&LeafState) -> u64| leaf.map_or(Datum::Null, |leaf| count(of(leaf)));
    vec![
        count(id.0),
        host,
        port,
        match node.group {
            Group::Named(number) => text(number.to_string()),
            Group::Own(_) => text("own"),
        },
        text(word(state, id, up)),
        count(primaries),
        count(copies.saturating_sub(primaries + joining)),
        known(|leaf| leaf.disk.0),
        known(|leaf| leaf.disk.1),
        leaf.and_then(|leaf| leaf.sync_p99_us).map_or(Datum::Null, count),
        known(|leaf| leaf.at.elapsed().as_millis() as u64),
        text(env!("CARGO_PKG_VERSION")),
        match region.detector.has_stranger(id) && !up {
            true => text(stranger(id, &node.addresses.rpc)),
            false => advice(region, state, id, up, leaf, copies).map_or(Datum::Null, text),
        },
    ]
}

fn word(state: &State, id: NodeId, up: bool) -> &'static str {
    match state.nodes[&id].standing {
        Standing::Joining => "joining",
        Standing::Draining { .. } => "draining",
        Standing::Detached { .. } if count_waiting(state, id) > 0 => "detaching",
        Standing::Detached { .. } => "detached",
        Standing::Online if up => "online",
        Standing::Online => "offline",
    }
}

/// How many copies are made on a leaf for moves, and do not count yet.
fn count_joining(state: &State, id: NodeId) -> u64 {
    let joins = |(partition, wanted): &(&PartitionId, &Move)| {
        let held = &state.partitions[*partition];
        wanted.added.contains(&id) && held.replicas.contains(&id) && !moves::joined(state, **partition).contains(&id)
    };
    state.moves.iter().filter(joins).count() as u64
}

/// In how many sets a leaf is waited for, those of what it leads among them.
fn count_waiting(state: &State, id: NodeId) -> usize {
    let waits = |held: &Partition| held.members.iter().any(|member| member.node == id);
    state.partitions.held_by(id).filter(|(_, held)| waits(held)).count()
}

/// What to do where a process runs that is not this leaf.
fn stranger(id: NodeId, address: &str) -> String {
    format!(
        "a process with its number or address runs, and has another data directory: start it with the one that it had. If that is lost: RESTORE REDUNDANCY ON each database, REMOVE LEAF '{address}' FORCE, and start it with a certificate of another number than {id}"
    )
}

/// What to type or do, if anything.
fn advice(
    region: &Region,
    state: &State,
    id: NodeId,
    up: bool,
    leaf: Option<&LeafState>,
    copies: u64,
) -> Option<String> {
    let node = &state.nodes[&id];
    let address = &node.addresses.rpc;
    match node.standing {
        Standing::Joining => return Some(format!("ADD LEAF '{address}'")),
        Standing::Draining { .. } => {
            return Some(format!("{copies} copies are still to be moved away: SHOW REBALANCE STATUS"));
        }
        Standing::Detached { .. } if count_waiting(state, id) > 0 => {
            return Some("it still leads partitions or is waited for: SHOW REBALANCE STATUS".into());
        }
        Standing::Detached { .. } => return Some(format!("ATTACH LEAF '{address}'")),
        Standing::Online if !up => {
            return Some(format!(
                "start it again; its node number is {id}. If it is lost: RESTORE REDUNDANCY ON each database, then REMOVE LEAF '{address}' FORCE"
            ));
        }
        Standing::Online => {}
    }
    if let Some(leaf) = leaf.filter(|leaf| leaf.disk_full) {
        let free = leaf.disk.1;
        return Some(format!(
            "its disk is nearly full, {free} bytes are free: its primaries are read only until there is room"
        ));
    }
    let damaged = |(partition, _): &(PartitionId, &Partition)| {
        region.detector.is_damaged(*partition, id) && region.detector.has_no_whole_copy(state, *partition)
    };
    let lost = state.partitions.held_by(id).filter(damaged).count();
    if lost > 0 {
        return Some(format!("{lost} of its partitions have {NO_WHOLE_COPY}"));
    }
    let group = node.group;
    let alike = |node: &NodeId| *node != id && state.nodes[node].group == group;
    let held = state.partitions.held_by(id).filter(|(id, _)| !state.moves.contains_key(id));
    let close = held.filter(|(_, partition)| partition.replicas.iter().any(alike)).count();
    let takes = |node: &Node| node.takes_replicas() && node.group != group;
    let order = match state.nodes.values().any(takes) {
        true => "REBALANCE ALL DATABASES",
        false => "ADD LEAF with one of another group, then REBALANCE ALL DATABASES",
    };
    (close > 0)
        .then(|| format!("{close} of its copies have another one in its group, both may be lost at once: {order}"))
}

/// ADD, REMOVE, DETACH and ATTACH LEAF. The progress is that of copies that are moved away or let go.
pub async fn change(
    region: &Arc<Region>,
    change: LeafChange,
    address: Option<&str>,
    progress: &Progress,
) -> Result<Answer> {
    let nodes = match address {
        Some(address) => vec![find(region, change, address).await?],
        None => all_detached(&region.catalog.state()),
    };
    if matches!(change, LeafChange::Attach { .. }) {
        // Before the first of them is attached.
        for node in &nodes {
            await_leaf(region, *node).await?;
        }
    }
    let (mut rows, mut changed) = (Vec::new(), false);
    for node in nodes {
        let done = match change {
            LeafChange::Add { group } => add(region, node, group).await?,
            LeafChange::Remove { force, kill, no_wait } => {
                remove(region, node, (force, kill), no_wait, progress).await?
            }
            LeafChange::Detach { force, kill } => detach(region, node, force, kill, progress).await?,
            LeafChange::Attach { .. } => {
                changed |= order(region, node, command::LeafChange::Attach).await?;
                "online"
            }
        };
        let state = region.catalog.state();
        let (host, port) = host_port(state.nodes.get(&node).map_or("", |known| &known.addresses.rpc));
        rows.push(vec![count(node.0), host, port, text(done)]);
    }
    let note = match change {
        LeafChange::Attach { rebalance: true } => Some(rebalance_with(region, changed).await?),
        _ => None,
    };
    let columns = vec![
        ResultColumn::int("node_id"),
        ResultColumn::text("host"),
        ResultColumn::int("port"),
        ResultColumn::text("state"),
    ];
    Ok(with_troubles(table(columns, rows), note.into_iter().collect()))
}

/// A leaf that is to be attached must be there: the copies of one that is silent would count as lost.
async fn await_leaf(region: &Arc<Region>, node: NodeId) -> Result<()> {
    let state = region.catalog.state();
    let may_be =
        |known: &Node| known.holds_replicas() && matches!(known.standing, Standing::Online | Standing::Detached { .. });
    // Any other is refused by the catalog, with what to type instead.
    if state.nodes.get(&node).is_some_and(may_be) {
        moves::ask(region, PlanOrder::Attach(node)).await?.map_err(|refusal| refused(&refusal))?;
    }
    Ok(())
}

/// Levels all databases after leaves were attached; what is told of it.
async fn rebalance_with(region: &Arc<Region>, attached: bool) -> Result<String> {
    if !attached {
        return Ok("No leaf was detached, so nothing is moved: REBALANCE ALL DATABASES levels the loads".into());
    }
    let order = PlanOrder::Rebalance { database: None, aim: Aim::Balance, kill: false, explain: false };
    Ok(match moves::ask(region, order).await? {
        Ok(planned) => {
            let count = planned.moves.len();
            format!("REBALANCE ALL DATABASES was ordered as well, {count} partitions move: SHOW REBALANCE STATUS")
        }
        Err(refusal) => format!("The leaf is attached, but loads are not levelled: {refusal}"),
    })
}

fn all_detached(state: &State) -> Vec<NodeId> {
    let detached = |node: &Node| !node.removed && matches!(node.standing, Standing::Detached { .. });
    state.nodes.iter().filter(|(_, node)| detached(node)).map(|(id, _)| *id).collect()
}

/// The leaf at an address, the one that was not removed first.
fn named(state: &State, address: &str) -> Option<(NodeId, Node)> {
    let address = plain(address);
    let found = state.nodes.iter().filter(|(_, node)| node.roles.leaf && node.addresses.rpc == address);
    found.min_by_key(|(id, node)| (node.removed, **id)).map(|(id, node)| (*id, node.clone()))
}

/// An address as nodes write it.
pub(super) fn plain(address: &str) -> String {
    address.replacen("localhost:", "127.0.0.1:", 1)
}

/// Whether a process may be about to announce itself at an address: somebody listens there who is not known yet.
pub(super) async fn may_announce(state: &State, address: &str) -> bool {
    let address = plain(address);
    let known =
        |node: &Node| !node.removed && (node.addresses.rpc == address || node.addresses.sql.as_ref() == Some(&address));
    !state.nodes.values().any(known)
        && timeout(PROBE_TIME, TcpStream::connect(&address)).await.is_ok_and(|reached| reached.is_ok())
}

/// One that is to be added may be starting.
async fn find(region: &Region, change: LeafChange, address: &str) -> Result<NodeId> {
    let adding = matches!(change, LeafChange::Add { .. });
    let state = region.catalog.state();
    let waits = adding && named(&state, address).is_none() && may_announce(&state, address).await;
    let begun = Instant::now();
    loop {
        match named(&region.catalog.state(), address) {
            Some((_, node)) if node.removed && adding => {
                let text = format!(
                    "The leaf at '{address}' was removed: start it with an empty data directory and a certificate of another number, then add it"
                );
                return Err(Error::new(1105, text));
            }
            Some((id, _)) => return Ok(id),
            None if waits && begun.elapsed() < region.options.partition_wait => sleep(LOOK).await,
            None => {
                let what = match adding {
                    true => {
                        "has announced itself: start it with the RPC addresses of aggregators in cluster.aggregators;"
                    }
                    false => "is known:",
                };
                let text = format!("No leaf at '{address}' {what} SHOW LEAVES tells which there are");
                return Err(Error::new(1210, text));
            }
        }
    }
}

/// Whether it has changed anything.
async fn order(region: &Region, node: NodeId, change: command::LeafChange) -> Result<bool> {
    match region.catalog.propose(Command::ChangeLeaf { node, change }).await {
        Ok(Ok(outcome)) => Ok(!outcome.already),
        Ok(Err(refusal)) => Err(refused(&refusal)),
        Err(error) => Err(Error::new(9005, error.to_string())),
    }
}

async fn add(region: &Region, node: NodeId, group: Option<LeafGroup>) -> Result<&'static str> {
    let change = match group {
        None => command::LeafChange::Add { group: None },
        Some(LeafGroup::Named(number)) => command::LeafChange::Add { group: Some(number.into()) },
        Some(LeafGroup::Own) => command::LeafChange::AddApart,
    };
    order(region, node, change).await?;
    Ok("online")
}

/// Whether a leaf holds nothing and belongs to the region no longer.
fn is_gone(state: &State, node: NodeId) -> bool {
    state.nodes.get(&node).is_none_or(|known| known.removed || known.standing == Standing::Joining)
}

async fn remove(
    region: &Arc<Region>,
    node: NodeId,
    (force, kill): (bool, bool),
    no_wait: bool,
    progress: &Progress,
) -> Result<&'static str> {
    let state = region.catalog.state();
    if state.nodes[&node].removed {
        return Ok("removed");
    }
    if !force {
        // What cannot be done is said before anything is ordered.
        moves::ask(region, PlanOrder::Evacuate(node)).await?.map_err(|r| refused(&r))?;
    }
    order(region, node, command::LeafChange::Remove { force, kill }).await?;
    let all = state.partitions.count_held_by(node);
    loop {
        let state = region.catalog.state();
        tell(progress, all, state.partitions.count_held_by(node));
        if is_gone(&state, node) {
            return Ok("removed");
        }
        if !matches!(state.nodes[&node].standing, Standing::Draining { .. }) {
            return Err(Error::new(1105, "Another statement has ended the removal of this leaf: SHOW LEAVES"));
        }
        if no_wait {
            return Ok("draining");
        }
        sleep(LOOK).await;
    }
}

/// Of so many, so many are left.
fn tell(progress: &Progress, all: usize, left: usize) {
    progress.tell(all.saturating_sub(left) as u64, all as u64);
}

async fn detach(region: &Region, node: NodeId, force: bool, kill: bool, progress: &Progress) -> Result<&'static str> {
    let all = region.catalog.state().partitions.count_held_by(node);
    order(region, node, command::LeafChange::Detach { force, kill }).await?;
    let begun = Instant::now();
    loop {
        let state = region.catalog.state();
        let left = count_waiting(&state, node);
        tell(progress, all, left);
        if left == 0 {
            return Ok("detached");
        }
        if begun.elapsed() > DETACH_TIME {
            let address = &state.nodes[&node].addresses.rpc;
            let text = format!(
                "Leaf '{address}' is being detached, {left} partitions still wait for it: transactions may hold them up; DETACH LEAF '{address}' KILL ends those; repeat the statement to wait on"
            );
            return Err(Error::new(1205, text));
        }
        sleep(LOOK).await;
    }
}
