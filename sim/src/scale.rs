//! The control plane of a large region, counted: messages, bytes, commands, and how long a lost leaf's primaries are unnamed.
//!
//! The real catalog, the real deciders, and the real heartbeats of leaves (`catalog::heartbeat`, `catalog::decide`), in
//! virtual time. Replicas are not simulated: a leaf obeys what it is told and reports it, and takes a dead member out of its
//! sets as a primary does. What a message costs on the wire is the length of its encoding. `docs/scale.md` says what the
//! figures mean, and what they leave out.
//!
//! ```text
//!   every 100 ms   leaf ──Report──► Said, Heard;  orders() ──Orders──► leaf
//!   every  25 ms   failover, moves ──commands, 256 at a time──► raft ──► State::apply, one copy of the state
//! ```
//!
//! One leaf leads many partitions, and follows as many. Its process ends, or its machine is lost: then nothing is heard for
//! `FAILURE`. The run ends when every partition has a primary that lives, and every leaf has been told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use catalog::command::{Command, CreateDatabase, Loss, SetChange};
use catalog::database::Options as DatabaseOptions;
use catalog::decide::moves::{Ear, Memory, Pace};
use catalog::decide::orders::{Peerage, orders, peers};
use catalog::decide::{Heard, failover, moves, placement};
use catalog::event::UnixMillis;
use catalog::heartbeat::{LeadingReport, Orders, ReplicaReport, Report, Round, Said, Teller};
use catalog::node::{Addresses, Roles};
use catalog::{Refusal, State};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::{ClusterId, Incarnation, Lsn, Member, Mode, NodeId, PartitionId, Reign, Revision, Role, Timestamp, View};

use crate::options::MILLI;

/// Between two heartbeats, of leaves to the master and of pairs.
pub const RENEW: u64 = 100 * MILLI;
/// Between two looks of the master.
pub const LOOK: u64 = 25 * MILLI;
/// Silence of this length is a failure.
pub const FAILURE: u64 = 1500 * MILLI;
/// Commands of one look that are decided together.
const DECIDED_AT_ONCE: usize = 256;
/// Partitions of one database, the meta partition included.
const OF_DATABASE: u32 = 4000;

/// The length of a value's encoding, as it is on the wire and in the catalog's file.
macro_rules! bytes_of {
    ($value:expr) => {
        bincode::serde::encode_to_vec($value, bincode::config::standard()).expect("memory takes any value").len()
    };
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// How many leaves.
    pub leaves: u64,
    /// How many partitions, over several databases.
    pub partitions: u32,
    /// How many partitions the leaf leads that is lost; it follows as many.
    pub lost: usize,
    /// Whether all partitions are written to all the time.
    pub active: bool,
    /// The process ends and its host refuses connections; otherwise the whole machine is silent.
    pub refused: bool,
    /// One way between two nodes.
    pub delay: u64,
    /// From a proposal until it is on a majority's disks and applied.
    pub commit: u64,
}

/// Messages and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub messages: u64,
    /// How long they are together.
    pub bytes: u64,
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted { leaves: 50, partitions: 1000, lost: 40, active: false, refused: true, delay: MILLI, commit: 5 * MILLI }
    }
}

impl Count {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    fn since(self, before: Count) -> Count {
        Count { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }
}

/// What has been sent so far, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Heartbeats of leaves to the master,
    pub reports: Count,
    /// and what was in them of replicas: how many.
    pub replicas_told: u64,
    /// Answers to them.
    pub orders: Count,
    /// Views in the answers.
    pub views: Count,
    /// Peers in the answers.
    pub peers_told: u64,
    /// Changes of sets that primaries propose.
    pub proposals: Count,
    /// Entries of the catalog's log.
    pub entries: Count,
    /// Writes of it: each is an append at every voter.
    pub appends: u64,
}

impl Traffic {
    fn since(&self, before: &Traffic) -> Traffic {
        Traffic {
            reports: self.reports.since(before.reports),
            replicas_told: self.replicas_told - before.replicas_told,
            orders: self.orders.since(before.orders),
            views: self.views.since(before.views),
            peers_told: self.peers_told - before.peers_told,
            proposals: self.proposals.since(before.proposals),
            entries: self.entries.since(before.entries),
            appends: self.appends - before.appends,
        }
    }
}

