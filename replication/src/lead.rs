//! The primary: feeds its secondaries, finds the commit point, grows and shrinks its set.
//!
//! - `committed` is the smallest position of those that are waited for: the members, and the candidate from before
//!   its addition is proposed until the outcome is known. `safe` is the same for what is on disk.
//! - A proposal is repeated until the catalog shows a set version above the one it names. A removed member is waited
//!   for until then.
//! - A candidate is proposed only when it is at `committed`, and durable at `safe`, and at what this reign began with.
//! - The reign is confirmed when every member has acknowledged its start: from then on nobody holds a grant for an
//!   older one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use types::{Epoch, Incarnation, Lineage, Lsn, Mark, Member, NodeId, Promotion, Reign, SetVersion, Timestamp, View};

use crate::feed::Feed;
use crate::message::MISSING;
use crate::replica::{Feeds, Office};
use crate::sink::Upstream;
use crate::txn::Txns;
use crate::{
    Ack, Answer, Append, Effect, FeedId, Frame, Instant, Leases, Life, Message, Planted, Refusal, Replica,
    ReplicaOptions, Resume, SetChange, Stream, Ticket,
};

/// A change of the set that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    change: SetChange,
    /// The set version that the proposal names; `None` while the candidate is waited for and not yet proposed.
    version: Option<SetVersion>,
    asked: Instant,
}

/// A primary's knowledge in one reign.
#[derive(Clone, Debug)]
pub(crate) struct Leading {
    pub reign: Reign,
    version: SetVersion,
    pub members: BTreeSet<Member>,
    /// The record that must be committed before the reign serves: its EpochStart, or the log's end at a sink.
    pub start: Lsn,
    pub epoch: Option<Epoch>,
    pub turn: u32,
    /// The promotions of this turn's history.
    pub promotions: Vec<Promotion>,
    /// The mark that this turn began with: up to it an earlier reign may have published, or served.
    pub began_with: Timestamp,
    pub confirmed: bool,
    pub safe: Lsn,
    /// When the question was sent that the catalog has answered last, in this reign.
    pub answered: Option<Instant>,
    pending: Option<Pending>,
    feeds: Feeds,
    /// The newest life of each node's replica that has said what it holds.
    lives: BTreeMap<NodeId, (Incarnation, Life)>,
    /// Turns begun so far, of the log or of the stream to one node.
    turns: u32,
    /// Nodes that may hold another copy than earlier in this reign: the turn in which they are fed since.
    anew: BTreeMap<NodeId, u32>,
    pub sinks: BTreeMap<u64, Feed>,
    pub txns: Option<Txns>,
    prepared_asked: bool,
    pub upstream: Option<Upstream>,
    settles: Vec<(Ticket, Lsn)>,
    /// Marks received or made of late, oldest first, where they are kept.
    pub marks: VecDeque<Mark>,
    /// Sink: the highest cut of this turn.
    reached: Timestamp,
    /// What is published to sinks.
    pub published: Mark,
    /// The next mark, until its records are safe, or committed where it is kept.
    pub publishing: Option<Mark>,
    /// When the last mark was made.
    pub marked_at: Option<Instant>,
}

/// Most marks remembered while they become durable everywhere; older ones are dropped, which only delays the cut.
const MARKS_MAX: usize = 64;

impl Leading {
    pub fn new(view: &View, me: Member, start: Lsn, epoch: Option<Epoch>, now: Instant) -> Leading {
        let from = if epoch.is_some() { start.prev() } else { start };
        let others = view.replicas.iter().filter(|node| **node != me.node);
        Leading {
            reign: view.reign,
            version: view.version,
            members: view.members.clone(),
            start,
            epoch,
            turn: 0,
            promotions: vec![],
            began_with: Timestamp::ZERO,
            confirmed: false,
            safe: Lsn::ZERO,
            answered: None,
            pending: None,
            feeds: others.map(|node| (*node, Feed::new(FeedId::Secondary(*node), from, now))).collect(),
            lives: BTreeMap::new(),
            turns: 0,
            anew: BTreeMap::new(),
            sinks: BTreeMap::new(),
            txns: None,
            prepared_asked: false,
            upstream: None,
            settles: vec![],
            marks: VecDeque::new(),
            reached: Timestamp::ZERO,
            published: Mark { promotions: view.promotions.clone(), ..Mark::default() },
            publishing: None,
            marked_at: None,
        }
    }

