//! A sink's side: keeps a stream for each partition that is led here and follows another region; asks for copies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aggregator::protocol::Route;
use parking_lot::Mutex;
use replication::codec::encode_message;
use replication::{Input, Message};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use transport::codec::encode;
use transport::frame::{Frame, Kind};
use transport::handshake::Expected;
use transport::identity::Role;
use transport::quic::QuicDialler;
use transport::session::{Session, Stream, StreamSender};
use transport::tls::{Fingerprint, Trust};
use types::{ClusterId, LinkId, PartitionId, Reign};

use super::{COPY, Inner, Links, MESSAGE, OPEN, OPENED, Open, QUEUE_MAX, REFUSED, Traffic, receive};
use crate::leaf::copy::CopyError;
use crate::leaf::partition::{Event, PartitionHandle};
use crate::leaf::peers;

/// How long the source may take to admit a stream.
const ADMIT_TIME: Duration = Duration::from_secs(5);
/// Between two attempts to open a stream: the first, and the longest.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Where a partition's source is, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    link: LinkId,
    token: Vec<u8>,
    fingerprint: [u8; 32],
    cluster: ClusterId,
    /// The leaf of the source that leads the partition.
    address: String,
}

/// What a partition's stream must be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    place: Place,
    /// In which its primary here leads.
    reign: Reign,
    /// Which of its replica's lives here: one that was opened anew knows of no stream.
    life: usize,
}

/// The task that keeps a partition's stream.
pub(super) struct Following {
    wanted: Wanted,
    cancel: CancellationToken,
    queue: Arc<Mutex<Option<mpsc::Sender<Message>>>>,
    task: JoinHandle<()>,
}

impl Following {
    pub(super) fn send(&self, link: LinkId, message: Message) {
        if link == self.wanted.place.link
            && let Some(queue) = &*self.queue.lock()
        {
            // Full or gone: the protocol repeats what matters.
            let _ = queue.try_send(message);
        }
    }
}

/// The session with one address: whoever finds none dials, and others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Session>>>>;

/// The sessions with leaves of other regions, one for each address.
pub(super) struct Sessions {
    dialler: QuicDialler,
    open: Mutex<HashMap<String, Slot>>,
}

impl Sessions {
    pub(super) fn new(dialler: QuicDialler) -> Sessions {
        Sessions { dialler, open: Mutex::default() }
    }

    async fn with(&self, place: &Place) -> Result<Arc<Session>, String> {
        let slot = self.open.lock().entry(place.address.clone()).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(session) = &*slot
            && session.control().closed_reason().is_none()
        {
            return Ok(session.clone());
        }
        let session = Arc::new(self.dial(place).await?);
        *slot = Some(session.clone());
        Ok(session)
    }

    async fn dial(&self, place: &Place) -> Result<Session, String> {
        let trust = Trust::Pinned(Fingerprint(place.fingerprint));
        let expected = Expected { cluster: Some(place.cluster), node: None };
        let session = self.dialler.dial(&place.address, &trust, expected, Role::Link).await;
        session.map_err(|error| error.to_string())
    }

    fn keep(&self, addresses: &HashSet<String>) {
        self.open.lock().retain(|address, _| addresses.contains(address));
    }
}

impl Links {
    /// Opens, changes and ends streams as the catalog and the routes to the sources say.
    pub fn steer(&self, routes: &[Route]) {
        *self.inner.routes.lock() = routes.to_vec();
        let mut wanted: HashMap<PartitionId, (Wanted, PartitionHandle)> = HashMap::new();
        for (id, handle) in peers::list(&self.inner.partitions) {
            if let Some(stream) = self.inner.wanted(id, &handle, routes) {
                wanted.insert(id, (stream, handle));
            }
        }
        let addresses = wanted.values().map(|(stream, _)| stream.place.address.clone()).collect();
        self.inner.sessions.keep(&addresses);
        let mut following = self.inner.following.lock();
        following.retain(|id, task| {
            let stays = wanted.contains_key(id);
            if !stays {
                task.cancel.cancel();
            }
            stays
        });
        for (id, (stream, handle)) in wanted {
            if following.get(&id).is_some_and(|task| task.wanted == stream) {
                continue;
            }
            let before = following.remove(&id).map(|task| {
                task.cancel.cancel();
                task.task
            });
            let (cancel, queue) = (CancellationToken::new(), Arc::new(Mutex::new(None)));
            let keeper = Keeper {
                inner: self.inner.clone(),
                id,
                handle,
                wanted: stream.clone(),
                cancel: cancel.clone(),
                queue: queue.clone(),
            };
            let task = tokio::spawn(keeper.run(before));
            following.insert(id, Following { wanted: stream, cancel, queue, task });
        }
    }
}

impl Links {
    /// A stream on which the source's primary sends a copy of its partition. It has a session of its own: records must not
    /// wait behind it.
    pub async fn open_copy(&self, link: LinkId, id: PartitionId) -> Result<Stream, CopyError> {
        let place = self.inner.place(id, &self.inner.routes.lock()).filter(|place| place.link == link);
        let place = place.ok_or(CopyError::NoSession(link))?;
        let session = self.inner.sessions.dial(&place).await.map_err(CopyError::Refused)?;
        open(&session, COPY, &place, id).await.map_err(CopyError::Refused)
    }

