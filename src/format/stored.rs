//! The table over stored files: blobs that never change, of which the rows of the oplog tell columns
//! and exact statistics.
//!
//! Planning opens no file. Files that a predicate rules out are left out of the plan, from bounds
//! that are kept as arrays, so that a thousand files cost a few comparisons of vectors. `count(*)`,
//! `min` and `max` are answered by the statistics. Where files are in the order of a column, those
//! that follow each other make a lane, and the lanes declare the order; late data makes a second
//! lane, and more than [`LANES_MAX`] of them none at all.
//!
//! A scan starts with one partition a lane, in order. One of a single lane is cut into as many as the
//! plan above can use when it asks for them ([`super::watch::WatchedSource`]).

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::compute::SortOptions;
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, ScalarValue, Statistics, project_schema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr, expressions};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::path::Path;

use super::ends::Lane;
use super::facts::{KnownTable, stored_schema};
use super::watch::{WatchedFile, WatchedSource, WatchedStore, keep_apart, split_largest};
use super::{TableSource, parquet, statistics, widen};
use crate::error::{Error, Result};

/// Most lanes whose order is declared: merging more costs more than it saves.
const LANES_MAX: usize = 4;

/// What a partition of its own is worth: so many bytes of a stored file are a few milliseconds.
const SPLIT_BYTES: usize = 1024 * 1024;

/// One table of stored files, all in one object store.
#[derive(Debug)]
pub(super) struct StoredTable {
    schema: SchemaRef,
    df_schema: DFSchema,
    store_url: ObjectStoreUrl,
    watched: Arc<HashMap<Path, WatchedFile>>,
    /// In the order of the lanes and, there, of time.
    files: Vec<PartitionedFile>,
    /// The statistics of each file, in the columns of the table.
    file_statistics: FileStatistics,
    /// The statistics of all rows.
    statistics: Statistics,
    order: Option<Order>,
}

/// The order that the rows of each lane have.
#[derive(Debug, Clone)]
struct Order {
    column: usize,
    /// The lane of each file.
    lanes: Vec<usize>,
}

impl StoredTable {
    /// Makes the table of `sources`, all of which are known and in one store.
    ///
    /// # Errors
    /// `Invalid` for no source, or if columns of one name have types that do not widen to one.
    pub(super) fn new(sources: Vec<TableSource>) -> Result<Self> {
        let unite = |schemas: &[SchemaRef]| {
            let files = sources.iter().zip(schemas);
            widen::unite(files.map(|(source, schema)| widen::FileColumns {
                path: &source.path,
                schema,
                guessed: false,
            }))
        };
        let schemas: Vec<SchemaRef> =
            sources.iter().map(|source| known(source).schema.clone()).collect();
        let schema = match unite(&schemas) {
            Ok(schema) => schema,
            // A column without values goes with any type.
            Err(conflict) => {
                let seen = sources.iter().map(|source| schema_seen(known(source)));
                let united = unite(&seen.collect::<Vec<_>>()).map_err(|_| conflict)?;
                with_text(&united)
            }
        };
        Self::with_schema(sources, schema)
    }

