//! The statements that are parsed by hand: all that are Perennial's own, and those of MySQL's in which no general
//! expression stands. A recursive parser, one file a family of statements, over the tokens of `token`.
//!
//! `statement` answers `None` for a text that begins like none of these: the general parser takes it.

mod cluster;
mod column;
mod database;
mod load;
mod replication;
mod session;
mod show;
mod storage;
mod table;
mod user;

pub(crate) use column::{hex, number_literal};

use datafusion::sql::sqlparser::ast;

use crate::error::{Error, Result};
use crate::parse;
use crate::statement::{Statement, TableName};
use crate::token::{Kind, Token};

/// A place in a statement's tokens.
pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    at: usize,
}

/// Parses a statement of these families; `None` if the text belongs to the general parser.
pub(crate) fn statement(text: &str, tokens: &[Token]) -> Result<Option<Statement>> {
    let mut parser = Parser { text, tokens, at: 0 };
    let Some(statement) = parser.statement()? else { return Ok(None) };
    parser.symbol(";");
    parser.end()?;
    Ok(Some(statement))
}

impl<'a> Parser<'a> {
    fn statement(&mut self) -> Result<Option<Statement>> {
        let Kind::Word(first) = &self.peek().kind else { return Ok(None) };
        let first = first.to_ascii_uppercase();
        self.at += 1;
        let statement = match first.as_str() {
            "CREATE" => self.create()?,
            "DROP" => self.drop()?,
            "ALTER" => self.alter()?,
            "TRUNCATE" => self.truncate()?,
            "RENAME" => Statement::Later(self.later_to_end("RENAME TABLE")),
            "USE" => Statement::Use(self.name()?),
            "SHOW" => self.show()?,
            "DESCRIBE" | "DESC" | "EXPLAIN" => match self.describe()? {
                Some(statement) => statement,
                None => return Ok(None),
            },
            "SET" => self.set()?,
            "BEGIN" => self.begin()?,
            "START" => self.start_transaction()?,
            "COMMIT" => self.end_transaction(Statement::Commit)?,
            "ROLLBACK" => self.rollback()?,
            "SAVEPOINT" | "RELEASE" => Statement::Later(self.later_to_end("SAVEPOINT")),
            "XA" => Statement::Later(self.later_to_end("XA")),
            "KILL" => self.kill()?,
            "LOCK" => self.lock_tables()?,
            "UNLOCK" => self.unlock()?,
            "FLUSH" => self.flush()?,
            "LOAD" => self.load()?,
            "GRANT" => self.grant()?,
            "REVOKE" => self.revoke()?,
            "CHECK" => self.check()?,
            "REPLICATE" => self.replicate()?,
            "STOP" => self.stop_replicating()?,
            "PAUSE" => self.pause_or_continue(true)?,
            "CONTINUE" => self.pause_or_continue(false)?,
            "WAIT" => self.wait_for_replication()?,
            "SWITCHOVER" => self.switchover()?,
            "EXPORT" | "DISCARD" => self.divergence_order(&first)?,
            "ADD" | "REMOVE" => self.add_or_remove(&first)?,
            "DETACH" => self.detach()?,
            "ATTACH" => self.attach()?,
            "PROMOTE" => self.promote()?,
            "REBALANCE" | "RESTORE" | "BACKUP" => self.rebalance_or_restore(&first)?,
            "PREPARE" | "EXECUTE" | "DEALLOCATE" => Statement::Later(self.later_to_end("PREPARE as a statement")),
            "CALL" | "DO" | "HANDLER" => Statement::Later(self.later_to_end("stored programs")),
            "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECKSUM" => Statement::Later(self.later_to_end("table maintenance")),
            _ => return Ok(None),
        };
        Ok(Some(statement))
    }

