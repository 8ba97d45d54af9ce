//! Definitions of tables as an aggregator knows them, and how they change while others use them.
//!
//! The definitions of a database have a version: a counter beside them in the meta partition, which every change raises. What
//! was planned with one version is taken by a primary that requires this very version, and refused by any other.
//!
//! - *Reading*: the version first, then the definitions. If they change in between, they are newer than the version
//!   that they are used under, and refused.
//! - *A change* is made on the definitions as they were read, locks the counter and looks whether it is still what was read,
//!   raises it, requires the new version of every primary, the meta partition's first, and commits. A primary
//!   answers when nothing that was planned with an older version can commit any more, and under its leases: a
//!   later primary begins after that.
//! - *A new reign* has not been told, and refuses. Whoever meets that asks the meta partition's primary what is required,
//!   also by a change that is under way, and tells it. If the meta partition itself has a new primary meanwhile, the change
//!   under way cannot commit: its lock was under the old one.
//! - *A promotion* gives up what is above its cut, a change perhaps. Partitions carry it out one by one, so a requirement names
//!   the history that it belongs to.
//! - *A change that fails* after it was required leaves a version that no definitions have. Whoever meets that waits for
//!   the counter's lock and raises it as far: a change of nothing.
//!
//! Statements and changes wait for each other by locks, at this aggregator (`Definitions::lock`) and at all (`bond`), so that a statement
//! rarely begins anew (1412, which the session repeats where nothing has been sent to the client). Locks are for
//! patience, versions for safety: an aggregator may sleep through the end of its lease.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::try_join_all;
use parking_lot::Mutex;
use sql::cluster::WriteBatch;
use sql::schema::{Schema, TABLES, decode_sequence, dropped_range, sequence_key};
use sql::{Error, Result};
use tokio::sync::RwLock;
use types::txn::{Answer, Refusal, TxnRequest};
use types::{DatabaseId, Ordinal, PartitionId, PromotionId, SchemaVersion, Timestamp};

use crate::protocol::{LeafAnswer, LeafRefusal, LeafRequest, Read};
use crate::region::Region;
use crate::transaction::{Transaction, refused, unreachable_partition};

/// MySQL's error for a statement that was planned with definitions that have changed.
pub const CHANGED: u16 = 1412;
/// How long a primary may take to end what is committing.
const REQUIRE_TIME: Duration = Duration::from_secs(10);
/// How long a read of the meta partition may take.
const READ_TIME: Duration = Duration::from_secs(60);
/// How long the meta partition and another one may serve different histories while a statement waits.
const HISTORY_TIME: Duration = Duration::from_secs(10);
/// Between two attempts.
const RETRY_TIME: Duration = Duration::from_millis(20);
/// What reads the latest, and needs no definitions for it.
const LATEST: Read = Read { view: Timestamp::MAX, txn: None, schema: None };
/// What a database has in which nothing was ever defined.
const FIRST: u64 = 1;

/// Definitions, and what they are called.
#[derive(Clone)]
pub struct Known {
    /// Of this version, or newer.
    pub version: SchemaVersion,
    /// The tables.
    pub schema: Arc<Schema>,
}

/// What an aggregator knows of all databases.
#[derive(Default)]
pub struct Definitions {
    known: Mutex<HashMap<DatabaseId, Known>>,
    /// Counts what made definitions be forgotten: those that were read while it happened are not kept.
    changes: AtomicU64,
    /// The highest version that a primary was met with.
    required: Mutex<HashMap<DatabaseId, SchemaVersion>>,
    locks: Mutex<HashMap<DatabaseId, Arc<RwLock<()>>>>,
}

impl Definitions {
    /// A statement holds its database's lock shared until its transaction ends; a change holds it alone.
    pub fn lock(&self, database: DatabaseId) -> Arc<RwLock<()>> {
        self.locks.lock().entry(database).or_default().clone()
    }

    /// What was read, and has not been found to be old.
    pub fn known(&self, database: DatabaseId) -> Option<Known> {
        self.known.lock().get(&database).cloned()
    }

    /// They have changed, or may have.
    pub fn forget(&self, database: DatabaseId) {
        let mut known = self.known.lock();
        self.changes.fetch_add(1, Ordering::AcqRel);
        known.remove(&database);
    }

    fn keep(&self, database: DatabaseId, read: &Known, changes: u64) {
        let mut known = self.known.lock();
        if changes == self.changes.load(Ordering::Acquire) {
            known.insert(database, read.clone());
        }
    }

