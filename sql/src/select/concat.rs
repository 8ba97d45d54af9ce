//! UNION ALL in the order of its branches.
//!
//! DataFusion runs the branches of a union at once and takes rows as they come. MySQL answers with the first branch's rows,
//! then the second's, and people rely on it: `(… ORDER BY a LIMIT 1) UNION ALL (… ORDER BY b LIMIT 1)`, or a heading
//! before its rows. So where the rows of a union meet without being sorted or grouped, they are concatenated: a branch begins
//! when the one before has ended, and is itself as parallel as before.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

/// The plan with its unions in order.
pub(super) fn in_order(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let plan = plan.transform_up(|node| match node.downcast_ref::<CoalescePartitionsExec>() {
        Some(meeting) => match branches(meeting.input())? {
            Some(input) => {
                let concat: Arc<dyn ExecutionPlan> = Arc::new(Concat::new(input));
                let limited = match meeting.fetch() {
                    Some(fetch) => Arc::new(GlobalLimitExec::new(concat, 0, Some(fetch))),
                    None => concat,
                };
                Ok(Transformed::yes(limited))
            }
            None => Ok(Transformed::no(node)),
        },
        None => Ok(Transformed::no(node)),
    })?;
    // The root's partitions meet in the answer.
    Ok(match branches(&plan.data)? {
        Some(input) => Arc::new(Concat::new(input)),
        None => plan.data,
    })
}

/// A union with one partition a branch, below what treats each row, or batch, for itself. `None`: there is no union.
fn branches(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(union) = plan.downcast_ref::<UnionExec>() {
        let inputs = union.inputs().iter().map(single).collect::<Result<Vec<_>>>()?;
        return UnionExec::try_new(inputs).map(Some);
    }
    let by_row = plan.is::<ProjectionExec>() || plan.is::<FilterExec>() || plan.is::<LocalLimitExec>();
    // Rows are dealt out only for speed, and that is what mixes them.
    let dealt = plan.downcast_ref::<RepartitionExec>().is_some_and(deals);
    if !by_row && !dealt {
        return Ok(None);
    }
    match branches(plan.children()[0])? {
        Some(input) if by_row => {
            let recompute = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
            plan.clone().replace_children(vec![input], recompute).map(Some)
        }
        found => Ok(found),
    }
}

fn deals(repartition: &RepartitionExec) -> bool {
    matches!(repartition.partitioning(), Partitioning::RoundRobinBatch(_))
}

/// One branch as one partition.
fn single(branch: &Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    Ok(match branches(branch)? {
        Some(input) => Arc::new(Concat::new(input)),
        None if branch.output_partitioning().partition_count() > 1 => {
            Arc::new(CoalescePartitionsExec::new(branch.clone()))
        }
        None => branch.clone(),
    })
}

/// The partitions of its input, one after the other.
#[derive(Debug)]
struct Concat {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Concat {
    fn new(input: Arc<dyn ExecutionPlan>) -> Concat {
        let mut known = input.equivalence_properties().clone();
        known.clear_orderings();
        known.clear_per_partition_constants();
        let one = Partitioning::UnknownPartitioning(1);
        let properties = PlanProperties::new(known, one, input.pipeline_behavior(), input.boundedness());
        Concat { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Concat {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Concat")
    }
}

impl ExecutionPlan for Concat {
    fn name(&self) -> &'static str {
        "Concat"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Concat::new(children.remove(0))))
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.clone();
        let partitions = 0..input.output_partitioning().partition_count();
        let batches =
            stream::iter(partitions).map(move |partition| input.execute(partition, context.clone())).try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
