//! The aggregator's listener for clients: MySQL, with TLS by the node's certificate.
//!
//! The port is taken at once. Whoever connects is answered when the catalog here has caught up with the master's, so that
//! nobody is told that a user or a database is unknown that was made while this aggregator was away; without a master
//! after `mysql.partition_wait`, with what is on this disk.

use std::sync::Arc;

use aggregator::gateway::Gateway;
use aggregator::mysql::{Options, Server};
use aggregator::region::Region;
use anyhow::{Context, Result};
use tokio_util::task::AbortOnDropHandle;
use transport::tls::Credentials;

use crate::config::Config;

/// Listens for as long as it lives.
pub struct Front {
    _serving: AbortOnDropHandle<()>,
}

/// Starts the listener.
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
    let wait = config.mysql.partition_wait.0;
    let serving = tokio::spawn(async move {
        if tokio::time::timeout(wait, region.bond.caught_up()).await.is_err() && region.catalog.removed().is_none() {
            tracing::warn!("no master has answered: clients are served with the catalog that is on this disk");
        }
        let gateway = Arc::new(Gateway::new(region));
        let server = Server::start(listener, Some(Arc::new(tls)), gateway.clone(), gateway, options);
        let _server = server.expect("the listener knows its address");
        std::future::pending::<()>().await;
    });
    Ok(Front { _serving: AbortOnDropHandle::new(serving) })
}
