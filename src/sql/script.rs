//! Splits a text into statements by its tokens, never by its lines.
//!
//! A [`Script`] is an iterator: a statement is parsed when it is asked for, so those before an error
//! can run. A text that ends within a quote or a comment yields the statements before it, then the
//! error.

use std::sync::Arc;
use std::vec;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{
    Location, Token, TokenWithSpan, Tokenizer, TokenizerError,
};

use super::origin::Origin;
use super::params::{self, Params};
use super::parser;
use super::statement::{Body, Statement};
use crate::error::{Error, Place, Result, did_you_mean};

/// The dialect of all our SQL.
pub(super) const DIALECT: GenericDialect = GenericDialect {};

/// The statements of a text, one by one.
#[derive(Debug)]
pub struct Script {
    text: Arc<str>,
    name: Option<Arc<str>>,
    /// Lines of the whole that come before `text`.
    lines_before: u64,
    tokens: vec::IntoIter<TokenWithSpan>,
    /// Why the text has no tokens beyond `tokens`.
    failure: Option<TokenizerError>,
    cursor: Cursor,
    /// The values of parameters; without them, those are left to the engine.
    params: Option<Params>,
}

impl Script {
    /// Prepares to split `text`.
    pub fn new(text: &str) -> Self {
        let (tokens, failure) = tokenize(text);
        Self {
            text: text.into(),
            name: None,
            lines_before: 0,
            tokens: tokens.into_iter(),
            failure,
            cursor: Cursor::new(),
            params: None,
        }
    }

    /// Says what the text is called, for errors, and how many lines of it came before this part.
    #[must_use]
    pub fn named(mut self, name: Option<&str>, lines_before: u64) -> Self {
        self.name = name.map(Arc::from);
        self.lines_before = lines_before;
        self
    }

    /// Sets the values of the parameters: `$name`, `$1`. A parameter without one is an error then.
    #[must_use]
    pub fn with_params(mut self, params: &Params) -> Self {
        self.params = Some(params.clone());
        self
    }

    /// Parses a text that must be exactly one statement.
    ///
    /// # Errors
    /// `Invalid` for none, for more than one, and for a syntax error.
    pub fn parse_one(text: &str) -> Result<Statement> {
        Self::new(text).only()
    }

    /// Returns the one statement that the text must be.
    ///
    /// # Errors
    /// Those of [`Script::parse_one`].
    pub fn only(mut self) -> Result<Statement> {
        let statement =
            self.next().ok_or_else(|| Error::invalid("the text holds no statement"))??;
        match self.next() {
            None => Ok(statement),
            Some(_) => Err(Error::invalid("the text holds more than one statement")
                .with_hint("run it as a script, or one statement at a time")),
        }
    }
}

