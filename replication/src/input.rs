//! What a replica is told. Every change of its state is the answer to one of these.

use bytes::Bytes;
use types::state::{Outcome, Prepared};
use types::{Epoch, Lineage, LinkId, Lsn, Mark, Ordinal, Record, Reign, Revision, Timestamp, TxnId, View, Write};

use crate::{Frame, Instant, Message};

/// Names a request of the host, so that its answer finds the way back. Chosen by the host, unique while in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Names a follower that is fed: a secondary of the region, or a session with a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FeedId {
    /// A replica of the region, on this node.
    Secondary(types::NodeId),
    /// A DR session of a sink, numbered by the host.
    Sink(u64),
}

/// What a replica finds on its disk when its process starts.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The lineage of the log.
    pub lineage: Lineage,
    /// Its last record.
    pub end: Lsn,
    /// Records at and below this are gone.
    pub trimmed: Lsn,
    /// The state contains the records up to here.
    pub applied: Lsn,
    /// The highest reign that was answered.
    pub promised: Reign,
    /// The last mark that was kept.
    pub mark: Mark,
    /// A rewind that was begun and not ended: to where, because of which lineage.
    pub intent: Option<(Lsn, Lineage)>,
    /// A full copy or state diff was begun and not ended: the state is good for nothing yet.
    pub incomplete: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; at least once every `renew`.
    Tick,
    /// The catalog's word, in answer to a request sent at `sent`.
    View {
        /// What it says.
        view: View,
        /// When it was asked, on this node's clock.
        sent: Instant,
    },
    /// From a replica in the region.
    Frame(Frame),
    /// From a sink that this replica's primary serves. A `Differ` opens the stream or opens it anew.
    FromSink {
        /// Which session.
        feed: u64,
        /// What it says.
        message: Message,
    },
    /// A connection to a node of the region is new: what was sent before may be lost.
    PeerUp {
        /// The node.
        node: types::NodeId,
    },
    /// The log was trimmed: records at and below `to` are gone.
    Trimmed {
        /// The last one that is gone.
        to: Lsn,
    },
    /// A sink's session ended.
    SinkGone {
        /// Which session.
        feed: u64,
    },
    /// The session with the source's primary is open.
    SourceUp {
        /// Of which link.
        link: LinkId,
    },
    /// The session with the source's primary ended.
    SourceDown {
        /// Of which link.
        link: LinkId,
    },
    /// From the source's primary.
    FromSource {
        /// Of which link.
        link: LinkId,
        /// What it says.
        message: Message,
    },
    /// The log up to `end` is in the hands of the operating system.
    Written {
        /// The last such record.
        end: Lsn,
    },
    /// The log up to `end` and this many notes are on disk.
    Durable {
        /// The last such record.
        end: Lsn,
        /// Notes since the process started.
        notes: u64,
    },
    /// Answers `Effect::Read`.
    LogRead {
        /// For whom it was read.
        feed: FeedId,
        /// What was found; empty if the log does not hold it.
        records: Vec<Record>,
    },
    /// The log can no longer be written.
    LogFailed {
        /// Why.
        reason: String,
    },
    /// The state contains the records up to here.
    Applied {
        /// The last such record.
        lsn: Lsn,
    },
    /// Answers `Effect::Rewind`: all six steps are done.
    Rewound {
        /// The log's last record now.
        to: Lsn,
    },
    /// Answers `Effect::Install`: log and state are a copy now, complete up to `end`.
    Installed {
        /// Of the copy's source.
        lineage: Lineage,
        /// Where the copied state stands; the log begins after it.
        end: Lsn,
    },
    /// Answers `Effect::Timestamps`: `count` timestamps from `first` on, taken after the request.
    Timestamps {
        /// From the effect.
        request: u64,
        /// The first.
        first: Timestamp,
        /// How many.
        count: u32,
    },
    /// Answers `Effect::Prepared`.
    Prepared {
        /// From the effect.
        reign: Reign,
        /// The transactions that are open in the state, as of the start of this reign.
        open: Vec<Prepared>,
    },
    /// Answers `Effect::Lookup`.
    Outcome {
        /// From the effect.
        reign: Reign,
        /// Which transaction.
        txn: TxnId,
        /// What the state knows; a commit in a dead interval is given as an abort.
        outcome: Option<Outcome>,
    },
    /// A step of a transaction.
    Txn {
        /// For the answer.
        ticket: Ticket,
        /// Which step.
        request: TxnRequest,
    },
    /// The host stops waiting for an answer.
    Cancel {
        /// To which request.
        ticket: Ticket,
    },
    /// A timestamp from the service: publish a mark below it, as far as transactions allow.
    Publish {
        /// The timestamp.
        ts: Timestamp,
    },
    /// The final resolved timestamp of a sealed database.
    Final {
        /// The last mark while the seal lasts.
        ts: Timestamp,
    },
}

