//! Queries about the catalogs, put into words that the engine understands.
//!
//! Tools ask Postgres for much that a pond has none of (indexes, constraints, triggers), in queries
//! that the engine cannot plan: of arrays, of functions that give several rows, of subqueries that are
//! no aggregates. What is joined to a table that is always empty ([`NEVER`]) has no rows, so such a
//! query becomes the empty one of the same columns, from the inside out; this spares most of them. Of
//! the others, subqueries that stand for a value or a list become aggregates, casts between names and
//! numbers of objects become look-ups, and columns get the names that Postgres gives them. The rest is
//! done by the rules of datafusion-pg-catalog.
//!
//! Not done are rules that put NULL for what cannot be planned: that fails, and says so.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Array, ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, GroupByExpr,
    Ident, JoinOperator, LimitClause, ObjectName, ObjectNamePart, OrderByExpr, OrderByKind, Query,
    Select, SelectItem, SetExpr, SetOperator, Statement as SqlStatement, TableFactor,
    TableWithJoins, Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion_pg_catalog::sql::rules::{
    AliasDuplicatedProjectionRewrite, CurrentUserVariableToSessionUserFunctionCall,
    FixArrayLiteral, PrependUnqualifiedPgTableName, ResolveUnqualifiedIdentifier,
    RewriteArrayAnyAllOperation, RewritePgCatalogOperator, SqlStatementRewriteRule,
    StripCallableQualifier, StripCollate,
};

use super::errors::PgError;
use crate::sql::cut;

/// Tables of `pg_catalog` that a pond has no rows of.
pub(super) const NEVER: &[&str] = &[
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_auth_members",
    "pg_available_extensions",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_init_privs",
    "pg_largeobject",
    "pg_largeobject_metadata",
    "pg_locks",
    "pg_matviews",
    "pg_opclass",
    "pg_opfamily",
    "pg_options_to_table",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_prepared_xacts",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_publication_tables",
    "pg_replication_origin",
    "pg_replication_slots",
    "pg_rewrite",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_sequences",
    "pg_shdepend",
    "pg_shseclabel",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_user_mapping",
    "pg_user_mappings",
];

/// Tables of `information_schema` that a pond has no rows of, and the engine not at all.
pub(super) const NEVER_STANDARD: &[&str] = &[
    "check_constraints",
    "constraint_column_usage",
    "constraint_table_usage",
    "domain_constraints",
    "domains",
    "element_types",
    "foreign_tables",
    "key_column_usage",
    "referential_constraints",
    "sequences",
    "table_constraints",
    "triggers",
    "user_defined_types",
];

/// Columns of types, and the kinds that none is of: composites, domains, enums.
const NEVER_KINDS: (&str, &[&str]) = ("typtype", &["c", "d", "e"]);

const AGGREGATES: &[&str] = &[
    "array_agg",
    "avg",
    "bool_and",
    "bool_or",
    "count",
    "every",
    "first_value",
    "json_agg",
    "json_object_agg",
    "jsonb_agg",
    "max",
    "min",
    "string_agg",
    "sum",
];

/// Lists that are null in all rows of the catalogs.
const NULL_LISTS: &[&str] = &["attoptions", "rolconfig", "reloptions"];

/// Functions that return several rows where Postgres has them in a list of columns.
const SETS: &[&str] = &["generate_series", "generate_subscripts", "unnest", "_pg_expandarray"];

/// Functions whose text may name an object.
const NAMING: &[&str] =
    &["concat", "format", "pg_get_serial_sequence", "quote_ident", "pg_relation_name"];

/// Parses queries and rewrites them.
pub(super) struct Rewriter {
    rules: Vec<Box<dyn SqlStatementRewriteRule>>,
}

impl Rewriter {
    pub(super) fn new() -> Self {
        let rules: Vec<Box<dyn SqlStatementRewriteRule>> = vec![
            Box::new(AliasDuplicatedProjectionRewrite),
            Box::new(ResolveUnqualifiedIdentifier),
            Box::new(RewriteArrayAnyAllOperation),
            Box::new(PrependUnqualifiedPgTableName),
            Box::new(StripCallableQualifier),
            Box::new(FixArrayLiteral),
            Box::new(CurrentUserVariableToSessionUserFunctionCall),
            Box::new(StripCollate),
            Box::new(RewritePgCatalogOperator),
        ];
        Self { rules }
    }

