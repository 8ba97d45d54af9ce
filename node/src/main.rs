//! The `perennial` command: a node of a cluster, and what an operator needs beside it.

mod cert;
mod clock;
mod config;
mod data_dir;
mod front;
mod http;
mod join;
mod leaf;
mod playground;
mod power;
mod process;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// A distributed SQL database cluster that comes back from disaster.
#[derive(Parser)]
#[command(name = "perennial", version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one node.
    Start {
        /// Its configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Read a configuration file and say what is wrong with it.
    CheckConfig {
        /// The file.
        file: PathBuf,
    },
    /// Make the certificates of a cluster.
    Cert(cert::Arguments),
    /// Run two regions on this machine, to try things out.
    Playground(playground::Arguments),
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Start { config } => start(&config),
        Command::CheckConfig { file } => check(&file),
        Command::Cert(arguments) => cert::run(&arguments),
        Command::Playground(arguments) => playground::run(arguments),
        Command::Version => {
            println!("perennial {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("perennial: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(path: &std::path::Path) -> Result<()> {
    let filter = EnvFilter::try_from_env("PERENNIAL_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    let (config, unknown) = Config::load(path)?;
    for key in unknown {
        tracing::warn!(key, "the configuration has a key that this version does not know");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime =
        builder.enable_all().thread_stack_size(sql::parse::STACK_BYTES).build().context("starting the runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        process::run(config, stop).await
    })
}

fn check(path: &std::path::Path) -> Result<()> {
    let (config, unknown) = Config::load(path)?;
    anyhow::ensure!(unknown.is_empty(), "{}: these keys mean nothing: {}", path.display(), unknown.join(", "));
    println!("{}: {} is in order", path.display(), config.name);
    Ok(())
}
