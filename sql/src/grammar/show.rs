//! SHOW and DESCRIBE.

use super::Parser;
use crate::error::Result;
use crate::statement::{ClusterShow, Filter, Show, Statement, TableName};

impl Parser<'_> {
    pub(super) fn show(&mut self) -> Result<Statement> {
        if let Some(statement) = self.cluster_show()? {
            return Ok(statement);
        }
        let extended = self.word("EXTENDED");
        let full = self.word("FULL");
        self.one_of(&["GLOBAL", "SESSION", "LOCAL"]);
        let show = if self.one_of(&["DATABASES", "SCHEMAS"]).is_some() {
            Show::Databases { extended: extended || self.word("EXTENDED") }
        } else if self.words(&["CREATE", "DATABASE"]) || self.words(&["CREATE", "SCHEMA"]) {
            let if_not_exists = self.if_not_exists();
            Show::CreateDatabase { name: self.name()?, if_not_exists }
        } else if self.words(&["CREATE", "TABLE"]) {
            Show::CreateTable(self.table_name()?)
        } else if self.words(&["TABLE", "STATUS"]) {
            Show::TableStatus(self.database_clause()?)
        } else if self.word("TABLES") {
            Show::Tables { full, database: self.database_clause()? }
        } else if self.one_of(&["COLUMNS", "FIELDS"]).is_some() {
            self.from()?;
            Show::Columns { full, table: self.qualified_table()? }
        } else if self.one_of(&["INDEX", "INDEXES", "KEYS"]).is_some() {
            self.from()?;
            Show::Indexes(self.qualified_table()?)
        } else if let Some(show) = self.show_of_server()? {
            show
        } else {
            return self.show_later();
        };
        let filter = if self.word("LIKE") {
            Some(Filter::Like(self.string()?))
        } else if self.word("WHERE") {
            Some(Filter::Where(Box::new(self.expression(&[])?)))
        } else {
            None
        };
        Ok(Statement::Show { show, filter })
    }

    fn show_of_server(&mut self) -> Result<Option<Show>> {
        let show = if self.word("WARNINGS") {
            self.limit()?;
            Show::Warnings { errors: false, count: false }
        } else if self.word("ERRORS") {
            self.limit()?;
            Show::Warnings { errors: true, count: false }
        } else if self.word("COUNT") {
            self.expect_symbol("(")?;
            self.expect_symbol("*")?;
            self.expect_symbol(")")?;
            let errors = match self.one_of(&["WARNINGS", "ERRORS"]) {
                Some(word) => word == "ERRORS",
                None => return Err(self.unexpected()),
            };
            Show::Warnings { errors, count: true }
        } else if self.word("VARIABLES") {
            Show::Variables
        } else if self.word("STATUS") {
            Show::Status
        } else if self.word("PROCESSLIST") {
            Show::ProcessList
        } else if self.word("GRANTS") {
            let account = match self.word("FOR") {
                true if self.word("CURRENT_USER") => {
                    if self.symbol("(") {
                        self.expect_symbol(")")?;
                    }
                    None
                }
                true => Some(self.account()?),
                false => None,
            };
            Show::Grants(account)
        } else if self.word("ENGINES") || self.words(&["STORAGE", "ENGINES"]) {
            Show::Engines
        } else if self.words(&["CHARACTER", "SET"]) || self.word("CHARSET") {
            Show::CharacterSets
        } else if self.word("COLLATION") {
            Show::Collations
        } else {
            return Ok(None);
        };
        Ok(Some(show))
    }

    fn limit(&mut self) -> Result<()> {
        if self.word("LIMIT") {
            self.comma_separated(Self::integer::<u64>)?;
        }
        Ok(())
    }

    fn show_later(&mut self) -> Result<Statement> {
        for (word, construct) in [
            ("MILESTONES", "SHOW MILESTONES"),
            ("STORAGE", "SHOW STORAGE STATUS"),
            ("TRIGGERS", "stored programs"),
            ("PROCEDURE", "stored programs"),
            ("FUNCTION", "stored programs"),
            ("EVENTS", "stored programs"),
            ("OPEN", "SHOW OPEN TABLES"),
            ("PLUGINS", "SHOW PLUGINS"),
            ("PRIVILEGES", "SHOW PRIVILEGES"),
            ("PROFILES", "SHOW PROFILES"),
            ("PROFILE", "SHOW PROFILES"),
            ("MASTER", "SHOW MASTER STATUS"),
            ("SLAVE", "SHOW SLAVE STATUS"),
            ("REPLICA", "SHOW REPLICA STATUS"),
            ("BINARY", "SHOW BINARY LOGS"),
            ("ENGINE", "SHOW ENGINE"),
            ("CREATE", "SHOW CREATE of this object"),
        ] {
            if self.word(word) {
                return Ok(Statement::Later(self.later_to_end(construct)));
            }
        }
        Err(self.unexpected())
    }

    fn from(&mut self) -> Result<()> {
        if self.one_of(&["FROM", "IN"]).is_some() { Ok(()) } else { Err(self.unexpected()) }
    }

    fn database_clause(&mut self) -> Result<Option<String>> {
        if self.one_of(&["FROM", "IN"]).is_some() { self.name().map(Some) } else { Ok(None) }
    }

    /// `table [FROM db]`.
    fn qualified_table(&mut self) -> Result<TableName> {
        let mut table = self.table_name()?;
        if let Some(database) = self.database_clause()? {
            table.database = Some(database);
        }
        Ok(table)
    }

    fn cluster_show(&mut self) -> Result<Option<Statement>> {
        let show = if self.words(&["REPLICATION", "STATUS"]) {
            let partitions = self.word("PARTITIONS");
            ClusterShow::ReplicationStatus { partitions, database: self.for_database()? }
        } else if self.words(&["DIVERGENCE", "RECORDS"]) {
            ClusterShow::DivergenceRecords { id: self.string()?, limit: self.row_limit()? }
        } else if self.word("DIVERGENCE") {
            ClusterShow::Divergence(self.for_database()?)
        } else if self.word("TRANSACTION") {
            ClusterShow::Transaction(self.string()?)
        } else if self.word("LEAVES") {
            ClusterShow::Leaves
        } else if self.word("AGGREGATORS") {
            ClusterShow::Aggregators
        } else if self.word("PARTITIONS") {
            ClusterShow::Partitions(if self.word("ON") { Some(self.name()?) } else { None })
        } else if self.words(&["CLUSTER", "STATUS"]) {
            ClusterShow::ClusterStatus
        } else if self.words(&["REBALANCE", "STATUS"]) {
            ClusterShow::RebalanceStatus
        } else if self.words(&["CLUSTER", "EVENTS"]) {
            ClusterShow::ClusterEvents { limit: self.row_limit()? }
        } else {
            return Ok(None);
        };
        Ok(Some(Statement::ClusterShow(show)))
    }

    fn row_limit(&mut self) -> Result<Option<u64>> {
        if self.word("LIMIT") { self.integer().map(Some) } else { Ok(None) }
    }

    fn for_database(&mut self) -> Result<Option<String>> {
        if self.word("FOR") { self.name().map(Some) } else { Ok(None) }
    }

    /// DESCRIBE of a table; `None` for EXPLAIN of a query, which is the general parser's.
    pub(super) fn describe(&mut self) -> Result<Option<Statement>> {
        if self.words(&["REPLICATE", "DATABASE"]) {
            return Ok(Some(Statement::Later(self.later_to_end("EXPLAIN REPLICATE DATABASE"))));
        }
        if let Some(word) = self.one_of(&["REBALANCE", "RESTORE"]) {
            return self.explain_rebalance(word).map(Some);
        }
        let query = ["SELECT", "WITH", "TABLE", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE", "FORMAT", "ANALYZE"];
        if self.is_symbol("(") || query.iter().any(|word| self.is_word(word)) {
            return Ok(None);
        }
        let table = self.table_name()?;
        let filter = if self.at_end() { None } else { Some(Filter::Like(self.name_or_string()?)) };
        Ok(Some(Statement::Show { show: Show::Columns { full: false, table }, filter }))
    }
}
