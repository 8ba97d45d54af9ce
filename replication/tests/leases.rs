//! Leases among three nodes whose clocks drift apart, whose messages are late, doubled or lost, and whose processes die
//! and start again: once every member of a reign's set has accepted it, nobody can show a read of an older one.

extern crate perennial_replication as replication;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::time::Duration;

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use replication::{Granted, Heartbeat, Instant, Leases, Planted, Probe, ReplicaOptions};
use types::{DatabaseId, Incarnation, Member, NodeId, Ordinal, PartitionId, Reign, Revision};

const NODES: u64 = 3;

/// What the catalog says of a partition.
#[derive(Clone, Debug)]
struct Word {
    reign: Reign,
    since: Revision,
    /// Rises with every change.
    version: u64,
    primary: Member,
    members: BTreeSet<Member>,
}

type Words = BTreeMap<PartitionId, Word>;

/// A node: its clock, its living process, and what it has promised on its disk.
struct Node {
    /// Nanoseconds of its clock for a thousand real ones.
    rate: u64,
    offset: u64,
    incarnation: u64,
    process: Option<Process>,
    promised: BTreeMap<PartitionId, Reign>,
}

struct Process {
    leases: Leases,
    /// The newest word it has of each partition, by the catalog or by a frame.
    believes: Words,
    obeyed: usize,
}

struct World {
    rng: ChaCha8Rng,
    options: ReplicaOptions,
    real: u64,
    nodes: BTreeMap<u64, Node>,
    history: Vec<Words>,
    beats: Vec<(Member, Member, Heartbeat)>,
    grants: Vec<(Member, Granted)>,
    probes: Vec<(Member, Probe)>,
    accepted: BTreeMap<(PartitionId, Reign), BTreeSet<Member>>,
    started: BTreeMap<PartitionId, Reign>,
    /// How often a read was allowed, and how often a reign was started: a test that does neither shows nothing.
    reads: u64,
    starts: u64,
}

fn partitions() -> [PartitionId; 2] {
    [0, 1].map(|ordinal| PartitionId { database: DatabaseId(1), ordinal: Ordinal(ordinal) })
}

