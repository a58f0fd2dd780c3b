//! `pond cache`: what is kept to answer faster, and how to be rid of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use pond::Result;
use pond::cache::CacheEntry;
use pond::table_fn::cache_batch;

use super::{Outcome, Shell, completions, note, pond_path, print_rows, serve};

/// Show what is kept to answer faster, or remove it
///
/// It is rows of derived nodes, and CSV files as Parquet; removed, it is made again when it is
/// wanted. Converted files may take a tenth of the file system, at least 1 GiB and at most 50 GiB,
/// or $POND_CACHE_SIZE (as 500MB or 20GiB); those used longest ago go first. With --format, the
/// columns are those of the table function cache().
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond cache
  pond cache clear /sensor_logs")]
pub struct Cache {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Clear(Clear),
}

/// Remove what is kept
///
/// What is being made at this moment stays. A query that is reading what goes fails, and can be run
/// again.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond cache clear /sensor_logs")]
struct Clear {
    /// Only what is kept of this node or of this CSV file, or of all below this directory
    #[arg(add = completions::paths())]
    path: Option<String>,
}

impl Cache {
    pub fn run(self, shell: &Shell) -> Outcome {
        match self.verb {
            Some(Verb::Clear(verb)) => verb.run(shell),
            None => show(shell),
        }
    }
}

impl Clear {
    fn run(self, shell: &Shell) -> Outcome {
        let path = self.path.as_deref().map(pond_path).transpose()?;
        serve(async {
            let tree = shell.open().await?;
            tree.policy().check_write("the cache")?;
            let bytes = tree.cache().clear(path.as_ref())?;
            note(&format!("removed {bytes} bytes"));
            Ok(())
        })?;
        Ok(0)
    }
}

fn show(shell: &Shell) -> Outcome {
    serve(async {
        let entries = shell.open().await?.cache().entries()?;
        match shell.format()? {
            Some(_) => print_rows(shell, &entries, cache_batch).await,
            None => print_rows(shell, &entries, short_batch).await,
        }
    })?;
    Ok(0)
}

/// The columns that a reader wants.
fn short_batch(entries: &[CacheEntry]) -> Result<RecordBatch> {
    let texts = |text: fn(&CacheEntry) -> Option<String>| -> ArrayRef {
        Arc::new(entries.iter().map(text).collect::<StringArray>())
    };
    let numbers = |number: fn(&CacheEntry) -> Option<i64>| -> ArrayRef {
        Arc::new(entries.iter().map(number).collect::<Int64Array>())
    };
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("path", texts(|entry| Some(entry.path.clone())), false),
        ("kind", texts(|entry| Some(entry.kind.as_str().to_owned())), false),
        ("source", texts(|entry| entry.source.clone()), true),
        ("rows", numbers(|entry| Some(entry.rows)), false),
        ("size", numbers(|entry| Some(entry.size)), false),
        ("age", texts(|entry| Some(age(entry.built_at))), false),
        ("hits", numbers(|entry| entry.hits), true),
    ])?)
}

/// Returns how long ago something was, `micros` after 1970 UTC, in its largest unit.
fn age(micros: i64) -> String {
    let then = UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or_default());
    let seconds = SystemTime::now().duration_since(then).unwrap_or_default().as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}
