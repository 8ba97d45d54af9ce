//! What aggregators ask of a leaf: rows by key and by range, writes under locks, the steps of a transaction.
//!
//! One [`LeafCalls`] serves one session. When the session ends, what its transactions have locked and not prepared is
//! rolled back: their coordinator is gone. A request that has begun is finished although its caller has left; one that
//! locks after that was rolled back gives its locks back itself, so that none is held by nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aggregator::protocol::{LeafAnswer, LeafRefusal, LeafRequest, PartitionStatus, Read, WriteRequest};
use bytes::Bytes;
use parking_lot::Mutex;
use sql::arrow::RecordBatch;
use sql::cluster::{Scan, WriteBatch, Written};
use sql::leaf::{Change, Scanner, apply};
use storage::log::NodeLog;
use storage::state::{PartitionState, ScanLimits, StateError};
use transport::rpc::{Failure, Handler, ReplySender};
use types::txn::{Answer, Refusal, Touch, TxnRequest};
use types::{Lsn, PartitionId, Timestamp, TxnId, Write};

use super::aside::Asides;
use super::heal::Damages;
use super::outcome;
use super::overlay::{AllOverlays, Overlays, Undone, Written as Own};
use super::partition::PartitionHandle;
use super::peers::Partitions;
use super::rules::Rules;
use super::scrub::{self, Pace};

/// Rows and bytes that are read at once.
const CHUNK: ScanLimits = ScanLimits { rows: 4096, bytes: 1 << 20 };

/// Bytes of rows that one answer may hold.
const PAIRS_BYTES_MAX: usize = 32 << 20;

/// Serves the requests of one session.
pub struct LeafCalls {
    inner: Arc<Inner>,
}

struct Inner {
    partitions: Partitions,
    overlays: AllOverlays,
    rules: Arc<Rules>,
    asides: Asides,
    damages: Arc<Damages>,
    log: Arc<NodeLog>,
    /// Where the transactions of the session may hold locks. `None`: it is over, and nobody rolls back any more what is
    /// locked from now on.
    touched: Mutex<Option<BTreeSet<(TxnId, PartitionId)>>>,
}

impl LeafCalls {
    /// For a session that begins.
    pub fn new(
        partitions: Partitions,
        overlays: AllOverlays,
        rules: Arc<Rules>,
        asides: Asides,
        damages: Arc<Damages>,
        log: Arc<NodeLog>,
    ) -> LeafCalls {
        let touched = Mutex::new(Some(BTreeSet::new()));
        LeafCalls { inner: Arc::new(Inner { partitions, overlays, rules, asides, damages, log, touched }) }
    }

    /// The session has ended: nobody will commit what it has locked.
    pub async fn roll_back(&self) {
        let touched = self.inner.touched.lock().take();
        for (txn, partition) in touched.unwrap_or_default() {
            if let Some(handle) = self.inner.handle(partition) {
                handle.txn(TxnRequest::Rollback { txn }).await;
            }
            self.inner.overlays(partition).forget(txn);
        }
    }
}

impl Handler for LeafCalls {
    type Request = LeafRequest;
    type Reply = LeafAnswer;

    async fn handle(&self, request: LeafRequest, replies: &ReplySender<LeafAnswer>) -> Result<(), Failure> {
        let inner = self.inner.clone();
        match request {
            LeafRequest::Scan { partition, read, scan } => {
                ended(inner.scan(partition, read, scan, replies).await, replies).await
            }
            LeafRequest::DivergenceEntries { name } => ended(inner.set_aside(&name, replies).await, replies).await,
            request => {
                let answer = tokio::spawn(async move { inner.answer(request).await }).await?;
                Ok(replies.send(&answer).await?)
            }
        }
    }
}

/// The end of a stream of answers: what was refused is its last one.
async fn ended(run: Result<(), Stop>, replies: &ReplySender<LeafAnswer>) -> Result<(), Failure> {
    match run {
        Ok(()) => Ok(()),
        Err(Stop::Refused(refusal)) => Ok(replies.send(&LeafAnswer::Refused(refusal)).await?),
        Err(Stop::Caller(failure)) => Err(failure),
    }
}

/// Why a stream of answers ends early.
enum Stop {
    Refused(LeafRefusal),
    Caller(Failure),
}

impl Inner {
    fn handle(&self, partition: PartitionId) -> Option<PartitionHandle> {
        self.partitions.read().get(&partition).cloned()
    }

