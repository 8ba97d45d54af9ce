//! Sessions of ordered, bounded frames between nodes: over TCP in a region, over QUIC between regions. This crate
//! decides nothing: it carries frames, says who is at the other end and why a session is over.
//!
//! ```text
//! rpc      calls over a session                     redial   keeps a session with a peer
//!     ╲                                           ╱
//!      session   one type: main stream, further streams, one reason for its end
//!     ╱                                           ╲
//! tcp      mutual TLS, streams multiplexed          quic     one QUIC stream per stream, trust by CA or pin
//!     ╲                                           ╱
//!      handshake, identity   version, cluster, node, incarnation, role      tls   certificates and whom to believe
//!      frame, codec, limits  bytes                                          error how things end
//! ```
//!
//! # Invariants
//!
//! - Within a stream frames arrive in order, whole, at most once. Across streams there is no order.
//! - Every queue is bounded in bytes, every wait in time; `limits` names each bound with its reason.
//! - Bytes that are not this protocol, or break a limit, end the session with [`error::Closed::BadBytes`] and one line
//!   in the log, and touch nothing else. No input panics.
//! - A peer's name in a region is proved by its certificate; a peer that dialled from another region is a claim until
//!   the session's owner has checked a password or token and calls [`session::Control::trust_peer`].
//! - [`error::DialCause::Refused`] is reported only if every address of the host refused: the protocol takes it as
//!   proof that the process is gone. A listener therefore accepts for as long as it lives.
//! - Every future may be dropped where it waits. No lock is held across an await. A TCP session has one task per
//!   direction; a QUIC session one per stream that it writes, and one that waits for its end.
//!
//! # What this crate does not do
//!
//! No retry of a call, no routing, no discovery, no passwords, no heartbeats of the protocol: its keep-alives only find
//! dead connections, seconds later than the protocol's own clocks. A farewell may overtake what was queued before it:
//! who needs to know that a frame arrived asks for an answer.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use perennial_transport as transport;
//! use transport::identity::{Local, Role};
//! use transport::limits::Limits;
//! use transport::rpc::{Client, Failure, Handler, ReplySender, serve};
//! use transport::tcp::{TcpDialler, TcpListener};
//! use transport::tls::{Credentials, create_ca, issue};
//! use types::{ClusterId, Incarnation, NodeId};
//!
//! struct Doubler;
//!
//! impl Handler for Doubler {
//!     type Request = u64;
//!     type Reply = u64;
//!
//!     async fn handle(&self, request: u64, replies: &ReplySender<u64>) -> Result<(), Failure> {
//!         replies.send(&(2 * request)).await?;
//!         Ok(())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = ClusterId(1);
//! let ca = create_ca(cluster)?;
//! let credentials = |node: NodeId| -> Result<Credentials, transport::tls::TlsError> {
//!     Ok(Credentials { cluster, node: issue(&ca, cluster, node, &[])?, roots: ca.roots()? })
//! };
//! let (server, client) = (NodeId(1), NodeId(2));
//!
//! let local = Local::new(cluster, server, Incarnation(1));
//! let any = "127.0.0.1:0".parse()?;
//! let everybody = Arc::new(|_: &_| Ok(()));
//! let mut listener = TcpListener::bind(any, local, &credentials(server)?, Limits::default(), everybody).await?;
//! let address = listener.address().to_string();
//! tokio::spawn(async move {
//!     loop {
//!         let (_control, incoming, _sender, _receiver) = listener.accept().await.split();
//!         tokio::spawn(serve(incoming, Arc::new(Doubler)));
//!     }
//! });
//!
//! let local = Local::new(cluster, client, Incarnation(1));
//! let dialler = TcpDialler::new(local, &credentials(client)?, Limits::default())?;
//! let session = dialler.dial(&address, Some(server), Role::Calls).await?;
//! let calls: Client<u64, u64> = Client::new(session.control().clone());
//! assert_eq!(calls.call(&21, Duration::from_secs(10)).await?, 42);
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod codec;
pub mod error;
pub mod frame;
pub mod handshake;
pub mod identity;
pub mod limits;
pub mod quic;
pub mod redial;
pub mod rpc;
pub mod session;
pub mod tcp;
pub mod tls;

mod address;
