//! Sessions between two well-behaved ends: the same claims over TCP and over QUIC.

mod common;

use std::time::Duration;

use common::*;
use perennial_transport::error::{Closed, StreamError};
use perennial_transport::frame::Frame;
use perennial_transport::identity::{Proof, Role};
use perennial_transport::limits::{BULK_BYTES_MAX, Limits};
use perennial_transport::session::{Control, Session};
use types::{Incarnation, NodeId};

async fn frames_arrive_in_order_both_ways(near: Session, far: Session) {
    const COUNT: u64 = 20_000;
    // The session is given back: its end would take with it what the other side has not yet read.
    async fn talk(session: Session) -> Control {
        let (control, _incoming, sender, mut receiver) = session.split();
        let sending = async {
            for n in 0..COUNT {
                sender.send(item(n)).await.unwrap();
            }
            sender.finish();
        };
        let receiving = async {
            for n in 0..COUNT {
                assert_eq!(number(&receiver.recv().await.unwrap().unwrap()), n);
            }
            assert_eq!(receiver.recv().await, Ok(None));
            assert_eq!(receiver.recv().await, Ok(None), "the end stays");
        };
        tokio::join!(sending, receiving);
        assert_eq!(sender.send(item(0)).await, Err(StreamError::Finished));
        control
    }
    tokio::join!(talk(near), talk(far));
}

async fn a_close_tells_its_reason(near: Session, far: Session) {
    let waiting = far.control().clone();
    near.close("node 2 is drained");
    assert_eq!(near.closed().await, Closed::Here("node 2 is drained".into()));
    assert_eq!(waiting.closed().await, Closed::Peer("node 2 is drained".into()));
    assert_eq!(waiting.closed_reason(), Some(Closed::Peer("node 2 is drained".into())));
    assert_eq!(far.send(item(1)).await, Err(StreamError::Closed(Closed::Peer("node 2 is drained".into()))));
    assert_eq!(near.open().await.unwrap_err(), Closed::Here("node 2 is drained".into()));
}

async fn dropping_every_part_ends_the_session(near: Session, far: Session) {
    let (control, incoming, sender, receiver) = near.split();
    let seen = control.watch_closed();
    drop((control, incoming, receiver));
    sender.send(item(5)).await.unwrap();
    let mut far = far;
    assert_eq!(number(&far.recv().await.unwrap().unwrap()), 5, "one part is enough to keep it");
    drop(sender);
    assert_eq!(seen.await, Closed::Here("no longer needed".into()));
    assert_eq!(far.closed().await, Closed::Peer("no longer needed".into()));
}

async fn streams_are_opened_from_both_sides_and_end_by_themselves(mut near: Session, mut far: Session) {
    let mine = near.open().await.unwrap();
    let yours = far.open().await.unwrap();
    let mut at_far = far.accept().await.unwrap();
    let mut at_near = near.accept().await.unwrap();
    mine.sender.send(item(1)).await.unwrap();
    yours.sender.send(item(2)).await.unwrap();
    mine.sender.finish();
    assert_eq!(number(&at_far.receiver.recv().await.unwrap().unwrap()), 1);
    assert_eq!(at_far.receiver.recv().await, Ok(None));
    at_far.sender.send(item(3)).await.unwrap();
    let mut mine = mine;
    assert_eq!(number(&mine.receiver.recv().await.unwrap().unwrap()), 3, "the other direction goes on");
    assert_eq!(number(&at_near.receiver.recv().await.unwrap().unwrap()), 2);
    drop(yours);
    assert_eq!(at_near.receiver.recv().await, Err(StreamError::Reset), "not finished: reset");
    assert_eq!(at_near.receiver.recv().await, Err(StreamError::Reset), "and it stays so");
    drop(at_far);
    assert_eq!(mine.receiver.recv().await, Err(StreamError::Reset));
    near.send(item(9)).await.unwrap();
    assert_eq!(number(&far.recv().await.unwrap().unwrap()), 9, "the session is none the worse");
}

