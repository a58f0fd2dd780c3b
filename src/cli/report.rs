//! What goes to stderr: errors with their place, notes.
//!
//! Everything said beside the data goes through here, so that `--error-format json` makes each of
//! them one JSON object a line, `-q` leaves notes out, and colours are used only where asked for.
//! Errors are drawn by annotate-snippets, as rustc's are.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use annotate_snippets::renderer::DEFAULT_TERM_WIDTH;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use clap::ValueEnum;
use pond::output::escape_controls;
use pond::{Error, ErrorKind};
use serde_json::{Value, json};

/// How things are said. Set once, before anything is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Voice {
    /// One JSON object a line.
    pub json: bool,
    /// Colours.
    pub color: bool,
    /// No notes.
    pub quiet: bool,
    /// More notes.
    pub verbose: bool,
}

static VOICE: OnceLock<Voice> = OnceLock::new();

/// Sets how things are said, the first time it is called.
pub fn set_voice(voice: Voice) {
    // The command line is parsed once.
    let _ = VOICE.set(voice);
}

fn voice() -> Voice {
    VOICE.get().copied().unwrap_or_default()
}

/// Whether colours are wanted on a stream that is a terminal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `$NO_COLOR` is set or it is a dumb one.
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// Whether there are colours on a stream.
    pub fn on(self, is_terminal: bool) -> bool {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                is_terminal
                    && set("NO_COLOR").is_none()
                    && set("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// Returns the exit code for an error.
pub fn exit_code(error: &Error) -> i32 {
    match error.kind() {
        ErrorKind::Conflict => 3,
        ErrorKind::ReadOnly | ErrorKind::Refused => 4,
        ErrorKind::Corrupt => 5,
        ErrorKind::Limit => 6,
        ErrorKind::Cancelled => 130,
        _ => 1,
    }
}

/// Says what failed, where, and what can be done.
pub fn report(error: &Error) {
    match voice().json {
        true => say_json(&error_json(error)),
        false => say(&render(error, voice().color)),
    }
}

/// Says that the command line makes no sense, or prints the help or the version that it asks for.
pub fn report_usage(error: &clap::Error) {
    if voice().json && error.use_stderr() {
        let text = error.to_string();
        let (message, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let tip = rest.lines().find_map(|line| line.trim().strip_prefix("tip: "));
        let message = message.trim().trim_start_matches("error: ");
        say_json(&without_nulls(
            json!({"level": "error", "code": "usage", "message": message, "hint": tip}),
        ));
        return;
    }
    // There is no one to tell that nobody listens.
    let _ = error.print();
}

/// Whether a line on stderr may be drawn over and over: by somebody who reads it on a terminal, and
/// takes control codes.
pub fn is_animated() -> bool {
    let Voice { json, color, quiet, .. } = voice();
    !json && !quiet && color && std::io::stderr().is_terminal()
}

/// Says something by the way, unless quiet.
pub fn note(text: &str) {
    let Voice { json, color, quiet, .. } = voice();
    if quiet {
        return;
    }
    match json {
        true => say_json(&json!({"level": "note", "message": text})),
        false => {
            let (on, off) = if color { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
            say(&format!("{on}note{off}: {}\n", escape_lines(text)));
        }
    }
}

/// Says something that only the curious want to know.
pub fn detail(text: &str) {
    if voice().verbose {
        note(text);
    }
}

/// Says what was done, as words and as an object; nothing if quiet.
pub fn tell(text: &str, object: Value) {
    let Voice { json, quiet, .. } = voice();
    match (quiet, json) {
        (true, _) => {}
        (false, true) => say_json(&without_nulls(object)),
        (false, false) => say(&format!("{text}\n")),
    }
}

/// Prints to stderr.
pub fn say(text: &str) {
    // There is no one to tell that nobody listens.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn say_json(object: &Value) {
    say(&format!("{object}\n"));
}

/// Draws an error.
fn render(error: &Error, color: bool) -> String {
    let message = escape_lines(&error.to_string());
    let mut report = vec![Group::with_title(Level::ERROR.primary_title(message))];
    if let Some(place) = error.place() {
        let line = usize::try_from(place.line).unwrap_or(usize::MAX);
        let snippet = Snippet::source(place.excerpt.as_str())
            .line_start(line)
            .annotation(AnnotationKind::Primary.span(place.span.clone()));
        let group = report.remove(0);
        let name = place.name.as_deref().map(escape_controls);
        let is_whole = place.column == place.excerpt[..place.span.start].chars().count() as u64 + 1;
        report.push(match name {
            Some(name) if is_whole => group.element(snippet.path(name)),
            // Of a long line only a part is shown, which the drawing knows nothing of.
            Some(name) => {
                let column = usize::try_from(place.column).unwrap_or(usize::MAX);
                let origin = Origin::path(name).line(line).char_column(column);
                group.element(origin).element(snippet)
            }
            None => group.element(snippet),
        });
    }
    let width = match std::io::stderr().is_terminal() {
        true => terminal_size::terminal_size_of(std::io::stderr()),
        false => None,
    };
    let width = width.map_or(DEFAULT_TERM_WIDTH, |(width, _)| usize::from(width.0));
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut text = renderer.term_width(width).render(&report);
    text.push('\n');
    if let Some(hint) = error.hint() {
        let (on, off) = if color { ("\u{1b}[1m\u{1b}[96m", "\u{1b}[0m") } else { ("", "") };
        text.push_str(&format!("{on}hint{off}: {}\n", escape_lines(hint)));
    }
    text
}

fn error_json(error: &Error) -> Value {
    let position = error.place().map(|place| {
        without_nulls(json!({
            "file": place.name,
            "line": place.line,
            "column": place.column,
            "text": &place.excerpt[place.span.clone()],
        }))
    });
    without_nulls(json!({
        "level": "error",
        "code": error.kind().as_str(),
        "message": error.to_string(),
        "hint": error.hint(),
        "position": position,
    }))
}

fn without_nulls(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !value.is_null());
    }
    object
}

/// As [`escape_controls`], but line ends stay.
fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape_controls).collect::<Vec<_>>().join("\n")
}
