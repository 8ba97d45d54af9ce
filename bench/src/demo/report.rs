//! What came of it: a line for each step, the proof, and the same as JSON.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::checksum::Checksum;
use super::divergence::Divergence;
use super::ledger::{Audit, Ledger};
use super::link::Shipped;

/// A step that has been played.
pub struct Step {
    /// 0 is the preparation.
    pub number: usize,
    /// What happens in it.
    pub title: &'static str,
    /// When it began.
    pub from: Instant,
    /// When it was done.
    pub to: Instant,
    /// What was shipped, if anything.
    pub shipped: Shipped,
}

/// Checksums of one side, table by table.
pub type Sums = Vec<(&'static str, Checksum)>;

/// Everything that is known in the end.
pub struct Report {
    /// In order.
    pub steps: Vec<Step>,
    /// What the writing client heard.
    pub ledger: Ledger,
    /// What became of it.
    pub audit: Audit,
    /// What the first region has set aside.
    pub divergence: Divergence,
    /// Of both sides, if it came to that.
    pub sums: [Sums; 2],
    /// What is not as it must be.
    pub findings: Vec<String>,
}

impl Report {
    /// Bytes of a full copy: what the first step shipped, else what the differential says that one would take.
    fn full_copy_bytes(&self) -> Option<u64> {
        let shipped = |number: usize| self.steps.iter().find(|step| step.number == number).map(|step| &step.shipped);
        let told = || shipped(5).and_then(|shipped| shipped.full_copy_bytes).filter(|bytes| *bytes > 0);
        shipped(1).and_then(|shipped| shipped.bytes).or_else(told)
    }

    /// Rows that both sides have.
    fn equal_rows(&self) -> u64 {
        let [east, west] = &self.sums;
        let equal = east.iter().zip(west).filter(|(a, b)| a == b);
        equal.map(|((_, sum), _)| sum.rows).sum()
    }

    /// Adds what the checksums have to say.
    pub fn compare_sums(&mut self) {
        let [east, west] = &self.sums;
        for ((table, a), (_, b)) in east.iter().zip(west).filter(|(a, b)| a != b) {
            self.findings.push(format!("{table} differs: {} rows in east, {} in west", a.rows, b.rows));
        }
        if east.is_empty() || east.len() != west.len() {
            self.findings.push("the tables of the two sides were not compared".into());
        }
    }

    /// Prints everything; the last line sums it up.
    pub fn print(&self) {
        println!("\n{}", self.step_table());
        let [east, west] = &self.sums;
        let sums = east.iter().zip(west).map(|((table, a), (_, b))| {
            let word = if a == b { "equal" } else { "DIFFERENT" };
            let short = |sum: &Checksum| format!("{:016x}", (sum.sum >> 64) as u64);
            [table.to_string(), a.rows.to_string(), short(a), b.rows.to_string(), short(b), word.to_string()]
        });
        println!("{}", aligned(["table", "rows east", "checksum", "rows west", "checksum", ""], sums.collect()));
        let ledger = &self.ledger;
        println!(
            "{} writes were acknowledged: {} are on both sides, {} are set aside in east; {} were refused, of {} nobody \
             knows",
            ledger.acknowledged.len(),
            self.audit.kept,
            self.audit.set_aside,
            ledger.refused.len(),
            ledger.unknown.len()
        );
        for finding in &self.findings {
            println!("demo: NOT AS IT MUST BE: {finding}");
        }
        println!("{}", self.summary());
    }

    fn summary(&self) -> String {
        let numbered = self.steps.iter().filter(|step| step.number > 0).count();
        let differential = self.steps.iter().find(|step| step.number == 5).and_then(|step| step.shipped.bytes);
        let full = self.full_copy_bytes();
        let percent = match (differential, full) {
            (Some(bytes), Some(full)) if full > 0 => format!("{:.2}", 100.0 * bytes as f64 / full as f64),
            _ => "?".into(),
        };
        format!(
            "demo: {numbered} steps, {} rows equal on both sides, {} writes set aside, differential shipped {} of {} \
             bytes ({percent} %)",
            self.equal_rows(),
            self.audit.set_aside,
            number(differential),
            number(full)
        )
    }

    fn step_table(&self) -> String {
        let lines = self.steps.iter().map(|step| {
            let shipped = &step.shipped;
            let share = match (shipped.bytes, self.full_copy_bytes()) {
                (Some(bytes), Some(full)) if full > 0 => format!("{:.2} %", 100.0 * bytes as f64 / full as f64),
                _ => "-".into(),
            };
            [
                step.number.to_string(),
                step.title.to_string(),
                seconds(step.to - step.from),
                shipped.tier.clone().unwrap_or_else(|| "-".into()),
                number(shipped.records),
                number(shipped.bytes),
                share,
                number(shipped.set_aside),
                seconds(self.ledger.longest_pause(step.from, step.to)),
            ]
        });
        let head = ["step", "", "seconds", "tier", "records", "bytes", "of a full copy", "set aside", "no writes for"];
        aligned(head, lines.collect())
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            let shipped = &step.shipped;
            json!({
                "step": step.number,
                "title": step.title,
                "duration_ms": (step.to - step.from).as_millis() as u64,
                "tier": shipped.tier,
                "shipped_records": shipped.records,
                "shipped_bytes": shipped.bytes,
                "set_aside_records": shipped.set_aside,
                "longest_pause_ms": self.ledger.longest_pause(step.from, step.to).as_millis() as u64,
            })
        });
        let [east, west] = &self.sums;
        let tables = east.iter().zip(west).map(|((table, a), (_, b))| {
            json!({
                "table": table,
                "rows": [a.rows, b.rows],
                "checksums": [format!("{:032x}", a.sum), format!("{:032x}", b.sum)],
                "equal": a == b,
            })
        });
        json!({
            "report": "demo",
            "version": env!("CARGO_PKG_VERSION"),
            "steps": steps.collect::<Vec<_>>(),
            "full_copy_bytes": self.full_copy_bytes(),
            "tables": tables.collect::<Vec<_>>(),
            "equal_rows": self.equal_rows(),
            "writes": {
                "acknowledged": self.ledger.acknowledged.len(),
                "on_both_sides": self.audit.kept,
                "set_aside": self.audit.set_aside,
                "refused": self.ledger.refused.len(),
                "unknown": self.ledger.unknown.len(),
                "errors": self.ledger.errors,
            },
            "divergence": { "ids": self.divergence.ids, "records": self.divergence.records },
            "findings": self.findings,
        })
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// Columns below each other; what looks like a number stands to the right.
fn aligned<const N: usize>(head: [&str; N], lines: Vec<[String; N]>) -> String {
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or_default()
    };
    let right =
        |column: usize| lines.iter().all(|line| line[column].starts_with(|c: char| c.is_ascii_digit() || c == '-'));
    let row = |cells: [&str; N]| {
        let mut text = String::new();
        for (column, cell) in cells.into_iter().enumerate() {
            let width = width(column);
            text += &if right(column) { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
        }
        text.trim_end().to_string() + "\n"
    };
    let body = lines.iter().map(|line| row(std::array::from_fn(|column| line[column].as_str())));
    row(head) + &body.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::ledger::Write;
    use crate::demo::regions::Region;

    fn step(number: usize, begun: Instant, shipped: Shipped) -> Step {
        let at = |step: usize| begun + Duration::from_secs(step as u64);
        Step { number, title: "a step", from: at(number), to: at(number + 1), shipped }
    }

    fn report() -> Report {
        let begun = Instant::now();
        let first = Shipped { tier: Some("full".into()), records: Some(9), bytes: Some(2_000), ..Shipped::default() };
        let fifth = Shipped {
            tier: Some("log".into()),
            records: Some(3),
            bytes: Some(50),
            full_copy_bytes: Some(1_000),
            set_aside: Some(7),
        };
        let write = |id: i64, second: u64| Write { id, region: Region::East, at: begun + Duration::from_secs(second) };
        let sums = vec![("region", Checksum { rows: 5, sum: 1 << 100 }), ("ledger", Checksum { rows: 2, sum: 9 })];
        Report {
            steps: vec![step(0, begun, Shipped::default()), step(1, begun, first), step(5, begun, fifth)],
            ledger: Ledger { acknowledged: vec![write(1, 1), write(2, 8)], ..Ledger::default() },
            audit: Audit { kept: 1, set_aside: 1, findings: vec![] },
            divergence: Divergence::default(),
            sums: [sums.clone(), sums],
            findings: vec![],
        }
    }

    #[test]
    fn the_last_line_sums_up() {
        let mut report = report();
        let line = "demo: 2 steps, 7 rows equal on both sides, 1 writes set aside, differential shipped 50 of 2000 bytes \
                    (2.50 %)";
        assert_eq!(report.summary(), line);
        report.steps[1].shipped.bytes = None;
        assert!(
            report.summary().ends_with("50 of 1000 bytes (5.00 %)"),
            "what the differential says is the measure then"
        );
        report.steps.truncate(1);
        assert!(report.summary().ends_with("shipped - of - bytes (? %)"));
    }

    #[test]
    fn steps_stand_below_each_other() {
        let wanted = "\
step          seconds  tier  records  bytes  of a full copy  set aside  no writes for
   0  a step     1.00  -           -      -               -          -           7.00
   1  a step     1.00  full        9   2000        100.00 %          -           7.00
   5  a step     1.00  log         3     50          2.50 %          7           7.00
";
        assert_eq!(report().step_table(), wanted);
    }

    #[test]
    fn a_difference_is_a_finding() {
        let mut report = report();
        report.compare_sums();
        assert_eq!(report.findings, Vec::<String>::new());
        report.sums[1][0].1.sum += 1;
        report.compare_sums();
        assert_eq!(report.findings, ["region differs: 5 rows in east, 5 in west"]);
        assert_eq!(report.equal_rows(), 2);
        report.sums = [vec![], vec![]];
        report.findings.clear();
        report.compare_sums();
        assert_eq!(report.findings.len(), 1, "nothing compared is nothing proved");
    }

    #[test]
    fn programs_read_the_same() {
        let json = report().json();
        assert_eq!(json["steps"][2]["shipped_bytes"], 50);
        assert_eq!(json["steps"][0]["tier"], Value::Null);
        assert_eq!(json["tables"][0]["checksums"][0], format!("{:032x}", 1u128 << 100));
        assert_eq!((&json["equal_rows"], &json["full_copy_bytes"]), (&json!(7), &json!(2000)));
        assert_eq!(json["writes"]["set_aside"], 1);
    }
}
