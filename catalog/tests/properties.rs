//! Random histories of commands: what holds always, holds after each of them.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use catalog::claim::Claim;
use catalog::command::{
    BreakLink, Command, Confirmed, CreateSink, Follow, HandoverAnswer, LeafChange, LinkTerms, Loss, OpenLink,
    PlanMoves, PlannedMove, Promote, RecoverToCut, SetChange,
};
use catalog::database::{Finals, Holder, Options, Side};
use catalog::event::UnixMillis;
use catalog::link::{Credentials, LinkOptions, OnSilence, SourceAddress};
use catalog::movement::Reason;
use catalog::node::Roles;
use catalog::outcome::{Answer, Refusal};
use catalog::state::State;
use catalog::user::{Account, Plugin, Privilege, Scope, Verifier};
use perennial_catalog as catalog;
use proptest::prelude::*;
use types::{
    ClusterId, DatabaseId, Epoch, Fence, Incarnation, LinkId, Lsn, Member, Mode, NodeId, Ordinal, PartitionId,
    Promotion, PromotionId, Revision, Timestamp, View,
};

/// Random bits that a command is made of. Small numbers, so that names are met again.
#[derive(Clone, Debug)]
struct Draw {
    kind: u8,
    a: u8,
    b: u8,
    c: u8,
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let draw = (0..47u8, any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(kind, a, b, c)| Draw { kind, a, b, c });
    prop::collection::vec(draw, 1..120)
}

impl Draw {
    fn node(&self) -> NodeId {
        NodeId(u64::from(self.a % 4) + 1)
    }

    fn name(&self) -> String {
        format!("db{}", self.b % 3)
    }

    fn link(&self) -> LinkId {
        LinkId(u128::from(self.c % 6))
    }

    /// Mostly a link of a sink of this region.
    fn served(&self, state: &State) -> LinkId {
        let known: Vec<LinkId> = state.sources.keys().copied().collect();
        known.get(usize::from(self.c) % (known.len() + 1)).copied().unwrap_or(self.link())
    }

    fn time(&self) -> Timestamp {
        Timestamp(u64::from(self.c) * 10)
    }

    /// Mostly a database that exists.
    fn database(&self, state: &State) -> DatabaseId {
        let known: Vec<DatabaseId> = state.databases.keys().copied().collect();
        let index = usize::from(self.b) % (known.len() + 1);
        known.get(index).copied().unwrap_or(DatabaseId(u64::from(self.b)))
    }

    /// Mostly a partition that exists.
    fn partition(&self, state: &State) -> PartitionId {
        let known: Vec<PartitionId> = state.partitions.keys().copied().collect();
        let index = usize::from(self.b) % (known.len() + 1);
        known.get(index).copied().unwrap_or(PartitionId { database: DatabaseId(9), ordinal: Ordinal(0) })
    }

    /// The present process of a node, now and then an older or a later one.
    fn member(&self, state: &State) -> Member {
        let present = state.member(self.node()).unwrap_or_default();
        let incarnation = match self.c % 6 {
            0 => Incarnation(present.incarnation.0 + 1),
            1 => Incarnation(present.incarnation.0.saturating_sub(1)),
            _ => present.incarnation,
        };
        Member { node: self.node(), incarnation }
    }

    fn mode(&self) -> Mode {
        Mode { sync_durability: self.c & 1 == 0, sync_replication: self.c & 6 != 0 }
    }

    fn account(&self) -> Account {
        Account { name: format!("user{}", self.a % 3), host: "%".into() }
    }
}

