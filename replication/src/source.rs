//! The upstream side of a DR stream: feeds sinks what is safe, and the marks that may leave the region (`marks`).
//!
//! - Only safe records are shipped, and only while this replica may answer clients.
//! - What the history is, is told only under the leases of all members.
//! - A partition that is a sink itself is passed on only after it has been reconciled with its own source; it passes
//!   on its durable cut as mark. A promoted one is passed on only when its EpochStart is safe.

use types::{Lsn, Record, Timestamp};

use crate::feed::Feed;
use crate::replica::Office;
use crate::{Append, Effect, FeedId, Instant, Leases, Message, Planted, Replica, Resume};

impl Replica {
    /// The last record that may leave the region, `None` while nothing may.
    fn shippable(&self, now: Instant) -> Option<Lsn> {
        let Office::Leading(leading) = &self.office else { return None };
        let ready = match &leading.upstream {
            Some(upstream) => leading.confirmed && (upstream.joined || self.options.has(Planted::RelayBeforeJoined)),
            None => leading.safe >= leading.start,
        };
        let end = if self.options.has(Planted::ShipCommitted) { self.cursors.committed } else { leading.safe };
        (ready && self.repair.is_none() && self.may_answer(now)).then_some(end)
    }

    /// Whether what was read for a follower may be sent now. A read takes its time, and its process may have stood still:
    /// nothing leaves the region any more after another primary may have been named. It is read again when it may.
    pub(crate) fn may_leave(&self, now: Instant, feed: FeedId) -> bool {
        let leaves = matches!(feed, FeedId::Sink(_)) && !self.options.has(Planted::ReadShippedLate);
        !leaves || self.shippable(now).is_some()
    }

    /// Whether a sink may be told what the history is. Only under the leases of all members: one that was replaced, perhaps
    /// in an earlier life of this database, would tell of a history that is over, and the sink's catalog would believe it.
    fn may_compare(&self, now: Instant, leases: &Leases) -> bool {
        self.options.has(Planted::HistoryUnleased) || self.holds_leases(now, leases)
    }

    pub(crate) fn on_sink_message(
        &mut self,
        now: Instant,
        number: u64,
        message: Message,
        leases: &Leases,
        effects: &mut Vec<Effect>,
    ) {
        let shippable = self.shippable(now).filter(|_| self.may_compare(now, leases));
        match message {
            Message::Differ { lineage, end, .. } => {
                let Some(limit) = shippable else { return };
                let common = self.log.lineage.common_point(limit, &lineage, end);
                let begin = self.fed_from(end, limit);
                let Some(leading) = self.leading() else { return };
                let feed = leading.sinks.entry(number).or_insert_with(|| Feed::new(FeedId::Sink(number), common, now));
                feed.resume(common, now);
                if end > common || common < begin {
                    feed.suspend();
                    feed.told = Some((limit, Timestamp::ZERO));
                }
                let resume = Resume { trimmed: begin, ..self.resume(limit) };
                effects.push(Effect::ToSink { feed: number, message: Message::Resume(resume) });
            }
            Message::Ack(ack) => {
                let (end, open) = (self.log.end, shippable.is_some());
                let Some(leading) = self.leading() else { return };
                match leading.sinks.get_mut(&number) {
                    Some(feed) if ack.matched <= end => feed.acknowledge(None, ack, now),
                    // It follows an earlier reign of this node: it is told where this one stands.
                    None if open => {
                        let mut feed = Feed::new(FeedId::Sink(number), ack.matched.min(end), now);
                        feed.suspend();
                        leading.sinks.insert(number, feed);
                    }
                    _ => {}
                }
            }
            Message::Append(_) | Message::Resume(_) => {}
        }
    }

    fn resume(&self, end: Lsn) -> Resume {
        let relay = matches!(&self.office, Office::Leading(leading) if leading.upstream.is_some());
        let mut lineage = self.log.lineage.clone();
        lineage.cut(end);
        let promotions = self.mark.promotions.clone();
        Resume { lineage, end, trimmed: self.log.trimmed, promotions, relay }
    }

    pub(crate) fn on_sink_gone(&mut self, number: u64) {
        if let Some(leading) = self.leading() {
            leading.sinks.remove(&number);
        }
    }

    pub(crate) fn feed_sinks(&mut self, now: Instant, leases: &Leases, effects: &mut Vec<Effect>) {
        let numbers: Vec<u64> = match &self.office {
            Office::Leading(leading) => leading.sinks.keys().copied().collect(),
            _ => return,
        };
        let Some(limit) = self.shippable(now).filter(|_| !numbers.is_empty()) else { return };
        let compares = self.may_compare(now, leases);
        for number in numbers {
            self.feed_sink(number, limit, compares, effects);
        }
    }

    /// Records that go on in a stream are the same whoever leads now: every member has them, and sent a moment earlier they
    /// would be under way. A comparison tells what the history is.
    fn feed_sink(&mut self, number: u64, limit: Lsn, compares: bool, effects: &mut Vec<Effect>) {
        let resume = self.resume(limit);
        loop {
            let Office::Leading(leading) = &mut self.office else { return };
            let mark = (leading.published.lsn, leading.published.ts);
            let feed = leading.sinks.get_mut(&number).expect("its key was just read");
            if feed.passed_by(self.log.trimmed) || feed.suspended {
                if feed.told.is_none() && compares {
                    feed.told = Some((limit, mark.1));
                    effects.push(Effect::ToSink { feed: number, message: Message::Resume(resume) });
                }
                return;
            }
            let prev = feed.prev();
            let records = feed.next(&self.log, limit, &self.options, effects);
            let before = feed.told.map_or(Timestamp::ZERO, |(_, ts)| ts);
            let told = (Lsn::ZERO, if feed.prev() >= mark.0 { mark.1 } else { before });
            if records.is_none() && feed.told == Some(told) {
                return;
            }
            feed.told = Some(told);
            let more = records.is_some();
            self.send_to_sink(number, prev, records.unwrap_or_default(), effects);
            if !more {
                return;
            }
        }
    }

    pub(crate) fn send_to_sink(&mut self, number: u64, prev: Lsn, records: Vec<Record>, effects: &mut Vec<Effect>) {
        let Office::Leading(leading) = &self.office else { return };
        let append = Append {
            prev,
            prev_epoch: self.log.epoch_at(prev),
            records,
            committed: Lsn::ZERO,
            mark: Some(leading.published.clone()).filter(|mark| mark.ts > Timestamp::ZERO),
            reign_revision: Default::default(),
            losses: 0,
            sink: leading.upstream.is_some(),
        };
        effects.push(Effect::ToSink { feed: number, message: Message::Append(append) });
    }
}
