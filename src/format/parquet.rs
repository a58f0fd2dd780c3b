//! Parquet: columns and statistics from the footer, and rows encoded as they come.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::parquet::{
    CachedParquetFileReaderFactory, transform_binary_to_string, transform_schema_to_view,
};
use datafusion::datasource::physical_plan::{FileSource, ParquetSource};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::cache::SchemaFingerprint;
use datafusion::execution::cache::TableScopedPath;
use datafusion::execution::cache::cache_manager::CachedFileMetadata;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::parquet::arrow::{ArrowWriter, parquet_to_arrow_schema};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_plan::execute_stream;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::{FileKind, OpenedFile, TableSource, WatchedStore};
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

/// Returns row count and bounds of a file, in the columns of the table.
pub(super) fn statistics(
    session: &dyn Session,
    file: &OpenedFile,
    footer: Option<&ParquetMetaData>,
    table_schema: &Schema,
) -> Result<Arc<Statistics>> {
    let own = match (&file.source.known, footer) {
        (Some(known), _) => known.statistics.clone(),
        (None, Some(footer)) => footer_statistics(session, file, footer)?,
        (None, None) => return Ok(Arc::new(Statistics::new_unknown(table_schema))),
    };
    let columns = table_schema.fields().iter().map(|field| {
        match file.schema.column_with_name(field.name()) {
            Some((index, own_field)) => {
                let column = own.column_statistics[index].clone();
                convert(column, own_field.data_type(), field.data_type())
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

/// Carries a column's statistics over to the type that it has in the table.
fn convert(column: ColumnStatistics, from: &DataType, to: &DataType) -> ColumnStatistics {
    let keeps_order = from == to
        || from.is_numeric() && to.is_numeric()
        || from.is_temporal() && to.is_temporal()
        || !from.is_numeric() && !from.is_temporal() && !from.is_nested();
    let bound = |bound: Precision<ScalarValue>| {
        let bound = match from == to {
            true => bound,
            false if keeps_order => bound.cast_to(to).unwrap_or(Precision::Absent),
            false => Precision::Absent,
        };
        // A footer's bounds leave NaN out, which the engine's maximum does not.
        if from.is_floating() || to.is_floating() { bound.to_inexact() } else { bound }
    };
    ColumnStatistics {
        null_count: column.null_count,
        min_value: bound(column.min_value),
        max_value: bound(column.max_value),
        distinct_count: column.distinct_count,
        byte_size: column.byte_size,
        sum_value: Precision::Absent,
    }
}

/// The size in memory at which a row group is written out.
const ROW_GROUP_BYTES: usize = 32 * 1024 * 1024;

/// Runs a whole-table scan and encodes its rows.
pub(super) async fn encode(
    table: Arc<dyn TableProvider>,
    session: &dyn Session,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let plan = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?.build()?;
    let plan = session.create_physical_plan(&plan).await?;
    let rows = execute_stream(plan, session.task_ctx())?;
    let writer =
        ArrowWriter::try_new(Vec::new(), rows.schema(), None).map_err(DataFusionError::from)?;
    let encoded = stream::try_unfold(Some((rows, writer)), |state| async move {
        let Some((rows, writer)) = state else { return Ok(None) };
        encode_next(rows, writer).await.map(Some)
    });
    Ok(encoded.boxed())
}

type Encoding = (SendableRecordBatchStream, ArrowWriter<Vec<u8>>);

/// Encodes up to the next row group, or to the end.
async fn encode_next(
    mut rows: SendableRecordBatchStream,
    mut writer: ArrowWriter<Vec<u8>>,
) -> Result<(Bytes, Option<Encoding>)> {
    while let Some(batch) = rows.try_next().await? {
        writer.write(&batch).map_err(DataFusionError::from)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(DataFusionError::from)?;
        }
        let encoded = std::mem::take(writer.inner_mut());
        if !encoded.is_empty() {
            return Ok((Bytes::from(encoded), Some((rows, writer))));
        }
    }
    let encoded = writer.into_inner().map_err(DataFusionError::from)?;
    Ok((Bytes::from(encoded), None))
}
