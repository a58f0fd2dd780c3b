//! Recognises the statements that write rows to a path, in the engine's syntax tree.

use std::collections::HashSet;

use datafusion::sql::parser::{CopyToSource, CopyToStatement, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    AssignmentTarget, ColumnOption, CreateTable, CreateTableOptions, Expr as SqlExpr, FromTable,
    Ident, Insert, ObjectName, ObjectNamePart, Select, SelectItem, SetExpr, SqlOption,
    Statement as SqlStatement, TableFactor, TableObject, TableWithJoins, Update, Value as SqlValue,
};

use super::engine_statements::pond_path;
use crate::error::{Error, Result, did_you_mean};
use crate::path::PondPath;
use crate::sql::{Body, Script};

/// A statement that writes rows to a path.
#[derive(Debug)]
pub(super) struct Write {
    pub path: PondPath,
    pub kind: WriteKind,
    /// The column that orders a new series.
    pub temporal_column: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteKind {
    Create { if_not_exists: bool, or_replace: bool },
    Insert { overwrite: bool },
    Update,
    Delete,
    Truncate,
    Copy,
}

impl WriteKind {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Create { .. } => "CREATE TABLE",
            Self::Insert { .. } => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::Copy => "COPY",
        }
    }
}

/// Returns what a statement writes, if that is a path of the pond. Its name in the statement becomes
/// absolute, a `COPY` becomes its query, and options of ours are taken out.
pub(super) fn of_statement(
    statement: &mut EngineStatement,
    directory: &PondPath,
) -> Result<Option<Write>> {
    let write = match statement {
        EngineStatement::Statement(inner) => match inner.as_mut() {
            SqlStatement::Insert(insert) => of_insert(insert, directory)?,
            SqlStatement::Update(update) => of_update(update, directory)?,
            SqlStatement::Delete(delete) => {
                let clauses = [
                    ("USING", delete.using.is_some()),
                    ("RETURNING", delete.returning.is_some()),
                    ("ORDER BY", !delete.order_by.is_empty()),
                ];
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) =
                    &mut delete.from;
                match from.as_mut_slice() {
                    [table] => of_table(table, WriteKind::Delete, &clauses, directory)?,
                    _ => None,
                }
            }
            SqlStatement::Truncate(truncate) => match truncate.table_names.as_mut_slice() {
                [target] => of_name(&mut target.name, WriteKind::Truncate, directory)?,
                _ => None,
            },
            SqlStatement::CreateTable(create) => of_create(create, directory)?,
            SqlStatement::Query(query) => match query.body.as_mut() {
                SetExpr::Select(select) => match &mut select.into {
                    Some(into) => {
                        let kind = WriteKind::Create { if_not_exists: false, or_replace: false };
                        of_name(&mut into.name, kind, directory)?
                    }
                    None => None,
                },
                _ => None,
            },
            _ => None,
        },
        EngineStatement::CopyTo(copy) => {
            let Some(path) = copy_path(&copy.target)? else { return Ok(None) };
            let temporal_column = copy_options(&path, copy)?;
            let query = copy_source(&copy.source)?;
            *statement = EngineStatement::Statement(Box::new(query));
            Some(Write { path, kind: WriteKind::Copy, temporal_column })
        }
        _ => None,
    };
    Ok(write)
}

/// Makes the name of a target absolute.
fn of_name(name: &mut ObjectName, kind: WriteKind, directory: &PondPath) -> Result<Option<Write>> {
    let Some(path) = pond_path(name) else { return Ok(None) };
    let path = directory.join(&path)?;
    let ident = Ident::with_quote('\'', path.as_str());
    *name = ObjectName(vec![ObjectNamePart::Identifier(ident)]);
    Ok(Some(Write { path, kind, temporal_column: None }))
}

fn of_table(
    table: &mut TableWithJoins,
    kind: WriteKind,
    clauses: &[(&str, bool)],
    directory: &PondPath,
) -> Result<Option<Write>> {
    let TableFactor::Table { name, .. } = &mut table.relation else { return Ok(None) };
    let Some(write) = of_name(name, kind, directory)? else { return Ok(None) };
    refuse_first(&write, &[("JOIN", !table.joins.is_empty())])?;
    refuse_first(&write, clauses)?;
    Ok(Some(write))
}

