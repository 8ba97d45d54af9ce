//! What the processes of a region say to each other in calls: leaves to the master, aggregators to leaves.
//!
//! Replicas talk in frames of their own (`replication`); everything else is a request here and its answer.
//! Unknown variants are refused by the codec, versions by the session's handshake.

mod divergence;
mod front;

pub use front::{
    Cells, FrontAnswer, FrontOrders, FrontReport, FrontRequest, LinkCaller, LockId, PlanOrder, Planned, SheetOf, Table,
    Want, WantedLock,
};

pub use divergence::{DivergenceAbout, DivergenceFile, ExchangeId, Fate, SetAside};

pub use catalog::heartbeat::{
    EndReport, LeadingReport, Orders, Peer, ReplicaReport, Report, Round, Route, StreamReport,
};

use bytes::Bytes;
use catalog::command::{BreakLink, SetChange};
use catalog::event::Severity;
use catalog::node::{Addresses, Roles};
use catalog::{Command, Outcome, Refusal as CatalogRefusal};
use serde::{Deserialize, Serialize};
use sql::cluster::{Scan, WriteBatch, Written};
use types::txn::{Answer, Refusal, Touch, TxnRequest};
use types::{
    ClusterId, DatabaseId, Incarnation, Lineage, LinkId, Lsn, Mark, NodeId, PartitionId, Promotion, PromotionId, Reign,
    Revision, SchemaVersion, SetVersion, Timestamp, TxnId,
};

/// To the master aggregator. Any other one answers [`MasterAnswer::NotMaster`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MasterRequest {
    /// Whether this aggregator belongs to a group; every one answers for itself.
    Group,
    /// Another aggregator has a command to be decided. A repeated proposal has the same number.
    Propose {
        /// Its number.
        id: u128,
        /// The command.
        command: Box<Command>,
    },
    /// What is decided by now?
    Applied,
    /// Of another aggregator, for its clients.
    Front(Box<FrontRequest>),
    /// A node with an empty data directory joins the cluster.
    Register {
        /// Its number, as its certificate says.
        node: NodeId,
        /// Random bits from its data directory.
        identity: u128,
        /// Where it is reached.
        addresses: Addresses,
        /// What it does.
        roles: Roles,
    },
    /// A process of a known node has started and listens.
    Started {
        /// Which node.
        node: NodeId,
        /// Which of its processes.
        incarnation: Incarnation,
        /// Random bits from its data directory: another one with the same numbers is another node.
        identity: u128,
        /// Where it is reached.
        addresses: Addresses,
    },
    /// A leaf's heartbeat.
    Report(Report),
    /// Timestamps that nobody else gets, taken after the request arrived.
    Timestamps {
        /// How many.
        count: u32,
    },
    /// A primary changes its in-sync set.
    ProposeSet {
        /// Of which partition.
        partition: PartitionId,
        /// The proposer's reign.
        reign: Reign,
        /// The set that it knows.
        version: SetVersion,
        /// The change.
        change: SetChange,
    },
    /// A sink's source has other promotions than the catalog knows.
    Learn {
        /// The sink.
        database: DatabaseId,
        /// Its link.
        link: LinkId,
        /// The source's promotions.
        promotions: Vec<Promotion>,
        /// The source is a sink itself.
        relay: bool,
    },
    /// A sink's source has lost what was served here.
    BreakLink(BreakLink),
    /// How did a transaction end? Passed on to its deciding partition.
    Inquire {
        /// The deciding partition.
        partition: PartitionId,
        /// The transaction.
        txn: TxnId,
        /// The last promotion of the history in which it is prepared.
        history: PromotionId,
    },
    /// A primary begins a copy of its state, or has ended it.
    MarkIncomplete {
        /// Of which partition.
        partition: PartitionId,
        /// Its reign.
        reign: Reign,
        /// Whether its state is good for nothing yet.
        incomplete: bool,
    },
    /// Something happened at a leaf, for people.
    Event {
        /// Which leaf.
        node: NodeId,
        /// What.
        event: LeafEvent,
    },
}

/// What a leaf has to tell people.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeafEvent {
    /// How much they should care.
    pub severity: Severity,
    /// What kind, in one or two words.
    pub kind: String,
    /// Of which partition, where one is meant.
    pub partition: Option<PartitionId>,
    /// One sentence.
    pub text: String,
}

