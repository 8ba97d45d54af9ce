//! LOAD DATA LOCAL INFILE.

use super::Parser;
use crate::error::{Error, Result};
use crate::statement::{Duplicates, LoadData, LoadField, Statement};

impl Parser<'_> {
    pub(super) fn load(&mut self) -> Result<Statement> {
        self.expect_words(&["DATA"])?;
        self.one_of(&["LOW_PRIORITY", "CONCURRENT"]);
        if !self.word("LOCAL") {
            return Err(Error::unsupported("LOAD DATA without LOCAL"));
        }
        self.expect_words(&["INFILE"])?;
        let file = self.string()?;
        // A file on the client cannot be stopped half way: MySQL drops duplicates then, as with IGNORE.
        let duplicates = match self.one_of(&["REPLACE", "IGNORE"]) {
            Some("REPLACE") => Duplicates::Replace,
            _ => Duplicates::Ignore,
        };
        self.expect_words(&["INTO", "TABLE"])?;
        let mut load = LoadData {
            file,
            duplicates,
            table: self.table_name()?,
            fields_terminated: "\t".into(),
            enclosed: None,
            escaped: Some('\\'),
            lines_starting: String::new(),
            lines_terminated: "\n".into(),
            skip: 0,
            fields: vec![],
            set: vec![],
        };
        if self.words(&["CHARACTER", "SET"]) {
            super::column::check_charset(&self.name_or_string()?)?;
        }
        self.load_format(&mut load)?;
        if self.word("IGNORE") {
            load.skip = self.integer()?;
            if self.one_of(&["LINES", "ROWS"]).is_none() {
                return Err(self.unexpected());
            }
        }
        if self.is_symbol("(") {
            load.fields = self.list(|parser| {
                if parser.symbol("@") {
                    return Ok(LoadField::Variable(parser.name_or_string()?.to_ascii_lowercase()));
                }
                parser.name().map(LoadField::Column)
            })?;
        }
        if self.word("SET") {
            load.set = self.comma_separated(|parser| {
                let column = parser.name()?;
                parser.expect_symbol("=")?;
                Ok((column, parser.expression(&[])?))
            })?;
        }
        Ok(Statement::Load(Box::new(load)))
    }

    fn load_format(&mut self, load: &mut LoadData) -> Result<()> {
        if self.one_of(&["FIELDS", "COLUMNS"]).is_some() {
            loop {
                if self.words(&["TERMINATED", "BY"]) {
                    load.fields_terminated = self.string()?;
                } else if self.words(&["OPTIONALLY", "ENCLOSED", "BY"]) || self.words(&["ENCLOSED", "BY"]) {
                    load.enclosed = self.character()?;
                } else if self.words(&["ESCAPED", "BY"]) {
                    load.escaped = self.character()?;
                } else {
                    break;
                }
            }
        }
        if self.word("LINES") {
            loop {
                if self.words(&["STARTING", "BY"]) {
                    load.lines_starting = self.string()?;
                } else if self.words(&["TERMINATED", "BY"]) {
                    load.lines_terminated = self.string()?;
                } else {
                    break;
                }
            }
        }
        if load.fields_terminated.is_empty() || load.lines_terminated.is_empty() {
            return Err(Error::unsupported("LOAD DATA with fields of fixed width"));
        }
        Ok(())
    }

    /// A string of one character or none.
    fn character(&mut self) -> Result<Option<char>> {
        let place = self.unexpected();
        let text = self.string()?;
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (first, None) => Ok(first),
            _ => Err(place),
        }
    }
}
