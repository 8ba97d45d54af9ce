//! Running one statement: which transaction it belongs to, who does it, and what becomes of the transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, stream};
use sql::answer::{Answer, Done, ResultColumn};
use sql::cluster::Cluster;
use sql::statement::{LoadData, Statement};
use sql::{Error, Loader, Result};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use types::Datum;

use super::{
    ClientSession, aggregators, answer, check, databases, divergence, leaves, moves, replication, shows, users, wire,
};
use crate::bond::{Alone, Bond};
use crate::definitions::CHANGED;
use crate::mysql::{Column, ResultSink, SqlError};
use crate::rows::{Definitions, StatementRows};
use crate::transaction::{ROLLED_BACK, Transaction, Waits, is_repeatable};

/// How often a statement is planned before it is given up: definitions change all the time.
const PLANS: usize = 10;
/// Between two runs of a statement that was lost with a partition's primary.
const RETRY_TIME: Duration = Duration::from_millis(20);

/// What a statement does to the transaction around it.
enum Kind {
    /// It belongs to it.
    Rows,
    /// It changes definitions: what was begun is committed first, and it is a transaction of its own.
    Definitions,
    /// It has nothing to do with it.
    Aside,
}

fn kind(statement: &Statement) -> Kind {
    match statement {
        Statement::Query(_)
        | Statement::Explain(_)
        | Statement::Show { .. }
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Load(_) => Kind::Rows,
        Statement::CreateTable(_)
        | Statement::CreateTableLike { .. }
        | Statement::AlterTable { .. }
        | Statement::DropTable { .. }
        | Statement::Truncate(_) => Kind::Definitions,
        _ => Kind::Aside,
    }
}

/// Waits for something, unless the client goes or kills it.
async fn unless(stop: &CancellationToken, run: impl Future<Output = Result<Answer>>) -> Result<Answer> {
    tokio::select! {
        done = run => done,
        () = stop.cancelled() => Err(interrupted()),
    }
}

/// The definitions that were at hand do not have what the statement names; newer ones may.
fn is_unknown(error: &Error) -> bool {
    matches!(error.code, 1054 | 1146)
}

/// The answer, with the first of its rows at hand: until then it can still turn out that definitions have changed.
async fn begun(answer: Answer) -> Result<Answer> {
    let Answer::Rows(mut found) = answer else { return Ok(answer) };
    if let Some(first) = found.rows.next().await {
        let first = stream::once(std::future::ready(Ok(first?)));
        found.rows = first.chain(found.rows).boxed();
    }
    Ok(Answer::Rows(found))
}

impl ClientSession {
    /// Parses and runs one statement, and sends its answer.
    pub(super) async fn run_text(&mut self, text: &str, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        self.variables.begin_statement();
        let running = self.seat.begin(text, self.variables.database.as_deref());
        (self.stop, self.progress) = (running.stop.clone(), running.progress.clone());
        let statement = sql::parse::parse(text).map_err(wire)?;
        self.region.serves().map_err(wire)?;
        users::allow(&self.region, &self.client, &statement, &self.variables).map_err(wire)?;
        let keeps_warnings = matches!(statement, Statement::Show { .. });
        if !keeps_warnings {
            self.variables.warnings.clear();
        }
        self.check_access(&statement).map_err(wire)?;
        if let Statement::Load(load) = &statement {
            return self.load(load, more, out).await;
        }
        match kind(&statement) {
            Kind::Rows if self.is_of_cluster(&statement) => {
                let done = self.show_of_cluster(&statement).map_err(wire)?;
                self.send(done, more, out).await
            }
            Kind::Rows => self.run_rows(&statement, more, out).await,
            Kind::Definitions => {
                let done = self.run_definitions(&statement).await.map_err(wire)?;
                self.send(done, more, out).await
            }
            Kind::Aside => {
                let done = self.run_aside(&statement).await.map_err(wire)?;
                self.send(done, more, out).await
            }
        }
    }

