//! When a write is refused although the replica would take it: too few copies, or a disk that is nearly full. It may be
//! the disk of another member of the set: that would stand still when it is full, and the primary with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aggregator::protocol::LeafRefusal;
use catalog::heartbeat::FullDisk;
use catalog::link::SinkLink;
use catalog::view::DatabaseNews;
use parking_lot::RwLock;
use replication::Status;
use types::{DatabaseId, LinkId, Timestamp};

/// What is kept of a partition's log for followers when the disk is short: it is better that they copy than that
/// nobody can write.
const SHORT_BYTES: u64 = 16 << 20;

/// The disk has become nearly full, or has room again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskTurn {
    /// Writes of clients are refused from now on.
    Full,
    /// They are taken again.
    Roomy,
}

/// What the catalog says of this leaf's databases, and what its disk allows.
#[derive(Debug)]
pub struct Rules {
    databases: RwLock<HashMap<DatabaseId, DatabaseNews>>,
    /// Cuts above which other regions may need history; nothing before the master has said so.
    pins: RwLock<Option<HashMap<DatabaseId, Timestamp>>>,
    free: AtomicU64,
    /// Writes of clients are refused below this many free bytes.
    reserve: u64,
    /// They are, since there was less, until there is a quarter more: no writing and refusing by turns.
    full: AtomicBool,
    /// Other leaves of which the master says the same.
    full_elsewhere: RwLock<Vec<FullDisk>>,
    /// This leaf, for those who are refused.
    leaf: String,
}

impl Rules {
    /// Of a leaf that keeps so many bytes of its disk free.
    pub fn new(leaf: String, reserve: u64) -> Rules {
        let (free, full) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        let (databases, pins, full_elsewhere) = (RwLock::default(), RwLock::default(), RwLock::default());
        Rules { databases, pins, free, reserve, full, full_elsewhere, leaf }
    }

    /// Takes what has changed.
    pub fn learn(&self, news: Vec<DatabaseNews>) {
        let mut databases = self.databases.write();
        databases.extend(news.into_iter().map(|news| (news.database, news)));
    }

    /// Takes the pins of all databases.
    pub fn learn_pins(&self, pins: Vec<(DatabaseId, Timestamp)>) {
        *self.pins.write() = Some(pins.into_iter().collect());
    }

    /// Takes whose disks are nearly full.
    pub fn learn_full(&self, full: Vec<FullDisk>) {
        *self.full_elsewhere.write() = full;
    }

    /// The cut above which other regions may need a database's history. Everything, before anybody has said so.
    pub fn pin(&self, database: DatabaseId) -> Option<Timestamp> {
        match &*self.pins.read() {
            Some(pins) => pins.get(&database).copied(),
            None => Some(Timestamp::ZERO),
        }
    }

    /// How long followers that are behind are waited for.
    pub fn keep_time(&self, database: DatabaseId) -> Duration {
        let databases = self.databases.read();
        databases.get(&database).map_or(Duration::MAX, |news| Duration::from_millis(news.keep_millis))
    }

    /// How many bytes of one partition's log are kept for them; few where the disk is short.
    pub fn keep_bytes(&self, database: DatabaseId) -> u64 {
        let short = self.free.load(Ordering::Relaxed) < self.reserve.saturating_mul(2);
        let databases = self.databases.read();
        let most = databases.get(&database).map_or(u64::MAX, |news| news.keep_bytes);
        if short { most.min(SHORT_BYTES) } else { most }
    }

    /// So many bytes are free on the disk now. Tells if that changes whether writes are taken.
    pub fn set_free(&self, bytes: u64) -> Option<DiskTurn> {
        self.free.store(bytes, Ordering::Relaxed);
        let was = self.full.load(Ordering::Relaxed);
        let full = bytes < if was { self.reserve.saturating_add(self.reserve / 4) } else { self.reserve };
        self.full.store(full, Ordering::Relaxed);
        (full != was).then_some(if full { DiskTurn::Full } else { DiskTurn::Roomy })
    }

    /// Bytes that may be written before writes of clients are refused; none while they are.
    pub fn room(&self) -> u64 {
        if self.is_full() { 0 } else { self.free.load(Ordering::Relaxed).saturating_sub(self.reserve) }
    }

    /// Whether writes of clients are refused for want of room.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Whether a database's primary may take a write now.
    pub fn admit(&self, database: DatabaseId, status: &Status) -> Result<(), LeafRefusal> {
        if self.is_full() {
            let free = self.free.load(Ordering::Relaxed);
            return Err(LeafRefusal::DiskFull { leaf: self.leaf.clone(), free });
        }
        let waits_for = |full: &&FullDisk| {
            let waited = status.leading.iter().flat_map(|leading| &leading.waited);
            waited.into_iter().any(|member| member.node == full.node)
        };
        if let Some(full) = self.full_elsewhere.read().iter().find(waits_for) {
            return Err(LeafRefusal::DiskFull { leaf: full.rpc.clone(), free: full.free });
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_was_full_needs_a_quarter_more_before_writes_are_taken() {
        let rules = Rules::new("127.0.0.1:1".into(), 1000);
        let turns = [2000, 1000, 999, 1100, 1249, 1250, 1000, 999].map(|free| rules.set_free(free));
        let (full, roomy) = (Some(DiskTurn::Full), Some(DiskTurn::Roomy));
        assert_eq!(turns, [None, None, full, None, None, roomy, None, full]);
    }

    #[test]
    fn followers_are_waited_for_with_less_log_where_the_disk_is_short() {
        let rules = Rules::new("127.0.0.1:1".into(), 1000);
        assert_eq!(rules.pin(DatabaseId(1)), Some(Timestamp::ZERO), "everything, before anybody has said so");
        rules.learn_pins(vec![(DatabaseId(2), Timestamp(5))]);
        assert_eq!((rules.pin(DatabaseId(1)), rules.pin(DatabaseId(2))), (None, Some(Timestamp(5))));
        assert_eq!(rules.keep_bytes(DatabaseId(1)), u64::MAX);
        rules.set_free(1999);
        assert_eq!(rules.keep_bytes(DatabaseId(1)), SHORT_BYTES);
    }
}
