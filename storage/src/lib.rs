//! A partition on disk: the node log, which has its records first, and its state, which is what they amount to.
//!
//! - `log`: one log per leaf for all its partitions. What it reports durable survives a loss of power.
//! - `state` (feature `state`): the rows of one partition replica in RocksDB. It is written without a log of its own:
//!   after a crash it is brought forward from `applied` by replaying the node log.
//!
//! What is durable when: a record, when the log says so; the state up to an LSN, when it was flushed, which the owner
//! orders only after the log is synced past that LSN. So the state on disk never is ahead of the log on disk.
#![warn(missing_docs)]
#![deny(unsafe_code)]

pub mod log;

#[cfg(feature = "state")]
pub mod divergence;
#[cfg(feature = "state")]
pub mod rewind;
#[cfg(feature = "state")]
pub mod snapshot;
#[cfg(feature = "state")]
pub mod state;
