//! Histories inside a region around a loss (`protocol.md` sections 5, 6, 8, 9 and 17): what went before it, who goes on,
//! and what those who come back believe.

use replication::{Message, Planted as Rule, TxnRequest};
use types::{Mode, Ordinal, PartitionId};

use super::Scenario;
use super::region::{primary, sized};
use super::regions;
use crate::clients::{Stage, Txn};
use crate::options::{MILLI, Planted, Scale};
use crate::run::ASSERTION;
use crate::world::{Packet, Place, World};

pub(super) fn all() -> Vec<Scenario> {
    [branches(), unheard()].concat()
}

/// Who goes on, and what those believe who come back.
fn branches() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a branch that a standing order gave up is not the longest log when it comes back",
            scale: Scale::Region,
            options: |options| sized(options, 4, false, true),
            play: given_up,
            rule: Some((Planted::GivenUpForgotten, &["longest_log"])),
        },
        Scenario {
            name: "an order whose process ends before it is told gives up nothing",
            scale: Scale::Region,
            options: |options| sized(options, 4, false, true),
            play: untold_order,
            rule: Some((Planted::OrdersStand, &["longest_log"])),
        },
        Scenario {
            name: "who joins a new reign has on disk what has left the region in the one before",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, true, false);
                options.sync_max = 10;
            },
            play: shipped_before,
            rule: Some((Planted::Replica(Rule::ReignForgets), &["acked_write_survives"])),
        },
        Scenario {
            name: "a process that hears an answer to the one before it waits for what was announced",
            scale: Scale::Region,
            options: |options| sized(options, 2, false, true),
            play: early_comparison,
            rule: Some((Planted::Replica(Rule::ResumeOpens), &[ASSERTION])),
        },
    ]
}

/// Who has not heard of a loss, or of another primary, and leads or comes back.
fn unheard() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a partition that has carried out a cut takes no definitions of a primary that has not heard of it",
            scale: Scale::Region,
            options: |options| {
                sized(options, 5, true, false);
                options.sync_max = 10;
                (options.partitions, options.wide) = (2, 0);
                (options.moves, options.definitions) = (true, true);
            },
            play: old_definitions,
            rule: Some((Planted::Replica(Rule::AnyHistory), &["definitions"])),
        },
        Scenario {
            name: "a transaction has no part at a partition that has not heard of the cut yet",
            scale: Scale::Region,
            options: |options| {
                sized(options, 5, true, false);
                options.sync_max = 10;
                (options.partitions, options.wide, options.moves) = (2, 100, true);
            },
            play: unheard_cut,
            rule: Some((Planted::HistoriesMixed, &["whole_after_loss"])),
        },
        Scenario {
            name: "a partition that has not heard of the cut yet does not take a decision that was given up for one that never was",
            scale: Scale::Regions,
            options: |options| {
                regions::sized(options, &[3, 1]);
                options.mode = Mode { sync_replication: false, sync_durability: false };
                (options.partitions, options.wide) = (2, 100);
            },
            play: unheard_decision,
            rule: Some((Planted::Replica(Rule::InquiredAcross), &["set_aside_complete", "cut_is_consistent"])),
        },
        Scenario {
            name: "a log that has heard of neither of two cuts goes back to the lower one",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, false, false);
                options.sync_max = 10;
                (options.definitions, options.wide) = (true, 0);
            },
            play: two_cuts,
            rule: Some((Planted::Replica(Rule::LastCutAlone), &["definitions"])),
        },
        Scenario {
            name: "a primary that others may have replaced commits nothing that could come back with its log",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, false, true);
                options.definitions = true;
                options.wide = 0;
            },
            play: late_timestamps,
            rule: Some((Planted::Replica(Rule::CommitUnleased), &["definitions"])),
        },
    ]
}