    /// The replica of a partition, unless it is damaged and nobody takes over.
    fn serving(&self, partition: PartitionId) -> Result<PartitionHandle, LeafRefusal> {
        match self.damages.refusal(partition) {
            Some(reason) => Err(LeafRefusal::Damaged(reason)),
            None => self.handle(partition).ok_or(LeafRefusal::NoPartition),
        }
    }

    fn overlays(&self, partition: PartitionId) -> Arc<Overlays> {
        self.overlays.lock().entry(partition).or_default().clone()
    }

    async fn answer(&self, request: LeafRequest) -> LeafAnswer {
        let answer = match request {
            LeafRequest::Write(write) => self.write(write).await,
            LeafRequest::Undo { partition, txn, touch, statement } => self.undo(partition, txn, touch, statement).await,
            LeafRequest::Txn { partition, request } => self.txn(partition, request).await,
            LeafRequest::Outcome { partition, txn, above } => self.outcome(partition, txn, above).await,
            LeafRequest::Get { partition, read, keys } => self.get(partition, read, keys).await,
            LeafRequest::Pairs { partition, read, start, end } => self.pairs(partition, read, start, end).await,
            LeafRequest::Check { partition, view, applied } => self.check(partition, view, applied).await,
            LeafRequest::Rebuild { partition } => {
                self.handle(partition).ok_or(LeafRefusal::NoPartition).map(|handle| {
                    handle.damaged("CHECK DATABASE … REPAIR".into());
                    LeafAnswer::Rebuilding
                })
            }
            LeafRequest::Status { partition } => self.status(partition),
            LeafRequest::Divergences => tokio::task::block_in_place(|| self.asides.files()),
            LeafRequest::DiscardDivergence { id, database } => {
                tokio::task::block_in_place(|| self.asides.discard(id, database))
            }
            LeafRequest::Scan { .. } | LeafRequest::DivergenceEntries { .. } => {
                Err(LeafRefusal::Invalid("it is answered by a stream".into()))
            }
        };
        answer.unwrap_or_else(LeafAnswer::Refused)
    }

    async fn write(&self, request: WriteRequest) -> Result<LeafAnswer, LeafRefusal> {
        let WriteRequest { partition, txn, touch, stamp, lock_wait_millis, statement, batch } = request;
        let keys: BTreeSet<Bytes> = batch.writes.iter().map(|write| write.key().clone()).collect();
        let handle = self.serving(partition)?;
        self.rules.admit(partition.database, &handle.status.borrow())?;
        let wait = Duration::from_millis(lock_wait_millis);
        self.touched.lock().as_mut().ok_or_else(ended_meanwhile)?.insert((txn, partition));
        let lock = TxnRequest::Lock { txn, touch, stamp, keys: keys.into_iter().collect() };
        let lock = handle.txn_within(lock, wait).await;
        let epoch = match lock.ok_or(LeafRefusal::NoPartition)?.ok_or(LeafRefusal::LockWait)? {
            Answer::Locked { epoch } => epoch,
            answer => return Err(refusal(answer)),
        };
        if !self.touched.lock().as_ref().is_some_and(|touched| touched.contains(&(txn, partition))) {
            handle.txn(TxnRequest::Rollback { txn }).await;
            return Err(ended_meanwhile());
        }
        let overlays = self.overlays(partition);
        let mut touch = Touch { epoch: Some(epoch), ..touch };
        let done = tokio::task::block_in_place(|| evaluate(&handle.state.get(), &overlays, txn, &batch))
            .map_err(|error| met(&handle, error))?;
        let (writes, written) = match done {
            Ok(done) => done,
            Err(error) => return Ok(LeafAnswer::Written { touch, written: Err(error), above: end_of(&handle) }),
        };
        if !writes.is_empty() {
            overlays.add(txn, statement, &writes);
            let buffered = self.buffered(&handle, TxnRequest::Buffer { txn, writes }).await;
            // It has ended meanwhile: nobody reads what it wrote.
            touch.count = buffered.inspect_err(|_| overlays.forget(txn))?;
        }
        Ok(LeafAnswer::Written { touch, written: Ok(written), above: end_of(&handle) })
    }

