//! Transactions at a partition's primary: locks, registration, prepare, decision, and the resolved timestamp.
//!
//! - A lock is held from a transaction's write to the application of its outcome, so whoever gets it next reads
//!   what was committed.
//! - A commit timestamp is asked for only after the transaction is *registered* here with a lower bound. A mark
//!   stays at or below the bound of everything registered or prepared; a reader waits for those that may commit at or
//!   below its view.
//! - A commit that has no timestamp yet can be taken back: that is certain at once, whoever leads the partition.
//! - The first decision in the first participant's log wins. A question about a transaction that is undecided or
//!   unknown there makes it log Abort, and is answered when that is committed.
//! - Rows are made with definitions that other transactions change. Before a change commits, every primary is told to
//!   take nothing that was planned with older ones, and a reign that has not been told takes nothing at all.
//! - Nothing here survives a reign: the next one starts from the prepared transactions in the state.
//!
//! Deadlocks are ended by the host's lock timeout (`Input::Cancel`).

mod locks;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::state::{Outcome, Prepared};
use types::{Body, Epoch, Fence, Lsn, Ordinal, PromotionId, Reign, Revision, SchemaVersion, Timestamp, TxnId, Write};

use self::locks::{Locks, Waiting};
use crate::log::Log;
use crate::{Answer, Effect, Instant, Planted, Refusal, ReplicaOptions, Ticket, Touch, TxnRequest};

/// What a transaction is doing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Locks and buffers.
    Active,
    /// Waits for its commit timestamp, which will be above the bound.
    Registered { bound: Timestamp },
    /// Its Prepare is in the log; its commit timestamp will be above the bound. Its coordinator was `heard` of then.
    Prepared { bound: Timestamp, heard: Instant, asked: Instant },
    /// Its commit or outcome is in the log.
    Ending { lsn: Lsn },
}

#[derive(Clone, Debug)]
struct Txn {
    stage: Stage,
    locks: BTreeSet<Bytes>,
    writes: BTreeMap<Bytes, Option<Bytes>>,
    count: u32,
    first: Option<Ordinal>,
    commit_ticket: Option<Ticket>,
}

/// An answer that waits until these transactions have ended and the state has reached an LSN.
#[derive(Clone, Debug)]
struct Settle {
    ticket: Ticket,
    answer: Answer,
    txns: BTreeSet<TxnId>,
    lsn: Lsn,
}

/// The transactions of one reign of a writable partition.
#[derive(Clone, Debug)]
pub(crate) struct Txns {
    reign: Reign,
    epoch: Epoch,
    ordinal: Ordinal,
    options: ReplicaOptions,
    fence: Fence,
    /// The last promotion of the history that this reign serves, 0 if there was none.
    history: PromotionId,
    /// The definitions that rows must be made with; `None`: this reign has not been told.
    schema: Option<SchemaVersion>,
    locks: Locks,
    txns: BTreeMap<TxnId, Txn>,
    /// Registered, in order; timestamps not yet asked for, and asked for.
    registered: Vec<(TxnId, Ticket)>,
    asked: Vec<(TxnId, Ticket)>,
    request: u64,
    /// Decisions that wait for the catalog's lease.
    unleased: Vec<(Ticket, TxnId, Timestamp)>,
    /// Outcomes that are in the log and perhaps not yet in the state.
    outcomes: BTreeMap<TxnId, (Lsn, Option<Timestamp>)>,
    /// Questions that wait for a look into the state.
    lookups: BTreeMap<TxnId, Vec<Ticket>>,
    /// Answers that wait for their record to be committed.
    answers: BTreeMap<Lsn, Vec<(Ticket, Answer)>>,
    settles: Vec<Settle>,
    latest: Timestamp,
}

/// What a request needs from the replica.
pub(crate) struct Context<'a> {
    pub now: Instant,
    /// Whether this primary may tell anybody what is committed, and so commit anything: nobody else can have been named.
    pub may_answer: bool,
    pub log: &'a mut Log,
    pub committed: Lsn,
    pub applied: Lsn,
    pub effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.effects.push(Effect::Answer { ticket, answer });
    }
}

