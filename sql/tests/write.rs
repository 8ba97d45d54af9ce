//! Statements that write, and what they leave.

mod support;

use perennial_sql::octets::statement_text;
use support::Client;

const SETUP: &str = "
CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(5), n INT NOT NULL DEFAULT 7, at TIMESTAMP NULL ON UPDATE CURRENT_TIMESTAMP);
CREATE TABLE c (id BIGINT AUTO_INCREMENT PRIMARY KEY, a INT);
CREATE TABLE h (a INT, b TEXT);
CREATE TABLE p (x INT, y INT, z INT, PRIMARY KEY (x, y), SHARD KEY (x));
";

#[test]
fn rows_are_inserted() {
    let mut client = Client::new(SETUP);
    assert_eq!(client.line("INSERT INTO t (id, a) VALUES (1, 'x'), (2, NULL)"), "ok 2");
    assert_eq!(client.line("INSERT INTO t SET id = 3, n = 1 + 1"), "ok 1");
    assert_eq!(client.line("INSERT INTO t VALUES (4, DEFAULT, DEFAULT, NULL)"), "ok 1");
    assert_eq!(client.line("SELECT id, a, n FROM t ORDER BY id"), "1|x|7 ; 2|NULL|7 ; 3|NULL|2 ; 4|NULL|7");
    assert_eq!(client.line("INSERT INTO h SELECT id, a FROM t"), "ok 4");
    assert_eq!(client.line("SELECT COUNT(*), COUNT(b) FROM h"), "4|1");
    assert_eq!(client.done("INSERT INTO h VALUES (1, 'a'), (2, 'b')").info, "Records: 2  Duplicates: 0  Warnings: 0");
}

#[test]
fn values_that_do_not_fit_are_refused_or_cut() {
    let mut client = Client::new(SETUP);
    for (text, error) in [
        ("INSERT INTO t (id) VALUES (3000000000)", "1264 Out of range value for column 'id' at row 1"),
        (
            "INSERT INTO t VALUES (1, 'x', 1, NULL), (2, 'too long', 1, NULL)",
            "1406 Data too long for column 'a' at row 2",
        ),
        ("INSERT INTO t (id) VALUES ('abc')", "1366 Incorrect integer value: 'abc' for column 'id' at row 1"),
        ("INSERT INTO t (id, n) VALUES (1, NULL)", "1048 Column 'n' cannot be null"),
        (
            "INSERT INTO t (id, at) VALUES (1, '2023-02-29')",
            "1292 Incorrect datetime value: '2023-02-29' for column 'at' at row 1",
        ),
        ("INSERT INTO t (a) VALUES ('x')", "1364 Field 'id' doesn't have a default value"),
        ("INSERT INTO t VALUES (1, 2)", "1136 Column count doesn't match value count at row 1"),
        ("INSERT INTO t (id, id) VALUES (1, 2)", "1110 Column 'id' specified twice"),
        ("INSERT INTO t (nope) VALUES (1)", "1054 Unknown column 'nope' in 'field list'"),
        ("INSERT INTO nope VALUES (1)", "1146 Table 'd.nope' doesn't exist"),
    ] {
        assert_eq!(client.line(text), error, "{text}");
    }
    assert_eq!(client.line("SELECT COUNT(*) FROM t"), "0");
    assert_eq!(client.line("INSERT IGNORE INTO t VALUES (1, 'too long', NULL, NULL)"), "ok 1");
    assert_eq!(client.warnings(), ["1406 Data too long for column 'a' at row 1", "1048 Column 'n' cannot be null"]);
    assert_eq!(client.line("SELECT id, a, n FROM t"), "1|too l|0");
    client.line("SET sql_mode = ''");
    assert_eq!(client.line("INSERT INTO t (id, a) VALUES (2, 'also too long')"), "ok 1");
    assert_eq!(client.line("SELECT a FROM t WHERE id = 2"), "also ");
}

