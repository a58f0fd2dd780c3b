//! Statements about the connection itself, which never reach the pond: settings of Postgres, the
//! limits of a transaction, and what is prepared.
//!
//! Drivers set and ask for settings that a pond has no use for; those known here are kept and given
//! back. What a setting would change of the form of values is refused, for there is one form.

use std::collections::BTreeMap;
use std::time::Duration;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::copy::Copy;
use super::errors::PgError;
use super::type_names;
use crate::sql::Cut;

type Result<T> = std::result::Result<T, PgError>;

/// The version of Postgres whose catalogs and settings clients find.
pub(super) const SERVER_VERSION: &str = "15.0";

/// The settings, what they are at first, and whether clients are told of changes.
const SETTINGS: &[(&str, &str, bool)] = &[
    ("application_name", "", true),
    ("bytea_output", "hex", false),
    ("check_function_bodies", "on", false),
    ("client_encoding", "UTF8", true),
    ("client_min_messages", "notice", false),
    ("datestyle", "ISO, MDY", true),
    ("default_tablespace", "", false),
    ("default_transaction_deferrable", "off", false),
    ("default_transaction_isolation", "read committed", false),
    ("default_transaction_read_only", "off", true),
    ("extra_float_digits", "1", false),
    ("geqo", "on", false),
    ("idle_in_transaction_session_timeout", "0", false),
    ("idle_session_timeout", "0", false),
    ("integer_datetimes", "on", true),
    ("intervalstyle", "postgres", true),
    ("is_superuser", "off", true),
    ("jit", "off", false),
    ("lc_collate", "C", false),
    ("lc_ctype", "C", false),
    ("lc_messages", "C", false),
    ("lock_timeout", "0", false),
    ("max_identifier_length", "63", false),
    ("max_index_keys", "32", false),
    ("row_security", "on", false),
    ("search_path", "\"$user\", public", false),
    ("server_encoding", "UTF8", true),
    ("server_version", SERVER_VERSION, true),
    ("server_version_num", "150000", false),
    ("session_authorization", "", true),
    ("standard_conforming_strings", "on", true),
    ("statement_timeout", "0", false),
    ("synchronous_commit", "on", false),
    ("timezone", "UTC", true),
    ("transaction_isolation", "read committed", false),
    ("transaction_read_only", "off", false),
    ("xmloption", "content", false),
];

/// Settings that tell what is, and are not set.
const FIXED: &[&str] = &[
    "integer_datetimes",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_identifier_length",
    "max_index_keys",
    "server_encoding",
    "server_version",
    "server_version_num",
];

/// Names as clients are told of them, where they are not in lower case.
const SHOWN: &[(&str, &str)] =
    &[("datestyle", "DateStyle"), ("intervalstyle", "IntervalStyle"), ("timezone", "TimeZone")];

/// The longest value of a setting, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// The settings of a connection.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, String>,
    /// Whether nothing can be changed, whatever a client sets.
    is_read_only: bool,
}

impl Settings {
    /// Returns the settings of a connection that begins.
    pub(super) fn new(is_read_only: bool, user: &str) -> Self {
        let values = SETTINGS.iter().map(|(name, value, _)| (*name, (*value).to_owned())).collect();
        let mut settings = Self { values, is_read_only };
        settings.put("session_authorization", user);
        settings.put("default_transaction_read_only", if is_read_only { "on" } else { "off" });
        settings.put("transaction_read_only", if is_read_only { "on" } else { "off" });
        settings
    }

    fn put(&mut self, name: &'static str, value: &str) {
        self.values.insert(name, value.to_owned());
    }

