//! Leaves come and go, and partitions move, with real processes and clients that write all the time.

mod playground;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use playground::{Playground, Session};

/// Clients that write, each in single rows and now and then several at once, all over the partitions.
const WRITERS: u64 = 2;
/// Ids of one writer.
const SPAN: u64 = 1_000_000;

fn error(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `host:port` of a leaf of the first region.
fn leaf(region: &Playground, index: usize) -> String {
    region.json()["regions"][0]["leaves"][index]["addr"].as_str().expect("it has an address").to_string()
}

/// A region with a database of six partitions, and some rows.
fn region(leaves: u16, options: &str) -> Playground {
    let region = Playground::start(&["east"], leaves);
    fill(&region, options);
    region
}

fn fill(region: &Playground, options: &str) {
    region.sql(0, &format!("CREATE DATABASE app PARTITIONS 6 {options}"));
    region.sql(0, "CREATE TABLE app.t (id BIGINT PRIMARY KEY, v BIGINT)");
    for first in 0..10 {
        let rows = (0..500).map(|row| first * 500 + row + 100 * SPAN).map(|id| format!("({id}, {id})"));
        region.sql(0, &format!("INSERT INTO app.t VALUES {}", rows.collect::<Vec<_>>().join(",")));
    }
}

/// Runs something while clients write; a client that sees an error fails the test, unless it `repeats`. How many rows they
/// have written.
fn under_writes(region: &Playground, aggregator: usize, repeats: bool, run: impl FnOnce()) -> u64 {
    let stop = AtomicBool::new(false);
    let write = |writer: u64| {
        let mut id = writer * SPAN;
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let pair = format!("INSERT INTO app.t VALUES ({id}, {id}), ({}, {})", id + 1, id + 1);
            let one = format!("INSERT INTO app.t VALUES ({}, {})", id + 2, id + 2);
            for insert in [pair, one] {
                loop {
                    let output = region.try_sql_at(0, aggregator, &insert);
                    if output.status.success() || repeats && error(&output).contains("1062") {
                        break;
                    }
                    assert!(repeats && begun.elapsed() < playground::PATIENCE, "{insert}: {}", error(&output));
                }
            }
            id += 3;
        }
        id - writer * SPAN
    };
    std::thread::scope(|scope| {
        let writing: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        // What fails there must end the writers, too.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let stopping = Stop(&stop);
        run();
        drop(stopping);
        writing.into_iter().map(|thread| thread.join().expect("no client sees an error")).sum()
    })
}

fn expect_rows(region: &Playground, written: u64) {
    let wanted = (5000 + written).to_string();
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t WHERE id = v"), wanted, "nothing is lost, nothing is doubled");
}

/// No copy differs from its primary.
fn expect_equal_copies(region: &Playground) {
    let checked = region.sql(0, "CHECK DATABASE app");
    for line in checked.lines() {
        let cells: Vec<&str> = line.split('\t').collect();
        assert_eq!((cells[5], cells[7]), ("0", "NULL"), "{line}");
    }
}

/// Primaries and secondaries of a leaf, as SHOW LEAVES says; `None` if it is not there.
fn held(region: &Playground, leaf: &str) -> Option<(u64, u64)> {
    let port = leaf.rsplit_once(':').expect("host:port").1;
    let row = region
        .sql(0, &format!("SELECT primaries, secondaries FROM information_schema.PERENNIAL_LEAVES WHERE port = {port}"));
    let (primaries, secondaries) = row.split_once('\t')?;
    Some((primaries.parse().ok()?, secondaries.parse().ok()?))
}

fn state_of(region: &Playground, leaf: &str) -> String {
    let port = leaf.rsplit_once(':').expect("host:port").1;
    region.sql(0, &format!("SELECT state FROM information_schema.PERENNIAL_LEAVES WHERE port = {port}"))
}

fn database_state(region: &Playground) -> String {
    region.sql(0, "SELECT state FROM information_schema.PERENNIAL_DATABASES WHERE `database` = 'app'")
}

