//! A cluster of real processes whose nodes and links can be made to fail.
//!
//! Where the system permits it every node has a network of its own (`sandbox`, `network`), so addresses are real and links
//! can be cut without anybody being told. It is a black box: certificates and configurations are made with the daemon's
//! own command (`files`), processes are started, suspended and killed (`node`), and everything else is asked by SQL (`ask`).

mod ask;
mod files;
mod network;
mod node;
mod relay;
mod sandbox;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use ask::connect;
pub use network::{Network, Place};
pub use node::{Node, Role};
pub use relay::{Quality, Relay};

/// What a cluster may take to start, and to be whole again.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(20);

/// Where and how clusters are started.
#[derive(clap::Args, Clone)]
pub struct Site {
    /// Where all data goes; must not exist yet, or be empty. Default: a new one among the temporary directories.
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
    /// Keep the directory.
    #[arg(long)]
    keep: bool,
    /// All nodes on loopback addresses, without namespaces: links are not cut then.
    #[arg(long)]
    loopback: bool,
    /// On loopback: ports from here on.
    #[arg(long, default_value_t = 15300)]
    port_base: u16,
    /// The daemon. Default: `perennial` beside this program.
    #[arg(long, value_name = "FILE")]
    perennial: Option<PathBuf>,
}

impl Site {
    /// Enters namespaces of this program's own, if that is wanted and permitted. To be called first: the program may be
    /// started again by it.
    pub fn enter(&self) -> Result<Network> {
        let apart = !self.loopback && sandbox::enter()?;
        // All processes end with this one, in either way.
        crate::interrupt::on_interrupt(|| {})?;
        let network = if apart { Network::Namespaces } else { Network::Loopback(self.port_base) };
        network.prepare().map(|()| network)
    }
}

/// What a cluster consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many.
    pub aggregators: usize,
    /// How many.
    pub leaves: usize,
    /// Leaves that are started later, by `start_late`.
    pub late: usize,
    /// Sections of every configuration beside those that a node needs.
    pub settings: String,
    /// The last leaf has a disk of its own, of so many bytes, where that is permitted.
    pub small_disk: Option<u64>,
}

/// A cluster that runs. Dropping it ends every process.
pub struct Cluster {
    dir: PathBuf,
    keep: bool,
    /// Where a disk of its own is mounted.
    mounted: Option<PathBuf>,
    /// How its nodes reach each other.
    pub network: Network,
    /// Aggregators first; each at its place.
    pub nodes: Vec<Node>,
    late: Vec<Node>,
    binary: PathBuf,
}

impl Cluster {
    /// Starts one in a new directory, and waits until all nodes belong to it.
    pub fn start(site: &Site, network: Network, plan: &Plan) -> Result<Cluster> {
        let dir = match &site.dir {
            Some(dir) => std::path::absolute(dir).with_context(|| format!("directory {}", dir.display()))?,
            None => std::env::temp_dir().join(format!("perennial-bench-{:x}", rand::random::<u64>())),
        };
        if dir.exists() {
            let empty = fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))?.next().is_none();
            ensure!(empty, "{} is not empty: name a directory that is not there yet", dir.display());
        }
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        let binary = match &site.perennial {
            Some(binary) => std::path::absolute(binary)?,
            None => std::env::current_exe().context("finding this program")?.with_file_name("perennial"),
        };
        ensure!(binary.exists(), "{} is not there: `make binary` builds it", binary.display());
        let roles = [(Role::Aggregator, plan.aggregators), (Role::Leaf, plan.leaves + plan.late)];
        let all = roles.into_iter().flat_map(|(role, count)| (0..count).map(move |number| (role, number)));
        let mut nodes = Vec::new();
        for (place, (role, number)) in all.enumerate() {
            network.add(place)?;
            let name = format!("{}-{number}", role.name());
            nodes.push(Node::new(place, role, name, &dir, network, &binary));
        }
        files::write(&dir, &binary, &nodes, &plan.settings)?;
        let late = nodes.split_off(plan.aggregators + plan.leaves);
        let mut cluster = Cluster { dir, keep: site.keep, mounted: None, network, nodes, late, binary };
        if let (Some(bytes), Some(last), true) = (plan.small_disk, cluster.nodes.last(), network.has_links()) {
            let data = last.data();
            sandbox::small_disk(&data, bytes)?;
            cluster.mounted = Some(data);
        }
        cluster.nodes.iter_mut().try_for_each(Node::start)?;
        let (aggregators, leaves) = (plan.aggregators as u64, plan.leaves as u64);
        cluster.wait("all nodes belong to the cluster", |cluster| {
            Ok(cluster.online("AGGREGATORS")? == aggregators && cluster.online("LEAVES")? == leaves)
        })?;
        Ok(cluster)
    }

    /// Starts a leaf that waited for it; `None` if there is none left. It does not belong to the region before it is added.
    pub fn start_late(&mut self) -> Result<Option<Place>> {
        if self.late.is_empty() {
            return Ok(None);
        }
        let mut node = self.late.remove(0);
        let place = node.place;
        node.start()?;
        self.nodes.push(node);
        Ok(Some(place))
    }

    /// A node without a process gets an empty disk, and a number that nobody has had.
    pub fn renew(&mut self, place: Place) -> Result<()> {
        let used = self.nodes.iter().chain(&self.late).map(|node| node.number).max();
        files::renew(&self.dir, &self.binary, &mut self.nodes[place], used.unwrap_or(0) + 1)
    }

    /// Where clients connect.
    pub fn sql(&self) -> Vec<SocketAddr> {
        self.of(Role::Aggregator).map(|node| node.addresses.sql).collect()
    }

    /// Nodes of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.role == role)
    }

    /// Its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its files stay, whatever was asked for.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Waits until something holds; what cannot be asked does not hold yet. A process that ends meanwhile is an error.
    pub fn wait(&mut self, what: &str, holds: impl Fn(&Cluster) -> Result<bool>) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let held = holds(self);
            if matches!(held, Ok(true)) {
                return Ok(begun.elapsed());
            }
            for node in &mut self.nodes {
                if let Some(how) = node.ended()? {
                    bail!("{how}");
                }
            }
            if begun.elapsed() > PATIENCE {
                let last = held.err().map_or(String::new(), |error| format!(": {error:#}"));
                bail!("it does not come to this within {} s: {what}{last}", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until all nodes are heard and every partition has so many copies in sync.
    pub fn wait_whole(&mut self, copies: usize) -> Result<Duration> {
        self.wait("every copy is in sync", |cluster| cluster.is_whole(copies))
    }

    /// Whether all nodes are heard and every partition has so many copies in sync.
    pub fn is_whole(&self, copies: usize) -> Result<bool> {
        let nodes = [Role::Aggregator, Role::Leaf].map(|role| self.of(role).count() as u64);
        let online = [self.online("AGGREGATORS")?, self.online("LEAVES")?];
        let partitions = self.copies()?;
        let primaries = partitions.iter().filter_map(|copy| copy.in_sync);
        Ok(online == nodes && primaries.clone().count() > 0 && primaries.min() >= Some(copies))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // Its files are removed below, if at all.
            let _ = node.kill();
        }
        if let (Some(mounted), false) = (&self.mounted, self.keep) {
            // What is still there after that is told below.
            let _ = std::process::Command::new("umount").arg(mounted).status();
        }
        if self.keep {
            println!("everything is kept in {}", self.dir.display());
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("perennial-bench: {} was not removed: {error}", self.dir.display());
        }
    }
}
