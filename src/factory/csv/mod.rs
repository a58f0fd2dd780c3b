//! `csv_directory`: a directory that shows CSV files as tables or series; `csv_to_parquet`: one such
//! file.
//!
//! ```yaml
//! source_pattern: /sensor_logs/*.csv   # or, of csv_to_parquet, source: /sensor_logs/a.csv
//! target_type: series                  # a.csv becomes a.series, else a.table
//! temporal_column: timestamp
//! cache_ttl: 6h                        # convert anew what is older
//! delimiter: ";"                       # and whatever else is not to be detected
//! ```
//!
//! # Model
//! A directory is a pattern. Its files are found when it is first listed, and opened when their rows
//! are wanted:
//! - `options.rs`: the options, and what they mean for the reader;
//! - `directory.rs`: finding the files, `names.rs`: what they are called;
//! - `file.rs`: one file as a table;
//! - `serve.rs`: where its rows come from.
//!
//! # Invariants
//! - Listing opens no file, and a file that cannot be read is listed with its siblings.
//! - A name is that of one file, whatever else there is.
//! - Whatever matches is CSV, as its user says: endings decide nothing but names. What is a table
//!   already is not CSV, and listed with its error.

mod directory;
mod file;
mod names;
mod options;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use super::{Config, CreateContext, Factory, OpenContext, OptionSpec, SourcePath};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::format::{CsvOptions, TableSource};
use crate::node::{Node, lookup, not_found};
use crate::path::{PondPath, is_glob};
use directory::CsvDirectory;
use file::{CsvFile, Origin};
pub(crate) use serve::as_text;

/// The factory of directories.
pub static DIRECTORY: Csv = Csv {
    name: "csv_directory",
    description: "a directory that shows CSV files as tables or series",
    source: options::PATTERN,
    options: options::DIRECTORY_OPTIONS,
};

/// The factory of single files.
pub static FILE: Csv = Csv {
    name: "csv_to_parquet",
    description: "a CSV file as a table or a series",
    source: options::SOURCE,
    options: options::FILE_OPTIONS,
};

/// One of the two factories.
#[derive(Debug)]
pub struct Csv {
    name: &'static str,
    description: &'static str,
    /// The option that says what is read.
    source: &'static str,
    options: &'static [OptionSpec],
}

/// How files are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// What is said of the text.
    pub options: CsvOptions,
    /// `file:table` or `file:series`.
    pub target_type: EntryType,
    /// The column that orders a series; the one that tells times, unless it is given.
    pub temporal_column: Option<String>,
    /// How old a conversion may be.
    pub ttl: Duration,
    /// When it is converted.
    pub convert: Convert,
}

/// When a text is converted whose rows are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Convert {
    /// Before they are read.
    First,
    /// After they were read from the text.
    Later,
    /// Whichever answers sooner without a risk: see `serve.rs`.
    Auto,
}

/// Checks options of [`FILE`] that say how a text is read, and the column that is to hold times.
///
/// # Errors
/// As those of a configuration.
pub(crate) fn reading_options(given: Vec<(String, Value)>) -> Result<(CsvOptions, Option<String>)> {
    // A column of times is one of a series.
    let is_series = given.iter().any(|(name, _)| name == "temporal_column");
    let rest = [
        (options::SOURCE.to_owned(), Value::from("/")),
        ("target_type".to_owned(), Value::from(if is_series { "series" } else { "table" })),
    ];
    let reading = options::reading(&Config::validate(&FILE, given.into_iter().chain(rest))?)?;
    Ok((reading.options, reading.temporal_column))
}

impl Reading {
    /// Returns the source of a text as what its user says of it.
    fn text(&self, source: TableSource) -> Result<TableSource> {
        let is_series = self.target_type == EntryType::FileSeries;
        let default = is_series.then_some("timestamp");
        as_text(source, &self.options, self.temporal_column.as_deref().or(default))
    }
}

/// What a node is made from.
#[derive(Debug)]
struct Recipe {
    factory: &'static str,
    /// The file, or the pattern.
    source: PondPath,
    how: Reading,
}

impl Csv {
    fn is_directory(&self) -> bool {
        self.source == options::PATTERN
    }

    fn recipe(&self, config: &Config) -> Result<Recipe> {
        Ok(Recipe {
            factory: self.name,
            source: options::source(config, self.source)?,
            how: options::reading(config)?,
        })
    }
}

#[async_trait]
impl Factory for Csv {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn options(&self) -> &'static [OptionSpec] {
        self.options
    }

    fn entry_type(&self, config: &Config) -> EntryType {
        match self.recipe(config) {
            Ok(recipe) if !self.is_directory() => recipe.how.target_type,
            _ => EntryType::Directory,
        }
    }

    fn is_live(&self) -> bool {
        false
    }

    fn is_planned(&self) -> bool {
        // It may be many and large files that planning would have to look into.
        false
    }

    fn sources(&self, config: &Config) -> Result<Vec<SourcePath>> {
        let path = options::source(config, self.source)?;
        // Not read as a table: any file will do, whatever it is called.
        Ok(vec![SourcePath { path, is_table: false, times: 1 }])
    }

    fn is_settled(&self, _config: &Config) -> bool {
        true
    }

    async fn prepare(&self, config: Config, _cx: &CreateContext) -> Result<Config> {
        self.recipe(&config)?;
        Ok(config)
    }

    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node> {
        let recipe = Arc::new(self.recipe(config)?);
        if cx.made.is_none() {
            check_source(&recipe.source, self.is_directory(), cx).await?;
        }
        let cx = cx.clone();
        Ok(match self.is_directory() {
            true => Node::Directory(Arc::new(CsvDirectory::new(cx, recipe))),
            false => {
                let origin = Origin::Named(recipe.source.clone());
                Node::File(Arc::new(CsvFile { cx, recipe, origin }))
            }
        })
    }
}

/// Refuses a source that is not there: a typing error is told at once. Files that match a pattern may
/// come later.
async fn check_source(source: &PondPath, is_pattern: bool, cx: &OpenContext) -> Result<()> {
    if source.starts_with(&cx.path) {
        // It reads itself, which is told as a cycle.
        return Ok(());
    }
    match lookup(&cx.root, source).await? {
        Some(Node::Directory(_)) if is_pattern => {
            Err(Error::invalid(format!("'{source}' is a directory"))
                .with_hint(format!("name the files in it: '{}'", source.child("*.csv"))))
        }
        Some(Node::Directory(_)) => Err(Error::invalid(format!("'{source}' is a directory"))
            .with_hint("csv_directory shows all CSV files of a directory")),
        Some(Node::File(file)) => match file.metadata().await?.entry_type {
            Some(kind @ (EntryType::FileTable | EntryType::FileSeries)) => {
                Err(directory::no_text(source, kind))
            }
            _ => Ok(()),
        },
        Some(Node::Symlink(_)) => Ok(()),
        None if is_pattern && is_glob(source.as_str()) => {
            directory::base(&cx.root, source).await.map(drop)
        }
        None if is_glob(source.as_str()) => {
            Err(Error::not_found(format!("'{source}' does not exist"))
                .with_hint("csv_to_parquet takes one file; csv_directory takes a pattern"))
        }
        None => Err(not_found(&cx.root, source).await),
    }
}