    async fn buffered(&self, handle: &PartitionHandle, request: TxnRequest) -> Result<u32, LeafRefusal> {
        match handle.txn(request).await.ok_or(LeafRefusal::NoPartition)? {
            Answer::Buffered { count } => Ok(count),
            answer => Err(refusal(answer)),
        }
    }

    async fn undo(
        &self,
        partition: PartitionId,
        txn: TxnId,
        mut touch: Touch,
        statement: u32,
    ) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        let Undone { forget, restore } = self.overlays(partition).undo(txn, statement);
        if !forget.is_empty() {
            touch.count = self.buffered(&handle, TxnRequest::Unbuffer { txn, keys: forget }).await?;
        }
        if !restore.is_empty() {
            touch.count = self.buffered(&handle, TxnRequest::Buffer { txn, writes: restore }).await?;
        }
        Ok(LeafAnswer::Written { touch, written: Ok(vec![]), above: end_of(&handle) })
    }

    async fn txn(&self, partition: PartitionId, request: TxnRequest) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        let ends = match request {
            TxnRequest::Commit { txn, .. }
            | TxnRequest::Prepare { txn, .. }
            | TxnRequest::Rollback { txn }
            | TxnRequest::Withdraw { txn } => Some(txn),
            TxnRequest::Require { .. } => return self.require(&handle, request).await,
            TxnRequest::Lock { .. } | TxnRequest::Buffer { .. } | TxnRequest::Unbuffer { .. } => {
                return Err(LeafRefusal::Invalid("locks and buffers are made by writes".into()));
            }
            _ => None,
        };
        if let Some(txn) = ends {
            // Before it is sent: a lock that is taken after it finds that nobody will end it.
            if let Some(touched) = self.touched.lock().as_mut() {
                touched.remove(&(txn, partition));
            }
        }
        let answer = handle.txn(request).await;
        if let Some(txn) = ends {
            self.overlays(partition).forget(txn);
        }
        Ok(answer.map_or(LeafAnswer::Unknown, LeafAnswer::Txn))
    }

    async fn outcome(&self, partition: PartitionId, txn: TxnId, above: Lsn) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        match outcome::end(&handle, txn).await.ok_or(LeafRefusal::NoPartition)? {
            Answer::RolledBack => self.overlays(partition).forget(txn),
            answer => return Err(refusal(answer)),
        }
        self.settled(&handle, Read { view: Timestamp::MAX, txn: None, schema: None }).await?;
        let applied = handle.state.get().applied();
        let decision = tokio::task::block_in_place(|| outcome::committed(&self.log, partition, txn, above, applied));
        let decision = decision.map_err(|error| LeafRefusal::Invalid(error.to_string()))?;
        // Only now do the leases tell whether nobody else has led the partition meanwhile.
        match handle.may_read().await {
            true => Ok(LeafAnswer::Txn(Answer::Decided { decision })),
            false => Err(LeafRefusal::NotReadable),
        }
    }

    /// Takes nothing any more that was planned with other definitions.
    async fn require(&self, handle: &PartitionHandle, request: TxnRequest) -> Result<LeafAnswer, LeafRefusal> {
        let answer = handle.txn(request).await.ok_or(LeafRefusal::NoPartition)?;
        match answer {
            // Under its leases nobody else leads the partition: whoever does so later asks what is required.
            Answer::Required { .. } if handle.may_read().await => Ok(LeafAnswer::Txn(answer)),
            Answer::Required { .. } => Err(LeafRefusal::NotReadable),
            answer => Err(refusal(answer)),
        }
    }

    /// Waits until everything at or below the view has ended and is applied.
    async fn settled(&self, handle: &PartitionHandle, read: Read) -> Result<(), LeafRefusal> {
        let settle = TxnRequest::Settle { view: read.view, schema: read.schema };
        match handle.txn(settle).await.ok_or(LeafRefusal::NoPartition)? {
            Answer::Settled => Ok(()),
            answer => Err(refusal(answer)),
        }
    }

    async fn get(&self, partition: PartitionId, read: Read, keys: Vec<Bytes>) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        self.settled(&handle, read).await?;
        let overlays = self.overlays(partition);
        let rows = tokio::task::block_in_place(|| -> Result<Vec<_>, StateError> {
            let view = handle.state.get().view(read.view)?;
            let written = |key: &Bytes| read.txn.and_then(|txn| overlays.get(txn, key));
            keys.iter().map(|key| written(key).map_or_else(|| view.get(key), Ok)).collect()
        });
        let rows = rows.map_err(|error| met(&handle, error))?;
        // The values are taken; only now do the leases tell whether they may be shown.
        if handle.may_read().await { Ok(LeafAnswer::Rows(rows)) } else { Err(LeafRefusal::NotReadable) }
    }

    async fn pairs(
        &self,
        partition: PartitionId,
        read: Read,
        start: Bytes,
        end: Bytes,
    ) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        self.settled(&handle, read).await?;
        let mut own = match read.txn {
            Some(txn) => self.overlays(partition).range(txn, &start, &end),
            None => BTreeMap::new(),
        };
        let pairs = tokio::task::block_in_place(|| -> Result<_, StateError> {
            let limits = ScanLimits { rows: usize::MAX, bytes: PAIRS_BYTES_MAX };
            let chunk = handle.state.get().view(read.view)?.scan(&start, Some(&end)).read(limits)?;
            Ok(merge(chunk, &mut own, true))
        });
        let pairs = pairs.map_err(|error| met(&handle, error))?;
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes >= PAIRS_BYTES_MAX {
            return Err(LeafRefusal::Invalid(format!("{bytes} bytes of rows are too many for one answer")));
        }
        if handle.may_read().await { Ok(LeafAnswer::Pairs(pairs)) } else { Err(LeafRefusal::NotReadable) }
    }

    async fn scan(
        &self,
        partition: PartitionId,
        read: Read,
        scan: Scan,
        replies: &ReplySender<LeafAnswer>,
    ) -> Result<(), Stop> {
        let handle = self.serving(partition).map_err(Stop::Refused)?;
        self.settled(&handle, read).await.map_err(Stop::Refused)?;
        let view = tokio::task::block_in_place(|| handle.state.get().view(read.view))
            .map_err(|error| Stop::Refused(met(&handle, error)))?;
        let mut own = match read.txn {
            Some(txn) => self.overlays(partition).range(txn, &scan.start, &scan.end),
            None => BTreeMap::new(),
        };
        // The view fixes the values: one look at the leases after it was taken covers the whole scan.
        if !handle.may_read().await {
            return Err(Stop::Refused(LeafRefusal::NotReadable));
        }
        let mut cursor = view.scan(&scan.start, Some(&scan.end));
        let mut scanner = Scanner::new(scan).map_err(refused)?;
        loop {
            let (batches, last) = tokio::task::block_in_place(|| {
                let chunk = cursor.read(CHUNK).map_err(|error| Stop::Refused(met(&handle, error)))?;
                let last = chunk.is_empty();
                let mut batches = Vec::new();
                for (key, value) in merge(chunk, &mut own, last) {
                    batches.extend(scanner.push(&key, &value).map_err(refused)?);
                }
                Ok::<_, Stop>((batches, last || scanner.is_done()))
            })?;
            for batch in batches {
                send(replies, &batch).await?;
            }
            if last {
                break;
            }
        }
        match scanner.finish().map_err(refused)? {
            Some(batch) => send(replies, &batch).await,
            None => Ok(()),
        }
    }

    /// Sends the writes of a divergence file.
    async fn set_aside(&self, name: &str, replies: &ReplySender<LeafAnswer>) -> Result<(), Stop> {
        let mut entries = tokio::task::block_in_place(|| self.asides.open(name)).map_err(Stop::Refused)?;
        loop {
            let some = tokio::task::block_in_place(|| entries.next()).map_err(Stop::Refused)?;
            if some.is_empty() {
                return Ok(());
            }
            let answer = LeafAnswer::DivergenceEntries(some);
            replies.send(&answer).await.map_err(|error| Stop::Caller(error.into()))?;
        }
    }

    /// Reads everything that a replica has.
    async fn check(
        &self,
        partition: PartitionId,
        view: Timestamp,
        applied: Option<Lsn>,
    ) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        match applied {
            Some(applied) => scrub::wait_applied(&handle, applied).await?,
            None => self.settled(&handle, Read { view, txn: None, schema: None }).await?,
        }
        let (log, read) = (self.log.clone(), handle.clone());
        let checked = tokio::task::spawn_blocking(move || scrub::check(&log, partition, &read, view, Pace::Fast)).await;
        match checked {
            Ok(Ok(checked)) => Ok(LeafAnswer::Checked(Box::new(checked))),
            Ok(Err(error)) => Err(scrub::refusal(&handle, error)),
            Err(error) => Err(LeafRefusal::Invalid(error.to_string())),
        }
    }

    fn status(&self, partition: PartitionId) -> Result<LeafAnswer, LeafRefusal> {
        let handle = self.serving(partition)?;
        let status = handle.status.borrow().clone();
        Ok(LeafAnswer::Status(Box::new(PartitionStatus {
            replica: handle.report(partition),
            lineage: status.lineage.clone(),
            trimmed: status.trimmed,
            mark: status.mark.clone(),
        })))
    }
}

