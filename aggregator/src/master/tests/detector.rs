//! The master's ear, over a catalog of one.

use ::catalog::command::CreateDatabase;
use ::catalog::database::Options;
use ::catalog::decide::balance::Aim;
use types::{Member, Revision};

use super::*;
use crate::master::{Detector, DetectorOptions};
use crate::protocol::{Orders, PlanOrder, Report, Round};

const LEAVES: [Member; 2] =
    [Member { node: NodeId(1), incarnation: Incarnation(1) }, Member { node: NodeId(2), incarnation: Incarnation(1) }];

/// A database of one partition on two leaves, both of them in its set.
async fn two_leaves(catalog: &Catalog) {
    for (number, leaf) in (1u64..).zip(LEAVES) {
        let addresses = Addresses { rpc: format!("127.0.0.1:{number}"), sql: None, http: None };
        let roles = Roles { aggregator: false, leaf: true };
        let identity = u128::from(number);
        let register =
            Command::RegisterNode { number: None, identity, addresses: addresses.clone(), roles, group: None };
        catalog.propose(register).await.expect("the catalog decides").expect("a new node is taken");
        let started = Command::NodeStarted { node: leaf.node, incarnation: leaf.incarnation, addresses };
        catalog.propose(started).await.expect("the catalog decides").expect("a known node starts");
    }
    let Command::CreateDatabase(create) = create("app", 1) else { unreachable!("it creates a database") };
    let placement = vec![vec![NodeId(1), NodeId(2)]; 2];
    let options = Options { redundancy: 2, ..Options::default() };
    let create = Command::CreateDatabase(CreateDatabase { placement, options, ..create });
    catalog.propose(create).await.expect("the catalog decides").expect("the name is free");
}

async fn report(detector: &Detector, member: Member, gone: &[Member]) -> Orders {
    detector.on_report(heartbeat(member, gone)).await.expect("it is the master").expect("the leaf is known")
}

fn heartbeat(member: Member, gone: &[Member]) -> Report {
    Report {
        member,
        sent: 1,
        revision: Revision::default(),
        gone: gone.to_vec(),
        ends: vec![],
        removed: vec![],
        replicas: vec![],
        since: None,
        closed: vec![],
        disk: (0, 0),
        disk_full: false,
        sync_p99_us: None,
        round: Round::default(),
    }
}

/// An answer is a lease: a primary that was silent would have one while the next one begins.
#[tokio::test]
async fn a_primary_that_is_about_to_be_replaced_is_not_answered() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let catalog = open(dir.path());
    two_leaves(&catalog).await;
    let detector = Detector::new(catalog.clone(), DetectorOptions::default());
    let [silent, heir] = LEAVES;
    for leaf in LEAVES {
        report(&detector, leaf, &[]).await;
    }
    let state = catalog.state();
    let mut heard = detector.heard.lock().clone();
    heard.proved_gone(silent);
    let (now, timeout) = (detector.now(), 1_500_000_000);
    let commands = ::catalog::decide::failover::decide(&state, &heard, now, timeout, &mut || 7);
    assert_eq!(commands.len(), 2, "{commands:?}");
    detector.note_replaced(&state, &commands);
    let refused = detector.on_report(heartbeat(silent, &[])).await.err().expect("it gets no answer").to_string();
    assert!(refused.contains("given to others"), "{refused}");
    assert_eq!(report(&detector, heir, &[]).await.views.len(), 2, "others do");
    for command in commands {
        catalog.propose(command).await.expect("the catalog decides").expect("it is allowed");
    }
    let views = report(&detector, silent, &[]).await.views;
    assert!(views.len() == 2 && views.iter().all(|view| view.primary == heir), "then it hears who leads: {views:?}");
}

#[tokio::test]
async fn who_proves_a_primary_gone_is_answered_with_the_next_one() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let catalog = open(dir.path());
    two_leaves(&catalog).await;
    let detector = Detector::new(catalog.clone(), DetectorOptions::default());
    let looking = tokio::spawn(detector.clone().run());
    let [lost, heir] = LEAVES;
    let views = report(&detector, heir, &[]).await.views;
    assert!(views.len() == 2 && views.iter().all(|view| view.primary == lost), "before: {views:?}");
    let views = report(&detector, heir, &[lost]).await.views;
    assert!(views.len() == 2 && views.iter().all(|view| view.primary == heir), "the answer names the next: {views:?}");
    looking.abort();
}

/// It would be emptied otherwise: a process that was just started is silent before it announces itself.
#[tokio::test]
async fn a_plan_waits_for_a_leaf_that_is_about_to_be_heard() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let catalog = open(dir.path());
    two_leaves(&catalog).await;
    let detector = Detector::new(catalog.clone(), DetectorOptions::default());
    let [present, late] = LEAVES;
    report(&detector, present, &[]).await;
    let rebalance = PlanOrder::Rebalance { database: None, aim: Aim::Balance, kill: false, explain: true };
    let orders = [PlanOrder::Attach(late.node), rebalance];
    let plans = orders.map(|order| {
        let detector = detector.clone();
        tokio::spawn(async move { detector.plan(&order).await.expect("the catalog is there") })
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(plans.iter().all(|plan| !plan.is_finished()), "it waits");
    report(&detector, late, &[]).await;
    for plan in plans {
        let moves = plan.await.expect("it does not panic").expect("both leaves are there");
        assert!(moves.iter().all(|planned| planned.replicas == planned.based), "no copy moves: {moves:?}");
    }
    // Nobody is heard any more.
    tokio::time::sleep(DetectorOptions::default().failure_timeout).await;
    let refusal = detector.plan(&PlanOrder::Attach(NodeId(2))).await.expect("the catalog is there").unwrap_err();
    assert!(refusal.to_string().contains("is offline: start it again"), "{refusal}");
}
