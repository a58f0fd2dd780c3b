//! A parsed statement, and the printer of `CREATE NODE`.

use datafusion::sql::parser::Statement as EngineStatement;
#[cfg(feature = "serve")]
use datafusion::sql::sqlparser::ast::{SetExpr, Statement as SqlStatement};
use datafusion::sql::sqlparser::keywords::ALL_KEYWORDS;
use serde_json::Value;

use super::origin::Origin;
use super::time_travel::{Moment, PastClause};

/// One statement of a script, parsed.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(super) origin: Origin,
    pub(super) body: Body,
}

impl Statement {
    /// Returns its source, without the semicolon.
    pub fn text(&self) -> &str {
        self.origin.text()
    }

    /// Returns where in its script it is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it is a question: it changes neither the pond nor the session.
    #[cfg(feature = "serve")]
    pub(crate) fn is_question(&self) -> bool {
        fn asks(statement: &EngineStatement) -> bool {
            match statement {
                EngineStatement::Statement(statement) => match statement.as_ref() {
                    // SELECT … INTO makes a table.
                    SqlStatement::Query(query) => {
                        !matches!(query.body.as_ref(), SetExpr::Select(select) if select.into.is_some())
                    }
                    _ => false,
                },
                EngineStatement::Explain(explain) => asks(&explain.statement),
                _ => false,
            }
        }
        match &self.body {
            Body::Node(statement) => matches!(
                statement,
                NodeStatement::Show(_)
                    | NodeStatement::Describe(_)
                    | NodeStatement::ExplainNode { .. }
            ),
            Body::Engine(statement, _) => asks(statement),
            Body::Summarize(..) => true,
        }
    }

    pub(crate) fn into_parts(self) -> (String, Body) {
        (self.origin.text().to_owned(), self.body)
    }
}

/// What a statement asks for.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// One of our own.
    Node(NodeStatement),
    /// One of the engine's, and what it reads of the past.
    Engine(Box<EngineStatement>, Vec<PastClause>),
    /// SUMMARIZE: the query whose columns are described, and what it reads of the past.
    Summarize(Box<EngineStatement>, Vec<PastClause>),
}

/// Our own statements. Paths are as they were written: relative ones mean the session's directory.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeStatement {
    Create(CreateNode),
    Alter { path: String, if_exists: bool, change: AlterNodeChange },
    Drop { paths: Vec<String>, if_exists: bool, recursive: bool, cascade: bool },
    Refresh { paths: Vec<String> },
    Restore { path: String, to: Moment },
    Show(Show),
    Describe(Describe),
    Use { path: String },
    ExplainNode { path: String },
}

impl NodeStatement {
    /// Returns the text of the query that a node is given.
    pub(super) fn query(&self) -> Option<&str> {
        match self {
            Self::Create(create) => create.query.as_deref(),
            Self::Alter { change: AlterNodeChange::Query(query), .. } => Some(query),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct CreateNode {
    pub path: String,
    pub factory: String,
    pub or_replace: bool,
    pub if_not_exists: bool,
    pub options: Vec<(String, Value)>,
    pub comment: Option<String>,
    /// FROM: paths, and the names that the query has for them.
    pub sources: Vec<(String, Option<String>)>,
    /// REFRESH EVERY.
    pub refresh: Option<String>,
    /// AS: the text of a query.
    pub query: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AlterNodeChange {
    Set(Vec<(String, Value)>),
    Reset(Vec<String>),
    Query(String),
    Comment(Option<String>),
    Rename(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Show {
    Nodes { path: Option<String>, recursive: bool, like: Option<String> },
    Factories,
    CreateNode(String),
    Lineage { path: String, direction: Option<&'static str> },
    Log,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Describe {
    Path(String),
    Node(String),
    Factory(String),
}

/// What `CREATE NODE` says of a node.
#[derive(Debug, Default)]
pub(crate) struct NodeParts<'a> {
    pub path: &'a str,
    pub factory: &'a str,
    /// The paths of FROM, with the names that the query has for them.
    pub sources: Vec<(String, Option<String>)>,
    pub options: Vec<(&'a str, &'a Value)>,
    pub refresh: Option<&'a str>,
    pub comment: Option<&'a str>,
    pub query: Option<&'a str>,
}

/// Prints the statement that makes a node anew.
pub(crate) fn create_node_sql(node: &NodeParts) -> String {
    let mut sql = format!("CREATE NODE {} FACTORY {}", quote(node.path), identifier(node.factory));
    let sources: Vec<String> = node
        .sources
        .iter()
        .map(|(path, alias)| match alias {
            // As a word of SQL it would not read as a name.
            Some(alias) if ALL_KEYWORDS.contains(&alias.to_uppercase().as_str()) => {
                format!("{} AS \"{alias}\"", quote(path))
            }
            Some(alias) => format!("{} AS {}", quote(path), identifier(alias)),
            None => quote(path),
        })
        .collect();
    if !sources.is_empty() {
        sql.push_str(&format!(" FROM {}", sources.join(", ")));
    }
    let options: Vec<String> = node
        .options
        .iter()
        .map(|(name, value)| format!("{} = {}", identifier(name), option_value(value)))
        .collect();
    if !options.is_empty() {
        sql.push_str(&format!(" WITH ({})", options.join(", ")));
    }
    if let Some(refresh) = node.refresh {
        sql.push_str(&format!(" REFRESH EVERY {}", quote(refresh)));
    }
    if let Some(comment) = node.comment {
        sql.push_str(&format!(" COMMENT {}", quote(comment)));
    }
    if let Some(query) = node.query {
        sql.push_str(&format!(" AS {query}"));
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
