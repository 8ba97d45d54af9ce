//! Every bound of this crate as a named constant: sizes in bytes, times as `Duration`, with the reason beside it.
//!
//! Both ends of a session must agree on the sizes, so they are constants of the protocol version. Times and counts
//! may differ between nodes; they are fields of [`Limits`], with the constants as defaults, so that a test can
//! make rare paths common.

use std::time::Duration;

/// Largest payload of a control frame: a reason text, a hello, a number.
pub const CONTROL_BYTES_MAX: usize = 4 << 10;
/// Largest payload of a message frame: acknowledgements, heartbeats, marks, small requests.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Largest payload of a bulk frame, also after decompression: a row of 16 MiB with its old value, its index entries
/// and its record header fits twice.
pub const BULK_BYTES_MAX: usize = 64 << 20;
/// Largest payload of any frame from a peer that has not yet been trusted: a login and its answer.
pub const UNTRUSTED_BYTES_MAX: usize = 64 << 10;

/// Payloads below this are sent as they are: compression would cost more than the bytes that it saves.
pub const COMPRESS_FROM_BYTES: usize = 512;
/// The zstd level: 1 keeps up with a fast network on one core, and a log shrinks by most of what is to be had.
pub const COMPRESS_LEVEL: i32 = 1;

/// Bytes of one TCP stream that may be on their way to a reader that does not read. Covers 1 ms at 8 Gbit/s.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// The same for one QUIC stream between regions: covers 100 ms at 1 Gbit/s.
pub const QUIC_STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Streams that each side of a session may have open at once: partitions of a leaf pair plus calls.
pub const STREAMS_MAX: u32 = 1024;
/// Bytes charged for a frame beside its payload, so that a window also bounds the number of frames.
pub const FRAME_CHARGE_BYTES: u32 = 64;

/// Bytes of a session that wait to be written; a sender waits when it is reached.
pub const SESSION_QUEUE_BYTES: u32 = 16 << 20;
/// Bytes of one QUIC stream that wait to be given to QUIC, which has a window of its own behind it.
pub const QUIC_QUEUE_BYTES: u32 = 256 << 10;
/// Bytes of a session that wait to be read by their streams; the socket is not read when it is reached.
pub const SESSION_RECEIVE_BYTES: u32 = 128 << 20;
/// Receive window of a whole QUIC session before its peer is trusted.
pub const UNTRUSTED_RECEIVE_BYTES: u32 = 256 << 10;
/// Streams that a peer may open on a QUIC session before it is trusted: the main stream and one call.
pub const UNTRUSTED_STREAMS_MAX: u32 = 2;

/// Calls that one side runs at once on one session, and a client's default number of calls in flight. Below
/// [`STREAMS_MAX`], so that calls never starve the streams of partitions.
pub const CALLS_MAX: usize = 256;

/// Bytes that a writer gathers before it writes: one TLS record is at most 16 KiB.
pub const WRITE_BATCH_BYTES: usize = 64 << 10;
/// Payloads up to this are copied into the batch, larger ones are written from where they are.
pub const COPY_BYTES_MAX: usize = 16 << 10;
/// Bytes that are read from a socket at once.
pub const READ_CHUNK_BYTES: usize = 64 << 10;
/// Socket buffers that a QUIC endpoint asks for, in each direction: a burst of 100 ms at 300 Mbit/s.
pub const UDP_BUFFER_BYTES: usize = 4 << 20;

/// Time to reach a peer. A lost SYN packet is sent again after one second, then after two, four and so on: a new attempt
/// finds a link that is back sooner than an old one.
pub const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Time from the first byte to the end of TLS and hello: beyond it the other side is silent or hostile.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Time in which a socket must take at least one more byte.
pub const WRITE_TIME: Duration = Duration::from_secs(10);
/// Time in which the peer's host must acknowledge what it was sent on TCP, or make room for it. The pauses between two
/// attempts to send it double: a connection that outlives a cut is silent for as long again once the link is back, and a
/// new one is not. Above the time after which a node's silence is its failure, which takes its partitions from it.
pub const UNACKED_TIME: Duration = Duration::from_secs(2);
/// Time that a sender waits for a reader to make room.
pub const SEND_TIME: Duration = Duration::from_secs(30);
/// Silence after which a session is over. Failure of a node is decided by its heartbeats, much sooner.
pub const IDLE_TIME: Duration = Duration::from_secs(15);
/// The same between regions, over QUIC: nobody refuses there when a process has died, and after a cut a connection is silent
/// for as long again. A new session costs two round trips and a comparison.
pub const LINK_IDLE_TIME: Duration = Duration::from_secs(6);
/// A sender that has nothing to say says so this often.
pub const KEEP_ALIVE_TIME: Duration = Duration::from_secs(3);
/// Time for a farewell to be written and read.
pub const CLOSE_TIME: Duration = Duration::from_secs(1);
/// First wait between two attempts to reach a peer; doubles up to [`RETRY_TIME_MAX`].
pub const RETRY_TIME_MIN: Duration = Duration::from_millis(20);
/// Longest wait between two attempts to reach a peer.
pub const RETRY_TIME_MAX: Duration = Duration::from_secs(1);

