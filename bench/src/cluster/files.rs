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
        let certificates = node.dir.join("certificates");
        fs::create_dir_all(&certificates).with_context(|| format!("making {}", certificates.display()))?;
        let (number, host) = (number(node).to_string(), node.addresses.rpc.ip().to_string());
        let mut command = Command::new(binary);
        command.args(["cert", "node", "--cluster", CLUSTER, "--node", &number, "--host", &host]);
        make(command.arg("--ca").arg(&ca).arg("--dir").arg(&certificates))?;
        let path = node.dir.join("config.toml");
        let text = configuration(node, &aggregators.join(", "), settings);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// As its certificate says.
pub fn number(node: &Node) -> u64 {
    node.place as u64 + 1
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
        number(node),
    )
}

fn make(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
