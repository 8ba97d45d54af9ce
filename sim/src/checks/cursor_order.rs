//! `protocol.md` section 2: trimmed <= flushed <= applied <= committed <= appended, and flushed <= durable <= appended.

use crate::disk::Disk;
use crate::node::Hosted;

/// As it is reported.
pub const NAME: &str = "cursor_order";

/// The replica's own cursors, and those of its disk.
pub fn check(hosted: &Hosted, disk: &Disk) -> Result<(), String> {
    let cursors = hosted.replica.cursors();
    let (appended, applied, durable, flushed) = (hosted.log.end(), hosted.state.applied, disk.log.end(), disk.flushed);
    let rewinding = hosted.rewind.is_some();
    let order = [
        ("applied", cursors.applied, "committed", cursors.committed),
        ("committed", cursors.committed, "appended", appended),
        ("state", if rewinding { cursors.applied } else { applied }, "committed", cursors.committed),
        ("trimmed", disk.log.trimmed(), "flushed", flushed),
    ];
    for (low, low_at, high, high_at) in order {
        if low_at > high_at {
            return Err(format!("{low} {low_at} above {high} {high_at} at {}", hosted.replica.id()));
        }
    }
    // While a rewind is under way or just over, older entries of the journal are still on their way.
    if flushed > durable {
        return Err(format!("flushed {flushed} above durable {durable} at {}", hosted.replica.id()));
    }
    if cursors.durable > durable && !rewinding {
        return Err(format!(
            "durable {} by the replica, {durable} on disk at {}",
            cursors.durable,
            hosted.replica.id()
        ));
    }
    Ok(())
}
