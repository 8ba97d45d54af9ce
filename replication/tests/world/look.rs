//! Commands that look and change nothing.

use replication::Line;

use super::{Done, World};

impl World {
    pub(super) fn status(&mut self, nodes: &[u64]) -> Done {
        let all: Vec<u64> = self.nodes.keys().copied().collect();
        for node in if nodes.is_empty() { &all } else { nodes } {
            let status = self.node(*node)?.replica.status();
            self.say(format_args!("n{node} {status}"));
        }
        Ok(())
    }

    pub(super) fn log(&mut self, node: u64) -> Done {
        for record in self.node(node)?.disk.records.clone() {
            self.say(format_args!("n{node} {}", Line(&record)));
        }
        Ok(())
    }
}
