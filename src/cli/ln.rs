//! `pond ln`: makes a symbolic link.

use clap::Args;
use pond::path::PondPath;

use super::args::{Destination, Message};
use super::{Outcome, Shell, change, completions, serve};

/// Make a symbolic link
///
/// It is kept as it is written: a path of the pond or, without a `/` at its beginning, one that
/// counts from the link's directory. What it leads to need not be there yet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond ln -s 2026-11.series /sensors/newest.series")]
pub struct Ln {
    /// The link is a symbolic one; there are no others
    #[arg(short, long, required = true)]
    symbolic: bool,

    #[command(flatten)]
    message: Message,

    /// What it leads to
    #[arg(add = completions::paths())]
    target: String,

    /// Path of the link, or the directory for it
    #[arg(add = completions::paths())]
    link: String,
}

impl Ln {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let tree = shell.open().await?;
            let mut edit = tree.begin(self.message.text()).await?;
            let dest = Destination::find(&tree.root(edit.snapshot()), &self.link, 1).await?;
            let link = dest.of(PondPath::root().join(&self.target)?.name());
            edit.symlink(&link, &self.target).await?;
            change::commit(shell, edit).await
        })?;
        Ok(0)
    }
}
