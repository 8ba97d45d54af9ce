//! A region's catalog: the real state machine as one linearizable register, its leader's deciders, and the timestamp
//! service.
//!
//! The register never loses anything. What its leader has heard is volatile: a new leader starts with nothing.

use catalog::State;
use catalog::command::{Command, Confirmed, CreateDatabase, Loss, NamePrimary, SetChange};
use catalog::database::Options as DatabaseOptions;
use catalog::decide::{Heard, Report, failover};
use catalog::event::UnixMillis;
use catalog::node::{Addresses, Roles};
use catalog::outcome::{Answer, Outcome, Refusal};
use catalog::partition::Partition;
use rand::Rng;
use types::{ClusterId, DatabaseId, Incarnation, Member, NodeId, PartitionId, Revision, Timestamp};

use crate::disk::{Disk, Journal};
use crate::node::Node;
use crate::options::{ASYNC_AFTER, FAILURE, MILLI, Planted, RENEW, Scale};
use crate::say;
use crate::world::{Event, Packet, Place, World};

/// One region.
#[derive(Debug)]
pub struct Region {
    /// Index of its first node.
    pub first_node: usize,
    /// How many nodes.
    pub leaves: usize,
    /// What it has decided.
    pub catalog: State,
    /// What its leader has heard.
    pub heard: Heard,
    /// What leaves have said of their copies to this leader.
    pub said: std::collections::BTreeMap<NodeId, (Member, crate::moves::Told)>,
    /// By node: the newest report that this leader has heard.
    reported: std::collections::BTreeMap<NodeId, (Member, replication::Instant)>,
    /// What its catalog had decided when this leader was elected.
    pub elected_at: Revision,
    /// Up to where any leader has told a process what was decided.
    pub answered: std::collections::BTreeMap<Member, Revision>,
    /// How long what moves takes, under this leader.
    pub moves: catalog::decide::moves::Memory,
    /// What this leader has proposed after a look for failures, and a majority has not written yet.
    pub under_way: Vec<Command>,
    /// Whether its nodes reach it.
    pub reachable: bool,
    /// The last timestamp handed out.
    pub last_timestamp: Timestamp,
    /// Milliseconds by which its clock is ahead.
    pub skew: u64,
    /// The database.
    pub database: DatabaseId,
}

/// The time of day when a world begins, in milliseconds since 1970.
const DAWN: u64 = 1_000_000;

impl World {
    /// Makes a region's nodes and catalog, and in the first one the database.
    pub(crate) fn add_region(&mut self, index: usize) {
        let leaves = self.options.leaves[index];
        let first_node = self.nodes.len();
        let skew = self.between(0, 60);
        let mut catalog = State::new(ClusterId(index as u64 + 1));
        for leaf in 1..=leaves as u64 {
            let roles = Roles { aggregator: false, leaf: true };
            let addresses = addresses(leaf);
            let identity = u128::from(leaf);
            let register =
                Command::RegisterNode { number: None, identity, addresses: addresses.clone(), roles, group: None };
            let started = Command::NodeStarted { node: NodeId(leaf), incarnation: Incarnation(1), addresses };
            for command in [register, started] {
                catalog.apply(UnixMillis(DAWN), &command).expect("a first node may join");
            }
            let rate = self.between(950_000, 1_050_000);
            self.nodes.push(Node {
                region: index,
                id: NodeId(leaf),
                rate,
                incarnation: Incarnation(0),
                starts: 0,
                openings: 0,
                process: None,
                power_lost: false,
                powered_since: Incarnation(0),
                powered: true,
                disks: Default::default(),
                journal: Journal::default(),
                sync_fails: false,
                sync_min: 0,
                full_until: 0,
                full: false,
            });
        }
        self.regions.push(Region {
            first_node,
            leaves,
            catalog,
            heard: Heard::new(0).elected_at(Revision(0)),
            said: Default::default(),
            reported: Default::default(),
            elected_at: Revision(0),
            answered: Default::default(),
            moves: Default::default(),
            under_way: vec![],
            reachable: true,
            last_timestamp: Timestamp::ZERO,
            skew,
            database: DatabaseId(0),
        });
        self.add_database(index);
    }

