//! The master's ear: takes the heartbeats of leaves, answers them with orders, and decides what failures ask for.
//!
//! What is heard is volatile, and belongs to one office: a new master has heard nobody, and counts silence from its
//! election. Heartbeats are answered after a majority has said that this aggregator is still the master, for an answer is a
//! lease. One that proves a primary gone is answered after the next look at what has failed, so that its answer names
//! the next one. Decisions are pure functions over the catalog and over what was heard (`catalog::decide`); this file only feeds
//! them and proposes what they return, in the office in which it was heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::catalog::command::{Loss, NamePrimary};
use ::catalog::database::Database;
use ::catalog::decide::failover;
use ::catalog::decide::heard::{Heard, Report as EndHeard};
use ::catalog::decide::moves::Memory;
use ::catalog::partition::Partition;
use ::catalog::{Command, State};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use types::{DatabaseId, Lsn, Member, NodeId, PartitionId, Revision, SetVersion, Timestamp, View};

use super::catalog::{Catalog, CatalogError};
use super::fronts::Fronts;
use super::served::Served;
use crate::dr::Links;
use crate::protocol::{LeadingReport, Orders, Peer, ReplicaReport, Report, Round};

/// Between two looks at what has failed.
const LOOK: Duration = Duration::from_millis(25);
/// An answer waits for a look no longer than this.
const LOOK_WAIT: Duration = Duration::from_millis(100);

/// Most partitions that move at a time, where nothing is said.
pub const MOVES_AT_ONCE: usize = 4;

/// How the master judges silence, and how much it does at a time.
#[derive(Clone, Debug)]
pub struct DetectorOptions {
    /// Silence of this length is a failure. At least the replicas' own.
    pub failure_timeout: Duration,
    /// Most partitions that move at a time.
    pub moves_at_once: usize,
}

impl Default for DetectorOptions {
    fn default() -> DetectorOptions {
        DetectorOptions { failure_timeout: Duration::from_millis(1500), moves_at_once: MOVES_AT_ONCE }
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
    /// It takes no writes of clients before its disk has room again.
    pub disk_full: bool,
    /// 99 of the last hundred syncs of its log took no longer, in microseconds.
    pub sync_p99_us: Option<u64>,
    /// Its replicas had obeyed the catalog up to here.
    pub revision: Revision,
    /// It was said after these orders.
    pub round: Round,
    /// When.
    pub at: Instant,
}

/// What the master has heard since it leads.
pub struct Detector {
    pub(super) catalog: Catalog,
    pub(super) served: Served,
    links: Arc<Links>,
    fronts: Arc<Fronts>,
    /// Partitions that became durable everywhere by order: of which set, and up to where that must be.
    confirming: Mutex<BTreeMap<PartitionId, (SetVersion, Lsn)>>,
    pub(super) options: DetectorOptions,
    started: Instant,
    pub(super) heard: Mutex<Heard>,
    pub(super) leaves: Mutex<BTreeMap<NodeId, LeafState>>,
    /// How long what moves takes.
    pub(super) moves: Mutex<Memory>,
    office: Mutex<Office>,
    /// A look is wanted at once.
    alarm: Notify,
    looks: watch::Sender<Looks>,
}

/// How many looks at what has failed have begun and ended, and up to which one answers wait.
#[derive(Clone, Copy, Debug, Default)]
struct Looks {
    begun: u64,
    ended: u64,
    wanted: u64,
}

/// In which office this aggregator hears.
#[derive(Debug)]
struct Office {
    term: u64,
    since: Instant,
    /// Of the next orders.
    round: Round,
}

impl Detector {
    /// Of an aggregator that has not led yet.
    pub fn new(catalog: Catalog, options: DetectorOptions) -> Arc<Detector> {
        let (heard, served, started) = (Mutex::new(Heard::new(0)), Served::default(), Instant::now());
        let (leaves, confirming, moves) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (links, fronts) = (Arc::default(), Arc::default());
        let office = Mutex::new(Office { term: 0, since: started, round: Round::default() });
        Arc::new(Detector {
            catalog,
            served,
            links,
            fronts,
            confirming,
            options,
            started,
            heard,
            leaves,
            moves,
            office,
            alarm: Notify::new(),
            looks: watch::Sender::default(),
        })
    }