    /// The stream to a node: words under an earlier one are of a copy that may be gone.
    pub fn stream_to(&self, node: NodeId) -> Stream {
        let anew = self.anew.get(&node).copied().unwrap_or_default();
        Stream { reign: self.reign, turn: self.turn.max(anew) }
    }

    /// The members, and the candidate from before its addition is proposed until the outcome is known.
    pub fn waited(&self) -> BTreeSet<Member> {
        let mut waited = self.members.clone();
        if let Some(Pending { change: SetChange::Add(member), .. }) = self.pending {
            waited.insert(member);
        }
        waited
    }

    /// What every follower is known to have on disk. One that has died counts with what it had.
    pub fn followed(&self, end: Lsn) -> Lsn {
        let feeds = self.feeds.values().chain(self.sinks.values());
        feeds.map(|feed| feed.ack.durable).fold(end, Lsn::min)
    }

    /// A view of this reign.
    pub fn on_set(&mut self, view: &View, sent: Instant, options: &ReplicaOptions) {
        // In a view that was passed over a copy may have been taken away, and another begun since.
        let passed_over = view.version.0 > self.version.0 + 1;
        if view.version > self.version {
            self.version = view.version;
            let before = std::mem::replace(&mut self.members, view.members.clone());
            for member in before.difference(&self.members) {
                if let Some(feed) = self.feeds.get_mut(&member.node).filter(|feed| feed.member == Some(*member)) {
                    feed.ask_anew(sent);
                }
            }
        }
        let asked = self.pending.and_then(|pending| Some((pending.version?, pending.asked)));
        if asked.is_some_and(|(version, asked)| {
            view.version > version || options.has(Planted::OutcomeByRead) && sent > asked
        }) {
            self.pending = None;
        }
        if view.version >= self.version {
            // Nobody joins under ASYNC REPLICATION: a candidate that was not proposed yet would be waited for without end.
            self.pending.take_if(|pending| pending.version.is_none() && !view.mode.sync_replication);
            self.feed_replicas(view, passed_over, sent);
        }
    }

    /// Feeds whom the newest view names.
    fn feed_replicas(&mut self, view: &View, passed_over: bool, sent: Instant) {
        let joined = |node: &NodeId| view.members.iter().any(|member| member.node == *node);
        self.feeds.retain(|node, _| view.replicas.contains(node) && (!passed_over || joined(node)));
        for node in &view.replicas {
            if *node != view.primary.node && !self.feeds.contains_key(node) {
                self.turns += 1;
                self.anew.insert(*node, self.turns);
                self.feeds.insert(*node, Feed::new(FeedId::Secondary(*node), self.start, sent));
            }
        }
    }

    /// The acknowledgement of a member, nothing if it has given none under this stream.
    pub fn ack(&self, member: Member) -> Option<Ack> {
        self.feeds.get(&member.node).filter(|feed| feed.member == Some(member)).map(|feed| feed.ack)
    }

    /// A new turn: the log ends at `end` and is another history.
    pub fn turn(&mut self, end: Lsn, mark: &Mark, stale: bool, now: Instant) {
        let promotions = &mark.promotions;
        self.turns += 1;
        self.turn = self.turns;
        (self.promotions, self.began_with) = (promotions.clone(), mark.ts);
        self.confirmed = false;
        self.start = end;
        self.safe = self.safe.min(end);
        self.marks.clear();
        self.reached = Timestamp::ZERO;
        self.published = Mark { promotions: promotions.clone(), ..Mark::default() };
        self.publishing = None;
        for feed in self.feeds.values_mut().filter(|_| !stale) {
            *feed = Feed::new(feed.id, end, now);
        }
        for feed in self.sinks.values_mut() {
            *feed = Feed::new(feed.id, end, now);
            feed.suspend();
        }
    }

