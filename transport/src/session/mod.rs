//! A session: one peer, one main stream, and more streams on demand. The same type over TCP and QUIC.
//!
//! ```text
//! Session ── Control    who, open a stream, close, why it closed         any number of clones
//!         ├─ Incoming   streams that the peer opens                      one owner
//!         ├─ sender     main stream, this side to the peer               any number of clones
//!         └─ receiver   main stream, the peer to this side               one owner
//! ```
//!
//! - Frames of one stream arrive in order, each at most once; frames of different streams in any order.
//! - `send` returns when the frame is queued. Nothing says that the peer has it, but an answer of the peer.
//! - Every queue is bounded in bytes. A sender waits for its reader; when the time limit ends, the main stream ends
//!   the session and another stream ends itself. No slow reader costs memory.
//! - Every method that waits may be cancelled: it then has done nothing, or all.
//! - A session ends once, with one [`Closed`] that every part reports. Frames that arrived before can still be read.
//!   It also ends when its last part is dropped.
//! - A stream that is dropped before `finish` is reset: its reader learns that it has not seen all.

mod core;
mod stream;

use std::sync::Arc;

pub use self::core::Control;
pub(crate) use self::core::{Carrier, Core, Guard, farewell};
pub(crate) use self::stream::{Flag, Outlet, Room, Source};
pub use self::stream::{Stream, StreamReceiver, StreamSender};

use tokio::sync::mpsc;

use crate::error::{Closed, StreamError};
use crate::frame::Frame;
use crate::identity::Peer;
use crate::limits::Limits;
use crate::quic::QuicConnection;

/// A session with one peer.
#[derive(Debug)]
pub struct Session {
    control: Control,
    incoming: Incoming,
    main: Stream,
}

impl Session {
    pub(crate) fn new(control: Control, incoming: Incoming, main: Stream) -> Session {
        Session { control, incoming, main }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.control.peer()
    }

    /// A handle to open streams and to close.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Sends on the main stream. Waits while the peer does not read; in the end that ends the session.
    pub async fn send(&self, frame: Frame) -> Result<(), StreamError> {
        self.main.sender.send(frame).await
    }

    /// The next frame of the main stream; `None` when the peer has finished it.
    pub async fn recv(&mut self) -> Result<Option<Frame>, StreamError> {
        self.main.receiver.recv().await
    }

    /// Opens a stream beside the main one.
    pub async fn open(&self) -> Result<Stream, Closed> {
        self.control.open().await
    }

    /// The next stream that the peer opens.
    pub async fn accept(&mut self) -> Result<Stream, Closed> {
        self.incoming.accept().await
    }

    /// Ends the session. The peer is told the reason if it still listens.
    pub fn close(&self, reason: &str) {
        self.control.close(reason);
    }

    /// Waits until the session is over, whoever ended it.
    pub async fn closed(&self) -> Closed {
        self.control.closed().await
    }

    /// Takes the session apart, for one task per part.
    pub fn split(self) -> (Control, Incoming, StreamSender, StreamReceiver) {
        (self.control, self.incoming, self.main.sender, self.main.receiver)
    }
}

/// The streams that the peer opens.
#[derive(Debug)]
pub struct Incoming {
    from: Arrivals,
    guard: Arc<Guard>,
}

#[derive(Debug)]
pub(crate) enum Arrivals {
    Tcp(mpsc::UnboundedReceiver<Stream>),
    Quic(QuicConnection),
}

impl Incoming {
    pub(crate) fn new(from: Arrivals, guard: Arc<Guard>) -> Incoming {
        Incoming { from, guard }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.guard.core().peer()
    }

    /// The limits of this side.
    pub fn limits(&self) -> &Limits {
        self.guard.core().limits()
    }

    /// The next stream that the peer opens. Ends with the reason when the session is over.
    pub async fn accept(&mut self) -> Result<Stream, Closed> {
        match &mut self.from {
            Arrivals::Tcp(streams) => match streams.recv().await {
                Some(stream) => Ok(stream),
                None => Err(self.guard.core().wait().await),
            },
            Arrivals::Quic(connection) => connection.accept(&self.guard).await,
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Arrivals::Quic(connection) = &self.from {
            connection.refuse_streams();
        }
    }
}
