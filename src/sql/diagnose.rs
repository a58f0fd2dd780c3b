//! The engine's planning errors in our words: what does not exist, and what was perhaps meant.

use datafusion::common::TableReference;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::error::{Error, nearest};

/// How many names a hint lists.
const LISTED_NAMES_MAX: usize = 20;

/// Turns an error of planning a statement in `session` into ours.
pub(crate) fn explain(error: DataFusionError, session: &SessionState) -> Error {
    if let Some(setting) = no_setting(&error, session) {
        return setting;
    }
    let better = match innermost(&error) {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                Some(no_column(field, valid_fields))
            }
            _ => None,
        },
        DataFusionError::Plan(message) => no_such(message, session),
        _ => None,
    };
    better.unwrap_or_else(|| Error::from(without_rules(error)))
}

/// Takes away what the engine says of its own workings before what is wrong.
fn without_rules(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Context(context, inner) if context.contains(" rule ") => {
            without_rules(*inner)
        }
        other => other,
    }
}

/// The engine says of a setting that is not there in what part of its settings it is not.
fn no_setting(error: &DataFusionError, session: &SessionState) -> Option<Error> {
    let said = error.strip_backtrace();
    let shown = || {
        let (before, _) = said.split_once("' is not a variable which can be viewed")?;
        before.rsplit_once('\'').map(|(_, name)| name)
    };
    let set = || {
        let (_, rest) = said.split_once("Error setting config ")?;
        (said.contains("not found") || said.contains("Could not find config namespace"))
            .then(|| rest.split_whitespace().next().unwrap_or_default())
    };
    let name = shown().or_else(set)?;
    let settings = session.config_options().entries();
    let hint = nearest(name, settings.iter().map(|setting| setting.key.as_str()));
    let hint = hint.map(|near| format!("did you mean '{near}'?"));
    Some(
        Error::not_found(format!("setting '{name}' does not exist"))
            .with_hint(hint.unwrap_or_else(|| "SHOW ALL lists them".to_owned())),
    )
}

/// Whether an error of ours travelled through the engine.
pub(crate) fn is_ours(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::External(error) if error.is::<Error>())
}

/// Looks through what only adds context.
fn innermost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            innermost(inner)
        }
        DataFusionError::Shared(inner) => innermost(inner),
        DataFusionError::Collection(errors) if !errors.is_empty() => innermost(&errors[0]),
        other => other,
    }
}

fn no_column(field: &Column, valid: &[Column]) -> Error {
    let name = match &field.relation {
        Some(table) => format!("{table}.{}", field.name),
        None => field.name.clone(),
    };
    let same_table = |column: &&Column| match (&field.relation, &column.relation) {
        (Some(wanted), Some(there)) => wanted.resolved_eq(there),
        _ => true,
    };
    let mut names: Vec<&str> =
        valid.iter().filter(same_table).map(|column| column.name.as_str()).collect();
    if names.is_empty() {
        names = valid.iter().map(|column| column.name.as_str()).collect();
    }
    let hint = match nearest(&field.name, names.iter().copied()) {
        Some(near) if needs_quotes(near) => {
            Some(format!("did you mean \"{near}\"? such names are written in double quotes"))
        }
        Some(near) => Some(format!("did you mean '{near}'?")),
        None => list_of(&names),
    };
    Error::not_found(format!("column '{name}' does not exist")).with_hint_opt(hint)
}

/// Whether a name that is not quoted would be read as another one.
pub(crate) fn needs_quotes(name: &str) -> bool {
    let word = Token::make_word(name, None);
    let reserved = matches!(&word, Token::Word(word)
        if datafusion::sql::sqlparser::keywords::RESERVED_FOR_COLUMN_ALIAS.contains(&word.keyword));
    let plain = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| (c.is_alphanumeric() && !c.is_uppercase()) || c == '_');
    reserved || !plain
}

fn list_of(names: &[&str]) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let more = if names.len() > LISTED_NAMES_MAX { ", …" } else { "" };
    let shown = names.iter().take(LISTED_NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    Some(format!("there are: {shown}{more}"))
}

