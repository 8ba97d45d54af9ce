//! Which nodes a playground has, where their files are, and at which ports they listen.
//!
//! | port | region r from 0, aggregator j from 0, leaf k from 0 |
//! |---|---|
//! | SQL, http, rpc of aggregator 0 | base + 100 r + 6, 7, 8 |
//! | SQL, http, rpc of aggregator j, from 1 | base + 100 r + 50 + 3 j, 51 + 3 j, 52 + 3 j |
//! | rpc and QUIC, http of leaf k | base + 100 r + 10 + 2 k, 11 + 2 k |

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use transport::tls::{Authority, create_ca};
use types::ClusterId;

use crate::cert::node_certificate;
use crate::config::{Cluster, Config, Listen, Role};

const FILE: &str = "layout.json";

/// How many aggregators and leaves the ports of a region have room for.
pub const AGGREGATORS_MAX: u16 = 16;
/// See [`AGGREGATORS_MAX`].
pub const LEAVES_MAX: u16 = 20;

/// All regions of a playground.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layout {
    #[serde(skip)]
    dir: PathBuf,
    port_base: u16,
    partitions: u32,
    #[serde(default)]
    redundancy: Option<u8>,
    regions: Vec<Region>,
}

/// One region.
#[derive(Debug, Serialize, Deserialize)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Its aggregators; the first one has founded it.
    pub aggregators: Vec<Node>,
    /// Its leaves.
    pub leaves: Vec<Node>,
}

/// One process. Paths are made absolute when the layout is read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Unique over all regions.
    pub name: String,
    /// Where its files are, relative to the playground's directory on disk.
    pub dir: PathBuf,
    /// `host:port` of frames and calls.
    pub rpc: String,
    /// `host:port` of metrics.
    pub http: String,
    /// `host:port` of MySQL; aggregators alone.
    pub sql: Option<String>,
}

impl Node {
    /// Its configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// What it prints.
    pub fn log(&self) -> PathBuf {
        self.dir.join("output.log")
    }
}

/// How many of what a new playground has.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// Aggregators of each region.
    pub aggregators: u16,
    /// Leaves of each region.
    pub leaves: u16,
    /// Partitions of a database that is created without PARTITIONS.
    pub partitions: u32,
    /// Copies of each partition of a database that is created without redundancy.
    pub redundancy: Option<u8>,
}

impl Layout {
    /// Whether the directory holds a playground.
    pub fn exists(dir: &Path) -> bool {
        dir.join(FILE).exists()
    }

