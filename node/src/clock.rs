//! The clock that leases are counted on: it runs while the machine is suspended and is never set back.

use replication::Instant;

/// Now.
pub fn now() -> Instant {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives through the call; CLOCK_BOOTTIME exists on every Linux that is supported.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    assert_eq!(result, 0, "clock_gettime(CLOCK_BOOTTIME) cannot fail");
    Instant(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}