#[test]
fn literals_may_hold_any_bytes() {
    let mut client = Client::new(
        "CREATE TABLE b (id INT PRIMARY KEY, v BLOB, a VARCHAR(9)); CREATE TABLE k (k VARBINARY(9) PRIMARY KEY, n INT)",
    );
    let mut line = |bytes: &[u8]| match statement_text(bytes) {
        Ok(text) => client.line(&text),
        Err(error) => format!("{} {error}", error.code),
    };
    let rows = b"INSERT INTO b VALUES (1, '\0\xff', 'x'), (2, _binary'\xfe', NULL), (3, _binary'a', _binary'b')";
    assert_eq!(line(rows), "ok 3");
    assert_eq!(line(b"SELECT id, HEX(v), a FROM b ORDER BY id"), "1|00FF|x ; 2|FE|NULL ; 3|61|b");
    assert_eq!(line(b"UPDATE b SET v = '\xc3' WHERE v = ('\0\xff')"), "ok 1");
    assert_eq!(line(b"SELECT id FROM b WHERE v IN ('\xfe', '\xc3') ORDER BY id"), "1 ; 2");
    assert_eq!(line(b"INSERT INTO k VALUES ('\xff\x01', 1)"), "ok 1");
    assert_eq!(line(b"SELECT n FROM k WHERE k = '\xff\x01'"), "1");
    assert_eq!(line(b"DELETE FROM k WHERE k = '\xff\x01'"), "ok 1");
    let into_text = line(b"INSERT INTO b VALUES (4, 'x', '\xff')");
    assert_eq!(into_text, "1366 Incorrect string value: '\\xFF' for column 'a' at row 1");
    for text in [
        &b"SELECT '\xff'"[..],
        b"SELECT _utf8mb4'\xff'",
        b"SELECT CONCAT('\xff')",
        b"SELECT id FROM b WHERE a = '\xff'",
        b"SELECT id FROM b WHERE id = 1 AND a > '\xff'",
        b"SELECT id FROM b WHERE '\xff' IN ('a', 'b')",
        b"DELETE FROM b WHERE a = '\xff'",
        b"UPDATE b SET a = CONCAT(a, '\xff')",
    ] {
        let refused = line(text);
        assert!(refused.starts_with("1300 Invalid utf8mb4 character string: '\\xFF'"), "{text:?}: {refused}");
    }
    assert_eq!(line(b"SELECT COUNT(*) FROM b"), "3");
}

#[test]
fn duplicate_keys() {
    let mut client = Client::new(SETUP);
    client.line("INSERT INTO t (id, a) VALUES (1, 'x')");
    client.line("INSERT INTO p VALUES (1, 2, 3)");
    assert_eq!(client.line("INSERT INTO t (id) VALUES (1)"), "1062 Duplicate entry '1' for key 't.PRIMARY'");
    assert_eq!(client.line("INSERT INTO p VALUES (1, 2, 4)"), "1062 Duplicate entry '1-2' for key 'p.PRIMARY'");
    let done = client.done("INSERT IGNORE INTO t (id, a) VALUES (1, 'y'), (2, 'z')");
    assert_eq!((done.affected, done.info.as_str()), (1, "Records: 2  Duplicates: 1  Warnings: 1"));
    assert_eq!(client.line("REPLACE INTO t (id, a) VALUES (1, 'r'), (3, 's')"), "ok 3");
    assert_eq!(
        client.line("INSERT INTO t (id, a, n) VALUES (1, 'u', 5), (4, 'v', 6) ON DUPLICATE KEY UPDATE a = VALUES(a), n = n + VALUES(n)"),
        "ok 3"
    );
    assert_eq!(client.line("SELECT id, a, n FROM t ORDER BY id"), "1|u|12 ; 2|z|7 ; 3|s|7 ; 4|v|6");
    assert_eq!(client.line("INSERT INTO t (id, n) VALUES (4, 1) ON DUPLICATE KEY UPDATE n = 6"), "ok 0");
}

