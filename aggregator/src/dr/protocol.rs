//! What regions ask each other. Sent over sessions of role `Link`; the dialled side answers.

use std::fmt;

use catalog::Refusal;
use catalog::claim::Claim;
use catalog::database::FullCopy;
use catalog::link::OnSilence;
use serde::{Deserialize, Serialize};
use types::{ClusterId, LinkId, Lsn, Ordinal, Promotion, Timestamp};

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LinkRequest {
    /// A sink logs in.
    Open(Open),
    /// A sink says how far it is, and wants to know where its source stands.
    Poll(Poll),
    /// A sink was dropped, or its order failed: the link ends.
    Close {
        /// Which link.
        link: LinkId,
        /// Its token.
        token: Vec<u8>,
        /// History above the sink's last cut is kept: it may come back.
        keep_pin: bool,
    },
    /// A sink was promoted and claims the database.
    Claim {
        /// The link that it followed.
        link: LinkId,
        /// Its token.
        token: Vec<u8>,
        /// Every claim that it knows.
        claims: Vec<Claim>,
    },
    /// A source that was away asks its sink whether it has claimed the database.
    Ask {
        /// The link by which the sink followed.
        link: LinkId,
        /// The hash of the link's token: what the source keeps of it.
        proof: [u8; 32],
    },
}

/// A sink's login.
#[derive(Clone, Serialize, Deserialize)]
pub struct Open {
    /// As whom.
    pub user: String,
    /// In clear: the session is encrypted, its certificate pinned or checked.
    pub password: String,
    /// The source's database.
    pub database: String,
    /// What it is called at the sink.
    pub peer_database: String,
    /// Where the sink's region is reached.
    pub peer_address: String,
    /// SHA-256 of what it shows of its certificates there.
    pub peer_fingerprint: [u8; 32],
    /// Commits shall wait for the sink.
    pub sync: bool,
    /// What happens when the sink is silent.
    pub on_silence: OnSilence,
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Open({} for {} as {})", self.database, self.peer_address, self.user)
    }
}

/// A sink's report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Poll {
    /// Which link.
    pub link: LinkId,
    /// Its token.
    pub token: Vec<u8>,
    /// The cut that is durable over all its partitions.
    pub cut: Timestamp,
    /// In whose history.
    pub promotions: Vec<Promotion>,
    /// What a full copy took, if one was made.
    pub full_copy: Option<FullCopy>,
    /// Claims that it knows.
    pub claims: Vec<Claim>,
    /// SQL addresses of its region's aggregators.
    pub aggregators: Vec<String>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum LinkAnswer {
    /// To `Open`.
    Opened(Box<Opened>),
    /// To `Poll`.
    Source(Box<Source>),
    /// To `Close` and `Claim`.
    Done,
    /// To `Ask`.
    Claims {
        /// The link's token: proof that this is the sink.
        token: Vec<u8>,
        /// Every claim that the sink knows.
        claims: Vec<Claim>,
    },
    /// It was not done.
    Refused(LinkRefusal),
}

/// The sink is known to its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// The link, new or as before.
    pub link: LinkId,
    /// What later requests prove.
    pub token: Vec<u8>,
    /// The source's cluster.
    pub cluster: ClusterId,
    /// The database, whatever it is called.
    pub identity: u128,
    /// Its partitions that hold rows.
    pub partitions: u32,
    /// As in every answer to `Poll`.
    pub source: Source,
}

/// Where a source stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    /// The promotions of its history.
    pub promotions: Vec<Promotion>,
    /// It is a sink itself.
    pub relay: bool,
    /// The clusters that it follows, directly or through others.
    pub upstream: Vec<ClusterId>,
    /// Everything that it had committed when it answered is at or below this.
    pub position: Timestamp,
    /// It is sealed: nothing is committed above this.
    pub end: Option<Timestamp>,
    /// Where its partitions are led.
    pub route: Vec<(Ordinal, String)>,
    /// What may be shipped of each.
    pub safe: Vec<(Ordinal, Lsn)>,
    /// Bytes of its state.
    pub live_bytes: u64,
    /// What a full copy took, if it knows.
    pub full_copy: Option<FullCopy>,
    /// Claims that it knows.
    pub claims: Vec<Claim>,
    /// SQL addresses of its region's aggregators.
    pub aggregators: Vec<String>,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LinkRefusal {
    /// Name, host or password is wrong.
    #[error("access denied for user '{user}' (using password: {})", if *with_password { "YES" } else { "NO" })]
    Login {
        /// As whom.
        user: String,
        /// A password was given.
        with_password: bool,
    },
    /// The user may not do this.
    #[error("user {0} lacks the REPLICATION privilege there: GRANT REPLICATION ON *.* TO it")]
    Privilege(String),
    /// No such database.
    #[error("there is no database '{0}' there")]
    NoDatabase(String),
    /// The link or its token is not known.
    #[error("the source does not know this link any more: repeat REPLICATE")]
    Token,
    /// The catalog refused.
    #[error("{0}")]
    Catalog(Refusal),
    /// It cannot be decided at the moment.
    #[error("{0}")]
    NotNow(String),
}
