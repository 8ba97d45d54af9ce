//! One region: nodes, databases, sets and reigns.

mod support;

use catalog::command::{Command, Confirmed, Loss, SetChange};
use catalog::decide::{Heard, Report, failover};
use catalog::outcome::{Answer, Refusal};
use perennial_catalog as catalog;
use support::{SYNC, apply, cluster, create, creating, done, member, naming, partition, placed, started};
use types::{Incarnation, LogEnd, Lsn, Mark, Mode, NodeId, Revision, Role, SetVersion, StartKind, Timestamp};

const ASYNC_DURABILITY: Mode = Mode { sync_durability: false, sync_replication: true };
const ASYNC_REPLICATION: Mode = Mode { sync_durability: true, sync_replication: false };
const MILLI: u64 = 1_000_000;
const TIMEOUT: u64 = 1500 * MILLI;

fn add(state: &catalog::State, id: types::PartitionId, change: SetChange) -> Command {
    let held = &state.partitions[&id];
    Command::ProposeSet { partition: id, reign: held.reign, version: held.version, change }
}

fn decide(state: &catalog::State, heard: &Heard, now: u64) -> Vec<Command> {
    let mut draws = 0;
    failover::decide(state, heard, now, TIMEOUT, &mut || {
        draws += 1;
        draws
    })
}

fn hear(heard: &mut Heard, now: u64, members: &[types::Member]) {
    for member in members {
        heard.heartbeat(*member, now);
        heard.answered(*member, now);
    }
}

#[test]
fn a_repeated_registration_answers_the_same_id() {
    let mut state = cluster(1);
    let again = Command::RegisterNode {
        number: None,
        identity: 1,
        addresses: support::addresses(9),
        roles: catalog::node::Roles { aggregator: false, leaf: true },
        group: None,
    };
    let outcome = apply(&mut state, &again).unwrap();
    assert_eq!((outcome.already, outcome.answer), (true, Answer::Node(NodeId(1))));
}

#[test]
fn every_partition_of_a_new_database_has_an_epoch_of_its_own() {
    let mut state = cluster(3);
    let placement = placed(&state, 6, 2);
    done(&mut state, &Command::CreateDatabase(creating("db", SYNC, placement)));
    let mut numbers: Vec<u64> = state.partitions.values().map(|held| held.grant.unwrap().epoch.number).collect();
    numbers.dedup();
    assert_eq!(numbers, (1..=7).collect::<Vec<_>>());
    let view = state.views_since(NodeId(1), Revision(0));
    assert!(view.iter().all(|view| matches!(view.role, Role::Writable { start: StartKind::Failover, .. })));
}

#[test]
fn an_existing_name_is_refused_and_a_repetition_is_not() {
    let mut state = cluster(1);
    create(&mut state, "db", SYNC, &[1]);
    let mut other = creating("db", SYNC, vec![vec![NodeId(1)], vec![NodeId(1)]]);
    assert!(apply(&mut state, &Command::CreateDatabase(other.clone())).unwrap().already);
    other.identity += 1;
    assert!(matches!(apply(&mut state, &Command::CreateDatabase(other)), Err(Refusal::NameNew { .. })));
}

#[test]
fn a_set_changes_only_from_the_version_that_the_proposer_knows() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", SYNC, &[1, 2]);
    let id = partition(db, 0);
    let remove = add(&state, id, SetChange::Remove(member(2, 1)));
    done(&mut state, &remove);
    assert_eq!(state.partitions[&id].members, [member(1, 1)].into());
    assert!(matches!(apply(&mut state, &remove), Err(Refusal::LookAgain { .. })), "the version has changed");
    let back = add(&state, id, SetChange::Add(member(2, 1)));
    done(&mut state, &back);
    assert_eq!(state.partitions[&id].version, SetVersion(3));
}

#[test]
fn a_candidate_that_has_restarted_meanwhile_does_not_join() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", ASYNC_DURABILITY, &[1, 2]);
    let id = partition(db, 0);
    let remove = add(&state, id, SetChange::Remove(member(2, 1)));
    done(&mut state, &remove);
    done(&mut state, &started(2, 2));
    let stale = add(&state, id, SetChange::Add(member(2, 1)));
    assert!(matches!(done(&mut state, &stale), Answer::TurnedDown(_)));
    let held = &state.partitions[&id];
    assert_eq!(held.members, [member(1, 1)].into());
    assert_eq!(held.version, SetVersion(3), "the proposer waits for the candidate until it sees a higher version");
    let fresh = add(&state, id, SetChange::Add(member(2, 2)));
    done(&mut state, &fresh);
}

