//! `history(path)`: what became of one node, and of those that had its path before it.

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
use crate::tree::HistoryEntry;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "history", parameters: &["path"] };

/// `history()` of one binding.
#[derive(Debug)]
pub(super) struct History(pub Arc<Binding>);

impl TableFunctionImpl for History {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let path = self.0.path(&args.required_text("path")?)?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(schema(), move || {
            let (binding, path) = (binding.clone(), path.clone());
            async move {
                let seen = binding.snapshot().await?.txn();
                let mut history = binding.tree().history(&path).await?;
                history.retain(|entry| entry.txn <= seen);
                history_batch(&history)
            }
        })))
    }
}

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("txn", DataType::Int64, false),
            Field::new("timestamp", time, false),
            Field::new("version", DataType::Int64, false),
            Field::new("change", DataType::Utf8View, false),
            Field::new("name", DataType::Utf8View, false),
            Field::new("entry_type", DataType::Utf8View, false),
            Field::new("factory", DataType::Utf8View, true),
            Field::new("size", DataType::Int64, true),
            Field::new("rows", DataType::Int64, true),
            Field::new("message", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Makes rows as those of `history()`.
///
/// # Errors
/// None that is expected.
pub fn history_batch(history: &[HistoryEntry]) -> Result<RecordBatch> {
    fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(values.collect::<StringViewArray>())
    }
    let entries = || history.iter();
    let times = entries().map(|entry| Some(entry.timestamp));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(entries().map(|entry| Some(entry.txn)).collect::<Int64Array>()),
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(entries().map(|entry| Some(entry.version)).collect::<Int64Array>()),
        text(entries().map(|entry| Some(entry.change))),
        text(entries().map(|entry| Some(entry.name.as_str()))),
        text(entries().map(|entry| Some(entry.entry_type.as_str()))),
        text(entries().map(|entry| entry.factory.as_deref())),
        Arc::new(entries().map(|entry| entry.size).collect::<Int64Array>()),
        Arc::new(entries().map(|entry| entry.rows).collect::<Int64Array>()),
        text(entries().map(|entry| entry.message.as_deref())),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
