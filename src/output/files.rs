//! Files of other programs: Apache Parquet and Arrow IPC.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;

use super::{Rows, write_error};
use crate::error::{Error, ErrorKind, Result};

/// Rows in a row group of Parquet output; they are in memory until it is complete.
pub const ROW_GROUP_ROWS: usize = 122_880;

/// What a row group of Parquet output takes, however few rows it has.
const ROW_GROUP_BYTES: usize = 128 << 20;

pub(super) async fn write_parquet(
    rows: &mut Rows,
    schema: SchemaRef,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let failed = |source| Error::new(ErrorKind::Io, "writing Parquet").with_source(source);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build();
    let mut writer = ArrowWriter::try_new(&mut *out, schema, Some(properties)).map_err(failed)?;
    while let Some(batch) = rows.next().await? {
        writer.write(&batch).map_err(failed)?;
    }
    writer.close().map_err(failed)?;
    out.flush().map_err(write_error)
}

pub(super) async fn write_arrow(
    rows: &mut Rows,
    schema: SchemaRef,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let failed = |source| Error::new(ErrorKind::Io, "writing Arrow IPC").with_source(source);
    let fields: Fields = schema.fields().iter().map(plain_field).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    let mut writer = FileWriter::try_new(&mut *out, &schema).map_err(failed)?;
    while let Some(batch) = rows.next().await? {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &rows)?;
        writer.write(&batch).map_err(failed)?;
    }
    writer.finish().map_err(failed)?;
    drop(writer);
    out.flush().map_err(write_error)
}

/// Returns a column of a file whose batches stand alone: a dictionary may be another in each batch,
/// which the file format does not allow, and views may point into far more than their rows.
fn plain_field(field: &FieldRef) -> FieldRef {
    let plain = field.as_ref().clone().with_data_type(plain_type(field.data_type()));
    Arc::new(plain)
}

fn plain_type(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Utf8View => Utf8,
        BinaryView => Binary,
        Dictionary(_, value) => plain_type(value),
        List(item) => List(plain_field(item)),
        LargeList(item) => LargeList(plain_field(item)),
        FixedSizeList(item, size) => FixedSizeList(plain_field(item), *size),
        Map(entries, sorted) => Map(plain_field(entries), *sorted),
        Struct(fields) => Struct(fields.iter().map(plain_field).collect()),
        other => other.clone(),
    }
}
