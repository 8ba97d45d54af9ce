//! What can be wrong with a partition's state on disk, and what to do about it.

use std::path::PathBuf;

use thiserror::Error;
use types::{Lsn, Timestamp};

/// A failure of a partition's state. All but `LogBehind`, `BelowHorizon` and `BelowFloor` mean that the replica
/// cannot go on with the files it has.
#[derive(Debug, Error)]
pub enum StateError {
    /// The storage engine refused.
    #[error("{action} the state in {dir} failed: {message}; the partition stops serving until it is reopened")]
    Engine {
        /// The state's directory.
        dir: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The engine's words.
        message: String,
        /// Its files do not hold what was written to them.
        corrupt: bool,
    },
    /// The state holds records that the log has lost.
    #[error(
        "the state in {dir} holds records up to {applied}, but its log ends at {end}: rebuild this replica from another"
    )]
    AboveLog {
        /// The state's directory.
        dir: PathBuf,
        /// The last record in the state.
        applied: Lsn,
        /// The last record in the log.
        end: Lsn,
    },
    /// The state follows another history than the log.
    #[error(
        "the state in {dir} at {applied} and its log share their history up to {common} only: rebuild this replica from another"
    )]
    OtherHistory {
        /// The state's directory.
        dir: PathBuf,
        /// The last record in the state.
        applied: Lsn,
        /// The end of what both share.
        common: Lsn,
    },
    /// Bytes that no version of this program wrote, or a log that breaks its own rules.
    #[error("the state in {dir} is damaged: {what}; rebuild this replica from another")]
    Damaged {
        /// The state's directory.
        dir: PathBuf,
        /// What was found.
        what: String,
    },
    /// Written by a newer program.
    #[error("the state in {dir} has format {found}, this program reads {known}: use the program that wrote it")]
    Format {
        /// The state's directory.
        dir: PathBuf,
        /// The version found.
        found: u8,
        /// The newest known.
        known: u8,
    },
    /// Flushing would put records into files that the log may still lose.
    #[error("records up to {applied} are in the state, the log is synced up to {durable} only: sync the log first")]
    LogBehind {
        /// The last record in the state.
        applied: Lsn,
        /// The last record that the log keeps.
        durable: Lsn,
    },
    /// The log could not be synced before a flush.
    #[error("the state is not flushed, for the log cannot be synced before it: {reason}")]
    LogFailed {
        /// The log's words.
        reason: String,
    },
    /// Old versions of this view are gone.
    #[error("row versions below {horizon} are collected, a view at {view} is not possible any more")]
    BelowHorizon {
        /// The view asked for.
        view: Timestamp,
        /// Views at and above this are possible.
        horizon: Timestamp,
    },
    /// What undoing needs is gone.
    #[error("versions are kept for a rewind to {floor} and above, not to {to}: a state diff or a full copy is needed")]
    BelowFloor {
        /// The rewind asked for.
        to: Lsn,
        /// Rewinds to this and above are possible.
        floor: Lsn,
    },
}

impl StateError {
    /// The files of this replica are not what they were: it has to be rebuilt from another one. Otherwise the machine
    /// refuses, and the process should end.
    pub fn is_damage(&self) -> bool {
        match self {
            StateError::Engine { corrupt, .. } => *corrupt,
            StateError::AboveLog { .. }
            | StateError::OtherHistory { .. }
            | StateError::Damaged { .. }
            | StateError::BelowHorizon { .. }
            | StateError::BelowFloor { .. } => true,
            StateError::Format { .. } | StateError::LogBehind { .. } | StateError::LogFailed { .. } => false,
        }
    }
}
