//! Users: who may log in, what each may do, and the statements that change it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use catalog::user::{Account, Plugin, Privilege, Scope, User, Verifier};
use catalog::{Command, State};
use sql::answer::{Answer, Done};
use sql::session::Session as Variables;
use sql::statement::{self, AccountClause, Grant, Need, Show, Statement, TableName};
use sql::{Error, Result};

use super::databases::decide;
use crate::mysql::{Account as Login, Client, Plugin as WirePlugin, Verifier as WireVerifier};
use crate::region::Region;

fn hosts(address: SocketAddr) -> Vec<String> {
    let ip = address.ip().to_canonical();
    let mut hosts = vec![ip.to_string()];
    if ip.is_loopback() {
        hosts.push("localhost".into());
    }
    hosts
}

/// The account that a client is, if it may try to log in from there.
pub fn lookup(region: &Region, user: &str, address: SocketAddr) -> Option<Login> {
    let state = region.catalog.state();
    let hosts = hosts(address);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let (_, known) = state.account_of(user, &hosts)?;
    if known.verifier.text.is_empty() && !address.ip().to_canonical().is_loopback() {
        // Without a password from this machine alone.
        return None;
    }
    let plugin = match known.verifier.plugin {
        Plugin::Native => WirePlugin::NativePassword,
        Plugin::CachingSha2 => WirePlugin::CachingSha2Password,
    };
    Some(Login { plugin, verifier: WireVerifier::parse(plugin, &known.verifier.text)? })
}

/// Whether a password is the one of a user who may log in from there.
pub fn log_in(region: &Region, user: &str, password: &[u8], address: SocketAddr) -> bool {
    lookup(region, user, address).is_some_and(|known| known.verifier.verifies(password))
}

/// The account and the rights of a user who comes from there.
pub fn account<'a>(state: &'a State, user: &str, address: SocketAddr) -> Option<(&'a Account, &'a User)> {
    let hosts = hosts(address);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    state.account_of(user, &hosts)
}

/// Makes root on a cluster that has no user yet.
pub async fn make_root(region: &Region, password: Option<&str>) -> Result<()> {
    if !region.catalog.state().users.is_empty() {
        return Ok(());
    }
    let account = Account { name: "root".into(), host: "%".into() };
    let verifier = verifier(None, password.unwrap_or_default())?;
    decide(region, Command::CreateUser { account: account.clone(), verifier }).await?;
    let mut privileges = Privilege::all(&Scope::Global);
    privileges.insert(Privilege::GrantOption);
    decide(region, Command::Grant { account, scope: Scope::Global, privileges }).await
}

fn verifier(plugin: Option<&str>, password: &str) -> Result<Verifier> {
    let wire = match plugin {
        None => WirePlugin::NativePassword,
        Some(name) => {
            WirePlugin::from_name(name).ok_or_else(|| Error::new(1524, format!("Plugin '{name}' is not loaded")))?
        }
    };
    let plugin = match wire {
        WirePlugin::NativePassword => Plugin::Native,
        WirePlugin::CachingSha2Password => Plugin::CachingSha2,
    };
    let text = if password.is_empty() { String::new() } else { WireVerifier::new(wire, password).to_string() };
    Ok(Verifier { plugin, text })
}

/// The databases that a statement names or uses.
pub fn databases_of(statement: &Statement, variables: &Variables) -> Vec<String> {
    let of = |name: &TableName| name.database.clone().or_else(|| variables.database.clone());
    match statement {
        Statement::CreateDatabase(create) => vec![create.name.clone()],
        Statement::AlterDatabase(alter) => vec![alter.name.clone()],
        Statement::DropDatabase { name, .. }
        | Statement::Use(name)
        | Statement::Show { show: Show::CreateDatabase { name, .. }, .. } => vec![name.clone()],
        Statement::CreateTable(create) => of(&create.name).into_iter().collect(),
        Statement::CreateTableLike { name, like, .. } => [of(name), of(like)].into_iter().flatten().collect(),
        Statement::AlterTable { name, .. } | Statement::Truncate(name) => of(name).into_iter().collect(),
        Statement::DropTable { names, .. } | Statement::LockTables(names) => names.iter().filter_map(of).collect(),
        Statement::Load(load) => of(&load.table).into_iter().collect(),
        Statement::Show { show: Show::Tables { database, .. } | Show::TableStatus(database), .. } => {
            database.clone().or_else(|| variables.database.clone()).into_iter().collect()
        }
        Statement::Show {
            show: Show::Columns { table, .. } | Show::CreateTable(table) | Show::Indexes(table), ..
        } => of(table).into_iter().collect(),
        rows => {
            let named = sql::databases_named(rows).into_iter();
            named.filter_map(|name| name.or_else(|| variables.database.clone())).collect()
        }
    }
}

/// Whether the client may run a statement.
pub fn allow(region: &Region, client: &Client, statement: &Statement, variables: &Variables) -> Result<()> {
    let state = region.catalog.state();
    let Some((_, user)) = user(&state, client) else {
        return Err(Error::new(1045, format!("Access denied for user '{}'@'{}'", client.user, client.host)));
    };
    match statement.need() {
        Need::Nothing => Ok(()),
        Need::Super if user.may(Privilege::Super, None) => Ok(()),
        Need::Super => Err(lacks("SUPER")),
        Need::Cluster if user.may(Privilege::Cluster, None) => Ok(()),
        Need::Cluster => Err(lacks("CLUSTER")),
        Need::Database => {
            let refused = databases_of(statement, variables).into_iter().find(|name| !may_use(&state, client, name));
            refused.map_or(Ok(()), |name| Err(no_access(client, &name)))
        }
    }
}

