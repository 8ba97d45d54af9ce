//! Why a database takes no writes, and what to do about it. One text for errors, warnings and SHOW statements.

use catalog::State;
use catalog::claim::Claim;
use catalog::database::{Database, Holder, Side};
use catalog::event::UnixMillis;
use sql::Error;
use sql::parse::quote_name;
use types::value::format_datetime;
use types::{DatabaseId, Fence};

/// Why a database takes no new writes, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What it is.
    pub cause: String,
    /// What to type or where to go.
    pub advice: String,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.cause, self.advice)
    }
}

/// The error of a write, 1290, if the database takes none.
pub fn refusal(state: &State, id: DatabaseId) -> Option<Error> {
    let database = state.databases.get(&id)?;
    let reasons: Vec<String> = reasons(state, id).iter().map(Reason::to_string).collect();
    let since = match database.fenced.fence {
        Fence::None => String::new(),
        _ => format!(" since {}", time(database.fenced.since)),
    };
    let text = || format!("Database '{}' is read only{since}; {}", database.name, reasons.join("; "));
    (!reasons.is_empty()).then(|| Error::new(1290, text()))
}

/// Every reason why it takes no writes, the one that must be mended first in front.
pub fn reasons(state: &State, id: DatabaseId) -> Vec<Reason> {
    let Some(database) = state.databases.get(&id) else { return vec![] };
    if let Side::Sink { link } = database.side {
        let source = state.sinks.get(&link).map(|link| format!("{}/{}", link.source.address, link.source.database));
        let source = source.unwrap_or_else(|| "another region".into());
        return vec![Reason {
            cause: format!("it follows {source}"),
            advice: format!("write there, or STOP REPLICATING {} here", quote_name(&database.name)),
        }];
    }
    // The guard first: while it stands, nothing else that is lifted makes the database writable.
    let held = [Holder::Guard, Holder::Token, Holder::User].into_iter();
    held.filter(|holder| database.fenced.holders.contains(holder))
        .map(|holder| reason(state, database, holder))
        .collect()
}

/// Why one holder keeps a database fenced.
pub fn reason(state: &State, database: &Database, holder: Holder) -> Reason {
    let name = quote_name(&database.name);
    match holder {
        Holder::User => Reason {
            cause: "the user's order FLUSH TABLES WITH READ ONLY".into(),
            advice: format!("UNLOCK TABLES ON {name} lifts it"),
        },
        Holder::Token => token(state, database, &name),
        Holder::Guard => guard(database, &name),
    }
}

fn token(state: &State, database: &Database, name: &str) -> Reason {
    let handover = database.handover.as_ref();
    let link = handover.and_then(|handover| state.sources.get(&handover.link));
    let peer = link.map(|link| {
        format!("{}/{}", link.peer_address.as_deref().unwrap_or("the following region"), link.peer_database)
    });
    let peer = peer.unwrap_or_else(|| "the following region".into());
    let token = handover.map(|handover| format!(" by token {:x}", handover.token)).unwrap_or_default();
    Reason {
        cause: format!("its right to write is handed over to {peer}{token}"),
        advice: format!("write there, or, if that region is lost, UNLOCK TABLES ON {name} FORCE, which may be a fork"),
    }
}

fn guard(database: &Database, name: &str) -> Reason {
    let claims: Vec<&Claim> = database.superseding().collect();
    let advice = |claim: &Claim| {
        let there = quote_name(&claim.database);
        format!("REPLICATE DATABASE {name} WITH FORCE DIFFERENTIAL FROM root@{}/{there}", claim.address)
    };
    let overrule = format!("UNLOCK TABLES ON {name} FORCE overrules it, which is a fork");
    let claimant = |claim: &Claim| format!("{}/{} on {}", claim.address, claim.database, time(claim.at));
    match &claims[..] {
        [] => Reason { cause: "the guard against two primaries".into(), advice: overrule },
        [claim] => Reason {
            cause: format!("the guard: it was claimed by {}", claimant(claim)),
            advice: format!("{}; {overrule}", advice(claim)),
        },
        several => {
            let claimants: Vec<String> = several.iter().map(|claim| claimant(claim)).collect();
            let statements: Vec<String> = several.iter().map(|claim| advice(claim)).collect();
            Reason {
                cause: format!("the guard: {} regions have claimed it, {}", several.len(), claimants.join(" and ")),
                advice: format!("choose one: {}", statements.join(", or ")),
            }
        }
    }
}

