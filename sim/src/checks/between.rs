//! Checks between regions, wired to what happens. The properties (`protocol.md` sections 4 to 6):
//!
//! - `resolved_mark` nothing commits at or below a published mark after it
//! - `cut_is_consistent` rows at a served cut are the history's, never change, and a cut that was served is never
//!   lost; nor is one at which a region was promoted, as far as it is in the history that the region follows later
//! - `promotion_rows` right after a promotion's `EpochStart` the rows are the history's at its cut, unless a loss that goes on
//!   from the end of one log was announced for the partition before it was carried out there
//! - `set_aside_complete` at the end an acknowledged transaction is visible, or set aside on every partition it touched
//! - `sync_link` a promotion at the cut loses nothing that was acknowledged while SYNC
//! - `fence` no data record above a reported final position; a hand-over loses nothing acknowledged
//! - `single_writer` at most one side may write, promotions by order aside

use std::collections::{BTreeMap, BTreeSet};

use catalog::command::Loss;
use types::{Body, Fence, Lsn, Ordinal, PartitionId, Promotion, Record, Reign, StartKind, Timestamp, TxnId};

use super::definitions;
use super::history::{Commit, Rows};
use crate::disk::{Aside, Name};
use crate::options::Scale;
use crate::say;
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

    /// A decision counts for definitions: the primary that the catalog names has committed it, or a primary has told somebody
    /// of it, whoever the catalog has named meanwhile.
    pub(crate) fn count_definitions(&mut self, id: PartitionId, name: Name, txn: TxnId, ts: Timestamp) {
        let Some(held) = self.clients.txns.get(&txn) else { return };
        let Some(version) = held.change.map(|change| change.version).or(held.planned) else { return };
        let term = self.checks.history.term(id.ordinal, name.0).cloned().unwrap_or_default();
        let judged = self.checks.definitions.commit(held.change.is_some(), name, &term, txn, (ts, version));
        self.judge(definitions::NAME, judged);
    }

    fn leads_by_the_catalog(&self, index: usize, id: PartitionId) -> bool {
        let reign = self.nodes[index].replica(id).and_then(|replica| replica.reign_led());
        reign == Some(self.regions[self.nodes[index].region].catalog.partitions[&id].reign)
    }

    /// A reign of the meta partition has committed its start, and with it all changes of definitions that its log holds. Some
    /// were met by no commit point that counts: one that had been replaced in the catalog still committed them, whoever is named
    /// next had heard so, and nobody was told in between. After a loss the log may be that of such a primary, and have what nobody was told of.
    fn find_definitions(&mut self, index: usize, id: PartitionId, start: Lsn) {
        if !self.leads_by_the_catalog(index, id) {
            return;
        }
        let region = self.nodes[index].region;
        let announced = |((of, ordinal, _), loss): (&(usize, Ordinal, Reign), &Loss)| {
            (*of, *ordinal) == (region, id.ordinal) && loss.gives_up()
        };
        let lossy = self.checks.announced.iter().any(announced);
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let (now, lineage) = (self.term(region), &hosted.log.summary.lineage);
        let mut judged = Ok(());
        for lsn in (1..start.0).map(Lsn) {
            let record = lineage.epoch_at(lsn).and_then(|epoch| self.checks.names.record(id.ordinal, epoch, lsn));
            let Some(Record { epoch, body: Body::Commit { txn, ts, .. }, .. }) = record else { continue };
            let Some(change) = self.clients.txns.get(&txn).and_then(|held| held.change) else { continue };
            let term = self.checks.history.term(id.ordinal, epoch).cloned().unwrap_or_default();
            let (name, made) = ((epoch, lsn), (ts, change.version));
            if lossy {
                self.checks.definitions.find(&now, name, &term, txn, made);
            } else {
                judged = judged.and(self.checks.definitions.commit(true, name, &term, txn, made));
            }
        }
        self.judge(definitions::NAME, judged);
    }

    /// A writable primary mints a record.
    pub(crate) fn check_minted(&mut self, index: usize, id: PartitionId, record: &Record) {
        if matches!(record.body, Body::EpochStart { .. }) {
            let term =
                self.nodes[index].replica(id).map(|replica| replica.status().mark.promotions).unwrap_or_default();
            self.checks.history.start(id.ordinal, record.epoch, term);
            return;
        }
        let ts = match record.body {
            Body::Commit { ts, .. } | Body::Outcome { decision: Some(ts), .. } => Some(ts),
            _ => None,
        };
        let term = self.checks.history.term(id.ordinal, record.epoch).cloned().unwrap_or_default();
        let resolved = self.checks.between.published.get(&(id.ordinal, term)).copied();
        let held = &self.regions[self.nodes[index].region].catalog;
        // One that was replaced may write what will never be committed.
        let current =
            self.nodes[index].replica(id).and_then(|replica| replica.reign_led()) == Some(held.partitions[&id].reign);
        if let (Some(ts), Some(resolved)) = (ts, resolved)
            && ts <= resolved
            && current
        {
            let text = format!("{} {id} commits at {ts}, resolved up to {resolved}", self.label(index));
            self.fail("resolved_mark", text);
        }
        let fenced = &self.regions[self.nodes[index].region].catalog.databases[&id.database].fenced;
        let sealed = matches!(fenced.fence, Fence::Sealed(_)) && current;
        let end = fenced.finals.as_ref().and_then(|finals| finals.positions.get(&id.ordinal)).copied();
        if let Some(end) = end.filter(|end| sealed && record.lsn > *end && record.body.is_data()) {
            let text = format!("{} {id} writes {} above the final position {end}", self.label(index), record.lsn);
            self.fail("fence", text);
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

    /// A promotion's `EpochStart` is in a state: its rows are the history's at the cut.
    pub(crate) fn check_promotion_rows(&mut self, index: usize, id: PartitionId, record: &Record) {
        let Body::EpochStart { kind: StartKind::Promotion { id: promotion, .. }, .. } = record.body else { return };
        if self.checks.recoveries.short.contains(&(id.ordinal, promotion)) {
            return;
        }
        let Some(list) = self.checks.history.lists.get(&promotion).cloned() else { return };
        // The catalog's, whatever the record says: there is one for the database.
        let Some((Promotion { cut, .. }, before)) = list.split_last() else { return };
        let mut want = self.checks.history.rows(before, *cut);
        want.retain(|(ordinal, _), _| *ordinal == id.ordinal);
        let rows = self.rows_of(index, id, Timestamp::MAX);
        if rows != want {
            let text =
                format!("{} {id} has {rows:x?} after a promotion at {cut}, history {want:x?}", self.label(index));
            self.fail("promotion_rows", text);
        }
    }

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
        // While an order to follow is being carried out the cut may fall: nothing is served.
        if self.regions[region].catalog.sinks[&link].forced {
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
                return self.fail("cut_is_consistent", text);
            }
            if cut <= *served {
                return;
            }
        }
        let want = self.checks.history.rows(&term, cut);
        // Where a partition went on from the end of its own log the history has losses in it that nobody can tell.
        if rows != want && self.checks.recoveries.uncut.is_empty() {
            let text = format!("region {region} serves {rows:x?} at {cut}, history {want:x?}");
            return self.fail("cut_is_consistent", text);
        }
        say!(self, "region {region} serves {cut}");
        self.checks.between.served.insert(region, (cut, term, rows));
    }

    /// Up to where a region has served.
    pub fn served(&self, region: usize) -> Timestamp {
        self.checks.between.served.get(&region).map_or(Timestamp::ZERO, |(served, ..)| *served)
    }

    /// A sink is promoted at `cut`; `full` is all that it could have had.
    pub(crate) fn check_promotion(
        &mut self,
        region: usize,
        term: &[Promotion],
        cut: Timestamp,
        full: bool,
        token: bool,
    ) {
        let served = self.served(region);
        if full && cut < served {
            self.fail("cut_is_consistent", format!("region {region} is promoted at {cut}, it served {served}"));
        }
        // Where losses are announced the order that the region carries out is not the only one that takes something
        // away.
        let mode = self.options.mode;
        let kept = self.checks.between.promoted.insert(region, cut).unwrap_or_default();
        if full && cut < kept && mode.sync_replication && mode.sync_durability {
            self.fail("cut_is_consistent", format!("region {region} is promoted at {cut}, it was at {kept} before"));
        }
        let mut lost = vec![];
        for (txn, held) in &self.clients.txns {
            let (Some(ts), Some((epoch, _))) = (held.ts, held.decided) else { continue };
            let of = self.checks.history.term(held.parts[0].ordinal, epoch);
            if !held.acked || ts <= cut || of.is_none_or(|of| of != term) {
                continue;
            }
            if full && held.synced_to == Some(region) {
                lost.push(("sync_link", *txn, ts));
            }
            if token {
                lost.push(("fence", *txn, ts));
            }
        }
        if let Some((check, txn, ts)) = lost.first() {
            self.fail(check, format!("{txn} was acknowledged at {ts}, region {region} is promoted at {cut}"));
        }
    }

    /// By a person's order the sink has left what was acknowledged above `cut`: SYNC protects it no longer. What is
    /// at or below it is in both histories: it stays protected, however often the sink is promoted and follows anew.
    pub(crate) fn release_sync(&mut self, region: usize, cut: Timestamp) {
        self.checks.between.promoted.entry(region).and_modify(|kept| *kept = (*kept).min(cut));
        for held in self.clients.txns.values_mut() {
            if held.synced_to == Some(region) && held.ts.is_some_and(|ts| ts > cut) {
                held.synced_to = None;
            }
        }
    }

    /// Two regions that may both write are a fork that nobody ordered.
    pub(crate) fn check_single_writer(&mut self) {
        let writers: Vec<usize> = (0..self.regions.len())
            .filter(|region| {
                let held = &self.regions[*region];
                let database = &held.catalog.databases[&held.database];
                !database.is_sink() && !matches!(database.fenced.fence, Fence::Sealed(_))
            })
            .collect();
        for (at, one) in writers.iter().enumerate() {
            for other in &writers[..at] {
                if self.checks.history.only_handed_over(&self.term(*one), &self.term(*other)) {
                    return self.fail("single_writer", format!("regions {other} and {one} may both write"));
                }
            }
        }
    }

    /// Everything is equal: it must be the history's, and what is missing must have been set aside.
    pub(crate) fn check_end(&mut self) {
        if self.options.scale == Scale::Region {
            return;
        }
        let term = self.term(0);
        let want = self.checks.history.rows(&term, Timestamp::MAX);
        for region in 0..self.regions.len() {
            let mut rows = Rows::new();
            for ordinal in self.ordinals() {
                let first = self.regions[region].first_node;
                rows.extend(self.rows_of(first, self.partition(region, ordinal), Timestamp::MAX));
            }
            if rows != want {
                let text = format!("region {region} ends with {rows:x?}, history {want:x?}");
                return self.fail("cut_is_consistent", text);
            }
        }
        let visible: BTreeSet<TxnId> = self.checks.history.visible(&term, Timestamp::MAX).into_keys().collect();
        let aside: BTreeSet<Aside> = self
            .nodes
            .iter()
            .flat_map(|node| node.disks.values())
            .flat_map(|disk| disk.aside.iter().copied())
            .collect();
        // What no disk held when all machines lost power, nobody can set aside.
        let lost = &self.checks.recoveries.lost;
        let missing = self.clients.txns.iter().filter(|(txn, _)| !lost.contains(txn));
        let missing = missing.filter(|(txn, held)| held.acked && !visible.contains(txn));
        let lost = missing
            .flat_map(|(txn, held)| held.parts.iter().map(move |part| Aside { txn: *txn, ordinal: part.ordinal }))
            .find(|part| !aside.contains(part));
        if let Some(Aside { txn, ordinal }) = lost {
            let text = format!("{txn} was acknowledged, is not visible, and is not set aside on partition {ordinal}");
            self.fail("set_aside_complete", text);
        }
    }

    /// A rewind of a sink must not undo what it has served.
    pub(crate) fn check_rewind(&mut self, index: usize, id: PartitionId, to: Lsn) {
        let region = self.nodes[index].region;
        let served = self.served(region);
        if self.options.scale == Scale::Region || served == Timestamp::ZERO {
            return;
        }
        // Only the primary's log is what was served; a secondary that was away may have any history.
        let serves = |hosted: &&crate::node::Hosted| hosted.replica.reign_led().is_some();
        let Some(hosted) = self.nodes[index].hosted(id).filter(serves) else { return };
        let undone = hosted.log.records.iter().filter(|record| record.lsn > to).find(|record| match record.body {
            Body::Commit { ts, .. } | Body::Outcome { decision: Some(ts), .. } => {
                ts <= served && !hosted.log.summary.lineage.is_dead(ts, record.lsn)
            }
            _ => false,
        });
        if let Some(record) = undone {
            let text = format!("{} {id} undoes {} inside its served cut {served}", self.label(index), record.lsn);
            self.fail("cut_is_consistent", text);
        }
    }
}
