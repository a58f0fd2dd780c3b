//! The command line: a verb is its arguments, one library call, one print.
//!
//! stdout carries data alone; errors, hints and notes go to stderr. The exit code is 0, or 1 if a
//! statement or verb failed, or 2 if the arguments make no sense. A reader that closes its end
//! (`pond … | head`) ends the shell quietly, with 0.
//!
//! Starting must be cheap: verbs that need no SQL ([`serve`]) make no query engine and no second
//! thread. Ctrl-C keeps its default and ends a one-shot at once; a commit is atomic whenever that
//! happens.

mod args;
mod cache;
mod cat;
mod change;
mod cp;
mod create_csv;
mod create_derived;
mod describe;
mod diff;
mod expire;
mod fsck;
mod gc;
mod get;
mod init;
mod lineage;
pub mod list;
mod ln;
mod log;
mod maintain;
mod mkdir;
mod mknod;
mod mv;
mod progress;
mod put;
mod restore;
mod rm;
pub mod sql;
mod status;

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use pond::keep::parse_size;
use pond::output::{self, Format, Picture};
use pond::path::PondPath;
use pond::pond::{At, Pond, PondOptions};
use pond::store::Durability;
use pond::tree::{Tree, past};
use pond::{Error, Result};
use tokio::runtime::Runtime;

use crate::repl;

/// Rows encoded at a time.
const BATCH_ROWS: usize = 1024;

/// A transactional, versioned file system that you query with SQL.
///
/// Without a command, statements are read interactively.
#[derive(Debug, Parser)]
#[command(name = "pond", version, max_term_width = 100, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<Verb>,
}

/// What every command takes. Environment variables that are empty count as not set, so they are
/// not left to clap.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Options {
    /// The pond's directory [default: $POND, or the nearest `.pond` here or above]
    #[arg(long, value_name = "DIR", global = true)]
    pond: Option<PathBuf>,

    /// How rows are written: table, csv, json (one object a line) or parquet
    #[arg(long, value_name = "FORMAT", global = true, hide_possible_values = true,
          value_parser = shape_parser())]
    format: Option<Shape>,

    /// When a commit counts as done: `full`, it is on the disk, or `process`, the system has it
    /// [default: $POND_DURABILITY, or full]
    #[arg(long, value_name = "LEVEL", global = true, hide_possible_values = true,
          value_parser = durability_parser())]
    durability: Option<Durability>,

    /// How much room converted files may take in the cache, in bytes: $POND_CACHE_SIZE.
    #[arg(skip)]
    cache_bytes: Option<u64>,
}

/// What `--format` asks for.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Rows.
    Rows(Format),
    /// A drawing, which `pond lineage` alone can make.
    Picture(Picture),
}

impl Options {
    /// Takes what was not given from the environment.
    fn or_environment(mut self) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if self.pond.is_none() {
            self.pond = variable("POND").map(PathBuf::from);
        }
        if self.durability.is_none() {
            let level = variable("POND_DURABILITY").map(|level| level.to_string_lossy().parse());
            self.durability =
                level.transpose().map_err(|error: Error| error.context("$POND_DURABILITY"))?;
        }
        let size = variable("POND_CACHE_SIZE").map(|size| parse_size(&size.to_string_lossy()));
        self.cache_bytes = size.transpose().map_err(|error| error.context("$POND_CACHE_SIZE"))?;
        Ok(self)
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Init),
    Sql(sql::Sql),
    Ls(list::Ls),
    Cat(cat::Cat),
    Describe(describe::Describe),
    Put(put::Put),
    Get(get::Get),
    Cp(cp::Cp),
    Mv(mv::Mv),
    Ln(ln::Ln),
    Rm(rm::Rm),
    Mkdir(mkdir::Mkdir),
    Mknod(mknod::Mknod),
    CreateDerivedSeries(create_derived::CreateDerivedSeries),
    CreateDerivedTable(create_derived::CreateDerivedTable),
    CreateCsvDirectory(create_csv::CreateCsvDirectory),
    CreateCsvToParquet(create_csv::CreateCsvToParquet),
    Lineage(lineage::Lineage),
    Log(log::Log),
    Diff(diff::Diff),
    Restore(restore::Restore),
    Status(status::Status),
    Fsck(fsck::Fsck),
    Maintain(maintain::Maintain),
    Gc(gc::Gc),
    Cache(cache::Cache),
    Expire(expire::Expire),
}

/// How a verb ended: the exit code, unless it failed altogether.
pub type Outcome = Result<i32, Failure>;

/// Why a verb failed.
#[derive(Debug)]
pub struct Failure {
    error: Error,
    /// The place in a script, and the statement there.
    place: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, place: None }
    }
}

impl Failure {
    /// Makes the failure of a statement, with its place if that is not plain.
    pub fn new(error: Error, place: Option<String>) -> Self {
        Self { error, place }
    }

    /// Whether the reader of the output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        output::is_closed_pipe(&self.error)
    }
}

