//! `pond init`: makes an empty pond.

use std::path::PathBuf;

use clap::Args;
use pond::pond::Pond;

use super::{Outcome, Shell, note, serve};

/// Where a pond is made, and looked for, when none is named.
pub const POND_DIR: &str = ".pond";

/// Make an empty pond
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond init ./mypond")]
pub struct Init {
    /// Its directory; by default the one named by --pond or $POND, or else `.pond` here
    dir: Option<PathBuf>,
}

impl Init {
    pub fn run(self, shell: &Shell) -> Outcome {
        let dir = match (&self.dir, shell.named_dir()) {
            (Some(dir), _) => dir.as_path(),
            (None, Some(dir)) => dir,
            (None, None) => POND_DIR.as_ref(),
        };
        serve(Pond::init(dir, shell.pond_options()))?;
        note(&format!("made a pond in '{}'", dir.display()));
        Ok(0)
    }
}
