//! `protocol.md` section 17: what a recovery may give up, and what it leaves.
//!
//! - Nothing is given up that the machine of a member still has: power was lost on all of them.
//! - The cut of a recovery is not below what a sink has served.
//! - A link is broken for what its source has lost only after a loss was announced.
//! - It is not long before the power failed, idle partitions or not.
//! - In the end every transaction is on all of its partitions, or on none; unless a loss was announced that goes on from the
//!   ends of single logs: a standing order, or power that failed before a database had its first marks.

use std::collections::{BTreeMap, BTreeSet};

use catalog::command::{BreakLink, Loss, NamePrimary, RecoverToCut};
use types::{Epoch, Lsn, Ordinal, PromotionId, StartKind, Timestamp, TxnId};

use crate::clients::Part;
use crate::disk::LogImage;
use crate::node::Hosted;
use crate::options::Planted;
use crate::world::World;

/// As it is reported.
pub const NAME: &str = "whole_after_loss";

/// What recoveries have given up.
#[derive(Debug, Default)]
pub struct Recoveries {
    /// Acknowledged or shown, and in no log that went on.
    pub lost: BTreeSet<TxnId>,
    /// A partition of some region went on from the end of its own log after a loss.
    pub uncut: bool,
    /// Sinks that have lost something: whom a standing order has replaced may still tell the source of what only it has.
    pub sinks: BTreeSet<usize>,
    /// Promotions that a partition carries out in a log that went on from its own end after they were ordered: it may lack
    /// what the history has below the cut.
    pub short: BTreeSet<(Ordinal, PromotionId)>,
    /// The cuts of each region, in order.
    pub cuts: BTreeMap<usize, Vec<Timestamp>>,
}

impl World {
    /// A loss is about to be announced: no member's machine has kept what the member acknowledged.
    pub(crate) fn check_loss(&mut self, region: usize, naming: &NamePrimary) {
        if naming.loss != Loss::Recovery {
            return;
        }
        let members = self.regions[region].catalog.partitions[&naming.partition].members.clone();
        let kept = members.into_iter().find(|member| {
            let node = &self.nodes[self.node_of(region, member.node)];
            let held = &self.regions[region].heard;
            let whole = node.disks.get(&naming.partition).is_some_and(|disk| !disk.rotten)
                && held.damaged_since(naming.partition, node.member()).is_none()
                && node.hosted(naming.partition).is_none_or(|hosted| !hosted.replica.status().installing);
            whole && !node.power_lost && node.powered_since <= member.incarnation
        });
        if let Some(member) = kept {
            let text =
                format!("a loss of {} is announced, the machine of {member} has kept its power", naming.partition);
            self.fail(NAME, text);
        }
    }

    /// A database is about to go on from a cut: what sinks have served stands.
    pub(crate) fn check_cut(&mut self, region: usize, recover: &RecoverToCut) {
        // What a partition has lost that went on from the end of its own log, a sink may have served: it asks a person.
        if self.checks.recoveries.uncut {
            return;
        }
        // A primary that lives may have resolved more since it has told its mark: that counts for those that lost something.
        let heard = &self.regions[region].heard;
        let reports = recover.named.iter().filter_map(|naming| heard.report_of(naming.partition, naming.primary));
        let cut = reports.map(|report| report.mark.ts).min().unwrap_or(recover.cut);
        let term = self.term(region);
        let above = self
            .checks
            .between
            .served
            .iter()
            .find(|(of, (served, of_term, _))| **of != region && *of_term == term && *served > cut);
        if let Some((of, (served, ..))) = above {
            let text = format!("region {region} goes on from {cut}, region {of} has served {served}");
            self.fail(NAME, text);
        }
    }

    /// A sink's link was broken because its source lacks what was served: only an announced loss may have taken it.
    pub(crate) fn check_break(&mut self, region: usize, lost: &BreakLink) {
        let held = self.regions.iter().flat_map(|region| region.catalog.partitions.iter());
        if !held.filter(|(id, _)| id.ordinal == lost.partition.ordinal).any(|(_, held)| held.losses > 0) {
            self.fail(NAME, format!("region {region} broke its link, no loss was announced: {lost:?}"));
        }
    }

    /// A primary was named alone, perhaps after a loss.
    pub(crate) fn goes_on_uncut(&mut self, region: usize, naming: &NamePrimary) {
        if naming.loss.gives_up() {
            // Marks may be lost with the outcomes that they counted; a sink that has served one asks a person.
            self.checks.between.published.retain(|(ordinal, _), _| *ordinal != naming.partition.ordinal);
        }
        if naming.loss.gives_up() && self.is_sink(region) {
            // It gets what it lost from its source again. Until then it may serve less, and be promoted with less.
            self.checks.between.served.remove(&region);
            self.release_sync(region, Timestamp::ZERO);
            self.checks.recoveries.sinks.insert(region);
        }
        let planted = self.options.has(Planted::UncutRecovery);
        if naming.loss.gives_up() && !self.is_sink(region) && !planted {
            self.checks.recoveries.uncut = true;
            self.note_short(region, naming);
        }
    }

