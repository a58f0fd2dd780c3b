//! The statements of one client: simple ones, prepared ones with their portals, transactions.
//!
//! A statement goes one of three ways (`Route`): to the connection itself ([`Command`]), to the pond
//! rewritten ([`PgCatalog`]), or to the pond as it is. Values of parameters are put in before.
//!
//! # Transactions
//! `BEGIN` opens a block for the client. The pond's own transaction begins with the first statement
//! of it that changes something, or at once for `REPEATABLE READ`: until then each statement reads
//! the newest snapshot, as Postgres does by default, and kept answers serve. A statement that fails in a
//! block leaves nothing but `ROLLBACK`, as clients of Postgres expect. Several statements in one text
//! are committed one by one. A statement outside of a block that meets another writer is run again, on
//! what that has left: it read what was committed, as clients expect, and promised nothing else.
//!
//! # Types
//! What a client was told of the columns of a prepared statement holds when it runs: values are cast
//! to it, and where that does not go, the statement fails.

mod copying;
mod cursors;
mod prepared;

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use datafusion::arrow::array::{AsArray, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::memory::MemoryStream;
use datafusion::sql::sqlparser::tokenizer::Token;
use futures::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;
use tokio::time::sleep;

use self::cursors::Cursor;
use super::commands::{Command, Modes, SERVER_VERSION, Settings};
use super::complexity;
use super::connection::{Input, Output, Stop, Watch};
use super::copy::{Copy, Form};
use super::errors::{PgError, position};
use super::parameters::{self, Place, literal, places};
use super::pg_catalog::{CursorRow, PgCatalog, is_asked};
use super::values::{Formats, PgType, Rows, SEND_BYTES, Scalar};
use super::wire::{Answers, Block, Named, Request};
use super::{Registered, Shared};
use crate::context::{Description, OutputKind, PondContext};
use crate::error::Error;
use crate::sql::{Cut, Script, Statement, cut};
use crate::tree::Savepoint;

type Result<T> = std::result::Result<T, Stop>;

/// How much text a client may keep in prepared statements and portals, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// How many prepared statements, and how many portals, a client may keep.
const KEPT_MAX: usize = 10_000;

/// How many savepoints a transaction may have.
const SAVEPOINTS_MAX: usize = 1_000;

/// How often a statement that stands alone is run again after another changed what it changes at the
/// same time, and after how long at first.
const AGAIN_MAX: u32 = 30;
const AGAIN_AFTER: Duration = Duration::from_millis(2);
const AGAIN_AFTER_MAX: Duration = Duration::from_millis(200);

/// Where a statement goes.
#[derive(Debug, Clone)]
enum Route {
    Empty,
    Command(Command),
    Catalog,
    Pond,
}

/// A statement as a client sent it.
#[derive(Debug)]
struct Prepared {
    text: String,
    route: Route,
    places: Vec<Place>,
    /// The types that the client declared; 0 leaves them open.
    declared: Vec<u32>,
    tag: String,
    /// Whether planning it may keep a thread busy.
    is_slow: bool,
    described: Mutex<Option<Arc<Described>>>,
}

/// What a client is told of a prepared statement.
#[derive(Debug)]
struct Described {
    types: Vec<u32>,
    /// None for a statement without rows.
    schema: Option<SchemaRef>,
    /// Whether the client was told.
    is_told: bool,
}

impl Prepared {
    fn new(cut: &Cut<'_>, declared: Vec<u32>) -> std::result::Result<Self, PgError> {
        let route = match Command::parse(cut)? {
            Some(command) => Route::Command(command),
            None if is_asked(cut) => Route::Catalog,
            None => Route::Pond,
        };
        let is_complex = complexity::check(cut)?;
        let is_slow = is_complex && matches!(route, Route::Catalog | Route::Pond);
        let places = match &route {
            // They are of the statement that it prepares.
            Route::Command(Command::Prepare { .. }) => Vec::new(),
            _ => places(cut)?,
        };
        Ok(Self {
            text: cut.text.to_owned(),
            route,
            places,
            declared,
            tag: tag_of(cut),
            is_slow,
            described: Mutex::default(),
        })
    }

    fn empty() -> Self {
        Self {
            text: String::new(),
            route: Route::Empty,
            places: Vec::new(),
            declared: Vec::new(),
            tag: String::new(),
            is_slow: false,
            described: Mutex::default(),
        }
    }

    /// Returns how many parameters it has.
    fn parameters(&self) -> usize {
        let used = self.places.iter().map(|place| place.number).max().unwrap_or(0);
        used.max(self.declared.len())
    }

    /// Returns the types of its parameters, as far as the client or the text says.
    fn known_types(&self) -> impl Iterator<Item = Option<u32>> {
        (0..self.parameters()).map(|at| {
            let mut places = self.places.iter().filter(move |place| place.number == at + 1);
            self.declared_type(at).or_else(|| places.find_map(|place| place.array))
        })
    }

    fn declared_type(&self, at: usize) -> Option<u32> {
        self.declared.get(at).copied().filter(|oid| !matches!(oid, 0 | 705))
    }

    /// Returns what stands for a parameter of which nothing else is known: a text, or texts.
    fn text_type(&self, at: usize) -> PgType {
        let is_array = |place: &Place| place.number == at + 1 && place.quantified.is_some();
        match self.places.iter().any(is_array) {
            true => PgType::Array(Scalar::Text),
            false => PgType::Scalar(Scalar::Text),
        }
    }

    /// Whether it is to be begun when its rows are described. Its text has its values.
    fn asks(&self, text: &str) -> std::result::Result<bool, PgError> {
        Ok(match &self.route {
            Route::Catalog => true,
            Route::Command(Command::Show(_) | Command::ShowAll) => true,
            Route::Command(Command::Fetch { passes, .. }) => !passes,
            // Whatever it selects; that is told without parsing it twice.
            Route::Pond if self.tag == "SELECT" => true,
            Route::Pond => parsed(text)?.is_question(),
            Route::Command(_) | Route::Empty => false,
        })
    }

    fn described(&self) -> Option<Arc<Described>> {
        self.described.lock().expect("never poisoned").clone()
    }
}

/// A statement with its values.
struct Portal {
    prepared: Arc<Prepared>,
    text: String,
    formats: Formats,
    state: State,
    /// How many savepoints there were when it began.
    depth: usize,
}

enum State {
    /// It has not begun.
    Bound,
    Running(Running),
    /// Its rows are taken by FETCH.
    Cursor(Arc<Cursor>),
    /// What it said at its end.
    Done(String),
}

/// A statement that has rows.
struct Running {
    stream: SendableRecordBatchStream,
    rows: Rows,
    /// How they are lines, if they are copied.
    form: Option<Form>,
    /// What the columns are to be, if they were told to be something else.
    cast_to: Option<SchemaRef>,
    batch: Option<RecordBatch>,
    /// The next row of the batch.
    at: usize,
    sent: u64,
    tag: String,
}

impl Running {
    /// Takes the rows of a statement.
    ///
    /// # Errors
    /// `0A000` if they do not go as what they were told to be.
    fn new(
        stream: SendableRecordBatchStream,
        formats: &Formats,
        told: Option<&SchemaRef>,
        tag: &str,
    ) -> std::result::Result<Self, PgError> {
        let schema = stream.schema();
        let types = |schema: &Schema| -> Vec<PgType> {
            schema.fields().iter().map(|field| PgType::of(field)).collect()
        };
        let cast_to = told.filter(|told| types(told) != types(&schema)).cloned();
        if cast_to.as_ref().is_some_and(|told| told.fields().len() != schema.fields().len()) {
            return Err(PgError::new("0A000", "the statement has other columns than it had")
                .with_hint("prepare it anew"));
        }
        let shown = cast_to.as_ref().unwrap_or(&schema);
        if !formats.fit(shown.fields().len()) {
            return Err(PgError::new("08P01", "there are not as many formats as columns"));
        }
        let rows = Rows::new(shown, formats);
        let tag = tag.to_owned();
        Ok(Self { rows, stream, form: None, cast_to, batch: None, at: 0, sent: 0, tag })
    }

    /// Puts rows, at most `rows_max` of them, until there are enough to send. Returns how many, and
    /// whether the batch is at its end.
    fn put(&mut self, rows_max: usize, out: &mut BytesMut) -> std::result::Result<usize, PgError> {
        let Some(batch) = &self.batch else { return Ok(0) };
        let next = match &self.form {
            None => self.rows.put(batch, self.at, rows_max, out)?,
            Some(form) => self.rows.put_lines(batch, self.at, form, out)?,
        };
        let count = next - self.at;
        self.at = next;
        self.sent += count as u64;
        if self.at == batch.num_rows() {
            self.batch = None;
        }
        Ok(count)
    }

    /// Returns the values of the next row, as texts.
    fn row(&self) -> std::result::Result<Vec<Option<Bytes>>, PgError> {
        let Some(batch) = &self.batch else { return Ok(Vec::new()) };
        Ok(self.rows.texts(batch, self.at)?)
    }

    /// Takes the next rows; returns whether there are any.
    async fn next(&mut self) -> Result<bool> {
        while self.batch.is_none() {
            let Some(batch) = self.stream.next().await else { return Ok(false) };
            let batch = batch.map_err(Error::from)?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.at = 0;
            self.batch = Some(match &self.cast_to {
                None => batch,
                Some(schema) => as_told(&batch, schema)?,
            });
        }
        Ok(true)
    }
}

/// Casts rows to what a client was told of them.
fn as_told(batch: &RecordBatch, told: &SchemaRef) -> std::result::Result<RecordBatch, PgError> {
    let columns = batch
        .columns()
        .iter()
        .zip(told.fields())
        .map(|(column, field)| match field.data_type() {
            // What nothing was known of was told to be a text.
            DataType::Null => cast(column, &DataType::Utf8),
            other => cast(column, other),
        })
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(Error::from)?;
    let fields: Vec<Field> = told
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true))
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::from)?)
}

