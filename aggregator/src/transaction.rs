//! A transaction as its coordinator knows it: where it has written, how it commits.
//!
//! - Nothing is written before a partition's primary has locked the row; the first write stamps the transaction with
//!   the catalog's revision, which a fence compares, and is refused where the catalog knows that it would be.
//! - One partition: it commits there, in one record. Several: all prepare, then a timestamp is taken, then the first
//!   participant decides; the client is answered when that decision is committed, the others are told afterwards.
//! - What may or may not have happened is never guessed: a decision is asked for again, and so is a commit in one record
//!   whose answer is lost; only if nobody can tell is that error 1180.
//! - Without a majority of the aggregators nobody hands out timestamps: what waits for one is taken back, and fails with 9005.
//! - It writes under one lease of the master without a gap (`bond`): otherwise it can only be rolled back.
//! - A transaction that is dropped rolls back.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use sql::Error;
use sql::cluster::{WriteBatch, Written};
use tokio::sync::OwnedRwLockReadGuard;
use types::txn::{Answer, Refusal, Touch, TxnRequest};
use types::{DatabaseId, Lsn, Ordinal, PartitionId, SchemaVersion, Timestamp, TxnId};

use crate::bond::LeaseNumber;
use crate::leaves::LeavesError;
use crate::outcome::Sent;
use crate::protocol::{LeafAnswer, LeafRefusal, LeafRequest, WriteRequest};
use crate::region::Region;
use crate::stamps::Stamp;
use crate::writable;

/// How long a step of a transaction may take at a leaf, lock waits aside.
const STEP_TIME: Duration = Duration::from_secs(10);
/// Between two attempts where a leaf has not heard yet that a fence was lifted.
const RETRY_TIME: Duration = Duration::from_millis(20);
/// How long a participant may take to write the rows of one transaction, and to copy them to its set.
const PREPARE_TIME: Duration = Duration::from_secs(60);
/// How often participants hear of a coordinator that is not done: several times before they ask how it ended.
const ALIVE_TIME: Duration = Duration::from_millis(200);
/// How long one of them may keep the others from hearing it.
const ALIVE_LIMIT: Duration = Duration::from_millis(400);
/// How often a participant is told a decision, or to forget it, before the inquiry of its primary is relied on.
const TELL_TRIES: u32 = 20;
/// Between two of them.
const TELL_PAUSE: Duration = Duration::from_millis(200);

/// What a write may take by its work alone. Whatever takes longer is counted as waiting for locks.
const WORK_TIME: Duration = Duration::from_secs(1);

/// How long a session's statements wait for others.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For locks of rows: all of a statement's together, but for `WORK_TIME` each.
    pub rows: Duration,
    /// For definitions that are changed.
    pub definitions: Duration,
}

/// One transaction.
pub struct Transaction {
    region: Arc<Region>,
    id: TxnId,
    stamp: Option<Arc<Stamp>>,
    statement: u32,
    touched: BTreeMap<PartitionId, Touch>,
    /// Below the record that commits it, at each partition.
    above: BTreeMap<PartitionId, Lsn>,
    /// Where the present statement has written.
    statement_touched: BTreeSet<PartitionId>,
    /// Whoever changes definitions of these databases waits until it ends.
    definitions: BTreeMap<DatabaseId, OwnedRwLockReadGuard<()>>,
    /// Under which lease it writes; `None`: it has not yet.
    lease: Option<LeaseNumber>,
    /// An answer was lost: it can only be rolled back.
    doomed: bool,
    /// What it writes to a meta partition are counters, no definitions.
    counts_only: bool,
    waits: Waits,
    /// What is left of the present statement's wait for rows.
    wait_left: Duration,
}

impl Transaction {
    /// A transaction that has done nothing yet.
    pub fn begin(region: Arc<Region>) -> Transaction {
        let wait = region.options.lock_wait;
        Transaction {
            region,
            id: TxnId(rand::random()),
            stamp: None,
            statement: 0,
            touched: BTreeMap::new(),
            above: BTreeMap::new(),
            statement_touched: BTreeSet::new(),
            definitions: BTreeMap::new(),
            lease: None,
            doomed: false,
            counts_only: false,
            waits: Waits { rows: wait, definitions: wait },
            wait_left: wait,
        }
    }

