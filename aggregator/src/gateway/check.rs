//! CHECK DATABASE: every record and every row of every copy is read, and copies are compared at one moment.
//!
//! The primary settles a moment and sums up its tables; the others do the same when they have applied what it has. The
//! primary's rows are the right ones: it is what everybody reads. A copy that is damaged, by a checksum that fails, is
//! rebuilt without an order; with REPAIR one that differs is as well, and the statement waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sql::answer::Answer;
use sql::cluster::Cluster;
use sql::{Error, Result};
use types::{DatabaseId, Datum, NodeId, PartitionId, Timestamp};

use super::answer::table;
use super::divergence::Tables;
use super::replication::columns;
use super::shows::{count, text};
use crate::protocol::{Checked, LeafAnswer, LeafRefusal, LeafRequest, TableSum};
use crate::region::Region;
use crate::sessions::Progress;

/// How long one copy may take.
const CALL_TIME: Duration = Duration::from_secs(600);
/// How long a copy that is rebuilt is waited for, and between two looks.
const REPAIR_TIME: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);
/// Primaries that turn out to be damaged are replaced in this time.
const REPLACE_TIME: Duration = Duration::from_secs(15);

/// What one copy turned out to be.
enum Copy {
    Whole(Checked),
    /// Why it was not read; it need not be damaged.
    Unread {
        reason: String,
        damaged: bool,
    },
}

/// What is wrong with a copy that can be read.
const DIFFERS: &str = "its rows differ from those of its primary";

/// The tables of a database.
struct Names {
    by_id: BTreeMap<u64, String>,
    tables: Tables,
}

impl Names {
    /// What is wrong with a copy that can be read, and differs from a key on.
    fn differs(&self, key: &Bytes) -> String {
        format!("{DIFFERS}, in the range of keys that begins with {}", self.tables.key(key))
    }
}

/// One line of the answer.
struct Line {
    table: Datum,
    partition: PartitionId,
    leaf: Datum,
    rows: Option<u64>,
    log_records: Option<u64>,
    damaged: bool,
    repaired: bool,
    detail: Option<String>,
}

impl Line {
    fn row(self) -> Vec<Datum> {
        let number = |value: Option<u64>| value.map_or(Datum::Null, count);
        vec![
            self.table,
            Datum::Int(self.partition.ordinal.0.into()),
            self.leaf,
            number(self.rows),
            number(self.log_records),
            count(self.damaged.into()),
            count(self.repaired.into()),
            self.detail.map_or(Datum::Null, text),
        ]
    }
}

/// `CHECK DATABASE`.
pub async fn check(
    region: &Arc<Region>,
    rows: &Arc<dyn Cluster>,
    name: &str,
    repair: bool,
    progress: &Progress,
) -> Result<Answer> {
    let state = region.catalog.state();
    let (id, _) = state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
    let own = [(1, "(definitions)"), (2, "(counters)"), (3, "(dropped tables)")];
    let mut names = Names { by_id: own.map(|(id, name)| (id, name.to_string())).into(), tables: Tables::default() };
    // A database whose definitions cannot be read is checked all the same.
    if let Ok(database) = rows.database(name).await {
        names.by_id.extend(database.schema.tables().map(|table| (table.id.0, table.name.clone())));
        names.tables = Tables::of(&database.schema, std::iter::empty());
    }
    let mut answer = Vec::new();
    let partitions: Vec<PartitionId> = state.partitions_of(id).map(|(partition, _)| partition).collect();
    let mut patience = REPLACE_TIME;
    for (done, partition) in partitions.iter().copied().enumerate() {
        progress.tell(done as u64, partitions.len() as u64);
        check_partition(region, partition, repair, &names, &mut patience, &mut answer).await?;
    }
    let header = ["table", "#partition", "leaf", "#rows", "#log_records", "#damaged", "#repaired", "detail"];
    Ok(table(columns(&header), answer))
}

async fn check_partition(
    region: &Arc<Region>,
    partition: PartitionId,
    repair: bool,
    names: &Names,
    patience: &mut Duration,
    answer: &mut Vec<Vec<Datum>>,
) -> Result<()> {
    let Some((primary, view, mine)) = read_primary(region, partition, patience, answer).await? else {
        return Ok(());
    };
    add(region, partition, primary, &mine, None, names, answer);
    let replicas = region.catalog.state().partitions.get(&partition).map(|known| known.replicas.clone());
    for node in replicas.unwrap_or_default().into_iter().filter(|node| *node != primary) {
        let detail = match ask(region, node, partition, view, Some(mine.applied)).await {
            Copy::Whole(theirs) => match theirs.differs_from(&mine) {
                None => {
                    add(region, partition, node, &theirs, None, names, answer);
                    continue;
                }
                Some(key) => {
                    let detail = names.differs(&key);
                    add(region, partition, node, &theirs, Some((&mine, &detail)), names, answer);
                    if repair && let Ok(leaf) = region.leaves.leaf(node).await {
                        // Whether it was heard is seen below.
                        let _ = leaf.call(&LeafRequest::Rebuild { partition }, CALL_TIME).await;
                    }
                    detail
                }
            },
            Copy::Unread { reason, damaged } => {
                answer.push(Line { damaged, ..line(region, partition, node, None, Some(reason.clone())) }.row());
                reason
            }
        };
        if repair && repaired(region, partition, node).await? {
            let repaired = Line { repaired: true, damaged: false, ..line(region, partition, node, None, None) };
            answer.push(Line { detail: Some(format!("rebuilt from its primary; before: {detail}")), ..repaired }.row());
        }
    }
    Ok(())
}

