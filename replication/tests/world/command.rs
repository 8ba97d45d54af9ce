//! The commands of a golden script. Each is one thing that the world does; nothing else happens by itself.
//!
//! Nodes are numbers. Lists are written `1/2/3`, promotions `9@100/11@150` (id, cut), durations `100ms` or `2s`.

use std::str::FromStr;
use std::time::Duration;

use types::{Promotion, PromotionId, Timestamp, TxnId};

/// What a line of a script may say.
#[derive(Debug, goldenscript::Command)]
pub enum Command {
    // ---- the catalog of a region: writes down, tells nobody
    /// A region with these nodes, all of which hold the partition; the first member is named primary. The first
    /// `cluster` of a script is region 1, the second region 2. `follows` = a sink of this link.
    Cluster {
        nodes: Vec<u64>,
        #[arg(key)]
        members: Option<Ids>,
        #[arg(key)]
        replication: Option<Kind>,
        #[arg(key)]
        durability: Option<Kind>,
        #[arg(key)]
        ordinal: Option<i32>,
        #[arg(key)]
        follows: Option<u128>,
        #[arg(key)]
        lease_percent: Option<u32>,
        #[arg(key)]
        tail_bytes: Option<usize>,
        /// A longer log is not fed to a follower that has nothing.
        #[arg(key)]
        copy_records: Option<u64>,
    },
    /// A new reign for this node.
    Grant {
        node: u64,
        #[arg(key)]
        members: Option<Ids>,
        /// It becomes writable by this promotion, at this cut.
        #[arg(key)]
        promotion: Option<u128>,
        #[arg(key)]
        cut: Option<u64>,
        /// The EpochStart must be above this.
        #[arg(key)]
        above: Option<u64>,
        /// The promotion of the reign before is named again: the catalog does not know who has carried it out.
        #[arg(key)]
        again: Option<bool>,
        /// It becomes a sink of this link.
        #[arg(key)]
        follows: Option<u128>,
        #[arg(key)]
        forced: Option<bool>,
        /// The database's promotions from now on.
        #[arg(key)]
        promotions: Option<Promotions>,
        /// The catalog announces a loss.
        #[arg(key)]
        loss: Option<bool>,
    },
    /// The in-sync set, by nodes, with the processes that run there now.
    Members {
        nodes: Vec<u64>,
        #[arg(key)]
        region: Option<u64>,
    },
    /// `fence draining`, `fence sealed`, `fence handover` (sealed, for another primary) or `fence none`.
    Fence {
        state: String,
        #[arg(key)]
        region: Option<u64>,
    },
    /// How many milliseconds after its last answer the catalog may name another primary, within the reign.
    Failover {
        after: u64,
        #[arg(key)]
        region: Option<u64>,
    },
    /// Within the reign: the link, and the promotions that the catalog knows now.
    Follow {
        link: u128,
        #[arg(key)]
        region: Option<u64>,
        #[arg(key)]
        forced: Option<bool>,
        #[arg(key)]
        broken: Option<bool>,
        #[arg(key)]
        promotions: Option<Promotions>,
    },
    /// Tells these nodes the view of their region; all nodes without an argument.
    View {
        #[arg(optional)]
        nodes: Vec<u64>,
    },

    // ---- time
    /// Time passes, on all clocks.
    Advance { by: Span },
    /// These nodes notice it.
    Tick { nodes: Vec<u64> },

    // ---- the network
    /// Delivers what is under way now, from one node to another, or everything; at most `n` messages. `keep` leaves
    /// a copy under way.
    Deliver {
        from: Option<u64>,
        to: Option<u64>,
        #[arg(key)]
        n: Option<usize>,
        #[arg(key)]
        keep: Option<bool>,
    },
    /// Loses what is under way.
    Drop { from: Option<u64>, to: Option<u64> },
    /// From now on everything to and from this node is lost.
    Isolate { node: u64 },
    /// From now on messages come through again.
    Rejoin { node: u64 },
    /// The node's connection to the peer is new.
    PeerUp { node: u64, peer: u64 },
    /// The node asks the other one's host for a copy of its replica.
    AskCopy { node: u64, to: u64 },
    /// An acknowledgement that no honest node would send.
    ForgeAck {
        from: u64,
        to: u64,
        matched: u64,
        #[arg(key)]
        reign: Option<u64>,
        #[arg(key)]
        turn: Option<u32>,
    },

