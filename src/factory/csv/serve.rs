//! Where the rows of a CSV file come from: the one place that decides whether they are read from the
//! text, or from what was converted of it.
//!
//! A text is converted when its rows are first wanted, by one of all the statements and processes that
//! want them while the others wait. A small text that is a table is read as it is at first, and
//! converted when that is done, and so is any of a node with `convert = 'later'`. A conversion serves as
//! long as the text is what it was and `cache_ttl` has not passed. Where a conversion cannot be kept, as in a pond in memory or on a disk
//! that is full, rows come from the text, and the pond's status says why.
//!
//! A text of the host is known by its times. They pass in steps, so a text that was changed within the
//! current one could change again and look the same: before such a text is converted, the step is
//! waited out ([`settle`]).

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datafusion::catalog::Session;

use super::{Convert, Reading};
use crate::cache::{Conversion, NewFile, Prefix, SourceIdentity, conversion_key};
use crate::entry::{EntryType, now_micros};
use crate::error::{Error, Result};
use crate::factory::OpenContext;
use crate::format::{
    AfterReading, Converted, CsvOptions, CsvText, Dialect, Layout, Passed, TableFormat,
    TableSource, Temporal, TimestampFormat, detect_temporal, unsettled_for,
};
use crate::keep::Upkeep;
use crate::node::{self, Freshness, Glance};

/// Texts up to this size are read as they are first, and converted later: their types are told from all
/// of them, so that nothing can come up while they are read, and a thousand of them are read in the
/// time in which fifty are converted.
const AT_ONCE_BYTES: u64 = 256 * 1024;
/// Texts that are smaller are converted whole when they have grown.
const GROWN_BYTES_MIN: u64 = 256 * 1024;
/// Files of a text that grew, before it is converted whole.
const FILES_MAX: usize = 8;

/// Why there is no conversion.
enum Failure {
    /// The text is at fault.
    Text(Error),
    /// The cache is.
    Cache(Error),
}

/// Returns the files in which the rows of a text are.
///
/// # Errors
/// Whatever keeps the text from being read so.
pub(super) async fn serve(
    session: &dyn Session,
    cx: &OpenContext,
    source: TableSource,
    how: &Reading,
) -> Result<Vec<TableSource>> {
    let source = how.text(source)?;
    if cx.cache.dir().is_none() {
        check_time(&CsvText::open(session, source.clone())?, how).await?;
        return Ok(vec![source]);
    }
    let key = key_of(&source, how)?;
    if let Some(conversion) = current(cx, &key, &source, how) {
        return files_of(cx, &key, &conversion, source);
    }
    if session.config().get_extension::<Glance>().is_some() {
        return Ok(vec![source]);
    }
    let text = CsvText::open(session, source.clone())?;
    let comes_later = match how.convert {
        Convert::First => false,
        Convert::Later => true,
        // A series is in the order of time, which a text need not be.
        Convert::Auto => {
            how.target_type == EntryType::FileTable && source.object.size <= AT_ONCE_BYTES
        }
    };
    if comes_later {
        check_time(&text, how).await?;
        return Ok(vec![put_off(cx, text, how, key)]);
    }
    match kept(cx, &text, how, &key).await? {
        Some(conversion) => files_of(cx, &key, &conversion, source),
        None => {
            check_time(&text, how).await?;
            Ok(vec![source])
        }
    }
}

/// Returns the files of a conversion.
fn files_of(
    cx: &OpenContext,
    key: &str,
    conversion: &Conversion,
    source: TableSource,
) -> Result<Vec<TableSource>> {
    cx.cache.used(key);
    let files = cx.cache.conversion_sources(conversion, &source.path)?;
    let text = Some(Arc::new(source));
    Ok(files.into_iter().map(|file| TableSource { text: text.clone(), ..file }).collect())
}

/// Checks that a text that is read as it is has what a series is to be ordered by.
async fn check_time(text: &CsvText, how: &Reading) -> Result<()> {
    if how.target_type != EntryType::FileSeries {
        return Ok(());
    }
    let layout = text.layout().await?;
    match detect_temporal(&layout.schema(), how.temporal_column.as_deref()) {
        Err(error) if !layout.has_no_values() => {
            Err(error.context(format!("'{}'", text.source().path)))
        }
        _ => Ok(()),
    }
}

