//! The configuration of one process: a TOML file, every setting with its default beside it.
//!
//! A key that is not known is a warning at start, so that an older release can be started with a newer file, and an
//! error in `perennial check-config` and in the tests.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use replication::ReplicaOptions;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::leaf::UpkeepOptions;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Speaks MySQL, votes in the catalog.
    Aggregator,
    /// Holds partitions.
    Leaf,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Shown in logs and in the console.
    pub name: String,
    /// One or both.
    pub roles: Vec<Role>,
    /// Everything that must survive a restart; belongs to one process at a time.
    pub data_dir: PathBuf,
    /// Where the process listens.
    pub listen: Listen,
    /// What the processes of a cluster have in common.
    pub cluster: Cluster,
    /// Timing of replication; the same on all nodes of a cluster.
    #[serde(default)]
    pub replication: Replication,
    /// The node log of a leaf.
    #[serde(default)]
    pub log: Log,
    /// The state of a leaf's partitions.
    #[serde(default)]
    pub state: State,
    /// Clients of an aggregator.
    #[serde(default)]
    pub mysql: Mysql,
}

/// Where a process listens. Other nodes are told these addresses, so they must be reachable from there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listen {
    /// Frames and calls of the cluster (TCP), and at a leaf DR streams (QUIC, UDP of the same number).
    pub rpc: SocketAddr,
    /// Metrics and console.
    pub http: SocketAddr,
    /// MySQL clients (TCP) and DR (QUIC, UDP of the same number); aggregators alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SocketAddr>,
}

/// What the processes of a cluster have in common.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// The cluster's number; clusters that exchange data have different ones.
    pub id: u64,
    /// What people call this region (SHOW CLUSTER STATUS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// This node's number in the cluster, from 1, as its certificate says.
    pub node: u64,
    /// The folder with `ca.crt`, `node.crt` and `node.key` (`perennial cert`).
    pub certificates: PathBuf,
    /// RPC addresses of aggregators, in the same order everywhere: the first founds a new region and adds the others; all
    /// find the master through them.
    #[serde(default)]
    pub aggregators: Vec<SocketAddr>,
    /// A file with root's first password; without it root connects from loopback only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_password_file: Option<PathBuf>,
    /// Partitions of a database that is created without PARTITIONS; default: four for each leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Copies of each partition of a database that is created without redundancy, 1 to 3; default: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<u8>,
    /// Most partitions that move at a time (REBALANCE, REMOVE LEAF); default: 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves_at_once: Option<usize>,
}

/// Timing of replication.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Replication {
    /// How long a grant between two nodes holds.
    pub lease: Span,
    /// Between two heartbeats.
    pub renew: Span,
    /// Silence of this length is a failure.
    pub failure_timeout: Span,
    /// So long may a disk take for what must get onto it; a leaf whose disk takes longer is taken for failed.
    pub slow_timeout: Span,
    /// A replica with an empty log is fed a log of up to this many records; a longer one is copied as state.
    pub copy_records_min: u64,
}

/// The node log.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Size of a segment file.
    pub segment_size: Size,
    /// ASYNC DURABILITY: how long an acknowledged record may stay off the disk.
    pub flush_interval: Span,
    /// Use io_uring where the kernel allows it.
    pub io_uring: bool,
}

/// The state of partitions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Blocks of state kept in memory, over all partitions.
    pub cache: Size,
    /// Memtables, over all partitions.
    pub write_buffer: Size,
    /// A partition's memtable is written to files when it is this large,
    pub checkpoint_size: Size,
    /// or this old: a restart replays no more of the log.
    pub checkpoint_interval: Span,
    /// How long row versions are kept for statements that run.
    pub view_retention: Span,
    /// Every replica is read from end to end once in this time, to find damage while there is another copy.
    pub scrub_interval: Span,
    /// Bytes of copies of state (moves, repairs, new replicas) that a leaf sends in a second; 0: as fast as it goes.
    pub copy_rate: Size,
    /// With less than this free on its disk, a leaf takes no writes of clients (error 1290).
    pub disk_reserve: Size,
}

/// Clients of an aggregator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Mysql {
    /// Clients at once; one more is refused with error 1040.
    pub max_connections: usize,
    /// The largest packet of a client.
    pub max_allowed_packet: Size,
    /// How long a statement waits for a row lock (error 1205), unless its session says otherwise.
    pub lock_wait_timeout: Span,
    /// How long a statement waits for a partition without a primary (error 9005).
    pub partition_wait: Span,
}

impl Default for Replication {
    fn default() -> Replication {
        let options = ReplicaOptions::default();
        Replication {
            lease: Span(options.lease),
            renew: Span(options.renew),
            failure_timeout: Span(options.failure_timeout),
            slow_timeout: Span(options.slow_timeout),
            copy_records_min: options.copy_records_min,
        }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log { segment_size: Size(64 << 20), flush_interval: Span(Duration::from_millis(200)), io_uring: true }
    }
}

impl Default for State {
    fn default() -> State {
        let upkeep = UpkeepOptions::default();
        State {
            cache: Size(256 << 20),
            write_buffer: Size(256 << 20),
            checkpoint_size: Size(upkeep.checkpoint_bytes),
            checkpoint_interval: Span(upkeep.checkpoint_interval),
            view_retention: Span(upkeep.views),
            scrub_interval: Span(upkeep.scrub_interval),
            copy_rate: Size(128 << 20),
            disk_reserve: Size(upkeep.disk_reserve),
        }
    }
}

