//! `perennial-bench restart`: how long a large leaf takes to serve again.
//!
//! One aggregator and one leaf, so that nobody else takes over. Rows are loaded until there are so many gigabytes; the leaf is
//! killed right after, when most of its log is still to be replayed, and then again and again while clients write, by
//! SIGKILL and by SIGTERM. It serves when some rows of every partition have been read and changed, each by its key.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::bulk::{self, CLIENTS, ROW, bytes_of, text, together};
use crate::client::{Client, ClientError};
use crate::cluster::{Cluster, Place, Plan, Role, Site, connect};

const PARTITIONS: u32 = 8;
/// Rows that are read and changed to see whether it serves: some of every partition.
const SAMPLE: usize = 64;
/// How long clients write before a restart.
const WRITING: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(5);

/// Options of the report.
#[derive(clap::Args)]
pub struct Options {
    /// How much data.
    #[arg(long, default_value_t = 2.0)]
    gigabytes: f64,
    /// Restarts of each kind.
    #[arg(long, default_value_t = 3)]
    times: usize,
    /// Write the report to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    site: Site,
}

/// One restart.
struct Restart {
    what: &'static str,
    goal: &'static str,
    /// From the signal to the end of the process.
    ended: Duration,
    /// From its start until it serves.
    serves: Duration,
}

/// Loads, restarts, prints.
pub fn run(options: &Options) -> Result<()> {
    let network = options.site.enter()?;
    let plan = Plan { aggregators: 1, leaves: 1, late: 0, settings: String::new(), small_disk: None };
    let mut cluster = Cluster::start(&options.site, network, &plan)?;
    let mut client = connect(cluster.sql()[0], PATIENCE)?;
    client.run(&format!("CREATE DATABASE big PARTITIONS {PARTITIONS} OPTIONS (redundancy = 1)"))?;
    let rows = bulk::rows(options.gigabytes);
    let begun = Instant::now();
    bulk::load(cluster.sql()[0], "big.t", rows)?;
    let leaf = cluster.of(Role::Leaf).next().map(|node| node.place).context("there is no leaf")?;
    let seconds = begun.elapsed().as_secs_f64();
    let disk = bytes_of(&cluster.nodes[leaf].data());
    println!("{rows} rows of {ROW} bytes were loaded in {seconds:.0} s; {:.2} GB on disk", disk as f64 / 1e9);
    let mut restarts = vec![restart(&mut cluster, leaf, rows, "SIGKILL after the load", "15 s")?];
    for _ in 0..options.times {
        for (what, goal) in [("SIGTERM", "5 s"), ("SIGKILL", "15 s")] {
            write(&cluster, rows, WRITING)?;
            restarts.push(restart(&mut cluster, leaf, rows, what, goal)?);
        }
    }
    let disk = bytes_of(&cluster.nodes[leaf].data());
    println!("\n{:<24} {:>10} {:>12}  goal", "restart", "ended in", "serves after");
    for Restart { what, goal, ended, serves } in &restarts {
        println!("{what:<24} {:>8.2} s {:>10.2} s  {goal}", ended.as_secs_f64(), serves.as_secs_f64());
    }
    println!("{:.2} GB on disk in the end", disk as f64 / 1e9);
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&as_json(&restarts, rows, disk))?;
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn as_json(restarts: &[Restart], rows: u64, disk: u64) -> Value {
    let each = restarts.iter().map(|restart| {
        json!({ "restart": restart.what, "goal": restart.goal, "ended_ms": restart.ended.as_millis() as u64,
                "serves_ms": restart.serves.as_millis() as u64 })
    });
    json!({ "rows": rows, "row_bytes": ROW, "disk_bytes": disk, "restarts": each.collect::<Vec<_>>() })
}

/// Changes rows, here and there.
fn write(cluster: &Cluster, rows: u64, time: Duration) -> Result<()> {
    let (address, begun) = (cluster.sql()[0], Instant::now());
    together(CLIENTS, |number| {
        let mut client = connect(address, PATIENCE)?;
        let mut random = ChaCha8Rng::seed_from_u64(number);
        while begun.elapsed() < time {
            let id = random.random_range(0..rows);
            client.run(&format!("UPDATE big.t SET n = n + 1, v = '{}' WHERE id = {id}", text(&mut random)))?;
        }
        Ok(())
    })
}

fn restart(cluster: &mut Cluster, leaf: Place, rows: u64, what: &'static str, goal: &'static str) -> Result<Restart> {
    let begun = Instant::now();
    match what {
        "SIGTERM" => cluster.nodes[leaf].stop()?,
        _ => cluster.nodes[leaf].kill()?,
    }
    let ended = begun.elapsed();
    let begun = Instant::now();
    cluster.nodes[leaf].start()?;
    let (address, ended_early) = (cluster.sql()[0], AtomicBool::new(false));
    std::thread::scope(|scope| -> Result<()> {
        let served = scope.spawn(|| serves(address, rows, &ended_early));
        while !served.is_finished() {
            if let Some(how) = cluster.nodes[leaf].ended()? {
                ended_early.store(true, Ordering::Relaxed);
                return Err(anyhow!("{how}"));
            }
            std::thread::sleep(LOOK);
        }
        served.join().map_err(|_| anyhow!("the client has panicked"))?
    })?;
    let restart = Restart { what, goal, ended, serves: begun.elapsed() };
    println!("{what}: ended in {:.2} s, serves after {:.2} s", ended.as_secs_f64(), restart.serves.as_secs_f64());
    Ok(restart)
}

/// Returns when a sample of rows was read and changed.
fn serves(address: std::net::SocketAddr, rows: u64, give_up: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    let mut random = ChaCha8Rng::seed_from_u64(rows);
    let mut client = connect(address, PATIENCE)?;
    for _ in 0..SAMPLE {
        let id = random.random_range(0..rows);
        while let Err(error) = touch(&mut client, id) {
            ensure!(!give_up.load(Ordering::Relaxed), "the leaf has ended");
            ensure!(error.code().is_some() && begun.elapsed() < PATIENCE, "row {id} is not served: {error}");
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}

fn touch(client: &mut Client, id: u64) -> Result<(), ClientError> {
    let found = client.table(&format!("SELECT n FROM big.t WHERE id = {id}"))?;
    if found.rows.len() != 1 {
        return Err(ClientError::Protocol(format!("row {id} is lost")));
    }
    client.run(&format!("UPDATE big.t SET n = n + 1 WHERE id = {id}")).map(drop)
}
