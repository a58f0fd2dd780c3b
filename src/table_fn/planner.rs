//! Plans items of a FROM clause where the engine's own planner falls short: named arguments and
//! any case for table functions, precise errors for paths that are no tables, and no silence about
//! clauses that it would ignore.

use std::sync::Arc;

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, TableFactor,
};

use super::SIGNATURES;
use super::arguments::Signature;
use crate::catalog::Binding;
use crate::error::Error;
use crate::sql::ignored_in_from;

/// The planner of one binding.
#[derive(Debug)]
pub(crate) struct FromPlanner {
    binding: Arc<Binding>,
}

impl FromPlanner {
    pub(crate) fn new(binding: Arc<Binding>) -> Self {
        Self { binding }
    }
}

impl RelationPlanner for FromPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> EngineResult<RelationPlanning> {
        match &relation {
            TableFactor::Table { name, args: None, .. } => {
                let table = context.object_name_to_table_reference(name.clone())?;
                // Clauses on a foreign session's own tables are for others to judge.
                if table.table().starts_with('/')
                    && let Some(error) = ignored_in_from(&relation)
                {
                    return Err(error.into());
                }
                if let Some(error) = self.binding.error_of(&table)
                    && context.context_provider().get_table_source(table).is_err()
                {
                    return Err(error.into());
                }
                Ok(RelationPlanning::Original(Box::new(relation)))
            }
            TableFactor::Table { name, args: Some(args), alias, .. } => {
                let Some(function) = bare_name(name) else {
                    return Ok(RelationPlanning::Original(Box::new(relation)));
                };
                let Some(signature) =
                    SIGNATURES.iter().find(|signature| signature.name == function)
                else {
                    return Ok(RelationPlanning::Original(Box::new(in_lower_case(relation))));
                };
                if let Some(error) = ignored_in_from(&relation) {
                    return Err(error.into());
                }
                let args = arrange(signature, &args.args, context)?;
                let source =
                    context.context_provider().get_table_function_source(signature.name, args)?;
                let plan = LogicalPlanBuilder::scan(signature.name, source, None)?.build()?;
                let planned = PlannedRelation::new(plan, alias.clone());
                Ok(RelationPlanning::Planned(Box::new(planned)))
            }
            _ => Ok(RelationPlanning::Original(Box::new(relation))),
        }
    }
}

/// Returns the name of a function as it is registered: the engine compares it with case.
fn bare_name(name: &ObjectName) -> Option<String> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(Ident { value, quote_style: None, .. })] => {
            Some(value.to_ascii_lowercase())
        }
        [ObjectNamePart::Identifier(Ident { value, .. })] => Some(value.clone()),
        _ => None,
    }
}

fn in_lower_case(mut relation: TableFactor) -> TableFactor {
    if let TableFactor::Table { name, .. } = &mut relation
        && let [ObjectNamePart::Identifier(ident @ Ident { quote_style: None, .. })] =
            name.0.as_mut_slice()
    {
        ident.value.make_ascii_lowercase();
    }
    relation
}

/// Puts arguments into positional order; NULL stands for those left out.
fn arrange(
    signature: &'static Signature,
    args: &[FunctionArg],
    context: &mut dyn RelationPlannerContext,
) -> EngineResult<Vec<Expr>> {
    if args.len() > signature.parameters.len() {
        return Err(signature.too_many(args.len()).into());
    }
    let mut arranged: Vec<Option<Expr>> = vec![None; signature.parameters.len()];
    let mut seen_named = false;
    for (at, arg) in args.iter().enumerate() {
        let (at, value) = match arg {
            FunctionArg::Unnamed(_) if seen_named => {
                return Err(Error::invalid(format!(
                    "{}(): arguments without a name come before those with one",
                    signature.name
                ))
                .into());
            }
            FunctionArg::Unnamed(value) => (at, value),
            FunctionArg::Named { name, arg, .. } => (signature.position(&name.value)?, arg),
            FunctionArg::ExprNamed { name: SqlExpr::Identifier(name), arg, .. } => {
                (signature.position(&name.value)?, arg)
            }
            FunctionArg::ExprNamed { name, .. } => {
                return Err(signature.position(&name.to_string()).map_or_else(Into::into, |_| {
                    Error::invalid(format!("{}(): bad argument '{name}'", signature.name)).into()
                }));
            }
        };
        seen_named = !matches!(arg, FunctionArg::Unnamed(_));
        let FunctionArgExpr::Expr(value) = value else {
            return Err(Error::invalid(format!("{}() takes no '{value}'", signature.name)).into());
        };
        if arranged[at].is_some() {
            return Err(Error::invalid(format!(
                "argument '{}' of {}() is given twice",
                signature.parameters[at], signature.name
            ))
            .into());
        }
        arranged[at] = Some(context.sql_expr_to_logical_expr(value.clone(), &DFSchema::empty())?);
    }
    let null = || Expr::Literal(ScalarValue::Null, None);
    Ok(arranged.into_iter().map(|arg| arg.unwrap_or_else(null)).collect())
}
