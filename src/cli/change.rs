//! Prints what a changing verb did: a line each, or rows in the format asked for.

use std::io::Write;

use pond::Result;
use pond::context::Output;
use pond::output::{self, escape_controls};
use pond::tree::Change;

use super::Shell;

/// Prints `changes` to stdout.
pub async fn print(shell: &Shell, changes: &[Change]) -> Result<()> {
    let mut out = shell.stdout()?;
    if let Some(format) = shell.format()? {
        output::write(Output::changes(changes)?.stream, format, &mut out).await?;
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
