//! Histories of transactions (`protocol.md` section 4), and of the promotions, rewinds and pins that keep them whole (section 5).

use bytes::Bytes;
use replication::Planted as Rule;
use types::{Ordinal, PartitionId, Timestamp, TxnId};

use super::Scenario;
use super::region::sized;
use super::regions::{come_back, sized as sized_regions, stop_replicating};
use crate::clients::Stage;
use crate::node::RewindStep;
use crate::options::{Keep, Planted, Scale};
use crate::world::{Packet, Place, World};

/// Partitions of rows.
const ZERO: Ordinal = Ordinal(0);
const ONE: Ordinal = Ordinal(1);

pub(super) fn all() -> Vec<Scenario> {
    let mut all = readers_and_coordinators();
    all.extend(promoted());
    all.extend(ways_back());
    all
}

fn readers_and_coordinators() -> Vec<Scenario> {
    let region = |name, play, rule| Scenario {
        name,
        scale: Scale::Region,
        options: |options| {
            sized(options, 3, true, true);
            options.partitions = 2;
        },
        play,
        rule: Some(rule),
    };
    vec![
        region(
            "a reader at a view waits for a commit whose timestamp is late",
            late_timestamp,
            (Planted::Replica(Rule::ViewIgnoresRegistered), &["views"]),
        ),
        region(
            "a reader waits for what is prepared when its transaction was acknowledged",
            acknowledged_and_prepared,
            (Planted::Replica(Rule::ReaderIgnoresPrepared), &["reads_are_fresh"]),
        ),
        region(
            "no transaction is decided while a participant is still to be prepared",
            unprepared_participant,
            (Planted::DecidedEarly, &["whole_after_loss"]),
        ),
        region(
            "a transaction that has written at the old primary writes nothing at the new one",
            two_primaries,
            (Planted::Replica(Rule::TouchUnchecked), &["reads_are_fresh"]),
        ),
        Scenario {
            name: "what was taken back before it had a timestamp is never read",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, true, true);
                options.partitions = 2;
                options.withdraws = true;
            },
            play: taken_back,
            rule: Some((Planted::Replica(Rule::WithdrawnCommits), &["withdrawn"])),
        },
        Scenario {
            name: "a row that was planned before a change of definitions does not commit after it",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, true, true);
                options.partitions = 2;
                options.definitions = true;
            },
            play: planned_before,
            rule: Some((Planted::Replica(Rule::SchemaUnchecked), &["definitions"])),
        },
    ]
}

/// A decision that arrives late lies behind a later commit in the log.
fn promoted() -> Vec<Scenario> {
    let regions = |name, planted, checks| Scenario {
        name,
        scale: Scale::Regions,
        options: |options| sized_regions(options, &[2, 2]),
        play: late_decision,
        rule: Some((planted, checks)),
    };
    vec![
        regions(
            "what a promotion declares dead lies between its cut and its start, wherever in the log",
            Planted::PrefixCut,
            &["promotion_rows"],
        ),
        regions(
            "a promoted region begins above all times that it has received",
            Planted::Replica(Rule::StartLocal),
            &["promotion_rows"],
        ),
        regions(
            "a promotion has one cut for all partitions",
            Planted::Replica(Rule::CutPerPartition),
            &["promotion_rows"],
        ),
    ]
}

fn ways_back() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a source that returns rewinds to the end although it loses sight of the other side in the middle",
            scale: Scale::Regions,
            options: |options| sized_regions(options, &[2, 2]),
            play: rewind_alone,
            rule: Some((Planted::RewindNeedsSource, &["convergence"])),
        },
        Scenario {
            name: "the pin of a link is the cut that all its streams have, while one of them is stalled",
            scale: Scale::Regions,
            options: |options| {
                sized_regions(options, &[2, 2]);
                options.keep = Keep::Needed;
            },
            play: stalled_stream,
            rule: Some((Planted::PinAhead, &["pins"])),
        },
    ]
}

// ---- what clients do in them

fn row(key: u8) -> Bytes {
    Bytes::copy_from_slice(&[key])
}

/// The node that the catalog of the first region has as primary of a partition.
fn primary(world: &World, ordinal: Ordinal) -> usize {
    let id = world.partition(0, ordinal);
    world.node_of(0, world.regions[0].catalog.partitions[&id].primary.node)
}

