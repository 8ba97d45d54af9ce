//! What the server says about itself: information_schema, and the SHOW statements that are answered from the schema
//! and the session alone.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use types::value::{ColumnType, Zone};
use types::{ColumnId, Datum, TableId};

use crate::answer::{Answer, ResultColumn, Rows};
use crate::arrow::{array, data_type, internal};
use crate::bind::{Names, bind};
use crate::cluster::{Cluster, SECOND_DIGITS, SystemTable};
use crate::error::{Error, Result};
use crate::normalize::Normalizer;
use crate::parse::{quote, quote_name, quote_text};
use crate::scalar::{Env, Ty, Warning};
use crate::schema::{Column, DefaultValue, Table};
use crate::select::{DECLARED, NAME, declared};
use crate::session::Session;
use crate::statement::{Filter, Show, TableName};

/// The database that describes the others.
pub const INFORMATION_SCHEMA: &str = "information_schema";

/// Columns and rows, before they are filtered.
type Sheet = (Vec<(&'static str, Ty)>, Vec<Vec<Datum>>);

fn text(value: impl Into<String>) -> Datum {
    Datum::Text(value.into())
}

fn opt(value: Option<i128>) -> Datum {
    value.map_or(Datum::Null, |value| Datum::Int(value as i64))
}

/// A table of information_schema.
pub(crate) async fn table(cluster: &Arc<dyn Cluster>, session: &Session, name: &str) -> Result<Arc<dyn TableProvider>> {
    let (columns, rows) = match name.to_ascii_uppercase().as_str() {
        "SCHEMATA" => schemata(cluster).await?,
        "TABLES" => tables(cluster).await?,
        "COLUMNS" => columns(cluster).await?,
        "STATISTICS" | "KEY_COLUMN_USAGE" => key_columns(cluster).await?,
        "TABLE_CONSTRAINTS" => constraints(cluster).await?,
        "SESSION_VARIABLES" | "GLOBAL_VARIABLES" => variables(session),
        "ENGINES" => engines(),
        "CHARACTER_SETS" => character_sets(),
        "COLLATIONS" => collations(),
        "VIEWS" | "ROUTINES" | "TRIGGERS" | "EVENTS" | "PARTITIONS" | "REFERENTIAL_CONSTRAINTS" | "FILES" => {
            (vec![("TABLE_CATALOG", Ty::Text), ("TABLE_SCHEMA", Ty::Text), ("TABLE_NAME", Ty::Text)], vec![])
        }
        other => match cluster.sheet(other).await? {
            Some(sheet) => return provider(&sheet.columns, &local(sheet.rows, session), SECOND_DIGITS),
            None => return Err(Error::new(1109, format!("Unknown table '{name}' in information_schema"))),
        },
    };
    provider(&columns, &rows, 0)
}

/// Times as they are in the session's zone: NOW() is one of them.
fn local(mut rows: Vec<Vec<Datum>>, session: &Session) -> Vec<Vec<Datum>> {
    let zone = session.zone();
    for value in rows.iter_mut().flatten() {
        if let Datum::Timestamp(micros) = value {
            *value = Datum::DateTime((&zone as &dyn Zone).to_local(*micros));
        }
    }
    rows
}

/// Rows that are there as a table of DataFusion's. `digits` of a second are shown of its times.
fn provider<N: AsRef<str>>(columns: &[(N, Ty)], rows: &[Vec<Datum>], digits: u8) -> Result<Arc<dyn TableProvider>> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, ty)| {
            let mut metadata = HashMap::from([(NAME.to_string(), name.as_ref().to_string())]);
            if *ty == Ty::DateTime {
                metadata.insert(DECLARED.to_string(), declared(ColumnType::Timestamp(digits)));
            }
            Field::new(name.as_ref().to_lowercase(), data_type(*ty), true).with_metadata(metadata)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let arrays = columns
        .iter()
        .enumerate()
        .map(|(at, (_, ty))| array(*ty, &rows.iter().map(|row| row[at].clone()).collect::<Vec<_>>()))
        .collect::<Result<Vec<_>>>()?;
    let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(internal)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]]).map_err(internal)?))
}

