//! DR control: what persons and their statements do to databases that follow each other, and what a region's leader
//! does with what it hears of promotions.

use std::collections::BTreeMap;

use catalog::Command;
use catalog::claim::Claim;
use catalog::command::{BreakLink, CreateDatabase, CreateSink, Follow, HandoverAnswer, LinkTerms, OpenLink, Promote};
use catalog::database::{Finals, Holder, Side};
use catalog::link::{Credentials, LinkMode, LinkOptions, OnSilence, SourceAddress};
use catalog::outcome::Answer;
use catalog::user::Account;
use rand::Rng;
use types::{Fence, LinkId, Lsn, Ordinal, Promotion, PromotionId, Timestamp, TxnId};

use crate::clients::Act;
use crate::options::{MILLI, Planted};
use crate::say;
use crate::state::Memory;
use crate::world::{Event, World};

/// What a control is in the middle of.
#[derive(Debug, Default)]
pub struct Control {
    /// Ends and time read at the start of a drain: a planted bug reports them.
    early: BTreeMap<usize, Finals>,
    /// An order said that transactions in the way are rolled back.
    pub kills: bool,
    /// The region that stays writable at the end.
    pub winner: Option<usize>,
}

impl World {
    /// A step of a region's control.
    pub(crate) fn on_control(&mut self, region: usize) {
        let most = self.options.control_gap;
        let delay = self.between(5, most);
        self.after(delay * MILLI, Event::Control(region));
        self.report_pins(region);
        if self.options.guard && !self.healing {
            self.learn_claims(region);
        }
        if self.is_sink(region) {
            self.serve(region);
            self.join(region);
        } else {
            self.restore_sync(region);
            self.hand_over(region);
        }
        let broken = self.is_sink(region) && self.followed(region).is_none();
        if let Some(winner) = self.control.winner.filter(|winner| broken && *winner != region) {
            self.follow(region, winner, true);
        }
        if !self.healing && self.options.orders {
            match self.between(0, 39) {
                0 => self.promote_by_order(region),
                1 => self.follow_somebody(region),
                2 => self.toggle_sync(region),
                4 | 5 => self.begin_fence(region),
                _ => {}
            }
        }
        self.check_single_writer();
    }

    fn in_sight(&self, one: usize, other: usize) -> bool {
        !self.severed.contains(&(one.min(other), one.max(other)))
            && self.regions[one].reachable
            && self.regions[other].reachable
    }

    /// The guard: regions that see each other tell who has claimed the database. One that was taken over while it was away
    /// fences itself.
    fn learn_claims(&mut self, region: usize) {
        let others = (0..self.regions.len()).filter(|other| *other != region && self.in_sight(region, *other));
        let claims: Vec<Claim> = others
            .flat_map(|other| self.regions[other].catalog.databases[&self.regions[other].database].claims.values())
            .cloned()
            .collect();
        let database = self.regions[region].database;
        for claim in claims {
            let known = &self.regions[region].catalog.databases[&database].claims;
            if !known.contains_key(&claim.promotion.id) {
                self.decide(region, &Command::LearnClaim { database, claim }).expect("a claim is taken note of");
            }
        }
    }

    // ---- following

    /// A sink logs in at its source, which gives it a link.
    fn open_link(&mut self, sink: usize, source: usize) -> Option<LinkId> {
        let open = OpenLink {
            link: LinkId(self.rng.random()),
            database: self.regions[source].database,
            user: Account { name: "root".into(), host: "%".into() },
            token_hash: [0; 32],
            peer_cluster: self.regions[sink].catalog.cluster,
            peer_database: "db".into(),
            peer_address: None,
            peer_fingerprint: None,
            sync: self.chance(300),
            on_silence: OnSilence::Block,
        };
        match self.decide(source, &Command::OpenLink(open)).ok()?.answer {
            Answer::Link(link) => Some(link),
            _ => None,
        }
    }

