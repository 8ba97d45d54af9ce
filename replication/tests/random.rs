//! One replica, an honest host, and peers that say anything: the replica must live.
//!
//! The host keeps its contract (what it reports is what was asked, in order, on one partition) and the catalog keeps its
//! own (reigns rise, epochs are above every number in the log). Frames, messages between regions and requests of
//! coordinators are random. Peer nonsense is ignored, refused or answered with a comparison of logs. One thing alone may
//! end the process: a primary of the region that lacks what is committed here, without an announced loss.

extern crate perennial_replication as replication;

#[allow(dead_code)]
#[path = "world/disk.rs"]
mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use disk::Disk;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use replication::{
    Ack, Append, Effect, FeedId, Frame, Granted, Heartbeat, Input, Instant, Leases, Life, Message, Replica,
    ReplicaOptions, Resume, Stream, Ticket, Touch, TxnRequest,
};
use types::state::Outcome;
use types::{
    Body, ClusterId, DatabaseId, Epoch, Fence, Incarnation, Lineage, LineageEntry, LinkId, Lsn, Mark, Member, Mode,
    NodeId, Ordinal, PartitionId, Promotion, PromotionId, Record, Reign, Revision, Role, SchemaVersion, SetVersion,
    StartKind, Timestamp, TxnId, View, Write,
};

const ID: PartitionId = PartitionId { database: DatabaseId(1), ordinal: Ordinal(0) };
const LINK: LinkId = LinkId(7);
/// What may end the process: the documented invariant between a region's replicas.
const ALLOWED: &str = "no loss was announced";

/// A replica, its disk and all that its host owes it.
struct Host {
    rng: ChaCha8Rng,
    now: Instant,
    me: Member,
    replica: Replica,
    leases: Leases,
    disk: Disk,
    view: View,
    revision: u64,
    timestamps: u64,
    asked: Vec<(u64, u32)>,
    apply: Lsn,
    rewind: Option<Lsn>,
    installing: bool,
    prepared: Option<Reign>,
    lookups: Vec<(Reign, TxnId)>,
    reads: Vec<(FeedId, Lsn, Lsn)>,
    tickets: u64,
    open: BTreeSet<u64>,
    touches: BTreeMap<u64, Touch>,
    asked_by: BTreeMap<u64, u64>,
}

impl Host {
    fn new(seed: u64, sync_durability: bool, sync_replication: bool) -> Host {
        let me = Member { node: NodeId(1), incarnation: Incarnation(1) };
        let options = ReplicaOptions { tail_bytes_max: 400, frame_bytes_max: 300, ..ReplicaOptions::default() };
        let now = Instant(0);
        let leases = Leases::new(me, options.clone(), now, true);
        let replica = Replica::new(ID, me, options, Default::default(), &mut vec![]);
        let view = View {
            partition: ID,
            reign: Reign(0),
            reign_revision: Revision(0),
            version: SetVersion(0),
            primary: me,
            members: BTreeSet::from([me]),
            replicas: (1..=3).map(NodeId).collect(),
            promotions: vec![],
            role: Role::Sink { link: LINK, forced: false, broken: false },
            losses: 0,
            fence: Fence::None,
            hands_over: false,
            mode: Mode { sync_durability, sync_replication },
            failover_after: (!sync_replication).then_some(10_000),
        };
        Host {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now,
            me,
            replica,
            leases,
            disk: Disk::default(),
            view,
            revision: 0,
            timestamps: 1,
            asked: vec![],
            apply: Lsn::ZERO,
            rewind: None,
            installing: false,
            prepared: None,
            lookups: vec![],
            reads: vec![],
            tickets: 0,
            open: BTreeSet::new(),
            touches: BTreeMap::new(),
            asked_by: BTreeMap::new(),
        }
    }

    fn up_to(&mut self, most: u64) -> u64 {
        self.rng.random_range(0..=most)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.up_to(99) < percent
    }

