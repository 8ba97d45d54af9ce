//! The marks of a primary: what it resolves, what its set keeps of it, what may leave the region.
//!
//! - A mark `(T, lsn)` says that every commit at or below T is in the log at or below `lsn`. T came from the timestamp
//!   service and lies at or below the bound of every registered and prepared transaction; `lsn` is the log's end then.
//! - SYNC DURABILITY: it may leave the region when everything up to `lsn` is safe. Nobody here keeps it.
//! - ASYNC DURABILITY: when everything up to `lsn` is committed, the primary notes it behind those records in its log, and so
//!   do its members, which get it with their frames. So whoever has the mark on disk has its records. If all members
//!   lose power the database goes on from the lowest mark of the logs that go on, whole transactions or none.
//! - ASYNC DURABILITY: a mark leaves the region only when every member that is waited for has it on disk: the cut of such a
//!   recovery is never below what a sink serves.
//! - An idle partition resolves time as one that is written: its last mark would else be the cut of all. Where no sink
//!   is fed a mark is made no more often than once in `mark_every`, for each costs a note on every disk.
//! - A sink's primary passes on the marks of its source, when they are its durable cut.
//! - Under a seal the final timestamp is the last mark.

use types::{Fence, Mark, Role, Timestamp};

use crate::lead::Leading;
use crate::replica::Office;
use crate::{Effect, Instant, Leases, Planted, Replica};

impl Replica {
    /// Whether marks are kept by this primary and its members, beside the records.
    pub(crate) fn keeps_marks(&self) -> bool {
        let leads = matches!(&self.office, Office::Leading(leading) if leading.epoch.is_some());
        let view = self.view.as_ref().filter(|view| matches!(view.role, Role::Writable { .. }));
        leads && view.is_some_and(|view| !view.mode.sync_durability)
    }

    /// What goes to the members with a frame, if they are to keep it.
    pub(crate) fn mark_for_members(&self) -> Option<Mark> {
        let Office::Leading(leading) = &self.office else { return None };
        let kept = leading.upstream.is_some() || self.keeps_marks() && self.mark.ts > Timestamp::ZERO;
        kept.then(|| self.mark.clone())
    }

    /// A timestamp from the service: the next mark is at or below it. Only under the leases of all members: a primary
    /// that was replaced and does not know it would resolve a time below which its successor still commits.
    pub(crate) fn on_publish(&mut self, now: Instant, ts: Timestamp, leases: &Leases) {
        let Some(view) = self.view.as_ref().filter(|_| self.may_read(now, leases)) else { return };
        let sealed = matches!(view.fence, Fence::Sealed(_)) && !self.options.has(Planted::MarksAfterSeal);
        if !sealed && self.mark_is_due(now) {
            self.publish(now, ts);
        }
    }

    fn mark_is_due(&self, now: Instant) -> bool {
        let Office::Leading(leading) = &self.office else { return false };
        if self.options.has(Planted::IdleMarks) && self.log.end <= self.mark.lsn {
            return false;
        }
        let wanted = !self.keeps_marks() || !leading.sinks.is_empty();
        wanted || leading.marked_at.is_none_or(|at| now.since(at) >= self.options.mark_every)
    }

    /// The final timestamp of a seal.
    pub(crate) fn on_final(&mut self, now: Instant, ts: Timestamp) {
        if self.view.as_ref().is_some_and(|view| matches!(view.fence, Fence::Sealed(_))) {
            if let Some(leading) = self.leading() {
                leading.publishing = None;
            }
            self.publish(now, ts);
        }
    }

    fn publish(&mut self, now: Instant, ts: Timestamp) {
        if !self.is_serving() {
            return;
        }
        let (lsn, promotions) = (self.log.end, self.mark.promotions.clone());
        let kept = if self.keeps_marks() { self.mark.ts } else { Timestamp::ZERO };
        let Some(leading) = self.leading() else { return };
        let Some(txns) = &mut leading.txns else { return };
        let ts = txns.resolved(ts);
        if leading.publishing.is_none() && ts > leading.published.ts && ts >= kept {
            leading.publishing = Some(Mark { promotions, ts, lsn });
            leading.marked_at = Some(now);
        }
    }

    /// Another mark takes the place of this replica's: nothing counts until that is noted.
    pub(crate) fn replace_mark(&mut self, mark: Mark, effects: &mut Vec<Effect>) {
        (self.mark, self.mark_durable) = (mark, Timestamp::ZERO);
        self.marks_noted.clear();
        self.note_mark(effects);
    }

    /// Notes the next mark when it is true of what is committed; publishes what may leave the region.
    pub(crate) fn advance_mark(&mut self, effects: &mut Vec<Effect>) {
        let keeps = self.keeps_marks();
        if keeps {
            self.keep_next_mark(effects);
        }
        // Where nothing is kept nothing is on disk: most primaries are spared that look at their members.
        let follows = matches!(&self.office, Office::Leading(leading) if leading.upstream.is_some());
        let limit = match (follows, keeps) {
            (true, _) => Some(self.cut()),
            (false, true) => Some(self.mark_held()),
            (false, false) => None,
        };
        let unsafe_marks = self.options.has(Planted::ShipCommitted);
        let Some(leading) = self.leading() else { return };
        if let Some(limit) = limit {
            leading.publish_up_to(limit);
        } else if let Some(mark) = leading.publishing.take() {
            if mark.lsn <= leading.safe || unsafe_marks {
                leading.published = mark;
            } else {
                leading.publishing = Some(mark);
            }
        }
    }

    /// What is committed no later reign lacks, unless a loss is announced: nobody rewinds below a mark that is noted.
    fn keep_next_mark(&mut self, effects: &mut Vec<Effect>) {
        let committed = self.cursors.committed;
        let Some(leading) = self.leading() else { return };
        if let Some(mark) = leading.publishing.take_if(|mark| mark.lsn <= committed) {
            leading.remember(mark.clone());
            self.mark = mark;
            self.note_mark(effects);
        }
    }

    /// The time of the mark that may leave the region.
    fn mark_held(&self) -> Timestamp {
        let Office::Leading(leading) = &self.office else { return Timestamp::ZERO };
        if self.options.has(Planted::MarkBeforeHeld) {
            return self.mark.ts;
        }
        self.mark_on_disks(leading)
    }

    /// The time of the mark that everybody who is waited for has on disk.
    pub(crate) fn mark_on_disks(&self, leading: &Leading) -> Timestamp {
        let others = leading.waited().into_iter().filter(|member| *member != self.me);
        let marks = others.map(|member| leading.ack(member).map_or(Timestamp::ZERO, |ack| ack.mark));
        marks.fold(self.mark_durable, Timestamp::min)
    }
}
