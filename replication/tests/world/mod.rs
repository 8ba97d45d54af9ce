//! A small world in which every step is explicit: nodes with disks, a network, two catalogs, a timestamp service.
//!
//! The world obeys one command at a time and writes down what each replica was told and what it asked for. It never
//! retries, never loses and never delivers by itself.

pub mod catalog;
pub mod command;
pub mod disk;
mod look;
mod nodes;
mod region;
mod services;
mod transactions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::fmt::Write as _;

use replication::{
    Effect, Granted, Heartbeat, Input, Instant, Leases, Life, Planted, Probe, Replica, ReplicaOptions, Touch,
};
use types::{Lsn, Member, Reign, TxnId};

use self::catalog::Catalog;
use self::command::Command;
use self::disk::Disk;

/// Everything.
#[derive(Default)]
pub struct World {
    now: Instant,
    nodes: BTreeMap<u64, Node>,
    /// By region.
    catalogs: BTreeMap<u64, Catalog>,
    net: VecDeque<Packet>,
    isolated: BTreeSet<u64>,
    sessions: Vec<Session>,
    next_ts: u64,
    next_epoch: u64,
    next_ticket: u64,
    /// What coordinators know of their transactions, by node.
    touches: BTreeMap<(u64, TxnId), Touch>,
    tickets: BTreeMap<u64, (u64, TxnId)>,
    asked: BTreeMap<(u64, u64), Heartbeat>,
    answered: BTreeMap<(u64, u64), Granted>,
    taken: BTreeMap<(u64, u64), Granted>,
    probes: BTreeMap<(u64, u64), Probe>,
    planted: Option<Planted>,
    out: String,
}

/// One process and its disk.
struct Node {
    member: Member,
    /// How often this process has opened its replica anew.
    life: Life,
    region: u64,
    options: ReplicaOptions,
    leases: Leases,
    replica: Replica,
    disk: Disk,
    todo: Todo,
}

/// What a replica asked of its host and has not got yet.
#[derive(Default)]
struct Todo {
    timestamps: Option<(u64, u32)>,
    apply: Lsn,
    rewind: Option<Lsn>,
    prepared: Option<Reign>,
    lookups: Vec<(Reign, TxnId)>,
    reads: Vec<(replication::FeedId, Lsn, Lsn)>,
}

/// A message under way.
#[derive(Clone)]
struct Packet {
    from: u64,
    to: u64,
    input: Input,
}

/// A DR session between two primaries; its number at the source is the sink's node.
#[derive(Clone, Copy)]
struct Session {
    link: u128,
    source: u64,
    sink: u64,
}

type Done = Result<(), Box<dyn Error>>;

impl goldenscript::Runner for World {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        self.out.clear();
        self.obey(command)?;
        Ok(std::mem::take(&mut self.out))
    }
}

impl World {
    /// A world whose replicas leave a rule out.
    pub fn with(planted: Planted) -> World {
        World { planted: Some(planted), ..World::default() }
    }

    fn obey(&mut self, command: &Command) -> Done {
        use Command::*;
        match command {
            Cluster { .. }
            | Grant { .. }
            | Members { .. }
            | Fence { .. }
            | Failover { .. }
            | Follow { .. }
            | View { .. } => self.obey_catalog(command),
            Advance { by } => {
                self.now = self.now + by.0;
                Ok(())
            }
            Tick { nodes } => nodes.iter().try_for_each(|node| self.step(*node, Input::Tick)),
            Deliver { .. }
            | Drop { .. }
            | Isolate { .. }
            | Rejoin { .. }
            | PeerUp { .. }
            | ForgeAck { .. }
            | AskCopy { .. } => self.obey_network(command),
            Session { .. } | SessionEnd { .. } | ForgeMark { .. } => self.obey_session(command),
            Heartbeat { .. }
            | LeaseAsk { .. }
            | LeaseAnswer { .. }
            | LeaseTake { .. }
            | LeaseTakeAgain { .. }
            | Closed { .. }
            | Refused { .. }
            | Hello { .. }
            | Reads { .. } => self.obey_lease(command),
            Written { .. }
            | Durable { .. }
            | Applied { .. }
            | Rewound { .. }
            | Installed { .. }
            | ForgetLog { .. }
            | Trim { .. }
            | LogRead { .. }
            | Timestamps { .. }
            | Prepared { .. }
            | Outcome { .. }
            | Restart { .. }
            | Damaged { .. } => self.obey_services(command),
            RunMessages => self.run_messages(),
            Run => self.run_all(),
            Status { nodes } => self.status(nodes),
            Log { node } => self.log(*node),
            _ => self.obey_transaction(command),
        }
    }

    fn node(&mut self, node: u64) -> Result<&mut Node, Box<dyn Error>> {
        self.nodes.get_mut(&node).ok_or_else(|| format!("there is no node {node}").into())
    }

    fn member(&self, node: u64) -> Result<Member, Box<dyn Error>> {
        Ok(self.nodes.get(&node).ok_or(format!("there is no node {node}"))?.member)
    }

    /// One line; lines of what follows from it are indented.
    fn say(&mut self, line: std::fmt::Arguments) {
        writeln!(self.out, "{line}").expect("a string takes every line");
    }

    /// Tells a replica something, and does or keeps what it asks for.
    fn step(&mut self, node: u64, input: Input) -> Done {
        self.say(format_args!("n{node}: {input}"));
        let now = self.now;
        let Node { replica, leases, .. } = self.node(node)?;
        let mut effects = vec![];
        replica.step(now, input, leases, &mut effects);
        self.carry_out(node, effects)
    }

    fn carry_out(&mut self, node: u64, effects: Vec<Effect>) -> Done {
        if effects.is_empty() {
            self.say(format_args!("  nothing"));
        }
        for effect in effects {
            self.say(format_args!("  {effect}"));
            self.perform(node, effect)?;
        }
        Ok(())
    }
}
