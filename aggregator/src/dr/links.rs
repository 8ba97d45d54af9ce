//! What is known of links besides the catalog's word. Volatile: a new master asks again.

use std::collections::BTreeMap;
use std::time::Instant;

use catalog::State;
use parking_lot::Mutex;
use types::{LinkId, Member, NodeId, PartitionId, Timestamp};

use super::protocol::Source;
use crate::protocol::{ReplicaReport, Route, StreamReport};

/// A sink's link, as its keeper sees it.
#[derive(Clone, Debug, Default)]
pub struct LinkState {
    /// What the source said last.
    pub source: Option<Source>,
    /// When.
    pub heard: Option<Instant>,
    /// When that was asked.
    pub asked: Option<Instant>,
    /// A session is open.
    pub connected: bool,
    /// Sessions that were opened after the first.
    pub reconnects: u64,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Records applied over all partitions when the catch-up began.
    pub applied_at_start: Option<u64>,
    /// When it began.
    pub began: Option<Instant>,
    /// Records that were set aside when the sides parted, and in which divergence.
    pub set_aside: Option<(u64, String)>,
    /// It was looked whether there are any.
    pub looked_aside: bool,
    /// When the sink's cut has reached this, what the source had at the beginning is there.
    pub target: Option<Timestamp>,
    /// The link began under this master, so that a full copy can be measured; until it is.
    pub to_measure: bool,
    /// The former source was told of the claim.
    pub told: bool,
    /// A source's link: the cut that its sink reported last.
    pub sink_cut: Timestamp,
    /// A source's link: when a cut was last written to the catalog.
    pub pinned: Option<Instant>,
}

/// What has travelled on a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes, after compression.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

/// Streams are counted by leaf processes, from their start on.
type Counts = BTreeMap<(LinkId, PartitionId, Member), StreamReport>;

#[derive(Debug, Default)]
struct Side {
    counts: Counts,
    base: BTreeMap<LinkId, Totals>,
}

impl Side {
    fn take(&mut self, member: Member, partition: PartitionId, reports: &[StreamReport]) {
        for report in reports {
            self.counts.insert((report.link, partition, member), *report);
        }
    }

    fn sum(&self, link: LinkId) -> Totals {
        let of = self.counts.iter().filter(|((id, ..), _)| *id == link).map(|(_, report)| report);
        of.fold(Totals::default(), |sum, report| Totals {
            bytes: sum.bytes + report.bytes,
            records: sum.records + report.records,
        })
    }

    fn totals(&self, link: LinkId) -> Totals {
        let (sum, base) = (self.sum(link), self.base.get(&link).copied().unwrap_or_default());
        Totals { bytes: sum.bytes - base.bytes, records: sum.records - base.records }
    }
}

/// All links of this region.
#[derive(Debug, Default)]
pub struct Links {
    known: Mutex<BTreeMap<LinkId, LinkState>>,
    received: Mutex<Side>,
    sent: Mutex<Side>,
}

impl Links {
    /// What is known of a sink's link.
    pub fn state(&self, link: LinkId) -> LinkState {
        self.known.lock().get(&link).cloned().unwrap_or_default()
    }

    /// Notes something of a sink's link.
    pub fn note(&self, link: LinkId, change: impl FnOnce(&mut LinkState)) {
        change(self.known.lock().entry(link).or_default());
    }

    /// A new master asks again, and counts from what is reported to it first.
    pub fn clear(&self) {
        self.known.lock().clear();
        *self.received.lock() = Side::default();
        *self.sent.lock() = Side::default();
    }

    /// A link begins, perhaps one that was there before: what travels is counted from now on.
    pub fn begin(&self, link: LinkId) {
        self.known
            .lock()
            .insert(link, LinkState { began: Some(Instant::now()), to_measure: true, ..LinkState::default() });
        for side in [&self.received, &self.sent] {
            let mut side = side.lock();
            let sum = side.sum(link);
            side.base.insert(link, sum);
        }
    }

    /// Takes the counts of a leaf's report.
    pub fn hear(&self, member: Member, replicas: &[ReplicaReport]) {
        let (mut received, mut sent) = (self.received.lock(), self.sent.lock());
        for replica in replicas {
            received.take(member, replica.partition, &replica.upstream);
            sent.take(member, replica.partition, &replica.downstream);
        }
    }

    /// What a sink has received.
    pub fn received(&self, link: LinkId) -> Totals {
        self.received.lock().totals(link)
    }

    /// What a source has sent.
    pub fn sent(&self, link: LinkId) -> Totals {
        self.sent.lock().totals(link)
    }

    /// A source's count for one partition, of the process that feeds or fed it last.
    pub fn sent_of(&self, link: LinkId, partition: PartitionId) -> Option<StreamReport> {
        let sent = self.sent.lock();
        let of = sent.counts.iter().filter(|((id, of, _), _)| *id == link && *of == partition);
        of.map(|(_, report)| *report).max_by_key(|report| (report.open, report.durable))
    }

    /// Where the sources of a leaf's databases are.
    pub fn routes(&self, state: &State, node: NodeId) -> Vec<Route> {
        let known = self.known.lock();
        let of = |(id, sink): (&LinkId, &catalog::link::SinkLink)| {
            let held = state.partitions.held_of(node, sink.database).next().is_some();
            let source = known.get(id)?.source.as_ref().filter(|_| held)?;
            Some(Route { link: *id, partitions: source.route.clone() })
        };
        state.sinks.iter().filter_map(of).collect()
    }
}