#[test]
fn counters_count() {
    let mut client = Client::new(SETUP);
    let done = client.done("INSERT INTO c (a) VALUES (10), (20)");
    assert_eq!((done.affected, done.last_insert_id), (2, 1));
    assert_eq!(client.line("SELECT LAST_INSERT_ID()"), "1");
    client.line("INSERT INTO c VALUES (100, 1), (NULL, 2), (0, 3)");
    client.line("INSERT INTO c (a) VALUES (4)");
    assert_eq!(client.line("SELECT id FROM c ORDER BY id"), "1 ; 2 ; 100 ; 101 ; 102 ; 103");
}

#[test]
fn rows_are_updated_where_they_are() {
    let mut client = Client::new(SETUP);
    client.line("INSERT INTO t (id, a, n) VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)");
    let done = client.done("UPDATE t SET n = n + 10, a = CONCAT(a, n) WHERE id >= 2");
    assert_eq!(done.info, "Rows matched: 2  Changed: 2  Warnings: 0");
    // Later assignments see earlier ones, as in MySQL.
    assert_eq!(client.line("SELECT id, a, n, at IS NULL FROM t ORDER BY id"), "1|x|1|1 ; 2|y12|12|0 ; 3|z13|13|0");
    assert_eq!(client.done("UPDATE t SET n = 1 WHERE id = 1").info, "Rows matched: 1  Changed: 0  Warnings: 0");
    assert_eq!(client.line("UPDATE t SET n = 0 ORDER BY id DESC LIMIT 1"), "ok 1");
    assert_eq!(client.line("UPDATE t SET n = 99 WHERE id IN (SELECT id FROM t WHERE a LIKE 'y%')"), "ok 1");
    assert_eq!(client.line("SELECT n FROM t ORDER BY id"), "1 ; 99 ; 0");
    assert_eq!(client.line("UPDATE t SET n = NULL WHERE id = 1"), "1048 Column 'n' cannot be null");
    assert_eq!(client.line("UPDATE t SET a = 'much too long'"), "1406 Data too long for column 'a' at row 1");
    assert_eq!(client.line("UPDATE t SET nope = 1"), "1054 Unknown column 'nope' in 'field list'");
    assert_eq!(client.line("UPDATE t AS x SET x.n = 5 WHERE x.id = 1"), "ok 1");
    assert_eq!(client.line("UPDATE h SET a = 1"), "ok 0");
}

#[test]
fn keys_can_be_updated() {
    let mut client = Client::new(SETUP);
    client.line("INSERT INTO t (id, a) VALUES (1, 'x'), (2, 'y'), (3, 'z')");
    assert_eq!(client.line("UPDATE t SET id = id + 1"), "ok 3");
    assert_eq!(client.line("SELECT id, a FROM t ORDER BY id"), "2|x ; 3|y ; 4|z");
    assert_eq!(client.line("UPDATE t SET id = 2 WHERE id = 3"), "1062 Duplicate entry '2' for key 't.PRIMARY'");
    client.line("INSERT INTO p VALUES (1, 1, 1)");
    assert_eq!(client.line("UPDATE p SET x = 50 WHERE z = 1"), "ok 1");
    assert_eq!(client.line("SELECT * FROM p WHERE x = 50 AND y = 1"), "50|1|1");
}

#[test]
fn rows_are_deleted() {
    let mut client = Client::new(SETUP);
    client.line("INSERT INTO t (id) VALUES (1), (2), (3), (4), (5)");
    assert_eq!(client.line("DELETE FROM t WHERE id = 1"), "ok 1");
    assert_eq!(client.line("DELETE FROM t WHERE id > 1 ORDER BY id LIMIT 1"), "ok 1");
    assert_eq!(client.line("DELETE FROM t WHERE id IN (SELECT 3)"), "ok 1");
    assert_eq!(client.line("SELECT id FROM t ORDER BY id"), "4 ; 5");
    assert_eq!(client.line("DELETE FROM t"), "ok 2");
    client.line("INSERT INTO h VALUES (1, 'a'), (1, 'a'), (2, 'b')");
    assert_eq!(client.line("DELETE FROM h WHERE a = 1 LIMIT 1"), "ok 1");
    assert_eq!(client.line("SELECT COUNT(*) FROM h"), "2");
}

