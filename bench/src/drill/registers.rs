//! Clients that read and write the same few rows by their keys; what each saw is checked for linearizability.
//!
//! Every value is written once. After some operations all clients go on with other rows, so that each history stays
//! short enough to be searched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::app::{App, Outcome};
use super::linear::{Kind, Operation, Verdict, check};

/// Rows that are in use at the same time.
const ROWS: u64 = 4;
/// How long these are in use, in nanoseconds.
const GENERATION: u64 = 8_000_000_000;
const PAUSE: Duration = Duration::from_millis(3);

/// What happened to each row.
pub type Histories = Arc<Mutex<BTreeMap<u64, Vec<Operation>>>>;

/// Reads and writes until told to stop.
pub fn use_rows(mut app: App, client: i64, mut random: ChaCha8Rng, histories: &Histories) {
    let mut last = 0;
    while !app.shared.stopped() {
        let row = app.shared.now() / GENERATION * ROWS + random.random_range(0..ROWS);
        let sent = app.shared.now();
        let operation = match random.random_range(0..4) {
            0 | 1 => read(&mut app, row, sent),
            turn => {
                last += 1;
                let value = client << 40 | last;
                write(&mut app, row, value, turn == 2, sent)
            }
        };
        if let Some(operation) = operation {
            let mut histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
            histories.entry(row).or_default().push(operation);
        }
        std::thread::sleep(PAUSE);
    }
}

fn read(app: &mut App, row: u64, sent: u64) -> Option<Operation> {
    let table = app.read(&format!("SELECT v FROM registers WHERE id = {row}"))?;
    let value = (!table.rows.is_empty()).then(|| table.number(0, "v").unwrap_or_default() as i64);
    Some(Operation { kind: Kind::Read(value), sent, answered: Some(app.shared.now()) })
}

/// By REPLACE, or by UPDATE, which does nothing where there is no row yet.
fn write(app: &mut App, row: u64, value: i64, replace: bool, sent: u64) -> Option<Operation> {
    let statement = match replace {
        true => format!("REPLACE INTO registers VALUES ({row}, {value})"),
        false => format!("UPDATE registers SET v = {value} WHERE id = {row}"),
    };
    let (outcome, done) = app.write(&statement);
    let missed = !replace && done.is_some_and(|done| done.affected == 0);
    let kind = if missed { Kind::Read(None) } else { Kind::Write(value) };
    let answered = (outcome == Outcome::Done).then(|| app.shared.now());
    (outcome != Outcome::Refused).then_some(Operation { kind, sent, answered })
}

/// What the check of all histories says.
#[derive(Debug, Default)]
pub struct Audit {
    /// How many operations were checked.
    pub operations: usize,
    /// Rows whose history was too long to be searched.
    pub undecided: usize,
    /// Rows whose history cannot be, each with it.
    pub findings: Vec<String>,
}

/// Checks every row.
pub fn audit(histories: &BTreeMap<u64, Vec<Operation>>) -> Audit {
    let mut audit = Audit::default();
    for (row, history) in histories {
        audit.operations += history.len();
        match check(history) {
            Verdict::Holds => {}
            Verdict::Undecided => audit.undecided += 1,
            Verdict::Broken(operation) => audit.findings.push(format!(
                "what clients saw of register {row} cannot have happened: {operation:?} does not fit; around it: {:?}",
                around(history, &operation)
            )),
        }
    }
    audit
}

/// What was sent within a second of an operation.
fn around(history: &[Operation], of: &Operation) -> Vec<Operation> {
    let mut near: Vec<Operation> =
        history.iter().filter(|other| other.sent.abs_diff(of.sent) < 1_000_000_000).copied().collect();
    near.sort_unstable_by_key(|operation| operation.sent);
    near
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_history_is_a_finding() {
        let operation = |kind, sent| Operation { kind, sent, answered: Some(sent + 1) };
        let good = vec![operation(Kind::Write(1), 0), operation(Kind::Read(Some(1)), 2)];
        let bad = vec![operation(Kind::Write(1), 0), operation(Kind::Read(None), 2)];
        let audit = audit(&BTreeMap::from([(1, good), (2, bad)]));
        assert_eq!((audit.operations, audit.undecided, audit.findings.len()), (4, 0, 1));
        assert!(audit.findings[0].contains("register 2"), "{}", audit.findings[0]);
    }
}
