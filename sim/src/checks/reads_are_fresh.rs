//! `protocol.md` sections 3 and 4: a read of the latest returns nothing older than what was acknowledged, or shown to a
//! finished read, before it began.

use std::collections::BTreeMap;

use bytes::Bytes;
use types::{Ordinal, Timestamp};

use super::acked_write_survives::Head;

/// As it is reported.
pub const NAME: &str = "reads_are_fresh";

/// What a read must see at least, as of its beginning.
#[derive(Clone, Debug)]
pub struct Floor {
    /// In which region.
    pub region: usize,
    /// Of which partition.
    pub ordinal: Ordinal,
    /// Which row.
    pub key: Bytes,
    /// This version or a newer one.
    pub ts: Timestamp,
}

/// Reads that are under way.
#[derive(Debug, Default)]
pub struct Reads(BTreeMap<u64, Floor>);

impl Reads {
    /// A read begins.
    pub fn begin(&mut self, read: u64, region: usize, ordinal: Ordinal, key: Bytes, head: Option<&Head>) {
        let shown = head.into_iter().flat_map(|head| head.shown.values());
        let ts = shown.filter(|shown| shown.keys.contains(&key)).map(|shown| shown.ts).max().unwrap_or_default();
        self.0.insert(read, Floor { region, ordinal, key, ts });
    }

    /// A read returns.
    pub fn end(&mut self, read: u64, seen: Timestamp) -> Result<(), String> {
        match self.0.remove(&read) {
            Some(floor) if seen < floor.ts => Err(format!(
                "a read of {:?} of partition {} returns the version of {seen}, {} was shown before it began",
                floor.key, floor.ordinal, floor.ts
            )),
            _ => Ok(()),
        }
    }

    /// A loss was announced: reads under way may see less.
    pub fn forget(&mut self, region: usize, _ordinal: Ordinal) {
        self.0.values_mut().filter(|floor| floor.region == region).for_each(|floor| floor.ts = Timestamp::ZERO);
    }
}
