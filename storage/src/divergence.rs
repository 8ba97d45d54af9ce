//! Divergence files: what a replica had and its new history does not.
//!
//! Before anything is undone or declared dead, each write is set aside in a file that a person can read: lines of
//! text, each with its own checksum (`docs/formats.md`, "divergence file"). A file is complete when it has its final
//! name: it is written under another, synced, and renamed. So a procedure that was interrupted sees whether this
//! step is done, and neither writes a file twice nor loses one.
//!
//! A file is named by the exchange it belongs to (`DivergenceId`, chosen by the caller: one for all partitions of a
//! database), the partition, and the part of the log that it is about. `(epoch, LSN)` names a record for ever, so two
//! files about the same part hold the same.

use std::fmt;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use types::{ClusterId, DatabaseId, Epoch, Lineage, Lsn, Ordinal, PartitionId, Timestamp, TxnId};

mod line;
mod list;
mod reader;
mod writer;

pub use list::{Listed, discard, find, list};
pub use reader::DivergenceReader;
pub use writer::DivergenceWriter;

/// First line of every file: what it is, and the version of its format.
const MAGIC: &str = "perennial divergence 1";
/// Longest line that is read: two values and a key at their limits, in hexadecimal, and room to spare.
const MAX_LINE: usize = 96 << 20;

/// One exchange in which histories parted: the id of the link that ordered it, or of the promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DivergenceId(pub u128);

impl fmt::Display for DivergenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for DivergenceId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<DivergenceId, Self::Err> {
        u128::from_str_radix(text, 16).map(DivergenceId)
    }
}

/// Why writes were set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Records above the parting point were undone.
    Rewind,
    /// Commits above a promotion's cut were declared dead, prepared transactions aborted.
    Promotion,
}

/// What a file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which exchange.
    pub id: DivergenceId,
    /// The database's name when the file was written.
    pub database: String,
    /// The partition, as this region numbers databases.
    pub partition: PartitionId,
    /// Why.
    pub reason: Reason,
    /// The last record that both histories have: everything in the file lies above it (rewind), or below the
    /// `EpochStart` that follows it (promotion).
    pub parted_from: Lsn,
    /// The epoch at that position, `None` before the first record.
    pub parted_epoch: Option<Epoch>,
    /// The last record that was dropped; of a promotion its `EpochStart`.
    pub end: Lsn,
    /// That record's epoch.
    pub end_epoch: Epoch,
    /// Milliseconds since 1970 by the caller's clock.
    pub created: u64,
}

impl Header {
    /// The name of the complete file.
    pub fn file_name(&self) -> String {
        format!("{}.{}", self.id, self.subject())
    }

    /// The part of the name that says what the file is about.
    fn subject(&self) -> String {
        let PartitionId { database, ordinal } = self.partition;
        let Epoch { number, nonce, .. } = self.end_epoch;
        format!("{database}.{ordinal}.{}-{}-{number}-{nonce:016x}.divergence", self.parted_from, self.end)
    }
}

/// How far a transaction had come on this replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Committed.
    Commit,
    /// Prepared and undecided: it may be committed on other partitions.
    Prepared,
    /// Prepared, and aborted by its coordinator.
    Aborted,
}

/// One write that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// How far its transaction had come.
    pub stage: Stage,
    /// The transaction.
    pub txn: TxnId,
    /// The commit time; of a transaction that is only prepared, the bound that it would be above.
    pub ts: Timestamp,
    /// The record that committed or prepared it.
    pub lsn: Lsn,
    /// That record's epoch.
    pub epoch: Epoch,
    /// The first participant, where the transaction was prepared.
    pub first: Option<Ordinal>,
    /// The row's key.
    pub key: Bytes,
    /// The row before the write, `None` if there was none.
    pub old: Option<Bytes>,
    /// The row after it, `None` if it was deleted.
    pub new: Option<Bytes>,
}

impl Entry {
    /// Whether a log of this lineage and end has the record again, and its commit lives: an exchange can revive
    /// what an earlier one set aside. Of a prepared entry: whether the log has the Prepare.
    pub fn is_alive(&self, lineage: &Lineage, end: Lsn) -> bool {
        let there = self.lsn <= end && lineage.epoch_at(self.lsn) == Some(self.epoch);
        there && (self.stage != Stage::Commit || !lineage.is_dead(self.ts, self.lsn))
    }
}

/// The last line's content: what the file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Transactions.
    pub transactions: u64,
    /// Writes.
    pub records: u64,
    /// The lowest time of an entry, zero without entries.
    pub from_time: u64,
    /// The highest time of an entry.
    pub to_time: u64,
}

/// Why a divergence file could not be written or read.
#[derive(Debug, Error)]
pub enum DivergenceError {
    /// The file system refused.
    #[error("{action} divergence file {path} failed: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// A line that was not written so.
    #[error(
        "divergence file {path} is damaged in line {line}: {what}; another replica of the partition holds the same entries"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// Not a divergence file, or one of a newer version.
    #[error("{path} does not begin with `{MAGIC}`: no divergence file, or written by a newer program")]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

/// The partition that a header's numbers name.
fn partition(database: u64, ordinal: i32) -> PartitionId {
    PartitionId { database: DatabaseId(database), ordinal: Ordinal(ordinal) }
}

/// The epoch that a line's numbers name.
fn epoch((number, cluster, nonce): (u64, u64, u64)) -> Epoch {
    Epoch { number, cluster: ClusterId(cluster), nonce }
}
