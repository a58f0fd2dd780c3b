//! `pond mv`: moves or renames nodes.

use clap::Args;
use pond::node::expand;

use super::args::{Destination, Message};
use super::{Outcome, Shell, change, completions, pond_path, serve};

/// Move or rename nodes
///
/// Nothing is replaced: a path that is taken is an error, and a directory is moved into.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond mv '/inbox/*.csv' /sensors/")]
pub struct Mv {
    #[command(flatten)]
    message: Message,

    /// Paths or globs of the nodes
    #[arg(required = true, value_name = "SOURCE", add = completions::paths())]
    sources: Vec<String>,

    /// The new path, or the directory to move into: one that is there, or any if it ends in `/`
    #[arg(value_name = "DEST", add = completions::paths())]
    dest: String,
}

impl Mv {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let tree = shell.open().await?;
            let mut edit = tree.begin(self.message.text()).await?;
            let root = tree.root(edit.snapshot());
            let mut sources = Vec::new();
            for text in &self.sources {
                sources.extend(expand(&root, &pond_path(text)?).await?);
            }
            let dest = Destination::find(&root, &self.dest, sources.len()).await?;
            for from in &sources {
                // A directory is not moved into itself: that it stays is no error.
                let to = if from == dest.path() { from.clone() } else { dest.of(from.name()) };
                edit.rename(from, &to).await?;
            }
            change::commit(shell, edit).await
        })?;
        Ok(0)
    }
}
