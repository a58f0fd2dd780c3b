//! The arguments of our table functions: positional or named, literals only.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use serde_json::Value;

use crate::error::{Error, Result, did_you_mean};
use crate::pond::At;
use crate::tree::past;

/// What a table function is called and takes.
#[derive(Debug)]
pub(crate) struct Signature {
    /// Name, in lower case.
    pub name: &'static str,
    /// Names of its parameters, in positional order; all can be left out.
    pub parameters: &'static [&'static str],
}

impl Signature {
    /// Returns the position of the parameter `name`, in any case.
    ///
    /// # Errors
    /// `Invalid` with the nearest name, or all of them, as a hint.
    pub(crate) fn position(&self, name: &str) -> Result<usize> {
        let position =
            self.parameters.iter().position(|parameter| parameter.eq_ignore_ascii_case(name));
        position.ok_or_else(|| {
            let hint = did_you_mean(name, self.parameters.iter().copied())
                .unwrap_or_else(|| self.describe());
            Error::invalid(format!("{}() has no argument '{name}'", self.name)).with_hint(hint)
        })
    }

    /// The error for more arguments than there are parameters.
    pub(crate) fn too_many(&self, given: usize) -> Error {
        let max = self.parameters.len();
        let plural = if max == 1 { "" } else { "s" };
        Error::invalid(format!("{}() takes at most {max} argument{plural}, not {given}", self.name))
            .with_hint(self.describe())
    }

    fn describe(&self) -> String {
        if self.parameters.is_empty() {
            "it takes none".to_owned()
        } else {
            format!("it takes {}", self.parameters.join(", "))
        }
    }
}

/// The values given to one call.
#[derive(Debug)]
pub(crate) struct Arguments<'a> {
    signature: &'static Signature,
    values: Vec<&'a ScalarValue>,
}

impl<'a> Arguments<'a> {
    /// Checks that all arguments are literals: the engine would also pass columns and subqueries,
    /// and run the function once for all of them.
    ///
    /// # Errors
    /// `Invalid` for too many, and for what is no literal.
    pub(crate) fn new(signature: &'static Signature, exprs: &'a [Expr]) -> Result<Self> {
        if exprs.len() > signature.parameters.len() {
            return Err(signature.too_many(exprs.len()));
        }
        let values = exprs
            .iter()
            .zip(signature.parameters)
            .map(|(expr, parameter)| match expr {
                Expr::Literal(value, _) => Ok(value),
                other => Err(Error::invalid(format!(
                    "argument '{parameter}' of {}() must be a constant, not {other}",
                    signature.name
                ))
                .with_hint("functions in FROM run once, before there are any rows")),
            })
            .collect::<Result<_>>()?;
        Ok(Self { signature, values })
    }

    /// Returns the text given for `parameter`; `None` if it was left out or NULL.
    pub(crate) fn text(&self, parameter: &str) -> Result<Option<String>> {
        match self.value(parameter)? {
            None => Ok(None),
            Some(value) => match value.try_as_str() {
                Some(Some(text)) => Ok(Some(text.to_owned())),
                _ => Err(self.bad(parameter, "text", value)),
            },
        }
    }

    /// Returns the text given for `parameter`, which cannot be left out.
    pub(crate) fn required_text(&self, parameter: &str) -> Result<String> {
        self.text(parameter)?.ok_or_else(|| self.missing(parameter))
    }

    /// Returns the point of history given for `parameter`: the number of a transaction, or a time;
    /// `None` if it was left out or NULL.
    pub(crate) fn at(&self, parameter: &str) -> Result<Option<At>> {
        let Some(value) = self.value(parameter)? else { return Ok(None) };
        let at = match value {
            ScalarValue::Int64(Some(txn)) => Some(At::Version(*txn)),
            other => past::micros(other).map(At::Timestamp),
        };
        let wanted = "the number of a transaction, or a time";
        at.map(Some).ok_or_else(|| self.bad(parameter, wanted, value))
    }

    /// Returns the point of history given for `parameter`, which cannot be left out.
    pub(crate) fn required_at(&self, parameter: &str) -> Result<At> {
        self.at(parameter)?.ok_or_else(|| self.missing(parameter))
    }

    /// Returns the truth value given for `parameter`; `None` if it was left out or NULL.
    pub(crate) fn boolean(&self, parameter: &str) -> Result<Option<bool>> {
        match self.value(parameter)? {
            None => Ok(None),
            Some(ScalarValue::Boolean(value)) => Ok(*value),
            Some(value) => Err(self.bad(parameter, "true or false", value)),
        }
    }

    /// Returns the text, number or truth value given for `parameter` as an option of a factory has
    /// it; `None` if it was left out or NULL.
    pub(crate) fn option(&self, parameter: &str) -> Result<Option<Value>> {
        let Some(value) = self.value(parameter)? else { return Ok(None) };
        let option = match value {
            ScalarValue::Boolean(value) => value.map(Value::from),
            ScalarValue::Int64(value) => value.map(Value::from),
            other => other.try_as_str().flatten().map(Value::from),
        };
        option.map(Some).ok_or_else(|| self.bad(parameter, "text, true or false", value))
    }

    fn value(&self, parameter: &str) -> Result<Option<&'a ScalarValue>> {
        let value = self.values.get(self.signature.position(parameter)?);
        Ok(value.copied().filter(|value| !value.is_null()))
    }

    fn missing(&self, parameter: &str) -> Error {
        let name = self.signature.name;
        Error::invalid(format!("{name}() needs its argument '{parameter}'"))
            .with_hint(self.signature.describe())
    }

    fn bad(&self, parameter: &str, wanted: &str, value: &ScalarValue) -> Error {
        let name = self.signature.name;
        Error::invalid(format!("argument '{parameter}' of {name}() takes {wanted}, not {value}"))
            .with_hint(self.signature.describe())
    }
}
