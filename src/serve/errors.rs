//! Errors as Postgres clients know them: a code of five letters, a message, a hint, a place.

use bytes::BytesMut;

use super::wire::{Answers, Violation};
use crate::error::{Error, ErrorKind};

/// An error, or a notice, of the protocol.
#[derive(Debug)]
pub(super) struct PgError {
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// The character of the query that is meant, from 1.
    pub position: Option<u64>,
    /// Whether the connection ends with it.
    pub is_fatal: bool,
}

impl PgError {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, position: None, is_fatal: false }
    }

    pub(super) fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { is_fatal: true, ..Self::new(code, message) }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says where it is in a text of which the statement begins at the byte `begin`.
    pub(super) fn placed(mut self, text: &str, begin: usize) -> Self {
        let before = text.get(..begin).unwrap_or_default().chars().count() as u64;
        self.position = self.position.map(|position| position + before);
        self
    }

    /// Puts it as a message.
    pub(super) fn put(&self, out: &mut BytesMut) {
        self.put_as(b'E', if self.is_fatal { "FATAL" } else { "ERROR" }, out);
    }

    /// Puts it as a message that is no error.
    pub(super) fn put_notice(&self, out: &mut BytesMut) {
        self.put_as(b'N', "WARNING", out);
    }

    fn put_as(&self, kind: u8, severity: &str, out: &mut BytesMut) {
        let position = self.position.map(|position| position.to_string());
        let mut fields =
            vec![(b'S', severity), (b'V', severity), (b'C', self.code), (b'M', &self.message)];
        fields.extend(self.hint.as_deref().map(|hint| (b'H', hint)));
        fields.extend(position.as_deref().map(|position| (b'P', position)));
        out.fields(kind, &fields);
    }
}

impl From<Violation> for PgError {
    fn from(Violation(message): Violation) -> Self {
        Self::new("08P01", message)
    }
}

impl From<Error> for PgError {
    fn from(error: Error) -> Self {
        let code = code_of(&error);
        // Who connects does not open the pond.
        let hint = match error.kind() {
            ErrorKind::Refused if code == "25006" => {
                Some("pond serve --write lets clients change the pond")
            }
            ErrorKind::Refused if error.message().contains("closes the host") => Some(
                "pond serve --allow-host DIR opens a directory of the server's machine to clients; \
                 what is mounted is readable",
            ),
            _ => error.hint(),
        };
        Self {
            code,
            message: error.to_string(),
            hint: hint.map(str::to_owned),
            position: None,
            is_fatal: false,
        }
    }
}

/// Returns the place of an error of the statement `text`, as a character from 1.
pub(super) fn position(error: &Error, text: &str) -> Option<u64> {
    let place = error.place().filter(|place| place.name.is_none())?;
    let lines = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let before: usize =
        text.split_inclusive('\n').take(lines).map(|line| line.chars().count()).sum();
    Some(before as u64 + place.column)
}

fn code_of(error: &Error) -> &'static str {
    let said = error.message();
    match error.kind() {
        ErrorKind::NotFound if said.starts_with("column ") => "42703",
        ErrorKind::NotFound if said.contains("function '") => "42883",
        ErrorKind::NotFound if said.starts_with("setting ") => "42704",
        ErrorKind::NotFound if said.starts_with("factory ") => "42704",
        ErrorKind::NotFound if said.starts_with("parameter ") => "42P02",
        ErrorKind::NotFound => "42P01",
        ErrorKind::AlreadyExists => "42P07",
        ErrorKind::Conflict => "40001",
        ErrorKind::ReadOnly => "25006",
        ErrorKind::Invalid if said.starts_with("syntax error") => "42601",
        ErrorKind::Invalid => "22023",
        ErrorKind::Unsupported => "0A000",
        ErrorKind::Refused if said.contains("read-only") => "25006",
        ErrorKind::Refused | ErrorKind::PermissionDenied => "42501",
        ErrorKind::Corrupt => "XX001",
        ErrorKind::Limit if is_of_time(said) => "57014",
        ErrorKind::Limit => "53200",
        ErrorKind::Cancelled => "57014",
        ErrorKind::Io => "58030",
        ErrorKind::Engine => code_of_engine(&error.to_string().to_lowercase()),
    }
}

fn is_of_time(said: &str) -> bool {
    ["time limit", "timeout", "timed out", "longer than"].iter().any(|word| said.contains(word))
}

/// The engine's errors have no kinds that tell these apart.
fn code_of_engine(said: &str) -> &'static str {
    const KNOWN: [(&str, &str); 6] = [
        ("divide by zero", "22012"),
        ("cannot cast", "22P02"),
        ("error parsing", "22P02"),
        ("overflow", "22003"),
        ("not implemented", "0A000"),
        ("coerce", "42804"),
    ];
    KNOWN.iter().find(|(word, _)| said.contains(word)).map_or("XX000", |(_, code)| code)
}