/// What the master's work took, in nanoseconds of the clock that was handed in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Looks: failures, moves.
    pub looks: u64,
    /// How many.
    pub looked: u64,
    /// Reports taken and answered.
    pub reports: u64,
    /// Commands applied.
    pub apply: u64,
    /// Copies of the state, one for each write.
    pub copies: u64,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Making the databases: nanoseconds of placing.
    pub placing: u64,
    /// Bytes of the catalog's snapshot.
    pub snapshot: u64,
    /// Nanoseconds of encoding it.
    pub encoding: u64,
    /// Ordered pairs of leaves that share a partition: each heartbeats to the other.
    pub pairs: u64,
    /// Bytes of a pair's question and its answer.
    pub pair_bytes: u64,
    /// What was sent in a second at rest.
    pub rest: Traffic,
    /// What the master's work took in that second.
    pub rest_work: Work,
    /// Most partitions that a look at rest had to judge.
    pub judged_at_rest: usize,
    /// Partitions that the lost leaf led, and followed.
    pub lost: (usize, usize),
    /// What was sent from the loss until all had been told.
    pub failover: Traffic,
    /// What the master's work took meanwhile.
    pub failover_work: Work,
    /// From the loss until the catalog had named a primary for each,
    pub named_after: u64,
    /// until every one of those had been told,
    pub told_after: u64,
    /// and until no set named the lost process.
    pub sets_after: u64,
    /// Commands that were refused meanwhile.
    pub refused: u64,
}

enum Event {
    Beat(usize),
    Reported(usize, Box<Report>),
    Ordered(usize, Box<Orders>),
    Proposed(Box<Command>),
    Look,
    Committed,
}

struct Leaf {
    member: Member,
    lives: bool,
    teller: Teller,
    revision: Revision,
    round: Round,
    replicas: BTreeMap<PartitionId, ReplicaReport>,
    views: BTreeMap<PartitionId, View>,
    gone: BTreeSet<Member>,
    /// Sets from which it takes the lost process out, once it proposes that.
    proposed: BTreeSet<PartitionId>,
    orders_at: u64,
}

/// A region.
struct Region<'a> {
    wanted: Wanted,
    clock: &'a dyn Fn() -> u64,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    rng: ChaCha8Rng,
    state: State,
    published: State,
    leaves: Vec<Leaf>,
    heard: Heard,
    said: BTreeMap<NodeId, Said>,
    peerage: Peerage,
    memory: Memory,
    round: u64,
    waiting: VecDeque<(Command, bool)>,
    committing: Vec<(Command, bool)>,
    /// Of the last look: not proposed yet, and not decided yet.
    looked: VecDeque<Command>,
    undecided: usize,
    traffic: Traffic,
    work: Work,
    judged: usize,
    refused: u64,
    lost: Option<(Member, u64)>,
    unnamed: BTreeSet<PartitionId>,
    untold: BTreeSet<PartitionId>,
    named_at: u64,
    told_at: u64,
}

/// Simulates it. `clock`: nanoseconds of a clock, for the work; nothing depends on it.
pub fn run(wanted: Wanted, clock: &dyn Fn() -> u64) -> Found {
    let (state, placing) = build(&wanted, clock);
    let mut region = Region::new(wanted, state, clock);
    for leaf in 0..region.leaves.len() {
        // They have started one after the other.
        let offset = RENEW * leaf as u64 / region.leaves.len() as u64;
        region.at(offset, Event::Beat(leaf));
    }
    region.at(LOOK, Event::Look);
    region.run_until(1000 * MILLI);
    let (before, work) = (region.traffic, region.work);
    region.judged = 0;
    region.run_until(2000 * MILLI);
    let (rest, rest_work) = (region.traffic.since(&before), region.work.since(&work));
    let judged_at_rest = region.judged;
    let started = clock();
    let snapshot = bytes_of!(&region.state) as u64;
    let encoding = clock() - started;
    let pairs = region.leaves.iter().map(|leaf| peers(&region.state, leaf.member.node).len() as u64).sum();
    let (before, work) = (region.traffic, region.work);
    let lost = region.lose(0);
    while !region.is_whole() {
        region.step();
        assert!(region.now < 60_000 * MILLI, "partitions are without a primary for a minute");
    }
    let since = 2000 * MILLI;
    Found {
        placing,
        snapshot,
        encoding,
        pairs,
        pair_bytes: pair_bytes(),
        rest,
        rest_work,
        judged_at_rest,
        lost,
        failover: region.traffic.since(&before),
        failover_work: region.work.since(&work),
        named_after: region.named_at - since,
        told_after: region.told_at - since,
        sets_after: region.now - since,
        refused: region.refused,
    }
}

