//! Certificates and TLS: one CA per cluster, names in certificates, trust between regions.
//!
//! - A cluster makes a CA once ([`create_ca`]) and a certificate per node ([`issue`]). A node presents its
//!   certificate followed by the CA's, so that a peer without the CA can still see which CA it is.
//! - The names in a node's certificate are what the handshake checks: `n<node>.c<cluster>.perennial.internal` for the
//!   node, `c<cluster>.perennial.internal` for the cluster, `node.perennial.internal` for any node. `.internal` is
//!   reserved for private use, so no public CA issues these.
//! - In a region both sides show certificates under the cluster's CA (`region_server`, `region_client`). A
//!   dialler demands the cluster's name; the node's name is checked against the hello.
//! - Between regions only the listener shows one; [`Trust`] says what is believed. The peer that dials proves itself
//!   by password or token, above this crate.
//! - A link pins the source's CA, not one node's certificate: every leaf of the source is then covered by the pin that
//!   the first session to its SQL port took, and a renewed node certificate does not break the link.
//! - TLS 1.3 only, ring only, no session tickets: every handshake checks the certificate again.

mod authority;
mod config;
mod verify;

pub use authority::{
    Authority, CA_FILE, CA_KEY_FILE, Credentials, NODE_FILE, NODE_KEY_FILE, NodeCertificate, Roots, create_ca, issue,
};
pub use verify::{Fingerprint, Trust};

pub(crate) use config::{link_client, link_server, region_client, region_server};
pub(crate) use verify::{Seen, chain_fingerprint, prove};

use types::{ClusterId, NodeId};

/// Why certificates cannot be made, read or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("certificate file {path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Text is no PEM of the kind that is needed.
    #[error("{what} is not usable: {reason}")]
    Pem {
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make {what}: {reason}")]
    Make {
        /// What should be made.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// Certificate, key and CA do not fit together.
    #[error("certificate and key cannot be used for {what}: {reason}")]
    Config {
        /// For what.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}

/// The name that every node's certificate has.
pub(crate) const ANY_NODE: &str = "node.perennial.internal";

/// The name that every certificate of a cluster has.
pub(crate) fn cluster_name(cluster: ClusterId) -> String {
    format!("c{:016x}.perennial.internal", cluster.0)
}

/// The name of one node.
pub(crate) fn node_name(cluster: ClusterId, node: NodeId) -> String {
    format!("n{}.c{:016x}.perennial.internal", node.0, cluster.0)
}