    /// A database as the region's catalog is told of it; all nodes hold all partitions.
    pub(crate) fn describe_database(&mut self, index: usize) -> CreateDatabase {
        let leaves = self.regions[index].leaves as u64;
        let moves = self.options.moves;
        // Where partitions move the last leaf is new: it holds nothing.
        let placed = if moves { (leaves - 1).max(2).min(leaves) } else { leaves };
        let copies = if moves { placed.min(crate::moves::COPIES as u64) } else { leaves };
        let placement = (0..=self.options.partitions as u64)
            .map(|turn| (0..copies).map(|leaf| NodeId(1 + (leaf + turn) % placed)).collect())
            .collect();
        let options = DatabaseOptions { async_failover_after_millis: Some(ASYNC_AFTER), ..DatabaseOptions::default() };
        CreateDatabase {
            name: "db".into(),
            identity: 77,
            partitions: self.options.partitions,
            mode: self.options.mode,
            options,
            placement,
            nonce: self.rng.random(),
        }
    }

    fn add_database(&mut self, index: usize) {
        let create = self.describe_database(index);
        let command = if index == 0 { Command::CreateDatabase(create) } else { self.first_follow(index, create) };
        match self.decide(index, &command) {
            Ok(Outcome { answer: Answer::Database(id), .. }) => self.regions[index].database = id,
            other => panic!("a first database is made: {other:?}"),
        }
        if self.options.has(Planted::RestartedMember) {
            let partitions = &mut self.regions[index].catalog.partitions;
            let ids: Vec<PartitionId> = partitions.keys().copied().collect();
            for id in ids {
                partitions.get_mut(&id).expect("it was listed above").on_disk = true;
            }
        }
        let region = &self.regions[index];
        let ids: Vec<PartitionId> = region.catalog.partitions.keys().copied().collect();
        for node in region.first_node..region.first_node + region.leaves {
            let name = self.nodes[node].id;
            for id in ids.iter().filter(|id| region.catalog.partitions[id].replicas.contains(&name)) {
                self.nodes[node].disks.insert(*id, Disk::default());
            }
        }
    }

    // ---- the register

    /// Applies a command.
    pub fn decide(&mut self, index: usize, command: &Command) -> Result<Outcome, Refusal> {
        let at = UnixMillis(DAWN + self.now / MILLI);
        let catalog = &mut self.regions[index].catalog;
        let result = catalog.apply(at, command);
        if self.steps.is_multiple_of(8) {
            catalog.check();
        }
        match &result {
            Ok(outcome) if !outcome.already => {
                say!(self, "{} catalog {}: {command:?}", ["E", "W", "V"][index], outcome.revision);
            }
            Ok(_) => {}
            Err(refusal) => say!(self, "{} catalog refuses: {refusal}", ["E", "W", "V"][index]),
        }
        result
    }

    // ---- what the leader hears

    pub(crate) fn on_catalog(&mut self, index: usize, from: Place, packet: Packet) {
        match packet {
            Packet::Report { from: member, sent, gone, damaged, told, obeyed } => {
                let now = self.now;
                if self.regions[index].catalog.nodes.get(&member.node).is_none_or(|node| node.removed) {
                    return;
                }
                if let Some(told) = told {
                    self.hear_told(index, member, *told);
                }
                let Region { heard, reported, .. } = &mut self.regions[index];
                // What arrives after something that was said later tells nothing of replicas.
                let newest = reported.entry(member.node).or_insert((member, sent));
                if (member, sent) >= *newest {
                    *newest = (member, sent);
                    heard.damaged(member, damaged, now);
                }
                self.hear_obeyed(index, member, obeyed);
                self.on_report(index, from, member, sent, &gone);
            }
            Packet::Propose { partition, reign, version, change } => {
                let change = match change {
                    replication::SetChange::Add(member) => SetChange::Add(member),
                    replication::SetChange::Remove(member) => SetChange::Remove(member),
                };
                self.on_propose(index, partition, reign, version, change);
            }
            Packet::LogEnd { from: member, partition, end, epochs, mark, powered_since } => {
                let report = Report { member, at: self.now, end, epochs, mark, powered_since };
                self.regions[index].heard.report(partition, report);
            }
            Packet::TimestampsWanted { from: to, partition, request, count } => {
                let first = self.timestamps(index, count);
                let packet = Packet::Timestamps { to, partition, request, first, count };
                self.send(Place::Catalog(index), from, packet);
            }
            Packet::Learn { link, promotions, relay, .. } => self.on_learn(index, link, promotions, relay),
            Packet::Break(lost) => self.on_break(index, lost),
            _ => {}
        }
    }

