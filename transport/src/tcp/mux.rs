//! The streams of one TCP session: who may send how much, what has arrived, what is open.
//!
//! Each side has a window of [`STREAM_WINDOW_BYTES`] per stream. A sender pays for a frame before it queues it
//! ([`Sealed::charge`]); a receiver gives back what its owner has read, in portions, and all of it before it waits.
//! So one stream that is not read never holds up another, and a sender that pays more than it has breaks the protocol.
//!
//! ```text
//! OPEN    -           a stream begins; odd numbers from the dialler, even ones from the listener, rising
//! WINDOW  4 bytes LE  the receiver of the stream gives back this much of its window
//! END     -           the sender is done
//! RESET   -           the sender gave up
//! STOP    -           the receiver wants no more; the sender answers with RESET, unless END or RESET is on its way
//! ```
//!
//! - Stream 0 is the main stream; it is open from the start.
//! - An entry lives until both directions have ended, and an opener has at most [`STREAMS_MAX`] of them.
//! - `closing` is set when END or RESET is queued: no frame is queued after it. `sent` is set when the writer takes it
//!   from the queue: only then may the entry go, so that a peer that opens and stops streams without reading cannot
//!   make the queue grow.
//! - The lock is held for a few map operations and never across an await.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::{Closed, StreamError};
use crate::frame::{Kind, Sealed};
use crate::limits::{SESSION_QUEUE_BYTES, SESSION_RECEIVE_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX};
use crate::session::{Core, Flag, Guard, Outlet, Room, Source, Stream};
use crate::session::{StreamReceiver, StreamSender};

/// What the writer is asked to write.
pub(super) enum Outgoing {
    Data { stream: u64, sealed: Sealed, queue: OwnedSemaphorePermit },
    Open(u64),
    Window(u64, u32),
    End(u64),
    Reset(u64),
    Stop(u64),
}

/// What a stream's receiver finds.
enum Inbound {
    Frame { sealed: Sealed, charge: u32, _receive: OwnedSemaphorePermit },
    End,
    Reset,
}

struct Entry {
    /// `None` when the receiver is gone: what still arrives is dropped.
    inbound: Option<mpsc::UnboundedSender<Inbound>>,
    /// Paid by the peer and not yet given back.
    unreturned: u32,
    /// Read by the owner and not yet given back.
    read: u32,
    /// END or RESET has arrived.
    received: bool,
    /// What this side may still send.
    credit: Arc<Semaphore>,
    stopped: Arc<Flag>,
    /// END or RESET is queued.
    closing: bool,
    /// END or RESET is written.
    sent: bool,
    /// The opener's right to have it open.
    _slot: Option<OwnedSemaphorePermit>,
}

struct Table {
    streams: BTreeMap<u64, Entry>,
    next: u64,
    highest_of_peer: u64,
    open_by_peer: u32,
    accepted: Option<mpsc::UnboundedSender<Stream>>,
    is_shut: bool,
}

pub(crate) struct Mux {
    core: Arc<Core>,
    guard: Weak<Guard>,
    table: Mutex<Table>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    queue: Arc<Semaphore>,
    receive: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    dialled: bool,
}

