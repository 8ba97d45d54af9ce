//! Calls over a session: replies, streams of replies, limits, cancellation.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use perennial_transport::error::{Closed, StreamError};
use perennial_transport::frame::Frame;
use perennial_transport::limits::Limits;
use perennial_transport::rpc::{CallError, Client, Failure, Handler, REQUEST, ReplySender, serve};
use perennial_transport::session::{Control, Session};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};

const LONG: Duration = Duration::from_secs(100);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Ask {
    Double(u64),
    Count { to: u64, bytes: usize },
    Never,
    Twice,
    Nothing,
    Fail,
    Panic,
    Gate,
}

/// Bytes that do not shrink when a link compresses them.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

type Answer = (u64, Vec<u8>);

/// Counts the handlers that have begun and ended, in whatever way.
#[derive(Default)]
struct Handlers {
    running: AtomicU64,
    most: AtomicU64,
    sent: AtomicU64,
    changed: Notify,
}

struct Calls {
    handlers: Arc<Handlers>,
    gate: Semaphore,
}

struct Running<'a>(&'a Handlers);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_one();
    }
}

impl Handler for Calls {
    type Request = Ask;
    type Reply = Answer;

    async fn handle(&self, request: Ask, replies: &ReplySender<Answer>) -> Result<(), Failure> {
        let now = self.handlers.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.handlers.most.fetch_max(now, Ordering::SeqCst);
        self.handlers.changed.notify_one();
        let _running = Running(&self.handlers);
        match request {
            Ask::Double(n) => replies.send(&(2 * n, Vec::new())).await?,
            Ask::Count { to, bytes } => {
                let noise = noise(bytes);
                for n in 0..to {
                    replies.send(&(n, noise.clone())).await?;
                    self.handlers.sent.fetch_add(1, Ordering::SeqCst);
                }
            }
            Ask::Never => std::future::pending().await,
            Ask::Twice => {
                replies.send(&(1, Vec::new())).await?;
                replies.send(&(2, Vec::new())).await?;
            }
            Ask::Nothing => {}
            Ask::Fail => return Err(Failure("no such partition".into())),
            Ask::Panic => panic!("a planted panic"),
            Ask::Gate => {
                self.gate.acquire().await?.forget();
                replies.send(&(0, Vec::new())).await?;
            }
        }
        Ok(())
    }
}

struct Service {
    client: Client<Ask, Answer>,
    handlers: Arc<Handlers>,
    calls: Arc<Calls>,
    server: tokio::task::JoinHandle<Closed>,
    control: Control,
}

fn start(near: Session, far: Session) -> Service {
    let handlers = Arc::new(Handlers::default());
    let calls = Arc::new(Calls { handlers: handlers.clone(), gate: Semaphore::new(0) });
    let (control, incoming, _sender, _receiver) = far.split();
    let server = tokio::spawn(serve(incoming, calls.clone()));
    Service { client: Client::new(near.control().clone()), handlers, calls, server, control }
}

async fn until(handlers: &Handlers, running: u64) {
    while handlers.running.load(Ordering::SeqCst) != running {
        handlers.changed.notified().await;
    }
}