#[test]
fn tables_come_and_go() {
    let mut client = Client::new(SETUP);
    assert_eq!(client.line("CREATE TABLE t (a INT)"), "1050 Table 't' already exists");
    assert_eq!(client.line("CREATE TABLE IF NOT EXISTS t (a INT)"), "ok 0");
    assert_eq!(client.warnings(), ["1050 Table 't' already exists"]);
    assert_eq!(client.line("SHOW TABLES"), "c ; h ; p ; t");
    assert_eq!(client.line("SHOW TABLES LIKE 'C'"), "c");
    client.line("INSERT INTO t (id) VALUES (1)");
    assert_eq!(client.line("TRUNCATE t"), "ok 0");
    assert_eq!(client.line("SELECT COUNT(*) FROM t"), "0");
    assert_eq!(client.line("DROP TABLE t, nope"), "1051 Unknown table 'd.nope'");
    assert_eq!(client.line("DROP TABLE IF EXISTS t, nope"), "ok 0");
    assert_eq!(client.line("SELECT 1 FROM t"), "1146 Table 'd.t' doesn't exist");
    assert_eq!(client.line("CREATE TABLE x LIKE p"), "ok 0");
    assert_eq!(client.line("ALTER TABLE x RENAME TO q"), "ok 0");
    assert_eq!(client.line("SHOW TABLES"), "c ; h ; p ; q");
    for (text, code) in [
        ("CREATE TABLE e (a INT, A INT)", "1060"),
        ("CREATE TABLE e (a TEXT PRIMARY KEY)", "1170"),
        ("CREATE TABLE e (a INT, PRIMARY KEY (b))", "1072"),
        ("CREATE TABLE e (a INT AUTO_INCREMENT)", "1075"),
        ("CREATE TABLE e (a INT DEFAULT 'x')", "1067"),
        ("CREATE TABLE e (a INT PRIMARY KEY, b INT, SHARD KEY (b))", "1235"),
    ] {
        assert!(client.line(text).starts_with(code), "{text}: {}", client.line(text));
    }
}

#[test]
fn columns_are_added_without_rewriting_rows() {
    let mut client = Client::new(SETUP);
    client.line("INSERT INTO c (a) VALUES (1)");
    assert_eq!(client.line("ALTER TABLE c ADD COLUMN b VARCHAR(9) NOT NULL DEFAULT 'old', ADD d INT"), "ok 0");
    client.line("INSERT INTO c (a, b, d) VALUES (2, 'new', 5)");
    assert_eq!(client.line("SELECT * FROM c ORDER BY id"), "1|1|old|NULL ; 2|2|new|5");
    assert_eq!(client.line("ALTER TABLE c DROP COLUMN a"), "ok 0");
    assert_eq!(client.line("SELECT * FROM c WHERE b = 'old'"), "1|old|NULL");
    assert_eq!(client.line("ALTER TABLE c DROP COLUMN nope"), "1091 Can't DROP 'nope'; check that column/key exists");
}

#[test]
fn a_collation_that_is_not_kept_is_told() {
    let mut client = Client::new(SETUP);
    let general =
        "1618 Collation 'utf8mb4_general_ci' is not implemented yet: strings are compared as by 'utf8mb4_bin'";
    let create = "CREATE TABLE n (a VARCHAR(5) COLLATE utf8mb4_general_ci, b TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci)";
    assert_eq!(client.line(create), "ok 0");
    assert_eq!(client.warnings(), [general]);
    assert_eq!(client.line("ALTER TABLE n ADD c VARCHAR(5) CHARACTER SET latin1, ADD d INT"), "ok 0");
    assert_eq!(client.warnings(), ["1618 Character set 'latin1' is not kept: texts are utf8mb4"]);
    assert_eq!(client.line("CREATE TABLE o (a VARCHAR(5) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin)"), "ok 0");
    assert_eq!(client.warnings(), [] as [&str; 0]);
    assert_eq!(client.line("CREATE TABLE q (a INT) DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_general_ci"), "ok 0");
    assert_eq!(client.warnings(), [general]);
}

