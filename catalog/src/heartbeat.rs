//! What a leaf and its master say to each other ten times a second, and how they say little.
//!
//! A region has as many heartbeats as leaves, so what is in each of them is what the control plane costs. A leaf tells of a
//! replica when that is not as it has told before ([`Teller`]); the master keeps what was said ([`Said`]). The master tells of a
//! partition when the catalog has changed it, and of other leaves when one of them is not the process that it was
//! ([`crate::decide::orders`]). A replica at rest, and a peer that lives, are in no heartbeat.
//!
//! - What was reported counts as told when the answer has arrived; where one is lost the next report tells all. A report of
//!   changes names the one since which they are, and a master that has taken another one last, or none, for it has just been
//!   elected, asks for all. So what the master keeps is what the replicas were when the last report that it took was made.
//! - What arrives after something that was sent later counts for nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{
    DatabaseId, Epoch, Incarnation, LinkId, LogEnd, Lsn, Mark, Member, NodeId, Ordinal, PartitionId, Promotion, Reign,
    Revision, Timestamp, View,
};

use crate::view::DatabaseNews;

/// A leaf's heartbeat to the master.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub member: Member,
    /// Nanoseconds on the leaf's clock.
    pub sent: u64,
    /// Its replicas have obeyed the catalog up to here.
    pub revision: Revision,
    /// Processes that it has proved gone, unless it has told of them.
    pub gone: Vec<Member>,
    /// Where logs end that the master asked about; synced before they are reported.
    pub ends: Vec<EndReport>,
    /// Copies whose files are deleted, as ordered.
    pub removed: Vec<PartitionId>,
    /// What its replicas are, for SHOW statements and decisions: all of them, or those that are not as the last report
    /// that was answered said.
    pub replicas: Vec<ReplicaReport>,
    /// The report since which these have changed: when it was sent. `None`: it tells of all replicas, and what was said before
    /// counts no longer.
    pub since: Option<u64>,
    /// Replicas that were told of and are no longer there.
    pub closed: Vec<PartitionId>,
    /// Bytes used and free on its disk.
    pub disk: (u64, u64),
    /// It takes no writes of clients before its disk has room again.
    pub disk_full: bool,
    /// 99 of the last hundred syncs of its log took no longer, in microseconds.
    pub sync_p99_us: Option<u64>,
    /// Of the last orders that it obeyed: the report was made after them.
    pub round: Round,
}

/// Names orders of one master: a report that names them was made after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Random bits of the process that leads.
    pub master: u64,
    /// Rises with every order.
    pub number: u64,
}

/// Where a replica's log ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EndReport {
    /// Of which partition.
    pub partition: PartitionId,
    /// The end.
    pub end: LogEnd,
    /// Where each epoch of its log has its last record, oldest first: the last one is the end.
    pub epochs: Vec<LogEnd>,
    /// The mark that is on its disk.
    pub mark: Mark,
    /// The first process of its node since the machine has kept its power, without a failed write: what this one and those after
    /// it have handed to the operating system is in the log. The present process, where that is not sure.
    pub powered_since: Incarnation,
}

/// One replica as its leaf sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Which partition.
    pub partition: PartitionId,
    /// The reign that it answers.
    pub reign: Reign,
    /// The epoch of its last record.
    pub epoch: Option<Epoch>,
    /// The log's end.
    pub appended: Lsn,
    /// On disk.
    pub durable: Lsn,
    /// In the state.
    pub applied: Lsn,
    /// Bytes of state.
    pub bytes: u64,
    /// Row versions of state, about.
    pub rows: u64,
    /// Bytes that its records take of the log, about.
    pub log_bytes: u64,
    /// A rewind or copy is under way.
    pub repairing: bool,
    /// Its files cannot be believed: it has to be rebuilt from another replica.
    pub damaged: bool,
    /// The highest timestamp in its log.
    pub received: Timestamp,
    /// What it says as primary.
    pub leading: Option<LeadingReport>,
    /// Streams from other regions that fed it, since its process started.
    pub upstream: Vec<StreamReport>,
    /// Streams to other regions that it fed, since its process started.
    pub downstream: Vec<StreamReport>,
}

/// What has travelled between regions for one partition and link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Which link.
    pub link: LinkId,
    /// Bytes, after compression.
    pub bytes: u64,
    /// Records, each counted once.
    pub records: u64,
    /// The last record that was shipped.
    pub shipped: Lsn,
    /// What the sink's whole in-sync set holds on disk, as the source was told.
    pub durable: Lsn,
    /// The stream is open now.
    pub open: bool,
}

/// A primary as its leaf sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadingReport {
    /// It takes reads and transactions.
    pub serving: bool,
    /// On disk on every member.
    pub safe: Lsn,
    /// Sink: the durable cut, in the history of these promotions.
    pub cut: Timestamp,
    /// The promotions that the cut is about.
    pub promotions: Vec<Promotion>,
    /// A transaction holds locks or is prepared.
    pub busy: bool,
    /// Under a seal, with nothing under way: the final position.
    pub final_position: Option<Lsn>,
    /// Sink: the link that it follows.
    pub link: Option<LinkId>,
    /// Sink: reconciled with its source.
    pub joined: bool,
}