    fn terms(&mut self, sink: usize, source: usize) -> Option<LinkTerms> {
        let link = self.open_link(sink, source)?;
        // Whom the source follows, directly or through others; a broken link counts, it may be mended.
        let mut upstream = vec![];
        let mut at = source;
        while let Side::Sink { link } = self.regions[at].catalog.databases[&self.regions[at].database].side {
            let cluster = self.regions[at].catalog.sinks[&link].source_cluster;
            upstream.push(cluster);
            at = (cluster.0 - 1) as usize;
            assert!(upstream.len() <= self.regions.len(), "regions follow each other in a circle: {upstream:?}");
        }
        Some(LinkTerms {
            link,
            source: SourceAddress { address: format!("region{source}"), database: "db".into(), user: "root".into() },
            source_cluster: self.regions[source].catalog.cluster,
            credentials: Credentials::default(),
            options: LinkOptions::default(),
            promotions: self.term(source),
            relay: self.is_sink(source),
            upstream,
        })
    }

    /// The first statement of a region that is made as a sink.
    pub(crate) fn first_follow(&mut self, region: usize, create: CreateDatabase) -> Command {
        let source = self.between(0, region as u64 - 1) as usize;
        let terms = self.terms(region, source).expect("a new region may follow");
        Command::CreateSink(CreateSink { create, terms })
    }

    /// REPLICATE, with FORCE DIFFERENTIAL where that is needed, and sometimes where it is not.
    fn follow_somebody(&mut self, region: usize) {
        let source = self.between(0, self.regions.len() as u64 - 1) as usize;
        let forced = !self.is_sink(region) || self.followed(region).is_none() || self.chance(300);
        if source != region {
            self.follow(region, source, forced);
        }
    }

    /// REPLICATE … [WITH FORCE DIFFERENTIAL] FROM a region.
    pub fn follow(&mut self, region: usize, source: usize, forced: bool) -> bool {
        if !self.in_sight(region, source) {
            return false;
        }
        let Some(terms) = self.terms(region, source) else { return false };
        let (was, theirs) = (self.term(region), terms.promotions.clone());
        let served = if self.options.has(Planted::ServedByLsn) { Timestamp::ZERO } else { self.served(region) };
        let database = self.regions[region].database;
        let (identity, partitions) = (77, self.options.partitions);
        let was_writable = !self.is_sink(region);
        let follow = Follow { database, identity, partitions, terms, forced, served };
        let Ok(outcome) = self.decide(region, &Command::Follow(follow)) else { return false };
        if outcome.already {
            return true;
        }
        if let Some(low) = types::parting_cut(&was, &theirs) {
            self.release_sync(region, low);
        }
        if forced {
            self.checks.between.served.remove(&region);
        }
        if was_writable {
            self.change_side(region);
        }
        true
    }

    /// What was promised inside the region by its primaries as such is of another life.
    fn change_side(&mut self, region: usize) {
        let minted = if self.is_sink(region) { self.regions[region].catalog.minted } else { 0 };
        for ordinal in self.ordinals() {
            self.checks.heads.entry((region, ordinal)).or_default().forget(minted);
            self.checks.reads.forget(region, ordinal);
        }
    }

    /// A primary of the sink has heard of other promotions.
    pub(crate) fn on_learn(&mut self, region: usize, link: LinkId, promotions: Vec<Promotion>, relay: bool) {
        let was = self.term(region);
        let served = if self.options.has(Planted::ServedByLsn) { Timestamp::ZERO } else { self.served(region) };
        let database = self.regions[region].database;
        let theirs = promotions.clone();
        let learn = Command::LearnPromotions { database, link, promotions, relay, served };
        match self.decide(region, &learn).map(|outcome| (outcome.already, outcome.answer)) {
            Ok((false, Answer::Learnt)) => {
                if let Some(low) = types::parting_cut(&was, &theirs) {
                    self.release_sync(region, low);
                }
            }
            // After a loss the final time may be below what was served before.
            Ok((false, Answer::Broken))
                if self.checks.history.only_handed_over(&was, &theirs) && !self.checks.recoveries.uncut =>
            {
                self.fail("fence", format!("a planned hand-over broke the link of region {region}"));
            }
            _ => {}
        }
    }

