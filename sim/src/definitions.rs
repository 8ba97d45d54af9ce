//! Definitions of tables, as the aggregators of a region know and change them: two in each, so that one of them may lag.
//!
//! - Rows and reads are planned with the version that an aggregator knows, and name it in every step.
//! - A change is a transaction that locks the counter in the meta partition, looks whether it is what was read, raises it,
//!   requires the new version of every primary, the meta partition's first, and commits.
//! - Whoever is refused for its version reads the counter, asks the meta partition's primary what is required, and tells the
//!   one that has refused. A version that no definitions have is made one by a change of nothing.
//!
//! What the counter holds is the name of the change that raised it: rows of this world are names of transactions.

use std::collections::BTreeMap;

use bytes::Bytes;
use replication::{Answer, Refusal, TxnRequest};
use types::{Ordinal, PartitionId, PromotionId, SchemaVersion, Timestamp, TxnId};

use crate::checks::no_fork::Deed;
use crate::clients::{Act, Stage, Want};
use crate::disk::Name;
use crate::options::MILLI;
use crate::say;
use crate::world::{Event, World};

/// The counter's row in the meta partition.
pub const COUNTER: &[u8] = &[0xfe];
/// What a database has in which nothing was ever defined.
const FIRST: SchemaVersion = SchemaVersion(1);
/// Aggregators of a region.
const AGGREGATORS: u64 = 2;
/// Milliseconds after which an answer is not waited for any more.
const PATIENCE: u64 = 200;

/// An aggregator, by region and number.
pub type Aggregator = (usize, u64);

/// What an aggregator knows.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    version: Option<SchemaVersion>,
    /// The highest version that a primary was met with.
    required: SchemaVersion,
}

/// A change of definitions that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// What the counter must be; `None`: whatever is below `than`, for a change of nothing.
    read: Option<SchemaVersion>,
    than: SchemaVersion,
    /// What it becomes.
    pub version: SchemaVersion,
    /// Primaries that have not said yet that they require it.
    asked: u32,
    /// The last promotion of the history that it is made in, as the meta partition's primary has said.
    history: PromotionId,
}

/// Something that an aggregator wants to know, or to tell.
#[derive(Clone, Copy, Debug)]
struct Errand {
    by: Aggregator,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Reads the counter for itself.
    Fresh,
    /// Reads it for a primary that has refused what was planned with a version,
    TellCounter(Ordinal, SchemaVersion),
    /// asks the meta partition's primary what is required in the history in which the counter was read,
    TellMeta(Ordinal, SchemaVersion, PromotionId),
    /// and tells the primary.
    TellPrimary(Ordinal, SchemaVersion, PromotionId),
}

/// All aggregators, and what they are doing.
#[derive(Debug, Default)]
pub struct Definitions {
    known: BTreeMap<Aggregator, Known>,
    errands: BTreeMap<u64, Errand>,
    last: u64,
    /// The version that each change has made.
    pub versions: BTreeMap<TxnId, SchemaVersion>,
}

impl World {
    /// An aggregator of a region, and what it plans with; `None` where it does not know, and asks.
    pub(crate) fn planner(&mut self, region: usize) -> Option<(Aggregator, Option<SchemaVersion>)> {
        if !self.options.definitions {
            return Some(((region, 0), None));
        }
        let by = (region, self.between(0, AGGREGATORS - 1));
        let version = self.definitions.known.entry(by).or_default().version;
        if version.is_none() {
            self.begin_errand(by, Kind::Fresh);
        }
        version.map(|version| (by, Some(version)))
    }

    fn begin_errand(&mut self, by: Aggregator, kind: Kind) {
        let same = |errand: &Errand| match (errand.kind, kind) {
            (Kind::Fresh, Kind::Fresh) => true,
            (Kind::Fresh, _) | (_, Kind::Fresh) => false,
            (
                Kind::TellCounter(of, _) | Kind::TellMeta(of, ..) | Kind::TellPrimary(of, ..),
                Kind::TellCounter(other, _) | Kind::TellMeta(other, ..) | Kind::TellPrimary(other, ..),
            ) => of == other,
        };
        if self.definitions.errands.values().any(|errand| errand.by == by && same(errand)) {
            return;
        }
        self.definitions.last += 1;
        let number = self.definitions.last;
        self.definitions.errands.insert(number, Errand { by, kind });
        self.after(PATIENCE * MILLI, Event::Client(Act::ErrandOver(number)));
        let settle = TxnRequest::Settle { view: Timestamp::MAX, schema: None };
        self.ask_for(number, by.0, Ordinal::META, settle);
    }

