//! The region's catalog: `catalog::State`, replicated over raft-rs, and the only way to change it.
//!
//! [`Catalog::propose`] returns when a command is on disk, committed and applied; [`Catalog::state`] is the state as
//! of the last one. One aggregator is a raft group of one, not a special case: commands go through the same log.

use std::path::Path;
use std::sync::{Arc, mpsc};

use ::catalog::{Command, Outcome, Refusal, State};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot, watch};

use super::driver::{Driver, Proposal};
use super::store::{Store, StoreError};

/// Commands that may wait to be decided; more make their proposers wait.
const PROPOSALS_MAX: usize = 1024;

/// The catalog cannot decide.
#[derive(Clone, Debug, Error)]
pub enum CatalogError {
    /// No majority of the aggregators can be reached.
    #[error("the catalog has no leader at the moment: repeat the statement")]
    NoLeader,
    /// Its file failed.
    #[error("the catalog has stopped: {0}")]
    Stopped(String),
    /// Raft refuses.
    #[error("the catalog's raft group: {0}")]
    Raft(String),
    /// The snapshot on disk is not readable.
    #[error("the catalog's snapshot cannot be read: it was written by another version or is damaged")]
    Snapshot,
}

impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> CatalogError {
        CatalogError::Stopped(error.to_string())
    }
}

/// A handle on the catalog of this aggregator. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    proposals: mpsc::Sender<Proposal>,
    permits: Arc<Semaphore>,
    states: watch::Receiver<Arc<State>>,
}

impl Catalog {
    /// Opens the catalog in `dir`. `node` is this aggregator's number in the raft group, from 1; `empty` is what a new
    /// cluster starts with.
    pub fn open(dir: &Path, node: u64, empty: State) -> Result<Catalog, CatalogError> {
        let (store, stored) = Store::open(&dir.join("catalog.redb"))?;
        let (mut driver, states) = Driver::new(store, stored, node, empty)?;
        driver.lead_alone()?;
        let (proposals, receiver) = mpsc::channel();
        let thread = std::thread::Builder::new().name("catalog".into());
        thread.spawn(move || driver.run(receiver)).map_err(|error| CatalogError::Stopped(error.to_string()))?;
        Ok(Catalog { proposals, permits: Arc::new(Semaphore::new(PROPOSALS_MAX)), states })
    }

    /// Decides a command. The outer error: it is not known whether it was decided.
    pub async fn propose(&self, command: Command) -> Result<Result<Outcome, Refusal>, CatalogError> {
        let stopped = || CatalogError::Stopped("its thread has ended, see the log".into());
        let _permit = self.permits.acquire().await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        self.proposals.send(Proposal { command, reply }).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// The state as of the last command that was applied.
    pub fn state(&self) -> Arc<State> {
        self.states.borrow().clone()
    }

    /// Waits for changes.
    pub fn changes(&self) -> watch::Receiver<Arc<State>> {
        self.states.clone()
    }
}
