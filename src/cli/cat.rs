//! `pond cat`: the bytes of a file, or the rows of its table.

use std::io::{IsTerminal, Write};

use clap::Args;
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use pond::PondContext;
use pond::node::{Node, lookup};
use pond::output::{self, Format, escape_controls};
use pond::path::PondPath;
use pond::{Error, ErrorKind, Result};

use super::args::{Parameters, note_unused};
use super::results::Results;
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
        let wants_rows = self.sql.is_some() || shell.format()?.is_some();
        if !wants_rows && serve(print_bytes(shell, &path))? {
            return Ok(0);
        }
        let mut results = shell.results()?;
        if !wants_rows && !results.is_terminal() {
            results.style.format = Format::Parquet;
        }
        match self.print_rows(shell, &path, results) {
            // The ending of a file may be a format's, or nothing but the end of its name.
            Err(error)
                if error.kind() == ErrorKind::Unsupported
                    && self.sql.is_none()
                    && !shell.names_format() =>
            {
                match serve(print_bytes(shell, &path))? {
                    true => Ok(0),
                    false => Err(error),
                }
            }
            printed => printed.map(|()| 0),
        }
    }

    fn print_rows(&self, shell: &Shell, path: &PondPath, mut results: Results) -> Result<()> {
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
            let rows = context.cat_sql(path, text).await?;
            let written = results.write_rows(rows.stream).await;
            context.tree().cache().idle().await;
            note_unused(&params);
            written.map(drop)
        })
    }
}

/// Copies the bytes of `path` to stdout, or returns false if it has none but only rows, or is Parquet
/// or Arrow before a terminal. What moves the cursor of a terminal is escaped.
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
    let mut out = shell.stdout()?;
    let on_terminal = out.get_ref().is_terminal();
    let Some(mut bytes) = file.bytes().await? else { return Ok(false) };
    let mut decoder = encoding_rs::UTF_8.new_decoder_without_bom_handling();
    while let Some(chunk) = bytes.try_next().await? {
        if !on_terminal {
            out.write_all(&chunk).map_err(output::write_error)?;
            continue;
        }
        if chunk.starts_with(b"PAR1") || chunk.starts_with(b"ARROW1") {
            return Ok(false);
        }
        let mut text = String::new();
        let room = decoder.max_utf8_buffer_length(chunk.len()).unwrap_or(chunk.len() * 3 + 3);
        text.reserve(room);
        let _ = decoder.decode_to_string(&chunk, &mut text, false);
        for piece in text.split_inclusive(['\n', '\t']) {
            let end = if piece.ends_with(['\n', '\t']) { piece.len() - 1 } else { piece.len() };
            let shown = escape_controls(&piece[..end]);
            out.write_all(shown.as_bytes())
                .and_then(|()| out.write_all(&piece.as_bytes()[end..]))
                .map_err(output::write_error)?;
        }
    }
    out.flush().map_err(output::write_error)?;
    Ok(true)
}