/// Where a transaction stands at this partition, as its coordinator knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The epoch under which it first touched this partition, `None` for the first touch.
    pub epoch: Option<Epoch>,
    /// How many times it has written here.
    pub count: u32,
}

/// A step of a transaction at one of its partitions.
#[derive(Clone, Debug)]
pub enum TxnRequest {
    /// Lock keys before they are looked at and written. Waits while another transaction holds one.
    Lock {
        /// The transaction.
        txn: TxnId,
        /// Where it stands.
        touch: Touch,
        /// The catalog revision at which it was stamped, at its first write.
        stamp: Revision,
        /// Row keys.
        keys: Vec<Bytes>,
    },
    /// Rows to write at commit, under locks that it holds. Later ones of the same key replace earlier ones.
    Buffer {
        /// The transaction.
        txn: TxnId,
        /// The rows.
        writes: Vec<Write>,
    },
    /// Commit; no other partition takes part.
    Commit {
        /// The transaction.
        txn: TxnId,
        /// Where it stands.
        touch: Touch,
    },
    /// Prepare to commit.
    Prepare {
        /// The transaction.
        txn: TxnId,
        /// Where it stands.
        touch: Touch,
        /// The partition that decides.
        first: Ordinal,
    },
    /// To the deciding partition: commit at this time, or abort.
    Decide {
        /// The transaction.
        txn: TxnId,
        /// Taken after every participant had prepared; `None` aborts.
        decision: Option<Timestamp>,
    },
    /// To a participant: what the deciding partition has logged.
    Finish {
        /// The transaction.
        txn: TxnId,
        /// The deciding partition.
        first: Ordinal,
        /// Its decision.
        decision: Option<Timestamp>,
    },
    /// To the deciding partition: how did it end? An undecided or unknown transaction is aborted by the question.
    Inquire {
        /// The transaction.
        txn: TxnId,
    },
    /// Release what it holds, unless it is prepared or being committed.
    Rollback {
        /// The transaction.
        txn: TxnId,
    },
    /// These decisions need not be kept: every participant's outcome is committed.
    Forget {
        /// The transactions.
        txns: Vec<TxnId>,
    },
    /// Wait until everything that may commit at or below `view` has ended and is applied.
    Settle {
        /// The read view; `Timestamp::MAX` for a read of the latest.
        view: Timestamp,
    },
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The keys are locked, under this epoch.
    Locked {
        /// To be named from now on.
        epoch: Epoch,
    },
    /// The rows are kept.
    Buffered {
        /// To be named from now on.
        count: u32,
    },
    /// Committed by every member of the in-sync set.
    Committed {
        /// At this time.
        ts: Timestamp,
        /// By this record.
        lsn: Lsn,
    },
    /// Prepared, and committed as a record.
    Prepared,
    /// How it ended; logged and committed.
    Decided {
        /// Commit timestamp or abort.
        decision: Option<Timestamp>,
    },
    /// The participant's outcome, or the forgetting, is logged and committed.
    Finished,
    /// Nothing is held.
    RolledBack,
    /// Reads at the view see everything; take the value, then ask `may_read`.
    Settled,
    /// It was not done, certainly.
    Refused(Refusal),
    /// It may or may not have been done: the reign ended while it was under way.
    Unknown,
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This replica is not the primary of a writable partition, or not yet.
    NotPrimary,
    /// The database follows another region.
    Sink,
    /// The transaction touched this partition under another epoch, or a statement of it is missing: repeat it all.
    Stale,
    /// A fence: repeat it on the other side.
    Fenced,
    /// The transaction is not known here, or has ended.
    Ended,
}
