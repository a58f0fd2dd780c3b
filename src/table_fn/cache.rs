//! `cache()`: what is kept in the cache: the answers of derived nodes, and of when they are; the
//! conversions of texts, and how often they were used.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::cache::CacheEntry;
use crate::catalog::Binding;
use crate::error::Result;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "cache", parameters: &[] };

/// `cache()` of one binding.
#[derive(Debug)]
pub(super) struct CacheRows(pub Arc<Binding>);

impl TableFunctionImpl for CacheRows {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        Arguments::new(&SIGNATURE, args.exprs())?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(cache_schema(), move || {
            let binding = binding.clone();
            async move { cache_batch(&binding.tree().cache().entries()?) }
        })))
    }
}

fn cache_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            // The node that shows it, where it was when this was made.
            Field::new("path", DataType::Utf8View, false),
            Field::new("source", DataType::Utf8View, true),
            Field::new("kind", DataType::Utf8View, false),
            Field::new("built", time.clone(), false),
            Field::new("checked", time.clone(), true),
            Field::new("txn", DataType::Int64, true),
            Field::new("rows", DataType::Int64, false),
            Field::new("rejected", DataType::Int64, true),
            Field::new("files", DataType::Int64, false),
            Field::new("size", DataType::Int64, false),
            Field::new("hits", DataType::Int64, true),
            Field::new("last_used", time, true),
            Field::new("key", DataType::Utf8View, false),
        ]))
    });
    SCHEMA.clone()
}

/// Makes rows as those of `cache()`.
///
/// # Errors
/// None that is expected.
pub fn cache_batch(entries: &[CacheEntry]) -> Result<RecordBatch> {
    type Number = fn(&CacheEntry) -> Option<i64>;
    let text = |value: fn(&CacheEntry) -> Option<&str>| -> ArrayRef {
        Arc::new(entries.iter().map(value).collect::<StringViewArray>())
    };
    let number =
        |value: Number| -> ArrayRef { Arc::new(entries.iter().map(value).collect::<Int64Array>()) };
    let time = |value: Number| -> ArrayRef {
        let times = entries.iter().map(value).collect::<TimestampMicrosecondArray>();
        Arc::new(times.with_timezone("UTC"))
    };
    let columns = vec![
        text(|entry| Some(&entry.path)),
        text(|entry| entry.source.as_deref()),
        text(|entry| Some(entry.kind.as_str())),
        time(|entry| Some(entry.built_at)),
        time(|entry| entry.checked_at),
        number(|entry| entry.txn),
        number(|entry| Some(entry.rows)),
        number(|entry| entry.rejected),
        number(|entry| i64::try_from(entry.files).ok()),
        number(|entry| Some(entry.size)),
        number(|entry| entry.hits),
        time(|entry| entry.used_at),
        text(|entry| Some(&entry.key)),
    ];
    Ok(RecordBatch::try_new(cache_schema(), columns)?)
}
