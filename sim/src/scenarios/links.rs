//! Histories of links between regions (`protocol.md` section 6): SYNC links, fences and marks.

use replication::Planted as Rule;
use types::{Ordinal, Timestamp};

use super::Scenario;
use super::regions::{come_back, sized, stop_replicating, wait_for_sink};
use crate::options::{Keep, MILLI, Planted, Scale};
use crate::world::{Event, Place, World};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "under a SYNC link a commit that was answered is there when the source burns, whatever idle partitions lack",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 1]),
            play: source_burns,
            rule: Some((Planted::SyncOnArrival, &["sync_link"])),
        },
        Scenario {
            name: "what a sink has served stands when its source goes on without it, until a person says otherwise",
            scale: Scale::Regions,
            options: |options| {
                sized(options, &[2, 1]);
                options.mode.sync_replication = false;
            },
            play: source_loses,
            rule: Some((Planted::Replica(Rule::LossUnasked), &["cut_is_consistent"])),
        },
        Scenario {
            name: "final positions are read when no transaction can write to a second partition any more",
            scale: Scale::Regions,
            options: |options| {
                sized(options, &[2, 2]);
                options.wide = 100;
            },
            play: late_write,
            rule: Some((Planted::EarlyFinal, &["fence", "cut_is_consistent"])),
        },
        Scenario {
            name: "a sink that turns to a source promoted below its marks serves none of them, heard of or not",
            scale: Scale::Regions,
            options: |options| sized(options, &[1, 2, 1]),
            play: kept_marks,
            rule: Some((Planted::Replica(Rule::MarksSurvive), &["cut_is_consistent", "promotion_rows"])),
        },
        Scenario {
            name: "a source turns to another history before it gives the copy that its sink has asked for",
            scale: Scale::Regions,
            options: |options| {
                sized(options, &[1, 1, 1]);
                options.keep = Keep::Little;
            },
            play: turned_before_copy,
            rule: Some((Planted::Replica(Rule::CopyUncompared), &["cut_is_consistent", "promotion_rows"])),
        },
        Scenario {
            name: "a damaged replica that is named just then takes no copy of what its sink's source has turned to",
            scale: Scale::Regions,
            options: |options| sized(options, &[1, 1, 3]),
            play: damaged_when_named,
            rule: Some((Planted::Replica(Rule::CopyByDamaged), &["cut_is_consistent", "promotion_rows"])),
        },
        Scenario {
            name: "a late word that a sink's state is incomplete is contradicted",
            scale: Scale::Regions,
            options: |options| {
                sized(options, &[1, 2]);
                options.keep = Keep::Little;
            },
            play: late_word,
            rule: Some((Planted::WordOnce, &["convergence"])),
        },
    ]
}

/// Of two partitions of the source one is written and the other is idle. The primary of the idle one loses the catalog, and
/// resolves nothing any more: the sink's cut stays where it is. Commits of the written one reach the sink's disk. Then the
/// source burns, and the sink is promoted at its cut: what was answered must be there.
fn source_burns(world: &mut World) {
    let (written, idle) = (Ordinal(0), Ordinal(1));
    world.pass(300);
    wait_for_sink(world);
    world.clients.only_partition = Some(written);
    world.pass(100);
    let Some(primary) = world.leader_of(0, idle) else { return };
    world.block(vec![(Place::Node(primary), Place::Catalog(0))], 190);
    world.pass(30);
    // Its record has arrived, and the cut has not come to its time.
    let above = |world: &World| {
        let (cut, durable) = (world.reported_cut(0, 1), world.reported_durable(0, 1, written));
        let mut txns = world.clients.txns.values();
        txns.any(|txn| {
            let arrived = txn.parts[0].ordinal == written && txn.decided.is_some_and(|(_, lsn)| lsn <= durable);
            arrived && txn.region == 0 && txn.ts.is_some_and(|ts| ts > cut)
        })
    };
    world.watch_until(140, above);
    world.pass(12);
    world.sever_for(0, 1, 3000);
    for node in 0..2 {
        world.stop_for(node, true, 3000);
    }
    world.clients.only_partition = None;
    stop_replicating(world, 1);
    world.pass(1000);
}

/// The source does not wait for its secondary, which is away while the sink serves what is committed. Then the primary is gone,
/// and the standing order names the secondary: its log parts from the sink's below what was served.
fn source_loses(world: &mut World) {
    world.pass(300);
    world.block(vec![(Place::Node(0), Place::Node(1))], 400);
    world.pass(200);
    let Some(primary) = world.leader_of(0, Ordinal(0)) else { return };
    world.stop_for(primary, false, 2500);
    world.pass(2000);
}