/// What a statement of the pond came to.
enum Outcome {
    Rows(SendableRecordBatchStream),
    /// How many rows it changed, as far as that is known.
    Changed(Option<u64>),
}

/// The statements of one client.
pub(super) struct Session {
    shared: Arc<Shared>,
    registered: Registered,
    context: PondContext,
    settings: Arc<Mutex<Settings>>,
    /// The settings to go back to when the transaction ends: if it is rolled back, and in any case.
    before: Option<(Settings, Vec<(String, String)>)>,
    catalog: Option<PgCatalog>,
    statements: HashMap<String, Arc<Prepared>>,
    portals: HashMap<String, Portal>,
    kept_bytes: usize,
    block: Block,
    /// The savepoints of the transaction, and where the pond's was; `None` is before its beginning.
    savepoints: Vec<(String, Option<Savepoint>)>,
    /// Whether all is passed over until the client says Sync.
    skips: bool,
}

impl Session {
    pub(super) fn begin(
        shared: Arc<Shared>,
        registered: Registered,
        user: String,
        parameters: &[(String, String)],
    ) -> Self {
        let context = (shared.make_context)();
        let reads_only = context.tree().policy().read_only;
        let mut settings = Settings::new(reads_only, &user);
        for (name, value) in parameters {
            match name.as_str() {
                "user" | "database" | "replication" => {}
                "options" => {
                    for (name, value) in options(value) {
                        // What is not known is no reason to refuse a client.
                        let _ = settings.set(&name, Some(&value));
                    }
                }
                name => {
                    let _ = settings.set(name, Some(value));
                }
            }
        }
        Self {
            shared,
            registered,
            context,
            settings: Arc::new(Mutex::new(settings)),
            before: None,
            catalog: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            kept_bytes: 0,
            block: Block::None,
            savepoints: Vec::new(),
            skips: false,
        }
    }

    /// Tells a client that it is let in.
    pub(super) fn greet(&self, out: &mut BytesMut) {
        for (name, value) in self.settings.lock().expect("never poisoned").told() {
            match name {
                "server_version" => {
                    let pond = env!("CARGO_PKG_VERSION");
                    out.parameter(name, &format!("{SERVER_VERSION} (pond {pond})"));
                }
                _ => out.parameter(name, value),
            }
        }
        out.key(self.registered.process, self.registered.cancelling.secret);
        out.ready(self.block);
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.block != Block::None
    }

