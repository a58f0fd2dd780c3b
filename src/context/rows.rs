//! The rows that a writing statement leaves in a file, as plans and as one stream.
//!
//! The engine's plan of `DELETE` selects the rows to go, of `UPDATE` the changed rows alone. A file is
//! written anew as a whole, so `DELETE` becomes a filter that keeps the others, and `UPDATE` a
//! projection with a `CASE` for each changed column. Rows keep their order in both.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::Column;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as EngineResult;
use datafusion::execution::memory_pool::{FairSpillPool, MemoryLimit};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, execute_stream};
use futures::{StreamExt, TryStreamExt};

use crate::error::{Error, Result};

/// Memory that sorting takes before it goes to disk, where the session sets no limit of its own.
const SORT_MEMORY_BYTES: usize = 256 << 20;

/// Returns the plan of the rows that stay, given that of the rows to delete.
pub(super) fn kept(deleted: &LogicalPlan) -> EngineResult<LogicalPlan> {
    match deleted {
        LogicalPlan::Filter(filter) => {
            let stays = Expr::IsNotTrue(Box::new(filter.predicate.clone()));
            LogicalPlanBuilder::from(filter.input.as_ref().clone()).filter(stays)?.build()
        }
        all => LogicalPlanBuilder::from(all.clone()).filter(lit(false))?.build(),
    }
}

/// Returns the plan of all rows, the changed ones among them, given that of the changed ones alone:
/// a projection to all columns, over a filter, over the table.
pub(super) fn updated(changed: &LogicalPlan) -> EngineResult<LogicalPlan> {
    let LogicalPlan::Projection(projection) = changed else { return Ok(changed.clone()) };
    let LogicalPlan::Filter(filter) = projection.input.as_ref() else {
        return Ok(changed.clone());
    };
    let table = &filter.input;
    let column = |at| Expr::Column(Column::from(table.schema().qualified_field(at)));
    let values = projection.expr.iter().enumerate();
    if !has_subquery(&filter.predicate)? {
        let values = values.map(|(at, value)| {
            let name = table.schema().field(at).name();
            let value = value.clone().unalias();
            if value == column(at) {
                return Ok(value.alias(name));
            }
            Ok(when(filter.predicate.clone(), value).otherwise(column(at))?.alias(name))
        });
        let values = values.collect::<EngineResult<Vec<_>>>()?;
        return LogicalPlanBuilder::from(table.as_ref().clone()).project(values)?.build();
    }
    // The engine runs such conditions in filters alone.
    let stays = Expr::IsNotTrue(Box::new(filter.predicate.clone()));
    let columns = (0..table.schema().fields().len())
        .map(|at| column(at).alias(table.schema().field(at).name()));
    LogicalPlanBuilder::from(table.as_ref().clone())
        .filter(stays)?
        .project(columns)?
        .union(changed.clone())?
        .build()
}

fn has_subquery(condition: &Expr) -> EngineResult<bool> {
    use datafusion::common::tree_node::TreeNode;
    let mut found = false;
    condition.apply(|expr| {
        found |= matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
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

/// Streams the rows of plans, one plan after the other, as columns `schema`.
pub(super) fn stream(
    plans: Vec<Arc<dyn ExecutionPlan>>,
    schema: &SchemaRef,
    context: &Arc<TaskContext>,
) -> Result<SendableRecordBatchStream> {
    let streams = plans
        .into_iter()
        .map(|plan| execute_stream(plan, context.clone()))
        .collect::<EngineResult<Vec<_>>>()?;
    let columns = schema.clone();
    let rows = futures::stream::iter(streams)
        .flatten()
        .map(move |batch| Ok(RecordBatch::try_new(columns.clone(), batch?.columns().to_vec())?));
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows)))
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

/// Returns a stream that begins with its first rows, or `None` if it has none.
pub(super) async fn unless_empty(
    mut rows: SendableRecordBatchStream,
) -> Result<Option<SendableRecordBatchStream>> {
    while let Some(batch) = rows.try_next().await? {
        if batch.num_rows() > 0 {
            let schema = rows.schema();
            let rows = futures::stream::once(async { Ok(batch) }).chain(rows);
            return Ok(Some(Box::pin(RecordBatchStreamAdapter::new(schema, rows))));
        }
    }
    Ok(None)
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
