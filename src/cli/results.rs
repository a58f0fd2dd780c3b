//! Where results go: to stdout, through a pager, or into a file that is there when it is complete.

use std::fs::{File, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use clap::ValueEnum;
use datafusion::execution::SendableRecordBatchStream;
use pond::context::{Output, OutputKind};
use pond::output::{self, Format, Style, Written};
use pond::{Error, Result};
use tempfile::NamedTempFile;

use super::{Stdout, change, interrupt, note};

/// A file that takes the place of the one at its path when it is complete, and leaves nothing if it
/// is dropped before.
#[derive(Debug)]
pub enum NewFile {
    /// Written beside its path.
    Beside(NamedTempFile, PathBuf),
    /// Something that cannot be replaced, such as `/dev/null` or a pipe.
    Special(File),
}

impl NewFile {
    /// Begins to write what will be at `path`.
    ///
    /// # Errors
    /// What the host says, with the path.
    pub fn create(path: &Path) -> Result<Self> {
        let named = |error| Error::io(format!("'{}'", path.display()), error);
        let there = match path.metadata() {
            Ok(there) => Some(there),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(named(error)),
        };
        if let Some(there) = &there {
            if there.is_dir() {
                return Err(Error::invalid(format!("'{}' is a directory", path.display())));
            }
            // What may not be written may not be replaced.
            let file = File::options().write(true).open(path).map_err(named)?;
            if !there.is_file() {
                return Ok(Self::Special(file));
            }
        }
        // A link stays, and what it leads to is replaced, or made.
        let path = match there {
            Some(_) => path.canonicalize().map_err(named)?,
            None => end_of_links(path),
        };
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = tempfile::Builder::new()
            .prefix(&format!(".{name}."))
            // As any new file: what the umask leaves.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(dir)
            .map_err(named)?;
        if let Some(there) = there {
            file.as_file().set_permissions(there.permissions()).map_err(named)?;
        }
        Ok(Self::Beside(file, path))
    }

    /// Returns a handle to write with.
    pub fn handle(&self) -> Result<File> {
        match self {
            Self::Beside(file, _) => file.as_file().try_clone(),
            Self::Special(file) => file.try_clone(),
        }
        .map_err(output::write_error)
    }

    /// Puts it at its path.
    pub fn publish(self) -> Result<()> {
        let Self::Beside(file, path) = self else { return Ok(()) };
        let named = |error| Error::io(format!("'{}'", path.display()), error);
        file.as_file().sync_data().map_err(named)?;
        file.persist(&path).map(drop).map_err(|error| named(error.error))
    }
}

/// Returns the place that a path leads to where nothing is. Links that lead in a circle are no such
/// path.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    while let Ok(target) = path.read_link() {
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    path
}

/// When a pager is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Paging {
    /// On a terminal, for what does not fit.
    #[default]
    Auto,
    Never,
}

/// Writes the results of statements, one after another.
pub struct Results {
    /// How rows are written.
    pub style: Style,
    /// When a pager is used.
    pub paging: Paging,
    out: Stdout,
    is_terminal: bool,
    /// Whether the table that comes next begins the output.
    is_first: bool,
    /// Whether the reader has gone: changes go on, rows are of no use any more.
    closed: bool,
    /// Whether a result was begun, and not written to its end.
    is_torn: bool,
}

impl Results {
    /// Begins to write to `out`.
    pub fn new(style: Style, paging: Paging, out: Stdout) -> Self {
        let is_terminal = out.get_ref().is_terminal();
        Self { style, paging, out, is_terminal, is_first: true, closed: false, is_torn: false }
    }

    /// Sends what follows elsewhere, and returns where it went.
    pub fn redirect(&mut self, out: Stdout) -> Stdout {
        self.is_terminal = out.get_ref().is_terminal();
        self.is_first = true;
        self.closed = false;
        std::mem::replace(&mut self.out, out)
    }

    /// Whether the rows are seen by somebody at once.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Begins anew, for the next statement of a session; a file of one result has just one.
    pub fn restart(&mut self) {
        if self.style.format.holds_many() || self.is_terminal {
            self.is_first = true;
        }
    }

    /// Returns the stream behind.
    pub fn out(&mut self) -> &mut Stdout {
        &mut self.out
    }

    /// Writes the rows of a result, or tells what it changed.
    ///
    /// # Errors
    /// Those of [`output::write`]; `Unsupported` for the rows of a second query where the format holds
    /// those of one.
    pub async fn write(&mut self, result: Output) -> Result<Written> {
        match result.kind {
            OutputKind::Change => return Ok(change::tell_output(&result)),
            OutputKind::Done => return run_through(result).await,
            // What would change nothing does not have to run.
            OutputKind::Rows if self.closed => return Ok(Written::default()),
            OutputKind::Rows if result.schema().fields().is_empty() => {
                return run_through(result).await;
            }
            OutputKind::Rows => {}
        }
        match self.write_rows(result.stream).await {
            Err(error) if output::is_closed_pipe(&error) => {
                self.closed = true;
                Ok(Written::default())
            }
            written => written,
        }
    }