/// Handshakes that a listener has under way; more are turned away at once.
pub const HANDSHAKES_MAX: usize = 256;
/// Sessions that a listener holds; more are turned away at once. 1,000 nodes with a few sessions each.
pub const SESSIONS_MAX: usize = 8192;
/// Sessions that have passed the handshake and wait to be taken by the listener's owner.
pub const ACCEPT_QUEUE: usize = 64;

const _: () = assert!(CALLS_MAX < STREAMS_MAX as usize, "calls must leave room for other streams");
const _: () = assert!(BULK_BYTES_MAX <= SESSION_RECEIVE_BYTES as usize, "one frame must fit in what may be received");
const _: () = assert!(UNTRUSTED_BYTES_MAX < UNTRUSTED_RECEIVE_BYTES as usize, "a login must fit in its window");

/// The bounds that a node may choose for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// See [`CONNECT_TIME`].
    pub connect: Duration,
    /// See [`HANDSHAKE_TIME`].
    pub handshake: Duration,
    /// See [`WRITE_TIME`].
    pub write: Duration,
    /// See [`UNACKED_TIME`].
    pub unacked: Duration,
    /// See [`SEND_TIME`].
    pub send: Duration,
    /// See [`IDLE_TIME`].
    pub idle: Duration,
    /// See [`LINK_IDLE_TIME`].
    pub link_idle: Duration,
    /// See [`KEEP_ALIVE_TIME`].
    pub keep_alive: Duration,
    /// See [`CLOSE_TIME`].
    pub close: Duration,
    /// See [`RETRY_TIME_MIN`].
    pub retry_min: Duration,
    /// See [`RETRY_TIME_MAX`].
    pub retry_max: Duration,
    /// See [`HANDSHAKES_MAX`].
    pub handshakes_max: usize,
    /// See [`SESSIONS_MAX`].
    pub sessions_max: usize,
    /// See [`CALLS_MAX`].
    pub calls_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connect: CONNECT_TIME,
            handshake: HANDSHAKE_TIME,
            write: WRITE_TIME,
            unacked: UNACKED_TIME,
            send: SEND_TIME,
            idle: IDLE_TIME,
            link_idle: LINK_IDLE_TIME,
            keep_alive: KEEP_ALIVE_TIME,
            close: CLOSE_TIME,
            retry_min: RETRY_TIME_MIN,
            retry_max: RETRY_TIME_MAX,
            handshakes_max: HANDSHAKES_MAX,
            sessions_max: SESSIONS_MAX,
            calls_max: CALLS_MAX,
        }
    }
}

impl Limits {
    /// Refuses combinations that cannot work, with a sentence that names both values.
    pub fn validate(&self) -> Result<(), String> {
        if self.keep_alive * 2 > self.idle.min(self.link_idle) {
            return Err(format!(
                "keep_alive ({:?}) must be at most half of idle ({:?}) and of link_idle ({:?}), or one lost packet ends a quiet session",
                self.keep_alive, self.idle, self.link_idle
            ));
        }
        if self.retry_min.is_zero() || self.retry_min > self.retry_max {
            return Err(format!(
                "retry_min ({:?}) must be above zero and at most retry_max ({:?})",
                self.retry_min, self.retry_max
            ));
        }
        if self.calls_max == 0 || self.calls_max >= STREAMS_MAX as usize {
            return Err(format!(
                "calls_max ({}) must be from 1 to below the {STREAMS_MAX} streams of a session",
                self.calls_max
            ));
        }
        if self.handshakes_max == 0 || self.sessions_max == 0 {
            return Err(format!(
                "handshakes_max ({}) and sessions_max ({}) must be above zero",
                self.handshakes_max, self.sessions_max
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_each_rule_refuses() {
        assert_eq!(Limits::default().validate(), Ok(()));
        let second = Duration::from_secs(1);
        let bad = [
            Limits { keep_alive: second, idle: second, ..Limits::default() },
            Limits { keep_alive: second, link_idle: second, ..Limits::default() },
            Limits { retry_min: Duration::ZERO, ..Limits::default() },
            Limits { retry_min: second * 9, ..Limits::default() },
            Limits { calls_max: STREAMS_MAX as usize, ..Limits::default() },
            Limits { handshakes_max: 0, ..Limits::default() },
            Limits { sessions_max: 0, ..Limits::default() },
        ];
        for limits in bad {
            assert!(limits.validate().is_err(), "accepted {limits:?}");
        }
    }
}
