//! `pond_log()`: the transactions of the past.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::catalog::Binding;
use crate::error::Result;
use crate::pond::LogEntry;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "pond_log", parameters: &[] };

/// `pond_log()` of one binding.
#[derive(Debug)]
pub(super) struct PondLog(pub Arc<Binding>);

impl TableFunctionImpl for PondLog {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        Arguments::new(&SIGNATURE, args.exprs())?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(log_schema(), move || {
            let binding = binding.clone();
            async move { log_rows(&binding).await }
        })))
    }
}

fn log_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("txn", DataType::Int64, false),
            Field::new("timestamp", time, false),
            Field::new("changes", DataType::Int64, false),
            Field::new("message", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Returns the rows of `pond_log()`, oldest first, up to the snapshot being read.
pub(crate) async fn log_rows(binding: &Binding) -> Result<RecordBatch> {
    let newest = binding.snapshot().await?.txn();
    let mut log = binding.tree().log().await?;
    log.retain(|entry| entry.txn <= newest);
    log_batch(&log)
}

/// Makes rows as those of `pond_log()`.
///
/// # Errors
/// None that is expected.
pub fn log_batch(log: &[LogEntry]) -> Result<RecordBatch> {
    let times = log.iter().map(|entry| entry.timestamp).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(log.iter().map(|entry| entry.txn).collect::<Int64Array>()),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(log.iter().map(|entry| entry.changes).collect::<Int64Array>()),
        Arc::new(log.iter().map(|entry| entry.message.as_deref()).collect::<StringViewArray>()),
    ];
    Ok(RecordBatch::try_new(log_schema(), columns)?)
}
