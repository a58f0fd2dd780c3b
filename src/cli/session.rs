//! A session: statements and commands, one after another, from a script or a terminal.
//!
//! A statement ends with `;` and may take many lines. A line that begins with `\` or `.` where a
//! statement could begin is a command. Texts come in whole ([`Session::run_text`]: an argument, a
//! file) or line by line ([`Feed`]: a pipe, a terminal), and mean the same. A command may also end the
//! line of a statement (`SELECT 1 \watch`).
//!
//! # Giving up
//! On a terminal, a statement is a task of its own, and this thread only takes its rows and writes them.
//! Ctrl-C so ends the wait whatever the task is at: it is told to end, and nothing of it reaches the
//! terminal any more, which it never had. It ends where it next waits for something. Until then it may
//! hold the session's transaction: the next statement waits for its end, and what it had changed by then
//! is told. So no two statements of a session are ever at work in one transaction.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{BufRead, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use pond::context::{Output, OutputKind, PondContext};
use pond::error::Place;
use pond::output::{self, Format, Style, Written};
use pond::policy::Access;
use pond::sql::{Piece, PieceKind, Statement, is_complete, pieces};
use pond::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::commands::Command;
use super::progress::Running;
use super::report::{detail, exit_code, note, report, tell};
use super::results::{NewFile, Results};
use super::{Stdout, engine_of_tasks, interrupt};

/// How often a wait is looked up from, for Ctrl-C and progress.
pub const LOOK: Duration = Duration::from_millis(20);
/// How long a statement that is given up is waited for, to tell what became of it.
const GRACE: Duration = Duration::from_millis(60);
/// How long the next one waits for it before that is said.
const TELL: Duration = Duration::from_millis(500);
/// How long the end of a session waits for a statement that was given up.
const LEAVE: Duration = Duration::from_secs(1);
/// How many runtimes are kept of statements that were given up.
const LEFT_MAX: usize = 4;
/// What some editors put before all text.
const BOM: char = '\u{feff}';
/// How deep files of statements read each other.
const FILES_MAX: usize = 16;

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
    /// Whether somebody sits before it.
    pub is_interactive: bool,
    /// Whether it is told how long statements take.
    pub timing: bool,
    /// The last query, and the last statement or whatever was written last, as they were written.
    pub last_query: Option<String>,
    pub last_text: Option<String>,
    /// What is to be brought to the prompt.
    pub draft: Option<String>,
    /// Whether the format was chosen, and is not to be told from the names of files.
    pub has_format: bool,
    /// Where results go for the time being.
    redirected: Option<Redirected>,
    /// The statement that was given up and may not have ended.
    abandoned: Option<Abandoned>,
    /// Whether one was given up whose parts may keep the threads of the runtime busy.
    may_be_stuck: bool,
    /// What ran the statements that were given up.
    left: VecDeque<Runtime>,
    /// What runs statements now, for those who help at the prompt.
    handle: Arc<RwLock<Handle>>,
    /// How many files are being read, each by the one before.
    files: usize,
    /// Whether an error in one of them is passed over.
    pub files_keep_going: bool,
    /// The format before `\\x`.
    pub before_expanded: Option<Format>,
}

/// Results go to a file.
struct Redirected {
    file: NewFile,
    path: PathBuf,
    /// Whether a result is in it, whole.
    is_written: bool,
    /// Where they went before, and how.
    out: Stdout,
    style: Style,
    /// Whether it is for the next result only.
    is_once: bool,
}

/// A statement that was given up.
struct Abandoned {
    /// Yields whether it has changed the pond.
    task: JoinHandle<bool>,
    /// The pond's transaction before it; negative if that is not known.
    before: Arc<AtomicI64>,
    /// Whether it only reads, so that nothing has to wait for it outside of a transaction.
    only_reads: bool,
}

