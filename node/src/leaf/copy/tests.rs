//! A copy over a real session, sent by servers that err: nothing wrong is installed, and the next attempt goes on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use replication::Life;
use storage::snapshot::{Chunk, Export, SnapshotError};
use storage::state::{LogPosition, PartitionState, StateConfig, StateEnv};
use transport::error::StreamError;
use transport::identity::{Local, Role};
use transport::limits::Limits;
use transport::session::{Session, Stream};
use transport::tcp::{TcpDialler, TcpListener};
use transport::tls::{Authority, Credentials, create_ca, issue};
use types::{
    Body, ClusterId, DatabaseId, Epoch, Incarnation, Lineage, Lsn, NodeId, Ordinal, PartitionId, Record, StartKind,
    Timestamp, TxnId, Write,
};

use super::{Copy, CopyError, Room, Target, fetch, frames};
use crate::leaf::rules::Rules;
use crate::leaf::state::StateDirs;

const ID: PartitionId = PartitionId { database: DatabaseId(5), ordinal: Ordinal(0) };
const CLUSTER: ClusterId = ClusterId(7);

/// A state with some files, and the lineage of its log.
fn source(env: &Arc<StateEnv>, dir: &Path) -> PartitionState {
    let epoch = Epoch { number: 1, cluster: CLUSTER, nonce: 3 };
    let position = LogPosition { end: Lsn::ZERO, lineage: &Lineage::new() };
    let state = PartitionState::open(env, dir, ID.ordinal, position).unwrap();
    let start = Body::EpochStart { start_ts: Timestamp(10), kind: StartKind::Failover };
    state.apply(&[Record { epoch, lsn: Lsn(1), body: start }]).unwrap();
    for lsn in 2..=200 {
        let value = Some(Bytes::from(vec![lsn as u8; 700]));
        let writes = vec![Write { key: Bytes::from(format!("key {lsn:03}")), value }];
        let body = Body::Commit { txn: TxnId(lsn.into()), ts: Timestamp(10 + lsn), writes };
        state.apply(&[Record { epoch, lsn: Lsn(lsn), body }]).unwrap();
        if lsn % 60 == 0 {
            state.flush(Lsn(lsn)).unwrap();
        }
    }
    state
}

/// Two ends of a stream, and what must live with it.
struct Line {
    near: Stream,
    far: Stream,
    _sessions: (Session, Session),
    _listener: TcpListener,
}

async fn line() -> Line {
    let authority = create_ca(CLUSTER).unwrap();
    let local = |node| Local::new(CLUSTER, NodeId(node), Incarnation(1));
    let limits = Limits::default();
    let (near, far) = (credentials(&authority, 2), credentials(&authority, 1));
    let address = "127.0.0.1:0".parse().unwrap();
    let mut listener = TcpListener::bind(address, local(1), &far, limits.clone(), Arc::new(|_| Ok(()))).await.unwrap();
    let dialler = TcpDialler::new(local(2), &near, limits).unwrap();
    let address = listener.address().to_string();
    let (near, mut far) = tokio::join!(dialler.dial(&address, Some(NodeId(1)), Role::Replication), listener.accept());
    let near = near.unwrap();
    let stream = near.open().await.unwrap();
    stream.sender.send(frames::ask(ID, Life(4))).await.unwrap();
    let mut accepted = far.accept().await.unwrap();
    let asked = accepted.receiver.recv().await.unwrap().unwrap();
    assert_eq!(frames::decode_ask(&asked).unwrap(), (ID, Life(4)));
    Line { near: stream, far: accepted, _sessions: (near, far), _listener: listener }
}

fn credentials(authority: &Authority, node: u64) -> Credentials {
    let node = issue(authority, CLUSTER, NodeId(node), &["localhost".into()]).unwrap();
    Credentials { cluster: CLUSTER, node, roots: authority.roots().unwrap() }
}

/// What a server does with its end of the stream.
type Serve = fn(&Export, Vec<Chunk>) -> Vec<transport::frame::Frame>;

struct Try {
    dir: tempfile::TempDir,
    env: Arc<StateEnv>,
    export: Export,
    rules: Arc<Rules>,
}