    /// So many bytes came over the link for a copy.
    pub fn count_copy(&self, link: LinkId, id: PartitionId, bytes: u64) {
        self.inner.received.lock().entry((id, link)).or_default().bytes += bytes;
    }
}

impl Inner {
    fn wanted(&self, id: PartitionId, handle: &PartitionHandle, routes: &[Route]) -> Option<Wanted> {
        let status = handle.status.borrow().clone();
        let leading = status.leading.as_ref()?;
        let place = self.place(id, routes).filter(|place| leading.link == Some(place.link))?;
        Some(Wanted { place, reign: status.reign, life: handle.state.life() })
    }

    fn place(&self, id: PartitionId, routes: &[Route]) -> Option<Place> {
        let (link, sink) = self.rules.follows(id.database)?;
        let route = routes.iter().find(|route| route.link == link)?;
        let (_, address) = route.partitions.iter().find(|(ordinal, _)| *ordinal == id.ordinal)?;
        let (token, fingerprint) = (sink.credentials.token, sink.credentials.fingerprint);
        Some(Place { link, token, fingerprint, cluster: sink.source_cluster, address: address.clone() })
    }
}

/// Opens a partition's stream again and again, until it is cancelled.
struct Keeper {
    inner: Arc<Inner>,
    id: PartitionId,
    handle: PartitionHandle,
    wanted: Wanted,
    cancel: CancellationToken,
    queue: Arc<Mutex<Option<mpsc::Sender<Message>>>>,
}

impl Keeper {
    async fn run(self, before: Option<JoinHandle<()>>) {
        if let Some(before) = before {
            // Its last word to the replica must come before the first one of this stream.
            let _ = before.await;
        }
        let mut wait = RETRY_MIN;
        loop {
            let opened = tokio::select! {
                opened = self.open() => opened,
                () = self.cancel.cancelled() => return,
            };
            let reason = match opened {
                Ok(stream) => {
                    wait = RETRY_MIN;
                    self.stream(stream).await
                }
                Err(reason) => reason,
            };
            tracing::debug!(partition = %self.id, link = %self.wanted.place.link, reason, "no stream from the source");
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.cancel.cancelled() => return,
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn open(&self) -> Result<Stream, String> {
        let place = &self.wanted.place;
        let session = self.inner.sessions.with(place).await?;
        open(&session, OPEN, place, self.id).await
    }

    /// Runs an open stream. Returns why it is over.
    async fn stream(&self, mut stream: Stream) -> String {
        let link = self.wanted.place.link;
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        *self.queue.lock() = Some(queue);
        self.with_traffic(Traffic::begin);
        let writer = tokio::spawn(write(stream.sender.clone(), waiting));
        let reason = match self.tell(Input::SourceUp { link }).await {
            Ok(()) => self.read(&mut stream).await,
            Err(reason) => reason,
        };
        *self.queue.lock() = None;
        self.with_traffic(Traffic::end);
        writer.abort();
        // The task has ended: nobody follows.
        let _ = self.tell(Input::SourceDown { link }).await;
        reason
    }

    fn with_traffic(&self, change: impl FnOnce(&mut Traffic)) {
        change(self.inner.received.lock().entry((self.id, self.wanted.place.link)).or_default());
    }

    async fn tell(&self, input: Input) -> Result<(), String> {
        self.handle.events.send(Event::Input(input)).await.map_err(|_| "the replica has stopped".to_string())
    }

    async fn read(&self, stream: &mut Stream) -> String {
        let link = self.wanted.place.link;
        let mut before = 0;
        loop {
            let message = tokio::select! {
                message = receive(&mut stream.receiver, "source") => message,
                () = self.cancel.cancelled() => return "another stream is wanted".into(),
            };
            let message = match message {
                Ok(message) => message,
                Err(reason) => return reason,
            };
            let bytes = stream.receiver.bytes_received();
            self.with_traffic(|traffic| traffic.count(&message, bytes - before));
            before = bytes;
            if let Err(reason) = self.tell(Input::FromSource { link, message }).await {
                return reason;
            }
        }
    }
}

/// Opens a stream of a session and has it admitted.
async fn open(session: &Session, kind: Kind, place: &Place, id: PartitionId) -> Result<Stream, String> {
    let mut stream = session.open().await.map_err(|closed| closed.to_string())?;
    let open = Open { link: place.link, token: place.token.clone(), ordinal: id.ordinal };
    let open = encode(&open).map_err(|error| error.to_string())?;
    stream.sender.send(Frame::new(kind, open)).await.map_err(|error| error.to_string())?;
    let answer = timeout(ADMIT_TIME, stream.receiver.recv()).await;
    match answer.map_err(|_| "the source does not answer".to_string())?.map_err(|error| error.to_string())? {
        Some(frame) if frame.kind == OPENED => Ok(stream),
        Some(frame) if frame.kind == REFUSED => Err(String::from_utf8_lossy(&frame.payload).into_owned()),
        Some(frame) => Err(format!("the source answers with a frame of kind {}", frame.kind.code())),
        None => Err("the source ends the stream without an answer".into()),
    }
}

async fn write(sender: StreamSender, mut waiting: mpsc::Receiver<Message>) {
    while let Some(message) = waiting.recv().await {
        if sender.send(Frame::new(MESSAGE, encode_message(&message))).await.is_err() {
            return;
        }
    }
}