/// ASYNC REPLICATION. One secondary lacks the end of the log, and is the only one that the catalog hears when the primary
/// dies: it is named, and cut off when it has led for a while. Of the others, who have more, one is named then, and readers
/// are shown what the branch lacks. It is cut off, too, and the branch comes back with a higher epoch than the third one has.
fn given_up(world: &mut World) {
    world.pass(400);
    let (old, catalog) = (primary(world), Place::Catalog(0));
    let [branch, second, third] = world.peers(old)[..] else { panic!("four leaves") };
    let place = Place::Node;
    world.block(vec![(place(old), place(branch))], 4000);
    world.pass(150);
    let apart = [(branch, second), (branch, third), (second, third)];
    world.block(apart.map(|(one, other)| (place(one), place(other))).to_vec(), 4000);
    world.block(vec![(place(second), catalog), (place(third), catalog)], 650);
    world.stop_for(old, false, 4000);
    world.pass(600);
    world.isolate(branch, 700);
    world.pass(700);
    let named = primary(world);
    world.isolate(named, 2000);
    world.pass(700);
}

/// ASYNC REPLICATION. The primary dies with the end of its log, and a secondary that lacks it leads. When it is cut off another
/// one is named, which has nothing of its reign, and ends before it is told, as a peer sees. Both earlier primaries come back.
fn untold_order(world: &mut World) {
    world.pass(300);
    let (old, place) = (primary(world), Place::Node);
    let [one, other, witness] = world.peers(old)[..] else { panic!("four leaves") };
    world.block([old, one].map(|node| (place(node), place(witness))).to_vec(), 4000);
    world.pass(100);
    world.block([old, one].map(|node| (place(node), place(other))).to_vec(), 4000);
    world.pass(100);
    world.block(vec![(place(old), place(one))], 1000);
    world.pass(100);
    world.stop(old, false);
    world.watch_until(900, |world| primary(world) == one);
    world.pass(200);
    world.isolate(one, 500);
    world.watch_until(700, |world| primary(world) == other);
    world.stop_for(other, false, 4000);
    world.start(old);
    world.pass(1500);
}

/// A replica that is out of its set takes the new reign of another one than it was fed by before, and does not get onto its
/// disk what that sends: all of it has left the region in the reign before. If it is added it is soon alone, and its power fails.
fn shipped_before(world: &mut World) {
    world.pass(400);
    let (first, id) = (primary(world), world.partition(0, Ordinal(0)));
    let [second, third] = world.peers(first)[..] else { panic!("three leaves") };
    world.stop_for(third, false, 400);
    world.pass(300);
    world.block(vec![(Place::Node(first), Place::Node(third))], 3000);
    world.pass(200);
    // The new reign counts nothing before its promise is on disk: by then the third is waited for.
    world.nodes[second].sync_min = 100;
    world.stop_for(first, false, 3000);
    world.watch_until(400, |world| {
        let led = world.nodes[second].replica(id).and_then(|replica| replica.reign_led());
        let node = &world.nodes[third];
        let promised = node.hosted(id).and_then(|hosted| hosted.log.summary.promise);
        let syncing = node.process.as_ref().and_then(|process| process.syncing);
        led.is_some() && promised == led && syncing == Some(node.journal.appended)
    });
    world.nodes[third].sync_min = 2000;
    let joined = world.nodes[third].member();
    world.pass_until(400, |world| world.regions[0].catalog.partitions[&id].members.contains(&joined));
    world.stop_for(second, false, 3000);
    world.pass_until(300, |world| primary(world) == third);
    world.stop_for(third, true, 100);
    [second, third].into_iter().for_each(|node| world.nodes[node].sync_min = 0);
    world.pass(800);
}

