//! One region of real processes: rows go in and come out, a leaf dies and returns, nothing acknowledged is lost.

mod playground;

use std::time::Duration;

use playground::{Playground, Session};

#[test]
fn rows_come_back_as_they_went_in() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4");
    region.sql(0, "CREATE TABLE app.people (id INT PRIMARY KEY, name VARCHAR(40), born DATE, height DECIMAL(4,2))");
    region.sql(0, "INSERT INTO app.people VALUES (1,'Ada','1815-12-10',1.65),(2,'Alan','1912-06-23',NULL),(3,'Grace','1906-12-09',1.6)");
    assert_eq!(
        region.sql(0, "SELECT * FROM app.people ORDER BY id"),
        "1\tAda\t1815-12-10\t1.65\n2\tAlan\t1912-06-23\tNULL\n3\tGrace\t1906-12-09\t1.60"
    );
    region.sql(0, "UPDATE app.people SET height = 1.85 WHERE name = 'Alan'");
    region.sql(0, "DELETE FROM app.people WHERE id = 3");
    assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(height) FROM app.people"), "2\t3.50");
    let duplicate =
        region.try_sql(0, "INSERT INTO app.people VALUES (9,'New','2000-01-01',1),(1,'Again','2000-01-01',1)");
    assert!(String::from_utf8_lossy(&duplicate.stderr).contains("1062"), "{duplicate:?}");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.people"), "2", "a failed statement leaves nothing");
    let told = "SELECT COUNT(*) FROM information_schema.PERENNIAL_LEAVES WHERE log_sync_p99_us > 0";
    region.wait("the leaves tell how fast their disks are", || region.sql(0, told) == "2");
}

/// Of one row's partition the other one's duplicate leaves nothing: then there is nothing to commit, which is no failure.
#[test]
fn a_commit_of_what_failed_statements_have_taken_back_is_no_error() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 2; CREATE TABLE app.t (id INT PRIMARY KEY)");
    region.sql(0, "INSERT INTO app.t VALUES (1), (2), (3), (4)");
    let mut session = playground::Session::open(&region, 0);
    for id in 100..108 {
        session.say(&format!("BEGIN; INSERT INTO app.t VALUES ({id}), ({}); COMMIT; SELECT 'over {id}';", id % 4 + 1));
        session.hear(&format!("over {id}"));
    }
    let errors = session.errors();
    assert!(errors.len() == 8 && errors.iter().all(|error| error.contains("1062")), "{errors:?}");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "4");
}

#[test]
fn a_transaction_over_partitions_is_whole_or_absent() {
    let region = Playground::start(&["east"], 2);
    region.sql(
        0,
        "CREATE DATABASE bank PARTITIONS 4; CREATE TABLE bank.account (id INT PRIMARY KEY, balance INT NOT NULL)",
    );
    let rows: Vec<String> = (0..40).map(|id| format!("({id},100)")).collect();
    region.sql(0, &format!("INSERT INTO bank.account VALUES {}", rows.join(",")));
    region.sql(0, "USE bank; BEGIN; UPDATE account SET balance = balance - 30 WHERE id = 3; UPDATE account SET balance = balance + 30 WHERE id = 4; COMMIT");
    assert_eq!(region.sql(0, "SELECT balance FROM bank.account WHERE id IN (3, 4) ORDER BY id"), "70\n130");
    region.sql(0, "CREATE DATABASE other PARTITIONS 2; CREATE TABLE other.t (id INT PRIMARY KEY)");
    let both = region
        .try_sql(0, "BEGIN; UPDATE bank.account SET balance = 0 WHERE id = 3; INSERT INTO other.t VALUES (1); COMMIT");
    assert!(String::from_utf8_lossy(&both.stderr).contains("1235"), "two databases in one transaction: {both:?}");
    assert_eq!(
        region.sql(0, "SELECT balance FROM bank.account WHERE id = 3"),
        "70",
        "the refused transaction left nothing"
    );
    region.sql(0, "USE bank; BEGIN; UPDATE account SET balance = 0; ROLLBACK");
    assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(balance) FROM bank.account"), "40\t4000");
}

#[test]
fn a_killed_leaf_loses_nothing_and_returns() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    let insert = |from: u32, to: u32| {
        for id in from..to {
            region.sql(0, &format!("INSERT INTO app.t VALUES ({id}, {id})"));
        }
    };
    insert(0, 20);
    region.kill("east-leaf-0");
    insert(20, 40);
    assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(v) FROM app.t"), "40\t780", "what was acknowledged is there");
    region.start_node("east-leaf-0");
    region.wait_in_sync(0, 5);
    region.kill("east-leaf-1");
    insert(40, 50);
    assert_eq!(
        region.sql(0, "SELECT COUNT(*), SUM(v) FROM app.t"),
        "50\t1225",
        "the leaf that returned has everything"
    );
}

