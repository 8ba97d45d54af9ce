//! Every statement that is understood, as a closed enum: what the parser makes and what the rest works on.

use datafusion::sql::sqlparser::ast;
use types::{ColumnType, Datum};

/// A table, with its database if one was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// The database, `None` for the session's.
    pub database: Option<String>,
    /// The table.
    pub name: String,
}

/// Whether something is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// `SYNC`.
    Sync,
    /// `ASYNC`.
    Async,
}

/// `name = value` of an OPTIONS clause.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseOption {
    /// Lower case.
    pub name: String,
    /// A number or a text.
    pub value: Datum,
}

/// `CREATE DATABASE`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateDatabase {
    /// Its name.
    pub name: String,
    /// Whether one of that name is no error.
    pub if_not_exists: bool,
    /// How many partitions, `None` for the cluster's default.
    pub partitions: Option<u32>,
    /// `WITH … DURABILITY`.
    pub durability: Option<Wait>,
    /// `WITH … REPLICATION`.
    pub replication: Option<Wait>,
    /// The rest.
    pub options: Vec<DatabaseOption>,
}

/// `ALTER DATABASE`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlterDatabase {
    /// Its name.
    pub name: String,
    /// The new durability.
    pub durability: Option<Wait>,
    /// The new replication.
    pub replication: Option<Wait>,
    /// The options to change.
    pub options: Vec<DatabaseOption>,
}

/// What a column takes when an INSERT does not name it.
#[derive(Clone, Debug, PartialEq)]
pub enum DefaultClause {
    /// A constant.
    Value(Datum),
    /// `CURRENT_TIMESTAMP`.
    Now,
}

/// A column of `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnClause {
    /// Its name as written.
    pub name: String,
    /// Its type.
    pub ty: ColumnType,
    /// `NULL` or `NOT NULL`, `None` if neither was said.
    pub nullable: Option<bool>,
    /// `DEFAULT`.
    pub default: Option<DefaultClause>,
    /// `ON UPDATE CURRENT_TIMESTAMP`.
    pub on_update_now: bool,
    /// `AUTO_INCREMENT`.
    pub auto_increment: bool,
    /// `PRIMARY KEY` beside the column.
    pub primary_key: bool,
    /// `COMMENT`.
    pub comment: String,
    /// What was written and is not kept, for warnings.
    pub ignored: Vec<String>,
}

/// `CREATE TABLE`.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTable {
    /// Its name.
    pub name: TableName,
    /// Whether one of that name is no error.
    pub if_not_exists: bool,
    /// The columns in order.
    pub columns: Vec<ColumnClause>,
    /// `PRIMARY KEY (…)`, empty if there is none.
    pub primary_key: Vec<String>,
    /// `SHARD KEY (…)`, `None` if it was not written.
    pub shard_key: Option<Vec<String>>,
    /// `COMMENT =`.
    pub comment: String,
    /// `AUTO_INCREMENT =`.
    pub auto_increment: Option<u64>,
    /// What was read and is not kept: warnings.
    pub ignored: Vec<String>,
}

/// What `ALTER TABLE` can do so far.
#[derive(Clone, Debug, PartialEq)]
pub enum AlterTable {
    /// `ADD COLUMN`.
    AddColumn(Box<ColumnClause>),
    /// `DROP COLUMN`.
    DropColumn(String),
    /// `RENAME TO`.
    Rename(TableName),
    /// `COMMENT =`.
    Comment(String),
    /// `AUTO_INCREMENT =`.
    AutoIncrement(u64),
}

/// Which rows of a SHOW are wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// `LIKE 'pattern'` on the first column.
    Like(String),
    /// `WHERE expression` over the columns.
    Where(Box<ast::Expr>),
}

