//! Partitions that move, leaves that go, and what fails meanwhile: random histories, and a few that have a name.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use catalog::command::{Command, LeafChange, PlanMoves, PlannedMove, SetChange};
use catalog::database::Options;
use catalog::decide::balance::{Aim, plan};
use catalog::decide::moves::{Copy, Ear, Memory, Pace, Planted, decide, there};
use catalog::decide::{Heard, failover, placement};
use catalog::event::UnixMillis;
use catalog::movement::Reason;
use catalog::node::{Group, Standing};
use catalog::outcome::Refusal;
use catalog::partition::Partition;
use catalog::state::State;
use perennial_catalog as catalog;
use proptest::prelude::*;
use types::{DatabaseId, Fence, Lsn, Member, Mode, NodeId, PartitionId, Revision};

const MILLI: u64 = 1_000_000;
const TIMEOUT: u64 = 1500 * MILLI;
/// Between two looks.
const LOOK: u64 = 100 * MILLI;

const ASYNC: Mode = Mode { sync_durability: true, sync_replication: false };

fn pace() -> Pace {
    Pace {
        at_once: 2,
        failure_timeout: TIMEOUT,
        drain: 3000 * MILLI,
        kill_after: 1000 * MILLI,
        rest: 5000 * MILLI,
        give_up: 60_000 * MILLI,
        near: 10,
        planted: None,
    }
}

/// A region without bytes: logs are numbers, the catalog and its deciders are the real ones.
struct World {
    state: State,
    heard: Heard,
    memory: Memory,
    now: u64,
    bits: u64,
    /// Leaves whose process runs, and what it has obeyed.
    lives: BTreeMap<NodeId, Revision>,
    /// Where the copies end.
    ends: BTreeMap<(PartitionId, NodeId), u64>,
    /// A client keeps a transaction open.
    open: BTreeSet<PartitionId>,
    pace: Pace,
}

impl World {
    fn new(leaves: u64, partitions: u32, redundancy: u8, mode: Mode) -> World {
        let mut state = support::cluster(leaves);
        let mut early = placement::candidates(&state);
        early.truncate(usize::from(redundancy).max(leaves as usize - 1));
        let placed = placement::assign(&early, partitions, redundancy).expect("there are leaves enough");
        let mut create = support::creating("db", mode, placed);
        create.options = Options { redundancy, ..Options::default() };
        support::done(&mut state, &Command::CreateDatabase(create));
        let lives = (1..=leaves).map(|leaf| (NodeId(leaf), state.revision)).collect();
        let (heard, memory, ends) = (Heard::new(0), Memory::default(), BTreeMap::new());
        let mut world =
            World { state, heard, memory, now: 0, bits: 7, lives, ends, open: BTreeSet::new(), pace: pace() };
        world.hear();
        world
    }

    fn database(&self) -> DatabaseId {
        self.state.database_named("db").expect("it was made").0
    }

    fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        let done = self.state.apply(UnixMillis(self.now / MILLI), command).map(|_| ());
        self.state.check();
        done
    }

    fn must(&mut self, command: &Command) {
        self.apply(command).unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
    }

    fn end(&self, id: PartitionId, node: NodeId) -> u64 {
        self.ends.get(&(id, node)).copied().unwrap_or(0)
    }

    fn hear(&mut self) {
        for node in self.lives.keys() {
            let member = self.state.member(*node).expect("it is registered");
            self.heard.heartbeat(member, self.now);
            self.heard.answered(member, self.now);
        }
    }

    fn leads(&self, id: PartitionId, member: Member) -> bool {
        // It has obeyed its reign, and has not heard of a later one.
        let held = &self.state.partitions[&id];
        let obeyed = self.lives.get(&member.node).copied().unwrap_or_default();
        held.primary == member && self.state.member(member.node) == Some(member) && obeyed >= held.reign_revision
    }

    fn copy(&self, id: PartitionId, member: Member) -> Option<Copy> {
        let obeyed = *self.lives.get(&member.node)?;
        let (held, end) = (&self.state.partitions[&id], Lsn(self.end(id, member.node)));
        let leads = self.leads(id, member);
        let sealed = held.handover.and_then(|handover| handover.sealed).is_some_and(|since| obeyed >= since);
        // The seal rolls back what is open.
        let busy = self.open.contains(&id) && !sealed;
        let epoch = held.grant.map(|grant| grant.epoch);
        Some(Copy {
            obeyed,
            reign: held.reign,
            epoch,
            appended: end,
            durable: end,
            repairing: false,
            busy: leads.then_some(busy),
            final_position: (leads && sealed && !busy).then_some(end),
        })
    }

    /// What the primaries do: write, feed, and propose who has caught up or is silent.
    fn primaries(&mut self) {
        for id in self.state.partitions.keys().copied().collect::<Vec<_>>() {
            let held = self.state.partitions[&id].clone();
            if !self.leads(id, held.primary) {
                continue;
            }
            let (primary, obeyed) = (held.primary.node, self.lives[&held.primary.node]);
            let fenced = match self.state.view(id).expect("it is there").fence {
                Fence::Sealed(since) | Fence::Draining(since) => obeyed >= since,
                Fence::None => false,
            };
            let fed: BTreeSet<NodeId> = self.state.view(id).expect("it is there").replicas;
            let sync = self.state.databases[&id.database].mode.sync_replication;
            let all_live = held.members.iter().all(|member| self.lives.contains_key(&member.node));
            if !fenced && (!sync || all_live) {
                *self.ends.entry((id, primary)).or_default() += 3;
            }
            let end = self.end(id, primary);
            for node in fed.iter().filter(|node| **node != primary && self.lives.contains_key(node)) {
                let lag = if sync || fenced { 0 } else { 3 };
                self.ends.insert((id, *node), end.saturating_sub(lag).max(self.end(id, *node)).min(end));
            }
            if !sync {
                continue;
            }
            let silent = |member: &&Member| !self.lives.contains_key(&member.node) && **member != held.primary;
            let joining = fed.iter().filter(|node| self.lives.contains_key(node));
            let mut joining = joining.filter(|node| held.members.iter().all(|member| member.node != **node));
            let change = held.members.iter().find(silent).map(|member| SetChange::Remove(*member));
            let add = || joining.next().and_then(|node| self.state.member(*node)).map(SetChange::Add);
            if let Some(change) = change.or_else(add) {
                let (reign, version) = (held.reign, held.version);
                self.must(&Command::ProposeSet { partition: id, reign, version, change });
            }
        }
    }

    /// One look of everybody.
    fn step(&mut self) {
        self.now += LOOK;
        self.primaries();
        let revision = self.state.revision;
        for obeyed in self.lives.values_mut() {
            *obeyed = revision;
        }
        for (node, id) in self.state.removals.keys().copied().collect::<Vec<_>>() {
            if self.lives.contains_key(&node) {
                self.ends.remove(&(id, node));
                self.must(&Command::ReplicaGone { partition: id, node });
            }
        }
        self.hear();
        let mut seed = self.bits;
        let mut bits = || {
            seed += 1;
            seed
        };
        let mut commands = failover::decide(&self.state, &self.heard, self.now, TIMEOUT, &mut bits);
        let mut memory = std::mem::take(&mut self.memory);
        let copy = |id, member| self.copy(id, member);
        let ear = Ear { heard: &self.heard, copy: &copy, now: self.now };
        let moves = decide(&self.state, &ear, &mut memory, &self.pace, &mut bits);
        (self.memory, self.bits) = (memory, seed);
        commands.extend(moves);
        for command in commands {
            self.carry_out(&command);
        }
    }

    /// Whatever the master decides by itself takes no copy away that is needed.
    fn carry_out(&mut self, command: &Command) {
        let before = self.state.clone();
        if self.apply(command).is_err() {
            return;
        }
        for (id, held) in &self.state.partitions {
            let old = &before.partitions[id];
            let (was, is) = (old.members.len(), held.members.len());
            let goes = |member: &Member| before.nodes[&member.node].standing != Standing::Online;
            let may_shrink = matches!(command, Command::NamePrimary(_)) || old.members.iter().any(goes);
            let redundancy = usize::from(before.databases[&id.database].options.redundancy);
            assert!(may_shrink || is >= was.min(redundancy), "{command:?} shrinks {old:?} to {held:?}");
            if old.handover.is_some() && held.reign != old.reign && self.lives.contains_key(&old.primary.node) {
                let (from, to) = (self.end(*id, old.primary.node), self.end(*id, held.primary.node));
                assert_eq!(from, to, "{command:?} loses what {} held of {id}", old.primary);
            }
            let sealed = |held: &Partition| held.handover.is_some_and(|handover| handover.sealed.is_some());
            let named = old.handover.is_some() && held.reign != old.reign && !sealed(old);
            if (named || sealed(held) && !sealed(old)) && self.lives.contains_key(&old.primary.node) {
                let killed =
                    before.nodes.values().any(|node| matches!(node.standing, Standing::Draining { kill: true, .. }));
                let lived = before.member(old.primary.node) == Some(old.primary);
                assert!(killed || !lived || !self.open.contains(id), "{command:?} rolls transactions back");
            }
        }
        // Those that wait for a leaf that is away hold nobody up, and may be more when it comes back.
        let begun = self.state.moves.values().filter(|wanted| wanted.begun.is_some());
        let under_way = begun.filter(|wanted| wanted.replicas.iter().all(|node| self.lives.contains_key(node))).count();
        let begins = matches!(command, Command::BeginMove { .. });
        assert!(!begins || under_way <= self.pace.at_once, "{under_way} moves at once");
    }

    fn kill(&mut self, node: NodeId) {
        self.lives.remove(&node);
    }

    fn start(&mut self, node: NodeId) {
        let known = &self.state.nodes[&node];
        if self.lives.contains_key(&node) || known.removed {
            return;
        }
        let incarnation = types::Incarnation(known.incarnation.0 + 1);
        let addresses = known.addresses.clone();
        self.must(&Command::NodeStarted { node, incarnation, addresses });
        self.lives.insert(node, self.state.revision);
    }

    fn order(&mut self, aim: Aim) {
        let there = there(&self.state, &self.heard, self.now, TIMEOUT);
        if let Ok(moves) = plan(&self.state, &[self.database()], &there, aim)
            && !moves.is_empty()
        {
            let order = PlanMoves { moves, reason: Reason::Rebalance, kill: false };
            // Refused where a move has begun since.
            let _ = self.apply(&Command::PlanMoves(order));
        }
    }

    /// Until nothing is on its way any more.
    fn settle(&mut self) {
        for _ in 0..3000 {
            self.step();
            if self.is_settled() {
                return;
            }
        }
        panic!("it does not end: {:?}\n{:?}\n{:?}", self.state.moves, self.state.partitions, self.state.nodes);
    }

    fn is_settled(&self) -> bool {
        let goes = |node: &catalog::node::Node| matches!(node.standing, Standing::Draining { .. }) && !node.removed;
        let sync = self.state.databases.values().all(|database| database.mode.sync_replication);
        let whole = |(id, held): (&PartitionId, &catalog::partition::Partition)| {
            let fed = self.state.view(*id).expect("it is there").replicas;
            let members: BTreeSet<NodeId> = held.members.iter().map(|member| member.node).collect();
            let aside = members.iter().any(|node| self.state.nodes[node].is_aside());
            held.handover.is_none() && !aside && (!sync || fed == members)
        };
        self.state.moves.is_empty()
            && !self.state.nodes.values().any(goes)
            && self.state.partitions.iter().all(whole)
            && self.state.removals.keys().all(|(node, _)| !self.lives.contains_key(node))
    }

    fn copies(&self, node: u64) -> usize {
        self.state.partitions.values().filter(|held| held.replicas.contains(&NodeId(node))).count()
    }

    fn standing(&mut self, node: u64, change: LeafChange) -> Result<(), Refusal> {
        self.apply(&Command::ChangeLeaf { node: NodeId(node), change })
    }
}

