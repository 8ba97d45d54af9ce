//! `perennial-bench failover`: how long writes pause when a node is lost.
//!
//! A cluster of three aggregators and three leaves, every partition on two of them, and one client for each partition that
//! writes all the time. Then, again and again, a node is lost in one of four ways; what counts is the longest time for
//! which some partition has acknowledged no write, from the fault on. Before the next trial every copy is in sync again.
//!
//! - `probe` the clients; `figures` what comes out, and how it is printed

mod figures;
pub mod probe;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cluster::{Cluster, Place, Plan, Role, Site};
use figures::{Kind, Trial};
use probe::Probes;

const COPIES: usize = 2;
/// A trial in which writes do not go on within this is given up.
const TRIAL_TIME: Duration = Duration::from_secs(30);
/// All is quiet for so long before a fault.
const BEFORE: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(5);

/// Options of the report.
#[derive(clap::Args)]
pub struct Options {
    /// Trials of each kind.
    #[arg(long, default_value_t = 50)]
    trials: usize,
    /// Which faults.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Fault::KillLeaf, Fault::StopLeaf, Fault::CutLeaf, Fault::KillMaster])]
    faults: Vec<Fault>,
    /// Partitions of the database.
    #[arg(long, default_value_t = 12)]
    partitions: usize,
    /// Aggregators.
    #[arg(long, default_value_t = 3)]
    aggregators: usize,
    /// Leaves.
    #[arg(long, default_value_t = 3)]
    leaves: usize,
    /// Milliseconds that a fault lasts after writes go on: a second pause is seen, and connections grow old in it.
    #[arg(long, value_name = "MS", default_value_t = 700)]
    lasting: u64,
    /// Write the report to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    site: Site,
}

/// How a node is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// SIGKILL of the leaf that leads most partitions.
    KillLeaf,
    /// SIGSTOP of that leaf.
    StopLeaf,
    /// Its link carries nothing.
    CutLeaf,
    /// SIGKILL of the master aggregator.
    KillMaster,
}

impl Fault {
    fn kind(self, site: &Options) -> Kind {
        let (name, goal) = match self {
            Fault::KillLeaf => ("SIGKILL of a leaf", "median 300 ms, worst 1 s"),
            Fault::StopLeaf => ("SIGSTOP of a leaf", "worst 2 s"),
            Fault::CutLeaf => ("link of a leaf cut", "worst 2 s"),
            Fault::KillMaster => ("SIGKILL of the master", "worst 2 s"),
        };
        Kind { name, goal, trials: Vec::with_capacity(site.trials) }
    }
}

/// Runs all trials and prints the table.
pub fn run(options: &Options) -> Result<()> {
    let network = options.site.enter()?;
    let plan = Plan {
        aggregators: options.aggregators,
        leaves: options.leaves,
        late: 0,
        settings: String::new(),
        small_disk: None,
    };
    let mut cluster = Cluster::start(&options.site, network, &plan)?;
    let mut kinds = Vec::new();
    println!("{} aggregators and {} leaves run in {}", plan.aggregators, plan.leaves, cluster.dir().display());
    let probes = Probes::prepare(&mut cluster, options.partitions, COPIES)?;
    for fault in &options.faults {
        let mut kind = fault.kind(options);
        if *fault == Fault::CutLeaf && !network.has_links() {
            println!("{}: left out, for there are no links on loopback", kind.name);
            continue;
        }
        for number in 1..=options.trials {
            let trial = trial(&mut cluster, &probes, *fault, Duration::from_millis(options.lasting))
                .inspect_err(|_| cluster.keep())
                .with_context(|| format!("trial {number} of {}", kind.name))?;
            println!("{} {number}: {}", kind.name, trial.line());
            kind.trials.push(trial);
        }
        kinds.push(kind);
    }
    probes.stop()?;
    println!("\n{}", figures::table(&kinds));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&figures::json(&kinds))?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn trial(cluster: &mut Cluster, probes: &Probes, fault: Fault, lasting: Duration) -> Result<Trial> {
    cluster.wait_whole(COPIES)?;
    std::thread::sleep(BEFORE);
    let victim = victim(cluster, fault)?;
    probes.forget();
    let begun = Instant::now();
    strike(cluster, victim, fault)?;
    while !probes.all_since(begun) && begun.elapsed() < TRIAL_TIME {
        std::thread::sleep(LOOK);
    }
    let went_on = probes.all_since(begun);
    std::thread::sleep(lasting);
    let (longest, errors) = (probes.longest(begun), probes.errors());
    mend(cluster, victim, fault)?;
    let node = cluster.nodes[victim].name.clone();
    Ok(Trial { node, pause: longest.0, partition: longest.1, went_on, errors })
}

/// The leaf that leads most partitions, or the master.
fn victim(cluster: &Cluster, fault: Fault) -> Result<Place> {
    if fault == Fault::KillMaster {
        return cluster.master();
    }
    let copies = cluster.copies()?;
    let led = |leaf: Place| copies.iter().filter(|copy| copy.in_sync.is_some() && copy.leaf == leaf).count();
    cluster.of(Role::Leaf).map(|node| node.place).max_by_key(|leaf| led(*leaf)).context("there is no leaf")
}

fn strike(cluster: &mut Cluster, victim: Place, fault: Fault) -> Result<()> {
    match fault {
        Fault::KillLeaf | Fault::KillMaster => cluster.nodes[victim].kill(),
        Fault::StopLeaf => cluster.nodes[victim].signal("STOP"),
        Fault::CutLeaf => cluster.network.cut(victim),
    }
}

fn mend(cluster: &mut Cluster, victim: Place, fault: Fault) -> Result<()> {
    match fault {
        Fault::KillLeaf | Fault::KillMaster => cluster.nodes[victim].start(),
        Fault::StopLeaf => cluster.nodes[victim].signal("CONT"),
        Fault::CutLeaf => cluster.network.mend(victim),
    }
}