/// A `SHOW` of MySQL's.
#[derive(Clone, Debug, PartialEq)]
pub enum Show {
    /// `SHOW DATABASES [EXTENDED]`.
    Databases {
        /// With the cluster's columns.
        extended: bool,
    },
    /// `SHOW CREATE DATABASE [IF NOT EXISTS]`.
    CreateDatabase {
        /// Of which.
        name: String,
        /// Whether the statement shown says IF NOT EXISTS.
        if_not_exists: bool,
    },
    /// `SHOW [FULL] TABLES [FROM db]`.
    Tables {
        /// With the table's kind.
        full: bool,
        /// Of which database.
        database: Option<String>,
    },
    /// `SHOW TABLE STATUS [FROM db]`.
    TableStatus(Option<String>),
    /// `SHOW [FULL] COLUMNS FROM table` and `DESCRIBE table`.
    Columns {
        /// With collation, privileges and comment.
        full: bool,
        /// Of which table.
        table: TableName,
    },
    /// `SHOW CREATE TABLE`.
    CreateTable(TableName),
    /// `SHOW INDEX FROM`.
    Indexes(TableName),
    /// `SHOW WARNINGS`, `SHOW ERRORS`.
    Warnings {
        /// Errors alone.
        errors: bool,
        /// The count alone, `SHOW COUNT(*) WARNINGS`.
        count: bool,
    },
    /// `SHOW [GLOBAL | SESSION] VARIABLES`.
    Variables,
    /// `SHOW [GLOBAL | SESSION] STATUS`.
    Status,
    /// `SHOW [FULL] PROCESSLIST`.
    ProcessList,
    /// `SHOW GRANTS [FOR user]`.
    Grants(Option<Account>),
    /// `SHOW ENGINES`.
    Engines,
    /// `SHOW CHARACTER SET`.
    CharacterSets,
    /// `SHOW COLLATION`.
    Collations,
}

/// A user's account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Account {
    /// The name.
    pub user: String,
    /// From where; `%` is everywhere.
    pub host: String,
}

/// An account and how it proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountClause {
    /// The account.
    pub account: Account,
    /// `IDENTIFIED WITH`.
    pub plugin: Option<String>,
    /// `IDENTIFIED BY`; `None` leaves the password as it is.
    pub password: Option<String>,
}

/// What a grant gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// Everything on a database or on all.
    All,
    /// Being a source.
    Replication,
    /// The cluster's statements.
    Cluster,
    /// Overruling.
    Super,
    /// `USAGE`: nothing.
    Usage,
}

/// `GRANT` and `REVOKE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub privileges: Vec<Privilege>,
    /// On which database, `None` for all.
    pub database: Option<String>,
    /// Whose.
    pub accounts: Vec<Account>,
    /// `WITH GRANT OPTION`.
    pub grant_option: bool,
}

/// Scope of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This session.
    Session,
    /// The server.
    Global,
}

/// What a variable is set to.
#[derive(Clone, Debug, PartialEq)]
pub enum SetValue {
    /// A bare word: `ON`, `utf8mb4`.
    Word(String),
    /// `DEFAULT`.
    Default,
    /// Anything else.
    Expression(Box<ast::Expr>),
}

/// One assignment of a `SET`.
#[derive(Clone, Debug, PartialEq)]
pub enum Assignment {
    /// A system variable.
    Variable {
        /// Session or global.
        scope: Scope,
        /// Lower case.
        name: String,
        /// Its new value.
        value: SetValue,
    },
    /// `@name`.
    User {
        /// Lower case.
        name: String,
        /// Its new value.
        value: SetValue,
    },
    /// `NAMES` and `CHARACTER SET`.
    Names {
        /// The character set.
        charset: String,
        /// The collation.
        collation: Option<String>,
    },
    /// `TRANSACTION ISOLATION LEVEL`.
    Isolation {
        /// Session or global.
        scope: Scope,
        /// Whether reads see what is committed, MySQL's name with a dash.
        level: String,
    },
    /// `TRANSACTION READ ONLY` or `READ WRITE`.
    Access {
        /// Whether writes are refused.
        read_only: bool,
    },
}

/// `LOAD DATA LOCAL INFILE`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadData {
    /// The file's name, on the client.
    pub file: String,
    /// What becomes of a row whose key is there already.
    pub duplicates: Duplicates,
    /// Into which table.
    pub table: TableName,
    /// Between fields.
    pub fields_terminated: String,
    /// Around fields.
    pub enclosed: Option<char>,
    /// Before special characters.
    pub escaped: Option<char>,
    /// Before each line.
    pub lines_starting: String,
    /// After each line.
    pub lines_terminated: String,
    /// Lines at the start that are skipped.
    pub skip: u64,
    /// Where each field goes; empty for all columns in order.
    pub fields: Vec<LoadField>,
    /// `SET column = expression`.
    pub set: Vec<(String, ast::Expr)>,
}