    /// Asks a majority whether this aggregator is the master, and has forgotten what was heard in an earlier office when
    /// this returns.
    pub async fn office(&self) -> Result<u64, CatalogError> {
        let term = self.catalog.office().await?;
        if self.enter(term) { Ok(term) } else { Err(CatalogError::Moved) }
    }

    /// Forgets what was heard in an earlier office. False: a later one has begun.
    pub(super) fn enter(&self, term: u64) -> bool {
        let mut office = self.office.lock();
        if office.term >= term {
            return office.term == term;
        }
        *office = Office { term, since: Instant::now(), round: Round { master: rand::random(), number: 1 } };
        *self.heard.lock() = Heard::new(self.now());
        self.leaves.lock().clear();
        *self.moves.lock() = Memory::default();
        self.confirming.lock().clear();
        self.served.clear();
        self.links.clear();
        self.fronts.clear();
        true
    }

    /// How long this office lasts.
    pub fn in_office(&self) -> Duration {
        self.office.lock().since.elapsed()
    }

    /// What is known of links with other regions; the detector hears what has travelled on them.
    pub fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// What aggregators say.
    pub fn fronts(&self) -> &Arc<Fronts> {
        &self.fronts
    }

    /// What the primaries of a database said last; those that were not heard are missing.
    pub fn primaries<'a>(&'a self, state: &'a State, database: DatabaseId) -> impl Iterator<Item = ReplicaReport> + 'a {
        state.partitions_of(database).filter_map(|(id, _)| self.primary(state, id))
    }

    /// Bytes of a database's state, as its primaries said.
    pub fn live_bytes(&self, state: &State, database: DatabaseId) -> u64 {
        self.primaries(state, database).map(|replica| replica.bytes).sum()
    }

    /// Begins a round: a report that names this one or a later one was made after this moment.
    pub fn begin_round(&self) -> Round {
        let mut office = self.office.lock();
        let round = office.round;
        office.round.number += 1;
        round
    }

    /// Silence of this length is a failure.
    pub fn failure_timeout(&self) -> Duration {
        self.options.failure_timeout
    }

