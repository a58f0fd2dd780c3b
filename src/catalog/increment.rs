//! What of an answer has to be computed when its source has grown.
//!
//! The source must be one series, read once, of which only versions were added. Then
//! - a query of rows, that filters and projects and nothing else, is run on the new versions alone;
//! - an aggregate by a time bucket, `GROUP BY date_trunc('hour', timestamp), …`, is run on the buckets
//!   that the new versions reach into, and what was kept of the others stays.
//!
//! Anything else is computed as a whole: `None`.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::catalog::TableProvider;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder, TableScan, lit};

use super::Binding;
use crate::cache::{Answer, SourceVersion};
use crate::entry::{EntryType, OplogEntry};
use crate::error::Result;
use crate::factory::derived::Derived;
use crate::path::PondPath;
use crate::snapshot::Located;

/// What is to be computed.
pub(super) enum Increment {
    /// These rows come to those of the answer.
    Rows(LogicalPlan),
    /// These rows take the place of those of the answer that do not meet `others`.
    Buckets { new: LogicalPlan, others: Expr },
}

impl Binding {
    /// Returns what of an answer to `plan` has to be computed; `None` for all of it.
    pub(super) async fn increment(
        self: &Arc<Self>,
        file: &Derived,
        plan: &LogicalPlan,
        answer: &Answer,
        sources: &[SourceVersion],
    ) -> Result<Option<Increment>> {
        let Some(before) = answer.sources.as_deref() else { return Ok(None) };
        let Some((series, since)) = self.grown(file, before, sources)? else { return Ok(None) };
        let Some(shape) = Shape::of(plan)? else { return Ok(None) };
        let Some(path) = self.path_of_scan(file, shape.scan, &series).await? else {
            return Ok(None);
        };
        let columns = shape.scan.source.schema();
        let versions = since + 1..=series.version;
        let snapshot = &file.cx.snapshot;
        let added = self.tree.versions_table(snapshot, &path, &series, versions, columns)?;
        let Some(aggregate) = shape.aggregate else {
            return Ok(Some(Increment::Rows(with_source(plan, &added)?)));
        };
        let Some(time) = series.temporal_column.as_deref() else { return Ok(None) };
        Ok(buckets(plan, aggregate, shape.scan, time, &added)?)
    }

    /// Returns the one series that has grown since, and the version that it had then, if nothing else
    /// has changed.
    fn grown(
        &self,
        file: &Derived,
        before: &[SourceVersion],
        now: &[SourceVersion],
    ) -> Result<Option<(OplogEntry, i64)>> {
        let snapshot = &file.cx.snapshot;
        let changed: Vec<_> =
            before.iter().zip(now).filter(|(before, now)| before != now).collect();
        let [(then, now_then)] = changed.as_slice() else { return Ok(None) };
        if before.len() != now.len() || then.node != now_then.node || then.files != now_then.files {
            return Ok(None);
        }
        let Some(path) = snapshot.path_of(then.node)? else { return Ok(None) };
        let Located::Found(entry) = snapshot.locate(&path)? else { return Ok(None) };
        let is_series =
            entry.entry_type == EntryType::FileSeries && entry.dynamic_factory().is_none();
        if !is_series || entry.node_id != then.node || entry.version <= then.version {
            return Ok(None);
        }
        let was = snapshot.versions_from(then.node, then.version).next().transpose()?;
        let is_same =
            was.is_some_and(|was| was.version == then.version && was.timestamp == then.written_at);
        Ok(is_same.then_some((entry, then.version)))
    }

    /// Returns the path by which `scan` reads `series`, if it does.
    async fn path_of_scan(
        self: &Arc<Self>,
        file: &Derived,
        scan: &TableScan,
        series: &OplogEntry,
    ) -> Result<Option<PondPath>> {
        let scanned = source_as_provider(&scan.source)?;
        // A plan of an earlier statement was made of what that opened.
        if let Some(path) = file.cx.snapshot.path_of(series.node_id)?
            && self.table(&path, false).await.is_some_and(|table| Arc::ptr_eq(&table, &scanned))
        {
            return Ok(Some(path));
        }
        let opened = self.opened.lock().expect("never poisoned");
        let path = opened.iter().find_map(|(path, table)| {
            let is_scanned = table.as_ref().is_ok_and(|table| Arc::ptr_eq(table, &scanned));
            is_scanned.then(|| path.clone())
        });
        drop(opened);
        let Some(path) = path else { return Ok(None) };
        let (path, located) = file.cx.snapshot.follow(&PondPath::parse(&path)?)?;
        let is_series = matches!(located, Located::Found(entry) if entry.node_id == series.node_id);
        Ok(is_series.then_some(path))
    }
}

