//! Writes that were set aside: which there are on the leaves, what is in them, statements that would do them again.
//!
//! Every replica that dropped something has a file about it. For each partition of an exchange the longest file about
//! one tail is taken, wherever it lies: replicas that dropped the same hold the same.
//!
//! - `decode` keys and rows of files, as values under the names of columns
//! - `export` statements

mod decode;
mod export;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use catalog::State;
use catalog::event::UnixMillis;
use sql::answer::{Answer, ResultColumn, Rows};
use sql::cluster::{Cluster, Sheet};
use sql::schema::Schema;
use sql::{Error, Result};
use tokio::sync::Mutex;
use types::{DatabaseId, Datum, Epoch, Lsn, NodeId, Ordinal};

pub(super) use self::decode::Tables;
use super::answer::table;
use super::replication;
use super::shows::{count, sheet, text, time, with_times};
use crate::mysql::Client;
use crate::protocol::{DivergenceFile, ExchangeId, Fate, LeafAnswer, LeafRequest, SetAside};
use crate::region::Region;
use crate::rows::{Definitions, StatementRows};
use crate::transaction::Transaction;

/// How long a leaf may take to list or to discard.
const LIST_TIME: Duration = Duration::from_secs(10);
/// How long it may take to read a file.
const READ_TIME: Duration = Duration::from_secs(3600);
/// Bytes of rows that one answer may hold.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A tail that replicas of one partition dropped.
type Subject = (Ordinal, bool, Lsn, Epoch);

/// What one exchange set aside of one database.
struct Exchange {
    id: ExchangeId,
    database: DatabaseId,
    /// The longest file about each tail, and the leaves that have it.
    files: BTreeMap<Subject, (DivergenceFile, Vec<NodeId>)>,
}

/// What all leaves have.
#[derive(Default)]
struct Found {
    exchanges: BTreeMap<(ExchangeId, DatabaseId), Exchange>,
    /// Leaves that did not answer, and files that cannot be read.
    troubles: Vec<String>,
}

/// One write, and where it was.
struct Aside {
    ordinal: Ordinal,
    write: SetAside,
}

async fn find(region: &Region, state: &State) -> Found {
    let leaves = state.nodes.iter().filter(|(_, node)| node.holds_replicas()).map(|(id, _)| *id);
    let asked = leaves.map(|node| async move { (node, list(region, node).await) });
    let mut found = Found::default();
    for (node, listed) in futures::future::join_all(asked).await {
        match listed {
            Ok((files, damaged)) => {
                found.troubles.extend(damaged);
                files.into_iter().for_each(|file| found.add(node, file));
            }
            Err(reason) => found.troubles.push(format!("leaf {node} does not say what it has set aside: {reason}")),
        }
    }
    found
}

async fn list(region: &Region, node: NodeId) -> Result<(Vec<DivergenceFile>, Vec<String>), String> {
    let leaf = region.leaves.leaf(node).await?;
    match leaf.call(&LeafRequest::Divergences, LIST_TIME).await.map_err(|error| error.to_string())? {
        LeafAnswer::Divergences(files, damaged) => Ok((files, damaged)),
        other => Err(format!("it answers {other:?}")),
    }
}

impl Found {
    fn add(&mut self, node: NodeId, file: DivergenceFile) {
        let about = &file.about;
        let (id, database) = (about.id, about.partition.database);
        let files = &mut self
            .exchanges
            .entry((id, database))
            .or_insert_with(|| Exchange { id, database, files: BTreeMap::new() })
            .files;
        let subject = (about.partition.ordinal, about.promotion, about.parted_from, about.end_epoch);
        match files.get_mut(&subject) {
            Some((known, nodes)) if known.about.end == about.end => nodes.push(node),
            Some((known, _)) if known.about.end > about.end => {}
            _ => drop(files.insert(subject, (file, vec![node]))),
        }
    }

    fn named(&self, id: &str) -> Result<Vec<&Exchange>> {
        let named: Vec<&Exchange> = self.exchanges.values().filter(|exchange| exchange.id.is_named(id)).collect();
        let unknown = || Error::new(1105, format!("There is no divergence '{id}': SHOW DIVERGENCE lists them"));
        if named.is_empty() { Err(unknown()) } else { Ok(named) }
    }
}

fn name_of(state: &State, id: DatabaseId) -> String {
    state.databases.get(&id).map_or_else(|| format!("#{id}"), |known| known.name.clone())
}

