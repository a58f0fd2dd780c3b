//! `pond get`: copies files and directories of the pond to the host.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures::TryStreamExt;
use pond::node::expand;
use pond::output;
use pond::path::host_bytes;
use pond::tree::{Export, ExportSource, Progress, read_node};
use pond::{Error, PondContext};

use super::{Outcome, Shell, change, completions, exit_code, pond_path, progress, query, report};

/// Copy files out of the pond
///
/// Bytes come out as they went in. A series, or a view, comes out as one Parquet file. Directories
/// are copied with all they hold and added to those that are there. A path may name the past:
/// /a.csv@v12, /a.csv@2026-01-31T12:00:00Z.
///
/// Links that are relative and stay inside a copied directory are kept; what others lead to is
/// copied in their place. Below DEST, no link of the host is followed. Each file appears whole, and
/// one that is there is replaced only with --force.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond get /sensors ./backup
  pond get '/sensors/*.series' ./parquet/
  pond get /notes.txt@v3 -")]
pub struct Get {
    /// Replace files that are there
    #[arg(short, long)]
    force: bool,

    /// Paths or globs (`*`, `?`, `[a-z]`, `{a,b}`, `**`)
    #[arg(required = true, value_name = "SOURCE", add = completions::all_paths())]
    sources: Vec<String>,

    /// Path of the copy, or the directory for it: one that is there, or any if it ends in `/`; `-` is
    /// standard output
    #[arg(value_name = "DEST")]
    dest: PathBuf,
}

impl Get {
    pub fn run(self, shell: &Shell) -> Outcome {
        if shell.format()?.is_some() {
            return Err(Error::unsupported("get writes files as they are: it takes no --format")
                .with_hint("pond cat --format csv PATH > FILE writes the rows of one"));
        }
        query(async {
            let context = PondContext::new(shell.open().await?);
            let (tree, engine) = (context.tree(), context.engine().await?);
            let snapshot = tree.snapshot().await?;
            let mut sources = Vec::new();
            for text in &self.sources {
                let found = tree.in_time(snapshot.clone(), &pond_path(text)?).await?;
                for path in expand(&found.root, &found.path).await? {
                    sources.push((found.root.clone(), path));
                }
            }
            if self.dest == Path::new("-") {
                let mut out = shell.stdout()?;
                for (root, path) in &sources {
                    let mut bytes = read_node(root, path, &engine).await?;
                    while let Some(chunk) = bytes.try_next().await? {
                        out.write_all(&chunk).map_err(output::write_error)?;
                    }
                }
                out.flush().map_err(output::write_error)?;
                return Ok(0);
            }
            let into = sources.len() > 1
                || self.dest.as_os_str().as_bytes().ends_with(b"/")
                || self.dest.is_dir();
            let progress = Arc::new(Progress::default());
            let sources = sources.into_iter().map(|(root, path)| {
                let to = match path.split() {
                    Some((_, name)) if into => self.dest.join(OsStr::from_bytes(&host_bytes(name))),
                    _ => self.dest.clone(),
                };
                ExportSource { root, path, to }
            });
            let export = Export {
                sources: sources.collect(),
                overwrite: self.force,
                progress: progress.clone(),
                engine,
                policy: tree.policy().clone(),
            };
            let shown = progress::show(&progress);
            let exported = export.run().await?;
            drop(shown);
            change::note_skipped(&exported.skipped);
            exported.failed.iter().for_each(report);
            Ok::<i32, Error>(exported.failed.first().map_or(0, exit_code))
        })
    }
}
