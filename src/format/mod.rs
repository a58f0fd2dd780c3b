//! Bytes as tables: Parquet, CSV, JSON lines and Arrow files at object-store URLs, scanned by the
//! engine's own sources, but for CSV, which is read by ours.
//!
//! [`open_table`] makes one table of any number of files. It learns the columns of each (from a
//! Parquet footer, an Arrow schema message, or the first part of a text), unites them by name, and
//! lowers a scan to `DataSourceExec`s, a projection where a file's columns need names or types
//! changed, and a union where the files differ in kind.
//!
//! Invariants:
//! - Columns match by name, never by position; a column that a file lacks is null.
//! - Types widen without loss of meaning (`widen.rs`), or opening fails and names both files.
//! - A scan reads the very files that were opened: one that changed since (size, time, or tag) ends
//!   in an error, never in other rows (`watch.rs`). There is no listing and no listing cache.
//! - An error names the pond path of the file, and a reader that panics is such an error.
//!
//! The types of a text's columns come from a sample. Where a CSV has a value beyond it that does not fit,
//! all of it is looked at, and the query begins again with types that hold every value, unless rows are
//! out already, or another session's engine runs it: then it is an error, and the next query is right.
//! A JSON column that first appears after the sample is not seen.
//!
//! Tables of the pond itself are Parquet files that never change and of which their rows in the oplog
//! tell all that planning needs ([`KnownTable`]). [`series_sources`] finds the files of a series,
//! [`stored_table`] makes one table of them, [`EncodedTable`] writes them, and [`Merge`] makes one file
//! of many.
//!
//! What is left out: formats without rows (their bytes can be read, and that is all), and writing any
//! other format than Parquet.

mod arrow;
mod csv;
mod ends;
mod facts;
mod inspect;
mod json;
mod lockstep;
mod merge;
mod parquet;
mod policy;
mod scans;
mod series;
mod statistics;
mod stored;
mod table;
mod text;
#[cfg(feature = "ballista")]
mod travel;
mod watch;
mod widen;
mod write;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};

use crate::error::{Error, Result};
use crate::node::File;
use crate::path::PondPath;
pub use csv::{
    Compression, Converted, CsvColumn, CsvOptions, CsvText, Dialect, Encoding, Layout, OnError,
    Passed, Reject, Temporal, TimestampFormat,
};
pub use ends::optimizer_rules;
pub use facts::KnownTable;
pub use inspect::facts_of_parquet;
pub use merge::{Merge, MergeFile};
pub use policy::{APPEND_TARGET_ROWS, MAINTAIN_TARGET_ROWS, Part, next_merge};
pub use scans::{Scan, scans_again, scans_of};
pub use series::{
    OpenTables, SeriesRows, Stored, TableKey, series_sources, stored_table, stored_table_as,
    table_source,
};
use stored::StoredTable;
use table::FileTable;
pub(crate) use text::unsettled_for;
#[cfg(feature = "ballista")]
pub use travel::{Travelling, travelling};
use watch::WatchedStore;
pub use write::{EncodedTable, TableWriter, detect_any_temporal, detect_temporal};

/// How a file's bytes make rows.
#[derive(Debug, Clone, PartialEq)]
pub enum TableFormat {
    /// Apache Parquet.
    Parquet,
    /// Delimited text.
    Csv(Arc<CsvOptions>),
    /// One JSON object a line.
    Json {
        /// How the file is compressed.
        compression: FileCompressionType,
    },
    /// Arrow IPC file or stream.
    Arrow,
}

/// One file that holds a table, where the engine can read it.
#[derive(Debug, Clone)]
pub struct TableSource {
    /// The file's name for users, and in errors.
    pub path: PondPath,
    /// The registered object store that holds it.
    pub store_url: ObjectStoreUrl,
    /// Its location, size and time there. No two stores share a location: the engine's cache of
    /// footers is keyed by it alone.
    pub object: ObjectMeta,
    /// How its bytes make rows.
    pub format: TableFormat,
    /// What is known without reading it.
    pub known: Option<Arc<KnownTable>>,
    /// Its bytes, where they are in no store: `object` is only their name then.
    pub inline: Option<Bytes>,
    /// Whether it is named by its content: it never changes, and is not watched.
    pub immutable: bool,
    /// What is to be done when the last plan that reads it is gone.
    pub after: Option<Arc<AfterReading>>,
    /// The text that it was converted from, to be read in its place where the types of many files are
    /// to be united: texts go with more than what was made of them.
    pub text: Option<Arc<TableSource>>,
}

/// Does something when it is dropped: when the last clone of a [`TableSource`] is.
pub struct AfterReading(Option<Box<dyn FnOnce() + Send + Sync>>);

impl AfterReading {
    /// Does `work` then.
    pub fn new(work: impl FnOnce() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self(Some(Box::new(work))))
    }
}

impl std::fmt::Debug for AfterReading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AfterReading").finish_non_exhaustive()
    }
}

impl Drop for AfterReading {
    fn drop(&mut self) {
        if let Some(work) = self.0.take() {
            work();
        }
    }
}