/// Where a field goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadField {
    /// Into a column.
    Column(String),
    /// Into a user variable, for SET or to be dropped.
    Variable(String),
}

/// What becomes of a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicates {
    /// 1062.
    Error,
    /// The new row is dropped.
    Ignore,
    /// The old row is.
    Replace,
}

/// An address of the other side of a link: `user[:'password']@host[:port][/database]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceAddress {
    /// Who logs in there.
    pub user: String,
    /// The password, empty if none was written.
    pub password: String,
    /// Host name or address.
    pub host: String,
    /// SQL port; 3306 if none was written.
    pub port: u16,
    /// The database there, `None` for one of the same name.
    pub database: Option<String>,
}

/// `REPLICATE DATABASE`.
#[derive(Clone, Debug, PartialEq)]
pub struct Replicate {
    /// The database here.
    pub database: String,
    /// `WITH … DURABILITY` of the copy.
    pub durability: Option<Wait>,
    /// `WITH … REPLICATION` of the link.
    pub replication: Option<Wait>,
    /// `WITH FORCE DIFFERENTIAL`.
    pub force_differential: bool,
    /// The source.
    pub source: SourceAddress,
    /// The rest.
    pub options: Vec<DatabaseOption>,
    /// Whether it returns once the order is durable.
    pub no_wait: bool,
}

/// What `UNLOCK TABLES` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnlockTarget {
    /// Nothing: the session's own locks, its fences, or the current database's.
    Session,
    /// One database.
    Database(String),
    /// `*`.
    All,
}

/// The statements that answer with what the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterShow {
    /// `SHOW REPLICATION STATUS [PARTITIONS] [FOR db]`.
    ReplicationStatus {
        /// One row a partition.
        partitions: bool,
        /// Of which database.
        database: Option<String>,
    },
    /// `SHOW DIVERGENCE [FOR db]`.
    Divergence(Option<String>),
    /// `SHOW DIVERGENCE RECORDS 'id' [LIMIT n]`.
    DivergenceRecords {
        /// Which exchange.
        id: String,
        /// How many at most.
        limit: Option<u64>,
    },
    /// `SHOW TRANSACTION 'id'`.
    Transaction(String),
    /// `SHOW LEAVES`.
    Leaves,
    /// `SHOW AGGREGATORS`.
    Aggregators,
    /// `SHOW REBALANCE STATUS`.
    RebalanceStatus,
    /// `SHOW PARTITIONS [ON db]`.
    Partitions(Option<String>),
    /// `SHOW CLUSTER STATUS`.
    ClusterStatus,
    /// `SHOW CLUSTER EVENTS [LIMIT n]`.
    ClusterEvents {
        /// How many at most, the newest.
        limit: Option<u64>,
    },
}

