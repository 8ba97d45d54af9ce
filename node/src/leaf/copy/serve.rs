//! The sending side of a copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use replication::Status;
use storage::snapshot::Export;
use transport::frame::Frame;
use transport::identity::Role;
use transport::session::Stream;
use types::{Lsn, NodeId, PartitionId, Reign};

use super::{Copies, CopyError, PartitionHandle, frames};
use crate::leaf::history;

/// Bytes of a file in one frame.
const CHUNK_BYTES: usize = 1 << 20;
/// How long the flushed state may take to be safe: members sync within `flush_interval`, or are taken out of the set.
const SAFE_TIME: Duration = Duration::from_secs(30);
/// How long a fetcher may take to say where to begin.
const NEXT_TIME: Duration = Duration::from_secs(30);

/// An export on the disk; gone when nobody sends it any more.
struct Outgoing(Option<Export>);

impl Outgoing {
    fn export(&self) -> &Export {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(Export::remove) {
            tracing::warn!(%error, "an export is left behind until the next start");
        }
    }
}

/// Sends a copy of a partition's state; tells the reader if there is none. Returns the bytes that were sent.
pub async fn serve(
    stream: &mut Stream,
    id: PartitionId,
    handle: &PartitionHandle,
    copies: &Copies,
) -> Result<u64, CopyError> {
    let sender = stream.sender.clone();
    let sent = tokio::select! {
        biased;
        () = sender.stopped() => Err(CopyError::Gone),
        sent = send(stream, id, handle, copies) => sent,
    };
    match &sent {
        Ok(_) => sender.finish(),
        Err(error) => refuse(stream, &error.to_string()).await,
    }
    sent
}

/// Tells the reader why it gets nothing more.
pub async fn refuse(stream: &Stream, reason: &str) {
    // It may have gone, and then needs no answer.
    if stream.sender.send(frames::refused(reason)).await.is_ok() {
        stream.sender.finish();
    }
}

async fn send(
    stream: &mut Stream,
    id: PartitionId,
    handle: &PartitionHandle,
    copies: &Copies,
) -> Result<u64, CopyError> {
    let refused = |reason: &str| CopyError::Refused(reason.into());
    let turn =
        copies.shared.sending.try_acquire().map_err(|_| refused("as many copies as may be are under way here"))?;
    let peer = stream.sender.peer();
    let to = (peer.role != Role::Link).then(|| peer.member().node);
    let stream_of = may_give(handle, to).await?;
    let outgoing = export(id, handle, copies).await?;
    let applied = outgoing.export().manifest().applied;
    wait_safe(handle, stream_of, applied).await?;
    if may_give(handle, to).await? != stream_of {
        return Err(refused("the primary was named anew, or has rewound meanwhile"));
    }
    let manifest = outgoing.export().manifest();
    post(stream, frames::manifest(manifest)).await?;
    let next = tokio::time::timeout(NEXT_TIME, stream.receiver.recv()).await.map_err(|_| CopyError::Gone)??;
    let (file, offset) = frames::decode_next(&next.ok_or(CopyError::Gone)?)?;
    let sent = send_files(stream, outgoing.export(), (file, offset), copies).await?;
    drop(turn);
    Ok(sent)
}

async fn send_files(
    stream: &Stream,
    export: &Export,
    (file, mut offset): (u32, u64),
    copies: &Copies,
) -> Result<u64, CopyError> {
    let mut sent = 0;
    for (number, entry) in export.manifest().files.iter().enumerate().skip(file as usize) {
        while offset < entry.size {
            let chunk = tokio::task::block_in_place(|| export.read(number as u32, offset, CHUNK_BYTES))?;
            let bytes = chunk.bytes.len() as u64;
            copies.shared.throttle.admit(bytes).await;
            post(stream, frames::chunk(&chunk)).await?;
            (offset, sent) = (offset + bytes, sent + bytes);
            copies.shared.sent.fetch_add(bytes, Ordering::Relaxed);
        }
        offset = 0;
    }
    Ok(sent)
}

/// Between regions bytes are dear; in a region they are cheaper than the time to compress what is compressed already.
async fn post(stream: &Stream, frame: Frame) -> Result<(), CopyError> {
    let far = stream.sender.peer().role == Role::Link;
    Ok(stream.sender.send(if far { frame.compressed() } else { frame }).await?)
}

/// Names the history of which this replica may be copied from: it serves, a sink has joined its source, and nobody else was
/// named. After a rewind in the same reign, a position is one of another history. A replica of the region gets nothing while
/// it is waited for (`Replica::gives_to`): when this is asked again, the primary has heard that it holds nothing.
async fn may_give(handle: &PartitionHandle, to: Option<NodeId>) -> Result<(Reign, u32), CopyError> {
    let refused = |reason: &str| CopyError::Refused(reason.into());
    let no_primary = || refused("this replica is not a primary that serves");
    gives(&handle.status.borrow()).ok_or_else(no_primary)?;
    if !handle.may_read().await {
        return Err(refused("the primary's leases have lapsed"));
    }
    let status = handle.status.borrow().clone();
    let turn = gives(&status).ok_or_else(no_primary)?;
    let mut waited = status.leading.iter().flat_map(|leading| &leading.waited);
    if waited.any(|member| Some(member.node) == to) {
        return Err(refused(
            "the set may count on what this replica had before: it is waited for until it is known to be out",
        ));
    }
    Ok((status.reign, turn))
}

/// The turn of a primary that gives copies.
fn gives(status: &Status) -> Option<u32> {
    status.leading.as_ref().filter(|leading| leading.serving && leading.joined).map(|leading| leading.turn)
}

async fn export(id: PartitionId, handle: &PartitionHandle, copies: &Copies) -> Result<Outgoing, CopyError> {
    let (state, log, dir) = (handle.state.get(), copies.shared.log.clone(), copies.export_dir());
    let parent = copies.shared.dir.clone();
    let made = tokio::task::spawn_blocking(move || -> Result<Outgoing, CopyError> {
        std::fs::create_dir_all(&parent).map_err(|source| {
            let action = "creating";
            storage::snapshot::SnapshotError::Io { action, path: parent.clone(), source }
        })?;
        // Most of it while records are applied, so that little is left to flush while none are.
        state.flush_synced(|| history::sync(&log, id)).map_err(storage::snapshot::SnapshotError::from)?;
        let export = Export::create_synced(&state, &dir, || history::sync(&log, id))?;
        Ok(Outgoing(Some(export)))
    });
    made.await.map_err(|error| CopyError::Refused(format!("the export failed: {error}")))?
}

/// What is copied must be on disk of every member before it is shown to anybody.
async fn wait_safe(handle: &PartitionHandle, (reign, turn): (Reign, u32), applied: Lsn) -> Result<(), CopyError> {
    let mut status = handle.status.clone();
    let is_over = |status: &Arc<Status>| match &status.leading {
        Some(leading) if (status.reign, leading.turn) == (reign, turn) => leading.safe >= applied,
        _ => true,
    };
    let waited = tokio::time::timeout(SAFE_TIME, status.wait_for(is_over)).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(CopyError::Refused("the replica was closed".into())),
        Err(_) => Err(CopyError::Refused(format!("record {applied} is not safe after {SAFE_TIME:?}"))),
    }
}
