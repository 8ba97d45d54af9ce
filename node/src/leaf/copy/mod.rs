//! Copies of state between replicas: what a replica does that the log cannot bring along.
//!
//! ```text
//! fetcher -> ASK (partition, life)                   in a region; a DR session says it in its own words
//! server  -> MANIFEST                          or REFUSED (text), finish
//! fetcher -> NEXT (file, offset)               what it has already of just these files is not sent again
//! server  -> CHUNK, CHUNK, …, finish           from there to the end, in order
//! ```
//!
//! A copy is a stream of its own, over a session of the region or one between regions: nothing here knows which.
//!
//! - Only a primary that serves, and holds every member's lease, is copied from; and only what is safe: on disk of every
//!   member, so that it may leave the region. It flushes its state and hands out hard links to the files (`serve`).
//! - The fetcher lays the files beside its state, checks each chunk, each file and the whole, and gives the directory its
//!   name (`fetch`). Whatever fails up to here has changed nothing.
//! - The replica's task then writes `Installed` to the log and exchanges the state behind its readers (`leaf::state`):
//!   that entry, synced, is the moment at which the old replica ends and the new one begins.
//! - At the primary of a sink the catalog knows first that the state is incomplete, so that nobody else is named in
//!   between, and last that it is complete (`word`).
//! - One job for each replica tries until it has a copy, from whoever is said to have one (`job`).
//!
//! Kept in the directory `copies`: what is sent (`out-N`) and what comes in (`in-PARTITION`). A process that starts
//! deletes all of it.

mod fetch;
mod frames;
mod job;
mod room;
mod serve;
mod throttle;
mod word;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use replication::{Input, Life};
use storage::log::NodeLog;
use storage::snapshot::SnapshotError;
use storage::state::{PartitionState, StateEnv};
use thiserror::Error;
use tokio::sync::Semaphore;
use transport::error::{DialError, StreamError};
use transport::identity::Role;
use transport::session::{Control, Incoming, Stream};
use types::{LinkId, Member, PartitionId, Timestamp};

use super::events::Events;
use super::links::Links;
use super::partition::{Event, PartitionHandle};
use super::peers::Peers;
use super::state::StateDirs;
use throttle::Throttle;

pub use fetch::{Target, fetch};
pub use job::{Job, Origin};
pub use room::Room;
pub use serve::serve;
pub use word::{Word, Words};

#[cfg(test)]
mod tests;

/// Copies that a leaf sends at once: each reads its disk as fast as it can.
const SENT_MAX: usize = 2;
/// Copies that a leaf takes at once; the others wait.
const TAKEN_MAX: usize = 2;

