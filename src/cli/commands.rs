//! Lines of a session that are not SQL: `\d`, `\format`, and the same with a dot.
//!
//! [`COMMANDS`] is the one list of them: the parser, `\?` and completion are made of it. Each is called
//! by what users of psql, sqlite and duckdb would look for, and all names go with a backslash and with a
//! dot.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use pond::error::did_you_mean;
use pond::output::{self, Format};
use pond::policy::Access;
use pond::sql::{Statement, is_complete};
use pond::{Error, ErrorKind, Result};

use super::interrupt;
use super::list::{How, list};
use super::mknod::read_text;
use super::report::{note, say};
use super::session::{LOOK, Session};
use super::sql::{describe, quoted};

/// How often `\watch` runs a query, unless it is told.
const WATCH: Duration = Duration::from_secs(2);

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// A path of the pond.
    PondPath,
    /// A file of the host.
    HostFile,
    /// The name of a format.
    Format,
    /// `on` or `off`.
    Switch,
    /// A query.
    Query,
    /// Something else.
    Text,
}

/// A command, as it is known to users.
#[derive(Debug)]
pub struct CommandSpec {
    /// What it is called, the usual name first; `\?` shows each with the sign it has here.
    pub names: &'static [&'static str],
    /// What it takes, as `\?` shows it.
    pub argument: &'static str,
    /// What it takes.
    pub takes: Takes,
    /// One line on what it does.
    pub doc: &'static str,
    /// Whether it is for a terminal, and no script.
    pub is_for_terminal: bool,
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Describe,
    List,
    ChangeDirectory,
    Format,
    Expanded,
    Headers,
    Null,
    Timing,
    Chart,
    Output,
    Once,
    Include,
    Edit,
    Watch,
    Version,
    Help,
    Quit,
}

const fn command(
    action: Action,
    names: &'static [&'static str],
    (argument, takes): (&'static str, Takes),
    doc: &'static str,
) -> CommandSpec {
    let is_for_terminal = matches!(action, Action::Edit | Action::Watch);
    CommandSpec { names, argument, takes, doc, is_for_terminal, action }
}

/// Every command.
pub const COMMANDS: &[CommandSpec] = &[
    command(
        Action::Describe,
        &["\\d", "\\describe", ".schema"],
        ("[PATH]", Takes::PondPath),
        "describe a node; without a path, list the directory",
    ),
    command(
        Action::List,
        &["\\l", "\\ls", ".tables"],
        ("[PATH|GLOB]", Takes::PondPath),
        "list a directory",
    ),
    command(
        Action::ChangeDirectory,
        &["\\cd"],
        ("[PATH]", Takes::PondPath),
        "change the directory that relative paths count from",
    ),
    command(
        Action::Format,
        &["\\format", "\\f", ".mode"],
        ("[FORMAT]", Takes::Format),
        "show or set how rows are written",
    ),
    command(Action::Expanded, &["\\x"], ("[on|off]", Takes::Switch), "a line for each value"),
    command(
        Action::Headers,
        &["\\headers", ".headers"],
        ("[on|off]", Takes::Switch),
        "the names of columns above csv and tsv",
    ),
    command(
        Action::Null,
        &["\\nullvalue", ".nullvalue"],
        ("[TEXT]", Takes::Text),
        "show or set what stands for NULL",
    ),
    command(
        Action::Timing,
        &["\\timing", ".timer"],
        ("[on|off]", Takes::Switch),
        "tell how long each statement takes",
    ),
    command(
        Action::Chart,
        &["\\chart"],
        ("[QUERY]", Takes::Query),
        "draw a query, or the last one",
    ),
    command(
        Action::Output,
        &["\\o", "\\output", ".output"],
        ("[FILE]", Takes::HostFile),
        "write what follows to a file; without one, here again",
    ),
    command(
        Action::Once,
        &["\\once", ".once"],
        ("FILE", Takes::HostFile),
        "write the next result to a file",
    ),
    command(
        Action::Include,
        &["\\i", "\\include", ".read"],
        ("FILE", Takes::HostFile),
        "run the statements and commands of a file",
    ),
    command(
        Action::Edit,
        &["\\e", "\\edit"],
        ("", Takes::Nothing),
        "edit the last statement, or this one, in $VISUAL or $EDITOR",
    ),
    command(
        Action::Watch,
        &["\\watch"],
        ("[SECONDS]", Takes::Text),
        "run the last query, or this one, again and again until Ctrl-C",
    ),
    command(Action::Version, &["\\version", ".version"], ("", Takes::Nothing), "tell what this is"),
    command(Action::Help, &["\\?", "\\h", ".help"], ("", Takes::Nothing), "this help"),
    command(Action::Quit, &["\\q", ".quit", ".exit"], ("", Takes::Nothing), "leave (also Ctrl-D)"),
];

