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
