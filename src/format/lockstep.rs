//! Buckets of time on all processors: `GROUP BY date_trunc('hour', timestamp)` over a series.
//!
//! The parts of a series that partitions read follow each other in time, and the engine, which likes to
//! keep the order of time up to the last aggregate, merges them in that order: it wants all of the
//! first part before it takes anything of the second, so one processor works and the others wait.
//! [`OutOfStep`] gives the order up where nothing above needs it. Each part is still aggregated in its
//! order; only what comes of that, a row a bucket, is hashed. It leaves groups of plain columns alone:
//! there may be as many of them as rows, which an order keeps out of memory.

use std::sync::Arc;

use datafusion::common::Result as EngineResult;
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// The rule.
#[derive(Debug)]
pub(super) struct OutOfStep;

impl PhysicalOptimizerRule for OutOfStep {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        without_order(plan, false)
    }

    fn name(&self) -> &str {
        "OutOfStep"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Gives up orders in `plan` that nobody needs; `is_needed` says whether its own is.
fn without_order(
    plan: Arc<dyn ExecutionPlan>,
    is_needed: bool,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let plan = match (is_needed, unordered(&plan)?) {
        (false, Some(unordered)) => unordered,
        _ => plan,
    };
    let required = plan.required_input_ordering();
    let keeps = plan.maintains_input_order();
    let children = plan.children().into_iter().zip(required.iter().zip(&keeps));
    let children = children.map(|(child, (required, keeps))| {
        without_order(child.clone(), required.is_some() || (is_needed && *keeps))
    });
    let children = children.collect::<EngineResult<Vec<_>>>()?;
    replace_children_if_necessary(plan, children)
}

/// Returns an aggregate of buckets that takes what the partitions have made of them in any order;
/// `None` for any other plan.
fn unordered(plan: &Arc<dyn ExecutionPlan>) -> EngineResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(last) = plan.downcast_ref::<AggregateExec>() else { return Ok(None) };
    let Some(merge) = last.input().downcast_ref::<RepartitionExec>() else { return Ok(None) };
    let Some(first) = merge.input().downcast_ref::<AggregateExec>() else { return Ok(None) };
    let has_buckets =
        first.group_expr().expr().iter().any(|(expr, _)| expr.downcast_ref::<Column>().is_none());
    if *last.mode() != AggregateMode::FinalPartitioned
        || !merge.preserve_order()
        || merge.input().output_partitioning().partition_count() < 2
        || !has_buckets
    {
        return Ok(None);
    }
    let merge = RepartitionExec::try_new(merge.input().clone(), merge.partitioning().clone())?;
    replace_children_if_necessary(plan.clone(), vec![Arc::new(merge)]).map(Some)
}
