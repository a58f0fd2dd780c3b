//! Writes results: a stream of record batches in one of the [`Format`]s.
//!
//! [`write()`] encodes a batch at a time and hands each to the writer at once, so that a result of
//! any length is written in bounded memory and its first rows are seen before its last are made.
//! The one thing held back is the head of a table, from which its column widths come
//! ([`TABLE_HEAD_ROWS`]), and a row group of Parquet ([`ROW_GROUP_ROWS`]).
//!
//! Nothing here knows where the bytes go: the caller gives the writer. A lineage may also be drawn
//! ([`draw`]).

mod format;
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

use crate::error::{Error, ErrorKind, Result};
pub use format::{Format, Style, Terminal};
pub use picture::{Picture, draw};
pub use table::{TABLE_HEAD_ROWS, escape_controls};

/// Rows encoded at a time, however large the batches are that come in.
const SLICE_ROWS: usize = 8192;

/// Rows in a row group of Parquet output; they are in memory until it is complete.
pub const ROW_GROUP_ROWS: usize = 122_880;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// How many rows.
    pub rows: u64,
    /// Whether [`Style::rows_max`] left some out.
    pub is_cut: bool,
}

/// Writes the rows of `stream` to `out`.
///
/// # Errors
/// Those of the stream, after the rows before them are written; `Io` if `out` fails
/// ([`is_closed_pipe`] tells a reader that went away); `Unsupported` for a column that the format
/// cannot hold.
pub async fn write(
    stream: SendableRecordBatchStream,
    style: &Style,
    out: &mut (dyn Write + Send),
) -> Result<Written> {
    let schema = stream.schema();
    let mut rows = Rows::new(stream, style.rows_max);
    match style.format {
        Format::Table => write_text(&mut rows, table::TableEncoder::new(schema), out).await?,
        Format::Csv => write_text(&mut rows, CsvEncoder::new(schema)?, out).await?,
        Format::Ndjson => write_text(&mut rows, JsonEncoder, out).await?,
        Format::Parquet => write_parquet(&mut rows, schema, out).await?,
        format => {
            let name = format.as_str();
            return Err(Error::unsupported(format!("format {name} cannot be written yet")));
        }
    }
    Ok(rows.written)
}

/// The rows of a stream, a slice at a time, until there are enough.
struct Rows {
    /// `None` once the last row has come.
    stream: Option<SendableRecordBatchStream>,
    /// What is left of the batch at hand.
    rest: Option<RecordBatch>,
    rows_max: u64,
    written: Written,
}

impl Rows {
    fn new(stream: SendableRecordBatchStream, rows_max: Option<u64>) -> Self {
        let rows_max = rows_max.unwrap_or(u64::MAX);
        Self { stream: Some(stream), rest: None, rows_max, written: Written::default() }
    }

    /// Returns the next rows, at most [`SLICE_ROWS`] and at least one.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        let batch = loop {
            if let Some(batch) = self.rest.take() {
                break batch;
            }
            let Some(stream) = &mut self.stream else { return Ok(None) };
            match stream.next().await.transpose()? {
                Some(batch) if batch.num_rows() == 0 => {}
                Some(batch) => break batch,
                None => {
                    self.stream = None;
                    return Ok(None);
                }
            }
        };
        let left = self.rows_max - self.written.rows;
        if left == 0 {
            self.written.is_cut = true;
            self.stream = None;
            return Ok(None);
        }
        let rows = batch.num_rows();
        let taken = rows.min(SLICE_ROWS).min(usize::try_from(left).unwrap_or(usize::MAX));
        if taken < rows {
            self.rest = Some(batch.slice(taken, rows - taken));
        }
        self.written.rows += taken as u64;
        // A stream that is always ready would otherwise never let a cancellation through.
        tokio::task::yield_now().await;
        Ok(Some(batch.slice(0, taken)))
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
    rows: &mut Rows,
    mut encoder: impl Encoder,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut text = Vec::new();
    while let Some(batch) = rows.next().await? {
        encoder.encode(&batch, &mut text)?;
        flush_text(&mut text, out)?;
    }
    encoder.finish(&mut text)?;
    flush_text(&mut text, out)
}

fn flush_text(text: &mut Vec<u8>, out: &mut (dyn Write + Send)) -> Result<()> {
    if !text.is_empty() {
        out.write_all(text).and_then(|()| out.flush()).map_err(write_error)?;
        text.clear();
    }
    Ok(())
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
    rows: &mut Rows,
    schema: SchemaRef,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let failed = |source| Error::new(ErrorKind::Io, "writing Parquet").with_source(source);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    let mut writer = ArrowWriter::try_new(&mut *out, schema, Some(properties)).map_err(failed)?;
    while let Some(batch) = rows.next().await? {
        writer.write(&batch).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    out.flush().map_err(write_error)
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
        let count = futures::executor::block_on(write(Box::pin(stream), &format.into(), &mut out))?;
        assert_eq!(count, Written { rows: rows as u64, is_cut: false });
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
        assert_eq!(text(vec![empty], Format::Ndjson), "");
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
            text(vec![sensors()], Format::Ndjson),
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
        for format in [Format::Table, Format::Csv, Format::Ndjson, Format::Parquet] {
            for kind in [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::StorageFull] {
                let stream = RecordBatchStreamAdapter::new(
                    sensors().schema(),
                    stream::iter([Ok(sensors())]),
                );
                let mut out = Failing(kind);
                let style = format.into();
                let result = write(Box::pin(stream), &style, &mut out);
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
