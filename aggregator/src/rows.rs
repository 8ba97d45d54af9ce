//! The rows of the cluster, as the SQL layer asks for them: for one statement of one session.
//!
//! A statement reads at one view: a timestamp taken before its first read, or the latest of the one partition that it
//! looks at once, which no master is needed for. What its transaction has written lies on top.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicBool};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use sql::cluster::{Batches, Cluster, Database, Scan, Sheet, SystemTable, WriteBatch, Written};
use sql::schema::{Schema, decode_sequence};
use sql::{Error, Result};
use tokio::sync::{Mutex, OnceCell};
use types::txn::Refusal;
use types::{DatabaseId, Ordinal, PartitionId, SchemaVersion, TableId, Timestamp};

use crate::definitions::Known;
use crate::gateway::{may_use, twin, twins};
use crate::mysql::Client;
use crate::protocol::{LeafAnswer, LeafRefusal, LeafRequest, Read};
use crate::region::Region;
use crate::stamps::Stamp;
use crate::transaction::{Transaction, is_repeatable, refused, unreachable_partition};

/// How long a read of one partition may take in all.
const READ_TIME: Duration = Duration::from_secs(3600);

/// The rows that one statement sees and writes.
pub struct StatementRows {
    region: Arc<Region>,
    /// Who asks: it sees what it may use.
    client: Arc<Client>,
    transaction: Arc<Mutex<Transaction>>,
    view: OnceCell<Timestamp>,
    /// It scans one partition, once: the latest there is a view of its own.
    once: AtomicBool,
    /// Of databases that follow another region: the cut at which this statement reads each.
    cuts: Mutex<HashMap<DatabaseId, Timestamp>>,
    use_of: Definitions,
    /// The versions of the definitions that it was planned with.
    planned: std::sync::Mutex<HashMap<DatabaseId, SchemaVersion>>,
}

/// How a statement uses definitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definitions {
    /// As they are known; rows are refused if they have changed.
    Known,
    /// As they are now.
    Fresh,
    /// To change them: nobody else of this aggregator uses them.
    Changed,
}

impl StatementRows {
    /// For a statement of a transaction.
    pub fn new(
        region: Arc<Region>,
        client: Arc<Client>,
        transaction: Arc<Mutex<Transaction>>,
        use_of: Definitions,
    ) -> StatementRows {
        let (view, cuts, planned) = (OnceCell::new(), Default::default(), Default::default());
        StatementRows { region, client, transaction, view, once: AtomicBool::new(false), cuts, use_of, planned }
    }

    /// The version of the definitions that it has read.
    pub fn version(&self, database: DatabaseId) -> Option<SchemaVersion> {
        self.planned.lock().expect("no holder of this lock panics").get(&database).copied()
    }

    /// What rows of a partition were planned with; those of the meta partition are not described by definitions.
    fn planned(&self, partition: PartitionId) -> Option<SchemaVersion> {
        self.version(partition.database).filter(|_| partition.ordinal != Ordinal::META)
    }

    fn id(&self, name: &str) -> Result<DatabaseId> {
        let state = self.region.catalog.state();
        state.database_named(name).map(|(id, _)| id).ok_or_else(|| Error::unknown_database(name))
    }

    fn partition(&self, database: &str, ordinal: Ordinal) -> Result<PartitionId> {
        Ok(PartitionId { database: self.id(database)?, ordinal })
    }

    /// The cut of a database that follows another region; `None` for one that is writable.
    async fn cut(&self, database: DatabaseId) -> Result<Option<Timestamp>> {
        let state = self.region.catalog.state();
        let known = state.databases.get(&database).filter(|known| known.is_sink());
        let Some(known) = known else { return Ok(None) };
        let mut cuts = self.cuts.lock().await;
        if let Some(cut) = cuts.get(&database) {
            return Ok(Some(*cut));
        }
        let cut = self.region.cut(database).await?;
        if cut == Timestamp::ZERO {
            let text = format!(
                "The database '{}' follows another region and has no consistent state yet: see SHOW REPLICATION STATUS, repeat later",
                known.name
            );
            return Err(Error::new(9005, text));
        }
        cuts.insert(database, cut);
        Ok(Some(cut))
    }

    async fn read(&self, partition: PartitionId) -> Result<Read> {
        if let Some(view) = self.cut(partition.database).await? {
            return Ok(Read { view, txn: None, schema: None });
        }
        let take = || async {
            let taken = self.region.timestamps.take(1).await;
            taken.map_err(|error| Error::new(9005, error.to_string()))
        };
        let view = match self.once.load(atomic::Ordering::Relaxed) {
            true => Timestamp::MAX,
            false => *self.view.get_or_try_init(take).await?,
        };
        let txn = self.transaction.lock().await.reader();
        Ok(Read { view, txn, schema: self.planned(partition) })
    }

    async fn schema(&self, id: DatabaseId, fresh: bool) -> Result<Arc<Schema>> {
        // A sink's definitions change without anybody here knowing, and its rows are those of the cut.
        if let Some(view) = self.cut(id).await? {
            return self.region.read_definitions(id, Read { view, txn: None, schema: None }).await;
        }
        let reader = self.transaction.lock().await.reader();
        let known = match (self.region.definitions.known(id), reader) {
            // It has changed some itself, perhaps.
            (_, Some(_)) if self.use_of == Definitions::Changed => {
                let version = self.region.schema_version(id).await?;
                let read = Read { view: Timestamp::MAX, txn: reader, schema: None };
                Known { version, schema: self.region.read_definitions(id, read).await? }
            }
            (Some(known), _) if !fresh => known,
            _ => self.region.fresh_definitions(id).await?,
        };
        let mut planned = self.planned.lock().expect("no holder of this lock panics");
        planned.entry(id).or_insert(known.version);
        Ok(known.schema)
    }