    /// A primary of the sink says that its source has lost what was served.
    pub(crate) fn on_break(&mut self, region: usize, lost: BreakLink) {
        let command = Command::BreakLink(lost.clone());
        if self.decide(region, &command).is_ok_and(|outcome| !outcome.already) {
            self.check_break(region, &lost);
        }
    }

    /// All partitions are one lineage with their source: the order to follow is carried out.
    fn join(&mut self, region: usize) {
        let Some((link, _)) = self.followed(region) else { return };
        let joined = self.ordinals().all(|ordinal| {
            let id = self.partition(region, ordinal);
            let leading =
                self.leader_of(region, ordinal).and_then(|index| self.nodes[index].replica(id)?.status().leading);
            leading.is_some_and(|leading| leading.joined)
        });
        if joined && self.regions[region].catalog.sinks[&link].forced {
            let database = self.regions[region].database;
            drop(self.decide(region, &Command::Joined { database, link }));
        }
    }

    // ---- promotion

    /// STOP REPLICATING, sometimes AT TIME.
    fn promote_by_order(&mut self, region: usize) {
        let Some((link, _)) = self.followed(region) else { return };
        let full =
            if self.options.has(Planted::PromoteVolatile) { self.volatile_cut(region) } else { self.cut_of(region) };
        let Some(full) = full.filter(|cut| *cut > Timestamp::ZERO) else { return };
        let at_time = self.chance(250);
        let back = if at_time { self.between(0, 60) } else { 0 };
        let cut = Timestamp(full.0.saturating_sub(Timestamp::from_millis(back).0));
        self.promote(region, link, cut, !at_time, None);
    }

    /// The smallest mark of a sink's primaries, durable or not.
    fn volatile_cut(&self, region: usize) -> Option<Timestamp> {
        let mut cut = Timestamp::MAX;
        for ordinal in self.ordinals() {
            let index = self.leader_of(region, ordinal)?;
            let status = self.nodes[index].replica(self.partition(region, ordinal))?.status();
            cut = cut.min(status.mark.ts);
        }
        Some(cut)
    }

    /// Makes a sink writable at `cut`.
    pub fn promote(&mut self, region: usize, link: LinkId, cut: Timestamp, full: bool, token: Option<u128>) -> bool {
        let (mut start_above, mut received_epoch) = (Timestamp::ZERO, 0);
        let first = self.regions[region].first_node;
        for node in &self.nodes[first..first + self.regions[region].leaves] {
            for (id, disk) in &node.disks {
                let log = node.hosted(*id).map_or(&disk.log, |hosted| &hosted.log);
                let times = log.records.iter().filter_map(|record| record.body.timestamp());
                let state = node.hosted(*id).map(|hosted| &hosted.state);
                let newest = state.map_or_else(|| disk.newest(), Memory::newest);
                let times = times.chain([newest]);
                let mark = log.summary.mark.as_ref().map(|mark| mark.ts);
                start_above = times.chain(mark).fold(start_above, Timestamp::max);
                let numbers = log.summary.lineage.entries().iter().map(|entry| entry.epoch.number);
                received_epoch = numbers.fold(received_epoch, u64::max);
            }
        }
        if self.options.has_replica(replication::Planted::StartLocal) {
            start_above = Timestamp::ZERO;
        }
        let promotions = self.term(region);
        let promotion = PromotionId(self.rng.random());
        let command = Command::Promote(Promote {
            database: self.regions[region].database,
            link,
            promotion,
            promotions: promotions.clone(),
            cut,
            nonce: self.rng.random(),
            start_above,
            received_epoch,
            token,
            copy: None,
            address: format!("region{region}"),
        });
        if !self.decide(region, &command).is_ok_and(|outcome| !outcome.already) {
            return false;
        }
        self.check_promotion(region, &promotions, cut, full, token.is_some());
        self.release_sync(region, cut);
        let list = self.term(region);
        // Where a partition went on from the end of its own log the history has losses in it that nobody can tell.
        if !self.checks.recoveries.uncut {
            self.checks.history.lists.insert(promotion, list);
        }
        if token.is_none() {
            self.checks.history.forced.insert(promotion);
        }
        self.checks.between.served.remove(&region);
        self.change_side(region);
        self.checks.promotions += 1;
        true
    }