    /// What transactions are that say nothing of it.
    fn begins_read_only(&self) -> bool {
        self.variables.variable("transaction_read_only") == Some(Datum::Int(1))
    }

    /// 1792 of a write in a transaction that was begun READ ONLY.
    fn check_access(&self, statement: &Statement) -> Result<()> {
        let is_read = matches!(statement, Statement::Query(_) | Statement::Explain(_) | Statement::Show { .. });
        let writes = matches!(kind(statement), Kind::Rows | Kind::Definitions) && !is_read;
        let read_only = if self.transaction.is_some() { self.read_only } else { self.begins_read_only() };
        match writes && read_only {
            true => Err(Error::new(1792, "Cannot execute statement in a READ ONLY transaction.")),
            false => Ok(()),
        }
    }

    async fn begin(&mut self, read_only: Option<bool>) -> Result<()> {
        self.commit().await?;
        let fresh = self.idle();
        self.keep(fresh, read_only.unwrap_or_else(|| self.begins_read_only()));
        Ok(())
    }

    /// A transaction that goes on after its statement.
    fn keep(&mut self, fresh: Arc<Mutex<Transaction>>, read_only: bool) {
        (self.transaction, self.read_only) = (Some(fresh), read_only);
        self.seat.set_transaction(true);
    }

    fn current(&mut self) -> Arc<Mutex<Transaction>> {
        if let Some(open) = &self.transaction {
            return open.clone();
        }
        let fresh = self.idle();
        if !self.variables.autocommit() {
            self.keep(fresh.clone(), self.begins_read_only());
        }
        fresh
    }

    fn rows(&self, transaction: &Arc<Mutex<Transaction>>, use_of: Definitions) -> Arc<StatementRows> {
        let (region, client) = (self.region.clone(), self.client.clone());
        Arc::new(StatementRows::new(region, client, transaction.clone(), use_of))
    }

    async fn run_rows(&mut self, statement: &Statement, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let (since, alone) = (Instant::now(), self.transaction.is_none() && self.variables.autocommit());
        let (mut use_of, mut plans) = (Definitions::Known, 1);
        let done = loop {
            match self.plan_and_run(statement, use_of).await {
                // Others have changed definitions: nothing has been sent, the statement begins anew.
                Err(error) if error.code == CHANGED && plans < PLANS => plans += 1,
                Err(error) if is_unknown(&error) && use_of == Definitions::Known => use_of = Definitions::Fresh,
                Err(error) if alone && is_repeatable(&error) && self.has_patience(since) => {
                    self.variables.warnings.clear();
                    tokio::time::sleep(RETRY_TIME).await;
                }
                done => break done.map_err(wire)?,
            }
        };
        self.send(done, more, out).await
    }

    /// Whether a statement that began then is still run anew when it is lost with a primary.
    fn has_patience(&self, since: Instant) -> bool {
        since.elapsed() < self.region.options.partition_wait && !self.stop.is_cancelled()
    }

    /// Once. An answer of rows has its first one: they are read while they are sent, and the view and the definitions
    /// hold until then.
    async fn plan_and_run(&mut self, statement: &Statement, use_of: Definitions) -> Result<Answer> {
        let transaction = self.current();
        self.begin_statement(&transaction).await?;
        let rows: Arc<dyn Cluster> = self.rows(&transaction, use_of);
        let run = async { begun(sql::execute(statement, &self.variables, &rows).await?).await };
        match unless(&self.stop, run).await {
            Ok(found @ Answer::Rows(_)) => Ok(found),
            Ok(done) => {
                drop(rows);
                self.end_statement(transaction).await.map(|()| done)
            }
            Err(error) => Err(self.fail_statement(transaction, error).await),
        }
    }