impl Iterator for Script {
    type Item = Result<Statement>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut tokens = Vec::new();
            let mut ended = false;
            for token in self.tokens.by_ref() {
                if token.token == Token::SemiColon {
                    ended = true;
                    break;
                }
                if !tokens.is_empty() || !matches!(token.token, Token::Whitespace(_)) {
                    tokens.push(token);
                }
            }
            while tokens.last().is_some_and(|last| matches!(last.token, Token::Whitespace(_))) {
                tokens.pop();
            }
            if !ended && let Some(failure) = self.failure.take() {
                let start = tokens.first().map_or(failure.location, |first| first.span.start);
                return Some(Err(tokenizer_error(&failure, self.place(failure.location, start))));
            }
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
                if ended {
                    continue;
                }
                return None;
            };
            let (start, end) = (first.span.start, last.span.end);
            let found_first = first.token.to_string();
            let from = self.cursor.advance_to(&self.text, start);
            let to = self.cursor.advance_to(&self.text, end);
            let source = Source { text: &self.text[from..to], start };
            let tokens = match &self.params {
                Some(params) => match params.bind(tokens) {
                    Ok(tokens) => tokens,
                    Err((error, at)) => {
                        return Some(Err(error.with_place(self.place(at, start))));
                    }
                },
                None => tokens,
            };
            let origin = || Origin {
                script: self.text.clone(),
                statement: from..to,
                name: self.name.clone(),
                lines_before: self.lines_before,
            };
            return Some(match parser::parse(tokens, source) {
                Ok(body) => {
                    let refused = match (&self.params, &body) {
                        (Some(_), Body::Node(node)) => node.query().map_or(Ok(()), params::refuse),
                        _ => Ok(()),
                    };
                    match refused {
                        Ok(()) => Ok(Statement { origin: origin(), body }),
                        Err(error) => Err(origin().locate(error)),
                    }
                }
                Err(parser::Failure::Ours(error)) => Err(origin().locate(error)),
                Err(parser::Failure::Syntax(error)) => {
                    let syntax = Syntax::of(&error);
                    // What is missing at the end has no place of its own.
                    let at_end = syntax.message.ends_with("found: EOF");
                    let at = syntax.at.unwrap_or(if at_end { end } else { start });
                    let place = self.place(at, start);
                    let (word, words) = match at == start {
                        true => (found_first.as_str(), FIRST_WORDS),
                        false => (&place.excerpt[place.span.clone()], OTHER_WORDS),
                    };
                    let hint = did_you_mean(&word.to_uppercase(), words.iter().copied());
                    Err(syntax_error(&syntax.message, place).with_hint_opt(hint))
                }
            });
        }
    }
}

impl Script {
    /// Returns the place of the token at `at`, in the statement that begins at `start`.
    fn place(&self, at: Location, start: Location) -> Place {
        let begin = self.byte_of(at.max(start));
        let rest = &self.text[begin..];
        let token = Tokenizer::new(&DIALECT, rest.lines().next().unwrap_or_default())
            .tokenize_with_location()
            .ok()
            .and_then(|tokens| tokens.into_iter().next())
            .filter(|token| !matches!(token.token, Token::Whitespace(_)))
            .map_or(1, |token| (token.span.end.column - 1) as usize);
        let length = rest.char_indices().nth(token).map_or(rest.len(), |(at, _)| at);
        let end = if rest.starts_with(['\n', '\r']) { begin } else { begin + length };
        Place::of(&self.text, begin..end, self.lines_before + 1).named(self.name.as_deref())
    }

    fn byte_of(&self, at: Location) -> usize {
        Cursor::new().advance_to(&self.text, at)
    }
}

/// Whether `text` can be run as it is: it ends with a semicolon outside of quotes and comments, or
/// holds no statement, or an error that no further line can mend.
pub fn is_complete(text: &str) -> bool {
    let (tokens, failure) = tokenize(text);
    match failure {
        Some(failure) => !is_unterminated(&failure),
        None => tokens
            .iter()
            .rev()
            .find(|token| !matches!(token.token, Token::Whitespace(_)))
            .is_none_or(|last| last.token == Token::SemiColon),
    }
}

/// One statement of a text, cut out by its tokens and not parsed.
#[cfg(feature = "serve")]
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    /// The statement, without its semicolon.
    pub text: &'a str,
    /// The byte of the whole text at which it begins.
    pub begin: usize,
    /// Its tokens without blanks and comments, and their bytes in it.
    pub tokens: Vec<(Token, std::ops::Range<usize>)>,
}

