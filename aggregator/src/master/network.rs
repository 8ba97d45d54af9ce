//! Sessions of the aggregators among themselves: the messages of the catalog's raft group.
//!
//! Each aggregator dials every other one of the catalog and keeps the session. A message goes out on the session that was
//! dialled or, where there is none, on one that the other has dialled: so a new aggregator answers before it knows where
//! the others are. A queue that is full loses messages; raft sends again what matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Instant;

use ::catalog::State;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use raft::eraftpb::Message;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use transport::frame::{Frame, Kind};
use transport::identity::Role;
use transport::limits::{BULK_BYTES_MAX, Limits};
use transport::redial::{Event, Redialler};
use transport::session::{Session, StreamReceiver, StreamSender};
use transport::tcp::TcpDialler;
use types::NodeId;

use super::catalog::Group;
use super::driver::{Input, Network};
use crate::calls::MasterCalls;

/// Messages that wait to be sent to one member.
const QUEUE_MAX: usize = 1024;

const RAFT: Kind = Kind::bulk(2);

/// All sessions with other aggregators. Cheap to clone.
#[derive(Clone)]
pub struct Aggregators {
    shared: Arc<Shared>,
}

struct Shared {
    node: NodeId,
    dialler: TcpDialler,
    limits: Limits,
    inputs: std_mpsc::SyncSender<Input>,
    calls: MasterCalls,
    dialled: Mutex<BTreeMap<NodeId, Peer>>,
    accepted: Mutex<BTreeMap<NodeId, Outlet>>,
    refused: Mutex<BTreeMap<NodeId, Instant>>,
    /// This aggregator takes part. One with an empty directory does not before the master has taken it: had it been a member
    /// that lost its disk, it would have forgotten votes and entries that others count on.
    takes_part: AtomicBool,
    /// Whom the catalog knows: nobody else is heard. Empty until there is a catalog.
    group: Mutex<BTreeSet<NodeId>>,
}

/// A member that is dialled.
struct Peer {
    address: String,
    outlet: Outlet,
    task: JoinHandle<()>,
}

/// Where messages to a member go.
#[derive(Clone)]
struct Outlet {
    queue: mpsc::Sender<Bytes>,
    /// There is a session.
    open: Arc<Mutex<bool>>,
}

impl Outlet {
    fn new() -> (Outlet, mpsc::Receiver<Bytes>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        (Outlet { queue, open: Arc::default() }, waiting)
    }

