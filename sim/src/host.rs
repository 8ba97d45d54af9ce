//! The host of a replica: hands it inputs, executes its effects on the virtual disk and network.

use catalog::command::BreakLink;
use replication::{Answer, Effect, Input, Instant, Note, Refusal, Ticket, TxnRequest};
use types::entry::{Entry, Intent};
use types::{Body, Lsn, PartitionId, Record, StartKind};

use crate::copy::{Copying, Origin};
use crate::disk::{Aside, Op, kept_of};
use crate::node::{Rewind, RewindStep};
use crate::options::{Keep, MILLI, Planted};
use crate::say;
use crate::world::{Event, Local, Packet, Place, World};

impl World {
    /// One input to one replica, and what follows.
    pub fn feed(&mut self, index: usize, id: PartitionId, input: Input) {
        let now = self.nodes[index].clock(self.now);
        let Some(process) = &mut self.nodes[index].process else { return };
        let Some(hosted) = process.hosted.get_mut(&id) else { return };
        // Its task waits for the disk, which makes a copy the replica; what the disk says is heard.
        if hosted.copying.as_ref().is_some_and(Copying::is_taken) && !matches!(input, Input::Durable { .. }) {
            return hosted.held.push(input);
        }
        let before = hosted.replica.cursors().committed;
        let mut effects = vec![];
        hosted.replica.step(now, input, &mut process.leases, &mut effects);
        let after = hosted.replica.cursors().committed;
        if after > before {
            self.on_commit_advanced(index, id, before, after);
        }
        for effect in effects {
            self.execute(index, id, effect);
        }
        self.check_replica(index, id);
    }

    pub(crate) fn on_local(&mut self, index: usize, local: Local) {
        match local {
            Local::Tick => self.on_tick(index),
            Local::Packet(from, packet) => self.on_packet(index, from, packet),
            Local::Write => self.on_write(index),
            Local::Synced { ends } => {
                for (id, (end, notes)) in ends {
                    let before = self.nodes[index].hosted(id).map_or(0, |hosted| hosted.notes_before);
                    self.feed(index, id, Input::Durable { end, notes: notes.saturating_sub(before) });
                    self.advance_rewind(index, id);
                    self.advance_copy(index, id);
                }
                self.send_log_ends(index);
            }
            Local::SyncFailed => self.on_sync_failed(index),
            Local::Apply(id) => self.on_apply(index, id),
            Local::Rewind(id) => self.on_rewind(index, id),
            Local::Copy(id, number) => self.on_copy(index, id, number),
            Local::Flush => self.on_flush(index),
            Local::LogRead(id) => self.on_log_read(index, id),
            Local::Prepared(id, reign) => {
                let Some(hosted) = self.nodes[index].hosted(id) else { return };
                let open = hosted.state.open(&hosted.log.summary.lineage);
                self.feed(index, id, Input::Prepared { reign, open });
            }
            Local::Lookup(id, reign, txn) => {
                let Some(hosted) = self.nodes[index].hosted(id) else { return };
                let outcome = hosted.state.outcome(txn, &hosted.log.summary.lineage);
                self.feed(index, id, Input::Outcome { reign, txn, outcome });
            }
            Local::Closed(peer) => self.on_closed(index, peer),
            Local::Connected(peer) => self.peer_up(index, Place::Node(peer)),
            Local::TakeValue(read) => self.on_take_value(index, read),
            Local::AnswerRead(read) => self.on_answer_read(index, read),
            Local::Session(id, input) => self.feed(index, id, input),
        }
    }

