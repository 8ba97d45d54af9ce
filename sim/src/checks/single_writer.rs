//! `single_writer`: at most one side may write, promotions by order aside.

use types::Fence;

use crate::world::World;

impl World {
    /// Two regions that may both write are a fork that nobody ordered.
    pub(crate) fn check_single_writer(&mut self) {
        let writers: Vec<usize> = (0..self.regions.len())
            .filter(|region| {
                let held = &self.regions[*region];
                let database = &held.catalog.databases[&held.database];
                !database.is_sink() && !matches!(database.fenced.fence, Fence::Sealed(_))
            })
            .collect();
        for (at, one) in writers.iter().enumerate() {
            for other in &writers[..at] {
                if self.checks.history.only_handed_over(&self.term(*one), &self.term(*other)) {
                    return self.fail("single_writer", format!("regions {other} and {one} may both write"));
                }
            }
        }
    }
}