    fn ask_for(&mut self, number: u64, region: usize, ordinal: Ordinal, request: TxnRequest) {
        let id = self.partition(region, ordinal);
        let node = self.primary_for_client(region, id);
        self.request(node, id, Want::Errand(number), request);
    }

    /// An errand has taken too long.
    pub(crate) fn end_errand(&mut self, number: u64) {
        self.definitions.errands.remove(&number);
    }

    pub(crate) fn on_errand(&mut self, number: u64, index: usize, id: PartitionId, answer: &Answer) {
        let Some(Errand { by, kind }) = self.definitions.errands.get(&number).copied() else { return };
        let heard = match answer {
            Answer::Settled => self.counter(index, id),
            Answer::Required { version, .. } => Some(*version),
            _ => None,
        };
        // Only under its leases a primary's word counts.
        let Some(version) = heard.filter(|_| self.may_read(index, id)) else { return self.end_errand(number) };
        if *answer == Answer::Settled {
            self.check_counter(index, id);
        }
        match kind {
            Kind::Fresh => {
                self.end_errand(number);
                self.learn_version(by, version);
            }
            Kind::TellCounter(ordinal, planned) => {
                let Some(history) = self.history_served(index, id) else { return self.end_errand(number) };
                self.go_on_errand(number, by, Kind::TellMeta(ordinal, planned, history));
                let request = TxnRequest::Require { version, history: Some(history) };
                self.ask_for(number, by.0, Ordinal::META, request);
            }
            Kind::TellMeta(ordinal, planned, history) => {
                self.go_on_errand(number, by, Kind::TellPrimary(ordinal, planned, history));
                let request = TxnRequest::Require { version, history: Some(history) };
                self.ask_for(number, by.0, ordinal, request);
            }
            Kind::TellPrimary(_, planned, _) => {
                self.end_errand(number);
                if version != planned {
                    self.met(by, version);
                }
            }
        }
    }

    fn go_on_errand(&mut self, number: u64, by: Aggregator, kind: Kind) {
        self.definitions.errands.insert(number, Errand { by, kind });
    }

    /// The last promotion of the history that a primary serves. A real aggregator asks before it reads the counter, and the
    /// requirement fails if it is another one by then: so the counter was of it.
    fn history_served(&self, index: usize, id: PartitionId) -> Option<PromotionId> {
        let promotions = self.nodes[index].replica(id)?.status().mark.promotions;
        Some(promotions.last().map_or(PromotionId(0), |promotion| promotion.id))
    }

    /// The counter was read: it is the version of what is defined, if no primary was met with a newer one.
    fn learn_version(&mut self, by: Aggregator, version: SchemaVersion) {
        let known = self.definitions.known.entry(by).or_default();
        if version < known.required {
            let than = known.required;
            return self.begin_change(by, None, than);
        }
        known.version = Some(version);
        say!(self, "aggregator {by:?} knows definitions {version}");
    }

    /// A primary requires another version: what is known is old.
    fn met(&mut self, by: Aggregator, version: SchemaVersion) {
        let known = self.definitions.known.entry(by).or_default();
        known.required = known.required.max(version);
        known.version = None;
    }

    /// A step was refused because of the definitions that it was planned with.
    pub(crate) fn refused_for_schema(&mut self, by: Aggregator, id: PartitionId, planned: Option<SchemaVersion>) {
        if let Some(planned) = planned {
            self.begin_errand(by, Kind::TellCounter(id.ordinal, planned));
        }
    }

    /// What the counter holds in a primary's state.
    pub(crate) fn counter(&self, index: usize, id: PartitionId) -> Option<SchemaVersion> {
        self.nodes[index].hosted(id)?;
        Some(self.raised(index, id).map_or(FIRST, |(_, txn, _)| self.definitions.versions[&txn]))
    }

    /// Who has raised it last, by which record, and when.
    fn raised(&self, index: usize, id: PartitionId) -> Option<(Name, TxnId, Timestamp)> {
        let hosted = self.nodes[index].hosted(id)?;
        let lineage = &hosted.log.summary.lineage;
        let seen = hosted.state.latest(COUNTER, lineage)?;
        let txn = TxnId(u128::from_be_bytes(seen.value?[..].try_into().expect("a transaction id")));
        Some(((lineage.epoch_at(seen.lsn)?, seen.lsn), txn, seen.ts))
    }

