//! Histories of links between regions (`protocol.md` section 6).

use types::Ordinal;

use super::Scenario;
use super::regions::{sized, stop_replicating, wait_for_sink};
use crate::options::{Planted, Scale};
use crate::world::{Place, World};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "under a SYNC link a commit that was answered is there when the source burns, whatever idle partitions lack",
            scale: Scale::Regions,
            options: |options| sized(options, &[2, 1]),
            play: source_burns,
            rule: Some((Planted::SyncOnArrival, &["sync_link"])),
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
