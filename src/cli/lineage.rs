//! `pond lineage`: what a node is made from, and what is made from it; as rows or as a picture.

use std::io::Write;
use std::slice;

use clap::Args;
use pond::output;
use pond::table_fn::lineage_batch;
use pond::tree::Direction;

use super::{Outcome, Shell, completions, pond_path, print_rows, serve};

/// Show what a node is made from, and what is made from it
///
/// Of a directory, the lineage of all that is in it; of `/`, of everything. The columns are those of
/// the table function lineage(). With --format mermaid, dot or svg it is drawn: arrows lead from what
/// is read to who reads it. A path may name the past: /a.series@v12.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond lineage /logs/trending.table --upstream
  pond lineage / --format svg > lineage.svg")]
pub struct Lineage {
    /// Only what it is made from
    #[arg(long, conflicts_with = "downstream")]
    upstream: bool,

    /// Only what is made from it
    #[arg(long)]
    downstream: bool,

    /// Path of the node
    #[arg(add = completions::paths())]
    path: String,
}

impl Lineage {
    pub fn run(self, shell: &Shell) -> Outcome {
        let direction = match (self.upstream, self.downstream) {
            (true, _) => Some(Direction::Upstream),
            (_, true) => Some(Direction::Downstream),
            _ => None,
        };
        let path = pond_path(&self.path)?;
        serve(async {
            let tree = shell.open().await?;
            let place = tree.in_time(tree.snapshot().await?, &path).await?;
            let graph = tree.lineage_of(&place, direction).await?;
            let Some(picture) = shell.picture() else {
                return print_rows(shell, slice::from_ref(&graph), |graphs| match graphs {
                    [graph] => lineage_batch(graph),
                    _ => lineage_batch(&Default::default()),
                })
                .await;
            };
            let mut out = shell.stdout()?;
            let text = output::draw(&graph, picture);
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(output::write_error)
        })?;
        Ok(0)
    }
}
