//! Brings fences on: from drained to sealed, from sealed to where the database ends.
//!
//! - *Draining*: when no transaction of any aggregator may still write to the database, and each primary has said,
//!   after that moment and having obeyed the fence, that it holds no lock and nothing prepared: seal.
//! - *Sealed*: when each primary has named its final position under the seal, one timestamp is taken. It is above all
//!   that was ever committed here; with the positions it becomes durable in the catalog, and every primary hears of it
//!   with each heartbeat as long as the seal lasts, a new one, too.
//! - At a fence's timeout what is not decided is rolled back, by every aggregator. Deadlines are this master's own: the
//!   statement that waits tells the next one; without it that one waits for [`TIMEOUT`].
//!
//! Everything else is in the catalog or said again, so that it goes on wherever it was when a process ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::catalog::database::{Fenced, Finals};
use ::catalog::{Command, State};
use parking_lot::Mutex;
use types::{DatabaseId, Fence, PartitionId, Revision};

use super::{Catalog, Detector, Timestamps};
use crate::protocol::Round;

/// Between two looks at fences.
const LOOK: Duration = Duration::from_millis(10);
/// How long running transactions may take where nothing is said.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// The master's task for fences.
pub struct Fences {
    catalog: Catalog,
    timestamps: Arc<Timestamps>,
    detector: Arc<Detector>,
    drains: Mutex<BTreeMap<DatabaseId, Drain>>,
}

/// What this process knows of a database that is draining.
#[derive(Clone, Copy, Debug)]
struct Drain {
    /// What is not decided then is rolled back.
    deadline: Instant,
    /// Nobody may write any more, since before this round.
    quiet: Option<(Revision, Round)>,
}

impl Fences {
    /// Over the parts of an aggregator that may become the master.
    pub fn new(catalog: Catalog, timestamps: Arc<Timestamps>, detector: Arc<Detector>) -> Arc<Fences> {
        Arc::new(Fences { catalog, timestamps, detector, drains: Mutex::default() })
    }

    /// What runs in a database that was fenced, and is not decided after `limit`, is rolled back. Of several orders the
    /// last counts.
    pub fn set_timeout(&self, database: DatabaseId, limit: Duration) {
        self.drains.lock().insert(database, Drain { deadline: Instant::now() + limit, quiet: None });
    }

    /// Brings fences on while this aggregator is the master.
    pub async fn run(self: Arc<Fences>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(term) = self.catalog.status().leads.filter(|term| self.detector.enter(*term)) else {
                self.drains.lock().clear();
                continue;
            };
            let state = self.catalog.state();
            let fence = |id: &DatabaseId| state.databases.get(id).map(|known| known.fenced.fence);
            self.drains.lock().retain(|id, _| matches!(fence(id), Some(Fence::Draining(_))));
            for (id, database) in &state.databases {
                if let Some(command) = self.next(&state, *id, &database.fenced).await {
                    self.decide(term, command).await;
                }
            }
            let late = |(_, drain): &(&DatabaseId, &Drain)| drain.quiet.is_none() && Instant::now() >= drain.deadline;
            let late = self.drains.lock().iter().filter(late).map(|(id, _)| *id).collect();
            self.detector.fronts().cancel(late);
        }
    }

    async fn next(&self, state: &State, id: DatabaseId, fenced: &Fenced) -> Option<Command> {
        match fenced.fence {
            Fence::Draining(draining) => self.drain(state, id, draining),
            Fence::Sealed(sealed) if fenced.finals.is_none() => self.end(state, id, sealed).await,
            Fence::Sealed(_) | Fence::None => None,
        }
    }

    fn drain(&self, state: &State, id: DatabaseId, draining: Revision) -> Option<Command> {
        let mut drains = self.drains.lock();
        let drain = drains.entry(id).or_insert_with(|| Drain { deadline: Instant::now() + TIMEOUT, quiet: None });
        // None: somebody has not said yet, or counted before it saw the fence.
        if self.detector.fronts().open(state, id, draining) != Some(0) {
            return None;
        }
        // They have all seen it drain, so nobody is stamped any more.
        let quiet = drain.quiet.filter(|(since, _)| *since == draining);
        let (_, round) = *drain.quiet.insert(quiet.unwrap_or_else(|| (draining, self.detector.begin_round())));
        let drained = |(partition, _)| {
            let primary = self.detector.primary_since(state, partition, draining, Some(round));
            primary.is_some_and(|leading| leading.serving && !leading.busy)
        };
        state.partitions_of(id).all(drained).then_some(Command::Seal { database: id, draining })
    }

    async fn end(&self, state: &State, id: DatabaseId, sealed: Revision) -> Option<Command> {
        let position = |(partition, _): (PartitionId, _)| {
            let primary = self.detector.primary_since(state, partition, sealed, None)?;
            Some((partition.ordinal, primary.final_position?))
        };
        let positions = state.partitions_of(id).map(position).collect::<Option<_>>()?;
        // After every primary has acknowledged the seal: it is above all that they have committed.
        match self.timestamps.take_here(1).await {
            Ok(time) => Some(Command::ReportFinals { database: id, sealed, finals: Finals { positions, time } }),
            Err(error) => {
                tracing::warn!(%error, database = %id, "the end of a sealed database is found later");
                None
            }
        }
    }

    async fn decide(&self, term: u64, command: Command) {
        match self.catalog.decide(term, command.clone()).await {
            Ok(Ok(outcome)) if !outcome.already => tracing::info!(?command, "decided"),
            Ok(Ok(_)) => {}
            // Somebody has decided otherwise meanwhile: the next look sees it.
            Ok(Err(refusal)) => tracing::debug!(%refusal, "a fence was not brought on"),
            Err(error) => tracing::warn!(%error, "the catalog cannot decide at the moment"),
        }
    }
}