/// A plan that reads one table once.
struct Shape<'a> {
    scan: &'a TableScan,
    aggregate: Option<&'a Aggregate>,
}

impl<'a> Shape<'a> {
    /// Recognises a plan that filters and projects a table, and perhaps aggregates it, once.
    fn of(plan: &'a LogicalPlan) -> EngineResult<Option<Self>> {
        let mut aggregate = None;
        let mut at = plan;
        loop {
            if has_subquery(at)? {
                return Ok(None);
            }
            at = match at {
                LogicalPlan::Projection(projection) => &projection.input,
                LogicalPlan::Filter(filter) => &filter.input,
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Sort(sort) if sort.fetch.is_none() => &sort.input,
                LogicalPlan::Aggregate(found) if aggregate.is_none() => {
                    let is_grouping_set = |expr: &Expr| matches!(expr, Expr::GroupingSet(_));
                    if found.group_expr.is_empty() || found.group_expr.iter().any(is_grouping_set) {
                        return Ok(None);
                    }
                    aggregate = Some(found);
                    &found.input
                }
                LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
                    return Ok(Some(Self { scan, aggregate }));
                }
                _ => return Ok(None),
            };
        }
    }
}

pub(super) fn has_subquery(node: &LogicalPlan) -> EngineResult<bool> {
    let mut found = false;
    node.apply_expressions(|expr| {
        expr.apply(|expr| {
            found |=
                matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_));
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// Returns `plan` with another table in the place of the one that it reads.
fn with_source(plan: &LogicalPlan, table: &Arc<dyn TableProvider>) -> EngineResult<LogicalPlan> {
    let replaced = plan.clone().transform_down(|node| match node {
        LogicalPlan::TableScan(scan) => {
            let source = provider_as_source(table.clone());
            Ok(Transformed::yes(LogicalPlan::TableScan(TableScan { source, ..scan })))
        }
        node => Ok(Transformed::no(node)),
    })?;
    Ok(replaced.data)
}

/// Finds the buckets of time that the rows of `added` are in.
fn buckets(
    plan: &LogicalPlan,
    aggregate: &Aggregate,
    scan: &TableScan,
    time: &str,
    added: &Arc<dyn TableProvider>,
) -> EngineResult<Option<Increment>> {
    let schema = scan.source.schema();
    let Some((index, _)) = schema.column_with_name(time) else { return Ok(None) };
    let bounds = |table: &Arc<dyn TableProvider>| {
        let statistics = table.statistics()?;
        let column = statistics.column_statistics.get(index)?;
        // Rows without a time are in a bucket of their own.
        (column.null_count == Precision::Exact(0)).then(|| column.clone())
    };
    let all = source_as_provider(&scan.source)?;
    let (Some(_), Some(new)) = (bounds(&all), bounds(added)) else { return Ok(None) };
    let (Precision::Exact(min), Precision::Exact(max)) = (new.min_value, new.max_value) else {
        return Ok(None);
    };
    // A time that does not fit into nanoseconds has no bucket: its rows are in that of null.
    let fits = |table: &Arc<dyn TableProvider>| {
        bounds(table).is_some_and(|of| match (&of.min_value, &of.max_value) {
            (Precision::Exact(min), Precision::Exact(max)) => in_nanos(min) && in_nanos(max),
            _ => false,
        })
    };
    if !fits(&all) {
        return Ok(None);
    }
    for (at, column) in plan.schema().columns().into_iter().enumerate() {
        let Some(bucket) = group_of(plan, at, aggregate) else { continue };
        if !is_bucket(bucket, &aggregate.input, index) {
            continue;
        }
        let of = |time: &ScalarValue| {
            let replaced = bucket.clone().transform(|expr| match expr {
                Expr::Column(_) => Ok(Transformed::yes(lit(time.clone()))),
                expr => Ok(Transformed::no(expr)),
            });
            replaced.map(|replaced| replaced.data.unalias())
        };
        let (first, last) = (of(&min)?, of(&max)?);
        let kept = Expr::Column(Column::new_unqualified(column.name.clone()));
        let others = kept.clone().lt(first.clone()).or(kept.gt(last.clone()));
        let column = Expr::Column(column);
        let touched = column.clone().gt_eq(first).and(column.lt_eq(last));
        let new = LogicalPlanBuilder::from(plan.clone()).filter(touched)?.build()?;
        return Ok(Some(Increment::Buckets { new, others }));
    }
    Ok(None)
}

/// Whether a time can be told in nanoseconds, with a year to spare for its bucket.
fn in_nanos(time: &ScalarValue) -> bool {
    const YEAR: i64 = 366 * 86_400 * 1_000_000_000;
    let nanos = match time {
        ScalarValue::TimestampSecond(Some(time), _) => time.checked_mul(1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(time), _) => time.checked_mul(1_000_000),
        ScalarValue::TimestampMicrosecond(Some(time), _) => time.checked_mul(1_000),
        ScalarValue::TimestampNanosecond(Some(time), _) => Some(*time),
        ScalarValue::Date32(Some(days)) => i64::from(*days).checked_mul(86_400 * 1_000_000_000),
        _ => None,
    };
    nanos.is_some_and(|nanos| (i64::MIN + YEAR..=i64::MAX - YEAR).contains(&nanos))
}

/// Returns the group expression that an output column of `plan` shows as it is.
fn group_of<'a>(plan: &'a LogicalPlan, at: usize, aggregate: &'a Aggregate) -> Option<&'a Expr> {
    let (plan, at) = trace(plan, at)?;
    match plan {
        LogicalPlan::Aggregate(found) if std::ptr::eq(found, aggregate) => {
            aggregate.group_expr.get(at)
        }
        _ => None,
    }
}

/// Follows an output column down to where it is computed, or read: a node, and its column there.
fn trace(plan: &LogicalPlan, at: usize) -> Option<(&LogicalPlan, usize)> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(at)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            trace(&projection.input, projection.input.schema().maybe_index_of_column(column)?)
        }
        LogicalPlan::Filter(filter) => trace(&filter.input, at),
        LogicalPlan::SubqueryAlias(alias) => trace(&alias.input, at),
        LogicalPlan::Sort(sort) => trace(&sort.input, at),
        LogicalPlan::Aggregate(_) | LogicalPlan::TableScan(_) => Some((plan, at)),
        _ => None,
    }
}