async fn send(replies: &ReplySender<LeafAnswer>, batch: &RecordBatch) -> Result<(), Stop> {
    let bytes = sql::arrow::encode_batch(batch).map_err(refused)?;
    replies.send(&LeafAnswer::Chunk(bytes)).await.map_err(|error| Stop::Caller(error.into()))
}

/// Does the writes of a batch in order, over what the transaction has written and the latest committed rows: what is
/// to be buffered, and what each write did. The inner error is the statement's.
#[allow(clippy::type_complexity)]
fn evaluate(
    state: &PartitionState,
    overlays: &Overlays,
    txn: TxnId,
    batch: &WriteBatch,
) -> Result<Result<(Vec<Write>, Vec<Written>), sql::Error>, StateError> {
    let mut changed: BTreeMap<Bytes, Own> = BTreeMap::new();
    let mut done = Vec::with_capacity(batch.writes.len());
    for (index, write) in batch.writes.iter().enumerate() {
        let key = write.key();
        let current = match changed.get(key).cloned().or_else(|| overlays.get(txn, key)) {
            Some(own) => own,
            None => state.latest(key)?.and_then(|latest| latest.value),
        };
        match apply(batch, write, current.as_ref(), index as u64 + 1) {
            Err(error) => return Ok(Err(error)),
            Ok((change, written)) => {
                match change {
                    Change::Keep => {}
                    Change::Put(value) => drop(changed.insert(key.clone(), Some(value))),
                    Change::Delete => drop(changed.insert(key.clone(), None)),
                }
                done.push(written);
            }
        }
    }
    let writes = changed.into_iter().map(|(key, value)| Write { key, value }).collect();
    Ok(Ok((writes, done)))
}

