//! Stored tables: the rows of the oplog that describe a `file:table` or a `file:series`, as the
//! files to scan.
//!
//! A series is read from its segments (merged files) and from the versions that no segment covers
//! yet. As of an older version, the layout is still the newest one: a segment that reaches beyond is
//! read in part, by the runs of rows that it keeps of each version. The statistics of such a part
//! are those of the versions in it, so that it plans as exactly as a whole file.
//!
//! No file is opened here, and nothing waits.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::datasource::object_store::ObjectStoreUrl;
use object_store::ObjectMeta;
use object_store::path::Path;

use super::known::{KnownTable, RowRuns};
use super::{TableFormat, TableSource};
use crate::entry::{OplogEntry, Segment};
use crate::error::{Error, Result};
use crate::path::PondPath;

/// Where the blobs of a stored table are.
#[derive(Clone)]
pub struct Stored<'a> {
    /// The table's path, for errors.
    pub path: &'a PondPath,
    /// The registered object store that holds the blobs.
    pub store_url: &'a ObjectStoreUrl,
    /// Where the store keeps the blob with this SHA-256 (hex).
    pub location: &'a (dyn Fn(&str) -> Path + Send + Sync),
}

/// What a snapshot tells of one series.
pub trait SeriesRows: Send + Sync {
    /// Returns the rows of the segments, in any order, of the newest snapshot (also for reading as
    /// of an older one). One that lies within another is ignored.
    fn segments(&self) -> Result<Vec<OplogEntry>>;

    /// Returns the rows of these versions, oldest first.
    fn versions(&self, versions: RangeInclusive<i64>) -> Result<Vec<OplogEntry>>;
}

/// Returns the files that hold the rows of `versions` of a series: segments where there are, whole
/// or in part, and the versions' own files elsewhere.
///
/// # Errors
/// `Corrupt` if a row lacks what a stored table's has, or if a segment's runs do not add up.
pub fn series_sources(
    stored: &Stored,
    versions: RangeInclusive<i64>,
    rows: &dyn SeriesRows,
) -> Result<Vec<TableSource>> {
    let (first, last) = versions.into_inner();
    let mut segments = Vec::new();
    for row in rows.segments()? {
        let segment = row.segment()?.ok_or_else(|| {
            Error::corrupt(format!("'{}': a row that should be a segment's", stored.path))
        })?;
        segments.push((segment, row));
    }
    segments.sort_by_key(|(segment, _)| (segment.from, -segment.to));
    let mut sources = Vec::new();
    let mut next = first;
    for (segment, row) in segments {
        // One within the segment before it, or beyond what is read.
        if segment.to < next || segment.from > last {
            continue;
        }
        if segment.from > next {
            own_files(stored, next..=segment.from - 1, rows, &mut sources)?;
        }
        let (from, to) = (segment.from.max(next), segment.to.min(last));
        sources.push(match (from, to) == (segment.from, segment.to) {
            true => table_source(stored, &row)?,
            false => part_of_segment(stored, &row, &segment, from..=to, rows)?,
        });
        next = segment.to + 1;
    }
    if next <= last {
        own_files(stored, next..=last, rows, &mut sources)?;
    }
    Ok(sources)
}

/// Returns the one file of a `file:table`, or of one version or segment of a series.
///
/// # Errors
/// `Corrupt` if the row lacks what a stored table's has.
pub fn table_source(stored: &Stored, row: &OplogEntry) -> Result<TableSource> {
    todo!()
}

/// Makes the table of stored files; see [`series_sources`]. Nothing is opened, and nothing waits.
///
/// Columns match by name and widen; a column that a file lacks is null. Statistics are exact, files
/// that a predicate rules out are pruned by them, and where all files are in the order of the
/// temporal column and do not overlap, the table declares that order.
///
/// # Errors
/// `Invalid` if columns of one name have types that do not widen to one.
pub fn stored_table(path: &PondPath, sources: Vec<TableSource>) -> Result<Arc<dyn TableProvider>> {
    todo!()
}

/// The newest tables opened, so that a query of a series need not read its rows again. Bounded;
/// one per [`crate::tree`] (or per process).
#[derive(Debug, Default)]
pub struct OpenTables { /* an LRU of 256 tables */ }

/// What tells two states of a stored table apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableKey {
    /// Where the blobs are: tells ponds apart.
    pub store_url: ObjectStoreUrl,
    /// The node.
    pub node: NodeId,
    /// The versions that are read.
    pub versions: RangeInclusive<i64>,
    /// SHA-256 of the last of them.
    pub sha256: String,
    /// Transaction and time of the newest row of the node in the newest snapshot, segments included.
    pub changed: (i64, i64),
}

impl OpenTables {
    /// Returns the table opened before for `key`, or opens it. `key` is `None` for what is not
    /// committed yet: that is not kept.
    pub fn get(
        &self,
        path: &PondPath,
        key: Option<TableKey>,
        sources: impl FnOnce() -> Result<Vec<TableSource>>,
    ) -> Result<Arc<dyn TableProvider>> {
        todo!()
    }
}
