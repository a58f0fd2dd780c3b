//! Refuses clauses that the parser knows and the engine's planner leaves out without a word, which
//! would answer another question than was asked.

use std::ops::ControlFlow;

use datafusion::sql::parser::{CopyToSource, Statement as EngineStatement};
use datafusion::sql::sqlparser::ast::{
    GroupByExpr, Query, Select, SelectFlavor, SelectItem, SetExpr, Statement, TableFactor, Visit,
    Visitor,
};

use crate::error::{Error, Result};

/// Checks a whole statement, subqueries included.
///
/// # Errors
/// `Unsupported`, naming the clause.
pub(super) fn refuse(statement: &EngineStatement) -> Result<()> {
    let found = match statement {
        EngineStatement::Statement(statement) => statement.visit(&mut Ignored::default()),
        EngineStatement::CopyTo(copy) => match &copy.source {
            CopyToSource::Query(query) => query.visit(&mut Ignored::default()),
            CopyToSource::Relation(_) => ControlFlow::Continue(()),
        },
        EngineStatement::Explain(explain) => return refuse(&explain.statement),
        EngineStatement::CreateExternalTable(_) | EngineStatement::Reset(_) => {
            ControlFlow::Continue(())
        }
    };
    match found {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(()),
    }
}

#[derive(Default)]
struct Ignored {
    /// Whether what follows is within a query.
    is_inner: bool,
}

type Found = ControlFlow<Error>;

impl Visitor for Ignored {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        let clauses = [
            ("FOR UPDATE", !query.locks.is_empty()),
            ("FOR XML", query.for_clause.is_some()),
            ("SETTINGS", query.settings.is_some()),
            ("FORMAT", query.format_clause.is_some()),
        ];
        refuse_first("a query", &clauses)?;
        // SELECTs that are the body itself; those in parentheses are queries of their own.
        let is_inner = std::mem::replace(&mut self.is_inner, true);
        let is_set = !matches!(query.body.as_ref(), SetExpr::Select(_));
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Select(select) if select.into.is_some() && (is_inner || is_set) => {
                    return ControlFlow::Break(
                        Error::unsupported("INTO is for a whole query that is one SELECT")
                            .with_hint("CREATE TABLE '/p' AS, before the query"),
                    );
                }
                SetExpr::Select(select) => check_select(select)?,
                SetExpr::SetOperation { left, right, .. } => bodies.extend([&**left, &**right]),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        match ignored_in_from(factor) {
            Some(error) => ControlFlow::Break(error),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> Found {
        match statement {
            Statement::Delete(delete) => {
                refuse_first("DELETE", &[("LIMIT", delete.limit.is_some())])
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check_select(select: &Select) -> Found {
    let modifiers = match &select.group_by {
        GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers) => modifiers,
    };
    let ilike = select.projection.iter().any(|item| match item {
        SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
            options.opt_ilike.is_some()
        }
        _ => false,
    });
    let global = select.from.iter().flat_map(|from| &from.joins).any(|join| join.global);
    let clauses = [
        ("FROM without SELECT", matches!(select.flavor, SelectFlavor::FromFirstNoSelect)),
        ("PREWHERE", select.prewhere.is_some()),
        ("CONNECT BY", !select.connect_by.is_empty()),
        ("WITH after GROUP BY", !modifiers.is_empty()),
        ("ILIKE after *", ilike),
        ("GLOBAL JOIN", global),
        ("EXCLUDE behind the columns", select.exclude.is_some()),
        ("a modifier", select.select_modifiers.is_some()),
        ("AS VALUE or AS STRUCT", select.value_table_mode.is_some()),
    ];
    refuse_first("SELECT", &clauses)
}

fn refuse_first(object: &str, clauses: &[(&str, bool)]) -> Found {
    match clauses.iter().find(|(_, given)| *given) {
        Some((clause, _)) => {
            let error = Error::unsupported(format!("{object} takes no {clause}"));
            let hint = match *clause {
                "WITH after GROUP BY" => {
                    Some("GROUP BY ROLLUP (…), CUBE (…) or GROUPING SETS (…)".to_owned())
                }
                "FROM without SELECT" => Some("SELECT * FROM …".to_owned()),
                _ => None,
            };
            ControlFlow::Break(error.with_hint_opt(hint))
        }
        None => ControlFlow::Continue(()),
    }
}

/// Returns the error about a clause of a FROM item that the engine's planner would leave out.
pub(crate) fn ignored_in_from(factor: &TableFactor) -> Option<Error> {
    let (object, clause) = match factor {
        TableFactor::Derived { sample: Some(_), .. } => ("the subquery".to_owned(), "TABLESAMPLE"),
        TableFactor::Table {
            name,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
            ..
        } => {
            let clauses = [
                ("TABLESAMPLE", sample.is_some()),
                ("AS OF", version.is_some()),
                ("WITH ORDINALITY", *with_ordinality),
                ("PARTITION", !partitions.is_empty()),
                ("a path of fields", json_path.is_some()),
                ("a hint", !with_hints.is_empty() || !index_hints.is_empty()),
            ];
            (name.to_string(), clauses.iter().find(|(_, given)| *given)?.0)
        }
        _ => return None,
    };
    let hint = (clause == "TABLESAMPLE").then(|| "WHERE random() < 0.1 keeps a tenth".to_owned());
    Some(Error::unsupported(format!("{object} takes no {clause}")).with_hint_opt(hint))
}
