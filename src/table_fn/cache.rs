//! `cache()`: the answers of derived nodes that are kept, and of when they are.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::cache::{Answer, Cache};
use crate::catalog::Binding;
use crate::error::Result;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "cache", parameters: &[] };

/// `cache()` of one binding.
#[derive(Debug)]
pub(super) struct Answers(pub Arc<Binding>);

impl TableFunctionImpl for Answers {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        Arguments::new(&SIGNATURE, args.exprs())?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(cache_schema(), move || {
            let binding = binding.clone();
            async move { cache_batch(binding.tree().cache()) }
        })))
    }
}

fn cache_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            // Where the node was when the answer was made.
            Field::new("path", DataType::Utf8View, false),
            Field::new("built", time.clone(), false),
            Field::new("checked", time, false),
            Field::new("txn", DataType::Int64, false),
            Field::new("rows", DataType::Int64, false),
            Field::new("files", DataType::Int64, false),
            Field::new("size", DataType::Int64, false),
            Field::new("key", DataType::Utf8View, false),
        ]))
    });
    SCHEMA.clone()
}

fn cache_batch(cache: &Cache) -> Result<RecordBatch> {
    let mut answers = cache.answers()?;
    answers.sort_by(|(_, left), (_, right)| {
        (&left.path, left.built_at).cmp(&(&right.path, right.built_at))
    });
    let rows = answers.iter().map(|(_, answer)| answer.rows()).collect::<Result<Vec<i64>>>()?;
    let number = |value: fn(&Answer) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(answers.iter().map(|(_, answer)| value(answer))))
    };
    let time = |value: fn(&Answer) -> i64| -> ArrayRef {
        let times = answers.iter().map(|(_, answer)| value(answer));
        Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(answers.iter().map(|(_, answer)| Some(&answer.path)).collect::<StringViewArray>()),
        time(|answer| answer.built_at),
        time(|answer| answer.checked_at),
        number(|answer| answer.txn),
        Arc::new(Int64Array::from(rows)),
        number(|answer| i64::try_from(answer.files.len()).unwrap_or(i64::MAX)),
        number(Answer::size),
        Arc::new(answers.iter().map(|(key, _)| Some(key)).collect::<StringViewArray>()),
    ];
    Ok(RecordBatch::try_new(cache_schema(), columns)?)
}
