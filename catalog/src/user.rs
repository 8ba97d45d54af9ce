//! Users of the cluster: who may log in from where, and what they may do.
//!
//! Passwords are never kept, only what verifies them. Whether an empty password may be used is decided where clients
//! connect (from loopback only).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use types::Revision;

use crate::state::State;

/// A name and the hosts from which it is used: `'app'@'10.%'`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Account {
    /// As a client gives it; case matters.
    pub name: String,
    /// A host or address, or a pattern of them with `%` and `_`.
    pub host: String,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'@'{}'", self.name, self.host)
    }
}

/// How a password is verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Plugin {
    /// `mysql_native_password`: SHA-1 twice.
    Native,
    /// `caching_sha2_password`: salted SHA-256, many rounds.
    CachingSha2,
}

/// What verifies a password; as MySQL prints it in `SHOW CREATE USER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verifier {
    /// Which method.
    pub plugin: Plugin,
    /// Empty for an empty password.
    pub text: String,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Privilege {
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Remove rows.
    Delete,
    /// Make databases and tables.
    Create,
    /// Remove databases and tables.
    Drop,
    /// Change tables.
    Alter,
    /// Make and remove indexes.
    Index,
    /// Lock tables.
    LockTables,
    /// Give others what one has.
    GrantOption,
    /// Fence and unfence, flush. Cluster-wide alone.
    Reload,
    /// See what others do. Cluster-wide alone.
    Process,
    /// Make and remove users. Cluster-wide alone.
    CreateUser,
    /// Be the user of a sink of this region's databases. Cluster-wide alone.
    Replication,
    /// Add, remove and move nodes and copies. Cluster-wide alone.
    Cluster,
    /// Everything that needs care. Cluster-wide alone.
    Super,
}

impl Privilege {
    /// What `ALL` means cluster-wide: all but giving it on.
    pub const ALL: [Privilege; 15] = [
        Privilege::Select,
        Privilege::Insert,
        Privilege::Update,
        Privilege::Delete,
        Privilege::Create,
        Privilege::Drop,
        Privilege::Alter,
        Privilege::Index,
        Privilege::LockTables,
        Privilege::Reload,
        Privilege::Process,
        Privilege::CreateUser,
        Privilege::Replication,
        Privilege::Cluster,
        Privilege::Super,
    ];

    /// Whether it means nothing for a single database.
    pub fn is_global(self) -> bool {
        matches!(
            self,
            Privilege::Reload
                | Privilege::Process
                | Privilege::CreateUser
                | Privilege::Replication
                | Privilege::Cluster
                | Privilege::Super
        )
    }

    /// What `ALL` means in a scope.
    pub fn all(scope: &Scope) -> BTreeSet<Privilege> {
        let in_scope = |privilege: &Privilege| *scope == Scope::Global || !privilege.is_global();
        Privilege::ALL.into_iter().filter(in_scope).collect()
    }
}

/// On what a privilege is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Scope {
    /// `*.*`
    Global,
    /// `db.*`, whether the database exists or not.
    Database(String),
}

/// One user.
///
/// Invariant: no scope has an empty set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// How the password is verified.
    pub verifier: Verifier,
    /// What was granted.
    pub grants: BTreeMap<Scope, BTreeSet<Privilege>>,
    /// When it was made.
    pub created: Revision,
}

impl User {
    /// Whether it has a privilege on a database, or cluster-wide where none is named.
    pub fn may(&self, privilege: Privilege, database: Option<&str>) -> bool {
        let has = |scope: &Scope| self.grants.get(scope).is_some_and(|granted| granted.contains(&privilege));
        has(&Scope::Global) || database.is_some_and(|name| has(&Scope::Database(name.into())))
    }
}

impl State {
    /// The account that a client is, who says this name and comes from this host or address: the one with the most
    /// specific host.
    pub fn account_of(&self, name: &str, hosts: &[&str]) -> Option<(&Account, &User)> {
        let fits =
            |account: &Account| account.name == name && hosts.iter().any(|host| host_matches(&account.host, host));
        let specific = |account: &Account| account.host.find(['%', '_']).unwrap_or(usize::MAX);
        let found = self.users.iter().filter(|(account, _)| fits(account));
        found.max_by_key(|(account, _)| (specific(account), account.host.len()))
    }
}

/// Whether a host fits a pattern, as LIKE does, without regard to case.
fn host_matches(pattern: &str, host: &str) -> bool {
    let (pattern, host) = (pattern.to_ascii_lowercase(), host.to_ascii_lowercase());
    let (pattern, host): (Vec<char>, Vec<char>) = (pattern.chars().collect(), host.chars().collect());
    // On a mismatch, the last `%` takes one character more.
    let (mut at, mut next, mut retry) = (0, 0, None);
    while at < host.len() {
        match pattern.get(next) {
            Some('%') => {
                retry = Some((next, at));
                next += 1;
            }
            Some(wanted) if *wanted == '_' || *wanted == host[at] => {
                at += 1;
                next += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    retry = Some((star, from + 1));
                    at = from + 1;
                    next = star + 1;
                }
                None => return false,
            },
        }
    }
    pattern[next..].iter().all(|rest| *rest == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_fit_patterns_as_like_does() {
        for (pattern, host, fits) in [
            ("%", "anything", true),
            ("localhost", "LocalHost", true),
            ("10.%", "10.1.2.3", true),
            ("10.%", "110.1.2.3", false),
            ("10.%.3", "10.1.2.3", true),
            ("10.%.4", "10.4.2.3", false),
            ("node_", "node1", true),
            ("node_", "node12", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(host_matches(pattern, host), fits, "{host} like {pattern}");
        }
    }
}