impl Session {
    /// Begins a session; errors end its scripts unless `keep_going`.
    pub fn new(runtime: Runtime, context: PondContext, results: Results, keep_going: bool) -> Self {
        let handle = Arc::new(RwLock::new(runtime.handle().clone()));
        Self {
            context,
            results,
            runtime,
            keep_going,
            failed: 0,
            is_interactive: false,
            timing: false,
            last_query: None,
            last_text: None,
            draft: None,
            has_format: false,
            redirected: None,
            abandoned: None,
            may_be_stuck: false,
            left: VecDeque::new(),
            handle,
            files: 0,
            files_keep_going: keep_going,
            before_expanded: None,
        }
    }

    /// Returns the handle to what runs statements, which is another one when it has to be.
    pub fn handle(&self) -> Arc<RwLock<Handle>> {
        self.handle.clone()
    }

    /// Makes sure that statements can run after one was given up: an operator may be at one batch for
    /// minutes, and with as many of them as there are threads nothing else would. The threads that may
    /// be busy are left to what they are at, and to what is done in the background.
    fn unstick(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.may_be_stuck) {
            return Ok(());
        }
        let old = std::mem::replace(&mut self.runtime, engine_of_tasks()?);
        *self.handle.write().expect("never poisoned") = self.runtime.handle().clone();
        self.left.push_back(old);
        if self.left.len() > LEFT_MAX
            && let Some(oldest) = self.left.pop_front()
        {
            oldest.shutdown_background();
        }
        Ok(())
    }

    /// Runs a file that a command names.
    ///
    /// # Errors
    /// As [`Session::run_text`]; `Io`; `Limit` for files that read each other without end.
    pub fn run_file(&mut self, name: &str, text: &str) -> Result<()> {
        if self.files >= FILES_MAX {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("'{name}': files read each other more than {FILES_MAX} deep"),
            ));
        }
        self.files += 1;
        // At the prompt errors are passed over, in a file they are not.
        let keep_going = std::mem::replace(&mut self.keep_going, self.files_keep_going);
        let done = self.run_text(Some(name), text);
        self.keep_going = keep_going;
        self.files -= 1;
        done
    }

    /// Sends results to a file, which is there once they go elsewhere again.
    ///
    /// # Errors
    /// What the host says of it, or of the one before.
    pub fn redirect(&mut self, path: &Path, is_once: bool) -> Result<()> {
        self.end_redirect()?;
        self.context.tree().policy().check_host(path, Access::Write)?;
        // A file that is half written is removed.
        interrupt::hold();
        let file = NewFile::create(path)?;
        let out = self.results.redirect(BufWriter::new(file.handle()?));
        let style = self.results.style.clone();
        let now = &mut self.results.style;
        if !self.has_format {
            let on_terminal = now.terminal.is_some() && now.format == Format::Table;
            let otherwise = if on_terminal { Format::Csv } else { now.format };
            now.format = Format::of_path(path).unwrap_or(otherwise);
        }
        now.terminal = None;
        let path = path.to_owned();
        self.redirected = Some(Redirected { file, path, is_written: false, out, style, is_once });
        Ok(())
    }

    /// Returns the file that results go to, if a command has sent them there.
    pub fn redirected_to(&self) -> Option<&Path> {
        self.redirected.as_ref().map(|redirected| redirected.path.as_path())
    }

    /// Sends results to where they went before. A file that no result went to is left as it was.
    ///
    /// # Errors
    /// What the host says of the file.
    pub fn end_redirect(&mut self) -> Result<()> {
        let flushed = self.results.out().flush().map_err(output::write_error);
        match self.take_redirected() {
            Some(Redirected { file, is_written: true, .. }) => {
                flushed.and_then(|()| file.publish())
            }
            Some(_) | None => flushed,
        }
    }

    /// Sends results to where they went before, and says that what there is of the file is none.
    fn drop_redirect(&mut self) {
        if let Some(Redirected { path, .. }) = self.take_redirected() {
            note(&format!("'{}' is left as it was", path.display()));
        }
    }

    fn take_redirected(&mut self) -> Option<Redirected> {
        let mut redirected = self.redirected.take()?;
        // Its file has what it holds.
        let out = self.results.redirect(redirected.out);
        let style = redirected.style.clone();
        let format = if self.has_format { self.results.style.format } else { style.format };
        self.results.style = Style { format, ..style };
        redirected.out = out;
        Some(redirected)
    }

    /// Runs a whole text, `name`d if it is a file's.
    ///
    /// # Errors
    /// The first error, unless errors are passed over.
    pub fn run_text(&mut self, name: Option<&str>, text: &str) -> Result<()> {
        let text = text.strip_prefix(BOM).unwrap_or(text);
        self.run_lines(name, text.split_inclusive('\n').map(|line| Ok(line.to_owned())))
    }

    /// Runs what comes from standard input, as it comes.
    ///
    /// # Errors
    /// As [`Session::run_text`]; `Io`.
    pub fn run_stdin(&mut self) -> Result<()> {
        let name = "standard input";
        let mut input = std::io::stdin().lock();
        let mut is_first = true;
        let lines = std::iter::from_fn(|| {
            let mut line = String::new();
            match input.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(Err(Error::io(name, error))),
            }
            if std::mem::take(&mut is_first) && line.starts_with(BOM) {
                line.remove(0);
            }
            Some(Ok(line))
        });
        self.run_lines(Some(name), lines)
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
            Unit::Statements { text, name, lines_before, then } => {
                return self.run_with(&text, name.as_deref(), lines_before, then.as_deref());
            }
        };
        match done {
            Ok(ends) => Ok(ends),
            Err(error) => self.pass_over(error).map(|()| false),
        }
    }

    /// Runs statements, and then the command at the end of their line.
    fn run_with(
        &mut self,
        text: &str,
        name: Option<&str>,
        lines_before: u64,
        then: Option<&str>,
    ) -> Result<bool> {
        let Some(then) = then else {
            return self.run_statements(text, name, lines_before).map(|()| false);
        };
        let done = Command::parse(then).and_then(|command| {
            if command.takes_query() {
                self.last_query = Some(text.trim().to_owned());
                self.last_text = self.last_query.clone();
            } else {
                self.run_statements(text, name, lines_before)?;
            }
            command.run(self)
        });
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
        let is_over = |redirected: &Redirected| redirected.is_once && redirected.is_written;
        if self.redirected.as_ref().is_some_and(is_over) {
            self.end_redirect()?;
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
        let text = statement.text().to_owned();
        let done = match self.is_interactive {
            true => self.run_apart(statement),
            false => {
                let Self { context, results, runtime, .. } = self;
                let work = async {
                    let result = context.execute(statement).await?;
                    let kind = result.kind;
                    Ok((kind, results.write(result).await?))
                };
                block_on(runtime, work)
            }
        };
        if let Ok((OutputKind::Rows, _)) = &done {
            self.last_query = Some(text.clone());
            if let Some(redirected) = &mut self.redirected {
                redirected.is_written = true;
            }
        }
        self.last_text = Some(text);
        if self.results.take_torn() {
            self.drop_redirect();
        }
        let is_done = matches!(done, Ok((OutputKind::Done, _)));
        let written = done.map(|(_, written)| written).map_err(|error| {
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
        if let (true, Some(name)) = (is_done, session_table(origin.text())) {
            note(&format!(
                "'{name}' is there until this session ends; a path in quotes makes one of the pond: '/{name}'"
            ));
        }
        let took = begun.elapsed().as_millis();
        match self.timing {
            true => tell(&format!("Time: {took} ms"), json!({"level": "time", "ms": took as u64})),
            false => detail(&format!("it took {took} ms")),
        }
        written
    }

    /// Runs a statement as a task of its own, so that it can be left.
    fn run_apart(&mut self, statement: Statement) -> Result<(OutputKind, Written)> {
        self.unstick()?;
        self.wait_for_abandoned()?;
        let only_reads = only_reads(statement.text());
        let context = self.context.clone();
        let before = Arc::new(AtomicI64::new(-1));
        let (head, begun) = oneshot::channel();
        let (rows, mut received) = mpsc::channel(2);
        let seen = before.clone();
        let task = self.runtime.spawn(async move {
            if let Ok(snapshot) = context.tree().snapshot().await {
                seen.store(snapshot.txn(), Ordering::Relaxed);
            }
            // Whoever gave it up reads nothing.
            match context.execute(statement).await {
                Err(error) => {
                    let _ = head.send(Err(error));
                    false
                }
                Ok(mut output) => {
                    let kind = output.kind;
                    let none = Box::pin(EmptyRecordBatchStream::new(output.schema()));
                    let mut stream = std::mem::replace(&mut output.stream, none);
                    let _ = head.send(Ok(output));
                    while let Some(batch) = stream.next().await {
                        if rows.send(batch).await.is_err() {
                            break;
                        }
                    }
                    kind == OutputKind::Change
                }
            }
        });
        let progress = RefCell::new(Running::begin());
        let results = &mut self.results;
        let first_sign = async {
            let broken = || Error::new(ErrorKind::Engine, "the statement broke off");
            begun.await.map_err(|_| broken())?
        };
        let head = wait(&self.runtime, first_sign, || progress.borrow_mut().tick());
        let done = head.and_then(|output| {
            // The line of progress is gone before the first row.
            let (kind, schema) = (output.kind, output.schema());
            let mut rows = stream::poll_fn(move |cx| received.poll_recv(cx)).peekable();
            let first = async {
                Pin::new(&mut rows).peek().await;
                Ok(())
            };
            wait(&self.runtime, first, || progress.borrow_mut().tick())?;
            progress.borrow_mut().end();
            let stream = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
            let written = results.write(Output { stream, ..output });
            Ok((kind, wait(&self.runtime, written, || ())?))
        });
        drop(progress);
        match done {
            Err(error) if error.kind() == ErrorKind::Cancelled => {
                task.abort();
                self.may_be_stuck = true;
                self.abandoned = Some(Abandoned { task, before, only_reads });
                let until = Instant::now() + GRACE;
                while Instant::now() < until && self.is_abandoned_busy() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                if !self.is_abandoned_busy() {
                    self.tell_of_abandoned();
                }
                Err(error)
            }
            // Its rows end early, too, when it breaks.
            Ok(done) => wait(&self.runtime, joined(task), || ()).map(|()| done),
            Err(error) => Err(error),
        }
    }

    fn is_abandoned_busy(&self) -> bool {
        self.abandoned.as_ref().is_some_and(|abandoned| !abandoned.task.is_finished())
    }

    /// Waits for the end of the statement that was given up.
    fn wait_for_abandoned(&mut self) -> Result<()> {
        let is_free = !self.context.in_transaction();
        if self.abandoned.as_ref().is_some_and(|abandoned| abandoned.only_reads && is_free) {
            self.abandoned = None;
        }
        let begun = Instant::now();
        let mut is_told = false;
        while self.is_abandoned_busy() {
            if interrupt::take() {
                return Err(cancelled());
            }
            if !is_told && begun.elapsed() > TELL {
                note(
                    "waiting for the statement that was given up to end; Ctrl-C gives this one up",
                );
                is_told = true;
            }
            std::thread::sleep(LOOK);
        }
        self.tell_of_abandoned();
        Ok(())
    }

    /// Tells what became of a statement that was given up and has ended.
    fn tell_of_abandoned(&mut self) {
        let Some(Abandoned { task, before, .. }) = self.abandoned.take() else { return };
        let before = before.load(Ordering::Relaxed);
        let context = &self.context;
        let ended = wait(&self.runtime, async { Ok(task.await) }, || ());
        if let Ok(Ok(true)) = ended {
            note("the statement had made its changes before it was given up");
            return;
        }
        let now = wait(&self.runtime, async { context.tree().snapshot().await }, || ());
        if let Ok(now) = now
            && before >= 0
            && now.txn() > before
        {
            note(&format!(
                "there is a new transaction, {}, perhaps of the statement that was given up: SHOW LOG \
                 tells",
                now.txn()
            ));
        }
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
        // One that was given up may hold it, and whatever it does is given up with the process.
        let until = Instant::now() + LEAVE;
        while self.is_abandoned_busy() {
            if Instant::now() >= until {
                return true;
            }
            std::thread::sleep(LOOK);
        }
        self.runtime.block_on(self.context.roll_back())
    }

    /// Ends the session and returns the exit code; a transaction that a script has left open is an
    /// error, and rolled back.
    pub fn end(mut self, outcome: Result<()>) -> Result<i32> {
        let outcome = match outcome {
            Ok(()) => self.end_redirect(),
            Err(error) => {
                self.drop_redirect();
                Err(error)
            }
        };
        for left in self.left.drain(..) {
            left.shutdown_background();
        }
        if self.is_abandoned_busy() {
            self.runtime.shutdown_background();
            return outcome.map(|()| self.failed);
        }
        let Self { context, runtime, failed, .. } = self;
        let outcome = runtime.block_on(async {
            // What was put off until the rows were out.
            context.tree().cache().idle().await;
            context.settle().await;
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
    if interrupt::is_held_for_good() {
        return wait(runtime, work, || ());
    }
    runtime.block_on(async {
        if !interrupt::is_held() {
            return work.await;
        }
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Err(cancelled()),
            done = work => done,
        }
    })
}

/// Runs `work` on this thread to its end, or until Ctrl-C, and does `meanwhile` what is to be done while
/// it waits.
///
/// The runtime's own way to wait for a signal needs one of its threads, all of which may be busy.
fn wait<T>(
    runtime: &Runtime,
    work: impl Future<Output = Result<T>>,
    mut meanwhile: impl FnMut(),
) -> Result<T> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        if interrupt::take() {
            return Err(cancelled());
        }
        // A turn of the runtime's, which work that never waits gives back when it has had its share.
        let turn = std::future::poll_fn(|_| Poll::Ready(work.as_mut().poll(&mut cx)));
        if let Poll::Ready(done) = runtime.block_on(turn) {
            return done;
        }
        meanwhile();
        std::thread::park_timeout(LOOK);
    }
}

/// Wakes the thread that waits.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Whether a statement changes nothing, by its words.
fn only_reads(text: &str) -> bool {
    let pieces = pieces(text);
    let mut words = pieces.iter().filter(|piece| piece.kind != PieceKind::Comment);
    let is_one_of = |piece: &Piece, words: &[&str]| {
        words.iter().any(|word| text[piece.range.clone()].eq_ignore_ascii_case(word))
    };
    let asks =
        ["select", "with", "values", "from", "table", "show", "describe", "desc", "summarize"];
    words.next().is_some_and(|first| is_one_of(first, &asks))
        && !words.any(|word| is_one_of(word, &["insert", "update", "delete", "into"]))
}

/// Returns the name of the table or view that a statement makes for the session alone.
fn session_table(text: &str) -> Option<&str> {
    let words = pieces(text).into_iter().filter(|piece| piece.kind != PieceKind::Comment);
    let mut words = words.map(|piece| &text[piece.range]);
    if !words.next()?.eq_ignore_ascii_case("create") {
        return None;
    }
    let is_what =
        |word: &&str| ["table", "view"].iter().any(|known| word.eq_ignore_ascii_case(known));
    words.by_ref().take(4).find(is_what)?;
    let between = ["if", "not", "exists"];
    words.find(|word| !between.iter().any(|known| word.eq_ignore_ascii_case(known)))
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "cancelled")
}

/// Waits for the end of a task, which may have broken.
async fn joined(task: JoinHandle<bool>) -> Result<()> {
    let broken =
        |error| Error::new(ErrorKind::Engine, "the statement broke off").with_source(error);
    task.await.map(drop).map_err(broken)
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
        /// The command at the end of their last line.
        then: Option<String>,
    },
}

