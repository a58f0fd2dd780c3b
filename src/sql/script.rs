//! Splits a text into statements by its tokens, never by its lines.
//!
//! A [`Script`] is an iterator: a statement is parsed when it is asked for, so those before an error
//! can run. A text that ends within a quote or a comment yields the statements before it, then the
//! error.

use std::vec;

use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{
    Location, Token, TokenWithSpan, Tokenizer, TokenizerError,
};

use super::parser;
use super::statement::Statement;
use crate::error::{Error, Result, did_you_mean};

/// The dialect of all our SQL.
pub(super) const DIALECT: GenericDialect = GenericDialect {};

/// The statements of a text, one by one.
#[derive(Debug)]
pub struct Script {
    text: String,
    tokens: vec::IntoIter<TokenWithSpan>,
    /// Why the text has no tokens beyond `tokens`.
    failure: Option<TokenizerError>,
    cursor: Cursor,
}

impl Script {
    /// Prepares to split `text`.
    pub fn new(text: &str) -> Self {
        let (tokens, failure) = tokenize(text);
        Self {
            text: text.to_owned(),
            tokens: tokens.into_iter(),
            failure,
            cursor: Cursor { line: 1, column: 1, byte: 0 },
        }
    }

    /// Parses a text that must be exactly one statement.
    ///
    /// # Errors
    /// `Invalid` for none, for more than one, and for a syntax error.
    pub fn parse_one(text: &str) -> Result<Statement> {
        let mut script = Self::new(text);
        let statement =
            script.next().ok_or_else(|| Error::invalid("the text holds no statement"))??;
        match script.next() {
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
                let excerpt = Excerpt { text: &self.text, start };
                return Some(Err(tokenizer_error(&failure, excerpt)));
            }
            let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
                if ended {
                    continue;
                }
                return None;
            };
            let (start, end) = (first.span.start, last.span.end);
            let from = self.cursor.advance_to(&self.text, start);
            let to = self.cursor.advance_to(&self.text, end);
            let text = self.text[from..to].to_owned();
            let found_first = first.token.to_string();
            let source = Source { text: &self.text[from..to], start };
            return Some(match parser::parse(tokens, source) {
                Ok(body) => Ok(Statement { text, line: start.line, body }),
                Err(parser::Failure::Ours(error)) => Err(error),
                Err(parser::Failure::Syntax(error)) => {
                    let excerpt = Excerpt { text: &self.text, start };
                    Err(syntax_error(error, excerpt, end, &found_first))
                }
            });
        }
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
struct Cursor {
    line: u64,
    column: u64,
    byte: usize,
}

impl Cursor {
    /// Returns the byte at `to`, which is not before the last one asked for.
    fn advance_to(&mut self, text: &str, to: Location) -> usize {
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

/// Where the statement at fault is.
#[derive(Clone, Copy)]
struct Excerpt<'a> {
    text: &'a str,
    start: Location,
}

/// The longest line that is shown whole.
const EXCERPT_CHARS_MAX: usize = 100;

impl Excerpt<'_> {
    /// Returns the line of the script at `at`, and a caret below the column.
    fn show(self, at: Location) -> String {
        let index = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let line = self.text.lines().nth(index).unwrap_or_default();
        let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
        let skipped = column.saturating_sub(EXCERPT_CHARS_MAX / 2);
        let shown: String = line.chars().skip(skipped).take(EXCERPT_CHARS_MAX).collect();
        // Tabs stay tabs, so that the caret is below its character whatever their width.
        let indent: String = shown
            .chars()
            .take(column - skipped)
            .map(|char| if char == '\t' { '\t' } else { ' ' })
            .collect();
        format!("\n  {shown}\n  {indent}^")
    }
}

fn tokenizer_error(failure: &TokenizerError, excerpt: Excerpt<'_>) -> Error {
    let at = failure.location;
    let mut message = failure.message.clone();
    if let Some(first) = message.get(..1) {
        message = format!("{}{}", first.to_lowercase(), &message[1..]);
    }
    Error::invalid(format!(
        "syntax error at line {}, column {}: {}{}",
        at.line,
        at.column,
        message.trim_end_matches('.'),
        excerpt.show(at)
    ))
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
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
];

fn syntax_error(error: DataFusionError, excerpt: Excerpt<'_>, end: Location, first: &str) -> Error {
    let message = match &error {
        DataFusionError::SQL(error, _) => match error.as_ref() {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => {
                message.clone()
            }
            ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
        },
        other => other.strip_backtrace(),
    };
    let (message, at) = match message.rsplit_once(" at Line: ") {
        Some((message, place)) => (message.to_owned(), parse_location(place)),
        None => (message, None),
    };
    // What is missing at the end has no place of its own.
    let at = at.unwrap_or(if message.ends_with("found: EOF") { end } else { excerpt.start });
    let message = message
        .replace("Expected: ", "expected ")
        .replace(", found: EOF", ", but the statement ends")
        .replace(", found: ", ", found ");
    let hint = (at == excerpt.start)
        .then(|| did_you_mean(&first.to_uppercase(), FIRST_WORDS.iter().copied()));
    Error::invalid(format!(
        "syntax error at line {}, column {}: {message}{}",
        at.line,
        at.column,
        excerpt.show(at)
    ))
    .with_hint_opt(hint.flatten())
}

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
                Ok(statement) => format!("{}: {}", statement.line(), statement.text()),
                Err(error) => format!("error: {}", error.message().lines().next().unwrap()),
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
            "syntax error at line 2, column 12: expected an expression, found ,\n  \
             \tSELECT (a,,b)\n  \t          ^"
        );
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
