//! Texts and what becomes of them.

use perennial_sql::parse::{bind_parameters, count_parameters, parse, quote, split};
use perennial_sql::reference::{Availability, STATEMENTS, markdown};
use perennial_sql::statement::*;
use types::value::{ColumnType, IntWidth};
use types::{Datum, Decimal};

fn error(text: &str) -> String {
    let error = parse(text).expect_err(text);
    format!("{} {} {}", error.code, error.sqlstate(), error.message)
}

fn near(text: &str) -> String {
    let message = error(text);
    assert!(message.starts_with("1064 42000 You have an error in your SQL syntax; check the manual that"), "{message}");
    message[message.find("near ").unwrap()..].to_string()
}

#[test]
fn every_statement_of_the_reference_parses() {
    for entry in STATEMENTS {
        let parsed = parse(entry.example);
        let later = match &parsed {
            Ok(Statement::Later(construct)) => !construct.is_empty(),
            Ok(_) => false,
            Err(error) => panic!("{}: {error}", entry.example),
        };
        assert_eq!(later, entry.availability == Availability::Later, "{}: {parsed:?}", entry.example);
    }
}

#[test]
fn the_reference_page_is_the_table() {
    // At run time: clones share a build folder.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo tells every test its crate's folder");
    let page = &std::path::Path::new(&here).join("../docs/sql-reference.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(page, markdown()).unwrap();
    }
    assert_eq!(std::fs::read_to_string(page).unwrap(), markdown(), "run this test with UPDATE_REFERENCE=1");
}

#[test]
fn errors_name_the_place() {
    assert_eq!(near("SELEC 1"), "near 'SELEC 1' at line 1");
    assert_eq!(near("CREATE DATABASE d PARTITIONS x"), "near 'x' at line 1");
    assert_eq!(near("SELECT a\nFROM t WHERE )"), "near ')' at line 2");
    assert_eq!(near("SELECT 1 FROM"), "near '' at line 1");
    assert_eq!(near("STOP REPLICATING d\n now"), "near 'now' at line 2");
    assert_eq!(near("SELECT 'abc"), "near ''abc' at line 1");
    assert_eq!(error("  -- nothing\n"), "1065 42000 Query was empty");
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, construct) in [
        ("CREATE TABLE t (a INT, KEY (a))", "secondary indexes"),
        ("CREATE TABLE t (a INT UNIQUE)", "secondary indexes"),
        ("CREATE TABLE t (a ENUM('x'))", "type ENUM"),
        ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES u (b))", "foreign keys and CHECK constraints"),
        ("CREATE TABLE t AS SELECT 1", "CREATE TABLE … SELECT"),
        ("LOAD DATA INFILE 'f' INTO TABLE t", "LOAD DATA without LOCAL"),
        ("UPDATE a, b SET a.x = 1 WHERE a.id = b.id", "UPDATE of several tables"),
        ("DELETE a FROM a, b WHERE a.id = b.id", "DELETE of several tables"),
        ("DELETE a, b FROM a JOIN b ON a.id = b.id", "DELETE of several tables"),
        ("DELETE a.* FROM a, b", "DELETE of several tables"),
        ("DELETE FROM a, b USING a, b WHERE a.id = b.id", "DELETE of several tables"),
        ("GRANT SELECT ON d.* TO u", "GRANT of SELECT alone; grant ALL on the database"),
    ] {
        assert_eq!(
            error(text),
            format!("1235 42000 This version of Perennial doesn't yet support '{construct}'"),
            "{text}"
        );
    }
}

#[test]
fn a_transaction_does_not_read_at_one_moment() {
    for text in [
        "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "START TRANSACTION READ ONLY, WITH CONSISTENT SNAPSHOT",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ WRITE",
        "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */",
    ] {
        let message = error(text);
        assert!(
            message.starts_with("1235 42000 ") && message.contains("'WITH CONSISTENT SNAPSHOT': START"),
            "{message}"
        );
    }
    assert_eq!(parse("START TRANSACTION READ ONLY"), Ok(Statement::Begin { read_only: Some(true) }));
    assert_eq!(parse("START TRANSACTION READ WRITE"), Ok(Statement::Begin { read_only: Some(false) }));
    assert_eq!(parse("START TRANSACTION READ WRITE, READ ONLY").unwrap_err().code, 1064);
    assert_eq!(parse("START TRANSACTION"), Ok(Statement::Begin { read_only: None }));
}

