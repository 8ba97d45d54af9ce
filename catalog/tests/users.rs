//! Users, grants, and the links that hang on them.

mod support;

use std::collections::BTreeSet;

use catalog::command::{Command, OpenLink};
use catalog::link::OnSilence;
use catalog::outcome::{Answer, Refusal};
use catalog::state::State;
use catalog::user::{Account, Plugin, Privilege, Scope, Verifier};
use perennial_catalog as catalog;
use support::{SYNC, apply, cluster, create, done};
use types::{ClusterId, DatabaseId, LinkId, NodeId, Revision};

fn account(name: &str, host: &str) -> Account {
    Account { name: name.into(), host: host.into() }
}

fn verifier(text: &str) -> Verifier {
    Verifier { plugin: Plugin::Native, text: text.into() }
}

fn add(state: &mut State, name: &str, host: &str) {
    let account = account(name, host);
    done(state, &Command::CreateUser { account, verifier: verifier("*1") });
}

fn grant(name: &str, host: &str, scope: Scope, privileges: &[Privilege]) -> Command {
    let privileges = privileges.iter().copied().collect();
    Command::Grant { account: account(name, host), scope, privileges }
}

#[test]
fn the_most_specific_host_is_the_account() {
    let mut state = cluster(0);
    for host in ["%", "10.%", "10.1.2.3", "localhost"] {
        add(&mut state, "app", host);
    }
    let found = |hosts: &[&str]| state.account_of("app", hosts).map(|(account, _)| account.host.as_str());
    assert_eq!(found(&["10.1.2.3"]), Some("10.1.2.3"));
    assert_eq!(found(&["10.9.9.9"]), Some("10.%"));
    assert_eq!(found(&["11.9.9.9"]), Some("%"));
    assert_eq!(found(&["127.0.0.1", "localhost"]), Some("localhost"));
    assert_eq!(state.account_of("other", &["10.1.2.3"]), None);
}

#[test]
fn an_existing_user_is_not_made_again_and_a_missing_one_not_changed() {
    let mut state = cluster(0);
    add(&mut state, "app", "%");
    let again = Command::CreateUser { account: account("app", "%"), verifier: verifier("*1") };
    assert!(matches!(apply(&mut state, &again), Err(Refusal::NameNew { .. })));
    let change = Command::AlterUser { account: account("app", "%"), verifier: verifier("*2") };
    assert!(!apply(&mut state, &change).unwrap().already);
    assert!(apply(&mut state, &change).unwrap().already);
    let missing = Command::AlterUser { account: account("nobody", "%"), verifier: verifier("*2") };
    assert!(matches!(apply(&mut state, &missing), Err(Refusal::NameExisting { .. })));
    let nameless = Command::CreateUser { account: account("", "%"), verifier: verifier("*1") };
    assert!(matches!(apply(&mut state, &nameless), Err(Refusal::Correct { .. })));
}

#[test]
fn a_grant_on_a_database_counts_there_alone() {
    let mut state = cluster(0);
    add(&mut state, "app", "%");
    let scope = Scope::Database("shop".into());
    let command = grant("app", "%", scope.clone(), &[Privilege::Select, Privilege::Insert]);
    done(&mut state, &command);
    assert!(apply(&mut state, &command).unwrap().already);
    let user = &state.users[&account("app", "%")];
    assert!(user.may(Privilege::Select, Some("shop")));
    assert!(!user.may(Privilege::Select, Some("other")) && !user.may(Privilege::Select, None));
    assert!(!user.may(Privilege::Drop, Some("shop")));
    let misplaced = grant("app", "%", scope.clone(), &[Privilege::Replication]);
    assert!(matches!(apply(&mut state, &misplaced), Err(Refusal::Correct { .. })));
    let revoke =
        Command::Revoke { account: account("app", "%"), scope: scope.clone(), privileges: Privilege::all(&scope) };
    done(&mut state, &revoke);
    assert_eq!(state.users[&account("app", "%")].grants.len(), 0, "nothing is left of the scope");
    assert!(apply(&mut state, &revoke).unwrap().already);
}

fn link(state: &mut State, database: DatabaseId) {
    add(state, "repl", "%");
    done(state, &grant("repl", "%", Scope::Global, &[Privilege::Replication]));
    let open = opening(database, [1; 32]);
    assert_eq!(done(state, &open), Answer::Link(LinkId(5)));
    assert!(apply(state, &open).unwrap().already);
}

fn opening(database: DatabaseId, token_hash: [u8; 32]) -> Command {
    Command::OpenLink(OpenLink {
        link: LinkId(5),
        database,
        user: account("repl", "%"),
        token_hash,
        peer_cluster: ClusterId(9),
        peer_database: "db".into(),
        peer_address: None,
        peer_fingerprint: None,
        sync: false,
        on_silence: OnSilence::Degrade,
    })
}

fn served(state: &State, since: Revision) -> Vec<(LinkId, [u8; 32])> {
    state.news_since(NodeId(1), since).into_iter().flat_map(|news| news.serves).collect()
}

#[test]
fn without_replication_the_links_token_ends_until_the_sink_logs_in_again() {
    let mut state = cluster(1);
    let database = create(&mut state, "db", SYNC, &[1]);
    link(&mut state, database);
    assert_eq!(served(&state, Revision(0)), [(LinkId(5), [1; 32])]);
    let before = state.revision;
    let privileges: BTreeSet<Privilege> = [Privilege::Replication].into();
    done(&mut state, &Command::Revoke { account: account("repl", "%"), scope: Scope::Global, privileges });
    assert_eq!(state.news_since(NodeId(1), before).len(), 1, "its leaves are told");
    assert_eq!(served(&state, Revision(0)), []);
    assert_eq!(done(&mut state, &opening(database, [2; 32])), Answer::Link(LinkId(5)), "the same link");
    assert_eq!(served(&state, before), [(LinkId(5), [2; 32])]);
}

#[test]
fn dropping_the_user_ends_the_links_token() {
    let mut state = cluster(1);
    let database = create(&mut state, "db", SYNC, &[1]);
    link(&mut state, database);
    let drop = Command::DropUser { account: account("repl", "%") };
    done(&mut state, &drop);
    assert_eq!(served(&state, Revision(0)), []);
    assert!(state.sources.contains_key(&LinkId(5)), "what it pins stays pinned");
    assert!(matches!(apply(&mut state, &drop), Err(Refusal::NameExisting { .. })));
}
