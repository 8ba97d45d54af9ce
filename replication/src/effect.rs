//! What a replica asks its host to do. The order of effects is the order in which the host begins them; only
//! the log's own effects (`Append`, `Note`) are bound to end in that order.

use types::{Lineage, LinkId, Lsn, Mark, Member, NodeId, Promotion, Record, Reign, SetVersion, TxnId};

use crate::{Answer, FeedId, Frame, Message, Ticket};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append to the log. Told by `Written` and `Durable`.
    Append(Vec<Record>),
    /// Keep beside the log; counted in `Durable`.
    Note(Note),
    /// Read the log for a follower: records from here, up to about this many bytes. Told by `LogRead`, before any
    /// later `Rewind` is told as done.
    Read {
        /// For whom.
        feed: FeedId,
        /// The first record.
        from: Lsn,
        /// The last record to read.
        to: Lsn,
        /// About how much.
        bytes_max: usize,
    },
    /// Send to a replica of the region.
    Send {
        /// On this node.
        to: NodeId,
        /// What.
        frame: Frame,
    },
    /// Send to a sink.
    ToSink {
        /// In this session.
        feed: u64,
        /// What.
        message: Message,
    },
    /// Send to the source's primary.
    ToSource {
        /// Of this link.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Apply the committed records up to here, in order. Before an `EpochStart` of a promotion is applied, what it
    /// declares dead is set aside and synced. Told by `Applied`.
    Apply {
        /// The last one.
        to: Lsn,
    },
    /// Drop everything above `to` by the procedure of `docs/protocol.md`: intent, set aside, undo, flush, cut,
    /// intent cleared. Told by `Rewound`. Nothing is appended meanwhile.
    Rewind {
        /// The last record to keep.
        to: Lsn,
        /// The history that goes on from there instead.
        lineage: Lineage,
    },
    /// The follower cannot be brought along by the log: copy the state. Told by `Installed`, or by
    /// `CopyUnfit` where `Replica::takes` says no to what has come.
    Install {
        /// From the source of this link, or from the primary of the region.
        link: Option<LinkId>,
        /// The primary, in a region.
        primary: Option<Member>,
        /// The last record that both logs share; the state there is the base of a state diff.
        common: Lsn,
    },
    /// The copy that was asked for is not wanted any more: stop getting it. Log and state are what they were.
    StopCopy,
    /// Ask the timestamp service, now, until it answers. Told by `Timestamps`, once.
    Timestamps {
        /// For the answer.
        request: u64,
        /// How many.
        count: u32,
    },
    /// Read the open prepared transactions from the state. Told by `Prepared`.
    Prepared {
        /// For the answer.
        reign: Reign,
    },
    /// Look a transaction's outcome up in the state. Told by `Outcome`.
    Lookup {
        /// For the answer.
        reign: Reign,
        /// Which.
        txn: TxnId,
    },
    /// Ask the deciding partition of a transaction that has been prepared for long; its answer comes as `Finish`.
    Inquire {
        /// Which.
        txn: TxnId,
        /// The deciding partition of the same database.
        first: types::Ordinal,
        /// The last promotion of the history in which it is prepared here.
        history: types::PromotionId,
    },
    /// Propose a change of the in-sync set to the catalog: a compare-and-set.
    Propose {
        /// In this reign.
        reign: Reign,
        /// Of this set version.
        version: SetVersion,
        /// The change.
        change: SetChange,
    },
    /// The source's history has other promotions than the catalog knows: let it decide.
    Learn {
        /// Of which link.
        link: LinkId,
        /// The source's promotions.
        promotions: Vec<Promotion>,
        /// The source is a sink itself.
        relay: bool,
    },
    /// The source has lost records that were served here: let the catalog break the link, if the partition is still as this
    /// replica knows it. Told anew with each comparison.
    Break {
        /// Which link.
        link: LinkId,
        /// In this reign.
        reign: Reign,
        /// Of this set version.
        version: SetVersion,
        /// What was lost, for people.
        reason: String,
    },
    /// Answer a request.
    Answer {
        /// Which.
        ticket: Ticket,
        /// The answer.
        answer: Answer,
    },
    /// Give the leaf up: its log can no longer be trusted.
    Halt {
        /// Why.
        reason: String,
    },
}

/// What is kept beside the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The highest reign that is answered from now on.
    Promise(Reign),
    /// The mark.
    Mark(Mark),
}

/// A change of an in-sync set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetChange {
    /// It has caught up and is waited for already.
    Add(Member),
    /// It is silent or gone, and still waited for.
    Remove(Member),
}
