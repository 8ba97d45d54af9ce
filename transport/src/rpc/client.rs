//! The calling side.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::{CallError, FAILURE, LIMIT_BYTES, REPLY, REQUEST};
use crate::codec::{decode, encode};
use crate::error::StreamError;
use crate::frame::Frame;
use crate::identity::Role;
use crate::session::{Control, StreamReceiver};

/// Calls the other end of a session with requests `Q`, answered by replies `A`. Clones share the bound of calls in
/// flight.
pub struct Client<Q, A> {
    control: Control,
    in_flight: Arc<Semaphore>,
    types: PhantomData<fn(&Q) -> A>,
}

impl<Q, A> Clone for Client<Q, A> {
    fn clone(&self) -> Client<Q, A> {
        Client { control: self.control.clone(), in_flight: self.in_flight.clone(), types: PhantomData }
    }
}

impl<Q, A> fmt::Debug for Client<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.control)
    }
}

impl<Q: Serialize, A: DeserializeOwned> Client<Q, A> {
    /// Over this session, with at most `Limits::calls_max` calls in flight.
    pub fn new(control: Control) -> Client<Q, A> {
        let in_flight = Arc::new(Semaphore::new(control.limits().calls_max));
        Client { control, in_flight, types: PhantomData }
    }

    /// The session.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Asks, and waits for the one reply, `limit` in all. Dropping the future cancels the call at the server.
    pub async fn call(&self, request: &Q, limit: Duration) -> Result<A, CallError> {
        let mut replies = self.stream(request, limit).await?;
        let reply = replies.next().await?.ok_or_else(|| CallError::Reply("there is none".into()))?;
        match replies.next().await? {
            None => Ok(reply),
            Some(_) => Err(CallError::Reply("there are several".into())),
        }
    }

    /// Asks for any number of replies, `limit` for all of them. Dropping [`Replies`] cancels the call at the server.
    pub async fn stream(&self, request: &Q, limit: Duration) -> Result<Replies<A>, CallError> {
        let body = encode(request).map_err(CallError::Request)?;
        let mut payload = BytesMut::with_capacity(LIMIT_BYTES + body.len());
        payload.put_u64_le(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        payload.put_slice(&body);
        let frame = Frame::new(REQUEST, payload.freeze());
        let frame = if self.control.peer().role == Role::Link { frame.compressed() } else { frame };
        let deadline = after(limit);
        match timeout_at(deadline, self.begin(frame, limit)).await {
            Ok(Ok((receiver, turn))) => {
                Ok(Replies { receiver, deadline, limit, _turn: turn, over: false, types: PhantomData })
            }
            Ok(Err(error)) => Err(CallError::NotSent(error)),
            Err(_) => Err(CallError::TimedOut { limit, sent: false }),
        }
    }

    async fn begin(
        &self,
        frame: Frame,
        limit: Duration,
    ) -> Result<(StreamReceiver, OwnedSemaphorePermit), StreamError> {
        let turn = self.in_flight.clone().acquire_owned().await.expect("a client's semaphore is never closed");
        let stream = self.control.open().await?;
        stream.sender.send_within(frame, limit).await?;
        stream.sender.finish();
        Ok((stream.receiver, turn))
    }
}

/// A time limit from now; one beyond all clocks is a year.
pub(super) fn after(limit: Duration) -> Instant {
    let year = Duration::from_secs(365 * 86_400);
    Instant::now() + limit.min(year)
}

/// The replies of one call, as they come.
#[derive(Debug)]
pub struct Replies<A> {
    receiver: StreamReceiver,
    deadline: Instant,
    limit: Duration,
    _turn: OwnedSemaphorePermit,
    over: bool,
    types: PhantomData<fn() -> A>,
}

impl<A: DeserializeOwned> Replies<A> {
    /// The next reply; `None` after the last. May be cancelled: no reply is lost.
    pub async fn next(&mut self) -> Result<Option<A>, CallError> {
        if self.over {
            return Ok(None);
        }
        let frame = match timeout_at(self.deadline, self.receiver.recv()).await {
            Ok(frame) => frame.map_err(CallError::Lost)?,
            Err(_) => return Err(CallError::TimedOut { limit: self.limit, sent: true }),
        };
        let Some(frame) = frame else {
            self.over = true;
            return Ok(None);
        };
        match frame.kind {
            REPLY => decode(&frame.payload).map(Some).map_err(|error| CallError::Reply(error.to_string())),
            FAILURE => Err(CallError::Failed(String::from_utf8_lossy(&frame.payload).into_owned())),
            kind => Err(CallError::Reply(format!("a frame of kind {}", kind.code()))),
        }
    }
}