/// A time as people read it.
pub fn time(at: UnixMillis) -> String {
    let micros = i64::try_from(at.0).unwrap_or(i64::MAX).saturating_mul(1000);
    format!("{} UTC", format_datetime(micros, 3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use catalog::Command;
    use catalog::command::CreateDatabase;
    use catalog::database::Options;
    use catalog::node::{Addresses, Roles};
    use types::{ClusterId, Incarnation, Mode, NodeId, Promotion, PromotionId, Timestamp};

    use super::*;

    fn state() -> (State, DatabaseId) {
        let mut state = State::new(ClusterId(1));
        let addresses = Addresses { rpc: "127.0.0.1:1".into(), sql: None, http: None };
        let roles = Roles { aggregator: false, leaf: true };
        let mut apply = |command| state.apply(UnixMillis(1_700_000_000_000), &command).expect("the command is right");
        let new = addresses.clone();
        apply(Command::RegisterNode { number: None, identity: 3, addresses: new, roles, group: None });
        apply(Command::NodeStarted { node: NodeId(1), incarnation: Incarnation(1), addresses });
        apply(Command::CreateDatabase(CreateDatabase {
            name: "app".into(),
            identity: 9,
            partitions: 1,
            mode: Mode { sync_durability: true, sync_replication: true },
            options: Options { redundancy: 1, ..Options::default() },
            placement: vec![vec![NodeId(1)], vec![NodeId(1)]],
            nonce: 5,
        }));
        (state, DatabaseId(1))
    }

    fn claim(id: u128, address: &str) -> Claim {
        let promotion = Promotion { id: PromotionId(id), cut: Timestamp(5) };
        let (address, database) = (address.to_string(), "app".to_string());
        Claim { promotion, parent: vec![], cluster: ClusterId(2), address, database, at: UnixMillis(0) }
    }

    #[test]
    fn a_refusal_names_the_holder_the_time_and_the_way_out() {
        let (mut state, database) = state();
        assert_eq!(refusal(&state, database), None);
        let fence = Command::Fence { database, holder: Holder::User };
        state.apply(UnixMillis(1_700_000_001_000), &fence).expect("it is writable");
        let text = refusal(&state, database).expect("it is fenced");
        assert_eq!(text.code, 1290);
        assert!(text.message.contains("since 2023-11-14 22:13:21.000 UTC"), "{text}");
        assert!(text.message.contains("UNLOCK TABLES ON `app`"), "{text}");
    }

    #[test]
    fn the_guard_comes_first_and_says_what_to_type() {
        let (mut state, database) = state();
        let order = [
            Command::Fence { database, holder: Holder::User },
            Command::LearnClaim { database, claim: claim(7, "west:3306") },
        ];
        order.iter().for_each(|command| drop(state.apply(UnixMillis(1), command).expect("it is right")));
        let found = reasons(&state, database);
        assert_eq!(found.len(), 2);
        let statement = "REPLICATE DATABASE `app` WITH FORCE DIFFERENTIAL FROM root@west:3306/`app`";
        assert!(found[0].advice.starts_with(statement), "{}", found[0]);
        assert!(sql::parse::parse(statement).is_ok(), "what is advised can be typed");
        state
            .apply(UnixMillis(1), &Command::LearnClaim { database, claim: claim(8, "south:3306") })
            .expect("a second claim is a fork");
        let found = reasons(&state, database);
        assert!(found[0].advice.starts_with("choose one"), "{}", found[0]);
        let claims: BTreeMap<_, _> = state.databases[&database].claims.clone();
        assert_eq!(claims.len(), 2);
    }
}
