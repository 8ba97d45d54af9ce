//! What a partition's records take of the log: for those who decide how much history is kept.
//!
//! The log does not count the bytes of each record that it keeps. A segment's bytes are shared out by numbers of
//! records, so the answer is about right where records are about equal, and costs no memory.

use std::collections::BTreeMap;

use types::{Lsn, PartitionId};

use super::NodeLog;
use super::segments::Segment;
use super::shared::Inner;

/// Records of one partition in one segment, and the bytes that each of them takes there, about.
struct Share {
    from: Lsn,
    to: Lsn,
    record_bytes: u64,
}

impl NodeLog {
    /// Where the newest records of a partition that take about `bytes` bytes begin.
    pub fn newest_within(&self, partition: PartitionId, bytes: u64) -> Lsn {
        let inner = self.shared.inner.lock();
        let first = inner.partitions.get(&partition).map_or(Lsn(1), |found| found.summary.first);
        let mut left = bytes;
        for share in shares(&inner, partition) {
            let records = share.to.next().0 - share.from.0;
            let fitting = left / share.record_bytes;
            if fitting < records {
                return Lsn(share.to.next().0 - fitting).max(first);
            }
            left -= records * share.record_bytes;
        }
        first
    }
}

impl NodeLog {
    /// The bytes that each partition's records take, about. One pass over what the segments hold.
    pub fn bytes_by_partition(&self) -> BTreeMap<PartitionId, u64> {
        let inner = self.shared.inner.lock();
        let mut bytes = BTreeMap::new();
        for segment in inner.segments.iter() {
            let ranges = segment.ranges();
            let record_bytes = record_bytes(&inner, segment);
            for (partition, own) in ranges.iter() {
                let Some(found) = inner.partitions.get(partition) else { continue };
                let live = own.iter().filter_map(|range| found.summary.live_part(range.epoch, range.from, range.to));
                let records: u64 = live.map(|(from, to)| to.next().0 - from.0).sum();
                *bytes.entry(*partition).or_default() += records * record_bytes;
            }
        }
        bytes
    }
}

/// What a record of a segment takes of it, about.
fn record_bytes(inner: &Inner, segment: &Segment) -> u64 {
    let records: u64 = segment.ranges().values().flatten().map(|range| range.to.0 - range.from.0 + 1).sum();
    let open = if segment.is_sealed() { 0 } else { inner.open_free };
    (segment.file.size.saturating_sub(open) / records.max(1)).max(1)
}

/// The newest first. A record that was moved forward is counted where it is now and where it was, until that goes.
fn shares(inner: &Inner, partition: PartitionId) -> Vec<Share> {
    let mut shares = vec![];
    let summary = inner.partitions.get(&partition).map(|found| &found.summary);
    for segment in inner.segments.iter().collect::<Vec<_>>().into_iter().rev() {
        let ranges = segment.ranges();
        let Some(own) = ranges.get(&partition) else { continue };
        let record_bytes = record_bytes(inner, segment);
        let live = |range: &super::segments::Range| summary?.live_part(range.epoch, range.from, range.to);
        let live = own.iter().rev().filter_map(live);
        shares.extend(live.map(|(from, to)| Share { from, to, record_bytes }));
    }
    shares.sort_by_key(|share| std::cmp::Reverse(share.to));
    shares
}
