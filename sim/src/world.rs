//! The world: one queue of events in virtual time, and the only loop.
//!
//! Events are ordered by (time, sequence). All chance comes from one seeded generator, all maps are ordered: the same
//! seed gives the same history, to the byte.

use std::collections::{BTreeMap, BTreeSet};

use catalog::command::BreakLink;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use replication::{Frame, Granted, Heartbeat, Input, Message, Probe, SetChange, Ticket, TxnRequest};
use types::{LinkId, LogEnd, Member, Ordinal, PartitionId, Promotion, Reign, Revision, SetVersion, Timestamp, View};

use crate::checks::{Checks, Violation};
use crate::clients::Clients;
use crate::control::Control;
use crate::definitions::Definitions;
use crate::nemesis::Nemesis;
use crate::node::Node;
use crate::options::{MILLI, Options, RENEW, Scale};
use crate::region::Region;
use crate::sessions::Sessions;

/// Where a message comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A node, by index.
    Node(usize),
    /// The catalog of a region, by index.
    Catalog(usize),
}

/// What travels.
#[derive(Clone, Debug)]
pub enum Packet {
    /// Replica to replica, in a region.
    Frame(Frame),
    /// Node to node.
    Beat(Heartbeat),
    /// The grant.
    Granted(Granted),
    /// A connection attempt.
    Connect(Probe),
    /// It was accepted by this process.
    Hello(Member),
    /// It was refused by the host.
    Refused(Probe),
    /// Node to catalog: I live, this I know.
    Report {
        /// Who.
        from: Member,
        /// On its clock.
        sent: replication::Instant,
        /// Whom it knows to be gone.
        gone: Vec<Member>,
        /// Its replicas that hold nothing, whatever the set counts on.
        damaged: BTreeSet<PartitionId>,
        /// Where partitions move: what its replicas are.
        told: Option<Box<crate::moves::Told>>,
        /// Its replicas have obeyed the catalog up to here.
        obeyed: Revision,
    },
    /// The answer.
    Catalog {
        /// To this process alone.
        to: Member,
        /// From the report.
        sent: replication::Instant,
        /// The catalog's position.
        revision: Revision,
        /// All views of the node's replicas.
        views: Vec<View>,
        /// Who is gone.
        gone: Vec<Member>,
        /// Final timestamps of sealed databases.
        finals: Vec<(PartitionId, Timestamp)>,
        /// Copies to delete.
        removals: Vec<PartitionId>,
    },
    /// A primary proposes a change of its set.
    Propose {
        /// Of which partition.
        partition: PartitionId,
        /// In which reign.
        reign: Reign,
        /// Of which version.
        version: SetVersion,
        /// What.
        change: SetChange,
    },
    /// The catalog wants to know where a log ends.
    LogEndWanted {
        /// From this process.
        to: Member,
        /// Of which partition.
        partition: PartitionId,
    },
    /// The answer.
    LogEnd {
        /// From whom.
        from: Member,
        /// Of which partition.
        partition: PartitionId,
        /// Where.
        end: LogEnd,
        /// Where its epochs end.
        epochs: Vec<LogEnd>,
        /// The mark on its disk.
        mark: types::Mark,
        /// The first process since its machine has kept its power.
        powered_since: types::Incarnation,
    },
    /// Timestamps are wanted.
    TimestampsWanted {
        /// By whom.
        from: Member,
        /// For which partition.
        partition: PartitionId,
        /// The replica's name for the request.
        request: u64,
        /// How many.
        count: u32,
    },
    /// The answer.
    Timestamps {
        /// To this process alone.
        to: Member,
        /// For which partition.
        partition: PartitionId,
        /// From the request.
        request: u64,
        /// The first one.
        first: Timestamp,
        /// How many.
        count: u32,
    },
    /// A timestamp to publish.
    Publish {
        /// The timestamp.
        ts: Timestamp,
    },
    /// The source's history has other promotions.
    Learn {
        /// Which partition has heard it.
        partition: PartitionId,
        /// By which link.
        link: LinkId,
        /// The list.
        promotions: Vec<Promotion>,
        /// The source is a sink itself.
        relay: bool,
    },
    /// The source has lost what was served here.
    Break(BreakLink),
    /// A client's request.
    Request {
        /// To which partition.
        partition: PartitionId,
        /// For the answer.
        ticket: Ticket,
        /// What.
        request: TxnRequest,
    },
    /// A client stops waiting.
    Cancel {
        /// At which partition.
        partition: PartitionId,
        /// For which answer.
        ticket: Ticket,
    },
    /// Sink to source, in a session.
    ToSource {
        /// Which.
        session: u64,
        /// What.
        message: Message,
    },
    /// Source to sink, in a session.
    ToSink {
        /// Which.
        session: u64,
        /// What.
        message: Message,
    },
}

