//! Reading everything that a replica has on its disk, so that damage is found while there is another copy.
//!
//! - `check` reads every record of the log, every block of the state's files as the disk has them, and every row at one
//!   moment, and sums them up by ranges of keys. Two replicas that have applied everything up to that moment have equal
//!   sums; where they do not, the first range that differs says where to look.
//! - In the background each replica reads its files once in `scrub_interval`, slowly; a primary then compares its sums
//!   with those of all other replicas, by asking their leaves. When that was is in a file: a leaf that is restarted often is
//!   read as often as any other.
//!
//! A checksum that fails on the way has the consequences that it has anywhere: `heal`. Sums that differ are told to
//! people; who is right is theirs to say, by CHECK DATABASE … REPAIR, which rebuilds from the primary.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aggregator::protocol::{Checked, LeafAnswer, LeafRefusal, LeafRequest, RangeSum, TableSum};
use bytes::Bytes;
use catalog::event::Severity;
use storage::log::NodeLog;
use transport::identity::Role;
use transport::rpc::Client;
use types::txn::{Answer, TxnRequest};
use types::{DatabaseId, Lsn, NodeId, Ordinal, PartitionId, Timestamp};

use super::Leaf;
use super::heal;
use super::history::{HistoryError, READ_BYTES};
use super::partition::PartitionHandle;
use super::peers;
use crate::data_dir::{read_numbers, write_numbers};

/// A range of keys has so many rows, about.
const RANGE_ROWS: u64 = 4096;
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
    let mut sums = Sums::default();
    let mut cursor = state.view(view)?.scrub(&[], None);
    let mut looked = 0;
    while cursor.advance()? {
        sums.add(cursor.key(), cursor.value());
        looked += 1;
        if looked % PAUSE_ROWS == 0 {
            pace.pause();
        }
    }
    Ok(Checked { applied, log_records, tables: sums.tables })
}

/// Sums of rows that come in the order of their keys.
#[derive(Default)]
struct Sums {
    tables: Vec<TableSum>,
    /// The last range has ended.
    ended: bool,
}

impl Sums {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let table = key.first_chunk::<8>().map_or(0, |id| u64::from_be_bytes(*id));
        if self.tables.last().is_none_or(|last| last.table != table) {
            self.tables.push(TableSum { table, ranges: vec![] });
            self.ended = true;
        }
        let ranges = &mut self.tables.last_mut().expect("one was pushed above").ranges;
        if self.ended {
            ranges.push(RangeSum { first: Bytes::copy_from_slice(key), rows: 0, hash: 0 });
        }
        let range = ranges.last_mut().expect("a table's first row begins a range");
        (range.rows, range.hash) = (range.rows + 1, range.hash.wrapping_add(hash(key, value)));
        self.ended = hash(key, &[]).is_multiple_of(RANGE_ROWS);
    }
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

/// When each replica was read last, by the wall clock. Kept in a file.
struct Readings {
    file: PathBuf,
    seconds: HashMap<PartitionId, u64>,
    /// Of which life, as this process counts them: a replica that was made anew begins anew.
    lives: HashMap<PartitionId, usize>,
}

impl Readings {
    fn open(file: PathBuf) -> Readings {
        let numbers = read_numbers(&file).unwrap_or_else(|error| {
            tracing::warn!(%error, "when replicas were read last is not known");
            None
        });
        let reading = |three: &[u128]| {
            let ordinal = i32::try_from(three[1]).unwrap_or(i32::MAX) - 1;
            (PartitionId { database: DatabaseId(three[0] as u64), ordinal: Ordinal(ordinal) }, three[2] as u64)
        };
        let seconds = numbers.unwrap_or_default().chunks_exact(3).map(reading).collect();
        Readings { file, seconds, lives: HashMap::new() }
    }

    /// Whether a replica was read so long ago; one that is not known begins now.
    fn is_due(&mut self, id: PartitionId, life: usize, now: u64, interval: Duration) -> bool {
        if self.lives.insert(id, life).is_some_and(|known| known != life) {
            self.seconds.remove(&id);
        }
        // A clock that went back makes it wait once more.
        let since = self.seconds.entry(id).or_insert(now);
        *since = (*since).min(now);
        Duration::from_secs(now - *since) >= interval
    }

    fn note(&mut self, id: PartitionId, now: u64) {
        self.seconds.insert(id, now);
        let of =
            |(id, at): (&PartitionId, &u64)| [u128::from(id.database.0), (id.ordinal.0 + 1) as u128, u128::from(*at)];
        let numbers: Vec<u128> = self.seconds.iter().flat_map(of).collect();
        if let Err(error) = write_numbers(&self.file, &numbers) {
            tracing::warn!(%error, "that a replica was read is not noted: after a restart it is read again");
        }
    }
}

/// Reads everything once in a while, until the process ends.
pub(super) async fn run(leaf: Leaf) {
    let interval = leaf.options.upkeep.scrub_interval;
    let mut readings = Readings::open(leaf.options.data_dir.join("scrubbed"));
    loop {
        tokio::time::sleep(LOOK.min(interval)).await;
        let handles = peers::list(&leaf.partitions);
        let held = |id: &PartitionId| handles.iter().any(|(known, _)| known == id);
        readings.seconds.retain(|id, _| held(id));
        readings.lives.retain(|id, _| held(id));
        for (id, handle) in handles {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            let is_due = readings.is_due(id, handle.state.life(), now, interval);
            if is_due && !handle.status.borrow().repairing && scrub(&leaf, id, &handle).await {
                readings.note(id, now);
            }
        }
    }
}

