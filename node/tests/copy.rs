//! A replica that the log cannot bring along copies the state: with real processes, killed on the way.

mod playground;

use std::path::{Path, PathBuf};
use std::time::Duration;

use playground::Playground;

const LEAF: &str = "east-leaf-1";
const OTHER: &str = "east-leaf-0";
const ROWS: &str = "SELECT COUNT(*), SUM(id), MIN(v), MAX(v), SUM(LENGTH(v)) FROM app.t";

/// Regions of two leaves that do not feed more than fifty records to one that has none, and a database of one partition
/// in the first.
fn regions(names: &[&str]) -> Playground {
    let edit = |text: &str| text.replace("copy_records_min = 100000", "copy_records_min = 50");
    let region = Playground::start_with(names, 2, edit);
    region.sql(0, "CREATE DATABASE app PARTITIONS 1; CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(600))");
    region
}

/// Rows in a single transaction each: a record each.
fn insert(region: &Playground, ids: std::ops::Range<u32>) {
    let statements: Vec<String> = ids.map(|id| format!("INSERT INTO app.t VALUES ({id}, 'row {id}')")).collect();
    region.sql(0, &statements.join(";"));
}

/// What a fingerprint of all rows is, at whoever is the primary now.
fn rows(region: &Playground) -> String {
    region.sql(0, ROWS)
}

fn lose_everything(region: &Playground) {
    std::fs::remove_dir_all(region.leaf_dir(LEAF)).expect("the leaf has a directory");
}

#[test]
fn a_leaf_that_lost_its_data_copies_it() {
    let region = regions(&["east"]);
    insert(&region, 0..200);
    let before = rows(&region);
    region.stop_node(LEAF);
    lose_everything(&region);
    insert(&region, 200..220);
    let after = rows(&region);
    assert_ne!(before, after);
    region.start_node(LEAF);
    region.wait_in_sync(0, 2);
    region.wait("the leaf says that it has copied", || region.metric(LEAF, "perennial_copy_taken_bytes") > 0);
    region.wait("the other one says so, too", || region.metric(OTHER, "perennial_copy_sent_bytes") > 0);
    assert_eq!(under_way(&region, LEAF), Vec::<PathBuf>::new(), "nothing is left of what came in");
    assert_eq!(under_way(&region, OTHER), Vec::<PathBuf>::new(), "nor of what was sent");
    // What is written from now on goes through the log, and lands on what was copied.
    insert(&region, 220..240);
    let whole = rows(&region);
    region.kill(OTHER);
    assert_eq!(rows(&region), whole, "the copy has everything");
    insert(&region, 240..250);
    let last = rows(&region);
    // Its log begins behind the copy: the one that comes back goes on where its own log ends.
    region.start_node(OTHER);
    region.wait_in_sync(0, 2);
    region.kill(LEAF);
    assert_eq!(rows(&region), last);
    // And a copy survives a restart.
    region.start_node(LEAF);
    region.wait_in_sync(0, 2);
    region.kill(OTHER);
    assert_eq!(rows(&region), last);
}

/// A follower that stays away does not fill the disks of the others.
#[test]
fn history_is_kept_for_a_leaf_that_is_away_up_to_a_limit() {
    let often = |text: &str| text.replace("checkpoint_interval = \"1m\"", "checkpoint_interval = \"1s\"");
    let region = Playground::start_with(&["east"], 2, often);
    region.sql(
        0,
        "CREATE DATABASE app PARTITIONS 1 OPTIONS (failback_retention_bytes = '1MB');
         CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(600))",
    );
    insert(&region, 0..10);
    region.kill(LEAF);
    let long = "x".repeat(500);
    for batch in 0..40 {
        let some: Vec<String> = (0..100).map(|id| format!("({},'{long}')", 100 + batch * 100 + id)).collect();
        region.sql(0, &format!("INSERT INTO app.t VALUES {}", some.join(",")));
    }
    let told = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'retention'";
    region.wait("people are told that it will need a copy", || region.sql(0, told) != "0");
    let whole = rows(&region);
    region.start_node(LEAF);
    region.wait_in_sync(0, 2);
    region.kill(OTHER);
    assert_eq!(rows(&region), whole, "by the log, if the rest of it had not gone yet, or by a copy");
}

#[test]
fn a_leaf_that_is_killed_while_it_copies_copies_again() {
    let region = regions(&["east"]);
    let file = region.leaf_dir(OTHER).join("rows.csv");
    std::fs::write(&file, text(40_000)).expect("a file can be written");
    let load = format!("LOAD DATA LOCAL INFILE '{}' INTO TABLE app.t FIELDS TERMINATED BY ','", file.display());
    region.sql(0, &load);
    insert(&region, 50_000..50_100);
    let whole = rows(&region);
    region.stop_node(LEAF);
    lose_everything(&region);
    let seen = std::cell::Cell::new(0);
    // Three times it is killed with part of the copy there: at once, later, and late.
    for least in [1, 1 << 20, 4 << 20] {
        region.start_node(LEAF);
        region.watch("part of the copy is there, or all of it", || {
            let coming = size(&region.leaf_dir(LEAF).join("copies"));
            seen.set(seen.get() + u32::from(coming >= least));
            coming >= least || is_copied(&region)
        });
        region.kill(LEAF);
        assert_eq!(rows(&region), whole, "the other leaf has everything");
    }
    assert!(seen.get() > 0, "it was never killed while it copied");
    region.start_node(LEAF);
    region.wait_in_sync(0, 2);
    region.kill(OTHER);
    assert_eq!(rows(&region), whole, "what was copied at last is whole");
}