    /// Returns a setting, if there is one of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name.to_lowercase().as_str()).map(String::as_str)
    }

    /// Returns what a setting is at first.
    pub(super) fn usual(name: &str) -> &'static str {
        let found = SETTINGS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value, _)| value)
    }

    /// Returns the settings that clients are told of, with the names that they know.
    pub(super) fn told(&self) -> impl Iterator<Item = (&'static str, &str)> {
        SETTINGS
            .iter()
            .filter(|(_, _, is_told)| *is_told)
            .map(|(name, ..)| (shown(name), self.values[name].as_str()))
    }

    /// Returns all settings.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.values.iter().map(|(name, value)| (shown(name), value.as_str()))
    }

    /// Whether what a client set keeps statements from changing anything.
    pub(super) fn reads_only(&self) -> bool {
        self.is_read_only || self.values["transaction_read_only"] == "on"
    }

    /// Returns how long a statement may take, if a client set it.
    pub(super) fn statement_timeout(&self) -> Option<Duration> {
        duration(&self.values["statement_timeout"]).filter(|timeout| !timeout.is_zero())
    }

    /// Sets a setting, or sets it back to what it was at first. Returns what a client is to be told.
    ///
    /// # Errors
    /// `42704` for a name that is not known, `22023` for a value that does not go, `55P02` for what
    /// cannot be set.
    pub(super) fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<Option<(&'static str, String)>> {
        let lower = name.to_lowercase();
        let Some((name, default, is_told)) =
            SETTINGS.iter().find(|(known, ..)| *known == lower).copied()
        else {
            return Err(PgError::new("42704", format!("setting '{name}' does not exist")));
        };
        if FIXED.contains(&name) {
            return Err(PgError::new("55P02", format!("setting '{name}' cannot be changed")));
        }
        let value = value.unwrap_or(match name {
            "default_transaction_read_only" | "transaction_read_only" if self.is_read_only => "on",
            _ => default,
        });
        let value = accepted(name, value, self.is_read_only)?;
        if name == "session_authorization" {
            return Ok(None);
        }
        if name == "default_transaction_read_only" {
            self.put("transaction_read_only", &value);
        }
        let is_new = self.values[name] != value;
        self.put(name, &value);
        Ok((is_told && is_new).then(|| (shown(name), value)))
    }
}

fn shown(name: &'static str) -> &'static str {
    SHOWN.iter().find(|(known, _)| *known == name).map_or(name, |(_, shown)| shown)
}

/// Returns the value as it is kept, or why it cannot be.
fn accepted(name: &str, value: &str, is_read_only: bool) -> Result<String> {
    let lower = value.to_lowercase();
    let wrong = |why: &str| {
        Err(PgError::new("22023", format!("setting '{name}' cannot be '{value}': {why}")))
    };
    match name {
        _ if value.len() > VALUE_BYTES_MAX => {
            Err(PgError::new("22023", format!("setting '{name}': the value is too long")))
        }
        "client_encoding" => match lower.replace(['-', '_'], "").as_str() {
            "utf8" | "unicode" => Ok("UTF8".to_owned()),
            _ => wrong("texts are in UTF-8"),
        },
        "datestyle" => match lower.split(',').next().unwrap_or_default().trim() {
            "iso" | "dmy" | "mdy" | "ymd" | "default" => Ok("ISO, MDY".to_owned()),
            _ => wrong("dates are written as ISO has them"),
        },
        "intervalstyle" if lower != "postgres" => wrong("there is one style, postgres"),
        "bytea_output" if lower != "hex" => wrong("bytes are written as hex"),
        "standard_conforming_strings" if !is_on(&lower) => wrong("a backslash is a character"),
        "default_transaction_isolation" | "transaction_isolation" => isolation(&lower),
        "default_transaction_read_only" | "transaction_read_only" => {
            if is_read_only && !is_on(&lower) {
                return Err(PgError::new("25006", "this server only reads")
                    .with_hint("pond serve --write lets its clients change the pond"));
            }
            Ok(if is_on(&lower) { "on" } else { "off" }.to_owned())
        }
        "statement_timeout" if duration(value).is_none() => {
            wrong("a number of milliseconds, or one with ms, s, min or h")
        }
        _ => Ok(value.to_owned()),
    }
}

fn is_on(value: &str) -> bool {
    matches!(value, "on" | "true" | "yes" | "1" | "t" | "y")
}

fn isolation(level: &str) -> Result<String> {
    match level {
        "read uncommitted" | "read committed" | "repeatable read" => Ok(level.to_owned()),
        "serializable" => Err(PgError::new("0A000", "transactions are not serializable here")
            .with_hint(
                "REPEATABLE READ sees one snapshot, and fails if what it changes was changed",
            )),
        _ => Err(PgError::new("22023", format!("'{level}' is no level of isolation"))),
    }
}

/// Reads a duration as settings have them: `500`, `500ms`, `5s`, `1min`, `2h`.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().ok()?;
    let millis = match text[digits..].trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(count.checked_mul(millis)?))
}

