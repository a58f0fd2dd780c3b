//! The rows that a writing statement leaves in a file, as plans and as one stream.
//!
//! The engine's plan of `DELETE` selects the rows to go, of `UPDATE` the changed rows alone. A file is
//! written anew as a whole, so `DELETE` becomes a filter that keeps the others, and `UPDATE` a
//! projection with a `CASE` for each changed column. Rows keep their order in both. A condition that
//! is null for a row is not met: the row stays as it is.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, JoinType};
use datafusion::error::Result as EngineResult;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryLimit};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, ident, lit, when};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};

/// Memory that sorting takes before it goes to disk, where the session sets no limit of its own.
const SORT_MEMORY_BYTES: usize = 256 << 20;

/// Returns the plan of the rows that stay, given that of the rows to delete: a filter over the table.
pub(super) fn kept(deleted: &LogicalPlan) -> EngineResult<LogicalPlan> {
    let LogicalPlan::Filter(filter) = deleted else {
        return LogicalPlanBuilder::from(deleted.clone()).filter(lit(false))?.build();
    };
    let condition = Condition::new(filter)?;
    let columns = (0..filter.input.schema().fields().len()).map(|at| column_of(&filter.input, at));
    LogicalPlanBuilder::from(condition.table)
        .filter(Expr::IsNotTrue(Box::new(condition.is_met)))?
        .project(columns)?
        .build()
}

/// What the column behind those of a table is called that tells of each row whether it is changed.
const CHANGED: &str = "__changed";

/// Returns a name that no column of a table has.
fn free_name(table: &LogicalPlan, name: &str) -> String {
    let mut name = name.to_owned();
    while table.schema().fields().iter().any(|field| *field.name() == name) {
        name.push('_');
    }
    name
}

/// Returns the plan of all rows, the changed ones among them, given that of the changed ones alone:
/// a projection to all columns, over a filter, over the table. With `marks`, a last column tells which
/// are changed.
pub(super) fn updated(changed: &LogicalPlan, marks: bool) -> EngineResult<LogicalPlan> {
    let filtered = match changed {
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::Filter(filter) => Some((projection, filter)),
            _ => None,
        },
        _ => None,
    };
    let Some((projection, filter)) = filtered else {
        if !marks {
            return Ok(changed.clone());
        }
        let columns = (0..changed.schema().fields().len()).map(|at| column_of(changed, at));
        let columns = columns.chain([lit(true).alias(free_name(changed, CHANGED))]);
        return LogicalPlanBuilder::from(changed.clone()).project(columns)?.build();
    };
    let condition = Condition::new(filter)?.once()?;
    let is_changed = free_name(&filter.input, CHANGED);
    let mark = Expr::IsTrue(Box::new(condition.is_met.clone())).alias(is_changed);
    let values = projection.expr.iter().enumerate().map(|(at, value)| {
        let name = filter.input.schema().field(at).name();
        let (before, after) = (column_of(&filter.input, at), value.clone().unalias());
        if after == before {
            return Ok(after.alias(name));
        }
        Ok(when(condition.is_met.clone(), after).otherwise(before)?.alias(name))
    });
    let mut values = values.collect::<EngineResult<Vec<_>>>()?;
    values.extend(marks.then_some(mark));
    LogicalPlanBuilder::from(condition.table).project(values)?.build()
}

fn column_of(table: &LogicalPlan, at: usize) -> Expr {
    Expr::Column(Column::from(table.schema().qualified_field(at)))
}

/// A condition on the rows of a table that any expression can hold.
struct Condition {
    table: LogicalPlan,
    is_met: Expr,
}

impl Condition {
    /// Takes the condition out of a filter. The engine knows subqueries in conditions of filters alone,
    /// and elsewhere takes the null of `NOT IN` for true; so where there are some, the filter stays,
    /// over the numbered rows, and the numbers that it yields mark the rows that meet it.
    fn new(filter: &Filter) -> EngineResult<Self> {
        let number = free_name(&filter.input, "__row");
        let met = free_name(&filter.input, "__met");
        let table = filter.input.as_ref().clone();
        if !has_subquery(&filter.predicate)? {
            return Ok(Self { table, is_met: filter.predicate.clone() });
        }
        let numbered =
            LogicalPlanBuilder::from(table).window([row_number().alias(&number)])?.build()?;
        let those = LogicalPlanBuilder::from(numbered.clone())
            .filter(filter.predicate.clone())?
            .project([ident(&number).alias(&met)])?
            .build()?;
        let same = ident(&met).eq(ident(&number));
        let marked = LogicalPlanBuilder::from(those)
            .join_on(numbered, JoinType::RightMark, [same])?
            .build()?;
        let mark = marked.schema().fields().len() - 1;
        let is_met = column_of(&marked, mark);
        Ok(Self { table: marked, is_met })
    }

