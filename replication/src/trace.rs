//! One line for everything that goes in and comes out: what golden scripts, logs and the simulator print.
//!
//! Rows are counted, never shown: a trace may end in a log that others read.

use std::collections::BTreeSet;
use std::fmt;

use types::{Body, Mark, Member, Promotion, Record, Role, StartKind, View};

use crate::message::Epochs;
use crate::{Effect, FeedId, Frame, Input, Life, Note, SetChange, Status, Stream};

/// Things with a blank between them.
struct List<I>(I);

impl<T: fmt::Display, I: Iterator<Item = T> + Clone> fmt::Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.clone().enumerate() {
            write!(f, "{}{item}", if index > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

/// Members in braces: `{n1.1 n2.1}`.
pub(crate) fn members(f: &mut fmt::Formatter<'_>, members: &BTreeSet<Member>) -> fmt::Result {
    write!(f, "{{{}}}", List(members.iter()))
}

/// Promotions in one line: `[9@100 11@150]`, the ids in hexadecimal.
pub struct Promotions<'a>(pub &'a [Promotion]);

impl fmt::Display for Promotions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.0.iter().map(|promotion| format!("{:x}@{}", promotion.id.0, promotion.cut));
        write!(f, "[{}]", List(items))
    }
}

/// A record without its rows: `3 Commit t1 ts 12 writes 1`.
pub struct Line<'a>(pub &'a Record);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { epoch, lsn, body } = self.0;
        write!(f, "{lsn} ")?;
        match body {
            Body::EpochStart { start_ts, kind } => {
                write!(f, "EpochStart {epoch} start {start_ts} ")?;
                start_kind(f, kind)
            }
            Body::Commit { txn, ts, writes } => write!(f, "Commit t{txn} ts {ts} writes {}", writes.len()),
            Body::Prepare { txn, bound, first, writes } => {
                write!(f, "Prepare t{txn} bound {bound} first p{first} writes {}", writes.len())
            }
            Body::Outcome { txn, first, decision: Some(ts) } => {
                write!(f, "Outcome t{txn} first p{first} commit {ts}")
            }
            Body::Outcome { txn, first, decision: None } => write!(f, "Outcome t{txn} first p{first} abort"),
            Body::Forget { txns } => write!(f, "Forget {}", List(txns.iter().map(|txn| format!("t{txn}")))),
        }
    }
}

fn start_kind(f: &mut fmt::Formatter<'_>, kind: &StartKind) -> fmt::Result {
    match kind {
        StartKind::Failover => f.write_str("failover"),
        StartKind::Promotion { id, cut } => write!(f, "promotion {:x} cut {cut}", id.0),
    }
}

fn mark(f: &mut fmt::Formatter<'_>, mark: &Mark) -> fmt::Result {
    write!(f, "mark {}@{}", mark.ts, mark.lsn)?;
    if mark.promotions.is_empty() { Ok(()) } else { write!(f, " {}", Promotions(&mark.promotions)) }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.reign)?;
        if self.turn > 0 { write!(f, ".{}", self.turn) } else { Ok(()) }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.stream)?;
        if self.life > Life::default() {
            write!(f, "life {} ", self.life.0)?;
        }
        write!(f, "{}", self.message)
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedId::Secondary(node) => write!(f, "n{node}"),
            FeedId::Sink(number) => write!(f, "sink {number}"),
        }
    }
}

impl fmt::Display for SetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetChange::Add(member) => write!(f, "add {member}"),
            SetChange::Remove(member) => write!(f, "remove {member}"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Promise(reign) => write!(f, "promise r{reign}"),
            Note::Mark(noted) => mark(f, noted),
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Append(records) => {
                f.write_str("append ")?;
                for (index, record) in records.iter().enumerate() {
                    write!(f, "{}{}", if index > 0 { "; " } else { "" }, Line(record))?;
                }
                Ok(())
            }
            Effect::Note(note) => write!(f, "note {note}"),
            Effect::Read { feed, from, to, .. } => write!(f, "read {from}..{to} for {feed}"),
            Effect::Send { to, frame } => write!(f, "-> n{to} {frame}"),
            Effect::ToSink { feed, message } => write!(f, "-> sink {feed} {message}"),
            Effect::ToSource { link, message } => write!(f, "-> source {link} {message}"),
            Effect::Apply { to } => write!(f, "apply to {to}"),
            Effect::Rewind { to, lineage } => write!(f, "rewind to {to}, because of {}", Epochs(lineage)),
            Effect::Install { link, primary, common } => {
                write!(f, "install from ")?;
                match (link, primary) {
                    (Some(link), _) => write!(f, "source {link}")?,
                    (None, Some(primary)) => write!(f, "{primary}")?,
                    (None, None) => f.write_str("nobody")?,
                }
                write!(f, ", common {common}")
            }
            Effect::StopCopy => f.write_str("stop the copy"),
            Effect::Timestamps { request, count } => write!(f, "timestamps {count}, request {request}"),
            Effect::Prepared { reign } => write!(f, "read what is prepared, r{reign}"),
            Effect::Lookup { txn, .. } => write!(f, "look up t{txn}"),
            Effect::Inquire { txn, first, .. } => write!(f, "inquire t{txn} at p{first}"),
            Effect::Propose { reign, version, change } => write!(f, "propose r{reign} v{version} {change}"),
            Effect::Learn { promotions, relay, .. } => {
                write!(f, "learn {}{}", Promotions(promotions), if *relay { " of a relay" } else { "" })
            }
            Effect::Break { reason, .. } => write!(f, "break the link: {reason}"),
            Effect::Answer { ticket, answer } => write!(f, "answer {}: {answer}", ticket.0),
            Effect::Halt { reason } => write!(f, "halt: {reason}"),
        }
    }
}

