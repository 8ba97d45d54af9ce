//! Rows with numbers that are never used again, and counters that count some of them.
//!
//! What was acknowledged is there in the end, what was refused is not, and of a statement of several rows all or none. A
//! row that was counted was so in its transaction: each counter is the number of its rows, neither less (an update was
//! lost) nor more (one was done twice).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::app::{App, Outcome};

/// Counters; few, so that writers meet.
pub const COUNTERS: i64 = 8;
/// The row is not counted.
const NOWHERE: i64 = -1;
/// Rows of the larger statements.
const SEVERAL: i64 = 4;
/// Numbers of one writer.
const SPAN: i64 = 1_000_000_000;
const PAUSE: Duration = Duration::from_millis(4);

/// A write: rows with consecutive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// The first number.
    pub first: i64,
    /// How many.
    pub rows: i64,
    /// Which counter counts it.
    pub counter: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
}

/// All writes of all writers.
pub type Journal = Arc<Mutex<Vec<Write>>>;

/// Writes until told to stop.
pub fn write(mut app: App, writer: i64, journal: &Journal) {
    let mut next = writer * SPAN;
    for turn in 0i64.. {
        if app.shared.stopped() {
            return;
        }
        let (rows, counter) = match turn % 3 {
            0 => (1, None),
            1 => (SEVERAL, None),
            _ => (1, Some((turn / 3 + writer) % COUNTERS)),
        };
        let first = next;
        next += rows;
        let numbers: Vec<String> = (first..next).map(|id| format!("({id}, {})", counter.unwrap_or(NOWHERE))).collect();
        let insert = format!("INSERT INTO journal VALUES {}", numbers.join(", "));
        let outcome = match counter {
            None => app.write(&insert).0,
            Some(counter) => app.transact(&[
                "BEGIN".into(),
                insert,
                format!("UPDATE counters SET n = n + 1 WHERE id = {counter}"),
                "COMMIT".into(),
            ]),
        };
        let write = Write { first, rows, counter, outcome };
        journal.lock().unwrap_or_else(PoisonError::into_inner).push(write);
        std::thread::sleep(PAUSE);
    }
}

/// What came out of the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Acknowledged writes.
    pub acknowledged: u64,
    /// Writes of which nobody knew, and that happened.
    pub happened: u64,
    /// Acknowledged and not there, and updates that counters lack.
    pub lost: u64,
    /// Updates that counters have too many.
    pub duplicated: u64,
    /// What else is not as it must be, and some of the above.
    pub findings: Vec<String>,
}

/// Compares what writers know with the rows there are (number and counter), and with the counters.
pub fn audit(writes: &[Write], rows: &BTreeMap<i64, i64>, counters: &BTreeMap<i64, i64>) -> Audit {
    let mut audit = Audit::default();
    let mut known = 0;
    for write in writes {
        let there = rows.range(write.first..write.first + write.rows).count() as i64;
        known += there;
        match write.outcome {
            Outcome::Done => {
                audit.acknowledged += 1;
                if there < write.rows {
                    audit.lost += (write.rows - there) as u64;
                    audit.findings.push(format!("acknowledged, and {there} of its rows are there: {write:?}"));
                }
            }
            Outcome::Refused if there > 0 => {
                audit.findings.push(format!("refused, and {there} of its rows are there: {write:?}"));
            }
            Outcome::Unknown if there > 0 && there < write.rows => {
                audit.findings.push(format!("a transaction in part, {there} of its rows are there: {write:?}"));
            }
            Outcome::Unknown => audit.happened += u64::from(there > 0),
            Outcome::Refused => {}
        }
    }
    if known < rows.len() as i64 {
        audit.findings.push(format!("{} rows are there that nobody has written", rows.len() as i64 - known));
    }
    for counter in 0..COUNTERS {
        let counted = rows.values().filter(|of| **of == counter).count() as i64;
        let value = counters.get(&counter).copied().unwrap_or_default();
        if value != counted {
            audit.lost += (counted - value).max(0) as u64;
            audit.duplicated += (value - counted).max(0) as u64;
            audit.findings.push(format!("counter {counter} is {value}, and {counted} rows were counted there"));
        }
    }
    audit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(first: i64, outcome: Outcome) -> Write {
        Write { first, rows: 1, counter: None, outcome }
    }

    fn several(first: i64, outcome: Outcome) -> Write {
        Write { first, rows: SEVERAL, counter: None, outcome }
    }

    fn rows(numbers: &[(i64, i64)]) -> BTreeMap<i64, i64> {
        numbers.iter().copied().collect()
    }

    #[test]
    fn what_is_as_it_must_be_has_no_findings() {
        let writes = [
            one(1, Outcome::Done),
            one(2, Outcome::Refused),
            one(3, Outcome::Unknown),
            one(4, Outcome::Unknown),
            Write { first: 5, rows: 1, counter: Some(2), outcome: Outcome::Done },
            several(10, Outcome::Done),
            several(20, Outcome::Unknown),
        ];
        let there = rows(&[(1, -1), (4, -1), (5, 2), (10, -1), (11, -1), (12, -1), (13, -1)]);
        let audit = audit(&writes, &there, &rows(&[(2, 1)]));
        assert_eq!(audit, Audit { acknowledged: 3, happened: 1, ..Audit::default() });
    }

    #[test]
    fn what_is_lost_or_too_much_is_found() {
        let lost = audit(&[one(1, Outcome::Done)], &rows(&[]), &rows(&[]));
        assert_eq!((lost.lost, lost.findings.len()), (1, 1));
        let risen = audit(&[one(1, Outcome::Refused)], &rows(&[(1, -1)]), &rows(&[]));
        assert_eq!((risen.lost, risen.findings.len()), (0, 1));
        let torn = audit(&[several(1, Outcome::Unknown)], &rows(&[(1, -1), (2, -1)]), &rows(&[]));
        assert_eq!(torn.findings.len(), 1);
        let foreign = audit(&[], &rows(&[(1, -1)]), &rows(&[]));
        assert_eq!(foreign.findings.len(), 1);
        let counted = Write { first: 1, rows: 1, counter: Some(0), outcome: Outcome::Done };
        let twice = audit(&[counted], &rows(&[(1, 0)]), &rows(&[(0, 2)]));
        assert_eq!((twice.lost, twice.duplicated), (0, 1));
        let never = audit(&[counted], &rows(&[(1, 0)]), &rows(&[(0, 0)]));
        assert_eq!((never.lost, never.duplicated), (1, 0));
    }
}