async fn all_tables(cluster: &Arc<dyn Cluster>) -> Result<Vec<(String, Vec<Arc<Table>>)>> {
    let mut found = Vec::new();
    for name in cluster.databases().await? {
        // A database that is dropped meanwhile is not listed.
        if let Ok(database) = cluster.described(&name).await {
            found.push((name, database.schema.tables().cloned().collect()));
        }
    }
    Ok(found)
}

async fn schemata(cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let columns = vec![
        ("CATALOG_NAME", Ty::Text),
        ("SCHEMA_NAME", Ty::Text),
        ("DEFAULT_CHARACTER_SET_NAME", Ty::Text),
        ("DEFAULT_COLLATION_NAME", Ty::Text),
        ("SQL_PATH", Ty::Text),
    ];
    let mut names = vec![INFORMATION_SCHEMA.to_string()];
    names.extend(cluster.databases().await?);
    let rows = names
        .into_iter()
        .map(|name| vec![text("def"), text(name), text("utf8mb4"), text("utf8mb4_bin"), Datum::Null])
        .collect();
    Ok((columns, rows))
}

async fn tables(cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let columns = vec![
        ("TABLE_CATALOG", Ty::Text),
        ("TABLE_SCHEMA", Ty::Text),
        ("TABLE_NAME", Ty::Text),
        ("TABLE_TYPE", Ty::Text),
        ("ENGINE", Ty::Text),
        ("VERSION", Ty::Int),
        ("ROW_FORMAT", Ty::Text),
        ("TABLE_ROWS", Ty::Int),
        ("AVG_ROW_LENGTH", Ty::Int),
        ("DATA_LENGTH", Ty::Int),
        ("INDEX_LENGTH", Ty::Int),
        ("AUTO_INCREMENT", Ty::Int),
        ("CREATE_TIME", Ty::DateTime),
        ("UPDATE_TIME", Ty::DateTime),
        ("TABLE_COLLATION", Ty::Text),
        ("CREATE_OPTIONS", Ty::Text),
        ("TABLE_COMMENT", Ty::Text),
    ];
    let mut rows = Vec::new();
    for (database, tables) in all_tables(cluster).await? {
        for table in tables {
            let nothing = || Datum::Null;
            rows.push(vec![
                text("def"),
                text(&database),
                text(&table.name),
                text("BASE TABLE"),
                text("Perennial"),
                Datum::Int(10),
                text("Dynamic"),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                text("utf8mb4_bin"),
                text(""),
                text(&table.comment),
            ]);
        }
    }
    for (name, _) in cluster.system_tables() {
        let mut row = vec![Datum::Null; columns.len()];
        row[0] = text("def");
        row[1] = text(INFORMATION_SCHEMA);
        row[2] = text(name);
        row[3] = text("SYSTEM VIEW");
        row[16] = text("");
        rows.push(row);
    }
    Ok((columns, rows))
}

/// A table of information_schema that the cluster fills, as if it had been created.
fn system_table((name, columns): SystemTable) -> Table {
    let columns: Vec<Column> =
        columns.into_iter().zip(1..).map(|((name, ty), id)| system_column(id, name, ty)).collect();
    Table {
        id: TableId(0),
        name: name.into(),
        next_column: ColumnId(columns.len() as u32 + 1),
        columns,
        primary_key: vec![],
        shard_key: vec![],
        comment: String::new(),
        auto_increment: 1,
    }
}

fn system_column(id: u32, name: String, ty: Ty) -> Column {
    Column {
        id: ColumnId(id),
        name: name.clone(),
        ty: result_columns(&[(name, ty)])[0].ty,
        nullable: true,
        default: None,
        missing: Datum::Null,
        on_update_now: false,
        auto_increment: false,
        comment: String::new(),
    }
}

