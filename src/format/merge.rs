//! Merging the files of a series into one, in the order of time, with a note of which version each row
//! is from.
//!
//! The files are scanned by the engine as any query would, so a merged file shows what its parts did:
//! columns by name, types widened. Files that follow each other in time are read one after the other.
//! Files that overlap are merged by time and version, one that is in no order after sorting it; if
//! rows of different versions alternate so often that the note would have more than [`RUNS_MAX`]
//! entries, the files are read one after the other all the same, and the result is in no order.
//!
//! A merge holds a batch and a row group of each file that it reads at a time; [`super::next_merge`]
//! bounds how many and how large they are.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions::Column};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use futures::stream::{self, StreamExt, TryStreamExt};

use bytes::Bytes;

use super::stored::StoredTable;
use super::{EncodedTable, TableSource, widen};
use crate::entry::{Segment, TableFacts};
use crate::error::{Error, Result};

/// Most entries of the note which rows are from which version.
const RUNS_MAX: usize = 65_536;

/// A file to be merged.
#[derive(Debug, Clone)]
pub struct MergeFile {
    /// The file of a version or of a segment.
    pub source: TableSource,
    /// Which version's rows follow each other in what is read of it: `[(version, rows)]` for a
    /// version's own file.
    pub runs: Vec<(i64, i64)>,
}

/// Files of a series becoming one.
pub struct Merge {
    encoded: EncodedTable,
    runs: Arc<Mutex<Runs>>,
    versions: (i64, i64),
}

impl Merge {
    /// Starts to merge `files`, which are in the order of their versions and hold all rows of them.
    /// `temporal_column` orders the series. Nothing is kept of `session` but its runtime.
    ///
    /// # Errors
    /// `Invalid` for no files, or if types of a column do not widen to one; what keeps a file from
    /// being read.
    pub async fn new(
        session: &dyn Session,
        files: Vec<MergeFile>,
        temporal_column: &str,
    ) -> Result<Self> {
        let versions =
            || files.iter().flat_map(|file| file.runs.iter().map(|(version, _)| *version));
        let (Some(from), Some(to)) = (versions().min(), versions().max()) else {
            return Err(Error::invalid("a merge needs at least one version"));
        };
        let inputs = Inputs::new(session, &files, temporal_column).await?;
        let rows = match inputs.follow_each_other() || !inputs.interleave_little().await? {
            true => inputs.one_after_the_other(None),
            false => inputs.merged(None)?,
        };
        let runs = Arc::new(Mutex::new(Runs::default()));
        let rows = without_versions(rows, &inputs.schema, runs.clone());
        let encoded = EncodedTable::new(rows, Some(temporal_column))?;
        Ok(Self { encoded, runs, versions: (from, to) })
    }

    /// Returns the next bytes of the merged file, or `None` at its end.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        self.encoded.next().await
    }

    /// Returns what is to be known of the merged file, whose last bytes have been taken.
    ///
    /// # Errors
    /// `Invalid` before [`Merge::next`] has returned `None`.
    pub fn finish(self) -> Result<(TableFacts, Segment)> {
        let facts = self.encoded.finish()?;
        let runs = std::mem::take(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner));
        let (from, to) = self.versions;
        let segment = Segment { from, to, sorted: facts.sorted, runs: runs.0 };
        Ok((facts, segment))
    }
}

/// Runs of rows of one version.
#[derive(Debug, Default)]
struct Runs(Vec<(i64, i64)>);

impl Runs {
    fn add(&mut self, versions: &ArrayRef) {
        for version in versions.as_primitive::<Int64Type>().values() {
            match self.0.last_mut() {
                Some((last, rows)) if last == version => *rows += 1,
                _ => self.0.push((*version, 1)),
            }
        }
    }
}

/// The files of a merge, ready to be scanned.
struct Inputs {
    /// The columns of the merged file.
    schema: SchemaRef,
    /// The place of the temporal column.
    time: usize,
    files: Vec<Input>,
    task: Arc<TaskContext>,
}