    /// Of the marks received or made, publishes the newest that is at or below `ts` and whose records are safe.
    pub fn publish_up_to(&mut self, ts: Timestamp) {
        let known = |mark: &Mark, safe: Lsn, relay: bool| mark.ts <= ts && (relay || mark.lsn <= safe);
        let (safe, relay) = (self.safe, self.upstream.is_some());
        while self.marks.len() > 1 && known(&self.marks[1], safe, relay) {
            self.marks.pop_front();
        }
        let first = self.marks.front().filter(|mark| known(mark, safe, relay) && mark.ts > self.published.ts);
        if let Some(mark) = first {
            self.published = mark.clone();
        }
    }

    pub fn remember(&mut self, mark: Mark) {
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    /// Waits until what is committed is applied; for sinks, which have no transactions of their own.
    pub fn settle(&mut self, ticket: Ticket, applied: Lsn, committed: Lsn, effects: &mut Vec<Effect>) {
        if applied >= committed {
            effects.push(Effect::Answer { ticket, answer: Answer::Settled });
        } else {
            self.settles.push((ticket, committed));
        }
    }

    pub fn on_applied(&mut self, applied: Lsn, committed: Lsn, effects: &mut Vec<Effect>) {
        let (over, waiting) = self.settles.drain(..).partition(|(_, lsn)| *lsn <= applied);
        self.settles = waiting;
        let over: Vec<(Ticket, Lsn)> = over;
        effects.extend(over.into_iter().map(|(ticket, _)| Effect::Answer { ticket, answer: Answer::Settled }));
        if self.epoch.is_some() && !self.prepared_asked && applied >= self.start && committed >= self.start {
            self.prepared_asked = true;
            effects.push(Effect::Prepared { reign: self.reign });
        }
    }

    pub fn cancel(&mut self, ticket: Ticket) {
        self.settles.retain(|(waiting, _)| *waiting != ticket);
        if let Some(txns) = &mut self.txns {
            txns.cancel(ticket);
        }
    }

    /// The reign is over.
    pub fn end(self: Box<Self>, effects: &mut Vec<Effect>) {
        for (ticket, _) in &self.settles {
            effects.push(Effect::Answer { ticket: *ticket, answer: Answer::Refused(Refusal::NotPrimary) });
        }
        if let Some(txns) = self.txns {
            txns.end_reign(effects);
        }
    }
}

impl Replica {
    pub(crate) fn leading(&mut self) -> Option<&mut Leading> {
        match &mut self.office {
            Office::Leading(leading) => Some(leading),
            _ => None,
        }
    }

    /// Position and durable position of this replica, as one member of its set.
    fn own_ack(&self, sync_durability: bool) -> Ack {
        Ack {
            matched: self.log.end,
            position: if sync_durability { self.cursors.durable } else { self.cursors.written },
            durable: self.cursors.durable,
            mark: self.mark_durable,
        }
    }

