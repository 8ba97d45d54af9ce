//! The first exchange of a session, the same over TCP and QUIC: who is there, and which version both speak.
//!
//! ```text
//! dialler   -> hello                      listener reads it, decides
//! listener  -> hello, verdict             dialler checks the hello, then the verdict
//! ```
//!
//! A hello is a frame (`frame.rs`) on stream 0. Its header and the first 12 bytes of its payload never change, in no
//! version, so that two releases of any age can tell each other what they speak:
//!
//! ```text
//! offset  size  field (little endian)
//!      0     8  magic "perennia"
//!      8     2  lowest protocol version spoken
//!     10     2  highest protocol version spoken
//!     12     8  cluster id
//!     20     8  node id
//!     28     8  process incarnation
//!     36     1  role of the session; a listener repeats the dialler's
//!     37     -  room for later versions; ignored
//! ```
//!
//! Verdict: 1 byte, 1 = welcome, 0 = turned away; then the reason as UTF-8.
//!
//! - A listener whose versions do not fit still sends its hello: both ends can then name both ranges.
//! - A name is believed if the certificate carries it, or recorded as a mere claim ([`Proof`]).
//! - The whole exchange has a time limit, set by the caller.

use std::fmt;
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use types::{ClusterId, Incarnation, NodeId};

use crate::error::DialCause;
use crate::frame::{HEADER_BYTES, Header, Kind, Sealed};
use crate::identity::{Local, Proof, Role};
use crate::limits::CONTROL_BYTES_MAX;

const MAGIC: [u8; 8] = *b"perennia";
const HELLO_BYTES: usize = 37;
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 1;

/// The protocol versions that a node speaks, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl VersionRange {
    /// What this release speaks.
    pub const OURS: VersionRange = VersionRange { min: 1, max: 1 };

    /// The highest version that both speak.
    pub fn agree(self, other: VersionRange) -> Option<u16> {
        let best = self.max.min(other.max);
        (best >= self.min && best >= other.min).then_some(best)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max { write!(f, "{}", self.min) } else { write!(f, "{} to {}", self.min, self.max) }
    }
}

/// What each side says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub versions: VersionRange,
    pub cluster: ClusterId,
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// A role that this release does not know is kept as its number: it can then be named in the refusal.
    pub role: u8,
}

impl Hello {
    fn of(local: &Local, role: u8) -> Hello {
        let Local { cluster, node, incarnation, versions } = *local;
        Hello { versions, cluster, node, incarnation, role }
    }

    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HELLO_BYTES);
        bytes.put_slice(&MAGIC);
        bytes.put_u16_le(self.versions.min);
        bytes.put_u16_le(self.versions.max);
        bytes.put_u64_le(self.cluster.0);
        bytes.put_u64_le(self.node.0);
        bytes.put_u64_le(self.incarnation.0);
        bytes.put_u8(self.role);
        bytes.freeze()
    }

    fn decode(mut bytes: &[u8], ours: VersionRange) -> Result<Hello, DialCause> {
        if !bytes.starts_with(&MAGIC) {
            return Err(DialCause::BadBytes("a hello does not begin with the magic word".into()));
        }
        bytes.advance(MAGIC.len());
        if bytes.len() < 4 {
            return Err(DialCause::BadBytes("a hello ends before its versions".into()));
        }
        let versions = VersionRange { min: bytes.get_u16_le(), max: bytes.get_u16_le() };
        // What follows may have another shape if no version is shared.
        if bytes.len() < HELLO_BYTES - MAGIC.len() - 4 {
            return Err(match versions.agree(ours) {
                Some(_) => DialCause::BadBytes("a hello ends before its names".into()),
                None => DialCause::Version { ours, theirs: versions },
            });
        }
        Ok(Hello {
            versions,
            cluster: ClusterId(bytes.get_u64_le()),
            node: NodeId(bytes.get_u64_le()),
            incarnation: Incarnation(bytes.get_u64_le()),
            role: bytes.get_u8(),
        })
    }
}

/// What the exchange has established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub role: Role,
    pub version: u16,
    pub proof: Proof,
}

impl Greeting {
    fn new(hello: Hello, role: Role, version: u16, proof: Proof) -> Greeting {
        let Hello { cluster, node, incarnation, .. } = hello;
        Greeting { cluster, node, incarnation, role, version, proof }
    }
}

/// Whom a dialler wants to find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// This cluster; `None` if it is not known yet.
    pub cluster: Option<ClusterId>,
    /// This node; `None` if it is not known yet.
    pub node: Option<NodeId>,
}

