//! `pond man`: manual pages.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use pond::{Error, Result, output};

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
            let failed = |error| Error::io(format!("'{}'", dir.display()), error);
            fs::create_dir_all(&dir).map_err(failed)?;
            for command in std::iter::once(&command).chain(verbs(&command)) {
                let page = page(command).map_err(failed)?;
                fs::write(dir.join(format!("{}.1", name(command))), page).map_err(failed)?;
            }
            return Ok(0);
        }
        let page = match &self.verb {
            Some(verb) => page(find(&command, verb)?),
            None => page(&command),
        };
        let mut out = shell.stdout()?;
        page.and_then(|page| out.write_all(&page))
            .and_then(|()| out.flush())
            .map_err(output::write_error)?;
        Ok(0)
    }
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

fn find<'a>(command: &'a Command, verb: &str) -> Result<&'a Command> {
    verbs(command).find(|command| command.get_name() == verb).ok_or_else(|| {
        let names = verbs(command).map(Command::get_name);
        Error::not_found(format!("'{verb}' is no verb"))
            .with_hint_opt(pond::error::did_you_mean(verb, names))
    })
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