    /// Parses one query.
    ///
    /// # Errors
    /// `42601` for what is none.
    pub(super) fn parse(&self, text: &str) -> Result<SqlStatement, PgError> {
        let mut statements = Parser::parse_sql(&PostgreSqlDialect {}, &without_type_tree(text))
            .map_err(|error| PgError::new("42601", error.to_string()))?;
        match (statements.pop(), statements.is_empty()) {
            (Some(SqlStatement::Query(query)), true) => Ok(self.rewrite(query)),
            _ => Err(PgError::new("42601", "the text is not one query")),
        }
    }

    fn rewrite(&self, mut query: Box<Query>) -> SqlStatement {
        name_columns(&mut query.body);
        // Neither step ever breaks off.
        let _ = VisitMut::visit(&mut query, &mut Mend);
        let mut statement = SqlStatement::Query(query);
        for rule in &self.rules {
            statement = rule.rewrite(statement);
        }
        statement
    }
}

/// Puts a question that the engine can answer in place of asyncpg's for types, which walks a tree of
/// them. All types here are of Postgres, and all that is to be told are the elements of its arrays.
fn without_type_tree(text: &str) -> String {
    let [cut] = &cut(text)[..] else { return text.to_owned() };
    let is = |at: usize, word: &str| {
        matches!(cut.tokens.get(at), Some((Token::Word(found), _))
            if found.value.eq_ignore_ascii_case(word))
    };
    if !(is(0, "with") && is(1, "recursive") && is(2, "typeinfo_tree")) {
        return text.to_owned();
    }
    let asked = (0..cut.tokens.len()).find_map(|at| {
        let is_asked = is(at, "any")
            && matches!(cut.tokens.get(at + 1), Some((Token::LParen, _)))
            && !is(at + 2, "tt");
        let close = cut.tokens[at..].iter().position(|(token, _)| *token == Token::DoubleColon);
        let close = close.filter(|_| is_asked).map(|close| at + close)?;
        Some(&cut.text[cut.tokens[at + 2].1.start..cut.tokens[close].1.start])
    });
    let Some(asked) = asked else { return text.to_owned() };
    format!(
        "SELECT t.oid AS oid, 'pg_catalog' AS ns, t.typname AS name, t.typtype AS kind, \
         CAST(NULL AS INT) AS basetype, t.typelem AS elemtype, ',' AS elemdelim, \
         CAST(NULL AS INT) AS range_subtype, CAST(NULL AS VARCHAR[]) AS attrtypoids, \
         CAST(NULL AS VARCHAR[]) AS attrnames, 0 AS depth, CAST(NULL AS VARCHAR) AS basetype_name, \
         e.typname AS elemtype_name, CAST(NULL AS VARCHAR) AS range_subtype_name \
         FROM pg_catalog.pg_type AS t LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem \
         WHERE t.oid = ANY(CAST({asked} AS INT[]))"
    )
}

// ---------------------------------------------------------------------------------------------
// The columns of a result

/// Names the columns of the outermost query as Postgres would, and shows objects by their names.
fn name_columns(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) = item
                    && !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_))
                {
                    let alias = Ident::with_quote('"', name_of(expr));
                    let expr = std::mem::replace(expr, null());
                    *item = SelectItem::ExprWithAlias { expr, alias };
                }
                if let SelectItem::ExprWithAlias { expr, .. } = item {
                    show_object(expr);
                }
            }
        }
        SetExpr::Query(query) => name_columns(&mut query.body),
        SetExpr::SetOperation { left, .. } => name_columns(left),
        _ => {}
    }
}

/// Gives each column a name of its own, which the engine insists on.
fn separate_columns(select: &mut Select) {
    let mut seen = HashSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        match item {
            SelectItem::UnnamedExpr(expr) if !seen.insert(expr.to_string()) => {
                let alias = Ident::with_quote('"', format!("{}{}", name_of(expr), at + 1));
                let expr = std::mem::replace(expr, null());
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            SelectItem::ExprWithAlias { alias, .. } if !seen.insert(alias.value.clone()) => {
                *alias = Ident::with_quote('"', format!("{}{}", alias.value, at + 1));
                seen.insert(alias.value.clone());
            }
            _ => {}
        }
    }
}

