//! The seam: what the wire asks of the aggregator's SQL, and where SQL puts its answers.
//!
//! One [`Session`] serves one client; the connection calls one method at a time and waits for it. A statement's
//! results go into the [`ResultSink`] in the order in which the client shall see them:
//!
//! ```text
//!  result  = ok | columns row* end
//!  answer  = result(more_results)* result | result(more_results)* Err(error)
//! ```
//!
//! that is, every result but the last says that more follow, and an error may take the place of any result or
//! stop its rows. The sink refuses another order with error 1105 instead of sending what a client would misread.
//!
//! Sink methods return when the bytes are in a bounded buffer or with the client. Their error means that this
//! client cannot be answered any more (1160, 1161) or that the row cannot be sent: give up the statement and return
//! it. The future of a call is dropped when the server is stopped and its time is over, and never otherwise: a
//! client that leaves is noticed when it is written to. [`Client::killed`] tells a long statement to stop earlier.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::auth::Account;
use super::column::Column;
use super::constants::Capabilities;
use super::error::SqlError;
use super::value::Value;

/// Number of a prepared statement, unique in its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StatementId(pub u32);

/// Number of a connection, unique since the server began: `CONNECTION_ID()`, `KILL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u32);

/// Whom a session serves.
#[derive(Debug, Clone)]
pub struct Client {
    pub connection: ConnectionId,
    pub user: String,
    /// `localhost`, or the client's address.
    pub host: String,
    pub address: SocketAddr,
    /// The connection is encrypted.
    pub is_tls: bool,
    /// Both sides' abilities: [`Capabilities::FOUND_ROWS`], [`Capabilities::IGNORE_SPACE`] and
    /// [`Capabilities::INTERACTIVE`] concern the statements.
    pub capabilities: Capabilities,
    /// Number of the collation that the client named. Text is utf8mb4 whatever it is.
    pub collation: u16,
    /// What the driver tells of itself.
    pub attributes: Vec<(String, String)>,
    /// Set by `KILL`: a running statement should return error 1317 soon; the connection then ends.
    pub killed: CancellationToken,
}

impl Client {
    /// A client of another aggregator, as far as its rights depend on it.
    pub fn named(user: String, host: String, address: SocketAddr) -> Client {
        Client {
            connection: ConnectionId(0),
            user,
            host,
            address,
            is_tls: true,
            capabilities: Capabilities::default(),
            collation: 0,
            attributes: vec![],
            killed: CancellationToken::new(),
        }
    }
}

/// What OK and EOF packets say of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub autocommit: bool,
    pub in_transaction: bool,
}

/// How a result ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Rows changed (or found, with [`Capabilities::FOUND_ROWS`]); 0 after rows.
    pub affected_rows: u64,
    /// First AUTO_INCREMENT value of the statement, or 0.
    pub last_insert_id: u64,
    pub warnings: u16,
    /// A sentence such as `Records: 3  Duplicates: 0  Warnings: 0`; usually empty.
    pub info: String,
    pub status: Status,
    /// Another result of the same call follows.
    pub more_results: bool,
}

impl Completion {
    /// The end of a last result that changed nothing.
    pub fn new(status: Status) -> Completion {
        Completion {
            affected_rows: 0,
            last_insert_id: 0,
            warnings: 0,
            info: String::new(),
            status,
            more_results: false,
        }
    }
}

/// A COM_QUERY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    pub text: &'a str,
    /// Several statements are allowed; otherwise a second one is a syntax error (1064).
    pub multi_statements: bool,
}

/// What a client is told of a statement that it prepared.
#[derive(Debug, Clone, Default)]
pub struct Prepared {
    /// One for each `?`. Drivers look at their count alone.
    pub parameters: Vec<Column>,
    /// Columns of its result; empty when it has none or they are not known before it runs.
    pub columns: Vec<Column>,
    pub warnings: u16,
}

/// Takes the results of one command to the client.
#[async_trait]
pub trait ResultSink: Send {
    /// Begins a result with rows. At least one column.
    async fn columns(&mut self, columns: Vec<Column>) -> Result<(), SqlError>;

    /// One row of the columns that were given last.
    async fn row(&mut self, row: &[Value<'_>]) -> Result<(), SqlError>;

    /// Ends the rows.
    async fn end(&mut self, completion: Completion) -> Result<(), SqlError>;

    /// A result without rows.
    async fn ok(&mut self, completion: Completion) -> Result<(), SqlError>;

    /// Asks the client for its file `name` (LOAD DATA LOCAL INFILE); read it with [`ResultSink::chunk`].
    /// Error 3948 when the client sends no files, 1295 in a prepared statement.
    async fn infile(&mut self, name: &str) -> Result<(), SqlError>;

    /// The next piece of the file; `None` at its end, also when the client could not open it. A statement may
    /// stop reading: what is left is read and dropped before the client gets its answer.
    async fn chunk(&mut self) -> Result<Option<Bytes>, SqlError>;
}

/// The SQL side of one client. A dropped session has rolled back what it had not committed.
#[async_trait]
pub trait Session: Send {
    /// What the next OK says.
    fn status(&self) -> Status;

    /// Runs the statements of a text.
    async fn query(&mut self, query: Query<'_>, out: &mut dyn ResultSink) -> Result<(), SqlError>;

    /// Prepares one statement under a number that is not in use.
    async fn prepare(&mut self, id: StatementId, text: &str) -> Result<Prepared, SqlError>;

    /// Runs a prepared statement, with as many values as it has parameters.
    async fn execute(
        &mut self,
        id: StatementId,
        parameters: Vec<Value<'static>>,
        out: &mut dyn ResultSink,
    ) -> Result<(), SqlError>;

    /// Forgets a prepared statement.
    async fn close_statement(&mut self, id: StatementId);

    /// `USE database`.
    async fn init_db(&mut self, database: &str) -> Result<(), SqlError>;

    /// Columns of a table whose names match a LIKE pattern; the empty pattern matches all.
    async fn field_list(&mut self, table: &str, pattern: &str) -> Result<Vec<Column>, SqlError>;

    /// Rolls back and makes the session as new: variables, temporary tables, locks, prepared statements. The
    /// user and the database stay.
    async fn reset(&mut self) -> Result<(), SqlError>;
}

/// Opens sessions.
#[async_trait]
pub trait SessionFactory: Send + Sync {
    /// A session for a client that has proved who it is, in no database yet.
    async fn open(&self, client: Arc<Client>) -> Result<Box<dyn Session>, SqlError>;
}

/// Knows the accounts.
pub trait Authenticator: Send + Sync {
    /// The account that a user has when it comes from this address; `None` when there is none. An error: it cannot be known.
    fn lookup(&self, user: &str, address: SocketAddr) -> Result<Option<Account>, SqlError>;
}
