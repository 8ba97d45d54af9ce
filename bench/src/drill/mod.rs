//! `perennial-bench drill`: a cluster of real processes under random faults, and clients who remember what they were told.
//!
//! Processes are killed and suspended, links cut, disks filled; what happens, to whom and how long, is drawn from a seed
//! (`fault`, `nemesis`; what a person does then, `operator`). Meanwhile clients write rows and count them (`journal`),
//! transfer between accounts (`transfers`), and read and write single rows (`registers`, checked by `linear`). Every so often
//! all faults end, and within a bound everything must be whole again. In the end all rows are read and compared with what
//! clients were told (`audit`).
//!
//! - `app` one client, and what an error means; `report` what is printed and written

mod app;
mod audit;
mod fault;
mod journal;
mod linear;
mod nemesis;
mod operator;
mod registers;
mod report;
mod transfers;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::cluster::{Cluster, Network, Place, Plan, Site, connect};
use app::{App, Shared};
use fault::{Drawn, Fault};
use journal::{COUNTERS, Journal};
use nemesis::Struck;
use registers::Histories;
use report::{Event, Report};
use transfers::{ACCOUNTS, BALANCE};

const COPIES: usize = 2;
/// Faults at the same time.
const AT_ONCE: usize = 2;
/// Healed, everything is whole again within this.
const WHOLE_TIME: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(20);
/// A leaf that has found no room says so, and ends, perhaps when there is room again.
const GIVING_UP: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the leaf whose disk is filled.
const SMALL_DISK: u64 = 1 << 30;
/// So that checkpoints, trimming and collection happen all the time.
const SETTINGS: &str = "[log]\nsegment_size = \"4MiB\"\n\n[state]\ncheckpoint_interval = \"5s\"\ncheckpoint_size = \"4MiB\"\n\
    view_retention = \"20s\"\nscrub_interval = \"2m\"\ndisk_reserve = \"64MiB\"\n";

/// Options of the drill.
#[derive(clap::Args)]
pub struct Options {
    /// How long faults happen.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Faults are drawn from this; by default from another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// Which faults; by default all that are possible here.
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Aggregators.
    #[arg(long, default_value_t = 3)]
    aggregators: usize,
    /// Leaves.
    #[arg(long, default_value_t = 3)]
    leaves: usize,
    /// Partitions of the database.
    #[arg(long, default_value_t = 6)]
    partitions: usize,
    /// Write the report to this file as well.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    site: Site,
}

/// Runs it. An error, also if anything was not as it must be.
pub fn run(options: &Options) -> Result<()> {
    let network = options.site.enter()?;
    let faults = faults(options, network)?;
    let seed = options.seed.unwrap_or_else(rand::random);
    let small_disk = Some(SMALL_DISK);
    let plan = Plan {
        aggregators: options.aggregators,
        leaves: options.leaves,
        late: 0,
        settings: SETTINGS.into(),
        small_disk,
    };
    let mut cluster = Cluster::start(&options.site, network, &plan)?;
    println!("drill: seed {seed}, {} minutes, in {}", options.minutes, cluster.dir().display());
    prepare(&mut cluster, options.partitions)?;
    let mut drill = Drill::start(&cluster, seed, options.minutes);
    let broken_off = drill.play(&mut cluster, &faults).err();
    let report = drill.end(&mut cluster, broken_off);
    if report.violations() > 0 {
        cluster.keep();
    }
    if let Some(path) = &options.report {
        let text = serde_json::to_string_pretty(&report.json())?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    drop(cluster);
    report.print();
    ensure!(report.violations() == 0, "{} things were not as they must be", report.violations());
    Ok(())
}

fn faults(options: &Options, network: Network) -> Result<Vec<Fault>> {
    let wanted = if options.faults.is_empty() { Fault::value_variants() } else { &options.faults };
    let (possible, left_out): (Vec<Fault>, Vec<Fault>) =
        wanted.iter().partition(|fault| network.has_links() || !fault.needs_namespaces());
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|fault| fault.name()).collect();
        println!("drill: without namespaces there is no {}", names.join(", "));
    }
    ensure!(!possible.is_empty(), "none of these faults is possible here");
    Ok(possible)
}

