//! `pond restore-from`: makes the pond from its backup, or repairs it.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueHint};
use pond::policy::Access;
use pond::progress::Progress;
use pond::replica::{Side, heal};

use super::copies::counted;
use super::init::POND_DIR;
use super::report::report;
use super::{Outcome, Shell, copies, note, progress, query};

/// The exit code for a pond that is still not what was written.
const DAMAGED: i32 = 5;

/// Make the pond from its backup, or repair it
///
/// Where there is no pond, it is made, in the directory named by --pond or $POND, or else `.pond` here.
/// One that is there gets what the backup has and it lacks: newer transactions, and large files that are
/// missing or damaged, for which all of them are read. What is newer in the pond stays. If
/// both have transactions that the other has not, nothing is changed.
///
/// A pond whose oplog is damaged cannot be repaired: clone the backup to another directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond restore-from /mnt/backup/mypond")]
pub struct RestoreFrom {
    /// The directory or URL of the backup
    #[arg(value_name = "TARGET", value_hint = ValueHint::DirPath)]
    target: PathBuf,
}

impl RestoreFrom {
    pub fn run(self, shell: &Shell) -> Outcome {
        let lost = query(async {
            let target = copies::place(shell, &self.target, Access::Read)?;
            let location = shell.location()?.unwrap_or_else(|| POND_DIR.into());
            shell.policy().check_write(format_args!("'{location}'"))?;
            let copy = Side::open(target, shell.pond_options())?;
            let pond = Side::open_or_make(location, shell.pond_options())?;
            let is_there = pond.is_there().await?;
            let done = format!("restored from '{}'", copy.name());
            copies::forward_here(&copy, &pond, &done).await?;
            if !is_there {
                return Ok(0);
            }
            let told = Arc::new(Progress::default());
            let shown = progress::show(&told);
            let mut lost = Vec::new();
            let healed = heal(&pond, &copy, &told, |error| lost.push(error)).await;
            drop(shown);
            let healed = healed?;
            note(&format!(
                "checked {}: {} repaired, of {} bytes",
                counted(healed.checked, "blob"),
                healed.healed,
                healed.healed_bytes
            ));
            lost.iter().for_each(report);
            Ok(lost.len())
        })?;
        Ok(if lost == 0 { 0 } else { DAMAGED })
    }
}
