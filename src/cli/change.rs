//! Tells what a changing verb or statement did, or would do: a line each, or rows in the format asked
//! for.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use futures::StreamExt;
use pond::Result;
use pond::context::Output;
use pond::output::{self, Style, Written, escape_controls};
use pond::tree::{Change, DiffEntry, Skipped};
use serde_json::json;

use super::Shell;
use super::report::{note, tell};

/// Most lines shown; the others are counted.
const LINES_MAX: usize = 20;

/// Tells of `changes`; with a format asked for, they are rows on stdout.
pub async fn print(shell: &Shell, changes: &[Change]) -> Result<()> {
    if shell.format()?.is_some() {
        shell.results()?.write_rows(Output::changes(changes)?.stream).await?;
        return Ok(());
    }
    for change in changes.iter().take(LINES_MAX) {
        tell_change(change.status, change.path.as_str(), change.txn);
    }
    if changes.len() > LINES_MAX {
        note(&format!("… and {} more", changes.len() - LINES_MAX));
    }
    Ok(())
}

/// Tells of what a statement has changed.
pub async fn tell_output(mut result: Output) -> Result<Written> {
    let mut written = Written::default();
    while let Some(batch) = result.stream.next().await.transpose()? {
        let (status, path) = (batch.column(0).as_string_view(), batch.column(2).as_string_view());
        let txn = batch.column(1).as_primitive::<Int64Type>();
        for ((status, path), txn) in status.iter().zip(path).zip(txn) {
            tell_change(status.unwrap_or_default(), path.unwrap_or_default(), txn);
            written.rows += 1;
        }
    }
    Ok(written)
}

fn tell_change(status: &str, path: &str, txn: Option<i64>) {
    let shown = escape_controls(path);
    let text = match txn {
        Some(txn) => format!("{status} {shown} (txn {txn})"),
        None => format!("{status} {shown}"),
    };
    tell(&text, json!({"level": "change", "status": status, "path": path, "txn": txn}));
}

/// Prints what would change, and that it has not.
pub async fn print_plan(shell: &Shell, changes: &[Change]) -> Result<()> {
    let mut out = shell.stdout()?;
    if let Some(format) = shell.format()? {
        output::write(Output::changes(changes)?.stream, &Style::from(format), &mut out).await?;
    } else {
        use std::io::Write;
        for change in changes {
            let path = escape_controls(change.path.as_str());
            writeln!(out, "would be {} {path}", change.status).map_err(output::write_error)?;
        }
        out.flush().map_err(output::write_error)?;
    }
    note("a dry run: nothing was changed");
    Ok(())
}

/// As [`print_plan`], of an edit that is not committed.
pub async fn print_diff(shell: &Shell, diff: &[DiffEntry]) -> Result<()> {
    let changes: Vec<Change> = diff
        .iter()
        .map(|entry| Change { status: entry.change, txn: None, path: entry.path.clone() })
        .collect();
    print_plan(shell, &changes).await
}

/// Tells what a copy passed over.
pub fn note_skipped(skipped: &[Skipped]) {
    for Skipped { path, reason } in skipped {
        let (path, reason) = (escape_controls(path.as_str()), escape_controls(reason));
        note(&format!("'{path}' was passed over: {reason}"));
    }
}
