//! The **Sim** histories of `protocol.md` that random faults meet too seldom, or that should be seen by name. Clients work
//! all the time; the faults are directed. Each is run with several seeds: with the rule none fails, without it one does.

mod disks;
mod links;
mod losses;
mod moves;
mod region;
mod regions;
mod reigns;
mod transactions;

use rand::Rng;

use crate::checks::Violation;
use crate::nemesis::Act;
use crate::options::{Fault, Keep, MILLI, Options, Planted, Scale};
use crate::run::{Report, judge};
use crate::world::{Event, Packet, Place, World};

/// One history.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What holds in it.
    pub name: &'static str,
    /// One region or several.
    pub scale: Scale,
    /// The world it plays in.
    pub options: fn(&mut Options),
    /// What happens.
    pub play: fn(&mut World),
    /// The rule without which it fails, and the checks that notice.
    pub rule: Option<(Planted, &'static [&'static str])>,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let within = [region::all(), reigns::all(), disks::all(), transactions::all(), moves::all()];
    let between = [regions::all(), links::all(), losses::all()];
    [within.concat(), between.concat()].concat()
}

impl Scenario {
    /// Plays it, with the rule or without.
    pub fn run(&self, seed: u64, without_rule: bool) -> Report {
        let planted = self.rule.map(|(planted, _)| planted).filter(|_| without_rule);
        let quiet = |options: &mut Options| {
            options.faults = vec![];
            options.orders = false;
            options.lossy = 0;
            options.slow = 0;
            options.guard = false;
            options.definitions = false;
            options.moves = false;
            options.decision_max = 0;
            options.withdraws = false;
            (options.keep, options.copy_records_min) = (Keep::All, u64::MAX);
            (self.options)(options);
        };
        let play = |world: &mut World| {
            (self.play)(world);
            if world.violation.is_none() {
                world.heal_and_judge();
            }
        };
        judge(seed, || World::focused(seed, self.scale, planted, true, quiet), play)
    }

    /// Whether this violation is what the missing rule leads to.
    pub fn explains(&self, violation: &Violation) -> bool {
        self.rule.is_some_and(|(_, checks)| checks.contains(&violation.check))
    }
}

/// What scenarios do to a world.
impl World {
    /// Lets so many milliseconds pass.
    fn pass(&mut self, millis: u64) {
        self.run_until(self.now + millis * MILLI);
    }

    /// Definitions are changed, until their counter says so.
    fn redefine<C: PartialOrd>(&mut self, counter: impl Fn(&World) -> C) {
        let before = counter(self);
        for _ in 0..20 {
            if counter(self) > before {
                break;
            }
            self.change_definitions(0);
            self.pass_until(60, |world| counter(world) > before);
        }
    }

    /// Lets time pass until something is so, but no more than so many milliseconds.
    fn pass_until(&mut self, millis: u64, is_so: impl Fn(&World) -> bool) {
        for _ in 0..millis {
            if is_so(self) {
                break;
            }
            self.pass(1);
        }
    }

    /// The same, looking as often as anything can happen that depends on what was seen.
    fn watch_until(&mut self, millis: u64, is_so: impl Fn(&World) -> bool) {
        let end = self.now + millis * MILLI;
        while self.now < end && !is_so(self) {
            self.run_until(self.now + MILLI / 20);
        }
    }

    /// For so many milliseconds, or until something is so, packets are late: they arrive when these milliseconds are over.
    fn watch_without(&mut self, millis: u64, is_late: impl Fn(Place, &Packet) -> bool, is_so: impl Fn(&World) -> bool) {
        let end = self.now + millis * MILLI;
        while self.now < end && !is_so(self) {
            self.hold_back(end, &is_late);
            self.run_until(self.now + MILLI / 20);
        }
    }

    /// In so many milliseconds a link carries nothing, for so many more.
    fn cut_later(&mut self, after: u64, one: Place, other: Place, duration: u64) {
        self.after(after * MILLI, Event::Act(Act::Block(vec![(one, other)], duration)));
    }

    /// A node stops for as long as chance will have it.
    fn stop_node(&mut self, node: usize, power: bool) {
        let rest = self.pick(&[5, 20, 100, 400]);
        self.fail_node(node, power, rest);
    }

    /// A node stops and starts again after so many milliseconds.
    fn stop_for(&mut self, node: usize, power: bool, millis: u64) {
        self.stop(node, power);
        self.after(millis * MILLI, Event::Start(node));
    }

    /// A node is cut off from all others and the catalog.
    fn isolate(&mut self, node: usize, millis: u64) {
        let mut links: Vec<_> =
            self.peers(node).into_iter().map(|peer| (Place::Node(node), Place::Node(peer))).collect();
        links.push((Place::Node(node), Place::Catalog(self.nodes[node].region)));
        self.block(links, millis);
    }

    /// Two regions do not see each other for so many milliseconds.
    fn sever_for(&mut self, one: usize, other: usize, millis: u64) {
        self.severed.insert((one.min(other), one.max(other)));
        self.after(millis * MILLI, Event::Act(Act::Mend(one.min(other), one.max(other))));
    }

    /// Clients stop, and everything that they began comes to rest.
    fn rest(&mut self) {
        self.clients.stopped = true;
        self.pass(400);
    }

    /// Clients go on.
    fn wake_clients(&mut self) {
        self.clients.stopped = false;
        self.after(MILLI, Event::Client(crate::clients::Act::Begin));
    }

    /// A fault at a node, as the nemesis does it.
    fn fault(&mut self, fault: Fault, node: usize) {
        let dice = self.rng.random();
        self.inflict(fault, node, dice);
    }
}