async fn calls_are_answered_side_by_side(t: Service) {
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..20 {
        let client = t.client.clone();
        callers.spawn(async move {
            for n in 0..200 {
                let n = caller * 1000 + n;
                assert_eq!(client.call(&Ask::Double(n), LONG).await, Ok((2 * n, Vec::new())));
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
}

async fn replies_stream_and_wait_for_the_reader(t: Service) {
    let ask = Ask::Count { to: 400, bytes: 100_000 };
    let mut replies = t.client.stream(&ask, LONG).await.unwrap();
    until(&t.handlers, 1).await;
    assert_eq!(replies.next().await.unwrap().unwrap().0, 0);
    // The handler runs on until the windows are full, and no further.
    let mut before = u64::MAX;
    while before != t.handlers.sent.load(Ordering::SeqCst) {
        before = t.handlers.sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(before < 300, "{before} replies of 100 kB were sent to a reader that has read one");
    for n in 1..400 {
        let (found, bytes) = replies.next().await.unwrap().unwrap();
        assert_eq!((found, bytes.len()), (n, 100_000));
    }
    assert_eq!(replies.next().await, Ok(None));
    assert_eq!(replies.next().await, Ok(None));
}

async fn a_dropped_call_stops_its_handler(t: Service) {
    let client = t.client.clone();
    let call = tokio::spawn(async move { client.call(&Ask::Never, LONG).await });
    until(&t.handlers, 1).await;
    call.abort();
    until(&t.handlers, 0).await;
    let replies = t.client.stream(&Ask::Count { to: u64::MAX, bytes: 10_000 }, LONG).await.unwrap();
    until(&t.handlers, 1).await;
    drop(replies);
    until(&t.handlers, 0).await;
    assert_eq!(t.client.call(&Ask::Double(4), LONG).await, Ok((8, Vec::new())));
}

async fn a_time_limit_ends_both_sides(t: Service) {
    let limit = Duration::from_millis(200);
    let error = t.client.call(&Ask::Never, limit).await.unwrap_err();
    assert!(error.may_have_run());
    // Whoever notices first: the caller's clock or the server's.
    let by_server = CallError::Failed("the handler was not done within 200ms".into());
    assert!([CallError::TimedOut { limit, sent: true }, by_server].contains(&error), "{error}");
    until(&t.handlers, 0).await;
}

async fn failures_are_told_and_hurt_no_other(t: Service) {
    let call = |ask: Ask| {
        let client = t.client.clone();
        async move { client.call(&ask, LONG).await }
    };
    assert_eq!(call(Ask::Fail).await, Err(CallError::Failed("no such partition".into())));
    assert_eq!(call(Ask::Panic).await, Err(CallError::Lost(StreamError::Reset)));
    assert_eq!(call(Ask::Twice).await, Err(CallError::Reply("there are several".into())));
    assert_eq!(call(Ask::Nothing).await, Err(CallError::Reply("there is none".into())));
    assert_eq!(call(Ask::Double(1)).await, Ok((2, Vec::new())));
    let other: Client<String, String> = Client::new(t.client.control().clone());
    let error = other.call(&"not a request".repeat(9), LONG).await.unwrap_err();
    assert!(matches!(&error, CallError::Failed(reason) if reason.contains("cannot decode")), "{error}");
    let typed: Client<Ask, String> = Client::new(t.client.control().clone());
    let error = typed.call(&Ask::Count { to: 1, bytes: 3 }, LONG).await.unwrap_err();
    assert!(matches!(error, CallError::Reply(_)), "{error}");
    assert_eq!(call(Ask::Double(2)).await, Ok((4, Vec::new())));
}

async fn a_bad_first_frame_fails_its_call_alone(t: Service) {
    let control = t.client.control();
    for frame in [item(1), Frame::new(REQUEST, vec![1, 2, 3]), Frame::new(REQUEST, vec![9; 30])] {
        let mut stream = control.open().await.unwrap();
        stream.sender.send(frame).await.unwrap();
        let answer = stream.receiver.recv().await.unwrap().unwrap();
        assert!(!answer.payload.is_empty(), "the reason is told");
        assert_eq!(stream.receiver.recv().await, Ok(None));
    }
    assert_eq!(t.client.call(&Ask::Double(2), LONG).await, Ok((4, Vec::new())));
}

async fn the_end_of_the_session_ends_every_call(t: Service) {
    let client = t.client.clone();
    let waiting = tokio::spawn(async move { client.call(&Ask::Never, LONG).await });
    until(&t.handlers, 1).await;
    t.control.close("shutting down");
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error, CallError::Lost(StreamError::Closed(Closed::Peer("shutting down".into()))));
    assert!(error.may_have_run());
    assert_eq!(error.closed(), Some(&Closed::Peer("shutting down".into())));
    assert_eq!(t.server.await.unwrap(), Closed::Here("shutting down".into()));
    until(&t.handlers, 0).await;
    let error = t.client.call(&Ask::Double(1), LONG).await.unwrap_err();
    assert!(!error.may_have_run(), "{error}");
}

async fn calls_in_flight_are_bounded(t: Service) {
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let client = t.client.clone();
        callers.spawn(async move { client.call(&Ask::Gate, LONG).await });
    }
    until(&t.handlers, 4).await;
    let limit = Duration::from_millis(100);
    let error = t.client.call(&Ask::Double(1), limit).await.unwrap_err();
    assert_eq!(error, CallError::TimedOut { limit, sent: false });
    assert!(!error.may_have_run());
    t.calls.gate.add_permits(40);
    while let Some(done) = callers.join_next().await {
        assert_eq!(done.unwrap(), Ok((0, Vec::new())));
    }
    assert_eq!(t.handlers.most.load(Ordering::SeqCst), 4);
}

fn few() -> Limits {
    Limits { calls_max: 4, ..Limits::default() }
}

macro_rules! over_both {
    ($($name:ident: $limits:expr;)*) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (near, far, _listening) = super::soon(super::tcp_pair($limits)).await;
                super::soon(super::$name(super::start(near, far))).await;
            })*
        }
        mod quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (near, far, _listening) = super::soon(super::quic_pair($limits)).await;
                super::soon(super::$name(super::start(near, far))).await;
            })*
        }
    };
}

over_both! {
    calls_are_answered_side_by_side: super::Limits::default();
    replies_stream_and_wait_for_the_reader: super::Limits::default();
    a_dropped_call_stops_its_handler: super::Limits::default();
    a_time_limit_ends_both_sides: super::Limits::default();
    failures_are_told_and_hurt_no_other: super::Limits::default();
    a_bad_first_frame_fails_its_call_alone: super::Limits::default();
    the_end_of_the_session_ends_every_call: super::Limits::default();
    calls_in_flight_are_bounded: super::few();
}