fn pair_bytes() -> u64 {
    let from = Member { node: NodeId(1000), incarnation: Incarnation(3) };
    let sent = replication::Instant(3_600_000 * MILLI);
    let beat = replication::Heartbeat { from, sent, revision: Revision(100_000) };
    let granted = replication::Granted { from, sent, except: vec![] };
    (bytes_of!(&beat) + bytes_of!(&granted)) as u64
}

/// The catalog of a region as it was made: leaves, and databases where CREATE DATABASE puts them, but that the first leaf
/// leads as many partitions as are to be lost, and follows as many.
fn build(wanted: &Wanted, clock: &dyn Fn() -> u64) -> (State, u64) {
    let mut state = State::new(ClusterId(1));
    let apply = |state: &mut State, command: &Command| {
        state.apply(UnixMillis(1), command).unwrap_or_else(|refusal| panic!("{refusal}"));
    };
    for number in 1..=wanted.leaves {
        let rpc = format!("leaf-{number}.example.net:7001");
        let addresses = Addresses { rpc, sql: None, http: Some(format!("leaf-{number}.example.net:7080")) };
        let (identity, roles) = (u128::from(number), Roles { aggregator: false, leaf: true });
        let register =
            Command::RegisterNode { number: None, identity, addresses: addresses.clone(), roles, group: None };
        apply(&mut state, &register);
        apply(&mut state, &Command::NodeStarted { node: NodeId(number), incarnation: Incarnation(1), addresses });
    }
    let (mut left, mut database, mut placing) = (wanted.partitions, 0, 0);
    let (mut leads, mut follows) = (0, 0);
    while left > 0 {
        let partitions = left.clamp(2, OF_DATABASE) - 1;
        let started = clock();
        let placed = placement::assign(&placement::candidates(&state), partitions, 2);
        placing += clock() - started;
        let mut placement = placed.unwrap_or_else(|refusal| panic!("{refusal}"));
        for nodes in &mut placement {
            if !nodes.contains(&NodeId(1)) && leads < wanted.lost {
                nodes[0] = NodeId(1);
            } else if !nodes.contains(&NodeId(1)) && follows < wanted.lost {
                nodes[1] = NodeId(1);
            }
            leads += usize::from(nodes[0] == NodeId(1));
            follows += usize::from(nodes[1] == NodeId(1));
        }
        database += 1;
        let create = CreateDatabase {
            name: format!("database_{database}"),
            identity: database,
            partitions,
            mode: Mode { sync_durability: true, sync_replication: true },
            options: DatabaseOptions::default(),
            placement,
            nonce: 7,
        };
        apply(&mut state, &Command::CreateDatabase(create));
        left = left.saturating_sub(partitions + 1);
    }
    (state, placing)
}

impl Work {
    fn since(&self, before: &Work) -> Work {
        Work {
            looks: self.looks - before.looks,
            looked: self.looked - before.looked,
            reports: self.reports - before.reports,
            apply: self.apply - before.apply,
            copies: self.copies - before.copies,
        }
    }
}

