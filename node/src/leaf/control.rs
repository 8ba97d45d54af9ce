//! The leaf's heartbeat: tells the master what it holds, obeys what comes back, ticks its replicas.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aggregator::protocol::{EndReport, MasterAnswer, MasterRequest, Orders, ReplicaReport, Report, Round};
use catalog::event::Severity;
use catalog::heartbeat::Teller;
use catalog::node::Roles;
use replication::{Input, Instant};
use tokio::sync::oneshot;
use types::{DatabaseId, NodeId, PartitionId, Revision, Timestamp, View};

use super::Leaf;
use super::partition::{Event, PartitionHandle};
use super::rules::DiskTurn;
use super::{heal, stall};
use crate::clock;

/// What the leaf still owes the master.
#[derive(Default)]
struct Debts {
    revision: Revision,
    round: Round,
    ends: Vec<EndReport>,
    removed: Vec<PartitionId>,
    /// What the master knows of the replicas.
    teller: Teller,
    /// ASYNC REPLICATION: the views of partitions that are led here. A primary may answer only for as long after the
    /// catalog's word as nobody else is named by the standing order; orders without another view are that word again.
    leased: BTreeMap<PartitionId, View>,
}

impl Debts {
    /// Views that are new, and those that are the catalog's word again: these orders are of a catalog that has reached `to`.
    fn with_leased(&mut self, views: Vec<View>, to: Revision, removals: &[PartitionId], own: NodeId) -> Vec<View> {
        if to < self.revision {
            // Of a catalog that was restored: what it does not name does not count there.
            self.leased.clear();
        }
        self.leased.retain(|id, _| !removals.contains(id));
        for view in &views {
            self.leased.remove(&view.partition);
        }
        let again: Vec<View> = self.leased.values().cloned().collect();
        let leads = |view: &&View| !view.mode.sync_replication && view.primary.node == own;
        self.leased.extend(views.iter().filter(leads).map(|view| (view.partition, view.clone())));
        views.into_iter().chain(again).collect()
    }
}

/// Runs until the process ends.
pub(super) async fn run(leaf: Leaf) {
    announce(&leaf).await;
    tokio::spawn(tick(leaf.clone()));
    let mut debts = Debts::default();
    let mut beats = tokio::time::interval(leaf.options.replica.renew);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = beats.tick() => {}
            () = leaf.shared.hurry.beat() => {}
        }
        if leaf.views_forgotten.swap(false, Ordering::AcqRel) {
            // All is told again: what is not is not led here.
            debts.revision = Revision::default();
            debts.leased.clear();
        }
        heal::look(&leaf);
        if leaf.shared.stall.hangs() {
            continue;
        }
        let sent = clock::now();
        let report = report(&leaf, &mut debts, sent);
        match leaf.shared.master.call(&MasterRequest::Report(report)).await {
            Ok(MasterAnswer::Orders(orders)) => obey(&leaf, &mut debts, orders).await,
            Ok(MasterAnswer::NotMaster { .. } | MasterAnswer::NotNow(_)) => {}
            // The master does not know this process: it has a new catalog, or the announcement was lost.
            Ok(_) => announce(&leaf).await,
            Err(reason) => tracing::debug!(reason, "a heartbeat was not answered"),
        }
    }
}

