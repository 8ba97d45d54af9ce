//! The aggregator's listener for clients: MySQL, with TLS by the node's certificate.

use std::sync::Arc;

use aggregator::gateway::Gateway;
use aggregator::mysql::{Options, Server};
use aggregator::region::Region;
use anyhow::{Context, Result};
use transport::tls::Credentials;

use crate::config::Config;

/// Listens for as long as it lives.
pub struct Front {
    _mysql: Server,
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
    let gateway = Arc::new(Gateway::new(region));
    let mysql = Server::start(listener, Some(Arc::new(tls)), gateway.clone(), gateway, options)?;
    Ok(Front { _mysql: mysql })
}