fn of_insert(insert: &mut Insert, directory: &PondPath) -> Result<Option<Write>> {
    let TableObject::TableName(name) = &mut insert.table else { return Ok(None) };
    let kind = WriteKind::Insert { overwrite: insert.overwrite };
    let Some(write) = of_name(name, kind, directory)? else { return Ok(None) };
    let clauses = [
        ("OR", insert.or.is_some() || insert.replace_into),
        ("ON CONFLICT", insert.on.is_some()),
        ("RETURNING", insert.returning.is_some()),
        ("DEFAULT VALUES", insert.source.is_none()),
    ];
    refuse_first(&write, &clauses)?;
    if let Some(source) = &mut insert.source
        && let SetExpr::Select(select) = source.body.as_mut()
    {
        name_values(select);
    }
    Ok(Some(write))
}

/// Names a value that is there twice: values go to columns by position, but the engine takes no two
/// of one name.
fn name_values(select: &mut Select) {
    let mut seen = HashSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr) = item
            && !seen.insert(expr.to_string())
        {
            let alias = Ident::new(format!("__value_{at}"));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }
}

fn of_update(update: &mut Update, directory: &PondPath) -> Result<Option<Write>> {
    let clauses = [
        ("FROM", update.from.is_some()),
        ("RETURNING", update.returning.is_some()),
        ("OR", update.or.is_some()),
        ("ORDER BY", !update.order_by.is_empty()),
        ("LIMIT", update.limit.is_some()),
    ];
    let Some(write) = of_table(&mut update.table, WriteKind::Update, &clauses, directory)? else {
        return Ok(None);
    };
    // The engine compares these names as they are written, and lets the last of two win.
    let mut seen = Vec::new();
    for assignment in &mut update.assignments {
        let AssignmentTarget::ColumnName(name) = &mut assignment.target else { continue };
        let Some(ObjectNamePart::Identifier(column)) = name.0.last_mut() else { continue };
        if column.quote_style.is_none() {
            column.value.make_ascii_lowercase();
        }
        if seen.contains(&column.value) {
            return Err(Error::invalid(format!(
                "'{}': column '{}' is set twice",
                write.path, column.value
            )));
        }
        seen.push(column.value.clone());
    }
    Ok(Some(write))
}

fn of_create(create: &mut CreateTable, directory: &PondPath) -> Result<Option<Write>> {
    let kind =
        WriteKind::Create { if_not_exists: create.if_not_exists, or_replace: create.or_replace };
    let Some(mut write) = of_name(&mut create.name, kind, directory)? else { return Ok(None) };
    if create.if_not_exists && create.or_replace {
        return Err(Error::invalid(format!(
            "'{}': OR REPLACE and IF NOT EXISTS exclude each other",
            write.path
        )));
    }
    let mut options = create.columns.iter().flat_map(|column| &column.options);
    if let Some(option) = options.find(|option| option.option != ColumnOption::Null) {
        return Err(Error::unsupported(format!(
            "'{}': columns take no {}",
            write.path, option.option
        ))
        .with_hint("a file keeps the names and types of its columns, and no conditions on them"));
    }
    if !create.columns.is_empty()
        && let Some(query) = &mut create.query
        && let SetExpr::Select(select) = query.body.as_mut()
    {
        name_values(select);
    }
    refuse_first(
        &write,
        &[
            ("constraint", !create.constraints.is_empty()),
            ("TEMPORARY", create.temporary),
            ("PARTITION BY", create.partition_by.is_some()),
            ("ORDER BY", create.order_by.is_some()),
        ],
    )?;
    let options = match std::mem::replace(&mut create.table_options, CreateTableOptions::None) {
        CreateTableOptions::With(options) | CreateTableOptions::Options(options) => options,
        CreateTableOptions::None => Vec::new(),
        other => {
            create.table_options = other;
            return Ok(Some(write));
        }
    };
    for option in options {
        let SqlOption::KeyValue { key, value } = &option else {
            return Err(Error::unsupported(format!("'{}' takes no {option}", write.path)));
        };
        let value = match value {
            SqlExpr::Identifier(column) => Some(column.value.clone()),
            SqlExpr::Value(value) => value.value.clone().into_string(),
            _ => None,
        };
        set_option(&write.path, &key.value, value, &mut write.temporal_column)?;
    }
    Ok(Some(write))
}