    // ---- SYNC

    /// SYNC links of a region's database: link, and the sink's region.
    fn sync_sink(&self, region: usize) -> Option<(LinkId, usize)> {
        let held = &self.regions[region];
        let mut links = held.catalog.sources.iter().filter(|(_, link)| link.database == held.database);
        links
            .find(|(_, link)| link.mode == LinkMode::Sync && link.ended.is_none())
            .map(|(id, link)| (*id, (link.peer_cluster.0 - 1) as usize))
    }

    /// How far those that follow a region have its database, for whom it keeps what they lack.
    fn report_pins(&mut self, region: usize) {
        let links = self.sinks_of(region, |_| true);
        let promotions = self.term(region);
        for (link, sink) in links {
            let follows = self.followed(sink).is_some_and(|(_, source)| source == region);
            if follows && self.term(sink) == promotions {
                let marks = self.reported_marks(region, sink);
                let cut = if self.options.has(Planted::PinAhead) { marks.max() } else { marks.min() };
                let cut = cut.unwrap_or_default();
                drop(self.decide(region, &Command::ReportPin { link, cut, promotions: promotions.clone() }));
            }
        }
    }

    /// Links of a region's sinks that have not ended, with their regions.
    fn sinks_of(&self, region: usize, wanted: impl Fn(LinkMode) -> bool) -> Vec<(LinkId, usize)> {
        let links = self.regions[region].catalog.sources.iter();
        links
            .filter(|(_, link)| link.ended.is_none() && wanted(link.mode))
            .map(|(id, link)| (*id, (link.peer_cluster.0 - 1) as usize))
            .collect()
    }

    /// A sink that has caught up with everything acknowledged without it is waited for again.
    fn restore_sync(&mut self, region: usize) {
        let waiting = self.sinks_of(region, |mode| matches!(mode, LinkMode::Degraded { .. }));
        let promotions = self.term(region);
        for (link, sink) in waiting {
            let follows = self.followed(sink).is_some_and(|(_, source)| source == region);
            if !follows || self.term(sink) != promotions {
                continue;
            }
            let cut = self.reported_cut(region, sink);
            let acked = self.clients.txns.values().filter(|txn| txn.acked && txn.region == region);
            let above = acked.filter_map(|txn| txn.ts).max().unwrap_or_default();
            if cut >= above && cut > Timestamp::ZERO {
                drop(self.decide(region, &Command::Restore { link, above }));
            }
        }
    }

    fn toggle_sync(&mut self, region: usize) {
        let held = &self.regions[region];
        let links: Vec<(LinkId, bool)> = held
            .catalog
            .sources
            .iter()
            .filter(|(_, link)| link.ended.is_none())
            .map(|(id, link)| (*id, link.mode == LinkMode::Async))
            .collect();
        if links.is_empty() {
            return;
        }
        let one_is_sync = self.sync_sink(region);
        let (link, sync) = match one_is_sync {
            Some((link, _)) => (link, false),
            None => self.pick(&links),
        };
        drop(self.decide(region, &Command::SetSync { link, sync, on_silence: OnSilence::Block }));
    }

    /// A transaction's decision is committed: it is acknowledged when a SYNC sink's cut has reached it.
    pub(crate) fn on_decided(&mut self, region: usize, txn: TxnId, _ts: Timestamp) {
        match self.sync_sink(region) {
            None => self.acknowledge(txn, None),
            Some(_) => self.after(2 * MILLI, Event::Client(Act::Acknowledge(txn))),
        }
    }

    fn acknowledge(&mut self, txn: TxnId, to: Option<usize>) {
        if let Some(held) = self.clients.txns.get_mut(&txn) {
            (held.acked, held.synced_to) = (true, to);
            say!(self, "client has {:x} acknowledged, SYNC {to:?}", txn.0 >> 96);
        }
    }