/// 1227 unless the client has a privilege on the cluster.
pub fn require(region: &Region, client: &Client, privilege: Privilege) -> Result<()> {
    match user(&region.catalog.state(), client).is_some_and(|(_, user)| user.may(privilege, None)) {
        true => Ok(()),
        false => Err(lacks(&format!("{privilege:?}").to_uppercase())),
    }
}

/// Who the client is.
pub fn user<'a>(state: &'a State, client: &Client) -> Option<(&'a Account, &'a User)> {
    let hosts = hosts(client.address);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    state.account_of(&client.user, &hosts)
}

/// Whether the client may see and use a database.
pub fn may_use(state: &State, client: &Client, database: &str) -> bool {
    // What concerns the cluster says nothing about rows: the user of another region's sink reads no table.
    let mut of_data = Privilege::ALL.iter().filter(|privilege| !privilege.is_global());
    let any = |user: &User| of_data.any(|privilege| user.may(*privilege, Some(database)));
    database.eq_ignore_ascii_case("information_schema") || user(state, client).map(|(_, user)| user).is_some_and(any)
}

/// Whether the client may see that a database exists and how it is: who looks after the cluster does, too.
pub fn may_see(state: &State, client: &Client, database: &str) -> bool {
    let mut of_cluster = [Privilege::Cluster, Privilege::Process, Privilege::Super].into_iter();
    let looks_after = |user: &User| of_cluster.any(|privilege| user.may(privilege, None));
    may_use(state, client, database) || user(state, client).map(|(_, user)| user).is_some_and(looks_after)
}

/// 1044: the client may not use a database.
pub fn no_access(client: &Client, database: &str) -> Error {
    let text = format!("Access denied for user '{}'@'{}' to database '{database}'", client.user, client.host);
    Error::new(1044, text)
}

fn lacks(what: &str) -> Error {
    let text = format!("Access denied; you need (at least one of) the {what} privilege(s) for this operation");
    Error::new(1227, text)
}

/// CREATE, ALTER and DROP USER, GRANT and REVOKE.
pub async fn change(region: &Region, statement: &Statement) -> Result<Answer> {
    match statement {
        Statement::CreateUser { accounts, if_not_exists } => {
            for clause in accounts {
                if *if_not_exists && exists(&region.catalog.state(), &account_of(&clause.account)) {
                    continue;
                }
                let verifier = verifier(clause.plugin.as_deref(), clause.password.as_deref().unwrap_or_default())?;
                let account = account_of(&clause.account);
                if exists(&region.catalog.state(), &account) {
                    return Err(Error::new(1396, format!("Operation CREATE USER failed for {account}")));
                }
                decide(region, Command::CreateUser { account, verifier }).await?;
            }
        }
        Statement::AlterUser { accounts, if_exists } => {
            for clause in accounts {
                alter(region, clause, *if_exists).await?;
            }
        }
        Statement::DropUser { accounts, if_exists } => {
            for named in accounts {
                let account = account_of(named);
                if !exists(&region.catalog.state(), &account) {
                    match if_exists {
                        true => continue,
                        false => return Err(Error::new(1396, format!("Operation DROP USER failed for {account}"))),
                    }
                }
                decide(region, Command::DropUser { account }).await?;
            }
        }
        Statement::Grant(grant) => grants(region, grant, true).await?,
        Statement::Revoke(grant) => grants(region, grant, false).await?,
        _ => return Err(Error::new(1105, "not a statement about users")),
    }
    Ok(Answer::Done(Done::default()))
}

async fn alter(region: &Region, clause: &AccountClause, if_exists: bool) -> Result<()> {
    let account = account_of(&clause.account);
    if !exists(&region.catalog.state(), &account) {
        return if if_exists {
            Ok(())
        } else {
            Err(Error::new(1396, format!("Operation ALTER USER failed for {account}")))
        };
    }
    let Some(password) = &clause.password else { return Ok(()) };
    let verifier = verifier(clause.plugin.as_deref(), password)?;
    decide(region, Command::AlterUser { account, verifier }).await
}

async fn grants(region: &Region, grant: &Grant, give: bool) -> Result<()> {
    let scope = grant.database.as_ref().map_or(Scope::Global, |name| Scope::Database(name.clone()));
    let mut privileges: BTreeSet<Privilege> = BTreeSet::new();
    for privilege in &grant.privileges {
        match privilege {
            statement::Privilege::All => privileges.extend(Privilege::all(&scope)),
            statement::Privilege::Replication => drop(privileges.insert(Privilege::Replication)),
            statement::Privilege::Cluster => drop(privileges.insert(Privilege::Cluster)),
            statement::Privilege::Super => drop(privileges.insert(Privilege::Super)),
            statement::Privilege::Usage => {}
        }
    }
    if grant.grant_option {
        privileges.insert(Privilege::GrantOption);
    }
    for named in &grant.accounts {
        let (account, scope, privileges) = (account_of(named), scope.clone(), privileges.clone());
        if !exists(&region.catalog.state(), &account) {
            return Err(Error::new(1410, "You are not allowed to create a user with GRANT"));
        }
        if privileges.is_empty() {
            continue;
        }
        let command = match give {
            true => Command::Grant { account, scope, privileges },
            false => Command::Revoke { account, scope, privileges },
        };
        decide(region, command).await?;
    }
    Ok(())
}

fn account_of(named: &statement::Account) -> Account {
    Account { name: named.user.clone(), host: named.host.clone() }
}

fn exists(state: &State, account: &Account) -> bool {
    state.users.contains_key(account)
}