    /// Finds the commit point and the safe position; answers what they let be answered.
    pub(crate) fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let own = self.own_ack(view.mode.sync_durability);
        let (me, promise_kept, not_waited) =
            (self.me, self.notes_durable >= self.promise_note, self.options.has(Planted::CandidateNotWaited));
        let (end, mut committed) = (self.log.end, self.cursors.committed);
        let Office::Leading(leading) = &mut self.office else { return };
        let waited = if not_waited { leading.members.clone() } else { leading.waited() };
        let acks = waited.iter().map(|member| if *member == me { Some(own) } else { leading.ack(*member) });
        // Somebody who has not acknowledged under this stream holds everything back.
        let Some(acks) = acks.collect::<Option<Vec<Ack>>>() else { return };
        if !promise_kept {
            return;
        }
        let position = acks.iter().map(|ack| ack.position).min().unwrap_or(end);
        let durable = acks.iter().map(|ack| ack.durable).min().unwrap_or(end);
        committed = committed.max(position.min(end));
        leading.safe = leading.safe.max(durable.min(committed));
        leading.confirmed |= position >= leading.start;
        if committed > self.cursors.committed {
            self.cursors.committed = committed;
            effects.push(Effect::Apply { to: committed });
        }
        let cut = self.cut();
        if let Some(leading) = self.leading() {
            leading.reached = cut;
        }
        self.advance_mark(effects);
        if self.may_answer(now) {
            self.with_txns(now, effects, |txns, context| txns.on_committed(context));
        } else if !self.options.has(Planted::CommitUnleased) {
            return;
        }
        let request = self.requests + 1;
        let Office::Leading(leading) = &mut self.office else { return };
        if let Some(count) = leading.txns.as_mut().and_then(|txns| txns.timestamps_wanted(request)) {
            self.requests = request;
            effects.push(Effect::Timestamps { request, count });
        }
    }

    /// Sink: the time up to which every member holds, on disk, every record and the mark that says so.
    pub(crate) fn cut(&self) -> Timestamp {
        let Office::Leading(leading) = &self.office else { return Timestamp::ZERO };
        if leading.promotions != self.mark.promotions || leading.upstream.is_none() {
            return Timestamp::ZERO;
        }
        if self.options.has(Planted::ServeVolatile) {
            return self.mark.ts;
        }
        // A candidate that is waited for from now on takes nothing back: it is proposed when it is at the cut.
        // The records of a mark must be known as committed here, or a reader would not wait for them.
        let committed = self.cursors.committed;
        let known = if self.mark.lsn <= committed {
            Timestamp::MAX
        } else {
            leading.marks.iter().rev().find(|mark| mark.lsn <= committed).map_or(Timestamp::ZERO, |mark| mark.ts)
        };
        let cut = self.mark_on_disks(leading).min(known).max(leading.reached);
        // A replica may have noted its mark before its region was promoted, taken the promotion of its primary, and be named
        // when the region follows anew: it knows one list before and after, and has dead rows below the mark.
        let parted = self.log.lineage.parted_at(&leading.promotions).filter(|_| !self.options.has(Planted::DeadServed));
        cut.min(parted.unwrap_or(Timestamp::MAX))
    }

    /// The time of the mark that may have left the region, or is served, where marks are kept. Which one did in an earlier
    /// reign is not known, but it was on every member's disk: it is not above the one that this reign began with.
    fn may_have_left(&self) -> Timestamp {
        let Office::Leading(leading) = &self.office else { return Timestamp::ZERO };
        let left = match (self.keeps_marks(), leading.upstream.is_some()) {
            (true, _) => leading.published.ts,
            (false, true) => self.cut(),
            (false, false) => return Timestamp::ZERO,
        };
        if self.options.has(Planted::ReignForgets) { left } else { left.max(leading.began_with) }
    }

    // ---- growing and shrinking the set