async fn columns(cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let names = vec![
        ("TABLE_CATALOG", Ty::Text),
        ("TABLE_SCHEMA", Ty::Text),
        ("TABLE_NAME", Ty::Text),
        ("COLUMN_NAME", Ty::Text),
        ("ORDINAL_POSITION", Ty::Int),
        ("COLUMN_DEFAULT", Ty::Text),
        ("IS_NULLABLE", Ty::Text),
        ("DATA_TYPE", Ty::Text),
        ("CHARACTER_MAXIMUM_LENGTH", Ty::Int),
        ("CHARACTER_OCTET_LENGTH", Ty::Int),
        ("NUMERIC_PRECISION", Ty::Int),
        ("NUMERIC_SCALE", Ty::Int),
        ("DATETIME_PRECISION", Ty::Int),
        ("CHARACTER_SET_NAME", Ty::Text),
        ("COLLATION_NAME", Ty::Text),
        ("COLUMN_TYPE", Ty::Text),
        ("COLUMN_KEY", Ty::Text),
        ("EXTRA", Ty::Text),
        ("PRIVILEGES", Ty::Text),
        ("COLUMN_COMMENT", Ty::Text),
        ("GENERATION_EXPRESSION", Ty::Text),
    ];
    let mut rows = Vec::new();
    for (database, tables) in all_tables(cluster).await? {
        for table in tables {
            for (at, column) in table.columns.iter().enumerate() {
                rows.push(column_row(&database, &table, at, column));
            }
        }
    }
    for table in cluster.system_tables().into_iter().map(system_table) {
        let columns = table.columns.iter().enumerate();
        rows.extend(columns.map(|(at, column)| column_row(INFORMATION_SCHEMA, &table, at, column)));
    }
    Ok((names, rows))
}

fn column_row(database: &str, table: &Table, at: usize, column: &Column) -> Vec<Datum> {
    let full = column.ty.to_string();
    let kind: String = full.chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    let (chars, octets) = match column.ty {
        ColumnType::Char(size) | ColumnType::VarChar(size) => (Some(i128::from(size)), Some(i128::from(size) * 4)),
        ColumnType::Binary(size) | ColumnType::VarBinary(size) => (Some(i128::from(size)), Some(i128::from(size))),
        ColumnType::Text(size) | ColumnType::Blob(size) => {
            (Some(i128::from(size.limit())), Some(i128::from(size.limit())))
        }
        _ => (None, None),
    };
    let (precision, scale) = match column.ty {
        ColumnType::Int { width, unsigned } => {
            (width.range(unsigned).1.checked_ilog10().map(|digits| i128::from(digits) + 1), Some(0))
        }
        ColumnType::Bool => (Some(3), Some(0)),
        ColumnType::Decimal { precision, scale, .. } => (Some(precision.into()), Some(scale.into())),
        ColumnType::Float => (Some(12), None),
        ColumnType::Double => (Some(22), None),
        _ => (None, None),
    };
    let fsp = match column.ty {
        ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp) | ColumnType::Time(fsp) => Some(i128::from(fsp)),
        _ => None,
    };
    let charset = |name: &str| if column.ty.is_text() { text(name) } else { Datum::Null };
    vec![
        text("def"),
        text(database),
        text(&table.name),
        text(&column.name),
        Datum::Int(at as i64 + 1),
        default_text(column),
        text(if column.nullable { "YES" } else { "NO" }),
        text(kind),
        opt(chars),
        opt(octets),
        opt(precision),
        opt(scale),
        opt(fsp),
        charset("utf8mb4"),
        charset("utf8mb4_bin"),
        text(full),
        text(key_mark(table, column.id)),
        text(extra(column)),
        text("select,insert,update,references"),
        text(&column.comment),
        text(""),
    ]
}

/// The time with as many digits as a column keeps.
fn current_timestamp(column: &Column) -> String {
    match column.ty {
        ColumnType::DateTime(fsp) | ColumnType::Timestamp(fsp) if fsp > 0 => format!("CURRENT_TIMESTAMP({fsp})"),
        _ => "CURRENT_TIMESTAMP".into(),
    }
}

fn default_text(column: &Column) -> Datum {
    match &column.default {
        None => Datum::Null,
        Some(DefaultValue::Now) => text(current_timestamp(column)),
        Some(DefaultValue::Value(value)) => text(value.to_string()),
    }
}

fn key_mark(table: &Table, id: ColumnId) -> &'static str {
    if table.primary_key.contains(&id) { "PRI" } else { "" }
}

fn extra(column: &Column) -> String {
    let mut parts: Vec<String> = Vec::new();
    if column.auto_increment {
        parts.push("auto_increment".into());
    }
    if column.default == Some(DefaultValue::Now) {
        parts.push("DEFAULT_GENERATED".into());
    }
    if column.on_update_now {
        parts.push(format!("on update {}", current_timestamp(column)));
    }
    parts.join(" ")
}

