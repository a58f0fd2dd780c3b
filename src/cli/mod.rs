//! The command line: a verb is its arguments, one library call, one print.
//!
//! stdout carries data alone; errors, hints, notes and what was changed go to stderr (`report`). The
//! exit code is 0; 1 if a statement or verb failed, 2 if the arguments make no sense, 3 for a
//! conflict, 4 for what a policy refuses, 5 for corruption, 6 for a limit, 130 for Ctrl-C. A reader
//! that closes its end (`pond … | head`) ends the shell quietly, with 0.
//!
//! Every file of the host that a command line, a statement or a command names is opened past
//! [`Shell::policy`], be it a script or what rows are written to; the shell's own files, rc and history, too,
//! which are left alone where it closes them.
//!
//! Starting must be cheap: verbs that need no SQL ([`serve`]) make no query engine and no second
//! thread.

pub mod args;
mod backup;
mod cache;
mod cat;
mod change;
mod clone;
pub mod commands;
mod completions;
mod copies;
mod cp;
mod create_csv;
mod create_derived;
mod describe;
mod diff;
mod expire;
mod fsck;
mod gc;
mod get;
mod hints;
mod init;
pub mod interrupt;
mod lineage;
pub mod list;
mod ln;
mod log;
mod maintain;
mod man;
mod mkdir;
mod mknod;
mod mv;
mod progress;
mod pull;
mod push;
mod put;
pub mod report;
mod restore;
mod restore_from;
pub mod results;
mod rm;
mod serve;
pub mod session;
pub mod sql;
mod status;

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;
use pond::context::PondContextBuilder;
use pond::factory::parse_duration;
use pond::keep::parse_size;
use pond::location::Location;
use pond::oplog::delta_version;
use pond::output::{self, Format, Picture, Style, Terminal};
use pond::path::PondPath;
use pond::policy::{Access, Host, Policy, within};
use pond::pond::{At, Pond, PondOptions};
use pond::store::Durability;
use pond::tree::{Tree, past};
use pond::{Error, PondContext, Result};
use tokio::runtime::Runtime;

use self::report::{Color, Voice, detail, exit_code, note, report, report_usage, set_voice};
use self::results::{NewFile, Paging, Results};
use crate::repl;

/// Endings of compressed files, which could be taken for a format.
const COMPRESSED: [&str; 6] = ["gz", "zst", "bz2", "xz", "lz4", "zip"];

/// The exit code of a command line, or an environment, that makes no sense.
const USAGE: i32 = 2;

/// Rows encoded at a time.
const BATCH_ROWS: usize = 1024;

/// A transactional, versioned file system that you query with SQL.
///
/// Without a command, statements are read interactively.
#[derive(Debug, Parser)]
#[command(name = "pond", version, long_version = VERSIONS.as_str(), max_term_width = 100,
          disable_help_subcommand = true)]
