//! Histories inside a region (`protocol.md` sections 1 to 3).

use super::Scenario;
use crate::options::{Fault, Options, Planted, Scale};
use crate::world::{Packet, Place, World};
use replication::{FeedId, Planted as Rule, SetChange};
use types::{Lsn, Mode};

pub(super) fn all() -> Vec<Scenario> {
    let mut all = failures();
    all.extend(disks());
    all.extend(recoveries());
    all.extend(copies());
    all
}

fn failures() -> Vec<Scenario> {
    let stale: &[&str] = &["reads_are_fresh", "no_fork"];
    vec![
        Scenario {
            name: "a restarted node waits for the grants of the process before",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: restarted_granter,
            rule: Some((Planted::Replica(Rule::RestartForgets), stale)),
        },
        Scenario {
            name: "whoever the standing order names syncs its log before it starts",
            scale: Scale::Region,
            options: |options| {
                sized(options, 2, false, false);
                options.sync_max = 400;
                options.slow = 200;
            },
            play: named_unsynced,
            rule: Some((Planted::Replica(Rule::NamedUnsynced), &["acked_write_survives"])),
        },
        Scenario {
            name: "a replica that restarted refuses the primary whose successor it has answered",
            scale: Scale::Region,
            options: |options| sized(options, 3, true, true),
            play: stale_primary,
            rule: Some((Planted::Replica(Rule::PromiseVolatile), &["promises_kept"])),
        },
        Scenario {
            name: "the longest log is the one of the highest epoch",
            scale: Scale::Region,
            options: |options| sized(options, 3, false, true),
            play: longest_log,
            rule: Some((Planted::LongestByLsn, &["longest_log", "acked_write_survives"])),
        },
        Scenario {
            name: "a primary alone that stands still in a read answers only what its lease still covers",
            scale: Scale::Region,
            options: |options| sized(options, 2, false, true),
            play: paused_reader,
            rule: Some((Planted::Replica(Rule::LeaseBeforeRead), &["no_fork"])),
        },
        Scenario {
            name: "a primary alone that stands still in a read of its log ships only under its lease",
            scale: Scale::Region,
            options: |options| sized(options, 2, false, false),
            play: paused_feeder,
            rule: Some((Planted::Replica(Rule::ReadShippedLate), &["no_fork"])),
        },
        Scenario {
            name: "a paused primary that wakes up after it was replaced serves no read",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: paused_primary,
            rule: Some((Planted::Replica(Rule::GrantsRenewed), stale)),
        },
    ]
}

/// Disks that hang, and power that fails.
fn disks() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "power fails on all replicas at once and nothing on disk is lost",
            scale: Scale::Region,
            options: |options| sized(options, 3, true, true),
            play: power_of_all,
            rule: Some((Planted::Replica(Rule::AckBeforeSync), &["commit_is_in_sync_min", "acked_write_survives"])),
        },
        Scenario {
            name: "a member whose disk hangs holds up writes for a while only",
            scale: Scale::Region,
            options: |options| sized(options, 3, true, true),
            play: hanging_disk,
            rule: Some((Planted::Replica(Rule::SlowStays), &["convergence"])),
        },
        Scenario {
            name: "a memtable is flushed only below what the log has synced",
            scale: Scale::Region,
            options: |options| sized(options, 3, true, false),
            play: power_of_all,
            rule: Some((Planted::Replica(Rule::FlushBeforeSync), &["cursor_order"])),
        },
    ]
}

/// Replicas that take over copies.
fn copies() -> Vec<Scenario> {
    let held: &[&str] = &["commit_is_in_sync_min", "acked_write_survives"];
    vec![
        Scenario {
            name: "a member that took over a copy is believed only when it is out of its set",
            scale: Scale::Region,
            options: |options| sized(options, 3, true, true),
            play: copied_member,
            rule: Some((Planted::Replica(Rule::MemberByCopy), held)),
        },
        Scenario {
            name: "what a replica acknowledged before it was opened anew counts no longer",
            scale: Scale::Region,
            options: |options| sized(options, 3, true, true),
            play: late_acks,
            rule: Some((Planted::Replica(Rule::OldLives), held)),
        },
        Scenario {
            name: "who was proposed has no copy before it is known what came of that",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, true),
            play: proposed_life,
            rule: Some((Planted::Replica(Rule::CopyForWaited), &["acked_write_survives"])),
        },
    ]
}

