//! `pond push`: takes what was committed in the pond to a copy of it.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use pond::ErrorKind;
use pond::policy::Access;
use pond::replica::Side;

use super::{Outcome, Shell, copies, query};

/// Copy to a copy of the pond what was committed here
///
/// The history of the copy must be a beginning of this pond's. If both have transactions that the other
/// has not, their histories have diverged: that is an error, and nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond push /mnt/laptop/mypond")]
pub struct Push {
    /// The directory or URL of the copy
    #[arg(value_name = "TARGET", value_hint = ValueHint::DirPath)]
    target: PathBuf,
}

impl Push {
    pub fn run(self, shell: &Shell) -> Outcome {
        query(async {
            let target = copies::place(shell, &self.target, Access::Write)?;
            let source = copies::this(shell, Access::Read)?;
            let copy = Side::open(target, shell.pond_options());
            let copy = copy.map_err(|error| match error.kind() {
                ErrorKind::NotFound => error
                    .with_hint(format!("pond backup {} makes a copy there", self.target.display())),
                _ => error,
            })?;
            copies::forward_copy(&source, &copy, &format!("pushed to '{}'", copy.name())).await
        })?;
        Ok(0)
    }
}
