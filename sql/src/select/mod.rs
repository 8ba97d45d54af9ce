//! SELECT through DataFusion: normalised, planned with our functions and operators, read from the leaves.

mod concat;
mod lower;
mod operators;
mod planner;
mod scale;
mod table;
mod titles;
mod udf;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::catalog::TableProvider;
use datafusion::common::SchemaError;
use datafusion::common::tree_node::TreeNode;
use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

use crate::answer::{Answer, ResultColumn, Rows, shown};
use crate::arrow::{Reader, ty_of};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::info;
use crate::normalize::Normalizer;
use crate::scalar::{Env, Ty};
use crate::session::Session;
use crate::statement::Query;

pub(crate) use table::{DECLARED, NAME, declared};

/// Memory that the queries of a process may take together, bytes.
const MEMORY: usize = 1 << 30;
/// Rows of a batch.
const BATCH_ROWS: usize = 4096;

/// What DataFusion needs to plan and run; the same for all statements.
static STATE: LazyLock<SessionState> = LazyLock::new(|| {
    let mut config = SessionConfig::new().with_batch_size(BATCH_ROWS).with_information_schema(false);
    config.options_mut().sql_parser.enable_ident_normalization = false;
    config.options_mut().sql_parser.parse_float_as_decimal = true;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    // The two sides of a UNION may be columns with different declarations: those are metadata, and no types.
    config.options_mut().execution.skip_physical_aggregate_schema_check = true;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(MEMORY, 1.0)
        .build_arc()
        .expect("a memory limit alone is always accepted");
    SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features().build()
});

/// Runs a query. `hidden` shows the hidden row ids of tables.
pub(crate) async fn select(query: &Query, session: &Session, cluster: &Arc<dyn Cluster>, hidden: bool) -> Result<Rows> {
    let env = Arc::new(Env::new(session.zone()));
    let (plan, columns) = plan(query, session, cluster, &env, hidden).await?;
    let physical = physical(&plan).await?;
    // Who asks for hidden ids is about to change rows, and reads them again.
    if !hidden && scans(&physical) == Some(1) {
        cluster.scans_once();
    }
    let batches = execute_stream(physical, STATE.task_ctx()).map_err(translate)?;
    let scales: Vec<Option<u8>> = columns
        .iter()
        .map(|column| match column.ty {
            types::ColumnType::Decimal { scale, .. } => Some(scale),
            _ => None,
        })
        .collect();
    let rows = batches.map(move |batch| {
        let batch = batch.map_err(translate)?;
        let readers = batch.columns().iter().map(|column| Reader::new(column.as_ref())).collect::<Result<Vec<_>>>()?;
        (0..batch.num_rows())
            .map(|row| readers.iter().zip(&scales).map(|(reader, scale)| shown(reader.get(row), *scale)).collect())
            .collect()
    });
    Ok(Rows { columns, rows: Box::pin(rows), env })
}

/// The plan of a query, as text.
pub(crate) async fn explain(query: &Query, session: &Session, cluster: &Arc<dyn Cluster>) -> Result<Answer> {
    let env = Arc::new(Env::new(session.zone()));
    let (plan, _) = plan(query, session, cluster, &env, false).await?;
    let physical = physical(&plan).await?;
    let text = displayable(physical.as_ref()).indent(false).to_string();
    let rows = text.lines().map(|line| vec![types::Datum::Text(line.into())]).collect();
    Ok(Answer::Rows(Rows::of(vec![ResultColumn::text("EXPLAIN")], rows)))
}

/// How many scans of partitions it makes; `None`: as many as it takes.
fn scans(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    if plan.is::<RecursiveQueryExec>() {
        return None;
    }
    let own = plan.downcast_ref::<StreamingTableExec>().map_or(0, |scan| scan.partitions().len());
    plan.children().into_iter().try_fold(own, |sum, child| Some(sum + scans(child)?))
}

/// The runtime, if it has other threads: planning may take seconds, and the statements of its thread go on meanwhile.
fn threads() -> Option<Handle> {
    let many = |handle: &Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
    Handle::try_current().ok().filter(many)
}

async fn physical(plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let planning = STATE.create_physical_plan(plan);
    let planned = match threads() {
        Some(handle) => block_in_place(|| handle.block_on(planning)),
        None => planning.await,
    };
    let planned = planned.map_err(translate)?;
    concat::in_order(planned).map_err(translate)
}

/// The columns a query would answer with.
pub(crate) async fn describe(
    query: &Query,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
) -> Result<Vec<ResultColumn>> {
    let env = Arc::new(Env::new(session.zone()));
    plan(query, session, cluster, &env, false).await.map(|(_, columns)| columns)
}

