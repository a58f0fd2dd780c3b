//! Where a statement comes from, and where in it an error is.
//!
//! Most errors are found long after parsing, where no token is at hand; but they name the object
//! first, in quotes. The place of an error is that of the first such name that the statement has, as
//! a word, a quoted name or a path.

use std::ops::Range;
use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::script::{Cursor, tokenize};
use crate::error::{Error, Place};

/// A statement's place in its script.
#[derive(Debug, Clone)]
pub struct Origin {
    pub(super) script: Arc<str>,
    /// The bytes of the script that are the statement, without its semicolon.
    pub(super) statement: Range<usize>,
    pub(super) name: Option<Arc<str>>,
    /// Lines of the whole text that come before `script`.
    pub(super) lines_before: u64,
}

impl Origin {
    /// Returns the statement's source.
    pub fn text(&self) -> &str {
        &self.script[self.statement.clone()]
    }

    /// Returns the whole text that the statement is in.
    pub fn script(&self) -> &str {
        &self.script
    }

    /// Returns the place of the statement's first line.
    pub fn start(&self) -> Place {
        let first = self.text().lines().next().unwrap_or_default().trim_end();
        self.place(0..first.len())
    }

    /// Adds to `error` the place in the statement that it is about, unless it has one or none is
    /// found.
    #[must_use]
    pub fn locate(&self, error: Error) -> Error {
        if error.place().is_some() {
            return error;
        }
        match self.find(&error) {
            Some(span) => error.with_place(self.place(span)),
            None => error,
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        let from = self.statement.start;
        Place::of(&self.script, from + span.start..from + span.end, self.lines_before + 1)
            .named(self.name.as_deref())
    }

    /// Returns the bytes of the statement that `error` names.
    fn find(&self, error: &Error) -> Option<Range<usize>> {
        let text = self.text();
        let tokens = spans(text);
        error.names().into_iter().find_map(|name| {
            // A word that is used, rather than one that is made, or text.
            let used = tokens.iter().find(|(token, _)| token.is_used(&name));
            let whole = used.or_else(|| tokens.iter().find(|(token, _)| token.is(&name)));
            // A name with its table: the last part is the one that is meant.
            let part = || {
                let (_, last) = name.rsplit_once('.')?;
                tokens.iter().rfind(|(token, _)| token.is(last))
            };
            whole.or_else(part).map(|(_, span)| span.clone())
        })
    }
}

/// What a name may be in a statement.
enum Named {
    /// A word, and whether it is used: neither an alias after AS, nor a table after FROM, nor a function.
    Word {
        word: String,
        is_used: bool,
    },
    Text(String),
}

impl Named {
    fn is_used(&self, name: &str) -> bool {
        matches!(self, Self::Word { word, is_used: true } if word.eq_ignore_ascii_case(name))
    }

    fn is(&self, name: &str) -> bool {
        match self {
            Self::Word { word, .. } => word.eq_ignore_ascii_case(name),
            // Paths may be relative, or name the past.
            Self::Text(text) => {
                text == name
                    || (name.starts_with('/')
                        && !text.is_empty()
                        && (name.strip_suffix(text.trim_start_matches("./")))
                            .is_some_and(|before| before.ends_with('/')))
            }
        }
    }
}

/// Returns the words and texts of a statement and their bytes.
fn spans(text: &str) -> Vec<(Named, Range<usize>)> {
    let (tokens, _) = tokenize(text);
    let mut found = Vec::new();
    let mut cursor = Cursor::new();
    let mut tokens =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).peekable();
    let mut before = String::new();
    while let Some(token) = tokens.next() {
        let introduced = ["AS", "FROM", "JOIN", "WITH", "TABLE", "VIEW"].contains(&before.as_str());
        before = token.token.to_string().to_uppercase();
        let named = match token.token {
            Token::Word(word) => {
                let calls = [Some(Token::LParen), Some(Token::Period)];
                let follows = tokens.peek().map(|next| next.token.clone());
                let is_used = !introduced && !calls.contains(&follows);
                Named::Word { word: word.value, is_used }
            }
            Token::SingleQuotedString(text) => Named::Text(text),
            _ => continue,
        };
        let begin = cursor.advance_to(text, token.span.start);
        let end = cursor.advance_to(text, token.span.end);
        found.push((named, begin..end));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Script;

    fn place(sql: &str, message: &str) -> Option<String> {
        let statement = Script::new(sql).last().unwrap().unwrap();
        let error = statement.origin().locate(Error::not_found(message));
        error.place().map(|place| {
            let shown = &place.excerpt[place.span.clone()];
            format!("{}:{}: {shown}", place.line, place.column)
        })
    }

    #[test]
    fn the_place_is_that_of_the_first_name_that_is_there() {
        let sql = "SELECT 1;\nSELECT a, \"Wind\" FROM 'b/é.csv' x\n WHERE x.c > 1";
        for (message, expected) in [
            ("column 'a' does not exist", Some("2:8: a")),
            ("column 'x.c' does not exist", Some("3:10: c")),
            ("column 'Wind' does not exist", Some("2:11: \"Wind\"")),
            ("'/dir/b/é.csv' does not exist", Some("2:23: 'b/é.csv'")),
            ("'/other' has no 'c'", Some("3:10: c")),
            ("the disk is full", None),
        ] {
            assert_eq!(place(sql, message).as_deref(), expected, "{message}");
        }
    }
}
