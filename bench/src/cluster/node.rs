//! One node: its files, and its process, as long as it has one.

use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::network::{Addresses, Network, Place};

/// What the daemon may take to end when it is asked to.
const STOP_TIME: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Speaks MySQL, votes in the catalog.
    Aggregator,
    /// Holds partitions.
    Leaf,
}

impl Role {
    /// As configurations have it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Aggregator => "aggregator",
            Role::Leaf => "leaf",
        }
    }
}

/// One node of a cluster.
pub struct Node {
    /// Its place in the network, and among the nodes.
    pub place: Place,
    /// As its certificate says.
    pub number: u64,
    /// What it does.
    pub role: Role,
    /// `leaf-0`.
    pub name: String,
    /// Its files.
    pub dir: PathBuf,
    /// Where it listens.
    pub addresses: Addresses,
    network: Network,
    binary: PathBuf,
    child: Option<Child>,
}

impl Node {
    /// A node without a process, whose files are there already.
    pub fn new(place: Place, role: Role, name: String, dir: &Path, network: Network, binary: &Path) -> Node {
        let (dir, addresses) = (dir.join(&name), network.addresses(place));
        let number = place as u64 + 1;
        Node { place, number, role, name, dir, addresses, network, binary: binary.into(), child: None }
    }

    /// Where its data is.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Starts its process; does not wait for anything.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(self.log())?;
        let mut command = self.network.launcher(self.place);
        command.arg(&self.binary).args(["start", "--config"]).arg(self.dir.join("config.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.child = Some(command.spawn().with_context(|| format!("starting {}", self.name))?);
        Ok(())
    }

    /// Whether it has a process, which may be suspended.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL, and the end of the process.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and the end of the process.
    pub fn stop(&mut self) -> Result<()> {
        self.signal("TERM")?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > STOP_TIME {
                child.kill()?;
                child.wait()?;
                bail!("{} does not end within {} s of SIGTERM", self.name, STOP_TIME.as_secs());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Sends its process a signal.
    pub fn signal(&self, name: &str) -> Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status()?;
        ensure!(sent.success(), "SIG{name} could not be sent to {} ({sent})", self.name);
        Ok(())
    }

    /// How its process has ended by itself, if it has.
    pub fn ended(&mut self) -> Result<Option<String>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        self.child = None;
        let how = match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit code {}", status.code().unwrap_or_default()),
        };
        Ok(Some(format!("{} has ended by itself ({how}); its last words:\n{}", self.name, self.last_words())))
    }

    /// What it prints.
    pub fn log(&self) -> PathBuf {
        self.dir.join("output.log")
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.kill();
    }
}
