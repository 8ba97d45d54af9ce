//! Certificates and configurations of a new cluster.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::node::{Node, Role};

/// Root's password. Clients come from the bridge, and root without one may come from loopback alone.
pub const PASSWORD: &str = "bench";
const CLUSTER: &str = "1";

/// Writes what all nodes need. `settings` is put behind each configuration.
pub fn write(dir: &Path, binary: &Path, nodes: &[Node], settings: &str) -> Result<()> {
    let ca = dir.join("ca");
    make(Command::new(binary).args(["cert", "ca", "--cluster", CLUSTER, "--dir"]).arg(&ca))?;
    let password = dir.join("root.password");
    fs::write(&password, PASSWORD).with_context(|| format!("writing {}", password.display()))?;
    let of = |node: &&Node| node.role == Role::Aggregator;
    let aggregators: Vec<String> = nodes.iter().filter(of).map(|node| format!("\"{}\"", node.addresses.rpc)).collect();
    for node in nodes {
        certify(dir, binary, node)?;
        let path = node.dir.join("config.toml");
        let text = configuration(node, &aggregators.join(", "), settings);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn certify(dir: &Path, binary: &Path, node: &Node) -> Result<()> {
    let certificates = node.dir.join("certificates");
    fs::create_dir_all(&certificates).with_context(|| format!("making {}", certificates.display()))?;
    let (number, host) = (node.number.to_string(), node.addresses.rpc.ip().to_string());
    let mut command = Command::new(binary);
    command.args(["cert", "node", "--cluster", CLUSTER, "--node", &number, "--host", &host]);
    make(command.arg("--ca").arg(dir.join("ca")).arg("--dir").arg(&certificates))
}

/// Gives a node without a process another number, and an empty directory for its data.
pub fn renew(dir: &Path, binary: &Path, node: &mut Node, number: u64) -> Result<()> {
    let path = node.dir.join("config.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let (old, new) = (format!("node = {}\n", node.number), format!("node = {number}\n"));
    ensure!(text.matches(&old).count() == 1, "{} does not say {old:?} once", path.display());
    fs::write(&path, text.replace(&old, &new)).with_context(|| format!("writing {}", path.display()))?;
    node.number = number;
    fs::remove_dir_all(node.dir.join("certificates")).context("removing the old certificate")?;
    certify(dir, binary, node)?;
    // It may be a disk of its own, which stays.
    for entry in fs::read_dir(node.data()).context("reading the old data")? {
        let path = entry?.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("removing {}", path.display()))?;
    }
    Ok(())
}

fn configuration(node: &Node, aggregators: &str, settings: &str) -> String {
    let addresses = &node.addresses;
    let sql = match node.role {
        Role::Aggregator => format!("sql = \"{}\"\n", addresses.sql),
        Role::Leaf => String::new(),
    };
    format!(
        "name = \"{}\"\nroles = [\"{}\"]\ndata_dir = \"data\"\n\n[listen]\n{sql}http = \"{}\"\nrpc = \"{}\"\n\n\
         [cluster]\nid = {CLUSTER}\nnode = {}\ncertificates = \"certificates\"\naggregators = [{aggregators}]\n\
         root_password_file = \"../root.password\"\n\n{settings}",
        node.name,
        node.role.name(),
        addresses.http,
        addresses.rpc,
        node.number,
    )
}

fn make(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
