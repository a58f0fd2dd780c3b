//! Writes results: a stream of record batches in one of the [`Format`]s.
//!
//! [`write()`] encodes a batch at a time and hands each to the writer at once, so that a result of
//! any length is written in bounded memory and its first rows are seen before its last are made.
//! What is held back is the head of a table, from which its column widths come
//! ([`TABLE_HEAD_ROWS`]), a row group of Parquet ([`ROW_GROUP_ROWS`]), and what a chart is drawn of.
//!
//! A value has the same text in all formats, which is that of arrow; JSON has values of its own
//! kinds. A text that goes to a terminal ([`Style::terminal`]) holds no control character but line
//! ends; one that goes to a file or a pipe holds the values as they are.
//!
//! Nothing here knows where the bytes go: the caller gives the writer. A lineage may also be drawn
//! ([`draw`]).

mod cell;
mod chart;
mod delimited;
mod escape;
mod files;
mod format;
mod frame;
mod html;
mod json;
mod line;
mod markdown;
mod picture;
mod table;
mod text;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use crate::error::{Error, Result};
use delimited::DelimitedEncoder;
pub use escape::escape_controls;
pub use files::ROW_GROUP_ROWS;
pub use format::{Format, Style, Terminal};
use frame::FrameEncoder;
use html::HtmlEncoder;
use json::JsonEncoder;
use line::LineEncoder;
use markdown::MarkdownEncoder;
pub use picture::{Picture, draw};
pub use table::TABLE_HEAD_ROWS;
use table::TableEncoder;
use text::write_text;

/// Rows encoded at a time, however large the batches are that come in.
const SLICE_ROWS: usize = 8192;

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
/// ([`is_closed_pipe`] tells a reader that went away), or for a column that Parquet or Arrow IPC
/// cannot hold; `Invalid` for a result that no chart can be drawn of.
pub async fn write(
    stream: SendableRecordBatchStream,
    style: &Style,
    out: &mut (dyn Write + Send),
) -> Result<Written> {
    let schema = stream.schema();
    let rows = &mut Rows::new(stream, style.rows_max);
    let filter = filter(style);
    match (style.format, style.terminal) {
        (Format::Table, None) => {
            write_text(rows, TableEncoder::new(&schema, style), filter, out).await
        }
        (Format::Table, Some(terminal)) => {
            write_text(rows, FrameEncoder::new(&schema, style, terminal), filter, out).await
        }
        (Format::Csv, _) => {
            write_text(rows, DelimitedEncoder::new(schema, b',', style), filter, out).await
        }
        (Format::Tsv, _) => {
            write_text(rows, DelimitedEncoder::new(schema, b'\t', style), filter, out).await
        }
        (Format::Json, _) => write_text(rows, JsonEncoder::new(&schema, true), filter, out).await,
        (Format::Ndjson, _) => {
            write_text(rows, JsonEncoder::new(&schema, false), filter, out).await
        }
        (Format::Markdown, _) => {
            write_text(rows, MarkdownEncoder::new(schema, style), filter, out).await
        }
        (Format::Line, _) => write_text(rows, LineEncoder::new(&schema, style), filter, out).await,
        (Format::Html, _) => write_text(rows, HtmlEncoder::new(schema, style), filter, out).await,
        (Format::Parquet, _) => files::write_parquet(rows, schema, out).await,
        (Format::Arrow, _) => files::write_arrow(rows, schema, out).await,
        (Format::Chart | Format::Svg | Format::Png, _) => {
            chart::write_chart(rows, &schema, style, out).await
        }
    }?;
    Ok(rows.written)
}

/// Returns what the text goes through before it is written: on a terminal, what escapes all that is
/// not to be seen as it is. A framed table does so for itself, which has colours.
fn filter(style: &Style) -> fn(Vec<u8>) -> Vec<u8> {
    fn escaped(text: Vec<u8>, escape: impl Fn(&str) -> Cow<'_, str>) -> Vec<u8> {
        match escape(&String::from_utf8_lossy(&text)) {
            Cow::Borrowed(_) => text,
            Cow::Owned(escaped) => escaped.into_bytes(),
        }
    }
    match (style.format, style.terminal) {
        (_, None) | (Format::Table, _) => |text| text,
        (Format::Json | Format::Ndjson, _) => |text| escaped(text, escape::escape_json),
        (Format::Tsv, _) => {
            |text| escaped(text, |text| escape::escape(text, |kept| matches!(kept, '\n' | '\t')))
        }
        _ => |text| escaped(text, |text| escape::escape(text, |kept| kept == '\n')),
    }
}

/// Says how many rows there are: `1 row`, `first 100 rows`.
fn count_text(written: Written) -> String {
    let Written { rows, is_cut } = written;
    let first = if is_cut { "first " } else { "" };
    let plural = if rows == 1 { "" } else { "s" };
    format!("{first}{rows} row{plural}")
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

    /// Returns the next rows, at most [`SLICE_ROWS`] and at least one. Nothing is lost if it is
    /// dropped.
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        // A stream that is always ready would otherwise never let a cancellation through.
        tokio::task::yield_now().await;
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

#[cfg(test)]
mod tests;
