//! Histories inside a region around a loss (`protocol.md` sections 5, 6, 8, 9 and 17): what went before it, who goes on,
//! and what those who come back believe.

use super::Scenario;
use super::region::{primary, sized};
use crate::options::{Planted, Scale};
use crate::world::{Place, World};

pub(super) fn all() -> Vec<Scenario> {
    vec![Scenario {
        name: "a branch that a standing order gave up is not the longest log when it comes back",
        scale: Scale::Region,
        options: |options| sized(options, 4, false, true),
        play: given_up,
        rule: Some((Planted::GivenUpForgotten, &["longest_log"])),
    }]
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
