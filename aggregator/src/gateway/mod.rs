//! A client's session: text in, results out. One statement after the other, each in a transaction.
//!
//! - `run` statements on rows and definitions, and the transaction they belong to
//! - `databases`, `users` what the catalog decides; `accounts` what a user is and may, as statements
//! - `fence` the orders that stop writes; `divergence` what was set aside
//! - `replication` what regions agree on; `links` how that goes
//! - `aggregators` who belongs to the group that decides; `leaves` who holds partitions, `moves` where they lie
//! - `shows`, `seen` what the cluster knows of itself; `condition` how a database is
//! - `answer` results as the wire wants them

mod accounts;
mod aggregators;
mod answer;
mod check;
mod condition;
mod databases;
mod divergence;
mod fence;
mod leaves;
mod links;
mod moves;
mod replication;
mod run;
mod seen;
mod shows;
mod users;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use sql::session::Session as Variables;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use types::{DatabaseId, Datum};

use crate::mysql::{
    Account, Authenticator, Client, Column, Prepared, Query, ResultSink, Session, SessionFactory, SqlError,
    StatementId, Status, Value,
};
use crate::region::Region;
use crate::sessions::{Progress, Seat};
use crate::transaction::Transaction;

pub(crate) use aggregators::is_up;
pub(crate) use databases::{decide, duration_millis, late, serving};
pub(crate) use divergence::{set_aside_by, set_aside_since};
pub(crate) use shows::{master_sheet, twin, twins};
pub use users::make_root;
pub(crate) use users::{account, log_in, may_use};

/// Opens sessions on a region, and knows its accounts. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    region: Arc<Region>,
}

impl Gateway {
    /// Of this region.
    pub fn new(region: Arc<Region>) -> Gateway {
        Gateway { region }
    }
}

impl Authenticator for Gateway {
    fn lookup(&self, user: &str, address: SocketAddr) -> Result<Option<Account>, SqlError> {
        self.region.knows_region().map_err(wire)?;
        Ok(users::lookup(&self.region, user, address))
    }
}

#[async_trait]
impl SessionFactory for Gateway {
    async fn open(&self, client: Arc<Client>) -> Result<Box<dyn Session>, SqlError> {
        self.region.serves().map_err(wire)?;
        let seat = self.region.sessions.enter(client.clone());
        let stop = client.killed.child_token();
        let mut variables = Variables::new(u64::from(client.connection.0), client.user.clone(), client.host.clone());
        variables.set_usual_wait(self.region.options.lock_wait);
        Ok(Box::new(ClientSession {
            region: self.region.clone(),
            client,
            seat,
            stop,
            progress: Progress::default(),
            variables,
            transaction: None,
            fences: BTreeSet::new(),
            read_only: false,
            tables_locked: false,
            prepared: HashMap::new(),
        }))
    }
}

/// One client's session.
pub struct ClientSession {
    region: Arc<Region>,
    client: Arc<Client>,
    seat: Seat,
    /// Of the present statement: cancelled by KILL.
    stop: CancellationToken,
    /// What the present statement tells of itself.
    progress: Progress,
    variables: Variables,
    /// The one that BEGIN or autocommit=0 has begun.
    transaction: Option<Arc<Mutex<Transaction>>>,
    /// It takes no writes.
    read_only: bool,
    /// Databases that this session has fenced.
    fences: BTreeSet<DatabaseId>,
    /// LOCK TABLES was said.
    tables_locked: bool,
    prepared: HashMap<StatementId, String>,
}

/// An error of the SQL layer as the wire wants it.
fn wire(error: sql::Error) -> SqlError {
    SqlError::new(error.code, error.message)
}

#[async_trait]
impl Session for ClientSession {
    fn status(&self) -> Status {
        Status { autocommit: self.variables.autocommit(), in_transaction: self.transaction.is_some() }
    }

    async fn query(&mut self, query: Query<'_>, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let pieces = sql::parse::split(query.text).map_err(wire)?;
        if pieces.is_empty() {
            return Err(SqlError::new(1065, "Query was empty"));
        }
        if pieces.len() > 1 && !query.multi_statements {
            let rest = &query.text[pieces[1].start..];
            return Err(wire(sql::Error::syntax(rest, 1)));
        }
        let last = pieces.len() - 1;
        for (index, piece) in pieces.into_iter().enumerate() {
            self.run_text(&query.text[piece], index < last, out).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, id: StatementId, text: &str) -> Result<Prepared, SqlError> {
        let count = sql::parse::count_parameters(text).map_err(wire)?;
        let nulls = vec![Datum::Null; count];
        let bound = sql::parse::bind_parameters(text, &nulls).map_err(wire)?;
        let columns = self.describe(&bound).await?;
        self.prepared.insert(id, text.to_string());
        Ok(Prepared { parameters: answer::parameters(count), columns, warnings: 0 })
    }

    async fn execute(
        &mut self,
        id: StatementId,
        parameters: Vec<Value<'static>>,
        out: &mut dyn ResultSink,
    ) -> Result<(), SqlError> {
        let unknown = || SqlError::new(1243, format!("Unknown prepared statement handler ({}) given to EXECUTE", id.0));
        let text = self.prepared.get(&id).ok_or_else(unknown)?;
        let parameters: Vec<Datum> = parameters.into_iter().map(Datum::from).collect();
        let bound = sql::parse::bind_parameters(text, &parameters).map_err(wire)?;
        self.run_text(&bound, false, out).await
    }

    async fn close_statement(&mut self, id: StatementId) {
        self.prepared.remove(&id);
    }

    async fn init_db(&mut self, database: &str) -> Result<(), SqlError> {
        self.use_database(database).map_err(wire)?;
        self.seat.set_database(Some(database));
        Ok(())
    }

    async fn field_list(&mut self, table: &str, pattern: &str) -> Result<Vec<Column>, SqlError> {
        self.list_fields(table, pattern).await
    }

    async fn reset(&mut self) -> Result<(), SqlError> {
        self.roll_back().await;
        self.prepared.clear();
        self.fences.clear();
        self.tables_locked = false;
        let database = self.variables.database.take();
        let client = &self.client;
        self.variables = Variables::new(u64::from(client.connection.0), client.user.clone(), client.host.clone());
        self.variables.database = database;
        Ok(())
    }
}