/// Why there is no copy yet. Every attempt is repeated; nothing was installed.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The other side has none to give.
    #[error("the copy was refused: {0}")]
    Refused(String),
    /// The primary is not among the leaves that the catalog names.
    #[error("no address is known of {0}: the catalog has to name it first")]
    Unknown(Member),
    /// It cannot be reached.
    #[error("the primary is not reached: {0}")]
    Dial(#[from] DialError),
    /// It is not known where this link's source is.
    #[error("the source's leaf is not known for link {0}: the copy waits until the source has told it")]
    NoSession(LinkId),
    /// The stream ended early.
    #[error("the stream of the copy broke: {0}")]
    Stream(#[from] StreamError),
    /// The stream ended in good order, and something is missing.
    #[error("the copy is cut short: {missing} of {bytes} bytes are missing")]
    Short {
        /// What did not come.
        missing: u64,
        /// What should have come.
        bytes: u64,
    },
    /// It would take the room of the partitions that are served here.
    #[error("it takes {bytes} bytes, and the disk has room for {room} beside its reserve: make room there")]
    NoRoom {
        /// What is still to come.
        bytes: u64,
        /// What may be written here.
        room: u64,
    },
    /// A frame that has no place here.
    #[error("the copy cannot be read: {0}; the two leaves may run different releases")]
    Frame(String),
    /// Files are damaged, or the disk refuses.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// Nobody reads the copy any more.
    #[error("the reader of the copy has gone")]
    Gone,
}

/// A state that has come whole.
pub struct Copy {
    /// Opened where it stays.
    pub state: Arc<PartitionState>,
    /// The highest time that it speaks of.
    pub newest: Timestamp,
}

/// What the copies of a leaf share. Cheap to clone.
#[derive(Clone)]
pub struct Copies {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    env: Arc<StateEnv>,
    log: Arc<NodeLog>,
    peers: Peers,
    links: Links,
    room: Room,
    events: Events,
    sending: Semaphore,
    taking: Semaphore,
    throttle: Throttle,
    exports: AtomicU64,
    sent: AtomicU64,
    taken: Arc<AtomicU64>,
}

impl Copies {
    /// Keeps what is under way in `dir`, which is emptied. Sends so many bytes in a second.
    pub fn new(
        dir: &Path,
        env: Arc<StateEnv>,
        log: Arc<NodeLog>,
        peers: Peers,
        links: Links,
        room: Room,
        events: Events,
        bytes_per_second: u64,
    ) -> Copies {
        if let Err(error) = std::fs::remove_dir_all(dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %dir.display(), %error, "copies of an earlier process cannot be deleted");
        }
        let (sending, taking) = (Semaphore::new(SENT_MAX), Semaphore::new(TAKEN_MAX));
        let (exports, sent, taken) = Default::default();
        let (dir, throttle) = (dir.into(), Throttle::new(bytes_per_second));
        let shared =
            Shared { dir, env, log, peers, links, room, events, sending, taking, throttle, exports, sent, taken };
        Copies { shared: Arc::new(shared) }
    }

    /// Answers the copies that another leaf of the region asks for on a session, until it ends.
    pub async fn answer_all(self, mut incoming: Incoming) {
        while let Ok(stream) = incoming.accept().await {
            let copies = self.clone();
            tokio::spawn(async move { copies.answer(stream).await });
        }
    }

    async fn answer(&self, mut stream: Stream) {
        let peer = stream.sender.peer().member();
        let asked = match stream.receiver.recv().await {
            Ok(Some(frame)) => frames::decode_ask(&frame),
            Ok(None) | Err(_) => return,
        };
        let handle = |id| self.shared.peers.partitions().read().get(&id).cloned();
        let served = match asked.map(|(id, life)| (id, life, handle(id))) {
            Ok((id, life, Some(handle))) => {
                // Who asks holds nothing: its primary hears that first. An error: the task has ended, and gives nothing.
                let _ = handle.events.send(Event::Input(Input::CopyAsked { by: peer, life })).await;
                serve(&mut stream, id, &handle, self).await.map(|bytes| (id, bytes))
            }
            Ok((id, _, None)) => {
                serve::refuse(&stream, &format!("this leaf has no replica of {id}")).await;
                return;
            }
            Err(error) => Err(error),
        };
        match served {
            Ok((partition, bytes)) => tracing::info!(%partition, %peer, bytes, "a copy was sent"),
            Err(error) => tracing::info!(%peer, %error, "a copy was not sent"),
        }
    }

    /// A session with the primary of the region, and a stream of it. Nothing is said on its main stream.
    async fn ask_primary(&self, primary: Member, id: PartitionId, life: Life) -> Result<(Control, Stream), CopyError> {
        let address = self.shared.peers.address(primary.node).ok_or(CopyError::Unknown(primary))?;
        let session = self.shared.peers.dialler().dial(&address, Some(primary.node), Role::Replication).await?;
        let (control, _, main, _) = session.split();
        main.finish();
        let stream = control.open().await.map_err(StreamError::from)?;
        stream.sender.send(frames::ask(id, life)).await?;
        Ok((control, stream))
    }

    /// Where a copy of this partition goes.
    pub fn target(&self, partition: PartitionId, life: Life, dirs: StateDirs) -> Target {
        let Shared { env, room, taken, .. } = &*self.shared;
        let (import, env, room, taken) = (self.import_dir(partition), env.clone(), room.clone(), taken.clone());
        Target { partition, life, dirs, import, env, room, taken }
    }

    fn import_dir(&self, id: PartitionId) -> PathBuf {
        self.shared.dir.join(format!("in-{id}"))
    }

    fn export_dir(&self) -> PathBuf {
        self.shared.dir.join(format!("out-{}", self.shared.exports.fetch_add(1, Ordering::Relaxed)))
    }

    /// Bytes of copies that were sent and taken since the process started.
    pub fn bytes(&self) -> (u64, u64) {
        (self.shared.sent.load(Ordering::Relaxed), self.shared.taken.load(Ordering::Relaxed))
    }

    /// Forgets what came in of a replica that is removed.
    pub fn forget(&self, id: PartitionId) {
        // There is mostly nothing.
        let _ = std::fs::remove_dir_all(self.import_dir(id));
    }
}