    fn on_packet(&mut self, index: usize, from: Place, packet: Packet) {
        let now = self.nodes[index].clock(self.now);
        let here = Place::Node(index);
        let process = self.nodes[index].process.as_mut().expect("only a process that runs receives");
        let me = process.me;
        match packet {
            Packet::Frame(frame) => self.feed(index, frame.partition, Input::Frame(frame)),
            Packet::Beat(beat) => {
                let (granted, _) = process.leases.on_heartbeat(now, &beat);
                self.send(here, from, Packet::Granted(granted));
            }
            Packet::Granted(granted) => process.leases.on_granted(now, &granted),
            Packet::Connect(_) => {
                self.send(here, from, Packet::Hello(me));
                self.peer_up(index, from);
            }
            Packet::Hello(member) => {
                process.leases.note(now, member);
                self.peer_up(index, from);
            }
            Packet::Refused(probe) => process.leases.on_refused(probe),
            Packet::Catalog { to, sent, revision, views, gone, finals, removals } if to == me => {
                gone.into_iter().for_each(|member| process.leases.mark_gone(member));
                self.place(index, revision, &views, &removals);
                for view in views {
                    self.heed(index, &view);
                    self.feed(index, view.partition, Input::View { view, sent });
                }
                for (id, ts) in finals {
                    self.feed(index, id, Input::Final { ts });
                }
                if let Some(process) = &mut self.nodes[index].process {
                    process.leases.obeyed(revision);
                }
            }
            Packet::LogEndWanted { to, partition } if to == me => {
                let after = self.nodes[index].journal.appended;
                let process = self.nodes[index].process.as_mut().expect("it was there above");
                process.reports.insert(partition, after);
                self.send_log_ends(index);
            }
            Packet::Timestamps { to, partition, request, first, count } if to == me => {
                let Some(hosted) = process.hosted.get_mut(&partition) else { return };
                if hosted.timestamps.remove(&request).is_some() {
                    self.feed(index, partition, Input::Timestamps { request, first, count });
                }
            }
            Packet::Publish { ts } => {
                let ids: Vec<PartitionId> = process.hosted.keys().copied().collect();
                ids.into_iter().for_each(|id| self.feed(index, id, Input::Publish { ts }));
            }
            Packet::Request { request: TxnRequest::Lock { .. }, .. } if self.is_full(index) => {}
            Packet::Request { partition, ticket, request } => self.on_request(index, partition, ticket, request),
            Packet::Cancel { partition, ticket } => self.feed(index, partition, Input::Cancel { ticket }),
            Packet::ToSource { session, message } => self.on_to_source(index, session, message),
            Packet::ToSink { session, message } => self.on_to_sink(index, session, message),
            _ => {}
        }
    }

    /// A request of a coordinator. One for locks that has waited, in a process that stood still, may come after the
    /// Rollback of its transaction: its session has ended, and nobody would ever give the locks back.
    fn on_request(&mut self, index: usize, partition: PartitionId, ticket: Ticket, request: TxnRequest) {
        let process = self.nodes[index].process.as_mut().expect("only a process that runs receives");
        match &request {
            TxnRequest::Rollback { txn } => {
                process.rolled_back.insert(*txn);
            }
            TxnRequest::Lock { txn, .. } if process.rolled_back.contains(txn) => {
                return self.on_answer(index, partition, ticket, Answer::Refused(Refusal::Ended));
            }
            _ => {}
        }
        self.feed(index, partition, Input::Txn { ticket, request });
    }

    fn peer_up(&mut self, index: usize, from: Place) {
        let Place::Node(peer) = from else { return };
        let node = self.nodes[peer].id;
        let ids: Vec<PartitionId> = self.nodes[index].disks.keys().copied().collect();
        ids.into_iter().for_each(|id| self.feed(index, id, Input::PeerUp { node }));
    }

    /// The catalog asked where logs end: it is told when everything appended until then is synced.
    fn send_log_ends(&mut self, index: usize) {
        let durable = self.nodes[index].journal.durable;
        let by_lsn = self.options.has(Planted::LongestByLsn);
        let (region, powered_since) = (self.nodes[index].region, self.nodes[index].powered_since);
        let Some(process) = &mut self.nodes[index].process else { return };
        let from = process.me;
        let due: Vec<PartitionId> =
            process.reports.iter().filter(|(_, after)| **after <= durable).map(|(id, _)| *id).collect();
        for partition in due {
            let process = self.nodes[index].process.as_mut().expect("it was there above");
            process.reports.remove(&partition);
            let Some(hosted) = process.hosted.get(&partition) else { continue };
            let mut end = hosted.replica.log_end();
            end.epoch_number = if by_lsn { 0 } else { end.epoch_number };
            let epochs = if by_lsn { vec![end] } else { hosted.replica.epoch_ends() };
            let mark = hosted.log.summary.mark.clone().unwrap_or_default();
            // What a log holds that is going to be replaced by a copy says nothing.
            let copied = hosted.replica.status().installing;
            let whole = !copied && !self.options.has(Planted::KillIsPowerLoss);
            let known = if self.options.has(Planted::PowerUnnoticed) { Default::default() } else { powered_since };
            let powered_since = if whole { known } else { from.incarnation };
            let packet = Packet::LogEnd { from, partition, end, epochs, mark, powered_since };
            self.send(Place::Node(index), Place::Catalog(region), packet);
        }
    }