impl Try {
    fn new() -> Try {
        let dir = tempfile::tempdir().unwrap();
        let config = StateConfig { cache_bytes: 8 << 20, background_threads: 1, ..StateConfig::default() };
        let env = StateEnv::new(&config).unwrap();
        let state = source(&env, &dir.path().join("source"));
        let export = Export::create(&state, &dir.path().join("export"), Lsn(200)).unwrap();
        Try { dir, env, export, rules: Arc::new(Rules::new("leaf".into(), 1000)) }
    }

    fn partitions(&self) -> PathBuf {
        self.dir.path().join("partitions")
    }

    fn target(&self) -> Target {
        Target {
            partition: ID,
            life: Life(4),
            dirs: StateDirs::new(&self.partitions(), ID),
            import: self.dir.path().join("in"),
            env: self.env.clone(),
            room: Room::new(self.rules.clone()),
            taken: Arc::new(AtomicU64::new(0)),
        }
    }

    /// The chunks of all files from a place on, small ones.
    fn chunks(&self, (file, mut offset): (u32, u64)) -> Vec<Chunk> {
        let mut chunks = vec![];
        for (number, entry) in self.export.manifest().files.iter().enumerate().skip(file as usize) {
            while offset < entry.size {
                let chunk = self.export.read(number as u32, offset, 5000).unwrap();
                offset += chunk.bytes.len() as u64;
                chunks.push(chunk);
            }
            offset = 0;
        }
        chunks
    }

    /// Fetches from a server that sends what `serve` makes of the chunks, and then ends its side, in good order or not.
    async fn fetch(&self, serve: Serve, finish: bool) -> Result<Copy, CopyError> {
        let Line { mut near, far, _sessions, _listener } = line().await;
        let target = self.target();
        let Stream { sender, mut receiver } = far;
        let server = async {
            sender.send(frames::manifest(self.export.manifest())).await.unwrap();
            // It may not begin at all.
            let Ok(Some(next)) = receiver.recv().await else { return };
            for frame in serve(&self.export, self.chunks(frames::decode_next(&next).unwrap())) {
                // The fetcher may have turned away already.
                let _ = sender.send(frame).await;
            }
            if finish {
                sender.finish();
            }
            drop(sender);
        };
        let fetching = async move {
            let fetched = fetch(&mut near, &target).await;
            drop(near);
            fetched
        };
        let (fetched, ()) = tokio::join!(fetching, server);
        fetched
    }

    async fn fails(&self, serve: Serve, finish: bool) -> CopyError {
        let error = self.fetch(serve, finish).await.err().expect("it is refused");
        let installed = std::fs::read_dir(self.partitions()).map_or(0, Iterator::count);
        assert_eq!(installed, 0, "{error}");
        error
    }

    /// A server that does not err, at last.
    async fn succeeds(&self) {
        let copy = self.fetch(all, true).await.unwrap();
        assert_eq!((copy.state.applied(), copy.newest), (Lsn(200), Timestamp(210)));
        let row = copy.state.latest(b"key 150").unwrap().expect("the row is there");
        assert_eq!(row.value, Some(Bytes::from(vec![150; 700])));
        assert!(!self.target().import.exists());
    }
}