const REMOVE: LeafChange = LeafChange::Remove { force: false, kill: false };
const FORCE: LeafChange = LeafChange::Remove { force: true, kill: false };
const DETACH: LeafChange = LeafChange::Detach { force: false, kill: false };

#[test]
fn a_new_leaf_gets_its_share_and_an_old_one_is_emptied() {
    for mode in [support::SYNC, ASYNC] {
        let mut world = World::new(4, 8, 2, mode);
        assert_eq!(world.copies(4), 0);
        world.order(Aim::Balance);
        world.settle();
        assert_eq!((1..=4).map(|leaf| world.copies(leaf)).collect::<BTreeSet<_>>(), [4, 5].into());
        world.standing(1, REMOVE).unwrap();
        world.settle();
        assert!(world.state.nodes[&NodeId(1)].removed);
        assert_eq!((2..=4).map(|leaf| world.copies(leaf)).sum::<usize>(), 18);
    }
}

#[test]
fn a_dead_leaf_is_replaced_and_let_go() {
    let mut world = World::new(3, 6, 2, support::SYNC);
    world.kill(NodeId(1));
    (0..40).for_each(|_| world.step());
    world.order(Aim::Restore);
    world.settle();
    assert_eq!((world.copies(1), world.copies(2), world.copies(3)), (0, 7, 7));
    world.standing(1, FORCE).unwrap();
    world.settle();
    assert!(world.state.nodes[&NodeId(1)].removed);
}