    fn failure_nanos(&self) -> u64 {
        u64::try_from(self.options.failure_timeout.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes a heartbeat and answers it. `None`: the node is not in the catalog with this process yet.
    pub async fn on_report(&self, report: Report) -> Result<Option<Orders>, CatalogError> {
        let term = self.office().await?;
        let state = self.catalog.state();
        if state.member(report.member.node) != Some(report.member) {
            return Ok(None);
        }
        let (node, sent, obeyed) = (report.member.node, report.sent, report.revision);
        let removed = report.removed.clone();
        let gone = self.hear(report);
        self.looked().await;
        for partition in removed {
            let confirmed = self.catalog.decide(term, Command::ReplicaGone { partition, node }).await;
            if let Err(error) = confirmed {
                tracing::warn!(%partition, %error, "the deletion of a copy is confirmed again later");
            }
        }
        self.raise_epochs(term).await;
        let state = self.catalog.state();
        let wanted = failover::reports_wanted(&state, &self.heard.lock(), self.now(), self.failure_nanos());
        let mut orders = orders(&state, node, sent, obeyed);
        orders.routes = self.links.routes(&state, node);
        orders.pins = self.pins(&state);
        orders.gone = gone;
        orders.round = self.begin_round();
        orders.ends_wanted = wanted.into_iter().filter(|(of, _)| of.node == node).map(|(_, id)| id).collect();
        Ok(Some(orders))
    }

    /// A process is gone that was thought to live: the next look comes at once, and answers wait for it.
    fn alarm(&self) {
        self.looks.send_modify(|looks| looks.wanted = looks.begun + 1);
        self.alarm.notify_one();
    }

    /// Returns when what the last alarm asks for is decided.
    async fn looked(&self) {
        let mut looks = self.looks.subscribe();
        // An error: it takes too long, and the answer to the next heartbeat tells.
        let _ = tokio::time::timeout(LOOK_WAIT, looks.wait_for(|looks| looks.ended >= looks.wanted)).await;
    }

    fn hear(&self, report: Report) -> Vec<Member> {
        let now = self.now();
        let mut heard = self.heard.lock();
        heard.heartbeat(report.member, now);
        let lost = report.gone.iter().any(|member| !heard.is_gone(*member));
        report.gone.iter().for_each(|member| heard.proved_gone(*member));
        for end in report.ends {
            let (member, powered_since) = (report.member, end.powered_since);
            let heard_end = EndHeard { member, at: now, end: end.end, mark: end.mark, powered_since };
            heard.report(end.partition, heard_end);
        }
        report.replicas.iter().filter_map(|replica| replica.epoch).for_each(|epoch| heard.epoch(epoch.number));
        let damaged = report.replicas.iter().filter(|replica| replica.damaged).map(|replica| replica.partition);
        heard.damaged(report.member, damaged.collect(), now);
        self.links.hear(report.member, &report.replicas);
        heard.answered(report.member, now);
        let gone = heard.gone().iter().copied().collect();
        let Report { member, replicas, disk, disk_full, sync_p99_us, revision, round, .. } = report;
        let state = LeafState { member, replicas, disk, disk_full, sync_p99_us, revision, round, at: Instant::now() };
        self.leaves.lock().insert(member.node, state);
        drop(heard);
        if lost {
            self.alarm();
        }
        gone
    }

    /// Down to where history is kept for other regions: the cut that a sink or a parted side last reported as durable,
    /// and of a database that is a sink its own.
    fn pins(&self, state: &State) -> Vec<(DatabaseId, Timestamp)> {
        let pin = |(id, database): (&DatabaseId, &Database)| {
            let own = database.is_sink().then(|| self.served(state, *id));
            Some((*id, state.pin(*id).into_iter().chain(own).min()?))
        };
        state.databases.iter().filter_map(pin).collect()
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
    async fn raise_epochs(&self, term: u64) {
        let number = self.heard.lock().highest_epoch();
        if number > self.catalog.state().minted
            && let Err(error) = self.catalog.decide(term, Command::ReceiveEpoch { number }).await
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

    /// After a change to SYNC DURABILITY: once everything that a primary held when it had obeyed is on disk everywhere, its
    /// members are such that a restart takes nothing from.
    fn confirmed(&self, state: &State) -> Vec<Command> {
        let mut confirming = self.confirming.lock();
        let open = |id: &PartitionId, partition: &Partition| {
            !partition.on_disk && state.databases[&id.database].mode.sync_durability
        };
        confirming.retain(|id, _| state.partitions.get(id).is_some_and(|partition| open(id, partition)));
        let mut commands = Vec::new();
        for (id, partition) in state.partitions.iter().filter(|(id, partition)| open(id, partition)) {
            let obeys = self.obeyed(partition.primary).is_some_and(|revision| revision >= partition.changed);
            let Some(replica) = self.replica(partition.primary, *id).filter(|_| obeys) else { continue };
            let Some(leading) = replica.leading.filter(|_| replica.reign == partition.reign) else { continue };
            let (version, held) = *confirming.entry(*id).or_insert((partition.version, replica.appended));
            if version != partition.version {
                confirming.insert(*id, (partition.version, replica.appended));
            } else if leading.safe >= held {
                commands.push(Command::ConfirmDurable { partition: *id, reign: partition.reign, version });
            }
        }
        commands
    }

    fn replica(&self, member: Member, partition: PartitionId) -> Option<ReplicaReport> {
        let leaves = self.leaves.lock();
        let leaf = leaves.get(&member.node).filter(|leaf| leaf.member == member)?;
        leaf.replicas.iter().find(|replica| replica.partition == partition).cloned()
    }

    /// What a partition's primary has said as such in its present reign, having obeyed the catalog up to `obeyed`, and
    /// after `round` if one is named.
    pub fn primary_since(
        &self,
        state: &State,
        partition: PartitionId,
        obeyed: Revision,
        round: Option<Round>,
    ) -> Option<LeadingReport> {
        let reign = state.partitions.get(&partition)?.reign;
        let node = state.partitions.get(&partition)?.primary.node;
        {
            let leaves = self.leaves.lock();
            let leaf = leaves.get(&node)?;
            let after = |round: Round| leaf.round.master == round.master && leaf.round.number >= round.number;
            if leaf.revision < obeyed || !round.is_none_or(after) {
                return None;
            }
        }
        self.primary(state, partition).filter(|replica| replica.reign == reign)?.leading
    }

    /// The primary's last word on a partition, if it was heard.
    pub fn primary(&self, state: &State, partition: PartitionId) -> Option<ReplicaReport> {
        let primary = state.partitions.get(&partition)?.primary;
        self.replica(primary, partition).filter(|replica| replica.leading.is_some())
    }

    /// Looks for failures while this aggregator is the master, and has decided what they ask for.
    pub async fn run(self: Arc<Detector>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.alarm.notified() => {}
            }
            let Some(term) = self.catalog.status().leads.filter(|term| self.enter(*term)) else { continue };
            self.looks.send_modify(|looks| looks.begun += 1);
            let state = self.catalog.state();
            let mut commands = {
                let heard = self.heard.lock();
                failover::decide(&state, &heard, self.now(), self.failure_nanos(), &mut rand::random::<u64>)
            };
            commands.extend(self.regranted(&state));
            commands.extend(self.confirmed(&state));
            commands.extend(self.moving(&state));
            self.decide_all(term, commands).await;
            self.looks.send_modify(|looks| looks.ended = looks.begun);
        }
    }

    /// Proposes all at once: they share the raft log's writes. What fails is decided anew by the next look.
    async fn decide_all(&self, term: u64, commands: Vec<Command>) {
        let proposals = commands.into_iter().map(|command| async move {
            match self.catalog.decide(term, command.clone()).await {
                Ok(Ok(outcome)) if !outcome.already => tracing::info!(?command, "decided"),
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the catalog cannot decide at the moment"),
            }
        });
        futures::future::join_all(proposals).await;
    }
}

/// Views that a node knows and is told again. ASYNC REPLICATION: a primary may answer only for as long after such a word
/// as nobody else is named by the standing order.
fn leased(state: &State, node: NodeId, obeyed: Revision) -> Vec<View> {
    let waits = |database: DatabaseId| !state.databases[&database].mode.sync_replication;
    let known = |partition: &Partition| partition.primary.node == node && partition.changed <= obeyed;
    let leased = state.partitions.iter().filter(|(id, partition)| known(partition) && waits(id.database));
    leased.filter_map(|(id, _)| state.view(*id)).collect()
}

/// Of all sealed databases whose end is known.
fn finals(state: &State) -> Vec<(DatabaseId, Timestamp)> {
    let known = |(id, database): (&DatabaseId, &Database)| Some((*id, database.fenced.finals.as_ref()?.time));
    state.databases.iter().filter_map(known).collect()
}

fn orders(state: &State, node: NodeId, sent: u64, obeyed: types::Revision) -> Orders {
    let others = state.nodes.iter().filter(|(id, other)| **id != node && other.holds_replicas());
    let peers = others.map(|(id, other)| Peer {
        member: Member { node: *id, incarnation: other.incarnation },
        rpc: other.addresses.rpc.clone(),
    });
    let mut views = state.views_since(node, obeyed);
    views.extend(leased(state, node, obeyed));
    Orders {
        sent,
        revision: state.revision,
        views,
        news: state.news_since(node, obeyed),
        removals: state.removals_of(node),
        finals: finals(state),
        peers: peers.collect(),
        aggregators: state.group().map(|(_, node)| node.addresses.rpc.clone()).collect(),
        ..Orders::default()
    }
}
