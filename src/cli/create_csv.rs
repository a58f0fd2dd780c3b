//! `pond create-csv-directory`, `pond create-csv-to-parquet`: show CSV files as tables or series.

use clap::Args;
use pond::factory::{Factory, csv};
use pond::tree::NewNode;
use serde_json::Value;

use super::args::{Creation, Message};
use super::mknod::create;
use super::{Outcome, Shell, completions, pond_path, serve};

/// Show the CSV files that match a pattern as tables or series
///
/// /raw/sales.csv becomes sales.table, or sales.series. Files are found when the directory is looked
/// at, and converted when they are first read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond create-csv-directory /tables --pattern '/raw/*.csv' --cache-ttl 12h")]
pub struct CreateCsvDirectory {
    /// The files: a path or a glob of the pond
    #[arg(long, value_name = "GLOB", add = completions::paths())]
    pattern: String,

    #[command(flatten)]
    node: Csv,
}

/// Show a CSV file as a table or a series
///
/// It is converted when it is first read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond create-csv-to-parquet /sales.table --source /raw/sales.csv")]
pub struct CreateCsvToParquet {
    /// The file: a path of the pond
    #[arg(long, value_name = "PATH", add = completions::paths())]
    source: String,

    #[command(flatten)]
    node: Csv,
}

/// What both take.
#[derive(Debug, Args)]
struct Csv {
    /// What a file becomes: table or series [default: table]
    #[arg(long = "type", value_name = "TYPE", add = completions::words(&["table", "series"]))]
    target_type: Option<String>,

    /// The column that orders a series [default: timestamp]
    #[arg(long, value_name = "COLUMN")]
    temporal_column: Option<String>,

    /// Types of columns: 'id BIGINT, name TEXT', or JSON; the others are detected
    #[arg(long, value_name = "COLUMNS")]
    schema: Option<String>,

    /// Convert anew what is older: 12h, '90 minutes', PT1H [default: 24h, of a series 6h]
    #[arg(long, value_name = "DURATION")]
    cache_ttl: Option<String>,

    #[command(flatten)]
    dialect: Dialect,

    #[command(flatten)]
    creation: Creation,

    #[command(flatten)]
    message: Message,

    /// Path of the node
    #[arg(add = completions::paths())]
    path: String,
}

/// How the text is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "How the text is written; what is not given is detected")]
struct Dialect {
    /// The character between values, or tab
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    delimiter: Option<String>,

    /// Whether the first record names the columns: true or false
    #[arg(long, value_name = "BOOL", add = completions::words(&["true", "false"]))]
    has_header: Option<String>,

    /// The character around values, or none
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    quote: Option<String>,

    /// The character before a quote within quotes, or none
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    escape: Option<String>,

    /// The character that begins a comment line, or none
    #[arg(long, value_name = "CHAR", allow_hyphen_values = true)]
    comment_char: Option<String>,

    /// A text that is null; may be given more than once
    #[arg(long = "null-values", value_name = "TEXT", allow_hyphen_values = true)]
    null_values: Vec<String>,

    /// How times are written: strftime directives, or unix, unix_ms, unix_us, unix_ns
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    timestamp_format: Option<String>,

    /// none, gzip, zstd, bzip2 or xz
    #[arg(long, value_name = "KIND", add = completions::words(&["none", "gzip", "zstd", "bzip2", "xz"]))]
    compression: Option<String>,

    /// utf-8, latin1, utf-16le or utf-16be
    #[arg(long, value_name = "ENCODING", add = completions::words(&["utf-8", "latin1", "utf-16le", "utf-16be"]))]
    encoding: Option<String>,

    /// What becomes of what does not fit: fail, skip or null [default: fail]
    #[arg(long, value_name = "ACTION", add = completions::words(&["fail", "skip", "null"]))]
    on_error: Option<String>,
}

impl CreateCsvDirectory {
    pub fn run(self, shell: &Shell) -> Outcome {
        self.node.make(shell, &csv::DIRECTORY, ("source_pattern", self.pattern))
    }
}

impl CreateCsvToParquet {
    pub fn run(self, shell: &Shell) -> Outcome {
        self.node.make(shell, &csv::FILE, ("source", self.source))
    }
}

impl Csv {
    fn make(self, shell: &Shell, factory: &dyn Factory, source: (&str, String)) -> Outcome {
        let dialect = self.dialect;
        let nulls = dialect.null_values.into_iter().map(Value::String).collect::<Vec<_>>();
        let texts = [
            (source.0, Some(source.1)),
            ("target_type", self.target_type),
            ("temporal_column", self.temporal_column),
            ("target_schema", self.schema),
            ("cache_ttl", self.cache_ttl),
            ("delimiter", dialect.delimiter),
            ("has_header", dialect.has_header),
            ("quote", dialect.quote),
            ("escape", dialect.escape),
            ("comment", dialect.comment_char),
            ("timestamp_format", dialect.timestamp_format),
            ("compression", dialect.compression),
            ("encoding", dialect.encoding),
            ("on_error", dialect.on_error),
        ];
        let mut options: Vec<(String, Value)> = texts
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Value::String(text?))))
            .collect();
        if !nulls.is_empty() {
            options.push(("null_values".to_owned(), Value::Array(nulls)));
        }
        let node = NewNode {
            path: pond_path(&self.path)?,
            factory: factory.name().to_owned(),
            options,
            mode: self.creation.mode(),
            comment: self.creation.comment,
        };
        serve(create(shell, node, self.message))?;
        Ok(0)
    }
}
