//! `pond fsck`: checks everything that is stored.

use std::io::Write;
use std::sync::Arc;

use clap::Args;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use pond::Error;
use pond::keep::{Checked, check};
use pond::output::{self, escape_controls};

use super::{Outcome, Shell, note, print_rows, query};

/// The exit code for a pond that is not what was written.
const DAMAGED: i32 = 5;

/// Check all that is stored: every row, every file, every reference
///
/// Reads everything and changes nothing. Prints what is wrong, one finding a line, and ends with
/// exit code 5 if anything is. A pond that cannot be opened can be checked, too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond fsck || echo damaged")]
pub struct Fsck {}

impl Fsck {
    pub fn run(self, shell: &Shell) -> Outcome {
        let findings = query(async {
            let location = shell.require_location()?;
            let mut findings = Vec::new();
            let checked = match shell.format()? {
                Some(_) => {
                    let checked = check(location, |error| findings.push(error.to_string())).await?;
                    print_rows(shell, &findings, |findings| {
                        let column: ArrayRef = Arc::new(StringArray::from(findings.to_vec()));
                        Ok(RecordBatch::try_from_iter([("finding", column)])?)
                    })
                    .await?;
                    checked
                }
                None => {
                    let mut out = shell.stdout()?;
                    let mut written = Ok(());
                    let checked = check(location, |error| {
                        let line = escape_controls(&error.to_string());
                        if written.is_ok() {
                            written = writeln!(out, "{line}").and_then(|()| out.flush());
                        }
                        findings.push(line);
                    });
                    let checked = checked.await?;
                    written.map_err(output::write_error)?;
                    checked
                }
            };
            note(&summary(&checked, findings.len()));
            Ok::<_, Error>(findings.len())
        })?;
        Ok(if findings == 0 { 0 } else { DAMAGED })
    }
}

fn summary(checked: &Checked, findings: usize) -> String {
    let outcome = match findings {
        0 => "all is as it was written".to_owned(),
        1 => "1 finding".to_owned(),
        _ => format!("{findings} findings"),
    };
    format!(
        "checked {} rows of {} nodes and {} blobs of {} bytes: {outcome}",
        checked.rows, checked.nodes, checked.blobs, checked.blob_bytes
    )
}
