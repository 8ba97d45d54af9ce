//! Copies of state between replicas, as their hosts make them.
//!
//! - Only a primary that serves, and holds every member's lease, is copied from, and only what is safe; in a region it gives
//!   nothing to whom it waits for.
//! - The copy is laid beside the old state. What the old one holds and the copy does not is set aside; then the entry
//!   `Installed`, synced, is the moment at which the copy takes its place.
//! - At the primary of a sink the catalog knows first that the state is incomplete, and last that it is complete.
//! - One job for each replica tries until it has a copy, from whoever is said to have one.

use catalog::Command;
use replication::Input;
use types::entry::Entry;
use types::{Lineage, LinkId, Lsn, Member, PartitionId, Reign, SetVersion};

use crate::disk::Aside;
use crate::options::{MILLI, Planted};
use crate::say;
use crate::state::Memory;
use crate::world::{Event, Local, Place, World};

/// Who has the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The primary of the region.
    Primary(Member),
    /// The primary of the source.
    Source(LinkId),
}

/// A job that gets a replica its copy.
#[derive(Clone, Debug)]
pub struct Copying {
    origin: Origin,
    /// Names the events of this job.
    number: u64,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Asking,
    /// It is on its way, once it is safe where it comes from.
    Coming {
        offer: Box<Offer>,
        arrives: Option<u64>,
    },
    /// The entry of the journal with this number makes it the replica.
    Taking {
        copy: Box<Copy>,
        after: u64,
    },
}

/// State and lineage at one position.
#[derive(Clone, Debug)]
struct Copy {
    state: Memory,
    lineage: Lineage,
}

/// A copy that somebody gives.
#[derive(Clone, Debug)]
struct Offer {
    copy: Copy,
    from: usize,
    start: u64,
    stream: (Reign, u32),
}

/// What the catalog is told of a sink's primary: in which reign, by which version of the set, and whether its state is
/// incomplete.
pub type Word = (Reign, SetVersion, bool);

impl Copying {
    /// Whether the log has its last entry from the copy, and the replica does not know yet.
    pub fn is_taken(&self) -> bool {
        matches!(self.stage, Stage::Taking { .. })
    }

    fn is_from_link(&self) -> bool {
        matches!(self.origin, Origin::Source(_))
    }
}

impl World {
    /// A replica wants a copy, or wants it of another one.
    pub(crate) fn begin_copy(&mut self, index: usize, id: PartitionId, origin: Origin, common: Lsn) {
        say!(self, "{} {id} wants a copy from {origin:?}, common point {common}", self.label(index));
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        match &mut hosted.copying {
            Some(copying) => (copying.origin, copying.stage) = (origin, Stage::Asking),
            None => {
                hosted.copies += 1;
                let number = hosted.copies;
                hosted.copying = Some(Copying { origin, number, stage: Stage::Asking });
                self.later(index, MILLI, Local::Copy(id, number));
            }
        }
    }

    /// The next step of a job.
    pub(crate) fn on_copy(&mut self, index: usize, id: PartitionId, number: u64) {
        let Some(copying) = self.nodes[index].hosted(id).and_then(|hosted| hosted.copying.clone()) else { return };
        if copying.number != number {
            return;
        }
        match copying.stage {
            Stage::Taking { .. } => return,
            Stage::Asking => {
                self.ask_copy(index, id, copying.origin);
                if let Some(offer) = self.offer_copy(index, id, copying.origin) {
                    self.set_stage(index, id, Stage::Coming { offer: Box::new(offer), arrives: None });
                }
            }
            Stage::Coming { offer, arrives } => self.carry(index, id, copying.origin, offer, arrives),
        }
        let delay = self.pick(&[2, 5, 20]);
        self.later(index, delay * MILLI, Local::Copy(id, number));
    }

    fn set_stage(&mut self, index: usize, id: PartitionId, stage: Stage) {
        if let Some(copying) = self.nodes[index].hosted_mut(id).and_then(|hosted| hosted.copying.as_mut()) {
            copying.stage = stage;
        }
    }

    /// A copy that is under way: until it is safe where it comes from, then until it has come.
    fn carry(&mut self, index: usize, id: PartitionId, origin: Origin, offer: Box<Offer>, arrives: Option<u64>) {
        let same = self.giver(index, id, origin) == Some(offer.from) && self.nodes[offer.from].starts == offer.start;
        if !same {
            return self.set_stage(index, id, Stage::Asking);
        }
        let Some(arrives) = arrives else {
            let there = self.partition(self.nodes[offer.from].region, id.ordinal);
            // Another reign, or another turn of its log: what was exported may be another history.
            if self.gives(offer.from, there) != Some(offer.stream) || !self.may_have(index, id, offer.from) {
                return self.set_stage(index, id, Stage::Asking);
            }
            let safe = self.nodes[offer.from].replica(there).and_then(|replica| replica.status().leading);
            if safe.is_some_and(|leading| leading.safe >= offer.copy.state.applied) {
                self.ship_copy(index, id, &offer);
                let arrives = Some(self.now + self.between(1, 120) * MILLI);
                self.set_stage(index, id, Stage::Coming { offer, arrives });
            }
            return;
        };
        if self.now >= arrives {
            self.take_over(index, id, offer.copy);
        }
    }

