//! A small cluster to try commands on.
#![allow(dead_code)]

use catalog::command::{Command, Confirmed, CreateDatabase, Loss, NamePrimary};
use catalog::database::Options;
use catalog::decide::placement;
use catalog::event::UnixMillis;
use catalog::node::{Addresses, Roles};
use catalog::outcome::{Answer, Outcome, Refusal};
use catalog::state::State;
use perennial_catalog as catalog;
use types::{ClusterId, DatabaseId, Incarnation, Member, Mode, NodeId, Ordinal, PartitionId};

/// SYNC DURABILITY and SYNC REPLICATION.
pub const SYNC: Mode = Mode { sync_durability: true, sync_replication: true };

/// Applies a command, looks at the invariants, and shows that a refusal and a repetition change nothing.
pub fn apply(state: &mut State, command: &Command) -> Result<Outcome, Refusal> {
    let before = state.clone();
    let result = state.apply(UnixMillis(before.clock.0 + 1), command);
    state.check();
    match &result {
        Ok(outcome) if outcome.already => assert_eq!(*state, before, "{command:?} says that nothing changed"),
        Ok(outcome) => assert_eq!(outcome.revision.0, before.revision.0 + 1),
        Err(refusal) => assert_eq!(*state, before, "{command:?} was refused: {refusal}"),
    }
    result
}

/// The same for a command that must be carried out.
pub fn done(state: &mut State, command: &Command) -> Answer {
    apply(state, command).unwrap_or_else(|refusal| panic!("{command:?} refused: {refusal}")).answer
}

/// A cluster of so many leaves, each started once.
pub fn cluster(leaves: u64) -> State {
    let mut state = State::new(ClusterId(7));
    for leaf in 1..=leaves {
        let roles = Roles { aggregator: false, leaf: true };
        let register = Command::RegisterNode {
            number: None,
            identity: u128::from(leaf),
            addresses: addresses(leaf),
            roles,
            group: None,
        };
        assert_eq!(done(&mut state, &register), Answer::Node(NodeId(leaf)));
        done(&mut state, &started(leaf, 1));
    }
    state
}

/// Where a test node is reached.
pub fn addresses(node: u64) -> Addresses {
    Addresses { rpc: format!("127.0.0.1:{}", 4000 + node), sql: None, http: None }
}

/// A process of a node starts.
pub fn started(node: u64, incarnation: u64) -> Command {
    Command::NodeStarted { node: NodeId(node), incarnation: Incarnation(incarnation), addresses: addresses(node) }
}

/// The primary of a partition has come to what was asked for.
pub fn confirm(state: &State, partition: PartitionId, what: Confirmed) -> Command {
    let held = &state.partitions[&partition];
    Command::Confirm { partition, reign: held.reign, version: held.version, what }
}

/// `n2.1` as a value.
pub fn member(node: u64, incarnation: u64) -> Member {
    Member { node: NodeId(node), incarnation: Incarnation(incarnation) }
}

/// Creates a database of one partition of rows on these leaves, the first one primary.
pub fn create(state: &mut State, name: &str, mode: Mode, leaves: &[u64]) -> DatabaseId {
    let nodes: Vec<NodeId> = leaves.iter().map(|leaf| NodeId(*leaf)).collect();
    match done(state, &Command::CreateDatabase(creating(name, mode, vec![nodes.clone(), nodes]))) {
        Answer::Database(id) => id,
        answer => panic!("CREATE DATABASE answers {answer:?}"),
    }
}

/// A database as it is described to the catalog.
pub fn creating(name: &str, mode: Mode, placement: Vec<Vec<NodeId>>) -> CreateDatabase {
    CreateDatabase {
        name: name.into(),
        identity: name.bytes().fold(1, |hash, byte| hash * 31 + u128::from(byte)),
        partitions: placement.len() as u32 - 1,
        mode,
        options: Options::default(),
        placement,
        nonce: 11,
    }
}

/// Where the decider places a database.
pub fn placed(state: &State, partitions: u32, redundancy: u8) -> Vec<Vec<NodeId>> {
    placement::assign(&placement::candidates(state), partitions, redundancy).expect("there are leaves enough")
}

/// A partition of rows.
pub fn partition(database: DatabaseId, ordinal: i32) -> PartitionId {
    PartitionId { database, ordinal: Ordinal(ordinal) }
}

/// Names a primary, based on what the state says.
pub fn naming(state: &State, id: PartitionId, members: &[Member], loss: Loss) -> NamePrimary {
    let held = &state.partitions[&id];
    NamePrimary {
        partition: id,
        reign: held.reign,
        version: held.version,
        primary: members[0],
        members: members.iter().copied().collect(),
        nonce: 12,
        received_epoch: 0,
        loss,
    }
}
