//! Reading everything that a replica has on its disk, so that damage is found while there is another copy.
//!
//! - `check` reads every record of the log, every block of the state's files as the disk has them, and every row at one
//!   moment, and sums up each table. Two replicas that have applied everything up to that moment have equal sums.
//! - In the background each replica reads its files once in `scrub_interval`, slowly; a primary then compares its sums
//!   with those of the other members of its set, by asking their leaves.
//!
//! A checksum that fails on the way has the consequences that it has anywhere: `heal`. Sums that differ are told to
//! people; who is right is theirs to say, by CHECK DATABASE … REPAIR, which rebuilds from the primary.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aggregator::protocol::{Checked, LeafAnswer, LeafRefusal, LeafRequest, TableSum};
use catalog::event::Severity;
use storage::log::NodeLog;
use tokio::time::Instant;
use transport::identity::Role;
use transport::rpc::Client;
use types::txn::{Answer, TxnRequest};
use types::{Lsn, Member, PartitionId, Timestamp};

use super::Leaf;
use super::heal;
use super::history::{HistoryError, READ_BYTES};
use super::partition::PartitionHandle;
use super::peers;

/// How long a secondary may take to apply what its primary has.
const BEHIND: Duration = Duration::from_secs(10);
/// How long another leaf may take to sum up a partition.
const CALL_TIME: Duration = Duration::from_secs(600);
/// Between two looks at what is due.
const LOOK: Duration = Duration::from_secs(10);
/// In the background, the pause after so many rows or bytes of records: about 40 MiB a second.
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_ROWS: u64 = 4096;
/// In the background, bytes of the state's files a second.
const SLOW_BYTES: u64 = 40 << 20;

/// How much others are disturbed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Somebody waits for it.
    Fast,
    /// Nobody does.
    Slow,
}

impl Pace {
    fn pause(self) {
        if self == Pace::Slow {
            std::thread::sleep(PAUSE);
        }
    }

    fn bytes_per_second(self) -> Option<u64> {
        (self == Pace::Slow).then_some(SLOW_BYTES)
    }
}

/// Sums up what a replica has at `view`, of which everything is applied here when `applied` is. Blocks.
pub fn check(
    log: &NodeLog,
    id: PartitionId,
    handle: &PartitionHandle,
    view: Timestamp,
    pace: Pace,
) -> Result<Checked, HistoryError> {
    let state = handle.state.get();
    let log_records = read_log(log, id, pace)?;
    state.verify(pace.bytes_per_second())?;
    let applied = state.applied();
    let mut tables: BTreeMap<u64, TableSum> = BTreeMap::new();
    let mut cursor = state.view(view)?.scrub(&[], None);
    let mut looked = 0;
    while cursor.advance()? {
        let (key, value) = (cursor.key(), cursor.value());
        let table = key.first_chunk::<8>().map_or(0, |id| u64::from_be_bytes(*id));
        let sum = tables.entry(table).or_insert(TableSum { table, rows: 0, hash: 0 });
        (sum.rows, sum.hash) = (sum.rows + 1, sum.hash.wrapping_add(hash(key, value)));
        looked += 1;
        if looked % PAUSE_ROWS == 0 {
            pace.pause();
        }
    }
    Ok(Checked { applied, log_records, tables: tables.into_values().collect() })
}

/// Reads every record; what cannot be read is damage.
fn read_log(log: &NodeLog, id: PartitionId, pace: Pace) -> Result<u64, HistoryError> {
    let Some(summary) = log.summary(id) else { return Ok(0) };
    let (mut next, mut count) = (summary.first, 0);
    while next <= summary.end {
        let records = match log.read(id, next, READ_BYTES) {
            // It was trimmed meanwhile.
            Err(storage::log::ReadError::Trimmed { first, .. }) => {
                next = first;
                continue;
            }
            records => records?,
        };
        let Some(last) = records.last() else { break };
        (next, count) = (last.lsn.next(), count + records.len() as u64);
        pace.pause();
    }
    Ok(count)
}

/// Of one row. Sums of these tell sets of rows apart.
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.iter().chain(&(key.len() as u64).to_le_bytes()).chain(value) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

