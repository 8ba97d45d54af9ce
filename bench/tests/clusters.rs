//! The drill and the failover figures in short, on real processes: what they start works, and they find nothing.

use std::process::{Command, Output};

/// Runs the benchmark; beside its binary lies the daemon, for the whole workspace is built.
fn bench(arguments: &[&str]) -> Output {
    // Where there are no namespaces: ports that other tests do not use.
    let port = (24_000 + std::process::id() % 400 * 20).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_perennial-bench"));
    command.args(arguments).args(["--port-base", &port]).output().expect("the benchmark starts")
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_short_drill_finds_nothing() {
    let output = bench(&["drill", "--minutes", "0.4", "--seed", "4"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    let last = text.lines().rev().find(|line| line.starts_with("drill: seed 4")).unwrap_or_default();
    assert!(last.ends_with("0 lost, 0 duplicated, 0 violations"), "{text}");
}

#[test]
fn clients_bear_lines_that_are_late_and_lossy() {
    let output = bench(&["drill", "--minutes", "0.3", "--seed", "5", "--faults", "late-link,lossy-link"]);
    let text = said(&output);
    if text.contains("without namespaces there is no") {
        assert!(text.contains("none of these faults is possible here"), "{text}");
        return;
    }
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.contains(" frames, ")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| !line.contains(": 0 frames")), "{text}");
    let last = text.lines().rev().find(|line| line.starts_with("drill: seed 5")).unwrap_or_default();
    assert!(last.ends_with("0 lost, 0 duplicated, 0 violations"), "{text}");
}

#[test]
fn writes_go_on_after_every_kind_of_loss() {
    let output = bench(&["failover", "--trials", "1", "--partitions", "6"]);
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for kind in ["SIGKILL of a leaf", "SIGSTOP of a leaf", "SIGKILL of the master"] {
        let line = text.lines().rev().find(|line| line.starts_with(kind)).unwrap_or_default();
        assert!(!line.is_empty() && !line.contains("GIVEN UP"), "{text}");
    }
}
