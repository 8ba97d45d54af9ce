//! What a failover drops is set aside: listed, shown, exported as statements that can be run, and discarded.

mod playground;

use playground::Playground;

#[test]
fn what_a_standing_order_gave_up_can_be_seen_taken_out_and_discarded() {
    let region = Playground::start(&["east"], 2);
    region.sql(
        0,
        "CREATE DATABASE app PARTITIONS 1 WITH ASYNC REPLICATION OPTIONS (async_failover_after = '1s');
         CREATE TABLE app.t (id INT PRIMARY KEY, name VARCHAR(20), price DECIMAL(6,2));
         INSERT INTO app.t VALUES (1, 'kept', 1), (2, 'kept', 2)",
    );
    let holder = &region.primary_of("app", 0)[..];
    let other = if holder == "east-leaf-0" { "east-leaf-1" } else { "east-leaf-0" };
    region.wait_level(0);

    region.kill(other);
    region.sql(0, "INSERT INTO app.t VALUES (3, 'it''s lost', 3.5)");
    region.sql(0, "UPDATE app.t SET name = 'changed' WHERE id = 1");
    region.sql(0, "DELETE FROM app.t WHERE id = 2");
    region.kill(holder);
    region.start_node(other);
    let rows = "SELECT GROUP_CONCAT(name ORDER BY id) FROM app.t";
    region.wait("the other copy serves without what it never had", || {
        String::from_utf8_lossy(&region.try_sql(0, rows).stdout).trim() == "kept,kept"
    });
    region.start_node(holder);

    let listed = || String::from_utf8_lossy(&region.try_sql(0, "SHOW DIVERGENCE FOR app").stdout).trim().to_string();
    region.wait("what was dropped is listed", || !listed().is_empty());
    let listed = listed();
    let fields: Vec<&str> = listed.split('\t').collect();
    assert_eq!((fields.len(), fields[1], fields[6], fields[7]), (9, "app", "3", "3"), "{listed}");
    let id = fields[0];
    assert_eq!(
        region.sql(0, "SELECT id, records FROM information_schema.PERENNIAL_DIVERGENCE"),
        format!("{id}\t3"),
        "its twin"
    );
    let records = region.sql(0, &format!("SHOW DIVERGENCE RECORDS '{id}'"));
    let operations: Vec<Vec<&str>> = records.lines().map(|line| line.split('\t').skip(2).collect()).collect();
    assert_eq!(operations[0][..3], ["t", "insert", "{\"id\": 3}"], "{records}");
    assert_eq!(operations[0][4], "{\"id\": 3, \"name\": \"it's lost\", \"price\": 3.50}");
    assert_eq!(operations[1][1], "update");
    assert_eq!((operations[2][1], operations[2][4], operations[2][5]), ("delete", "NULL", "dropped"));
    assert_eq!(region.sql(0, &format!("SHOW DIVERGENCE RECORDS '{id}' LIMIT 1")).lines().count(), 1);

    let statements = region.sql(0, &format!("EXPORT DIVERGENCE '{id}' AS SQL")).replace("\\\\", "\\");
    region.sql(0, &statements);
    assert_eq!(region.sql(0, "SELECT id, name FROM app.t ORDER BY id"), "1\tchanged\n3\tit's lost", "{statements}");
    assert_eq!(region.sql(0, &format!("DISCARD DIVERGENCE '{id}'")), format!("{id}\tapp\t1"));
    assert_eq!(region.sql(0, "SHOW DIVERGENCE"), "");
}
