//! Starting, watching and stopping the processes of a playground.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::layout::{Node, Region};

/// A node that does not listen after this has failed.
const START_TIME: Duration = Duration::from_secs(60);
/// A node that does not end after this is killed.
const STOP_TIME: Duration = Duration::from_secs(20);
/// How long the sockets of a process that has ended may still be there.
const GONE_TIME: Duration = Duration::from_secs(5);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A process that this one has started.
pub struct Started {
    child: Child,
}

impl Started {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, once it has.
    pub fn exited(&mut self) -> Result<Option<String>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| match status.signal() {
            Some(signal) => format!("signal {signal}"),
            None => format!("exit code {}", status.code().unwrap_or_default()),
        }))
    }
}

/// Starts a node's process. It lives on when this process ends.
pub fn start(node: &Node) -> Result<Started> {
    // A process that was killed keeps its sockets until the last of its threads has ended.
    let begun = Instant::now();
    while addresses(node).any(connects) {
        if begun.elapsed() > GONE_TIME {
            bail!("something else listens at the addresses of {}: see its config.toml", node.name);
        }
        std::thread::sleep(LOOK);
    }
    let binary = std::env::current_exe().context("finding the perennial binary")?;
    let log = OpenOptions::new().create(true).append(true).open(node.log())?;
    let mut command = Command::new(binary);
    command.arg("start").arg("--config").arg(node.config());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // A group of its own: Ctrl-C in the terminal reaches the supervisor, which stops the nodes in order.
    command.process_group(0);
    let child = command.spawn().with_context(|| format!("starting {}", node.name))?;
    Ok(Started { child })
}

/// Waits until a process that was just started listens.
pub fn wait_listening(node: &Node, started: &mut Started) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < START_TIME {
        if let Some(how) = started.exited()? {
            bail!("{} ended at once ({how}); its last words:\n{}", node.name, last_words(node));
        }
        if listens(node) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    bail!("{} does not listen after {START_TIME:?}; its last words:\n{}", node.name, last_words(node))
}

/// Waits until a region's leaves have reported to its master: a database that is created before finds none. Not for
/// those that were removed, nor for who has been interrupted.
pub fn wait_joined(region: &Region, interrupted: &AtomicBool) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < START_TIME && !interrupted.load(Ordering::Relaxed) {
        if region.aggregators.iter().any(|node| leaves_told_of(node).is_some_and(|told| told >= region.leaves.len())) {
            return Ok(());
        }
        std::thread::sleep(LOOK);
    }
    bail!("the leaves of {} have not reported after {START_TIME:?}: see their output.log", region.name)
}

/// How many leaves the aggregator's figures say it has heard of late, or has removed.
fn leaves_told_of(aggregator: &Node) -> Option<usize> {
    let mut stream = TcpStream::connect(&aggregator.http).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let figure = |name: &str| -> Option<usize> {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    };
    Some(figure("perennial_leaves_up")? + figure("perennial_leaves_removed")?)
}

fn listens(node: &Node) -> bool {
    addresses(node).all(connects)
}

fn addresses(node: &Node) -> impl Iterator<Item = &str> {
    [Some(node.rpc.as_str()), node.sql.as_deref()].into_iter().flatten()
}

fn connects(address: &str) -> bool {
    address.parse().is_ok_and(|to| TcpStream::connect_timeout(&to, LOOK * 10).is_ok())
}

fn last_words(node: &Node) -> String {
    let text = fs::read_to_string(node.log()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// Whether this number is a living process of the node.
pub fn is_process_of(node: &Node, pid: u32) -> bool {
    is_process_with(pid, node.config().as_os_str().as_encoded_bytes())
}

fn is_process_with(pid: u32, wanted: &[u8]) -> bool {
    let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    // Whoever started it goes on before the kernel has laid its arguments. Threads of the kernel have no program either.
    let begins = || command.is_empty() && fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    // Nor before the kernel has parted the child from the memory of whoever started it: then it shows those arguments.
    let is_forked =
        || parent(pid) == Some(std::process::id()) && fs::read("/proc/self/cmdline").is_ok_and(|own| own == command);
    let mentions = || command.split(|byte| *byte == 0).any(|argument| argument == wanted);
    (mentions() || begins() || is_forked()) && !is_zombie(pid)
}

fn is_zombie(pid: u32) -> bool {
    behind_name(pid).first().is_some_and(|state| state == "Z")
}

fn parent(pid: u32) -> Option<u32> {
    behind_name(pid).get(1)?.parse().ok()
}

/// What the kernel says of a process behind its name: state, parent, …
fn behind_name(pid: u32) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(str::to_string).collect()
}

/// Asks a process to end; wakes it if it is suspended.
pub fn terminate(pid: u32) {
    signal(pid, libc::SIGTERM);
    signal(pid, libc::SIGCONT);
}

/// Ends a node's process and waits for that.
pub fn stop(node: &Node, pid: u32) -> Result<()> {
    terminate(pid);
    let begun = Instant::now();
    let mut killed = false;
    while is_process_of(node, pid) {
        if begun.elapsed() > STOP_TIME && !std::mem::replace(&mut killed, true) {
            println!("{} does not end, it is killed", node.name);
            signal(pid, libc::SIGKILL);
        }
        if begun.elapsed() > STOP_TIME * 2 {
            bail!("process {pid} of {} cannot be ended", node.name);
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

fn signal(pid: u32, signal: i32) {
    // SAFETY: kill has no effect on this process's memory; the number was checked to be a process of this playground.
    unsafe { libc::kill(pid as i32, signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The supervisor looks at every process as soon as its number is noted. One that it took for dead was an orphan.
    #[test]
    fn a_process_that_begins_is_alive() {
        for round in 0..200 {
            let wanted = "1000";
            let mut child = Command::new("sleep").arg(wanted).process_group(0).spawn().unwrap();
            assert!(is_process_with(child.id(), wanted.as_bytes()), "round {round}");
            child.kill().unwrap();
            // A zombie until it is waited for.
            while !is_zombie(child.id()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(!is_process_with(child.id(), wanted.as_bytes()), "round {round}, killed");
            child.wait().unwrap();
            assert!(!is_process_with(child.id(), wanted.as_bytes()), "round {round}, gone");
        }
    }
}
