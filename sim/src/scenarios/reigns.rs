//! Histories about reigns (`protocol.md` sections 1 and 3): how one begins, whom it waits for, and what those who were
//! replaced may still do.

use replication::{Message, Planted as Rule, SetChange};
use types::{Body, Lsn, Ordinal, PartitionId, Timestamp};

use super::Scenario;
use super::region::{brings_news, primary, sized, stand_still};
use super::regions::{self, come_back, stop_replicating};
use crate::options::{ASYNC_AFTER, MILLI, Planted, Scale};
use crate::world::{Local, Packet, Place, World};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = named();
    all.extend(unanswered());
    all.extend(replaced());
    all
}

/// A secondary is named, or might be.
fn named() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "who is named shows nothing before what its primary acknowledged last is committed",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: unheard_commit,
            rule: Some((Planted::Replica(Rule::ServeBeforeStart), &["reads_are_fresh"])),
        },
        Scenario {
            name: "what a primary says before its reign may be accepted is not lost",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: early_word,
            rule: Some((Planted::Replica(Rule::EarlyWordForgotten), &["convergence"])),
        },
        Scenario {
            name: "a candidate that was added is waited for by a primary that does not know it yet",
            scale: Scale::Region,
            options: |options| {
                sized(options, 2, true, true);
                options.passed_over = &["commit_is_in_sync_min"];
            },
            play: unknown_addition,
            rule: Some((Planted::Replica(Rule::CandidateNotWaited), &["acked_write_survives"])),
        },
        Scenario {
            name: "a candidate is waited for although the catalog does not show it yet",
            scale: Scale::Region,
            options: |options| {
                sized(options, 2, true, true);
                options.passed_over = &["commit_is_in_sync_min"];
            },
            play: late_proposal,
            rule: Some((Planted::Replica(Rule::OutcomeByRead), &["acked_write_survives"])),
        },
        Scenario {
            name: "a connection that a middlebox closes proves nobody gone",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: closed_between,
            rule: Some((Planted::Replica(Rule::ClosedIsDeath), &["reads_are_fresh", "no_fork", "convergence"])),
        },
    ]
}

/// ASYNC REPLICATION: a primary that may be replaced without its knowing.
fn unanswered() -> Vec<Scenario> {
    let stale: &[&str] = &["reads_are_fresh", "no_fork"];
    vec![
        Scenario {
            name: "a new leader of the catalog waits for the lease that the one before has given",
            scale: Scale::Region,
            options: |options| sized(options, 2, false, true),
            play: elected_under_leases,
            rule: Some((Planted::ElectionIgnored, stale)),
        },
        Scenario {
            name: "a primary that is heard while another one is being named for it is not answered",
            scale: Scale::Region,
            options: |options| {
                sized(options, 2, false, true);
                options.decision_max = 100;
            },
            play: heard_again,
            rule: Some((Planted::ReplacedAnswered, stale)),
        },
        Scenario {
            name: "a primary that has not heard that it may be replaced without its knowing is not",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: unheard_order,
            rule: Some((Planted::OrderUnheard, stale)),
        },
        Scenario {
            name: "a primary that has heard of a shorter order stops serving by it",
            scale: Scale::Region,
            options: |options| sized(options, 2, false, true),
            play: shorter_order,
            rule: Some((Planted::Replica(Rule::TermsKept), stale)),
        },
    ]
}

/// Replicas that others have taken the place of.
fn replaced() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a sink's primary that wakes up after it was replaced feeds nobody",
            scale: Scale::Regions,
            options: |options| regions::sized(options, &[1, 3]),
            play: woken_feeder,
            rule: Some((Planted::Replica(Rule::OldFrames), &["promises_kept"])),
        },
        Scenario {
            name: "a sink's primary that wakes up after it was replaced serves no read",
            scale: Scale::Regions,
            options: |options| regions::sized(options, &[1, 3]),
            play: woken_server,
            rule: Some((Planted::Replica(Rule::GrantsRenewed), &["cut_is_consistent"])),
        },
        Scenario {
            name: "promoted, sent back, promoted again: who slept through both has no rows of the first time",
            scale: Scale::Regions,
            options: |options| {
                regions::sized(options, &[1, 2]);
                // They notice the name. What comes of it is to be seen.
                options.passed_over = &["record_identity", "state_is_function_of_prefix"];
            },
            play: slept_through_both,
            rule: Some((Planted::EpochReused, &["convergence"])),
        },
        Scenario {
            name: "whoever follows a primary acknowledges in an epoch of its own",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, false, true);
                options.passed_over = &["record_identity", "state_is_function_of_prefix"];
            },
            play: one_after_the_other,
            rule: Some((Planted::EpochReused, &["one_acker_per_epoch"])),
        },
    ]
}

