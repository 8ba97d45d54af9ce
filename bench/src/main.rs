//! `perennial-bench`: measures a machine and the parts of Perennial on it, and prints what a person can compare.
//!
//! - `log`: the node log beside the raw disk (`log_report`).
//! - `demo`: lose a region and take it back (`demo`), over the MySQL protocol (`client`).
//! - `failover`: how long writes pause when a node is lost (`failover`), on a cluster that can be made to fail (`cluster`).
//! - `restart`: how long a large leaf takes to serve again (`restart`).
//! - `rebalance`: what clients notice while data moves to a leaf that was added (`rebalance`).
//! - `drill`: random faults, and clients who remember what they were told (`drill`), on such a cluster.
#![warn(missing_docs)]
#![deny(unsafe_code)]

mod bulk;
mod client;
mod cluster;
mod demo;
mod drill;
mod failover;
mod interrupt;
mod log_report;
mod raw;
mod rebalance;
mod restart;
mod writers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Benchmarks of Perennial.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    report: Report,
}

#[derive(Subcommand)]
enum Report {
    /// Durable appends per second of the node log beside raw write+fdatasync on the same file system.
    Log(log_report::Options),
    /// Lose a region and take it back: two regions of real processes, TPC-H, and a client that keeps writing.
    Demo(demo::Options),
    /// How long writes pause when a node is lost: a cluster of real processes, and clients that keep writing.
    Failover(failover::Options),
    /// Random faults on a cluster of real processes; nothing acknowledged may be lost, nothing done twice.
    Drill(drill::Options),
    /// What clients notice while data moves to a leaf that was added.
    Rebalance(rebalance::Options),
    /// How long a large leaf takes to serve again, after a clean stop and after SIGKILL.
    Restart(restart::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().report {
        Report::Log(options) => log_report::run(&options),
        Report::Demo(options) => demo::run(&options),
        Report::Failover(options) => failover::run(&options),
        Report::Drill(options) => drill::run(&options),
        Report::Rebalance(options) => rebalance::run(&options),
        Report::Restart(options) => restart::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perennial-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