/// Runs the command line of this process and returns its exit code.
pub fn run() -> i32 {
    let CommandLine { options, verb } = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => {
            // Help goes to stdout, usage errors to stderr; either may have been closed.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let outcome = options.or_environment().map_err(Failure::from).and_then(|options| {
        let shell = Shell { options };
        run_verb(verb, &shell)
    });
    match outcome {
        Ok(code) => code,
        Err(failure) if failure.is_closed_pipe() => 0,
        Err(failure) => {
            report(&failure);
            1
        }
    }
}

fn run_verb(verb: Option<Verb>, shell: &Shell) -> Outcome {
    match verb {
        None => repl::run(shell),
        Some(Verb::Init(verb)) => verb.run(shell),
        Some(Verb::Sql(verb)) => verb.run(shell),
        Some(Verb::Ls(verb)) => verb.run(shell),
        Some(Verb::Cat(verb)) => verb.run(shell),
        Some(Verb::Describe(verb)) => verb.run(shell),
        Some(Verb::Put(verb)) => verb.run(shell),
        Some(Verb::Get(verb)) => verb.run(shell),
        Some(Verb::Cp(verb)) => verb.run(shell),
        Some(Verb::Mv(verb)) => verb.run(shell),
        Some(Verb::Ln(verb)) => verb.run(shell),
        Some(Verb::Rm(verb)) => verb.run(shell),
        Some(Verb::Mkdir(verb)) => verb.run(shell),
        Some(Verb::Mknod(verb)) => verb.run(shell),
        Some(Verb::CreateDerivedSeries(verb)) => verb.run(shell),
        Some(Verb::CreateDerivedTable(verb)) => verb.run(shell),
        Some(Verb::CreateCsvDirectory(verb)) => verb.run(shell),
        Some(Verb::CreateCsvToParquet(verb)) => verb.run(shell),
        Some(Verb::Lineage(verb)) => verb.run(shell),
        Some(Verb::Log(verb)) => verb.run(shell),
        Some(Verb::Diff(verb)) => verb.run(shell),
        Some(Verb::Restore(verb)) => verb.run(shell),
        Some(Verb::Status(verb)) => verb.run(shell),
        Some(Verb::Fsck(verb)) => verb.run(shell),
        Some(Verb::Maintain(verb)) => verb.run(shell),
        Some(Verb::Gc(verb)) => verb.run(shell),
        Some(Verb::Cache(verb)) => verb.run(shell),
        Some(Verb::Expire(verb)) => verb.run(shell),
    }
}

/// Prints a failure to stderr: what failed, where, and what can be done.
pub fn report(failure: &Failure) {
    let mut text = format!("error: {}\n", failure.error);
    if let Some(place) = &failure.place {
        text.push_str(&format!("  {place}\n"));
    }
    if let Some(hint) = failure.error.hint() {
        text.push_str(&format!("hint: {hint}\n"));
    }
    say(&text);
}

/// Prints a note to stderr.
pub fn note(text: &str) {
    say(&format!("note: {text}\n"));
}

/// Prints to stderr.
pub fn say(text: &str) {
    // There is no one to tell that nobody listens.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Runs a verb that needs no query engine, on this thread.
pub fn serve<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    finish(start(tokio::runtime::Builder::new_current_thread())?, work)
}

/// Runs a verb that queries, with a worker for each processor.
pub fn query<T, E: From<Error>>(work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    finish(engine()?, work)
}

/// Makes the runtime for queries.
pub fn engine() -> Result<Runtime> {
    start(tokio::runtime::Builder::new_multi_thread())
}

/// Runs `work` and leaves the threads of `runtime` to the end of the process.
fn finish<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

fn start(mut builder: tokio::runtime::Builder) -> Result<Runtime> {
    builder.enable_all().build().map_err(|error| Error::io("starting the runtime", error))
}

/// Parses a path given at the shell; one that does not start with `/` counts from the root.
pub fn pond_path(text: &str) -> Result<PondPath> {
    PondPath::root().join(text)
}

/// Parses a point of the past given at the shell: the number of a transaction, or a time.
///
/// # Errors
/// `Invalid` for anything else.
pub fn parse_at(text: &str) -> Result<At> {
    let digits = text.strip_prefix('v').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits
            .parse()
            .map(At::Version)
            .map_err(|error| Error::invalid(format!("transaction {text}")).with_source(error));
    }
    past::micros(&text.into()).map(At::Timestamp).ok_or_else(|| {
        Error::invalid(format!("'{text}' is neither a transaction nor a time"))
            .with_hint("as 12, 2026-01-31 or 2026-01-31T12:00:00Z; times without a zone are UTC")
    })
}

/// Prints what `batch` makes of `entries`, as a table or in the format asked for.
pub async fn print_rows<T>(
    shell: &Shell,
    entries: &[T],
    batch: impl Fn(&[T]) -> Result<RecordBatch>,
) -> Result<()> {
    let format = shell.format()?.unwrap_or_default();
    let schema = batch(&[])?.schema();
    let batches: Vec<RecordBatch> = entries.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
    let rows = RecordBatchStreamAdapter::new(schema, stream::iter(batches.into_iter().map(Ok)));
    output::write(Box::pin(rows), format, &mut shell.stdout()?).await?;
    Ok(())
}