/// A line that is not SQL.
#[derive(Debug)]
pub struct Command {
    spec: &'static CommandSpec,
    argument: Option<String>,
}

impl Command {
    /// Whether a line that begins a statement is a command.
    pub fn is_one(line: &str) -> bool {
        let line = line.trim();
        let word = line.trim_end_matches(';').trim_end().to_lowercase();
        line.starts_with('\\')
            || (line.starts_with('.')
                && line[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '?'))
            || ["exit", "quit"].contains(&word.as_str())
    }

    /// Returns the command that is called `name`, without its sign.
    pub fn find(name: &str) -> Option<&'static CommandSpec> {
        COMMANDS.iter().find(|spec| spec.names.iter().any(|known| known[1..] == *name))
    }

    /// Parses a line that is a command.
    ///
    /// # Errors
    /// `Invalid` if there is none such, or not with such an argument.
    pub fn parse(line: &str) -> Result<Self> {
        let line = line.trim();
        let (first, argument) = match line.split_once(char::is_whitespace) {
            Some((first, argument)) => (first, Some(argument.trim())),
            None => (line.trim_end_matches(';'), None),
        };
        let name = first.strip_prefix(['\\', '.']).unwrap_or(first).to_lowercase();
        let Some(spec) = Self::find(&name) else {
            let names = COMMANDS.iter().flat_map(|spec| spec.names).map(|name| &name[1..]);
            let near = did_you_mean(&name, names).map(|hint| hint.replacen('\'', "'\\", 1));
            return Err(Error::invalid(format!("'{first}' is no command"))
                .with_hint(near.unwrap_or_else(|| "\\? lists them".to_owned())));
        };
        let argument = argument
            .map(|text| {
                if spec.takes == Takes::Query {
                    text
                } else {
                    text.trim_end_matches(';').trim_end()
                }
            })
            .filter(|text| !text.is_empty())
            // Paths may be quoted, as they are in SQL.
            .map(|text| match text.strip_prefix('\'') {
                Some(quoted) => quoted.strip_suffix('\'').unwrap_or(quoted).replace("''", "'"),
                None => text.to_owned(),
            });
        if let (Takes::Nothing, Some(argument)) = (spec.takes, &argument) {
            return Err(Error::invalid(format!("{first} takes nothing, not '{argument}'")));
        }
        Ok(Self { spec, argument })
    }

    /// Whether it is about the query before it on its line, and runs that itself.
    pub fn takes_query(&self) -> bool {
        matches!(self.spec.action, Action::Chart | Action::Edit | Action::Watch)
    }

    /// Runs the command and returns whether the session ends.
    ///
    /// # Errors
    /// Those of what it does.
    pub fn run(self, session: &mut Session) -> Result<bool> {
        let Self { spec, argument } = self;
        let name = spec.names[0];
        if spec.is_for_terminal && !session.is_interactive {
            return Err(Error::unsupported(format!(
                "{name} is for a terminal, and this is a script"
            )));
        }
        session.results.restart();
        let argument = argument.as_deref();
        let style = &mut session.results.style;
        match spec.action {
            Action::Quit => return Ok(true),
            Action::Help => print(session, &help())?,
            Action::Version => {
                let (own, engine) = (env!("CARGO_PKG_VERSION"), datafusion::DATAFUSION_VERSION);
                print(session, &format!("pond {own}, DataFusion {engine}\n"))?;
            }
            Action::List => list_directory(session, argument)?,
            Action::Describe => match argument {
                None => list_directory(session, None)?,
                Some(path) => {
                    let path = session.context.directory().join(path)?;
                    session.work(async |context, results| {
                        describe(context, &path, false, results).await
                    })?;
                }
            },
            Action::ChangeDirectory => {
                let path = session.context.directory().join(argument.unwrap_or("/"))?;
                let text = format!("USE {}", quoted(&path));
                session.work(async |context, _| context.sql(&text).await.map(drop))?;
            }
            Action::Format => match argument {
                None => {
                    let format = style.format.as_str();
                    print(session, &format!("{format}\n"))?;
                }
                Some(format) => {
                    style.format = Format::parse(format)?;
                    session.has_format = true;
                }
            },
            Action::Expanded => {
                let is_on = style.format == Format::Line;
                match switch(name, argument, is_on)? {
                    true if !is_on => {
                        session.before_expanded = Some(style.format);
                        style.format = Format::Line;
                    }
                    false if is_on => {
                        style.format = session.before_expanded.take().unwrap_or_default();
                    }
                    _ => {}
                }
                let is_on = session.results.style.format == Format::Line;
                tell_switch(session, name, is_on);
            }
            Action::Headers => {
                style.header = switch(name, argument, style.header)?;
                let is_on = style.header;
                tell_switch(session, name, is_on);
            }
            Action::Null => match argument {
                None => {
                    let null = style.null.clone().unwrap_or_default();
                    print(session, &format!("{null}\n"))?;
                }
                Some(text) => {
                    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                    style.null = Some(bare.unwrap_or(text).to_owned());
                }
            },
            Action::Timing => {
                session.timing = switch(name, argument, session.timing)?;
                tell_switch(session, name, session.timing);
            }
            Action::Chart => chart(session, argument)?,
            Action::Output => match argument {
                None => session.end_redirect()?,
                Some(file) => session.redirect(Path::new(file), false)?,
            },
            Action::Once => session.redirect(Path::new(required(spec, argument)?), true)?,
            Action::Include => {
                let file = Path::new(required(spec, argument)?);
                let (name, text) = read_text(file, session.context.tree().policy())?;
                session.run_file(&name, &text)?;
            }
            Action::Edit => edit(session)?,
            Action::Watch => watch(session, argument)?,
        }
        Ok(false)
    }
}

