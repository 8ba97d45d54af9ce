//! Three aggregators in one process, over a network that can be cut: who leads, and that nothing decided is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use ::catalog::node::{Addresses, Roles};
use ::catalog::{Command, Outcome, Refusal, State};
use parking_lot::Mutex;
use raft::eraftpb::Message;
use types::{ClusterId, NodeId, Timestamp};

use crate::master::Timestamps;
use crate::master::catalog::{Catalog, CatalogOptions, Inputs};
use crate::master::driver::{Input, Network};

/// What is waited for at the most: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Wires {
    ends: Mutex<BTreeMap<u64, SyncSender<Input>>>,
    /// Nodes that nobody reaches.
    cut: Mutex<BTreeSet<u64>>,
}

/// One node's end of the wires.
struct End(Arc<Wires>);

impl Network for End {
    fn send(&self, message: Message) {
        let cut = self.0.cut.lock();
        if !cut.contains(&message.from)
            && !cut.contains(&message.to)
            && let Some(end) = self.0.ends.lock().get(&message.to)
        {
            let _ = end.try_send(Input::Message(Box::new(message)));
        }
    }
}

struct Group {
    wires: Arc<Wires>,
    dir: tempfile::TempDir,
    nodes: BTreeMap<u64, Catalog>,
}

impl Group {
    /// The first founds it and adds the others.
    async fn of(count: u64) -> Group {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut group = Group { wires: Arc::default(), dir, nodes: BTreeMap::new() };
        for node in 1..=count {
            group.start(node);
        }
        for node in 1..=count {
            group.add(node).await;
        }
        group.wait("all vote", |group| group.voters() == (1..=count).collect()).await;
        group
    }

