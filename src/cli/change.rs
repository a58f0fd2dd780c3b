//! Prints what a changing verb did: a line each, or rows in the format asked for.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use pond::output::{self, escape_controls};
use pond::tree::Change;
use pond::{Error, Result};

use super::Shell;

/// Prints `changes` to stdout.
pub async fn print(shell: &Shell, changes: &[Change]) -> Result<()> {
    let mut out = shell.stdout()?;
    if let Some(format) = shell.format()? {
        output::write(rows(changes)?, format, &mut out).await?;
        return Ok(());
    }
    for change in changes {
        let path = escape_controls(change.path.as_str());
        match change.txn {
            Some(txn) => writeln!(out, "{} {path} (txn {txn})", change.status),
            None => writeln!(out, "{} {path}", change.status),
        }
        .map_err(output::write_error)?;
    }
    out.flush().map_err(output::write_error)
}

/// The columns that a changing SQL statement returns.
fn rows(changes: &[Change]) -> Result<SendableRecordBatchStream> {
    let status: StringArray = changes.iter().map(|change| Some(change.status)).collect();
    let txn: Int64Array = changes.iter().map(|change| change.txn).collect();
    let path: StringArray = changes.iter().map(|change| Some(change.path.as_str())).collect();
    let batch = RecordBatch::try_from_iter([
        ("status", Arc::new(status) as ArrayRef),
        ("txn", Arc::new(txn)),
        ("path", Arc::new(path)),
    ])
    .map_err(Error::from)?;
    Ok(Box::pin(RecordBatchStreamAdapter::new(batch.schema(), stream::iter([Ok(batch)]))))
}