    // ---- the disk, the state, the services
    /// The log is in the hands of the operating system, up to `end` or whole.
    Written { node: u64, end: Option<u64> },
    /// The log is on disk, up to `end` or whole; `notes` = how many of the process's notes are (all by default).
    Durable {
        node: u64,
        end: Option<u64>,
        #[arg(key)]
        notes: Option<u64>,
    },
    /// The state contains what was to be applied, up to `to` or all of it.
    Applied { node: u64, to: Option<u64> },
    /// All six steps of the rewind are done.
    Rewound { node: u64 },
    /// The copy of that node's log and state is complete.
    Installed { node: u64, from: u64 },
    /// Damage: the log and what was promised of it end at `end`, and the process starts again.
    ForgetLog { node: u64, end: u64 },
    /// The node's replica is found to be damaged, and the same process opens it anew: a copy is missing.
    Damaged { node: u64 },
    /// The log is trimmed.
    Trim { node: u64, to: u64 },
    /// The log was read for the followers that asked.
    LogRead { node: u64 },
    /// The timestamp service answers the last request.
    Timestamps { node: u64, first: Option<u64> },
    /// The state was searched for open prepared transactions.
    Prepared { node: u64 },
    /// The state was asked for outcomes.
    Outcome { node: u64 },
    /// Power fails and the process starts again: only what was durable is left. `kill` = only the process died: what
    /// was written is left, too.
    Restart {
        node: u64,
        #[arg(key)]
        kill: Option<bool>,
    },
    /// Delivers messages until there are none; disks and states do nothing.
    RunMessages,
    /// Does whatever is left to do for messages, disks, states and services, until nothing is.
    Run,

    // ---- leases
    /// The node asks the peer for its grant, which arrives at once.
    Heartbeat { node: u64, peer: u64 },
    /// The same in three steps: the question leaves.
    LeaseAsk { node: u64, peer: u64 },
    /// The peer answers.
    LeaseAnswer { node: u64, peer: u64 },
    /// The answer arrives.
    LeaseTake { node: u64, peer: u64 },
    /// The first answer of the peer's that arrived arrives again, late.
    LeaseTakeAgain { node: u64, peer: u64 },
    /// The node's connection to the peer closes; a new attempt begins.
    Closed { node: u64, peer: u64 },
    /// The attempt is refused by the host.
    Refused { node: u64, peer: u64 },
    /// The node hears of the peer's present process.
    Hello { node: u64, peer: u64 },
    /// May a value that was read now be shown?
    Reads { node: u64 },

    // ---- transactions
    /// Locks keys, as the coordinator of `txn` knows its standing; `epoch=old` and `count` = a coordinator that errs.
    Lock {
        node: u64,
        txn: Txn,
        keys: Vec<String>,
        #[arg(key)]
        stamp: Option<u64>,
        #[arg(key)]
        count: Option<u32>,
        #[arg(key)]
        epoch: Option<String>,
        /// The definitions that the transaction was planned with, from now on.
        #[arg(key)]
        schema: Option<u64>,
    },
    /// Writes rows under the locks.
    Buffer { node: u64, txn: Txn, writes: Vec<(String, String)> },
    /// Commits at this partition alone.
    Commit { node: u64, txn: Txn },
    /// Lock, buffer and commit.
    Write { node: u64, txn: Txn, writes: Vec<(String, String)> },
    /// Lock, buffer and prepare; `first` = the ordinal of the partition that decides.
    Prepare { node: u64, txn: Txn, first: i32, writes: Vec<(String, String)> },
    /// Prepares what was buffered.
    PrepareBuffered { node: u64, txn: Txn, first: i32 },
    /// To the deciding partition: commit at `ts`, or abort.
    Decide { node: u64, txn: Txn, ts: Option<u64> },
    /// To a participant: what partition `first` decided.
    Finish { node: u64, txn: Txn, first: i32, ts: Option<u64> },
    /// To the deciding partition: how did it end?
    Inquire {
        node: u64,
        txn: Txn,
        /// The last promotion of the history in which it is prepared.
        #[arg(key)]
        history: Option<u128>,
    },
    /// Its coordinator is at work.
    Alive { node: u64, txn: Txn },
    /// Lets go.
    Rollback { node: u64, txn: Txn },
    /// Takes a commit back that has no timestamp yet.
    Withdraw { node: u64, txn: Txn },
    /// Decisions that need not be kept.
    Forget { node: u64, txns: Vec<Txn> },
    /// A reader waits for its view, or for the latest.
    Settle {
        node: u64,
        view: Option<u64>,
        #[arg(key)]
        schema: Option<u64>,
    },
    /// Only what was planned with these definitions is taken from now on.
    Require {
        node: u64,
        schema: u64,
        #[arg(key)]
        history: Option<u128>,
    },
    /// The host stops waiting for the answer to a request.
    Cancel { node: u64, ticket: u64 },
    /// A timestamp of the service to publish a mark below.
    Publish { node: u64, ts: u64 },
    /// The final timestamp of a seal.
    Final { node: u64, ts: u64 },

