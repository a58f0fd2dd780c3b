//! Writing rows as Parquet, the way scans like it.
//!
//! [`TableWriter`] is the encoder, with the facts of the table computed on the way; [`EncodedTable`]
//! runs it on the blocking pool beside the producer of the rows.
//!
//! The layout, each choice measured on time series (`benches/peers/series.rs`):
//! - row groups of [`ROW_GROUP_ROWS`], small enough to prune by and large enough to scan;
//! - pages of [`PAGE_ROWS`], whose places are in the page index, so that a short range of rows reads
//!   little;
//! - integers, times and decimals as differences (`DELTA_BINARY_PACKED`), text as a dictionary, floats
//!   as a dictionary while there are few;
//! - LZ4, which costs scans next to nothing.
//!
//! Bounds of pages are kept of the columns stored as integers only: a page of other values has all of
//! them, and the index is read whole.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::arrow_writer::{
    ArrowRowGroupWriterFactory, ArrowWriter, ArrowWriterOptions,
};
use datafusion::parquet::arrow::{
    ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema,
};
use datafusion::parquet::basic::{Compression, Encoding, Type as PhysicalType};
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::file::writer::SerializedFileWriter;
use datafusion::parquet::schema::types::SchemaDescriptor;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use super::facts::FactsBuilder;
use crate::entry::TableFacts;
use crate::error::{Error, ErrorKind, Result};

/// Rows in a row group, unless they are large.
pub(super) const ROW_GROUP_ROWS: usize = 122_880;
/// The encoded size at which a row group ends early, which bounds the memory of a writer.
const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;
/// Rows in a page.
pub(super) const PAGE_ROWS: usize = 4096;
/// Floats of more distinct values than fit are written plainly.
const FLOAT_DICTIONARY_BYTES: usize = 32 * 1024;
/// Batches on their way to an encoder, and parts of a file on their way from it.
const CHANNEL_ENTRIES: usize = 4;
/// An encoder hands on what it has when there is so much.
const PART_BYTES: usize = 256 * 1024;

/// Encodes batches as a Parquet file and computes what is to be known of it. Holds about a row group.
pub struct TableWriter {
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    facts: FactsBuilder,
}

impl TableWriter {
    /// Starts a file with these columns. With `temporal_column`, the facts tell of its times and
    /// whether the rows are in their order.
    ///
    /// # Errors
    /// `Invalid` for no columns, two of one name, or an unknown `temporal_column`; `Unsupported` for
    /// a type that Parquet does not have.
    pub fn new(schema: &Schema, temporal_column: Option<&str>) -> Result<Self> {
        let facts = FactsBuilder::new(schema, temporal_column)?;
        let schema = Arc::new(check_columns(schema)?);
        let writer = arrow_writer(&schema, facts.schema(), Vec::new())?;
        Ok(Self { schema, writer, facts })
    }

    /// Encodes the rows of a batch.
    ///
    /// # Errors
    /// `Invalid` if its columns are not the file's.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = batch.schema_ref().fields().iter().map(|field| field.data_type());
        if !columns.eq(self.schema.fields().iter().map(|field| field.data_type())) {
            return Err(Error::invalid("a batch has other columns than its table"));
        }
        self.facts.add(batch)?;
        self.writer.write(batch).map_err(engine)
    }

    /// Takes the bytes that are ready; empty while a row group fills.
    pub fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(self.writer.inner_mut()))
    }

    /// Returns how many bytes [`TableWriter::take`] would.
    fn ready_bytes(&self) -> usize {
        self.writer.inner().len()
    }

    /// Ends the file and returns the rest of its bytes, and the facts.
    pub fn finish(self) -> Result<(Bytes, TableFacts)> {
        let facts = self.facts.finish()?;
        let rest = self.writer.into_inner().map_err(engine)?;
        Ok((Bytes::from(rest), facts))
    }
}

pub(super) fn engine(error: datafusion::parquet::errors::ParquetError) -> Error {
    Error::from(DataFusionError::from(error))
}