/// The standard output, buffered.
pub type Stdout = BufWriter<File>;

/// The options that hold for every verb, and what follows from them.
#[derive(Debug)]
pub struct Shell {
    options: Options,
}

impl Shell {
    /// Opens the pond.
    ///
    /// # Errors
    /// `NotFound` if none is named and none is near.
    pub async fn open(&self) -> Result<Tree> {
        let dir = self.require_dir()?;
        self.tree(Pond::open(&dir, self.pond_options()).await?)
    }

    /// Returns the pond's directory.
    ///
    /// # Errors
    /// `NotFound` if none is named and none is near.
    pub fn require_dir(&self) -> Result<PathBuf> {
        self.pond_dir()?.ok_or_else(|| {
            Error::not_found("no pond here or in a directory above")
                .with_hint("make one with `pond init`, or name one with --pond DIR or $POND")
        })
    }

    /// Opens the pond or, where there is none, a transient one.
    pub async fn open_or_transient(&self) -> Result<Tree> {
        if let Some(tree) = self.open_found().await? {
            return Ok(tree);
        }
        note("no pond here: using one in memory that ends with this command");
        self.tree(Pond::transient().await?)
    }

    async fn open_found(&self) -> Result<Option<Tree>> {
        let Some(dir) = self.pond_dir()? else { return Ok(None) };
        Ok(Some(self.tree(Pond::open(&dir, self.pond_options()).await?)?))
    }

    fn tree(&self, pond: Pond) -> Result<Tree> {
        let tree = Tree::new(pond).with_base_dir(working_dir()?);
        if let Some(bytes) = self.options.cache_bytes {
            tree.cache().set_budget(bytes);
        }
        tree.cache().observe(Some(progress::conversions()));
        Ok(tree)
    }

    /// Returns the directory of the pond that was named, by option or environment.
    pub fn named_dir(&self) -> Option<&Path> {
        self.options.pond.as_deref()
    }

    fn pond_dir(&self) -> Result<Option<PathBuf>> {
        if let Some(dir) = self.named_dir() {
            return Ok(Some(dir.to_owned()));
        }
        let here = working_dir()?;
        Ok(here.ancestors().map(|dir| dir.join(init::POND_DIR)).find(|dir| dir.is_dir()))
    }

    /// Returns how ponds are opened and made.
    pub fn pond_options(&self) -> PondOptions {
        PondOptions { durability: self.options.durability.unwrap_or_default() }
    }

    /// Returns the format of rows asked for, if one was.
    ///
    /// # Errors
    /// `Unsupported` for a picture; those of [`check_format`].
    pub fn format(&self) -> Result<Option<Format>> {
        match self.options.format {
            None => Ok(None),
            Some(Shape::Rows(format)) => check_format(format).map(Some),
            Some(Shape::Picture(picture)) => {
                let name = picture.as_str();
                Err(Error::unsupported(format!("format {name} is for pictures, not for rows"))
                    .with_hint(format!("pond lineage PATH --format {name} draws one")))
            }
        }
    }

    /// Returns the picture asked for, if one was.
    pub fn picture(&self) -> Option<Picture> {
        match self.options.format {
            Some(Shape::Picture(picture)) => Some(picture),
            _ => None,
        }
    }

    /// Opens the standard output.
    pub fn stdout(&self) -> Result<Stdout> {
        // Not std's own handle, which looks for line ends in all that passes.
        let stdout = std::io::stdout().as_fd().try_clone_to_owned();
        Ok(BufWriter::new(File::from(stdout.map_err(output::write_error)?)))
    }
}

/// Returns `format` if it can go to the standard output.
///
/// # Errors
/// `Invalid` for Parquet on a terminal.
pub fn check_format(format: Format) -> Result<Format> {
    if format == Format::Parquet && std::io::stdout().is_terminal() {
        return Err(Error::invalid("Parquet is not for a terminal")
            .with_hint("send it to a file: pond … > result.parquet"));
    }
    Ok(format)
}

fn working_dir() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| Error::io("the working directory", error))
}

fn shape_parser() -> impl TypedValueParser<Value = Shape> {
    let rows = Format::ALL.into_iter().map(Format::as_str);
    let pictures = Picture::ALL.into_iter().map(Picture::as_str);
    PossibleValuesParser::new(rows.chain(pictures)).map(|name| match Picture::parse(&name) {
        Ok(picture) => Shape::Picture(picture),
        Err(_) => Shape::Rows(Format::parse(&name).expect("one of its names")),
    })
}

fn durability_parser() -> impl TypedValueParser<Value = Durability> {
    PossibleValuesParser::new(["full", "process"])
        .map(|name| name.parse().expect("one of its names"))
}
