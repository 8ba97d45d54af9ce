//! Histories between regions (`protocol.md` sections 5 and 6).

use catalog::Command;
use catalog::link::{LinkMode, OnSilence};

use super::Scenario;
use crate::options::{Fault, Keep, Options, Planted, Scale};
use crate::world::{Place, World};
use replication::Planted as Rule;
use types::Mode;

pub(super) fn all() -> Vec<Scenario> {
    let mut all = exchanged();
    all.extend(replaced());
    all.extend(named_anew());
    all.extend(cascaded());
    all.extend(recovered());
    all
}

/// Two regions change roles.
fn exchanged() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a source that returns rewinds although power fails between any two steps",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2]),
            play: interrupted_rewind,
            rule: Some((Planted::RewindUnsynced, &["cursor_order", "convergence", "record_identity"])),
        },
        Scenario {
            name: "promoted, sent back, promoted again: no epoch names two histories",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2]),
            play: there_and_back,
            rule: Some((Planted::AsideCommitsOnly, &["set_aside_complete"])),
        },
        Scenario {
            name: "a planned exchange whose answer is lost leaves one writer",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2]),
            play: lost_answer,
            rule: Some((Planted::TakeBack, &["single_writer"])),
        },
        Scenario {
            name: "under a seal the final timestamp is the last mark",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2]),
            play: exchanges,
            rule: Some((Planted::Replica(Rule::MarksAfterSeal), &["fence", "cut_is_consistent"])),
        },
    ]
}

/// Replicas are replaced, or sleep, while they do.
fn replaced() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a sink's primary is replaced while its region is promoted",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 3]),
            play: replaced_at_promotion,
            rule: None,
        },
        Scenario {
            name: "a sink's primary rewinds, dies before its source writes again, and its secondary is promoted",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2]),
            play: rewound_and_replaced,
            rule: Some((
                Planted::Replica(Rule::SinkEndUnasked),
                &["convergence", "cut_is_consistent", "promotion_rows"],
            )),
        },
        Scenario {
            name: "a source's primary that was replaced and does not know it answers its sink",
            scale: Scale::Regions,
            options: |options| sized(options, &[3, 1]),
            play: stale_source,
            rule: Some((Planted::Replica(Rule::HistoryUnleased), &["no_fork"])),
        },
        Scenario {
            name: "a source's primary of an earlier life of its database answers its sink, and is not believed",
            scale: Scale::Regions,
            options: |options| sized(options, &[3, 1]),
            play: stale_history,
            rule: Some((Planted::Replica(Rule::HistoryUnleased), &["no_fork"])),
        },
    ]
}

/// Who is named then, or was away, has less than others, or what is over.
fn named_anew() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a member whose log begins above the point to which its primary rewinds is copied to",
            scale: Scale::Regions,
            options: |options| {
                sized(options, &[2, 2]);
                options.keep = Keep::Little;
            },
            play: there_and_back,
            rule: Some((Planted::Replica(Rule::MemberAwaitsCopy), &["convergence"])),
        },
        Scenario {
            name: "a promoted region follows anew under a primary that joined while it wrote, and is promoted again",
            scale: Scale::Regions,
            options: |options| sized(options, &[1, 2]),
            play: joined_while_written,
            rule: Some((Planted::Replica(Rule::CutForgotten), &["sync_link", "cut_is_consistent"])),
        },
        Scenario {
            name: "a frame of the sink's last primary comes when its database was promoted, and lowers no mark",
            scale: Scale::Regions,
            options: |options| {
                sized(options, &[1, 2]);
                options.slow = 150;
            },
            play: late_frames,
            rule: Some((Planted::Replica(Rule::LateFrames), &["sync_link", "cut_is_consistent"])),
        },
        Scenario {
            name: "who is named when a promoted region follows anew serves nothing that its log has declared dead",
            scale: Scale::Regions,
            options: |options| sized(options, &[1, 2]),
            play: dead_below_mark,
            rule: Some((Planted::Replica(Rule::DeadServed), &["promotion_rows", "cut_is_consistent"])),
        },
        Scenario {
            name: "a replica sleeps through an exchange of the regions and wakes up",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2]),
            play: sleeper,
            rule: None,
        },
    ]
}