impl Txns {
    /// A reign begins: locks of what the state holds as prepared are taken again.
    pub fn new(
        reign: Reign,
        epoch: Epoch,
        ordinal: Ordinal,
        history: PromotionId,
        options: ReplicaOptions,
        start_ts: Timestamp,
        open: Vec<Prepared>,
        now: Instant,
    ) -> Txns {
        let mut txns = Txns {
            reign,
            epoch,
            ordinal,
            options,
            fence: Fence::None,
            history,
            schema: None,
            locks: Locks::default(),
            txns: BTreeMap::new(),
            registered: vec![],
            asked: vec![],
            request: 0,
            unleased: vec![],
            outcomes: BTreeMap::new(),
            lookups: BTreeMap::new(),
            answers: BTreeMap::new(),
            settles: vec![],
            latest: start_ts,
        };
        for prepared in open {
            let keys: BTreeSet<Bytes> = prepared.writes.iter().map(|write| write.key.clone()).collect();
            assert!(txns.locks.take(prepared.txn, &keys), "two prepared transactions hold one key: {}", prepared.txn);
            txns.txns.insert(
                prepared.txn,
                Txn {
                    stage: Stage::Prepared { bound: prepared.bound, heard: now, asked: now },
                    locks: keys,
                    writes: BTreeMap::new(),
                    count: 0,
                    first: Some(prepared.first),
                    commit_ticket: None,
                },
            );
        }
        txns
    }

    /// Nothing begins to commit under a seal: what has merely written lets go of its locks.
    pub fn set_fence(&mut self, fence: Fence, context: &mut Context) {
        let sealed = self.sealed();
        self.fence = fence;
        if self.sealed() && !sealed {
            let active = |(txn, known): (&TxnId, &Txn)| (known.stage == Stage::Active).then_some(*txn);
            let active: Vec<TxnId> = self.txns.iter().filter_map(active).collect();
            for txn in active {
                let _ = self.rollback(txn, context);
            }
        }
    }

    /// Whether a transaction holds a lock or is prepared: a drain is not over.
    pub fn busy(&self) -> bool {
        !self.txns.is_empty()
    }

    fn sealed(&self) -> bool {
        matches!(self.fence, Fence::Sealed(_))
    }

    /// The highest mark at or below `ts` that transactions allow; everything committed at or below it is in the log.
    pub fn resolved(&mut self, ts: Timestamp) -> Timestamp {
        self.latest = self.latest.max(ts);
        let bounds = self.txns.values().filter_map(|txn| match txn.stage {
            Stage::Registered { bound } if !self.options.has(Planted::MarkIgnoresRegistered) => Some(bound),
            Stage::Prepared { bound, .. } if !self.options.has(Planted::MarkIgnoresPrepared) => Some(bound),
            _ => None,
        });
        bounds.fold(ts, Timestamp::min)
    }

    pub fn request(&mut self, ticket: Ticket, request: TxnRequest, context: &mut Context) {
        let answer = match request {
            TxnRequest::Lock { txn, touch, stamp, keys } => self.lock(ticket, txn, touch, stamp, keys),
            TxnRequest::Buffer { txn, writes } => Some(self.buffer(txn, writes)),
            TxnRequest::Unbuffer { txn, keys } => Some(self.unbuffer(txn, &keys)),
            TxnRequest::Commit { txn, touch } => self.commit(ticket, txn, touch, context),
            TxnRequest::Prepare { txn, touch, first } => self.prepare(ticket, txn, touch, first, context),
            TxnRequest::Decide { txn, decision } => self.decide(ticket, txn, decision, context),
            TxnRequest::Inquire { txn, history } => self.inquired(ticket, txn, history, context),
            TxnRequest::Finish { txn, first, decision } => self.finish(ticket, txn, first, decision, context),
            TxnRequest::Rollback { txn } => Some(self.rollback(txn, context)),
            TxnRequest::Withdraw { txn } => Some(self.withdraw(txn, context)),
            TxnRequest::Forget { txns } => self.forget(ticket, txns, context),
            TxnRequest::Settle { view, schema } => match self.planned_with(schema) {
                Ok(()) => self.settle(ticket, view, context),
                Err(refusal) => Some(Answer::Refused(refusal)),
            },
            TxnRequest::Require { version, history } => self.require(ticket, version, history),
            TxnRequest::Alive { txn } => Some(self.alive(txn, context.now)),
        };
        if let Some(answer) = answer {
            context.answer(ticket, answer);
        }
    }

