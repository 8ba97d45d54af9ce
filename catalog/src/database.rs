//! One database: its options, the side it is on, its fence.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use types::{Fence, LinkId, Lsn, Mode, Ordinal, Promotion, PromotionId, Revision, Timestamp};

use crate::claim::Claim;
use crate::command::HandoverAnswer;
use crate::event::UnixMillis;

/// Settings that a user may give and change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Copies of each partition, 1 to 3.
    pub redundancy: u8,
    /// Fewer members than this and writes wait (error 9006).
    pub min_in_sync: u8,
    /// ASYNC REPLICATION: after how many milliseconds without an answer to the primary the most advanced secondary is
    /// named; `None` = never.
    pub async_failover_after_millis: Option<u64>,
    /// How long history is kept for a follower that is away, in milliseconds.
    pub failback_retention_millis: u64,
    /// How many bytes of history are kept for it.
    pub failback_retention_bytes: u64,
    /// Before its first write a region waits for a peer that might know of a claim, and does not serve without one.
    pub strict_guard: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            redundancy: 2,
            min_in_sync: 1,
            async_failover_after_millis: Some(10_000),
            failback_retention_millis: 72 * 3600 * 1000,
            failback_retention_bytes: 10 << 30,
            strict_guard: false,
        }
    }
}

/// The longer of two times, of which `None` has no end.
pub(crate) fn longer(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.zip(b).map(|(a, b)| a.max(b))
}

impl Options {
    /// Copies that a partition may have.
    pub const REDUNDANCY_MAX: u8 = 3;

    /// What is wrong with them, if anything.
    pub fn problem(&self) -> Option<String> {
        if self.redundancy == 0 || self.redundancy > Options::REDUNDANCY_MAX {
            return Some(format!("redundancy is {}, must be 1 to {}", self.redundancy, Options::REDUNDANCY_MAX));
        }
        if self.min_in_sync == 0 || self.min_in_sync > self.redundancy {
            return Some(format!(
                "min_in_sync is {}, must be 1 to redundancy, which is {}",
                self.min_in_sync, self.redundancy
            ));
        }
        None
    }
}

/// Which side of the world a database is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Its primaries mint records.
    Writable,
    /// It follows another region by this link.
    Sink {
        /// Key of [`crate::State::sinks`].
        link: LinkId,
    },
}

/// Who keeps a database fenced. Several may at once; the fence falls when the last one lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Holder {
    /// `FLUSH TABLES WITH READ ONLY`.
    User,
    /// A hand-over: the right to write is on its way.
    Token,
    /// Another region has claimed the database.
    Guard,
}

/// Where a sealed database ends. Nothing is written above while the seal lasts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finals {
    /// The last record of each partition.
    pub positions: BTreeMap<Ordinal, Lsn>,
    /// The final resolved timestamp: the last mark while the seal lasts.
    pub time: Timestamp,
}

/// The fence of a database.
///
/// Invariants: `fence` is `None` if and only if nobody holds it; `finals` are known only under a seal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// What replicas obey.
    pub fence: Fence,
    /// Who holds it.
    pub holders: BTreeSet<Holder>,
    /// Since when, for people.
    pub since: UnixMillis,
    /// Reported after every primary had acknowledged the seal.
    pub finals: Option<Finals>,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fence {
            Fence::None => return f.write_str("no fence"),
            Fence::Draining(since) => write!(f, "draining since {since}, held by")?,
            Fence::Sealed(since) => write!(f, "sealed since {since}, held by")?,
        }
        for (index, holder) in self.holders.iter().enumerate() {
            write!(f, "{} {holder}", if index > 0 { "," } else { "" })?;
        }
        match &self.finals {
            Some(finals) => write!(f, ", ends at {}", finals.time),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Holder::User => "the user",
            Holder::Token => "a token",
            Holder::Guard => "the guard",
        })
    }
}

/// A hand-over token that was issued.
///
/// Invariant: it is there only while the database is sealed and [`Holder::Token`] is among the holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Its random bits.
    pub token: u128,
    /// To which sink.
    pub link: LinkId,
    /// What the sink said, once it is known.
    pub answer: Option<HandoverAnswer>,
}

/// What a full copy of a database took, when one was made last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullCopy {
    /// Bytes that were shipped for it, after compression.
    pub shipped_bytes: u64,
    /// Bytes of state that the source had then.
    pub live_bytes: u64,
}

impl FullCopy {
    /// What a full copy of this many bytes of state takes, by the same measure.
    pub fn scaled(&self, live_bytes: u64) -> u64 {
        let scaled = u128::from(self.shipped_bytes) * u128::from(live_bytes) / u128::from(self.live_bytes.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// One database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// As clients call it.
    pub name: String,
    /// Common to all regions that hold it; a copy that claims nothing has another.
    pub identity: u128,
    /// How many partitions hold rows; the meta partition comes on top.
    pub partitions: u32,
    /// Durability and replication inside the region.
    pub mode: Mode,
    /// Settings.
    pub options: Options,
    /// Which side it is on.
    pub side: Side,
    /// Every promotion of its history, oldest first.
    pub promotions: Vec<Promotion>,
    /// Above every timestamp received from another region.
    pub start_above: Timestamp,
    /// Whether writes are taken.
    pub fenced: Fenced,
    /// The right to write is on its way to a sink.
    pub handover: Option<Handover>,
    /// As a sink: what it has committed about tokens that were offered.
    pub tokens: BTreeMap<u128, HandoverAnswer>,
    /// Who claimed it, its own claims too.
    pub claims: BTreeMap<PromotionId, Claim>,
    /// Claims that a person overruled: they fence no more.
    pub overruled: BTreeSet<PromotionId>,
    /// The last full copy of it, made here or told by the other side.
    pub full_copy: Option<FullCopy>,
    /// When it was created.
    pub created: Revision,
    /// The last command that changed what [`crate::view::DatabaseNews`] says of it, pins aside.
    pub changed: Revision,
}

impl Database {
    /// All its partitions, the meta partition first.
    pub fn ordinals(&self) -> impl Iterator<Item = Ordinal> + use<> {
        ordinals(self.partitions)
    }

    /// Claims that make it read only here: they go on from its history, and nobody overruled them.
    pub fn superseding(&self) -> impl Iterator<Item = &Claim> {
        let counts = |claim: &&Claim| !self.overruled.contains(&claim.promotion.id);
        self.claims.values().filter(counts).filter(|claim| claim.supersedes(&self.promotions))
    }

    /// ASYNC REPLICATION: how many milliseconds after its last answer to a primary the standing order names another one;
    /// `None` if nobody is named so.
    pub fn failover_after(&self) -> Option<u64> {
        self.options.async_failover_after_millis.filter(|_| !self.mode.sync_replication)
    }

    /// Whether it follows another region.
    pub fn is_sink(&self) -> bool {
        matches!(self.side, Side::Sink { .. })
    }
}

/// The partitions of a database with this many that hold rows, the meta partition first.
pub fn ordinals(partitions: u32) -> impl Iterator<Item = Ordinal> + use<> {
    let last = i32::try_from(partitions).expect("a database has at most PARTITIONS_MAX partitions");
    (Ordinal::META.0..last).map(Ordinal)
}

/// Most partitions of one database.
pub const PARTITIONS_MAX: u32 = 4096;

/// What is wrong with so many partitions.
pub fn partitions_problem(partitions: u32) -> Option<String> {
    let fits = (1..=PARTITIONS_MAX).contains(&partitions);
    (!fits).then(|| format!("{partitions} partitions, must be 1 to {PARTITIONS_MAX}"))
}