#[test]
fn the_last_copy_is_not_given_up() {
    let mut world = World::new(2, 2, 1, support::SYNC);
    for change in [FORCE, DETACH, LeafChange::Detach { force: true, kill: true }] {
        let refusal = world.standing(1, change).unwrap_err().to_string();
        assert!(refusal.contains("last copy of db:-1"), "{refusal}");
        let helps = refusal.contains("ALTER DATABASE db SET OPTIONS (redundancy = 2)");
        assert!(helps && !refusal.contains("RESTORE REDUNDANCY"), "there is nothing to restore: {refusal}");
    }
    let mut world = World::new(3, 2, 2, support::SYNC);
    world.kill(NodeId(1));
    (0..40).for_each(|_| world.step());
    let refusal = world.standing(2, FORCE).unwrap_err().to_string();
    assert!(refusal.contains("last copy"), "its partner is out of the set: {refusal}");
    assert!(refusal.contains("RESTORE REDUNDANCY") && !refusal.contains("ALTER DATABASE"), "{refusal}");
}

#[test]
fn a_detached_leaf_is_waited_for_by_nobody_and_comes_back() {
    let mut world = World::new(3, 6, 2, support::SYNC);
    let held = world.copies(1);
    world.standing(1, DETACH).unwrap();
    world.settle();
    let in_set = |world: &World| {
        let members = world.state.partitions.values().flat_map(|held| held.members.iter());
        members.filter(|member| member.node == NodeId(1)).count()
    };
    assert_eq!((in_set(&world), world.copies(1)), (0, held), "it keeps its copies");
    world.kill(NodeId(1));
    (0..40).for_each(|_| world.step());
    world.start(NodeId(1));
    (0..40).for_each(|_| world.step());
    assert_eq!(in_set(&world), 0, "nobody feeds it before it is attached");
    world.standing(1, LeafChange::Attach).unwrap();
    world.settle();
    assert_eq!(in_set(&world), held);
}

#[test]
fn min_in_sync_is_not_broken_by_a_detached_leaf_unless_forced() {
    let mut world = World::new(2, 2, 2, support::SYNC);
    let options = Options { min_in_sync: 2, ..Options::default() };
    world.must(&Command::AlterDatabase { name: "db".into(), mode: support::SYNC, options });
    let refusal = world.standing(1, DETACH).unwrap_err();
    assert!(matches!(refusal, Refusal::Force { .. }), "{refusal}");
    world.standing(1, LeafChange::Detach { force: true, kill: false }).unwrap();
}

#[test]
fn with_async_replication_min_in_sync_keeps_no_leaf_from_being_detached() {
    let mut world = World::new(2, 2, 2, ASYNC);
    world.standing(1, DETACH).unwrap();
    let refusal = world.standing(2, DETACH).unwrap_err().to_string();
    assert!(refusal.contains("last copy"), "{refusal}");
}

#[test]
fn events_say_which_settings_were_changed_and_keep_the_name_of_what_is_gone() {
    let mut world = World::new(2, 2, 2, support::SYNC);
    let id = world.database();
    let options = Options { min_in_sync: 2, ..Options::default() };
    world.must(&Command::AlterDatabase { name: "db".into(), mode: ASYNC, options });
    let said = world.state.events.back().expect("it was said").text.clone();
    assert!(said.ends_with("other settings: REPLICATION = ASYNC (was SYNC), min_in_sync = 2 (was 1)"), "{said}");
    world.must(&Command::DropDatabase { name: "db".into() });
    let dropped = world.state.events.back().expect("it was said");
    assert_eq!((dropped.database, dropped.dropped_name()), (Some(id), Some("db")));
    assert_eq!(world.state.events.front().expect("there are more").dropped_name(), None);
}

