//! JSON lines: the columns that a sample tells, and a file source that reads them strictly.
//!
//! The engine's own source differs in two ways that would hurt: where the sample saw only integers,
//! it cuts a later 1.5 down to 1 without a word, and it refuses a number in a column of text. So
//! this one reads integers that were guessed as text, and then parses them.

use std::collections::HashSet;
use std::io::{BufRead, Cursor};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{CastOptions, cast_with_options};
use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::json::reader::infer_json_schema;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::file_format::json::JsonDecoder;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, FileScanConfig, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion_datasource::TableSchema;
use datafusion_datasource::boundary_stream::AlignedBoundaryStream;
use datafusion_datasource::decoder::{DecoderDeserializer, deserialize_stream};
use futures::stream::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{TableSource, text};
use crate::error::Result;

/// Learns the columns of a JSON lines file, and whether only a part of it told them.
pub(super) async fn open(
    store: &dyn ObjectStore,
    source: &TableSource,
    compression: FileCompressionType,
) -> Result<(SchemaRef, bool)> {
    if let Some(columns) = text::recall(source).columns {
        return Ok(columns);
    }
    let sample = text::sample(store, source, compression, |bytes| {
        bytes.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1)
    });
    let sample = sample.await?;
    let (schema, _) = infer_json_schema(Cursor::new(&sample.bytes), None)?;
    let schema = in_order(&schema, &sample.bytes);
    let columns = (schema, !sample.is_whole);
    text::remember(source, |learnt| learnt.columns = Some(columns.clone()));
    Ok(columns)
}

/// Puts columns in the order in which the text names them; inference forgets it.
fn in_order(schema: &Schema, sample: &[u8]) -> SchemaRef {
    let mut seen = HashSet::new();
    let mut fields: Vec<FieldRef> = Vec::with_capacity(schema.fields().len());
    for line in sample.lines().map_while(std::io::Result::ok) {
        if fields.len() == schema.fields().len() {
            break;
        }
        let names = serde_json::Deserializer::from_str(&line).deserialize_map(Names);
        for name in names.unwrap_or_default() {
            if let Ok(field) = schema.field_with_name(&name)
                && seen.insert(name)
            {
                let field = field.clone().with_data_type(plain(field.data_type()));
                fields.push(Arc::new(field));
            }
        }
    }
    Arc::new(Schema::new(fields))
}

/// The inferred type with its text as views, and nested fields in a stable order.
fn plain(data_type: &DataType) -> DataType {
    rewrite(data_type, &|leaf| (leaf == &DataType::Utf8).then_some(DataType::Utf8View))
}

/// Collects the names of an object's members.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Self::Value, M::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = members.next_entry()? {
            names.push(name);
        }
        Ok(names)
    }
}

/// Replaces the leaves of a type; the members of objects come in the order of their names.
fn rewrite(data_type: &DataType, leaf: &dyn Fn(&DataType) -> Option<DataType>) -> DataType {
    let with = |field: &FieldRef| {
        let data_type = rewrite(field.data_type(), leaf);
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    };
    match data_type {
        DataType::List(item) => DataType::List(with(item)),
        DataType::Struct(fields) => {
            let mut fields: Vec<FieldRef> = fields.iter().map(with).collect();
            fields.sort_by(|a, b| a.name().cmp(b.name()));
            DataType::Struct(fields.into())
        }
        other => leaf(other).unwrap_or_else(|| other.clone()),
    }
}

/// Reads JSON lines.
#[derive(Clone)]
pub(super) struct JsonLinesSource {
    table_schema: TableSchema,
    projection: SplitProjection,
    metrics: ExecutionPlanMetricsSet,
    batch_rows: usize,
    /// Whether integers were guessed from a part of the text.
    sampled: bool,
}

impl JsonLinesSource {
    pub(super) fn new(schema: SchemaRef, sampled: bool) -> Self {
        let table_schema = TableSchema::from(schema);
        Self {
            projection: SplitProjection::unprojected(&table_schema),
            table_schema,
            metrics: ExecutionPlanMetricsSet::new(),
            batch_rows: 0,
            sampled,
        }
    }
}

impl FileSource for JsonLinesSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _: usize,
    ) -> EngineResult<Arc<dyn FileOpener>> {
        let file_schema = self.table_schema.file_schema();
        let opener = JsonLinesOpener {
            store,
            schema: Arc::new(file_schema.project(&self.projection.file_indices)?),
            compression: config.file_compression_type,
            batch_rows: self.batch_rows,
            sampled: self.sampled,
        };
        ProjectionOpener::try_new(self.projection.clone(), Arc::new(opener), file_schema)
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_rows: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_rows, ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        "json"
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> EngineResult<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.projection.source.iter(), f)
    }
}

struct JsonLinesOpener {
    store: Arc<dyn ObjectStore>,
    /// The columns to read.
    schema: SchemaRef,
    compression: FileCompressionType,
    batch_rows: usize,
    sampled: bool,
}

impl FileOpener for JsonLinesOpener {
    fn open(&self, file: PartitionedFile) -> EngineResult<FileOpenFuture> {
        let store = self.store.clone();
        let compression = self.compression;
        let schema = self.schema.clone();
        let read_schema = if self.sampled { loosen(&schema) } else { schema.clone() };
        let decoder = ReaderBuilder::new(read_schema)
            .with_batch_size(self.batch_rows)
            .with_coerce_primitive(true)
            .build_decoder()?;
        Ok(Box::pin(async move {
            let location = file.object_meta.location.clone();
            let size = file.object_meta.size;
            let (start, end) = file.range();
            let bytes = if compression.is_compressed() {
                let bytes = text::read_range(store.as_ref(), &location, start..end).await?;
                text::decompress(compression, bytes)
            } else {
                let lines = AlignedBoundaryStream::new(store, location, start, end, size, b'\n');
                lines.await?.map_err(DataFusionError::from).boxed()
            };
            let decoder = DecoderDeserializer::new(JsonDecoder::new(decoder));
            let rows = deserialize_stream(bytes.fuse(), decoder).map_err(DataFusionError::from);
            Ok(rows.map(move |batch| tighten(&batch?, &schema)).boxed())
        }))
    }
}

/// The columns with integers as text.
fn loosen(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let data_type =
            rewrite(field.data_type(), &|leaf| leaf.is_integer().then_some(DataType::Utf8View));
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Parses what [`loosen`] has left as text.
fn tighten(batch: &RecordBatch, schema: &SchemaRef) -> EngineResult<RecordBatch> {
    if batch.schema_ref().fields() == schema.fields() {
        return Ok(batch.clone());
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        cast_with_options(column, field.data_type(), &options).map_err(|error| {
            DataFusionError::Execution(format!("column '{}': {error}", field.name()))
        })
    });
    let columns: Vec<ArrayRef> = columns.collect::<EngineResult<_>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &rows)?)
}
