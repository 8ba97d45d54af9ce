//! The master's ear, over a catalog of one.

use ::catalog::command::CreateDatabase;
use ::catalog::database::Options;
use types::{Member, Revision};

use super::*;
use crate::master::{Detector, DetectorOptions};
use crate::protocol::{Orders, Report, Round};

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
    let report = Report {
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
    };
    detector.on_report(report).await.expect("it is the master").expect("the leaf is known")
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
