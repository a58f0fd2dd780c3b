//! Writes results: a stream of record batches as a table, CSV, JSON lines or Parquet.
//!
//! [`write()`] encodes a batch at a time and hands each to the writer at once, so that a result of
//! any length is written in bounded memory and its first rows are seen before its last are made.
//! The one thing held back is the head of a table, from which its column widths come
//! ([`TABLE_HEAD_ROWS`]), and a row group of Parquet ([`ROW_GROUP_ROWS`]).
//!
//! Nothing here knows where the bytes go: the caller gives the writer. A lineage may also be drawn
//! ([`draw`]).

mod picture;
mod table;

use std::error::Error as StdError;
use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::json;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;

use crate::error::{Error, ErrorKind, Result, did_you_mean};
pub use picture::{Picture, draw};
pub use table::{TABLE_HEAD_ROWS, escape_controls};

/// Rows encoded at a time, however large the batches are that come in.
const SLICE_ROWS: usize = 8192;

/// Rows in a row group of Parquet output; they are in memory until it is complete.
pub const ROW_GROUP_ROWS: usize = 122_880;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned columns for people; control characters are escaped, NULL is `NULL`.
    #[default]
    Table,
    /// A header line and comma-separated values; NULL is empty.
    Csv,
    /// One JSON object a line, each with every column.
    Json,
    /// One Apache Parquet file.
    Parquet,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Self::Table, Self::Csv, Self::Json, Self::Parquet];

    /// Returns the format's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
        }
    }

    /// Parses what [`Format::as_str`] returns.
    ///
    /// # Errors
    /// `Invalid` for any other word, with the nearest name or all of them as a hint.
    pub fn parse(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str);
            let hint = did_you_mean(text, names)
                .unwrap_or_else(|| format!("there are: {}", names.join(", ")));
            Error::invalid(format!("format '{text}' does not exist")).with_hint(hint)
        })
    }

    /// Whether the output can hold the rows of several results, one after another.
    pub fn holds_many(self) -> bool {
        matches!(self, Self::Table | Self::Json)
    }
}

/// Writes all rows of `stream` to `out` and returns their number.
///
/// # Errors
/// Those of the stream, after the rows before them are written; `Io` if `out` fails
/// ([`is_closed_pipe`] tells a reader that went away); `Unsupported` for a column that the format
/// cannot hold.
pub async fn write(
    stream: SendableRecordBatchStream,
    format: Format,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let schema = stream.schema();
    match format {
        Format::Table => write_text(stream, table::TableEncoder::new(schema), out).await,
        Format::Csv => write_text(stream, CsvEncoder::new(schema)?, out).await,
        Format::Json => write_text(stream, JsonEncoder, out).await,
        Format::Parquet => write_parquet(stream, schema, out).await,
    }
}

/// Whether `error` says that the reader of the output has gone, as in `… | head`.
pub fn is_closed_pipe(error: &Error) -> bool {
    let mut at: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(cause) = at {
        if let Some(cause) = cause.downcast_ref::<std::io::Error>()
            && cause.kind() == std::io::ErrorKind::BrokenPipe
        {
            return true;
        }
        at = cause.source();
    }
    false
}

/// Makes the error of a failed write.
pub fn write_error(source: std::io::Error) -> Error {
    Error::io("writing the output", source)
}

/// Turns batches into text.
trait Encoder {
    /// Appends the text of `batch`.
    fn encode(&mut self, batch: &RecordBatch, text: &mut Vec<u8>) -> Result<()>;

    /// Appends what is left at the end.
    fn finish(&mut self, text: &mut Vec<u8>) -> Result<()>;
}

async fn write_text(
    mut stream: SendableRecordBatchStream,
    mut encoder: impl Encoder,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let mut rows = 0;
    let mut text = Vec::new();
    while let Some(batch) = stream.next().await {
        for slice in slices(&batch?) {
            encoder.encode(&slice, &mut text)?;
            flush_text(&mut text, out)?;
            rows += slice.num_rows() as u64;
            // A stream that is always ready would otherwise never let a cancellation through.
            tokio::task::yield_now().await;
        }
    }
    encoder.finish(&mut text)?;
    flush_text(&mut text, out)?;
    Ok(rows)
}

fn flush_text(text: &mut Vec<u8>, out: &mut (dyn Write + Send)) -> Result<()> {
    if !text.is_empty() {
        out.write_all(text).and_then(|()| out.flush()).map_err(write_error)?;
        text.clear();
    }
    Ok(())
}

fn slices(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> + use<> {
    let batch = batch.clone();
    let rows = batch.num_rows();
    (0..rows).step_by(SLICE_ROWS).map(move |at| batch.slice(at, SLICE_ROWS.min(rows - at)))
}

struct CsvEncoder {
    schema: SchemaRef,
    has_begun: bool,
}

impl CsvEncoder {
    fn new(schema: SchemaRef) -> Result<Self> {
        if let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            return Err(Error::unsupported(format!(
                "column '{}' is nested ({}), which CSV cannot hold",
                field.name(),
                field.data_type()
            ))
            .with_hint("JSON and Parquet can"));
        }
        Ok(Self { schema, has_begun: false })
    }
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, batch: &RecordBatch, text: &mut Vec<u8>) -> Result<()> {
        let header = !self.has_begun && batch.num_columns() > 0;
        self.has_begun = true;
        csv::WriterBuilder::new().with_header(header).build(text).write(batch).map_err(Error::from)
    }

    fn finish(&mut self, text: &mut Vec<u8>) -> Result<()> {
        if self.has_begun || self.schema.fields().is_empty() {
            return Ok(());
        }
        self.encode(&RecordBatch::new_empty(self.schema.clone()), text)
    }
}

struct JsonEncoder;