/// A transaction of the first region begins: so many statements at each of these partitions, one row; the first one decides.
fn begin(world: &mut World, ordinals: &[Ordinal], key: u8, statements: u32) -> Option<TxnId> {
    let (by, planned) = world.planner(0)?;
    let part = |ordinal: &Ordinal| world.part(*ordinal, primary(world, *ordinal), row(key), statements);
    let parts = ordinals.iter().map(part).collect();
    let txn = world.enter_txn(by, planned, parts, None);
    world.step_txn(txn);
    Some(txn)
}

fn stage(world: &World, txn: TxnId) -> Stage {
    world.clients.txns[&txn].stage
}

fn is_decided(world: &World, txn: TxnId) -> bool {
    world.clients.txns[&txn].decided.is_some()
}

/// The client thinks when it has written for the first time.
fn think(world: &mut World, txn: TxnId, statements_left: u32) {
    world.watch_until(100, |world| world.clients.txns[&txn].parts[0].statements == statements_left);
    let held = world.clients.txns.get_mut(&txn).expect("it has begun");
    if held.stage == Stage::Writing {
        held.stage = Stage::Thinking;
    }
}

/// It goes on.
fn go_on(world: &mut World, txn: TxnId) {
    let held = world.clients.txns.get_mut(&txn).expect("it has begun");
    if held.stage == Stage::Thinking {
        held.stage = Stage::Writing;
        world.step_txn(txn);
    }
}

/// Clients work, and rest; then this is done while nothing else is. So many times.
fn quietly(world: &mut World, rounds: u32, act: impl Fn(&mut World) -> Option<()>) {
    for _ in 0..rounds {
        world.pass(250);
        world.rest();
        let _ = act(world);
        world.wake_clients();
    }
}

// ---- readers and coordinators

/// A commit has its timestamp, 100, which is on its way to the primary. A reader comes with 105: it must not see the row as it
/// was before, for at 105 others are going to see it as it is at 100.
fn late_timestamp(world: &mut World) {
    world.clients.views = true;
    quietly(world, 6, |world| {
        let (node, id) = (primary(world, ZERO), world.partition(0, ZERO));
        begin(world, &[ZERO], 0, 1)?;
        world.watch_until(60, |world| world.nodes[node].hosted(id).is_some_and(|held| !held.timestamps.is_empty()));
        let before = world.regions[0].last_timestamp;
        world.options.slow = 1000;
        world.watch_until(10, |world| world.regions[0].last_timestamp > before);
        world.options.slow = 0;
        // If it is asked for again it is given another one, which is too late for the reader.
        world.block(vec![(Place::Node(node), Place::Catalog(0))], 170);
        for _ in 0..3 {
            let view = world.timestamps(0, 1);
            world.read(node, id, row(0), view);
        }
        world.pass(300);
        Some(())
    });
}

/// A commit has its timestamp, which is on its way to the primary. Its coordinator does not wait any more, takes it back, and
/// tells its client so. Whoever reads the row then, when the timestamp is there, must not see it.
fn taken_back(world: &mut World) {
    quietly(world, 6, |world| {
        let (node, id) = (primary(world, ZERO), world.partition(0, ZERO));
        let txn = begin(world, &[ZERO], 0, 1)?;
        let is_late = |_, packet: &Packet| matches!(packet, Packet::Timestamps { .. });
        let asks = |world: &World| world.nodes[node].hosted(id).is_some_and(|held| !held.timestamps.is_empty());
        world.watch_without(60, is_late, asks);
        world.give_up(txn);
        world.watch_without(150, is_late, |world| world.clients.txns[&txn].withdrawn);
        world.pass(200);
        world.read(node, id, row(0), Timestamp::MAX);
        world.pass(100);
        Some(())
    });
}

/// The first participant has committed the decision, and the client has its answer. The coordinator dies before it has told
/// the second one, where the row is prepared. Whoever reads it there now must see what the client was told.
fn acknowledged_and_prepared(world: &mut World) {
    quietly(world, 3, |world| {
        let txn = begin(world, &[ZERO, ONE], 0, 1)?;
        world.watch_until(300, |world| world.clients.txns[&txn].ts.is_some());
        world.give_up(txn);
        world.watch_until(100, |world| is_decided(world, txn));
        let (node, id) = (primary(world, ONE), world.partition(0, ONE));
        world.read(node, id, row(0), Timestamp::MAX);
        world.pass(400);
        Some(())
    });
}

