//! The listening side of TCP sessions.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{chain_of, prepare, start};
use crate::error::{BindError, DialCause};
use crate::handshake::{broken, listen};
use crate::identity::{Admit, Local, Peer};
use crate::limits::{ACCEPT_QUEUE, Limits};
use crate::session::Session;
use crate::tls::{Credentials, chain_fingerprint, prove, region_server};

/// How long to wait when the system cannot give another connection, for want of file descriptors above all.
const ACCEPT_RETRY_TIME: Duration = Duration::from_millis(50);

/// Accepts sessions in a region for as long as it lives.
pub struct TcpListener {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
    accepting: JoinHandle<()>,
}

struct Shared {
    local: Local,
    tls: TlsAcceptor,
    limits: Limits,
    admit: Admit,
    sessions: mpsc::Sender<Session>,
}

impl TcpListener {
    /// Listens on `address`; port 0 lets the system choose. `admit` may refuse peers that are in order by themselves,
    /// such as one of an older incarnation; peers of another cluster are refused before it is asked.
    pub async fn bind(
        address: SocketAddr,
        local: Local,
        credentials: &Credentials,
        limits: Limits,
        admit: Admit,
    ) -> Result<TcpListener, BindError> {
        limits.validate().map_err(BindError::Limits)?;
        let tls = TlsAcceptor::from(Arc::new(region_server(credentials)?));
        let fail = |source| BindError::Address { address, source };
        let listener = tokio::net::TcpListener::bind(address).await.map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        let (sender, sessions) = mpsc::channel(ACCEPT_QUEUE);
        let shared = Arc::new(Shared { local, tls, limits, admit, sessions: sender });
        let accepting = tokio::spawn(accept_all(listener, shared));
        Ok(TcpListener { address, sessions, accepting })
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

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpListener({})", self.address)
    }
}

async fn accept_all(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let handshakes = Arc::new(Semaphore::new(shared.limits.handshakes_max));
    let seats = Arc::new(Semaphore::new(shared.limits.sessions_max));
    loop {
        let (io, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection, will try again");
                sleep(ACCEPT_RETRY_TIME).await;
                continue;
            }
        };
        let (Ok(turn), Ok(seat)) = (handshakes.clone().try_acquire_owned(), seats.clone().try_acquire_owned()) else {
            tracing::warn!(%address, "connection turned away: too many sessions or handshakes");
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            match timeout(shared.limits.handshake, greet(&shared, io, address, seat)).await {
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

async fn greet(
    shared: &Shared,
    io: TcpStream,
    address: SocketAddr,
    seat: OwnedSemaphorePermit,
) -> Result<Session, DialCause> {
    prepare(&io, &shared.limits).map_err(broken)?;
    let mut io = TlsStream::from(shared.tls.accept(io).await.map_err(broken)?);
    let chain = chain_of(&io).to_vec();
    let fingerprint = chain_fingerprint(&chain);
    let known = |cluster, node| prove(&chain, cluster, node);
    let mut peer = None;
    let greeting = listen(&mut io, &shared.local, &known, |greeting| {
        if greeting.cluster != shared.local.cluster {
            let (theirs, ours) = (greeting.cluster.0, shared.local.cluster.0);
            return Err(format!("this is cluster {ours}, you are of cluster {theirs}"));
        }
        let found = Peer::new(greeting, address, fingerprint);
        (shared.admit)(&found)?;
        peer = Some(found);
        Ok(())
    })
    .await;
    if let Err(reason) = greeting {
        // The verdict must arrive before the connection goes: the peer hangs up when it has read it.
        let _ = io.shutdown().await;
        let _ = timeout(shared.limits.close, tokio::io::copy(&mut io, &mut tokio::io::sink())).await;
        return Err(reason);
    }
    let peer = peer.expect("a peer that was greeted was admitted");
    Ok(start(io, peer, &shared.limits, false, Some(seat)))
}