    /// Reads the layout of an existing playground.
    pub fn load(dir: &Path) -> Result<Layout> {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("{} is no playground", dir.display()))?;
        let mut layout: Layout =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
        layout.dir = dir.to_path_buf();
        for region in &mut layout.regions {
            for node in region.leaves.iter_mut().chain(&mut region.aggregators) {
                node.dir = dir.join(&node.dir);
            }
        }
        Ok(layout)
    }

    /// Makes a new playground: certificates and configurations of all nodes.
    pub fn create(dir: &Path, regions: &[String], counts: Counts, port_base: u16) -> Result<Layout> {
        let unique: std::collections::BTreeSet<&String> = regions.iter().collect();
        ensure!(unique.len() == regions.len() && !regions.is_empty(), "--regions names a region twice, or none");
        let last = u32::from(port_base) + 100 * regions.len() as u32;
        ensure!(last <= u32::from(u16::MAX), "--port-base {port_base} leaves no ports for {} regions", regions.len());
        let Counts { partitions, redundancy, leaves, .. } = counts;
        let copies = redundancy.unwrap_or(1);
        ensure!(u16::from(copies) <= leaves, "--redundancy {copies} needs as many leaves, --leaves is {leaves}");
        let mut layout = Layout { dir: dir.to_path_buf(), port_base, partitions, redundancy, regions: Vec::new() };
        for (index, name) in regions.iter().enumerate() {
            create_ca(ClusterId(index as u64 + 1))?.save(&dir.join(format!("{name}-ca")))?;
            layout.regions.push(Region { name: name.clone(), aggregators: vec![], leaves: vec![] });
            // All of them are in every configuration: they found the region together.
            let founders: Vec<SocketAddr> = (0..counts.aggregators).map(|j| layout.rpc_of(index, j)).collect();
            layout.add(index, Role::Aggregator, &founders)?;
            (0..counts.leaves).try_for_each(|_| layout.add(index, Role::Leaf, &founders).map(drop))?;
            (1..counts.aggregators).try_for_each(|_| layout.add(index, Role::Aggregator, &founders).map(drop))?;
        }
        layout.save()?;
        Layout::load(dir)
    }

    /// One node more, in a region that exists; it finds the others through those that are there.
    pub fn extend(&mut self, region: &str, role: Role) -> Result<Node> {
        let index = self.regions.iter().position(|known| known.name == region);
        let index = index.with_context(|| format!("the playground has no region {region}"))?;
        let there = self.regions[index].aggregators.len() as u16;
        let aggregators: Vec<SocketAddr> = (0..there).map(|j| self.rpc_of(index, j)).collect();
        let node = self.add(index, role, &aggregators)?;
        self.save()?;
        Ok(Node { dir: self.dir.join(&node.dir), ..node })
    }

    fn save(&self) -> Result<()> {
        let relative = |node: &Node| {
            let dir = node.dir.strip_prefix(&self.dir).unwrap_or(&node.dir).to_path_buf();
            Node { dir, ..node.clone() }
        };
        let regions = self.regions.iter().map(|region| Region {
            name: region.name.clone(),
            aggregators: region.aggregators.iter().map(relative).collect(),
            leaves: region.leaves.iter().map(relative).collect(),
        });
        let Layout { port_base, partitions, redundancy, .. } = *self;
        let saved = Layout { dir: PathBuf::new(), port_base, partitions, redundancy, regions: regions.collect() };
        let (path, next) = (self.dir.join(FILE), self.dir.join("layout.json.tmp"));
        fs::write(&next, serde_json::to_string_pretty(&saved)?)
            .with_context(|| format!("writing {}", next.display()))?;
        fs::rename(&next, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// The playground's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its regions.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// All nodes, aggregators first in each region.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.regions.iter().flat_map(|region| region.aggregators.iter().chain(&region.leaves))
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes().find(|node| node.name == name).ok_or_else(|| super::unknown(name, self))
    }

    fn address(&self, region: usize, port: u16) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port_base + 100 * region as u16 + port))
    }

    fn rpc_of(&self, region: usize, aggregator: u16) -> SocketAddr {
        self.address(region, if aggregator == 0 { 8 } else { 52 + 3 * aggregator })
    }

    /// Makes a node's files, and lists it.
    fn add(&mut self, index: usize, role: Role, aggregators: &[SocketAddr]) -> Result<Node> {
        let (region, name) = (&self.regions[index], &self.regions[index].name);
        let number = (region.aggregators.len() + region.leaves.len()) as u64 + 1;
        let (suffix, rpc, http, sql) = match role {
            Role::Aggregator => {
                let j = region.aggregators.len() as u16;
                ensure!(j < AGGREGATORS_MAX, "a region of a playground has {AGGREGATORS_MAX} aggregators at the most");
                let (sql, http) = if j == 0 { (6, 7) } else { (50 + 3 * j, 51 + 3 * j) };
                (format!("aggregator-{j}"), self.rpc_of(index, j), http, Some(self.address(index, sql)))
            }
            Role::Leaf => {
                let k = region.leaves.len() as u16;
                ensure!(k < LEAVES_MAX, "a region of a playground has {LEAVES_MAX} leaves at the most");
                (format!("leaf-{k}"), self.address(index, 10 + 2 * k), 11 + 2 * k, None)
            }
        };
        let node = Node {
            name: format!("{name}-{suffix}"),
            dir: format!("{name}-{suffix}").into(),
            rpc: rpc.to_string(),
            http: self.address(index, http).to_string(),
            sql: sql.map(|sql| sql.to_string()),
        };
        let authority = Authority::load(&self.dir.join(format!("{name}-ca")))?;
        let (home, cluster) = (self.dir.join(&node.dir), index as u64 + 1);
        let hosts = ["localhost".into(), "127.0.0.1".into()];
        node_certificate(&authority, cluster, number, &hosts, &home.join("certificates"))?;
        let config = Config {
            name: node.name.clone(),
            roles: vec![role],
            data_dir: "data".into(),
            listen: Listen { rpc, http: self.address(index, http), sql },
            cluster: Cluster {
                id: cluster,
                region: Some(name.clone()),
                node: number,
                certificates: "certificates".into(),
                aggregators: aggregators.to_vec(),
                root_password_file: None,
                partitions: Some(self.partitions),
                redundancy: self.redundancy,
                moves_at_once: None,
            },
            replication: Default::default(),
            log: Default::default(),
            state: Default::default(),
            mysql: Default::default(),
        };
        let path = home.join("config.toml");
        fs::write(&path, toml::to_string(&config)?).with_context(|| format!("writing {}", path.display()))?;
        let region = &mut self.regions[index];
        let list = if role == Role::Leaf { &mut region.leaves } else { &mut region.aggregators };
        list.push(node.clone());
        Ok(node)
    }
}