/// Registers the node if it is new, and its process. Returns when both are taken: a process that is refused takes no part in
/// anything. It may have the number of a node whose data it does not have, and the number of a process that has acknowledged.
async fn announce(leaf: &Leaf) {
    let options = &leaf.options;
    let (node, incarnation) = (options.member.node, options.member.incarnation);
    let (identity, addresses) = (options.identity, &options.addresses);
    let roles = Roles { aggregator: false, leaf: true };
    let register = MasterRequest::Register { node, identity, addresses: addresses.clone(), roles };
    let started = MasterRequest::Started { node, incarnation, identity, addresses: addresses.clone() };
    let mut said = String::new();
    loop {
        let mut answer = leaf.shared.master.insist(&register).await;
        if !matches!(answer, MasterAnswer::Refused(_)) {
            answer = leaf.shared.master.insist(&started).await;
        }
        let MasterAnswer::Refused(refusal) = answer else { return };
        let refusal = refusal.to_string();
        if refusal != said {
            tracing::error!(refusal, "the cluster does not take this node");
            said = refusal;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn report(leaf: &Leaf, debts: &mut Debts, sent: Instant) -> Report {
    let with_streams = |(id, handle): (&PartitionId, &PartitionHandle)| {
        let (upstream, downstream) = leaf.shared.links.reports(*id);
        ReplicaReport { upstream, downstream, damaged: leaf.damages.has(*id), ..handle.report(*id) }
    };
    let replicas = leaf.partitions.read().iter().map(|held| (*held.0, with_streams(held))).collect();
    let disk = disk(&leaf.options.data_dir);
    if let Some(turn) = leaf.rules.set_free(disk.1) {
        say_disk(leaf, turn, disk.1);
    }
    let mut report = Report {
        member: leaf.options.member,
        sent: sent.0,
        revision: debts.revision,
        ends: std::mem::take(&mut debts.ends),
        removed: std::mem::take(&mut debts.removed),
        disk,
        disk_full: leaf.rules.is_full(),
        sync_p99_us: leaf.shared.log.status().sync_p99.map(|p99| p99.as_micros() as u64),
        round: debts.round,
        ..Report::default()
    };
    let gone = leaf.shared.leases.lock().proved_gone().collect();
    debts.teller.tell(&mut report, replicas, gone);
    report
}

fn say_disk(leaf: &Leaf, turn: DiskTurn, free: u64) {
    let address = &leaf.options.addresses.rpc;
    let (severity, text) = match turn {
        DiskTurn::Full => (Severity::Error, format!("leaf {address} has {free} bytes free: it takes no writes")),
        DiskTurn::Roomy => (Severity::Info, format!("leaf {address} has {free} bytes free: it takes writes again")),
    };
    leaf.shared.events.tell(severity, "disk", None, text);
}

fn say_stall(leaf: &Leaf, turn: stall::Turn) {
    let address = &leaf.options.addresses.rpc;
    let (severity, what) = match turn {
        stall::Turn::Hangs => (Severity::Error, "hangs: it says nothing, and others take over, until it goes on"),
        stall::Turn::GoesOn => (Severity::Info, "goes on"),
    };
    let text = format!("the disk of leaf {address} {what}");
    leaf.shared.events.tell(severity, "disk", None, text);
}

async fn obey(leaf: &Leaf, debts: &mut Debts, orders: Orders) {
    debts.teller.answered(&orders);
    if orders.tell_all {
        leaf.shared.hurry.asked();
    }
    if let Some(peers) = &orders.peers {
        leaf.shared.peers.set(peers);
    }
    leaf.shared.master.learn_addresses(orders.aggregators);
    leaf.rules.learn(orders.news);
    leaf.rules.learn_pins(orders.pins);
    leaf.rules.learn_full(orders.full);
    {
        let mut leases = leaf.shared.leases.lock();
        orders.gone.iter().for_each(|member| leases.mark_gone(*member));
    }
    let sent = Instant(orders.sent);
    let mut obeyed = Vec::new();
    for view in debts.with_leased(orders.views, orders.revision, &orders.removals, leaf.options.member.node) {
        match leaf.open(view.partition) {
            Ok(handle) => {
                let (done, told) = oneshot::channel();
                if handle.events.send(Event::View(Box::new(view), sent, done)).await.is_ok() {
                    obeyed.push(told);
                }
            }
            Err(error) => {
                tracing::error!(partition = %view.partition, %error, "a replica cannot be opened: it is left alone");
            }
        }
    }
    for told in obeyed {
        // An error: the task has ended, and obeys nothing any more.
        let _ = told.await;
    }
    leaf.shared.leases.lock().obeyed(orders.revision);
    if orders.revision > debts.revision {
        leaf.shared.hurry.obeyed();
    }
    debts.revision = orders.revision;
    debts.round = orders.round;
    for id in orders.removals {
        if leaf.remove(id).await {
            debts.removed.push(id);
        }
    }
    leaf.shared.links.steer(&orders.routes);
    if !orders.ends_wanted.is_empty() {
        debts.ends = ends(leaf, orders.ends_wanted).await;
    }
    if let Some(ts) = orders.publish {
        tell(leaf, |_| Some(Input::Publish { ts }));
    }
    if !orders.finals.is_empty() {
        let finals: BTreeMap<DatabaseId, Timestamp> = orders.finals.into_iter().collect();
        tell(leaf, |id| finals.get(&id.database).map(|ts| Input::Final { ts: *ts }));
    }
}

/// Where logs end, on disk.
async fn ends(leaf: &Leaf, wanted: Vec<PartitionId>) -> Vec<EndReport> {
    let log = leaf.shared.log.clone();
    let synced = tokio::task::spawn_blocking(move || log.wait_durable()).await;
    if !matches!(synced, Ok(Ok(()))) {
        return vec![];
    }
    let end = |id: PartitionId| {
        if leaf.partitions.read().get(&id).is_some_and(|handle| handle.status.borrow().installing) {
            // What its log holds is not what its state will be.
            let (end, epochs, mark) = Default::default();
            let powered_since = leaf.options.member.incarnation;
            return Some(EndReport { partition: id, end, epochs, mark, powered_since });
        }
        let summary = leaf.shared.log.summary(id).filter(|summary| !summary.damaged && !leaf.damages.has(id))?;
        let epochs = summary.lineage.ends(summary.end);
        let end = epochs.last().copied().unwrap_or_default();
        let (mark, powered_since) = (summary.mark.unwrap_or_default(), leaf.options.power.since);
        Some(EndReport { partition: id, end, epochs, mark, powered_since })
    };
    wanted.into_iter().filter_map(end).collect()
}

/// Heartbeats to the other leaves, and the replicas' ticks.
async fn tick(leaf: Leaf) {
    let mut ticks = tokio::time::interval(leaf.options.replica.renew);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = leaf.shared.hurry.tick() => {}
        }
        if let Some(turn) = leaf.shared.stall.look(leaf.shared.log.counts(), clock::now()) {
            say_stall(&leaf, turn);
        }
        if leaf.shared.stall.hangs() {
            leaf.shared.leases.lock().deaf(clock::now());
        }
        leaf.shared.peers.send_heartbeats();
        tell(&leaf, |_| Some(Input::Tick));
    }
}

/// Tells replicas what is repeated: a task that is busy hears it the next time, one that has ended needs none.
fn tell(leaf: &Leaf, input: impl Fn(PartitionId) -> Option<Input>) {
    for (id, handle) in leaf.partitions.read().iter() {
        if let Some(input) = input(*id) {
            let _ = handle.events.try_send(Event::Input(input));
        }
    }
}

/// Bytes used and free on the disk of the data directory.
fn disk(path: &std::path::Path) -> (u64, u64) {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else { return (0, 0) };
    // SAFETY: `stat` is plain data for which all zero bytes are a value; the call fills it and keeps no pointer.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `path` is a C string and `stat` a statvfs, both alive through the call.
    if unsafe { libc::statvfs(path.as_ptr(), &mut stat) } != 0 {
        return (0, 0);
    }
    let (total, free) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    (total.saturating_sub(free), free)
}