/// ASYNC REPLICATION: a primary sees the catalog again just when that gives up on it, and does not hear what it decides.
fn heard_again(world: &mut World) {
    world.pass(300);
    for _ in 0..5 {
        let link = (Place::Node(primary(world)), Place::Catalog(0));
        for _ in 0..400 {
            if !world.regions[0].under_way.is_empty() {
                break;
            }
            world.block(vec![link], 2);
            world.pass(2);
        }
        world.watch_until(100, |world| world.regions[0].under_way.is_empty());
        world.block(vec![link], 500);
        world.pass(700);
    }
}

/// A primary is alone in its set, and needs no word of the catalog. It is cut off from that alone, which is told that the database
/// waits for its secondaries no more; the one that was away comes back.
fn unheard_order(world: &mut World) {
    world.pass(300);
    let first = primary(world);
    let [second] = world.peers(first)[..] else { panic!("two leaves") };
    world.stop_for(second, false, 1500);
    world.pass(1000);
    world.block(vec![(Place::Node(first), Place::Catalog(0))], 2500);
    world.alter(0, false, Some(ASYNC_AFTER));
    world.pass(3500);
}

/// ASYNC REPLICATION: a primary hears that another one may be named after a shorter time than until now, and is cut off then.
fn shorter_order(world: &mut World) {
    world.alter(0, false, Some(4 * ASYNC_AFTER));
    for _ in 0..2 {
        world.pass(300);
        let (_, first, _) = first_two(world);
        world.alter(0, false, Some(ASYNC_AFTER));
        world.pass(200);
        world.isolate(first, 1200);
        world.pass(1500);
        world.alter(0, false, Some(4 * ASYNC_AFTER));
    }
}

/// ASYNC REPLICATION: two secondaries that do not reach each other lead one after the other, and the second one has nothing of
/// what the first has begun.
fn one_after_the_other(world: &mut World) {
    world.pass(300);
    let first = primary(world);
    let [second, third] = world.peers(first)[..] else { panic!("three leaves") };
    world.block(vec![(Place::Node(second), Place::Node(third))], 3000);
    world.stop(first, false);
    world.pass(800);
    let next = primary(world);
    world.stop(next, false);
    world.pass(800);
    [first, next].into_iter().for_each(|node| world.start(node));
}

/// Clients write the first partition of rows; its name, its primary and one secondary.
fn first_two(world: &mut World) -> (PartitionId, usize, usize) {
    world.clients.only_partition = Some(Ordinal(0));
    world.pass(400);
    let first = primary(world);
    (world.partition(0, Ordinal(0)), first, world.peers(first)[0])
}

fn committed(world: &World, node: usize, id: PartitionId) -> Lsn {
    world.nodes[node].replica(id).map_or(Lsn::ZERO, |replica| replica.cursors().committed)
}

fn log_end(world: &World, node: usize, id: PartitionId) -> Lsn {
    world.nodes[node].replica(id).map_or(Lsn::ZERO, |replica| replica.log_end().lsn)
}

