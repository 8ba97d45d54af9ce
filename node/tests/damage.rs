//! Files that are not what was written to them: answers stay right or are refused, and another replica mends it.

mod playground;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use playground::Playground;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const ROWS: &str = "SELECT COUNT(*), SUM(v), SUM(LENGTH(t)) FROM app.t";
const LEAF: &str = "east-leaf-0";

/// Rows in files of the state, and some in the log alone.
fn start(leaves: u16) -> Playground {
    start_with(leaves, "1d")
}

/// Every replica is read over once in this time.
fn start_with(leaves: u16, scrub_interval: &str) -> Playground {
    let often = |text: &str| {
        let text = text.replace("checkpoint_interval = \"1m\"", "checkpoint_interval = \"1s\"");
        let text = text.replace("scrub_interval = \"1d\"", &format!("scrub_interval = \"{scrub_interval}\""));
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

/// How often people were told of damage in such words.
fn told(region: &Playground, condition: &str) -> u32 {
    let events = format!(
        "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'damage' AND {condition}"
    );
    region.sql(0, &events).parse().expect("it is a number")
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
    let told = || told(&region, "1");
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

/// Nothing of a leaf's log can be read, and nothing tells which partitions it had.
fn spoil_log(region: &Playground, leaf: &str) {
    for path in files(&region.leaf_dir(leaf).join("log"), "seg") {
        let mut bytes = std::fs::read(&path).expect("it can be read");
        bytes.iter_mut().skip(4096).for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, bytes).expect("it can be written");
    }
}

#[test]
fn a_leaf_that_has_lost_its_whole_log_holds_nothing() {
    let region = start(2);
    let wanted = region.sql(0, ROWS);
    region.kill(LEAF);
    spoil_log(&region, LEAF);
    region.start_node(LEAF);
    region.wait("people are told", || told(&region, "1") != 0);
    region.wait_in_sync(0, 3);
    region.kill("east-leaf-1");
    assert_eq!(region.sql(0, ROWS), wanted, "what was rebuilt has everything");
    // Nobody has anything any more: it is refused, at every start.
    region.kill(LEAF);
    [LEAF, "east-leaf-1"].iter().for_each(|leaf| spoil_log(&region, leaf));
    for _ in 0..2 {
        [LEAF, "east-leaf-1"].iter().for_each(|leaf| region.start_node(leaf));
        region.wait("it is refused", || {
            let read = region.try_sql(0, ROWS);
            assert!(!read.status.success(), "{read:?}");
            String::from_utf8_lossy(&read.stderr).contains("9007")
        });
        let copies = || region.sql(0, "SHOW PARTITIONS ON app");
        region.wait("people are told of each copy", || copies().matches("\tdamaged\t").count() == 6);
        assert!(region.sql(0, "SHOW LEAVES").contains("STOP REPLICATING in a region that follows"));
        let restored = region.sql(0, "RESTORE REDUNDANCY ON app; SHOW WARNINGS");
        assert!(restored.contains("are left out"), "nothing is waited for that cannot come: {restored}");
        [LEAF, "east-leaf-1"].iter().for_each(|leaf| region.kill(leaf));
    }
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
    assert_ne!(told(&region, "1"), 0, "people were told");
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
    let one = |id: u32| region.try_sql(0, &format!("SELECT v FROM app.t WHERE id = {id}"));
    let answers: Vec<Output> = (0..20).map(one).collect();
    let (right, wrong): (Vec<_>, Vec<_>) = answers.iter().partition(|output| output.status.success());
    assert!(!right.is_empty(), "the other partition serves: {answers:?}");
    assert!(wrong.iter().all(|output| String::from_utf8_lossy(&output.stderr).contains("9007")), "{answers:?}");
}

/// Not the last record: that would be a torn one, and is fetched again without a word.
#[test]
fn a_bit_of_a_record_in_the_log_that_changes_is_found() {
    let region = start(2);
    for running in [false, true] {
        let needle = format!("needle {running} ").repeat(20);
        let id = 100_000 + u32::from(running);
        region.sql(
            0,
            &format!("INSERT INTO app.t VALUES ({id}, 1, '{needle}'); UPDATE app.t SET v = v + 1 WHERE id < 50"),
        );
        let (wanted, before) = (region.sql(0, ROWS), told(&region, "1"));
        if !running {
            region.kill(LEAF);
        }
        let at = |path: &PathBuf| {
            let bytes = std::fs::read(path).expect("it can be read");
            Some((path.clone(), bytes.windows(needle.len()).position(|found| found == needle.as_bytes())?))
        };
        let found = files(&region.leaf_dir(LEAF).join("log"), "seg").iter().find_map(at);
        let (path, at) = found.expect("the record is in the log");
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("it can be written");
        file.write_at(&[needle.as_bytes()[7] ^ 4], at as u64 + 7).expect("it can be written");
        if !running {
            region.start_node(LEAF);
        }
        mend(&region, &wanted);
        assert!(told(&region, "1") > before, "nobody was told, running: {running}");
    }
    region.kill("east-leaf-1");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t WHERE t LIKE 'needle%'"), "2");
}

/// Rows that are not what was written, under checksums that are right, as after a bug or a hand that helped.
#[test]
fn rows_of_a_copy_that_differ_are_found_and_rebuilt() {
    let region = start_with(2, "5s");
    let wanted = region.sql(0, ROWS);
    let other = if region.primary_of("app", 0) == LEAF { "east-leaf-1" } else { LEAF };
    region.stop_node(other);
    let state = region.leaf_dir(other).join("partitions/1.0");
    let rows = rocksdb::DB::open(&rocksdb::Options::default(), &state).expect("nobody has it open");
    let text = |value: &[u8]| value.windows(100).position(|found| found == [b'x'; 100]);
    let mut all = rows.iterator(rocksdb::IteratorMode::End).map(|entry| entry.expect("it can be read"));
    // Transactions that were prepared have the rows as well.
    let version = types::state::Space::Version as u8;
    let (key, mut value) = all.find(|(key, value)| key[0] == version && text(value).is_some()).expect("there are rows");
    let at = text(&value).expect("it was found by this");
    value[at + 50] = b'y';
    rows.put(key, value).and_then(|()| rows.flush()).expect("it can be written");
    drop(all);
    drop(rows);
    region.start_node(other);
    region.wait_in_sync(0, 3);
    region.wait("the background has told of it", || told(&region, "detail LIKE '%differ%'") > 0);
    assert_eq!(region.sql(0, ROWS), wanted, "the primary answers");
    let checked = region.sql(0, "CHECK DATABASE app");
    let lines: Vec<&str> = checked.lines().filter(|line| line.contains("differ")).collect();
    assert!(lines.iter().any(|line| line.contains("\"id\"") && line.contains("its rows differ")), "{checked}");
    mend(&region, &wanted);
    region.kill(if other == LEAF { "east-leaf-1" } else { LEAF });
    assert_eq!(region.sql(0, ROWS), wanted, "what was rebuilt has the right rows");
}
