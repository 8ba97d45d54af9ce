//! The http listener of a node: what it is and does, as Prometheus reads it.

use std::sync::Arc;

use aggregator::region::Region;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::routing::get;

use crate::config::Config;
use crate::leaf::Leaf;

/// One figure: name, what it means, value.
pub type Metric = (&'static str, &'static str, u64);

/// What the figures are read from.
#[derive(Clone)]
struct Parts {
    region: Option<Arc<Region>>,
    leaf: Option<Leaf>,
}

/// Listens for as long as it lives.
pub struct Http(tokio::task::JoinHandle<()>);

impl Drop for Http {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the listener.
pub async fn start(config: &Config, region: Option<Arc<Region>>, leaf: Option<Leaf>) -> Result<Http> {
    let address = config.listen.http;
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("listening for http on {address}"))?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(Parts { region, leaf });
    Ok(Http(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "http has ended");
        }
    })))
}

async fn metrics(State(parts): State<Parts>) -> String {
    let region = parts.region.iter().flat_map(|region| of_region(region));
    let leaf = parts.leaf.iter().flat_map(Leaf::metrics);
    let line = |(name, help, value): Metric| format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n");
    region.chain(leaf).map(line).collect()
}

fn of_region(region: &Region) -> Vec<Metric> {
    let state = region.catalog.state();
    let leaves = region.detector.leaves();
    let up: Vec<_> = leaves.iter().filter(|(node, _)| region.detector.is_up(**node)).map(|(_, leaf)| leaf).collect();
    let leads = |replica: &&aggregator::protocol::ReplicaReport| replica.leading.as_ref().is_some_and(|l| l.serving);
    let serving = up.iter().flat_map(|leaf| leaf.said.replicas.values()).filter(leads).count();
    let holders = state.nodes.values().filter(|node| node.holds_replicas()).count();
    let removed = state.nodes.values().filter(|node| node.roles.leaf && node.removed).count();
    let moving = state.moves.values().filter(|wanted| wanted.begun.is_some()).count();
    let short = |(id, partition): (&types::PartitionId, &catalog::partition::Partition)| {
        let wanted = state.databases.get(&id.database).map_or(0, |database| usize::from(database.options.redundancy));
        partition.members.len() < wanted
    };
    let short = state.partitions.iter().filter(|held| short(*held)).count();
    let reigns: u64 = state.partitions.values().map(|partition| partition.reign.0).sum();
    let status = region.catalog.status();
    vec![
        ("perennial_master", "1 if this aggregator is the master", u64::from(status.leads.is_some())),
        ("perennial_catalog_term", "Raft's term", status.term),
        ("perennial_catalog_applied", "The last entry of the catalog's log that is applied", status.applied),
        ("perennial_catalog_revision", "Commands that the catalog has applied", state.revision.0),
        ("perennial_leaves", "Leaves of the cluster", holders as u64),
        ("perennial_leaves_up", "Leaves heard of late", up.len() as u64),
        ("perennial_leaves_removed", "Leaves that REMOVE LEAF has taken out", removed as u64),
        ("perennial_databases", "Databases", state.databases.len() as u64),
        ("perennial_swept_rows", "Rows of dropped tables that were taken out", region.sweeper.rows()),
        ("perennial_partitions", "Partitions of all databases", state.partitions.len() as u64),
        ("perennial_moves", "Partitions that are to move or do", state.moves.len() as u64),
        ("perennial_moves_begun", "Partitions that move", moving as u64),
        ("perennial_partitions_serving", "Partitions whose primary serves", serving as u64),
        ("perennial_partitions_short", "Partitions with fewer copies in sync than asked for", short as u64),
        ("perennial_reigns", "Primaries that were named for the partitions that there are", reigns),
    ]
}