    async fn begin_statement(&mut self, transaction: &Arc<Mutex<Transaction>>) -> Result<()> {
        let mut open = transaction.lock().await;
        open.set_waits(self.waits());
        let begun = open.begin_statement();
        drop(open);
        if begun.is_err() {
            self.roll_back().await;
        }
        begun
    }

    /// As the session has set it, or else as the configuration says.
    fn waits(&self) -> Waits {
        let usual = self.region.options.lock_wait;
        let definitions = self.variables.definition_wait().unwrap_or(usual);
        Waits { rows: self.variables.lock_wait().unwrap_or(usual), definitions }
    }

    /// A statement outside of BEGIN is committed before its answer is sent.
    async fn end_statement(&mut self, transaction: Arc<Mutex<Transaction>>) -> Result<()> {
        if self.transaction.is_some() {
            return Ok(());
        }
        transaction.lock().await.commit().await.map(drop)
    }

    /// A failed statement leaves nothing; one that was rolled back with its transaction ends that.
    async fn fail_statement(&mut self, transaction: Arc<Mutex<Transaction>>, error: Error) -> Error {
        if error.code == ROLLED_BACK {
            // The whole transaction is rolled back, as MySQL does.
            self.roll_back().await;
        }
        match self.transaction.is_some() {
            true => transaction.lock().await.undo_statement().await,
            false => transaction.lock().await.roll_back().await,
        }
        error
    }

    async fn load(&mut self, load: &LoadData, more: bool, out: &mut dyn ResultSink) -> Result<(), SqlError> {
        let transaction = self.current();
        self.begin_statement(&transaction).await.map_err(wire)?;
        let rows: Arc<dyn Cluster> = self.rows(&transaction, Definitions::Known);
        let done = self.load_rows(load, &rows, out).await;
        drop(rows);
        match done {
            Ok(done) => {
                self.end_statement(transaction).await.map_err(wire)?;
                self.send(Answer::Done(done), more, out).await
            }
            Err(error) => {
                let error = Error::new(error.code(), error.message());
                Err(wire(self.fail_statement(transaction, error).await))
            }
        }
    }

    async fn load_rows(
        &mut self,
        load: &LoadData,
        rows: &Arc<dyn Cluster>,
        out: &mut dyn ResultSink,
    ) -> Result<Done, SqlError> {
        let mut loader = Loader::begin(load, &self.variables, rows).await.map_err(wire)?;
        out.infile(&load.file).await?;
        while let Some(piece) = out.chunk().await? {
            loader.push(&piece).await.map_err(wire)?;
            if self.stop.is_cancelled() {
                return Err(wire(interrupted()));
            }
        }
        loader.finish().await.map_err(wire)
    }

    async fn run_definitions(&mut self, statement: &Statement) -> Result<Answer> {
        self.commit().await?;
        // The locks below are given by a master, which may not be there.
        self.region.bond.admit(&self.region).await?;
        let _alone = self.lock_definitions(statement).await?;
        let (since, mut plans) = (Instant::now(), 1);
        loop {
            match self.change_definitions(statement).await {
                // Another aggregator was first.
                Err(error) if error.code == CHANGED && plans < PLANS => plans += 1,
                Err(error) if is_repeatable(&error) && self.has_patience(since) => {
                    tokio::time::sleep(RETRY_TIME).await;
                }
                done => return done,
            }
        }
    }

    async fn change_definitions(&self, statement: &Statement) -> Result<Answer> {
        let transaction = Arc::new(Mutex::new(Transaction::begin(self.region.clone())));
        transaction.lock().await.begin_statement()?;
        let rows = self.rows(&transaction, Definitions::Changed);
        let cluster: Arc<dyn Cluster> = rows.clone();
        let done = sql::execute(statement, &self.variables, &cluster).await;
        let mut own = transaction.lock().await;
        let raised = match (&done, own.defines()) {
            (Ok(_), Some(database)) => {
                let read = rows.version(database);
                self.region.raise_version(&mut own, database, read).await
            }
            _ => Ok(()),
        };
        match raised.and(done) {
            Ok(done) => own.commit().await.map(|_| {
                if matches!(statement, Statement::DropTable { .. } | Statement::Truncate(_)) {
                    self.region.sweeper.dropped();
                }
                done
            }),
            Err(error) => {
                own.roll_back().await;
                Err(error)
            }
        }
    }

