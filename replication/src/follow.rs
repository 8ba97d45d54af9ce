//! A secondary: takes its primary's frames, acknowledges what it holds, rewinds what its primary never had.
//!
//! - A frame of a lower reign is refused. A higher one is accepted only when no grant for an older reign is out; the
//!   promise is on disk before anything is acknowledged under it.
//! - Records are taken only where the log contains the record before them. Otherwise the secondary says what its log
//!   consists of, and the answer lets it rewind to the common point: the only way in which a log shrinks.
//! - Marks under a stream only rise, whatever comes late: the set's cut counts on what each member has on disk, and the
//!   member may be named and its region promoted.
//! - Rewinding below `committed` is allowed only after the catalog has announced a loss, or where two regions parted.

use types::{Lineage, Lsn, Mark, Member, StartKind, Timestamp};

use crate::copy::Origin;
use crate::message::MISSING;
use crate::replica::{Office, Repair, Starting};
use crate::{Ack, Append, Effect, Frame, Instant, Leases, Message, Planted, Replica, Resume, Stream};

/// What a secondary knows of its primary.
#[derive(Clone, Debug)]
pub(crate) struct Following {
    pub primary: Member,
    pub stream: Stream,
    /// Up to here the log is the primary's.
    pub matched: Option<Lsn>,
    /// The mark received under this stream: number of its note, time.
    mark: Option<(u64, Timestamp)>,
    mark_durable: Timestamp,
    /// The primary's committed position, as it said last.
    committed: Lsn,
    losses: u64,
    /// The primary follows another region: it rewinds, and this replica with it.
    sink: bool,
    differ_sent: Option<Instant>,
    /// The log's end when the primary was asked last.
    differ_end: Lsn,
    acked: Option<Ack>,
}

impl Following {
    fn new(primary: Member, stream: Stream) -> Following {
        Following {
            primary,
            stream,
            matched: None,
            mark: None,
            mark_durable: Timestamp::ZERO,
            committed: Lsn::ZERO,
            losses: 0,
            sink: false,
            differ_sent: None,
            differ_end: Lsn::ZERO,
            acked: None,
        }
    }

    /// The log is a copy now: what was matched and acknowledged is about the one before.
    pub fn forget(&mut self) {
        (self.matched, self.mark, self.mark_durable, self.acked) = (None, None, Timestamp::ZERO, None);
    }
}

impl Replica {
    pub(crate) fn on_frame(&mut self, now: Instant, frame: Frame, leases: &mut Leases, effects: &mut Vec<Effect>) {
        let Frame { partition, from, life, stream, message } = frame;
        assert_eq!(partition, self.id, "frame of another partition");
        leases.note(now, from);
        match message {
            Message::Append(append) => {
                if self.accept(now, from, stream, Some(&append), leases, effects) {
                    self.on_append(now, append, effects);
                }
            }
            Message::Resume(resume) => {
                if self.accept(now, from, stream, None, leases, effects) {
                    self.on_resume(now, resume, effects);
                }
            }
            Message::Differ { lineage, end, trimmed } => {
                if self.leads(from, stream) && self.hears(from, life) {
                    self.on_follower_differ(now, from, (&lineage, end, trimmed), effects);
                }
            }
            Message::Ack(ack) => {
                if self.leads(from, stream) && self.hears(from, life) {
                    self.on_follower_ack(now, from, ack);
                }
            }
        }
    }

    fn leads(&self, follower: Member, stream: Stream) -> bool {
        match &self.office {
            Office::Leading(leading) => {
                let stale = self.options.has(Planted::StaleTurn) && leading.reign == stream.reign;
                self.repair.is_none() && (leading.stream_to(follower.node) == stream || stale)
            }
            _ => false,
        }
    }

    /// Whether a primary's frame may be obeyed; accepts its reign if that is new and may be accepted.
    fn accept(
        &mut self,
        now: Instant,
        from: Member,
        stream: Stream,
        append: Option<&Append>,
        leases: &mut Leases,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let leads = self.reign_led() == Some(stream.reign);
        if stream.reign < self.promised && !self.options.has(Planted::OldFrames) || leads {
            return false;
        }
        // The catalog has named another since, perhaps this very replica, which waits to start.
        if stream.reign > self.promised && self.view.as_ref().is_some_and(|view| view.reign > stream.reign) {
            return false;
        }
        if stream.reign > self.promised {
            let Some(append) = append else { return false };
            leases.learn(now, self.id, stream.reign, append.reign_revision, from);
            if !leases.may_accept(now, self.id) {
                self.note_early(from, stream, append.committed);
                return false;
            }
            self.step_down(effects);
            self.promise(stream.reign, effects);
            self.office = Office::Following(self.begin_to_follow(from, stream));
        }
        let old = self.options.has(Planted::OldFrames);
        match &self.office {
            Office::Starting(Starting::Waiting) => false,
            Office::Following(following) if following.stream > stream && !old => false,
            Office::Following(following) if following.stream == stream && following.primary == from => true,
            // A reign that this process finds promised on its disk, or a new turn. It begins with an Append, which
            // tells what was announced: a comparison before it would be taken for proof that the rules were broken.
            _ if append.is_none() && !self.options.has(Planted::ResumeOpens) => false,
            _ => {
                self.office = Office::Following(self.begin_to_follow(from, stream));
                true
            }
        }
    }

