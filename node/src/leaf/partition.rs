//! The task that owns one replica: takes events, steps the replica, carries out its effects.
//!
//! One owner, no locks around the replica. Events come through a bounded channel; whoever sends waits when it is full.
//! Work that waits for the disk (rewinds, reads of old records, flushes) runs on blocking threads and comes back as an
//! event, so that the order of the log is the only order that the task itself waits for.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aggregator::protocol::{LeadingReport, ReplicaReport};
use catalog::command::BreakLink;
use parking_lot::Mutex;
use replication::{Answer, Effect, Input, Leases, Note, Replica, Status, Ticket, TxnRequest};
use storage::log::{AppendError, Flush, NodeLog, ReadError};
use storage::state::{PartitionState, StateError};
use tokio::sync::{mpsc, oneshot, watch};
use types::entry::Entry;
use types::{
    LinkId, Lsn, Member, Ordinal, PartitionId, Promotion, PromotionId, Record, Reign, Role, SetVersion, TxnId, View,
};

use super::copy::{Copies, Copy, Job, Origin, Word, Words};
use super::events::Events;
use super::heal::Damaged;
use super::history::{self, HistoryError, READ_BYTES};
use super::hurry::Hurry;
use super::keep::Keep;
use super::links::Links;
use super::master::MasterClient;
use super::peers::Peers;
use super::stall::Stall;
use super::state::{StateDirs, StateSlot};
use super::{upkeep, vital};
use crate::clock;

/// Events that may wait for a partition's task.
pub const EVENTS_MAX: usize = 4096;
/// Events that are obeyed in one step at the most.
const BATCH_MAX: usize = 256;

/// What a partition's task is told.
pub enum Event {
    /// For the replica.
    Input(Input),
    /// The catalog's word; answered when it is obeyed.
    View(Box<View>, replication::Instant, oneshot::Sender<()>),
    /// A step of a transaction; answered by the replica.
    Txn(TxnRequest, oneshot::Sender<Answer>, oneshot::Sender<Ticket>),
    /// A copy of another replica's state is complete.
    Copied(Copy),
    /// Older history may go.
    Keep(Keep),
    /// Its files are not what was written to them.
    Damaged(String),
    /// May a value that was read after `Settled` be shown?
    MayRead(oneshot::Sender<bool>),
    /// The task ends; the state is closed when this is answered.
    Stop(oneshot::Sender<()>),
}

/// What others hold of a partition.
#[derive(Clone)]
pub struct PartitionHandle {
    /// To its task.
    pub events: mpsc::Sender<Event>,
    /// The log's word, in its order and before any event that follows from it. Unbounded, for the log's thread must not
    /// wait; there are no more of them than batches of the log.
    pub reports: mpsc::UnboundedSender<Input>,
    /// For reads.
    pub state: StateSlot,
    /// As of the last step.
    pub status: watch::Receiver<Arc<Status>>,
    /// Some replica of the region is not in the set.
    away: Arc<AtomicBool>,
    /// What its records take of the log, when that was last counted.
    pub log_bytes: Arc<AtomicU64>,
}

impl PartitionHandle {
    /// To somebody who plays the task in a test.
    #[cfg(test)]
    pub fn to(events: mpsc::Sender<Event>, state: StateSlot, status: Status) -> PartitionHandle {
        let (reports, _) = mpsc::unbounded_channel();
        let (_, status) = watch::channel(Arc::new(status));
        PartitionHandle { events, reports, state, status, away: Arc::default(), log_bytes: Arc::default() }
    }

