//! Arguments that several verbs take: what is said about a change, and where copies go.

use std::ffi::OsStr;
use std::sync::Arc;

use clap::Args;
use pond::node::{Directory, Node, lookup};
use pond::path::PondPath;
use pond::sql::Params;
use pond::tree::CreateMode;
use pond::{Error, Result};
use serde_json::Value;

use super::pond_path;
use super::report::note;

/// The longest command line kept in the log, in bytes: it is stored with each node it changes.
const COMMAND_BYTES_MAX: usize = 1000;

/// What is kept in the log about a change.
#[derive(Debug, Args)]
pub struct Message {
    /// What to keep in the log about it, instead of the command line
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
}

impl Message {
    /// Returns the text for the log.
    pub fn text(self) -> Option<String> {
        Some(self.message.unwrap_or_else(command_line))
    }
}

/// Returns the command line of this process, as one would type it.
fn command_line() -> String {
    let mut text = "pond".to_owned();
    let mut left = std::env::args_os().skip(1);
    while let Some(argument) = left.next() {
        let quoted = quoted(&argument);
        if text.len() + quoted.len() > COMMAND_BYTES_MAX {
            let left = left.count() + 1;
            text.push_str(&format!(" … ({left} more)"));
            break;
        }
        text.push(' ');
        text.push_str(&quoted);
    }
    text
}

/// Returns an argument as a shell would take it.
pub fn quoted(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    let is_plain = |char: char| char.is_alphanumeric() || "/._-+=:,@%".contains(char);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Values for the parameters of statements.
#[derive(Debug, Args)]
pub struct Parameters {
    /// Give $NAME a value in statements: a number, true, false, null, or else a text; may be given
    /// many times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = Params::parse)]
    given: Vec<(String, Value)>,
}

impl Parameters {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Returns the values.
    pub fn values(&self) -> Result<Params> {
        Params::new(self.given.iter().cloned())
    }
}

/// Notes values that no statement has used: their names may be mistyped.
pub fn note_unused(params: &Params) {
    for name in params.unused() {
        note(&format!("no statement uses ${name}"));
    }
}

/// How a dynamic node is made.
#[derive(Debug, Args)]
pub struct Creation {
    /// A path that is taken is no error, and stays as it is
    #[arg(long, conflicts_with = "replace")]
    if_not_exists: bool,

    /// Replace the dynamic node that is there
    #[arg(long)]
    replace: bool,

    /// Words to keep with the node
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
}

impl Creation {
    /// Returns what to do if the path is taken.
    pub fn mode(&self) -> CreateMode {
        match (self.if_not_exists, self.replace) {
            (true, _) => CreateMode::IfNotExists,
            (_, true) => CreateMode::OrReplace,
            _ => CreateMode::New,
        }
    }
}

/// Where the sources of `cp`, `mv` and `put` go: to a path, or into a directory.
pub struct Destination {
    path: PondPath,
    is_directory: bool,
}

impl Destination {
    /// Finds out what `text` means for so many sources.
    ///
    /// # Errors
    /// `Invalid` if it must be a directory and is something else.
    pub async fn find(root: &Arc<dyn Directory>, text: &str, sources: usize) -> Result<Self> {
        let path = pond_path(text)?;
        let needs_directory = sources > 1 || text.ends_with('/');
        let is_directory = match lookup(root, &path).await? {
            Some(Node::Directory(_)) => true,
            Some(_) if needs_directory => {
                return Err(Error::invalid(format!("'{path}' is not a directory")));
            }
            Some(_) => false,
            None => needs_directory,
        };
        Ok(Self { path, is_directory })
    }

    /// Whether it is a directory, which may still have to be made.
    pub fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// Returns the path.
    pub fn path(&self) -> &PondPath {
        &self.path
    }

    /// Returns the place of a source called `name`.
    pub fn of(&self, name: &str) -> PondPath {
        if self.is_directory { self.path.child(name) } else { self.path.clone() }
    }
}
