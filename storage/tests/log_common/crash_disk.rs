//! A disk whose power can be cut: what was not synced then reaches the platter in parts, garbled, or not at all.
//!
//! Operations wait in a queue and are done in random order, a sync covering exactly the writes done before it. The
//! real files hold what a real disk would after a loss of power.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use perennial_storage::log::disk::{Disk, Done, Op, Tag, Waker};

const SECTOR: usize = 512;

/// Numbers that look random and follow from a seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

struct Written {
    file: Arc<File>,
    offset: u64,
    data: Bytes,
}

struct State {
    dice: Dice,
    queue: Vec<Op>,
    done: Vec<Done>,
    /// In the cache only.
    unsynced: Vec<Written>,
    crashed: bool,
    woken: bool,
    /// Every operation done, for a test to look at.
    trace: Vec<String>,
}

/// Handle of the test; the log owns the `Disk`.
#[derive(Clone)]
pub struct Power(Arc<(Mutex<State>, Condvar)>);

pub struct CrashDisk(Power);

pub fn crash_disk(seed: u64) -> (Box<CrashDisk>, Power) {
    let state = State {
        dice: Dice(seed),
        queue: vec![],
        done: vec![],
        unsynced: vec![],
        crashed: false,
        woken: false,
        trace: vec![],
    };
    let power = Power(Arc::new((Mutex::new(state), Condvar::new())));
    (Box::new(CrashDisk(power.clone())), power)
}

impl Power {
    /// Cuts the power: from now on nothing is done, and what was not synced is torn.
    pub fn cut(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.crashed = true;
        let queue = std::mem::take(&mut state.queue);
        for op in queue {
            if let Op::Write { file, offset, data, .. } = &op {
                let written = Written { file: file.clone(), offset: *offset, data: data.clone() };
                state.unsynced.push(written);
            }
            fail(&mut state.done, op);
        }
        let mut unsynced = std::mem::take(&mut state.unsynced);
        while !unsynced.is_empty() {
            let at = state.dice.roll(unsynced.len() as u64) as usize;
            tear(&mut state.dice, unsynced.swap_remove(at));
        }
        changed.notify_all();
    }
}

fn fail(done: &mut Vec<Done>, op: Op) {
    let dead = || Err(io::Error::other("the power is off"));
    match op {
        Op::Write { tag, sync, .. } => {
            done.push(Done::Written { tag, result: dead() });
            if sync {
                done.push(Done::Synced { tag, result: dead() });
            }
        }
        Op::Sync { tag, .. } => done.push(Done::Synced { tag, result: dead() }),
    }
}

/// Writes all of it, none of it, or some sectors, one of them perhaps wrong.
fn tear(dice: &mut Dice, written: Written) {
    let kind = dice.roll(4);
    for (index, sector) in written.data.chunks(SECTOR).enumerate() {
        let offset = written.offset + (index * SECTOR) as u64;
        let keep = kind == 0 || kind >= 2 && dice.roll(2) == 0;
        if keep {
            written.file.write_all_at(sector, offset).unwrap();
        } else if kind == 3 && dice.roll(8) == 0 {
            let garbled: Vec<u8> = sector.iter().map(|byte| byte ^ dice.roll(256) as u8).collect();
            written.file.write_all_at(&garbled, offset).unwrap();
        }
    }
}

impl State {
    fn perform(&mut self, op: Op) {
        match op {
            Op::Write { tag, file, offset, data, sync } => {
                self.trace.push(format!("write {}", tag.0));
                self.unsynced.push(Written { file: file.clone(), offset, data });
                self.done.push(Done::Written { tag, result: Ok(()) });
                if sync {
                    self.queue.push(Op::Sync { tag, file });
                }
            }
            Op::Sync { tag, file } => self.sync(tag, &file),
        }
    }

    fn sync(&mut self, tag: Tag, file: &Arc<File>) {
        self.trace.push(format!("sync {}", tag.0));
        for written in self.unsynced.extract_if(.., |written| Arc::ptr_eq(&written.file, file)) {
            written.file.write_all_at(&written.data, written.offset).unwrap();
        }
        self.done.push(Done::Synced { tag, result: Ok(()) });
    }
}

impl Disk for CrashDisk {
    fn name(&self) -> &'static str {
        "crash"
    }

    fn submit(&mut self, op: Op) {
        let mut state = self.0.0.0.lock().unwrap();
        match state.crashed {
            true => fail(&mut state.done, op),
            false => state.queue.push(op),
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, done: &mut Vec<Done>) -> io::Result<()> {
        let (state, changed) = &*self.0.0;
        let mut state = state.lock().unwrap();
        if state.queue.is_empty() && state.done.is_empty() && !state.woken {
            let timeout = timeout.unwrap_or(Duration::from_secs(1));
            state = changed.wait_timeout(state, timeout).unwrap().0;
        }
        state.woken = false;
        while !state.queue.is_empty() && (state.done.is_empty() || state.dice.roll(2) == 0) {
            let length = state.queue.len() as u64;
            let at = state.dice.roll(length) as usize;
            let op = state.queue.remove(at);
            state.perform(op);
        }
        done.append(&mut state.done);
        Ok(())
    }

    fn waker(&self) -> Waker {
        let power = self.0.clone();
        Arc::new(move || {
            power.0.0.lock().unwrap().woken = true;
            power.0.1.notify_all();
        })
    }
}
