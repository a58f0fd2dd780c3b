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

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::facts::KnownTable;
use super::statistics;
use super::stored::StoredTable;
use super::{TableFormat, TableSource};
use crate::entry::{NodeId, OplogEntry, Segment};
use crate::error::{Error, Result};
use crate::memo::Memo;
use crate::path::PondPath;

/// Where the blobs of a stored table are.
#[derive(Clone, Copy)]
pub struct Stored<'a> {
    /// The table's path, for errors.
    pub path: &'a PondPath,
    /// The registered object store that holds the blobs.
    pub store_url: &'a ObjectStoreUrl,
    /// Where the store keeps the blob with this SHA-256 (hex).
    pub location: &'a (dyn Fn(&str) -> Path + Send + Sync),
}

/// What a snapshot tells of one series.
pub trait SeriesRows {
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
    stored: Stored,
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
    // Of those that start together the longest first: it covers the others.
    segments.sort_by_key(|(segment, _)| (segment.from, -segment.to));
    let mut sources = Vec::new();
    let mut next = first;
    for (segment, row) in segments {
        if segment.to < next || segment.from > last {
            continue;
        }
        if segment.from > next {
            own_files(stored, next..=segment.from - 1, rows, &mut sources)?;
        }
        let wanted = segment.from.max(next)..=segment.to.min(last);
        // In a copy of a series as of an earlier version, rows of a later one are of none.
        sources.push(match segment.runs.iter().all(|(version, _)| wanted.contains(version)) {
            true => source(stored, &row, Some(&segment))?,
            false => part_of_segment(stored, &row, &segment, wanted, rows)?,
        });
        next = segment.to + 1;
    }
    if next <= last {
        own_files(stored, next..=last, rows, &mut sources)?;
    }
    Ok(sources)
}

fn own_files(
    stored: Stored,
    versions: RangeInclusive<i64>,
    rows: &dyn SeriesRows,
    sources: &mut Vec<TableSource>,
) -> Result<()> {
    for row in rows.versions(versions)? {
        sources.push(table_source(stored, &row)?);
    }
    Ok(())
}

/// Returns the one file of a `file:table`, or of one version or segment of a series.
///
/// # Errors
/// `Corrupt` if the row lacks what a stored table's has.
pub fn table_source(stored: Stored, row: &OplogEntry) -> Result<TableSource> {
    source(stored, row, row.segment()?.as_ref())
}

fn source(stored: Stored, row: &OplogEntry, segment: Option<&Segment>) -> Result<TableSource> {
    let lacks = |what: &str| {
        let (path, version) = (stored.path, row.version);
        Error::corrupt(format!("'{path}': the row of version {version} has no {what}"))
    };
    let sha256 = row.sha256.as_deref().ok_or_else(|| lacks("SHA-256"))?;
    let size = row.size.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| lacks("size"))?;
    let known = known_table(stored, row, segment)?;
    Ok(TableSource {
        path: stored.path.clone(),
        store_url: stored.store_url.clone(),
        object: ObjectMeta {
            location: (stored.location)(sha256),
            // Blobs never change: any time will do, as long as it stays the same.
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        },
        format: TableFormat::Parquet,
        known: Some(known),
        inline: None,
        immutable: true,
        after: None,
        text: None,
    })
}

fn known_table(
    stored: Stored,
    row: &OplogEntry,
    segment: Option<&Segment>,
) -> Result<Arc<KnownTable>> {
    let (path, version) = (stored.path, row.version);
    let mut facts = row.table_facts().ok_or_else(|| {
        Error::corrupt(format!(
            "'{path}': the row of version {version} has no schema or statistics"
        ))
    })?;
    facts.sorted |= segment.is_some_and(|segment| segment.sorted);
    KnownTable::from_facts(&facts)
        .map_err(|error| error.context(format!("'{path}', version {version}")))
}

