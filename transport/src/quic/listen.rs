//! The listening side of QUIC sessions.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, ServerConfig};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{QuicConnection, endpoint, transport};
use crate::error::{BindError, DialCause};
use crate::handshake::listen;
use crate::identity::{Admit, Local, Peer, Proof};
use crate::limits::{ACCEPT_QUEUE, Limits};
use crate::session::Session;
use crate::tls::{NodeCertificate, TlsError, link_server};

/// Accepts sessions of other regions for as long as it lives. Their peers are what they claim, no more: the owner asks
/// for a password or token and then calls `Control::trust_peer`.
pub struct QuicListener {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    accepting: JoinHandle<()>,
}

struct Shared {
    local: Local,
    limits: Limits,
    admit: Admit,
    sessions: mpsc::Sender<Session>,
}

impl QuicListener {
    /// Listens on the UDP port of `address`; port 0 lets the system choose. `node` is what it shows.
    pub async fn bind(
        address: SocketAddr,
        local: Local,
        node: &NodeCertificate,
        limits: Limits,
        admit: Admit,
    ) -> Result<QuicListener, BindError> {
        limits.validate().map_err(BindError::Limits)?;
        let tls = QuicServerConfig::try_from(link_server(node)?)
            .map_err(|error| TlsError::Config { what: "a link listener", reason: error.to_string() })?;
        let mut config = ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport(&limits, false));
        // What waits to be accepted holds at most one packet each; the accepting task never waits.
        config.max_incoming(limits.handshakes_max);
        let fail = |source| BindError::Address { address, source };
        let endpoint = endpoint(address, Some(config)).map_err(fail)?;
        let address = endpoint.local_addr().map_err(fail)?;
        let (sender, sessions) = mpsc::channel(ACCEPT_QUEUE);
        let accepting = tokio::spawn(accept_all(endpoint, Arc::new(Shared { local, limits, admit, sessions: sender })));
        Ok(QuicListener { address, sessions, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next session whose handshake is done.
    pub async fn accept(&mut self) -> Session {
        self.sessions.recv().await.expect("the accepting task lives as long as its listener")
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for QuicListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuicListener({})", self.address)
    }
}

async fn accept_all(endpoint: Endpoint, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let seats = Arc::new(Semaphore::new(shared.limits.sessions_max));
    while let Some(incoming) = endpoint.accept().await {
        let address = incoming.remote_address();
        let is_busy = handshakes.available_permits() < shared.limits.handshakes_max / 2;
        if is_busy && incoming.may_retry() {
            // Under load a peer must show that it owns its address before it costs a handshake.
            if let Err(error) = incoming.retry() {
                tracing::debug!(%address, %error, "no session");
            }
            continue;
        }
        let (Ok(turn), Ok(seat)) = (handshakes.clone().try_acquire_owned(), seats.clone().try_acquire_owned()) else {
            tracing::warn!(%address, "connection turned away: too many sessions or handshakes");
            incoming.refuse();
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            match timeout(shared.limits.handshake, greet(&shared, incoming, seat)).await {
                Ok(Ok(session)) => {
                    drop(turn);
                    // Fails when the listener is gone: the session then ends with it.
                    let _ = shared.sessions.send(session).await;
                }
                Ok(Err(cause)) => cause.log(address),
                Err(_) => DialCause::TimedOut { stage: "handshake", time: shared.limits.handshake }.log(address),
            }
        });
    }
}

async fn greet(shared: &Shared, incoming: quinn::Incoming, seat: OwnedSemaphorePermit) -> Result<Session, DialCause> {
    let lost = |error: quinn::ConnectionError| DialCause::Lost(error.to_string());
    let connection = incoming.accept().map_err(lost)?.await.map_err(lost)?;
    let (sending, receiving) = connection.accept_bi().await.map_err(lost)?;
    let mut io = tokio::io::join(receiving, sending);
    let address = connection.remote_address();
    let claim = |_, _| Ok(Proof::Claim);
    let mut peer = None;
    let greeting = listen(&mut io, &shared.local, &claim, |greeting| {
        let found = Peer::new(greeting, address, None);
        (shared.admit)(&found)?;
        peer = Some(found);
        Ok(())
    })
    .await;
    let (receiving, mut sending) = io.into_inner();
    if let Err(reason) = greeting {
        // The verdict must arrive before the connection goes: the peer hangs up when it has read it.
        if sending.finish().is_ok() {
            let _ = timeout(shared.limits.close, sending.stopped()).await;
        }
        connection.close(0u32.into(), b"no session");
        return Err(reason);
    }
    let peer = peer.expect("a peer that was greeted was admitted");
    Ok(QuicConnection::start(connection, (sending, receiving), peer, &shared.limits, false, Some(seat)))
}
