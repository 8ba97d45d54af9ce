//! When the log cannot bring a replica along: it takes over a copy of another one's state.
//!
//! - While a copy is missing the replica takes, acknowledges and answers nothing, whichever process of it runs.
//! - It is asked of whoever has it: the primary that is followed, or at the primary of a sink its source. If that
//!   changes, it is asked again; the host stops what it was doing for the question before.
//! - A member that needs a copy is taken out of its set: the set holds nothing without it, and nobody is copied from but a
//!   primary whose set holds what it has.
//! - No copy is begun before the replica has seen itself outside of the set: the copy may end below what it acknowledged as
//!   a member, and the catalog may name a member for having that. What lacks a copy is known as such after a restart, too;
//!   what has one is not. If it is a member once more when its copy is there, it goes on saying that it lacks one.
//! - Nor does a primary give one to whom it waits for: a candidate that was found to be damaged after it was proposed may be
//!   added yet.
//! - A primary whose database is promoted before its copy was begun keeps what it has: the catalog promotes nothing that it
//!   knows to be incomplete, and nobody begins before it knows.
//! - A copy of a source is taken only as the logs were compared: it holds the common point, and carries out no promotion
//!   that was not known then and is not known now. The source may have turned to another history since. Where it does not
//!   fit nothing has changed yet, and the logs are compared anew.
//! - So a process that finds its state incomplete asks no source: it has nothing that could be compared. It holds nothing,
//!   says so, and another member is named, which it is copied from.
//! - A copied log begins behind the copy. What followers acknowledged, and what this replica has matched, was about the
//!   log before.
//! - A follower with nothing at all is not fed a long history record by record: the feeder tells it that its log begins
//!   further on, and the follower draws the same conclusion as from a log that was trimmed.

use types::{Lineage, LinkId, Lsn, Member, NodeId, Role, StartKind, Timestamp, View, is_named};

use crate::log::Log;
use crate::replica::{Office, Repair};
use crate::{Cursors, Effect, Instant, Planted, Replica};

/// Who has what a replica lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The primary of the region.
    Primary(Member),
    /// The primary of the source.
    Source(LinkId),
}

impl Replica {
    /// The log does not reach back to what both have: the state is copied.
    pub(crate) fn install(&mut self, origin: Origin, common: Lsn, effects: &mut Vec<Effect>) {
        let whole = !matches!(self.repair, Some(Repair::Installing { whole: false, .. }));
        let relied_on = self.is_relied_on();
        self.repair = Some(Repair::Installing { asked: Some(origin).filter(|_| !relied_on), whole });
        if relied_on {
            return;
        }
        let (link, primary) = match origin {
            Origin::Primary(member) => (None, Some(member)),
            Origin::Source(link) => (Some(link), None),
        };
        effects.push(Effect::Install { link, primary, common });
    }

    /// The log of the source, which was compared under the same promotions, does not reach back to the common point.
    pub(crate) fn install_compared(&mut self, link: LinkId, common: Lsn, lineage: Lineage, effects: &mut Vec<Effect>) {
        self.compared = Some((common, lineage));
        self.install(Origin::Source(link), common, effects);
    }

    /// Whether a copy that has come may take the place of log and state: the host asks before it replaces anything.
    pub fn takes(&self, lineage: &Lineage, end: Lsn) -> bool {
        let Some((common, offered)) = self.compared.as_ref().filter(|_| self.is_compared()) else { return true };
        let holds = self.log.lineage.common_point(self.log.end, lineage, end) >= *common;
        let known = self.view.as_ref().map_or(&[][..], |view| &view.promotions);
        let learnt = lineage.entries().iter().all(|entry| match entry.kind {
            StartKind::Failover => true,
            StartKind::Promotion { id, .. } => is_named(id, known) || offered.entries().contains(entry),
        });
        holds && learnt || self.options.has(Planted::CopyUncompared)
    }

    /// Whether the copy under way is one of a source, for a log and state that were compared with its own.
    fn is_compared(&self) -> bool {
        matches!(self.repair, Some(Repair::Installing { asked: Some(Origin::Source(_)), whole: true }))
    }

    /// Whether a replica of the region that asks for a copy of this one may have it: not while a process of its node is waited
    /// for. The copy may end below what was acknowledged before, and the catalog may count on that: of a member, of the process
    /// that has taken a member's place, and of a candidate while nobody knows whether its proposal came in time.
    pub fn gives_to(&self, to: NodeId) -> bool {
        let Office::Leading(leading) = &self.office else { return false };
        let is_waited_for = leading.waited().iter().any(|member| member.node == to);
        // Each of the two rules keeps a member from a copy.
        !is_waited_for || self.options.has(Planted::CopyForWaited) || self.options.has(Planted::MemberByCopy)
    }