/// Returns what `\?` says.
fn help() -> String {
    let rows: Vec<(String, &CommandSpec)> = COMMANDS
        .iter()
        .map(|spec| (format!("{} {}", spec.names.join(", "), spec.argument), spec))
        .collect();
    let width = rows.iter().map(|(usage, _)| usage.len()).max().unwrap_or_default();
    let mut text =
        "Statements end with ; and may take many lines. Commands are a line each, and go with \\\n\
                    or a dot; those with * are for a terminal, all others work in scripts, too.\n"
            .to_owned();
    for (usage, spec) in rows {
        let mark = if spec.is_for_terminal { '*' } else { ' ' };
        text.push_str(&format!(" {mark}{usage:width$}  {}\n", spec.doc));
    }
    let formats = Format::ALL.map(Format::as_str).join(", ");
    text.push_str(&format!(
        "Formats: {formats}.\nSHOW FACTORIES lists what CREATE NODE can make.\n"
    ));
    text
}

fn print(session: &mut Session, text: &str) -> Result<()> {
    // A file is for rows.
    if session.redirected_to().is_some() || session.results.style.format.is_binary() {
        say(text);
        return Ok(());
    }
    let out = session.results.out();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(output::write_error)
}

fn required<'a>(spec: &CommandSpec, argument: Option<&'a str>) -> Result<&'a str> {
    argument.ok_or_else(|| {
        let name = spec.names[0];
        Error::invalid(format!("{name} needs a file"))
            .with_hint(format!("{name} {}", spec.argument))
    })
}