    /// The node that a copy is to come from, if it is reached.
    fn giver(&self, index: usize, id: PartitionId, origin: Origin) -> Option<usize> {
        match origin {
            Origin::Primary(member) => {
                let node = self.node_of(self.nodes[index].region, member.node);
                let is_there = self.nodes[node].member() == member && self.nodes[node].is_awake();
                (is_there && self.carries(Place::Node(index), Place::Node(node))).then_some(node)
            }
            Origin::Source(link) => {
                let node = self.source_of(self.nodes[index].region, id.ordinal, link)?;
                self.nodes[node].is_awake().then_some(node)
            }
        }
    }

    /// The reign and turn in which a replica may be copied from.
    fn gives(&self, index: usize, id: PartitionId) -> Option<(Reign, u32)> {
        let process = self.nodes[index].process.as_ref()?;
        let replica = &process.hosted.get(&id)?.replica;
        let leading = replica.status().leading?;
        let may = leading.serving && leading.joined && replica.may_read(self.clock(index), &process.leases);
        may.then(|| Some((replica.reign_led()?, leading.turn)))?
    }

    /// Whether the one that it asks gives it a copy: in its own region not to whom it waits for.
    fn may_have(&self, index: usize, id: PartitionId, from: usize) -> bool {
        let other_region = self.nodes[index].region != self.nodes[from].region;
        other_region || self.nodes[from].replica(id).is_some_and(|replica| replica.gives_to(self.nodes[index].id))
    }

    /// The question for a copy reaches the primary's replica before anything is given.
    fn ask_copy(&mut self, index: usize, id: PartitionId, origin: Origin) {
        let Some(from) = self.giver(index, id, origin).filter(|_| matches!(origin, Origin::Primary(_))) else { return };
        let Some(replica) = self.nodes[index].replica(id) else { return };
        let (by, life) = (replica.member(), replica.life());
        self.feed(from, id, Input::CopyAsked { by, life });
    }

    fn offer_copy(&self, index: usize, id: PartitionId, origin: Origin) -> Option<Offer> {
        let hosted = self.nodes[index].hosted(id)?;
        if matches!(origin, Origin::Source(_)) && hosted.told.is_none_or(|(_, _, incomplete)| !incomplete) {
            return None;
        }
        let from = self.giver(index, id, origin)?;
        let there = self.partition(self.nodes[from].region, id.ordinal);
        let stream = self.gives(from, there).filter(|_| self.may_have(index, id, from))?;
        let given = self.nodes[from].hosted(there)?;
        let state = given.state.clone();
        let lineage = state.lineage(&given.log.summary.lineage);
        Some(Offer { copy: Copy { state, lineage }, from, start: self.nodes[from].starts, stream })
    }

    /// What a copy holds leaves its replica as safe, and from here on it is expected to survive.
    fn ship_copy(&mut self, index: usize, id: PartitionId, offer: &Offer) {
        let (from, copy) = (offer.from, &offer.copy);
        let there = self.partition(self.nodes[from].region, id.ordinal);
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let has = hosted.log.summary.lineage.common_point(hosted.log.end(), &copy.lineage, copy.state.applied);
        if self.nodes[from].replica(there).is_some_and(|replica| replica.mints().is_some()) {
            for lsn in (has.0 + 1..=copy.state.applied.0).map(Lsn) {
                let epoch = copy.lineage.epoch_at(lsn).expect("a record has an epoch");
                self.shipped(from, there, (epoch, lsn));
            }
        }
    }

    /// Log and state become the copy, when the entry is on disk.
    fn take_over(&mut self, index: usize, id: PartitionId, copy: Copy) {
        let end = copy.state.applied;
        if self.nodes[index].replica(id).is_some_and(|replica| !replica.takes(&copy.lineage, end)) {
            say!(self, "{} {id} does not take a copy at {end}", self.label(index));
            self.nodes[index].hosted_mut(id).expect("it was there above").copying = None;
            return self.feed(index, id, Input::CopyUnfit);
        }
        say!(self, "{} {id} takes over a copy at {end}", self.label(index));
        let intended = self.nodes[index].hosted(id).is_some_and(|hosted| hosted.log.summary.intent.is_some());
        self.set_aside_replaced(index, id, &copy);
        self.nodes[index].disks.entry(id).or_default().laid = Some(copy.state.clone());
        if intended {
            self.append_entry(index, id, Entry::IntentCleared);
        }
        self.append_entry(index, id, Entry::Installed { trimmed: end, lineage: copy.lineage.clone() });
        let after = self.nodes[index].journal.appended;
        self.set_stage(index, id, Stage::Taking { copy: Box::new(copy), after });
    }