/// The endings of compressed text.
const COMPRESSIONS: [(&str, Compression); 4] = [
    (".gz", Compression::Gzip),
    (".zst", Compression::Zstd),
    (".bz2", Compression::Bzip2),
    (".xz", Compression::Xz),
];

impl TableFormat {
    /// Returns the format that a file's name tells, without regard to case, or `None` if it tells
    /// none.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let (name, compression) = COMPRESSIONS
            .iter()
            .find_map(|(ending, compression)| {
                Some((name.strip_suffix(ending)?, Some(*compression)))
            })
            .unwrap_or((&name, None));
        let (_, extension) = name.rsplit_once('.')?;
        match extension {
            "csv" => Some(Self::csv(None, compression)),
            "tsv" => Some(Self::csv(Some(b'\t'), compression)),
            "json" | "jsonl" | "ndjson" => Some(Self::Json {
                compression: compression.unwrap_or(Compression::None).file_type(),
            }),
            _ if compression.is_some() => None,
            "parquet" | "pq" | "table" | "series" => Some(Self::Parquet),
            "arrow" | "ipc" | "feather" => Some(Self::Arrow),
            _ => None,
        }
    }
}

impl TableFormat {
    /// Delimited text, of which the rest is to be seen.
    pub fn csv(delimiter: Option<u8>, compression: Option<Compression>) -> Self {
        Self::Csv(Arc::new(CsvOptions { delimiter, compression, ..CsvOptions::default() }))
    }

    /// Returns the format of a CSV file: what its name tells.
    pub fn csv_of_name(name: &str) -> Self {
        match Self::of_name(name) {
            Some(csv @ Self::Csv(_)) => csv,
            _ => {
                let name = name.to_ascii_lowercase();
                let told = COMPRESSIONS.iter().find(|(ending, _)| name.ends_with(ending));
                Self::csv(None, told.map(|(_, compression)| *compression))
            }
        }
    }
}

/// A source whose columns are known.
#[derive(Debug, Clone)]
struct OpenedFile {
    source: TableSource,
    schema: SchemaRef,
    kind: FileKind,
}

/// What a format needs to know of a file beyond its columns.
#[derive(Debug, Clone)]
enum FileKind {
    /// The footer, unless the table is known.
    Parquet(Option<Arc<datafusion::parquet::file::metadata::ParquetMetaData>>),
    Csv(Arc<Layout>),
    /// `sampled`: whether the types come from a part of the file only.
    Json {
        compression: FileCompressionType,
        sampled: bool,
    },
    ArrowFile,
    ArrowStream,
}

impl OpenedFile {
    /// Whether the types are a reading of text, and not what the writer said.
    fn is_guessed(&self) -> bool {
        matches!(self.kind, FileKind::Csv(_) | FileKind::Json { .. })
    }
}

/// Makes one table of `sources`: columns are matched by name, a column that a file lacks is null.
///
/// # Errors
/// `Invalid` if there is none, or if columns of one name have types that do not widen to one;
/// `Corrupt` if bytes are not what the format says. The error names the file.
pub async fn open_table(
    session: &dyn Session,
    mut sources: Vec<TableSource>,
) -> Result<Arc<dyn TableProvider>> {
    if sources.is_empty() {
        return Err(Error::invalid("a table needs at least one file"));
    }
    let known: Option<Vec<&KnownTable>> =
        sources.iter().map(|source| source.known.as_deref()).collect();
    if sources.iter().any(|source| source.text.is_some())
        && known.is_some_and(|known| !known_agree(&known))
    {
        sources = into_texts(sources);
    }
    let stored_together =
        |source: &TableSource| source.known.is_some() && source.store_url == sources[0].store_url;
    if sources.iter().all(stored_together) {
        return Ok(Arc::new(StoredTable::new(sources)?));
    }
    // A column without values has a type in Parquet, but none in the text.
    let is_blank = |source: &TableSource| {
        let known = source.known.as_deref()?;
        let text = source.text.as_ref().filter(|_| stored::schema_seen(known) != known.schema)?;
        Some(text.object.location.clone())
    };
    let blank: HashSet<_> = sources.iter().filter_map(is_blank).collect();
    let (texts, others): (Vec<_>, Vec<_>) = sources.into_iter().partition(|source| {
        source.text.as_ref().is_some_and(|text| blank.contains(&text.object.location))
    });
    let mut sources: Vec<TableSource> = into_texts(texts).into_iter().chain(others).collect();
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    let mut files = open_files(session, sources).await?;
    if files.iter().any(|file| file.source.text.is_some()) && !files_agree(&files) {
        let sources = files.into_iter().map(|file| file.source).collect();
        files = open_files(session, into_texts(sources)).await?;
    }
    let schema = widen::unite(files.iter().map(|file| widen::FileColumns {
        path: &file.source.path,
        schema: &file.schema,
        guessed: file.is_guessed(),
    }))?;
    Ok(Arc::new(FileTable::new(with_all_digits(schema, &files), files)))
}