/// Returns the source of a text that is read as it is, and converted when that is done.
fn put_off(cx: &OpenContext, text: CsvText, how: &Reading, key: String) -> TableSource {
    let source = text.source().clone();
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return source };
    let (cx, how) = (cx.clone(), how.clone());
    let after = AfterReading::new(move || {
        let cache = cx.cache.clone();
        let for_key = key.clone();
        cache.later(&runtime, &for_key, async move {
            // What is wrong with the text, whoever reads it next is told.
            let _ = kept(&cx, &text, &how, &key).await;
        });
    });
    TableSource { after: Some(after), ..source }
}

/// Converts a text; `None` if there is nothing to convert, or if the conversion cannot be kept, of which
/// the cache's user is told.
///
/// # Errors
/// What is wrong with the text.
async fn kept(
    cx: &OpenContext,
    text: &CsvText,
    how: &Reading,
    key: &str,
) -> Result<Option<Arc<Conversion>>> {
    let dir = cx.cache.dir();
    match convert(cx, text, how, key, false).await {
        Ok(conversion) => {
            if cx.cache.succeeded() {
                Upkeep::Conversions.remember(dir, None);
            }
            Ok(conversion)
        }
        Err(Failure::Text(error)) => Err(error),
        Err(Failure::Cache(error)) => {
            Upkeep::Conversions.remember(dir, Some(&error));
            let path = &text.source().path;
            cx.cache.failed(&format!("'{path}' is read without the cache: {error}"));
            Ok(None)
        }
    }
}

/// Says whether the rows of a text are read from a conversion, and how new that is.
///
/// # Errors
/// Whatever keeps the cache from being looked into.
pub(super) async fn freshness(
    cx: &OpenContext,
    source: &TableSource,
    how: &Reading,
) -> Result<Freshness> {
    if cx.cache.dir().is_none() {
        return Ok(Freshness::Live);
    }
    let source = how.text(source.clone())?;
    let key = key_of(&source, how)?;
    Ok(Freshness::Converted(if current(cx, &key, &source, how).is_some() {
        node::Conversion::Cached
    } else if cx.cache.kept_conversion(&key).is_some() {
        node::Conversion::Stale
    } else {
        node::Conversion::Unconverted
    }))
}

/// Says how a text is read, and what became of it: its dialect, its columns, how many records were
/// rejected.
///
/// # Errors
/// Whatever keeps the text from being looked at.
pub(super) async fn properties(
    session: &dyn Session,
    cx: &OpenContext,
    source: &TableSource,
    how: &Reading,
) -> Result<Vec<(&'static str, String)>> {
    let source = how.text(source.clone())?;
    let kept = current(cx, &key_of(&source, how)?, &source, how);
    let layout = match &kept {
        Some(kept) => Arc::new(kept.layout.clone()),
        None => CsvText::open(session, source)?.layout().await?,
    };
    let mut said = vec![("dialect", describe(&layout.dialect))];
    let columns = layout.columns.iter().map(|column| {
        let how = if column.is_declared { " (given)" } else { "" };
        format!("{} {}{how}", column.name, column.data_type)
    });
    said.push(("columns", columns.collect::<Vec<_>>().join(", ")));
    if let Some(kept) = kept {
        let age = (now_micros() - kept.converted_at) / 1_000_000;
        said.push(("conversion", format!("{} bytes, {age} s old", kept.size())));
        said.push(("rows", kept.rows.to_string()));
        said.push(("rejected", kept.rejected.to_string()));
    }
    Ok(said)
}

/// Converts a text anew.
///
/// # Errors
/// What is wrong with the text, or with the cache.
pub(super) async fn renew(
    session: &dyn Session,
    cx: &OpenContext,
    source: TableSource,
    how: &Reading,
) -> Result<()> {
    let source = how.text(source)?;
    let key = key_of(&source, how)?;
    let text = CsvText::open(session, source)?;
    match convert(cx, &text, how, &key, true).await {
        Ok(_) => Ok(()),
        Err(Failure::Text(error) | Failure::Cache(error)) => Err(error),
    }
}