/// Returns the name that Postgres gives a column.
fn name_of(expr: &Expr) -> String {
    let lower = |ident: &Ident| match ident.quote_style {
        None => ident.value.to_lowercase(),
        Some(_) => ident.value.clone(),
    };
    let of_object = |name: &ObjectName| name.0.last().and_then(ObjectNamePart::as_ident).map(lower);
    let found = match expr {
        Expr::Identifier(ident) => Some(lower(ident)),
        Expr::CompoundIdentifier(idents) => idents.last().map(lower),
        Expr::Function(function) => of_object(&function.name),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => Some(name_of(inner)),
        Expr::CompoundFieldAccess { root, .. } => Some(name_of(root)),
        Expr::Cast { expr, data_type, .. } => match name_of(expr) {
            name if name == UNNAMED => match data_type {
                DataType::Custom(name, _) => of_object(name),
                other => Some(other.to_string().to_lowercase()),
            },
            name => Some(name),
        },
        Expr::Case { else_result: Some(other), .. } if name_of(other) != UNNAMED => {
            Some(name_of(other))
        }
        Expr::Case { .. } => Some("case".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        Expr::Array(_) => Some("array".to_owned()),
        Expr::Substring { .. } => Some("substring".to_owned()),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => select.projection.first().and_then(item_name),
            _ => None,
        },
        _ => None,
    };
    found.unwrap_or_else(|| UNNAMED.to_owned())
}

/// What Postgres calls a column that has no name.
const UNNAMED: &str = "?column?";

fn item_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::UnnamedExpr(expr) => Some(name_of(expr)),
        SelectItem::ExprWithAlias { alias, .. } => Some(match alias.quote_style {
            None => alias.value.to_lowercase(),
            Some(_) => alias.value.clone(),
        }),
        _ => None,
    }
}

// ---------------------------------------------------------------------------------------------
// From the inside out

struct Mend;

impl VisitorMut for Mend {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        of_a_set(expr);
        show_text(expr);
        number_function(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) if is_void(query) => *expr = null(),
            Expr::Subquery(query) => first_of(query),
            Expr::Exists { subquery, negated } | Expr::InSubquery { subquery, negated, .. }
                if is_void(subquery) =>
            {
                *expr = truth(*negated);
            }
            // Nothing is in the schemas of the search path, so tools name the schema.
            Expr::InSubquery { subquery, negated, .. } if is_of_search_path(subquery) => {
                *expr = truth(*negated);
            }
            Expr::Function(function) => {
                if let Some(list) = list_of(function) {
                    *expr = list;
                }
            }
            Expr::Case { operand: None, conditions, else_result, .. } => {
                conditions.retain(|case| case.condition != truth(false));
                if conditions.is_empty() {
                    *expr = else_result.take().map_or_else(null, |other| *other);
                }
            }
            Expr::CompoundIdentifier(idents)
                if idents.last().is_some_and(|last| last.value == "tableoid") =>
            {
                // Rows of the catalogs are of no table that has a number.
                *expr = cast(null(), DataType::Integer(None));
            }
            Expr::BinaryOp { .. } => compare(expr),
            Expr::Cast { .. } => look_up(expr),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        separate_columns(select);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut void = Vec::new();
        for cte in query.with.iter_mut().flat_map(|with| &mut with.cte_tables) {
            if empty_body(&mut cte.query.body, &void) && cte.alias.columns.is_empty() {
                void.push(cte.alias.name.value.to_lowercase());
            }
        }
        if empty_body(&mut query.body, &void) {
            query.with = None;
            query.order_by = None;
            query.limit_clause = None;
            query.fetch = None;
        }
        ControlFlow::Continue(())
    }
}

fn null() -> Expr {
    Expr::Value(Value::Null.with_empty_span())
}

