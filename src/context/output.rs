//! What a statement returns.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt, TryStreamExt};

use crate::error::Result;
use crate::tree::{Change, Undo};

/// The rows of a statement, and what they are.
pub struct Output {
    /// What the rows are.
    pub kind: OutputKind,
    /// The rows, as they are made.
    pub stream: SendableRecordBatchStream,
    /// What was changed: what the rows of [`OutputKind::Change`] say.
    pub changes: Vec<Change>,
    /// What takes the change back, in the order in which it works, as long as no other transaction
    /// follows; nothing within an open transaction.
    pub undo: Vec<Undo>,
    /// How many rows were added to a table, changed in it or taken from it, if that is known.
    pub rows_written: Option<u64>,
}

/// What the rows of an [`Output`] are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// The answer to a question.
    Rows,
    /// What was changed in the pond: `status`, `txn`, `path`.
    Change,
    /// Nothing: the statement only changed the session.
    Done,
}

impl Output {
    /// Returns the columns.
    pub fn schema(&self) -> SchemaRef {
        self.stream.schema()
    }

    /// Reads all rows.
    ///
    /// # Errors
    /// Whatever stops the query.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        Ok(self.stream.try_collect().await?)
    }

    /// Waits for the first rows, or for what keeps them from coming.
    pub(super) async fn begun(self) -> Result<Self> {
        let (schema, mut rest) = (self.schema(), self.stream);
        let first = rest.try_next().await?;
        let rows = stream::iter(first.map(Ok)).chain(rest);
        Ok(Self { stream: Box::pin(RecordBatchStreamAdapter::new(schema, rows)), ..self })
    }

    /// Returns rows as they are made.
    pub(super) fn new(kind: OutputKind, stream: SendableRecordBatchStream) -> Self {
        Self { kind, stream, changes: Vec::new(), undo: Vec::new(), rows_written: None }
    }

    pub(super) fn rows(batch: RecordBatch) -> Result<Self> {
        Self::of_batch(OutputKind::Rows, batch)
    }

    /// Returns what changes report: `status`, `txn`, `path`.
    pub fn changes(changes: &[Change]) -> Result<Self> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("status", DataType::Utf8View, false),
            Field::new("txn", DataType::Int64, true),
            Field::new("path", DataType::Utf8View, false),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(changes.iter().map(|change| Some(change.status)).collect::<StringViewArray>()),
            Arc::new(changes.iter().map(|change| change.txn).collect::<Int64Array>()),
            Arc::new(
                changes
                    .iter()
                    .map(|change| Some(change.path.as_str()))
                    .collect::<StringViewArray>(),
            ),
        ];
        let output = Self::of_batch(OutputKind::Change, RecordBatch::try_new(schema, columns)?)?;
        Ok(Self { changes: changes.to_vec(), ..output })
    }

    pub(super) fn done() -> Self {
        let stream = EmptyRecordBatchStream::new(Arc::new(Schema::empty()));
        Self::new(OutputKind::Done, Box::pin(stream))
    }

    fn of_batch(kind: OutputKind, batch: RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        Ok(Self::new(kind, Box::pin(MemoryStream::try_new(vec![batch], schema, None)?)))
    }
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("kind", &self.kind)
            .field("schema", &self.schema())
            .finish_non_exhaustive()
    }
}
