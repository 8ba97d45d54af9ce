//! A column's clause: name, type and what follows it.

use bytes::Bytes;
use types::value::{BlobSize, ColumnType, IntWidth};
use types::{Datum, Decimal};

use super::Parser;
use crate::error::{Error, Result};
use crate::statement::{ColumnClause, DefaultClause};
use crate::token::Kind;

impl Parser<'_> {
    pub(super) fn column_clause(&mut self) -> Result<ColumnClause> {
        let name = self.name()?;
        let ty = self.column_type()?;
        ty.check(&name).map_err(|error| Error::new(error.code(), error.to_string()))?;
        let mut column = ColumnClause {
            name,
            ty,
            nullable: None,
            default: None,
            on_update_now: false,
            auto_increment: false,
            primary_key: false,
            comment: String::new(),
            ignored: vec![],
        };
        while self.column_attribute(&mut column)? {}
        Ok(column)
    }

    fn column_attribute(&mut self, column: &mut ColumnClause) -> Result<bool> {
        if self.words(&["NOT", "NULL"]) {
            column.nullable = Some(false);
        } else if self.word("NULL") {
            column.nullable = Some(true);
        } else if self.word("DEFAULT") {
            column.default = Some(self.default_clause()?);
        } else if self.words(&["ON", "UPDATE"]) {
            self.now()?;
            column.on_update_now = true;
        } else if self.word("AUTO_INCREMENT") {
            column.auto_increment = true;
        } else if self.words(&["PRIMARY", "KEY"]) {
            column.primary_key = true;
        } else if self.word("UNIQUE") || self.word("KEY") {
            return Err(Error::unsupported("secondary indexes"));
        } else if self.word("COMMENT") {
            column.comment = self.string()?;
        } else if self.words(&["CHARACTER", "SET"]) || self.one_of(&["CHARSET", "COLLATE"]).is_some() {
            let name = self.name_or_string()?;
            check_charset(&name)?;
            column.ignored.extend(charset_note(&name));
        } else if self.one_of(&["REFERENCES", "CHECK", "CONSTRAINT"]).is_some() {
            return Err(Error::unsupported("foreign keys and CHECK constraints"));
        } else if self.one_of(&["GENERATED", "AS"]).is_some() {
            return Err(Error::unsupported("generated columns"));
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn default_clause(&mut self) -> Result<DefaultClause> {
        if self.is_word("CURRENT_TIMESTAMP") || self.is_word("NOW") || self.is_word("LOCALTIMESTAMP") {
            self.now()?;
            return Ok(DefaultClause::Now);
        }
        if self.is_symbol("(") {
            return Err(Error::unsupported("expressions as defaults"));
        }
        self.literal().map(DefaultClause::Value)
    }

    fn now(&mut self) -> Result<()> {
        if self.one_of(&["CURRENT_TIMESTAMP", "NOW", "LOCALTIMESTAMP"]).is_none() {
            return Err(self.unexpected());
        }
        if self.symbol("(") {
            if !self.is_symbol(")") {
                self.integer::<u8>()?;
            }
            self.expect_symbol(")")?;
        }
        Ok(())
    }

    /// A constant.
    pub(super) fn literal(&mut self) -> Result<Datum> {
        let negative = self.symbol("-");
        if !negative {
            self.symbol("+");
        }
        let value = match &self.peek().kind {
            Kind::Number(number) => number_literal(number, negative).ok_or_else(|| self.unexpected())?,
            Kind::Text(text) if !negative => Datum::Text(text.clone()),
            Kind::Hex(digits) if !negative => Datum::Bytes(hex(digits).ok_or_else(|| self.unexpected())?),
            Kind::Word(word) if word.eq_ignore_ascii_case("NULL") => Datum::Null,
            Kind::Word(word) if word.eq_ignore_ascii_case("TRUE") => Datum::Int(1),
            Kind::Word(word) if word.eq_ignore_ascii_case("FALSE") => Datum::Int(0),
            _ => return Err(self.unexpected()),
        };
        self.at += 1;
        Ok(value)
    }

    fn column_type(&mut self) -> Result<ColumnType> {
        let word = self.name()?.to_ascii_uppercase();
        let ty = match word.as_str() {
            "TINYINT" | "INT1" => return self.tiny_int(),
            "SMALLINT" | "INT2" => return self.int(IntWidth::Small),
            "MEDIUMINT" | "INT3" | "MIDDLEINT" => return self.int(IntWidth::Medium),
            "INT" | "INTEGER" | "INT4" => return self.int(IntWidth::Int),
            "BIGINT" | "INT8" => return self.int(IntWidth::Big),
            "BOOL" | "BOOLEAN" => ColumnType::Bool,
            "DECIMAL" | "NUMERIC" | "DEC" | "FIXED" => return self.decimal(),
            "FLOAT" => return self.float(),
            "REAL" => ColumnType::Double,
            "DOUBLE" => {
                self.word("PRECISION");
                return self.double();
            }
            "CHAR" | "CHARACTER" if self.word("VARYING") => {
                ColumnType::VarChar(self.length()?.ok_or_else(|| self.unexpected())?)
            }
            "CHAR" | "CHARACTER" | "NCHAR" => ColumnType::Char(self.length()?.unwrap_or(1)),
            "VARCHAR" | "NVARCHAR" => ColumnType::VarChar(self.length()?.ok_or_else(|| self.unexpected())?),
            "BINARY" => ColumnType::Binary(self.length()?.unwrap_or(1)),
            "VARBINARY" => ColumnType::VarBinary(self.length()?.ok_or_else(|| self.unexpected())?),
            "TINYTEXT" => ColumnType::Text(BlobSize::Tiny),
            "TEXT" => {
                self.length()?;
                ColumnType::Text(BlobSize::Normal)
            }
            "MEDIUMTEXT" => ColumnType::Text(BlobSize::Medium),
            "LONGTEXT" => ColumnType::Text(BlobSize::Long),
            "TINYBLOB" => ColumnType::Blob(BlobSize::Tiny),
            "BLOB" => {
                self.length()?;
                ColumnType::Blob(BlobSize::Normal)
            }
            "MEDIUMBLOB" => ColumnType::Blob(BlobSize::Medium),
            "LONGBLOB" => ColumnType::Blob(BlobSize::Long),
            "DATE" => ColumnType::Date,
            "DATETIME" => ColumnType::DateTime(self.length()?.unwrap_or(0).min(255) as u8),
            "TIMESTAMP" => ColumnType::Timestamp(self.length()?.unwrap_or(0).min(255) as u8),
            "TIME" => ColumnType::Time(self.length()?.unwrap_or(0).min(255) as u8),
            "JSON" => ColumnType::Json,
            "YEAR" | "BIT" | "ENUM" | "SET" | "GEOMETRY" | "POINT" | "VECTOR" | "SERIAL" => {
                return Err(Error::unsupported(format!("type {word}")));
            }
            _ => {
                self.at -= 1;
                return Err(self.unexpected());
            }
        };
        self.word("BINARY");
        Ok(ty)
    }

    fn length(&mut self) -> Result<Option<u32>> {
        if !self.symbol("(") {
            return Ok(None);
        }
        let length = self.integer()?;
        self.expect_symbol(")")?;
        Ok(Some(length))
    }

    fn unsigned(&mut self) -> Result<bool> {
        let mut unsigned = false;
        loop {
            match self.one_of(&["UNSIGNED", "SIGNED", "ZEROFILL"]) {
                Some("UNSIGNED") => unsigned = true,
                Some("SIGNED") => {}
                Some(_) => return Err(Error::unsupported("ZEROFILL")),
                None => return Ok(unsigned),
            }
        }
    }

    fn int(&mut self, width: IntWidth) -> Result<ColumnType> {
        self.length()?;
        Ok(ColumnType::Int { width, unsigned: self.unsigned()? })
    }

    fn tiny_int(&mut self) -> Result<ColumnType> {
        let length = self.length()?;
        let unsigned = self.unsigned()?;
        if length == Some(1) && !unsigned {
            return Ok(ColumnType::Bool);
        }
        Ok(ColumnType::Int { width: IntWidth::Tiny, unsigned })
    }

    /// `(precision[, scale])`.
    fn precision(&mut self) -> Result<Option<(u8, u8)>> {
        if !self.symbol("(") {
            return Ok(None);
        }
        let precision = self.integer::<u32>()?.min(255) as u8;
        let scale = if self.symbol(",") { self.integer::<u32>()?.min(255) as u8 } else { 0 };
        self.expect_symbol(")")?;
        Ok(Some((precision, scale)))
    }

    fn decimal(&mut self) -> Result<ColumnType> {
        let (precision, scale) = self.precision()?.unwrap_or((10, 0));
        // DECIMAL(0) is DECIMAL(10) to MySQL.
        let precision = if precision == 0 { 10 } else { precision };
        Ok(ColumnType::Decimal { precision, scale, unsigned: self.unsigned()? })
    }

    fn float(&mut self) -> Result<ColumnType> {
        let wide = match self.precision()? {
            Some((_, scale)) if scale > 0 => return Err(Error::unsupported("FLOAT(M,D)")),
            Some((bits, _)) => bits > 24,
            None => false,
        };
        if self.unsigned()? {
            return Err(Error::unsupported("FLOAT UNSIGNED"));
        }
        Ok(if wide { ColumnType::Double } else { ColumnType::Float })
    }

    fn double(&mut self) -> Result<ColumnType> {
        if self.precision()?.is_some() {
            return Err(Error::unsupported("DOUBLE(M,D)"));
        }
        if self.unsigned()? {
            return Err(Error::unsupported("DOUBLE UNSIGNED"));
        }
        Ok(ColumnType::Double)
    }
}

/// Character sets and collations that mean what Perennial does: UTF-8, compared byte by byte. Others are accepted by
/// name only where they are spellings of it; what that changes is noted.
pub(super) fn check_charset(name: &str) -> Result<()> {
    let name = name.to_ascii_lowercase();
    let known = ["utf8", "utf8mb3", "utf8mb4", "binary", "ascii", "latin1"];
    if known.iter().any(|charset| name == *charset || name.starts_with(&format!("{charset}_"))) {
        return Ok(());
    }
    Err(Error::new(1115, format!("Unknown character set: '{name}'")))
}

/// What is to be said of a character set or collation that is accepted and not kept.
pub(super) fn charset_note(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower.contains("_ci") {
        return Some(format!("Collation '{name}' is not implemented yet: strings are compared as by 'utf8mb4_bin'"));
    }
    let charset = lower.split('_').next().unwrap_or_default();
    let is_kept = ["utf8mb4", "utf8mb3", "utf8"].contains(&charset);
    (!is_kept).then(|| format!("Character set '{charset}' is not kept: texts are utf8mb4"))
}

/// A number as MySQL types it: an integer, a decimal if it has a point, a double if it has an exponent.
pub(crate) fn number_literal(number: &str, negative: bool) -> Option<Datum> {
    let text = if negative { format!("-{number}") } else { number.to_string() };
    if number.contains(['e', 'E']) {
        return text.parse().ok().filter(|value: &f64| value.is_finite()).map(Datum::Double);
    }
    if let Ok(value) = text.parse::<i64>() {
        return Some(Datum::Int(value));
    }
    if let Ok(value) = text.parse::<u64>() {
        return Some(Datum::UInt(value));
    }
    match Decimal::parse(&text) {
        Ok(value) => Some(Datum::Decimal(value)),
        Err(_) => text.parse().ok().filter(|value: &f64| value.is_finite()).map(Datum::Double),
    }
}

/// The bytes that hexadecimal digits stand for; an odd count gets a zero in front.
pub(crate) fn hex(digits: &str) -> Option<Bytes> {
    let padded = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits.to_string() };
    if !padded.is_ascii() {
        return None;
    }
    (0..padded.len()).step_by(2).map(|at| u8::from_str_radix(&padded[at..at + 2], 16).ok()).collect()
}
