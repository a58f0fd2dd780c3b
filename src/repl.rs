//! The interactive shell: statements that end with `;`, and commands that begin with `\`.
//!
//! A statement may take many lines. An error does not end the session; Ctrl-C gives up what is
//! being typed or run, Ctrl-D leaves. The history is kept in `pond/history` below
//! `$XDG_STATE_HOME` (`~/.local/state`).
//!
//! When stdin is not a terminal the same lines are read from it without prompts; then the first
//! error ends the run, as in any script.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Instant;

use pond::context::PondContext;
use pond::output::{self, Format};
use pond::sql::{Script, is_complete};
use pond::{Error, Result};
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};
use tokio::runtime::Runtime;

use crate::cli::list::{How, list};
use crate::cli::sql::{Results, describe, end_transaction, quote, quoted, run_statement};
use crate::cli::{Failure, Outcome, Shell, check_format, engine, note, report, say};

const HELP: &str = "\
Statements end with ; and may take many lines.
  \\l [PATH|GLOB]   list a directory
  \\d [PATH]        describe a node; without a path, list the directory
  \\cd [PATH]       change the directory that relative paths count from
  \\f [FORMAT]      show or set how rows are written: table, csv, json
  \\h, \\?           this help
  \\q               leave (also Ctrl-D)
SHOW FACTORIES lists what CREATE NODE can make.
";

/// Most statements kept in the history.
const HISTORY_MAX: usize = 10_000;

/// Runs the session until its input ends.
pub fn run(shell: &Shell) -> Outcome {
    let format = shell.format()?.unwrap_or_default();
    let runtime = engine()?;
    let tree = runtime.block_on(shell.open_or_transient())?;
    let context = PondContext::new(tree);
    // Prompts would go among the data of a stdout that is no terminal.
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let results = Results::new(format, shell.stdout()?);
    let mut session = Session { runtime, context, results, interactive };
    if interactive {
        let mut lines = Terminal::open()?;
        // stdout carries data alone, whatever it is.
        say(&format!("pond {}: \\h for help, \\q to leave\n", env!("CARGO_PKG_VERSION")));
        session.run(&mut lines)
    } else {
        session.run(&mut Piped)
    }
}

/// What the user gave when asked for a line.
enum Input {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    End,
}

/// Where lines come from.
trait Lines {
    fn next(&mut self, prompt: &str) -> Result<Input>;
    /// Keeps what was entered for later sessions.
    fn remember(&mut self, text: &str);
}

struct Session {
    runtime: Runtime,
    context: PondContext,
    results: Results,
    interactive: bool,
}

impl Session {
    fn run(&mut self, lines: &mut dyn Lines) -> Outcome {
        let mut text = String::new();
        // Lines before `text`, so that errors can name a line of the whole input.
        let mut lines_before = 0;
        loop {
            let prompt = if text.is_empty() { self.prompt() } else { "   -> ".to_owned() };
            let line = match lines.next(&prompt)? {
                Input::Line(line) => line,
                Input::Interrupted => {
                    text.clear();
                    continue;
                }
                Input::End => {
                    // A script may leave out its last semicolon.
                    let last = match self.interactive {
                        true => Ok(()),
                        false => self.run_text(&text, lines_before),
                    };
                    return self.end(last);
                }
            };
            let ended = if text.is_empty()
                && let Some(command) = Command::parse(&line)
            {
                lines.remember(line.trim());
                lines_before += 1;
                command.and_then(|command| self.run_command(command)).map_err(Failure::from)
            } else {
                text.push_str(&line);
                text.push('\n');
                // Only a semicolon can complete a statement: not every line needs a look at all.
                if !line.contains(';') || !is_complete(&text) {
                    continue;
                }
                let text = std::mem::take(&mut text);
                lines.remember(text.trim());
                let done = self.run_text(&text, lines_before);
                lines_before += text.lines().count() as u64;
                done.map(|()| false)
            };
            match ended {
                Ok(true) => return self.end(Ok(())),
                Ok(false) => {}
                // Where there is someone to go on with, it is told and that is all.
                Err(failure) if self.interactive && !failure.is_closed_pipe() => report(&failure),
                Err(failure) => return self.end(Err(failure)),
            }
        }
    }