impl Encoder for JsonEncoder {
    fn encode(&mut self, batch: &RecordBatch, text: &mut Vec<u8>) -> Result<()> {
        let builder = json::WriterBuilder::new().with_explicit_nulls(true);
        let mut writer = builder.build::<_, json::writer::LineDelimited>(text);
        writer.write(batch)?;
        writer.finish().map_err(Error::from)
    }

    fn finish(&mut self, _text: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

async fn write_parquet(
    mut stream: SendableRecordBatchStream,
    schema: SchemaRef,
    out: &mut (dyn Write + Send),
) -> Result<u64> {
    let failed = |source| Error::new(ErrorKind::Io, "writing Parquet").with_source(source);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(&mut *out, schema, Some(properties)).map_err(failed)?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        for slice in slices(&batch?) {
            writer.write(&slice).map_err(failed)?;
            rows += slice.num_rows() as u64;
            tokio::task::yield_now().await;
        }
    }
    writer.close().map_err(failed)?;
    out.flush().map_err(write_error)?;
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, ListArray, StringArray};
    use datafusion::arrow::datatypes::Int32Type;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::stream;

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, array)| (name, array, true)),
        )
        .unwrap()
    }

    fn sensors() -> RecordBatch {
        batch(vec![
            (
                "station",
                Arc::new(StringArray::from(vec![Some("zü\tri\n1"), None, Some("a,\"b\"")])),
            ),
            ("t", Arc::new(Float64Array::from(vec![Some(1.5), Some(-20.25), None]))),
        ])
    }

    fn written(batches: Vec<RecordBatch>, format: Format) -> Result<Vec<u8>> {
        let schema = batches[0].schema();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let stream = RecordBatchStreamAdapter::new(schema, stream::iter(batches).map(Ok));
        let mut out = Vec::new();
        let count = futures::executor::block_on(write(Box::pin(stream), format, &mut out))?;
        assert_eq!(count, rows as u64);
        Ok(out)
    }

    fn text(batches: Vec<RecordBatch>, format: Format) -> String {
        String::from_utf8(written(batches, format).unwrap()).unwrap()
    }

    #[test]
    fn a_table_aligns_escapes_and_names_nulls() {
        assert_eq!(
            text(vec![sensors()], Format::Table),
            " station | t\n\
             ---------+--------\n\
             \u{20}zü\\tri+ |    1.5\n\
             \u{20}1       |\n\
             \u{20}NULL    | -20.25\n\
             \u{20}a,\"b\"   |   NULL\n"
        );
    }

    #[test]
    fn a_cell_of_many_lines_keeps_the_others_aligned() {
        let plan = batch(vec![
            ("kind", Arc::new(StringArray::from(vec!["plan", ""]))),
            ("n", Arc::new(Int64Array::from(vec![10, 2]))),
            ("text", Arc::new(StringArray::from(vec!["Filter\n  Scan\n", ""]))),
        ]);
        assert_eq!(
            text(vec![plan], Format::Table),
            " kind | n  | text\n\
             ------+----+---------\n\
             \u{20}plan | 10 | Filter+\n\
             \u{20}     |    |   Scan\n\
             \u{20}     |  2 |\n"
        );
    }

    #[test]
    fn rows_beyond_the_head_keep_its_widths() {
        let long = batch(vec![("n", Arc::new(Int64Array::from_iter_values(0..2000)) as ArrayRef)]);
        let table = text(vec![long.slice(0, 990), long.slice(990, 1010)], Format::Table);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2002);
        assert_eq!([lines[0], lines[2], lines[1001]], [" n", "   0", " 999"]);
        assert_eq!(lines[2001], " 1999");
    }

    #[test]
    fn an_empty_result_still_has_its_header() {
        let empty = sensors().slice(0, 0);
        assert_eq!(text(vec![empty.clone()], Format::Table), " station | t\n---------+---\n");
        assert_eq!(text(vec![empty.clone()], Format::Csv), "station,t\n");
        assert_eq!(text(vec![empty], Format::Json), "");
    }

    #[test]
    fn csv_has_one_header_and_quotes() {
        assert_eq!(
            text(vec![sensors(), sensors().slice(1, 1)], Format::Csv),
            "station,t\n\"zü\tri\n1\",1.5\n,-20.25\n\"a,\"\"b\"\"\",\n,-20.25\n"
        );
    }

    #[test]
    fn json_is_one_object_a_line_with_every_column() {
        assert_eq!(
            text(vec![sensors()], Format::Json),
            "{\"station\":\"zü\\tri\\n1\",\"t\":1.5}\n{\"station\":null,\"t\":-20.25}\n\
             {\"station\":\"a,\\\"b\\\"\",\"t\":null}\n"
        );
    }

    #[test]
    fn parquet_reads_back() {
        let bytes = written(vec![sensors(), sensors()], Format::Parquet).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        let back: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(back[0].slice(3, 3), sensors());
    }

    #[test]
    fn csv_refuses_a_nested_column_by_name() {
        let nested = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let error = written(vec![batch(vec![("l", Arc::new(nested))])], Format::Csv).unwrap_err();
        assert!(error.message().starts_with("column 'l' is nested"), "{error}");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_failures() {
        struct Failing(std::io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        for format in Format::ALL {
            for kind in [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::StorageFull] {
                let stream = RecordBatchStreamAdapter::new(
                    sensors().schema(),
                    stream::iter([Ok(sensors())]),
                );
                let mut out = Failing(kind);
                let result = write(Box::pin(stream), format, &mut out);
                let error = futures::executor::block_on(result).unwrap_err();
                assert_eq!(
                    is_closed_pipe(&error),
                    kind == std::io::ErrorKind::BrokenPipe,
                    "{format:?}: {error}"
                );
            }
        }
    }
}