/// The words of a mode, and what it is.
type Mode = (&'static str, fn(&mut Modes));

/// How a transaction is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Modes {
    /// Whether all its statements see one snapshot.
    pub is_repeatable: bool,
    pub reads_only: Option<bool>,
}

/// A statement about the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Set {
        name: String,
        value: Option<String>,
        /// Whether it is for the transaction alone.
        is_local: bool,
    },
    ResetAll,
    Show(String),
    ShowAll,
    Begin(Modes),
    /// Of the transaction that is open.
    SetTransaction(Modes),
    Commit,
    RollBack,
    Savepoint(String),
    Release(String),
    RollBackTo(String),
    /// All of them, without a name.
    Deallocate(Option<String>),
    DiscardAll,
    /// Of the query that begins at this byte of the statement.
    Declare {
        cursor: String,
        is_binary: bool,
        query: usize,
    },
    /// Of so many rows: those are returned, or passed over.
    Fetch {
        cursor: String,
        count: u64,
        passes: bool,
    },
    /// All cursors, without a name.
    Close(Option<String>),
    /// Of the statement that begins at this byte of it, with the types of its parameters.
    Prepare {
        name: String,
        types: Vec<u32>,
        statement: usize,
    },
    Execute(String),
    Copy(Copy),
    /// What needs nothing to be done, and is told as done by this name.
    Nothing(&'static str),
}

impl Command {
    /// Returns what a statement asks of the connection; `None` leaves it to the pond.
    ///
    /// # Errors
    /// Those of a value that does not go.
    pub(super) fn parse(cut: &Cut<'_>) -> Result<Option<Self>> {
        let mut words = Words { cut, at: 0 };
        let Some(first) = words.next_word() else { return Ok(None) };
        Ok(match first.as_str() {
            "SET" => words.set()?,
            "RESET" => match words.rest().as_slice() {
                [all] if all == "ALL" => Some(Self::ResetAll),
                [name] => {
                    words.known(name).map(|name| Self::Set { name, value: None, is_local: false })
                }
                _ => None,
            },
            "SHOW" => match words.joined().as_str() {
                "ALL" => Some(Self::ShowAll),
                "TIME ZONE" => Some(Self::Show("timezone".to_owned())),
                "TRANSACTION ISOLATION LEVEL" => {
                    Some(Self::Show("transaction_isolation".to_owned()))
                }
                "SESSION AUTHORIZATION" => Some(Self::Show("session_authorization".to_owned())),
                name => words.known(name).map(Self::Show),
            },
            "BEGIN" => Some(Self::Begin(words.modes()?)),
            "START" if words.take("TRANSACTION") => Some(Self::Begin(words.modes()?)),
            "COMMIT" | "END" if words.ends_transaction() => Some(Self::Commit),
            "ROLLBACK" | "ABORT" => words.roll_back(),
            "SAVEPOINT" => words.only_name().map(Self::Savepoint),
            "RELEASE" => {
                words.take("SAVEPOINT");
                words.only_name().map(Self::Release)
            }
            "DEALLOCATE" => {
                words.take("PREPARE");
                match words.names().as_slice() {
                    [all] if all.eq_ignore_ascii_case("ALL") => Some(Self::Deallocate(None)),
                    [name] => Some(Self::Deallocate(Some(name.clone()))),
                    _ => None,
                }
            }
            "DISCARD" => match words.joined().as_str() {
                "ALL" => Some(Self::DiscardAll),
                "PLANS" => Some(Self::Nothing("DISCARD PLANS")),
                "TEMP" | "TEMPORARY" => Some(Self::Nothing("DISCARD TEMP")),
                "SEQUENCES" => Some(Self::Nothing("DISCARD SEQUENCES")),
                _ => None,
            },
            "UNLISTEN" => Some(Self::Nothing("UNLISTEN")),
            "COPY" => Copy::parse(cut)?.map(Self::Copy),
            "DECLARE" => Some(words.declare()?),
            "PREPARE" => words.prepare()?,
            "EXECUTE" => words.name().map(Self::Execute),
            "FETCH" => Some(words.fetch(false)?),
            "MOVE" => Some(words.fetch(true)?),
            "CLOSE" if words.joined() == "ALL" => Some(Self::Close(None)),
            "CLOSE" => words.only_name().map(|cursor| Self::Close(Some(cursor))),
            _ => None,
        })
    }

