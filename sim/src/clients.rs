//! Clients: transactions over one to three partitions through the real request API, and reads of the latest or at a view.
//!
//! A transaction locks and buffers partition by partition, then commits, or prepares everywhere, takes a timestamp,
//! decides at its first partition and finishes at the others. Its coordinator can die between any two steps; then its
//! locks are given back as a host does it when a session ends, and what is prepared is settled by inquiry. One that does not
//! wait any more for its commit takes it back.
//! An acknowledgement counts from the instant at which the primary sends it.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::Rng;
use replication::{Answer, Input, Ticket, Touch, TxnRequest};
use types::{
    Body, Epoch, Ordinal, PartitionId, Promotion, PromotionId, Reign, Revision, SchemaVersion, Timestamp, TxnId, Write,
};

use crate::checks::acked_write_survives::Shown;
use crate::checks::no_fork::Deed;
use crate::checks::{definitions, no_fork, one_acker_per_epoch, reads_are_fresh, views};
use crate::definitions::{Aggregator, Change, is_refused};
use crate::options::{MILLI, Planted};
use crate::say;
use crate::state::Seen;
use crate::world::{Event, Local, Packet, Place, World};

/// Rows of each partition.
const KEYS: u8 = 3;
/// Transactions of a region that are under way, at most.
const UNDER_WAY_MAX: usize = 20;

/// Something a client does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Begins a transaction or a read.
    Begin,
    /// Takes the next step of a transaction.
    Step(TxnId),
    /// Gives a transaction up, if it is still at this step.
    Timeout(TxnId, u64),
    /// The host notices that a coordinator died.
    Died(TxnId),
    /// A participant's question got this answer.
    Learnt(usize, PartitionId, TxnId, Ordinal, Option<Timestamp>),
    /// An aggregator gives up what it wanted to know.
    ErrandOver(u64),
    /// A transaction's decision was acknowledged by a SYNC sink, perhaps.
    Acknowledge(TxnId),
}

/// One partition's share of a transaction.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which partition.
    pub ordinal: Ordinal,
    /// Its rows.
    pub keys: Vec<Bytes>,
    /// Where it is spoken to.
    pub node: usize,
    epoch: Option<Epoch>,
    count: u32,
    /// Statements to go.
    pub(crate) statements: u32,
    prepared: Option<PromotionId>,
    finished: bool,
}

/// A transaction as its coordinator and the checks know it.
#[derive(Clone, Debug)]
pub struct Txn {
    /// In which region it was begun.
    pub region: usize,
    /// By which aggregator.
    pub by: Aggregator,
    /// With which definitions.
    pub planned: Option<SchemaVersion>,
    /// It changes them.
    pub change: Option<Change>,
    /// The first one decides.
    pub parts: Vec<Part>,
    pub(crate) stage: Stage,
    steps: u64,
    stamp: Revision,
    /// The commit timestamp that was asked for.
    pub ts: Option<Timestamp>,
    /// The client has its answer.
    pub acked: bool,
    /// A commit in one record was sent, and taken back: the client was told that it never commits.
    pub withdrawn: bool,
    commit_sent: bool,
    /// Where the decision stands: partition's epoch and LSN.
    pub decided: Option<(Epoch, types::Lsn)>,
    /// To which region the answer waited for the sink's cut.
    pub synced_to: Option<usize>,
    /// The record that prepared each partition.
    pub prepares: BTreeMap<Ordinal, (Epoch, types::Lsn)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Writing,
    /// The client thinks, in a scenario: it has sent nothing, and nobody gives it up.
    Thinking,
    Requiring,
    Committing,
    Preparing,
    Deciding,
    Finishing,
    Over,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    Step(TxnId, usize),
    Required(TxnId),
    Errand(u64),
    Nothing,
    Settled(u64),
    Withdrawn(TxnId),
    Inquiry(usize, PartitionId, TxnId, Ordinal),
}

