//! `pond diff`: what two points of the past differ in.

use clap::Args;
use pond::pond::At;
use pond::table_fn::diff_batch;

use super::{Outcome, Shell, parse_at, print_rows, serve};

/// Show what changed between two transactions
///
/// Each is given by its number or as a time (UTC), and stands for what was there right after it. The
/// columns are those of the table function pond_diff().
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond diff 12
  pond diff 2026-01-31 2026-02-28T12:00:00Z")]
pub struct Diff {
    /// The one
    #[arg(value_name = "TXN|TIME")]
    before: String,

    /// The other [default: the newest]
    #[arg(value_name = "TXN|TIME")]
    after: Option<String>,
}

impl Diff {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let tree = shell.open().await?;
            let before = parse_at(&self.before)?;
            let after = match &self.after {
                Some(after) => parse_at(after)?,
                None => At::Version(tree.snapshot().await?.txn()),
            };
            print_rows(shell, &tree.diff(before, after).await?, diff_batch).await
        })?;
        Ok(0)
    }
}