/// A source with ASYNC DURABILITY loses power as a whole.
fn recovered() -> Vec<Scenario> {
    vec![Scenario {
        name: "a source whose machines all lost power goes on from no cut below what its sink has served",
        scale: Scale::Regions,
        options: |options| {
            sized(options, &[2, 1]);
            options.mode.sync_durability = false;
            options.sync_max = 150;
        },
        play: power_of_source,
        rule: Some((Planted::Replica(Rule::MarkBeforeHeld), &["whole_after_loss", "cut_is_consistent", "fence"])),
    }]
}

/// A third region follows the second.
fn cascaded() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a region that has not rewound yet passes nothing on",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 2, 1]),
            play: unreconciled_relay,
            rule: Some((
                Planted::Replica(Rule::RelayBeforeJoined),
                &["cut_is_consistent", "promotion_rows", "whole_after_loss"],
            )),
        },
        Scenario {
            name: "a mark from before a promotion says nothing after it",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 3, 1]),
            play: late_marks,
            rule: Some((
                Planted::Replica(Rule::LateMarks),
                &["cut_is_consistent", "promotion_rows", "whole_after_loss"],
            )),
        },
    ]
}

pub(super) fn sized(options: &mut Options, leaves: &[usize]) {
    options.leaves = leaves.to_vec();
    options.mode = Mode { sync_replication: true, sync_durability: true };
    options.partitions = 2;
    options.wide = 50;
    options.control_gap = 30;
    options.sync_max = 10;
}

/// STOP REPLICATING at a sink, at its cut. Waits until it has one.
pub(super) fn stop_replicating(world: &mut World, region: usize) {
    for _ in 0..100 {
        let cut = world.cut_of(region).filter(|cut| *cut > types::Timestamp::ZERO);
        if let (Some((link, _)), Some(cut)) = (world.followed(region), cut)
            && world.promote(region, link, cut, true, None)
        {
            return;
        }
        world.pass(10);
    }
}

/// REPLICATE … WITH FORCE DIFFERENTIAL.
pub(super) fn come_back(world: &mut World, region: usize, source: usize) {
    for _ in 0..100 {
        if world.follow(region, source, true) {
            return;
        }
        world.pass(10);
    }
}

fn interrupted_rewind(world: &mut World) {
    world.pass(500);
    world.sever_for(0, 1, 400);
    world.pass(100);
    stop_replicating(world, 1);
    world.pass(350);
    come_back(world, 0, 1);
    for turn in 0..25 {
        world.pass(5 + turn);
        world.stop_node(turn as usize % 2, true);
    }
    world.pass(1000);
}

fn there_and_back(world: &mut World) {
    for _ in 0..3 {
        world.pass(300);
        world.sever_for(0, 1, 250);
        world.pass(60);
        stop_replicating(world, 1);
        world.pass(250);
        come_back(world, 1, 0);
        world.pass(400);
        world.sever_for(0, 1, 150);
        world.pass(40);
        stop_replicating(world, 1);
        world.pass(200);
        come_back(world, 0, 1);
        world.pass(300);
        stop_replicating(world, 0);
        world.pass(100);
        come_back(world, 1, 0);
    }
}

fn lost_answer(world: &mut World) {
    for _ in 0..6 {
        world.pass(300);
        let writer = usize::from(world.is_sink(0));
        world.begin_fence(writer);
        for _ in 0..400 {
            world.pass(1);
            if !world.is_sink(1 - writer) {
                world.sever_for(0, 1, 200);
                break;
            }
        }
        world.pass(500);
    }
}

