//! The one error type of the library: a kind to act on, a message that names the object, a hint.
//!
//! Messages are lower case without a period and name the object first: `'/logs' already exists`.
//! What to do next is the hint, which a shell prints on a line of its own. The source is kept, so
//! that the whole chain can be printed.

use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;

use datafusion::error::DataFusionError;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can tell errors apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The path, option, factory or pond does not exist.
    NotFound,
    /// The path is taken.
    AlreadyExists,
    /// Another transaction changed the same path first; nothing was written.
    Conflict,
    /// The node, or the pond, takes no writes.
    ReadOnly,
    /// The request is malformed: a bad path, option, statement or argument.
    Invalid,
    /// The request is well-formed, but does not apply to this kind of node.
    Unsupported,
    /// A policy of the session does not allow it.
    Refused,
    /// The host refused access.
    PermissionDenied,
    /// Stored bytes are not what was written.
    Corrupt,
    /// A limit of memory, time or room is reached.
    Limit,
    /// It was given up before its end.
    Cancelled,
    /// Input or output failed.
    Io,
    /// The query engine reported an error.
    Engine,
}

impl ErrorKind {
    /// Returns the kind's name, which never changes: `not_found`, `already_exists`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::ReadOnly => "read_only",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Refused => "refused",
            Self::PermissionDenied => "permission_denied",
            Self::Corrupt => "corrupt",
            Self::Limit => "limit",
            Self::Cancelled => "cancelled",
            Self::Io => "io",
            Self::Engine => "engine",
        }
    }
}

/// A place in a text that somebody wrote: a script, a configuration, a CSV file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What the text is called; `None` for one that was typed.
    pub name: Option<String>,
    /// The number of the line, from 1.
    pub line: u64,
    /// The column, in characters from 1.
    pub column: u64,
    /// The lines that hold the place; of very long ones, what is around it.
    pub excerpt: String,
    /// The bytes of the excerpt that are meant.
    pub span: Range<usize>,
}

/// Most bytes of an excerpt before a place, and of the place and what follows it.
const EXCERPT_BYTES_MAX: usize = 2048;

impl Place {
    /// Finds the place of the bytes `span` of `text`, whose first line has the number `first_line`.
    pub fn of(text: &str, span: Range<usize>, first_line: u64) -> Self {
        let begin = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
        let lines_before = text[..begin].matches('\n').count() as u64;
        let column = text[begin..span.start].chars().count() as u64 + 1;
        let begin =
            text.ceil_char_boundary(begin.max(span.start.saturating_sub(EXCERPT_BYTES_MAX)));
        let end = text.floor_char_boundary(end.min(span.start + EXCERPT_BYTES_MAX));
        Self {
            name: None,
            line: first_line + lines_before,
            column,
            excerpt: text[begin..end].trim_end().to_owned(),
            span: span.start - begin..span.end.min(end) - begin,
        }
        .within()
    }

    /// Says what the text is called.
    #[must_use]
    pub fn named(mut self, name: Option<impl Into<String>>) -> Self {
        self.name = name.map(Into::into);
        self
    }

    /// Keeps the span within the excerpt, whose end may be cut.
    fn within(mut self) -> Self {
        let end = self.excerpt.len();
        self.span = self.span.start.min(end)..self.span.end.min(end);
        self
    }
}

/// An error: a kind, a message that names the object, perhaps a hint, a place and a source.
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    place: Option<Place>,
    about: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    is_passing: bool,
}