async fn a_receiver_that_goes_stops_the_sender(near: Session, mut far: Session) {
    let mine = near.open().await.unwrap();
    let theirs = far.accept().await.unwrap();
    drop(theirs.receiver);
    mine.sender.stopped().await;
    assert_eq!(mine.sender.send(item(1)).await, Err(StreamError::Stopped));
    assert_eq!(near.control().closed_reason(), None);
}

async fn an_unread_stream_holds_up_no_other(near: Session, mut far: Session) {
    let stuck = near.open().await.unwrap();
    let _unread = far.accept().await.unwrap();
    let chunk = Frame::new(ITEM, vec![1; 100_000]);
    let mut sent = 0;
    let error = loop {
        match stuck.sender.send_within(chunk.clone(), Duration::from_millis(300)).await {
            Ok(()) => sent += chunk.payload.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error, StreamError::SlowReader(Duration::from_millis(300)));
    assert!(sent <= 20 << 20, "{sent} bytes were taken for a reader that does not read");
    let other = near.open().await.unwrap();
    let mut at_far = far.accept().await.unwrap();
    let sending = async {
        for n in 0..200 {
            let mut payload = vec![2; 100_000];
            payload[..8].copy_from_slice(&u64::to_le_bytes(n));
            other.sender.send(Frame::new(ITEM, payload)).await.unwrap();
        }
        other.sender.finish();
    };
    let receiving = async {
        for n in 0..200 {
            assert_eq!(number(&at_far.receiver.recv().await.unwrap().unwrap()), n);
        }
        assert_eq!(at_far.receiver.recv().await, Ok(None));
    };
    tokio::join!(sending, receiving);
    assert_eq!(near.control().closed_reason(), None);
}

async fn an_unread_main_stream_ends_the_session(near: Session, far: Session) {
    let limit = Duration::from_millis(300);
    let chunk = Frame::new(ITEM, vec![1; 100_000]);
    let mut sent = 0;
    let error = loop {
        match near.send(chunk.clone()).await {
            Ok(()) => sent += chunk.payload.len(),
            Err(error) => break error,
        }
    };
    assert_eq!(error, StreamError::Closed(Closed::SlowReader(limit)));
    assert!(sent <= 20 << 20, "{sent} bytes were taken for a reader that does not read");
    assert_eq!(near.closed().await, Closed::SlowReader(limit));
    assert!(matches!(far.closed().await, Closed::Peer(reason) if reason.contains("did not read")));
}

async fn frames_larger_than_every_window_pass(near: Session, mut far: Session) {
    let payload: Vec<u8> = (0..BULK_BYTES_MAX).map(|n| (n / 7) as u8).collect();
    let (big, small) = (Frame::new(ITEM, payload), item(4));
    let sending = async {
        for frame in [&small, &big, &small, &big] {
            near.send(frame.clone()).await.unwrap();
        }
    };
    let receiving = async {
        for frame in [&small, &big, &small, &big] {
            let found = far.recv().await.unwrap().unwrap();
            assert!(found == *frame, "{} bytes sent, {} other bytes found", frame.payload.len(), found.payload.len());
        }
    };
    tokio::join!(sending, receiving);
    let too_large = Frame::new(ITEM, vec![0; BULK_BYTES_MAX + 1]);
    assert!(matches!(near.send(too_large).await, Err(StreamError::Frame(_))));
    near.send(item(6)).await.unwrap();
    assert_eq!(number(&far.recv().await.unwrap().unwrap()), 6, "a refused frame does no harm");
}

async fn compressed_frames_arrive_as_they_were(near: Session, mut far: Session) {
    for length in [0, 8, 511, 512, 5_000, 3_000_000] {
        let payload: Vec<u8> = (0..length).map(|n: u32| (n / 100) as u8).collect();
        near.send(Frame::new(ITEM, payload.clone()).compressed()).await.unwrap();
        let found = far.recv().await.unwrap().unwrap();
        assert!(found.payload == payload, "{length} bytes");
    }
    let (_control, _incoming, sender, _receiver) = near.split();
    let (_control, _incoming, _sender, receiver) = far.split();
    assert_eq!(sender.bytes_sent(), receiver.bytes_received());
    assert!(sender.bytes_sent() < 100_000, "{} bytes for 3 MB that repeat", sender.bytes_sent());
}

async fn a_cancelled_send_or_recv_loses_nothing(near: Session, mut far: Session) {
    let (_control, _incoming, sender, _receiver) = near.split();
    let sending = tokio::spawn(async move {
        for n in 0..300u64 {
            let mut payload = vec![0; 50_000];
            payload[..8].copy_from_slice(&n.to_le_bytes());
            let frame = Frame::new(ITEM, payload);
            // Cancelled again and again where it waits, then sent.
            for _ in 0..3 {
                let mut attempt = Box::pin(sender.send(frame.clone()));
                if let std::task::Poll::Ready(done) = futures::poll!(&mut attempt) {
                    done.unwrap();
                    break;
                }
                drop(attempt);
            }
            sender.send(item(1_000_000 + n)).await.unwrap();
        }
        sender.finish();
        sender
    });
    let mut last = None;
    let mut ends = 0;
    loop {
        let mut attempt = Box::pin(far.recv());
        let polled = futures::poll!(&mut attempt);
        drop(attempt);
        let frame = match polled {
            std::task::Poll::Ready(frame) => frame.unwrap(),
            std::task::Poll::Pending => {
                tokio::task::yield_now().await;
                continue;
            }
        };
        let Some(frame) = frame else { break };
        let n = number(&frame);
        if n >= 1_000_000 {
            assert_eq!(n, 1_000_000 + ends, "every frame that was sent whole arrives, in order");
            ends += 1;
        } else {
            assert_eq!(n, ends, "a cancelled frame comes at its place or not at all");
            assert_ne!(last, Some(n), "and not twice");
            last = Some(n);
        }
    }
    assert_eq!(ends, 300);
    sending.await.unwrap();
}

async fn streams_can_be_used_up_and_opened_again(near: Session, far: Session) {
    let (control, _incoming, _sender, _receiver) = near.split();
    let (_control, mut incoming, _sender_far, _receiver_far) = far.split();
    let echo = tokio::spawn(async move {
        for _ in 0..5_000 {
            let mut stream = incoming.accept().await.unwrap();
            tokio::spawn(async move {
                let frame = stream.receiver.recv().await.unwrap().unwrap();
                stream.sender.send(frame).await.unwrap();
                stream.sender.finish();
                assert_eq!(stream.receiver.recv().await, Ok(None));
            });
        }
        incoming
    });
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..50 {
        let control = control.clone();
        callers.spawn(async move {
            for n in 0..100 {
                let mut stream = control.open().await.unwrap();
                stream.sender.send(item(caller * 1000 + n)).await.unwrap();
                stream.sender.finish();
                assert_eq!(number(&stream.receiver.recv().await.unwrap().unwrap()), caller * 1000 + n);
                assert_eq!(stream.receiver.recv().await, Ok(None));
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    echo.await.unwrap();
    assert_eq!(control.closed_reason(), None);
}

async fn opening_waits_while_too_many_are_open(near: Session, far: Session) {
    let (control, _incoming, _sender, _receiver) = near.split();
    let (far_control, mut incoming, _sender_far, _receiver_far) = far.split();
    let mut openers = tokio::task::JoinSet::new();
    for n in 0..1500 {
        let control = control.clone();
        openers.spawn(async move {
            let mut stream = control.open().await.unwrap();
            stream.sender.send(item(n)).await.unwrap();
            assert_eq!(number(&stream.receiver.recv().await.unwrap().unwrap()), n);
            // Half of them end in good order, half give up.
            if n % 2 == 0 {
                stream.sender.finish();
            }
        });
    }
    let mut held = Vec::new();
    for _ in 0..1000 {
        held.push(incoming.accept().await.unwrap());
    }
    let answering = async {
        for answered in 0..1500 {
            let mut stream = match held.pop() {
                Some(stream) => stream,
                None => incoming.accept().await.unwrap(),
            };
            let frame = stream.receiver.recv().await.unwrap().unwrap();
            stream.sender.send(frame).await.unwrap();
            if answered % 3 == 0 {
                stream.sender.finish();
            }
            // The answer must be read before the stream is given up, or it would be lost with it.
            let _ = stream.receiver.recv().await;
        }
    };
    answering.await;
    while let Some(done) = openers.join_next().await {
        done.unwrap();
    }
    assert_eq!((control.closed_reason(), far_control.closed_reason()), (None, None));
}

async fn streams_that_nobody_accepts_are_refused(near: Session, far: Session) {
    let (_control, incoming, _sender, _receiver) = far.split();
    drop(incoming);
    for _ in 0..3 {
        let mut stream = near.open().await.unwrap();
        assert_eq!(stream.receiver.recv().await, Err(StreamError::Reset));
        stream.sender.stopped().await;
    }
    assert_eq!(near.control().closed_reason(), None);
}

async fn a_quiet_session_stays(near: Session, mut far: Session) {
    tokio::time::sleep(Duration::from_secs(6)).await;
    near.send(item(1)).await.unwrap();
    assert_eq!(number(&far.recv().await.unwrap().unwrap()), 1, "keep-alives kept it beyond the idle time");
}

/// Waits shorter for a reader than usual, where a test must see the end of the wait.
fn impatient() -> Limits {
    Limits { send: Duration::from_millis(300), ..Limits::default() }
}

/// Silence ends a session sooner than usual, though not so soon that a busy machine is taken for silent.
fn quiet() -> Limits {
    Limits {
        idle: Duration::from_secs(4),
        link_idle: Duration::from_secs(4),
        keep_alive: Duration::from_millis(500),
        ..Limits::default()
    }
}

macro_rules! over_both {
    ($($name:ident: $limits:expr;)*) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (near, far, _listening) = super::soon(super::tcp_pair($limits)).await;
                super::soon(super::$name(near, far)).await;
            })*
        }
        mod quic {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (near, far, _listening) = super::soon(super::quic_pair($limits)).await;
                super::soon(super::$name(near, far)).await;
            })*
        }
    };
}

