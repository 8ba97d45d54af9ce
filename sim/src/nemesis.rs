//! Faults: what the strikes of a script do.

use catalog::command::Command;
use catalog::database::Options as DatabaseOptions;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::{Mode, NodeId, PartitionId};

use crate::options::{ASYNC_AFTER, FAILURE, Fault, MILLI, Planted};
use crate::region::Region;
use crate::say;
use crate::script::Strike;
use crate::world::{Event, Local, Place, World};

/// A fault that is a part of another one, later.
#[derive(Clone, Debug)]
pub enum Act {
    /// Links carry nothing for so many milliseconds.
    Block(Vec<(Place, Place)>, u64),
    /// A node stops, with or without power, for so many milliseconds.
    Stop(usize, bool, u64),
    /// Regions see each other again.
    Mend(usize, usize),
}

/// What the faults have done and are going to do.
#[derive(Debug, Default)]
pub struct Nemesis {
    /// All strikes, those to come included.
    pub script: Vec<Strike>,
    /// How many of each kind.
    pub done: std::collections::BTreeMap<Fault, u32>,
    /// Per region: its next primary loses power so many milliseconds after it has started, for so many more.
    fresh: std::collections::BTreeMap<usize, (u64, u64)>,
}

/// What a strike leaves to chance.
struct Dice(ChaCha8Rng);

impl Dice {
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        *list.choose(&mut self.0).expect("a list to pick from is not empty")
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    fn chance(&mut self, permille: u32) -> bool {
        self.0.random_range(0..1000) < permille
    }

    /// Milliseconds that a node stands still after its process ended.
    fn rest(&mut self) -> u64 {
        self.pick(&[5, 20, 100, 400])
    }
}

impl World {
    pub(crate) fn on_strike(&mut self, strike: Strike) {
        if self.healing {
            return;
        }
        *self.nemesis.done.entry(strike.fault).or_default() += 1;
        say!(self, "fault: {:?} {}", strike.fault, self.label(strike.node));
        self.inflict(strike.fault, strike.node, strike.dice);
    }