/// What a region could propose next. Its words are mostly the state's own, so that most commands are carried out.
fn command(state: &State, draw: &Draw) -> Command {
    match draw.kind {
        0..=2 => Command::RegisterNode {
            number: (draw.c & 12 == 0).then_some(draw.node()),
            identity: u128::from(draw.a % 4),
            addresses: support::addresses(u64::from(draw.a % 5)),
            roles: Roles { aggregator: draw.b & 7 == 0, leaf: draw.b & 15 != 1 },
            group: (draw.c & 3 == 0).then_some(1),
        },
        3 | 4 => Command::NodeStarted {
            node: draw.node(),
            incarnation: draw.member(state).incarnation,
            addresses: support::addresses(draw.node().0),
        },
        5 if draw.c & 1 == 0 => Command::AddAggregator { node: draw.node() },
        5 => Command::RemoveNode { node: draw.node() },
        6 | 7 => Command::CreateDatabase(support::creating(&draw.name(), draw.mode(), placement(draw))),
        8 => Command::DropDatabase { name: draw.name() },
        9 => Command::AlterDatabase {
            name: draw.name(),
            mode: draw.mode(),
            options: Options { min_in_sync: draw.a % 3, ..Options::default() },
        },
        10..=20 => about_partition(state, draw),
        21..=34 => about_database(state, draw),
        35 => Command::ExtendTimestampBlock { upper: draw.time() },
        36 => Command::ReceiveEpoch { number: u64::from(draw.a) },
        37 => Command::EndLink { link: draw.served(state), keep_pin: draw.a & 1 == 0 },
        38 => Command::ReportPin { link: draw.served(state), cut: draw.time(), promotions: history(state, draw) },
        39 if draw.a & 3 == 0 => {
            Command::SetSync { link: draw.served(state), sync: draw.a & 4 == 0, on_silence: OnSilence::Block }
        }
        39 => Command::Degrade { link: draw.served(state), since: draw.time() },
        40 => Command::Restore { link: draw.served(state), above: Timestamp(u64::from(draw.a % 8)) },
        41 => Command::GiveUpPin { link: draw.served(state) },
        42 => Command::ChangeLeaf { node: draw.node(), change: leaf_change(draw) },
        43 | 44 => about_move(state, draw),
        _ => about_user(draw),
    }
}

fn leaf_change(draw: &Draw) -> LeafChange {
    let (force, kill) = (draw.b & 1 == 0, draw.b & 2 == 0);
    match draw.c % 8 {
        0 => LeafChange::Remove { force, kill },
        1 => LeafChange::Detach { force, kill },
        2 => LeafChange::Dismiss,
        3 | 4 => LeafChange::Attach,
        group => LeafChange::Add { group: (group == 5).then_some(1) },
    }
}

/// Mostly a step of a move that may be made.
fn about_move(state: &State, draw: &Draw) -> Command {
    let partition = draw.partition(state);
    let held = state.partitions.get(&partition);
    let (reign, version) = held.map_or_else(Default::default, |held| (held.reign, held.version));
    match draw.c % 8 {
        0 | 1 => {
            let based = held.map_or_else(BTreeSet::new, |held| held.replicas.clone());
            let primary = draw.node();
            let other = held.map(|held| held.primary.node).filter(|_| draw.c & 8 == 0);
            let replicas = other.into_iter().chain([primary]).collect();
            let moves = vec![PlannedMove { partition, based, replicas, primary }];
            Command::PlanMoves(PlanMoves { moves, reason: Reason::Rebalance, kill: false })
        }
        2 | 3 => Command::BeginMove { partition },
        4 if draw.a & 1 == 0 => Command::FinishMove { partition, reign, version },
        4 => Command::GiveUpMove { partition, reason: "somebody says so".into() },
        5 => Command::SealHandover { partition, reign },
        6 if draw.a & 3 == 0 => Command::AbandonHandover { partition },
        _ => Command::HandOver { partition, reign, to: draw.node() },
    }
}

fn placement(draw: &Draw) -> Vec<Vec<NodeId>> {
    let second = NodeId(u64::from(draw.c % 4) + 1);
    let nodes = if second == draw.node() { vec![second] } else { vec![draw.node(), second] };
    vec![nodes; 2]
}

fn history(state: &State, draw: &Draw) -> Vec<Promotion> {
    state.databases.get(&draw.database(state)).map_or(vec![], |database| database.promotions.clone())
}

