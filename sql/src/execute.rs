//! A statement to its answer: which part of this crate does it.
//!
//! What belongs to a cluster or a connection and not to rows (databases, users, links, transactions, SET of a live
//! session, KILL) is the caller's; `execute` answers 1235 for it.

use std::sync::Arc;

use types::{Datum, TableId};

use crate::answer::{Answer, Done, ResultColumn};
use crate::bind::{NoNames, bind};
use crate::cluster::{Cluster, Row, RowWrite, WriteBatch, Written};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::normalize::Normalizer;
use crate::scalar::{Env, Warning};
use crate::schema::{FIRST_TABLE, TABLES, Table, dropped_key, encode_table, table_key};
use crate::session::Session;
use crate::statement::{AlterTable, Assignment, CreateTable, Scope, SetValue, Statement, TableName};
use crate::{info, point_read, select, write};
use types::Ordinal;

/// Runs a statement on rows or tables. The session is not changed: what the statement leaves is in its answer.
pub async fn execute(statement: &Statement, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Answer> {
    match statement {
        Statement::Query(query) => match point_read::select(query, session, cluster).await? {
            Some(rows) => Ok(Answer::Rows(rows)),
            None => select::select(query, session, cluster, false).await.map(Answer::Rows),
        },
        Statement::Explain(query) => select::explain(query, session, cluster).await,
        Statement::Show { show, filter } => info::show(show, filter.as_ref(), session, cluster).await,
        Statement::Insert(insert) => write::insert(insert, session, cluster).await.map(Answer::Done),
        Statement::Update(update) => write::update(update, session, cluster).await.map(Answer::Done),
        Statement::Delete(delete) => write::delete(delete, session, cluster).await.map(Answer::Done),
        Statement::CreateTable(create) => create_table(create, session, cluster).await,
        Statement::CreateTableLike { name, like, if_not_exists } => {
            create_like(name, like, *if_not_exists, session, cluster).await
        }
        Statement::AlterTable { name, changes } => alter_table(name, changes, session, cluster).await,
        Statement::DropTable { names, if_exists } => drop_tables(names, *if_exists, session, cluster).await,
        Statement::Truncate(name) => truncate(name, session, cluster).await,
        Statement::Load(_) => Err(Error::new(1105, "LOAD DATA takes its rows from the client: use write::Loader")),
        Statement::Later(construct) => Err(Error::unsupported(construct)),
        other => {
            let text = format!("{other:?}");
            Err(Error::unsupported(text.split([' ', '(', '{']).next().unwrap_or_default()))
        }
    }
}

/// The columns a query would answer with, without running it: for prepared statements.
pub async fn describe(
    statement: &Statement,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Vec<ResultColumn>> {
    match statement {
        Statement::Query(query) => select::describe(query, session, cluster).await,
        _ => Ok(vec![]),
    }
}

/// Does a SET on a session. What concerns the server or a transaction's kind is refused where it would change
/// something.
pub fn apply_set(assignments: &[Assignment], session: &mut Session) -> Result<()> {
    for assignment in assignments {
        match assignment {
            Assignment::Variable { scope: Scope::Global, .. } | Assignment::Isolation { scope: Scope::Global, .. } => {
                return Err(Error::unsupported("SET GLOBAL"));
            }
            Assignment::Variable { name, value, .. } => {
                let value = evaluate(value, session)?;
                session.set_variable(name, value)?;
            }
            Assignment::User { name, value } => {
                let value = evaluate(value, session)?.unwrap_or(Datum::Null);
                session.user_variables.insert(name.clone(), value);
            }
            Assignment::Names { charset, collation } => {
                for name in ["character_set_client", "character_set_connection", "character_set_results"] {
                    session.set_variable(name, (charset != "DEFAULT").then(|| Datum::Text(charset.clone())))?;
                }
                if let Some(collation) = collation {
                    session.set_variable("collation_connection", Some(Datum::Text(collation.clone())))?;
                }
            }
            Assignment::Isolation { level, .. } => {
                session.set_variable("transaction_isolation", Some(Datum::Text(level.clone())))?;
            }
            Assignment::Access { read_only } => {
                session.set_variable("transaction_read_only", Some(Datum::Int(i64::from(*read_only))))?;
            }
        }
    }
    Ok(())
}

/// `None` is DEFAULT.
fn evaluate(value: &SetValue, session: &Session) -> Result<Option<Datum>> {
    match value {
        SetValue::Default => Ok(None),
        SetValue::Word(word) => Ok(Some(Datum::Text(word.clone()))),
        SetValue::Expression(expr) => {
            let env = Env::new(session.zone());
            let value = Normalizer::new(session).value((**expr).clone())?;
            bind(&value, &NoNames, &env)?.eval(&[], &env).map(Some)
        }
    }
}

fn database_of(name: &TableName, session: &Session) -> Result<String> {
    name.database.clone().or_else(|| session.database.clone()).ok_or_else(Error::no_database)
}

fn done(warnings: Vec<Warning>) -> Answer {
    Answer::Done(Done { warnings, ..Done::default() })
}

/// A note, as MySQL gives instead of an error under IF EXISTS.
fn note(error: Error) -> Vec<Warning> {
    vec![Warning { code: error.code, message: error.message }]
}

/// What a definition says and a table does not keep, each once: dumps repeat it for every column.
fn not_kept<'a>(messages: impl Iterator<Item = &'a String>) -> Vec<Warning> {
    let mut warnings: Vec<Warning> = Vec::new();
    for message in messages {
        if warnings.iter().all(|known| known.message != *message) {
            warnings.push(Warning { code: 1618, message: message.clone() });
        }
    }
    warnings
}

/// Writes rows of the schema.
async fn write_schema(cluster: &Arc<dyn Cluster>, database: &str, writes: Vec<RowWrite>) -> Result<Vec<Written>> {
    let layout = Layout { table: TABLES, name: "tables".into(), fields: vec![], shard: vec![] };
    let batch = WriteBatch { layout, zone: Default::default(), strict: true, program: None, writes };
    cluster.write(database, Ordinal::META, batch).await
}

fn definition(table: &Table) -> Row {
    Row { key: table_key(&table.name), value: encode_table(table) }
}

/// Its rows are taken out by `write::Sweep`, however long that takes.
fn dropped(table: &Table) -> RowWrite {
    RowWrite::Replace(Row { key: dropped_key(table.id), value: encode_table(table) })
}

async fn new_id(cluster: &Arc<dyn Cluster>, database: &str) -> Result<TableId> {
    cluster.allocate(database, TableId(0), 1, FIRST_TABLE.0).await.map(TableId)
}

/// Puts a new definition in; 1050 if its name is taken.
async fn put_new(
    cluster: &Arc<dyn Cluster>,
    database: &str,
    table: &Table,
    if_not_exists: bool,
    mut warnings: Vec<Warning>,
) -> Result<Answer> {
    let exists = || Error::new(1050, format!("Table '{}' already exists", table.name));
    match write_schema(cluster, database, vec![RowWrite::Insert(definition(table))]).await {
        Ok(_) => Ok(done(warnings)),
        Err(error) if error.code == 1062 && if_not_exists => {
            warnings.extend(note(exists()));
            Ok(done(warnings))
        }
        Err(error) if error.code == 1062 => Err(exists()),
        Err(error) => Err(error),
    }
}

async fn create_table(create: &CreateTable, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Answer> {
    let database = database_of(&create.name, session)?;
    let found = cluster.database(&database).await?;
    if found.schema.table(&create.name.name).is_some() {
        let error = Error::new(1050, format!("Table '{}' already exists", create.name.name));
        return if create.if_not_exists { Ok(done(note(error))) } else { Err(error) };
    }
    // The definition is checked before an id is spent on it.
    let mut table = Table::create(TableId(0), create)?;
    table.id = new_id(cluster, &database).await?;
    let of_columns = create.columns.iter().flat_map(|column| &column.ignored);
    let warnings = not_kept(create.ignored.iter().chain(of_columns));
    put_new(cluster, &database, &table, create.if_not_exists, warnings).await
}

async fn create_like(
    name: &TableName,
    like: &TableName,
    if_not_exists: bool,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Answer> {
    let (database, source) = (database_of(name, session)?, database_of(like, session)?);
    let found = cluster.database(&source).await?;
    let table = found.schema.table(&like.name).ok_or_else(|| Error::unknown_table(&source, &like.name))?;
    let id = new_id(cluster, &database).await?;
    let table = Table { id, name: name.name.clone(), auto_increment: 1, ..(**table).clone() };
    put_new(cluster, &database, &table, if_not_exists, vec![]).await
}

async fn alter_table(
    name: &TableName,
    changes: &[AlterTable],
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Answer> {
    let database = database_of(name, session)?;
    let found = cluster.database(&database).await?;
    let table = found.schema.table(&name.name).ok_or_else(|| Error::unknown_table(&database, &name.name))?;
    let mut altered = (**table).clone();
    for change in changes {
        if let AlterTable::Rename(to) = change
            && to.database.as_ref().is_some_and(|to| *to != database)
        {
            return Err(Error::unsupported("ALTER TABLE … RENAME into another database"));
        }
        altered = altered.altered(change)?;
    }
    if altered.name != table.name && found.schema.table(&altered.name).is_some() {
        return Err(Error::new(1050, format!("Table '{}' already exists", altered.name)));
    }
    let writes = match altered.name == table.name {
        true => vec![RowWrite::Replace(definition(&altered))],
        false => vec![RowWrite::Delete(table_key(&table.name)), RowWrite::Insert(definition(&altered))],
    };
    write_schema(cluster, &database, writes).await?;
    if changes.iter().any(|change| matches!(change, AlterTable::AutoIncrement(_))) {
        cluster.allocate(&database, altered.id, 0, altered.auto_increment).await?;
    }
    let added = changes.iter().filter_map(|change| match change {
        AlterTable::AddColumn(column) => Some(&column.ignored),
        _ => None,
    });
    Ok(done(not_kept(added.flatten())))
}

async fn drop_tables(
    names: &[TableName],
    if_exists: bool,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Answer> {
    let mut warnings = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        let database = database_of(name, session)?;
        if cluster.database(&database).await?.schema.table(&name.name).is_none() {
            unknown.push(format!("{database}.{}", name.name));
        }
    }
    if !unknown.is_empty() {
        let error = Error::new(1051, format!("Unknown table '{}'", unknown.join(",")));
        if !if_exists {
            return Err(error);
        }
        warnings.extend(note(error));
    }
    for name in names {
        let database = database_of(name, session)?;
        if let Some(table) = cluster.database(&database).await?.schema.table(&name.name) {
            write_schema(cluster, &database, vec![RowWrite::Delete(table_key(&name.name)), dropped(table)]).await?;
        }
    }
    Ok(done(warnings))
}

/// The table under a new id: its rows are those of the old one no more.
async fn truncate(name: &TableName, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Answer> {
    let database = database_of(name, session)?;
    let found = cluster.database(&database).await?;
    let table = found.schema.table(&name.name).ok_or_else(|| Error::unknown_table(&database, &name.name))?;
    let id = new_id(cluster, &database).await?;
    let emptied = Table { id, ..(**table).clone() };
    write_schema(cluster, &database, vec![RowWrite::Replace(definition(&emptied)), dropped(table)]).await?;
    Ok(done(vec![]))
}