/// What was not sent to commit is not the client's to repeat, where nothing else hangs on it.
#[test]
fn a_statement_that_a_dead_primary_had_begun_is_run_anew() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 1; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql(0, "INSERT INTO app.t VALUES (1, 0), (2, 0)");
    let [mut holder, mut alone, mut open] = [0; 3].map(|at| Session::open(&region, at));
    holder.say("USE app; BEGIN; UPDATE t SET v = v + 1 WHERE id = 1; SELECT 'locked';");
    holder.hear("locked");
    alone.say("UPDATE app.t SET v = v + 10 WHERE id = 1; SELECT CONCAT('rows ', ROW_COUNT());");
    open.say("USE app; BEGIN; UPDATE t SET v = v + 100 WHERE id = 2; SELECT 'begun'; UPDATE t SET v = 1 WHERE id = 1;");
    open.hear("begun");
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE info LIKE 'UPDATE%'";
    region.wait("both wait", || region.sql(0, waiting) == "2");
    let states = |state: &str| {
        let count = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE state LIKE";
        region.sql(0, &format!("{count} '{state}'"))
    };
    assert_eq!(states("in transaction for % s"), "1", "one sleeps, and holds the other two up");
    assert_eq!(states("executing, in transaction for % s"), "1");
    // Their requests are at the leaf, most certainly.
    std::thread::sleep(Duration::from_millis(300));
    region.kill(&region.primary_of("app", 0));
    alone.hear("rows 1");
    assert!(open.hear_error().contains("1213"), "what it had written before is lost");
    holder.say("COMMIT;");
    assert!(holder.hear_error().contains("1213"), "its lock is lost");
    assert_eq!(states("%in transaction%"), "0");
    assert_eq!(region.sql(0, "SELECT v FROM app.t ORDER BY id"), "10\n0");
}

/// A primary that stands still may wake up and serve: another one is named only by terms that it has heard of.
#[test]
fn an_altered_order_counts_once_its_primary_has_heard_of_it() {
    let region = Playground::start(&["east"], 2);
    region.sql(
        0,
        "CREATE DATABASE app PARTITIONS 1; CREATE TABLE app.t (id INT PRIMARY KEY); INSERT INTO app.t VALUES (1)",
    );
    region.sql(0, "ALTER DATABASE app SET ASYNC REPLICATION");
    region.sql(0, "ALTER DATABASE app SET OPTIONS (async_failover_after = 'never')");
    region.sql(0, "INSERT INTO app.t VALUES (2)");
    region.wait_level(0);
    // The leaf hears of it with its next heartbeats.
    let heard = Duration::from_secs(1);
    std::thread::sleep(heard);

    let holder = &region.primary_of("app", 0)[..];
    region.signal(holder, "STOP");
    region.sql(0, "ALTER DATABASE app SET OPTIONS (async_failover_after = '1s')");
    std::thread::sleep(Duration::from_secs(4));
    let named = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event = 'loss'";
    assert_eq!(region.sql(0, named), "0", "it has not heard that it may be replaced");
    region.signal(holder, "CONT");
    region.wait("it serves again", || region.try_sql(0, "INSERT INTO app.t VALUES (3)").status.success());
    region.wait_level(0);
    std::thread::sleep(heard);

    region.signal(holder, "STOP");
    region.wait("the other copy serves", || region.try_sql(0, "INSERT INTO app.t VALUES (4)").status.success());
    assert_ne!(region.sql(0, named), "0");
    region.signal(holder, "CONT");
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "4");
}

#[test]
fn a_database_that_became_durable_loses_nothing_with_all_its_processes() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4 WITH ASYNC DURABILITY; CREATE TABLE app.t (id INT PRIMARY KEY)");
    region.sql(0, "INSERT INTO app.t VALUES (1),(2),(3),(4),(5),(6)");
    region.sql(0, "ALTER DATABASE app SET SYNC DURABILITY");
    region.sql(0, "INSERT INTO app.t VALUES (7),(8),(9)");
    // The leaves' word that all of it is on disk comes with their next heartbeats.
    std::thread::sleep(std::time::Duration::from_secs(1));
    for node in ["east-leaf-0", "east-leaf-1", "east-aggregator-0"] {
        region.kill(node);
    }
    for node in ["east-aggregator-0", "east-leaf-0", "east-leaf-1"] {
        region.start_node(node);
    }
    region.wait("it serves again", || region.try_sql(0, "SELECT COUNT(*) FROM app.t").status.success());
    assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(id) FROM app.t"), "9\t45");
    let losses = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event IN ('loss', 'recovery')";
    assert_eq!(region.sql(0, losses), "0", "its members had everything on disk, and the catalog knew it");
}

/// All processes are killed and started again, after `between`.
fn restart_all(region: &Playground, between: impl Fn(&str)) {
    for node in ["east-leaf-0", "east-leaf-1", "east-aggregator-0"] {
        region.kill(node);
    }
    ["east-leaf-0", "east-leaf-1"].into_iter().for_each(between);
    for node in ["east-aggregator-0", "east-leaf-0", "east-leaf-1"] {
        region.start_node(node);
    }
    region.wait("it serves again", || region.try_sql(0, "SELECT COUNT(*) FROM app.t").status.success());
}

