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
use crate::protocol::{MasterAnswer, MasterRequest};

/// How far ahead of the clock a block reaches: also how much a restart may jump ahead.
const BLOCK: Duration = Duration::from_secs(3);
/// How long the master may take before it is asked again.
const CALL_TIME: Duration = Duration::from_secs(2);

/// No timestamp can be had.
#[derive(Debug, Error)]
pub enum TimestampsError {
    /// There is no master, or the catalog cannot extend the block.
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
    /// The office in which it counts.
    term: u64,
    last: Timestamp,
    bound: Timestamp,
}

impl Timestamps {
    /// Counts when this aggregator leads, and asks the master otherwise.
    pub fn new(catalog: Catalog) -> Timestamps {
        let (last, bound) = (Timestamp::ZERO, Timestamp::ZERO);
        Timestamps { catalog, counter: Mutex::new(Counter { term: 0, last, bound }) }
    }

    /// The first of `count` timestamps that nobody else has or will get, of the master, wherever that is.
    pub async fn take(&self, count: u32) -> Result<Timestamp, TimestampsError> {
        let here = || async {
            match self.take_here(count).await {
                Err(TimestampsError::Catalog(CatalogError::Moved)) => None,
                taken => Some(taken),
            }
        };
        let take = |answer| match answer {
            MasterAnswer::Timestamps(first) => Ok(Ok(first)),
            other => Err(Box::new(other)),
        };
        self.catalog.at_master(&MasterRequest::Timestamps { count }, CALL_TIME, here, take).await?
    }

    /// The same, if this aggregator is the master: that is asked after the request has arrived.
    pub async fn take_here(&self, count: u32) -> Result<Timestamp, TimestampsError> {
        let term = self.catalog.office().await?;
        let mut counter = self.counter.lock().await;
        if counter.term > term {
            return Err(CatalogError::Moved.into());
        }
        let block = self.catalog.state().timestamps;
        if counter.term < term {
            // Above everything that the masters before have handed out, and all that was received.
            let last = block.upper.max(block.received);
            *counter = Counter { term, last, bound: last };
        }
        let clock = Timestamp::from_millis(now().as_millis() as u64);
        let first = clock.max(counter.last.max(block.received).next());
        let last = Timestamp(first.0 + u64::from(count.max(1)) - 1);
        if last > counter.bound {
            let upper = Timestamp(last.0 + Timestamp::from_millis(BLOCK.as_millis() as u64).0);
            let outcome = self.catalog.decide(term, Command::ExtendTimestampBlock { upper }).await?;
            outcome.map_err(|refusal| TimestampsError::Refused(refusal.to_string()))?;
            counter.bound = upper;
        }
        assert!(last <= counter.bound, "{last} is above the committed bound {}", counter.bound);
        counter.last = last;
        Ok(first)
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