    // ---- effects

    pub(crate) fn execute(&mut self, index: usize, id: PartitionId, effect: Effect) {
        let here = Place::Node(index);
        let region = self.nodes[index].region;
        match effect {
            Effect::Append(records) => records.into_iter().for_each(|record| self.append_record(index, id, record)),
            Effect::Note(note) => self.append_note(index, id, note),
            Effect::Read { feed, from, to, bytes_max } => {
                let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
                hosted.reads.push_back((feed, from, to, bytes_max));
                let delay = self.between(50, 3000);
                self.later(index, delay * 1000, Local::LogRead(id));
            }
            Effect::Send { to, frame } => {
                say!(self, "{} to n{to} {id} {}", self.label(index), frame.message);
                self.check_frame(index, id, &frame);
                let to = Place::Node(self.node_of(region, to));
                self.send(here, to, Packet::Frame(frame));
            }
            Effect::ToSink { feed, message } => self.deliver_to_sink(index, id, feed, message),
            Effect::ToSource { link, message } => self.deliver_to_source(index, id, link, message),
            Effect::Apply { to } => self.begin_apply(index, id, to),
            Effect::Rewind { to, lineage } => self.begin_rewind(index, id, to, lineage),
            Effect::Install { link, primary, common } => {
                if let Some(origin) = link.map(Origin::Source).or(primary.map(Origin::Primary)) {
                    self.begin_copy(index, id, origin, common);
                }
            }
            Effect::StopCopy => self.stop_copy(index, id),
            Effect::Timestamps { request, count } => {
                let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
                hosted.timestamps.insert(request, count);
                self.ask_timestamps(index, id);
            }
            Effect::Prepared { reign } => self.later(index, 100_000, Local::Prepared(id, reign)),
            Effect::Lookup { reign, txn } => {
                let delay = self.between(10, 2000);
                self.later(index, delay * 1000, Local::Lookup(id, reign, txn));
            }
            Effect::Inquire { txn, first, history } => self.inquire(index, id, (txn, history), first),
            Effect::Propose { reign, version, change } => {
                say!(self, "{} {id} proposes {change:?} to version {version}", self.label(index));
                let packet = Packet::Propose { partition: id, reign, version, change };
                self.send(here, Place::Catalog(region), packet);
            }
            Effect::Learn { link, promotions, relay } => {
                let packet = Packet::Learn { partition: id, link, promotions, relay };
                self.send(here, Place::Catalog(region), packet);
            }
            Effect::Break { link, reign, version, reason } => {
                let lost = BreakLink { partition: id, reign, version, link, reason };
                self.send(here, Place::Catalog(region), Packet::Break(lost));
            }
            Effect::Answer { ticket, answer } => self.on_answer(index, id, ticket, answer),
            Effect::Halt { .. } if self.nodes[index].process.as_ref().is_some_and(|process| process.log_failed) => {}
            Effect::Halt { reason } => {
                self.fail("halt", format!("{} {id} halts: {reason}", self.label(index)));
            }
        }
    }

    fn append_record(&mut self, index: usize, id: PartitionId, record: Record) {
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        let prev = hosted.log.summary.lineage.epoch_at(hosted.log.end()).filter(|_| hosted.log.end() > Lsn::ZERO);
        let (minted, notes) = (hosted.replica.mints() == Some(record.epoch), hosted.notes);
        hosted.log.apply(&Entry::Record(record.clone()));
        self.check_record(index, id, prev, &record, minted);
        if minted && matches!(record.body, Body::EpochStart { .. }) {
            self.strike_fresh(index);
        }
        self.journal(index, Op { partition: id, entry: Entry::Record(record), notes });
    }

