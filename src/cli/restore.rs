//! `pond restore`: makes a node what it was at some point of the past.

use clap::Args;

use super::args::Message;
use super::{Outcome, Shell, change, completions, parse_at, pond_path, serve};

/// Make a node, and all below it, what it was
///
/// It need not be there any more. This is a change like any other: what is there now stays in the
/// past.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond restore /sensors --to 41 --dry-run
  pond restore /notes.txt --to 2026-01-31T12:00:00Z")]
pub struct Restore {
    /// The transaction, by its number or a time (UTC): what was there right after it
    #[arg(long, value_name = "TXN|TIME")]
    to: String,

    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    message: Message,

    /// Path of the node
    #[arg(add = completions::paths())]
    path: String,
}

impl Restore {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let (path, at) = (pond_path(&self.path)?, parse_at(&self.to)?);
            let mut edit = shell.open().await?.begin(self.message.text()).await?;
            edit.restore(&path, at).await?;
            if self.dry_run {
                return change::print_diff(shell, &edit.diff()?).await;
            }
            change::commit(shell, edit).await
        })?;
        Ok(0)
    }
}