/// Waits until a replica has applied what its primary had.
pub async fn wait_applied(handle: &PartitionHandle, applied: Lsn) -> Result<(), LeafRefusal> {
    let mut status = handle.status.clone();
    let reached = tokio::time::timeout(BEHIND, status.wait_for(|status| status.cursors.applied >= applied)).await;
    match reached {
        Ok(Ok(status)) if !status.repairing => Ok(()),
        _ => Err(LeafRefusal::Invalid(format!("it has not applied record {applied} after {BEHIND:?}"))),
    }
}

/// Reads everything once in a while, until the process ends.
pub(super) async fn run(leaf: Leaf) {
    let mut last: HashMap<(PartitionId, usize), Instant> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let handles = peers::list(&leaf.partitions);
        last.retain(|(id, life), _| handles.iter().any(|(known, handle)| known == id && handle.state.life() == *life));
        for (id, handle) in handles {
            let at = last.entry((id, handle.state.life())).or_insert_with(Instant::now);
            if at.elapsed() >= leaf.options.upkeep.scrub_interval && !handle.status.borrow().repairing {
                *at = Instant::now();
                scrub(&leaf, id, &handle).await;
            }
        }
    }
}

async fn scrub(leaf: &Leaf, id: PartitionId, handle: &PartitionHandle) {
    let (log, own) = (leaf.shared.log.clone(), handle.clone());
    let view = leaf.shared.master.timestamps(1).await;
    let leading = handle.status.borrow().leading.clone();
    let followers = leading.filter(|leading| leading.serving && leading.link.is_none()).map(|leading| leading.waited);
    // Below the view everything is settled at a primary that serves; elsewhere the rows are read for their checksums.
    let settle = TxnRequest::Settle { view, schema: None };
    if followers.is_some() && !matches!(handle.txn(settle).await, Some(Answer::Settled)) {
        return;
    }
    let read = tokio::task::spawn_blocking(move || check(&log, id, &own, view, Pace::Slow)).await;
    let mine = match read {
        Ok(Ok(mine)) => mine,
        Ok(Err(HistoryError::Damaged(reason))) => return handle.damaged(reason),
        Ok(Err(HistoryError::Failed(reason))) => return tracing::warn!(partition = %id, reason, "a scrub was given up"),
        Err(error) => return tracing::error!(partition = %id, %error, "a scrub has ended badly"),
    };
    let others = followers.unwrap_or_default().into_iter().filter(|member| *member != leaf.options.member);
    for member in others {
        match ask(leaf, member, id, view, mine.applied).await {
            Ok(theirs) if theirs.tables == mine.tables => {}
            Ok(_) => {
                let text = format!(
                    "the rows of {id} at {member} differ from those of its primary: CHECK DATABASE … REPAIR rebuilds them"
                );
                heal::say(leaf, Severity::Error, id, text);
            }
            Err(reason) => tracing::info!(partition = %id, %member, reason, "a replica was not compared"),
        }
    }
    tracing::info!(partition = %id, records = mine.log_records, "read from end to end");
}

async fn ask(leaf: &Leaf, member: Member, id: PartitionId, view: Timestamp, applied: Lsn) -> Result<Checked, String> {
    let address = leaf.shared.peers.address(member.node).ok_or("no address is known")?;
    let session = leaf.shared.peers.dialler().dial(&address, Some(member.node), Role::Calls).await;
    let (control, ..) = session.map_err(|error| error.to_string())?.split();
    let client: Client<LeafRequest, LeafAnswer> = Client::new(control);
    let request = LeafRequest::Check { partition: id, view, applied: Some(applied) };
    match client.call(&request, CALL_TIME).await.map_err(|error| error.to_string())? {
        LeafAnswer::Checked(checked) => Ok(*checked),
        other => Err(format!("it answers {other:?}")),
    }
}

/// What a check that failed says to the one who ordered it.
pub fn refusal(handle: &PartitionHandle, error: HistoryError) -> LeafRefusal {
    match error {
        HistoryError::Damaged(reason) => {
            handle.damaged(reason.clone());
            LeafRefusal::Damaged(reason)
        }
        HistoryError::Failed(reason) => LeafRefusal::Invalid(reason),
    }
}