/// The master's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum MasterAnswer {
    /// This aggregator is not the master.
    NotMaster {
        /// The RPC address of the one that is, if that is known.
        leader: Option<String>,
    },
    /// To `Group`.
    Group {
        /// It belongs to one.
        member: bool,
    },
    /// To `Propose`.
    Proposed {
        /// Done, or refused.
        outcome: Result<Outcome, CatalogRefusal>,
        /// The entry that decided it.
        index: u64,
    },
    /// To `Applied`: the last entry.
    Applied(u64),
    /// To `Front`.
    Front(Box<FrontAnswer>),
    /// To `Register`.
    Registered {
        /// The node's id, for ever.
        node: NodeId,
        /// The cluster it belongs to.
        cluster: ClusterId,
    },
    /// It is done, or was before.
    Done,
    /// To `Report`.
    Orders(Orders),
    /// To `Timestamps`: the first of them.
    Timestamps(Timestamp),
    /// To `Inquire`: commit timestamp or abort, logged and committed.
    Decided(Option<Timestamp>),
    /// The catalog refused.
    Refused(CatalogRefusal),
    /// It cannot be decided right now: ask again.
    NotNow(String),
    /// To `Propose` and `Front` of an aggregator that was removed from the region.
    Removed,
}

/// To a leaf.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeafRequest {
    /// Locks rows at a partition's primary, looks at them, and keeps what is to be written at commit.
    Write(WriteRequest),
    /// A step of a transaction.
    Txn {
        /// At which partition.
        partition: PartitionId,
        /// The step; `Lock` and `Buffer` are made by `Write`.
        request: TxnRequest,
    },
    /// Rows by key.
    Get {
        /// At which partition.
        partition: PartitionId,
        /// What may be seen.
        read: Read,
        /// Row keys.
        keys: Vec<Bytes>,
    },
    /// Rows of a key range.
    Scan {
        /// At which partition.
        partition: PartitionId,
        /// What may be seen.
        read: Read,
        /// Which rows, and what of them.
        scan: Scan,
    },
    /// Rows of a key range as they are stored; for ranges that are small, such as a schema.
    Pairs {
        /// At which partition.
        partition: PartitionId,
        /// What may be seen.
        read: Read,
        /// The first key.
        start: Bytes,
        /// Behind the last key.
        end: Bytes,
    },
    /// How a transaction ended that takes part nowhere else: its commit was sent, and the answer was lost. If it has not
    /// begun to commit it never does. Answered with `Answer::Decided`.
    Outcome {
        /// At which partition.
        partition: PartitionId,
        /// The transaction.
        txn: TxnId,
        /// Its record stands above this.
        above: Lsn,
    },
    /// A statement has failed: what the transaction had written here before it is what counts again.
    Undo {
        /// At which partition.
        partition: PartitionId,
        /// The transaction.
        txn: TxnId,
        /// Where it stands there.
        touch: Touch,
        /// The statement, and every later one.
        statement: u32,
    },
    /// Which divergence files the leaf has.
    Divergences,
    /// The writes of one of them, in order, as a stream.
    DivergenceEntries {
        /// Its name.
        name: String,
    },
    /// Removes the files of an exchange that are about a database.
    DiscardDivergence {
        /// Which exchange.
        id: ExchangeId,
        /// Which database.
        database: DatabaseId,
    },
    /// Reads every record and every row of a replica.
    Check {
        /// Of which partition.
        partition: PartitionId,
        /// The rows as they are at this time.
        view: Timestamp,
        /// When everything up to here is applied; `None`: it is the primary, and settles what may commit below.
        applied: Option<Lsn>,
    },
    /// Rebuilds a replica from its primary, as ordered.
    Rebuild {
        /// Of which partition.
        partition: PartitionId,
    },
    /// Where a replica stands.
    Status {
        /// Of which partition.
        partition: PartitionId,
    },
}

/// What a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Everything committed at or below this; `Timestamp::MAX` for the latest.
    pub view: Timestamp,
    /// And what this transaction has written.
    pub txn: Option<TxnId>,
    /// The definitions that it was planned with, if it needs any.
    pub schema: Option<SchemaVersion>,
}