    fn step(&mut self, input: Input) {
        let rewinding = self.rewind.is_some() || self.installing;
        let done = matches!(input, Input::Rewound { .. } | Input::Installed { .. });
        let mut effects = vec![];
        self.replica.step(self.now, input, &mut self.leases, &mut effects);
        for effect in effects {
            assert!(!rewinding || done || !matches!(effect, Effect::Append(_) | Effect::Apply { .. }), "{effect}");
            self.perform(effect);
        }
        assert_eq!(self.replica.status().appended, self.disk.end());
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Append(records) => self.disk.append(&records),
            Effect::Note(note) => self.disk.note(note),
            Effect::Read { feed, from, to, .. } => self.reads.push((feed, from, to)),
            Effect::Apply { to } => {
                assert!(to <= self.disk.end(), "apply to {to} of a log that ends at {}", self.disk.end());
                self.apply = to;
            }
            Effect::Rewind { to, lineage } => {
                self.disk.intent = Some((to, lineage));
                self.rewind = Some(to);
                self.apply = self.apply.min(to);
            }
            Effect::Install { link, .. } => {
                self.disk.incomplete |= link.is_none();
                self.installing = true;
            }
            Effect::StopCopy => {
                self.disk.incomplete = false;
                self.installing = false;
            }
            Effect::Timestamps { request, count } => self.asked.push((request, count)),
            Effect::Prepared { reign } => self.prepared = Some(reign),
            Effect::Lookup { reign, txn } => self.lookups.push((reign, txn)),
            Effect::Answer { ticket, answer } => {
                assert!(self.open.remove(&ticket.0), "request {} is answered twice: {answer}", ticket.0);
                let touch = self.asked_by.remove(&ticket.0).and_then(|txn| self.touches.get_mut(&txn));
                match (touch, answer) {
                    (Some(touch), replication::Answer::Locked { epoch }) => {
                        touch.epoch = Some(touch.epoch.unwrap_or(epoch));
                    }
                    (Some(touch), replication::Answer::Buffered { count }) => touch.count = count,
                    _ => {}
                }
            }
            Effect::Send { frame, .. } => {
                if let Message::Ack(ack) = frame.message {
                    assert!(ack.position <= ack.matched && ack.durable <= self.disk.durable, "{ack:?}");
                    assert!(!self.view.mode.sync_durability || ack.position <= self.disk.durable, "{ack:?}");
                }
            }
            Effect::ToSource { message: Message::Ack(ack), .. } => {
                assert!(ack.durable <= self.disk.durable, "reported safe {} above the disk", ack.durable);
            }
            _ => {}
        }
    }

    /// What the host or the catalog does next.
    fn honest(&mut self, kind: u8) {
        match kind {
            0 => self.step(Input::Tick),
            1 => {
                let by = self.up_to(400);
                self.now = self.now + Duration::from_millis(by);
                self.step(Input::Tick);
            }
            2 if self.chance(50) => self.change_view(false),
            3 if self.rewind.is_none() && !self.installing => {
                let end = Lsn(self.disk.written.0 + self.up_to(self.disk.end().0 - self.disk.written.0));
                self.disk.write(end);
                self.step(Input::Written { end });
            }
            4 if self.rewind.is_none() && !self.installing => {
                let end = Lsn(self.disk.durable.0 + self.up_to(self.disk.end().0 - self.disk.durable.0));
                let notes = self.disk.sync(end, None);
                self.step(Input::Durable { end, notes });
            }
            5 if self.rewind.is_none() && !self.installing && self.apply > self.disk.applied => {
                let to = Lsn(self.disk.applied.0 + 1 + self.up_to(self.apply.0 - self.disk.applied.0 - 1));
                self.disk.applied = to;
                self.step(Input::Applied { lsn: to });
            }
            6 => {
                if let Some(to) = self.rewind.take() {
                    self.disk.applied = self.disk.applied.min(to);
                    self.disk.rewind(to);
                    self.step(Input::Rewound { to });
                } else if self.installing {
                    self.install();
                }
            }
            7 => self.answer_timestamps(),
            8 => {
                if let Some(reign) = self.prepared.take() {
                    self.step(Input::Prepared { reign, open: vec![] });
                }
                for (reign, txn) in std::mem::take(&mut self.lookups) {
                    let outcome =
                        self.chance(30).then_some(Outcome { txn, lsn: Lsn(1), first: Ordinal(0), decision: None });
                    self.step(Input::Outcome { reign, txn, outcome });
                }
            }
            9 => {
                for (feed, from, to) in std::mem::take(&mut self.reads) {
                    let records = if self.rewind.is_some() { vec![] } else { self.disk.read(from, to) };
                    self.step(Input::LogRead { feed, records });
                }
            }
            10 if self.rewind.is_none() && !self.installing && self.chance(20) => {
                let to = Lsn(self.up_to(self.disk.applied.0));
                self.disk.trim(to);
                self.step(Input::Trimmed { to });
            }
            11 if self.chance(20) => self.restart(),
            12 => self.lease(),
            13 => self.session(),
            14..=16 => self.catch_up(),
            _ => {}
        }
    }

    /// Everything that the host owes.
    fn catch_up(&mut self) {
        self.now = self.now + Duration::from_millis(300);
        for kind in [6, 9, 4, 4, 5, 7, 8, 4, 5, 7, 8, 0] {
            self.honest(kind);
        }
    }

    fn session(&mut self) {
        let node = NodeId(2 + self.up_to(1));
        let feed = self.up_to(2);
        let input = match self.up_to(6) {
            0 => Input::SourceUp { link: LINK },
            1 => Input::SourceDown { link: LINK },
            2 => Input::SinkGone { feed },
            3 => Input::PeerUp { node },
            4 => Input::Publish { ts: Timestamp(self.next_ts()) },
            5 => Input::Final { ts: Timestamp(self.next_ts()) },
            _ => Input::Cancel { ticket: Ticket(self.tickets) },
        };
        if let Input::Cancel { ticket } = input {
            self.open.remove(&ticket.0);
            self.step(input);
            self.open.insert(ticket.0);
        } else {
            self.step(input);
        }
    }

    fn next_ts(&mut self) -> u64 {
        self.timestamps += 1 + self.up_to(3);
        self.timestamps
    }

    fn answer_timestamps(&mut self) {
        for (request, count) in std::mem::take(&mut self.asked) {
            let first = Timestamp(self.next_ts());
            self.timestamps += u64::from(count);
            self.step(Input::Timestamps { request, first, count });
        }
    }

    fn install(&mut self) {
        self.installing = false;
        let end = Lsn(self.disk.end().0 + self.up_to(5));
        let mut lineage = self.lineage(end);
        if end > Lsn::ZERO && lineage.entries().is_empty() {
            let entry = self.entry(1, Lsn(1));
            lineage.push(entry);
        }
        let end = if lineage.entries().is_empty() { Lsn::ZERO } else { end };
        if !self.replica.takes(&lineage, end) {
            return self.step(Input::CopyUnfit);
        }
        self.disk.install(lineage, end, disk::State::default());
        self.apply = Lsn::ZERO;
        let lineage = self.disk.lineage.clone();
        self.step(Input::Installed { lineage, end });
    }

    fn lease(&mut self) {
        let peer = Member { node: NodeId(2 + self.up_to(1)), incarnation: Incarnation(1 + self.up_to(1)) };
        match self.up_to(2) {
            0 => {
                let beat =
                    Heartbeat { from: peer, sent: Instant(self.up_to(1 << 40)), revision: Revision(self.up_to(9)) };
                self.leases.on_heartbeat(self.now, &beat);
            }
            1 => {
                let except = if self.chance(50) { vec![ID] } else { vec![] };
                let granted = Granted { from: peer, sent: self.now, except };
                self.leases.on_granted(self.now, &granted);
            }
            _ => {
                if let Some(probe) = self.leases.on_closed(peer.node) {
                    self.leases.on_refused(probe);
                }
            }
        }
    }

    fn change_view(&mut self, reign: bool) {
        self.revision += 1;
        self.view.version.0 += 1;
        let others: Vec<Member> =
            (2..=3).map(|node| Member { node: NodeId(node), incarnation: Incarnation(1 + self.up_to(1)) }).collect();
        self.view.fence = match self.up_to(9) {
            0 => Fence::Draining(Revision(self.up_to(9))),
            1 => Fence::Sealed(Revision(self.up_to(9))),
            _ => Fence::None,
        };
        if reign || self.chance(50) {
            let promised = self.replica.status().reign.0;
            self.view.reign = Reign(self.view.reign.0.max(promised) + 1);
            self.view.reign_revision = Revision(self.revision);
            self.view.primary = if self.chance(70) { self.me } else { others[0] };
            self.view.members = BTreeSet::from([self.view.primary]);
            self.view.losses += u64::from(self.chance(20));
            self.change_role();
        } else if let Role::Sink { broken, .. } = &mut self.view.role {
            *broken = self.rng.random_bool(0.1);
            if self.rng.random_bool(0.2) {
                self.view.promotions = self.promotions();
            }
        }
        for member in others {
            if self.chance(30) && self.view.mode.sync_replication {
                self.view.members.insert(member);
            }
        }
        let (view, sent) = (self.view.clone(), self.now);
        self.step(Input::View { view, sent });
        self.leases.obeyed(Revision(self.revision));
    }

    fn change_role(&mut self) {
        let number = self.replica.lineage().last().map_or(0, |entry| entry.epoch.number) + 1 + self.up_to(2);
        let epoch = Epoch { number: number.max(self.revision * 1000), cluster: ClusterId(1), nonce: self.up_to(9) };
        let start_above = Timestamp(self.up_to(5));
        self.view.role = match self.up_to(3) {
            0 => Role::Sink { link: LINK, forced: false, broken: false },
            1 => {
                let promotion =
                    Promotion { id: PromotionId(self.up_to(1 << 60).into()), cut: Timestamp(self.up_to(50)) };
                self.view.promotions.push(promotion);
                let start = StartKind::Promotion { id: promotion.id, cut: promotion.cut };
                Role::Writable { epoch, start, start_above }
            }
            _ => Role::Writable { epoch, start: StartKind::Failover, start_above },
        };
    }

    fn restart(&mut self) {
        let power = self.chance(50);
        // The state's bytes are not kept here: nothing has to be undone in them.
        self.disk.applied = self.disk.applied.min(if power { self.disk.durable } else { self.disk.written });
        let applied = std::mem::replace(&mut self.disk.applied, Lsn::ZERO);
        let mut found = self.disk.restart(power);
        self.disk.applied = applied;
        found.applied = applied;
        self.me.incarnation.0 += 1;
        let options = ReplicaOptions { tail_bytes_max: 400, frame_bytes_max: 300, ..ReplicaOptions::default() };
        self.leases = Leases::new(self.me, options.clone(), self.now, false);
        self.apply = applied;
        (self.rewind, self.installing) = (found.intent.as_ref().map(|(to, _)| *to), found.incomplete);
        (self.prepared, self.lookups, self.reads, self.asked) = (None, vec![], vec![], vec![]);
        self.open.clear();
        let mut effects = vec![];
        self.replica = Replica::new(ID, self.me, options, found, &mut effects);
        effects.into_iter().for_each(|effect| self.perform(effect));
        self.change_view(true);
    }

    // ---- what peers say

    fn nonsense(&mut self, kind: u8) {
        let input = match kind {
            0 => {
                let status = self.replica.status();
                let turn = status.leading.map_or(0, |leading| leading.turn);
                let reign = match self.up_to(49) {
                    0 => status.reign.0 + 1,
                    1 | 2 => status.reign.0.saturating_sub(1),
                    _ => status.reign.0.max(1),
                };
                let stream =
                    Stream { reign: Reign(reign), turn: if self.chance(80) { turn } else { self.up_to(3) as u32 } };
                let from = Member { node: NodeId(2 + self.up_to(1)), incarnation: Incarnation(1 + self.up_to(1)) };
                let life = Life(self.up_to(2));
                match self.chance(2) {
                    true => Input::CopyAsked { by: from, life },
                    false => Input::Frame(Frame { partition: ID, from, life, stream, message: self.message() }),
                }
            }
            1 => Input::FromSink { feed: self.up_to(2), message: self.message() },
            2 => Input::FromSource { link: LINK, message: self.message() },
            _ => {
                self.tickets += 1;
                self.open.insert(self.tickets);
                let request = self.request();
                Input::Txn { ticket: Ticket(self.tickets), request }
            }
        };
        self.step(input);
    }

    fn near_end(&mut self) -> Lsn {
        if self.chance(50) {
            return self.disk.end();
        }
        Lsn((self.disk.end().0 + self.up_to(4)).saturating_sub(self.up_to(4)))
    }

    fn epoch(&mut self, lsn: Lsn) -> Option<Epoch> {
        let known = self.replica.lineage().epoch_at(lsn).filter(|_| lsn > Lsn::ZERO);
        if self.chance(85) { known } else { Some(Epoch { number: self.up_to(9), cluster: ClusterId(2), nonce: 0 }) }
    }

    fn entry(&mut self, number: u64, start_lsn: Lsn) -> LineageEntry {
        let kind = match self.up_to(3) {
            0 => StartKind::Promotion { id: PromotionId(self.up_to(3).into()), cut: Timestamp(self.up_to(20)) },
            _ => StartKind::Failover,
        };
        let epoch = Epoch { number, cluster: ClusterId(2), nonce: self.up_to(3) };
        LineageEntry { epoch, start_lsn, start_ts: Timestamp(self.up_to(50)), kind }
    }

    /// This log's lineage cut somewhere, and perhaps another history from there on.
    fn lineage(&mut self, end: Lsn) -> Lineage {
        let mut lineage = self.replica.lineage().clone();
        let keep = if self.chance(50) { end } else { self.near_end() };
        lineage.cut(keep.min(end));
        for _ in 0..self.up_to(2) {
            let number = lineage.last().map_or(0, |entry| entry.epoch.number) + 1 + self.up_to(1);
            let start = lineage.last().map_or(1, |entry| entry.start_lsn.0 + 1).max(keep.0 + self.up_to(1));
            if start <= end.0 {
                let entry = self.entry(number, Lsn(start));
                lineage.push(entry);
            }
        }
        lineage
    }

    fn promotions(&mut self) -> Vec<Promotion> {
        let mut promotions = self.view.promotions.clone();
        promotions.truncate(self.up_to(3) as usize);
        if self.chance(30) {
            promotions.push(Promotion { id: PromotionId(self.up_to(3).into()), cut: Timestamp(self.up_to(50)) });
        }
        promotions
    }

    fn message(&mut self) -> Message {
        match self.up_to(11) {
            0..=5 => Message::Append(self.append()),
            6 => {
                let end = self.near_end();
                let trimmed = if self.chance(10) { Lsn(u64::MAX) } else { Lsn(self.up_to(end.0)) };
                Message::Differ { lineage: self.lineage(end), end, trimmed }
            }
            7 if self.chance(60) => Message::Resume(Resume {
                lineage: self.replica.lineage().clone(),
                end: self.disk.end(),
                trimmed: Lsn::ZERO,
                promotions: self.view.promotions.clone(),
                relay: self.chance(30),
            }),
            7 => {
                let end = self.near_end();
                let (lineage, trimmed) = (self.lineage(end), Lsn(self.up_to(end.0 / 2)));
                let promotions = if self.chance(70) { self.view.promotions.clone() } else { self.promotions() };
                Message::Resume(Resume { lineage, end, trimmed, promotions, relay: self.chance(30) })
            }
            _ => {
                let (matched, position, durable) = (self.near_end(), self.near_end(), self.near_end());
                let (position, durable) =
                    if self.chance(80) { (position.min(matched), durable.min(matched)) } else { (position, durable) };
                Message::Ack(Ack { matched, position, durable, mark: Timestamp(self.up_to(60)) })
            }
        }
    }

    fn append(&mut self) -> Append {
        let prev = if self.chance(60) { self.disk.end() } else { self.near_end() };
        let prev_epoch = self.epoch(prev);
        let mut records = vec![];
        let mut epoch = prev_epoch;
        for index in 0..self.up_to(3) {
            let lsn = Lsn(prev.0 + 1 + index + u64::from(self.chance(5)));
            let mut body = self.body();
            if epoch.is_none() && self.chance(90) {
                body = Body::EpochStart { start_ts: Timestamp(1), kind: StartKind::Failover };
            }
            if matches!(body, Body::EpochStart { .. }) || epoch.is_none() {
                let number = epoch.map_or(0, |epoch| epoch.number) + u64::from(self.chance(90));
                epoch = Some(Epoch { number, cluster: ClusterId(2), nonce: self.up_to(2) });
            }
            records.push(Record { epoch: epoch.expect("it was just set"), lsn, body });
        }
        let mark = self.chance(50).then(|| Mark {
            promotions: if self.rng.random_bool(0.7) { self.view.promotions.clone() } else { vec![] },
            ts: Timestamp(self.rng.random_range(0..60)),
            lsn: Lsn(prev.0 + self.rng.random_range(0..4)),
        });
        let (committed, losses) = (self.near_end(), self.view.losses + u64::from(self.chance(10)));
        let (reign_revision, sink) = (Revision(self.up_to(20)), mark.is_some());
        Append { prev, prev_epoch, records, committed, mark, reign_revision, losses, sink }
    }

    fn body(&mut self) -> Body {
        let (txn, ts) = (TxnId(self.up_to(5).into()), Timestamp(self.up_to(60)));
        let writes = vec![Write { key: self.key(), value: Some(Bytes::from_static(b"value")) }];
        match self.up_to(5) {
            0 if self.chance(30) => Body::EpochStart { start_ts: ts, kind: self.entry(1, Lsn(1)).kind },
            2 => Body::Prepare { txn, bound: ts, first: Ordinal(self.up_to(1) as i32), writes },
            3 => Body::Outcome { txn, first: Ordinal(0), decision: self.chance(50).then_some(ts) },
            4 => Body::Forget { txns: vec![txn] },
            _ => Body::Commit { txn, ts, writes },
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::copy_from_slice(&[b'a' + self.up_to(3) as u8])
    }

    fn schema(&mut self) -> SchemaVersion {
        SchemaVersion(self.up_to(2))
    }

    fn request(&mut self) -> TxnRequest {
        let number = self.up_to(5);
        let txn = TxnId(number.into());
        let mut touch = *self.touches.entry(number).or_default();
        if self.chance(10) {
            touch.count += 1;
        }
        if self.chance(20) {
            touch.schema = Some(self.schema());
        }
        let first = Ordinal(self.up_to(1) as i32);
        let decision = self.chance(60).then_some(Timestamp(self.timestamps + self.up_to(9)));
        self.asked_by.insert(self.tickets, number);
        match self.up_to(16) {
            0..=2 => {
                let keys = (0..=self.up_to(2)).map(|_| self.key()).collect();
                TxnRequest::Lock { txn, touch, stamp: Revision(self.up_to(9)), keys }
            }
            3 | 4 => TxnRequest::Buffer { txn, writes: vec![Write { key: self.key(), value: None }] },
            5 | 6 => TxnRequest::Commit { txn, touch },
            7 => TxnRequest::Prepare { txn, touch, first },
            8 => TxnRequest::Decide { txn, decision },
            9 => TxnRequest::Finish { txn, first, decision },
            10 => TxnRequest::Inquire { txn, history: None },
            11 => {
                self.touches.remove(&number);
                TxnRequest::Rollback { txn }
            }
            12 => TxnRequest::Forget { txns: vec![txn] },
            13 => TxnRequest::Require { version: self.schema(), history: None },
            14 => TxnRequest::Alive { txn },
            15 => {
                self.touches.remove(&number);
                TxnRequest::Withdraw { txn }
            }
            _ => {
                let view = if self.chance(50) { Timestamp(self.timestamps) } else { Timestamp::MAX };
                TxnRequest::Settle { view, schema: self.chance(30).then(|| self.schema()) }
            }
        }
    }
}

/// Plays the steps; returns how many were taken before the documented end, if that came.
fn play(seed: u64, sync_durability: bool, sync_replication: bool, steps: &[(bool, u8)]) -> Result<usize, String> {
    let mut host = Host::new(seed, sync_durability, sync_replication);
    host.change_view(true);
    for (taken, (honest, kind)) in steps.iter().enumerate() {
        let step = AssertUnwindSafe(|| if *honest { host.honest(*kind) } else { host.nonsense(kind % 4) });
        if let Err(panic) = catch_unwind(step) {
            let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            return if text.contains(ALLOWED) { Ok(taken) } else { Err(format!("step {taken}: {text}")) };
        }
    }
    Ok(steps.len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn peers_may_say_anything(
        seed: u64,
        sync_durability: bool,
        sync_replication: bool,
        steps in prop::collection::vec((prop::bool::weighted(0.65), 0u8..17), 1..300),
    ) {
        let played = play(seed, sync_durability, sync_replication, &steps);
        prop_assert!(played.is_ok(), "{}", played.unwrap_err());
    }
}
