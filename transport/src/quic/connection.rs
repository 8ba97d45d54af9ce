//! A QUIC connection as the carrier of a session.

use std::fmt;
use std::sync::Arc;

use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::stream::{open_stream, stream_of};
use crate::error::Closed;
use crate::handshake::cut;
use crate::identity::Peer;
use crate::limits::{CONTROL_BYTES_MAX, Limits, SESSION_RECEIVE_BYTES, STREAMS_MAX};
use crate::session::{Arrivals, Carrier, Control, Core, Guard, Incoming, Session, Stream, farewell};

/// The code with which a session closes its connection; the reason is its text.
const CLOSE_CODE: VarInt = VarInt::from_u32(0);

#[derive(Clone)]
pub(crate) struct QuicConnection {
    connection: Connection,
    core: Arc<Core>,
    queue: Arc<Semaphore>,
}

impl QuicConnection {
    /// Starts a session on a connection whose handshake is done, with the stream that carried it as main stream.
    pub(super) fn start(
        connection: Connection,
        main: (SendStream, RecvStream),
        peer: Peer,
        limits: &Limits,
        trusted: bool,
        seat: Option<OwnedSemaphorePermit>,
    ) -> Session {
        let core = Arc::new(Core::new(peer, limits.clone(), trusted));
        let guard = Guard::new(core.clone());
        let queue = Arc::new(Semaphore::new(SESSION_RECEIVE_BYTES as usize));
        let carrier = QuicConnection { connection: connection.clone(), core: core.clone(), queue };
        tokio::spawn(watch(connection, core, carrier.queue.clone(), seat));
        let main = stream_of(main, &carrier.queue, true, &guard);
        let control = Control::new(Carrier::Quic(carrier.clone()), guard.clone());
        Session::new(control, Incoming::new(Arrivals::Quic(carrier), guard), main)
    }

    pub(crate) async fn open(&self, guard: &Arc<Guard>) -> Result<Stream, Closed> {
        match self.connection.open_bi().await {
            Ok(halves) => Ok(open_stream(halves, &self.queue, guard)),
            Err(error) => Err(self.ended(&error)),
        }
    }

    pub(crate) async fn accept(&self, guard: &Arc<Guard>) -> Result<Stream, Closed> {
        match self.connection.accept_bi().await {
            Ok(halves) => Ok(stream_of(halves, &self.queue, false, guard)),
            Err(error) => Err(self.ended(&error)),
        }
    }

    /// Full limits for the peer.
    pub(crate) fn widen(&self) {
        self.connection.set_receive_window(VarInt::from_u32(SESSION_RECEIVE_BYTES));
        self.connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_MAX));
    }

    /// Turns away every stream that the peer opens, now that nobody accepts any.
    pub(crate) fn refuse_streams(&self) {
        let connection = self.connection.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            while let Ok((mut sending, _receiving)) = connection.accept_bi().await {
                // Fails only if the connection has ended, as the loop then does.
                let _ = sending.reset(CLOSE_CODE);
            }
        });
    }

    fn ended(&self, error: &ConnectionError) -> Closed {
        end(&self.core, error)
    }
}

impl fmt::Debug for QuicConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QUIC session with {}", self.core.peer())
    }
}

/// Waits for the end from either side, and tells the other.
async fn watch(connection: Connection, core: Arc<Core>, queue: Arc<Semaphore>, seat: Option<OwnedSemaphorePermit>) {
    tokio::select! {
        biased;
        error = connection.closed() => {
            end(&core, &error);
        }
        reason = core.wait() => {
            let text = farewell(&reason).unwrap_or_default();
            connection.close(CLOSE_CODE, cut(&text, CONTROL_BYTES_MAX).as_bytes());
        }
    }
    queue.close();
    drop(seat);
}

/// Ends the session for what QUIC reports; returns the reason that stays.
pub(super) fn end(core: &Core, error: &ConnectionError) -> Closed {
    core.close(match error {
        ConnectionError::ApplicationClosed(close) => Closed::Peer(String::from_utf8_lossy(&close.reason).into_owned()),
        ConnectionError::TimedOut => Closed::Silent(core.limits().link_idle),
        ConnectionError::TransportError(error) => Closed::BadBytes(error.to_string()),
        ConnectionError::LocallyClosed => Closed::Here("the process ends".into()),
        ConnectionError::VersionMismatch
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::Reset
        | ConnectionError::CidsExhausted => Closed::Lost(error.to_string()),
    })
}
