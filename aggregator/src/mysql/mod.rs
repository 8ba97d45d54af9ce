//! The MySQL server protocol: what a client's bytes mean, and the bytes that answer them.
//!
//! ```text
//!  TCP ── server ── connection ── Session (the aggregator's SQL)
//!                    │    │
//!                  socket sink          the only two that wait; `socket` is the only one that touches a stream
//!                    │    │
//!   packet · handshake · auth · command · prepared · resultset · infile · error      pure: bytes in, bytes out
//! ```
//!
//! The rest of the aggregator meets this module at the traits of [`session`]: an [`Authenticator`] knows the
//! accounts, a [`SessionFactory`] opens a [`Session`] for each client, and a session answers into a
//! [`ResultSink`]. Nothing here knows a table, a transaction or another node.
//!
//! Invariants:
//! * Bytes of a client never end the process. Whatever does not parse becomes a [`SqlError`] and, where the two
//!   sides may no longer agree on where a packet begins, the end of that connection alone.
//! * Memory of a connection is bounded: input by `packet_bytes_max` (and by a far smaller limit until the client
//!   is known), growing with the bytes that came and never with a length that was only announced; output by one
//!   row and [`socket::FLUSH_BYTES`].
//! * A client that stops reading is closed after `write_timeout` without progress; it holds no memory meanwhile.
//! * No byte that was read in plain text is ever taken as part of the encrypted stream: until TLS begins, exactly
//!   the bytes of the packet are read.
//! * Only verifiers of passwords are kept, and compared in constant time.
//!
//! Not done, on purpose: compression, session tracking, cursors (`COM_STMT_FETCH`), query attributes and the
//! RSA key exchange of `caching_sha2_password` are not offered (docs/decisions/0002-mysql-wire.md says why), and
//! text is utf8mb4 in both directions whatever collation a client names.

pub mod auth;
mod codec;
pub mod column;
mod command;
mod connection;
pub mod constants;
mod datum;
pub mod error;
mod float;
mod handshake;
mod infile;
mod packet;
mod prepared;
mod resultset;
pub mod server;
pub mod session;
mod sha_crypt;
mod sink;
mod socket;
pub mod value;

pub use auth::{Account, Plugin, Verifier};
pub use column::{Column, ColumnKind};
pub use error::SqlError;
pub use server::{Options, Server};
pub use session::{
    Authenticator, Client, Completion, Prepared, Query, ResultSink, Session, SessionFactory, StatementId, Status,
};
pub use value::Value;