fn all(_: &Export, chunks: Vec<Chunk>) -> Vec<transport::frame::Frame> {
    chunks.iter().map(frames::chunk).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_the_state_and_counts_its_bytes() {
    let tried = Try::new();
    tried.succeeds().await;
    let (mut line, target) = (line().await, tried.target());
    let Stream { sender, mut receiver } = line.far;
    let server = async {
        sender.send(frames::manifest(tried.export.manifest())).await.unwrap();
        receiver.recv().await.unwrap();
        for frame in all(&tried.export, tried.chunks((0, 0))) {
            sender.send(frame).await.unwrap();
        }
        sender.finish();
    };
    let (copy, ()) = tokio::join!(fetch(&mut line.near, &target), server);
    assert_eq!(target.taken.load(Ordering::Relaxed), tried.export.manifest().size());
    assert!(copy.unwrap().state.dir().ends_with("5.0-1"), "a second copy does not overwrite the first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_installs_nothing_and_is_gone_on_with() {
    let tried = Try::new();
    let half: Serve = |_, chunks| chunks[..chunks.len() / 2].iter().map(frames::chunk).collect();
    let short = tried.fails(half, true).await;
    assert!(matches!(short, CopyError::Short { missing, bytes } if 0 < missing && missing < bytes), "{short}");
    let broken = tried.fails(half, false).await;
    assert!(matches!(broken, CopyError::Stream(StreamError::Reset)), "{broken}");
    let (mut line, target) = (line().await, tried.target());
    let Stream { sender, mut receiver } = line.far;
    let server = async {
        sender.send(frames::manifest(tried.export.manifest())).await.unwrap();
        let next = frames::decode_next(&receiver.recv().await.unwrap().unwrap()).unwrap();
        drop(sender);
        next
    };
    let (_, next) = tokio::join!(fetch(&mut line.near, &target), server);
    assert!(next > (0, 0), "what has come is not sent again: {next:?}");
    tried.succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_changed_on_the_way_are_refused() {
    let tried = Try::new();
    let wrong: Serve = |_, mut chunks| {
        chunks[3].crc ^= 1;
        chunks.iter().map(frames::chunk).collect()
    };
    let error = tried.fails(wrong, true).await;
    assert!(matches!(error, CopyError::Snapshot(SnapshotError::Chunk { .. })), "{error}");
    assert!(error.to_string().contains("checksum"), "{error}");
    tried.succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_others_than_the_manifest_says_are_refused() {
    let tried = Try::new();
    let wrong: Serve = |_, mut chunks| {
        let last = chunks.last_mut().expect("there are chunks");
        let mut bytes = last.bytes.to_vec();
        bytes[0] ^= 1;
        (last.crc, last.bytes) = (crc(&bytes), bytes.into());
        chunks.iter().map(frames::chunk).collect()
    };
    let error = tried.fails(wrong, true).await;
    assert!(matches!(error, CopyError::Snapshot(SnapshotError::File { .. })), "{error}");
    tried.succeeds().await;
}

/// CRC32C, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_in_another_order_are_refused() {
    let tried = Try::new();
    let swapped: Serve = |_, mut chunks| {
        chunks.swap(2, 3);
        chunks.iter().map(frames::chunk).collect()
    };
    let error = tried.fails(swapped, true).await;
    assert!(matches!(error, CopyError::Snapshot(SnapshotError::Chunk { .. })), "{error}");
    assert!(error.to_string().contains("is next"), "{error}");
    let doubled: Serve = |_, mut chunks| {
        let first = chunks[0].clone();
        chunks.insert(1, first);
        chunks.iter().map(frames::chunk).collect()
    };
    let error = tried.fails(doubled, true).await;
    assert!(matches!(error, CopyError::Snapshot(SnapshotError::Chunk { .. })), "{error}");
    tried.succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_have_no_place_are_refused() {
    let tried = Try::new();
    let second: Serve = |export, _| vec![frames::manifest(export.manifest())];
    let error = tried.fails(second, true).await;
    assert!(matches!(error, CopyError::Frame(_)), "{error}");
    let refusal: Serve = |_, chunks| vec![frames::chunk(&chunks[0]), frames::refused("the disk is broken")];
    let error = tried.fails(refusal, true).await;
    assert!(matches!(&error, CopyError::Refused(reason) if reason == "the disk is broken"), "{error}");
    let behind: Serve = |_, mut chunks| {
        chunks.push(chunks[0].clone());
        chunks.iter().map(frames::chunk).collect()
    };
    let error = tried.fails(behind, true).await;
    assert!(matches!(error, CopyError::Frame(_)), "{error}");
    tried.succeeds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_for_which_there_is_no_room_is_not_begun() {
    let tried = Try::new();
    let bytes = tried.export.manifest().size();
    tried.rules.set_free(1000 + bytes - 1);
    let refused = tried.fails(all, true).await;
    assert!(matches!(refused, CopyError::NoRoom { bytes: of, room } if of == bytes && room == bytes - 1), "{refused}");
    let taken: u64 = std::fs::read_dir(&tried.target().import)
        .map_or(0, |files| files.map(|file| file.unwrap().metadata().unwrap().len()).sum());
    assert!(taken < bytes / 2, "{taken} bytes came in");
    // One that comes in already has its room to itself.
    let room = Room::new(tried.rules.clone());
    tried.rules.set_free(1000 + 10);
    let first = room.claim(6).unwrap();
    assert!(matches!(room.claim(5), Err(CopyError::NoRoom { bytes: 5, room: 4 })));
    drop(first);
    room.claim(10).unwrap();
    tried.rules.set_free(999);
    assert!(matches!(room.claim(1), Err(CopyError::NoRoom { bytes: 1, room: 0 })));
    tried.rules.set_free(1000 + bytes + 250);
    tried.succeeds().await;
}