/// A read of the latest, or at a view.
#[derive(Clone, Debug)]
struct Read {
    partition: PartitionId,
    /// The highest of all for the latest.
    view: Timestamp,
    by: Aggregator,
    planned: Option<SchemaVersion>,
    /// The region's history and the definitions in it when it began.
    newest: Option<(Vec<Promotion>, SchemaVersion)>,
    key: Bytes,
    reign: Option<Reign>,
    seen: Option<Option<Seen>>,
    looked: bool,
}

impl Clients {
    /// Whether a transaction of a region has written to a partition, and has still to write to another one.
    pub(crate) fn has_more_to_write(&self, region: usize) -> bool {
        let more = |held: &Txn| {
            let written = held.parts.iter().filter(|part| part.count > 0).count();
            held.stage == Stage::Writing && (1..held.parts.len()).contains(&written)
        };
        self.under_way.iter().map(|txn| &self.txns[txn]).any(|held| held.region == region && more(held))
    }

    /// Whether a transaction that began before this revision is not over yet.
    pub fn stamped_before(&self, region: usize, revision: Revision) -> bool {
        let held = |txn: &TxnId| &self.txns[txn];
        self.under_way.iter().any(|txn| held(txn).region == region && held(txn).stamp < revision)
    }
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    /// Every transaction ever begun.
    pub txns: BTreeMap<TxnId, Txn>,
    under_way: Vec<TxnId>,
    waiting: BTreeMap<u64, Want>,
    reads: BTreeMap<u64, Read>,
    tickets: u64,
    /// Nothing new is begun.
    pub stopped: bool,
    /// Clients work in this region alone.
    pub only: Option<usize>,
    /// Clients work on this partition alone.
    pub only_partition: Option<Ordinal>,
    /// Half of the reads are at a view.
    pub views: bool,
}

impl World {
    pub(crate) fn on_client(&mut self, act: Act) {
        match act {
            Act::Begin => self.begin(),
            Act::Step(txn) => self.step_txn(txn),
            Act::Timeout(txn, steps) => {
                let rests = |stage| matches!(stage, Stage::Over | Stage::Thinking);
                if self.clients.txns.get(&txn).is_some_and(|held| held.steps == steps && !rests(held.stage)) {
                    self.give_up(txn);
                }
            }
            Act::Died(txn) => self.roll_back(txn),
            Act::Learnt(index, id, txn, first, decision) => {
                self.request(index, id, Want::Nothing, TxnRequest::Finish { txn, first, decision });
            }
            Act::ErrandOver(number) => self.end_errand(number),
            Act::Acknowledge(txn) => self.acknowledge_synced(txn),
        }
    }

    fn begin(&mut self) {
        if self.clients.stopped {
            return;
        }
        let delay = self.pick(&[1, 3, 8]);
        self.after(delay * MILLI, Event::Client(Act::Begin));
        let mut leaders = self.leaders(None);
        leaders.retain(|(index, _)| self.clients.only.is_none_or(|only| only == self.nodes[*index].region));
        leaders.retain(|(_, id)| self.clients.only_partition.is_none_or(|only| only == id.ordinal));
        if leaders.is_empty() {
            return;
        }
        let (node, id) = self.pick(&leaders);
        if self.options.definitions && self.chance(15) {
            return self.change_definitions(self.nodes[node].region);
        }
        if self.chance(500) {
            self.begin_read(node, id);
        } else if self.clients.under_way.len() < UNDER_WAY_MAX * self.regions.len() {
            self.begin_txn(node, id);
        }
    }

    /// Who believes itself a writable primary, of one partition or of any. A node that was removed may never hear that it is
    /// none, and is asked only by those who have not heard of that.
    fn leaders(&self, of: Option<PartitionId>) -> Vec<(usize, PartitionId)> {
        let mut found = vec![];
        for (index, node) in self.nodes.iter().enumerate() {
            if self.healing && self.regions[node.region].catalog.nodes[&node.id].removed {
                continue;
            }
            for (id, hosted) in node.process.iter().flat_map(|process| &process.hosted) {
                if of.is_none_or(|of| of == *id) && hosted.replica.mints().is_some() {
                    found.push((index, *id));
                }
            }
        }
        found
    }

