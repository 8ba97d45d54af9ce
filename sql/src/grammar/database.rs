//! CREATE, ALTER and DROP: the branch by object, and databases themselves.

use types::{Datum, Decimal};

use super::Parser;
use crate::error::Result;
use crate::statement::{AlterDatabase, CreateDatabase, DatabaseOption, Statement, Wait};
use crate::token::Kind;

impl Parser<'_> {
    pub(super) fn create(&mut self) -> Result<Statement> {
        self.words(&["OR", "REPLACE"]);
        if self.one_of(&["DATABASE", "SCHEMA"]).is_some() {
            return self.create_database();
        }
        if self.word("USER") {
            return self.create_user();
        }
        if self.word("MILESTONE") {
            return self.create_milestone();
        }
        if self.words(&["REFERENCE", "TABLE"]) {
            return Ok(Statement::Later(self.later_to_end("CREATE REFERENCE TABLE")));
        }
        if self.word("TEMPORARY") {
            return Ok(Statement::Later(self.later_to_end("TEMPORARY TABLE")));
        }
        self.word("ROWSTORE");
        if self.word("TABLE") {
            return self.create_table();
        }
        for (word, construct) in [
            ("INDEX", "secondary indexes"),
            ("UNIQUE", "secondary indexes"),
            ("FULLTEXT", "secondary indexes"),
            ("SPATIAL", "secondary indexes"),
            ("VIEW", "views"),
            ("ALGORITHM", "views"),
            ("SQL", "views"),
            ("PROCEDURE", "stored programs"),
            ("FUNCTION", "stored programs"),
            ("TRIGGER", "stored programs"),
            ("EVENT", "stored programs"),
            ("DEFINER", "stored programs"),
            ("ROLE", "roles"),
            ("PIPELINE", "pipelines"),
        ] {
            if self.word(word) {
                return Ok(Statement::Later(self.later_to_end(construct)));
            }
        }
        Err(self.unexpected())
    }

    pub(super) fn drop(&mut self) -> Result<Statement> {
        if self.one_of(&["DATABASE", "SCHEMA"]).is_some() {
            let if_exists = self.if_exists();
            return Ok(Statement::DropDatabase { name: self.name()?, if_exists });
        }
        if self.one_of(&["TABLE", "TABLES"]).is_some() {
            let if_exists = self.if_exists();
            let names = self.comma_separated(Self::table_name)?;
            self.one_of(&["RESTRICT", "CASCADE"]);
            return Ok(Statement::DropTable { names, if_exists });
        }
        if self.word("USER") {
            return self.drop_user();
        }
        if self.word("MILESTONE") {
            return self.drop_milestone();
        }
        for (word, construct) in [
            ("INDEX", "secondary indexes"),
            ("VIEW", "views"),
            ("PROCEDURE", "stored programs"),
            ("FUNCTION", "stored programs"),
            ("TRIGGER", "stored programs"),
            ("EVENT", "stored programs"),
            ("ROLE", "roles"),
            ("TEMPORARY", "TEMPORARY TABLE"),
        ] {
            if self.word(word) {
                return Ok(Statement::Later(self.later_to_end(construct)));
            }
        }
        Err(self.unexpected())
    }

    pub(super) fn alter(&mut self) -> Result<Statement> {
        if self.one_of(&["DATABASE", "SCHEMA"]).is_some() {
            return self.alter_database();
        }
        if self.word("TABLE") {
            return self.alter_table();
        }
        if self.word("USER") {
            return self.alter_user();
        }
        if self.word("REPLICATION") {
            return self.alter_replication();
        }
        if self.one_of(&["VIEW", "PROCEDURE", "FUNCTION", "EVENT"]).is_some() {
            return Ok(Statement::Later(self.later_to_end("stored programs and views")));
        }
        Err(self.unexpected())
    }

    fn create_database(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.name()?;
        let mut create = CreateDatabase {
            name,
            if_not_exists,
            partitions: None,
            durability: None,
            replication: None,
            options: vec![],
        };
        loop {
            if self.word("PARTITIONS") {
                self.symbol("=");
                create.partitions = Some(self.integer()?);
            } else if self.word("WITH") {
                self.wait_clause(&mut create.durability, &mut create.replication)?;
            } else if self.word("OPTIONS") {
                create.options = self.options()?;
            } else if self.word("ON") {
                self.storage_clause()?;
                self.later_to_end("");
                return Ok(Statement::Later("CREATE DATABASE … ON an object store"));
            } else if !self.charset_clause()? {
                return Ok(Statement::CreateDatabase(create));
            }
        }
    }

    /// `[DEFAULT] {CHARACTER SET | CHARSET | COLLATE | ENCRYPTION} [=] name`: accepted, there is one character set.
    fn charset_clause(&mut self) -> Result<bool> {
        let default = self.word("DEFAULT");
        if self.words(&["CHARACTER", "SET"]) || self.one_of(&["CHARSET", "COLLATE", "ENCRYPTION"]).is_some() {
            self.symbol("=");
            self.name_or_string()?;
            return Ok(true);
        }
        if default { Err(self.unexpected()) } else { Ok(false) }
    }

    /// `{SYNC | ASYNC} {DURABILITY | REPLICATION}`, after WITH.
    pub(super) fn wait_clause(&mut self, durability: &mut Option<Wait>, replication: &mut Option<Wait>) -> Result<()> {
        let wait = match self.one_of(&["SYNC", "ASYNC"]) {
            Some("SYNC") => Wait::Sync,
            Some(_) => Wait::Async,
            None => return Err(self.unexpected()),
        };
        match self.one_of(&["DURABILITY", "REPLICATION"]) {
            Some("DURABILITY") => *durability = Some(wait),
            Some(_) => *replication = Some(wait),
            None => return Err(self.unexpected()),
        }
        Ok(())
    }

    fn alter_database(&mut self) -> Result<Statement> {
        let name = self.name()?;
        let mut alter = AlterDatabase { name, durability: None, replication: None, options: vec![] };
        while !self.at_end() {
            if self.words(&["SET", "OPTIONS"]) {
                alter.options = self.options()?;
            } else if self.one_of(&["SET", "WITH"]).is_some() {
                self.wait_clause(&mut alter.durability, &mut alter.replication)?;
            } else if !self.charset_clause()? {
                return Err(self.unexpected());
            }
        }
        Ok(Statement::AlterDatabase(alter))
    }

    /// `(name = value, …)`.
    pub(super) fn options(&mut self) -> Result<Vec<DatabaseOption>> {
        self.list(|parser| {
            let name = parser.name()?.to_ascii_lowercase();
            parser.expect_symbol("=")?;
            let value = match &parser.peek().kind {
                Kind::Text(text) => Datum::Text(text.clone()),
                Kind::Word(word) => Datum::Text(word.to_ascii_lowercase()),
                Kind::Number(number) => match number.parse() {
                    Ok(value) => Datum::Int(value),
                    Err(_) => Datum::Decimal(Decimal::parse(number).map_err(|_| parser.unexpected())?),
                },
                _ => return Err(parser.unexpected()),
            };
            parser.at += 1;
            Ok(DatabaseOption { name, value })
        })
    }
}