/// Returns where a text of statements ends in a command: `SELECT 1 \watch`.
fn command_at(text: &str) -> Option<usize> {
    // Nowhere else outside of quotes does a statement hold a backslash.
    let is_command =
        |at: usize| text[at + 1..].starts_with(|c: char| c.is_alphabetic() || c == '?');
    pieces(text)
        .into_iter()
        .filter(|piece| piece.kind == PieceKind::Symbol && text[piece.range.clone()] == *"\\")
        .map(|piece| piece.range.start)
        .find(|at| is_command(*at))
}

/// Whether a text can be run: it is a command, or its statements are complete.
pub fn is_ready(text: &str) -> bool {
    let first = text.lines().find(|line| !line.trim().is_empty());
    first.is_none_or(Command::is_one)
        || is_complete(text)
        || (text.contains('\\') && command_at(text).is_some())
}

/// Puts lines together to what can be run.
#[derive(Debug)]
pub struct Feed {
    name: Option<String>,
    text: String,
    /// Whether there is more than comments in it.
    has_begun: bool,
    /// What ends the quote or comment that the text ends within.
    open: Option<&'static str>,
    lines_before: u64,
    lines: u64,
}

impl Feed {
    /// Begins a text, `name`d if it is a file's.
    pub fn new(name: Option<&str>) -> Self {
        Self {
            name: name.map(str::to_owned),
            text: String::new(),
            has_begun: false,
            open: None,
            lines_before: 0,
            lines: 0,
        }
    }