/// The first participant is prepared, the process of another one ends before it has heard that it is to be. What was written
/// there is gone: the transaction must not be committed.
fn unprepared_participant(world: &mut World) {
    quietly(world, 4, |world| {
        let pairs = [[ZERO, ONE], [Ordinal::META, ZERO], [Ordinal::META, ONE]];
        let apart = pairs.into_iter().find(|[one, other]| primary(world, *one) != primary(world, *other));
        let [first, second] = apart?;
        let txn = begin(world, &[first, second], 0, 1)?;
        world.watch_until(100, |world| stage(world, txn) == Stage::Preparing);
        let node = primary(world, second);
        world.stop_for(node, false, 500);
        world.pass(800);
        Some(())
    });
}

/// A transaction has written a row, and its primary is replaced: with its process the lock and the row are gone. It writes
/// another row at the new primary, and commits. Answered with OK, half of it would be there.
fn two_primaries(world: &mut World) {
    quietly(world, 3, |world| {
        let (old, id) = (primary(world, ZERO), world.partition(0, ZERO));
        let txn = begin(world, &[ZERO], 0, 2)?;
        think(world, txn, 1);
        world.stop_for(old, false, 500);
        let serves = |world: &World, node: usize| {
            let leading = world.nodes[node].replica(id).and_then(|replica| replica.status().leading);
            leading.is_some_and(|leading| leading.serving)
        };
        world.pass_until(600, |world| primary(world, ZERO) != old && serves(world, primary(world, ZERO)));
        let new = primary(world, ZERO);
        let part = &mut world.clients.txns.get_mut(&txn)?.parts[0];
        (part.node, part.keys) = (new, vec![row(1)]);
        go_on(world, txn);
        world.watch_until(60, |world| matches!(stage(world, txn), Stage::Committing | Stage::Over));
        // Both rows are what it has written.
        world.clients.txns.get_mut(&txn)?.parts[0].keys = vec![row(0), row(1)];
        world.watch_until(100, |world| is_decided(world, txn) || stage(world, txn) == Stage::Over);
        world.read(new, id, row(0), Timestamp::MAX);
        world.pass(300);
        Some(())
    });
}

/// An INSERT has written its row. ADD UNIQUE INDEX changes the definitions, and is committed. The row has no entry in that
/// index: it must not commit.
fn planned_before(world: &mut World) {
    // Nobody else plans anything.
    world.rest();
    for _ in 0..3 {
        let txn = (0..20).find_map(|_| {
            world.pass(10);
            begin(world, &[ZERO], 0, 1)
        });
        let Some(txn) = txn else { continue };
        think(world, txn, 0);
        change(world);
        go_on(world, txn);
        world.pass(300);
    }
    world.wake_clients();
    world.pass(200);
}

/// Definitions are changed.
fn change(world: &mut World) {
    let meta = world.partition(0, Ordinal::META);
    world.redefine(|world| world.counter(primary(world, Ordinal::META), meta));
}

// ---- promotions

/// X is decided at 99 by another partition, and its coordinator dies: here it is prepared until it asks. Meanwhile Y commits
/// here at 101: the log has Y at 91 and X at 92. The source's clock is ahead of the sink's, which is promoted at 99.
/// X must live and Y must not, on both sides, after any restart.
fn late_decision(world: &mut World) {
    world.regions[0].skew = 2000;
    world.regions[1].skew = 0;
    world.pass(400);
    world.rest();
    let decided = (0..5).find_map(|_| {
        let x = begin(world, &[ONE, ZERO], 0, 1)?;
        world.watch_until(300, |world| world.clients.txns[&x].ts.is_some());
        world.give_up(x);
        world.watch_until(100, |world| is_decided(world, x));
        // Some milliseconds later.
        world.pass(3);
        let y = begin(world, &[ZERO], 1, 1)?;
        world.watch_until(150, |world| is_decided(world, y));
        let times = world.clients.txns[&x].ts.zip(world.clients.txns[&y].ts);
        world.pass(if is_decided(world, x) && is_decided(world, y) { 0 } else { 500 });
        times.filter(|_| is_decided(world, x) && is_decided(world, y)).map(|(cut, above)| (x, y, cut, above))
    });
    let Some((x, y, cut, above)) = decided else { return world.wake_clients() };
    world.pass_until(1500, |world| world.cut_of(1).is_some_and(|reached| reached >= above));
    let link = world.followed(1).map(|(link, _)| link);
    if link.is_none_or(|link| !world.promote(1, link, cut, false, None)) {
        return world.wake_clients();
    }
    world.pass(400);
    expect_rows(world, &[1], x, y);
    restart(world, 1);
    come_back(world, 0, 1);
    world.pass(600);
    restart(world, 0);
    restart(world, 1);
    expect_rows(world, &[0, 1], x, y);
    world.wake_clients();
    world.pass(100);
}