#[derive(Debug, Clone)]
struct Input {
    /// Scans all columns of the file, or its times alone.
    all: Arc<dyn ExecutionPlan>,
    times: Arc<dyn ExecutionPlan>,
    runs: Arc<[(i64, i64)]>,
    sorted: bool,
    /// Its first and last time, if it has any.
    range: Option<(ScalarValue, ScalarValue)>,
}

/// Scans a file, with the version of each row as another column at the end.
#[derive(Debug)]
struct Versioned {
    rows: Arc<dyn ExecutionPlan>,
    schema: SchemaRef,
    runs: Arc<[(i64, i64)]>,
}

impl Inputs {
    async fn new(session: &dyn Session, files: &[MergeFile], temporal: &str) -> Result<Self> {
        let known = |file: &MergeFile| {
            file.source.known.clone().ok_or_else(|| {
                Error::invalid(format!("'{}': only stored files are merged", file.source.path))
            })
        };
        let tables = files.iter().map(known).collect::<Result<Vec<_>>>()?;
        let schema = widen::unite(files.iter().zip(&tables).map(|(file, known)| {
            widen::FileColumns { path: &file.source.path, schema: &known.schema, guessed: false }
        }))?;
        let time = schema.index_of(temporal)?;
        let mut inputs = Vec::with_capacity(files.len());
        for (file, known) in files.iter().zip(&tables) {
            let table = StoredTable::with_schema(vec![file.source.clone()], schema.clone())?;
            let statistics = table.statistics().expect("a stored table has statistics");
            let times = &statistics.column_statistics[time];
            let range = match (&times.min_value, &times.max_value) {
                (Precision::Exact(min), Precision::Exact(max)) => Some((min.clone(), max.clone())),
                _ => None,
            };
            inputs.push(Input {
                all: table.scan(session, None, &[], None).await?,
                times: table.scan(session, Some(&vec![time]), &[], None).await?,
                runs: file.runs.clone().into(),
                sorted: known.sorted_by.as_deref() == Some(temporal),
                range,
            });
        }
        // In the order of time, and of versions where that does not tell.
        inputs.sort_by(|a, b| {
            let (a, b) =
                (a.range.as_ref().map(|range| &range.0), b.range.as_ref().map(|range| &range.0));
            a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal)
        });
        Ok(Self { schema, time, files: inputs, task: session.task_ctx() })
    }

    /// Whether the files are in order and do not overlap.
    fn follow_each_other(&self) -> bool {
        let ranges = || self.files.iter().filter_map(|file| file.range.as_ref());
        self.files.iter().all(|file| file.sorted)
            && ranges().zip(ranges().skip(1)).all(|(before, after)| before.1 <= after.0)
    }

    /// Whether the rows of different versions alternate little enough for a note of it.
    async fn interleave_little(&self) -> Result<bool> {
        let mut times = self.merged(Some(self.time))?;
        let mut runs = Runs::default();
        while let Some(batch) = times.try_next().await? {
            runs.add(batch.column(1));
            if runs.0.len() > RUNS_MAX {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns the scan of a file, of all its columns or of `column` alone.
    fn scan(&self, file: &Input, column: Option<usize>) -> Arc<Versioned> {
        let fields = self.schema.fields().iter().enumerate();
        let fields = fields.filter(|(at, _)| column.is_none_or(|column| column == *at));
        let version = Arc::new(Field::new("\0version", DataType::Int64, false));
        let fields = fields.map(|(_, field)| field.clone()).chain([version]);
        Arc::new(Versioned {
            rows: if column.is_some() { file.times.clone() } else { file.all.clone() },
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            runs: file.runs.clone(),
        })
    }

    /// Reads the files one after the other.
    fn one_after_the_other(&self, column: Option<usize>) -> SendableRecordBatchStream {
        let scans: Vec<_> = self.files.iter().map(|file| self.scan(file, column)).collect();
        let schema = scans[0].schema.clone();
        let task = self.task.clone();
        let rows = stream::iter(scans).flat_map(move |scan| scan.execute(task.clone()));
        Box::pin(RecordBatchStreamAdapter::new(schema, rows))
    }

    /// Merges the files by time and version.
    fn merged(&self, column: Option<usize>) -> Result<SendableRecordBatchStream> {
        let time = if column.is_some() { 0 } else { self.time };
        let version = if column.is_some() { 1 } else { self.schema.fields().len() };
        let ascending = SortOptions { descending: false, nulls_first: false };
        let key =
            |name: &str, at| PhysicalSortExpr::new(Arc::new(Column::new(name, at)), ascending);
        let name = self.schema.field(self.time).name();
        let order = LexOrdering::new([key(name, time), key("\0version", version)])
            .expect("an order by two columns");
        let mut sorted: Vec<Arc<dyn ExecutionPlan>> = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let scan = self.scan(file, column);
            let (schema, claim) = (scan.schema.clone(), file.sorted.then(|| order.clone()));
            let rows = StreamingTableExec::try_new(schema, vec![scan], None, claim, false, None)?;
            sorted.push(match file.sorted {
                true => Arc::new(rows),
                false => Arc::new(SortExec::new(order.clone(), Arc::new(rows))),
            });
        }
        let merged = SortPreservingMergeExec::new(order, UnionExec::try_new(sorted)?)
            .with_round_robin_repartition(false);
        Ok(merged.execute(0, self.task.clone())?)
    }
}

impl PartitionStream for Versioned {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, task: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = self.schema.clone();
        let rows = match self.rows.execute(0, task) {
            Ok(rows) => rows,
            Err(error) => {
                let failed = stream::once(async { Err(error) });
                return Box::pin(RecordBatchStreamAdapter::new(schema, failed));
            }
        };
        let mut versions = Versions { runs: self.runs.clone(), at: 0, used: 0 };
        let with_versions = rows.map(move |batch| {
            let batch = batch?;
            let mut columns = batch.columns().to_vec();
            columns.push(versions.next(batch.num_rows())?);
            Ok(RecordBatch::try_new(schema.clone(), columns)?)
        });
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), with_versions))
    }
}

