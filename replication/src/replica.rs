//! One replica of one partition: what it holds, which office it has, and the one entry point.
//!
//! Invariants, checked after every step:
//! - the cursors are in order (`Cursors::check`);
//! - only a leading replica mints records, and only under the epoch that its view names;
//! - while a rewind or an installation is under way nothing is appended, sent or answered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use types::{
    Lineage, LogEnd, Lsn, Mark, Member, NodeId, PartitionId, Promotion, PromotionId, Reign, Role, StartKind, Timestamp,
    View,
};

use crate::copy::Origin;
use crate::follow::Following;
use crate::lead::Leading;
use crate::log::Log;
use crate::sink::Upstream;
use crate::txn::{Context, Txns};
use crate::{
    Answer, Cursors, Effect, FeedId, Input, Instant, Leases, Life, Note, Planted, Recovered, Refusal, ReplicaOptions,
    Stream, Ticket, TxnRequest,
};

/// What a replica is doing in its region.
#[derive(Clone, Debug)]
pub(crate) enum Office {
    /// No reign is accepted since the process started.
    Idle,
    /// It takes frames of a primary.
    Following(Following),
    /// The catalog named it; it waits for grants, its log, a timestamp.
    Starting(Starting),
    /// It is the primary.
    Leading(Box<Leading>),
}

/// How far the start of a reign is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Starting {
    /// Grants for an older reign are out, or the log must be synced first.
    Waiting,
    /// The timestamp of its EpochStart was asked for, by this request.
    Timestamp(u64),
}

/// Work on log and state that suspends everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    /// Dropping everything above this.
    Rewinding(Lsn),
    /// Taking over a copy.
    Installing {
        /// Of whom it was asked; nobody yet where a process finds one that was not ended.
        asked: Option<Origin>,
        /// Log and state are what they were before it was asked for, until there is a copy.
        whole: bool,
    },
    /// It has its copy, and is a member of the set as far as it knows: what it acknowledged before may be above the copy.
    Leaving,
}

/// One replica of one partition.
#[derive(Clone, Debug)]
pub struct Replica {
    pub(crate) id: PartitionId,
    pub(crate) me: Member,
    pub(crate) life: Life,
    pub(crate) options: ReplicaOptions,
    pub(crate) log: Log,
    pub(crate) cursors: Cursors,
    pub(crate) promised: Reign,
    pub(crate) view: Option<View>,
    pub(crate) office: Office,
    /// What a primary said was committed in a reign that could not be accepted yet: it may not say so again.
    pub(crate) told_early: Option<(Member, Stream, Lsn)>,
    pub(crate) repair: Option<Repair>,
    /// For a copy of a source: the common point, and the source's lineage, as they were compared.
    pub(crate) compared: Option<(Lsn, Lineage)>,
    /// Losses that this replica has followed: rewinding below committed needs a higher count.
    pub(crate) losses: u64,
    pub(crate) mark: Mark,
    pub(crate) mark_durable: Timestamp,
    /// Marks that are noted and not yet on disk: number of the note, time.
    pub(crate) marks_noted: Vec<(u64, Timestamp)>,
    pub(crate) notes: u64,
    pub(crate) notes_durable: u64,
    /// The note that keeps the promise; nothing is acknowledged before it is on disk.
    pub(crate) promise_note: u64,
    /// The session with the source's primary, if it is open.
    pub(crate) source_up: Option<types::LinkId>,
    /// Requests for timestamps made so far.
    pub(crate) requests: u64,
    /// The note that keeps the present mark.
    pub(crate) mark_note: u64,
    halted: bool,
}