fn prepare(cluster: &mut Cluster, partitions: usize) -> Result<()> {
    let mut client = connect(cluster.sql()[0], PATIENCE)?;
    let options = format!("redundancy = {COPIES}, failback_retention = '30s'");
    client.run(&format!("CREATE DATABASE drill PARTITIONS {partitions} OPTIONS ({options})"))?;
    client.run("USE drill")?;
    client.run("CREATE TABLE journal (id BIGINT PRIMARY KEY, counter INT NOT NULL)")?;
    client.run("CREATE TABLE counters (id INT PRIMARY KEY, n BIGINT NOT NULL)")?;
    client.run("CREATE TABLE accounts (id INT PRIMARY KEY, balance BIGINT NOT NULL)")?;
    client.run("CREATE TABLE registers (id BIGINT PRIMARY KEY, v BIGINT NOT NULL)")?;
    let counters: Vec<String> = (0..COUNTERS).map(|id| format!("({id}, 0)")).collect();
    client.run(&format!("INSERT INTO counters VALUES {}", counters.join(", ")))?;
    let accounts: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {BALANCE})")).collect();
    client.run(&format!("INSERT INTO accounts VALUES {}", accounts.join(", ")))?;
    cluster.wait_whole(COPIES)?;
    Ok(())
}

/// A drill that is played.
struct Drill {
    seed: u64,
    random: ChaCha8Rng,
    begun: Instant,
    until: Instant,
    shared: Arc<Shared>,
    journal: Journal,
    histories: Histories,
    clients: Vec<JoinHandle<()>>,
    active: Vec<Struck>,
    /// A leaf that had no room, and when it got some.
    gives_up: Option<(Place, Instant)>,
    events: Vec<Event>,
    /// How long it took to be whole again.
    recoveries: Vec<Duration>,
}

