//! Following another database, and leaving it again.

use super::Parser;
use crate::error::Result;
use crate::statement::{Replicate, SourceAddress, Statement, Wait};
use crate::token::Kind;

impl Parser<'_> {
    pub(super) fn replicate(&mut self) -> Result<Statement> {
        self.expect_words(&["DATABASE"])?;
        let database = self.name()?;
        let (mut durability, mut replication, mut force_differential) = (None, None, false);
        while self.word("WITH") {
            if self.words(&["FORCE", "DIFFERENTIAL"]) {
                force_differential = true;
            } else {
                self.wait_clause(&mut durability, &mut replication)?;
            }
        }
        self.expect_words(&["FROM"])?;
        let source = self.source_address()?;
        let options = if self.word("OPTIONS") { self.options()? } else { vec![] };
        let no_wait = self.word("NOWAIT");
        if replication == Some(Wait::Sync) {
            return Ok(Statement::Later("REPLICATE DATABASE … WITH SYNC REPLICATION"));
        }
        Ok(Statement::Replicate(Box::new(Replicate {
            database,
            durability,
            replication,
            force_differential,
            source,
            options,
            no_wait,
        })))
    }

    /// `user[:'password']@host[:port][/db]`. The parts stand together without spaces; host may be quoted.
    pub(super) fn source_address(&mut self) -> Result<SourceAddress> {
        let user = self.name_or_string()?;
        let password = if self.symbol(":") { self.name_or_string()? } else { String::new() };
        self.expect_symbol("@")?;
        let (host, port) = self.host_and_port()?;
        let database = if self.symbol("/") { Some(self.name()?) } else { None };
        Ok(SourceAddress { user, password, host, port, database })
    }

    fn host_and_port(&mut self) -> Result<(String, u16)> {
        let place = self.unexpected();
        let mut host = String::new();
        if let Kind::Text(text) = &self.peek().kind {
            host.clone_from(text);
            self.at += 1;
        } else {
            // A name or an address is several tokens to the lexer: `db-1.east`, `10.0.0.1`, `[::1]`.
            let bracketed = self.is_symbol("[");
            let mut last_end = self.peek().start;
            while self.peek().start == last_end {
                let token = self.peek();
                let part = match &token.kind {
                    Kind::Word(word) | Kind::Number(word) => word.as_str(),
                    Kind::Symbol(symbol @ ("." | "-")) => symbol,
                    Kind::Symbol(symbol @ ("[" | "]" | ":")) if bracketed && !host.ends_with(']') => symbol,
                    _ => break,
                };
                host.push_str(part);
                last_end = token.end;
                self.at += 1;
            }
        }
        // `'host:port'` in one string.
        if let Some((name, port)) = host.rsplit_once(':').filter(|(name, _)| !name.contains(':')) {
            return Ok((name.into(), port.parse().map_err(|_| place)?));
        }
        if host.is_empty() {
            return Err(place);
        }
        let port = if self.symbol(":") { self.integer()? } else { 3306 };
        Ok((host, port))
    }

    pub(super) fn stop_replicating(&mut self) -> Result<Statement> {
        self.expect_words(&["REPLICATING"])?;
        let database = self.name()?;
        if self.words(&["AT", "TIME"]) || self.words(&["AS", "COPY"]) {
            return Ok(Statement::Later(self.later_to_end("STOP REPLICATING … AT TIME or AS COPY")));
        }
        Ok(Statement::StopReplicating { database })
    }

    pub(super) fn pause_or_continue(&mut self, paused: bool) -> Result<Statement> {
        self.expect_words(&["REPLICATING"])?;
        Ok(Statement::PauseReplicating { database: self.name()?, paused })
    }

    pub(super) fn wait_for_replication(&mut self) -> Result<Statement> {
        self.expect_words(&["FOR", "REPLICATION"])?;
        self.name()?;
        if self.word("UNTIL") {
            self.string()?;
        }
        if self.word("TIMEOUT") {
            self.duration_ms()?;
        }
        Ok(Statement::Later("WAIT FOR REPLICATION"))
    }

    pub(super) fn alter_replication(&mut self) -> Result<Statement> {
        self.name()?;
        self.expect_words(&["SET"])?;
        self.options()?;
        Ok(Statement::Later("ALTER REPLICATION"))
    }

    pub(super) fn switchover(&mut self) -> Result<Statement> {
        self.expect_words(&["DATABASE"])?;
        self.name()?;
        if self.word("TO") {
            self.string()?;
        }
        if self.word("TIMEOUT") {
            self.duration_ms()?;
        }
        Ok(Statement::Later("SWITCHOVER DATABASE"))
    }

    /// `EXPORT DIVERGENCE 'id' AS SQL`, `DISCARD DIVERGENCE 'id'`.
    pub(super) fn divergence_order(&mut self, first: &str) -> Result<Statement> {
        self.expect_words(&["DIVERGENCE"])?;
        let id = self.string()?;
        if first == "DISCARD" {
            return Ok(Statement::DiscardDivergence(id));
        }
        self.expect_words(&["AS", "SQL"])?;
        Ok(Statement::ExportDivergence(id))
    }

    /// `CHECK DATABASE`, `CHECK REPLICA`, `CHECK TABLE`.
    pub(super) fn check(&mut self) -> Result<Statement> {
        if self.word("DATABASE") {
            let database = self.name()?;
            return Ok(Statement::CheckDatabase { database, repair: self.word("REPAIR") });
        }
        if self.word("REPLICA") {
            self.name()?;
            return Ok(Statement::Later("CHECK REPLICA"));
        }
        self.expect_words(&["TABLE"])?;
        Ok(Statement::Later(self.later_to_end("table maintenance")))
    }
}
