//! `pond create-derived-series`, `pond create-derived-table`: make a node that is a query.

use clap::Args;
use pond::factory::sql_derived::{SERIES, TABLE, sources_option};
use pond::factory::{Factory, OptionKind};
use pond::tree::NewNode;
use serde_json::Value;

use super::args::{Creation, Message};
use super::mknod::create;
use super::{Outcome, Shell, completions, pond_path, serve};

/// Make a series that is a query over other nodes
///
/// The query calls its source `source` or `source_series`, and several by the names they are given;
/// it may also name paths and globs itself. It is planned before the node is made.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  pond create-derived-series /warm.series --source /sensors.series \
      --query "SELECT * FROM source_series WHERE temperature > 25""#)]
pub struct CreateDerivedSeries {
    #[command(flatten)]
    node: Derived,
}

/// Make a table that is a query over other nodes
///
/// The query calls its source `source` or `source_table`, and several by the names they are given;
/// it may also name paths and globs itself. It is planned before the node is made.
#[derive(Debug, Args)]
#[command(after_help = r#"Examples:
  pond create-derived-table /joined.table --source a=/a.series --source b=/b.table \
      --query "SELECT * FROM a JOIN b USING (station)""#)]
pub struct CreateDerivedTable {
    #[command(flatten)]
    node: Derived,
}

/// What both take.
#[derive(Debug, Args)]
struct Derived {
    /// What the query reads: a path or a glob, with the name that the query has for it
    #[arg(long, value_name = "[NAME=]PATH", add = completions::named_paths())]
    source: Vec<String>,

    /// The query
    #[arg(long, value_name = "SQL", allow_hyphen_values = true)]
    query: String,

    /// Keep an answer for so long before it is made anew: 1h, '90 minutes', PT1H. Without it, each
    /// statement reads the sources
    #[arg(long, value_name = "DURATION")]
    refresh: Option<String>,

    #[command(flatten)]
    creation: Creation,

    #[command(flatten)]
    message: Message,

    /// Path of the node
    #[arg(add = completions::paths())]
    path: String,
}

impl CreateDerivedSeries {
    pub fn run(self, shell: &Shell) -> Outcome {
        self.node.make(shell, &SERIES)
    }
}

impl CreateDerivedTable {
    pub fn run(self, shell: &Shell) -> Outcome {
        self.node.make(shell, &TABLE)
    }
}

impl Derived {
    fn make(self, shell: &Shell, factory: &dyn Factory) -> Outcome {
        let sources: Vec<_> = self.source.iter().map(|text| source(text)).collect();
        let values = [
            (OptionKind::PondPaths, sources_option(&sources)?),
            (OptionKind::Query, Some(Value::String(self.query))),
            (OptionKind::Duration, self.refresh.map(Value::String)),
        ];
        let options = values.into_iter().filter_map(|(kind, value)| {
            let option = factory.options().iter().find(|option| option.kind == kind)?;
            Some((option.name.to_owned(), value?))
        });
        let node = NewNode {
            path: pond_path(&self.path)?,
            factory: factory.name().to_owned(),
            options: options.collect(),
            mode: self.creation.mode(),
            comment: self.creation.comment,
        };
        serve(create(shell, node, self.message))?;
        Ok(0)
    }
}

/// Splits the name off a source: `a=/a.series`. A path may hold a `=` itself, behind its first `/`.
fn source(text: &str) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, path)) if !name.contains('/') => (path.to_owned(), Some(name.to_owned())),
        _ => (text.to_owned(), None),
    }
}
