//! Listens for clients, holds their number within a limit, and stops in order.
//!
//! Stopping: no client is accepted any more; an idle one is told (1053) and closed at once; one whose statement
//! runs is told after the statement; what still runs after `stop_timeout` is dropped, and with it its session.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::auth::DigestCache;
use super::connection;
use super::error::{self, SqlError};
use super::packet::put_packet;
use super::resultset::write_error;
use super::session::{Authenticator, ConnectionId, SessionFactory};

/// After a failed accept (no file descriptors left, usually) the next one is tried after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Limits of a server. The names of MySQL's variables stand beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Clients at a time, those that are logging in included (`max_connections`).
    pub connections_max: usize,
    /// Bytes of one packet from a client, and of all parameters that it sends ahead (`max_allowed_packet`).
    pub packet_bytes_max: usize,
    /// From accept to the proof of the password (`connect_timeout`).
    pub connect_timeout: Duration,
    /// Between two commands (`wait_timeout`).
    pub idle_timeout: Duration,
    /// Between two pieces of a packet (`net_read_timeout`).
    pub read_timeout: Duration,
    /// Without progress of a write (`net_write_timeout`).
    pub write_timeout: Duration,
    /// From the order to stop until what still runs is dropped.
    pub stop_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connections_max: 1000,
            packet_bytes_max: 64 << 20,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(28_800),
            read_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
        }
    }
}

/// What all connections of a server use.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) authenticator: Arc<dyn Authenticator>,
    pub(super) factory: Arc<dyn SessionFactory>,
    pub(super) digests: DigestCache,
    pub(super) stopping: CancellationToken,
    connections: Mutex<BTreeMap<ConnectionId, CancellationToken>>,
    questions: AtomicU64,
    since: Instant,
}

impl Shared {
    pub(super) fn count_question(&self) {
        self.questions.fetch_add(1, Ordering::Relaxed);
    }

    /// The answer to COM_STATISTICS, in MySQL's words.
    pub(super) fn statistics(&self) -> String {
        let uptime = self.since.elapsed().as_secs_f64();
        let questions = self.questions.load(Ordering::Relaxed);
        format!(
            "Uptime: {uptime:.0}  Threads: {}  Questions: {questions}  Slow queries: 0  Opens: 0  Flush tables: 0  \
             Open tables: 0  Queries per second avg: {:.3}",
            self.connections().len(),
            questions as f64 / uptime.max(1.0)
        )
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, CancellationToken>> {
        // The map is whole whatever its user did: every use is one call.
        self.connections.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A connection's place in the list, for as long as it is served.
struct Registration {
    shared: Arc<Shared>,
    id: ConnectionId,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.connections().remove(&self.id);
    }
}

/// A running MySQL server. Dropping it stops it at once, without telling clients.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: JoinHandle<()>,
}

impl Server {
    /// Serves the clients of `listener`. With `tls` it is offered to every client, and required of none.
    pub fn start(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        authenticator: Arc<dyn Authenticator>,
        factory: Arc<dyn SessionFactory>,
        options: Options,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            options,
            tls,
            authenticator,
            factory,
            digests: DigestCache::default(),
            stopping: CancellationToken::new(),
            connections: Mutex::new(BTreeMap::new()),
            questions: AtomicU64::new(0),
            since: Instant::now(),
        });
        let acceptor = tokio::spawn(accept(listener, shared.clone()));
        Ok(Server { shared, address, acceptor })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Clients at present, those that are logging in included.
    pub fn connection_count(&self) -> usize {
        self.shared.connections().len()
    }

    /// `KILL CONNECTION`: the client's statement is asked to stop, then the connection ends. False when there is
    /// no such connection.
    pub fn kill(&self, id: ConnectionId) -> bool {
        match self.shared.connections().get(&id) {
            Some(killed) => {
                killed.cancel();
                true
            }
            None => false,
        }
    }

    /// Stops, and returns when every connection has ended.
    pub async fn stop(mut self) {
        self.shared.stopping.cancel();
        if let Err(error) = (&mut self.acceptor).await {
            tracing::error!(%error, "the MySQL listener ended by itself");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let permits = Arc::new(Semaphore::new(shared.options.connections_max));
    let mut connections = JoinSet::new();
    let mut last_id = 0u32;
    loop {
        tokio::select! {
            () = shared.stopping.cancelled() => break,
            Some(ended) = connections.join_next() => report(ended),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => match permits.clone().try_acquire_owned() {
                    Ok(permit) => {
                        last_id = next_id(last_id, &shared);
                        begin(&mut connections, stream, address, ConnectionId(last_id), permit, &shared);
                    }
                    Err(_none_left) => refuse(stream, &shared.options),
                },
                Err(error) => {
                    tracing::error!(%error, "a MySQL client could not be accepted; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            report(ended)
        }
    };
    if tokio::time::timeout(shared.options.stop_timeout, all_ended).await.is_err() {
        tracing::warn!(count = connections.len(), "MySQL connections were dropped with their statements");
        connections.shutdown().await;
    }
}

/// Numbers come around after 2^32 connections; the oldest may still be there.
fn next_id(last: u32, shared: &Shared) -> u32 {
    let connections = shared.connections();
    let mut id = last.wrapping_add(1);
    while id == 0 || connections.contains_key(&ConnectionId(id)) {
        id = id.wrapping_add(1);
    }
    id
}

fn begin(
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    address: SocketAddr,
    id: ConnectionId,
    permit: OwnedSemaphorePermit,
    shared: &Arc<Shared>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %address, "a client was gone before it was greeted");
        return;
    }
    let killed = CancellationToken::new();
    shared.connections().insert(id, killed.clone());
    let registration = Registration { shared: shared.clone(), id, _permit: permit };
    connections.spawn(async move {
        let shared = registration.shared.clone();
        connection::serve(stream, address, id, killed, shared).await;
        drop(registration);
    });
}

/// Error 1040 in the place of a greeting. The buffer of a new stream takes these few bytes at once, so nobody waits
/// for the client; one that is gone already learns nothing.
fn refuse(stream: TcpStream, options: &Options) {
    let message = format!("Too many connections; the limit is {}", options.connections_max);
    let mut packet = BytesMut::new();
    put_packet(&mut packet, &mut 0, |out| write_error(out, &SqlError::new(error::CON_COUNT_ERROR, message)));
    if let Err(error) = stream.into_std().and_then(|mut stream| stream.write_all(&packet)) {
        tracing::debug!(%error, "a client was gone before it was refused");
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a MySQL connection ended by a panic; the others go on");
    }
}