    /// Ends the session; a transaction that is open is rolled back.
    fn end(&mut self, outcome: Result<(), Failure>) -> Outcome {
        let Session { runtime, context, .. } = self;
        if self.interactive && outcome.is_ok() {
            if runtime.block_on(context.roll_back()) {
                note("the open transaction was rolled back");
            }
            return Ok(0);
        }
        runtime.block_on(async {
            context.tree().cache().idle().await;
            end_transaction(context, outcome).await
        })?;
        Ok(0)
    }

    /// A `*` tells that a transaction is open.
    fn prompt(&self) -> String {
        let open = if self.context.in_transaction() { "*" } else { "" };
        match self.context.directory() {
            directory if directory.is_root() => format!("pond{open}> "),
            directory => format!("pond:{directory}{open}> "),
        }
    }

    /// Runs the statements of a text that has `lines_before` it in the input.
    fn run_text(&mut self, text: &str, lines_before: u64) -> Result<(), Failure> {
        if self.interactive {
            self.results.restart();
        }
        for statement in Script::new(text) {
            let statement = statement.map_err(|error| {
                let begin = lines_before + 1;
                let place = format!("in what begins at line {begin}");
                Failure::new(error, (!self.interactive).then_some(place))
            })?;
            let place = (!self.interactive).then(|| {
                format!("line {}: {}", lines_before + statement.line(), quote(&statement))
            });
            let begun = Instant::now();
            let work = run_statement(&self.context, statement, &mut self.results);
            let rows = match cancellable(&self.runtime, self.interactive, work) {
                Ok(rows) => rows,
                Err(error) => return Err(Failure::new(error, place)),
            };
            match rows {
                Some(rows) if self.interactive => {
                    let plural = if rows == 1 { "" } else { "s" };
                    let time_ms = begun.elapsed().as_millis();
                    say(&format!("({rows} row{plural}, {time_ms} ms)\n"));
                }
                Some(_) => {}
                None => {
                    note("cancelled");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Runs a command and returns whether the session ends.
    fn run_command(&mut self, command: Command) -> Result<bool> {
        let Session { runtime, context, results, interactive } = self;
        results.restart();
        match command {
            Command::Quit => return Ok(true),
            Command::Help => {
                let out = results.out();
                out.write_all(HELP.as_bytes())
                    .and_then(|()| out.flush())
                    .map_err(output::write_error)?;
            }
            Command::List(path) => {
                let path = context.directory().join(path.as_deref().unwrap_or("."))?;
                let how = How { long: true, ..How::default() };
                let work = async {
                    let root = context.tree().root(context.snapshot().await?);
                    list(&root, &path, &how, None, results.out()).await
                };
                cancellable(runtime, *interactive, work)?;
            }
            Command::Describe(path) => {
                let path = context.directory().join(&path)?;
                let work = describe(context, &path, false, results);
                cancellable(runtime, *interactive, work)?;
            }
            Command::ChangeDirectory(path) => {
                let path = context.directory().join(path.as_deref().unwrap_or("/"))?;
                runtime.block_on(context.sql(&format!("USE {}", quoted(&path))))?;
            }
            Command::Format(None) => {
                let name = results.format.as_str();
                writeln!(results.out(), "{name}").map_err(output::write_error)?;
            }
            Command::Format(Some(format)) => results.format = format,
        }
        Ok(false)
    }
}

/// Runs `work`; in an interactive session, Ctrl-C drops it and `None` is returned.
fn cancellable<T>(
    runtime: &Runtime,
    interactive: bool,
    work: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    runtime.block_on(async {
        if !interactive {
            return work.await.map(Some);
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Ok(None),
            done = work => done.map(Some),
        }
    })
}

/// A line that is not SQL.
enum Command {
    Quit,
    Help,
    List(Option<String>),
    Describe(String),
    ChangeDirectory(Option<String>),
    Format(Option<Format>),
}

impl Command {
    /// Parses a line that begins a statement or is a command; `None` means a statement.
    fn parse(line: &str) -> Option<Result<Self>> {
        let line = line.trim().trim_end_matches(';').trim_end();
        if ["exit", "quit", ".exit", ".quit"].contains(&line.to_lowercase().as_str()) {
            return Some(Ok(Self::Quit));
        }
        let (name, argument) = match line.strip_prefix('\\')?.split_once(char::is_whitespace) {
            Some((name, argument)) => (name, Some(argument.trim())),
            None => (&line[1..], None),
        };
        // Paths may be quoted, as they are in SQL.
        let argument = argument.map(|text| match text.strip_prefix('\'') {
            Some(quoted) => quoted.strip_suffix('\'').unwrap_or(quoted).replace("''", "'"),
            None => text.to_owned(),
        });
        Some(match (name, argument) {
            ("q", None) => Ok(Self::Quit),
            ("h" | "?", None) => Ok(Self::Help),
            ("l", path) | ("d", path @ None) => Ok(Self::List(path)),
            ("d", Some(path)) => Ok(Self::Describe(path)),
            ("cd", path) => Ok(Self::ChangeDirectory(path)),
            ("f", None) => Ok(Self::Format(None)),
            ("f", Some(format)) => Format::parse(&format)
                .and_then(check_format)
                .map(|format| Self::Format(Some(format))),
            _ => Err(Error::invalid(format!("'{line}' is no command")).with_hint("\\h lists them")),
        })
    }
}

/// Lines edited on a terminal.
struct Terminal {
    editor: DefaultEditor,
    history: Option<PathBuf>,
}

impl Terminal {
    fn open() -> Result<Self> {
        let config =
            Config::builder().max_history_size(HISTORY_MAX).map_err(terminal_error)?.build();
        let mut editor = DefaultEditor::with_config(config).map_err(terminal_error)?;
        let history = history_file();
        if let Some(file) = history.as_deref().filter(|file| file.exists())
            && let Err(error) = editor.load_history(file)
        {
            note(&format!("the history '{}' cannot be read: {error}", file.display()));
        }
        Ok(Self { editor, history })
    }
}

impl Lines for Terminal {
    fn next(&mut self, prompt: &str) -> Result<Input> {
        match self.editor.readline(prompt) {
            Ok(line) => Ok(Input::Line(line)),
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(terminal_error(error)),
        }
    }

    fn remember(&mut self, text: &str) {
        let kept = match (self.editor.add_history_entry(text), &self.history) {
            (Ok(true), Some(file)) => self.editor.append_history(file).err(),
            (Ok(_), _) => None,
            (Err(error), _) => Some(error),
        };
        if let Some(error) = kept {
            note(&format!("the history is not kept: {error}"));
            self.history = None;
        }
    }
}

fn terminal_error(error: ReadlineError) -> Error {
    Error::new(pond::ErrorKind::Io, "the terminal").with_source(error)
}

/// Returns the history file, in a directory made for it; `None` if there is no home for one.
fn history_file() -> Option<PathBuf> {
    let state = match std::env::var_os("XDG_STATE_HOME").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        _ => std::env::home_dir()?.join(".local/state"),
    };
    let dir = state.join("pond");
    match std::fs::create_dir_all(&dir) {
        Ok(()) => Some(dir.join("history")),
        Err(error) => {
            note(&format!("the history is not kept: '{}': {error}", dir.display()));
            None
        }
    }
}

/// Lines of a file or pipe.
struct Piped;

impl Lines for Piped {
    fn next(&mut self, _prompt: &str) -> Result<Input> {
        let mut line = String::new();
        match std::io::stdin().read_line(&mut line) {
            Ok(0) => Ok(Input::End),
            Ok(_) => Ok(Input::Line(line.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => Err(Error::io("standard input", error)),
        }
    }

    fn remember(&mut self, _text: &str) {}
}
