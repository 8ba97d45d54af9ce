//! Several aggregators in a region, as real processes: any of them takes any statement, the loss of one stops nothing, and
//! without a majority nothing is decided.

mod playground;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use playground::Playground;

fn error(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Writes rows one after the other through one aggregator until told to stop, each until it is there: how many, and the
/// longest time one took.
fn write(playground: &Playground, aggregator: usize, first: u64, stop: &AtomicBool) -> (u64, Duration) {
    let (mut id, mut longest) = (first, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        loop {
            let insert = format!("INSERT INTO app.t VALUES ({id}, {id})");
            let output = playground.try_sql_at(0, aggregator, &insert);
            // 1062: an earlier attempt, whose outcome was unknown, had been committed.
            if output.status.success() || error(&output).contains("1062") {
                break;
            }
            assert!(begun.elapsed() < playground::PATIENCE, "no write gets through: {}", error(&output));
        }
        longest = longest.max(begun.elapsed());
        id += 1;
    }
    (id - first, longest)
}

#[test]
fn any_aggregator_takes_any_statement_and_sees_what_others_did() {
    let region = Playground::start_group(&["east"], 3, 2);
    let master = region.master(0, 0);
    let (one, other) = ((master + 1) % 3, (master + 2) % 3);
    region.sql_at(0, one, "CREATE DATABASE app PARTITIONS 4");
    region.sql_at(0, one, "CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql_at(0, other, "INSERT INTO app.t VALUES (1, 10), (2, 20), (3, 30)");
    assert_eq!(region.sql_at(0, one, "SELECT SUM(v) FROM app.t"), "60");
    assert_eq!(region.sql_at(0, master, "SELECT v FROM app.t WHERE id = 2"), "20");
    // Definitions that others remember are forgotten.
    for round in 0..5 {
        let (here, there) = (round % 3, (round + 1) % 3);
        region.sql_at(0, here, "DROP TABLE app.t");
        region.sql_at(0, here, &format!("CREATE TABLE app.t (id INT PRIMARY KEY, v{round} INT)"));
        region.sql_at(0, there, &format!("INSERT INTO app.t (id, v{round}) VALUES (1, {round})"));
        assert_eq!(region.sql_at(0, master, &format!("SELECT v{round} FROM app.t")), round.to_string());
    }
    // A fence stops and counts the writes of all of them.
    let mut open = playground::Session::open_at(&region, 0, other);
    open.say("USE app; BEGIN; INSERT INTO t VALUES (7, 7); SELECT 'begun';");
    open.hear("begun");
    let begun = Instant::now();
    let fenced = region.sql_at(0, one, "FLUSH TABLES ON app WITH READ ONLY TIMEOUT '1s'");
    assert!(fenced.starts_with("app\t"), "{fenced}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "the other aggregator's transaction was waited for");
    open.say("COMMIT;");
    assert!(open.hear_error().contains("1213"), "the timeout has rolled it back");
    let refused = region.try_sql_at(0, other, "INSERT INTO app.t VALUES (8, 8)");
    assert!(error(&refused).contains("1290"), "{refused:?}");
    region.sql_at(0, other, "UNLOCK TABLES ON app");
    region.sql_at(0, one, "INSERT INTO app.t VALUES (8, 8)");
    assert_eq!(region.sql_at(0, other, "SELECT COUNT(*) FROM app.t"), "2");
}

/// Writes through an aggregator that is not the master, while something happens to the master. Returns the master, and how
/// many rows there are then.
fn lose_master(region: &Playground, first: u64, what: impl Fn(&str)) -> (usize, u64) {
    let master = region.master(0, 0);
    let (survivor, stop) = ((master + 1) % 3, AtomicBool::new(false));
    let (written, longest) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| write(region, survivor, first, &stop));
        std::thread::sleep(Duration::from_millis(500));
        what(&format!("east-aggregator-{master}"));
        std::thread::sleep(Duration::from_secs(4));
        stop.store(true, Ordering::Relaxed);
        writing.join().expect("the writer does not panic")
    });
    println!("{written} rows written over the loss of the master, the longest pause was {longest:?}");
    let total = first + written;
    let sums = format!("{total}\t{}", total * (total - 1) / 2);
    assert_eq!(region.sql_at(0, survivor, "SELECT COUNT(*), SUM(v) FROM app.t"), sums, "nothing acknowledged is lost");
    assert_ne!(region.master(0, survivor), master);
    (master, total)
}