    /// Has it evaluated once for a row, however many columns depend on it: it may be another one each time.
    fn once(self) -> EngineResult<Self> {
        let count = self.table.schema().fields().len();
        let columns = (0..count).map(|at| column_of(&self.table, at));
        let is_met = self.is_met.alias(free_name(&self.table, "__is_met"));
        let table = LogicalPlanBuilder::from(self.table.clone())
            .project(columns.chain([is_met]).collect::<Vec<_>>())?
            .build()?;
        let is_met = column_of(&table, count);
        Ok(Self { table, is_met })
    }
}

fn has_subquery(condition: &Expr) -> EngineResult<bool> {
    condition.exists(|expr| {
        Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    })
}

/// Returns the columns of a file that is written with these: each once, and none of them barred from
/// being null, as no file promises that for the next one.
///
/// # Errors
/// `Invalid` for two columns of one name.
pub(super) fn file_schema(rows: &Schema) -> Result<SchemaRef> {
    for (at, field) in rows.fields().iter().enumerate() {
        if rows.fields()[..at].iter().any(|other| other.name() == field.name()) {
            return Err(Error::invalid(format!("column '{}' is there twice", field.name()))
                .with_hint("give one of them another name: SELECT …, x AS y"));
        }
    }
    let fields = rows.fields().iter();
    let fields = fields.map(|field| field.as_ref().clone().with_nullable(true));
    Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// Streams the rows of plans, one plan after the other, as columns `schema`. A column behind those marks
/// rows: with the stream comes how many are.
pub(super) fn stream(
    plans: Vec<Arc<dyn ExecutionPlan>>,
    schema: &SchemaRef,
    context: &Arc<TaskContext>,
) -> Result<(SendableRecordBatchStream, Arc<AtomicU64>)> {
    let streams = plans
        .into_iter()
        .map(|plan| execute_stream(plan, context.clone()))
        .collect::<EngineResult<Vec<_>>>()?;
    let columns = schema.clone();
    let marked = Arc::new(AtomicU64::new(0));
    let marks = marked.clone();
    let rows = futures::stream::iter(streams).flatten().map(move |batch| {
        let batch = batch?;
        let (values, rest) = batch.columns().split_at(columns.fields().len());
        for mark in rest.iter().filter_map(|column| column.as_boolean_opt()) {
            marks.fetch_add(mark.true_count() as u64, Ordering::Relaxed);
        }
        Ok(RecordBatch::try_new(columns.clone(), values.to_vec())?)
    });
    Ok((Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows)), marked))
}

/// Whether a plan yields its rows in the order of `column`.
pub(super) fn is_sorted(plan: &dyn ExecutionPlan, column: &str) -> EngineResult<bool> {
    let order = ascending(&plan.schema(), column)?;
    Ok(plan.output_partitioning().partition_count() == 1
        && plan.equivalence_properties().ordering_satisfy(order)?)
}

/// Sorts a stream by `column`, on disk if there are many rows.
pub(super) fn sort(
    rows: SendableRecordBatchStream,
    column: &str,
    state: &SessionState,
) -> Result<SendableRecordBatchStream> {
    let schema = rows.schema();
    let order = LexOrdering::new(ascending(&schema, column)?).expect("one column");
    let source = Arc::new(Once { schema: schema.clone(), rows: Mutex::new(Some(rows)) });
    let source = StreamingTableExec::try_new(schema, vec![source], None, Vec::new(), false, None)?;
    let sort = SortExec::new(order, Arc::new(source));
    Ok(sort.execute(0, spilling(state))?)
}

fn ascending(schema: &Schema, column: &str) -> EngineResult<Vec<PhysicalSortExpr>> {
    Ok(vec![PhysicalSortExpr::new_default(expressions::col(column, schema)?)])
}

/// Returns a session's task context with a limit on memory.
fn spilling(state: &SessionState) -> Arc<TaskContext> {
    let context = state.task_ctx();
    let runtime = context.runtime_env();
    if !matches!(runtime.memory_pool.memory_limit(), MemoryLimit::Infinite) {
        return context;
    }
    let runtime = RuntimeEnv {
        memory_pool: Arc::new(FairSpillPool::new(SORT_MEMORY_BYTES)),
        ..runtime.as_ref().clone()
    };
    Arc::new(TaskContext::from(state).with_runtime(Arc::new(runtime)))
}

/// A stream as the source of a plan that runs once.
struct Once {
    schema: SchemaRef,
    rows: Mutex<Option<SendableRecordBatchStream>>,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = self.rows.lock().expect("never poisoned").take();
        rows.expect("the plan runs once")
    }
}

/// Returns a stream that counts its rows.
pub(super) fn counted(
    rows: SendableRecordBatchStream,
) -> (SendableRecordBatchStream, Arc<AtomicI64>) {
    let count = Arc::new(AtomicI64::new(0));
    let counter = count.clone();
    let schema = rows.schema();
    let rows = rows.inspect_ok(move |batch| {
        counter.fetch_add(batch.num_rows() as i64, Ordering::Relaxed);
    });
    (Box::pin(RecordBatchStreamAdapter::new(schema, rows)), count)
}
