//! Asking another region.

use std::time::Duration;

use catalog::link::{Credentials, LinkOptions};
use futures::FutureExt;
use transport::handshake::Expected;
use transport::identity::Role;
use transport::quic::QuicDialler;
use transport::rpc::Client;
use transport::session::Session;
use transport::tls::{Fingerprint, Roots, Trust};
use types::ClusterId;

use super::protocol::{LinkAnswer, LinkRequest};

/// How this region reaches others, and is reached.
#[derive(Clone, Debug)]
pub struct Peering {
    /// Makes sessions.
    pub dialler: QuicDialler,
    /// This aggregator's SQL address, as others are told it.
    pub address: String,
    /// SHA-256 of what it shows of its certificates.
    pub fingerprint: [u8; 32],
}

/// An open session with an aggregator of another region.
pub struct Peer {
    session: Session,
    calls: Client<LinkRequest, LinkAnswer>,
}

impl Peering {
    /// Reaches one of several aggregators of a region: all are tried at once, the first that answers is it.
    pub async fn dial_any<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a String>,
        trust: &Trust,
        cluster: Option<ClusterId>,
        limit: Duration,
    ) -> Result<Peer, String> {
        let dials = addresses.into_iter().map(|address| self.dial(address, trust, cluster, limit).boxed());
        let dials: Vec<_> = dials.collect();
        if dials.is_empty() {
            return Err("it has told no address".into());
        }
        futures::future::select_ok(dials).await.map(|(peer, _)| peer)
    }

    /// Reaches an aggregator within `limit`.
    pub async fn dial(
        &self,
        address: &str,
        trust: &Trust,
        cluster: Option<ClusterId>,
        limit: Duration,
    ) -> Result<Peer, String> {
        let dial = self.dialler.dial(address, trust, Expected { cluster, node: None }, Role::Link);
        let session = tokio::time::timeout(limit, dial).await;
        let session = session.map_err(|_| format!("no answer from {address} within {limit:?}"))?;
        let session = session.map_err(|error| error.to_string())?;
        Ok(Peer { calls: Client::new(session.control().clone()), session })
    }
}

impl Peer {
    /// Asks.
    pub async fn call(&self, request: &LinkRequest, limit: Duration) -> Result<LinkAnswer, String> {
        self.calls.call(request, limit).await.map_err(|error| error.to_string())
    }

    /// SHA-256 of what it shows of its certificates: what to pin.
    pub fn fingerprint(&self) -> Option<[u8; 32]> {
        self.session.peer().fingerprint.map(|Fingerprint(bytes)| bytes)
    }

    /// Whether the session is over.
    pub fn is_over(&self) -> bool {
        self.session.control().closed_reason().is_some()
    }
}

/// What is believed of a source that is dialled for the first time.
pub fn first_trust(options: &LinkOptions) -> Result<Trust, String> {
    match &options.ca {
        Some(pem) => Roots::from_pem(pem).map(Trust::Roots).map_err(|error| error.to_string()),
        None => Ok(Trust::FirstUse),
    }
}

/// What is believed of a source that was pinned.
pub fn pinned(credentials: &Credentials) -> Trust {
    Trust::Pinned(Fingerprint(credentials.fingerprint))
}