    /// The divergence file of a replica that a copy replaces: what it holds above the point up to which they are one. Its
    /// log may be trimmed above that, so that the state is asked, too.
    fn set_aside_replaced(&mut self, index: usize, id: PartitionId, copy: &Copy) {
        let Some(hosted) = self.nodes[index].hosted(id).filter(|_| !self.nodes[index].disks[&id].rotten) else {
            return;
        };
        let summary = &hosted.log.summary;
        let common = summary.lineage.common_point(summary.end, &copy.lineage, copy.state.applied);
        let old = hosted.state.held_above(common);
        let aside: Vec<Aside> = old.into_iter().map(|txn| Aside { txn, ordinal: id.ordinal }).collect();
        self.set_aside_undone(index, id, common);
        self.nodes[index].disks.entry(id).or_default().aside.extend(aside);
    }

    /// The journal is synced further: perhaps a copy is the replica now.
    pub(crate) fn advance_copy(&mut self, index: usize, id: PartitionId) {
        let durable = self.nodes[index].journal.durable;
        let Some(hosted) = self.nodes[index].hosted_mut(id) else { return };
        let Some(Copying { stage: Stage::Taking { copy, after }, .. }) = &hosted.copying else { return };
        if *after > durable {
            return;
        }
        let Copy { state, lineage } = copy.as_ref().clone();
        let end = state.applied;
        hosted.copying = None;
        hosted.reads.clear();
        hosted.apply_to = end;
        hosted.replica.receive(state.newest());
        hosted.state = state;
        say!(self, "{} {id} is a copy at {end}", self.label(index));
        self.check_state(index, id);
        let held = std::mem::take(&mut self.nodes[index].hosted_mut(id).expect("it was there above").held);
        self.feed(index, id, Input::Installed { lineage, end });
        held.into_iter().for_each(|input| self.feed(index, id, input));
    }

    /// The copy is not wanted any more.
    pub(crate) fn stop_copy(&mut self, index: usize, id: PartitionId) {
        say!(self, "{} {id} wants no copy any more", self.label(index));
        if let Some(hosted) = self.nodes[index].hosted_mut(id) {
            hosted.copying = None;
        }
    }

    // ---- the catalog's knowledge

    /// The primary of a sink tells the catalog whether its state is complete, one word after the other, and again with each
    /// version of its set.
    pub(crate) fn say_complete(&mut self, index: usize, id: PartitionId) {
        let Some(hosted) = self.nodes[index].hosted(id) else { return };
        let from_link = hosted.copying.as_ref().is_some_and(Copying::is_from_link);
        let whole = hosted.replica.reign_led().is_some() && hosted.copying.is_none() && hosted.rewind.is_none();
        let (Some((reign, version)), true) = (hosted.leads_sink, from_link || whole) else { return };
        let version = if self.options.has(Planted::WordOnce) { SetVersion::default() } else { version };
        let (word, told) = ((reign, version, from_link), hosted.told);
        let region = self.nodes[index].region;
        let carried = self.carries(Place::Node(index), Place::Catalog(region));
        let reached = carried && !self.chance(self.options.lossy);
        if told == Some(word) {
            return;
        }
        // Until this is answered nobody knows what the catalog knows, and no copy of a source is begun.
        self.nodes[index].hosted_mut(id).expect("it was there above").told = None;
        if !reached {
            // What is thought lost may only be late.
            if carried {
                let late = 20 + self.now / MILLI % 300;
                self.after(late * MILLI, Event::Word(region, id, reign, from_link));
            }
            return;
        }
        let taken = self.decide(region, &Command::MarkIncomplete { partition: id, reign, incomplete: from_link });
        // The answer may be lost: then it is said again.
        if taken.is_ok() && !self.chance(self.options.lossy) {
            let hosted = self.nodes[index].hosted_mut(id).expect("it was there above");
            hosted.told = Some(word);
        }
    }

    /// A word that was under way for long.
    pub(crate) fn on_late_word(&mut self, region: usize, partition: PartitionId, reign: Reign, incomplete: bool) {
        if self.regions[region].reachable {
            drop(self.decide(region, &Command::MarkIncomplete { partition, reign, incomplete }));
        }
    }
}