    /// Writes rows.
    ///
    /// # Errors
    /// As [`Results::write`], and that of a reader who has gone.
    pub async fn write_rows(&mut self, rows: SendableRecordBatchStream) -> Result<Written> {
        let format = self.style.format;
        if format.is_binary() && self.is_terminal {
            return Err(not_for_a_terminal(format));
        }
        if !std::mem::take(&mut self.is_first) {
            if !format.holds_many() {
                return Err(Error::unsupported(format!(
                    "{} holds the rows of one query, and this is another",
                    format.as_str()
                ))
                .with_hint("run one query, or choose --format ndjson or table"));
            }
            if !matches!(format, Format::Json | Format::Ndjson) {
                writeln!(self.out).map_err(output::write_error)?;
            }
        }
        if let Some((terminal, width)) = self.style.terminal.as_mut().zip(terminal_width()) {
            terminal.width = width;
        }
        self.is_torn = true;
        let written = self.write_through(rows).await;
        self.is_torn = written.is_err();
        if let Ok(Written { rows, is_cut: true }) = written
            && !self.is_terminal
        {
            note(&format!("there are more rows than {rows}, which --max-rows leaves out"));
        }
        written
    }

    /// Whether a result was begun and not written to its end since this was last asked.
    pub fn take_torn(&mut self) -> bool {
        std::mem::take(&mut self.is_torn)
    }

    async fn write_through(&mut self, rows: SendableRecordBatchStream) -> Result<Written> {
        let height = match (self.is_terminal, self.paging) {
            (true, Paging::Auto) => terminal_height(),
            _ => None,
        };
        let Some((height, program)) = height.zip(pager()) else {
            return output::write(rows, &self.style, &mut self.out).await;
        };
        let mut paged = Paged::new(&mut self.out, program, height);
        let written = output::write(rows, &self.style, &mut paged).await;
        match (paged.end(), written) {
            // Who has seen enough leaves the pager.
            (_, Err(error)) if output::is_closed_pipe(&error) => Ok(Written::default()),
            (Err(error), Ok(_)) => Err(error),
            (_, written) => written,
        }
    }
}

/// Makes the error of bytes that nobody can read.
pub fn not_for_a_terminal(format: Format) -> Error {
    let name = format.as_str();
    Error::invalid(format!("{name} is not for a terminal"))
        .with_hint(format!("write it to a file: -o result.{name}"))
}

/// Runs what has nothing to show, but may have work to do.
async fn run_through(result: Output) -> Result<Written> {
    output::write(result.stream, &Style::from(Format::Csv), &mut io::sink()).await
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

fn terminal_height() -> Option<usize> {
    terminal_size::terminal_size().map(|(_, height)| usize::from(height.0))
}

/// Returns the command of the pager: `$PAGER`, or `less`; `None` if there is none or it is `cat`.
fn pager() -> Option<String> {
    match std::env::var("PAGER") {
        Ok(program) if program.trim().is_empty() || program.trim() == "cat" => None,
        Ok(program) => {
            let word = program.split_whitespace().next().unwrap_or_default();
            // Anything else is for the system's shell to find out.
            let is_plain = word.chars().all(|c| c.is_alphanumeric() || "/._-+".contains(c));
            if is_plain && !is_program(word) {
                note(&format!("$PAGER: there is no '{word}'"));
                return None;
            }
            Some(program)
        }
        Err(_) => is_program("less").then(|| "less".to_owned()),
    }
}

fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    match name.contains('/') {
        true => Path::new(name).is_file(),
        false => std::env::split_paths(&path).any(|dir| dir.join(name).is_file()),
    }
}

/// Text for a terminal, which goes to a pager once it does not fit.
struct Paged<'a> {
    out: &'a mut Stdout,
    program: String,
    height: usize,
    /// The text so far, until it does not fit.
    held: Vec<u8>,
    lines: usize,
    pager: Option<(Child, ChildStdin)>,
}

impl<'a> Paged<'a> {
    fn new(out: &'a mut Stdout, program: String, height: usize) -> Self {
        Self { out, program, height, held: Vec::new(), lines: 0, pager: None }
    }

    fn start(&mut self) -> io::Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.program]).stdin(Stdio::piped());
        if std::env::var_os("LESS").is_none() {
            // Leaves what was seen on the screen, shows colours, cuts lines rather than wrap them.
            command.env("LESS", "FRSX");
        }
        // Ctrl-C is the pager's.
        interrupt::hold();
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().expect("it was asked for");
        self.pager = Some((child, stdin));
        Ok(())
    }

    /// Shows what is left, and waits until the pager is left.
    fn end(mut self) -> Result<()> {
        let Some((mut child, stdin)) = self.pager.take() else {
            return self
                .out
                .write_all(&self.held)
                .and_then(|()| self.out.flush())
                .map_err(output::write_error);
        };
        drop(stdin);
        child.wait().map(drop).map_err(|error| Error::io(format!("'{}'", self.program), error))
    }
}

impl Write for Paged<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some((_, stdin)) = &mut self.pager {
            return stdin.write(bytes);
        }
        self.lines += memchr::memchr_iter(b'\n', bytes).count();
        self.held.extend_from_slice(bytes);
        // The prompt needs a line, too.
        if self.lines + 1 > self.height {
            self.out.flush()?;
            self.start()?;
            let held = std::mem::take(&mut self.held);
            if let Some((_, stdin)) = &mut self.pager {
                stdin.write_all(&held)?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.pager {
            Some((_, stdin)) => stdin.flush(),
            None => Ok(()),
        }
    }
}

impl Drop for Paged<'_> {
    /// Leaves the terminal to the pager for as long as it runs, whatever became of the rows.
    fn drop(&mut self) {
        if let Some((mut child, stdin)) = self.pager.take() {
            drop(stdin);
            // There is nobody to tell.
            let _ = child.wait();
        }
    }
}