#[test]
fn tables_describe_themselves() {
    let mut client = Client::new(SETUP);
    assert_eq!(
        client.line("DESCRIBE t"),
        "id|int|NO|PRI|NULL| ; a|varchar(5)|YES||NULL| ; n|int|NO||7| ; at|timestamp|YES||NULL|on update CURRENT_TIMESTAMP"
    );
    client.line("CREATE TABLE m (a DATETIME(3) DEFAULT NOW(3), b TIMESTAMP(6) NULL DEFAULT NOW(6) ON UPDATE NOW(6))");
    assert_eq!(
        client.line("DESCRIBE m"),
        "a|datetime(3)|YES||CURRENT_TIMESTAMP(3)|DEFAULT_GENERATED ; b|timestamp(6)|YES||CURRENT_TIMESTAMP(6)|DEFAULT_GENERATED on update CURRENT_TIMESTAMP(6)"
    );
    assert_eq!(client.line("DROP TABLE m"), "ok 0");
    let text = client.line("SHOW CREATE TABLE c");
    let create = text.strip_prefix("c|").unwrap().replace("`c`", "`c2`");
    assert_eq!(client.line(&create), "ok 0", "{create}");
    assert_eq!(client.line("SHOW CREATE TABLE c2").replace("c2", "c"), text);
    assert_eq!(
        client.line("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'd' AND column_key = 'PRI' ORDER BY 1, 2"),
        "c|id|bigint ; c2|id|bigint ; p|x|int ; p|y|int ; t|id|int"
    );
    assert_eq!(client.line("SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME = 'h'"), "1");
    assert_eq!(client.line("SELECT HOST FROM information_schema.perennial_leaves WHERE node_id = 1"), "h:1");
    let since = "SELECT since, MAX(since), DATE(since) FROM information_schema.perennial_leaves GROUP BY since";
    assert_eq!(client.line(since), "2023-11-14 22:13:20.084|2023-11-14 22:13:20.084|2023-11-14");
    assert!(client.line("DESCRIBE information_schema.perennial_leaves").contains("since|timestamp(3)"));
    let listed = "SELECT table_name, table_type FROM information_schema.tables WHERE table_name LIKE 'PERENNIAL%'";
    assert_eq!(client.line(listed), "PERENNIAL_LEAVES|SYSTEM VIEW");
    let columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'PERENNIAL_LEAVES'";
    assert_eq!(client.line(columns), "node_id|bigint ; host|varchar ; since|timestamp");
    let tables = "COLUMNS ; PERENNIAL_LEAVES ; SCHEMATA ; STATISTICS ; TABLES";
    assert_eq!(client.line("SHOW TABLES FROM information_schema"), tables);
    assert!(client.line("DESCRIBE information_schema.perennial_leaves").starts_with("node_id|bigint"));
    assert_eq!(client.line("SELECT 1 FROM information_schema.nope"), "1109 Unknown table 'nope' in information_schema");
    assert_eq!(client.line("SHOW DATABASES"), "d ; information_schema");
    assert_eq!(client.line("SHOW VARIABLES LIKE 'autocommit'"), "autocommit|ON");
    assert_eq!(
        client.line("SHOW VARIABLES WHERE Variable_name = 'lower_case_table_names'"),
        "lower_case_table_names|0"
    );
    assert_eq!(client.line("SHOW KEYS FROM p WHERE Seq_in_index = 2").split('|').nth(4), Some("y"));
}