/// SHOW DIVERGENCE, the newest first; the second part is what could not be seen.
pub async fn show(region: &Region, database: Option<&str>) -> Result<(Sheet, Vec<String>)> {
    let state = region.catalog.state();
    if let Some(name) = database {
        state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
    }
    let found = find(region, &state).await;
    let mut exchanges: Vec<&Exchange> = found.exchanges.values().filter(|exchange| exchange.records() > 0).collect();
    exchanges.sort_by_key(|exchange| std::cmp::Reverse(exchange.created()));
    let of_database = |exchange: &&Exchange| database.is_none_or(|name| name_of(&state, exchange.database) == name);
    let mut rows = Vec::new();
    for exchange in exchanges.into_iter().filter(of_database) {
        let records = exchange.count(region).await;
        rows.push(exchange.row(&state, records));
    }
    Ok((files(rows), found.troubles))
}

/// SHOW DIVERGENCE.
pub fn files(rows: Vec<Vec<Datum>>) -> Sheet {
    let names = [
        ("id", false),
        ("database", false),
        ("created", false),
        ("parted_from", false),
        ("from_time", false),
        ("to_time", false),
        ("transactions", true),
        ("records", true),
        ("bytes", true),
    ];
    with_times(sheet(&names, rows), &["created", "from_time", "to_time"])
}

/// Records of a database that were set aside since a time, in milliseconds since 1970, and by which exchanges.
pub async fn set_aside_since(region: &Region, database: DatabaseId, since: u64) -> Option<(u64, String)> {
    set_aside(region, database, |exchange| exchange.created() >= since).await
}

/// Records of a database that one exchange has set aside.
pub async fn set_aside_by(region: &Region, database: DatabaseId, id: u128) -> Option<(u64, String)> {
    set_aside(region, database, |exchange| exchange.id == ExchangeId(id)).await
}

async fn set_aside(region: &Region, database: DatabaseId, wanted: impl Fn(&Exchange) -> bool) -> Option<(u64, String)> {
    let found = find(region, &region.catalog.state()).await;
    let of =
        found.exchanges.values().filter(|known| known.database == database && known.records() > 0 && wanted(known));
    let of: Vec<&Exchange> = of.collect();
    let ids: Vec<String> = of.iter().map(|exchange| exchange.id.to_string()).collect();
    let mut records = 0;
    for exchange in &of {
        records += exchange.count(region).await;
    }
    (!of.is_empty()).then(|| (records, ids.join(",")))
}

impl Exchange {
    fn files(&self) -> impl Iterator<Item = &DivergenceFile> {
        self.files.values().map(|(file, _)| file)
    }

    fn records(&self) -> u64 {
        self.files().map(|file| file.about.records).sum()
    }

    fn created(&self) -> u64 {
        self.files().map(|file| file.about.created).min().unwrap_or_default()
    }

    fn row(&self, state: &State, records: u64) -> Vec<Datum> {
        let written = || self.files().filter(|file| file.about.records > 0);
        let from = written().map(|file| file.about.times.0).min().unwrap_or_default();
        let to = written().map(|file| file.about.times.1).max().unwrap_or_default();
        let parted = self.files().map(|file| format!("{}:{}", file.about.partition.ordinal, file.about.parted_from));
        vec![
            text(self.id.to_string()),
            text(name_of(state, self.database)),
            time(UnixMillis(self.created())),
            text(parted.collect::<Vec<_>>().join(",")),
            replication::time(from),
            replication::time(to),
            count(self.files().map(|file| file.about.transactions).sum()),
            count(records),
            count(self.files().map(|file| file.bytes).sum()),
        ]
    }

    /// How many writes there are. Files say how many each holds; where two of a partition may hold the same, they are
    /// read.
    async fn count(&self, region: &Region) -> u64 {
        let mut seen = BTreeSet::new();
        if self.files.keys().all(|(ordinal, ..)| seen.insert(*ordinal)) {
            return self.records();
        }
        self.writes(region).await.map_or_else(|_| self.records(), |writes| writes.len() as u64)
    }

    /// All its writes, in the order of their commits.
    async fn writes(&self, region: &Region) -> Result<Vec<Aside>> {
        let mut writes: Vec<Aside> = Vec::new();
        let mut bytes = 0;
        for (file, nodes) in self.files.values() {
            let ordinal = file.about.partition.ordinal;
            let read = read(region, &file.name, nodes).await?;
            let sizes = read.iter().map(|write| write.key.len() + size(&write.old) + size(&write.new));
            bytes += sizes.sum::<usize>();
            if bytes > ANSWER_BYTES_MAX {
                let text =
                    format!("Divergence '{}' is too large for one answer: read its files on the leaves", self.id);
                return Err(Error::new(1105, text));
            }
            writes.extend(read.into_iter().map(|write| Aside { ordinal, write }));
        }
        once(&mut writes);
        // Stable: the writes of a transaction to one partition stay in their order.
        writes.sort_by_key(|aside| (aside.write.ts, aside.write.txn, aside.ordinal));
        Ok(writes)
    }
}