    /// A writable primary has shown the counter, and with it the change that has raised it.
    fn check_counter(&mut self, index: usize, id: PartitionId) {
        let writes = self.nodes[index].replica(id).is_some_and(|replica| replica.mints().is_some());
        if let Some((name, txn, ts)) = self.raised(index, id).filter(|_| writes) {
            self.check_fork(index, id, name, Deed::Shows);
            self.count_definitions(id, name, txn, ts);
        }
    }

    // ---- changes

    /// Now and then somebody changes definitions.
    pub(crate) fn change_definitions(&mut self, region: usize) {
        if let Some((by, Some(read))) = self.planner(region) {
            self.begin_change(by, Some(read), read);
        }
    }

    fn begin_change(&mut self, by: Aggregator, read: Option<SchemaVersion>, than: SchemaVersion) {
        let version = SchemaVersion(((self.now / MILLI) << 10 | self.between(0, 1023)).max(than.0 + 1));
        let change = Change { read, than, version, asked: 0, history: PromotionId(0) };
        let id = self.partition(by.0, Ordinal::META);
        let node = self.primary_for_client(by.0, id);
        let part = self.part(id.ordinal, node, Bytes::from_static(COUNTER), 1);
        // The counter is read and written whatever the definitions are.
        let txn = self.enter_txn(by, None, vec![part], Some(change));
        self.definitions.versions.insert(txn, version);
        self.step_txn(txn);
    }

    /// A change has the counter's lock. Whether the counter is what it must be.
    pub(crate) fn may_raise(&mut self, index: usize, id: PartitionId, by: Aggregator, change: &Change) -> bool {
        let Some(found) = self.counter(index, id) else { return false };
        match change.read {
            Some(read) if read != found => {
                self.met(by, found);
                false
            }
            Some(_) => true,
            None => found < change.than,
        }
    }

    /// The counter is raised, and the new version is required: of the meta partition's primary, then of all others.
    pub(crate) fn require_all(&mut self, txn: TxnId, region: usize, mut change: Change, answered: bool) {
        let others: Vec<Ordinal> = self.ordinals().filter(|ordinal| *ordinal != Ordinal::META).collect();
        let wanted = match (answered, change.asked) {
            (false, _) => vec![Ordinal::META],
            (true, 0) => others,
            (true, _) => vec![],
        };
        change.asked = if answered { (change.asked + wanted.len() as u32).max(1) } else { 0 };
        if let Some(held) = self.clients.txns.get_mut(&txn) {
            held.change = Some(change);
        }
        for ordinal in wanted {
            let id = self.partition(region, ordinal);
            let node = self.primary_for_client(region, id);
            let history = answered.then_some(change.history);
            let request = TxnRequest::Require { version: change.version, history };
            self.request(node, id, Want::Required(txn), request);
        }
    }

    /// A primary says what it requires now.
    pub(crate) fn on_required(&mut self, index: usize, id: PartitionId, txn: TxnId, answer: &Answer) {
        let Some(held) = self.clients.txns.get(&txn).filter(|held| held.stage == Stage::Requiring) else { return };
        let (by, Some(mut change)) = (held.by, held.change) else { return };
        match answer {
            Answer::Required { version, history } if *version == change.version && self.may_read(index, id) => {
                if id.ordinal == Ordinal::META {
                    change.history = *history;
                    return self.require_all(txn, by.0, change, true);
                }
                change.asked -= 1;
                let held = self.clients.txns.get_mut(&txn).expect("it was there above");
                held.change = Some(change);
                if change.asked == 0 {
                    held.stage = Stage::Committing;
                    self.after(MILLI, Event::Client(Act::Step(txn)));
                }
            }
            Answer::Required { version, .. } => {
                let newer = *version;
                self.met(by, newer);
                self.give_up(txn);
            }
            _ => self.give_up(txn),
        }
    }

    /// A change has ended, somehow: its aggregator reads the counter again.
    pub(crate) fn forget_definitions(&mut self, by: Aggregator) {
        self.definitions.known.entry(by).or_default().version = None;
    }
}

/// Whether an answer refuses a step for the definitions that it was planned with.
pub(crate) fn is_refused(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(Refusal::Schema(_)))
}
