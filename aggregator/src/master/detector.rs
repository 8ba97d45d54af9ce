//! The master's ear: takes the heartbeats of leaves, answers them with orders, and decides what failures ask for.
//!
//! What is heard is volatile. Decisions are pure functions over the catalog and over what was heard (`catalog::decide`);
//! this file only feeds them and proposes what they return.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::catalog::command::{Loss, NamePrimary};
use ::catalog::decide::failover;
use ::catalog::decide::heard::{Heard, Report as EndHeard};
use ::catalog::{Command, State};
use parking_lot::Mutex;
use types::{Member, NodeId, PartitionId, Revision};

use super::catalog::Catalog;
use super::served::Served;
use crate::dr::Links;
use crate::protocol::{Orders, Peer, ReplicaReport, Report};

/// Between two looks at what has failed.
const LOOK: Duration = Duration::from_millis(25);

/// How the master judges silence.
#[derive(Clone, Debug)]
pub struct DetectorOptions {
    /// Silence of this length is a failure. At least the replicas' own.
    pub failure_timeout: Duration,
}

impl Default for DetectorOptions {
    fn default() -> DetectorOptions {
        DetectorOptions { failure_timeout: Duration::from_millis(1500) }
    }
}

/// What one leaf said last.
#[derive(Clone, Debug)]
pub struct LeafState {
    /// Its process.
    pub member: Member,
    /// Its replicas.
    pub replicas: Vec<ReplicaReport>,
    /// Bytes used and free on its disk.
    pub disk: (u64, u64),
    /// Its replicas have obeyed the catalog up to here.
    pub revision: Revision,
    /// When.
    pub at: Instant,
}

/// What the master has heard since it leads.
pub struct Detector {
    pub(super) catalog: Catalog,
    pub(super) served: Served,
    links: Arc<Links>,
    options: DetectorOptions,
    started: Instant,
    heard: Mutex<Heard>,
    leaves: Mutex<BTreeMap<NodeId, LeafState>>,
}

impl Detector {
    /// A master that begins to lead now has heard nobody.
    pub fn new(catalog: Catalog, links: Arc<Links>, options: DetectorOptions) -> Arc<Detector> {
        let (heard, served, started) = (Mutex::new(Heard::new(0)), Served::default(), Instant::now());
        Arc::new(Detector { catalog, served, links, options, started, heard, leaves: Mutex::default() })
    }

    /// Silence of this length is a failure.
    pub fn failure_timeout(&self) -> Duration {
        self.options.failure_timeout
    }

