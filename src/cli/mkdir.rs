//! `pond mkdir`: makes directories.

use clap::Args;

use super::args::Message;
use super::{Outcome, Shell, change, completions, pond_path, serve};

/// Make a directory
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond mkdir -p /sensors/2026/11")]
pub struct Mkdir {
    /// Also make missing directories above; one that exists is no error
    #[arg(short, long)]
    parents: bool,

    #[command(flatten)]
    message: Message,

    /// Path of the directory
    #[arg(add = completions::directories())]
    path: String,
}

impl Mkdir {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let path = pond_path(&self.path)?;
            let tree = shell.open().await?;
            let mut edit = tree.begin(self.message.text()).await?;
            edit.mkdir(&path, self.parents).await?;
            change::commit(shell, edit).await
        })?;
        Ok(0)
    }
}
