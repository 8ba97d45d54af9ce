//! Aggregators, leaves and where partitions lie.

use super::Parser;
use crate::error::Result;
use crate::statement::{AggregatorChange, LeafChange, LeafGroup, Rebalance, RebalanceAim, Statement};

impl Parser<'_> {
    /// `'host:port'`, or `user:'password'@'host':port` as other clusters write it.
    fn node_address(&mut self) -> Result<String> {
        if let Ok(address) = self.string() {
            return Ok(address);
        }
        self.source_address().map(|address| format!("{}:{}", address.host, address.port))
    }

    pub(super) fn add_or_remove(&mut self, first: &str) -> Result<Statement> {
        if self.word("LEAF") {
            let address = Some(self.node_address()?);
            let change = if first == "ADD" {
                let group = self.words(&["INTO", "GROUP"]).then(|| self.leaf_group()).transpose()?;
                LeafChange::Add { group }
            } else {
                let [force, kill, no_wait] = self.flags(["FORCE", "KILL", "NOWAIT"]);
                LeafChange::Remove { force, kill, no_wait }
            };
            return Ok(Statement::Leaf { change, address });
        }
        self.expect_words(&["AGGREGATOR"])?;
        let change = if first == "ADD" { AggregatorChange::Add } else { AggregatorChange::Remove };
        Ok(Statement::Aggregator { change, address: self.node_address()? })
    }

    fn leaf_group(&mut self) -> Result<LeafGroup> {
        if self.word("OWN") { Ok(LeafGroup::Own) } else { self.integer().map(LeafGroup::Named) }
    }

    pub(super) fn detach(&mut self) -> Result<Statement> {
        if self.word("LEAF") {
            let address = Some(self.node_address()?);
            let [force, kill] = self.flags(["FORCE", "KILL"]);
            return Ok(Statement::Leaf { change: LeafChange::Detach { force, kill }, address });
        }
        self.expect_words(&["DATABASE"])?;
        self.detach_database()
    }

    pub(super) fn attach(&mut self) -> Result<Statement> {
        if self.word("LEAF") {
            let address = if self.word("ALL") { None } else { Some(self.node_address()?) };
            let rebalance = !self.words(&["NO", "REBALANCE"]);
            return Ok(Statement::Leaf { change: LeafChange::Attach { rebalance }, address });
        }
        self.expect_words(&["DATABASE"])?;
        self.attach_database()
    }

    pub(super) fn promote(&mut self) -> Result<Statement> {
        self.expect_words(&["AGGREGATOR"])?;
        let address = self.node_address()?;
        self.expect_words(&["TO", "MASTER"])?;
        Ok(Statement::Aggregator { change: AggregatorChange::Promote, address })
    }

    /// Which of these words follow, in any order.
    fn flags<const N: usize>(&mut self, words: [&str; N]) -> [bool; N] {
        let mut found = [false; N];
        while let Some(at) = words.iter().position(|word| self.word(word)) {
            found[at] = true;
        }
        found
    }

    pub(super) fn rebalance_or_restore(&mut self, first: &str) -> Result<Statement> {
        match first {
            "REBALANCE" => self.rebalance(false),
            "RESTORE" if self.words(&["REDUNDANCY", "ON"]) => self.restore_redundancy(false),
            "RESTORE" => self.restore_database(),
            _ => self.backup_database(),
        }
    }

    /// After EXPLAIN and one of these words.
    pub(super) fn explain_rebalance(&mut self, first: &str) -> Result<Statement> {
        if first == "REBALANCE" {
            return self.rebalance(true);
        }
        self.expect_words(&["REDUNDANCY", "ON"])?;
        self.restore_redundancy(true)
    }

    fn rebalance(&mut self, explain: bool) -> Result<Statement> {
        let database = if self.words(&["ALL", "DATABASES"]) {
            None
        } else {
            self.expect_words(&["PARTITIONS", "ON"])?;
            Some(self.name()?)
        };
        let [full, kill, no_wait] = self.flags(["FULL", "KILL", "NOWAIT"]);
        let aim = if full { RebalanceAim::Full } else { RebalanceAim::Balance };
        Ok(Statement::Rebalance(Rebalance { database, aim, kill, explain, no_wait }))
    }

    fn restore_redundancy(&mut self, explain: bool) -> Result<Statement> {
        let (database, aim) = (Some(self.name()?), RebalanceAim::Restore);
        Ok(Statement::Rebalance(Rebalance { database, aim, kill: false, explain, no_wait: self.word("NOWAIT") }))
    }
}
