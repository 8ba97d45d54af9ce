//! Replication of one partition, as a value: inputs in, effects out, time handed in.
//!
//! A [`Replica`] is stepped by its host, `node` on real disks and sockets, `sim` on virtual ones. It never waits, never
//! fails and reads no clock: it acknowledges a write in the step that is told that the write is durable. What the
//! partitions of a node share, the leases between nodes, is [`Leases`].
//!
//! - `replica` one replica: offices, views, the start of a reign, rewinds
//! - `lead` the primary: commit point, safe position, growing and shrinking the set
//! - `follow` the secondary: frames, promises, the common point
//! - `source`, `sink` the two ends of a DR stream between regions, on the same messages
//! - `marks` what a primary resolves, what its set keeps of it, what may leave the region
//! - `txn` locks, registration, two-phase commit, the resolved timestamp
//! - `copy` taking over another replica's state where the log does not suffice
//! - `feed` sending to one follower, of either kind
//! - `lease` leases between two nodes
//!
//! What this crate does not do: choose primaries (the catalog), keep bytes (storage), or move state between nodes
//! (`Effect::Install` asks the host).
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod codec;
mod copy;
mod cursors;
mod effect;
mod feed;
mod follow;
mod input;
mod lead;
mod lease;
mod log;
mod marks;
mod message;
mod options;
mod replica;
mod sink;
mod source;
mod time;
mod trace;
mod txn;

pub use cursors::Cursors;
pub use effect::{Effect, Note, SetChange};
pub use input::{FeedId, Input, Recovered, Ticket};
pub use lease::{Granted, Heartbeat, Leases, Probe};
pub use message::{Ack, Append, Epochs, Frame, Life, Message, Resume, Stream};
pub use options::{OptionsError, Planted, ReplicaOptions};
pub use replica::{Leadership, Replica, Status};
pub use time::Instant;
pub use trace::{Line, Promotions, ViewLine};
pub use types::txn::{Answer, Refusal, Touch, TxnRequest};