#[test]
fn a_sink_of_a_long_log_copies_it_over_the_link() {
    let pair = regions(&["east", "west"]);
    insert(&pair, 0..300);
    let order = format!("REPLICATE DATABASE app FROM root@127.0.0.1:{}/app", pair.port(0));
    assert!(pair.sql(1, &order).starts_with("app\tfull"));
    let arrives = |what: &str| {
        let wanted = rows(&pair);
        pair.wait(what, || pair.try_sql(1, ROWS).stdout.trim_ascii_end() == wanted.as_bytes());
    };
    arrives("the sink shows its source");
    let both = || pair.wait_in_sync(1, 2);
    both();
    for leaf in ["west-leaf-0", "west-leaf-1"] {
        // One has copied over the link, the other one from that.
        pair.wait("the leaf says that it has copied", || pair.metric(leaf, "perennial_copy_taken_bytes") > 0);
    }
    // Records go on behind the copy, at either leaf.
    insert(&pair, 300..320);
    arrives("what was written later is there");
    pair.kill("west-leaf-0");
    insert(&pair, 320..340);
    arrives("the other leaf goes on");
    pair.start_node("west-leaf-0");
    both();
    pair.kill("west-leaf-1");
    insert(&pair, 340..360);
    arrives("and this one");
}

/// The log of the other region does not reach back to where the histories parted: its state is copied. What only this
/// one has is kept.
#[test]
fn what_a_copy_of_another_history_replaces_is_set_aside() {
    let often = |text: &str| text.replace("checkpoint_interval = \"1m\"", "checkpoint_interval = \"1s\"");
    let pair = Playground::start_with(&["east", "west"], 2, often);
    pair.sql(
        0,
        "CREATE DATABASE app PARTITIONS 1 OPTIONS (failback_retention_bytes = '1MB');
         CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(600))",
    );
    insert(&pair, 0..20);
    pair.sql(1, &format!("REPLICATE DATABASE app FROM root@127.0.0.1:{}/app", pair.port(0)));
    let shared = rows(&pair);
    pair.wait("the sink shows its source", || pair.try_sql(1, ROWS).stdout.trim_ascii_end() == shared.as_bytes());
    // What east alone has: the claim must find it when it comes back.
    pair.sql(1, "PAUSE REPLICATING app");
    // What is on its way when that is said still arrives.
    let probes = std::cell::Cell::new(0);
    pair.wait("nothing arrives any more", || {
        insert(&pair, 900 + probes.get()..901 + probes.get());
        probes.set(probes.get() + 1);
        std::thread::sleep(Duration::from_millis(300));
        pair.sql(1, "SELECT COUNT(*) FROM app.t WHERE id BETWEEN 900 AND 999") != probes.get().to_string()
    });
    insert(&pair, 1000..1010);
    pair.sql(0, "UPDATE app.t SET v = 'east alone' WHERE id = 3");
    pair.sql(1, "STOP REPLICATING app");
    let arrived = "SELECT COUNT(*) FROM app.t WHERE id BETWEEN 900 AND 1009 OR v = 'east alone'";
    let alone = probes.get() as usize + 11 - pair.sql(1, arrived).parse::<usize>().expect("it is a number");
    assert!(alone > 11, "what was written after the pause had arrived");
    pair.sql(1, "ALTER DATABASE app SET OPTIONS (failback_retention_bytes = '1MB')");
    let long = "x".repeat(500);
    for batch in 0..40 {
        let some: Vec<String> = (0..100).map(|id| format!("({},'{long}')", 2000 + batch * 100 + id)).collect();
        pair.sql(1, &format!("INSERT INTO app.t VALUES {}", some.join(",")));
    }
    let told = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'retention'";
    pair.wait("the limit is reached", || pair.sql(1, told) != "0");
    // A leaf trims about every ten seconds.
    std::thread::sleep(Duration::from_secs(13));
    let order = format!("REPLICATE DATABASE app WITH FORCE DIFFERENTIAL FROM root@127.0.0.1:{}/app", pair.port(1));
    pair.sql(0, &order);
    let wanted = pair.sql(1, ROWS);
    pair.wait("the other history is here", || pair.try_sql(0, ROWS).stdout.trim_ascii_end() == wanted.as_bytes());
    let copied = |leaf: &str| pair.metric(leaf, "perennial_copy_taken_bytes");
    assert!(copied("east-leaf-0") + copied("east-leaf-1") > 0, "it came by the log");
    let listed = pair.sql(0, "SHOW DIVERGENCE FOR app");
    let fields: Vec<&str> = listed.split('\t').collect();
    assert_eq!(fields[6..8], [alone.to_string(), alone.to_string()], "{listed}");
    let records = pair.sql(0, &format!("SHOW DIVERGENCE RECORDS '{}'", fields[0]));
    assert_eq!(records.matches("\tinsert\t").count(), alone - 1, "{records}");
    assert!(records.contains("row 3") && records.contains("east alone"), "before and after: {records}");
}

/// Rows of digits that do not compress to nothing.
fn text(rows: u32) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut text = String::new();
    for id in 0..rows {
        text += &format!("{id},");
        for _ in 0..30 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text += &format!("{state:016x}");
        }
        text.push('\n');
    }
    text
}

/// A copy was put in the place of the empty state.
fn is_copied(region: &Playground) -> bool {
    let states = std::fs::read_dir(region.leaf_dir(LEAF).join("partitions"));
    states.into_iter().flatten().flatten().any(|state| state.file_name().to_string_lossy().ends_with(".0-1"))
}

fn under_way(region: &Playground, leaf: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(region.leaf_dir(leaf).join("copies"));
    entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Bytes of all files in a directory and below.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.metadata().map_or(0, |m| if m.is_dir() { size(&entry.path()) } else { m.len() })).sum()
}
