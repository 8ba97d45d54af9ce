//! `perennial-sim`: runs seeds of the simulator on all cores.
//!
//! ```text
//! perennial-sim --seeds N [--from S] [--scale region|regions] [--planted NAME] [--whole]
//! perennial-sim --seed K [-v] [--scale region|regions] [--planted NAME] [--shrink | --whole | --script FAULTS]
//! perennial-sim scale [--leaves 1000] [--partitions 100000] [--lost 200] [--active] [--silent]
//! ```
//!
//! A failing seed is shortened: what it does not need of its faults is left out, and the rest printed in the words of `--script`.
//! Not with `--whole`, and with `-v` only with `--shrink`.

use std::process::ExitCode;
use std::time::Instant;

use perennial_sim::options::{Planted, Scale};
use perennial_sim::run::{Report, run_seeds, scale_of};
use perennial_sim::scale::{self, Count, Found, Traffic, Wanted as Region, Work};
use perennial_sim::script::{Strike, from_words, in_words};
use perennial_sim::shrink::Play;

/// Lines of a failed history that are shown.
const SHOWN: usize = 60;

struct Wanted {
    seeds: u64,
    from: u64,
    seed: Option<u64>,
    scale: Option<Scale>,
    planted: Option<Planted>,
    verbose: bool,
    /// By default when its history is not wanted in full.
    shrink: Option<bool>,
    script: Option<Vec<Strike>>,
}

impl Wanted {
    fn play(&self, seed: u64) -> Play<'static> {
        let scale = self.scale.unwrap_or_else(|| scale_of(seed));
        Play { seed, scale, planted: self.planted, focus: &|_| () }
    }

    /// Plays a seed again, with its history; shortened, if that is wanted and it fails.
    fn show(&self, seed: u64, lines: usize) -> Report {
        let play = self.play(seed);
        let shortens = self.shrink.unwrap_or(!self.verbose) && self.script.is_none();
        let shrunk = if shortens { play.shrink() } else { None };
        let script = shrunk.as_ref().map(|shrunk| &shrunk.script).or(self.script.as_ref());
        let report = play.run(script.map(Vec::as_slice), true);
        show(&report, lines);
        if let Some(shrunk) = &shrunk {
            println!(
                "seed {seed}: {} of its {} faults do, after {} tries",
                shrunk.script.len(),
                shrunk.before,
                shrunk.tries
            );
        }
        if report.violation.is_some() {
            let planted = self.planted.map_or(String::new(), |planted| format!(" --planted {}", planted.name()));
            let script = script.map_or(String::new(), |script| format!(" --script '{}'", in_words(script)));
            let scale = format!("{:?}", play.scale).to_lowercase();
            println!("again: perennial-sim --seed {seed} --scale {scale}{planted}{script}");
        }
        report
    }
}