    /// Asks the replica for a step of a transaction. `None`: the task has ended.
    pub async fn txn(&self, request: TxnRequest) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        let (named, _) = oneshot::channel();
        self.events.send(Event::Txn(request, reply, named)).await.ok()?;
        answer.await.ok()
    }

    /// The same, given up after `wait`: then the request is cancelled, and the answer is `None` inside.
    pub async fn txn_within(&self, request: TxnRequest, wait: std::time::Duration) -> Option<Option<Answer>> {
        let (reply, mut answer) = oneshot::channel();
        let (named, ticket) = oneshot::channel();
        self.events.send(Event::Txn(request, reply, named)).await.ok()?;
        if let Ok(answer) = tokio::time::timeout(wait, &mut answer).await {
            return Some(Some(answer.ok()?));
        }
        let ticket = ticket.await.ok()?;
        self.events.send(Event::Input(Input::Cancel { ticket })).await.ok()?;
        // It may have been answered at the last moment; what is locked then is the caller's.
        match tokio::time::timeout(std::time::Duration::from_millis(50), answer).await {
            Ok(Ok(answer)) => Some(Some(answer)),
            _ => Some(None),
        }
    }

    /// Whether a value that was read may be shown.
    pub async fn may_read(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        if self.events.send(Event::MayRead(reply)).await.is_err() {
            return false;
        }
        answer.await.unwrap_or(false)
    }

    /// Whether some replica of the region is not in the set, as far as is known.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Work beside the task met this.
    pub fn failed(&self, error: StateError) {
        tracing::error!(%error, "the state of a partition");
        if error.is_damage() {
            self.damaged(error.to_string());
        }
    }

    /// Its files are not what was written to them. A task that is too busy to hear it meets the same.
    pub fn damaged(&self, reason: String) {
        let _ = self.events.try_send(Event::Damaged(reason));
    }

    /// The partition for heartbeats.
    pub fn report(&self, partition: PartitionId) -> ReplicaReport {
        let (status, state) = (self.status.borrow().clone(), self.state.get());
        let leading = status.leading.as_ref().map(|leading| LeadingReport {
            serving: leading.serving,
            safe: leading.safe,
            cut: leading.cut,
            promotions: status.mark.promotions.clone(),
            busy: leading.busy,
            final_position: leading.final_position,
            link: leading.link,
            joined: leading.joined,
        });
        ReplicaReport {
            partition,
            reign: status.reign,
            epoch: status.lineage.last().map(|entry| entry.epoch),
            appended: status.appended,
            durable: status.cursors.durable,
            applied: status.cursors.applied,
            bytes: state.size(),
            rows: state.rows(),
            log_bytes: self.log_bytes.load(Ordering::Relaxed),
            repairing: status.repairing,
            damaged: false,
            received: status.received,
            leading,
            upstream: vec![],
            downstream: vec![],
        }
    }
}

/// What the tasks of a leaf share.
#[derive(Clone)]
pub struct Shared {
    /// The node's log.
    pub log: Arc<NodeLog>,
    /// What does not wait for its turn.
    pub hurry: Arc<Hurry>,
    /// Whether its disk hangs.
    pub stall: Arc<Stall>,
    /// The node's leases.
    pub leases: Arc<Mutex<Leases>>,
    /// Sessions with other leaves.
    pub peers: Peers,
    /// Calls to the master.
    pub master: MasterClient,
    /// What the cluster is told for people.
    pub events: Events,
    /// Streams between regions.
    pub links: Links,
    /// Copies from and to other leaves.
    pub copies: Copies,
    /// Where divergence files go.
    pub divergence_dir: PathBuf,
    /// Takes the place of replicas that are damaged.
    pub heal: mpsc::UnboundedSender<Damaged>,
    /// The leaf must end, with this reason.
    pub fatal: mpsc::UnboundedSender<String>,
}

/// The owner of one replica.
pub struct PartitionTask {
    id: PartitionId,
    replica: Replica,
    state: StateSlot,
    dirs: StateDirs,
    shared: Shared,
    events: mpsc::Receiver<Event>,
    reports: mpsc::UnboundedReceiver<Input>,
    own: mpsc::WeakSender<Event>,
    status: watch::Sender<Arc<Status>>,
    /// Appended and not applied. Empty after a start although the log holds more: then the log is read.
    to_apply: VecDeque<Record>,
    answers: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    next_ticket: u64,
    sync_durability: bool,
    /// Of the database's history, as the catalog said last.
    promotions: Vec<Promotion>,
    flushing: Arc<AtomicBool>,
    away: Arc<AtomicBool>,
    /// Gets a copy, while one is missing.
    job: Option<Job>,
    words: Words,
    /// Its files cannot be believed: it does nothing more.
    is_damaged: bool,
    /// Reign and version of the catalog's last word, if this replica was named the primary of a sink by it.
    leads_sink: Option<(Reign, SetVersion)>,
}

