//! `pond man`: manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use pond::error::nearest;
use pond::policy::Access;
use pond::{Error, output};

use super::report::report_usage;
use super::{CommandLine, Outcome, Shell};

/// Print a manual page
///
/// The page is roff, for `man -l -`. Without a verb it is the page of pond itself, which names the
/// others.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond man put | man -l -
  pond man --dir ~/.local/share/man/man1")]
pub struct ManPage {
    /// The verb that the page is about
    #[arg(conflicts_with = "dir")]
    verb: Option<String>,

    /// Write the pages of all verbs into a directory: pond.1, pond-ls.1, …
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl ManPage {
    pub fn run(self, shell: &Shell) -> Outcome {
        let mut command = CommandLine::command();
        command.build();
        if let Some(dir) = self.dir {
            shell.policy().check_host(&dir, Access::Write)?;
            let failed = |error| Error::io(format!("'{}'", dir.display()), error);
            fs::create_dir_all(&dir).map_err(failed)?;
            for command in std::iter::once(&command).chain(verbs(&command)) {
                let page = page(command).map_err(failed)?;
                fs::write(dir.join(format!("{}.1", name(command))), page).map_err(failed)?;
            }
            return Ok(0);
        }
        let about = match &self.verb {
            Some(name) => verbs(&command).find(|verb| verb.get_name() == name),
            None => Some(&command),
        };
        let Some(about) = about else {
            let error = no_verb(&command, self.verb.unwrap_or_default());
            report_usage(&error);
            return Ok(error.exit_code());
        };
        let mut out = shell.stdout()?;
        page(about)
            .and_then(|page| out.write_all(&page))
            .and_then(|()| out.flush())
            .map_err(output::write_error)?;
        Ok(0)
    }
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// Makes the error that clap would make, if it knew the verbs while it is told of them.
fn no_verb(command: &Command, name: String) -> clap::Error {
    let names: Vec<String> = verbs(command).map(|verb| verb.get_name().to_owned()).collect();
    let near = nearest(&name, names.iter().map(String::as_str)).map(str::to_owned);
    let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
    error.insert(ContextKind::InvalidArg, ContextValue::String("[VERB]".to_owned()));
    error.insert(ContextKind::InvalidValue, ContextValue::String(name));
    if let Some(near) = near {
        error.insert(ContextKind::SuggestedValue, ContextValue::String(near));
    }
    error.insert(ContextKind::ValidValue, ContextValue::Strings(names));
    error
}

/// Returns the name of a page: `pond`, `pond-ls`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or("pond")
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command.clone())
        .source(format!("pond {}", env!("CARGO_PKG_VERSION")))
        .manual("pond")
        .render(&mut page)?;
    Ok(page)
}