    /// Whether it ends a transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::RollBack)
    }

    /// Whether it may come in a transaction that has failed.
    pub(super) fn mends_transaction(&self) -> bool {
        self.ends_transaction() || matches!(self, Self::RollBackTo(_))
    }
}

/// Returns the values that an EXECUTE gives, as they are written.
///
/// # Errors
/// `42601`.
pub(super) fn arguments(text: &str) -> Result<Vec<&str>> {
    let malformed = || {
        PgError::new("42601", "syntax error: EXECUTE takes values in parentheses")
            .with_hint("EXECUTE name (1, 'text')")
    };
    let cuts = crate::sql::cut(text);
    let [cut] = cuts.as_slice() else { return Err(malformed()) };
    let inner = match cut.tokens.get(2..) {
        None | Some([]) => return Ok(Vec::new()),
        Some([(Token::LParen, _), inner @ .., (Token::RParen, _)]) => inner,
        Some(_) => return Err(malformed()),
    };
    let mut depth = 0usize;
    let parts = inner.split(|(token, _)| {
        match token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && *token == Token::Comma
    });
    parts
        .map(|part| match part {
            [first, .., last] => Ok(&cut.text[first.1.start..last.1.end]),
            [one] => Ok(&cut.text[one.1.clone()]),
            [] => Err(malformed()),
        })
        .collect()
}

/// The words of a statement, one after another.
struct Words<'a> {
    cut: &'a Cut<'a>,
    at: usize,
}

