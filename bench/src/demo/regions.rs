//! Two regions on this machine: a `perennial playground` as a child process, and what a disaster does to it.
//!
//! The playground keeps `playground.json`, which names each node and its process. A region is lost by SIGKILL to all of its
//! processes at once; it comes back by `perennial playground start-node`, as a person would type it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Names and order of the regions.
pub const NAMES: [&str; 2] = ["east", "west"];
/// Leaves of each.
const LEAVES: u16 = 2;
/// What the playground may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

/// A side of the exchange. In the issue's words east is DB1 and west DB2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Region {
    /// Serves first, is lost, and comes back.
    East,
    /// Follows first, takes over, and follows again.
    West,
}

impl Region {
    /// As it is called on the command line and in `playground.json`.
    pub fn name(self) -> &'static str {
        NAMES[self as usize]
    }

    /// The other one.
    pub fn other(self) -> Region {
        match self {
            Region::East => Region::West,
            Region::West => Region::East,
        }
    }

    /// Reads a name.
    pub fn from_name(name: &str) -> Option<Region> {
        [Region::East, Region::West].into_iter().find(|region| region.name() == name)
    }
}

/// The playground. `end` stops every process, and removes the directory unless it is to be kept.
pub struct Regions {
    dir: PathBuf,
    binary: PathBuf,
    port_base: u16,
    keep: bool,
    supervisor: Mutex<Option<Child>>,
}