/// Returns a table of stored files as the session reads text: in views, unless it is set not to.
///
/// # Errors
/// `Corrupt` for statistics that do not fit their columns.
pub fn as_configured(
    session: &dyn Session,
    table: Arc<dyn TableProvider>,
) -> Result<Arc<dyn TableProvider>> {
    let views = session.config_options().execution.parquet.schema_force_view_types;
    match table.downcast_ref::<StoredTable>() {
        Some(stored) if !views => match stored.without_views()? {
            Some(plain) => Ok(Arc::new(plain)),
            None => Ok(table),
        },
        _ => Ok(table),
    }
}

/// Whether types of conversions go together ([`widen::agree`]).
fn known_agree(tables: &[&KnownTable]) -> bool {
    let exact: Vec<_> = tables
        .iter()
        .map(|table| (stored::schema_seen(table), |place: usize| table.is_exact_as_float(place)))
        .collect();
    widen::agree(exact.iter().map(|(schema, is_exact)| widen::Made { schema, is_exact }))
}

/// Whether types of conversions and texts go together.
fn files_agree(files: &[OpenedFile]) -> bool {
    let exact: Vec<_> = files
        .iter()
        .map(|file| {
            let is_exact = |place: usize| match (&file.kind, &file.source.known) {
                (FileKind::Csv(layout), _) => !layout.columns[place].has_big_integers(),
                (_, Some(known)) => known.is_exact_as_float(place),
                _ => false,
            };
            (&file.schema, is_exact)
        })
        .collect();
    widen::agree(exact.iter().map(|(schema, is_exact)| widen::Made { schema, is_exact }))
}

/// Learns the columns of many files.
async fn open_files(session: &dyn Session, sources: Vec<TableSource>) -> Result<Vec<OpenedFile>> {
    let concurrency = session.config_options().execution.meta_fetch_concurrency.get();
    stream::iter(sources)
        .map(|source| open_file(session, source))
        .boxed()
        .buffered(concurrency)
        .try_collect()
        .await
}

/// Makes columns text that would be floats, but for whole numbers in a text that no float holds.
fn with_all_digits(schema: SchemaRef, files: &[OpenedFile]) -> SchemaRef {
    let loses = |name: &str| {
        files.iter().any(|file| match &file.kind {
            FileKind::Csv(layout) => {
                layout.columns.iter().any(|column| column.name == name && column.has_big_integers())
            }
            _ => false,
        })
    };
    let is_lossy = |field: &Field| field.data_type() == &DataType::Float64 && loses(field.name());
    if !schema.fields().iter().any(|field| is_lossy(field)) {
        return schema;
    }
    let fields = schema.fields().iter().map(|field| match is_lossy(field) {
        true => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        false => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Puts the texts in the place of the files that they were converted to, of which one may have many.
fn into_texts(sources: Vec<TableSource>) -> Vec<TableSource> {
    let mut seen = HashSet::new();
    let mut texts = Vec::with_capacity(sources.len());
    for source in sources {
        match &source.text {
            None => texts.push(source),
            Some(text) => {
                let is_first = seen.insert((text.path.clone(), text.object.location.clone()));
                texts.extend(is_first.then(|| text.as_ref().clone()));
            }
        }
    }
    texts
}

/// Looks at all of a text that is to be read once, to its end, so that no value comes up on the way
/// that its columns cannot hold.
///
/// # Errors
/// What is wrong with the text; what its store says.
pub async fn look_through(session: &dyn Session, source: &TableSource) -> Result<()> {
    match &source.format {
        TableFormat::Csv(_) => CsvText::open(session, source.clone())?.look_through().await,
        _ => Ok(()),
    }
}

/// Learns the columns of one file.
async fn open_file(session: &dyn Session, source: TableSource) -> Result<OpenedFile> {
    let store = WatchedStore::open(session, &source.store_url, [&source])?;
    let path = source.path.clone();
    let opened = watch::isolate(&path, async move {
        let (schema, kind) = match (&source.format, &source.known) {
            (TableFormat::Parquet, Some(known)) => (known.schema.clone(), FileKind::Parquet(None)),
            (TableFormat::Parquet, None) => parquet::open(session, &store, &source).await?,
            (TableFormat::Csv(options), _) => {
                let store: Arc<dyn ObjectStore> = Arc::new(store);
                let layout = csv::open(&store, &source, options).await?;
                (layout.schema_seen(), FileKind::Csv(layout))
            }
            (TableFormat::Json { compression }, _) => {
                let (schema, sampled) = json::open(&store, &source, *compression).await?;
                (schema, FileKind::Json { compression: *compression, sampled })
            }
            (TableFormat::Arrow, _) => arrow::open(&store, &source).await?,
        };
        Ok(OpenedFile { source, schema, kind })
    });
    opened.await
}

/// Streams what `pond cat` shows of a file: its bytes or, for a view, its rows as Parquet.
///
/// Rows are encoded as they come; at most one row group is held.
pub async fn read(
    file: &dyn File,
    session: &dyn Session,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    match file.bytes().await? {
        Some(bytes) => Ok(bytes),
        None => parquet::encode(file.table(session).await?, session).await,
    }
}