/// The secondary's word that it holds a commit is under way. By that the primary acknowledges it, and dies before the
/// secondary hears that it is committed. The secondary is named, and its disk is slow: readers come before its start is
/// committed.
fn unheard_commit(world: &mut World) {
    let (id, first, second) = first_two(world);
    let acknowledges = |world: &World| {
        let Some(Message::Ack(ack)) = world.next_frame(first, id).map(|frame| &frame.message) else { return false };
        let Some(hosted) = world.nodes[first].hosted(id) else { return false };
        let cursors = hosted.replica.cursors();
        let mut news = (cursors.committed.0 + 1..=ack.position.min(cursors.durable).0).map(Lsn);
        news.any(|lsn| matches!(hosted.log.record(lsn).map(|record| &record.body), Some(Body::Commit { .. })))
    };
    world.watch_until(400, acknowledges);
    world.block(vec![(Place::Node(first), Place::Node(second))], 30);
    let known = committed(world, first, id);
    world.watch_until(10, |world| committed(world, first, id) > known);
    world.nodes[second].sync_min = 150;
    world.stop_for(first, false, 1500);
    world.pass(500);
    world.nodes[second].sync_min = 0;
    world.pass(1000);
}

/// The primary's process ends, another one leads, and clients rest. The next process of the old one's node takes no frame before
/// the grants from before it have run out. Just then the frame that began the reign arrives, late: it is answered, and the new
/// primary has nothing more to say.
fn early_word(world: &mut World) {
    let (id, first, second) = first_two(world);
    world.rest();
    world.stop_for(first, false, 20);
    let is_start = |to: Place, packet: &Packet| {
        let Packet::Frame(frame) = packet else { return false };
        let Message::Append(append) = &frame.message else { return false };
        to == Place::Node(first) && append.records.last().is_some_and(|last| append.committed < last.lsn)
    };
    let takes_frames = |world: &World| {
        let process = world.nodes[first].process.as_ref();
        process.is_some_and(|process| process.leases.may_accept(world.clock(first), id))
    };
    let end = world.now + 600 * MILLI;
    while world.now < end && !(primary(world) == second && takes_frames(world)) {
        world.hold_back(world.now + MILLI, is_start);
        world.run_until(world.now + MILLI / 20);
    }
    world.let_go(is_start);
    world.pass(400);
    let cursors = world.nodes[first].replica(id).map(|replica| replica.cursors()).unwrap_or_default();
    if cursors.applied < log_end(world, first, id) {
        let text = format!("{} {id} has applied {} of its log", world.label(first), cursors.applied);
        return world.fail("convergence", text);
    }
    world.wake_clients();
    world.pass(200);
}

/// The secondary restarts, is taken out of the set, and catches up. The catalog adds it, and what tells the primary so is
/// late. What the primary commits meanwhile does not reach the secondary. The primary dies, and the secondary is named.
fn unknown_addition(world: &mut World) {
    let (id, first, second) = first_two(world);
    world.stop_for(second, false, 300);
    world.watch_until(1500, |world| {
        let joined = world.nodes[second].member();
        world.nodes[second].process.is_some() && world.regions[0].catalog.partitions[&id].members.contains(&joined)
    });
    world.block(vec![(Place::Node(first), Place::Node(second))], 500);
    let is_view = |to: Place, packet: &Packet| to == Place::Node(first) && matches!(packet, Packet::Catalog { .. });
    world.watch_without(60, is_view, |world| committed(world, first, id) > log_end(world, second, id));
    world.stop_for(first, false, 1500);
    world.pass(2000);
}

/// The same, but what is late is the proposal: the primary hears of its set before the catalog has heard the proposal. The
/// catalog adds the secondary when the primary is dead.
fn late_proposal(world: &mut World) {
    let (id, first, second) = first_two(world);
    world.stop_for(second, false, 300);
    let is_proposal = |_: Place, packet: &Packet| matches!(packet, Packet::Propose { partition, change: SetChange::Add(_), .. } if *partition == id);
    world.watch_until(1500, |world| world.is_under_way(is_proposal));
    world.block(vec![(Place::Node(first), Place::Node(second))], 500);
    world.watch_without(60, is_proposal, |world| committed(world, first, id) > log_end(world, second, id));
    world.stop_for(first, false, 1500);
    world.pass(2000);
}