/// Returns the source of a text as what its user says of it.
///
/// # Errors
/// `Unsupported` if it is no CSV.
pub(crate) fn as_text(
    source: TableSource,
    options: &CsvOptions,
    temporal_column: Option<&str>,
) -> Result<TableSource> {
    let TableFormat::Csv(told) = &source.format else {
        return Err(Error::unsupported(format!("'{}' is no CSV", source.path)));
    };
    let options = CsvOptions {
        delimiter: options.delimiter.or(told.delimiter),
        compression: options.compression.or(told.compression),
        temporal_column: temporal_column.map(str::to_owned),
        ..options.clone()
    };
    Ok(TableSource { format: TableFormat::Csv(Arc::new(options)), ..source })
}

/// Returns what the conversion of a text is kept under: two names for one content may say different
/// things of it.
fn key_of(source: &TableSource, how: &Reading) -> Result<String> {
    match &source.format {
        TableFormat::Csv(options) => {
            Ok(conversion_key(source, options, how.temporal_column.as_deref(), how.target_type))
        }
        _ => Err(Error::unsupported(format!("'{}' is no CSV", source.path))),
    }
}

/// Returns the conversion that serves.
fn current(
    cx: &OpenContext,
    key: &str,
    source: &TableSource,
    how: &Reading,
) -> Option<Arc<Conversion>> {
    let kept = cx.cache.conversion(key, &SourceIdentity::of(source))?;
    is_young(&kept, how).then_some(kept)
}

/// Whether a conversion may still be served. A clock that was put back makes none last longer.
fn is_young(conversion: &Conversion, how: &Reading) -> bool {
    let age = now_micros() - conversion.converted_at;
    u64::try_from(age).is_ok_and(|age| u128::from(age) < how.ttl.as_micros())
}

/// Converts a text, unless somebody has done so just now and it need not be anew. One without any
/// column is nothing to convert.
async fn convert(
    cx: &OpenContext,
    text: &CsvText,
    how: &Reading,
    key: &str,
    anew: bool,
) -> Result<Option<Arc<Conversion>>, Failure> {
    let begun = Instant::now();
    let lock = cx.cache.lock_conversion(key).await.map_err(Failure::Cache)?;
    let source = text.source();
    if !anew && let Some(kept) = current(cx, key, source, how) {
        return Ok(Some(kept));
    }
    settle(source).await;
    if text.layout().await.map_err(Failure::Text)?.columns.is_empty() {
        return Ok(None);
    }
    let before = cx.cache.kept_conversion(key).filter(|before| !anew && is_young(before, how));
    let grown = match &before {
        Some(before) => grow(cx, text, how, before).await,
        None => None,
    };
    let mut conversion = match grown {
        Some(conversion) => conversion,
        None => {
            let (file, converted) = write(cx, text, how, None).await?;
            let files = vec![file.finish(converted.facts.clone()).map_err(Failure::Cache)?];
            of(cx, source, &converted, converted.rows, converted.rejected, files)
        }
    };
    conversion.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    cx.cache.publish_conversion(key, conversion, &lock).map_err(Failure::Cache)?;
    let kept = cx.cache.conversion(key, &SourceIdentity::of(source)).ok_or_else(|| {
        Failure::Cache(Error::invalid(format!("the conversion of '{}' is gone", source.path)))
    });
    kept.map(Some)
}

/// Converts what a text has got since it was converted, if it has only grown. Whatever is in the way
/// is for the conversion of the whole to tell.
async fn grow(
    cx: &OpenContext,
    text: &CsvText,
    how: &Reading,
    before: &Conversion,
) -> Option<Conversion> {
    let prefix = before.prefix.as_ref()?;
    let size = text.source().object.size;
    let is_blank = |layout: &Layout| layout.columns.iter().any(|column| column.is_blank());
    if prefix.bytes < GROWN_BYTES_MIN
        || size <= prefix.bytes
        || before.files.len() >= FILES_MAX
        || is_blank(&before.layout)
        // All of the text told the type of a column of which its beginning says nothing.
        || (before.layout.is_whole && !before.layout.widens)
    {
        return None;
    }
    let xxh3 = u128::from_str_radix(&prefix.xxh3, 16).ok()?;
    let from = Passed { bytes: prefix.bytes, lines: prefix.lines, xxh3 };
    let layout = Arc::new(before.layout.clone());
    let (file, converted) = write(cx, text, how, Some((from, layout))).await.ok()?;
    let mut files = before.files.clone();
    if converted.rows > 0 {
        files.push(file.finish(converted.facts.clone()).ok()?);
    }
    let (rows, rejected) = (before.rows + converted.rows, before.rejected + converted.rejected);
    Some(of(cx, text.source(), &converted, rows, rejected, files))
}

