//! Adds the FROM to a query about one file that leaves it out: `SELECT * WHERE x > 25`.
//!
//! It is done on tokens: each outermost SELECT without a FROM gets one behind its columns, before
//! WHERE, GROUP BY and whatever else ends them. Subqueries are left as they are.

use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::parser::is_plain_word;
use super::script::{Script, tokenize};
use crate::error::Result;

/// Words that end the columns of a SELECT.
const ENDS: &[&str] = &[
    "WHERE",
    "PREWHERE",
    "GROUP",
    "HAVING",
    "WINDOW",
    "QUALIFY",
    "ORDER",
    "LIMIT",
    "OFFSET",
    "FETCH",
    "UNION",
    "INTERSECT",
    "EXCEPT",
    "MINUS",
    "INTO",
];

/// Returns `sql` with `FROM source` wherever an outermost SELECT has no FROM.
///
/// # Errors
/// `Invalid` if `sql` is not one statement's tokens.
pub(crate) fn add_from(sql: &str, source: &str) -> Result<String> {
    let (tokens, failure) = tokenize(sql);
    if failure.is_some() {
        // Says what is wrong with the text as the user wrote it.
        return Script::parse_one(sql).map(|_| sql.to_owned());
    }
    let places = missing_from_places(&tokens);
    if places.is_empty() {
        return Ok(sql.to_owned());
    }
    let mut text = String::with_capacity(sql.len() + 32);
    for (at, token) in tokens.iter().enumerate() {
        if places.contains(&at) {
            text.push_str(&from_text(source));
        }
        text.push_str(source_text(sql, token.span));
    }
    if places.contains(&tokens.len()) {
        text.push_str(&from_text(source));
    }
    Ok(text)
}

fn from_text(source: &str) -> String {
    format!(" FROM \"{}\" ", source.replace('"', "\"\""))
}

/// Returns the source of a token. Queries about one file are short: each token is looked up anew.
fn source_text(sql: &str, span: Span) -> &str {
    let byte = |line: u64, column: u64| {
        let skip = |count: u64| usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
        let start: usize = sql.split_inclusive('\n').take(skip(line)).map(str::len).sum();
        let rest = &sql[start..];
        start + rest.char_indices().nth(skip(column)).map_or(rest.len(), |(at, _)| at)
    };
    &sql[byte(span.start.line, span.start.column)..byte(span.end.line, span.end.column)]
}

/// Returns the indices of the tokens before which a FROM is missing.
fn missing_from_places(tokens: &[TokenWithSpan]) -> Vec<usize> {
    let mut places = Vec::new();
    let mut depth = 0usize;
    // Whether the columns of an outermost SELECT are being read, and their last token so far.
    let mut in_columns = false;
    let mut previous = &Token::EOF;
    let mut last_column = 0;
    for (at, TokenWithSpan { token, .. }) in tokens.iter().enumerate() {
        if matches!(token, Token::Whitespace(_)) {
            continue;
        }
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            _ if !in_columns => {
                // `FROM t SELECT x` has its FROM already.
                in_columns = is_plain_word(token, "SELECT") && !starts_with_from(tokens, at);
            }
            Token::SemiColon => {
                places.push(last_column + 1);
                in_columns = false;
            }
            Token::Word(Word { value, quote_style: None, .. }) => {
                let is = |word: &str| value.eq_ignore_ascii_case(word);
                let within_column = (is("FROM") && is_plain_word(previous, "DISTINCT"))
                    || (is("GROUP") && is_plain_word(previous, "WITHIN"))
                    || (is("EXCEPT") && *previous == Token::Mul);
                if is("FROM") && !within_column {
                    in_columns = false;
                } else if ENDS.iter().any(|end| is(end)) && !within_column {
                    places.push(last_column + 1);
                    in_columns = false;
                }
            }
            Token::VerticalBarRightAngleBracket => {
                places.push(last_column + 1);
                in_columns = false;
            }
            _ => {}
        }
        previous = token;
        last_column = at;
    }
    if in_columns {
        places.push(last_column + 1);
    }
    places
}

/// Whether the outermost query up to `at` began with FROM.
fn starts_with_from(tokens: &[TokenWithSpan], at: usize) -> bool {
    let mut depth = 0usize;
    let mut from = false;
    for TokenWithSpan { token, .. } in &tokens[..at] {
        match token {
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            token if is_plain_word(token, "FROM") => from = true,
            token
                if ["UNION", "INTERSECT", "EXCEPT", "MINUS"]
                    .iter()
                    .any(|word| is_plain_word(token, word)) =>
            {
                from = false;
            }
            token if is_plain_word(token, "SELECT") => from = false,
            _ => {}
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_from_comes_behind_the_columns() {
        for (sql, expected) in [
            ("SELECT *", "SELECT * FROM \"source\" "),
            ("SELECT * -- all\n;", "SELECT * FROM \"source\"  -- all\n;"),
            ("SELECT * WHERE x > 25", "SELECT * FROM \"source\"  WHERE x > 25"),
            ("select a, b\norder by a limit 3", "select a, b FROM \"source\" \norder by a limit 3"),
            ("SELECT a FROM source WHERE b", "SELECT a FROM source WHERE b"),
            ("FROM source SELECT a", "FROM source SELECT a"),
            (
                "SELECT extract(year FROM t), x IS DISTINCT FROM y GROUP BY 1",
                "SELECT extract(year FROM t), x IS DISTINCT FROM y FROM \"source\"  GROUP BY 1",
            ),
            (
                "SELECT array_agg(x) WITHIN GROUP (ORDER BY x) LIMIT 1",
                "SELECT array_agg(x) WITHIN GROUP (ORDER BY x) FROM \"source\"  LIMIT 1",
            ),
            ("SELECT * EXCEPT (a) WHERE b", "SELECT * EXCEPT (a) FROM \"source\"  WHERE b"),
            (
                "SELECT a UNION ALL SELECT b FROM t",
                "SELECT a FROM \"source\"  UNION ALL SELECT b FROM t",
            ),
            (
                "WITH s AS (SELECT 1) SELECT (SELECT max(v) FROM s), 'WHERE', \"order\" WHERE é > 1",
                "WITH s AS (SELECT 1) SELECT (SELECT max(v) FROM s), 'WHERE', \"order\" \
                 FROM \"source\"  WHERE é > 1",
            ),
            ("SELECT sum(x) OVER (ORDER BY t)", "SELECT sum(x) OVER (ORDER BY t) FROM \"source\" "),
        ] {
            assert_eq!(add_from(sql, "source").unwrap(), expected);
        }
        assert!(add_from("SELECT 'a", "source").is_err());
    }
}