#[test]
fn async_durability_loses_with_power_alone_and_then_goes_on_from_its_marks() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4 WITH ASYNC DURABILITY; CREATE TABLE app.t (id INT PRIMARY KEY)");
    region.sql(0, "INSERT INTO app.t VALUES (1),(2),(3),(4),(5),(6)");
    restart_all(&region, |_| {});
    assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(id) FROM app.t"), "6\t21");
    let events = |kinds: &str| {
        let from = "FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE event IN";
        region.sql(0, &format!("SELECT COUNT(*) {from} ({kinds})"))
    };
    assert_eq!(events("'loss', 'recovery'"), "0", "the machine has kept its power");
    region.sql(0, "INSERT INTO app.t VALUES (7),(8),(9)");
    // Its marks pass these rows, on every disk.
    std::thread::sleep(Duration::from_secs(2));
    // As if the machines had been started anew: another boot, and no process that ran under it.
    restart_all(&region, |leaf| {
        let power = region.leaf_dir(leaf).with_file_name("power");
        assert!(power.exists(), "{} is not there", power.display());
        std::fs::write(power, "1\n1\n").expect("the file can be written");
    });
    assert_eq!(region.sql(0, "SELECT COUNT(*), SUM(id) FROM app.t"), "9\t45");
    assert_eq!(events("'recovery'"), "1", "one cut for all partitions");
}

/// Its primary dies while the commit waits for the other copy: the one that takes over knows how it ended.
#[test]
fn a_commit_whose_answer_is_lost_is_asked_for() {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 1; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    let mut committed = 0;
    for round in 0..4 {
        region.wait_in_sync(0, 2);
        let primary = region.primary_of("app", 0);
        let other = if primary == "east-leaf-0" { "east-leaf-1" } else { "east-leaf-0" };
        let mut open = Session::open(&region, 0);
        open.say(&format!("USE app; BEGIN; INSERT INTO t VALUES ({}, 0); SELECT 'begun';", 10 + round));
        open.hear("begun");
        let mut alone = Session::open(&region, 0);
        region.signal(other, "STOP");
        alone.say(&format!("INSERT INTO app.t VALUES ({round}, 0); SELECT CONCAT('rows ', ROW_COUNT());"));
        open.say(&format!("COMMIT; SELECT 'committed {round}';"));
        // Long enough for both to wait for the other copy, too short for that to be taken out.
        std::thread::sleep(Duration::from_millis(300));
        region.kill(&primary);
        region.signal(other, "CONT");
        alone.hear("rows 1");
        open.hear(&format!("committed {round}"));
        let refused = open.errors();
        assert!(refused.iter().all(|error| error.contains("1213")), "{refused:?}");
        committed += 1 - refused.len();
        region.start_node(&primary);
    }
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t WHERE id < 10"), "4", "each once");
    let name = "00000000000000000000000000000001:1:0:0";
    assert_eq!(
        region.sql(0, &format!("SHOW TRANSACTION '{name}'")),
        format!("{name}\tapp\trolled back\tNULL\tNULL"),
        "there is none"
    );
    assert!(!region.try_sql(0, "SHOW TRANSACTION 'xyz'").status.success());
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t WHERE id >= 10"), committed.to_string(), "as was said");
}

/// Else the disk of a table that is emptied each night is full one day.
#[test]
fn rows_of_dropped_tables_do_not_stay() {
    let region = Playground::start(&["east"], 2);
    region.sql(
        0,
        "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY); CREATE TABLE app.u (v INT)",
    );
    let rows: Vec<String> = (0..3000).map(|id| format!("({id})")).collect();
    region.sql(0, &format!("INSERT INTO app.t VALUES {}", rows.join(",")));
    region.sql(0, "INSERT INTO app.u VALUES (1), (1), (NULL)");
    let swept = || region.metric("east-aggregator-0", "perennial_swept_rows");
    assert_eq!(swept(), 0);
    region.sql(0, "TRUNCATE TABLE app.t; INSERT INTO app.t VALUES (1), (2)");
    region.wait("the rows of before are gone", || swept() == 3000);
    region.sql(0, "DROP TABLE app.u");
    region.wait("these too", || swept() == 3003);
    assert_eq!(region.sql(0, "SELECT COUNT(*) FROM app.t"), "2");
}

/// Whoever is interrupted while it starts has started something.
#[test]
fn a_playground_that_is_interrupted_leaves_nothing_behind() {
    for millis in [30, 120, 250, 400, 700] {
        let left = Playground::start_and_interrupt(&["east", "west"], 2, Duration::from_millis(millis));
        assert_eq!(left, Vec::<u64>::new(), "interrupted after {millis} ms");
    }
}
