//! Writes results: a stream of record batches in one of the [`Format`]s.
//!
//! [`write()`] encodes a batch at a time and hands each to the writer at once, so that a result of
//! any length is written in bounded memory and its first rows are seen before its last are made.
//! What is held back is the head of a table, from which its column widths come
//! ([`TABLE_HEAD_ROWS`]), a row group of Parquet ([`ROW_GROUP_ROWS`]), and what a chart is drawn of;
//! rows that are long are counted by their bytes.
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
mod size;
mod table;
mod text;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::io::Write;

use datafusion::arrow::array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use futures::StreamExt;

use crate::error::{Error, Result};
#[cfg(feature = "serve")]
pub(crate) use cell::Column as JsonColumn;
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
use size::bytes_of;
pub use table::TABLE_HEAD_ROWS;
use table::TableEncoder;
use text::write_text;

/// Rows encoded at a time, however large the batches are that come in.
const SLICE_ROWS: usize = 8192;

/// What the rows encoded at a time take, unless a row alone takes more.
const SLICE_BYTES: usize = 1 << 20;

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
/// cannot hold; `Invalid` for a result that no chart can be drawn of, and for a text of NULL that
/// CSV or TSV cannot hold.
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
            write_text(rows, DelimitedEncoder::new(schema, b',', style)?, filter, out).await
        }
        (Format::Tsv, _) => {
            write_text(rows, DelimitedEncoder::new(schema, b'\t', style)?, filter, out).await
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

    /// Returns the next rows, at least one, at most [`SLICE_ROWS`] and about [`SLICE_BYTES`]. Nothing
    /// is lost if it is dropped.
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
        let mut taken = rows.min(SLICE_ROWS).min(usize::try_from(left).unwrap_or(usize::MAX));
        while taken > 1 && bytes_of(&batch.slice(0, taken)) > SLICE_BYTES {
            taken /= 2;
        }
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
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::*;
    use datafusion::arrow::buffer::ScalarBuffer;
    use datafusion::arrow::datatypes::*;
    use datafusion::arrow::ipc::reader::FileReader;
    use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use futures::executor::block_on;
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

    fn rows_of(batches: Vec<RecordBatch>) -> SendableRecordBatchStream {
        let schema = batches[0].schema();
        Box::pin(RecordBatchStreamAdapter::new(schema, stream::iter(batches).map(Ok)))
    }

    fn written(batches: Vec<RecordBatch>, style: impl Into<Style>) -> Result<Vec<u8>> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let mut out = Vec::new();
        let count = block_on(write(rows_of(batches), &style.into(), &mut out))?;
        assert_eq!(count, Written { rows: rows as u64, is_cut: false });
        Ok(out)
    }

    fn text(batches: Vec<RecordBatch>, style: impl Into<Style>) -> String {
        String::from_utf8(written(batches, style).unwrap()).unwrap()
    }

    fn on_terminal(format: Format, width: usize, color: bool) -> Style {
        Style { terminal: Some(Terminal { width, color }), ..Style::from(format) }
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
        let style =
            Style { header: false, null: Some("-".to_owned()), ..Style::from(Format::Table) };
        assert_eq!(
            text(vec![sensors().slice(1, 2)], style),
            " -     | -20.25\n a,\"b\" |      -\n"
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

    /// What is written, of which only the longest write is kept.
    #[derive(Default)]
    struct Longest(usize);

    impl Write for Longest {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.max(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn long_rows_are_encoded_a_few_at_a_time() {
        let texts = || (0..2000).map(|_| "x".repeat(20_000));
        let mut lists = ListBuilder::new(StringBuilder::new());
        for text in texts() {
            lists.append_value([Some(text)]);
        }
        let keys = Int8Array::from_iter_values((0..2000).map(|row| (row % 2) as i8));
        let values = Arc::new(StringArray::from_iter_values(texts().take(2)));
        let columns: [ArrayRef; 4] = [
            Arc::new(StringArray::from_iter_values(texts())),
            Arc::new(StringViewArray::from_iter_values(texts())),
            Arc::new(lists.finish()),
            Arc::new(DictionaryArray::new(keys, values)),
        ];
        for column in columns {
            let data_type = column.data_type().clone();
            let batch = batch(vec![("x", column)]);
            let mut rows = Rows::new(rows_of(vec![batch.clone()]), None);
            while let Some(slice) = block_on(rows.next()).unwrap() {
                // 52 fit.
                assert!(slice.num_rows() <= 52, "{data_type}: {}", slice.num_rows());
                assert!(slice.num_rows() > 25 || rows.rest.is_none(), "{data_type}");
            }
            assert_eq!(rows.written.rows, 2000, "{data_type}");
            for format in [Format::Csv, Format::Table] {
                let mut longest = Longest::default();
                block_on(write(rows_of(vec![batch.clone()]), &format.into(), &mut longest))
                    .unwrap();
                assert!(longest.0 < 2 * SLICE_BYTES, "{data_type} {format:?}: {}", longest.0);
            }
        }
        // What is short is not cut up because it shares its buffers with what is long.
        let long = ["x".repeat(20_000), "short".to_owned()];
        let views = StringViewArray::from_iter_values(
            long.iter().chain(std::iter::repeat_n(&long[1], 5000)),
        );
        let mut rows =
            Rows::new(rows_of(vec![batch(vec![("x", Arc::new(views))]).slice(1, 5000)]), None);
        assert_eq!(block_on(rows.next()).unwrap().unwrap().num_rows(), 5000);
    }

    #[test]
    fn the_head_of_a_table_is_bounded_in_bytes() {
        let row = || batch(vec![("x", Arc::new(StringArray::from(vec!["x".repeat(1 << 20)])))]);
        let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = taken.clone();
        let rows = stream::iter((0..100).map(move |_| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(row())
        }));
        struct Seen(Arc<std::sync::atomic::AtomicUsize>, Option<usize>);
        impl Write for Seen {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.1.get_or_insert(self.0.load(std::sync::atomic::Ordering::Relaxed));
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let stream = Box::pin(RecordBatchStreamAdapter::new(row().schema(), rows));
        let mut seen = Seen(taken, None);
        block_on(write(stream, &Format::Table.into(), &mut seen)).unwrap();
        assert_eq!(seen.1, Some(16));
    }

    #[test]
    fn a_table_on_a_terminal_has_a_frame_and_fits() {
        let rows = batch(vec![
            ("id", Arc::new(Int64Array::from(vec![Some(1), None, Some(300)]))),
            (
                "text",
                Arc::new(StringArray::from(vec![
                    "Filter: x > 5 and more\n  Scan",
                    "日本語\u{202e}\u{1b}",
                    "שלום",
                ])),
            ),
            ("x", Arc::new(Float64Array::from(vec![1.5, 2.0, -3.25]))),
        ]);
        assert_eq!(
            text(vec![rows.clone()], on_terminal(Format::Table, 40, false)),
            "┌────────┬────────────────────┬────────┐\n\
         │     id │ text               │      x │\n\
         │ bigint │ varchar            │ double │\n\
         ├────────┼────────────────────┼────────┤\n\
         │      1 │ Filter: x > 5 and… │    1.5 │\n\
         │        │   Scan             │        │\n\
         │   NULL │ 日本語\\u{202e}\\u{… │    2.0 │\n\
         │    300 │ \u{200e}שלום\u{200e}               │  -3.25 │\n\
         └────────┴────────────────────┴────────┘\n\
         (3 rows)\n"
        );
        let colored = text(vec![rows.slice(1, 1)], on_terminal(Format::Table, 80, true));
        assert!(
            colored.contains("│   \u{1b}[2mNULL\u{1b}[0m │ 日本語\\u{202e}\\u{1b} │"),
            "{colored}"
        );
        assert!(colored.ends_with("(1 row)\n"), "{colored}");

        let column =
            |at: usize| (format!("c{at}"), Arc::new(Int32Array::from(vec![at as i32])) as ArrayRef);
        let wide = RecordBatch::try_from_iter((0..40).map(column)).unwrap();
        assert_eq!(
            text(vec![wide], on_terminal(Format::Table, 30, false)),
            "┌─────┬─────┬───┬─────┬─────┐\n\
         │  c0 │  c1 │ … │ c38 │ c39 │\n\
         │ int │ int │ … │ int │ int │\n\
         ├─────┼─────┼───┼─────┼─────┤\n\
         │   0 │   1 │ … │  38 │  39 │\n\
         └─────┴─────┴───┴─────┴─────┘\n\
         (1 row, 4 of 40 columns)\n"
        );
    }

    #[test]
    fn an_empty_result_still_has_its_frame() {
        let empty = || vec![sensors().slice(0, 0)];
        assert_eq!(text(empty(), Format::Table), " station | t\n---------+---\n");
        assert_eq!(text(empty(), Format::Csv), "station,t\n");
        assert_eq!(text(empty(), Format::Tsv), "station\tt\n");
        assert_eq!(text(empty(), Format::Json), "[]\n");
        assert_eq!(text(empty(), Format::Ndjson), "");
        assert_eq!(text(empty(), Format::Markdown), "| station | t |\n|---|--:|\n");
        assert_eq!(text(empty(), Format::Line), "");
        assert!(text(empty(), Format::Html).contains("<p>0 rows</p>"));
        assert_eq!(
            text(empty(), on_terminal(Format::Table, 80, false)),
            "┌─────────┬────────┐\n│ station │      t │\n│ varchar │ double │\n\
         ├─────────┼────────┤\n└─────────┴────────┘\n(0 rows)\n"
        );
    }

    #[test]
    fn csv_quotes_what_would_read_as_something_else() {
        for (format, null) in [
            (Format::Csv, "x,y"),
            (Format::Csv, "\"\""),
            (Format::Tsv, "\t"),
            (Format::Tsv, "a\nb"),
        ] {
            let style = Style { null: Some(null.to_owned()), ..Style::from(format) };
            let error = written(vec![sensors()], style).unwrap_err();
            assert!(error.message().starts_with(&format!("--null {null:?} ")), "{error}");
        }
        assert_eq!(
            text(vec![sensors(), sensors().slice(1, 1)], Format::Csv),
            "station,t\n\"zü\tri\n1\",1.5\n,-20.25\n\"a,\"\"b\"\"\",\n,-20.25\n"
        );
        let odd = batch(vec![
            (
                "a,b",
                Arc::new(StringArray::from(vec![
                    Some(""),
                    None,
                    Some("-"),
                    Some("cr\r"),
                    Some("x y"),
                ])),
            ),
            (
                "n",
                Arc::new(Int64Array::from(vec![
                    Some(i64::MIN),
                    None,
                    Some(0),
                    Some(7),
                    Some(12345),
                ])),
            ),
        ]);
        assert_eq!(
            text(vec![odd.clone()], Format::Csv),
            "\"a,b\",n\n\"\",-9223372036854775808\n,\n-,0\n\"cr\r\",7\nx y,12345\n"
        );
        let style = Style { header: false, null: Some("-".to_owned()), ..Style::from(Format::Csv) };
        assert_eq!(
            text(vec![odd], style),
            ",-9223372036854775808\n-,-\n\"-\",0\n\"cr\r\",7\nx y,12345\n"
        );
        assert_eq!(
            text(vec![sensors()], Format::Tsv),
            "station\tt\n\"zü\tri\n1\"\t1.5\n\t-20.25\n\"a,\"\"b\"\"\"\t\n"
        );
    }

    #[test]
    fn json_is_an_array_or_one_object_a_line() {
        let lines = "{\"station\":\"zü\\tri\\n1\",\"t\":1.5}\n{\"station\":null,\"t\":-20.25}\n\
                 {\"station\":\"a,\\\"b\\\"\",\"t\":null}\n";
        assert_eq!(text(vec![sensors()], Format::Ndjson), lines);
        let array = format!("[{}]\n", lines.trim_end().replace("}\n", "},\n"));
        assert_eq!(text(vec![sensors()], Format::Json), array);
        let parts = vec![sensors().slice(0, 1), sensors().slice(1, 2)];
        assert_eq!(text(parts, Format::Json), array);
    }

    #[test]
    fn markdown_lines_and_pages_hold_any_text() {
        let odd = batch(vec![
            ("a|b", Arc::new(StringArray::from(vec![Some("<x>|\\\r\n&"), None]))),
            ("long name", Arc::new(Int64Array::from(vec![1, 20]))),
        ]);
        assert_eq!(
            text(vec![odd.clone()], Format::Markdown),
            "| a\\|b | long name |\n|---|--:|\n\
         | &lt;x>\\|\\\\<br>&amp; | 1 |\n| NULL | 20 |\n"
        );
        assert_eq!(
            text(vec![odd.clone()], Format::Line),
            "      a|b = <x>|\\\r\n            &\nlong name = 1\n\n      a|b = NULL\nlong name = 20\n"
        );
        let page = text(vec![odd], Format::Html);
        assert!(
            page.starts_with(
                "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">"
            )
        );
        let table = &page[page.find("<body>").unwrap()..];
        assert_eq!(
            table,
            "<body>\n<table>\n<thead>\n<tr><th>a|b<small>varchar</small></th>\
         <th>long name<small>bigint</small></th></tr>\n</thead>\n<tbody>\n\
         <tr><td>&lt;x&gt;|\\\\r\n&amp;</td><td>1</td></tr>\n\
         <tr><td><i>NULL</i></td><td>20</td></tr>\n\
         </tbody>\n</table>\n<p>2 rows</p>\n</body>\n</html>\n"
        );
    }

    #[test]
    fn no_control_character_reaches_a_terminal() {
        let evil = "a\u{1b}[31m\u{7f}\u{9b}\r\u{202e}b";
        let rows = batch(vec![(evil, Arc::new(StringArray::from(vec![evil])))]);
        for format in Format::ALL.into_iter().filter(|format| !format.is_binary()) {
            if format == Format::Chart {
                continue;
            }
            let shown = text(vec![rows.clone()], on_terminal(format, 80, false));
            let is_bad = |character: char| {
                (character.is_control() && character != '\n') || character == '\u{202e}'
            };
            assert!(!shown.contains(is_bad), "{format:?}: {shown:?}");
        }
        let json = text(vec![rows.clone()], on_terminal(Format::Ndjson, 80, false));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value[evil], evil);
        // Elsewhere values are as they are.
        assert_eq!(text(vec![rows], Format::Csv), format!("\"{evil}\"\n\"{evil}\"\n"));
    }

    #[test]
    fn rows_max_leaves_out_the_others() {
        let many =
            batch(vec![("n", Arc::new(Int64Array::from_iter_values(0..20_000)) as ArrayRef)]);
        for (rows_max, is_cut) in
            [(0, true), (1, true), (9_999, true), (20_000, false), (u64::MAX, false)]
        {
            let mut style = on_terminal(Format::Table, 80, false);
            style.rows_max = Some(rows_max);
            let mut out = Vec::new();
            let written = block_on(write(rows_of(vec![many.clone()]), &style, &mut out)).unwrap();
            assert_eq!(written, Written { rows: rows_max.min(20_000), is_cut });
            let text = String::from_utf8(out).unwrap();
            let first = if is_cut { "first " } else { "" };
            let plural = if rows_max == 1 { "" } else { "s" };
            let footer = format!("({first}{} row{plural})\n", written.rows);
            assert!(text.ends_with(&footer), "{}", &text[text.len() - 60..]);
        }
    }

    #[test]
    fn rows_come_in_order_from_all_workers_and_before_an_error() {
        let many =
            batch(vec![("n", Arc::new(Int64Array::from_iter_values(0..100_000)) as ArrayRef)]);
        let schema = many.schema();
        let failed = || Err(datafusion::error::DataFusionError::from(Error::invalid("no more")));
        let mut expected = "n\n".to_owned();
        (0..100_000).for_each(|n| expected.push_str(&format!("{n}\n")));
        let runtimes = [
            tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap(),
            tokio::runtime::Builder::new_current_thread().build().unwrap(),
        ];
        for runtime in runtimes {
            for (rows, mark) in [(0..100_000, ""), (0..500, "short")] {
                let part = many.slice(rows.start, rows.len());
                let items = stream::iter([Ok(part), failed()]);
                let stream = Box::pin(RecordBatchStreamAdapter::new(schema.clone(), items));
                let mut out = Vec::new();
                let style = Style::from(if mark.is_empty() { Format::Csv } else { Format::Table });
                let error = runtime.block_on(write(stream, &style, &mut out)).unwrap_err();
                assert_eq!(error.message(), "no more");
                let out = String::from_utf8(out).unwrap();
                match mark {
                    "" => assert!(out == expected),
                    _ => assert_eq!(out.lines().count(), 502),
                }
            }
        }
    }

    #[test]
    fn parquet_and_arrow_read_back() {
        let bytes = written(vec![sensors(), sensors()], Format::Parquet).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        let back: Vec<RecordBatch> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
        assert_eq!(back[0].slice(3, 3), sensors());

        let bytes = written(vec![sensors(), sensors()], Format::Arrow).unwrap();
        let reader = FileReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
        let back: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(back, [sensors(), sensors()]);

        // Dictionaries that differ, and views.
        let part = |text: &str| {
            let dictionary: DictionaryArray<Int32Type> = [Some(text), None].into_iter().collect();
            batch(vec![
                ("d", Arc::new(dictionary) as ArrayRef),
                (
                    "v",
                    Arc::new(StringViewArray::from(vec![
                        text,
                        "a text that is longer than twelve",
                    ])),
                ),
            ])
        };
        let bytes = written(vec![part("x"), part("y")], Format::Arrow).unwrap();
        let reader = FileReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
        let back: Vec<RecordBatch> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(back[1].column(0).as_string::<i32>().value(0), "y");
        assert_eq!(back[1].column(1).as_string::<i32>().value(0), "y");
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
                let style = format.into();
                let mut out = Failing(kind);
                let error =
                    block_on(write(rows_of(vec![sensors()]), &style, &mut out)).unwrap_err();
                assert_eq!(
                    is_closed_pipe(&error),
                    kind == std::io::ErrorKind::BrokenPipe,
                    "{format:?}: {error}"
                );
            }
        }
    }

    /// A column of each type, with three rows, the last of which is NULL.
    fn every_type() -> RecordBatch {
        let ints =
            |values: [i32; 2]| Int32Array::from(vec![Some(values[0]), Some(values[1]), None]);
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            Some(vec![]),
            None,
        ]);
        let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
            [Some(vec![Some(1), Some(2)]), Some(vec![None, Some(4)]), None],
            2,
        );
        let structs = StructArray::new(
            Fields::from(vec![
                Field::new("n", DataType::Int32, true),
                Field::new("t", DataType::Utf8, true),
            ]),
            vec![
                Arc::new(ints([1, 2])),
                Arc::new(StringArray::from(vec![Some("a\"b"), None, None])),
            ],
            Some(vec![true, true, false].into()),
        );
        let mut map = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
        map.keys().append_value(5);
        map.values().append_value("five");
        map.append(true).unwrap();
        map.append(true).unwrap();
        map.append(false).unwrap();
        let fields = UnionFields::try_new(
            [0, 1],
            [Field::new("n", DataType::Int32, true), Field::new("t", DataType::Utf8, true)],
        )
        .unwrap();
        let dense = UnionArray::try_new(
            fields.clone(),
            ScalarBuffer::from(vec![0_i8, 1, 0]),
            Some(ScalarBuffer::from(vec![0, 0, 1])),
            vec![
                Arc::new(Int32Array::from(vec![Some(7), None])),
                Arc::new(StringArray::from(vec!["text"])),
            ],
        )
        .unwrap();
        let sparse = UnionArray::try_new(
            fields,
            ScalarBuffer::from(vec![0_i8, 1, 0]),
            None,
            vec![Arc::new(ints([7, 8])), Arc::new(StringArray::from(vec!["a", "text", "c"]))],
        )
        .unwrap();
        let runs = RunArray::<Int32Type>::try_new(
            &Int32Array::from(vec![2, 3]),
            &StringArray::from(vec![Some("run"), None]),
        )
        .unwrap();
        let dictionary: DictionaryArray<Int8Type> =
            [Some("one"), Some("two"), None].into_iter().collect();
        let views = ListViewArray::new(
            Arc::new(Field::new("item", DataType::Int32, true)),
            ScalarBuffer::from(vec![1, 0, 0]),
            ScalarBuffer::from(vec![2, 1, 0]),
            Arc::new(Int32Array::from(vec![1, 2, 3])),
            Some(vec![true, true, false].into()),
        );
        let day = 86_400_i64;
        let array = |array: &dyn Array| make_array(array.to_data());
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("null", Arc::new(NullArray::new(3))),
            ("bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
            ("i8", Arc::new(Int8Array::from(vec![Some(i8::MIN), Some(9), None]))),
            ("i16", Arc::new(Int16Array::from(vec![Some(i16::MAX), Some(10), None]))),
            ("i32", Arc::new(ints([-1, 99]))),
            ("i64", Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(-100), None]))),
            ("u8", Arc::new(UInt8Array::from(vec![Some(255), Some(0), None]))),
            ("u16", Arc::new(UInt16Array::from(vec![Some(65_535), Some(1), None]))),
            ("u32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), Some(2), None]))),
            ("u64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(3), None]))),
            ("f32", Arc::new(Float32Array::from(vec![Some(1.5e20), Some(f32::NAN), None]))),
            (
                "f64",
                Arc::new(Float64Array::from(vec![Some(-1e300), Some(f64::NEG_INFINITY), None])),
            ),
            (
                "dec",
                Arc::new(
                    Decimal128Array::from(vec![Some(-12_345), Some(5), None])
                        .with_precision_and_scale(10, 2)
                        .unwrap(),
                ),
            ),
            ("text", Arc::new(StringArray::from(vec![Some("a,b"), Some(""), None]))),
            ("large", Arc::new(LargeStringArray::from(vec![Some("é"), Some("x"), None]))),
            (
                "view",
                Arc::new(StringViewArray::from(vec![Some("longer than twelve"), Some("y"), None])),
            ),
            ("bytes", Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255]), Some(&[]), None]))),
            ("date", Arc::new(Date32Array::from(vec![Some(-719_528), Some(20_089), None]))),
            ("date64", Arc::new(Date64Array::from(vec![Some(day * 1000), Some(0), None]))),
            ("time", Arc::new(Time32MillisecondArray::from(vec![Some(3_661_001), Some(0), None]))),
            (
                "time64",
                Arc::new(Time64MicrosecondArray::from(vec![Some(1), Some(60_000_000), None])),
            ),
            (
                "s",
                Arc::new(TimestampSecondArray::from(vec![Some(253_402_300_799), Some(-1), None])),
            ),
            ("ms", Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), Some(0), None]))),
            (
                "us",
                Arc::new(
                    TimestampMicrosecondArray::from(vec![Some(1_000_001), Some(-1), None])
                        .with_timezone("UTC"),
                ),
            ),
            (
                "ns",
                Arc::new(
                    TimestampNanosecondArray::from(vec![Some(1), Some(0), None])
                        .with_timezone("+02:00"),
                ),
            ),
            ("dur", Arc::new(DurationSecondArray::from(vec![Some(90_061), Some(-1), None]))),
            ("ym", Arc::new(IntervalYearMonthArray::from(vec![Some(14), Some(0), None]))),
            (
                "mdn",
                Arc::new(IntervalMonthDayNanoArray::from(vec![
                    Some(IntervalMonthDayNano::new(1, 2, 3_000_000_000)),
                    Some(IntervalMonthDayNano::new(0, 0, 0)),
                    None,
                ])),
            ),
            ("dict", Arc::new(dictionary)),
            ("runs", array(&runs)),
            ("list", Arc::new(list)),
            ("fixed", Arc::new(fixed)),
            ("views", Arc::new(views)),
            ("struct", Arc::new(structs)),
            ("map", Arc::new(map.finish())),
            ("dense", Arc::new(dense)),
            ("sparse", Arc::new(sparse)),
        ];
        batch(columns)
    }

    #[test]
    fn every_type_is_written_in_every_text() {
        let all = every_type();
        let expected = [
            "null,bool,i8,i16,i32,i64,u8,u16,u32,u64,f32,f64,dec,text,large,view,bytes,date,date64,\
         time,time64,s,ms,us,ns,dur,ym,mdn,dict,runs,list,fixed,views,struct,map,dense,sparse",
            ",true,-128,32767,-1,9223372036854775807,255,65535,4294967295,18446744073709551615,1.5e20,\
         -1e300,-123.45,\"a,b\",é,longer than twelve,00ff,0000-01-01,1970-01-02T00:00:00,\
         01:01:01.001,00:00:00.000001,9999-12-31T23:59:59,1970-01-01T00:00:01.500,\
         1970-01-01T00:00:01.000001Z,1970-01-01T02:00:00.000000001+02:00,PT90061S,1 years 2 mons,\
         1 mons 2 days 3.000000000 secs,one,run,\"[1,null]\",\"[1,2]\",\"[2,3]\",\
         \"{\"\"n\"\":1,\"\"t\"\":\"\"a\\\"\"b\"\"}\",\"{\"\"5\"\":\"\"five\"\"}\",7,7",
            ",false,9,10,99,-100,0,1,2,3,NaN,-inf,0.05,\"\",x,y,,2025-01-01,1970-01-01T00:00:00,\
         00:00:00,00:01:00,1969-12-31T23:59:59,1970-01-01T00:00:00,1969-12-31T23:59:59.999999Z,\
         1970-01-01T02:00:00+02:00,-PT1S,0 years 0 mons,0 secs,two,run,[],\"[null,4]\",[1],\
         \"{\"\"n\"\":2,\"\"t\"\":null}\",{},\"\"\"text\"\"\",\"\"\"text\"\"\"",
            ",,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,",
        ];
        assert_eq!(text(vec![all.clone()], Format::Csv), expected.join("\n") + "\n");
        let line = text(vec![all.slice(0, 2)], Format::Ndjson);
        let values: Vec<serde_json::Value> =
            line.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(values[0]["u64"], u64::MAX);
        assert_eq!(values[0]["dec"], -123.45);
        assert_eq!(values[1]["f32"], serde_json::Value::Null);
        assert_eq!(values[1]["f64"], serde_json::Value::Null);
        assert_eq!(values[0]["list"], serde_json::json!([1, null]));
        assert_eq!(values[0]["struct"], serde_json::json!({"n": 1, "t": "a\"b"}));
        assert_eq!(values[0]["map"], serde_json::json!({"5": "five"}));
        assert_eq!(values[0]["dense"], 7);
        assert_eq!(values[1]["sparse"], "text");
        assert_eq!(values[0]["us"], "1970-01-01T00:00:01.000001Z");
        // All others have a text of each value as well, in a slice as in the whole.
        for format in
            [Format::Table, Format::Tsv, Format::Json, Format::Markdown, Format::Line, Format::Html]
        {
            let style = Style { header: false, ..Style::from(format) };
            for row in 0..3 {
                let one = text(vec![all.slice(row, 1)], style.clone());
                assert_eq!(one.contains("PT"), row < 2, "{format:?}: {one}");
            }
            text(vec![all.clone()], on_terminal(format, 200, true));
        }
    }

    #[test]
    fn the_text_of_a_value_is_that_of_arrow() {
        let mut columns = every_type().columns().to_vec();
        let numbers = || {
            (-330..=308).flat_map(|power| {
                ["1", "1.5", "-2.25", "123456789.25", "9.999999999999999"]
                    .map(|digits| format!("{digits}e{power}").parse::<f64>().unwrap())
            })
        };
        columns.push(Arc::new(Float64Array::from_iter_values(
            numbers().chain([0.0, -0.0, 1e15, 1e16]),
        )));
        columns.push(Arc::new(Float32Array::from_iter_values(numbers().map(|value| value as f32))));
        columns.push(Arc::new(Int64Array::from_iter_values(
            (0..63).flat_map(|power| [1 << power, (1_i64 << power) - 1, -(1 << power)]),
        )));
        let days = || (-800_000..3_000_000).step_by(997);
        columns.push(Arc::new(Date32Array::from_iter_values(days())));
        let seconds = days().map(|day| i64::from(day) * 86_399);
        columns.push(Arc::new(TimestampSecondArray::from_iter_values(seconds)));
        let micros = days().map(|day| i64::from(day) * 86_399_000_123);
        columns.push(Arc::new(
            TimestampMicrosecondArray::from_iter_values(micros).with_timezone("+00:00"),
        ));
        let nanos = days().map(|day| i64::from(day) * 3_000_000_000_123);
        columns.push(Arc::new(TimestampNanosecondArray::from_iter_values(nanos)));
        for array in columns {
            let options = FormatOptions::new().with_null("NULL");
            let format = ArrayFormatter::try_new(array.as_ref(), &options).unwrap();
            let column = cell::Column::new(&array).unwrap();
            for row in 0..array.len() {
                if column.is_null(row) {
                    continue;
                }
                let mut text = Vec::new();
                column.text(row, &mut text).unwrap();
                let text = String::from_utf8(text).unwrap();
                assert_eq!(text, format.value(row).to_string(), "{}", array.data_type());
            }
        }
    }

    // ---------------------------------------------------------------------------------------------
    // Charts.

    fn days() -> RecordBatch {
        let times = (0..49).map(|hour| 1_735_689_600_000_000 + hour * 3_600_000_000);
        let part = |hour: i32| f64::from(hour) / 24.0 * std::f64::consts::TAU;
        batch(vec![
            ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values(times))),
            (
                "x",
                Arc::new(Float64Array::from_iter_values(
                    (0..49).map(|hour| part(hour).sin() * 10.0),
                )),
            ),
            ("station", Arc::new(StringArray::from_iter_values((0..49).map(|_| "basel")))),
            (
                "n",
                Arc::new(Int64Array::from_iter(
                    (0..49).map(|hour| (hour % 2 == 0).then_some(hour)),
                )),
            ),
        ])
    }

    #[test]
    fn lines_over_time_are_drawn_with_axes() {
        let chart = text(vec![days()], Format::Chart);
        assert!(!chart.contains('\u{1b}'));
        assert!(chart.lines().all(|line| line.chars().count() <= 80), "{chart}");
        assert!(chart.starts_with("x\n 10 ┤"), "{chart}");
        assert!(chart.contains("\nn\n"), "{chart}");
        assert!(chart.ends_with("ts: 2025-01-01 … 2025-01-03\n"), "{chart}");
        let colored = text(vec![days()], on_terminal(Format::Chart, 100, true));
        assert!(
            colored.contains("━\u{1b}[0m x  \u{1b}[38;2;230;159;0m━\u{1b}[0m n\n"),
            "{colored}"
        );
        let svg = text(vec![days()], Format::Svg);
        for part in ["<svg", "x, n by ts", "01-02", "ts: 2025-01-01 … 2025-01-03"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        let png = written(vec![days()], Format::Png).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        let inked = pixels.chunks(3).filter(|pixel| *pixel != [255, 255, 255]).count();
        assert!((1000..200_000).contains(&inked), "{inked}");
    }

    #[test]
    fn bars_are_drawn_by_name() {
        let bars = batch(vec![
            ("name", Arc::new(StringArray::from(vec![Some("a"), Some("bb\u{1b}"), None]))),
            ("n", Arc::new(Int64Array::from(vec![Some(10), Some(-5), None]))),
        ]);
        assert_eq!(
            text(vec![bars.slice(0, 1)], on_terminal(Format::Chart, 40, false)),
            format!("n by name\na │{} 10\n", "█".repeat(34))
        );
        assert_eq!(
            text(vec![bars.clone()], on_terminal(Format::Chart, 40, false)),
            "n by name\n       a │        ████████████████▋ 10\nbb\\u{1b} │████████ -5\n    NULL │         NULL\n"
        );
        let svg = text(vec![bars], Format::Svg);
        assert!(svg.contains("n by name") && svg.contains("NULL"), "{svg}");
    }

    #[test]
    fn what_cannot_be_drawn_is_told() {
        let message = |columns: &[usize], rows: usize| {
            let part = days().project(columns).unwrap().slice(0, rows);
            written(vec![part], Format::Chart).unwrap_err().message().to_owned()
        };
        assert_eq!(
            message(&[0, 2], 49),
            "the result has no column of numbers to draw: its columns are ts timestamp, station varchar"
        );
        assert_eq!(
            message(&[0, 1], 0),
            "the result has no rows to draw: its columns are ts timestamp, x double"
        );
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some([Some(1)])]);
        let odd = batch(vec![("l", Arc::new(list)), ("n", Arc::new(Int32Array::from(vec![1])))]);
        let error = written(vec![odd], Format::Svg).unwrap_err();
        assert_eq!(
            error.message(),
            "the result begins with no time, number or name to draw: its columns are l int[], n int"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_column_of_numbers_alone_is_drawn_over_its_rows_and_a_point_is_seen() {
        let one = text(vec![days().project(&[1]).unwrap()], Format::Chart);
        assert!(one.ends_with("row: 1 … 49\n"), "{one}");
        for format in [Format::Chart, Format::Svg] {
            let point = text(vec![days().project(&[0, 1]).unwrap().slice(0, 1)], format);
            assert!(point.contains("ts: 2025-01-01 … 2025-01-01"), "{point}");
        }
        let flat = batch(vec![
            ("x", Arc::new(Float64Array::from(vec![-8e307, 8e307]))),
            ("y", Arc::new(Float64Array::from(vec![-8e307, 8e307]))),
        ]);
        for format in [Format::Chart, Format::Svg, Format::Png] {
            written(vec![flat.clone()], format).unwrap();
        }
    }
}
