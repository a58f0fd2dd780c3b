//! The table over opened files: how a scan of it becomes the engine's own plan nodes.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, project_schema};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, FileGroup, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result as EngineResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{Column, Literal, cast};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use datafusion_datasource::compute_all_files_statistics;

use super::csv::scan::{CsvFile, CsvScan};
use super::json::JsonLinesSource;
use super::watch::WatchedSource;
use super::{FileKind, Layout, OpenedFile, WatchedStore, parquet};
use crate::error::Result;

/// One table of many files.
#[derive(Debug)]
pub(super) struct FileTable {
    schema: SchemaRef,
    scans: Vec<Scan>,
    /// CSV files, all of which one scan reads.
    texts: Vec<OpenedFile>,
}

/// Files that one plan node can read: in one store, of one kind, and with the columns in the same
/// places where the kind counts them.
#[derive(Debug)]
struct Scan {
    kind: ScanKind,
    /// The columns as the reader yields them.
    schema: SchemaRef,
    files: Vec<OpenedFile>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ScanKind {
    Parquet,
    Json { compression: FileCompressionType },
    ArrowFile,
    ArrowStream,
}

impl FileTable {
    pub(super) fn new(schema: SchemaRef, files: Vec<OpenedFile>) -> Self {
        let mut scans: Vec<Scan> = Vec::new();
        let mut texts = Vec::new();
        for file in files {
            // An empty text has no header, and no rows.
            if file.schema.fields().is_empty() && file.is_guessed() {
                continue;
            }
            if matches!(file.kind, FileKind::Csv(_)) {
                texts.push(file);
                continue;
            }
            let scan = Scan::of(&schema, file);
            match scans.iter_mut().find(|other| other.takes(&scan)) {
                Some(other) => other.files.extend(scan.files),
                None => scans.push(scan),
            }
        }
        Self { schema, scans, texts }
    }
}

#[async_trait]
impl TableProvider for FileTable {
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

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let wanted = project_schema(&self.schema, projection)?;
        let mut plans = Vec::with_capacity(self.scans.len());
        for scan in &self.scans {
            plans.push(scan.plan(session, &wanted, limit).await?);
        }
        if !self.texts.is_empty() {
            plans.push(self.plan_texts(session, wanted.clone(), limit)?);
        }
        if plans.is_empty() {
            return Ok(Arc::new(EmptyExec::new(wanted)));
        }
        UnionExec::try_new(plans)
    }
}

impl FileTable {
    /// Plans a scan of the CSV files that yields the columns `wanted`.
    fn plan_texts(
        &self,
        session: &dyn Session,
        wanted: SchemaRef,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut files = Vec::with_capacity(self.texts.len());
        let mut size = 0;
        for file in &self.texts {
            let FileKind::Csv(layout) = &file.kind else { continue };
            size += file.source.object.size;
            files.push(CsvFile {
                store: WatchedStore::open(session, &file.source.store_url, [&file.source])?,
                source: file.source.clone(),
                layout: retype(layout, &self.schema),
            });
        }
        let splits = size >= session.config_options().optimizer.repartition_file_min_size as u64;
        let partitions = if splits { session.config().target_partitions() } else { 1 };
        let scan = CsvScan::new(files, wanted, partitions, limit);
        Ok(DataSourceExec::from_data_source(scan))
    }
}

impl Scan {
    /// Makes the scan of one file of a table.
    fn of(table_schema: &SchemaRef, file: OpenedFile) -> Self {
        let (kind, schema) = match file.kind {
            // The reader matches by name and casts, file by file.
            FileKind::Parquet(_) => (ScanKind::Parquet, table_schema.clone()),
            FileKind::Csv(_) => unreachable!("texts have a scan of their own"),
            // The reader matches by name.
            FileKind::Json { compression, .. } => {
                (ScanKind::Json { compression }, table_schema.clone())
            }
            FileKind::ArrowFile => (ScanKind::ArrowFile, file.schema.clone()),
            FileKind::ArrowStream => (ScanKind::ArrowStream, file.schema.clone()),
        };
        Self { kind, schema, files: vec![file] }
    }

    /// Whether `other` can be part of `self`.
    fn takes(&self, other: &Scan) -> bool {
        self.kind == other.kind
            && self.files[0].source.store_url == other.files[0].source.store_url
            && self.schema == other.schema
    }