    /// A fault at a node.
    pub fn inflict(&mut self, fault: Fault, node: usize, dice: u64) {
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(dice));
        let region = self.nodes[node].region;
        match fault {
            Fault::Kill => self.fail_node(node, false, dice.rest()),
            Fault::Power => self.fail_node(node, true, dice.rest()),
            Fault::PowerAll => {
                let first = self.regions[region].first_node;
                (first..first + self.regions[region].leaves).for_each(|node| self.fail_node(node, true, dice.rest()));
            }
            Fault::Fresh => {
                let after = dice.pick(&[0, 1, 4, 15]);
                self.nemesis.fresh.insert(region, (after, dice.rest()));
            }
            Fault::Pause => self.pause(node, dice.pick(&[20, 80, 300, 700])),
            Fault::Block | Fault::Isolate => {
                let mut ends: Vec<Place> = self.peers(node).into_iter().map(Place::Node).collect();
                ends.push(Place::Catalog(region));
                if fault == Fault::Block {
                    ends = vec![dice.pick(&ends)];
                }
                let duration = dice.pick(&[30, 100, 300, 800]);
                self.block(ends.into_iter().map(|end| (Place::Node(node), end)).collect(), duration);
            }
            Fault::Catalog => {
                self.regions[region].reachable = false;
                let duration = dice.pick(&[30, 200, 500]);
                self.after(duration * MILLI, Event::CatalogBack(region));
            }
            Fault::Leader => self.new_leader(region),
            Fault::Close => {
                if let Some(peer) = self.peers(node).choose(&mut dice.0).copied() {
                    self.later(node, MILLI, Local::Closed(peer));
                    self.later(peer, MILLI, Local::Closed(node));
                }
            }
            Fault::Deaf => self.deafen(region, node, &mut dice),
            Fault::Stale => self.blindfold(region, &mut dice),
            Fault::Sever => self.sever(&mut dice),
            Fault::SyncFails => self.nodes[node].sync_fails = true,
            Fault::Full => self.fill(node, dice.chance(400), dice.pick(&[30, 100, 300])),
            Fault::Rot => {
                let (which, scrubbed) = (dice.between(0, 1000), dice.chance(500));
                self.rot(node, which, scrubbed, dice.rest());
            }
            Fault::Jump => self.regions[region].skew = dice.between(0, 150),
            Fault::Alter => {
                let after = dice.pick(&[ASYNC_AFTER / 2, ASYNC_AFTER, 2 * ASYNC_AFTER, 4 * ASYNC_AFTER, 0]);
                self.alter(region, dice.chance(400), Some(after).filter(|after| *after > 0));
            }
        }
    }

    /// A person changes a database: it waits for its secondaries, or another primary is named after so many milliseconds.
    pub(crate) fn alter(&mut self, region: usize, sync_replication: bool, after: Option<u64>) {
        let Region { catalog, database, .. } = &self.regions[region];
        let Some(held) = catalog.databases.get(database) else { return };
        let mode = Mode { sync_replication, ..held.mode };
        let options = DatabaseOptions { async_failover_after_millis: after, ..held.options.clone() };
        let alter = Command::AlterDatabase { name: held.name.clone(), mode, options };
        let (database, before) = (*database, held.failover_after());
        self.decide(region, &alter).expect("a database may be altered");
        let after = self.regions[region].failover_after();
        if self.options.has(Planted::OrderUnheard) && before != after {
            let partitions = &mut self.regions[region].catalog.partitions;
            let ids: Vec<PartitionId> = partitions.keys().copied().filter(|id| id.database == database).collect();
            ids.iter().for_each(|id| partitions.get_mut(id).expect("it was listed above").goes_on_for = after);
        }
    }

    /// A process stands still for so many milliseconds.
    pub(crate) fn pause(&mut self, node: usize, duration: u64) {
        let start = self.nodes[node].starts;
        if let Some(process) = &mut self.nodes[node].process {
            process.paused.get_or_insert_with(Vec::new);
            self.after(duration * MILLI, Event::Resume(node, start));
        }
    }

    /// A node stops, and starts again later.
    pub fn fail_node(&mut self, node: usize, power: bool, rest: u64) {
        if self.healing || self.nodes[node].process.is_none() {
            return;
        }
        self.stop(node, power);
        self.after(rest * MILLI, Event::Start(node));
    }

    /// A reign has just started: perhaps the power of its primary was to fail now.
    pub(crate) fn strike_fresh(&mut self, node: usize) {
        if let Some((after, rest)) = self.nemesis.fresh.remove(&self.nodes[node].region) {
            self.after(after * MILLI, Event::Act(Act::Stop(node, true, rest)));
        }
    }

    /// The node that the catalog has as primary of one of its partitions.
    fn some_primary(&self, region: usize, dice: &mut Dice) -> usize {
        let partitions = &self.regions[region].catalog.partitions;
        let primaries: Vec<(PartitionId, NodeId)> =
            partitions.iter().map(|(id, held)| (*id, held.primary.node)).collect();
        self.node_of(region, dice.pick(&primaries).1)
    }

    /// A primary loses the catalog, and its peers about when it is replaced; perhaps one of them has just restarted.
    fn deafen(&mut self, region: usize, victim: usize, dice: &mut Dice) {
        let primary = self.some_primary(region, dice);
        let after = FAILURE + dice.between(0, 110) - 80;
        self.block(vec![(Place::Node(primary), Place::Catalog(region))], 600);
        let mut links = vec![];
        for peer in self.peers(primary) {
            if dice.chance(800) {
                links.push((Place::Node(primary), Place::Node(peer)));
            }
        }
        self.after(after * MILLI, Event::Act(Act::Block(links, 200)));
        if victim != primary && dice.chance(600) {
            let before = dice.pick(&[3, 10, 20, 80]);
            let power = dice.chance(300);
            self.after((after - before) * MILLI, Event::Act(Act::Stop(victim, power, dice.rest())));
        }
    }

    /// A primary sees one peer alone, and not the catalog. When it has been replaced that peer restarts, and sees the old
    /// primary alone: what it does not have on its disk of the new reign it does not know.
    fn blindfold(&mut self, region: usize, dice: &mut Dice) {
        let primary = self.some_primary(region, dice);
        let peers = self.peers(primary);
        if peers.is_empty() {
            return;
        }
        let friend = dice.pick(&peers);
        let others = |world: &World, node: usize| -> Vec<(Place, Place)> {
            let hidden = world.peers(node).into_iter().filter(|peer| *peer != friend && *peer != primary);
            let hidden = hidden.map(Place::Node).chain([Place::Catalog(region)]);
            hidden.map(|place| (Place::Node(node), place)).collect()
        };
        self.block(others(self, primary), 1200);
        let after = FAILURE + dice.between(120, 400);
        self.after(after * MILLI, Event::Act(Act::Block(others(self, friend), 500)));
        let power = dice.chance(500);
        let rest = dice.pick(&[5, 20]);
        self.after(after * MILLI, Event::Act(Act::Stop(friend, power, rest)));
    }

    /// Two regions lose sight of each other.
    fn sever(&mut self, dice: &mut Dice) {
        let count = self.regions.len() as u64;
        if count < 2 {
            return;
        }
        let one = dice.between(0, count - 1) as usize;
        let other = (one + dice.between(1, count - 1) as usize) % count as usize;
        let pair = (one.min(other), one.max(other));
        self.severed.insert(pair);
        let duration = dice.pick(&[50, 200, 800, 2000]);
        self.after(duration * MILLI, Event::Act(Act::Mend(pair.0, pair.1)));
    }

    pub(crate) fn on_act(&mut self, act: Act) {
        match act {
            Act::Block(links, duration) => self.block(links, duration),
            Act::Stop(node, power, rest) => self.fail_node(node, power, rest),
            Act::Mend(one, other) => {
                self.severed.remove(&(one, other));
            }
        }
    }
}