/// What a process does by itself, or is told by its disk.
#[derive(Clone, Debug)]
pub enum Local {
    /// A heartbeat is due.
    Tick,
    /// Something came in.
    Packet(Place, Packet),
    /// The journal is to be written.
    Write,
    /// The disk has synced the journal.
    Synced {
        /// End of the durable log and count of durable notes, per partition.
        ends: BTreeMap<PartitionId, (types::Lsn, u64)>,
    },
    /// The disk says that a sync has failed.
    SyncFailed,
    /// Some records are to be applied.
    Apply(PartitionId),
    /// The next step of a rewind.
    Rewind(PartitionId),
    /// The next step of a copy, of the job with this number.
    Copy(PartitionId, u64),
    /// The state is to be flushed.
    Flush,
    /// A read of the log is done.
    LogRead(PartitionId),
    /// The state is read for open prepared transactions.
    Prepared(PartitionId, Reign),
    /// The state is read for an outcome.
    Lookup(PartitionId, Reign, types::TxnId),
    /// A connection closed.
    Closed(usize),
    /// A connection is new.
    Connected(usize),
    /// A reader takes its value.
    TakeValue(u64),
    /// A reader looks at the leases, and answers.
    AnswerRead(u64),
    /// A session with a source or sink changed.
    Session(PartitionId, Input),
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// To one process of a node; nothing if it runs no longer.
    Process(usize, u64, Local),
    /// Something arrives.
    Arrive(Place, Place, Packet),
    /// The disk of a node completes a sync.
    Disk(usize, u64, u64),
    /// A region's catalog leader looks around.
    Leader(usize),
    /// What it has proposed is decided.
    Decided(usize),
    /// A client does something.
    Client(crate::clients::Act),
    /// A fault.
    Strike(crate::script::Strike),
    /// A node starts.
    Start(usize),
    /// A node goes on after a pause.
    Resume(usize, u64),
    /// Links carry again.
    Unblock(Vec<(Place, Place)>),
    /// A region's catalog is back.
    CatalogBack(usize),
    /// Any other call, for scenarios and delayed faults.
    Act(crate::nemesis::Act),
    /// A step of DR control in a region.
    Control(usize),
    /// Sessions between regions are looked after.
    Sessions,
    /// Somebody orders a region's partitions or leaves elsewhere, perhaps.
    Mover(usize),
    /// What a sink's primary has said of its state arrives late at its catalog.
    Word(usize, PartitionId, Reign, bool),
}

impl Event {
    /// What arrives by it, and where.
    fn packet(&self) -> Option<(Place, &Packet)> {
        match self {
            Event::Arrive(_, to, packet) => Some((*to, packet)),
            Event::Process(node, _, Local::Packet(_, packet)) => Some((Place::Node(*node), packet)),
            _ => None,
        }
    }
}