#[test]
fn a_restarted_secondary_takes_its_old_place_with_sync_durability_alone() {
    let mut state = cluster(2);
    let sync = create(&mut state, "sync", SYNC, &[1, 2]);
    let volatile = create(&mut state, "async", ASYNC_DURABILITY, &[1, 2]);
    done(&mut state, &started(2, 2));
    assert_eq!(state.partitions[&partition(sync, 0)].members, [member(1, 1), member(2, 2)].into());
    assert_eq!(state.partitions[&partition(sync, 0)].version, SetVersion(2));
    assert_eq!(state.partitions[&partition(volatile, 0)].members, [member(1, 1), member(2, 1)].into());
    assert_eq!(state.partitions[&partition(volatile, 0)].version, SetVersion(1));
}

#[test]
fn naming_a_process_that_is_not_in_the_set_is_refused() {
    let mut state = cluster(3);
    let db = create(&mut state, "db", SYNC, &[1, 2, 3]);
    let id = partition(db, 0);
    let remove = add(&state, id, SetChange::Remove(member(3, 1)));
    done(&mut state, &remove);
    let lossy = Command::NamePrimary(naming(&state, id, &[member(3, 1)], Loss::None));
    assert!(matches!(apply(&mut state, &lossy), Err(Refusal::Correct { .. })));
    let fair = Command::NamePrimary(naming(&state, id, &[member(2, 1)], Loss::None));
    let before = state.minted;
    done(&mut state, &fair);
    assert_eq!(state.view(id).unwrap().primary, member(2, 1));
    assert_eq!(state.minted, before + 1);
    assert!(matches!(apply(&mut state, &fair), Err(Refusal::LookAgain { .. })), "the reign has ended");
}

#[test]
fn a_silent_primary_is_replaced_from_the_members_that_were_heard() {
    let mut state = cluster(3);
    let db = create(&mut state, "db", SYNC, &[1, 2, 3]);
    let mut heard = Heard::new(0);
    hear(&mut heard, 10 * MILLI, &[member(1, 1), member(2, 1)]);
    assert_eq!(decide(&state, &heard, TIMEOUT), [], "nobody is silent for long enough");
    hear(&mut heard, TIMEOUT, &[member(2, 1)]);
    let commands = decide(&state, &heard, TIMEOUT + 11 * MILLI);
    assert_eq!(commands.len(), 2, "meta and rows");
    for command in &commands {
        done(&mut state, command);
    }
    assert_eq!(state.view(partition(db, 0)).unwrap().members, [member(2, 1)].into(), "node 3 was not heard");
    assert_eq!(decide(&state, &heard, TIMEOUT + 11 * MILLI), []);
}

#[test]
fn a_proof_is_faster_than_silence() {
    let mut state = cluster(2);
    create(&mut state, "db", SYNC, &[1, 2]);
    let mut heard = Heard::new(0);
    hear(&mut heard, MILLI, &[member(1, 1), member(2, 1)]);
    heard.proved_gone(member(1, 1));
    let commands = decide(&state, &heard, 2 * MILLI);
    assert_eq!(commands.len(), 2);
    done(&mut state, &commands[0]);
}

#[test]
fn a_restarted_primary_is_named_anew_with_its_disk() {
    let mut state = cluster(1);
    let db = create(&mut state, "db", SYNC, &[1]);
    done(&mut state, &started(1, 2));
    let mut heard = Heard::new(0);
    hear(&mut heard, MILLI, &[member(1, 2)]);
    for command in decide(&state, &heard, 2 * MILLI) {
        done(&mut state, &command);
    }
    let view = state.view(partition(db, 0)).unwrap();
    assert_eq!((view.primary, view.losses), (member(1, 2), 0));
    assert_eq!(view.members, [member(1, 2)].into());
}

fn kept(mark: Option<u64>) -> Mark {
    Mark { ts: Timestamp(mark.unwrap_or(0)), ..Mark::default() }
}

fn report(state_member: types::Member, at: u64, epoch_number: u64, lsn: u64, mark: Option<u64>) -> Report {
    let (end, powered_since) = (LogEnd { epoch_number, lsn: Lsn(lsn) }, state_member.incarnation);
    Report { member: state_member, at, end, epochs: vec![end], mark: kept(mark), powered_since }
}

