//! Streams between regions: the primary of a source's partition feeds the primary of a sink's, leaf to leaf, over QUIC.
//!
//! - `serve` a source's side: sessions are accepted, each stream proves its link's token and feeds one partition
//! - `follow` a sink's side: one session per leaf of the source, one stream per partition that is led here
//!
//! A stream begins with OPEN (link, token, ordinal) and its answer, OPENED or REFUSED; then messages of the protocol go
//! both ways. One that begins with COPY, which says the same, carries a copy of the state instead (`leaf::copy`). A stream
//! of messages lives in one reign of each side: when the sink's primary or the source's is another, the stream ends and
//! a new one is opened. So a primary that was replaced and does not know it feeds nobody and takes nothing.
//!
//! Queues are bounded; a message that finds its queue full is dropped, as with a cut connection: the protocol sends it
//! again. Bytes are counted as they travel, after compression.

mod follow;
mod serve;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aggregator::protocol::{Route, StreamReport};
use parking_lot::Mutex;
use replication::Message;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use transport::frame::Kind;
use transport::quic::QuicDialler;
use types::{LinkId, Ordinal, PartitionId};

use self::follow::{Following, Sessions};
use super::peers::Partitions;
use super::rules::Rules;

/// Messages that wait to be sent on one stream.
const QUEUE_MAX: usize = 1024;

const OPEN: Kind = Kind::message(1);
const OPENED: Kind = Kind::message(2);
const REFUSED: Kind = Kind::message(3);
const COPY: Kind = Kind::message(4);
const MESSAGE: Kind = Kind::bulk(1);

/// The first frame of a stream.
#[derive(Debug, Serialize, Deserialize)]
struct Open {
    link: LinkId,
    /// What the source gave with the link.
    token: Vec<u8>,
    ordinal: Ordinal,
}

/// What has travelled on the streams of one partition and link since this process started.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    bytes: u64,
    records: u64,
    /// The last record counted: one that is sent again is not.
    counted: types::Lsn,
    /// What the sink has said that its whole in-sync set holds on disk.
    durable: types::Lsn,
    open: bool,
}

impl Traffic {
    fn count(&mut self, message: &Message) {
        if let Message::Append(append) = message {
            self.records += append.records.iter().filter(|record| record.lsn > self.counted).count() as u64;
            self.counted = append.records.last().map_or(self.counted, |last| last.lsn.max(self.counted));
        }
        if let Message::Ack(ack) = message {
            self.durable = ack.durable;
        }
    }

    fn report(&self, link: LinkId) -> StreamReport {
        let Traffic { bytes, records, counted: shipped, durable, open } = *self;
        StreamReport { link, bytes, records, shipped, durable, open }
    }
}

/// All streams of a leaf to and from other regions. Cheap to clone.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    partitions: Partitions,
    rules: Arc<Rules>,
    sessions: Sessions,
    /// As the last order said.
    routes: Mutex<Vec<Route>>,
    feeds: AtomicU64,
    sinks: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
    following: Mutex<HashMap<PartitionId, Following>>,
    sent: Mutex<BTreeMap<(PartitionId, LinkId), Traffic>>,
    received: Mutex<BTreeMap<(PartitionId, LinkId), Traffic>>,
}

impl Links {
    /// Nobody follows and nobody is followed yet.
    pub fn new(dialler: QuicDialler, partitions: Partitions, rules: Arc<Rules>) -> Links {
        Links {
            inner: Arc::new(Inner {
                partitions,
                rules,
                sessions: Sessions::new(dialler),
                routes: Mutex::default(),
                feeds: AtomicU64::new(1),
                sinks: Mutex::default(),
                following: Mutex::default(),
                sent: Mutex::default(),
                received: Mutex::default(),
            }),
        }
    }

    /// Sends to a sink, if its stream is open and has room.
    pub fn to_sink(&self, feed: u64, message: Message) {
        if let Some(queue) = self.inner.sinks.lock().get(&feed) {
            // Full or gone: the protocol repeats what matters.
            let _ = queue.try_send(message);
        }
    }

    /// Sends to the source of a partition, if its stream is open and has room.
    pub fn to_source(&self, partition: PartitionId, link: LinkId, message: Message) {
        if let Some(following) = self.inner.following.lock().get(&partition) {
            following.send(link, message);
        }
    }

    /// What was received for a partition, and what was sent of it.
    pub fn reports(&self, partition: PartitionId) -> (Vec<StreamReport>, Vec<StreamReport>) {
        let of = |traffic: &Mutex<BTreeMap<(PartitionId, LinkId), Traffic>>| {
            let traffic = traffic.lock();
            let mine = traffic.range((partition, LinkId(0))..=(partition, LinkId(u128::MAX)));
            mine.map(|((_, link), traffic)| traffic.report(*link)).collect()
        };
        (of(&self.inner.received), of(&self.inner.sent))
    }
}
