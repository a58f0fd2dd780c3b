//! `pond clone`: makes a copy of a pond that lies elsewhere.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use pond::policy::Access;
use pond::replica::Side;

use super::{Outcome, Shell, copies, query};

/// Copy a pond, or a backup of one, with all its history
///
/// The clone is the same pond: `pond pull` brings it what is committed in SOURCE later, `pond push` takes
/// there what is committed here. A clone that was killed is completed by the same command.
///
/// What a host mount shows is a directory of the machine that the clone is on.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond clone /mnt/backup/mypond ./mypond
  pond clone s3://bucket/mypond ./mypond")]
pub struct ClonePond {
    /// The directory or URL of the pond
    #[arg(value_name = "SOURCE", value_hint = ValueHint::DirPath)]
    source: PathBuf,

    /// The directory or URL of the clone, which is empty or not there yet
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,
}

impl ClonePond {
    pub fn run(self, shell: &Shell) -> Outcome {
        query(async {
            let source = copies::place(shell, &self.source, Access::Read)?;
            let clone = copies::place(shell, &self.dir, Access::Write)?;
            let source = Side::open(source, shell.pond_options())?;
            let clone = Side::open_or_make(clone, shell.pond_options())?;
            copies::forward_copy(&source, &clone, &format!("cloned to '{}'", clone.name())).await
        })?;
        Ok(0)
    }
}
