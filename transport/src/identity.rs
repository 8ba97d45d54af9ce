//! Who is at each end of a session: what a node says of itself, and what is known of a peer and how.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use types::{ClusterId, Incarnation, Member, NodeId};

use crate::handshake::{Greeting, VersionRange};
use crate::tls::Fingerprint;

/// What a session is for. The one who dials chooses; the listener's owner hands the session to the right part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// Replicas of a region among themselves: heartbeats, records, acknowledgements.
    Replication = 1,
    /// Requests and answers: statements at partitions, timestamps, placement.
    Calls = 2,
    /// Calls to the master aggregator, through any aggregator.
    Catalog = 3,
    /// A sink of another region.
    Link = 4,
    /// Aggregators among themselves: messages of the catalog's raft group.
    Raft = 5,
}

impl Role {
    /// The role with this number; `None` if this version knows none.
    pub fn from_code(code: u8) -> Option<Role> {
        let all = [Role::Replication, Role::Calls, Role::Catalog, Role::Link, Role::Raft];
        all.into_iter().find(|role| *role as u8 == code)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Replication => "replication",
            Role::Calls => "calls",
            Role::Catalog => "catalog",
            Role::Link => "link",
            Role::Raft => "raft",
        })
    }
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its place in the cluster.
    pub node: NodeId,
    /// Which of its processes.
    pub incarnation: Incarnation,
    /// What it speaks: [`VersionRange::OURS`] but in tests.
    pub versions: VersionRange,
}

impl Local {
    /// A node of this release.
    pub fn new(cluster: ClusterId, node: NodeId, incarnation: Incarnation) -> Local {
        Local { cluster, node, incarnation, versions: VersionRange::OURS }
    }
}

/// How a peer's name is known to be its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Its certificate names it, under a CA that was asked for.
    Certificate,
    /// It says so. The owner of the session must ask for a password or token before it believes anything.
    Claim,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its place there.
    pub node: NodeId,
    /// Which of its processes.
    pub incarnation: Incarnation,
    /// What the session is for.
    pub role: Role,
    /// The protocol version that both speak.
    pub version: u16,
    /// Where it was seen.
    pub address: SocketAddr,
    /// How its name is known.
    pub proof: Proof,
    /// What a link pins: the fingerprint of the CA that its certificate chain ends in, or of the certificate itself
    /// if it came alone. `None` if it showed none.
    pub fingerprint: Option<Fingerprint>,
}

impl Peer {
    pub(crate) fn new(greeting: &Greeting, address: SocketAddr, fingerprint: Option<Fingerprint>) -> Peer {
        let Greeting { cluster, node, incarnation, role, version, proof } = *greeting;
        Peer { cluster, node, incarnation, role, version, address, proof, fingerprint }
    }

    /// Its name in in-sync sets.
    pub fn member(&self) -> Member {
        Member { node: self.node, incarnation: self.incarnation }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {} at {} ({})", self.member(), self.cluster.0, self.address, self.role)
    }
}

/// A listener's decision about a peer whose version and name are in order; the text is what the peer is told if it is
/// not wanted. Called in the listener's task: it must not block.
pub type Admit = Arc<dyn Fn(&Peer) -> Result<(), String> + Send + Sync>;
