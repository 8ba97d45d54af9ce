//! Which nodes a playground has, where their files are, and at which ports they listen.
//!
//! | port | region r from 0, leaf k from 0 |
//! |---|---|
//! | SQL, http, rpc of the aggregator | base + 100 r + 6, 7, 8 |
//! | rpc and QUIC, http of leaf k | base + 100 r + 10 + 2 k, 11 + 2 k |

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use transport::tls::create_ca;
use types::ClusterId;

use crate::cert::node_certificate;
use crate::config::{Cluster, Config, Listen, Role};

const FILE: &str = "layout.json";

/// All regions of a playground.
#[derive(Debug, Serialize, Deserialize)]
pub struct Layout {
    #[serde(skip)]
    dir: PathBuf,
    regions: Vec<Region>,
}

/// One region.
#[derive(Debug, Serialize, Deserialize)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Its aggregator.
    pub aggregator: Node,
    /// Its leaves.
    pub leaves: Vec<Node>,
}

/// One process. Paths are made absolute when the layout is read.
#[derive(Debug, Serialize, Deserialize)]
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
            for node in region.leaves.iter_mut().chain([&mut region.aggregator]) {
                node.dir = dir.join(&node.dir);
            }
        }
        Ok(layout)
    }

    /// Makes a new playground: certificates and configurations of all nodes.
    pub fn create(dir: &Path, regions: &[String], leaves: u16, partitions: u32, port_base: u16) -> Result<Layout> {
        let unique: std::collections::BTreeSet<&String> = regions.iter().collect();
        ensure!(unique.len() == regions.len() && !regions.is_empty(), "--regions names a region twice, or none");
        let last = u32::from(port_base) + 100 * regions.len() as u32;
        ensure!(last <= u32::from(u16::MAX), "--port-base {port_base} leaves no ports for {} regions", regions.len());
        let mut layout = Layout { dir: dir.to_path_buf(), regions: Vec::new() };
        for (index, name) in regions.iter().enumerate() {
            let base = port_base + 100 * index as u16;
            layout.regions.push(region(dir, name, index as u64 + 1, base, leaves, partitions)?);
        }
        let text = serde_json::to_string_pretty(&layout)?;
        fs::write(dir.join(FILE), text).with_context(|| format!("writing {}", dir.join(FILE).display()))?;
        Layout::load(dir)
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
        self.regions.iter().flat_map(|region| [&region.aggregator].into_iter().chain(&region.leaves))
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes().find(|node| node.name == name).ok_or_else(|| super::unknown(name, self))
    }
}

fn region(dir: &Path, name: &str, cluster: u64, base: u16, leaves: u16, partitions: u32) -> Result<Region> {
    let authority = create_ca(ClusterId(cluster))?;
    authority.save(&dir.join(format!("{name}-ca")))?;
    let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let aggregator_rpc = address(base + 8);
    let make = |number: u64, node: Node, role: Role| -> Result<Node> {
        let home = dir.join(&node.dir);
        node_certificate(
            &authority,
            cluster,
            number,
            &["localhost".into(), "127.0.0.1".into()],
            &home.join("certificates"),
        )?;
        let leaf = role == Role::Leaf;
        let config = Config {
            name: node.name.clone(),
            roles: vec![role],
            data_dir: "data".into(),
            listen: Listen {
                rpc: node.rpc.parse()?,
                http: node.http.parse()?,
                sql: node.sql.as_ref().map(|sql| sql.parse()).transpose()?,
            },
            cluster: Cluster {
                id: cluster,
                node: number,
                certificates: "certificates".into(),
                aggregators: if leaf { vec![aggregator_rpc] } else { vec![] },
                root_password_file: None,
                partitions: Some(partitions),
            },
            replication: Default::default(),
            log: Default::default(),
            state: Default::default(),
            mysql: Default::default(),
        };
        let path = home.join("config.toml");
        fs::write(&path, toml::to_string(&config)?).with_context(|| format!("writing {}", path.display()))?;
        Ok(node)
    };
    let node = |suffix: String, rpc: u16, http: u16, sql: Option<u16>| Node {
        name: format!("{name}-{suffix}"),
        dir: format!("{name}-{suffix}").into(),
        rpc: address(rpc).to_string(),
        http: address(http).to_string(),
        sql: sql.map(|port| address(port).to_string()),
    };
    let aggregator = make(1, node("aggregator-0".into(), base + 8, base + 7, Some(base + 6)), Role::Aggregator)?;
    let leaves = (0..leaves).map(|k| {
        let port = base + 10 + 2 * k;
        make(u64::from(k) + 2, node(format!("leaf-{k}"), port, port + 1, None), Role::Leaf)
    });
    Ok(Region { name: name.into(), aggregator, leaves: leaves.collect::<Result<_>>()? })
}
