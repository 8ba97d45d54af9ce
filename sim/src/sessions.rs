//! Streams between regions: one session between the primaries of a partition in a sink and its source. It keeps the
//! order, and ends with either process, with the link, or when the regions lose sight of each other.

use std::collections::BTreeMap;

use catalog::database::Side;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use replication::{Ack, Input, Message};
use types::{Lineage, LinkId, Lsn, Ordinal, PartitionId, Timestamp};

use crate::checks::no_fork;
use crate::options::{MILLI, Scale};
use crate::say;
use crate::world::{Event, Local, Packet, Place, World};

/// Sessions between a sink's primary and its source's.
#[derive(Debug, Default)]
pub struct Sessions {
    spies: BTreeMap<Ordinal, Spy>,
    open: BTreeMap<u64, Session>,
    last: u64,
    /// Until then the streams of a partition carry nothing, and keep what they were given.
    pub stalled: BTreeMap<Ordinal, u64>,
}

/// One session. Ends are a node and which of its processes.
#[derive(Debug)]
struct Session {
    number: u64,
    /// The sink's region.
    region: usize,
    ordinal: Ordinal,
    link: LinkId,
    sink: (usize, u64),
    source: (usize, u64),
    /// When the last message arrives, to the source and to the sink.
    arrivals: [u64; 2],
}

/// Where there is one region, somebody outside takes what is shipped: nothing of it may be lost later.
#[derive(Debug, Default)]
struct Spy {
    lineage: Lineage,
    end: Lsn,
    /// The node, start and reign that feed it.
    fed_by: Option<(usize, u64, types::Reign)>,
    joined: bool,
}

/// The number of a spy's session.
const SPY: u64 = 0;

/// A link, and the processes that are to hold it: node and start, of the sink and of the source.
type Wanted = (LinkId, (usize, u64), (usize, u64));

impl Session {
    fn is(&self, want: &Wanted) -> bool {
        (self.link, self.sink, self.source) == *want
    }

    /// A session keeps the order, in each direction.
    fn next_arrival(&mut self, now: u64, to_sink: bool, stalled: &BTreeMap<Ordinal, u64>, rng: &mut ChaCha8Rng) -> u64 {
        let stalled = stalled.get(&self.ordinal).copied().unwrap_or_default();
        let at = &mut self.arrivals[usize::from(to_sink)];
        *at = (*at).max(now + rng.random_range(2..=12) * MILLI).max(stalled);
        *at
    }
}

impl World {
    pub(crate) fn deliver_to_sink(&mut self, index: usize, id: PartitionId, feed: u64, message: Message) {
        if matches!(message, Message::Resume(_)) {
            self.check_comparison(index, id);
        }
        if feed == SPY {
            return self.deliver_to_spy(index, id, message);
        }
        self.check_shipment(index, id, &message);
        let Sessions { open, stalled, .. } = &mut self.sessions;
        let Some(session) = open.get_mut(&feed).filter(|session| session.source.0 == index) else { return };
        let (to, at) = (session.sink.0, session.next_arrival(self.now, true, stalled, &mut self.rng));
        say!(self, "{} {id} to sink {}: {message}", self.label(index), self.label(to));
        let packet = Packet::ToSink { session: feed, message };
        self.after(at - self.now, Event::Arrive(Place::Node(index), Place::Node(to), packet));
    }

    /// The sink says something to its source's primary.
    pub(crate) fn deliver_to_source(&mut self, index: usize, id: PartitionId, link: LinkId, message: Message) {
        let mine =
            |session: &&mut Session| session.sink.0 == index && session.link == link && session.ordinal == id.ordinal;
        let Sessions { open, stalled, .. } = &mut self.sessions;
        let Some(session) = open.values_mut().find(mine) else { return };
        let (number, to) = (session.number, session.source.0);
        let at = session.next_arrival(self.now, false, stalled, &mut self.rng);
        say!(self, "{} {id} to source {}: {message}", self.label(index), self.label(to));
        let packet = Packet::ToSource { session: number, message };
        self.after(at - self.now, Event::Arrive(Place::Node(index), Place::Node(to), packet));
    }

    pub(crate) fn on_to_source(&mut self, index: usize, number: u64, message: Message) {
        let Some(session) = self.sessions.open.get(&number) else { return };
        if session.source == (index, self.nodes[index].starts) {
            let id = self.partition(self.nodes[index].region, session.ordinal);
            self.feed(index, id, Input::FromSink { feed: number, message });
        }
    }

    pub(crate) fn on_to_sink(&mut self, index: usize, number: u64, message: Message) {
        let Some(session) = self.sessions.open.get(&number) else { return };
        if session.sink == (index, self.nodes[index].starts) {
            let (link, id) = (session.link, self.partition(self.nodes[index].region, session.ordinal));
            self.feed(index, id, Input::FromSource { link, message });
        }
    }