/// ASYNC REPLICATION: what a primary has written last nobody else has, and it is replaced. When it comes back its log is
/// compared; its process ends whenever an Append is what it would hear next, and another one hears the answers.
fn early_comparison(world: &mut World) {
    world.pass(400);
    let (first, id) = (primary(world), world.partition(0, Ordinal(0)));
    let second = world.peers(first)[0];
    world.block(vec![(Place::Node(first), Place::Node(second))], 500);
    world.pass_until(200, |world| {
        let end = world.nodes[second].replica(id).map(|replica| replica.log_end().lsn);
        end.is_some_and(|end| world.nodes[first].disks[&id].flushed > end)
    });
    world.isolate(first, 1000);
    world.pass(600);
    // Frames without records tell where the next primary is, now and then.
    world.rest();
    let is_append =
        |world: &World| world.next_frame(first, id).map(|frame| matches!(frame.message, Message::Append(_)));
    world.watch_until(700, |world| is_append(world) == Some(false));
    // It has asked, and heard before what was announced.
    world.stop(first, false);
    for _ in 0..400 {
        match is_append(world) {
            Some(true) => world.stop(first, true),
            Some(false) => world.start(first),
            None => {}
        }
        let next = world.now + MILLI / 20;
        world.watch_until(1, |world| world.now >= next);
    }
    world.start(first);
    world.wake_clients();
    world.pass(300);
}

/// A change of definitions is committed just before a set of another partition than the meta partition loses power as a
/// whole. The cut gives it up, and the meta partition's primary does not hear of that.
fn old_definitions(world: &mut World) {
    world.pass(400);
    let (meta, rows) = (world.partition(0, Ordinal::META), world.partition(0, Ordinal(1)));
    let [teller, lost] = [meta, rows].map(|id| set_of(world, id.ordinal));
    lost.iter().for_each(|node| world.nodes[*node].sync_min = 2000);
    world.pass(30);
    world.redefine(|world| teller.iter().filter_map(|node| world.counter(*node, meta)).max());
    world.clients.only_partition = Some(rows.ordinal);
    for node in lost {
        world.stop_for(node, true, 50);
        world.nodes[node].sync_min = 0;
    }
    world.watch_until(800, |world| world.checks.recoveries.cuts.contains_key(&0));
    world.block(teller.iter().map(|node| (Place::Node(*node), Place::Catalog(0))).collect(), 700);
    world.pass(900);
    world.clients.only_partition = None;
}

/// The set of one partition loses power, and the database goes on from a cut. The set of another one hears of it late: under its
/// leases it serves what was before, with all that will be given up, while clients write to both.
fn unheard_cut(world: &mut World) {
    world.pass(400);
    let [late, lost] = [Ordinal::META, Ordinal(1)].map(|ordinal| set_of(world, ordinal));
    lost.iter().for_each(|node| world.nodes[*node].sync_min = 2000);
    world.pass(30);
    for node in lost {
        world.stop_for(node, true, 50);
        world.nodes[node].sync_min = 0;
    }
    world.watch_until(800, |world| world.checks.recoveries.cuts.contains_key(&0));
    world.block(late.iter().map(|node| (Place::Node(*node), Place::Catalog(0))).collect(), 700);
    world.pass(900);
}

/// The same, and a transaction of both was acknowledged: its coordinator has died, and the other partition was not told. It asks.
fn unheard_decision(world: &mut World) {
    world.pass(400);
    let [late, lost] = [Ordinal::META, Ordinal(1)].map(|ordinal| set_of(world, ordinal));
    let decided = |world: &World| {
        let is_told = |held: &Txn| held.acked && held.stage == Stage::Finishing && held.parts[0].ordinal == Ordinal(1);
        let in_both = |held: &Txn| held.parts.iter().any(|part| part.ordinal == Ordinal::META);
        world.clients.txns.iter().find(|(_, held)| is_told(held) && in_both(held)).map(|(txn, _)| *txn)
    };
    let finishes = |_, packet: &Packet| matches!(packet, Packet::Request { request: TxnRequest::Finish { .. }, .. });
    world.watch_until(2000, |world| decided(world).is_some());
    if let Some(txn) = decided(world) {
        world.give_up(txn);
        world.hold_back(world.now + 2000 * MILLI, finishes);
    }
    // The decision is on the disk. It is given up, for who was not told of it makes no mark behind it.
    world.pass(100);
    lost.into_iter().for_each(|node| world.stop_for(node, true, 50));
    world.watch_until(800, |world| world.checks.recoveries.cuts.contains_key(&0));
    let to_late = |to, packet: &Packet| {
        let is_late = late.iter().any(|node| to == Place::Node(*node));
        is_late && matches!(packet, Packet::Catalog { .. })
    };
    world.watch_without(700, to_late, |_| false);
    world.pass(500);
}