    fn append_note(&mut self, index: usize, id: PartitionId, note: Note) {
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        hosted.notes += 1;
        let notes = hosted.notes;
        let made = hosted.replica.mints().is_some();
        if let (true, Note::Mark(mark)) = (made, &note) {
            let known = self.checks.between.published.entry((id.ordinal, mark.promotions.clone())).or_default();
            *known = (*known).max(mark.ts);
        }
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        let entry = match note {
            Note::Promise(reign) => Entry::Promise { reign },
            Note::Mark(mark) => Entry::Mark(mark),
        };
        hosted.log.apply(&entry);
        self.journal(index, Op { partition: id, entry, notes });
    }

    /// Appends an entry that the host makes itself.
    pub(crate) fn append_entry(&mut self, index: usize, id: PartitionId, entry: Entry) {
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        let notes = hosted.notes;
        hosted.log.apply(&entry);
        self.journal(index, Op { partition: id, entry, notes });
    }

    // ---- the journal

    fn journal(&mut self, index: usize, op: Op) {
        self.nodes[index].journal.append(op);
        let process = self.nodes[index].process.as_mut().expect("only a process that runs appends");
        if !std::mem::replace(&mut process.writing, true) {
            let delay = self.between(20, 800);
            self.later(index, delay * 1000, Local::Write);
        }
    }

    fn on_write(&mut self, index: usize) {
        if let Some(left) = self.stalled(index) {
            return self.later(index, left, Local::Write);
        }
        let node = &mut self.nodes[index];
        let mut ends: Vec<(PartitionId, Lsn)> = vec![];
        for op in node.journal.write() {
            if let Entry::Record(record) = &op.entry {
                ends.retain(|(id, _)| *id != op.partition);
                ends.push((op.partition, record.lsn));
            }
        }
        let process = node.process.as_mut().expect("only a process that runs writes");
        process.writing = false;
        self.sync_journal(index);
        for (id, end) in ends {
            self.feed(index, id, Input::Written { end });
        }
    }

    /// A sync takes a while and covers what was written before it began; one at a time.
    fn sync_journal(&mut self, index: usize) {
        let most = self.options.sync_max;
        let millis = self.pick(&[0, 1, 3, 10, most]);
        let node = &mut self.nodes[index];
        let (start, millis) = (node.starts, millis.max(node.sync_min));
        let Some(process) = &mut node.process else { return };
        if process.syncing.is_some() || node.journal.written == node.journal.durable {
            return;
        }
        process.syncing = Some(node.journal.written);
        let to = node.journal.written;
        let delay = self.between(100, 900) * 1000 + millis * MILLI;
        self.after(delay, Event::Disk(index, start, to));
    }

    /// The disk's word. The machine does it whether or not the process stands still.
    pub(crate) fn on_disk(&mut self, index: usize, start: u64, to: u64) {
        let node = &mut self.nodes[index];
        if node.starts != start || node.process.is_none() {
            return;
        }
        if self.fails_to_sync(index, to) {
            return;
        }
        let node = &mut self.nodes[index];
        let mut ends = std::collections::BTreeMap::new();
        for op in node.journal.sync(to) {
            // What was on its way of a copy that was deleted is of nobody.
            let Some(disk) = node.disks.get_mut(&op.partition) else { continue };
            disk.take(&op.entry);
            ends.insert(op.partition, (disk.log.end(), op.notes));
        }
        if let Some(process) = &mut node.process {
            process.syncing = None;
        }
        self.sync_journal(index);
        self.later(index, 0, Local::Synced { ends });
    }

    // ---- the state

    fn begin_apply(&mut self, index: usize, id: PartitionId, to: Lsn) {
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        hosted.apply_to = hosted.apply_to.max(to);
        if !std::mem::replace(&mut hosted.applying, true) {
            let delay = self.pick(&[20, 100, 100, 1000, 4000]);
            self.later(index, delay * 1000, Local::Apply(id));
        }
    }

    fn on_apply(&mut self, index: usize, id: PartitionId) {
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        hosted.applying = false;
        if hosted.rewind.is_some() || hosted.copying.is_some() {
            return;
        }
        let to = hosted.apply_to.min(hosted.log.end());
        while let Some(hosted) = self.nodes[index].hosted_mut(id) {
            let next = hosted.state.applied.next();
            if next > to {
                break;
            }
            let record =
                hosted.log.record(next).cloned().unwrap_or_else(|| panic!("{id} has no record {next} to apply"));
            if let Body::EpochStart { start_ts, kind: StartKind::Promotion { cut, .. } } = record.body {
                self.set_aside_dead(index, id, cut, start_ts, next);
                if self.options.has(Planted::PrefixCut) {
                    let hosted = self.nodes[index].hosted_mut(id).expect("it was there above");
                    hosted.state.cut_prefix(cut);
                }
            }
            let hosted = self.nodes[index].hosted_mut(id).expect("it was there above");
            hosted.state.apply(&record);
            self.on_applied_record(index, id, &record);
        }
        self.feed(index, id, Input::Applied { lsn: to });
    }