#[test]
fn a_leaf_is_added_gets_its_share_and_an_old_one_goes_while_clients_write() {
    let mut region = region(2, "");
    region.add_node("east", "leaf");
    let (old, new) = (leaf(&region, 0), leaf(&region, 2));
    region.wait("it has announced itself", || state_of(&region, &new) == "joining");
    let before = region.sql(0, "EXPLAIN REBALANCE PARTITIONS ON app");
    assert!(!before.contains(&new), "nothing goes there before ADD LEAF: {before}");
    let refused = error(&region.try_sql(0, &format!("DETACH LEAF '{new}'")));
    assert!(refused.contains("ADD LEAF"), "{refused}");
    let added = region.sql(0, &format!("ADD LEAF '{new}'"));
    assert!(added.ends_with("online"), "{added}");
    assert_eq!(region.sql(0, &format!("ADD LEAF '{new}'")), added, "repeated");
    let plan = region.sql(0, "EXPLAIN REBALANCE PARTITIONS ON app");
    let copies: Vec<&str> = plan.lines().filter(|line| line.contains("\tcopy\t") && line.contains(&new)).collect();
    let sized = |line: &&str| line.split('\t').nth(6).is_some_and(|bytes| bytes.parse::<u64>().is_ok());
    assert!(!copies.is_empty() && copies.iter().all(sized), "{plan}");
    assert_eq!(held(&region, &new), Some((0, 0)), "that was only told");
    let written = under_writes(&region, 0, false, || {
        let done = region.sql(0, "REBALANCE PARTITIONS ON app");
        assert!(done.lines().all(|line| line.split('\t').nth(5) == Some("100")), "{done}");
        let (primaries, secondaries) = held(&region, &new).expect("it is there");
        assert!(primaries >= 2 && primaries + secondaries >= 4, "{primaries} primaries, {secondaries} secondaries");
        assert_eq!(region.sql(0, "REBALANCE PARTITIONS ON app"), "", "it is even");
        assert_eq!(region.sql(0, "SHOW REBALANCE STATUS"), "");
        let removed = region.sql(0, &format!("REMOVE LEAF '{old}'"));
        assert!(removed.ends_with("removed"), "{removed}");
        assert_eq!(region.sql(0, &format!("REMOVE LEAF '{old}'")), removed, "repeated");
        assert_eq!(held(&region, &old), None);
        let partitions = region.leaf_dir("east-leaf-0").join("partitions");
        let left = std::fs::read_dir(partitions).expect("the leaf has a directory").count();
        assert_eq!(left, 0, "it has deleted its copies");
        region.stop_node("east-leaf-0");
        std::thread::sleep(Duration::from_secs(1));
    });
    assert!(written > 0, "nobody wrote while everything moved");
    assert_eq!(database_state(&region), "online");
    expect_rows(&region, written);
    expect_equal_copies(&region);
    let again = error(&region.try_sql(0, &format!("ADD LEAF '{old}'")));
    assert!(again.contains("was removed"), "{again}");
    let handed = "SELECT COUNT(*) > 0 FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'handover'";
    assert_eq!(region.sql(0, handed), "1", "primaries were handed over");
    region.start_again(&["east"], 2);
    expect_rows(&region, written);
}