impl Mux {
    pub(super) fn new(
        core: Arc<Core>,
        dialled: bool,
        guard: Weak<Guard>,
    ) -> (Arc<Mux>, mpsc::UnboundedReceiver<Outgoing>, mpsc::UnboundedReceiver<Stream>) {
        // Both channels are bounded by what is paid into them: bytes and control frames by the windows and the number
        // of streams, arrivals by the number of streams.
        let (outgoing, to_write) = mpsc::unbounded_channel();
        let (accepted, to_accept) = mpsc::unbounded_channel();
        let (next, highest_of_peer) = if dialled { (1, 0) } else { (2, 0) };
        let table = Table {
            streams: BTreeMap::new(),
            next,
            highest_of_peer,
            open_by_peer: 0,
            accepted: Some(accepted),
            is_shut: false,
        };
        let mux = Mux {
            core,
            guard,
            table: Mutex::new(table),
            outgoing,
            queue: Arc::new(Semaphore::new(SESSION_QUEUE_BYTES as usize)),
            receive: Arc::new(Semaphore::new(SESSION_RECEIVE_BYTES as usize)),
            slots: Arc::new(Semaphore::new(STREAMS_MAX as usize)),
            dialled,
        };
        (Arc::new(mux), to_write, to_accept)
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The main stream; called once.
    pub(super) fn main(self: &Arc<Mux>, guard: &Arc<Guard>) -> Stream {
        let mut table = self.table.lock();
        self.enter(&mut table, 0, None, guard)
    }

    /// Opens a stream.
    pub(crate) async fn open(self: &Arc<Mux>, guard: &Arc<Guard>) -> Result<Stream, Closed> {
        let Ok(slot) = self.slots.clone().acquire_owned().await else { return Err(self.core.wait().await) };
        {
            let mut table = self.table.lock();
            if !table.is_shut {
                let id = table.next;
                table.next += 2;
                let stream = self.enter(&mut table, id, Some(slot), guard);
                // Under the lock, so that streams are announced in the order of their numbers.
                self.push(Outgoing::Open(id));
                return Ok(stream);
            }
        }
        Err(self.core.wait().await)
    }

    fn enter(
        self: &Arc<Mux>,
        table: &mut Table,
        id: u64,
        slot: Option<OwnedSemaphorePermit>,
        guard: &Arc<Guard>,
    ) -> Stream {
        let (inbound, arrived) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(STREAM_WINDOW_BYTES as usize));
        let stopped = Flag::new();
        let entry = Entry {
            inbound: Some(inbound),
            unreturned: 0,
            read: 0,
            received: false,
            credit: credit.clone(),
            stopped: stopped.clone(),
            closing: false,
            sent: false,
            _slot: slot,
        };
        let before = table.streams.insert(id, entry);
        assert!(before.is_none(), "stream {id} is opened twice");
        let outlet = Outlet::Tcp(TcpOutlet { mux: self.clone(), id, credit });
        let source = Source::Tcp(TcpSource { mux: self.clone(), id, arrived, ended: false });
        Stream {
            sender: StreamSender::new(outlet, stopped, id == 0, guard.clone()),
            receiver: StreamReceiver::new(source, guard.clone()),
        }
    }

    fn push(&self, outgoing: Outgoing) {
        // Fails only when the writer is gone: the session is over then, and every part says so.
        let _ = self.outgoing.send(outgoing);
    }

    /// Room for a frame that has arrived; waits when the session holds too much that is not read.
    pub(super) async fn room_to_receive(&self, charge: u32) -> Option<OwnedSemaphorePermit> {
        self.receive.clone().acquire_many_owned(charge).await.ok()
    }

    /// A data frame has arrived.
    pub(super) fn on_data(&self, id: u64, sealed: Sealed, receive: OwnedSemaphorePermit) -> Result<(), String> {
        let mut table = self.table.lock();
        let entry = table.streams.get_mut(&id).filter(|entry| !entry.received);
        let entry = entry.ok_or_else(|| format!("a frame for stream {id}, which is not open"))?;
        let charge = sealed.charge(STREAM_WINDOW_BYTES);
        entry.unreturned += charge;
        if entry.unreturned > STREAM_WINDOW_BYTES {
            return Err(format!("stream {id} has {} bytes under way, beyond its window", entry.unreturned));
        }
        if let Some(inbound) = &entry.inbound {
            // Fails if the receiver goes this very moment: its STOP is on the way.
            let _ = inbound.send(Inbound::Frame { sealed, charge, _receive: receive });
        }
        Ok(())
    }