/// All processes of a region are gone at once, with ASYNC DURABILITY.
fn recoveries() -> Vec<Scenario> {
    let whole: &[&str] = &["whole_after_loss", "promotion_rows"];
    vec![
        Scenario {
            name: "power fails on all replicas at once and no transaction is left in part",
            scale: Scale::Region,
            options: |options| {
                sized(options, 2, true, false);
                (options.partitions, options.wide) = (2, 80);
            },
            play: power_of_all,
            rule: Some((Planted::UncutRecovery, whole)),
        },
        Scenario {
            name: "all processes of a region are killed and nothing is given up",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, true, false);
                options.partitions = 2;
            },
            play: kill_of_all,
            rule: Some((Planted::KillIsPowerLoss, whole)),
        },
        Scenario {
            name: "one machine keeps its power while all processes end, and its log goes on",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, true, false);
                options.partitions = 2;
            },
            play: power_of_all_but_one,
            rule: None,
        },
        Scenario {
            name: "a partition that nobody writes is no reason to give up what others have on disk",
            scale: Scale::Region,
            options: |options| {
                sized(options, 2, true, false);
                options.partitions = 2;
            },
            play: idle_partition,
            rule: Some((Planted::Replica(Rule::IdleMarks), whole)),
        },
        Scenario {
            name: "a damaged primary that lives is not waited for where another machine has everything",
            scale: Scale::Region,
            options: |options| sized(options, 2, true, false),
            play: damaged_primary,
            rule: Some((Planted::DamagedAwaited, &["convergence"])),
        },
    ]
}

pub(super) fn sized(options: &mut Options, leaves: usize, sync_replication: bool, sync_durability: bool) {
    options.leaves = vec![leaves];
    options.partitions = 1;
    options.mode = Mode { sync_replication, sync_durability };
    options.sync_max = if sync_durability { 3 } else { 150 };
}

/// The node that the catalog has as primary of the first partition of rows.
pub(super) fn primary(world: &World) -> usize {
    let id = world.partition(0, types::Ordinal(0));
    world.node_of(0, world.regions[0].catalog.partitions[&id].primary.node)
}

/// The primary loses the catalog, which names another when it has been silent for long; just then the granter of its
/// lease restarts.
fn restarted_granter(world: &mut World) {
    world.pass(700);
    let old = primary(world);
    let other = world.peers(old)[0];
    world.block(vec![(Place::Node(old), Place::Catalog(0))], 1200);
    world.cut_later(190, Place::Node(old), Place::Node(other), 800);
    world.pass(192);
    world.stop_for(other, false, 2);
    world.pass(1200);
}

/// The primary loses the catalog alone: it goes on shipping for a while, and its secondary receives, some frames late: when
/// it has told the catalog where its log ends. It is named by the standing order, and loses power when it has started.
fn named_unsynced(world: &mut World) {
    world.pass(600);
    for _ in 0..3 {
        let old = primary(world);
        world.block(vec![(Place::Node(old), Place::Catalog(0))], 700);
        world.fault(Fault::Fresh, old);
        world.pass(1300);
    }
}

/// The primary loses all but one peer. That one answers its successor, restarts, and sees the old primary alone.
fn stale_primary(world: &mut World) {
    for _ in 0..3 {
        world.pass(700);
        let old = primary(world);
        world.fault(Fault::Stale, old);
        world.pass(1400);
    }
}

/// One replica has a long end of an old epoch, another a shorter log of a newer one with acknowledged writes.
fn longest_log(world: &mut World) {
    world.pass(300);
    let first = primary(world);
    let [second, third] = world.peers(first)[..] else { panic!("three leaves") };
    let place = Place::Node;
    world.block(vec![(place(first), place(second))], 1100);
    world.pass(650);
    world.isolate(third, 850);
    world.cut_later(840, place(third), place(first), 2000);
    world.stop_for(first, true, 550);
    world.pass(820);
    world.stop_for(second, true, 1500);
    world.pass(1500);
}

/// A primary stands still, cut off, until another has served for long. When it wakes up its peer answers its heartbeat
/// before it hears that it was replaced.
fn paused_primary(world: &mut World) {
    for _ in 0..2 {
        world.pass(300);
        let old = primary(world);
        stand_still(world, old, 600);
        world.watch_without(30, brings_news(old), |_| false);
        world.pass(400);
    }
}

