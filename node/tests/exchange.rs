//! Two regions of real processes: one follows the other, is promoted when the other is lost, and takes it back by the
//! difference.

mod playground;

use playground::Playground;

const EAST: usize = 0;
const WEST: usize = 1;
const EAST_NODES: [&str; 3] = ["east-aggregator-0", "east-leaf-0", "east-leaf-1"];

/// A new pair of regions; the database `app` with table `t` (id, v) lives in the east.
fn pair() -> Playground {
    let pair = Playground::start(&["east", "west"], 2);
    pair.sql(
        EAST,
        "CREATE DATABASE app PARTITIONS 4; CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(200) NOT NULL)",
    );
    pair
}

fn rows(from: u32, to: u32, word: &str) -> String {
    // Text that does not compress away.
    let noise = |id: u32| -> String {
        (1..8u64).map(|k| format!("{:x}", (u64::from(id) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 / k))).collect()
    };
    let rows: Vec<String> = (from..to).map(|id| format!("({id},'{word} {id} {}')", noise(id))).collect();
    format!("INSERT INTO app.t VALUES {}", rows.join(","))
}

fn follow(pair: &Playground, region: usize, source: usize, forced: bool) -> Vec<String> {
    let force = if forced { "WITH FORCE DIFFERENTIAL" } else { "" };
    let text = format!("REPLICATE DATABASE app {force} FROM root@127.0.0.1:{}/app", pair.port(source));
    pair.sql(region, &text).split('\t').map(String::from).collect()
}

fn everything(pair: &Playground, region: usize) -> String {
    pair.sql(region, "SELECT * FROM app.t ORDER BY id")
}

/// Waits until a sink shows what its source has.
fn equal(pair: &Playground, source: usize, sink: usize) {
    let wanted = everything(pair, source);
    pair.wait("both sides are equal", || {
        let seen = pair.try_sql(sink, "SELECT * FROM app.t ORDER BY id");
        String::from_utf8_lossy(&seen.stdout).trim_end() == wanted
    });
}

