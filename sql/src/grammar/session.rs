//! SET, transactions, KILL, LOCK, UNLOCK and FLUSH.

use super::Parser;
use crate::error::{Error, Result};
use crate::statement::{Assignment, Scope, SetValue, Statement, UnlockTarget};
use crate::token::Kind;

impl Parser<'_> {
    pub(super) fn set(&mut self) -> Result<Statement> {
        if self.word("PASSWORD") {
            return self.set_password();
        }
        if self.one_of(&["ROLE", "RESOURCE"]).is_some() || self.words(&["DEFAULT", "ROLE"]) {
            return Ok(Statement::Later(self.later_to_end("roles")));
        }
        let mut assignments = Vec::new();
        loop {
            self.assignment(&mut assignments)?;
            if !self.symbol(",") {
                return Ok(Statement::Set(assignments));
            }
        }
    }

    fn assignment(&mut self, out: &mut Vec<Assignment>) -> Result<()> {
        if self.word("NAMES") {
            let charset = self.name_or_string()?;
            let collation = if self.word("COLLATE") { Some(self.name_or_string()?) } else { None };
            out.push(Assignment::Names { charset, collation });
            return Ok(());
        }
        if self.words(&["CHARACTER", "SET"]) || self.word("CHARSET") {
            out.push(Assignment::Names { charset: self.name_or_string()?, collation: None });
            return Ok(());
        }
        if self.symbol("@@") {
            let scope = self.scope(true)?;
            return self.variable(scope, out);
        }
        if self.symbol("@") {
            let name = self.name_or_string()?.to_ascii_lowercase();
            self.assign()?;
            let value = self.set_value()?;
            out.push(Assignment::User { name, value });
            return Ok(());
        }
        let scope = self.scope(false)?;
        if self.word("TRANSACTION") {
            return self.transaction_characteristics(scope, out);
        }
        self.variable(scope, out)
    }

    fn scope(&mut self, dotted: bool) -> Result<Scope> {
        let scope = match self.one_of(&["GLOBAL", "SESSION", "LOCAL", "PERSIST", "PERSIST_ONLY"]) {
            Some("GLOBAL") => Scope::Global,
            Some("PERSIST" | "PERSIST_ONLY") => return Err(Error::unsupported("SET PERSIST")),
            Some(_) => Scope::Session,
            None => return Ok(Scope::Session),
        };
        if dotted {
            self.expect_symbol(".")?;
        }
        Ok(scope)
    }

    fn variable(&mut self, scope: Scope, out: &mut Vec<Assignment>) -> Result<()> {
        let name = self.name()?.to_ascii_lowercase();
        self.assign()?;
        let value = self.set_value()?;
        out.push(Assignment::Variable { scope, name, value });
        Ok(())
    }

    fn assign(&mut self) -> Result<()> {
        if self.symbol("=") || self.symbol(":=") { Ok(()) } else { Err(self.unexpected()) }
    }

    fn set_value(&mut self) -> Result<SetValue> {
        let alone =
            self.tokens.get(self.at + 1).is_none_or(|next| matches!(next.kind, Kind::End | Kind::Symbol("," | ";")));
        match &self.peek().kind {
            Kind::Word(word) if alone && word.eq_ignore_ascii_case("DEFAULT") => {
                self.at += 1;
                Ok(SetValue::Default)
            }
            Kind::Word(word) if alone && !["TRUE", "FALSE", "NULL"].contains(&word.to_ascii_uppercase().as_str()) => {
                self.at += 1;
                Ok(SetValue::Word(word.clone()))
            }
            _ => Ok(SetValue::Expression(Box::new(self.expression(&[])?))),
        }
    }

    fn transaction_characteristics(&mut self, scope: Scope, out: &mut Vec<Assignment>) -> Result<()> {
        loop {
            if self.words(&["ISOLATION", "LEVEL"]) {
                let level = if self.words(&["READ", "COMMITTED"]) {
                    "READ-COMMITTED"
                } else if self.words(&["READ", "UNCOMMITTED"]) {
                    "READ-UNCOMMITTED"
                } else if self.words(&["REPEATABLE", "READ"]) {
                    "REPEATABLE-READ"
                } else if self.word("SERIALIZABLE") {
                    "SERIALIZABLE"
                } else {
                    return Err(self.unexpected());
                };
                out.push(Assignment::Isolation { scope, level: level.into() });
            } else if self.words(&["READ", "ONLY"]) {
                out.push(Assignment::Access { read_only: true });
            } else if self.words(&["READ", "WRITE"]) {
                out.push(Assignment::Access { read_only: false });
            } else {
                return Err(self.unexpected());
            }
            if !self.symbol(",") {
                return Ok(());
            }
        }
    }

    pub(super) fn begin(&mut self) -> Result<Statement> {
        self.word("WORK");
        Ok(Statement::Begin { read_only: None })
    }

    pub(super) fn start_transaction(&mut self) -> Result<Statement> {
        self.expect_words(&["TRANSACTION"])?;
        let mut read_only = None;
        while !self.at_end() {
            if self.words(&["WITH", "CONSISTENT", "SNAPSHOT"]) {
                return Err(no_snapshot());
            } else if read_only.is_none() && self.words(&["READ", "ONLY"]) {
                read_only = Some(true);
            } else if read_only.is_none() && self.words(&["READ", "WRITE"]) {
                read_only = Some(false);
            } else {
                return Err(self.unexpected());
            }
            if !self.symbol(",") {
                break;
            }
        }
        Ok(Statement::Begin { read_only })
    }

    pub(super) fn end_transaction(&mut self, statement: Statement) -> Result<Statement> {
        self.word("WORK");
        if self.words(&["AND", "CHAIN"]) || self.word("RELEASE") {
            return Err(Error::unsupported("COMMIT or ROLLBACK with AND CHAIN or RELEASE"));
        }
        self.words(&["AND", "NO", "CHAIN"]);
        self.words(&["NO", "RELEASE"]);
        Ok(statement)
    }

    pub(super) fn rollback(&mut self) -> Result<Statement> {
        self.word("WORK");
        if self.word("TO") {
            return Ok(Statement::Later(self.later_to_end("SAVEPOINT")));
        }
        self.end_transaction(Statement::Rollback)
    }

    pub(super) fn kill(&mut self) -> Result<Statement> {
        let query = self.one_of(&["QUERY", "CONNECTION"]) == Some("QUERY");
        Ok(Statement::Kill { query, id: self.integer()? })
    }

    pub(super) fn lock_tables(&mut self) -> Result<Statement> {
        if self.one_of(&["TABLES", "TABLE"]).is_none() {
            return Err(self.unexpected());
        }
        let names = self.comma_separated(|parser| {
            let name = parser.table_name()?;
            if parser.word("AS")
                || (!parser.is_word("READ") && !parser.is_word("WRITE") && !parser.is_word("LOW_PRIORITY"))
            {
                parser.name()?;
            }
            parser.word("LOW_PRIORITY");
            match parser.one_of(&["READ", "WRITE"]) {
                Some("READ") => {
                    parser.word("LOCAL");
                    Ok(name)
                }
                Some(_) => Ok(name),
                None => Err(parser.unexpected()),
            }
        })?;
        Ok(Statement::LockTables(names))
    }

    pub(super) fn unlock(&mut self) -> Result<Statement> {
        if self.one_of(&["TABLES", "TABLE"]).is_none() {
            return Err(self.unexpected());
        }
        let target = match self.word("ON") {
            false => UnlockTarget::Session,
            true if self.symbol("*") => UnlockTarget::All,
            true => UnlockTarget::Database(self.name()?),
        };
        Ok(Statement::Unlock { target, force: self.word("FORCE") })
    }

    pub(super) fn flush(&mut self) -> Result<Statement> {
        self.one_of(&["NO_WRITE_TO_BINLOG", "LOCAL"]);
        if self.one_of(&["PRIVILEGES", "STATUS", "LOGS", "HOSTS"]).is_some() {
            return Ok(Statement::FlushNothing);
        }
        if self.one_of(&["TABLES", "TABLE"]).is_none() {
            return Err(self.unexpected());
        }
        let database = if self.word("ON") { Some(self.name()?) } else { None };
        if self.words(&["WITH", "READ", "ONLY"]) {
            let timeout_ms = if self.word("TIMEOUT") { Some(self.duration_ms()?) } else { None };
            return Ok(Statement::Fence { database, timeout_ms });
        }
        if self.words(&["WITH", "READ", "LOCK"]) {
            return Ok(Statement::Later("FLUSH TABLES WITH READ LOCK"));
        }
        if database.is_none() && self.at_end() {
            return Ok(Statement::FlushNothing);
        }
        Err(self.unexpected())
    }
}

/// 1235: reads of a transaction would have to be at one moment, and each statement's are at its own.
fn no_snapshot() -> Error {
    Error::new(
        1235,
        "This version of Perennial doesn't yet support 'WITH CONSISTENT SNAPSHOT': START TRANSACTION alone begins a READ \
         COMMITTED transaction, in which each statement reads at a moment of its own; one SELECT reads all its tables at \
         the same moment",
    )
}