/// A transaction has written to one partition and not to its second one when its region is fenced for a planned exchange.
/// It writes there, and commits, while the region drains. The exchange must not leave it behind.
fn late_write(world: &mut World) {
    world.pass(300);
    for _ in 0..6 {
        let writer = usize::from(world.is_sink(0));
        world.watch_until(200, |world| world.clients.has_more_to_write(writer));
        world.begin_fence(writer);
        world.pass_until(500, |world| world.is_sink(writer));
        world.pass(150);
    }
}

/// V and W follow E. W loses sight of E, and is promoted at its cut; V goes on, and has a later one. Then E burns and V turns to
/// W: one of its partitions hears of the promotion, the other one's source has just stopped. V is promoted in the middle of this.
fn kept_marks(world: &mut World) {
    let stalled = Ordinal(1);
    world.pass(300);
    come_back(world, 2, 0);
    come_back(world, 1, 0);
    let served = |world: &World, region, after: Timestamp| world.cut_of(region).is_some_and(|cut| cut > after);
    world.pass_until(600, |world| served(world, 1, Timestamp::ZERO) && served(world, 2, Timestamp::ZERO));
    world.pass(150);
    world.sever_for(0, 1, 2000);
    world.pass(60);
    stop_replicating(world, 1);
    world.pass(200);
    let source = world.leader_of(1, stalled);
    come_back(world, 2, 1);
    if let Some(source) = source {
        world.stop_for(source, true, 800);
    }
    world.pass(100);
    stop_replicating(world, 2);
    world.pass(900);
}

/// W follows E, and V follows W. W is promoted, and V serves what W writes. V's log ends before W's begins, and it asks for a
/// copy; its catalog does not hear of that, so that none is given. W is ordered to follow E again, which never heard of the
/// promotion. What V can have of W then is E's history, and its catalog waits for what is missing there.
fn turned_before_copy(world: &mut World) {
    world.pass(300);
    come_back(world, 1, 0);
    come_back(world, 2, 1);
    let served = |world: &World, after| world.cut_of(2).is_some_and(|cut| cut > after);
    world.pass_until(600, |world| served(world, Timestamp::ZERO));
    world.sever_for(0, 1, 450);
    stop_replicating(world, 1);
    let cut = world.cut_of(2).unwrap_or_default();
    world.pass_until(150, |world| served(world, cut));
    world.pass(50);
    world.sever_for(1, 2, 150);
    world.pass(120);
    let sink = world.regions[2].first_node;
    world.block(vec![(Place::Node(sink), Place::Catalog(2))], 350);
    world.pass(130);
    come_back(world, 1, 0);
    world.pass(900);
}

/// W follows E, and V follows W. W is promoted, and V serves what W writes. W is ordered to follow E again, which never heard of
/// the promotion: what V can have of W then is E's history, and its catalog waits. The primary of one of V's partitions loses its
/// catalog, and another member is named; before that one knows it is found to be damaged, and the third one is away.
fn damaged_when_named(world: &mut World) {
    let (ordinal, id) = (Ordinal(0), world.partition(2, Ordinal(0)));
    world.pass(300);
    come_back(world, 1, 0);
    come_back(world, 2, 1);
    let served = |world: &World, after| world.cut_of(2).is_some_and(|cut| cut > after);
    world.pass_until(600, |world| served(world, Timestamp::ZERO));
    world.sever_for(0, 1, 450);
    stop_replicating(world, 1);
    let cut = world.cut_of(2).unwrap_or_default();
    world.pass_until(200, |world| served(world, cut));
    world.pass(250);
    come_back(world, 1, 0);
    world.pass(150);
    let Some(first) = world.leader_of(2, ordinal) else { return };
    world.block(vec![(Place::Node(first), Place::Catalog(2))], 1500);
    let named = |world: &World| world.node_of(2, world.regions[2].catalog.partitions[&id].primary.node);
    world.watch_until(400, |world| named(world) != first);
    let second = named(world);
    for third in world.peers(first).into_iter().filter(|node| *node != second) {
        world.stop_for(third, false, 600);
    }
    world.rot(second, 1, true, 5);
    world.pass(1500);
}

/// The log of a source does not reach back to what its sink has, which says that its state is incomplete, and complete when it
/// has its copy. The first word was thought lost and said again: now it arrives.
fn late_word(world: &mut World) {
    let id = world.partition(1, Ordinal(0));
    let copies = |world: &World| world.regions[1].catalog.partitions[&id].incomplete;
    world.pass(300);
    for _ in 0..3 {
        world.sever_for(0, 1, 500);
        world.pass(500);
        world.watch_until(300, copies);
        if copies(world) {
            let reign = world.regions[1].catalog.partitions[&id].reign;
            world.watch_until(400, |world| !copies(world));
            world.after(5 * MILLI, Event::Word(1, id, reign, true));
        }
        world.pass(300);
    }
}
