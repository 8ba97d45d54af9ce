//! CREATE TABLE, ALTER TABLE, TRUNCATE.

use super::Parser;
use super::column::{charset_note, check_charset};
use crate::error::{Error, Result};
use crate::statement::{AlterTable, CreateTable, Statement};

impl Parser<'_> {
    pub(super) fn create_table(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let name = self.table_name()?;
        if self.word("LIKE") {
            return Ok(Statement::CreateTableLike { name, like: self.table_name()?, if_not_exists });
        }
        let mut table = CreateTable {
            name,
            if_not_exists,
            columns: vec![],
            primary_key: vec![],
            shard_key: None,
            comment: String::new(),
            auto_increment: None,
            ignored: vec![],
        };
        if !self.is_symbol("(") {
            return Err(if self.is_word("AS") || self.is_word("SELECT") {
                Error::unsupported("CREATE TABLE … SELECT")
            } else {
                self.unexpected()
            });
        }
        if self.tokens.get(self.at + 1).is_some_and(
            |token| matches!(&token.kind, crate::token::Kind::Word(word) if word.eq_ignore_ascii_case("LIKE")),
        ) {
            self.at += 2;
            let like = self.table_name()?;
            self.expect_symbol(")")?;
            return Ok(Statement::CreateTableLike { name: table.name, like, if_not_exists });
        }
        self.expect_symbol("(")?;
        loop {
            self.table_element(&mut table)?;
            if !self.symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        self.table_options(&mut table)?;
        if self.is_word("AS") || self.is_word("SELECT") {
            return Err(Error::unsupported("CREATE TABLE … SELECT"));
        }
        Ok(Statement::CreateTable(Box::new(table)))
    }

    fn table_element(&mut self, table: &mut CreateTable) -> Result<()> {
        if self.words(&["SHARD", "KEY"]) {
            self.name_before_list();
            table.shard_key = Some(if self.symbol("(") {
                let columns = if self.is_symbol(")") { vec![] } else { self.comma_separated(Self::key_part)? };
                self.expect_symbol(")")?;
                columns
            } else {
                return Err(self.unexpected());
            });
            return Ok(());
        }
        if self.word("CONSTRAINT") && !self.is_word("PRIMARY") && !self.is_word("UNIQUE") && !self.is_word("FOREIGN") {
            self.name()?;
        }
        if self.words(&["PRIMARY", "KEY"]) {
            if !table.primary_key.is_empty() {
                return Err(Error::new(1068, "Multiple primary key defined"));
            }
            self.index_type()?;
            table.primary_key = self.list(Self::key_part)?;
            self.index_type()?;
            return Ok(());
        }
        if self.one_of(&["UNIQUE", "KEY", "INDEX", "FULLTEXT", "SPATIAL", "SORT"]).is_some() {
            return Err(Error::unsupported("secondary indexes"));
        }
        if self.one_of(&["FOREIGN", "CHECK"]).is_some() {
            return Err(Error::unsupported("foreign keys and CHECK constraints"));
        }
        let column = self.column_clause()?;
        if column.primary_key {
            if !table.primary_key.is_empty() {
                return Err(Error::new(1068, "Multiple primary key defined"));
            }
            table.primary_key = vec![column.name.clone()];
        }
        table.columns.push(column);
        Ok(())
    }

    /// Skips a key's name.
    fn name_before_list(&mut self) {
        if !self.is_symbol("(") {
            let _ = self.name();
        }
    }

    fn index_type(&mut self) -> Result<()> {
        if self.word("USING") && self.one_of(&["BTREE", "HASH"]).is_none() {
            return Err(self.unexpected());
        }
        Ok(())
    }

    fn key_part(&mut self) -> Result<String> {
        let name = self.name()?;
        if self.is_symbol("(") {
            return Err(Error::unsupported("key parts with a length"));
        }
        if self.one_of(&["ASC", "DESC"]) == Some("DESC") {
            return Err(Error::unsupported("descending keys"));
        }
        Ok(name)
    }

    fn table_options(&mut self, table: &mut CreateTable) -> Result<()> {
        loop {
            self.symbol(",");
            let default = self.word("DEFAULT");
            if self.words(&["CHARACTER", "SET"]) || self.one_of(&["CHARSET", "COLLATE"]).is_some() {
                self.symbol("=");
                let name = self.name_or_string()?;
                check_charset(&name)?;
                table.ignored.extend(charset_note(&name));
                continue;
            }
            if default {
                return Err(self.unexpected());
            }
            let option = self.one_of(&[
                "ENGINE",
                "COMMENT",
                "AUTO_INCREMENT",
                "ROW_FORMAT",
                "KEY_BLOCK_SIZE",
                "STATS_PERSISTENT",
                "AUTOSTATS_ENABLED",
                "MAX_ROWS",
                "MIN_ROWS",
                "AVG_ROW_LENGTH",
                "CHECKSUM",
                "PACK_KEYS",
                "DELAY_KEY_WRITE",
            ]);
            let Some(option) = option else {
                return match self.one_of(&["PARTITION", "TABLESPACE", "UNION"]) {
                    Some(word) => Err(Error::unsupported(format!("table option {word}"))),
                    None => Ok(()),
                };
            };
            self.symbol("=");
            match option {
                "COMMENT" => table.comment = self.string()?,
                "AUTO_INCREMENT" => table.auto_increment = Some(self.integer()?),
                "ENGINE" => {
                    self.name_or_string()?;
                }
                _ => {
                    self.at += 1;
                    table.ignored.push(format!("Table option {option} is not kept"));
                }
            }
        }
    }

    pub(super) fn alter_table(&mut self) -> Result<Statement> {
        let name = self.table_name()?;
        let changes = self.comma_separated(Self::table_change)?;
        Ok(Statement::AlterTable { name, changes })
    }

    fn table_change(&mut self) -> Result<AlterTable> {
        if self.word("ADD") {
            if self.one_of(&["INDEX", "KEY", "UNIQUE", "FULLTEXT"]).is_some() {
                return Err(Error::unsupported("secondary indexes"));
            }
            if self.one_of(&["PRIMARY", "CONSTRAINT", "FOREIGN", "CHECK"]).is_some() {
                return Err(Error::unsupported("ALTER TABLE … ADD of a key or constraint"));
            }
            self.word("COLUMN");
            let column = self.column_clause()?;
            if column.primary_key || column.auto_increment {
                return Err(Error::unsupported("ALTER TABLE … ADD of a key or constraint"));
            }
            if self.one_of(&["FIRST", "AFTER"]).is_some() {
                return Err(Error::unsupported("ALTER TABLE … ADD COLUMN … FIRST or AFTER"));
            }
            return Ok(AlterTable::AddColumn(Box::new(column)));
        }
        if self.word("DROP") {
            if self.one_of(&["INDEX", "KEY", "PRIMARY", "CONSTRAINT", "FOREIGN"]).is_some() {
                return Err(Error::unsupported("ALTER TABLE … DROP of a key or constraint"));
            }
            self.word("COLUMN");
            return self.name().map(AlterTable::DropColumn);
        }
        if self.word("RENAME") {
            if self.one_of(&["COLUMN", "INDEX", "KEY"]).is_some() {
                return Err(Error::unsupported("ALTER TABLE … RENAME COLUMN or INDEX"));
            }
            self.one_of(&["TO", "AS"]);
            return self.table_name().map(AlterTable::Rename);
        }
        if self.word("COMMENT") {
            self.symbol("=");
            return self.string().map(AlterTable::Comment);
        }
        if self.word("AUTO_INCREMENT") {
            self.symbol("=");
            return self.integer().map(AlterTable::AutoIncrement);
        }
        if self
            .one_of(&["MODIFY", "CHANGE", "ALTER", "CONVERT", "ENGINE", "ORDER", "PARTITION", "DISABLE", "ENABLE"])
            .is_some()
        {
            self.later_to_end("");
            return Err(Error::unsupported("this change of ALTER TABLE"));
        }
        Err(self.unexpected())
    }

    pub(super) fn truncate(&mut self) -> Result<Statement> {
        self.word("TABLE");
        Ok(Statement::Truncate(self.table_name()?))
    }
}
