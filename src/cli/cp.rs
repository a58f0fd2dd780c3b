//! `pond cp`: copies nodes within the pond.

use std::sync::Arc;

use clap::Args;
use pond::PondContext;
use pond::node::expand;

use super::args::{Destination, Message};
use super::{Outcome, Shell, change, completions, pond_path, progress, query};

/// Copy nodes within the pond
///
/// Directories are copied with all they hold. Contents are shared, so that a copy takes no room and
/// no time; out of a host mount they are copied in. A dynamic node is copied as what it is: its
/// recipe. A file that is there gets its next version. A path may name the past: /a.csv@v12.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond cp /report.csv@v3 /old/report.csv
  pond cp '/host/2026/*.csv' /sensors/")]
pub struct Cp {
    /// Nothing: directories are always copied with all they hold
    #[arg(short, long, hide = true)]
    recursive: bool,

    #[command(flatten)]
    message: Message,

    /// Paths or globs (`*`, `?`, `[a-z]`, `{a,b}`, `**`)
    #[arg(required = true, value_name = "SOURCE", add = completions::paths())]
    sources: Vec<String>,

    /// Path of the copy, or the directory for it: one that is there, or any if it ends in `/`
    #[arg(value_name = "DEST", add = completions::paths())]
    dest: String,
}

impl Cp {
    pub fn run(self, shell: &Shell) -> Outcome {
        query(async {
            let context = PondContext::new(shell.open().await?);
            let (tree, engine) = (context.tree(), Arc::new(context.engine().await?));
            let mut edit = tree.begin(self.message.text()).await?;
            let mut sources = Vec::new();
            for text in &self.sources {
                let found = tree.in_time(edit.snapshot(), &pond_path(text)?).await?;
                for path in expand(&found.root, &found.path).await? {
                    sources.push((path, found.at));
                }
            }
            let root = tree.root(edit.snapshot());
            let dest = Destination::find(&root, &self.dest, sources.len()).await?;
            let copy = pond::tree::Progress::default().into();
            let shown = progress::show(&copy);
            let mut skipped = Vec::new();
            for (path, at) in &sources {
                skipped.extend(edit.copy(path, *at, &dest.of(path.name()), &copy, &engine).await?);
            }
            let (changes, undo) = edit.commit_undoable().await?;
            drop(shown);
            change::note_skipped(&skipped);
            change::print(shell, &changes, &undo).await
        })?;
        Ok(0)
    }
}
