//! `protocol.md` section 3: what was acknowledged, or shown to a reader, is in the log of every reign that starts later,
//! and what was shipped as safe, too; unless a loss was announced in between.

use std::collections::BTreeMap;

use bytes::Bytes;
use catalog::command::Loss;
use types::{Body, Epoch, Lineage, LogEnd, Lsn, PartitionId, Reign, StartKind, Timestamp, TxnId};

use super::Checks;
use crate::disk::Name;
use crate::say;
use crate::world::World;

/// As it is reported.
pub const NAME: &str = "acked_write_survives";

/// Something that a client or reader has learnt.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Whose.
    pub txn: TxnId,
    /// When it was committed.
    pub ts: Timestamp,
    /// Which rows.
    pub keys: Vec<Bytes>,
}

/// The log of the last reign that started, and what was shown.
#[derive(Debug, Default)]
pub struct Head {
    lineage: Lineage,
    end: Lsn,
    /// Number of the reign's epoch.
    pub epoch: u64,
    /// Which reign.
    pub reign: Reign,
    /// Epochs up to this number are of a life of the database before it became a sink.
    pub life: u64,
    /// What was shown.
    pub shown: BTreeMap<Name, Shown>,
    /// What has left the region as safe.
    pub shipped: BTreeMap<Name, ()>,
    /// By epoch: the last record that a secondary has ever acknowledged.
    acknowledged: BTreeMap<Epoch, Lsn>,
    /// By epoch, in earlier lives, too: the last record that a secondary has ever had on disk.
    on_disk: BTreeMap<Epoch, Lsn>,
    given_up: Vec<GivenUp>,
    /// The last log that the catalog has let go on after a loss. Its reign may not have started yet.
    going_on: Option<GoingOn>,
    /// The same before it: that counts if nobody was told of the last one.
    went_on: Option<GoingOn>,
    /// The last one has ended, and nobody had told it, when the catalog's leader proposed the next.
    pub void: bool,
}

/// A log that goes on after a loss, by the ends of its epochs, and the number of the epoch that was granted.
pub type GoingOn = (Vec<LogEnd>, u64);

/// A recovery, which announced a loss.
#[derive(Debug)]
struct GivenUp {
    /// The log of the reign before, and what of it secondaries had acknowledged.
    before: Lineage,
    acknowledged: BTreeMap<Epoch, Lsn>,
    /// The log that went on.
    after: Lineage,
    end: Lsn,
}

impl Head {
    /// Nothing is expected of a region any more: its database has become a sink, or writable, and epochs up to `life`
    /// are over.
    pub fn forget(&mut self, life: u64) {
        let on_disk = std::mem::take(&mut self.on_disk);
        *self = Head { life: self.life.max(life), on_disk, ..Head::default() };
    }

    /// Somebody has learnt of a record. One of an earlier life is expected of nobody.
    pub fn show(&mut self, name: Name, shown: Shown) {
        if name.0.number > self.life && !self.has_given_up(name) {
            self.shown.insert(name, shown);
        }
        self.give_up();
    }

    /// A secondary acknowledges a record: it holds it.
    pub fn acknowledge(&mut self, (epoch, lsn): Name) {
        let last = self.acknowledged.entry(epoch).or_default();
        *last = lsn.max(*last);
    }

    /// A secondary says that it has a record on disk.
    pub fn sync(&mut self, (epoch, lsn): Name) {
        let last = self.on_disk.entry(epoch).or_default();
        *last = lsn.max(*last);
    }

    /// Whether a secondary has had a record on disk.
    pub fn was_on_disk(&self, (epoch, lsn): Name) -> bool {
        self.on_disk.get(&epoch).is_some_and(|last| lsn <= *last)
    }

    /// A reign goes on with this log, perhaps after a recovery.
    pub fn go_on(&mut self, lineage: Lineage, end: Lsn, recovered: bool) {
        let before = std::mem::replace(&mut self.lineage, lineage.clone());
        self.end = end;
        if recovered {
            // Nobody of the set lived, so nothing that was not acknowledged by then is committed later.
            let acknowledged = self.acknowledged.clone();
            self.given_up.push(GivenUp { before, acknowledged, after: lineage, end });
        }
    }

