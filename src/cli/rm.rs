//! `pond rm`: removes nodes, all of those named in one transaction.

use clap::Args;
use pond::Result;
use pond::path::PondPath;

use super::{Outcome, Shell, change, pond_path, serve};

/// Remove nodes; their past stays in the log
#[derive(Debug, Args)]
pub struct Rm {
    /// Also remove directories, and all that is in them
    #[arg(short, long)]
    recursive: bool,

    /// A path that does not exist is no error
    #[arg(short, long)]
    force: bool,

    /// Paths of the nodes
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

impl Rm {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let paths = self.paths.iter().map(|path| pond_path(path));
            let paths = paths.collect::<Result<Vec<PondPath>>>()?;
            let quoted: Vec<String> = paths.iter().map(|path| format!("'{path}'")).collect();
            let message = format!("pond rm {}", quoted.join(" "));
            let tree = shell.open().await?;
            let changes =
                tree.drop_nodes(&paths, self.force, self.recursive, Some(message)).await?;
            change::print(shell, &changes).await
        })?;
        Ok(0)
    }
}
