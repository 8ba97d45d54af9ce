//! Aggregators, leaves and where partitions lie: parsed in full, some refused until the issue that brings them.

use super::Parser;
use crate::error::Result;
use crate::statement::{AggregatorChange, Statement};

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
            self.node_address()?;
            if self.words(&["INTO", "GROUP"]) {
                self.integer::<u32>()?;
            }
            self.word("FORCE");
            return Ok(Statement::Later("ADD and REMOVE LEAF"));
        }
        self.expect_words(&["AGGREGATOR"])?;
        let change = if first == "ADD" { AggregatorChange::Add } else { AggregatorChange::Remove };
        Ok(Statement::Aggregator { change, address: self.node_address()? })
    }

    pub(super) fn detach(&mut self) -> Result<Statement> {
        if self.word("LEAF") {
            self.node_address()?;
            self.word("KILL");
            self.word("FORCE");
            return Ok(Statement::Later("DETACH LEAF"));
        }
        self.expect_words(&["DATABASE"])?;
        self.detach_database()
    }

    pub(super) fn attach(&mut self) -> Result<Statement> {
        if self.word("LEAF") {
            if !self.word("ALL") {
                self.node_address()?;
            }
            self.words(&["NO", "REBALANCE"]);
            return Ok(Statement::Later("ATTACH LEAF"));
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

    pub(super) fn rebalance_or_restore(&mut self, first: &str) -> Result<Statement> {
        match first {
            "REBALANCE" if self.words(&["ALL", "DATABASES"]) => Ok(Statement::Later("REBALANCE ALL DATABASES")),
            "REBALANCE" => {
                self.expect_words(&["PARTITIONS", "ON"])?;
                self.name()?;
                self.word("FULL");
                self.word("KILL");
                Ok(Statement::Later("REBALANCE PARTITIONS"))
            }
            "RESTORE" if self.words(&["REDUNDANCY", "ON"]) => {
                self.name()?;
                Ok(Statement::Later("RESTORE REDUNDANCY"))
            }
            "RESTORE" => self.restore_database(),
            _ => self.backup_database(),
        }
    }
}
