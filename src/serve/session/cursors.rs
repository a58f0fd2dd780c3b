//! Cursors of SQL: DECLARE, FETCH, MOVE, CLOSE.
//!
//! A cursor is a portal whose query began when it was declared, and whose rows are taken by FETCH. It
//! sees the snapshot of its beginning, holds one batch at most, and lives as long as its transaction,
//! or, if it was declared after a savepoint, until the way back to that. What a FETCH was to return is
//! taken as its client reads.
//!
//! Cursors go forward only: what they passed is not kept. For the same reason none outlives its
//! transaction (`WITH HOLD`).

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;

use super::{Portal, Prepared, Result, Route, Running, Session, State, parsed};
use crate::error::Error;
use crate::serve::connection::{Input, Output, Watch};
use crate::serve::errors::PgError;
use crate::serve::values::{Formats, Rows};
use crate::serve::wire::{Block, Column};
use crate::sql::cut;

/// How many cursors a client may have: each holds what makes its rows.
const CURSORS_MAX: usize = 100;

/// The rows that are still to come.
pub(super) struct Cursor {
    schema: SchemaRef,
    is_binary: bool,
    /// Held while some are taken.
    held: Mutex<Held>,
}

struct Held {
    /// None if it failed.
    rows: Option<SendableRecordBatchStream>,
    /// What is left of the last batch.
    rest: Option<RecordBatch>,
}

impl Cursor {
    fn new(rows: SendableRecordBatchStream, is_binary: bool) -> Self {
        let schema = rows.schema();
        Self { schema, is_binary, held: Mutex::new(Held { rows: Some(rows), rest: None }) }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the columns, as they are told to a client.
    pub(super) fn columns(&self) -> Vec<Column> {
        Rows::new(&self.schema, &self.formats(&Formats::default())).columns().to_vec()
    }

    /// Returns the formats that rows have for who asks for `formats`.
    fn formats(&self, formats: &Formats) -> Formats {
        match self.is_binary && formats.is_default() {
            true => Formats::binary(),
            false => formats.clone(),
        }
    }

    /// Takes the next rows, at most `rows_max` of them; `None` at the end.
    async fn take(&self, rows_max: u64) -> EngineResult<Option<RecordBatch>> {
        let mut held = self.held.lock().await;
        let batch = loop {
            if let Some(batch) = held.rest.take() {
                break batch;
            }
            let Some(rows) = &mut held.rows else {
                return Err(Error::invalid("the cursor has failed before").into());
            };
            match rows.next().await {
                None => return Ok(None),
                Some(Ok(batch)) => held.rest = (batch.num_rows() > 0).then_some(batch),
                Some(Err(error)) => {
                    held.rows = None;
                    return Err(error);
                }
            }
        };
        let count = usize::try_from(rows_max).unwrap_or(usize::MAX).min(batch.num_rows());
        if count < batch.num_rows() {
            held.rest = Some(batch.slice(count, batch.num_rows() - count));
        }
        Ok(Some(batch.slice(0, count)))
    }

    /// Returns the next rows, at most `count` of them, which are taken as they are read.
    fn next(self: Arc<Self>, count: u64) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let rows = stream::try_unfold((self, count), |(cursor, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let batch = cursor.take(left).await?;
            Ok(batch.map(|batch| {
                let left = left - batch.num_rows() as u64;
                (batch, (cursor, left))
            }))
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }
}

impl Session {
    /// Begins the query of a cursor.
    ///
    /// # Errors
    /// `25P01` outside of a transaction, `42P03` if there is one of this name.
    pub(super) async fn declare<S: AsyncRead + AsyncWrite>(
        &mut self,
        name: &str,
        is_binary: bool,
        query: &str,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        if self.block == Block::None {
            let message = format!("cursor '{name}' needs a transaction: none is open");
            return Err(PgError::new("25P01", message).with_hint("BEGIN opens one").into());
        }
        if self.portals.contains_key(name) {
            return Err(PgError::new("42P03", format!("cursor '{name}' is there already")).into());
        }
        if self.cursors().count() >= CURSORS_MAX {
            let message = format!("there are {CURSORS_MAX} cursors already");
            return Err(PgError::new("53200", message).with_hint("CLOSE ends one").into());
        }
        let prepared = of_query(query)?;
        let formats = Formats::default();
        let began = self.start(&prepared, query, &formats, None, watch, input, output);
        let State::Running(Running { stream, .. }) = began.await? else {
            return Err(no_query().into());
        };
        self.keep(query.len(), self.portals.len())?;
        let portal = Portal {
            prepared: Arc::new(prepared),
            text: query.to_owned(),
            formats,
            state: State::Cursor(Arc::new(Cursor::new(stream, is_binary))),
            depth: self.savepoints.len(),
        };
        self.portals.insert(name.to_owned(), portal);
        Ok(())
    }

    /// Returns the next rows of a cursor.
    pub(super) fn fetch(&self, name: &str, count: u64, formats: &Formats) -> Result<State> {
        let cursor = self.cursor(name)?;
        let formats = cursor.formats(formats);
        Ok(State::Running(Running::new(cursor.next(count), &formats, None, "FETCH")?))
    }

    /// Passes over the next rows of a cursor; returns how many there were.
    pub(super) async fn pass<S: AsyncRead>(
        &mut self,
        name: &str,
        count: u64,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<u64> {
        let mut rows = self.cursor(name)?.next(count);
        let pass = async {
            let mut passed = 0;
            while let Some(batch) = rows.next().await {
                passed += batch.map_err(Error::from)?.num_rows() as u64;
            }
            Ok(passed)
        };
        watch.guard(input, pass).await
    }

    /// Ends a cursor.
    pub(super) fn close(&mut self, name: &str) -> Result<()> {
        self.cursor(name)?;
        self.forget_portal(name);
        Ok(())
    }

    pub(super) fn cursor(&self, name: &str) -> std::result::Result<Arc<Cursor>, PgError> {
        match self.portals.get(name).map(|portal| &portal.state) {
            Some(State::Cursor(cursor)) => Ok(cursor.clone()),
            _ => Err(PgError::new("34000", format!("there is no cursor '{name}'"))),
        }
    }

    /// Returns the cursors: their names, queries, and whether they are binary.
    pub(super) fn cursors(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.portals.iter().filter_map(|(name, portal)| match &portal.state {
            State::Cursor(cursor) => Some((name.as_str(), portal.text.as_str(), cursor.is_binary)),
            _ => None,
        })
    }
}

/// Prepares a query that is a part of a statement.
///
/// # Errors
/// `42601` for what is no query.
pub(super) fn of_query(text: &str) -> std::result::Result<Prepared, PgError> {
    let cuts = cut(text);
    let [query] = cuts.as_slice() else { return Err(no_query()) };
    let prepared = Prepared::new(query, Vec::new())?;
    let asks = match &prepared.route {
        Route::Catalog => true,
        Route::Pond => parsed(text)?.is_question(),
        Route::Empty | Route::Command(_) => false,
    };
    match asks {
        true => Ok(prepared),
        false => Err(no_query()),
    }
}

fn no_query() -> PgError {
    PgError::new("42601", "a cursor is for a query").with_hint("DECLARE name CURSOR FOR SELECT …")
}
