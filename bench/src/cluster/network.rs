//! Where the nodes are, and what can happen to their links.
//!
//! With namespaces each node has a network of its own, with one link to a bridge; clients are at the bridge. A cut takes
//! the link off the bridge: no end is told, packets are simply not there any more. A cut between two nodes alone gives
//! each a wrong hardware address of the other. A slow link passes so many bits a second and keeps the rest waiting: that the
//! kernel's token bucket does everywhere; a late or lossy one leads through this program (`relay`). On loopback there are no links to cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::relay::{Passed, Quality, Relay};

/// A node's place: its number among all nodes, from 0.
pub type Place = usize;

const BRIDGE: &str = "perennial";
const BRIDGE_ADDRESS: &str = "02:00:00:00:00:01";
/// No interface has this hardware address.
const NOWHERE: &str = "02:00:00:00:00:ff";
/// Ports of a node on loopback: SQL, http, rpc.
const PORTS: u16 = 3;

/// How the nodes of a cluster reach each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Ports from this one on.
    Loopback(u16),
    /// Addresses of their own.
    Namespaces,
}

/// Where a node listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// MySQL.
    pub sql: SocketAddr,
    /// Metrics.
    pub http: SocketAddr,
    /// Frames and calls.
    pub rpc: SocketAddr,
}

impl Network {
    /// Makes the bridge, if there is one.
    pub fn prepare(self) -> Result<()> {
        if self == Network::Namespaces {
            // Otherwise it takes an address of one of its links, and another one when that is cut: nodes do not find it then.
            ip(&["link", "add", BRIDGE, "address", BRIDGE_ADDRESS, "type", "bridge"])?;
            ip(&["address", "add", "10.77.0.1/24", "dev", BRIDGE])?;
            ip(&["link", "set", BRIDGE, "up"])?;
        }
        Ok(())
    }

    /// Makes a node's network and its link.
    pub fn add(self, place: Place) -> Result<()> {
        if !self.has_links() {
            return Ok(());
        }
        let (name, link, address) = (name(place), link(place), format!("{}/24", host(place)));
        ip(&["netns", "add", &name])?;
        ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name])?;
        ip(&["link", "set", &link, "master", BRIDGE, "up"])?;
        ip(&["-n", &name, "address", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &name, "link", "set", "eth0", "up"])?;
        ip(&["-n", &name, "link", "set", "lo", "up"])
    }

    /// Where a node listens.
    pub fn addresses(self, place: Place) -> Addresses {
        let at = |offset: u16| match self {
            Network::Loopback(base) => SocketAddr::from((Ipv4Addr::LOCALHOST, base + PORTS * place as u16 + offset)),
            Network::Namespaces => SocketAddr::from((host(place), [3306, 8080, 7000][usize::from(offset)])),
        };
        Addresses { sql: at(0), http: at(1), rpc: at(2) }
    }

    /// What a node's command line begins with. On loopback its process ends with this one.
    pub fn launcher(self, place: Place) -> Command {
        match self {
            Network::Loopback(_) => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL"]);
                command
            }
            Network::Namespaces => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{}", name(place)));
                command
            }
        }
    }

    /// Whether links can be cut and made slow.
    pub fn has_links(self) -> bool {
        self == Network::Namespaces
    }

    /// Nothing reaches the node any more, and nothing from it reaches anybody.
    pub fn cut(self, place: Place) -> Result<()> {
        self.needs_links()?;
        ip(&["link", "set", &link(place), "nomaster"])
    }

    /// Undoes `cut`.
    pub fn mend(self, place: Place) -> Result<()> {
        self.needs_links()?;
        ip(&["link", "set", &link(place), "master", BRIDGE])
    }

    /// Nothing from the first node reaches the second one.
    pub fn cut_way(self, from: Place, to: Place) -> Result<()> {
        self.needs_links()?;
        let to = host(to).to_string();
        ip(&["-n", &name(from), "neigh", "replace", &to, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent"])
    }

    /// Undoes `cut_way`.
    pub fn mend_way(self, from: Place, to: Place) -> Result<()> {
        self.needs_links()?;
        ip(&["-n", &name(from), "neigh", "del", &host(to).to_string(), "dev", "eth0"])
    }

    /// What the node sends and is sent passes at so many kilobits a second, in each direction.
    pub fn slow(self, place: Place, kilobits: u32) -> Result<()> {
        self.needs_links()?;
        let rate = format!("{kilobits}kbit");
        shape(place, "replace", &["tbf", "rate", &rate, "burst", "16kb", "latency", "300ms"])
    }

    /// Undoes `slow`.
    pub fn hasten(self, place: Place) -> Result<()> {
        self.needs_links()?;
        shape(place, "del", &[])
    }

    /// The node's link is late or loses frames, in both directions, until `repair`.
    pub fn degrade(self, place: Place, quality: Quality, seed: u64) -> Result<Relay> {
        self.needs_links()?;
        let (own, near, far) = (link(place), format!("near{place}"), format!("far{place}"));
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far])?;
        ip(&["link", "set", &far, "master", BRIDGE, "up"])?;
        // This system is at the bridge, and says nothing at the ends that the relay reads.
        ip(&["link", "set", &near, "arp", "off", "up"])?;
        ip(&["link", "set", &own, "nomaster", "arp", "off"])?;
        Relay::between([&own, &near], quality, seed)
    }

    /// Undoes `degrade`.
    pub fn repair(self, place: Place, relay: Relay) -> Result<Passed> {
        let passed = relay.stop();
        ip(&["link", "del", &format!("near{place}")])?;
        ip(&["link", "set", &link(place), "arp", "on", "master", BRIDGE])?;
        Ok(passed)
    }

    fn needs_links(self) -> Result<()> {
        ensure!(self.has_links(), "on loopback there are no links: see bench/src/cluster/sandbox.rs");
        Ok(())
    }
}

/// Changes the queue at both ends of a node's link.
fn shape(place: Place, verb: &str, queue: &[&str]) -> Result<()> {
    let mut own = Command::new("nsenter");
    own.arg(format!("--net=/run/netns/{}", name(place))).arg("tc");
    for (mut command, device) in [(own, "eth0".to_string()), (Command::new("tc"), link(place))] {
        run(command.args(["qdisc", verb, "dev", &device, "root"]).args(queue))?;
    }
    Ok(())
}

fn name(place: Place) -> String {
    format!("node{place}")
}

fn link(place: Place) -> String {
    format!("link{place}")
}

fn host(place: Place) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + place as u8)
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_have_addresses_of_their_own() {
        for network in [Network::Loopback(14_000), Network::Namespaces] {
            let mut all: Vec<SocketAddr> = (0..7)
                .map(|place| network.addresses(place))
                .flat_map(|addresses| [addresses.sql, addresses.http, addresses.rpc])
                .collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), 21);
        }
    }

    #[test]
    fn a_link_that_is_not_there_is_not_cut() {
        assert!(Network::Loopback(14_000).cut(0).unwrap_err().to_string().contains("no links"));
    }
}