fn truth(value: bool) -> Expr {
    Expr::Value(Value::Boolean(value).with_empty_span())
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

fn call(name: &str, args: Vec<Expr>, order: Vec<OrderByExpr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg)));
    let clauses = match order.is_empty() {
        true => Vec::new(),
        false => vec![FunctionArgumentClause::OrderBy(order)],
    };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.collect(),
            clauses,
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn function_name(function: &Function) -> Option<String> {
    let last = function.name.0.last()?.as_ident()?;
    Some(last.value.to_lowercase())
}

// ---------------------------------------------------------------------------------------------
// What has no rows

/// Whether a query is the empty one that takes the place of others.
fn is_void(query: &Query) -> bool {
    is_void_body(&query.body)
}

fn is_void_body(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => {
            select.from.is_empty() && select.selection.as_ref() == Some(&truth(false))
        }
        SetExpr::Query(query) => is_void(query),
        SetExpr::SetOperation { op: SetOperator::Union, left, right, .. } => {
            is_void_body(left) && is_void_body(right)
        }
        _ => false,
    }
}

/// Makes a query that can have no rows the empty one; returns whether it is.
fn empty_body(body: &mut SetExpr, void: &[String]) -> bool {
    match body {
        SetExpr::Select(select) => empty_select(select, void),
        SetExpr::Query(query) => empty_body(&mut query.body, void),
        SetExpr::SetOperation { op: SetOperator::Union, left, right, .. } => {
            let left = empty_body(left, void);
            empty_body(right, void) && left
        }
        _ => false,
    }
}

fn empty_select(select: &mut Select, void: &[String]) -> bool {
    if !select.from.iter().any(|from| has_no_rows(from, void)) {
        return select.from.is_empty() && select.selection.as_ref() == Some(&truth(false));
    }
    let is_grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(exprs, _) => !exprs.is_empty(),
    };
    if !is_grouped && has_aggregates(select) {
        // One row, of what aggregates say of nothing.
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item {
                let _ = VisitMut::visit(expr, &mut OfNothing { depth: 0 });
            }
        }
        select.from.clear();
        select.selection = None;
        return false;
    }
    let columns: Option<Vec<SelectItem>> = select
        .projection
        .iter()
        .map(|item| {
            let expr = match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
                // Which columns there are is known to the engine alone.
                _ => return None,
            };
            let value = match expr {
                Expr::Cast { data_type, .. } if is_plain(data_type) => {
                    cast(null(), data_type.clone())
                }
                _ => null(),
            };
            let alias = Ident::with_quote('"', item_name(item)?);
            Some(SelectItem::ExprWithAlias { expr: value, alias })
        })
        .collect();
    let Some(columns) = columns else { return false };
    select.projection = columns;
    select.distinct = None;
    select.from.clear();
    select.selection = Some(truth(false));
    select.group_by = GroupByExpr::Expressions(Vec::new(), Vec::new());
    select.having = None;
    select.qualify = None;
    select.named_window.clear();
    separate_columns(select);
    true
}

fn is_plain(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Custom(..) | DataType::Array(_) | DataType::Regclass)
}

fn has_no_rows(from: &TableWithJoins, void: &[String]) -> bool {
    from.joins.iter().fold(factor_has_no_rows(&from.relation, void), |left, join| {
        let right = || factor_has_no_rows(&join.relation, void);
        match &join.join_operator {
            JoinOperator::Join(_)
            | JoinOperator::Inner(_)
            | JoinOperator::CrossJoin(_)
            | JoinOperator::CrossApply
            | JoinOperator::StraightJoin(_)
            | JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_) => left || right(),
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right(),
            JoinOperator::FullOuter(_) => left && right(),
            _ => left,
        }
    })
}

fn factor_has_no_rows(factor: &TableFactor, void: &[String]) -> bool {
    match factor {
        TableFactor::Table { name, args: Some(args), .. } => {
            is_never(name, &[]) || is_unnest(name) && args.args.iter().any(is_null_list)
        }
        TableFactor::Table { name, .. } => is_never(name, void),
        TableFactor::Derived { subquery, .. } => is_void(subquery),
        TableFactor::NestedJoin { table_with_joins, .. } => has_no_rows(table_with_joins, void),
        TableFactor::Function { name, args, .. } => {
            is_never(name, &[]) || is_unnest(name) && args.iter().any(is_null_list)
        }
        TableFactor::UNNEST { array_exprs, .. } => array_exprs.iter().any(is_null_column),
        _ => false,
    }
}

