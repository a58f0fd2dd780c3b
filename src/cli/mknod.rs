//! `pond mknod`: makes a dynamic node from a factory and its options.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use pond::factory::Config;
use pond::policy::{Access, Policy};
use pond::tree::{CreateMode, NewNode};
use pond::{Error, PondContext, Result};
use serde_json::Value;

use super::args::Message;
use super::{Outcome, Shell, change, completions, pond_path, serve};

/// Make a node that a factory fills
///
/// Options come from FILE (YAML or JSON), from --set, or from both. Relative host paths count from
/// the working directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond mknod --factory hostmount /logs --set directory=/var/log
  pond mknod --factory sql_derived_series /warm.series warm.yaml")]
pub struct Mknod {
    /// Which factory; `SHOW FACTORIES` lists them
    #[arg(long, value_name = "NAME", add = completions::factories())]
    factory: String,

    /// Set one option of the factory
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting,
          add = completions::factory_options())]
    set: Vec<(String, Value)>,

    /// A path that is taken is no error, and stays as it is
    #[arg(long, conflicts_with = "or_replace")]
    if_not_exists: bool,

    /// Replace the dynamic node that is there
    #[arg(long, alias = "replace")]
    or_replace: bool,

    /// Words to keep with the node
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,

    #[command(flatten)]
    message: Message,

    /// Path of the node
    #[arg(add = completions::paths())]
    path: String,

    /// Options as YAML or JSON; `-` reads them from stdin
    file: Option<PathBuf>,
}

impl Mknod {
    pub fn run(self, shell: &Shell) -> Outcome {
        let text = self.file.as_deref().map(|file| read_text(file, shell.policy())).transpose()?;
        let mut options = match &text {
            Some((name, text)) => Config::parse_yaml(text).map_err(|error| {
                let place = error.place().cloned();
                let error = error.context(name);
                match place {
                    Some(place) => error.with_place(place.named(Some(name))),
                    None => error,
                }
            })?,
            None => Vec::new(),
        };
        options.extend(self.set);
        let mode = match (self.if_not_exists, self.or_replace) {
            (true, _) => CreateMode::IfNotExists,
            (_, true) => CreateMode::OrReplace,
            _ => CreateMode::New,
        };
        let path = pond_path(&self.path)?;
        let node = NewNode { path, factory: self.factory, options, mode, comment: self.comment };
        serve(create(shell, node, self.message)).map_err(|error| match &text {
            Some((name, text)) => error.locate_in(name, text),
            None => error,
        })?;
        Ok(0)
    }
}

/// Makes a node, whose query, if it has one, is planned before, and says so.
pub async fn create(shell: &Shell, node: NewNode, message: Message) -> Result<()> {
    let context = PondContext::new(shell.open().await?);
    let made = context.create_node(node, message.text().unwrap_or_default()).await?;
    change::print(shell, &made.changes, &made.undo).await
}

/// Reads a file of the host, or stdin for `-`, and returns its name for errors and its text.
pub fn read_text(file: &Path, policy: &Policy) -> Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Error::io("standard input", error))?;
        return Ok(("standard input".to_owned(), text));
    }
    policy.check_host(file, Access::Read)?;
    let name = file.display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(Error::io(format!("'{name}'"), error)),
    }
}

fn parse_setting(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), Value::String(value.to_owned())))
        }
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}
