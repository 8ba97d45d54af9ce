//! The life of a process: start from what the disk holds, heartbeats, connections, the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use replication::{Effect, Input, Leases, Life, Probe, Recovered, Replica};
use types::{Incarnation, Lsn, PartitionId, Timestamp};

use crate::disk::LogImage;
use crate::node::{Hosted, Process, Rewind, RewindStep};
use crate::options::{MILLI, Planted, RENEW};
use crate::say;
use crate::state::Memory;
use crate::world::{Event, Local, Packet, Place, World};

impl World {
    /// A process starts, unless one runs.
    pub fn start(&mut self, index: usize) {
        let now = self.now;
        let kept = self.options.has(Planted::TornTailKept);
        let no_incarnation = self.options.has(Planted::NoIncarnation);
        let options = self.options.replica();
        let node = &mut self.nodes[index];
        if node.process.is_some() {
            return;
        }
        node.powered = true;
        node.starts += 1;
        let first = node.starts == 1;
        if first || !no_incarnation {
            node.incarnation = Incarnation(node.incarnation.0 + 1);
        }
        if std::mem::take(&mut node.power_lost) {
            node.powered_since = node.incarnation;
        }
        let me = node.member();
        // What the operating system still holds is synced before anything else.
        let written = node.journal.written;
        for op in node.journal.sync(written) {
            if let Some(disk) = node.disks.get_mut(&op.partition) {
                // A planted bug: what does not fit behind a torn batch is passed over, and the rest is believed.
                if kept && disk.log.summary.clone().apply(&op.entry).is_err() {
                    continue;
                }
                disk.take(&op.entry);
            }
        }
        node.disks.values_mut().for_each(|disk| disk.laid = None);
        node.process = Some(Process {
            me,
            leases: Leases::new(me, options, node.clock(now), first),
            hosted: BTreeMap::new(),
            paused: None,
            reports: BTreeMap::new(),
            writing: false,
            syncing: None,
            log_failed: false,
            damaged: BTreeSet::new(),
            seen: types::Revision(0),
            removed: BTreeSet::new(),
            rolled_back: BTreeSet::new(),
        });
        say!(self, "{} starts", self.label(index));
        let partitions: Vec<PartitionId> = self.nodes[index].disks.keys().copied().collect();
        for partition in partitions {
            self.find_rot(index, partition);
            let log = self.nodes[index].disks[&partition].log.clone();
            self.recover(index, partition, log);
        }
        self.later(index, 0, Local::Tick);
        let delay = self.between(5, 60);
        self.later(index, delay * MILLI, Local::Flush);
    }

    /// A replica is made of what the disk holds, and the log.
    pub(crate) fn recover(&mut self, index: usize, id: PartitionId, log: LogImage) {
        let options = self.options.replica();
        let node = &mut self.nodes[index];
        node.openings += 1;
        let disk = &node.disks[&id];
        let summary = log.summary.clone();
        let whole = !disk.rotten;
        if disk.flushed > summary.end {
            let text = format!("{} starts with state at {}, log ends at {}", node.id, disk.flushed, summary.end);
            return self.fail("cursor_order", text);
        }
        let found = Recovered {
            life: Life(node.openings),
            lineage: summary.lineage.clone(),
            end: summary.end,
            trimmed: log.trimmed(),
            applied: if whole { disk.flushed } else { Lsn::ZERO },
            promised: summary.promise.unwrap_or_default(),
            mark: summary.mark.clone().unwrap_or_default(),
            // A copy takes the place of what there was to rewind.
            intent: summary.intent.clone().filter(|_| whole).map(|intent| (intent.to, intent.lineage)),
            incomplete: !whole,
        };
        let intended = found.intent.is_some();
        let mut effects = vec![];
        let state = if whole { disk.memory() } else { Memory::default() };
        let mut replica = Replica::new(id, node.member(), options, found, &mut effects);
        let times = log.records.iter().filter_map(|record| record.body.timestamp());
        replica.receive(times.fold(state.newest(), Timestamp::max));
        let hosted = Hosted {
            replica,
            log,
            apply_to: state.applied,
            state,
            applying: false,
            notes: 0,
            notes_before: 0,
            rewind: None,
            reads: VecDeque::new(),
            timestamps: BTreeMap::new(),
            copying: None,
            held: vec![],
            copies: 0,
            leads_sink: None,
            told: None,
            sessions: BTreeMap::new(),
        };
        let process = self.nodes[index].process.as_mut().expect("it was just started");
        process.hosted.insert(id, hosted);
        if !whole {
            process.damaged.insert(id);
        }
        self.check_state(index, id);
        for effect in effects {
            match effect {
                // The intent is on disk already: the procedure goes on at its second step.
                Effect::Rewind { to, .. } if intended => self.resume_rewind(index, id, to),
                effect => self.execute(index, id, effect),
            }
        }
    }