    /// What a promotion declares dead, and what it aborts, is set aside before it is applied.
    fn set_aside_dead(
        &mut self,
        index: usize,
        id: PartitionId,
        cut: types::Timestamp,
        start_ts: types::Timestamp,
        start: Lsn,
    ) {
        let commits_only = self.options.has(Planted::AsideCommitsOnly);
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        // The log may be trimmed above them: the state knows whose they were.
        let dead = hosted.state.dead(cut, start_ts, start);
        let mut aside: Vec<Aside> = dead.into_iter().map(|txn| Aside { txn, ordinal: id.ordinal }).collect();
        if !commits_only {
            let open = hosted.state.open(&hosted.log.summary.lineage);
            aside.extend(open.into_iter().map(|prepared| Aside { txn: prepared.txn, ordinal: id.ordinal }));
        }
        self.nodes[index].disks.entry(id).or_default().aside.extend(aside);
    }

    /// Memtables are flushed when it suits the process, but never before the log is synced past them.
    fn on_flush(&mut self, index: usize) {
        let delay = self.between(10, 80);
        self.later(index, delay * MILLI, Local::Flush);
        let ids: Vec<PartitionId> = self.nodes[index].disks.keys().copied().collect();
        for id in ids {
            if self.rng_bool(3) {
                self.flush(index, id);
            }
            if self.options.keep != Keep::All && self.rng_bool(3) {
                self.trim(index, id);
            }
        }
    }

    fn rng_bool(&mut self, one_in: u64) -> bool {
        self.between(1, one_in) == 1
    }

    /// Writes the state's image, if the log is durable up to it.
    fn flush(&mut self, index: usize, id: PartitionId) {
        let unsynced = self.options.has_replica(replication::Planted::FlushBeforeSync);
        let node = &mut self.nodes[index];
        let Some(hosted) = node.process.as_ref().and_then(|process| process.hosted.get(&id)) else { return };
        let Some(disk) = node.disks.get_mut(&id) else { return };
        if hosted.copying.is_some() || disk.rotten || hosted.state.applied > disk.log.end() && !unsynced {
            return;
        }
        disk.state = hosted.state.map.clone();
        disk.flushed = hosted.state.applied;
    }

    // ---- reads of the log

    fn on_log_read(&mut self, index: usize, id: PartitionId) {
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        let Some((feed, from, to, bytes_max)) = hosted.reads.pop_front() else { return };
        let mut bytes = 0;
        let mut records = vec![];
        let mut at = from;
        while let Some(record) = hosted.log.record(at).filter(|record| record.lsn <= to) {
            bytes += record.size();
            if bytes > bytes_max && !records.is_empty() {
                break;
            }
            records.push(record.clone());
            at = at.next();
        }
        self.feed(index, id, Input::LogRead { feed, records });
    }

    // ---- the six steps of a rewind

    fn begin_rewind(&mut self, index: usize, id: PartitionId, to: Lsn, lineage: types::Lineage) {
        say!(self, "{} {id} rewinds to {to}", self.label(index));
        self.check_rewind(index, id, to);
        self.append_entry(index, id, Entry::Intent(Intent { to, lineage }));
        let after = self.nodes[index].journal.appended;
        if let Some(hosted) = self.nodes[index].hosted_mut(id) {
            hosted.rewind = Some(Rewind { to, step: RewindStep::Intent, after });
        }
    }

    /// The journal is synced further: a rewind that waited for it goes on.
    fn advance_rewind(&mut self, index: usize, id: PartitionId) {
        let durable = self.nodes[index].journal.durable;
        let Some(rewind) = self.nodes[index].hosted(id).and_then(|hosted| hosted.rewind.clone()) else { return };
        let next = match rewind.step {
            RewindStep::Intent => RewindStep::SetAside,
            RewindStep::Clear => RewindStep::Clear,
            RewindStep::Done => RewindStep::Done,
            _ => return,
        };
        if rewind.after <= durable {
            if let Some(hosted) = self.nodes[index].hosted_mut(id) {
                hosted.rewind = Some(Rewind { step: next, ..rewind });
            }
            let delay = self.between(10, 3000);
            self.later(index, delay * 1000, Local::Rewind(id));
        }
    }