impl Error {
    /// Makes an error of `kind`; `message` names the object first, then the cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            hint: None,
            place: None,
            about: None,
            source: None,
            is_passing: false,
        }))
    }

    /// `kind` is [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// `kind` is [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// `kind` is [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// `kind` is [`ErrorKind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// `kind` is [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// `kind` is [`ErrorKind::ReadOnly`].
    pub fn read_only(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ReadOnly, message)
    }

    /// Makes an error about `object` from what the host said; the kind follows from it.
    pub fn io(object: impl fmt::Display, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            std::io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{object}")).with_source(source)
    }

    /// Makes an error of what an object store said.
    pub(crate) fn from_store(error: object_store::Error) -> Self {
        DataFusionError::from(error).into()
    }

    /// Says that the same statement may succeed when it is run again at once: something was learnt.
    #[must_use]
    pub(crate) fn passing(mut self) -> Self {
        self.0.is_passing = true;
        self
    }

    /// Whether the same statement may succeed when it is run again at once.
    pub(crate) fn is_passing(&self) -> bool {
        self.0.is_passing
    }

    /// Adds what the user can do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the hint if there is one.
    #[must_use]
    pub fn with_hint_opt(mut self, hint: Option<String>) -> Self {
        if hint.is_some() {
            self.0.hint = hint;
        }
        self
    }

    /// Adds where it is wrong.
    #[must_use]
    pub fn with_place(mut self, place: Place) -> Self {
        self.0.place = Some(place);
        self
    }

    /// Says which name is wrong, where it is not the first in quotes.
    #[must_use]
    pub fn about(mut self, name: impl Into<String>) -> Self {
        self.0.about = Some(name.into());
        self
    }

    /// Returns the names that it may be about, the likeliest first.
    pub(crate) fn names(&self) -> Vec<String> {
        let said = self.to_string();
        // The last clause says what is wrong, those before where. What is in quotes is every other
        // piece.
        let quoted = said
            .rsplit(": ")
            .flat_map(|clause| clause.split('\'').skip(1).step_by(2))
            .filter(|name| !name.is_empty());
        self.0.about.iter().map(String::as_str).chain(quoted).map(str::to_owned).collect()
    }

    /// Adds the place of the first word of `text` that it may be about, unless it has a place or
    /// there is no such word. The text is called `name`.
    #[must_use]
    pub fn locate_in(self, name: &str, text: &str) -> Self {
        if self.place().is_some() {
            return self;
        }
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let found = self.names().into_iter().find_map(|word| {
            text.match_indices(&word).map(|(at, word)| at..at + word.len()).find(|span| {
                !text[..span.start].ends_with(is_part) && !text[span.end..].starts_with(is_part)
            })
        });
        match found {
            Some(span) => self.with_place(Place::of(text, span, 1).named(Some(name))),
            None => self,
        }
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says first what was being done: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// Says `new: message` where it said `old: message`.
    #[must_use]
    pub fn in_context(mut self, old: &str, new: &str) -> Self {
        if let Some(message) = self.0.message.strip_prefix(old)
            && message.starts_with(": ")
        {
            self.0.message = format!("{new}{message}");
        }
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message without its causes.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns where it is wrong, if that is known.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }

    /// Returns what the user can do next, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    /// Prints the message and its causes in one line, without the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut said = self.0.message.clone();
        let mut source = self.0.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(cause) = source {
            let text = cause.to_string();
            // Libraries often repeat their cause in their own message.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
                said.push_str(&text);
            }
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        match &self.0.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    /// Gives back an [`Error`] that travelled through the engine, at whatever depth, or wraps the
    /// engine's own.
    fn from(error: DataFusionError) -> Self {
        match error {
            DataFusionError::External(inner) => match inner.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(inner) => Error::new(ErrorKind::Engine, inner.to_string()).with_source(inner),
            },
            DataFusionError::Context(_, inner) if carries_ours(&inner) => Error::from(*inner),
            DataFusionError::Diagnostic(_, inner) => Error::from(*inner),
            DataFusionError::Shared(shared) => match find_ours(shared.as_ref()) {
                Some(ours) => ours.restate(),
                None => Error::new(engine_kind(&shared), plain(&shared)),
            },
            DataFusionError::Collection(mut all) if !all.is_empty() => Error::from(all.remove(0)),
            DataFusionError::ArrowError(inner, backtrace) => match find_ours(inner.as_ref()) {
                Some(ours) => ours.restate(),
                None => Error::new(
                    ErrorKind::Engine,
                    plain(&DataFusionError::ArrowError(inner, backtrace)),
                ),
            },
            other => match find_ours(&other) {
                Some(ours) => ours.restate(),
                None => Error::new(engine_kind(&other), plain(&other)),
            },
        }
    }
}

impl Error {
    /// A copy for an error that is only borrowed; its sources become part of the message.
    pub(crate) fn restate(&self) -> Self {
        let mut copy = Error::new(self.kind(), self.to_string()).with_hint_opt(self.0.hint.clone());
        copy.0.is_passing = self.0.is_passing;
        copy.0.place = self.0.place.clone();
        copy.0.about = self.0.about.clone();
        copy
    }
}

/// What the engine calls "resources" are limits: of memory, of room to spill.
fn engine_kind(error: &DataFusionError) -> ErrorKind {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(_) => ErrorKind::Limit,
        _ => ErrorKind::Engine,
    }
}

/// What the engine puts before a message to say which part of it speaks.
const SPEAKERS: &[&str] = &[
    "Error during planning: ",
    "Execution error: ",
    "Arrow error: ",
    "Cast error: ",
    "Compute error: ",
    "Parquet error: ",
    "Schema error: ",
    "Resources exhausted: ",
    "Invalid argument error: ",
    "Invalid or Unsupported Configuration: ",
];

/// Returns what the engine says, without saying which part of it does.
fn plain(error: &DataFusionError) -> String {
    let said = error.strip_backtrace();
    let mut text = said.as_str();
    while let Some(rest) = SPEAKERS.iter().find_map(|speaker| text.strip_prefix(speaker)) {
        text = rest;
    }
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        // A word, and not a name.
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            format!("{}{}", first.to_lowercase(), &text[first.len_utf8()..])
        }
        _ => text.to_owned(),
    }
}

fn carries_ours(error: &DataFusionError) -> bool {
    find_ours(error).is_some()
}

fn find_ours<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours);
        }
        at = error.source();
    }
    None
}

impl From<datafusion::arrow::error::ArrowError> for Error {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        match find_ours(&error) {
            Some(ours) => ours.restate(),
            None => Error::new(ErrorKind::Engine, error.to_string()).with_source(error),
        }
    }
}

/// Returns `did you mean 'x'?` for the candidate nearest to `wanted`, if one is near enough.
pub fn did_you_mean<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(wanted, candidates).map(|candidate| format!("did you mean '{candidate}'?"))
}

/// Returns the candidate nearest to `wanted`, without regard to case, if one is near enough.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = wanted.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != wanted)
        .map(|candidate| {
            (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate)
        })
        .filter(|(distance, candidate)| {
            *distance <= 1.max(wanted.chars().count().max(candidate.chars().count()) / 3)
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