fn exchanges(world: &mut World) {
    for _ in 0..8 {
        world.pass(200);
        let writer = usize::from(world.is_sink(0));
        world.begin_fence(writer);
        world.pass(400);
    }
}

fn replaced_at_promotion(world: &mut World) {
    world.pass(500);
    let first = world.regions[1].first_node;
    world.fault(Fault::Pause, first);
    world.pass(20);
    stop_replicating(world, 1);
    world.stop_node(first + 1, true);
    world.pass(800);
    come_back(world, 0, 1);
    world.pass(500);
}

/// What lies in a secondary above the common point is another history, even when nothing follows that would say so.
fn rewound_and_replaced(world: &mut World) {
    world.pass(300);
    // The source has nothing to write from here on.
    world.clients.only = Some(1);
    world.pass(400);
    stop_replicating(world, 1);
    world.pass(200);
    world.rest();
    come_back(world, 1, 0);
    world.pass(300);
    for node in [0, 1] {
        let first = world.regions[1].first_node;
        world.stop_node(first + node, false);
        world.pass(600);
    }
    stop_replicating(world, 1);
    world.clients.only = None;
    world.wake_clients();
    world.pass(400);
}

/// The primary of the source is cut off and replaced, its successor ships and stops: the sink finds only the first one.
fn stale_source(world: &mut World) {
    world.pass(400);
    let stale = world.regions[0].first_node;
    let mut links: Vec<(Place, Place)> =
        world.peers(stale).into_iter().map(|peer| (Place::Node(stale), Place::Node(peer))).collect();
    links.push((Place::Node(stale), Place::Catalog(0)));
    world.block(links, 1500);
    world.pass(500);
    for node in world.peers(stale) {
        world.stop_for(node, false, 300);
    }
    world.pass(1500);
}

/// The primary of the source is cut off and replaced. Its region follows the other one and is promoted again, and stops when
/// that one has come back: the sink finds only the primary that knows nothing of it all.
fn stale_history(world: &mut World) {
    world.pass(400);
    let stale = world.regions[0].first_node;
    let mut links: Vec<(Place, Place)> =
        world.peers(stale).into_iter().map(|peer| (Place::Node(stale), Place::Node(peer))).collect();
    links.push((Place::Node(stale), Place::Catalog(0)));
    world.block(links, 4000);
    world.pass(500);
    world.sever_for(0, 1, 200);
    world.pass(50);
    stop_replicating(world, 1);
    world.pass(200);
    come_back(world, 0, 1);
    world.pass(400);
    stop_replicating(world, 0);
    world.pass(200);
    come_back(world, 1, 0);
    world.pass(400);
    for node in world.peers(stale) {
        world.stop_for(node, false, 400);
    }
    world.pass(1000);
}

/// Commits of the first region wait for its sink, as soon as that has caught up.
pub(super) fn wait_for_sink(world: &mut World) {
    let links: Vec<types::LinkId> = world.regions[0].catalog.sources.keys().copied().collect();
    for link in links {
        let sync = Command::SetSync { link, sync: true, on_silence: OnSilence::Block };
        drop(world.decide(0, &sync));
    }
    let waits = |world: &World| world.regions[0].catalog.sources.values().any(|link| link.mode == LinkMode::Sync);
    world.pass_until(1000, waits);
}

/// The sink's second node is away while commits wait for the first one, joins when the region is promoted, and leads
/// it alone when it follows anew: what was acknowledged under the link that was SYNC is in its log, and no mark says
/// so.
fn joined_while_written(world: &mut World) {
    let first = world.regions[1].first_node;
    world.pass(300);
    wait_for_sink(world);
    world.pass(200);
    world.stop_for(first + 1, false, 1000);
    world.pass(800);
    world.sever_for(0, 1, 1000);
    stop_replicating(world, 1);
    world.pass(1000);
    world.stop_for(first, false, 2000);
    world.pass(800);
    come_back(world, 1, 0);
    world.sever_for(0, 1, 600);
    stop_replicating(world, 1);
    world.pass(1500);
}