    /// As [`StoredTable::new`], with columns that hold those of all sources.
    pub(super) fn with_schema(sources: Vec<TableSource>, schema: SchemaRef) -> Result<Self> {
        let store_url = match sources.first() {
            Some(source) => source.store_url.clone(),
            None => return Err(Error::invalid("a table needs at least one file")),
        };
        let tables: Vec<Arc<KnownTable>> =
            sources.iter().map(|source| known(source).clone()).collect();
        let converted = tables
            .iter()
            .map(|known| statistics::convert(&known.statistics, &known.schema, &schema))
            .collect::<Result<Vec<_>>>()?;
        let order = order(&tables, &converted, &schema);
        // The files by lane and time, or else as they came, which is by version.
        let places = match &order {
            Some((_, places)) => places.clone(),
            None => (0..sources.len()).map(|file| (0, file)).collect(),
        };
        let files = places
            .iter()
            .map(|&(_, file)| partitioned_file(&sources[file], &tables[file], &converted[file]));
        let files: Vec<PartitionedFile> = files.collect();
        let file_statistics =
            places.iter().map(|&(_, file)| converted[file].clone()).collect::<Vec<_>>();
        Ok(Self {
            df_schema: DFSchema::try_from(schema.clone())?,
            watched: Arc::new(WatchedFile::watch(&sources)),
            files,
            statistics: statistics::merge(file_statistics.iter().map(Arc::as_ref), &schema),
            file_statistics: FileStatistics::new(file_statistics, schema.clone()),
            order: order.map(|(column, places)| Order {
                column,
                lanes: places.iter().map(|&(lane, _)| lane).collect(),
            }),
            schema,
            store_url,
        })
    }

    /// Returns the table with text and bytes in plain arrays, as they are in the files; `None` if it
    /// has none in views.
    ///
    /// # Errors
    /// As [`statistics::convert`].
    pub(super) fn without_views(&self) -> Result<Option<Self>> {
        let schema = Arc::new(stored_schema(&self.schema));
        let same_type = |(a, b): (&FieldRef, &FieldRef)| a.data_type() == b.data_type();
        if self.schema.fields().iter().zip(schema.fields()).all(same_type) {
            return Ok(None);
        }
        let converted = self
            .file_statistics
            .files
            .iter()
            .map(|file| statistics::convert(file, &self.schema, &schema))
            .collect::<Result<Vec<_>>>()?;
        let files = self.files.iter().zip(&converted);
        let files = files.map(|(file, known)| file.clone().with_statistics(known.clone()));
        Ok(Some(Self {
            df_schema: DFSchema::try_from(schema.clone())?,
            store_url: self.store_url.clone(),
            watched: self.watched.clone(),
            files: files.collect(),
            statistics: statistics::merge(converted.iter().map(Arc::as_ref), &schema),
            file_statistics: FileStatistics::new(converted, schema.clone()),
            order: self.order.clone(),
            schema,
        }))
    }

    /// Returns which files may hold rows that meet `filters`.
    fn prune(&self, session: &dyn Session, filters: &[Expr]) -> EngineResult<Vec<bool>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(vec![true; self.files.len()]);
        };
        let filter = session.create_physical_expr(filter, &self.df_schema)?;
        let predicate =
            PruningPredicateBuilder::new().with_file_schema(self.schema.clone()).build(filter);
        match predicate {
            Some(predicate) if !predicate.always_true() => predicate.prune(&self.file_statistics),
            _ => Ok(vec![true; self.files.len()]),
        }
    }

    /// Returns the files to scan as lanes, with the statistics of their rows.
    fn select(
        &self,
        session: &dyn Session,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<(Vec<FileGroup>, Statistics)> {
        let keep = self.prune(session, filters)?;
        let mut wanted: Vec<usize> = (0..self.files.len()).filter(|file| keep[*file]).collect();
        // Without a filter, the first files have rows enough.
        if let (Some(limit), true) = (limit, filters.is_empty()) {
            let mut rows = 0;
            wanted.retain(|file| {
                let enough = rows >= limit;
                rows += self.file_statistics.rows(*file);
                !enough
            });
        }
        let statistics = match wanted.len() == self.files.len() {
            true => self.statistics.clone(),
            false => {
                let files = wanted.iter().map(|file| &*self.file_statistics.files[*file]);
                statistics::merge(files, &self.schema)
            }
        };
        let mut lanes: Vec<(usize, Vec<PartitionedFile>)> = Vec::new();
        for file in wanted {
            let lane = self.order.as_ref().map_or(0, |order| order.lanes[file]);
            match lanes.last_mut() {
                Some((last, files)) if *last == lane => files.push(self.files[file].clone()),
                _ => lanes.push((lane, vec![self.files[file].clone()])),
            }
        }
        let groups = lanes.into_iter().map(|(_, files)| FileGroup::new(files)).collect();
        Ok((groups, statistics))
    }

    /// Whether the reader should apply `filters` itself: it should where they select a range of
    /// time, whose rows follow each other.
    fn reads_a_range(&self, filters: &[Expr]) -> bool {
        self.order.as_ref().is_some_and(|order| {
            let time = self.schema.field(order.column).name();
            filters
                .iter()
                .any(|filter| filter.column_refs().iter().any(|column| column.name() == time))
        })
    }
}

