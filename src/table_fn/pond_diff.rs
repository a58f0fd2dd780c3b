//! `pond_diff(a [, b])`: the nodes that differ between two points of the pond's history, which are
//! numbers of transactions or times. Without `b` it is the newest.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::catalog::Binding;
use crate::error::Result;
use crate::pond::At;
use crate::tree::DiffEntry;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "pond_diff", parameters: &["a", "b"] };

/// `pond_diff()` of one binding.
#[derive(Debug)]
pub(super) struct PondDiff(pub Arc<Binding>);

impl TableFunctionImpl for PondDiff {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let (before, after) = (args.required_at("a")?, args.at("b")?);
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(schema(), move || {
            let binding = binding.clone();
            async move {
                let after = match after {
                    Some(after) => after,
                    None => At::Version(binding.snapshot().await?.txn()),
                };
                diff_batch(&binding.tree().diff(before, after).await?)
            }
        })))
    }
}

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("path", DataType::Utf8View, false),
            Field::new("change", DataType::Utf8View, false),
            Field::new("entry_type", DataType::Utf8View, false),
            Field::new("previous_path", DataType::Utf8View, true),
            Field::new("version_before", DataType::Int64, true),
            Field::new("version_after", DataType::Int64, true),
            Field::new("size_before", DataType::Int64, true),
            Field::new("size_after", DataType::Int64, true),
        ]))
    });
    SCHEMA.clone()
}

/// Makes rows as those of `pond_diff()`.
///
/// # Errors
/// None that is expected.
pub fn diff_batch(differences: &[DiffEntry]) -> Result<RecordBatch> {
    fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(values.collect::<StringViewArray>())
    }
    let number = |value: fn(&DiffEntry) -> Option<i64>| -> ArrayRef {
        Arc::new(differences.iter().map(value).collect::<Int64Array>())
    };
    let entries = || differences.iter();
    let columns: Vec<ArrayRef> = vec![
        text(entries().map(|entry| Some(entry.path.as_str()))),
        text(entries().map(|entry| Some(entry.change))),
        text(entries().map(|entry| Some(entry.entry_type.as_str()))),
        text(entries().map(|entry| entry.from.as_ref().map(|path| path.as_str()))),
        number(|entry| entry.version_before),
        number(|entry| entry.version_after),
        number(|entry| entry.size_before),
        number(|entry| entry.size_after),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