#[test]
fn a_leaf_that_is_lost_is_replaced_and_removed_by_force() {
    let region = region(3, "OPTIONS (redundancy = 2)");
    let counted = "SELECT SUM(`rows`) >= 5000 FROM information_schema.PERENNIAL_PARTITIONS WHERE role = 'primary'";
    region.wait("leaves tell how many rows they hold", || region.sql(0, counted) == "1");
    let lost = leaf(&region, 2);
    region.kill("east-leaf-2");
    region.wait("it is missed", || database_state(&region) == "degraded" && state_of(&region, &lost) == "offline");
    let written = under_writes(&region, 0, false, || {
        let done = region.sql(0, "RESTORE REDUNDANCY ON app");
        assert!(done.contains("copy") && done.contains(&lost), "{done}");
        assert_eq!(database_state(&region), "online");
        assert_eq!(region.sql(0, "RESTORE REDUNDANCY ON app"), "", "nothing is missing");
        let told = region.sql(0, "RESTORE REDUNDANCY ON app; SHOW WARNINGS");
        assert!(told.contains("Nothing is ordered: no partition lacks a copy"), "{told}");
    });
    let removed = region.sql(0, &format!("REMOVE LEAF '{lost}' FORCE"));
    assert!(removed.ends_with("removed"), "{removed}");
    assert_eq!(held(&region, &lost), None);
    expect_rows(&region, written);
    expect_equal_copies(&region);
}

/// Its next process has the number of the first one again, which has acknowledged what this one does not hold.
#[test]
fn a_leaf_whose_directory_is_lost_takes_no_part_under_its_number() {
    let region = region(3, "OPTIONS (redundancy = 2)");
    let lost = leaf(&region, 2);
    let names = ["east-leaf-0", "east-leaf-1", "east-leaf-2"];
    // The master hears of all of it at once, and takes nobody out of a set before.
    region.signal("east-aggregator-0", "STOP");
    names.iter().for_each(|name| region.kill(name));
    std::thread::sleep(Duration::from_secs(2));
    region.signal("east-aggregator-0", "CONT");
    let data = region.leaf_dir(names[2]).parent().expect("it is in one").to_path_buf();
    std::fs::remove_dir_all(data).expect("nobody uses it");
    region.start_node(names[2]);
    region.wait("it is refused", || region.sql(0, "SHOW CLUSTER EVENTS").contains("another data directory"));
    names[..2].iter().for_each(|name| region.start_node(name));
    let count = "SELECT COUNT(*) FROM app.t";
    region.wait("others lead everything", || {
        let counted = region.try_sql(0, count);
        assert!(!counted.status.success() || counted.stdout == b"5000\n", "{counted:?}");
        counted.status.success()
    });
    assert_eq!(state_of(&region, &lost), "offline");
    let advice = "SELECT advice FROM information_schema.PERENNIAL_LEAVES WHERE state = 'offline'";
    region.wait("SHOW LEAVES tells", || region.sql(0, advice).contains("has another data directory"));
    // It is refused as well when its process has another number.
    region.kill(names[2]);
    region.start_node(names[2]);
    region.wait("SHOW LEAVES tells it still", || region.sql(0, advice).contains("has another data directory"));
    region.sql(0, &format!("RESTORE REDUNDANCY ON app; REMOVE LEAF '{lost}' FORCE"));
    assert_eq!(database_state(&region), "online");
    expect_rows(&region, 0);
    expect_equal_copies(&region);
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let region = region(2, "OPTIONS (redundancy = 2)");
    let (one, two) = (leaf(&region, 0), leaf(&region, 1));
    let refused = |text: &str| error(&region.try_sql(0, text));
    let few = refused(&format!("REMOVE LEAF '{one}'"));
    assert!(few.contains("needs 2 copies") && few.contains("ADD LEAF"), "{few}");
    assert_eq!(state_of(&region, &one), "online", "nothing was ordered");
    let nobody = refused("REMOVE LEAF '127.0.0.1:1'");
    assert!(nobody.contains("is known") && nobody.contains("1210"), "{nobody}");
    let aggregator = format!("127.0.0.1:{}", region.port(0));
    for address in ["127.0.0.1:1", "nowhere", &aggregator] {
        let nobody = refused(&format!("ADD LEAF '{address}'"));
        assert!(nobody.contains("has announced itself") && nobody.contains("1210"), "{nobody}");
    }
    assert!(refused("RESTORE REDUNDANCY ON nothing").contains("1049"));
    region.sql(0, "ALTER DATABASE app SET OPTIONS (min_in_sync = 2)");
    let needed = refused(&format!("DETACH LEAF '{one}'"));
    assert!(needed.contains("min_in_sync") && needed.contains("FORCE"), "{needed}");
    region.sql(0, "ALTER DATABASE app SET OPTIONS (min_in_sync = 1)");
    let detached = region.sql(0, &format!("DETACH LEAF '{one}'"));
    assert!(detached.ends_with("detached"), "{detached}");
    let last = refused(&format!("REMOVE LEAF '{two}' FORCE"));
    assert!(last.contains("last copy of app:"), "{last}");
    assert!(refused(&format!("DETACH LEAF '{two}' FORCE")).contains("last copy of app:"));
    assert!(refused(&format!("ADD LEAF '{one}'")).contains("ATTACH LEAF"));
}

