//! The pieces of a text as an editor sees it: complete or not, right or wrong.
//!
//! The parser's tokens know no bytes, and end at the first mistake. A text that is being typed is one
//! mistake most of the time, so this looks at it once, from left to right, and always comes to its
//! end. Completion and highlighting are made of it; nothing is ever run by it.

use std::ops::Range;

/// What a piece of a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// A word of the language.
    Keyword,
    /// Another word that a parenthesis follows.
    Function,
    /// Any other word.
    Name,
    /// A name in double quotes, or in backquotes.
    QuotedName,
    /// Text in single quotes, or between dollars.
    String,
    /// A number.
    Number,
    /// A comment.
    Comment,
    /// A sign: one character.
    Symbol,
}

/// A piece of a text; between pieces there is white space only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: PieceKind,
    /// Its bytes, quotes included.
    pub range: Range<usize>,
    /// Whether the text ends within it: a quote or a comment that is not closed.
    pub is_open: bool,
}

/// Cuts `text` into pieces.
pub fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let rest = &text[at..];
        let (kind, length) =
            piece(rest, first, pieces.last().is_some_and(|last| is_escaping(text, last, at)));
        if first == '('
            && let Some(last) = pieces.last_mut().filter(|last| last.kind == PieceKind::Name)
        {
            last.kind = PieceKind::Function;
        }
        let is_open = length.is_none();
        let end = at + length.unwrap_or(rest.len());
        pieces.push(Piece { kind, range: at..end, is_open });
        at = end;
    }
    pieces
}

/// Whether `last` is the `E` of a string with backslashes that begins at `at`.
fn is_escaping(text: &str, last: &Piece, at: usize) -> bool {
    last.range.end == at && text[last.range.clone()].eq_ignore_ascii_case("e")
}

/// Returns what `rest` begins with, and how many bytes that takes; `None` if it has no end.
fn piece(rest: &str, first: char, escapes: bool) -> (PieceKind, Option<usize>) {
    match first {
        '\'' => (PieceKind::String, quoted(rest, '\'', escapes)),
        '"' | '`' => (PieceKind::QuotedName, quoted(rest, first, false)),
        '-' if rest.starts_with("--") => {
            (PieceKind::Comment, Some(rest.find('\n').unwrap_or(rest.len())))
        }
        '/' if rest.starts_with("/*") => (PieceKind::Comment, block_comment(rest)),
        '$' if let Some(tag) = dollar_tag(rest) => {
            let end = rest[tag.len()..].find(tag).map(|at| at + 2 * tag.len());
            (PieceKind::String, end)
        }
        digit if digit.is_ascii_digit() => (PieceKind::Number, Some(number(rest))),
        letter if letter.is_alphabetic() || letter == '_' => {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '@' | '#');
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let kind =
                if is_keyword(&rest[..length]) { PieceKind::Keyword } else { PieceKind::Name };
            (kind, Some(length))
        }
        other => (PieceKind::Symbol, Some(other.len_utf8())),
    }
}

/// Returns the length of what begins with a quote; a doubled quote is a part of it.
fn quoted(text: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, char)) = chars.next() {
        if escapes && char == '\\' {
            chars.next();
        } else if char == quote && chars.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + quote.len_utf8());
        }
    }
    None
}

/// Returns the length of a comment; they nest.
fn block_comment(text: &str) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += 1;
        }
    }
    None
}

/// Returns the `$tag$` that a text begins with.
fn dollar_tag(text: &str) -> Option<&str> {
    let name = text[1..].find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    let is_tag =
        text[1 + name..].starts_with('$') && !text[1..].starts_with(|c: char| c.is_ascii_digit());
    is_tag.then(|| &text[..name + 2])
}

fn number(text: &str) -> usize {
    let bytes = text.as_bytes();
    let digits = |from: usize| {
        from + bytes[from..].iter().take_while(|b| b.is_ascii_digit() || **b == b'_').count()
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at = digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            at = digits(at + 1 + sign);
        }
    }
    at
}

