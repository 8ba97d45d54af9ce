//! A link whose frames pass through this program, which keeps each one for a while and loses some of them.
//!
//! Not every kernel has `netem`. A relay takes raw frames from the end of a node's link, puts them on another link that
//! ends at the bridge, and the other way round; both ends see a line that is late or lossy. Frames do not overtake each
//! other. Cards leave checksums and the cutting of large frames to be done later; the header that says so precedes each
//! frame that is read (`PACKET_VNET_HDR`) and is written with it, so a large frame is kept or lost as a whole.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How long the thread sleeps at most, so that it sees that it shall end.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that are on their way in one direction; what comes when so many are is lost, as in a router.
const ON_THE_WAY: usize = 16 << 20;
/// A frame with its header, uncut.
const FRAME: usize = 128 << 10;
/// All kinds of frames, in the order of the network.
const ETH_P_ALL: u16 = (libc::ETH_P_ALL as u16).to_be();
/// Of `linux/if_packet.h`.
const PACKET_VNET_HDR: c_int = 15;
const PACKET_IGNORE_OUTGOING: c_int = 23;

/// How good a line is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// Every frame takes so long.
    pub delay: Duration,
    /// And up to so much longer.
    pub jitter: Duration,
    /// The share of the frames that are lost.
    pub loss: f64,
}

/// What a relay has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames that came.
    pub frames: u64,
    /// Those among them that went no further.
    pub lost: u64,
}

/// A relay that works. Dropping it without `stop` leaves it at work until the program ends.
pub struct Relay {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Passed>,
}

impl Relay {
    /// Passes frames between two network interfaces, which nobody else may use meanwhile.
    pub fn between(interfaces: [&str; 2], quality: Quality, seed: u64) -> Result<Relay> {
        let [one, other] = interfaces.map(|name| open(name).with_context(|| format!("frames of interface {name}")));
        Ok(Relay::start([one?, other?], quality, seed))
    }

    fn start(ends: [OwnedFd; 2], quality: Quality, seed: u64) -> Relay {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = ends.map(|end| End { file: File::from(end), waiting: VecDeque::new(), bytes: 0 });
        let mut line = Line { ends, quality, random: ChaCha8Rng::seed_from_u64(seed), passed: Passed::default() };
        let ended = stop.clone();
        Relay { stop, thread: std::thread::spawn(move || line.pass(&ended)) }
    }

    /// Ends it; what is on its way is lost.
    pub fn stop(self) -> Passed {
        self.stop.store(true, Ordering::Relaxed);
        // It does nothing that could panic.
        self.thread.join().unwrap_or_default()
    }
}

/// One end, and what is on its way to it.
struct End {
    file: File,
    waiting: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
}

struct Line {
    ends: [End; 2],
    quality: Quality,
    random: ChaCha8Rng,
    passed: Passed,
}

impl Line {
    fn pass(&mut self, stop: &AtomicBool) -> Passed {
        let mut frame = vec![0; FRAME];
        while !stop.load(Ordering::Relaxed) {
            for end in &mut self.ends {
                self.passed.lost += end.send(Instant::now());
            }
            let due = self.ends.iter().filter_map(|end| end.waiting.front().map(|(due, _)| *due)).min();
            let pause = due.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
            wait([&self.ends[0].file, &self.ends[1].file], pause);
            for from in 0..2 {
                // An interface that is down for a moment has no frames.
                while let Ok(length) = self.ends[from].file.read(&mut frame) {
                    self.take(1 - from, &frame[..length], Instant::now());
                }
            }
        }
        self.passed
    }

    /// A frame has come that is meant for this end.
    fn take(&mut self, to: usize, frame: &[u8], now: Instant) {
        self.passed.frames += 1;
        let (end, quality) = (&mut self.ends[to], self.quality);
        if end.bytes + frame.len() > ON_THE_WAY || self.random.random_bool(quality.loss) {
            self.passed.lost += 1;
            return;
        }
        let due = now + quality.delay + quality.jitter.mul_f64(self.random.random());
        let due = end.waiting.back().map_or(due, |(last, _)| due.max(*last));
        end.waiting.push_back((due, frame.to_vec()));
        end.bytes += frame.len();
    }
}