impl Default for Mysql {
    fn default() -> Mysql {
        Mysql {
            max_connections: 1000,
            max_allowed_packet: Size(64 << 20),
            lock_wait_timeout: Span(Duration::from_secs(50)),
            partition_wait: Span(Duration::from_secs(5)),
        }
    }
}

/// A file that cannot be a configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("configuration {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It says what cannot be.
    #[error("configuration {path}: {problem}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What, and what to write instead.
        problem: String,
    },
}

impl Config {
    /// Reads a file and checks it. Returns the keys that mean nothing, too.
    pub fn load(path: &Path) -> Result<(Config, Vec<String>), ConfigError> {
        let read = |reason: String| ConfigError::Read { path: path.into(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| read(error.to_string()))?;
        let mut unknown = Vec::new();
        let document = toml::Deserializer::parse(&text).map_err(|error| read(error.to_string()))?;
        let mut config: Config = serde_ignored::deserialize(document, |key| unknown.push(key.to_string()))
            .map_err(|error| read(error.to_string()))?;
        config.resolve(path.parent().unwrap_or(Path::new(".")));
        config.validate().map_err(|problem| ConfigError::Invalid { path: path.into(), problem })?;
        Ok((config, unknown))
    }

    /// Paths are relative to the file that names them.
    fn resolve(&mut self, base: &Path) {
        let cluster = &mut self.cluster;
        let paths = [&mut self.data_dir, &mut cluster.certificates];
        for path in paths.into_iter().chain(cluster.root_password_file.as_mut()) {
            *path = base.join(&*path);
        }
    }

    /// The rules between settings.
    pub fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() {
            return Err("name is empty: give the process a name".into());
        }
        if self.cluster.id == 0 || self.cluster.node == 0 {
            return Err("cluster.id and cluster.node are counted from 1".into());
        }
        if self.roles.is_empty() {
            return Err("roles is empty: write [\"aggregator\"], [\"leaf\"] or both".into());
        }
        if self.is(Role::Aggregator) && self.listen.sql.is_none() {
            return Err("listen.sql is missing: an aggregator needs an address for MySQL clients".into());
        }
        if !self.is(Role::Aggregator) && self.cluster.aggregators.is_empty() {
            return Err("cluster.aggregators is empty: a leaf needs the RPC address of an aggregator".into());
        }
        if self.log.segment_size.0 < 1 << 20 {
            return Err(format!("log.segment_size is {}, must be 1MiB or more", self.log.segment_size));
        }
        if self.log.flush_interval.0 > Duration::from_secs(1) {
            return Err(format!("log.flush_interval is {}, must be 1s or less", self.log.flush_interval));
        }
        if self.cluster.redundancy.is_some_and(|copies| !(1..=3).contains(&copies)) {
            return Err("cluster.redundancy is 1 to 3".into());
        }
        if self.replication.slow_timeout.0 < Duration::from_secs(1) {
            let slow = self.replication.slow_timeout;
            return Err(format!("replication.slow_timeout is {slow}, must be 1s or more: disks pause"));
        }
        self.replica_options().validate().map_err(|error| format!("replication: {error}"))
    }

    /// Whether the process has a role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// What replicas are told.
    pub fn replica_options(&self) -> ReplicaOptions {
        ReplicaOptions {
            lease: self.replication.lease.0,
            renew: self.replication.renew.0,
            failure_timeout: self.replication.failure_timeout.0,
            slow_timeout: self.replication.slow_timeout.0,
            copy_records_min: self.replication.copy_records_min,
            ..ReplicaOptions::default()
        }
    }
}

/// A duration as people write it: `500ms`, `5s`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes as people write it: `100MB`, `2GiB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SPANS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.trim().find(|c: char| !c.is_ascii_digit()).unwrap_or(text.trim().len());
    let (number, unit) = text.trim().split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor)?;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn shown(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let fits = |unit: &&(&str, u64)| value.is_multiple_of(unit.1);
    let (name, factor) = units.iter().filter(fits).max_by_key(|unit| unit.1).copied().unwrap_or(units[0]);
    if value == 0 { write!(f, "0{}", units[0].0) } else { write!(f, "{}{name}", value / factor) }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let millis = amount(text, &SPANS).ok_or_else(|| format!("'{text}' is no duration: write 500ms, 5s, 2h"))?;
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let bytes = text.trim().parse().ok().or_else(|| amount(text, &SIZES));
        bytes.map(Size).ok_or_else(|| format!("'{text}' is no size: write 100MB, 2GiB"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.0.as_millis() as u64, &SPANS, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown(self.0, &SIZES, f)
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

as_text!(Span);
as_text!(Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_as_they_are_shown() {
        for text in ["500ms", "5s", "2h", "3d", "90s"] {
            let span: Span = text.parse().expect("it is a duration");
            assert_eq!(span.to_string().parse::<Span>(), Ok(span), "{text}");
        }
        assert_eq!("2GiB".parse::<Size>().expect("it is a size").to_string(), "2GiB");
        assert_eq!("4096".parse::<Size>(), Ok(Size(4096)));
        for text in ["", "5", "5 parsecs", "-1s", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }
}