    /// A transaction that takes values of counters, and changes no definition. Under the stamp of the one that needs
    /// them: it may finish what it has begun.
    pub fn begin_count(region: Arc<Region>, outer: Option<Arc<Stamp>>) -> Transaction {
        let mut counting = Transaction::begin(region);
        counting.counts_only = true;
        counting.stamp = outer;
        counting
    }

    /// From the next statement on it waits as its session says.
    pub fn set_waits(&mut self, waits: Waits) {
        self.waits = waits;
    }

    /// What a transaction within it is stamped with.
    pub fn stamp(&self) -> Option<Arc<Stamp>> {
        self.stamp.clone()
    }

    /// Its id, once it has written somewhere: then its reads see its own writes.
    pub fn reader(&self) -> Option<TxnId> {
        (!self.touched.is_empty()).then_some(self.id)
    }

    /// Keeps the definitions of a database as they are until the transaction ends.
    pub async fn hold_definitions(&mut self, database: DatabaseId) -> Result<(), Error> {
        if self.definitions.contains_key(&database) {
            return Ok(());
        }
        let lock = self.region.definitions.lock(database);
        let held = tokio::time::timeout(self.waits.definitions, lock.read_owned()).await;
        let held = held.map_err(|_| lock_wait())?;
        self.definitions.insert(database, held);
        Ok(())
    }

    /// A new statement begins: what it writes can be taken back. An error: nothing is left but to roll back.
    pub fn begin_statement(&mut self) -> Result<(), Error> {
        self.statement += 1;
        self.statement_touched.clear();
        self.wait_left = self.waits.rows;
        self.check()
    }

    /// The database whose meta partition it has written to.
    pub fn defines(&self) -> Option<DatabaseId> {
        let written = self.touched.iter().find(|(id, touch)| id.ordinal == Ordinal::META && touch.count > 0);
        written.map(|(id, _)| id.database)
    }

    /// Writes rows of one partition, planned with these definitions. An error means that the statement has failed.
    pub async fn write(
        &mut self,
        partition: PartitionId,
        schema: Option<SchemaVersion>,
        batch: WriteBatch,
    ) -> Result<Vec<Written>, Error> {
        self.check()?;
        // A Prepare names its deciding partition by ordinal: a participant in another database would ask its own.
        if self.touched.keys().any(|known| known.database != partition.database) {
            return Err(Error::unsupported("one transaction that writes to several databases"));
        }
        let others = |(known, touch): (&PartitionId, &Touch)| known.ordinal != Ordinal::META && touch.schema != schema;
        if schema.is_some() && self.touched.iter().any(others) {
            self.doomed = true;
            return Err(rolled_back("table definitions have changed since it began"));
        }
        let stamp = self.stamped(partition.database).await?;
        let work = stamp.work().ok_or_else(fence_timeout)?;
        let touch = self.touched.get(&partition).copied().unwrap_or(Touch { schema, ..Touch::default() });
        let (begun, lock_wait) = (Instant::now(), self.wait_left.max(WORK_TIME.min(self.waits.rows)));
        let request = LeafRequest::Write(WriteRequest {
            partition,
            txn: self.id,
            touch,
            stamp: stamp.revision,
            lock_wait_millis: u64::try_from(lock_wait.as_millis()).unwrap_or(u64::MAX),
            statement: self.statement,
            batch,
        });
        self.touched.insert(partition, touch);
        self.statement_touched.insert(partition);
        let mut answer = self.ask_to_write(partition, &request, lock_wait).await;
        if let (Ok(LeafAnswer::Refused(LeafRefusal::Protocol(Refusal::Schema(_)))), Some(planned)) = (&answer, schema) {
            // It takes it when it is told, or the statement is planned anew.
            self.region.tell(partition, planned).await?;
            answer = self.ask_to_write(partition, &request, lock_wait).await;
        }
        self.wait_left = self.wait_left.saturating_sub(begun.elapsed().saturating_sub(WORK_TIME));
        let cancelled = stamp.is_cancelled();
        drop(work);
        match answer {
            // Whoever cancelled it may have been here before the write: it is rolled back once more.
            _ if cancelled => Err(fence_timeout()),
            Ok(LeafAnswer::Written { touch, written, above }) => {
                self.touched.insert(partition, touch);
                self.above.insert(partition, above);
                written
            }
            Ok(LeafAnswer::Refused(refusal)) => {
                self.doomed |= refusal == LeafRefusal::Protocol(Refusal::Stale);
                let named = || writable::refusal(&self.region.catalog.state(), partition.database);
                Err(is_read_only(&refusal)
                    .then(named)
                    .flatten()
                    .unwrap_or_else(|| refused(&self.region, partition, &refusal)))
            }
            Ok(_) | Err(LeavesError::Unknown { .. }) => {
                self.doomed = true;
                Err(rolled_back("the answer of a partition was lost before the commit"))
            }
            Err(error) => Err(unreachable_partition(&error)),
        }
    }