#[command(after_help = r#"Examples:
  pond init
  pond put 2026/*.csv /sensors/
  pond sql "SELECT * FROM '/sensors/*'"
  pond ls --help"#)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    interactive: Interactive,
    #[command(subcommand)]
    verb: Option<Verb>,
}

impl CommandLine {
    /// Refuses options of the interactive shell beside a verb.
    fn check(self) -> Result<Self, clap::Error> {
        let Interactive { keep_going, no_init, params, .. } = &self.interactive;
        let message = match self.verb {
            Some(_) if !params.is_empty() => {
                "--param goes behind the verb: pond sql --param NAME=VALUE …"
            }
            Some(_) if *keep_going => "--keep-going goes behind the verb: pond sql --keep-going …",
            Some(_) if *no_init => "--no-init is for the shell without a verb: pond --no-init",
            _ => return Ok(self),
        };
        Err(Self::command().error(clap::error::ErrorKind::ArgumentConflict, message))
    }
}

/// The versions of what pond is made of, a line each.
static VERSIONS: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\ndatafusion {}\ndeltalake-core {}\narrow {}",
        env!("CARGO_PKG_VERSION"),
        datafusion::DATAFUSION_VERSION,
        delta_version(),
        datafusion::arrow::ARROW_VERSION,
    )
});

/// What every command takes. Environment variables that are empty count as not set, so they are
/// not left to clap.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Options {
    /// The pond: its directory, or its URL, as s3://BUCKET/PREFIX [default: $POND, or the nearest
    /// `.pond` here or above]
    #[arg(long, value_name = "PLACE", global = true)]
    pond: Option<PathBuf>,

    /// How rows are written: table, csv, tsv, json, ndjson (one object a line), markdown, line, html,
    /// parquet, arrow, chart, svg, png [default: what the ending of -o says, $POND_FORMAT, or table on
    /// a terminal and csv elsewhere]
    #[arg(long, value_name = "FORMAT", global = true, hide_possible_values = true,
          value_parser = format_parser())]
    format: Option<String>,

    /// Write to a file instead of stdout; it is there when it is complete
    #[arg(short, long, value_name = "FILE", global = true)]
    output: Option<PathBuf>,

    /// Leave out the names of the columns
    #[arg(long, global = true)]
    no_header: bool,

    /// How a null is written
    #[arg(long, value_name = "TEXT", global = true)]
    null: Option<String>,

    /// Write no more rows of a result than this
    #[arg(long, value_name = "N", global = true)]
    max_rows: Option<u64>,

    /// When what does not fit a terminal goes through $PAGER
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        hide_possible_values = true,
        default_value = "auto",
        hide_default_value = true
    )]
    pager: Paging,

    /// When there are colours: auto, always or never; $NO_COLOR turns them off
    #[arg(
        long,
        value_name = "WHEN",
        global = true,
        hide_possible_values = true,
        default_value = "auto",
        hide_default_value = true
    )]
    color: Color,

    /// How errors and notes are written: text, or json, one object a line
    #[arg(
        long,
        value_name = "FORMAT",
        global = true,
        hide_possible_values = true,
        default_value = "text",
        hide_default_value = true
    )]
    error_format: ErrorFormat,

    /// No notes, and nothing about what was changed
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// More notes
    #[arg(short, long, global = true)]
    verbose: bool,

    /// When a commit counts as done: `full`, it is on the disk, or `process`, the system has it
    /// [default: $POND_DURABILITY, or full]
    #[arg(long, value_name = "LEVEL", global = true, hide_possible_values = true,
          value_parser = durability_parser())]
    durability: Option<Durability>,

    /// Change nothing in the pond: no commit, no upkeep, no clean-up; the cache may be filled
    #[arg(long, global = true, help_heading = POLICY)]
    read_only: bool,

    /// Open no files of the host; what is mounted already stays readable, and so do stdin and stdout
    #[arg(long, global = true, help_heading = POLICY, conflicts_with = "allow_host")]
    safe: bool,

    /// Open files of the host in and below DIR only: mounts, COPY, put and get, scripts, -o; may be
    /// given many times
    #[arg(long, value_name = "DIR", global = true, help_heading = POLICY)]
    allow_host: Vec<PathBuf>,

    /// How much memory statements may use, as 64MB or 2GiB; sorts and joins beyond it go on on disk
    #[arg(long, value_name = "SIZE", global = true, help_heading = POLICY,
          value_parser = parse_memory)]
    memory_limit: Option<u64>,

    /// How long a statement may take, with its rows, or another command: 500ms, 30s, 5m
    #[arg(long, value_name = "DURATION", global = true, help_heading = POLICY,
          value_parser = parse_timeout)]
    timeout: Option<Duration>,

    /// How rows are written where nothing else says it: $POND_FORMAT.
    #[arg(skip)]
    default_format: Option<Format>,

    /// How much room converted files may take in the cache, in bytes: $POND_CACHE_SIZE.
    #[arg(skip)]
    cache_bytes: Option<u64>,
}

/// The heading of the options that make a policy.
const POLICY: &str = "What may be done (nothing later in the session allows more)";

fn parse_memory(text: &str) -> Result<u64> {
    match parse_size(text)? {
        0 => Err(Error::invalid("statements need some memory")),
        bytes => Ok(bytes),
    }
}

fn parse_timeout(text: &str) -> Result<Duration> {
    parse_duration(text).ok_or_else(|| {
        Error::invalid(format!("'{text}' is no length of time"))
            .with_hint("write a number and its unit: 500ms, 30s, 5m or 1h")
    })
}

/// How errors and notes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ErrorFormat {
    Text,
    Json,
}

impl Options {
    /// Returns what may be done.
    ///
    /// # Errors
    /// `NotFound`, `Invalid`, `Io` for a directory that cannot be allowed.
    fn policy(&self) -> Result<Policy> {
        let host = match (self.safe, self.allow_host.as_slice()) {
            (true, _) => Host::None,
            (false, []) => Host::Any,
            (false, dirs) => Host::only(dirs).map_err(|error| error.context("--allow-host"))?,
        };
        let Self { read_only, memory_limit, timeout, .. } = *self;
        Ok(Policy { read_only, host, memory_limit, timeout })
    }

    /// Takes what was not given from the environment.
    fn or_environment(mut self) -> Result<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if self.pond.is_none() {
            self.pond = variable("POND").map(PathBuf::from);
        }
        if self
            .output
            .as_deref()
            .is_some_and(|path| path.as_os_str() == "-" || path == Path::new("/dev/stdout"))
        {
            self.output = None;
        }
        if self.durability.is_none() {
            let level = variable("POND_DURABILITY").map(|level| level.to_string_lossy().parse());
            self.durability =
                level.transpose().map_err(|error: Error| error.context("$POND_DURABILITY"))?;
        }
        let format = variable("POND_FORMAT").map(|format| Format::parse(&format.to_string_lossy()));
        self.default_format = format.transpose().map_err(|error| error.context("$POND_FORMAT"))?;
        let size = variable("POND_CACHE_SIZE").map(|size| parse_size(&size.to_string_lossy()));
        self.cache_bytes = size.transpose().map_err(|error| error.context("$POND_CACHE_SIZE"))?;
        Ok(self)
    }
}

/// How a session without a verb runs.
#[derive(Debug, Args)]
pub struct Interactive {
    /// Tell errors of a script and go on with the next statement; the exit code is that of the first
    #[arg(long)]
    pub keep_going: bool,

    /// Do not run the commands and statements of ~/.config/pond/rc first
    #[arg(long)]
    pub no_init: bool,

    #[command(flatten)]
    pub params: args::Parameters,

    /// The cluster that queries run on: `pond sql --cluster`.
    #[arg(skip)]
    pub cluster: Option<String>,
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
    Serve(serve::Serve),
    Gc(gc::Gc),
    Cache(cache::Cache),
    Expire(expire::Expire),
    Backup(backup::Backup),
    Clone(clone::ClonePond),
    RestoreFrom(restore_from::RestoreFrom),
    Pull(pull::Pull),
    Push(push::Push),
    Completions(completions::Completions),
    Man(man::ManPage),
}

/// How a verb ended: the exit code, unless it failed altogether.
pub type Outcome = Result<i32>;

/// Runs the command line of this process and returns its exit code.
pub fn run() -> i32 {
    if completions::answer() {
        return 0;
    }
    interrupt::watch();
    let arguments: Vec<_> = std::env::args_os().map(text_or_option).collect();
    let color = color_of(&arguments);
    let choice = match color {
        Color::Auto => clap::ColorChoice::Auto,
        Color::Always => clap::ColorChoice::Always,
        Color::Never => clap::ColorChoice::Never,
    };
    let parsed = CommandLine::command()
        .color(choice)
        .try_get_matches_from(&arguments)
        .and_then(|matches| CommandLine::from_arg_matches(&matches)?.check());
    let CommandLine { options, interactive, verb } = match parsed {
        Ok(command_line) => command_line,
        Err(error) => {
            set_voice(Voice {
                json: option_of(&arguments, "--error-format").as_deref() == Some("json"),
                ..Voice::default()
            });
            // Help goes to stdout, usage errors to stderr.
            report_usage(&error);
            return error.exit_code();
        }
    };
    set_voice(Voice {
        json: options.error_format == ErrorFormat::Json,
        color: color.on(std::io::stderr().is_terminal()),
        quiet: options.quiet,
        verbose: options.verbose,
    });
    let options = options.or_environment();
    let shell = match options.and_then(Shell::new) {
        Ok(shell) => shell,
        Err(error) => {
            report(&error);
            return USAGE;
        }
    };
    // Before anything else is looked at.
    let _ = TIMEOUT.set(shell.policy.timeout);
    let run = || {
        let code = match verb {
            None => repl::run(&interactive, &shell)?,
            Some(verb @ Verb::Sql(_)) => run_verb(verb, &shell)?,
            Some(verb) => run_verb(verb, &shell).map_err(hints::in_verbs)?,
        };
        shell.publish()?;
        Ok(code)
    };
    match run() {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => 0,
        Err(error) => {
            report(&error);
            exit_code(&error)
        }
    }
}

/// Tells a text that begins with a comment from an option: SQL may begin with `--`, and a blank
/// before it changes nothing.
fn text_or_option(argument: OsString) -> OsString {
    let text = argument.to_string_lossy();
    let word = text.split(char::is_whitespace).next().unwrap_or_default();
    match text.starts_with("--") && word.len() < text.len() && !word.contains('=') {
        true => format!(" {text}").into(),
        false => argument,
    }
}

/// Returns what `--color` says, before all is parsed: help and usage errors have colours, too.
fn color_of(arguments: &[OsString]) -> Color {
    let value = option_of(arguments, "--color");
    value.and_then(|value| Color::from_str(&value, false).ok()).unwrap_or_default()
}

/// Returns the value of an option in a command line that may make no sense.
fn option_of(arguments: &[OsString], name: &str) -> Option<String> {
    let texts = arguments.iter().map(|argument| argument.to_string_lossy());
    let mut texts = texts.skip_while(|text| {
        text.strip_prefix(name).is_none_or(|rest| !rest.is_empty() && !rest.starts_with('='))
    });
    let found = texts.next()?;
    match found.split_once('=') {
        Some((_, value)) => Some(value.to_owned()),
        None => texts.next().map(|value| value.into_owned()),
    }
}

fn run_verb(verb: Verb, shell: &Shell) -> Outcome {
    match verb {
        Verb::Init(verb) => verb.run(shell),
        Verb::Sql(verb) => verb.run(shell),
        Verb::Ls(verb) => verb.run(shell),
        Verb::Cat(verb) => verb.run(shell),
        Verb::Describe(verb) => verb.run(shell),
        Verb::Put(verb) => verb.run(shell),
        Verb::Get(verb) => verb.run(shell),
        Verb::Cp(verb) => verb.run(shell),
        Verb::Mv(verb) => verb.run(shell),
        Verb::Ln(verb) => verb.run(shell),
        Verb::Rm(verb) => verb.run(shell),
        Verb::Mkdir(verb) => verb.run(shell),
        Verb::Mknod(verb) => verb.run(shell),
        Verb::CreateDerivedSeries(verb) => verb.run(shell),
        Verb::CreateDerivedTable(verb) => verb.run(shell),
        Verb::CreateCsvDirectory(verb) => verb.run(shell),
        Verb::CreateCsvToParquet(verb) => verb.run(shell),
        Verb::Lineage(verb) => verb.run(shell),
        Verb::Log(verb) => verb.run(shell),
        Verb::Diff(verb) => verb.run(shell),
        Verb::Restore(verb) => verb.run(shell),
        Verb::Status(verb) => verb.run(shell),
        Verb::Fsck(verb) => verb.run(shell),
        Verb::Maintain(verb) => verb.run(shell),
        Verb::Serve(verb) => verb.run(shell),
        Verb::Gc(verb) => verb.run(shell),
        Verb::Cache(verb) => verb.run(shell),
        Verb::Expire(verb) => verb.run(shell),
        Verb::Backup(verb) => verb.run(shell),
        Verb::Clone(verb) => verb.run(shell),
        Verb::RestoreFrom(verb) => verb.run(shell),
        Verb::Pull(verb) => verb.run(shell),
        Verb::Push(verb) => verb.run(shell),
        Verb::Completions(verb) => verb.run(shell),
        Verb::Man(verb) => verb.run(shell),
    }
}

/// Runs a verb that needs no query engine, on this thread.
pub fn serve<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    finish(start(tokio::runtime::Builder::new_current_thread())?, work)
}

/// Runs a verb that queries, with a worker for each processor.
pub fn query<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    finish(engine()?, work)
}

/// Statements nest, and the engine recurses into them. The stack takes memory only as it is used.
pub const STACK_BYTES: usize = 256 << 20;

/// Makes the runtime for queries that this thread runs.
pub fn engine() -> Result<Runtime> {
    start(tokio::runtime::Builder::new_multi_thread())
}

/// Makes the runtime for statements that are tasks of their own.
pub fn engine_of_tasks() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.thread_stack_size(STACK_BYTES);
    start(builder)
}

/// How long a verb may take that is no statement.
static TIMEOUT: OnceLock<Option<Duration>> = OnceLock::new();

/// Runs `work` and leaves the threads of `runtime` to the end of the process.
fn finish<T>(runtime: Runtime, work: impl Future<Output = Result<T>>) -> Result<T> {
    let timeout = TIMEOUT.get().copied().flatten();
    let done = session::block_on(&runtime, within(timeout, work));
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

/// Prints what `batch` makes of `entries`.
pub async fn print_rows<T>(
    shell: &Shell,
    entries: &[T],
    batch: impl Fn(&[T]) -> Result<RecordBatch>,
) -> Result<()> {
    let schema = batch(&[])?.schema();
    let batches: Vec<RecordBatch> = entries.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
    let rows = RecordBatchStreamAdapter::new(schema, stream::iter(batches.into_iter().map(Ok)));
    shell.results()?.write_rows(Box::pin(rows)).await?;
    Ok(())
}

/// The standard output, buffered.
pub type Stdout = BufWriter<File>;

/// The options that hold for every verb, and what follows from them.
#[derive(Debug)]
pub struct Shell {
    options: Options,
    /// What may be done.
    policy: Policy,
    /// What is written instead of stdout.
    file: RefCell<Option<NewFile>>,
}

impl Shell {
    fn new(options: Options) -> Result<Self> {
        Ok(Self { policy: options.policy()?, options, file: RefCell::default() })
    }

    /// Returns what may be done.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Begins to make a session over the pond, or over a transient one where there is none.
    ///
    /// # Errors
    /// Those of opening it.
    pub async fn context(&self) -> Result<PondContextBuilder> {
        let tree = self.open_or_transient().await?;
        // Who names directories wants them to be of use.
        let host_files = matches!(self.policy.host, Host::Only(_));
        Ok(PondContext::builder(tree).with_host_files(host_files))
    }

    /// Opens the pond.
    ///
    /// # Errors
    /// `NotFound` if none is named and none is near.
    pub async fn open(&self) -> Result<Tree> {
        self.open_at(self.require_location()?).await
    }

    async fn open_at(&self, location: Location) -> Result<Tree> {
        let pond = Pond::open(location.clone(), self.pond_options()).await?;
        if self.options.verbose {
            let txn = pond.snapshot().await?.txn();
            detail(&format!("the pond in '{location}' is at transaction {txn}"));
        }
        self.tree(pond)
    }

    /// Returns where the pond is.
    ///
    /// # Errors
    /// `NotFound` if none is named and none is near; those of [`Location::parse`].
    pub fn require_location(&self) -> Result<Location> {
        self.location()?.ok_or_else(|| {
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
        let Some(location) = self.location()? else { return Ok(None) };
        self.open_at(location).await.map(Some)
    }

    fn tree(&self, pond: Pond) -> Result<Tree> {
        let pond = pond.restricted(self.policy.clone());
        let tree = Tree::new(pond).with_base_dir(working_dir()?);
        if let Some(bytes) = self.options.cache_bytes {
            tree.cache().set_budget(bytes);
        }
        tree.cache().observe(Some(progress::conversions()));
        Ok(tree)
    }

    /// Returns what `--pond` names.
    pub fn named_by_option(&self) -> Option<&Path> {
        let dir = self.named()?;
        let variable = std::env::var_os("POND").filter(|value| !value.is_empty());
        (variable.as_deref() != Some(dir.as_os_str())).then_some(dir)
    }

    /// Returns the directory or the URL of the pond that was named, by option or environment.
    pub fn named(&self) -> Option<&Path> {
        self.options.pond.as_deref()
    }

    /// Returns where the pond is, if it is named or is near.
    ///
    /// # Errors
    /// Those of [`Location::parse`].
    pub fn location(&self) -> Result<Option<Location>> {
        if let Some(place) = self.named() {
            return location_of(place).map(Some);
        }
        let here = working_dir()?;
        let near = here.ancestors().map(|dir| dir.join(init::POND_DIR)).find(|dir| dir.is_dir());
        Ok(near.map(Location::Local))
    }

    /// Returns how ponds are opened and made.
    pub fn pond_options(&self) -> PondOptions {
        PondOptions { durability: self.options.durability.unwrap_or_default() }
    }

    /// Returns the format of rows asked for, if one was, be it by the ending of a file.
    ///
    /// # Errors
    /// `Unsupported` for a picture.
    pub fn format(&self) -> Result<Option<Format>> {
        let Options { format, output, .. } = &self.options;
        let Some(name) = format else { return Ok(output.as_deref().and_then(Format::of_path)) };
        Format::parse(name).map(Some).map_err(|_| {
            Error::unsupported(format!("format {name} is for pictures of lineage, not for rows"))
                .with_hint(format!("pond lineage PATH --format {name} draws one"))
        })
    }

    /// Whether `--format` was given.
    pub fn names_format(&self) -> bool {
        self.options.format.is_some()
    }

    /// Returns the picture asked for, if one was.
    pub fn picture(&self) -> Option<Picture> {
        let Options { format, output, .. } = &self.options;
        let ending = || output.as_deref()?.extension()?.to_str();
        let name = format.as_deref().or_else(ending)?;
        Picture::parse(name).ok()
    }

    /// Returns how rows are written.
    ///
    /// # Errors
    /// `Unsupported` for a picture; `Invalid` for a format of bytes that would go to a terminal.
    pub fn style(&self) -> Result<Style> {
        let on_terminal = self.options.output.is_none() && std::io::stdout().is_terminal();
        let given = self.format()?;
        if given.is_none()
            && let Some(path) = &self.options.output
            && let Some(ending) = path.extension().and_then(|ending| ending.to_str())
            && COMPRESSED.contains(&ending)
        {
            let name = path.display();
            return Err(Error::unsupported(format!("'{name}': rows are not written compressed"))
                .with_hint(format!("pond … --format csv | gzip > {name}, or -o FILE.parquet")));
        }
        let format = match given.or(self.options.default_format) {
            Some(format) => format,
            None if on_terminal => Format::Table,
            None => Format::Csv,
        };
        // Into a file that is a picture a chart goes as one.
        let format = match self.options.output.as_deref().and_then(Format::of_path) {
            Some(picture @ (Format::Svg | Format::Png)) if format == Format::Chart => picture,
            _ => format,
        };
        if on_terminal && format.is_binary() {
            return Err(results::not_for_a_terminal(format));
        }
        let width = || terminal_size::terminal_size().map_or(80, |(width, _)| width.0.into());
        Ok(Style {
            format,
            header: !self.options.no_header,
            null: self.options.null.clone(),
            rows_max: self.options.max_rows,
            terminal: on_terminal
                .then(|| Terminal { width: width(), color: self.options.color.on(true) }),
        })
    }

    /// Begins to write rows.
    ///
    /// # Errors
    /// Those of [`Shell::style`] and [`Shell::stdout`].
    pub fn results(&self) -> Result<Results> {
        // What a pager opens and writes is its own business.
        let paging = if self.policy.allows_host() { self.options.pager } else { Paging::Never };
        Ok(Results::new(self.style()?, paging, self.stdout()?))
    }

    /// Opens the standard output, or what is there in its stead.
    ///
    /// # Errors
    /// What the host says of the file.
    pub fn stdout(&self) -> Result<Stdout> {
        let Some(path) = &self.options.output else {
            // Not std's own handle, which looks for line ends in all that passes.
            let stdout = std::io::stdout().as_fd().try_clone_to_owned();
            return Ok(BufWriter::new(File::from(stdout.map_err(output::write_error)?)));
        };
        let mut file = self.file.borrow_mut();
        if file.is_none() {
            self.policy.check_host(path, Access::Write)?;
            // A file that is half written is removed.
            interrupt::hold();
            *file = Some(NewFile::create(path)?);
        }
        file.as_ref().expect("it was made").handle().map(BufWriter::new)
    }

    /// Puts the file that was written, if there is one, at its place.
    fn publish(&self) -> Result<()> {
        self.file.take().map_or(Ok(()), NewFile::publish)
    }

    /// Leaves the file that was to be written, if there is one, as it was.
    pub fn discard(&self) {
        if self.file.take().is_some() {
            let path = self.options.output.as_deref().unwrap_or(Path::new(""));
            note(&format!("'{}' is left as it was", path.display()));
        }
    }
}

/// Returns what a directory or a URL given at the shell names.
///
/// # Errors
/// Those of [`Location::parse`].
pub fn location_of(place: &Path) -> Result<Location> {
    match place.to_str() {
        Some(text) => Location::parse(text),
        // No URL has such a name.
        None => Ok(place.into()),
    }
}

fn working_dir() -> Result<PathBuf> {
    std::env::current_dir().map_err(|error| Error::io("the working directory", error))
}

fn format_parser() -> impl TypedValueParser<Value = String> {
    let rows = Format::ALL.into_iter().map(Format::as_str);
    let pictures = Picture::ALL.into_iter().map(Picture::as_str);
    let names = rows.chain(pictures.filter(|name| Format::parse(name).is_err()));
    PossibleValuesParser::new(names)
}

fn durability_parser() -> impl TypedValueParser<Value = Durability> {
    PossibleValuesParser::new(["full", "process"])
        .map(|name| name.parse().expect("one of its names"))
}