#[test]
fn a_leaf_is_detached_for_an_hour_and_comes_back() {
    let region = region(2, "");
    let away = leaf(&region, 1);
    let in_sync =
        || region.sql(0, "SELECT COUNT(*) FROM information_schema.PERENNIAL_PARTITIONS WHERE in_sync LIKE '%,%'");
    let written = under_writes(&region, 0, false, || {
        region.sql(0, &format!("DETACH LEAF '{away}'"));
        let (primaries, secondaries) = held(&region, &away).expect("it keeps its copies");
        assert_eq!((primaries, secondaries > 0, in_sync().as_str()), (0, true, "0"));
        region.stop_node("east-leaf-1");
        std::thread::sleep(Duration::from_secs(2));
        region.start_node("east-leaf-1");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!((in_sync().as_str(), state_of(&region, &away).as_str()), ("0", "detached"));
        let attached = region.sql(0, "ATTACH LEAF ALL");
        assert!(attached.ends_with("online"), "{attached}");
        region.wait("its copies are in sync", || in_sync() == "7");
        region.wait("it leads its share", || held(&region, &away).is_some_and(|(primaries, _)| primaries >= 3));
    });
    expect_rows(&region, written);
    expect_equal_copies(&region);
}

/// What it holds is not lost because it is silent for a moment.
#[test]
fn a_leaf_that_was_just_started_keeps_its_copies() {
    let region = region(3, "OPTIONS (redundancy = 2)");
    let away = leaf(&region, 2);
    let held_there = || held(&region, &away).map(|(primaries, secondaries)| primaries + secondaries);
    let before = held_there();
    let refused = |text: &str| error(&region.try_sql(0, text));
    region.sql(0, &format!("DETACH LEAF '{away}'"));
    region.stop_node("east-leaf-2");
    let attach = format!("ATTACH LEAF '{away}'; SHOW WARNINGS");
    let offline = refused(&attach);
    assert!(offline.contains("is offline") && offline.contains("start it again"), "{offline}");
    assert_eq!(state_of(&region, &away), "detached", "nothing was ordered");
    region.start_node("east-leaf-2");
    let attached = region.sql(0, &attach);
    assert!(attached.contains("\tonline") && attached.contains("REBALANCE ALL DATABASES was ordered"), "{attached}");
    assert_eq!(state_of(&region, &away), "online");
    let again = region.sql(0, &attach);
    assert!(again.contains("\tonline") && again.contains("No leaf was detached"), "{again}");
    region.wait("nothing moves", || region.sql(0, "SHOW REBALANCE STATUS").is_empty());
    assert_eq!(held_there(), before);
    // A plain restart.
    region.stop_node("east-leaf-2");
    region.wait("it is missed", || state_of(&region, &away) == "offline");
    for statement in ["REBALANCE ALL DATABASES", "EXPLAIN REBALANCE PARTITIONS ON app"] {
        let offline = refused(statement);
        assert!(offline.contains("is offline") && offline.contains("RESTORE REDUNDANCY"), "{offline}");
    }
    region.start_node("east-leaf-2");
    region.sql(0, "REBALANCE ALL DATABASES");
    assert_eq!(held_there(), before);
    assert!(held(&region, &away).is_some_and(|(primaries, _)| primaries >= 2), "it leads its share");
    let given_up = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'move' AND detail LIKE '%copies to delete: none'";
    let moves = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'move'";
    assert_eq!(region.sql(0, given_up), region.sql(0, moves), "no copy was deleted");
    expect_rows(&region, 0);
}

