//! The master's ear: takes the heartbeats of leaves, answers them with orders, and decides what failures ask for.
//!
//! What is heard is volatile, and belongs to one office: a new master has heard nobody, and counts silence from its
//! election. Heartbeats are answered after a majority has said that this aggregator is still the master, for an answer is a
//! lease. For the same reason a primary that is about to be replaced gets no answer before that is decided. One that proves a
//! primary gone is answered after the next look at what has failed, so that its answer names the next one.
//!
//! Decisions are pure functions over the catalog and over what was heard (`catalog::decide`); this file only feeds them and
//! proposes what they return, in the office in which it was heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::catalog::command::{Confirmed, Loss, NamePrimary};
use ::catalog::database::Database;
use ::catalog::decide::failover;
use ::catalog::decide::heard::{Heard, Report as EndHeard};
use ::catalog::decide::moves::Memory;
use ::catalog::decide::orders::{Peerage, orders};
use ::catalog::heartbeat::{FullDisk, Said};
use ::catalog::partition::Partition;
use ::catalog::{Command, State};
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use types::{DatabaseId, Lsn, Member, NodeId, PartitionId, Reign, Revision, SetVersion, Timestamp};

use super::catalog::{Catalog, CatalogError};
use super::fronts::Fronts;
use super::news::News;
use super::served::Served;
use crate::dr::Links;
use crate::protocol::{LeadingReport, Orders, ReplicaReport, Report, Round};

/// Between two looks at what has failed.
const LOOK: Duration = Duration::from_millis(25);
/// A process that is refused comes again each second.
const STRANGER_TIME: Duration = Duration::from_secs(10);
/// An answer waits for a look no longer than this.
const LOOK_WAIT: Duration = Duration::from_millis(100);

/// Commands of one look that are decided together: they are one write of the catalog's log.
const DECIDED_AT_ONCE: usize = 256;
/// So many records behind its primary a copy that nobody waits for has what the primary held a moment ago: reports of the two are
/// up to a heartbeat apart.
const BEHIND_MAX: u64 = 1000;
/// How long it is known down to where history is kept, unless the catalog changes.
const PINS_KNOWN: u64 = 50_000_000;

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
    /// Its process, and what that has said of its replicas.
    pub said: Said,
    /// Bytes used and free on its disk.
    pub disk: (u64, u64),
    /// It takes no writes of clients before its disk has room again.
    pub disk_full: bool,
    /// 99 of the last hundred syncs of its log took no longer, in microseconds.
    pub sync_p99_us: Option<u64>,
    /// When.
    pub at: Instant,
}