    async fn look_up(&self, name: &str, fresh: bool) -> Result<Database> {
        let state = self.region.catalog.state();
        let (id, database) = state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
        if self.use_of != Definitions::Changed {
            self.transaction.lock().await.hold_definitions(id).await?;
        }
        let schema = self.schema(id, fresh).await?;
        Ok(Database { name: name.into(), partitions: database.partitions, schema })
    }

    /// Whether a read that was refused is to be repeated: the partition has been told the definitions.
    async fn told(&self, partition: PartitionId, refusal: &LeafRefusal) -> Result<bool> {
        match (refusal, self.planned(partition)) {
            (LeafRefusal::Protocol(Refusal::Schema(_)), Some(planned)) => {
                self.region.tell(partition, planned).await.map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

#[async_trait]
impl Cluster for StatementRows {
    async fn databases(&self) -> Result<Vec<String>> {
        let state = self.region.catalog.state();
        let names = state.databases.values().map(|database| database.name.clone());
        let mut names: Vec<String> = names.filter(|name| may_use(&state, &self.client, name)).collect();
        names.sort();
        Ok(names)
    }

    async fn database(&self, name: &str) -> Result<Database> {
        self.look_up(name, self.use_of != Definitions::Known).await
    }

    async fn described(&self, name: &str) -> Result<Database> {
        self.look_up(name, true).await
    }

    async fn get(&self, database: &str, ordinal: Ordinal, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>> {
        let partition = self.partition(database, ordinal)?;
        // It reads one partition, in one look, and nothing else: the latest at its primary is a view of its own. So it
        // needs no timestamp, and goes on while there is no master.
        let (cut, txn) = (self.cut(partition.database).await?, self.transaction.lock().await.reader());
        let read = match cut {
            Some(view) => Read { view, txn: None, schema: None },
            None => Read { view: Timestamp::MAX, txn, schema: self.planned(partition) },
        };
        let request = LeafRequest::Get { partition, read, keys };
        loop {
            let answer = self.region.leaves.ask(partition, &request, READ_TIME, true).await;
            match answer.map_err(|error| unreachable_partition(&error))? {
                LeafAnswer::Rows(rows) => return Ok(rows),
                LeafAnswer::Refused(refusal) if self.told(partition, &refusal).await? => {}
                LeafAnswer::Refused(refusal) => return Err(refused(&self.region, partition, &refusal)),
                other => return Err(Error::new(1105, format!("a leaf answers {other:?} to a read"))),
            }
        }
    }

    async fn scan(&self, database: &str, ordinal: Ordinal, scan: Scan) -> Result<Batches> {
        let partition = self.partition(database, ordinal)?;
        let request = LeafRequest::Scan { partition, read: self.read(partition).await?, scan };
        let (first, replies) = loop {
            let begun = self.region.leaves.stream(partition, &request, READ_TIME).await;
            match begun.map_err(|error| unreachable_partition(&error))? {
                (Some(LeafAnswer::Refused(refusal)), _) if self.told(partition, &refusal).await? => {}
                begun => break begun,
            }
        };
        let rest = stream::unfold(Some(replies), |replies| async {
            let mut replies = replies?;
            match replies.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(replies))),
                Ok(None) => None,
                Err(error) => Some((Err(Error::new(9005, format!("a scan was cut off ({error}): repeat it"))), None)),
            }
        });
        let region = self.region.clone();
        let batches = stream::iter(first.map(Ok)).chain(rest).map(move |answer| match answer? {
            LeafAnswer::Chunk(bytes) => sql::arrow::decode_batch(&bytes),
            LeafAnswer::Refused(refusal) => Err(refused(&region, partition, &refusal)),
            other => Err(Error::new(1105, format!("a leaf answers {other:?} to a scan"))),
        });
        Ok(batches.boxed())
    }

    fn scans_once(&self) {
        self.once.store(true, atomic::Ordering::Relaxed);
    }

    async fn write(&self, database: &str, ordinal: Ordinal, batch: WriteBatch) -> Result<Vec<Written>> {
        let partition = self.partition(database, ordinal)?;
        let planned = self.planned(partition);
        self.transaction.lock().await.write(partition, planned, batch).await
    }

    async fn sheet(&self, name: &str) -> Result<Option<Sheet>> {
        twin(&self.region, &self.client, name).await
    }

    fn system_tables(&self) -> Vec<SystemTable> {
        twins(&self.region, &self.client)
    }

    async fn allocate(&self, database: &str, table: TableId, count: u64, at_least: u64) -> Result<u64> {
        let partition = self.partition(database, Ordinal::META)?;
        let batch = WriteBatch::advance(table, count, at_least);
        // A transaction of its own: the values are not given back.
        let (outer, begun) = (self.transaction.lock().await.stamp(), Instant::now());
        let written = loop {
            match advance(&self.region, outer.clone(), partition, batch.clone()).await {
                // It can be run anew even if it was committed: values are skipped.
                Err(error) if is_repeatable(&error) && begun.elapsed() < self.region.options.partition_wait => {}
                done => break done?,
            }
        };
        let old = written.into_iter().next().and_then(|written| written.old);
        decode_sequence(old.ok_or_else(|| Error::new(1467, "Failed to read auto-increment value from storage engine"))?)
    }
}

/// Takes values of a counter, once.
async fn advance(
    region: &Arc<Region>,
    outer: Option<Arc<Stamp>>,
    partition: PartitionId,
    batch: WriteBatch,
) -> Result<Vec<Written>> {
    let mut own = Transaction::begin_count(region.clone(), outer);
    own.begin_statement()?;
    let written = own.write(partition, None, batch).await?;
    own.commit().await?;
    Ok(written)
}