fn process_of(node: u64, incarnation: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

impl World {
    fn new(seed: u64, planted: Option<Planted>) -> World {
        let options = ReplicaOptions { planted, ..ReplicaOptions::default() };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let members: BTreeSet<Member> = (1..=NODES).map(|node| process_of(node, 1)).collect();
        let word =
            |primary| Word { reign: Reign(1), since: Revision(0), version: 0, primary, members: members.clone() };
        let words: Words = partitions().into_iter().zip([1, 2].map(|node| word(process_of(node, 1)))).collect();
        let nodes = (1..=NODES).map(|node| {
            // Two clocks differ by 1045/955 at most: 90 % of a grant covers that.
            let (rate, offset) = (rng.random_range(955..=1045), rng.random_range(0..1 << 40));
            let mut node_ = Node { rate, offset, incarnation: 0, process: None, promised: BTreeMap::new() };
            node_.start(node, 0, &options, true);
            (node, node_)
        });
        let nodes = nodes.collect();
        World {
            rng,
            options,
            real: 0,
            nodes,
            history: vec![words],
            beats: vec![],
            grants: vec![],
            probes: vec![],
            accepted: BTreeMap::new(),
            started: BTreeMap::new(),
            reads: 0,
            starts: 0,
        }
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.rng.random_range(0..=most)
    }

    fn any_node(&mut self) -> u64 {
        1 + self.up_to(NODES - 1)
    }

    fn alive(&self, member: Member) -> bool {
        let node = &self.nodes[&member.node.0];
        node.process.is_some() && node.incarnation == member.incarnation.0
    }

    fn step(&mut self, kind: u8) {
        let (node, peer) = (self.any_node(), self.any_node());
        match kind {
            0..=3 => self.real += self.up_to(60) * 1_000_000,
            4..=6 if node != peer => self.ask(node, peer),
            7..=9 => self.answer(),
            10..=12 => self.take(),
            13 => self.name(),
            24 => self.grow(node),
            14 | 15 => self.hear_catalog(node),
            16 => self.hear_frame(node),
            17 if self.up_to(2) == 0 => self.die(node),
            18 => self.start(node),
            23 => {
                // A crash, and a process that is back at once.
                self.die(node);
                self.start(node);
                self.replace(node);
                self.hear_catalog(node);
            }
            19 => self.replace(node),
            20 if node != peer => self.connect(node, peer),
            21 => self.refuse(),
            22 if node != peer && self.nodes[&peer].process.is_some() => {
                let member = process_of(peer, self.nodes[&peer].incarnation);
                self.with(node, |process, now| process.leases.note(now, member));
            }
            _ => {}
        }
        self.accept();
        self.check();
    }

    fn with<R>(&mut self, node: u64, run: impl FnOnce(&mut Process, Instant) -> R) -> Option<R> {
        let real = self.real;
        let node = self.nodes.get_mut(&node).expect("there are three");
        let now = node.now(real);
        node.process.as_mut().map(|process| run(process, now))
    }

    // ---- heartbeats: each goes from process to process, late, perhaps twice

    fn ask(&mut self, node: u64, peer: u64) {
        let to = process_of(peer, self.nodes[&peer].incarnation);
        let from = process_of(node, self.nodes[&node].incarnation);
        if let Some(beat) = self.with(node, |process, now| process.leases.heartbeat(now)) {
            self.beats.push((from, to, beat));
        }
    }

    fn answer(&mut self) {
        if self.beats.is_empty() {
            return;
        }
        let index = self.up_to(self.beats.len() as u64 - 1) as usize;
        let (from, to, beat) = self.beats.swap_remove(index);
        if self.alive(to) {
            let granted = self.with(to.node.0, |process, now| process.leases.on_heartbeat(now, &beat));
            self.grants.extend(granted.map(|(granted, _)| (from, granted)));
            if self.up_to(4) == 0 {
                self.beats.push((from, to, beat));
            }
        }
    }

    fn take(&mut self) {
        if self.grants.is_empty() {
            return;
        }
        let index = self.up_to(self.grants.len() as u64 - 1) as usize;
        let (to, granted) = self.grants.swap_remove(index);
        if self.alive(to) {
            self.with(to.node.0, |process, now| process.leases.on_granted(now, &granted));
            if self.up_to(4) == 0 {
                self.grants.push((to, granted));
            }
        }
    }

    // ---- the catalog

    fn latest(&self) -> &Words {
        self.history.last().expect("it begins with one")
    }

    /// A living member of the set is named, without the old primary.
    fn name(&mut self) {
        let id = partitions()[self.up_to(1) as usize];
        let mut words = self.latest().clone();
        let word = words.get_mut(&id).expect("both partitions are there from the start");
        let others: Vec<Member> =
            word.members.iter().copied().filter(|m| *m != word.primary && self.alive(*m)).collect();
        let Some(primary) = others.first().copied() else { return };
        let members = others.into_iter().collect();
        let (reign, version) = (Reign(word.reign.0 + 1), word.version + 1);
        *word = Word { reign, since: Revision(self.history.len() as u64), version, primary, members };
        self.history.push(words);
    }

    /// A primary that knows its set adds a process, and waits for it from before the catalog does.
    fn grow(&mut self, node: u64) {
        let id = partitions()[self.up_to(1) as usize];
        let mut words = self.latest().clone();
        let word = words.get_mut(&id).expect("both partitions are there from the start");
        let (new, primary) = (process_of(node, self.nodes[&node].incarnation), word.primary);
        if word.members.iter().any(|member| member.node.0 == node) || !self.alive(new) || !self.alive(primary) {
            return;
        }
        let before = word.version;
        word.members.insert(new);
        word.version += 1;
        let grown = self.with(primary.node.0, |process, _| {
            let known = process.believes.get_mut(&id).filter(|known| known.version == before);
            known.map(|known| known.members.insert(new)).is_some()
        });
        if grown == Some(true) {
            self.history.push(words);
        }
    }

    /// The new process of a member's node takes its place.
    fn replace(&mut self, node: u64) {
        let Node { incarnation, process, .. } = &self.nodes[&node];
        let (new, alive) = (process_of(node, *incarnation), process.is_some());
        let mut words = self.latest().clone();
        let mut changed = false;
        for word in words.values_mut().filter(|word| alive && word.primary.node.0 != node) {
            let old = word.members.iter().copied().find(|member| member.node.0 == node && *member != new);
            if let Some(old) = old {
                word.members.remove(&old);
                word.members.insert(new);
                word.version += 1;
                changed = true;
            }
        }
        if changed {
            self.history.push(words);
        }
    }

    fn hear_catalog(&mut self, node: u64) {
        let latest = self.history.len() - 1;
        let obeyed = self.with(node, |process, _| process.obeyed).unwrap_or(latest);
        let to = obeyed + self.up_to((latest - obeyed) as u64) as usize;
        let words = self.history[to].clone();
        self.with(node, |process, now| {
            words.iter().for_each(|(id, word)| process.hear(now, *id, word));
            process.leases.obeyed(Revision(to as u64));
            process.obeyed = to;
        });
    }

    fn hear_frame(&mut self, node: u64) {
        let id = partitions()[self.up_to(1) as usize];
        let revision = self.up_to(self.history.len() as u64 - 1) as usize;
        let word = self.history[revision][&id].clone();
        self.with(node, |process, now| process.hear(now, id, &word));
    }

    // ---- processes

    fn die(&mut self, node: u64) {
        self.nodes.get_mut(&node).expect("there are three").process = None;
    }

    fn start(&mut self, node: u64) {
        let (real, options) = (self.real, self.options.clone());
        let at = self.nodes.get_mut(&node).expect("there are three");
        if at.process.is_none() {
            at.start(node, real, &options, false);
        }
    }

    /// A connection closes, and another attempt begins; the host refuses it only if no process listens now.
    fn connect(&mut self, node: u64, peer: u64) {
        let from = process_of(node, self.nodes[&node].incarnation);
        let probe = self.with(node, |process, _| process.leases.on_closed(NodeId(peer))).flatten();
        if self.nodes[&peer].process.is_none() {
            self.probes.extend(probe.map(|probe| (from, probe)));
        }
    }

    fn refuse(&mut self) {
        if let Some((from, probe)) = self.probes.pop()
            && self.alive(from)
        {
            self.with(from.node.0, |process, _| process.leases.on_refused(probe));
        }
    }

    /// Whoever may accept what it knows does.
    fn accept(&mut self) {
        for node in 1..=NODES {
            let member = process_of(node, self.nodes[&node].incarnation);
            for id in partitions() {
                let known = self.with(node, |process, now| {
                    let word = process.believes.get(&id).cloned();
                    word.filter(|_| process.leases.may_accept(now, id))
                });
                let Some(word) = known.flatten() else { continue };
                let promised = self.nodes.get_mut(&node).expect("there are three").promised.entry(id).or_default();
                if word.reign < *promised {
                    continue;
                }
                *promised = word.reign;
                let accepted = self.accepted.entry((id, word.reign)).or_default();
                accepted.insert(member);
                let started = self.started.entry(id).or_default();
                if word.reign > *started && word.members.is_subset(accepted) {
                    *started = word.reign;
                    self.starts += 1;
                }
            }
        }
    }

    /// Nobody who believes an older reign than one that has started may show what it reads.
    fn check(&mut self) {
        for node in 1..=NODES {
            let me = process_of(node, self.nodes[&node].incarnation);
            for id in partitions() {
                let started = self.started.get(&id).copied().unwrap_or_default();
                let reads = self.with(node, |process, now| {
                    let word = process.believes.get(&id).filter(|word| word.primary == me)?;
                    let held = |m: &Member| *m == me || process.leases.held_until(id, *m) > now;
                    word.members.iter().all(held).then_some((word.reign, word.members.len()))
                });
                let Some((reign, members)) = reads.flatten() else { continue };
                assert!(reign >= started, "{me} may read in reign {reign} of {id}, reign {started} has started");
                self.reads += u64::from(members > 1);
            }
        }
    }
}

impl Node {
    fn now(&self, real: u64) -> Instant {
        Instant(self.offset + (u128::from(real) * u128::from(self.rate) / 1000) as u64)
    }

    fn start(&mut self, node: u64, real: u64, options: &ReplicaOptions, first: bool) {
        self.incarnation += 1;
        let leases = Leases::new(process_of(node, self.incarnation), options.clone(), self.now(real), first);
        self.process = Some(Process { leases, believes: Words::new(), obeyed: 0 });
    }
}

impl Process {
    fn hear(&mut self, now: Instant, id: PartitionId, word: &Word) {
        self.leases.learn(now, id, word.reign, word.since, word.primary);
        if self.believes.get(&id).is_none_or(|known| known.version < word.version) {
            self.believes.insert(id, word.clone());
        }
    }
}

/// A history of random steps.
fn play(seed: u64, steps: u64, planted: Option<Planted>) -> World {
    let mut world = World::new(seed, planted);
    for _ in 0..steps {
        let kind = world.up_to(24) as u8;
        world.step(kind);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn an_older_reign_reads_nothing(seed: u64, steps in 1u64..400) {
        play(seed, steps, None);
    }
}

/// The property above is worth something only if reads are allowed and reigns do start.
#[test]
fn reads_and_starts_happen() {
    let worlds: Vec<World> = (0..200).map(|seed| play(seed, 300, None)).collect();
    let reads: u64 = worlds.iter().map(|world| world.reads).sum();
    let starts: u64 = worlds.iter().map(|world| world.starts).sum();
    assert!(reads > 400 && starts > 150, "{reads} reads and {starts} starts in 200 histories");
}

/// And only if it fails where a rule is left out. (`RefusedLate` takes too many histories; a golden script shows it.)
#[test]
fn planted_bugs_are_found() {
    let planted = [
        Planted::LeaseFromReceipt,
        Planted::OrderAlone,
        Planted::ClosedIsDeath,
        Planted::RestartForgets,
        Planted::GrantsRenewed,
        Planted::HeartbeatVoids,
    ];
    for planted in planted {
        let found = (0..20_000).find(|seed| catch_unwind(|| play(*seed, 300, Some(planted))).is_err());
        assert!(found.is_some(), "{planted:?} is not found");
    }
}

/// The holder's part of a grant is shorter than the granter's on any two clocks that drift apart by less than the rest.
#[test]
fn counted_part_covers_the_drift() {
    let options = ReplicaOptions::default();
    let counted = options.counted(options.lease);
    assert_eq!(counted, Duration::from_millis(225));
    assert!(counted * 1045 / 955 < options.lease);
}

/// Whoever did not listen has heard nobody, and knows of nobody's silence.
#[test]
fn nobody_is_silent_to_the_deaf() {
    let (me, peer) = (process_of(1, 1), process_of(2, 1));
    let at = |millis: u64| Instant(millis * 1_000_000);
    let mut leases = Leases::new(me, ReplicaOptions::default(), at(0), true);
    leases.deaf(at(5));
    assert_eq!(leases.heard(peer.node), None, "it has never been heard");
    leases.note(at(10), peer);
    leases.deaf(at(900));
    leases.deaf(at(800));
    assert_eq!(leases.heard(peer.node), Some(at(900)));
    leases.note(at(950), peer);
    assert_eq!(leases.heard(peer.node), Some(at(950)));
}
