//! `pond backup`: brings a copy of the pond up to date, or makes one.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use pond::policy::Access;
use pond::replica::Side;

use super::{Outcome, Shell, copies, query};

/// Copy what is new in the pond to its backup, which is made if it is not there
///
/// The backup is a pond itself, with the same history: --pond opens it, `pond clone` and `pond restore-from`
/// copy it back. Only what it lacks travels. Others may write meanwhile; what they commit is the next
/// run's. A run that is killed leaves the backup as it was, and the next one goes on.
///
/// What host mounts show is not in the pond, and not in its backup.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond backup /mnt/backup/mypond
  pond backup s3://bucket/mypond")]
pub struct Backup {
    /// Its directory or URL: one that is empty, is not there yet, or holds a backup of this pond
    #[arg(value_name = "TARGET", value_hint = ValueHint::DirPath)]
    target: PathBuf,
}

impl Backup {
    pub fn run(self, shell: &Shell) -> Outcome {
        query(async {
            let target = copies::place(shell, &self.target, Access::Write)?;
            let source = copies::this(shell, Access::Read)?;
            let copy = Side::open_or_make(target, shell.pond_options())?;
            copies::forward_copy(&source, &copy, &format!("backed up to '{}'", copy.name())).await
        })?;
        Ok(0)
    }
}
