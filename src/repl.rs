//! The interactive shell: statements that end with `;`, and commands that begin with `\` or `.`.
//!
//! A statement may take many lines. An error does not end the session; Ctrl-C gives up what is
//! being typed or run, Ctrl-D leaves. The history is kept in `pond/history` below
//! `$XDG_STATE_HOME` (`~/.local/state`).
//!
//! When stdin is not a terminal the same lines are read from it without prompts, as a script.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use pond::context::PondContext;
use pond::{Error, ErrorKind, Result};
use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use crate::cli::args::{Parameters, note_unused};
use crate::cli::report::{note, report, say};
use crate::cli::session::{Feed, Session, Unit};
use crate::cli::{Outcome, Shell, engine, interrupt};

/// Most statements kept in the history.
const HISTORY_MAX: usize = 10_000;

/// How a session without a verb runs.
#[derive(Debug, Args)]
pub struct Repl {
    /// Tell errors of a script and go on with the next statement; the exit code is that of the first
    #[arg(long)]
    keep_going: bool,

    #[command(flatten)]
    pub params: Parameters,
}

impl Repl {
    /// Runs the session until its input ends.
    pub fn run(self, shell: &Shell) -> Outcome {
        let results = shell.results()?;
        // Prompts would go among the data of a stdout that is no terminal.
        let interactive = std::io::stdin().is_terminal() && results.is_terminal();
        let runtime = engine()?;
        let params = self.params.values()?;
        let context = PondContext::new(runtime.block_on(shell.open_or_transient())?)
            .with_params(params.clone());
        let mut session = Session::new(runtime, context, results, interactive || self.keep_going);
        if !interactive {
            let outcome = session.run_stdin();
            let code = session.end(outcome)?;
            note_unused(&params);
            return Ok(code);
        }
        interrupt::hold_for_good();
        let mut terminal = Terminal::open()?;
        // stdout carries data alone, whatever it is.
        say(&format!("pond {}: \\? for help, \\q to leave\n", env!("CARGO_PKG_VERSION")));
        converse(&mut session, &mut terminal)?;
        if session.roll_back() {
            note("the open transaction was rolled back");
        }
        session.end(Ok(()))?;
        Ok(0)
    }
}

fn converse(session: &mut Session, terminal: &mut Terminal) -> Result<()> {
    let mut feed = Feed::new(None);
    loop {
        let prompt = if feed.has_begun() { "   -> ".to_owned() } else { prompt(session) };
        let unit = match terminal.next(&prompt)? {
            Input::Line(line) => feed.line(&line),
            Input::Interrupted => {
                feed.clear();
                None
            }
            Input::End => return Ok(()),
        };
        let Some(unit) = unit else { continue };
        match &unit {
            Unit::Command { text, .. } | Unit::Statements { text, .. } => {
                terminal.remember(text.trim());
            }
        }
        // What follows has lines of its own.
        feed = Feed::new(None);
        session.results.restart();
        match session.run_unit(unit) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => note("cancelled"),
            Err(error) => report(&error),
        }
    }
}

/// A `*` tells that a transaction is open.
fn prompt(session: &Session) -> String {
    let open = if session.context.in_transaction() { "*" } else { "" };
    match session.context.directory() {
        directory if directory.is_root() => format!("pond{open}> "),
        directory => format!("pond:{directory}{open}> "),
    }
}

/// What the user gave when asked for a line.
enum Input {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    End,
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
    Error::new(ErrorKind::Io, "the terminal").with_source(error)
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
