//! Writes and syncs through io_uring: one system call hands in a write and the sync linked behind it, and one wait
//! serves both the kernel's answers and the threads that append.
//!
//! The only unsafe code of the crate. What makes it sound: the kernel reads buffers and descriptors of operations
//! that this struct owns in `flying`, and an entry leaves `flying` only when the kernel has answered for all of it;
//! dropping the ring waits for those answers first.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode};

use super::disk::{Disk, Done, Op, Tag, Waker};

/// Operations that fit the submission queue at once.
const ENTRIES: u32 = 64;
const WAKE: u64 = u64::MAX;

/// The low bit of `user_data` says which half of an operation an answer is for.
const SYNC: u64 = 1;

/// A ring with its operations.
pub struct UringDisk {
    ring: IoUring,
    flying: HashMap<u64, Flying>,
    next: u64,
    wake: Arc<File>,
    /// The kernel writes the event counter here; boxed so that it stays in place.
    count: Box<[u8; 8]>,
    wake_armed: bool,
}

struct Flying {
    tag: Tag,
    /// Keep descriptor and buffer alive until the kernel is done.
    file: Arc<File>,
    data: Bytes,
    answers: u8,
}

impl UringDisk {
    /// Asks the kernel for a ring.
    pub fn new() -> io::Result<UringDisk> {
        let ring = IoUring::new(ENTRIES)?;
        if !ring.params().is_feature_ext_arg() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring of this kernel cannot wait with a timeout",
            ));
        }
        // SAFETY: `eventfd` takes no pointers; the descriptor it returns is new and owned by nobody else.
        let wake = unsafe {
            let fd = libc::eventfd(0, libc::EFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            File::from(OwnedFd::from_raw_fd(fd))
        };
        let flying = HashMap::new();
        Ok(UringDisk { ring, flying, next: 0, wake: Arc::new(wake), count: Box::new([0; 8]), wake_armed: false })
    }

    fn push(&mut self, entries: &[Entry]) {
        loop {
            // SAFETY: every pointer in the entries is into `flying` or `count` (see the module's head).
            if unsafe { self.ring.submission().push_multiple(entries) }.is_ok() {
                return;
            }
            // The queue is full: the kernel takes what is in it. A passing refusal is tried again.
            if let Err(error) = self.ring.submit() {
                assert!(passing(&error), "io_uring takes no more operations: {error}");
            }
        }
    }

    fn arm(&mut self) {
        if !self.wake_armed {
            let count = self.count.as_mut_ptr();
            let read = opcode::Read::new(Fd(self.wake.as_raw_fd()), count, 8).build().user_data(WAKE);
            self.push(&[read]);
            self.wake_armed = true;
        }
    }

    /// Takes the kernel's answers; true if there was any.
    fn reap(&mut self, done: &mut Vec<Done>) -> bool {
        let answers: Vec<(u64, i32)> =
            self.ring.completion().map(|answer| (answer.user_data(), answer.result())).collect();
        for (id, result) in &answers {
            if *id == WAKE {
                self.wake_armed = false;
                continue;
            }
            let flying = self.flying.get_mut(&(id & !SYNC)).expect("the kernel answers for what was handed in");
            let (tag, length) = (flying.tag, flying.data.len());
            flying.answers -= 1;
            if flying.answers == 0 {
                self.flying.remove(&(id & !SYNC));
            }
            let failed = (*result < 0).then(|| io::Error::from_raw_os_error(-result));
            done.push(match (id & SYNC, failed) {
                (SYNC, failed) => Done::Synced { tag, result: failed.map_or(Ok(()), Err) },
                (_, Some(error)) => Done::Written { tag, result: Err(error) },
                (_, None) => {
                    let short =
                        || io::Error::new(io::ErrorKind::WriteZero, format!("{result} of {length} bytes written"));
                    let whole = usize::try_from(*result) == Ok(length);
                    Done::Written { tag, result: if whole { Ok(()) } else { Err(short()) } }
                }
            });
        }
        !answers.is_empty()
    }

    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = match timeout {
            Some(timeout) => {
                let span = Timespec::from(timeout);
                self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&span))
            }
            None => self.ring.submit_and_wait(1),
        };
        match result {
            Err(error) if error.raw_os_error() != Some(libc::ETIME) && !passing(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Refusals after which the same call may be made again: nothing was begun.
fn passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl Disk for UringDisk {
    fn name(&self) -> &'static str {
        "io_uring"
    }

    fn submit(&mut self, op: Op) {
        let id = self.next << 1;
        self.next += 1;
        let sync_of = |file: &File, id: u64| {
            opcode::Fsync::new(Fd(file.as_raw_fd())).flags(FsyncFlags::DATASYNC).build().user_data(id | SYNC)
        };
        match op {
            Op::Write { tag, file, offset, data, sync } => {
                let length = u32::try_from(data.len()).expect("a write fits a segment, and those end below 4 GiB");
                let write = opcode::Write::new(Fd(file.as_raw_fd()), data.as_ptr(), length).offset(offset);
                let write = write.build().user_data(id);
                let fsync = sync_of(&file, id);
                self.flying.insert(id, Flying { tag, file, data, answers: 1 + u8::from(sync) });
                match sync {
                    true => self.push(&[write.flags(Flags::IO_LINK), fsync]),
                    false => self.push(&[write]),
                }
            }
            Op::Sync { tag, file } => {
                let fsync = sync_of(&file, id);
                self.flying.insert(id, Flying { tag, file, data: Bytes::new(), answers: 1 });
                self.push(&[fsync]);
            }
        }
        // A refusal here is met again in `wait`, which reports it.
        let _ = self.ring.submit();
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()> {
        self.arm();
        if !self.reap(done) {
            self.enter(timeout)?;
            self.reap(done);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        // It fails only if the counter is full: then the ring wakes anyway.
        Arc::new(move || drop((&*wake).write(&1u64.to_ne_bytes())))
    }
}

impl Drop for UringDisk {
    fn drop(&mut self) {
        (self.waker())();
        let mut done = vec![];
        while !self.flying.is_empty() || self.wake_armed {
            if self.enter(None).is_err() {
                // The kernel may still read the buffers: they must outlive this struct.
                self.flying.drain().for_each(|(_, flying)| std::mem::forget((flying.file, flying.data)));
                std::mem::forget(std::mem::take(&mut self.count));
                return;
            }
            self.reap(&mut done);
        }
    }
}
