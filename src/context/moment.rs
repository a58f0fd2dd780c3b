//! The times that statements name: from expressions to points of the pond's history.

use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::collect;
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias};

use super::PondContext;
use crate::error::{Error, Result};
use crate::pond::At;
use crate::sql::diagnose;
use crate::sql::time_travel::{Moment, PastClause, name_past};
use crate::tree::past;

impl PondContext {
    /// Puts the path forms of what a statement reads of the past into it.
    pub(super) async fn name_past(
        &self,
        statement: &mut EngineStatement,
        clauses: &[PastClause],
    ) -> Result<()> {
        let mut suffixes = Vec::with_capacity(clauses.len());
        for clause in clauses {
            suffixes.push(past::suffix(self.at(&clause.moment).await?));
        }
        name_past(statement, &suffixes);
        Ok(())
    }

    /// Returns the point of history that a statement names.
    ///
    /// # Errors
    /// `Invalid` if it is no constant time.
    pub(super) async fn at(&self, moment: &Moment) -> Result<At> {
        match moment {
            Moment::Version(txn) => Ok(At::Version(*txn)),
            Moment::Time(time) => self.time(time).await.map(At::Timestamp),
        }
    }

    /// Evaluates a constant time, in microseconds since 1970 UTC.
    async fn time(&self, time: &SqlExpr) -> Result<i64> {
        let lean = self.lean();
        let state = lean.context().state();
        let value = match evaluate(&state, time).await {
            Err(_) if !lean.is_complete() => {
                lean.complete();
                evaluate(&lean.context().state(), time).await
            }
            value => value,
        };
        let value = value.map_err(|error| {
            diagnose::explain(error, &lean.context().state())
                .context(format!("{time} is no constant time"))
                .with_hint("a text like '2026-01-31T12:00:00Z', or now() - INTERVAL '1 hour'")
        })?;
        past::micros(&value).ok_or_else(|| {
            Error::invalid(format!("{time} is no time"))
                .with_hint("a text like '2026-01-31T12:00:00Z', or now() - INTERVAL '1 hour'")
        })
    }
}

async fn evaluate(state: &SessionState, expr: &SqlExpr) -> EngineResult<ScalarValue> {
    let expr = ExprWithAlias { expr: expr.clone(), alias: None };
    let expr = state.create_logical_expr_from_sql_expr(expr, &DFSchema::empty())?;
    let plan = LogicalPlanBuilder::empty(true).project([expr])?.build()?;
    let batches = collect(state.create_physical_plan(&plan).await?, state.task_ctx()).await?;
    match batches.first() {
        Some(batch) if batch.num_rows() == 1 => ScalarValue::try_from_array(batch.column(0), 0),
        _ => Err(Error::invalid("it has no value").into()),
    }
}
