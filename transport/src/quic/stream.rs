//! One stream of a QUIC session: the task that writes it, and its two ends.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::connection::end;
use crate::error::{Closed, StreamError};
use crate::frame::{Decoder, FrameError, Kind, Sealed};
use crate::limits::{QUIC_QUEUE_BYTES, READ_CHUNK_BYTES, SESSION_RECEIVE_BYTES};
use crate::session::{Core, Flag, Guard, Outlet, Room, Source, Stream, StreamReceiver, StreamSender};

/// The code with which a stream is reset or stopped; the reason is known to those who do it.
const STREAM_CODE: VarInt = VarInt::from_u32(0);

enum Outgoing {
    Open,
    Data(Sealed, [OwnedSemaphorePermit; 2]),
    End,
}

/// A stream that this side has opened.
pub(super) fn open_stream(halves: (SendStream, RecvStream), queue: &Arc<Semaphore>, guard: &Arc<Guard>) -> Stream {
    let (outlet, stopped) = QuicOutlet::new(halves.0, queue, guard.core());
    outlet.announce();
    join(outlet, stopped, halves.1, false, guard)
}

/// The main stream, or one that the peer has opened.
pub(super) fn stream_of(
    halves: (SendStream, RecvStream),
    queue: &Arc<Semaphore>,
    is_main: bool,
    guard: &Arc<Guard>,
) -> Stream {
    let (outlet, stopped) = QuicOutlet::new(halves.0, queue, guard.core());
    join(outlet, stopped, halves.1, is_main, guard)
}

fn join(outlet: QuicOutlet, stopped: Arc<Flag>, half: RecvStream, is_main: bool, guard: &Arc<Guard>) -> Stream {
    let source = QuicSource { half, decoder: Decoder::default() };
    Stream {
        sender: StreamSender::new(Outlet::Quic(outlet), stopped, is_main, guard.clone()),
        receiver: StreamReceiver::new(Source::Quic(Box::new(source)), guard.clone()),
    }
}

/// The sending side of a stream.
pub(crate) struct QuicOutlet {
    /// Bounded by `room`.
    to_write: mpsc::UnboundedSender<Outgoing>,
    room: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    abandoned: Arc<Flag>,
}

impl QuicOutlet {
    fn new(half: SendStream, queue: &Arc<Semaphore>, core: &Arc<Core>) -> (QuicOutlet, Arc<Flag>) {
        let (to_write, outgoing) = mpsc::unbounded_channel();
        let (room, stopped, abandoned) =
            (Arc::new(Semaphore::new(QUIC_QUEUE_BYTES as usize)), Flag::new(), Flag::new());
        let writer = Writer {
            half,
            outgoing,
            room: room.clone(),
            stopped: stopped.clone(),
            abandoned: abandoned.clone(),
            core: core.clone(),
        };
        tokio::spawn(writer.run());
        (QuicOutlet { to_write, room, queue: queue.clone(), abandoned }, stopped)
    }

    fn announce(&self) {
        // Fails only when the writer is gone: whoever uses the stream then learns why.
        let _ = self.to_write.send(Outgoing::Open);
    }

    /// The semaphores to pay, with their sizes.
    pub(crate) fn room(&self) -> (&Arc<Semaphore>, u32, &Arc<Semaphore>, u32) {
        (&self.room, QUIC_QUEUE_BYTES, &self.queue, SESSION_RECEIVE_BYTES)
    }

    /// Queues a frame that is paid for; false if the stream has ended.
    pub(crate) fn push(&self, sealed: Sealed, room: Room) -> bool {
        self.to_write.send(Outgoing::Data(sealed, [room.stream, room.queue])).is_ok()
    }

    pub(crate) fn finish(&self) {
        let _ = self.to_write.send(Outgoing::End);
    }

    pub(crate) fn reset(&self) {
        self.abandoned.set();
    }
}

impl fmt::Debug for QuicOutlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream over QUIC")
    }
}

/// The task that writes a stream.
struct Writer {
    half: SendStream,
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    room: Arc<Semaphore>,
    stopped: Arc<Flag>,
    abandoned: Arc<Flag>,
    core: Arc<Core>,
}

impl Writer {
    async fn run(mut self) {
        let (stopped, abandoned, core) = (self.half.stopped(), self.abandoned.clone(), self.core.clone());
        let finished = tokio::select! {
            biased;
            written = self.write_all() => written,
            answer = stopped => {
                if let Err(StoppedError::ConnectionLost(error)) = answer {
                    end(&core, &error);
                }
                false
            }
            () = abandoned.wait() => false,
            _ = core.wait() => false,
        };
        self.room.close();
        self.stopped.set();
        if self.core.is_over() {
            // The reason of the connection's close says more than a reset. Dropping the half before would finish it,
            // and what was cut off would look whole.
            let _ = self.half.stopped().await;
        } else if !finished {
            // Fails if the stream or the connection has ended: then there is nothing to reset.
            let _ = self.half.reset(STREAM_CODE);
        }
    }

    /// True if the stream was finished in good order.
    async fn write_all(&mut self) -> bool {
        while let Some(outgoing) = self.outgoing.recv().await {
            let (sealed, _paid) = match outgoing {
                Outgoing::Open => (Sealed::control(Kind::OPEN, Bytes::new()), None),
                Outgoing::Data(sealed, paid) => (sealed, Some(paid)),
                Outgoing::End => return self.half.finish().is_ok(),
            };
            let header = Bytes::copy_from_slice(&sealed.header(0));
            if let Err(error) = self.half.write_all_chunks(&mut [header, sealed.payload]).await {
                if let WriteError::ConnectionLost(error) = error {
                    end(&self.core, &error);
                }
                return false;
            }
        }
        false
    }
}

/// The receiving side of a stream. QUIC stops the peer when it is dropped before the end.
pub(crate) struct QuicSource {
    half: RecvStream,
    decoder: Decoder,
}

impl QuicSource {
    pub(crate) async fn recv(&mut self, core: &Core) -> Result<Option<Sealed>, StreamError> {
        let bad = |error: String| StreamError::Closed(core.close(Closed::BadBytes(error)));
        loop {
            match self.decoder.next(core.is_trusted()).map_err(|error| bad(error.to_string()))? {
                Some((0, sealed)) if sealed.kind == Kind::OPEN => continue,
                Some((0, sealed)) if !sealed.kind.is_control() => return Ok(Some(sealed)),
                Some((0, sealed)) => return Err(bad(FrameError::Kind(sealed.kind.code()).to_string())),
                Some((stream, _)) => return Err(bad(format!("a frame for stream {stream} within a QUIC stream"))),
                None => {}
            }
            match self.half.read_chunk(READ_CHUNK_BYTES, true).await {
                Ok(Some(chunk)) => self.decoder.buffer().extend_from_slice(&chunk.bytes),
                Ok(None) if self.decoder.is_amid_frame() => return Err(bad("a stream ends amid a frame".into())),
                Ok(None) => return Ok(None),
                Err(ReadError::Reset(_)) => return Err(StreamError::Reset),
                Err(ReadError::ConnectionLost(error)) => return Err(StreamError::Closed(end(core, &error))),
                Err(error @ (ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected)) => {
                    unreachable!("the stream is read in order, by one reader, to its end: {error}")
                }
            }
        }
    }
}

impl fmt::Debug for QuicSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {} over QUIC", self.half.id())
    }
}
