//! The catalog survives its process; timestamps never repeat.

use std::path::Path;

use ::catalog::command::CreateDatabase;
use ::catalog::database::Options;
use ::catalog::node::{Addresses, Roles};
use ::catalog::{Command, State};
use types::{ClusterId, Incarnation, Mode, NodeId};

use super::{Catalog, CatalogError, CatalogOptions, Inputs, Network, Timestamps};

mod detector;
mod group;

/// A group of one sends nothing.
struct Nobody;

impl Network for Nobody {
    fn send(&self, message: raft::eraftpb::Message) {
        panic!("there is nobody to send {message:?} to");
    }
}

fn try_open(dir: &Path, cluster: u64) -> Result<Catalog, CatalogError> {
    let (empty, wait) = (State::new(ClusterId(cluster)), std::time::Duration::from_secs(5));
    let options = CatalogOptions { dir, node: NodeId(1), empty, found: true, wait };
    Catalog::open(options, Inputs::new(), Box::new(Nobody), None)
}

fn open(dir: &Path) -> Catalog {
    try_open(dir, 7).expect("a fresh directory opens")
}

fn create(name: &str, identity: u128) -> Command {
    Command::CreateDatabase(CreateDatabase {
        name: name.into(),
        identity,
        partitions: 1,
        mode: Mode { sync_durability: true, sync_replication: true },
        options: Options { redundancy: 1, ..Options::default() },
        placement: vec![vec![NodeId(1)], vec![NodeId(1)]],
        nonce: 5,
    })
}

async fn add_leaf(catalog: &Catalog) {
    let addresses = Addresses { rpc: "127.0.0.1:1".into(), sql: None, http: None };
    let roles = Roles { aggregator: false, leaf: true };
    let register =
        Command::RegisterNode { number: None, identity: 3, addresses: addresses.clone(), roles, group: None };
    catalog.propose(register).await.expect("the catalog decides").expect("a new node is taken");
    let started = Command::NodeStarted { node: NodeId(1), incarnation: Incarnation(1), addresses };
    catalog.propose(started).await.expect("the catalog decides").expect("a known node starts");
}

#[tokio::test]
async fn what_was_decided_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let before = {
        let catalog = open(dir.path());
        add_leaf(&catalog).await;
        catalog.propose(create("app", 1)).await.expect("the catalog decides").expect("the name is free");
        let refused = catalog.propose(create("app", 2)).await.expect("the catalog decides");
        assert!(refused.is_err(), "a second database of one name: {refused:?}");
        catalog.state()
    };
    let after = reopen(dir.path()).await.state();
    assert!(after.database_named("app").is_some());
    assert_eq!((after.revision, &after.partitions), (before.revision, &before.partitions));
}

/// The thread of the closed catalog lets go of its file a moment after its last handle is dropped.
async fn reopen(dir: &Path) -> Catalog {
    for _ in 0..200 {
        if let Ok(catalog) = try_open(dir, 8) {
            return catalog;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the catalog's file stays locked");
}

#[tokio::test]
async fn thousands_of_commands_are_compacted_and_read_back() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let last = {
        let catalog = open(dir.path());
        let mut upper = types::Timestamp(0);
        for _ in 0..110 {
            let batch = (0..100).map(|_| {
                upper = types::Timestamp(upper.0 + 1);
                catalog.propose(Command::ExtendTimestampBlock { upper })
            });
            for outcome in futures::future::join_all(batch).await {
                outcome.expect("the catalog decides").expect("a higher bound is taken");
            }
        }
        upper
    };
    assert_eq!(reopen(dir.path()).await.state().timestamps.upper, last);
}

#[tokio::test]
async fn timestamps_rise_over_batches_and_restarts() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut last = types::Timestamp::ZERO;
    for _ in 0..3 {
        let catalog = reopen(dir.path()).await;
        assert!(catalog.state().timestamps.upper >= last, "a restart forgets that {last} was handed out");
        let timestamps = Timestamps::new(catalog);
        for count in [1u32, 7, 1000, 1] {
            let first = timestamps.take(count).await.expect("the catalog extends the block");
            assert!(first > last, "{first} after {last}");
            last = types::Timestamp(first.0 + u64::from(count) - 1);
        }
    }
}