/// Returns the columns without metadata, which would come back as part of their types.
pub(super) fn check_columns(schema: &Schema) -> Result<Schema> {
    if schema.fields().is_empty() {
        return Err(Error::invalid("a table needs at least one column"));
    }
    let mut names = std::collections::HashSet::new();
    for field in schema.fields() {
        let name = field.name();
        if !names.insert(name) {
            return Err(Error::invalid(format!("there are two columns '{name}'"))
                .with_hint("give each column a name of its own: SELECT … AS …"));
        }
        let alone = Schema::new(vec![field.clone()]);
        if let Err(error) = ArrowSchemaConverter::new().convert(&alone) {
            let data_type = field.data_type();
            return Err(Error::unsupported(format!(
                "column '{name}' has type {data_type}, which Parquet cannot hold"
            ))
            .with_hint(format!("cast it: SELECT arrow_cast({name}, 'Utf8')"))
            .with_source(error));
        }
    }
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_metadata(Default::default()));
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// Starts a file whose row groups are encoded elsewhere, in the layout of [`TableWriter`], with these
/// columns, which are `stored` as so.
///
/// # Errors
/// As [`TableWriter::new`].
pub(super) fn row_group_writer<W: Write + Send>(
    schema: &Schema,
    stored: &Schema,
    file: W,
) -> Result<(SerializedFileWriter<W>, ArrowRowGroupWriterFactory)> {
    let writer = arrow_writer(&Arc::new(check_columns(schema)?), stored, file)?;
    writer.into_serialized_writer().map_err(engine)
}

fn arrow_writer<W: Write + Send>(
    schema: &SchemaRef,
    stored: &Schema,
    file: W,
) -> Result<ArrowWriter<W>> {
    let parquet = ArrowSchemaConverter::new().convert(schema).map_err(engine)?;
    let options = ArrowWriterOptions::new()
        .with_skip_arrow_metadata(true)
        .with_properties(properties(&parquet, stored));
    ArrowWriter::try_new_with_options(file, schema.clone(), options).map_err(engine)
}

fn properties(parquet: &SchemaDescriptor, stored: &Schema) -> WriterProperties {
    let arrow_schema =
        KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), Some(encode_arrow_schema(stored)));
    let mut properties = WriterProperties::builder()
        .set_created_by(format!("pond {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(vec![arrow_schema]))
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for column in parquet.columns() {
        let path = column.path().clone();
        properties = match column.physical_type() {
            PhysicalType::INT32 | PhysicalType::INT64 => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED)
                .set_column_statistics_enabled(path, EnabledStatistics::Page),
            PhysicalType::FLOAT | PhysicalType::DOUBLE => {
                properties.set_column_dictionary_page_size_limit(path, FLOAT_DICTIONARY_BYTES)
            }
            _ => properties,
        };
    }
    properties.build()
}

/// Rows being encoded as Parquet, on the blocking pool, while their producer goes on.
///
/// Dropping it stops both. At most a row group and a few batches are held.
pub struct EncodedTable {
    parts: mpsc::Receiver<Bytes>,
    /// Pulls the rows and feeds the encoder; its end is what became of both.
    task: Option<SpawnedTask<Result<TableFacts>>>,
    facts: Option<TableFacts>,
}

impl EncodedTable {
    /// Starts to encode `rows`; see [`TableWriter::new`].
    ///
    /// # Errors
    /// As [`TableWriter::new`].
    pub fn new(rows: SendableRecordBatchStream, temporal_column: Option<&str>) -> Result<Self> {
        let writer = TableWriter::new(&rows.schema(), temporal_column)?;
        let (parts, receiver) = mpsc::channel(CHANNEL_ENTRIES);
        let task = SpawnedTask::spawn(encode(rows, writer, parts));
        Ok(Self { parts: receiver, task: Some(task), facts: None })
    }

