//! Sessions with the other leaves of the region: frames of replicas and the heartbeats of node pairs.
//!
//! Each leaf dials every other one and sends on the session that it dialled; what arrives on a session that it
//! accepted is the other's word. Frames and heartbeats have a session each: a grant must not wait behind records. A queue that is full drops frames: the protocol sends them again. Facts about who is
//! gone come from here: a refused attempt to connect, or a newer process at the other end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aggregator::protocol::Peer;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use replication::codec::{decode_frame, encode_frame};
use replication::{Frame, Granted, Heartbeat, Input, Leases, Probe};
use tokio::sync::mpsc;
use transport::codec::{decode, encode};
use transport::frame::Kind;
use transport::identity::Role;
use transport::limits::Limits;
use transport::redial::{Event as DialEvent, Redialler};
use transport::session::{Session, StreamReceiver};
use transport::tcp::TcpDialler;
use types::{Member, NodeId, PartitionId};

use super::copy::Copies;
use super::hurry::Hurry;
use super::partition::{Event, PartitionHandle};
use super::stall::Stall;
use crate::clock;

/// Frames that wait to be sent to one peer.
const QUEUE_MAX: usize = 4096;

const FRAME: Kind = Kind::bulk(1);
const HEARTBEAT: Kind = Kind::message(1);
const GRANTED: Kind = Kind::message(2);

/// The partitions of a leaf, found by those who receive frames.
pub type Partitions = Arc<RwLock<HashMap<PartitionId, PartitionHandle>>>;

/// Those that there are now, for work that takes a while.
pub fn list(partitions: &Partitions) -> Vec<(PartitionId, PartitionHandle)> {
    partitions.read().iter().map(|(id, handle)| (*id, handle.clone())).collect()
}

/// All peers of a leaf. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    dialler: TcpDialler,
    limits: Limits,
    leases: Arc<Mutex<Leases>>,
    partitions: Partitions,
    hurry: Arc<Hurry>,
    stall: Arc<Stall>,
    peers: Mutex<BTreeMap<NodeId, Link>>,
}

/// What a session carries: heartbeats must not wait behind records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Frames,
    Heartbeats,
}

struct Link {
    address: String,
    frames: Queue,
    heartbeats: Queue,
}

struct Queue {
    sender: mpsc::Sender<(Kind, Bytes)>,
    task: tokio::task::JoinHandle<()>,
}

