//! `pond fsck`: checks everything that is stored.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use pond::keep::{Checked, check};
use pond::output::{self, escape_controls};
use pond::policy::Access;
use pond::replica::{Compared, Side, compare};
use pond::{Error, Result};

use super::{Outcome, Shell, copies, note, print_rows, query};

/// The exit code for a pond that is not what was written.
const DAMAGED: i32 = 5;

/// Check all that is stored: every row, every file, every reference
///
/// Reads everything and changes nothing. Prints what is wrong, one finding a line, and ends with
/// exit code 5 if anything is. A pond that cannot be opened can be checked, too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond fsck || echo damaged
  pond fsck --against /mnt/backup/mypond")]
pub struct Fsck {
    /// Check a copy of the pond, too, and compare each row and each large file with it
    #[arg(long, value_name = "TARGET", value_hint = ValueHint::DirPath)]
    against: Option<PathBuf>,
}

impl Fsck {
    pub fn run(self, shell: &Shell) -> Outcome {
        let findings = query(async {
            let mut findings = Vec::new();
            match shell.format()? {
                Some(_) => {
                    let done = self.check(shell, |error| findings.push(error.to_string())).await?;
                    print_rows(shell, &findings, |findings| {
                        let column: ArrayRef = Arc::new(StringArray::from(findings.to_vec()));
                        Ok(RecordBatch::try_from_iter([("finding", column)])?)
                    })
                    .await?;
                    done.tell(&findings);
                }
                None => {
                    let mut out = shell.stdout()?;
                    let mut written = Ok(());
                    let checked = self.check(shell, |error| {
                        let line = escape_controls(&error.to_string());
                        if written.is_ok() {
                            written = writeln!(out, "{line}").and_then(|()| out.flush());
                        }
                        findings.push(line);
                    });
                    let checked = checked.await?;
                    written.map_err(output::write_error)?;
                    checked.tell(&findings);
                }
            }
            Ok::<_, Error>(findings.len())
        })?;
        Ok(if findings == 0 { 0 } else { DAMAGED })
    }

    async fn check(&self, shell: &Shell, mut found: impl FnMut(Error)) -> Result<Done> {
        let location = shell.require_location()?;
        // A copy that is not there is told before all is read.
        let copy = match &self.against {
            Some(place) => {
                let place = copies::place(shell, place, Access::Read)?;
                Some(Side::open(place, shell.pond_options())?)
            }
            None => None,
        };
        let checked = check(location, &mut found).await?;
        let compared = match &copy {
            Some(copy) => compare(&copies::this(shell, Access::Read)?, copy, &mut found).await?,
            None => None,
        };
        Ok(Done { checked, compared })
    }
}

/// What was looked at.
struct Done {
    checked: Checked,
    compared: Option<Compared>,
}

impl Done {
    fn tell(&self, findings: &[String]) {
        let outcome = match findings.len() {
            0 => "all is as it was written".to_owned(),
            1 => "1 finding".to_owned(),
            count => format!("{count} findings"),
        };
        let Checked { rows, nodes, blobs, blob_bytes } = self.checked;
        note(&format!(
            "checked {rows} rows of {nodes} nodes and {blobs} blobs of {blob_bytes} bytes: {outcome}"
        ));
        let Some(Compared { txn, ahead, behind, rows, blobs, blob_bytes }) = self.compared else {
            return;
        };
        let behind = match (ahead, behind) {
            (0, 0) => String::new(),
            (0, behind) => format!("; the pond lacks {behind} newer transactions of the copy"),
            (ahead, _) => format!("; the copy lacks {ahead} newer transactions"),
        };
        note(&format!(
            "compared up to transaction {txn}: {rows} rows and {blobs} blobs of {blob_bytes} bytes \
             are the same{behind}"
        ));
    }
}
