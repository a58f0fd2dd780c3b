//! `pond log`: the transactions, newest first.

use std::sync::Arc;

use clap::Args;
use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use pond::pond::LogEntry;
use pond::{Error, Result, output};

use super::{Outcome, Shell, serve};

/// Rows encoded at a time.
const BATCH_ROWS: usize = 1024;

/// Show the transactions, newest first
#[derive(Debug, Args)]
pub struct Log {
    /// Show at most this many
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<usize>,
}

impl Log {
    pub fn run(self, shell: &Shell) -> Outcome {
        let format = shell.format()?.unwrap_or_default();
        serve(async {
            let mut entries = shell.open().await?.log().await?;
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.txn));
            entries.truncate(self.count.unwrap_or(usize::MAX));
            let schema = batch(&[])?.schema();
            let batches: Vec<RecordBatch> =
                entries.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
            let rows =
                RecordBatchStreamAdapter::new(schema, stream::iter(batches.into_iter().map(Ok)));
            output::write(Box::pin(rows), format, &mut shell.stdout()?).await
        })?;
        Ok(0)
    }
}

fn batch(entries: &[LogEntry]) -> Result<RecordBatch> {
    let txn = Int64Array::from_iter_values(entries.iter().map(|entry| entry.txn));
    let time =
        TimestampMicrosecondArray::from_iter_values(entries.iter().map(|entry| entry.timestamp));
    let changes = Int64Array::from_iter_values(entries.iter().map(|entry| entry.changes));
    let message: StringArray = entries.iter().map(|entry| entry.message.as_deref()).collect();
    RecordBatch::try_from_iter_with_nullable([
        ("txn", Arc::new(txn) as ArrayRef, false),
        ("timestamp", Arc::new(time.with_timezone("UTC")), false),
        ("changes", Arc::new(changes), false),
        ("message", Arc::new(message), true),
    ])
    .map_err(Error::from)
}