    /// A partition in a region.
    pub fn partition(&self, region: usize, ordinal: Ordinal) -> PartitionId {
        PartitionId { database: self.regions[region].database, ordinal }
    }

    /// The node that leads a partition of a region, as far as anybody can tell: the highest reign.
    pub fn leader_of(&self, region: usize, ordinal: Ordinal) -> Option<usize> {
        let id = self.partition(region, ordinal);
        let held = &self.regions[region];
        (held.first_node..held.first_node + held.leaves)
            .filter_map(|index| Some((self.nodes[index].replica(id)?.reign_led()?, index)))
            .max()
            .map(|(_, index)| index)
    }

    /// The node of a source that leads a partition, if it is in sight of a region that follows it by this link.
    pub(crate) fn source_of(&self, region: usize, ordinal: Ordinal, link: LinkId) -> Option<usize> {
        let (_, source) = self.followed(region).filter(|(known, _)| *known == link)?;
        self.leader_of(source, ordinal).filter(|_| !self.is_severed(region))
    }

    /// Whether a region follows another, and does not see it.
    pub(crate) fn is_severed(&self, region: usize) -> bool {
        let source = self.followed(region).map(|(_, source)| source);
        source.is_some_and(|source| self.severed.contains(&(region.min(source), region.max(source))))
    }

    /// Sessions that should be are opened, others end.
    pub(crate) fn on_sessions(&mut self) {
        self.after(10 * MILLI, Event::Sessions);
        let mut wanted: BTreeMap<(usize, Ordinal), Wanted> = BTreeMap::new();
        for region in 0..self.regions.len() {
            let Some((link, source)) = self.followed(region) else { continue };
            if self.is_severed(region) {
                continue;
            }
            for ordinal in self.ordinals() {
                let (sink, from) = (self.leader_of(region, ordinal), self.leader_of(source, ordinal));
                if let (Some(sink), Some(from)) = (sink, from) {
                    let ends = ((sink, self.nodes[sink].starts), (from, self.nodes[from].starts));
                    wanted.insert((region, ordinal), (link, ends.0, ends.1));
                }
            }
        }
        let same =
            |session: &Session| wanted.get(&(session.region, session.ordinal)).is_some_and(|want| session.is(want));
        let over: Vec<u64> = self.sessions.open.values().filter(|s| !same(s)).map(|s| s.number).collect();
        over.into_iter().for_each(|number| self.end_session(number));
        for ((region, ordinal), want) in wanted {
            if !self.sessions.open.values().any(|session| session.region == region && session.ordinal == ordinal) {
                self.open_session(region, ordinal, want);
            }
        }
    }

    /// Whom a region's database follows: link and region.
    pub fn followed(&self, region: usize) -> Option<(LinkId, usize)> {
        let held = &self.regions[region];
        let Side::Sink { link } = held.catalog.databases.get(&held.database)?.side else { return None };
        let link_held = &held.catalog.sinks[&link];
        let source = (link_held.source_cluster.0 - 1) as usize;
        (link_held.broken.is_none() && !link_held.paused).then_some((link, source))
    }

    fn open_session(&mut self, region: usize, ordinal: Ordinal, want: Wanted) {
        self.sessions.last += 1;
        let number = self.sessions.last;
        let (link, sink, source) = want;
        let session = Session { number, region, ordinal, link, sink, source, arrivals: [self.now; 2] };
        self.sessions.open.insert(number, session);
        let id = self.partition(region, ordinal);
        self.later(sink.0, 2 * MILLI, Local::Session(id, Input::SourceUp { link }));
    }

    fn end_session(&mut self, number: u64) {
        let Some(session) = self.sessions.open.remove(&number) else { return };
        let Session { region, ordinal, link, sink, source, .. } = session;
        let down = Local::Session(self.partition(region, ordinal), Input::SourceDown { link });
        self.after(MILLI, Event::Process(sink.0, sink.1, down));
        let id = self.partition(self.nodes[source.0].region, ordinal);
        let gone = Local::Session(id, Input::SinkGone { feed: number });
        self.after(MILLI, Event::Process(source.0, source.1, gone));
    }

    pub(crate) fn end_sessions_of(&mut self, index: usize) {
        let of = |session: &&Session| session.sink.0 == index || session.source.0 == index;
        let over: Vec<u64> = self.sessions.open.values().filter(of).map(|session| session.number).collect();
        over.into_iter().for_each(|number| self.end_session(number));
    }

    /// What the primary of a source was told of by a sink region, over all partitions: the smallest durable cut there.
    pub fn reported_cut(&self, source: usize, sink: usize) -> Timestamp {
        self.reported_marks(source, sink).min().unwrap_or_default()
    }

