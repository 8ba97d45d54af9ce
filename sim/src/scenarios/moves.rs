//! Histories of partitions that move (`docs/protocol.md`, section 16).

use std::collections::BTreeMap;

use catalog::command::LeafChange;
use catalog::decide::balance::Aim;
use replication::{Planted as Rule, TxnRequest};
use types::{Member, Mode, NodeId, PartitionId};

use super::Scenario;
use crate::options::{Options, Planted, Scale};
use crate::world::{Packet, Place, World};

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "a rebalance ends although a leaf dies in the middle",
            scale: Scale::Region,
            options: |options| sized(options, 4, true),
            play: rebalance_and_death,
            rule: None,
        },
        Scenario {
            name: "a leaf is removed although a member is cut off",
            scale: Scale::Region,
            options: |options| sized(options, 4, true),
            play: removal_and_cut,
            rule: None,
        },
        Scenario {
            name: "a hand-over without SYNC REPLICATION waits until the next primary has everything",
            scale: Scale::Region,
            options: |options| sized(options, 3, false),
            play: hand_overs,
            // Without it a copy must lag just then: `sim/tests/planted.rs` looks for that.
            rule: None,
        },
        Scenario {
            name: "a hand-over waits for the transactions that are under way",
            scale: Scale::Region,
            options: |options| sized(options, 3, true),
            play: hand_overs,
            rule: Some((Planted::HandOverBusy, &["hand_over_quiet"])),
        },
        Scenario {
            name: "a decision that is to be forgotten late is not forgotten behind a hand-over",
            scale: Scale::Region,
            options: |options| {
                sized(options, 3, false);
                options.wide = 100;
            },
            play: late_forgets,
            rule: Some((Planted::Replica(Rule::ForgetUnderSeal), &["acked_write_survives"])),
        },
    ]
}

fn sized(options: &mut Options, leaves: usize, sync_replication: bool) {
    options.leaves = vec![leaves];
    options.partitions = 3;
    options.mode = Mode { sync_replication, sync_durability: true };
    options.sync_max = 10;
    options.moves = true;
}

/// The last leaf is new, and is to get its share. While that is made one that gives loses its process, and then the new one.
fn rebalance_and_death(world: &mut World) {
    world.pass(300);
    world.order_rebalance(0, Aim::Balance, false);
    world.pass(30);
    world.stop_for(0, false, 400);
    world.pass(500);
    world.order_rebalance(0, Aim::Full, false);
    world.pass(20);
    world.stop_for(3, true, 300);
    world.pass(900);
}

/// A leaf is to be emptied; one that shares partitions with it sees nobody for longer than silence is failure.
fn removal_and_cut(world: &mut World) {
    world.pass(300);
    world.order_removal(0, NodeId(1), false, false);
    world.pass(20);
    world.isolate(1, 700);
    world.pass(900);
    world.order_leaf(0, NodeId(3), LeafChange::Detach { force: true, kill: false });
    world.pass(500);
}

/// Every partition changes hands again and again, while clients write.
fn hand_overs(world: &mut World) {
    world.pass(300);
    for _ in 0..6 {
        world.order_other_primaries(0);
        world.pass(300);
    }
}

/// Coordinators say late that a decision is needed no longer: the next primary knows by then that it is one, and the old one
/// does not.
fn late_forgets(world: &mut World) {
    world.pass(300);
    for _ in 0..6 {
        let before = primaries(world);
        world.order_other_primaries(0);
        let is_forget =
            |_, packet: &Packet| matches!(packet, Packet::Request { request: TxnRequest::Forget { .. }, .. });
        world.watch_without(400, is_forget, |world| primaries(world) != before);
        let now = primaries(world);
        let Some((id, old)) = before.iter().find(|(id, old)| now[*id] != **old) else { continue };
        let (old, next) = (world.node_of(0, old.node), world.node_of(0, now[id].node));
        let is_late = |to, packet: &Packet| {
            is_forget(to, packet) || to == Place::Node(old) && matches!(packet, Packet::Catalog { .. })
        };
        let reign = world.regions[0].catalog.partitions[id].reign;
        world.watch_without(100, is_late, |world| {
            world.nodes[next].replica(*id).is_some_and(|replica| replica.status().reign == reign)
        });
        world.let_go(is_forget);
        world.pass(300);
    }
}

fn primaries(world: &World) -> BTreeMap<PartitionId, Member> {
    world.regions[0].catalog.partitions.iter().map(|(id, partition)| (*id, partition.primary)).collect()
}