    fn failure_nanos(&self) -> u64 {
        u64::try_from(self.options.failure_timeout.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a heartbeat and answers it. `None`: the node is not in the catalog with this process yet.
    pub async fn on_report(&self, report: Report) -> Option<Orders> {
        let state = self.catalog.state();
        if state.member(report.member.node) != Some(report.member) {
            return None;
        }
        let (node, sent, obeyed) = (report.member.node, report.sent, report.revision);
        let removed = report.removed.clone();
        let gone = self.hear(report);
        for partition in removed {
            let confirmed = self.catalog.propose(Command::ReplicaGone { partition, node }).await;
            if let Err(error) = confirmed {
                tracing::warn!(%partition, %error, "the deletion of a copy is confirmed again later");
            }
        }
        self.raise_epochs().await;
        let state = self.catalog.state();
        let wanted = failover::reports_wanted(&state, &self.heard.lock(), self.now(), self.failure_nanos());
        let mut orders = orders(&state, node, sent, obeyed);
        orders.routes = self.links.routes(&state, node);
        orders.gone = gone;
        orders.ends_wanted = wanted.into_iter().filter(|(of, _)| of.node == node).map(|(_, id)| id).collect();
        Some(orders)
    }

    fn hear(&self, report: Report) -> Vec<Member> {
        let now = self.now();
        let mut heard = self.heard.lock();
        heard.heartbeat(report.member, now);
        report.gone.iter().for_each(|member| heard.proved_gone(*member));
        for end in report.ends {
            let mark = Some(end.mark.ts).filter(|ts| *ts > types::Timestamp::ZERO);
            heard.report(end.partition, EndHeard { member: report.member, at: now, end: end.end, mark });
        }
        report.replicas.iter().filter_map(|replica| replica.epoch).for_each(|epoch| heard.epoch(epoch.number));
        self.links.hear(report.member, &report.replicas);
        heard.answered(report.member, now);
        let gone = heard.gone().iter().copied().collect();
        let Report { member, replicas, disk, revision, .. } = report;
        let state = LeafState { member, replicas, disk, revision, at: Instant::now() };
        self.leaves.lock().insert(member.node, state);
        gone
    }

    /// What each leaf said last.
    pub fn leaves(&self) -> BTreeMap<NodeId, LeafState> {
        self.leaves.lock().clone()
    }

    /// Up to where a process has obeyed the catalog, if it was heard.
    pub(super) fn obeyed(&self, member: Member) -> Option<Revision> {
        self.leaves.lock().get(&member.node).filter(|leaf| leaf.member == member).map(|leaf| leaf.revision)
    }

    /// Epochs that logs have received from another region are never minted here.
    async fn raise_epochs(&self) {
        let number = self.heard.lock().highest_epoch();
        if number > self.catalog.state().minted
            && let Err(error) = self.catalog.propose(Command::ReceiveEpoch { number }).await
        {
            tracing::warn!(%error, "an epoch that was received is noted later");
        }
    }

    /// Primaries whose logs have received an epoch that is not below the one they were granted: records came in until
    /// the promotion was known. They are named again, with a higher one.
    fn regranted(&self, state: &State) -> Vec<Command> {
        let behind = |(id, partition): (&PartitionId, &::catalog::partition::Partition)| {
            let granted = partition.grant?.epoch;
            let replica = self.replica(partition.primary, *id)?;
            let received = replica.epoch.filter(|epoch| epoch.number >= granted.number && *epoch != granted)?;
            (replica.reign < partition.reign).then(|| {
                Command::NamePrimary(NamePrimary {
                    partition: *id,
                    reign: partition.reign,
                    version: partition.version,
                    primary: partition.primary,
                    members: partition.members.clone(),
                    nonce: rand::random(),
                    received_epoch: received.number,
                    loss: Loss::None,
                })
            })
        };
        state.partitions.iter().filter_map(behind).collect()
    }

    fn replica(&self, member: Member, partition: PartitionId) -> Option<ReplicaReport> {
        let leaves = self.leaves.lock();
        let leaf = leaves.get(&member.node).filter(|leaf| leaf.member == member)?;
        leaf.replicas.iter().find(|replica| replica.partition == partition).cloned()
    }

    /// The primary's last word on a partition, if it was heard.
    pub fn primary(&self, state: &State, partition: PartitionId) -> Option<ReplicaReport> {
        let primary = state.partitions.get(&partition)?.primary;
        self.replica(primary, partition).filter(|replica| replica.leading.is_some())
    }

    /// Looks for failures and has decided what they ask for, until the catalog stops.
    pub async fn run(self: Arc<Detector>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let state = self.catalog.state();
            let mut commands = {
                let heard = self.heard.lock();
                failover::decide(&state, &heard, self.now(), self.failure_nanos(), &mut rand::random::<u64>)
            };
            commands.extend(self.regranted(&state));
            for command in commands {
                match self.catalog.propose(command.clone()).await {
                    Ok(Ok(outcome)) if !outcome.already => tracing::info!(?command, "decided"),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(%error, "the catalog cannot decide at the moment");
                        break;
                    }
                }
            }
        }
    }
}

fn orders(state: &State, node: NodeId, sent: u64, obeyed: types::Revision) -> Orders {
    let others = state.nodes.iter().filter(|(id, other)| **id != node && other.holds_replicas());
    let peers = others.map(|(id, other)| Peer {
        member: Member { node: *id, incarnation: other.incarnation },
        rpc: other.addresses.rpc.clone(),
    });
    Orders {
        sent,
        revision: state.revision,
        views: state.views_since(node, obeyed),
        news: state.news_since(node, obeyed),
        removals: state.removals_of(node),
        peers: peers.collect(),
        ..Orders::default()
    }
}