    /// Looks whether the sink's cut has reached a transaction.
    pub(crate) fn acknowledge_synced(&mut self, txn: TxnId) {
        let Some(held) = self.clients.txns.get(&txn).cloned() else { return };
        let (Some(ts), region) = (held.ts, held.region) else { return };
        let decided = held.decided.and_then(|(epoch, _)| self.checks.history.term(held.parts[0].ordinal, epoch));
        if self.is_sink(region) || decided != Some(&self.term(region)) {
            return;
        }
        let Some((_, sink)) = self.sync_sink(region) else { return self.acknowledge(txn, None) };
        let arrived = if self.options.has(Planted::SyncOnArrival) {
            let lsn = held.decided.map_or(Lsn(u64::MAX), |(_, lsn)| lsn);
            self.reported_durable(region, sink, held.parts[0].ordinal) >= lsn
        } else {
            self.reported_cut(region, sink) >= ts
        };
        if arrived {
            self.acknowledge(txn, Some(sink));
        } else {
            self.after(5 * MILLI, Event::Client(Act::Acknowledge(txn)));
        }
    }

    // ---- fence and hand-over

    /// FLUSH TABLES WITH READ ONLY.
    pub fn begin_fence(&mut self, region: usize) {
        let fenced = &self.regions[region].catalog.databases[&self.regions[region].database].fenced;
        if self.is_sink(region) || fenced.fence != Fence::None {
            return;
        }
        let database = self.regions[region].database;
        if self.decide(region, &Command::Fence { database, holder: Holder::User }).is_ok() {
            let time = self.timestamps(region, 1);
            let positions = self.ends(region, false).unwrap_or_default();
            self.control.early.insert(region, Finals { positions, time });
        }
    }

    /// Where the logs of a region's partitions end; the final positions alone, or any.
    fn ends(&self, region: usize, finals: bool) -> Option<BTreeMap<Ordinal, Lsn>> {
        self.ordinals()
            .map(|ordinal| {
                let id = self.partition(region, ordinal);
                let index = self.leader_of(region, ordinal)?;
                let replica = self.nodes[index].replica(id)?;
                let current = replica.reign_led() == Some(self.regions[region].catalog.partitions[&id].reign);
                let end = if finals { replica.status().leading?.final_position? } else { replica.log_end().lsn };
                current.then_some((ordinal, end))
            })
            .collect()
    }

    fn is_busy(&self, region: usize, draining: types::Revision) -> bool {
        let busy = self.ordinals().any(|ordinal| {
            let id = self.partition(region, ordinal);
            let leading =
                self.leader_of(region, ordinal).and_then(|index| self.nodes[index].replica(id)?.status().leading);
            leading.is_none_or(|leading| leading.busy || !leading.serving)
        });
        busy || self.clients.stamped_before(region, draining)
    }

    /// The next step of a planned exchange.
    fn hand_over(&mut self, region: usize) {
        let held = &self.regions[region];
        let database = held.database;
        let state = &held.catalog.databases[&database];
        let (fence, finals, handover) = (state.fenced.fence, state.fenced.finals.clone(), state.handover);
        if let Some(handover) = handover {
            return self.continue_handover(region, handover, finals);
        }
        match fence {
            Fence::None => {}
            Fence::Draining(draining) => {
                if self.chance(30) {
                    drop(self.decide(region, &Command::Unfence { database, holder: Holder::User, force: false }));
                } else if !self.is_busy(region, draining) {
                    drop(self.decide(region, &Command::Seal { database, draining }));
                }
            }
            Fence::Sealed(sealed) if finals.is_none() => {
                let Some(positions) = self.ends(region, true) else { return };
                let time = self.timestamps(region, 1);
                let mut finals = Finals { positions, time };
                if self.options.has(Planted::EarlyFinal)
                    && let Some(early) = self.control.early.get(&region)
                {
                    finals.time = early.time;
                    finals.positions.extend(early.positions.clone());
                }
                drop(self.decide(region, &Command::ReportFinals { database, sealed, finals }));
            }
            Fence::Sealed(_) => {
                let links: Vec<LinkId> = (self.regions[region].catalog.sources.iter())
                    .filter(|(_, link)| link.ended.is_none())
                    .map(|(id, _)| *id)
                    .collect();
                if links.is_empty() || self.chance(30) {
                    drop(self.decide(region, &Command::Unfence { database, holder: Holder::User, force: false }));
                } else {
                    let (token, link) = (self.rng.random(), self.pick(&links));
                    drop(self.decide(region, &Command::IssueToken { database, token, link }));
                }
            }
        }
    }