/// A query and how its columns are called.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The tree.
    pub tree: Box<ast::Query>,
    /// The texts of the selected expressions: MySQL names columns by them.
    pub texts: Vec<String>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub enum Statement {
    /// `CREATE DATABASE`.
    CreateDatabase(CreateDatabase),
    /// `ALTER DATABASE`.
    AlterDatabase(AlterDatabase),
    /// `DROP DATABASE`.
    DropDatabase {
        /// Its name.
        name: String,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `USE`.
    Use(String),
    /// `CREATE TABLE`.
    CreateTable(Box<CreateTable>),
    /// `CREATE TABLE … LIKE`.
    CreateTableLike {
        /// The new table.
        name: TableName,
        /// The one it is made after.
        like: TableName,
        /// Whether one of that name is no error.
        if_not_exists: bool,
    },
    /// `ALTER TABLE`.
    AlterTable {
        /// Which.
        name: TableName,
        /// The changes in order.
        changes: Vec<AlterTable>,
    },
    /// `DROP TABLE`.
    DropTable {
        /// Which.
        names: Vec<TableName>,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `TRUNCATE TABLE`.
    Truncate(TableName),
    /// A `SHOW` of MySQL's.
    Show {
        /// Of what.
        show: Show,
        /// Which rows.
        filter: Option<Filter>,
    },
    /// `SELECT` and what else makes rows.
    Query(Query),
    /// `EXPLAIN SELECT`.
    Explain(Query),
    /// `INSERT` and `REPLACE`.
    Insert(Box<ast::Insert>),
    /// `UPDATE`.
    Update(Box<ast::Update>),
    /// `DELETE`.
    Delete(Box<ast::Delete>),
    /// `LOAD DATA LOCAL INFILE`.
    Load(Box<LoadData>),
    /// `SET`.
    Set(Vec<Assignment>),
    /// `BEGIN`, `START TRANSACTION`.
    Begin {
        /// Whether writes are refused; `None`: as the session says.
        read_only: Option<bool>,
    },
    /// `COMMIT`.
    Commit,
    /// `ROLLBACK`.
    Rollback,
    /// `KILL [QUERY | CONNECTION] id`.
    Kill {
        /// The statement alone.
        query: bool,
        /// Which connection.
        id: u64,
    },
    /// `LOCK TABLES`: accepted with a warning for tools that send it; rows are protected by transactions.
    LockTables(Vec<TableName>),
    /// `CREATE USER`.
    CreateUser {
        /// Whom.
        accounts: Vec<AccountClause>,
        /// Whether an existing one is no error.
        if_not_exists: bool,
    },
    /// `ALTER USER`, `SET PASSWORD`.
    AlterUser {
        /// Whom.
        accounts: Vec<AccountClause>,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `DROP USER`.
    DropUser {
        /// Whom.
        accounts: Vec<Account>,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// `GRANT`.
    Grant(Grant),
    /// `REVOKE`.
    Revoke(Grant),
    /// `FLUSH PRIVILEGES`, `FLUSH TABLES` and the like: nothing to do.
    FlushNothing,
    /// `REPLICATE DATABASE`.
    Replicate(Box<Replicate>),
    /// `PAUSE REPLICATING` and `CONTINUE REPLICATING`.
    PauseReplicating {
        /// Which database.
        database: String,
        /// Whether it halts.
        paused: bool,
    },
    /// `STOP REPLICATING`.
    StopReplicating {
        /// Which database.
        database: String,
    },
    /// `CHECK DATABASE`.
    CheckDatabase {
        /// Which database.
        database: String,
        /// Whether copies that differ are rebuilt.
        repair: bool,
    },
    /// `FLUSH TABLES … WITH READ ONLY`.
    Fence {
        /// Which database, `None` for the current one.
        database: Option<String>,
        /// How long running transactions may take, milliseconds.
        timeout_ms: Option<u64>,
    },
    /// `UNLOCK TABLES`.
    Unlock {
        /// What.
        target: UnlockTarget,
        /// Whether the guard is overruled.
        force: bool,
    },
    /// `ADD AGGREGATOR`, `REMOVE AGGREGATOR` and `PROMOTE AGGREGATOR … TO MASTER`.
    Aggregator {
        /// What is done with it.
        change: AggregatorChange,
        /// `host:port` of its SQL port.
        address: String,
    },
    /// `ADD LEAF`, `REMOVE LEAF`, `DETACH LEAF` and `ATTACH LEAF`.
    Leaf {
        /// What is done with it.
        change: LeafChange,
        /// `host:port` of its RPC port; `None`: all that are detached.
        address: Option<String>,
    },
    /// `REBALANCE`, `RESTORE REDUNDANCY`, and `EXPLAIN` of them.
    Rebalance(Rebalance),
    /// A SHOW of the cluster's.
    ClusterShow(ClusterShow),
    /// `EXPORT DIVERGENCE 'id' AS SQL`.
    ExportDivergence(String),
    /// `DISCARD DIVERGENCE 'id'`.
    DiscardDivergence(String),
    /// Understood, and refused with 1235: it comes with a later version.
    Later(&'static str),
}

/// What becomes of an aggregator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregatorChange {
    /// It belongs to the group that decides.
    Add,
    /// It belongs to it no longer.
    Remove,
    /// It leads it.
    Promote,
}

/// What becomes of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafChange {
    /// Partitions may be placed on it.
    Add {
        /// With whom it fails; `None`: as before, at first with nobody.
        group: Option<LeafGroup>,
    },
    /// Everything is moved away from it, then it is let go.
    Remove {
        /// What others hold, too, is given up at once.
        force: bool,
        /// Transactions that hold a hand-over up are rolled back.
        kill: bool,
        /// Whether it returns once the order is durable.
        no_wait: bool,
    },
    /// Nobody waits for it any more; it keeps its copies.
    Detach {
        /// Also where fewer copies are left than `min_in_sync` wants.
        force: bool,
        /// Transactions that hold a hand-over up are rolled back.
        kill: bool,
    },
    /// Its copies catch up.
    Attach {
        /// Whether loads are made even then.
        rebalance: bool,
    },
}

/// With which leaves one fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafGroup {
    /// With nobody.
    Own,
    /// With the others of this number.
    Named(u32),
}

/// How far partitions are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebalanceAim {
    /// As many copies as `redundancy` says.
    Restore,
    /// And loads that are even.
    Balance,
    /// And the secondaries of each leaf's primaries spread over all others.
    Full,
}

/// `REBALANCE` and `RESTORE REDUNDANCY`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebalance {
    /// Which database, `None` for all.
    pub database: Option<String>,
    /// How far.
    pub aim: RebalanceAim,
    /// Transactions that hold a hand-over up are rolled back.
    pub kill: bool,
    /// Only what would be done is told.
    pub explain: bool,
    /// Whether it returns once the order is durable.
    pub no_wait: bool,
}