impl PartitionTask {
    /// Starts the task of a replica. `effects` are those of its creation.
    pub fn spawn(
        id: PartitionId,
        replica: Replica,
        (state, dirs): (PartitionState, StateDirs),
        shared: Shared,
        effects: Vec<Effect>,
    ) -> PartitionHandle {
        let state = StateSlot::new(Arc::new(state));
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (report, reports) = mpsc::unbounded_channel();
        let (status, watcher) = watch::channel(Arc::new(replica.status()));
        let away = Arc::new(AtomicBool::new(true));
        let task = PartitionTask {
            id,
            replica,
            state: state.clone(),
            dirs,
            words: Words::new(shared.master.clone(), id),
            shared,
            events,
            reports,
            own: sender.downgrade(),
            status,
            to_apply: VecDeque::new(),
            answers: BTreeMap::new(),
            next_ticket: 0,
            sync_durability: true,
            promotions: vec![],
            flushing: Arc::default(),
            away: away.clone(),
            job: None,
            is_damaged: false,
            leads_sink: None,
        };
        let fatal = task.shared.fatal.clone();
        vital::spawn(&fatal, format!("the replica of partition {id}"), task.run(effects));
        let log_bytes = Arc::default();
        PartitionHandle { events: sender, reports: report, state, status: watcher, away, log_bytes }
    }

    async fn run(mut self, effects: Vec<Effect>) {
        self.look_back().await;
        let mut pending = self.carry_out(effects).await;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        // Who is damaged has said so, and another replica takes its place.
        while !self.is_damaged {
            let mut inputs: Vec<Input> = std::mem::take(&mut pending);
            if inputs.is_empty() {
                tokio::select! {
                    biased;
                    Some(report) = self.reports.recv() => inputs.push(report),
                    count = self.events.recv_many(&mut batch, BATCH_MAX) => if count == 0 { return },
                }
            }
            while batch.len() < BATCH_MAX
                && let Ok(event) = self.events.try_recv()
            {
                batch.push(event);
            }
            // After the events were taken: what the log said before one of them was sent is here by now.
            while let Ok(report) = self.reports.try_recv() {
                inputs.push(report);
            }
            let mut obeyed = Vec::new();
            for event in batch.drain(..) {
                match event {
                    Event::Input(input) => inputs.push(input),
                    Event::View(view, sent, done) => {
                        self.learn(&view);
                        inputs.push(Input::View { view: *view, sent });
                        obeyed.push(done);
                    }
                    Event::Txn(request, reply, named) => inputs.push(self.ask(request, reply, named)),
                    Event::MayRead(reply) => {
                        let _ = reply.send(self.replica.may_read(clock::now(), &self.shared.leases.lock()));
                    }
                    Event::Copied(copy) => inputs.extend(self.take_over(copy).await),
                    Event::Keep(keep) => inputs.extend(self.let_go(keep).await),
                    Event::Damaged(reason) => self.damaged(reason),
                    Event::Stop(done) => {
                        if let Some(job) = self.job.take() {
                            job.stop().await;
                        }
                        let _ = done.send(());
                        return;
                    }
                }
            }
            let cancelled: Vec<Ticket> = inputs.iter().filter_map(cancelled).collect();
            let mut effects = Vec::new();
            if !inputs.is_empty() {
                let mut leases = self.shared.leases.lock();
                self.replica.step_all(clock::now(), inputs, &mut leases, &mut effects);
            }
            let status = self.replica.status();
            self.say_complete(&status);
            self.status.send_replace(Arc::new(status));
            obeyed.into_iter().for_each(|done| {
                let _ = done.send(());
            });
            pending = self.carry_out(effects).await;
            // Nobody waits for these any more, and the replica has forgotten them.
            cancelled.iter().for_each(|ticket| drop(self.answers.remove(ticket)));
        }
    }

