//! `pond expire`: gives history up.

use clap::Args;
use pond::entry::now_micros;
use pond::keep::parse_age;

use super::{Outcome, Shell, note, serve};

/// Give up history, for good: what the pond was longer ago than this can no longer be seen
///
/// What is in the pond now is not touched. The room is free once `pond gc` has run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond expire --older-than 30d --dry-run")]
pub struct Expire {
    /// How long the past is kept, as 12h, 30d, 8w
    #[arg(long, value_name = "TIME")]
    older_than: String,

    /// Say what would go, and change nothing
    #[arg(long)]
    dry_run: bool,

    /// Why, for the log
    #[arg(short, long)]
    message: Option<String>,
}

impl Expire {
    pub fn run(self, shell: &Shell) -> Outcome {
        let age = parse_age(&self.older_than)?.as_micros();
        let time = now_micros() - i64::try_from(age).unwrap_or(i64::MAX);
        serve(async {
            let tree = shell.open().await?;
            let expiration = tree.pond().expire(time, self.message, self.dry_run).await?;
            let verb = if self.dry_run { "would expire" } else { "expired" };
            match expiration.before {
                Some(txn) => note(&format!(
                    "{verb} what was before transaction {txn}: {} rows go, {} stay",
                    expiration.rows_dropped, expiration.rows_kept
                )),
                None => note("nothing is that old"),
            }
            Ok(())
        })?;
        Ok(0)
    }
}
