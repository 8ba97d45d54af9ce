//! What a replica is told. Every change of its state is the answer to one of these.

use types::state::{Outcome, Prepared};
use types::txn::TxnRequest;
use types::{Lineage, LinkId, Lsn, Mark, Member, Record, Reign, Timestamp, TxnId, View};

use crate::{Frame, Instant, Life, Message};

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

/// What a replica finds on its disk when its process opens it.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Names this opening: above those of all openings of the replica by the same process before, also where it was removed
    /// in between. The host chooses it; a newer process begins anew, for it is another member.
    pub life: Life,
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
    /// Another replica of the region asks for a copy of this one. Told before anything of the copy is given.
    CopyAsked {
        /// Whose it is.
        by: Member,
        /// Which opening of it.
        life: Life,
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
    /// Answers `Effect::Install`: the copy that came is not one that may be taken (`Replica::takes`), and was dropped.
    CopyUnfit,
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