/// What the master has heard since it leads.
pub struct Detector {
    pub(super) catalog: Catalog,
    pub(super) served: Served,
    links: Arc<Links>,
    fronts: Arc<Fronts>,
    watched: Mutex<Watched>,
    peerage: Mutex<Peerage>,
    pins: Mutex<Pins>,
    /// Nodes whose number or address others have come with, and when last.
    strangers: Mutex<BTreeMap<NodeId, Instant>>,
    /// Where which leaf's logs end must be known.
    ends_wanted: Mutex<BTreeMap<NodeId, Vec<PartitionId>>>,
    pub(super) options: DetectorOptions,
    started: Instant,
    pub(super) heard: Mutex<Heard>,
    pub(super) leaves: Mutex<BTreeMap<NodeId, Arc<LeafState>>>,
    /// Primaries that commands under way replace, and their reigns. They are noted while `heard` is locked: who is heard
    /// later is not taken for silent, or sees it.
    replacing: Mutex<BTreeMap<PartitionId, (Member, Reign)>>,
    /// How long what moves takes.
    pub(super) moves: Mutex<Memory>,
    office: Mutex<Office>,
    pub(super) news: News,
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

/// Partitions at which a look must look, besides those that have failed. All others are as they were at the last one.
#[derive(Debug, Default)]
struct Watched {
    /// The catalog's changes up to here are in the rest.
    seen: Revision,
    /// Their view or a report of them is new, or they are to be named again.
    fresh: BTreeSet<PartitionId>,
    /// They became durable everywhere by order: of which set, and up to where that must be, once that is known.
    confirming: BTreeMap<PartitionId, Option<(SetVersion, Lsn)>>,
    /// Their primaries may believe in longer terms of the standing order than those of now.
    unheard: BTreeSet<PartitionId>,
    /// Their primaries did not serve at the last look, and since when.
    silent: BTreeMap<PartitionId, Instant>,
}

/// Down to where history is kept for other regions, as of a revision and a time.
type Pins = Option<(Revision, u64, Vec<(DatabaseId, Timestamp)>)>;

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
        let (leaves, watched, moves) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (peerage, pins, ends_wanted) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (replacing, strangers) = (Mutex::default(), Mutex::default());
        let (links, fronts) = (Arc::default(), Arc::default());
        let office = Mutex::new(Office { term: 0, since: started, round: Round::default() });
        Arc::new(Detector {
            catalog,
            served,
            links,
            fronts,
            watched,
            peerage,
            pins,
            strangers,
            ends_wanted,
            options,
            started,
            heard,
            leaves,
            replacing,
            moves,
            office,
            news: News::default(),
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
        *self.moves.lock() = Memory::default();
        *self.watched.lock() = Watched::default();
        *self.peerage.lock() = Peerage::default();
        *self.pins.lock() = None;
        self.ends_wanted.lock().clear();
        self.strangers.lock().clear();
        self.replacing.lock().clear();
        self.served.clear();
        self.fronts.clear();
        // At once, as a report is heard: what one office has taken of a report is not missing in the next, which asks for all.
        let (mut heard, mut leaves) = (self.heard.lock(), self.leaves.lock());
        *heard = Heard::new(self.now()).elected_at(self.catalog.state().revision);
        leaves.clear();
        self.links.clear();
        true
    }

    /// How long this office lasts.
    pub fn in_office(&self) -> Duration {
        self.office.lock().since.elapsed()
    }

    /// A process with another data directory has come as this node. True: the first one for a while.
    pub(super) fn note_stranger(&self, node: NodeId) -> bool {
        let last = self.strangers.lock().insert(node, Instant::now());
        last.is_none_or(|last| last.elapsed() > STRANGER_TIME)
    }

    /// Whether a process with another data directory comes as this node.
    pub fn has_stranger(&self, node: NodeId) -> bool {
        self.strangers.lock().get(&node).is_some_and(|last| last.elapsed() <= STRANGER_TIME)
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

    /// Takes a heartbeat and answers it. `None`: the node is not in the catalog with this process yet, or was removed.
    pub async fn on_report(&self, report: Report) -> Result<Option<Orders>, CatalogError> {
        let term = self.office().await?;
        let state = self.catalog.state();
        if !is_known(&state, report.member) {
            return Ok(None);
        }
        let (member, sent, obeyed) = (report.member, report.sent, report.revision);
        let node = member.node;
        let is_new = report.round.master != self.office.lock().round.master;
        let removed = report.removed.clone();
        let told: Vec<PartitionId> = report.replicas.iter().map(|replica| replica.partition).collect();
        let (gone, tell_all) = self.hear(report);
        self.watched.lock().fresh.extend(told);
        self.looked().await;
        for partition in removed {
            let confirmed = self.catalog.decide(term, Command::ReplicaGone { partition, node }).await;
            if let Err(error) = confirmed {
                tracing::warn!(%partition, %error, "the deletion of a copy is confirmed again later");
            }
        }
        self.raise_epochs(term).await;
        let state = self.catalog.state();
        if self.is_being_replaced(&state, member) {
            return Err(CatalogError::Refused("what it leads is given to others right now".into()));
        }
        let nodes_changed = self.peerage.lock().look(&state);
        let mut orders = orders(&state, node, obeyed, is_new, nodes_changed);
        self.heard.lock().told(member, orders.revision);
        // A later master may have named somebody by now, and counts on it that nobody else tells of that.
        if self.catalog.status().leads != Some(term) {
            return Err(CatalogError::Moved);
        }
        (orders.sent, orders.tell_all) = (sent, tell_all);
        orders.routes = self.links.routes(&state, node);
        orders.pins = self.pins(&state);
        let full = |(node, free)| FullDisk { node, rpc: state.node_name(node), free };
        orders.full = self.full_disks().into_iter().map(full).collect();
        orders.gone = gone;
        orders.round = self.begin_round();
        orders.ends_wanted = self.ends_wanted.lock().get(&node).cloned().unwrap_or_default();
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

    /// Who is proved gone, and whether the process must tell of all its replicas: before that it counts as not heard.
    fn hear(&self, report: Report) -> (Vec<Member>, bool) {
        let now = self.now();
        let (mut heard, mut leaves) = (self.heard.lock(), self.leaves.lock());
        let lost = report.gone.iter().any(|member| !heard.is_gone(*member));
        report.gone.iter().for_each(|member| heard.proved_gone(*member));
        heard.answered(report.member, now);
        let node = report.member.node;
        // Nobody else holds it for long, so that it is seldom copied.
        let known = leaves.remove(&node).map(|leaf| Arc::unwrap_or_clone(leaf).said);
        let said = Said::take(known, &report);
        let tell_all = said.is_none();
        if let Some(said) = said {
            heard.heartbeat(report.member, now);
            // What arrives after something that was said later tells nothing.
            if said.sent == report.sent {
                self.hear_replicas(&mut heard, &said, &report, now);
            }
            let Report { disk, disk_full, sync_p99_us, .. } = report;
            leaves.insert(node, Arc::new(LeafState { said, disk, disk_full, sync_p99_us, at: Instant::now() }));
        }
        let gone = heard.gone().iter().copied().collect();
        drop((heard, leaves));
        if lost {
            self.alarm();
        }
        (gone, tell_all)
    }

    fn hear_replicas(&self, heard: &mut Heard, said: &Said, report: &Report, now: u64) {
        for end in &report.ends {
            let (member, mark, powered_since) = (report.member, end.mark.clone(), end.powered_since);
            let epochs = end.epochs.clone();
            heard.report(end.partition, EndHeard { member, at: now, end: end.end, epochs, mark, powered_since });
        }
        report.replicas.iter().filter_map(|replica| replica.epoch).for_each(|epoch| heard.epoch(epoch.number));
        if report.since.is_none() || !report.replicas.is_empty() || !report.closed.is_empty() {
            let damaged = said.replicas.values().filter(|replica| replica.damaged).map(|replica| replica.partition);
            heard.damaged(report.member, damaged.collect(), now);
        }
        self.links.hear(report.member, &report.replicas);
    }

    /// Down to where history is kept for other regions: the cut that a sink or a parted side last reported as durable,
    /// and of a database that is a sink its own.
    fn pins(&self, state: &State) -> Vec<(DatabaseId, Timestamp)> {
        let mut known = self.pins.lock();
        if let Some((revision, at, pins)) = &*known
            && *revision == state.revision
            && self.now().saturating_sub(*at) < PINS_KNOWN
        {
            return pins.clone();
        }
        let pins = self.pins_now(state);
        *known = Some((state.revision, self.now(), pins.clone()));
        pins
    }

    fn pins_now(&self, state: &State) -> Vec<(DatabaseId, Timestamp)> {
        let pin = |(id, database): (&DatabaseId, &Database)| {
            let own = database.is_sink().then(|| self.served(state, *id));
            Some((*id, state.pin(*id).into_iter().chain(own).min()?))
        };
        state.databases.iter().filter_map(pin).collect()
    }

    /// What each leaf said last.
    pub fn leaves(&self) -> BTreeMap<NodeId, Arc<LeafState>> {
        self.leaves.lock().clone()
    }

    /// Up to where a process has obeyed the catalog, if it was heard.
    pub(super) fn obeyed(&self, member: Member) -> Option<Revision> {
        self.leaves.lock().get(&member.node).filter(|leaf| leaf.said.member == member).map(|leaf| leaf.said.revision)
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

    /// Takes in what the catalog has changed since the last look.
    fn watch(&self, state: &State) {
        let mut watched = self.watched.lock();
        let since = watched.seen;
        for id in state.changed_since(since) {
            watched.fresh.insert(id);
            if state.partitions.get(&id).is_some_and(|partition| is_unconfirmed(state, id, partition)) {
                watched.confirming.entry(id).or_default();
            }
            watched.unheard.insert(id);
        }
        watched.seen = state.revision;
    }

    /// Notes which primaries do not serve.
    fn note_silent(&self, state: &State) {
        let mut watched = self.watched.lock();
        let Watched { fresh, silent, .. } = &mut *watched;
        for id in fresh.iter() {
            if self.serves(state, *id) {
                silent.remove(id);
            } else {
                silent.entry(*id).or_insert_with(Instant::now);
            }
        }
        silent.retain(|id, _| state.partitions.get(id).is_some());
    }

    /// Primaries whose logs have received an epoch that is not below the one they were granted: records came in until
    /// the promotion was known. They are named again, with a higher one.
    fn regranted(&self, state: &State) -> Vec<Command> {
        let mut watched = self.watched.lock();
        let again: Vec<Command> = watched.fresh.iter().filter_map(|id| self.named_again(state, *id)).collect();
        // They are looked at until that is decided.
        watched.fresh = again.iter().filter_map(named).collect();
        again
    }

    fn named_again(&self, state: &State, id: PartitionId) -> Option<Command> {
        let partition = state.partitions.get(&id)?;
        let granted = partition.grant?.epoch;
        let (reign, received) = self.with_replica(partition.primary, id, |replica| (replica.reign, replica.epoch))?;
        let received = received.filter(|epoch| epoch.number >= granted.number && *epoch != granted)?;
        (reign < partition.reign).then(|| {
            Command::NamePrimary(NamePrimary {
                partition: id,
                reign: partition.reign,
                version: partition.version,
                primary: partition.primary,
                members: partition.members.clone(),
                nonce: rand::random(),
                received_epoch: received.number,
                loss: Loss::None,
            })
        })
    }

    /// After a change to SYNC DURABILITY: once everything that a primary held when it had obeyed is on disk everywhere, its
    /// members are such that a restart takes nothing from.
    fn confirmed(&self, state: &State) -> Vec<Command> {
        let mut watched = self.watched.lock();
        let open =
            |id: &PartitionId| state.partitions.get(id).filter(|partition| is_unconfirmed(state, *id, partition));
        watched.confirming.retain(|id, _| open(id).is_some());
        let mut commands = Vec::new();
        for (id, confirming) in &mut watched.confirming {
            let partition = &state.partitions[id];
            let obeys = self.obeyed(partition.primary).is_some_and(|revision| revision >= partition.changed);
            let Some(replica) = self.replica(partition.primary, *id).filter(|_| obeys) else { continue };
            let Some(leading) = replica.leading.filter(|_| replica.reign == partition.reign) else { continue };
            let (version, held) = *confirming.get_or_insert((partition.version, replica.appended));
            if version != partition.version {
                *confirming = Some((partition.version, replica.appended));
            } else if leading.safe >= held {
                let (partition, reign, what) = (*id, partition.reign, Confirmed::Durable);
                commands.push(Command::Confirm { partition, reign, version, what });
            }
        }
        commands
    }

    /// After a change of the standing order: once a primary obeys it in its present reign, it counts.
    fn heeded(&self, state: &State) -> Vec<Command> {
        let mut watched = self.watched.lock();
        let open = |id: &PartitionId| {
            let partition = state.partitions.get(id)?;
            (partition.goes_on_for != state.databases[&id.database].failover_after()).then_some(partition)
        };
        watched.unheard.retain(|id| open(id).is_some());
        let heeds = |id: &PartitionId| {
            let Partition { primary, reign, version, changed, .. } = open(id)?;
            let obeys = self.obeyed(*primary).is_some_and(|revision| revision >= *changed);
            let leads = self.with_replica(*primary, *id, |replica| replica.reign == *reign)?;
            let (partition, what) = (*id, Confirmed::Failover);
            (obeys && leads).then_some(Command::Confirm { partition, reign: *reign, version: *version, what })
        };
        watched.unheard.iter().filter_map(heeds).collect()
    }

    fn with_replica<T>(&self, member: Member, id: PartitionId, of: impl FnOnce(&ReplicaReport) -> T) -> Option<T> {
        let leaves = self.leaves.lock();
        let leaf = leaves.get(&member.node).filter(|leaf| leaf.said.member == member)?;
        leaf.said.replicas.get(&id).map(of)
    }

    fn replica(&self, member: Member, partition: PartitionId) -> Option<ReplicaReport> {
        self.with_replica(member, partition, ReplicaReport::clone)
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
            let leaf = &leaves.get(&node)?.said;
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

    /// Whether a partition's primary has said last that it serves.
    pub fn serves(&self, state: &State, partition: PartitionId) -> bool {
        self.primary(state, partition).and_then(|replica| replica.leading).is_some_and(|leading| leading.serving)
    }

    /// Whether a partition has had no primary that serves for longer than a change of primaries takes.
    pub fn is_silent(&self, partition: PartitionId) -> bool {
        let silent = self.watched.lock().silent.get(&partition).copied();
        silent.is_some_and(|since| since.elapsed() > self.options.failure_timeout)
    }

    /// Whether a leaf was heard of late, and its process is not proved gone since. Silence counts from this master's
    /// election.
    pub fn is_up(&self, node: NodeId) -> bool {
        let heard = self.leaves.lock().get(&node).map(|leaf| (leaf.said.member, leaf.at.elapsed()));
        match heard {
            Some((member, ago)) => ago <= self.options.failure_timeout && !self.heard.lock().is_gone(member),
            None => self.in_office() <= self.options.failure_timeout,
        }
    }

    /// Leaves that live and whose disks are nearly full, and bytes that are free there.
    pub fn full_disks(&self) -> Vec<(NodeId, u64)> {
        let leaves = self.leaves.lock();
        let full: Vec<_> =
            leaves.iter().filter(|(_, leaf)| leaf.disk_full).map(|(id, leaf)| (*id, leaf.disk.1)).collect();
        drop(leaves);
        full.into_iter().filter(|(id, _)| self.is_up(*id)).collect()
    }

    /// Whether a replica holds what its primary held a moment ago. Of a member of the set that is sure; with ASYNC
    /// REPLICATION the others are copies, too.
    pub fn keeps_up(&self, state: &State, partition: PartitionId, node: NodeId) -> bool {
        let Some(known) = state.partitions.get(&partition) else { return false };
        let leaves = self.leaves.lock();
        let said = |node: NodeId| {
            let leaf = leaves.get(&node).filter(|leaf| leaf.at.elapsed() <= self.options.failure_timeout)?;
            leaf.said.replicas.get(&partition)
        };
        let (Some(led), Some(copy)) = (said(known.primary.node), said(node)) else { return false };
        let follows = (copy.reign, copy.epoch) == (known.reign, led.epoch) && !copy.repairing && !copy.damaged;
        follows && copy.appended.0 + BEHIND_MAX >= led.appended.0
    }

    /// Whether a leaf has said last that its replica's files cannot be believed.
    pub fn is_damaged(&self, partition: PartitionId, node: NodeId) -> bool {
        let leaves = self.leaves.lock();
        let replica = leaves.get(&node).and_then(|leaf| leaf.said.replicas.get(&partition));
        replica.is_some_and(|replica| replica.damaged)
    }

    /// Whether a partition has damaged copies, and no other one is there: nobody can serve it, or copy it.
    pub fn has_no_whole_copy(&self, state: &State, partition: PartitionId) -> bool {
        let Some(known) = state.partitions.get(&partition) else { return false };
        let is_damaged = |node: &NodeId| self.is_damaged(partition, *node);
        known.replicas.iter().any(is_damaged)
            && known.replicas.iter().all(|node| is_damaged(node) || !self.is_up(*node))
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
            let (mut commands, wanted) = {
                let (heard, now, timeout) = (self.heard.lock(), self.now(), self.failure_nanos());
                let commands = failover::decide(&state, &heard, now, timeout, &mut rand::random::<u64>);
                self.note_replaced(&state, &commands);
                (commands, failover::reports_wanted(&state, &heard, now, timeout))
            };
            self.want_ends(wanted);
            self.watch(&state);
            self.note_silent(&state);
            commands.extend(self.regranted(&state));
            commands.extend(self.confirmed(&state));
            commands.extend(self.heeded(&state));
            commands.extend(self.moving(&state));
            commands.extend(self.news(&state, term));
            self.decide_all(term, &commands).await;
            self.looks.send_modify(|looks| looks.ended = looks.begun);
        }
    }

    async fn decide_all(&self, term: u64, commands: &[Command]) {
        for together in commands.chunks(DECIDED_AT_ONCE) {
            // In their order, and in one write: a leaf that is lost led hundreds of partitions.
            let decided = join_all(together.iter().map(|command| self.decide(term, command))).await;
            if decided.contains(&false) {
                return;
            }
        }
        // What an earlier look has left in doubt stands before these in the log.
        if !commands.is_empty() {
            self.replacing.lock().clear();
        }
    }

    /// These commands are under way from now on.
    pub(super) fn note_replaced(&self, state: &State, commands: &[Command]) {
        let replaced = |command| {
            let id = named(command)?;
            let partition = state.partitions.get(&id)?;
            Some((id, (partition.primary, partition.reign)))
        };
        self.replacing.lock().extend(commands.iter().filter_map(replaced));
    }

    /// Whether the catalog may name others any moment for what a process leads.
    fn is_being_replaced(&self, state: &State, member: Member) -> bool {
        let mut replacing = self.replacing.lock();
        replacing.retain(|id, (_, reign)| state.partitions.get(id).is_some_and(|now| now.reign == *reign));
        replacing.values().any(|(primary, _)| *primary == member)
    }

    async fn decide(&self, term: u64, command: &Command) -> bool {
        match self.catalog.decide(term, command.clone()).await {
            Ok(Ok(outcome)) if !outcome.already => tracing::info!(?command, "decided"),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the catalog cannot decide at the moment");
                return false;
            }
        }
        true
    }

    fn want_ends(&self, wanted: Vec<(Member, PartitionId)>) {
        let mut by_node: BTreeMap<NodeId, Vec<PartitionId>> = BTreeMap::new();
        for (member, id) in wanted {
            by_node.entry(member.node).or_default().push(id);
        }
        *self.ends_wanted.lock() = by_node;
    }
}

/// Whether it may do what the catalog says. A node that was removed has nothing; it may not have heard of all that it has lost,
/// and would take an answer for the catalog's word that it leads it still.
fn is_known(state: &State, member: Member) -> bool {
    state.nodes.get(&member.node).is_some_and(|node| !node.removed && node.incarnation == member.incarnation)
}

/// A partition whose members may have in memory alone what they acknowledged, although its database wants it on disk.
fn is_unconfirmed(state: &State, id: PartitionId, partition: &Partition) -> bool {
    !partition.on_disk && state.databases[&id.database].mode.sync_durability
}

fn named(command: &Command) -> Option<PartitionId> {
    match command {
        Command::NamePrimary(naming) => Some(naming.partition),
        _ => None,
    }
}