/// The sink's first node does not hear that the region was promoted, the second one hears it before the last frames
/// of the first. It is named when the region follows anew, and the region is promoted again.
fn late_frames(world: &mut World) {
    let first = world.regions[1].first_node;
    world.pass(300);
    wait_for_sink(world);
    for _ in 0..4 {
        world.pass(300);
        world.block(vec![(Place::Node(first), Place::Catalog(1))], 300);
        stop_replicating(world, 1);
        world.pass(50);
        world.stop_for(first, false, 700);
        world.pass(100);
        come_back(world, 1, 0);
        world.sever_for(0, 1, 500);
        stop_replicating(world, 1);
        world.pass(600);
        come_back(world, 1, 0);
        wait_for_sink(world);
    }
}

/// The sink's second node has noted a mark and loses the catalog. The region is promoted below that mark: the node hears it
/// from its primary alone. It is named when the region follows anew, under the list of promotions that it knows, and before it
/// has heard the source the region is promoted again.
fn dead_below_mark(world: &mut World) {
    let first = world.regions[1].first_node;
    world.pass(300);
    world.stop_for(first + 1, false, 200);
    world.pass(700);
    world.block(vec![(Place::Node(first + 1), Place::Catalog(1))], 500);
    world.pass(30);
    let promoted = |world: &mut World| {
        let (link, cut) = (world.followed(1)?.0, world.cut_of(1).filter(|cut| *cut > types::Timestamp::ZERO)?);
        let cut = types::Timestamp(cut.0 - types::Timestamp::from_millis(100).0);
        world.promote(1, link, cut, false, None).then_some(())
    };
    (0..5).find_map(|_| {
        world.pass(10);
        promoted(world)
    });
    world.pass(350);
    world.stop_for(first, false, 3000);
    come_back(world, 1, 0);
    world.sever_for(0, 1, 1500);
    world.pass(500);
    stop_replicating(world, 1);
    world.pass(800);
}

fn sleeper(world: &mut World) {
    world.pass(300);
    let sleeper = world.regions[0].first_node + 1;
    world.stop_for(sleeper, true, 2500);
    world.pass(300);
    for _ in 0..2 {
        world.sever_for(0, 1, 200);
        world.pass(50);
        stop_replicating(world, 1);
        world.pass(300);
        come_back(world, 0, 1);
        world.pass(300);
        stop_replicating(world, 0);
        world.pass(100);
        come_back(world, 1, 0);
        world.pass(200);
    }
    world.pass(1500);
}

/// W was promoted, returns to E by order, and loses sight of it before it has dropped what E lacks. V has served E's cut and
/// turns to W: what W holds is another history.
fn unreconciled_relay(world: &mut World) {
    world.pass(300);
    for _ in 0..4 {
        come_back(world, 2, 0);
        world.pass(200);
        world.sever_for(0, 1, 350);
        stop_replicating(world, 1);
        world.pass(380);
        come_back(world, 1, 0);
        world.sever_for(0, 1, 300);
        world.follow(2, 1, false);
        world.pass(600);
    }
}

/// V follows W, which is promoted while one of its primaries does not hear of it: V does, through another partition.
fn late_marks(world: &mut World) {
    world.pass(300);
    for _ in 0..4 {
        come_back(world, 2, 1);
        world.pass(200);
        let first = world.regions[1].first_node;
        for node in [first, first + 1] {
            world.block(vec![(Place::Node(node), Place::Catalog(1))], 150);
        }
        world.pass(20);
        stop_replicating(world, 1);
        world.pass(400);
        come_back(world, 1, 0);
        world.pass(400);
    }
}

fn power_of_source(world: &mut World) {
    for _ in 0..4 {
        world.pass(600);
        world.fault(Fault::PowerAll, 0);
    }
    world.pass(800);
}