over_both! {
    frames_arrive_in_order_both_ways: super::Limits::default();
    a_close_tells_its_reason: super::Limits::default();
    dropping_every_part_ends_the_session: super::Limits::default();
    streams_are_opened_from_both_sides_and_end_by_themselves: super::Limits::default();
    a_receiver_that_goes_stops_the_sender: super::Limits::default();
    an_unread_stream_holds_up_no_other: super::Limits::default();
    an_unread_main_stream_ends_the_session: super::impatient();
    frames_larger_than_every_window_pass: super::Limits::default();
    compressed_frames_arrive_as_they_were: super::Limits::default();
    a_cancelled_send_or_recv_loses_nothing: super::Limits::default();
    streams_can_be_used_up_and_opened_again: super::Limits::default();
    opening_waits_while_too_many_are_open: super::Limits::default();
    streams_that_nobody_accepts_are_refused: super::Limits::default();
    a_quiet_session_stays: super::quiet();
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let (near, far, _region) = soon(tcp_pair(Limits::default())).await;
    assert_eq!((near.peer().node, far.peer().node), (NodeId(1), NodeId(2)));
    assert_eq!((near.peer().proof, far.peer().proof), (Proof::Certificate, Proof::Certificate));
    assert_eq!((near.peer().role, far.peer().role), (Role::Calls, Role::Calls));
    assert_eq!(far.peer().member().incarnation, Incarnation(1));
    assert_eq!(near.peer().fingerprint, far.peer().fingerprint, "both are under one CA");
    let (near, far, link) = soon(quic_pair(Limits::default())).await;
    assert_eq!((near.peer().proof, far.peer().proof), (Proof::Certificate, Proof::Claim));
    assert_eq!(near.peer().fingerprint.unwrap().to_string(), ca_fingerprint(&link));
    assert_eq!(far.peer().fingerprint, None);
}

fn ca_fingerprint(link: &Link) -> String {
    perennial_transport::tls::Fingerprint::of_pem(&link.authority.certificate_pem).unwrap().to_string()
}