    /// A request gets its number, and its answer a way back.
    fn ask(&mut self, request: TxnRequest, reply: oneshot::Sender<Answer>, named: oneshot::Sender<Ticket>) -> Input {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.answers.insert(ticket, reply);
        // Who does not care for the number has dropped the other end.
        let _ = named.send(ticket);
        Input::Txn { ticket, request }
    }

    /// Carries effects out, in order. Returns what follows at once.
    async fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Input> {
        let mut follow = Vec::new();
        let mut entries: Vec<(PartitionId, Entry)> = Vec::new();
        let mut urgent = false;
        for effect in effects {
            match effect {
                Effect::Append(records) => {
                    self.to_apply.extend(records.iter().cloned());
                    entries.extend(records.into_iter().map(|record| (self.id, Entry::Record(record))));
                    continue;
                }
                Effect::Note(note) => {
                    urgent |= matches!(note, Note::Promise(_));
                    let entry = match note {
                        Note::Promise(reign) => Entry::Promise { reign },
                        Note::Mark(mark) => Entry::Mark(mark),
                    };
                    entries.push((self.id, entry));
                    continue;
                }
                _ => self.append(&mut entries, &mut urgent).await,
            }
            self.carry_out_one(effect, &mut follow).await;
        }
        self.append(&mut entries, &mut urgent).await;
        follow
    }

    async fn carry_out_one(&mut self, effect: Effect, follow: &mut Vec<Input>) {
        match effect {
            Effect::Append(_) | Effect::Note(_) => unreachable!("the caller has handed these to the log"),
            Effect::Send { to, frame } => self.shared.peers.send(to, &frame),
            Effect::Answer { ticket, answer } => {
                if let Some(reply) = self.answers.remove(&ticket) {
                    // A caller that has gone does not want to know.
                    let _ = reply.send(answer);
                }
            }
            Effect::Apply { to } => follow.extend(self.apply(to)),
            Effect::Read { feed, from, to, bytes_max } => {
                let (log, id) = (self.shared.log.clone(), self.id);
                self.blocking(move || match log.read(id, from, bytes_max) {
                    Err(ReadError::Damaged(_)) => Event::Damaged("a record of its log cannot be read".into()),
                    read => {
                        let records = read.unwrap_or_default().into_iter().take_while(|record| record.lsn <= to);
                        Event::Input(Input::LogRead { feed, records: records.collect() })
                    }
                });
            }
            Effect::Rewind { to, lineage } => {
                self.to_apply.clear();
                let (shared, state, id) = (self.shared.clone(), self.state.get(), self.id);
                let promotions = self.promotions.clone();
                self.blocking(move || match history::rewind(&shared, &state, id, to, lineage, &promotions) {
                    Ok(()) => Event::Input(Input::Rewound { to }),
                    Err(error) if error.is_damage() => Event::Damaged(error.to_string()),
                    Err(error) => Event::Input(Input::LogFailed { reason: error.to_string() }),
                });
            }
            Effect::Timestamps { request, count } => {
                let master = self.shared.master.clone();
                self.later(async move { Input::Timestamps { request, first: master.timestamps(count).await, count } });
            }
            Effect::Prepared { reign } => match self.state.get().open_prepared() {
                Ok(open) => follow.push(Input::Prepared { reign, open }),
                Err(error) => self.failed(&error),
            },
            Effect::Lookup { reign, txn } => match history::decision(&self.state.get(), txn) {
                Ok(outcome) => follow.push(Input::Outcome { reign, txn, outcome }),
                Err(error) => self.failed(&error),
            },
            Effect::Inquire { txn, first, history } => self.inquire(txn, first, history),
            // Who is slow or silent to this leaf may be the one that takes over from it.
            Effect::Propose { .. } if self.shared.stall.hangs() => {}
            Effect::Propose { reign, version, change } => {
                let (master, hurry, id) = (self.shared.master.clone(), self.shared.hurry.clone(), self.id);
                tokio::spawn(async move {
                    master.propose_set(id, reign, version, change).await;
                    hurry.decided();
                });
            }
            Effect::Learn { link, promotions, relay } => self.tell_history(link, promotions, relay),
            Effect::Break { link, reign, version, reason } => {
                self.tell_loss(BreakLink { partition: self.id, reign, version, link, reason });
            }
            Effect::Halt { reason } => {
                let _ = self.shared.fatal.send(format!("partition {}: {reason}", self.id));
            }
            Effect::ToSink { feed, message } => self.shared.links.to_sink(feed, message),
            Effect::ToSource { link, message } => self.shared.links.to_source(self.id, link, message),
            Effect::Install { link, primary, .. } => self.install(link, primary),
            Effect::StopCopy => {
                if let Some(job) = self.job.take() {
                    job.stop().await;
                }
            }
        }
    }

