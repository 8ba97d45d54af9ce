//! A table as DataFusion sees it: one stream a partition, with filters, projection and limit handed to the leaves.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Constraint, Constraints};
use datafusion::datasource::TableType;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};
use types::{ColumnType, Ordinal};

use super::lower::lower;
use super::udf::external;
use crate::arrow::{column_type, internal};
use crate::cluster::{Cluster, Scan};
use crate::layout::Layout;
use crate::point;
use crate::scalar::{Scalar, SessionZone};
use crate::schema::Table;

/// Metadata of a field: the column's declaration, as JSON.
pub(crate) const DECLARED: &str = "perennial.column";
/// Metadata of a field: the column's name as declared.
pub(crate) const NAME: &str = "perennial.name";
/// Metadata of a field: the table.
pub(super) const TABLE: &str = "perennial.table";

/// What [`DECLARED`] says of a type.
pub(crate) fn declared(ty: ColumnType) -> String {
    serde_json::to_string(&ty).expect("a type is plain data")
}

/// A table of one statement.
pub(crate) struct Source {
    cluster: Arc<dyn Cluster>,
    database: String,
    partitions: u32,
    layout: Layout,
    zone: SessionZone,
    schema: SchemaRef,
    constraints: Constraints,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.layout.name)
    }
}

impl Source {
    /// A table; with its hidden row id if `hidden` is set.
    pub(crate) fn new(
        cluster: Arc<dyn Cluster>,
        database: &str,
        partitions: u32,
        table: &Table,
        zone: SessionZone,
        hidden: bool,
    ) -> Source {
        let layout = Layout::of(table);
        let shown = if hidden { layout.fields.len() } else { table.columns.len() };
        let fields: Vec<Field> = layout.fields[..shown]
            .iter()
            .map(|field| {
                let metadata = HashMap::from([
                    (DECLARED.to_string(), declared(field.ty)),
                    (NAME.to_string(), field.name.clone()),
                    (TABLE.to_string(), table.name.clone()),
                ]);
                Field::new(field.name.to_lowercase(), column_type(&field.ty), field.nullable).with_metadata(metadata)
            })
            .collect();
        let key = layout.key_places();
        let constraints = match key.iter().all(|place| *place < shown) {
            true => Constraints::new_unverified(vec![Constraint::PrimaryKey(key)]),
            false => Constraints::default(),
        };
        Source {
            cluster,
            database: database.into(),
            partitions,
            layout,
            zone,
            schema: Arc::new(Schema::new(fields)),
            constraints,
        }
    }
}

#[async_trait]
impl TableProvider for Source {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|filter| match lower(filter, &self.schema) {
                Some(_) => TableProviderFilterPushDown::Exact,
                None => TableProviderFilterPushDown::Unsupported,
            })
            .collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let projection = projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let parts: Vec<Scalar> = filters.iter().filter_map(|filter| lower(filter, &self.schema)).collect();
        assert_eq!(parts.len(), filters.len(), "a filter was handed over that was not accepted");
        let parts = conjuncts(parts);
        let range = point::range(&self.layout, &parts, self.partitions);
        let filter = match parts.len() {
            0 => None,
            1 => parts.into_iter().next(),
            _ => Some(Scalar::And(parts)),
        };
        let schema: SchemaRef = Arc::new(self.schema.project(&projection)?);
        let scan = Scan {
            layout: self.layout.clone(),
            zone: self.zone,
            projection,
            filter,
            limit: limit.map(|limit| limit as u64),
            start: range.start,
            end: range.end,
        };
        let streams: Vec<Arc<dyn PartitionStream>> = range
            .ordinals
            .into_iter()
            .map(|ordinal| {
                Arc::new(Shard {
                    cluster: self.cluster.clone(),
                    database: self.database.clone(),
                    ordinal,
                    scan: scan.clone(),
                    schema: schema.clone(),
                }) as Arc<dyn PartitionStream>
            })
            .collect();
        Ok(Arc::new(StreamingTableExec::try_new(schema, streams, None, [], false, limit)?))
    }
}

/// The parts of nested ANDs.
fn conjuncts(parts: Vec<Scalar>) -> Vec<Scalar> {
    let mut flat = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Scalar::And(inner) => flat.extend(conjuncts(inner)),
            other => flat.push(other),
        }
    }
    flat
}

/// The scan of one partition.
struct Shard {
    cluster: Arc<dyn Cluster>,
    database: String,
    ordinal: Ordinal,
    scan: Scan,
    schema: SchemaRef,
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shard { database, ordinal, scan, .. } = self;
        write!(f, "{database}.{ordinal} {} filter={:?} limit={:?}", scan.layout.name, scan.filter, scan.limit)
    }
}

impl PartitionStream for Shard {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (cluster, database, ordinal, scan) =
            (self.cluster.clone(), self.database.clone(), self.ordinal, self.scan.clone());
        let schema = self.schema.clone();
        let batches = futures::stream::once(async move { cluster.scan(&database, ordinal, scan).await }).try_flatten();
        let typed = schema.clone();
        let batches = batches.map(move |batch| batch.and_then(|batch| renamed(batch, &typed)).map_err(external));
        Box::pin(RecordBatchStreamAdapter::new(schema, batches))
    }
}

/// The batch's columns under the table's names.
fn renamed(batch: RecordBatch, schema: &SchemaRef) -> crate::Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), batch.columns().to_vec(), &options).map_err(internal)
}
