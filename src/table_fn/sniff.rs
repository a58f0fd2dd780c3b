//! `sniff(path [, options])`: how CSV files would be read, a row for each column of each file.
//!
//! `path` is that of a file, whatever it is called, or a glob. The options are those of
//! `csv_to_parquet`; what they do not give is detected from the beginning of the text. `sql` is what
//! to give to read just so, options and columns, ready to be changed: `CREATE NODE … FACTORY
//! csv_to_parquet WITH (source = …, sql)`. `complete` says whether all of the text was looked at.
//!
//! A file that cannot be told is an error; among the files of a glob, it is a row with its `error`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;
use futures::stream::{self, StreamExt};

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use super::{FilesAt, files_at};
use crate::catalog::Binding;
use crate::error::{Error, Result};
use crate::factory::csv::{as_text, reading_options};
use crate::format::{
    Compression, CsvColumn, CsvOptions, CsvText, Dialect, Encoding, Layout, TimestampFormat,
};
use crate::node::{File, Match, Node};
use crate::path::PondPath;
use crate::sql::sql_type;

/// How many files are looked at together.
const FILES: usize = 16;

const PATH: &str = "path";

/// The function.
pub(super) static SIGNATURE: Signature = Signature {
    name: "sniff",
    parameters: &[
        PATH,
        "delimiter",
        "has_header",
        "quote",
        "escape",
        "comment",
        "null_values",
        "timestamp_format",
        "target_schema",
        "temporal_column",
        "compression",
        "encoding",
    ],
};

/// `sniff()` of one binding.
#[derive(Debug)]
pub(super) struct Sniff(pub Arc<Binding>);

impl TableFunctionImpl for Sniff {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let path = self.0.path(&args.required_text(PATH)?)?;
        let mut given = Vec::new();
        for name in &SIGNATURE.parameters[1..] {
            if let Some(value) = args.option(name)? {
                given.push(((*name).to_owned(), value));
            }
        }
        let (options, temporal_column) = reading_options(given)?;
        let how = Arc::new(How { options, temporal_column });
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(schema(), move || {
            let (binding, path, how) = (binding.clone(), path.clone(), how.clone());
            async move { batch(&sniff(&binding, &path, &how).await?) }
        })))
    }
}

/// What is said of the files.
struct How {
    options: CsvOptions,
    temporal_column: Option<String>,
}

/// What is told of one file.
struct Sniffed {
    path: PondPath,
    layout: Result<Layout>,
}

async fn sniff(binding: &Arc<Binding>, path: &PondPath, how: &How) -> Result<Vec<Sniffed>> {
    let session = binding.engine()?;
    let example = format!("sniff('{}')", path.child("*.csv"));
    let (root, found) = match files_at(binding, path, &example).await? {
        FilesAt::One(file) => {
            let layout = sniff_file(&session, path, file.as_ref(), how).await?;
            return Ok(vec![Sniffed { path: path.clone(), layout: Ok(layout) }]);
        }
        FilesAt::Matches { root, found } => (root, found),
    };
    let (session, root) = (&session, &root);
    let sniff_one = |found: Match| async move {
        let layout = match found.open(root).await {
            Ok(Some(Node::File(file))) => {
                sniff_file(session, &found.path, file.as_ref(), how).await
            }
            Ok(_) => return None,
            Err(error) => Err(error),
        };
        Some(Sniffed { path: found.path, layout })
    };
    let sniffed: Vec<_> =
        stream::iter(found).map(sniff_one).boxed().buffered(FILES).collect().await;
    Ok(sniffed.into_iter().flatten().collect())
}

async fn sniff_file(
    session: &dyn Session,
    path: &PondPath,
    file: &dyn File,
    how: &How,
) -> Result<Layout> {
    let Some(source) = file.text_source(Some(session)).await? else {
        return Err(Error::unsupported(format!("'{path}' is no text that can be looked at"))
            .with_hint("files of the pond and of host mounts are"));
    };
    let source = as_text(source, &how.options, how.temporal_column.as_deref())?;
    Ok(CsvText::open(session, source)?.layout().await?.as_ref().clone())
}

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name| Field::new(name, DataType::Utf8View, true);
        Arc::new(Schema::new(vec![
            Field::new("path", DataType::Utf8View, false),
            // From 1; there is a row without one for a file that has none.
            Field::new("position", DataType::Int64, true),
            text("name"),
            text("type"),
            text("delimiter"),
            text("quote"),
            text("escape"),
            text("comment"),
            Field::new("has_header", DataType::Boolean, true),
            text("encoding"),
            text("compression"),
            Field::new("complete", DataType::Boolean, true),
            text("sql"),
            text("error"),
        ]))
    });
    SCHEMA.clone()
}