/// What the primary has, and at which moment. A damaged one is replaced if there is another copy; of one that is not, and of
/// the copies that cannot be compared with it then, the answer tells. `patience` is for all partitions together.
async fn read_primary(
    region: &Arc<Region>,
    partition: PartitionId,
    patience: &mut Duration,
    answer: &mut Vec<Vec<Datum>>,
) -> Result<Option<(NodeId, Timestamp, Checked)>> {
    let mut told = None;
    loop {
        let view = view(region, partition.database).await?;
        let Some(known) = region.catalog.state().partitions.get(&partition).cloned() else { return Ok(None) };
        let node = known.primary.node;
        let (reason, damaged) = match ask(region, node, partition, view, None).await {
            Copy::Whole(mine) => return Ok(Some((node, view, mine))),
            Copy::Unread { reason, damaged } => (reason, damaged),
        };
        let last = patience.is_zero();
        if (damaged || last) && told != Some(node) {
            answer.push(Line { damaged, ..line(region, partition, node, None, Some(reason)) }.row());
            told = Some(node);
        }
        if last {
            for other in known.replicas.into_iter().filter(|other| *other != node) {
                let detail = Some("it was not compared, for its primary cannot be read".to_string());
                answer.push(Line { damaged: false, ..line(region, partition, other, None, detail) }.row());
            }
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
        *patience = patience.saturating_sub(LOOK);
    }
}

/// Waits until a copy is equal to its primary again.
async fn repaired(region: &Arc<Region>, partition: PartitionId, node: NodeId) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < REPAIR_TIME {
        tokio::time::sleep(LOOK).await;
        let Some(primary) = region.catalog.state().partitions.get(&partition).map(|known| known.primary.node) else {
            return Ok(false);
        };
        let view = view(region, partition.database).await?;
        let Copy::Whole(mine) = ask(region, primary, partition, view, None).await else { continue };
        let theirs = ask(region, node, partition, view, Some(mine.applied)).await;
        if matches!(theirs, Copy::Whole(theirs) if theirs.differs_from(&mine).is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A moment that every copy can show.
async fn view(region: &Arc<Region>, database: DatabaseId) -> Result<Timestamp> {
    let state = region.catalog.state();
    if state.databases.get(&database).is_some_and(|known| known.is_sink()) {
        // What leaves say of it is heard by the master alone.
        return region.cut(database).await;
    }
    region.timestamps.take(1).await.map_err(|error| Error::new(9005, error.to_string()))
}

async fn ask(
    region: &Region,
    node: NodeId,
    partition: PartitionId,
    view: Timestamp,
    applied: Option<types::Lsn>,
) -> Copy {
    let request = LeafRequest::Check { partition, view, applied };
    let answer = match region.leaves.leaf(node).await {
        Ok(leaf) => leaf.call(&request, CALL_TIME).await.map_err(|error| error.to_string()),
        Err(reason) => Err(reason),
    };
    let reason = match answer {
        Ok(LeafAnswer::Checked(checked)) => return Copy::Whole(*checked),
        Ok(LeafAnswer::Refused(LeafRefusal::Damaged(reason))) => return Copy::Unread { reason, damaged: true },
        Ok(LeafAnswer::Refused(refusal)) => format!("it was not read: {refusal:?}"),
        Ok(other) => format!("it answers {other:?}"),
        Err(reason) => format!("it was not read: {reason}"),
    };
    Copy::Unread { reason, damaged: false }
}

/// The line of a copy as a whole.
fn line(
    region: &Region,
    partition: PartitionId,
    node: NodeId,
    checked: Option<&Checked>,
    detail: Option<String>,
) -> Line {
    let state = region.catalog.state();
    let leaf = state.nodes.get(&node).map_or_else(|| format!("node {node}"), |known| known.addresses.rpc.clone());
    Line {
        table: Datum::Null,
        partition,
        leaf: text(leaf),
        rows: checked.map(|checked| checked.tables.iter().map(TableSum::rows).sum()),
        log_records: checked.map(|checked| checked.log_records),
        damaged: detail.is_some(),
        repaired: false,
        detail,
    }
}

/// A copy as a whole, and its tables. `against`: what it should have, and how it differs.
fn add(
    region: &Region,
    partition: PartitionId,
    node: NodeId,
    checked: &Checked,
    against: Option<(&Checked, &str)>,
    names: &Names,
    answer: &mut Vec<Vec<Datum>>,
) {
    let detail = against.map(|(_, detail)| detail.to_string());
    answer.push(line(region, partition, node, Some(checked), detail).row());
    for sum in &checked.tables {
        let right = against.is_none_or(|(mine, _)| mine.tables.contains(sum));
        let name = names.by_id.get(&sum.table).cloned().unwrap_or_else(|| format!("(dropped, {})", sum.table));
        let detail = (!right).then(|| DIFFERS.to_string());
        let whole = line(region, partition, node, None, detail);
        answer.push(Line { table: text(name), rows: Some(sum.rows()), ..whole }.row());
    }
}