/// False: it is to be done soon, for it could not begin.
async fn scrub(leaf: &Leaf, id: PartitionId, handle: &PartitionHandle) -> bool {
    let (log, own) = (leaf.shared.log.clone(), handle.clone());
    let leading = handle.status.borrow().leading.clone().filter(|leading| leading.serving);
    // Below the view everything is settled at a primary that serves; a sink's is so at its cut. Elsewhere the rows are
    // read for their checksums.
    let view = match &leading {
        Some(leading) if leading.link.is_some() => leading.cut,
        _ => leaf.shared.master.timestamps(1).await,
    };
    let settle = TxnRequest::Settle { view, schema: None };
    if leading.is_some() && !matches!(handle.txn(settle).await, Some(Answer::Settled)) {
        return false;
    }
    let read = tokio::task::spawn_blocking(move || check(&log, id, &own, view, Pace::Slow)).await;
    let mine = match read {
        Ok(Ok(mine)) => mine,
        Ok(Err(HistoryError::Damaged(reason))) => {
            handle.damaged(reason);
            return true;
        }
        Ok(Err(HistoryError::Failed(reason))) => {
            tracing::warn!(partition = %id, reason, "a scrub was given up");
            return true;
        }
        Err(error) => {
            tracing::error!(partition = %id, %error, "a scrub has ended badly");
            return true;
        }
    };
    for node in leading.iter().flat_map(|leading| &leading.others) {
        match ask(leaf, *node, id, view, mine.applied).await {
            Ok(theirs) => {
                if theirs.differs_from(&mine).is_some() {
                    let address = leaf.shared.peers.address(*node).unwrap_or_default();
                    let text = format!(
                        "rows of {id} on leaf {address} differ from those of its primary: CHECK DATABASE tells where, with REPAIR it rebuilds them"
                    );
                    heal::say(leaf, Severity::Error, id, text);
                }
            }
            Err(reason) => tracing::info!(partition = %id, %node, reason, "a replica was not compared"),
        }
    }
    leaf.done.scrubs.fetch_add(1, Ordering::Relaxed);
    tracing::info!(partition = %id, records = mine.log_records, "read from end to end");
    true
}

async fn ask(leaf: &Leaf, node: NodeId, id: PartitionId, view: Timestamp, applied: Lsn) -> Result<Checked, String> {
    let address = leaf.shared.peers.address(node).ok_or("no address is known")?;
    let session = leaf.shared.peers.dialler().dial(&address, Some(node), Role::Calls).await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(rows: &[(u64, u64)]) -> Checked {
        let mut sums = Sums::default();
        for (id, value) in rows {
            sums.add(&[7u64.to_be_bytes(), id.to_be_bytes()].concat(), &value.to_be_bytes());
        }
        Checked { applied: Lsn(1), log_records: 0, tables: sums.tables }
    }

    #[test]
    fn the_first_range_that_differs_is_found() {
        let rows: Vec<(u64, u64)> = (0..40_000).map(|id| (id, id)).collect();
        let whole = sums(&rows);
        let ranges = &whole.tables[0].ranges;
        assert!((4..40).contains(&ranges.len()), "{} ranges", ranges.len());
        assert_eq!(whole.tables[0].rows(), 40_000);
        assert_eq!(whole.differs_from(&sums(&rows)), None);
        let of = |id: u64| {
            let key = Bytes::from([7u64.to_be_bytes(), id.to_be_bytes()].concat());
            ranges.iter().rev().find(|range| range.first <= key).map(|range| range.first.clone())
        };
        for changed in [0, 12_345, 39_999] {
            let mut other = rows.clone();
            other[changed].1 += 1;
            assert_eq!(sums(&other).differs_from(&whole), of(changed as u64), "another value");
            // A row more or less may end a range or begin one, and moves no other range.
            other.remove(changed);
            let found = sums(&other).differs_from(&whole).expect("a row is missing");
            assert!(Some(&found) >= of((changed as u64).saturating_sub(1)).as_ref(), "{found:?}");
            let tail = |of: &Checked| of.tables[0].ranges.last().expect("there are some").clone();
            assert_eq!(tail(&sums(&other)) == tail(&whole), changed < 30_000);
        }
    }

    #[test]
    fn when_a_replica_was_read_outlives_the_process() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("scrubbed");
        let [meta, other] = [-1, 4].map(|number| PartitionId { database: DatabaseId(3), ordinal: Ordinal(number) });
        let day = Duration::from_secs(100);
        let mut readings = Readings::open(file.clone());
        assert!(!readings.is_due(meta, 0, 1000, day), "it begins now");
        assert!(readings.is_due(meta, 0, 1100, day));
        readings.note(meta, 1100);
        readings.note(other, 1150);
        let mut readings = Readings::open(file);
        assert!(!readings.is_due(meta, 0, 1199, day));
        assert!(readings.is_due(meta, 0, 1200, day));
        assert!(!readings.is_due(other, 5, 1249, day));
        assert!(!readings.is_due(other, 6, 1300, day), "it was made anew");
        assert!(!readings.is_due(meta, 0, 900, day), "the clock went back");
    }
}
