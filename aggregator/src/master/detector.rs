//! The master's ear: takes the heartbeats of leaves, answers them with orders, and decides what failures ask for.
//!
//! What is heard is volatile. Decisions are pure functions over the catalog and over what was heard (`catalog::decide`);
//! this file only feeds them and proposes what they return.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::catalog::decide::failover;
use ::catalog::decide::heard::{Heard, Report as EndHeard};
use ::catalog::{Command, State};
use parking_lot::Mutex;
use types::{DatabaseId, Member, NodeId, PartitionId, Timestamp};

use super::catalog::Catalog;
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
    /// When.
    pub at: Instant,
}

/// What the master has heard since it leads.
pub struct Detector {
    catalog: Catalog,
    options: DetectorOptions,
    started: Instant,
    heard: Mutex<Heard>,
    leaves: Mutex<BTreeMap<NodeId, LeafState>>,
}

impl Detector {
    /// A master that begins to lead now has heard nobody.
    pub fn new(catalog: Catalog, options: DetectorOptions) -> Arc<Detector> {
        let heard = Mutex::new(Heard::new(0));
        Arc::new(Detector { catalog, options, started: Instant::now(), heard, leaves: Mutex::default() })
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
        let state = self.catalog.state();
        let wanted = failover::reports_wanted(&state, &self.heard.lock(), self.now(), self.failure_nanos());
        let mut orders = orders(&state, node, sent, obeyed);
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
        heard.answered(report.member, now);
        let gone = heard.gone().iter().copied().collect();
        let state =
            LeafState { member: report.member, replicas: report.replicas, disk: report.disk, at: Instant::now() };
        self.leaves.lock().insert(report.member.node, state);
        gone
    }

    /// What each leaf said last.
    pub fn leaves(&self) -> BTreeMap<NodeId, LeafState> {
        self.leaves.lock().clone()
    }

    /// The time up to which a sink may have been read: the smallest durable cut over its partitions, as heard.
    pub fn served(&self, state: &State, database: DatabaseId) -> Timestamp {
        let cuts = state.partitions_of(database).map(|(id, _)| {
            self.primary(state, id).and_then(|replica| replica.leading).map_or(Timestamp::ZERO, |leading| leading.cut)
        });
        cuts.min().unwrap_or_default()
    }

    /// The primary's last word on a partition, if it was heard.
    pub fn primary(&self, state: &State, partition: PartitionId) -> Option<ReplicaReport> {
        let primary = state.partitions.get(&partition)?.primary;
        let leaves = self.leaves.lock();
        let leaf = leaves.get(&primary.node).filter(|leaf| leaf.member == primary)?;
        leaf.replicas.iter().find(|replica| replica.partition == partition && replica.leading.is_some()).cloned()
    }

    /// Looks for failures and has decided what they ask for, until the catalog stops.
    pub async fn run(self: Arc<Detector>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let state = self.catalog.state();
            let commands = {
                let heard = self.heard.lock();
                failover::decide(&state, &heard, self.now(), self.failure_nanos(), &mut rand::random::<u64>)
            };
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
