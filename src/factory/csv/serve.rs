//! Where the rows of a CSV file come from: the one place that decides whether they are read from the
//! text, or from what was converted of it.

use datafusion::catalog::Session;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;

use super::Reading;
use crate::error::{Error, Result};
use crate::factory::OpenContext;
use crate::format::{Compression, CsvOptions, Encoding, TableFormat, TableSource};
use crate::node::Freshness;

/// Returns the files in which the rows of a text are.
///
/// # Errors
/// Whatever keeps the text from being read so.
pub(super) async fn serve(
    _session: &dyn Session,
    _cx: &OpenContext,
    source: TableSource,
    how: &Reading,
) -> Result<Vec<TableSource>> {
    let TableFormat::Csv { mut delimiter, mut compression } = source.format else {
        return Err(Error::unsupported(format!("'{}' is no CSV", source.path)));
    };
    delimiter = how.options.delimiter.unwrap_or(delimiter);
    compression = match how.options.compression {
        None => compression,
        Some(Compression::None) => FileCompressionType::UNCOMPRESSED,
        Some(Compression::Gzip) => FileCompressionType::GZIP,
        Some(Compression::Zstd) => FileCompressionType::ZSTD,
        Some(Compression::Bzip2) => FileCompressionType::BZIP2,
        Some(Compression::Xz) => FileCompressionType::XZ,
    };
    check(&source, &how.options)?;
    Ok(vec![TableSource { format: TableFormat::Csv { delimiter, compression }, ..source }])
}

/// Refuses what the reader does not know how to do.
fn check(source: &TableSource, options: &CsvOptions) -> Result<()> {
    let unread = [
        ("has_header", options.has_header == Some(false)),
        ("quote", options.quote.is_some_and(|quote| quote != Some(b'"'))),
        ("escape", options.escape.is_some_and(|escape| escape.is_some())),
        ("comment", options.comment.is_some_and(|comment| comment.is_some())),
        ("null_values", options.null_values.is_some()),
        ("timestamp_format", options.timestamp_format.is_some()),
        ("encoding", options.encoding.is_some_and(|encoding| encoding != Encoding::Utf8)),
        ("on_error", options.on_error.is_some()),
    ];
    match unread.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::unsupported(format!("'{}' cannot be read with this '{name}'", source.path)))
        }
    }
}

/// Says whether the rows of a text are read from a conversion, and how new that is.
///
/// # Errors
/// Whatever keeps the cache from being looked into.
pub(super) async fn freshness(
    _cx: &OpenContext,
    _source: &TableSource,
    _how: &Reading,
) -> Result<Freshness> {
    Ok(Freshness::Live)
}

/// Says how a text is read, and what became of it: its dialect, its columns, how many records were
/// rejected.
///
/// # Errors
/// Whatever keeps the text from being looked at.
pub(super) async fn properties(
    _session: &dyn Session,
    _cx: &OpenContext,
    _source: &TableSource,
    how: &Reading,
) -> Result<Vec<(&'static str, String)>> {
    Ok(vec![("cache_ttl", format!("{} s", how.ttl.as_secs()))])
}

/// Converts a text anew.
///
/// # Errors
/// What is wrong with the text, or with the cache.
pub(super) async fn renew(
    _session: &dyn Session,
    cx: &OpenContext,
    _source: TableSource,
    _how: &Reading,
) -> Result<()> {
    Err(Error::unsupported(format!("'{}' cannot be refreshed", cx.path))
        .with_hint("it is always as new as can be: read it"))
}