    /// Waits until no statement uses the definitions that are to change, at any aggregator.
    async fn lock_definitions(&self, statement: &Statement) -> Result<Vec<Alone>> {
        let mut names = users::databases_of(statement, &self.variables);
        names.sort();
        names.dedup();
        let mut held = Vec::new();
        for name in names {
            let named = self.region.catalog.state().database_named(&name).map(|(id, _)| id);
            let Some(id) = named else { continue };
            held.push(Bond::lock(&self.region, id, self.waits().definitions).await?);
        }
        Ok(held)
    }

    async fn run_aside(&mut self, statement: &Statement) -> Result<Answer> {
        match statement {
            Statement::Use(name) => self.use_database(name).map(|()| nothing()),
            Statement::Set(assignments) => {
                let before = self.variables.autocommit();
                sql::apply_set(assignments, &mut self.variables)?;
                if !before && self.variables.autocommit() {
                    self.commit().await?;
                }
                Ok(nothing())
            }
            Statement::Begin { read_only } => self.begin(*read_only).await.map(|()| nothing()),
            Statement::Commit => self.commit().await.map(|()| nothing()),
            Statement::Rollback => {
                self.roll_back().await;
                Ok(nothing())
            }
            Statement::LockTables(_) => self.lock_tables().await,
            Statement::FlushNothing => Ok(nothing()),
            Statement::ClusterShow(show) => shows::cluster(&self.region, &self.client, show).await,
            Statement::CreateDatabase(_) | Statement::AlterDatabase(_) | Statement::DropDatabase { .. } => {
                self.commit().await?;
                let done = databases::change(&self.region, statement).await?;
                if let Statement::DropDatabase { name, .. } = statement
                    && self.variables.database.as_ref() == Some(name)
                {
                    self.variables.database = None;
                }
                Ok(done)
            }
            Statement::CreateUser { .. }
            | Statement::AlterUser { .. }
            | Statement::DropUser { .. }
            | Statement::Grant(_)
            | Statement::Revoke(_) => {
                self.commit().await?;
                users::change(&self.region, statement).await
            }
            Statement::Fence { database, timeout_ms } => self.fence(database.as_deref(), *timeout_ms).await,
            Statement::Unlock { target, force } => self.unlock(target, *force).await,
            Statement::ExportDivergence(id) => divergence::export(&self.region, &self.client, id).await,
            Statement::DiscardDivergence(id) => divergence::discard(&self.region, id).await,
            Statement::Replicate(replicate) => {
                self.commit().await?;
                replication::replicate(&self.region, &self.client, replicate, &self.progress).await
            }
            Statement::PauseReplicating { database, paused } => {
                self.commit().await?;
                replication::pause(&self.region, database, *paused).await
            }
            Statement::StopReplicating { database } => {
                self.commit().await?;
                replication::stop(&self.region, database).await
            }
            Statement::Aggregator { .. } | Statement::Leaf { .. } | Statement::Rebalance(_) => {
                self.commit().await?;
                self.change_cluster(statement).await
            }
            Statement::CheckDatabase { database, repair } => self.check_database(database, *repair).await,
            Statement::Kill { query, id } => self.kill(*id, *query).map(|()| nothing()),
            other => {
                let rows: Arc<dyn Cluster> = self.rows(&self.idle(), Definitions::Fresh);
                sql::execute(other, &self.variables, &rows).await
            }
        }
    }

