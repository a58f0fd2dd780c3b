//! `pond mv`: moves or renames a node.

use clap::Args;
use pond::Result;
use pond::node::{Node, lookup};
use pond::path::PondPath;
use pond::tree::Tree;

use super::{Outcome, Shell, change, pond_path, serve};

/// Move or rename a node
#[derive(Debug, Args)]
pub struct Mv {
    /// Path of the node
    from: String,

    /// Its new path, or the directory to move it into
    to: String,
}

impl Mv {
    pub fn run(self, shell: &Shell) -> Outcome {
        serve(async {
            let from = pond_path(&self.from)?;
            let tree = shell.open().await?;
            let to = target(&tree, &from, pond_path(&self.to)?).await?;
            let change = tree.rename(&from, &to, Some(format!("pond mv '{from}' '{to}'"))).await?;
            change::print(shell, &[change]).await
        })?;
        Ok(0)
    }
}

/// Returns the new path: `to`, or one in it if it is a directory.
async fn target(tree: &Tree, from: &PondPath, to: PondPath) -> Result<PondPath> {
    let root = tree.root(tree.snapshot().await?);
    match (lookup(&root, &to).await?, from.split()) {
        (Some(Node::Directory(_)), Some((_, name))) if to != *from => Ok(to.child(name)),
        _ => Ok(to),
    }
}