    /// Forgets the statement that has begun.
    pub fn clear(&mut self) {
        self.text.clear();
        self.has_begun = false;
        self.open = None;
        self.lines_before = self.lines;
    }

    /// Takes a line with its end, and returns what is complete with it.
    pub fn line(&mut self, line: &str) -> Option<Unit> {
        self.lines += 1;
        if !self.has_begun && Command::is_one(line) {
            self.clear();
            let text = line.trim().to_owned();
            return Some(Unit::Command { text, origin: self.name.clone(), line: self.lines });
        }
        self.text.push_str(line);
        if !line.ends_with('\n') {
            self.text.push('\n');
        }
        // Within a quote nothing is complete, and a text of many lines is not looked at for each.
        if self.open.is_some_and(|end| !line.contains(end)) {
            return None;
        }
        if !self.has_begun {
            let pieces = pieces(&self.text);
            let is_more = |piece: &Piece| piece.kind != PieceKind::Comment || piece.is_open;
            if !pieces.iter().any(is_more) {
                self.clear();
                return None;
            }
            self.has_begun = true;
        }
        if line.contains('\\')
            && let Some(at) = command_at(&self.text)
        {
            let command = self.text.split_off(at).trim().to_owned();
            let mut unit = self.end()?;
            if let Unit::Statements { then, .. } = &mut unit {
                *then = Some(command);
            }
            return Some(unit);
        }
        // Only a semicolon can complete a statement: not every line needs a look at all.
        if !line.contains(';') {
            return None;
        }
        if is_complete(&self.text) {
            return self.end();
        }
        let last = pieces(&self.text).pop().filter(|last| last.is_open);
        self.open = last.and_then(|last| match self.text[last.range].chars().next() {
            Some('\'') => Some("'"),
            Some('"') => Some("\""),
            Some('/') => Some("*/"),
            _ => None,
        });
        None
    }

    /// Returns what there is: a script may leave out its last semicolon.
    pub fn end(&mut self) -> Option<Unit> {
        let lines_before = self.lines_before;
        let text = std::mem::take(&mut self.text);
        self.clear();
        let name = self.name.clone();
        (!text.trim().is_empty()).then_some(Unit::Statements {
            text,
            name,
            lines_before,
            then: None,
        })
    }
}
