//! Histories of the node log (`protocol.md` section 7), as far as the simulated disk has them.

use types::{Ordinal, PartitionId};

use super::Scenario;
use super::region::sized;
use crate::options::{MILLI, Planted, Scale};
use crate::world::{Event, World};

pub(super) fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "power fails with two batches in flight, and the later one is on disk without the earlier",
        scale: Scale::Region,
        options: |options| {
            sized(options, 2, true, false);
            (options.partitions, options.wide) = (2, 50);
        },
        play: two_batches,
        rule: Some((Planted::TornTailKept, &["promotion_rows", "reads_are_fresh"])),
    }]
}

/// Every machine writes faster than it syncs: records are in one batch, the marks that count them are in later ones. All lose
/// power, and their disks have the later batches and not the earlier one. The log ends before that: a mark whose records are
/// gone would be the cut from which the database goes on.
fn two_batches(world: &mut World) {
    let id = world.partition(0, Ordinal(0));
    let all: Vec<PartitionId> = world.ordinals().map(|ordinal| world.partition(0, ordinal)).collect();
    let counted = |world: &World| {
        world.nodes.iter().map(|node| &node.journal).all(|journal| {
            let torn = journal.before_record(id);
            all.iter().all(|of| journal.marks_behind(torn, *of) > 1)
        })
    };
    for _ in 0..3 {
        world.pass(350);
        let nodes = 0..world.nodes.len();
        nodes.clone().for_each(|node| world.nodes[node].sync_min = 250);
        world.watch_until(500, counted);
        for node in nodes {
            let torn = world.nodes[node].journal.before_record(id);
            world.end_process(node, Some(torn));
            world.after(20 * MILLI, Event::Start(node));
            world.nodes[node].sync_min = 0;
        }
    }
    world.pass(800);
}