#[test]
fn tables_are_read_in_full() {
    let statement = parse(
        "CREATE TABLE IF NOT EXISTS `d`.`t` (
           id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'key',
           ok BOOL DEFAULT TRUE,
           price DECIMAL(10, 2) DEFAULT -1.50,
           at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
           PRIMARY KEY (id), SHARD KEY (id)
         ) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci COMMENT='c'",
    );
    let Ok(Statement::CreateTable(table)) = statement else { panic!("{statement:?}") };
    assert_eq!(table.name, TableName { database: Some("d".into()), name: "t".into() });
    assert!(table.if_not_exists);
    assert_eq!(table.primary_key, ["id"]);
    assert_eq!(table.shard_key, Some(vec!["id".to_string()]));
    assert_eq!((table.auto_increment, table.comment.as_str(), table.ignored.len()), (Some(5), "c", 1));
    let types: Vec<ColumnType> = table.columns.iter().map(|column| column.ty).collect();
    assert_eq!(
        types,
        [
            ColumnType::Int { width: IntWidth::Big, unsigned: true },
            ColumnType::Bool,
            ColumnType::Decimal { precision: 10, scale: 2, unsigned: false },
            ColumnType::Timestamp(6)
        ]
    );
    assert_eq!(table.columns[0].nullable, Some(false));
    assert!(table.columns[0].auto_increment && table.columns[3].on_update_now);
    assert_eq!(table.columns[1].default, Some(DefaultClause::Value(Datum::Int(1))));
    assert_eq!(table.columns[2].default, Some(DefaultClause::Value(Datum::Decimal(Decimal::parse("-1.50").unwrap()))));
    assert_eq!(table.columns[3].default, Some(DefaultClause::Now));
}

#[test]
fn integers_have_mysqls_synonyms() {
    let text = "CREATE TABLE t (a INT1, b INT2, c INT3 UNSIGNED, d MIDDLEINT, e INT4, f INT8 UNSIGNED)";
    let Ok(Statement::CreateTable(table)) = parse(text) else { panic!("{:?}", parse(text)) };
    let types: Vec<String> = table.columns.iter().map(|column| column.ty.to_string()).collect();
    let expected = ["tinyint", "smallint", "mediumint unsigned", "mediumint", "int", "bigint unsigned"];
    assert_eq!(types, expected);
}

#[test]
fn impossible_columns_have_mysqls_numbers() {
    for (text, code) in [
        ("CREATE TABLE t (a DECIMAL(39))", "1426"),
        ("CREATE TABLE t (a DECIMAL(3,5))", "1427"),
        ("CREATE TABLE t (a VARCHAR(70000))", "1074"),
        ("CREATE TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)", "1068"),
    ] {
        assert!(error(text).starts_with(code), "{}", error(text));
    }
}

