//! A session: statements and commands, one after another, from a script or a terminal.
//!
//! A statement ends with `;` and may take many lines. A line that begins with `\` or `.` where a
//! statement could begin is a command. Texts come in whole ([`Session::run_text`]: an argument, a
//! file) or line by line ([`Feed`]: a pipe, a terminal), and mean the same.

use std::io::BufRead;
use std::time::Instant;

use pond::context::PondContext;
use pond::error::Place;
use pond::output::Written;
use pond::sql::{Statement, is_complete};
use pond::{Error, ErrorKind, Result};
use tokio::runtime::Runtime;

use super::commands::Command;
use super::interrupt;
use super::report::{detail, exit_code, note, report};
use super::results::Results;

/// What runs statements, and what they share.
pub struct Session {
    /// The pond, and the settings that statements make.
    pub context: PondContext,
    /// Where rows go.
    pub results: Results,
    runtime: Runtime,
    /// Whether an error is told and passed over.
    keep_going: bool,
    /// The exit code of the first error that was passed over.
    failed: i32,
}

impl Session {
    /// Begins a session; errors end its scripts unless `keep_going`.
    pub fn new(runtime: Runtime, context: PondContext, results: Results, keep_going: bool) -> Self {
        Self { context, results, runtime, keep_going, failed: 0 }
    }

    /// Runs a whole text, `name`d if it is a file's.
    ///
    /// # Errors
    /// The first error, unless errors are passed over.
    pub fn run_text(&mut self, name: Option<&str>, text: &str) -> Result<()> {
        self.run_lines(name, text.lines().map(|line| Ok(line.to_owned())))
    }

    /// Runs what comes from standard input, as it comes.
    ///
    /// # Errors
    /// As [`Session::run_text`]; `Io`.
    pub fn run_stdin(&mut self) -> Result<()> {
        let name = "standard input";
        let lines = std::io::stdin().lock().lines();
        self.run_lines(Some(name), lines.map(|line| line.map_err(|error| Error::io(name, error))))
    }

    fn run_lines(
        &mut self,
        name: Option<&str>,
        lines: impl Iterator<Item = Result<String>>,
    ) -> Result<()> {
        let mut feed = Feed::new(name);
        for line in lines {
            if let Some(unit) = feed.line(&line?)
                && self.run_unit(unit)?
            {
                return Ok(());
            }
        }
        match feed.end() {
            Some(unit) => self.run_unit(unit).map(drop),
            None => Ok(()),
        }
    }

    /// Runs statements or a command, and returns whether the session is to end.
    ///
    /// # Errors
    /// The first error, unless errors are passed over.
    pub fn run_unit(&mut self, unit: Unit) -> Result<bool> {
        let done = match unit {
            Unit::Command { text, origin, line } => Command::parse(&text)
                .and_then(|command| command.run(self))
                .map_err(|error| locate_command(error, &text, origin.as_deref(), line)),
            Unit::Statements { text, name, lines_before } => {
                return self.run_statements(&text, name.as_deref(), lines_before).map(|()| false);
            }
        };
        match done {
            Ok(ends) => Ok(ends),
            Err(error) => self.pass_over(error).map(|()| false),
        }
    }

