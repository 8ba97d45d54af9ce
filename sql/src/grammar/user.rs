//! Users and grants.

use super::Parser;
use crate::error::{Error, Result};
use crate::statement::{Account, AccountClause, Grant, Privilege, Statement};

impl Parser<'_> {
    /// `user[@host]`.
    pub(super) fn account(&mut self) -> Result<Account> {
        let user = self.name_or_string()?;
        let host = if self.symbol("@") { self.name_or_string()? } else { "%".into() };
        Ok(Account { user, host })
    }

    fn account_clause(&mut self) -> Result<AccountClause> {
        let mut clause = AccountClause { account: self.account()?, plugin: None, password: None };
        if self.word("IDENTIFIED") {
            if self.word("WITH") {
                clause.plugin = Some(self.name_or_string()?);
            }
            if self.word("BY") {
                self.word("PASSWORD");
                clause.password = Some(self.string()?);
            } else if self.word("AS") {
                return Err(Error::unsupported("IDENTIFIED … AS"));
            } else if clause.plugin.is_none() {
                return Err(self.unexpected());
            }
        }
        Ok(clause)
    }

    pub(super) fn create_user(&mut self) -> Result<Statement> {
        let if_not_exists = self.if_not_exists();
        let accounts = self.comma_separated(Self::account_clause)?;
        self.account_options()?;
        Ok(Statement::CreateUser { accounts, if_not_exists })
    }

    pub(super) fn alter_user(&mut self) -> Result<Statement> {
        let if_exists = self.if_exists();
        let accounts = self.comma_separated(Self::account_clause)?;
        self.account_options()?;
        Ok(Statement::AlterUser { accounts, if_exists })
    }

    /// What limits an account beyond its password is not kept, so it is refused.
    fn account_options(&mut self) -> Result<()> {
        if self.one_of(&["REQUIRE", "WITH", "ACCOUNT", "DEFAULT"]).is_some() {
            return Err(Error::unsupported("account options (REQUIRE, WITH, ACCOUNT, DEFAULT ROLE)"));
        }
        if self.word("PASSWORD") {
            return Err(Error::unsupported("PASSWORD EXPIRE and other password options"));
        }
        Ok(())
    }

    pub(super) fn drop_user(&mut self) -> Result<Statement> {
        let if_exists = self.if_exists();
        Ok(Statement::DropUser { accounts: self.comma_separated(Self::account)?, if_exists })
    }

    /// `SET PASSWORD FOR user = 'text'`.
    pub(super) fn set_password(&mut self) -> Result<Statement> {
        if !self.word("FOR") {
            return Err(Error::unsupported("SET PASSWORD without FOR"));
        }
        let account = self.account()?;
        self.expect_symbol("=")?;
        let wrapped = self.word("PASSWORD") && self.symbol("(");
        let password = Some(self.string()?);
        if wrapped {
            self.expect_symbol(")")?;
        }
        Ok(Statement::AlterUser { accounts: vec![AccountClause { account, plugin: None, password }], if_exists: false })
    }

    pub(super) fn grant(&mut self) -> Result<Statement> {
        let Some((privileges, database)) = self.privileges()? else {
            return Ok(Statement::Later(self.later_to_end("roles")));
        };
        self.expect_words(&["TO"])?;
        let accounts = self.grantees()?;
        let grant_option = self.words(&["WITH", "GRANT", "OPTION"]);
        Ok(Statement::Grant(Grant { privileges, database, accounts, grant_option }))
    }

    pub(super) fn revoke(&mut self) -> Result<Statement> {
        let Some((privileges, database)) = self.privileges()? else {
            return Ok(Statement::Later(self.later_to_end("roles")));
        };
        self.expect_words(&["FROM"])?;
        let accounts = self.comma_separated(Self::account)?;
        Ok(Statement::Revoke(Grant { privileges, database, accounts, grant_option: false }))
    }

    fn grantees(&mut self) -> Result<Vec<Account>> {
        let clauses = self.comma_separated(Self::account_clause)?;
        if clauses.iter().any(|clause| clause.password.is_some() || clause.plugin.is_some()) {
            return Err(Error::unsupported("GRANT … IDENTIFIED BY; use CREATE USER"));
        }
        Ok(clauses.into_iter().map(|clause| clause.account).collect())
    }

    /// `ALL | REPLICATION | CLUSTER | SUPER, … ON {*.* | db.*}`; `None` if these are roles.
    fn privileges(&mut self) -> Result<Option<(Vec<Privilege>, Option<String>)>> {
        let mut privileges = Vec::new();
        loop {
            let privilege = if self.word("ALL") {
                self.word("PRIVILEGES");
                Privilege::All
            } else if self.word("REPLICATION") {
                self.one_of(&["SLAVE", "CLIENT"]);
                Privilege::Replication
            } else if self.word("CLUSTER") {
                Privilege::Cluster
            } else if self.word("SUPER") {
                Privilege::Super
            } else if self.word("USAGE") {
                Privilege::Usage
            } else if let Some(word) = self.one_of(&[
                "SELECT",
                "INSERT",
                "UPDATE",
                "DELETE",
                "CREATE",
                "DROP",
                "ALTER",
                "INDEX",
                "RELOAD",
                "PROCESS",
                "LOCK",
                "EXECUTE",
                "FILE",
                "SHOW",
                "REFERENCES",
                "EVENT",
                "TRIGGER",
                "GRANT",
            ]) {
                return Err(Error::unsupported(format!("GRANT of {word} alone; grant ALL on the database")));
            } else {
                self.later_to_end("");
                return Ok(None);
            };
            privileges.push(privilege);
            if !self.symbol(",") {
                break;
            }
        }
        self.expect_words(&["ON"])?;
        self.word("DATABASE");
        let database = if self.symbol("*") { None } else { Some(self.name()?) };
        if self.symbol(".") && !self.symbol("*") {
            return Err(Error::unsupported("grants on one table"));
        }
        Ok(Some((privileges, database)))
    }
}
