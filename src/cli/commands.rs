//! Lines of a session that are not SQL: `\d`, `\format`, and the same with a dot.

use std::io::Write;

use pond::output::{self, Format};
use pond::{Error, Result};

use super::list::{How, list};
use super::session::Session;
use super::sql::{describe, quoted};

/// What `\?` says.
pub const HELP: &str = "\
Statements end with ; and may take many lines.
  \\l [PATH|GLOB]   list a directory
  \\d [PATH]        describe a node; without a path, list the directory
  \\cd [PATH]       change the directory that relative paths count from
  \\f [FORMAT]      show or set how rows are written: table, csv, json
  \\h, \\?           this help
  \\q               leave (also Ctrl-D)
SHOW FACTORIES lists what CREATE NODE can make.
";

/// A line that is not SQL.
#[derive(Debug)]
pub enum Command {
    Quit,
    Help,
    List(Option<String>),
    Describe(String),
    ChangeDirectory(Option<String>),
    Format(Option<Format>),
}

impl Command {
    /// Whether a line that begins a statement is a command.
    pub fn is_one(line: &str) -> bool {
        let line = line.trim();
        let word = line.trim_end_matches(';').trim_end().to_lowercase();
        line.starts_with('\\')
            || (line.starts_with('.')
                && line[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '?'))
            || ["exit", "quit"].contains(&word.as_str())
    }

    /// Parses a line that is a command.
    ///
    /// # Errors
    /// `Invalid` if there is none such.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim().trim_end_matches(';').trim_end();
        if ["exit", "quit", ".exit", ".quit"].contains(&line.to_lowercase().as_str()) {
            return Ok(Self::Quit);
        }
        let (name, argument) = match line[1..].split_once(char::is_whitespace) {
            Some((name, argument)) => (name, Some(argument.trim())),
            None => (&line[1..], None),
        };
        // Paths may be quoted, as they are in SQL.
        let argument = argument.map(|text| match text.strip_prefix('\'') {
            Some(quoted) => quoted.strip_suffix('\'').unwrap_or(quoted).replace("''", "'"),
            None => text.to_owned(),
        });
        match (name, argument) {
            ("q", None) => Ok(Self::Quit),
            ("h" | "?", None) => Ok(Self::Help),
            ("l", path) | ("d", path @ None) => Ok(Self::List(path)),
            ("d", Some(path)) => Ok(Self::Describe(path)),
            ("cd", path) => Ok(Self::ChangeDirectory(path)),
            ("f", None) => Ok(Self::Format(None)),
            ("f", Some(format)) => Format::parse(&format).map(|format| Self::Format(Some(format))),
            _ => Err(Error::invalid(format!("'{line}' is no command")).with_hint("\\h lists them")),
        }
    }

    /// Runs the command and returns whether the session ends.
    ///
    /// # Errors
    /// Those of what it does.
    pub fn run(self, session: &mut Session) -> Result<bool> {
        session.results.restart();
        match self {
            Self::Quit => return Ok(true),
            Self::Help => {
                let out = session.results.out();
                out.write_all(HELP.as_bytes())
                    .and_then(|()| out.flush())
                    .map_err(output::write_error)?;
            }
            Self::List(path) => {
                let path = session.context.directory().join(path.as_deref().unwrap_or("."))?;
                let how = How { long: true, ..How::default() };
                session.work(async |context, results| {
                    let root = context.tree().root(context.snapshot().await?);
                    list(&root, &path, &how, false, results).await
                })?;
            }
            Self::Describe(path) => {
                let path = session.context.directory().join(&path)?;
                session.work(async |context, results| {
                    describe(context, &path, false, results).await
                })?;
            }
            Self::ChangeDirectory(path) => {
                let path = session.context.directory().join(path.as_deref().unwrap_or("/"))?;
                let text = format!("USE {}", quoted(&path));
                session.work(async |context, _| context.sql(&text).await.map(drop))?;
            }
            Self::Format(None) => {
                let name = session.results.style.format.as_str();
                writeln!(session.results.out(), "{name}").map_err(output::write_error)?;
            }
            Self::Format(Some(format)) => session.results.style.format = format,
        }
        Ok(false)
    }
}