    /// The copy did not fit.
    pub(crate) fn on_unfit(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.is_compared() {
            self.compare_anew(now, effects);
        }
    }

    /// Log and state are what they were: they are compared with what the source has now.
    fn compare_anew(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        (self.repair, self.compared) = (None, None);
        effects.push(Effect::StopCopy);
        if let Office::Leading(leading) = &mut self.office {
            leading.on_applied(self.cursors.applied, self.cursors.committed, effects);
        }
        self.after_repair(now, effects);
    }

    /// Asks for the copy that is missing as soon as it is known who has it, and again when that is another one.
    pub(crate) fn ask_copy(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(Repair::Installing { asked, whole }) = self.repair else { return };
        if self.is_relied_on() {
            return;
        }
        match self.origin().filter(|origin| asked != Some(*origin)) {
            // Another source than the one that was compared.
            Some(Origin::Source(_)) if whole && !self.options.has(Planted::CopyUncompared) => {
                self.compare_anew(now, effects);
            }
            // Whoever has what this set has served is waited for: the source may have turned to another history.
            Some(Origin::Source(_)) if !whole && !self.options.has(Planted::CopyByDamaged) => {}
            Some(origin) => self.install(origin, Lsn::ZERO, effects),
            None => {}
        }
    }

    /// The catalog names this replica as a primary that writes: what it has is what its database goes on from.
    pub(crate) fn keep_state(&mut self, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        let writes = view.primary == self.me && matches!(view.role, Role::Writable { .. });
        let whole = matches!(self.repair, Some(Repair::Installing { whole: true, .. }));
        if writes && whole && !self.options.has(Planted::CopyForPromoted) {
            self.repair = None;
            effects.push(Effect::StopCopy);
        }
    }

    fn origin(&self) -> Option<Origin> {
        match &self.office {
            Office::Following(following) => Some(Origin::Primary(following.primary)),
            Office::Starting(_) | Office::Leading(_) => match self.view.as_ref()?.role {
                Role::Sink { link, broken: false, .. } => Some(Origin::Source(link)),
                Role::Sink { .. } | Role::Writable { .. } => None,
            },
            Office::Idle => None,
        }
    }

    /// Where the log, fed up to `limit`, begins for a follower whose own ends at `end`.
    pub(crate) fn fed_from(&self, end: Lsn, limit: Lsn) -> Lsn {
        let long = end == Lsn::ZERO && limit.0 > self.options.copy_records_min;
        if long { limit } else { self.log.trimmed }
    }

    /// Log and state are the copy now.
    pub(crate) fn on_installed(&mut self, now: Instant, lineage: Lineage, end: Lsn, effects: &mut Vec<Effect>) {
        if !matches!(self.repair, Some(Repair::Installing { .. })) {
            return;
        }
        self.repair = self.is_relied_on().then_some(Repair::Leaving);
        let received = self.log.received;
        let common = self.log.lineage.common_point(self.log.end, &lineage, end);
        self.log = Log::new(lineage, end, end, self.options.tail_bytes_max);
        self.receive(received);
        self.cursors = Cursors { committed: end, applied: end, written: end, durable: end };
        if let Some(following) = self.following() {
            following.forget();
        }
        self.keep_mark(common, effects);
        self.turn(now);
        self.after_repair(now, effects);
    }

    /// Whether the catalog may count on what this replica has acknowledged under another primary: it is a member, or has not
    /// heard yet that it is none. What it was named for as a primary it goes on with.
    fn is_relied_on(&self) -> bool {
        let follows = matches!(self.office, Office::Following(_) | Office::Idle);
        let relies = |view: &View| view.primary != self.me && view.members.contains(&self.me);
        follows && self.view.as_ref().is_none_or(relies) && !self.options.has(Planted::MemberByCopy)
    }

    /// The catalog counts no longer on what was acknowledged before the copy: now the copy holds what there is.
    pub(crate) fn leave(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.repair == Some(Repair::Leaving) && !self.is_relied_on() {
            self.repair = None;
            self.after_repair(now, effects);
        }
    }

    /// Whether this replica must be taken for one that holds nothing.
    pub(crate) fn is_installing(&self) -> bool {
        matches!(self.repair, Some(Repair::Installing { .. } | Repair::Leaving))
    }

    /// The log has forgotten the mark: it is kept again, as far as the copy has what the log had.
    fn keep_mark(&mut self, common: Lsn, effects: &mut Vec<Effect>) {
        if self.mark.ts == Timestamp::ZERO {
            return;
        }
        let mut mark = self.mark.clone();
        if mark.lsn > common {
            mark.lsn = common;
            // The records that it counts on may be missing. The mark of a primary has fallen already to the cut that both
            // histories share.
            if !matches!(self.office, Office::Leading(_)) {
                mark.ts = Timestamp::ZERO;
            }
        }
        self.replace_mark(mark, effects);
    }
}
