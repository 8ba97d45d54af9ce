//! The downstream side of a DR stream, at the primary of a sink partition: compares, rewinds, takes records and marks.
//!
//! - The stream opens with this log's lineage; the answer is the source's. Before anything of another history is
//!   taken, the catalog knows the source's promotions and every mark has fallen to what both histories share.
//! - If the source is a sink itself and its log or list is merely shorter, this one waits: only a differing record,
//!   or a writable source that lacks this log's next epoch, is another history.
//! - Records carry their epoch and LSN from the source: the log is the same log. A mark is taken only if it names the
//!   promotions that the catalog knows.
//! - A source may have lost records that it had shipped: a log that had not followed to its end went on (ASYNC REPLICATION), or
//!   nobody's disk had them. If what was served here counts on them the link is broken, unless a person ordered to follow.
//! - What is reported back is durable on the whole in-sync set.

use types::{Body, Epoch, Lineage, LinkId, Lsn, Mark, Role, StartKind, Timestamp, is_named};

use crate::replica::Office;
use crate::{Ack, Append, Effect, Instant, Message, Planted, Replica, Resume};

/// What a sink's primary knows of its stream.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub link: LinkId,
    /// The logs were compared, and this one is a prefix of the source's.
    pub joined: bool,
    /// The source's lineage, when its promotions were those that the catalog here knows.
    offered: Lineage,
    /// When the stream was last asked for.
    asked: Option<Instant>,
    told: Option<Ack>,
    told_at: Instant,
}

impl Upstream {
    pub fn new(link: LinkId, now: Instant) -> Upstream {
        Upstream { link, joined: false, offered: Lineage::new(), asked: None, told: None, told_at: now }
    }
}

impl Replica {
    fn upstream(&mut self) -> Option<&mut Upstream> {
        self.leading()?.upstream.as_mut()
    }

    /// Whether frames of this link are obeyed.
    fn follows(&self, link: LinkId) -> bool {
        let view = self.view.as_ref().map(|view| &view.role);
        matches!(view, Some(Role::Sink { link: named, broken: false, .. }) if *named == link) && self.repair.is_none()
    }

    pub(crate) fn on_source_up(&mut self, now: Instant, link: LinkId, effects: &mut Vec<Effect>) {
        self.source_up = Some(link);
        if let Some(upstream) = self.upstream() {
            *upstream = Upstream::new(upstream.link, now);
        }
        self.open_upstream(now, effects);
    }

    pub(crate) fn on_source_down(&mut self, link: LinkId) {
        if self.source_up == Some(link) {
            self.source_up = None;
            if let Some(upstream) = self.upstream() {
                upstream.joined = false;
            }
        }
    }

    /// Asks for the stream, from what this log is.
    pub(crate) fn open_upstream(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (lineage, end, trimmed, up) = (self.log.lineage.clone(), self.log.end, self.log.trimmed, self.source_up);
        let Some(link) = up.filter(|link| self.follows(*link)) else { return };
        let Some(upstream) = self.upstream().filter(|upstream| upstream.link == link) else { return };
        upstream.joined = false;
        upstream.asked = Some(now);
        effects.push(Effect::ToSource { link, message: Message::Differ { lineage, end, trimmed } });
    }

    /// Asks anew because of what the source sent; a source that errs is not asked at the network's speed.
    fn reopen_seldom(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let renew = self.options.renew;
        let Some(upstream) = self.upstream() else { return };
        upstream.joined = false;
        if upstream.asked.is_none_or(|asked| now.since(asked) >= renew) {
            self.open_upstream(now, effects);
        }
    }

    /// Asks again where an answer is missing.
    pub(crate) fn reopen_upstream(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let after = self.options.resend_after;
        let due = self.upstream().is_some_and(|u| !u.joined && u.asked.is_none_or(|asked| now.since(asked) >= after));
        if due {
            self.open_upstream(now, effects);
        }
    }

    pub(crate) fn on_source_message(
        &mut self,
        now: Instant,
        link: LinkId,
        message: Message,
        effects: &mut Vec<Effect>,
    ) {
        if !self.follows(link) || self.source_up != Some(link) || self.upstream().is_none_or(|u| u.link != link) {
            return;
        }
        match message {
            Message::Resume(resume) => self.on_source_resume(now, link, resume, effects),
            Message::Append(append) => self.on_source_append(now, append, effects),
            Message::Differ { .. } | Message::Ack(_) => {}
        }
    }

    fn on_source_resume(&mut self, now: Instant, link: LinkId, resume: Resume, effects: &mut Vec<Effect>) {
        let known = self.view.as_ref().map(|view| view.promotions.clone()).unwrap_or_default();
        if let Some(upstream) = self.upstream() {
            upstream.joined = false;
        }
        let late = self.options.has(Planted::LateMarks) && known.starts_with(&resume.promotions);
        if resume.promotions != known && !late {
            effects.push(Effect::Learn { link, promotions: resume.promotions, relay: resume.relay });
            return;
        }
        if let Some(upstream) = self.upstream() {
            upstream.offered = resume.lineage.clone();
        }
        let common = self.log.lineage.common_point(self.log.end, &resume.lineage, resume.end);
        if common < self.log.end && self.is_merely_longer(common, &resume) {
            return;
        }
        if self.counts_on_more(common, &resume.lineage) && !self.options.has(Planted::LossUnasked) {
            if common < self.log.end && !self.is_forced() {
                return self.break_link(link, common, effects);
            }
            self.forget_mark(common, effects);
        }
        if common < resume.trimmed.max(self.log.trimmed) {
            self.install_compared(link, common, resume.lineage, effects);
        } else if common < self.log.end {
            self.rewind(common, resume.lineage, effects);
        } else {
            if let Some(upstream) = self.upstream() {
                upstream.joined = true;
                upstream.told = None;
            }
            self.acknowledge_source(now, effects);
        }
    }

