//! `pond init`: makes an empty pond.

use std::path::PathBuf;

use clap::Args;
use pond::policy::Access;
use pond::pond::Pond;

use super::{Outcome, Shell, location_of, note, serve};

/// Where a pond is made, and looked for, when none is named.
pub const POND_DIR: &str = ".pond";

/// Make an empty pond
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond init ./mypond
  pond init s3://bucket/mypond")]
pub struct Init {
    /// Its directory or URL; by default the one named by --pond or $POND, or else `.pond` here
    place: Option<PathBuf>,
}

impl Init {
    pub fn run(self, shell: &Shell) -> Outcome {
        let place = match (&self.place, shell.named()) {
            (Some(place), _) => place.as_path(),
            (None, Some(place)) => place,
            (None, None) => POND_DIR.as_ref(),
        };
        let location = location_of(place)?;
        shell.policy().check_write(format_args!("'{location}'"))?;
        location.check(shell.policy(), Access::Write)?;
        serve(Pond::init(location.clone(), shell.pond_options()))?;
        note(&format!("made a pond in '{location}'"));
        Ok(0)
    }
}
