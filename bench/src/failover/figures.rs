//! What comes out of the trials: a table, and the same as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// One trial.
#[derive(Debug, Clone)]
pub struct Trial {
    /// Who was lost.
    pub node: String,
    /// The longest time without an acknowledged write.
    pub pause: Duration,
    /// In which partition.
    pub partition: i64,
    /// Whether all partitions took writes again before the trial was given up.
    pub went_on: bool,
    /// What clients were answered meanwhile, by number.
    pub errors: BTreeMap<String, u64>,
}

impl Trial {
    /// In one line.
    pub fn line(&self) -> String {
        let given_up = if self.went_on { "" } else { ", GIVEN UP" };
        let (node, partition) = (&self.node, self.partition);
        format!("{} ms ({node}, partition {partition}){given_up}, errors: {}", millis(self.pause), said(&self.errors))
    }
}

/// All trials with one kind of fault.
#[derive(Debug)]
pub struct Kind {
    /// As people call it.
    pub name: &'static str,
    /// What was aimed at.
    pub goal: &'static str,
    /// All of them.
    pub trials: Vec<Trial>,
}

impl Kind {
    fn pauses(&self) -> Vec<Duration> {
        let mut pauses: Vec<Duration> = self.trials.iter().map(|trial| trial.pause).collect();
        pauses.sort_unstable();
        pauses
    }

    fn errors(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (error, count) in self.trials.iter().flat_map(|trial| &trial.errors) {
            *all.entry(error.clone()).or_default() += count;
        }
        all
    }

    fn given_up(&self) -> usize {
        self.trials.iter().filter(|trial| !trial.went_on).count()
    }
}

/// The value below which this share of sorted ones lies: one of them.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

fn millis(time: Duration) -> u128 {
    time.as_millis()
}

fn said(errors: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = errors.iter().map(|(error, count)| format!("{error} x {count}")).collect();
    if each.is_empty() { "none".into() } else { each.join(", ") }
}

/// Milliseconds without an acknowledged write.
pub fn table(kinds: &[Kind]) -> String {
    let mut lines = vec![format!(
        "{:<22} {:>7} {:>8} {:>8} {:>8}  {:<26} errors that clients saw",
        "ms until writes go on", "trials", "median", "p99", "worst", "goal"
    )];
    for kind in kinds {
        let pauses = kind.pauses();
        let given_up = match kind.given_up() {
            0 => String::new(),
            count => format!("; {count} GIVEN UP"),
        };
        lines.push(format!(
            "{:<22} {:>7} {:>8} {:>8} {:>8}  {:<26} {}{given_up}",
            kind.name,
            pauses.len(),
            millis(quantile(&pauses, 0.5)),
            millis(quantile(&pauses, 0.99)),
            millis(quantile(&pauses, 1.0)),
            kind.goal,
            said(&kind.errors()),
        ));
    }
    lines.join("\n")
}

/// The same, with every trial.
pub fn json(kinds: &[Kind]) -> Value {
    let of = |kind: &Kind| {
        let pauses = kind.pauses();
        let trials = kind.trials.iter().map(|trial| {
            json!({ "node": trial.node, "partition": trial.partition, "ms": millis(trial.pause) as u64,
                    "went_on": trial.went_on, "errors": trial.errors })
        });
        json!({ "fault": kind.name, "goal": kind.goal, "median_ms": millis(quantile(&pauses, 0.5)) as u64,
                "p99_ms": millis(quantile(&pauses, 0.99)) as u64, "worst_ms": millis(quantile(&pauses, 1.0)) as u64,
                "errors": kind.errors(), "trials": trials.collect::<Vec<_>>() })
    };
    Value::Array(kinds.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let times: Vec<Duration> = (1..=50).map(Duration::from_millis).collect();
        let at = |share: f64| quantile(&times, share).as_millis();
        assert_eq!((at(0.5), at(0.99), at(1.0), at(0.0)), (25, 50, 50, 1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn the_table_says_what_was_given_up() {
        let trial = |pause: u64, went_on: bool| Trial {
            node: "leaf-0".into(),
            pause: Duration::from_millis(pause),
            partition: 3,
            went_on,
            errors: BTreeMap::from([("1213".into(), 2)]),
        };
        let kind = Kind { name: "SIGKILL of a leaf", goal: "", trials: vec![trial(200, true), trial(30_000, false)] };
        let text = table(&[kind]);
        assert!(text.contains("1213 x 4; 1 GIVEN UP"), "{text}");
        assert!(text.contains("30000"), "{text}");
    }
}
