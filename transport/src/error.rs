//! How things end: a session, a stream, an attempt to reach a peer. Each kind is one that a caller treats differently.
//!
//! The protocol draws conclusions from two of them alone: [`DialCause::Refused`] proves that no process listens, and
//! a hello of a newer incarnation proves the older one gone. Everything else, silence above all, proves nothing.

use std::io;
use std::time::Duration;

use crate::frame::FrameError;
use crate::handshake::VersionRange;
use crate::tls::Fingerprint;

/// Why a session is over. The first reason stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// This side closed it, for this reason.
    #[error("closed by this side: {0}")]
    Here(String),
    /// The peer said farewell with this reason.
    #[error("closed by the peer: {0}")]
    Peer(String),
    /// The connection ended without a farewell: the peer's process, host or network is gone.
    #[error("connection lost: {0}")]
    Lost(String),
    /// Nothing arrived for this long, keep-alives included.
    #[error("nothing arrived for {0:?}, the peer or the network is stuck")]
    Silent(Duration),
    /// The peer took no bytes for this long while some waited.
    #[error("the peer did not read for {0:?}, it is overloaded or stuck")]
    SlowReader(Duration),
    /// What arrived is not this protocol, or breaks a limit.
    #[error("bad bytes: {0}")]
    BadBytes(String),
}

/// Why a stream of a session, or one of its directions, cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The whole session is over.
    #[error("the session is over: {0}")]
    Closed(#[from] Closed),
    /// The sender gave up before the end: what was received is not all.
    #[error("the peer gave up this stream before its end")]
    Reset,
    /// The receiver does not want more.
    #[error("the peer no longer reads this stream")]
    Stopped,
    /// The receiver made no room for this long; the stream is given up.
    #[error("the peer did not read this stream for {0:?}")]
    SlowReader(Duration),
    /// `finish` was called before.
    #[error("this stream was finished already, open another")]
    Finished,
    /// The frame cannot be sent; nothing of it was.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Why a peer was not reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {cause}")]
pub struct DialError {
    /// What was dialled.
    pub address: String,
    /// What went wrong there.
    pub cause: DialCause,
}

impl DialError {
    /// True if this proves that no process listens there.
    pub fn is_refused(&self) -> bool {
        self.cause == DialCause::Refused
    }
}

/// What went wrong before a session began; a listener logs the same causes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialCause {
    /// The host answered that no process listens there.
    #[error("connection refused: the host is up and no process listens on that port")]
    Refused,
    /// The address has no meaning, or there is no way to the host.
    #[error("cannot be reached: {0}; check the address and the network")]
    Unreachable(String),
    /// No answer within the time.
    #[error("no answer within {time:?} ({stage})")]
    TimedOut {
        /// What was waited for.
        stage: &'static str,
        /// The limit.
        time: Duration,
    },
    /// TLS failed: another CA, an expired certificate, no TLS at all.
    #[error("TLS failed: {0}; does the other side have a certificate of the CA that is trusted here?")]
    Tls(String),
    /// The certificate is not under the pinned one.
    #[error(
        "its certificate has the fingerprint {found}, but {pinned} is pinned; if its CA was renewed on purpose, \
         repeat the statement that set up the link, otherwise somebody is in between"
    )]
    WrongFingerprint {
        /// What was expected.
        pinned: Fingerprint,
        /// What was shown.
        found: Fingerprint,
    },
    /// No protocol version in common.
    #[error("it speaks protocol versions {theirs}, this node {ours}: upgrade the older one")]
    Version {
        /// What this node speaks.
        ours: VersionRange,
        /// What the other speaks.
        theirs: VersionRange,
    },
    /// The other side does not want this session.
    #[error("turned away: {0}")]
    Rejected(String),
    /// Another node than the one expected, or not the one that it says.
    #[error("not the expected node: {0}")]
    WrongPeer(String),
    /// What is there does not speak this protocol.
    #[error("bad bytes: {0}")]
    BadBytes(String),
    /// The connection broke during the handshake.
    #[error("broke off during the handshake: {0}")]
    Lost(String),
}

impl DialCause {
    /// Logs why a listener has no session with whoever connected: louder if somebody should look at it.
    pub(crate) fn log(&self, address: std::net::SocketAddr) {
        match self {
            DialCause::Tls(_)
            | DialCause::WrongFingerprint { .. }
            | DialCause::Version { .. }
            | DialCause::WrongPeer(_)
            | DialCause::BadBytes(_) => tracing::warn!(%address, reason = %self, "no session"),
            DialCause::Refused
            | DialCause::Unreachable(_)
            | DialCause::TimedOut { .. }
            | DialCause::Rejected(_)
            | DialCause::Lost(_) => tracing::info!(%address, reason = %self, "no session"),
        }
    }

    /// Names the address that was dialled.
    pub(crate) fn at(self, address: &str) -> DialError {
        DialError { address: address.to_owned(), cause: self }
    }
}

/// Why a listener could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken or not of this host.
    #[error("cannot listen on {address}: {source}; is another process using the port?")]
    Address {
        /// The address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates do not fit together.
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    /// The limits contradict each other.
    #[error("bad limits: {0}")]
    Limits(String),
}
