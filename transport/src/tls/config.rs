//! The four TLS configurations: listener and dialler, in a region and between regions.

use std::sync::Arc;

use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::verify::LinkVerifier;
use super::{Credentials, NodeCertificate, Seen, TlsError, Trust};

/// ALPN of sessions in a region.
const ALPN_REGION: &[u8] = b"perennial-region/1";
/// ALPN of sessions between regions.
const ALPN_LINK: &[u8] = b"perennial-link/1";

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn fail(what: &'static str) -> impl Fn(rustls::Error) -> TlsError {
    move |error| TlsError::Config { what, reason: error.to_string() }
}

/// A listener in a region: shows the node's certificate, demands one under the cluster's CA.
pub(crate) fn region_server(credentials: &Credentials) -> Result<ServerConfig, TlsError> {
    let what = "a region listener";
    let roots = Arc::new(credentials.roots.store()?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| TlsError::Config { what, reason: error.to_string() })?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(fail(what))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(credentials.node.chain()?, credentials.node.key()?)
        .map_err(fail(what))?;
    config.alpn_protocols = vec![ALPN_REGION.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A dialler in a region: the mirror image.
pub(crate) fn region_client(credentials: &Credentials) -> Result<ClientConfig, TlsError> {
    let what = "a region dialler";
    let roots = Arc::new(credentials.roots.store()?);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| TlsError::Config { what, reason: error.to_string() })?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(fail(what))?
        .with_webpki_verifier(verifier)
        .with_client_auth_cert(credentials.node.chain()?, credentials.node.key()?)
        .map_err(fail(what))?;
    config.alpn_protocols = vec![ALPN_REGION.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// A listener between regions: shows the node's certificate and asks for none.
pub(crate) fn link_server(node: &NodeCertificate) -> Result<ServerConfig, TlsError> {
    let what = "a link listener";
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(fail(what))?
        .with_no_client_auth()
        .with_single_cert(node.chain()?, node.key()?)
        .map_err(fail(what))?;
    config.alpn_protocols = vec![ALPN_LINK.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A dialler between regions. `seen` receives the fingerprint of what the listener showed.
pub(crate) fn link_client(trust: Trust, seen: Seen) -> Result<ClientConfig, TlsError> {
    let what = "a link dialler";
    let verifier = LinkVerifier::new(trust, provider(), seen)?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(fail(what))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_LINK.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}
