//! Whether joins by hashing fit into memory.
//!
//! An executor holds the table of a partition whole and cannot go on on disk, where joins by merging
//! can; those are slower, and are never cut down to sending a small table to everyone. Ballista's own
//! planner decides while a query runs, but leaves plans that it was sent as they are. Here it is known how
//! many rows each file has, and so the most that a table can be made of.

use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// What a value of a type without a width counts for.
const VALUE_BYTES: usize = 32;

/// Whether no partition of a table for hashing has more than about `limit` bytes; always, if that is 0.
pub(super) fn fit(plan: &Arc<dyn ExecutionPlan>, limit: usize) -> bool {
    let is_large = |join: &HashJoinExec| {
        let partitions = match join.partition_mode() {
            PartitionMode::Partitioned => join.left().output_partitioning().partition_count(),
            _ => 1,
        };
        bytes(join.left()).is_none_or(|bytes| bytes / partitions.max(1) > limit)
    };
    limit == 0
        || (!plan.downcast_ref::<HashJoinExec>().is_some_and(is_large)
            && plan.children().into_iter().all(|child| fit(child, limit)))
}

/// Returns about how many bytes the rows take that a plan reads; `None` if that is not known.
fn bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let Some(scan) = plan.downcast_ref::<DataSourceExec>() else {
        let below = plan.children().into_iter().map(bytes);
        return below.sum();
    };
    let source = scan.data_source();
    if source.downcast_ref::<MemorySourceConfig>().is_some() {
        return Some(0);
    }
    let files = source.downcast_ref::<FileScanConfig>()?;
    let rows = *files.statistics().num_rows.get_value()?;
    Some(rows.saturating_mul(width(&plan.schema())))
}

fn width(schema: &Schema) -> usize {
    let widths = schema.fields().iter().map(|field| field.data_type().primitive_width());
    widths.map(|width| width.unwrap_or(VALUE_BYTES)).sum()
}
