//! The times that statements name: from expressions to points of the pond's history.

use datafusion::sql::parser::Statement as EngineStatement;

use super::PondContext;
use crate::catalog::moment;
use crate::error::Result;
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
    pub(super) async fn at(&self, time: &Moment) -> Result<At> {
        let lean = self.lean();
        let at = match moment(&lean.context().state(), time).await {
            Err(_) if !lean.is_complete() => {
                lean.complete();
                moment(&lean.context().state(), time).await
            }
            at => at,
        };
        at.map_err(|error| {
            if diagnose::is_ours(&error) {
                return error.into();
            }
            let state = lean.context().state();
            let error = diagnose::explain(error, &state).context(match time {
                Moment::Version(txn) => format!("{txn} is no transaction"),
                Moment::Time(time) => format!("{time} is no constant time"),
            });
            error.with_hint("a text like '2026-01-31T12:00:00Z', or now() - INTERVAL '1 hour'")
        })
    }
}