/// A write may have been set aside twice: its commit was undone, and later the Prepare that both sides had was aborted.
/// What says most about it stays.
fn once(writes: &mut Vec<Aside>) {
    let says = |aside: &Aside| match aside.write.fate {
        Fate::Alive => 3,
        Fate::Dropped => 2,
        Fate::Aborted => 1,
        Fate::Prepared => 0,
    };
    writes.sort_by(|a, b| {
        let key = |aside: &Aside| (aside.ordinal, aside.write.txn, aside.write.key.clone());
        key(a).cmp(&key(b)).then(says(b).cmp(&says(a)))
    });
    writes.dedup_by(|later, first| {
        let same = |aside: &Aside| (aside.ordinal, aside.write.txn, aside.write.key.clone());
        same(later) == same(first) && says(later) < says(first)
    });
}

fn size(row: &Option<bytes::Bytes>) -> usize {
    row.as_ref().map_or(0, bytes::Bytes::len)
}

/// Reads a file from whichever leaf answers.
async fn read(region: &Region, name: &str, nodes: &[NodeId]) -> Result<Vec<SetAside>> {
    let mut troubles = Vec::new();
    for node in nodes {
        match read_from(region, name, *node).await {
            Ok(writes) => return Ok(writes),
            Err(reason) => troubles.push(format!("leaf {node}: {reason}")),
        }
    }
    Err(Error::new(9005, format!("Divergence file {name} cannot be read now: {}", troubles.join("; "))))
}

async fn read_from(region: &Region, name: &str, node: NodeId) -> Result<Vec<SetAside>, String> {
    let leaf = region.leaves.leaf(node).await?;
    let request = LeafRequest::DivergenceEntries { name: name.into() };
    let mut replies = leaf.stream(&request, READ_TIME).await.map_err(|error| error.to_string())?;
    let mut writes = Vec::new();
    while let Some(answer) = replies.next().await.map_err(|error| error.to_string())? {
        match answer {
            LeafAnswer::DivergenceEntries(some) => writes.extend(some),
            other => return Err(format!("it answers {other:?}")),
        }
    }
    Ok(writes)
}

/// The tables of a database as they are now; none if it is gone or cannot be read.
async fn schema(region: &Arc<Region>, client: &Arc<Client>, name: &str) -> Arc<Schema> {
    let idle = Arc::new(Mutex::new(Transaction::begin(region.clone())));
    let rows = StatementRows::new(region.clone(), client.clone(), idle, Definitions::Fresh);
    match rows.database(name).await {
        Ok(database) => database.schema,
        Err(error) => {
            tracing::debug!(%error, name, "rows that were set aside are shown without names of columns");
            Arc::default()
        }
    }
}