/// The planner's errors about names are texts: `Invalid function 'x'`, `table 'x' not found`.
fn no_such(message: &str, session: &SessionState) -> Option<Error> {
    if let Some(name) = between(message, "Invalid function '", "'") {
        return Some(no_function(name, session));
    }
    // Around it the engine asks for a report of what is no bug of its own.
    if let Some(call) = between(message, "given name and argument types '", "'") {
        let candidates = message.split_once("Candidate functions:").map(|(_, candidates)| {
            let lines = candidates.lines().map(str::trim).filter(|line| !line.is_empty());
            format!("there are: {}", lines.take(LISTED_NAMES_MAX).collect::<Vec<_>>().join(", "))
        });
        return Some(Error::invalid(format!("there is no {call}")).with_hint_opt(candidates));
    }
    if let Some(name) = between(message, "table function '", "' not found") {
        let names = session.table_functions().keys().map(String::as_str);
        let hint = match nearest(name, names) {
            Some(near) => Some(format!("did you mean '{near}'?")),
            None if is_function(name, session) => {
                Some(format!("{name}() makes a value, not a table: SELECT {name}(…)"))
            }
            None => {
                let mut names: Vec<&str> =
                    session.table_functions().keys().map(String::as_str).collect();
                names.sort_unstable();
                list_of(&names)
            }
        };
        return Some(
            Error::not_found(format!("table function '{name}' does not exist")).with_hint_opt(hint),
        );
    }
    if let Some(name) = between(message, "table '", "' not found") {
        return Some(no_table(name, session));
    }
    if let Some((_, rest)) = message.split_once("column \"")
        && let Some((column, _)) = rest.split_once("\" must appear in the GROUP BY clause")
    {
        // A path has dots of its own.
        let name = column.rsplit('.').next().unwrap_or_default();
        let message = format!("column '{name}' is neither in GROUP BY nor within an aggregate");
        return Some(
            Error::invalid(message)
                .with_hint(format!("add it to GROUP BY, write GROUP BY ALL, or any_value({name})")),
        );
    }
    None
}

fn no_function(name: &str, session: &SessionState) -> Error {
    let error = Error::not_found(format!("function '{name}' does not exist"));
    if session.table_functions().contains_key(&name.to_lowercase()) {
        return error.with_hint(format!("{name}() makes a table: SELECT * FROM {name}(…)"));
    }
    let names = session
        .scalar_functions()
        .keys()
        .chain(session.aggregate_functions().keys())
        .chain(session.window_functions().keys())
        .chain(session.higher_order_functions().keys());
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    // Equally near names are told in a stable order.
    names.sort_unstable();
    let hint = nearest(name, names).map(|near| format!("did you mean '{near}'?"));
    error.with_hint(hint.unwrap_or_else(|| "SHOW FUNCTIONS lists all".to_owned()))
}

fn is_function(name: &str, session: &SessionState) -> bool {
    session.scalar_functions().contains_key(name)
        || session.aggregate_functions().contains_key(name)
        || session.window_functions().contains_key(name)
}

fn no_table(name: &str, session: &SessionState) -> Error {
    let defaults = &session.config_options().catalog;
    let prefix = format!("{}.{}.", defaults.default_catalog, defaults.default_schema);
    let short = name.strip_prefix(&prefix).unwrap_or(name);
    let tables = session
        .schema_for_ref(TableReference::bare(short))
        .map(|schema| schema.table_names())
        .unwrap_or_default();
    let hint = match nearest(short, tables.iter().map(String::as_str)) {
        Some(near) => Some(format!("did you mean '{near}'?")),
        None if session.table_functions().contains_key(short) => {
            Some(format!("it is a table function: FROM {short}(…)"))
        }
        None => Some("a table of the pond is named by its path, in quotes: FROM '/…'".to_owned()),
    };
    Error::not_found(format!("table '{short}' does not exist")).with_hint_opt(hint)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(name, _)| name)
}
