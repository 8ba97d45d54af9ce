//! After the last fault a write is acknowledged, and all logs and states of a database become equal, within a bound.

use crate::options::{FAILURE, MILLI};
use crate::say;
use crate::world::World;

/// As it is reported.
pub const NAME: &str = "convergence";

impl World {
    /// Everything heals; then a write must be acknowledged, and when clients stop, everything becomes equal.
    pub(crate) fn heal_and_judge(&mut self) {
        self.heal();
        let acknowledged = self.checks.acknowledged;
        let end = self.now + self.options.bound * MILLI;
        let settle = self.now + FAILURE * MILLI;
        while self.now < end && (self.checks.acknowledged == acknowledged || self.now < settle) {
            if !self.run_until(self.now + 20 * MILLI) {
                return;
            }
        }
        if self.is_lost() {
            return;
        }
        if self.checks.acknowledged == acknowledged {
            return self.fail(NAME, "no write is acknowledged after everything healed".into());
        }
        say!(self, "clients stop");
        self.clients.stopped = true;
        let end = self.now + self.options.bound * MILLI;
        let mut differs = self.differs();
        while differs.is_some() && self.now < end {
            if !self.run_until(self.now + 20 * MILLI) {
                return;
            }
            differs = self.differs();
        }
        if let Some(differs) = differs.filter(|_| !self.is_lost()) {
            return self.fail(NAME, differs);
        }
        for index in 0..self.nodes.len() {
            let ids: Vec<_> = self.nodes[index].disks.keys().copied().collect();
            ids.into_iter().for_each(|id| self.check_state(index, id));
        }
        self.check_transactions();
        self.check_views();
        self.check_end();
    }

    /// In a world that need not be whole a write must be acknowledged within so many milliseconds.
    pub(crate) fn expect_write(&mut self, millis: u64) {
        let acknowledged = self.checks.acknowledged;
        self.run_until(self.now + millis * MILLI);
        if self.checks.acknowledged == acknowledged {
            self.fail(NAME, format!("no write is acknowledged for {millis} ms"));
        }
    }

    /// A partition has lost its only copies: nothing can make the world whole again.
    fn is_lost(&self) -> bool {
        (0..self.regions.len())
            .any(|region| self.regions[region].catalog.partitions.keys().any(|id| self.has_lost_all(region, *id)))
    }

    fn heal(&mut self) {
        say!(self, "everything heals");
        self.healing = true;
        self.heal_disks();
        self.blocked.clear();
        self.severed.clear();
        for region in &mut self.regions {
            region.reachable = true;
        }
        for index in 0..self.nodes.len() {
            self.start(index);
            let start = self.nodes[index].starts;
            self.after(0, crate::world::Event::Resume(index, start));
        }
        // Frames are lost with connections: those that were, are new.
        for index in 0..self.nodes.len() {
            for peer in self.peers(index) {
                self.later(index, 20 * MILLI, crate::world::Local::Connected(peer));
            }
        }
        if self.options.moves {
            (0..self.regions.len()).for_each(|region| self.attach_all(region));
        }
        self.heal_regions();
    }

    /// Where two replicas of a partition are not alike yet, or the world is not at rest.
    fn differs(&self) -> Option<String> {
        if let Some(moving) = (0..self.regions.len()).find_map(|region| self.moving(region)) {
            return Some(moving);
        }
        for ordinal in self.ordinals() {
            let mut first: Option<(usize, &crate::node::Hosted)> = None;
            for (index, node) in self.nodes.iter().enumerate() {
                let region = &self.regions[node.region];
                let id = types::PartitionId { database: region.database, ordinal };
                if !region.catalog.partitions[&id].replicas.contains(&node.id) {
                    continue;
                }
                let Some(hosted) = node.hosted(id) else { return Some(format!("{} does not run", self.label(index))) };
                let status = hosted.replica.cursors();
                if hosted.rewind.is_some() || hosted.copying.is_some() || status.applied < hosted.log.end() {
                    return Some(format!(
                        "{} {id} applied {} of {}",
                        self.label(index),
                        status.applied,
                        hosted.log.end()
                    ));
                }
                let partition = &region.catalog.partitions[&id];
                let (named, members) = (partition.primary.node == node.id, &partition.members);
                // A promotion, or the cut of a recovery, is carried out by the start of a reign.
                if named && hosted.replica.reign_led() != Some(partition.reign) {
                    return Some(format!("{} {id} has not begun reign {}", self.label(index), partition.reign));
                }
                let mode = region.catalog.databases[&id.database].mode;
                if mode.sync_replication && !members.contains(&node.member()) {
                    return Some(format!("{} is no member of {id}: {members:?}", self.label(index)));
                }
                if !hosted.state.open(&hosted.log.summary.lineage).is_empty() {
                    return Some(format!("{} {id} has open prepared transactions", self.label(index)));
                }
                let Some((other, like)) = first else {
                    first = Some((index, hosted));
                    continue;
                };
                let same_log =
                    like.log.summary.lineage == hosted.log.summary.lineage && like.log.end() == hosted.log.end();
                if !same_log || like.state != hosted.state {
                    let (a, b) = (self.label(other), self.label(index));
                    return Some(format!(
                        "{a} and {b} differ in {ordinal}: {} and {}",
                        like.log.end(),
                        hosted.log.end()
                    ));
                }
            }
        }
        None
    }
}
