//! The answering side.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::client::after;
use super::{CallError, FAILURE, FAILURE_BYTES_MAX, LIMIT_BYTES, REPLY, REQUEST};
use crate::codec::{decode, encode};
use crate::error::Closed;
use crate::frame::Frame;
use crate::handshake::cut;
use crate::identity::{Peer, Role};
use crate::session::{Incoming, Stream, StreamSender};

/// Why a handler has no reply: a text for the caller's log. Any error turns into one by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

/// Answers requests. The future of `handle` is dropped where it waits when the caller gives up, the time limit is
/// reached or the session ends; what must not stop half way belongs in a task of its own.
pub trait Handler: Send + Sync + 'static {
    /// What is asked.
    type Request: DeserializeOwned + Send;
    /// What is answered.
    type Reply: Serialize + Send + Sync;

    /// Sends the replies to one request; it ends in good order when this returns `Ok`.
    fn handle(
        &self,
        request: Self::Request,
        replies: &ReplySender<Self::Reply>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Where a handler puts its replies.
pub struct ReplySender<A> {
    sender: StreamSender,
    deadline: Instant,
    types: PhantomData<fn(&A)>,
}

impl<A: Serialize> ReplySender<A> {
    /// Who asked.
    pub fn peer(&self) -> &Peer {
        self.sender.peer()
    }

    /// When the caller gives up.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Queues a reply. Waits while the caller does not read.
    pub async fn send(&self, reply: &A) -> Result<(), CallError> {
        let body = encode(reply).map_err(|error| CallError::Reply(error.to_string()))?;
        let frame = Frame::new(REPLY, body);
        let frame = if self.peer().role == Role::Link { frame.compressed() } else { frame };
        let rest = self.deadline.saturating_duration_since(Instant::now());
        self.sender.send_within(frame, rest).await.map_err(CallError::Lost)
    }
}

/// Answers every stream that the peer opens as a call, until the session ends.
pub async fn serve<H: Handler>(mut incoming: Incoming, handler: Arc<H>) -> Closed {
    let turns = Arc::new(Semaphore::new(incoming.limits().calls_max));
    let limit = incoming.limits().handshake;
    let mut calls = JoinSet::new();
    loop {
        let turn = turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        let mut stream = match incoming.accept().await {
            Ok(stream) => stream,
            Err(closed) => return closed,
        };
        let handler = handler.clone();
        calls.spawn(async move {
            // A caller that opens a stream sends its request with it; one that does not must not keep its turn.
            if let Ok(Ok(Some(first))) = timeout(limit, stream.receiver.recv()).await {
                answer(&*handler, stream, first).await;
            }
            drop(turn);
        });
        while let Some(done) = calls.try_join_next() {
            if let Err(error) = done {
                tracing::error!(%error, "a handler panicked, its call was reset");
            }
        }
    }
}

/// Answers one call, whose first frame has been read from its stream: for owners that also expect other streams, told
/// apart by the kind [`REQUEST`].
pub async fn answer<H: Handler>(handler: &H, stream: Stream, first: Frame) {
    let Stream { sender, receiver: _receiver } = stream;
    let (request, limit) = match parse(&first) {
        Ok(parsed) => parsed,
        Err(reason) => {
            tracing::warn!(peer = %sender.peer(), reason, "a request cannot be read");
            return fail(&sender, &reason).await;
        }
    };
    let deadline = after(limit);
    let replies = ReplySender { sender: sender.clone(), deadline, types: PhantomData };
    let handled = tokio::select! {
        biased;
        () = sender.stopped() => return,
        handled = timeout_at(deadline, handler.handle(request, &replies)) => handled,
    };
    match handled {
        Ok(Ok(())) => sender.finish(),
        Ok(Err(Failure(reason))) => fail(&sender, &reason).await,
        Err(_) => fail(&sender, &format!("the handler was not done within {limit:?}")).await,
    }
}

fn parse<Q: DeserializeOwned>(frame: &Frame) -> Result<(Q, Duration), String> {
    if frame.kind != REQUEST {
        return Err(format!("a call begins with a frame of kind {}", frame.kind.code()));
    }
    let mut payload = &frame.payload[..];
    if payload.len() < LIMIT_BYTES {
        return Err(format!("a request has only {} bytes", payload.len()));
    }
    let limit = Duration::from_millis(payload.get_u64_le());
    decode(payload).map(|request| (request, limit)).map_err(|error| error.to_string())
}

async fn fail(sender: &StreamSender, reason: &str) {
    let text = cut(reason, FAILURE_BYTES_MAX).to_owned();
    // Fails if the caller has gone, who then needs no answer.
    if sender.send(Frame::new(FAILURE, text)).await.is_ok() {
        sender.finish();
    }
}