#[test]
fn all_databases_are_levelled_from_any_aggregator_until_nothing_is_left_to_do() {
    let region = Playground::start_group(&["east"], 3, 3);
    let other = (region.master(0, 0) + 1) % 3;
    let sql = |text: &str| region.sql_at(0, other, text);
    for database in ["d", "e"] {
        sql(&format!("CREATE DATABASE {database} PARTITIONS 4; CREATE TABLE {database}.t (id INT PRIMARY KEY)"));
    }
    sql("REBALANCE ALL DATABASES");
    for statement in ["EXPLAIN REBALANCE ALL DATABASES", "REBALANCE ALL DATABASES", "REBALANCE PARTITIONS ON d"] {
        assert_eq!(sql(statement), "", "{statement}: it is even");
    }
    region.add_node("east", "leaf");
    // It may not have been heard yet.
    let plan = sql(&format!("ADD LEAF '{}'; EXPLAIN REBALANCE ALL DATABASES", leaf(&region, 3)));
    let expect_sizes = |steps: &str| {
        let copies: Vec<&str> = steps.lines().filter(|line| line.contains("\tcopy\t")).collect();
        let sized = |line: &&str| line.split('\t').nth(6).is_some_and(|bytes| bytes.parse::<u64>().is_ok());
        assert!(!copies.is_empty() && copies.iter().all(sized), "{steps}");
    };
    expect_sizes(&plan);
    expect_sizes(&sql("REBALANCE ALL DATABASES KILL"));
    assert_eq!(sql("EXPLAIN REBALANCE ALL DATABASES"), "");
    let events =
        "SELECT COUNT(DISTINCT `database`) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'rebalance'";
    assert_eq!(sql(events), "2", "each database is told of");
}

#[test]
fn copies_that_share_a_group_are_told_of_and_a_leaf_gets_a_group_of_its_own_back() {
    let region = region(3, "OPTIONS (redundancy = 2)");
    let leaves = [0, 1].map(|index| leaf(&region, index));
    let advice = |table: &str| region.sql(0, &format!("SELECT advice FROM information_schema.PERENNIAL_{table}"));
    let groups = || region.sql(0, "SELECT `group` FROM information_schema.PERENNIAL_LEAVES");
    for (into, group) in [("INTO GROUP 7", "7"), ("", "7"), ("INTO GROUP OWN", "own")] {
        for leaf in &leaves {
            region.sql(0, &format!("ADD LEAF '{leaf}' {into}"));
        }
        assert_eq!(groups(), format!("{group}\n{group}\nown"));
        let close = group == "7";
        assert_eq!(advice("LEAVES").matches("REBALANCE ALL DATABASES").count(), if close { 2 } else { 0 });
        assert_eq!(advice("DATABASES").contains("REBALANCE PARTITIONS ON `app`"), close);
    }
}

