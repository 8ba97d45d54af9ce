//! `perennial-bench`: measures a machine and the parts of Perennial on it, and prints what a person can compare.
//!
//! - `log`: the node log beside the raw disk (`log_report`).
//! - `demo`: lose a region and take it back (`demo`), over the MySQL protocol (`client`).
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod client;
mod demo;
mod log_report;
mod raw;
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
}

fn main() -> ExitCode {
    let done = match Arguments::parse().report {
        Report::Log(options) => log_report::run(&options),
        Report::Demo(options) => demo::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perennial-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
