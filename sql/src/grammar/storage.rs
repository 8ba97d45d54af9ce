//! Databases whose truth is in an object store: parsed in full, refused until the issue that brings them.

use super::Parser;
use crate::error::Result;
use crate::statement::Statement;

impl Parser<'_> {
    /// `{S3 | GCS | AZURE | LOCAL} "bucket/root" [CONFIG '…'] [CREDENTIALS '…']`, after ON, TO or FROM.
    pub(super) fn storage_clause(&mut self) -> Result<()> {
        if self.one_of(&["S3", "GCS", "AZURE", "LOCAL", "FS"]).is_none() {
            return Err(self.unexpected());
        }
        self.string()?;
        while self.one_of(&["CONFIG", "CREDENTIALS"]).is_some() {
            self.string()?;
        }
        Ok(())
    }

    pub(super) fn create_milestone(&mut self) -> Result<Statement> {
        if !self.is_word("FOR") && !self.at_end() {
            self.string()?;
        }
        if self.word("FOR") {
            self.name()?;
        }
        Ok(Statement::Later("CREATE MILESTONE"))
    }

    pub(super) fn drop_milestone(&mut self) -> Result<Statement> {
        self.string()?;
        if self.word("FOR") {
            self.name()?;
        }
        Ok(Statement::Later("DROP MILESTONE"))
    }

    /// `[AT {MILESTONE "m" | TIME 't'}]`.
    fn at_clause(&mut self) -> Result<()> {
        if self.word("AT") {
            if self.one_of(&["MILESTONE", "TIME"]).is_none() {
                return Err(self.unexpected());
            }
            self.string()?;
        }
        Ok(())
    }

    pub(super) fn detach_database(&mut self) -> Result<Statement> {
        self.name()?;
        self.at_clause()?;
        self.one_of(&["FORCE", "KILL"]);
        Ok(Statement::Later("DETACH DATABASE"))
    }

    pub(super) fn attach_database(&mut self) -> Result<Statement> {
        self.words(&["READ", "ONLY"]);
        self.name()?;
        if self.word("AS") {
            self.name()?;
        }
        self.expect_words(&["ON"])?;
        self.storage_clause()?;
        self.at_clause()?;
        if self.word("STORAGEID") {
            self.string()?;
        }
        self.word("FORCE");
        Ok(Statement::Later("ATTACH DATABASE"))
    }

    pub(super) fn backup_database(&mut self) -> Result<Statement> {
        self.word("DATABASE");
        self.name()?;
        if self.word("WITH") && self.one_of(&["INIT", "DIFFERENTIAL"]).is_none() {
            return Err(self.unexpected());
        }
        self.expect_words(&["TO"])?;
        self.storage_clause()?;
        Ok(Statement::Later("BACKUP DATABASE"))
    }

    pub(super) fn restore_database(&mut self) -> Result<Statement> {
        self.word("DATABASE");
        self.name()?;
        if self.word("AS") {
            self.name()?;
        }
        self.expect_words(&["FROM"])?;
        self.storage_clause()?;
        self.at_clause()?;
        Ok(Statement::Later("RESTORE DATABASE"))
    }
}