/// Where a replica's log ends.
fn end_of(handle: &PartitionHandle) -> Lsn {
    handle.status.borrow().appended
}

/// Lays a transaction's own writes over a chunk of committed rows; those behind the chunk stay for the next one.
fn merge(chunk: Vec<(Bytes, Bytes)>, own: &mut BTreeMap<Bytes, Own>, last: bool) -> Vec<(Bytes, Bytes)> {
    if own.is_empty() {
        return chunk;
    }
    let later = match chunk.last() {
        Some((key, _)) if !last => {
            let mut after = key.to_vec();
            after.push(0);
            own.split_off(&Bytes::from(after))
        }
        _ => BTreeMap::new(),
    };
    let now = std::mem::replace(own, later);
    let mut rows: BTreeMap<Bytes, Own> = chunk.into_iter().map(|(key, value)| (key, Some(value))).collect();
    rows.extend(now);
    rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

/// Who asked has ended the transaction, or is gone.
fn ended_meanwhile() -> LeafRefusal {
    LeafRefusal::Invalid("the transaction has ended, or its session".into())
}

fn refusal(answer: Answer) -> LeafRefusal {
    match answer {
        Answer::Refused(refusal) => LeafRefusal::Protocol(refusal),
        Answer::Unknown => LeafRefusal::Protocol(Refusal::NotPrimary),
        other => LeafRefusal::Invalid(format!("unexpected answer: {other}")),
    }
}

/// A reader met this. What is damaged is told to the replica's task; by the time that the reader asks again, another
/// replica may serve.
fn met(handle: &PartitionHandle, error: StateError) -> LeafRefusal {
    match error {
        StateError::BelowHorizon { .. } => LeafRefusal::Sql(sql::Error::new(
            3024,
            "The statement reads a moment of which row versions are not kept any more (state.view_retention): repeat it",
        )),
        error => {
            handle.failed(error);
            LeafRefusal::NotReadable
        }
    }
}

fn refused(error: sql::Error) -> Stop {
    Stop::Refused(LeafRefusal::Sql(error))
}

#[cfg(test)]
mod tests {
    use replication::{Replica, ReplicaOptions};
    use storage::log::LogOptions;
    use storage::state::{LogPosition, StateConfig, StateEnv};
    use tokio::sync::mpsc;
    use types::{ClusterId, DatabaseId, Epoch, Incarnation, Lineage, Member, NodeId, Ordinal, Revision, TableId};

    use super::*;
    use crate::leaf::partition::Event;
    use crate::leaf::state::StateSlot;

    const ID: PartitionId = PartitionId { database: DatabaseId(5), ordinal: Ordinal(0) };

    /// A session's calls, and what they ask of the only partition's task.
    fn calls(dir: &std::path::Path) -> (LeafCalls, mpsc::Receiver<Event>) {
        let env = StateEnv::new(&StateConfig::default()).unwrap();
        let position = LogPosition { end: Lsn::ZERO, lineage: &Lineage::new() };
        let state = PartitionState::open(&env, &dir.join("state"), ID.ordinal, position).unwrap();
        let (log, _) = NodeLog::open(&dir.join("log"), LogOptions::default(), |_| ()).unwrap();
        let me = Member { node: NodeId(1), incarnation: Incarnation(1) };
        let status = Replica::new(ID, me, ReplicaOptions::default(), Default::default(), &mut vec![]).status();
        let (events, asked) = mpsc::channel(8);
        let handle = PartitionHandle::to(events, StateSlot::new(Arc::new(state)), status);
        let partitions: Partitions = Partitions::default();
        partitions.write().insert(ID, handle);
        let asides = Asides { dir: dir.join("aside"), partitions: partitions.clone() };
        let rules = Arc::new(Rules::new("leaf".into(), 0));
        (LeafCalls::new(partitions, AllOverlays::default(), rules, asides, Arc::default(), Arc::new(log)), asked)
    }

    /// A task reads what a session's requests ask in any order: here the Lock comes after the Rollback.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_locked_after_its_rollback_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let (calls, mut asked) = calls(dir.path());
        let txn = TxnId(7);
        let (touch, batch) = (Touch::default(), WriteBatch::advance(TableId(1), 1, 0));
        let write = WriteRequest {
            partition: ID,
            txn,
            touch,
            stamp: Revision(1),
            lock_wait_millis: 60_000,
            statement: 0,
            batch,
        };
        let ask = |request| {
            let inner = calls.inner.clone();
            tokio::spawn(async move { inner.answer(request).await })
        };
        let mut next = async || match asked.recv().await {
            Some(Event::Txn(request, reply, _)) => (request, reply),
            _ => panic!("it asks for no step of a transaction"),
        };
        let written = ask(LeafRequest::Write(write));
        let (lock, locked) = next().await;
        assert!(matches!(lock, TxnRequest::Lock { .. }));
        let rollback = TxnRequest::Rollback { txn };
        let rolled_back = ask(LeafRequest::Txn { partition: ID, request: rollback.clone() });
        // It is on its way, and not answered yet.
        let (first, answer) = next().await;
        assert_eq!(first, rollback);
        let epoch = Epoch { number: 1, cluster: ClusterId(1), nonce: 1 };
        locked.send(Answer::Locked { epoch }).unwrap();
        let (second, answer_again) = next().await;
        assert_eq!(second, rollback, "the lock is given back");
        answer_again.send(Answer::RolledBack).unwrap();
        assert!(matches!(written.await.unwrap(), LeafAnswer::Refused(LeafRefusal::Invalid(_))));
        answer.send(Answer::RolledBack).unwrap();
        assert!(matches!(rolled_back.await.unwrap(), LeafAnswer::Txn(Answer::RolledBack)));
    }

    fn row(key: &str, value: &str) -> (Bytes, Bytes) {
        (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))
    }

    fn own(writes: &[(&str, Option<&str>)]) -> BTreeMap<Bytes, Own> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        writes.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect()
    }

    #[test]
    fn own_writes_lie_over_committed_rows_chunk_by_chunk() {
        let mut mine = own(&[("a", Some("new")), ("c", None), ("f", Some("later"))]);
        let first = merge(vec![row("b", "1"), row("c", "2"), row("d", "3")], &mut mine, false);
        assert_eq!(first, [row("a", "new"), row("b", "1"), row("d", "3")]);
        assert_eq!(mine, own(&[("f", Some("later"))]));
        assert_eq!(merge(vec![], &mut mine, true), [row("f", "later")]);
    }
}