    /// The node that a client of a region takes for the primary: mostly one that believes so itself.
    pub(crate) fn primary_for_client(&mut self, region: usize, id: PartitionId) -> usize {
        let mut nodes: Vec<usize> = self.leaders(Some(id)).into_iter().map(|(index, _)| index).collect();
        nodes.retain(|index| self.nodes[*index].region == region);
        if nodes.is_empty() {
            let primary = self.regions[region].catalog.partitions[&id].primary.node;
            return self.node_of(region, primary);
        }
        self.pick(&nodes)
    }

    fn begin_txn(&mut self, node: usize, id: PartitionId) {
        let region = self.nodes[node].region;
        let Some((by, planned)) = self.planner(region) else { return };
        let mut ordinals = vec![id.ordinal];
        if self.chance(self.options.wide * 10) && self.clients.only_partition.is_none() {
            let others: Vec<Ordinal> = self.ordinals().filter(|ordinal| *ordinal != id.ordinal).collect();
            let more = self.between(1, 2) as usize;
            for _ in 0..more {
                let ordinal = self.pick(&others);
                if !ordinals.contains(&ordinal) {
                    ordinals.push(ordinal);
                }
            }
        }
        let mut parts = vec![];
        for ordinal in ordinals {
            let partition = PartitionId { database: id.database, ordinal };
            let node = if ordinal == id.ordinal { node } else { self.primary_for_client(region, partition) };
            let key = Bytes::copy_from_slice(&[self.between(0, u64::from(KEYS) - 1) as u8]);
            let statements = if self.chance(200) { 2 } else { 1 };
            parts.push(self.part(ordinal, node, key, statements));
        }
        let txn = self.enter_txn(by, planned, parts, None);
        self.step_txn(txn);
    }

    pub(crate) fn part(&self, ordinal: Ordinal, node: usize, key: Bytes, statements: u32) -> Part {
        let (epoch, count, prepared, finished) = (None, 0, None, false);
        Part { ordinal, keys: vec![key], node, epoch, count, statements, prepared, finished }
    }

    /// A transaction begins.
    pub(crate) fn enter_txn(
        &mut self,
        by: Aggregator,
        planned: Option<SchemaVersion>,
        parts: Vec<Part>,
        change: Option<Change>,
    ) -> TxnId {
        let region = by.0;
        let txn = TxnId(self.rng.random());
        let stamp = self.regions[region].catalog.revision;
        say!(
            self,
            "client begins {:x} on {:?}",
            txn.0 >> 96,
            parts.iter().map(|part| part.ordinal.0).collect::<Vec<_>>()
        );
        if let Some(change) = &change {
            say!(self, "it changes definitions to {}", change.version);
        }
        self.clients.txns.insert(
            txn,
            Txn {
                region,
                by,
                planned,
                change,
                parts,
                stage: Stage::Writing,
                steps: 0,
                stamp,
                ts: None,
                acked: false,
                withdrawn: false,
                commit_sent: false,
                decided: None,
                synced_to: None,
                prepares: BTreeMap::new(),
            },
        );
        self.clients.under_way.push(txn);
        txn
    }

    /// Sends a request to a partition at a node.
    pub(crate) fn request(&mut self, index: usize, partition: PartitionId, want: Want, request: TxnRequest) -> Ticket {
        self.clients.tickets += 1;
        let ticket = Ticket(self.clients.tickets);
        self.clients.waiting.insert(ticket.0, want);
        let delay = self.pick(&[100, 300, 1000, 3000]);
        let here = Place::Catalog(self.nodes[index].region);
        self.after(
            delay * 1000,
            Event::Arrive(here, Place::Node(index), Packet::Request { partition, ticket, request }),
        );
        ticket
    }

    // ---- the coordinator

