//! Queries that are stored: what a derived node is made from.
//!
//! The text is kept as it was written, so that a user finds it again. A table in it is one of the
//! node's sources, by its alias, or a path of the pond; the session's own tables are not there when
//! somebody else reads the node. Relative paths are made absolute before the text is stored
//! ([`absolute`]).

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use datafusion::common::TableReference;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, ObjectName, ObjectNamePart,
    Statement as SqlStatement, TableFactor, Value as SqlValue, Visit, Visitor,
};
use datafusion::sql::sqlparser::tokenizer::{Location, Span, Token, Word};

use super::parser;
use super::script::{Script, Source, tokenize};
use super::statement::Body;
use super::time_travel::{Moment, PastClause, last_mark, unmarked};
use crate::error::{Error, Result};
use crate::memo::Memo;
use crate::path::PondPath;

/// The name of the catalog, with which a path may be qualified: `pond."/dir"."a.series"`.
pub const CATALOG: &str = "pond";

/// The bytes of text of which the queries are kept: parsed, they take some thirty times as much.
const TEXT_BYTES_KEPT: usize = 256 * 1024;

/// A parsed query, and the tables that it names.
#[derive(Debug, Clone)]
pub struct StoredQuery {
    statement: EngineStatement,
    past: Vec<PastClause>,
    tables: Vec<Named>,
    /// What WITH names.
    with: HashSet<String>,
    /// Whether table functions are called.
    calls: bool,
    /// Paths that are their arguments, as in `ls('/host')`.
    arguments: Vec<String>,
}

/// A table in a FROM.
#[derive(Debug, Clone, PartialEq)]
struct Named {
    table: TableReference,
    /// Whether the name has one part only.
    is_bare: bool,
    /// The clause that says as of when it is read.
    past: Option<usize>,
}

impl StoredQuery {
    /// Parses a query.
    ///
    /// # Errors
    /// `Invalid` for what is no query, with the place of the mistake; `Unsupported` for clauses that
    /// would not be carried out.
    pub fn parse(text: &str) -> Result<Self> {
        let (_, body) = Script::parse_one(text)?.into_parts();
        let not_a_query = || {
            Error::invalid("a node is made from a query: SELECT, VALUES or WITH")
                .with_hint("write what it shows: AS SELECT … FROM …")
        };
        let Body::Engine(statement, past) = body else { return Err(not_a_query()) };
        let is_query = matches!(&*statement, EngineStatement::Statement(statement)
            if matches!(&**statement, SqlStatement::Query(_)));
        if !is_query {
            return Err(not_a_query());
        }
        // What WITH names is no table.
        let (tables, with) = resolve_table_references(&statement, true)?;
        let with = with.iter().map(|name| name.table().to_owned()).collect();
        let tables = tables.iter().map(|table| unmarked(table.table()).to_owned());
        let mut finder = Finder { tables: tables.collect(), ..Finder::default() };
        if let EngineStatement::Statement(statement) = &*statement {
            let _ = statement.visit(&mut finder);
        }
        let Finder { named: tables, calls, arguments, .. } = finder;
        Ok(Self { statement: *statement, past, tables, with, calls, arguments })
    }

    /// As [`StoredQuery::parse`], of a text that is likely to have been parsed before: a recipe is read
    /// wherever its node is listed, planned or looked for.
    ///
    /// # Errors
    /// As [`StoredQuery::parse`].
    pub fn parse_known(text: &str) -> Result<Arc<Self>> {
        static QUERIES: LazyLock<Memo<String, Arc<StoredQuery>>> =
            LazyLock::new(|| Memo::new(TEXT_BYTES_KEPT, String::len));
        QUERIES.get_or_try_insert(text.to_owned(), || Self::parse(text).map(Arc::new))
    }

    /// Returns the statement, in which what is read of the past is still to be named.
    pub(crate) fn statement(&self) -> &EngineStatement {
        &self.statement
    }

