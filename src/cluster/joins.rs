//! Joins that a cluster carries out as they were planned.
//!
//! A scheduler changes joins of a plan that it was sent. A small table that is to be hashed it sends to
//! everyone, where that leaves the partitions of the rows as they are. But a table that the plan has sent
//! to everyone it may cut, by its own idea of sizes and for some kinds of joins always: then the
//! rows are in other partitions than what is above the join was planned for, and the answer is wrong. So
//! in plans that are sent every table is cut, and what to send is left to the scheduler.
//!
//! An executor holds what is hashed of a partition whole and cannot go on on disk, where joins by merging
//! can. Ballista's own planner decides between them while a query runs, but not for plans that it was
//! sent. Here it is known how many rows each file has, and so about the most that a table can be made of:
//! each join whose partitions may be too large is by merging.

use std::sync::Arc;

use ballista_core::config::BallistaConfig;
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::JoinType;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as EngineResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

/// What a value of a type without a width counts for.
const VALUE_BYTES: usize = 32;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// Returns rules of the physical optimizer with ours where the way of each join is known and what that
/// requires of its inputs is not yet added.
pub(super) fn with_fitting(rules: &[Rule]) -> Vec<Rule> {
    let mut rules = rules.to_vec();
    let chosen = rules.iter().position(|rule| rule.name() == "join_selection");
    rules.insert(chosen.map_or(0, |place| place + 1), Arc::new(FittingJoins));
    rules
}

#[derive(Debug)]
struct FittingJoins;

impl PhysicalOptimizerRule for FittingJoins {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        options: &ConfigOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let ballista = options.extensions.get::<BallistaConfig>().cloned().unwrap_or_default();
        let limit = match ballista.hash_join_max_build_partition_bytes() {
            0 => usize::MAX,
            limit => limit,
        };
        let partitions = options.execution.target_partitions.max(1);
        plan.transform_up(|plan| match plan.downcast_ref::<HashJoinExec>() {
            Some(join) => fitted(join, limit, partitions)
                .map(|fitted| fitted.map_or_else(|| Transformed::no(plan), Transformed::yes)),
            None => Ok(Transformed::no(plan)),
        })
        .data()
    }

    fn name(&self) -> &str {
        "FittingJoins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns what to join by instead, unless the tables are cut into partitions of at most about `limit`
/// bytes already.
fn fitted(
    join: &HashJoinExec,
    limit: usize,
    partitions: usize,
) -> EngineResult<Option<Arc<dyn ExecutionPlan>>> {
    // One process looks for nulls in all of the table: such a query does not travel.
    if join.null_aware {
        return Ok(None);
    }
    let fits = bytes(join.left()).unwrap_or(usize::MAX) / partitions <= limit;
    let is_parted = *join.partition_mode() == PartitionMode::Partitioned;
    if fits && is_parted {
        return Ok(None);
    }
    let parted = || join.builder().with_partition_mode(PartitionMode::Partitioned).build();
    if fits {
        return Ok(Some(Arc::new(parted()?)));
    }
    let schema = join.left().schema();
    for (key, _) in join.on() {
        if !merges(&key.data_type(&schema)?) {
            return Ok(Some(Arc::new(parted()?)));
        }
    }
    let merging: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
        join.left().clone(),
        join.right().clone(),
        join.on().to_vec(),
        join.filter().cloned(),
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )?);
    let Some(columns) = &join.projection else { return Ok(Some(merging)) };
    let schema = merging.schema();
    let columns = columns.iter().map(|&at| {
        let name = schema.field(at).name();
        ProjectionExpr::new(Arc::new(Column::new(name, at)), name.clone())
    });
    Ok(Some(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), merging.clone())?)))
}

/// Whether rows can be merged by keys of a type.
fn merges(key: &DataType) -> bool {
    let is_interval = matches!(key, DataType::Interval(_));
    key.is_numeric()
        || key.is_string()
        || key.is_temporal() && !is_interval
        || matches!(key, DataType::Boolean | DataType::Binary | DataType::BinaryView)
}

/// Returns how many bytes the files of the largest scan of a plan have.
pub(super) fn largest_scan(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    let below = plan.children().into_iter().map(largest_scan).max().unwrap_or(0);
    let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { return below };
    let Some(config) = scan.data_source().downcast_ref::<FileScanConfig>() else { return below };
    let files = config.file_groups.iter().flat_map(|group| group.files());
    files.map(|file| file.effective_size()).sum()
}

/// Returns about how many bytes the rows of a plan take at most; `None` if that is not known.
fn bytes(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    Some(rows(plan)?.saturating_mul(width(&plan.schema())))
}

/// Returns about how many rows a plan has at most, of what is known of its files. Each row of the larger
/// table of a join by equality is taken to have one partner, as those that refer to others have.
fn rows(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let most = if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        of_scan(scan)?
    } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        of_join(*join.join_type(), rows(join.left())?, rows(join.right())?)
    } else if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
        of_join(join.join_type(), rows(join.left())?, rows(join.right())?)
    } else {
        let children: Vec<usize> = plan.children().into_iter().map(rows).collect::<Option<_>>()?;
        let is_product = plan.is::<CrossJoinExec>() || plan.is::<NestedLoopJoinExec>();
        let is_total = plan
            .downcast_ref::<AggregateExec>()
            .is_some_and(|aggregate| aggregate.group_expr().is_empty());
        match children.as_slice() {
            [] => 1,
            _ if is_total => plan.output_partitioning().partition_count(),
            rows if is_product => rows.iter().fold(1, |all: usize, rows| all.saturating_mul(*rows)),
            rows => rows.iter().fold(0, |all: usize, rows| all.saturating_add(*rows)),
        }
    };
    Some(plan.fetch().map_or(most, |fetch| fetch.min(most)))
}

fn of_scan(scan: &DataSourceExec) -> Option<usize> {
    let source = scan.data_source();
    if let Some(memory) = source.downcast_ref::<MemorySourceConfig>() {
        return Some(memory.partitions().iter().flatten().map(|rows| rows.num_rows()).sum());
    }
    let files = source.downcast_ref::<FileScanConfig>()?;
    files.statistics().num_rows.get_value().copied()
}

fn of_join(kind: JoinType, left: usize, right: usize) -> usize {
    match kind {
        JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => left,
        JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => right,
        JoinType::Full => left.saturating_add(right),
        JoinType::Inner | JoinType::Left | JoinType::Right => left.max(right),
    }
}

fn width(schema: &Schema) -> usize {
    let widths = schema.fields().iter().map(|field| field.data_type().primitive_width());
    widths.map(|width| width.unwrap_or(VALUE_BYTES)).sum()
}