    /// What it writes under; made at its first write.
    async fn stamped(&mut self, database: DatabaseId) -> Result<Arc<Stamp>, Error> {
        if let Some(stamp) = &self.stamp {
            return Ok(stamp.clone());
        }
        self.lease = Some(self.region.bond.admit(&self.region).await?);
        self.region.guard.admit(&self.region.catalog, database).await?;
        let made = self.region.stamps.stamp(self.id, database, &self.region.catalog)?;
        Ok(self.stamp.insert(Arc::new(made)).clone())
    }

    /// A leaf may not have heard yet that a fence was lifted: it is asked again.
    async fn ask_to_write(
        &self,
        partition: PartitionId,
        request: &LeafRequest,
        lock_wait: Duration,
    ) -> Result<LeafAnswer, LeavesError> {
        let options = &self.region.options;
        let begun = Instant::now();
        loop {
            let answer = self.region.leaves.ask(partition, request, lock_wait + STEP_TIME, false).await;
            let read_only = matches!(&answer, Ok(LeafAnswer::Refused(refusal)) if is_read_only(refusal));
            let state = self.region.catalog.state();
            let late = read_only && writable::refusal(&state, partition.database).is_none();
            if !late || begun.elapsed() >= options.partition_wait {
                return answer;
            }
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    fn check(&self) -> Result<(), Error> {
        match &self.stamp {
            _ if self.doomed => Err(rolled_back("a partition has lost track of it")),
            Some(stamp) if stamp.is_cancelled() => Err(fence_timeout()),
            Some(_) if self.lease.is_some() && self.lease != self.region.bond.lease() => Err(cut_off()),
            _ => Ok(()),
        }
    }

    /// From now on it is not cancelled. A transaction within another one leaves that to it.
    fn decide(&self) -> Result<(), Error> {
        match &self.stamp {
            Some(stamp) if !self.counts_only && !stamp.decide() => Err(fence_timeout()),
            _ => Ok(()),
        }
    }

    /// The statement has failed: what it has written is taken back everywhere. If that cannot be done, the whole
    /// transaction can only be rolled back.
    pub async fn undo_statement(&mut self) {
        for partition in std::mem::take(&mut self.statement_touched) {
            let Some(touch) = self.touched.get(&partition).copied().filter(|touch| touch.count > 0) else { continue };
            let undo = LeafRequest::Undo { partition, txn: self.id, touch, statement: self.statement };
            match self.region.leaves.ask(partition, &undo, STEP_TIME, false).await {
                Ok(LeafAnswer::Written { touch, .. }) => drop(self.touched.insert(partition, touch)),
                _ => self.doomed = true,
            }
        }
    }

    /// Commits. `Ok(None)`: it had written nothing. The transaction is over, whatever is answered.
    pub async fn commit(&mut self) -> Result<Option<Timestamp>, Error> {
        let writes = self.touched.values().any(|touch| touch.count > 0);
        if let Err(error) = self.may_commit(writes).await {
            self.roll_back().await;
            return Err(error);
        }
        let _definitions = std::mem::take(&mut self.definitions);
        let touched = std::mem::take(&mut self.touched);
        let (written, locked): (Vec<_>, Vec<_>) = touched.into_iter().partition(|(_, touch)| touch.count > 0);
        let locked: Vec<PartitionId> = locked.into_iter().map(|(partition, _)| partition).collect();
        release(&self.region, self.id, &locked).await;
        let outcome = match &written[..] {
            [] => Ok(None),
            [(partition, touch)] => self.commit_one(*partition, *touch).await,
            _ => self.commit_all(&written).await.map(Some),
        };
        for (partition, _) in written {
            if partition.ordinal == Ordinal::META && !self.counts_only {
                self.region.definitions.forget(partition.database);
            }
        }
        self.stamp = None;
        outcome
    }

    /// Once a commit is sent its outcome is a partition's; so it is sent only where a timestamp can be had.
    async fn may_commit(&self, writes: bool) -> Result<(), Error> {
        if writes {
            self.region.bond.admit(&self.region).await?;
        }
        self.check().and_then(|()| self.decide())
    }

    /// `Ok(None)`: all that it had written there was taken back by statements that failed.
    async fn commit_one(&self, partition: PartitionId, touch: Touch) -> Result<Option<Timestamp>, Error> {
        let mut commit = pin!(self.step(partition, TxnRequest::Commit { txn: self.id, touch }, false));
        let cut_off = tokio::select! {
            biased;
            answer = &mut commit => return self.committed(partition, answer).await,
            cut_off = self.cut_off() => cut_off,
        };
        match self.step(partition, TxnRequest::Withdraw { txn: self.id }, false).await {
            Ok(LeafAnswer::Txn(Answer::RolledBack)) => Err(cut_off),
            // It has a timestamp, and is on its way.
            _ => self.committed(partition, commit.await).await,
        }
    }

    /// What a commit in one record has come to.
    async fn committed(
        &self,
        partition: PartitionId,
        answer: Result<LeafAnswer, LeavesError>,
    ) -> Result<Option<Timestamp>, Error> {
        match answer {
            Ok(LeafAnswer::Txn(Answer::Committed { ts, .. })) => Ok(Some(ts)),
            Ok(LeafAnswer::Txn(Answer::RolledBack)) => Ok(None),
            Ok(LeafAnswer::Txn(Answer::Refused(refusal))) => {
                Err(not_committed(&self.region, partition, &LeafRefusal::Protocol(refusal)))
            }
            Ok(LeafAnswer::Refused(refusal)) => Err(not_committed(&self.region, partition, &refusal)),
            Ok(_) | Err(LeavesError::Unknown { .. }) => self.outcome(partition).await.map(Some),
            Err(error) => Err(unreachable_partition(&error)),
        }
    }

    /// Returns when no timestamp could be had for as long as a statement waits, with what its client is told.
    async fn cut_off(&self) -> Error {
        loop {
            tokio::time::sleep(ALIVE_TIME).await;
            if let Err(error) = self.region.bond.admit(&self.region).await {
                return given_up(error);
            }
        }
    }

    /// How its commit at one partition ended, whose answer is lost.
    async fn outcome(&self, partition: PartitionId) -> Result<Timestamp, Error> {
        let above = self.above.get(&partition).copied();
        let sent = Sent { txn: self.id, partition, above: Some(above.expect("what it has written was answered")) };
        match sent.outcome(&self.region).await {
            Ok(Some(ts)) => Ok(ts),
            Ok(None) => Err(rolled_back("its partition has a new primary, which had not got the commit")),
            Err(untold) => Err(sent.unknown(&untold)),
        }
    }

    /// Two-phase commit. While it lasts the participants hear that their coordinator lives: preparing many rows, or
    /// waiting for the next master's timestamps, takes longer than a failure does to be noticed.
    async fn commit_all(&self, written: &[(PartitionId, Touch)]) -> Result<Timestamp, Error> {
        tokio::select! {
            ended = self.prepare_and_decide(written) => ended,
            never = self.say_alive(written) => never,
        }
    }

    /// The first participant's log holds the decision.
    async fn prepare_and_decide(&self, written: &[(PartitionId, Touch)]) -> Result<Timestamp, Error> {
        let first = written[0].0;
        let others = || written.iter().map(|(partition, _)| *partition).filter(|id| *id != first).collect();
        let ts = tokio::select! {
            biased;
            ts = self.prepare(written) => ts,
            cut_off = self.cut_off() => Err(cut_off),
        };
        let ts = match ts {
            Ok(ts) => ts,
            Err(failure) => {
                let aborted = self.abort(first, others());
                // That nobody decides otherwise is certain; without a majority no leaf says so.
                if self.region.bond.lease().is_some() {
                    drop(aborted.await);
                }
                return Err(failure);
            }
        };
        let decided = match self.decide_at(first, ts).await {
            Some(decided) => decided,
            // The decision may be in the log. Whoever asks for the other one is told which is, or there is none.
            None => {
                let sent = Sent { txn: self.id, partition: first, above: None };
                sent.outcome(&self.region).await.map_err(|untold| sent.unknown(&untold))?
            }
        };
        tell(self.region.clone(), self.id, others(), first, decided);
        decided.ok_or_else(|| rolled_back("it could not be decided in time"))
    }

    async fn say_alive<T>(&self, written: &[(PartitionId, Touch)]) -> T {
        let request = TxnRequest::Alive { txn: self.id };
        loop {
            tokio::time::sleep(ALIVE_TIME).await;
            // One that is not prepared refuses, one that cannot be reached asks how it ended: both are as they should be.
            join_all(written.iter().map(|(partition, _)| {
                let request = LeafRequest::Txn { partition: *partition, request: request.clone() };
                async move {
                    let said = self.region.leaves.ask(*partition, &request, ALIVE_LIMIT, false);
                    drop(tokio::time::timeout(ALIVE_LIMIT, said).await);
                }
            }))
            .await;
        }
    }

    /// Every participant is prepared; then the time at which it may be decided.
    async fn prepare(&self, written: &[(PartitionId, Touch)]) -> Result<Timestamp, Error> {
        let first = written[0].0;
        let prepares = written.iter().map(|(partition, touch)| {
            let request = TxnRequest::Prepare { txn: self.id, touch: *touch, first: first.ordinal };
            let request = LeafRequest::Txn { partition: *partition, request };
            async move { (*partition, self.region.leaves.ask(*partition, &request, PREPARE_TIME, false).await) }
        });
        let (mut failure, mut served) = (None, None);
        for (partition, answer) in join_all(prepares).await {
            failure = failure.or(match answer {
                Ok(LeafAnswer::Txn(Answer::Prepared { history })) if *served.get_or_insert(history) != history => {
                    Some(rolled_back("not all of its partitions have gone back to what was recovered after a loss yet"))
                }
                Ok(LeafAnswer::Txn(Answer::Prepared { .. })) => None,
                Ok(LeafAnswer::Txn(Answer::Refused(refusal))) => {
                    Some(not_committed(&self.region, partition, &LeafRefusal::Protocol(refusal)))
                }
                Ok(LeafAnswer::Refused(refusal)) => Some(not_committed(&self.region, partition, &refusal)),
                Ok(_) => Some(rolled_back("a partition was lost while it prepared")),
                Err(error) => Some(rolled_back(&error.to_string())),
            });
        }
        match failure {
            Some(failure) => Err(failure),
            // After every participant has prepared: no reader's view above it can miss it.
            None => self.region.timestamps.take(1).await.map_err(|error| given_up(Error::new(9005, error.to_string()))),
        }
    }

    /// Nobody was told to commit it. The client may be answered before this ends.
    fn abort(&self, first: PartitionId, others: Vec<PartitionId>) -> tokio::task::JoinHandle<()> {
        let (region, txn) = (self.region.clone(), self.id);
        tokio::spawn(async move {
            let request = TxnRequest::Decide { txn, decision: None };
            let request = LeafRequest::Txn { partition: first, request };
            drop(region.leaves.ask(first, &request, STEP_TIME, true).await);
            tell(region, txn, others, first, None);
        })
    }

    /// What the first participant has logged, after it was told to commit then. `None`: it does not say.
    async fn decide_at(&self, first: PartitionId, ts: Timestamp) -> Option<Option<Timestamp>> {
        match self.step(first, TxnRequest::Decide { txn: self.id, decision: Some(ts) }, true).await {
            Ok(LeafAnswer::Txn(Answer::Decided { decision })) => Some(decision),
            _ => None,
        }
    }

    async fn step(
        &self,
        partition: PartitionId,
        request: TxnRequest,
        repeatable: bool,
    ) -> Result<LeafAnswer, LeavesError> {
        let request = LeafRequest::Txn { partition, request };
        self.region.leaves.ask(partition, &request, STEP_TIME, repeatable).await
    }

    /// Rolls back everywhere. The transaction is over.
    pub async fn roll_back(&mut self) {
        let _definitions = std::mem::take(&mut self.definitions);
        let touched: Vec<PartitionId> = std::mem::take(&mut self.touched).into_keys().collect();
        release(&self.region, self.id, &touched).await;
        self.stamp = None;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let touched: Vec<PartitionId> = std::mem::take(&mut self.touched).into_keys().collect();
        if !touched.is_empty() {
            let (region, id, stamp) = (self.region.clone(), self.id, self.stamp.take());
            let held = std::mem::take(&mut self.definitions);
            tokio::spawn(async move {
                release(&region, id, &touched).await;
                drop((stamp, held));
            });
        }
    }
}

/// Tells the other participants, after the client is answered.
fn tell(region: Arc<Region>, txn: TxnId, others: Vec<PartitionId>, first: PartitionId, decision: Option<Timestamp>) {
    tokio::spawn(async move {
        let mut all_told = true;
        for partition in others {
            all_told &= is_told(&region, partition, TxnRequest::Finish { txn, first: first.ordinal, decision }).await;
        }
        // Under a seal it is refused, and heard by whoever is named behind that.
        if !all_told || !is_told(&region, first, TxnRequest::Forget { txns: vec![txn] }).await {
            tracing::debug!(%txn, "a decision is kept longer than it is needed");
        }
    });
}

/// Whether a partition has logged what it is to know.
async fn is_told(region: &Region, partition: PartitionId, request: TxnRequest) -> bool {
    let request = LeafRequest::Txn { partition, request };
    for _ in 0..TELL_TRIES {
        let answer = region.leaves.ask(partition, &request, STEP_TIME, true).await;
        if matches!(answer, Ok(LeafAnswer::Txn(Answer::Finished))) {
            return true;
        }
        tokio::time::sleep(TELL_PAUSE).await;
    }
    false
}

/// Gives locks back. A leaf that cannot be reached gives them back itself when the session with it ends.
async fn release(region: &Region, txn: TxnId, partitions: &[PartitionId]) {
    let each = partitions.iter().map(|partition| async move {
        let request = LeafRequest::Txn { partition: *partition, request: TxnRequest::Rollback { txn } };
        if let Err(error) = region.leaves.ask(*partition, &request, STEP_TIME, true).await {
            tracing::debug!(%partition, %error, "locks are given back when the session ends");
        }
    });
    join_all(each).await;
}

/// Whether a leaf says that the database takes no writes.
fn is_read_only(refusal: &LeafRefusal) -> bool {
    matches!(refusal, LeafRefusal::Protocol(Refusal::Fenced | Refusal::Sink))
}

/// MySQL's number for a transaction that is rolled back as a whole, certainly.
pub const ROLLED_BACK: u16 = 1213;

fn rolled_back(why: &str) -> Error {
    Error::new(ROLLED_BACK, format!("The transaction was rolled back ({why}); repeat it"))
}

/// Whether a statement that was a transaction of its own may be run anew instead of reporting this: nothing of it is
/// left, and it was lost with a partition's primary or a lease, which will have successors. A fence stays.
pub fn is_repeatable(error: &Error) -> bool {
    error.code == ROLLED_BACK && *error != fence_timeout()
}

fn fence_timeout() -> Error {
    rolled_back("the database was fenced, and the fence's TIMEOUT has passed")
}

fn cut_off() -> Error {
    rolled_back("this aggregator was cut off from the others")
}

/// Nobody hands out timestamps: a transaction that was about to commit is not committed.
fn given_up(why: Error) -> Error {
    Error::new(9005, format!("{}; the transaction was rolled back", why.message))
}

fn lock_wait() -> Error {
    Error::new(1205, "Lock wait timeout exceeded; try restarting transaction")
}

/// A partition that cannot be asked, as a client sees it.
pub fn unreachable_partition(error: &LeavesError) -> Error {
    match error {
        LeavesError::Gone(_) => Error::new(1049, error.to_string()),
        LeavesError::NoPrimary { .. } | LeavesError::Unknown { .. } => Error::new(9005, error.to_string()),
    }
}

/// A leaf's refusal to commit: another primary knows nothing of the transaction, so it is gone, not the statement alone.
fn not_committed(region: &Region, partition: PartitionId, refusal: &LeafRefusal) -> Error {
    match refusal {
        LeafRefusal::Protocol(Refusal::NotPrimary) | LeafRefusal::NoPartition => {
            rolled_back("a partition has a new primary")
        }
        refusal => refused(region, partition, refusal),
    }
}

/// A leaf's refusal, as a client sees it.
pub fn refused(region: &Region, partition: PartitionId, refusal: &LeafRefusal) -> Error {
    let partition = region.catalog.state().partition_name(partition);
    match refusal {
        LeafRefusal::Sql(error) => error.clone(),
        LeafRefusal::LockWait => lock_wait(),
        LeafRefusal::Protocol(Refusal::Fenced) => {
            Error::new(1290, "The database is read only (fence): UNLOCK TABLES lifts it, or write on the other side")
        }
        LeafRefusal::Protocol(Refusal::Sink) => Error::new(
            1290,
            "The database follows another region and takes no writes: write there, or STOP REPLICATING here",
        ),
        // A new primary knows no definitions before it is told, and nothing of the transaction.
        LeafRefusal::Protocol(Refusal::Stale | Refusal::Ended | Refusal::Schema(None)) => {
            rolled_back("a partition has a new primary")
        }
        LeafRefusal::Protocol(Refusal::Schema(Some(_))) => rolled_back("table definitions have changed since it began"),
        LeafRefusal::Protocol(Refusal::NotPrimary) | LeafRefusal::NoPartition | LeafRefusal::NotReadable => {
            Error::new(9005, format!("Partition {partition} has no primary right now: repeat the statement"))
        }
        LeafRefusal::Damaged(reason) => {
            let text = format!(
                "Partition {partition} is damaged ({reason}): repeat the statement; if it stays so, SHOW LEAVES says what to do"
            );
            Error::new(9007, text)
        }
        LeafRefusal::DiskFull { leaf, free } => Error::new(
            1290,
            format!(
                "Partition {partition} is read only: leaf {leaf} holds a copy of it and has {free} bytes free, too few; make room on that disk"
            ),
        ),
        LeafRefusal::TooFewCopies { in_sync, wanted } => Error::new(
            9006,
            format!("Partition {partition} has {in_sync} copies in sync, min_in_sync is {wanted}: wait, or lower it"),
        ),
        LeafRefusal::Invalid(reason) => {
            Error::new(1105, format!("partition {partition} refuses the request: {reason}"))
        }
    }
}