    pub(crate) fn change_set(&mut self, now: Instant, leases: &Leases, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let (sync, me, options, committed) =
            (view.mode.sync_replication, self.me, &self.options, self.cursors.committed);
        let end = self.log.end;
        // Whoever joins has that on disk, too.
        let cut = self.may_have_left();
        // Whom the log cannot bring along needs a copy first, and a copy is made only of what those who are waited for hold.
        let begin = [self.fed_from(Lsn::ZERO, end), self.log.trimmed];
        let reached = |matched: Lsn| matched >= begin[usize::from(matched > Lsn::ZERO)];
        let Office::Leading(leading) = &mut self.office else { return };
        if !sync || self.repair.is_some() {
            return;
        }
        leading.feeds.values_mut().for_each(|feed| feed.watch(end, now));
        // Who awaits a copy is slow, too.
        let is_seen = !options.has(Planted::SlowStays) && !options.has(Planted::MemberAwaitsCopy);
        let slow = |member: &Member| {
            let feed = leading.feeds.get(&member.node).filter(|_| is_seen);
            feed.is_some_and(|feed| feed.is_slow(options.slow_timeout, now))
        };
        let silent = |member: Member, since: Instant| {
            leases.is_gone(member)
                || now.since(leases.heard(member.node).unwrap_or_default().max(since)) > options.failure_timeout
        };
        let since = |node: &NodeId| leading.feeds.get(node).map_or(now, |feed| feed.born);
        let lacks = |member: &Member| {
            let said = leading.feeds.get(&member.node).and_then(|feed| feed.lacks);
            said == Some(*member) && !options.has(Planted::MemberAwaitsCopy)
        };
        let lost = leading.members.iter().find(|m| **m != me && (silent(**m, since(&m.node)) || lacks(m) || slow(m)));
        // A candidate that was not proposed yet may be let go: it is silent or slow itself, or a member is, without which it can
        // never be proposed, or trimming has passed it by.
        if let Some(Pending { change: SetChange::Add(member), version: None, asked }) = leading.pending
            && (lost.is_some()
                || silent(member, asked)
                || lacks(&member)
                || slow(&member)
                || leading.ack(member).is_none_or(|ack| !reached(ack.matched)))
        {
            leading.pending = None;
        }
        if leading.pending.is_none() {
            let change = lost.map(|member| SetChange::Remove(*member)).or_else(|| {
                let near = |member: &Member, ack: &Ack| {
                    let near = ack.matched.0 + options.join_records_max >= end.0 && reached(ack.matched);
                    near && !silent(*member, Instant::default()) && !lacks(member) && !slow(member)
                };
                leading.fresh().find(|(member, ack)| near(member, ack)).map(|(member, _)| SetChange::Add(member))
            });
            leading.pending = change.map(|change| Pending { change, version: None, asked: now });
        }
        let proposed = leading.pending.is_some_and(|pending| pending.version.is_some());
        if proposed || leading.ready_to_propose(committed, cut, options) {
            let version = leading.version;
            let pending = leading.pending.as_mut().expect("it is ready or proposed");
            if pending.version.is_none() {
                pending.asked = now;
            }
            let version = *pending.version.get_or_insert(version);
            if let SetChange::Remove(member) = pending.change
                && options.has(Planted::EarlyRemoval)
            {
                leading.members.remove(&member);
            }
            effects.push(Effect::Propose { reign: leading.reign, version, change: pending.change });
        }
    }

    // ---- frames of followers in the region

    /// Whether what this life of a replica says of itself counts: once a later one has spoken, it does not. What a later
    /// one says is the first word of a follower that has acknowledged nothing.
    pub(crate) fn hears(&mut self, from: Member, life: Life) -> bool {
        if self.options.has(Planted::OldLives) {
            return true;
        }
        let Some(leading) = self.leading() else { return false };
        let newest = leading.lives.entry(from.node).or_insert((from.incarnation, life));
        let before = *newest;
        *newest = before.max((from.incarnation, life));
        if before < *newest
            && let Some(feed) = leading.feeds.get_mut(&from.node)
        {
            feed.forget();
        }
        (from.incarnation, life) == *newest
    }

    /// Who asks for a copy holds nothing, whether or not its own word of that is heard.
    pub(crate) fn on_copy_asked(&mut self, now: Instant, by: Member, life: Life, effects: &mut Vec<Effect>) {
        if self.repair.is_some() || self.options.has(Planted::OldLives) || !self.hears(by, life) {
            return;
        }
        let known = self.leading().and_then(|leading| leading.feeds.get(&by.node)).and_then(|feed| feed.lacks);
        if known != Some(by) {
            self.on_follower_differ(now, by, (&Lineage::new(), Lsn::ZERO, MISSING), effects);
        }
    }