    /// Plans a scan that yields the columns `wanted`.
    async fn plan(
        &self,
        session: &dyn Session,
        wanted: &SchemaRef,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let url = &self.files[0].source.store_url;
        let store = WatchedStore::open(session, url, self.files.iter().map(|file| &file.source))?;
        let source = self.file_source(session, &store).await?;
        let source = Arc::new(WatchedSource::new(source, store));

        let files = self
            .files
            .iter()
            .map(|file| {
                let part = PartitionedFile::new_from_meta(file.source.object.clone());
                Ok(match &file.kind {
                    FileKind::Parquet(footer) => {
                        let part = match &file.source.known {
                            Some(known) => parquet::select_rows(part, known),
                            None => part,
                        };
                        match session.config().collect_statistics() {
                            true => part.with_statistics(parquet::statistics(
                                session,
                                file,
                                footer.as_deref(),
                                &self.schema,
                            )?),
                            false => part,
                        }
                    }
                    _ => part,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let groups = FileGroup::new(files).split_files(session.config().target_partitions());
        let (groups, statistics) = compute_all_files_statistics(
            groups,
            self.schema.clone(),
            session.config().collect_statistics(),
            false,
        )?;

        let columns = wanted.fields().iter();
        let columns = columns.filter_map(|field| self.schema.index_of(field.name()).ok());
        let config = FileScanConfigBuilder::new(url.clone(), source)
            .with_file_compression_type(self.compression())
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(columns.collect()))?
            .with_limit(limit)
            .build();
        conform(DataSourceExec::from_data_source(config), wanted)
    }

    fn compression(&self) -> FileCompressionType {
        match self.kind {
            ScanKind::Json { compression } => compression,
            _ => FileCompressionType::UNCOMPRESSED,
        }
    }

    async fn file_source(
        &self,
        session: &dyn Session,
        store: &WatchedStore,
    ) -> Result<Arc<dyn FileSource>> {
        let schema = self.schema.clone();
        Ok(match self.kind {
            ScanKind::Parquet => parquet::file_source(session, store, &schema),
            ScanKind::Json { .. } => {
                let sampled =
                    |file: &OpenedFile| matches!(file.kind, FileKind::Json { sampled: true, .. });
                Arc::new(JsonLinesSource::new(schema, self.files.iter().any(sampled)))
            }
            ScanKind::ArrowFile => Arc::new(ArrowSource::new_file_source(schema)),
            ScanKind::ArrowStream => Arc::new(ArrowSource::new_stream_file_source(schema)),
        })
    }
}

/// Returns how a text is read as a part of the table: where the table has another type, as which the
/// text can be read, it is read so.
fn retype(layout: &Arc<Layout>, table_schema: &Schema) -> Arc<Layout> {
    let mut retyped = layout.as_ref().clone();
    for column in &mut retyped.columns {
        let united = table_schema.fields().find(&column.name);
        let (_, united) = united.expect("a table has the columns of its files");
        let data_type = match united.data_type() {
            known if known.is_primitive() || known == &DataType::Boolean => known.clone(),
            _ => DataType::Utf8View,
        };
        if data_type != column.data_type {
            column.data_type = data_type;
        }
    }
    if retyped == **layout { layout.clone() } else { Arc::new(retyped) }
}

/// Gives the rows of `plan` the columns `wanted`: by name, cast where types differ, null where they
/// are missing.
fn conform(plan: Arc<dyn ExecutionPlan>, wanted: &SchemaRef) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let same =
        schema.fields().len() == wanted.fields().len()
            && schema.fields().iter().zip(wanted.fields()).all(|(have, want)| {
                have.name() == want.name() && have.data_type() == want.data_type()
            });
    if same {
        return Ok(plan);
    }
    let columns = wanted.fields().iter().map(|field| {
        let column: Arc<dyn PhysicalExpr> = match schema.column_with_name(field.name()) {
            Some((index, _)) => {
                let column = Arc::new(Column::new(field.name(), index));
                cast(column, &schema, field.data_type().clone())?
            }
            None => Arc::new(Literal::new(ScalarValue::try_from(field.data_type())?)),
        };
        Ok((column, field.name().clone()))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
