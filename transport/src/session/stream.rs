//! A stream of a session: two directions, each ordered and bounded.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Closed, StreamError};
use crate::frame::{Frame, Sealed};
use crate::identity::Peer;
use crate::quic::{QuicOutlet, QuicSource};
use crate::session::Guard;
use crate::tcp::{TcpOutlet, TcpSource};

/// Both directions of a stream.
#[derive(Debug)]
pub struct Stream {
    /// This side to the peer.
    pub sender: StreamSender,
    /// The peer to this side.
    pub receiver: StreamReceiver,
}

/// Something that happens once and can be waited for.
#[derive(Debug)]
pub(crate) struct Flag(Semaphore);

impl Flag {
    pub(crate) fn new() -> Arc<Flag> {
        Arc::new(Flag(Semaphore::new(0)))
    }

    pub(crate) fn set(&self) {
        self.0.close();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.is_closed()
    }

    pub(crate) async fn wait(&self) {
        // A semaphore that never has permits answers only when it is closed.
        let answer = self.0.acquire().await;
        assert!(answer.is_err(), "a flag has no permits to give");
    }
}

/// Where a direction's frames go.
#[derive(Debug)]
pub(crate) enum Outlet {
    Tcp(TcpOutlet),
    Quic(QuicOutlet),
}

/// One direction, sending side. Clones send on the same stream, each frame whole.
#[derive(Clone)]
pub struct StreamSender {
    side: Arc<SendSide>,
}

struct SendSide {
    outlet: Outlet,
    /// Set when the peer wants no more.
    stopped: Arc<Flag>,
    finished: AtomicBool,
    bytes: AtomicU64,
    is_main: bool,
    guard: Arc<Guard>,
}

impl StreamSender {
    pub(crate) fn new(outlet: Outlet, stopped: Arc<Flag>, is_main: bool, guard: Arc<Guard>) -> StreamSender {
        let (finished, bytes) = (AtomicBool::new(false), AtomicU64::new(0));
        StreamSender { side: Arc::new(SendSide { outlet, stopped, finished, bytes, is_main, guard }) }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.side.guard.core().peer()
    }

    /// Queues a frame. Waits while the peer does not read, up to `Limits::send`.
    pub async fn send(&self, frame: Frame) -> Result<(), StreamError> {
        self.send_within(frame, self.side.guard.core().limits().send).await
    }

    /// Queues a frame. Waits while the peer does not read, up to `limit`; then the stream is given up, and the session
    /// too if this is its main stream.
    pub async fn send_within(&self, frame: Frame, limit: Duration) -> Result<(), StreamError> {
        let side = &self.side;
        side.check()?;
        let sealed = frame.seal()?;
        let room = match tokio::time::timeout(limit, side.outlet.room_for(&sealed)).await {
            Ok(Some(room)) => room,
            Ok(None) => return Err(side.ended()),
            Err(_) => return Err(side.give_up(limit)),
        };
        side.check()?;
        let bytes = sealed.wire_bytes();
        if !side.outlet.push(sealed, room) {
            return Err(side.ended());
        }
        side.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Bytes of the frames that were queued, as they go over the wire: compressed, with their headers, without TLS or
    /// QUIC around them.
    pub fn bytes_sent(&self) -> u64 {
        self.side.bytes.load(Ordering::Relaxed)
    }

    /// Ends the direction in good order: the reader gets what was queued, then the end. Further calls do nothing.
    pub fn finish(&self) {
        if !self.side.finished.swap(true, Ordering::AcqRel) {
            self.side.outlet.finish();
        }
    }

    /// Waits until the peer wants no more of this stream or the session is over.
    pub async fn stopped(&self) {
        self.side.stopped.wait().await;
    }
}

impl SendSide {
    fn check(&self) -> Result<(), StreamError> {
        if self.finished.load(Ordering::Acquire) {
            return Err(StreamError::Finished);
        }
        // The session's end is known before its tasks have woken everybody.
        if self.stopped.is_set() || self.guard.core().is_over() { Err(self.ended()) } else { Ok(()) }
    }