fn is_unnest(name: &ObjectName) -> bool {
    let last = name.0.last().and_then(ObjectNamePart::as_ident);
    last.is_some_and(|last| last.value.eq_ignore_ascii_case("unnest"))
}

fn is_null_list(arg: &FunctionArg) -> bool {
    matches!(arg, FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) if is_null_column(expr))
}

fn is_null_column(expr: &Expr) -> bool {
    let name = match expr {
        Expr::Identifier(ident) => ident,
        Expr::CompoundIdentifier(idents) => match idents.last() {
            Some(last) => last,
            None => return false,
        },
        _ => return false,
    };
    let name = name.value.to_lowercase();
    name.ends_with("acl") || NULL_LISTS.contains(&name.as_str())
}

fn is_never(name: &ObjectName, void: &[String]) -> bool {
    let parts: Vec<String> = name
        .0
        .iter()
        .filter_map(|part| part.as_ident().map(|ident| ident.value.to_lowercase()))
        .collect();
    match parts.as_slice() {
        [table] => void.contains(table) || NEVER.contains(&table.as_str()),
        [.., schema, table] if schema == "pg_catalog" => NEVER.contains(&table.as_str()),
        [.., schema, table] if schema == "information_schema" => {
            NEVER_STANDARD.contains(&table.as_str())
        }
        _ => false,
    }
}

/// Looks for functions outside subqueries.
struct Calls<'a> {
    names: &'a [&'a str],
    depth: usize,
    found: bool,
}

impl Visitor for Calls<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Function(function) = expr
            && let Some(name) = function_name(function)
        {
            self.found |= self.names.contains(&name.as_str()) || function.over.is_some();
        }
        ControlFlow::Continue(())
    }
}

fn has_calls(item: &impl Visit, names: &[&str]) -> bool {
    let mut calls = Calls { names, depth: 0, found: false };
    let _ = Visit::visit(item, &mut calls);
    calls.found
}

fn has_aggregates(select: &Select) -> bool {
    select.projection.iter().any(|item| has_calls(item, AGGREGATES)) || select.having.is_some()
}

/// Puts what aggregates say of nothing in their place.
struct OfNothing {
    depth: usize,
}

