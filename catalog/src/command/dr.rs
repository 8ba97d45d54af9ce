//! Decisions between regions: who follows whom, who may write.

use serde::{Deserialize, Serialize};
use types::{ClusterId, DatabaseId, LinkId, PartitionId, Promotion, PromotionId, Reign, SetVersion, Timestamp};

use super::CreateDatabase;
use crate::link::{Credentials, LinkOptions, OnSilence, SourceAddress};
use crate::user::Account;

/// What a sink and its source have agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkTerms {
    /// Given by the source.
    pub link: LinkId,
    /// Where the source is.
    pub source: SourceAddress,
    /// The source's cluster.
    pub source_cluster: ClusterId,
    /// Proofs.
    pub credentials: Credentials,
    /// Settings.
    pub options: LinkOptions,
    /// The source's promotions.
    pub promotions: Vec<Promotion>,
    /// The source is a sink itself.
    pub relay: bool,
    /// The clusters that the source follows, directly or through others: this one must not be among them.
    pub upstream: Vec<ClusterId>,
}

/// A new database that follows another region from its empty beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSink {
    /// Name here, identity and partitions of the source, mode and options here.
    pub create: CreateDatabase,
    /// The link.
    pub terms: LinkTerms,
}

/// An existing database follows another region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Which database.
    pub database: DatabaseId,
    /// The source's identity.
    pub identity: u128,
    /// How many partitions of rows the source has.
    pub partitions: u32,
    /// The link.
    pub terms: LinkTerms,
    /// FORCE DIFFERENTIAL: a writable database, or one whose history has parted, may follow; what parted is rewound.
    pub forced: bool,
    /// Up to where this database, if it is a sink, has served reads.
    pub served: Timestamp,
}

/// A sink becomes writable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promote {
    /// Which database.
    pub database: DatabaseId,
    /// Its link: no frame of it is taken from now on.
    pub link: LinkId,
    /// Random bits of the promotion.
    pub promotion: PromotionId,
    /// The history in which the cut was computed: a compare-and-set.
    pub promotions: Vec<Promotion>,
    /// Everything committed at or below this is in, nothing above. Durable on the in-sync set of every partition.
    pub cut: Timestamp,
    /// Random bits of the epochs.
    pub nonce: u64,
    /// Above every timestamp received.
    pub start_above: Timestamp,
    /// The highest epoch number received.
    pub received_epoch: u64,
    /// The hand-over token that is accepted by it; `None`: a person's order.
    pub token: Option<u128>,
    /// AS COPY: the new identity. It claims nothing.
    pub copy: Option<u128>,
    /// Where this region is reached, for those who learn of the claim.
    pub address: String,
}

/// A sink has logged in at its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenLink {
    /// Random bits of the link, if it is a new one.
    pub link: LinkId,
    /// The database here.
    pub database: DatabaseId,
    /// As whom it logged in.
    pub user: Account,
    /// SHA-256 of its new token.
    pub token_hash: [u8; 32],
    /// The sink's cluster.
    pub peer_cluster: ClusterId,
    /// The database's name there.
    pub peer_database: String,
    /// Where the sink's region is reached, if it said so.
    pub peer_address: Option<String>,
    /// SHA-256 of what it shows of its certificates there.
    pub peer_fingerprint: Option<[u8; 32]>,
    /// Commits shall wait for it.
    pub sync: bool,
    /// What happens when it is silent.
    pub on_silence: OnSilence,
}

/// What a sink has committed about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HandoverAnswer {
    /// The right to write has moved, by this promotion.
    Accepted(PromotionId),
    /// It will never move by this token.
    Refused,
}

/// The primary of a sink's partition has compared its log: the source has lost what was served here. It counts in the reign and
/// set version in which it was found, for the order to follow may have changed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BreakLink {
    /// Which partition.
    pub partition: PartitionId,
    /// Its reign.
    pub reign: Reign,
    /// Its set's version.
    pub version: SetVersion,
    /// Which link.
    pub link: LinkId,
    /// What was lost, for people.
    pub reason: String,
}
