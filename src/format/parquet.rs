//! Parquet: columns and statistics from the footer, and the engine's sources of Parquet files.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, ParquetFileMetrics, ParquetFileReaderFactory,
    ParquetRowSelection, transform_binary_to_string, transform_schema_to_view,
};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::cache::SchemaFingerprint;
use datafusion::execution::cache::TableScopedPath;
use datafusion::execution::cache::cache_manager::{CachedFileMetadata, FileMetadataCache};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::parquet::arrow::arrow_reader::ArrowReaderOptions;
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::parquet_to_arrow_schema;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::{ObjectMeta, ObjectStore};

use super::write::{PAGE_ROWS, ROW_GROUP_ROWS};
use super::{
    EncodedTable, FileKind, KnownTable, OpenedFile, TableSource, WatchedStore, statistics,
};
use crate::error::Result;

/// Reads the footer of a file, or finds it in the engine's cache.
pub(super) async fn open(
    session: &dyn Session,
    store: &WatchedStore,
    source: &TableSource,
) -> Result<(SchemaRef, FileKind)> {
    let cache = session.runtime_env().cache_manager.get_file_metadata_cache();
    let options = &session.config_options().execution.parquet;
    let footer = DFParquetMetadata::new(store, &source.object)
        .with_file_metadata_cache(Some(cache))
        .with_metadata_size_hint(options.metadata_size_hint)
        .fetch_metadata()
        .await?;
    let file = footer.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(DataFusionError::from)?;
    // Metadata would keep schemas of like columns apart.
    let fields = schema
        .fields()
        .iter()
        .map(|field| Arc::new(field.as_ref().clone().with_metadata(HashMap::new())));
    let mut schema = Schema::new(fields.collect::<Vec<_>>());
    if options.binary_as_string {
        schema = transform_binary_to_string(&schema);
    }
    if options.schema_force_view_types {
        schema = transform_schema_to_view(&schema);
    }
    Ok((Arc::new(schema), FileKind::Parquet(Some(footer))))
}

/// Returns the engine's source of Parquet files with these columns.
pub(super) fn file_source(
    session: &dyn Session,
    store: &WatchedStore,
    schema: &SchemaRef,
) -> Arc<dyn FileSource> {
    let cache = session.runtime_env().cache_manager.get_file_metadata_cache();
    let readers = CachedParquetFileReaderFactory::new(Arc::new(store.clone()), cache);
    let options: TableParquetOptions = session.default_table_options().parquet;
    let size_hint = options.global.metadata_size_hint;
    let mut source = ParquetSource::new(schema.clone())
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(Arc::new(readers));
    if let Some(size_hint) = size_hint {
        source = source.with_metadata_size_hint(size_hint);
    }
    Arc::new(source)
}

/// Returns the engine's source of stored files with these columns; with `range`, it applies filters
/// itself.
pub(super) fn stored_source(
    session: &dyn Session,
    store: &WatchedStore,
    schema: &SchemaRef,
    range: bool,
) -> Arc<dyn FileSource> {
    let readers = StoredReaders {
        store: Arc::new(store.clone()),
        footers: session.runtime_env().cache_manager.get_file_metadata_cache(),
    };
    let mut options: TableParquetOptions = session.default_table_options().parquet;
    options.global.pushdown_filters |= range;
    let source = ParquetSource::new(schema.clone())
        .with_table_parquet_options(options)
        .with_parquet_file_reader_factory(Arc::new(readers));
    Arc::new(source)
}

/// Readers of stored files, which read a footer once, and with it the page index: the engine's own
/// leave that out and then read it for each query.
#[derive(Debug)]
struct StoredReaders {
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
}

impl ParquetFileReaderFactory for StoredReaders {
    fn create_reader(
        &self,
        partition: usize,
        file: PartitionedFile,
        size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> EngineResult<Box<dyn AsyncFileReader + Send>> {
        let location = file.object_meta.location.as_ref();
        Ok(Box::new(StoredReader {
            metrics: ParquetFileMetrics::new(partition, location, metrics),
            store: self.store.clone(),
            footers: self.footers.clone(),
            object: file.object_meta,
            size_hint,
        }))
    }
}

struct StoredReader {
    metrics: ParquetFileMetrics,
    store: Arc<dyn ObjectStore>,
    footers: Arc<FileMetadataCache>,
    object: ObjectMeta,
    size_hint: Option<usize>,
}

impl AsyncFileReader for StoredReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let ranges = self.get_byte_ranges(vec![range]);
        async move { Ok(ranges.await?.swap_remove(0)) }.boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.metrics.bytes_scanned.add(usize::try_from(bytes).unwrap_or(usize::MAX));
        async move {
            let bytes = self.store.get_ranges(&self.object.location, &ranges).await;
            bytes.map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            DFParquetMetadata::new(&self.store, &self.object)
                .with_file_metadata_cache(Some(self.footers.clone()))
                .with_metadata_size_hint(self.size_hint)
                .with_page_index_policy(Some(PageIndexPolicy::Optional))
                .fetch_metadata()
                .await
                .map_err(|error| ParquetError::External(Box::new(error)))
        }
        .boxed()
    }
}