const USAGE: &str = "usage: perennial-sim --seeds N [--from S] | --seed K [-v] [--script FAULTS]  \
                     [--scale region|regions] [--planted NAME] [--shrink | --whole] | scale [--leaves N] \
                     [--partitions N] [--lost N] [--active] [--silent]";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("scale") => return scale_command(),
        Some("--help" | "-h" | "help") => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let wanted = match read_arguments() {
        Ok(wanted) => wanted,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let scale = |seed: u64| wanted.scale.unwrap_or_else(|| scale_of(seed));
    if let Some(seed) = wanted.seed {
        let report = wanted.show(seed, if wanted.verbose { usize::MAX } else { SHOWN });
        return if report.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let began = Instant::now();
    let totals = run_seeds(wanted.from..wanted.from + wanted.seeds, scale, wanted.planted, 10);
    let seconds = began.elapsed().as_secs_f64();
    for report in &totals.failed {
        wanted.show(report.seed, SHOWN);
    }
    println!(
        "{} steps, {} transactions acknowledged, {} reads, {} writes lost with an announcement",
        totals.steps, totals.acknowledged, totals.read, totals.lost
    );
    println!("{:.0} seeds per second", totals.seeds as f64 / seconds);
    println!("{} of {} seeds passed", totals.seeds - totals.failed.len() as u64, totals.seeds);
    if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A history, its end at least, and what it broke.
fn show(report: &Report, lines: usize) {
    if let Some(options) = report.trace.first() {
        println!("{options}");
    }
    let skip = report.trace.len().saturating_sub(lines).max(1);
    report.trace.iter().skip(skip).for_each(|line| println!("{line}"));
    match &report.violation {
        Some(violation) => println!("seed {}: {}: {}", report.seed, violation.check, violation.text),
        None => println!("seed {}: no violation in {} steps", report.seed, report.steps),
    }
}

fn read_arguments() -> Result<Wanted, String> {
    let (seed, scale, planted, script) = Default::default();
    let mut wanted = Wanted { seeds: 500, from: 0, seed, scale, planted, verbose: false, shrink: None, script };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        match argument.as_str() {
            "--seeds" => wanted.seeds = number(value()?)?,
            "--from" => wanted.from = number(value()?)?,
            "--seed" => wanted.seed = Some(number(value()?)?),
            "-v" => wanted.verbose = true,
            "--shrink" => wanted.shrink = Some(true),
            "--whole" => wanted.shrink = Some(false),
            "--script" => wanted.script = Some(from_words(&value()?)?),
            "--scale" => {
                wanted.scale = Some(match value()?.as_str() {
                    "region" => Scale::Region,
                    "regions" => Scale::Regions,
                    other => return Err(format!("scale {other} is not known")),
                });
            }
            "--planted" => {
                let name = value()?;
                let found = Planted::all().into_iter().find(|planted| planted.name() == name);
                wanted.planted = Some(found.ok_or(format!("planted bug {name} is not known"))?);
            }
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(wanted)
}

// ---- the control plane of a large region

fn scale_command() -> ExitCode {
    let region = match read_region() {
        Ok(region) => region,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let clock = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    show_region(&region, &scale::run(region, &clock));
    ExitCode::SUCCESS
}

fn read_region() -> Result<Region, String> {
    let mut region = Region { leaves: 1000, partitions: 100_000, lost: 200, ..Region::default() };
    let mut arguments = std::env::args().skip(2);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or(format!("{argument} needs a value"))?;
            value.parse::<u32>().map_err(|error| format!("{argument} {value}: {error}"))
        };
        match argument.as_str() {
            "--leaves" => region.leaves = number()?.into(),
            "--partitions" => region.partitions = number()?,
            "--lost" => region.lost = number()? as usize,
            "--active" => region.active = true,
            "--silent" => region.refused = false,
            other => return Err(format!("{other} is not known")),
        }
    }
    Ok(region)
}

fn show_region(region: &Region, found: &Found) {
    let millis = |nanos: u64| nanos as f64 / 1e6;
    let Region { leaves, partitions, delay, commit, .. } = region;
    println!(
        "{leaves} leaves, {partitions} partitions with 2 copies, {}; {} ms one way, {} ms to decide",
        if region.active { "all written to all the time" } else { "none written to" },
        millis(*delay),
        millis(*commit)
    );
    println!("catalog: {} bytes as a snapshot, encoded in {:.0} ms", found.snapshot, millis(found.encoding));
    println!("CREATE DATABASE: {:.0} ms to place all partitions", millis(found.placing));
    let beats = found.pairs * 1000 * 1_000_000 / scale::RENEW;
    println!(
        "pairs of leaves: {} of them, {} messages and {} bytes a second in the region, {:.0} messages a second at a leaf",
        found.pairs / 2,
        2 * beats,
        beats * found.pair_bytes,
        2.0 * beats as f64 / *leaves as f64
    );
    println!("at rest, in a second:");
    show_traffic(&found.rest, &found.rest_work);
    println!("  partitions that a look judged: {} at most", found.judged_at_rest);
    let how = if region.refused { "its process ends" } else { "its machine falls silent" };
    println!("a leaf is lost that led {} partitions and followed {}: {how}", found.lost.0, found.lost.1);
    println!(
        "  {:.1} ms until all are named, {:.1} ms until all those have been told, {:.1} ms until no set names it",
        millis(found.named_after),
        millis(found.told_after),
        millis(found.sets_after)
    );
    show_traffic(&found.failover, &found.failover_work);
    println!("  commands refused because something had changed: {}", found.refused);
}

fn show_traffic(traffic: &Traffic, work: &Work) {
    let line =
        |name: &str, count: Count| println!("  {name:<28}{:>8} of them, {:>10} bytes", count.messages, count.bytes);
    line("reports to the master", traffic.reports);
    println!("  {:<28}{:>8}", "  replicas in them", traffic.replicas_told);
    line("orders to leaves", traffic.orders);
    line("  views in them", traffic.views);
    println!("  {:<28}{:>8}", "  peers in them", traffic.peers_told);
    line("changes of sets proposed", traffic.proposals);
    line("entries of the catalog's log", traffic.entries);
    println!("  {:<28}{:>8}", "writes of it", traffic.appends);
    let millis = |nanos: u64| nanos as f64 / 1e6;
    println!(
        "  the master's work: {} looks {:.1} ms, reports {:.1} ms, commands {:.1} ms, copies of the state {:.1} ms",
        work.looked,
        millis(work.looks),
        millis(work.reports),
        millis(work.apply),
        millis(work.copies)
    );
}