/// What a replica looks like from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it is the primary and has started.
    pub leading: Option<Leadership>,
    /// The reign that it answers.
    pub reign: Reign,
    /// The lineage of its log.
    pub lineage: Lineage,
    /// Its log's end.
    pub appended: Lsn,
    /// Records at and below this are gone.
    pub trimmed: Lsn,
    /// The other positions.
    pub cursors: Cursors,
    /// A rewind or installation is under way.
    pub repairing: bool,
    /// It takes over a copy: until it has it all, and is no member of its set any more, it holds nothing.
    pub installing: bool,
    /// Its own mark.
    pub mark: Mark,
    /// The highest timestamp in its log, as far as this process knows (`Replica::receive`): the timestamp service must be
    /// raised past it before a promotion.
    pub received: Timestamp,
}

/// What a primary tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Its reign's start is committed and applied: it takes reads and transactions.
    pub serving: bool,
    /// Who is waited for: the members, and the candidate whose addition is under way.
    pub waited: BTreeSet<Member>,
    /// Other nodes that hold or shall hold a copy, those in the set among them.
    pub others: Vec<NodeId>,
    /// Durable on every member.
    pub safe: Lsn,
    /// The turn of its log.
    pub turn: u32,
    /// Sink: durable on every member, in the history of the catalog's promotions.
    pub cut: Timestamp,
    /// A transaction holds locks or is prepared.
    pub busy: bool,
    /// Under a seal, and nothing is under way: the final position.
    pub final_position: Option<Lsn>,
    /// Sink: the link that it follows.
    pub link: Option<types::LinkId>,
    /// Sink: its log is reconciled with its source's.
    pub joined: bool,
    /// The mark that is published to sinks.
    pub published: Mark,
    /// What every follower, of the region or another one, is known to have on disk in this reign, as far as it was fed
    /// by it; zero as long as one has not said.
    pub followed: Lsn,
}

impl Replica {
    /// A replica as its process finds it. The effects go on with a rewind that was begun.
    pub fn new(
        id: PartitionId,
        me: Member,
        options: ReplicaOptions,
        found: Recovered,
        effects: &mut Vec<Effect>,
    ) -> Replica {
        assert!(found.applied <= found.end, "state at {} above the log's end {}", found.applied, found.end);
        let log = Log::new(found.lineage, found.end, found.trimmed, options.tail_bytes_max);
        let mut cursors =
            Cursors { committed: found.applied, applied: found.applied, written: found.end, durable: found.end };
        let repair = found.intent.as_ref().map(|(to, _)| Repair::Rewinding(*to));
        if let Some((to, lineage)) = found.intent {
            cursors.cut(to);
            effects.push(Effect::Rewind { to, lineage });
        }
        let forgets = options.has(Planted::PromiseVolatile);
        Replica {
            id,
            me,
            life: found.life,
            log,
            cursors,
            promised: if forgets { Reign::default() } else { found.promised },
            view: None,
            office: Office::Idle,
            told_early: None,
            repair: repair.or(found.incomplete.then_some(Repair::Installing { asked: None, whole: false })),
            compared: None,
            losses: 0,
            mark_durable: found.mark.ts,
            mark: found.mark,
            marks_noted: vec![],
            notes: 0,
            notes_durable: 0,
            promise_note: 0,
            source_up: None,
            requests: 0,
            mark_note: 0,
            halted: false,
            options,
        }
    }

    /// Obeys one input and does what follows from it.
    pub fn step(&mut self, now: Instant, input: Input, leases: &mut Leases, effects: &mut Vec<Effect>) {
        self.step_all(now, [input], leases, effects);
    }

    /// Obeys several inputs, then does what follows from all of them: one frame a follower, one timestamp request.
    pub fn step_all(
        &mut self,
        now: Instant,
        inputs: impl IntoIterator<Item = Input>,
        leases: &mut Leases,
        effects: &mut Vec<Effect>,
    ) {
        for input in inputs {
            if !self.halted {
                self.handle(now, input, leases, effects);
            }
        }
        if !self.halted {
            self.ask_copy(now, effects);
            self.try_start(now, leases, effects);
            self.flush(now, leases, effects);
        }
        self.cursors.check(self.log.end);
    }

