//! `perennial-bench rebalance`: what clients notice while data moves to a leaf that was added.
//!
//! One aggregator and three leaves hold a table of so many gigabytes, every partition on two of them, and one client for each
//! partition writes there all the time. A fourth leaf is added and the partitions are rebalanced. What counts: errors that
//! clients see, the longest time for which some partition acknowledged nothing, and the slowest second of all together.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::bulk;
use crate::cluster::{Cluster, Plan, Site, connect};
use crate::failover::probe::Probes;

const COPIES: usize = 2;
const LEAVES: usize = 3;
/// How long clients are watched before.
const BEFORE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(1800);

/// Options of the report.
#[derive(clap::Args)]
pub struct Options {
    /// How much data, each copy.
    #[arg(long, default_value_t = 2.0)]
    gigabytes: f64,
    /// Partitions of the database.
    #[arg(long, default_value_t = 12)]
    partitions: usize,
    /// Write the report to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    site: Site,
}

/// Loads, adds a leaf, rebalances, prints.
pub fn run(options: &Options) -> Result<()> {
    let network = options.site.enter()?;
    let plan = Plan { aggregators: 1, leaves: LEAVES, late: 1, settings: String::new(), small_disk: None };
    let mut cluster = Cluster::start(&options.site, network, &plan)?;
    let probes = Probes::prepare(&mut cluster, options.partitions, COPIES)?;
    let (rows, begun) = (bulk::rows(options.gigabytes), Instant::now());
    bulk::load(cluster.sql()[0], "probe.big", rows)?;
    println!("{rows} rows of {} bytes were loaded in {:.0} s", bulk::ROW, begun.elapsed().as_secs_f64());
    cluster.wait_whole(COPIES)?;
    probes.forget();
    let quiet = Instant::now();
    std::thread::sleep(BEFORE);
    let before = probes.each_second(quiet);
    let rate = before.iter().sum::<usize>() / before.len().max(1);
    println!("before: {rate} writes/s, longest pause of a partition {} ms", probes.longest(quiet).0.as_millis());
    let held = held(&cluster)?;
    let leaf = cluster.start_late()?.context("there is no leaf to add")?;
    let announced = "SELECT COUNT(*) AS n FROM information_schema.PERENNIAL_LEAVES";
    cluster.wait("the leaf has announced itself", |cluster| {
        Ok(cluster.table(announced)?.number(0, "n") == Some(1 + LEAVES as u64))
    })?;
    let address = cluster.nodes[leaf].addresses.rpc;
    let mut client = connect(cluster.sql()[0], PATIENCE)?;
    client.run(&format!("ADD LEAF '{address}'"))?;
    probes.forget();
    let begun = Instant::now();
    client.run("REBALANCE PARTITIONS ON probe")?;
    let took = begun.elapsed();
    let (seconds, errors, pause) = (probes.each_second(begun), probes.errors(), probes.longest(begun));
    cluster.wait_whole(COPIES)?;
    let slowest = seconds.iter().min().copied().unwrap_or_default();
    let mean = seconds.iter().sum::<usize>() / seconds.len().max(1);
    println!(
        "REBALANCE PARTITIONS took {:.1} s: copies on each leaf before {held:?}, after {:?}",
        took.as_secs_f64(),
        self::held(&cluster)?
    );
    println!(
        "during: {mean} writes/s, in the slowest second {slowest}, longest pause of a partition {} ms (partition {})",
        pause.0.as_millis(),
        pause.1
    );
    println!("errors that clients saw: {errors:?}");
    probes.stop()?;
    let counted = client.table("SELECT COUNT(*) AS n FROM probe.big")?;
    ensure!(counted.number(0, "n") == Some(rows), "the table has not {rows} rows any more");
    if let Some(path) = &options.json {
        let report = json!({ "rows": rows, "seconds": took.as_secs_f64(), "before": before, "during": seconds,
                             "longest_pause_ms": pause.0.as_millis() as u64, "errors": errors });
        std::fs::write(path, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("writing {}", path.display()))?;
    }
    ensure!(errors.is_empty() && slowest > 0, "clients noticed it");
    Ok(())
}

/// Copies on each leaf.
fn held(cluster: &Cluster) -> Result<Vec<usize>> {
    let copies = cluster.copies()?;
    let of = |place| copies.iter().filter(|copy| copy.leaf == place).count();
    Ok(cluster.of(crate::cluster::Role::Leaf).map(|node| of(node.place)).collect())
}