#[test]
fn a_leaf_that_was_started_later_waits_for_add_leaf() {
    let mut world = World::new(2, 2, 2, support::SYNC);
    let roles = catalog::node::Roles { aggregator: false, leaf: true };
    let addresses = support::addresses(9);
    world.must(&Command::RegisterNode { number: None, identity: 9, addresses, roles, group: None });
    world.must(&support::started(3, 1));
    assert!(placement::candidates(&world.state).iter().all(|leaf| leaf.node != NodeId(3)));
    let refusal = world.standing(3, DETACH).unwrap_err().to_string();
    assert!(refusal.contains("ADD LEAF"), "{refusal}");
    world.standing(3, LeafChange::Add { group: Some(4) }).unwrap();
    assert!(placement::candidates(&world.state).iter().any(|leaf| leaf.node == NodeId(3)));
    let group = |world: &World| world.state.nodes[&NodeId(3)].group;
    world.standing(3, LeafChange::Add { group: None }).unwrap();
    assert_eq!(group(&world), Group::Named(4), "nothing was said of it");
    world.standing(3, LeafChange::AddApart).unwrap();
    assert_eq!(group(&world), Group::Own(NodeId(3)));
    world.standing(3, DETACH).unwrap();
    let refusal = world.standing(3, LeafChange::AddApart).unwrap_err().to_string();
    assert!(refusal.contains("ATTACH LEAF"), "{refusal}");
}

#[test]
fn transactions_that_stay_open_hold_a_hand_over_up_until_they_are_killed() {
    let cases =
        [(false, false, support::SYNC), (true, true, support::SYNC), (false, false, ASYNC), (true, true, ASYNC)];
    for (kill, moved, mode) in cases {
        let mut world = World::new(3, 2, 2, mode);
        world.open = world.state.partitions.keys().copied().collect();
        world.standing(1, LeafChange::Remove { force: false, kill }).unwrap();
        (0..400).for_each(|_| world.step());
        assert_eq!(world.state.nodes[&NodeId(1)].removed, moved);
        let written = world.state.partitions.keys().all(|id| {
            let primary = world.state.partitions[id].primary.node;
            world.end(*id, primary) > 300
        });
        assert!(written, "a partition takes writes again when it was not handed over in time");
        world.open.clear();
        world.settle();
        assert!(world.state.nodes[&NodeId(1)].removed);
    }
}

#[test]
fn kill_counts_for_what_was_ordered_before() {
    let mut world = World::new(3, 2, 2, support::SYNC);
    world.open = world.state.partitions.keys().copied().collect();
    world.standing(1, LeafChange::Remove { force: false, kill: false }).unwrap();
    (0..100).for_each(|_| world.step());
    assert!(!world.state.nodes[&NodeId(1)].removed && !world.state.moves.is_empty(), "transactions hold it up");
    world.standing(1, LeafChange::Remove { force: false, kill: true }).unwrap();
    (0..100).for_each(|_| world.step());
    assert!(world.state.nodes[&NodeId(1)].removed, "the moves were planned without KILL");

    let mut world = World::new(4, 2, 2, support::SYNC);
    world.open = world.state.partitions.keys().copied().collect();
    let ordered = |state: &State, kill| {
        let planned = |(id, wanted): (&PartitionId, &catalog::movement::Move)| PlannedMove {
            partition: *id,
            based: state.partitions[id].replicas.clone(),
            replicas: wanted.replicas.clone(),
            primary: wanted.primary,
        };
        let moves = state.moves.iter().map(planned).collect();
        Command::PlanMoves(PlanMoves { moves, reason: Reason::Rebalance, kill })
    };
    let (id, held) = world.state.partitions.iter().map(|(id, held)| (*id, held.clone())).next().expect("one is there");
    let next = *held.replicas.iter().find(|node| **node != held.primary.node).expect("it has two copies");
    let planned = PlannedMove { partition: id, based: held.replicas.clone(), replicas: held.replicas, primary: next };
    let plan = PlanMoves { moves: vec![planned], reason: Reason::Rebalance, kill: false };
    world.must(&Command::PlanMoves(plan));
    (0..100).for_each(|_| world.step());
    assert!(world.state.moves[&id].begun.is_some(), "transactions hold it up");
    let again = ordered(&world.state, false);
    world.must(&again);
    assert!(!world.state.moves[&id].kill, "a repeated order changes nothing");
    let killing = ordered(&world.state, true);
    world.must(&killing);
    assert!(world.state.moves[&id].kill);
}

#[test]
fn a_hand_over_that_does_not_get_on_is_tried_less_and_less() {
    let mut world = World::new(3, 1, 2, support::SYNC);
    world.open = world.state.partitions.keys().copied().collect();
    world.standing(1, REMOVE).unwrap();
    let drains = |world: &World| world.state.partitions.values().any(|held| held.handover.is_some());
    let mut drained = 0;
    for _ in 0..1000 {
        world.step();
        drained += usize::from(drains(&world));
    }
    assert!((60..250).contains(&drained), "{drained} looks of 1000, in which nobody may begin to write");
    world.open.clear();
    world.settle();
    assert!(world.state.nodes[&NodeId(1)].removed);
}

