//! Prints what a changing verb did, or would do: a line each, or rows in the format asked for.

use std::io::{IsTerminal, Write};

use pond::Result;
use pond::context::Output;
use pond::output::{self, escape_controls};
use pond::tree::{Change, DiffEntry, Skipped};

use super::{Shell, note};

/// Most lines shown on a terminal; the others are counted.
const LINES_MAX: usize = 20;

/// Prints `changes` to stdout.
pub async fn print(shell: &Shell, changes: &[Change]) -> Result<()> {
    print_as(shell, changes, "").await
}

/// Prints what would change, and that it has not.
pub async fn print_plan(shell: &Shell, changes: &[Change]) -> Result<()> {
    print_as(shell, changes, "would be ").await?;
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

async fn print_as(shell: &Shell, changes: &[Change], mood: &str) -> Result<()> {
    let mut out = shell.stdout()?;
    if let Some(format) = shell.format()? {
        output::write(Output::changes(changes)?.stream, format, &mut out).await?;
        return Ok(());
    }
    let shown = match std::io::stdout().is_terminal() && changes.len() > LINES_MAX {
        true => &changes[..LINES_MAX],
        false => changes,
    };
    for change in shown {
        let path = escape_controls(change.path.as_str());
        match change.txn {
            Some(txn) => writeln!(out, "{mood}{} {path} (txn {txn})", change.status),
            None => writeln!(out, "{mood}{} {path}", change.status),
        }
        .map_err(output::write_error)?;
    }
    if shown.len() < changes.len() {
        writeln!(out, "… and {} more", changes.len() - shown.len()).map_err(output::write_error)?;
    }
    out.flush().map_err(output::write_error)
}
