//! `rejects(path)`: what was refused of CSV files that are read with `on_error` `skip` or `null`, a row
//! for each record or value.
//!
//! `path` is that of a node that shows a CSV file, or a glob of such. The texts are read again for it,
//! and streamed: however much was refused, little of it is held.

use std::fmt;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream;
use tokio::sync::mpsc;

use super::arguments::{Arguments, Signature};
use super::{FilesAt, files_at};
use crate::catalog::Binding;
use crate::error::{Error, Result};
use crate::format::{CsvText, OnError, Reject};
use crate::node::Node;
use crate::path::PondPath;

const PATH: &str = "path";
/// Batches that wait for their reader.
const BATCHES_AHEAD: usize = 2;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "rejects", parameters: &[PATH] };

/// `rejects()` of one binding.
#[derive(Debug)]
pub(super) struct Rejects(pub Arc<Binding>);

impl TableFunctionImpl for Rejects {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let path = self.0.path(&args.required_text(PATH)?)?;
        self.0.mark_used();
        Ok(Arc::new(RejectsTable { binding: self.0.clone(), path }))
    }
}

fn rejects_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            // The text, and the line on which the record begins.
            Field::new("file", DataType::Utf8View, false),
            Field::new("line", DataType::Int64, false),
            // Null if it is about the whole record.
            Field::new("column", DataType::Utf8View, true),
            Field::new("reason", DataType::Utf8View, false),
            Field::new("text", DataType::Utf8View, false),
        ]))
    });
    SCHEMA.clone()
}

/// The table.
#[derive(Debug)]
struct RejectsTable {
    binding: Arc<Binding>,
    path: PondPath,
}

#[async_trait]
impl TableProvider for RejectsTable {
    fn schema(&self) -> SchemaRef {
        rejects_schema()
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
        let texts = texts(&self.binding, &self.path, session).await?;
        let rows = Arc::new(RejectsStream { schema: rejects_schema(), texts });
        let (schema, order) = (rejects_schema(), Vec::new());
        let exec =
            StreamingTableExec::try_new(schema, vec![rows], projection, order, false, limit)?;
        Ok(Arc::new(exec))
    }
}

/// Opens the texts of which something may have been refused.
async fn texts(
    binding: &Arc<Binding>,
    path: &PondPath,
    session: &dyn Session,
) -> Result<Vec<CsvText>> {
    let example = format!("rejects('{}')", path.child("*"));
    let mut files = Vec::new();
    match files_at(binding, path, &example).await? {
        FilesAt::One(file) => files.push(file),
        FilesAt::Matches { root, found } => {
            for found in found {
                if let Some(Node::File(file)) = found.open(&root).await? {
                    files.push(file);
                }
            }
        }
    }
    let mut texts = Vec::with_capacity(files.len());
    for file in files {
        match file.csv_text(session).await? {
            Some(text) => texts.push(text),
            None => {
                let name = file.metadata().await?.name;
                return Err(Error::unsupported(format!("'{name}' shows no CSV file"))
                    .with_hint("rejects() is of what csv_directory and csv_to_parquet make"));
            }
        }
    }
    Ok(texts)
}

/// The one partition of the table.
struct RejectsStream {
    schema: SchemaRef,
    texts: Vec<CsvText>,
}

impl fmt::Debug for RejectsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RejectsStream").field("texts", &self.texts.len()).finish_non_exhaustive()
    }
}

impl PartitionStream for RejectsStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (batches, received) = mpsc::channel(BATCHES_AHEAD);
        let texts = self.texts.clone();
        let task = SpawnedTask::spawn(async move {
            if let Err(error) = read(texts, &batches).await {
                // Nobody may be there to be told.
                let _ = batches.send(Err(DataFusionError::from(error))).await;
            }
        });
        // The task ends with the stream.
        let rows = stream::unfold((received, task), |(mut received, task)| async move {
            received.recv().await.map(|batch| (batch, (received, task)))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

async fn read(
    texts: Vec<CsvText>,
    batches: &mpsc::Sender<EngineResult<RecordBatch>>,
) -> Result<()> {
    for text in texts {
        let layout = text.layout().await?;
        // Nothing is refused of a text that is read or is an error.
        if layout.on_error == OnError::Fail {
            continue;
        }
        let mut rejects = text.rejects(layout)?;
        while let Some(refused) = rejects.next().await? {
            if refused.is_empty() {
                continue;
            }
            let batch = batch(&text.source().path, &refused)?;
            if batches.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn batch(path: &PondPath, rejects: &[Reject]) -> Result<RecordBatch> {
    let text = |value: fn(&Reject) -> Option<&str>| -> ArrayRef {
        Arc::new(rejects.iter().map(value).collect::<StringViewArray>())
    };
    let lines = rejects.iter().map(|reject| i64::try_from(reject.line).unwrap_or(i64::MAX));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rejects.iter().map(|_| Some(path.as_str())).collect::<StringViewArray>()),
        Arc::new(Int64Array::from_iter_values(lines)),
        text(|reject| reject.column.as_deref()),
        text(|reject| Some(&reject.reason)),
        text(|reject| Some(&reject.text)),
    ];
    Ok(RecordBatch::try_new(rejects_schema(), columns)?)
}