/// A view in one line.
pub struct ViewLine<'a>(pub &'a View);

impl fmt::Display for ViewLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.0;
        write!(f, "r{} v{} primary {} members ", view.reign, view.version, view.primary)?;
        members(f, &view.members)?;
        match &view.role {
            Role::Writable { epoch, start, start_above } => {
                write!(f, " writable {epoch} ")?;
                start_kind(f, start)?;
                if start_above.0 > 0 {
                    write!(f, " above {start_above}")?;
                }
            }
            Role::Sink { link, forced, broken } => {
                write!(f, " sink of {link}")?;
                f.write_str(if *forced { " forced" } else { "" })?;
                f.write_str(if *broken { " broken" } else { "" })?;
            }
        }
        if !view.promotions.is_empty() {
            write!(f, " {}", Promotions(&view.promotions))?;
        }
        match view.fence {
            types::Fence::None => {}
            types::Fence::Draining(revision) => write!(f, " draining since {revision}")?,
            types::Fence::Sealed(revision) => write!(f, " sealed since {revision}")?,
        }
        if view.losses > 0 { write!(f, " losses {}", view.losses) } else { Ok(()) }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Tick => f.write_str("tick"),
            Input::View { view, .. } => write!(f, "view {}", ViewLine(view)),
            Input::Frame(frame) => write!(f, "{} says {frame}", frame.from),
            Input::FromSink { feed, message } => write!(f, "sink {feed} says {message}"),
            Input::PeerUp { node } => write!(f, "connection to n{node} is new"),
            Input::CopyAsked { by, life } => write!(f, "{by} life {} asks for a copy", life.0),
            Input::Trimmed { to } => write!(f, "trimmed to {to}"),
            Input::SinkGone { feed } => write!(f, "sink {feed} is gone"),
            Input::SourceUp { link } => write!(f, "source {link} is up"),
            Input::SourceDown { link } => write!(f, "source {link} is down"),
            Input::FromSource { link, message } => write!(f, "source {link} says {message}"),
            Input::Written { end } => write!(f, "written to {end}"),
            Input::Durable { end, notes } => write!(f, "durable to {end}, notes {notes}"),
            Input::LogRead { feed, records } => write!(f, "{} records read for {feed}", records.len()),
            Input::LogFailed { reason } => write!(f, "log failed: {reason}"),
            Input::Applied { lsn } => write!(f, "applied to {lsn}"),
            Input::Rewound { to } => write!(f, "rewound to {to}"),
            Input::Installed { lineage, end } => write!(f, "installed {} end {end}", Epochs(lineage)),
            Input::CopyUnfit => f.write_str("the copy does not fit"),
            Input::Timestamps { request, first, count } => {
                write!(f, "timestamps from {first}, {count} of them, request {request}")
            }
            Input::Prepared { open, .. } if open.is_empty() => f.write_str("nothing is prepared"),
            Input::Prepared { open, .. } => {
                write!(f, "prepared in the state: {}", List(open.iter().map(|open| format!("t{}", open.txn))))
            }
            Input::Outcome { txn, outcome, .. } => match outcome.map(|outcome| outcome.decision) {
                Some(Some(ts)) => write!(f, "t{txn} in the state: commit {ts}"),
                Some(None) => write!(f, "t{txn} in the state: abort"),
                None => write!(f, "t{txn} in the state: unknown"),
            },
            Input::Txn { ticket, request } => write!(f, "request {}: {request}", ticket.0),
            Input::Cancel { ticket } => write!(f, "cancel {}", ticket.0),
            Input::Publish { ts } => write!(f, "publish {ts}"),
            Input::Final { ts } => write!(f, "final {ts}"),
        }
    }
}

/// `primary r1 5/5/4/4 safe 4 serving waits for {n1.1 n2.1}`: appended, durable, committed, applied.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let office = if self.leading.is_some() { "primary" } else { "replica" };
        let c = &self.cursors;
        write!(f, "{office} r{} {}/{}/{}/{}", self.reign, self.appended, c.durable, c.committed, c.applied)?;
        if self.trimmed.0 > 0 {
            write!(f, " trimmed {}", self.trimmed)?;
        }
        if self.repairing {
            f.write_str(" repairing")?;
        }
        if self.mark.ts.0 > 0 || !self.mark.promotions.is_empty() {
            f.write_str(" ")?;
            mark(f, &self.mark)?;
        }
        let Some(leading) = &self.leading else { return Ok(()) };
        write!(f, " safe {}", leading.safe)?;
        if leading.turn > 0 {
            write!(f, " turn {}", leading.turn)?;
        }
        for (shown, word) in [(leading.serving, " serving"), (leading.busy, " busy"), (!leading.joined, " not joined")]
        {
            f.write_str(if shown { word } else { "" })?;
        }
        if leading.cut.0 > 0 {
            write!(f, " cut {}", leading.cut)?;
        }
        if leading.published.ts.0 > 0 {
            write!(f, " published {}@{}", leading.published.ts, leading.published.lsn)?;
        }
        if let Some(position) = leading.final_position {
            write!(f, " final {position}")?;
        }
        f.write_str(" waits for ")?;
        members(f, &leading.waited)
    }
}
