//! The timestamp service: hybrid physical time from one counter, bounded by a block that the catalog has committed.
//!
//! Every timestamp handed out is above all handed out before, by any leader: a leader starts above the committed
//! bound and never passes the bound that it has committed itself. Timestamps received from other regions raise it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::catalog::Command;
use thiserror::Error;
use tokio::sync::Mutex;
use types::Timestamp;

use super::catalog::{Catalog, CatalogError};

/// How far ahead of the clock a block reaches: also how much a restart may jump ahead.
const BLOCK: Duration = Duration::from_secs(3);

/// No timestamp can be had.
#[derive(Debug, Error)]
pub enum TimestampsError {
    /// The catalog cannot extend the block.
    #[error("no timestamp: {0}")]
    Catalog(#[from] CatalogError),
    /// The catalog refused the block.
    #[error("no timestamp: {0}")]
    Refused(String),
}

/// Hands out timestamps. Invariant: `last` <= `bound`, and `bound` is committed.
pub struct Timestamps {
    catalog: Catalog,
    counter: Mutex<Counter>,
}

struct Counter {
    last: Timestamp,
    bound: Timestamp,
}

impl Timestamps {
    /// Starts above everything that the catalog knows to have been handed out or received.
    pub fn new(catalog: Catalog) -> Timestamps {
        let block = catalog.state().timestamps;
        let last = block.upper.max(block.received);
        Timestamps { catalog, counter: Mutex::new(Counter { last, bound: last }) }
    }

    /// The first of `count` timestamps that nobody else has or will get.
    pub async fn take(&self, count: u32) -> Result<Timestamp, TimestampsError> {
        let mut counter = self.counter.lock().await;
        let received = self.catalog.state().timestamps.received;
        let clock = Timestamp::from_millis(now().as_millis() as u64);
        let first = clock.max(counter.last.max(received).next());
        let last = Timestamp(first.0 + u64::from(count.max(1)) - 1);
        if last > counter.bound {
            let upper = Timestamp(last.0 + Timestamp::from_millis(BLOCK.as_millis() as u64).0);
            let outcome = self.catalog.propose(Command::ExtendTimestampBlock { upper }).await?;
            outcome.map_err(|refusal| TimestampsError::Refused(refusal.to_string()))?;
            counter.bound = upper;
        }
        counter.last = last;
        Ok(first)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