#[test]
fn an_open_transaction_is_waited_for_and_ended_by_kill() {
    let region = region(3, "OPTIONS (redundancy = 2)");
    let [one, two, three] = [0, 1, 2].map(|index| leaf(&region, index));
    let mut open = Session::open(&region, 0);
    open.say("USE app; BEGIN; UPDATE t SET v = v WHERE id < 100000100; SELECT 'begun';");
    open.hear("begun");
    assert!(region.sql(0, &format!("REMOVE LEAF '{one}' NOWAIT")).ends_with("draining"));
    let written = under_writes(&region, 0, false, || std::thread::sleep(Duration::from_secs(6)));
    assert_eq!(state_of(&region, &one), "draining", "the transaction holds it up");
    let mut removing = Session::open(&region, 0);
    removing.say(&format!("REMOVE LEAF '{one}'; SELECT 'over';"));
    let told = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE info LIKE 'REMOVE LEAF%' AND progress < 100";
    region.wait("its progress is told", || region.sql(0, told) == "1");
    let status = region.sql(0, "SHOW REBALANCE STATUS");
    assert!(status.lines().any(|line| line.contains("\thand over\t") && line.contains(&one)), "{status}");
    open.say("COMMIT; SELECT 'committed';");
    open.hear("committed");
    region.wait("it is gone", || held(&region, &one).is_none());
    removing.hear("over");
    assert_eq!(removing.errors(), [String::new(); 0]);
    expect_rows(&region, written);
    // Another one is not waited for.
    open.say("BEGIN; UPDATE t SET v = v + 1 WHERE id BETWEEN 100000000 AND 100000100; SELECT 'begun again';");
    open.hear("begun again");
    let leads = |leaf: &&String| held(&region, leaf).is_some_and(|(primaries, _)| primaries > 0);
    let leading = [two, three];
    let leading = leading.iter().find(leads).expect("somebody leads");
    region.sql(0, &format!("DETACH LEAF '{leading}' FORCE KILL"));
    open.say("COMMIT;");
    let rolled_back = open.hear_error();
    assert!(rolled_back.contains("1213") && rolled_back.contains("new primary"), "{rolled_back}");
    expect_rows(&region, written);
}

#[test]
fn moves_go_on_when_the_master_dies() {
    let region = Playground::start_group(&["east"], 3, 3);
    fill(&region, "OPTIONS (redundancy = 2)");
    let old = leaf(&region, 0);
    let master = region.master(0, 0);
    let other = (master + 1) % 3;
    let written = under_writes(&region, other, true, || {
        let ordered = region.sql_at(0, other, &format!("REMOVE LEAF '{old}' NOWAIT"));
        assert!(ordered.ends_with("draining"), "{ordered}");
        region.kill(&format!("east-aggregator-{master}"));
        let gone = |text: String| text.is_empty();
        let port = old.rsplit_once(':').expect("host:port").1;
        let rows = format!("SELECT port FROM information_schema.PERENNIAL_LEAVES WHERE port = {port}");
        region.wait("it is gone", || {
            let seen = region.try_sql_at(0, other, &rows);
            seen.status.success() && gone(String::from_utf8_lossy(&seen.stdout).trim().to_string())
        });
    });
    let count = region.sql_at(0, other, "SELECT COUNT(*) FROM app.t WHERE id = v");
    assert_eq!(count, (5000 + written).to_string());
}

#[test]
fn a_database_with_async_replication_moves_without_a_loss() {
    let region = region(3, "WITH ASYNC REPLICATION OPTIONS (redundancy = 2)");
    let old = leaf(&region, 0);
    let written = under_writes(&region, 0, false, || {
        let removed = region.sql(0, &format!("REMOVE LEAF '{old}'"));
        assert!(removed.ends_with("removed"), "{removed}");
    });
    region.stop_node("east-leaf-0");
    expect_rows(&region, written);
    let losses = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'loss'";
    assert_eq!(region.sql(0, losses), "0");
}