#[test]
fn a_move_to_a_leaf_that_is_gone_is_given_up_and_planned_anew() {
    let mut world = World::new(4, 4, 2, support::SYNC);
    world.kill(NodeId(4));
    (0..20).for_each(|_| world.step());
    world.start(NodeId(4));
    (0..20).for_each(|_| world.step());
    world.standing(1, REMOVE).unwrap();
    // It goes in the middle.
    world.step();
    world.step();
    world.kill(NodeId(4));
    world.settle();
    assert_eq!((world.copies(1), world.copies(4)), (0, 0));
    assert!(world.state.nodes[&NodeId(1)].removed);
}

/// A new leaf gets its share, and an old one goes, with a rule left out.
fn with_planted(planted: Planted, mode: Mode) {
    let mut world = World::new(4, 8, 2, mode);
    world.pace.planted = Some(planted);
    world.open = world.state.partitions.keys().copied().collect();
    if mode == ASYNC {
        world.open.clear();
    }
    world.standing(1, REMOVE).unwrap();
    (0..100).for_each(|_| world.step());
}

#[test]
#[should_panic(expected = "rolls transactions back")]
fn a_hand_over_that_does_not_wait_for_transactions_is_noticed() {
    with_planted(Planted::HandOverBusy, support::SYNC);
}

#[test]
#[should_panic(expected = "loses what")]
fn a_hand_over_to_who_lacks_something_is_noticed() {
    with_planted(Planted::HandOverUnsealed, ASYNC);
}

/// What may happen beside.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(u64),
    Start(u64),
    /// Another aggregator leads: it has heard nobody, and remembers nothing.
    Master,
    Order(u8),
    Leaf(u64, u8),
    Open(u8),
    Wait(u8),
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let leaf = 1..6u64;
    let one = prop_oneof![
        leaf.clone().prop_map(Fault::Kill),
        leaf.clone().prop_map(Fault::Start),
        Just(Fault::Master),
        any::<u8>().prop_map(Fault::Order),
        (leaf, any::<u8>()).prop_map(|(leaf, what)| Fault::Leaf(leaf, what)),
        any::<u8>().prop_map(Fault::Open),
        (0..40u8).prop_map(Fault::Wait),
    ];
    prop::collection::vec(one, 1..40)
}

fn strike(world: &mut World, fault: Fault, leaves: u64) {
    let node = |leaf: u64| NodeId(1 + leaf % leaves);
    match fault {
        // One at a time: what two at once take away nobody can bring back.
        Fault::Kill(leaf) if world.lives.len() as u64 == leaves => world.kill(node(leaf)),
        Fault::Kill(_) => {}
        Fault::Start(leaf) => world.start(node(leaf)),
        Fault::Master => (world.heard, world.memory) = (Heard::new(world.now), Memory::default()),
        Fault::Order(aim) => world.order([Aim::Restore, Aim::Balance, Aim::Full][usize::from(aim) % 3]),
        Fault::Leaf(leaf, what) => {
            let changes = [REMOVE, FORCE, DETACH, LeafChange::Attach, LeafChange::Add { group: None }];
            let gone = world.state.nodes.values().filter(|node| node.standing != Standing::Online).count() as u64;
            let change = changes[usize::from(what) % changes.len()];
            // Two stay.
            if gone + 3 <= leaves || matches!(change, LeafChange::Attach | LeafChange::Add { .. }) {
                let _ = world.standing(node(leaf).0, change);
            }
        }
        Fault::Open(which) => {
            let known: Vec<PartitionId> = world.state.partitions.keys().copied().collect();
            let id = known[usize::from(which) % known.len()];
            if !world.open.remove(&id) {
                world.open.insert(id);
            }
        }
        Fault::Wait(looks) => (0..looks).for_each(|_| world.step()),
    }
    world.step();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn moves_end_whatever_happens_and_take_no_copy_too_early(
        leaves in 3..6u64, partitions in 1..8u32, redundancy in 1..3u8, sync in any::<bool>(), faults in faults(),
    ) {
        let mode = if sync { support::SYNC } else { ASYNC };
        let mut world = World::new(leaves, partitions, redundancy, mode);
        for fault in faults {
            strike(&mut world, fault, leaves);
        }
        world.open.clear();
        for leaf in 1..=leaves {
            world.start(NodeId(leaf));
        }
        world.settle();
        for held in world.state.partitions.values() {
            prop_assert!(held.replicas.iter().all(|node| !world.state.nodes[node].removed));
        }
    }
}