/// One row.
struct Row<'a> {
    sniffed: &'a Sniffed,
    layout: Option<&'a Layout>,
    column: Option<(usize, &'a CsvColumn)>,
    sql: Option<&'a str>,
}

fn batch(files: &[Sniffed]) -> Result<RecordBatch> {
    let sqls: Vec<Option<String>> =
        files.iter().map(|file| file.layout.as_ref().ok().map(layout_sql)).collect();
    let rows: Vec<Row> = files
        .iter()
        .zip(&sqls)
        .flat_map(|(sniffed, sql)| {
            let layout = sniffed.layout.as_ref().ok();
            let columns = layout.map_or(&[][..], |layout| &layout.columns);
            let no_column = columns.is_empty().then_some(None);
            let columns = columns.iter().enumerate().map(Some);
            columns.chain(no_column).map(move |column| Row {
                sniffed,
                layout,
                column,
                sql: sql.as_deref(),
            })
        })
        .collect();
    let text = |value: fn(&Row) -> Option<String>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringViewArray>())
    };
    let byte = |value: fn(&Dialect) -> Option<u8>| -> ArrayRef {
        let bytes = rows.iter().map(|row| value(&row.layout?.dialect).map(byte_word));
        Arc::new(bytes.collect::<StringViewArray>())
    };
    let flag = |value: fn(&Layout) -> bool| -> ArrayRef {
        Arc::new(rows.iter().map(|row| row.layout.map(value)).collect::<BooleanArray>())
    };
    let positions = rows.iter().map(|row| i64::try_from(row.column?.0 + 1).ok());
    let columns: Vec<ArrayRef> = vec![
        text(|row| Some(row.sniffed.path.to_string())),
        Arc::new(positions.collect::<Int64Array>()),
        text(|row| Some(row.column?.1.name.clone())),
        text(|row| Some(type_of(row.column?.1))),
        byte(|dialect| Some(dialect.delimiter)),
        byte(|dialect| dialect.quote),
        byte(|dialect| dialect.escape),
        byte(|dialect| dialect.comment),
        flag(|layout| layout.dialect.has_header),
        text(|row| Some(row.layout?.dialect.encoding.as_str().to_owned())),
        text(|row| Some(row.layout?.dialect.compression.as_str().to_owned())),
        flag(|layout| layout.is_whole),
        text(|row| row.sql.map(str::to_owned)),
        text(|row| row.sniffed.layout.as_ref().err().map(ToString::to_string)),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

fn type_of(column: &CsvColumn) -> String {
    sql_type(&column.data_type).unwrap_or_else(|| column.data_type.to_string())
}

/// Writes the options that make a text be read by a layout.
fn layout_sql(layout: &Layout) -> String {
    let dialect = &layout.dialect;
    let text = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let byte = |byte: Option<u8>| text(&byte.map_or("none".to_owned(), byte_word));
    let mut options = vec![
        ("delimiter", byte(Some(dialect.delimiter))),
        ("has_header", dialect.has_header.to_string()),
        ("quote", byte(dialect.quote)),
        ("escape", byte(dialect.escape)),
        ("comment", byte(dialect.comment)),
    ];
    if !dialect.nulls.is_empty() {
        let nulls: Vec<_> = dialect.nulls.iter().map(|null| text(null)).collect();
        options.push(("null_values", format!("({})", nulls.join(", "))));
    }
    if let Some(format) = &dialect.timestamp_format {
        let format = match format {
            TimestampFormat::Strftime(directives) => directives,
            TimestampFormat::Epoch(1) => "unix",
            TimestampFormat::Epoch(1_000) => "unix_ms",
            TimestampFormat::Epoch(1_000_000) => "unix_us",
            TimestampFormat::Epoch(_) => "unix_ns",
        };
        options.push(("timestamp_format", text(format)));
    }
    if dialect.compression != Compression::None {
        options.push(("compression", text(dialect.compression.as_str())));
    }
    if dialect.encoding != Encoding::Utf8 {
        options.push(("encoding", text(dialect.encoding.as_str())));
    }
    let columns: Vec<_> = layout
        .columns
        .iter()
        .map(|column| format!("\"{}\" {}", column.name.replace('"', "\"\""), type_of(column)))
        .collect();
    if !columns.is_empty() {
        options.push(("target_schema", text(&columns.join(", "))));
    }
    let options = options.into_iter().map(|(name, value)| format!("{name} = {value}"));
    options.collect::<Vec<_>>().join(", ")
}

/// Writes a byte of a dialect as the options have it.
fn byte_word(byte: u8) -> String {
    match byte {
        b'\t' => "tab".to_owned(),
        _ => char::from(byte).to_string(),
    }
}
