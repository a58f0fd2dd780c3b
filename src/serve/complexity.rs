//! How complex a statement is, counted before it is planned.
//!
//! Planning is bounded by neither time nor memory, and takes far more than in proportion to the operators
//! of a statement. What is long but flat, the rows of VALUES, lists of IN and arrays, is planned in
//! proportion: there the first operators of each element are free.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::errors::PgError;
use crate::sql::Cut;

/// Most operators of a statement.
const OPERATORS_MAX: usize = 2_000;

/// Operators of an element of a list that are free: a sign, a cast.
const FREE: usize = 8;

/// A statement with more operators, or a longer text, may keep a thread busy for a while.
const SLOW_OPERATORS: usize = 64;
const SLOW_BYTES: usize = 4_096;

/// What is within one pair of brackets.
#[derive(Default)]
struct Level {
    /// Whether its elements are planned in proportion to their number.
    is_list: bool,
    /// Whether what follows in parentheses, up to another word, is a row.
    has_rows: bool,
    /// Operators of all that is before the element.
    before: usize,
    /// Operators of the element.
    element: usize,
}

impl Level {
    fn end_element(&mut self) {
        let free = if self.is_list { FREE } else { 0 };
        self.before += self.element.saturating_sub(free);
        self.element = 0;
    }
}

/// Returns how many operators a statement has that are not free.
fn operators(tokens: &[&Token]) -> usize {
    let mut levels = Vec::new();
    let mut level = Level::default();
    let mut last: Option<&Token> = None;
    for (at, &token) in tokens.iter().enumerate() {
        match token {
            Token::LParen | Token::LBracket => {
                let is_query = matches!(tokens.get(at + 1), Some(Token::Word(word))
                    if word.quote_style.is_none() && is_one_of(&word.value, &["SELECT", "WITH"]));
                let is_list = !is_query
                    && (level.has_rows
                        || *token == Token::LBracket
                        || matches!(last, Some(Token::Word(word)) if is_one_of(&word.value, &["IN"])));
                levels.push(std::mem::replace(&mut level, Level { is_list, ..Level::default() }));
            }
            Token::RParen | Token::RBracket => {
                level.end_element();
                let outer = levels.pop().unwrap_or_default();
                let inner = std::mem::replace(&mut level, outer);
                level.element += inner.before;
            }
            Token::Comma => level.end_element(),
            Token::Word(word) if word.quote_style.is_none() => {
                level.has_rows = is_one_of(&word.value, &["VALUES"]);
                level.element += usize::from(is_operator_word(&word.value));
            }
            token if is_operator(token) => level.element += 1,
            _ => {}
        }
        last = Some(token);
    }
    level.end_element();
    levels.iter().fold(level.before, |sum, level| sum + level.before + level.element)
}

fn is_one_of(word: &str, words: &[&str]) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

fn is_operator_word(word: &str) -> bool {
    const WORDS: &[&str] = &[
        "AND",
        "OR",
        "NOT",
        "CASE",
        "WHEN",
        "UNION",
        "EXCEPT",
        "INTERSECT",
        "JOIN",
        "LIKE",
        "ILIKE",
        "BETWEEN",
        "IS",
        "CAST",
    ];
    is_one_of(word, WORDS)
}

fn is_operator(token: &Token) -> bool {
    matches!(
        token,
        Token::DoubleEq
            | Token::Eq
            | Token::Neq
            | Token::Lt
            | Token::Gt
            | Token::LtEq
            | Token::GtEq
            | Token::Spaceship
            | Token::Plus
            | Token::Minus
            | Token::Mul
            | Token::Div
            | Token::DuckIntDiv
            | Token::Mod
            | Token::StringConcat
            | Token::DoubleColon
            | Token::Ampersand
            | Token::Pipe
            | Token::Caret
            | Token::Sharp
            | Token::Tilde
            | Token::TildeAsterisk
            | Token::ExclamationMark
            | Token::ExclamationMarkTilde
            | Token::ExclamationMarkTildeAsterisk
            | Token::DoubleTilde
            | Token::DoubleTildeAsterisk
            | Token::ExclamationMarkDoubleTilde
            | Token::ExclamationMarkDoubleTildeAsterisk
            | Token::ShiftLeft
            | Token::ShiftRight
            | Token::Overlap
            | Token::Arrow
            | Token::LongArrow
            | Token::HashArrow
            | Token::HashLongArrow
            | Token::AtArrow
            | Token::ArrowAt
            | Token::CustomBinaryOperator(_)
    )
}

/// Refuses a statement with too many operators, and returns whether planning it may take a while.
///
/// # Errors
/// `54001`.
pub(super) fn check(cut: &Cut<'_>) -> Result<bool, PgError> {
    let tokens: Vec<&Token> = cut.tokens.iter().map(|(token, _)| token).collect();
    let operators = operators(&tokens);
    if operators > OPERATORS_MAX {
        let message = format!("statement too complex: it has {operators} operators");
        return Err(PgError::new("54001", message).with_hint(format!(
            "a statement may have {OPERATORS_MAX}; IN (…), rows of VALUES and arrays may be long"
        )));
    }
    Ok(operators > SLOW_OPERATORS || cut.text.len() > SLOW_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::cut;

    #[test]
    fn what_is_long_but_flat_is_free() {
        let count = |text: &str| {
            let cuts = cut(text);
            operators(&cuts[0].tokens.iter().map(|(token, _)| token).collect::<Vec<_>>())
        };
        let many = |element: &str| vec![element; 100].join(", ");
        for (text, expected) in [
            ("SELECT 1 + 2 - 3".to_owned(), 2),
            ("SELECT ((1 + 2)) * f(3 + 4, 5 + 6), 7 AND NOT a".to_owned(), 6),
            (format!("INSERT INTO t VALUES {}", many("(-1, '2'::int)")), 0),
            (format!("SELECT a + 1 IN ({}) OR b", many("-1")), 2),
            (format!("SELECT [{}]", many("-1 + 2")), 0),
            (format!("SELECT a IN (SELECT {})", many("-1")), 100),
            (format!("SELECT a IN ({})", vec!["1"; 100].join(" + ")), 91),
            (format!("VALUES ({}), ((1 + 2))", vec!["1"; 100].join(" + ")), 91),
            (format!("SELECT ({}", vec!["1"; 100].join(" + ")), 99),
            ("SELECT \"and\", 'a + b'".to_owned(), 0),
        ] {
            assert_eq!(count(&text), expected, "{text}");
        }
    }
}
