//! Writes and syncs by plain system calls: for kernels that refuse io_uring. Writes go into the page cache where
//! they are submitted; a thread of its own syncs, so that the next batch is written meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::{Disk, Done, Op, Tag, Waker};

/// `pwrite` here, `fdatasync` on another thread.
pub struct ThreadDisk {
    events: Receiver<Event>,
    sender: Sender<Event>,
    syncs: Option<Sender<(Tag, Arc<File>)>>,
    thread: Option<JoinHandle<()>>,
}

enum Event {
    Done(Done),
    Wake,
}

impl ThreadDisk {
    /// Starts the thread that syncs.
    pub fn new() -> io::Result<ThreadDisk> {
        let (sender, events) = channel();
        let (syncs, orders) = channel::<(Tag, Arc<File>)>();
        let reports = sender.clone();
        let thread = std::thread::Builder::new().name("log-sync".into()).spawn(move || {
            for (tag, file) in orders {
                let done = Done::Synced { tag, result: file.sync_data() };
                if reports.send(Event::Done(done)).is_err() {
                    return;
                }
            }
        })?;
        Ok(ThreadDisk { events, sender, syncs: Some(syncs), thread: Some(thread) })
    }

    fn sync(&self, tag: Tag, file: Arc<File>) {
        let syncs = self.syncs.as_ref().expect("taken only when the disk is dropped");
        syncs.send((tag, file)).expect("the thread ends only after this sender");
    }

    fn done(&self, done: Done) {
        self.sender.send(Event::Done(done)).expect("the receiver is in the same struct");
    }
}

impl Disk for ThreadDisk {
    fn name(&self) -> &'static str {
        "pwrite and fdatasync"
    }

    fn submit(&mut self, op: Op) {
        match op {
            Op::Write { tag, file, offset, data, sync } => {
                let result = file.write_all_at(&data, offset);
                let failed = result.is_err();
                self.done(Done::Written { tag, result });
                match (sync, failed) {
                    (true, false) => self.sync(tag, file),
                    (true, true) => {
                        self.done(Done::Synced { tag, result: Err(io::Error::other("not synced: the write failed")) });
                    }
                    (false, _) => {}
                }
            }
            Op::Sync { tag, file } => self.sync(tag, file),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()> {
        let first = match timeout {
            Some(timeout) => self.events.recv_timeout(timeout),
            None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let events = first.ok().into_iter().chain(self.events.try_iter());
        done.extend(events.filter_map(|event| match event {
            Event::Done(done) => Some(done),
            Event::Wake => None,
        }));
        Ok(())
    }

    fn waker(&self) -> Waker {
        let sender = self.sender.clone();
        // Without a receiver nobody waits.
        Arc::new(move || drop(sender.send(Event::Wake)))
    }
}

impl Drop for ThreadDisk {
    fn drop(&mut self) {
        self.syncs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; dropping must not panic again.
            let _ = thread.join();
        }
    }
}
