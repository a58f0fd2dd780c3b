//! Bytes as tables: Parquet, CSV, JSON lines and Arrow files at object-store URLs, scanned by the
//! engine's own sources.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::stream::BoxStream;
use object_store::ObjectMeta;

use crate::error::{Error, Result};
use crate::node::File;
use crate::path::PondPath;

/// How a file's bytes make rows.
#[derive(Debug, Clone, PartialEq)]
pub enum TableFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma- or tab-separated text with a header line.
    Csv {
        /// The byte between fields.
        delimiter: u8,
        /// How the file is compressed.
        compression: FileCompressionType,
    },
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
    /// Its location, size and time there.
    pub object: ObjectMeta,
    /// How its bytes make rows.
    pub format: TableFormat,
}

impl TableFormat {
    /// Returns the format that a file's name tells, or `None` if it tells none.
    pub fn of_name(name: &str) -> Option<Self> {
        let _ = name;
        None
    }
}

/// Makes one table of `sources`: columns are matched by name, a column that a file lacks is null.
///
/// # Errors
/// `Invalid` if there is none, or if columns of one name have types that do not widen to one;
/// the error names the file.
pub async fn open_table(
    session: &dyn Session,
    sources: Vec<TableSource>,
) -> Result<Arc<dyn TableProvider>> {
    let _ = (session, sources);
    Err(Error::unsupported("not yet"))
}

/// Streams what `pond cat` shows of a file: its bytes or, for a view, its rows as Parquet.
pub async fn read(
    file: &dyn File,
    session: &dyn Session,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let _ = session;
    match file.bytes().await? {
        Some(bytes) => Ok(bytes),
        None => Err(Error::unsupported("not yet")),
    }
}
