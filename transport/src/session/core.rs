//! What the parts of a session share: its peer, its limits, and how it ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

use crate::error::Closed;
use crate::identity::Peer;
use crate::limits::Limits;
use crate::quic::QuicConnection;
use crate::session::Stream;
use crate::tcp::Mux;

/// The state of a session that its tasks hold as well.
///
/// - `end` goes from nothing to one reason and never changes again.
pub(crate) struct Core {
    peer: Peer,
    limits: Limits,
    trusted: AtomicBool,
    end: watch::Sender<Option<Closed>>,
}

impl Core {
    pub(crate) fn new(peer: Peer, limits: Limits, trusted: bool) -> Core {
        Core { peer, limits, trusted: AtomicBool::new(trusted), end: watch::Sender::new(None) }
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether frames may have their full size.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Relaxed)
    }

    pub(crate) fn trust(&self) {
        self.trusted.store(true, Ordering::Relaxed);
    }

    /// Ends the session, unless it has ended; returns the reason that stays. The one place that logs an end.
    pub(crate) fn close(&self, reason: Closed) -> Closed {
        let first = self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(reason.clone());
            }
            first
        });
        if !first {
            return self.closed().expect("it has ended before");
        }
        let peer = &self.peer;
        match &reason {
            Closed::BadBytes(_) => tracing::warn!(%peer, %reason, "session ended"),
            Closed::Lost(_) | Closed::Silent(_) | Closed::SlowReader(_) => {
                tracing::info!(%peer, %reason, "session ended")
            }
            Closed::Here(_) | Closed::Peer(_) => tracing::debug!(%peer, %reason, "session ended"),
        }
        reason
    }

    /// The reason, if the session is over.
    pub(crate) fn closed(&self) -> Option<Closed> {
        self.end.borrow().clone()
    }

    /// True if the session is over.
    pub(crate) fn is_over(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for the end.
    pub(crate) async fn wait(&self) -> Closed {
        let mut end = self.end.subscribe();
        let end = end.wait_for(Option::is_some).await.expect("the sender is a field of self");
        end.clone().expect("it was waited for")
    }
}

/// What a session's end is called in the farewell to the peer; `None` if there is nobody to tell.
pub(crate) fn farewell(reason: &Closed) -> Option<String> {
    match reason {
        Closed::Here(text) => Some(text.clone()),
        Closed::Silent(_) | Closed::SlowReader(_) | Closed::BadBytes(_) => Some(reason.to_string()),
        Closed::Peer(_) | Closed::Lost(_) => None,
    }
}

/// Held by every part of a session that its owner has; the last one to go ends the session.
pub(crate) struct Guard(Arc<Core>);

impl Guard {
    pub(crate) fn new(core: Arc<Core>) -> Arc<Guard> {
        Arc::new(Guard(core))
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.closed().is_none() {
            self.0.close(Closed::Here("no longer needed".into()));
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session with {}", self.0.peer)
    }
}

/// What carries a session.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    Tcp(Arc<Mux>),
    Quic(QuicConnection),
}

/// A handle to a session: cheap to clone, usable from any task.
#[derive(Clone, Debug)]
pub struct Control {
    carrier: Carrier,
    guard: Arc<Guard>,
}

impl Control {
    pub(crate) fn new(carrier: Carrier, guard: Arc<Guard>) -> Control {
        Control { carrier, guard }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.guard.core().peer()
    }

    /// The limits of this side.
    pub fn limits(&self) -> &Limits {
        self.guard.core().limits()
    }

    /// Opens a stream beside the main one. Waits while as many are open as the peer allows.
    pub async fn open(&self) -> Result<Stream, Closed> {
        if let Some(closed) = self.closed_reason() {
            return Err(closed);
        }
        match &self.carrier {
            Carrier::Tcp(mux) => mux.open(&self.guard).await,
            Carrier::Quic(connection) => connection.open(&self.guard).await,
        }
    }

    /// Gives a peer that dialled over QUIC its full limits, after it has proved itself by password or token. Until
    /// then its frames, its streams and what it may have under way are small. Peers in a region are trusted from the
    /// start: their certificate is their proof.
    pub fn trust_peer(&self) {
        self.guard.core().trust();
        if let Carrier::Quic(connection) = &self.carrier {
            connection.widen();
        }
    }

    /// Ends the session. Frames that are still queued may be lost; the peer is told the reason if it still listens.
    pub fn close(&self, reason: &str) {
        self.guard.core().close(Closed::Here(reason.to_owned()));
    }

    /// The reason, if the session is over.
    pub fn closed_reason(&self) -> Option<Closed> {
        self.guard.core().closed()
    }

    /// Waits until the session is over, whoever ended it.
    pub async fn closed(&self) -> Closed {
        self.guard.core().wait().await
    }

    /// A future that ends with the session and does not keep it alive.
    pub fn watch_closed(&self) -> impl Future<Output = Closed> + Send + use<> {
        let core = self.guard.core().clone();
        async move { core.wait().await }
    }
}
