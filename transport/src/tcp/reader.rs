//! The task that reads a TCP session: bytes to frames to streams, until the session ends for any reason.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::error::Closed;
use crate::frame::{Decoder, Kind, Sealed};
use crate::limits::{READ_CHUNK_BYTES, SESSION_RECEIVE_BYTES};
use crate::session::Core;
use crate::tcp::Mux;

type Io = ReadHalf<TlsStream<TcpStream>>;

/// Reads until the session is over. `seat` counts the session for its listener.
pub(super) async fn run(mux: Arc<Mux>, mut io: Io, seat: Option<OwnedSemaphorePermit>) {
    let core = mux.core().clone();
    let ended = {
        let mut here = pin!(core.wait());
        tokio::select! {
            biased;
            reason = read_all(&mux, &mut io) => core.close(reason),
            reason = &mut here => reason,
        }
    };
    mux.shut();
    if matches!(ended, Closed::Here(_) | Closed::BadBytes(_) | Closed::SlowReader(_)) {
        linger(&core, &mut io).await;
    }
    drop(seat);
}

async fn read_all(mux: &Arc<Mux>, io: &mut Io) -> Closed {
    let idle = mux.core().limits().idle;
    let mut decoder = Decoder::default();
    loop {
        decoder.buffer().reserve(READ_CHUNK_BYTES);
        match timeout(idle, io.read_buf(decoder.buffer())).await {
            Err(_) => return Closed::Silent(idle),
            // TLS tells an end without its own farewell apart.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return gone(&decoder),
            Ok(Err(error)) => return closed_of(error),
            Ok(Ok(0)) => return gone(&decoder),
            Ok(Ok(_)) => {}
        }
        loop {
            match decoder.next(true) {
                Ok(Some((stream, sealed))) => {
                    if let Err(reason) = on_frame(mux, stream, sealed).await {
                        return reason;
                    }
                }
                Ok(None) => break,
                Err(error) => return Closed::BadBytes(error.to_string()),
            }
        }
    }
}

async fn on_frame(mux: &Arc<Mux>, stream: u64, sealed: Sealed) -> Result<(), Closed> {
    match sealed.kind {
        Kind::PING => Ok(()),
        Kind::FAREWELL => Err(Closed::Peer(String::from_utf8_lossy(&sealed.payload).into_owned())),
        kind if kind.is_control() => mux.on_control(stream, &sealed).map_err(Closed::BadBytes),
        _ => {
            let limit = mux.core().limits().send;
            let room = mux.room_to_receive(sealed.charge(SESSION_RECEIVE_BYTES));
            let Ok(room) = timeout(limit, room).await else {
                let reason = format!("the owners of this session's streams have not read for {limit:?}");
                return Err(Closed::Here(reason));
            };
            // Without room the session is over already.
            let Some(room) = room else { return Err(mux.core().wait().await) };
            mux.on_data(stream, sealed, room).map_err(Closed::BadBytes)
        }
    }
}

fn gone(decoder: &Decoder) -> Closed {
    let how = if decoder.is_amid_frame() { "amid a frame" } else { "without a farewell" };
    Closed::Lost(format!("the peer is gone {how}"))
}

/// What an error of the socket means. TLS reports damaged records through the same type.
fn closed_of(error: io::Error) -> Closed {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => Closed::BadBytes(tls.to_string()),
        None => Closed::Lost(error.to_string()),
    }
}

/// Takes what the peer still sends until it hangs up: bytes that nobody reads would make the system reset the
/// connection, and the farewell would be lost with it.
async fn linger(core: &Core, io: &mut Io) {
    let mut rest = vec![0; READ_CHUNK_BYTES];
    let drain = async { while matches!(io.read(&mut rest).await, Ok(read) if read > 0) {} };
    let _ = timeout(core.limits().close, drain).await;
}