impl Queue {
    fn start(shared: &Arc<Shared>, peer: &Peer, lane: Lane) -> Queue {
        let (sender, waiting) = mpsc::channel(QUEUE_MAX);
        Queue { sender, task: tokio::spawn(keep(shared.clone(), peer.clone(), waiting, lane)) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    /// Nobody is known yet.
    pub fn new(
        dialler: TcpDialler,
        limits: Limits,
        leases: Arc<Mutex<Leases>>,
        partitions: Partitions,
        hurry: Arc<Hurry>,
        stall: Arc<Stall>,
    ) -> Peers {
        let peers = Mutex::default();
        Peers { shared: Arc::new(Shared { dialler, limits, leases, partitions, hurry, stall, peers }) }
    }

    /// The leaves of the region, as the catalog has them.
    pub fn set(&self, peers: &[Peer]) {
        let mut links = self.shared.peers.lock();
        links.retain(|node, link| peers.iter().any(|peer| peer.member.node == *node && peer.rpc == link.address));
        for peer in peers {
            links.entry(peer.member.node).or_insert_with(|| {
                let frames = Queue::start(&self.shared, peer, Lane::Frames);
                let heartbeats = Queue::start(&self.shared, peer, Lane::Heartbeats);
                Link { address: peer.rpc.clone(), frames, heartbeats }
            });
        }
    }

    /// Where a node's frames and calls go.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.shared.peers.lock().get(&node).map(|link| link.address.clone())
    }

    /// Those whose frames are received here.
    pub fn partitions(&self) -> &Partitions {
        &self.shared.partitions
    }

    /// Reaches other leaves.
    pub fn dialler(&self) -> &TcpDialler {
        &self.shared.dialler
    }

    /// Sends a frame, if there is room; a peer that is away gets it neither now nor later.
    pub fn send(&self, to: NodeId, frame: &Frame) {
        self.post(to, FRAME, encode_frame(frame));
    }

    /// Asks every peer for its grant.
    pub fn send_heartbeats(&self) {
        let beat = self.shared.leases.lock().heartbeat(clock::now());
        let bytes = encode(&beat).expect("a heartbeat is small");
        let nodes: Vec<NodeId> = self.shared.peers.lock().keys().copied().collect();
        nodes.into_iter().for_each(|node| self.post(node, HEARTBEAT, bytes.clone()));
    }

    fn post(&self, to: NodeId, kind: Kind, bytes: Bytes) {
        // Also an acknowledgement would say that this leaf is there.
        if self.shared.stall.hangs() {
            return;
        }
        if let Some(link) = self.shared.peers.lock().get(&to) {
            let queue = if kind == FRAME { &link.frames } else { &link.heartbeats };
            // Full or gone: the protocol repeats what matters.
            let _ = queue.sender.try_send((kind, bytes));
        }
    }

    /// Listens to a session that another leaf has dialled; streams beside the main one ask for copies.
    pub fn accept(&self, session: Session, copies: Copies) {
        let from = session.peer().member();
        self.shared.leases.lock().note(clock::now(), from);
        let peers = self.clone();
        tokio::spawn(async move {
            let (control, incoming, _sender, mut receiver) = session.split();
            let answering = tokio::spawn(copies.answer_all(incoming));
            if let Err(reason) = peers.listen(from, &mut receiver).await {
                tracing::warn!(%from, reason, "session with a leaf ended");
                control.close(&reason);
            }
            // An error: it has ended in another way.
            let _ = answering.await;
        });
    }

    async fn listen(&self, from: Member, receiver: &mut StreamReceiver) -> Result<(), String> {
        while let Some(message) = receiver.recv().await.map_err(|error| error.to_string())? {
            match message.kind {
                FRAME => {
                    let frame = decode_frame(message.payload).map_err(|error| format!("a frame of {from}: {error}"))?;
                    if frame.from != from {
                        return Err(format!("{from} sends a frame of {}", frame.from));
                    }
                    self.deliver(frame).await;
                }
                HEARTBEAT => {
                    let beat: Heartbeat = decode(&message.payload).map_err(|error| error.to_string())?;
                    let (granted, freed) = self.shared.leases.lock().on_heartbeat(clock::now(), &beat);
                    if freed {
                        self.shared.hurry.obeyed();
                    }
                    self.post(from.node, GRANTED, encode(&granted).map_err(|error| error.to_string())?);
                }
                GRANTED => {
                    let granted: Granted = decode(&message.payload).map_err(|error| error.to_string())?;
                    self.shared.leases.lock().on_granted(clock::now(), &granted);
                }
                kind => return Err(format!("{from} sends a frame of kind {}", kind.code())),
            }
        }
        Ok(())
    }

    async fn deliver(&self, frame: Frame) {
        let handle = self.shared.partitions.read().get(&frame.partition).cloned();
        if let Some(handle) = handle {
            // The task has ended: the frame is for nobody.
            let _ = handle.events.send(Event::Input(Input::Frame(frame))).await;
        }
    }
}

/// Keeps a session with one peer and sends what waits for it.
async fn keep(shared: Arc<Shared>, peer: Peer, mut waiting: mpsc::Receiver<(Kind, Bytes)>, lane: Lane) {
    let (dialler, address, node) = (shared.dialler.clone(), peer.rpc.clone(), peer.member.node);
    let mut redialler = Redialler::start(&shared.limits, move || {
        let (dialler, address) = (dialler.clone(), address.clone());
        async move { dialler.dial(&address, Some(node), Role::Replication).await }
    });
    redialler.learn(peer.member.incarnation);
    let mut session: Option<Session> = None;
    loop {
        tokio::select! {
            event = redialler.next() => match event {
                DialEvent::Reached(reached) => {
                    shared.leases.lock().note(clock::now(), reached.peer().member());
                    redialler.learn(reached.peer().incarnation);
                    while waiting.try_recv().is_ok() {}
                    session = Some(reached);
                    if lane == Lane::Frames {
                        tell_all(&shared, node).await;
                    }
                }
                DialEvent::Lost { peer, reason } => {
                    tracing::info!(%peer, %reason, "a leaf is lost, it is dialled again at once");
                    session = None;
                }
                DialEvent::Failed { error, known, .. } => {
                    if let (true, Some(incarnation)) = (error.is_refused(), known) {
                        let of = Member { node, incarnation };
                        let known_gone = {
                            let mut leases = shared.leases.lock();
                            let known_gone = leases.is_gone(of);
                            leases.on_refused(Probe { of });
                            known_gone
                        };
                        if !known_gone {
                            shared.hurry.gone();
                        }
                    }
                }
            },
            message = waiting.recv() => {
                let Some((kind, bytes)) = message else { return };
                if let Some(open) = &session
                    && open.send(transport::frame::Frame::new(kind, bytes)).await.is_err()
                {
                    session = None;
                }
            }
        }
    }
}

/// Frames sent on the old session may be lost: every partition goes on after what was acknowledged.
async fn tell_all(shared: &Shared, node: NodeId) {
    let handles: Vec<PartitionHandle> = shared.partitions.read().values().cloned().collect();
    for handle in handles {
        let _ = handle.events.send(Event::Input(Input::PeerUp { node })).await;
    }
}