    pub(crate) fn on_follower_differ(
        &mut self,
        now: Instant,
        from: Member,
        (lineage, end, trimmed): (&Lineage, Lsn, Lsn),
        effects: &mut Vec<Effect>,
    ) {
        let common = self.log.lineage.common_point(self.log.end, lineage, end);
        let begin = self.fed_from(end, self.log.end);
        let must_change = end > common || common < begin.max(trimmed);
        let Some(feed) = self.leading().and_then(|leading| leading.feeds.get_mut(&from.node)) else { return };
        feed.resume_member(from, common, now);
        if common < begin.max(trimmed) {
            // What it has acknowledged before, perhaps as a replica that was found to be damaged since, it has no longer.
            (feed.lacks, feed.ack) = (Some(from), Ack::default());
        }
        if trimmed == MISSING {
            // It has drawn its conclusion already.
            feed.suspend();
        } else if must_change {
            feed.suspend();
            self.send_resume(from.node, begin, effects);
        }
    }

    fn send_resume(&self, to: NodeId, begin: Lsn, effects: &mut Vec<Effect>) {
        let Office::Leading(leading) = &self.office else { return };
        let resume = Resume {
            lineage: self.log.lineage.clone(),
            end: self.log.end,
            trimmed: begin,
            promotions: vec![],
            relay: false,
        };
        let (stream, message) = (leading.stream_to(to), Message::Resume(resume));
        let frame = Frame { partition: self.id, from: self.me, life: self.life, stream, message };
        effects.push(Effect::Send { to, frame });
    }

    pub(crate) fn on_follower_ack(&mut self, now: Instant, from: Member, ack: Ack) {
        let end = self.log.end;
        let Some(leading) = self.leading() else { return };
        // What was never sent cannot be held: it counts for nothing, and its sender is waited for.
        if ack.matched > end || ack.position > ack.matched || ack.durable > ack.matched {
            return;
        }
        if let Some(feed) = leading.feeds.get_mut(&from.node) {
            feed.acknowledge(Some(from), ack, now);
        }
    }

    pub(crate) fn on_peer_up(&mut self, now: Instant, node: NodeId) {
        if let Some(feed) = self.leading().and_then(|leading| leading.feeds.get_mut(&node)) {
            feed.reconnected(now);
        }
    }

    pub(crate) fn resend(&mut self, now: Instant, leases: &Leases) {
        let options = self.options.clone();
        let Some(leading) = self.leading() else { return };
        leading.feeds.values_mut().for_each(|feed| feed.resend(options.resend_after, now));
        leading.sinks.values_mut().for_each(|feed| feed.resend(options.sink_resend_after, now));
        // A process that started since has acknowledged nothing; the first frame may have come before it could take it.
        let silent = |node: &NodeId, feed: &Feed| feed.member.is_none() || leases.newest(*node) > feed.member;
        for (node, feed) in &mut leading.feeds {
            if silent(node, feed) || !feed.is_acknowledged() {
                feed.retell();
            }
        }
        leading.sinks.values_mut().filter(|feed| !feed.is_acknowledged()).for_each(Feed::retell);
    }

    // ---- sending

    pub(crate) fn feed_all(&mut self, now: Instant, leases: &Leases, effects: &mut Vec<Effect>) {
        self.feed_secondaries(effects);
        self.feed_sinks(now, leases, effects);
    }