/// The master's answer to a heartbeat.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Orders {
    /// From the report.
    pub sent: u64,
    /// The views make the leaf know everything up to here.
    pub revision: Revision,
    /// Of partitions that have changed for this leaf.
    pub views: Vec<View>,
    /// Of databases that have changed for this leaf.
    pub news: Vec<DatabaseNews>,
    /// Copies to delete.
    pub removals: Vec<PartitionId>,
    /// Replicas whose log's end is wanted.
    pub ends_wanted: Vec<PartitionId>,
    /// Processes that are proved gone.
    pub gone: Vec<Member>,
    /// The leaves with which this one shares a partition, with their present processes. `None`: as it was told last.
    pub peers: Option<Vec<Peer>>,
    /// The master does not know what the replicas are: the next report tells of all.
    pub tell_all: bool,
    /// A fresh timestamp: primaries publish their marks with it, where marks are wanted.
    pub publish: Option<Timestamp>,
    /// Final resolved timestamps of sealed databases: said with every order, for a new primary must hear it, too.
    pub finals: Vec<(DatabaseId, Timestamp)>,
    /// Names these orders.
    pub round: Round,
    /// Where the sources of this leaf's databases are.
    pub routes: Vec<Route>,
    /// RPC addresses of the aggregators: one of them is the master.
    pub aggregators: Vec<String>,
    /// Databases of which history is kept for other regions: down to this cut. Said with every order.
    pub pins: Vec<(DatabaseId, Timestamp)>,
    /// Leaves whose disks are nearly full. Said with every order.
    pub full: Vec<FullDisk>,
}

/// A leaf that has little room: what is written to a set that it is a member of is written to its disk, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullDisk {
    /// Which leaf.
    pub node: NodeId,
    /// Its address, `host:port`.
    pub rpc: String,
    /// Bytes that are free.
    pub free: u64,
}

/// Where the partitions of a link's source are led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Which link.
    pub link: LinkId,
    /// `host:port` of the leaf that leads each; one without a primary is missing.
    pub partitions: Vec<(Ordinal, String)>,
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its present process.
    pub member: Member,
    /// Where its frames and calls go.
    pub rpc: String,
}

/// What a process of a leaf has told of its replicas.
#[derive(Clone, Debug, Default)]
pub struct Teller {
    /// As of the last report, if it was answered.
    told: Option<Tale>,
    /// As of the report on its way.
    telling: Tale,
}

/// What one report made known, with those before.
#[derive(Clone, Debug, Default)]
struct Tale {
    sent: u64,
    replicas: BTreeMap<PartitionId, ReplicaReport>,
    gone: BTreeSet<Member>,
}

impl Teller {
    /// Puts into a report what is to be told of these replicas, and of these processes that are gone.
    pub fn tell(&mut self, report: &mut Report, now: BTreeMap<PartitionId, ReplicaReport>, gone: BTreeSet<Member>) {
        let told = self.told.take();
        report.since = told.as_ref().map(|told| told.sent);
        let known = told.unwrap_or_default();
        let news = now.iter().filter(|(id, replica)| known.replicas.get(*id) != Some(*replica));
        report.replicas = news.map(|(_, replica)| replica.clone()).collect();
        report.closed = known.replicas.keys().filter(|id| !now.contains_key(*id)).copied().collect();
        report.gone = gone.difference(&known.gone).copied().collect();
        self.telling = Tale { sent: report.sent, replicas: now, gone };
    }

    /// The report was answered. Until then nothing counts as told.
    pub fn answered(&mut self, orders: &Orders) {
        let telling = std::mem::take(&mut self.telling);
        self.told = (!orders.tell_all && orders.sent == telling.sent).then_some(telling);
    }
}

/// What a leaf's process said last.
#[derive(Clone, Debug)]
pub struct Said {
    /// Which process.
    pub member: Member,
    /// When it said it, on its own clock.
    pub sent: u64,
    /// Its replicas had obeyed the catalog up to here.
    pub revision: Revision,
    /// It was said after these orders.
    pub round: Round,
    /// Its replicas.
    pub replicas: BTreeMap<PartitionId, ReplicaReport>,
}

impl Said {
    /// Takes a report. `None`: it tells what has changed since something else than what is known. What was sent no later than
    /// that changes nothing.
    pub fn take(known: Option<Said>, report: &Report) -> Option<Said> {
        let same = known.filter(|known| known.member == report.member);
        if same.as_ref().is_some_and(|known| known.sent >= report.sent) {
            return same;
        }
        let mut replicas = match report.since {
            None => BTreeMap::new(),
            Some(since) => same.filter(|known| known.sent == since)?.replicas,
        };
        for id in &report.closed {
            replicas.remove(id);
        }
        replicas.extend(report.replicas.iter().map(|replica| (replica.partition, replica.clone())));
        let (member, sent) = (report.member, report.sent);
        Some(Said { member, sent, revision: report.revision, round: report.round, replicas })
    }
}