/// Rows to lock and write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteRequest {
    /// At which partition.
    pub partition: PartitionId,
    /// The transaction.
    pub txn: TxnId,
    /// Where it stands there.
    pub touch: Touch,
    /// The catalog revision at which it was stamped, at its first write.
    pub stamp: Revision,
    /// How long to wait for row locks, in milliseconds.
    pub lock_wait_millis: u64,
    /// Which statement of the transaction, from 0: it can be undone.
    pub statement: u32,
    /// The rows, in order.
    pub batch: WriteBatch,
}

/// A leaf's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LeafAnswer {
    /// To `Write` and `Undo`.
    Written {
        /// Where the transaction stands now.
        touch: Touch,
        /// What each write did. An error: nothing of the request was written, its locks are held.
        written: Result<Vec<Written>, sql::Error>,
        /// Where the log ended: what commits it will stand above.
        above: Lsn,
    },
    /// To `Txn`.
    Txn(Answer),
    /// To `Get`: in the order of the keys.
    Rows(Vec<Option<Bytes>>),
    /// To `Pairs`.
    Pairs(Vec<(Bytes, Bytes)>),
    /// To `Scan`: rows as `sql::arrow` encodes them; the stream's end is the last.
    Chunk(Bytes),
    /// To `Status`.
    Status(Box<PartitionStatus>),
    /// To `Divergences`: the files, and what is wrong with those that cannot be read.
    Divergences(Vec<DivergenceFile>, Vec<String>),
    /// To `DivergenceEntries`: some of them; the stream's end is the last.
    DivergenceEntries(Vec<SetAside>),
    /// To `Check`.
    Checked(Box<Checked>),
    /// To `Rebuild`: it has begun.
    Rebuilding,
    /// To `DiscardDivergence`: how many files there were.
    Discarded(u64),
    /// It was not done, certainly.
    Refused(LeafRefusal),
    /// It may or may not have been done.
    Unknown,
}

/// What a replica has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The last record that its rows include.
    pub applied: Lsn,
    /// Records of its log, all of them read.
    pub log_records: u64,
    /// By table, rising.
    pub tables: Vec<TableSum>,
}

/// The rows of one table in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// Its id.
    pub table: u64,
    /// By ranges of keys, rising. A range ends at a key whose hash says so, so that replicas agree on ranges although they
    /// differ in rows.
    pub ranges: Vec<RangeSum>,
}

/// Rows that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeSum {
    /// The key of the first row.
    pub first: Bytes,
    /// How many there are.
    pub rows: u64,
    /// The sum of their hashes.
    pub hash: u64,
}

impl TableSum {
    /// How many rows there are.
    pub fn rows(&self) -> u64 {
        self.ranges.iter().map(|range| range.rows).sum()
    }
}

impl Checked {
    /// The key from which on the rows of another replica are not the same; `None`: they are.
    pub fn differs_from(&self, other: &Checked) -> Option<Bytes> {
        let (mut mine, mut others) = (self.ranges(), other.ranges());
        loop {
            match (mine.next(), others.next()) {
                (None, None) => return None,
                (one, another) if one == another => {}
                (one, another) => return one.into_iter().chain(another).map(|range| range.first.clone()).min(),
            }
        }
    }

    fn ranges(&self) -> impl Iterator<Item = &RangeSum> {
        self.tables.iter().flat_map(|table| &table.ranges)
    }
}

/// A replica in full.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// As in heartbeats.
    pub replica: ReplicaReport,
    /// The lineage of its log.
    pub lineage: Lineage,
    /// Records at and below this are gone from its log.
    pub trimmed: Lsn,
    /// Its mark.
    pub mark: Mark,
}

/// Why a leaf did not do it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeafRefusal {
    /// The protocol says no.
    Protocol(Refusal),
    /// This leaf has no such partition.
    NoPartition,
    /// The lock was not free in time.
    LockWait,
    /// Leases lapsed, or the applied state is behind: the value may not be shown.
    NotReadable,
    /// The partition's state or log is damaged.
    Damaged(String),
    /// The disk is nearly full: reads go on.
    DiskFull {
        /// The leaf, `host:port`.
        leaf: String,
        /// Bytes that are free.
        free: u64,
    },
    /// Fewer copies are in sync than the database asks for.
    TooFewCopies {
        /// How many are.
        in_sync: u32,
        /// How many must be.
        wanted: u32,
    },
    /// The scan met a value on which an expression fails.
    Sql(sql::Error),
    /// The request makes no sense: a defect of the sender.
    Invalid(String),
}
