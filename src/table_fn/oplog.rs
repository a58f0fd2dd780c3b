//! `oplog()`: the rows of the oplog as they are stored, streamed in the order of their transactions.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, TryStreamExt};

use super::arguments::{Arguments, Signature};
use crate::catalog::Binding;
use crate::oplog::{Scan, oplog_schema, rows_batch};

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "oplog", parameters: &[] };

/// `oplog()` of one binding.
#[derive(Debug)]
pub(super) struct OplogRows(pub Arc<Binding>);

impl TableFunctionImpl for OplogRows {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        Arguments::new(&SIGNATURE, args.exprs())?;
        self.0.mark_used();
        Ok(Arc::new(OplogTable(self.0.clone())))
    }
}

/// The table.
#[derive(Debug)]
struct OplogTable(Arc<Binding>);

#[async_trait]
impl TableProvider for OplogTable {
    fn schema(&self) -> SchemaRef {
        oplog_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let schema = oplog_schema();
        let reads = |name: &str| {
            projection.is_none_or(|columns| {
                columns.iter().any(|column| schema.field(*column).name() == name)
            })
        };
        let mut scan = Scan::up_to(self.0.snapshot().await?.txn());
        if !reads("content") {
            scan = scan.without_content();
        }
        if !reads("arrow_schema") && !reads("statistics") {
            scan = scan.without_facts();
        }
        let rows = Arc::new(OplogStream { schema, binding: self.0.clone(), scan });
        let exec = StreamingTableExec::try_new(
            oplog_schema(),
            vec![rows],
            projection,
            Vec::new(),
            false,
            limit,
        )?;
        Ok(Arc::new(exec))
    }
}

/// The one partition of the table.
struct OplogStream {
    schema: SchemaRef,
    binding: Arc<Binding>,
    scan: Scan,
}

impl fmt::Debug for OplogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OplogStream").field("scan", &self.scan).finish_non_exhaustive()
    }
}

impl PartitionStream for OplogStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (binding, scan) = (self.binding.clone(), self.scan.clone());
        let rows = async move { binding.tree().pond().rows(scan).await };
        let batches = futures::stream::once(rows)
            .try_flatten()
            .map(|rows| rows_batch(&rows?).map_err(DataFusionError::from));
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}