    /// What its primaries lead they lead by the terms of now.
    fn hear_obeyed(&mut self, index: usize, member: Member, obeyed: Revision) {
        let region = &self.regions[index];
        let after = region.failover_after();
        let heeds = |(id, held): (&PartitionId, &Partition)| {
            let heeds = held.primary == member && held.goes_on_for != after && obeyed >= held.changed;
            let (partition, what) = (*id, Confirmed::Failover);
            heeds.then_some(Command::Confirm { partition, reign: held.reign, version: held.version, what })
        };
        let commands: Vec<Command> = region.catalog.partitions.iter().filter_map(heeds).collect();
        commands.iter().for_each(|confirm| drop(self.decide(index, confirm)));
    }

    fn on_report(&mut self, index: usize, from: Place, member: Member, sent: replication::Instant, gone: &[Member]) {
        let known = self.regions[index].catalog.member(member.node).expect("a node that reports is registered");
        if member.incarnation < known.incarnation {
            return;
        }
        if member.incarnation > known.incarnation {
            let addresses = addresses(member.node.0);
            let started = Command::NodeStarted { node: member.node, incarnation: member.incarnation, addresses };
            self.decide(index, &started).expect("a newer process of a registered node is taken note of");
        }
        let now = self.now;
        let region = &mut self.regions[index];
        gone.iter().for_each(|gone| region.heard.proved_gone(*gone));
        region.heard.heartbeat(member, now);
        region.heard.answered(member, now);
        // An answer is a lease, and the next primary counts on it that there is none.
        if region.is_being_replaced(member) && !self.options.has(Planted::ReplacedAnswered) {
            return;
        }
        let region = &mut self.regions[index];
        let mut views = region.catalog.views_since(member.node, types::Revision(0));
        let older = region
            .catalog
            .nodes
            .iter()
            .filter(|(_, node)| node.incarnation.0 > 1)
            .map(|(id, node)| Member { node: *id, incarnation: Incarnation(node.incarnation.0 - 1) });
        let gone = region.heard.gone().iter().copied().chain(older).collect();
        let finals = final_times(&region.catalog);
        let revision = region.catalog.revision;
        region.heard.told(member, revision);
        region.answered.insert(member, revision);
        if self.options.has(Planted::EpochReused) {
            views.iter_mut().for_each(|view| self.rename_epoch(index, member, view));
        }
        let removals = self.regions[index].catalog.removals_of(member.node);
        let packet = Packet::Catalog { to: member, sent, revision, views, gone, finals, removals };
        self.send(Place::Catalog(index), from, packet);
    }

    /// A planted bug: the name that the lineage alone would give.
    fn rename_epoch(&self, index: usize, member: Member, view: &mut types::View) {
        let node = &self.nodes[self.node_of(index, member.node)];
        let last = node.hosted(view.partition).and_then(|hosted| hosted.log.summary.lineage.last().copied());
        if let types::Role::Writable { epoch, .. } = &mut view.role {
            epoch.number = last.map_or(0, |last| last.epoch.number) + 1;
            epoch.nonce = 0;
        }
    }

    fn on_propose(
        &mut self,
        index: usize,
        id: PartitionId,
        reign: types::Reign,
        version: types::SetVersion,
        change: SetChange,
    ) {
        let held = &self.regions[index].catalog.partitions[&id];
        let (now_reign, now_version) = (held.reign, held.version);
        let no_cas = self.options.has(Planted::NoCas);
        let (as_reign, as_version) = if no_cas { (now_reign, now_version) } else { (reign, version) };
        let command = Command::ProposeSet { partition: id, reign: as_reign, version: as_version, change };
        if self.decide(index, &command).is_ok() && (reign, version) != (now_reign, now_version) {
            let text = format!("{id} at {now_reign} {now_version} took {change:?} for {reign} {version}");
            self.fail("compare_and_set", text);
        }
    }

    /// Timestamps, above everything handed out or received before.
    pub fn timestamps(&mut self, index: usize, count: u32) -> Timestamp {
        let now = self.now / MILLI;
        let region = &mut self.regions[index];
        let clock = Timestamp::from_millis(DAWN + region.skew + now);
        let received = region.catalog.timestamps.received;
        let first = clock.max(region.last_timestamp.next()).max(received.next());
        region.last_timestamp = Timestamp(first.0 + u64::from(count.max(1)) - 1);
        if region.last_timestamp > region.catalog.timestamps.upper {
            let upper = Timestamp(region.last_timestamp.0 + Timestamp::from_millis(50).0);
            self.decide(index, &Command::ExtendTimestampBlock { upper }).expect("a block of honest times is taken");
        }
        first
    }

    // ---- what the leader does by itself