    /// What the history of its source is, to the sink's catalog.
    fn tell_history(&self, link: LinkId, promotions: Vec<Promotion>, relay: bool) {
        let (master, database) = (self.shared.master.clone(), self.id.database);
        tokio::spawn(async move { master.learn(database, link, promotions, relay).await });
    }

    /// What its source has lost of what was served here.
    fn tell_loss(&self, lost: BreakLink) {
        let master = self.shared.master.clone();
        tokio::spawn(async move { master.break_link(lost).await });
    }

    /// Tells the replica the highest time that its disk speaks of.
    async fn look_back(&mut self) {
        let (log, state, id) = (self.shared.log.clone(), self.state.get(), self.id);
        let summary = log.summary(id).unwrap_or_default();
        if summary.damaged || state.applied() < summary.first.prev() {
            // The copy that it needs tells.
            return;
        }
        match tokio::task::spawn_blocking(move || history::newest(&log, &state, id)).await {
            Ok(Ok(newest)) => self.replica.receive(newest),
            Ok(Err(error)) => self.stopped_by(error),
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    /// What this task needs to know of the catalog's word.
    fn learn(&mut self, view: &View) {
        self.sync_durability = view.mode.sync_durability;
        self.promotions.clone_from(&view.promotions);
        let nodes = view.members.iter().map(|member| member.node).collect();
        self.away.store(view.mode.sync_replication && view.replicas != nodes, Ordering::Relaxed);
        let leads = view.primary == self.replica.member() && matches!(view.role, Role::Sink { .. });
        self.leads_sink = leads.then_some((view.reign, view.version));
    }

    // ---- copies

    /// Begins to get a copy, or goes on with another one who has it.
    fn install(&mut self, link: Option<LinkId>, primary: Option<Member>) {
        let Some(origin) = link.map(Origin::Link).or(primary.map(Origin::Primary)) else { return };
        match &self.job {
            // One that has ended has a copy, which is taken over next.
            Some(job) => drop(job.turn_to(origin)),
            None => {
                let copies = self.shared.copies.clone();
                let target = copies.target(self.id, self.replica.life(), self.dirs.clone());
                let (told, own) = (self.words.told(), self.own.clone());
                self.job = Some(Job::start(copies, target, origin, told, own));
            }
        }
        if let (true, Some((reign, version))) = (link.is_some(), self.leads_sink) {
            self.words.want(Word { reign, version, incomplete: true });
        }
    }

    /// The primary of a sink whose state is whole says so: an earlier process may have said that it is not.
    fn say_complete(&self, status: &Status) {
        let from_link = self.job.as_ref().is_some_and(Job::is_from_link);
        match self.leads_sink {
            Some((reign, version)) if from_link => self.words.want(Word { reign, version, incomplete: true }),
            Some((reign, version)) if status.leading.is_some() && !status.repairing => {
                self.words.want(Word { reign, version, incomplete: false });
            }
            _ => {}
        }
    }

    /// Log and state become a copy. The log's entry is the step that counts: before it, the next process finds the old
    /// replica, after it the new one.
    async fn take_over(&mut self, copy: Copy) -> Vec<Input> {
        let Some(job) = self.job.take() else {
            // A copy was taken over already.
            copy.state.doom();
            return vec![];
        };
        job.stop().await;
        let (end, lineage) = (copy.state.applied(), types::Lineage::clone(&copy.state.lineage()));
        // The source may have turned to another history since the logs were compared: then this is not what was asked for.
        if !self.replica.takes(&lineage, end) {
            tracing::warn!(partition = %self.id, %end, "a copy is of another history than was compared, and is not taken");
            copy.state.doom();
            return vec![Input::CopyUnfit];
        }
        if !self.set_aside(&lineage, end) {
            return vec![];
        }
        let intended = self.shared.log.summary(self.id).is_some_and(|summary| summary.intent.is_some());
        let mut entries: Vec<_> = intended.then_some((self.id, Entry::IntentCleared)).into_iter().collect();
        entries.push((self.id, Entry::Installed { trimmed: end, lineage: lineage.clone() }));
        self.append(&mut entries, &mut true).await;
        let log = self.shared.log.clone();
        let synced = tokio::task::spawn_blocking(move || log.wait_durable()).await;
        if !matches!(synced, Ok(Ok(()))) {
            self.give_up("the log could not be synced when a copy was taken over");
            return vec![];
        }
        // What the log says of the history before must be heard before it is over.
        let mut inputs: Vec<Input> = std::iter::from_fn(|| self.reports.try_recv().ok()).collect();
        self.to_apply.clear();
        let dir = copy.state.dir().to_path_buf();
        self.state.replace(copy.state);
        // What was kept of a damaged state is not needed any more.
        self.dirs.keep_only(&dir);
        self.replica.receive(copy.newest);
        tracing::info!(partition = %self.id, %end, "a copy was taken over");
        inputs.push(Input::Installed { lineage, end });
        inputs
    }

    /// Keeps what a copy of another history replaces. False if that is not possible: then nothing is replaced.
    fn set_aside(&self, lineage: &types::Lineage, end: Lsn) -> bool {
        let kept = tokio::task::block_in_place(|| {
            history::set_aside_replaced(&self.shared, &self.state.get(), self.id, (lineage, end), &self.promotions)
        });
        match kept {
            Ok(()) => true,
            Err(error) if error.is_damage() => {
                tracing::error!(partition = %self.id, %error, "what a copy replaces cannot be read, and is not set aside");
                true
            }
            Err(error) => {
                self.give_up(&format!("what a copy replaces cannot be set aside: {error}"));
                false
            }
        }
    }

    /// Trims the log, and raises the bounds of garbage collection behind it.
    async fn let_go(&mut self, keep: Keep) -> Option<Input> {
        let (state, status) = (self.state.get(), self.status.borrow().clone());
        let to = upkeep::trimmed(&state, &status, keep);
        if let Some(to) = to {
            self.append(&mut vec![(self.id, Entry::Trim { below: to.next() })], &mut false).await;
        }
        if !status.repairing
            && let Err(error) = upkeep::raise(&state, keep.horizon, to.unwrap_or(status.trimmed))
        {
            self.failed(&error);
        }
        to.map(|to| Input::Trimmed { to })
    }

    async fn append(&mut self, entries: &mut Vec<(PartitionId, Entry)>, urgent: &mut bool) {
        if entries.is_empty() {
            return;
        }
        let flush = if self.sync_durability || *urgent { Flush::Now } else { Flush::Soon };
        *urgent = false;
        let mut warned = false;
        loop {
            match self.shared.log.append(entries, flush) {
                Ok(()) => break entries.clear(),
                Err(AppendError::Busy { .. }) => self.shared.log.room().await,
                Err(error @ AppendError::Full { .. }) => {
                    // Whatever was promised to nobody yet waits; writes are refused before it comes to this.
                    if !std::mem::replace(&mut warned, true) {
                        tracing::error!(partition = %self.id, %error, "the partition stands still until there is room");
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
                Err(error) => {
                    entries.clear();
                    return match error {
                        AppendError::Damaged(_) => self.damaged("its part of the node log cannot be read".into()),
                        error => self.give_up(&error.to_string()),
                    };
                }
            }
        }
    }

    /// Applies what is committed. Old records are read from the log where they are no longer in memory.
    fn apply(&mut self, to: Lsn) -> Vec<Input> {
        let outcome = tokio::task::block_in_place(|| -> Result<(), HistoryError> {
            let state = self.state.get();
            while state.applied() < to {
                let next = state.applied().next();
                while self.to_apply.front().is_some_and(|record| record.lsn < next) {
                    self.to_apply.pop_front();
                }
                let batch: Vec<Record> = match self.to_apply.front() {
                    Some(first) if first.lsn == next => {
                        let count = self.to_apply.iter().take_while(|record| record.lsn <= to).count();
                        self.to_apply.drain(..count).collect()
                    }
                    _ => {
                        let read = self.shared.log.read(self.id, next, READ_BYTES)?;
                        read.into_iter().take_while(|record| record.lsn <= to).collect()
                    }
                };
                if batch.is_empty() {
                    return Err(HistoryError::Damaged(format!("record {next} is committed and not in the log")));
                }
                history::apply(&self.shared, &state, self.id, &batch)?;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            self.stopped_by(error);
            return vec![];
        }
        let state = self.state.get();
        if state.should_flush() {
            self.start_flush();
        }
        vec![Input::Applied { lsn: state.applied() }]
    }

    fn start_flush(&mut self) {
        if self.flushing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (log, state, flushing, id) = (self.shared.log.clone(), self.state.get(), self.flushing.clone(), self.id);
        let own = self.own.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = history::flush(&log, &state, id) {
                tracing::error!(partition = %id, %error, "the state could not be flushed");
                if let Some(own) = own.upgrade().filter(|_| error.is_damage()) {
                    let _ = own.blocking_send(Event::Damaged(error.to_string()));
                }
            }
            flushing.store(false, Ordering::Release);
        });
    }

    /// Log and state do not go on.
    fn stopped_by(&mut self, error: HistoryError) {
        match error {
            HistoryError::Damaged(reason) => self.damaged(reason),
            HistoryError::Failed(reason) => self.give_up(&reason),
        }
    }

    /// Something of the state cannot be read or written.
    fn failed(&mut self, error: &StateError) {
        if error.is_damage() { self.damaged(error.to_string()) } else { self.give_up(&error.to_string()) }
    }

    /// The files are not what was written to them: another replica is put in the place of this one.
    fn damaged(&mut self, reason: String) {
        if !std::mem::replace(&mut self.is_damaged, true) {
            tracing::error!(partition = %self.id, reason, "the replica is damaged and out of service");
            // The leaf ends, if nobody hears it.
            let _ = self.shared.heal.send(Damaged { id: self.id, life: self.state.life(), reason });
        }
    }

    /// The machine does not do what it must: the leaf ends.
    fn give_up(&self, reason: &str) {
        tracing::error!(partition = %self.id, reason, "the replica gives up");
        let _ = self.shared.fatal.send(format!("partition {}: {reason}", self.id));
    }

    fn inquire(&self, txn: TxnId, first: Ordinal, history: PromotionId) {
        let (shared, id, own) = (self.shared.clone(), self.id, self.own.clone());
        tokio::spawn(async move {
            let of = PartitionId { ordinal: first, ..id };
            if let Some(decision) = shared.master.inquire(of, txn, history).await
                && let Some(own) = own.upgrade()
            {
                let request = TxnRequest::Finish { txn, first, decision };
                let ((reply, _), (named, _)) = (oneshot::channel(), oneshot::channel());
                let _ = own.send(Event::Txn(request, reply, named)).await;
            }
        });
    }

    /// Runs something that waits for the disk; its result is an event.
    fn blocking(&self, run: impl FnOnce() -> Event + Send + 'static) {
        let own = self.own.clone();
        tokio::task::spawn_blocking(move || {
            let event = run();
            if let Some(own) = own.upgrade() {
                let _ = own.blocking_send(event);
            }
        });
    }

    /// Runs something that waits for another process; its result is an event.
    fn later(&self, run: impl Future<Output = Input> + Send + 'static) {
        let own = self.own.clone();
        tokio::spawn(async move {
            let input = run.await;
            if let Some(own) = own.upgrade() {
                let _ = own.send(Event::Input(input)).await;
            }
        });
    }
}

fn cancelled(input: &Input) -> Option<Ticket> {
    match input {
        Input::Cancel { ticket } => Some(*ticket),
        _ => None,
    }
}
