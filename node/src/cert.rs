//! `perennial cert`: the CA of a cluster and the certificates of its nodes.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use transport::tls::{Authority, create_ca, issue};
use types::{ClusterId, NodeId};

/// Make the certificates of a cluster.
#[derive(Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make the CA of a new cluster. Keep its key off the nodes.
    Ca {
        /// The cluster's number.
        #[arg(long)]
        cluster: u64,
        /// The folder for `ca.crt` and `ca.key`.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Make the certificate of one node.
    Node {
        /// The cluster's number.
        #[arg(long)]
        cluster: u64,
        /// The node's number, from 1.
        #[arg(long)]
        node: u64,
        /// The folder with the CA.
        #[arg(long)]
        ca: PathBuf,
        /// The folder for `ca.crt`, `node.crt` and `node.key`.
        #[arg(long)]
        dir: PathBuf,
        /// Names and addresses under which MySQL clients with TLS reach the node.
        #[arg(long)]
        host: Vec<String>,
    },
}

/// Carries the command out.
pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Ca { cluster, dir } => {
            if dir.join("ca.key").exists() {
                bail!("{} holds a CA already: choose another folder", dir.display());
            }
            create_ca(ClusterId(*cluster))?.save(dir)?;
            println!("CA of cluster {cluster} in {}", dir.display());
        }
        What::Node { cluster, node, ca, dir, host } => {
            let authority = Authority::load(ca)?;
            node_certificate(&authority, *cluster, *node, host, dir)?;
            println!("certificate of node {node} of cluster {cluster} in {}", dir.display());
        }
    }
    Ok(())
}

/// Writes a node's folder of certificates.
pub fn node_certificate(authority: &Authority, cluster: u64, node: u64, hosts: &[String], dir: &Path) -> Result<()> {
    issue(authority, ClusterId(cluster), NodeId(node), hosts)?.save(dir)?;
    let path = dir.join("ca.crt");
    std::fs::write(&path, &authority.certificate_pem).with_context(|| format!("writing {}", path.display()))
}
