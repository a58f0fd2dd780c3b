//! Tables and series: rows become Parquet in a blob and facts in a row of the oplog, and the
//! versions of a series are merged as they become many.
//!
//! Rows stream: they are encoded, hashed and written as they come. After an append has been
//! committed, whoever made it merges what is due ([`next_merge`]) in a transaction of its own, which
//! changes no rows; losing that race to another writer costs nothing.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;

use super::edit::{Edit, WriteMode, expect_type};
use super::stored::{is_table, stored_sources};
use super::{Change, Tree};
use crate::entry::{EntryType, OplogEntry, Segment, TableFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{
    EncodedTable, KnownTable, Merge, MergeFile, Part, Stored as Place, detect_temporal,
    facts_of_parquet, next_merge, stored_table, stored_table_as, table_source,
};
use crate::path::PondPath;
use crate::snapshot::Snapshot;
use crate::transaction::NodeContent;

impl Edit {
    /// Writes rows as a `file:table`, or as a version of a `file:series`, as which the node is known,
    /// or as which `entry_type` or the path's ending tells (`.series`, else a table).
    ///
    /// A series is ordered by `temporal_column`: by default the one it has already, or else the one
    /// called `timestamp`. An append of no rows changes nothing.
    ///
    /// # Errors
    /// Those of [`Edit::write_bytes`]; `Invalid` for a series without a temporal column, or whose
    /// columns do not go with those it has; whatever the producer of the rows reports.
    pub async fn write_table(
        &mut self,
        path: &PondPath,
        mode: WriteMode,
        entry_type: Option<EntryType>,
        temporal_column: Option<&str>,
        rows: SendableRecordBatchStream,
    ) -> Result<Change> {
        let (path, before) = self.target(path, mode).await?;
        let entry_type = table_type(&path, before.as_ref(), entry_type, mode)?;
        let about = |error: Error| error.context(format!("'{path}'"));
        let temporal = match entry_type {
            EntryType::FileSeries => {
                let wanted = wanted_temporal(&path, before.as_ref(), temporal_column)?;
                Some(detect_temporal(&rows.schema(), wanted).map_err(about)?)
            }
            _ => None,
        };
        self.pin().await?;
        let mut encoded = EncodedTable::new(rows, temporal.as_deref()).map_err(about)?;
        let mut writer = self.tree.pond.blobs().writer();
        while let Some(bytes) = encoded.next().await? {
            writer.write(bytes).await?;
        }
        let facts = encoded.finish()?;
        if mode == WriteMode::Append && is_empty(&facts)? {
            return Ok(self.done("unchanged", path));
        }
        let stored = writer.finish(true).await?;
        let content = NodeContent::file(entry_type, self.keep(stored), Some(facts));
        self.write_rows(path, before, mode, content)
    }

    /// Writes a Parquet file as it is, byte for byte; see [`Edit::write_table`].
    ///
    /// # Errors
    /// Those of [`Edit::write_table`]; `Invalid` for what is no Parquet file.
    pub async fn write_parquet(
        &mut self,
        path: &PondPath,
        mode: WriteMode,
        entry_type: Option<EntryType>,
        temporal_column: Option<&str>,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Change> {
        let (path, before) = self.target(path, mode).await?;
        let entry_type = table_type(&path, before.as_ref(), entry_type, mode)?;
        let stored = self.store(bytes, true).await?;
        let blobs = self.tree.pond.blobs();
        let object = blobs.object(&stored.sha256, stored.size);
        let wanted = wanted_temporal(&path, before.as_ref(), temporal_column)?;
        let facts = facts_of_parquet(blobs.store(), &object, &path, |schema| match entry_type {
            EntryType::FileSeries => detect_temporal(schema, wanted).map(Some),
            _ => Ok(None),
        })
        .await?;
        if mode == WriteMode::Append && is_empty(&facts)? {
            return Ok(self.done("unchanged", path));
        }
        let content = NodeContent::file(entry_type, stored, Some(facts));
        self.write_rows(path, before, mode, content)
    }

    fn write_rows(
        &mut self,
        path: PondPath,
        before: Option<OplogEntry>,
        mode: WriteMode,
        content: NodeContent,
    ) -> Result<Change> {
        match before {
            Some(before) if mode == WriteMode::Append => {
                self.check_columns(&path, &before, &content)?;
                self.transaction.append(&path, content)?;
                Ok(self.done("appended", path))
            }
            before => self.write(path, before.is_some(), content),
        }
    }

    /// Checks that a new version of a series can be read together with the others.
    fn check_columns(
        &self,
        path: &PondPath,
        before: &OplogEntry,
        content: &NodeContent,
    ) -> Result<()> {
        let columns = content.table.as_ref().map(|facts| &facts.arrow_schema);
        if columns == before.arrow_schema.as_ref() {
            // The version before has been checked.
            return Ok(());
        }
        let blobs = self.tree.pond.blobs();
        let snapshot = self.transaction.view();
        let mut sources = stored_sources(blobs, path, snapshot, before, 1..=before.version)?;
        let row = OplogEntry { sha256: content.sha256.clone(), ..content.fill(before.clone()) };
        let store_url = blobs.url();
        let location = |sha256: &str| blobs.object(sha256, 0).location;
        let place = Place { path, store_url: &store_url, location: &location };
        sources.push(table_source(place, &row)?);
        let united = stored_table(sources.clone()).map_err(|error| {
            Error::invalid(format!("the new rows do not go with those of '{path}'"))
                .with_source(error)
                .with_hint(format!(
                    "DESCRIBE '{path}' shows its columns; cast those of the new rows"
                ))
        })?;
        let united = united.schema();
        let tables = sources.iter().filter_map(|source| source.known.as_deref());
        tables.into_iter().try_for_each(|table| check_bounds(path, table, &united))
    }
}

impl Tree {
    /// Returns some versions of a static series as a table with the columns of `schema`, which are
    /// those of all versions.
    ///
    /// # Errors
    /// `Corrupt` if the oplog's rows of it are damaged.
    pub fn versions_table(
        &self,
        snapshot: &Snapshot,
        path: &PondPath,
        series: &OplogEntry,
        versions: RangeInclusive<i64>,
        schema: SchemaRef,
    ) -> Result<Arc<dyn TableProvider>> {
        let blobs = self.pond.blobs();
        stored_table_as(stored_sources(blobs, path, snapshot, series, versions)?, schema)
    }

    /// Merges the small files of the series at `path` into files of about `target_rows` rows, as far
    /// as it is due. Returns the number of files written. What a reader sees, now or of the past, does
    /// not change.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` for what is no static series; those of reading and writing it.
    pub async fn merge_series(&self, path: &PondPath, target_rows: u64) -> Result<usize> {
        let mut written = 0;
        loop {
            let snapshot = self.pond.snapshot().await?;
            let entry = self.require(&snapshot, path).await?;
            if !is_table(&entry) || entry.entry_type != EntryType::FileSeries {
                return Err(Error::unsupported(format!("'{path}' is no static series")));
            }
            let files = series_files(&snapshot, &entry)?;
            // Files of other columns stay apart: the past must not get columns or types of later.
            let due = files.chunk_by(|one, next| one.columns == next.columns).find_map(|like| {
                let parts: Vec<Part> = like.iter().map(|file| file.part.clone()).collect();
                let versions = next_merge(&parts, target_rows)?;
                let due = like.iter().filter(|file| versions.contains(file.part.versions.start()));
                Some(due.cloned().collect::<Vec<_>>())
            });
            let Some(merged) = due else { return Ok(written) };
            match self.merge_files(path, &snapshot, &entry, merged).await {
                Ok(()) => written += 1,
                // Another writer merges them, or the series is gone.
                Err(error) if error.kind() == ErrorKind::Conflict => return Ok(written),
                Err(error) => return Err(error.context(format!("merging '{path}'"))),
            }
        }
    }

    async fn merge_files(
        &self,
        path: &PondPath,
        snapshot: &Snapshot,
        entry: &OplogEntry,
        files: Vec<SeriesFile>,
    ) -> Result<()> {
        let blobs = self.pond.blobs();
        let session = SessionContext::new().state();
        blobs.register(session.runtime_env());
        let temporal_column = entry.temporal_column.as_deref().ok_or_else(|| {
            Error::corrupt(format!("series '{path}' does not say which column orders it"))
        })?;
        let (first, last) = match (files.first(), files.last()) {
            (Some(first), Some(last)) => (*first.part.versions.start(), *last.part.versions.end()),
            _ => return Ok(()),
        };
        let mut inputs = Vec::with_capacity(files.len());
        let expected = rows_by_version(files.iter().flat_map(|file| &file.runs));
        for SeriesFile { part, runs, .. } in files {
            for source in stored_sources(blobs, path, snapshot, entry, part.versions)? {
                inputs.push(MergeFile { source, runs: runs.clone() });
            }
        }
        let message = format!("merge versions {first} to {last} of '{path}'");
        let mut edit = self.begin(Some(message)).await?;
        edit.pin().await?;
        let mut merge = Merge::new(&session, inputs, temporal_column).await?;
        let mut writer = blobs.writer();
        while let Some(bytes) = merge.next().await? {
            writer.write(bytes).await?;
        }
        let (facts, merged) = merge.finish()?;
        // Versions without rows have no run.
        let segment = Segment { from: first, to: last, ..merged };
        if rows_by_version(&segment.runs) != expected {
            return Err(Error::corrupt(format!(
                "versions {first} to {last} have other numbers of rows than the oplog says"
            ))
            .with_hint("pond fsck tells more"));
        }
        let stored = writer.finish(true).await?;
        let content = NodeContent::file(EntryType::FileSeries, edit.keep(stored), Some(facts));
        edit.transaction.merge(entry, segment, content)?;
        edit.commit().await.map(drop)
    }
}

/// Adds up the rows of each version that has any.
fn rows_by_version<'a>(runs: impl IntoIterator<Item = &'a (i64, i64)>) -> BTreeMap<i64, i64> {
    let mut rows_of = BTreeMap::<i64, i64>::new();
    for (version, rows) in runs.into_iter().filter(|(_, rows)| *rows > 0) {
        *rows_of.entry(*version).or_default() += rows;
    }
    rows_of
}

/// One file of a series, and whose rows are in it.
#[derive(Debug, Clone)]
struct SeriesFile {
    part: Part,
    runs: Vec<(i64, i64)>,
    /// Names and types, in their order.
    columns: Arc<Vec<(String, DataType)>>,
}

impl SeriesFile {
    fn new(
        versions: RangeInclusive<i64>,
        row: &OplogEntry,
        mut runs: Vec<(i64, i64)>,
    ) -> Result<Self> {
        if runs.is_empty() {
            runs.push((*versions.start(), 0));
        }
        let rows = runs.iter().map(|(_, rows)| u64::try_from(*rows).unwrap_or_default()).sum();
        let bytes = row.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
        let known = KnownTable::from_facts(&row.table_facts().unwrap_or_default())?;
        let fields = known.schema.fields().iter();
        let columns = fields.map(|field| (field.name().clone(), field.data_type().clone()));
        let columns = Arc::new(columns.collect());
        Ok(Self { part: Part { versions, rows, bytes }, runs, columns })
    }
}

/// Returns the files of a series in the order of their versions: merged ones, and those of versions
/// that are in none.
fn series_files(snapshot: &Snapshot, entry: &OplogEntry) -> Result<Vec<SeriesFile>> {
    let mut files: Vec<SeriesFile> = Vec::new();
    let mut next = 1;
    for row in snapshot.segments(entry.node_id) {
        let row = row?;
        let Some(segment) = row.segment()? else { continue };
        own_files(snapshot, entry, next..=segment.from - 1, &mut files)?;
        // Rows of no version are what a copy of the series as of an earlier time left behind.
        let runs: Vec<_> = segment.runs.into_iter().filter(|(version, _)| *version > 0).collect();
        files.push(SeriesFile::new(segment.from..=segment.to, &row, runs)?);
        next = segment.to + 1;
    }
    own_files(snapshot, entry, next..=entry.version, &mut files)?;
    Ok(files)
}

/// Adds the files of versions that are in no merged one.
fn own_files(
    snapshot: &Snapshot,
    entry: &OplogEntry,
    versions: RangeInclusive<i64>,
    files: &mut Vec<SeriesFile>,
) -> Result<()> {
    for row in snapshot.versions_from(entry.node_id, *versions.start()) {
        let row = row?;
        if row.version > *versions.end() {
            break;
        }
        let rows = row_count(&row.table_facts().unwrap_or_default())?;
        let runs = vec![(row.version, rows)];
        files.push(SeriesFile::new(row.version..=row.version, &row, runs)?);
    }
    Ok(())
}

/// Returns the number of rows that a row of the oplog tells of.
fn row_count(facts: &TableFacts) -> Result<i64> {
    let known = KnownTable::from_facts(facts)?;
    let rows = known.statistics.num_rows.get_value().copied().unwrap_or_default();
    Ok(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// Checks that the bounds of each column are the same in the type that all versions are read as: a
/// far timestamp may not fit into a finer unit, nor a large integer into a float.
fn check_bounds(path: &PondPath, table: &KnownTable, united: &Schema) -> Result<()> {
    for (field, column) in table.schema.fields().iter().zip(&table.statistics.column_statistics) {
        let Ok(wanted) = united.field_with_name(field.name()) else { continue };
        let (from, to) = (field.data_type(), wanted.data_type());
        for bound in [&column.min_value, &column.max_value] {
            let Some(value) = bound.get_value().filter(|_| from != to) else { continue };
            let there_and_back = value.cast_to(to).and_then(|there| there.cast_to(from));
            if !there_and_back.is_ok_and(|back| back == *value) {
                let name = field.name();
                return Err(Error::invalid(format!(
                    "'{path}': column '{name}' would become {to}, which cannot hold {value}"
                ))
                .with_hint(format!(
                    "cast '{name}' to the type it has in the series, {from} or {to}"
                )));
            }
        }
    }
    Ok(())
}

fn is_empty(facts: &TableFacts) -> Result<bool> {
    Ok(row_count(facts)? == 0)
}

/// Returns what kind of table is to be written at `path`.
fn table_type(
    path: &PondPath,
    before: Option<&OplogEntry>,
    wanted: Option<EntryType>,
    mode: WriteMode,
) -> Result<EntryType> {
    let by_name = || match path.name().rsplit_once('.') {
        Some((_, ending)) if ending.eq_ignore_ascii_case("series") => EntryType::FileSeries,
        _ => EntryType::FileTable,
    };
    let Some(before) = before else { return Ok(wanted.unwrap_or_else(by_name)) };
    let kind = match (wanted, before.entry_type) {
        (Some(wanted), _) => wanted,
        (None, kind @ (EntryType::FileTable | EntryType::FileSeries)) => kind,
        (None, _) => by_name(),
    };
    expect_type(path, before, kind)?;
    match (mode, kind) {
        (WriteMode::Append, EntryType::FileTable) => {
            Err(Error::unsupported(format!("'{path}' is a table: a version of it is all of it")))
        }
        (WriteMode::Replace, EntryType::FileSeries) => Err(Error::unsupported(format!(
            "'{path}' is a series: its versions are appended, not replaced"
        ))
        .with_hint(format!("remove it first: DROP TABLE '{path}'"))),
        _ => Ok(kind),
    }
}

/// Returns the temporal column that a series has, or that was asked for.
fn wanted_temporal<'a>(
    path: &PondPath,
    before: Option<&'a OplogEntry>,
    wanted: Option<&'a str>,
) -> Result<Option<&'a str>> {
    let has = before.and_then(|before| before.temporal_column.as_deref());
    match (has, wanted) {
        (Some(has), Some(wanted)) if !has.eq_ignore_ascii_case(wanted) => {
            Err(Error::invalid(format!("'{path}' is ordered by '{has}', not by '{wanted}'")))
        }
        (Some(has), _) => Ok(Some(has)),
        (None, wanted) => Ok(wanted),
    }
}