/// Everything.
pub struct World {
    /// What the seed made of it.
    pub options: Options,
    /// Nanoseconds since the beginning.
    pub now: u64,
    /// All chance.
    pub rng: ChaCha8Rng,
    /// Events processed.
    pub steps: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    /// All nodes of all regions.
    pub nodes: Vec<Node>,
    /// Regions.
    pub regions: Vec<Region>,
    /// Links that carry nothing, with how many reasons.
    pub blocked: BTreeMap<(Place, Place), u32>,
    arrivals: BTreeMap<(Place, Place), u64>,
    /// Pairs of regions whose link carries nothing.
    pub severed: BTreeSet<(usize, usize)>,
    /// Transactions and reads.
    pub clients: Clients,
    /// What is checked, and what it is compared with.
    pub checks: Checks,
    /// Faults.
    pub nemesis: Nemesis,
    /// Streams between regions.
    pub sessions: Sessions,
    /// DR control.
    pub control: Control,
    /// Definitions of tables, as aggregators know them.
    pub definitions: Definitions,
    /// No more faults.
    pub healing: bool,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
    /// Lines of the history, if they are wanted.
    pub trace: Option<Vec<String>>,
}

/// Says something about the world, if anybody listens.
#[macro_export]
macro_rules! say {
    ($world:expr, $($words:tt)*) => {
        if $world.trace.is_some() {
            let line = format!($($words)*);
            $world.say(line);
        }
    };
}

impl World {
    /// A world without regions, for `build` and for scenarios.
    pub fn empty(options: Options, rng: ChaCha8Rng, trace: bool) -> World {
        World {
            now: 0,
            rng,
            steps: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            nodes: vec![],
            regions: vec![],
            blocked: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            severed: BTreeSet::new(),
            clients: Clients::default(),
            checks: Checks::new(&options),
            nemesis: Nemesis::default(),
            sessions: Sessions::default(),
            control: Control::default(),
            definitions: Definitions::default(),
            healing: false,
            violation: None,
            trace: trace.then(Vec::new),
            options,
        }
    }

    /// The world of a seed.
    pub fn of_seed(seed: u64, scale: Scale, planted: Option<crate::options::Planted>, trace: bool) -> World {
        World::focused(seed, scale, planted, trace, |_| ())
    }

    /// The world of a seed, with some options as one wants them.
    pub fn focused(
        seed: u64,
        scale: Scale,
        planted: Option<crate::options::Planted>,
        trace: bool,
        focus: impl Fn(&mut Options),
    ) -> World {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut options = Options::draw(seed, scale, planted, &mut rng);
        focus(&mut options);
        let mut world = World::empty(options, rng, trace);
        say!(world, "{}", world.options);
        world.build();
        world
    }

    /// Makes regions, nodes, the database; starts everything that goes on by itself.
    pub fn build(&mut self) {
        for region in 0..self.options.leaves.len() {
            self.add_region(region);
        }
        for region in 0..self.regions.len() {
            self.after(RENEW * MILLI, Event::Leader(region));
        }
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.after(5 * MILLI, Event::Client(crate::clients::Act::Begin));
        self.nemesis.script = match self.options.script.clone() {
            Some(script) => script,
            None => crate::script::draw(&self.options, self.nodes.len()),
        };
        for strike in self.nemesis.script.clone() {
            self.after(strike.at * MILLI, Event::Strike(strike));
        }
        if self.options.moves && self.options.orders {
            (0..self.regions.len()).for_each(|region| self.after(100 * MILLI, Event::Mover(region)));
        }
        if self.regions.len() > 1 {
            self.after(MILLI, Event::Sessions);
            for region in 0..self.regions.len() {
                let delay = self.between(30, 200);
                self.after(delay * MILLI, Event::Control(region));
            }
        }
    }

