//! Users and what they may do.

use std::collections::{BTreeMap, BTreeSet};

use super::{ALREADY, Applying, DONE};
use crate::outcome::Refusal;
use crate::state::State;
use crate::user::{Account, Privilege, Scope, User, Verifier};

/// Longest name of a user, in characters, as MySQL has it.
const NAME_MAX: usize = 32;

/// Longest host, in characters.
const HOST_MAX: usize = 255;

impl State {
    fn expect_user(&self, account: &Account) -> Result<&User, Refusal> {
        self.users.get(account).ok_or_else(|| Refusal::NameExisting { object: format!("user {account}") })
    }

    pub(super) fn create_user(&mut self, account: &Account, verifier: &Verifier) -> Applying {
        if self.users.contains_key(account) {
            let advice = "ALTER it, or choose another name or host".into();
            return Err(Refusal::NameNew { object: format!("user {account}"), advice });
        }
        let (name, host) = (account.name.chars().count(), account.host.chars().count());
        if name == 0 || name > NAME_MAX || host == 0 || host > HOST_MAX {
            let problem = format!("a name has 1 to {NAME_MAX} characters, a host 1 to {HOST_MAX}");
            return Err(Refusal::Correct { object: format!("user {account}"), problem });
        }
        let user = User { verifier: verifier.clone(), grants: BTreeMap::new(), created: self.revision };
        self.users.insert(account.clone(), user);
        DONE
    }

    pub(super) fn alter_user(&mut self, account: &Account, verifier: &Verifier) -> Applying {
        if self.expect_user(account)?.verifier == *verifier {
            return ALREADY;
        }
        self.users.get_mut(account).expect("it was looked up above").verifier = verifier.clone();
        DONE
    }

    pub(super) fn drop_user(&mut self, account: &Account) -> Applying {
        self.expect_user(account)?;
        self.users.remove(account);
        self.end_tokens(account);
        DONE
    }

    pub(super) fn grant(&mut self, account: &Account, scope: &Scope, privileges: &BTreeSet<Privilege>) -> Applying {
        let user = self.expect_user(account)?;
        let misplaced = privileges.iter().find(|privilege| privilege.is_global() && *scope != Scope::Global);
        if let Some(privilege) = misplaced {
            let problem = format!("{privilege:?} is cluster-wide: grant it ON *.*");
            return Err(Refusal::Correct { object: format!("user {account}"), problem });
        }
        let held = user.grants.get(scope);
        if privileges.iter().all(|privilege| held.is_some_and(|held| held.contains(privilege))) {
            return ALREADY;
        }
        let user = self.users.get_mut(account).expect("it was looked up above");
        user.grants.entry(scope.clone()).or_default().extend(privileges);
        DONE
    }

    pub(super) fn revoke(&mut self, account: &Account, scope: &Scope, privileges: &BTreeSet<Privilege>) -> Applying {
        let held = self.expect_user(account)?.grants.get(scope);
        if !held.is_some_and(|held| privileges.iter().any(|privilege| held.contains(privilege))) {
            return ALREADY;
        }
        let user = self.users.get_mut(account).expect("it was looked up above");
        if let Some(held) = user.grants.get_mut(scope) {
            held.retain(|privilege| !privileges.contains(privilege));
        }
        user.grants.retain(|_, held| !held.is_empty());
        if !user.may(Privilege::Replication, None) {
            self.end_tokens(account);
        }
        DONE
    }

    /// Links that were opened as this user are served no longer, until the sink logs in again.
    fn end_tokens(&mut self, account: &Account) {
        let held = |link: &&mut crate::link::SourceLink| link.user == *account && link.token_hash.is_some();
        let mut databases = BTreeSet::new();
        for link in self.sources.values_mut().filter(held) {
            link.token_hash = None;
            databases.insert(link.database);
        }
        for database in databases {
            self.touch_news(database);
        }
    }
}