    pub(crate) fn on_leader(&mut self, index: usize) {
        self.after(RENEW * MILLI, Event::Leader(index));
        if !self.regions[index].reachable {
            return;
        }
        // What it has proposed is waited for.
        if self.regions[index].under_way.is_empty() {
            self.look_for_failures(index);
        }
        let writable = !self.regions[index].catalog.databases[&self.regions[index].database].is_sink();
        let marks = self.options.scale == Scale::Regions || !self.options.mode.sync_durability;
        if writable && marks {
            let ts = self.timestamps(index, 1);
            let (first, leaves) = (self.regions[index].first_node, self.regions[index].leaves);
            for node in first..first + leaves {
                self.send(Place::Catalog(index), Place::Node(node), Packet::Publish { ts });
            }
        }
    }

    fn look_for_failures(&mut self, index: usize) {
        let (now, timeout) = (self.now, FAILURE * MILLI);
        let rng = &mut self.rng;
        let region = &self.regions[index];
        check_suspects(region, now, timeout);
        let mut commands = failover::decide(&region.catalog, &region.heard, now, timeout, &mut || rng.random());
        if self.options.has(Planted::UncutRecovery) {
            let apart = |command| match command {
                Command::RecoverToCut(recover) => recover.named.into_iter().map(Command::NamePrimary).collect(),
                command => vec![command],
            };
            commands = commands.into_iter().flat_map(apart).collect();
        }
        let namings = commands.iter().flat_map(namings);
        namings.filter(|naming| naming.loss != Loss::None).for_each(|naming| self.check_longest(index, naming));
        if commands.is_empty() || self.options.decision_max == 0 {
            commands.iter().for_each(|command| self.name_primary(index, command));
        } else {
            let delay = self.between(0, self.options.decision_max * 1000) * 1000;
            self.regions[index].under_way = commands;
            self.after(delay, Event::Decided(index));
        }
        self.renew_epochs(index);
        self.lead_moves(index);
        let region = &self.regions[index];
        let wanted = failover::reports_wanted(&region.catalog, &region.heard, now, timeout);
        for (to, partition) in wanted {
            let node = self.node_of(index, to.node);
            self.send(Place::Catalog(index), Place::Node(node), Packet::LogEndWanted { to, partition });
        }
    }

    /// A majority has written what the leader has proposed. Meanwhile the catalog may have changed.
    pub(crate) fn write_proposals(&mut self, index: usize) {
        for command in std::mem::take(&mut self.regions[index].under_way) {
            if namings(&command).iter().all(|naming| self.regions[index].takes(naming)) {
                self.name_primary(index, &command);
            } else {
                drop(self.decide(index, &command));
            }
        }
    }

    /// A primary's log has received an epoch that is not below the one minted for it: it is named again, with another.
    fn renew_epochs(&mut self, index: usize) {
        // Names that the lineage alone gives are above it.
        if self.options.has(Planted::EpochReused) {
            return;
        }
        let region = &self.regions[index];
        let mut commands = vec![];
        for (id, held) in region.catalog.partitions.iter() {
            let Some(grant) = &held.grant else { continue };
            let node = &self.nodes[self.node_of(index, held.primary.node)];
            let heard = region.heard.hears(held.primary, self.now, FAILURE * MILLI);
            let Some(hosted) = node.hosted(*id).filter(|_| heard && node.member() == held.primary) else { continue };
            let Some(last) = hosted.log.summary.lineage.last().map(|entry| entry.epoch) else { continue };
            if last.number >= grant.epoch.number && last != grant.epoch {
                commands.push(NamePrimary {
                    partition: *id,
                    reign: held.reign,
                    version: held.version,
                    primary: held.primary,
                    members: held.members.clone(),
                    nonce: 0,
                    received_epoch: last.number,
                    loss: Loss::None,
                });
            }
        }
        for mut naming in commands {
            naming.nonce = self.rng.random();
            self.name_primary(index, &Command::NamePrimary(naming));
        }
    }