impl VisitorMut for OfNothing {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.depth == 0
            && let Expr::Function(function) = expr
            && let Some(name) = function_name(function)
            && AGGREGATES.contains(&name.as_str())
        {
            *expr = match name.as_str() {
                "count" => {
                    let zero = Expr::Value(Value::Number("0".to_owned(), false).with_empty_span());
                    cast(zero, DataType::BigInt(None))
                }
                _ => null(),
            };
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query takes the search path apart.
fn is_of_search_path(query: &Query) -> bool {
    let SetExpr::Select(select) = query.body.as_ref() else { return false };
    select.from.iter().any(|from| {
        let from = from.to_string().to_lowercase();
        from.contains("string_to_array") && from.contains("current_setting('search_path')")
    })
}

// ---------------------------------------------------------------------------------------------
// Subqueries

/// `x = ANY (SELECT …)` is `x IN (SELECT …)`.
fn of_a_set(expr: &mut Expr) {
    let (left, right, negated) = match expr {
        Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
        Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
        _ => return,
    };
    let mut set = std::mem::replace(right.as_mut(), null());
    while let Expr::Nested(inner) = set {
        set = *inner;
    }
    match set {
        Expr::Subquery(subquery) => {
            let expr_of = Box::new(std::mem::replace(left.as_mut(), null()));
            *expr = Expr::InSubquery { expr: expr_of, subquery, negated };
        }
        other => **right = other,
    }
}

/// Returns the parts of a query that yields one column of plain rows: the column and its order.
fn plain(query: &mut Query) -> Option<(&mut Expr, Vec<OrderByExpr>)> {
    let Query { with: None, body, order_by, fetch: None, .. } = query else { return None };
    let SetExpr::Select(select) = body.as_mut() else { return None };
    let is_grouped = !matches!(&select.group_by,
        GroupByExpr::Expressions(exprs, _) if exprs.is_empty());
    if is_grouped
        || select.distinct.is_some()
        || select.from.is_empty()
        || select.projection.len() != 1
        || has_aggregates(select)
        || select.projection.iter().any(|item| has_calls(item, SETS))
    {
        return None;
    }
    let order = match order_by.as_ref().map(|order| &order.kind) {
        None => Vec::new(),
        // By a place in the list, or by what it is called.
        Some(OrderByKind::Expressions(order)) => order
            .iter()
            .map(|by| OrderByExpr {
                expr: match (&by.expr, &select.projection[0]) {
                    (Expr::Value(_), SelectItem::UnnamedExpr(expr)) => expr.clone(),
                    _ => by.expr.clone(),
                },
                ..by.clone()
            })
            .collect(),
        Some(OrderByKind::All(_)) => return None,
    };
    match &mut select.projection[0] {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            Some((expr, order))
        }
        _ => None,
    }
}

/// Makes a query that stands for one value an aggregate, as the engine wants it.
fn first_of(query: &mut Query) {
    let is_one = match &query.limit_clause {
        None => true,
        Some(LimitClause::LimitOffset {
            limit: Some(Expr::Value(limit)), offset: None, ..
        }) => limit.value == Value::Number("1".to_owned(), false),
        Some(_) => false,
    };
    if !is_one {
        return;
    }
    let Some((expr, order)) = plain(query) else { return };
    let value = std::mem::replace(expr, null());
    *expr = call("first_value", vec![value], order);
    query.order_by = None;
    query.limit_clause = None;
}

/// `ARRAY(SELECT …)` is an aggregate, too.
fn list_of(function: &mut Function) -> Option<Expr> {
    if function_name(function)? != "array" {
        return None;
    }
    let FunctionArguments::Subquery(query) = &mut function.args else { return None };
    if is_void(query) {
        let none = Expr::Array(Array { elem: Vec::new(), named: true });
        let element = Box::new(DataType::Varchar(None));
        let list = ArrayElemTypeDef::SquareBracket(element, None);
        return Some(cast(none, DataType::Array(list)));
    }
    if query.limit_clause.is_some() {
        return None;
    }
    let (expr, order) = plain(query)?;
    let value = std::mem::replace(expr, null());
    *expr = call("array_agg", vec![value], order);
    query.order_by = None;
    Some(Expr::Subquery(query.clone()))
}

// ---------------------------------------------------------------------------------------------
// Names and numbers of objects

/// Returns the kind of object that values of a type are the numbers of.
fn object_of(data_type: &DataType) -> Option<&'static str> {
    const KINDS: [&str; 6] =
        ["regclass", "regtype", "regnamespace", "regproc", "regprocedure", "regrole"];
    let name = match data_type {
        DataType::Regclass => "regclass".to_owned(),
        DataType::Custom(name, args) if args.is_empty() => {
            name.0.last()?.as_ident()?.value.to_lowercase()
        }
        _ => return None,
    };
    KINDS.into_iter().find(|kind| *kind == name)
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_) => true,
        DataType::Custom(name, _) => {
            name.0.last().and_then(ObjectNamePart::as_ident).is_some_and(|ident| {
                matches!(ident.value.to_lowercase().as_str(), "text" | "varchar" | "name")
            })
        }
        _ => false,
    }
}

/// Whether the value is a text rather than a number.
fn is_name(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => {
            matches!(value.value, Value::SingleQuotedString(_) | Value::Placeholder(_))
        }
        Expr::Nested(inner) => is_name(inner),
        Expr::Cast { data_type, .. } => is_text(data_type),
        Expr::BinaryOp { op: BinaryOperator::StringConcat, .. } => true,
        Expr::Function(function) => {
            function_name(function).is_some_and(|name| NAMING.contains(&name.as_str()))
        }
        _ => false,
    }
}

/// `x::regclass` as a column of the result: the name.
fn show_object(expr: &mut Expr) {
    if let Expr::Cast { expr: inner, data_type, .. } = expr
        && let Some(kind) = object_of(data_type)
        && !is_name(inner)
    {
        let inner = std::mem::replace(inner.as_mut(), null());
        *expr = shown(kind, inner);
    }
}