    /// The next step of a transaction, whatever it is.
    pub(crate) fn step_txn(&mut self, txn: TxnId) {
        let Some(held) = self.clients.txns.get_mut(&txn) else { return };
        if matches!(held.stage, Stage::Over | Stage::Thinking) {
            return;
        }
        held.steps += 1;
        let steps = held.steps;
        let patience = self.pick(&[60, 100, 300]);
        self.after(patience * MILLI, Event::Client(Act::Timeout(txn, steps)));
        if self.chance(8) {
            say!(self, "coordinator of {:x} dies", txn.0 >> 96);
            return self.give_up(txn);
        }
        let held = self.clients.txns[&txn].clone();
        let database = self.regions[held.region].database;
        match held.stage {
            Stage::Writing => self.step_writing(txn, &held, database),
            Stage::Requiring => {
                let change = held.change.expect("only changes require");
                self.require_all(txn, held.region, change, false);
            }
            Stage::Committing => {
                let part = &held.parts[0];
                let touch = Touch { epoch: part.epoch, count: part.count, schema: held.planned };
                let id = PartitionId { database, ordinal: part.ordinal };
                self.request(part.node, id, Want::Step(txn, 0), TxnRequest::Commit { txn, touch });
                self.clients.txns.get_mut(&txn).expect("it was read above").commit_sent = true;
            }
            Stage::Preparing => {
                let first = held.parts[0].ordinal;
                for (at, part) in held.parts.iter().enumerate() {
                    let touch = Touch { epoch: part.epoch, count: part.count, schema: held.planned };
                    let id = PartitionId { database, ordinal: part.ordinal };
                    self.request(part.node, id, Want::Step(txn, at), TxnRequest::Prepare { txn, touch, first });
                }
            }
            Stage::Deciding => {
                // Taken after every participant has prepared.
                let ts = self.timestamps(held.region, 1);
                let decision = (!self.chance(50)).then_some(ts);
                let kept = self.clients.txns.get_mut(&txn).expect("it was read above");
                kept.ts = Some(ts);
                let part = &held.parts[0];
                let id = PartitionId { database, ordinal: part.ordinal };
                self.request(part.node, id, Want::Step(txn, 0), TxnRequest::Decide { txn, decision });
            }
            Stage::Thinking | Stage::Finishing | Stage::Over => {}
        }
    }

    fn step_writing(&mut self, txn: TxnId, held: &Txn, database: types::DatabaseId) {
        let next = held.parts.iter().position(|part| part.statements > 0);
        let Some(at) = next else {
            let kept = self.clients.txns.get_mut(&txn).expect("it was read above");
            kept.stage = match (held.parts.len(), held.change) {
                (_, Some(_)) => Stage::Requiring,
                (1, None) => Stage::Committing,
                (_, None) => Stage::Preparing,
            };
            return self.step_txn(txn);
        };
        let part = &held.parts[at];
        let touch = Touch { epoch: part.epoch, count: part.count, schema: held.planned };
        let id = PartitionId { database, ordinal: part.ordinal };
        let lock = TxnRequest::Lock { txn, touch, stamp: held.stamp, keys: part.keys.clone() };
        self.request(part.node, id, Want::Step(txn, at), lock);
    }

    /// The coordinator stops; its session's host gives back what it holds, later.
    pub(crate) fn give_up(&mut self, txn: TxnId) {
        let Some(held) = self.clients.txns.get_mut(&txn) else { return };
        held.stage = Stage::Over;
        let changer = held.change.map(|_| held.by);
        changer.into_iter().for_each(|by| self.forget_definitions(by));
        self.clients.under_way.retain(|other| *other != txn);
        let delay = self.pick(&[1, 20, 100]);
        self.after(delay * MILLI, Event::Client(Act::Died(txn)));
    }

    fn roll_back(&mut self, txn: TxnId) {
        let Some(held) = self.clients.txns.get(&txn).cloned() else { return };
        let database = self.regions[held.region].database;
        let tickets: Vec<(u64, usize)> = self
            .clients
            .waiting
            .iter()
            .filter_map(|(ticket, want)| match want {
                Want::Step(of, at) if *of == txn => Some((*ticket, *at)),
                _ => None,
            })
            .collect();
        for (ticket, at) in tickets {
            let part = &held.parts[at];
            let partition = PartitionId { database, ordinal: part.ordinal };
            let here = Place::Catalog(held.region);
            let packet = Packet::Cancel { partition, ticket: Ticket(ticket) };
            self.after(MILLI, Event::Arrive(here, Place::Node(part.node), packet));
        }
        for part in &held.parts {
            let id = PartitionId { database, ordinal: part.ordinal };
            match held.commit_sent && self.options.withdraws {
                true => self.request(part.node, id, Want::Withdrawn(txn), TxnRequest::Withdraw { txn }),
                false => self.request(part.node, id, Want::Nothing, TxnRequest::Rollback { txn }),
            };
        }
    }