async fn key_columns(cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let columns = vec![
        ("TABLE_CATALOG", Ty::Text),
        ("TABLE_SCHEMA", Ty::Text),
        ("TABLE_NAME", Ty::Text),
        ("NON_UNIQUE", Ty::Int),
        ("INDEX_SCHEMA", Ty::Text),
        ("INDEX_NAME", Ty::Text),
        ("CONSTRAINT_NAME", Ty::Text),
        ("SEQ_IN_INDEX", Ty::Int),
        ("ORDINAL_POSITION", Ty::Int),
        ("COLUMN_NAME", Ty::Text),
        ("REFERENCED_TABLE_SCHEMA", Ty::Text),
        ("REFERENCED_TABLE_NAME", Ty::Text),
        ("REFERENCED_COLUMN_NAME", Ty::Text),
    ];
    let mut rows = Vec::new();
    for (database, tables) in all_tables(cluster).await? {
        for table in tables {
            for (at, column) in key_of(&table).enumerate() {
                let place = Datum::Int(at as i64 + 1);
                rows.push(vec![
                    text("def"),
                    text(&database),
                    text(&table.name),
                    Datum::Int(0),
                    text(&database),
                    text("PRIMARY"),
                    text("PRIMARY"),
                    place.clone(),
                    place,
                    text(&column.name),
                    Datum::Null,
                    Datum::Null,
                    Datum::Null,
                ]);
            }
        }
    }
    Ok((columns, rows))
}

fn key_of(table: &Table) -> impl Iterator<Item = &Column> {
    table.primary_key.iter().filter_map(|id| table.columns.iter().find(|column| column.id == *id))
}

async fn constraints(cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let columns = vec![
        ("CONSTRAINT_CATALOG", Ty::Text),
        ("CONSTRAINT_SCHEMA", Ty::Text),
        ("CONSTRAINT_NAME", Ty::Text),
        ("TABLE_SCHEMA", Ty::Text),
        ("TABLE_NAME", Ty::Text),
        ("CONSTRAINT_TYPE", Ty::Text),
    ];
    let mut rows = Vec::new();
    for (database, tables) in all_tables(cluster).await? {
        for table in tables.iter().filter(|table| !table.has_row_id()) {
            let database = text(&database);
            rows.push(vec![
                text("def"),
                database.clone(),
                text("PRIMARY"),
                database,
                text(&table.name),
                text("PRIMARY KEY"),
            ]);
        }
    }
    Ok((columns, rows))
}

fn variables(session: &Session) -> Sheet {
    let rows = session.variables().into_iter().map(|(name, value)| vec![text(&name), shown_variable(&name, &value)]);
    (vec![("Variable_name", Ty::Text), ("Value", Ty::Text)], rows.collect())
}

/// Switches are ON and OFF in SHOW VARIABLES.
fn shown_variable(name: &str, value: &Datum) -> Datum {
    let switches = [
        "autocommit",
        "big_tables",
        "foreign_key_checks",
        "local_infile",
        "performance_schema",
        "read_only",
        "sql_auto_is_null",
        "sql_log_bin",
        "sql_notes",
        "sql_quote_show_create",
        "sql_safe_updates",
        "sql_warnings",
        "transaction_read_only",
        "tx_read_only",
        "unique_checks",
    ];
    match value {
        Datum::Int(0) if switches.contains(&name) => text("OFF"),
        Datum::Int(1) if switches.contains(&name) => text("ON"),
        other => text(other.to_string()),
    }
}

fn engines() -> Sheet {
    let names = ["ENGINE", "SUPPORT", "COMMENT", "TRANSACTIONS", "XA", "SAVEPOINTS"];
    let row = ["Perennial", "DEFAULT", "Partitioned, replicated rows", "YES", "NO", "NO"];
    (names.map(|name| (name, Ty::Text)).to_vec(), vec![row.map(text).to_vec()])
}

fn character_sets() -> Sheet {
    let columns =
        vec![("Charset", Ty::Text), ("Description", Ty::Text), ("Default collation", Ty::Text), ("Maxlen", Ty::Int)];
    (columns, vec![vec![text("utf8mb4"), text("UTF-8 Unicode"), text("utf8mb4_bin"), Datum::Int(4)]])
}