/// `x::regclass::text`: the name.
fn show_text(expr: &mut Expr) {
    if let Expr::Cast { expr: inner, data_type, .. } = expr
        && is_text(data_type)
    {
        show_object(inner);
    }
}

/// `'f'::regproc::oid`: there is no function whose definition that leads to.
fn number_function(expr: &mut Expr) {
    if let Expr::Cast { expr: inner, data_type: DataType::Custom(..), .. } = expr
        && let Expr::Cast { expr: name, data_type, .. } = inner.as_mut()
        && matches!(object_of(data_type), Some("regproc" | "regprocedure"))
        && is_name(name)
    {
        let name = std::mem::replace(name.as_mut(), null());
        *expr = found("regproc", name);
    }
}

fn shown(kind: &str, number: Expr) -> Expr {
    match kind {
        "regclass" => call("pg_relation_name", vec![number], Vec::new()),
        "regtype" => call("format_type", vec![number, null()], Vec::new()),
        "regnamespace" => call("pg_namespace_name", vec![number], Vec::new()),
        "regrole" => call("pg_get_userbyid", vec![number], Vec::new()),
        // Functions are known by their names in the tables.
        _ => cast(number, DataType::Varchar(None)),
    }
}

/// `'x'::regclass`: the number.
fn look_up(expr: &mut Expr) {
    let Expr::Cast { expr: inner, data_type, .. } = expr else { return };
    if let DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) = data_type
        && object_of(element) == Some("regtype")
        && !is_name(inner)
    {
        let value = std::mem::replace(inner.as_mut(), null());
        *expr = call("pg_type_names", vec![value], Vec::new());
        return;
    }
    let Some(kind) = object_of(data_type) else { return };
    let value = std::mem::replace(inner.as_mut(), null());
    *expr = match (kind, is_name(&value)) {
        ("regclass" | "regtype" | "regnamespace", true) => found(kind, value),
        ("regproc" | "regprocedure", true) => match value {
            Expr::Value(mut value) => {
                if let Value::SingleQuotedString(text) = &mut value.value {
                    *text = text.trim_start_matches("pg_catalog.").to_owned();
                }
                Expr::Value(value)
            }
            other => other,
        },
        ("regproc" | "regprocedure", false) => cast(value, DataType::Varchar(None)),
        _ => cast(value, data_type.clone()),
    };
}

fn found(kind: &str, name: Expr) -> Expr {
    let name = cast(name, DataType::Varchar(None));
    call(&format!("pg_{kind}_of"), vec![name], Vec::new())
}

/// A number of an object that is compared with a text is compared with what the text names; a kind
/// that there are none of is none.
fn compare(expr: &mut Expr) {
    let Expr::BinaryOp { left, op: BinaryOperator::Eq | BinaryOperator::NotEq, right } = expr
    else {
        return;
    };
    let (column, text) = match (left.as_ref(), right.as_ref()) {
        (_, Expr::Value(value)) => match &value.value {
            Value::SingleQuotedString(text) => (left.as_ref(), text.clone()),
            _ => return,
        },
        _ => return,
    };
    let column = match column {
        Expr::Identifier(ident) => ident,
        Expr::CompoundIdentifier(idents) => match idents.last() {
            Some(last) => last,
            None => return,
        },
        _ => return,
    };
    let name = column.value.to_lowercase();
    let is_number = text.parse::<i64>().is_ok();
    let kind = match name.as_str() {
        "classoid" | "refclassid" | "attrelid" | "conrelid" | "indrelid" => "regclass",
        "atttypid" | "prorettype" => "regtype",
        _ if name.ends_with("namespace") => "regnamespace",
        _ => {
            if name == NEVER_KINDS.0
                && NEVER_KINDS.1.contains(&text.as_str())
                && matches!(expr, Expr::BinaryOp { op: BinaryOperator::Eq, .. })
            {
                *expr = truth(false);
            }
            return;
        }
    };
    if !is_number {
        let value = std::mem::replace(right.as_mut(), null());
        **right = found(kind, value);
    }
}
