//! `pond mkdir`: makes directories.

use clap::Args;

use super::{Outcome, Shell, change, pond_path, serve};

/// Make a directory
#[derive(Debug, Args)]
pub struct Mkdir {
    /// Also make missing directories above; one that exists is no error
    #[arg(short, long)]
    parents: bool,

    /// Path of the directory
    path: String,
}

impl Mkdir {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let path = pond_path(&self.path)?;
            let tree = shell.open().await?;
            let message = format!("pond mkdir '{path}'");
            let change = tree.mkdir(&path, self.parents, Some(message)).await?;
            change::print(shell, &[change]).await
        })?;
        Ok(0)
    }
}
