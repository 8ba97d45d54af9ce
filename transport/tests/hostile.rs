//! Peers that break the rules, by fault or on purpose: their session ends with a reason, and nothing else does.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use perennial_transport::error::{Closed, DialCause, StreamError};
use perennial_transport::frame::Frame;
use perennial_transport::handshake::{Expected, VersionRange};
use perennial_transport::identity::{Local, Role};
use perennial_transport::limits::{Limits, STREAM_WINDOW_BYTES, STREAMS_MAX, UNTRUSTED_BYTES_MAX};
use perennial_transport::quic::{QuicDialler, QuicListener};
use perennial_transport::session::Session;
use perennial_transport::tcp::{TcpDialler, TcpListener};
use perennial_transport::tls::{Fingerprint, Trust, create_ca, issue};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use types::{ClusterId, Incarnation, NodeId};

const PATIENCE: Duration = Duration::from_secs(4);

/// Limits under which silence is noticed soon, though not so soon that a busy machine is taken for silent.
fn impatient() -> Limits {
    let keep_alive = PATIENCE / 8;
    Limits {
        handshake: PATIENCE,
        idle: PATIENCE,
        link_idle: PATIENCE,
        keep_alive,
        write: PATIENCE,
        ..Limits::default()
    }
}

/// A session of a good peer proves that the listener is well.
async fn still_well(region: &mut Region) {
    let (near, mut far) = region.pair(Limits::default()).await;
    near.send(item(1)).await.unwrap();
    assert_eq!(number(&far.recv().await.unwrap().unwrap()), 1);
}

/// A TLS connection with a good certificate, to say by hand what no session would.
async fn raw(region: &Region) -> TlsStream<TcpStream> {
    let credentials = credentials(&region.authority, 2);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(credentials.node.chain().unwrap().pop().unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(credentials.node.chain().unwrap(), credentials.node.key().unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"perennial-region/1".to_vec()];
    let io = TcpStream::connect(&region.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, io).await.unwrap()
}

fn frame(kind: u8, flags: u8, stream: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend([kind, flags, 0, 0]);
    bytes.extend(stream.to_le_bytes());
    bytes.extend(payload);
    bytes
}

fn hello(node: u64) -> Vec<u8> {
    let mut payload = b"perennia".to_vec();
    payload.extend([1, 0, 1, 0]);
    payload.extend(CLUSTER.0.to_le_bytes());
    payload.extend(node.to_le_bytes());
    payload.extend(1u64.to_le_bytes());
    payload.push(Role::Calls as u8);
    frame(1, 0, 0, &payload)
}

/// A raw connection whose handshake is done, and the session at the other end.
async fn greeted(region: &mut Region) -> (TlsStream<TcpStream>, Session) {
    let mut io = raw(region).await;
    io.write_all(&hello(2)).await.unwrap();
    let session = region.listener.accept().await;
    let mut answer = vec![0; 16 + 37 + 16 + 1];
    io.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer.last(), Some(&1), "welcome");
    (io, session)
}

