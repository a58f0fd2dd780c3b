//! Columns that a query selects twice without a name.
//!
//! The engine's columns have names of their own, which follow from what is selected: it refuses `SELECT 1, 1`,
//! or `SELECT count(*), count(*)`, that a client sends with two parameters of one value. What was
//! there before is given a name with a number.

use std::collections::HashMap;

use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, SelectItem, SetExpr, Statement as SqlStatement,
};

/// Names the columns of a query that are selected again.
pub(super) fn name(statement: &mut EngineStatement) {
    match statement {
        EngineStatement::Statement(statement) => {
            if let SqlStatement::Query(query) = statement.as_mut() {
                name_in(&mut query.body);
            }
        }
        EngineStatement::Explain(explain) => name(&mut explain.statement),
        _ => {}
    }
}

fn name_in(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for item in &mut select.projection {
                let SelectItem::UnnamedExpr(expr) = item else { continue };
                let text = match &*expr {
                    Expr::CompoundIdentifier(names) => {
                        names.last().map_or_else(String::new, ToString::to_string)
                    }
                    expr => expr.to_string(),
                };
                let times = seen.entry(key(expr)).or_default();
                if *times > 0 {
                    let alias = Ident::with_quote('"', format!("{text}:{times}"));
                    *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
                }
                *times += 1;
            }
        }
        SetExpr::Query(query) => name_in(&mut query.body),
        SetExpr::SetOperation { left, right, .. } => {
            name_in(left);
            name_in(right);
        }
        _ => {}
    }
}

/// Returns what a column is known by, which is without its casts.
fn key(expr: &Expr) -> String {
    match expr {
        Expr::Cast { expr, .. } | Expr::Nested(expr) => key(expr),
        expr => expr.to_string().to_lowercase(),
    }
}