    /// A frame that comes before its reign may be accepted is not taken, but it is the primary's word. An older frame may come
    /// after it, and with what is in that the primary may have nothing left to say.
    fn note_early(&mut self, from: Member, stream: Stream, committed: Lsn) {
        let committed = self.said_early(from, stream).max(committed);
        self.told_early = Some((from, stream, committed));
    }

    fn said_early(&self, from: Member, stream: Stream) -> Lsn {
        let told = self.told_early.filter(|(by, of, _)| (*by, *of) == (from, stream));
        told.map_or(Lsn::ZERO, |(_, _, committed)| committed)
    }

    fn begin_to_follow(&mut self, primary: Member, stream: Stream) -> Following {
        let early =
            if self.options.has(Planted::EarlyWordForgotten) { Lsn::ZERO } else { self.said_early(primary, stream) };
        self.told_early = None;
        Following { committed: early, ..Following::new(primary, stream) }
    }

    pub(crate) fn following(&mut self) -> Option<&mut Following> {
        match &mut self.office {
            Office::Following(following) => Some(following),
            _ => None,
        }
    }

    fn on_append(&mut self, now: Instant, append: Append, effects: &mut Vec<Effect>) {
        if let Some(following) = self.following() {
            following.losses = append.losses;
            following.sink = append.sink;
            // Even if its records do not fit: it is the primary's word, and counts as far as the logs agree.
            following.committed = following.committed.max(append.committed);
        }
        match self.repair {
            // A primary that has not heard it yet must not wait for a member that holds nothing.
            Some(Repair::Installing { .. } | Repair::Leaving) => return self.send_differ_seldom(now, effects),
            Some(Repair::Rewinding(_)) => return,
            None => {}
        }
        let last = append.records.last().map_or(append.prev, |record| record.lsn);
        let fits = self.log.fits(append.prev, append.prev_epoch, &append.records);
        if !fits {
            return self.send_differ_seldom(now, effects);
        }
        // A sink's primary begins no epoch by which this log would be compared: what lies above its end may be the history
        // that it has rewound. Nothing is acknowledged before that is known.
        let asks = !self.options.has(Planted::SinkEndUnasked);
        let unknown = self.following().is_some_and(|following| asks && following.sink && following.matched.is_none());
        if unknown && last < self.log.end {
            return self.send_differ_seldom(now, effects);
        }
        for record in append.records {
            if record.lsn > self.log.end {
                self.log.append(record, effects);
            }
        }
        if let Some(mark) = append.mark.filter(|mark| mark.lsn <= last.max(self.matched())) {
            self.take_mark(mark, effects);
        }
        let Some(following) = self.following() else { return };
        following.matched = following.matched.max(Some(last));
        following.acked = None;
        // Followed to the end: nothing of what was given up is left in this log.
        if last == self.log.end {
            self.losses = self.losses.max(append.losses);
        }
        self.commit_as_secondary(effects);
    }

    /// Takes a mark of the primary whose records are here. The first one under a stream counts even if it is lower
    /// than one of another primary; after it, only frames that come late bring a lower one. A primary that does not
    /// know the present list of promotions sends marks of the one before: they are worth what both histories have.
    /// Under a reign that the catalog has ended none is taken, for its cut counts no longer.
    fn take_mark(&mut self, mut mark: Mark, effects: &mut Vec<Effect>) {
        let Office::Following(following) = &self.office else { return };
        let late = self.options.has(Planted::LateFrames);
        let first = following.mark.is_none() || late && mark.promotions != self.mark.promotions;
        let ended = self.view.as_ref().is_some_and(|view| view.reign > following.stream.reign) && !late;
        if !first {
            mark = mark.lowered_to(&self.mark.promotions);
        }
        if ended || !first && mark.ts < self.mark.ts {
            return;
        }
        if mark != self.mark {
            self.mark = mark;
            self.mark_durable = self.mark_durable.min(self.mark.ts);
            self.note_mark(effects);
        }
        let noted = (self.mark_note, self.mark.ts);
        if let Some(following) = self.following() {
            following.mark = Some(noted);
        }
    }

    fn matched(&self) -> Lsn {
        match &self.office {
            Office::Following(following) => following.matched.unwrap_or_default(),
            _ => Lsn::ZERO,
        }
    }