    fn continue_handover(&mut self, region: usize, handover: catalog::database::Handover, finals: Option<Finals>) {
        let database = self.regions[region].database;
        let Some(link) = self.regions[region].catalog.sources.get(&handover.link) else { return };
        let target = (link.peer_cluster.0 - 1) as usize;
        if !self.in_sight(region, target) {
            if self.options.has(Planted::TakeBack) {
                drop(self.decide(region, &Command::Unfence { database, holder: Holder::User, force: true }));
            }
            return;
        }
        let there = self.regions[target].database;
        let known = self.regions[target].catalog.databases[&there].tokens.get(&handover.token).copied();
        match known {
            Some(answer) => {
                let token = handover.token;
                let answered = Command::HandoverAnswered { database, token, answer };
                drop(self.decide(region, &answered));
                if matches!(answer, HandoverAnswer::Accepted(_)) {
                    self.follow(region, target, true);
                }
            }
            None => self.offer(region, target, handover, finals),
        }
    }

    /// The sink accepts when it has everything, and refuses when it does not follow this source, or at times.
    fn offer(&mut self, region: usize, target: usize, handover: catalog::database::Handover, finals: Option<Finals>) {
        let there = self.regions[target].database;
        let Some(finals) = finals else { return };
        let follows = self.followed(target).filter(|(_, source)| *source == region).map(|(link, _)| link);
        let same = self.term(target) == self.term(region);
        let Some(link) = follows.filter(|_| same && !self.chance(40)) else {
            drop(self.decide(target, &Command::RefuseToken { database: there, token: handover.token }));
            return;
        };
        let reached = self.ordinals().all(|ordinal| {
            let id = self.partition(target, ordinal);
            let Some(index) = self.leader_of(target, ordinal) else { return false };
            let leading = self.nodes[index].replica(id).and_then(|replica| replica.status().leading);
            leading.is_some_and(|leading| leading.safe >= finals.positions[&ordinal])
        });
        if reached && self.cut_of(target).is_some_and(|cut| cut >= finals.time) {
            self.promote(target, link, finals.time, true, Some(handover.token));
        }
    }

    // ---- the end

    /// Everything heals: one writable region stays so, all others follow it.
    pub(crate) fn heal_regions(&mut self) {
        if self.regions.len() == 1 {
            return;
        }
        let writable: Vec<usize> = (0..self.regions.len()).filter(|region| !self.is_sink(*region)).collect();
        let open: Vec<usize> = writable
            .iter()
            .copied()
            .filter(|region| {
                let held = &self.regions[*region];
                held.catalog.databases[&held.database].fenced.fence == Fence::None
            })
            .collect();
        let winner = self.pick(if open.is_empty() { &writable } else { &open });
        for region in 0..self.regions.len() {
            let database = self.regions[region].database;
            if !self.is_sink(region) {
                drop(self.decide(region, &Command::Unfence { database, holder: Holder::User, force: true }));
            }
            let links: Vec<LinkId> = self.regions[region].catalog.sources.keys().copied().collect();
            for link in links {
                drop(self.decide(region, &Command::SetSync { link, sync: false, on_silence: OnSilence::Block }));
            }
        }
        say!(self, "region {winner} stays writable");
        self.control.winner = Some(winner);
        // Those that others follow turn first, so that nobody follows itself through others.
        for region in (0..self.regions.len()).filter(|region| *region != winner) {
            if !self.follow(region, winner, true) {
                let side: Side = self.regions[region].catalog.databases[&self.regions[region].database].side;
                self.fail("convergence", format!("region {region}, {side:?}, cannot follow region {winner}"));
            }
        }
    }
}