    // ---- between regions
    /// A session of this link opens between a source's primary and a sink's primary.
    Session { link: u128, source: u64, sink: u64 },
    /// The session ends, at both ends.
    SessionEnd { link: u128, sink: u64 },
    /// A forged mark on the session: at this LSN (the sink's log end), published under these promotions (the sink's).
    ForgeMark {
        link: u128,
        sink: u64,
        ts: u64,
        #[arg(key)]
        lsn: Option<u64>,
        #[arg(key)]
        promotions: Option<Promotions>,
    },

    // ---- looking
    /// One line per node: office, reign, appended/durable/committed/applied, and what a primary knows.
    Status {
        #[arg(optional)]
        nodes: Vec<u64>,
    },
    /// The records of the log, without rows.
    Log { node: u64 },
}

/// `sync` or `async`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sync,
    Async,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Kind, String> {
        match text {
            "sync" => Ok(Kind::Sync),
            "async" => Ok(Kind::Async),
            other => Err(format!("{other} is neither sync nor async")),
        }
    }
}

/// `1/2/3`.
#[derive(Clone, Debug)]
pub struct Ids(pub Vec<u64>);

impl FromStr for Ids {
    type Err = String;

    fn from_str(text: &str) -> Result<Ids, String> {
        let ids = text.split('/').map(|id| id.parse().map_err(|_| format!("{id} is no node")));
        ids.collect::<Result<_, _>>().map(Ids)
    }
}

/// `9@100/11@150`, or `none`.
#[derive(Clone, Debug, Default)]
pub struct Promotions(pub Vec<Promotion>);

impl FromStr for Promotions {
    type Err = String;

    fn from_str(text: &str) -> Result<Promotions, String> {
        if text == "none" {
            return Ok(Promotions::default());
        }
        let promotion = |item: &str| {
            let (id, cut) = item.split_once('@').ok_or("a promotion is id@cut")?;
            let id = PromotionId(id.parse().map_err(|_| "the id is no number")?);
            Ok(Promotion { id, cut: Timestamp(cut.parse().map_err(|_| "the cut is no number")?) })
        };
        text.split('/').map(promotion).collect::<Result<_, &str>>().map(Promotions).map_err(str::to_string)
    }
}

/// `t7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Txn(pub TxnId);

impl FromStr for Txn {
    type Err = String;

    fn from_str(text: &str) -> Result<Txn, String> {
        let number = text.strip_prefix('t').and_then(|number| number.parse().ok());
        number.map(|number| Txn(TxnId(number))).ok_or(format!("{text} is no transaction: write t1"))
    }
}

/// `100ms` or `2s`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let parse = |number: &str| number.parse().map_err(|_| format!("{text} is no duration"));
        if let Some(number) = text.strip_suffix("ms") {
            return Ok(Span(Duration::from_millis(parse(number)?)));
        }
        Ok(Span(Duration::from_secs(parse(text.strip_suffix('s').unwrap_or(text))?)))
    }
}
