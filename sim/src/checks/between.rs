//! What happens between regions, and which checks look at it (`protocol.md` sections 4 to 6): `resolved_mark`,
//! `cut_is_consistent`, `promotion_rows`, `set_aside_complete`, `sync_link`, `fence`, `single_writer`.

use std::collections::BTreeMap;

use types::{Body, Ordinal, PartitionId, Promotion, Record, Timestamp, TxnId};

use super::history::{Commit, Rows};
use crate::options::Scale;
use crate::world::World;

/// What the checks between regions remember.
#[derive(Debug, Default)]
pub struct Between {
    /// The highest mark published, by partition and term.
    pub published: BTreeMap<(Ordinal, Vec<Promotion>), Timestamp>,
    /// What each region has served, in which term, and the rows it showed.
    pub served: BTreeMap<usize, (Timestamp, Vec<Promotion>, Rows)>,
    /// The cut at which each region was promoted last, lowered to where it has parted from that history since.
    pub promoted: BTreeMap<usize, Timestamp>,
}

impl World {
    /// The term of a region's database, as its catalog has it.
    pub fn term(&self, region: usize) -> Vec<Promotion> {
        let held = &self.regions[region];
        held.catalog.databases[&held.database].promotions.clone()
    }

    /// Whether a region's database follows another.
    pub fn is_sink(&self, region: usize) -> bool {
        let held = &self.regions[region];
        held.catalog.databases[&held.database].is_sink()
    }

    /// A commit point advanced over a record of a writable partition.
    pub(crate) fn record_commit(&mut self, index: usize, id: PartitionId, record: &Record) {
        let (txn, ts) = match record.body {
            Body::EpochStart { .. } if id.ordinal == Ordinal::META => {
                return self.find_definitions(index, id, record.lsn);
            }
            Body::Commit { txn, ts, .. } => (txn, ts),
            Body::Outcome { txn, first, decision: Some(ts) } if first == id.ordinal => (txn, ts),
            _ => return,
        };
        let Some(held) = self.clients.txns.get(&txn) else { return };
        let keys = held.parts.iter().flat_map(|part| part.keys.iter().map(|key| (part.ordinal, key.clone()))).collect();
        self.checks.history.commit(id.ordinal, record.epoch, txn, Commit { ts, keys });
        // Whom a standing order has replaced commits on for a while, and tells nobody. Others that were replaced may tell.
        if self.leads_by_the_catalog(index, id) {
            self.count_definitions(id, (record.epoch, record.lsn), txn, ts);
        }
    }

    /// A writable primary mints a record.
    pub(crate) fn check_minted(&mut self, index: usize, id: PartitionId, record: &Record) {
        if matches!(record.body, Body::EpochStart { .. }) {
            let term =
                self.nodes[index].replica(id).map(|replica| replica.status().mark.promotions).unwrap_or_default();
            self.checks.history.start(id.ordinal, record.epoch, term);
            return;
        }
        // One that was replaced may write what will never be committed.
        if self.leads_by_the_catalog(index, id) {
            self.check_resolved(index, id, record);
            self.check_final_position(index, id, record);
        }
    }

    /// Something leaves for a sink.
    pub(crate) fn check_shipment(&mut self, index: usize, id: PartitionId, message: &replication::Message) {
        let replication::Message::Append(append) = message else { return };
        if self.nodes[index].replica(id).is_none_or(|replica| replica.mints().is_none()) {
            return;
        }
        for record in &append.records {
            self.shipped(index, id, (record.epoch, record.lsn));
        }
        if let Some(mark) = &append.mark {
            let known = self.checks.between.published.entry((id.ordinal, mark.promotions.clone())).or_default();
            *known = (*known).max(mark.ts);
        }
    }

    /// The rows of a partition in the state of a node, by the transactions that wrote them.
    pub fn rows_of(&self, index: usize, id: PartitionId, view: Timestamp) -> Rows {
        let Some(hosted) = self.nodes[index].hosted(id) else { return Rows::new() };
        let rows = hosted.state.rows(view, &hosted.log.summary.lineage);
        rows.into_iter()
            .filter_map(|(key, seen)| {
                let value = seen.value?;
                let txn = TxnId(u128::from_be_bytes(value[..].try_into().expect("a value is a transaction id")));
                Some(((id.ordinal, key), txn))
            })
            .collect()
    }

    /// Transactions of a history that were acknowledged at times above a cut.
    pub(crate) fn acknowledged_above<'a>(
        &'a self,
        term: &'a [Promotion],
        cut: Timestamp,
    ) -> impl Iterator<Item = (TxnId, Timestamp)> + 'a {
        self.clients.txns.iter().filter_map(move |(txn, held)| {
            let (ts, (epoch, _)) = (held.ts?, held.decided?);
            let of = self.checks.history.term(held.parts[0].ordinal, epoch);
            (held.acked && ts > cut && of.is_some_and(|of| of == term)).then_some((*txn, ts))
        })
    }

    /// A sink is promoted at `cut`; `full`: with all that it could have had.
    pub(crate) fn check_promotion(
        &mut self,
        region: usize,
        term: &[Promotion],
        cut: Timestamp,
        full: bool,
        token: bool,
    ) {
        if full {
            self.check_promoted_cut(region, cut);
            self.check_sync_link(region, term, cut);
        }
        if token {
            self.check_handed_over(region, term, cut);
        }
        self.checks.between.promoted.insert(region, cut);
    }

    /// Everything is equal.
    pub(crate) fn check_end(&mut self) {
        if self.options.scale == Scale::Regions {
            let term = self.term(0);
            self.check_rows_at_the_end(&term);
            self.check_set_aside(&term);
        }
    }
}