impl Regions {
    /// Starts both regions in a new directory and waits until they are ready.
    pub fn start(dir: &Path, port_base: u16, keep: bool) -> Result<Regions> {
        check_ports(port_base)?;
        let own = std::env::current_exe().context("finding this program")?;
        let binary = own.with_file_name("perennial");
        ensure!(binary.exists(), "{} is not there: `make binary` builds it", binary.display());
        if dir.exists() {
            let empty = fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))?.next().is_none();
            ensure!(empty, "{} is not empty: name a directory that is not there yet", dir.display());
        }
        fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
        let said = File::create(dir.join("playground.log")).context("making playground.log")?;
        let mut command = Command::new(&binary);
        command.args(["playground", "--regions", &NAMES.join(","), "--leaves", &LEAVES.to_string()]);
        command.args(["--port-base", &port_base.to_string(), "--dir"]).arg(dir);
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        // A group of its own: Ctrl-C reaches the demo alone, which then ends the playground in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let regions = Regions { dir: dir.into(), binary, port_base, keep, supervisor: Mutex::new(Some(child)) };
        match regions.wait("the playground is ready", || Ok(regions.json()["ready"] == true)) {
            Ok(()) => Ok(regions),
            Err(error) => {
                let log = fs::read_to_string(dir.join("playground.log")).unwrap_or_default();
                regions.end();
                Err(error.context(format!("the playground did not start; it said:\n{log}")))
            }
        }
    }

    /// Where clients connect.
    pub fn sql(&self, region: Region) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port_base + 100 * region as u16 + 6))
    }

    /// Names of a region's leaves.
    pub fn leaves(&self, region: Region) -> Vec<String> {
        (0..LEAVES).map(|leaf| format!("{}-leaf-{leaf}", region.name())).collect()
    }

    /// Names of all nodes of a region.
    pub fn nodes(&self, region: Region) -> Vec<String> {
        [vec![format!("{}-aggregator-0", region.name())], self.leaves(region)].concat()
    }

    /// Kills all processes of a region at once.
    pub fn kill(&self, region: Region) -> Result<()> {
        let nodes = self.nodes(region);
        let pids: Vec<u32> = nodes.iter().filter_map(|node| self.pid(node)).collect();
        ensure!(pids.len() == nodes.len(), "not all nodes of {} run", region.name());
        signal("KILL", &pids)?;
        self.wait("the playground notices the end of a region", || {
            Ok(nodes.iter().all(|node| self.json_pid(node).is_none()))
        })
    }

    /// Stops nodes in order, side by side.
    pub fn stop_nodes(&self, nodes: &[String]) -> Result<()> {
        self.each_node("stop-node", nodes)
    }

    /// Starts nodes, side by side, and waits until they listen.
    pub fn start_nodes(&self, nodes: &[String]) -> Result<()> {
        self.each_node("start-node", nodes)
    }

    /// The command that a person would type for a node.
    pub fn node_command(&self, verb: &str, node: &str) -> String {
        format!("perennial playground {verb} {node} --dir {}", self.dir.display())
    }

    /// Stops everything. Only the first call does something; a second one waits for it.
    pub fn end(&self) {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(mut child) = supervisor.take() else { return };
        let asked = signal("TERM", &[child.id()]);
        let begun = Instant::now();
        while asked.is_ok() && begun.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(LOOK);
        }
        let nodes = [Region::East, Region::West].into_iter().flat_map(|region| self.nodes(region));
        let left: Vec<u32> = nodes.filter_map(|node| self.pid(&node)).collect();
        if !left.is_empty() {
            eprintln!("demo: {} processes of the playground do not end, they are killed", left.len());
            let _ = signal("KILL", &left);
        }
        let _ = child.kill();
        let _ = child.wait();
        if self.keep {
            println!("demo: everything is kept in {}", self.dir.display());
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("demo: {} was not removed: {error}", self.dir.display());
        }
    }

    fn each_node(&self, verb: &str, nodes: &[String]) -> Result<()> {
        let mut children = Vec::new();
        for node in nodes {
            let mut command = Command::new(&self.binary);
            command.args(["playground", verb, node, "--dir"]).arg(&self.dir);
            command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
            children.push((node, command.spawn().with_context(|| format!("{verb} {node}"))?));
        }
        for (node, mut child) in children {
            let status = child.wait().with_context(|| format!("{verb} {node}"))?;
            ensure!(status.success(), "{} failed ({status})", self.node_command(verb, node));
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let text = fs::read_to_string(self.dir.join("playground.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn json_pid(&self, node: &str) -> Option<u32> {
        pid_in(&self.json(), node)
    }

    /// The process of a node, if that number is one of this playground: numbers are used again.
    fn pid(&self, node: &str) -> Option<u32> {
        let pid = self.json_pid(node)?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains(&*self.dir.to_string_lossy()).then_some(pid)
    }

    fn wait(&self, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
        let begun = Instant::now();
        while !holds()? {
            if begun.elapsed() > PATIENCE {
                bail!("it does not come to this within {} s: {what}", PATIENCE.as_secs());
            }
            let mut supervisor = self.supervisor.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let ended = match supervisor.as_mut() {
                Some(child) => child.try_wait()?,
                None => bail!("the demo is ending"),
            };
            drop(supervisor);
            if let Some(status) = ended {
                bail!("the playground has ended ({status})");
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// The process of a node, as `playground.json` has it.
fn pid_in(json: &Value, node: &str) -> Option<u32> {
    let regions = json["regions"].as_array()?;
    let nodes = regions.iter().flat_map(|region| [&region["aggregators"], &region["leaves"]]);
    let mut entries = nodes.filter_map(Value::as_array).flatten();
    let pid = entries.find(|entry| entry["name"] == node)?["pid"].as_u64()?;
    u32::try_from(pid).ok()
}

/// Sends a signal to processes, all at once. The shell's own `kill` is on every machine.
fn signal(name: &str, pids: &[u32]) -> Result<()> {
    let numbers: Vec<String> = pids.iter().map(u32::to_string).collect();
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", numbers.join(" "))]).status();
    ensure!(status.context("running kill")?.success(), "kill -{name} {} failed", numbers.join(" "));
    Ok(())
}

/// The ports of a playground with this base: `perennial playground --help`.
fn ports(base: u16) -> Result<Vec<u16>> {
    let last = u32::from(base) + 100 + 10 + 2 * u32::from(LEAVES);
    ensure!(base > 0 && last <= u32::from(u16::MAX), "--port-base {base} leaves no ports for two regions");
    let region = |number: u16| {
        let base = base + 100 * number;
        (base + 6..=base + 8).chain(base + 10..base + 10 + 2 * LEAVES)
    };
    Ok((0..NAMES.len() as u16).flat_map(region).collect())
}

fn check_ports(base: u16) -> Result<()> {
    for port in ports(base)? {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        ensure!(
            free,
            "port {port} is taken, perhaps by another playground: end it, or choose other ports with --port-base"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_node() {
        let text = r#"{"ready": true, "regions": [
            {"name": "east", "aggregators": [{"name": "east-aggregator-0", "pid": 7}], "leaves": [{"name": "east-leaf-0", "pid": null}]},
            {"name": "west", "aggregators": [], "leaves": [{"name": "west-leaf-1", "pid": 9}]}]}"#;
        let json = serde_json::from_str(text).unwrap();
        assert_eq!(pid_in(&json, "east-aggregator-0"), Some(7));
        assert_eq!(pid_in(&json, "east-leaf-0"), None);
        assert_eq!(pid_in(&json, "west-leaf-1"), Some(9));
        assert_eq!(pid_in(&json, "west-leaf-2"), None);
        assert_eq!(pid_in(&Value::Null, "west-leaf-1"), None);
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = check_ports(held.local_addr().unwrap().port() - 6).unwrap_err().to_string();
        assert!(error.contains("is taken") || error.contains("leaves no ports"), "{error}");
    }

    #[test]
    fn every_port_of_both_regions_is_looked_at() {
        assert_eq!(
            ports(17300).unwrap(),
            [17306, 17307, 17308, 17310, 17311, 17312, 17313, 17406, 17407, 17408, 17410, 17411, 17412, 17413]
        );
        assert!(ports(65500).is_err());
        assert!(ports(0).is_err());
    }
}