    /// Whether a recovery has lost, with an announcement, a record that was in the log of the reign before it, and was
    /// acknowledged by a secondary of that time.
    pub fn has_given_up(&self, (epoch, lsn): Name) -> bool {
        let holds = |log: &Lineage| log.epoch_at(lsn) == Some(epoch);
        self.given_up.iter().any(|of| {
            let held = of.acknowledged.get(&epoch).is_some_and(|last| lsn <= *last);
            held && holds(&of.before) && !(lsn <= of.end && holds(&of.after))
        })
    }

    /// The catalog lets a log go on after a loss.
    pub fn let_go_on(&mut self, log: GoingOn) {
        let before = if std::mem::take(&mut self.void) { self.went_on.take() } else { self.going_on.take() };
        (self.going_on, self.went_on) = (Some(log), before);
    }

    /// Whether a record is of the history, as the catalog has announced it: an older one that the log which was let go on lacks
    /// is given up, also if the reign never starts.
    pub fn is_of_history(&self, (epoch, lsn): Name) -> bool {
        let going_on = if self.void { &self.went_on } else { &self.going_on };
        going_on.as_ref().is_none_or(|(ends, granted)| {
            let held = ends.iter().find(|end| lsn <= end.lsn);
            epoch.number >= *granted || held.is_some_and(|end| end.epoch_number == epoch.number)
        })
    }

    /// What a cut has given up is in the log, and expected of no reader. Whose it is, if that was not known.
    fn give_up(&mut self) -> Vec<TxnId> {
        let cuts = self.lineage.entries().iter().filter_map(|entry| match entry.kind {
            StartKind::Promotion { cut, .. } => Some((entry.start_lsn, cut)),
            StartKind::Failover => None,
        });
        let mut given_up = vec![];
        for (start, cut) in cuts {
            let dead =
                |((_, lsn), shown): &(&Name, &mut Shown)| *lsn < start && shown.ts > cut && !shown.keys.is_empty();
            for (_, shown) in self.shown.iter_mut().filter(dead) {
                shown.keys.clear();
                given_up.push(shown.txn);
            }
        }
        given_up
    }

    /// Whether the reign's log held this record when it started.
    pub fn holds(&self, epoch: Epoch, lsn: Lsn) -> bool {
        lsn <= self.end && self.lineage.epoch_at(lsn) == Some(epoch)
    }
}