    /// Does what a message asks for; returns whether the client stays.
    ///
    /// # Errors
    /// What ends the connection.
    pub(super) async fn handle<S: AsyncRead + AsyncWrite>(
        &mut self,
        kind: u8,
        body: Bytes,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<bool> {
        if self.skips && !matches!(kind, b'S' | b'X') {
            return Ok(true);
        }
        let is_extended = matches!(kind, b'P' | b'B' | b'D' | b'E' | b'C');
        let mut watch = self.watch();
        let done = match Request::parse(kind, body) {
            Err(violation) => Err(PgError::from(violation).into()),
            Ok(Request::Terminate) => return Ok(false),
            Ok(Request::Flush) => output.send().await,
            Ok(Request::Sync) => {
                self.skips = false;
                if self.block == Block::None {
                    self.close_portals();
                }
                output.out.ready(self.block);
                output.send().await
            }
            Ok(Request::Copied) => Ok(()),
            Ok(Request::Query(text)) => self.query(&text, &mut watch, input, output).await,
            Ok(Request::Parse { name, text, types }) => {
                self.parse(name, &text, types).map(|()| output.out.empty(b'1'))
            }
            Ok(Request::Bind { portal, statement, formats, values, results }) => self
                .bind(portal, &statement, formats, values, results, &mut watch, input)
                .await
                .map(|()| output.out.empty(b'2')),
            Ok(Request::Describe { what: Named::Statement, name }) => {
                self.describe_statement(&name, &mut watch, input, output).await
            }
            Ok(Request::Describe { what: Named::Portal, name }) => {
                self.describe_portal(&name, &mut watch, input, output).await
            }
            Ok(Request::Execute { portal, rows_max }) => {
                self.execute(&portal, rows_max, &mut watch, input, output).await
            }
            Ok(Request::Close { what, name }) => {
                match what {
                    Named::Statement => self.forget_statement(&name),
                    Named::Portal => self.forget_portal(&name),
                }
                output.out.empty(b'3');
                Ok(())
            }
        };
        self.registered.cancelling.end();
        match done {
            Ok(()) => {}
            Err(Stop::Failed(error)) if !error.is_fatal => {
                self.note_failure();
                error.put(&mut output.out);
                match is_extended {
                    true => self.skips = true,
                    false if kind != b'S' => output.out.ready(self.block),
                    false => {}
                }
                output.send().await?;
            }
            Err(stop) => return Err(stop),
        }
        if output.out.len() > SEND_BYTES {
            output.send().await?;
        }
        Ok(true)
    }

    fn watch(&self) -> Watch {
        let policy = self.context.tree().policy().timeout;
        let own = self.settings.lock().expect("never poisoned").statement_timeout();
        let timeout: Option<Duration> = policy.into_iter().chain(own).min();
        Watch::new(self.registered.cancelling.begin(), timeout, self.shared.ends.clone())
    }

    fn note_failure(&mut self) {
        if self.block == Block::Open {
            self.block = Block::Failed;
        }
    }

    // -----------------------------------------------------------------------------------------
    // Simple statements

    async fn query<S: AsyncRead + AsyncWrite>(
        &mut self,
        text: &str,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        // The unnamed ones do not outlive it.
        self.forget_statement("");
        self.forget_portal("");
        let cuts = cut(text);
        if cuts.is_empty() {
            output.out.empty(b'I');
        }
        for cut in &cuts {
            let done = self.simple(cut, watch, input, output).await;
            if let Err(Stop::Failed(error)) = done {
                return Err(error.placed(text, cut.begin).into());
            }
            done?;
        }
        output.out.ready(self.block);
        output.send().await
    }

    async fn simple<S: AsyncRead + AsyncWrite>(
        &mut self,
        cut: &Cut<'_>,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        let prepared = Prepared::new(cut, Vec::new())?;
        if let Some(Place { number, .. }) = prepared.places.first() {
            return Err(PgError::new("42P02", format!("there is no parameter ${number}")).into());
        }
        let formats = Formats::default();
        let began = self.start(&prepared, cut.text, &formats, None, watch, input, output).await?;
        match began {
            State::Running(mut running) => {
                output.out.columns(running.rows.columns());
                send_rows(&mut running, 0, watch, input, output).await?;
                output.out.complete(&complete_tag(&running));
            }
            State::Done(tag) => output.out.complete(&tag),
            State::Bound | State::Cursor(_) => {}
        }
        Ok(())
    }

    /// Begins a statement: what has rows runs, all else is done. `text` is the statement's with its
    /// values.
    #[expect(clippy::too_many_arguments, reason = "a statement, its form, and its connection")]
    async fn start<S: AsyncRead + AsyncWrite>(
        &mut self,
        prepared: &Prepared,
        text: &str,
        formats: &Formats,
        told: Option<&SchemaRef>,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<State> {
        let mends =
            matches!(&prepared.route, Route::Command(command) if command.mends_transaction());
        if self.block == Block::Failed && !mends {
            return Err(PgError::new(
                "25P02",
                "the transaction has failed: nothing runs until its end",
            )
            .with_hint("ROLLBACK ends it")
            .into());
        }
        let outcome = match &prepared.route {
            Route::Empty => return Ok(State::Done(String::new())),
            Route::Command(command) => {
                // Of a cursor, a copy or EXECUTE it begins another statement.
                let command = self.command(command, text, formats, watch, input, output);
                return Box::pin(command).await;
            }
            Route::Catalog => self.run_query(text, prepared.is_slow, watch, input).await?,
            Route::Pond => self.run(text, prepared.is_slow, watch, input).await?,
        };
        Ok(match outcome {
            Outcome::Rows(stream) => {
                State::Running(Running::new(stream, formats, told, &prepared.tag)?)
            }
            Outcome::Changed(rows) => State::Done(match (prepared.tag.as_str(), rows) {
                ("INSERT", Some(rows)) => format!("INSERT 0 {rows}"),
                (tag @ ("UPDATE" | "DELETE" | "COPY"), Some(rows)) => format!("{tag} {rows}"),
                (tag, _) => tag.to_owned(),
            }),
        })
    }

    /// Runs a statement of the pond.
    async fn run<S: AsyncRead>(
        &mut self,
        text: &str,
        is_slow: bool,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<Outcome> {
        let context = self.context.clone();
        let again = watch.guard(input, async { Ok(context.repeat(text).boxed().await?) }).await?;
        if let Some(output) = again {
            return Ok(Outcome::Rows(output.stream));
        }
        let statement = aside(is_slow, || parsed(text))?;
        let asks = statement.is_question();
        if !asks {
            self.check_changes(&statement)?;
            if self.block == Block::Open && !self.context.in_transaction() {
                self.begin_in_pond(watch, input).await?;
            }
        }
        // One that stands alone may go first or last, as it comes.
        let stands_alone = self.block == Block::None && !asks;
        let mut again = (0..if stands_alone { AGAIN_MAX } else { 0 }).map(|turn| {
            // A random share, so that those who met do not meet again.
            let share = RandomState::new().hash_one(turn) as f64 / u64::MAX as f64;
            (AGAIN_AFTER * (1 << turn.min(10))).min(AGAIN_AFTER_MAX).mul_f64(share)
        });
        let output = loop {
            let execute = async {
                let origin = statement.origin().clone();
                // In boxes, or the types of all that waits for it are too deep for the compiler.
                let done = context.execute(statement.clone()).boxed().await;
                done.map_err(|error| Stop::from(located(origin.locate(error), text)))
            };
            match (watch.guard(input, polled_aside(is_slow, execute)).await, again.next()) {
                (Err(Stop::Failed(error)), Some(wait)) if error.code == "40001" => {
                    let waits = async {
                        sleep(wait).await;
                        Ok(())
                    };
                    watch.guard(input, waits).await?;
                }
                (done, _) => break done?,
            }
        };
        if output.kind != OutputKind::Rows {
            return Ok(Outcome::Changed(output.rows_written));
        }
        match !asks && is_count(&output.schema()) {
            false => Ok(Outcome::Rows(output.stream)),
            true => watch.guard(input, count(output.stream)).await.map(Outcome::Changed),
        }
    }

    /// Runs a query about what only Postgres has.
    async fn run_query<S: AsyncRead>(
        &mut self,
        text: &str,
        is_slow: bool,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<Outcome> {
        let context = self.context.clone();
        let cursors = self.cursor_rows();
        let catalog = self.catalog()?;
        let run = async {
            let query = catalog.prepare(&context, text, cursors).await?;
            Ok(context.run_query(query, text).boxed().await?)
        };
        let output = watch.guard(input, polled_aside(is_slow, run)).await?;
        Ok(Outcome::Rows(output.stream))
    }

    /// Returns the cursors for `pg_cursors`.
    fn cursor_rows(&self) -> Vec<CursorRow> {
        let row = |(name, query, is_binary): (&str, &str, bool)| CursorRow {
            name: name.to_owned(),
            query: query.to_owned(),
            is_binary,
        };
        self.cursors().map(row).collect()
    }

    fn catalog(&mut self) -> Result<&PgCatalog> {
        if self.catalog.is_none() {
            let shared = self.shared.catalog()?;
            let process = self.registered.process;
            self.catalog =
                Some(PgCatalog::install(&self.context, shared, &self.settings, process)?);
        }
        Ok(self.catalog.as_ref().expect("it was just made"))
    }

    /// Refuses to change anything where the client itself said that it only reads.
    fn check_changes(&self, statement: &Statement) -> std::result::Result<(), PgError> {
        let settings = self.settings.lock().expect("never poisoned");
        let is_of_pond = !matches!(
            statement.text().split_whitespace().next().map(str::to_uppercase).as_deref(),
            Some(
                "SET" | "RESET" | "USE" | "SHOW" | "PREPARE" | "EXECUTE" | "DEALLOCATE" | "EXPLAIN"
            )
        );
        if is_of_pond && settings.reads_only() && !self.context.tree().policy().read_only {
            return Err(PgError::new("25006", "the transaction only reads"));
        }
        Ok(())
    }

    async fn begin_in_pond<S: AsyncRead>(
        &mut self,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<()> {
        let context = self.context.clone();
        watch.guard(input, async { Ok(context.sql("BEGIN").boxed().await.map(drop)?) }).await
    }

    // -----------------------------------------------------------------------------------------
    // Statements about the connection

    async fn command<S: AsyncRead + AsyncWrite>(
        &mut self,
        command: &Command,
        text: &str,
        formats: &Formats,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<State> {
        let tag = match command {
            Command::Set { name, value, is_local } => {
                self.set(name, value.as_deref(), *is_local, &mut output.out)?;
                if value.is_none() { "RESET" } else { "SET" }
            }
            Command::ResetAll => {
                self.reset_all(&mut output.out);
                "RESET"
            }
            Command::Show(name) => {
                let settings = self.settings.lock().expect("never poisoned");
                let value = settings.get(name).unwrap_or_default().to_owned();
                return shown(&[(name.as_str(), vec![value])], formats).map(State::Running);
            }
            Command::ShowAll => {
                let settings = self.settings.lock().expect("never poisoned");
                let (names, values) =
                    settings.all().map(|(name, value)| (name.to_owned(), value.to_owned())).unzip();
                return shown(&[("name", names), ("setting", values)], formats).map(State::Running);
            }
            Command::Begin(modes) => {
                if self.block == Block::Open {
                    PgError::new("25001", "a transaction is open already")
                        .put_notice(&mut output.out);
                } else {
                    self.begin_block(*modes, watch, input).await?;
                }
                "BEGIN"
            }
            Command::SetTransaction(modes) => {
                match self.block {
                    Block::None => {
                        PgError::new("25P01", "no transaction is open").put_notice(&mut output.out)
                    }
                    _ => self.set_modes(*modes, watch, input).await?,
                }
                "SET"
            }
            Command::Commit => match self.block {
                Block::Open => {
                    self.end_block(true, watch, input, &mut output.out).await?;
                    "COMMIT"
                }
                Block::Failed => {
                    self.end_block(false, watch, input, &mut output.out).await?;
                    "ROLLBACK"
                }
                Block::None => {
                    PgError::new("25P01", "no transaction is open").put_notice(&mut output.out);
                    "COMMIT"
                }
            },
            Command::RollBack => {
                if self.block == Block::None {
                    PgError::new("25P01", "no transaction is open").put_notice(&mut output.out);
                } else {
                    self.end_block(false, watch, input, &mut output.out).await?;
                }
                "ROLLBACK"
            }
            Command::Savepoint(name) => {
                self.require_block("SAVEPOINT")?;
                if self.savepoints.len() >= SAVEPOINTS_MAX {
                    return Err(PgError::new("53200", "there are too many savepoints").into());
                }
                self.savepoints.push((name.clone(), self.context.savepoint().await));
                "SAVEPOINT"
            }
            Command::Release(name) => {
                self.require_block("RELEASE SAVEPOINT")?;
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at);
                self.portals.values_mut().for_each(|portal| portal.depth = portal.depth.min(at));
                "RELEASE"
            }
            Command::RollBackTo(name) => {
                self.require_block("ROLLBACK TO SAVEPOINT")?;
                let at = self.savepoint(name)?;
                self.savepoints.truncate(at + 1);
                self.close_portals_below(at);
                self.context.roll_back_to(self.savepoints[at].1.clone()).await;
                self.block = Block::Open;
                "ROLLBACK"
            }
            Command::Deallocate(Some(name)) => {
                self.statement(name)?;
                self.forget_statement(name);
                "DEALLOCATE"
            }
            Command::Deallocate(None) => {
                self.forget_statements();
                "DEALLOCATE ALL"
            }
            Command::DiscardAll => {
                if self.block != Block::None {
                    let message = "DISCARD ALL cannot run within a transaction";
                    return Err(PgError::new("25001", message).into());
                }
                self.forget_statements();
                self.close_portals();
                self.reset_all(&mut output.out);
                "DISCARD ALL"
            }
            Command::Declare { cursor, is_binary, query } => {
                let of = &text[*query..];
                let declared = self.declare(cursor, *is_binary, of, watch, input, output).await;
                declared.map_err(|stop| placed(stop, text, *query))?;
                "DECLARE CURSOR"
            }
            Command::Fetch { cursor, count, passes: false } => {
                return self.fetch(cursor, *count, formats);
            }
            Command::Fetch { cursor, count, passes: true } => {
                let passed = self.pass(cursor, *count, watch, input).await?;
                return Ok(State::Done(format!("MOVE {passed}")));
            }
            Command::Close(Some(cursor)) => {
                self.close(cursor)?;
                "CLOSE CURSOR"
            }
            Command::Prepare { name, types, statement } => {
                let prepared = self.prepare(name, types.clone(), &text[*statement..]);
                prepared.map_err(|stop| placed(stop, text, *statement))?;
                "PREPARE"
            }
            Command::Execute(name) => {
                let (prepared, text) = self.executed(name, text, watch, input, output).await?;
                let began = self.start(&prepared, &text, formats, None, watch, input, output);
                return began.await.map_err(unplaced);
            }
            Command::Close(None) => {
                self.close_portals();
                "CLOSE CURSOR ALL"
            }
            Command::Copy(Copy::Out { query, form }) => {
                let copied = self.copy_out(query, form, watch, input, output).await?;
                return Ok(State::Done(copied));
            }
            Command::Copy(Copy::In { table, columns, form }) => {
                let copied = self.copy_in(table, columns, form, watch, input, output).await?;
                return Ok(State::Done(copied));
            }
            Command::Nothing(tag) => tag,
        };
        Ok(State::Done(tag.to_owned()))
    }

    fn require_block(&self, statement: &str) -> std::result::Result<(), PgError> {
        match self.block {
            Block::None => {
                Err(PgError::new("25P01", format!("{statement}: no transaction is open")))
            }
            Block::Open | Block::Failed => Ok(()),
        }
    }

    /// Returns which savepoint is called so: the latest.
    fn savepoint(&self, name: &str) -> std::result::Result<usize, PgError> {
        let found = self.savepoints.iter().rposition(|(known, _)| known == name);
        found.ok_or_else(|| PgError::new("3B001", format!("there is no savepoint '{name}'")))
    }

    fn set(
        &mut self,
        name: &str,
        value: Option<&str>,
        is_local: bool,
        out: &mut BytesMut,
    ) -> std::result::Result<(), PgError> {
        let mut settings = self.settings.lock().expect("never poisoned");
        let old = settings.get(name).map(str::to_owned);
        let told = settings.set(name, value)?;
        if let (true, Some(old), Some((_, locals))) = (is_local, old, &mut self.before) {
            locals.push((name.to_owned(), old));
        }
        if let Some((name, value)) = told {
            out.parameter(name, &value);
        }
        Ok(())
    }

    fn reset_all(&mut self, out: &mut BytesMut) {
        let mut settings = self.settings.lock().expect("never poisoned");
        let names: Vec<&'static str> = settings.all().map(|(name, _)| name).collect();
        for name in names {
            // Those that cannot be set are what they were.
            if let Ok(Some((name, value))) = settings.set(name, None) {
                out.parameter(name, &value);
            }
        }
    }

    async fn begin_block<S: AsyncRead>(
        &mut self,
        modes: Modes,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<()> {
        let settings = self.settings.lock().expect("never poisoned").clone();
        let is_repeatable =
            settings.get("default_transaction_isolation") == Some("repeatable read");
        self.before = Some((settings, Vec::new()));
        self.block = Block::Open;
        let modes = Modes { is_repeatable: modes.is_repeatable || is_repeatable, ..modes };
        let set = self.set_modes(modes, watch, input).await;
        if set.is_err() {
            self.block = Block::None;
            self.before = None;
        }
        set
    }

    async fn set_modes<S: AsyncRead>(
        &mut self,
        modes: Modes,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<()> {
        let mut nobody = BytesMut::new();
        if let Some(only) = modes.reads_only {
            let value = if only { "on" } else { "off" };
            self.set("transaction_read_only", Some(value), true, &mut nobody)?;
        }
        if modes.is_repeatable {
            self.set("transaction_isolation", Some("repeatable read"), true, &mut nobody)?;
            if !self.context.in_transaction() {
                self.begin_in_pond(watch, input).await?;
            }
        }
        Ok(())
    }

    /// Ends the transaction, whether or not that goes well.
    async fn end_block<S: AsyncRead>(
        &mut self,
        commits: bool,
        watch: &mut Watch,
        input: &mut Input<S>,
        out: &mut BytesMut,
    ) -> Result<()> {
        self.close_portals();
        self.savepoints.clear();
        self.block = Block::None;
        let ended = match (commits, self.context.in_transaction()) {
            (_, false) => Ok(()),
            (true, true) => {
                let context = self.context.clone();
                let commit = async { Ok(context.sql("COMMIT").boxed().await.map(drop)?) };
                watch.guard(input, commit).await
            }
            (false, true) => {
                self.context.roll_back().await;
                Ok(())
            }
        };
        if let Some((before, locals)) = self.before.take() {
            let mut settings = self.settings.lock().expect("never poisoned");
            let restored: Vec<(String, String)> = match commits && ended.is_ok() {
                true => locals,
                false => {
                    before.all().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
                }
            };
            for (name, value) in restored.into_iter().rev() {
                if let Ok(Some((name, value))) = settings.set(&name, Some(&value)) {
                    out.parameter(name, &value);
                }
            }
        }
        ended
    }

    // -----------------------------------------------------------------------------------------
    // Prepared statements and portals

    fn parse(&mut self, name: String, text: &str, declared: Vec<u32>) -> Result<()> {
        if name.is_empty() {
            self.forget_statement("");
        } else if self.statements.contains_key(&name) {
            let message = format!("prepared statement '{name}' is there already");
            return Err(PgError::new("42P05", message).into());
        }
        let cuts = cut(text);
        let prepared = match cuts.as_slice() {
            [] => Prepared::empty(),
            [one] => {
                let prepared =
                    Prepared::new(one, declared).map_err(|error| error.placed(text, one.begin))?;
                // With parameters it may not be one before they have their values.
                if prepared.places.is_empty() && matches!(prepared.route, Route::Pond) {
                    aside(prepared.is_slow, || parsed(one.text))
                        .map_err(|error| error.placed(text, one.begin))?;
                }
                prepared
            }
            _ => {
                let message = "there is more than one statement to prepare";
                return Err(PgError::new("42601", message).into());
            }
        };
        self.keep(prepared.text.len(), self.statements.len())?;
        self.statements.insert(name, Arc::new(prepared));
        Ok(())
    }

    /// Counts what is kept.
    fn keep(&mut self, bytes: usize, count: usize) -> std::result::Result<(), PgError> {
        if count >= KEPT_MAX || self.kept_bytes + bytes > KEPT_BYTES_MAX {
            return Err(PgError::new("53200", "there are too many prepared statements")
                .with_hint("DEALLOCATE ALL forgets them"));
        }
        self.kept_bytes += bytes;
        Ok(())
    }

    fn forget_statement(&mut self, name: &str) {
        if let Some(prepared) = self.statements.remove(name) {
            self.kept_bytes -= prepared.text.len();
        }
    }

    fn forget_portal(&mut self, name: &str) {
        if let Some(portal) = self.portals.remove(name) {
            self.kept_bytes -= portal.text.len();
        }
    }

    fn forget_statements(&mut self) {
        let bytes: usize = self.statements.drain().map(|(_, prepared)| prepared.text.len()).sum();
        self.kept_bytes -= bytes;
    }

    fn close_portals(&mut self) {
        let bytes: usize = self.portals.drain().map(|(_, portal)| portal.text.len()).sum();
        self.kept_bytes -= bytes;
    }

    /// Closes what began after the savepoint at `at`.
    fn close_portals_below(&mut self, at: usize) {
        let closed = self.portals.extract_if(|_, portal| portal.depth > at);
        let bytes: usize = closed.map(|(_, portal)| portal.text.len()).sum();
        self.kept_bytes -= bytes;
    }

    fn statement(&self, name: &str) -> std::result::Result<Arc<Prepared>, PgError> {
        let found = self.statements.get(name).cloned();
        found.ok_or_else(|| {
            PgError::new("26000", format!("there is no prepared statement '{name}'"))
        })
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of the message, and its connection")]
    async fn bind<S: AsyncRead>(
        &mut self,
        name: String,
        statement: &str,
        formats: Vec<i16>,
        values: Vec<Option<Bytes>>,
        results: Vec<i16>,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<()> {
        let prepared = self.statement(statement)?;
        if name.is_empty() {
            self.forget_portal("");
        } else if self.portals.contains_key(&name) {
            return Err(PgError::new("42P03", format!("portal '{name}' is there already")).into());
        }
        let (given, wanted) = (values.len(), prepared.parameters());
        let formats = Formats::new(formats)?;
        if given != wanted || !formats.fit(given) {
            let message = format!("{given} values were given for {wanted} parameters");
            return Err(PgError::new("08P01", message).into());
        }
        let text = self.bound(&prepared, values, &formats, watch, input).await?;
        self.keep(text.len(), self.portals.len())?;
        let formats = Formats::new(results)?;
        let depth = self.savepoints.len();
        let portal = Portal { prepared, text, formats, state: State::Bound, depth };
        self.portals.insert(name, portal);
        Ok(())
    }

    /// Returns a statement's text with values, of which there is one for each parameter.
    async fn bound<S: AsyncRead>(
        &mut self,
        prepared: &Prepared,
        values: Vec<Option<Bytes>>,
        formats: &Formats,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<String> {
        if prepared.places.is_empty() {
            return Ok(prepared.text.clone());
        }
        let types = self.types(prepared, watch, input).await?;
        let literals = values
            .into_iter()
            .enumerate()
            .map(|(at, value)| {
                let oid = types.get(at).copied().unwrap_or(0);
                literal(at + 1, oid, value, formats.is_binary(at)).map(Some)
            })
            .collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(parameters::put(&prepared.text, &prepared.places, &literals, KEPT_BYTES_MAX)?)
    }

    /// Returns the types of a statement's parameters.
    async fn types<S: AsyncRead>(
        &mut self,
        prepared: &Prepared,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<Vec<u32>> {
        let known: Vec<Option<u32>> = prepared.known_types().collect();
        if let Some(all) = known.iter().copied().collect() {
            return Ok(all);
        }
        match self.described(prepared, false, watch, input).await {
            Ok(described) => Ok(described.types.clone()),
            // What can be planned only with its values takes texts.
            Err(Stop::Failed(error)) if !error.is_fatal && error.code != "57014" => {
                let types = known.into_iter().enumerate();
                Ok(types.map(|(at, oid)| oid.unwrap_or(prepared.text_type(at).oid())).collect())
            }
            Err(stop) => Err(stop),
        }
    }

    /// Finds out what a statement takes and returns, once.
    async fn described<S: AsyncRead>(
        &mut self,
        prepared: &Prepared,
        is_told: bool,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<Arc<Described>> {
        if let Some(known) = prepared.described()
            && known.is_told >= is_told
        {
            return Ok(known);
        }
        let known: Vec<Option<u32>> = prepared.known_types().collect();
        let declared = (0..known.len()).map(|at| prepared.declared_type(at));
        let shown: Vec<Option<PgType>> = declared.map(|oid| oid.and_then(PgType::of_oid)).collect();
        let text = parameters::put_types(&prepared.text, &prepared.places, &shown, KEPT_BYTES_MAX)?;
        let description = self.description(prepared, &text, watch, input).await?;
        let types = known
            .into_iter()
            .enumerate()
            .map(|(at, oid)| {
                let inferred = description.parameters.get(&format!("${}", at + 1));
                let of = match (inferred.map(PgType::of_data), prepared.text_type(at)) {
                    (Some(PgType::Scalar(of)), PgType::Array(_)) => PgType::Array(of),
                    (Some(of), _) | (None, of) => of,
                };
                oid.unwrap_or(of.oid())
            })
            .collect();
        let described = Arc::new(Described { types, schema: description.schema, is_told });
        // Cursors and prepared statements of one name may be others the next time.
        if !matches!(prepared.route, Route::Command(_)) {
            *prepared.described.lock().expect("never poisoned") = Some(described.clone());
        }
        Ok(described)
    }

    async fn description<S: AsyncRead>(
        &mut self,
        prepared: &Prepared,
        text: &str,
        watch: &mut Watch,
        input: &mut Input<S>,
    ) -> Result<Description> {
        let context = self.context.clone();
        let of = |names: &[&str]| {
            let fields = names.iter().map(|name| Field::new(*name, DataType::Utf8, true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            Description { schema: Some(schema), parameters: HashMap::new() }
        };
        match &prepared.route {
            Route::Command(Command::Show(name)) => Ok(of(&[name.as_str()])),
            Route::Command(Command::ShowAll) => Ok(of(&["name", "setting"])),
            Route::Command(Command::Fetch { cursor, passes: false, .. }) => {
                let schema = Some(self.cursor(cursor)?.schema().clone());
                Ok(Description { schema, parameters: HashMap::new() })
            }
            Route::Command(Command::Execute(name)) => {
                let prepared = self.executable(name)?;
                let described = self.described(&prepared, false, watch, input);
                let schema = Box::pin(described).await?.schema.clone();
                Ok(Description { schema, parameters: HashMap::new() })
            }
            Route::Command(Command::Declare { query, .. }) => {
                let text = &text[*query..];
                let query = cursors::of_query(text)?;
                let described = Box::pin(self.description(&query, text, watch, input)).await?;
                Ok(Description { schema: None, ..described })
            }
            Route::Command(_) | Route::Empty => {
                Ok(Description { schema: None, parameters: HashMap::new() })
            }
            Route::Catalog => {
                let cursors = self.cursor_rows();
                let catalog = self.catalog()?;
                let describe = async {
                    let query = catalog.prepare(&context, text, cursors).await?;
                    Ok(context.description_of_query(query).boxed().await?)
                };
                watch.guard(input, polled_aside(prepared.is_slow, describe)).await
            }
            Route::Pond => {
                let statement = parsed(text)?;
                let asks = statement.is_question();
                let describe = async {
                    let origin = statement.origin().clone();
                    let described = context.description(statement).boxed().await;
                    described.map_err(|error| Stop::from(located(origin.locate(error), text)))
                };
                let described = watch.guard(input, polled_aside(prepared.is_slow, describe)).await;
                described.map(|described| Description {
                    schema: described.schema.filter(|schema| asks || !is_count(schema)),
                    ..described
                })
            }
        }
    }

    async fn describe_statement<S: AsyncRead>(
        &mut self,
        name: &str,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<impl AsyncWrite>,
    ) -> Result<()> {
        let prepared = self.statement(name)?;
        let described = self.described(&prepared, true, watch, input).await?;
        output.out.parameter_types(&described.types);
        match &described.schema {
            Some(schema) => {
                output.out.columns(Rows::new(schema, &Formats::default()).columns());
            }
            None => output.out.empty(b'n'),
        }
        Ok(())
    }

    /// Tells of a portal's rows. A question is begun for it.
    async fn describe_portal<S: AsyncRead + AsyncWrite>(
        &mut self,
        name: &str,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        let mut portal = self.take_portal(name)?;
        let told = self.tell_portal(&mut portal, watch, input, output).await;
        self.portals.insert(name.to_owned(), portal);
        told
    }

    async fn tell_portal<S: AsyncRead + AsyncWrite>(
        &mut self,
        portal: &mut Portal,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        if matches!(portal.state, State::Bound) {
            let asks = match &portal.prepared.route {
                Route::Command(Command::Execute(name)) => {
                    let text = portal.text.as_str();
                    let executed = self.executed(name, text, watch, input, output).await?;
                    executed.0.asks(&executed.1)?
                }
                _ => portal.prepared.asks(&portal.text)?,
            };
            if asks {
                self.start_portal(portal, watch, input, output).await?;
            }
        }
        match &portal.state {
            State::Running(running) => output.out.columns(running.rows.columns()),
            State::Cursor(cursor) => output.out.columns(&cursor.columns()),
            State::Bound | State::Done(_) => output.out.empty(b'n'),
        }
        Ok(())
    }

    async fn start_portal<S: AsyncRead + AsyncWrite>(
        &mut self,
        portal: &mut Portal,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        let prepared = portal.prepared.clone();
        let described = prepared.described().filter(|described| described.is_told);
        let told = described.as_ref().and_then(|described| described.schema.as_ref());
        let text = portal.text.clone();
        let formats = portal.formats.clone();
        portal.state = self.start(&prepared, &text, &formats, told, watch, input, output).await?;
        Ok(())
    }

    /// Takes a portal out for the time that something is done with it.
    fn take_portal(&mut self, name: &str) -> std::result::Result<Portal, PgError> {
        let found = self.portals.remove(name);
        found.ok_or_else(|| PgError::new("34000", format!("there is no portal '{name}'")))
    }

    async fn execute<S: AsyncRead + AsyncWrite>(
        &mut self,
        name: &str,
        rows_max: usize,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        let mut portal = self.take_portal(name)?;
        let bytes = portal.text.len();
        let ends =
            matches!(&portal.prepared.route, Route::Command(command) if command.ends_transaction());
        let done = self.execute_portal(name, &mut portal, rows_max, watch, input, output).await;
        // A cursor may have taken its name.
        match ends || self.portals.contains_key(name) {
            true => self.kept_bytes -= bytes,
            false => drop(self.portals.insert(name.to_owned(), portal)),
        }
        done
    }

    async fn execute_portal<S: AsyncRead + AsyncWrite>(
        &mut self,
        name: &str,
        portal: &mut Portal,
        rows_max: usize,
        watch: &mut Watch,
        input: &mut Input<S>,
        output: &mut Output<S>,
    ) -> Result<()> {
        if matches!(portal.prepared.route, Route::Empty) {
            output.out.empty(b'I');
            return Ok(());
        }
        let is_new = matches!(portal.state, State::Bound);
        if is_new {
            self.start_portal(portal, watch, input, output).await?;
        }
        match &mut portal.state {
            State::Running(running) => {
                if send_rows(running, rows_max, watch, input, output).await? {
                    // Portal suspended.
                    output.out.empty(b's');
                    return Ok(());
                }
                let tag = complete_tag(running);
                let again = running.tag.clone();
                output.out.complete(&tag);
                portal.state = State::Done(format!("{again} 0"));
            }
            State::Done(tag) => output.out.complete(tag),
            State::Cursor(_) => {
                let message = format!("cursor '{name}' is read by FETCH");
                return Err(PgError::new("55000", message).into());
            }
            State::Bound => {}
        }
        Ok(())
    }
}

/// Sends rows as they are made, at most `rows_max` if that is not 0. Returns whether there may be more.
async fn send_rows<S: AsyncRead + AsyncWrite>(
    running: &mut Running,
    rows_max: usize,
    watch: &mut Watch,
    input: &mut Input<S>,
    output: &mut Output<S>,
) -> Result<bool> {
    let mut left = if rows_max == 0 { usize::MAX } else { rows_max };
    let before = running.sent;
    loop {
        if left == 0 {
            return Ok(true);
        }
        if !watch.guard(input, running.next()).await? {
            if rows_max > 0 {
                running.sent -= before;
            }
            return Ok(false);
        }
        left -= running.put(left, &mut output.out)?;
        if output.out.len() >= SEND_BYTES {
            watch.guard(input, output.send()).await?;
        }
    }
}

/// Says where an error is in a text of which its own begins at the byte `begin`.
fn placed(stop: Stop, text: &str, begin: usize) -> Stop {
    match stop {
        Stop::Failed(error) => Stop::Failed(error.placed(text, begin)),
        Stop::Gone => Stop::Gone,
    }
}

/// The place of an error in a text that is not the client's is nothing to it.
fn unplaced(stop: impl Into<Stop>) -> Stop {
    match stop.into() {
        Stop::Failed(error) => Stop::Failed(PgError { position: None, ..error }),
        Stop::Gone => Stop::Gone,
    }
}

/// Returns what is said when all rows are out.
fn complete_tag(running: &Running) -> String {
    match running.tag.as_str() {
        tag @ ("SHOW" | "EXPLAIN") => tag.to_owned(),
        "FETCH" => format!("FETCH {}", running.sent),
        _ => format!("SELECT {}", running.sent),
    }
}

/// Does what may keep a thread busy, so that the other tasks of the thread go on elsewhere.
fn aside<T>(is_slow: bool, work: impl FnOnce() -> T) -> T {
    // A runtime of one thread has no elsewhere.
    match is_slow && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        true => block_in_place(work),
        false => work(),
    }
}

/// The same for each step of `work`. Without it planning on as many threads as there are would keep the
/// server from accepting, cancelling and ending.
async fn polled_aside<T>(is_slow: bool, work: impl Future<Output = T>) -> T {
    if !is_slow {
        return work.await;
    }
    let mut work = std::pin::pin!(work);
    std::future::poll_fn(|cx| aside(true, || work.as_mut().poll(cx))).await
}

/// Parses a text that is one statement.
fn parsed(text: &str) -> std::result::Result<Statement, PgError> {
    Script::new(&with_bytes(text)).only().map_err(|error| located(error, text))
}

/// Writes `'\x4142'::bytea` as `X'4142'`: the engine would take the text for the bytes.
fn with_bytes(text: &str) -> Cow<'_, str> {
    if !text.contains("\\x") {
        return text.into();
    }
    let [cut] = &cut(text)[..] else { return text.into() };
    let (mut result, mut copied) = (String::new(), 0);
    for three in cut.tokens.windows(3) {
        let [
            (Token::SingleQuotedString(value), at),
            (Token::DoubleColon, _),
            (Token::Word(word), end),
        ] = three
        else {
            continue;
        };
        let hex = value.strip_prefix("\\x").filter(|hex| {
            hex.len().is_multiple_of(2) && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if let Some(hex) = hex
            && word.value.eq_ignore_ascii_case("bytea")
        {
            result.push_str(&text[copied..cut.begin + at.start]);
            result.push_str(&format!("X'{hex}'"));
            copied = cut.begin + end.end;
        }
    }
    result.push_str(&text[copied..]);
    result.into()
}

fn located(error: Error, text: &str) -> PgError {
    let position = position(&error, text);
    PgError { position, ..PgError::from(error) }
}

/// Whether the rows are the one that says how many the engine wrote.
fn is_count(schema: &Schema) -> bool {
    matches!(schema.fields().as_ref(), [field]
        if field.name() == "count" && *field.data_type() == DataType::UInt64)
}

async fn count(mut stream: SendableRecordBatchStream) -> Result<Option<u64>> {
    let mut count = 0;
    while let Some(batch) = stream.next().await {
        let batch = batch.map_err(Error::from)?;
        count += batch.column(0).as_primitive::<UInt64Type>().iter().flatten().sum::<u64>();
    }
    Ok(Some(count))
}

/// Returns rows of texts.
fn shown(columns: &[(&str, Vec<String>)], formats: &Formats) -> Result<Running> {
    let schema = Arc::new(Schema::new(
        columns.iter().map(|(name, _)| Field::new(*name, DataType::Utf8, true)).collect::<Vec<_>>(),
    ));
    let arrays =
        columns.iter().map(|(_, values)| Arc::new(StringArray::from_iter_values(values)) as _);
    let batch = RecordBatch::try_new(schema.clone(), arrays.collect()).map_err(Error::from)?;
    let stream = MemoryStream::try_new(vec![batch], schema, None).map_err(Error::from)?;
    Ok(Running::new(Box::pin(stream), formats, None, "SHOW")?)
}

/// Returns what a statement is called when it is done.
fn tag_of(cut: &Cut<'_>) -> String {
    let words: Vec<String> = cut
        .tokens
        .iter()
        .map_while(|(token, _)| match token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_uppercase()),
            _ => None,
        })
        .filter(|word| !matches!(word.as_str(), "OR" | "REPLACE"))
        .take(2)
        .collect();
    match words.first().map(String::as_str) {
        Some("CREATE" | "DROP" | "ALTER" | "REFRESH" | "RESTORE") => words.join(" "),
        Some("TRUNCATE") => "TRUNCATE TABLE".to_owned(),
        Some(verb) => verb.to_owned(),
        None => "SELECT".to_owned(),
    }
}

/// Returns the settings in the `options` of a client: `-c name=value`, `--name=value`.
fn options(text: &str) -> Vec<(String, String)> {
    let mut words = text.split_whitespace();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c") {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting,
            None => word.strip_prefix("--").unwrap_or_default(),
        };
        if let Some((name, value)) = setting.split_once('=') {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    found
}