#[test]
fn writes_go_on_when_the_master_dies_and_nothing_acknowledged_is_lost() {
    let region = Playground::start_group(&["east"], 3, 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    let mut total = 0;
    for _ in 0..2 {
        let (master, rows) = lose_master(&region, total, |name| region.kill(name));
        total = rows;
        region.start_node(&format!("east-aggregator-{master}"));
        region.wait("it belongs to them again", || region.voters(0, master) == 3);
        assert_eq!(region.sql_at(0, master, "SELECT COUNT(*) FROM app.t"), total.to_string());
    }
    // One that is silent is no longer the master, and finds that out when it wakes.
    let (master, total) = lose_master(&region, total, |name| region.signal(name, "STOP"));
    region.signal(&format!("east-aggregator-{master}"), "CONT");
    region.wait("it belongs to them again", || region.voters(0, master) == 3);
    assert_eq!(region.sql_at(0, master, "SELECT COUNT(*) FROM app.t"), total.to_string());
    let failovers = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'failover'";
    assert_eq!(region.sql(0, failovers), "0", "no leaf was lost, and no new master thought so");
}

#[test]
fn everything_is_killed_and_goes_on_by_itself() {
    let region = Playground::start_group(&["east"], 3, 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql(0, "INSERT INTO app.t VALUES (1, 10), (2, 20), (3, 30)");
    let leaves = ["east-leaf-0", "east-leaf-1"].map(String::from);
    let nodes: Vec<String> = (0..3).map(|j| format!("east-aggregator-{j}")).chain(leaves).collect();
    nodes.iter().for_each(|node| region.kill(node));
    nodes.iter().rev().for_each(|node| region.start_node(node));
    let write = "REPLACE INTO app.t VALUES (4, 40)";
    region.wait("it serves again", || region.try_sql_at(0, 2, write).status.success());
    for aggregator in 0..3 {
        assert_eq!(region.sql_at(0, aggregator, "SELECT COUNT(*), SUM(v) FROM app.t"), "4\t100");
    }
}

#[test]
fn one_that_lost_its_disk_is_not_taken_for_what_it_was() {
    let region = Playground::start_group(&["east"], 3, 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 2; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    // The founder: it must not found a second region either.
    region.stop_node("east-aggregator-0");
    let data = region.leaf_dir("east-aggregator-0").parent().expect("it is a folder within").to_path_buf();
    std::fs::remove_dir_all(&data).expect("a stopped node's data can be removed");
    region.start_node("east-aggregator-0");
    std::thread::sleep(Duration::from_secs(2));
    region.sql_at(0, 1, "INSERT INTO app.t VALUES (1, 10)");
    assert_eq!(region.voters(0, 1), 2, "it votes no more");
    assert!(!region.try_sql_at(0, 0, "SELECT * FROM app.t").status.success(), "it knows nothing");
    region.sql_at(0, 1, &format!("REMOVE AGGREGATOR '127.0.0.1:{}'", region.port_of(0, 0)));
    region.add_node("east", "aggregator");
    region.sql_at(0, 1, &format!("ADD AGGREGATOR '127.0.0.1:{}'", region.port_of(0, 3)));
    region.wait("three vote again", || region.voters(0, 1) == 3);
    assert_eq!(region.sql_at(0, 3, "SELECT * FROM app.t"), "1\t10");
}

#[test]
fn one_that_was_away_serves_nobody_before_it_knows_what_was_made_meanwhile() {
    let region = Playground::start_group(&["east"], 3, 2);
    let away = region.master(0, 0);
    region.kill(&format!("east-aggregator-{away}"));
    let other = (away + 1) % 3;
    let make = "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)";
    region.wait("it is made", || region.try_sql_at(0, other, make).status.success());
    region.sql_at(0, other, "INSERT INTO app.t VALUES (1, 10)");
    region.start_node(&format!("east-aggregator-{away}"));
    assert_eq!(region.sql_at(0, away, "SELECT v FROM app.t WHERE id = 1"), "10");
}

#[test]
fn without_a_majority_reads_of_one_partition_go_on_and_the_rest_names_the_missing() {
    let region = Playground::start_group(&["east"], 3, 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql(0, "INSERT INTO app.t VALUES (1, 10), (2, 20), (3, 30)");
    let last = (region.master(0, 0) + 1) % 3;
    let gone: Vec<usize> = (0..3).filter(|j| *j != last).collect();
    let missing: Vec<String> = gone.iter().map(|j| format!("127.0.0.1:{}", region.port_of(0, *j))).collect();
    for j in &gone {
        region.kill(&format!("east-aggregator-{j}"));
    }
    let reads = || {
        assert_eq!(region.sql_at(0, last, "SELECT v FROM app.t WHERE id = 2"), "20");
        assert_eq!(region.sql_at(0, last, "SELECT MAX(v), COUNT(*) FROM app.t WHERE id = 2 AND v > 10"), "20\t1");
    };
    reads();
    for statement in ["INSERT INTO app.t VALUES (4, 40)", "SELECT COUNT(*) FROM app.t", "CREATE DATABASE other"] {
        let refused = error(&region.try_sql_at(0, last, statement));
        let named = missing.iter().all(|address| refused.contains(address));
        assert!(refused.contains("9005") && named, "{statement}: {refused}");
        reads();
    }
    let seen = region.sql_at(0, last, "SHOW AGGREGATORS");
    assert_eq!(seen.matches("offline").count(), 2, "{seen}");
    region.start_node(&format!("east-aggregator-{}", gone[0]));
    region.wait("writes go on", || region.try_sql_at(0, last, "REPLACE INTO app.t VALUES (4, 40)").status.success());
    assert_eq!(region.sql_at(0, gone[0], "SELECT COUNT(*), SUM(v) FROM app.t"), "4\t100");
    region.start_node(&format!("east-aggregator-{}", gone[1]));
    region.wait("all are there", || region.voters(0, gone[1]) == 3);
}

/// A commit that was sent while the majority froze waits for a timestamp that nobody gives: it is taken back, and its client
/// knows that.
#[test]
fn what_waits_for_its_timestamp_when_the_majority_freezes_is_taken_back() {
    let region = Playground::start_group(&["east"], 3, 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql(0, "INSERT INTO app.t VALUES (1, 10), (2, 20), (3, 30)");
    let last = (region.master(0, 0) + 1) % 3;
    let frozen: Vec<String> = (0..3).filter(|j| *j != last).map(|j| format!("east-aggregator-{j}")).collect();
    let mut sessions = ["(4, 40)", "(5, 50), (6, 60), (7, 70), (8, 80), (9, 90)"].map(|rows| {
        let mut session = playground::Session::open_at(&region, 0, last);
        session.say(&format!("USE app; BEGIN; INSERT INTO t VALUES {rows}; SELECT 'written';"));
        session.hear("written");
        session
    });
    frozen.iter().for_each(|name| region.signal(name, "STOP"));
    sessions.iter_mut().for_each(|session| session.say("COMMIT;"));
    for session in &mut sessions {
        let refused = session.hear_error();
        assert!(refused.contains("9005") && refused.contains("rolled back"), "{refused}");
    }
    frozen.iter().for_each(|name| region.signal(name, "CONT"));
    let write = "INSERT INTO app.t VALUES (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1)";
    region.wait("their locks are given back", || region.try_sql_at(0, last, write).status.success());
    assert_eq!(region.sql_at(0, last, "SELECT COUNT(*), SUM(v) FROM app.t"), "9\t66");
}

#[test]
fn aggregators_are_added_promoted_and_removed_by_sql() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 2; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql(0, "INSERT INTO app.t VALUES (1, 10)");
    let leaf = region.json()["regions"][0]["leaves"][0]["addr"].as_str().expect("it has one").to_string();
    for address in ["127.0.0.1:1", "nowhere", &leaf] {
        let unknown = error(&region.try_sql(0, &format!("ADD AGGREGATOR '{address}'")));
        assert!(unknown.contains("has announced itself") && unknown.contains("1210"), "{unknown}");
    }
    for j in 1..3 {
        region.add_node("east", "aggregator");
        let port = region.port_of(0, j);
        let add = format!("ADD AGGREGATOR '127.0.0.1:{port}'");
        let login = error(&region.try_sql_at(0, j, "SELECT 1"));
        assert!(login.contains("1053") && login.contains("ADD AGGREGATOR"), "{login}");
        let early = error(&region.try_sql(0, &format!("PROMOTE AGGREGATOR '127.0.0.1:{port}' TO MASTER")));
        assert!(early.contains("1210") && early.contains("does not belong to the region"), "{early}");
        let row = format!("{}\t127.0.0.1\t{port}\tvoter", 3 + j);
        assert_eq!(region.sql(0, &add), row);
        assert_eq!(region.sql(0, &add), row, "repeated");
        assert_eq!(region.sql_at(0, j, "SELECT v FROM app.t WHERE id = 1"), "10");
    }
    region.wait("three vote", || region.voters(0, 0) == 3);
    for (asked, next) in [(0, 1), (0, 2), (1, 2), (2, 0)] {
        let port = region.port_of(0, next);
        let promote = format!("PROMOTE AGGREGATOR '127.0.0.1:{port}' TO MASTER; SHOW AGGREGATORS");
        let done = region.sql_at(0, asked, &promote);
        assert!(done.contains(&format!("{port}\tmaster")), "{done}");
        assert!(done.matches("\tonline\t").count() == 3, "all of them are there: {done}");
        assert_eq!(region.master(0, asked), next);
        region.sql_at(0, asked, "REPLACE INTO app.t VALUES (2, 20)");
        let added = region.sql_at(0, asked, &format!("ADD AGGREGATOR '127.0.0.1:{port}'"));
        assert_eq!(Some(&*added), done.lines().next(), "it belongs to them, and leads");
    }
    region.kill("east-aggregator-2");
    let states = || region.sql(0, "SELECT state FROM information_schema.PERENNIAL_AGGREGATORS");
    region.wait("it is missed", || states().matches("offline").count() == 1);
    let promote = format!("PROMOTE AGGREGATOR '127.0.0.1:{}' TO MASTER", region.port_of(0, 2));
    let offline = error(&region.try_sql_at(0, 1, &promote));
    assert!(offline.contains("is offline"), "{offline}");
    region.start_node("east-aggregator-2");
    region.wait("three vote again", || region.voters(0, 0) == 3);
    let founder = region.port_of(0, 0);
    let removed = region.sql_at(0, 1, &format!("REMOVE AGGREGATOR '127.0.0.1:{founder}'"));
    assert_eq!(removed, format!("1\t127.0.0.1\t{founder}\tremoved"));
    assert_eq!(region.sql_at(0, 1, &format!("REMOVE AGGREGATOR 'localhost:{founder}'")), removed, "repeated");
    // What it knows is of the past: it says so, whatever it is asked, and names the others.
    let others = [1, 2].map(|j| format!("127.0.0.1:{}", region.port_of(0, j)));
    let expect_refusal = |statement: &str| {
        let refused = error(&region.try_sql_at(0, 0, statement));
        let named = others.iter().all(|other| refused.contains(other));
        assert!(refused.contains("1053") && refused.contains("was removed") && named, "{statement}: {refused}");
    };
    region.wait("it has heard of it", || error(&region.try_sql_at(0, 0, "SELECT 1")).contains("was removed"));
    for statement in ["SHOW AGGREGATORS", "SELECT v FROM app.t WHERE id = 1", "INSERT INTO app.t VALUES (9, 9)"] {
        expect_refusal(statement);
    }
    region.stop_node("east-aggregator-0");
    region.start_node("east-aggregator-0");
    expect_refusal("SELECT v FROM app.t WHERE id = 1");
    region.stop_node("east-aggregator-0");
    assert_ne!(region.master(0, 1), 0);
    region.sql_at(0, 1, "INSERT INTO app.t VALUES (3, 30)");
    assert_eq!(region.sql_at(0, 2, "SELECT COUNT(*), SUM(v) FROM app.t"), "3\t60");
    // It knows from its disk that it was removed. It turned round and round then, and did not end when it was told to.
    region.start_node("east-aggregator-0");
    region.stop_node("east-aggregator-0");
}

#[test]
fn streams_between_regions_go_on_over_the_death_of_the_master_on_either_side() {
    let regions = Playground::start_group(&["east", "west"], 3, 2);
    regions.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    regions.sql(0, "INSERT INTO app.t VALUES (1, 1), (2, 2), (3, 3)");
    // Asked by one that is not the master, at one that is not the master.
    let (source, sink) = ((regions.master(0, 0) + 1) % 3, (regions.master(1, 0) + 1) % 3);
    let replicate = format!("REPLICATE DATABASE app FROM root@127.0.0.1:{}", regions.port_of(0, source));
    let done = regions.sql_at(1, sink, &replicate);
    assert!(done.starts_with("app\tfull"), "{done}");
    let count = |region: usize, at: usize| {
        let output = regions.try_sql_at(region, at, "SELECT COUNT(*) FROM app.t");
        String::from_utf8_lossy(&output.stdout).trim().to_string()
    };
    assert_eq!(count(1, sink), "3");
    let checked = regions.sql_at(1, sink, "CHECK DATABASE app");
    let primaries: Vec<&str> = checked.lines().filter(|line| line.starts_with("t\t")).collect();
    let rows = primaries.iter().map(|line| line.split('\t').nth(3).and_then(|rows| rows.parse::<u64>().ok()));
    assert_eq!(rows.sum::<Option<u64>>(), Some(6), "three rows at two copies: {checked}");
    for (region, name, rows) in [(0, "east", 4), (1, "west", 5)] {
        let master = regions.master(region, if region == 0 { source } else { sink });
        regions.kill(&format!("{name}-aggregator-{master}"));
        let lives = |of: usize, j: &usize| of != region || *j != master;
        let at = (0..3).find(|j| lives(0, j)).expect("two run");
        let insert = format!("REPLACE INTO app.t VALUES ({rows}, {rows})");
        regions.wait("writes go on", || regions.try_sql_at(0, at, &insert).status.success());
        let there = (0..3).find(|j| lives(1, j)).expect("two run");
        regions.wait("the sink gets them", || count(1, there) == rows.to_string());
        regions.start_node(&format!("{name}-aggregator-{master}"));
        regions.wait("three vote", || regions.voters(region, master) == 3);
    }
    // The aggregator that REPLICATE named is away: the sink knows the others.
    regions.kill(&format!("east-aggregator-{source}"));
    let other = (source + 1) % 3;
    regions.wait("writes go on", || regions.try_sql_at(0, other, "REPLACE INTO app.t VALUES (6, 6)").status.success());
    regions.wait("the sink gets them", || count(1, sink) == "6");
    let promoted = regions.sql_at(1, (sink + 1) % 3, "STOP REPLICATING app");
    assert!(promoted.starts_with("app\t"), "{promoted}");
    regions.sql_at(1, sink, "INSERT INTO app.t VALUES (7, 7)");
    regions.wait("the claim is told", || {
        error(&regions.try_sql_at(0, other, "INSERT INTO app.t VALUES (8, 8)")).contains("1290")
    });
}

/// An INSERT that was planned before a TRUNCATE and committed after it would be lost in the table that is gone.
#[test]
fn rows_are_not_lost_in_tables_that_others_have_emptied() {
    let region = Playground::start_group(&["east"], 3, 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    let (begun, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let write = &|aggregator: usize| {
        while !stop.load(Ordering::SeqCst) {
            let id = begun.fetch_add(2, Ordering::SeqCst);
            // On two partitions, most often.
            let insert = format!("INSERT INTO app.t VALUES ({id}, 0), ({}, 0)", id + 1);
            let output = region.try_sql_at(0, aggregator, &insert);
            assert!(output.status.success(), "{id}: {}", error(&output));
        }
    };
    std::thread::scope(|scope| {
        let writers = [0, 1].map(|aggregator| scope.spawn(move || write(aggregator)));
        let mut last = 0;
        for round in 0..12 {
            std::thread::sleep(Duration::from_millis(100));
            if round == 6 {
                // New reigns know nothing of definitions.
                region.kill("east-leaf-1");
                region.start_node("east-leaf-1");
            }
            region.sql_at(0, 2, "TRUNCATE TABLE app.t");
            last = begun.load(Ordering::SeqCst);
        }
        region.wait("the writers have written since", || begun.load(Ordering::SeqCst) > last + 10);
        stop.store(true, Ordering::SeqCst);
        writers.into_iter().for_each(|writer| writer.join().expect("every write is acknowledged"));
        let (all, there) =
            (begun.load(Ordering::SeqCst) - last, format!("SELECT COUNT(*) FROM app.t WHERE id >= {last}"));
        assert!(all > 10, "the writers have not written since");
        for aggregator in 0..3 {
            assert_eq!(region.sql_at(0, aggregator, &there), all.to_string());
        }
    });
}
