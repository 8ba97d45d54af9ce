//! What leaves say of writes that were set aside.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{Epoch, Lsn, PartitionId, Timestamp, TxnId};

/// One exchange in which histories parted, as people type it: the last twelve of its hexadecimal digits. All of them
/// are understood, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExchangeId(pub u128);

impl ExchangeId {
    /// Digits that are shown.
    const DIGITS: usize = 12;

    /// Whether a text names it: at least as many of its last digits as are shown.
    pub fn is_named(self, text: &str) -> bool {
        let full = format!("{:032x}", self.0);
        text.len() >= Self::DIGITS && full.ends_with(&text.to_ascii_lowercase())
    }
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = format!("{:032x}", self.0);
        f.write_str(&full[full.len() - Self::DIGITS..])
    }
}

/// One complete file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergenceFile {
    /// Its name on the leaf.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// What it is about.
    pub about: DivergenceAbout,
}

/// What a file is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DivergenceAbout {
    /// The exchange.
    pub id: ExchangeId,
    /// The partition.
    pub partition: PartitionId,
    /// Commits that a promotion declared dead; otherwise a tail that was undone.
    pub promotion: bool,
    /// The last record that both histories have.
    pub parted_from: Lsn,
    /// The last record that was dropped.
    pub end: Lsn,
    /// That record's epoch.
    pub end_epoch: Epoch,
    /// Milliseconds since 1970.
    pub created: u64,
    /// Transactions in it.
    pub transactions: u64,
    /// Writes in it.
    pub records: u64,
    /// The lowest and the highest time of an entry.
    pub times: (Timestamp, Timestamp),
}

/// What became of a write that was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It had been committed, and is not in the database any more.
    Dropped,
    /// It had been prepared and was never decided here: elsewhere it may have been committed.
    Prepared,
    /// It had been aborted.
    Aborted,
    /// A later exchange has brought it back: the database holds it.
    Alive,
}

/// One write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetAside {
    /// What became of it.
    pub fate: Fate,
    /// Its transaction.
    pub txn: TxnId,
    /// When it was committed; of one that was only prepared, the bound that it would be above.
    pub ts: Timestamp,
    /// The row's key.
    pub key: Bytes,
    /// The row before the write.
    pub old: Option<Bytes>,
    /// The row after it.
    pub new: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_named_by_the_digits_that_are_shown() {
        let id = ExchangeId(7 << 64 | 0xabc);
        assert_eq!(id.to_string(), "000000000abc");
        assert!(id.is_named("000000000ABC"));
        assert!(id.is_named(&format!("{:032x}", id.0)));
        assert!(!id.is_named("abc"), "too short to be unique");
        assert!(!id.is_named("100000000abc"));
    }
}
