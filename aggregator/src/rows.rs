//! The rows of the cluster, as the SQL layer asks for them: for one statement of one session.
//!
//! A statement reads at one view: a timestamp taken before its first read. What its transaction has written lies on
//! top.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use sql::cluster::{Batches, Cluster, Database, RowWrite, Scan, Sheet, WriteBatch, Written};
use sql::layout::Layout;
use sql::schema::{Schema, decode_sequence, sequence_key};
use sql::{Error, Result};
use tokio::sync::{Mutex, OnceCell};
use types::{DatabaseId, Ordinal, PartitionId, TableId, Timestamp};

use crate::gateway::{may_use, twin};
use crate::mysql::Client;
use crate::protocol::{LeafAnswer, LeafRequest, Read};
use crate::region::Region;
use crate::transaction::{Transaction, refused, unreachable_partition};

/// How long a read of one partition may take in all.
const READ_TIME: Duration = Duration::from_secs(3600);

/// The rows that one statement sees and writes.
pub struct StatementRows {
    region: Arc<Region>,
    /// Who asks: it sees what it may use.
    client: Arc<Client>,
    transaction: Arc<Mutex<Transaction>>,
    view: OnceCell<Timestamp>,
    /// Of databases that follow another region: the cut at which this statement reads each.
    cuts: Mutex<HashMap<DatabaseId, Timestamp>>,
    /// It changes definitions: it holds their lock alone, and reads them anew.
    definitions: bool,
}

impl StatementRows {
    /// For a statement of a transaction.
    pub fn new(
        region: Arc<Region>,
        client: Arc<Client>,
        transaction: Arc<Mutex<Transaction>>,
        definitions: bool,
    ) -> StatementRows {
        let (view, cuts) = (OnceCell::new(), Default::default());
        StatementRows { region, client, transaction, view, cuts, definitions }
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

    async fn read(&self, database: DatabaseId) -> Result<Read> {
        if let Some(view) = self.cut(database).await? {
            return Ok(Read { view, txn: None });
        }
        let take = || async {
            let taken = self.region.timestamps.take(1).await;
            taken.map_err(|error| Error::new(9005, error.to_string()))
        };
        let view = *self.view.get_or_try_init(take).await?;
        Ok(Read { view, txn: self.transaction.lock().await.reader() })
    }

    async fn read_schema(&self, id: DatabaseId) -> Result<Arc<Schema>> {
        let (start, end) = Schema::key_range();
        let partition = PartitionId { database: id, ordinal: Ordinal::META };
        let changes = self.region.schema_changes();
        let reader = self.transaction.lock().await.reader();
        let cut = self.cut(id).await?;
        let read = Read { view: cut.unwrap_or(Timestamp::MAX), txn: reader };
        let request = LeafRequest::Pairs { partition, read, start, end };
        let answer = self.region.leaves.ask(partition, &request, READ_TIME, true).await;
        let pairs = match answer.map_err(|error| unreachable_partition(&error))? {
            LeafAnswer::Pairs(pairs) => pairs,
            LeafAnswer::Refused(refusal) => return Err(refused(partition, &refusal)),
            other => return Err(Error::new(1105, format!("a leaf answers {other:?} to a read"))),
        };
        let schema = Arc::new(Schema::from_rows(pairs)?);
        // A sink's definitions change without anybody here knowing.
        if reader.is_none() && cut.is_none() {
            self.region.keep_schema(id, schema.clone(), changes);
        }
        Ok(schema)
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
        let state = self.region.catalog.state();
        let (id, database) = state.database_named(name).ok_or_else(|| Error::unknown_database(name))?;
        if !self.definitions {
            self.transaction.lock().await.hold_definitions(id).await?;
        }
        let sink = database.is_sink();
        let schema = match self.region.schema(id).filter(|_| !self.definitions && !sink) {
            Some(schema) => schema,
            None => self.read_schema(id).await?,
        };
        Ok(Database { name: name.into(), partitions: database.partitions, schema })
    }

    async fn get(&self, database: &str, ordinal: Ordinal, keys: Vec<Bytes>) -> Result<Vec<Option<Bytes>>> {
        let partition = self.partition(database, ordinal)?;
        // It reads one partition, in one look, and nothing else: the latest at its primary is a view of its own. So it
        // needs no timestamp, and goes on while there is no master.
        let (cut, txn) = (self.cut(partition.database).await?, self.transaction.lock().await.reader());
        let read = match cut {
            Some(view) => Read { view, txn: None },
            None => Read { view: Timestamp::MAX, txn },
        };
        let request = LeafRequest::Get { partition, read, keys };
        let answer = self.region.leaves.ask(partition, &request, READ_TIME, true).await;
        match answer.map_err(|error| unreachable_partition(&error))? {
            LeafAnswer::Rows(rows) => Ok(rows),
            LeafAnswer::Refused(refusal) => Err(refused(partition, &refusal)),
            other => Err(Error::new(1105, format!("a leaf answers {other:?} to a read"))),
        }
    }

    async fn scan(&self, database: &str, ordinal: Ordinal, scan: Scan) -> Result<Batches> {
        let partition = self.partition(database, ordinal)?;
        let request = LeafRequest::Scan { partition, read: self.read(partition.database).await?, scan };
        let begun = self.region.leaves.stream(partition, &request, READ_TIME).await;
        let (first, replies) = begun.map_err(|error| unreachable_partition(&error))?;
        let rest = stream::unfold(Some(replies), |replies| async {
            let mut replies = replies?;
            match replies.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(replies))),
                Ok(None) => None,
                Err(error) => Some((Err(Error::new(9005, format!("a scan was cut off ({error}): repeat it"))), None)),
            }
        });
        let batches = stream::iter(first.map(Ok)).chain(rest).map(move |answer| match answer? {
            LeafAnswer::Chunk(bytes) => sql::arrow::decode_batch(&bytes),
            LeafAnswer::Refused(refusal) => Err(refused(partition, &refusal)),
            other => Err(Error::new(1105, format!("a leaf answers {other:?} to a scan"))),
        });
        Ok(batches.boxed())
    }

    async fn write(&self, database: &str, ordinal: Ordinal, batch: WriteBatch) -> Result<Vec<Written>> {
        let partition = self.partition(database, ordinal)?;
        self.transaction.lock().await.write(partition, batch).await
    }

    async fn sheet(&self, name: &str) -> Result<Option<Sheet>> {
        twin(&self.region, &self.client, name).await
    }

    async fn allocate(&self, database: &str, table: TableId, count: u64, at_least: u64) -> Result<u64> {
        let partition = self.partition(database, Ordinal::META)?;
        let layout = Layout { table, name: "sequences".into(), fields: vec![], shard: vec![] };
        let writes = vec![RowWrite::Advance { key: sequence_key(table), count, at_least }];
        let batch = WriteBatch { layout, zone: Default::default(), strict: true, program: None, writes };
        // A transaction of its own: the values are not given back.
        let outer = self.transaction.lock().await.stamp();
        let mut own = Transaction::begin_count(self.region.clone(), outer);
        own.begin_statement()?;
        let written = own.write(partition, batch).await?;
        own.commit().await?;
        let old = written.into_iter().next().and_then(|written| written.old);
        decode_sequence(old.ok_or_else(|| Error::new(1467, "Failed to read auto-increment value from storage engine"))?)
    }
}
