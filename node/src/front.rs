//! The aggregator's listeners for clients: MySQL, with TLS by the node's certificate, and http for metrics.

use std::sync::Arc;

use aggregator::gateway::Gateway;
use aggregator::mysql::{Options, Server};
use aggregator::region::Region;
use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use transport::tls::Credentials;

use crate::config::Config;

/// Listens for as long as it lives.
pub struct Front {
    _mysql: Server,
    http: tokio::task::JoinHandle<()>,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.http.abort();
    }
}

/// Starts the listeners.
pub async fn start(config: &Config, credentials: &Credentials, region: Arc<Region>) -> Result<Front> {
    let sql = config.listen.sql.context("listen.sql is missing")?;
    let listener = tokio::net::TcpListener::bind(sql).await.with_context(|| format!("listening for MySQL on {sql}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(credentials.node.chain()?, credentials.node.key()?)?;
    let options = Options {
        connections_max: config.mysql.max_connections,
        packet_bytes_max: config.mysql.max_allowed_packet.0 as usize,
        ..Options::default()
    };
    let gateway = Arc::new(Gateway::new(region.clone()));
    let mysql = Server::start(listener, Some(Arc::new(tls)), gateway.clone(), gateway, options)?;
    let http = config.listen.http;
    let listener =
        tokio::net::TcpListener::bind(http).await.with_context(|| format!("listening for http on {http}"))?;
    let router = Router::new().route("/metrics", get(metrics)).with_state(region);
    let http = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "http has ended");
        }
    });
    Ok(Front { _mysql: mysql, http })
}

/// What the cluster is, as Prometheus reads it.
async fn metrics(State(region): State<Arc<Region>>) -> String {
    let state = region.catalog.state();
    let leaves = region.detector.leaves();
    let limit = region.detector.failure_timeout();
    let up = leaves.values().filter(|leaf| leaf.at.elapsed() <= limit).count();
    let serving = leaves
        .values()
        .filter(|leaf| leaf.at.elapsed() <= limit)
        .flat_map(|leaf| &leaf.replicas)
        .filter(|replica| replica.leading.as_ref().is_some_and(|leading| leading.serving))
        .count();
    let mut text = String::new();
    for (name, help, value) in [
        ("perennial_catalog_revision", "Commands that the catalog has applied", state.revision.0),
        (
            "perennial_leaves",
            "Leaves of the cluster",
            state.nodes.values().filter(|node| node.holds_replicas()).count() as u64,
        ),
        ("perennial_leaves_up", "Leaves heard of late", up as u64),
        ("perennial_databases", "Databases", state.databases.len() as u64),
        ("perennial_partitions", "Partitions of all databases", state.partitions.len() as u64),
        ("perennial_partitions_serving", "Partitions whose primary serves", serving as u64),
    ] {
        text += &format!("# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {value}\n");
    }
    text
}
