//! The table over opened files: how a scan of it becomes the engine's own plan nodes.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{ScalarValue, project_schema};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    ArrowSource, CsvSource, FileGroup, FileScanConfigBuilder, FileSource,
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

use super::json::JsonLinesSource;
use super::watch::WatchedSource;
use super::{FileKind, OpenedFile, WatchedStore, csv, parquet};
use crate::error::Result;

/// One table of many files.
#[derive(Debug)]
pub(super) struct FileTable {
    schema: SchemaRef,
    scans: Vec<Scan>,
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
    Csv { delimiter: u8, compression: FileCompressionType },
    Json { compression: FileCompressionType },
    ArrowFile,
    ArrowStream,
}

impl FileTable {
    pub(super) fn new(schema: SchemaRef, files: Vec<OpenedFile>) -> Self {
        let mut scans: Vec<Scan> = Vec::new();
        for file in files {
            // An empty text has no header, and no rows.
            if file.schema.fields().is_empty() && file.is_guessed() {
                continue;
            }
            let scan = Scan::of(&schema, file);
            match scans.iter_mut().find(|other| other.takes(&scan)) {
                Some(other) => other.files.extend(scan.files),
                None => scans.push(scan),
            }
        }
        Self { schema, scans }
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
        if plans.is_empty() {
            return Ok(Arc::new(EmptyExec::new(wanted)));
        }
        UnionExec::try_new(plans)
    }
}

impl Scan {
    /// Makes the scan of one file of a table.
    fn of(table_schema: &SchemaRef, file: OpenedFile) -> Self {
        let (kind, schema) = match file.kind {
            // The reader matches by name and casts, file by file.
            FileKind::Parquet(_) => (ScanKind::Parquet, table_schema.clone()),
            FileKind::Csv { delimiter, compression } => {
                (ScanKind::Csv { delimiter, compression }, retype(&file.schema, table_schema))
            }
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
        let csv_columns = matches!(self.kind, ScanKind::Csv { .. }).then(|| self.schema.clone());
        let source = self.file_source(session, &store).await?;
        let source = Arc::new(WatchedSource::new(source, store, csv_columns));

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
            ScanKind::Csv { compression, .. } | ScanKind::Json { compression } => compression,
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
            ScanKind::Csv { delimiter, .. } => {
                let multiline = self.is_multiline(session, store, delimiter).await?;
                let options = csv::options(delimiter, multiline);
                Arc::new(CsvSource::new(schema).with_csv_options(options))
            }
            ScanKind::Json { .. } => {
                let sampled =
                    |file: &OpenedFile| matches!(file.kind, FileKind::Json { sampled: true, .. });
                Arc::new(JsonLinesSource::new(schema, self.files.iter().any(sampled)))
            }
            ScanKind::ArrowFile => Arc::new(ArrowSource::new_file_source(schema)),
            ScanKind::ArrowStream => Arc::new(ArrowSource::new_stream_file_source(schema)),
        })
    }

    /// Whether the CSV files must not be split at line ends: because a value holds one, or because
    /// splitting gains too little to look.
    async fn is_multiline(
        &self,
        session: &dyn Session,
        store: &WatchedStore,
        delimiter: u8,
    ) -> Result<bool> {
        let partitions = session.config().target_partitions();
        let optimizer = &session.config_options().optimizer;
        let size: u64 = self.files.iter().map(|file| file.source.object.size).sum();
        let splits = partitions > 1
            && optimizer.repartition_file_scans
            && size >= optimizer.repartition_file_min_size as u64
            && self.files.len() < FILES_PER_PARTITION * partitions
            && !self.compression().is_compressed();
        if !splits {
            return Ok(true);
        }
        for file in &self.files {
            if csv::is_multiline(store, &file.source, delimiter).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// So many files keep each partition busy unsplit.
const FILES_PER_PARTITION: usize = 4;

/// Returns a CSV file's columns with the types of the table, as which their text is read where the
/// reader knows them.
fn retype(file_schema: &Schema, table_schema: &Schema) -> SchemaRef {
    let fields = file_schema.fields().iter().map(|field| {
        let united = table_schema.fields().find(field.name());
        let (_, united) = united.expect("a table has the columns of its files");
        let data_type = match united.data_type() {
            known if known.is_primitive() || known == &DataType::Boolean => known.clone(),
            _ => DataType::Utf8View,
        };
        Field::new(field.name(), data_type, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
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
