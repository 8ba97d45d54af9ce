//! When a write is refused although the replica would take it: too few copies, or a disk that is nearly full.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aggregator::protocol::LeafRefusal;
use catalog::link::SinkLink;
use catalog::view::DatabaseNews;
use parking_lot::RwLock;
use replication::{ReplicaOptions, Status};
use types::{DatabaseId, LinkId};

/// Below this many free bytes, writes of clients are refused: the log's bookkeeping and the state's flushes need room.
const RESERVE_BYTES: u64 = 512 << 20;

/// What the catalog says of this leaf's databases, and what its disk allows.
#[derive(Debug)]
pub struct Rules {
    databases: RwLock<HashMap<DatabaseId, DatabaseNews>>,
    free: AtomicU64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { databases: RwLock::default(), free: AtomicU64::new(u64::MAX) }
    }
}

impl Rules {
    /// Takes what has changed.
    pub fn learn(&self, news: Vec<DatabaseNews>) {
        let mut databases = self.databases.write();
        databases.extend(news.into_iter().map(|news| (news.database, news)));
    }

    /// So many bytes are free on the disk now.
    pub fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::Relaxed);
    }

    /// Whether a database's primary may take a write now.
    pub fn admit(&self, database: DatabaseId, status: &Status) -> Result<(), LeafRefusal> {
        let free = self.free.load(Ordering::Relaxed);
        if free < RESERVE_BYTES {
            return Err(LeafRefusal::DiskFull { free, reserve: RESERVE_BYTES });
        }
        let wanted = self.databases.read().get(&database).map_or(1, |news| u32::from(news.min_in_sync));
        let in_sync = status.leading.as_ref().map_or(0, |leading| leading.waited.len() as u32);
        // Who is no primary says so itself.
        if in_sync > 0 && in_sync < wanted {
            return Err(LeafRefusal::TooFewCopies { in_sync, wanted });
        }
        Ok(())
    }

    /// The database that a link follows here, and the hash of the token that its sessions must hold.
    pub fn serves(&self, link: LinkId) -> Option<(DatabaseId, [u8; 32])> {
        let databases = self.databases.read();
        databases.values().find_map(|news| {
            let (_, hash) = news.serves.iter().find(|(served, _)| *served == link)?;
            Some((news.database, *hash))
        })
    }

    /// The link that a database follows, unless it is writable, paused or broken.
    pub fn follows(&self, database: DatabaseId) -> Option<(LinkId, SinkLink)> {
        self.databases.read().get(&database)?.follows.clone()
    }

    /// The settings of a database's replicas, as of its opening here.
    pub fn replica_options(&self, database: DatabaseId, common: &ReplicaOptions) -> ReplicaOptions {
        let databases = self.databases.read();
        let async_failover_after = match databases.get(&database) {
            Some(news) => news.async_failover_after_millis.map(Duration::from_millis),
            None => common.async_failover_after,
        };
        ReplicaOptions { async_failover_after, ..common.clone() }
    }
}
