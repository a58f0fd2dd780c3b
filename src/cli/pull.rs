//! `pond pull`: brings the pond what was committed in a copy of it.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use pond::policy::Access;
use pond::replica::Side;

use super::{Outcome, Shell, copies, query};

/// Copy into the pond what was committed in a copy of it
///
/// The history of this pond must be a beginning of the other's. If both have transactions that the other
/// has not, their histories have diverged: that is an error, and nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond pull /mnt/laptop/mypond")]
pub struct Pull {
    /// The directory or URL of the copy
    #[arg(value_name = "SOURCE", value_hint = ValueHint::DirPath)]
    source: PathBuf,
}

impl Pull {
    pub fn run(self, shell: &Shell) -> Outcome {
        query(async {
            let source = copies::place(shell, &self.source, Access::Read)?;
            let pond = copies::this(shell, Access::Write)?;
            let source = Side::open(source, shell.pond_options())?;
            copies::forward_here(&source, &pond, &format!("pulled from '{}'", source.name())).await
        })?;
        Ok(0)
    }
}
