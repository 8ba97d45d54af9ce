//! What replicas say to each other. The same four messages serve a secondary that follows its primary and a sink
//! that follows its source: there is one comparison of logs and one way to catch up.
//!
//! | message | from | to | when |
//! |---|---|---|---|
//! | `Append` | primary, source | secondary, sink | records that follow `prev`, or none: progress and marks |
//! | `Differ` | secondary, sink | primary, source | "my log does not contain `prev`": its lineage; opens a DR stream |
//! | `Resume` | primary, source | secondary, sink | the other lineage: the receiver rewinds to the common point |
//! | `Ack` | secondary, sink | primary, source | how far the logs agree, and how much of that is on disk |

use std::fmt;

use types::{Epoch, Lineage, Lsn, Mark, Member, PartitionId, Promotion, Record, Reign, Revision, Timestamp};

use crate::trace::Promotions;

/// A message between two replicas of a region, fenced by the reign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Of which partition.
    pub partition: PartitionId,
    /// The sender's process.
    pub from: Member,
    /// Of the sender's replica.
    pub life: Life,
    /// Under which reign, and after how many rewinds of its primary.
    pub stream: Stream,
    /// What is said.
    pub message: Message,
}

/// One opening of a replica by its process, which may find it damaged and open it anew: a later one is greater than
/// every one before it in the same process. What one life has acknowledged the next one need not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life(pub u64);

/// A primary's log as its followers see it. A sink's primary that rewinds begins a new turn of its reign: what was
/// acknowledged before is about another history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// The primary's reign.
    pub reign: Reign,
    /// Rises with rewinds of the primary in this reign, and when a node's copy may be another one.
    pub turn: u32,
}

/// What one replica tells another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Records, and how far the sender is.
    Append(Append),
    /// My log does not have what you sent after: this is what it has.
    Differ {
        /// Of the sender's log.
        lineage: Lineage,
        /// The sender's last record.
        end: Lsn,
        /// Records at and below this are gone from its log: it cannot go back below. `Lsn(u64::MAX)` while a copy is
        /// missing: then it holds nothing that its log could be followed by.
        trimmed: Lsn,
    },
    /// This is my log: rewind to the common point if yours is longer, and go on from there.
    Resume(Resume),
    /// What the sender holds.
    Ack(Ack),
}

/// As `trimmed` of a `Differ`: a copy is missing.
pub(crate) const MISSING: Lsn = Lsn(u64::MAX);

/// Records that follow `prev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The record before the first one.
    pub prev: Lsn,
    /// Its epoch, `None` at the start of the log.
    pub prev_epoch: Option<Epoch>,
    /// In order, without a gap. May be empty.
    pub records: Vec<Record>,
    /// In a region: the primary's committed position. Between regions zero.
    pub committed: Lsn,
    /// The sender's mark, where it has one.
    pub mark: Option<Mark>,
    /// In a region: when the reign was granted, in the catalog's history.
    pub reign_revision: Revision,
    /// In a region: the catalog's count of announced losses.
    pub losses: u64,
    /// The sender follows another region: it may rewind, and who follows it with it.
    pub sink: bool,
}

/// The sender's log, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Its lineage.
    pub lineage: Lineage,
    /// The last record that it would send.
    pub end: Lsn,
    /// It sends none of the records at and below this: they are gone from its log, or too many for a follower with nothing.
    pub trimmed: Lsn,
    /// Between regions: the promotions of the sender's history.
    pub promotions: Vec<Promotion>,
    /// Between regions: the sender is a sink itself. Then its log may merely be shorter.
    pub relay: bool,
}

/// What a follower holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// Up to here its log is the sender's.
    pub matched: Lsn,
    /// Of that, what counts for a commit: on disk, or in the system's memory with ASYNC DURABILITY.
    pub position: Lsn,
    /// Of that, what is on disk.
    pub durable: Lsn,
    /// The mark that is on disk, or for a sink the cut that is on disk of its whole in-sync set.
    pub mark: Timestamp,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Append(append) => {
                write!(f, "Append after {}", append.prev)?;
                if let (Some(first), Some(last)) = (append.records.first(), append.records.last()) {
                    write!(f, " records {}..{}", first.lsn, last.lsn)?;
                }
                if let Some(mark) = &append.mark {
                    write!(f, " mark {}@{}", mark.ts, mark.lsn)?;
                }
                write!(f, " committed {}", append.committed)
            }
            Message::Differ { trimmed, .. } if *trimmed == MISSING => f.write_str("Differ, a copy is missing"),
            Message::Differ { lineage, end, trimmed } => {
                write!(f, "Differ {} end {end}", Epochs(lineage))?;
                if *trimmed > Lsn::ZERO { write!(f, " trimmed {trimmed}") } else { Ok(()) }
            }
            Message::Resume(resume) => {
                write!(f, "Resume {} end {}", Epochs(&resume.lineage), resume.end)?;
                if resume.trimmed > Lsn::ZERO {
                    write!(f, " trimmed {}", resume.trimmed)?;
                }
                if !resume.promotions.is_empty() {
                    write!(f, " promotions {}", Promotions(&resume.promotions))?;
                }
                f.write_str(if resume.relay { " relay" } else { "" })
            }
            Message::Ack(ack) => {
                write!(f, "Ack matched {} position {} durable {}", ack.matched, ack.position, ack.durable)?;
                if ack.mark > Timestamp::ZERO { write!(f, " mark {}", ack.mark) } else { Ok(()) }
            }
        }
    }
}

/// A lineage in one line: `1/c1@1 2/c1@14`.
pub struct Epochs<'a>(pub &'a Lineage);

impl fmt::Display for Epochs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.entries().is_empty() {
            return f.write_str("empty");
        }
        for (index, entry) in self.0.entries().iter().enumerate() {
            write!(f, "{}{}@{}", if index > 0 { " " } else { "" }, entry.epoch, entry.start_lsn)?;
        }
        Ok(())
    }
}