/// Reads `on` or `off`; without either, it is the other way round.
fn switch(name: &str, argument: Option<&str>, now: bool) -> Result<bool> {
    match argument.map(str::to_lowercase).as_deref() {
        None => Ok(!now),
        Some("on" | "true" | "yes" | "1") => Ok(true),
        Some("off" | "false" | "no" | "0") => Ok(false),
        Some(other) => Err(Error::invalid(format!("{name} is on or off, not '{other}'"))),
    }
}

/// Says what is on now, to whoever sits there.
fn tell_switch(session: &Session, name: &str, is_on: bool) {
    if session.is_interactive {
        note(&format!("{name} is {}", if is_on { "on" } else { "off" }));
    }
}

fn list_directory(session: &mut Session, path: Option<&str>) -> Result<()> {
    let path = session.context.directory().join(path.unwrap_or("."))?;
    let how = How { long: true, ..How::default() };
    session.work(async |context, results| {
        let root = context.tree().root(context.snapshot().await?);
        list(&root, &path, &how, false, results).await.map(drop)
    })
}

/// Returns the query that a command is about.
fn query_of(session: &Session, given: Option<&str>) -> Result<String> {
    match given.map(str::to_owned).or_else(|| session.last_query.clone()) {
        Some(query) => Ok(query),
        None => Err(Error::invalid("there was no query yet")
            .with_hint("run one first, or write it before the command, on its line")),
    }
}

/// Parses a text that a command runs.
fn parse_one(session: &Session, text: &str) -> Result<Statement> {
    let mut statements = session.context.script(text);
    statements.next().unwrap_or_else(|| Err(Error::invalid("there is nothing to run")))
}

fn chart(session: &mut Session, query: Option<&str>) -> Result<()> {
    let statement = parse_one(session, &query_of(session, query)?)?;
    // Into a file that is a picture it goes as one.
    let picture = session.redirected_to().and_then(Format::of_path);
    let chart = match picture {
        Some(picture @ (Format::Svg | Format::Png)) => picture,
        _ => Format::Chart,
    };
    let format = std::mem::replace(&mut session.results.style.format, chart);
    let done = session.run_statement(statement);
    session.results.style.format = format;
    done.map(drop)
}

fn watch(session: &mut Session, seconds: Option<&str>) -> Result<()> {
    let interval = match seconds {
        None => WATCH,
        Some(text) => {
            let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0);
            let interval = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            interval
                .ok_or_else(|| Error::invalid(format!("\\watch takes seconds, not '{text}'")))?
        }
    };
    let query = query_of(session, None)?;
    loop {
        session.results.restart();
        let statement = parse_one(session, &query)?;
        match session.run_statement(statement) {
            // It is how one leaves.
            Err(error) if error.kind() == ErrorKind::Cancelled => return Ok(()),
            done => done.map(drop)?,
        }
        let begun = Instant::now();
        while begun.elapsed() < interval {
            if interrupt::take() {
                return Ok(());
            }
            std::thread::sleep(LOOK.min(interval));
        }
    }
}

/// Lets the user edit the last statement; what is complete then runs, else it comes to the prompt.
fn edit(session: &mut Session) -> Result<()> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // Where it writes is its own business.
    let policy = session.context.tree().policy();
    if !policy.allows_host() {
        return Err(policy.refuse_host(&editor, Access::Read));
    }
    let failed = |error| Error::io(format!("'{editor}'"), error);
    let file =
        tempfile::Builder::new().prefix("pond.").suffix(".sql").tempfile().map_err(failed)?;
    let before = session.last_text.as_deref().map(|text| format!("{text};\n")).unwrap_or_default();
    std::fs::write(file.path(), &before).map_err(failed)?;
    let ended = std::process::Command::new("sh")
        .args(["-c", &format!("{editor} \"$0\"")])
        .arg(file.path())
        .status()
        .map_err(failed)?;
    if !ended.success() {
        return Err(Error::new(ErrorKind::Io, format!("'{editor}' ended with {ended}")));
    }
    let text = std::fs::read_to_string(file.path()).map_err(failed)?;
    let text = text.trim_end();
    if text.is_empty() {
        note("nothing to run");
    } else if text.ends_with(';') && is_complete(text) {
        return session.run_text(None, text);
    } else {
        session.draft = Some(text.to_owned());
    }
    Ok(())
}
