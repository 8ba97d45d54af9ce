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
//! Queues are bounded; a source's stream ends when its queue is full, for it must not have a gap; what a sink says is
//! dropped then, for it says it again. Bytes are counted as they travel, after compression.

mod follow;
mod serve;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aggregator::protocol::{Route, StreamReport};
use parking_lot::Mutex;
use replication::codec::decode_message;
use replication::{Append, Message};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use transport::frame::Kind;
use transport::quic::QuicDialler;
use transport::session::StreamReceiver;
use types::{LinkId, Lsn, Ordinal, PartitionId};

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

/// The next message of a stream; an error says why there is none. `who` is at the other end.
async fn receive(receiver: &mut StreamReceiver, who: &str) -> Result<Message, String> {
    match receiver.recv().await {
        Ok(Some(frame)) if frame.kind == MESSAGE => {
            decode_message(frame.payload).map_err(|error| format!("a message of the {who}: {error}"))
        }
        Ok(Some(frame)) => Err(format!("the {who} sends a frame of kind {}", frame.kind.code())),
        Ok(None) => Err(format!("the {who} has finished")),
        Err(error) => Err(error.to_string()),
    }
}

/// What has travelled on the streams of one partition and link since this process started.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    bytes: u64,
    records: u64,
    /// The last record counted: one that is sent again is not.
    counted: Lsn,
    /// What the sink has said that its whole in-sync set holds on disk.
    durable: Lsn,
    open: bool,
}

impl Traffic {
    /// A stream begins: it may be about another history than the one before.
    fn begin(&mut self) {
        (self.open, self.counted) = (true, Lsn::ZERO);
    }

    /// A stream has ended.
    fn end(&mut self) {
        self.open = false;
    }

    /// Counts a message that took so many bytes. One that brings records again counts for nothing.
    fn count(&mut self, message: &Message, bytes: u64) {
        match message {
            Message::Append(Append { records, .. }) => {
                let new = records.iter().filter(|record| record.lsn > self.counted).count() as u64;
                if new > 0 || records.is_empty() {
                    self.bytes += bytes;
                }
                self.records += new;
                self.counted = records.last().map_or(self.counted, |last| last.lsn.max(self.counted));
            }
            Message::Resume(_) => {
                self.counted = Lsn::ZERO;
                self.bytes += bytes;
            }
            Message::Ack(ack) => self.durable = ack.durable,
            Message::Differ { .. } => {}
        }
    }

    fn report(&self, link: LinkId) -> StreamReport {
        let Traffic { bytes, records, counted: shipped, durable, open } = *self;
        StreamReport { link, bytes, records, shipped, durable, open }
    }
}

/// What waits to be sent to a sink, and what ends its stream when that is too much.
type SinkQueue = (mpsc::Sender<Message>, CancellationToken);

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
    sinks: Mutex<HashMap<u64, SinkQueue>>,
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
        if let Some((queue, full)) = self.inner.sinks.lock().get(&feed)
            && queue.try_send(message).is_err()
        {
            // A gap: the stream ends, and the next one begins with a comparison.
            full.cancel();
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
