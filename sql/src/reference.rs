//! The table of statements: name, grammar, privilege and what it does. The reference in the documentation is made
//! from it, and a test parses an example of every row.

/// When a statement can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It works.
    Now,
    /// It is parsed and refused with 1235.
    Later,
}

/// One statement.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// How it is written.
    pub grammar: &'static str,
    /// What the user needs.
    pub privilege: &'static str,
    /// What it does.
    pub summary: &'static str,
    /// One that parses.
    pub example: &'static str,
    /// Whether it works yet.
    pub availability: Availability,
}

const fn now(
    name: &'static str,
    grammar: &'static str,
    privilege: &'static str,
    summary: &'static str,
    example: &'static str,
) -> Entry {
    Entry { name, grammar, privilege, summary, example, availability: Availability::Now }
}

const fn later(
    name: &'static str,
    grammar: &'static str,
    privilege: &'static str,
    summary: &'static str,
    example: &'static str,
) -> Entry {
    Entry { name, grammar, privilege, summary, example, availability: Availability::Later }
}

/// All statements, by family.
pub const STATEMENTS: &[Entry] = &[
    now(
        "CREATE DATABASE",
        "CREATE DATABASE [IF NOT EXISTS] db [PARTITIONS n] [WITH {SYNC | ASYNC} DURABILITY] [WITH {SYNC | ASYNC} REPLICATION] [OPTIONS (name = value, …)]",
        "ALL on the database",
        "Makes a database and places its partitions.",
        "CREATE DATABASE d PARTITIONS 8 WITH SYNC DURABILITY WITH ASYNC REPLICATION OPTIONS (redundancy = 2)",
    ),
    later(
        "CREATE DATABASE … ON",
        "CREATE DATABASE db ON {S3 | GCS | AZURE | LOCAL} \"bucket/root\" CONFIG '…' CREDENTIALS '…'",
        "CLUSTER",
        "Makes a database whose truth is in an object store.",
        "CREATE DATABASE d ON S3 \"bucket/root\" CONFIG '{}' CREDENTIALS '{}'",
    ),
    now(
        "ALTER DATABASE",
        "ALTER DATABASE db {SET OPTIONS (name = value, …) | {SET | WITH} {SYNC | ASYNC} {DURABILITY | REPLICATION}}",
        "ALL on the database",
        "Changes how a database is kept.",
        "ALTER DATABASE d SET OPTIONS (min_in_sync = 2)",
    ),
    now(
        "DROP DATABASE",
        "DROP DATABASE [IF EXISTS] db",
        "ALL on the database",
        "Removes a database and its rows; of a sink, the sink alone.",
        "DROP DATABASE IF EXISTS d",
    ),
    now(
        "SHOW DATABASES",
        "SHOW DATABASES [EXTENDED] [LIKE 'pattern' | WHERE condition]",
        "–",
        "Lists databases; EXTENDED with state, role and sizes: `rows`, `bytes` and `log_bytes` are what the primaries tell, about, NULL where one was not heard. `advice` says what to type.",
        "SHOW DATABASES EXTENDED",
    ),
    now(
        "SHOW CREATE DATABASE",
        "SHOW CREATE DATABASE db",
        "–",
        "The statement that would make the database.",
        "SHOW CREATE DATABASE d",
    ),
    now(
        "CHECK DATABASE",
        "CHECK DATABASE db [REPAIR]",
        "SUPER",
        "Reads every record and every row of every copy, and compares the copies at one moment; REPAIR rebuilds those that are damaged or differ from their primary.",
        "CHECK DATABASE d REPAIR",
    ),
    now("USE", "USE db", "any on the database", "Selects the session's database.", "USE d"),
    now(
        "CREATE TABLE",
        "CREATE [ROWSTORE] TABLE [IF NOT EXISTS] t (column type [NOT NULL] [DEFAULT value] [AUTO_INCREMENT] [PRIMARY KEY] [COMMENT 'text'], … [, PRIMARY KEY (columns)] [, SHARD KEY (columns)]) [options]",
        "ALL on the database",
        "Makes a table. Rows are placed by the hash of the shard key, which is the primary key unless said otherwise.",
        "CREATE TABLE t (id BIGINT AUTO_INCREMENT, a VARCHAR(20) NOT NULL DEFAULT 'x', PRIMARY KEY (id), SHARD KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4",
    ),
    later(
        "CREATE REFERENCE TABLE",
        "CREATE REFERENCE TABLE t (…)",
        "ALL on the database",
        "Makes a table that every partition holds whole.",
        "CREATE REFERENCE TABLE t (a INT PRIMARY KEY)",
    ),
    later(
        "CREATE INDEX",
        "CREATE [UNIQUE] INDEX i ON t (columns)",
        "ALL on the database",
        "Makes a secondary index.",
        "CREATE INDEX i ON t (a)",
    ),
    now(
        "ALTER TABLE",
        "ALTER TABLE t {ADD [COLUMN] column type … | DROP [COLUMN] column | RENAME [TO] t2 | COMMENT = 'text' | AUTO_INCREMENT = n}, …",
        "ALL on the database",
        "Changes a table without rewriting its rows.",
        "ALTER TABLE t ADD COLUMN b INT NOT NULL DEFAULT 7",
    ),
    now(
        "DROP TABLE",
        "DROP TABLE [IF EXISTS] t, …",
        "ALL on the database",
        "Removes tables.",
        "DROP TABLE IF EXISTS t, u",
    ),
    now("TRUNCATE", "TRUNCATE [TABLE] t", "ALL on the database", "Removes all rows of a table.", "TRUNCATE TABLE t"),
    now(
        "SHOW TABLES",
        "SHOW [FULL] TABLES [FROM db] [LIKE 'pattern' | WHERE condition]",
        "any on the database",
        "Lists tables.",
        "SHOW FULL TABLES FROM d LIKE 'a%'",
    ),
    now(
        "SHOW COLUMNS",
        "SHOW [FULL] COLUMNS FROM t [FROM db] | {DESCRIBE | DESC} t [column]",
        "any on the database",
        "Lists a table's columns.",
        "DESCRIBE t",
    ),
    now(
        "SHOW CREATE TABLE",
        "SHOW CREATE TABLE t",
        "any on the database",
        "The statement that would make the table.",
        "SHOW CREATE TABLE d.t",
    ),
    now(
        "SHOW INDEX",
        "SHOW {INDEX | INDEXES | KEYS} FROM t",
        "any on the database",
        "Lists a table's keys.",
        "SHOW INDEX FROM t",
    ),
    now(
        "SHOW WARNINGS",
        "SHOW {WARNINGS | ERRORS | COUNT(*) WARNINGS}",
        "–",
        "What the last statement had to say.",
        "SHOW WARNINGS",
    ),
    now(
        "SHOW VARIABLES",
        "SHOW [GLOBAL | SESSION] {VARIABLES | STATUS} [LIKE 'pattern' | WHERE condition]",
        "–",
        "System variables, or counters.",
        "SHOW SESSION VARIABLES LIKE 'sql_mode'",
    ),
    now(
        "SHOW PROCESSLIST",
        "SHOW [FULL] PROCESSLIST",
        "–",
        "Connections of this aggregator and what they do; `State` tells how long a transaction has been open.",
        "SHOW FULL PROCESSLIST",
    ),
    now("SHOW GRANTS", "SHOW GRANTS [FOR user]", "–", "What a user may do.", "SHOW GRANTS FOR 'u'@'%'"),
    now(
        "SELECT",
        "as MySQL's",
        "ALL on the database",
        "Reads rows.",
        "SELECT a, COUNT(*) FROM t WHERE b > 1 GROUP BY a ORDER BY 2 DESC LIMIT 3",
    ),
    now("EXPLAIN", "EXPLAIN SELECT …", "ALL on the database", "The plan of a query.", "EXPLAIN SELECT 1"),
    now(
        "INSERT",
        "INSERT [IGNORE] INTO t [(columns)] {VALUES (…), … | SELECT …} [ON DUPLICATE KEY UPDATE column = expression, …]",
        "ALL on the database",
        "Adds rows.",
        "INSERT INTO t (a, b) VALUES (1, 2), (3, DEFAULT) ON DUPLICATE KEY UPDATE b = VALUES(b)",
    ),
    now(
        "REPLACE",
        "REPLACE INTO t [(columns)] {VALUES (…), … | SELECT …}",
        "ALL on the database",
        "Adds rows, instead of those with the same key.",
        "REPLACE INTO t VALUES (1, 2)",
    ),
    now(
        "UPDATE",
        "UPDATE t SET column = expression, … [WHERE condition] [ORDER BY …] [LIMIT n]",
        "ALL on the database",
        "Changes rows.",
        "UPDATE t SET a = a + 1 WHERE id = 3",
    ),
    now(
        "DELETE",
        "DELETE FROM t [WHERE condition] [ORDER BY …] [LIMIT n]",
        "ALL on the database",
        "Removes rows.",
        "DELETE FROM t WHERE id < 3",
    ),
    now(
        "LOAD DATA",
        "LOAD DATA LOCAL INFILE 'file' [REPLACE | IGNORE] INTO TABLE t [FIELDS …] [LINES …] [IGNORE n LINES] [(columns or @variables)] [SET column = expression, …]",
        "ALL on the database",
        "Adds the rows of a file that the client sends.",
        "LOAD DATA LOCAL INFILE 'f.csv' INTO TABLE t FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' LINES TERMINATED BY '\\n' IGNORE 1 LINES (a, @b) SET c = NULLIF(@b, '')",
    ),
    now(
        "BEGIN",
        "BEGIN [WORK] | START TRANSACTION [READ ONLY | READ WRITE]",
        "–",
        "Begins a transaction.",
        "START TRANSACTION",
    ),
    now("COMMIT", "COMMIT [WORK]", "–", "Ends a transaction and keeps what it wrote.", "COMMIT"),
    now("ROLLBACK", "ROLLBACK [WORK]", "–", "Ends a transaction and drops what it wrote.", "ROLLBACK"),
    later(
        "SAVEPOINT",
        "SAVEPOINT s | ROLLBACK TO s | RELEASE SAVEPOINT s",
        "–",
        "A place within a transaction to go back to.",
        "SAVEPOINT s",
    ),
    now(
        "SET",
        "SET {[SESSION | GLOBAL] variable | @variable} = value, … | SET NAMES charset | SET TRANSACTION …",
        "SUPER for GLOBAL",
        "Sets variables.",
        "SET autocommit = 0, @a = 1, SESSION sql_mode = 'STRICT_TRANS_TABLES'",
    ),
    now(
        "KILL",
        "KILL [QUERY | CONNECTION] id",
        "the same user, or SUPER",
        "Ends a statement or a connection.",
        "KILL QUERY 7",
    ),
    now(
        "LOCK TABLES",
        "LOCK TABLES t {READ | WRITE}, …",
        "–",
        "Accepted for tools, with a warning: rows are protected by transactions.",
        "LOCK TABLES t READ, u AS v WRITE",
    ),
    now(
        "CREATE USER",
        "CREATE USER [IF NOT EXISTS] user [IDENTIFIED [WITH plugin] BY 'password'], …",
        "SUPER",
        "Makes accounts.",
        "CREATE USER 'u'@'%' IDENTIFIED WITH caching_sha2_password BY 'p'",
    ),
    now(
        "ALTER USER",
        "ALTER USER [IF EXISTS] user IDENTIFIED [WITH plugin] BY 'password', …",
        "SUPER",
        "Changes passwords.",
        "ALTER USER u IDENTIFIED BY 'p'",
    ),
    now(
        "DROP USER",
        "DROP USER [IF EXISTS] user, …",
        "SUPER",
        "Removes accounts and ends their links' tokens.",
        "DROP USER IF EXISTS u, 'v'@'localhost'",
    ),
    now(
        "GRANT",
        "GRANT {ALL | REPLICATION | CLUSTER | SUPER | USAGE}, … ON {*.* | db.*} TO user, … [WITH GRANT OPTION]",
        "SUPER",
        "Gives privileges.",
        "GRANT ALL PRIVILEGES ON d.* TO 'u'@'%'",
    ),
    now(
        "REVOKE",
        "REVOKE {ALL | REPLICATION | CLUSTER | SUPER}, … ON {*.* | db.*} FROM user, …",
        "SUPER",
        "Takes privileges back.",
        "REVOKE REPLICATION ON *.* FROM u",
    ),
    now(
        "REPLICATE DATABASE",
        "REPLICATE DATABASE db [WITH {SYNC | ASYNC} DURABILITY] [WITH ASYNC REPLICATION] [WITH FORCE DIFFERENTIAL] FROM user[:'password']@host[:port][/source_db] [OPTIONS (…)] [NOWAIT]",
        "SUPER here, REPLICATION there",
        "Makes db follow another cluster's database; with FORCE DIFFERENTIAL an existing one, shipping only what differs.",
        "REPLICATE DATABASE d WITH FORCE DIFFERENTIAL FROM root:'p'@10.0.0.1:13306/d OPTIONS (connect_timeout = '5s')",
    ),
    later(
        "REPLICATE … SYNC",
        "REPLICATE DATABASE db WITH SYNC REPLICATION FROM …",
        "SUPER here, REPLICATION there",
        "The source's commits wait for the sink.",
        "REPLICATE DATABASE d WITH SYNC REPLICATION FROM root@h",
    ),
    later(
        "EXPLAIN REPLICATE",
        "EXPLAIN REPLICATE DATABASE …",
        "SUPER",
        "What the statement would do.",
        "EXPLAIN REPLICATE DATABASE d FROM root@h",
    ),
    now(
        "PAUSE REPLICATING",
        "{PAUSE | CONTINUE} REPLICATING db",
        "SUPER",
        "Halts a link, or goes on where it halted.",
        "PAUSE REPLICATING d",
    ),
    now(
        "STOP REPLICATING",
        "STOP REPLICATING db",
        "SUPER",
        "Makes a sink writable at its consistent cut.",
        "STOP REPLICATING d",
    ),
    later(
        "STOP REPLICATING … AT",
        "STOP REPLICATING db {AT TIME 't' | AS COPY}",
        "SUPER",
        "The same at an earlier time, or as an independent copy.",
        "STOP REPLICATING d AS COPY",
    ),
    later(
        "WAIT FOR REPLICATION",
        "WAIT FOR REPLICATION db [UNTIL 't'] [TIMEOUT 'd']",
        "SUPER",
        "Waits until a sink has reached a position.",
        "WAIT FOR REPLICATION d TIMEOUT '5s'",
    ),
    later(
        "ALTER REPLICATION",
        "ALTER REPLICATION db SET (name = value, …)",
        "SUPER",
        "Changes a running link.",
        "ALTER REPLICATION d SET (bandwidth_limit = '10MB')",
    ),
    now(
        "FLUSH TABLES … READ ONLY",
        "FLUSH TABLES [ON db] WITH READ ONLY [TIMEOUT 'd']",
        "SUPER",
        "Fences a database: writes are refused until it is unlocked.",
        "FLUSH TABLES ON d WITH READ ONLY TIMEOUT '10s'",
    ),
    later(
        "FLUSH TABLES … READ LOCK",
        "FLUSH TABLES WITH READ LOCK",
        "SUPER",
        "Holds new writes for the session's time.",
        "FLUSH TABLES WITH READ LOCK",
    ),
    now(
        "UNLOCK TABLES",
        "UNLOCK TABLES [ON {db | *}] [FORCE]",
        "SUPER to lift a fence",
        "Lifts fences, or the session's own locks.",
        "UNLOCK TABLES ON d FORCE",
    ),
    later(
        "SWITCHOVER",
        "SWITCHOVER DATABASE db [TO 'host:port'] [TIMEOUT 'd']",
        "SUPER",
        "The whole planned exchange in one statement.",
        "SWITCHOVER DATABASE d TO 'h:3306'",
    ),
    now(
        "SHOW REPLICATION STATUS",
        "SHOW REPLICATION STATUS [PARTITIONS] [FOR db]",
        "–",
        "Links, how far they are, what they shipped. At a source `tier`, `progress` and `eta_s` are NULL, ask at the sink; there `reason` and `advice` tell who has claimed the database since, when, and what to type.",
        "SHOW REPLICATION STATUS PARTITIONS FOR d",
    ),
    now(
        "SHOW TRANSACTION",
        "SHOW TRANSACTION 'id'",
        "ALL on the database",
        "How a commit ended whose outcome was unknown (error 1180 names it).",
        "SHOW TRANSACTION '0123:1:0:42'",
    ),
    now(
        "SHOW DIVERGENCE",
        "SHOW DIVERGENCE [FOR db] | SHOW DIVERGENCE RECORDS 'id' [LIMIT n]",
        "SUPER",
        "Writes that were set aside.",
        "SHOW DIVERGENCE RECORDS '0001' LIMIT 10",
    ),
    now(
        "EXPORT DIVERGENCE",
        "EXPORT DIVERGENCE 'id' AS SQL | DISCARD DIVERGENCE 'id'",
        "SUPER",
        "Takes what was set aside out, or throws it away.",
        "EXPORT DIVERGENCE '0001' AS SQL",
    ),
    later("CHECK REPLICA", "CHECK REPLICA db", "SUPER", "Compares both sides at one read view.", "CHECK REPLICA d"),
    now(
        "SHOW LEAVES",
        "SHOW LEAVES",
        "–",
        "Leaves and their state. Every SHOW of the cluster is a table of information_schema, too: `PERENNIAL_LEAVES` and its like, which SHOW TABLES FROM information_schema lists.",
        "SHOW LEAVES",
    ),
    now("SHOW AGGREGATORS", "SHOW AGGREGATORS", "–", "Aggregators and their state.", "SHOW AGGREGATORS"),
    now(
        "SHOW PARTITIONS",
        "SHOW PARTITIONS [ON db]",
        "–",
        "Replicas, where they lie, how far they are. With ASYNC REPLICATION a secondary is `joining` until it keeps up with its primary. `rows` and `bytes` are about, with older versions that are still kept.",
        "SHOW PARTITIONS ON d",
    ),
    now(
        "SHOW CLUSTER STATUS",
        "SHOW CLUSTER STATUS",
        "–",
        "One row a region; `name` is `cluster.region` of the master's configuration. A region that is linked to this one is named by its address, and what only it knows is NULL: ask there. `sinks` are databases there that follow another region. `alarms` counts nodes that are down, and databases that are unavailable, lack copies, have a broken link or wait for the guard.",
        "SHOW CLUSTER STATUS",
    ),
    now(
        "SHOW CLUSTER EVENTS",
        "SHOW CLUSTER EVENTS [LIMIT n]",
        "–",
        "Failovers, fences, switchovers, repairs, new masters, nodes that are silent. `time` is in the session's time zone.",
        "SHOW CLUSTER EVENTS LIMIT 3",
    ),
    now(
        "SHOW REBALANCE STATUS",
        "SHOW REBALANCE STATUS",
        "–",
        "Partitions that move: what is done next, from where to where, how far it is.",
        "SHOW REBALANCE STATUS",
    ),
    now(
        "ADD LEAF",
        "ADD LEAF 'host:port' [INTO GROUP {n | OWN}]",
        "CLUSTER",
        "Takes a leaf, named by its RPC address, into the region: partitions may be placed on it. It has been started before. Copies of a partition are never placed in one group; without INTO GROUP it keeps the group that it has, OWN at first. Ends its removal, too.",
        "ADD LEAF 'h:1' INTO GROUP 2",
    ),
    now(
        "REMOVE LEAF",
        "REMOVE LEAF 'host:port' [FORCE] [KILL] [NOWAIT]",
        "CLUSTER",
        "Moves everything away from a leaf, then lets it go for good. FORCE gives up at once what other leaves hold, too; a last copy never. KILL rolls back transactions that hold it up.",
        "REMOVE LEAF 'h:1' FORCE",
    ),
    now(
        "DETACH LEAF",
        "DETACH LEAF 'host:port' [KILL] [FORCE]",
        "CLUSTER",
        "Takes a leaf out of service for a while: it leads nothing and nobody waits for it, but it keeps its copies. FORCE: also where that leaves fewer copies than min_in_sync.",
        "DETACH LEAF root:'p'@'h':3306 KILL",
    ),
    now(
        "ATTACH LEAF",
        "ATTACH LEAF {'host:port' | ALL} [NO REBALANCE]",
        "CLUSTER",
        "Takes a detached leaf back once it is heard: its copies catch up. If one was detached, REBALANCE ALL DATABASES is ordered as well, unless NO REBALANCE says otherwise; SHOW WARNINGS tells.",
        "ATTACH LEAF ALL NO REBALANCE",
    ),
    now(
        "ADD AGGREGATOR",
        "{ADD | REMOVE} AGGREGATOR 'host:port' | PROMOTE AGGREGATOR 'host:port' TO MASTER",
        "CLUSTER",
        "Takes an aggregator, named by its SQL address, into the group that decides, lets it go for good, or has it lead. It has been started before, with addresses of others in its configuration.",
        "PROMOTE AGGREGATOR 'h:1' TO MASTER",
    ),
    now(
        "REBALANCE",
        "REBALANCE PARTITIONS ON db [FULL] [KILL] [NOWAIT] | REBALANCE ALL DATABASES [FULL] [KILL] [NOWAIT]",
        "CLUSTER",
        "Moves partitions until copies are as many as redundancy says, in different groups, and loads are even; FULL spreads the secondaries of each leaf's primaries as well. Reads and writes go on. Waits some seconds for leaves that are starting; refused while a leaf is offline that holds copies of these databases. KILL rolls back transactions that hold a hand-over up.",
        "REBALANCE PARTITIONS ON d FULL",
    ),
    now(
        "RESTORE REDUNDANCY",
        "RESTORE REDUNDANCY ON db [NOWAIT]",
        "CLUSTER",
        "Replaces copies on leaves that are offline or detached, and moves nothing else.",
        "RESTORE REDUNDANCY ON d",
    ),
    now(
        "EXPLAIN REBALANCE",
        "EXPLAIN {REBALANCE … | RESTORE REDUNDANCY ON db}",
        "CLUSTER",
        "What it would do, without doing it.",
        "EXPLAIN REBALANCE PARTITIONS ON d",
    ),
    later(
        "CREATE MILESTONE",
        "CREATE MILESTONE [\"m\"] [FOR db] | DROP MILESTONE \"m\" FOR db | SHOW MILESTONES [FOR db]",
        "CLUSTER",
        "Names a consistent cut.",
        "CREATE MILESTONE \"m\" FOR d",
    ),
    later(
        "DETACH DATABASE",
        "DETACH DATABASE db [AT MILESTONE \"m\"] [FORCE | KILL]",
        "CLUSTER",
        "Uploads a database and lets it go.",
        "DETACH DATABASE d AT MILESTONE \"m\" FORCE",
    ),
    later(
        "ATTACH DATABASE",
        "ATTACH DATABASE [READ ONLY] db [AS new] ON {S3 | GCS | AZURE | LOCAL} \"bucket/root\" CONFIG '…' CREDENTIALS '…' [AT {MILESTONE \"m\" | TIME 't'}] [STORAGEID 'id'] [FORCE]",
        "CLUSTER",
        "Takes a database from an object store.",
        "ATTACH DATABASE READ ONLY d AS e ON LOCAL \"/b\" AT TIME '2026-01-01 00:00:00' FORCE",
    ),
    later(
        "SHOW STORAGE STATUS",
        "SHOW STORAGE STATUS [FOR db]",
        "–",
        "Uploads and the cache.",
        "SHOW STORAGE STATUS FOR d",
    ),
    later(
        "BACKUP",
        "BACKUP [DATABASE] db [WITH {INIT | DIFFERENTIAL}] TO {S3 | … | LOCAL} \"…\" | RESTORE [DATABASE] db [AS new] FROM …",
        "CLUSTER",
        "Copies a database to an object store, and back.",
        "BACKUP DATABASE d WITH INIT TO LOCAL \"/b\"",
    ),
];

/// The reference as a page of the documentation.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Statements\n\nMade from the table in `sql/src/reference.rs`; a test keeps the two equal. Statements marked *later* are parsed \
         and refused with error 1235.\n",
    );
    for entry in STATEMENTS {
        let later = if entry.availability == Availability::Later { " *(later)*" } else { "" };
        page += &format!(
            "\n## {}{later}\n\n```\n{}\n```\n\n{} Privilege: {}. Example: `{}`\n",
            entry.name, entry.grammar, entry.summary, entry.privilege, entry.example
        );
    }
    page
}