    fn on_rewind(&mut self, index: usize, id: PartitionId) {
        if self.options.has(Planted::RewindNeedsSource) && self.is_severed(self.nodes[index].region) {
            return;
        }
        let durable = self.nodes[index].journal.durable;
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        let Some(Rewind { to, step, after }) = hosted.rewind.clone() else { return };
        if after > durable && matches!(step, RewindStep::Clear | RewindStep::Done) {
            return;
        }
        let next = match step {
            RewindStep::Intent => return,
            RewindStep::SetAside => {
                self.set_aside_undone(index, id, to);
                RewindStep::Undo
            }
            RewindStep::Undo => {
                if self.undo_some(index, id, to) {
                    RewindStep::Flush
                } else {
                    RewindStep::Undo
                }
            }
            RewindStep::Flush => {
                self.flush(index, id);
                RewindStep::Cut
            }
            RewindStep::Cut => {
                self.append_entry(index, id, Entry::Cut { to });
                if self.options.has(Planted::RewindUnsynced) {
                    self.append_entry(index, id, Entry::IntentCleared);
                    return self.end_rewind(index, id, to);
                }
                RewindStep::Clear
            }
            RewindStep::Clear => {
                self.append_entry(index, id, Entry::IntentCleared);
                RewindStep::Done
            }
            RewindStep::Done => return self.end_rewind(index, id, to),
        };
        let waits = matches!(next, RewindStep::Clear | RewindStep::Done);
        let after = if waits { self.nodes[index].journal.appended } else { 0 };
        if let Some(hosted) = self.nodes[index].hosted_mut(id) {
            hosted.rewind = Some(Rewind { to, step: next, after });
        }
        if !waits {
            let delay = self.between(10, 3000);
            self.later(index, delay * 1000, Local::Rewind(id));
        }
    }

    /// The divergence file: commits and prepared rows above `to`.
    pub(crate) fn set_aside_undone(&mut self, index: usize, id: PartitionId, to: Lsn) {
        let commits_only = self.options.has(Planted::AsideCommitsOnly);
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let undone = hosted.log.records.iter().filter(|record| record.lsn > to).filter_map(kept_of);
        let aside: Vec<Aside> = undone
            .filter(|(_, ts)| ts.is_some() || !commits_only)
            .map(|(txn, _)| Aside { txn, ordinal: id.ordinal })
            .collect();
        self.nodes[index].disks.entry(id).or_default().aside.extend(aside);
    }

    /// Walks back a little. True when nothing above `to` is in the state. A flush may come between.
    fn undo_some(&mut self, index: usize, id: PartitionId, to: Lsn) -> bool {
        let (count, leaks) = (self.between(1, 20), self.options.has(Planted::UndoLeaks));
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return false };
        for _ in 0..count {
            if hosted.state.applied <= to {
                break;
            }
            let at = hosted.state.applied;
            let record = hosted.log.record(at).cloned().unwrap_or_else(|| panic!("{id} has no record {at} to undo"));
            if leaks {
                hosted.state.applied = at.prev();
            } else {
                hosted.state.undo(&record);
            }
        }
        let over = hosted.state.applied <= to;
        hosted.apply_to = hosted.apply_to.min(hosted.state.applied);
        if self.rng_bool(2) {
            self.flush(index, id);
        }
        over
    }

    fn end_rewind(&mut self, index: usize, id: PartitionId, to: Lsn) {
        while self.nodes[index].hosted(id).is_some_and(|hosted| !hosted.reads.is_empty()) {
            self.on_log_read(index, id);
        }
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        hosted.rewind = None;
        hosted.apply_to = hosted.state.applied;
        say!(self, "{} {id} has rewound to {to}", self.label(index));
        self.check_state(index, id);
        self.feed(index, id, Input::Rewound { to });
    }

    /// A node's clock, for checks.
    pub fn clock(&self, index: usize) -> Instant {
        self.nodes[index].clock(self.now)
    }
}
