//! `pond describe`: what a node is and, if it is a table, its columns.

use clap::Args;
use pond::PondContext;

use super::{Outcome, Shell, completions, pond_path, query, sql};

/// Describe a node: what it is and, if it is a table, its columns
///
/// With --format, the columns of a table alone. A path may name the past: /a.table@v12.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond describe /sensors/basel.series")]
pub struct Describe {
    /// Path of the node
    #[arg(add = completions::paths())]
    path: String,
}

impl Describe {
    pub fn run(self, shell: &Shell) -> Outcome {
        let format = shell.format()?;
        let path = pond_path(&self.path)?;
        query(async {
            let context = PondContext::new(shell.open().await?);
            let mut results = shell.results()?;
            sql::describe(&context, &path, format.is_some(), &mut results).await
        })?;
        Ok(0)
    }
}
