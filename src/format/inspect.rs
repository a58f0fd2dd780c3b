//! The facts of a Parquet file that is stored as it is: from its footer, and from its rows where the
//! footer is not exact.
//!
//! A footer's bounds leave NaN out, cut long text off, or are missing; it never says whether a column
//! is in order. The columns that need it are read once, as a stream. Other writers' bounds are
//! trusted where Parquet defines them for good: integers, dates, times and booleans.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::{
    ParquetRecordBatchStreamBuilder, ProjectionMask, parquet_column, parquet_to_arrow_schema,
};
use datafusion::parquet::basic::Type as PhysicalType;
use datafusion::parquet::errors::{ParquetError, Result as ParquetResult};
use datafusion::parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::facts::{FactsBuilder, has_bounds, stored_schema};
use super::watch;
use super::write::{check_columns, joined};
use crate::entry::TableFacts;
use crate::error::{Error, ErrorKind, Result};
use crate::path::PondPath;

/// Returns the facts of the Parquet file `object`, which becomes `path`. `find_temporal` picks the
/// column that orders a series ([`super::detect_temporal`]), or none for a table.
///
/// # Errors
/// `Invalid` if the file is no Parquet, or not one that can be a table; `Corrupt` if its rows cannot be
/// read; what `find_temporal` returns.
pub async fn facts_of_parquet(
    store: Arc<dyn ObjectStore>,
    object: &ObjectMeta,
    path: &PondPath,
    find_temporal: impl FnOnce(&Schema) -> Result<Option<String>>,
) -> Result<TableFacts> {
    let footer = watch::isolate(path, async {
        let reader = DFParquetMetadata::new(&store, object)
            .with_page_index_policy(Some(PageIndexPolicy::Skip));
        Ok(reader.fetch_metadata().await?)
    });
    let no_parquet = |error: Error| match error.kind() {
        ErrorKind::Corrupt => {
            Error::invalid(format!("'{path}' is not a Parquet file")).with_source(error)
        }
        _ => error,
    };
    let footer = footer.await.map_err(no_parquet)?;
    let file = footer.file_metadata();
    let own_schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())
        .map_err(|error| no_parquet(Error::corrupt("its schema").with_source(error)))?;
    let own_schema = Arc::new(own_schema);
    check_columns(&own_schema).map_err(|error| error.context(format!("'{path}'")))?;
    let schema = stored_schema(&own_schema);
    let temporal = find_temporal(&schema)?;

    let mut facts = FactsBuilder::new(&schema, temporal.as_deref())?;
    facts.add_rows(u64::try_from(file.num_rows()).unwrap_or_default());
    let statistics = DFParquetMetadata::statistics_from_parquet_metadata(&footer, &own_schema)?;
    let mut to_read = Vec::new();
    for (column, field) in own_schema.fields().iter().enumerate() {
        let is_temporal = temporal.as_ref() == Some(field.name());
        match from_footer(&footer, &own_schema, &statistics, column) {
            Some(known) if !is_temporal => facts.set_column(column, &known)?,
            _ if has_bounds(schema.field(column).data_type()) => to_read.push(column),
            _ => facts.set_column(column, &ColumnStatistics::new_unknown())?,
        }
    }
    if to_read.is_empty() || file.num_rows() == 0 {
        return facts.finish();
    }
    let (object, owned_path) = (object.clone(), path.clone());
    let pass = SpawnedTask::spawn(async move {
        let path = owned_path.clone();
        watch::isolate(&path, read_columns(store, object, footer, to_read, facts)).await
    });
    joined(pass.join().await)
}

/// Reads the columns `to_read` and adds their values to `facts`.
async fn read_columns(
    store: Arc<dyn ObjectStore>,
    object: ObjectMeta,
    footer: Arc<ParquetMetaData>,
    to_read: Vec<usize>,
    mut facts: FactsBuilder,
) -> Result<TableFacts> {
    let engine = |error| Error::from(DataFusionError::ParquetError(Box::new(error)));
    let reader = Reader { store, location: object.location, footer: footer.clone() };
    let columns = ProjectionMask::roots(footer.file_metadata().schema_descr(), to_read.clone());
    let footer = ArrowReaderMetadata::try_new(footer, ArrowReaderOptions::new()).map_err(engine)?;
    let rows = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer)
        .with_projection(columns)
        .build()
        .map_err(engine)?;
    let mut rows = rows.map_err(engine);
    while let Some(batch) = rows.try_next().await? {
        // The mask keeps the order of the file, which is that of `to_read`.
        for (column, values) in to_read.iter().zip(batch.columns()) {
            facts.add_column(*column, values)?;
        }
    }
    facts.finish()
}

/// Reads a file whose footer is known.
struct Reader {
    store: Arc<dyn ObjectStore>,
    location: Path,
    footer: Arc<ParquetMetaData>,
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        let bytes = self.store.get_range(&self.location, range);
        bytes.map_err(|error| ParquetError::External(Box::new(error))).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        let footer = self.footer.clone();
        async { Ok(footer) }.boxed()
    }
}

/// Returns what the footer says of a column, if that is exact; `None` if its values must be read.
fn from_footer(
    footer: &ParquetMetaData,
    schema: &Schema,
    statistics: &Statistics,
    column: usize,
) -> Option<ColumnStatistics> {
    let field = schema.field(column);
    if matches!(field.data_type(), DataType::Float16 | DataType::Float32 | DataType::Float64) {
        return None;
    }
    let descriptor = footer.file_metadata().schema_descr();
    let (leaf, _) = parquet_column(descriptor, schema, field.name())?;
    let never_cut_off = matches!(
        descriptor.column(leaf).physical_type(),
        PhysicalType::BOOLEAN | PhysicalType::INT32 | PhysicalType::INT64
    );
    let bounded = has_bounds(&stored_schema(schema).field(column).data_type().clone());
    let mut nulls = 0;
    let mut has_values = false;
    for group in footer.row_groups().iter().filter(|group| group.num_rows() > 0) {
        let own = group.column(leaf).statistics()?;
        let own_nulls = own.null_count_opt()?;
        nulls += own_nulls;
        if i64::try_from(own_nulls) == Ok(group.num_rows()) {
            continue;
        }
        has_values = true;
        let exact = own.min_bytes_opt().is_some()
            && own.max_bytes_opt().is_some()
            && !own.is_min_max_deprecated()
            && (never_cut_off || own.min_is_exact() && own.max_is_exact());
        if bounded && !exact {
            return None;
        }
    }
    let (min, max) = match (has_values && bounded, &statistics.column_statistics[column]) {
        (false, _) => (Precision::Absent, Precision::Absent),
        (true, known) => match (known.min_value.get_value(), known.max_value.get_value()) {
            (Some(min), Some(max)) if !min.is_null() && !max.is_null() => {
                (Precision::Exact(min.clone()), Precision::Exact(max.clone()))
            }
            _ => return None,
        },
    };
    Some(ColumnStatistics {
        null_count: Precision::Exact(usize::try_from(nulls).ok()?),
        min_value: min,
        max_value: max,
        ..ColumnStatistics::new_unknown()
    })
}