    /// Why nothing can be sent: the session's end, or the peer's wish.
    fn ended(&self) -> StreamError {
        self.guard.core().closed().map_or(StreamError::Stopped, StreamError::Closed)
    }

    fn give_up(&self, limit: Duration) -> StreamError {
        if self.is_main {
            return StreamError::Closed(self.guard.core().close(Closed::SlowReader(limit)));
        }
        if !self.finished.swap(true, Ordering::AcqRel) {
            self.outlet.reset();
        }
        StreamError::SlowReader(limit)
    }
}

impl Drop for SendSide {
    fn drop(&mut self) {
        if !self.finished.load(Ordering::Acquire) {
            self.outlet.reset();
        }
    }
}

impl fmt::Debug for StreamSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamSender({:?})", self.side.outlet)
    }
}

/// The room that was made for a frame; given back when it is dropped.
pub(crate) struct Room {
    /// In the stream.
    pub stream: OwnedSemaphorePermit,
    /// In the session's queue.
    pub queue: OwnedSemaphorePermit,
}

impl Outlet {
    /// Waits for room; `None` if there will be none.
    async fn room_for(&self, sealed: &Sealed) -> Option<Room> {
        let (stream, window, queue, queue_max) = match self {
            Outlet::Tcp(outlet) => outlet.room(),
            Outlet::Quic(outlet) => outlet.room(),
        };
        let stream = stream.clone().acquire_many_owned(sealed.charge(window)).await.ok()?;
        let queue = queue.clone().acquire_many_owned(sealed.charge(queue_max)).await.ok()?;
        Some(Room { stream, queue })
    }

    fn push(&self, sealed: Sealed, room: Room) -> bool {
        match self {
            Outlet::Tcp(outlet) => outlet.push(sealed, room),
            Outlet::Quic(outlet) => outlet.push(sealed, room),
        }
    }

    fn finish(&self) {
        match self {
            Outlet::Tcp(outlet) => outlet.finish(),
            Outlet::Quic(outlet) => outlet.finish(),
        }
    }

    fn reset(&self) {
        match self {
            Outlet::Tcp(outlet) => outlet.reset(),
            Outlet::Quic(outlet) => outlet.reset(),
        }
    }
}

/// Where a direction's frames come from.
#[derive(Debug)]
pub(crate) enum Source {
    Tcp(TcpSource),
    Quic(Box<QuicSource>),
}

/// One direction, receiving side. Dropping it before the end tells the peer to stop.
#[derive(Debug)]
pub struct StreamReceiver {
    source: Source,
    guard: Arc<Guard>,
    /// How the direction ended: `true` in good order.
    end: Option<bool>,
    bytes: u64,
}

impl StreamReceiver {
    pub(crate) fn new(source: Source, guard: Arc<Guard>) -> StreamReceiver {
        StreamReceiver { source, guard, end: None, bytes: 0 }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        self.guard.core().peer()
    }

    /// Bytes of the frames that were read, as they came over the wire; the counterpart of
    /// [`StreamSender::bytes_sent`].
    pub fn bytes_received(&self) -> u64 {
        self.bytes
    }

    /// The next frame; `None` when the sender has finished. May be cancelled: no frame is lost.
    pub async fn recv(&mut self) -> Result<Option<Frame>, StreamError> {
        match self.end {
            Some(true) => return Ok(None),
            Some(false) => return Err(StreamError::Reset),
            None => {}
        }
        let core = self.guard.core();
        let sealed = match &mut self.source {
            Source::Tcp(source) => source.recv(core).await,
            Source::Quic(source) => source.recv(core).await,
        };
        match sealed {
            Ok(Some(sealed)) => {
                self.bytes += sealed.wire_bytes();
                sealed
                    .open(core.is_trusted())
                    .map(Some)
                    .map_err(|error| StreamError::Closed(core.close(Closed::BadBytes(error.to_string()))))
            }
            Ok(None) => {
                self.end = Some(true);
                Ok(None)
            }
            Err(error) => {
                if error == StreamError::Reset {
                    self.end = Some(false);
                }
                Err(error)
            }
        }
    }
}
