//! A replica that its process has reported as damaged holds nothing: the catalog names it neither primary nor member of a
//! reign, while it knows.

use types::{Member, PartitionId};

use crate::options::{FAILURE, MILLI};
use crate::world::World;

/// As it is reported.
pub const NAME: &str = "whole_is_named";

impl World {
    /// A reign begins in a region's catalog.
    pub(crate) fn check_whole(&mut self, region: usize, id: PartitionId, named: &[Member]) {
        for member in named {
            let index = self.node_of(region, member.node);
            let node = &self.nodes[index];
            let known_for = self.now.saturating_sub(node.disks[&id].found);
            // A report may take long, and be of before. Clocks differ by less than a tenth.
            let silence = |sent| self.clock(index).since(sent).as_nanos() as u64;
            let silence = self.regions[region].reported(*member).map_or(u64::MAX, silence);
            let told = silence < known_for - known_for / 10;
            let damaged = node.disks[&id].rotten && node.member() == *member && node.is_awake() && told;
            if damaged && known_for > FAILURE * MILLI {
                let text = format!("{member} is named in {id}, its replica is damaged since {} ms", known_for / MILLI);
                return self.fail(NAME, text);
            }
        }
    }
}