/// SHOW DIVERGENCE RECORDS.
pub async fn records(region: &Arc<Region>, client: &Arc<Client>, id: &str, limit: Option<u64>) -> Result<Sheet> {
    let state = region.catalog.state();
    let found = find(region, &state).await;
    let limit = usize::try_from(limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for exchange in found.named(id)? {
        let writes = exchange.writes(region).await?;
        let schema = schema(region, client, &name_of(&state, exchange.database)).await;
        let tables = Tables::of(&schema, writes.iter().map(|aside| &aside.write));
        rows.extend(writes.iter().take(limit - rows.len()).map(|aside| record(&tables, &aside.write)));
    }
    let names = ["commit_time", "transaction", "table", "operation", "key", "old_row", "new_row", "state"];
    Ok(with_times(sheet(&names.map(|name| (name, false)), rows), &["commit_time"]))
}

fn record(tables: &Tables, write: &SetAside) -> Vec<Datum> {
    let operation = match (&write.old, &write.new) {
        (None, Some(_)) => "insert",
        (_, None) => "delete",
        (Some(_), Some(_)) => "update",
    };
    let state = match write.fate {
        Fate::Dropped => "dropped",
        Fate::Prepared => "prepared",
        Fate::Aborted => "aborted",
        Fate::Alive => "alive",
    };
    let row = |row: &Option<bytes::Bytes>| row.as_ref().map_or(Datum::Null, |row| text(tables.row(&write.key, row)));
    vec![
        replication::time(write.ts),
        text(format!("{:032x}", write.txn.0)),
        text(tables.name(&write.key)),
        text(operation),
        text(tables.key(&write.key)),
        row(&write.old),
        row(&write.new),
        text(state),
    ]
}

/// EXPORT DIVERGENCE … AS SQL.
pub async fn export(region: &Arc<Region>, client: &Arc<Client>, id: &str) -> Result<Answer> {
    let state = region.catalog.state();
    let found = find(region, &state).await;
    let mut statements = Vec::new();
    for exchange in found.named(id)? {
        let name = name_of(&state, exchange.database);
        let writes = exchange.writes(region).await?;
        let schema = schema(region, client, &name).await;
        let tables = Tables::of(&schema, writes.iter().map(|aside| &aside.write));
        let of_rows = writes.iter().map(|aside| &aside.write);
        statements.extend(export::statements(&name, &tables, &of_rows.collect::<Vec<_>>()));
    }
    let rows = statements.into_iter().map(|statement| vec![Datum::Text(statement)]);
    Ok(table(vec![ResultColumn::text("statement")], rows.collect()))
}

/// DISCARD DIVERGENCE.
pub async fn discard(region: &Region, id: &str) -> Result<Answer> {
    let state = region.catalog.state();
    let found = find(region, &state).await;
    let mut rows = Vec::new();
    for exchange in found.named(id)? {
        let request = LeafRequest::DiscardDivergence { id: exchange.id, database: exchange.database };
        let mut files = 0;
        for node in state.nodes.iter().filter(|(_, node)| node.holds_replicas()).map(|(id, _)| *id) {
            files += discard_at(region, node, &request).await.map_err(|reason| {
                let text =
                    format!("Leaf {node} did not discard '{id}' ({reason}); the others did: repeat the statement");
                Error::new(9005, text)
            })?;
        }
        rows.push(vec![text(exchange.id.to_string()), text(name_of(&state, exchange.database)), count(files)]);
    }
    let columns = vec![ResultColumn::text("id"), ResultColumn::text("database"), ResultColumn::int("files")];
    Ok(table(columns, rows))
}

async fn discard_at(region: &Region, node: NodeId, request: &LeafRequest) -> Result<u64, String> {
    let leaf = region.leaves.leaf(node).await?;
    match leaf.call(request, LIST_TIME).await.map_err(|error| error.to_string())? {
        LeafAnswer::Discarded(files) => Ok(files),
        other => Err(format!("it answers {other:?}")),
    }
}

/// Rows with warnings about what could not be seen.
pub fn with_troubles(answer: Answer, troubles: Vec<String>) -> Answer {
    if let Answer::Rows(Rows { env, .. }) = &answer {
        troubles.into_iter().for_each(|trouble| env.warn(1105, trouble));
    }
    answer
}

#[cfg(test)]
mod tests {
    use types::{ClusterId, PartitionId, Timestamp};

    use super::*;
    use crate::protocol::DivergenceAbout;

    fn file(ordinal: i32, end: u64) -> DivergenceFile {
        let about = DivergenceAbout {
            id: ExchangeId(7),
            partition: PartitionId { database: DatabaseId(1), ordinal: Ordinal(ordinal) },
            promotion: false,
            parted_from: Lsn(10),
            end: Lsn(end),
            end_epoch: Epoch { number: 1, cluster: ClusterId(1), nonce: 5 },
            created: 1000,
            transactions: end - 10,
            records: end - 10,
            times: (Timestamp(1), Timestamp(2)),
        };
        DivergenceFile { name: format!("{ordinal}-{end}"), bytes: 100, about }
    }

    #[test]
    fn the_longest_file_about_a_tail_counts_once() {
        let mut found = Found::default();
        for (node, file) in [(1, file(0, 15)), (2, file(0, 17)), (3, file(0, 17)), (1, file(1, 12)), (2, file(1, 12))] {
            found.add(NodeId(node), file);
        }
        let exchanges = found.named("000000000007").expect("it is there");
        assert_eq!(exchanges.len(), 1);
        assert_eq!(exchanges[0].records(), 7 + 2);
        let nodes: Vec<_> = exchanges[0].files.values().map(|(_, nodes)| nodes.clone()).collect();
        assert_eq!(nodes, [vec![NodeId(2), NodeId(3)], vec![NodeId(1), NodeId(2)]]);
        assert!(found.named("000000000008").is_err());
    }
}
