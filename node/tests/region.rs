//! One region of real processes: rows go in and come out, a leaf dies and returns, nothing acknowledged is lost.

mod playground;

use std::time::Duration;

use playground::Playground;

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
    let in_sync =
        "SELECT COUNT(*) FROM information_schema.PERENNIAL_PARTITIONS WHERE `database` = 'app' AND in_sync LIKE '%,%'";
    region.wait("both leaves are in sync again", || region.sql(0, in_sync) == "5");
    region.kill("east-leaf-1");
    insert(40, 50);
    assert_eq!(
        region.sql(0, "SELECT COUNT(*), SUM(v) FROM app.t"),
        "50\t1225",
        "the leaf that returned has everything"
    );
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

/// Whoever is interrupted while it starts has started something.
#[test]
fn a_playground_that_is_interrupted_leaves_nothing_behind() {
    for millis in [30, 120, 250, 400, 700] {
        let left = Playground::start_and_interrupt(&["east", "west"], 2, Duration::from_millis(millis));
        assert_eq!(left, Vec::<u64>::new(), "interrupted after {millis} ms");
    }
}