/// Returns about how many bytes the footer and the page index of a stored file take, which are read
/// at once; what is short of them is read by a second call.
pub(super) fn footer_bytes(rows: usize, columns: usize) -> usize {
    let row_groups = rows.div_ceil(ROW_GROUP_ROWS);
    let pages = rows.div_ceil(PAGE_ROWS) + row_groups;
    1536 + columns * (128 + 112 * row_groups + 24 * pages)
}

/// Restricts a file to the rows that are the table's.
pub(super) fn select_rows(file: PartitionedFile, known: &KnownTable) -> PartitionedFile {
    match &known.rows {
        Some(rows) => file.with_extension(ParquetRowSelection::new(rows.as_ref().clone())),
        None => file,
    }
}

/// Returns row count and bounds of a file, in the columns of the table.
pub(super) fn statistics(
    session: &dyn Session,
    file: &OpenedFile,
    footer: Option<&ParquetMetaData>,
    table_schema: &SchemaRef,
) -> Result<Arc<Statistics>> {
    let own = match (&file.source.known, footer) {
        (Some(known), _) => known.statistics.clone(),
        (None, Some(footer)) => footer_statistics(session, file, footer)?,
        (None, None) => return Ok(Arc::new(Statistics::new_unknown(table_schema))),
    };
    if file.source.known.is_some() {
        return statistics::convert(&own, &file.schema, table_schema);
    }
    let columns = table_schema.fields().iter().map(|field| {
        match file.schema.column_with_name(field.name()) {
            Some((index, own_field)) => {
                let (from, to) = (own_field.data_type(), field.data_type());
                let column = own.column_statistics[index].clone();
                let column = statistics::convert_column(column, from, to);
                if !from.is_floating() && !to.is_floating() {
                    return column;
                }
                // A footer's bounds leave NaN out, which the engine's maximum does not.
                ColumnStatistics {
                    min_value: column.min_value.to_inexact(),
                    max_value: column.max_value.to_inexact(),
                    ..column
                }
            }
            None => {
                ColumnStatistics { null_count: own.num_rows, ..ColumnStatistics::new_unknown() }
            }
        }
    });
    Ok(Arc::new(Statistics {
        num_rows: own.num_rows,
        total_byte_size: own.total_byte_size,
        column_statistics: columns.collect(),
    }))
}

/// Computes statistics in the file's own columns: across types they would come out wrong.
fn footer_statistics(
    session: &dyn Session,
    file: &OpenedFile,
    footer: &ParquetMetaData,
) -> Result<Arc<Statistics>> {
    let cache = session.runtime_env().cache_manager.get_file_statistic_cache();
    let object = &file.source.object;
    let key = TableScopedPath { table: None, path: object.location.clone() };
    let columns = Arc::new(SchemaFingerprint::from_schema(&file.schema));
    if let Some(cache) = &cache
        && let Some(cached) = cache.get(&key)
        && cached.is_valid_for(object, &columns)
    {
        return Ok(cached.statistics.clone());
    }
    let statistics = DFParquetMetadata::statistics_from_parquet_metadata(footer, &file.schema)?;
    let statistics = Arc::new(statistics);
    if let Some(cache) = &cache {
        let cached = CachedFileMetadata::new(object.clone(), columns, statistics.clone(), None);
        cache.put(&key, cached);
    }
    Ok(statistics)
}

/// Runs a whole-table scan and encodes its rows.
pub(super) async fn encode(
    table: Arc<dyn TableProvider>,
    session: &dyn Session,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let plan = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?.build()?;
    let plan = session.create_physical_plan(&plan).await?;
    let encoded = EncodedTable::new(execute_stream(plan, session.task_ctx())?, None)?;
    let parts = stream::try_unfold(encoded, |mut encoded| async move {
        Ok(encoded.next().await?.map(|part| (part, encoded)))
    });
    Ok(parts.boxed())
}
