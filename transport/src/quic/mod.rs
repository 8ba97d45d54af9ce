//! Sessions over QUIC, between regions. A session is a connection, a stream of it a bidirectional QUIC stream: loss on
//! one does not hold up another, and each has its own flow control.
//!
//! - Listener and dialler each have one UDP socket; the listener's may have the number of the SQL port, which is TCP.
//! - The first stream carries the hellos and is then the main stream. Every other begins with an OPEN frame, so that
//!   its reader hears of it at once.
//! - QUIC closes a direction in good order (finish), by its sender (reset) or by its receiver (stop); these are the
//!   END, RESET and STOP of TCP. A farewell is the reason of the connection's close.
//! - One task per session waits for its end; one task per stream writes it, so that a cancelled `send` never leaves
//!   half a frame.
//! - A peer that dialled is not trusted until the session's owner says so: until then its frames, its streams and what
//!   it may have under way are small.
//! - A process that dies says nothing, and UDP has no refusal: such a peer is `Silent` after the idle time.

mod connection;
mod dial;
mod listen;
mod stream;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) use connection::QuicConnection;
pub use dial::QuicDialler;
pub use listen::QuicListener;
pub(crate) use stream::{QuicOutlet, QuicSource};

use crate::limits::{
    Limits, QUIC_STREAM_WINDOW_BYTES, SESSION_RECEIVE_BYTES, STREAMS_MAX, UDP_BUFFER_BYTES, UNTRUSTED_RECEIVE_BYTES,
    UNTRUSTED_STREAMS_MAX,
};

/// The flow control and timers of a connection. A listener's begins with what an untrusted peer may have.
fn transport(limits: &Limits, trusted: bool) -> Arc<TransportConfig> {
    let (receive, streams) =
        if trusted { (SESSION_RECEIVE_BYTES, STREAMS_MAX) } else { (UNTRUSTED_RECEIVE_BYTES, UNTRUSTED_STREAMS_MAX) };
    let idle = IdleTimeout::try_from(limits.link_idle).expect("an idle time is far below QUIC's 2^62 ms");
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keep_alive))
        .stream_receive_window(VarInt::from_u32(QUIC_STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(receive))
        .send_window(u64::from(SESSION_RECEIVE_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

/// An endpoint with its own UDP socket.
fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> std::io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // The system may give less, and says nothing: QUIC then sends in smaller bursts.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Endpoint::new(EndpointConfig::default(), server, UdpSocket::from(socket), Arc::new(TokioRuntime))
}