    /// What the primary has committed and this log shares is committed here, too.
    fn commit_as_secondary(&mut self, effects: &mut Vec<Effect>) {
        let Office::Following(following) = &self.office else { return };
        let committed = following.committed.min(following.matched.unwrap_or_default());
        if committed > self.cursors.committed {
            self.cursors.committed = committed;
            effects.push(Effect::Apply { to: committed });
        }
    }

    fn send_differ_seldom(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let renew = self.options.renew;
        let due = self.following().is_some_and(|f| f.differ_sent.is_none_or(|sent| now.since(sent) >= renew));
        if due {
            self.send_differ(now, effects);
        }
    }

    pub(crate) fn send_differ(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let message = match self.repair {
            Some(Repair::Installing { .. } | Repair::Leaving) => {
                Message::Differ { lineage: Lineage::new(), end: Lsn::ZERO, trimmed: MISSING }
            }
            _ => Message::Differ { lineage: self.log.lineage.clone(), end: self.log.end, trimmed: self.log.trimmed },
        };
        let (partition, me, life, end) = (self.id, self.me, self.life, self.log.end);
        if let Some(following) = self.following() {
            following.differ_sent = Some(now);
            following.differ_end = end;
            let frame = Frame { partition, from: me, life, stream: following.stream, message };
            effects.push(Effect::Send { to: following.primary.node, frame });
        }
    }

    fn on_resume(&mut self, now: Instant, resume: Resume, effects: &mut Vec<Effect>) {
        if self.repair.is_some() {
            return;
        }
        let common = self.log.lineage.common_point(self.log.end, &resume.lineage, resume.end);
        let (losses, announced, primary, sink) = match &self.office {
            // An answer to a question that this process has asked under this stream, about this log: before it, an
            // Append told what was announced. One that was asked earlier may still be on its way.
            Office::Following(following) if following.differ_sent.is_some() && following.differ_end == self.log.end => {
                (self.losses, following.losses, following.primary, following.sink)
            }
            // Unasked: the follower was passed by trimming, or the answer is to an older question.
            _ => return self.send_differ_seldom(now, effects),
        };
        // What has matched under this stream is the primary's log: an answer that is older than that says nothing.
        if common < self.matched() {
            return;
        }
        // What this log has above was minted by the same primary after it had answered: no other history.
        let above = self.log.epoch_at(common.next());
        if !sink
            && common == resume.end
            && above == resume.lineage.last().map(|entry| entry.epoch)
            && common < self.log.end
        {
            return;
        }
        // Two regions parted at a promotion, and this replica slept through their exchange: it follows the catalog's order.
        let parted = promotes_above(&self.log.lineage, common) || promotes_above(&resume.lineage, common);
        assert!(
            common >= self.cursors.committed.min(self.log.end) || announced > losses || sink || parted,
            "{} of {}: rewind to {common} below committed {}, no loss was announced: {losses} followed, {announced} told",
            self.me,
            self.id,
            self.cursors.committed
        );
        if common < resume.trimmed.max(self.log.trimmed) {
            self.install(Origin::Primary(primary), common, effects);
        } else if common < self.log.end {
            self.rewind(common, resume.lineage, effects);
        } else {
            self.send_differ(now, effects);
        }
    }

    /// Tells the primary how far this log is, if that has changed.
    pub(crate) fn acknowledge_primary(&mut self, effects: &mut Vec<Effect>) {
        let promised = self.notes_durable >= self.promise_note || self.options.has(Planted::PromiseVolatile);
        let sync = self.view.as_ref().is_none_or(|view| view.mode.sync_durability)
            && !self.options.has(Planted::AckBeforeSync);
        let (written, durable, notes) = (self.cursors.written, self.cursors.durable, self.notes_durable);
        let (partition, me, life) = (self.id, self.me, self.life);
        let Some(following) = self.following() else { return };
        let (Some(matched), true) = (following.matched, promised) else { return };
        if let Some((note, ts)) = following.mark
            && note <= notes
        {
            following.mark_durable = following.mark_durable.max(ts);
        }
        let position = if sync { durable } else { written };
        let ack = Ack {
            matched,
            position: position.min(matched),
            durable: durable.min(matched),
            mark: following.mark_durable,
        };
        if following.acked == Some(ack) {
            return;
        }
        following.acked = Some(ack);
        let frame = Frame { partition, from: me, life, stream: following.stream, message: Message::Ack(ack) };
        effects.push(Effect::Send { to: following.primary.node, frame });
    }
}

/// Whether a promotion begins an epoch above `lsn`.
fn promotes_above(lineage: &Lineage, lsn: Lsn) -> bool {
    lineage.entries().iter().any(|entry| entry.start_lsn > lsn && entry.kind != StartKind::Failover)
}