    /// A primary requires this: what was planned with another version must begin anew.
    fn met(&self, database: DatabaseId, version: SchemaVersion) -> Error {
        let mut required = self.required.lock();
        let highest = required.entry(database).or_insert(version);
        *highest = version.max(*highest);
        drop(required);
        self.forget(database);
        Error::new(CHANGED, "Table definition has changed, please retry transaction")
    }

    fn required(&self, database: DatabaseId) -> SchemaVersion {
        self.required.lock().get(&database).copied().unwrap_or_default()
    }
}

impl Region {
    /// Definitions that were committed before this was called.
    pub async fn fresh_definitions(self: &Arc<Self>, database: DatabaseId) -> Result<Known> {
        loop {
            let changes = self.definitions.changes.load(Ordering::Acquire);
            let version = self.schema_version(database).await?;
            let required = self.definitions.required(database);
            if version < required {
                self.catch_up(database, required).await?;
                continue;
            }
            let known = Known { version, schema: self.read_definitions(database, LATEST).await? };
            self.definitions.keep(database, &known, changes);
            return Ok(known);
        }
    }

    /// Definitions as a reader sees them.
    pub async fn read_definitions(&self, database: DatabaseId, read: Read) -> Result<Arc<Schema>> {
        Schema::from_rows(self.meta_rows(database, read, Schema::key_range()).await?).map(Arc::new)
    }

    /// Definitions of tables that were dropped and still have rows, as they are stored.
    pub async fn dropped_definitions(&self, database: DatabaseId) -> Result<Vec<Bytes>> {
        let rows = self.meta_rows(database, LATEST, dropped_range()).await?;
        Ok(rows.into_iter().map(|(_, definition)| definition).collect())
    }

    /// A range of a database's meta partition.
    async fn meta_rows(
        &self,
        database: DatabaseId,
        read: Read,
        (start, end): (Bytes, Bytes),
    ) -> Result<Vec<(Bytes, Bytes)>> {
        let partition = PartitionId { database, ordinal: Ordinal::META };
        match self.ask_meta(partition, &LeafRequest::Pairs { partition, read, start, end }).await? {
            LeafAnswer::Pairs(pairs) => Ok(pairs),
            other => Err(unexpected(&other)),
        }
    }

    /// The version of the definitions that were committed last.
    pub async fn schema_version(&self, database: DatabaseId) -> Result<SchemaVersion> {
        let partition = PartitionId { database, ordinal: Ordinal::META };
        let request = LeafRequest::Get { partition, read: LATEST, keys: vec![sequence_key(TABLES)] };
        match self.ask_meta(partition, &request).await? {
            LeafAnswer::Rows(mut rows) => match rows.pop().flatten() {
                Some(row) => version_of(row),
                None => Ok(SchemaVersion(FIRST)),
            },
            other => Err(unexpected(&other)),
        }
    }

    async fn ask_meta(&self, partition: PartitionId, request: &LeafRequest) -> Result<LeafAnswer> {
        let answer = self.leaves.ask(partition, request, READ_TIME, true).await;
        match answer.map_err(|error| unreachable_partition(&error))? {
            LeafAnswer::Refused(refusal) => Err(refused(self, partition, &refusal)),
            answer => Ok(answer),
        }
    }

