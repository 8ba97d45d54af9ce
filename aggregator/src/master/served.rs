//! Up to where sinks may be read: the smallest durable cut over a database's partitions, and never less than before.
//!
//! A cut counts only in the history that the catalog knows. While it is decided what another history means for what was
//! served, the served cut stands still; while a person's order to follow another source is carried out, nothing is
//! served.

use std::collections::{BTreeMap, BTreeSet};

use ::catalog::database::Side;
use ::catalog::event::UnixMillis;
use ::catalog::partition::Partition;
use ::catalog::{Command, Refusal, State};
use parking_lot::Mutex;
use types::{DatabaseId, LinkId, PartitionId, Promotion, Timestamp};

use super::Detector;
use crate::protocol::{LeadingReport, ReplicaReport};

/// What was served of a database by one link.
#[derive(Debug)]
struct Reached {
    link: (LinkId, UnixMillis),
    cut: Timestamp,
}

/// The served cuts.
#[derive(Debug, Default)]
pub(super) struct Served {
    reached: Mutex<BTreeMap<DatabaseId, Reached>>,
    still: Mutex<BTreeSet<DatabaseId>>,
}

impl Served {
    /// A new office: what is durable is heard again.
    pub fn clear(&self) {
        self.reached.lock().clear();
    }
}

/// Keeps a served cut where it is.
pub struct Standstill<'a> {
    served: &'a Served,
    database: DatabaseId,
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        self.served.still.lock().remove(&self.database);
    }
}

impl Detector {
    /// The time up to which a sink may be read. Zero: not at all.
    pub fn served(&self, state: &State, database: DatabaseId) -> Timestamp {
        let Some(known) = state.databases.get(&database) else { return Timestamp::ZERO };
        let Side::Sink { link } = known.side else { return Timestamp::ZERO };
        let sink = &state.sinks[&link];
        let mut reached = self.served.reached.lock();
        if sink.forced {
            reached.remove(&database);
            return Timestamp::ZERO;
        }
        let named = (link, sink.since);
        let before = reached.get(&database).filter(|reached| reached.link == named).map_or(Timestamp::ZERO, |r| r.cut);
        if self.served.still.lock().contains(&database) {
            return before;
        }
        let of = |id: PartitionId| {
            let leading = self.following(state, id, link).map(|(_, leading)| leading);
            leading.filter(|leading| leading.promotions == known.promotions).map_or(Timestamp::ZERO, |l| l.cut)
        };
        let now = state.partitions_of(database).map(|(id, _)| of(id)).min().unwrap_or_default();
        let cut = before.max(now);
        reached.insert(database, Reached { link: named, cut });
        cut
    }

    /// Keeps the served cut of a database where it is until the result is dropped.
    pub fn stand_still(&self, database: DatabaseId) -> Standstill<'_> {
        self.served.still.lock().insert(database);
        Standstill { served: &self.served, database }
    }

    /// A source has another history: the catalog decides what that means. `Some`: why nothing is followed for now.
    pub async fn learn(
        &self,
        database: DatabaseId,
        link: LinkId,
        promotions: Vec<Promotion>,
        relay: bool,
    ) -> Result<Option<String>, String> {
        let term = self.office().await.map_err(|error| error.to_string())?;
        let _still = self.stand_still(database);
        let served = self.served(&self.catalog.state(), database);
        let command = Command::LearnPromotions { database, link, promotions, relay, served };
        match self.catalog.decide(term, command).await.map_err(|error| error.to_string())? {
            Ok(_) => Ok(None),
            Err(refusal @ (Refusal::Wait { .. } | Refusal::DoFirst { .. })) => Ok(Some(refusal.to_string())),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    /// The highest timestamp and epoch number that the logs of a database hold, as heard.
    pub fn received(&self, state: &State, database: DatabaseId) -> (Timestamp, u64) {
        self.primaries(state, database).fold((Timestamp::ZERO, 0), |(ts, number), replica| {
            (ts.max(replica.received), number.max(replica.epoch.map_or(0, |epoch| epoch.number)))
        })
    }

    /// What the primary of a sink's partition says, if it follows this link.
    fn following(&self, state: &State, id: PartitionId, link: LinkId) -> Option<(ReplicaReport, LeadingReport)> {
        let replica = self.primary(state, id)?;
        let leading = replica.leading.clone().filter(|leading| leading.link == Some(link))?;
        Some((replica, leading))
    }

    /// Whether every partition of a sink has been compared with the source of this link, in the catalog's present word.
    pub fn joined(&self, state: &State, database: DatabaseId, link: LinkId) -> bool {
        let Some(known) = state.databases.get(&database) else { return false };
        let obeys = |partition: &Partition| self.obeyed(partition.primary).is_some_and(|seen| seen >= known.changed);
        self.streams(state, database, link) && state.partitions_of(database).all(|(_, partition)| obeys(partition))
    }

    /// The same, as it was heard last: for people.
    pub fn streams(&self, state: &State, database: DatabaseId, link: LinkId) -> bool {
        let Some(known) = state.databases.get(&database) else { return false };
        state.partitions_of(database).all(|(id, partition)| {
            let joined = self.following(state, id, link).is_some_and(|(replica, leading)| {
                leading.joined
                    && leading.promotions == known.promotions
                    && !replica.repairing
                    && replica.reign == partition.reign
            });
            joined && !partition.incomplete
        })
    }
}
