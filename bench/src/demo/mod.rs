//! `perennial-bench demo`: lose a region and take it back, with data and a client that keeps writing.
//!
//! A black box: it starts `perennial playground`, and from then on knows of it what the MySQL protocol says. TPC-H is loaded
//! into east; west follows; east is killed, west promoted; east returns with writes that west never received, follows by
//! the difference, and takes its office again. In the end each table's rows are compared by a checksum over all of them,
//! and each write that the client saw acknowledged is accounted for.
//!
//! - `scenario` the seven steps; `regions` the processes; `link`, `divergence` what the regions say of themselves
//! - `writer` the client that keeps writing; `ledger` what it knows, and what must be true of that
//! - `tables`, `load` the data; `checksum` one number for a table; `report` what is printed in the end
//! - `console` what is said

mod checksum;
mod console;
mod divergence;
mod ledger;
mod link;
mod load;
mod regions;
mod report;
mod scenario;
mod tables;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use console::{Console, Session};
use regions::{Region, Regions};
use report::{Report, Step};
use scenario::Scenario;

/// Options of the demo.
#[derive(clap::Args)]
pub struct Options {
    /// How much data: TPC-H's scale factor; 0.1 are 866,602 rows.
    #[arg(long, default_value_t = 0.1, value_parser = scale)]
    scale: f64,
    /// Where all data goes; must not exist yet, or be empty. Default: a new one among the temporary directories.
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
    /// Ports: east listens from here, west from here + 100.
    #[arg(long, default_value_t = 14300)]
    port_base: u16,
    /// Keep the directory.
    #[arg(long)]
    keep: bool,
    /// Write the report to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.001..=10.0).contains(&scale) { Ok(scale) } else { Err("from 0.001 to 10".into()) }
}

/// Plays it. An error, also if anything was not as it must be.
pub fn run(options: &Options) -> Result<()> {
    let dir = match &options.dir {
        Some(dir) => std::path::absolute(dir).with_context(|| format!("directory {}", dir.display()))?,
        None => std::env::temp_dir().join(format!("perennial-demo-{}", std::process::id())),
    };
    let console = Console::new();
    console.say(&format!("two regions of real processes start in {}", dir.display()));
    let regions = Arc::new(Regions::start(&dir, options.port_base, options.keep)?);
    let for_signal = regions.clone();
    crate::interrupt::on_interrupt(move || for_signal.end())?;
    let played = play(options, console, &regions);
    regions.end();
    let report = match played {
        Ok(report) => report,
        Err(error) if options.keep => return Err(error.context("the demo broke off")),
        Err(error) => return Err(error.context("the demo broke off; --keep leaves the logs of its processes behind")),
    };
    report.print();
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&report.json())? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    ensure!(report.findings.is_empty(), "{} findings, see above", report.findings.len());
    Ok(())
}

fn play(options: &Options, console: Console, regions: &Regions) -> Result<Report> {
    for region in [Region::East, Region::West] {
        console.say(&format!("{}: mariadb -h 127.0.0.1 -P {} -u root", region.name(), regions.sql(region).port()));
    }
    let from = Instant::now();
    let mut east = Session::connect(console, regions, Region::East)?;
    load::load(console, &mut east, options.scale).context("loading")?;
    let loaded = Step { number: 0, title: "TPC-H is loaded", from, to: Instant::now(), shipped: Default::default() };
    let mut scenario = Scenario::new(console, regions);
    scenario.play()?;
    finish(console, regions, scenario, loaded)
}

/// Ends the writing client and compares everything.
fn finish(console: Console, regions: &Regions, mut scenario: Scenario<'_>, loaded: Step) -> Result<Report> {
    console.say("the client stops writing; every row of every table is compared");
    let ledger = scenario.writer.stop();
    let last = ledger.acknowledged.last().context("no write was ever acknowledged")?.id;
    scenario.wait_for_last(last)?;
    let sums = checksum::of_both([regions.sql(Region::East), regions.sql(Region::West)], &tables::names())?;
    let [east, west] = scenario.ledgers()?;
    let audit = ledger::audit(&ledger, scenario.lost, [&east, &west], &scenario.set_aside());
    let mut steps = vec![loaded];
    steps.append(&mut scenario.steps);
    let mut findings = std::mem::take(&mut scenario.findings);
    findings.extend(audit.findings.iter().cloned());
    let divergence = std::mem::take(&mut scenario.divergence);
    let mut report = Report { steps, ledger, audit, divergence, sums, findings };
    report.compare_sums();
    Ok(report)
}
