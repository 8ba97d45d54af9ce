//! What every test of sessions needs: nodes with certificates, listeners on loopback, pairs of sessions.
#![allow(dead_code)] // each test binary uses a part

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use perennial_transport::frame::{Frame, Kind};
use perennial_transport::handshake::Expected;
use perennial_transport::identity::{Admit, Local, Role};
use perennial_transport::limits::Limits;
use perennial_transport::quic::{QuicDialler, QuicListener};
use perennial_transport::session::Session;
use perennial_transport::tcp::{TcpDialler, TcpListener};
use perennial_transport::tls::{Authority, Credentials, Trust, create_ca, issue};
use types::{ClusterId, Incarnation, NodeId};

pub const CLUSTER: ClusterId = ClusterId(7);
pub const ITEM: Kind = Kind::bulk(1);

/// Fails a test that hangs; no test depends on it otherwise.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("the test hangs")
}

pub fn local(node: u64) -> Local {
    Local::new(CLUSTER, NodeId(node), Incarnation(1))
}

pub fn any() -> Admit {
    Arc::new(|_| Ok(()))
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

pub fn credentials(authority: &Authority, node: u64) -> Credentials {
    let node = issue(authority, CLUSTER, NodeId(node), &["localhost".into()]).unwrap();
    Credentials { cluster: CLUSTER, node, roots: authority.roots().unwrap() }
}

pub struct Region {
    pub authority: Authority,
    pub listener: TcpListener,
    pub address: String,
}

impl Region {
    /// Node 1 listens.
    pub async fn new(limits: Limits) -> Region {
        Region::with(limits, any()).await
    }

    pub async fn with(limits: Limits, admit: Admit) -> Region {
        let authority = create_ca(CLUSTER).unwrap();
        let credentials = credentials(&authority, 1);
        let listener = TcpListener::bind(loopback(), local(1), &credentials, limits, admit).await.unwrap();
        let address = listener.address().to_string();
        Region { authority, listener, address }
    }

    pub fn dialler(&self, node: u64, limits: Limits) -> TcpDialler {
        TcpDialler::new(local(node), &credentials(&self.authority, node), limits).unwrap()
    }

    /// Node 2 dials.
    pub async fn pair(&mut self, limits: Limits) -> (Session, Session) {
        let dialler = self.dialler(2, limits);
        let (near, far) =
            tokio::join!(dialler.dial(&self.address, Some(NodeId(1)), Role::Calls), self.listener.accept());
        (near.unwrap(), far)
    }
}

pub struct Link {
    pub authority: Authority,
    pub listener: QuicListener,
    pub address: String,
}

impl Link {
    pub async fn new(limits: Limits) -> Link {
        let authority = create_ca(CLUSTER).unwrap();
        let node = credentials(&authority, 1).node;
        let listener = QuicListener::bind(loopback(), local(1), &node, limits, any()).await.unwrap();
        let address = listener.address().to_string();
        Link { authority, listener, address }
    }

    pub async fn pair(&mut self, limits: Limits) -> (Session, Session) {
        let dialler = QuicDialler::new(local(2), limits);
        let dial = dialler.dial(&self.address, &Trust::FirstUse, Expected::default(), Role::Link);
        let (near, far) = tokio::join!(dial, self.listener.accept());
        (near.unwrap(), far)
    }
}

/// A pair of trusted sessions, and what must stay alive with it.
pub async fn tcp_pair(limits: Limits) -> (Session, Session, Region) {
    let mut region = Region::new(limits.clone()).await;
    let (near, far) = region.pair(limits).await;
    (near, far, region)
}

pub async fn quic_pair(limits: Limits) -> (Session, Session, Link) {
    let mut link = Link::new(limits.clone()).await;
    let (near, far) = link.pair(limits).await;
    far.control().trust_peer();
    (near, far, link)
}

pub fn item(number: u64) -> Frame {
    Frame::new(ITEM, number.to_le_bytes().to_vec())
}

pub fn number(frame: &Frame) -> u64 {
    assert_eq!(frame.kind, ITEM);
    u64::from_le_bytes(frame.payload[..8].try_into().unwrap())
}