impl End {
    /// Sends what is due; answers how many frames could not be sent.
    fn send(&mut self, now: Instant) -> u64 {
        let mut lost = 0;
        while self.waiting.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, frame)) = self.waiting.pop_front() else { break };
            self.bytes -= frame.len();
            lost += u64::from(self.file.write(&frame).is_err());
        }
        lost
    }
}

/// A socket that reads and writes whole frames of an interface.
fn open(name: &str) -> io::Result<OwnedFd> {
    let path = format!("/sys/class/net/{name}/ifindex");
    let index = index_of(name).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, path))?;
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // It receives nothing before it is bound, for it names no kind of frames yet.
    // SAFETY: no memory is handed over.
    let socket = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just made it for this function, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
    set(&socket, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ON_THE_WAY as c_int)?;
    // SAFETY: this type consists of numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ALL;
    address.sll_ifindex = index;
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address lives through the call and is as long as is said.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) })?;
    Ok(socket)
}

fn index_of(name: &str) -> Option<c_int> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the name ends with a zero and lives through the call.
    c_int::try_from(unsafe { libc::if_nametoindex(name.as_ptr()) }).ok().filter(|index| *index > 0)
}

fn set(socket: &OwnedFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let (at, size) = ((&raw const value).cast::<c_void>(), size_of::<c_int>() as libc::socklen_t);
    // SAFETY: the value lives through the call and is as long as is said.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, at, size) }).map(|_| ())
}

/// Waits until something can be read, or for so long.
fn wait(files: [&File; 2], limit: Duration) {
    let mut polled = files.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    // A frame that is due within less than a millisecond is sent a little late.
    let millis = limit.as_micros().div_ceil(1000) as c_int;
    // SAFETY: the array lives through the call and has as many items as is said. Whatever it answers, all is looked at.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, millis) };
}

fn checked(answer: c_int) -> io::Result<c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// A relay between two sockets that keep frames apart as interfaces do.
    fn relay(quality: Quality) -> (Relay, [UnixDatagram; 2]) {
        let pair = || {
            let (here, there) = UnixDatagram::pair().expect("sockets are made");
            there.set_nonblocking(true).expect("it is a socket");
            here.set_read_timeout(Some(Duration::from_secs(10))).expect("it is a socket");
            (here, OwnedFd::from(there))
        };
        let ((one, to_one), (other, to_other)) = (pair(), pair());
        (Relay::start([to_one, to_other], quality, 7), [one, other])
    }

    fn send(from: &UnixDatagram, to: &UnixDatagram, frames: u32) -> Vec<u32> {
        for number in 0..frames {
            from.send(&number.to_be_bytes()).expect("somebody reads");
        }
        from.send(b"end").expect("somebody reads");
        let mut buffer = [0; 16];
        let next = || to.recv(&mut buffer).ok().and_then(|length| buffer[..length].try_into().ok());
        std::iter::from_fn(next).map(u32::from_be_bytes).collect()
    }

    #[test]
    fn frames_are_late_and_in_order() {
        let delay = Duration::from_millis(30);
        let (relay, [one, other]) = relay(Quality { delay, jitter: delay, loss: 0.0 });
        let begun = Instant::now();
        assert_eq!(send(&one, &other, 100), (0..100).collect::<Vec<u32>>());
        assert!(begun.elapsed() >= delay, "nothing comes before its time");
        assert_eq!(send(&other, &one, 3), [0, 1, 2]);
        assert_eq!(relay.stop(), Passed { frames: 105, lost: 0 });
    }

    #[test]
    fn a_share_of_the_frames_is_lost() {
        // Nobody reads before all are sent: the kernel keeps 277 of them for one that does not.
        let (delay, frames) = (Duration::ZERO, 200);
        let (relay, [one, other]) = relay(Quality { delay, jitter: delay, loss: 0.25 });
        let came = send(&one, &other, frames);
        assert!(came.is_sorted());
        let passed = relay.stop();
        assert_eq!(came.len() as u64, passed.frames - passed.lost - 1, "all but the last are numbers");
        assert!((25..75).contains(&passed.lost), "{passed:?}");
    }
}