    /// The durable cut of each partition in a sink region, as its source was told; none without a stream.
    pub fn reported_marks(&self, source: usize, sink: usize) -> impl Iterator<Item = Timestamp> {
        self.ordinals().map(move |ordinal| {
            let mine = |session: &&Session| session.region == sink && session.ordinal == ordinal;
            let session = self.sessions.open.values().find(mine);
            let session = session.filter(|session| self.nodes[session.source.0].region == source);
            let ack = session.and_then(|session| {
                let id = self.partition(source, ordinal);
                self.nodes[session.source.0].replica(id)?.sink_ack(session.number)
            });
            ack.map_or(Timestamp::ZERO, |ack| ack.mark)
        })
    }

    /// How far a sink region has a partition on disk, as its source was told.
    pub fn reported_durable(&self, source: usize, sink: usize, ordinal: Ordinal) -> Lsn {
        let mine = |session: &&Session| session.region == sink && session.ordinal == ordinal;
        let session = self.sessions.open.values().find(mine);
        session
            .and_then(|session| {
                let id = self.partition(source, ordinal);
                self.nodes[session.source.0].replica(id)?.sink_ack(session.number)
            })
            .map_or(Lsn::ZERO, |ack| ack.durable)
    }

    /// The spy asks whoever leads.
    pub(crate) fn spy(&mut self, index: usize, id: PartitionId) {
        let node = &self.nodes[index];
        let Some(hosted) = node.hosted(id).filter(|hosted| hosted.replica.mints().is_some()) else { return };
        let Some(reign) = hosted.replica.reign_led().filter(|_| self.options.scale == Scale::Region) else { return };
        let by = (index, node.starts, reign);
        let spy = self.sessions.spies.entry(id.ordinal).or_default();
        if spy.fed_by.is_some_and(|(_, _, known)| known > reign) || spy.fed_by == Some(by) && spy.joined {
            return;
        }
        spy.fed_by = Some(by);
        spy.joined = false;
        let message = Message::Differ { lineage: spy.lineage.clone(), end: spy.end, trimmed: Lsn::ZERO };
        self.later(index, MILLI, Local::Session(id, Input::FromSink { feed: SPY, message }));
    }

    fn deliver_to_spy(&mut self, index: usize, id: PartitionId, message: Message) {
        let node = &self.nodes[index];
        let reign = node.replica(id).and_then(|replica| replica.reign_led()).unwrap_or_default();
        let by = (index, node.starts, reign);
        let Some(spy) = self.sessions.spies.get_mut(&id.ordinal).filter(|spy| spy.fed_by == Some(by)) else { return };
        let mut shipped = vec![];
        match message {
            Message::Resume(resume) => {
                spy.end = spy.lineage.common_point(spy.end, &resume.lineage, resume.end);
                spy.lineage.cut(spy.end);
                if spy.end < resume.trimmed {
                    // It takes a copy, of what is safe. A log may be trimmed above that: then it asks again.
                    if resume.trimmed > resume.end {
                        return;
                    }
                    spy.lineage = resume.lineage;
                    spy.lineage.cut(resume.trimmed);
                    for lsn in (spy.end.0 + 1..=resume.trimmed.0).map(Lsn) {
                        shipped.push((spy.lineage.epoch_at(lsn).expect("a record has an epoch"), lsn));
                    }
                    spy.end = resume.trimmed;
                }
                spy.joined = true;
            }
            Message::Append(append) if spy.joined => {
                for record in append.records {
                    if record.lsn != spy.end.next() {
                        continue;
                    }
                    spy.end = record.lsn;
                    record.lineage_entry().into_iter().for_each(|entry| spy.lineage.push(entry));
                    shipped.push((record.epoch, record.lsn));
                }
            }
            _ => return,
        }
        let ack = Ack { matched: spy.end, position: spy.end, durable: spy.end, mark: Timestamp::ZERO };
        for name in shipped {
            self.shipped(index, id, name);
        }
        self.later(index, MILLI, Local::Session(id, Input::FromSink { feed: SPY, message: Message::Ack(ack) }));
    }

    fn check_comparison(&mut self, index: usize, id: PartitionId) {
        let node = &self.nodes[index];
        let Some(epoch) = node.replica(id).and_then(|replica| replica.mints()) else { return };
        let head = self.checks.heads.entry((node.region, id.ordinal)).or_default();
        let result = no_fork::check_comparison(head, id, epoch.number);
        self.judge(no_fork::NAME, result);
    }

    /// A record leaves the region as safe.
    pub(crate) fn shipped(&mut self, index: usize, id: PartitionId, name: crate::disk::Name) {
        let region = self.nodes[index].region;
        self.check_fork(index, id, name, no_fork::Deed::Ships);
        let server = self.nodes[index].replica(id).and_then(|replica| replica.mints());
        let head = self.checks.heads.entry((region, id.ordinal)).or_default();
        // What a primary of an earlier life still ships is expected of nobody, as what it shipped then.
        if server.is_none_or(|epoch| epoch.number > head.life) {
            head.shipped.insert(name, ());
        }
    }
}