impl World {
    /// A reign of a writable partition starts: its `EpochStart` was just appended.
    pub(crate) fn check_start(&mut self, index: usize, id: PartitionId) {
        let region = self.nodes[index].region;
        let hosted = self.nodes[index].hosted(id).expect("it has just appended");
        let (lineage, end) = (hosted.log.summary.lineage.clone(), hosted.log.end());
        let epoch = lineage.last().expect("it was just pushed").epoch;
        let reign = hosted.replica.reign_led().expect("only who leads mints");
        let key = (region, id.ordinal);
        let after = self.checks.heads.entry(key).or_default().reign;
        let losses = self.checks.losses(region, id.ordinal, after, reign);
        let head = self.checks.heads.get_mut(&key).expect("it was just entered");
        if epoch.number < head.epoch {
            return;
        }
        let cut = matches!(lineage.last().map(|entry| entry.kind), Some(StartKind::Promotion { .. }));
        let recovered = !losses.is_empty() && losses.iter().all(|loss| *loss == Loss::Recovery);
        head.go_on(lineage, end, recovered);
        let dead = head.give_up();
        head.epoch = epoch.number;
        head.reign = reign;
        let missing = |names: Vec<Name>, head: &Head| -> Vec<Name> {
            names.into_iter().filter(|(epoch, lsn)| !head.holds(*epoch, *lsn)).collect()
        };
        let unshown = missing(head.shown.keys().copied().collect(), head);
        let unshipped = missing(head.shipped.keys().copied().collect(), head);
        let gone: Vec<TxnId> = unshown.iter().filter_map(|name| Some(head.shown.remove(name)?.txn)).collect();
        head.shipped.retain(|name, ()| !unshipped.contains(name));
        say!(self, "{} {id} starts reign {reign} at {end}, losses {losses:?}", self.label(index));
        if let Some((epoch, lsn)) = unshown.first().filter(|_| losses.is_empty()) {
            let text =
                format!("shown {epoch}@{lsn} is missing when {} starts reign {reign} of {id}", self.label(index));
            self.fail(NAME, text);
        }
        if let Some((epoch, lsn)) = unshipped.first().filter(|_| !losses.iter().any(|loss| loss.is_order())) {
            let text =
                format!("shipped {epoch}@{lsn} is missing when {} starts reign {reign} of {id}", self.label(index));
            self.fail(NAME, text);
        }
        if !losses.is_empty() {
            self.forget_definitions_lost(id, key);
        }
        if cut {
            self.checks.reads.forget(region, id.ordinal);
            self.forget_aborted(id, key);
            // Other partitions carry the cut out later, and may abort before what their first participant has given up.
            self.forget_lost(region, id, &dead);
        }
        self.checks.recoveries.lost.extend(gone.iter().copied());
        self.checks.lost += gone.len() as u64;
        if !losses.is_empty() {
            self.forget_lost(region, id, &gone);
        }
    }

    /// A log that went on from its own end after a promotion was ordered may lack outcomes below the cut. The promotion aborts
    /// what is prepared there, although others have committed it; that was announced, and no reader of this partition expects
    /// it any more.
    fn forget_aborted(&mut self, id: PartitionId, key: (usize, types::Ordinal)) {
        let Checks { heads, names, recoveries, .. } = &mut self.checks;
        let head = heads.get_mut(&key).expect("its reign starts");
        let last = head.lineage.last().map(|entry| entry.kind);
        let Some(StartKind::Promotion { id: promotion, .. }) = last else { return };
        if !recoveries.short.contains(&(id.ordinal, promotion)) {
            return;
        }
        let names_of = (1..head.end.0).map(Lsn).filter_map(|lsn| Some((head.lineage.epoch_at(lsn)?, lsn)));
        let mut prepared = BTreeMap::new();
        for record in names_of.filter_map(|(epoch, lsn)| names.record(id.ordinal, epoch, lsn)) {
            match record.body {
                Body::Prepare { txn, .. } => drop(prepared.insert(txn, (record.epoch, record.lsn))),
                Body::Outcome { txn, .. } => drop(prepared.remove(&txn)),
                _ => {}
            }
        }
        for name in prepared.values() {
            head.shown.entry(*name).and_modify(|shown| shown.keys.clear());
        }
    }

    /// Changes of definitions that a reign has lost have never been.
    fn forget_definitions_lost(&mut self, id: PartitionId, key: (usize, types::Ordinal)) {
        let Checks { heads, definitions, names, .. } = &mut self.checks;
        let head = &heads[&key];
        // A name of another partition, or of another region's history, is not this reign's to lose.
        let lost = |(epoch, lsn): Name| {
            let own = names.record(id.ordinal, epoch, lsn).is_some() && epoch.number > head.life;
            own && !head.holds(epoch, lsn)
        };
        if id.ordinal == types::Ordinal::META {
            definitions.forget(lost);
        }
        definitions.forget_planned(lost);
    }

    /// What was lost is not expected of readers any more; a transaction that lost a part is expected of nobody.
    fn forget_lost(&mut self, region: usize, id: PartitionId, gone: &[TxnId]) {
        for ((of, _), head) in &mut self.checks.heads {
            if *of == region {
                head.shown.values_mut().filter(|shown| gone.contains(&shown.txn)).for_each(|shown| shown.keys.clear());
            }
        }
        self.checks.reads.forget(region, id.ordinal);
    }
}