/// The version of each row of a file, in order.
struct Versions {
    runs: Arc<[(i64, i64)]>,
    at: usize,
    /// Rows of the run `at` that are done.
    used: i64,
}

impl Versions {
    fn next(&mut self, rows: usize) -> EngineResult<ArrayRef> {
        let mut versions = Vec::with_capacity(rows);
        while versions.len() < rows {
            let Some((version, run)) = self.runs.get(self.at) else {
                return Err(Error::corrupt("a file of a series has more rows than its runs").into());
            };
            if self.used >= *run {
                (self.at, self.used) = (self.at + 1, 0);
                continue;
            }
            let left = usize::try_from(run - self.used).unwrap_or(usize::MAX);
            let taken = left.min(rows - versions.len());
            versions.resize(versions.len() + taken, *version);
            self.used += taken as i64;
        }
        Ok(Arc::new(Int64Array::from(versions)))
    }
}

/// Takes the versions off the rows and notes them in `runs`.
fn without_versions(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
    runs: Arc<Mutex<Runs>>,
) -> SendableRecordBatchStream {
    let without = rows.map(move |batch| {
        let batch = batch?;
        let (versions, columns) = batch.columns().split_last().expect("the versions are a column");
        runs.lock().unwrap_or_else(PoisonError::into_inner).add(versions);
        let schema = Arc::new(batch.schema().project(&(0..columns.len()).collect::<Vec<_>>())?);
        Ok(RecordBatch::try_new(schema, columns.to_vec())?)
    });
    Box::pin(RecordBatchStreamAdapter::new(schema.clone(), without))
}
