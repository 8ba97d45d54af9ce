//! Streams between regions.

use std::collections::BTreeMap;

use replication::{Ack, Input, Message};
use types::{Lineage, LinkId, Lsn, Ordinal, PartitionId, Promotion, Timestamp, TxnId};

use crate::options::{MILLI, Scale};
use crate::world::{Local, World};

/// Sessions between a sink's primary and its source's.
#[derive(Debug, Default)]
pub struct Sessions {
    spies: BTreeMap<Ordinal, Spy>,
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

impl World {
    pub(crate) fn on_sessions(&mut self) {}
    pub(crate) fn end_sessions_of(&mut self, _index: usize) {}
    pub(crate) fn on_to_source(&mut self, _index: usize, _session: u64, _message: Message) {}
    pub(crate) fn on_to_sink(&mut self, _index: usize, _session: u64, _message: Message) {}
    pub(crate) fn to_sink(&mut self, index: usize, id: PartitionId, feed: u64, message: Message) {
        if feed == SPY {
            self.to_spy(index, id, message);
        }
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
        let message = Message::Differ { lineage: spy.lineage.clone(), end: spy.end };
        self.later(index, MILLI, Local::Session(id, Input::FromSink { feed: SPY, message }));
    }

    fn to_spy(&mut self, index: usize, id: PartitionId, message: Message) {
        let node = &self.nodes[index];
        let reign = node.replica(id).and_then(|replica| replica.reign_led()).unwrap_or_default();
        let by = (index, node.starts, reign);
        let Some(spy) = self.sessions.spies.get_mut(&id.ordinal).filter(|spy| spy.fed_by == Some(by)) else { return };
        let mut shipped = vec![];
        match message {
            Message::Resume(resume) => {
                spy.end = spy.lineage.common_point(spy.end, &resume.lineage, resume.end);
                spy.lineage.cut(spy.end);
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

    /// A record leaves the region as safe.
    fn shipped(&mut self, index: usize, id: PartitionId, name: crate::disk::Name) {
        let region = self.nodes[index].region;
        self.check_fork(index, id, name, "ships");
        self.checks.heads.entry((region, id.ordinal)).or_default().shipped.insert(name, ());
    }

    pub(crate) fn to_source(&mut self, _index: usize, _id: PartitionId, _link: LinkId, _message: Message) {}
    pub(crate) fn on_learn(&mut self, _region: usize, _link: LinkId, _promotions: Vec<Promotion>, _relay: bool) {}
    pub(crate) fn begin_install(&mut self, _index: usize, _id: PartitionId) {}
    pub(crate) fn on_install(&mut self, _index: usize, _id: PartitionId) {}
    pub(crate) fn on_control(&mut self, _region: usize) {}
    pub(crate) fn on_decided(&mut self, _region: usize, txn: TxnId, _ts: Timestamp) {
        if let Some(held) = self.clients.txns.get_mut(&txn) {
            held.acked = true;
        }
    }
    pub(crate) fn acknowledge_synced(&mut self, _txn: TxnId) {}
    pub(crate) fn heal_regions(&mut self) {}
    pub(crate) fn check_end(&mut self) {}
    pub(crate) fn first_follow(&mut self, _index: usize, create: catalog::command::CreateDatabase) -> catalog::Command {
        catalog::Command::CreateDatabase(create)
    }
}