    /// A control frame about a stream has arrived.
    pub(super) fn on_control(self: &Arc<Mux>, id: u64, sealed: &Sealed) -> Result<(), String> {
        let Some(guard) = self.guard.upgrade() else { return Ok(()) };
        let mut table = self.table.lock();
        let expected = if sealed.kind == Kind::WINDOW { 4 } else { 0 };
        if sealed.payload.len() != expected {
            return Err(format!("a control frame of kind {} has a wrong length", sealed.kind.code()));
        }
        match sealed.kind {
            Kind::OPEN => {
                let refused = self.on_open(&mut table, id, &guard)?;
                // The drop of a stream that nobody accepts locks the table again.
                drop(table);
                drop(refused);
            }
            Kind::WINDOW => self.on_window(&mut table, id, sealed.payload.clone())?,
            Kind::END => self.on_end(&mut table, id, Inbound::End)?,
            Kind::RESET => self.on_end(&mut table, id, Inbound::Reset)?,
            Kind::STOP => self.on_stop(&mut table, id)?,
            kind => return Err(format!("a control frame of kind {} in a running session", kind.code())),
        }
        Ok(())
    }

    /// Hands the stream to whoever accepts; gives it back if nobody does.
    fn on_open(self: &Arc<Mux>, table: &mut Table, id: u64, guard: &Arc<Guard>) -> Result<Option<Stream>, String> {
        let of_peer = (id % 2 == 1) != self.dialled && id != 0;
        if !of_peer || id <= table.highest_of_peer {
            return Err(format!("stream {id} is opened, which is not the peer's next"));
        }
        if table.open_by_peer >= STREAMS_MAX {
            return Err(format!("stream {id} is opened beside {STREAMS_MAX} others"));
        }
        table.highest_of_peer = id;
        table.open_by_peer += 1;
        let stream = self.enter(table, id, None, guard);
        match &table.accepted {
            Some(accepted) => Ok(accepted.send(stream).err().map(|refused| refused.0)),
            None => Ok(Some(stream)),
        }
    }

    fn on_window(&self, table: &mut Table, id: u64, mut payload: Bytes) -> Result<(), String> {
        let Some(entry) = self.find(table, id)? else { return Ok(()) };
        let more = payload.get_u32_le() as usize;
        if entry.credit.available_permits() + more > STREAM_WINDOW_BYTES as usize {
            return Err(format!("stream {id} is given {more} bytes more than its window"));
        }
        entry.credit.add_permits(more);
        Ok(())
    }

    fn on_end(&self, table: &mut Table, id: u64, how: Inbound) -> Result<(), String> {
        let entry = table.streams.get_mut(&id).filter(|entry| !entry.received);
        let entry = entry.ok_or_else(|| format!("stream {id} ends, which is not open"))?;
        entry.received = true;
        if let Some(inbound) = entry.inbound.take() {
            let _ = inbound.send(how);
        }
        self.remove_if_done(table, id);
        Ok(())
    }

    fn on_stop(&self, table: &mut Table, id: u64) -> Result<(), String> {
        let Some(entry) = self.find(table, id)? else { return Ok(()) };
        entry.credit.close();
        entry.stopped.set();
        if !entry.closing {
            entry.closing = true;
            self.push(Outgoing::Reset(id));
        }
        Ok(())
    }

    /// The stream, `None` if it has gone: the peer may not know yet. An error if it never was.
    fn find<'a>(&self, table: &'a mut Table, id: u64) -> Result<Option<&'a mut Entry>, String> {
        let of_peer = (id % 2 == 1) != self.dialled;
        let was_open = id == 0 || if of_peer { id <= table.highest_of_peer } else { id < table.next };
        if !was_open {
            return Err(format!("a control frame for stream {id}, which was never opened"));
        }
        Ok(table.streams.get_mut(&id))
    }

    fn remove_if_done(&self, table: &mut Table, id: u64) {
        if table.streams.get(&id).is_some_and(|entry| entry.received && entry.sent) {
            let entry = table.streams.remove(&id).expect("it was just there");
            // Wakes whoever waits for the end of the stream; nothing more can be sent on it.
            entry.credit.close();
            entry.stopped.set();
            let of_peer = (id % 2 == 1) != self.dialled && id != 0;
            table.open_by_peer -= u32::from(of_peer);
        }
    }

    /// Queues the end of a direction, unless that has been done.
    fn end(&self, id: u64, end: fn(u64) -> Outgoing) {
        let mut table = self.table.lock();
        if let Some(entry) = table.streams.get_mut(&id)
            && !entry.closing
        {
            entry.closing = true;
            self.push(end(id));
        }
    }

    /// The writer has taken END or RESET from its queue.
    pub(super) fn on_end_taken(&self, id: u64) {
        let mut table = self.table.lock();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.sent = true;
        }
        self.remove_if_done(&mut table, id);
    }

    /// The session is over: everybody who waits is woken.
    pub(super) fn shut(&self) {
        self.queue.close();
        self.receive.close();
        self.slots.close();
        let mut table = self.table.lock();
        table.is_shut = true;
        let accepted = table.accepted.take();
        let streams = std::mem::take(&mut table.streams);
        drop(table);
        drop(accepted);
        for entry in streams.into_values() {
            entry.credit.close();
            entry.stopped.set();
        }
    }
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TCP session with {}", self.core.peer())
    }
}

