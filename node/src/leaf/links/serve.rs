//! A source's side: feeds the sinks that may follow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aggregator::dr::token_hash;
use replication::codec::encode_message;
use replication::{Input, Message};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use transport::codec::decode;
use transport::frame::Frame;
use transport::session::{Control, Session, Stream, StreamSender};
use types::{LinkId, PartitionId, Reign};

use super::{COPY, Inner, Links, MESSAGE, OPEN, OPENED, Open, QUEUE_MAX, REFUSED, receive};
use crate::leaf::copy::{self, Copies};
use crate::leaf::partition::{Event, PartitionHandle};

/// How long a peer may take to say what it wants.
const OPEN_TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether a link may still be served.
const LOOK: Duration = Duration::from_millis(500);

/// A stream that was admitted.
struct Admitted {
    partition: PartitionId,
    link: LinkId,
    hash: [u8; 32],
    handle: PartitionHandle,
    reign: Reign,
}

impl Links {
    /// Serves a session of another region until it ends.
    pub async fn serve(&self, session: Session, copies: &Copies) {
        let (control, mut incoming, _main, _words) = session.split();
        let peer = control.peer().clone();
        tracing::info!(%peer, "a sink's leaf has dialled");
        loop {
            match incoming.accept().await {
                Ok(stream) => {
                    let (inner, control, copies) = (self.inner.clone(), control.clone(), copies.clone());
                    tokio::spawn(async move { inner.serve_stream(control, stream, copies).await });
                }
                Err(reason) => {
                    tracing::info!(%peer, %reason, "a sink's leaf has gone");
                    return;
                }
            }
        }
    }
}

impl Inner {
    async fn serve_stream(self: Arc<Inner>, control: Control, mut stream: Stream, copies: Copies) {
        let first = timeout(OPEN_TIME, stream.receiver.recv()).await;
        let Ok(Ok(Some(first))) = first else { return };
        let admitted = match self.admit(&first) {
            Ok(admitted) => admitted,
            Err(reason) => {
                tracing::info!(peer = %control.peer(), reason, "a stream is refused");
                // A peer that has gone does not want to know.
                let _ = stream.sender.send(Frame::new(REFUSED, reason.into_bytes())).await;
                return stream.sender.finish();
            }
        };
        control.trust_peer();
        if stream.sender.send(Frame::new(OPENED, vec![])).await.is_err() {
            return;
        }
        if first.kind == COPY {
            return self.give_copy(&admitted, &mut stream, &copies).await;
        }
        let feed = self.feeds.fetch_add(1, Ordering::Relaxed);
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let full = CancellationToken::new();
        self.sinks.lock().insert(feed, (queue, full.clone()));
        let key = (admitted.partition, admitted.link);
        self.sent.lock().entry(key).or_default().begin();
        let writer = tokio::spawn(self.clone().write(key, stream.sender.clone(), waiting));
        let reason = tokio::select! {
            reason = self.read(&admitted, feed, &mut stream) => reason,
            () = full.cancelled() => "the sink does not read as fast as it is sent to".into(),
        };
        tracing::info!(partition = %admitted.partition, link = %admitted.link, reason, "a stream to a sink has ended");
        self.sinks.lock().remove(&feed);
        self.sent.lock().entry(key).or_default().end();
        writer.abort();
        // The task has ended: its feed with it.
        let _ = admitted.handle.events.send(Event::Input(Input::SinkGone { feed })).await;
    }

    async fn give_copy(&self, admitted: &Admitted, stream: &mut Stream, copies: &Copies) {
        let Admitted { partition, link, handle, .. } = admitted;
        match copy::serve(stream, *partition, handle, copies).await {
            Ok(bytes) => tracing::info!(%partition, %link, bytes, "a copy was sent to a sink"),
            Err(error) => tracing::info!(%partition, %link, %error, "a copy was not sent to a sink"),
        }
        self.sent.lock().entry((*partition, *link)).or_default().bytes += stream.sender.bytes_sent();
    }

    fn admit(&self, first: &Frame) -> Result<Admitted, String> {
        if first.kind != OPEN && first.kind != COPY {
            return Err(format!("a stream begins with a frame of kind {}", first.kind.code()));
        }
        let Open { link, token, ordinal } = decode(&first.payload).map_err(|error| error.to_string())?;
        let unknown = || format!("link {link} is not served here, or its token is another: repeat REPLICATE");
        let (database, hash) = self.rules.serves(link).ok_or_else(unknown)?;
        if token_hash(&token) != hash {
            return Err(unknown());
        }
        let partition = PartitionId { database, ordinal };
        let handle = self.partitions.read().get(&partition).cloned();
        let handle = handle.ok_or_else(|| format!("partition {partition} is not on this leaf"))?;
        let status = handle.status.borrow().clone();
        if status.leading.is_none() {
            return Err(format!("this leaf is not the primary of partition {partition}"));
        }
        Ok(Admitted { partition, link, hash, handle, reign: status.reign })
    }

    async fn write(
        self: Arc<Inner>,
        key: (PartitionId, LinkId),
        sender: StreamSender,
        mut waiting: mpsc::Receiver<Message>,
    ) {
        let mut before = sender.bytes_sent();
        while let Some(message) = waiting.recv().await {
            let frame = Frame::new(MESSAGE, encode_message(&message)).compressed();
            if sender.send(frame).await.is_err() {
                return;
            }
            let mut sent = self.sent.lock();
            let traffic = sent.entry(key).or_default();
            traffic.count(&message, sender.bytes_sent() - before);
            before = sender.bytes_sent();
        }
    }

    /// Takes what the sink says. Returns why that is over.
    async fn read(&self, admitted: &Admitted, feed: u64, stream: &mut Stream) -> String {
        let Admitted { partition, link, hash, handle, reign } = admitted;
        let mut status = handle.status.clone();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = receive(&mut stream.receiver, "sink") => {
                    let message = match message {
                        Ok(message) => message,
                        Err(reason) => return reason,
                    };
                    self.sent.lock().entry((*partition, *link)).or_default().count(&message, 0);
                    let input = Input::FromSink { feed, message };
                    if handle.events.send(Event::Input(input)).await.is_err() {
                        return "the replica has stopped".into();
                    }
                }
                changed = status.changed() => {
                    let now = status.borrow().clone();
                    if changed.is_err() || now.leading.is_none() || now.reign != *reign {
                        return "this leaf is no longer the primary".into();
                    }
                }
                _ = looks.tick() => {
                    if self.rules.serves(*link).is_none_or(|(_, known)| known != *hash) {
                        return "the link is no longer served".into();
                    }
                }
            }
        }
    }
}