async fn plan(
    query: &Query,
    session: &Session,
    cluster: &Arc<dyn Cluster>,
    env: &Arc<Env>,
    hidden: bool,
) -> Result<(LogicalPlan, Vec<ResultColumn>)> {
    let mut normalizer = Normalizer::new(session);
    let mut tree = normalizer.query((*query.tree).clone())?;
    let titles = titles::assign(query, &mut tree);
    let mut tables: BTreeMap<(String, String), Arc<dyn TableProvider>> = BTreeMap::new();
    for (database, name) in &normalizer.tables {
        let provider = provider(cluster, session, database, name, hidden).await?;
        tables.insert((database.clone(), name.clone()), provider);
    }
    let planning = || planner::plan(tree, tables, env, &STATE);
    let plan = if threads().is_some() { block_in_place(planning) } else { planning() }.map_err(translate)?;
    // A UNION has the first side's metadata, but values of both: its columns are no table's.
    let united = plan.exists(|node| Ok(matches!(node, LogicalPlan::Union(_)))).map_err(translate)?;
    let fields = plan.schema().fields();
    let mut columns = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let ty = ty_of(field.data_type())
            .ok_or_else(|| Error::unsupported(format!("results of type {}", field.data_type())))?;
        columns.push(result_column(field, ty, scale::shown(&plan, index), &titles, united));
    }
    Ok((plan, columns))
}

fn result_column(
    field: &datafusion::arrow::datatypes::Field,
    ty: Ty,
    shown: Option<u8>,
    titles: &titles::Titles,
    united: bool,
) -> ResultColumn {
    let metadata = field.metadata();
    let name = titles.title(field.name(), metadata.get(table::NAME).map(String::as_str));
    let declared = metadata.get(table::DECLARED).and_then(|text| serde_json::from_str(text).ok());
    match declared {
        Some(declared) if Ty::of_column(&declared) == ty && !united => ResultColumn {
            name,
            table: metadata.get(table::TABLE).cloned().unwrap_or_default(),
            ty: declared,
            nullable: field.is_nullable(),
            declared: true,
        },
        _ => ResultColumn::expression(name, ty, shown, field.is_nullable()),
    }
}

async fn provider(
    cluster: &Arc<dyn Cluster>,
    session: &Session,
    database: &str,
    name: &str,
    hidden: bool,
) -> Result<Arc<dyn TableProvider>> {
    if database.eq_ignore_ascii_case("information_schema") {
        return info::table(cluster, session, name).await;
    }
    let found = cluster.database(database).await?;
    let table = found.schema.table(name).ok_or_else(|| Error::unknown_table(database, name))?;
    let source = table::Source::new(cluster.clone(), database, found.partitions, table, session.zone(), hidden);
    Ok(Arc::new(source))
}

/// DataFusion's errors as MySQL's.
pub(crate) fn translate(error: DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(other) => match other.downcast::<DataFusionError>() {
                Ok(inner) => translate(*inner),
                Err(other) => Error::new(1105, other.to_string()),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => translate(*inner),
        DataFusionError::Shared(inner) => shared(&inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => translate(errors.swap_remove(0)),
        DataFusionError::ArrowError(inner, _) => match *inner {
            datafusion::arrow::error::ArrowError::ExternalError(inner) => translate(DataFusionError::External(inner)),
            datafusion::arrow::error::ArrowError::ArithmeticOverflow(_) => {
                Error::new(1690, "A value is out of range in an expression of the query")
            }
            datafusion::arrow::error::ArrowError::InvalidArgumentError(text) if text.contains("too large to store") => {
                Error::new(1690, "DECIMAL value is out of range in an expression of the query")
            }
            other => Error::new(1105, format!("the query could not be computed: {other}")),
        },
        DataFusionError::SchemaError(inner, _) => match *inner {
            SchemaError::FieldNotFound { field, .. } => Error::unknown_column(&field.flat_name(), "field list"),
            SchemaError::AmbiguousReference { field } => {
                Error::new(1052, format!("Column '{}' in field list is ambiguous", field.flat_name()))
            }
            SchemaError::DuplicateUnqualifiedField { name } | SchemaError::DuplicateQualifiedField { name, .. } => {
                Error::new(1060, format!("Duplicate column name '{name}'"))
            }
        },
        DataFusionError::NotImplemented(text) => Error::unsupported(first_line(&text)),
        DataFusionError::ResourcesExhausted(_) => {
            Error::new(1038, "Out of memory for queries; make the query smaller or repeat it later")
        }
        DataFusionError::Plan(text) => plan_error(&text),
        other => unforeseen(&other),
    }
}

fn unforeseen(error: &DataFusionError) -> Error {
    let text = error.to_string();
    if text.contains("aggregate with DISTINCT") {
        return Error::unsupported("an aggregate with DISTINCT and ORDER BY of something else");
    }
    Error::new(1105, format!("the query could not be computed: {}", first_line(&text)))
}

fn shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::External(inner) => match inner.downcast_ref::<Error>() {
            Some(ours) => ours.clone(),
            None => Error::new(1105, inner.to_string()),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => shared(inner),
        DataFusionError::Shared(inner) => shared(inner),
        other => unforeseen(other),
    }
}

/// The planner tells these cases apart by words alone.
fn plan_error(text: &str) -> Error {
    if text.contains("GROUP BY") || text.contains("aggregate") {
        return Error::new(
            1055,
            format!(
                "An expression is not in GROUP BY and holds a column that is not functionally dependent on it; this is \
                 incompatible with sql_mode=only_full_group_by ({})",
                first_line(text)
            ),
        );
    }
    if text.contains("Invalid function") || text.contains("not found") {
        return Error::new(1305, first_line(text));
    }
    if text.contains("columns") && text.contains("UNION") {
        return Error::new(1222, "The used SELECT statements have a different number of columns");
    }
    Error::unsupported(first_line(text))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(160).collect()
}
