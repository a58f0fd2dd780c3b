//! The interactive shell: statements that end with `;`, and commands that begin with `\` or `.`.
//!
//! A statement may take many lines, which are edited as one text. An error does not end the session;
//! Ctrl-C gives up what is being typed or run, Ctrl-D leaves. `helper` highlights and completes,
//! `history` keeps what was typed from one session to the next. What `rc` in `pond` below
//! `$XDG_CONFIG_HOME` (`~/.config`) holds is run first; nothing is ever read from the working directory.
//!
//! The prompt comes at once: functions and directories are looked at when something is completed.
//!
//! When stdin is not a terminal the same lines are read from it without prompts, as a script.

mod helper;
mod history;

use std::io::IsTerminal;
use std::path::PathBuf;

use pond::policy::Access;
use pond::{Error, ErrorKind, Result};
use rustyline::error::ReadlineError;
use rustyline::history::DefaultHistory;
use rustyline::{ColorMode, CompletionType, Config, Editor};

use crate::cli::args::note_unused;
use crate::cli::report::{note, report, say};
use crate::cli::session::{Feed, Session};
use crate::cli::sql::on_cluster;
use crate::cli::{Interactive, Outcome, Shell, engine, engine_of_tasks, interrupt};
use helper::Helper;
use history::History;

/// Candidates that are listed without a question.
const LISTED_MAX: usize = 200;

/// Runs a session without a verb until its input ends.
pub fn run(how: &Interactive, shell: &Shell) -> Outcome {
    let results = shell.results()?;
    // Prompts would go among the data of a stdout that is no terminal.
    let interactive = std::io::stdin().is_terminal() && results.is_terminal();
    let runtime = if interactive { engine_of_tasks()? } else { engine()? };
    let params = how.params.values()?;
    let context = on_cluster(runtime.block_on(shell.context())?, how.cluster.as_deref())?;
    let context = context.build().with_params(params.clone());
    let mut session = Session::new(runtime, context, results, interactive || how.keep_going);
    session.has_format = shell.format()?.is_some();
    if !interactive {
        let outcome = session.run_stdin();
        let code = session.end(outcome)?;
        if code != 0 {
            shell.discard();
        }
        note_unused(&params);
        return Ok(code);
    }
    interrupt::hold_for_good();
    session.is_interactive = true;
    session.files_keep_going = how.keep_going;
    let mut terminal = Terminal::open(&session)?;
    // stdout carries data alone, whatever it is.
    say(&format!("pond {}: \\? for help, \\q to leave\n", env!("CARGO_PKG_VERSION")));
    if !how.no_init {
        run_rc(&mut session);
    }
    converse(&mut session, &mut terminal)?;
    if session.roll_back() {
        note("the open transaction was rolled back");
    }
    session.end(Ok(()))?;
    Ok(0)
}

/// Runs what the user wants at the beginning of each session.
fn run_rc(session: &mut Session) {
    let Some(file) = user_dir("XDG_CONFIG_HOME", ".config").map(|dir| dir.join("rc")) else {
        return;
    };
    if session.context.tree().policy().check_host(&file, Access::Read).is_err() {
        return;
    }
    let name = file.display().to_string();
    let done = match std::fs::read_to_string(&file) {
        Ok(text) => session.run_text(Some(&name), &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format!("'{name}'"), error)),
    };
    tell(done);
    session.results.restart();
}

fn converse(session: &mut Session, terminal: &mut Terminal) -> Result<()> {
    loop {
        let draft = session.draft.take().unwrap_or_default();
        let text = match terminal.next(&prompt(session), &draft)? {
            Input::Text(text) => text,
            Input::Interrupted => continue,
            Input::End => return Ok(()),
        };
        terminal.remember(text.trim());
        // One that came while there was nothing to give up is past.
        interrupt::take();
        if run_typed(session, &text) {
            return Ok(());
        }
    }
}

/// Runs what was typed, and returns whether the session is to end.
fn run_typed(session: &mut Session, text: &str) -> bool {
    let mut feed = Feed::new(None);
    let mut lines = text.split_inclusive('\n');
    loop {
        let line = lines.next();
        let unit = match line {
            Some(line) => feed.line(line),
            None => feed.end(),
        };
        if let Some(unit) = unit {
            session.results.restart();
            match session.run_unit(unit) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tell(Err(error));
                    return false;
                }
            }
        }
        if line.is_none() {
            return false;
        }
    }
}

fn tell(done: Result<()>) {
    match done {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Cancelled => note("cancelled"),
        Err(error) => report(&error),
    }
}

/// A `*` tells that a transaction is open.
fn prompt(session: &Session) -> String {
    let open = if session.context.in_transaction() { "*" } else { "" };
    match session.context.directory() {
        directory if directory.is_root() => format!("pond{open}> "),
        directory => {
            format!("pond:{}{open}> ", pond::output::escape_controls(directory.as_str()))
        }
    }
}

/// What the user gave when asked for something.
enum Input {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    End,
}

/// Texts edited on a terminal.
struct Terminal {
    editor: Editor<Helper, DefaultHistory>,
    history: Option<History>,
}

impl Terminal {
    fn open(session: &Session) -> Result<Self> {
        let color = session.results.style.terminal.is_some_and(|terminal| terminal.color);
        let config = Config::builder()
            .max_history_size(history::ENTRIES_MAX)
            .map_err(terminal_error)?
            .completion_type(CompletionType::List)
            .completion_prompt_limit(LISTED_MAX)
            .color_mode(if color { ColorMode::Enabled } else { ColorMode::Disabled })
            .build();
        let mut editor = Editor::with_config(config).map_err(terminal_error)?;
        editor.set_helper(Some(Helper::new(session.context.clone(), session.handle())));
        let history = History::open(&mut editor, session.context.tree().policy());
        Ok(Self { editor, history })
    }

    fn next(&mut self, prompt: &str, draft: &str) -> Result<Input> {
        match self.editor.readline_with_initial(prompt, (draft, "")) {
            Ok(text) => Ok(Input::Text(text)),
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(terminal_error(error)),
        }
    }

    fn remember(&mut self, text: &str) {
        let Some(history) = &self.history else { return };
        if let Err(error) = history.add(&mut self.editor, text) {
            note(&format!("the history is not kept: {error}"));
            self.history = None;
        }
    }
}

fn terminal_error(error: ReadlineError) -> Error {
    Error::new(ErrorKind::Io, "the terminal").with_source(error)
}

/// Returns the directory of the user's own files of a kind; `None` if there is no home for one.
fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let dir = match std::env::var_os(variable).map(PathBuf::from) {
        Some(dir) if dir.is_absolute() => dir,
        _ => std::env::home_dir()?.join(below_home),
    };
    Some(dir.join("pond"))
}
