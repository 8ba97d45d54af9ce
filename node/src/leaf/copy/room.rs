//! Room for copies. One that does not fit is not begun: it would take the room of the partitions that are served here, and
//! these would take no more writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::CopyError;
use crate::leaf::rules::Rules;

/// What the disk has beside its reserve, less what copies that come in now will take.
#[derive(Clone)]
pub struct Room {
    rules: Arc<Rules>,
    claimed: Arc<AtomicU64>,
}

/// Room for one copy, until it is dropped. What has come in counts twice meanwhile: the next copy waits rather than both
/// fill the disk.
pub struct Claim {
    claimed: Arc<AtomicU64>,
    bytes: u64,
}

impl Room {
    /// Of the disk that these rules are about.
    pub fn new(rules: Arc<Rules>) -> Room {
        Room { rules, claimed: Arc::default() }
    }

    /// Room for so many bytes, or [`CopyError::NoRoom`].
    pub fn claim(&self, bytes: u64) -> Result<Claim, CopyError> {
        let claimed = self.claimed.fetch_add(bytes, Ordering::Relaxed);
        let claim = Claim { claimed: self.claimed.clone(), bytes };
        let room = self.rules.room().saturating_sub(claimed);
        if bytes > room { Err(CopyError::NoRoom { bytes, room }) } else { Ok(claim) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claimed.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