/// The option of a new series: its temporal column.
fn set_option(
    path: &PondPath,
    name: &str,
    value: Option<String>,
    temporal_column: &mut Option<String>,
) -> Result<()> {
    const NAME: &str = "temporal_column";
    if !name.eq_ignore_ascii_case(NAME) {
        return Err(Error::invalid(format!("'{path}' takes no option '{name}'")).with_hint(
            did_you_mean(name, [NAME])
                .unwrap_or_else(|| format!("{NAME} names the column that orders a new series")),
        ));
    }
    let Some(value) = value else {
        return Err(Error::invalid(format!("'{path}': {NAME} takes the name of a column")));
    };
    if temporal_column.replace(value).is_some() {
        return Err(Error::invalid(format!("'{path}': {NAME} is given twice")));
    }
    Ok(())
}

/// Returns the path of the pond that `COPY` writes to, `None` for a file of the host.
fn copy_path(target: &str) -> Result<Option<PondPath>> {
    if target.starts_with('/') {
        return PondPath::parse(target).map(Some);
    }
    let is_host_file =
        target.contains("://") || target.starts_with("./") || target.starts_with("../");
    if is_host_file {
        return Ok(None);
    }
    Err(Error::invalid(format!("'{target}' may be a path of the pond or a file of the host"))
        .with_hint(format!("write '/{target}' for the pond, './{target}' for the host")))
}

fn copy_options(path: &PondPath, copy: &CopyToStatement) -> Result<Option<String>> {
    let clauses = [
        ("PARTITIONED BY", !copy.partitioned_by.is_empty()),
        ("STORED AS", copy.stored_as.is_some()),
    ];
    if let Some((clause, _)) = clauses.iter().find(|(_, given)| *given) {
        return Err(Error::unsupported(format!("'{path}' takes no {clause}"))
            .with_hint("the ending of its name tells the format of a file in the pond"));
    }
    let mut temporal_column = None;
    for (name, value) in &copy.options {
        let value = match value {
            SqlValue::SingleQuotedString(text) => Some(text.clone()),
            other => other.clone().into_string(),
        };
        set_option(path, name, value, &mut temporal_column)?;
    }
    Ok(temporal_column)
}

/// Returns the query whose rows are copied.
fn copy_source(source: &CopyToSource) -> Result<SqlStatement> {
    match source {
        CopyToSource::Query(query) => Ok(SqlStatement::Query(query.clone())),
        CopyToSource::Relation(name) => {
            let query = Script::parse_one(&format!("SELECT * FROM {name}"))?;
            match query.into_parts() {
                (_, Body::Engine(statement, _)) => match *statement {
                    EngineStatement::Statement(query) => Ok(*query),
                    _ => Err(Error::invalid(format!("'{name}' cannot be read"))),
                },
                (_, Body::Node(_) | Body::Summarize(..)) => {
                    Err(Error::invalid(format!("'{name}' cannot be read")))
                }
            }
        }
    }
}

fn refuse_first(write: &Write, clauses: &[(&str, bool)]) -> Result<()> {
    let Some((clause, _)) = clauses.iter().find(|(_, given)| *given) else { return Ok(()) };
    let verb = write.kind.verb();
    let hint = match *clause {
        "FROM" | "USING" | "JOIN" => {
            Some("a subquery reads other tables: … WHERE id IN (SELECT id FROM …)".to_owned())
        }
        _ => None,
    };
    Err(Error::unsupported(format!("'{}': {verb} takes no {clause}", write.path))
        .with_hint_opt(hint))
}