/// Whether an expression never decreases with the time column of the table that is scanned below
/// `input`, and depends on nothing else.
fn is_bucket(expr: &Expr, input: &LogicalPlan, time: usize) -> bool {
    match expr {
        Expr::Alias(alias) => is_bucket(&alias.expr, input, time),
        Expr::Column(column) => {
            let Some(at) = input.schema().maybe_index_of_column(column) else { return false };
            let is_plain = match input.schema().field(at).data_type() {
                DataType::Timestamp(_, zone) => {
                    zone.as_deref().is_none_or(|zone| ["UTC", "Z", "+00:00"].contains(&zone))
                }
                DataType::Date32 | DataType::Date64 => true,
                _ => false,
            };
            is_plain
                && matches!(trace(input, at), Some((LogicalPlan::TableScan(scan), at))
                    if scan.projection.as_ref().map_or(Some(at), |all| all.get(at).copied())
                        == Some(time))
        }
        Expr::Cast(cast) => {
            matches!(cast.field.data_type(), DataType::Date32 | DataType::Timestamp(_, None))
                && is_bucket(&cast.expr, input, time)
        }
        Expr::ScalarFunction(call) => {
            let is_literal =
                |at: usize| call.args.get(at).is_none_or(|arg| matches!(arg, Expr::Literal(..)));
            match (call.func.name(), call.args.as_slice()) {
                ("date_trunc", [_, of]) => is_literal(0) && is_bucket(of, input, time),
                ("date_bin", [_, of, ..]) => {
                    is_literal(0) && is_literal(2) && is_bucket(of, input, time)
                }
                ("date" | "to_date", [of]) => is_bucket(of, input, time),
                _ => false,
            }
        }
        _ => false,
    }
}
