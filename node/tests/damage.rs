//! Files that are not what was written to them: answers stay right or are refused, and another replica mends it.

mod playground;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use playground::Playground;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const ROWS: &str = "SELECT COUNT(*), SUM(v), SUM(LENGTH(t)) FROM app.t";
const LEAF: &str = "east-leaf-0";

/// Rows in files of the state, and some in the log alone.
fn start(leaves: u16) -> Playground {
    let often = |text: &str| {
        let text = text.replace("checkpoint_interval = \"1m\"", "checkpoint_interval = \"1s\"");
        text.replace("view_retention = \"10m\"", "view_retention = \"1s\"")
    };
    let region = Playground::start_with(&["east"], leaves, often);
    region.sql(0, "CREATE DATABASE app PARTITIONS 2; CREATE TABLE app.t (id INT PRIMARY KEY, v INT, t VARCHAR(2000))");
    for batch in 0..20 {
        let rows: Vec<String> =
            (0..100).map(|id| format!("({},{id},'{}')", batch * 100 + id, "x".repeat(1000))).collect();
        region.sql(0, &format!("INSERT INTO app.t VALUES {}", rows.join(",")));
    }
    region.wait("the state is in files", || !files(&region.leaf_dir(LEAF).join("partitions"), "sst").is_empty());
    // The log is trimmed behind the files, so that they cannot be made anew from it.
    std::thread::sleep(std::time::Duration::from_secs(18));
    region.sql(0, "UPDATE app.t SET v = v + 1 WHERE id < 100");
    region
}

fn files(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |path: PathBuf| match path.is_dir() {
        true => files(&path, kind),
        false => path.extension().filter(|found| *found == kind).map(|_| path.clone()).into_iter().collect(),
    };
    entries.flat_map(|entry| of(entry.path())).collect()
}

/// Changes a byte in each few kilobytes of what was written of a file.
fn flip(path: &Path, seed: u64) {
    let mut bytes = std::fs::read(path).expect("it can be read");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut at = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % 4096;
    while at < end {
        bytes[at] ^= 0x40;
        at += 3000 + at % 2000;
    }
    std::fs::write(path, bytes).expect("it can be written");
}

/// Changes one bit of what was written of a file, in place, under whoever has it open.
fn flip_one(path: &Path, random: &mut StdRng) -> usize {
    let bytes = std::fs::read(path).expect("it can be read");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let at = random.random_range(0..end.max(1));
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("it can be written");
    file.write_at(&[bytes[at] ^ 1 << random.random_range(0..8)], at as u64).expect("it can be written");
    at
}

/// CHECK DATABASE … REPAIR until every copy of every partition is whole; what is answered meanwhile is right.
fn mend(region: &Playground, wanted: &str) {
    region.wait("every copy is whole again", || {
        let checked = region.try_sql(0, "CHECK DATABASE app REPAIR");
        assert_eq!(region.sql(0, ROWS), wanted, "what is answered is right");
        let text = String::from_utf8_lossy(&checked.stdout).to_string();
        let copies = text.lines().filter(|line| line.starts_with("NULL") && line.split('\t').nth(5) == Some("0"));
        copies.count() == 6 && !text.lines().any(|line| line.split('\t').nth(5) == Some("1"))
    });
    region.wait_in_sync(0, 3);
}

