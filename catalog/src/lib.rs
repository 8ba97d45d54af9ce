//! What one region's cluster has decided, and how it decides: a pure state machine.
//!
//! The catalog is the only place where a primary, an in-sync set, a fence or a DR link changes. It is a value,
//! [`State`], and one way to change it, [`State::apply`]. The crate does no input or output and asks for no time and
//! no random bits: what a command needs of them, it carries. So equal commands in equal order give equal states, to the
//! byte, on every aggregator; a raft group replicates the commands, a snapshot is the serialised state.
//!
//! ```text
//!   heartbeats, proofs, log ends          statements
//!            │                                │
//!         Heard ──► decide::* (pure) ──► Command ──► raft ──► State::apply ──► Outcome | Refusal
//!                       ▲                                         │
//!                       └───────────── &State ◄───────────────────┴──► views_since(revision) ──► replicas
//! ```
//!
//! - [`command`] lists everything that can be decided. A command that concerns a partition names the reign and the set
//!   version on which it was based: a compare-and-set. A stale one is refused and changes nothing.
//! - [`outcome`] says what a command answers. Repeating a command whose aim already holds succeeds and says so.
//! - [`state`] holds the data, and [`State::check`] its invariants.
//! - `apply` has one file per concern. Each function looks first and changes only what it will not have to undo: a
//!   refused command leaves the state as it was.
//! - [`view`] tells replicas what concerns them.
//! - [`decide`] is what the leader does by itself: naming primaries, and placing replicas. It sees the state and what
//!   was heard ([`decide::Heard`]), which is volatile and starts anew with each leader.
//!
//! # What holds always
//!
//! - A partition's reign and set version never fall; each change that a replica must learn raises the version.
//! - The primary is in the set. A set shrinks or grows by the primary's own proposal, by the naming of a new primary
//!   from its living members, or because a restarted process takes its own old place (SYNC DURABILITY alone).
//! - An epoch number is minted once, ever: one counter for all databases, raised past every number received.
//! - A database has one role. Becoming a sink and losing the fence are one command; so are a promotion, its cut and
//!   the refusal of every further frame of its link.
//!
//! # What this does not do
//!
//! It does not decide who lives (the leader's ears do), does not know log positions (replicas report them when they are
//! wanted), and holds no rows, no schema and no AUTO_INCREMENT: those are data of the databases.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod command;
pub mod outcome;

pub mod claim;
pub mod database;
pub mod event;
pub mod heartbeat;
pub mod link;
pub mod movement;
pub mod node;
pub mod partition;
pub mod partitions;
pub mod shared;
pub mod state;
pub mod user;

mod apply;
pub mod decide;
pub mod view;

pub use command::Command;
pub use outcome::{Answer, Outcome, Refusal};
pub use state::State;