#[test]
fn sources_are_read_in_every_spelling() {
    let source = |text: &str| match parse(&format!("REPLICATE DATABASE d FROM {text}")) {
        Ok(Statement::Replicate(replicate)) => {
            let SourceAddress { user, password, host, port, database } = replicate.source;
            format!("{user} {password} {host} {port} {}", database.unwrap_or_default())
        }
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(source("root@127.0.0.1:13306/d2"), "root  127.0.0.1 13306 d2");
    assert_eq!(source("root:'p w'@db-1.east.example:3307"), "root p w db-1.east.example 3307 ");
    assert_eq!(source("root:\"\"@'h':1/d"), "root  h 1 d");
    assert_eq!(source("root@'h:1'"), "root  h 1 ");
    assert_eq!(source("'root'@localhost"), "root  localhost 3306 ");
    assert_eq!(source("root@localhost/d NOWAIT"), "root  localhost 3306 d");
}

#[test]
fn leaves_and_moves_are_read_in_every_spelling() {
    let leaf = |change, address: Option<&str>| Statement::Leaf { change, address: address.map(String::from) };
    let move_of = |database: Option<&str>, aim, kill, explain, no_wait| {
        Statement::Rebalance(Rebalance { database: database.map(String::from), aim, kill, explain, no_wait })
    };
    let here = Some("h:1");
    for (text, statement) in [
        ("ADD LEAF 'h:1'", leaf(LeafChange::Add { group: None }, here)),
        ("ADD LEAF root:'p'@'h':1 INTO GROUP 2", leaf(LeafChange::Add { group: Some(LeafGroup::Named(2)) }, here)),
        ("ADD LEAF 'h:1' INTO GROUP OWN", leaf(LeafChange::Add { group: Some(LeafGroup::Own) }, here)),
        ("REMOVE LEAF 'h:1'", leaf(LeafChange::Remove { force: false, kill: false, no_wait: false }, here)),
        ("REMOVE LEAF 'h:1' FORCE NOWAIT", leaf(LeafChange::Remove { force: true, kill: false, no_wait: true }, here)),
        ("REMOVE LEAF 'h:1' NOWAIT FORCE", leaf(LeafChange::Remove { force: true, kill: false, no_wait: true }, here)),
        (
            "REMOVE LEAF 'h:1' NOWAIT KILL FORCE",
            leaf(LeafChange::Remove { force: true, kill: true, no_wait: true }, here),
        ),
        ("DETACH LEAF 'h:1' KILL FORCE", leaf(LeafChange::Detach { force: true, kill: true }, here)),
        ("DETACH LEAF 'h:1' FORCE KILL", leaf(LeafChange::Detach { force: true, kill: true }, here)),
        ("ATTACH LEAF 'h:1'", leaf(LeafChange::Attach { rebalance: true }, here)),
        ("ATTACH LEAF ALL NO REBALANCE", leaf(LeafChange::Attach { rebalance: false }, None)),
        ("REBALANCE ALL DATABASES", move_of(None, RebalanceAim::Balance, false, false, false)),
        ("REBALANCE ALL DATABASES FULL KILL NOWAIT", move_of(None, RebalanceAim::Full, true, false, true)),
        ("REBALANCE ALL DATABASES NOWAIT KILL", move_of(None, RebalanceAim::Balance, true, false, true)),
        ("EXPLAIN REBALANCE ALL DATABASES KILL", move_of(None, RebalanceAim::Balance, true, true, false)),
        ("REBALANCE PARTITIONS ON d FULL KILL NOWAIT", move_of(Some("d"), RebalanceAim::Full, true, false, true)),
        ("EXPLAIN REBALANCE PARTITIONS ON `d`", move_of(Some("d"), RebalanceAim::Balance, false, true, false)),
        ("EXPLAIN RESTORE REDUNDANCY ON d", move_of(Some("d"), RebalanceAim::Restore, false, true, false)),
        ("RESTORE REDUNDANCY ON d", move_of(Some("d"), RebalanceAim::Restore, false, false, false)),
        ("SHOW REBALANCE STATUS", Statement::ClusterShow(ClusterShow::RebalanceStatus)),
    ] {
        assert_eq!(parse(text), Ok(statement), "{text}");
    }
    assert_eq!(near("REMOVE LEAF 'h:1' INTO GROUP 2"), "near 'INTO GROUP 2' at line 1");
    assert_eq!(near("EXPLAIN RESTORE DATABASE d"), "near 'DATABASE d' at line 1");
}

#[test]
fn sessions_are_set_up_as_drivers_do() {
    for text in [
        "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
        "SET AUTOCOMMIT = 0",
        "SET @@session.autocommit = OFF",
        "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES'), time_zone = '+00:00'",
        "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE",
        "set character_set_results = NULL",
    ] {
        assert!(matches!(parse(text), Ok(Statement::Set(_))), "{text}: {:?}", parse(text));
    }
    assert_eq!(
        parse("SET @a := 'x'"),
        Ok(Statement::Set(vec![Assignment::User {
            name: "a".into(),
            value: SetValue::Expression(Box::new(match parse("SELECT 'x'") {
                Ok(Statement::Query(query)) => match *query.tree.body {
                    datafusion::sql::sqlparser::ast::SetExpr::Select(select) => match &select.projection[0] {
                        datafusion::sql::sqlparser::ast::SelectItem::UnnamedExpr(expr) => expr.clone(),
                        other => panic!("{other:?}"),
                    },
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })),
        }]))
    );
}

#[test]
fn texts_are_split_at_semicolons_outside_of_quotes() {
    let text = "SELECT ';'; -- a;\n ;SELECT 2 /* ; */;";
    let parts: Vec<&str> = split(text).unwrap().into_iter().map(|range| &text[range]).collect();
    assert_eq!(parts, ["SELECT ';'", "SELECT 2"]);
}

#[test]
fn parameters_are_written_in() {
    let text = "INSERT INTO t VALUES (?, '?', ?)";
    assert_eq!(count_parameters(text), Ok(2));
    let bound = bind_parameters(text, &[Datum::Text("a'b\\".into()), Datum::Bytes(vec![0, 255].into())]);
    assert_eq!(bound.unwrap(), "INSERT INTO t VALUES ('a\\'b\\\\', '?', x'00ff')");
    assert_eq!(bind_parameters(text, &[Datum::Null]).unwrap_err().code, 1210);
    assert_eq!(quote(&Datum::Double(0.1)), "1e-1");
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    assert_eq!(parse(&text).unwrap_err().code, 1436);
}