#[test]
fn files_are_loaded() {
    let mut client = Client::new(SETUP);
    let file = b"id,a,n\n1,\"x,y\",5\n2,,bad\n1,dup,6\n3,\\N\n4,abcdefgh,1,extra\n";
    let done = client
        .load(
            "LOAD DATA LOCAL INFILE 'f' INTO TABLE t FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' IGNORE 1 LINES (id, a, n)",
            file,
        )
        .unwrap();
    assert_eq!(done.info, "Records: 5  Deleted: 0  Skipped: 1  Warnings: 5");
    assert_eq!(client.line("SELECT id, a, n FROM t ORDER BY id"), "1|x,y|5 ; 2||0 ; 3|NULL|7 ; 4|abcde|1");
    let done = client
        .load(
            "LOAD DATA LOCAL INFILE 'f' REPLACE INTO TABLE t (id, @b, @c) SET a = UPPER(NULLIF(@b, '')), n = @c * 2",
            b"1\tq\t4\n9\t\t5\n",
        )
        .unwrap();
    assert_eq!((done.affected, done.info.as_str()), (3, "Records: 2  Deleted: 1  Skipped: 0  Warnings: 0"));
    assert_eq!(client.line("SELECT id, a, n FROM t WHERE id IN (1, 9) ORDER BY id"), "1|Q|8 ; 9|NULL|10");
    assert_eq!(client.load("LOAD DATA LOCAL INFILE 'f' INTO TABLE nope", b"").unwrap_err().code, 1146);
}

#[test]
fn many_rows_spread_over_the_partitions() {
    let mut client = Client::new(SETUP);
    let rows: Vec<String> = (0..5_000).map(|id| format!("({id}, {})", id % 7)).collect();
    client.line(&format!("INSERT INTO t (id, n) VALUES {}", rows.join(",")));
    assert_eq!(client.line("SELECT COUNT(*), SUM(id), SUM(n) FROM t"), "5000|12497500|14995");
    assert_eq!(client.line("SELECT n, COUNT(*) FROM t GROUP BY n ORDER BY n LIMIT 2"), "0|715 ; 1|715");
    let list: Vec<String> = (0..2_000).map(|id| (id * 2).to_string()).collect();
    assert_eq!(client.line(&format!("SELECT COUNT(*) FROM t WHERE id IN ({})", list.join(","))), "2000");
    assert_eq!(client.line("SELECT COUNT(*) FROM t a JOIN t b ON a.id = b.id + 1"), "4999");
    assert_eq!(client.line("DELETE FROM t WHERE n = 3"), "ok 714");
}

#[test]
fn rows_of_tables_that_are_gone_are_taken_out() {
    let mut client = Client::new(SETUP);
    let many: Vec<String> = (0..9000).map(|id| format!("({id})")).collect();
    client.line(&format!("INSERT INTO t (id) VALUES {}", many.join(",")));
    client.line("INSERT INTO c (a) VALUES (1), (2), (3)");
    client.line("INSERT INTO h VALUES (1, 'a'), (1, 'a'), (2, NULL)");
    client.line("INSERT INTO p VALUES (1, 2, 3), (2, 3, 4)");
    assert_eq!(client.sweep(), 0, "nothing was dropped");
    client.line("TRUNCATE TABLE t");
    client.line("INSERT INTO t (id) VALUES (1), (2)");
    client.line("DROP TABLE c, h");
    client.line("CREATE TABLE c (id BIGINT AUTO_INCREMENT PRIMARY KEY, a INT)");
    client.line("INSERT INTO c (a) VALUES (10)");
    assert_eq!(client.sweep(), 9000 + 3 + 3, "in pieces, and without keys that a user has given as well");
    assert_eq!(client.line("SELECT (SELECT COUNT(*) FROM t), (SELECT COUNT(*) FROM p)"), "2|2");
    assert_eq!(client.line("SELECT id, a FROM c"), "1|10", "another table's counter is another one");
    assert_eq!(client.sweep(), 0);
}