impl Words<'_> {
    fn peek(&self) -> Option<&Token> {
        self.cut.tokens.get(self.at).map(|(token, _)| token)
    }

    /// Returns the next word in capitals, if it is one.
    fn next_word(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.peek() else { return None };
        let word = word.value.to_uppercase();
        self.at += 1;
        Some(word)
    }

    fn take(&mut self, wanted: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Word(word))
            if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted));
        self.at += usize::from(is_next);
        is_next
    }

    /// Returns what is left, words in capitals.
    fn rest(&self) -> Vec<String> {
        self.names().iter().map(|name| name.to_uppercase()).collect()
    }

    fn joined(&self) -> String {
        self.rest().join(" ")
    }

    /// Returns what is left, as it is written.
    fn names(&self) -> Vec<String> {
        self.cut.tokens[self.at..]
            .iter()
            .map(|(token, _)| match token {
                Token::Word(word) => word.value.clone(),
                Token::SingleQuotedString(text) => text.clone(),
                Token::Number(number, _) => number.clone(),
                other => other.to_string(),
            })
            .collect()
    }

    /// Returns the name of a setting that is known here.
    fn known(&self, name: &str) -> Option<String> {
        let name = name.to_lowercase();
        SETTINGS.iter().any(|(known, ..)| *known == name).then_some(name)
    }

    fn ends_transaction(&mut self) -> bool {
        if !self.take("WORK") {
            self.take("TRANSACTION");
        }
        self.peek().is_none()
    }

    /// Returns the one name that is left, as Postgres would know it.
    fn only_name(&self) -> Option<String> {
        match &self.cut.tokens[self.at..] {
            [(Token::Word(word), _)] if word.quote_style.is_none() => {
                Some(word.value.to_lowercase())
            }
            [(Token::Word(word), _)] => Some(word.value.clone()),
            _ => None,
        }
    }

    /// Takes the next name, as Postgres would know it.
    fn name(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.peek() else { return None };
        let name = match word.quote_style {
            None => word.value.to_lowercase(),
            Some(_) => word.value.clone(),
        };
        self.at += 1;
        Some(name)
    }

    fn take_any(&mut self, wanted: &[&str]) -> bool {
        wanted.iter().any(|word| self.take(word))
    }

    /// Reads what follows DECLARE.
    fn declare(&mut self) -> Result<Command> {
        let malformed = || {
            PgError::new("42601", "syntax error: DECLARE declares a cursor")
                .with_hint("DECLARE name CURSOR FOR SELECT …")
        };
        let cursor = self.name().filter(|name| !name.is_empty()).ok_or_else(malformed)?;
        let mut is_binary = false;
        loop {
            if self.take("BINARY") {
                is_binary = true;
            } else if self.take("SCROLL") {
                return Err(PgError::new("0A000", format!("cursor '{cursor}' cannot be SCROLL"))
                    .with_hint("cursors go forward only"));
            } else if self.take("NO") {
                if !self.take("SCROLL") {
                    return Err(malformed());
                }
            } else if !self.take_any(&["INSENSITIVE", "ASENSITIVE"]) {
                break;
            }
        }
        if !self.take("CURSOR") {
            return Err(malformed());
        }
        if self.take("WITH") {
            return Err(PgError::new("0A000", format!("cursor '{cursor}' cannot be WITH HOLD"))
                .with_hint("a cursor ends with its transaction"));
        }
        if self.take("WITHOUT") && !self.take("HOLD") || !self.take("FOR") {
            return Err(malformed());
        }
        let query = self.cut.tokens.get(self.at).ok_or_else(malformed)?.1.start;
        Ok(Command::Declare { cursor, is_binary, query })
    }

    /// Reads what follows PREPARE.
    fn prepare(&mut self) -> Result<Option<Command>> {
        let malformed = || {
            PgError::new("42601", "syntax error: PREPARE names a statement")
                .with_hint("PREPARE name (bigint, text) AS SELECT …")
        };
        let name = self.name().filter(|name| !name.is_empty()).ok_or_else(malformed)?;
        let mut types = Vec::new();
        if self.peek() == Some(&Token::LParen) {
            while self.peek() != Some(&Token::RParen) {
                self.at += 1;
                let rest: Vec<&Token> =
                    self.cut.tokens[self.at..].iter().take(12).map(|(token, _)| token).collect();
                let (of, length) = type_names::read(&rest).ok_or_else(|| {
                    let number = types.len() + 1;
                    PgError::new("42704", format!("the type of parameter ${number} is not known"))
                })?;
                types.push(of);
                self.at += length;
                if !matches!(self.peek(), Some(Token::Comma | Token::RParen)) {
                    return Err(malformed());
                }
            }
            self.at += 1;
        }
        if !self.take("AS") {
            return Err(malformed());
        }
        let statement = self.cut.tokens.get(self.at).ok_or_else(malformed)?.1.start;
        Ok(Some(Command::Prepare { name, types, statement }))
    }

    /// Reads what follows FETCH, or MOVE.
    fn fetch(&mut self, passes: bool) -> Result<Command> {
        const BACK: &[&str] = &["PRIOR", "FIRST", "LAST", "ABSOLUTE", "RELATIVE", "BACKWARD"];
        let back = || {
            PgError::new("55000", "cursors go forward only")
                .with_hint("NEXT, FORWARD, ALL and numbers above 0 go forward")
        };
        if self.take_any(BACK) || self.peek() == Some(&Token::Minus) {
            return Err(back());
        }
        let is_forward = self.take("FORWARD");
        let count = if self.take("ALL") {
            u64::MAX
        } else if let Some(Token::Number(number, _)) = self.peek() {
            let count = number.parse().map_err(|_| {
                PgError::new("42601", format!("syntax error: {number} rows cannot be fetched"))
            })?;
            self.at += 1;
            count
        } else {
            if is_forward && self.peek() == Some(&Token::Minus) {
                return Err(back());
            }
            self.take("NEXT");
            1
        };
        if count == 0 {
            return Err(back());
        }
        self.take_any(&["FROM", "IN"]);
        let cursor = self.only_name().ok_or_else(|| {
            PgError::new("42601", "syntax error: a cursor is named at the end")
                .with_hint("FETCH 100 FROM name")
        })?;
        Ok(Command::Fetch { cursor, count, passes })
    }

    /// Reads what follows ROLLBACK.
    fn roll_back(&mut self) -> Option<Command> {
        if self.ends_transaction() {
            return Some(Command::RollBack);
        }
        if !self.take("TO") {
            return None;
        }
        self.take("SAVEPOINT");
        self.only_name().map(Command::RollBackTo)
    }

    /// Reads what follows SET; settings with a dot are the engine's.
    fn set(&mut self) -> Result<Option<Command>> {
        let is_session = self.take("SESSION");
        let is_local = !is_session && self.take("LOCAL");
        let set =
            |name: &str, value| Ok(Some(Command::Set { name: name.to_owned(), value, is_local }));
        if self.take("CHARACTERISTICS") {
            self.take("AS");
            self.take("TRANSACTION");
            let modes = self.modes()?;
            return match modes.reads_only {
                Some(only) => set(
                    "default_transaction_read_only",
                    Some(if only { "on" } else { "off" }.to_owned()),
                ),
                None => set(
                    "default_transaction_isolation",
                    Some(
                        if modes.is_repeatable { "repeatable read" } else { "read committed" }
                            .to_owned(),
                    ),
                ),
            };
        }
        if self.take("TRANSACTION") {
            return Ok(Some(Command::SetTransaction(self.modes()?)));
        }
        if self.take("AUTHORIZATION") || self.take("ROLE") {
            return match self.joined().as_str() {
                "DEFAULT" | "NONE" => Ok(Some(Command::Nothing("SET"))),
                _ => Err(PgError::new("0A000", "a connection stays with its user")),
            };
        }
        if self.take("NAMES") {
            return set("client_encoding", self.value());
        }
        if self.take("TIME") {
            self.take("ZONE");
            return set("timezone", self.value());
        }
        let Some(Token::Word(word)) = self.peek() else { return Ok(None) };
        let name = word.value.clone();
        self.at += 1;
        // Settings of the engine have a dot.
        if self.peek() == Some(&Token::Period) {
            return Ok(None);
        }
        if self.peek() == Some(&Token::Eq) {
            self.at += 1;
        } else if !self.take("TO") {
            return Ok(None);
        }
        set(&name, self.value())
    }

    /// Returns a value, whose parts a comma separates; `None` for DEFAULT.
    fn value(&self) -> Option<String> {
        let names = self.names();
        match names.as_slice() {
            [word] if word.eq_ignore_ascii_case("DEFAULT") => None,
            _ => Some(names.join(" ").replace(" , ", ", ").replace("- ", "-")),
        }
    }

    /// Reads the modes of a transaction.
    fn modes(&mut self) -> Result<Modes> {
        if !self.take("WORK") {
            self.take("TRANSACTION");
        }
        let text = self.rest().into_iter().filter(|word| word != ",").collect::<Vec<_>>().join(" ");
        let mut modes = Modes::default();
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let known: [Mode; 7] = [
                ("READ ONLY", |modes| modes.reads_only = Some(true)),
                ("READ WRITE", |modes| modes.reads_only = Some(false)),
                ("ISOLATION LEVEL READ COMMITTED", |_| ()),
                ("ISOLATION LEVEL READ UNCOMMITTED", |_| ()),
                ("ISOLATION LEVEL REPEATABLE READ", |modes| modes.is_repeatable = true),
                ("NOT DEFERRABLE", |_| ()),
                ("DEFERRABLE", |_| ()),
            ];
            let Some((found, apply)) = known.iter().find(|(words, _)| rest.starts_with(words))
            else {
                isolation(&rest.trim_start_matches("ISOLATION LEVEL ").to_lowercase())?;
                return Err(PgError::new("42601", format!("a transaction takes no {rest}")));
            };
            apply(&mut modes);
            rest = rest[found.len()..].trim_start();
        }
        Ok(modes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Command> {
        Command::parse(&crate::sql::cut(text)[0]).unwrap()
    }

    #[test]
    fn what_drivers_send_is_understood() {
        let set = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), Some(value.to_owned()));
            Some(Command::Set { name, value, is_local: false })
        };
        let declare = |cursor: &str, is_binary, query| {
            Some(Command::Declare { cursor: cursor.to_owned(), is_binary, query })
        };
        let prepare = |types: &[u32], statement| {
            Some(Command::Prepare { name: "q".into(), types: types.to_vec(), statement })
        };
        let fetch = |count, passes| Some(Command::Fetch { cursor: "c".to_owned(), count, passes });
        for (text, expected) in [
            ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
            ("set datestyle to 'ISO', YMD", set("datestyle", "ISO, YMD")),
            ("SET SESSION application_name = 'x y'", set("application_name", "x y")),
            ("SET TIME ZONE 'Europe/Berlin'", set("timezone", "Europe/Berlin")),
            ("SET NAMES 'utf8'", set("client_encoding", "utf8")),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                set("default_transaction_read_only", "on"),
            ),
            ("SET datafusion.execution.batch_size = 10", None),
            (
                "SHOW TRANSACTION ISOLATION LEVEL",
                Some(Command::Show("transaction_isolation".into())),
            ),
            ("SHOW server_version", Some(Command::Show("server_version".into()))),
            ("SHOW NODES", None),
            ("BEGIN", Some(Command::Begin(Modes::default()))),
            (
                "START TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
                Some(Command::Begin(Modes { is_repeatable: true, reads_only: Some(true) })),
            ),
            ("END", Some(Command::Commit)),
            ("ABORT WORK", Some(Command::RollBack)),
            ("SAVEPOINT A", Some(Command::Savepoint("a".into()))),
            ("RELEASE \"A\"", Some(Command::Release("A".into()))),
            ("ROLLBACK TO SAVEPOINT a", Some(Command::RollBackTo("a".into()))),
            ("ROLLBACK AND CHAIN", None),
            ("DEALLOCATE ALL", Some(Command::Deallocate(None))),
            ("DEALLOCATE \"_pg3_0\"", Some(Command::Deallocate(Some("_pg3_0".into())))),
            ("DISCARD ALL", Some(Command::DiscardAll)),
            ("DECLARE C NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1", declare("c", false, 44)),
            ("declare \"C\" binary cursor for select 1", declare("C", true, 30)),
            ("FETCH c", fetch(1, false)),
            ("FETCH NEXT IN c", fetch(1, false)),
            ("FETCH FORWARD ALL FROM C", fetch(u64::MAX, false)),
            ("FETCH FORWARD c", fetch(1, false)),
            ("FETCH 20 c", fetch(20, false)),
            ("MOVE FORWARD 5 FROM \"c\"", fetch(5, true)),
            ("CLOSE c", Some(Command::Close(Some("c".into())))),
            ("CLOSE ALL", Some(Command::Close(None))),
            ("PREPARE Q AS SELECT $1", prepare(&[], 13)),
            ("PREPARE q(int, varchar(3)[]) AS SELECT $1", prepare(&[23, 1015], 32)),
            ("EXECUTE q(1, '2')", Some(Command::Execute("q".into()))),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for (text, code) in [
            ("BEGIN ISOLATION LEVEL SERIALIZABLE", "0A000"),
            ("DECLARE c SCROLL CURSOR FOR SELECT 1", "0A000"),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "0A000"),
            ("DECLARE c CURSOR", "42601"),
            ("FETCH PRIOR FROM c", "55000"),
            ("FETCH FORWARD -1 FROM c", "55000"),
            ("MOVE 0 IN c", "55000"),
            ("FETCH 5", "42601"),
            ("PREPARE q (nothing) AS SELECT 1", "42704"),
            ("PREPARE q (int AS SELECT 1", "42601"),
            ("PREPARE q SELECT 1", "42601"),
        ] {
            let refused = Command::parse(&crate::sql::cut(text)[0]).unwrap_err();
            assert_eq!(refused.code, code, "{text}");
        }
    }

    #[test]
    fn values_of_execute_are_cut() {
        for (text, expected) in [
            ("EXECUTE q", &[] as &[&str]),
            (
                "EXECUTE q (1, f(2, 3), 'a,b' || 'c', [4, 5])",
                &["1", "f(2, 3)", "'a,b' || 'c'", "[4, 5]"],
            ),
            ("EXECUTE \"q\"(-1)", &["-1"]),
        ] {
            assert_eq!(arguments(text).unwrap(), expected, "{text}");
        }
        for text in ["EXECUTE q ()", "EXECUTE q 1", "EXECUTE q (1", "EXECUTE q (1,)"] {
            assert!(arguments(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_are_kept_where_they_can_be() {
        let mut settings = Settings::new(true, "u");
        assert!(settings.set("application_name", Some("x")).unwrap().is_some());
        assert_eq!(settings.get("Application_Name"), Some("x"));
        settings.set("statement_timeout", Some("2s")).unwrap();
        assert_eq!(settings.statement_timeout(), Some(Duration::from_secs(2)));
        settings.set("statement_timeout", None).unwrap();
        assert_eq!(settings.statement_timeout(), None);
        for (name, value, code) in [
            ("none", "1", "42704"),
            ("server_version", "1", "55P02"),
            ("client_encoding", "LATIN1", "22023"),
            ("datestyle", "German", "22023"),
            ("transaction_read_only", "off", "25006"),
        ] {
            assert_eq!(settings.set(name, Some(value)).unwrap_err().code, code, "{name}");
        }
    }
}