fn of(
    cx: &OpenContext,
    source: &TableSource,
    converted: &Converted,
    rows: u64,
    rejected: u64,
    files: Vec<crate::cache::ConvertedFile>,
) -> Conversion {
    Conversion {
        path: source.path.to_string(),
        shown_as: cx.path.to_string(),
        source: SourceIdentity::of(source),
        layout: converted.layout.as_ref().clone(),
        rows,
        rejected,
        files,
        prefix: converted.passed.map(|passed| Prefix {
            bytes: passed.bytes,
            lines: passed.lines,
            xxh3: format!("{:032x}", passed.xxh3),
        }),
        converted_at: now_micros(),
        took_ms: 0,
    }
}

/// Writes a file of the cache.
async fn write(
    cx: &OpenContext,
    text: &CsvText,
    how: &Reading,
    from: Option<(Passed, Arc<Layout>)>,
) -> Result<(NewFile, Converted), Failure> {
    let temporal = match how.target_type {
        EntryType::FileSeries => Temporal::Series(how.temporal_column.clone()),
        _ => Temporal::Table,
    };
    let failed = Arc::new(AtomicBool::new(false));
    let new_file = || {
        let file = cx.cache.new_file();
        failed.store(file.is_err(), Ordering::Relaxed);
        Ok(Watched { file: file?, failed: failed.clone() })
    };
    let source = text.source();
    let progress = cx.cache.progress(&source.path, source.object.size);
    let read = |bytes| progress.read(bytes);
    match text.convert(&temporal, from, &read, new_file).await {
        Ok((watched, converted)) => Ok((watched.file, converted)),
        Err(error) if failed.load(Ordering::Relaxed) => Err(Failure::Cache(error)),
        Err(error) => Err(Failure::Text(error)),
    }
}

/// A file that remembers whether writing it failed: the text is not at fault then.
struct Watched {
    file: NewFile,
    failed: Arc<AtomicBool>,
}

impl Write for Watched {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        if written.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted) {
            self.failed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Waits until a change of a file of the host would give it another time.
async fn settle(source: &TableSource) {
    if let Some(left) = unsettled_for(source) {
        tokio::time::sleep(left).await;
    }
}

/// Says how the values of a text are told apart.
fn describe(dialect: &Dialect) -> String {
    let shown = |byte: u8| match byte {
        b'\t' => "tab".to_owned(),
        byte => char::from(byte).to_string(),
    };
    let optional = |byte: Option<u8>| byte.map_or_else(|| "none".to_owned(), shown);
    let escape = match dialect.escape {
        Some(escape) => shown(escape),
        None => "doubled".to_owned(),
    };
    let mut words = vec![
        format!("delimiter {}", shown(dialect.delimiter)),
        format!("quote {}", optional(dialect.quote)),
        format!("escape {escape}"),
        format!("comment {}", optional(dialect.comment)),
        format!("header {}", if dialect.has_header { "yes" } else { "no" }),
        format!("encoding {}", dialect.encoding.as_str()),
        format!("compression {}", dialect.compression.as_str()),
    ];
    if !dialect.nulls.is_empty() {
        words.push(format!("nulls {}", dialect.nulls.join(" ")));
    }
    match &dialect.timestamp_format {
        Some(TimestampFormat::Strftime(format)) => words.push(format!("times {format}")),
        Some(TimestampFormat::Epoch(units)) => words.push(format!("times in 1/{units} s")),
        None => {}
    }
    words.join(", ")
}