fn about_partition(state: &State, draw: &Draw) -> Command {
    let partition = draw.partition(state);
    let held = state.partitions.get(&partition);
    let (reign, version) = held.map_or_else(Default::default, |held| (held.reign, held.version));
    let node = draw.node();
    match draw.kind {
        10 | 11 => {
            let version = types::SetVersion(version.0 - u64::from(draw.a == 0 && version.0 > 0));
            let member = draw.member(state);
            let change = if draw.c & 8 == 0 { SetChange::Add(member) } else { SetChange::Remove(member) };
            Command::ProposeSet { partition, reign, version, change }
        }
        12 => {
            let what = if draw.c & 1 == 0 { Confirmed::Durable } else { Confirmed::Failover };
            Command::Confirm { partition, reign, version, what }
        }
        13 => Command::MarkIncomplete { partition, reign, incomplete: draw.c & 1 == 0 },
        14..=16 if held.is_some() => {
            let loss = [Loss::None, Loss::Order, Loss::Recovery][usize::from(draw.c) % 3];
            let mut members = vec![draw.member(state)];
            members.extend(held.into_iter().flat_map(|held| held.members.iter().copied()).filter(|_| draw.c & 8 == 0));
            Command::NamePrimary(support::naming(state, partition, &members, loss))
        }
        17 => Command::AddReplica { partition, node },
        18 => Command::RemoveReplica { partition, node },
        19 => Command::ReplicaGone { partition, node },
        _ => Command::RecoverToCut(RecoverToCut {
            database: partition.database,
            promotion: PromotionId(u128::from(draw.a) << 8 | u128::from(draw.c)),
            cut: draw.time(),
            named: held.map_or(vec![], |_| vec![support::naming(state, partition, &[draw.member(state)], Loss::Order)]),
            nonce: 3,
            received_epoch: u64::from(draw.a),
            start_above: draw.time(),
        }),
    }
}

fn breaking(state: &State, database: DatabaseId, link: LinkId) -> Command {
    let partition = support::partition(database, 0);
    let held = state.partitions.get(&partition);
    let (reign, version) = held.map_or_else(Default::default, |held| (held.reign, held.version));
    Command::BreakLink(BreakLink { partition, reign, version, link, reason: "test".into() })
}

