//! Faults, drawn at random.

use rand::seq::IndexedRandom;

use crate::options::{FAILURE, Fault, MILLI};
use crate::say;
use crate::world::{Event, Local, Place, World};

/// A fault that is a part of another one, later.
#[derive(Clone, Debug)]
pub enum Act {
    /// Links carry nothing for so many milliseconds.
    Block(Vec<(Place, Place)>, u64),
    /// A node stops, with or without power.
    Stop(usize, bool),
    /// Regions see each other again.
    Mend(usize, usize),
}

/// What the faults have done.
#[derive(Debug, Default)]
pub struct Nemesis {
    /// How many of each kind.
    pub done: std::collections::BTreeMap<Fault, u32>,
}

impl World {
    pub(crate) fn on_fault(&mut self) {
        if self.healing {
            return;
        }
        let most = self.options.fault_gap;
        let delay = self.pick(&[10, most / 6 + 1, most / 3 + 1, most]);
        self.after(delay * MILLI, Event::Fault);
        let faults = self.options.faults.clone();
        let Ok((fault, _)) = faults.choose_weighted(&mut self.rng, |(_, weight)| *weight).copied() else { return };
        let node = self.between(0, self.nodes.len() as u64 - 1) as usize;
        *self.nemesis.done.entry(fault).or_default() += 1;
        say!(self, "fault: {fault:?} {}", self.label(node));
        self.inflict(fault, node);
    }

    /// A fault at a node.
    pub fn inflict(&mut self, fault: Fault, node: usize) {
        let region = self.nodes[node].region;
        match fault {
            Fault::Kill => self.fail_node(node, false),
            Fault::Power => self.fail_node(node, true),
            Fault::PowerAll => {
                let first = self.regions[region].first_node;
                (first..first + self.regions[region].leaves).for_each(|node| self.fail_node(node, true));
            }
            Fault::Pause => {
                let start = self.nodes[node].starts;
                if let Some(process) = &mut self.nodes[node].process {
                    process.paused.get_or_insert_with(Vec::new);
                    let duration = self.pick(&[20, 80, 300, 700]);
                    self.after(duration * MILLI, Event::Resume(node, start));
                }
            }
            Fault::Block | Fault::Isolate => {
                let mut ends: Vec<Place> = self.peers(node).into_iter().map(Place::Node).collect();
                ends.push(Place::Catalog(region));
                if fault == Fault::Block {
                    ends = vec![self.pick(&ends)];
                }
                let duration = self.pick(&[30, 100, 300, 800]);
                self.block(ends.into_iter().map(|end| (Place::Node(node), end)).collect(), duration);
            }
            Fault::Catalog => {
                self.regions[region].reachable = false;
                let duration = self.pick(&[30, 200, 500]);
                self.after(duration * MILLI, Event::CatalogBack(region));
            }
            Fault::Leader => self.new_leader(region),
            Fault::Close => {
                let peers = self.peers(node);
                if let Some(peer) = peers.choose(&mut self.rng).copied() {
                    self.later(node, MILLI, Local::Closed(peer));
                    self.later(peer, MILLI, Local::Closed(node));
                }
            }
            Fault::Deaf => self.deafen(region, node),
            Fault::Sever => self.sever(),
        }
    }

    /// A node stops, and starts again later.
    pub fn fail_node(&mut self, node: usize, power: bool) {
        if self.healing || self.nodes[node].process.is_none() {
            return;
        }
        self.stop(node, power);
        let delay = self.pick(&[5, 20, 100, 400]);
        self.after(delay * MILLI, Event::Start(node));
    }

    /// A primary loses the catalog, and its peers about when it is replaced; perhaps one of them has just restarted.
    fn deafen(&mut self, region: usize, victim: usize) {
        let ids: Vec<_> = self.regions[region].catalog.partitions.keys().copied().collect();
        let id = self.pick(&ids);
        let primary = self.node_of(region, self.regions[region].catalog.partitions[&id].primary.node);
        let after = FAILURE + self.between(0, 110) - 80;
        self.block(vec![(Place::Node(primary), Place::Catalog(region))], 600);
        let mut links = vec![];
        for peer in self.peers(primary) {
            if self.chance(800) {
                links.push((Place::Node(primary), Place::Node(peer)));
            }
        }
        self.after(after * MILLI, Event::Act(Act::Block(links, 200)));
        if victim != primary && self.chance(600) {
            let before = self.pick(&[3, 10, 20, 80]);
            let power = self.chance(300);
            self.after((after - before) * MILLI, Event::Act(Act::Stop(victim, power)));
        }
    }

    /// Two regions lose sight of each other.
    fn sever(&mut self) {
        let count = self.regions.len() as u64;
        if count < 2 {
            return;
        }
        let one = self.between(0, count - 1) as usize;
        let other = (one + self.between(1, count - 1) as usize) % count as usize;
        let pair = (one.min(other), one.max(other));
        self.severed.insert(pair);
        let duration = self.pick(&[50, 200, 800, 2000]);
        self.after(duration * MILLI, Event::Act(Act::Mend(pair.0, pair.1)));
    }

    pub(crate) fn on_act(&mut self, act: Act) {
        match act {
            Act::Block(links, duration) => self.block(links, duration),
            Act::Stop(node, power) => self.fail_node(node, power),
            Act::Mend(one, other) => {
                self.severed.remove(&(one, other));
            }
        }
    }
}