/// Returns the rows of a segment that are of the versions `wanted`.
fn part_of_segment(
    stored: Stored,
    row: &OplogEntry,
    segment: &Segment,
    wanted: RangeInclusive<i64>,
    rows: &dyn SeriesRows,
) -> Result<TableSource> {
    let mut source = source(stored, row, Some(segment))?;
    let whole = source.known.take().expect("a stored file is known");
    let selectors = segment.runs.iter().map(|(version, rows)| {
        let rows = usize::try_from(*rows).unwrap_or_default();
        if wanted.contains(version) { RowSelector::select(rows) } else { RowSelector::skip(rows) }
    });
    let selection: RowSelection = selectors.collect::<Vec<_>>().into();
    let parts = rows
        .versions(wanted)?
        .iter()
        .map(|row| {
            let known = known_table(stored, row, None)?;
            statistics::convert(&known.statistics, &known.schema, &whole.schema)
        })
        .collect::<Result<Vec<_>>>()?;
    let statistics = statistics::merge(parts.iter().map(Arc::as_ref), &whole.schema);
    let rows_of = |statistics: &datafusion::common::Statistics| {
        statistics.num_rows.get_value().copied().unwrap_or_default()
    };
    let selected = selection.row_count();
    if selected != rows_of(&statistics)
        || selected + selection.skipped_row_count() != rows_of(&whole.statistics)
    {
        return Err(Error::corrupt(format!(
            "'{}': the runs of the segment of versions {} to {} do not add up",
            stored.path, segment.from, segment.to
        )));
    }
    source.known = Some(Arc::new(KnownTable {
        schema: whole.schema.clone(),
        statistics: Arc::new(statistics),
        sorted_by: whole.sorted_by.clone(),
        rows: Some(Arc::new(selection)),
    }));
    Ok(source)
}

/// Makes the table of stored files; see [`series_sources`]. Nothing is opened, and nothing waits.
///
/// Columns match by name and widen; a column that a file lacks is null. Statistics are exact, files
/// that a predicate rules out are pruned by them, and where the files are in the order of one column
/// and hardly overlap, the table declares that order.
///
/// # Errors
/// `Invalid` for no file, or if columns of one name have types that do not widen to one.
pub fn stored_table(sources: Vec<TableSource>) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(StoredTable::new(sources)?))
}

/// As [`stored_table`], with the columns of `schema`, which hold those of all files.
///
/// # Errors
/// As [`stored_table`].
pub fn stored_table_as(
    sources: Vec<TableSource>,
    schema: SchemaRef,
) -> Result<Arc<dyn TableProvider>> {
    Ok(Arc::new(StoredTable::with_schema(sources, schema)?))
}

/// The newest tables opened, so that a query of a series need not read its rows again: between 128
/// and 256 of them. One of forty files takes some ten kilobytes.
#[derive(Debug)]
pub struct OpenTables(Memo<TableKey, Arc<dyn TableProvider>>);

/// What tells the states of stored tables apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TableKey {
    /// The path, which errors name.
    pub path: PondPath,
    /// The registered object store that holds the blobs: tells ponds apart.
    pub store_url: ObjectStoreUrl,
    /// The node.
    pub node: NodeId,
    /// The versions that are read.
    pub versions: RangeInclusive<i64>,
    /// SHA-256 of the last of them.
    pub sha256: Option<String>,
    /// Transaction and time of the newest of the node's rows in the newest snapshot, the segments'
    /// included.
    pub changed: (i64, i64),
}

impl Default for OpenTables {
    fn default() -> Self {
        Self(Memo::new(256, |_| 1))
    }
}

impl OpenTables {
    /// Returns the table that was opened for `key` before, or makes it of the files that `sources`
    /// returns. Rows that are not committed have no key, and what is made of them is not kept.
    ///
    /// # Errors
    /// As `sources` and [`stored_table`].
    pub fn get(
        &self,
        key: Option<TableKey>,
        sources: impl FnOnce() -> Result<Vec<TableSource>>,
    ) -> Result<Arc<dyn TableProvider>> {
        let open = || stored_table(sources()?);
        match key {
            Some(key) => self.0.get_or_try_insert(key, open),
            None => open(),
        }
    }
}
