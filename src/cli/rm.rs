//! `pond rm`: removes nodes, all of those named in one transaction.

use clap::Args;
use pond::ErrorKind;
use pond::node::expand;
use pond::tree::DropNodes;

use super::args::Message;
use super::{Outcome, Shell, change, completions, pond_path, serve};

/// Remove nodes; their past stays in the log
///
/// What a link leads to is left alone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond rm -r --dry-run /sensors/2025")]
pub struct Rm {
    /// Also remove directories, and all that is in them
    #[arg(short, long)]
    recursive: bool,

    /// A path that does not exist is no error
    #[arg(short, long)]
    force: bool,

    /// Also remove the nodes that read what is removed
    #[arg(long)]
    cascade: bool,

    /// Show what would go, and change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    message: Message,

    /// Paths or globs of the nodes
    #[arg(required = true, value_name = "PATH", add = completions::paths())]
    paths: Vec<String>,
}

impl Rm {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let tree = shell.open().await?;
            let mut edit = tree.begin(self.message.text()).await?;
            let root = tree.root(edit.snapshot());
            let mut paths = Vec::new();
            for text in &self.paths {
                let path = pond_path(text)?;
                match expand(&root, &path).await {
                    Ok(found) => paths.extend(found),
                    Err(error) if self.force && error.kind() == ErrorKind::NotFound => {
                        paths.push(path);
                    }
                    Err(error) => return Err(error),
                }
            }
            let drop = DropNodes {
                if_exists: self.force,
                recursive: self.recursive,
                cascade: self.cascade,
            };
            edit.drop_nodes(&paths, drop).await?;
            if self.dry_run {
                return change::print_diff(shell, &edit.diff()?).await;
            }
            change::commit(shell, edit).await
        })?;
        Ok(0)
    }
}