#[async_trait]
impl TableProvider for StoredTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters are only hints to prune by; the engine applies them again.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(self.statistics.clone())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let (mut groups, statistics) = self.select(session, filters, limit)?;
        if groups.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let store = WatchedStore::new(session, &self.store_url, self.watched.clone())?;
        let range = self.reads_a_range(filters);
        let source = parquet::stored_source(session, &store, &self.schema, range);
        let lane = match (&self.order, groups.as_slice()) {
            (Some(order), [files]) => {
                Some(Lane { column: order.column, files: files.files().to_vec() })
            }
            _ => None,
        };
        // Of a range of time, who knows how much it is.
        let split_bytes = if range { usize::MAX } else { SPLIT_BYTES };
        let source = WatchedSource::new(source, store).splitting(split_bytes);
        let source = source.with_lane(lane);
        // Lanes are kept apart from the start, and that is not cut later.
        let optimizer = &session.config_options().optimizer;
        if self.order.is_some() && groups.len() > 1 && optimizer.repartition_file_scans {
            let size_min = optimizer.repartition_file_min_size.min(split_bytes);
            let partitions = session.config().target_partitions();
            groups = split_largest(&groups, partitions, size_min).unwrap_or(groups);
        }
        let source = Arc::new(source);
        let ordering = self.order.as_ref().and_then(|order| {
            let name = self.schema.field(order.column).name();
            let column = Arc::new(expressions::Column::new(name, order.column));
            let options = SortOptions { descending: false, nulls_first: false };
            LexOrdering::new([PhysicalSortExpr::new(column, options)])
        });
        let config = FileScanConfigBuilder::new(self.store_url.clone(), source)
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_output_ordering(ordering.into_iter().collect())
            .with_projection_indices(projection.cloned())?
            .with_limit(limit);
        Ok(DataSourceExec::from_data_source(keep_apart(config).build()))
    }
}