    /// Takes the rest of the statement for what is refused whatever it says.
    fn later_to_end(&mut self, construct: &'static str) -> &'static str {
        while self.peek().kind != Kind::End && !self.is_symbol(";") {
            self.at += 1;
        }
        construct
    }

    fn peek(&self) -> &'a Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    /// 1064 at the next token.
    fn unexpected(&self) -> Error {
        let token = self.peek();
        Error::syntax(&self.text[token.start..], token.line)
    }

    /// Whether the next tokens are these words.
    fn are_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(offset, word)| {
            matches!(&self.tokens.get(self.at + offset).map(|token| &token.kind),
                Some(Kind::Word(found)) if found.eq_ignore_ascii_case(word))
        })
    }

    fn is_word(&self, word: &str) -> bool {
        self.are_words(&[word])
    }

    /// Takes these words if they come next.
    fn words(&mut self, words: &[&str]) -> bool {
        let found = self.are_words(words);
        self.at += if found { words.len() } else { 0 };
        found
    }

    fn word(&mut self, word: &str) -> bool {
        self.words(&[word])
    }

    /// Takes the first of these words that comes next.
    fn one_of(&mut self, words: &[&'static str]) -> Option<&'static str> {
        words.iter().copied().find(|word| self.word(word))
    }

    fn expect_words(&mut self, words: &[&str]) -> Result<()> {
        words.iter().try_for_each(|word| if self.word(word) { Ok(()) } else { Err(self.unexpected()) })
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek().kind, Kind::Symbol(found) if found == symbol)
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.at += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn end(&self) -> Result<()> {
        if self.peek().kind == Kind::End { Ok(()) } else { Err(self.unexpected()) }
    }

    fn at_end(&self) -> bool {
        self.peek().kind == Kind::End || self.is_symbol(";")
    }

    /// An identifier.
    fn name(&mut self) -> Result<String> {
        let name = match &self.peek().kind {
            Kind::Word(name) | Kind::Quoted(name) if !name.is_empty() => name.clone(),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(name)
    }

    fn table_name(&mut self) -> Result<TableName> {
        let first = self.name()?;
        if self.symbol(".") {
            return Ok(TableName { database: Some(first), name: self.name()? });
        }
        Ok(TableName { database: None, name: first })
    }

    fn string(&mut self) -> Result<String> {
        let Kind::Text(text) = &self.peek().kind else { return Err(self.unexpected()) };
        self.at += 1;
        Ok(text.clone())
    }

    fn name_or_string(&mut self) -> Result<String> {
        self.string().or_else(|_| self.name())
    }

    fn integer<T: std::str::FromStr>(&mut self) -> Result<T> {
        let Kind::Number(digits) = &self.peek().kind else { return Err(self.unexpected()) };
        let value = digits.parse().map_err(|_| self.unexpected())?;
        self.at += 1;
        Ok(value)
    }

    /// `(item, …)`.
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect_symbol("(")?;
        let items = self.comma_separated(&mut item)?;
        self.expect_symbol(")")?;
        Ok(items)
    }

    fn comma_separated<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut items = vec![item(self)?];
        while self.symbol(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn if_not_exists(&mut self) -> bool {
        self.words(&["IF", "NOT", "EXISTS"])
    }

    fn if_exists(&mut self) -> bool {
        self.words(&["IF", "EXISTS"])
    }

    /// A general expression: the text up to a comma, closing bracket or end outside of brackets, or one of `stops`.
    fn expression(&mut self, stops: &[&str]) -> Result<ast::Expr> {
        let first = self.peek();
        let mut depth = 0usize;
        let start = self.at;
        loop {
            match &self.peek().kind {
                Kind::End => break,
                Kind::Symbol("(") => depth += 1,
                Kind::Symbol(")") if depth > 0 => depth -= 1,
                Kind::Symbol(")" | "," | ";") if depth == 0 => break,
                Kind::Word(word) if depth == 0 && stops.iter().any(|stop| word.eq_ignore_ascii_case(stop)) => break,
                _ => {}
            }
            self.at += 1;
        }
        if self.at == start {
            return Err(self.unexpected());
        }
        let end = self.tokens[self.at - 1].end;
        parse::expression(&self.text[first.start..end], first.line)
    }

    /// A duration such as `'500ms'`, milliseconds.
    fn duration_ms(&mut self) -> Result<u64> {
        let place = self.unexpected();
        let text = self.string()?;
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| place.clone())?;
        let factor = match text[digits..].trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(place),
        };
        number.checked_mul(factor).ok_or(place)
    }
}