    fn is_open(&self) -> bool {
        *self.open.lock() && !self.queue.is_closed()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Aggregators {
    /// Nobody is known yet. What arrives goes into `inputs`, if this aggregator is a
    /// `member`, or once [`Aggregators::take_part`] is called.
    pub fn new(
        node: NodeId,
        dialler: TcpDialler,
        limits: Limits,
        inputs: std_mpsc::SyncSender<Input>,
        calls: MasterCalls,
        member: bool,
    ) -> Aggregators {
        let (dialled, accepted) = (Mutex::default(), Mutex::default());
        let (refused, group, takes_part) = (Mutex::default(), Mutex::default(), AtomicBool::new(member));
        let shared = Shared { node, dialler, limits, inputs, calls, dialled, accepted, refused, takes_part, group };
        Aggregators { shared: Arc::new(shared) }
    }

    /// The master has taken this aggregator.
    pub fn take_part(&self) {
        self.shared.takes_part.store(true, Ordering::Release);
    }

    /// Dials whom the catalog knows, as long as it lives.
    pub async fn follow(self, mut states: watch::Receiver<Arc<State>>) {
        loop {
            let state = states.borrow_and_update().clone();
            self.set(&state);
            if states.changed().await.is_err() {
                return;
            }
        }
    }

    fn set(&self, state: &State) {
        let node = self.shared.node;
        *self.shared.group.lock() = state.group().map(|(id, _)| id).collect();
        let others = state.group().filter(|(id, _)| *id != node);
        let others: BTreeMap<NodeId, String> = others.map(|(id, known)| (id, known.addresses.rpc.clone())).collect();
        self.shared.calls.learn(others.values().cloned().collect());
        let mut dialled = self.shared.dialled.lock();
        dialled.retain(|id, peer| others.get(id) == Some(&peer.address));
        for (id, address) in others {
            dialled.entry(id).or_insert_with(|| {
                let (outlet, waiting) = Outlet::new();
                let task = tokio::spawn(keep(self.clone(), id, address.clone(), outlet.clone(), waiting));
                Peer { address, outlet, task }
            });
        }
    }

    /// Listens to a session that another aggregator has dialled, and answers on it until it ends.
    pub async fn serve(&self, session: Session) {
        let from = session.peer().node;
        if !self.shared.takes_part.load(Ordering::Acquire) {
            return session.close("the master has not taken this aggregator yet");
        }
        let is_known = {
            let group = self.shared.group.lock();
            group.is_empty() || group.contains(&from)
        };
        if !is_known {
            return session.close("this node is no aggregator of the region: ADD AGGREGATOR takes it in");
        }
        let (outlet, waiting) = Outlet::new();
        *outlet.open.lock() = true;
        self.shared.accepted.lock().insert(from, outlet.clone());
        let (control, _incoming, sender, receiver) = session.split();
        tokio::select! {
            reason = listen(&self.shared.inputs, from, receiver) => control.close(&reason),
            () = write(&sender, waiting) => {}
        }
        *outlet.open.lock() = false;
    }

    fn post(&self, message: &Message) -> bool {
        let node = NodeId(message.to);
        let bytes = Bytes::from(message.encode_to_vec());
        if bytes.len() > BULK_BYTES_MAX {
            tracing::error!(bytes = bytes.len(), %node, "the catalog is too large to be sent to another aggregator");
            return false;
        }
        let dialled = self.shared.dialled.lock().get(&node).map(|peer| peer.outlet.clone());
        let outlet = dialled.filter(Outlet::is_open);
        let outlet = outlet.or_else(|| self.shared.accepted.lock().get(&node).cloned().filter(Outlet::is_open));
        outlet.is_some_and(|outlet| outlet.queue.try_send(bytes).is_ok())
    }
}

impl Network for Aggregators {
    fn send(&self, message: Message) {
        if !self.post(&message) {
            // No room: so many messages wait for the thread that it will send again by itself.
            let _ = self.shared.inputs.try_send(Input::Unreachable(NodeId(message.to)));
        }
    }
}

impl Group for Aggregators {
    fn reached(&self) -> BTreeSet<NodeId> {
        let open = |(id, outlet): (&NodeId, &Outlet)| outlet.is_open().then_some(*id);
        let dialled = self.shared.dialled.lock();
        let mut reached: BTreeSet<NodeId> = dialled.iter().filter_map(|(id, peer)| open((id, &peer.outlet))).collect();
        reached.extend(self.shared.accepted.lock().iter().filter_map(open));
        reached
    }

    fn refused(&self) -> BTreeMap<NodeId, Instant> {
        self.shared.refused.lock().clone()
    }

    fn calls(&self) -> &MasterCalls {
        &self.shared.calls
    }
}

/// Keeps a session with one member.
async fn keep(own: Aggregators, node: NodeId, address: String, outlet: Outlet, mut waiting: mpsc::Receiver<Bytes>) {
    let dialler = own.shared.dialler.clone();
    let mut redialler = Redialler::start(&own.shared.limits, move || {
        let (dialler, address) = (dialler.clone(), address.clone());
        async move { dialler.dial(&address, Some(node), Role::Raft).await }
    });
    let tell = |input: Input| drop(own.shared.inputs.try_send(input));
    loop {
        let session = match redialler.next().await {
            Event::Reached(session) => session,
            Event::Lost { .. } => continue,
            Event::Failed { error, known, began } => {
                // A process holds its listener for its whole life: refused, the one that was known is gone.
                if error.is_refused() {
                    own.shared.refused.lock().insert(node, began.into_std());
                    if known.is_some() {
                        tell(Input::Gone(node));
                    }
                }
                continue;
            }
        };
        while waiting.try_recv().is_ok() {}
        *outlet.open.lock() = true;
        let (control, _incoming, sender, receiver) = session.split();
        let reason = tokio::select! {
            reason = listen(&own.shared.inputs, node, receiver) => reason,
            () = write(&sender, &mut waiting) => "it takes no messages".into(),
        };
        *outlet.open.lock() = false;
        control.close(&reason);
        tracing::info!(%node, reason, "an aggregator is lost, it is dialled again at once");
        tell(Input::Unreachable(node));
    }
}

/// Takes messages until the session ends: why.
async fn listen(inputs: &std_mpsc::SyncSender<Input>, from: NodeId, mut receiver: StreamReceiver) -> String {
    loop {
        let frame = match receiver.recv().await {
            Ok(Some(frame)) if frame.kind == RAFT => frame,
            Ok(Some(frame)) => return format!("{from} sends a frame of kind {}", frame.kind.code()),
            Ok(None) => return "it has ended".into(),
            Err(error) => return error.to_string(),
        };
        match Message::decode(frame.payload) {
            Ok(message) if message.from == from.0 => {
                // Full: it is lost, and sent again.
                let _ = inputs.try_send(Input::Message(Box::new(message)));
            }
            Ok(message) => return format!("{from} sends a message of node {}", message.from),
            Err(error) => return format!("a message of {from}: {error}"),
        }
    }
}

/// Sends what waits until that fails.
async fn write(sender: &StreamSender, mut waiting: impl std::borrow::BorrowMut<mpsc::Receiver<Bytes>>) {
    while let Some(bytes) = waiting.borrow_mut().recv().await {
        if sender.send(Frame::new(RAFT, bytes)).await.is_err() {
            return;
        }
    }
}