/// Cuts a text into its statements. A text that ends within quotes is cut as far as it goes.
#[cfg(feature = "serve")]
pub(crate) fn cut(text: &str) -> Vec<Cut<'_>> {
    let (tokens, failure) = tokenize(text);
    let mut cursor = Cursor::new();
    let mut cuts = Vec::new();
    let mut of_one: Vec<(Token, std::ops::Range<usize>)> = Vec::new();
    let end_of = |of_one: &mut Vec<(Token, std::ops::Range<usize>)>, end: Option<usize>| {
        let mut tokens = std::mem::take(of_one);
        let begin = tokens.first()?.1.start;
        let end = end.or_else(|| tokens.last().map(|(_, span)| span.end))?;
        for (_, span) in &mut tokens {
            *span = span.start - begin..span.end - begin;
        }
        Some(Cut { text: &text[begin..end], begin, tokens })
    };
    for token in tokens {
        match token.token {
            Token::SemiColon => cuts.extend(end_of(&mut of_one, None)),
            Token::Whitespace(_) => {}
            other => {
                let begin = cursor.advance_to(text, token.span.start);
                of_one.push((other, begin..cursor.advance_to(text, token.span.end)));
            }
        }
    }
    let end = failure.as_ref().map(|_| text.len());
    match end_of(&mut of_one, end) {
        Some(last) => cuts.push(last),
        // What cannot be read is a statement, too: parsing it says why.
        None if failure.is_some() => {
            let begin = cursor.byte;
            cuts.push(Cut { text: &text[begin..], begin, tokens: Vec::new() });
        }
        None => {}
    }
    cuts
}

/// Returns the tokens of `text`, and why they end before it does.
pub(super) fn tokenize(text: &str) -> (Vec<TokenWithSpan>, Option<TokenizerError>) {
    let mut tokens = Vec::new();
    let failure = Tokenizer::new(&DIALECT, text).tokenize_with_location_into_buf(&mut tokens).err();
    (tokens, failure)
}

/// sqlparser has no kind of its own for an end within quotes.
fn is_unterminated(error: &TokenizerError) -> bool {
    error.message.contains("Unterminated") || error.message.contains("EOF")
}

/// The text of one statement, and where in its script it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    text: &'a str,
    start: Location,
}

impl<'a> Source<'a> {
    /// A text that is a statement, and nothing else.
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, start: Location { line: 1, column: 1 } }
    }

    /// Returns the text from a place of the script on.
    pub(super) fn from(self, at: Location) -> &'a str {
        let mut cursor = Cursor { line: self.start.line, column: self.start.column, byte: 0 };
        &self.text[cursor.advance_to(self.text, at)..]
    }
}

/// A place in a text that only moves forward, so that a script costs its length.
#[derive(Debug)]
pub(super) struct Cursor {
    line: u64,
    column: u64,
    byte: usize,
}

impl Cursor {
    /// Begins at the beginning of a text.
    pub(super) fn new() -> Self {
        Self { line: 1, column: 1, byte: 0 }
    }

    /// Returns the byte at `to`, which is not before the last one asked for.
    pub(super) fn advance_to(&mut self, text: &str, to: Location) -> usize {
        for char in text[self.byte..].chars() {
            if (self.line, self.column) >= (to.line, to.column) {
                break;
            }
            if char == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
            self.byte += char.len_utf8();
        }
        self.byte
    }
}

/// Clauses begin with these, for the hint after a mistyped one.
const OTHER_WORDS: &[&str] = &[
    "FROM",
    "WHERE",
    "GROUP BY",
    "ORDER BY",
    "HAVING",
    "LIMIT",
    "OFFSET",
    "JOIN",
    "LEFT JOIN",
    "UNION",
    "VALUES",
    "FACTORY",
    "WITH",
    "OPTIONS",
    "COMMENT",
    "NODE",
    "NODES",
    "TABLE",
    "VIEW",
    "SCHEMA",
    "RECURSIVE",
    "LIKE",
];

/// What the parser says of a syntax error.
struct Syntax {
    message: String,
    at: Option<Location>,
}

impl Syntax {
    /// Takes the place out of the message, which is where the parser has it.
    fn of(error: &DataFusionError) -> Self {
        let message = match error {
            DataFusionError::SQL(error, _) => match error.as_ref() {
                ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                    message.clone()
                }
                ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
            },
            other => other.strip_backtrace(),
        };
        match message.rsplit_once(" at Line: ") {
            Some((before, place)) => Self { message: before.to_owned(), at: parse_location(place) },
            None => Self { message, at: None },
        }
    }
}

fn tokenizer_error(failure: &TokenizerError, place: Place) -> Error {
    let mut message = failure.message.clone();
    if let Some(first) = message.get(..1) {
        message = format!("{}{}", first.to_lowercase(), &message[1..]);
    }
    syntax_error(message.trim_end_matches('.'), place)
}