fn about_database(state: &State, draw: &Draw) -> Command {
    let database = draw.database(state);
    let held = state.databases.get(&database);
    let since = match held.map_or(Fence::None, |held| held.fenced.fence) {
        Fence::Draining(since) | Fence::Sealed(since) => since,
        Fence::None => Revision(0),
    };
    let link = match held.map(|held| held.side) {
        Some(Side::Sink { link }) if draw.a & 7 != 0 => link,
        _ => draw.link(),
    };
    let holder = [Holder::User, Holder::Token, Holder::Guard][usize::from(draw.c) % 3];
    let token = u128::from(draw.a % 3);
    let promotion = Promotion { id: PromotionId(u128::from(draw.a) << 8 | u128::from(draw.c)), cut: draw.time() };
    match draw.kind {
        21 | 22 => Command::Fence { database, holder },
        23 => Command::Seal { database, draining: since },
        24 => {
            let ordinals = held.map_or(vec![], |held| held.ordinals().collect());
            let positions = ordinals.into_iter().map(|ordinal| (ordinal, Lsn(u64::from(draw.a % 2)))).collect();
            Command::ReportFinals { database, sealed: since, finals: Finals { positions, time: draw.time() } }
        }
        25 => Command::Unfence { database, holder, force: draw.a & 3 == 0 },
        26 => {
            let create = support::creating(&draw.name(), draw.mode(), placement(draw));
            Command::CreateSink(CreateSink { create, terms: terms(state, draw) })
        }
        27 | 28 => Command::Follow(Follow {
            database,
            identity: 5,
            partitions: 1,
            terms: terms(state, draw),
            forced: draw.a & 1 == 0,
            served: draw.time(),
        }),
        29 => {
            let mut promotions = history(state, draw);
            promotions.truncate(usize::from(draw.a % 4));
            promotions.extend((draw.c & 1 == 0).then_some(promotion));
            Command::LearnPromotions { database, link, promotions, relay: draw.a & 16 == 0, served: draw.time() }
        }
        30 => match draw.a % 4 {
            0 => Command::Joined { database, link },
            1 => breaking(state, database, link),
            2 => Command::PauseLink { database, paused: draw.c & 1 == 0 },
            _ => Command::AlterLink { database, options: LinkOptions { sync: draw.c & 1 == 0, ..Default::default() } },
        },
        31 | 32 => Command::Promote(Promote {
            database,
            link,
            promotion: promotion.id,
            promotions: history(state, draw),
            cut: promotion.cut,
            nonce: 4,
            start_above: draw.time(),
            received_epoch: u64::from(draw.a),
            token: (draw.c & 1 == 0).then_some(token),
            copy: (draw.c & 7 == 1).then_some(77),
            address: "here:3306".into(),
        }),
        33 => Command::OpenLink(OpenLink {
            link: draw.link(),
            database,
            user: draw.account(),
            token_hash: [draw.a; 32],
            peer_cluster: ClusterId(u64::from(draw.a % 3) + 6),
            peer_database: "there".into(),
            peer_address: None,
            peer_fingerprint: None,
            sync: draw.c & 1 == 0,
            on_silence: OnSilence::Block,
        }),
        _ => match draw.a % 4 {
            0 => Command::IssueToken { database, token, link: draw.link() },
            1 => {
                let answer = match draw.c & 1 {
                    0 => HandoverAnswer::Refused,
                    _ => HandoverAnswer::Accepted(promotion.id),
                };
                Command::HandoverAnswered { database, token, answer }
            }
            2 => Command::RefuseToken { database, token },
            _ => Command::LearnClaim { database, claim: claim(state, draw, promotion) },
        },
    }
}

fn claim(state: &State, draw: &Draw, promotion: Promotion) -> Claim {
    Claim {
        promotion,
        parent: history(state, draw),
        cluster: ClusterId(8),
        address: "there:3306".into(),
        database: "there".into(),
        at: UnixMillis(1),
    }
}

fn terms(state: &State, draw: &Draw) -> LinkTerms {
    LinkTerms {
        link: draw.link(),
        source: SourceAddress { address: "there:3306".into(), database: "there".into(), user: "repl".into() },
        source_cluster: ClusterId(u64::from(draw.a % 3) + 6),
        credentials: Credentials::default(),
        options: LinkOptions::default(),
        promotions: history(state, draw),
        relay: draw.a & 2 == 0,
        upstream: vec![],
    }
}

fn about_user(draw: &Draw) -> Command {
    let account = draw.account();
    let verifier = Verifier { plugin: Plugin::Native, text: format!("*{}", draw.b % 2) };
    let scope = if draw.b & 1 == 0 { Scope::Global } else { Scope::Database("db0".into()) };
    let privileges: BTreeSet<Privilege> = [Privilege::ALL[usize::from(draw.c) % 15]].into();
    match draw.b % 5 {
        0 => Command::CreateUser { account, verifier },
        1 => Command::AlterUser { account, verifier },
        2 => Command::DropUser { account },
        3 => Command::Grant { account, scope, privileges },
        _ => Command::Revoke { account, scope, privileges },
    }
}

/// A region that has some leaves and databases to begin with.
fn seeded() -> State {
    let mut state = support::cluster(3);
    support::create(&mut state, "db0", support::SYNC, &[1, 2]);
    let volatile = Mode { sync_durability: false, sync_replication: true };
    support::create(&mut state, "db1", volatile, &[2, 3]);
    state
}

fn bytes(state: &State) -> Vec<u8> {
    bincode::serde::encode_to_vec(state, bincode::config::standard()).expect("a state is plain data")
}

