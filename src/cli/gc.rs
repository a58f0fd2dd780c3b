//! `pond gc`: removes files that nothing needs.

use std::sync::Arc;

use clap::Args;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use pond::Result;
use pond::keep::{Garbage, Grace, parse_age};

use super::{Outcome, Shell, note, print_rows, serve};

/// Remove files that nothing needs
///
/// Nothing that a version of anything needs is touched: what goes is what killed commands left
/// behind, and the files that merging has replaced. Others may read and write meanwhile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond gc --dry-run")]
pub struct Gc {
    /// List what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Leave alone what was in use this short a time ago, as 30s, 5m, 12h, 2d
    #[arg(long, value_name = "TIME", default_value = "5m")]
    grace: String,
}

impl Gc {
    pub fn run(self, shell: &Shell) -> Outcome {
        let grace = Grace(parse_age(&self.grace)?);
        serve(async {
            let tree = shell.open().await?;
            let garbage = tree.pond().collect_garbage(grace, self.dry_run).await?;
            if !self.dry_run {
                tree.sweep_cache().await?;
            }
            let bytes: u64 = garbage.iter().map(|file| file.size_bytes).sum();
            print_rows(shell, &garbage, batch).await?;
            let verb = if self.dry_run { "would remove" } else { "removed" };
            note(&format!("{verb} {} files of {bytes} bytes", garbage.len()));
            Ok(())
        })?;
        Ok(0)
    }
}

fn batch(garbage: &[Garbage]) -> Result<RecordBatch> {
    let kinds: StringArray = garbage.iter().map(|file| Some(file.kind.as_str())).collect();
    let sizes = UInt64Array::from_iter_values(garbage.iter().map(|file| file.size_bytes));
    let paths = garbage.iter().map(|file| Some(file.path.to_string_lossy()));
    Ok(RecordBatch::try_from_iter([
        ("kind", Arc::new(kinds) as ArrayRef),
        ("size", Arc::new(sizes)),
        ("path", Arc::new(paths.collect::<StringArray>())),
    ])?)
}