    /// The host does not wait any more.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.locks.cancel(ticket);
        self.settles.retain(|settle| settle.ticket != ticket);
        self.unleased.retain(|(waiting, ..)| *waiting != ticket);
    }

    fn lock(&mut self, ticket: Ticket, txn: TxnId, touch: Touch, stamp: Revision, keys: Vec<Bytes>) -> Option<Answer> {
        if let Err(refusal) = self.admit(txn, touch, stamp) {
            return Some(Answer::Refused(refusal));
        }
        let keys: BTreeSet<Bytes> = keys.into_iter().collect();
        if !self.locks.take(txn, &keys) {
            self.locks.wait(Waiting { ticket, txn, touch, stamp, keys });
            return None;
        }
        let entry = self.txns.entry(txn).or_insert_with(|| Txn {
            stage: Stage::Active,
            locks: BTreeSet::new(),
            writes: BTreeMap::new(),
            count: 0,
            first: None,
            commit_ticket: None,
        });
        entry.locks.extend(keys);
        Some(Answer::Locked { epoch: self.epoch })
    }

    fn admit(&self, txn: TxnId, touch: Touch, stamp: Revision) -> Result<(), Refusal> {
        match self.fence {
            Fence::Sealed(_) => return Err(Refusal::Fenced),
            Fence::Draining(since) if stamp >= since => return Err(Refusal::Fenced),
            _ => {}
        }
        self.planned_with(touch.schema)?;
        match (touch.epoch, self.txns.get(&txn)) {
            (None, None) if self.outcomes.contains_key(&txn) => Err(Refusal::Ended),
            (Some(_), None) if self.options.has(Planted::TouchUnchecked) => Ok(()),
            (None, None) => Ok(()),
            // A first statement that found no row has locked, and written nothing.
            (None, Some(known)) if known.count == 0 && known.stage == Stage::Active => Ok(()),
            _ => self.active(txn, touch).map(|_| ()),
        }
    }

    /// Whether that which was planned with these definitions may go on here.
    fn planned_with(&self, schema: Option<SchemaVersion>) -> Result<(), Refusal> {
        let other = schema.is_some() && schema != self.schema && !self.options.has(Planted::SchemaUnchecked);
        if other { Err(Refusal::Schema(self.schema)) } else { Ok(()) }
    }

    /// The transaction, if it is where its coordinator believes it to be.
    fn active(&self, txn: TxnId, touch: Touch) -> Result<&Txn, Refusal> {
        self.planned_with(touch.schema)?;
        let known = self.txns.get(&txn).ok_or(Refusal::Stale)?;
        let here = touch.epoch == Some(self.epoch) && touch.count == known.count;
        let here = here || self.options.has(Planted::TouchUnchecked);
        if here && known.stage == Stage::Active { Ok(known) } else { Err(Refusal::Stale) }
    }

    fn buffer(&mut self, txn: TxnId, writes: Vec<Write>) -> Answer {
        let Some(known) = self.txns.get_mut(&txn).filter(|known| known.stage == Stage::Active) else {
            return Answer::Refused(Refusal::Stale);
        };
        // A coordinator that errs; the host's transport is trusted, its callers' care is not.
        if writes.iter().any(|write| !known.locks.contains(&write.key)) {
            return Answer::Refused(Refusal::Stale);
        }
        known.writes.extend(writes.into_iter().map(|write| (write.key, write.value)));
        known.count += 1;
        Answer::Buffered { count: known.count }
    }

    /// A statement of the transaction has failed. It counts like a write: a coordinator that does not know of it is late.
    fn unbuffer(&mut self, txn: TxnId, keys: &[Bytes]) -> Answer {
        let Some(known) = self.txns.get_mut(&txn).filter(|known| known.stage == Stage::Active) else {
            return Answer::Refused(Refusal::Stale);
        };
        keys.iter().for_each(|key| drop(known.writes.remove(key)));
        known.count += 1;
        Answer::Buffered { count: known.count }
    }

    /// Takes what an active transaction has written, or refuses and lets it go.
    fn take_writes(&mut self, txn: TxnId, touch: Touch, context: &mut Context) -> Result<Vec<Write>, Refusal> {
        let refusal = match self.active(txn, touch) {
            Ok(_) if self.sealed() => Refusal::Fenced,
            Ok(_) => {
                let known = self.txns.get_mut(&txn).expect("it is active");
                let writes = std::mem::take(&mut known.writes);
                return Ok(writes.into_iter().map(|(key, value)| Write { key, value }).collect());
            }
            Err(refusal) => refusal,
        };
        self.rollback(txn, context);
        Err(refusal)
    }

    fn commit(&mut self, ticket: Ticket, txn: TxnId, touch: Touch, context: &mut Context) -> Option<Answer> {
        if let Err(refusal) =
            self.active(txn, touch).map(|_| ()).and(if self.sealed() { Err(Refusal::Fenced) } else { Ok(()) })
        {
            self.rollback(txn, context);
            return Some(Answer::Refused(refusal));
        }
        let known = self.txns.get_mut(&txn).expect("it is active");
        if known.writes.is_empty() {
            return Some(self.rollback(txn, context));
        }
        known.stage = Stage::Registered { bound: self.latest };
        known.commit_ticket = Some(ticket);
        self.registered.push((txn, ticket));
        None
    }

    /// How many timestamps to ask for now; one request is under way at a time.
    pub fn timestamps_wanted(&mut self, request: u64) -> Option<u32> {
        if !self.asked.is_empty() || self.registered.is_empty() {
            return None;
        }
        self.asked = std::mem::take(&mut self.registered);
        self.request = request;
        Some(self.asked.len() as u32)
    }

    /// Commits what the timestamps were asked for, unless somebody else may have been named meanwhile: then they are asked for
    /// again under the next lease.
    pub fn on_timestamps(&mut self, request: u64, first: Timestamp, count: u32, context: &mut Context) {
        if request != self.request {
            return;
        }
        let asked: Vec<(TxnId, Ticket)> = self.asked.drain(..(count as usize).min(self.asked.len())).collect();
        self.latest = self.latest.max(Timestamp(first.0 + u64::from(count).max(1) - 1));
        if !self.may_commit(context) {
            self.registered.splice(..0, asked);
            return;
        }
        for (index, (txn, ticket)) in asked.into_iter().enumerate() {
            let ts = Timestamp(first.0 + index as u64);
            // It was withdrawn while its timestamp was asked for.
            let Some(known) = self.txns.get_mut(&txn).filter(|known| known.commit_ticket == Some(ticket)) else {
                continue;
            };
            let Stage::Registered { bound } = known.stage else {
                panic!("{txn} has a timestamp and is {:?}", known.stage)
            };
            assert!(ts > bound, "{txn} commits at {ts}, bound {bound}");
            let writes =
                std::mem::take(&mut known.writes).into_iter().map(|(key, value)| Write { key, value }).collect();
            let lsn = context.log.mint(self.epoch, Body::Commit { txn, ts, writes }, context.effects);
            known.stage = Stage::Ending { lsn };
            self.answer_at(lsn, ticket, Answer::Committed { ts, lsn });
        }
    }

    fn prepare(
        &mut self,
        ticket: Ticket,
        txn: TxnId,
        touch: Touch,
        first: Ordinal,
        context: &mut Context,
    ) -> Option<Answer> {
        let writes = match self.take_writes(txn, touch, context) {
            Ok(writes) => writes,
            Err(refusal) => return Some(Answer::Refused(refusal)),
        };
        let body = Body::Prepare { txn, bound: self.latest, first, writes };
        let lsn = context.log.mint(self.epoch, body, context.effects);
        let known = self.txns.get_mut(&txn).expect("it was active");
        known.first = Some(first);
        known.stage = Stage::Prepared { bound: self.latest, heard: context.now, asked: context.now };
        self.answer_at(lsn, ticket, Answer::Prepared { history: self.history });
        None
    }

    /// Its coordinator still waits for other participants, or for a timestamp: many rows take their time.
    fn alive(&mut self, txn: TxnId, now: Instant) -> Answer {
        match self.txns.get_mut(&txn).map(|known| &mut known.stage) {
            Some(Stage::Prepared { heard, .. }) => {
                *heard = now;
                Answer::Waiting
            }
            _ => Answer::Refused(Refusal::Stale),
        }
    }

    fn decide(
        &mut self,
        ticket: Ticket,
        txn: TxnId,
        decision: Option<Timestamp>,
        context: &mut Context,
    ) -> Option<Answer> {
        if let Some((lsn, decision)) = self.outcomes.get(&txn).copied() {
            return self.answer_when(lsn, ticket, Answer::Decided { decision }, context);
        }
        if let Some(Txn { stage: Stage::Prepared { bound, .. }, first, .. }) = self.txns.get(&txn) {
            // Marks were published up to the bound; and only the first participant decides.
            if *first != Some(self.ordinal) || decision.is_some_and(|ts| ts <= *bound) {
                return Some(Answer::Refused(Refusal::Stale));
            }
            if let Some(ts) = decision {
                if !self.may_commit(context) {
                    self.unleased.push((ticket, txn, ts));
                    return None;
                }
                self.latest = self.latest.max(ts);
            }
            let lsn = self.end(txn, self.ordinal, decision, context);
            self.answer_at(lsn, ticket, Answer::Decided { decision });
            return None;
        }
        self.inquire(ticket, txn, context)
    }

    /// A log of which a part has no lease may be the history again, by another standing order; what was written behind the lease
    /// was planned with definitions that did not hold any more.
    fn may_commit(&self, context: &Context) -> bool {
        context.may_answer || self.options.has(Planted::CommitUnleased)
    }

    /// What a participant holds prepared was decided in its history, and acknowledged perhaps. Another one may have given that up,
    /// and knows nothing of it. The participant carries the promotion out, and then what it holds is set aside.
    fn inquired(
        &mut self,
        ticket: Ticket,
        txn: TxnId,
        history: Option<PromotionId>,
        context: &mut Context,
    ) -> Option<Answer> {
        if self.is_another(history) && !self.options.has(Planted::InquiredAcross) {
            return Some(Answer::Refused(Refusal::Stale));
        }
        self.inquire(ticket, txn, context)
    }

    fn is_another(&self, history: Option<PromotionId>) -> bool {
        history.is_some_and(|history| history != self.history)
    }

    fn inquire(&mut self, ticket: Ticket, txn: TxnId, context: &mut Context) -> Option<Answer> {
        if let Some((lsn, decision)) = self.outcomes.get(&txn).copied() {
            return self.answer_when(lsn, ticket, Answer::Decided { decision }, context);
        }
        if self.options.has(Planted::PresumedAbort) {
            return Some(Answer::Decided { decision: None });
        }
        let elsewhere = |known: &Txn| known.first.is_some_and(|first| first != self.ordinal);
        match self.txns.get(&txn) {
            Some(known) if elsewhere(known) => Some(Answer::Refused(Refusal::Stale)),
            Some(Txn { stage: Stage::Registered { .. } | Stage::Ending { .. }, .. }) => {
                Some(Answer::Refused(Refusal::Stale))
            }
            Some(_) => {
                let lsn = self.end(txn, self.ordinal, None, context);
                self.answer_at(lsn, ticket, Answer::Decided { decision: None });
                None
            }
            None => {
                let waiting = self.lookups.entry(txn).or_default();
                waiting.push(ticket);
                if waiting.len() == 1 {
                    context.effects.push(Effect::Lookup { reign: self.reign, txn });
                }
                None
            }
        }
    }

    /// The state was asked: a known outcome is the answer, an unknown transaction is aborted now.
    pub fn on_outcome(&mut self, reign: Reign, txn: TxnId, outcome: Option<Outcome>, context: &mut Context) {
        if reign != self.reign {
            return;
        }
        let tickets = self.lookups.remove(&txn).unwrap_or_default();
        if tickets.is_empty() {
            return;
        }
        let logged = self.outcomes.get(&txn).copied();
        let (lsn, decision) = match (logged, outcome) {
            (Some(logged), _) => logged,
            (None, Some(outcome)) => (outcome.lsn, outcome.decision),
            (None, None) if self.sealed() => {
                tickets.into_iter().for_each(|ticket| context.answer(ticket, Answer::Refused(Refusal::Fenced)));
                return;
            }
            (None, None) => (self.end(txn, self.ordinal, None, context), None),
        };
        for ticket in tickets {
            if let Some(answer) = self.answer_when(lsn, ticket, Answer::Decided { decision }, context) {
                context.answer(ticket, answer);
            }
        }
    }

    fn finish(
        &mut self,
        ticket: Ticket,
        txn: TxnId,
        first: Ordinal,
        decision: Option<Timestamp>,
        context: &mut Context,
    ) -> Option<Answer> {
        if let Some((lsn, _)) = self.outcomes.get(&txn).copied() {
            return self.answer_when(lsn, ticket, Answer::Finished, context);
        }
        match self.txns.get(&txn).map(|known| known.stage) {
            Some(Stage::Prepared { .. }) => {
                let lsn = self.end(txn, first, decision, context);
                self.answer_at(lsn, ticket, Answer::Finished);
                None
            }
            Some(Stage::Active) if decision.is_none() => {
                self.rollback(txn, context);
                Some(Answer::Finished)
            }
            Some(_) => Some(Answer::Refused(Refusal::Stale)),
            None => self.answer_when(Lsn::ZERO, ticket, Answer::Finished, context),
        }
    }

    /// Logs a transaction's outcome.
    fn end(&mut self, txn: TxnId, first: Ordinal, decision: Option<Timestamp>, context: &mut Context) -> Lsn {
        let lsn = context.log.mint(self.epoch, Body::Outcome { txn, first, decision }, context.effects);
        self.outcomes.insert(txn, (lsn, decision));
        if let Some(known) = self.txns.get_mut(&txn) {
            known.stage = Stage::Ending { lsn };
            known.writes.clear();
        }
        lsn
    }

    fn rollback(&mut self, txn: TxnId, context: &mut Context) -> Answer {
        if !matches!(self.txns.get(&txn).map(|known| known.stage), None | Some(Stage::Active)) {
            return Answer::Refused(Refusal::Stale);
        }
        let waiting = self.locks.cancel_txn(txn);
        waiting.into_iter().for_each(|ticket| context.answer(ticket, Answer::Refused(Refusal::Ended)));
        self.release(txn, context);
        Answer::RolledBack
    }

    /// Its coordinator does not wait any more. What is not in the log never gets there; of a transaction that is, or that is not
    /// known here, nothing is said: another record may have committed it.
    fn withdraw(&mut self, txn: TxnId, context: &mut Context) -> Answer {
        let Some(known) = self.txns.get(&txn) else { return Answer::Refused(Refusal::Ended) };
        if let (Stage::Registered { .. }, Some(ticket)) = (known.stage, known.commit_ticket) {
            if !self.options.has(Planted::WithdrawnCommits) {
                self.registered.retain(|(waiting, _)| *waiting != txn);
                self.release(txn, context);
            }
            context.answer(ticket, Answer::Refused(Refusal::Ended));
            return Answer::RolledBack;
        }
        self.rollback(txn, context)
    }

    fn forget(&mut self, ticket: Ticket, txns: Vec<TxnId>, context: &mut Context) -> Option<Answer> {
        if txns.is_empty() {
            return Some(Answer::Finished);
        }
        // Whoever is named behind the seal has what was there when all was quiet: nothing may follow that is not needed.
        if self.sealed() && !self.options.has(Planted::ForgetUnderSeal) {
            return Some(Answer::Refused(Refusal::Fenced));
        }
        let lsn = context.log.mint(self.epoch, Body::Forget { txns }, context.effects);
        self.answer_at(lsn, ticket, Answer::Finished);
        None
    }

    fn settle(&mut self, ticket: Ticket, view: Timestamp, context: &mut Context) -> Option<Answer> {
        let (latest, ordinal) = (view == Timestamp::MAX, self.ordinal);
        let waits = |known: &Txn| match known.stage {
            Stage::Active => false,
            Stage::Registered { .. } if self.options.has(Planted::ViewIgnoresRegistered) => false,
            Stage::Registered { bound } => !latest && bound < view,
            Stage::Prepared { .. } if self.options.has(Planted::ReaderIgnoresPrepared) => false,
            Stage::Prepared { bound, .. } => bound < view,
            // The decision may be known already, by the first participant's answer: not for a commit of this partition
            // alone, which is answered when it is committed here.
            Stage::Ending { lsn } => {
                !latest || lsn <= context.committed || known.first.is_some_and(|first| first != ordinal)
            }
        };
        let txns: BTreeSet<TxnId> = self.txns.iter().filter(|(_, known)| waits(known)).map(|(txn, _)| *txn).collect();
        if txns.is_empty() && context.applied >= context.committed {
            return Some(Answer::Settled);
        }
        self.settles.push(Settle { ticket, answer: Answer::Settled, txns, lsn: context.committed });
        None
    }

    /// Raises what is required. What has written and not begun to commit is refused when it does; what is committing with
    /// other definitions is waited for. After a promotion what holds in the history before it counts for nothing: a cut may
    /// have given it up.
    fn require(&mut self, ticket: Ticket, version: SchemaVersion, history: Option<PromotionId>) -> Option<Answer> {
        if self.is_another(history) && !self.options.has(Planted::AnyHistory) {
            return Some(Answer::Refused(Refusal::Stale));
        }
        let required = self.schema.map_or(version, |known| known.max(version));
        let answer = Answer::Required { version: required, history: self.history };
        if version == SchemaVersion::default() {
            return Some(answer);
        }
        self.schema = Some(required);
        let committing = |known: &Txn| known.stage != Stage::Active;
        let txns: BTreeSet<TxnId> =
            self.txns.iter().filter(|(_, known)| committing(known)).map(|(txn, _)| *txn).collect();
        if txns.is_empty() || self.options.has(Planted::RequiredAtOnce) {
            return Some(answer);
        }
        self.settles.push(Settle { ticket, answer, txns, lsn: Lsn::ZERO });
        None
    }

    fn answer_at(&mut self, lsn: Lsn, ticket: Ticket, answer: Answer) {
        self.answers.entry(lsn).or_default().push((ticket, answer));
    }

    /// What was committed before waits like what is committed now while this primary may not answer: whoever is named
    /// without it may have decided otherwise.
    fn answer_when(&mut self, lsn: Lsn, ticket: Ticket, answer: Answer, context: &Context) -> Option<Answer> {
        if lsn <= context.committed && context.may_answer {
            return Some(answer);
        }
        self.answer_at(lsn, ticket, answer);
        None
    }

    /// Answers what is committed, and decides what has waited for the lease under which this is called.
    pub fn on_committed(&mut self, context: &mut Context) {
        for (ticket, txn, ts) in std::mem::take(&mut self.unleased) {
            if let Some(answer) = self.decide(ticket, txn, Some(ts), context) {
                context.answer(ticket, answer);
            }
        }
        let waiting = self.answers.split_off(&context.committed.next());
        for (ticket, answer) in std::mem::replace(&mut self.answers, waiting).into_values().flatten() {
            context.answer(ticket, answer);
        }
    }

    /// Lets go of what is applied.
    pub fn on_applied(&mut self, context: &mut Context) {
        let applied = context.applied;
        let ended = |known: &Txn| matches!(known.stage, Stage::Ending { lsn } if lsn <= applied);
        let over: Vec<TxnId> = self.txns.iter().filter(|(_, known)| ended(known)).map(|(txn, _)| *txn).collect();
        over.into_iter().for_each(|txn| self.release(txn, context));
        self.outcomes.retain(|_, (lsn, _)| *lsn > applied);
        self.check_settles(context);
    }

    fn release(&mut self, txn: TxnId, context: &mut Context) {
        let Some(known) = self.txns.remove(&txn) else { return };
        for settle in &mut self.settles {
            settle.txns.remove(&txn);
        }
        for waiting in self.locks.release(&known.locks) {
            let Waiting { ticket, txn, touch, stamp, keys } = waiting;
            if let Some(answer) = self.lock(ticket, txn, touch, stamp, keys.into_iter().collect()) {
                context.answer(ticket, answer);
            }
        }
        self.check_settles(context);
    }

    fn check_settles(&mut self, context: &mut Context) {
        let (over, waiting) = self.settles.drain(..).partition(|s| s.txns.is_empty() && s.lsn <= context.applied);
        self.settles = waiting;
        let over: Vec<Settle> = over;
        over.into_iter().for_each(|settle| context.answer(settle.ticket, settle.answer));
    }

    /// Prepared transactions whose coordinator is silent: asks their first participant, or decides as it.
    pub fn on_tick(&mut self, context: &mut Context) {
        let after = self.options.failure_timeout;
        let mut own = vec![];
        for (txn, known) in &mut self.txns {
            if let Stage::Prepared { heard, asked, .. } = &mut known.stage
                && context.now.since(*heard) > after
                && context.now.since(*asked) > self.options.renew
            {
                *asked = context.now;
                match known.first {
                    Some(first) if first != self.ordinal => {
                        context.effects.push(Effect::Inquire { txn: *txn, first, history: self.history });
                    }
                    _ => own.push(*txn),
                }
            }
        }
        if !self.sealed() {
            own.into_iter().for_each(|txn| {
                self.end(txn, self.ordinal, None, context);
            });
        }
    }

    /// The reign ends: whoever waits learns that the outcome is not known, or that nothing was done.
    pub fn end_reign(mut self, effects: &mut Vec<Effect>) {
        let mut say = |ticket, answer| effects.push(Effect::Answer { ticket, answer });
        for (ticket, answer) in self.answers.into_values().flatten() {
            say(
                ticket,
                if answer == Answer::Finished { Answer::Refused(Refusal::NotPrimary) } else { Answer::Unknown },
            );
        }
        let waits = |(txn, ticket): &(TxnId, Ticket)| self.txns.get(txn)?.commit_ticket.filter(|now| now == ticket);
        let registered = self.registered.iter().chain(&self.asked).filter_map(waits);
        let rest = registered
            .chain(self.settles.iter().map(|settle| settle.ticket))
            .chain(self.unleased.iter().map(|(ticket, ..)| *ticket))
            .chain(self.lookups.values().flatten().copied())
            .chain(self.locks.drain());
        rest.for_each(|ticket| say(ticket, Answer::Refused(Refusal::NotPrimary)));
    }
}
