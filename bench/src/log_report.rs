//! The node log beside the raw disk, in one run on one file system.
//!
//! Each line is measured in turns: raw, whole, log, raw, whole, log, so that a disk that is faster for a moment is so for
//! all. `x raw` is how many durable appends the log makes in the time of one raw `write` and `fdatasync`. `x whole` is the
//! same of a loop that knows beforehand what all writers want to write, and writes and syncs that as one piece: as far as
//! group commit gets on this disk if nothing is computed, awaited or written besides.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::raw::RawFile;
use crate::writers::Bench;

const WRITERS: [usize; 3] = [1, 16, 256];
const PARTITIONS: [usize; 2] = [1, 16];
const BYTES: [usize; 2] = [128, 4096];
/// Turns of raw and log per line.
const TURNS: u32 = 2;
/// Part of a turn that goes to the raw disk, and as much to the loop that writes everything as one piece.
const RAW_SHARE: f64 = 0.2;
/// What the log is meant to reach with this many writers.
const GOAL: (usize, f64) = (256, 20.0);

/// Options of the report.
#[derive(clap::Args)]
pub struct Options {
    /// Folder on the file system to measure; what is made in it is removed at the end.
    #[arg(long, value_name = "D")]
    dir: PathBuf,
    /// Write the numbers to this file as well.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seconds for the whole report, about.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    seconds: f64,
    /// Measure the fallback: pwrite and fdatasync instead of io_uring.
    #[arg(long)]
    no_uring: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (1.0..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("from 1 to 3600 seconds".into()) }
}

/// One line of the report.
struct Line {
    writers: usize,
    partitions: usize,
    bytes: usize,
    log: f64,
    raw: f64,
    whole: f64,
    latency: Histogram<u64>,
}

impl Line {
    fn ratio(&self) -> f64 {
        self.log / self.raw
    }

    /// How far group commit gets on this disk.
    fn ceiling(&self) -> f64 {
        self.whole / self.raw
    }

    fn millis(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn print(&self) {
        let Line { writers, partitions, bytes, log, raw, .. } = self;
        println!(
            "{writers:>7} {partitions:>10} {bytes:>6} {log:>13.0} {raw:>11.0} {:>8.1} {:>8.1} {:>8.2} {:>8.2}",
            self.ratio(),
            self.ceiling(),
            self.millis(0.5),
            self.millis(0.99),
        );
    }

    fn json(&self) -> Value {
        json!({
            "writers": self.writers,
            "partitions": self.partitions,
            "bytes": self.bytes,
            "log_appends_per_second": self.log,
            "raw_syncs_per_second": self.raw,
            "ratio": self.ratio(),
            "whole_ratio": self.ceiling(),
            "latency_ms": { "p50": self.millis(0.5), "p99": self.millis(0.99) },
        })
    }
}

/// Removes what was made, however the report ends.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} was not removed: {error}", self.0.display());
        }
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let dir = options.dir.join(format!("perennial-bench-{}", std::process::id()));
    std::fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let folder = Folder(dir);
    let started = Instant::now();
    let mut raw = RawFile::new(&folder.0.join("raw"))?;
    let most = PARTITIONS.into_iter().max().context("no partitions to measure")?;
    let mut bench = Bench::new(&folder.0.join("log"), !options.no_uring, most)?;
    let disk = bench.status().disk;
    println!("node log ({disk}) in {}, each writer waiting for its record to be durable", options.dir.display());
    println!("writers partitions  bytes log appends/s  raw syncs/s    x raw  x whole   p50 ms   p99 ms");
    let cases: Vec<_> = BYTES
        .into_iter()
        .flat_map(|bytes| PARTITIONS.map(|partitions| (bytes, partitions)))
        .flat_map(|(bytes, partitions)| WRITERS.map(|writers| (writers, partitions, bytes)))
        .collect();
    let mut lines = vec![];
    for (index, case) in cases.iter().enumerate() {
        let left = Duration::from_secs_f64(options.seconds).saturating_sub(started.elapsed());
        let (writers, partitions, bytes) = *case;
        let of = cases.len();
        eprint!("[{}/{of}] {writers} writers, {partitions} partitions, {bytes} bytes\r", index + 1);
        let line = measure(&mut raw, &mut bench, *case, left / (of - index) as u32)?;
        line.print();
        lines.push(line);
    }
    finish(options, disk, &lines)
}

fn measure(
    raw: &mut RawFile,
    bench: &mut Bench,
    (writers, partitions, bytes): (usize, usize, usize),
    time: Duration,
) -> anyhow::Result<Line> {
    let turn = time / TURNS;
    let [mut raws, mut wholes, mut logs] = [(0, Duration::ZERO); 3];
    let mut latency = Histogram::new_with_bounds(1, 600_000_000, 3).context("histogram")?;
    for _ in 0..TURNS {
        let (count, time) = raw.run(bytes, turn.mul_f64(RAW_SHARE))?;
        raws = (raws.0 + count, raws.1 + time);
        let (count, time) = raw.run(writers * bytes, turn.mul_f64(RAW_SHARE))?;
        wholes = (wholes.0 + count * writers as u64, wholes.1 + time);
        let measured = bench.run(writers, partitions, bytes, turn.mul_f64(1.0 - 2.0 * RAW_SHARE))?;
        logs = (logs.0 + measured.count, logs.1 + measured.time);
        latency.add(&measured.latency).context("histogram")?;
    }
    let rate = |(count, time): (u64, Duration)| count as f64 / time.as_secs_f64();
    Ok(Line { writers, partitions, bytes, log: rate(logs), raw: rate(raws), whole: rate(wholes), latency })
}

fn finish(options: &Options, disk: &str, lines: &[Line]) -> anyhow::Result<()> {
    let (writers, goal) = GOAL;
    let least = lines.iter().filter(|line| line.writers == writers).map(Line::ratio).fold(f64::INFINITY, f64::min);
    let reached = if least >= goal { "reached" } else { "missed" };
    println!("with {writers} writers at least {least:.1} times the raw rate; the goal of {goal:.0} is {reached}");
    let out_of_reach = |line: &&Line| line.writers == writers && line.ratio() < goal && line.ceiling() < goal;
    for line in lines.iter().filter(out_of_reach) {
        println!(
            "of {} bytes this disk takes no more than {:.1} times the raw rate, written as one piece: {:.0} MB/s",
            line.bytes,
            line.ceiling(),
            line.whole * line.bytes as f64 / 1e6,
        );
    }
    if let Some(path) = &options.json {
        let lines: Vec<_> = lines.iter().map(Line::json).collect();
        let report = json!({
            "report": "log",
            "version": env!("CARGO_PKG_VERSION"),
            "dir": options.dir,
            "disk": disk,
            "kernel": kernel(),
            "lines": lines,
            "least_ratio": { "writers": writers, "ratio": least, "goal": goal },
        });
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn kernel() -> Option<String> {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/osrelease")).ok().map(|text| text.trim().to_string())
}
