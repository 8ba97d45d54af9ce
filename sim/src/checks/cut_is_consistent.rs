//! `cut_is_consistent`: rows at a served cut are the history's, never change, and a cut that was served is never lost; nor is one
//! at which a region was promoted, as far as it is in the history that the region follows later.

use types::{Body, Lsn, PartitionId, Promotion, Timestamp};

use super::history::Rows;
use crate::options::Scale;
use crate::say;
use crate::world::World;

const NAME: &str = "cut_is_consistent";

impl World {
    /// The cut of a sink's region: the smallest of its primaries', if all of them lead and have applied it.
    pub fn cut_of(&self, region: usize) -> Option<Timestamp> {
        let term = self.term(region);
        let mut cut = Timestamp::MAX;
        for ordinal in self.ordinals() {
            let id = self.partition(region, ordinal);
            let index = self.leader_of(region, ordinal)?;
            let hosted = self.nodes[index].hosted(id)?;
            let status = hosted.replica.status();
            let leading = status.leading?;
            // A cut counts in the history that the catalog knows; one that was reported in another is worth less.
            if status.mark.promotions != term {
                return None;
            }
            if hosted.replica.reign_led() != Some(self.regions[region].catalog.partitions[&id].reign) {
                return None;
            }
            cut = cut.min(leading.cut);
        }
        Some(cut)
    }

    /// A sink serves reads at its cut.
    pub(crate) fn serve(&mut self, region: usize) {
        let Some((link, _)) = self.followed(region) else { return };
        // While an order to follow is being carried out the cut may fall: nothing is served. And a log that went on without what
        // lies below the cut of a promotion carries that out as if it had never had more: no sink can tell.
        if self.regions[region].catalog.sinks[&link].forced || !self.checks.recoveries.short.is_empty() {
            return;
        }
        let Some(cut) = self.cut_of(region) else { return };
        let mut rows = Rows::new();
        let before = self.checks.between.served.get(&region).cloned();
        let view = before.as_ref().map_or(cut, |(served, ..)| cut.max(*served));
        let mut again = Rows::new();
        for ordinal in self.ordinals() {
            let id = self.partition(region, ordinal);
            let Some(index) = self.leader_of(region, ordinal) else { return };
            let Some(hosted) = self.nodes[index].hosted(id) else { return };
            let now = self.clock(index);
            let leases = &self.nodes[index].process.as_ref().expect("it hosts").leases;
            let settled = hosted.state.applied >= hosted.replica.cursors().committed;
            if !settled || !hosted.replica.may_read(now, leases) {
                return;
            }
            rows.extend(self.rows_of(index, id, cut));
            again.extend(self.rows_of(index, id, view));
        }
        let term = self.term(region);
        if let Some((served, of, seen)) = &before {
            let mut same = Rows::new();
            for ordinal in self.ordinals() {
                let index = self.leader_of(region, ordinal).expect("it was there above");
                same.extend(self.rows_of(index, self.partition(region, ordinal), *served));
            }
            if same != *seen {
                let text = format!("region {region} served {seen:x?} at {served} in {of:?}, now {same:x?}");
                return self.fail(NAME, text);
            }
            if cut <= *served {
                return;
            }
        }
        let want = self.checks.history.rows(&term, cut);
        // Where a partition went on from the end of its own log the history has losses in it that nobody can tell.
        if rows != want && !self.checks.recoveries.uncut {
            let text = format!("region {region} serves {rows:x?} at {cut}, history {want:x?}");
            return self.fail(NAME, text);
        }
        say!(self, "region {region} serves {cut}");
        self.checks.between.served.insert(region, (cut, term, rows));
    }

    /// Up to where a region has served.
    pub fn served(&self, region: usize) -> Timestamp {
        self.checks.between.served.get(&region).map_or(Timestamp::ZERO, |(served, ..)| *served)
    }

    /// A sink is promoted at `cut`, with all that it could have had.
    pub(crate) fn check_promoted_cut(&mut self, region: usize, cut: Timestamp) {
        let served = self.served(region);
        if cut < served {
            self.fail(NAME, format!("region {region} is promoted at {cut}, it served {served}"));
        }
        // Where losses are announced the order that the region carries out is not the only one that takes something
        // away.
        let mode = self.options.mode;
        let kept = self.checks.between.promoted.get(&region).copied().unwrap_or_default();
        if cut < kept && mode.sync_replication && mode.sync_durability && !self.options.alters() {
            self.fail(NAME, format!("region {region} is promoted at {cut}, it was at {kept} before"));
        }
    }

    /// Everything is equal: it must be the history's.
    pub(crate) fn check_rows_at_the_end(&mut self, term: &[Promotion]) {
        if self.checks.recoveries.uncut {
            return;
        }
        let want = self.checks.history.rows(term, Timestamp::MAX);
        for region in 0..self.regions.len() {
            let mut rows = Rows::new();
            for ordinal in self.ordinals() {
                let first = self.regions[region].first_node;
                rows.extend(self.rows_of(first, self.partition(region, ordinal), Timestamp::MAX));
            }
            if rows != want {
                let text = format!("region {region} ends with {rows:x?}, history {want:x?}");
                return self.fail(NAME, text);
            }
        }
    }

    /// A rewind of a sink must not undo what it has served.
    pub(crate) fn check_rewind(&mut self, index: usize, id: PartitionId, to: Lsn) {
        let region = self.nodes[index].region;
        let served = self.served(region);
        if self.options.scale == Scale::Region || served == Timestamp::ZERO || !self.checks.recoveries.short.is_empty()
        {
            return;
        }
        // Only the primary's log is what was served. A secondary that was away may have any history, and so may a primary that
        // has been replaced, and does not know.
        let reign = self.regions[region].catalog.partitions[&id].reign;
        let may_read = self.may_read(index, id);
        let serves =
            |hosted: &&crate::node::Hosted| hosted.replica.reign_led().is_some_and(|led| led == reign || may_read);
        let Some(hosted) = self.nodes[index].hosted(id).filter(serves) else { return };
        let undone = hosted.log.records.iter().filter(|record| record.lsn > to).find(|record| match record.body {
            Body::Commit { ts, .. } | Body::Outcome { decision: Some(ts), .. } => {
                ts <= served && !hosted.log.summary.lineage.is_dead(ts, record.lsn)
            }
            _ => false,
        });
        if let Some(record) = undone {
            let text = format!("{} {id} undoes {} inside its served cut {served}", self.label(index), record.lsn);
            self.fail(NAME, text);
        }
    }
}