/// What a user must have for a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Being logged in.
    Nothing,
    /// ALL on each database that the statement names or uses.
    Database,
    /// SUPER.
    Super,
    /// CLUSTER.
    Cluster,
}

impl Statement {
    /// What the user must have.
    pub fn need(&self) -> Need {
        match self {
            Statement::CreateDatabase(_)
            | Statement::AlterDatabase(_)
            | Statement::DropDatabase { .. }
            | Statement::Use(_)
            | Statement::CreateTable(_)
            | Statement::CreateTableLike { .. }
            | Statement::AlterTable { .. }
            | Statement::DropTable { .. }
            | Statement::Truncate(_)
            | Statement::Query(_)
            | Statement::Explain(_)
            | Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Load(_)
            | Statement::LockTables(_) => Need::Database,
            Statement::Show { show, .. } => match show {
                Show::Tables { .. }
                | Show::TableStatus(_)
                | Show::Columns { .. }
                | Show::CreateTable(_)
                | Show::CreateDatabase { .. }
                | Show::Indexes(_) => Need::Database,
                _ => Need::Nothing,
            },
            Statement::CreateUser { .. }
            | Statement::AlterUser { .. }
            | Statement::DropUser { .. }
            | Statement::Grant(_)
            | Statement::Revoke(_)
            | Statement::Replicate(_)
            | Statement::StopReplicating { .. }
            | Statement::PauseReplicating { .. }
            | Statement::CheckDatabase { .. }
            | Statement::ExportDivergence(_)
            | Statement::DiscardDivergence(_)
            | Statement::Fence { .. } => Need::Super,
            Statement::Aggregator { .. } | Statement::Leaf { .. } | Statement::Rebalance(_) => Need::Cluster,
            Statement::ClusterShow(ClusterShow::Divergence(_) | ClusterShow::DivergenceRecords { .. }) => Need::Super,
            Statement::ClusterShow(_)
            | Statement::Set(_)
            | Statement::Begin { .. }
            | Statement::Commit
            | Statement::Rollback
            | Statement::Kill { .. }
            | Statement::Unlock { .. }
            | Statement::FlushNothing
            | Statement::Later(_) => Need::Nothing,
        }
    }

    /// Whether a transaction that is open is committed before it, as MySQL does for definitions.
    pub fn commits_first(&self) -> bool {
        matches!(
            self,
            Statement::CreateDatabase(_)
                | Statement::AlterDatabase(_)
                | Statement::DropDatabase { .. }
                | Statement::CreateTable(_)
                | Statement::CreateTableLike { .. }
                | Statement::AlterTable { .. }
                | Statement::DropTable { .. }
                | Statement::Truncate(_)
                | Statement::LockTables(_)
                | Statement::CreateUser { .. }
                | Statement::AlterUser { .. }
                | Statement::DropUser { .. }
                | Statement::Grant(_)
                | Statement::Revoke(_)
                | Statement::Begin { .. }
        )
    }
}