    /// Returns the clauses about the past.
    pub(crate) fn past(&self) -> &[PastClause] {
        &self.past
    }

    /// Whether the same contents of its tables give the same answer, as far as the tables tell: it calls
    /// no table function, and reads the past by number only.
    pub fn is_settled(&self) -> bool {
        !self.calls && self.past.iter().all(|clause| matches!(clause.moment, Moment::Version(_)))
    }

    /// Returns the paths that table functions are called with, as in `ls('/host')`.
    pub fn listed(&self) -> Vec<PondPath> {
        self.arguments.iter().filter_map(|argument| PondPath::root().join(argument).ok()).collect()
    }

    /// Returns how often a table is called `name`.
    pub fn times_named(&self, name: &str) -> usize {
        let is_named = |named: &&Named| named.is_bare && named.table.table() == name;
        self.tables.iter().filter(is_named).count()
    }

    /// Returns the paths and globs that are tables of the query, sorted, each as often as it is one;
    /// those of `aliases` are left out.
    ///
    /// # Errors
    /// `Invalid` for a table that is neither a path nor an alias.
    pub fn paths(&self, aliases: &[&str]) -> Result<Vec<PondPath>> {
        let mut paths = Vec::new();
        for Named { table, is_bare, past } in &self.tables {
            if *is_bare && aliases.contains(&table.table()) {
                continue;
            }
            let path = path_of_table(table)?.ok_or_else(|| {
                let known = match aliases {
                    [] => "it names paths: FROM '/a.series'".to_owned(),
                    _ => format!("it knows {}, and paths: '/a.series'", aliases.join(", ")),
                };
                Error::invalid(format!("'{table}' is no source of the query")).with_hint(known)
            })?;
            // Its past is another thing to read, unless that moves.
            paths.push(match past.and_then(|number| self.past.get(number)).map(|it| &it.moment) {
                Some(Moment::Version(txn)) => PondPath::parse(&format!("{path}@v{txn}"))?,
                Some(Moment::Time(time)) => match &**time {
                    SqlExpr::Value(time) => match &time.value {
                        SqlValue::SingleQuotedString(time) => {
                            PondPath::parse(&format!("{path}@{time}"))?
                        }
                        _ => path,
                    },
                    _ => path,
                },
                None => path,
            });
        }
        paths.sort();
        Ok(paths)
    }
}

/// Returns the path that a table's name is, if it is one: `'/a'`, `"/dir"."a"`, `pond."/dir"."a"`.
fn path_of_table(table: &TableReference) -> Result<Option<PondPath>> {
    if table.catalog().is_some_and(|catalog| catalog != CATALOG) {
        return Ok(None);
    }
    if table.table().starts_with('/') {
        return PondPath::parse(table.table()).map(Some);
    }
    match table.schema().filter(|schema| schema.starts_with('/')) {
        Some(directory) => PondPath::parse(directory)?.join(table.table()).map(Some),
        None => Ok(None),
    }
}

/// Separates a name from the number of its token. No name of a node holds it.
const MARK: char = '\u{1}';

