//! Links between regions, as each side keeps them.

use serde::{Deserialize, Serialize};
use types::{ClusterId, DatabaseId, Promotion, Timestamp, parting_cut};

use crate::event::UnixMillis;
use crate::user::Account;

/// Where a sink's source is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAddress {
    /// An aggregator of the source region, `host:port`.
    pub address: String,
    /// The database's name there.
    pub database: String,
    /// As whom the link was opened.
    pub user: String,
}

/// How the sink proves itself, and recognises its source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// SHA-256 of the source's certificate, pinned at first use.
    pub fingerprint: [u8; 32],
    /// Given by the source with the link.
    pub token: Vec<u8>,
}

/// What the source does when a SYNC sink is silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnSilence {
    /// Goes on without it, visibly.
    #[default]
    Degrade,
    /// Waits.
    Block,
}

/// Settings of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkOptions {
    /// The source's commits wait for the sink.
    pub sync: bool,
    /// How long to wait for the source's answer, in milliseconds.
    pub connect_timeout_millis: u64,
    /// What a SYNC source does when the sink is silent.
    pub on_silence: OnSilence,
    /// For how long it must be silent, in milliseconds.
    pub silence_timeout_millis: u64,
    /// Bytes a second; `None` = no limit.
    pub bandwidth_limit: Option<u64>,
    /// Frames are compressed with zstd.
    pub compression: bool,
    /// The certificates that are trusted, in PEM; `None`: the first one seen is pinned.
    pub ca: Option<String>,
}

impl Default for LinkOptions {
    fn default() -> LinkOptions {
        LinkOptions {
            sync: false,
            connect_timeout_millis: 10_000,
            on_silence: OnSilence::Degrade,
            silence_timeout_millis: 5_000,
            bandwidth_limit: None,
            compression: true,
            ca: None,
        }
    }
}

/// How a sink came by the source's data, cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Tier {
    /// From the common point of the logs on.
    Log,
    /// The rows that differ.
    State,
    /// Everything.
    Full,
}

/// A link as its sink keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkLink {
    /// The database here.
    pub database: DatabaseId,
    /// The source.
    pub source: SourceAddress,
    /// Other aggregators of the source region, as it said.
    pub others: Vec<String>,
    /// The source's cluster.
    pub source_cluster: ClusterId,
    /// Proofs.
    pub credentials: Credentials,
    /// Settings.
    pub options: LinkOptions,
    /// Nothing is taken until it is continued.
    pub paused: bool,
    /// A person ordered it: the served cut may fall, what parted is rewound. Until every partition has joined.
    pub forced: bool,
    /// Nothing is taken until a person orders it: why.
    pub broken: Option<String>,
    /// How it began.
    pub tier: Tier,
    /// Why in this way.
    pub reason: String,
    /// When it was made or last renewed.
    pub since: UnixMillis,
}

/// How a source's commits treat a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkMode {
    /// Commits do not wait.
    Async,
    /// Commits wait until the sink's durable cut has reached them.
    Sync,
    /// SYNC was asked for; since this time commits do not wait.
    Degraded {
        /// Commits at and above this may have been acknowledged without the sink.
        since: Timestamp,
    },
}

/// A link as its source keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLink {
    /// The database here.
    pub database: DatabaseId,
    /// The user whose privilege it needs.
    pub user: Account,
    /// SHA-256 of the sink's token; `None`: it was taken away, the sink must log in again.
    pub token_hash: Option<[u8; 32]>,
    /// The sink's cluster.
    pub peer_cluster: ClusterId,
    /// The database's name there.
    pub peer_database: String,
    /// Where the sink's region is reached, if it said so.
    pub peer_address: Option<String>,
    /// Other aggregators of the sink's region, as it said.
    pub peer_others: Vec<String>,
    /// SHA-256 of what the sink's region shows of its certificates there.
    pub peer_fingerprint: Option<[u8; 32]>,
    /// Whether commits wait.
    pub mode: LinkMode,
    /// What happens when the sink is silent.
    pub on_silence: OnSilence,
    /// The durable cut that the sink last reported: history above it is kept. `None`: retention gave it up.
    pub pin: Option<Timestamp>,
    /// In whose history the cut was reported.
    pub pin_promotions: Vec<Promotion>,
    /// The sink follows no longer, since then; the pin stays until it joins again or retention gives it up.
    pub ended: Option<UnixMillis>,
    /// When it was made or last renewed.
    pub since: UnixMillis,
}

impl SourceLink {
    /// What the pin is worth in another history: the cut where the two part, at most.
    pub fn pin_in(&self, promotions: &[Promotion]) -> Option<Timestamp> {
        let limit = parting_cut(&self.pin_promotions, promotions).unwrap_or(Timestamp::MAX);
        self.pin.map(|pin| pin.min(limit))
    }
}

/// A link that ended with a promotion here: where the claim is told, and what history the way back needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parted {
    /// The database here.
    pub database: DatabaseId,
    /// The source that it followed.
    pub source: SourceAddress,
    /// Other aggregators of the source region, as it said.
    pub others: Vec<String>,
    /// The source's cluster.
    pub source_cluster: ClusterId,
    /// Proofs.
    pub credentials: Credentials,
    /// The promotion that parted them.
    pub promotion: Promotion,
    /// History above its cut is kept.
    pub pinned: bool,
    /// Since when.
    pub since: UnixMillis,
}
