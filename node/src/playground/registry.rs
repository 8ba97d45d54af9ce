//! `playground.json`: which processes run. Written by rename after every start and stop, under a lock, so that any
//! number of commands may work on it at once.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::layout::{Layout, Node};
use super::nodes;

/// The file, in the playground's directory.
pub const FILE: &str = "playground.json";

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    ready: bool,
    regions: Vec<RegionEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RegionEntry {
    name: String,
    aggregators: Vec<AggregatorEntry>,
    leaves: Vec<LeafEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AggregatorEntry {
    name: String,
    pid: Option<u32>,
    sql: String,
    http: String,
    rpc: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct LeafEntry {
    name: String,
    pid: Option<u32>,
    addr: String,
    http: String,
    dir: String,
}

/// The processes of one playground.
pub struct Registry<'a> {
    layout: &'a Layout,
}

impl<'a> Registry<'a> {
    /// Of this playground.
    pub fn new(layout: &'a Layout) -> Registry<'a> {
        Registry { layout }
    }

    /// The playground's directory.
    pub fn dir(&self) -> &Path {
        self.layout.dir()
    }

    /// The process of a node, if it lives: the number alone might belong to another process by now.
    pub fn running(&self, node: &Node) -> Option<u32> {
        let content = self.read();
        pid_of(&content, &node.name).filter(|pid| nodes::is_process_of(node, *pid))
    }

    /// The noted process of a node, if it lives no longer.
    pub fn dead(&self, node: &Node) -> Option<u32> {
        let content = self.read();
        pid_of(&content, &node.name).filter(|pid| !nodes::is_process_of(node, *pid))
    }

    /// Notes that a node's process is this one, or none.
    pub fn set(&self, node: &Node, pid: Option<u32>) -> Result<()> {
        self.change(|content| *pid_mut(content, &node.name) = pid)
    }

    /// Notes that this process of a node has ended, unless another one runs by now.
    pub fn clear(&self, node: &Node, ended: u32) -> Result<()> {
        self.change(|content| {
            let pid = pid_mut(content, &node.name);
            if *pid == Some(ended) {
                *pid = None;
            }
        })
    }

    /// Every node of the playground listens.
    pub fn ready(&self) -> Result<()> {
        self.change(|content| content.ready = true)
    }

    /// Held by the one supervisor of a directory.
    pub fn supervise(&self) -> Result<File> {
        let file = lock_file(&self.dir().join("supervisor.lock"))?;
        if !lock(&file, libc::LOCK_EX | libc::LOCK_NB) {
            bail!("another playground runs in {}: stop it, or choose another --dir", self.dir().display());
        }
        self.change(|content| content.ready = false)?;
        Ok(file)
    }

    fn change(&self, change: impl FnOnce(&mut Content)) -> Result<()> {
        let held = lock_file(&self.dir().join("playground.lock"))?;
        if !lock(&held, libc::LOCK_EX) {
            bail!("{} cannot be locked", self.dir().display());
        }
        let mut content = self.read();
        self.complete(&mut content);
        change(&mut content);
        let (path, next) = (self.dir().join(FILE), self.dir().join("playground.json.tmp"));
        fs::write(&next, serde_json::to_string_pretty(&content)?)
            .with_context(|| format!("writing {}", next.display()))?;
        fs::rename(&next, &path).with_context(|| format!("writing {}", path.display()))
    }

    fn read(&self) -> Content {
        let known = fs::read_to_string(self.dir().join(FILE)).ok().and_then(|text| serde_json::from_str(&text).ok());
        known.unwrap_or_else(|| self.fresh())
    }

    fn fresh(&self) -> Content {
        let mut content = Content { ready: false, regions: vec![] };
        self.complete(&mut content);
        content
    }

    /// Lists the nodes of the layout that are not listed.
    fn complete(&self, content: &mut Content) {
        for region in self.layout.regions() {
            let name = &region.name;
            if !content.regions.iter().any(|known| known.name == *name) {
                content.regions.push(RegionEntry { name: name.clone(), aggregators: vec![], leaves: vec![] });
            }
            let known = content.regions.iter_mut().find(|known| known.name == *name).expect("it was added above");
            known.aggregators.extend(region.aggregators.iter().skip(known.aggregators.len()).map(aggregator));
            known.leaves.extend(region.leaves.iter().skip(known.leaves.len()).map(leaf));
        }
    }
}

fn aggregator(node: &Node) -> AggregatorEntry {
    AggregatorEntry {
        name: node.name.clone(),
        pid: None,
        sql: node.sql.clone().unwrap_or_default(),
        http: node.http.clone(),
        rpc: node.rpc.clone(),
    }
}

fn leaf(node: &Node) -> LeafEntry {
    let dir = node.dir.display().to_string();
    LeafEntry { name: node.name.clone(), pid: None, addr: node.rpc.clone(), http: node.http.clone(), dir }
}

fn pid_of(content: &Content, name: &str) -> Option<u32> {
    content.regions.iter().find_map(|region| {
        let aggregators = region.aggregators.iter().map(|entry| (&entry.name, entry.pid));
        let leaves = region.leaves.iter().map(|entry| (&entry.name, entry.pid));
        aggregators.chain(leaves).find(|(known, _)| *known == name).and_then(|(_, pid)| pid)
    })
}

fn pid_mut<'c>(content: &'c mut Content, name: &str) -> &'c mut Option<u32> {
    content
        .regions
        .iter_mut()
        .flat_map(|region| {
            let aggregators = region.aggregators.iter_mut().map(|entry| (&entry.name, &mut entry.pid));
            let leaves = region.leaves.iter_mut().map(|entry| (&entry.name, &mut entry.pid));
            aggregators.chain(leaves)
        })
        .find(|(known, _)| *known == name)
        .map(|(_, pid)| pid)
        .expect("the file lists every node of the layout")
}

fn lock_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

fn lock(file: &File, how: i32) -> bool {
    // SAFETY: flock takes a descriptor that is open for as long as `file` lives, and touches no memory.
    unsafe { libc::flock(file.as_raw_fd(), how) == 0 }
}
