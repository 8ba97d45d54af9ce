//! What the cluster says of itself: a word is true, and its advice helps.

mod playground;

use playground::Playground;

fn error(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn leaf(region: &Playground, index: usize) -> String {
    region.json()["regions"][0]["leaves"][index]["addr"].as_str().expect("it has an address").to_string()
}

/// A column of SHOW DATABASES EXTENDED for `app`.
fn app(region: &Playground, column: &str) -> String {
    region.sql(0, &app_text(column))
}

fn app_text(column: &str) -> String {
    format!("SELECT `{column}` FROM information_schema.PERENNIAL_DATABASES WHERE `database` = 'app'")
}

/// A column of SHOW CLUSTER STATUS.
fn status(region: &Playground, column: &str) -> String {
    region.sql(0, &format!("SELECT {column} FROM information_schema.PERENNIAL_CLUSTER_STATUS"))
}

/// Details of events of a kind.
fn events(region: &Playground, condition: &str) -> String {
    region.sql(0, &format!("SELECT detail FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE {condition}"))
}

fn fill(region: &Playground, options: &str) {
    region.sql(0, &format!("CREATE DATABASE app PARTITIONS 4 {options}"));
    region.sql(0, "CREATE TABLE app.t (id BIGINT PRIMARY KEY, v BIGINT)");
    let rows = (0..1000).map(|id| format!("({id}, {id})")).collect::<Vec<_>>().join(",");
    region.sql(0, &format!("INSERT INTO app.t VALUES {rows}"));
}

#[test]
fn with_async_replication_a_copy_that_keeps_up_counts() {
    let region = Playground::start(&["east"], 2);
    fill(&region, "OPTIONS (redundancy = 2)");
    region.sql(0, "ALTER DATABASE app SET ASYNC REPLICATION");
    region.wait("all copies keep up", || app(&region, "state") == "online");
    let secondaries =
        "SELECT COUNT(*) FROM information_schema.PERENNIAL_PARTITIONS WHERE role = 'secondary' AND state = 'online'";
    assert_eq!(region.sql(0, secondaries), "5");
    assert_eq!(status(&region, "alarms"), "0");
    let altered = events(&region, "event = 'alter'");
    assert!(altered.contains("REPLICATION = ASYNC (was SYNC)"), "{altered}");
    // min_in_sync is 1, and the set is the primary alone, whoever that is.
    let away = leaf(&region, 1);
    assert!(region.sql(0, &format!("DETACH LEAF '{away}'")).ends_with("detached"));
    let advice = format!("ATTACH LEAF '{away}'");
    region.wait("it is missed", || app(&region, "state") == "degraded" && app(&region, "advice").contains(&advice));
    region.sql(0, &advice);
    region.wait("all copies keep up again", || app(&region, "state") == "online");
}

#[test]
fn a_partition_that_changes_hands_is_not_unavailable_and_a_lost_one_is() {
    let region = Playground::start(&["east"], 2);
    fill(&region, "OPTIONS (redundancy = 2)");
    let in_sync = "SELECT COUNT(*) FROM information_schema.PERENNIAL_PARTITIONS WHERE in_sync LIKE '%,%'";
    for round in 0..6 {
        let away = leaf(&region, round % 2);
        let seen = region.sql(0, &format!("DETACH LEAF '{away}'; {}", app_text("state")));
        assert!(seen.ends_with("degraded"), "{seen}");
        region.sql(0, &format!("ATTACH LEAF '{away}' NO REBALANCE"));
        region.wait("its copies are in sync", || region.sql(0, in_sync) == "5");
        let seen = region.sql(0, &format!("REBALANCE PARTITIONS ON app; {}", app_text("state")));
        assert!(seen.ends_with("online"), "{seen}");
    }
    // A leaf that is gone for good, with all that it had.
    region.sql(0, "CREATE DATABASE alone PARTITIONS 2 OPTIONS (redundancy = 1)");
    region.kill("east-leaf-1");
    let alone = "SELECT state, advice FROM information_schema.PERENNIAL_DATABASES WHERE `database` = 'alone'";
    let lost = format!("start leaf {}", leaf(&region, 1));
    region.wait("it is missed", || {
        let seen = region.sql(0, alone);
        seen.starts_with("unavailable") && seen.contains(&lost)
    });
    region.wait("its silence is told", || !events(&region, "event = 'silent'").is_empty());
    region.wait("it is degraded", || app(&region, "state") == "degraded");
    assert_eq!(status(&region, "alarms"), "3", "a node and two databases");
    let told = events(&region, "event IN ('failover', 'in-sync')");
    let named = |line: &str| line.contains("app:") && line.contains(&leaf(&region, 1));
    assert!(told.lines().any(named), "{told}");
    let kinds = "event IN ('failover', 'in-sync', 'handover', 'move', 'silent') AND node IS NULL";
    assert_eq!(events(&region, kinds), "", "each names the node that it is about");
    region.start_node("east-leaf-1");
    region.wait("it is back", || app(&region, "state") == "online" && region.sql(0, alone).starts_with("online"));
    assert_eq!(status(&region, "alarms"), "0");
}

#[test]
fn advice_names_what_helps() {
    let region = Playground::start(&["east"], 3);
    fill(&region, "OPTIONS (redundancy = 2)");
    assert_eq!(status(&region, "name"), "east");
    region.sql(0, "ALTER DATABASE app SET OPTIONS (redundancy = 3)");
    region.wait("copies are missing", || app(&region, "state") == "degraded");
    let advice = app(&region, "advice");
    let statement = advice.rsplit_once(": ").expect("it says what to type").1;
    assert_eq!(statement, "RESTORE REDUNDANCY ON `app`");
    region.sql(0, statement);
    region.wait("nothing is missing", || app(&region, "state") == "online");
    region.wait("sizes are told", || {
        let number = |column: &str| app(&region, column).parse::<u64>().unwrap_or_default();
        number("rows") >= 1000 && number("log_bytes") > 0 && number("bytes") > 0
    });
    region.kill("east-leaf-2");
    let lost = leaf(&region, 2);
    let start = format!("start leaf {lost}");
    region.wait("it is missed", || app(&region, "state") == "degraded" && app(&region, "advice").contains(&start));
    let advice = app(&region, "advice");
    assert!(advice.contains("ADD LEAF"), "{advice}");
}

/// Who looks after the cluster, and who is the user of another region's sink, reads and changes no table.
#[test]
fn privileges_for_the_cluster_give_no_database_away() {
    let region = Playground::start(&["east"], 1);
    region.sql(
        0,
        "CREATE DATABASE app PARTITIONS 2; CREATE TABLE app.t (id BIGINT PRIMARY KEY); INSERT INTO app.t VALUES (1)",
    );
    let users = ["GRANT REPLICATION ON *.* TO r", "GRANT CLUSTER ON *.* TO c", "GRANT SUPER ON *.* TO s"];
    region.sql(0, &format!("CREATE USER r; CREATE USER c; CREATE USER s; CREATE USER d; {}", users.join("; ")));
    region.sql(0, "GRANT ALL ON app.* TO d");
    for user in ["r", "c", "s"] {
        for denied in [
            "SELECT * FROM app.t",
            "INSERT INTO app.t VALUES (2)",
            "DROP TABLE app.t",
            "DROP DATABASE app",
            "USE app",
            "ALTER DATABASE app SET OPTIONS (redundancy = 1)",
            "CREATE DATABASE mine",
        ] {
            let output = region.try_sql_as(0, 0, user, denied);
            assert!(!output.status.success() && error(&output).contains("1044"), "{user}: {denied}: {output:?}");
        }
    }
    let seen = |user: &str| {
        let output = region.try_sql_as(0, 0, user, "SHOW PARTITIONS");
        String::from_utf8_lossy(&output.stdout).lines().count()
    };
    assert_eq!([seen("r"), seen("c"), seen("s"), seen("d")], [0, 3, 3, 3], "how many partitions they see");
    let own = region.try_sql_as(0, 0, "d", "INSERT INTO app.t VALUES (2); SELECT COUNT(*) FROM app.t");
    assert_eq!(own.stdout, b"2\n", "{own:?}");
}

#[test]
fn events_have_times_and_names() {
    let region = Playground::start(&["east"], 1);
    region.sql(0, "CREATE DATABASE app PARTITIONS 2");
    let late = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS \
                WHERE event = 'create' AND time > NOW() - INTERVAL 2 MINUTE";
    assert_eq!(region.sql(0, late), "1");
    let zoned = format!("SET time_zone = '+05:00'; {late} AND time > '2026-01-01'");
    assert_eq!(region.sql(0, &zoned), "1", "times are the session's");
    let hours =
        "SET time_zone = '+00:00'; SHOW CLUSTER EVENTS LIMIT 1; SET time_zone = '+05:00'; SHOW CLUSTER EVENTS LIMIT 1";
    let shown = region.sql(0, hours);
    let hour = |line: &str| line[11..13].parse::<u32>().expect("YYYY-MM-DD hh:mm:ss");
    let (utc, there) = shown.split_once('\n').expect("two rows");
    assert_eq!((hour(utc) + 5) % 24, hour(there), "{shown}");
    assert!(!shown.contains("UTC"), "{shown}");
    let master = events(&region, "event = 'master'");
    assert!(master.contains(&format!("127.0.0.1:{} is the master", region.port(0))), "{master}");
    region.sql(0, "DROP DATABASE app");
    let of_app = "SELECT COUNT(*) FROM information_schema.PERENNIAL_CLUSTER_EVENTS WHERE `database` = 'app'";
    assert_ne!(region.sql(0, of_app), "0", "it has its name after its end");
    let refused = error(&region.try_sql(0, "SHOW PARTITIONS ON app"));
    assert!(refused.contains("1049"), "{refused}");
}