    // ---- answers

    /// A replica answers: what it promises counts from now on.
    pub(crate) fn on_answer(&mut self, index: usize, id: PartitionId, ticket: Ticket, answer: Answer) {
        let Some(want) = self.clients.waiting.remove(&ticket.0) else { return };
        match want {
            Want::Nothing => {}
            Want::Errand(number) => self.on_errand(number, index, id, &answer),
            Want::Required(txn) => self.on_required(index, id, txn, &answer),
            Want::Settled(read) => self.on_settled(index, read, &answer),
            Want::Withdrawn(txn) => {
                say!(self, "{} {id} answers that {:x} is withdrawn: {answer:?}", self.label(index), txn.0 >> 96);
                let held = self.clients.txns.get_mut(&txn).filter(|_| answer == Answer::RolledBack);
                held.into_iter().for_each(|held| held.withdrawn = true);
            }
            Want::Inquiry(asker, partition, txn, first) => {
                if let Answer::Decided { decision } = answer {
                    if let Some(name) = self.name_in_log(index, id, txn, false) {
                        self.check_fork(index, id, name, Deed::Acknowledges);
                    }
                    self.after(MILLI, Event::Client(Act::Learnt(asker, partition, txn, first, decision)));
                }
            }
            Want::Step(txn, at) => {
                say!(self, "{} {id} answers {:x}: {answer:?}", self.label(index), txn.0 >> 96);
                self.on_txn_answer(index, id, txn, at, answer);
            }
        }
    }

    fn on_txn_answer(&mut self, index: usize, id: PartitionId, txn: TxnId, at: usize, answer: Answer) {
        match &answer {
            Answer::Committed { ts, .. } => self.acknowledged(index, id, txn, *ts),
            Answer::Decided { decision: Some(ts) } => self.acknowledged(index, id, txn, *ts),
            Answer::Prepared { .. } => self.prepared(index, id, txn),
            _ => {}
        }
        let lost = !self.healing && self.chance(self.options.lossy / 2);
        let Some(held) = self.clients.txns.get_mut(&txn) else { return };
        if held.stage == Stage::Over || lost {
            return;
        }
        let (by, planned) = (held.by, held.planned);
        if is_refused(&answer) {
            self.refused_for_schema(by, id, planned);
            return self.give_up(txn);
        }
        let change = held.change.filter(|_| matches!(answer, Answer::Locked { .. }));
        if change.is_some_and(|change| !self.may_raise(index, id, by, &change)) {
            return self.give_up(txn);
        }
        let held = self.clients.txns.get_mut(&txn).expect("it was there above");
        match (held.stage, answer) {
            (Stage::Writing, Answer::Locked { epoch }) => {
                held.parts[at].epoch = Some(epoch);
                let value = Bytes::copy_from_slice(&txn.0.to_be_bytes());
                let writes = held.parts[at].keys.iter();
                let writes = writes.map(|key| Write { key: key.clone(), value: Some(value.clone()) }).collect();
                let node = held.parts[at].node;
                self.request(node, id, Want::Step(txn, at), TxnRequest::Buffer { txn, writes });
            }
            (Stage::Writing, Answer::Buffered { count }) => {
                held.parts[at].count = count;
                held.parts[at].statements -= 1;
                self.after(MILLI, Event::Client(Act::Step(txn)));
            }
            (Stage::Preparing, Answer::Prepared { history }) => {
                held.parts[at].prepared = Some(history);
                let mut others = held.parts.iter().filter_map(|part| part.prepared);
                if others.any(|other| other != history) && self.options.planted != Some(Planted::HistoriesMixed) {
                    return self.give_up(txn);
                }
                let early = held.parts[0].prepared.is_some() && self.options.planted == Some(Planted::DecidedEarly);
                if early || held.parts.iter().all(|part| part.prepared.is_some()) {
                    held.stage = Stage::Deciding;
                    self.after(MILLI, Event::Client(Act::Step(txn)));
                }
            }
            // It has decided early.
            (Stage::Deciding | Stage::Finishing, Answer::Prepared { history }) => {
                held.parts[at].prepared = Some(history);
            }
            (Stage::Deciding, Answer::Decided { decision }) => self.finish(txn, decision),
            (Stage::Finishing, Answer::Finished) => {
                held.parts[at].finished = true;
                if held.parts[1..].iter().all(|part| part.finished) {
                    self.end_txn(txn, true);
                }
            }
            (Stage::Committing, Answer::Committed { .. }) => self.end_txn(txn, false),
            _ => self.give_up(txn),
        }
    }