/// What the session says when its peer sends `bytes` and goes on.
async fn after(region: &mut Region, bytes: &[u8]) -> Closed {
    let (mut io, session) = greeted(region).await;
    io.write_all(bytes).await.unwrap();
    io.flush().await.unwrap();
    soon(session.closed()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_against_the_rules_end_their_session_only() {
    let mut region = soon(Region::new(Limits::default())).await;
    let (open, window, end, stop) = (5, 6, 7, 9);
    let bomb = {
        let packed = zstd::bulk::compress(&vec![0; 8 << 20], 1).unwrap();
        [&(8u32 << 20).to_le_bytes()[..], &packed].concat()
    };
    let too_many: Vec<u8> = (0..=u64::from(STREAMS_MAX)).flat_map(|n| frame(open, 0, 2 * n + 1, &[])).collect();
    let too_much = frame(200, 0, 0, &vec![0; STREAM_WINDOW_BYTES as usize / 2]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("flags", vec![0xff; 64]),
        ("of kind 0", frame(0, 0, 0, &[])),
        ("of kind 1", hello(2)),
        ("bytes, at most", [&[0xff; 4][..], &frame(200, 0, 0, &[])[4..]].concat()),
        ("flags", frame(200, 4, 0, &[1])),
        ("which is not open", frame(200, 0, 99, &[1])),
        ("not the peer's next", frame(open, 0, 2, &[])),
        ("not the peer's next", [frame(open, 0, 3, &[]), frame(open, 0, 1, &[])].concat()),
        ("not the peer's next", frame(open, 0, 0, &[])),
        ("beside 1024 others", too_many),
        ("never opened", frame(window, 0, 55, &[1, 0, 0, 0])),
        ("wrong length", frame(window, 0, 0, &[1])),
        ("more than its window", frame(window, 0, 0, &u32::MAX.to_le_bytes())),
        ("never opened", frame(stop, 0, 4, &[])),
        ("which is not open", frame(end, 0, 1, &[])),
        ("which is not open", [frame(end, 0, 0, &[]), frame(200, 0, 0, &[1])].concat()),
        ("beyond its window", [too_much.clone(), too_much.clone(), too_much].concat()),
    ];
    for (reason, bytes) in cases {
        let closed = after(&mut region, &bytes).await;
        assert!(matches!(&closed, Closed::BadBytes(found) if found.contains(reason)), "{reason}: {closed}");
    }
    // What is compressed is opened when it is read.
    let (mut io, mut session) = greeted(&mut region).await;
    io.write_all(&frame(20, 1, 0, &bomb)).await.unwrap();
    let error = soon(session.recv()).await.unwrap_err();
    assert!(matches!(error, StreamError::Closed(Closed::BadBytes(found)) if found.contains("at most")));
    // The peer hears why.
    let mut rest = Vec::new();
    soon(io.read_to_end(&mut rest)).await.unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("bad bytes"), "{rest:?}");
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_traffic_ends_its_session_or_is_taken_for_what_it_says() {
    let mut region = soon(Region::new(Limits::default())).await;
    let traffic = [
        frame(5, 0, 1, &[]),
        frame(200, 0, 1, &[7; 300]),
        frame(3, 0, 0, &[]),
        frame(20, 1, 1, &[&600u32.to_le_bytes()[..], &zstd::bulk::compress(&[5; 600], 1).unwrap()].concat()),
        frame(7, 0, 1, &[]),
        frame(9, 0, 1, &[]),
    ]
    .concat();
    let mut state = 42u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for _ in 0..150 {
        let mut bytes = traffic.clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] ^= 1 << random(8);
        }
        bytes.truncate(1 + random(bytes.len()));
        let (mut io, mut session) = greeted(&mut region).await;
        io.write_all(&bytes).await.unwrap();
        io.shutdown().await.unwrap();
        let all = async {
            while let Ok(mut stream) = session.accept().await {
                while let Ok(Some(frame)) = stream.receiver.recv().await {
                    assert!(frame.payload.len() <= frame.kind.bytes_max());
                }
            }
            session.closed().await
        };
        let closed = soon(all).await;
        assert!(matches!(closed, Closed::BadBytes(_) | Closed::Lost(_) | Closed::Peer(_)), "{closed}");
    }
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_amid_a_frame_is_lost() {
    let mut region = soon(Region::new(Limits::default())).await;
    let (mut io, session) = greeted(&mut region).await;
    io.write_all(&frame(200, 0, 0, &[0; 1000])[..500]).await.unwrap();
    io.shutdown().await.unwrap();
    assert_eq!(soon(session.closed()).await, Closed::Lost("the peer is gone amid a frame".into()));
    let (io, mut session) = greeted(&mut region).await;
    drop(io);
    assert!(matches!(soon(session.recv()).await, Err(StreamError::Closed(Closed::Lost(_)))));
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_falls_silent_is_given_up() {
    let mut region = soon(Region::new(impatient())).await;
    let (_io, session) = greeted(&mut region).await;
    assert_eq!(soon(session.closed()).await, Closed::Silent(PATIENCE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_no_bytes_is_given_up() {
    // Otherwise the kernel is the first to give it up: its host has no more room.
    let (idle, unacked) = (Duration::from_secs(100), Duration::from_secs(100));
    let mut region = soon(Region::new(Limits { idle, unacked, ..impatient() })).await;
    let (mut io, session) = greeted(&mut region).await;
    // It reads nothing at all: streams fill their windows, their frames the socket, then the session's queue.
    let (control, _incoming, sender, _receiver) = session.split();
    let sending = tokio::spawn(async move {
        let chunk = Frame::new(ITEM, vec![1; 100_000]);
        let mut sent = 0;
        while sender.send(chunk.clone()).await.is_ok() {
            sent += chunk.payload.len();
        }
        sent
    });
    for _ in 0..40 {
        let stream = control.open().await.unwrap();
        tokio::spawn(async move {
            let chunk = Frame::new(ITEM, vec![1; 100_000]);
            while stream.sender.send(chunk.clone()).await.is_ok() {}
        });
    }
    let closed = soon(control.closed()).await;
    assert_eq!(closed, Closed::SlowReader(PATIENCE));
    assert!(soon(sending).await.unwrap() <= 2 << 20, "one stream sends no more than its window");
    io.shutdown().await.ok();
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_tls_or_hello_leaves_the_listener_well() {
    let mut region = soon(Region::new(impatient())).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 5000], &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3]] {
        let mut io = TcpStream::connect(&region.address).await.unwrap();
        io.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // Ends, by an alert or by the time limit; a reset is as good.
        let _ = soon(io.read_to_end(&mut answer)).await;
        assert!(answer.len() < 100, "{} bytes for garbage", answer.len());
    }
    for garbage in [&[0xff; 100][..], &hello(2)[..20], &frame(1, 0, 0, b"perennix....."), &frame(20, 0, 0, b"hi")] {
        let mut io = raw(&region).await;
        io.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let _ = soon(io.read_to_end(&mut answer)).await;
        assert_eq!(answer, b"", "nothing is said to who does not speak the protocol");
    }
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_in_the_handshake_ends_on_both_sides() {
    let mut region = soon(Region::new(impatient())).await;
    let mut before_tls = TcpStream::connect(&region.address).await.unwrap();
    let mut before_hello = raw(&region).await;
    let mut bytes = Vec::new();
    let _ = soon(before_tls.read_to_end(&mut bytes)).await;
    let _ = soon(before_hello.read_to_end(&mut bytes)).await;
    assert_eq!(bytes, b"", "both connections are ended without a word");
    soon(still_well(&mut region)).await;

    let silent = tokio::net::TcpListener::bind(loopback()).await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let dialler = region.dialler(2, impatient());
    let error = soon(dialler.dial(&address, None, Role::Calls)).await.unwrap_err();
    assert_eq!(error.cause, DialCause::TimedOut { stage: "handshake", time: PATIENCE });
    assert!(!error.is_refused(), "silence proves nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_under_way_are_bounded() {
    let limits = Limits { handshakes_max: 3, handshake: Duration::from_secs(100), ..Limits::default() };
    let mut region = soon(Region::new(limits)).await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(&region.address).await.unwrap());
    }
    let mut fourth = TcpStream::connect(&region.address).await.unwrap();
    let mut bytes = Vec::new();
    let _ = soon(fourth.read_to_end(&mut bytes)).await;
    assert_eq!(bytes, b"", "the fourth is turned away at once");
    drop(silent);
    let dialler = region.dialler(2, Limits::default());
    // The listener notices by and by that the three are gone.
    let session = soon(async {
        loop {
            if let Ok(session) = dialler.dial(&region.address, None, Role::Calls).await {
                return session;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (session, far) = tokio::join!(session, region.listener.accept());
    assert_eq!(session.peer().node, NodeId(1));
    drop(far);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_bounded() {
    let mut region = soon(Region::new(Limits { sessions_max: 1, ..Limits::default() })).await;
    let (near, far) = soon(region.pair(Limits::default())).await;
    let dialler = region.dialler(3, Limits::default());
    let error = soon(dialler.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    assert!(matches!(error.cause, DialCause::Lost(_)), "{error}");
    near.close("done");
    soon(far.closed()).await;
    let session = soon(async {
        loop {
            if let Ok(session) = dialler.dial(&region.address, None, Role::Calls).await {
                return session;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(session.await.peer().node, NodeId(1), "a seat that is given back can be taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_ca_is_refused_by_either_side() {
    let mut region = soon(Region::new(Limits::default())).await;
    let stranger = create_ca(CLUSTER).unwrap();
    let dialler = TcpDialler::new(local(2), &credentials(&stranger, 2), Limits::default()).unwrap();
    let error = soon(dialler.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    assert!(matches!(error.cause, DialCause::Tls(_)), "{error}");
    assert!(!error.is_refused());
    // The stranger believes the listener, but has no certificate that the listener believes.
    let mut mixed = credentials(&stranger, 2);
    mixed.roots = region.authority.roots().unwrap();
    let dialler = TcpDialler::new(local(2), &mixed, Limits::default()).unwrap();
    let error = soon(dialler.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    assert!(matches!(error.cause, DialCause::Tls(_) | DialCause::Lost(_)), "{error}");
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_cannot_use_the_name_of_another() {
    let mut region = soon(Region::new(Limits::default())).await;
    let liar = TcpDialler::new(local(3), &credentials(&region.authority, 2), Limits::default()).unwrap();
    let error = soon(liar.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    let reason = "it calls itself node 3 of cluster 7, its certificate does not".to_owned();
    assert_eq!(error.cause, DialCause::Rejected(reason));
    let dialler = region.dialler(2, Limits::default());
    let error = soon(dialler.dial(&region.address, Some(NodeId(9)), Role::Calls)).await.unwrap_err();
    assert_eq!(error.cause, DialCause::WrongPeer("expected node 9, found node 1 of cluster 7".into()));
    assert!(matches!(soon(region.listener.accept().await.closed()).await, Closed::Lost(_)), "the dialler hung up");
    soon(still_well(&mut region)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_cluster_is_refused() {
    let region = soon(Region::new(Limits::default())).await;
    let other = ClusterId(8);
    let mut foreign = credentials(&region.authority, 2);
    foreign.node = issue(&region.authority, other, NodeId(2), &[]).unwrap();
    let local = Local::new(other, NodeId(2), Incarnation(1));
    // The same CA for two clusters: TLS is content, the listener is not, and the dialler finds the wrong cluster.
    let dialler = TcpDialler::new(local, &foreign, Limits::default()).unwrap();
    let error = soon(dialler.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    assert_eq!(error.cause, DialCause::WrongPeer("expected cluster 8, found 7".into()));
    foreign.cluster = other;
    let dialler = TcpDialler::new(local, &foreign, Limits::default()).unwrap();
    let error = soon(dialler.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    assert!(matches!(error.cause, DialCause::Tls(_)), "a dialler demands its cluster's name: {error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unwanted_peer_hears_why() {
    let admit = Arc::new(|peer: &perennial_transport::identity::Peer| match peer.incarnation.0 {
        old @ ..5 => Err(format!("incarnation {old} of node {} is gone, 5 is known", peer.node)),
        _ => Ok(()),
    });
    let mut region = soon(Region::with(Limits::default(), admit)).await;
    let dialler = region.dialler(2, Limits::default());
    let error = soon(dialler.dial(&region.address, None, Role::Replication)).await.unwrap_err();
    assert_eq!(error.cause, DialCause::Rejected("incarnation 1 of node 2 is gone, 5 is known".into()));
    let newer = Local { incarnation: Incarnation(5), ..local(2) };
    let dialler = TcpDialler::new(newer, &credentials(&region.authority, 2), Limits::default()).unwrap();
    let (near, far) = tokio::join!(dialler.dial(&region.address, None, Role::Replication), region.listener.accept());
    assert_eq!((near.unwrap().peer().node, far.peer().role), (NodeId(1), Role::Replication));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_without_overlap_are_named() {
    let (old, new) = (VersionRange { min: 1, max: 1 }, VersionRange { min: 3, max: 5 });
    let region = soon(Region::new(Limits::default())).await;
    let local = Local { versions: new, ..local(2) };
    let dialler = TcpDialler::new(local, &credentials(&region.authority, 2), Limits::default()).unwrap();
    let error = soon(dialler.dial(&region.address, None, Role::Calls)).await.unwrap_err();
    assert_eq!(error.cause, DialCause::Version { ours: new, theirs: old });
    let text = "it speaks protocol versions 1, this node 3 to 5: upgrade the older one";
    assert_eq!(error.to_string(), format!("{}: {text}", region.address));
    let link = soon(Link::new(Limits::default())).await;
    let dialler = QuicDialler::new(local, Limits::default());
    let dial = dialler.dial(&link.address, &Trust::FirstUse, Expected::default(), Role::Link);
    assert_eq!(soon(dial).await.unwrap_err().cause, DialCause::Version { ours: new, theirs: old });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_refusal_is_a_refusal() {
    let region = soon(Region::new(Limits::default())).await;
    let dialler = region.dialler(2, Limits::default());
    let address = region.address.clone();
    drop(region);
    // The task that listens ends a moment after its owner.
    soon(async {
        loop {
            let error = dialler.dial(&address, None, Role::Calls).await.unwrap_err();
            if error.is_refused() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for bad in ["no port", "127.0.0.1:notaport"] {
        let error = soon(dialler.dial(bad, None, Role::Calls)).await.unwrap_err();
        assert!(matches!(error.cause, DialCause::Unreachable(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named() {
    let region = soon(Region::new(Limits::default())).await;
    let address = region.listener.address();
    let credentials = credentials(&region.authority, 1);
    let error = TcpListener::bind(address, local(1), &credentials, Limits::default(), any()).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    // The same number is free for UDP: a link's port is the SQL port.
    let quic = QuicListener::bind(address, local(1), &credentials.node, Limits::default(), any()).await.unwrap();
    assert_eq!(quic.address(), address);
    let error = QuicListener::bind(address, local(1), &credentials.node, Limits::default(), any()).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_believes_its_ca_or_its_pin_and_nobody_else() {
    let mut link = soon(Link::new(Limits::default())).await;
    let pin = Fingerprint::of_pem(&link.authority.certificate_pem).unwrap();
    let stranger = create_ca(CLUSTER).unwrap();
    let wrong = Fingerprint::of_pem(&stranger.certificate_pem).unwrap();
    let dialler = QuicDialler::new(local(2), Limits::default());
    for trust in [Trust::FirstUse, Trust::Pinned(pin), Trust::Roots(link.authority.roots().unwrap())] {
        let expected = Expected { cluster: Some(CLUSTER), node: Some(NodeId(1)) };
        let dial = dialler.dial(&link.address, &trust, expected, Role::Link);
        let (near, _far) = soon(async { tokio::join!(dial, link.listener.accept()) }).await;
        assert_eq!(near.unwrap().peer().fingerprint, Some(pin), "{trust:?}");
    }
    let dial = |trust: Trust| {
        let (dialler, address) = (dialler.clone(), link.address.clone());
        async move { soon(dialler.dial(&address, &trust, Expected::default(), Role::Link)).await.unwrap_err().cause }
    };
    assert_eq!(dial(Trust::Pinned(wrong)).await, DialCause::WrongFingerprint { pinned: wrong, found: pin });
    let error = dial(Trust::Roots(stranger.roots().unwrap())).await;
    assert!(matches!(error, DialCause::Tls(_)), "{error}");
    let expected = Expected { cluster: Some(ClusterId(1)), node: None };
    let dial = dialler.dial(&link.address, &Trust::FirstUse, expected, Role::Link);
    let error = soon(dial).await.unwrap_err();
    assert_eq!(error.cause, DialCause::WrongPeer("expected cluster 1, found 7".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_untrusted_peer_can_do_little() {
    let mut link = soon(Link::new(Limits::default())).await;
    let (near, mut far) = soon(link.pair(Limits::default())).await;
    near.send(Frame::new(ITEM, vec![1; UNTRUSTED_BYTES_MAX])).await.unwrap();
    assert_eq!(soon(far.recv()).await.unwrap().unwrap().payload.len(), UNTRUSTED_BYTES_MAX, "a login fits");
    near.send(Frame::new(ITEM, vec![1; UNTRUSTED_BYTES_MAX + 1])).await.unwrap();
    let error = soon(far.recv()).await.unwrap_err();
    assert!(matches!(error, StreamError::Closed(Closed::BadBytes(_))), "{error}");
    assert!(matches!(soon(near.closed()).await, Closed::Peer(reason) if reason.contains("bad bytes")));

    let (near, far) = soon(link.pair(Limits::default())).await;
    let mut open = vec![near.open().await.unwrap()];
    let mut more = Box::pin(near.open());
    let early = tokio::time::timeout(Duration::from_millis(300), &mut more).await;
    assert!(early.is_err(), "one stream beside the main one is all");
    far.control().trust_peer();
    open.push(soon(more).await.unwrap());
    let mut far = far;
    let sending = near.send(Frame::new(ITEM, vec![1; 5 << 20]));
    let (sent, found) = soon(async { tokio::join!(sending, far.recv()) }).await;
    sent.unwrap();
    assert_eq!(found.unwrap().unwrap().payload.len(), 5 << 20, "a trusted peer has its full limits");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_silence_leave_a_link_listener_well() {
    let mut link = soon(Link::new(impatient())).await;
    let socket = UdpSocket::bind(loopback()).await.unwrap();
    for length in [0, 1, 20, 1200, 1400] {
        for byte in [0, 0x40, 0xc0, 0xff] {
            socket.send_to(&vec![byte; length], &link.address).await.unwrap();
        }
    }
    let silent = UdpSocket::bind(loopback()).await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limits = Limits { connect: Duration::from_millis(500), ..impatient() };
    let dialler = QuicDialler::new(local(2), limits);
    let error = soon(dialler.dial(&address, &Trust::FirstUse, Expected::default(), Role::Link)).await.unwrap_err();
    assert!(matches!(error.cause, DialCause::TimedOut { stage: "connecting", .. }), "{error}");
    let (near, mut far) = soon(link.pair(impatient())).await;
    near.send(item(1)).await.unwrap();
    assert_eq!(number(&soon(far.recv()).await.unwrap().unwrap()), 1);
}
