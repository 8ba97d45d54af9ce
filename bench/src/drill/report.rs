//! What came of it: for people, the last line in short, and all of it as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::app::Tally;
use super::fault::Fault;
use super::{journal, registers};

/// A fault that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// When, since the beginning.
    pub at: Duration,
    /// How long.
    pub lasts: Duration,
    /// What.
    pub fault: Fault,
    /// Whom it met.
    pub text: String,
}

/// Everything that is known in the end.
pub struct Report {
    /// Of the faults.
    pub seed: u64,
    /// How long faults happened.
    pub lasted: Duration,
    /// All of them.
    pub events: Vec<Event>,
    /// How long it took to be whole again, each time.
    pub recoveries: Vec<Duration>,
    /// What clients counted.
    pub tally: Tally,
    /// What became of the rows.
    pub audit: journal::Audit,
    /// What became of the registers.
    pub registers: registers::Audit,
}

impl Report {
    /// How much is not as it must be.
    pub fn violations(&self) -> usize {
        self.findings().count()
    }

    fn findings(&self) -> impl Iterator<Item = &String> {
        self.tally.findings.iter().chain(&self.audit.findings).chain(&self.registers.findings)
    }

    fn by_fault(&self) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for event in &self.events {
            *counts.entry(event.fault.name()).or_default() += 1;
        }
        counts
    }

    /// Prints everything; the last line sums it up.
    pub fn print(&self) {
        println!();
        for (fault, count) in self.by_fault() {
            println!("{count:>6} {fault}");
        }
        println!("{} answers were errors, by number: {:?}", self.tally.errors.values().sum::<u64>(), self.tally.errors);
        println!(
            "{} writes of the journal were acknowledged; {} happened of which nobody knew",
            self.audit.acknowledged, self.audit.happened
        );
        println!(
            "{} operations on registers were checked, {} registers were not decided",
            self.registers.operations, self.registers.undecided
        );
        let slowest = self.recoveries.iter().max().copied().unwrap_or_default();
        println!(
            "{} times everything was whole again after faults, at the slowest in {:.1} s",
            self.recoveries.len(),
            slowest.as_secs_f64()
        );
        for finding in self.findings() {
            println!("drill: NOT AS IT MUST BE: {finding}");
        }
        println!("{}", self.summary());
    }

    fn summary(&self) -> String {
        format!(
            "drill: seed {}, {:.1} minutes, {} operations, {} faults, {} lost, {} duplicated, {} violations",
            self.seed,
            self.lasted.as_secs_f64() / 60.0,
            self.tally.operations,
            self.events.len(),
            self.audit.lost,
            self.audit.duplicated,
            self.violations()
        )
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let events = self.events.iter().map(|event| {
            json!({ "at_ms": event.at.as_millis() as u64, "lasts_ms": event.lasts.as_millis() as u64,
                    "fault": event.fault.name(), "what": event.text })
        });
        let recoveries: Vec<u64> = self.recoveries.iter().map(|time| time.as_millis() as u64).collect();
        json!({
            "seed": self.seed,
            "seconds": self.lasted.as_secs_f64(),
            "operations": self.tally.operations,
            "faults": self.events.len(),
            "lost": self.audit.lost,
            "duplicated": self.audit.duplicated,
            "violations": self.violations(),
            "findings": self.findings().collect::<Vec<_>>(),
            "errors": self.tally.errors,
            "journal": { "acknowledged": self.audit.acknowledged, "happened_unknown": self.audit.happened },
            "registers": { "operations": self.registers.operations, "undecided": self.registers.undecided },
            "recoveries_ms": recoveries,
            "events": events.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_a_violation() {
        let finding = || vec!["x".to_string()];
        let tally = Tally { operations: 7, findings: finding(), ..Tally::default() };
        let audit = journal::Audit { lost: 2, findings: finding(), ..journal::Audit::default() };
        let registers = registers::Audit { findings: finding(), ..registers::Audit::default() };
        let at = Duration::ZERO;
        let events = vec![Event { at, lasts: at, fault: Fault::KillAll, text: String::new() }];
        let lasted = Duration::from_secs(90);
        let report = Report { seed: 3, lasted, events, recoveries: vec![], tally, audit, registers };
        let wanted = "drill: seed 3, 1.5 minutes, 7 operations, 1 faults, 2 lost, 0 duplicated, 3 violations";
        assert_eq!(report.summary(), wanted);
        assert_eq!(report.json()["violations"], 3);
    }
}
