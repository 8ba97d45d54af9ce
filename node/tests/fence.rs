//! The fence with real processes: after its answer nothing is written, reads go on, and nothing but UNLOCK lifts it.

mod playground;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use playground::{Playground, Session};

/// A region with one table, and rows in it.
fn region() -> Playground {
    let region = Playground::start(&["east"], 2);
    region.sql(0, "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v INT)");
    region.sql(0, "INSERT INTO app.t VALUES (-1, 0), (-2, 0), (-3, 0), (-4, 0)");
    region
}

fn refused(region: &Playground, statement: &str, code: &str) {
    let output = region.try_sql(0, statement);
    let error = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success() && error.contains(code), "{statement}: {error}");
}

#[test]
fn a_fence_stops_writers_survives_everything_and_is_lifted_by_unlock() {
    let region = region();
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in 0..2u64 {
            let (region, stop, acknowledged) = (&region, &stop, &acknowledged);
            scope.spawn(move || {
                for number in 0.. {
                    let id = number * 2 + writer;
                    let insert = format!("INSERT INTO app.t VALUES ({id}, 1)");
                    let output = region.try_sql(0, &insert);
                    if output.status.success() {
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    if !output.status.success() || stop.load(Ordering::SeqCst) {
                        let error = String::from_utf8_lossy(&output.stderr).to_string();
                        assert!(error.contains("1290"), "{insert} ends with {error}");
                        return;
                    }
                }
            });
        }
        region.wait("the writers write", || acknowledged.load(Ordering::SeqCst) > 20);
        let answer = region.sql(0, "FLUSH TABLES ON app WITH READ ONLY");
        let fields: Vec<&str> = answer.split('\t').collect();
        assert_eq!((fields.len(), fields[0]), (5, "app"), "{answer}");
        assert_eq!(fields[1].split(',').count(), 5, "a position of each partition, the meta partition's too: {answer}");
        let count = region.sql(0, "SELECT COUNT(*) FROM app.t");
        stop.store(true, Ordering::SeqCst);
        assert_eq!(count, region.sql(0, "SELECT COUNT(*) FROM app.t"), "nothing is written after the answer");
    });
    let count = region.sql(0, "SELECT COUNT(*) FROM app.t");
    assert_eq!(count, (acknowledged.load(Ordering::SeqCst) + 4).to_string(), "what was acknowledged, and nothing else");
    refused(&region, "UPDATE app.t SET v = 2 WHERE id = -1", "1290");
    refused(&region, "CREATE TABLE app.u (id INT PRIMARY KEY)", "1290");
    refused(&region, "DROP TABLE app.t", "1290");
    refused(&region, "DROP DATABASE app", "1290");
    let state = "SELECT state, fenced FROM information_schema.PERENNIAL_DATABASES WHERE `database` = 'app'";
    assert_eq!(region.sql(0, state), "read only\tuser");

    for node in ["east-leaf-0", "east-leaf-1", "east-aggregator-0"] {
        region.kill(node);
    }
    for node in ["east-aggregator-0", "east-leaf-0", "east-leaf-1"] {
        region.start_node(node);
    }
    let count_is = |wanted: &str| {
        let output = region.try_sql(0, "SELECT COUNT(*) FROM app.t");
        String::from_utf8_lossy(&output.stdout).trim() == wanted
    };
    region.wait("the rows are there after a power failure", || count_is(&count));
    refused(&region, "INSERT INTO app.t VALUES (-5, 0)", "1290");
    region.wait_in_sync(0, 5);
    region.kill("east-leaf-0");
    region.wait("the other leaf serves all partitions", || count_is(&count));
    refused(&region, "INSERT INTO app.t VALUES (-5, 0)", "1290");
    assert!(region.sql(0, "FLUSH TABLES ON app WITH READ ONLY").starts_with("app\t"), "repeated, it succeeds");

    region.sql(0, "UNLOCK TABLES ON app");
    region.sql(0, "INSERT INTO app.t VALUES (-5, 0)");
    region.sql(0, "CREATE TABLE app.u (id INT AUTO_INCREMENT PRIMARY KEY)");
}

#[test]
fn a_fence_that_finds_an_idle_transaction_rolls_it_back_at_its_timeout() {
    let region = region();
    let mut idle = Session::open(&region, 0);
    idle.say("USE app; BEGIN; UPDATE t SET v = 9 WHERE id = -1; SELECT 'open';");
    idle.hear("open");
    let answer = region.sql(0, "FLUSH TABLES ON app WITH READ ONLY TIMEOUT '500ms'");
    assert_eq!(answer.split('\t').nth(3), Some("1"), "one transaction was in its way: {answer}");
    idle.say("COMMIT;");
    let error = idle.hear_error();
    assert!(error.contains("1213"), "{error}");
    assert_eq!(region.sql(0, "SELECT v FROM app.t WHERE id = -1"), "0");
    region.sql(0, "UNLOCK TABLES ON app; UPDATE app.t SET v = 1 WHERE id = -1");
}

#[test]
fn a_transaction_that_has_begun_to_write_may_finish_under_a_fence() {
    let region = region();
    let mut writer = Session::open(&region, 0);
    writer.say("USE app; BEGIN; UPDATE t SET v = 9 WHERE id = -1; SELECT 'open';");
    writer.hear("open");
    let (done, answered) = mpsc::channel();
    std::thread::scope(|scope| {
        let other = &region;
        scope.spawn(move || done.send(other.sql(0, "FLUSH TABLES ON app WITH READ ONLY TIMEOUT '60s'")));
        region.wait("new writes are refused", || {
            let output = region.try_sql(0, "UPDATE app.t SET v = 1 WHERE id = -4");
            String::from_utf8_lossy(&output.stderr).contains("1290")
        });
        assert!(answered.try_recv().is_err(), "a transaction is open");
        writer.say("UPDATE t SET v = 9; COMMIT; SELECT 'committed';");
        writer.hear("committed");
        assert!(answered.recv().expect("the statement is answered").starts_with("app\t"));
    });
    assert_eq!(region.sql(0, "SELECT SUM(v) FROM app.t"), "36");
}

#[test]
fn unlock_lifts_what_its_session_may_lift() {
    let region = region();
    region.sql(0, "FLUSH TABLES ON app WITH READ ONLY");
    region.sql(0, "UNLOCK TABLES");
    refused(&region, "UPDATE app.t SET v = 1", "1290");
    region.sql(0, "USE app; LOCK TABLES t READ; UNLOCK TABLES");
    refused(&region, "UPDATE app.t SET v = 1", "1290");
    region.sql(0, "USE app; UNLOCK TABLES");
    region.sql(0, "UPDATE app.t SET v = 1");
    region.sql(0, "CREATE USER someone; GRANT ALL ON app.* TO someone");
    region.sql(
        0,
        "FLUSH TABLES WITH READ ONLY; UPDATE app.t SET v = 1 WHERE 1 = 0; UNLOCK TABLES; UPDATE app.t SET v = 2",
    );
}