    fn path(&self, node: u64) -> std::path::PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn start(&mut self, node: u64) {
        let dir = self.path(node);
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        // The thread of a catalog that was stopped lets go of its file a moment later.
        let begun = Instant::now();
        let catalog = loop {
            match self.open(node, &dir) {
                Ok(catalog) => break catalog,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        self.nodes.insert(node, catalog);
    }

    fn open(&self, node: u64, dir: &Path) -> Result<Catalog, crate::master::CatalogError> {
        let inputs = Inputs::new();
        let end = inputs.sender();
        let (empty, wait) = (State::new(ClusterId(7)), Duration::from_secs(5));
        let options = CatalogOptions { dir, node: NodeId(node), empty, found: node == 1, wait };
        let catalog = Catalog::open(options, inputs, Box::new(End(self.wires.clone())), None)?;
        self.wires.ends.lock().insert(node, end);
        Ok(catalog)
    }

    fn stop(&mut self, node: u64) {
        self.wires.ends.lock().remove(&node);
        self.nodes.remove(&node);
    }

    async fn add(&self, node: u64) {
        let addresses = Addresses { rpc: format!("host:{node}"), sql: None, http: None };
        let (number, identity) = (Some(NodeId(node)), u128::from(node));
        let roles = Roles { aggregator: true, leaf: false };
        let register = Command::RegisterNode { number, identity, addresses, roles, group: None };
        for command in [register, Command::AddAggregator { node: NodeId(node) }] {
            self.decide(command).await.expect("it is new");
        }
    }

    fn leader(&self) -> Option<u64> {
        let leads = |catalog: &Catalog| catalog.status().leads;
        let led = self.nodes.iter().filter_map(|(node, catalog)| Some((leads(catalog)?, *node)));
        led.max().map(|(_, node)| node)
    }

    fn voters(&self) -> BTreeSet<u64> {
        let Some(leader) = self.leader() else { return BTreeSet::new() };
        self.nodes[&leader].status().members.voters.iter().map(|node| node.0).collect()
    }

    /// Proposes until it is decided, wherever the leader is, always under one number.
    async fn decide(&self, command: Command) -> Result<Outcome, Refusal> {
        let (id, begun) = (rand::random(), Instant::now());
        loop {
            if let Some(leader) = self.leader()
                && let Ok(decision) = self.nodes[&leader].decide_as(id, command.clone(), None).await
            {
                return decision.outcome;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody decides");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn extend(&self, upper: u64) {
        self.decide(Command::ExtendTimestampBlock { upper: Timestamp(upper) }).await.expect("it is above the last");
    }

    async fn wait(&self, what: &str, holds: impl Fn(&Group) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "it does not come to this: {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn all_have(&self, upper: u64) -> bool {
        self.nodes.values().all(|catalog| catalog.state().timestamps.upper == Timestamp(upper))
    }

    fn check_equal(&self) {
        let states: Vec<_> = self.nodes.values().map(Catalog::state).collect();
        states.iter().for_each(|state| state.check());
        assert!(states.windows(2).all(|pair| pair[0] == pair[1]), "equal logs, equal states");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_and_nothing_decided_is_lost() {
    let mut group = Group::of(3).await;
    for upper in 1..=20 {
        group.extend(upper).await;
    }
    let leader = group.leader().expect("somebody decided");
    group.stop(leader);
    group.extend(21).await;
    assert_ne!(group.leader(), Some(leader));
    group.wait("both have everything", |group| group.all_have(21)).await;
    group.start(leader);
    group.wait("it catches up", |group| group.all_have(21)).await;
    group.check_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_decides_nothing_and_hands_out_nothing() {
    let group = Group::of(3).await;
    group.extend(1).await;
    let old = group.leader().expect("somebody decided");
    let minority = group.nodes[&old].clone();
    let term = minority.office().await.expect("it leads");
    group.wires.cut.lock().insert(old);
    let lost = minority.decide(term, Command::ExtendTimestampBlock { upper: Timestamp(500) });
    let (decided, office) = tokio::join!(lost, minority.office());
    assert!(decided.is_err() && office.is_err(), "{decided:?}, {office:?}");
    group.wait("another leads", |group| group.leader().is_some_and(|leader| leader != old)).await;
    group.extend(2).await;
    group.wires.cut.lock().clear();
    group.wait("all have what the majority decided", |group| group.all_have(2)).await;
    group.check_equal();
    assert!(
        minority.decide(term, Command::ExtendTimestampBlock { upper: Timestamp(9) }).await.is_err(),
        "an old office"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn timestamps_rise_over_masters() {
    let mut group = Group::of(3).await;
    let mut last = Timestamp::ZERO;
    for _ in 0..3 {
        group.wait("one leads", |group| group.leader().is_some()).await;
        let leader = group.leader().expect("it was waited for");
        let timestamps = Timestamps::new(group.nodes[&leader].clone());
        for count in [1, 1000, 1] {
            let first = timestamps.take_here(count).await.expect("it leads");
            assert!(first > last, "{first} after {last}");
            last = Timestamp(first.0 + u64::from(count) - 1);
        }
        for (node, catalog) in group.nodes.iter().filter(|(node, _)| **node != leader) {
            let refused = Timestamps::new(catalog.clone()).take_here(1).await;
            assert!(refused.is_err(), "node {node} does not lead, and gives {refused:?}");
        }
        drop(timestamps);
        group.stop(leader);
        group.wait("another leads", |group| group.leader().is_some()).await;
        group.start(leader);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_lacks_what_was_compacted_is_sent_the_state() {
    let mut group = Group::of(3).await;
    group.wait("all know each other", |group| group.leader().is_some()).await;
    let behind = *group.nodes.keys().find(|node| Some(**node) != group.leader()).expect("two follow");
    group.stop(behind);
    for batch in 0..110 {
        let batch = (1..=100).map(|upper| group.extend(batch * 100 + upper));
        futures::future::join_all(batch).await;
    }
    group.start(behind);
    group.wait("it has everything", |group| group.all_have(11_000)).await;
    group.extend(11_001).await;
    group.wait("it goes on", |group| group.all_have(11_001)).await;
    group.check_equal();
    // And it has kept it.
    group.stop(behind);
    group.start(behind);
    group.wait("it has everything again", |group| group.all_have(11_001)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_restart_and_go_on() {
    let mut group = Group::of(3).await;
    group.extend(7).await;
    (1..=3).for_each(|node| group.stop(node));
    (1..=3).for_each(|node| group.start(node));
    group.extend(8).await;
    group.wait("all have it", |group| group.all_have(8)).await;
    assert_eq!(group.voters(), BTreeSet::from([1, 2, 3]));
    group.check_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_and_go_the_leader_too() {
    let mut group = Group::of(3).await;
    group.start(4);
    group.add(4).await;
    group.wait("four vote", |group| group.voters().len() == 4).await;
    let leader = group.leader().expect("somebody decided");
    group.decide(Command::RemoveNode { node: NodeId(leader) }).await.expect("others stay");
    let left = move |group: &Group| group.voters().len() == 3 && !group.voters().contains(&leader);
    group.wait("the leader has handed over and left", left).await;
    group.stop(leader);
    group.extend(5).await;
    group.wait("the rest goes on", |group| group.all_have(5)).await;
    group.check_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_proposal_is_decided_once_also_by_the_next_leader() {
    let mut group = Group::of(3).await;
    let leader = group.leader().expect("somebody decided");
    let (id, command) = (rand::random(), Command::ExtendTimestampBlock { upper: Timestamp(3) });
    let first = group.nodes[&leader].decide_as(id, command.clone(), None).await.expect("it leads");
    let again = group.nodes[&leader].decide_as(id, command.clone(), None).await.expect("it leads");
    assert_eq!(first.index, again.index);
    group.stop(leader);
    group.wait("another leads", |group| group.leader().is_some()).await;
    let next = group.leader().expect("it was waited for");
    let later = group.nodes[&next].decide_as(id, command, None).await.expect("it leads");
    assert_eq!((first.index, first.outcome), (later.index, later.outcome));
}
