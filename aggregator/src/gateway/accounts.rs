//! What a session may see of users, databases and other sessions: SHOW GRANTS, SHOW CREATE DATABASE, KILL.

use catalog::State;
use catalog::database::{Database, Options};
use catalog::user::{Account, Privilege, Scope, User};
use sql::answer::{Answer, ResultColumn};
use sql::parse::quote_name;
use sql::statement::{self, Show, Statement};
use sql::{Error, Result};
use types::Datum;

use super::answer::table;
use super::{ClientSession, users};

impl ClientSession {
    /// Whether it is a SHOW of MySQL's that the catalog alone answers.
    pub(super) fn is_of_cluster(&self, statement: &Statement) -> bool {
        matches!(statement, Statement::Show { show: Show::Grants(_) | Show::CreateDatabase { .. }, .. })
    }

    /// Answers it.
    pub(super) fn show_of_cluster(&self, statement: &Statement) -> Result<Answer> {
        let state = self.region.catalog.state();
        match statement {
            Statement::Show { show: Show::Grants(of), .. } => self.grants(&state, of.as_ref()),
            Statement::Show { show: Show::CreateDatabase { name, if_not_exists }, .. } => {
                let (_, known) = state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
                let columns = vec![ResultColumn::text("Database"), ResultColumn::text("Create Database")];
                let text = Datum::Text(create_database(known, *if_not_exists));
                Ok(table(columns, vec![vec![Datum::Text(name.clone()), text]]))
            }
            _ => Err(Error::new(1105, "not a statement about accounts")),
        }
    }

    fn grants(&self, state: &State, of: Option<&statement::Account>) -> Result<Answer> {
        let own = users::user(state, &self.client);
        let named = of.map(|of| Account { name: of.user.clone(), host: of.host.clone() });
        let (account, user) = match &named {
            None => own.ok_or_else(|| no_grant(&self.client.user, &self.client.host))?,
            Some(named) => {
                if own.is_none_or(|(account, _)| account != named) {
                    users::require(&self.region, &self.client, Privilege::Super)?;
                }
                state.users.get_key_value(named).ok_or_else(|| no_grant(&named.name, &named.host))?
            }
        };
        let title = format!("Grants for {}@{}", account.name, account.host);
        let rows = grants_of(account, user).into_iter().map(|text| vec![Datum::Text(text)]);
        Ok(table(vec![ResultColumn::text(&title)], rows.collect()))
    }

    /// `KILL`: one's own sessions, or with SUPER anybody's.
    pub(super) fn kill(&self, id: u64, statement_only: bool) -> Result<()> {
        let unknown = || Error::new(1094, format!("Unknown thread id: {id}"));
        let other = self.region.sessions.client(id).ok_or_else(unknown)?;
        if other.user != self.client.user && users::require(&self.region, &self.client, Privilege::Super).is_err() {
            return Err(Error::new(1095, format!("You are not owner of thread {id}")));
        }
        self.region.sessions.kill(id, statement_only);
        Ok(())
    }
}

fn no_grant(name: &str, host: &str) -> Error {
    Error::new(1141, format!("There is no such grant defined for user '{name}' on host '{host}'"))
}

/// The statements that would give a user what it has.
fn grants_of(account: &Account, user: &User) -> Vec<String> {
    let to = format!("{}@{}", quote_name(&account.name), quote_name(&account.host));
    let mut texts = Vec::new();
    if !user.grants.contains_key(&Scope::Global) {
        texts.push(format!("GRANT USAGE ON *.* TO {to}"));
    }
    for (scope, granted) in &user.grants {
        let on = match scope {
            Scope::Global => "*.*".to_string(),
            Scope::Database(name) => format!("{}.*", quote_name(name)),
        };
        let named: Vec<&str> = match Privilege::all(scope).is_subset(granted) {
            true => vec!["ALL PRIVILEGES"],
            false => granted.iter().filter(|privilege| **privilege != Privilege::GrantOption).map(word).collect(),
        };
        let privileges = if named.is_empty() { "USAGE".to_string() } else { named.join(", ") };
        let option = if granted.contains(&Privilege::GrantOption) { " WITH GRANT OPTION" } else { "" };
        texts.push(format!("GRANT {privileges} ON {on} TO {to}{option}"));
    }
    texts
}

fn word(privilege: &Privilege) -> &'static str {
    match privilege {
        Privilege::Select => "SELECT",
        Privilege::Insert => "INSERT",
        Privilege::Update => "UPDATE",
        Privilege::Delete => "DELETE",
        Privilege::Create => "CREATE",
        Privilege::Drop => "DROP",
        Privilege::Alter => "ALTER",
        Privilege::Index => "INDEX",
        Privilege::LockTables => "LOCK TABLES",
        Privilege::GrantOption => "GRANT OPTION",
        Privilege::Reload => "RELOAD",
        Privilege::Process => "PROCESS",
        Privilege::CreateUser => "CREATE USER",
        Privilege::Replication => "REPLICATION",
        Privilege::Cluster => "CLUSTER",
        Privilege::Super => "SUPER",
    }
}

/// The statement that would make the database. Options with their defaults are left out.
fn create_database(known: &Database, if_not_exists: bool) -> String {
    let exists = if if_not_exists { "/*!32312 IF NOT EXISTS*/ " } else { "" };
    let wait = |sync: bool| if sync { "SYNC" } else { "ASYNC" };
    let (durability, replication) = (wait(known.mode.sync_durability), wait(known.mode.sync_replication));
    let (options, usual) = (&known.options, Options::default());
    let mut given = vec![format!("redundancy = {}", options.redundancy)];
    if options.min_in_sync != usual.min_in_sync {
        given.push(format!("min_in_sync = {}", options.min_in_sync));
    }
    if options.failback_retention_millis != usual.failback_retention_millis {
        given.push(format!("failback_retention = '{}ms'", options.failback_retention_millis));
    }
    if options.failback_retention_bytes != usual.failback_retention_bytes {
        given.push(format!("failback_retention_bytes = '{}'", options.failback_retention_bytes));
    }
    if options.async_failover_after_millis != usual.async_failover_after_millis {
        let after = options.async_failover_after_millis.map_or("never".into(), |millis| format!("{millis}ms"));
        given.push(format!("async_failover_after = '{after}'"));
    }
    format!(
        "CREATE DATABASE {exists}{} PARTITIONS {} WITH {durability} DURABILITY WITH {replication} REPLICATION OPTIONS ({})",
        quote_name(&known.name),
        known.partitions,
        given.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use catalog::user::{Plugin, Verifier};
    use types::Revision;

    use super::*;

    #[test]
    fn grants_are_shown_as_statements() {
        let account = Account { name: "app".into(), host: "10.%".into() };
        let verifier = Verifier { plugin: Plugin::Native, text: String::new() };
        let mut user = User { verifier, grants: BTreeMap::new(), created: Revision(1) };
        assert_eq!(grants_of(&account, &user), ["GRANT USAGE ON *.* TO `app`@`10.%`"]);
        let mut all = Privilege::all(&Scope::Global);
        all.insert(Privilege::GrantOption);
        user.grants.insert(Scope::Global, all);
        let one = BTreeSet::from([Privilege::Select, Privilege::LockTables]);
        user.grants.insert(Scope::Database("shop".into()), one);
        let expected = [
            "GRANT ALL PRIVILEGES ON *.* TO `app`@`10.%` WITH GRANT OPTION",
            "GRANT SELECT, LOCK TABLES ON `shop`.* TO `app`@`10.%`",
        ];
        assert_eq!(grants_of(&account, &user), expected);
    }
}