/// A process stands still, and is cut off, for so many milliseconds.
pub(super) fn stand_still(world: &mut World, node: usize, millis: u64) {
    world.pause(node, millis);
    world.isolate(node, millis - 1);
    world.pass(millis - 1);
}

/// What tells a node of a new reign.
pub(super) fn brings_news(node: usize) -> impl Fn(Place, &Packet) -> bool {
    move |to, packet| to == Place::Node(node) && matches!(packet, Packet::Frame(_) | Packet::Catalog { .. })
}

/// ASYNC REPLICATION: what the primary writes last reaches nobody. It stands still, perhaps between a look at its lease and
/// the value, and wakes when the standing order has named another.
fn paused_reader(world: &mut World) {
    for _ in 0..4 {
        world.pass(400);
        let primary = primary(world);
        world.block(
            world.peers(primary).into_iter().map(|peer| (Place::Node(primary), Place::Node(peer))).collect(),
            700,
        );
        world.pass(30);
        world.pause(primary, 800);
        world.pass(900);
    }
}

/// ASYNC REPLICATION, slow disks: much becomes safe at once, and is read from the log for those who follow from elsewhere. Its
/// peer has not got it. The primary stands still before what was read is at hand. The standing order names the peer, whose
/// process ends when its reign has just started; then the old primary goes on.
fn paused_feeder(world: &mut World) {
    let id = world.partition(0, types::Ordinal(0));
    for _ in 0..4 {
        world.pass(400);
        let primary = primary(world);
        let links = world.peers(primary).into_iter().map(|peer| (Place::Node(primary), Place::Node(peer)));
        world.block(links.collect(), 1500);
        world.pass(250);
        let reads = |world: &World| {
            let for_a_sink = |read: &(FeedId, Lsn, Lsn, usize)| matches!(read.0, FeedId::Sink(_));
            world.nodes[primary].hosted(id).is_some_and(|hosted| hosted.reads.iter().any(for_a_sink))
        };
        world.watch_until(500, reads);
        world.pause(primary, 900);
        let next = world.peers(primary)[0];
        world.watch_until(850, |world| world.nodes[next].replica(id).is_some_and(|replica| replica.mints().is_some()));
        world.stop_for(next, false, 500);
        world.pass(1000);
    }
}

/// A member is found to be damaged, and could have a copy that ends below what was committed: its primary has not applied
/// the rest. Neither of them sees the catalog meanwhile, so that it is a member still. Then all others are killed.
fn copied_member(world: &mut World) {
    for _ in 0..4 {
        world.pass(400);
        let (first, id) = (primary(world), world.partition(0, types::Ordinal(0)));
        let [second, third] = world.peers(first)[..] else { panic!("three leaves") };
        let unseen = [first, second].map(|node| (Place::Node(node), Place::Catalog(0)));
        world.block(unseen.to_vec(), 160);
        world.rot(second, 1, true, 5);
        world.pass_until(160, |world| !world.nodes[second].disks[&id].rotten);
        world.stop_for(first, false, 500);
        world.stop_for(third, false, 500);
        world.pass(1000);
    }
}

/// What a member acknowledges is late. It is found to be damaged, leaves its set, and takes over a copy that ends below:
/// another member has not heard of the rest, so that it is not committed. Then the acknowledgement arrives, and nothing else.
fn late_acks(world: &mut World) {
    for _ in 0..4 {
        world.pass(400);
        let (first, id) = (primary(world), world.partition(0, types::Ordinal(0)));
        let [second, third] = world.peers(first)[..] else { panic!("three leaves") };
        world.block(vec![(Place::Node(first), Place::Node(third))], 400);
        let held = |world: &World, synced: bool| {
            let committed = world.nodes[first].replica(id).map_or(Lsn::ZERO, |replica| replica.cursors().committed);
            world.nodes[second].replica(id).is_some_and(|replica| {
                let (end, durable) = (replica.log_end().lsn, replica.cursors().durable);
                end > committed && (end == durable) == synced
            })
        };
        world.pass_until(100, |world| held(world, false));
        world.options.slow = 1000;
        world.pass_until(10, |world| held(world, true));
        world.options.slow = 0;
        world.rot(second, 1, true, 5);
        world.pass_until(250, |world| {
            world.nodes[second].process.as_ref().is_some_and(|process| process.damaged.is_empty())
        });
        world.block(vec![(Place::Node(first), Place::Node(second))], 150);
        world.pass(800);
    }
}