#[test]
fn single_bits_that_change_are_found_and_mended() {
    let region = start(2);
    let wanted = region.sql(0, ROWS);
    let told = || {
        let events = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'damage'";
        region.sql(0, events).parse::<u32>().expect("it is a number")
    };
    for seed in 0..12 {
        let mut random = StdRng::seed_from_u64(seed);
        let (kind, below) = if seed % 2 == 0 { ("sst", "partitions") } else { ("seg", "log") };
        let running = seed % 4 < 2;
        let before = told();
        if !running {
            region.kill(LEAF);
        }
        let found = files(&region.leaf_dir(LEAF).join(below), kind);
        let path = found.choose(&mut random).expect("there are some");
        let at = flip_one(path, &mut random);
        let what = format!("{} at {at}, {}", path.display(), if running { "running" } else { "stopped" });
        if !running {
            region.start_node(LEAF);
        }
        mend(&region, &wanted);
        // A segment has bytes that no replica needs any more, and a file may have been merged into others.
        assert!(kind == "seg" || told() > before || !path.exists(), "nobody was told: {what}");
        println!("{what}: {} told", told() - before);
    }
    // What a running process has in memory is read from its disk.
    region.kill(LEAF);
    region.start_node(LEAF);
    mend(&region, &wanted);
    region.kill("east-leaf-1");
    assert_eq!(region.sql(0, ROWS), wanted, "what was rebuilt has everything");
}

#[test]
fn a_damaged_state_is_rebuilt_from_another_replica() {
    let region = start(2);
    let wanted = region.sql(0, ROWS);
    region.kill(LEAF);
    let damaged = files(&region.leaf_dir(LEAF).join("partitions"), "sst");
    assert!(!damaged.is_empty());
    damaged.iter().enumerate().for_each(|(seed, path)| flip(path, seed as u64));
    region.start_node(LEAF);
    // Reading everything finds the damage, and the rebuilt copy is equal.
    region.wait("every copy is whole again", || {
        let checked = region.try_sql(0, "CHECK DATABASE app REPAIR");
        assert_eq!(region.sql(0, ROWS), wanted, "what is answered is right");
        let text = String::from_utf8_lossy(&checked.stdout).to_string();
        let copies = text.lines().filter(|line| line.starts_with("NULL") && line.split('\t').nth(5) == Some("0"));
        copies.count() == 6 && !text.lines().any(|line| line.split('\t').nth(5) == Some("1"))
    });
    region.wait_in_sync(0, 3);
    region.kill("east-leaf-1");
    assert_eq!(region.sql(0, ROWS), wanted, "what was rebuilt has everything");
    let events = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'damage'";
    assert_ne!(region.sql(0, events), "0", "people were told");
}

#[test]
fn a_damaged_log_is_never_served() {
    let region = start(2);
    let wanted = region.sql(0, ROWS);
    region.kill(LEAF);
    files(&region.leaf_dir(LEAF).join("log"), "seg").iter().for_each(|path| flip(path, 7));
    region.start_node(LEAF);
    // A process that starts is a member on paper until it has said that it is damaged.
    let events = "SELECT COUNT(*), SUM(detail LIKE '%rebuilt%') FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'damage'";
    region.wait("what is damaged is rebuilt", || {
        let told: Vec<u32> = region.sql(0, events).split('\t').filter_map(|count| count.parse().ok()).collect();
        matches!(told[..], [all, rebuilt] if rebuilt > 0 && all == 2 * rebuilt)
    });
    region.wait_in_sync(0, 3);
    assert_eq!(region.sql(0, ROWS), wanted);
    region.kill("east-leaf-1");
    assert_eq!(region.sql(0, ROWS), wanted, "what was rebuilt has everything");
}

#[test]
fn the_last_copy_answers_right_or_not_at_all() {
    let region = start(1);
    let wanted = region.sql(0, ROWS);
    region.kill(LEAF);
    let damaged = files(&region.leaf_dir(LEAF).join("partitions"), "sst");
    damaged.iter().filter(|path| path.to_string_lossy().contains(".0")).for_each(|path| flip(path, 3));
    region.start_node(LEAF);
    let refused = |text: &str| {
        let output = region.try_sql(0, text);
        let right = output.stdout.trim_ascii_end() == wanted.as_bytes();
        assert!(!output.status.success() || right, "wrong rows: {output:?}");
        String::from_utf8_lossy(&output.stderr).contains("9007")
    };
    region.wait("it is refused with 9007", || refused(ROWS));
}