#[test]
fn after_a_power_failure_the_highest_epoch_goes_before_the_highest_lsn() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", ASYNC_DURABILITY, &[1, 2]);
    let mut heard = Heard::new(0);
    done(&mut state, &started(1, 2));
    hear(&mut heard, 4 * TIMEOUT, &[member(1, 2)]);
    assert_eq!(decide(&state, &heard, 4 * TIMEOUT), [], "node 2 is silent, which proves nothing");
    assert_eq!(failover::reports_wanted(&state, &heard, 4 * TIMEOUT, TIMEOUT), []);
    done(&mut state, &started(2, 2));
    hear(&mut heard, 4 * TIMEOUT, &[member(2, 2)]);
    assert_eq!(failover::reports_wanted(&state, &heard, 4 * TIMEOUT, TIMEOUT).len(), 4);
    let id = partition(db, 0);
    heard.report(id, report(member(1, 2), 4 * TIMEOUT, 2, 90, None));
    heard.report(id, report(member(2, 2), 4 * TIMEOUT, 3, 70, None));
    let commands = decide(&state, &heard, 4 * TIMEOUT);
    assert!(matches!(&commands[..], [Command::ReceiveEpoch { number: 3 }, Command::NamePrimary(_)]), "{commands:?}");
    for command in &commands {
        done(&mut state, command);
    }
    let view = state.view(id).unwrap();
    assert_eq!((view.primary, view.losses), (member(2, 2), 1));
    assert!(matches!(view.role, Role::Writable { epoch, .. } if epoch.number > 3), "above what the logs hold");
}

#[test]
fn a_database_that_keeps_marks_goes_on_from_one_cut() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", ASYNC_DURABILITY, &[1, 2]);
    let mut heard = Heard::new(0);
    let now = 4 * TIMEOUT;
    for node in [1, 2] {
        done(&mut state, &started(node, 2));
        hear(&mut heard, now, &[member(node, 2)]);
    }
    for (node, ordinal, mark) in [(1, -1, 50), (2, -1, 40), (1, 0, 30), (2, 0, 60)] {
        heard.report(partition(db, ordinal), report(member(node, 2), now, 2, 10 + node, Some(mark)));
    }
    let commands = decide(&state, &heard, now);
    assert_eq!(commands.len(), 1);
    done(&mut state, &commands[0]);
    assert_eq!(state.databases[&db].promotions.iter().map(|last| last.cut).collect::<Vec<_>>(), [Timestamp(40)]);
    assert!(matches!(
        state.view(partition(db, 0)).unwrap().role,
        Role::Writable { start: StartKind::Promotion { cut: Timestamp(40), .. }, .. }
    ));
    assert!(apply(&mut state, &commands[0]).unwrap().already);
}

#[test]
fn a_recovery_does_not_use_what_a_living_primary_said_long_ago() {
    let mut state = cluster(3);
    let placement = vec![vec![NodeId(1)], vec![NodeId(2)]];
    done(&mut state, &Command::CreateDatabase(creating("db", ASYNC_DURABILITY, placement)));
    let db = types::DatabaseId(1);
    let mut heard = Heard::new(0);
    heard.report(partition(db, -1), report(member(1, 1), MILLI, 1, 5, Some(20)));
    done(&mut state, &started(2, 2));
    let now = 4 * TIMEOUT;
    hear(&mut heard, now, &[member(1, 1), member(2, 2)]);
    heard.report(partition(db, 0), report(member(2, 2), now, 2, 9, Some(80)));
    assert_eq!(decide(&state, &heard, now), [], "the living primary is asked again first");
    assert_eq!(failover::reports_wanted(&state, &heard, now, TIMEOUT), [(member(1, 1), partition(db, -1))]);
    heard.report(partition(db, -1), report(member(1, 1), now, 1, 50, Some(90)));
    for command in decide(&state, &heard, now) {
        done(&mut state, &command);
    }
    assert_eq!(state.databases[&db].promotions[0].cut, Timestamp(80));
    let view = state.view(partition(db, -1)).unwrap();
    assert_eq!((view.primary, view.losses), (member(1, 1), 0), "it has lost nothing, but goes on from the cut, too");
    assert_eq!(view.reign, types::Reign(2));
}

/// One partition on each of two leaves, both of which were started again.
fn two_alone(heard: &mut Heard, now: u64) -> (catalog::State, types::DatabaseId) {
    let mut state = cluster(2);
    let placement = vec![vec![NodeId(1)], vec![NodeId(2)]];
    done(&mut state, &Command::CreateDatabase(creating("db", ASYNC_DURABILITY, placement)));
    for node in [1, 2] {
        done(&mut state, &started(node, 2));
        hear(heard, now, &[member(node, 2)]);
    }
    (state, types::DatabaseId(1))
}