/// A replica that was taken out has caught up, and is proposed. The proposal is late. Meanwhile the replica is found to be
/// damaged, and could have a copy that ends below what was committed with its acknowledgements. The primary dies, and the
/// proposal arrives.
fn proposed_life(world: &mut World) {
    for _ in 0..4 {
        world.pass(300);
        let (first, id) = (primary(world), world.partition(0, types::Ordinal(0)));
        let second = world.peers(first)[0];
        world.block(vec![(Place::Node(first), Place::Node(second))], 500);
        let is_proposal = |_: Place, packet: &Packet| matches!(packet, Packet::Propose { partition, change: SetChange::Add(_), .. } if *partition == id);
        world.watch_until(1500, |world| world.is_under_way(is_proposal));
        let committed = |world: &World| world.nodes[first].replica(id).map(|replica| replica.cursors().committed);
        let counted = committed(world);
        world.watch_without(20, is_proposal, |world| committed(world) > counted);
        world.rot(second, 1, true, 5);
        let has_copy = |world: &World| {
            let hosted = world.nodes[second].hosted(id);
            hosted.is_some_and(|hosted| {
                !hosted.replica.status().repairing || hosted.copying.as_ref().is_some_and(|copying| copying.is_taken())
            })
        };
        world.watch_without(250, is_proposal, has_copy);
        world.block(vec![(Place::Node(first), Place::Node(second))], 300);
        world.watch_without(20, is_proposal, |_| false);
        world.stop_for(first, false, 1000);
        world.pass(1500);
    }
}

/// The process of a member is replaced, and its primary, which does not reach the catalog just then, is found to be damaged before
/// the member is taken out. The process of the primary goes on.
fn damaged_primary(world: &mut World) {
    for _ in 0..2 {
        world.pass(600);
        let (first, id) = (primary(world), world.partition(0, types::Ordinal(0)));
        let second = world.peers(first)[0];
        world.block(vec![(Place::Node(first), Place::Catalog(0))], 120);
        world.stop_for(second, false, 5);
        let is_known = |world: &World| {
            let member = world.nodes[second].member();
            world.nodes[second].process.is_some() && world.regions[0].heard.process(member.node) == Some(member)
        };
        world.pass_until(100, is_known);
        world.pass_until(10, |world| world.nodes[first].hosted(id).is_some_and(|hosted| hosted.timestamps.is_empty()));
        world.nodes[first].disks.get_mut(&id).expect("it leads").rots = true;
        world.find_rot(first, id);
        world.reopen(first, id);
        world.pass(900);
    }
}

fn power_of_all(world: &mut World) {
    for _ in 0..4 {
        world.pass(350);
        world.fault(Fault::PowerAll, 0);
    }
    world.pass(500);
}

/// A member answers, and gets nothing onto its disk. Its set waits for it with every write until it is taken out.
fn hanging_disk(world: &mut World) {
    world.pass(300);
    let first = primary(world);
    let member = *world.peers(first).last().expect("three leaves");
    world.nodes[member].sync_min = 4000;
    world.pass(1500);
    world.expect_write(500);
}

fn kill_of_all(world: &mut World) {
    for _ in 0..4 {
        world.pass(350);
        (0..world.nodes.len()).for_each(|node| world.stop_node(node, false));
    }
    world.pass(500);
}

/// Processes that are killed twice, and one machine that keeps its power: the others may have lost any end.
fn power_of_all_but_one(world: &mut World) {
    for turn in 0..4 {
        world.pass(350);
        let keeps = turn % world.nodes.len();
        (0..world.nodes.len()).for_each(|node| world.stop_node(node, node != keeps));
        world.pass(20);
        world.stop_node(keeps, false);
    }
    world.pass(500);
}

/// One partition is written for long, then power fails everywhere: what was written long before is not given up.
fn idle_partition(world: &mut World) {
    world.pass(500);
    world.clients.only_partition = Some(types::Ordinal(0));
    world.pass(1200);
    let long_ago = world.timestamps(0, 1);
    world.pass(700);
    world.fault(Fault::PowerAll, 0);
    world.pass(900);
    let cut = world.checks.recoveries.cuts.get(&0).and_then(|cuts| cuts.first().copied());
    if let Some(cut) = cut.filter(|cut| *cut < long_ago) {
        world.fail("whole_after_loss", format!("goes on from {cut}, {long_ago} was long before the power failed"));
    }
}