    fn finish(&mut self, txn: TxnId, decision: Option<Timestamp>) {
        let held = self.clients.txns.get_mut(&txn).expect("its coordinator lives");
        held.stage = Stage::Finishing;
        let held = held.clone();
        let (database, first) = (self.regions[held.region].database, held.parts[0].ordinal);
        for (at, part) in held.parts.iter().enumerate().skip(1) {
            let id = PartitionId { database, ordinal: part.ordinal };
            self.request(part.node, id, Want::Step(txn, at), TxnRequest::Finish { txn, first, decision });
        }
    }

    fn end_txn(&mut self, txn: TxnId, forget: bool) {
        let held = self.clients.txns.get_mut(&txn).expect("its coordinator lives");
        held.stage = Stage::Over;
        let (node, ordinal, region) = (held.parts[0].node, held.parts[0].ordinal, held.region);
        let changer = held.change.map(|_| held.by);
        changer.into_iter().for_each(|by| self.forget_definitions(by));
        self.clients.under_way.retain(|other| *other != txn);
        if forget && self.chance(300) {
            let id = PartitionId { database: self.regions[region].database, ordinal };
            self.request(node, id, Want::Nothing, TxnRequest::Forget { txns: vec![txn] });
        }
    }

    // ---- what was promised

    /// The name of the record in this replica's log that decides or prepares a transaction.
    fn name_in_log(&self, index: usize, id: PartitionId, txn: TxnId, prepare: bool) -> Option<(Epoch, types::Lsn)> {
        let hosted = self.nodes[index].hosted(id)?;
        let of = |body: &Body| match body {
            Body::Commit { txn: of, .. } | Body::Outcome { txn: of, .. } => !prepare && *of == txn,
            Body::Prepare { txn: of, .. } => prepare && *of == txn,
            _ => false,
        };
        let logged = hosted.log.records.iter().rev().find(|record| of(&record.body));
        let name = logged.map(|record| (record.epoch, record.lsn));
        // Trimmed, and in the state: the answer was asked for again.
        name.or_else(|| {
            let lsn = if prepare { hosted.state.prepared_at(txn) } else { hosted.state.decided_at(txn) }?;
            Some((hosted.log.summary.lineage.epoch_at(lsn)?, lsn))
        })
    }

    fn prepared(&mut self, index: usize, id: PartitionId, txn: TxnId) {
        let region = self.nodes[index].region;
        let Some(name) = self.name_in_log(index, id, txn, true) else { return };
        let shown = Shown { txn, ts: Timestamp::ZERO, keys: vec![] };
        self.checks.heads.entry((region, id.ordinal)).or_default().show(name, shown);
        self.check_fork(index, id, name, Deed::Acknowledges);
        if let Some(held) = self.clients.txns.get_mut(&txn) {
            held.prepares.insert(id.ordinal, name);
        }
    }

    /// Whether what this primary does with a record is a fork.
    pub(crate) fn check_fork(&mut self, index: usize, id: PartitionId, name: (Epoch, types::Lsn), deed: Deed) {
        let region = self.nodes[index].region;
        let Some(epoch) = self.nodes[index].replica(id).and_then(|replica| replica.mints()) else { return };
        let head = self.checks.heads.entry((region, id.ordinal)).or_default();
        let result = no_fork::check(head, id, epoch.number, name.0, name.1, deed);
        self.judge(no_fork::NAME, result);
    }