    fn resume_rewind(&mut self, index: usize, id: PartitionId, to: Lsn) {
        say!(self, "{} {id} goes on with its rewind to {to}", self.label(index));
        let after = self.nodes[index].journal.appended;
        let hosted = self.nodes[index].hosted_mut(id).expect("it is being recovered");
        hosted.rewind = Some(Rewind { to, step: RewindStep::SetAside, after });
        self.later(index, MILLI, Local::Rewind(id));
    }

    /// A process ends. With power, the operating system keeps what was written.
    pub fn stop(&mut self, index: usize, power: bool) {
        if self.nodes[index].process.is_none() {
            return;
        }
        let journal = &self.nodes[index].journal;
        let (durable, written) = (journal.durable, journal.written);
        let torn = power.then(|| self.between(durable, written));
        self.end_process(index, torn);
    }

    /// The same; the power fails if a batch of the log is torn, behind which entry.
    pub(crate) fn end_process(&mut self, index: usize, torn: Option<u64>) {
        let power = torn.is_some();
        say!(self, "{} {}", self.label(index), if power { "loses power" } else { "is killed" });
        self.end_sessions_of(index);
        let node = &mut self.nodes[index];
        node.process = None;
        node.powered = !power;
        node.power_lost |= power;
        node.journal.kill();
        if let Some(keep) = torn {
            let kept = self.options.has(Planted::TornTailKept);
            self.nodes[index].journal.cut(keep, kept);
        } else {
            // The peers see the connection close; nobody closes it where the power failed.
            for peer in self.peers(index) {
                self.later(peer, MILLI, Local::Closed(index));
            }
        }
    }

    /// The other nodes of the region.
    pub fn peers(&self, index: usize) -> Vec<usize> {
        let region = self.nodes[index].region;
        (0..self.nodes.len()).filter(|other| *other != index && self.nodes[*other].region == region).collect()
    }

    /// The process loses its head: its log can no longer be trusted.
    pub fn halt(&mut self, index: usize) {
        self.stop(index, false);
        let delay = self.between(5, 100);
        self.after(delay * MILLI, Event::Start(index));
    }

    // ---- heartbeats

    pub(crate) fn on_tick(&mut self, index: usize) {
        let node = &self.nodes[index];
        let every = RENEW * MILLI * 1_000_000 / node.rate;
        self.later(index, every, Local::Tick);
        let now = self.nodes[index].clock(self.now);
        let process = self.nodes[index].process.as_ref().expect("only a process that runs ticks");
        let beat = process.leases.heartbeat(now);
        let obeyed = beat.revision;
        let gone = process.leases.proved_gone().collect();
        let partitions: Vec<PartitionId> = process.hosted.keys().copied().collect();
        for peer in self.peers(index) {
            self.send(Place::Node(index), Place::Node(peer), Packet::Beat(beat.clone()));
        }
        let catalog = Place::Catalog(self.nodes[index].region);
        let (from, damaged) = (self.nodes[index].member(), self.damaged(index));
        let told = self.told(index);
        self.send(Place::Node(index), catalog, Packet::Report { from, sent: now, gone, damaged, told, obeyed });
        for id in partitions {
            self.ask_timestamps(index, id);
            self.feed(index, id, Input::Tick);
            self.say_complete(index, id);
            self.spy(index, id);
        }
    }

    pub(crate) fn ask_timestamps(&mut self, index: usize, partition: PartitionId) {
        let Some(hosted) = self.nodes[index].hosted(partition) else { return };
        let wanted: Vec<(u64, u32)> = hosted.timestamps.iter().map(|(request, count)| (*request, *count)).collect();
        let (from, catalog) = (self.nodes[index].member(), Place::Catalog(self.nodes[index].region));
        for (request, count) in wanted {
            let packet = Packet::TimestampsWanted { from, partition, request, count };
            self.send(Place::Node(index), catalog, packet);
        }
    }

    // ---- connections

    pub(crate) fn on_closed(&mut self, index: usize, peer: usize) {
        let id = self.nodes[peer].id;
        let process = self.nodes[index].process.as_mut().expect("only a process that runs notices");
        if let Some(probe) = process.leases.on_closed(id) {
            self.send(Place::Node(index), Place::Node(peer), Packet::Connect(probe));
        }
    }

    /// A connection attempt arrives at a host: its process answers, or the host refuses for lack of one.
    pub(crate) fn on_connect(&mut self, index: usize, from: Place, probe: Probe) {
        let node = &self.nodes[index];
        if !node.powered || self.options.has(Planted::NoIncarnation) {
            return;
        }
        if node.process.is_some() {
            let start = node.starts;
            self.after(0, Event::Process(index, start, Local::Packet(from, Packet::Connect(probe))));
        } else {
            say!(self, "{} refuses a connection, proving {} gone", self.label(index), probe.of);
            self.send(Place::Node(index), from, Packet::Refused(probe));
        }
    }
}