fn syntax_error(message: &str, place: Place) -> Error {
    let message = message
        .replace("Expected: ", "expected ")
        .replace(", found: EOF", ", but the statement ends")
        .replace(", found: ", ", found ");
    let (line, column) = (place.line, place.column);
    Error::invalid(format!("syntax error at line {line}, column {column}: {message}"))
        .with_place(place)
}

/// Statements may begin with these, for the hint after a mistyped one.
const FIRST_WORDS: &[&str] = &[
    "SELECT",
    "WITH",
    "FROM",
    "VALUES",
    "TABLE",
    "CREATE",
    "ALTER",
    "DROP",
    "SHOW",
    "DESCRIBE",
    "DESC",
    "EXPLAIN",
    "INSERT",
    "UPDATE",
    "DELETE",
    "COPY",
    "SET",
    "RESET",
    "USE",
    "REFRESH",
    "RESTORE",
    "SUMMARIZE",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
];

/// Parses `3, Column: 14`.
fn parse_location(text: &str) -> Option<Location> {
    let (line, column) = text.split_once(", Column: ")?;
    Some(Location { line: line.parse().ok()?, column: column.trim().parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        Script::new(script)
            .map(|statement| match statement {
                Ok(statement) => {
                    format!("{}: {}", statement.origin().start().line, statement.text())
                }
                Err(error) => format!("error: {}", error.message()),
            })
            .collect()
    }

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        let script = "-- a; comment\nSELECT 'a;b' ; /* ; */ CREATE NODE '/é;x' -- ;\n \
                      FACTORY f;; ; SELECT \";\"";
        assert_eq!(
            texts(script),
            ["2: SELECT 'a;b'", "2: CREATE NODE '/é;x' -- ;\n FACTORY f", "3: SELECT \";\""]
        );
        assert!(texts(" ; -- nothing\n").is_empty());
    }

    #[test]
    fn what_comes_before_an_error_is_yielded() {
        assert_eq!(
            texts("SELECT 1; SELECT 'abc"),
            [
                "1: SELECT 1",
                "error: syntax error at line 1, column 18: unterminated string literal"
            ]
        );
        assert_eq!(
            texts("SELEC 1; SELECT 2"),
            [
                "error: syntax error at line 1, column 1: expected an SQL statement, found SELEC",
                "1: SELECT 2"
            ]
        );
    }

    #[test]
    fn errors_show_the_place() {
        let error = Script::parse_one("SELECT 1;\nSELECT a,,b").unwrap_err();
        assert_eq!(error.message(), "the text holds more than one statement");
        let error = Script::new("SELECT 1;\n\tSELECT (a,,b)").nth(1).unwrap().unwrap_err();
        assert_eq!(
            error.message(),
            "syntax error at line 2, column 12: expected an expression, found ,"
        );
        let place = error.place().unwrap();
        assert_eq!((place.line, place.column), (2, 12));
        assert_eq!(place.excerpt, "\tSELECT (a,,b)");
        assert_eq!(&place.excerpt[place.span.clone()], ",");
        let error = Script::parse_one("SELEC 1").unwrap_err();
        assert_eq!(error.hint(), Some("did you mean 'SELECT'?"));
        let error = Script::parse_one("CREATE NODE '/a'").unwrap_err();
        assert!(error.message().contains("column 17: expected FACTORY, but the statement ends"));
    }

    #[test]
    fn completeness() {
        for (text, expected) in [
            ("", true),
            ("-- note", true),
            ("SELECT 1;", true),
            ("SELECT 1; -- done", true),
            ("SELECT 1", false),
            ("SELECT ';", false),
            ("SELECT \";", false),
            ("SELECT 1; /* ;", false),
            ("SELECT $$;", false),
            ("SELECT 1;\nSELECT", false),
        ] {
            assert_eq!(is_complete(text), expected, "{text}");
        }
    }
}