impl<'a> Region<'a> {
    fn new(wanted: Wanted, state: State, clock: &'a dyn Fn() -> u64) -> Region<'a> {
        let leaf = |node: &NodeId| Leaf {
            member: state.member(*node).expect("it is registered"),
            lives: true,
            teller: Teller::default(),
            revision: Revision(0),
            round: Round::default(),
            replicas: BTreeMap::new(),
            views: BTreeMap::new(),
            gone: BTreeSet::new(),
            proposed: BTreeSet::new(),
            orders_at: 0,
        };
        let leaves = state.nodes.keys().map(leaf).collect();
        Region {
            wanted,
            clock,
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            rng: ChaCha8Rng::seed_from_u64(1),
            published: state.clone(),
            state,
            leaves,
            heard: Heard::new(0),
            said: BTreeMap::new(),
            peerage: Peerage::default(),
            memory: Memory::default(),
            round: 0,
            waiting: VecDeque::new(),
            committing: Vec::new(),
            looked: VecDeque::new(),
            undecided: 0,
            traffic: Traffic::default(),
            work: Work::default(),
            judged: 0,
            refused: 0,
            lost: None,
            unnamed: BTreeSet::new(),
            untold: BTreeSet::new(),
            named_at: 0,
            told_at: 0,
        }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((time, self.sequence), event);
    }

    fn run_until(&mut self, time: u64) {
        while self.events.first_key_value().is_some_and(|((at, _), _)| *at < time) {
            self.step();
        }
        self.now = time;
    }

    fn step(&mut self) {
        let ((at, _), event) = self.events.pop_first().expect("heartbeats go on");
        self.now = at;
        match event {
            Event::Beat(leaf) => self.beat(leaf),
            Event::Reported(leaf, report) => self.on_report(leaf, *report),
            Event::Ordered(leaf, orders) => self.obey(leaf, *orders),
            Event::Proposed(command) => self.propose(*command, false),
            Event::Look => self.look(),
            Event::Committed => self.on_committed(),
        }
    }

    // ---- a leaf

    fn beat(&mut self, index: usize) {
        if !self.leaves[index].lives {
            return;
        }
        self.at(self.now + RENEW, Event::Beat(index));
        self.take_out(index);
        let active = self.wanted.active;
        let leaf = &mut self.leaves[index];
        if active {
            for replica in leaf.replicas.values_mut() {
                replica.appended.0 += 50;
                (replica.durable, replica.applied) = (replica.appended, replica.appended);
                replica.received = Timestamp(replica.received.0 + 100);
            }
        }
        let mut report = Report {
            member: leaf.member,
            sent: self.now,
            revision: leaf.revision,
            round: leaf.round,
            disk: (400 << 30, 600 << 30),
            sync_p99_us: Some(1200),
            ..Report::default()
        };
        leaf.teller.tell(&mut report, leaf.replicas.clone(), leaf.gone.clone());
        self.traffic.reports.add(bytes_of!(&report));
        self.traffic.replicas_told += report.replicas.len() as u64;
        self.at(self.now + self.wanted.delay, Event::Reported(index, Box::new(report)));
    }

    /// A primary takes a lost member out of its set: at once if it is proved gone, else after it was silent for long.
    fn take_out(&mut self, index: usize) {
        let Some((lost, at)) = self.lost else { return };
        let leaf = &mut self.leaves[index];
        if !leaf.gone.contains(&lost) && self.now < at + FAILURE {
            return;
        }
        let held = leaf.views.values().filter(|view| view.primary == leaf.member && view.members.contains(&lost));
        let concerned: Vec<(PartitionId, Reign, types::SetVersion)> =
            held.map(|view| (view.partition, view.reign, view.version)).collect();
        for (partition, reign, version) in concerned {
            if self.leaves[index].proposed.insert(partition) {
                let change = SetChange::Remove(lost);
                let command = Command::ProposeSet { partition, reign, version, change };
                self.traffic.proposals.add(bytes_of!(&command));
                self.at(self.now + self.wanted.delay, Event::Proposed(Box::new(command)));
            }
        }
    }

    fn obey(&mut self, index: usize, orders: Orders) {
        let leaf = &mut self.leaves[index];
        if !leaf.lives {
            return;
        }
        leaf.teller.answered(&orders);
        for view in orders.views {
            let leading = (view.primary == leaf.member).then(|| LeadingReport {
                serving: true,
                safe: Lsn(1000),
                cut: Timestamp::ZERO,
                promotions: view.promotions.clone(),
                busy: false,
                final_position: None,
                link: None,
                joined: false,
            });
            let epoch = match view.role {
                Role::Writable { epoch, .. } => Some(epoch),
                Role::Sink { .. } => None,
            };
            let known = leaf.replicas.get(&view.partition);
            let appended = known.map_or(Lsn(1000), |known| known.appended);
            let replica = ReplicaReport {
                partition: view.partition,
                reign: view.reign,
                epoch,
                appended,
                durable: appended,
                applied: appended,
                bytes: 1 << 30,
                rows: 1 << 20,
                log_bytes: 1 << 20,
                repairing: false,
                damaged: false,
                received: Timestamp::from_millis(1_800_000_000_000),
                leading,
                upstream: vec![],
                downstream: vec![],
            };
            leaf.replicas.insert(view.partition, replica);
            if view.primary == leaf.member && self.untold.remove(&view.partition) {
                self.told_at = self.now;
            }
            leaf.views.insert(view.partition, view);
        }
        (leaf.revision, leaf.round, leaf.orders_at) = (orders.revision, orders.round, self.now);
    }

    // ---- the master

    fn on_report(&mut self, index: usize, report: Report) {
        let started = (self.clock)();
        let (member, revision) = (report.member, report.revision);
        let is_new = report.round.master == 0;
        report.gone.iter().for_each(|gone| self.heard.proved_gone(*gone));
        self.heard.answered(member, self.now);
        let said = Said::take(self.said.remove(&member.node), &report);
        let tell_all = said.is_none();
        if let Some(said) = said {
            self.heard.heartbeat(member, self.now);
            self.said.insert(member.node, said);
        }
        let changed = self.peerage.look(&self.published);
        let mut orders = orders(&self.published, member.node, revision, is_new, changed);
        self.round += 1;
        orders.round = Round { master: 1, number: self.round };
        (orders.sent, orders.tell_all) = (report.sent, tell_all);
        orders.gone = self.heard.gone().iter().copied().collect();
        self.work.reports += (self.clock)() - started;
        self.traffic.orders.add(bytes_of!(&orders));
        self.traffic.views.messages += orders.views.len() as u64;
        self.traffic.views.bytes += bytes_of!(&orders.views) as u64;
        self.traffic.peers_told += orders.peers.as_ref().map_or(0, Vec::len) as u64;
        self.at(self.now + self.wanted.delay, Event::Ordered(index, Box::new(orders)));
    }

    fn look(&mut self) {
        let started = (self.clock)();
        let Region { published: state, heard, now, rng, .. } = self;
        self.judged = self.judged.max(failover::suspects(state, heard, *now, FAILURE).len());
        let mut commands = failover::decide(state, heard, *now, FAILURE, &mut || rng.random());
        let wanted = failover::reports_wanted(state, heard, *now, FAILURE);
        assert!(wanted.is_empty(), "every lost partition has a living member");
        let ear = Ear { heard, copy: &|_, _| None, now: *now };
        commands.extend(moves::decide(state, &ear, &mut self.memory, &Pace::new(4, FAILURE), &mut || rng.random()));
        self.work.looks += (self.clock)() - started;
        self.work.looked += 1;
        self.looked = commands.into();
        self.propose_looked();
    }

    /// The next commands of the last look; after the last of them the next look.
    fn propose_looked(&mut self) {
        for _ in 0..DECIDED_AT_ONCE {
            let Some(command) = self.looked.pop_front() else { break };
            self.undecided += 1;
            self.propose(command, true);
        }
        if self.undecided == 0 {
            self.at(self.now + LOOK, Event::Look);
        }
    }

    fn propose(&mut self, command: Command, of_look: bool) {
        self.waiting.push_back((command, of_look));
        self.commit();
    }

    fn commit(&mut self) {
        if self.committing.is_empty() && !self.waiting.is_empty() {
            let many = self.waiting.len().min(DECIDED_AT_ONCE);
            self.committing = self.waiting.drain(..many).collect();
            self.traffic.appends += 1;
            self.at(self.now + self.wanted.commit, Event::Committed);
        }
    }

    fn on_committed(&mut self) {
        let started = (self.clock)();
        let commands = std::mem::take(&mut self.committing);
        let mut decided = 0;
        for (command, of_look) in &commands {
            // An entry is a time and a command; the number of its proposal stands beside it.
            self.traffic.entries.add(bytes_of!(&(UnixMillis(1_800_000_000_000), command)) + 16);
            let outcome = self.state.apply(UnixMillis(self.now / MILLI), command);
            self.refused += u64::from(matches!(outcome, Err(Refusal::LookAgain { .. })));
            decided += usize::from(*of_look);
            if let (Command::NamePrimary(naming), Ok(_)) = (command, outcome) {
                assert_eq!(naming.loss, Loss::None, "nothing is lost with one leaf");
                if self.unnamed.remove(&naming.partition) {
                    self.named_at = self.now;
                }
            }
        }
        self.work.apply += (self.clock)() - started;
        let started = (self.clock)();
        self.published = self.state.clone();
        self.work.copies += (self.clock)() - started;
        self.undecided -= decided;
        if decided > 0 {
            self.propose_looked();
        }
        self.commit();
    }

    // ---- the loss

    /// A leaf is lost; how many partitions it led and followed.
    fn lose(&mut self, index: usize) -> (usize, usize) {
        let lost = self.leaves[index].member;
        self.leaves[index].lives = false;
        self.lost = Some((lost, self.now));
        self.unnamed = self.state.partitions.led_by(lost).map(|(id, _)| id).collect();
        self.untold = self.unnamed.clone();
        if self.wanted.refused {
            // Their connections close, and the host refuses new ones.
            for peer in peers(&self.state, lost.node) {
                let other = self.leaves.iter_mut().find(|leaf| leaf.member == peer.member);
                other.expect("it is a leaf").gone.insert(lost);
            }
        }
        (self.unnamed.len(), self.state.partitions.count_held_by(lost.node) - self.unnamed.len())
    }

    fn is_whole(&self) -> bool {
        let (lost, _) = self.lost.expect("a leaf was lost");
        let named = self.unnamed.is_empty() && self.untold.is_empty();
        named && self.state.partitions.held_by(lost.node).all(|(_, held)| !held.members.contains(&lost))
    }
}
