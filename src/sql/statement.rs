//! A parsed statement, and the printer of `CREATE NODE`.

use datafusion::sql::parser::Statement as EngineStatement;
use serde_json::Value;

use super::time_travel::{Moment, PastClause};
use crate::factory::Config;
use crate::path::PondPath;

/// One statement of a script, parsed.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(super) text: String,
    pub(super) line: u64,
    pub(super) body: Body,
}

impl Statement {
    /// Returns its source, without the semicolon.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line of the script on which it starts, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    pub(crate) fn into_parts(self) -> (String, Body) {
        (self.text, self.body)
    }
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// One of our own.
    Node(NodeStatement),
    /// One of the engine's, and what it reads of the past.
    Engine(Box<EngineStatement>, Vec<PastClause>),
}

/// Our own statements. Paths are as they were written: relative ones mean the session's directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeStatement {
    Create(CreateNode),
    Alter { path: String, if_exists: bool, change: AlterNodeChange },
    Drop { paths: Vec<String>, if_exists: bool, recursive: bool, cascade: Option<&'static str> },
    Refresh { paths: Vec<String> },
    Restore { path: String, to: Moment },
    Show(Show),
    Describe(Describe),
    Use { path: String },
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CreateNode {
    pub path: String,
    pub factory: String,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub options: Vec<(String, Value)>,
    pub comment: Option<String>,
    /// The clauses that no factory of this version takes, by their first words.
    pub unused: Vec<&'static str>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AlterNodeChange {
    Set(Vec<(String, Value)>),
    Reset(Vec<String>),
    Query,
    Comment(Option<String>),
    Rename(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Show {
    Nodes { path: Option<String>, recursive: bool, like: Option<String> },
    Factories,
    CreateNode(String),
    Lineage(String),
    Log,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Describe {
    Path(String),
    Node(String),
    Factory(String),
}

/// Prints the statement that makes a node anew.
pub(crate) fn create_node_sql(
    path: &PondPath,
    factory: &str,
    config: &Config,
    comment: Option<&str>,
) -> String {
    let mut sql = format!("CREATE NODE {} FACTORY {}", quote(path.as_str()), identifier(factory));
    let options: Vec<String> = config
        .iter()
        .map(|(name, value)| format!("{} = {}", identifier(name), option_value(value)))
        .collect();
    if !options.is_empty() {
        sql.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    if let Some(comment) = comment {
        sql.push_str(&format!(" COMMENT {}", quote(comment)));
    }
    sql
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as it is, or quoted where it would read as something else.
fn identifier(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

fn option_value(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        Value::Bool(true) => "TRUE".to_owned(),
        Value::Bool(false) => "FALSE".to_owned(),
        Value::Null => "NULL".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Array(values) => {
            format!("({})", values.iter().map(option_value).collect::<Vec<_>>().join(", "))
        }
        Value::Object(_) => quote(&value.to_string()),
    }
}