fn error(pair: &Playground, region: usize, text: &str) -> String {
    let output = pair.try_sql(region, text);
    assert!(!output.status.success(), "{text} was not refused: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn status(pair: &Playground, region: usize, column: &str) -> String {
    pair.sql(
        region,
        &format!("SELECT {column} FROM information_schema.PERENNIAL_REPLICATION_STATUS WHERE role = 'sink'"),
    )
}

#[test]
fn a_sink_shows_its_source_and_takes_no_writes() {
    let pair = pair();
    pair.sql(EAST, &rows(0, 500, "first"));
    let done = follow(&pair, WEST, EAST, false);
    assert_eq!(done[..2], ["app", "full"]);
    assert_eq!(everything(&pair, WEST), everything(&pair, EAST), "what the source had when the statement began");
    let refused = error(&pair, WEST, "INSERT INTO app.t VALUES (1000, 'here')");
    assert!(refused.contains("1290"), "{refused}");
    let refused = error(&pair, WEST, "CREATE TABLE app.u (id INT PRIMARY KEY)");
    assert!(refused.contains("1290"), "{refused}");
    pair.sql(EAST, "CREATE TABLE app.u (id INT PRIMARY KEY, w INT); INSERT INTO app.u VALUES (1, 2); DELETE FROM app.t WHERE id >= 250");
    equal(&pair, EAST, WEST);
    pair.wait("the definition has travelled", || {
        let seen = pair.try_sql(WEST, "SELECT * FROM app.u");
        String::from_utf8_lossy(&seen.stdout).trim_end() == "1\t2"
    });
    let again = follow(&pair, WEST, EAST, false);
    assert_eq!(again[0], "app", "an order whose aim holds succeeds");
    pair.wait("it has caught up", || status(&pair, WEST, "state") == "caught up");
    pair.sql(WEST, "PAUSE REPLICATING app");
    pair.wait("it halts", || status(&pair, WEST, "state") == "paused");
    pair.sql(EAST, &rows(700, 720, "meanwhile"));
    assert_eq!(pair.sql(WEST, "SELECT COUNT(*) FROM app.t WHERE id >= 700"), "0", "reads go on at the cut");
    pair.sql(WEST, "CONTINUE REPLICATING app");
    equal(&pair, EAST, WEST);
    pair.sql(WEST, "DROP DATABASE app");
    let links = "SELECT COUNT(*) FROM information_schema.PERENNIAL_REPLICATION_STATUS";
    pair.wait("the source knows that its sink is gone", || pair.sql(EAST, links) == "0");
    pair.sql(EAST, &rows(600, 610, "still"));
}

#[test]
fn an_order_that_cannot_be_carried_out_leaves_nothing() {
    let pair = pair();
    pair.sql(EAST, "CREATE USER repl IDENTIFIED BY 'right'; CREATE USER poor IDENTIFIED BY 'right'; GRANT REPLICATION ON *.* TO repl");
    let port = pair.port(EAST);
    for (source, why) in [
        (format!("repl:'wrong'@127.0.0.1:{port}/app"), "denied"),
        (format!("poor:'right'@127.0.0.1:{port}/app"), "REPLICATION privilege"),
        (format!("repl:'right'@127.0.0.1:{port}/nothing"), "nothing"),
        ("root@127.0.0.1:1/app".to_string(), "127.0.0.1:1"),
    ] {
        let text = format!("REPLICATE DATABASE app FROM {source} OPTIONS (connect_timeout = '1s')");
        let refused = error(&pair, WEST, &text);
        assert!(refused.contains("9010") && refused.contains(why), "{source}: {refused}");
    }
    assert_eq!(pair.sql(WEST, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'app'"), "0");
    pair.sql(WEST, "CREATE DATABASE app PARTITIONS 2");
    let text = format!("REPLICATE DATABASE app FROM repl:'right'@127.0.0.1:{port}/app");
    assert!(error(&pair, WEST, &text).contains("1007"), "it exists here");
    assert_eq!(pair.sql(EAST, "SELECT COUNT(*) FROM information_schema.PERENNIAL_REPLICATION_STATUS"), "0");
    pair.sql(WEST, "DROP DATABASE app");
    assert!(pair.sql(WEST, &text).starts_with("app\tfull"));
}

#[test]
fn leaves_die_on_both_sides_and_the_stream_goes_on() {
    let pair = pair();
    pair.sql(EAST, &rows(0, 100, "first"));
    follow(&pair, WEST, EAST, false);
    pair.kill("west-leaf-0");
    pair.sql(EAST, &rows(100, 200, "without a leaf of the sink"));
    equal(&pair, EAST, WEST);
    pair.start_node("west-leaf-0");
    pair.kill("east-leaf-1");
    pair.sql(EAST, &rows(200, 300, "without a leaf of the source"));
    equal(&pair, EAST, WEST);
    pair.start_node("east-leaf-1");
    pair.kill("west-aggregator-0");
    pair.kill("east-aggregator-0");
    pair.start_node("east-aggregator-0");
    pair.sql(EAST, &rows(300, 400, "without the aggregator of the sink"));
    pair.start_node("west-aggregator-0");
    equal(&pair, EAST, WEST);
}

#[test]
fn a_lost_region_comes_back_by_the_difference() {
    let pair = pair();
    (0..2000).step_by(500).for_each(|from| drop(pair.sql(EAST, &rows(from, from + 500, "first"))));
    let full = follow(&pair, WEST, EAST, false);
    // What the sink never receives: its leaves stand still while the source goes on, and then the source is gone.
    pair.wait("it has caught up", || status(&pair, WEST, "state") == "caught up");
    for leaf in ["west-leaf-0", "west-leaf-1"] {
        pair.signal(leaf, "STOP");
    }
    pair.sql(EAST, &rows(5000, 5040, "lost"));
    EAST_NODES.iter().for_each(|node| pair.kill(node));
    for leaf in ["west-leaf-0", "west-leaf-1"] {
        pair.signal(leaf, "CONT");
    }
    pair.wait("the sink is promoted", || pair.try_sql(WEST, "STOP REPLICATING app").status.success());
    assert_eq!(pair.sql(WEST, "SELECT COUNT(*) FROM app.t"), "2000");
    pair.sql(WEST, "UPDATE app.t SET v = 'changed' WHERE id < 20");
    EAST_NODES.iter().for_each(|node| pair.start_node(node));
    let refused = error(&pair, EAST, "INSERT INTO app.t VALUES (9000, 'a second primary')");
    assert!(refused.contains("1290"), "the guard: {refused}");
    assert_eq!(pair.sql(EAST, "SELECT COUNT(*) FROM app.t"), "2040", "reads go on");
    let source = "SELECT state, lag_records, lag_bytes FROM information_schema.PERENNIAL_REPLICATION_STATUS WHERE role = 'source'";
    assert_eq!(pair.sql(EAST, source), "broken\tNULL\tNULL", "it has fed nobody since it is back");
    let back = follow(&pair, EAST, WEST, true);
    assert_eq!(back[1], "log");
    assert_eq!(everything(&pair, EAST), everything(&pair, WEST));
    let bytes = |row: &[String]| row[4].parse::<u64>().expect("shipped_bytes is a number");
    assert!(bytes(&back) * 5 < bytes(&full), "the difference, not everything: {back:?} after {full:?}");
    assert_eq!(back[6], "40", "what the east alone had is set aside: {back:?}");
    let kept = pair.sql(EAST, &format!("SHOW DIVERGENCE RECORDS '{}'", back[7]));
    assert_eq!(kept.lines().count(), 40, "{kept}");
    assert!(kept.lines().all(|line| line.contains("lost 50")), "{kept}");
    // The way home, without a loss.
    pair.sql(WEST, "FLUSH TABLES ON app WITH READ ONLY");
    let refused = error(&pair, WEST, "INSERT INTO app.t VALUES (9001, 'fenced')");
    assert!(refused.contains("1290"), "{refused}");
    pair.sql(EAST, "STOP REPLICATING app");
    pair.sql(EAST, &rows(9100, 9110, "home"));
    let home = follow(&pair, WEST, EAST, true);
    assert_eq!((home[1].as_str(), home[6].as_str()), ("log", "0"), "a planned exchange loses nothing: {home:?}");
    equal(&pair, EAST, WEST);
}

#[test]
fn an_interrupted_way_back_goes_on() {
    let pair = pair();
    pair.sql(EAST, &rows(0, 1000, "first"));
    follow(&pair, WEST, EAST, false);
    EAST_NODES.iter().for_each(|node| pair.kill(node));
    pair.sql(WEST, "STOP REPLICATING app");
    for from in (2000..4000).step_by(500) {
        pair.sql(WEST, &rows(from, from + 500, "west"));
    }
    EAST_NODES.iter().for_each(|node| pair.start_node(node));
    let text =
        format!("REPLICATE DATABASE app WITH FORCE DIFFERENTIAL FROM root@127.0.0.1:{}/app NOWAIT", pair.port(WEST));
    pair.wait("the order is taken", || pair.try_sql(EAST, &text).status.success());
    pair.kill("east-leaf-0");
    pair.start_node("east-leaf-0");
    pair.kill("east-leaf-1");
    pair.kill("east-aggregator-0");
    pair.start_node("east-leaf-1");
    pair.start_node("east-aggregator-0");
    equal(&pair, WEST, EAST);
    pair.wait("the order is carried out", || status(&pair, EAST, "state") == "caught up");
}

#[test]
fn a_planned_exchange_under_writes_loses_nothing() {
    let pair = pair();
    pair.sql(EAST, &rows(0, 100, "first"));
    follow(&pair, WEST, EAST, false);
    for round in 0..4u32 {
        let (source, sink) = if round % 2 == 0 { (EAST, WEST) } else { (WEST, EAST) };
        let id = 1000 + round * 1000;
        pair.sql(source, &rows(id, id + 300, "before the fence"));
        // Not a moment between: the sink has not heard of the seal when it is promoted.
        pair.sql(source, "FLUSH TABLES ON app WITH READ ONLY");
        let stopped = pair.sql(sink, "STOP REPLICATING app");
        assert_eq!(stopped.split('\t').nth(3), Some("0"), "nothing is dropped: {stopped}");
        let seen = pair.sql(sink, &format!("SELECT COUNT(*) FROM app.t WHERE id >= {id} AND id < {}", id + 300));
        assert_eq!(seen, "300", "round {round}");
        let back = follow(&pair, source, sink, true);
        assert_eq!(back[6], "0", "nothing is set aside: {back:?}");
    }
}

/// ASYNC REPLICATION: the source's copy that goes on by the standing order lacks what the sink has shown.
#[test]
fn what_a_sink_has_shown_stands_until_a_person_says_otherwise() {
    let pair = Playground::start(&["east", "west"], 2);
    pair.sql(
        EAST,
        "CREATE DATABASE app PARTITIONS 1 WITH ASYNC REPLICATION OPTIONS (async_failover_after = '1s');
         CREATE TABLE app.t (id INT PRIMARY KEY, v VARCHAR(200) NOT NULL)",
    );
    pair.sql(EAST, &rows(0, 100, "first"));
    follow(&pair, WEST, EAST, false);
    let holder = &pair.primary_of("app", 0)[..];
    let other = if holder == "east-leaf-0" { "east-leaf-1" } else { "east-leaf-0" };
    pair.wait_level(EAST);
    pair.kill(other);
    pair.sql(EAST, &rows(100, 150, "ahead"));
    equal(&pair, EAST, WEST);
    let ahead = everything(&pair, WEST);

    pair.kill(holder);
    pair.start_node(other);
    let count = "SELECT COUNT(*) FROM app.t";
    pair.wait("the other copy goes on without it", || {
        String::from_utf8_lossy(&pair.try_sql(EAST, count).stdout).trim() == "100"
    });
    pair.wait("the link is broken", || status(&pair, WEST, "state") == "broken");
    let advice = status(&pair, WEST, "advice");
    assert!(advice.contains("of the source has lost its records above"), "{advice}");
    assert!(advice.contains("STOP REPLICATING app") && advice.contains("WITH FORCE DIFFERENTIAL"), "{advice}");
    assert_eq!(everything(&pair, WEST), ahead, "reads go on at the cut");

    follow(&pair, WEST, EAST, true);
    equal(&pair, EAST, WEST);
    assert_eq!(pair.sql(WEST, count), "100");
    assert!(pair.sql(WEST, "SHOW DIVERGENCE FOR app").contains("app"), "what was given up is set aside");
    pair.sql(EAST, &rows(200, 210, "and on"));
    equal(&pair, EAST, WEST);
}
