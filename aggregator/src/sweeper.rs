//! Takes the rows of dropped and emptied tables out, in the background (`sql::Sweep` says how).
//!
//! The master does it, for every database that takes writes here: at once for those that it dropped itself, within
//! [`LOOK`] for others. A piece is a transaction of its own. What cannot be done now is done at the next look; a
//! piece that was done twice has done nothing the second time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{self, AtomicU64};
use std::time::Duration;

use sql::cluster::Cluster;
use sql::{Result, Sweep};
use tokio::sync::{Mutex, Notify};
use types::{DatabaseId, Ordinal};

use crate::mysql::Client;
use crate::region::Region;
use crate::rows::{Definitions, StatementRows};
use crate::transaction::Transaction;
use crate::writable;

/// How often it is looked for tables that others have dropped.
const LOOK: Duration = Duration::from_secs(30);
/// Between two pieces: clients come first.
const PAUSE: Duration = Duration::from_millis(5);

/// What is known of the work.
#[derive(Default)]
pub struct Sweeper {
    dropped: Notify,
    rows: AtomicU64,
}

impl Sweeper {
    /// A table was dropped here.
    pub fn dropped(&self) {
        self.dropped.notify_one();
    }

    /// Rows that were taken out since the process began.
    pub fn rows(&self) -> u64 {
        self.rows.load(atomic::Ordering::Relaxed)
    }
}

/// Sweeps while this aggregator is the master.
pub async fn run(region: Arc<Region>) {
    let nobody = Client::named(String::new(), String::new(), SocketAddr::from(([0, 0, 0, 0], 0)));
    let nobody = Arc::new(nobody);
    loop {
        tokio::select! {
            () = region.sweeper.dropped.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let state = region.catalog.state();
        for (id, database) in &state.databases {
            let leads = region.catalog.status().leads.is_some();
            if !leads || writable::refusal(&state, *id).is_some() {
                continue;
            }
            if let Err(error) = sweep(&region, &nobody, *id, &database.name, database.partitions).await {
                tracing::debug!(%error, database = database.name, "rows of dropped tables wait for the next look");
            }
        }
    }
}

async fn sweep(region: &Arc<Region>, client: &Arc<Client>, id: DatabaseId, name: &str, partitions: u32) -> Result<()> {
    for definition in region.dropped_definitions(id).await? {
        let table = &Sweep::of(name, definition)?;
        for ordinal in (0..partitions as i32).map(Ordinal) {
            let mut from = None;
            loop {
                let piece = Piece::begin(region, client).await?;
                let done = table.piece(ordinal, from, &piece.rows).await;
                let (rows, next) = piece.end(done).await?;
                region.sweeper.rows.fetch_add(rows, atomic::Ordering::Relaxed);
                from = next;
                if from.is_none() {
                    break;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        let piece = Piece::begin(region, client).await?;
        let done = table.forget(&piece.rows).await;
        piece.end(done).await?;
        tracing::info!(database = name, table = %table.id(), "the rows of a dropped table are gone");
    }
    Ok(())
}

/// A piece of work: a transaction of its own.
struct Piece {
    transaction: Arc<Mutex<Transaction>>,
    rows: Arc<dyn Cluster>,
}

impl Piece {
    async fn begin(region: &Arc<Region>, client: &Arc<Client>) -> Result<Piece> {
        let transaction = Arc::new(Mutex::new(Transaction::begin(region.clone())));
        transaction.lock().await.begin_statement()?;
        let rows = StatementRows::new(region.clone(), client.clone(), transaction.clone(), Definitions::Fresh);
        Ok(Piece { transaction, rows: Arc::new(rows) })
    }

    /// Commits what was done, or rolls it back.
    async fn end<T>(self, done: Result<T>) -> Result<T> {
        let mut own = self.transaction.lock().await;
        match done {
            Ok(done) => own.commit().await.map(|_| done),
            Err(error) => {
                own.roll_back().await;
                Err(error)
            }
        }
    }
}
