//! The same expression means the same to DataFusion's way (SELECT) and to our own (SET, INSERT, filters at leaves).

mod support;

use support::Client;

const EXPRESSIONS: &[&str] = &[
    "1 + 2 * 3",
    "7 / 2",
    "7 DIV 2",
    "-7 % 3",
    "1.5 + 1",
    "1.10 * 2",
    "1e0 / 4",
    "'3' + 4",
    "2 - '0.5'",
    "-(5)",
    "1 = 1",
    "'a' < 'b'",
    "'10' = 10",
    "NULL = NULL",
    "NULL <=> NULL",
    "1 <=> NULL",
    "NOT 0",
    "1 AND NULL",
    "0 OR NULL",
    "1 XOR 0",
    "3 IN (1, 2, 3)",
    "3 NOT IN (1, NULL)",
    "5 BETWEEN 1 AND 9",
    "'abc' LIKE 'a_c'",
    "'abc' REGEXP 'b'",
    "CASE WHEN 1 > 2 THEN 'x' ELSE 'y' END",
    "IF(NULL, 1, 2)",
    "IFNULL(NULL, 5)",
    "NULLIF(2, 2)",
    "COALESCE(NULL, 'z')",
    "CONCAT('a', 1, 2.50)",
    "SUBSTRING('hello', 2, 3)",
    "UPPER('ab')",
    "LENGTH('é')",
    "ROUND(2.567, 2)",
    "ROUND(-1.5)",
    "CEIL(1.1)",
    "DATE '2024-01-31' + INTERVAL 1 MONTH",
    "DATEDIFF('2024-03-01', '2024-02-28')",
    "DATE_FORMAT('2024-01-02 03:04:05', '%d.%m.%y %T')",
    "CAST('12abc' AS SIGNED)",
    "CAST(3.7 AS SIGNED)",
    "CAST(-1 AS UNSIGNED)",
    "CAST('1.25' AS DECIMAL(4,1))",
    "CAST('2024-05-06' AS DATE) > '2024-05-05'",
    "GREATEST(2, 3.5)",
    "LEAST('a', 'b')",
    "ABS(-2.5)",
    "POW(2, 0.5)",
    "5 & 3",
    "1 << 3",
    "HEX(26)",
    "LPAD('a', 3, 'xy')",
    "TRIM(BOTH 'x' FROM 'xaxx')",
    "TIMESTAMPDIFF(DAY, '2024-01-01', '2024-02-01')",
    "YEAR('2024-05-06')",
    "SHA1('x')",
    "1 IS TRUE",
    "NULL IS NOT TRUE",
    "1 IN (NULL, 1)",
    "18446744073709551615 - 1",
    "0.1 + 0.2 = 0.3",
    "0.1e0 + 0.2e0 = 0.3e0",
    "'2024-01-01' = DATE '2024-01-01'",
    "IF(1 > 0, 1, 'x')",
];

#[test]
fn both_ways_agree() {
    let mut client = Client::new("");
    let mut wrong = Vec::new();
    for expression in EXPRESSIONS {
        let selected = client.line(&format!("SELECT {expression}"));
        client.line(&format!("SET @x = {expression}"));
        let set = client.session.user_variables["x"].clone();
        // A quotient keeps more digits until it is shown.
        let same = set.to_string() == selected || set.to_string().starts_with(selected.trim_end_matches('0'));
        if !same {
            wrong.push(format!("{expression}: SELECT gives {selected}, SET gives {set}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn filters_at_leaves_agree_with_filters_above() {
    let mut client = Client::new(
        "CREATE TABLE t (id INT PRIMARY KEY, i INT, u BIGINT UNSIGNED, d DECIMAL(8,3), f DOUBLE, s VARCHAR(12), b VARBINARY(9), day DATE, at DATETIME(3), span TIME);
         INSERT INTO t VALUES
          (1, 1, 1, 1.000, 1.0, '1', x'31', '2024-01-01', '2024-01-01 00:00:00', '00:00:01'),
          (2, -5, 18446744073709551615, -0.125, 2.5e10, 'abc', x'00ff', '1999-12-31', '1999-12-31 23:59:59.999', '-12:00:00'),
          (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
          (4, 0, 0, 0.000, 0.0, '', x'', '2024-06-30', '2024-06-30 12:00:00', '838:00:00'),
          (5, 2147483647, 5, 99999.999, -1.5, '2024-01-01', x'616263', '2000-02-29', '2000-02-29 06:07:08.5', '00:00:00');",
    );
    let mut wrong = Vec::new();
    for condition in [
        "i > 0",
        "i <= d",
        "u > i",
        "u = 18446744073709551615",
        "d < f",
        "f >= 1",
        "s = 1",
        "s > 'a'",
        "s = i",
        "b = 'abc'",
        "b < s",
        "day = '2024-01-01'",
        "day < at",
        "at >= '2000-01-01 00:00:00.5'",
        "day > 20000101",
        "s = day",
        "span < '00:00:30'",
        "i IN (1, 0, NULL)",
        "i NOT IN (1, 2)",
        "s LIKE '%2%'",
        "s REGEXP '^[a-z]'",
        "i IS NULL",
        "NOT (i > 0)",
        "i <=> NULL",
        "i BETWEEN -5 AND 1",
        "i % 2 = 1",
        "i + 1 > 1",
        "CASE WHEN i > 0 THEN s ELSE 'x' END = '1'",
        "IFNULL(i, 7) = 7",
        "LENGTH(s) > 2",
        "YEAR(day) = 2024",
        "day + INTERVAL 1 DAY > '2024-01-01'",
        "d = 1",
        "d = '1.000'",
        "f = '25000000000'",
        "u & 1",
        "i OR s",
        "i XOR d",
        "(i, u) = (1, 1)",
        "i > 0 AND (d > 1 OR s = '1')",
    ] {
        let pushed = client.line(&format!("SELECT id FROM t WHERE {condition} ORDER BY id"));
        // A condition that is selected is evaluated above the scan.
        let above = client.line(&format!(
            "SELECT id FROM (SELECT id, IF({condition}, 1, 0) AS hit FROM t LIMIT 100) x WHERE hit = 1 ORDER BY id"
        ));
        client.asked();
        if pushed != above {
            wrong.push(format!("{condition}: leaves find {pushed}, above {above}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
