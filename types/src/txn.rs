//! The steps of a transaction at a partition, and their answers: what a coordinator and a primary say to each other.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Epoch, Lsn, Ordinal, PromotionId, Revision, SchemaVersion, Timestamp, TxnId, Write};

/// Where a transaction stands at this partition, as its coordinator knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touch {
    /// The epoch under which it first touched this partition, `None` for the first touch.
    pub epoch: Option<Epoch>,
    /// How many times it has written here.
    pub count: u32,
    /// The definitions that its rows were made with; `None` for rows that none describe, as in the meta partition.
    pub schema: Option<SchemaVersion>,
}

/// A step of a transaction at one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Take back what it was to write to these keys: the statement that wrote them has failed. The locks stay.
    Unbuffer {
        /// The transaction.
        txn: TxnId,
        /// The keys.
        keys: Vec<Bytes>,
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
        /// The last promotion of the history in which a participant holds it prepared, 0 if there was none: another one may have
        /// given up what was decided. `None`: whoever asks holds nothing.
        history: Option<PromotionId>,
    },
    /// Release what it holds, unless it is prepared or being committed.
    Rollback {
        /// The transaction.
        txn: TxnId,
    },
    /// Release what it holds and take its commit back, if that has no timestamp yet. What is in the log already, prepared or
    /// not known here (any more) is refused: then this says nothing of how it ends.
    Withdraw {
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
        /// The definitions that the reader knows; `None` if it needs none.
        schema: Option<SchemaVersion>,
    },
    /// From now on take nothing that was planned with other definitions, unless newer ones are required already.
    /// Answered when nothing that was taken before can still commit.
    Require {
        /// These definitions; version 0 only asks.
        version: SchemaVersion,
        /// The last promotion of the history in which they hold, 0 if there was none: a primary that serves another history
        /// refuses. `None`: whichever it serves.
        history: Option<PromotionId>,
    },
    /// The coordinator of a prepared transaction is at work: nobody need ask yet how it ended.
    Alive {
        /// The transaction.
        txn: TxnId,
    },
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Prepared, and committed as a record. All participants of a transaction must serve one history: a promotion that only some
    /// have carried out will give up the others' parts.
    Prepared {
        /// The last promotion of the history that this primary serves, 0 if there was none.
        history: PromotionId,
    },
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
    /// Only these definitions are taken; true if `may_read` says so afterwards.
    Required {
        /// They may be newer than those that were to be required.
        version: SchemaVersion,
        /// The last promotion of the history that this primary serves, 0 if there was none.
        history: PromotionId,
    },
    /// It was not done, certainly.
    Refused(Refusal),
    /// It may or may not have been done: the reign ended while it was under way.
    Unknown,
    /// It is prepared, and waits for the decision.
    Waiting,
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// It was planned with other definitions than are required here; `None`: this reign has not been told which.
    Schema(Option<SchemaVersion>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotPrimary => f.write_str("not primary"),
            Refusal::Sink => f.write_str("sink"),
            Refusal::Stale => f.write_str("stale"),
            Refusal::Fenced => f.write_str("fenced"),
            Refusal::Ended => f.write_str("ended"),
            Refusal::Schema(Some(version)) => write!(f, "schema {version} is required"),
            Refusal::Schema(None) => f.write_str("the schema is not known"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Locked { epoch } => write!(f, "locked under {epoch}"),
            Answer::Buffered { count } => write!(f, "buffered, count {count}"),
            Answer::Committed { ts, lsn } => write!(f, "committed ts {ts} at {lsn}"),
            Answer::Prepared { history: PromotionId(0) } => f.write_str("prepared"),
            Answer::Prepared { history } => write!(f, "prepared in {:x}", history.0),
            Answer::Decided { decision: Some(ts) } => write!(f, "decided commit {ts}"),
            Answer::Decided { decision: None } => f.write_str("decided abort"),
            Answer::Finished => f.write_str("finished"),
            Answer::RolledBack => f.write_str("rolled back"),
            Answer::Settled => f.write_str("settled"),
            Answer::Required { version, history: PromotionId(0) } => write!(f, "schema {version} is required"),
            Answer::Required { version, history } => {
                write!(f, "schema {version} is required after promotion {}", history.0)
            }
            Answer::Refused(refusal) => write!(f, "refused: {refusal}"),
            Answer::Unknown => f.write_str("unknown"),
            Answer::Waiting => f.write_str("waiting"),
        }
    }
}

impl fmt::Display for TxnRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TxnRequest::Lock { txn, keys, .. } => write!(f, "lock t{txn} keys {}", keys.len()),
            TxnRequest::Buffer { txn, writes } => write!(f, "buffer t{txn} writes {}", writes.len()),
            TxnRequest::Unbuffer { txn, keys } => write!(f, "unbuffer t{txn} keys {}", keys.len()),
            TxnRequest::Commit { txn, .. } => write!(f, "commit t{txn}"),
            TxnRequest::Prepare { txn, first, .. } => write!(f, "prepare t{txn} first p{first}"),
            TxnRequest::Decide { txn, decision: Some(ts) } => write!(f, "decide t{txn} commit {ts}"),
            TxnRequest::Decide { txn, decision: None } => write!(f, "decide t{txn} abort"),
            TxnRequest::Finish { txn, first, decision: Some(ts) } => {
                write!(f, "finish t{txn} of p{first} commit {ts}")
            }
            TxnRequest::Finish { txn, first, decision: None } => write!(f, "finish t{txn} of p{first} abort"),
            TxnRequest::Inquire { txn, history } => {
                write!(f, "inquire t{txn}")?;
                history.filter(|id| id.0 > 0).map_or(Ok(()), |id| write!(f, " after promotion {:x}", id.0))
            }
            TxnRequest::Rollback { txn } => write!(f, "roll back t{txn}"),
            TxnRequest::Withdraw { txn } => write!(f, "withdraw t{txn}"),
            TxnRequest::Forget { txns } => {
                write!(f, "forget {}", txns.iter().map(|txn| format!("t{txn}")).collect::<Vec<_>>().join(" "))
            }
            TxnRequest::Settle { view, .. } if *view == Timestamp::MAX => f.write_str("settle latest"),
            TxnRequest::Settle { view, .. } => write!(f, "settle view {view}"),
            TxnRequest::Require { version, history: None } => write!(f, "require schema {version}"),
            TxnRequest::Require { version, history: Some(history) } => {
                write!(f, "require schema {version} after promotion {}", history.0)
            }
            TxnRequest::Alive { txn } => write!(f, "t{txn} has a coordinator"),
        }
    }
}
