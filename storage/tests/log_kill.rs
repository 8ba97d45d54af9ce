//! A process that writes is killed a hundred times at random moments: whatever it had reported durable is there, and
//! so is what it had reported written, for only the process died.
//!
//! The test starts itself again as the process that writes; that one reports over its standard output.

mod log_common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use log_common::crash_disk::Dice;
use log_common::*;
use perennial_storage::log::{AppendError, Flush, LogOptions, NodeLog, Report};
use types::Lsn;
use types::entry::Entry;
use types::segment::Verdict;

const DIR: &str = "PERENNIAL_LOG_KILL_DIR";
const SEED: &str = "PERENNIAL_LOG_KILL_SEED";
const PARTITIONS: i32 = 5;
const KILLS: u64 = 100;

fn size(ordinal: i32, lsn: u64) -> usize {
    (lsn as usize * 37 + ordinal as usize * 1_001) % 3_000
}

/// Writes until it is killed. Odd partitions may wait for their sync, and all are trimmed but the last.
fn write_for_ever(dir: &Path, mut dice: Dice) -> ! {
    let tell = |report: Report| {
        let (name, list) = match report {
            Report::Written(list) => ("W", list),
            Report::Durable(list) => ("D", list),
            Report::Failed(error) => panic!("{error}"),
        };
        let lines: String = list.iter().map(|one| format!("{name} {} {}\n", one.partition.ordinal, one.end)).collect();
        std::io::stdout().lock().write_all(lines.as_bytes()).unwrap();
    };
    let options = LogOptions { uring: dice.roll(4) > 0, ..small() };
    let (log, _) = NodeLog::open(dir, options, tell).unwrap();
    loop {
        let ordinal = dice.roll(PARTITIONS as u64) as i32;
        let end = log.summary(partition(ordinal)).map_or(0, |summary| summary.end.0);
        let lsns = end + 1..=end + 1 + dice.roll(4);
        let mut entries: Vec<_> =
            lsns.map(|lsn| (partition(ordinal), Entry::Record(record(ordinal, lsn, size(ordinal, lsn))))).collect();
        if ordinal < PARTITIONS - 1 && end > 40 && dice.roll(8) == 0 {
            entries.push((partition(ordinal), Entry::Trim { below: Lsn(end - 30) }));
        }
        let flush = if ordinal % 2 == 0 { Flush::Now } else { Flush::Soon };
        while let Err(error) = log.append(&entries, flush) {
            assert!(matches!(error, AppendError::Busy { .. }), "{error}");
            log.wait_room();
        }
    }
}

/// Lets it write for a while, kills it, and gives the highest ends it had told of.
fn life(dir: &Path, dice: &mut Dice) -> BTreeMap<(String, i32), u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_reported_survives_a_hundred_kills", "--nocapture"])
        .env(DIR, dir)
        .env(SEED, dice.roll(1 << 30).to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut told, mut left) = (BTreeMap::new(), dice.roll(120) + 1);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // What is in the pipe was told before the kill, too.
        left = left.saturating_sub(1);
        if left == 0 {
            child.kill().unwrap();
        }
        let line = line.unwrap();
        // The kill may have cut a line in half: then it has fewer words, or its number is smaller than it was.
        let words: Vec<_> = line.split(' ').collect();
        if let [name @ ("W" | "D"), ordinal, end] = words[..]
            && let (Ok(ordinal), Ok(end)) = (ordinal.parse::<i32>(), end.parse::<u64>())
        {
            let known = told.entry((name.to_string(), ordinal)).or_insert(0u64);
            *known = end.max(*known);
        }
    }
    child.wait().unwrap();
    told
}

#[test]
fn what_was_reported_survives_a_hundred_kills() {
    if let Some(dir) = std::env::var_os(DIR) {
        let seed = std::env::var(SEED).unwrap().parse().unwrap();
        write_for_ever(Path::new(&dir), Dice(seed));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(20_261_124);
    let mut reported = 0;
    for kill in 0..KILLS {
        let told = life(dir.path(), &mut dice);
        let (log, recovered, _) = open(dir.path(), small());
        assert_ne!(recovered.verdict, Verdict::Damage, "kill {kill}: {:?}", recovered.findings);
        for ((name, ordinal), end) in &told {
            let summary = &recovered.partitions[&partition(*ordinal)];
            assert!(summary.end >= Lsn(*end), "kill {kill}: partition {ordinal} ends at {}, {name} {end}", summary.end);
        }
        for (id, summary) in &recovered.partitions {
            let (ordinal, first, end) = (id.ordinal.0, summary.first.0, summary.end.0);
            let expected: Vec<_> = (first..=end).map(|lsn| record(ordinal, lsn, size(ordinal, lsn))).collect();
            assert!(
                read_all(&log, ordinal, first) == expected,
                "kill {kill}: partition {ordinal} from {first} to {end}"
            );
        }
        reported += told.len();
        log.close().unwrap();
    }
    assert!(reported > KILLS as usize, "only {reported} reports in all");
}