    /// Returns the next bytes of the file, or `None` at its end.
    ///
    /// # Errors
    /// Whatever the rows' producer or the encoder reports.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        if let Some(part) = self.parts.recv().await {
            return Ok(Some(part));
        }
        if let Some(task) = self.task.take() {
            self.facts = Some(joined(task.join().await)?);
        }
        Ok(None)
    }

    /// Returns what is to be known of the file, whose last bytes have been taken.
    ///
    /// # Errors
    /// `Invalid` before [`EncodedTable::next`] has returned `None`.
    pub fn finish(self) -> Result<TableFacts> {
        self.facts.ok_or_else(|| Error::invalid("a table is still being encoded"))
    }
}

async fn encode(
    mut rows: SendableRecordBatchStream,
    mut writer: TableWriter,
    parts: mpsc::Sender<Bytes>,
) -> Result<TableFacts> {
    let (batches, mut received) = mpsc::channel::<RecordBatch>(CHANNEL_ENTRIES);
    let encoder = SpawnedTask::spawn_blocking(move || {
        // Nobody receives any more: the table was dropped, and with it what becomes of this.
        let send = |part: Bytes| {
            let gone = |_| Error::new(ErrorKind::Io, "a table's bytes are not wanted any more");
            if part.is_empty() { Ok(()) } else { parts.blocking_send(part).map_err(gone) }
        };
        while let Some(batch) = received.blocking_recv() {
            writer.write(&batch)?;
            if writer.ready_bytes() >= PART_BYTES {
                send(writer.take())?;
            }
        }
        let (rest, facts) = writer.finish()?;
        send(rest)?;
        Ok(facts)
    });
    loop {
        match rows.try_next().await {
            Ok(Some(batch)) => {
                // The encoder has ended early: it says why.
                if batches.send(batch).await.is_err() {
                    break;
                }
            }
            Ok(None) => break,
            Err(error) => {
                // Ends the encoder with half a file, whose bytes nobody will name.
                drop(batches);
                return Err(Error::from(error));
            }
        }
    }
    drop(batches);
    joined(encoder.join().await)
}

pub(super) fn joined<T>(
    result: std::result::Result<Result<T>, tokio::task::JoinError>,
) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::new(ErrorKind::Io, "encoding of a table").with_source(error)),
        },
    }
}

/// Returns the column that orders a series: `wanted` or, without it, the one called `timestamp`.
///
/// # Errors
/// `Invalid` if there is none, or if it is no timestamp or date; the hint names those that are.
pub fn detect_temporal(schema: &Schema, wanted: Option<&str>) -> Result<String> {
    let name = wanted.unwrap_or("timestamp");
    let fields = schema.fields();
    let found = fields
        .iter()
        .find(|field| field.name() == name)
        .or_else(|| fields.iter().find(|field| field.name().eq_ignore_ascii_case(name)));
    let error = match found {
        Some(field) if is_time(field.data_type()) => return Ok(field.name().clone()),
        Some(field) => Error::invalid(format!(
            "column '{}' has type {}, so it cannot order a series",
            field.name(),
            field.data_type()
        )),
        None => Error::invalid(format!("there is no column '{name}' to order a series by")),
    };
    let others: Vec<String> = fields
        .iter()
        .filter(|field| is_time(field.data_type()))
        .map(|field| format!("'{}'", field.name()))
        .collect();
    Err(error.with_hint(match others.as_slice() {
        [] => "a series needs a column of timestamps or dates".to_owned(),
        [other] => format!("name the temporal column: {other}"),
        others => format!("name the temporal column, one of {}", others.join(", ")),
    }))
}

/// Returns the column called `timestamp` or, without it, the first timestamp or date there is.
///
/// # Errors
/// As [`detect_temporal`], if there is none.
pub fn detect_any_temporal(schema: &Schema) -> Result<String> {
    detect_temporal(schema, None).or_else(|error| {
        let first = schema.fields().iter().find(|field| is_time(field.data_type()));
        first.map(|field| field.name().clone()).ok_or(error)
    })
}

fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64)
}