impl Drill {
    fn start(cluster: &Cluster, seed: u64, minutes: f64) -> Drill {
        let (random, shared) = (ChaCha8Rng::seed_from_u64(seed), Shared::new(cluster.sql()));
        let (journal, histories) = (Journal::default(), Histories::default());
        let mut clients = Vec::new();
        let stream = |number: u64| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number + 1);
            random
        };
        for number in 0..2 {
            let (app, journal) = (App::new(shared.clone(), number), journal.clone());
            clients.push(std::thread::spawn(move || journal::write(app, number as i64, &journal)));
            let (app, random) = (App::new(shared.clone(), number + 1), stream(number as u64));
            clients.push(std::thread::spawn(move || transfers::transfer(app, random)));
        }
        let app = App::new(shared.clone(), 0);
        clients.push(std::thread::spawn(move || transfers::add_up(app)));
        for number in 0..4 {
            let (app, histories) = (App::new(shared.clone(), number), histories.clone());
            let random = stream(10 + number as u64);
            clients.push(std::thread::spawn(move || registers::use_rows(app, number as i64 + 1, random, &histories)));
        }
        let begun = Instant::now();
        let until = begun + Duration::from_secs_f64(minutes * 60.0);
        let (active, events, recoveries) = (vec![], vec![], vec![]);
        let gives_up = None;
        Drill { seed, random, begun, until, shared, journal, histories, clients, active, gives_up, events, recoveries }
    }

    fn play(&mut self, cluster: &mut Cluster, faults: &[Fault]) -> Result<()> {
        while Instant::now() < self.until {
            let drawn = fault::draw(&mut self.random, faults);
            let due = Instant::now() + Duration::from_millis(drawn.after);
            while Instant::now() < due.min(self.until) || self.active.len() >= AT_ONCE {
                self.look(cluster)?;
                std::thread::sleep(LOOK);
            }
            self.strike(cluster, drawn)?;
            if drawn.then_whole {
                self.heal(cluster, false)?;
                self.wait_whole(cluster)?;
            }
        }
        self.heal(cluster, true)?;
        self.wait_whole(cluster)
    }

    fn strike(&mut self, cluster: &mut Cluster, drawn: Drawn) -> Result<()> {
        if drawn.fault.is_alone() {
            self.heal(cluster, false)?;
        }
        if drawn.fault.takes_copies() {
            self.wait_whole(cluster)?;
        }
        let taken: Vec<Place> = self.active.iter().flat_map(|struck| struck.victims.iter().copied()).collect();
        let lasts = Duration::from_millis(drawn.lasts);
        let (at, acknowledged) = (self.begun.elapsed(), self.shared.tally().operations);
        if let Some(struck) = nemesis::strike(cluster, drawn.fault, &taken, &mut self.random, lasts)? {
            println!(
                "[{:7.1} s] {} for {:.1} s ({acknowledged} operations)",
                at.as_secs_f64(),
                struck.text,
                lasts.as_secs_f64()
            );
            self.events.push(Event { at, lasts, fault: drawn.fault, text: struck.text.clone() });
            self.active.push(struck);
        }
        Ok(())
    }

    /// Undoes what is over, and looks after processes that have ended by themselves.
    fn look(&mut self, cluster: &mut Cluster) -> Result<()> {
        for place in 0..cluster.nodes.len() {
            let Some(how) = cluster.nodes[place].ended()? else { continue };
            if self.active.iter().any(|struck| struck.may_end(place)) {
                continue;
            }
            if !self.gives_up.is_some_and(|(leaf, at)| leaf == place && at.elapsed() < GIVING_UP) {
                self.shared.find(how);
            }
            cluster.nodes[place].start()?;
        }
        let now = Instant::now();
        let (over, active): (Vec<Struck>, _) = std::mem::take(&mut self.active).into_iter().partition(Struck::is_over);
        self.active = active;
        let no_room = over.iter().filter(|struck| struck.fault == Fault::NoRoom);
        self.gives_up =
            no_room.filter_map(|struck| Some((*struck.victims.first()?, now))).next_back().or(self.gives_up);
        for struck in over {
            self.active.extend(struck.mend(cluster)?);
        }
        Ok(())
    }

    /// Waits until all faults are over; or ends them now.
    fn heal(&mut self, cluster: &mut Cluster, now: bool) -> Result<()> {
        while !self.active.is_empty() {
            if now {
                self.active.iter_mut().for_each(|struck| struck.until = Instant::now());
            }
            self.look(cluster)?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn wait_whole(&mut self, cluster: &mut Cluster) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.look(cluster)?;
            let whole = cluster.is_whole(COPIES);
            if matches!(whole, Ok(true)) {
                self.recoveries.push(begun.elapsed());
                return Ok(());
            }
            ensure!(
                begun.elapsed() < WHOLE_TIME,
                "{} s after all faults have ended not every copy is in sync ({whole:?})",
                WHOLE_TIME.as_secs()
            );
            std::thread::sleep(LOOK * 5);
        }
    }

    fn end(mut self, cluster: &mut Cluster, broken_off: Option<anyhow::Error>) -> Report {
        let lasted = self.begun.elapsed();
        self.shared.stop();
        for client in self.clients.drain(..) {
            if client.join().is_err() {
                self.shared.find("a client has panicked".into());
            }
        }
        if let Some(error) = broken_off {
            self.shared.find(format!("the drill broke off: {error:#}"));
            // What can be read is compared all the same.
            let _ = self.heal(cluster, true);
        }
        let writes = std::mem::take(&mut *self.journal.lock().unwrap_or_else(PoisonError::into_inner));
        let histories = std::mem::take(&mut *self.histories.lock().unwrap_or_else(PoisonError::into_inner));
        let audit = audit::audit(cluster, &writes);
        let registers = registers::audit(&histories);
        let tally = self.shared.tally().clone();
        Report { seed: self.seed, lasted, events: self.events, recoveries: self.recoveries, tally, audit, registers }
    }
}
