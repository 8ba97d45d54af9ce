//! Sessions over TCP with mutual TLS, in a region. One connection per session, its streams multiplexed (`mux.rs`); one
//! task reads it (`reader.rs`), one writes it (`writer.rs`).
//!
//! A listener accepts for as long as it lives, also while its owner is busy: a refused connection must mean that the
//! process is gone.

mod dial;
mod listen;
mod mux;
mod reader;
mod writer;

use std::sync::Arc;

use socket2::SockRef;
use tokio::io::split;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsStream;

pub use dial::TcpDialler;
pub use listen::TcpListener;
pub(crate) use mux::{Mux, TcpOutlet, TcpSource};

use crate::identity::Peer;
use crate::limits::Limits;
use crate::session::{Arrivals, Carrier, Control, Core, Guard, Incoming, Session};

/// The chain that the other side of a TLS connection showed.
fn chain_of(io: &TlsStream<TcpStream>) -> &[rustls::pki_types::CertificateDer<'static>] {
    io.get_ref().1.peer_certificates().unwrap_or_default()
}

/// What a connection is told before its first byte: small frames go at once, and a peer whose host is silent is given up.
fn prepare(io: &TcpStream, limits: &Limits) -> std::io::Result<()> {
    io.set_nodelay(true)?;
    SockRef::from(io).set_tcp_user_timeout(Some(limits.unacked))
}

/// Starts a session on a connection whose handshake is done. `seat` is held for as long as the session lives.
fn start(
    io: TlsStream<TcpStream>,
    peer: Peer,
    limits: &Limits,
    dialled: bool,
    seat: Option<OwnedSemaphorePermit>,
) -> Session {
    let core = Arc::new(Core::new(peer, limits.clone(), true));
    let guard = Guard::new(core.clone());
    let (mux, outgoing, accepted) = Mux::new(core, dialled, Arc::downgrade(&guard));
    let main = mux.main(&guard);
    let (read, write) = split(io);
    tokio::spawn(writer::run(mux.clone(), outgoing, write));
    tokio::spawn(reader::run(mux.clone(), read, seat));
    let control = Control::new(Carrier::Tcp(mux), guard.clone());
    Session::new(control, Incoming::new(Arrivals::Tcp(accepted), guard), main)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of it is seen by `perennial-bench failover --faults cut-leaf --lasting 5000`.
    #[tokio::test]
    async fn a_silent_host_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let limits = Limits::default();
        prepare(&io, &limits).unwrap();
        assert!(io.nodelay().unwrap());
        assert_eq!(SockRef::from(&io).tcp_user_timeout().unwrap(), Some(limits.unacked));
    }
}
