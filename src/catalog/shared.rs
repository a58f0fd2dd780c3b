//! Derived nodes that are computed once for a statement and read many times.
//!
//! Putting a node in line wherever it is read lets predicates through to its sources, and doubles with
//! each level of a diamond: twenty levels would be a million scans. So a node that a statement would
//! hold more than [`COPIES_MAX`] times is a table of its own there, whose rows are computed by whoever
//! reads them first and held in memory, of which the session's pool is told, until the statement
//! ends.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::OnceCell;

use crate::path::PondPath;

/// How often a statement holds the plan of a node before it is computed once instead.
pub(super) const COPIES_MAX: usize = 16;

/// The table of one node in one statement.
pub(super) struct SharedTable {
    path: PondPath,
    plan: LogicalPlan,
    schema: SchemaRef,
    rows: OnceCell<Arc<SharedRows>>,
}

impl SharedTable {
    /// Makes the table of a plan.
    pub(super) fn new(path: PondPath, plan: LogicalPlan) -> Self {
        let schema = Arc::new(plan.schema().as_arrow().clone());
        Self { path, plan, schema, rows: OnceCell::new() }
    }
}

impl fmt::Debug for SharedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedTable").field("path", &self.path).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SharedTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let plan = || async {
            let plan = session.create_physical_plan(&self.plan).await?;
            let schema = self.schema.clone();
            Ok::<_, DataFusionError>(Arc::new(SharedRows { schema, plan, rows: OnceCell::new() }))
        };
        let rows = self.rows.get_or_try_init(plan).await?;
        let rows: Arc<dyn PartitionStream> = Arc::new(Scan(rows.clone()));
        let schema = self.schema.clone();
        let scan = StreamingTableExec::try_new(schema, vec![rows], projection, None, false, limit)?;
        Ok(Arc::new(scan))
    }
}

/// The rows, once they are there.
struct SharedRows {
    schema: SchemaRef,
    plan: Arc<dyn ExecutionPlan>,
    rows: OnceCell<Result<Held, Arc<DataFusionError>>>,
}

/// Rows in memory.
struct Held {
    batches: Vec<RecordBatch>,
    _memory: MemoryReservation,
}

impl fmt::Debug for SharedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRows").finish_non_exhaustive()
    }
}

impl SharedRows {
    async fn compute(&self, context: Arc<TaskContext>) -> EngineResult<Held> {
        let memory = MemoryConsumer::new("SharedRows").register(context.memory_pool());
        let mut rows = execute_stream(self.plan.clone(), context)?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            memory.try_grow(batch.get_array_memory_size())?;
            batches.push(batch);
        }
        Ok(Held { batches, _memory: memory })
    }
}

/// A handle that a stream of the rows keeps.
struct Reader {
    rows: Arc<SharedRows>,
    next: usize,
}

/// What a scan reads: the rows, by a handle that keeps them.
#[derive(Debug)]
struct Scan(Arc<SharedRows>);

impl PartitionStream for Scan {
    fn schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let reader = Reader { rows: self.0.clone(), next: 0 };
        let batches = stream::try_unfold(reader, move |mut reader| {
            let context = context.clone();
            async move {
                let held = reader
                    .rows
                    .rows
                    .get_or_init(|| async { reader.rows.compute(context).await.map_err(Arc::new) })
                    .await;
                let held = held.as_ref().map_err(|error| DataFusionError::Shared(error.clone()))?;
                let Some(batch) = held.batches.get(reader.next).cloned() else { return Ok(None) };
                reader.next += 1;
                Ok(Some((batch, reader)))
            }
        });
        Box::pin(RecordBatchStreamAdapter::new(self.0.schema.clone(), batches.boxed()))
    }
}
