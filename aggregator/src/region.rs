//! What the sessions of one aggregator share: the catalog, timestamps, the way to the leaves, and what is known of
//! schemas.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sql::schema::Schema;
use tokio::sync::RwLock;
use types::DatabaseId;

use crate::dr::{Guard, Links, Peering};
use crate::leaves::Leaves;
use crate::master::{Catalog, Detector, Fences, Timestamps};
use crate::sessions::Sessions;
use crate::stamps::Stamps;

/// How statements wait, and what CREATE DATABASE takes where nothing is said.
#[derive(Clone, Debug)]
pub struct RegionOptions {
    /// How long a statement waits for a row lock (error 1205).
    pub lock_wait: Duration,
    /// How long a statement waits for a partition without a primary (error 9005).
    pub partition_wait: Duration,
    /// Partitions of a database that is created without PARTITIONS; default: four for each leaf.
    pub partitions: Option<u32>,
}

/// One region, as its aggregator sees it.
pub struct Region {
    /// What the cluster has decided.
    pub catalog: Catalog,
    /// The timestamp service.
    pub timestamps: Arc<Timestamps>,
    /// What leaves say.
    pub detector: Arc<Detector>,
    /// Calls to leaves.
    pub leaves: Leaves,
    /// What is known of links with other regions.
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
    schemas: Schemas,
    /// A statement holds its database's lock shared until its transaction ends, DDL alone: rows are never written
    /// under a definition that has changed meanwhile.
    definitions: Mutex<HashMap<DatabaseId, Arc<RwLock<()>>>>,
}

/// Schemas that were read, until something writes to their meta partition.
#[derive(Default)]
struct Schemas {
    known: Mutex<HashMap<DatabaseId, Arc<Schema>>>,
    /// Counts changes: a schema that was read while one happened is not kept.
    changes: AtomicU64,
}

impl Region {
    /// Over the parts of a running aggregator.
    pub fn new(
        catalog: Catalog,
        timestamps: Arc<Timestamps>,
        detector: Arc<Detector>,
        leaves: Leaves,
        peering: Peering,
        options: RegionOptions,
    ) -> Arc<Region> {
        let links = detector.links().clone();
        let guard = Guard::new(&catalog.state());
        let (schemas, definitions) = (Schemas::default(), Mutex::default());
        let stamps: Arc<Stamps> = Arc::default();
        let fences = Fences::new(catalog.clone(), timestamps.clone(), detector.clone(), leaves.clone(), stamps.clone());
        let sessions = Arc::default();
        Arc::new(Region {
            catalog,
            timestamps,
            detector,
            leaves,
            links,
            peering,
            guard,
            fences,
            options,
            stamps,
            sessions,
            schemas,
            definitions,
        })
    }

    /// The lock that protects a database's definitions.
    pub fn definitions(&self, database: DatabaseId) -> Arc<RwLock<()>> {
        self.definitions.lock().entry(database).or_default().clone()
    }

    /// A schema that is still true.
    pub fn schema(&self, database: DatabaseId) -> Option<Arc<Schema>> {
        self.schemas.known.lock().get(&database).cloned()
    }

    /// To be named by `keep_schema`: what is read from now on.
    pub fn schema_changes(&self) -> u64 {
        self.schemas.changes.load(Ordering::Acquire)
    }

    /// Keeps a schema that was read since `changes`, unless something has changed meanwhile.
    pub fn keep_schema(&self, database: DatabaseId, schema: Arc<Schema>, changes: u64) {
        let mut known = self.schemas.known.lock();
        if changes == self.schema_changes() {
            known.insert(database, schema);
        }
    }

    /// A transaction has written to the database's meta partition.
    pub fn forget_schema(&self, database: DatabaseId) {
        let mut known = self.schemas.known.lock();
        self.schemas.changes.fetch_add(1, Ordering::AcqRel);
        known.remove(&database);
    }
}