/// The nodes of a region lose power, one after the other.
fn restart(world: &mut World, region: usize) {
    let first = world.regions[region].first_node;
    for node in first..first + world.regions[region].leaves {
        world.stop_for(node, true, 20);
        world.pass(500);
    }
}

/// X is what its row holds in the first partition, on every node, and Y is in none.
fn expect_rows(world: &mut World, regions: &[usize], x: TxnId, y: TxnId) {
    for node in 0..world.nodes.len() {
        let region = world.nodes[node].region;
        if !regions.contains(&region) {
            continue;
        }
        let rows = world.rows_of(node, world.partition(region, ZERO), Timestamp::MAX);
        if rows.get(&(ZERO, row(0))) != Some(&x) || rows.values().any(|txn| *txn == y) {
            let text = format!("{} has {rows:x?}, {x} must live, {y} must not", world.label(node));
            return world.fail("promotion_rows", text);
        }
    }
}

// ---- ways back

/// The replicas of a region whose rewind is between its intent and its end.
fn rewinding(world: &World, region: usize) -> Vec<(usize, PartitionId)> {
    let first = world.regions[region].first_node;
    let nodes = first..first + world.regions[region].leaves;
    let hosted = nodes.flat_map(|node| {
        let process = world.nodes[node].process.iter();
        process.flat_map(|process| &process.hosted).map(move |(id, hosted)| (node, *id, hosted))
    });
    let begun = hosted.filter(|(.., hosted)| {
        hosted.rewind.as_ref().is_some_and(|rewind| !matches!(rewind.step, RewindStep::Intent | RewindStep::Done))
    });
    begun.map(|(node, id, _)| (node, id)).collect()
}

/// The region that was the source has more than the promoted one, and returns. In the middle of a rewind it loses sight of the
/// other side; the second time its machine loses power besides. The rewind ends, alone.
fn rewind_alone(world: &mut World) {
    for turn in 0..2 {
        let (source, sink) = (turn, 1 - turn);
        world.pass(300);
        world.sever_for(0, 1, 400);
        world.pass(100);
        stop_replicating(world, sink);
        world.pass(350);
        come_back(world, source, sink);
        world.watch_until(400, |world| !rewinding(world, source).is_empty());
        world.sever_for(0, 1, 600);
        let begun = rewinding(world, source);
        if let Some((node, _)) = begun.first().filter(|_| turn == 1) {
            world.stop_for(*node, true, 20);
        }
        world.pass(450);
        let still = rewinding(world, source);
        if let Some((node, id)) = still.iter().find(|replica| begun.contains(replica)) {
            let text = format!("{} {id} has not ended a rewind that needs nobody", world.label(*node));
            return world.fail("convergence", text);
        }
        world.pass(600);
    }
}

/// The stream of one partition stands still, the others go on; then the regions part, and the sink is promoted at its cut. The
/// log of the source must still begin below the point up to which the stalled stream has come: that is where it rewinds to.
fn stalled_stream(world: &mut World) {
    world.pass(500);
    let until = world.now + 3_000_000_000;
    world.sessions.stalled.insert(ONE, until);
    world.pass(600);
    world.sever_for(0, 1, 800);
    world.pass(400);
    stop_replicating(world, 1);
    world.pass(50);
    for ordinal in world.ordinals() {
        let (here, there) = (world.partition(0, ordinal), world.partition(1, ordinal));
        let Some(sink) = world.leader_of(1, ordinal) else { continue };
        for node in 0..world.regions[0].leaves {
            let held = world.nodes[node].hosted(here).zip(world.nodes[sink].hosted(there));
            let Some((source, sink)) = held.map(|(source, sink)| (&source.log, &sink.log)) else { continue };
            let common = source.summary.lineage.common_point(source.end(), &sink.summary.lineage, sink.end());
            if source.trimmed() > common {
                let text =
                    format!("{} {here} is trimmed to {}, the sink has {common}", world.label(node), source.trimmed());
                return world.fail("pins", text);
            }
        }
    }
    world.sessions.stalled.clear();
    world.pass(500);
    come_back(world, 0, 1);
    world.pass(800);
}
