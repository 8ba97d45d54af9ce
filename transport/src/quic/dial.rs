//! The dialling side of QUIC sessions.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectError, ConnectionError, Endpoint};
use rustls::pki_types::CertificateDer;
use tokio::time::timeout;

use super::{QuicConnection, endpoint, transport};
use crate::address::{host_of, resolve};
use crate::error::{DialCause, DialError};
use crate::handshake::{Expected, dial};
use crate::identity::{Local, Peer, Proof, Role};
use crate::limits::Limits;
use crate::session::Session;
use crate::tls::{Seen, TlsError, Trust, chain_fingerprint, link_client, prove};

/// The first of the QUIC codes that carry a TLS alert, and the last.
const TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Reaches nodes of other regions. One UDP socket per address family, made when it is first needed; cheap to clone.
#[derive(Clone)]
pub struct QuicDialler {
    local: Local,
    limits: Limits,
    endpoints: Arc<Mutex<Endpoints>>,
}

#[derive(Default)]
struct Endpoints {
    v4: Option<Endpoint>,
    v6: Option<Endpoint>,
}

impl QuicDialler {
    /// For a node of this name.
    pub fn new(local: Local, limits: Limits) -> QuicDialler {
        QuicDialler { local, limits, endpoints: Arc::default() }
    }

    /// Reaches the node at `address` (host:port). What it shows must satisfy `trust`, and its hello `expected`.
    /// `Peer::fingerprint` of the session is what to pin.
    pub async fn dial(
        &self,
        address: &str,
        trust: &Trust,
        expected: Expected,
        role: Role,
    ) -> Result<Session, DialError> {
        let mut last = DialCause::Unreachable("the name has no address".into());
        let candidates = resolve(address, self.limits.connect).await.map_err(|cause| cause.at(address))?;
        for candidate in candidates {
            match self.try_one(host_of(address), candidate, trust, expected, role).await {
                Ok(session) => return Ok(session),
                Err(cause) => last = cause,
            }
        }
        Err(last.at(address))
    }

    async fn try_one(
        &self,
        host: &str,
        candidate: SocketAddr,
        trust: &Trust,
        expected: Expected,
        role: Role,
    ) -> Result<Session, DialCause> {
        let seen = Seen::default();
        let connecting = self.connect(host, candidate, trust, &seen)?;
        let connect = self.limits.connect;
        let connection = match timeout(connect, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(cause_of(error, trust, &seen, &self.limits)),
            Err(_) => return Err(DialCause::TimedOut { stage: "connecting", time: connect }),
        };
        let limit = self.limits.handshake;
        match timeout(limit, self.greet(&connection, expected, role)).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(cause)) => {
                connection.close(0u32.into(), b"no session");
                Err(cause)
            }
            Err(_) => Err(DialCause::TimedOut { stage: "handshake", time: limit }),
        }
    }

    fn connect(
        &self,
        host: &str,
        candidate: SocketAddr,
        trust: &Trust,
        seen: &Seen,
    ) -> Result<quinn::Connecting, DialCause> {
        let unusable = |error: TlsError| DialCause::Tls(error.to_string());
        let tls = link_client(trust.clone(), seen.clone()).map_err(unusable)?;
        let tls = QuicClientConfig::try_from(tls).map_err(|error| DialCause::Tls(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(tls));
        config.transport_config(transport(&self.limits, true));
        let endpoint = self.endpoint_for(candidate).map_err(|error| DialCause::Unreachable(error.to_string()))?;
        endpoint
            .connect_with(config, candidate, host)
            .map_err(|error: ConnectError| DialCause::Unreachable(error.to_string()))
    }

    fn endpoint_for(&self, candidate: SocketAddr) -> std::io::Result<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        let (slot, any): (_, SocketAddr) = match candidate {
            SocketAddr::V4(_) => (&mut endpoints.v4, (Ipv4Addr::UNSPECIFIED, 0).into()),
            SocketAddr::V6(_) => (&mut endpoints.v6, (Ipv6Addr::UNSPECIFIED, 0).into()),
        };
        match slot {
            Some(endpoint) => Ok(endpoint.clone()),
            None => Ok(slot.insert(endpoint(any, None)?).clone()),
        }
    }

    async fn greet(
        &self,
        connection: &quinn::Connection,
        expected: Expected,
        role: Role,
    ) -> Result<Session, DialCause> {
        let halves = connection.open_bi().await.map_err(|error| DialCause::Lost(error.to_string()))?;
        let chain = chain_of(connection);
        let mut io = tokio::io::join(halves.1, halves.0);
        // A certificate that was not made by `tls::issue` may be trusted all the same; its names prove nothing then.
        let known = |cluster, node| Ok(prove(&chain, cluster, node).unwrap_or(Proof::Claim));
        let greeting = dial(&mut io, &self.local, role, expected, &known).await?;
        let peer = Peer::new(&greeting, connection.remote_address(), chain_fingerprint(&chain));
        let (receiving, sending) = io.into_inner();
        Ok(QuicConnection::start(connection.clone(), (sending, receiving), peer, &self.limits, true, None))
    }
}

impl fmt::Debug for QuicDialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuicDialler({:?})", self.local)
    }
}

fn chain_of(connection: &quinn::Connection) -> Vec<CertificateDer<'static>> {
    let shown = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    shown.map(|chain| *chain).unwrap_or_default()
}

/// What a failed connection means.
fn cause_of(error: ConnectionError, trust: &Trust, seen: &Seen, limits: &Limits) -> DialCause {
    let code = match &error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        ConnectionError::TimedOut => return DialCause::TimedOut { stage: "connecting", time: limits.connect },
        ConnectionError::VersionMismatch => return DialCause::BadBytes(error.to_string()),
        ConnectionError::ApplicationClosed(_)
        | ConnectionError::Reset
        | ConnectionError::LocallyClosed
        | ConnectionError::CidsExhausted => return DialCause::Lost(error.to_string()),
    };
    match (trust, *seen.lock()) {
        (Trust::Pinned(pinned), Some(found)) if found != *pinned && TLS_ALERTS.contains(&code) => {
            DialCause::WrongFingerprint { pinned: *pinned, found }
        }
        _ if TLS_ALERTS.contains(&code) => DialCause::Tls(error.to_string()),
        _ => DialCause::Lost(error.to_string()),
    }
}