/// Returns the text of a query in which relative paths are absolute, and nothing else is changed. A
/// name is a path if it is quoted and is none of `aliases`.
///
/// The parser does not say where a name in single quotes was. So each quoted token gets its number as
/// a part of its text, and the numbers that are found in names of tables tell.
///
/// # Errors
/// Those of [`StoredQuery::parse`], and of paths that lead out of the root.
pub fn absolute(text: &str, directory: &PondPath, aliases: &[&str]) -> Result<String> {
    let query = StoredQuery::parse(text)?;
    let is_relative = |Named { table, is_bare, .. }: &Named| {
        *is_bare && !table.table().starts_with('/') && !aliases.contains(&table.table())
    };
    if !query.tables.iter().any(is_relative)
        && !query.arguments.iter().any(|it| is_relative_text(it))
    {
        return Ok(text.to_owned());
    }
    let ambiguous = query
        .tables
        .iter()
        .find(|named| is_relative(named) && query.with.contains(named.table.table()));
    if let Some(named) = ambiguous {
        return Err(Error::invalid(format!(
            "'{}' is a relative path and a name of WITH",
            named.table
        ))
        .with_hint("rename the latter, or write the path from the root: '/dir/a.series'"));
    }
    let (tokens, _) = tokenize(text);
    let spans: Vec<Span> = tokens.iter().map(|token| token.span).collect();
    let marked = tokens.into_iter().enumerate().map(|(number, mut token)| {
        if let Token::SingleQuotedString(text)
        | Token::Word(Word { value: text, quote_style: Some(_), .. }) = &mut token.token
            // The number of a transaction may be in quotes.
            && text.parse::<i64>().is_err()
        {
            text.push_str(&format!("{MARK}{number}"));
        }
        token
    });
    let Ok(Body::Engine(statement, _)) = parser::parse(marked.collect(), Source::new(text)) else {
        return Err(Error::invalid("the query names relative paths that cannot be found in it")
            .with_hint("write absolute paths: FROM '/dir/a.series'"));
    };
    let mut places = Places::default();
    if let EngineStatement::Statement(statement) = &*statement {
        let _ = statement.visit(&mut places);
    }
    let source = Source::new(text);
    let place = |at: Location| text.len() - source.from(at).len();
    let mut result = String::with_capacity(text.len());
    let mut done = 0;
    for (number, (name, is_table)) in places.0 {
        let named = query.tables.iter().find(|named| named.table.table() == name);
        let is_path =
            if is_table { named.is_some_and(is_relative) } else { is_relative_text(&name) };
        let (Some(span), true) = (spans.get(number), is_path) else { continue };
        let path = directory.join(&name)?;
        result.push_str(&text[done..place(span.start)]);
        result.push_str(&format!("'{}'", path.as_str().replace('\'', "''")));
        done = place(span.end);
    }
    result.push_str(&text[done..]);
    Ok(result)
}

/// Whether the argument of a table function is a relative path.
fn is_relative_text(argument: &str) -> bool {
    !argument.starts_with('/')
}

/// Finds marked names of tables, and paths that functions are called with, by the number of their
/// token; and whether it is a table's.
#[derive(Default)]
struct Places(BTreeMap<usize, (String, bool)>);

impl Visitor for Places {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: None, .. } = factor
            && let [ObjectNamePart::Identifier(ident)] = name.0.as_slice()
            && let Some((name, number)) = unmarked(&ident.value).split_once(MARK)
            && let Ok(number) = number.parse()
        {
            self.0.insert(number, (name.to_owned(), true));
        }
        if let Some(argument) = path_of_call(factor)
            && let Some((name, number)) = argument.split_once(MARK)
            && let Ok(number) = number.parse()
        {
            self.0.insert(number, (name.to_owned(), false));
        }
        ControlFlow::Continue(())
    }
}

/// Finds the tables of a query, and the paths that table functions are called with.
#[derive(Default)]
struct Finder {
    /// The names of what is a table, and no part of a WITH.
    tables: HashSet<String>,
    named: Vec<Named>,
    calls: bool,
    arguments: Vec<String>,
}

