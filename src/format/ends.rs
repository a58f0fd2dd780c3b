//! The first and the last rows of a series: `ORDER BY time LIMIT 10` and `ORDER BY time DESC LIMIT 1`.
//!
//! The pond knows how many rows each file of a series has, and that they are in order. So which rows a
//! limit can want is known when a query is planned, and [`SeriesEnds`] takes all others out of the
//! scan: in either direction it reads a page or two of one file. The plan above stays as it is, so this
//! can only save work. It applies where the files follow each other in time, the order is that of
//! the temporal column alone, and no filter comes before the limit.

use std::sync::Arc;

use datafusion::common::Result as EngineResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;

use super::lockstep::OutOfStep;
use super::watch::WatchedSource;

/// The files of a scan that follow each other in the order of a column.
#[derive(Debug)]
pub(super) struct Lane {
    /// The place of the column in the table.
    pub(super) column: usize,
    /// The files, in that order, with exact row counts.
    pub(super) files: Vec<PartitionedFile>,
}

/// Returns the rules of the physical optimizer, the engine's and ours, for sessions to be built with; in
/// other sessions such queries read more, or take longer.
pub fn optimizer_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    // Limits have been pushed down by then, and sorts that are needed have been added.
    let place = rules.iter().position(|rule| rule.name() == "PushdownSort");
    let place = place.unwrap_or(rules.len());
    rules.insert(place, Arc::new(SeriesEnds));
    rules.insert(place, Arc::new(OutOfStep));
    rules
}

#[derive(Debug)]
struct SeriesEnds;

impl PhysicalOptimizerRule for SeriesEnds {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        plan.transform_down(|plan| {
            let (order, fetch) = if let Some(sort) = plan.downcast_ref::<SortExec>() {
                (sort.expr(), sort.fetch())
            } else if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
                (merge.expr(), merge.fetch())
            } else {
                return Ok(Transformed::no(plan));
            };
            let children = plan.children();
            let ([child], Some(rows)) = (children.as_slice(), fetch) else {
                return Ok(Transformed::no(plan));
            };
            match end_of_series(child, order, rows) {
                Some(end) => replace_children_if_necessary(plan, vec![end]).map(Transformed::yes),
                None => Ok(Transformed::no(plan)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "SeriesEnds"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Returns `scan` without the rows that cannot be among the first `rows` in this order.
fn end_of_series(
    scan: &Arc<dyn ExecutionPlan>,
    order: &LexOrdering,
    rows: usize,
) -> Option<Arc<dyn ExecutionPlan>> {
    let exec = scan.downcast_ref::<DataSourceExec>()?;
    let (config, source) = exec.downcast_to_file_source::<WatchedSource>()?;
    let lane = source.lane()?;
    let [PhysicalSortExpr { expr, options }] = order.as_ref() else { return None };
    let sorted_by = table_column(config, expr.downcast_ref::<Column>()?.index())?;
    if sorted_by != lane.column || config.file_source().filter().is_some() {
        return None;
    }
    let files = match options.descending {
        false => first_rows(lane.files.iter(), rows, false)?,
        true => {
            let mut files = first_rows(lane.files.iter().rev(), rows, true)?;
            files.reverse();
            files
        }
    };
    let statistics = config.statistics().to_inexact();
    let config = FileScanConfigBuilder::from(config.clone())
        .with_file_groups(vec![FileGroup::new(files)])
        .with_statistics(statistics)
        .with_output_partitioning(None)
        .build();
    Some(DataSourceExec::from_data_source(config))
}

/// Returns the place in the table of a column of a scan; `None` for an expression.
fn table_column(config: &FileScanConfig, index: usize) -> Option<usize> {
    match config.file_source().projection() {
        None => Some(index),
        Some(columns) => {
            let column = columns.as_ref().get(index)?.expr.downcast_ref::<Column>()?;
            Some(column.index())
        }
    }
}

/// Returns the files that have the first `rows` rows, the last of them in part; with `from_end`, the
/// files come last first, and so are their rows.
fn first_rows<'a>(
    files: impl Iterator<Item = &'a PartitionedFile>,
    rows: usize,
    from_end: bool,
) -> Option<Vec<PartitionedFile>> {
    let mut missing = rows;
    let mut wanted = Vec::new();
    for file in files {
        if missing == 0 {
            break;
        }
        let length = *file.statistics.as_ref()?.num_rows.get_value()?;
        wanted.push(match length <= missing {
            true => file.clone(),
            false => part(file, missing, length, from_end),
        });
        missing = missing.saturating_sub(length);
    }
    Some(wanted)
}

/// Restricts a file to `rows` of the `length` rows that are read of it.
fn part(file: &PartitionedFile, rows: usize, length: usize, from_end: bool) -> PartitionedFile {
    let rest = RowSelector::skip(length - rows);
    let part = RowSelection::from(match from_end {
        false => vec![RowSelector::select(rows), rest],
        true => vec![rest, RowSelector::select(rows)],
    });
    let part = match file.extension::<ParquetRowSelection>() {
        Some(selected) => selected.selection().and_then(&part),
        None => part,
    };
    file.clone().with_extension(ParquetRowSelection::new(part))
}