    /// Adds a line to the history.
    pub fn say(&mut self, line: String) {
        let (now, steps) = (self.now, self.steps);
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} {steps:>6} {line}", now as f64 / MILLI as f64));
        }
    }

    /// A rule is broken. The first one counts.
    pub fn fail(&mut self, check: &'static str, text: String) {
        if self.options.planted.is_some() && self.options.passed_over.contains(&check) {
            return;
        }
        say!(self, "VIOLATION {check}: {text}");
        self.violation.get_or_insert(Violation { check, text });
    }

    /// A rule is broken, perhaps.
    pub fn judge(&mut self, check: &'static str, result: Result<(), String>) {
        if let Err(text) = result {
            self.fail(check, text);
        }
    }

    // ---- time

    /// Something happens after so many nanoseconds.
    pub fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    /// Something happens in the process that runs on a node now, after so many nanoseconds.
    pub fn later(&mut self, node: usize, delay: u64, local: Local) {
        let start = self.nodes[node].starts;
        self.after(delay, Event::Process(node, start, local));
    }

    /// One of a range.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.rng.random_range(low..=high)
    }

    /// One of a list.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        *list.choose(&mut self.rng).expect("a list to pick from is not empty")
    }

    /// With this probability in a thousand.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.rng.random_range(0..1000) < permille
    }

    /// Does one thing. False when there is nothing left or a rule was broken.
    pub fn step(&mut self) -> bool {
        let Some(((now, _), event)) = self.queue.pop_first() else { return false };
        self.now = now;
        self.steps += 1;
        self.obey(event);
        self.violation.is_none()
    }

    /// Does everything up to a time.
    pub fn run_until(&mut self, time: u64) -> bool {
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= time) {
            if !self.step() {
                return false;
            }
        }
        self.now = self.now.max(time);
        true
    }

    /// The history of this world: faults, then healing, then the last checks.
    pub fn run(&mut self) {
        let faults = self.options.duration * MILLI;
        if self.run_until(faults) {
            self.heal_and_judge();
        }
    }

    fn obey(&mut self, event: Event) {
        match event {
            Event::Process(node, start, local) => self.wake(node, start, local),
            Event::Arrive(from, to, packet) => self.arrive(from, to, packet),
            Event::Disk(node, start, to) => self.on_disk(node, start, to),
            Event::Leader(region) => self.on_leader(region),
            Event::Decided(region) => self.write_proposals(region),
            Event::Client(act) => self.on_client(act),
            Event::Strike(strike) => self.on_strike(strike),
            Event::Start(node) => self.start(node),
            Event::Resume(node, start) => self.resume(node, start),
            Event::Unblock(links) => self.unblock(&links),
            Event::CatalogBack(region) => self.regions[region].reachable = true,
            Event::Act(act) => self.on_act(act),
            Event::Control(region) => self.on_control(region),
            Event::Sessions => self.on_sessions(),
            Event::Mover(region) => self.on_mover(region),
            Event::Word(region, id, reign, incomplete) => self.on_late_word(region, id, reign, incomplete),
        }
    }

    /// An event for a process: it waits while the process stands still.
    fn wake(&mut self, node: usize, start: u64, local: Local) {
        if self.nodes[node].starts != start {
            return;
        }
        let Some(process) = &mut self.nodes[node].process else { return };
        match &mut process.paused {
            Some(waiting) => waiting.push(Event::Process(node, start, local)),
            None => self.on_local(node, local),
        }
    }

    fn resume(&mut self, node: usize, start: u64) {
        if self.nodes[node].starts != start {
            return;
        }
        let waiting = self.nodes[node].process.as_mut().and_then(|process| process.paused.take());
        if waiting.is_some() {
            say!(self, "{} goes on", self.label(node));
        }
        // What has waited comes before what arrives now: tasks take their inputs in order. A stream's end, for one, is told
        // before the next one begins.
        for event in waiting.unwrap_or_default() {
            self.obey(event);
        }
    }

    // ---- the network

    /// Whether a message can pass now.
    pub fn carries(&self, from: Place, to: Place) -> bool {
        let ends = if from < to { (from, to) } else { (to, from) };
        let catalog = |place| matches!(place, Place::Catalog(region) if !self.regions[region].reachable);
        !self.blocked.contains_key(&ends) && !catalog(from) && !catalog(to)
    }

    /// Sends inside a region: it may be lost, doubled, or late.
    pub fn send(&mut self, from: Place, to: Place, packet: Packet) {
        let copies = if self.chance(self.options.lossy) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.carries(from, to) || !self.healing && self.chance(self.options.lossy) {
                continue;
            }
            let slow = !self.healing && self.chance(self.options.slow);
            let delay = if slow { self.between(5000, 250_000) } else { self.between(300, 4000) };
            let mut at = self.now + delay * 1000;
            if self.healing {
                // A healthy connection keeps the order.
                let last = self.arrivals.entry((from, to)).or_default();
                *last = at.max(*last);
                at = *last;
            }
            let event = match (to, &packet) {
                // Between regions that fail less, connections are as they are: they end with either process.
                (Place::Node(node), Packet::Frame(_)) if self.options.scale == Scale::Regions => {
                    Event::Process(node, self.nodes[node].starts, Local::Packet(from, packet.clone()))
                }
                _ => Event::Arrive(from, to, packet.clone()),
            };
            self.after(at - self.now, event);
        }
    }

    /// Of the frames that are on their way to a replica the one that arrives first, in a world of one region.
    pub(crate) fn next_frame(&self, node: usize, id: PartitionId) -> Option<&Frame> {
        self.queue.values().find_map(|event| match event {
            Event::Arrive(_, Place::Node(to), Packet::Frame(frame)) if *to == node && frame.partition == id => {
                Some(frame)
            }
            _ => None,
        })
    }

    /// Whether a packet is on its way.
    pub(crate) fn is_under_way(&self, is_meant: impl Fn(Place, &Packet) -> bool) -> bool {
        self.queue.values().any(|event| event.packet().is_some_and(|(to, packet)| is_meant(to, packet)))
    }

    /// Packets that are on their way arrive at this time, unless they arrive later anyhow.
    pub(crate) fn hold_back(&mut self, until: u64, is_meant: impl Fn(Place, &Packet) -> bool) {
        self.redate(until, |at, to, packet| at < until && is_meant(to, packet));
    }

    /// Packets that are on their way arrive now.
    pub(crate) fn let_go(&mut self, is_meant: impl Fn(Place, &Packet) -> bool) {
        self.redate(self.now, |_, to, packet| is_meant(to, packet));
    }

    fn redate(&mut self, to: u64, is_meant: impl Fn(u64, Place, &Packet) -> bool) {
        let meant = |at: u64, event: &Event| event.packet().is_some_and(|(place, packet)| is_meant(at, place, packet));
        let meant = self.queue.iter().filter(|((at, _), event)| meant(*at, event));
        let keys: Vec<(u64, u64)> = meant.map(|(key, _)| *key).collect();
        for key in keys {
            let event = self.queue.remove(&key).expect("it was just found");
            self.queue.insert((to, key.1), event);
        }
    }

    fn arrive(&mut self, from: Place, to: Place, packet: Packet) {
        match to {
            Place::Catalog(region) if self.regions[region].reachable => self.on_catalog(region, from, packet),
            Place::Catalog(_) => {}
            Place::Node(node) => match packet {
                Packet::Connect(probe) => self.on_connect(node, from, probe),
                packet => {
                    let start = self.nodes[node].starts;
                    self.wake(node, start, Local::Packet(from, packet));
                }
            },
        }
    }

    /// Links carry nothing for a while.
    pub fn block(&mut self, links: Vec<(Place, Place)>, duration: u64) {
        let links: Vec<_> = links.into_iter().map(|(a, b)| if a < b { (a, b) } else { (b, a) }).collect();
        if self.healing {
            return;
        }
        for link in &links {
            *self.blocked.entry(*link).or_default() += 1;
        }
        self.after(duration * MILLI, Event::Unblock(links));
    }

    fn unblock(&mut self, links: &[(Place, Place)]) {
        for link in links {
            if let Some(reasons) = self.blocked.get_mut(link) {
                *reasons -= 1;
                if *reasons == 0 {
                    self.blocked.remove(link);
                }
            }
        }
    }

    // ---- names

    /// A node in words: region and process.
    pub fn label(&self, node: usize) -> String {
        let held = &self.nodes[node];
        format!("{}{}", ["E", "W", "V"][held.region], held.member())
    }

    /// The node of this name in a region.
    pub fn node_of(&self, region: usize, id: types::NodeId) -> usize {
        self.regions[region].first_node + (id.0 - 1) as usize
    }

    /// All ordinals of the database.
    pub fn ordinals(&self) -> impl Iterator<Item = Ordinal> + use<> {
        catalog::database::ordinals(self.options.partitions)
    }
}