/// The sending side of a stream.
#[derive(Debug)]
pub(crate) struct TcpOutlet {
    mux: Arc<Mux>,
    id: u64,
    credit: Arc<Semaphore>,
}

impl TcpOutlet {
    /// The semaphores to pay, with their sizes.
    pub(crate) fn room(&self) -> (&Arc<Semaphore>, u32, &Arc<Semaphore>, u32) {
        (&self.credit, STREAM_WINDOW_BYTES, &self.mux.queue, SESSION_QUEUE_BYTES)
    }

    /// Queues a frame that is paid for; false if the stream has ended.
    pub(crate) fn push(&self, sealed: Sealed, room: Room) -> bool {
        let table = self.mux.table.lock();
        if table.streams.get(&self.id).is_none_or(|entry| entry.closing) {
            return false;
        }
        // The peer gives it back, by WINDOW.
        room.stream.forget();
        self.mux.push(Outgoing::Data { stream: self.id, sealed, queue: room.queue });
        true
    }

    pub(crate) fn finish(&self) {
        self.mux.end(self.id, Outgoing::End);
    }

    pub(crate) fn reset(&self) {
        self.mux.end(self.id, Outgoing::Reset);
    }
}

/// The receiving side of a stream.
pub(crate) struct TcpSource {
    mux: Arc<Mux>,
    id: u64,
    arrived: mpsc::UnboundedReceiver<Inbound>,
    ended: bool,
}

impl TcpSource {
    pub(crate) async fn recv(&mut self, core: &Core) -> Result<Option<Sealed>, StreamError> {
        let next = match self.arrived.try_recv() {
            Ok(next) => Some(next),
            Err(_) => {
                // The peer may wait for all of its window to send one large frame.
                self.give_back(0, true);
                self.arrived.recv().await
            }
        };
        match next {
            Some(Inbound::Frame { sealed, charge, .. }) => {
                self.give_back(charge, false);
                Ok(Some(sealed))
            }
            Some(Inbound::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Inbound::Reset) => {
                self.ended = true;
                Err(StreamError::Reset)
            }
            None => Err(StreamError::Closed(core.wait().await)),
        }
    }

    /// Counts what was read, and tells the peer when it is worth a frame or `all` is wanted.
    fn give_back(&self, charge: u32, all: bool) {
        let mut table = self.mux.table.lock();
        let Some(entry) = table.streams.get_mut(&self.id).filter(|entry| !entry.received) else { return };
        entry.read += charge;
        if entry.read >= STREAM_WINDOW_BYTES / 4 || (all && entry.read > 0) {
            assert!(entry.read <= entry.unreturned, "read {} of {} paid", entry.read, entry.unreturned);
            entry.unreturned -= entry.read;
            self.mux.push(Outgoing::Window(self.id, entry.read));
            entry.read = 0;
        }
    }
}

impl Drop for TcpSource {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut table = self.mux.table.lock();
        if let Some(entry) = table.streams.get_mut(&self.id)
            && !entry.received
        {
            entry.inbound = None;
            self.mux.push(Outgoing::Stop(self.id));
        }
    }
}

impl fmt::Debug for TcpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stream {} of {:?}", self.id, self.mux)
    }
}
