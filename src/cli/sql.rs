//! `pond sql`: runs statements, one after another, until one fails.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use pond::context::{Output, OutputKind, PondContext};
use pond::entry::EntryType;
use pond::node::{Node, lookup};
use pond::output::{self, Format};
use pond::path::PondPath;
use pond::sql::{Script, Statement};
use pond::{Error, ErrorKind, Result};

use super::mknod::read_text;
use super::{Failure, Outcome, Shell, Stdout, note, query};

/// Most characters of a failed statement that are shown.
const QUOTE_CHARS_MAX: usize = 100;

/// Run SQL statements
///
/// Statements end with `;` and run in order; the first that fails ends the run. Relative host
/// paths in them count from the working directory. CSV and Parquet hold the rows of one query;
/// what changing statements report is left out there.
#[derive(Debug, Args)]
pub struct Sql {
    /// The statements; `-` reads them from stdin
    #[arg(value_name = "SQL", required_unless_present = "file",
          allow_hyphen_values = true, value_parser = parse_sql)]
    sql: Option<String>,

    /// Read the statements from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "sql")]
    file: Option<PathBuf>,
}

impl Sql {
    pub fn run(self, shell: &Shell) -> Outcome {
        let format = shell.format()?.unwrap_or_default();
        let (name, text) = match (self.file, self.sql) {
            (Some(file), _) => read_text(&file)?,
            (None, Some(sql)) if sql == "-" => read_text(Path::new("-"))?,
            (None, sql) => (String::new(), sql.unwrap_or_default()),
        };
        query(async {
            let context = PondContext::new(shell.open_or_transient().await?);
            let mut results = Results::new(format, shell.stdout()?);
            let outcome = run_script(&context, &name, &text, &mut results).await;
            // What was put off until the rows were out.
            context.tree().cache().idle().await;
            end_transaction(&context, outcome).await?;
            Ok(0)
        })
    }
}

async fn run_script(
    context: &PondContext,
    name: &str,
    text: &str,
    results: &mut Results,
) -> Result<(), Failure> {
    for statement in Script::new(text) {
        let statement = statement
            .map_err(|error| Failure::new(error, (!name.is_empty()).then(|| name.to_owned())))?;
        let place = place(name, text, &statement);
        run_statement(context, statement, results)
            .await
            .map_err(|error| Failure::new(error, place))?;
    }
    Ok(())
}

/// Rolls back the transaction that a script has left open: an error if the script found its end.
pub async fn end_transaction(
    context: &PondContext,
    outcome: Result<(), Failure>,
) -> Result<(), Failure> {
    if !context.roll_back().await {
        return outcome;
    }
    if outcome.is_ok() {
        let error = Error::invalid("the script ends within a transaction, which was rolled back");
        return Err(Failure::from(error.with_hint("end it with COMMIT, or ROLLBACK")));
    }
    note("the open transaction was rolled back");
    outcome
}

/// Takes a text that begins with a comment for SQL, but not a mistyped option.
fn parse_sql(text: &str) -> Result<String, String> {
    if text.starts_with('-') && text != "-" && !text.contains(char::is_whitespace) {
        return Err(format!("'{text}' is no option"));
    }
    Ok(text.to_owned())
}

/// Runs one statement, writes its rows and returns their number.
pub async fn run_statement(
    context: &PondContext,
    statement: Statement,
    results: &mut Results,
) -> Result<u64> {
    results.write(context.execute(statement).await?).await
}

/// Writes what a node is and, if it is a table, its columns; just the columns of a table if
/// `columns_only`.
pub async fn describe(
    context: &PondContext,
    path: &PondPath,
    columns_only: bool,
    results: &mut Results,
) -> Result<()> {
    let quoted = quoted(path);
    let found = context.tree().in_time(context.snapshot().await?, path).await?;
    let Some(node) = lookup(&found.root, &found.path).await? else {
        return Err(found.not_found().await);
    };
    let columns = match node {
        Node::File(file) => {
            let is_data = file.metadata().await?.entry_type == Some(EntryType::FileData);
            match context.sql(&format!("DESCRIBE {quoted}")).await {
                // Its bytes have no rows.
                Err(error) if is_data && error.kind() == ErrorKind::Unsupported => None,
                columns => Some(columns),
            }
        }
        Node::Directory(_) | Node::Symlink(_) => None,
    };
    if !columns_only || columns.is_none() {
        results.write(context.sql(&format!("DESCRIBE NODE {quoted}")).await?).await?;
    }
    if let Some(columns) = columns {
        results.write(columns?).await?;
    }
    Ok(())
}

/// Returns a path as it is written in SQL.
pub fn quoted(path: &PondPath) -> String {
    format!("'{}'", path.as_str().replace('\'', "''"))
}

/// Says where a statement is and how it begins; nothing if it is all that was typed.
fn place(name: &str, text: &str, statement: &Statement) -> Option<String> {
    if name.is_empty() && statement.text().trim() == text.trim().trim_end_matches(';').trim_end() {
        return None;
    }
    let line = statement.line();
    let place = if name.is_empty() { format!("line {line}") } else { format!("{name}:{line}") };
    Some(format!("{place}: {}", quote(statement)))
}

/// Returns the head of a statement on one line.
pub fn quote(statement: &Statement) -> String {
    let words: Vec<&str> = statement.text().split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(QUOTE_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}

/// Writes the results of a script, one after another.
pub struct Results {
    pub format: Format,
    out: Stdout,
    written: usize,
    /// Whether the reader has gone: changes go on, rows are of no use any more.
    closed: bool,
}

impl Results {
    pub fn new(format: Format, out: Stdout) -> Self {
        Self { format, out, written: 0, closed: false }
    }

    /// Begins a new table for the next statement of a session; a Parquet file has just one.
    pub fn restart(&mut self) {
        if self.format != Format::Parquet {
            self.written = 0;
        }
    }

    /// Returns the stream behind.
    pub fn out(&mut self) -> &mut Stdout {
        &mut self.out
    }

    async fn write(&mut self, result: Output) -> Result<u64> {
        if self.closed {
            return match result.kind {
                OutputKind::Rows => Ok(0),
                _ => output::write(result.stream, Format::Table, &mut std::io::sink()).await,
            };
        }
        match self.write_open(result).await {
            Err(error) if output::is_closed_pipe(&error) => {
                self.closed = true;
                Ok(0)
            }
            written => written,
        }
    }

    async fn write_open(&mut self, result: Output) -> Result<u64> {
        if !self.format.holds_many() {
            if result.kind == OutputKind::Change {
                return Ok(0);
            }
            if self.written > 0 {
                return Err(Error::unsupported(format!(
                    "{} holds the rows of one query, and this is another",
                    self.format.as_str()
                ))
                .with_hint("run one query, or choose --format json or table"));
            }
        }
        if result.stream.schema().fields().is_empty() {
            // It has nothing to show, but it may have work to do.
            return output::write(result.stream, Format::Table, &mut std::io::sink()).await;
        }
        if self.format == Format::Table && self.written > 0 {
            writeln!(self.out).map_err(output::write_error)?;
        }
        self.written += 1;
        output::write(result.stream, self.format, &mut self.out).await
    }
}
