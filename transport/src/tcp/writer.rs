//! The task that writes a TCP session: gathers what is queued, writes it, and says something when there is nothing.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsStream;

use super::mux::Outgoing;
use crate::error::Closed;
use crate::frame::{Kind, Sealed};
use crate::handshake::cut;
use crate::limits::{CONTROL_BYTES_MAX, COPY_BYTES_MAX, WRITE_BATCH_BYTES};
use crate::session::farewell;
use crate::tcp::Mux;

type Io = WriteHalf<TlsStream<TcpStream>>;

/// What is about to be written: small frames in one piece, large payloads where they are.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
    paid: Vec<OwnedSemaphorePermit>,
}

impl Batch {
    fn add(&mut self, stream: u64, sealed: &Sealed) {
        self.bytes += sealed.payload.len();
        self.small.put_slice(&sealed.header(stream));
        if sealed.payload.len() <= COPY_BYTES_MAX {
            self.small.put_slice(&sealed.payload);
        } else {
            self.pieces.push(self.small.split().freeze());
            self.pieces.push(sealed.payload.clone());
        }
    }

    fn take(&mut self, mux: &Mux, outgoing: Outgoing) {
        let empty = |kind| Sealed::control(kind, Bytes::new());
        match outgoing {
            Outgoing::Data { stream, sealed, queue } => {
                self.add(stream, &sealed);
                self.paid.push(queue);
            }
            Outgoing::Open(stream) => self.add(stream, &empty(Kind::OPEN)),
            Outgoing::Window(stream, more) => {
                self.add(stream, &Sealed::control(Kind::WINDOW, Bytes::copy_from_slice(&more.to_le_bytes())))
            }
            Outgoing::Stop(stream) => self.add(stream, &empty(Kind::STOP)),
            Outgoing::End(stream) => {
                mux.on_end_taken(stream);
                self.add(stream, &empty(Kind::END));
            }
            Outgoing::Reset(stream) => {
                mux.on_end_taken(stream);
                self.add(stream, &empty(Kind::RESET));
            }
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
        self.pieces.reverse();
    }

    /// Writes what is left. May be cancelled and called again: it goes on where it was.
    async fn write(&mut self, io: &mut Io, limit: std::time::Duration) -> Result<(), Closed> {
        while let Some(piece) = self.pieces.last_mut() {
            if !piece.has_remaining() {
                self.pieces.pop();
                continue;
            }
            within(limit, io.write_buf(piece)).await?;
        }
        within(limit, io.flush()).await?;
        self.bytes = 0;
        self.paid.clear();
        Ok(())
    }
}

async fn within<T>(limit: std::time::Duration, action: impl Future<Output = io::Result<T>>) -> Result<T, Closed> {
    match timeout(limit, action).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Closed::Lost(error.to_string())),
        Err(_) => Err(Closed::SlowReader(limit)),
    }
}

/// Writes until the session is over, then the farewell.
pub(super) async fn run(mux: Arc<Mux>, mut outgoing: mpsc::UnboundedReceiver<Outgoing>, mut io: Io) {
    let core = mux.core().clone();
    let mut batch = Batch::default();
    let reason = {
        let mut here = pin!(core.wait());
        tokio::select! {
            biased;
            reason = &mut here => reason,
            reason = write_all(&mux, &mut outgoing, &mut batch, &mut io) => core.close(reason),
        }
    };
    mux.shut();
    let limit = core.limits().close;
    if let Some(text) = farewell(&reason) {
        // A frame that was begun is finished first, or the farewell would be read as a part of it.
        let last = async {
            batch.write(&mut io, limit).await?;
            let text = Bytes::copy_from_slice(cut(&text, CONTROL_BYTES_MAX).as_bytes());
            batch.add(0, &Sealed::control(Kind::FAREWELL, text));
            batch.seal();
            batch.write(&mut io, limit).await
        };
        let _ = timeout(limit, last).await;
    }
    let _ = timeout(limit, io.shutdown()).await;
}

async fn write_all(
    mux: &Arc<Mux>,
    outgoing: &mut mpsc::UnboundedReceiver<Outgoing>,
    batch: &mut Batch,
    io: &mut Io,
) -> Closed {
    let limits = mux.core().limits().clone();
    loop {
        tokio::select! {
            next = outgoing.recv() => match next {
                Some(next) => batch.take(mux, next),
                // The multiplexer is held by this task, so its sender is too.
                None => unreachable!("the sender lives as long as the multiplexer"),
            },
            () = sleep(limits.keep_alive) => batch.add(0, &Sealed::control(Kind::PING, Bytes::new())),
        }
        while batch.bytes < WRITE_BATCH_BYTES
            && let Ok(next) = outgoing.try_recv()
        {
            batch.take(mux, next);
        }
        batch.seal();
        if let Err(reason) = batch.write(io, limits.write).await {
            return reason;
        }
    }
}