#[test]
fn a_partition_that_lost_nothing_goes_on_from_the_cut_of_the_others() {
    let (mut heard, now) = (Heard::new(0), 4 * TIMEOUT);
    let (mut state, db) = two_alone(&mut heard, now);
    let whole = Report { powered_since: Incarnation(1), ..report(member(1, 2), now, 1, 50, Some(90)) };
    heard.report(partition(db, -1), whole);
    heard.report(partition(db, 0), report(member(2, 2), now, 1, 9, Some(80)));
    let commands = decide(&state, &heard, now);
    assert_eq!(commands.len(), 1, "{commands:?}");
    done(&mut state, &commands[0]);
    assert_eq!(state.databases[&db].promotions[0].cut, Timestamp(80));
    let (kept, lost) = (state.view(partition(db, -1)).unwrap(), state.view(partition(db, 0)).unwrap());
    assert_eq!((kept.primary, kept.losses), (member(1, 2), 0));
    assert_eq!((lost.primary, lost.losses), (member(2, 2), 1));
}

#[test]
fn what_lost_nothing_goes_on_while_others_are_not_heard() {
    let (mut heard, now) = (Heard::new(0), 4 * TIMEOUT);
    let (state, db) = two_alone(&mut heard, now);
    let whole = Report { powered_since: Incarnation(1), ..report(member(1, 2), now, 1, 50, Some(90)) };
    heard.report(partition(db, -1), whole);
    let commands = decide(&state, &heard, now);
    assert!(matches!(&commands[..], [Command::NamePrimary(name)] if name.loss == Loss::Kept), "{commands:?}");
}

#[test]
fn marks_from_before_a_change_of_durability_do_not_count() {
    let (mut heard, now) = (Heard::new(0), 4 * TIMEOUT);
    let (mut state, db) = two_alone(&mut heard, now);
    done(&mut state, &Command::ExtendTimestampBlock { upper: Timestamp(1000) });
    let options = state.databases[&db].options.clone();
    for mode in [SYNC, ASYNC_DURABILITY] {
        done(&mut state, &Command::AlterDatabase { name: "db".into(), mode, options: options.clone() });
    }
    for (ordinal, node, mark) in [(-1, 1, 1001), (0, 2, 900)] {
        heard.report(partition(db, ordinal), report(member(node, 2), now, 1, 9, Some(mark)));
    }
    let commands = decide(&state, &heard, now);
    let alone = |command: &Command| matches!(command, Command::NamePrimary(_));
    assert!(commands.len() == 2 && commands.iter().all(alone), "{commands:?}");
}

#[test]
fn a_standing_order_counts_from_the_last_answer_to_the_primary() {
    let mut state = cluster(3);
    let db = create(&mut state, "db", ASYNC_REPLICATION, &[1, 2, 3]);
    let id = partition(db, 0);
    assert_eq!(state.partitions[&id].members, [member(1, 1)].into());
    let mut heard = Heard::new(0);
    hear(&mut heard, 0, &[member(1, 1)]);
    let due = 10_000 * MILLI;
    hear(&mut heard, due, &[member(2, 1), member(3, 1)]);
    assert_eq!(failover::reports_wanted(&state, &heard, due, TIMEOUT), [], "not yet due");
    assert_eq!(failover::reports_wanted(&state, &heard, due + 1, TIMEOUT).len(), 4);
    heard.report(id, report(member(2, 1), due + 1, 1, 8, None));
    assert_eq!(decide(&state, &heard, due + 1), [], "node 3 has not said");
    heard.report(id, report(member(3, 1), due + 1, 1, 9, None));
    for command in decide(&state, &heard, due + 1) {
        done(&mut state, &command);
    }
    assert_eq!(state.view(id).unwrap().primary, member(3, 1));
    assert_eq!(state.view(id).unwrap().losses, 1);
}

