//! Names of positions and of those who write: newtypes, so that no two meanings of `u64` are mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Position of a record in one partition's log: dense, the first record is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl Lsn {
    /// Before the first record.
    pub const ZERO: Lsn = Lsn(0);

    /// The position after this one.
    pub fn next(self) -> Lsn {
        Lsn(self.0 + 1)
    }

    /// The position before this one; `Lsn::ZERO` has none and stays.
    pub fn prev(self) -> Lsn {
        Lsn(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name under which one process appends to one partition; never minted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// Above every number of the lineage and every number this cluster's catalog has minted.
    pub number: u64,
    /// The cluster whose catalog minted it.
    pub cluster: ClusterId,
    /// Random bits drawn at each grant, so that a restored catalog cannot mint the same name.
    pub nonce: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/c{}", self.number, self.cluster.0)
    }
}

/// A cluster, that is one region with a catalog of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

/// Hybrid commit time: milliseconds since 1970 shifted left by 18 bits, plus a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Before every commit.
    pub const ZERO: Timestamp = Timestamp(0);
    /// Sees everything.
    pub const MAX: Timestamp = Timestamp(u64::MAX);
    /// How many low bits count within a millisecond.
    pub const COUNTER_BITS: u32 = 18;

    /// The first timestamp of a millisecond since 1970.
    pub fn from_millis(millis: u64) -> Timestamp {
        Timestamp(millis << Timestamp::COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> u64 {
        self.0 >> Timestamp::COUNTER_BITS
    }

    /// The timestamp after this one.
    pub fn next(self) -> Timestamp {
        Timestamp(self.0 + 1)
    }

    /// The timestamp before this one; zero stays.
    pub fn prev(self) -> Timestamp {
        Timestamp(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One promotion of one database: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PromotionId(pub u128);