/// What must only rise, and what must never be given twice.
#[derive(Default)]
struct Witness {
    epochs: BTreeMap<u64, (PartitionId, Epoch)>,
    positions: BTreeMap<PartitionId, View>,
    databases: BTreeSet<DatabaseId>,
}

impl Witness {
    fn look(&mut self, state: &State) {
        for (id, partition) in &state.partitions {
            if let Some(grant) = &partition.grant {
                let named = (*id, grant.epoch);
                let first = *self.epochs.entry(grant.epoch.number).or_insert(named);
                assert_eq!(first, named, "epoch number {} was minted twice", grant.epoch.number);
            }
            let view = state.view(*id).expect("it exists");
            if let Some(old) = self.positions.insert(*id, view.clone()) {
                assert!((view.reign, view.version) >= (old.reign, old.version), "{id} went back: {old:?} {view:?}");
                assert!(view.version >= old.version, "{id}: version {} after {}", view.version, old.version);
                assert!(view == old || view.version > old.version, "{id} changed under one version: {old:?} {view:?}");
                let same_reign = view.reign == old.reign;
                assert!(!same_reign || view.primary == old.primary, "{id}: two primaries in reign {}", view.reign);
                assert!(!same_reign || view.losses == old.losses, "{id}: a loss within reign {}", view.reign);
            }
        }
        for id in state.databases.keys() {
            self.databases.insert(*id);
        }
        self.positions.retain(|id, _| state.partitions.contains_key(id));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Invariants hold, a refusal changes nothing (`support::apply` looks), and what rises never falls.
    #[test]
    fn random_histories_keep_the_invariants(draws in draws()) {
        let mut state = seeded();
        let mut witness = Witness::default();
        witness.look(&state);
        for draw in &draws {
            let wanted = command(&state, draw);
            let before = (state.minted, state.timestamps, state.revision, state.last_database, state.last_node);
            let writable: Vec<DatabaseId> = writable(&state);
            let carried = support::apply(&mut state, &wanted);
            let after = (state.minted, state.timestamps, state.revision, state.last_database, state.last_node);
            prop_assert!(after.0 >= before.0 && after.2 >= before.2 && after.3 >= before.3 && after.4 >= before.4);
            prop_assert!(after.1.upper >= before.1.upper && after.1.received >= before.1.received);
            witness.look(&state);
            let by_promotion = matches!(wanted, Command::Promote(_) | Command::CreateDatabase(_));
            let fresh = state.databases.keys().filter(|id| !writable.contains(id) && may_write(&state, **id)).count();
            let lifted = matches!(wanted, Command::Unfence { .. } | Command::HandoverAnswered { .. });
            prop_assert!(fresh == 0 || by_promotion || lifted, "{:?} made a database writable: {:?}", wanted, carried);
        }
    }

    /// The same commands give the same state, to the byte; a snapshot is the state.
    #[test]
    fn applying_is_deterministic(draws in draws()) {
        let (mut first, mut commands) = (seeded(), vec![]);
        for draw in &draws {
            let next = command(&first, draw);
            let answer = first.apply(UnixMillis(u64::from(draw.a)), &next);
            commands.push((UnixMillis(u64::from(draw.a)), next, answer));
        }
        let mut second = seeded();
        for (at, command, answer) in &commands {
            prop_assert_eq!(&second.apply(*at, command), answer);
        }
        prop_assert_eq!(&first, &second);
        prop_assert_eq!(bytes(&first), bytes(&second));
        let (restored, _) = bincode::serde::decode_from_slice::<State, _>(&bytes(&first), bincode::config::standard())
            .expect("its own bytes");
        prop_assert_eq!(&first, &restored);
        for (_, command, _) in &commands {
            let (back, _) = bincode::serde::decode_from_slice::<Command, _>(
                &bincode::serde::encode_to_vec(command, bincode::config::standard()).unwrap(),
                bincode::config::standard(),
            ).unwrap();
            prop_assert_eq!(command, &back);
        }
    }

    /// A leaf that hears only what `views_since` tells it knows what the catalog says, and deletes nothing else.
    #[test]
    fn a_leaf_that_hears_the_changes_knows_the_state(draws in draws()) {
        let mut state = seeded();
        let node = NodeId(2);
        let (mut views, mut news, mut known) = (BTreeMap::new(), BTreeMap::new(), Revision(0));
        for draw in &draws {
            let wanted = command(&state, draw);
            let _ = state.apply(UnixMillis(0), &wanted);
            if draw.a & 3 == 0 {
                views.extend(state.views_since(node, known).into_iter().map(|view: View| (view.partition, view)));
                news.extend(state.news_since(node, known).into_iter().map(|news| (news.database, news)));
                views.retain(|id, _| !state.removals_of(node).contains(id));
                known = state.revision;
            }
        }
        views.extend(state.views_since(node, known).into_iter().map(|view| (view.partition, view)));
        news.extend(state.news_since(node, known).into_iter().map(|news| (news.database, news)));
        views.retain(|id, _| !state.removals_of(node).contains(id));
        let held = |id: &PartitionId| state.partitions.get(id).is_some_and(|held| held.replicas.contains(&node));
        views.retain(|id, _| held(id));
        let told: BTreeMap<PartitionId, View> = state.partitions.keys().filter(|id| held(id))
            .map(|id| (*id, state.view(*id).expect("it exists"))).collect();
        prop_assert_eq!(views, told);
        let concerned = |id: DatabaseId| state.partitions_of(id).any(|(_, held)| held.replicas.contains(&node));
        news.retain(|id, _| state.databases.contains_key(id) && concerned(*id));
        let told: BTreeMap<DatabaseId, _> = state.databases.iter().filter(|(id, _)| concerned(**id))
            .map(|(id, database)| (*id, state.news(*id, database))).collect();
        prop_assert_eq!(news, told);
    }
}

fn may_write(state: &State, id: DatabaseId) -> bool {
    let database = &state.databases[&id];
    !database.is_sink() && !matches!(database.fenced.fence, Fence::Sealed(_))
}

fn writable(state: &State) -> Vec<DatabaseId> {
    state.databases.keys().copied().filter(|id| may_write(state, *id)).collect()
}

#[test]
fn random_histories_carry_most_commands_out() {
    // A generator whose commands are all refused would show nothing.
    let mut state = seeded();
    let mut carried: BTreeMap<u8, (u32, u32)> = BTreeMap::new();
    let mut seed = 1u64;
    for step in 0..200_000 {
        if step % 100 == 0 {
            state.check();
            state = seeded();
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [.., a, b, c, kind] = seed.rotate_left(17).to_le_bytes();
        let draw = Draw { kind: kind % 47, a, b, c };
        let wanted = command(&state, &draw);
        let done = state.apply(UnixMillis(0), &wanted).is_ok_and(|outcome| !outcome.already);
        let count = carried.entry(draw.kind).or_default();
        count.0 += u32::from(done);
        count.1 += 1;
    }
    let never: Vec<u8> = carried.iter().filter(|(_, (done, _))| *done == 0).map(|(kind, _)| *kind).collect();
    assert_eq!(never, Vec::<u8>::new(), "kinds of commands that are never carried out, {carried:?}");
    state.check();
}

#[test]
fn numbers_from_a_damaged_log_are_refused() {
    let mut state = seeded();
    let huge = Command::ReceiveEpoch { number: u64::MAX };
    assert!(matches!(support::apply(&mut state, &huge), Err(Refusal::Correct { .. })));
    let late = Command::ExtendTimestampBlock { upper: Timestamp::MAX };
    assert!(matches!(support::apply(&mut state, &late), Err(Refusal::Correct { .. })));
    assert_eq!(support::done(&mut state, &Command::ReceiveEpoch { number: 1000 }), Answer::Done);
    assert_eq!(state.minted, 1000);
}
