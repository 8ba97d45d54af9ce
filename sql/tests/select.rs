//! Queries and their answers, as MySQL 8 gives them.

mod support;

use support::Client;

const SETUP: &str = "
CREATE TABLE t (
  id INT PRIMARY KEY, name VARCHAR(20), n INT, price DECIMAL(10,2), ratio DOUBLE, big BIGINT UNSIGNED,
  day DATE, at DATETIME(6), ok BOOL, ts TIMESTAMP, span TIME
);
INSERT INTO t VALUES
 (1, 'one', 10, 1.50, 0.5, 18446744073709551615, '2024-01-31', '2024-01-31 10:11:12.5', TRUE, '2024-01-31 10:00:00', '10:00:00'),
 (2, 'two', 20, 2.25, 1.5, 2, '2024-02-29', '2024-02-29 00:00:00', FALSE, '2024-02-29 00:00:00', '-01:00:00'),
 (3, 'Three', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
 (4, 'two', 30, -3.00, -2.5, 7, '2023-12-31', '2023-12-31 23:59:59', TRUE, '2023-12-31 23:59:59', '838:59:59');
CREATE TABLE u (id BIGINT PRIMARY KEY, t_id INT, label TEXT);
INSERT INTO u VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c'), (4, 9, 'd');
";

fn check(cases: &[(&str, &str)]) {
    let mut client = Client::new(SETUP);
    let mut wrong = Vec::new();
    for (query, expected) in cases {
        let found = client.line(query);
        if found != *expected {
            wrong.push(format!("{query}\n   found    {found}\n   expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn texts_are_as_long_as_a_packet_at_most() {
    let mut client = Client::new(SETUP);
    assert_eq!(client.line("SELECT LENGTH(REPEAT('x', 17000000))"), "17000000");
    assert_eq!(client.line("SELECT REPEAT('x', @@max_allowed_packet + 1) IS NULL"), "1");
    let warnings = client.warnings();
    let expected = "1301 Result of repeat() was larger than max_allowed_packet (67108864) - truncated";
    assert!(!warnings.is_empty() && warnings.iter().all(|warning| warning == expected), "{warnings:?}");
}

#[test]
fn functions_keep_every_byte() {
    check(&[
        (
            "SELECT HEX(CONCAT(X'FF', 'a', 1)), HEX(CONCAT_WS(X'FF', 'a', NULL, 'b')), CONCAT(X'61', NULL)",
            "FF6131|61FF62|NULL",
        ),
        ("SELECT CHAR_LENGTH(X'C3A9'), CHAR_LENGTH('é'), LENGTH(CONCAT(X'C3A9', 'é'))", "2|1|4"),
        ("SELECT HEX(SUBSTRING(X'FF0102', 1, 2)), HEX(LEFT(X'FF01', 1)), HEX(RIGHT(X'01FE', 1))", "FF01|FF|FE"),
        ("SELECT HEX(REVERSE(X'FF01')), HEX(UPPER(X'61FF')), HEX(LOWER(X'41FF')), UPPER('é')", "01FF|61FF|41FF|É"),
        ("SELECT HEX(LPAD(X'FF', 3, X'00')), HEX(RPAD('é', 3, X'FE')), HEX(REPEAT(X'FE', 2))", "0000FF|C3A9FE|FEFE"),
        ("SELECT HEX(REPLACE(X'FF00FF', X'00', 'é')), HEX(TRIM(LEADING X'FF' FROM X'FFFF01'))", "FFC3A9FF|01"),
        (
            "SELECT INSTR(X'FF00FE', X'FE'), LOCATE(X'FE', X'FEFE', 2), HEX(SUBSTRING_INDEX(X'FF2C01', ',', 1))",
            "3|2|FF",
        ),
        (
            "SELECT HEX(CHAR(255, 256, NULL, 0)), CHAR(77, 121), X'FF41' LIKE '%A', X'FF41' REGEXP '^.A$'",
            "FF010000|My|1|1",
        ),
        (
            "SELECT HEX(ELT(2, 'a', X'FF')), HEX(COALESCE(NULL, X'FF')), HEX(IF(1, X'FF', 'a')), JSON_VALID(X'FF')",
            "FF|FF|FF|0",
        ),
        ("SELECT HEX(MAX(b)) FROM (SELECT X'FF' b) s", "FF"),
        ("SELECT GROUP_CONCAT(b) FROM (SELECT X'FF' b) s", "3854 Cannot convert string from binary to utf8mb4"),
    ]);
}

#[test]
fn plain_queries() {
    check(&[
        ("SELECT id, name FROM t WHERE id = 2", "2|two"),
        ("SELECT * FROM u ORDER BY id LIMIT 2", "1|1|a ; 2|1|b"),
        ("SELECT id FROM t WHERE n > 10 AND price < 2 ORDER BY id", "4"),
        ("SELECT COUNT(*), COUNT(n), SUM(n), MIN(name), MAX(price) FROM t", "4|3|60|Three|2.25"),
        ("SELECT t.name, u.label FROM t JOIN u ON t.id = u.t_id ORDER BY u.id", "one|a ; one|b ; two|c"),
        (
            "SELECT t.id, COUNT(u.id) c FROM t LEFT JOIN u ON u.t_id = t.id GROUP BY t.id ORDER BY c DESC, t.id",
            "1|2 ; 2|1 ; 3|0 ; 4|0",
        ),
        ("SELECT name FROM t WHERE id IN (SELECT t_id FROM u) ORDER BY 1", "one ; two"),
        ("SELECT name FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) ORDER BY id", "Three ; two"),
        ("SELECT (SELECT COUNT(*) FROM u WHERE u.t_id = t.id) FROM t ORDER BY id", "2 ; 1 ; 0 ; 0"),
        ("SELECT 1 UNION SELECT 2 UNION ALL SELECT 2 ORDER BY 1", "1 ; 2 ; 2"),
        (
            "WITH x AS (SELECT name, n FROM t WHERE n IS NOT NULL) SELECT name, SUM(n) FROM x GROUP BY name ORDER BY name",
            "one|10 ; two|50",
        ),
        ("SELECT d.s FROM (SELECT SUM(n) AS s FROM t) d", "60"),
        ("SELECT DISTINCT name FROM t ORDER BY name", "Three ; one ; two"),
        ("SELECT name, COUNT(*) FROM t GROUP BY name HAVING COUNT(*) > 1", "two|2"),
        ("SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) FROM t ORDER BY id", "1|4 ; 2|3 ; 3|2 ; 4|1"),
        ("SELECT 1 FROM DUAL", "1"),
        ("SELECT d.t.id FROM d.t WHERE d.t.id = 1", "1"),
    ]);
}

#[test]
fn nulls_come_first() {
    check(&[("SELECT id FROM t ORDER BY n", "3 ; 1 ; 2 ; 4"), ("SELECT id FROM t ORDER BY n DESC", "4 ; 2 ; 1 ; 3")]);
}

#[test]
fn division_is_decimal() {
    check(&[
        ("SELECT 1/3", "0.3333"),
        ("SELECT 7/2, 7 DIV 2, -7 DIV 2, 7 % 3, -7 MOD 3", "3.5000|3|-3|1|-1"),
        ("SELECT 1/3*3, (1/3)*3.0", "1.0000|1.00000"),
        ("SELECT 1/0, 1 DIV 0, 1 % 0", "NULL|NULL|NULL"),
        ("SELECT n/3 FROM t WHERE id = 1", "3.3333"),
        ("SELECT price/2 FROM t WHERE id < 3 ORDER BY id", "0.750000 ; 1.125000"),
        ("SELECT 1e0/4", "0.25"),
        ("SELECT 5.5 DIV 2", "2"),
    ]);
}

#[test]
fn sums_and_averages_are_exact() {
    check(&[
        ("SELECT SUM(n), AVG(n) FROM t", "60|20.0000"),
        ("SELECT SUM(price), AVG(price) FROM t", "0.75|0.250000"),
        ("SELECT AVG(id) FROM t WHERE id < 3", "1.5000"),
        ("SELECT SUM(big) FROM t", "18446744073709551624"),
        ("SELECT SUM(ratio) FROM t", "-0.5"),
        ("SELECT AVG(n) FROM t WHERE id = 3", "NULL"),
        ("SELECT SUM(price * n) / SUM(n) FROM t", "-0.500000"),
        ("SELECT 0.1 + 0.2, 1.10 * 1.1, 1.5 - 1", "0.3|1.210|0.5"),
        ("SELECT ROUND(2.5), ROUND(-2.5), ROUND(1.005, 2), ROUND(1234, -2), TRUNCATE(1.999, 2)", "3|-3|1.01|1200|1.99"),
    ]);
}

#[test]
fn overflow_is_an_error() {
    check(&[
        ("SELECT 9223372036854775807 + 1", "1690 BIGINT value is out of range in '(9223372036854775807 + 1)'"),
        (
            "SELECT big + 1 FROM t WHERE id = 1",
            "1690 BIGINT UNSIGNED value is out of range in '(18446744073709551615 + 1)'",
        ),
        ("SELECT big - 3 FROM t WHERE id = 2", "1690 BIGINT UNSIGNED value is out of range in '(2 - 3)'"),
        ("SELECT big FROM t WHERE id = 1", "18446744073709551615"),
    ]);
}

#[test]
fn values_of_different_kinds_compare_as_mysql_does() {
    check(&[
        ("SELECT 1 = '1', '1abc' = 1, 'abc' = 0, '10' > 9, 'b' > 'a'", "1|1|1|1|1"),
        ("SELECT id FROM t WHERE id = '2'", "2"),
        ("SELECT id FROM t WHERE name = 0 ORDER BY id", "1 ; 2 ; 3 ; 4"),
        ("SELECT id FROM t WHERE day = '2024-02-29'", "2"),
        ("SELECT id FROM t WHERE day >= '2024-01-01' AND day < '2024-02-01 00:00:00'", "1"),
        ("SELECT id FROM t WHERE day = 20240229", "2"),
        ("SELECT id FROM t WHERE at < '2024-01-01'", "4"),
        ("SELECT id FROM t WHERE at = '2024-01-31 10:11:12.5'", "1"),
        ("SELECT id FROM t WHERE day = 'never'", "1525 Incorrect DATE value: 'never'"),
        ("SELECT id FROM t WHERE price = 2.250", "2"),
        ("SELECT id FROM t WHERE big > 5 ORDER BY id", "1 ; 4"),
        ("SELECT big > -1 FROM t WHERE id = 1", "1"),
        ("SELECT id FROM t WHERE span < '00:00:00'", "2"),
        ("SELECT '5' + 1, '2.5' * 2, 'x' + 1", "6|5|1"),
        ("SELECT name IN ('one', 'two') FROM t ORDER BY id", "1 ; 1 ; 0 ; 1"),
        ("SELECT 2 IN (1, '2', NULL), 3 IN (1, NULL), 3 NOT IN (1, 2)", "1|NULL|1"),
        ("SELECT id FROM t WHERE (id, name) = (2, 'two')", "2"),
        ("SELECT 'a' = 'A'", "0"),
    ]);
}

#[test]
fn conditions_are_numbers() {
    check(&[
        ("SELECT TRUE, FALSE, 1 = 1, NOT 1, NULL IS NULL", "1|0|1|0|1"),
        ("SELECT (1 = 1) + (2 > 1)", "2"),
        ("SELECT SUM(n > 10) FROM t", "2"),
        ("SELECT ok, NOT ok FROM t ORDER BY id", "1|0 ; 0|1 ; NULL|NULL ; 1|0"),
        ("SELECT id FROM t WHERE ok ORDER BY id", "1 ; 4"),
        ("SELECT id FROM t WHERE n ORDER BY id", "1 ; 2 ; 4"),
        ("SELECT 1 AND NULL, 0 AND NULL, 1 OR NULL, 1 XOR 1, 2 AND 3", "NULL|0|1|0|1"),
        ("SELECT IF(n > 10, 'big', 'small') FROM t ORDER BY id", "small ; big ; small ; big"),
        ("SELECT NULL <=> NULL, 1 <=> NULL, n <=> NULL FROM t WHERE id = 3", "1|0|1"),
        ("SELECT n <=> 10 FROM t ORDER BY id", "1 ; 0 ; 0 ; 0"),
        ("SELECT n IS TRUE, n IS NOT TRUE, n IS UNKNOWN FROM t WHERE id = 3", "0|1|1"),
        ("SELECT 1 != 2, 1 <> 1, NOT 0", "1|0|1"),
        ("SELECT 5 BETWEEN 1 AND 5, 5 NOT BETWEEN 1 AND 4", "1|1"),
    ]);
}

#[test]
fn spellings_of_mysql() {
    check(&[
        ("SELECT `id` FROM `t` ORDER BY id LIMIT 1, 2", "2 ; 3"),
        ("SELECT id FROM t ORDER BY id LIMIT 2 OFFSET 1", "2 ; 3"),
        ("SELECT \"text\", 'it''s', \"a\\tb\"", "text|it's|a\tb"),
        ("SELECT ID, Name FROM t WHERE ID = 1", "1|one"),
        ("SELECT id AS X FROM t ORDER BY x LIMIT 1", "1"),
        ("SELECT 1 || 0", "1"),
        ("SELECT 3 & 1, 1 | 2, 1 ^ 3, 1 << 4, ~0", "1|3|2|16|18446744073709551615"),
        ("SELECT name REGEXP '^t', name RLIKE 'E$', name NOT REGEXP 'o' FROM t WHERE id = 2", "1|0|0"),
        (
            "SELECT 'abc' LIKE 'a%', 'abc' LIKE 'A%', 'a_c' LIKE 'a\\_c', 'abc' LIKE 'a\\_c', 'x' NOT LIKE 'y'",
            "1|0|1|0|1",
        ),
        ("SELECT id FROM t WHERE name LIKE '%o%' ORDER BY id", "1 ; 2 ; 4"),
        ("SELECT name AS k, COUNT(*) FROM t GROUP BY k ORDER BY k", "Three|1 ; one|1 ; two|2"),
        ("SELECT UPPER(name), COUNT(*) FROM t GROUP BY 1 ORDER BY 1", "ONE|1 ; THREE|1 ; TWO|2"),
        ("SELECT x'4142', 0x41", "AB|A"),
        ("SELECT a.id FROM t a, u b WHERE a.id = b.t_id AND b.label = 'c'", "2"),
        ("SELECT id, id, id + 0 FROM t WHERE id = 1", "1|1|1"),
        ("SELECT *, id FROM u WHERE label = 'a'", "1|1|a|1"),
        ("SELECT /* c */ 1 -- end", "1"),
    ]);
}

#[test]
fn everyday_functions() {
    check(&[
        ("SELECT IFNULL(NULL, 2), COALESCE(NULL, NULL, 3), NULLIF(1, 1), NULLIF(1, 2)", "2|3|NULL|1"),
        ("SELECT CONCAT('a', 1, 'b'), CONCAT('a', NULL), CONCAT_WS('-', 'a', NULL, 'b')", "a1b|NULL|a-b"),
        (
            "SELECT LENGTH('é'), CHAR_LENGTH('é'), UPPER('é'), SUBSTRING('hello', -3, 2), LEFT('abc', 2), RIGHT('abc', 2)",
            "2|1|É|ll|ab|bc",
        ),
        (
            "SELECT LPAD('7', 3, '0'), REPEAT('ab', 2), REVERSE('abc'), TRIM('  x '), REPLACE('aXb', 'X', '-')",
            "007|abab|cba|x|a-b",
        ),
        (
            "SELECT INSTR('hello', 'l'), LOCATE('l', 'hello', 4), SUBSTRING_INDEX('a.b.c', '.', 2), FIELD('b', 'a', 'b')",
            "3|4|a.b|2",
        ),
        ("SELECT ABS(-3), CEIL(1.2), FLOOR(-1.2), SIGN(-5), POW(2, 3), SQRT(16), MOD(7, 3)", "3|2|-2|-1|8|4|1"),
        ("SELECT GREATEST(1, 3, 2), LEAST('b', 'a'), GREATEST(1, NULL)", "3|a|NULL"),
        ("SELECT YEAR(day), MONTH(day), DAY(day), DAYOFWEEK(day), QUARTER(day) FROM t WHERE id = 1", "2024|1|31|4|1"),
        (
            "SELECT DATE_FORMAT(at, '%Y-%m-%d %H:%i:%s.%f %W %b %D') FROM t WHERE id = 1",
            "2024-01-31 10:11:12.500000 Wednesday Jan 31st",
        ),
        (
            "SELECT DATE_ADD(day, INTERVAL 1 MONTH), day + INTERVAL 1 DAY, DATE_SUB(at, INTERVAL 1 HOUR) FROM t WHERE id = 1",
            "2024-02-29|2024-02-01|2024-01-31 09:11:12.500000",
        ),
        ("SELECT DATEDIFF('2024-03-01', '2024-02-01'), TIMESTAMPDIFF(MONTH, '2024-01-31', '2024-03-30')", "29|1"),
        (
            "SELECT CAST('12' AS SIGNED), CAST(1.5 AS SIGNED), CAST('1.239' AS DECIMAL(5,2)), CAST(5 AS CHAR), CAST('2024-01-02' AS DATE)",
            "12|2|1.24|5|2024-01-02",
        ),
        (
            "SELECT CASE n WHEN 10 THEN 'ten' WHEN 20 THEN 'twenty' ELSE 'other' END FROM t ORDER BY id",
            "ten ; twenty ; other ; other",
        ),
        (
            "SELECT HEX('AB'), HEX(255), UNHEX('4142'), SHA1('a'), SHA2('a', 256)",
            "4142|FF|AB|86f7e437faa5a7fce15d1ddcb9eaeaea377667b8|ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        (
            "SELECT DATABASE(), USER(), CONNECTION_ID(), @@max_allowed_packet, @@session.autocommit",
            "d|root@localhost|7|67108864|1",
        ),
        ("SELECT GROUP_CONCAT(name ORDER BY name SEPARATOR '-') FROM t WHERE id < 3", "one-two"),
        ("SELECT UNIX_TIMESTAMP('1970-01-02 00:00:00'), FROM_UNIXTIME(86400)", "86400.000000|1970-01-02 00:00:00"),
        ("SELECT EXTRACT(YEAR FROM day), LAST_DAY(day), DAYNAME(day) FROM t WHERE id = 2", "2024|2024-02-29|Thursday"),
        (
            "SELECT WEEK('2024-01-01'), WEEK('2024-01-01', 1), WEEKOFYEAR('2021-01-01'), YEARWEEK('2024-01-01')",
            "0|1|53|202353",
        ),
        ("SELECT STR_TO_DATE('31/01/2024', '%d/%m/%Y')", "2024-01-31 00:00:00"),
        ("SELECT BIT_XOR(id), BIT_OR(id), BIT_AND(id) FROM t WHERE id < 4", "0|3|0"),
        ("SELECT JSON_EXTRACT('{\"a\": [1, 2]}', '$.a[1]'), '{\"b\": \"x\"}'->>'$.b'", "2|x"),
        ("SELECT STD(n), COUNT(DISTINCT name) FROM t WHERE n IS NOT NULL", "8.16496580927726|2"),
    ]);
}

#[test]
fn columns_keep_their_names_and_types() {
    let mut client = Client::new(SETUP);
    let names = |client: &mut Client, query: &str| {
        client
            .columns(query)
            .iter()
            .map(|column| format!("{}:{}", column.name, column.ty))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for (query, expected) in [
        (
            "SELECT Id, NAME AS Full, n + 1, COUNT(*) OVER () FROM t",
            "Id:int Full:varchar(20) n + 1:bigint COUNT(*) OVER ():bigint",
        ),
        ("SELECT * FROM u", "id:bigint t_id:int label:text"),
        (
            "SELECT * FROM t WHERE id = 1",
            "id:int name:varchar(20) n:int price:decimal(10,2) ratio:double big:bigint unsigned day:date at:datetime(6) ok:tinyint(1) ts:timestamp span:time",
        ),
        (
            "SELECT COUNT(*), max( price ), 'x', 1/3 FROM t",
            "COUNT(*):bigint max( price ):decimal(10,2) x:longtext 1/3:decimal(38,4)",
        ),
        ("SELECT id, id FROM t", "id:int id:int"),
    ] {
        assert_eq!(names(&mut client, query), expected, "{query}");
    }
}

#[test]
fn timestamps_are_shown_in_the_session_zone() {
    let mut client = Client::new(SETUP);
    assert_eq!(client.line("SELECT ts, at FROM t WHERE id = 1"), "2024-01-31 10:00:00|2024-01-31 10:11:12.500000");
    client.line("SET time_zone = 'Europe/Berlin'");
    assert_eq!(client.line("SELECT ts, at FROM t WHERE id = 1"), "2024-01-31 11:00:00|2024-01-31 10:11:12.500000");
    assert_eq!(client.line("SELECT id FROM t WHERE ts = '2024-01-31 11:00:00'"), "1");
    assert_eq!(client.line("SELECT HOUR(MAX(ts)) FROM t"), "1");
}

#[test]
fn what_is_wrong_has_mysqls_number() {
    let mut client = Client::new(SETUP);
    for (query, code) in [
        ("SELECT x FROM t", 1054),
        ("SELECT id FROM t WHERE x = 1", 1054),
        ("SELECT id FROM nowhere", 1146),
        ("SELECT id FROM no.t", 1049),
        ("SELECT t.id FROM t JOIN u ON id = 1", 1052),
        ("SELECT id, COUNT(*) FROM t GROUP BY name", 1055),
        ("SELECT NOSUCH(1)", 1305),
        ("SELECT LEFT('a')", 1582),
        ("SELECT @@nosuch", 1193),
        ("SELECT * FROM t FOR UPDATE", 1235),
        ("SELECT * FROM t GROUP BY name WITH ROLLUP", 1235),
        ("SELECT id FROM (SELECT 1 AS id)", 1248),
        ("SELECT * FROM T", 1146),
    ] {
        match client.run(query) {
            Err(error) => assert_eq!(error.code, code, "{query}: {error}"),
            Ok(Ok((_, rows))) => panic!("{query} answered {rows:?}"),
            Ok(Err(done)) => panic!("{query} answered {done:?}"),
        }
    }
}

#[test]
fn work_is_handed_to_the_leaves() {
    let mut client = Client::new(SETUP);
    client.asked();
    client.line("SELECT name FROM t WHERE id = 3");
    assert_eq!(client.asked(), ["get 1 of 3"]);
    client.line("SELECT COUNT(*) FROM t WHERE n > 10 AND name LIKE 't%'");
    let mut asked = client.asked();
    asked.sort();
    assert_eq!(asked[0], "scan t.0 [] filter=true limit=None", "{asked:?}");
    assert_eq!(asked.len(), 4);
    client.line("SELECT MAX(n) FROM t WHERE id = 3");
    assert_eq!(client.asked(), ["once", "scan t.3 [n] filter=true limit=None"], "one partition holds the key");
    for several in [
        "SELECT * FROM t WHERE n > 10",
        "SELECT (SELECT MAX(n) FROM t WHERE id = 3), (SELECT MIN(n) FROM t WHERE id = 3)",
        "SELECT a.n FROM t a JOIN t b ON a.n < b.n WHERE a.id = 3 AND b.id = 3",
        "UPDATE t SET n = n WHERE id = 3 AND name LIKE 'x%'",
    ] {
        client.run(several).expect(several).ok();
        assert!(!client.asked().contains(&"once".into()), "{several}");
    }
    client.line("SELECT id FROM t WHERE day BETWEEN '2024-01-01' AND '2024-12-31' AND ok");
    assert!(client.asked().iter().all(|scan| scan.contains("[id] filter=true")));
    // Last: a scan that is no longer needed when the first row is there may begin after the answer.
    client.line("SELECT id FROM t LIMIT 1");
    assert!(client.asked().iter().all(|scan| scan.contains("[id] filter=false limit=Some(1)")));
}

#[test]
fn strings_that_are_no_numbers_warn() {
    let mut client = Client::new(SETUP);
    assert_eq!(client.line("SELECT SUM(name + 0) FROM t WHERE id < 3"), "0");
    assert!(
        client.warnings().contains(&"1292 Truncated incorrect DOUBLE value: 'one'".to_string()),
        "{:?}",
        client.warnings()
    );
}

#[test]
fn branches_have_one_type() {
    check(&[
        ("SELECT CASE WHEN n > 10 THEN 1 ELSE 'x' END FROM t ORDER BY id", "x ; 1 ; x ; 1"),
        (
            "SELECT IFNULL(n, 'none'), COALESCE(day, 'never'), IFNULL(price, 0) FROM t WHERE id > 1 AND id < 4 ORDER BY id",
            "20|2024-02-29|2.25 ; none|never|0.00",
        ),
        ("SELECT id FROM t WHERE COALESCE(day, 'never') = 'never'", "3"),
        ("SELECT SUM(IF(n > 10, price, 0)), AVG(CASE WHEN n > 10 THEN n END) FROM t", "-0.75|25.0000"),
    ]);
}

#[test]
fn subqueries_stand_anywhere() {
    check(&[
        ("SELECT EXISTS (SELECT 1 FROM t WHERE id = 1), NOT EXISTS (SELECT 1 FROM t WHERE id = 99)", "1|1"),
        ("SELECT id, EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) FROM t ORDER BY id", "1|1 ; 2|1 ; 3|0 ; 4|0"),
        ("SELECT id FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id) OR id = 3 ORDER BY id", "1 ; 2 ; 3"),
        ("SELECT id FROM t WHERE id = ANY (SELECT t_id FROM u) ORDER BY id", "1 ; 2"),
        ("SELECT id FROM t WHERE id <> ALL (SELECT t_id FROM u) ORDER BY id", "3 ; 4"),
        ("SELECT id FROM t WHERE id NOT IN (SELECT n FROM t)", ""),
        ("SELECT id, (SELECT MAX(label) FROM u WHERE u.t_id = t.id) FROM t ORDER BY id", "1|b ; 2|c ; 3|NULL ; 4|NULL"),
    ]);
}

#[test]
fn tables_are_addressed_in_every_way() {
    check(&[
        ("SELECT u.*, t.name FROM t JOIN u ON u.t_id = t.id WHERE u.id = 1", "1|1|a|one"),
        ("SELECT `d`.`t`.`name`, d.u.label FROM d.t, d.u WHERE d.t.id = d.u.t_id AND d.u.id = 3", "two|c"),
        (
            "SELECT * FROM t JOIN u USING (id) WHERE label = 'b' AND t.name = 'two'",
            "2|two|20|2.25|1.5|2|2024-02-29|2024-02-29 00:00:00.000000|0|2024-02-29 00:00:00|-01:00:00|1|b",
        ),
        ("SELECT t.name, COUNT(*) FROM t JOIN u ON u.t_id = t.id GROUP BY t.id ORDER BY 1", "one|2 ; two|1"),
        ("SELECT id FROM t UNION SELECT t_id FROM u ORDER BY id", "1 ; 2 ; 3 ; 4 ; 9"),
        ("SELECT id FROM t INTERSECT SELECT t_id FROM u ORDER BY 1", "1 ; 2"),
        ("(SELECT id FROM t ORDER BY id LIMIT 1) UNION ALL (SELECT id FROM u ORDER BY id DESC LIMIT 1)", "1 ; 4"),
        (
            "SELECT t_id, GROUP_CONCAT(DISTINCT label ORDER BY label DESC SEPARATOR '/') g FROM u GROUP BY t_id ORDER BY t_id",
            "1|b/a ; 2|c ; 9|d",
        ),
        ("SELECT ts, UNIX_TIMESTAMP(ts) FROM t WHERE id = 1", "2024-01-31 10:00:00|1706695200"),
        (
            "SELECT FORMAT(1234567.891, 2), CRC32('a'), MD5('a'), TIMEDIFF('10:00:00', '09:30:00')",
            "1,234,567.89|3904355907|0cc175b9c0f1b6a831c399e269772661|00:30:00",
        ),
    ]);
}

#[test]
fn the_branches_of_a_union_come_in_their_order() {
    let heading = "SELECT 'id' UNION ALL (SELECT id FROM t ORDER BY id DESC LIMIT 2)";
    let nested =
        "SELECT x + 1 FROM (SELECT 7 AS x UNION ALL (SELECT 5 UNION ALL SELECT 6) UNION ALL SELECT 1) d WHERE x > 1";
    let limited = "SELECT 9 UNION ALL (SELECT id FROM t ORDER BY id LIMIT 3) LIMIT 3";
    let apart = "SELECT 3, COUNT(*) FROM t UNION ALL SELECT 2, COUNT(*) FROM u UNION ALL SELECT 1, 0";
    for _ in 0..20 {
        check(&[(heading, "id ; 4 ; 3"), (nested, "8 ; 6 ; 7"), (limited, "9 ; 1 ; 2"), (apart, "3|4 ; 2|4 ; 1|0")]);
    }
}

#[test]
fn a_union_has_no_columns_of_tables() {
    let mut client = Client::new(SETUP);
    let columns = client.columns("SELECT id FROM t UNION SELECT id FROM u");
    assert_eq!(columns[0].ty.to_string(), "bigint");
}

#[test]
fn times_keep_the_digits_of_their_columns() {
    check(&[
        (
            "SELECT MAX(at), MIN(at), MAX(ts), MAX(span) FROM t",
            "2024-02-29 00:00:00.000000|2023-12-31 23:59:59.000000|2024-02-29 00:00:00|838:59:59",
        ),
        (
            "SELECT COALESCE(at, ts), IF(ok, at, at), GREATEST(at, at), CASE id WHEN 1 THEN at END FROM t WHERE id = 1",
            "2024-01-31 10:11:12.500000|2024-01-31 10:11:12.500000|2024-01-31 10:11:12.500000|2024-01-31 10:11:12.500000",
        ),
        (
            "SELECT at + INTERVAL 1 SECOND, ts + INTERVAL 1 MICROSECOND, ts + INTERVAL 1 DAY FROM t WHERE id = 1",
            "2024-01-31 10:11:13.500000|2024-01-31 10:00:00.000001|2024-02-01 10:00:00",
        ),
        ("SELECT x FROM (SELECT MAX(at) x FROM t WHERE id = 1) q", "2024-01-31 10:11:12.500000"),
        (
            "SELECT at FROM t WHERE id = 1 UNION SELECT ts FROM t WHERE id = 1 ORDER BY 1",
            "2024-01-31 10:00:00.000000 ; 2024-01-31 10:11:12.500000",
        ),
        (
            "SELECT CAST('2024-01-31 10:11:12.25' AS DATETIME(2)), CAST('2024-01-31 10:11:12.25' AS DATETIME)",
            "2024-01-31 10:11:12.25|2024-01-31 10:11:12",
        ),
        ("SELECT UNIX_TIMESTAMP(MAX(at)) FROM t WHERE id = 1", "1706695872.500000"),
    ]);
}
