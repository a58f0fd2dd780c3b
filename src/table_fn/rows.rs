//! A table whose few rows are made when it is scanned: what the pond says about itself.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::future::BoxFuture;

use crate::error::Result;

type Load = Box<dyn Fn() -> BoxFuture<'static, Result<RecordBatch>> + Send + Sync>;

/// The table.
pub(crate) struct Rows {
    schema: SchemaRef,
    load: Load,
}

impl Rows {
    /// Makes a table of `schema` whose rows `load` makes at each scan.
    pub(crate) fn new<F>(schema: SchemaRef, load: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<RecordBatch>> + Send + 'static,
    {
        Self { schema, load: Box::new(move || Box::pin(load())) }
    }
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for Rows {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let batch = (self.load)().await?;
        let batch = match limit {
            Some(limit) => batch.slice(0, limit.min(batch.num_rows())),
            None => batch,
        };
        let plan = MemorySourceConfig::try_new_exec(
            &[vec![batch]],
            self.schema.clone(),
            projection.cloned(),
        )?;
        Ok(plan)
    }
}