/// Returns the columns of a file; one of text that has no value has no type.
pub(super) fn schema_seen(known: &KnownTable) -> SchemaRef {
    let rows = &known.statistics.num_rows;
    let columns = known.schema.fields().iter().zip(&known.statistics.column_statistics);
    let fields = columns.map(|(field, column)| {
        let is_blank = rows.is_exact() == Some(true) && *rows == column.null_count;
        match field.data_type() {
            DataType::Utf8View if is_blank => {
                Arc::new(field.as_ref().clone().with_data_type(DataType::Null))
            }
            _ => field.clone(),
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Returns columns of which those without a type are text.
fn with_text(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Null => Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View)),
        _ => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn known(source: &TableSource) -> &Arc<KnownTable> {
    source.known.as_ref().expect("a stored file is known")
}

fn partitioned_file(
    source: &TableSource,
    known: &KnownTable,
    statistics: &Arc<Statistics>,
) -> PartitionedFile {
    let rows = statistics.num_rows.get_value().copied().unwrap_or_default();
    let file = PartitionedFile::new_from_meta(source.object.clone())
        .with_statistics(statistics.clone())
        .with_metadata_size_hint(parquet::footer_bytes(rows, known.schema.fields().len()));
    parquet::select_rows(file, known)
}

/// Returns the column that the files are in the order of, and the files by lane and time: pairs of a
/// lane and the place of a file in `tables`. `None` if some file is in no order, or if they make too
/// many lanes.
fn order(
    tables: &[Arc<KnownTable>],
    statistics: &[Arc<Statistics>],
    schema: &SchemaRef,
) -> Option<(usize, Vec<(usize, usize)>)> {
    let name = tables.first()?.sorted_by.as_deref()?;
    let (column, _) = schema.column_with_name(name)?;
    let mut ranges = Vec::with_capacity(tables.len());
    for (file, (known, statistics)) in tables.iter().zip(statistics).enumerate() {
        if statistics.num_rows == Precision::Exact(0) {
            continue;
        }
        let times = &statistics.column_statistics[column];
        let (Precision::Exact(min), Precision::Exact(max)) = (&times.min_value, &times.max_value)
        else {
            return None;
        };
        if known.sorted_by.as_deref() != Some(name) || times.null_count != Precision::Exact(0) {
            return None;
        }
        ranges.push((min, max, file));
    }
    ranges.sort_by(|a, b| a.0.partial_cmp(b.0).unwrap_or(std::cmp::Ordering::Equal));
    let mut ends: Vec<&ScalarValue> = Vec::new();
    let mut places = Vec::with_capacity(ranges.len());
    for (min, max, file) in ranges {
        let lane = match ends.iter().position(|end| *end <= min) {
            Some(lane) => lane,
            None if ends.len() < LANES_MAX => {
                ends.push(max);
                ends.len() - 1
            }
            None => return None,
        };
        ends[lane] = max;
        places.push((lane, file));
    }
    // Stable: within a lane the files stay in the order of time.
    places.sort_by_key(|(lane, _)| *lane);
    Some((column, places))
}

/// The bounds of all files of a column, made into arrays when the first predicate asks for them.
#[derive(Debug)]
struct FileStatistics {
    schema: SchemaRef,
    files: Vec<Arc<Statistics>>,
    rows: ArrayRef,
    columns: Vec<OnceLock<Option<Bounds>>>,
}

#[derive(Debug)]
struct Bounds {
    min: ArrayRef,
    max: ArrayRef,
    nulls: ArrayRef,
}

impl FileStatistics {
    fn new(files: Vec<Arc<Statistics>>, schema: SchemaRef) -> Self {
        let rows = files.iter().map(|file| file.num_rows.get_value().map(|rows| *rows as u64));
        Self {
            rows: Arc::new(rows.collect::<UInt64Array>()),
            columns: schema.fields().iter().map(|_| OnceLock::new()).collect(),
            schema,
            files,
        }
    }

    fn rows(&self, file: usize) -> usize {
        self.files[file].num_rows.get_value().copied().unwrap_or_default()
    }

    fn bounds(&self, column: &Column) -> Option<&Bounds> {
        let (index, field) = self.schema.column_with_name(column.name())?;
        let none = ScalarValue::try_from(field.data_type()).ok()?;
        let array = |bound: fn(&Statistics, usize) -> &Precision<ScalarValue>| {
            ScalarValue::iter_to_array(self.files.iter().map(|file| match bound(file, index) {
                Precision::Exact(bound) => bound.clone(),
                _ => none.clone(),
            }))
            .ok()
        };
        let bounds = self.columns[index].get_or_init(|| {
            let nulls = self.files.iter().map(|file| {
                let nulls = file.column_statistics[index].null_count.get_value();
                nulls.map(|nulls| *nulls as u64)
            });
            Some(Bounds {
                min: array(|file, index| &file.column_statistics[index].min_value)?,
                max: array(|file, index| &file.column_statistics[index].max_value)?,
                nulls: Arc::new(nulls.collect::<UInt64Array>()),
            })
        });
        bounds.as_ref()
    }
}

impl PruningStatistics for FileStatistics {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| bounds.min.clone())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| bounds.max.clone())
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column).map(|bounds| bounds.nulls.clone())
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(self.rows.clone())
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