impl Visitor for Finder {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: None, .. } => {
                let named = named(name).filter(|named| self.tables.contains(named.table.table()));
                self.named.extend(named);
            }
            TableFactor::Table { args: Some(_), .. } => {
                self.calls = true;
                self.arguments.extend(path_of_call(factor));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Returns the table that a name means. Names are compared as the engine does: what is not quoted is
/// in lower case.
fn named(name: &ObjectName) -> Option<Named> {
    let idents: Vec<_> = name.0.iter().map(|part| part.as_ident()).collect::<Option<_>>()?;
    let parts: Vec<String> = idents
        .iter()
        .map(|ident| match ident.quote_style {
            Some(_) => unmarked(&ident.value).to_owned(),
            None => ident.value.to_lowercase(),
        })
        .collect();
    let table = match parts.as_slice() {
        [table] => TableReference::bare(table.as_str()),
        [schema, table] => TableReference::partial(schema.as_str(), table.as_str()),
        [catalog, schema, table] => {
            TableReference::full(catalog.as_str(), schema.as_str(), table.as_str())
        }
        _ => return None,
    };
    let past = last_mark(name).map(|(_, number)| number);
    Some(Named { table, is_bare: parts.len() == 1, past })
}

/// The table functions whose first argument is a path.
const PATH_FUNCTIONS: &[&str] = &["ls", "nodes", "history", "lineage"];

/// Returns the path that a table function is called with.
fn path_of_call(factor: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, args: Some(args), .. } = factor else { return None };
    let function = name.0.last()?.as_ident()?.value.to_lowercase();
    if !PATH_FUNCTIONS.contains(&function.as_str()) {
        return None;
    }
    args.args.first().and_then(path_argument)
}

fn path_argument(argument: &FunctionArg) -> Option<String> {
    let (FunctionArg::Unnamed(value) | FunctionArg::Named { arg: value, .. }) = argument else {
        return None;
    };
    match value {
        FunctionArgExpr::Expr(SqlExpr::Value(value)) => match &value.value {
            SqlValue::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_a_query_are_found_at_any_depth() {
        let query = StoredQuery::parse(
            "WITH c AS (SELECT * FROM '/cte.series') SELECT *, (SELECT max(x) FROM '/scalar.table') \
             FROM c JOIN source s ON EXISTS (SELECT 1 FROM pond.\"/dir\".\"a.table\") \
             WHERE x IN (SELECT x FROM '/d/*.csv' VERSION AS OF 3) AND y IN (SELECT 1 FROM ls('/host'))",
        )
        .unwrap();
        let paths = query.paths(&["source"]).unwrap();
        let paths: Vec<&str> = paths.iter().map(PondPath::as_str).collect();
        assert_eq!(paths, ["/cte.series", "/d/*.csv@v3", "/dir/a.table", "/scalar.table"]);
        assert_eq!(query.listed(), [PondPath::parse("/host").unwrap()]);
        let error = query.paths(&[]).unwrap_err();
        assert_eq!(error.message(), "'source' is no source of the query");
    }

    #[test]
    fn relative_paths_become_absolute_and_nothing_else_changes() {
        let directory = PondPath::parse("/d").unwrap();
        let text = "SELECT 'x.table', -- é 'y.table'\n * FROM 'x.table' t, \"y/z.table\" VERSION AS OF 3, s, \
                    '/a.table', (SELECT 1 FROM '../b''.table')";
        assert_eq!(
            absolute(text, &directory, &["s"]).unwrap(),
            "SELECT 'x.table', -- é 'y.table'\n * FROM '/d/x.table' t, '/d/y/z.table' VERSION AS OF 3, s, \
             '/a.table', (SELECT 1 FROM '/b''.table')"
        );
    }

    #[test]
    fn only_queries_can_be_stored() {
        let directory = PondPath::parse("/d").unwrap();
        let listed = absolute("SELECT * FROM ls('sub', recursive => true)", &directory, &[]);
        assert_eq!(listed.unwrap(), "SELECT * FROM ls('/d/sub', recursive => true)");
        let both = "WITH \"x.t\" AS (SELECT * FROM \"x.t\") SELECT * FROM \"x.t\"";
        assert!(absolute(both, &directory, &[]).is_err());
        for text in ["DROP NODE '/a'", "INSERT INTO t SELECT 1", "SELECT 1; SELECT 2", "SELEC 1"] {
            assert!(StoredQuery::parse(text).is_err(), "{text}");
        }
    }
}