    fn handle(&mut self, now: Instant, input: Input, leases: &mut Leases, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => self.on_tick(now, leases, effects),
            Input::View { view, sent } => self.on_view(now, view, sent, leases, effects),
            Input::Frame(frame) => self.on_frame(now, frame, leases, effects),
            Input::PeerUp { node } => self.on_peer_up(now, node),
            Input::CopyAsked { by, life } => self.on_copy_asked(now, by, life, effects),
            Input::FromSink { feed, message } => self.on_sink_message(now, feed, message, leases, effects),
            Input::SinkGone { feed } => self.on_sink_gone(feed),
            Input::SourceUp { link } => self.on_source_up(now, link, effects),
            Input::SourceDown { link } => self.on_source_down(link),
            Input::FromSource { link, message } => self.on_source_message(now, link, message, effects),
            Input::Written { end } => self.on_written(end),
            Input::Durable { end, notes } => self.on_durable(end, notes),
            Input::LogRead { feed, records } => self.on_log_read(now, feed, records, effects),
            Input::LogFailed { reason } => self.halt(reason, effects),
            Input::Applied { lsn } => self.on_applied(now, lsn, effects),
            Input::Trimmed { to } => self.log.trimmed = self.log.trimmed.max(to.min(self.cursors.applied)),
            Input::Rewound { to } => self.on_rewound(now, to, effects),
            Input::Installed { lineage, end } => self.on_installed(now, lineage, end, effects),
            Input::CopyUnfit => self.on_unfit(now, effects),
            Input::Timestamps { request, first, count } => self.on_timestamps(now, request, first, count, effects),
            Input::Prepared { reign, open } => self.on_prepared(now, reign, open, effects),
            Input::Outcome { reign, txn, outcome } => self.with_txns(now, effects, |txns, context| {
                txns.on_outcome(reign, txn, outcome, context);
            }),
            Input::Txn { ticket, request } => self.on_request(now, ticket, request, effects),
            Input::Cancel { ticket } => self.on_cancel(ticket),
            Input::Publish { ts } => self.on_publish(now, ts, leases),
            Input::Final { ts } => self.on_final(now, ts),
        }
    }

    // ---- the catalog's word

    fn on_view(&mut self, now: Instant, mut view: View, sent: Instant, leases: &mut Leases, effects: &mut Vec<Effect>) {
        assert_eq!(view.partition, self.id, "view of another partition");
        leases.learn(now, self.id, view.reign, view.reign_revision, view.primary);
        let old = self.view.as_ref().map(|view| (view.reign, view.version));
        if let Office::Leading(leading) = &mut self.office
            && leading.reign == view.reign
        {
            leading.answered = leading.answered.max(Some(sent));
            leading.on_set(&view, sent, &self.options);
        }
        if old.is_some_and(|old| old >= (view.reign, view.version)) {
            return;
        }
        if self.reign_led().is_some_and(|led| view.reign > led) {
            self.step_down(effects);
        }
        let named = view.primary == self.me && view.reign > self.promised;
        if self.options.has(Planted::TermsKept) {
            let kept = self.view.take().map_or(view.failover_after, |old| old.failover_after);
            view.failover_after = kept.zip(view.failover_after).map(|(kept, new)| kept.max(new));
        }
        self.view = Some(view);
        if named {
            self.office = Office::Starting(Starting::Waiting);
        } else if matches!(self.office, Office::Starting(_)) && self.view.as_ref().is_some_and(|v| v.primary != self.me)
        {
            self.office = Office::Idle;
        }
        self.keep_state(effects);
        self.leave(now, effects);
        self.obey_role(now, effects);
    }

    /// The part of a view that may change within a reign: fence, link, promotions.
    fn obey_role(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let fence = view.fence;
        let link = match &view.role {
            Role::Sink { link, .. } => Some(*link),
            Role::Writable { .. } => None,
        };
        if view.promotions != self.mark.promotions {
            let promotions = view.promotions.clone();
            self.lower_mark(&promotions, effects);
        }
        let mut turned = false;
        if let Office::Leading(leading) = &mut self.office {
            let following = leading.upstream.as_ref().map(|upstream| upstream.link);
            if link.is_some() && following != link {
                leading.upstream = link.map(|link| Upstream::new(link, now));
            }
            turned = leading.promotions != self.mark.promotions;
        }
        self.with_txns(now, effects, |txns, context| txns.set_fence(fence, context));
        if turned {
            self.turn(now);
        }
        self.open_upstream(now, effects);
    }

    /// Another history: the mark is worth only what both have. But it is never below the cut of a promotion that this
    /// log has carried out: who joins the set of a primary that writes has no mark of that, or one of long ago.
    pub(crate) fn lower_mark(&mut self, promotions: &[Promotion], effects: &mut Vec<Effect>) {
        let promoted = self.log.lineage.promoted(&self.mark.promotions).filter(|mark| mark.ts > self.mark.ts);
        if let Some(promoted) = promoted.filter(|_| !self.options.has(Planted::CutForgotten)) {
            // Until that is noted nothing counts: a cut in between would be that of the old mark.
            (self.mark, self.mark_durable) = (promoted, Timestamp::ZERO);
            self.marks_noted.clear();
        }
        let mut lowered = self.mark.lowered_to(promotions);
        if self.options.has(Planted::MarksSurvive) || self.options.has(Planted::CutPerPartition) {
            lowered.ts = self.mark.ts;
        }
        self.mark_durable = self.mark_durable.min(lowered.ts);
        self.marks_noted.iter_mut().for_each(|(_, ts)| *ts = (*ts).min(lowered.ts));
        self.mark = lowered;
        self.note_mark(effects);
    }

    pub(crate) fn note_mark(&mut self, effects: &mut Vec<Effect>) {
        self.notes += 1;
        self.mark_note = self.notes;
        self.marks_noted.push((self.notes, self.mark.ts));
        effects.push(Effect::Note(Note::Mark(self.mark.clone())));
    }

    // ---- the start of a reign

    fn try_start(&mut self, now: Instant, leases: &mut Leases, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        if !matches!(self.office, Office::Starting(Starting::Waiting)) || self.repair.is_some() {
            return;
        }
        // What a standing order names was only received: what it ships from now on must survive the next crash.
        let synced = view.mode.sync_replication || self.options.has(Planted::NamedUnsynced);
        // Records of a link may come in until the promotion is known here, an epoch among them: then the one that the
        // catalog has minted is not above the log's, and another is waited for.
        let last = self.log.lineage.last().map_or(0, |entry| entry.epoch.number);
        if matches!(view.role, Role::Writable { epoch, .. } if epoch.number <= last) {
            return;
        }
        if !leases.may_accept(now, self.id) || !(synced || self.cursors.durable == self.log.end) {
            return;
        }
        self.promise(view.reign, effects);
        let view = self.view.as_ref().expect("it named this replica");
        match view.role {
            Role::Writable { .. } => {
                self.ask_start(effects);
            }
            Role::Sink { link, .. } => {
                let mut leading = Leading::new(view, self.me, self.log.end, None, now);
                leading.upstream = Some(Upstream::new(link, now));
                self.lead(leading);
                self.obey_role(now, effects);
                self.open_upstream(now, effects);
            }
        }
    }

    pub(crate) fn promise(&mut self, reign: Reign, effects: &mut Vec<Effect>) {
        assert!(reign > self.promised, "promise of reign {reign} after {}", self.promised);
        self.promised = reign;
        self.notes += 1;
        self.promise_note = self.notes;
        effects.push(Effect::Note(Note::Promise(reign)));
    }

    fn lead(&mut self, mut leading: Leading) {
        (leading.promotions, leading.began_with) = (self.mark.promotions.clone(), self.mark.ts);
        self.office = Office::Leading(Box::new(leading));
    }

    fn ask_start(&mut self, effects: &mut Vec<Effect>) {
        self.requests += 1;
        self.office = Office::Starting(Starting::Timestamp(self.requests));
        effects.push(Effect::Timestamps { request: self.requests, count: 1 });
    }

    fn on_timestamps(&mut self, now: Instant, request: u64, first: Timestamp, count: u32, effects: &mut Vec<Effect>) {
        match self.office {
            Office::Starting(Starting::Timestamp(asked)) if asked == request => self.start_epoch(now, first, effects),
            _ => self.with_txns(now, effects, |txns, context| txns.on_timestamps(request, first, count, context)),
        }
    }

    fn start_epoch(&mut self, now: Instant, start_ts: Timestamp, effects: &mut Vec<Effect>) {
        let view = self.view.clone().expect("it named this replica");
        let Role::Writable { epoch, start, start_above } = view.role.clone() else {
            self.office = Office::Starting(Starting::Waiting);
            return;
        };
        let newest = self.log.lineage.last().map_or(Timestamp::ZERO, |entry| entry.start_ts);
        let received = start_above.max(newest).max(self.mark.ts).max(self.log.received);
        if start_ts <= received && !self.options.has(Planted::StartLocal) {
            return self.ask_start(effects);
        }
        if let StartKind::Promotion { id, cut } = start {
            let named = view.promotions.last();
            assert_eq!(named, Some(&Promotion { id, cut }), "the view's last promotion is the one that starts");
        }
        // The catalog names the database's promotions; only the log tells which of them this partition has carried out.
        let kind = match self.log.lineage.due(&view.promotions).filter(|_| start != StartKind::Failover) {
            None if self.options.has(Planted::FailoverAborts) => {
                StartKind::Promotion { id: types::PromotionId(u128::from(epoch.nonce)), cut: start_ts }
            }
            None => StartKind::Failover,
            Some(_) if self.options.has(Planted::LastCutAlone) => start,
            Some(Promotion { id, .. }) if self.options.has(Planted::CutPerPartition) => {
                StartKind::Promotion { id, cut: self.mark.ts }
            }
            Some(Promotion { id, cut }) => StartKind::Promotion { id, cut },
        };
        let leading = Leading::new(&view, self.me, self.log.end.next(), Some(epoch), now);
        self.lead(leading);
        self.log.mint(epoch, types::Body::EpochStart { start_ts, kind }, effects);
    }

    fn on_prepared(
        &mut self,
        now: Instant,
        reign: Reign,
        open: Vec<types::state::Prepared>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(view) = &self.view else { return };
        let fence = view.fence;
        let start_ts = self.log.lineage.last().map_or(Timestamp::ZERO, |entry| entry.start_ts);
        let (ordinal, options) = (self.id.ordinal, self.options.clone());
        if let Office::Leading(leading) = &mut self.office
            && let Some(epoch) = leading.epoch
            && leading.reign == reign
            && leading.txns.is_none()
        {
            let history = leading.promotions.last().map_or(PromotionId(0), |promotion| promotion.id);
            leading.txns = Some(Txns::new(reign, epoch, ordinal, history, options, start_ts, open, now));
            self.with_txns(now, effects, |txns, context| txns.set_fence(fence, context));
        }
    }

    pub(crate) fn step_down(&mut self, effects: &mut Vec<Effect>) {
        if let Office::Leading(leading) = std::mem::replace(&mut self.office, Office::Idle) {
            leading.end(effects);
        }
    }

    /// The reign in which it is the primary and has started.
    pub fn reign_led(&self) -> Option<Reign> {
        match &self.office {
            Office::Leading(leading) => Some(leading.reign),
            _ => None,
        }
    }

    // ---- the disk's word

    fn on_written(&mut self, end: Lsn) {
        self.cursors.written = self.cursors.written.max(self.in_log(end));
    }

    fn on_durable(&mut self, end: Lsn, notes: u64) {
        let end = self.in_log(end);
        self.cursors.written = self.cursors.written.max(end);
        self.cursors.durable = self.cursors.durable.max(end);
        self.notes_durable = self.notes_durable.max(notes);
        let synced = self.marks_noted.partition_point(|(note, _)| *note <= notes);
        for (_, ts) in self.marks_noted.drain(..synced) {
            self.mark_durable = ts;
        }
    }

    /// While a rewind is under way, reports about what is being dropped still come in.
    fn in_log(&self, end: Lsn) -> Lsn {
        match self.repair {
            Some(Repair::Rewinding(to)) => end.min(to),
            Some(Repair::Installing { whole: false, .. }) => Lsn::ZERO,
            // Perhaps it goes on with its log.
            Some(Repair::Installing { whole: true, .. } | Repair::Leaving) | None => end.min(self.log.end),
        }
    }

    fn on_applied(&mut self, now: Instant, lsn: Lsn, effects: &mut Vec<Effect>) {
        let whole = matches!(self.repair, None | Some(Repair::Installing { whole: true, .. }));
        if !whole {
            return;
        }
        assert!(lsn <= self.cursors.committed, "applied {lsn} above committed {}", self.cursors.committed);
        self.cursors.applied = self.cursors.applied.max(lsn);
        if self.repair.is_some() {
            return;
        }
        if let Office::Leading(leading) = &mut self.office {
            leading.on_applied(self.cursors.applied, self.cursors.committed, effects);
        }
        self.with_txns(now, effects, |txns, context| txns.on_applied(context));
    }

    fn halt(&mut self, reason: String, effects: &mut Vec<Effect>) {
        self.step_down(effects);
        self.halted = true;
        effects.push(Effect::Halt { reason });
    }

    /// Drops what the other history does not have; everything else waits.
    pub(crate) fn rewind(&mut self, to: Lsn, lineage: Lineage, effects: &mut Vec<Effect>) {
        assert!(to < self.log.end, "rewind to {to}, log ends at {}", self.log.end);
        assert!(to >= self.log.trimmed, "rewind to {to}, log is trimmed to {}", self.log.trimmed);
        self.repair = Some(Repair::Rewinding(to));
        self.cursors.cut(to);
        effects.push(Effect::Rewind { to, lineage });
    }

    fn on_rewound(&mut self, now: Instant, to: Lsn, effects: &mut Vec<Effect>) {
        if !matches!(self.repair, Some(Repair::Rewinding(_))) {
            return;
        }
        self.repair = None;
        self.log.cut(to);
        self.cursors.cut(to);
        if self.mark.lsn > to {
            self.mark.lsn = to;
            // A follower of the region drops what its primary never had, and so does a process that goes on with a
            // rewind: the records that the mark counts on may be among them. The mark of a primary that rewinds has
            // fallen already to the cut that both histories share.
            if !matches!(self.office, Office::Leading(_)) && self.mark.ts > Timestamp::ZERO {
                self.replace_mark(Mark { ts: Timestamp::ZERO, ..self.mark.clone() }, effects);
            }
        }
        self.turn(now);
        self.after_repair(now, effects);
    }

    /// The log is another one now: what followers acknowledged before is about the old one.
    pub(crate) fn turn(&mut self, now: Instant) {
        let end = self.log.end;
        if let Office::Leading(leading) = &mut self.office {
            leading.turn(end, &self.mark, self.options.has(Planted::StaleTurn), now);
        }
    }

    pub(crate) fn after_repair(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match &self.office {
            Office::Following(_) => self.send_differ(now, effects),
            Office::Leading(_) => self.open_upstream(now, effects),
            _ => {}
        }
    }

    // ---- transactions

    fn on_request(&mut self, now: Instant, ticket: Ticket, request: TxnRequest, effects: &mut Vec<Effect>) {
        let (applied, committed, confirmed) = (self.cursors.applied, self.cursors.committed, self.is_serving());
        let early = self.options.has(Planted::ServeBeforeStart);
        let refusal = match &mut self.office {
            Office::Leading(leading) if confirmed && self.repair.is_none() => match (&leading.txns, &request) {
                (Some(_), _) => None,
                (None, TxnRequest::Settle { .. }) if leading.upstream.is_some() || early => {
                    return leading.settle(ticket, applied, committed, effects);
                }
                _ if leading.upstream.is_some() => Some(Refusal::Sink),
                _ => Some(Refusal::NotPrimary),
            },
            _ => Some(Refusal::NotPrimary),
        };
        match refusal {
            Some(refusal) => effects.push(Effect::Answer { ticket, answer: Answer::Refused(refusal) }),
            None => self.with_txns(now, effects, |txns, context| txns.request(ticket, request, context)),
        }
    }

    fn on_cancel(&mut self, ticket: Ticket) {
        if let Office::Leading(leading) = &mut self.office {
            leading.cancel(ticket);
        }
    }

    pub(crate) fn with_txns(
        &mut self,
        now: Instant,
        effects: &mut Vec<Effect>,
        run: impl FnOnce(&mut Txns, &mut Context),
    ) {
        let Cursors { committed, applied, .. } = self.cursors;
        let may_answer = self.may_answer(now);
        if let Office::Leading(leading) = &mut self.office
            && let Some(txns) = &mut leading.txns
        {
            run(txns, &mut Context { now, may_answer, log: &mut self.log, committed, applied, effects });
        }
    }

    // ---- driving

    fn on_tick(&mut self, now: Instant, leases: &Leases, effects: &mut Vec<Effect>) {
        self.change_set(now, leases, effects);
        self.resend(now, leases);
        self.reopen_upstream(now, effects);
        self.with_txns(now, effects, |txns, context| txns.on_tick(context));
    }

    /// What follows from the inputs of a step.
    fn flush(&mut self, now: Instant, leases: &Leases, effects: &mut Vec<Effect>) {
        if self.repair.is_some() {
            return;
        }
        self.advance(now, effects);
        self.acknowledge_primary(effects);
        self.acknowledge_source(now, effects);
        self.feed_all(now, leases, effects);
    }

    fn on_log_read(&mut self, now: Instant, feed: FeedId, records: Vec<types::Record>, effects: &mut Vec<Effect>) {
        if self.repair.is_none() {
            self.feed_read(now, feed, records, effects);
        }
    }

    // ---- questions

    /// Whether a value that was read after `Answer::Settled` may be shown now: every member's lease still holds, and nobody
    /// outside of the set is about to be named.
    pub fn may_read(&self, now: Instant, leases: &Leases) -> bool {
        let hands_over = self.view.as_ref().is_some_and(|view| view.hands_over);
        !hands_over && self.is_serving() && self.may_answer(now) && self.holds_leases(now, leases)
    }

    /// Whether every member that is waited for grants this primary its lease: nobody else has accepted a later reign.
    pub(crate) fn holds_leases(&self, now: Instant, leases: &Leases) -> bool {
        let Office::Leading(leading) = &self.office else { return false };
        let waited =
            if self.options.has(Planted::CandidateNoLease) { leading.members.clone() } else { leading.waited() };
        waited.iter().all(|member| *member == self.me || leases.held_until(self.id, *member) > now)
    }

    /// ASYNC REPLICATION: somebody else may be named by the standing order, so the catalog itself grants the lease.
    pub(crate) fn may_answer(&self, now: Instant) -> bool {
        let (Office::Leading(leading), Some(view)) = (&self.office, &self.view) else { return false };
        let until = |sent: Instant, millis| sent + self.options.counted(Duration::from_millis(millis));
        let holds = |millis| leading.answered.is_some_and(|sent| until(sent, millis) > now);
        view.failover_after.is_none_or(holds) || self.options.has(Planted::AloneNoLease)
    }

    /// Whether this is a primary whose start is committed by the whole set, and applied.
    pub fn is_serving(&self) -> bool {
        match &self.office {
            Office::Leading(leading) => {
                let confirmed = leading.confirmed
                    && self.cursors.applied >= leading.start
                    && (leading.txns.is_some() || leading.epoch.is_none());
                self.repair.is_none() && (confirmed || self.options.has(Planted::ServeBeforeStart))
            }
            _ => false,
        }
    }

    /// The epoch under which it mints records: a primary of a writable partition that has started.
    pub fn mints(&self) -> Option<types::Epoch> {
        match &self.office {
            Office::Leading(leading) => leading.epoch,
            _ => None,
        }
    }

    /// The state, as the process finds or installs it, holds a commit or a Prepare at this time: a promotion must start
    /// above it.
    pub fn receive(&mut self, ts: Timestamp) {
        self.log.received = self.log.received.max(ts);
    }

    /// What a sink of this session has said that it holds.
    pub fn sink_ack(&self, feed: u64) -> Option<crate::Ack> {
        match &self.office {
            Office::Leading(leading) => leading.sinks.get(&feed).map(|feed| feed.ack),
            _ => None,
        }
    }

    /// Its positions; the log's end is `log_end`.
    pub fn cursors(&self) -> Cursors {
        self.cursors
    }

    /// Where the log ends: what the catalog compares when it must choose. While a copy is missing, or may lack what this
    /// member has acknowledged, it holds nothing.
    pub fn log_end(&self) -> LogEnd {
        if self.is_installing() {
            return LogEnd::default();
        }
        let number =
            if self.log.end == Lsn::ZERO { None } else { self.log.lineage.last().map(|entry| entry.epoch.number) };
        LogEnd { epoch_number: number.unwrap_or(0), lsn: self.log.end }
    }

    /// Where each epoch of the log has its last record, oldest first, as far as it holds anything.
    pub fn epoch_ends(&self) -> Vec<LogEnd> {
        if self.is_installing() { vec![] } else { self.log.lineage.ends(self.log.end) }
    }

    /// The lineage of the log.
    pub fn lineage(&self) -> &Lineage {
        &self.log.lineage
    }

    /// Bytes of records kept in memory.
    pub fn memory(&self) -> usize {
        self.log.tail_bytes()
    }

    /// Which process.
    pub fn member(&self) -> Member {
        self.me
    }

    /// Which opening of it this is.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Which partition.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    fn others(&self) -> Vec<NodeId> {
        self.view.iter().flat_map(|view| &view.replicas).copied().filter(|node| *node != self.me.node).collect()
    }

    /// What SHOW statements, traces and checkers see.
    pub fn status(&self) -> Status {
        let leading = match &self.office {
            Office::Leading(leading) => Some(Leadership {
                serving: self.is_serving(),
                waited: leading.waited(),
                others: self.others(),
                safe: leading.safe,
                turn: leading.turn,
                cut: self.cut(),
                busy: leading.txns.as_ref().is_some_and(Txns::busy),
                final_position: self.final_position(),
                link: leading.upstream.as_ref().map(|upstream| upstream.link),
                joined: leading.upstream.as_ref().is_none_or(|upstream| upstream.joined),
                published: leading.published.clone(),
                followed: leading.followed(self.log.end),
            }),
            _ => None,
        };
        Status {
            leading,
            reign: self.promised,
            lineage: self.log.lineage.clone(),
            appended: self.log.end,
            trimmed: self.log.trimmed,
            cursors: self.cursors,
            repairing: self.repair.is_some(),
            installing: self.is_installing(),
            mark: self.mark.clone(),
            received: self.log.received,
        }
    }

    fn final_position(&self) -> Option<Lsn> {
        let (Office::Leading(leading), Some(view)) = (&self.office, &self.view) else { return None };
        let sealed = matches!(view.fence, types::Fence::Sealed(_)) && self.is_serving();
        let quiet = leading.txns.as_ref().is_some_and(|txns| !txns.busy()) && leading.safe == self.log.end;
        (sealed && quiet).then_some(self.log.end)
    }
}

/// Followers by node.
pub(crate) type Feeds = BTreeMap<NodeId, crate::feed::Feed>;