    /// Nodes come and go, partitions move.
    async fn change_cluster(&self, statement: &Statement) -> Result<Answer> {
        match statement {
            Statement::Aggregator { change, address } => aggregators::change(&self.region, *change, address).await,
            Statement::Leaf { change, address } => {
                let changed = leaves::change(&self.region, *change, address.as_deref(), &self.progress);
                unless(&self.stop, changed).await.map_err(goes_on)
            }
            Statement::Rebalance(rebalance) => {
                unless(&self.stop, moves::rebalance(&self.region, rebalance, &self.progress)).await.map_err(goes_on)
            }
            _ => Err(Error::new(1105, "not a statement about the cluster")),
        }
    }

    async fn check_database(&mut self, database: &str, repair: bool) -> Result<Answer> {
        self.commit().await?;
        let tables: Arc<dyn Cluster> = self.rows(&self.idle(), Definitions::Fresh);
        check::check(&self.region, &tables, database, repair, &self.progress).await
    }

    fn idle(&self) -> Arc<Mutex<Transaction>> {
        Arc::new(Mutex::new(Transaction::begin(self.region.clone())))
    }

    /// Commits what was begun.
    pub(super) async fn commit(&mut self) -> Result<()> {
        match self.take() {
            Some(open) => open.lock().await.commit().await.map(drop),
            None => Ok(()),
        }
    }

    /// Rolls back what was begun.
    pub(super) async fn roll_back(&mut self) {
        if let Some(open) = self.take() {
            open.lock().await.roll_back().await;
        }
    }

    fn take(&mut self) -> Option<Arc<Mutex<Transaction>>> {
        self.seat.set_transaction(false);
        self.transaction.take()
    }

    /// `USE`.
    pub(super) fn use_database(&mut self, name: &str) -> Result<()> {
        let known = name.eq_ignore_ascii_case("information_schema")
            || self.region.catalog.state().database_named(name).is_some();
        if !users::may_use(&self.region.catalog.state(), &self.client, name) {
            return Err(users::no_access(&self.client, name));
        }
        if !known {
            return Err(Error::unknown_database(name));
        }
        self.variables.database = Some(name.to_string());
        Ok(())
    }

    /// The columns that a prepared statement will answer with.
    pub(super) async fn describe(&mut self, text: &str) -> Result<Vec<Column>, SqlError> {
        let statement = sql::parse::parse(text).map_err(wire)?;
        self.region.serves().map_err(wire)?;
        users::allow(&self.region, &self.client, &statement, &self.variables).map_err(wire)?;
        let columns = match self.columns(&statement, Definitions::Known).await {
            Err(error) if is_unknown(&error) => self.columns(&statement, Definitions::Fresh).await,
            columns => columns,
        };
        let columns = columns.map_err(wire)?;
        Ok(columns.iter().map(answer::column).collect())
    }

    async fn columns(&self, statement: &Statement, use_of: Definitions) -> Result<Vec<ResultColumn>> {
        let rows: Arc<dyn Cluster> = self.rows(&self.idle(), use_of);
        sql::describe(statement, &self.variables, &rows).await
    }

    /// COM_FIELD_LIST.
    pub(super) async fn list_fields(&mut self, table: &str, pattern: &str) -> Result<Vec<Column>, SqlError> {
        let text = format!("SELECT * FROM {} LIMIT 0", sql::parse::quote_name(table));
        let columns = self.describe(&text).await?;
        let wanted =
            |column: &Column| pattern.is_empty() || pattern == "%" || column.name.eq_ignore_ascii_case(pattern);
        Ok(columns.into_iter().filter(wanted).collect())
    }
}

/// 1317: KILL.
pub(super) fn interrupted() -> Error {
    Error::new(1317, "Query execution was interrupted")
}

/// What was ordered of the cluster goes on without whoever has ordered it.
fn goes_on(error: Error) -> Error {
    match error == interrupted() {
        true => Error::new(1317, "Query execution was interrupted; what it has ordered goes on: SHOW REBALANCE STATUS"),
        false => error,
    }
}

fn nothing() -> Answer {
    Answer::Done(Done::default())
}