fn collations() -> Sheet {
    let columns = vec![
        ("Collation", Ty::Text),
        ("Charset", Ty::Text),
        ("Id", Ty::Int),
        ("Default", Ty::Text),
        ("Compiled", Ty::Text),
        ("Sortlen", Ty::Int),
    ];
    let row = vec![text("utf8mb4_bin"), text("utf8mb4"), Datum::Int(46), text("Yes"), text("Yes"), Datum::Int(1)];
    (columns, vec![row])
}

/// Answers a SHOW; 1235 for those that only the cluster can answer.
pub(crate) async fn show(
    show: &Show,
    filter: Option<&Filter>,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Answer> {
    let (columns, rows) = match show {
        Show::Databases { extended: false } => {
            let mut names = cluster.databases().await?;
            names.push(INFORMATION_SCHEMA.into());
            names.sort();
            (vec![("Database", Ty::Text)], names.into_iter().map(|name| vec![text(name)]).collect())
        }
        Show::Tables { full, database } => show_tables(*full, database.as_deref(), session, cluster).await?,
        Show::TableStatus(database) => table_status(database.as_deref(), session, cluster).await?,
        Show::Columns { full, table } => show_columns(*full, table, session, cluster).await?,
        Show::CreateTable(name) => {
            let table = find(name, session, cluster).await?;
            let row = vec![text(&table.name), text(create_table(&table))];
            (vec![("Table", Ty::Text), ("Create Table", Ty::Text)], vec![row])
        }
        Show::Indexes(name) => indexes(&*find(name, session, cluster).await?),
        Show::Warnings { errors, count } => warnings(&session.warnings, *errors, *count),
        Show::Variables => variables(session),
        Show::Engines => engines(),
        Show::CharacterSets => character_sets(),
        Show::Collations => collations(),
        Show::Databases { extended: true } => return of_cluster("PERENNIAL_DATABASES", filter, session, cluster).await,
        Show::Status => return of_cluster("SESSION_STATUS", filter, session, cluster).await,
        Show::ProcessList => return of_cluster("PROCESSLIST", filter, session, cluster).await,
        Show::CreateDatabase { .. } | Show::Grants(_) => {
            return Err(Error::unsupported("this SHOW without a cluster"));
        }
    };
    let rows = filtered(&columns, rows, filter, session)?;
    let mut columns = result_columns(&columns);
    if let Show::Tables { database, .. } = show {
        let database = database.as_deref().or(session.database.as_deref()).unwrap_or_default();
        columns[0].name = format!("Tables_in_{database}");
    }
    Ok(Answer::Rows(Rows::of(columns, rows)))
}

/// A SHOW that the cluster answers: the same rows as its table in information_schema.
async fn of_cluster(
    name: &str,
    filter: Option<&Filter>,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Answer> {
    let sheet = cluster.sheet(name).await?.ok_or_else(|| Error::unsupported("this SHOW without a cluster"))?;
    let rows = filtered(&sheet.columns, local(sheet.rows, session), filter, session)?;
    Ok(Answer::Rows(Rows::of(result_columns(&sheet.columns), rows)))
}

fn result_columns<N: AsRef<str>>(columns: &[(N, Ty)]) -> Vec<ResultColumn> {
    let column = |(name, ty): &(N, Ty)| match ty {
        Ty::Int => ResultColumn::int(name.as_ref()),
        Ty::DateTime => ResultColumn::time(name.as_ref()),
        _ => ResultColumn::text(name.as_ref()),
    };
    columns.iter().map(column).collect()
}

async fn find(name: &TableName, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Arc<Table>> {
    let database = name.database.clone().or_else(|| session.database.clone()).ok_or_else(Error::no_database)?;
    if database.eq_ignore_ascii_case(INFORMATION_SCHEMA) {
        let mut tables = cluster.system_tables().into_iter();
        let found = tables.find(|(known, _)| known.eq_ignore_ascii_case(&name.name));
        let unknown = || Error::new(1109, format!("Unknown table '{}' in information_schema", name.name));
        return found.map(|found| Arc::new(system_table(found))).ok_or_else(unknown);
    }
    let found = cluster.described(&database).await?;
    found.schema.table(&name.name).cloned().ok_or_else(|| Error::unknown_table(&database, &name.name))
}

async fn show_tables(
    full: bool,
    database: Option<&str>,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Sheet> {
    let database = database.or(session.database.as_deref()).ok_or_else(Error::no_database)?;
    let mut columns = vec![("Tables_in_database", Ty::Text)];
    let is_system = database.eq_ignore_ascii_case(INFORMATION_SCHEMA);
    let names: Vec<String> = match is_system {
        true => {
            let mut names = vec!["COLUMNS", "SCHEMATA", "STATISTICS", "TABLES"];
            names.extend(cluster.system_tables().into_iter().map(|(name, _)| name));
            names.sort_unstable();
            names.into_iter().map(String::from).collect()
        }
        false => cluster.described(database).await?.schema.tables().map(|table| table.name.clone()).collect(),
    };
    let mut rows: Vec<Vec<Datum>> = names.into_iter().map(|name| vec![text(name)]).collect();
    if full {
        columns.push(("Table_type", Ty::Text));
        let kind = if is_system { "SYSTEM VIEW" } else { "BASE TABLE" };
        rows.iter_mut().for_each(|row| row.push(text(kind)));
    }
    Ok((columns, rows))
}

async fn table_status(database: Option<&str>, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let database = database.or(session.database.as_deref()).ok_or_else(Error::no_database)?;
    let names = [
        "Name",
        "Engine",
        "Version",
        "Row_format",
        "Rows",
        "Avg_row_length",
        "Data_length",
        "Max_data_length",
        "Index_length",
        "Data_free",
        "Auto_increment",
        "Create_time",
        "Update_time",
        "Check_time",
        "Collation",
        "Checksum",
        "Create_options",
        "Comment",
    ];
    let mut rows = Vec::new();
    for table in cluster.described(database).await?.schema.tables() {
        let mut row = vec![Datum::Null; names.len()];
        row[0] = text(&table.name);
        row[1] = text("Perennial");
        row[2] = text("10");
        row[3] = text("Dynamic");
        row[14] = text("utf8mb4_bin");
        row[16] = text("");
        row[17] = text(&table.comment);
        rows.push(row);
    }
    Ok((names.map(|name| (name, Ty::Text)).to_vec(), rows))
}

async fn show_columns(full: bool, name: &TableName, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Sheet> {
    let table = find(name, session, cluster).await?;
    let names: &[&'static str] = match full {
        true => &["Field", "Type", "Collation", "Null", "Key", "Default", "Extra", "Privileges", "Comment"],
        false => &["Field", "Type", "Null", "Key", "Default", "Extra"],
    };
    let rows = table.columns.iter().map(|column| {
        let mut row = vec![text(&column.name), text(column.ty.to_string())];
        if full {
            row.push(if column.ty.is_text() { text("utf8mb4_bin") } else { Datum::Null });
        }
        row.push(text(if column.nullable { "YES" } else { "NO" }));
        row.push(text(key_mark(&table, column.id)));
        row.push(default_text(column));
        row.push(text(extra(column)));
        if full {
            row.push(text("select,insert,update,references"));
            row.push(text(&column.comment));
        }
        row
    });
    Ok((names.iter().map(|name| (*name, Ty::Text)).collect(), rows.collect()))
}

fn indexes(table: &Table) -> Sheet {
    let names = [
        "Table",
        "Non_unique",
        "Key_name",
        "Seq_in_index",
        "Column_name",
        "Collation",
        "Cardinality",
        "Sub_part",
        "Packed",
        "Null",
        "Index_type",
        "Comment",
        "Index_comment",
        "Visible",
        "Expression",
    ];
    let rows = key_of(table).enumerate().map(|(at, column)| {
        let mut row = vec![Datum::Null; names.len()];
        row[0] = text(&table.name);
        row[1] = text("0");
        row[2] = text("PRIMARY");
        row[3] = text((at + 1).to_string());
        row[4] = text(&column.name);
        row[5] = text("A");
        row[9] = text("");
        row[10] = text("BTREE");
        row[11] = text("");
        row[12] = text("");
        row[13] = text("YES");
        row
    });
    (names.map(|name| (name, Ty::Text)).to_vec(), rows.collect())
}

fn warnings(warnings: &[Warning], errors: bool, count: bool) -> Sheet {
    // What is kept of a statement are warnings; an error has gone to the client and is the only one of its kind.
    let kept: Vec<&Warning> = warnings.iter().filter(|_| !errors).collect();
    if count {
        let name = if errors { "@@session.error_count" } else { "@@session.warning_count" };
        return (vec![(name, Ty::Int)], vec![vec![Datum::Int(kept.len() as i64)]]);
    }
    let rows = kept
        .into_iter()
        .map(|warning| {
            let level = if warning.code == 1003 { "Note" } else { "Warning" };
            vec![text(level), Datum::Int(warning.code.into()), text(&warning.message)]
        })
        .collect();
    (vec![("Level", Ty::Text), ("Code", Ty::Int), ("Message", Ty::Text)], rows)
}

/// The rows that a LIKE or WHERE leaves.
fn filtered<N: AsRef<str>>(
    columns: &[(N, Ty)],
    rows: Vec<Vec<Datum>>,
    filter: Option<&Filter>,
    session: &Session,
) -> Result<Vec<Vec<Datum>>> {
    match filter {
        None => Ok(rows),
        Some(Filter::Like(pattern)) => {
            let pattern = pattern.to_lowercase();
            let fits = |row: &Vec<Datum>| crate::scalar::like(&row[0].to_string().to_lowercase(), &pattern, Some('\\'));
            Ok(rows.into_iter().filter(fits).collect())
        }
        Some(Filter::Where(condition)) => {
            let env = Env::new(session.zone());
            let condition = Normalizer::new(session).condition((**condition).clone())?;
            let condition = bind(&condition, &SheetNames(columns), &env)?;
            let mut kept = Vec::new();
            for row in rows {
                if condition.holds(&row, &env)? {
                    kept.push(row);
                }
            }
            Ok(kept)
        }
    }
}

struct SheetNames<'a, N>(&'a [(N, Ty)]);

impl<N: AsRef<str>> Names for SheetNames<'_, N> {
    fn column(&self, _: Option<&str>, column: &str) -> Result<(usize, Ty)> {
        let place = self.0.iter().position(|(name, _)| name.as_ref().eq_ignore_ascii_case(column));
        let first = column.to_lowercase().starts_with("tables_in_").then_some(0);
        let place = place.or(first).ok_or_else(|| Error::unknown_column(column, "where clause"))?;
        Ok((place, self.0[place].1))
    }
}

/// The statement that would make the table.
pub fn create_table(table: &Table) -> String {
    let mut lines: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let mut line = format!("  {} {}", quote_name(&column.name), column.ty);
            if !column.nullable {
                line += " NOT NULL";
            } else if matches!(column.ty, ColumnType::Timestamp(_)) {
                line += " NULL";
            }
            if column.auto_increment {
                line += " AUTO_INCREMENT";
            }
            match &column.default {
                Some(DefaultValue::Now) => line += &format!(" DEFAULT {}", current_timestamp(column)),
                Some(DefaultValue::Value(value @ Datum::Bytes(_))) => line += &format!(" DEFAULT {}", quote(value)),
                Some(DefaultValue::Value(value)) => line += &format!(" DEFAULT {}", quote_text(&value.to_string())),
                None if column.nullable && !matches!(column.ty, ColumnType::Text(_) | ColumnType::Blob(_)) => {
                    line += " DEFAULT NULL";
                }
                None => {}
            }
            if column.on_update_now {
                line += &format!(" ON UPDATE {}", current_timestamp(column));
            }
            if !column.comment.is_empty() {
                line += &format!(" COMMENT {}", quote_text(&column.comment));
            }
            line
        })
        .collect();
    let names = |ids: &[ColumnId]| {
        let columns = ids.iter().filter_map(|id| table.columns.iter().find(|column| column.id == *id));
        columns.map(|column| quote_name(&column.name)).collect::<Vec<_>>().join(",")
    };
    if !table.has_row_id() {
        lines.push(format!("  PRIMARY KEY ({})", names(&table.primary_key)));
    }
    if !table.shard_key.is_empty() {
        lines.push(format!("  SHARD KEY ({})", names(&table.shard_key)));
    }
    let comment = match table.comment.as_str() {
        "" => String::new(),
        comment => format!(" COMMENT={}", quote_text(comment)),
    };
    let head = quote_name(&table.name);
    format!("CREATE TABLE {head} (\n{}\n) DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin{comment}", lines.join(",\n"))
}
