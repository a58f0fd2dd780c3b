//! `pond maintain`: does at once what otherwise comes with the commits.

use clap::Args;

use super::{Outcome, Shell, note, query};

/// Merge what is in small pieces, and remove what nothing needs
///
/// Commits do most of this by themselves. What anything shows, now or of the past, does not change.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond maintain")]
pub struct Maintain {}

impl Maintain {
    pub fn run(self, shell: &Shell) -> Outcome {
        let done = query(async { shell.open().await?.maintain().await })?;
        note(&format!("series: {} merged files written", done.series_merged));
        note(&format!("oplog: {} files became {}", done.oplog_files.0, done.oplog_files.1));
        let bytes: u64 = done.garbage.iter().map(|file| file.size_bytes).sum();
        note(&format!("garbage: {} files of {bytes} bytes removed", done.garbage.len()));
        Ok(0)
    }
}