/// ASYNC REPLICATION and DURABILITY. The definitions change while a disk hangs, so that no mark behind that is on all disks. A node is
/// cut off, and the others lose power: the database goes on from a cut before the change. It loses power again later, and goes on
/// from a cut above it. Then the one that was cut off, and has the change, is named by a standing order.
fn two_cuts(world: &mut World) {
    world.pass(300);
    let meta = world.partition(0, Ordinal::META);
    let (teller, hanging) = (world.primary_for_client(0, meta), primary(world));
    let apart = world.peers(teller).into_iter().find(|node| *node != hanging).expect("three leaves");
    world.nodes[hanging].sync_min = 2000;
    world.pass(60);
    world.redefine(|world| world.counter(apart, meta));
    world.pass(40);
    world.isolate(apart, 2600);
    for cuts in 1..=2 {
        for node in [teller, hanging] {
            world.stop_for(node, true, 30);
            world.nodes[node].sync_min = 0;
        }
        world.watch_until(800, |world| world.checks.recoveries.cuts.get(&0).is_some_and(|known| known.len() == cuts));
        world.pass(400);
    }
    let catalog = Place::Catalog(0);
    world.watch_until(2600, |world| !world.blocked.contains_key(&(Place::Node(apart), catalog)));
    let links = [teller, hanging]
        .into_iter()
        .flat_map(|node| [catalog, Place::Node(apart)].map(|end| (Place::Node(node), end)));
    world.block(links.collect(), 1500);
    world.pass(1500);
}

/// ASYNC REPLICATION. Transactions wait for their timestamps at a primary that sees nobody any more. Another one is named, and the
/// definitions change. That is cut off when the first is back; the timestamps come before the catalog's word, and then the first
/// is named again, with what it has in its log. The primary of the meta partition lives, and lacks the end of the others' logs.
fn late_timestamps(world: &mut World) {
    let (id, meta) = (world.partition(0, Ordinal(0)), world.partition(0, Ordinal::META));
    let (old, teller, place) = (primary(world), world.primary_for_client(0, meta), Place::Node);
    let next = world.peers(old).into_iter().find(|peer| *peer != teller).expect("three leaves");
    world.pass(60);
    world.block([old, next].map(|node| (place(node), place(teller))).to_vec(), 5000);
    world.pass(240);
    world.isolate(old, 2000);
    world.watch_until(700, |world| primary(world) == next && leads(world, next, id));
    let (before, end) = (world.counter(teller, meta), world.now + 1400 * MILLI);
    let is_news = |to, packet: &Packet| {
        to == place(old) && matches!(packet, Packet::Request { request: TxnRequest::Require { .. }, .. })
    };
    while world.now < end && world.counter(teller, meta) == before {
        world.change_definitions(0);
        for _ in 0..1000 {
            world.hold_back(end, is_news);
            world.run_until(world.now + MILLI / 20);
        }
    }
    world.clients.only_partition = Some(id.ordinal);
    world.watch_until(2000, |world| !world.blocked.contains_key(&(place(old), Place::Catalog(0))));
    world.isolate(next, 1500);
    let is_word = |to, packet: &Packet| to == place(old) && matches!(packet, Packet::Catalog { .. });
    world.watch_without(60, is_word, |_| false);
    world.pass(900);
    world.clients.only_partition = None;
}

/// The members of a partition.
fn set_of(world: &World, ordinal: Ordinal) -> Vec<usize> {
    let members = world.regions[0].catalog.partitions[&world.partition(0, ordinal)].members.clone();
    members.into_iter().map(|member| world.node_of(0, member.node)).collect()
}

/// Whether it is a primary that serves.
fn leads(world: &World, node: usize, id: PartitionId) -> bool {
    world.nodes[node].replica(id).is_some_and(|replica| replica.is_serving())
}
