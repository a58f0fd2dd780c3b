//! `pond cat`: the bytes of a file, or the rows of its table.

use std::io::{IsTerminal, Write};

use clap::Args;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use pond::PondContext;
use pond::node::{Node, lookup};
use pond::output::{self, Format};
use pond::path::PondPath;
use pond::{Error, Result};

use super::args::{Parameters, note_unused};
use super::{Outcome, Shell, completions, pond_path, query, serve};

/// Print a file
///
/// Prints the bytes or, with --sql or --format, the rows of the file's table. A view has no bytes
/// of its own: its rows are printed as Parquet. A path may name the past: /a.csv@v12.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  pond cat /sensors/basel.series --sql "SELECT * WHERE temperature > 25""#)]
pub struct Cat {
    /// Path of the file
    #[arg(add = completions::paths())]
    path: String,

    /// Print the rows of a query over it, which needs no FROM: "SELECT * WHERE temperature > 25"
    #[arg(long, value_name = "QUERY", allow_hyphen_values = true)]
    sql: Option<String>,

    #[command(flatten)]
    params: Parameters,
}

impl Cat {
    pub fn run(self, shell: &Shell) -> Outcome {
        let path = pond_path(&self.path)?;
        let format = shell.format()?;
        if self.sql.is_none() && format.is_none() {
            if serve(print_bytes(shell, &path))? {
                return Ok(0);
            }
            if std::io::stdout().is_terminal() {
                return Err(Error::unsupported(format!("'{path}' is a view, which has no bytes"))
                    .with_hint("choose a format for its rows, as --format table"));
            }
        }
        let mut results = shell.results()?;
        if self.sql.is_none() && format.is_none() {
            results.style.format = Format::Parquet;
        }
        let text = self.sql.as_deref().unwrap_or("SELECT *");
        query(async {
            let mut config = SessionConfig::new();
            if self.sql.is_none() {
                // The rows in the order in which they are stored.
                config = config.with_target_partitions(1);
            }
            let params = self.params.values()?;
            let context = PondContext::builder(shell.open().await?).with_config(config).build();
            let context = context.with_params(params.clone());
            let rows = context.cat_sql(&path, text).await?;
            let written = results.write_rows(rows.stream).await;
            context.tree().cache().idle().await;
            note_unused(&params);
            written
        })?;
        Ok(0)
    }
}

/// Copies the bytes of `path` to stdout, or returns false if it has none but only rows.
async fn print_bytes(shell: &Shell, path: &PondPath) -> Result<bool> {
    let tree = shell.open().await?;
    let found = tree.in_time(tree.snapshot().await?, path).await?;
    let Some(node) = lookup(&found.root, &found.path).await? else {
        return Err(found.not_found().await);
    };
    let Node::File(file) = node else {
        return Err(Error::unsupported(format!("'{path}' is a directory"))
            .with_hint(format!("pond ls '{path}' lists it")));
    };
    let Some(mut bytes) = file.bytes().await? else { return Ok(false) };
    let mut out = shell.stdout()?;
    while let Some(chunk) = bytes.try_next().await? {
        out.write_all(&chunk).map_err(output::write_error)?;
    }
    out.flush().map_err(output::write_error)?;
    Ok(true)
}