    /// Longer than the source's log, but perhaps not another history: what is above may be under way there still, or the
    /// source's primary was replaced and does not know it. Its cluster mints numbers in order.
    fn is_merely_longer(&self, common: Lsn, source: &Resume) -> bool {
        let next = self.log.epoch_at(common.next());
        let theirs = source.lineage.last().map(|entry| entry.epoch);
        let newer = |next: Epoch, last: Epoch| next.cluster == last.cluster && next.number > last.number;
        let replaced = !source.relay && next.zip(theirs).is_some_and(|(next, last)| newer(next, last));
        replaced || source.end == common && (source.relay || next == theirs)
    }

    /// Whether the mark counts on records above the common point that the source has lost. Where histories part at a promotion
    /// the mark has fallen to its cut, which both have; no record tells where that is, so its position may be above.
    fn counts_on_more(&self, common: Lsn, theirs: &Lineage) -> bool {
        let counts = self.mark.ts > Timestamp::ZERO && self.mark.lsn > common;
        counts && !self.log.lineage.parts_at(common, theirs, self.mark.ts)
    }

    fn is_forced(&self) -> bool {
        matches!(self.view.as_ref().map(|view| &view.role), Some(Role::Sink { forced: true, .. }))
    }

    /// What was served here stands until a person says otherwise.
    fn break_link(&self, link: LinkId, common: Lsn, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let reason = format!(
            "partition {} of the source has lost its records above {common}; {} held here may have been read",
            self.id.ordinal,
            self.log.end.0 - common.0
        );
        effects.push(Effect::Break { link, reign: view.reign, version: view.version, reason });
    }

    /// A person gives up what was served, or this log has lost its own end: the mark is what both histories have, as far as
    /// their logs tell.
    fn forget_mark(&mut self, common: Lsn, effects: &mut Vec<Effect>) {
        let mut shared = self.log.lineage.clone();
        shared.cut(common);
        let none = Mark { promotions: self.mark.promotions.clone(), ..Mark::default() };
        let mark = shared.promoted(&self.mark.promotions).unwrap_or(none);
        self.replace_mark(mark, effects);
    }

    fn on_source_append(&mut self, now: Instant, append: Append, effects: &mut Vec<Effect>) {
        if self.upstream().is_none_or(|upstream| !upstream.joined) {
            return;
        }
        let fits = self.log.fits(append.prev, append.prev_epoch, &append.records);
        if !fits {
            return self.reopen_seldom(now, effects);
        }
        let known = self.view.as_ref().map(|view| view.promotions.clone()).unwrap_or_default();
        for record in append.records {
            if record.lsn <= self.log.end {
                continue;
            }
            // One that the source carried out in an earlier life, and that its list has lost since, was in its lineage
            // when the lists were compared.
            let entry = record.lineage_entry();
            let offered = |upstream: &Upstream| entry.is_some_and(|entry| upstream.offered.entries().contains(&entry));
            if let Body::EpochStart { kind: StartKind::Promotion { id, .. }, .. } = record.body
                && !is_named(id, &known)
                && !self.upstream().is_some_and(|upstream| offered(upstream))
            {
                return self.reopen_seldom(now, effects);
            }
            self.log.append(record, effects);
        }
        let (end, late) = (self.log.end, self.options.has(Planted::LateMarks));
        if let Some(mut mark) = append.mark
            && (mark.promotions == known || late)
            && mark.lsn <= end
            && mark.ts > self.mark.ts
        {
            mark.promotions = known;
            self.mark = mark.clone();
            self.note_mark(effects);
            if let Some(leading) = self.leading() {
                leading.remember(mark);
            }
        }
    }

    /// Tells the source what the whole in-sync set holds on disk, if that has changed.
    pub(crate) fn acknowledge_source(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (cut, end, applied) = (self.cut(), self.log.end, self.cursors.applied);
        let keep_alive = self.options.failure_timeout;
        let Office::Leading(leading) = &mut self.office else { return };
        let safe = leading.safe;
        let Some(upstream) = leading.upstream.as_mut().filter(|upstream| upstream.joined) else { return };
        let ack = Ack { matched: end, position: applied, durable: safe.min(end), mark: cut };
        if upstream.told == Some(ack) && now.since(upstream.told_at) < keep_alive {
            return;
        }
        upstream.told = Some(ack);
        upstream.told_at = now;
        effects.push(Effect::ToSource { link: upstream.link, message: Message::Ack(ack) });
    }

    /// The last mark of a sink: time and position, `None` before the first.
    pub fn sink_mark(&self) -> Option<(Timestamp, Lsn)> {
        (self.mark.ts > Timestamp::ZERO).then_some((self.mark.ts, self.mark.lsn))
    }
}