/// Of an aggregator and a leaf that slept meanwhile, one believes that the other leads what others have written since.
#[test]
fn who_slept_through_a_removal_shows_and_acknowledges_nothing() {
    let region = Playground::start_group(&["east"], 3, 3);
    fill(&region, "WITH ASYNC REPLICATION OPTIONS (redundancy = 2)");
    let lost = leaf(&region, 0);
    assert!(held(&region, &lost).is_some_and(|(primaries, _)| primaries > 0));
    let asleep = if region.master(0, 0) == 1 { 2 } else { 1 };
    let count = "SELECT COUNT(*) FROM app.t WHERE v = id";
    assert_eq!(region.sql_at(0, asleep, count), "5000");
    let sleepers = ["east-leaf-0".to_string(), format!("east-aggregator-{asleep}")];
    sleepers.iter().for_each(|name| region.signal(name, "STOP"));
    region.wait("others lead", || held(&region, &lost).is_some_and(|(primaries, _)| primaries == 0));
    let removed = region.sql(0, &format!("REMOVE LEAF '{lost}' FORCE"));
    assert!(removed.ends_with("removed"), "{removed}");
    region.sql(0, "UPDATE app.t SET v = v + 1");
    sleepers.iter().for_each(|name| region.signal(name, "CONT"));

    let (begun, mut id, mut acknowledged) = (Instant::now(), 0, 0);
    while begun.elapsed() < Duration::from_secs(5) {
        let old = region.try_sql_at(0, asleep, count);
        if old.status.success() {
            assert_eq!(String::from_utf8_lossy(&old.stdout).trim(), "0", "it shows what was overwritten");
        }
        id += 1;
        let written = region.try_sql_at(0, asleep, &format!("INSERT INTO app.t VALUES ({id}, {id} + 1)"));
        acknowledged += u64::from(written.status.success());
    }
    assert!(acknowledged > 0, "it never heard of the others");
    let there: u64 = region.sql(0, &format!("SELECT COUNT(*) FROM app.t WHERE id <= {id}")).parse().expect("a count");
    assert!(there >= acknowledged, "{there} of {acknowledged} acknowledged rows are there");
}

#[test]
fn fewer_copies_than_min_in_sync_take_no_writes() {
    let region = region(2, "OPTIONS (redundancy = 2, min_in_sync = 2)");
    region.kill("east-leaf-1");
    let write = "REPLACE INTO app.t VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6)";
    region.wait("writes are refused", || error(&region.try_sql(0, write)).contains("9006"));
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "5000", "reads go on");
    region.sql(0, "ALTER DATABASE app SET OPTIONS (min_in_sync = 1)");
    region.wait("one copy will do", || region.try_sql(0, write).status.success());
    region.sql(0, "ALTER DATABASE app SET OPTIONS (min_in_sync = 2)");
    region.wait("and will not", || error(&region.try_sql(0, write)).contains("9006"));
    region.start_node("east-leaf-1");
    region.wait("there are two again", || region.try_sql(0, write).status.success());
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "5006");
}

#[test]
fn three_copies_survive_the_loss_of_two_leaves_in_turn() {
    let region = region(3, "OPTIONS (redundancy = 3)");
    let written = under_writes(&region, 0, true, || {
        for lost in ["east-leaf-0", "east-leaf-1"] {
            region.kill(lost);
            std::thread::sleep(Duration::from_secs(4));
        }
    });
    expect_rows(&region, written);
    for back in ["east-leaf-0", "east-leaf-1"] {
        region.start_node(back);
    }
    region.wait("all copies are in sync", || database_state(&region) == "online");
    expect_rows(&region, written);
    expect_equal_copies(&region);
}

#[test]
fn copies_stay_apart_by_groups() {
    let region = Playground::start(&["east"], 4);
    for index in 0..4 {
        region.sql(0, &format!("ADD LEAF '{}' INTO GROUP {}", leaf(&region, index), 1 + index / 2));
    }
    fill(&region, "OPTIONS (redundancy = 2)");
    let lost = leaf(&region, 3);
    region.kill("east-leaf-3");
    region.wait("it is missed", || state_of(&region, &lost) == "offline" && database_state(&region) == "degraded");
    let written = under_writes(&region, 0, false, || drop(region.sql(0, "RESTORE REDUNDANCY ON app")));
    let third = leaf(&region, 2);
    let (primaries, secondaries) = held(&region, &third).expect("it is there");
    assert_eq!(primaries + secondaries, 7, "the other leaf of its group has a copy of everything");
    expect_rows(&region, written);
    // With redundancy 3 there would have to be three groups.
    region.sql(0, "ALTER DATABASE app SET OPTIONS (redundancy = 3)");
    let refused = error(&region.try_sql(0, "RESTORE REDUNDANCY ON app"));
    assert!(refused.contains("different groups"), "{refused}");
}