    pub(crate) fn name_primary(&mut self, index: usize, command: &Command) {
        let namings = namings(command);
        let catalog = &self.regions[index].catalog;
        let lives = |member: &Member| catalog.member(member.node) == Some(*member);
        let awaited = |naming: &NamePrimary| {
            naming.loss == Loss::Kept && catalog.partitions[&naming.partition].members.iter().any(lives)
        };
        if self.options.has(Planted::DamagedAwaited) && namings.iter().any(awaited) {
            return;
        }
        for naming in namings.iter().filter(|naming| naming.loss != Loss::None) {
            self.check_loss(index, naming);
        }
        if let Command::RecoverToCut(recover) = command {
            self.check_cut(index, recover);
        }
        if self.decide(index, command).is_err() {
            return;
        }
        for naming in namings.iter().filter(|naming| naming.loss != Loss::None) {
            self.note_going_on(index, naming);
            self.note_lost(index, naming);
        }
        if self.options.has(Planted::OrdersStand) {
            let Region { heard, catalog, .. } = &mut self.regions[index];
            namings.iter().for_each(|naming| heard.told(naming.primary, catalog.revision));
        }
        match command {
            Command::NamePrimary(naming) => {
                let named: Vec<_> = naming.members.iter().copied().collect();
                self.check_whole(index, naming.partition, &named);
                let reign = self.regions[index].catalog.partitions[&naming.partition].reign;
                self.checks.announced.insert((index, naming.partition.ordinal, reign), naming.loss);
                self.regions[index].heard.forget_reports(naming.partition);
                self.goes_on_uncut(index, naming);
            }
            Command::RecoverToCut(recover) => {
                self.goes_on_from_cut(index, recover.promotion, recover.cut);
                for naming in &recover.named {
                    let reign = self.regions[index].catalog.partitions[&naming.partition].reign;
                    self.checks.announced.insert((index, naming.partition.ordinal, reign), naming.loss);
                    self.regions[index].heard.forget_reports(naming.partition);
                }
            }
            _ => {}
        }
    }

    /// Another leader: it has heard nobody. What the one before has proposed is in its log, or is lost.
    pub fn new_leader(&mut self, index: usize) {
        if !self.regions[index].under_way.is_empty() && self.chance(500) {
            self.write_proposals(index);
        }
        self.regions[index].under_way.clear();
        let elected = if self.options.has(Planted::ElectionIgnored) { 0 } else { self.now };
        let decided = self.regions[index].catalog.revision;
        self.regions[index].heard = Heard::new(elected).elected_at(decided);
        self.regions[index].elected_at = decided;
        self.regions[index].said.clear();
        self.regions[index].reported.clear();
        self.regions[index].moves = Default::default();
    }
}

impl Region {
    /// After what silence another primary of the database is named, if one is.
    pub fn failover_after(&self) -> Option<u64> {
        self.catalog.databases[&self.database].failover_after()
    }

    /// Whether the catalog may name others any moment for what a process leads.
    fn is_being_replaced(&self, member: Member) -> bool {
        let current = |naming: &&NamePrimary| self.takes(naming);
        let mut replaced = self.under_way.iter().flat_map(namings).filter(current);
        replaced.any(|naming| self.catalog.partitions[&naming.partition].primary == member)
    }

    /// When the newest report that this leader has heard of a process was sent, by that one's clock.
    pub(crate) fn reported(&self, member: Member) -> Option<replication::Instant> {
        self.reported.get(&member.node).filter(|(of, _)| *of == member).map(|(_, sent)| *sent)
    }

    /// Whether a naming is about the partition as it is now.
    fn takes(&self, naming: &NamePrimary) -> bool {
        let partition = self.catalog.partitions.get(&naming.partition);
        partition.is_some_and(|now| (now.reign, now.version) == (naming.reign, naming.version))
    }
}

fn namings(command: &Command) -> &[NamePrimary] {
    match command {
        Command::NamePrimary(naming) => std::slice::from_ref(naming),
        Command::RecoverToCut(recover) => &recover.named,
        _ => &[],
    }
}

fn addresses(leaf: u64) -> Addresses {
    Addresses { rpc: format!("127.0.0.1:{leaf}"), sql: None, http: None }
}

/// Final timestamps of sealed databases, by partition.
fn final_times(catalog: &State) -> Vec<(PartitionId, Timestamp)> {
    let finals = catalog.databases.iter().filter_map(|(id, database)| Some((*id, database.fenced.finals.as_ref()?)));
    finals
        .flat_map(|(database, finals)| {
            let time = finals.time;
            finals.positions.keys().map(move |ordinal| (PartitionId { database, ordinal: *ordinal }, time))
        })
        .collect()
}

/// A look for failures is about suspects alone: of every other partition the primary may live, and no copy is damaged.
fn check_suspects(region: &Region, now: u64, timeout: u64) {
    let (catalog, heard) = (&region.catalog, &region.heard);
    let suspects = failover::suspects(catalog, heard, now, timeout);
    for (id, partition) in catalog.partitions.iter().filter(|(id, _)| !suspects.contains(id)) {
        assert!(heard.may_live(partition.primary, now, timeout), "nobody looks at {id}, whose primary may be gone");
        let damaged = partition.members.iter().find(|member| heard.damaged_since(*id, **member).is_some());
        assert!(damaged.is_none(), "nobody looks at {id}, of which {damaged:?} has a damaged copy");
    }
}