/// Whether a word is one of the language, in any case.
pub fn is_keyword(word: &str) -> bool {
    // The longest has thirteen letters.
    word.len() <= 16 && KEYWORDS.binary_search(&word.to_ascii_uppercase().as_str()).is_ok()
}

/// The words of the language that are hardly ever names, sorted.
const KEYWORDS: &[&str] = &[
    "ALL",
    "ALTER",
    "ANALYZE",
    "AND",
    "ANTI",
    "ANY",
    "AS",
    "ASC",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASCADE",
    "CASE",
    "CAST",
    "COLUMNS",
    "COMMENT",
    "COMMIT",
    "COPY",
    "CREATE",
    "CROSS",
    "DEALLOCATE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DISTINCT",
    "DOWNSTREAM",
    "DROP",
    "ELSE",
    "END",
    "EVERY",
    "EXCEPT",
    "EXECUTE",
    "EXISTS",
    "EXPLAIN",
    "EXTERNAL",
    "FACTORIES",
    "FACTORY",
    "FALSE",
    "FETCH",
    "FILTER",
    "FOR",
    "FROM",
    "FULL",
    "FUNCTIONS",
    "GROUP",
    "HAVING",
    "IF",
    "ILIKE",
    "IN",
    "INNER",
    "INSERT",
    "INTERSECT",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATERAL",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LINEAGE",
    "LOCATION",
    "LOG",
    "NATURAL",
    "NODE",
    "NODES",
    "NOT",
    "NULL",
    "NULLS",
    "OF",
    "OFFSET",
    "ON",
    "OPTIONS",
    "OR",
    "ORDER",
    "OUTER",
    "OVER",
    "OVERWRITE",
    "PARTITION",
    "PREPARE",
    "QUALIFY",
    "RECURSIVE",
    "REFRESH",
    "RENAME",
    "REPLACE",
    "RESET",
    "RESTORE",
    "RESTRICT",
    "RIGHT",
    "ROLLBACK",
    "SCHEMA",
    "SELECT",
    "SEMI",
    "SET",
    "SHOW",
    "STORED",
    "SUMMARIZE",
    "TABLE",
    "TABLES",
    "THEN",
    "TO",
    "TRUE",
    "TRUNCATE",
    "UNION",
    "UPDATE",
    "UPSTREAM",
    "USE",
    "USING",
    "VALUES",
    "VIEW",
    "WHEN",
    "WHERE",
    "WINDOW",
    "WITH",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_by_search() {
        assert!(KEYWORDS.is_sorted());
        assert!(is_keyword("select") && !is_keyword("selects"));
    }

    #[test]
    fn every_text_has_pieces() {
        use PieceKind::*;
        for (text, expected) in [
            ("SELECT a", vec![(Keyword, "SELECT"), (Name, "a")]),
            (
                "max (1.5e-3)",
                vec![(Function, "max"), (Symbol, "("), (Number, "1.5e-3"), (Symbol, ")")],
            ),
            ("'it''s' \"q\"\"\"", vec![(String, "'it''s'"), (QuotedName, "\"q\"\"\"")]),
            ("e'a\\'b' x", vec![(Name, "e"), (String, "'a\\'b'"), (Name, "x")]),
            (
                "/* a /* b */ */ -- c\n1",
                vec![(Comment, "/* a /* b */ */"), (Comment, "-- c"), (Number, "1")],
            ),
            (
                "$$a;$$ $t$ $$ $t$ $1",
                vec![(String, "$$a;$$"), (String, "$t$ $$ $t$"), (Symbol, "$"), (Number, "1")],
            ),
            ("größe='ä", vec![(Name, "größe"), (Symbol, "="), (String, "'ä")]),
        ] {
            let found: Vec<_> =
                pieces(text).into_iter().map(|piece| (piece.kind, &text[piece.range])).collect();
            assert_eq!(found, expected, "{text}");
        }
        for text in ["'a", "\"a''", "/* a */ /* /* */", "$$ $a$"] {
            assert!(pieces(text).last().unwrap().is_open, "{text}");
        }
    }
}
