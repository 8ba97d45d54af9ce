//! Feeding one follower from this log: a secondary of the region or a sink in another one.
//!
//! The feeder sends records after what it has sent, up to a limit that its owner states (the log's end in a region,
//! `safe` between regions), within a window of unacknowledged bytes. If nothing is acknowledged for `resend_after`, it
//! starts again after the last acknowledged record: frames may be lost with a connection, and doubled ones are harmless.

use std::collections::VecDeque;
use std::time::Duration;

use types::{Lsn, Member, Record, Timestamp};

use crate::log::Log;
use crate::{Ack, Effect, FeedId, Instant, ReplicaOptions};

/// How far one follower is.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    pub id: FeedId,
    /// The process that acknowledged last.
    pub member: Option<Member>,
    pub ack: Ack,
    /// Where the feed began: the follower may have this, though it has not said so yet.
    base: Lsn,
    /// Records up to here were sent.
    sent: Lsn,
    sent_bytes: VecDeque<(Lsn, usize)>,
    in_flight: usize,
    reading: bool,
    progress: Instant,
    pub heard: Instant,
    /// The committed position and mark that the follower was told last.
    pub told: Option<(Lsn, Timestamp)>,
    /// The follower must compare logs before it is sent records.
    pub suspended: bool,
    /// Since when it is fed.
    pub born: Instant,
    /// The process that has said that it needs a copy: records do not bring it along.
    pub lacks: Option<Member>,
    /// Where the log ended, and when, at a moment after which the follower has not got up to there on its disk.
    behind: Option<(Lsn, Instant)>,
}

impl Feed {
    pub fn new(id: FeedId, from: Lsn, now: Instant) -> Feed {
        Feed {
            id,
            member: None,
            ack: Ack::default(),
            base: from,
            sent: from,
            sent_bytes: VecDeque::new(),
            in_flight: 0,
            reading: false,
            progress: now,
            heard: now,
            told: None,
            suspended: false,
            born: now,
            lacks: None,
            behind: None,
        }
    }

    /// Looks whether the follower has got on its disk what the log held a while ago.
    pub fn watch(&mut self, end: Lsn, now: Instant) {
        if self.behind.is_none_or(|(then, _)| self.ack.durable >= then) {
            self.behind = (self.ack.durable < end).then_some((end, now));
        }
    }

    /// Whether something has been missing on the follower's disk for longer than this.
    pub fn is_slow(&self, limit: Duration, now: Instant) -> bool {
        self.behind.is_some_and(|(_, since)| now.since(since) > limit)
    }

    /// The same follower, of whom nothing is known but since when it is fed and held up.
    fn anew(&self, from: Lsn, now: Instant) -> Feed {
        Feed { born: self.born, behind: self.behind, ..Feed::new(self.id, from, now) }
    }

    /// Goes on after the common point. What this process has acknowledged under this stream stays true: only its
    /// words may come out of order.
    pub fn resume_member(&mut self, member: Member, from: Lsn, now: Instant) {
        let ack = if self.member == Some(member) { self.ack } else { Ack::default() };
        *self = Feed { member: self.member, ack, ..self.anew(from, now) };
    }

    /// Goes on after the common point, with a follower whose log may have become shorter.
    pub fn resume(&mut self, from: Lsn, now: Instant) {
        *self = Feed { member: self.member, ..self.anew(from, now) };
    }

    /// The follower was taken out of the set, perhaps because its replica was found to be damaged: nothing that it has
    /// acknowledged counts before it has answered again. It is asked until it does.
    pub fn ask_anew(&mut self, now: Instant) {
        let from = self.base.max(self.ack.matched);
        *self = Feed { suspended: self.suspended, lacks: self.lacks, ..self.anew(from, now) };
    }

    /// The follower's replica was opened anew: what was acknowledged before is not known to be there.
    pub fn forget(&mut self) {
        (self.member, self.ack, self.lacks) = (None, Ack::default(), None);
    }

    /// Counts an acknowledgement. A new process of the same node starts from nothing.
    pub fn acknowledge(&mut self, member: Option<Member>, ack: Ack, now: Instant) {
        if self.member != member {
            self.member = member;
            self.ack = Ack::default();
        }
        if ack.matched > self.ack.matched {
            self.progress = now;
        }
        self.heard = now;
        self.suspended = false;
        self.lacks = None;
        self.ack = Ack {
            matched: self.ack.matched.max(ack.matched),
            position: self.ack.position.max(ack.position),
            durable: self.ack.durable.max(ack.durable),
            mark: self.ack.mark.max(ack.mark),
        };
        self.sent = self.sent.max(ack.matched);
        let acknowledged = self.sent_bytes.partition_point(|(lsn, _)| *lsn <= ack.matched);
        self.in_flight -= self.sent_bytes.drain(..acknowledged).map(|(_, bytes)| bytes).sum::<usize>();
    }

    /// Starts again after the last acknowledged record, if that is due.
    pub fn resend(&mut self, after: Duration, now: Instant) {
        if self.sent > self.ack.matched && now.since(self.progress) >= after && !self.reading {
            self.resume_after(self.ack.matched.max(self.base), now);
        }
    }

    /// The log is another one: the follower must compare before it is fed.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// Suspends the feed if what it needs next is gone from the log; the follower must then be told.
    pub fn passed_by(&mut self, trimmed: Lsn) -> bool {
        let passed = !self.suspended && self.sent < trimmed;
        if passed {
            self.suspend();
            self.told = None;
        }
        passed
    }

    /// Whether everything that was sent is acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        !self.suspended && self.ack.matched == self.sent
    }

    /// Tells it again where the sender is, with the next frame.
    pub fn retell(&mut self) {
        self.told = None;
    }

    /// The record that the next frame follows.
    pub fn prev(&self) -> Lsn {
        self.sent
    }

    /// The records of the next frame, from memory; asks for a read where they are not there.
    pub fn next(
        &mut self,
        log: &Log,
        limit: Lsn,
        options: &ReplicaOptions,
        effects: &mut Vec<Effect>,
    ) -> Option<Vec<Record>> {
        if self.reading || self.suspended || self.sent >= limit || self.in_flight >= options.window_bytes_max {
            return None;
        }
        let from = self.sent.next();
        match log.recent(from, limit, options.frame_bytes_max) {
            Some(records) => Some(self.sending(records)),
            None => {
                self.reading = true;
                effects.push(Effect::Read { feed: self.id, from, to: limit, bytes_max: options.frame_bytes_max });
                None
            }
        }
    }

    /// A read was answered: the records to send, if they still follow what was sent and are still in the log.
    pub fn read(&mut self, log: &Log, records: Vec<Record>) -> Option<Vec<Record>> {
        let expected = std::mem::take(&mut self.reading) && records.first()?.lsn == self.sent.next();
        let current = records.iter().all(|record| log.contains(record.lsn, Some(record.epoch)));
        (expected && current).then(|| self.sending(records))
    }

    /// The connection is new: nothing that was not acknowledged counts as sent.
    pub fn reconnected(&mut self, now: Instant) {
        self.resume_after(self.ack.matched.max(self.base), now);
        self.told = None;
    }

    fn resume_after(&mut self, sent: Lsn, now: Instant) {
        self.sent = sent;
        self.sent_bytes.clear();
        self.in_flight = 0;
        self.progress = now;
    }

    fn sending(&mut self, records: Vec<Record>) -> Vec<Record> {
        for record in &records {
            self.sent_bytes.push_back((record.lsn, record.size()));
            self.in_flight += record.size();
            self.sent = record.lsn;
        }
        records
    }
}
