//! `pond status`: how large what is, and what is to be done.

use std::sync::Arc;

use clap::Args;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use pond::Result;
use pond::keep::Status as Stock;

use super::{Outcome, Shell, note, print_rows, serve};

/// Show how much is in the pond, how much room it takes, and what `pond maintain` would do
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond status --format json")]
pub struct Status {}

impl Status {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let status = shell.open().await?.pond().status().await?;
            print_rows(shell, &lines(&status), batch).await?;
            for failure in &status.failures {
                note(&format!("the {} could not be maintained: {}", failure.what, failure.message));
            }
            Ok(())
        })?;
        Ok(0)
    }
}

struct Line {
    what: &'static str,
    count: u64,
    size_bytes: Option<u64>,
    note: Option<String>,
}

fn lines(status: &Stock) -> Vec<Line> {
    let line = |what, count| Line { what, count, size_bytes: None, note: None };
    let expired = (status.expired_before > 0)
        .then(|| format!("those before {} have expired", status.expired_before));
    let checkpoint = status.checkpoint_every.saturating_sub(status.since_checkpoint);
    let oplog = match status.mergeable_files {
        0 => format!("the next checkpoint comes in {checkpoint} commits"),
        files => format!("pond maintain merges {files} of them"),
    };
    let garbage = (status.garbage_files > 0).then(|| "pond gc removes them".to_owned());
    vec![
        Line { note: expired, ..line("transactions", status.txn.unsigned_abs()) },
        line("nodes", status.nodes),
        line("versions", status.versions),
        Line {
            size_bytes: Some(status.oplog_bytes),
            note: Some(oplog),
            ..line("oplog files", status.oplog_files)
        },
        Line { size_bytes: Some(status.live_bytes), ..line("blobs of now", status.live_blobs) },
        Line {
            size_bytes: Some(status.past_bytes),
            ..line("blobs of the past", status.past_blobs)
        },
        Line {
            size_bytes: Some(status.garbage_bytes),
            note: garbage,
            ..line("garbage", status.garbage_files)
        },
        Line { size_bytes: Some(status.cache_bytes), ..line("cache files", status.cache_files) },
    ]
}

fn batch(lines: &[Line]) -> Result<RecordBatch> {
    let whats: StringArray = lines.iter().map(|line| Some(line.what)).collect();
    let counts = UInt64Array::from_iter_values(lines.iter().map(|line| line.count));
    let sizes: UInt64Array = lines.iter().map(|line| line.size_bytes).collect();
    let notes: StringArray = lines.iter().map(|line| line.note.as_deref()).collect();
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("what", Arc::new(whats) as ArrayRef, false),
        ("count", Arc::new(counts), false),
        ("size", Arc::new(sizes), true),
        ("note", Arc::new(notes), true),
    ])?)
}
