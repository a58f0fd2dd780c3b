//! Prepared statements of SQL: PREPARE, EXECUTE.
//!
//! They are those of the protocol, by the same names: what was prepared by the one is run by the other.
//! A statement is planned when it is executed, so it sees the pond as it is then. The values that are
//! given to EXECUTE are expressions, which are computed before.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::cursors::of_query;
use super::{Prepared, Result, Route, Session, State};
use crate::serve::commands::arguments;
use crate::serve::connection::{Input, Output, Watch};
use crate::serve::errors::PgError;
use crate::serve::values::Formats;
use crate::sql::cut;

impl Session {
    /// Prepares a statement under a name.
    ///
    /// # Errors
    /// `42P05` if there is one of this name; `42601` for what is no statement of the pond.
    pub(super) fn prepare(&mut self, name: &str, types: Vec<u32>, text: &str) -> Result<()> {
        let is_of_pond = match cut(text).as_slice() {
            [one] => matches!(Prepared::new(one, Vec::new())?.route, Route::Pond | Route::Catalog),
            _ => false,
        };
        if !is_of_pond {
            let message = "PREPARE is for a query, or a statement that changes rows";
            return Err(PgError::new("42601", message).into());
        }
        self.parse(name.to_owned(), text, types)
    }

    /// Returns a prepared statement that an EXECUTE may be of: none that executes others in turn.
    ///
    /// # Errors
    /// `26000` if there is none; `0A000`.
    pub(super) fn executable(&self, name: &str) -> Result<Arc<Prepared>> {
        let prepared = self.statement(name)?;
        match prepared.route {
            Route::Pond | Route::Catalog => Ok(prepared),
            Route::Empty | Route::Command(_) => {
                let message =
                    format!("'{name}' is neither a query nor a statement that changes rows");
                Err(PgError::new("0A000", message).with_hint("run it by itself").into())
            }
        }
    }

    /// Returns the statement that an EXECUTE is of, and its text with the values.
    ///
    /// # Errors
    /// `26000` if there is none; those of its values.
    pub(super) async fn executed<S: AsyncRead + AsyncWrite>(
        &mut self,
        name: &str,
        text: &str,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<(Arc<Prepared>, String)> {
        let prepared = self.executable(name)?;
        let given = arguments(text)?;
        let (count, wanted) = (given.len(), prepared.parameters());
        if count != wanted {
            let message = format!("'{name}': {count} values were given for {wanted} parameters");
            return Err(PgError::new("42601", message).into());
        }
        let values = match given.is_empty() {
            true => Vec::new(),
            false => self.computed(&given, watch, input, output).await?,
        };
        let text = self.bound(&prepared, values, &Formats::default(), watch, input).await?;
        Ok((prepared, text))
    }

    /// Computes expressions; returns their values as texts.
    async fn computed<S: AsyncRead + AsyncWrite>(
        &mut self,
        given: &[&str],
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<Vec<Option<Bytes>>> {
        let columns: Vec<String> =
            given.iter().enumerate().map(|(at, of)| format!("({of}) AS \"{at}\"")).collect();
        let select = format!("SELECT {}", columns.join(", "));
        let unplaced = |error: PgError| PgError { position: None, ..error };
        let query = of_query(&select).map_err(unplaced)?;
        let formats = Formats::default();
        let began = self.start(&query, &select, &formats, None, watch, input, output);
        let no_values = || PgError::new("42601", "EXECUTE takes one value for each parameter");
        let State::Running(mut running) = began.await.map_err(super::unplaced)? else {
            return Err(no_values().into());
        };
        match watch.guard(input, running.next()).await? {
            true => Ok(running.row()?),
            false => Err(no_values().into()),
        }
    }
}