    fn acknowledged(&mut self, index: usize, id: PartitionId, txn: TxnId, ts: Timestamp) {
        let Some(name) = self.name_in_log(index, id, txn, false) else {
            return self
                .fail(no_fork::NAME, format!("{} acknowledges {txn}, its log has no outcome", self.label(index)));
        };
        let start = self.nodes[index].starts;
        let epoch = self.nodes[index].replica(id).and_then(|replica| replica.mints()).unwrap_or(name.0);
        let result = self.checks.ackers.check(id.ordinal, epoch, index, start);
        self.judge(one_acker_per_epoch::NAME, result);
        self.check_fork(index, id, name, Deed::Acknowledges);
        let region = self.nodes[index].region;
        let Some(held) = self.clients.txns.get_mut(&txn) else { return };
        held.decided = Some(name);
        held.ts = Some(ts);
        let held = held.clone();
        if self.checks.heads.get(&(region, id.ordinal)).is_some_and(|head| head.has_given_up(name)) {
            // It was lost before its client heard of it: nobody expects it.
            self.checks.recoveries.lost.insert(txn);
            self.checks.lost += 1;
            return self.on_decided(region, txn, ts);
        }
        self.count_definitions(id, name, txn, ts);
        self.checks.acknowledged += 1;
        for part in &held.parts {
            let of = if part.ordinal == id.ordinal { Some(name) } else { held.prepares.get(&part.ordinal).copied() };
            let Some(of) = of else { continue };
            let head = self.checks.heads.entry((region, part.ordinal)).or_default();
            // A Prepare that was lost meanwhile, with an announcement, is not expected again.
            if part.ordinal == id.ordinal || head.shown.contains_key(&of) {
                head.show(of, Shown { txn, ts, keys: part.keys.clone() });
            }
        }
        self.on_decided(region, txn, ts);
    }

    // ---- reads

    fn begin_read(&mut self, index: usize, id: PartitionId) {
        let key = Bytes::copy_from_slice(&[self.between(0, u64::from(KEYS) - 1) as u8]);
        let at_view = self.clients.views && self.chance(500);
        let view = if at_view { self.timestamps(self.nodes[index].region, 1) } else { Timestamp::MAX };
        self.read(index, id, key, view);
    }

    /// A read at a view, or with the highest one of the latest.
    pub(crate) fn read(&mut self, index: usize, id: PartitionId, key: Bytes, view: Timestamp) {
        self.clients.tickets += 1;
        let read = self.clients.tickets;
        let region = self.nodes[index].region;
        let Some((by, planned)) = self.planner(region) else { return };
        let term = self.term(region);
        let newest = planned
            .filter(|_| !self.definitions_are_short())
            .and_then(|_| self.checks.definitions.newest(&term))
            .map(|newest| (term, newest));
        if view == Timestamp::MAX {
            let head = self.checks.heads.get(&(region, id.ordinal));
            self.checks.reads.begin(read, region, id.ordinal, key.clone(), head);
        }
        let held = Read { partition: id, view, by, planned, newest, key, reign: None, seen: None, looked: false };
        self.clients.reads.insert(read, held);
        let settle = TxnRequest::Settle { view, schema: planned };
        self.request(index, id, Want::Settled(read), settle);
    }

    fn on_settled(&mut self, index: usize, read: u64, answer: &Answer) {
        if *answer != Answer::Settled {
            let held = self.clients.reads.remove(&read).filter(|_| is_refused(answer));
            if let Some(Read { by, partition, planned, .. }) = held {
                self.refused_for_schema(by, partition, planned);
            }
            return;
        }
        let Some(id) = self.clients.reads.get(&read).map(|held| held.partition) else { return };
        let reign = self.nodes[index].replica(id).and_then(|replica| replica.reign_led());
        let looked = self.may_read(index, id);
        if let Some(held) = self.clients.reads.get_mut(&read) {
            (held.reign, held.looked) = (reign, looked);
        }
        let delay = self.pick(&[0, 0, 1, 5]);
        self.later(index, delay * MILLI, Local::TakeValue(read));
    }