/// A middlebox closes the primary's connections, and lets no new ones pass for a while, which is shorter than silence that
/// is failure. The primary lives, and goes on answering readers under its lease.
fn closed_between(world: &mut World) {
    for _ in 0..4 {
        let (_, first, second) = first_two(world);
        let place = Place::Node;
        world.block(vec![(place(first), place(second)), (place(first), Place::Catalog(0))], 110);
        world.later(first, MILLI, Local::Closed(second));
        world.later(second, MILLI, Local::Closed(first));
        world.pass(300);
    }
}

/// ASYNC REPLICATION: the primary is alone in its set, and answers under the lease that the catalog's leader has given it.
/// It is cut off, and the leader changes. The new one has never heard the primary, and hears the secondary.
fn elected_under_leases(world: &mut World) {
    for _ in 0..2 {
        let (_, first, _) = first_two(world);
        world.isolate(first, 900);
        world.pass(20);
        world.new_leader(0);
        world.pass(1200);
    }
}

/// The primary of the first partition of rows in the sink, the second region, and its name.
fn sink_primary(world: &World) -> (PartitionId, usize) {
    let id = world.partition(1, Ordinal(0));
    (id, world.node_of(1, world.regions[1].catalog.partitions[&id].primary.node))
}

/// The primary of a sink stands still, and has sent what one of its secondaries has not acknowledged yet. It is replaced
/// while nothing more comes from the source. The secondaries have acknowledged the next reign when it wakes up and sends
/// again what it misses an acknowledgement of.
fn woken_feeder(world: &mut World) {
    world.pass(500);
    let (id, old) = sink_primary(world);
    let peers = world.peers(old);
    let ahead = |world: &World| peers.iter().all(|peer| log_end(world, *peer, id) < log_end(world, old, id));
    world.watch_until(300, ahead);
    world.sever_for(0, 1, 1000);
    world.pause(old, 700);
    world.block(peers.iter().map(|peer| (Place::Node(old), Place::Node(*peer))).collect(), 100);
    world.pass(1200);
}

/// The primary of a sink stands still and is cut off. It is replaced, and readers are served by its successor. When it
/// wakes up its peers hear it first: frames to it and the catalog's word are late.
fn woken_server(world: &mut World) {
    world.pass(500);
    let (id, old) = sink_primary(world);
    stand_still(world, old, 900);
    let served = world.served(1);
    world.watch_without(30, brings_news(old), |world| world.may_read(old, id));
    if world.may_read(old, id) {
        let cut = world.nodes[old].replica(id).and_then(|replica| replica.status().leading).map(|leading| leading.cut);
        if let Some(cut) = cut.filter(|cut| *cut < served) {
            let text = format!("{} serves {id} at {cut}, its region has served {served}", world.label(old));
            world.fail("cut_is_consistent", text);
        }
    }
    world.pass(500);
}

/// The source writes nothing from here on. Its sink is promoted and writes, one of its replicas falls asleep, and the
/// region is sent back: its primary drops what it wrote. It is promoted again at the very same record, and writes other
/// rows, fewer of them. Then the sleeper wakes up.
fn slept_through_both(world: &mut World) {
    world.pass(300);
    (world.clients.only, world.clients.only_partition) = (Some(1), Some(Ordinal(0)));
    world.pass(300);
    stop_replicating(world, 1);
    world.pass(700);
    let (id, leading) = sink_primary(world);
    let sleeper = world.peers(leading)[0];
    world.stop(sleeper, false);
    world.pass(100);
    world.rest();
    come_back(world, 1, 0);
    world.pass(400);
    stop_replicating(world, 1);
    world.pass(200);
    world.wake_clients();
    world.pass(200);
    world.rest();
    world.start(sleeper);
    let joined = world.nodes[sleeper].member();
    let is_member = |world: &World| world.regions[1].catalog.partitions[&id].members.contains(&joined);
    world.pass_until(1000, is_member);
    world.pass(100);
    let rows = |node| world.rows_of(node, id, Timestamp::MAX);
    if is_member(world) && rows(sleeper) != rows(leading) {
        let text = format!("{} has {:x?}, its primary {:x?}", world.label(sleeper), rows(sleeper), rows(leading));
        world.fail("convergence", text);
    }
    (world.clients.only, world.clients.only_partition) = (None, None);
    world.wake_clients();
}
