//! Copying between a client and the pond.
//!
//! What a client sends becomes batches, which are the rows of an `INSERT INTO … SELECT`: written on the
//! path of any other, as they come, in one transaction. The client is asked for rows when they are
//! wanted for the first time, so what cannot be written is refused before. Only the client's word that
//! this was all ends the rows well: whatever else ends them leaves the pond as it was.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::SessionContext;
use futures::{FutureExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::cursors::of_query;
use super::{Prepared, Result, Session, State, parsed, send_rows, unplaced};
use crate::error::Error;
use crate::serve::connection::{Input, Output, Stop, Watch};
use crate::serve::copy::{Decoder, Form};
use crate::serve::errors::PgError;
use crate::serve::values::Formats;
use crate::serve::wire::{Answers, Block, FRAME_BYTES_MAX};

/// What the rows of a client are called in the statement that inserts them.
const SOURCE: &str = "__stdin";

impl Session {
    /// Sends the rows of a query as lines; returns what is said at the end.
    pub(super) async fn copy_out<S: AsyncRead + AsyncWrite>(
        &mut self,
        query: &str,
        form: &Form,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<String> {
        let prepared = query_of(query)?;
        let formats = Formats::default();
        let began = self.start(&prepared, query, &formats, None, watch, input, output);
        let State::Running(mut running) = began.await.map_err(unplaced)? else {
            return Err(no_query().into());
        };
        let columns = running.rows.columns();
        output.out.copies(b'H', columns.len());
        if form.has_header() {
            output.out.message(b'd', |out| {
                form.put_line(columns.iter().map(|column| Some(column.name.as_bytes())), out);
            });
        }
        running.form = Some(form.clone());
        send_rows(&mut running, 0, watch, input, output).await?;
        output.out.empty(b'c');
        Ok(format!("COPY {}", running.sent))
    }

    /// Writes lines of the client into a table; returns what is said at the end.
    pub(super) async fn copy_in<S: AsyncRead + AsyncWrite>(
        &mut self,
        table: &str,
        columns: &str,
        form: &Form,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<String> {
        let (selected, listed) = match columns.is_empty() {
            true => ("*", String::new()),
            false => (columns, format!("({columns}) ")),
        };
        let text = format!("INSERT INTO {table} {listed}SELECT * FROM {SOURCE}");
        let statement = parsed(&text).map_err(unplaced)?;
        self.context.tree().policy().check_write(table)?;
        self.check_changes(&statement)?;
        let select = format!("SELECT {selected} FROM {table}");
        let described = self.description(&query_of(&select)?, &select, watch, input).await;
        let schema = described.map_err(unplaced)?.schema.ok_or_else(no_query)?;
        if self.block == Block::Open && !self.context.in_transaction() {
            self.begin_in_pond(watch, input).await?;
        }
        let idle = self.shared.options.idle_in_transaction_timeout;
        let context = self.context.clone();
        let copy = async {
            let (sender, rows) = mpsc::channel(1);
            let (begins, begun) = oneshot::channel();
            let rows = Arc::new(Incoming {
                schema: schema.clone(),
                once: Mutex::new(Some((rows, begins))),
            });
            let _named = Named::new(context.session(), rows)?;
            let mut write = context.execute(statement).boxed();
            tokio::select! {
                biased;
                done = &mut write => return Err(early(done)),
                // It fails together with the statement.
                _ = begun => {}
            }
            output.out.copies(b'G', schema.fields().len());
            output.send().await?;
            let feed = feed(Decoder::new(form.clone(), schema), sender, idle, input);
            let rows = tokio::select! {
                biased;
                done = &mut write => return Err(early(done)),
                fed = feed => fed?,
            };
            write.await.map_err(|error| Stop::from(PgError::from(error)))?;
            Ok(format!("COPY {rows}"))
        };
        watch.guard_alone(copy).await
    }
}

/// Returns why a statement ended before its rows.
fn early<T>(done: crate::error::Result<T>) -> Stop {
    let error = done.err().unwrap_or_else(|| Error::invalid("COPY ended before its rows"));
    PgError::from(error).into()
}

/// Prepares the query of a copy.
fn query_of(text: &str) -> std::result::Result<Prepared, PgError> {
    let prepared = of_query(text).map_err(|error| match error.code {
        "42601" if error.position.is_none() => no_query(),
        _ => PgError { position: None, ..error },
    })?;
    match prepared.places.first() {
        Some(place) => {
            let message = format!("COPY: there is no parameter ${}", place.number);
            Err(PgError::new("42P02", message))
        }
        None => Ok(prepared),
    }
}

fn no_query() -> PgError {
    PgError::new("42601", "COPY: what is copied is no query").with_hint("COPY (SELECT …) TO STDOUT")
}

/// Reads what a client copies, and passes it on. Returns how many rows there were.
async fn feed<S: AsyncRead>(
    mut decoder: Decoder,
    sender: mpsc::Sender<Option<RecordBatch>>,
    idle: Duration,
    input: &mut Input<S>,
) -> Result<u64> {
    loop {
        let frame = timeout(idle, input.frame(FRAME_BYTES_MAX))
            .await
            .map_err(|_| PgError::fatal("25P03", format!("COPY: nothing was sent for {idle:?}")))?;
        match frame? {
            (b'd', bytes) => {
                decoder.take(&bytes);
                while let Some(batch) = decoder.next()? {
                    pass(&sender, Some(batch)).await;
                }
            }
            (b'c', _) => break,
            (b'f', reason) => return Err(given_up(&reason).into()),
            // Some send these behind the statement.
            (b'H' | b'S', _) => {}
            (b'X', _) => return Err(Stop::Gone),
            (kind, _) => {
                let message = format!("a message of type {kind:#04x} within COPY");
                return Err(PgError::fatal("08P01", message).into());
            }
        }
    }
    let (last, rows) = decoder.finish()?;
    pass(&sender, Some(last)).await;
    pass(&sender, None).await;
    Ok(rows)
}

/// Passes rows on, or the end of them. Where nobody takes them any more, the statement has an error to
/// tell.
async fn pass(sender: &mpsc::Sender<Option<RecordBatch>>, batch: Option<RecordBatch>) {
    if sender.send(batch).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn given_up(reason: &Bytes) -> PgError {
    let reason = String::from_utf8_lossy(reason.strip_suffix(b"\0").unwrap_or(reason));
    let reason: String = reason.chars().take(1000).collect();
    PgError::new("57014", format!("COPY was given up by the client: {reason}"))
}

/// The rows of a client as a table that is read once.
struct Incoming {
    schema: SchemaRef,
    once: Mutex<Option<Once>>,
}

/// Rows, and who is told when they are wanted. The end of rows is a value of its own.
type Once = (mpsc::Receiver<Option<RecordBatch>>, oneshot::Sender<()>);

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

impl PartitionStream for Incoming {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let once = self.once.lock().expect("never poisoned").take();
        let rows = once.map(|(rows, begins)| {
            // Who asked for the statement may be gone.
            let _ = begins.send(());
            rows
        });
        let rows = stream::try_unfold(rows, |rows| async move {
            let ended = || Error::invalid("the rows of COPY ended without a word");
            let mut rows = rows.ok_or_else(ended)?;
            let batch = rows.recv().await.ok_or_else(ended)?;
            Ok(batch.map(|batch| (batch, Some(rows))))
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), rows))
    }
}

/// The rows of a client under their name, which is taken from them in the end.
struct Named<'a>(&'a SessionContext);

impl<'a> Named<'a> {
    fn new(session: &'a SessionContext, rows: Arc<Incoming>) -> crate::error::Result<Self> {
        let table = StreamingTable::try_new(rows.schema.clone(), vec![rows])?;
        session.register_table(SOURCE, Arc::new(table))?;
        Ok(Self(session))
    }
}

impl Drop for Named<'_> {
    fn drop(&mut self) {
        // It is there, and nothing else can be wrong.
        let _ = self.0.deregister_table(SOURCE);
    }
}
