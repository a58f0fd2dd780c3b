//! `pond log`: the transactions, or the changes of one node, newest first.

use clap::Args;
use pond::table_fn::{history_batch, log_batch};

use super::{Outcome, Shell, completions, pond_path, print_rows, serve};

/// Show the transactions, newest first
///
/// With a path, the changes of that node, and of those that were there before it and are gone. The
/// columns are those of the table functions pond_log() and history().
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond log -n 5 /sensors/basel.series")]
pub struct Log {
    /// Show at most this many
    #[arg(short = 'n', value_name = "COUNT")]
    count: Option<usize>,

    /// Path of the node
    #[arg(add = completions::paths())]
    path: Option<String>,
}

impl Log {
    pub fn run(self, shell: &Shell) -> Outcome {
        let count = self.count.unwrap_or(usize::MAX);
        serve(async {
            let tree = shell.open().await?;
            match &self.path {
                Some(path) => {
                    let mut history = tree.history(&pond_path(path)?).await?;
                    history.reverse();
                    history.truncate(count);
                    print_rows(shell, &history, history_batch).await
                }
                None => {
                    let mut log = tree.log().await?;
                    log.reverse();
                    log.truncate(count);
                    print_rows(shell, &log, log_batch).await
                }
            }
        })?;
        Ok(0)
    }
}