    /// Runs the statements of a text that has `lines_before` it.
    fn run_statements(&mut self, text: &str, name: Option<&str>, lines_before: u64) -> Result<()> {
        for statement in self.context.script(text).named(name, lines_before) {
            let done = statement.and_then(|statement| self.run_statement(statement).map(drop));
            if let Err(error) = done {
                self.pass_over(error)?;
            }
        }
        Ok(())
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// With its place, if that is not plain.
    pub fn run_statement(&mut self, statement: Statement) -> Result<Written> {
        let origin = statement.origin().clone();
        let begun = Instant::now();
        let Self { context, results, runtime, .. } = self;
        let work = async {
            let result = context.execute(statement).await?;
            results.write(result).await
        };
        let written = block_on(runtime, work).map_err(|error| {
            let error = origin.locate(error);
            let start = origin.start();
            let is_all = origin.text() == origin.script().trim().trim_end_matches(';').trim_end();
            match error.place() {
                // What was typed is there to see, unless there was more of it.
                None if !is_all || start.line > 1 || start.name.is_some() => {
                    error.with_place(start)
                }
                _ => error,
            }
        });
        detail(&format!("it took {} ms", begun.elapsed().as_millis()));
        written
    }

    /// Tells an error and goes on, where that is wanted.
    fn pass_over(&mut self, error: Error) -> Result<()> {
        if !self.keep_going || error.kind() == ErrorKind::Cancelled {
            return Err(error);
        }
        report(&error);
        if self.failed == 0 {
            self.failed = exit_code(&error);
        }
        Ok(())
    }

    /// Runs something other than a statement to its end, or until Ctrl-C where that is left to it.
    ///
    /// # Errors
    /// `Cancelled`; those of the work.
    pub fn work<T>(
        &mut self,
        work: impl AsyncFnOnce(&PondContext, &mut Results) -> Result<T>,
    ) -> Result<T> {
        let Self { context, results, runtime, .. } = self;
        block_on(runtime, work(context, results))
    }

    /// Rolls back the open transaction, and returns whether there was one.
    pub fn roll_back(&self) -> bool {
        self.runtime.block_on(self.context.roll_back())
    }

    /// Ends the session and returns the exit code; a transaction that a script has left open is an
    /// error, and rolled back.
    pub fn end(self, outcome: Result<()>) -> Result<i32> {
        let Self { context, runtime, failed, .. } = self;
        let outcome = runtime.block_on(async {
            // What was put off until the rows were out.
            context.tree().cache().idle().await;
            let was_open = context.roll_back().await;
            match outcome {
                Ok(()) if was_open => {
                    let error = Error::invalid(
                        "the script ends within a transaction, which was rolled back",
                    );
                    Err(error.with_hint("end it with COMMIT, or ROLLBACK"))
                }
                outcome => {
                    if was_open {
                        note("the open transaction was rolled back");
                    }
                    outcome
                }
            }
        });
        runtime.shutdown_background();
        outcome.map(|()| failed)
    }
}

/// Runs `work` to its end, or until Ctrl-C where that is left to it.
pub fn block_on<T>(runtime: &Runtime, work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime.block_on(async {
        if !interrupt::is_held() {
            return work.await;
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(Error::new(ErrorKind::Cancelled, "cancelled")),
            done = work => done,
        }
    })
}

fn locate_command(error: Error, text: &str, name: Option<&str>, line: u64) -> Error {
    match (error.place(), name) {
        (None, Some(name)) => {
            error.with_place(Place::of(text, 0..text.len(), line).named(Some(name)))
        }
        _ => error,
    }
}

/// What can be run by itself.
#[derive(Debug, PartialEq, Eq)]
pub enum Unit {
    /// A line that is a command.
    Command {
        /// The line.
        text: String,
        /// What the text is called that it is from.
        origin: Option<String>,
        /// Its number, from 1.
        line: u64,
    },
    /// Lines that hold statements, the last of which is complete.
    Statements {
        /// The lines.
        text: String,
        /// What the text is called that they are from.
        name: Option<String>,
        /// How many lines come before.
        lines_before: u64,
    },
}

/// Puts lines together to what can be run.
#[derive(Debug)]
pub struct Feed {
    name: Option<String>,
    text: String,
    lines_before: u64,
    lines: u64,
}

impl Feed {
    /// Begins a text, `name`d if it is a file's.
    pub fn new(name: Option<&str>) -> Self {
        Self { name: name.map(str::to_owned), text: String::new(), lines_before: 0, lines: 0 }
    }

    /// Whether a statement has begun.
    pub fn has_begun(&self) -> bool {
        !self.text.trim().is_empty()
    }

    /// Forgets the statement that has begun.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines_before = self.lines;
    }

    /// Takes a line, and returns what is complete with it.
    pub fn line(&mut self, line: &str) -> Option<Unit> {
        self.lines += 1;
        if !self.has_begun() && Command::is_one(line) {
            self.clear();
            let text = line.trim().to_owned();
            return Some(Unit::Command { text, origin: self.name.clone(), line: self.lines });
        }
        self.text.push_str(line);
        self.text.push('\n');
        // Only a semicolon can complete a statement: not every line needs a look at all.
        if line.contains(';') && is_complete(&self.text) { self.end() } else { None }
    }

    /// Returns what there is: a script may leave out its last semicolon.
    pub fn end(&mut self) -> Option<Unit> {
        let lines_before = self.lines_before;
        let text = std::mem::take(&mut self.text);
        self.clear();
        let name = self.name.clone();
        (!text.trim().is_empty()).then_some(Unit::Statements { text, name, lines_before })
    }
}
