//! The receiving side of a copy: bytes become a state beside the one that counts. Nothing here changes the latter.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use replication::Life;
use storage::snapshot::{Import, Manifest};
use storage::state::{LogPosition, PartitionState, StateEnv};
use tokio::task::block_in_place;
use transport::session::{Stream, StreamReceiver};
use types::PartitionId;

use super::frames::{self, Said};
use super::{Copy, CopyError, Room};
use crate::leaf::state::StateDirs;

/// Where a copy goes.
pub struct Target {
    /// Whose state it is here.
    pub partition: PartitionId,
    /// Of the replica that asks.
    pub life: Life,
    /// The directories of the replica.
    pub dirs: StateDirs,
    /// Where it is while it comes in.
    pub import: PathBuf,
    /// The leaf's states.
    pub env: Arc<StateEnv>,
    /// What the disk has.
    pub room: Room,
    /// Counts the bytes that come in.
    pub taken: Arc<AtomicU64>,
}

/// Takes the copy that the other end of a stream sends. Dropping the future leaves what has come for the next attempt.
///
/// Disk work is done in place, so that nothing of it goes on when the future is dropped.
pub async fn fetch(stream: &mut Stream, target: &Target) -> Result<Copy, CopyError> {
    let manifest = match receive(&mut stream.receiver).await? {
        Some(Said::Manifest(manifest)) => manifest,
        Some(Said::Chunk(chunk)) => {
            return Err(CopyError::Frame(format!("a chunk of file {} without a manifest", chunk.file)));
        }
        Some(Said::Refused(reason)) => return Err(CopyError::Refused(reason)),
        None => return Err(CopyError::Short { missing: 0, bytes: 0 }),
    };
    let bytes = manifest.size();
    tracing::info!(partition = %target.partition, applied = %manifest.applied, bytes, "a copy comes in");
    let files = manifest.files.len() as u32;
    let mut import = block_in_place(|| Import::begin(&target.import, manifest.clone()))?;
    let _claim = target.room.claim(missing(&manifest, &import))?;
    let (file, offset) = import.next().unwrap_or((files, 0));
    stream.sender.send(frames::next(file, offset)).await?;
    while import.next().is_some() {
        match receive(&mut stream.receiver).await? {
            Some(Said::Chunk(chunk)) => {
                block_in_place(|| import.write(&chunk))?;
                target.taken.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            }
            Some(Said::Refused(reason)) => return Err(CopyError::Refused(reason)),
            Some(Said::Manifest(_)) => return Err(CopyError::Frame("a second manifest".into())),
            None => return Err(CopyError::Short { missing: missing(&manifest, &import), bytes }),
        }
    }
    if let Some(frame) = stream.receiver.recv().await? {
        return Err(CopyError::Frame(format!("a frame of kind {} behind the last chunk", frame.kind.code())));
    }
    block_in_place(|| open(import, target))
}

fn open(import: Import, target: &Target) -> Result<Copy, CopyError> {
    let (env, ordinal) = (&target.env, target.partition.ordinal);
    let path = target.dirs.next().map_err(storage::snapshot::SnapshotError::from)?;
    let manifest = import.finish(env, ordinal, &path)?;
    let position = LogPosition { end: manifest.applied, lineage: &manifest.lineage };
    let opened = PartitionState::open(env, &path, ordinal, position).and_then(|state| Ok((state.newest()?, state)));
    let (newest, state) = opened.map_err(storage::snapshot::SnapshotError::from)?;
    Ok(Copy { state: Arc::new(state), newest })
}

async fn receive(receiver: &mut StreamReceiver) -> Result<Option<Said>, CopyError> {
    receiver.recv().await?.map(frames::decode_said).transpose()
}

/// Bytes of the manifest's files that are not here.
fn missing(manifest: &Manifest, import: &Import) -> u64 {
    let Some((file, offset)) = import.next() else { return 0 };
    let rest: u64 = manifest.files.iter().skip(file as usize).map(|file| file.size).sum();
    rest.saturating_sub(offset)
}
