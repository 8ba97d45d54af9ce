//! Requests and answers over a session: a call is a stream.
//!
//! ```text
//! caller  -> REQUEST (time limit in ms, 8 bytes LE; the request), finish
//! server  -> REPLY, REPLY, …, finish              any number of replies; a plain call has exactly one
//!         or FAILURE (text), finish               instead of what is missing
//! caller drops the call -> stop                   the server's handler is dropped where it waits
//! ```
//!
//! - A call has a time limit, which travels with it: neither side works for a caller that has given up.
//! - Calls in flight are bounded on both sides; a caller waits within its time limit.
//! - A server that streams replies is slowed down by a caller that does not read, through the stream's window.
//! - Whether a call may have had an effect is known: [`CallError::may_have_run`].
//! - An error of the application is part of the reply's type. FAILURE is for what the caller cannot act upon.
//! - Requests and replies are control messages ([`codec`](crate::codec)). Records and snapshots are bytes already: they
//!   go as frames over a stream of their own.

mod client;
mod server;

pub use client::{Client, Replies};
pub use server::{Failure, Handler, ReplySender, answer, serve};

use std::time::Duration;

use crate::codec::CodecError;
use crate::error::{Closed, StreamError};
use crate::frame::Kind;

/// The first frame of a call.
pub const REQUEST: Kind = Kind::bulk(120);
const REPLY: Kind = Kind::bulk(121);
const FAILURE: Kind = Kind::message(111);
/// Bytes before the request in a REQUEST frame.
const LIMIT_BYTES: usize = 8;
/// Longest text of a FAILURE.
const FAILURE_BYTES_MAX: usize = 16 << 10;

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request has no bytes; nothing was sent.
    #[error("the request was not sent: {0}")]
    Request(CodecError),
    /// The session was over, or would not take it; nothing was sent.
    #[error("the request was not sent: {0}")]
    NotSent(StreamError),
    /// Time was up. Before it was `sent`, or while its reply was awaited.
    #[error("no reply within {limit:?} ({})", if *sent { "the request was sent" } else { "it could not be sent" })]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// Whether the server may have seen it.
        sent: bool,
    },
    /// The session or the stream ended before the reply.
    #[error("the request was sent, its reply is lost: {0}")]
    Lost(StreamError),
    /// The server could not handle it.
    #[error("the server failed: {0}")]
    Failed(String),
    /// The reply is not of the expected type.
    #[error("the reply is not usable: {0}")]
    Reply(String),
}

impl CallError {
    /// True unless it is certain that the server has not seen the request.
    pub fn may_have_run(&self) -> bool {
        match self {
            CallError::Request(_) | CallError::NotSent(_) => false,
            CallError::TimedOut { sent, .. } => *sent,
            CallError::Lost(_) | CallError::Failed(_) | CallError::Reply(_) => true,
        }
    }

    /// The end of the session, if that is what it was.
    pub fn closed(&self) -> Option<&Closed> {
        match self {
            CallError::NotSent(StreamError::Closed(closed)) | CallError::Lost(StreamError::Closed(closed)) => {
                Some(closed)
            }
            _ => None,
        }
    }
}