    fn feed_secondaries(&mut self, effects: &mut Vec<Effect>) {
        let (committed, mark) = (self.cursors.committed, (self.mark.lsn, self.mark.ts));
        let nodes: Vec<NodeId> = match &self.office {
            Office::Leading(leading) => leading.feeds.keys().copied().collect(),
            _ => return,
        };
        let long = self.fed_from(Lsn::ZERO, self.log.end);
        for node in nodes {
            loop {
                let Office::Leading(leading) = &mut self.office else { return };
                let feed = leading.feeds.get_mut(&node).expect("its key was just read");
                // One that was restarted on its way to a copy may have taken the frame before the first record.
                let begin = if feed.prev() == Lsn::ZERO { long } else { self.log.trimmed };
                if feed.passed_by(begin) {
                    self.send_resume(node, begin, effects);
                    break;
                }
                let prev = feed.prev();
                let records = feed.next(&self.log, self.log.end, &self.options, effects);
                // A mark is taken only by a log that reaches it.
                let before = feed.told.map_or(types::Timestamp::ZERO, |(_, ts)| ts);
                let told = (committed, if feed.prev() >= mark.0 { mark.1 } else { before });
                if records.is_none() && feed.told == Some(told) {
                    break;
                }
                feed.told = Some(told);
                let more = records.is_some();
                self.send_append(node, prev, records.unwrap_or_default(), effects);
                if !more {
                    break;
                }
            }
        }
    }

    fn send_append(&mut self, node: NodeId, prev: Lsn, records: Vec<types::Record>, effects: &mut Vec<Effect>) {
        let (Office::Leading(leading), Some(view)) = (&self.office, &self.view) else { return };
        let append = Append {
            prev,
            prev_epoch: self.log.epoch_at(prev),
            records,
            committed: self.cursors.committed,
            mark: self.mark_for_members(),
            reign_revision: view.reign_revision,
            losses: view.losses,
            sink: leading.upstream.is_some(),
        };
        let (stream, message) = (leading.stream_to(node), Message::Append(append));
        let frame = Frame { partition: self.id, from: self.me, life: self.life, stream, message };
        effects.push(Effect::Send { to: node, frame });
    }

    pub(crate) fn feed_read(
        &mut self,
        now: Instant,
        id: FeedId,
        records: Vec<types::Record>,
        effects: &mut Vec<Effect>,
    ) {
        let may_leave = self.may_leave(now, id);
        let Office::Leading(leading) = &mut self.office else { return };
        let feed = match id {
            FeedId::Secondary(node) => leading.feeds.get_mut(&node),
            FeedId::Sink(number) => leading.sinks.get_mut(&number),
        };
        let Some(feed) = feed else { return };
        let prev = feed.prev();
        if let Some(records) = feed.read(&self.log, if may_leave { records } else { vec![] }) {
            match id {
                FeedId::Secondary(node) => self.send_append(node, prev, records, effects),
                FeedId::Sink(number) => self.send_to_sink(number, prev, records, effects),
            }
        }
    }
}

impl Leading {
    /// Processes that acknowledge and whose node is not in the set.
    fn fresh(&self) -> impl Iterator<Item = (Member, Ack)> {
        let inside: BTreeSet<NodeId> = self.members.iter().map(|member| member.node).collect();
        self.feeds
            .values()
            .filter_map(|feed| Some((feed.member?, feed.ack)))
            .filter(move |(member, _)| !inside.contains(&member.node))
    }

    fn ready_to_propose(&self, committed: Lsn, cut: Timestamp, options: &ReplicaOptions) -> bool {
        // What was safe in an earlier reign has left the region, too: that may be all that this one began with.
        let safe = if options.has(Planted::ReignForgets) { self.safe } else { self.safe.max(self.start) };
        match self.pending {
            Some(Pending { change: SetChange::Remove(_), .. }) => true,
            Some(Pending { change: SetChange::Add(member), .. }) => self.ack(member).is_some_and(|ack| {
                self.confirmed
                    && ack.position >= committed
                    && committed >= self.start
                    && ack.mark >= cut
                    && (ack.durable >= safe || options.has(Planted::CandidateNotDurable))
            }),
            None => false,
        }
    }
}
