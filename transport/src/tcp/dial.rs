//! The dialling side of TCP sessions.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use types::NodeId;

use super::{chain_of, prepare, start};
use crate::address::resolve;
use crate::error::{DialCause, DialError};
use crate::handshake::{Expected, broken, dial};
use crate::identity::{Local, Peer, Role};
use crate::limits::Limits;
use crate::session::Session;
use crate::tls::{Credentials, TlsError, chain_fingerprint, cluster_name, prove, region_client};

/// Reaches nodes of the same cluster. Cheap to clone.
#[derive(Clone)]
pub struct TcpDialler {
    local: Local,
    tls: TlsConnector,
    name: ServerName<'static>,
    limits: Limits,
}

impl TcpDialler {
    /// For a node with these credentials.
    pub fn new(local: Local, credentials: &Credentials, limits: Limits) -> Result<TcpDialler, TlsError> {
        let tls = TlsConnector::from(Arc::new(region_client(credentials)?));
        let name = ServerName::try_from(cluster_name(credentials.cluster)).expect("a cluster's name is well formed");
        Ok(TcpDialler { local, tls, name, limits })
    }

    /// Reaches the node at `address` (host:port). `node` is who must be there, if that is known.
    pub async fn dial(&self, address: &str, node: Option<NodeId>, role: Role) -> Result<Session, DialError> {
        let io = connect(address, &self.limits).await.map_err(|cause| cause.at(address))?;
        let limit = self.limits.handshake;
        match timeout(limit, self.greet(io, node, role)).await {
            Ok(result) => result.map_err(|cause| cause.at(address)),
            Err(_) => Err(DialCause::TimedOut { stage: "handshake", time: limit }.at(address)),
        }
    }

    async fn greet(&self, io: TcpStream, node: Option<NodeId>, role: Role) -> Result<Session, DialCause> {
        let address = io.peer_addr().map_err(broken)?;
        prepare(&io, &self.limits).map_err(broken)?;
        let io = self.tls.connect(self.name.clone(), io).await.map_err(broken)?;
        let mut io = TlsStream::from(io);
        let chain = chain_of(&io).to_vec();
        let expected = Expected { cluster: Some(self.local.cluster), node };
        let known = |cluster, node| prove(&chain, cluster, node);
        let greeting = dial(&mut io, &self.local, role, expected, &known).await?;
        let peer = Peer::new(&greeting, address, chain_fingerprint(&chain));
        Ok(start(io, peer, &self.limits, true, None))
    }
}

impl fmt::Debug for TcpDialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpDialler({:?})", self.local)
    }
}

/// Tries every address of the host in turn. Refused is refused only if every one of them refuses.
async fn connect(address: &str, limits: &Limits) -> Result<TcpStream, DialCause> {
    let mut worst = DialCause::Refused;
    for candidate in resolve(address, limits.connect).await? {
        match timeout(limits.connect, TcpStream::connect(candidate)).await {
            Ok(Ok(io)) if is_self(&io, candidate) => {}
            Ok(Ok(io)) => return Ok(io),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => worst = DialCause::Unreachable(error.to_string()),
            Err(_) => worst = DialCause::TimedOut { stage: "connecting", time: limits.connect },
        }
    }
    Err(worst)
}

/// A port of this host that nobody listens on may be given to the connection itself: it then talks to itself.
fn is_self(io: &TcpStream, candidate: SocketAddr) -> bool {
    io.local_addr().is_ok_and(|local| local == candidate)
}
