//! Values for the parameters of statements: `$name`, `$1`.
//!
//! A value takes the place of its parameter among the tokens, a token for a token, before they are
//! parsed. So it may stand wherever a literal may (`FROM $path`, `LIMIT $n`, `DROP NODE $path`) and
//! is typed as that literal would be; and it is never text again, so whatever it holds, it is one
//! value. The parameters of PREPARE are its own. The query of a node is kept as text: it takes none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};
use serde_json::{Number, Value};

use super::parser::is_plain_word;
use super::script::tokenize;
use crate::error::{Error, Result, did_you_mean};

/// Named values, and which of them were used; clones share both.
#[derive(Debug, Clone, Default)]
pub struct Params {
    values: Arc<BTreeMap<String, Param>>,
}

#[derive(Debug)]
struct Param {
    token: Token,
    is_used: AtomicBool,
}

impl Params {
    /// Makes parameters of names, without the `$`, and values. The last value of a name holds.
    ///
    /// # Errors
    /// `Invalid` for what is no name, and for values that are no literal: arrays and objects.
    pub fn new<N: Into<String>>(values: impl IntoIterator<Item = (N, Value)>) -> Result<Self> {
        let mut params = BTreeMap::new();
        for (name, value) in values {
            let name = name.into();
            check_name(&name)?;
            let token = match value {
                Value::Null => Token::make_keyword("NULL"),
                Value::Bool(true) => Token::make_keyword("TRUE"),
                Value::Bool(false) => Token::make_keyword("FALSE"),
                Value::Number(number) => Token::Number(number.to_string(), false),
                Value::String(text) => Token::SingleQuotedString(text),
                Value::Array(_) | Value::Object(_) => {
                    return Err(Error::invalid(format!("parameter ${name} holds many values"))
                        .with_hint("a parameter is a number, true, false, null or a text"));
                }
            };
            params.insert(name, Param { token, is_used: AtomicBool::new(false) });
        }
        Ok(Self { values: Arc::new(params) })
    }

    /// Reads `name=value`: numbers, `true`, `false` and `null` are what they are in JSON, and all
    /// else is text.
    ///
    /// # Errors
    /// `Invalid` without a name.
    pub fn parse(text: &str) -> Result<(String, Value)> {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Error::invalid(format!("'{text}' is no NAME=VALUE")));
        };
        let name = name.strip_prefix('$').unwrap_or(name);
        check_name(name)?;
        let value = match value {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            text => match text.parse::<Number>() {
                Ok(number) => Value::Number(number),
                Err(_) => Value::String(text.to_owned()),
            },
        };
        Ok((name.to_owned(), value))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the names that no statement has used so far, sorted.
    pub fn unused(&self) -> Vec<&str> {
        let unused = self.values.iter().filter(|(_, param)| !param.is_used.load(Ordering::Relaxed));
        unused.map(|(name, _)| name.as_str()).collect()
    }

    /// Puts the values into the tokens of one statement.
    ///
    /// # Errors
    /// `NotFound` for a parameter without a value, and where it is.
    pub(super) fn bind(
        &self,
        tokens: Vec<TokenWithSpan>,
    ) -> Result<Vec<TokenWithSpan>, (Error, Location)> {
        let is_prepare = |first: &TokenWithSpan| is_plain_word(&first.token, "PREPARE");
        let has_any = tokens.iter().any(|token| parameter(&token.token).is_some());
        if !has_any || tokens.first().is_some_and(is_prepare) {
            return Ok(tokens);
        }
        let mut bound: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
        let mut after_sign = false;
        for mut token in tokens {
            let Some(name) = parameter(&token.token) else {
                if !matches!(token.token, Token::Whitespace(_)) {
                    after_sign = matches!(token.token, Token::Minus | Token::Plus);
                }
                bound.push(token);
                continue;
            };
            let Some(param) = self.values.get(name) else {
                return Err((self.missing(name), token.span.start));
            };
            param.is_used.store(true, Ordering::Relaxed);
            token.token = param.token.clone();
            // The sign of a number is a part of it: what is before is another.
            let is_signed = matches!(&token.token, Token::Number(text, _) if text.starts_with('-'));
            let beside = |paren| TokenWithSpan { token: paren, span: token.span };
            let (open, close) = (beside(Token::LParen), beside(Token::RParen));
            match after_sign && is_signed {
                true => bound.extend([open, token, close]),
                false => bound.push(token),
            }
            after_sign = false;
        }
        Ok(bound)
    }

    fn missing(&self, name: &str) -> Error {
        let names: Vec<String> = self.values.keys().map(|name| format!("${name}")).collect();
        let given = match names.as_slice() {
            [] => format!("none was given: --param {name}=… gives one"),
            names => {
                let near = did_you_mean(&format!("${name}"), names.iter().map(String::as_str));
                let near = near.map(|hint| format!("{hint} ")).unwrap_or_default();
                format!("{near}values were given for {}", names.join(", "))
            }
        };
        Error::not_found(format!("parameter ${name} has no value")).with_hint(given)
    }
}

/// Refuses parameters in a text that is kept as it is.
///
/// # Errors
/// `Unsupported`, naming the first.
pub(super) fn refuse(query: &str) -> Result<()> {
    let (tokens, _) = tokenize(query);
    match tokens.iter().find_map(|token| parameter(&token.token)) {
        Some(name) => {
            Err(Error::unsupported(format!("a node's query takes no parameter (${name})"))
                .with_hint("it is kept as it is written: write the value out"))
        }
        None => Ok(()),
    }
}

/// Returns the name of a parameter, without its `$`.
fn parameter(token: &Token) -> Option<&str> {
    match token {
        Token::Placeholder(text) => text.strip_prefix('$'),
        _ => None,
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    match is_name {
        true => Ok(()),
        false => Err(Error::invalid(format!("'{name}' cannot name a parameter"))
            .with_hint("names are of letters, digits and _, as in --param from=2026-01-01")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::Script;
    use super::*;

    #[test]
    fn values_are_what_json_says_or_text() {
        for (text, expected) in [
            ("a=5", "5"),
            ("a=-2.5", "-2.5"),
            ("a=1e3", "1000.0"),
            ("a=007", "\"007\""),
            ("a=true", "true"),
            ("a=null", "null"),
            ("a=", "\"\""),
            ("a=x = 'y'", "\"x = 'y'\""),
            ("$a=NaN", "\"NaN\""),
        ] {
            let (name, value) = Params::parse(text).unwrap();
            assert_eq!((name.as_str(), value.to_string().as_str()), ("a", expected));
        }
        for text in ["a", "=5", "a b=5"] {
            assert!(Params::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_is_one_token() {
        let text = "x'; DROP NODE '/a'; --";
        let params = Params::new([("p", Value::from(text)), ("n", Value::from(-5))]).unwrap();
        let (tokens, _) = tokenize("SELECT $p, 1 - $n");
        let bound = params.bind(tokens).unwrap();
        let texts =
            bound.iter().filter(|token| token.token == Token::SingleQuotedString(text.into()));
        assert_eq!(texts.count(), 1);
        let shown: String = bound.iter().map(|token| token.token.to_string()).collect();
        assert!(shown.ends_with("1 - (-5)"), "{shown}");
        assert!(params.unused().is_empty());
        let statements: Vec<_> = Script::new("SELECT $p; SELECT 1").with_params(&params).collect();
        assert_eq!(statements.len(), 2);
    }
}
