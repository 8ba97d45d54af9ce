//! What the sessions of one aggregator share: the catalog, timestamps, the way to the leaves, and what is known of
//! schemas.

use std::sync::Arc;
use std::time::Duration;

use types::txn::TxnRequest;
use types::{DatabaseId, Member, PartitionId};

use crate::bond::Bond;
use crate::definitions::Definitions;
use crate::dr::{Guard, Links, Peering};
use crate::leaves::Leaves;
use crate::master::{Catalog, Detector, Fences, Fronts, MasterService, Timestamps};
use crate::protocol::LeafRequest;
use crate::sessions::Sessions;
use crate::stamps::Stamps;
use crate::sweeper::Sweeper;

/// How statements wait, and what CREATE DATABASE takes where nothing is said.
#[derive(Clone, Debug)]
pub struct RegionOptions {
    /// What people call the region.
    pub name: Option<String>,
    /// How long a statement waits for a row lock (error 1205), unless its session says otherwise.
    pub lock_wait: Duration,
    /// How long a statement waits for a partition without a primary (error 9005).
    pub partition_wait: Duration,
    /// Partitions of a database that is created without PARTITIONS; default: four for each leaf.
    pub partitions: Option<u32>,
    /// Copies of each partition of a database that is created without redundancy; default: two, where there are groups.
    pub redundancy: Option<u8>,
    /// RPC addresses of aggregators that are added as soon as they announce themselves.
    pub founders: Vec<String>,
    /// A clock that nobody sets back, and that runs while the machine sleeps.
    pub clock: fn() -> Duration,
}

/// How long a leaf may take to roll a transaction back.
const ROLLBACK_TIME: Duration = Duration::from_secs(10);

/// One region, as one of its aggregators sees it.
pub struct Region {
    /// What the cluster has decided.
    pub catalog: Catalog,
    /// The timestamp service.
    pub timestamps: Arc<Timestamps>,
    /// What leaves say: at the master alone.
    pub detector: Arc<Detector>,
    /// Calls to leaves.
    pub leaves: Leaves,
    /// What aggregators say: at the master alone.
    pub fronts: Arc<Fronts>,
    /// This aggregator's lease, and its locks.
    pub bond: Bond,
    /// What is known of links with other regions: at the master alone.
    pub links: Arc<Links>,
    /// How other regions are reached.
    pub peering: Peering,
    /// Databases that wait for the word of those who followed them.
    pub guard: Guard,
    /// Fences on their way.
    pub fences: Arc<Fences>,
    /// Waits and defaults.
    pub options: RegionOptions,
    /// Transactions that write.
    pub(crate) stamps: Arc<Stamps>,
    /// Clients.
    pub(crate) sessions: Arc<Sessions>,
    /// Definitions of tables.
    pub(crate) definitions: Definitions,
    /// What was dropped.
    pub sweeper: Sweeper,
}

impl Region {
    /// Over the parts of a running aggregator.
    pub fn new(
        catalog: Catalog,
        timestamps: Arc<Timestamps>,
        detector: Arc<Detector>,
        leaves: Leaves,
        peering: Peering,
        member: Member,
        options: RegionOptions,
    ) -> Arc<Region> {
        let (links, fronts) = (detector.links().clone(), detector.fronts().clone());
        let (guard, bond) = (Guard::default(), Bond::new(member, options.clock));
        let stamps: Arc<Stamps> = Arc::default();
        let fences = Fences::new(catalog.clone(), timestamps.clone(), detector.clone());
        let sessions = Arc::default();
        Arc::new(Region {
            catalog,
            timestamps,
            detector,
            leaves,
            fronts,
            bond,
            links,
            peering,
            guard,
            fences,
            options,
            stamps,
            sessions,
            definitions: Definitions::default(),
            sweeper: Sweeper::default(),
        })
    }

    /// Error 1053 of an aggregator that was removed from the region: it would answer with what was.
    pub(crate) fn serves(&self) -> sql::Result<()> {
        self.catalog.removed().map_or(Ok(()), |removed| Err(sql::Error::new(1053, removed.to_string())))
    }

    /// Error 1053 of an aggregator with an empty directory, before the others have told it anything: it knows no users either.
    pub(crate) fn knows_region(&self) -> sql::Result<()> {
        let text =
            "This aggregator does not belong to its region yet: type ADD AGGREGATOR with its address at one that does";
        match self.catalog.status().members.voters.is_empty() {
            true => Err(sql::Error::new(1053, text)),
            false => Ok(()),
        }
    }

    /// The master's side, for requests of this aggregator while it is the master itself.
    pub fn master(self: &Arc<Region>) -> MasterService {
        MasterService::new(self.clone())
    }

    /// Cancels what is undecided in a database, and gives back what it holds at leaves.
    pub(crate) fn roll_back_undecided(&self, database: DatabaseId) {
        let state = self.catalog.state();
        let partitions: Vec<PartitionId> = state.partitions_of(database).map(|(id, _)| id).collect();
        for txn in self.stamps.cancel(database) {
            tracing::info!(%txn, %database, "rolled back: the fence's timeout has passed");
            for partition in partitions.clone() {
                let leaves = self.leaves.clone();
                tokio::spawn(async move {
                    let request = LeafRequest::Txn { partition, request: TxnRequest::Rollback { txn } };
                    if let Err(error) = leaves.ask(partition, &request, ROLLBACK_TIME, true).await {
                        tracing::debug!(%partition, %error, "locks are given back when the session ends");
                    }
                });
            }
        }
    }
}