    /// A primary has refused what was planned with this version. `Ok`: it takes it now. Otherwise it is to be planned anew.
    pub async fn tell(&self, partition: PartitionId, planned: SchemaVersion) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.tell_in_history(partition).await? {
                Some(version) if version == planned => return Ok(()),
                Some(version) => return Err(self.definitions.met(partition.database, version)),
                // A promotion was carried out by one of the two primaries, and not yet by the other.
                None if begun.elapsed() >= HISTORY_TIME => return Err(self.other_history(partition)),
                None => tokio::time::sleep(RETRY_TIME).await,
            }
        }
    }

    /// A promotion is being carried out.
    fn other_history(&self, partition: PartitionId) -> Error {
        let what = "has not carried out the last promotion of its database as far as the others";
        let partition = self.catalog.state().partition_name(partition);
        Error::new(9005, format!("Partition {partition} {what}: repeat the statement"))
    }

    /// Returns what a primary requires when it was told; `None` if it serves another history than the meta partition's, which
    /// is asked before the counter is read and again after that: so the counter is of that history.
    async fn tell_in_history(&self, partition: PartitionId) -> Result<Option<SchemaVersion>> {
        let meta = PartitionId { ordinal: Ordinal::META, ..partition };
        let Some((_, history)) = self.require(meta, SchemaVersion(0), None).await? else { return Ok(None) };
        let committed = self.schema_version(partition.database).await?;
        let Some((required, _)) = self.require(meta, committed, Some(history)).await? else { return Ok(None) };
        let told = self.require(partition, required, Some(history)).await?;
        Ok(told.map(|(version, _)| version))
    }

    /// Returns what is required then, this version or a newer one, and in which history; `None` if that is another one than
    /// the version belongs to.
    async fn require(
        &self,
        partition: PartitionId,
        version: SchemaVersion,
        history: Option<PromotionId>,
    ) -> Result<Option<(SchemaVersion, PromotionId)>> {
        let request = LeafRequest::Txn { partition, request: TxnRequest::Require { version, history } };
        match self.leaves.ask(partition, &request, REQUIRE_TIME, true).await {
            Ok(LeafAnswer::Txn(Answer::Required { version, history })) => Ok(Some((version, history))),
            Ok(LeafAnswer::Refused(LeafRefusal::Protocol(Refusal::Stale))) => Ok(None),
            Ok(LeafAnswer::Refused(refusal)) => Err(refused(self, partition, &refusal)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(unreachable_partition(&error)),
        }
    }

    /// Before a transaction that has changed definitions commits: they must be what it read, and nothing planned with
    /// them commits after it.
    pub async fn raise_version(
        &self,
        change: &mut Transaction,
        database: DatabaseId,
        read: Option<SchemaVersion>,
    ) -> Result<()> {
        let found = count_up(change, database, 0).await?;
        if Some(found) != read {
            return Err(self.definitions.met(database, found));
        }
        self.require_newer(change, database, found).await
    }

    /// A change of nothing: the definitions are called by the version that is required of them, if nobody is at work on it.
    async fn catch_up(self: &Arc<Self>, database: DatabaseId, required: SchemaVersion) -> Result<()> {
        let mut change = Transaction::begin(self.clone());
        change.begin_statement()?;
        match self.raise_to(&mut change, database, required).await {
            Ok(true) => change.commit().await.map(drop),
            not_raised => {
                change.roll_back().await;
                not_raised.map(drop)
            }
        }
    }

    /// False: somebody else has raised it.
    async fn raise_to(&self, change: &mut Transaction, database: DatabaseId, required: SchemaVersion) -> Result<bool> {
        if count_up(change, database, 0).await? >= required {
            return Ok(false);
        }
        self.require_newer(change, database, required).await.map(|()| true)
    }

    async fn require_newer(&self, change: &mut Transaction, database: DatabaseId, than: SchemaVersion) -> Result<()> {
        let version = count_up(change, database, fresh().max(than.0 + 1)).await?;
        let meta = PartitionId { database, ordinal: Ordinal::META };
        let state = self.catalog.state();
        let partitions = state.databases.get(&database).map_or(0, |known| known.partitions);
        let shards = (0..partitions as i32).map(|ordinal| PartitionId { database, ordinal: Ordinal(ordinal) });
        let (at_meta, history) = self.require(meta, version, None).await?.ok_or_else(|| self.other_history(meta))?;
        let told = try_join_all(shards.map(|shard| async move {
            let told = self.require(shard, version, Some(history)).await?;
            told.map(|(version, _)| version).ok_or_else(|| self.other_history(shard))
        }));
        let mut required = vec![at_meta];
        required.extend(told.await?);
        match required.into_iter().find(|required| *required != version) {
            None => Ok(()),
            Some(newer) => Err(self.definitions.met(database, newer)),
        }
    }
}

/// Locks the counter and raises it to a value, if it is below.
async fn count_up(change: &mut Transaction, database: DatabaseId, at_least: u64) -> Result<SchemaVersion> {
    let meta = PartitionId { database, ordinal: Ordinal::META };
    let written = change.write(meta, None, WriteBatch::advance(TABLES, 0, at_least)).await?;
    let row = written.into_iter().next().and_then(|written| written.old);
    version_of(row.ok_or_else(|| Error::new(1105, "a leaf does not say what a counter was"))?)
}

fn version_of(row: Bytes) -> Result<SchemaVersion> {
    decode_sequence(row).map(SchemaVersion)
}

/// Grows with time; its low bits are random: two histories of a database do not give one version to different
/// definitions.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_millis() as u64) << 20 | u64::from(rand::random::<u32>() >> 12)
}

fn unexpected(answer: &LeafAnswer) -> Error {
    Error::new(1105, format!("a leaf answers {answer:?} to a question about definitions"))
}
