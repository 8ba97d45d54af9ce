//! Filling the first region, over the MySQL protocol as anybody would: CREATE TABLE, then LOAD DATA LOCAL INFILE, with rows
//! that are generated while they are sent.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::console::{Console, Session};
use super::tables::{ACCOUNTS, BALANCE, DATABASE, PARTITIONS, TPCH, Table, WRITERS};

/// Rows of one LOAD DATA: each is one transaction, and a transaction's rows are locked until it ends.
const ROWS_PER_LOAD: u64 = 50_000;
/// Rows between two looks at the progress.
const PROGRESS_ROWS: u64 = 10_000;

/// Makes the database and fills it; gives the number of TPC-H's rows.
pub fn load(console: Console, session: &mut Session, scale: f64) -> Result<u64> {
    session.run(&format!("CREATE DATABASE {DATABASE} PARTITIONS {PARTITIONS}"))?;
    session.run(&format!("USE {DATABASE}"))?;
    for Table { name, columns, .. } in TPCH {
        session.client().run(&format!("CREATE TABLE {name} ({columns})"))?;
    }
    for (name, columns) in WRITERS {
        session.client().run(&format!("CREATE TABLE {name} ({columns})"))?;
    }
    let accounts: Vec<String> = (0..ACCOUNTS).map(|id| format!("({id}, {BALANCE})")).collect();
    session.client().run(&format!("INSERT INTO accounts VALUES {}", accounts.join(", ")))?;
    let begun = Instant::now();
    let mut rows = 0;
    for table in TPCH {
        rows += load_table(console, session, &table, scale)?;
    }
    let rate = rows as f64 / begun.elapsed().as_secs_f64();
    console.say(&format!("{rows} rows are loaded, {rate:.0} a second, in transactions of {ROWS_PER_LOAD}"));
    Ok(rows)
}

fn load_table(console: Console, session: &mut Session, table: &Table, scale: f64) -> Result<u64> {
    let name = table.name;
    let mut lines = (table.lines)(scale).peekable();
    let sql = format!(
        "LOAD DATA LOCAL INFILE '{name}.csv' INTO TABLE {name} \
         FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '\"' LINES TERMINATED BY '\\n'"
    );
    let mut sent = 0;
    let mut written = 0;
    while lines.peek().is_some() {
        let mut left = ROWS_PER_LOAD;
        let mut contents = |piece: &mut Vec<u8>| {
            let Some(line) = lines.next_if(|_| left > 0) else { return false };
            piece.extend(line.as_bytes());
            piece.push(b'\n');
            left -= 1;
            sent += 1;
            if sent % PROGRESS_ROWS == 0 {
                console.progress(&format!("{name}: {sent} rows"));
            }
            true
        };
        let done = session.client().load(&sql, &mut contents)?;
        ensure!(done.warnings == 0, "LOAD DATA of {name} gave {} warnings", done.warnings);
        written += done.affected;
    }
    ensure!(sent == written, "{sent} rows of {name} were sent, {written} were written");
    console.say(&format!("{name}: {sent} rows"));
    Ok(sent)
}