#[test]
fn a_damaged_member_that_lives_is_no_reason_to_wait() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", ASYNC_DURABILITY, &[1, 2]);
    let id = partition(db, 0);
    let now = 4 * TIMEOUT;
    let mut heard = Heard::new(0);
    done(&mut state, &started(1, 2));
    hear(&mut heard, now, &[member(1, 2), member(2, 1)]);
    heard.damaged(member(2, 1), [id, partition(db, -1)].into(), now);
    assert_eq!(state.view(id).unwrap().primary, member(1, 1), "its process is gone, the other member holds nothing");
    for command in decide(&state, &heard, now) {
        done(&mut state, &command);
    }
    assert_eq!(state.partitions[&id].members, [member(1, 1)].into());
    assert!(failover::reports_wanted(&state, &heard, now, TIMEOUT).contains(&(member(1, 2), id)));
    heard.report(id, report(member(1, 2), now, 2, 90, None));
    for command in decide(&state, &heard, now) {
        done(&mut state, &command);
    }
    assert_eq!(state.view(id).unwrap().primary, member(1, 2));
}

#[test]
fn what_an_older_process_says_late_does_not_heal_a_newer_one() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", ASYNC_DURABILITY, &[1, 2]);
    let id = partition(db, 0);
    let mut heard = Heard::new(0);
    hear(&mut heard, MILLI, &[member(2, 2)]);
    heard.damaged(member(2, 2), [id].into(), MILLI);
    heard.damaged(member(2, 1), [].into(), 2 * MILLI);
    assert_eq!(heard.damaged_since(id, member(2, 2)), Some(MILLI));
    heard.damaged(member(2, 2), [].into(), 3 * MILLI);
    assert_eq!(heard.damaged_since(id, member(2, 2)), None, "its own word counts");
}

#[test]
fn views_since_tells_what_changed_and_nothing_else() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", SYNC, &[1]);
    let other = create(&mut state, "other", SYNC, &[1, 2]);
    let known = state.revision;
    assert_eq!(state.views_since(NodeId(1), known), []);
    let change = add(&state, partition(other, 0), SetChange::Remove(member(2, 1)));
    done(&mut state, &change);
    let news: Vec<_> = state.views_since(NodeId(1), known).iter().map(|view| view.partition).collect();
    assert_eq!(news, [partition(other, 0)]);
    done(&mut state, &Command::DropDatabase { name: "db".into() });
    assert_eq!(state.removals_of(NodeId(1)), [partition(db, -1), partition(db, 0)]);
    done(&mut state, &Command::ReplicaGone { partition: partition(db, 0), node: NodeId(1) });
    assert_eq!(state.removals_of(NodeId(1)), [partition(db, -1)]);
}

#[test]
fn a_database_name_may_be_used_again_but_not_its_id_nor_its_epochs() {
    let mut state = cluster(1);
    let first = create(&mut state, "db", SYNC, &[1]);
    let minted = state.minted;
    done(&mut state, &Command::DropDatabase { name: "db".into() });
    let second = create(&mut state, "db", SYNC, &[1]);
    assert!(second > first);
    assert!(state.partitions.values().all(|held| held.grant.unwrap().epoch.number > minted));
}

#[test]
fn a_change_to_sync_durability_holds_once_the_primary_confirms_it() {
    let mut state = cluster(2);
    let db = create(&mut state, "db", ASYNC_DURABILITY, &[1, 2]);
    let id = partition(db, 0);
    let options = state.databases[&db].options.clone();
    done(&mut state, &Command::AlterDatabase { name: "db".into(), mode: SYNC, options });
    done(&mut state, &started(2, 2));
    assert_eq!(state.partitions[&id].members, [member(1, 1), member(2, 1)].into(), "its disk may lack something");
    let confirm = support::confirm(&state, id, Confirmed::Durable);
    done(&mut state, &confirm);
    done(&mut state, &started(2, 3));
    assert_eq!(state.partitions[&id].members, [member(1, 1), member(2, 3)].into());
}

#[test]
fn a_certificate_names_the_number_of_its_node() {
    let mut state = catalog::State::new(types::ClusterId(1));
    let register = |number, identity: u128| Command::RegisterNode {
        number,
        identity,
        addresses: catalog::node::Addresses { rpc: format!("host{identity}:1"), sql: None, http: None },
        roles: catalog::node::Roles { aggregator: false, leaf: true },
        group: None,
    };
    let at = catalog::event::UnixMillis(1);
    let seven = state.apply(at, &register(Some(NodeId(7)), 1)).expect("the number is free");
    assert_eq!(seven.answer, Answer::Node(NodeId(7)));
    state.apply(at, &register(Some(NodeId(7)), 2)).expect_err("another node has the number");
    state.apply(at, &register(Some(NodeId(u64::MAX)), 2)).expect_err("nothing could be counted above it");
    let chosen = state.apply(at, &register(None, 3)).expect("the catalog chooses");
    assert_eq!(chosen.answer, Answer::Node(NodeId(8)), "above every number that was named");
}