    /// What a region has acknowledged, perhaps before it followed another, is lost with the log that had it.
    pub(crate) fn note_lost(&mut self, region: usize, naming: &NamePrimary) {
        if !naming.loss.gives_up() {
            return;
        }
        let Some(log) = self.named_log(region, naming) else { return };
        let (lineage, end, ordinal) = (&log.summary.lineage, log.end(), naming.partition.ordinal);
        let lacks = |(epoch, lsn): &(Epoch, Lsn)| *lsn > end || lineage.epoch_at(*lsn) != Some(*epoch);
        let gone = self.clients.txns.iter().filter(|(_, held)| held.region == region).filter_map(|(txn, held)| {
            let first = held.parts.first()?.ordinal == ordinal;
            let name = if first { held.decided.as_ref() } else { held.prepares.get(&ordinal) };
            name.filter(|name| lacks(name)).map(|_| *txn)
        });
        let gone: Vec<TxnId> = gone.collect();
        self.checks.recoveries.lost.extend(gone);
    }

    /// The log of the process that is named.
    fn named_log(&self, region: usize, naming: &NamePrimary) -> Option<&LogImage> {
        let (id, node) = (naming.partition, &self.nodes[self.node_of(region, naming.primary.node)]);
        let disk = node.disks.get(&id)?;
        Some(node.hosted(id).map_or(&disk.log, |hosted| &hosted.log))
    }

    /// The log that goes on may lack what was committed below the cuts of the promotions that it has not carried out. One that
    /// it has carried out is compared as before.
    fn note_short(&mut self, region: usize, naming: &NamePrimary) {
        let id = naming.partition;
        let Some(log) = self.named_log(region, naming) else { return };
        let carried = log.summary.lineage.entries().iter().filter_map(|entry| match entry.kind {
            StartKind::Promotion { id, .. } => Some(id),
            StartKind::Failover => None,
        });
        let carried: BTreeSet<PromotionId> = carried.collect();
        let ordered = self.term(region).into_iter().map(|promotion| promotion.id);
        let short = ordered.filter(|promotion| !carried.contains(promotion)).map(|promotion| (id.ordinal, promotion));
        self.checks.recoveries.short.extend(short);
    }

    /// A database goes on from a cut: the rows at it are the history's, unless that has losses in it that nobody can tell.
    pub(crate) fn goes_on_from_cut(&mut self, region: usize, promotion: PromotionId, cut: Timestamp) {
        let list = self.term(region);
        if !self.checks.recoveries.uncut {
            self.checks.history.lists.insert(promotion, list);
        }
        // It came with no token, and it may be below what a sink has served of a primary that went on meanwhile.
        self.checks.history.forced.insert(promotion);
        self.checks.recoveries.cuts.entry(region).or_default().push(cut);
        self.checks.promotions += 1;
    }

    /// Everything is at rest: no transaction is there in part.
    pub(crate) fn check_transactions(&mut self) {
        if self.checks.recoveries.uncut {
            return;
        }
        for region in 0..self.regions.len() {
            let half = self.clients.txns.iter().find_map(|(txn, held)| {
                let ts = held.ts.filter(|_| held.parts.len() > 1)?;
                let there: Vec<Ordinal> = held.parts.iter().map(|part| part.ordinal).collect();
                let alive = held.parts.iter().filter(|part| self.is_alive(region, part, *txn, ts));
                let alive: Vec<Ordinal> = alive.map(|part| part.ordinal).collect();
                (!alive.is_empty() && alive.len() < there.len()).then_some((*txn, ts, alive, there))
            });
            if let Some((txn, ts, alive, there)) = half {
                let text = format!("{txn} of {ts} is alive on {alive:?} of {there:?} in region {region}");
                return self.fail(NAME, text);
            }
        }
    }

    /// Whether a partition shows what a transaction has committed there at a time.
    fn is_alive(&self, region: usize, part: &Part, txn: TxnId, ts: Timestamp) -> bool {
        let id = self.partition(region, part.ordinal);
        // Where partitions move not every node holds each of them, and one that was removed may have kept what it held.
        let primary = self.regions[region].catalog.partitions[&id].primary;
        let hosted = self.nodes[self.node_of(region, primary.node)].hosted(id);
        let alive =
            |hosted: &Hosted| part.keys.iter().any(|key| hosted.state.wrote(key, txn, ts, &hosted.log.summary.lineage));
        hosted.is_some_and(alive)
    }
}