    pub(crate) fn may_read(&self, index: usize, id: PartitionId) -> bool {
        let now = self.clock(index);
        self.nodes[index]
            .process
            .as_ref()
            .and_then(|process| Some(process.hosted.get(&id)?.replica.may_read(now, &process.leases)))
            .unwrap_or(false)
    }

    pub(crate) fn on_take_value(&mut self, index: usize, read: u64) {
        let Some(held) = self.clients.reads.get_mut(&read) else { return };
        if let Some(hosted) = self.nodes[index].hosted(held.partition) {
            held.seen = Some(hosted.state.at(&held.key, held.view, &hosted.log.summary.lineage));
            let delay = self.pick(&[0, 0, 1, 5]);
            self.later(index, delay * MILLI, Local::AnswerRead(read));
        }
    }

    pub(crate) fn on_answer_read(&mut self, index: usize, read: u64) {
        let Some(held) = self.clients.reads.remove(&read) else { return };
        let id = held.partition;
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let allowed = if self.options.has_replica(replication::Planted::LeaseBeforeRead) {
            held.looked
        } else {
            self.may_read(index, id)
        };
        if !allowed || hosted.replica.reign_led() != held.reign {
            return;
        }
        let seen = held.seen.flatten();
        let name = seen.as_ref().and_then(|seen| Some((hosted.log.summary.lineage.epoch_at(seen.lsn)?, seen.lsn)));
        let ts = seen.as_ref().map_or(Timestamp::ZERO, |seen| seen.ts);
        let (own, writes) = (hosted.replica.status().mark.promotions, hosted.replica.mints().is_some());
        say!(self, "{} {id} answers a read of {:?}: {ts}", self.label(index), held.key);
        // One that is of another history, and does not know it yet, knows nothing of its definitions; a sink's readers read
        // them at the view that they read at.
        let older = held.newest.filter(|(term, newest)| writes && *term == own && held.planned < Some(*newest));
        if let Some((_, newest)) = older {
            let text = format!("a read of {id} was planned with {:?}, {newest} was acknowledged", held.planned);
            return self.fail(definitions::NAME, text);
        }
        self.checks.read += 1;
        let result = self.checks.reads.end(read, ts);
        self.judge(reads_are_fresh::NAME, result);
        let region = self.nodes[index].region;
        let writer = |seen: &Seen| {
            let value = seen.value.as_ref()?;
            Some(TxnId(u128::from_be_bytes(value[..].try_into().expect("a txn id"))))
        };
        if held.view < Timestamp::MAX {
            let (term, seen) = (self.term(region), seen.as_ref().and_then(writer));
            let shown = views::Shown { term, ordinal: id.ordinal, key: held.key.clone(), view: held.view, seen };
            self.checks.views.0.push(shown);
        }
        let (Some(name), Some(seen)) = (name, seen) else { return };
        self.check_fork(index, id, name, Deed::Shows);
        let txn = writer(&seen).unwrap_or(TxnId(0));
        self.check_withdrawn(id, txn);
        let head = self.checks.heads.entry((region, id.ordinal)).or_default();
        if !head.shown.contains_key(&name) {
            head.show(name, Shown { txn, ts, keys: vec![held.key] });
        }
    }

    // ---- inquiries

    /// A participant asks how a transaction ended.
    pub(crate) fn inquire(&mut self, index: usize, id: PartitionId, held: (TxnId, PromotionId), first: Ordinal) {
        let (txn, history) = held;
        let region = self.nodes[index].region;
        let deciding = PartitionId { database: id.database, ordinal: first };
        let node = self.primary_for_client(region, deciding);
        say!(self, "{} {id} inquires about {:x} at {first}", self.label(index), txn.0 >> 96);
        let request = TxnRequest::Inquire { txn, history: Some(history) };
        self.request(node, deciding, Want::Inquiry(index, id, txn, first), request);
    }

    /// An input to the replica on a node, for scenarios.
    pub fn tell(&mut self, index: usize, id: PartitionId, input: Input) {
        self.feed(index, id, input);
    }
}