impl Expected {
    fn check(&self, hello: &Hello) -> Result<(), String> {
        if let Some(cluster) = self.cluster
            && cluster != hello.cluster
        {
            return Err(format!("expected cluster {}, found {}", cluster.0, hello.cluster.0));
        }
        if let Some(node) = self.node
            && node != hello.node
        {
            return Err(format!("expected node {node}, found node {} of cluster {}", hello.node, hello.cluster.0));
        }
        Ok(())
    }
}

/// Whether a certificate carries a name: by what it is known, or why it is not believed.
pub(crate) type Prove<'a> = &'a (dyn Fn(ClusterId, NodeId) -> Result<Proof, String> + Send + Sync);

/// The dialler's half.
pub(crate) async fn dial(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    local: &Local,
    role: Role,
    expected: Expected,
    prove: Prove<'_>,
) -> Result<Greeting, DialCause> {
    write(io, Kind::HELLO, Hello::of(local, role as u8).encode()).await?;
    let hello = Hello::decode(&read(io, Kind::HELLO).await?, local.versions)?;
    let version = agree(local, &hello)?;
    expected.check(&hello).map_err(DialCause::WrongPeer)?;
    let proof = prove(hello.cluster, hello.node).map_err(DialCause::WrongPeer)?;
    let verdict = read(io, Kind::VERDICT).await?;
    match verdict.split_first() {
        Some((1, _)) => Ok(Greeting::new(hello, role, version, proof)),
        Some((0, reason)) => Err(DialCause::Rejected(String::from_utf8_lossy(reason).into_owned())),
        _ => Err(DialCause::BadBytes("a verdict is neither yes nor no".into())),
    }
}

/// The listener's half. `admit` decides about a peer whose name and version are in order.
pub(crate) async fn listen(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    local: &Local,
    prove: Prove<'_>,
    admit: impl FnOnce(&Greeting) -> Result<(), String>,
) -> Result<Greeting, DialCause> {
    let hello = Hello::decode(&read(io, Kind::HELLO).await?, local.versions);
    let role = hello.as_ref().map_or(0, |hello| hello.role);
    if matches!(hello, Ok(_) | Err(DialCause::Version { .. })) {
        write(io, Kind::HELLO, Hello::of(local, role).encode()).await?;
    }
    let hello = hello?;
    let version = agree(local, &hello)?;
    let admitted = prove(hello.cluster, hello.node).map_err(DialCause::WrongPeer).and_then(|proof| {
        let known = Role::from_code(role);
        let role = known.ok_or_else(|| DialCause::Rejected(format!("a session of role {role} is not known here")))?;
        let greeting = Greeting::new(hello, role, version, proof);
        admit(&greeting).map_err(DialCause::Rejected)?;
        Ok(greeting)
    });
    match &admitted {
        Ok(_) => write(io, Kind::VERDICT, Bytes::from_static(&[1])).await?,
        Err(DialCause::Rejected(reason) | DialCause::WrongPeer(reason)) => {
            let mut verdict = vec![0];
            verdict.extend_from_slice(cut(reason, REASON_BYTES_MAX).as_bytes());
            write(io, Kind::VERDICT, verdict.into()).await?;
        }
        Err(_) => {}
    }
    admitted
}

/// The longest prefix of at most `max` bytes that is whole characters.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

fn agree(local: &Local, hello: &Hello) -> Result<u16, DialCause> {
    local.versions.agree(hello.versions).ok_or(DialCause::Version { ours: local.versions, theirs: hello.versions })
}

async fn write(io: &mut (impl AsyncWrite + Unpin), kind: Kind, payload: Bytes) -> Result<(), DialCause> {
    let frame = Sealed::control(kind, payload);
    let bytes = [&frame.header(0)[..], &frame.payload[..]].concat();
    io.write_all(&bytes).await.map_err(broken)?;
    io.flush().await.map_err(broken)
}

/// Reads one frame and not a byte more: what follows belongs to the session.
async fn read(io: &mut (impl AsyncRead + Unpin), kind: Kind) -> Result<Vec<u8>, DialCause> {
    let mut header = [0; HEADER_BYTES];
    io.read_exact(&mut header).await.map_err(broken)?;
    let header = Header::parse(&header, false).map_err(|error| DialCause::BadBytes(error.to_string()))?;
    if header.kind != kind || header.stream != 0 {
        let (found, stream) = (header.kind.code(), header.stream);
        let reason = format!("expected frame kind {}, found kind {found} on stream {stream}", kind.code());
        return Err(DialCause::BadBytes(reason));
    }
    let mut payload = vec![0; header.length];
    io.read_exact(&mut payload).await.map_err(broken)?;
    Ok(payload)
}

/// What an error of a socket in the handshake means. TLS reports its own through the same type.
pub(crate) fn broken(error: io::Error) -> DialCause {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => DialCause::Tls(tls.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => DialCause::Lost("the connection ended".into()),
        None => DialCause::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
